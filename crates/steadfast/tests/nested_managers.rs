//! Programs that start workers of their own without being asked: noticed, and named with the remedy.

mod support;

use std::time::Duration;

use rustix::process::Signal;
use support::daemon::{Config, Pool, SOON};
use support::proc;
use support::scene::Scene;

const APP: &str = "sub { [200, ['Content-Type' => 'text/plain'], ['served']] };\n";

/// plackup as people start it; `more` is what it is told besides.
fn plackup(scene: &Scene, more: &[&str]) -> Pool {
    let app = scene.write("app.psgi", APP).display().to_string();
    let words = [&["/usr/bin/plackup", "-s", "FCGI", "-a", &app], more].concat();
    Pool::new("site", &words).workers("1")
}

#[test]
fn a_manager_behind_the_front_serves_and_is_named_once() {
    let scene = Scene::new();
    let mut daemon = Config::new(&[plackup(&scene, &[]).queue()]).start(&scene);
    daemon.wait_serving("site");
    let named = daemon.wait_event("worker-nested", SOON);
    assert_eq!(named.event["pool"], "site");
    for part in ["it has started 1 process of its own on its socket", "--manager FCGI::ProcManager::Steadfast"] {
        assert!(named.text.contains(part), "{}", named.text);
    }
    // Another worker of the same generation is no news.
    let manager = daemon.workers("site")[0];
    proc::kill(manager, Signal::KILL).expect("a worker of our own supervisor");
    daemon.wait_event("worker-exited", SOON);
    daemon.wait("another manager", SOON, |line| line.text.contains("initialized"));
    daemon.wait_never("a second word on it", Duration::from_secs(3), |line| line.name() == "worker-nested");
    daemon.stop();
}

#[test]
fn a_manager_in_direct_mode_is_never_ready_and_it_is_said_why() {
    let scene = Scene::new();
    let mut daemon = Config::new(&[plackup(&scene, &[]).key("ready-timeout", "\"2s\"")]).start(&scene);
    let ended = daemon.wait_event("worker-exited", SOON);
    assert!(ended.text.contains("it was not ready within 2 s; it has started 1 process of its own"), "{}", ended.text);
    daemon.stop();
}

/// Though it runs a helper, which has inherited the socket, while it is looked at.
#[test]
fn who_serves_by_itself_and_runs_a_helper_is_no_manager() {
    let scene = Scene::new();
    let asking = "my $helper = fork // die; if (!$helper) { exec 'sleep', 20 } sub { [200, [], ['served']] };\n";
    let app = scene.write("asking.psgi", asking).display().to_string();
    let alone = ["/usr/bin/plackup", "-s", "FCGI", "--manager", "", "-a", &app];
    let mut daemon = Config::new(&[Pool::new("site", &alone).workers("1")]).start(&scene);
    daemon.wait_serving("site");
    daemon.wait_never("a word on it", Duration::from_secs(4), |line| line.name() == "worker-nested");
    daemon.stop();
}
