//! Faults of signals: storms, races between them, standing still, pipes without readers, and what was inherited.

use steadfast_harness as support;
#[path = "support/cases.rs"]
#[macro_use]
mod cases;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cases::{Budget, Follower, wait_workers};
use rustix::process::Signal;
use steadfast_proto::control::{Request as Order, encode_request};
use support::conditions::{Conditions, is_soon, tail};
use support::daemon::{Config, Daemon, Pool, SOON, STEADFAST, address, steadfast};
use support::fcgi::Request;
use support::scene::Scene;
use support::within::start_within;
use support::{apps, proc};

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn site(scene: &Scene, arguments: &[&str], workers: &str) -> Daemon {
    let worker = apps::worker();
    let command = [&[worker.as_str()], arguments].concat();
    let pool = Pool::new("site", &command).workers(workers);
    let mut daemon = Config::new(&[pool]).start(scene);
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", workers.parse().expect("a number"));
    daemon
}

/// How often an event has been written.
fn times(daemon: &mut Daemon, name: &str) -> usize {
    daemon.event_names().into_iter().filter(|event| event == name).count()
}

#[test]
fn fault_051_term_storm() {
    let scene = Scene::new();
    // A graceful stop of these would take the ten seconds of stop-timeout.
    let mut daemon = site(&scene, &["--ignore-term"], "4");
    let begun = Instant::now();
    for _ in 0..100_000 {
        // A zombie takes signals too: it is our child, and buried only below.
        proc::kill(daemon.pid(), Signal::TERM).expect("our child");
    }
    let status = daemon.wait_exit(SOON);
    let took = begun.elapsed();
    assert_eq!(status.code(), Some(0), "{status:?}\n{}", tail(&mut daemon));
    assert!(took < Duration::from_secs(4), "the second TERM did not make it fast: {took:?}");
    assert_eq!(times(&mut daemon, "supervisor-stopping"), 1, "{}", tail(&mut daemon));
    assert_eq!(times(&mut daemon, "supervisor-stopped"), 1, "{}", tail(&mut daemon));
    let lines = daemon.lines().len();
    assert!(lines <= 30, "B: {lines} lines\n{}", tail(&mut daemon));
    assert_eq!(scene.processes(), [0; 0]);
}

/// A storm of what has no meaning, with visitors: it is heard, said once in a while, and nothing else.
#[test]
fn fault_051_storm_of_a_signal_without_meaning() {
    let scene = Scene::new();
    let mut daemon = site(&scene, &[], "4");
    let conditions = Conditions::begin(&mut daemon, &address(&scene, "site"));
    let spent = support::conditions::cpu(daemon.pid());
    for _ in 0..20_000 {
        daemon.signal(Signal::USR1);
    }
    // Whoever makes a storm pays for it: it coalesces, and one answer costs little.
    let spent = support::conditions::cpu(daemon.pid()).saturating_sub(spent);
    assert!(spent < Duration::from_secs(1), "B: {spent:?} of processor time for 20,000 signals");
    let lines = daemon.lines().len();
    assert!(lines <= 30, "B: {lines} lines\n{}", tail(&mut daemon));
    assert_eq!(daemon.pool("site")["workers"]["serving"], 4);
    drop(conditions);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn fault_052_hup_during_reload() {
    let scene = Scene::new();
    let mut daemon = site(&scene, &[], "2");
    let conditions = Conditions::begin(&mut daemon, &address(&scene, "site"));
    let mut events = Follower::of(&daemon);
    daemon.signal(Signal::HUP);
    events.wait("generation 2", SOON, |event| event["event"] == "generation-started" && event["generation"] == 2);
    for _ in 0..50 {
        daemon.signal(Signal::HUP);
    }
    // They coalesce: the last one counts, and what it started comes to its end.
    let serving = daemon.wait_event("generation-serving", Duration::from_secs(30));
    let last = serving.event["generation"].as_u64().expect("a number");
    assert!(last >= 3, "a HUP during a reload is lost: {}", serving.text);
    wait_workers(&mut daemon, "site", 2);
    let is_all = is_soon(|| {
        let pool = daemon.pool("site");
        let slots = pool["slots"].as_array().cloned().unwrap_or_default();
        pool["state"] == "serving"
            && pool["generation"] == last
            && slots.iter().all(|slot| slot["pid"].is_null() || slot["generation"] == last)
    });
    assert!(is_all, "{}", daemon.pool("site"));
    conditions.end(&mut daemon, 0);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn fault_052_term_wins_over_hup() {
    let scene = Scene::new();
    let mut daemon = site(&scene, &[], "2");
    let in_flight = Request::get("/sleep?1").start(&address(&scene, "site")).expect("it is sent");
    daemon.signal(Signal::HUP);
    daemon.signal(Signal::TERM);
    daemon.wait_event("supervisor-stopping", SOON);
    daemon.signal(Signal::HUP);
    assert_eq!(in_flight.finish().expect("it is answered").status, 200);
    assert_eq!(daemon.wait_exit(SOON).code(), Some(0));
    assert_eq!(times(&mut daemon, "supervisor-stopping"), 1);
    // The one that came first may have begun a generation, the one that came after it not.
    let third = daemon.lines().iter().any(|line| line.event["generation"].as_u64() > Some(2));
    assert!(!third, "{}", tail(&mut daemon));
    assert_eq!(scene.processes(), [0; 0]);
}

#[test]
fn fault_052_second_term_is_fast() {
    let scene = Scene::new();
    let mut daemon = site(&scene, &[], "2");
    let in_flight = Request::get("/sleep?60").start(&address(&scene, "site")).expect("it is sent");
    let begun = Instant::now();
    daemon.signal(Signal::TERM);
    daemon.wait_event("supervisor-stopping", SOON);
    assert!(!proc::wait_gone(daemon.pid(), Duration::from_millis(300)), "the first one is patient");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(SOON).code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    in_flight.finish().expect_err("nobody is left to answer");
    assert_eq!(scene.processes(), [0; 0]);
}

#[test]
fn fault_053_two_hundred_exits_at_once() {
    const MANY: u64 = 200;
    let scene = Scene::new();
    let pool = Pool::new("site", &[apps::quiet()]).workers("200");
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait("pool-serving", Duration::from_secs(60), |line| line.name() == "pool-serving");
    wait_workers(&mut daemon, "site", MANY);
    let before = daemon.workers("site");
    let lines = daemon.lines().len();
    // Stopped, so that all their SIGCHLD become one.
    daemon.signal(Signal::STOP);
    for pid in &before {
        proc::kill(*pid, Signal::KILL).expect("a worker of our own supervisor");
    }
    assert!(is_soon(|| before.iter().all(|pid| proc::state(*pid) == Some('Z'))));
    daemon.signal(Signal::CONT);
    assert!(is_soon(|| before.iter().all(|pid| proc::state(*pid).is_none())), "some are not buried");
    wait_workers(&mut daemon, "site", MANY);
    let pool = daemon.pool("site");
    assert_eq!(pool["exits"]["killed"], MANY, "{}", pool["exits"]);
    assert_eq!(pool["breaker"]["state"], "closed");
    assert!(daemon.lines().len() - lines <= 30, "B\n{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0);
}

/// Three seconds instead of sixty, against deadlines of two: what counts is that they have passed meanwhile. One pool's
/// workers are starting, one worker is finishing a request before it leaves, the others serve.
#[test]
fn fault_054_supervisor_stands_still() {
    const STILL: Duration = Duration::from_secs(3);
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let pools = [
        Pool::new("site", &[apps::worker()]).workers("2").key("stop-timeout", "\"2s\""),
        Pool::new("late", &[&apps::worker(), "--slow-start", "1"])
            .workers("2")
            .key("ready-timeout", "\"2s\"")
            .environment("START_LOG", &text(&log)),
    ];
    let mut daemon = Config::new(&pools).start(&scene);
    daemon.wait("site", SOON, |line| line.name() == "pool-serving" && line.event["pool"] == "site");
    let in_flight = Request::get("/sleep?2.5").start(&address(&scene, "site")).expect("it is sent");
    assert!(is_soon(|| proc::starts(&log).len() == 2));
    for slot in ["site/1", "site/2"] {
        assert_eq!(daemon.verb(&["drain", slot]).code, 0);
    }
    daemon.signal(Signal::STOP);
    // This is the fault itself and waits for nothing.
    thread::sleep(STILL);
    let budget = Budget::of(&mut daemon);
    daemon.signal(Signal::CONT);
    assert_eq!(in_flight.finish().expect("it is answered").status, 200);
    wait_workers(&mut daemon, "late", 2);
    wait_workers(&mut daemon, "site", 2);
    Request::get("/").send(&address(&scene, "late")).expect("an answer");
    budget.holds(&mut daemon);
    let killed = times(&mut daemon, "worker-killed") + times(&mut daemon, "worker-exited");
    assert_eq!(killed, 0, "a standstill is nobody's fault\n{}", tail(&mut daemon));
    assert_eq!(proc::starts(&log).len(), 2, "somebody was started again");
    assert_eq!(daemon.stop(), 0);
}

/// A supervisor whose log nobody reads any more.
struct Unread {
    child: Child,
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Both fail only when it has been waited for already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn fault_055_log_without_a_reader() {
    let scene = Scene::new();
    let file = Config::new(&[Pool::new("site", &[apps::worker()]).workers("2")]).write(&scene);
    let control = text(&scene.join("run/control.sock"));
    let mut child = Command::new(STEADFAST)
        .args(["run", "-c", &text(&file)])
        .current_dir(scene.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("steadfast runs");
    let mut first = [0_u8; 1];
    let mut stderr = child.stderr.take().expect("it is a pipe");
    stderr.read_exact(&mut first).expect("it says that it starts");
    let mut unread = Unread { child };
    drop(stderr);
    let serving = || {
        let said = steadfast(scene.path(), &["status", "--json", "--control", &control]);
        let status: serde_json::Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        status["pools"][0].clone()
    };
    assert!(is_soon(|| serving()["workers"]["serving"] == 2), "{}", serving());
    // Each of these ends is worth a line, to which nobody listens.
    for round in 1..=3 {
        let pid = serving()["slots"][0]["pid"].as_u64().expect("a pid");
        proc::kill(u32::try_from(pid).expect("pids are small"), Signal::KILL).expect("its worker");
        let is_replaced = is_soon(|| {
            let pool = serving();
            pool["workers"]["serving"] == 2 && pool["exits"]["killed"] == round
        });
        assert!(is_replaced, "{}", serving());
    }
    Request::get("/").send(&address(&scene, "site")).expect("an answer");
    proc::kill(unread.child.id(), Signal::TERM).expect("our child");
    assert!(proc::wait_gone(unread.child.id(), SOON));
    assert_eq!(unread.child.wait().expect("our child").code(), Some(0));
}

#[test]
fn fault_055_control_clients_that_go_away() {
    let scene = Scene::new();
    let mut daemon = site(&scene, &[], "2");
    let conditions = Conditions::begin(&mut daemon, &address(&scene, "site"));
    let orders = [
        Order::Status { pool: None },
        Order::Events { n: 100, follow: true, pool: None },
        Order::Reload { pool: None, wait: true, timeout_ms: None },
    ];
    for round in 0..60 {
        let mut client = UnixStream::connect(daemon.control()).expect("it listens");
        let bytes = encode_request(&orders[round % 2]);
        // Gone before the answer, some of them in the middle of the question.
        let length = if round % 5 == 0 { bytes.len() / 2 } else { bytes.len() };
        client.write_all(&bytes[..length]).expect("it is read");
    }
    let mut client = UnixStream::connect(daemon.control()).expect("it listens");
    client.write_all(&encode_request(&orders[2])).expect("it is read");
    daemon.wait("generation 2", SOON, |line| line.name() == "generation-started" && line.event["generation"] == 2);
    drop(client);
    // What they ordered goes on without them.
    daemon.wait_event("generation-serving", Duration::from_secs(30));
    assert_eq!(daemon.status()["phase"], "running");
    conditions.end(&mut daemon, 0);
    assert_eq!(daemon.stop(), 0);
}

/// As from a shell with `trap ''`, from nohup, and from a parent that blocks everything.
#[test]
fn fault_056_inherited_signals() {
    const LAUNCHER: &str = "use POSIX; $SIG{$_} = 'IGNORE' for qw(HUP INT QUIT TERM CHLD PIPE USR1 USR2 ALRM); \
        my $all = POSIX::SigSet->new; $all->fillset; sigprocmask(SIG_BLOCK, $all); exec @ARGV; die $!";
    let scene = Scene::new();
    let config = Config::new(&[Pool::new("site", &[apps::quiet()]).workers("2")]);
    let wrapper = ["/usr/bin/perl", "-e", LAUNCHER].map(str::to_owned);
    let mut daemon = start_within(&config, &scene, &wrapper);
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 2);
    let none = Some("0".repeat(16));
    for worker in daemon.workers("site") {
        for field in ["SigBlk", "SigIgn"] {
            assert_eq!(proc::status_field(worker, field), none, "{field} of a worker");
        }
    }
    // An ignored CHLD would have the kernel bury the dead before anybody could ask how they died.
    let victim = daemon.workers("site")[0];
    proc::kill(victim, Signal::TERM).expect("a worker of our own supervisor");
    let exit = daemon.wait_event("worker-exited", SOON);
    assert_eq!(exit.event["signal"], "SIGTERM", "{}", exit.text);
    wait_workers(&mut daemon, "site", 2);
    daemon.signal(Signal::HUP);
    daemon.wait("generation 2", SOON, |line| line.name() == "generation-started" && line.event["generation"] == 2);
    assert_eq!(daemon.stop(), 0);
}
