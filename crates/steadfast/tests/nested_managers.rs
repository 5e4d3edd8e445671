//! Programs that start workers of their own without being asked: noticed, and named with the remedy.

use steadfast_harness as support;

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use support::daemon::{Config, Daemon, Pool, SOON, STEADFAST, address, is_root, steadfast};
use support::fcgi::Request;
use support::proc;
use support::scene::Scene;
use support::within::skipped;

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

fn served(scene: &Scene) -> String {
    Request::get("/page").send(&address(scene, "site")).expect("it serves").text()
}

/// A supervisor to which the kernel shows nothing of another user's processes, as in a hardened unit (docs/systemd.md).
fn start_blind(scene: &Scene, pool: Pool) -> Daemon {
    let file = Config::new(&[pool]).write(scene);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_ptrace", STEADFAST, "run", "-c"]).arg(file);
    Daemon::spawn(command, scene, &scene.join("run/control.sock"))
}

#[test]
fn a_manager_that_may_not_be_looked_at_is_named_when_somebody_else_answers() {
    if !is_root() {
        return skipped("nested_managers", "workers of another user can only be had by root");
    }
    let scene = Scene::new();
    let mut daemon = start_blind(&scene, plackup(&scene, &[]).queue());
    daemon.wait_serving("site");
    daemon.wait_never("a guess", Duration::from_secs(3), |line| line.name() == "worker-nested");
    let manager = daemon.workers("site")[0];
    let status = fs::read_to_string(format!("/proc/{manager}/status")).expect("it lives");
    assert!(!status.contains("Uid:\t0"), "it would be seen by the same user: {status}");
    for _ in 0..2 {
        assert_eq!(served(&scene), "served");
    }
    let named = daemon.wait_event("worker-nested", SOON);
    for part in ["which it has started, answers in its place", "--manager FCGI::ProcManager::Steadfast"] {
        assert!(named.text.contains(part), "{}", named.text);
    }
    daemon.wait_never("a second word on it", Duration::from_secs(1), |line| line.name() == "worker-nested");
    daemon.stop();
}

#[test]
fn a_direct_manager_that_may_not_be_looked_at_is_suspected_and_it_is_said_how_to_see_more() {
    if !is_root() {
        return skipped("nested_managers", "workers of another user can only be had by root");
    }
    let scene = Scene::new();
    let mut daemon = start_blind(&scene, plackup(&scene, &[]));
    let named = daemon.wait_event("worker-nested", SOON);
    for part in
        ["it has started a process of its own that runs the same program", "direct.conf", "If so, it is a manager"]
    {
        assert!(named.text.contains(part), "{}", named.text);
    }
    daemon.stop();
}

/// It answers itself, and its helper has executed another program.
#[test]
fn who_serves_by_itself_is_not_suspected_where_nothing_can_be_seen() {
    if !is_root() {
        return skipped("nested_managers", "workers of another user can only be had by root");
    }
    for is_queued in [true, false] {
        let scene = Scene::new();
        let alone = helped(&scene);
        let mut daemon = start_blind(&scene, if is_queued { alone.queue() } else { alone });
        daemon.wait_serving("site");
        assert_eq!(served(&scene), "served");
        daemon.wait_never("a word on it", Duration::from_secs(4), |line| line.name() == "worker-nested");
        daemon.stop();
    }
}

/// Serves by itself, though it runs a helper, which has inherited the socket.
fn helped(scene: &Scene) -> Pool {
    let asking = "my $helper = fork // die; if (!$helper) { exec 'sleep', 20 } sub { [200, [], ['served']] };\n";
    let app = scene.write("asking.psgi", asking).display().to_string();
    Pool::new("site", &["/usr/bin/plackup", "-s", "FCGI", "--manager", "", "-a", &app]).workers("1")
}

#[test]
fn a_trial_worker_that_is_a_manager_is_named_at_once() {
    for (is_queue, code, word) in [(true, 0, "site: ok, ready after "), (false, 78, "site: failed, not ready after ")] {
        let scene = Scene::new();
        let pool = plackup(&scene, &[]);
        let file = Config::new(&[if is_queue { pool.queue() } else { pool }]).write(&scene);
        let said = steadfast(scene.path(), &["check", "--boot", "-c", &file.display().to_string()]);
        assert_eq!(said.code, code, "{}{}", said.stdout, said.stderr);
        for part in
            [word, "it has started 1 process of its own on its socket", "--manager FCGI::ProcManager::Steadfast"]
        {
            assert!(said.stdout.contains(part), "{part}: {}{}", said.stdout, said.stderr);
        }
    }
}

#[test]
fn who_serves_by_itself_and_runs_a_helper_is_no_manager() {
    let scene = Scene::new();
    let mut daemon = Config::new(&[helped(&scene)]).start(&scene);
    daemon.wait_serving("site");
    daemon.wait_never("a word on it", Duration::from_secs(4), |line| line.name() == "worker-nested");
    daemon.stop();
}
