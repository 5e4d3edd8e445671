//! The front is killed under load, again and again: nobody is refused, nothing runs twice, and whoever is busy for the
//! dead front is left alone.

use steadfast_harness as support;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::apps::Language;
use support::conditions::{is_soon, tail};
use support::daemon::{Config, Daemon, Pool, SOON, address};
use support::fcgi::Request;
use support::flood::{Flood, Told, kinds};
use support::proc;
use support::scene::Scene;

const TIMES: u64 = 5;
/// How long the slow ones keep their workers.
const SLOW: Duration = Duration::from_millis(1500);

fn start(scene: &Scene, workers: u64) -> Daemon {
    let log = scene.shared_file("runs");
    let pool = Pool::new("site", &Language::C.command()).queue().workers(&workers.to_string());
    let mut daemon = Config::new(&[pool.environment("COUNT_LOG", &log.display().to_string())]).start(scene);
    daemon.wait_serving("site");
    let is_whole = is_soon(|| daemon.pool("site")["workers"]["idle"] == workers);
    assert!(is_whole, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    daemon
}

/// How often each request has run, by its URI.
fn runs(scene: &Scene) -> BTreeMap<String, u64> {
    let mut runs = BTreeMap::new();
    for line in fs::read_to_string(scene.join("runs")).expect("the log is ours").lines() {
        *runs.entry(line.rsplit(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    runs
}

/// Kills the front and waits for the next one; when it was killed.
fn kill(daemon: &Daemon) -> Instant {
    let front = daemon.front();
    let at = Instant::now();
    proc::kill(front, Signal::KILL).expect("the front of our own supervisor");
    let is_other =
        is_soon(|| daemon.status()["front"]["pid"].as_u64().is_some_and(|pid| pid > 0 && pid != u64::from(front)));
    assert!(is_other, "no other front: {}", daemon.status());
    at
}

/// Half of the requests are POSTs.
fn mixed(number: u64) -> Request {
    let request = Request::get(&format!("/sleep?ms=2&number={number}"));
    if number.is_multiple_of(2) { request } else { request.body(b"order=1") }
}

/// Whoever is lost was in hand when a front died, and nobody else is.
#[test]
fn alone_a_front_killed_under_load_refuses_nobody_and_runs_nothing_twice() {
    let scene = Scene::new();
    let mut daemon = start(&scene, 4);
    let workers = daemon.workers("site");
    let threads = 16;
    let flood = Flood::start(&address(&scene, "site"), 500, threads, mixed);
    let mut kills = Vec::new();
    for _ in 0..TIMES {
        // Between two of them a second of ordinary life: the load itself is what is waited for.
        std::thread::sleep(Duration::from_secs(1));
        kills.push(kill(&daemon));
    }
    std::thread::sleep(Duration::from_secs(1));
    let all = flood.stop();
    let told = kinds(&all);
    assert!(!all.iter().any(Told::is_refused), "{told}\n{}", tail(&mut daemon));
    let bad: Vec<&Told> = all.iter().filter(|told| !told.is_good()).collect();
    for lost in &bad {
        let is_of_a_kill = kills.iter().any(|kill| lost.begun <= *kill + SOON / 10 && lost.begun + lost.took >= *kill);
        assert!(is_of_a_kill && lost.status == 0, "{lost:?}: {told}\n{}", tail(&mut daemon));
    }
    assert!(bad.len() as u64 <= TIMES * u64::from(threads), "{told}");
    let runs = runs(&scene);
    for told in &all {
        let times = runs.get(&format!("/sleep?ms=2&number={}", told.number)).copied().unwrap_or(0);
        // What was lost may have run, or not.
        assert!(times == 1 || (times == 0 && !told.is_good()), "{times} times: {told:?}");
    }
    // No worker has noticed.
    assert_eq!(daemon.workers("site"), workers, "{}", tail(&mut daemon));
    let status = daemon.status();
    assert_eq!(status["front"]["restarts"], TIMES, "{status}");
    let pool = daemon.pool("site");
    assert_eq!((&pool["breaker"]["state"], &pool["breaker"]["failures"]), (&"closed".into(), &0.0.into()), "{pool}");
    let exits = daemon.lines().iter().filter(|line| line.name() == "front-exited").count() as u64;
    assert!((1..=TIMES).contains(&exits), "{}", tail(&mut daemon));
    let slowest = all.iter().filter(|told| told.is_good()).map(|told| told.took).max().unwrap_or_default();
    eprintln!("{TIMES} kills: {told}; counted lost {}, slowest answer {slowest:?}", pool["requests"]["lost"]);
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// Two of four workers sleep for a front that dies. Until they wake, everybody is served by the other two; nobody is
/// given to one that sleeps, and would wait with it.
#[test]
fn alone_busy_workers_of_a_dead_front_get_nothing_before_they_are_free() {
    let scene = Scene::new();
    let mut daemon = start(&scene, 4);
    let at = address(&scene, "site");
    for round in 0..TIMES {
        let is_idle = is_soon(|| daemon.pool("site")["workers"]["idle"] == 4);
        assert!(is_idle, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
        let before = daemon.pool("site")["requests"]["lost"].as_u64().unwrap_or(0);
        let slow = |number: u64| {
            let uri = format!("/sleep?ms={}&slow={round}-{number}", SLOW.as_millis());
            Request::get(&uri).body(b"order=1").start(&at).expect("it listens")
        };
        let slow = [slow(1), slow(2)];
        assert!(is_soon(|| daemon.pool("site")["workers"]["busy"] == 2), "{}", daemon.pool("site"));
        let begun = Instant::now();
        kill(&daemon);
        let flood = Flood::start(&at, 100, 8, |number| Request::get(&format!("/hello?{number}")));
        for visitor in slow {
            let lost = visitor.finish();
            assert!(lost.is_err(), "its front has died: {lost:?}");
        }
        // Until they wake: that is what is watched.
        std::thread::sleep((SLOW - Duration::from_millis(300)).saturating_sub(begun.elapsed()));
        let all = flood.stop();
        let until = begun.elapsed();
        let slowest = all.iter().map(|told| told.took).max().unwrap_or_default();
        assert!(all.iter().all(Told::is_good), "{}\n{}", kinds(&all), tail(&mut daemon));
        assert!(until < SLOW, "the machine is too busy for this test: {until:?}");
        assert!(slowest < SLOW / 2, "somebody waited {slowest:?} with a worker that slept\n{}", tail(&mut daemon));
        let is_counted = is_soon(|| daemon.pool("site")["requests"]["lost"] == before + 2);
        assert!(is_counted, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    }
    assert!(is_soon(|| daemon.pool("site")["workers"]["idle"] == 4), "{}", daemon.pool("site"));
    let runs = runs(&scene);
    let slow: Vec<_> = runs.iter().filter(|(uri, _)| uri.contains("slow")).collect();
    assert!(slow.len() as u64 == 2 * TIMES && slow.iter().all(|(_, times)| **times == 1), "{slow:?}");
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// With everybody in hand or in the queue, all of that moment are lost, counted, and no more.
#[test]
fn a_dead_fronts_requests_are_counted() {
    let scene = Scene::new();
    let mut daemon = start(&scene, 2);
    let at = address(&scene, "site");
    let visitors: Vec<_> = (0..7).map(|_| Request::get("/sleep?ms=400").start(&at).expect("it listens")).collect();
    let is_full = is_soon(|| daemon.pool("site")["queue"]["length"] == 5);
    assert!(is_full, "{}", daemon.pool("site"));
    kill(&daemon);
    let lost = visitors.into_iter().map(|visitor| visitor.finish()).filter(Result::is_err).count();
    // One may have been answered before the kill.
    assert!((5..=7).contains(&lost), "{lost}");
    let counted = is_soon(|| daemon.pool("site")["requests"]["lost"] == lost);
    assert!(counted, "{lost} lost: {}\n{}", daemon.pool("site"), tail(&mut daemon));
    let exited = daemon.wait_event("front-exited", SOON);
    let message = format!("{}{}", exited.event["message"], exited.event["reason"]);
    assert!(message.contains(&lost.to_string()), "{}", exited.text);
    assert_eq!(Request::get("/hello").send(&at).expect("an answer").status, 200);
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}
