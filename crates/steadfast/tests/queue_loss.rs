//! Nothing is lost: workers die by the dozen under load, and visitors do not notice; what must not run twice never does.

use steadfast_harness as support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::apps::Language;
use support::conditions::{is_soon, tail};
use support::daemon::{Config, Daemon, Pool, SOON, address};
use support::fcgi::Request;
use support::flood::{Bench, Flood, kinds};
use support::proc;
use support::scene::Scene;

/// One worker is killed each time.
const EVERY: Duration = Duration::from_millis(200);

/// Four C workers that note each request.
fn start(scene: &Scene, log: &Path) -> Daemon {
    let pool = Pool::new("site", &Language::C.command()).queue().workers("4");
    let mut daemon = Config::new(&[pool.environment("COUNT_LOG", &log.display().to_string())]).start(scene);
    daemon.wait_serving("site");
    is_whole(&daemon, 4);
    daemon
}

fn is_whole(daemon: &Daemon, workers: u64) {
    let is_whole = is_soon(|| daemon.pool("site")["workers"]["idle"] == workers);
    assert!(is_whole, "not {workers} idle workers: {}", daemon.pool("site"));
}

/// The front tells what it has counted when it is asked, on a busy machine a little later.
fn is_counted(daemon: &Daemon, total: u64) {
    let is_counted = is_soon(|| daemon.pool("site")["requests"]["total"] == total);
    assert!(is_counted, "not {total} requests: {}", daemon.pool("site"));
}

/// For how long: STEADFAST_LONG (seconds), else shortly.
fn during() -> Duration {
    let long = std::env::var("STEADFAST_LONG").ok().and_then(|value| value.parse().ok());
    Duration::from_secs(long.unwrap_or(8))
}

/// Kills one worker after the other, whatever it does, until `is_over`; how many.
fn kill_in_turn(daemon: &Daemon, front: u32, mut is_over: impl FnMut() -> bool) -> u64 {
    let (begun, mut turns, mut kills) = (Instant::now(), 0u32, 0);
    while !is_over() {
        // The pause is the rate itself.
        std::thread::sleep((begun + EVERY * (turns + 1)).saturating_duration_since(Instant::now()));
        let mut workers: Vec<u32> =
            proc::children(daemon.pid()).into_iter().filter(|pid| *pid != front && proc::alive(*pid)).collect();
        workers.sort_unstable();
        turns += 1;
        // On a machine that is busy with something else they may come back more slowly than they die.
        if let Some(victim) = workers.get(turns as usize % workers.len().max(1)) {
            proc::kill(*victim, Signal::KILL).expect("a worker of our own supervisor");
            kills += 1;
        }
    }
    kills
}

/// What outside kills must not do.
fn assert_unblamed(pool: &Value, kills: u64) {
    let breaker = &pool["breaker"];
    assert_eq!((&breaker["state"], &breaker["failures"]), (&"closed".into(), &0.0.into()), "{pool}");
    assert_eq!(pool["quarantine"], Value::Array(Vec::new()), "{pool}");
    assert_eq!(pool["exits"]["killed"], kills, "{pool}");
    let exits = pool["exits"].as_object().into_iter().flatten();
    let others: Vec<_> = exits.filter(|(class, count)| *class != "killed" && **count != 0).collect();
    assert!(others.is_empty(), "not only killed: {others:?}: {pool}");
}

/// How often each request has run, by its URI.
fn runs(log: &Path) -> BTreeMap<String, u64> {
    let mut runs = BTreeMap::new();
    for line in fs::read_to_string(log).expect("the log is ours").lines() {
        let uri = line.rsplit(' ').next().unwrap_or_default().to_owned();
        *runs.entry(uri).or_default() += 1;
    }
    runs
}

/// A thousand a second for the same page while a worker is killed five times a second.
#[test]
fn alone_nothing_is_lost_while_workers_are_killed_five_times_a_second() {
    let scene = Scene::new();
    let log = scene.shared_file("runs");
    let mut daemon = start(&scene, &log);
    let front = daemon.front();
    let seconds = format!("{}s", during().as_secs());
    // Each takes 2 ms: half of the workers are busy at any moment.
    let load = ["--rate", "1000", "-d", &seconds, "-c", "1000"];
    let mut bench = Bench::start(&address(&scene, "site"), "/sleep?ms=2", &load);
    let kills = kill_in_turn(&daemon, front, || !bench.is_running());
    let measured = bench.finish();
    let pool = daemon.pool("site");
    // What bench itself had no time to send at its end was never asked.
    let failed = measured.failures().iter().find(|failure| failure["kind"] != "not-sent");
    assert!(failed.is_none(), "{}\n{pool}\n{}", measured.0, tail(&mut daemon));
    let asked = measured.number("/requests/ok");
    assert!(asked >= 900.0 * during().as_secs_f64(), "no thousand a second: {}", measured.0);
    is_whole(&daemon, 4);
    is_counted(&daemon, asked as u64);
    let pool = daemon.pool("site");
    assert_unblamed(&pool, kills);
    let retried = pool["requests"]["retried"].as_u64().unwrap_or(0);
    assert!(retried > 0 && retried <= kills, "{kills} kills, and nobody was busy? {pool}");
    assert_eq!((&pool["requests"]["error"], &pool["requests"]["lost"]), (&0.into(), &0.into()), "{pool}");
    assert_eq!(pool["requests"]["ok"].as_f64(), Some(asked), "{pool}");
    eprintln!("{asked} asked, {kills} kills, {retried} retried, {}", measured.0["latency_ms"]);
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// Of POSTs those in flight at a kill are told so, no other; none runs twice.
#[test]
fn alone_posts_never_run_twice_while_workers_are_killed_five_times_a_second() {
    let scene = Scene::new();
    let log = scene.shared_file("runs");
    let mut daemon = start(&scene, &log);
    let front = daemon.front();
    let flood = Flood::start(&address(&scene, "site"), 500, 32, |number| {
        Request::get(&format!("/sleep?ms=4&number={number}")).body(b"order=1")
    });
    let end = Instant::now() + during();
    let kills = kill_in_turn(&daemon, front, || Instant::now() >= end);
    let all = flood.stop();
    let (good, bad): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|told| told.is_good());
    let told = kinds(&all);
    assert!(bad.iter().all(|told| told.status == 502 && told.reason == "worker-died"), "{told}\n{}", tail(&mut daemon));
    assert!(!bad.is_empty() && bad.len() as u64 <= kills, "{kills} kills: {told}");
    let runs = runs(&log);
    for told in &good {
        assert_eq!(runs.get(&format!("/sleep?ms=4&number={}", told.number)), Some(&1), "{told:?}");
    }
    assert!(runs.values().all(|times| *times == 1), "one ran twice");
    is_whole(&daemon, 4);
    is_counted(&daemon, all.len() as u64);
    let pool = daemon.pool("site");
    assert_unblamed(&pool, kills);
    let requests = &pool["requests"];
    assert_eq!(
        (requests["ok"].as_u64(), requests["error"].as_u64()),
        (Some(good.len() as u64), Some(bad.len() as u64))
    );
    assert_eq!(requests["retried"], 0, "{pool}");
    eprintln!("{kills} kills: {told}");
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// The pid of the only worker that is busy.
fn busy(daemon: &Daemon) -> u32 {
    let mut pid = 0;
    let is_busy = is_soon(|| {
        let slots = daemon.pool("site")["slots"].as_array().cloned().unwrap_or_default();
        let busy = slots.iter().find(|slot| slot["state"] == "busy");
        pid = busy.and_then(|slot| slot["pid"].as_u64()).and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        pid != 0
    });
    assert!(is_busy, "{}", daemon.pool("site"));
    pid
}

#[test]
fn a_get_whose_worker_is_killed_runs_elsewhere_and_a_post_is_told() {
    let scene = Scene::new();
    let log = scene.shared_file("runs");
    let mut daemon = start(&scene, &log);
    let at = address(&scene, "site");

    let visitor = Request::get("/sleep?ms=700&get").start(&at).expect("it listens");
    proc::kill(busy(&daemon), Signal::KILL).expect("a worker of our own supervisor");
    let answer = visitor.finish().expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"));
    assert_eq!(runs(&log).get("/sleep?ms=700&get"), Some(&2));

    let visitor = Request::get("/sleep?ms=700&post").body(b"x").start(&at).expect("it listens");
    proc::kill(busy(&daemon), Signal::KILL).expect("a worker of our own supervisor");
    let answer = visitor.finish().expect("an answer");
    assert_eq!((answer.status, answer.header("X-Steadfast")), (502, Some("worker-died")), "{}", answer.headers);
    assert_eq!(runs(&log).get("/sleep?ms=700&post"), Some(&1));

    let exited = daemon.wait_event("worker-exited", SOON);
    assert_eq!((&exited.event["class"], &exited.event["request"]), (&"killed".into(), &"GET /sleep?ms=700&get".into()));
    is_whole(&daemon, 4);
    assert_unblamed(&daemon.pool("site"), 2);
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// A request may cost two workers, and no third one.
#[test]
fn a_get_is_tried_twice_and_no_third_time() {
    let scene = Scene::new();
    let log = scene.shared_file("runs");
    let mut daemon = start(&scene, &log);
    let visitor = Request::get("/sleep?ms=1000").start(&address(&scene, "site")).expect("it listens");
    let first = busy(&daemon);
    proc::kill(first, Signal::KILL).expect("a worker of our own supervisor");
    assert!(is_soon(|| runs(&log).get("/sleep?ms=1000") == Some(&2)), "nobody tried again");
    proc::kill(busy(&daemon), Signal::KILL).expect("a worker of our own supervisor");
    let answer = visitor.finish().expect("an answer");
    assert_eq!((answer.status, answer.header("X-Steadfast")), (502, Some("worker-died")), "{}", answer.headers);
    assert_eq!(runs(&log).get("/sleep?ms=1000"), Some(&2));
    is_whole(&daemon, 4);
    assert_unblamed(&daemon.pool("site"), 2);
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// Killed while nobody was with them: a POST on their kept connections would be lost.
#[test]
fn posts_after_idle_workers_were_killed_are_served() {
    let scene = Scene::new();
    let log = scene.shared_file("runs");
    let mut daemon = start(&scene, &log);
    let at = address(&scene, "site");
    let mut kills = 0;
    for round in 0..2 {
        // Each has served, so that the front keeps a connection to each.
        let busy: Vec<_> = (0..4).map(|_| Request::get("/sleep?ms=50").start(&at).expect("it listens")).collect();
        for visitor in busy {
            assert_eq!(visitor.finish().expect("an answer").status, 200);
        }
        for worker in daemon.workers("site").into_iter().take(3) {
            proc::kill(worker, Signal::KILL).expect("a worker of our own supervisor");
            assert!(proc::wait_gone(worker, SOON));
            kills += 1;
        }
        for number in 0..6 {
            let answer = Request::get(&format!("/hello?{round}-{number}")).body(b"x").send(&at).expect("an answer");
            assert_eq!(answer.status, 200, "{}\n{}", answer.text(), tail(&mut daemon));
        }
        is_whole(&daemon, 4);
    }
    let twice: Vec<_> = runs(&log).into_iter().filter(|(uri, times)| uri.starts_with("/hello") && *times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_unblamed(&daemon.pool("site"), kills);
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}
