//! Workers killed from outside: each is replaced at once, nobody else is touched, nobody is blamed.
//!
//! Alone on the machine, also because the kernel's counter of OOM kills is the machine's: a neighbour's would explain
//! ours.

#[path = "support/cases.rs"]
mod cases;
use steadfast_harness as support;

use std::path::Path;
use std::time::{Duration, Instant};

use cases::wait_workers;
use rustix::process::Signal;
use support::conditions::{is_soon, tail};
use support::daemon::{Config, Daemon, Pool, SOON, address};
use support::fcgi::Request;
use support::scene::Scene;
use support::{apps, proc};

/// Between two kills, as long as the outage of one worker may be noticed by nobody.
const PACE: Duration = Duration::from_millis(1200);
/// Far above what it takes, also for an unoptimised binary on a busy machine; bench/crash-loop says the true median.
const MEDIAN_MAX: Duration = Duration::from_millis(50);

fn site(scene: &Scene, log: &Path) -> Daemon {
    let pool = Pool::new("site", &[apps::quiet()]).workers("4").environment("START_LOG", &log.display().to_string());
    let mut daemon = Config::new(&[pool]).start(scene);
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 4);
    daemon
}

/// When the newest process started that is not in `known`, and its pid.
fn newcomer(daemon: &mut Daemon, log: &Path, known: &[u32]) -> (u64, u32) {
    let found = || proc::starts(log).into_iter().find(|(_, pid)| !known.contains(pid));
    assert!(is_soon(|| found().is_some()), "nobody was started\n{}", tail(daemon));
    found().expect("it was there")
}

fn assert_blameless(daemon: &mut Daemon, killed: u64) {
    let pool = daemon.pool("site");
    assert_eq!(pool["state"], "serving", "{pool}\n{}", tail(daemon));
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    assert_eq!(pool["breaker"]["failures"].as_f64(), Some(0.0), "{pool}");
    assert_eq!(pool["exits"]["killed"], killed, "{pool}");
    assert!(!daemon.event_names().iter().any(|name| name == "breaker-opened" || name == "pool-down"));
}

#[test]
fn alone_a_killed_worker_is_replaced_at_once_and_no_other_is_touched() {
    let times: u64 = if std::env::var_os("STEADFAST_LONG").is_some() { 50 } else { 8 };
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let mut daemon = site(&scene, &log);
    let mut took = Vec::new();
    for round in 0..times {
        let begun = Instant::now();
        let before = daemon.workers("site");
        assert_eq!(before.len(), 4);
        let known: Vec<u32> = proc::starts(&log).iter().map(|(_, pid)| *pid).collect();
        let victim = before[usize::try_from(round % 4).expect("it is small")];
        let at = proc::monotonic();
        proc::kill(victim, Signal::KILL).expect("a worker of our own supervisor");
        let (started, pid) = newcomer(&mut daemon, &log, &known);
        took.push(Duration::from_nanos(started - at));
        // It stands in the status, ready, in the place of the dead one, and the others are who they were.
        let wanted: Vec<u32> = before.iter().map(|old| if *old == victim { pid } else { *old }).collect();
        let is_so = is_soon(|| daemon.workers("site") == wanted && daemon.pool("site")["workers"]["serving"] == 4);
        assert!(is_so, "killed {victim}, wanted {wanted:?}: {}\n{}", daemon.pool("site"), tail(&mut daemon));
        std::thread::sleep(PACE.saturating_sub(begun.elapsed()));
    }
    assert_eq!(proc::starts(&log).len() as u64, 4 + times, "somebody else was started");
    assert_blameless(&mut daemon, times);
    took.sort_unstable();
    let median = took[took.len() / 2];
    println!(
        "from the kill to the replacement's main(): median {median:?} of {times}, longest {:?}",
        took[took.len() - 1]
    );
    assert!(median < MEDIAN_MAX, "the median is {median:?}: {took:?}");
}

#[test]
fn alone_all_four_killed_at_once_are_replaced_and_the_breaker_stays_closed() {
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let mut daemon = site(&scene, &log);
    let before = daemon.workers("site");
    for pid in &before {
        proc::kill(*pid, Signal::KILL).expect("a worker of our own supervisor");
    }
    // Until it is gone a killed worker may still take a visitor with it: the kernel accepts before it kills.
    for pid in &before {
        assert!(proc::wait_gone(*pid, SOON), "{pid} has survived SIGKILL");
    }
    // Whoever comes now is answered, however short the queue was without a worker.
    let answer = Request::get("/").timeout(SOON).send(&address(&scene, "site")).expect("an answer");
    assert!(!before.contains(&answer.pid()), "a dead worker has answered");
    wait_workers(&mut daemon, "site", 4);
    let after = daemon.workers("site");
    assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?} and {after:?}");
    assert_eq!(proc::starts(&log).len(), 8);
    assert_blameless(&mut daemon, 4);
}
