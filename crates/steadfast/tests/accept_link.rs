//! Workers that speak over their link: what they say is believed, answered at once, and shown.

#[path = "support/cases.rs"]
mod cases;
use steadfast_harness as support;

use std::time::{Duration, Instant};

use cases::{Follower, wait_workers};
use rustix::process::Signal;
use serde_json::Value;
use support::conditions::{is_soon, tail};
use support::daemon::{Config, Daemon, Pool, SOON, address};
use support::fcgi::Request;
use support::scene::Scene;
use support::{apps, proc};

/// The longest time between a worker's last word and its end.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Says `failed` and stays for ever, whatever signal comes that can be caught.
const STUBBORN: &str = r#"#!/usr/bin/perl
use strict; use IO::Handle;
$SIG{TERM} = 'IGNORE';
open my $link, '+<&=', $ENV{STEADFAST_LINK} or die "no link: $!";
$link->autoflush(1);
print $link qq({"type":"hello","version":1,"pid":$$,"role":"worker","concurrency":1}\n);
print $link qq({"type":"failed","code":3,"name":"EX_FCGI_ACCEPT","message":"I stay"}\n);
sleep 1000 while 1;
"#;

fn pool(arguments: &[&str]) -> Pool {
    Pool::new("site", &apps::link(arguments))
}

fn start(scene: &Scene, pool: Pool, workers: u64) -> Daemon {
    let mut daemon = Config::new(&[pool.workers(&workers.to_string())]).start(scene);
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", workers);
    daemon
}

/// Asks for a path; the pid of the worker that has answered.
fn ask(scene: &Scene, path: &str) -> u32 {
    Request::get(path).send(&address(scene, "site")).expect("an answer").pid()
}

fn exit_of(events: &mut Follower, pid: u32) -> Value {
    events.wait("worker-exited", HANDSHAKE + SOON, |event| event["event"] == "worker-exited" && event["pid"] == pid)
}

/// One of two said its last word: another one came in its place, and the other one is who it was.
fn assert_replaced(daemon: &mut Daemon, before: &[u32], gone: u32) {
    wait_workers(daemon, "site", 2);
    let after = daemon.workers("site");
    assert!(!after.contains(&gone), "{gone} is still there: {after:?}");
    let kept: Vec<&u32> = before.iter().filter(|pid| **pid != gone).collect();
    assert!(kept.iter().all(|pid| after.contains(pid)), "{before:?} became {after:?}\n{}", tail(daemon));
}

#[test]
fn a_worker_that_speaks_is_ready_when_it_says_so_and_not_before() {
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let pool = pool(&["--ready-after", "1"]).environment("START_LOG", &log.display().to_string());
    let mut daemon = Config::new(&[pool.workers("1")]).start(&scene);
    daemon.wait_event("generation-started", SOON);
    assert_eq!(daemon.pool("site")["state"], "starting", "{}", tail(&mut daemon));
    daemon.wait_serving("site");
    let starts = proc::starts(&log);
    assert_eq!(starts.len(), 1);
    let took = Duration::from_nanos(proc::monotonic() - starts[0].0);
    assert!(took >= Duration::from_secs(1), "it served after {took:?}, before it was ready");
    let mut events = Follower::of(&daemon);
    assert!(events.next("worker-ready", SOON)["took_ms"].as_u64() >= Some(1000));
    assert_eq!(ask(&scene, "/"), starts[0].1);
}

#[test]
fn a_worker_that_fails_gets_its_term_at_once_and_its_word_is_told() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool(&[]), 2);
    let mut events = Follower::of(&daemon);
    let before = daemon.workers("site");
    let said = Instant::now();
    let pid = ask(&scene, "/failed?3");
    assert!(proc::wait_gone(pid, SOON), "it has stayed");
    // Without a TERM it would wait for one for ten seconds.
    assert!(said.elapsed() < Duration::from_secs(5), "its TERM came after {:?}", said.elapsed());
    let exit = exit_of(&mut events, pid);
    assert_eq!((&exit["code"], &exit["name"]), (&3.into(), &"EX_FCGI_ACCEPT".into()), "{exit}");
    assert_eq!(exit["message"], "accept failed 5 times", "{exit}");
    assert_replaced(&mut daemon, &before, pid);
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    assert!(pool["breaker"]["failures"].as_f64() > Some(0.0), "{pool}");
}

#[test]
fn a_worker_that_fails_and_is_deaf_is_gone_after_ten_seconds() {
    let scene = Scene::new();
    let program = scene.program("stubborn", STUBBORN);
    let pool = Pool::new("site", &[program.display().to_string()]).workers("1").key("stop-timeout", "\"60s\"");
    let mut daemon = Config::new(&[pool]).start(&scene);
    assert!(is_soon(|| !proc::children(daemon.pid()).is_empty()), "nobody was started");
    let pid = proc::children(daemon.pid())[0];
    let begun = Instant::now();
    let mut events = Follower::of(&daemon);
    // Its word comes some moments after its start.
    assert!(proc::wait_gone(pid, HANDSHAKE + Duration::from_secs(3)), "it has stayed");
    assert!(begun.elapsed() > HANDSHAKE / 2, "it was not given its time: {:?}", begun.elapsed());
    let exit = exit_of(&mut events, pid);
    assert_eq!((&exit["signal"], &exit["message"]), (&"SIGKILL".into(), &"I stay".into()), "{exit}");
    // Its successor is as deaf: only the second TERM, which kills, leaves nobody behind.
    daemon.signal(Signal::TERM);
    daemon.wait_event("supervisor-stopping", SOON);
    daemon.signal(Signal::TERM);
    daemon.wait_exit(SOON);
    assert!(scene.processes().is_empty(), "{:?} are left", scene.processes());
}

#[test]
fn a_broken_release_says_why_and_nobody_tries_it_again_and_again() {
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let pool = pool(&["--broken", "1"]).environment("START_LOG", &log.display().to_string());
    let mut daemon = Config::new(&[pool.workers("4")]).start(&scene);
    let opened = daemon.wait_event("breaker-opened", SOON);
    let down = daemon.wait_event("pool-down", SOON);
    assert!(down.at.duration_since(opened.at) < HANDSHAKE, "their TERM has not come back at once");
    let status = daemon.pool("site");
    let reason = status["reason"].as_str().unwrap_or_default();
    for word in ["broken", "code 1", "EX_PRELOAD", "Site::Response is hollow"] {
        assert!(reason.contains(word), "{word} is not in the reason: {reason}");
    }
    assert_eq!(status["state"], "down");
    assert_eq!(daemon.verb(&["status"]).code, 69);
    assert!(proc::starts(&log).len() <= 5, "{:?}", proc::starts(&log));
}

#[test]
fn a_broken_release_is_refused_at_its_first_word() {
    let scene = Scene::new();
    let mut daemon = start(&scene, pool(&[]), 2);
    let before = daemon.workers("site");
    Config::new(&[pool(&["--broken", "1"]).workers("2")]).write(&scene);
    let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
    assert_eq!(said.code, 1, "{}{}\n{}", said.stdout, said.stderr, tail(&mut daemon));
    assert!(said.stderr.contains("Site::Response is hollow"), "{}", said.stderr);
    daemon.wait_event("generation-refused", SOON);
    // The reload is over before the one that broke it has left.
    assert!(is_soon(|| daemon.workers("site") == before), "{}", tail(&mut daemon));
    let starts = daemon.pool("site")["exits"]["broken"].as_u64();
    assert_eq!(starts, Some(1), "one word is enough: {}", daemon.pool("site"));
}

#[test]
fn a_missing_dependency_is_nobodys_fault_and_is_waited_for() {
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let mut daemon = start(&scene, pool(&[]).environment("START_LOG", &log.display().to_string()), 2);
    let mut events = Follower::of(&daemon);
    let before = daemon.workers("site");
    let said = proc::monotonic();
    let pid = ask(&scene, "/unavailable?4000");
    let exit = exit_of(&mut events, pid);
    assert_eq!((&exit["class"], &exit["code"]), (&"unavailable".into(), &75.into()), "{exit}");
    assert_eq!((&exit["name"], &exit["message"]), (&"db".into(), &"connection refused".into()), "{exit}");
    assert_replaced(&mut daemon, &before, pid);
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["failures"].as_f64(), Some(0.0), "{pool}");
    assert_eq!(pool["state"], "serving");
    // It asked for four seconds.
    let starts = proc::starts(&log);
    assert_eq!(starts.len(), 3);
    let waited = Duration::from_nanos(starts[2].0 - said);
    assert!(waited >= Duration::from_millis(3900), "the next one came after {waited:?}");
}

#[test]
fn a_worker_that_has_done_its_share_is_drained_once_its_successor_is_ready() {
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let mut daemon = start(&scene, pool(&[]).environment("START_LOG", &log.display().to_string()), 2);
    let mut events = Follower::of(&daemon);
    let before = daemon.workers("site");
    let pid = ask(&scene, "/recycle");
    let ready = |event: &Value| event["event"] == "worker-ready" && !before.iter().any(|old| event["pid"] == *old);
    events.wait("the successor's worker-ready", SOON, ready);
    let exit = exit_of(&mut events, pid);
    assert_eq!((&exit["class"], &exit["code"]), (&"recycled".into(), &0.into()), "{exit}");
    daemon.wait("the order to drain", SOON, |line| line.text.contains("link.pl: got drain"));
    assert_replaced(&mut daemon, &before, pid);
    assert_eq!(proc::starts(&log).len(), 3);
    assert_eq!(daemon.pool("site")["breaker"]["failures"].as_f64(), Some(0.0));
}

#[test]
fn what_a_worker_says_of_itself_stands_in_the_status() {
    let scene = Scene::new();
    let daemon = start(&scene, pool(&["--status", "warming the caches", "--ready"]), 1);
    assert_eq!(daemon.pool("site")["slots"][0]["text"], "warming the caches");
    let said = daemon.verb(&["status"]);
    assert!(said.stdout.contains("warming the caches"), "{}", said.stdout);
    ask(&scene, "/status?all%20is%20well");
    let is_told =
        is_soon(|| daemon.pool("site")["slots"][0]["text"].as_str().is_some_and(|text| text.contains("well")));
    assert!(is_told, "{}", daemon.pool("site"));
}
