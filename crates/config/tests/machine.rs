//! The command line's configuration, and both kinds compared with a machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use steadfast_config::command_line::{CommandLine, examine as examine_command, from_command};
use steadfast_config::load::{Context, Loaded, examine, load};
use steadfast_config::machine::{
    Lookup, Machine, UserIds, check_machine, compare, fallback_body, find_program, front_user,
};
use steadfast_config::report::Report;
use steadfast_config::types::{Config, Every, Fallback, Launch, Listen, Mode, Workers};

/// A machine with the users root, www (33) and those named, from 100 on, and the groups root and web (44).
struct With(&'static [&'static str]);

impl Lookup for With {
    fn user(&self, name: &str) -> Option<UserIds> {
        let at = self.0.iter().position(|known| *known == name);
        let number = at.and_then(|at| u32::try_from(at).ok()).map(|at| 100 + at);
        let ids = |number| UserIds { uid: number, gid: number, name: name.to_owned(), home: PathBuf::from("/") };
        number.map(ids).or_else(|| Users.user(name))
    }

    fn group(&self, name: &str) -> Option<u32> {
        Users.group(name)
    }
}

/// A machine with the users root and www (33), and the groups root and web (44).
struct Users;

impl Lookup for Users {
    fn user(&self, name: &str) -> Option<UserIds> {
        let (uid, gid) = match name {
            "root" => (0, 0),
            "www" => (33, 33),
            _ => return None,
        };
        Some(UserIds { uid, gid, name: name.to_owned(), home: PathBuf::from("/") })
    }

    fn group(&self, name: &str) -> Option<u32> {
        [("root", 0), ("web", 44)].iter().find(|(known, _)| *known == name).map(|(_, gid)| *gid)
    }
}

fn messages(report: &Report) -> Vec<String> {
    report.problems().iter().map(|problem| problem.message.clone()).collect()
}

/// Loads a file from `directory`, whose pool `a` has these lines beside mode and name.
fn pool(directory: &Path, lines: &str) -> Loaded {
    let text = format!("[pool.a]\nmode = \"direct\"\n{lines}\n");
    fs::write(directory.join("steadfast.toml"), text).expect("a directory of our own");
    let loaded = load(Path::new("steadfast.toml"), &Context { directory: directory.to_owned() });
    loaded.unwrap_or_else(|report| panic!("{}", report.render(false)))
}

fn checked(loaded: &Loaded, uid: u32, runtime_dir: &Path, directory: &Path) -> Vec<(String, Option<usize>)> {
    let machine = Machine { uid, gid: uid, runtime_dir, directory, path: None, lookup: &Users };
    match check_machine(loaded, &machine) {
        Ok(()) => Vec::new(),
        Err(report) => report.problems().iter().map(|problem| (problem.message.clone(), problem.line)).collect(),
    }
}

#[test]
fn started_as_root_a_pool_must_name_its_user() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    let nameless = pool(base, "command = [\"sh\"]\nlisten = [\"unix:a\"]");
    let message = "started as root, pool `a` must name its user".to_owned();
    assert_eq!(checked(&nameless, 0, base, base), [(message, Some(1))]);
    assert_eq!(checked(&nameless, 1000, base, base), []);
    let named = pool(base, "command = [\"sh\"]\nlisten = [\"unix:a\"]\nuser = \"www\"");
    assert_eq!(checked(&named, 0, base, base), []);
    assert_eq!(checked(&named, 33, base, base), []);
    let message = "only root can start workers as \"www\"".to_owned();
    assert_eq!(checked(&named, 1000, base, base), [(message, Some(5))]);
}

#[test]
fn everything_that_is_missing_is_told_at_once_and_in_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    let long = "x".repeat(100);
    let lines = format!(
        "command = [\"no-such-program-here\"]\nlisten = [\n\"unix:/no/such/dir/a\",\n\"unix:{long}\",\n]\npass = \"listen-fds\"\n\
         user = \"nobody-here\"\ngroup = \"no-group\"\nsocket = {{ owner = \"who\", group = \"which\" }}"
    );
    let found = checked(&pool(base, &lines), 0, base, base);
    let expect = [
        ("there is no user \"nobody-here\" on this machine", 9),
        ("there is no user \"who\" on this machine", 11),
        ("there is no group \"no-group\" on this machine", 10),
        ("there is no group \"which\" on this machine", 11),
        ("there is no program \"no-such-program-here\" in /usr/local/sbin", 3),
        ("the socket's directory /no/such/dir does not exist", 5),
        ("the kernel takes at most 107", 6),
    ];
    assert_eq!(found.len(), expect.len(), "{found:#?}");
    for ((message, line), (part, at)) in found.iter().zip(expect) {
        assert!(message.contains(part), "{message}");
        assert_eq!(*line, Some(at), "{message}");
    }
}

#[test]
fn a_directory_below_run_is_to_be_made_at_each_boot() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    let hint = |socket: &str| {
        let loaded = pool(base, &format!("command = [\"/bin/true\"]\nlisten = [\"unix:{socket}\"]\nuser = \"www\""));
        let machine = Machine { uid: 0, gid: 0, runtime_dir: base, directory: base, path: None, lookup: &Users };
        let report = check_machine(&loaded, &machine).expect_err("the directory is missing");
        report.problems()[0].hint.clone().unwrap_or_default()
    };
    let made = hint("/run/no-such-dir/two/a.sock");
    assert!(
        made.contains("echo 'd /run/no-such-dir/two 0755 root root' > /etc/tmpfiles.d/steadfast-no-such-dir-two.conf"),
        "{made}"
    );
    assert!(hint("/var/run/no-such-dir/a.sock").contains("d /var/run/no-such-dir 0755"));
    assert_eq!(hint("/run/user/no-such-id/a.sock"), "mkdir -p /run/user/no-such-id");
    assert_eq!(hint("/no/such/dir/a.sock"), "mkdir -p /no/such/dir");
}

#[test]
fn programs_and_directories_are_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    let one = |lines: &str| {
        let loaded = pool(base, &format!("listen = [\"unix:a\"]\nuser = \"www\"\n{lines}"));
        checked(&loaded, 0, base, base).into_iter().map(|(message, _)| message).collect::<String>()
    };
    fs::write(base.join("app"), "#!/bin/sh\n").unwrap();
    assert!(one("command = [\"./app\"]").contains("is not executable"));
    fs::set_permissions(base.join("app"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(one("command = [\"./app\"]"), "");
    assert!(one("command = [\"app\"]").contains("there is no program \"app\""));
    assert_eq!(one(&format!("command = [\"app\"]\nenvironment = {{ PATH = \"/x:{}\" }}", base.display())), "");
    assert!(one("command = [\"./gone\"]").contains("cannot be used"));
    assert!(one("command = [\"/tmp/..\"]").contains("is not a program"));
    assert!(one("command = [\"sh\"]\ndirectory = \"gone\"").contains("the directory"));
    assert!(one("command = [\"sh\"]\ndirectory = \"app\"").contains("is not a directory"));
}

#[test]
fn the_path_of_the_supervisor_counts_only_where_it_is_passed_on() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    fs::write(base.join("own"), "").unwrap();
    fs::set_permissions(base.join("own"), fs::Permissions::from_mode(0o755)).unwrap();
    let find = |lines: &str| {
        let loaded = pool(base, &format!("command = [\"own\"]\nlisten = [\"unix:a\"]\n{lines}"));
        find_program(&loaded.config.pools["a"], Path::new("/"), base.to_str())
    };
    assert!(find("").is_err());
    assert_eq!(find("pass-environment = [\"PATH\"]"), Ok(base.join("own")));
}

fn command_line(listen: &[&str]) -> CommandLine {
    CommandLine {
        command: vec!["/usr/bin/php-cgi8.4".into(), "-q".into()],
        listen: listen.iter().map(|listen| (*listen).to_owned()).collect(),
        mode: Some("direct".into()),
        ..CommandLine::default()
    }
}

fn here() -> Context {
    Context { directory: "/here".into() }
}

#[test]
fn arguments_make_one_pool() {
    let given = CommandLine {
        workers: Some("3".into()),
        user: Some("www".into()),
        control: Some("c.sock".into()),
        ..command_line(&["unix:a.sock"])
    };
    let config = from_command(&given, &here()).unwrap().config;
    assert_eq!(config.source, None);
    assert_eq!(config.supervisor.control, Path::new("/here/c.sock"));
    let pool = &config.pools["php-cgi8-4"];
    assert_eq!(pool.command, ["/usr/bin/php-cgi8.4", "-q"]);
    assert_eq!(pool.listen, [Listen::Unix("/here/a.sock".into())]);
    assert!(matches!(pool.workers, Workers { min: 3, max: 3, .. }));
    assert_eq!((pool.user.as_deref(), pool.directory.as_deref()), (Some("www"), None));
    let named = CommandLine { name: Some("site".into()), ..command_line(&["127.0.0.1:9000"]) };
    assert!(from_command(&named, &here()).unwrap().config.pools.contains_key("site"));
    let root = CommandLine { user: Some("root".into()), ..command_line(&["127.0.0.1:9000"]) };
    assert!(from_command(&root, &here()).unwrap().warnings.problems()[0].message.contains("run as root"));
}

#[test]
fn arguments_are_refused_with_the_messages_of_a_file() {
    let refused = |given: &CommandLine| messages(&from_command(given, &here()).unwrap_err());
    let good = || command_line(&["127.0.0.1:9000"]);
    let mode = CommandLine { mode: Some("queu".into()), ..good() };
    assert_eq!(refused(&mode), ["`mode` cannot be \"queu\""]);
    let launch = CommandLine { launch: Some("zygot".into()), ..good() };
    assert_eq!(refused(&launch), ["`launch` cannot be \"zygot\""]);
    let later = CommandLine { ops: Some("127.0.0.1:1".into()), ..good() };
    assert_eq!(refused(&later), ["--ops is not in this version"]);
    assert_eq!(refused(&CommandLine { workers: Some("4..2".into()), ..good() }), ["workers: min (4) passes max (2)"]);
    assert_eq!(refused(&CommandLine { workers: Some("many".into()), ..good() }).len(), 1);
    assert_eq!(refused(&CommandLine { name: Some("a b".into()), ..good() }), ["\"a b\" cannot be the name of a pool"]);
    assert_eq!(refused(&CommandLine { command: vec![], ..good() }), ["the command is empty"]);
    assert_eq!(refused(&command_line(&[])), ["the workers listen nowhere"]);
    assert!(refused(&command_line(&["unix:/a", "unix:/b"]))[0].contains("carries one socket"));
    assert!(refused(&command_line(&["0.0.0.0:9000"]))[0].contains("open to other machines"));
    assert!(refused(&command_line(&["http://127.0.0.1:80"]))[0].contains("needs queue mode"));
    let queue = || CommandLine { mode: None, ..good() };
    assert!(refused(&CommandLine { verify: Some("/".into()), ..queue() })[0].contains("it has no method"));
    assert_eq!(refused(&CommandLine { ops: Some("127.0.0.1:1".into()), ..queue() }), ["--ops is not in this version"]);
    let launch = CommandLine { launch: Some("zygote".into()), ..queue() };
    assert_eq!(
        from_command(&launch, &here()).unwrap().config.pools.values().next().map(|pool| pool.launch),
        Some(Launch::Zygote)
    );
    assert_eq!(refused(&CommandLine { workers: Some("4..2".into()), ..queue() }), ["workers: min (4) passes max (2)"]);
    let open = CommandLine { mode: None, ..command_line(&["http://0.0.0.0:80", "0.0.0.0:9000"]) };
    assert_eq!(refused(&open), ["0.0.0.0:9000 is open to other machines, and FastCGI has no password"]);
    // Nothing that only direct mode refuses is refused where the mode is not known.
    let unknown = CommandLine { mode: Some("queu".into()), ..command_line(&["http://127.0.0.1:80"]) };
    assert_eq!(refused(&unknown).len(), 1);
}

#[test]
fn a_queue_is_the_default_of_the_command_line() {
    let given = CommandLine {
        mode: None,
        workers: Some("0..8".into()),
        verify: Some("GET /health".into()),
        ..command_line(&["unix:a.sock", "http://127.0.0.1:8080"])
    };
    for mode in [None, Some("queue".into())] {
        let config = from_command(&CommandLine { mode, ..given.clone() }, &here()).unwrap().config;
        let pool = &config.pools["php-cgi8-4"];
        assert_eq!(pool.mode, Mode::Queue);
        assert!(matches!(pool.workers, Workers { min: 0, max: 8, .. }));
        let verify = pool.verify.as_ref().unwrap();
        assert_eq!((verify.method.as_str(), verify.uri.as_str(), verify.status), ("GET", "/health", 200));
        assert_eq!((verify.body.as_str(), verify.timeout.as_secs(), verify.every), ("", 10, Every::Each));
        let http = Listen::Http("127.0.0.1:8080".parse().unwrap());
        assert_eq!(pool.listen, [Listen::Unix("/here/a.sock".into()), http]);
    }
}

#[test]
fn a_refused_command_line_shows_the_arguments() {
    let given = CommandLine {
        workers: Some("0".into()),
        mode: Some("qeue".into()),
        verify: Some("/health".into()),
        ..command_line(&["/run/x.sock"])
    };
    insta::assert_snapshot!(from_command(&given, &here()).unwrap_err().render(false));
}

#[test]
fn the_machine_check_names_the_argument_too() {
    let given = CommandLine { user: Some("nobody-here".into()), ..command_line(&["127.0.0.1:9000"]) };
    let loaded =
        from_command(&CommandLine { command: vec!["sh".into()], ..given }, &Context { directory: "/".into() }).unwrap();
    let root = Path::new("/");
    let machine = Machine { uid: 0, gid: 0, runtime_dir: root, directory: root, path: None, lookup: &Users };
    let report = check_machine(&loaded, &machine).unwrap_err();
    assert_eq!(report.problems()[0].argument.as_deref(), Some("`--user nobody-here`"));
    assert_eq!(report.problems().len(), 1);
}

/// What is wrong with a file as such and on a machine whose root we are, each with its line.
fn all(text: &str) -> Vec<(usize, String)> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("steadfast.toml"), text).expect("a directory of our own");
    let report = examined(&directory.path().join("steadfast.toml"), directory.path());
    report.problems().iter().map(|problem| (problem.line.unwrap_or(0), problem.message.clone())).collect()
}

fn examined(file: &Path, directory: &Path) -> Report {
    let mut examined = examine(file, &Context { directory: directory.to_owned() });
    compare(&mut examined, &as_root(directory));
    examined.finish().expect_err("a broken file")
}

fn as_root(directory: &Path) -> Machine<'_> {
    Machine { uid: 0, gid: 0, runtime_dir: directory, directory, path: None, lookup: &With(&["steadfast"]) }
}

#[test]
fn what_is_wrong_and_what_the_machine_lacks_are_told_together() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    insta::assert_snapshot!(examined(Path::new("broken-and-lacking.toml"), &here).render(false));
}

/// A good pool but for what `lines` say; its first key stands in line 3.
fn broken_pool(lines: &str) -> Vec<(usize, String)> {
    all(&format!("[pool.a]\nmode = \"direct\"\n{lines}\n"))
}

/// The lines with a problem.
fn lines(found: &[(usize, String)]) -> Vec<usize> {
    found.iter().map(|(line, _)| *line).collect()
}

#[test]
fn what_follows_from_a_broken_value_is_not_told() {
    let one = |text: &str, line: usize| {
        let found = broken_pool(text);
        assert_eq!(lines(&found), [line], "{text}: {found:#?}");
    };
    let good = "listen = [\"unix:a\"]\nuser = \"www\"\n";
    one(&format!("{good}command = [\"no-such-program\", 3]"), 5);
    one(&format!("{good}comand = [\"sh\"]"), 5);
    one(&format!("{good}command = []"), 5);
    one(&format!("{good}command = [\"./gone\"]\ndirectory = 3"), 6);
    one(&format!("{good}command = [\"./gone\"]\ndirectroy = \"/\""), 6);
    one(&format!("{good}command = [\"gone\"]\nenvironment = {{ PATH = 3 }}"), 6);
    one(&format!("{good}command = [\"gone\"]\nenvironment = 3"), 6);
    one(&format!("{good}command = [\"gone\"]\npass-environment = [3]"), 6);
    one("listen = [\"unix:a\"]\ncommand = [\"sh\"]\nuser = 3", 5);
    one("listen = [\"unix:a\"]\ncommand = [\"sh\"]\nusr = \"www\"", 5);
    one("command = [\"sh\"]\nuser = \"www\"\nlisten = [\"unix:a\", \"unix:b\"]\npass = \"listen-fd\"", 6);
    one("command = [\"sh\"]\nuser = \"www\"\nlisten = [\"unix:no/a\"]\n[supervisor]\nruntime-dir = 3", 7);
    let long = format!("command = [\"sh\"]\nuser = \"www\"\nlisten = [\"unix:{}\"]", "x".repeat(105));
    one(&long, 5);
    one(&format!("{long}\n[supervisor]\nruntime-dir = 3"), 7);
    one("command = [\"sh\"]\nuser = \"www\"\nlisten = [\"unix:/no/a\"]\n[supervisor]\nruntime_dir = \"/no\"", 7);
}

#[test]
fn a_broken_value_hides_no_other() {
    let found = broken_pool(
        "listen = [3, \"unix:no/a\"]\ncommand = [\"/gone\"]\ndirectory = \"gone\"\nuser = \"who\"\ngroup = 3",
    );
    assert_eq!(lines(&found), [3, 3, 4, 5, 6, 7], "{found:#?}");
    assert!(found[1].1.contains("/no does not exist"), "{found:#?}");
    let long = format!(
        "command = [\"sh\"]\nuser = \"www\"\nlisten = [\"unix:a\"]\n[supervisor]\nlog = 3\ncontrol = \"{}\"",
        "x".repeat(108)
    );
    assert_eq!(lines(&broken_pool(&long)), [7, 8]);
}

#[test]
fn where_the_parser_lost_its_way_nothing_is_missing() {
    // The line with the mistake may have said who, and where the program is looked for.
    assert_eq!(lines(&broken_pool("command = [\"sh\"]\nlisten = [\"unix:a\"]\nuser = www")), [5]);
    let path = "user = \"www\"\nlisten = [\"unix:a\"]\ncommand = [\"gone\"]\n";
    assert_eq!(lines(&broken_pool(&format!("{path}environment = {{ PATH = /opt }}"))), [6]);
    assert_eq!(lines(&broken_pool(&format!("{path}directory = /opt"))), [5, 6]);
    let relative = "user = \"www\"\nlisten = [\"unix:a\"]\ncommand = [\"./gone\"]\n";
    assert_eq!(lines(&broken_pool(&format!("{relative}directory = /opt"))), [6]);
    assert_eq!(lines(&broken_pool(&format!("{relative}umask = 0022"))), [5, 6]);
    // What stands below a broken header belongs to nobody known.
    let header = "listen = [\"unix:a\"]\ncommand = [\"./gone\"]\nuser = \"www\"\n[pool.b\ndirectory = \"/gone\"";
    assert_eq!(lines(&broken_pool(header)), [6]);
    // No word of it anywhere: the user is really missing.
    assert_eq!(lines(&broken_pool("command = [\"sh\"]\nlisten = [\"unix:a\"]\numask = 0022")), [1, 5]);
}

#[test]
fn hints_for_a_command_line_name_what_can_be_typed() {
    let hints = |given: &CommandLine| {
        let mut examined = examine_command(given, &here());
        compare(&mut examined, &as_root(Path::new("/")));
        let report = examined.finish().expect_err("refused");
        report.problems().iter().map(|problem| problem.hint.clone().unwrap_or_default()).collect::<Vec<_>>()
    };
    let given =
        |listen: &[&str]| CommandLine { command: vec!["sh".into()], user: Some("www".into()), ..command_line(listen) };
    let two = hints(&given(&["127.0.0.1:1", "127.0.0.1:2"]));
    assert_eq!(two.len(), 1);
    assert!(two[0].starts_with("keep one, or write a configuration file"), "{two:?}");
    let open = hints(&given(&["0.0.0.0:1"]));
    assert_eq!(open.len(), 1);
    assert!(open[0].starts_with("listen on 127.0.0.1, or write a configuration file"), "{open:?}");
    assert_eq!(hints(&given(&["http://127.0.0.1:1"])), ["leave --mode direct out, or listen on FastCGI alone"]);
    for mode in [None, Some("direct".into())] {
        let nobody = CommandLine { mode, workers: Some("0".into()), ..given(&["127.0.0.1:1"]) };
        assert_eq!(hints(&nobody), ["on demand only: `--workers 0..4`"]);
    }
    let named = CommandLine { mode: None, name: Some("x".repeat(64)), ..given(&["127.0.0.1:1"]) };
    let mut examined = examine_command(&named, &here());
    let runtime_dir = PathBuf::from(format!("/{}", "r".repeat(40)));
    compare(&mut examined, &Machine { runtime_dir: &runtime_dir, ..as_root(Path::new("/")) });
    let report = examined.finish().unwrap_err();
    assert_eq!(report.problems()[0].argument, Some(format!("`--name {}`", "x".repeat(64))));
    assert!(report.problems()[0].hint.as_deref().unwrap().starts_with("name the pool shorter with --name"));
    let nameless = CommandLine { user: None, ..given(&["127.0.0.1:1"]) };
    assert_eq!(hints(&nameless), ["write --user www-data"]);
    let words = CommandLine { command: vec!["/usr/bin/perl site.fcgi".into()], ..given(&["127.0.0.1:1"]) };
    assert_eq!(hints(&words), ["program and arguments are words of their own: -- /usr/bin/perl site.fcgi"]);
    let long = CommandLine { control: Some("x".repeat(120).into()), ..given(&["127.0.0.1:1"]) };
    assert_eq!(hints(&long), ["name a shorter path with --control"]);
    let both = CommandLine { command: vec!["/gone".into()], user: Some(String::new()), ..given(&["nowhere"]) };
    assert_eq!(hints(&both).len(), 3);
}

/// The configuration of one file.
fn configured(text: &str) -> Config {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("steadfast.toml"), text).expect("a directory of our own");
    let loaded = load(Path::new("steadfast.toml"), &Context { directory: directory.path().to_owned() });
    loaded.unwrap_or_else(|report| panic!("{}", report.render(false))).config
}

/// A good pool in queue mode: `a` with this user, then what `lines` say.
fn queue(user: &str, lines: &str) -> String {
    format!("[pool.a]\ncommand = [\"sh\"]\nlisten = [\"unix:a\"]\nuser = \"{user}\"\n{lines}\n")
}

#[test]
fn the_front_is_steadfast_or_nobody_or_whoever_is_named() {
    let of = |text: &str, users: &'static [&str]| front_user(&configured(text), &With(users));
    let own = of(&queue("www", ""), &["nobody", "steadfast"]).unwrap();
    assert_eq!((own.ids.name.as_str(), own.ids.uid, own.warning), ("steadfast", 101, None));
    let stand_in = of(&queue("www", ""), &["nobody"]).unwrap();
    assert_eq!((stand_in.ids.name.as_str(), stand_in.ids.gid), ("nobody", 100));
    assert!(stand_in.warning.unwrap().contains("no user \"steadfast\""));
    let named = queue("www", "[supervisor]\nfront-user = \"front\"");
    assert_eq!(of(&named, &["front", "steadfast"]).unwrap().ids.name, "front");
    let why = |text: &str, users: &'static [&str]| of(text, users).unwrap_err().to_string();
    // Who is named is not replaced by anybody.
    assert!(why(&named, &["nobody", "steadfast"]).starts_with("there is no user \"front\""));
    assert!(why(&queue("www", ""), &[]).contains("neither a user \"steadfast\" nor \"nobody\""));
    let root = queue("www", "[supervisor]\nfront-user = \"root\"");
    assert!(why(&root, &[]).contains("cannot run as \"root\""));
    let same = queue("www", "[supervisor]\nfront-user = \"www\"");
    assert!(why(&same, &[]).contains("the front cannot run as www, the user of pool `a`"));
    assert!(why(&queue("nobody", ""), &["nobody"]).contains("the front cannot run as nobody, the user of pool `a`"));
    assert!(why(&queue("nobody", ""), &["nobody"]).contains("useradd --system"));
    assert!(of(&queue("nobody", ""), &["nobody", "steadfast"]).is_ok());
}

#[test]
fn the_front_s_user_is_looked_at_only_where_one_is_needed() {
    let found = |text: &str, uid: u32, users: &'static [&str]| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let base = directory.path();
        fs::write(base.join("steadfast.toml"), text).expect("a directory of our own");
        let mut examined = examine(Path::new("steadfast.toml"), &Context { directory: base.to_owned() });
        let lookup = With(users);
        let machine = Machine { uid, gid: uid, runtime_dir: base, directory: base, path: None, lookup: &lookup };
        compare(&mut examined, &machine);
        let report = examined.finish().map_or_else(|report| report, |loaded| loaded.warnings);
        report.problems().iter().map(|problem| (problem.line, problem.message.clone())).collect::<Vec<_>>()
    };
    let stand_in = found(&queue("www", ""), 0, &["nobody"]);
    assert_eq!(stand_in.len(), 1, "{stand_in:?}");
    assert!(stand_in[0].1.contains("the front runs as nobody"), "{stand_in:?}");
    assert_eq!(found(&queue("www", ""), 0, &["nobody", "steadfast"]), []);
    assert_eq!(found(&queue("www", ""), 33, &[]), [], "not root");
    assert_eq!(found(&queue("www", "mode = \"direct\""), 0, &[]), [], "no front");
    // Each error where the mistake is.
    let unknown = found(&queue("www", "[supervisor]\nfront-user = \"front\""), 0, &["nobody"]);
    assert_eq!((unknown.len(), unknown[0].0), (1, Some(6)), "{unknown:?}");
    assert_eq!(found(&queue("www", "[supervisor]\nfront-user = \"front\""), 33, &[]), [], "not root");
    let same = found(&queue("nobody", ""), 0, &["nobody"]);
    assert_eq!((same.len(), same[0].0), (1, Some(4)), "{same:?}");
    let named = found(&queue("www", "[supervisor]\nfront-user = \"www\""), 0, &[]);
    assert_eq!((named.len(), named[0].0), (1, Some(6)), "{named:?}");
    let broken = found(&queue("www", "[supervisor]\nfront-user = 3"), 0, &[]);
    assert_eq!((broken.len(), broken[0].0), (1, Some(6)), "{broken:?}");
    let mode = found(&queue("www", "mode = \"drect\""), 0, &[]);
    assert_eq!((mode.len(), mode[0].0), (1, Some(5)), "{mode:?}");
}

#[test]
fn private_sockets_must_fit_the_kernel() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    let loaded = |mode: &str| {
        fs::write(base.join("steadfast.toml"), queue("www", mode)).unwrap();
        load(Path::new("steadfast.toml"), &Context { directory: base.to_owned() }).unwrap()
    };
    // RUNTIME + "/pool/a/" + 20 digits = 107.
    let fits = PathBuf::from(format!("/{}", "r".repeat(78)));
    assert_eq!(checked(&loaded(""), 33, &fits, base), []);
    let long = PathBuf::from(format!("/{}", "r".repeat(79)));
    let found = checked(&loaded(""), 33, &long, base);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0.contains("paths of up to 108 bytes, but the kernel takes at most 107"), "{found:?}");
    assert_eq!(found[0].1, Some(1));
    assert_eq!(checked(&loaded("mode = \"direct\""), 33, &long, base), []);
}

#[test]
fn a_fallback_page_is_a_file_that_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    let loaded = |file: &str| {
        let text = queue("www", &format!("[pool.a.fallback]\nfile = \"{file}\""));
        fs::write(base.join("steadfast.toml"), text).unwrap();
        load(Path::new("steadfast.toml"), &Context { directory: base.to_owned() }).unwrap()
    };
    let found = |file: &str| checked(&loaded(file), 33, base, Path::new("/"));
    fs::write(base.join("page.html"), "x".repeat(1 << 20)).unwrap();
    fs::write(base.join("long.html"), "x".repeat((1 << 20) + 1)).unwrap();
    assert_eq!(found("page.html"), [], "relative to the file's directory");
    assert_eq!(found(base.join("page.html").to_str().unwrap()), []);
    for (file, expected) in [
        ("gone.html", "gone.html cannot be used: No such file"),
        (".", "is not a regular file"),
        ("/dev/zero", "/dev/zero is not a regular file"),
        ("long.html", "has 1048577 bytes, but at most 1 MiB"),
    ] {
        let found = found(file);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].0.contains(expected), "{found:?}");
        assert_eq!(found[0].1, Some(6));
    }
    let fallback =
        |file: &str| Fallback { file: Some(base.join(file)), ..loaded(".").config.pools["a"].fallback.clone() };
    assert!(fallback_body(&fallback("page.html")).unwrap().is_some());
    assert!(fallback_body(&fallback("long.html")).is_err());
    let none = Fallback { file: None, ..fallback("") };
    assert!(fallback_body(&none).unwrap().is_none());
}
