//! Faults 76 to 79: clocks that jump, stand still or have counted for long, and many deadlines at once.
//!
//! The machine's own clock is never set: libfaketime shows the supervisor another wall, time namespaces another age of
//! the machine.

use steadfast_harness as support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::conditions::{Conditions, cpu, is_soon, is_within, sockets, tail, wait_children};
use support::daemon::{self, Config, Daemon, Line, Pool, SOON};
use support::fcgi::Request;
use support::scene::Scene;
use support::within::{Cgroup, inside, skipped, start_within};
use support::{apps, proc};

const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Kills one worker from outside and waits until the pool is whole again: how long that took.
fn replace_one(daemon: &mut Daemon, workers: usize) -> Duration {
    let victim = wait_children(daemon, workers)[0];
    let begun = Instant::now();
    proc::kill(victim, Signal::KILL).expect("it is there");
    assert!(proc::wait_gone(victim, SOON));
    wait_children(daemon, workers);
    begun.elapsed()
}

fn year(line: &Line) -> i64 {
    let time = line.event["time"].as_str().unwrap_or_default();
    time.get(..4).and_then(|year| year.parse().ok()).unwrap_or_else(|| panic!("no year: {}", line.text))
}

/// The wall jumps by ten years to both sides while a pool serves and while its breaker waits: neither a start too many
/// nor a wait too long. Only the times that people read follow.
#[test]
fn fault_076_wall_clock_jumps_ten_years() {
    if !Path::new(FAKETIME).exists() {
        return skipped("fault_076", "libfaketime is not installed (.ci/run does)");
    }
    let scene = Scene::new();
    let clock = scene.write("clock", "+0d\n");
    let log = scene.shared_file("starts");
    let bad = scene.join("bad");
    let worker = [apps::worker(), "--exit-while".to_owned(), bad.display().to_string()];
    let pool = Pool::new("site", &worker).workers("3").environment("START_LOG", &log.display().to_string());
    let wrapper = [
        "env".to_owned(),
        format!("LD_PRELOAD={FAKETIME}"),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    let mut daemon = start_within(&Config::new(&[pool]), &scene, &wrapper);
    let serving = daemon.wait_serving("site");
    let this_year = year(&serving);
    let conditions = Conditions::begin(&mut daemon, &daemon::address(&scene, "site"));
    for (jump, years) in [("+3652d\n", 10), ("-3652d\n", -10)] {
        scene.write("clock", jump);
        let took = replace_one(&mut daemon, 3);
        assert!(took < Duration::from_secs(2), "{jump}: {took:?}");
        let exited = daemon.wait_event("worker-exited", SOON);
        assert!((year(&exited) - this_year - years).abs() <= 1, "the wall has not jumped: {}", exited.text);
    }
    conditions.end(&mut daemon, 2);

    scene.write("bad", "3");
    let workers = wait_children(&mut daemon, 3);
    for pid in workers {
        proc::kill(pid, Signal::SEGV).expect("it is there");
    }
    daemon.wait_event("breaker-opened", Duration::from_secs(30));
    let starts = proc::starts(&log).len();
    scene.write("clock", "+3652d\n");
    assert!(!is_within(Duration::from_millis(1500), || proc::starts(&log).len() > starts + 1), "a burst of starts");
    scene.write("clock", "-3652d\n");
    fs::remove_file(&bad).expect("it is there");
    // The next trial comes 5 s after the breaker opened, and serves whoever has been waiting.
    let address = daemon::address(&scene, "site");
    Request::get("/").timeout(Duration::from_secs(8)).send(&address).expect("S");
    assert_ne!(daemon.pool("site")["state"], "down");
    assert_eq!(daemon.stop(), 0);
}

/// After eight hours of suspension BOOTTIME is eight hours ahead of MONOTONIC, by which everything is decided.
#[test]
fn fault_077_after_a_suspension_of_eight_hours() {
    let options = ["--time", "--monotonic", "0", "--boottime", "28800"].map(str::to_owned).to_vec();
    if inside("fault_077_after_a_suspension_of_eight_hours", &[("8 h", options)]).is_none() {
        return;
    }
    let ahead = || {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec;
        boot - rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec
    };
    assert!(ahead() >= 28_799, "BOOTTIME is only {} s ahead", ahead());
    lives_well();
}

/// A pause of the whole site by the freezer, longer than the deadlines that wait: MONOTONIC runs on, as it does not in
/// a suspension, so this is the harder case. Nobody is killed for it, and the supervisor says that it was late.
#[test]
fn fault_077_paused_beyond_all_deadlines() {
    let cgroup = match Cgroup::make("freezer") {
        Ok(cgroup) => cgroup,
        Err(why) => return skipped("fault_077", &why),
    };
    let scene = Scene::new();
    // Its start takes 1.5 s of a running machine, in steps: what a pause takes from it is missing afterwards.
    let text = format!("#!/bin/sh\nfor i in 1 2 3 4 5; do sleep 0.3; done\nexec {}\n", apps::worker());
    let worker = scene.program("slow", &text).display().to_string();
    let pool =
        Pool::new("site", &[worker]).workers("3").key("ready-timeout", "\"2500ms\"").key("stop-timeout", "\"2s\"");
    let mut daemon = start_within(&Config::new(&[pool]), &scene, &cgroup.wrapper());
    daemon.wait_serving("site");
    assert!(is_soon(|| daemon.pool("site")["workers"]["serving"] == 3), "{}", tail(&mut daemon));
    let before: Vec<_> = wait_children(&mut daemon, 3).into_iter().map(|pid| (pid, sockets(pid))).collect();
    let address = daemon::address(&scene, "site");
    let in_flight = Request::get("/sleep?1").start(&address).expect("it is taken");
    let is_busy = |(pid, before): &(u32, usize)| sockets(*pid) > *before;
    assert!(is_soon(|| before.iter().any(is_busy)));
    let idle = before.iter().find(|worker| !is_busy(worker)).expect("two are idle").0;
    proc::kill(idle, Signal::KILL).expect("it is there");
    assert!(proc::wait_gone(idle, SOON));
    let during = wait_children(&mut daemon, 3);
    cgroup.freeze(true);
    let pid = daemon.pid();
    assert!(!is_within(Duration::from_secs(3), || !proc::alive(pid)));
    cgroup.freeze(false);
    daemon.wait_event("supervisor-late", SOON);
    assert_eq!(in_flight.finish().expect("its worker lives").status, 200);
    assert!(is_soon(|| daemon.pool("site")["workers"]["serving"] == 3), "{}", tail(&mut daemon));
    assert_eq!(wait_children(&mut daemon, 3), during, "somebody was judged for the pause\n{}", tail(&mut daemon));
    let pool = daemon.pool("site");
    assert_eq!(pool["state"], "serving", "{pool}");
    assert!(!daemon.event_names().iter().any(|name| name == "worker-killed"), "{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0);
}

/// The machine's age passes 2^31 ms, 2^32 ms and 497 days (2^32 ticks of 10 ms) while the supervisor runs. What the
/// policy itself counts begins at its start; its own limits are the simulator's.
#[test]
fn fault_078_uptime_passes_its_limits() {
    let ages = [("2^31 ms", 2_147_483_u64), ("2^32 ms", 4_294_967), ("497 d", 42_949_672)];
    let now = || proc::monotonic() / 1_000_000_000;
    let case = ages.iter().find_map(|(case, age)| {
        // In the second run the age is there already, and this not used.
        let offset = age.saturating_sub(now() + 3).to_string();
        let options = ["--time", "--monotonic", &offset, "--boottime", &offset];
        inside("fault_078_uptime_passes_its_limits", &[(case, options.map(str::to_owned).to_vec())])
    });
    let Some(case) = case else {
        return;
    };
    let age = ages.iter().find(|(name, _)| *name == case).expect("one of ours").1;
    assert!(now() < age, "the limit has passed before the supervisor starts: {} s", now());
    lives_well_across(|| now() > age);
}

fn lives_well() {
    let mut looks = 0;
    lives_well_across(|| {
        looks += 1;
        looks > 1
    });
}

/// Repairs, deadlines and rest, before something has passed and after: at their usual pace.
fn lives_well_across(passed: impl FnMut() -> bool) {
    let scene = Scene::new();
    let worker = [apps::worker(), "--ignore-term".to_owned()];
    let pool = Pool::new("site", &worker).workers("3").key("stop-timeout", "\"1s\"");
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_serving("site");
    let conditions = Conditions::begin(&mut daemon, &daemon::address(&scene, "site"));
    assert!(replace_one(&mut daemon, 3) < Duration::from_secs(2));
    assert!(is_soon(passed));
    for _ in 0..3 {
        assert!(replace_one(&mut daemon, 3) < Duration::from_secs(2));
    }
    assert_eq!(daemon.verb(&["status"]).code, 0);
    conditions.end(&mut daemon, 4);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    let begun = Instant::now();
    assert_eq!(daemon.stop(), 0);
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(5), "the deadline of 1 s came at {took:?}");
    assert_eq!(scene.processes(), Vec::<u32>::new());
}

/// Sixty workers deaf to TERM have one deadline. A million deadlines at once are the simulator's; here it shows that
/// the supervisor answers its operator all the while, and that the work does not grow with the number squared.
#[test]
fn fault_079_many_deadlines_at_once() {
    let scene = Scene::new();
    let worker = [apps::worker(), "--ignore-term".to_owned()];
    let pool = Pool::new("many", &worker).workers("60").key("stop-timeout", "\"1s\"");
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_serving("many");
    wait_children(&mut daemon, 60);
    assert!(is_soon(|| daemon.pool("many")["workers"]["starting"] == 0), "{}", tail(&mut daemon));
    let used = cpu(daemon.pid());
    let begun = Instant::now();
    assert_eq!(daemon.verb(&["stop", "many"]).code, 0);
    let mut slowest = Duration::ZERO;
    let gone = is_soon(|| {
        let asked = Instant::now();
        let left = daemon.pool("many")["workers"]["total"].as_u64();
        slowest = slowest.max(asked.elapsed());
        left == Some(0)
    });
    let took = begun.elapsed();
    assert!(gone, "{}", tail(&mut daemon));
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(4), "the deadline of 1 s came at {took:?}");
    assert!(slowest < Duration::from_secs(1), "the operator waited {slowest:?}");
    let used = cpu(daemon.pid()).saturating_sub(used);
    assert!(used < Duration::from_secs(1), "{used:?} of a core for 60 ends");
    assert!(support::conditions::own_lines(&mut daemon) <= 30, "{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0);
    assert_eq!(scene.processes(), Vec::<u32>::new());
}
