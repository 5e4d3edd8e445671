//! A pool grows as fast as visitors come, and shrinks without losing one.

use steadfast_harness as support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use support::apps::Language;
use support::asleep::wakes_for_the_first_visitor;
use support::conditions::{is_soon, is_within, tail};
use support::daemon::{Config, Daemon, Pool, address};
use support::fcgi::Request;
use support::flood::{Flood, Told, kinds};
use support::proc;
use support::scene::Scene;

/// How long each of the crowd keeps its worker, milliseconds.
const WORK: u64 = 500;
/// From the first who waits on. The goal is 100 ms, and a quiet machine keeps it (the figure is printed); php-fpm needs
/// 17 s, and growth by the clock could not keep a second either.
const GROWN: Duration = Duration::from_secs(1);

/// From 2 to 20 workers, which note their starts.
fn start(scene: &Scene) -> Daemon {
    let log = scene.shared_file("starts");
    let pool = Pool::new("site", &Language::C.command())
        .queue()
        .workers("{ min = 2, max = 20, idle = \"1s\" }")
        .environment("START_LOG", &log.display().to_string());
    let mut daemon = Config::new(&[pool]).start(scene);
    daemon.wait_serving("site");
    assert!(is_soon(|| daemon.pool("site")["workers"]["idle"] == 2), "{}", daemon.pool("site"));
    daemon
}

/// Twenty at a time: how long the last of them waited for a worker of its own, and how many workers there were.
fn crowd(scene: &Scene) -> (Duration, usize) {
    let at = address(scene, "site");
    let ask = Request::get(&format!("/sleep?ms={WORK}"));
    let begun = Instant::now();
    let visitors: Vec<_> = (0..20).map(|_| ask.start(&at).expect("it listens")).collect();
    let answers: Vec<_> = visitors.into_iter().map(|visitor| visitor.finish().expect("an answer")).collect();
    let waited = begun.elapsed().saturating_sub(Duration::from_millis(WORK));
    let pids: BTreeSet<String> = answers
        .iter()
        .map(|answer| {
            assert_eq!(answer.status, 200, "{}", answer.headers);
            answer.header("X-Worker").unwrap_or_default().to_owned()
        })
        .collect();
    (waited, pids.len())
}

/// Twenty visitors at once have twenty workers, eighteen of which did not exist before.
#[test]
fn alone_two_workers_are_twenty_as_soon_as_twenty_ask() {
    let mut all = Vec::new();
    // Neighbours may spoil two of three.
    for _ in 0..3 {
        let scene = Scene::new();
        let mut daemon = start(&scene);
        let begun = proc::monotonic();
        let (waited, workers) = crowd(&scene);
        let starts = proc::starts(&scene.join("starts"));
        assert!(starts.len() <= 20, "{} were started\n{}", starts.len(), tail(&mut daemon));
        let last = starts.iter().map(|(at, _)| at.saturating_sub(begun)).max().unwrap_or(0);
        eprintln!("{workers} workers; the last started after {} ms, served after {waited:?}", last / 1_000_000);
        assert!(is_soon(|| daemon.pool("site")["requests"]["ok"] == 20), "{}", daemon.pool("site"));
        assert_eq!(daemon.pool("site")["breaker"]["failures"], 0.0);
        assert_eq!(daemon.stop(), 0);
        if waited <= GROWN && workers == 20 {
            return;
        }
        all.push((waited, workers));
    }
    panic!("it never had 20 workers within {GROWN:?}: {all:?}");
}

/// Somebody asks all the while: the workers that leave are idle ones, and nobody notices.
#[test]
fn a_pool_shrinks_again_without_a_failed_request() {
    let scene = Scene::new();
    let mut daemon = start(&scene);
    let flood = Flood::start(&address(&scene, "site"), 200, 8, |_| Request::get("/sleep?ms=3"));
    crowd(&scene);
    let grown = daemon.pool("site")["workers"]["total"].as_u64().unwrap_or(0);
    assert!(grown >= 18, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    let is_small = is_within(Duration::from_secs(30), || {
        let workers = daemon.pool("site")["workers"].clone();
        workers["total"].as_u64().is_some_and(|total| total <= 4) && workers["stopping"] == 0
    });
    let all: Vec<Told> = flood.stop();
    assert!(is_small, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    assert!(all.iter().all(Told::is_good), "{}\n{}", kinds(&all), tail(&mut daemon));
    assert!(is_soon(|| daemon.pool("site")["workers"]["total"] == 2), "not back: {}", daemon.pool("site"));
    let pool = daemon.pool("site");
    let exits: Vec<_> = pool["exits"].as_object().into_iter().flatten().filter(|(_, count)| **count != 0).collect();
    assert!(matches!(exits[..], [(class, _)] if class == "recycled"), "{exits:?}\n{}", tail(&mut daemon));
    assert_eq!((&pool["breaker"]["failures"], &pool["requests"]["lost"]), (&0.0.into(), &0.into()), "{pool}");
    eprintln!("{} asked while {grown} became 2", all.len());
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_sleeping_pool_wakes_for_the_first_visitor() {
    let scene = Scene::new();
    let mut daemon = wakes_for_the_first_visitor(&scene, Pool::new("site", &Language::C.command()).queue());
    assert!(is_soon(|| daemon.pool("site")["requests"]["ok"] == 3), "{}", daemon.pool("site"));
    assert_eq!(daemon.stop(), 0);
}
