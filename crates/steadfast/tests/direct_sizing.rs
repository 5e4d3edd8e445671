//! A direct pool grows as fast as visitors come, shrinks without losing one, and asks the kernel for nothing while it is quiet.

use steadfast_harness as support;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use support::apps::Language;
use support::asleep::wakes_for_the_first_visitor;
use support::conditions::{is_soon, is_within, tail};
use support::daemon::{Config, Daemon, Pool, SOON, address};
use support::fcgi::{Address, Request};
use support::flood::{Flood, Told, kinds};
use support::proc;
use support::scene::Scene;

/// How long each of the crowd keeps its worker.
const WORK: Duration = Duration::from_millis(500);
/// So often a crowd comes and goes.
const ROUNDS: u32 = 10;

/// From 2 to 20 workers, which note their starts.
fn start(scene: &Scene, language: Language, listen: Option<SocketAddr>) -> Daemon {
    let log = scene.shared_file("starts");
    let mut pool = Pool::new("site", &language.command())
        .workers("{ min = 2, max = 20, idle = \"1s\" }")
        .environment("START_LOG", &log.display().to_string());
    if let Some(listen) = listen {
        pool = pool.listen(&listen.to_string());
    }
    let mut daemon = Config::new(&[pool]).start(scene);
    daemon.wait_serving("site");
    wait_quiet(&mut daemon, 2);
    daemon
}

/// The pool has so many workers, all idle.
fn wait_quiet(daemon: &mut Daemon, count: u64) {
    let is_quiet = is_soon(|| {
        let workers = daemon.pool("site")["workers"].clone();
        workers["idle"] == count && workers["total"] == count
    });
    assert!(is_quiet, "{}\n{}", daemon.pool("site"), tail(daemon));
}

fn ask(language: Language, path: &str) -> Request {
    Request::get(path).param("SCRIPT_FILENAME", &language.script())
}

/// Twenty at a time, at this address, each of whom keeps its worker for so long: how long the last of them waited for a worker of
/// its own, and how many workers there were.
fn crowd(at: &Address, language: Language, work: Duration) -> (Duration, usize) {
    let ask = ask(language, &format!("/sleep?ms={}", work.as_millis()));
    let begun = Instant::now();
    let visitors: Vec<_> = (0..20).map(|_| ask.start(at).expect("it listens")).collect();
    let answers: Vec<_> = visitors.into_iter().map(|visitor| visitor.finish().expect("an answer")).collect();
    let waited = begun.elapsed().saturating_sub(work);
    let pids: BTreeSet<String> = answers
        .iter()
        .map(|answer| {
            assert_eq!(answer.status, 200, "{}", answer.headers);
            answer.header("X-Worker").unwrap_or_default().to_owned()
        })
        .collect();
    (waited, pids.len())
}

/// Ten times twenty visitors come, each has a worker of its own within `grown`, and then there are two workers again. The figures.
/// Each is at work for half of that: whoever starts slowly would else find the first workers free again before the last are there.
fn comes_and_goes(language: Language, is_tcp: bool, grown: Duration) -> String {
    let scene = Scene::new();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a loopback port is free");
    let mut daemon = start(&scene, language, is_tcp.then_some(port));
    let at = if is_tcp { Address::Tcp(port) } else { address(&scene, "site") };
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (begun, before) = (proc::monotonic(), proc::starts(&scene.join("starts")).len());
        let (waited, workers) = crowd(&at, language, grown / 2);
        let starts = proc::starts(&scene.join("starts"));
        let last = starts.iter().skip(before).map(|(at, _)| at.saturating_sub(begun)).max().unwrap_or(0);
        rounds.push((waited, Duration::from_nanos(last), workers));
        wait_quiet(&mut daemon, 2);
    }
    let pool = daemon.pool("site");
    let exits: Vec<_> = pool["exits"].as_object().into_iter().flatten().filter(|(_, count)| **count != 0).collect();
    assert!(matches!(exits[..], [(class, _)] if class == "recycled"), "{exits:?}\n{}", tail(&mut daemon));
    assert_eq!(pool["breaker"]["failures"], 0.0, "{pool}");
    // Neighbours may spoil some of the ten.
    let good = rounds.iter().filter(|(waited, _, workers)| *waited <= grown && *workers == 20).count();
    assert!(good >= 5, "so often only: {good}, {rounds:?}\n{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0);
    format!("the last was served, the last started, workers: {rounds:?}")
}

#[test]
fn alone_twenty_visitors_have_twenty_c_workers_and_then_two_are_left_ten_times() {
    eprintln!("{}", comes_and_goes(Language::C, false, Duration::from_secs(1)));
}

#[test]
fn alone_twenty_visitors_have_twenty_perl_workers_and_then_two_are_left_ten_times() {
    eprintln!("{}", comes_and_goes(Language::Perl, false, Duration::from_secs(2)));
}

#[test]
fn alone_twenty_visitors_over_tcp_have_twenty_workers_and_then_two_are_left_ten_times() {
    eprintln!("{}", comes_and_goes(Language::C, true, Duration::from_secs(1)));
}

/// Somebody asks all the while: the workers that leave are idle ones, and nobody notices.
fn shrinks_under_load(language: Language) -> String {
    let scene = Scene::new();
    let mut daemon = start(&scene, language, None);
    let flood = Flood::start(&address(&scene, "site"), 100, 4, move |_| ask(language, "/sleep?ms=3"));
    crowd(&address(&scene, "site"), language, WORK);
    let grown = daemon.pool("site")["workers"]["total"].as_u64().unwrap_or(0);
    // With neighbours the first may be answered before the last has come.
    assert!(grown >= 6, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    let is_small = is_within(Duration::from_secs(30), || {
        let workers = daemon.pool("site")["workers"].clone();
        workers["total"].as_u64().is_some_and(|total| total <= 6) && workers["stopping"] == 0
    });
    let all: Vec<Told> = flood.stop();
    assert!(is_small, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    assert!(all.iter().all(Told::is_good), "{}\n{}", kinds(&all), tail(&mut daemon));
    wait_quiet(&mut daemon, 2);
    assert_eq!(daemon.stop(), 0);
    format!("{} asked while {grown} became 2", all.len())
}

#[test]
fn c_workers_leave_under_load_without_a_failed_request() {
    eprintln!("{}", shrinks_under_load(Language::C));
}

#[test]
fn perl_workers_leave_under_load_without_a_failed_request() {
    eprintln!("{}", shrinks_under_load(Language::Perl));
}

/// php-cgi has no word for anybody, and none of its own for TERM.
#[test]
fn php_workers_leave_under_load_without_a_failed_request() {
    eprintln!("{}", shrinks_under_load(Language::Php));
}

#[test]
fn a_sleeping_direct_pool_wakes_for_the_first_visitor() {
    let scene = Scene::new();
    let mut daemon = wakes_for_the_first_visitor(&scene, Pool::new("site", &Language::C.command()));
    assert_eq!(daemon.stop(), 0);
}

/// A program that cannot start, and somebody who waits for it: the breaker's pace is all that happens.
#[test]
fn a_crash_loop_on_demand_does_not_spin() {
    let scene = Scene::new();
    let pool = Pool::new("site", &["/bin/false"]).workers("{ min = 0, max = 4 }");
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_event("supervisor-ready", SOON);
    let visitors: Vec<_> =
        (0..8).map(|_| Request::get("/").start(&address(&scene, "site")).expect("it listens")).collect();
    daemon.wait_event("breaker-opened", Duration::from_secs(60));
    let before = proc::context_switches(daemon.pid());
    // Nothing is waited for here: that hardly anything happens in this time is what is tested.
    std::thread::sleep(Duration::from_secs(4));
    let woken = proc::context_switches(daemon.pid()) - before;
    eprintln!("{woken} switches in 4 s with a full backlog and an open breaker");
    assert!(woken < 40, "{woken} switches\n{}", tail(&mut daemon));
    drop(visitors);
    assert_eq!(daemon.stop(), 0);
}

/// Grown and shrunk again, with nobody there: it sleeps.
#[test]
fn a_quiet_direct_pool_wakes_nobody() {
    let scene = Scene::new();
    let mut daemon = start(&scene, Language::C, None);
    crowd(&address(&scene, "site"), Language::C, WORK);
    wait_quiet(&mut daemon, 2);
    // Nothing is waited for here: that nothing happens in this time is what is tested.
    std::thread::sleep(Duration::from_secs(3));
    let before = proc::context_switches(daemon.pid());
    std::thread::sleep(Duration::from_secs(10));
    let after = proc::context_switches(daemon.pid());
    assert!(before > 0, "/proc says nothing");
    assert_eq!(before, after, "it woke up {} times", after - before);
    assert_eq!(daemon.stop(), 0);
}

/// What the kernel shows stands in the status: who has a request in hand, and who has not.
#[test]
fn the_status_tells_idle_and_busy_workers() {
    let scene = Scene::new();
    let mut daemon = start(&scene, Language::C, None);
    let long = Request::get("/sleep?ms=3000").start(&address(&scene, "site")).expect("it listens");
    let is_one_busy = is_soon(|| {
        let workers = daemon.pool("site")["workers"].clone();
        workers["idle"] == 1 && workers["busy"] == 1
    });
    assert!(is_one_busy, "{}", daemon.pool("site"));
    assert_eq!(long.finish().expect("an answer").status, 200);
    wait_quiet(&mut daemon, 2);
    assert_eq!(daemon.stop(), 0);
}
