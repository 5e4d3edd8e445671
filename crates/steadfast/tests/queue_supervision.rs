//! Queue mode from the supervisor's side, with the real front: its deaths, its workers, the operator's words.

use steadfast_harness as support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::conditions::{is_soon, is_within, tail};
use support::daemon::{Config, Daemon, Pool, SOON, address, is_root, socket};
use support::fcgi::Request;
use support::scene::Scene;
use support::{apps, proc};

fn pool() -> Pool {
    Pool::new("site", &[apps::worker()]).queue()
}

fn start(scene: &Scene, pool: Pool) -> Daemon {
    let mut daemon = Config::new(&[pool]).start(scene);
    daemon.wait_serving("site");
    daemon
}

/// Who answers.
fn who(scene: &Scene) -> u32 {
    Request::get("/pid").send(&address(scene, "site")).expect("it is served").pid()
}

fn status_of(scene: &Scene, path: &str) -> u16 {
    Request::get(path).timeout(SOON).send(&address(scene, "site")).expect("it is answered").status
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

/// The front is another process from now on, and serves.
fn next_front(daemon: &Daemon, before: u32) -> u32 {
    let other = || daemon.status()["front"]["pid"].as_u64().is_some_and(|pid| pid != 0 && pid != u64::from(before));
    assert!(is_soon(other), "no other front: {}", daemon.status());
    daemon.front()
}

#[test]
fn a_front_that_is_killed_comes_back_at_once_and_nobody_is_refused() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool().workers("2"));
    let workers = daemon.workers("site");
    let front = daemon.front();
    proc::kill(front, Signal::KILL).expect("the front of our own supervisor");
    let begun = Instant::now();
    // The socket has never been away: whoever comes meanwhile is served by the next one.
    let pid = who(&scene);
    assert!(workers.contains(&pid), "{pid} is none of {workers:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    next_front(&daemon, front);
    let exited = daemon.wait_event("front-exited", SOON);
    assert_eq!((text(&exited.event, "signal"), exited.event["pid"].as_u64()), ("SIGKILL", Some(u64::from(front))));
    let status = daemon.status();
    assert_eq!(status["front"]["restarts"], 1, "{status}");
    assert_eq!(daemon.workers("site"), workers, "no worker has noticed\n{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn workers_that_were_busy_for_a_dead_front_are_given_to_the_next_when_they_are_free() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool().workers("2"));
    let front = daemon.front();
    let at = address(&scene, "site");
    let visitor = thread::spawn(move || Request::get("/sleep?2").timeout(SOON).send(&at));
    let is_busy = || daemon.pool("site")["workers"]["busy"] == 1;
    assert!(is_soon(is_busy), "{}", daemon.pool("site"));
    let slots = daemon.pool("site")["slots"].as_array().cloned().unwrap_or_default();
    let busy = slots.iter().find(|slot| slot["state"] == "busy").expect("one is busy");
    assert_eq!(text(busy, "request"), "GET /sleep?2", "{busy}");
    let busy = u32::try_from(busy["pid"].as_u64().unwrap_or(0)).expect("a pid");
    let begun = Instant::now();
    proc::kill(front, Signal::KILL).expect("the front of our own supervisor");
    next_front(&daemon, front);
    // Until it is free all goes to the other one, also two at a time.
    while begun.elapsed() < Duration::from_millis(1200) {
        assert_ne!(who(&scene), busy, "it was given a request while it had one in hand");
    }
    let both = || {
        let at = address(&scene, "site");
        let slow = thread::spawn(move || Request::get("/sleep?0.2").timeout(SOON).send(&at).map(|_| ()));
        let pid = who(&scene);
        slow.join().is_ok_and(|slow| slow.is_ok())
            && pid != 0
            && daemon.pool("site")["slots"].as_array().is_some_and(|slots| {
                slots.iter().all(|slot| slot["requests"].as_u64().is_some_and(|requests| requests > 0))
            })
    };
    assert!(is_soon(both), "the one that was busy never came back: {}\n{}", daemon.pool("site"), tail(&mut daemon));
    assert!(visitor.join().is_ok_and(|lost| lost.is_err()), "its answer went with the front");
    let pool = daemon.pool("site");
    assert_eq!(pool["requests"]["lost"], 1, "{pool}");
    assert_eq!(pool["exits"]["timeout"], 0, "{pool}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_worker_that_hangs_for_a_dead_front_is_killed_by_its_timeout() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool().workers("2").key("request-timeout", "\"2s\""));
    let front = daemon.front();
    let at = address(&scene, "site");
    let visitor = thread::spawn(move || Request::get("/hang").timeout(SOON).send(&at));
    assert!(is_soon(|| daemon.pool("site")["workers"]["busy"] == 1));
    proc::kill(front, Signal::KILL).expect("the front of our own supervisor");
    assert!(visitor.join().is_ok_and(|lost| lost.is_err()));
    let exited = daemon.wait("worker-exited", SOON, |line| line.name() == "worker-exited");
    assert_eq!(text(&exited.event, "class"), "timeout", "{}", exited.text);
    assert!(is_soon(|| daemon.pool("site")["workers"]["serving"] == 2));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_front_that_hangs_is_ended_and_replaced() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool().workers("1"));
    let front = daemon.front();
    proc::kill(front, Signal::STOP).expect("the front of our own supervisor");
    // The status is told all the same, without its word.
    let begun = Instant::now();
    let status = daemon.status();
    assert_eq!(status["front"]["pid"].as_u64(), Some(u64::from(front)));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let exited = daemon.wait_event("front-exited", Duration::from_secs(20));
    assert!(text(&exited.event, "reason").contains("not answered for 10 s"), "{}", exited.text);
    next_front(&daemon, front);
    who(&scene);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn each_worker_has_a_socket_of_its_own_as_long_as_it_lives() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool().workers("2"));
    let rooms = scene.join("run/pool/site");
    let names = || {
        let entries = fs::read_dir(&rooms).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let before = names();
    assert_eq!(before.len(), 2, "{before:?}");
    let room = fs::metadata(&rooms).expect("it is there");
    let one = fs::metadata(rooms.join(&before[0])).expect("it is there");
    let wanted = if is_root() { (0o710, 0o660) } else { (0o700, 0o600) };
    assert_eq!((room.mode() & 0o7777, one.mode() & 0o7777), wanted);
    // Whoever speaks for all of them is nobody of theirs.
    if is_root() {
        let uid = |pid: u32| proc::status_field(pid, "Uid").expect("it lives");
        let front = uid(daemon.front());
        assert!(!front.starts_with("0\t"), "the front is root: {front}");
        assert_ne!(front, uid(daemon.workers("site")[0]));
    }
    let victim = daemon.workers("site")[0];
    proc::kill(victim, Signal::KILL).expect("a worker of our own supervisor");
    assert!(is_soon(|| daemon.pool("site")["workers"]["serving"] == 2 && !daemon.workers("site").contains(&victim)));
    let after = names();
    assert_eq!(after.len(), 2, "{after:?}");
    assert_ne!(before, after, "no name comes twice");
    assert_eq!(daemon.stop(), 0);
    assert!(!scene.join("run/pool").exists(), "nothing is left");
    assert!(!socket(&scene, "site").exists());
}

#[test]
fn a_request_that_kills_is_named_kept_away_and_let_through_again() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool().workers("2"));
    // The first time it is tried on a second worker, which dies of it too.
    assert_eq!(status_of(&scene, "/segv"), 502);
    let exited = daemon.wait("worker-exited", SOON, |line| line.name() == "worker-exited");
    let event = &exited.event;
    assert_eq!((text(event, "class"), text(event, "signal")), ("crashed", "SIGSEGV"), "{}", exited.text);
    assert_eq!(text(event, "request"), "GET /segv", "{}", exited.text);
    assert!(is_soon(|| daemon.pool("site")["quarantine"].as_array().is_some_and(|list| list.len() == 1)));
    let pool = daemon.pool("site");
    assert_eq!((text(&pool["quarantine"][0], "request"), &pool["quarantine"][0]["kills"]), ("GET /segv", &2.into()));
    assert_eq!(text(&pool["last_exit"], "request"), "GET /segv", "{pool}");
    assert_eq!(status_of(&scene, "/segv"), 500);
    assert!(is_soon(|| daemon.pool("site")["workers"]["serving"] == 2));
    let before = daemon.workers("site");
    assert_eq!(status_of(&scene, "/segv"), 500);
    assert_eq!(daemon.workers("site"), before, "a refused request kills nobody");

    let said = daemon.verb(&["quarantine", "site"]);
    assert!(said.code == 0 && said.stdout.starts_with("GET /segv  killed 2 workers"), "{said:?}");
    let said = daemon.verb(&["quarantine", "site", "list", "--json"]);
    assert!(said.stdout.contains("\"GET /segv\""), "{said:?}");
    // A new front knows it, too.
    let front = daemon.front();
    proc::kill(front, Signal::KILL).expect("the front of our own supervisor");
    next_front(&daemon, front);
    assert_eq!(status_of(&scene, "/segv"), 500);
    let said = daemon.verb(&["quarantine", "site", "clear"]);
    assert!(said.code == 0 && said.stdout.contains("1 request"), "{said:?}");
    assert!(daemon.verb(&["quarantine", "site"]).stdout.contains("nothing is quarantined"));
    assert_eq!(status_of(&scene, "/segv"), 502, "it reaches workers again");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_generation_that_fails_its_verify_request_is_refused_and_says_why() {
    let scene = Scene::new();
    let verify = |body: &str| {
        let lines = format!("request = \"GET /pid\"\nexpect = {{ body = {body:?} }}");
        pool().workers("1").table("verify", &lines)
    };
    let mut daemon = start(&scene, verify("ok"));
    let worker = who(&scene);
    let verified = daemon.pool("site");
    assert_eq!(verified["exits"]["unverified"], 0, "{verified}");
    Config::new(&[verify("what no worker says")]).write(&scene);
    let said = daemon.verb(&["reload", "--wait"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("unverified") && said.stderr.contains("what no worker says"), "{said:?}");
    assert_eq!(who(&scene), worker, "the old generation serves");
    let pool = daemon.pool("site");
    assert_eq!((&pool["exits"]["unverified"], &pool["generation"]), (&1.into(), &1.into()), "{pool}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_worker_whose_client_has_gone_is_cancelled_where_the_pool_wants_that() {
    let scene = Scene::new();
    let pool = Pool::new("site", &[apps::worker(), "--default-term".to_owned()]).queue();
    let mut daemon = start(&scene, pool.workers("1").key("client-abort", "\"cancel\""));
    let worker = who(&scene);
    let visitor = Request::get("/sleep?20").start(&address(&scene, "site")).expect("it is taken");
    assert!(is_soon(|| daemon.pool("site")["workers"]["busy"] == 1));
    drop(visitor);
    assert!(proc::wait_gone(worker, SOON), "it sleeps on\n{}", tail(&mut daemon));
    assert!(is_soon(|| daemon.pool("site")["exits"]["recycled"] == 1), "{}", daemon.pool("site"));
    assert_ne!(who(&scene), worker);
    assert_eq!(daemon.pool("site")["breaker"]["failures"].as_f64(), Some(0.0));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_stop_lets_those_finish_who_are_served_or_wait() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool().workers("1"));
    let visitors: Vec<_> = (0..3)
        .map(|_| {
            let at = address(&scene, "site");
            thread::spawn(move || Request::get("/sleep?0.5").timeout(SOON).send(&at).map(|answer| answer.text()))
        })
        .collect();
    assert!(is_soon(|| daemon.pool("site")["queue"]["length"] == 2), "{}", daemon.pool("site"));
    assert_eq!(daemon.stop(), 0);
    for visitor in visitors {
        let answer = visitor.join().expect("no panic");
        assert!(answer.is_ok(), "{answer:?}");
    }
}

#[test]
fn a_pool_on_demand_sleeps_until_somebody_comes() {
    let scene = Scene::new();
    let on_demand = pool().workers("{ min = 0, max = 2, idle = \"1s\" }");
    let mut daemon = Config::new(&[on_demand]).start(&scene);
    daemon.wait_event("supervisor-ready", SOON);
    assert!(is_soon(|| text(&daemon.pool("site"), "state") == "asleep"), "{}", daemon.pool("site"));
    assert_eq!(daemon.verb(&["status"]).code, 0, "to sleep is no fault");
    who(&scene);
    assert!(is_soon(|| text(&daemon.pool("site"), "state") == "asleep"), "it does not go to sleep again");
    assert!(is_soon(|| daemon.workers("site").is_empty()), "{}", daemon.pool("site"));
    who(&scene);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_removed_socket_comes_back_without_a_new_generation() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool().workers("1"));
    let worker = who(&scene);
    fs::remove_file(socket(&scene, "site")).expect("it was there");
    daemon.wait_event("pool-rebound", SOON);
    assert!(is_soon(|| Request::get("/pid").send(&address(&scene, "site")).is_ok_and(|answer| answer.pid() == worker)));
    assert_eq!(daemon.pool("site")["generation"], 1);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn pools_come_and_go_with_the_front_and_their_mode_stays() {
    let scene = Scene::new();
    let other = || Pool::new("other", &[apps::worker()]).queue().workers("1");
    let mut daemon = start(&scene, pool().workers("1"));
    let front = daemon.front();
    Config::new(&[pool().workers("1"), other()]).write(&scene);
    assert_eq!(daemon.verb(&["reload", "--wait"]).code, 0);
    Request::get("/pid").send(&address(&scene, "other")).expect("it is served");
    assert_eq!(daemon.front(), front);

    Config::new(&[Pool::new("site", &[apps::worker()]).workers("1"), other()]).write(&scene);
    let said = daemon.verb(&["reload"]);
    assert!(said.code == 78 && said.stderr.contains("mode"), "{said:?}");
    who(&scene);

    Config::new(&[other()]).write(&scene);
    assert_eq!(daemon.verb(&["reload"]).code, 0);
    assert!(is_soon(|| daemon.status()["pools"].as_array().is_some_and(|pools| pools.len() == 1)));
    assert!(Request::get("/pid").send(&address(&scene, "site")).is_err(), "nobody serves it");
    Request::get("/pid").send(&address(&scene, "other")).expect("it is served");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn an_idle_supervisor_and_its_front_sleep() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool().workers("2"));
    who(&scene);
    // What follows the start has a second to be over.
    thread::sleep(Duration::from_secs(2));
    let (supervisor, front) = (daemon.pid(), daemon.front());
    let quiet = is_within(Duration::from_secs(30), || {
        let before = (proc::context_switches(supervisor), proc::context_switches(front));
        thread::sleep(Duration::from_secs(5));
        before == (proc::context_switches(supervisor), proc::context_switches(front))
    });
    assert!(quiet, "somebody was woken in each of 5 s\n{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0);
}
