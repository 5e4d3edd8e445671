//! The supervisor is killed: no worker stays behind, whatever it was doing, and the next supervisor can start.

use steadfast_harness as support;

use std::time::Duration;

use rustix::process::Signal;
use support::conditions::{is_soon, tail};
use support::daemon::{self, Config, Daemon, Pool, SOON, socket};
use support::fcgi::Request;
use support::scene::Scene;
use support::{apps, proc};

fn start(scene: &Scene, command: &[String], workers: usize) -> Daemon {
    let mut daemon = Config::new(&[Pool::new("site", command).workers(&workers.to_string())]).start(scene);
    daemon.wait_serving("site");
    let is_full = is_soon(|| daemon.pool("site")["workers"]["serving"] == workers);
    assert!(is_full, "not {workers} workers\n{}", tail(&mut daemon));
    daemon
}

/// Kills the supervisor and waits for the end of its workers.
fn orphan(daemon: &mut Daemon, within: Duration) {
    let workers = daemon.workers("site");
    assert!(!workers.is_empty());
    daemon.signal(Signal::KILL);
    daemon.wait_exit(SOON);
    for pid in workers {
        assert!(proc::wait_gone(pid, within), "the worker {pid} has stayed: {:?}", proc::command_line(pid));
    }
}

#[test]
fn idle_workers_of_every_kind_leave_with_a_killed_supervisor() {
    // What ends by TERM, what handles it, and what is no FastCGI program at all.
    let commands = [vec![apps::worker()], vec![apps::quiet()], apps::perl(None), apps::php(), apps::link(&[])];
    for command in commands {
        let scene = Scene::new();
        let mut daemon = start(&scene, &command, 4);
        orphan(&mut daemon, SOON);
        assert!(scene.processes().is_empty(), "{command:?}: {:?}", scene.processes());
    }
}

#[test]
fn a_busy_worker_finishes_its_request_and_leaves() {
    let scene = Scene::new();
    let mut daemon = start(&scene, &[apps::worker()], 2);
    let address = daemon::address(&scene, "site");
    let flight = Request::get("/sleep?2").start(&address).expect("a worker accepts");
    // Another request is answered, so the long one is in somebody's hands.
    assert_eq!(Request::get("/").send(&address).expect("an answer").status, 200);
    orphan(&mut daemon, SOON);
    let answer = flight.finish().expect("the request in hand is answered");
    assert_eq!(answer.status, 200);
    assert!(scene.processes().is_empty(), "{:?}", scene.processes());
}

/// A grandchild is its worker's own: without a supervisor nobody ends what is deaf to TERM. It does not keep its worker,
/// and as long as it holds the listening socket, which is then no stale one, the next supervisor says so.
#[test]
fn a_worker_with_a_grandchild_leaves_all_the_same() {
    let scene = Scene::new();
    let mut daemon = start(&scene, &[apps::worker()], 1);
    Request::get("/bomb?1").send(&daemon::address(&scene, "site")).expect("an answer");
    let workers = daemon.workers("site");
    let grandchildren = proc::children(workers[0]);
    assert_eq!(grandchildren.len(), 1);
    orphan(&mut daemon, SOON);
    assert_eq!(scene.processes(), grandchildren, "only the grandchild has stayed");
    assert!(socket(&scene, "site").exists(), "a killed supervisor cannot remove its socket");

    let said = daemon::steadfast(scene.path(), &["run", "-c", "steadfast.toml"]);
    assert_eq!(said.code, 75, "{}", said.stderr);
    assert!(said.stderr.contains("another process listens on it"), "{}", said.stderr);

    proc::kill(grandchildren[0], Signal::KILL).expect("it is our own worker's child");
    assert!(proc::wait_gone(grandchildren[0], SOON));
    let mut next = start(&scene, &[apps::worker()], 1);
    let answer = Request::get("/").send(&daemon::address(&scene, "site")).expect("the next one serves");
    assert_eq!(answer.pid(), next.workers("site")[0]);
    assert_eq!(next.stop(), 0);
}
