//! `[guard.NAME]`, from a file to its types or to what is wrong with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use steadfast_config::load::{Context, Loaded, examine, load};
use steadfast_config::report::Report;
use steadfast_config::types::{GuardAction, GuardRule, GuardSource, Match, MatchFrom, MatchTest};

fn load_text(text: &str) -> Result<Loaded, Report> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("steadfast.toml"), text).expect("a directory of our own");
    load(Path::new("steadfast.toml"), &Context { directory: directory.path().to_owned() })
}

fn rule(lines: &str) -> GuardRule {
    let text = format!("[guard.site]\nunit = \"site\"\n{lines}\n");
    let loaded = load_text(&text).unwrap_or_else(|report| panic!("{text}\n{}", report.render(false)));
    loaded.config.guard.rules["site"].clone()
}

fn plain(test: MatchTest) -> Match {
    Match { test, from: None }
}

#[test]
fn the_story_s_rule_is_the_default_and_no_pool_is_needed() {
    let rule = rule("match = [\"increase workers to minimal\"]");
    let wanted = GuardRule {
        name: "site".to_owned(),
        unit: "site.service".to_owned(),
        patterns: vec![plain(MatchTest::Message("increase workers to minimal".to_owned()))],
        source: GuardSource::Journal,
        failures: 10,
        within: Duration::from_secs(90),
        action: GuardAction::Restart,
        grace: Duration::from_secs(30),
        budget_actions: 3,
        budget_within: Duration::from_secs(3600),
        lock: None,
        notify: None,
        timeout: Duration::from_secs(300),
    };
    assert_eq!(rule, wanted);
}

#[test]
fn every_key_is_read() {
    let text = r#"
        [guard]
        state-dir = "state"
        [guard.site]
        unit = "site@1.service"
        match = ["a", "@php-fpm", { message-id = "A596D6FE-7BFA4994828E72309E95D61E" }, { field = "EXIT_STATUS", is = "1" },
                 { field = "X", matches = "y", from = "systemd" }, { message = "z", from = "unit" }]
        source = "file:log/site.log"
        failures = 3
        within = "1m30s"
        action = ["/bin/mend", "it"]
        grace = "0s"
        budget = { actions = 5, within = "2h", then = "notify" }
        lock = "/run/deploy.lock"
        notify = ["/usr/bin/mail", "root"]
        timeout = "10s"
    "#;
    let guard = load_text(text).unwrap_or_else(|report| panic!("{}", report.render(false))).config.guard;
    assert!(guard.state_dir.is_some_and(|directory| directory.is_absolute() && directory.ends_with("state")));
    let rule = &guard.rules["site"];
    let id = "a596d6fe7bfa4994828e72309e95d61e".to_owned();
    let tests = [
        plain(MatchTest::Message("a".to_owned())),
        plain(MatchTest::Set("php-fpm".to_owned())),
        plain(MatchTest::Is { field: "MESSAGE_ID".to_owned(), value: id }),
        plain(MatchTest::Is { field: "EXIT_STATUS".to_owned(), value: "1".to_owned() }),
        Match {
            test: MatchTest::Matches { field: "X".to_owned(), regex: "y".to_owned() },
            from: Some(MatchFrom::Systemd),
        },
        Match { test: MatchTest::Message("z".to_owned()), from: Some(MatchFrom::Unit) },
    ];
    assert_eq!(rule.patterns, tests);
    let GuardSource::File(path) = &rule.source else { panic!("{:?}", rule.source) };
    assert!(path.is_absolute() && path.ends_with("log/site.log"));
    assert_eq!(rule.action, GuardAction::Command(vec!["/bin/mend".to_owned(), "it".to_owned()]));
    assert_eq!((rule.failures, rule.within, rule.grace), (3, Duration::from_secs(90), Duration::ZERO));
    assert_eq!((rule.budget_actions, rule.budget_within), (5, Duration::from_secs(7200)));
    assert_eq!(rule.lock, Some(PathBuf::from("/run/deploy.lock")));
    assert_eq!(rule.notify, Some(vec!["/usr/bin/mail".to_owned(), "root".to_owned()]));
    assert_eq!(rule.timeout, Duration::from_secs(10));
}

#[test]
fn all_that_is_wrong_is_told_at_once_and_in_its_place() {
    let text = r#"[guard.site]
unit = "a b"
match = ["", { field = "x", is = "1" }, { mesage = "x" }, 3]
source = "syslog"
failures = 0
within = "0"
action = "restrat"
grace = 30
budget = { actions = 0, then = "explode", per = "1h" }
notify = "mail"
timeout = "soon"
colour = "red"

[guard.other]
match = []
action = ["mend"]

[guard."a b"]
unit = "x"
match = ["x"]
"#;
    insta::assert_snapshot!(load_text(text).expect_err("wrong").render(false));
}

#[test]
fn whoever_knows_more_of_a_value_can_refuse_it_in_its_place() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("steadfast.toml");
    fs::write(&file, "[guard.a]\nunit = \"a\"\nmatch = [\"x\",\n  \"(\"]\n").expect("a directory of our own");
    let context = Context { directory: directory.path().to_owned() };
    let mut examined = examine(Path::new("steadfast.toml"), &context);
    examined.refuse("guard.a.match[1]", "no regular expression", None);
    let report = examined.finish().expect_err("refused");
    assert_eq!((report.problems()[0].line, report.problems()[0].column), (Some(4), Some(3)));
    let mut examined = examine(Path::new("steadfast.toml"), &context);
    examined.require_pools();
    let report = examined.finish().expect_err("refused");
    assert!(report.problems()[0].message.contains("no pool"));
}

#[test]
fn a_file_with_neither_pool_nor_rule_is_nothing() {
    let report = load_text("[guard]\nstate-dir = \"/x\"\n").expect_err("nothing");
    assert!(report.problems()[0].message.contains("nothing to run"));
}
