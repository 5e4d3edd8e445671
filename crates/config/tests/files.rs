//! Whole files, from disk to the configuration or to the drawn report.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use steadfast_config::load::{Context, Loaded, load};
use steadfast_config::report::{Level, Report};
use steadfast_config::types::{Listen, Log, LogLevel, Mode, Pass, Then, Workers};

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Loads `text` as `steadfast.toml`, shown under that name.
fn load_text(text: impl AsRef<[u8]>) -> Result<Loaded, Report> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("steadfast.toml"), text).expect("a directory of our own");
    load(Path::new("steadfast.toml"), &Context { directory: directory.path().to_owned() })
}

fn messages(report: &Report) -> Vec<String> {
    report.problems().iter().map(|problem| problem.message.clone()).collect()
}

/// A pool that is good, with `lines` added at its end.
fn pool_with(lines: &str) -> String {
    format!("[pool.a]\ncommand = [\"a\"]\nmode = \"direct\"\nlisten = [\"unix:a.sock\"]\n{lines}\n")
}

/// A pool that is good but for its `listen` and `lines`.
fn listening(listen: &str, lines: &str) -> String {
    format!("[pool.a]\ncommand = [\"a\"]\nmode = \"direct\"\nlisten = [{listen}]\n{lines}\n")
}

/// The one error of `text`.
fn error(text: &str) -> String {
    let report = load_text(text).expect_err(text);
    let [problem] = report.problems() else { panic!("{text}\n{}", report.render(false)) };
    assert_eq!(problem.level, Level::Error);
    assert!(problem.line.is_some(), "{problem:?}");
    problem.message.clone()
}

#[test]
fn every_key_of_this_version_is_read() {
    let loaded = load(Path::new("full.toml"), &Context { directory: here() });
    let loaded = loaded.unwrap_or_else(|report| panic!("{}", report.render(false)));
    assert!(loaded.warnings.is_empty());
    let config = loaded.config;
    assert_eq!(config.source, Some(here().join("full.toml")));
    assert_eq!(config.supervisor.runtime_dir, Some("/run/steadfast-full".into()));
    assert_eq!(config.supervisor.control, Path::new("ctl.sock"));
    assert_eq!(config.supervisor.log, Log::Json);
    assert_eq!(config.supervisor.log_level, LogLevel::Debug);
    assert_eq!(config.pools.keys().collect::<Vec<_>>(), ["maps", "plain", "site"]);
    let site = &config.pools["site"];
    assert_eq!(site.name, "site");
    assert_eq!(site.command, ["/usr/bin/perl", "site.fcgi"]);
    assert_eq!(site.directory, Some("/srv/site".into()));
    assert_eq!((site.user.as_deref(), site.group.as_deref()), (Some("www-data"), Some("adm")));
    assert_eq!(site.environment["SITE_ENV"], "live");
    assert_eq!(site.environment["EMPTY"], "");
    assert_eq!(site.pass_environment, ["PATH", "LANG"]);
    assert_eq!(
        site.listen,
        [
            Listen::Unix("site.sock".into()),
            Listen::Tcp("127.0.0.1:9000".parse().unwrap()),
            Listen::Tcp("[::1]:9000".parse().unwrap()),
            Listen::Systemd("site".into()),
            Listen::Fd(3),
        ]
    );
    assert_eq!((site.socket.mode, site.socket.backlog), (0o600, 64));
    assert_eq!((site.socket.owner.as_deref(), site.socket.group.as_deref()), (Some("www-data"), Some("adm")));
    assert_eq!(site.allowed_clients, ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!((site.mode, site.pass), (Mode::Direct, Pass::ListenFds));
    assert_eq!(site.workers, Workers { min: 8, max: 8, step: 2, idle: Duration::from_secs(90) });
    assert_eq!(site.umask, 0o027);
    assert_eq!((site.rlimits["nofile"], site.rlimits["core"]), (1024, u64::MAX));
    assert_eq!((site.max_memory, site.max_age), (Some(512 << 20), Some(Duration::from_secs(3600))));
    assert_eq!((site.ready_timeout, site.stop_timeout), (Duration::from_secs(5), Duration::from_secs(60)));
    assert_eq!((site.breaker.failures, site.breaker.within), (5, Duration::from_secs(30)));
    assert_eq!((site.breaker.grace, site.breaker.prove), (Duration::ZERO, Duration::from_secs(300)));
    assert_eq!(site.breaker.backoff_first, Duration::from_millis(200));
    assert_eq!((site.breaker.backoff_max, site.breaker.then), (Duration::from_secs(10), Then::Exit));
    assert_eq!((site.exit_codes[&1].as_str(), site.exit_codes[&255].as_str()), ("preload failed", "gave up"));
    assert_eq!(
        (site.broken_codes.as_slice(), site.unavailable_codes.as_slice()),
        ([78, 1].as_slice(), [75].as_slice())
    );
    assert_eq!((config.pools["maps"].breaker.failures, config.pools["maps"].workers.max), (3, 2));
}

#[test]
fn what_the_file_does_not_say_has_the_default_of_the_interface() {
    let loaded = load_text(pool_with("")).unwrap();
    assert_eq!(loaded.config.supervisor.runtime_dir, None);
    assert_eq!(loaded.config.supervisor.control, Path::new("control.sock"));
    assert_eq!((loaded.config.supervisor.log, loaded.config.supervisor.log_level), (Log::Auto, LogLevel::Info));
    let pool = &loaded.config.pools["a"];
    assert_eq!(pool.directory.as_deref(), loaded.config.source.as_ref().unwrap().parent());
    assert_eq!((pool.ready_timeout, pool.stop_timeout), (Duration::from_secs(30), Duration::from_secs(10)));
    assert_eq!((pool.umask, pool.socket.mode, pool.socket.backlog), (0o022, 0o660, 1024));
    assert_eq!((pool.workers.min, pool.workers.max, pool.pass), (4, 4, Pass::Stdin));
    assert_eq!((pool.max_memory, pool.max_age), (None, None));
    assert!(pool.rlimits.is_empty() && pool.environment.is_empty() && pool.exit_codes.is_empty());
    let breaker = &pool.breaker;
    assert_eq!((breaker.failures, breaker.within), (10, Duration::from_secs(90)));
    assert_eq!((breaker.grace, breaker.prove), (Duration::from_secs(30), Duration::from_secs(60)));
    assert_eq!((breaker.backoff_first, breaker.backoff_max), (Duration::from_millis(100), Duration::from_secs(30)));
    assert_eq!(breaker.then, Then::Hold);
}

#[test]
fn the_example_of_the_interface_says_what_this_version_lacks() {
    let report = load(Path::new("interface.toml"), &Context { directory: here() }).unwrap_err();
    let errors = report.problems().iter().filter(|problem| problem.level == Level::Error);
    let errors: Vec<&str> = errors.map(|problem| problem.message.as_str()).collect();
    assert!(errors.iter().all(|message| message.contains("not in this version")), "{errors:#?}");
    insta::assert_snapshot!(errors.join("\n"));
    assert_eq!(report.problems().len() - errors.len(), 1, "the warning about ::1");
}

#[test]
fn many_errors_at_once_are_drawn_each_in_its_place() {
    let report = load_text(include_str!("many-errors.toml")).unwrap_err();
    insta::assert_snapshot!(report.render(false));
}

#[test]
fn broken_syntax_is_told_line_by_line_without_echoes() {
    let report = load_text(include_str!("broken-syntax.toml")).unwrap_err();
    insta::assert_snapshot!(report.render(false));
}

#[test]
fn colour_is_for_those_who_ask() {
    let report = load_text("x = 1").unwrap_err();
    assert!(!report.render(false).contains('\u{1b}'));
    assert!(report.render(true).contains("\u{1b}["));
}

#[test]
fn odd_bytes_have_a_line_and_a_column() {
    let report = load_text(b"a = 1\r\n# \xc3\xa9 \xff\n").unwrap_err();
    assert_eq!(messages(&report), ["not UTF-8: byte 0xff cannot stand here"]);
    assert_eq!((report.problems()[0].line, report.problems()[0].column), (Some(2), Some(5)));
    let report = load_text("[pool.a]\r\n\tmode = 3\r\n").unwrap_err();
    let mode = report.problems().iter().find(|problem| problem.message.contains("`mode`")).unwrap();
    assert_eq!((mode.line, mode.column), (Some(2), Some(9)));
    assert!(messages(&load_text("a = \"\0\"").unwrap_err())[0].contains("invalid basic string"));
    assert!(messages(&load_text("").unwrap_err())[0].contains("no pool"));
    assert!(messages(&load_text(" ".repeat((1 << 20) + 1)).unwrap_err())[0].contains("larger than 1 MiB"));
    assert!(load_text(format!("{}{}", pool_with(""), " ".repeat(1 << 19))).is_ok());
}

#[test]
fn what_cannot_be_read_says_why() {
    let context = Context { directory: here() };
    let why = |path: &str| messages(&load(Path::new(path), &context).unwrap_err()).concat();
    assert_eq!(why("absent.toml"), "cannot read the configuration: no such file or directory");
    assert_eq!(why("full.d"), "cannot read the configuration: it is a directory");
    assert_eq!(why("/dev/zero"), "cannot read the configuration: it is not a regular file");
}

#[test]
fn each_value_is_held_to_its_range() {
    for (lines, expected) in [
        ("workers = 0", "at least one worker"),
        ("workers = 10001", "from 0 to 10000"),
        ("workers = \"4\"", "`workers` must be a whole number"),
        ("workers = { min = 0, max = 4 }", "on demand (min = 0) are not in this version"),
        ("workers = { min = 2, max = 4 }", "grows and shrinks (min 2, max 4) is not in this version"),
        ("workers = { min = 5 }", "min (5) passes max (4)"),
        ("workers = { min = 4, max = 4, step = 0 }", "`workers.step` must be a whole number from 1"),
        ("umask = \"1000\"", "not an octal mode"),
        ("umask = 18", "`umask` must be a string"),
        ("socket = { mode = \"0999\" }", "not an octal mode"),
        ("socket = { backlog = 0 }", "`socket.backlog` must be a whole number from 1 to 65535"),
        ("socket = { backlog = 65536 }", "from 1 to 65535"),
        ("exit-codes = { 256 = \"x\" }", "\"256\" is not an exit code"),
        ("exit-codes = { 01 = \"x\" }", "\"01\" is not an exit code"),
        ("exit-codes = { 1 = \"\" }", "must not be empty"),
        ("broken-codes = [0]", "from 1 to 255, not 0"),
        ("unavailable-codes = [256]", "from 1 to 255, not 256"),
        ("broken-codes = [75]\nunavailable-codes = [75]", "exit code 75 stands in `broken-codes` too"),
        ("rlimits = { nofiles = 1 }", "unknown resource limit `nofiles`"),
        ("rlimits = { nofile = -1 }", "must be a whole number from 0"),
        ("ready-timeout = \"0\"", "`ready-timeout` must be longer than zero"),
        ("stop-timeout = \"0s\"", "`stop-timeout` must be longer than zero"),
        ("stop-timeout = 10", "`stop-timeout` must be a string, not a number"),
        ("max-memory = \"512M\"", "not a size"),
        ("breaker = { failures = 0 }", "`breaker.failures` must be a whole number from 1"),
        ("breaker = { within = \"999ms\" }", "`breaker.within` must be at least a second"),
        ("breaker = { backoff = { first = \"1m\" } }", "first (60s) passes max (30s)"),
        ("breaker = { then = \"restart\" }", "`then` cannot be \"restart\""),
        ("breaker = { thne = \"hold\" }", "unknown key `thne` in [pool.a.breaker]"),
        ("environment = { \"A=B\" = \"1\" }", "cannot be the name of an environment variable"),
        ("environment = { LISTEN_FDS = \"1\" }", "LISTEN_FDS is steadfast's own"),
        ("environment = { A = \"\\u0000\" }", "a NUL byte"),
        ("environment = { A = 1 }", "must be a string, not a number"),
        ("pass-environment = [\"\"]", "cannot be the name of an environment variable"),
        ("user = \"\"", "`user` must not be empty"),
        ("group = \"a\\u0000\"", "a NUL byte"),
        ("allowed-clients = [\"127.0.0.1\"]", "needs a TCP address"),
        ("allowed-clients = [\"10.0.0.0/8\"]", "not an IP address"),
        ("pool = 1", "unknown key `pool` in [pool.a]"),
    ] {
        assert!(error(&pool_with(lines)).contains(expected), "{lines}: {}", error(&pool_with(lines)));
    }
}

#[test]
fn a_pool_names_its_program_and_its_name_is_plain() {
    let with = |command: &str| error(&format!("[pool.a]\nmode = \"direct\"\nlisten = [\"fd:3\"]\n{command}\n"));
    assert_eq!(with(""), "pool a has no command");
    assert_eq!(with("command = []"), "the command is empty");
    assert!(with("command = [\"\"]").contains("empty string"));
    assert!(with("command = [\"bin/\"]").contains("a directory"));
    assert!(with("command = \"a\"").contains("`command` must be a list, not a string"));
    assert!(with("command = [1]").contains("`command[0]` must be a string"));
    assert!(with("command = [\"a\\u0000\"]").contains("NUL"));
    assert!(error(&pool_with("").replace("pool.a]", "pool.\"a b\"]")).contains("cannot be the name of a pool"));
    let no_listen = "[pool.a]\nmode = \"direct\"\ncommand = [\"a\"]\n";
    assert_eq!(error(no_listen), "the pool listens nowhere");
    assert_eq!(error(&format!("{no_listen}listen = []")), "the pool listens nowhere");
}

#[test]
fn addresses_fit_the_pool_and_each_other() {
    for (listen, lines, expected) in [
        ("\"unix:a\", \"unix:b\"", "", "`pass = \"stdin\"` carries one socket, but the pool listens on 2"),
        ("\"unix:a\", \"unix:./a\"", "pass = \"listen-fds\"", "unix:./a is listened on by this pool already"),
        ("\"fd:3\", \"fd:3\"", "pass = \"listen-fds\"", "fd:3 is listened on by this pool already"),
        (
            "\"127.0.0.1:1\", \"0.0.0.0:1\"",
            "pass = \"listen-fds\"\nallowed-clients = [\"127.0.0.1\"]",
            "0.0.0.0:1 is listened on",
        ),
        ("\"0.0.0.0:9000\"", "", "open to other machines"),
        ("\"192.0.2.1:9000\"", "", "open to other machines"),
        ("\"[::]:9000\"", "", "open to other machines"),
        ("\"unix:@a\"", "", "abstract sockets have no owner and no mode"),
        ("\"http://127.0.0.1:80\"", "", "not in this version"),
        ("9000", "", "`listen[0]` must be a string, not a number"),
    ] {
        assert!(error(&listening(listen, lines)).contains(expected), "{listen}: {}", error(&listening(listen, lines)));
    }
    let two = format!("{}{}", pool_with(""), pool_with("").replace("pool.a]", "pool.b]"));
    assert_eq!(error(&two), "unix:a.sock is listened on by pool `a` too");
    for (listen, lines) in [
        ("\"127.0.0.9:9000\"", ""),
        ("\"[::1]:9000\"", ""),
        ("\"0.0.0.0:9000\"", "allowed-clients = [\"192.0.2.1\"]"),
        ("\"fd:3\"", "allowed-clients = [\"192.0.2.1\"]"),
        ("\"127.0.0.1:9000\", \"[::1]:9000\", \"127.0.0.1:9001\"", "pass = \"listen-fds\""),
    ] {
        assert!(load_text(listening(listen, lines)).is_ok(), "{listen}");
    }
}

#[test]
fn keys_of_queue_mode_say_so() {
    for key in [
        "concurrency",
        "queue",
        "quarantine",
        "retry",
        "client-abort",
        "request-id",
        "max-requests",
        "request-timeout",
        "slow-request",
    ] {
        let message = error(&pool_with(&format!("{key} = 1")));
        assert!(message.starts_with(&format!("`{key}` has no meaning in direct mode")), "{message}");
    }
    for lines in [
        "notify = true",
        "status-path = \"/s\"",
        "type = \"cgi\"",
        "launch = \"zygote\"",
        "pass = \"server-starter\"",
        "verify = {}",
        "fallback = {}",
        "[guard.x]",
        "[ops]",
        "[supervisor]\nlog = \"logfmt\"",
        "[supervisor]\nfront-user = \"x\"",
    ] {
        assert!(error(&pool_with(lines)).contains("not in this version"), "{lines}");
    }
    assert!(load_text(pool_with("type = \"fastcgi\"\nlaunch = \"exec\"")).is_ok());
    let without_mode = "\n# a comment\n[pool.a]\ncommand = [\"a\"]\nlisten = [\"fd:3\"]\n";
    let report = load_text(without_mode).unwrap_err();
    assert_eq!(messages(&report), ["pool `a`: `mode = \"queue\"`, the default, is not in this version"]);
    assert_eq!(
        (report.problems()[0].line, report.problems()[0].hint.as_deref()),
        (Some(3), Some("write `mode = \"direct\"`"))
    );
}

#[test]
fn what_may_be_meant_otherwise_is_a_warning() {
    let loaded = load_text(listening("\"127.0.0.1:9\"", "user = \"root\"\nallowed-clients = [\"::1\"]")).unwrap();
    let warnings = loaded.warnings.problems();
    assert!(warnings.iter().all(|warning| warning.level == Level::Warning));
    assert!(warnings[0].message.contains("run as root"));
    assert!(warnings[1].message.contains("IPv4 only"));
    assert_eq!((warnings[0].line, warnings[1].line), (Some(5), Some(6)));
}

#[test]
fn included_files_are_one_pool_each() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let context = Context { directory: directory.path().to_owned() };
    let load_it = || load(Path::new("steadfast.toml"), &context);
    fs::create_dir(directory.path().join("pool.d")).unwrap();
    let keys = pool_with("").replace("[pool.a]\n", "");
    write("steadfast.toml", &format!("include = [\"pool.d/*.toml\", \"pool.d/b.toml\"]\n{}", pool_with("")));
    write("pool.d/b.toml", &keys.replace("a.sock", "b.sock"));
    write("pool.d/.hidden.toml", "nonsense");
    write("pool.d/c.toml.bak", "nonsense");
    assert_eq!(load_it().unwrap().config.pools.keys().collect::<Vec<_>>(), ["a", "b"]);
    write("pool.d/a.toml", &keys);
    assert_eq!(messages(&load_it().unwrap_err()), ["pool `a` stands in steadfast.toml:2 already"]);
    fs::remove_file(directory.path().join("pool.d/a.toml")).unwrap();
    write("pool.d/c.toml", "[pool.c]\nmode = \"direct\"\n");
    write("pool.d/d e.toml", &keys.replace("a.sock", "d.sock"));
    write("pool.d/f.toml", "mode = \"direct\"\nlisten = [\"unix:b.sock\"]\n");
    let report = load_it().unwrap_err();
    let found = messages(&report);
    assert!(found[0].contains("`pool` cannot stand in an included file"), "{found:#?}");
    assert!(found[1].contains("\"d e\" cannot be the name of a pool"), "{found:#?}");
    assert!(found[2].contains("pool f has no command"), "{found:#?}");
    assert!(found[3].contains("unix:b.sock is listened on by pool `b` too"), "{found:#?}");
    assert!(report.problems()[3].file.as_ref().unwrap().ends_with("pool.d/f.toml"));
    write("steadfast.toml", "include = [\"absent.toml\"]");
    assert!(messages(&load_it().unwrap_err())[0].contains("no such file"));
    write("steadfast.toml", "include = [\"*/a.toml\"]");
    assert!(messages(&load_it().unwrap_err())[0].contains("only the last part"));
}

#[test]
fn more_files_than_the_limit_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("steadfast.toml"), "include = [\"x*\"]").unwrap();
    for index in 0..257 {
        fs::write(directory.path().join(format!("x{index}")), "").unwrap();
    }
    let report = load(Path::new("steadfast.toml"), &Context { directory: directory.path().to_owned() }).unwrap_err();
    assert_eq!(messages(&report), ["`include` names more than 256 files"]);
}
