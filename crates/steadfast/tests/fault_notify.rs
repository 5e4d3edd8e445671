//! The faults of interface.md's service manager that need no systemd: its socket is missing, full, or read late.

use steadfast_harness as support;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::apps;
use support::conditions::is_within;
use support::daemon::{Config, Daemon, Pool, SOON, address};
use support::fcgi::Request;
use support::scene::Scene;
use support::within::start_within;

fn start(scene: &Scene, socket: &Path, more: &[&str]) -> Daemon {
    let config = Config::new(&[Pool::new("site", &[apps::worker()]).workers("2").queue()]);
    let socket = format!("NOTIFY_SOCKET={}", socket.display());
    let wrapper = ["env", &socket].iter().chain(more).map(|word| (*word).to_owned()).collect::<Vec<_>>();
    start_within(&config, scene, &wrapper)
}

fn serves(daemon: &mut Daemon, scene: &Scene) {
    daemon.wait_serving("site");
    assert_eq!(Request::get("/").send(&address(scene, "site")).expect("an answer").status, 200);
}

/// Reads what is there now.
fn read(manager: &UnixDatagram) -> Vec<String> {
    let mut words = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = manager.recv(&mut buffer) {
        words.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    words
}

#[test]
fn fault_091_notify_socket_missing() {
    let scene = Scene::new();
    let mut daemon = start(&scene, &scene.join("nobody"), &[]);
    serves(&mut daemon, &scene);
    assert_eq!(daemon.stop(), 0);
}

/// Nobody waits for the manager, and what it must know is said when there is room again.
#[test]
fn fault_091_notify_socket_full() {
    let scene = Scene::new();
    let path = scene.join("manager");
    let manager = UnixDatagram::bind(&path).expect("the scene is ours");
    manager.set_nonblocking(true).expect("a socket");
    let other = UnixDatagram::unbound().expect("a socket");
    other.set_nonblocking(true).expect("a socket");
    while other.send_to(b"NOISE=1", &path).is_ok() {}
    let mut daemon = start(&scene, &path, &[]);
    serves(&mut daemon, &scene);
    let mut heard = Vec::new();
    let is_ready = is_within(SOON, || {
        heard.extend(read(&manager).into_iter().filter(|words| words != "NOISE=1"));
        heard.contains(&"READY=1".to_owned()) && heard.contains(&"STATUS=site serves".to_owned())
    });
    assert!(is_ready, "{heard:?}");
    assert_eq!(daemon.stop(), 0);
    assert!(read(&manager).contains(&"STOPPING=1".to_owned()));
}

/// The watchdog is fed by the turn of the loop and by nothing else.
#[test]
fn a_supervisor_that_stands_still_feeds_no_watchdog() {
    let scene = Scene::new();
    let path = scene.join("manager");
    let manager = UnixDatagram::bind(&path).expect("the scene is ours");
    manager.set_nonblocking(true).expect("a socket");
    let mut daemon = start(&scene, &path, &["WATCHDOG_USEC=200000"]);
    serves(&mut daemon, &scene);
    let count = || read(&manager).iter().filter(|words| *words == "WATCHDOG=1").count();
    let mut fed = 0;
    let begun = Instant::now();
    assert!(is_within(SOON, || {
        fed += count();
        fed >= 5
    }));
    assert!(begun.elapsed() >= Duration::from_millis(250), "five in {:?}", begun.elapsed());
    daemon.signal(Signal::STOP);
    // What it said before it stopped is read away.
    assert!(is_within(SOON, || count() == 0));
    assert!(!is_within(Duration::from_millis(500), || count() > 0), "it feeds while it stands still");
    daemon.signal(Signal::CONT);
    assert!(is_within(SOON, || count() > 0));
    assert_eq!(daemon.stop(), 0);
    // What this one has said to its end is read away.
    let _said = read(&manager);
    // Meant for another process, it is not ours to feed.
    let other = start(&scene, &path, &["WATCHDOG_USEC=200000", "WATCHDOG_PID=1"]);
    let mut daemon = other;
    serves(&mut daemon, &scene);
    assert!(!is_within(Duration::from_millis(500), || count() > 0), "it feeds another's watchdog");
    assert_eq!(daemon.stop(), 0);
}
