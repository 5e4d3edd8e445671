//! Each verb as people type it, and what is refused.

use super::*;

fn read(line: &str) -> Result<Arguments, clap::Error> {
    parse(line.split_whitespace())
}

fn verb(line: &str) -> Verb {
    read(line).expect(line).verb.expect("a verb")
}

fn help(line: &str) -> String {
    let error = read(line).expect_err("help");
    assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp);
    error.render().to_string()
}

#[test]
fn clap_agrees_with_itself() {
    Arguments::command().debug_assert();
}

#[test]
fn run_takes_a_command_and_its_options() {
    let line = "steadfast run --mode direct --listen unix:/tmp/x.sock --listen 127.0.0.1:9000 --workers 4..8 \
                --user www-data --name site --log json --record r.log --control /tmp/c -- perl app.pl -c x --json";
    let arguments = read(line).expect("all of it");
    assert_eq!(arguments.target.control, Some("/tmp/c".into()));
    assert_eq!(arguments.target.config, None, "-c behind -- is the program's");
    let Some(Verb::Run(run)) = arguments.verb else { panic!("run") };
    assert_eq!(run.command, ["perl", "app.pl", "-c", "x", "--json"]);
    assert_eq!(run.listen, ["unix:/tmp/x.sock", "127.0.0.1:9000"]);
    assert_eq!((run.workers.as_deref(), run.log), (Some("4..8"), Some(LogFormat::Json)));
    assert_eq!((run.mode.as_deref(), run.verify), (Some("direct"), None));
    let line = ["steadfast", "run", "--listen", "http://127.0.0.1:8080", "--verify", "GET /health", "--", "perl"];
    let Some(Verb::Run(run)) = parse(line).expect("queue mode is the default").verb else { panic!("run") };
    assert_eq!((run.mode, run.verify.as_deref()), (None, Some("GET /health")));
}

#[test]
fn the_target_may_stand_before_or_behind_the_verb() {
    for line in ["steadfast -c a.toml status", "steadfast status -c a.toml", "steadfast status --config a.toml"] {
        assert_eq!(read(line).expect(line).target.config, Some("a.toml".into()));
    }
}

#[test]
fn t_is_check() {
    let arguments = read("steadfast -t -c a.toml").expect("as nginx has it");
    assert!(arguments.test && arguments.verb.is_none());
    read("steadfast -t status").expect_err("two verbs");
}

#[test]
fn bounds_and_seats_are_read() {
    let Verb::Scale { workers, .. } = verb("steadfast scale site 4") else { panic!("scale") };
    assert_eq!(workers, Bounds { min: 4, max: 4 });
    let Verb::Scale { workers, .. } = verb("steadfast scale site 0..8") else { panic!("scale") };
    assert_eq!(workers, Bounds { min: 0, max: 8 });
    let Verb::Kill { seat } = verb("steadfast kill site/3") else { panic!("kill") };
    assert_eq!(seat, Seat { pool: "site".into(), slot: 3 });
    let Verb::Reload(reload) = verb("steadfast reload site --wait --timeout 90s") else { panic!("reload") };
    assert_eq!(reload.timeout, Some(Duration::from_secs(90)));
    let Verb::Events(events) = verb("steadfast events -f -n 5 --pool site --json") else { panic!("events") };
    assert!(events.follow && events.json && events.number == 5);
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for line in [
        "steadfast",
        "steadfast dance",
        "steadfast start",
        "steadfast restart",
        "steadfast scale site",
        "steadfast scale site many",
        "steadfast scale site 1..",
        "steadfast scale site -1",
        "steadfast kill site",
        "steadfast kill site/x",
        "steadfast drain /",
        "steadfast breaker site explode",
        "steadfast reload --timeout 5s",
        "steadfast reload --wait --timeout 5",
        "steadfast status --json --watch",
        "steadfast run --listen unix:/x",
        "steadfast run --user www-data",
        "steadfast run -c a.toml -- perl",
        "steadfast run --log syslog",
        "steadfast run perl app.pl",
        "steadfast init",
        "steadfast init perl app.pl",
        "steadfast init -c a.toml -- perl",
    ] {
        let error = read(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.use_stderr(), "{line}");
    }
}

#[test]
fn a_mistyped_verb_gets_a_suggestion() {
    let text = read("steadfast relaod").expect_err("a typo").render().to_string();
    assert!(text.contains("'reload'"), "{text}");
}

#[test]
fn help_fits_a_screen_and_has_examples() {
    let text = help("steadfast -h");
    let lines = text.lines().count();
    assert!((24..=50).contains(&lines), "{lines} lines:\n{text}");
    assert!(text.contains("Examples:"));
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let text = help("steadfast run -h");
    let lines = text.lines().count();
    assert!((24..=50).contains(&lines), "{lines} lines:\n{text}");
    assert!(text.contains("Examples:"));
    for verb in Arguments::command().get_subcommands() {
        let text = help(&format!("steadfast {} -h", verb.get_name()));
        assert!(text.lines().count() <= 50, "{text}");
    }
}

#[test]
fn every_verb_of_this_version_is_there_and_no_other() {
    let command = Arguments::command();
    let verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    let expected = [
        "demo",
        "demo-worker",
        "run",
        "check",
        "config",
        "status",
        "events",
        "reload",
        "stop",
        "start",
        "restart",
        "scale",
        "drain",
        "kill",
        "breaker",
        "quarantine",
        "cgi",
        "guard",
        "front",
        "ping",
        "bench",
        "snippet",
        "init",
        "import",
        "completions",
        "man",
    ];
    assert_eq!(verbs, expected);
}
