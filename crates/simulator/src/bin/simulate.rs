//! Plays as many seeds as one likes, or one script, and says how fast; prints a small script of the first failure.

use std::process::ExitCode;
use std::time::Instant;

use steadfast_policy::rules::{Rule, Rules};
use steadfast_simulator::case::Case;
use steadfast_simulator::crowd::{Failure, play_many, shrunk, survey};
use steadfast_simulator::{mutants, scenarios, script, world};

const USAGE: &str = "usage: simulate [--seeds N] [--start S] [--short] [--survey] [--mutants] [--scenarios] [--threads N] [--without RULE]… [--script FILE [--tell]]";

struct Arguments {
    seeds: u64,
    start: u64,
    short: bool,
    survey: bool,
    mutants: bool,
    scenarios: bool,
    tell: bool,
    threads: usize,
    rules: Rules,
    without: Vec<String>,
    script: Option<String>,
}

fn main() -> ExitCode {
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            say(&format!("simulate: {message}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    let failed = match &arguments.script {
        Some(file) => replay(&arguments, file),
        None if arguments.mutants => Ok(mutants_table(&arguments)),
        None if arguments.scenarios => Ok(failing_scenarios(&arguments)),
        None if arguments.survey => Ok(all_failures(&arguments)),
        None => crowd(&arguments),
    };
    match failed {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::FAILURE,
        Err(message) => {
            say(&format!("simulate: {message}"));
            ExitCode::from(2)
        }
    }
}

/// The one place that prints.
#[expect(clippy::print_stdout, reason = "a program's result")]
fn say(text: &str) {
    println!("{text}");
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seeds: 1000,
        start: 0,
        short: false,
        survey: false,
        mutants: false,
        scenarios: false,
        tell: false,
        threads: 1,
        rules: Rules::all(),
        without: Vec::new(),
        script: None,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{word}: {text:?} is no number"));
        match word.as_str() {
            "--seeds" => arguments.seeds = number(value()?)?,
            "--start" => arguments.start = number(value()?)?,
            "--threads" => arguments.threads = number(value()?)?.clamp(1, 64) as usize,
            "--tell" => arguments.tell = true,
            "--mutants" => arguments.mutants = true,
            "--scenarios" => arguments.scenarios = true,
            "--survey" => arguments.survey = true,
            "--short" => arguments.short = true,
            "--script" => arguments.script = Some(value()?),
            "--without" => {
                let name = value()?;
                let rule = Rule::ALL.iter().find(|rule| format!("{rule:?}") == name);
                let rule = rule.ok_or_else(|| format!("there is no rule {name:?}"))?;
                arguments.rules = arguments.rules.without(*rule);
                arguments.without.push(name);
            }
            _ => return Err(format!("what is {word:?}?")),
        }
    }
    Ok(arguments)
}

fn replay(arguments: &Arguments, file: &str) -> Result<bool, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    let case = script::parse(&text).map_err(|error| format!("{file}: {error}"))?;
    if arguments.tell {
        for line in world::tell(&case, arguments.rules) {
            say(&line);
        }
    }
    let (tally, result) = world::play(&case, arguments.rules, true);
    say(&format!("{} steps, {} starts, trace {:016x}", tally.steps, tally.starts, tally.trace));
    match result {
        Ok(()) => say("all laws hold"),
        Err(ref breach) => say(&format!("broken: {breach}")),
    }
    Ok(result.is_err())
}

/// Every scenario that fails under these rules; true when there is one.
fn failing_scenarios(arguments: &Arguments) -> bool {
    let mut failed = 0;
    for scenario in scenarios::all() {
        if let Err(why) = (scenario.act)(arguments.rules) {
            failed += 1;
            say(&format!("{}: {why}", scenario.name));
        }
    }
    say(&format!("{failed} of {} scenarios fail", scenarios::all().count()));
    failed > 0
}

/// Every mutant and what kills it; true when one survives.
fn mutants_table(arguments: &Arguments) -> bool {
    let table = mutants::table(arguments.seeds, arguments.threads);
    for (mutant, killed) in &table {
        say(&format!("{:<60} {}", mutant.name(), killed.as_deref().unwrap_or("SURVIVES")));
    }
    table.iter().any(|(_, killed)| killed.is_none())
}

/// Every law that is broken, with a small script each.
fn all_failures(arguments: &Arguments) -> bool {
    let found = survey(arguments.start, arguments.seeds, arguments.short, arguments.rules);
    for (law, count, failure) in &found {
        say(&format!("== {}: {count} of {}", law.word(), arguments.seeds));
        tell(arguments, failure);
    }
    !found.is_empty()
}

fn crowd(arguments: &Arguments) -> Result<bool, String> {
    let began = Instant::now();
    let (sum, failure) =
        play_many(arguments.start, arguments.seeds, arguments.short, arguments.rules, arguments.threads);
    let took = began.elapsed().as_secs_f64();
    let virtual_seconds = sum.clock as f64 / 1e9;
    say(&format!(
        "{} schedules in {took:.1} s: {:.0} a second on {} thread(s); {:.1} days of virtual time, {} steps ({:.2} million a second), {} starts",
        sum.schedules,
        sum.schedules as f64 / took,
        arguments.threads,
        virtual_seconds / 86_400.0,
        sum.steps,
        sum.steps as f64 / took / 1e6,
        sum.starts,
    ));
    match failure {
        None => Ok(false),
        Some(failure) => {
            tell(arguments, &failure);
            Ok(true)
        }
    }
}

fn tell(arguments: &Arguments, failure: &Failure) {
    say(&format!("seed {} broke {}", failure.seed, failure.breach));
    let small: Case = shrunk(failure, arguments.rules);
    if let Err(breach) = world::play(&small, arguments.rules, false).1 {
        say(&format!("shrunk, it breaks {breach}\n"));
    }
    say(&script::write(&small));
    let mut command =
        format!("cargo run --release -p steadfast-simulator --bin simulate -- --seeds 1 --start {}", failure.seed);
    if arguments.short {
        command.push_str(" --short");
    }
    for name in &arguments.without {
        command.push_str(&format!(" --without {name}"));
    }
    say(&format!("replay: {command}"));
}
