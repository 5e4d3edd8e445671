//! Faults at the end of workers: codes, signals, core dumps, memory, zombies, and what not even SIGKILL removes.

use steadfast_harness as support;
#[path = "support/cases.rs"]
#[macro_use]
mod cases;

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use cases::{Budget, Follower, told, wait_workers};
use rustix::process::Signal;
use serde_json::Value;
use support::conditions::{Conditions, is_soon, tail};
use support::daemon::{Config, Daemon, Pool, SOON, address, is_root};
use support::fcgi::Request;
use support::scene::{Scene, allow};
use support::within::Cgroup;
use support::{apps, proc};

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn kill(pids: &[u32], signal: Signal) {
    for pid in pids {
        proc::kill(*pid, signal).expect("a worker of our own supervisor");
    }
}

/// A site of four C workers that serve.
fn site(scene: &Scene) -> Daemon {
    let mut daemon = Config::new(&[Pool::new("site", &[apps::worker()]).workers("4")]).start(scene);
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 4);
    daemon
}

/// Children of the supervisor that are dead and not buried.
fn zombies(daemon: &Daemon) -> Vec<u32> {
    let children = proc::children(daemon.pid());
    children.into_iter().filter(|pid| proc::state(*pid) == Some('Z')).collect()
}

#[test]
fn fault_043_exit_0_in_a_loop() {
    let scene = Scene::new();
    // Seen ready in select(2), which it is in for longer than the pause between two looks, then gone with 0.
    let program = scene.program("program", "#!/usr/bin/perl\nselect undef, undef, undef, 0.15;\nexit 0;\n");
    let pools = [Pool::new("good", &[apps::worker()]).workers("2"), Pool::new("site", &[text(&program)]).workers("4")];
    let mut daemon = Config::new(&pools).start(&scene);
    let begun = Instant::now();
    daemon.wait("good pool", SOON, |line| line.name() == "pool-serving" && line.event["pool"] == "good");
    let conditions = Conditions::begin(&mut daemon, &address(&scene, "good"));
    let exit = daemon.wait_event("worker-exited", SOON);
    assert_eq!((&exit.event["class"], &exit.event["code"]), (&"exited".into(), &0.into()), "{}", exit.text);
    // The repeats of the first second come as one line.
    let repeats = daemon.wait_event("worker-exited", SOON);
    assert!(repeats.event["times"].as_u64() > Some(1), "{}", repeats.text);
    // One a second for each of four slots, beyond the first two lives of each: a first failure is repaired at once.
    let most = 8.0 + 4.0 * begun.elapsed().as_secs_f64();
    let lives = daemon.pool("site")["exits"]["exited"].as_f64().unwrap_or_default();
    assert!((5.0..=most).contains(&lives), "{lives} lives in {:?}", begun.elapsed());
    let alarm = daemon.lines().iter().any(|line| {
        let is_grave = line.event["level"] == "error" || line.event["level"] == "warning";
        is_grave && line.event["pool"] == "site" && line.event["class"] == "exited"
    });
    assert!(alarm, "nobody is told\n{}", tail(&mut daemon));
    conditions.end(&mut daemon, 0);
    assert_eq!(daemon.stop(), 0);
}

/// The same before anybody saw it ready: 0 is no better than another code.
#[test]
fn fault_043_exit_0_at_start() {
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let pool = Pool::new("site", &[&apps::worker(), "--exit-at-start", "0"])
        .workers("4")
        .environment("START_LOG", &text(&log));
    let mut daemon = Config::new(&[pool]).start(&scene);
    let budget = Budget::of(&mut daemon);
    let begun = Instant::now();
    daemon.wait_event("breaker-opened", SOON);
    daemon.wait_event("breaker-half-open", SOON);
    let most = 4.0 + 4.0 * begun.elapsed().as_secs_f64();
    let starts = proc::starts(&log).len();
    assert!(starts >= 3 && starts as f64 <= most, "{starts} starts in {:?}", begun.elapsed());
    assert!(told(&mut daemon, "worker-exited", "early") >= 1, "{}", tail(&mut daemon));
    let pool = daemon.pool("site");
    assert_eq!(pool["state"], "down", "{pool}");
    assert_eq!(daemon.verb(&["status"]).code, 69);
    budget.holds(&mut daemon);
    assert_eq!(daemon.stop(), 0);
}

/// What a program gives to exit(3) is not what wait(2) tells: 256 is 0, -1 is 255, and 139 is no SIGSEGV.
#[test]
fn fault_044_exit_status_misuse() {
    let scene = Scene::new();
    let pool = |name: &str, option: &str, value: &str| Pool::new(name, &[&apps::worker(), option, value]).workers("1");
    let pools = [
        pool("over", "--exit-at-start", "256"),
        pool("minus", "--exit-at-start", "-1"),
        pool("shell", "--exit-at-start", "139"),
        pool("signal", "--die-at-start", "11"),
    ];
    let mut daemon = Config::new(&pools).start(&scene);
    daemon.wait_event("generation-started", SOON);
    for (name, code, signal) in [
        ("over", Value::from(0), Value::Null),
        ("minus", Value::from(255), Value::Null),
        ("shell", Value::from(139), Value::Null),
        ("signal", Value::Null, Value::from("SIGSEGV")),
    ] {
        let mut all = Follower::of(&daemon);
        let exit = all
            .wait(&format!("end in {name}"), SOON, |event| event["event"] == "worker-exited" && event["pool"] == name);
        assert_eq!((&exit["code"], &exit["signal"], &exit["class"]), (&code, &signal, &Value::from("early")), "{exit}");
        let last = &daemon.pool(name)["last_exit"];
        assert_eq!((&last["code"], &last["signal"]), (&code, &signal), "{last}");
    }
    assert_eq!(daemon.stop(), 0);
}

/// A small file system of its own, which can be frozen: whoever writes to it then stands in state D.
struct Frost {
    mount: PathBuf,
    is_mounted: bool,
}

impl Frost {
    fn make(scene: &Scene) -> Result<Frost, String> {
        let run = |program: &str, arguments: &[&str]| {
            let output =
                Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            if output.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
        };
        let (image, mount) = (text(&scene.write("image", "")), scene.join("mount"));
        fs::create_dir(&mount).expect("the scene is ours");
        fs::File::options()
            .write(true)
            .open(&image)
            .and_then(|file| file.set_len(64 << 20))
            .expect("the scene is ours");
        run("mkfs.ext4", &["-q", "-F", &image])?;
        run("mount", &["-o", "loop,noatime", &image, &text(&mount)])?;
        allow(&mount, 0o777);
        let frost = Frost { mount, is_mounted: true };
        frost.set("--freeze").and_then(|()| frost.set("--unfreeze"))?;
        Ok(frost)
    }

    fn set(&self, option: &str) -> Result<(), String> {
        let output = Command::new("fsfreeze").arg(option).arg(&self.mount).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(format!("fsfreeze: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(format!("fsfreeze: {error}")),
        }
    }
}

impl Drop for Frost {
    fn drop(&mut self) {
        let _thawed = self.set("--unfreeze");
        if self.is_mounted {
            // Whoever still stands in it leaves soon after the thaw.
            let unmounted = || Command::new("umount").arg(&self.mount).output();
            let _gone = is_soon(|| unmounted().is_ok_and(|output| output.status.success()));
        }
    }
}

/// A dump that takes long, by a file system that does not take it until the test allows: the worker has crashed but has
/// not ended.
#[test]
fn fault_045_slow_core_dump() {
    if !is_root() {
        cannot_here!("fault_045", "a file system can be frozen only by root");
    }
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.starts_with('|') || pattern.contains('/') {
        cannot_here!("fault_045", "core dumps go to {}, and the pattern is the whole machine's", pattern.trim());
    }
    let scene = Scene::new();
    let frost = match Frost::make(&scene) {
        Ok(frost) => frost,
        Err(reason) => cannot_here!("fault_045", "no file system that can be frozen: {reason}"),
    };
    let log = scene.shared_file("starts");
    let pool = Pool::new("site", &[apps::worker()])
        .workers("4")
        .key("rlimits", "{ core = 100000000 }")
        .environment("START_LOG", &text(&log));
    let here = format!("directory = {:?}", scene.path());
    let there = format!("directory = {:?}", frost.mount);
    let config = Config::new(&[pool]).text(&scene).replace(&here, &there);
    let file = scene.write("steadfast.toml", &config);
    let mut command = Command::new(support::daemon::STEADFAST);
    command.args(["run", "-c"]).arg(file);
    let mut daemon = Daemon::spawn(command, &scene, &scene.join("run/control.sock"));
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 4);
    frost.set("--freeze").expect("it was tried");
    let victim = daemon.workers("site")[0];
    kill(&[victim], Signal::SEGV);
    assert!(is_soon(|| proc::state(victim) == Some('D')), "it dumps no core: {:?}", proc::state(victim));
    let conditions = Conditions::begin(&mut daemon, &address(&scene, "site"));
    // The others are asked for everything meanwhile: status, a drain with its replacement.
    let other = daemon.pool("site")["slots"]
        .as_array()
        .and_then(|slots| slots.iter().find(|slot| slot["pid"] != victim).cloned())
        .expect("there are three more");
    assert_eq!(daemon.verb(&["drain", &format!("site/{}", other["slot"])]).code, 0);
    assert!(is_soon(|| proc::starts(&log).len() == 5), "the drained worker is not replaced");
    assert_eq!(proc::state(victim), Some('D'), "the dump is over too soon");
    assert!(daemon.workers("site").contains(&victim), "its slot is not its own any more");
    frost.set("--unfreeze").expect("it was frozen");
    let exit = daemon.wait_event("worker-exited", SOON);
    assert_eq!((&exit.event["class"], &exit.event["signal"]), (&"crashed".into(), &"SIGSEGV".into()), "{}", exit.text);
    wait_workers(&mut daemon, "site", 4);
    assert_eq!(proc::starts(&log).len(), 6, "one replacement for the drained worker, one for the crashed");
    conditions.end(&mut daemon, 0);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn fault_046_all_killed_at_once() {
    let scene = Scene::new();
    let mut daemon = site(&scene);
    let budget = Budget::of(&mut daemon);
    let before = daemon.workers("site");
    kill(&before, Signal::KILL);
    assert!(is_soon(|| told(&mut daemon, "worker-exited", "killed") == 4), "{}", tail(&mut daemon));
    wait_workers(&mut daemon, "site", 4);
    Request::get("/").send(&address(&scene, "site")).expect("an answer");
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    assert_eq!(pool["breaker"]["failures"], 0.0, "{pool}");
    assert_eq!(pool["exits"]["killed"], 4, "{pool}");
    assert!(daemon.workers("site").iter().all(|pid| !before.contains(pid)));
    // One event: its first is written at once, the others together.
    let lines = daemon.event_names().into_iter().filter(|name| name == "worker-exited").count();
    assert!(lines <= 2, "{lines} lines\n{}", tail(&mut daemon));
    budget.holds(&mut daemon);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn fault_047_oom_kill_of_one_worker() {
    if !is_root() {
        cannot_here!("fault_047", "a control group needs root");
    }
    // One for each: whom the kernel chooses in a group of several is its own affair, and it may choose a second one while the
    // first is not gone yet.
    let groups: Result<Vec<Cgroup>, String> = (0..4).map(|_| Cgroup::make("memory")).collect();
    let groups = match groups {
        Ok(groups) => groups,
        Err(reason) => cannot_here!("fault_047", "{reason}"),
    };
    let scene = Scene::new();
    let mut daemon = site(&scene);
    let before = daemon.workers("site");
    for (group, worker) in groups.iter().zip(&before) {
        group.limit_memory(32 << 20);
        group.take(*worker);
    }
    let conditions = Conditions::begin(&mut daemon, &address(&scene, "site"));
    Request::get("/leak?200").send(&address(&scene, "site")).expect_err("it dies of it");
    let exit = daemon.wait_event("worker-exited", SOON);
    assert_eq!(exit.event["class"], "oom", "{}", exit.text);
    wait_workers(&mut daemon, "site", 4);
    conditions.end(&mut daemon, 0);
    let left = daemon.workers("site").iter().filter(|pid| before.contains(pid)).count();
    assert_eq!(left, 3, "the others are as they were");
    // A kill from outside after it is not taken for another one.
    kill(&daemon.workers("site")[..1], Signal::KILL);
    let exit = daemon.wait_event("worker-exited", SOON);
    assert_eq!(exit.event["class"], "killed", "{}", exit.text);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    assert_eq!(daemon.stop(), 0);
}

/// The kernel's own OOM kill where a control group can be had, else the same SIGKILL by hand. The queue kept in
/// systemd's fd store needs systemd, which does not run here.
#[test]
fn fault_048_oom_kill_of_the_supervisor() {
    let scene = Scene::new();
    let mut daemon = site(&scene);
    let workers = daemon.workers("site");
    let in_flight = Request::get("/sleep?1").start(&address(&scene, "site")).expect("it is sent");
    let group = if is_root() { Cgroup::make("memory") } else { Err("not root".into()) };
    match &group {
        Ok(group) => {
            group.take(daemon.pid());
            group.limit_memory(16 << 10);
            // It needs memory for what it hears: half of a request from each of many.
            let half = vec![b' '; 60_000];
            let mut askers = Vec::new();
            let is_killed = is_soon(|| {
                if let Ok(mut asker) = UnixStream::connect(daemon.control()) {
                    let _unheard = asker.set_nonblocking(true).and_then(|()| asker.write_all(&half));
                    askers.push(asker);
                }
                !proc::alive(daemon.pid())
            });
            assert!(is_killed, "the supervisor lives on in 16 KiB");
        }
        Err(reason) => {
            support::within::skipped("fault_048", &format!("no real OOM kill, SIGKILL instead: {reason}"));
            daemon.signal(Signal::KILL);
        }
    }
    // The listener in systemd's fd store: systemd_unit.rs.
    assert_eq!(daemon.wait_exit(SOON).signal(), Some(9));
    assert_eq!(in_flight.finish().expect("the request in hand is finished").status, 200);
    for worker in workers {
        assert!(proc::wait_gone(worker, SOON), "worker {worker} is an orphan");
    }
    drop(daemon);
    // The socket files are stale, and in nobody's way.
    let mut daemon = Config::new(&[Pool::new("site", &[apps::worker()]).workers("4")]).start(&scene);
    daemon.wait_serving("site");
    Request::get("/").send(&address(&scene, "site")).expect("an answer");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(scene.processes(), [0; 0]);
}

/// All its workers, and orphans of theirs, die while the supervisor stands still.
#[test]
fn fault_049_zombies_after_a_stall() {
    let scene = Scene::new();
    let file = scene.shared_file("daemon-pid");
    let pool = Pool::new("site", &[apps::worker()]).workers("4").environment("DAEMON_PIDFILE", &text(&file));
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 4);
    for _ in 0..3 {
        Request::get("/daemon").send(&address(&scene, "site")).expect("an answer");
    }
    let orphans = || -> Vec<u32> {
        let workers = daemon.workers("site");
        proc::children(daemon.pid()).into_iter().filter(|pid| !workers.contains(pid)).collect()
    };
    assert!(is_soon(|| orphans().len() == 3), "the orphans are {:?}", orphans());
    let dying = [daemon.workers("site"), orphans()].concat();
    daemon.signal(Signal::STOP);
    assert!(is_soon(|| proc::state(daemon.pid()) == Some('T')));
    kill(&dying, Signal::KILL);
    assert!(is_soon(|| dying.iter().all(|pid| zombies(&daemon).contains(pid))), "{:?}", zombies(&daemon));
    let budget = Budget::of(&mut daemon);
    daemon.signal(Signal::CONT);
    assert!(is_soon(|| zombies(&daemon).is_empty()), "not buried: {:?}", zombies(&daemon));
    wait_workers(&mut daemon, "site", 4);
    budget.holds(&mut daemon);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    assert_eq!(daemon.stop(), 0);
}

/// State D by the freezer of the first control groups, whose members not even SIGKILL removes: a file system that
/// hangs does the same to a process, but has to be served by one.
#[test]
fn fault_050_worker_in_state_d() {
    let group = match Cgroup::make("freezer") {
        Ok(group) if group.is_first() => group,
        Ok(_) => cannot_here!("fault_050", "what the second freezer holds dies of SIGKILL"),
        Err(reason) => cannot_here!("fault_050", "{reason}"),
    };
    let scene = Scene::new();
    let mut daemon = site(&scene);
    let frozen = daemon.workers("site");
    for worker in &frozen {
        group.take(*worker);
    }
    group.freeze(true);
    assert!(is_soon(|| frozen.iter().all(|pid| proc::state(*pid) == Some('D'))), "they do not stand still");
    let budget = Budget::of(&mut daemon);
    for slot in 1..=4 {
        assert_eq!(daemon.verb(&["kill", &format!("site/{slot}")]).code, 0);
    }
    // The surge's seat is filled at once, for visitors.
    wait_workers(&mut daemon, "site", 1);
    let conditions = Conditions::begin(&mut daemon, &address(&scene, "site"));
    let mut events = Follower::of(&daemon);
    for _ in 0..4 {
        events.wait("lost worker", SOON, |event| event["class"] == "lost");
    }
    // Four are lost, but only two seats are lent: two more serve, and none after them.
    wait_workers(&mut daemon, "site", 3);
    let pool = daemon.pool("site");
    let lost = pool["slots"].as_array().map(|slots| slots.iter().filter(|slot| slot["state"] == "lost").count());
    assert_eq!(lost, Some(4), "{pool}");
    assert_eq!(pool["exits"]["lost"], 4, "{pool}");
    assert_eq!(pool["workers"]["total"], 7, "{pool}");
    conditions.end(&mut daemon, 0);
    budget.holds(&mut daemon);
    group.freeze(false);
    for worker in &frozen {
        assert!(proc::wait_gone(*worker, SOON), "SIGKILL waits for it");
    }
    wait_workers(&mut daemon, "site", 4);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(scene.processes(), [0; 0]);
}
