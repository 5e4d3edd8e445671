//! Whole files, from disk to the configuration or to the drawn report.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use steadfast_config::load::{Context, Loaded, load};
use steadfast_config::report::{Level, Report};
use steadfast_config::types::{
    ClientAbort, Every, Fallback, Kind, Launch, Listen, Log, LogLevel, Mode, Pass, Quarantine, Queue, RequestId, Retry,
    Then, Verify, Workers,
};

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

/// A pool in queue mode, which it does not say; good but for its `listen` and `lines`.
fn queued(listen: &str, lines: &str) -> String {
    listening(listen, lines).replace("mode = \"direct\"\n", "")
}

/// A good pool in queue mode, with `lines` added at its end.
fn queue_with(lines: &str) -> String {
    queued("\"unix:a.sock\"", lines)
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
    assert_eq!(config.supervisor.front_user.as_deref(), Some("front"));
    assert_eq!(config.pools.keys().collect::<Vec<_>>(), ["busy", "maps", "plain", "site"]);
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
fn every_key_of_queue_mode_is_read() {
    let config = load(Path::new("full.toml"), &Context { directory: here() }).unwrap().config;
    let busy = &config.pools["busy"];
    assert_eq!((busy.mode, busy.pass), (Mode::Queue, Pass::Stdin));
    assert_eq!(
        busy.listen,
        [
            Listen::Unix("busy.sock".into()),
            Listen::Http("127.0.0.1:8080".parse().unwrap()),
            Listen::Http("[::]:8080".parse().unwrap()),
            Listen::Tcp("0.0.0.0:9002".parse().unwrap()),
        ]
    );
    assert_eq!(busy.allowed_clients.len(), 2);
    assert_eq!(busy.workers, Workers { min: 0, max: 20, step: 5, idle: Duration::from_secs(120) });
    assert_eq!((busy.concurrency, busy.queue), (1024, Queue { length: 0, timeout: Duration::from_secs(1) }));
    assert_eq!((busy.quarantine, busy.retry), (Quarantine::Off, Retry::Unsent));
    assert_eq!((busy.client_abort, busy.request_id), (ClientAbort::Cancel, RequestId::Trust));
    assert_eq!((busy.max_requests, busy.slow_request), (Some(500), None));
    assert_eq!(busy.request_timeout, Duration::from_secs(30));
    let params: Vec<_> = busy.params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(params, [("EMPTY", ""), ("SCRIPT_FILENAME", "/srv/site/index.php")]);
    let verify = Verify {
        method: "HEAD".into(),
        uri: "/health?full=1".into(),
        status: 204,
        body: String::new(),
        timeout: Duration::from_secs(3),
        every: Every::Generation,
    };
    assert_eq!(busy.verify, Some(verify));
    let file = Some(here().join("maintenance.html"));
    assert_eq!(busy.fallback, Fallback { status: 500, file, retry_after: Duration::from_secs(120) });
}

#[test]
fn what_the_file_does_not_say_of_a_queue_has_the_default_of_the_interface() {
    let loaded = load_text(queue_with("")).unwrap();
    assert_eq!(loaded.config.supervisor.front_user, None);
    let pool = &loaded.config.pools["a"];
    assert_eq!((pool.mode, pool.pass, pool.concurrency), (Mode::Queue, Pass::Stdin, 1));
    assert_eq!((pool.workers.min, pool.workers.max, pool.workers.step), (4, 4, 4));
    assert_eq!(pool.queue, Queue { length: 1024, timeout: Duration::from_secs(10) });
    assert_eq!((pool.quarantine, pool.retry), (Quarantine::Exact, Retry::Idempotent));
    assert_eq!((pool.client_abort, pool.request_id), (ClientAbort::Finish, RequestId::Make));
    assert_eq!((pool.max_requests, pool.request_timeout), (None, Duration::from_secs(60)));
    assert_eq!(pool.slow_request, Some(Duration::from_secs(5)));
    assert!(pool.params.is_empty() && pool.verify.is_none());
    assert_eq!(pool.fallback, Fallback { status: 503, file: None, retry_after: Duration::from_secs(30) });
    let verify = "[pool.a.verify]\nrequest = \"GET /\"\nexpect = { body = \"ok\" }";
    let verify = load_text(queue_with(verify)).unwrap().config.pools["a"].verify.clone().unwrap();
    assert_eq!((verify.status, verify.body.as_str(), verify.every), (200, "ok", Every::Each));
    assert_eq!(verify.timeout, Duration::from_secs(10));
    assert_eq!(load_text(queue_with("max-requests = 0")).unwrap().config.pools["a"].max_requests, None);
}

#[test]
fn a_fallback_has_the_media_type_of_its_extension() {
    let typed = |file: Option<&str>| {
        Fallback { status: 503, file: file.map(PathBuf::from), retry_after: Duration::ZERO }.content_type()
    };
    assert_eq!(typed(None), "text/html; charset=utf-8");
    assert_eq!(typed(Some("/a/b.html")), "text/html; charset=utf-8");
    assert_eq!(typed(Some("/a/b.HTM")), "text/html; charset=utf-8");
    assert_eq!(typed(Some("/a/b.txt")), "text/plain; charset=utf-8");
    assert_eq!(typed(Some("/a/b.json")), "application/json");
    for other in ["/a/b.html.gz", "/a/html", "/a/.html", "/a/b."] {
        assert_eq!(typed(Some(other)), "application/octet-stream", "{other}");
    }
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
    assert_eq!(report.problems().len(), errors.len(), "no warnings");
}

#[test]
fn the_example_of_the_interface_is_good_without_what_this_version_lacks() {
    let text: String = include_str!("interface.toml")
        .lines()
        .filter(|line| !["[ops]", "agent-listen", "notify"].iter().any(|key| line.starts_with(key)))
        .filter(|line| !line.contains("127.0.0.1:9090"))
        .map(|line| format!("{line}\n"))
        .collect();
    let loaded = load_text(text).unwrap_or_else(|report| panic!("{}", report.render(false)));
    assert!(loaded.warnings.is_empty());
    let site = &loaded.config.pools["site"];
    assert_eq!((site.mode, site.workers.min, site.workers.max), (Mode::Queue, 4, 32));
    assert_eq!(site.verify.as_ref().map(|verify| verify.uri.as_str()), Some("/health"));
    assert!(site.fallback.file.as_ref().is_some_and(|file| file.is_absolute() && file.ends_with("maintenance.html")));
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
fn a_direct_pool_grows_and_shrinks_and_sleeps() {
    let config = load_text(pool_with("workers = { min = 0, max = 20, step = 3, idle = \"5s\" }")).expect("good").config;
    let pool = config.pools.values().next().expect("a pool");
    assert_eq!(pool.mode, Mode::Direct);
    assert_eq!(pool.workers, Workers { min: 0, max: 20, step: 3, idle: Duration::from_secs(5) });
}

#[test]
fn each_value_is_held_to_its_range() {
    for (lines, expected) in [
        ("workers = 0", "at least one worker"),
        ("workers = 10001", "from 0 to 10000"),
        ("workers = \"4\"", "`workers` must be a whole number"),
        ("workers = { min = 0, max = 0 }", "at least one worker"),
        ("workers = { min = 2, max = 4, idle = \"0s\" }", "`workers.idle` must be longer than zero"),
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
fn who_writes_a_string_for_a_list_is_shown_the_list() {
    let hint = |lines: &str| {
        let text = format!("[pool.a]\nmode = \"direct\"\n{lines}\n");
        let report = load_text(text).expect_err("it is broken");
        report.problems().iter().find(|problem| problem.message.contains("must be a list")).and_then(|p| p.hint.clone())
    };
    let shown = [
        (r#"command = "/usr/bin/a -b""#, r#"write `command = ["/usr/bin/a", "-b"]`"#),
        (r#"listen = "http://127.0.0.1:80""#, r#"write `listen = ["http://127.0.0.1:80"]`"#),
        // What is no good either way, or may mean something else, is not guessed at.
        (r#"listen = "nowhere""#, r#"write `listen = ["unix:site.sock"]`"#),
        (r#"command = "sh -c 'a b'""#, r#"write `command = ["/usr/bin/perl", "site.fcgi"]`"#),
    ];
    for (lines, expected) in shown {
        assert_eq!(hint(lines).as_deref(), Some(expected), "{lines}");
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
        ("\"http://127.0.0.1:80\"", "", "http://127.0.0.1:80 needs queue mode"),
        ("\"http://127.0.0.1:80/\"", "", "is not an address"),
        ("\"https://127.0.0.1:443\"", "", "steadfast speaks no TLS"),
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
fn each_value_of_queue_mode_is_held_to_its_range() {
    let many = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(", ");
    let clients =
        |count| format!("allowed-clients = [{}]", many(count, &|n| format!("\"10.0.{}.{}\"", n / 250, n % 250)));
    for (lines, expected) in [
        ("concurrency = 0", "`concurrency` must be a whole number from 1 to 1024, not 0"),
        ("concurrency = 1025", "from 1 to 1024, not 1025"),
        ("concurrency = \"4\"", "from 1 to 1024, not a string"),
        ("queue = 5", "`queue` must be a table, not a number"),
        ("queue = { length = -1 }", "`queue.length` must be a whole number from 0 to 65536"),
        ("queue = { length = 65537 }", "from 0 to 65536, not 65537"),
        ("queue = { timeout = \"0s\" }", "`queue.timeout` must be longer than zero"),
        ("queue = { timeout = 10 }", "`queue.timeout` must be a string, not a number"),
        ("queue = { lenght = 10 }", "unknown key `lenght` in [pool.a.queue]"),
        ("quarantine = \"on\"", "`quarantine` cannot be \"on\""),
        ("quarantine = true", "`quarantine` must be a string, not true or false"),
        ("retry = \"always\"", "`retry` cannot be \"always\""),
        ("client-abort = \"kill\"", "`client-abort` cannot be \"kill\""),
        ("request-id = \"client\"", "`request-id` cannot be \"client\""),
        ("max-requests = -1", "`max-requests` must be a whole number from 0 to 1000000000, not -1"),
        ("max-requests = 1000000001", "not 1000000001"),
        ("request-timeout = \"0\"", "`request-timeout` must be longer than zero"),
        ("request-timeout = \"1 minute\"", "not a duration"),
        ("slow-request = 5", "`slow-request` must be a string, not a number"),
        ("workers = { min = 1, max = 4, idle = \"0\" }", "`workers.idle` must be longer than zero"),
        ("workers = { min = 5, max = 4 }", "min (5) passes max (4)"),
        ("workers = { min = 0, max = 0 }", "at least one worker"),
        ("workers = 0", "at least one worker"),
        ("params = { script_filename = \"x\" }", "\"script_filename\" cannot be the name of a parameter"),
        ("params = { CONTENT_LENGTH = \"1\" }", "the parameter CONTENT_LENGTH is each request's own"),
        ("params = { A = 1 }", "`params.A` must be a string, not a number"),
        ("params = { A = \"a\\nb\" }", "a parameter's value is one line"),
        ("verify = {}", "there is none"),
        ("verify = \"GET /\"", "`verify` must be a table, not a string"),
        ("verify = { request = \"/\" }", "it has no method"),
        ("verify = { request = \"GET\" }", "it has no path"),
        ("verify = { request = \"GET http://x/\" }", "not to a host"),
        ("verify = { request = \"GET /a b\" }", "' ' cannot stand in a URI"),
        ("verify = { request = \"GET /\", expect = 200 }", "`expect` must be a table, not a number"),
        (
            "verify = { request = \"GET /\", expect = { status = 600 } }",
            "`verify.expect.status` must be a whole number",
        ),
        ("verify = { request = \"GET /\", expect = { code = 200 } }", "unknown key `code` in [pool.a.verify.expect]"),
        ("verify = { request = \"GET /\", timeout = \"0\" }", "`verify.timeout` must be longer than zero"),
        ("verify = { request = \"GET /\", every = \"worker\" }", "`every` cannot be \"worker\""),
        ("verify = { request = \"GET /\", uri = \"/\" }", "unknown key `uri` in [pool.a.verify]"),
        ("verify = { request = \"HEAD /\", expect = { body = \"x\" } }", "a HEAD request has no body"),
        ("fallback = { status = 199 }", "`fallback.status` must be a whole number from 200 to 599"),
        ("fallback = { status = 304 }", "the status 304 has no body"),
        ("fallback = { file = \"\" }", "`fallback.file` must not be empty"),
        ("fallback = { retry-after = 30 }", "`fallback.retry-after` must be a string"),
        ("fallback = { body = \"x\" }", "unknown key `body` in [pool.a.fallback]"),
        ("[supervisor]\nfront-user = \"\"", "`front-user` must not be empty"),
        ("[supervisor]\nfront-user = 33", "`front-user` must be a string, not a number"),
    ] {
        let found = error(&queue_with(lines));
        assert!(found.contains(expected), "{lines}: {found}");
    }
    let long = error(&queue_with(&format!("params = {{ A = \"{}\" }}", "x".repeat(8192))));
    assert!(long.contains("`params` have 8193 bytes together, but at most 8192"), "{long}");
    let long = format!("verify = {{ request = \"GET /\", expect = {{ body = \"{}\" }} }}", "x".repeat(1025));
    assert!(error(&queue_with(&long)).contains("1025 bytes, but at most 1024"));
    let addresses = |count| many(count, &|n| format!("\"fd:{}\"", n + 3));
    assert!(error(&queued(&addresses(64), "")).contains("64 addresses are more than 63"));
    assert!(error(&queued("\"fd:3\"", &clients(257))).contains("257 clients are more than 256"));
    for good in [
        queued(&addresses(63), &clients(256)),
        queue_with("workers = { min = 0, max = 1 }"),
        queue_with("workers = { min = 2, max = 8 }"),
        queue_with("concurrency = 8\nmax-requests = 1"),
        queue_with("queue = { length = 65536, timeout = \"1ms\" }"),
        queue_with("verify = { request = \"HEAD /\", expect = { status = 599, body = \"\" } }"),
        queue_with("fallback = {}\nqueue = {}\nparams = {}"),
    ] {
        assert!(load_text(&good).is_ok(), "{good}");
    }
}

#[test]
fn a_queue_listens_on_many_addresses_and_on_http() {
    for (listen, lines) in [
        ("\"unix:a\", \"unix:b\"", ""),
        ("\"unix:a\", \"127.0.0.1:9000\", \"http://127.0.0.1:9001\"", "pass = \"listen-fds\""),
        ("\"http://0.0.0.0:80\"", ""),
        ("\"http://192.0.2.1:80\"", "allowed-clients = [\"192.0.2.2\", \"2001:db8::2\"]"),
        ("\"0.0.0.0:9000\", \"http://0.0.0.0:80\"", "allowed-clients = [\"192.0.2.1\"]"),
    ] {
        let loaded = load_text(queued(listen, lines)).unwrap_or_else(|report| panic!("{}", report.render(false)));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings.render(false));
    }
    for (listen, lines, expected) in [
        ("\"0.0.0.0:9000\"", "", "0.0.0.0:9000 is open to other machines, and FastCGI has no password"),
        ("\"http://0.0.0.0:80\", \"0.0.0.0:9000\"", "", "0.0.0.0:9000 is open to other machines"),
        ("\"0.0.0.0:9000\"", "allowed-clients = []", "open to other machines"),
        ("\"unix:a\"", "allowed-clients = [\"192.0.2.1\"]", "needs a TCP address"),
        ("\"127.0.0.1:80\", \"http://127.0.0.1:80\"", "", "http://127.0.0.1:80 is listened on by this pool already"),
        ("\"http://0.0.0.0:80\", \"127.0.0.1:80\"", "", "127.0.0.1:80 is listened on by this pool already"),
        ("\"http+unix:/a\"", "", "is not an address"),
    ] {
        let found = error(&queued(listen, lines));
        assert!(found.contains(expected), "{listen}: {found}");
    }
}

#[test]
fn a_mode_that_cannot_be_read_accuses_no_other_key() {
    for mode in ["\"queu\"", "3"] {
        let text = pool_with("retry = \"never\"\nworkers = { min = 1, max = 2 }");
        let found = error(&text.replace("\"direct\"", mode));
        assert!(found.contains("`mode`"), "{found}");
    }
    let typo = pool_with("retry = \"never\"").replace("mode =", "mod =");
    assert_eq!(error(&typo), "unknown key `mod` in [pool.a]");
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
        "fallback",
    ] {
        let message = error(&pool_with(&format!("{key} = 1")));
        assert!(message.starts_with(&format!("`{key}` has no meaning in direct mode")), "{message}");
    }
    let message = error(&pool_with("[pool.a.fallback]\nfile = 3"));
    assert!(message.starts_with("`fallback` has no meaning in direct mode"), "{message}");
    let verify = pool_with("[pool.a.verify]\nrequest = \"GET /\"");
    let verified = load_text(verify.clone()).unwrap().config.pools["a"].verify.clone();
    assert_eq!(verified.map(|verify| verify.every), Some(Every::Generation));
    let message = error(&format!("{verify}\nevery = \"each\""));
    assert!(message.starts_with("in direct mode a worker serves from its first moment"), "{message}");
    for lines in ["notify = true", "[ops]"] {
        assert!(error(&pool_with(lines)).contains("not in this version"), "{lines}");
        assert!(error(&queue_with(lines)).contains("not in this version"), "{lines}");
    }
    assert!(load_text(pool_with("type = \"fastcgi\"\nlaunch = \"exec\"")).is_ok());
    assert!(load_text(queue_with("type = \"fastcgi\"\nlaunch = \"exec\"")).is_ok());
    for text in [pool_with("launch = \"zygote\""), queue_with("launch = \"zygote\"")] {
        assert_eq!(load_text(text).unwrap().config.pools["a"].launch, Launch::Zygote);
    }
    let message = error(&queue_with("launch = \"zygote\"\npass = \"listen-fds\""));
    assert!(message.contains("on fd 0"), "{message}");
    let report = load_text(pool_with("\nretry = \"never\"")).unwrap_err();
    let [problem] = report.problems() else { panic!("{}", report.render(false)) };
    assert_eq!((problem.line, problem.column), (Some(6), Some(1)));
    assert_eq!(problem.hint.as_deref(), Some("remove it, or `mode = \"direct\"`"));
}

#[test]
fn what_may_be_meant_otherwise_is_a_warning() {
    let loaded = load_text(listening("\"127.0.0.1:9\"", "user = \"root\"\nallowed-clients = [\"::1\"]")).unwrap();
    let warnings = loaded.warnings.problems();
    assert!(warnings.iter().all(|warning| warning.level == Level::Warning));
    assert!(warnings[0].message.contains("run as root"));
    assert!(warnings[1].message.contains("IPv4 only"));
    assert_eq!((warnings[0].line, warnings[1].line), (Some(5), Some(6)));
    // In queue mode the front compares addresses itself.
    let loaded = load_text(queued("\"127.0.0.1:9\"", "allowed-clients = [\"::1\"]")).unwrap();
    assert!(loaded.warnings.is_empty());
}

#[test]
fn parameters_that_nobody_sends_are_a_warning() {
    let params = "params = { SCRIPT_FILENAME = \"x\" }";
    let warned = |text: String| messages(&load_text(text).unwrap().warnings);
    assert_eq!(
        warned(queue_with(params)),
        ["`params` go with HTTP and verify requests only, and this pool has neither"]
    );
    assert!(warned(queued("\"http://127.0.0.1:80\"", params)).is_empty());
    assert!(warned(queue_with(&format!("{params}\nverify = {{ request = \"GET /\" }}"))).is_empty());
    assert_eq!(
        error(&queue_with(&format!("{params}\nverify = {{ request = \"/\" }}"))).split(':').next(),
        Some("\"/\" is not a request")
    );
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

#[test]
fn a_cgi_program_has_a_timeout_in_both_modes_and_is_ended_when_its_client_leaves() {
    let read = |text: String| load_text(text).expect("a good file").config.pools["a"].clone();
    let direct = read(pool_with("type = \"cgi\"\nrequest-timeout = \"5m\""));
    assert_eq!((direct.kind, direct.request_timeout), (Kind::Cgi, Duration::from_secs(300)));
    let queued = read(queue_with("type = \"cgi\""));
    assert_eq!((queued.kind, queued.client_abort), (Kind::Cgi, ClientAbort::Cancel));
    let finishing = read(queue_with("type = \"cgi\"\nclient-abort = \"finish\""));
    assert_eq!(finishing.client_abort, ClientAbort::Finish);
    assert_eq!(read(queue_with("")).kind, Kind::FastCgi);
    let message = error(&pool_with("type = \"cgi\"\nslow-request = \"5s\""));
    assert!(message.starts_with("`slow-request` has no meaning in direct mode"), "{message}");
    assert!(error(&queue_with("type = \"cgi\"\nconcurrency = 2")).contains("one request at a time"));
    assert!(error(&queue_with("type = \"cgi\"\nlaunch = \"zygote\"")).contains("no zygote can load it"));
}

#[test]
fn what_knows_server_starter_is_direct_and_verified() {
    let starter = "pass = \"server-starter\"";
    let verify = "\n[pool.a.verify]\nrequest = \"GET /\"";
    let pool = load_text(pool_with(&format!("{starter}{verify}"))).unwrap().config.pools["a"].clone();
    assert_eq!(pool.pass, Pass::ServerStarter);
    assert!(error(&pool_with(starter)).contains("only a verify request shows whether they live"));
    assert!(error(&queue_with(&format!("{starter}{verify}"))).contains("the front speaks FastCGI"));
    let open =
        format!("[pool.a]\ncommand = [\"x\"]\nmode = \"direct\"\nlisten = [\"http://0.0.0.0:80\"]\n{starter}{verify}");
    assert!(load_text(open.clone()).is_ok());
    assert!(error(&open.replace(starter, "")).contains("needs queue mode"));
}

#[test]
fn a_status_path_is_one_that_php_fpm_takes() {
    let path = |path: &str| load_text(queue_with(&format!("status-path = \"{path}\""))).map(|loaded| loaded.config);
    assert_eq!(path("/fpm-status_1.x~/a").unwrap().pools["a"].status_path.as_deref(), Some("/fpm-status_1.x~/a"));
    assert_eq!(path("").unwrap().pools["a"].status_path, None);
    let long = format!("/{}", "a".repeat(256));
    for bad in ["status", "/", "/a b", "/a?b", "/\u{e4}", &long] {
        assert!(error(&queue_with(&format!("status-path = \"{bad}\""))).contains("no path for a status page"), "{bad}");
    }
    assert!(error(&pool_with("status-path = \"/s\"")).starts_with("`status-path` has no meaning in direct mode"));
}
