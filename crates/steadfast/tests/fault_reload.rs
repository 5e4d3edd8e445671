//! Faults of deploys: configurations and releases that are broken, half written, gone or changed; deploys during deploys,
//! during a rollback and while the breaker is open.

#[path = "support/cases.rs"]
mod cases;
use steadfast_harness as support;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cases::{Budget, Follower};
use rustix::process::Signal;
use serde_json::json;
use support::conditions::{Conditions, is_soon, is_within, tail};
use support::daemon::{Config, Daemon, Line, Pool, SOON, STEADFAST, address, is_root, steadfast};
use support::proc;
use support::zygotes::{Site, all_served, is_whole, kill_one, program, reload_fails, zygote};

/// Both ways to make a worker.
const LAUNCHES: [&str; 2] = ["exec", "zygote"];

/// Workers that are made in this way and go by this file.
fn pool(site: &Site, launch: &str, file: &str, workers: &str) -> Pool {
    site.exec_as(file, workers).key("launch", &format!("{launch:?}"))
}

/// Nothing has changed: the same workers of the same generation, by the same zygote.
struct Untouched {
    workers: Vec<u32>,
    zygote: u32,
}

impl Untouched {
    fn now(daemon: &mut Daemon) -> Untouched {
        Untouched { workers: daemon.workers("site"), zygote: zygote(daemon, &[]) }
    }

    fn holds(&self, daemon: &mut Daemon, what: &str) {
        let pool = daemon.pool("site");
        assert_eq!(pool["generation"], 1, "{what}: {pool}");
        assert!(pool["candidate"].is_null(), "{what}: {pool}");
        assert_eq!(daemon.workers("site"), self.workers, "{what}\n{}", tail(daemon));
        assert_eq!(zygote(daemon, &[]), self.zygote, "{what}\n{}", tail(daemon));
    }
}

/// What a service manager hears (sd_notify(3)).
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    /// The next word on the state; how the pools are, and what is to be kept, comes between.
    fn hear(&self) -> String {
        loop {
            let mut word = [0; 2048];
            let length = self.socket.recv(&mut word).expect("a word within the time limit");
            let word = String::from_utf8_lossy(&word[..length]).into_owned();
            if !["STATUS=", "EXTEND_TIMEOUT_USEC=", "FDSTORE"].iter().any(|other| word.starts_with(other)) {
                return word;
            }
        }
    }

    /// A reload begins, not before now, and ends.
    fn hears_a_reload(&self, what: &str) {
        let begins = self.hear();
        let at = begins.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|at| at.parse::<u64>().ok());
        assert!(at.is_some_and(|at| at > 0), "{what}: {begins:?}");
        assert_eq!(self.hear(), "READY=1", "{what}");
    }
}

/// The supervisor as a service of somebody who listens at `NOTIFY_SOCKET`.
fn under_a_service_manager(site: &Site, config: &Config) -> (Daemon, Manager) {
    let path = site.scene.join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket in the scene");
    socket.set_read_timeout(Some(SOON)).expect("a time limit");
    let mut command = Command::new(STEADFAST);
    command.arg("run").arg("-c").arg(config.write(&site.scene)).env("NOTIFY_SOCKET", path);
    (Daemon::spawn(command, &site.scene, &site.scene.join("run/control.sock")), Manager { socket })
}

/// Each mistake is refused before anything is touched, whether by the verb or by the signal, and the mended file is taken.
#[test]
fn fault_057_broken_configuration() {
    let site = Site::new();
    let config = Config::new(&[site.pool("2")]);
    let (mut daemon, manager) = under_a_service_manager(&site, &config);
    assert_eq!(manager.hear(), "READY=1");
    is_whole(&mut daemon, 2);
    let untouched = Untouched::now(&mut daemon);
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    let mut events = Follower::of(&daemon);
    let good = config.text(&site.scene);
    let broken = [
        ("a bracket is missing", good.replace("[pool.site]", "[pool.site"), "steadfast.toml:"),
        ("an unknown key", good.replace("workers =", "wrokers ="), "wrokers"),
        ("a word for a number", good.replace("workers = 2", "workers = \"two\""), "two"),
        ("a launch that is none", good.replace("\"zygote\"", "\"clone\""), "clone"),
        ("a program that is none", good.replace("/usr/bin/python3", "/usr/bin/no-such-python"), "no-such-python"),
        ("a key that zygotes do not have", format!("{good}pass = \"listen-fds\"\n"), "listen-fds"),
        ("no TOML at all", "\u{fffd}[".to_owned(), "steadfast.toml:"),
        ("another mode", good.replace("mode = \"queue\"", "mode = \"direct\""), "mode"),
    ];
    for (what, text, words) in broken {
        assert_ne!(text, good, "{what}");
        site.scene.write("steadfast.toml", &text);
        let said = daemon.verb(&["reload", "--wait", "--timeout", "20s"]);
        assert_eq!(said.code, 78, "{what}: {said:?}");
        assert!(said.stderr.contains(words), "{what}: {words:?} is not in {}", said.stderr);
        events.next("supervisor-refused", SOON);
        manager.hears_a_reload(what);
        daemon.signal(Signal::HUP);
        events.next("supervisor-refused", SOON);
        manager.hears_a_reload(what);
        untouched.holds(&mut daemon, what);
    }
    assert_eq!(site.loads().len(), 1, "{}", tail(&mut daemon));
    assert!(!daemon.event_names().iter().any(|name| name == "supervisor-reloaded"), "{}", tail(&mut daemon));
    config.write(&site.scene);
    site.reload(&mut daemon);
    manager.hears_a_reload("the mended file");
    assert_eq!(daemon.pool("site")["generation"], 2);
    conditions.end_answered(&mut daemon, 0);
    daemon.stop_idle();
}

/// A file that is not written to its end, cut at every few bytes; and one of no length, and one that is gone.
#[test]
fn fault_058_half_written_configuration() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("2"), 2);
    let untouched = Untouched::now(&mut daemon);
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    let good = Config::new(&[site.pool("2")]).text(&site.scene);
    // Up to the last line without which there is no pool. What is cut behind it, between two lines, is a whole
    // configuration to everybody who does not know the other half.
    let needed = if is_root() { "user = " } else { "listen = " };
    let end = good.find(needed).expect("it is in there");
    let cuts = (0..end).step_by(9).filter(|cut| good.is_char_boundary(*cut));
    let mut refused = 0;
    for cut in cuts {
        site.scene.write("steadfast.toml", &good[..cut]);
        let said = daemon.verb(&["reload"]);
        assert_eq!(said.code, 78, "cut after {cut} bytes: {said:?}\n{}", &good[..cut]);
        refused += 1;
    }
    assert!(refused > 20, "only {refused}");
    // In the middle of any line behind it, too.
    for (at, line) in good.match_indices('"').filter(|(at, _)| *at > end) {
        let open = good[..at].matches('"').count().is_multiple_of(2);
        if open {
            site.scene.write("steadfast.toml", &good[..at + line.len()]);
            assert_eq!(daemon.verb(&["reload"]).code, 78, "cut after {at} bytes");
        }
    }
    fs::remove_file(site.scene.join("steadfast.toml")).expect("it was written");
    let said = daemon.verb(&["reload"]);
    assert_eq!(said.code, 78, "{said:?}");
    untouched.holds(&mut daemon, "half a file");
    conditions.end_answered(&mut daemon, 0);
    let lines = daemon.event_names().len();
    assert!(lines <= 30, "B: {lines} lines\n{}", tail(&mut daemon));
    daemon.stop_idle();
}

/// What is left of a script when the disk was full.
#[test]
fn fault_058_half_written_release() {
    for launch in LAUNCHES {
        let site = Site::new();
        let mut daemon = site.start(&pool(&site, launch, "mode", "3"), 3);
        let before = daemon.workers("site");
        let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
        let whole = program("2");
        for (what, text) in [
            ("nothing", ""),
            ("half of a line", &whole[..whole.len() / 2 + 3]),
            ("half of it", &whole[..whole.find("def load").expect("it loads")]),
        ] {
            site.scene.program("zygote.py", text);
            let said = reload_fails(&mut daemon, SOON);
            assert!(said.contains("the old one serves"), "{launch}, {what}: {said}");
        }
        assert_eq!(daemon.workers("site"), before, "{launch}\n{}", tail(&mut daemon));
        assert_eq!(daemon.pool("site")["generation"], 1);
        assert_eq!(site.answers(), "1");
        // From memory the old one is whole.
        if launch == "zygote" {
            kill_one(&daemon);
            assert!(is_soon(|| daemon.workers("site") != before), "{}", tail(&mut daemon));
            is_whole(&mut daemon, 3);
            assert_eq!(site.loads().len(), 1, "{}", tail(&mut daemon));
        }
        conditions.end(&mut daemon, u64::from(launch == "zygote"));
        site.release("2");
        site.reload(&mut daemon);
        assert_eq!(site.answers(), "2");
        daemon.stop_idle();
    }
}

/// An executable of no length, which the kernel does not know how to run.
#[test]
fn fault_058_zero_length_program() {
    for launch in LAUNCHES {
        let site = Site::new();
        let start = "#!/bin/sh\nexec /usr/bin/python3 zygote.py\n";
        site.scene.program("app", start);
        let config = |site: &Site| {
            let text = Config::new(&[pool(site, launch, "mode", "3")]).text(&site.scene);
            text.replace("[\"/usr/bin/python3\", \"zygote.py\"]", "[\"./app\"]")
        };
        let file = site.scene.write("steadfast.toml", &config(&site));
        let mut command = std::process::Command::new(support::daemon::STEADFAST);
        command.arg("run").arg("-c").arg(file);
        let mut daemon = Daemon::spawn(command, &site.scene, &site.scene.join("run/control.sock"));
        daemon.wait_serving("site");
        is_whole(&mut daemon, 3);
        let before = daemon.workers("site");
        let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
        site.scene.program("app", "");
        let said = reload_fails(&mut daemon, SOON);
        assert!(said.contains("Exec format error"), "{launch}: {said}");
        assert_eq!(daemon.workers("site"), before, "{launch}\n{}", tail(&mut daemon));
        conditions.end(&mut daemon, 0);
        site.scene.program("app", start);
        site.reload(&mut daemon);
        daemon.stop_idle();
    }
}

/// The first failure, and the breaker that opens for it, name the file that is gone.
fn is_told_why(exit: &Line, daemon: &mut Daemon) {
    assert!(exit.text.contains("zygote.py") && exit.text.contains("changed on disk"), "{}", exit.text);
    let opened = daemon.wait_event("breaker-opened", SOON * 2);
    assert!(opened.text.contains("zygote.py"), "it is not said why: {}", opened.text);
}

/// Somebody tidied up: what runs runs on, and the zygote has all it needs in memory. When that goes, too, nothing comes in
/// its place, it is said why, and the next release is taken.
#[test]
fn fault_059_release_removed_under_a_zygote() {
    let site = Site::new();
    let release = site.deploy("1");
    let mut daemon = site.start(&site.pool("4").directory("current"), 4);
    let before = daemon.workers("site");
    let budget = Budget::of(&mut daemon);
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    fs::remove_dir_all(&release).expect("the scene is ours");
    let killed = kill_one(&daemon);
    assert!(proc::wait_gone(killed, SOON));
    is_whole(&mut daemon, 4);
    let after = daemon.workers("site");
    assert!(before[1..].iter().all(|pid| after.contains(pid)), "{before:?} became {after:?}\n{}", tail(&mut daemon));
    assert_eq!((site.loads().len(), site.answers()), (1, "1".to_owned()));
    // Without the zygote and its files nothing can be loaded.
    let old = zygote(&mut daemon, &[]);
    proc::kill(old, Signal::KILL).expect("a zygote of our own supervisor");
    let exit = daemon.wait("the end of a zygote without files", SOON, |line| {
        line.name() == "zygote-exited" && line.event["class"] != "killed"
    });
    is_told_why(&exit, &mut daemon);
    assert_eq!(daemon.workers("site"), after, "{}", tail(&mut daemon));
    conditions.end(&mut daemon, 1);
    budget.holds(&mut daemon);
    site.deploy("2");
    site.reload(&mut daemon);
    is_whole(&mut daemon, 4);
    assert_eq!(site.answers(), "2");
    daemon.stop_idle();
}

/// Without a zygote the first refill fails.
#[test]
fn fault_059_release_removed_under_executed_workers() {
    let site = Site::new();
    let release = site.deploy("1");
    let mut daemon = site.start(&site.exec("4").directory("current"), 4);
    let before = daemon.workers("site");
    let budget = Budget::of(&mut daemon);
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    fs::remove_dir_all(&release).expect("the scene is ours");
    let killed = kill_one(&daemon);
    let exit = daemon.wait("a failed refill", SOON, |line| {
        line.name() == "worker-exited" && line.event["pid"] != killed && line.event["class"] == "early"
    });
    is_told_why(&exit, &mut daemon);
    assert_eq!(daemon.workers("site"), before[1..], "{}", tail(&mut daemon));
    assert_eq!(daemon.pool("site")["state"], "degraded");
    conditions.end(&mut daemon, 1);
    budget.holds(&mut daemon);
    site.deploy("2");
    site.reload(&mut daemon);
    is_whole(&mut daemon, 4);
    assert_eq!(site.answers(), "2");
    daemon.stop_idle();
}

/// Counts living workers all the time, by their own word.
struct Census {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

impl Census {
    fn begin(site: Arc<Site>) -> Census {
        let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&most));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                seen.fetch_max(site.living().len(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Census { stop, most, thread }
    }

    fn most(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it counts");
        self.most.load(Ordering::Relaxed)
    }
}

/// Each deploy comes while the one before is under way: the last one wins, those before it are given up, and there are
/// never more workers than the pool and its surge.
#[test]
fn fault_060_deploy_during_deploy() {
    for launch in LAUNCHES {
        let site = Arc::new(Site::new());
        let mut daemon = site.start(&pool(&site, launch, "mode", "4"), 4);
        let census = Census::begin(Arc::clone(&site));
        let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
        let mut events = Follower::of(&daemon);
        // Whoever waits for the first one of them hears that it was not that one.
        site.release("2");
        let (directory, control) = (site.scene.path().to_path_buf(), daemon.control().display().to_string());
        let waiting = std::thread::spawn(move || {
            steadfast(&directory, &["reload", "--wait", "--timeout", "60s", "--control", &control])
        });
        events.wait("generation 2", SOON, |event| event["event"] == "generation-started" && event["generation"] == 2);
        // At every stage: before its canary is ready, as it is, in the middle of the rollout.
        for (release, stage, times) in
            [("3", "generation-started", 1), ("4", "worker-ready", 1), ("5", "worker-ready", 3)]
        {
            site.release(release);
            assert_eq!(daemon.verb(&["reload"]).code, 0);
            for _ in 0..times {
                events.wait(stage, SOON, |event| {
                    event["event"] == stage && event["generation"].as_u64() == release.parse().ok()
                });
            }
        }
        site.release("6");
        site.reload(&mut daemon);
        is_whole(&mut daemon, 4);
        let said = waiting.join().expect("it waits");
        assert_eq!(said.code, 1, "{launch}: {said:?}\n{}", tail(&mut daemon));
        assert!(said.stderr.contains("a newer reload took its place"), "{launch}: {said:?}");
        let pool = daemon.pool("site");
        assert_eq!((&pool["generation"], site.answers()), (&6.into(), "6".to_owned()), "{launch}: {pool}");
        assert!(is_soon(|| site.living().len() == 4), "{launch}: {:?} live", site.living());
        let most = census.most();
        assert_eq!(most, 5, "{launch}: {most} workers at a time");
        conditions.end_answered(&mut daemon, 0);
        let names = daemon.event_names();
        assert!(!names.iter().any(|name| name == "breaker-opened" || name == "pool-down"), "{}", tail(&mut daemon));
        // Only the way back keeps its zygote.
        let zygotes =
            || site.loads().iter().filter(|(_, pid)| proc::alive(*pid) && !site.living().contains(pid)).count();
        let most = if launch == "zygote" { 2 } else { 0 };
        assert!(is_soon(|| zygotes() <= most), "{launch}: {} zygotes live", zygotes());
        daemon.stop_idle();
        assert_eq!(site.scene.processes(), [0; 0]);
    }
}

/// A deploy in the very moment in which another one goes back.
#[test]
fn fault_060_deploy_during_rollback() {
    for launch in LAUNCHES {
        let site = Arc::new(Site::new());
        let mut daemon = site.start(&pool(&site, launch, "mode", "4"), 4);
        let census = Census::begin(Arc::clone(&site));
        let visitors = site.visitors();
        let mut events = Follower::of(&daemon);
        site.mode_as("mode-2", &json!({ "worker": "die" }));
        Config::new(&[pool(&site, launch, "mode-2", "4")]).write(&site.scene);
        assert_eq!(daemon.verb(&["reload"]).code, 0);
        events.next("generation-rolled-back", SOON * 2);
        site.release("3");
        Config::new(&[pool(&site, launch, "mode", "4")]).write(&site.scene);
        site.reload(&mut daemon);
        is_whole(&mut daemon, 4);
        let pool = daemon.pool("site");
        assert_eq!((&pool["generation"], site.answers()), (&3.into(), "3".to_owned()), "{launch}: {pool}");
        let most = census.most();
        assert!(most <= 5, "{launch}: {most} workers at a time");
        all_served(visitors, 2, &mut daemon);
        let rolled = daemon.event_names().iter().filter(|name| *name == "generation-rolled-back").count();
        assert_eq!(rolled, 1, "{launch}\n{}", tail(&mut daemon));
        daemon.stop_idle();
    }
}

/// Few failures are enough, and no start hangs for long.
fn impatient(site: &Site, launch: &str, file: &str) -> Pool {
    pool(site, launch, file, "4").key("ready-timeout", "\"3s\"").table("breaker", "failures = 3")
}

/// A site whose breaker is open: one worker of four is missing, and its successors die at once.
fn held(site: &Site, launch: &str) -> Daemon {
    let mut daemon = site.start(&impatient(site, launch, "mode"), 4);
    // The zygote's files are gone, or the worker's: what they have changed to does not run.
    site.mode(&json!({ "raise": "no database" }));
    if launch == "zygote" {
        let old = zygote(&mut daemon, &[]);
        proc::kill(old, Signal::KILL).expect("a zygote of our own supervisor");
    }
    kill_one(&daemon);
    daemon.wait_event("breaker-opened", SOON);
    daemon
}

/// A reload does not wait for the breaker, and one that is refused does not close it.
fn reload_while(launch: &str, is_half_open: bool) {
    let site = Site::new();
    let mut daemon = held(&site, launch);
    let before = daemon.workers("site");
    assert_eq!(before.len(), 3, "{}", tail(&mut daemon));
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    if is_half_open {
        // A canary that neither fails nor is ready.
        site.mode(&json!({ "worker": "hang" }));
        let is_half_open = is_within(SOON * 2, || daemon.pool("site")["breaker"]["state"] == "half-open");
        assert!(is_half_open, "{}", daemon.pool("site"));
    }
    // As broken as before: refused, and the breaker of the serving one is what it was.
    site.mode_as("mode-2", &json!({ "raise": "still no database" }));
    let breaker = |daemon: &Daemon| daemon.pool("site")["breaker"]["state"].as_str().unwrap_or_default().to_owned();
    Config::new(&[impatient(&site, launch, "mode-2")]).write(&site.scene);
    let said = reload_fails(&mut daemon, SOON);
    assert!(said.contains("still no database"), "{launch}: {said}");
    assert_ne!(breaker(&daemon), "closed", "{launch}\n{}", tail(&mut daemon));
    assert_eq!(daemon.pool("site")["generation"], 1);
    assert!(before.iter().all(|pid| proc::alive(*pid)), "{launch}\n{}", tail(&mut daemon));
    // Mended: it comes in at once, and its own breaker is closed.
    site.mode_as("mode-3", &json!({}));
    Config::new(&[impatient(&site, launch, "mode-3")]).write(&site.scene);
    site.reload(&mut daemon);
    is_whole(&mut daemon, 4);
    let status = daemon.pool("site");
    assert_eq!((&status["generation"], &status["state"]), (&3.into(), &"serving".into()), "{launch}: {status}");
    assert_eq!(status["breaker"]["failures"], 0.0, "{launch}: {status}");
    conditions.end(&mut daemon, 0);
    daemon.stop_idle();
    assert_eq!(site.scene.processes(), [0; 0]);
}

#[test]
fn fault_063_reload_while_the_breaker_is_open() {
    LAUNCHES.iter().for_each(|launch| reload_while(launch, false));
}

#[test]
fn fault_063_reload_while_the_breaker_is_half_open() {
    LAUNCHES.iter().for_each(|launch| reload_while(launch, true));
}

/// The files are those of the bad release when it is gone back: the zygote in memory still is the good one, and what has
/// to be loaded from disk is said to have changed.
#[test]
fn fault_064_rollback_target_has_changed_on_disk() {
    let site = Site::new();
    let mut daemon = site.start(&pool(&site, "zygote", "mode", "4"), 4);
    let old = zygote(&mut daemon, &[]);
    let visitors = site.visitors();
    site.release("2");
    site.mode_as("mode-2", &json!({ "worker": "die" }));
    Config::new(&[pool(&site, "zygote", "mode-2", "4")]).write(&site.scene);
    reload_fails(&mut daemon, SOON * 2);
    daemon.wait_event("generation-rolled-back", SOON);
    is_whole(&mut daemon, 4);
    let killed = kill_one(&daemon);
    assert!(proc::wait_gone(killed, SOON));
    is_whole(&mut daemon, 4);
    for _ in 0..20 {
        assert_eq!(site.answers(), "1", "{}", tail(&mut daemon));
    }
    assert_eq!(zygote(&mut daemon, &[]), old, "{}", tail(&mut daemon));
    // Only the disk is left, and it does not load.
    site.mode(&json!({ "raise": "of another release" }));
    proc::kill(old, Signal::KILL).expect("a zygote of our own supervisor");
    let exit = daemon.wait("a zygote of changed files", SOON, |line| {
        line.name() == "zygote-exited" && line.event["class"] == "early"
    });
    assert!(exit.text.contains("its files had changed on disk"), "{}", exit.text);
    let opened = daemon.wait_event("breaker-opened", SOON * 2);
    assert!(opened.text.contains("changed on disk"), "{}", opened.text);
    let status = daemon.pool("site");
    assert_eq!((&status["workers"]["serving"], &status["generation"]), (&4.into(), &1.into()), "{status}");
    all_served(visitors, 3, &mut daemon);
    daemon.stop_idle();
}

/// The same without a zygote: a worker that has to be started again is one of changed files, and charged to them.
#[test]
fn fault_064_rollback_target_has_changed_on_disk_without_a_zygote() {
    let site = Site::new();
    let mut daemon = site.start(&pool(&site, "exec", "mode", "4"), 4);
    let visitors = site.visitors();
    site.release("2");
    site.mode_as("mode-2", &json!({ "worker": "die" }));
    Config::new(&[pool(&site, "exec", "mode-2", "4")]).write(&site.scene);
    site.mode(&json!({ "raise": "of another release" }));
    reload_fails(&mut daemon, SOON * 2);
    daemon.wait_event("generation-rolled-back", SOON);
    let exit = daemon.wait("a worker of changed files", SOON, |line| {
        line.name() == "worker-exited" && line.event["class"] == "early"
    });
    assert!(exit.text.contains("its files had changed on disk"), "{}", exit.text);
    // It may have opened before that exit was written (exits are coalesced), and a trial may have failed since.
    let is_opened = |line: &Line| line.name() == "breaker-opened" && line.text.contains("changed on disk");
    assert!(is_soon(|| daemon.lines().iter().any(is_opened)), "{}", tail(&mut daemon));
    let status = daemon.pool("site");
    // At most two old ones had made room before the second of the new ones died.
    assert!(status["workers"]["serving"].as_u64() >= Some(2), "{status}");
    assert_eq!(status["generation"], 1, "{status}");
    all_served(visitors, 2, &mut daemon);
    daemon.stop_idle();
}
