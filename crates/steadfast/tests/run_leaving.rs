//! How workers leave: no request in hand is lost, whoever ignores TERM is killed at the deadline, nothing stays.

use steadfast_harness as support;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::daemon::{self, Config, Pool, SOON};
use support::fcgi::{Load, Request};
use support::scene::Scene;
use support::{apps, proc};

fn site(arguments: &[&str]) -> Pool {
    let mut command = vec![apps::worker()];
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    Pool::new("site", &command)
}

/// A worker that dies of TERM may take a request in the very moment before it: under load this shows at once.
#[test]
fn a_worker_that_dies_of_term_is_drained_without_losing_a_request() {
    let scene = Scene::new();
    // A deadline far away: what is lost is lost by the drain itself.
    let pool = site(&["--default-term"]).workers("4").key("stop-timeout", "\"60s\"");
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_serving("site");
    let address = daemon::address(&scene, "site");
    let load = Load::start(&address, &Request::get("/"), 3, Duration::from_micros(200));
    let mut gone = 0;
    for round in 0..12_u32 {
        let slot = format!("site/{}", round % 4 + 1);
        let before = daemon.workers("site");
        // A slot may stand empty for the moment of its repair.
        if daemon.verb(&["drain", &slot]).code != 0 {
            continue;
        }
        let until = Instant::now() + Duration::from_secs(60);
        while before.iter().all(|pid| proc::alive(*pid)) {
            assert!(Instant::now() < until, "{slot} has not left");
            std::thread::yield_now();
        }
        gone += 1;
    }
    let report = load.stop();
    assert!(gone >= 6, "only {gone} workers were drained");
    assert!(report.ok > 100, "only {} requests were answered", report.ok);
    assert_eq!(report.failed, 0, "of {} requests: {:?}", report.ok, report.failures);
    assert_eq!(daemon.stop(), 0);
    assert!(scene.processes().is_empty(), "left behind");
}

#[test]
fn a_request_in_hand_at_the_stop_is_answered_whatever_term_does_to_its_worker() {
    for arguments in [&["--default-term"][..], &["--handle-term"][..], &[][..]] {
        let scene = Scene::new();
        let pool = site(arguments).workers("2").key("stop-timeout", "\"60s\"");
        let mut daemon = Config::new(&[pool]).start(&scene);
        daemon.wait_serving("site");
        let request = Request::get("/sleep?2");
        let flight = request.start(&daemon::address(&scene, "site")).expect("a worker accepts");
        // The other worker answers, so the first has the long request in hand.
        let answer = Request::get("/").send(&daemon::address(&scene, "site")).expect("the other one answers");
        assert_eq!(answer.status, 200);
        let asked = Instant::now();
        assert_eq!(daemon.stop(), 0, "{arguments:?}");
        let answer = flight.finish().unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        assert_eq!(answer.status, 200, "{arguments:?}");
        assert!(asked.elapsed() < Duration::from_secs(30), "{arguments:?}: it took {:?}", asked.elapsed());
        assert!(scene.processes().is_empty(), "{arguments:?}: left behind");
        assert!(!daemon::socket(&scene, "site").exists(), "the socket file has stayed");
    }
}

#[test]
fn a_worker_deaf_to_term_is_killed_at_its_deadline() {
    let scene = Scene::new();
    let pool = site(&["--ignore-term"]).workers("2").key("stop-timeout", "\"1s\"");
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_serving("site");
    let asked = Instant::now();
    assert_eq!(daemon.stop(), 0);
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(900), "killed after {took:?}, before the deadline");
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    assert!(scene.processes().is_empty(), "left behind");
}

#[test]
fn the_second_term_stops_at_once() {
    let scene = Scene::new();
    let pool = site(&["--ignore-term"]).workers("2").key("stop-timeout", "\"60s\"");
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_serving("site");
    daemon.signal(Signal::TERM);
    daemon.wait_event("supervisor-stopping", SOON);
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_exit(SOON).success());
    assert!(scene.processes().is_empty(), "left behind");
}

#[test]
fn no_worker_outlives_a_supervisor_that_was_killed() {
    let scene = Scene::new();
    let mut daemon = Config::new(&[site(&[]).workers("3")]).start(&scene);
    daemon.wait_serving("site");
    let workers = daemon.workers("site");
    assert_eq!(workers.len(), 3);
    daemon.signal(Signal::KILL);
    let _by_signal = daemon.wait_exit(SOON);
    for pid in workers {
        assert!(proc::wait_gone(pid, SOON), "worker {pid} has stayed");
    }
}
