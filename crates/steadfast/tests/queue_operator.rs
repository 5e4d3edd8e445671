//! What an operator does to a pool under load, and what workers do of their own: visitors do not notice any of it.

use steadfast_harness as support;

use std::collections::BTreeMap;
use std::fs;

use support::apps::{self, Language};
use support::conditions::{is_soon, tail};
use support::daemon::{Config, Daemon, Pool, SOON, address, socket};
use support::fcgi::Request;
use support::flood::{Flood, Told, kinds};
use support::proc;
use support::scene::Scene;

fn pool(scene: &Scene) -> Pool {
    let log = scene.shared_file("runs");
    let pool = Pool::new("site", &Language::C.command()).queue();
    pool.environment("COUNT_LOG", &log.display().to_string())
}

fn start(scene: &Scene, pool: Pool) -> Daemon {
    start_with(scene, pool, 4)
}

fn start_with(scene: &Scene, pool: Pool, workers: u64) -> Daemon {
    let mut daemon = Config::new(&[pool.workers(&workers.to_string())]).start(scene);
    daemon.wait_serving("site");
    is_whole(&mut daemon, workers);
    daemon
}

fn is_whole(daemon: &mut Daemon, workers: u64) {
    let is_whole = is_soon(|| {
        let now = daemon.pool("site")["workers"].clone();
        now["serving"] == workers && now["total"] == workers
    });
    assert!(is_whole, "not {workers} workers: {}\n{}", daemon.pool("site"), tail(daemon));
}

/// Each request has a number; every second is a POST, which must not run twice and must not fail either.
fn flood(scene: &Scene, rate: u32) -> Flood {
    Flood::start(&address(scene, "site"), rate, 16, |number| {
        let request = Request::get(&format!("/sleep?ms=2&number={number}"));
        if number.is_multiple_of(2) { request } else { request.body(b"order=1") }
    })
}

/// All were answered by workers, and each ran once.
fn assert_served(scene: &Scene, all: &[Told], daemon: &mut Daemon) {
    assert!(all.iter().all(Told::is_good), "{}\n{}\n{}", kinds(all), daemon.pool("site"), tail(daemon));
    assert_runs(scene, all);
    let pool = daemon.pool("site");
    assert_eq!((&pool["breaker"]["state"], &pool["breaker"]["failures"]), (&"closed".into(), &0.0.into()), "{pool}");
}

fn assert_runs(scene: &Scene, all: &[Told]) {
    let text = fs::read_to_string(scene.join("runs")).expect("the log is ours");
    let mut runs = BTreeMap::<&str, u64>::new();
    for line in text.lines() {
        *runs.entry(line.rsplit(' ').next().unwrap_or_default()).or_default() += 1;
    }
    for told in all.iter().filter(|told| told.is_good()) {
        let times = runs.get(format!("/sleep?ms=2&number={}", told.number).as_str());
        assert_eq!(times, Some(&1), "{told:?}");
    }
}

/// Waits until so many more requests were answered.
fn served(daemon: &Daemon, more: u64) -> bool {
    let total = |daemon: &Daemon| daemon.pool("site")["requests"]["ok"].as_u64().unwrap_or(0);
    let before = total(daemon);
    is_soon(|| total(daemon) >= before + more)
}

#[test]
fn a_reload_under_load_loses_nothing() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool(&scene));
    let flood = flood(&scene, 300);
    for generation in 2..=4 {
        let before = daemon.workers("site");
        let said = daemon.verb(&["reload", "site", "--wait"]);
        assert_eq!(said.code, 0, "{said:?}\n{}", tail(&mut daemon));
        assert_eq!(daemon.pool("site")["generation"], generation);
        assert!(is_soon(|| daemon.workers("site").iter().all(|pid| !before.contains(pid))), "{}", daemon.pool("site"));
    }
    let all = flood.stop();
    assert_served(&scene, &all, &mut daemon);
    eprintln!("{} served", all.len());
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn workers_that_are_recycled_after_so_many_requests_lose_none() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool(&scene).key("max-requests", "50"));
    let flood = flood(&scene, 400);
    assert!(served(&daemon, 1600), "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    let all = flood.stop();
    assert_served(&scene, &all, &mut daemon);
    is_whole(&mut daemon, 4);
    let pool = daemon.pool("site");
    let recycled = pool["exits"]["recycled"].as_u64().unwrap_or(0);
    let most = all.len() as u64 / 45;
    assert!(recycled >= most / 3 && recycled <= most, "{} served: {pool}", all.len());
    eprintln!("{} served by {recycled} lives", all.len());
    assert_eq!(daemon.stop(), 0);
}

/// As php-cgi does it: after its last answer the worker ends with 0, in the middle of a kept connection.
#[test]
fn workers_that_leave_by_themselves_after_so_many_requests_lose_no_get() {
    let scene = Scene::new();
    let command = [apps::worker(), "--exit0-after".to_owned(), "50".to_owned()];
    let mut daemon = start(&scene, Pool::new("site", &command).queue());
    let flood = Flood::start(&address(&scene, "site"), 400, 16, |number| {
        let request = Request::get(&format!("/sleep?0.002&{number}"));
        if number.is_multiple_of(2) { request } else { request.body(b"order=1") }
    });
    assert!(served(&daemon, 1600), "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    let all = flood.stop();
    // A POST that is written to a worker that is just leaving may have run, as far as anybody can tell.
    let (lost, good): (Vec<&Told>, Vec<&Told>) = all.iter().partition(|told| !told.is_good());
    let is_told = |told: &&Told| !told.number.is_multiple_of(2) && told.reason == "worker-died";
    assert!(lost.iter().all(is_told), "{}\n{}\n{}", kinds(&all), daemon.pool("site"), tail(&mut daemon));
    assert!(lost.len() <= good.len() / 50 / 2, "{}", kinds(&all));
    is_whole(&mut daemon, 4);
    let pool = daemon.pool("site");
    // A request that was written to a worker which had left already was in its hand, as far as anybody can tell.
    let lives = ["recycled", "exited"].iter().filter_map(|class| pool["exits"][class].as_u64()).sum::<u64>();
    assert!(lives >= all.len() as u64 / 50 - 4, "{pool}");
    assert_eq!((&pool["breaker"]["state"], &pool["quarantine"]), (&"closed".into(), &serde_json::json!([])), "{pool}");
    eprintln!("{} by {lives} lives, {} retried", kinds(&all), pool["requests"]["retried"]);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn scale_and_drain_under_load_lose_nothing() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool(&scene));
    let flood = flood(&scene, 300);
    for workers in [8, 2, 4] {
        let said = daemon.verb(&["scale", "site", &workers.to_string()]);
        assert_eq!(said.code, 0, "{said:?}");
        is_whole(&mut daemon, workers);
        assert!(served(&daemon, 50), "{}", daemon.pool("site"));
    }
    for _ in 0..3 {
        let pool = daemon.pool("site");
        let slot = pool["slots"].as_array().and_then(|slots| slots.last()).expect("there are four");
        let pid = slot["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("it runs");
        let said = daemon.verb(&["drain", &format!("site/{}", slot["slot"])]);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(proc::wait_gone(pid, SOON), "{pid} stays\n{}", tail(&mut daemon));
        is_whole(&mut daemon, 4);
        assert!(served(&daemon, 50), "{}", daemon.pool("site"));
    }
    let all = flood.stop();
    assert_served(&scene, &all, &mut daemon);
    eprintln!("{} served", all.len());
    assert_eq!(daemon.stop(), 0);
}

/// `kill` does not ask: what the worker has in hand is another's if it may run twice, and else it is told.
#[test]
fn kill_under_load_costs_at_most_the_post_in_hand() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool(&scene));
    let flood = flood(&scene, 300);
    for _ in 0..5 {
        let pool = daemon.pool("site");
        let slot = pool["slots"].as_array().and_then(|slots| slots.first()).expect("there are four");
        let pid = slot["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("it runs");
        let said = daemon.verb(&["kill", &format!("site/{}", slot["slot"])]);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(proc::wait_gone(pid, SOON), "{pid} stays\n{}", tail(&mut daemon));
        is_whole(&mut daemon, 4);
    }
    let all = flood.stop();
    let bad: Vec<_> = all.iter().filter(|told| !told.is_good()).collect();
    let is_told = |told: &&Told| told.number % 2 == 1 && told.reason == "worker-died";
    assert!(bad.len() <= 5 && bad.iter().all(is_told), "{}\n{}", kinds(&all), tail(&mut daemon));
    let pool = daemon.pool("site");
    assert_eq!((&pool["exits"]["stopped"], &pool["breaker"]["failures"]), (&5.into(), &0.0.into()), "{pool}");
    assert_eq!(pool["quarantine"], serde_json::json!([]), "{pool}");
    assert_eq!(daemon.stop(), 0);
}

/// Everybody whose connection was taken is answered; who comes later finds nobody.
#[test]
fn a_stop_under_load_answers_all_who_came_before() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool(&scene));
    let flood = flood(&scene, 300);
    assert!(served(&daemon, 100));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    let all = flood.stop();
    let (good, bad): (Vec<Told>, Vec<Told>) = all.into_iter().partition(Told::is_good);
    assert!(bad.iter().all(Told::is_refused), "{}, {}", kinds(&good), kinds(&bad));
    assert_runs(&scene, &good);
    assert!(!socket(&scene, "site").exists());
    assert_eq!(scene.processes(), [0; 0], "left behind");
    eprintln!("{} served, {} came too late", good.len(), bad.len());
}

/// `stop POOL` lets the request in hand finish; who comes while the pool is away waits, and is served when it is back.
#[test]
fn a_stopped_pool_finishes_and_comes_back_for_those_who_wait() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool(&scene));
    let at = address(&scene, "site");
    let slow = Request::get("/sleep?ms=500").start(&at).expect("it listens");
    assert!(is_soon(|| daemon.pool("site")["workers"]["busy"] == 1), "{}", daemon.pool("site"));
    let said = daemon.verb(&["stop", "site"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(slow.finish().expect("an answer").status, 200, "{}", tail(&mut daemon));
    assert!(is_soon(|| daemon.pool("site")["state"] == "stopped"), "{}", daemon.pool("site"));
    let waits = Request::get("/hello").start(&at).expect("it listens");
    let said = daemon.verb(&["start", "site"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(waits.finish().expect("an answer").status, 200, "{}", tail(&mut daemon));
    is_whole(&mut daemon, 4);
    assert_eq!(daemon.pool("site")["breaker"]["failures"], 0.0);
    assert_eq!(daemon.stop(), 0);
}

/// `client-abort = "finish"`, the default: what a visitor has begun is done, and nobody else reads its answer.
#[test]
fn a_worker_whose_client_has_gone_finishes_and_serves_the_next() {
    let scene = Scene::new();
    let mut daemon = start_with(&scene, pool(&scene), 1);
    let at = address(&scene, "site");
    let before = daemon.workers("site");
    for round in 0..3 {
        let uri = format!("/sleep?ms=300&gone={round}");
        let gone = Request::get(&uri).body(b"x").start(&at).expect("it listens");
        let runs = || fs::read_to_string(scene.join("runs")).expect("the log is ours");
        assert!(is_soon(|| runs().contains(&uri)), "{}", daemon.pool("site"));
        drop(gone);
        let answer = Request::get(&format!("/echo?{round}")).send(&at).expect("an answer");
        assert!(answer.text().contains(&format!("REQUEST_URI=/echo?{round}\n")), "{}", answer.text());
    }
    assert_eq!(daemon.workers("site"), before, "{}", tail(&mut daemon));
    let is_counted = is_soon(|| daemon.pool("site")["requests"]["aborted"] == 3);
    assert!(is_counted, "{}", daemon.pool("site"));
    let runs = fs::read_to_string(scene.join("runs")).expect("the log is ours");
    assert_eq!(runs.lines().filter(|line| line.contains("gone=")).count(), 3, "{runs}");
    assert_eq!(daemon.stop(), 0);
}
