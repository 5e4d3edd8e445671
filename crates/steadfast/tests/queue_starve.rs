//! Idle kept connections hold no worker: with 200 of them and four workers, whoever comes next is answered at once.

use steadfast_harness as support;

use std::time::{Duration, Instant};

use support::apps::Language;
use support::conditions::{is_soon, tail};
use support::daemon::{self, Config, Daemon, Pool};
use support::fcgi::{Address, InFlight, Request};
use support::http::{Ask, Visitor};
use support::loopback;
use support::scene::Scene;

const IDLE: usize = 200;
const WORKERS: u32 = 4;

/// The median and the last tenth of so many requests, each on a connection of its own.
fn waits(mut ask: impl FnMut()) -> (Duration, Duration) {
    let mut waits: Vec<Duration> = (0..300)
        .map(|_| {
            let begun = Instant::now();
            ask();
            begun.elapsed()
        })
        .collect();
    waits.sort_unstable();
    (waits[waits.len() / 2], waits[waits.len() * 9 / 10])
}

/// As fast as without them: what a loaded machine does to both may differ by so much, a worker in wait for an idle
/// connection by seconds.
fn assert_as_fast(before: (Duration, Duration), after: (Duration, Duration), daemon: &mut Daemon) {
    let slack = Duration::from_millis(2);
    let is_as_fast = after.0 <= before.0 * 2 + slack && after.1 <= before.1 * 3 + slack;
    assert!(is_as_fast, "{before:?} without, {after:?} with idle connections\n{}", tail(daemon));
}

fn start(scene: &Scene, pool: Pool) -> Daemon {
    let mut daemon = Config::new(&[pool.workers(&WORKERS.to_string())]).start(scene);
    daemon.wait_serving("c");
    daemon
}

/// So many visitors who have been served and stay.
fn stay(address: &Address, count: usize) -> Vec<InFlight> {
    let request = Request::get("/hello").keep();
    (0..count)
        .map(|_| {
            let mut visitor = request.start(address).expect("it listens");
            assert_eq!(visitor.read().expect("an answer").text(), "hello\n");
            visitor
        })
        .collect()
}

#[test]
fn alone_two_hundred_idle_fastcgi_connections_starve_nobody() {
    let scene = Scene::new();
    let mut daemon = start(&scene, Pool::new("c", &Language::C.command()).queue());
    let address = daemon::address(&scene, "c");
    let one = || {
        let answer = Request::get("/hello").send(&address).expect("an answer");
        assert_eq!(answer.text(), "hello\n");
    };
    waits(one);
    let before = waits(one);
    let mut idle = stay(&address, IDLE);
    assert_as_fast(before, waits(one), &mut daemon);
    assert_eq!(daemon.pool("c")["workers"]["busy"], 0, "nobody is busy");
    // They are idle and not forgotten.
    for visitor in &mut idle {
        let answer = visitor.again(&Request::get("/hello").keep()).expect("an answer");
        assert_eq!(answer.text(), "hello\n");
    }
    drop(idle);
    daemon.stop_idle();
}

#[test]
fn alone_two_hundred_idle_http_connections_starve_nobody() {
    let scene = Scene::new();
    let address = loopback::address();
    let pool = Pool::new("c", &Language::C.command()).queue().listen(&format!("http://{address}"));
    let mut daemon = start(&scene, pool);
    let one = || {
        let answer = Ask::get("/hello").send(address).expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"));
    };
    waits(one);
    let before = waits(one);
    let mut idle: Vec<Visitor> = (0..IDLE)
        .map(|_| {
            let mut visitor = Visitor::connect(address).expect("it listens");
            assert_eq!(visitor.ask(&Ask::get("/hello")).expect("an answer").status, 200);
            visitor
        })
        .collect();
    assert_as_fast(before, waits(one), &mut daemon);
    for visitor in &mut idle {
        assert_eq!(visitor.ask(&Ask::get("/hello")).expect("it was kept").text(), "hello\n");
    }
    drop(idle);
    daemon.stop_idle();
}

/// What the others are measured against: without the queue, as many idle connections as workers are enough.
#[test]
fn without_the_queue_four_idle_connections_starve_everybody() {
    let scene = Scene::new();
    let mut daemon = start(&scene, Pool::new("c", &Language::C.command()));
    let address = daemon::address(&scene, "c");
    assert!(is_soon(|| daemon.workers("c").len() == 4), "{}", tail(&mut daemon));
    let idle = stay(&address, 4);
    let next = Request::get("/hello").timeout(Duration::from_millis(300)).send(&address);
    next.expect_err("libfcgi serves nobody else while a connection is kept");
    drop(idle);
    assert!(is_soon(|| Request::get("/hello").send(&address).is_ok()));
    daemon.stop_idle();
}
