//! Cases as text: one line for the case, one for each pool, one for each choice.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use steadfast_policy::class::Exit;
use steadfast_policy::figures::{BreakerFigures, Figures, Launch, Mode, Then, Verify};

use crate::case::{Act, Case, Choice, Millis, PoolCase, Profile, Release, Traffic, Word, millis};

/// The case as a script.
pub fn write(case: &Case) -> String {
    let mut text = format!(
        "case seed={} profile={} horizon={} calm={}\n",
        case.seed,
        case.profile.word(),
        case.horizon,
        case.calm.map_or("-".into(), |at| at.to_string()),
    );
    for pool in &case.pools {
        write_pool(&mut text, pool);
    }
    for choice in &case.choices {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "at {} pool {} {}", choice.at, choice.pool, act_text(choice.act));
    }
    text
}

fn write_pool(text: &mut String, pool: &PoolCase) {
    let f = &pool.figures;
    let b = &f.breaker;
    let list = |codes: &[u8]| match codes {
        [] => "-".to_owned(),
        _ => codes.iter().map(u8::to_string).collect::<Vec<_>>().join(","),
    };
    let _ = writeln!(
        text,
        "pool mode={} launch={} verify={} min={} max={} step={} idle={} ready={} verified={} stop={} age={} \
         quarantine={} failures={} within={} grace={} backoff={} backoff-max={} then={} prove={} broken={} \
         unavailable={} boot={} {} release={}",
        if f.mode == Mode::Queue { "queue" } else { "direct" },
        if f.launch == Launch::Exec { "exec" } else { "zygote" },
        match f.verify {
            Verify::Never => "never",
            Verify::Each => "each",
            Verify::Generation => "generation",
        },
        f.min,
        f.max,
        f.step,
        millis(f.idle),
        millis(f.ready_timeout),
        millis(f.verify_timeout),
        millis(f.stop_timeout),
        f.max_age.map_or("-".into(), |age| millis(age).to_string()),
        if f.quarantine { "yes" } else { "no" },
        b.failures,
        millis(b.within),
        millis(b.grace),
        millis(b.backoff_first),
        millis(b.backoff_max),
        if b.then == Then::Hold { "hold" } else { "exit" },
        millis(b.prove),
        list(&f.broken_codes),
        list(&f.unavailable_codes),
        pool.boot,
        traffic_text(pool.traffic),
        release_text(pool.release),
    );
}

fn traffic_text(t: Traffic) -> String {
    format!("every={} requests={} busy={} keys={}", t.every, t.requests, t.busy, t.keys)
}

fn exit_text(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("code:{code}"),
        Exit::Signal(signal) => format!("signal:{signal}"),
    }
}

fn word_text(word: Word) -> &'static str {
    match word {
        Word::Failed => "failed",
        Word::Broken => "broken",
        Word::Unavailable => "unavailable",
        Word::Done => "done",
    }
}

fn release_text(release: Release) -> String {
    match release {
        Release::Good => "good".into(),
        Release::DiesEarly(chance, exit) => format!("dies-early/{chance}/{}", exit_text(exit)),
        Release::Late(ms) => format!("late/{ms}"),
        Release::NeverReady => "never-ready".into(),
        Release::DiesAfter(ms, exit) => format!("dies-after/{ms}/{}", exit_text(exit)),
        Release::EveryNth(n, exit) => format!("every-nth/{n}/{}", exit_text(exit)),
        Release::Recycles(n) => format!("recycles/{n}"),
        Release::Randomly(chance, exit) => format!("randomly/{chance}/{}", exit_text(exit)),
        Release::Hangs(chance) => format!("hangs/{chance}"),
        Release::IgnoresTerm => "ignores-term".into(),
        Release::SlowLeave(ms) => format!("slow-leave/{ms}"),
        Release::SaysAtBoot(word) => format!("says-at-boot/{}", word_text(word)),
        Release::SaysAfter(word, ms) => format!("says-after/{}/{ms}", word_text(word)),
        Release::Hollow => "hollow".into(),
        Release::Mute => "mute".into(),
        Release::Missing => "missing".into(),
        Release::Limited(n) => format!("limited/{n}"),
    }
}

fn act_text(act: Act) -> String {
    match act {
        Act::Reload(release) => format!("reload {}", release_text(release)),
        Act::Files(release) => format!("files {}", release_text(release)),
        Act::Signal(count, signal) => format!("signal {count} {signal}"),
        Act::Oom => "oom".into(),
        Act::ZygoteKilled => "zygote-killed".into(),
        Act::Stuck(ms) => format!("stuck {ms}"),
        Act::HostRefuses(ms) => format!("host-refuses {ms}"),
        Act::Stall(ms) => format!("stall {ms}"),
        Act::Sleep(ms) => format!("sleep {ms}"),
        Act::Poison(key) => format!("poison {key}"),
        Act::Children(living, wait) => format!("children {living} {wait}"),
        Act::Traffic(traffic) => format!("traffic {}", traffic_text(traffic)),
        Act::Stop => "stop".into(),
        Act::Start => "start".into(),
        Act::Restart => "restart".into(),
        Act::Scale(min, max) => format!("scale {min} {max}"),
        Act::Drain(slot) => format!("drain {slot}"),
        Act::Kill(slot) => format!("kill {slot}"),
        Act::Reset => "reset".into(),
        Act::Trip => "trip".into(),
        Act::Clear => "clear".into(),
        Act::Remove => "remove".into(),
        Act::Shutdown => "shutdown".into(),
        Act::Hasten => "hasten".into(),
        Act::Lie(kind) => format!("lie {kind}"),
    }
}

/// The case of a script; lines that are empty or begin with `#` are comments. The error names the line.
pub fn parse(text: &str) -> Result<Case, String> {
    let mut case =
        Case { seed: 0, profile: Profile::Mixed, horizon: 0, calm: None, pools: Vec::new(), choices: Vec::new() };
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        parse_line(&mut case, line).ok_or_else(|| format!("line {}: cannot read `{line}`", index + 1))?;
    }
    match case.pools.is_empty() || case.horizon == 0 {
        true => Err("a script needs a `case` line and a `pool` line".into()),
        false => Ok(case),
    }
}

fn parse_line(case: &mut Case, line: &str) -> Option<()> {
    let (kind, rest) = line.split_once(' ')?;
    match kind {
        "case" => {
            let keys = Keys(rest);
            case.seed = keys.number("seed")?;
            let word = keys.text("profile")?;
            case.profile = Profile::ALL.into_iter().find(|profile| profile.word() == word)?;
            case.horizon = keys.number("horizon")?;
            case.calm = keys.optional("calm")?;
        }
        "pool" => case.pools.push(parse_pool(&Keys(rest))?),
        "at" => {
            let mut words = rest.split(' ');
            let at = words.next()?.parse().ok()?;
            (words.next()? == "pool").then_some(())?;
            let pool = words.next()?.parse().ok()?;
            let rest: Vec<&str> = words.collect();
            let act = parse_act(&rest)?;
            case.choices.push(Choice { at, pool, act });
        }
        _ => return None,
    }
    Some(())
}

/// `key=value` words.
struct Keys<'a>(&'a str);

impl Keys<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.0.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn number<T: FromStr>(&self, key: &str) -> Option<T> {
        self.text(key)?.parse().ok()
    }

    fn optional(&self, key: &str) -> Option<Option<Millis>> {
        match self.text(key)? {
            "-" => Some(None),
            number => number.parse().ok().map(Some),
        }
    }

    fn duration(&self, key: &str) -> Option<Duration> {
        Some(Duration::from_millis(self.number(key)?))
    }

    fn codes(&self, key: &str) -> Option<Vec<u8>> {
        match self.text(key)? {
            "-" => Some(Vec::new()),
            list => list.split(',').map(|code| code.parse().ok()).collect(),
        }
    }
}

fn parse_pool(keys: &Keys<'_>) -> Option<PoolCase> {
    Some(PoolCase {
        figures: Figures {
            mode: either(keys.text("mode")?, ("queue", Mode::Queue), ("direct", Mode::Direct))?,
            launch: either(keys.text("launch")?, ("exec", Launch::Exec), ("zygote", Launch::Zygote))?,
            verify: match keys.text("verify")? {
                "never" => Verify::Never,
                "each" => Verify::Each,
                "generation" => Verify::Generation,
                _ => return None,
            },
            min: keys.number("min")?,
            max: keys.number("max")?,
            step: keys.number("step")?,
            idle: keys.duration("idle")?,
            ready_timeout: keys.duration("ready")?,
            verify_timeout: keys.duration("verified")?,
            stop_timeout: keys.duration("stop")?,
            max_age: keys.optional("age")?.map(Duration::from_millis),
            quarantine: either(keys.text("quarantine")?, ("yes", true), ("no", false))?,
            breaker: BreakerFigures {
                failures: keys.number("failures")?,
                within: keys.duration("within")?,
                grace: keys.duration("grace")?,
                backoff_first: keys.duration("backoff")?,
                backoff_max: keys.duration("backoff-max")?,
                then: either(keys.text("then")?, ("hold", Then::Hold), ("exit", Then::Exit))?,
                prove: keys.duration("prove")?,
            },
            broken_codes: keys.codes("broken")?,
            unavailable_codes: keys.codes("unavailable")?,
        },
        release: parse_release(keys.text("release")?)?,
        boot: keys.number("boot")?,
        traffic: parse_traffic(keys)?,
    })
}

fn either<T>(word: &str, one: (&str, T), other: (&str, T)) -> Option<T> {
    match word {
        _ if word == one.0 => Some(one.1),
        _ if word == other.0 => Some(other.1),
        _ => None,
    }
}

fn parse_traffic(keys: &Keys<'_>) -> Option<Traffic> {
    Some(Traffic {
        every: keys.number("every")?,
        requests: keys.number("requests")?,
        busy: keys.number("busy")?,
        keys: keys.number("keys")?,
    })
}

fn parse_exit(text: &str) -> Option<Exit> {
    let (kind, number) = text.split_once(':')?;
    either(kind, ("code", Exit::Code(number.parse().ok()?)), ("signal", Exit::Signal(number.parse().ok()?)))
}

fn parse_word(text: &str) -> Option<Word> {
    [Word::Failed, Word::Broken, Word::Unavailable, Word::Done].into_iter().find(|&word| word_text(word) == text)
}

fn parse_release(text: &str) -> Option<Release> {
    let mut parts = text.split('/');
    let kind = parts.next()?;
    let number = |parts: &mut std::str::Split<'_, char>| -> Option<u32> { parts.next()?.parse().ok() };
    Some(match kind {
        "good" => Release::Good,
        "dies-early" => Release::DiesEarly(number(&mut parts)?, parse_exit(parts.next()?)?),
        "late" => Release::Late(number(&mut parts)?.into()),
        "never-ready" => Release::NeverReady,
        "dies-after" => Release::DiesAfter(number(&mut parts)?.into(), parse_exit(parts.next()?)?),
        "every-nth" => Release::EveryNth(number(&mut parts)?, parse_exit(parts.next()?)?),
        "recycles" => Release::Recycles(number(&mut parts)?),
        "randomly" => Release::Randomly(number(&mut parts)?, parse_exit(parts.next()?)?),
        "hangs" => Release::Hangs(number(&mut parts)?),
        "ignores-term" => Release::IgnoresTerm,
        "slow-leave" => Release::SlowLeave(number(&mut parts)?.into()),
        "says-at-boot" => Release::SaysAtBoot(parse_word(parts.next()?)?),
        "says-after" => Release::SaysAfter(parse_word(parts.next()?)?, number(&mut parts)?.into()),
        "hollow" => Release::Hollow,
        "mute" => Release::Mute,
        "missing" => Release::Missing,
        "limited" => Release::Limited(number(&mut parts)?),
        _ => return None,
    })
}

fn parse_act(words: &[&str]) -> Option<Act> {
    fn number<T: FromStr>(text: &str) -> Option<T> {
        text.parse().ok()
    }
    Some(match words {
        ["reload", release] => Act::Reload(parse_release(release)?),
        ["files", release] => Act::Files(parse_release(release)?),
        ["signal", count, signal] => Act::Signal(number(count)?, number(signal)?),
        ["oom"] => Act::Oom,
        ["zygote-killed"] => Act::ZygoteKilled,
        ["stuck", ms] => Act::Stuck(number(ms)?),
        ["host-refuses", ms] => Act::HostRefuses(number(ms)?),
        ["stall", ms] => Act::Stall(number(ms)?),
        ["sleep", ms] => Act::Sleep(number(ms)?),
        ["poison", key] => Act::Poison(number(key)?),
        ["traffic", rest @ ..] => Act::Traffic(parse_traffic(&Keys(&rest.join(" ")))?),
        ["children", living, wait] => Act::Children(number(living)?, number(wait)?),
        ["stop"] => Act::Stop,
        ["start"] => Act::Start,
        ["restart"] => Act::Restart,
        ["scale", min, max] => Act::Scale(number(min)?, number(max)?),
        ["drain", slot] => Act::Drain(number(slot)?),
        ["kill", slot] => Act::Kill(number(slot)?),
        ["reset"] => Act::Reset,
        ["trip"] => Act::Trip,
        ["clear"] => Act::Clear,
        ["remove"] => Act::Remove,
        ["shutdown"] => Act::Shutdown,
        ["hasten"] => Act::Hasten,
        ["lie", kind] => Act::Lie(number(kind)?),
        _ => return None,
    })
}
