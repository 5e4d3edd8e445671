//! Broken configurations and broken releases change nothing; good ones take over without an outage.

#[path = "support/cases.rs"]
mod cases;
use steadfast_harness as support;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use cases::{Follower, wait_workers};
use rustix::process::Signal;
use support::conditions::tail;
use support::daemon::{self, Config, Daemon, Pool, SOON, address};
use support::fcgi::{Load, Request};
use support::scene::Scene;
use support::{apps, proc};

/// Five mistakes, each on a line of its own: (line, column, what is said of it).
const MISTAKES: [(u32, u32, &str); 5] = [
    (2, 1, "unknown key `runtime-dri`"),
    (6, 11, "`workers`"),
    (7, 1, "`retry` has no meaning in direct mode"),
    (8, 17, "\"30 parsecs\" is not a duration"),
    (11, 1, "unknown key `failure`"),
];

fn broken(scene: &Scene) -> String {
    format!(
        "[supervisor]\nruntime-dri = \"/tmp\"\n[pool.site]\ncommand = [\"{}\"]\nmode = \"direct\"\nworkers = \"many\"\n\
         retry = \"never\"\nready-timeout = \"30 parsecs\"\nlisten = [\"unix:{}\"]\n[pool.site.breaker]\nfailure = 5\n",
        apps::worker(),
        daemon::socket(scene, "site").display()
    )
}

fn assert_all_mistakes(text: &str, file: &str) {
    for (line, column, what) in MISTAKES {
        assert!(text.contains(what), "{what} is not said:\n{text}");
        assert!(text.contains(&format!("{file}:{line}:{column}")), "no position {line}:{column}:\n{text}");
    }
    assert!(text.contains("did you mean `runtime-dir`") && text.contains("did you mean `failures`"), "{text}");
}

fn site(command: &[String], workers: &str) -> Config {
    Config::new(&[Pool::new("site", command).workers(workers)])
}

fn start(scene: &Scene, config: &Config, workers: u64) -> Daemon {
    let mut daemon = config.start(scene);
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", workers);
    daemon
}

fn assert_untouched(daemon: &mut Daemon, workers: &[u32]) {
    assert_eq!(daemon.workers("site"), workers, "{}", tail(daemon));
    let pool = daemon.pool("site");
    assert_eq!((&pool["state"], &pool["generation"]), (&"serving".into(), &1.into()), "{pool}");
}

#[test]
fn all_mistakes_are_shown_at_once_with_their_places_and_run_refuses() {
    let scene = Scene::new();
    scene.write("broken.toml", &broken(&scene));
    for verb in ["check", "run"] {
        let said = daemon::steadfast(scene.path(), &[verb, "-c", "broken.toml"]);
        assert_eq!(said.code, 78, "{verb}: {}", said.stderr);
        assert_all_mistakes(&said.stderr, "broken.toml");
        assert_eq!(said.stdout, "");
    }
    assert!(scene.processes().is_empty());
    assert!(!daemon::socket(&scene, "site").exists());
    // And what the machine does not have, where the syntax is right.
    let missing = site(&["./no-such-program".into()], "1").text(&scene).replace("www-data", "no-such-user");
    scene.write("missing.toml", &missing);
    for verb in ["check", "run"] {
        let said = daemon::steadfast(scene.path(), &[verb, "-c", "missing.toml"]);
        assert_eq!(said.code, 78, "{verb}: {}", said.stderr);
        assert!(said.stderr.contains("no-such-program"), "{}", said.stderr);
        assert!(!daemon::is_root() || said.stderr.contains("no-such-user"), "{}", said.stderr);
        assert!(said.stderr.contains("missing.toml:"), "no position: {}", said.stderr);
    }
}

#[test]
fn a_reload_with_a_broken_file_changes_nothing_and_says_so() {
    let scene = Scene::new();
    let config = site(&[apps::worker()], "2");
    let mut daemon = start(&scene, &config, 2);
    let before = daemon.workers("site");
    scene.write("steadfast.toml", &broken(&scene));

    // By signal the log is the only answer, and it comes at once.
    let mut events = Follower::of(&daemon);
    daemon.signal(Signal::HUP);
    let told = daemon.wait_event("supervisor-refused", SOON).text;
    assert!(told.contains("nothing has changed") && told.contains("30 parsecs"), "{told}");
    events.next("supervisor-refused", SOON);
    assert_untouched(&mut daemon, &before);
    // By a verb it is the verb's; the log may gather repeats, the ring of events has each.
    for arguments in [&["reload"][..], &["reload", "--wait"]] {
        let said = daemon.verb(arguments);
        assert_eq!(said.code, 78, "{arguments:?}: {}{}", said.stdout, said.stderr);
        assert_all_mistakes(&said.stderr, "steadfast.toml");
        let told = events.next("supervisor-refused", SOON);
        assert!(told["reason"].as_str().is_some_and(|reason| reason.contains("30 parsecs")), "{told}");
        assert_untouched(&mut daemon, &before);
    }
    assert!(Request::get("/").send(&address(&scene, "site")).is_ok());
    assert!(!daemon.event_names().iter().any(|name| name == "supervisor-reloaded"));

    // The mended file is taken by the same signal.
    config.write(&scene);
    daemon.signal(Signal::HUP);
    daemon.wait_event("supervisor-reloaded", SOON);
    let started = daemon.wait_event("generation-started", SOON);
    assert_eq!(started.event["generation"], 2);
}

#[test]
fn a_good_reload_replaces_every_worker_and_loses_no_request() {
    let scene = Scene::new();
    let mut daemon = start(&scene, &site(&[apps::worker()], "2"), 2);
    let before = daemon.workers("site");
    site(&[apps::worker(), "--message".into(), "new".into()], "2").write(&scene);
    let load = Load::start(&address(&scene, "site"), &Request::get("/"), 2, Duration::from_millis(10));
    let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
    let report = load.stop();
    assert_eq!(said.code, 0, "{}{}\n{}", said.stdout, said.stderr, tail(&mut daemon));
    let after = daemon.workers("site");
    assert_eq!(after.len(), 2, "{after:?}");
    for pid in &after {
        assert!(!before.contains(pid), "{pid} was not replaced");
        assert!(proc::command_line(*pid).contains(&"new".to_owned()), "{:?}", proc::command_line(*pid));
    }
    for pid in before {
        assert!(proc::wait_gone(pid, SOON), "the old worker {pid} has stayed");
    }
    assert_eq!(daemon.pool("site")["generation"], 2);
    assert!(report.ok > 100, "{report:?}");
    assert_eq!(report.failed, 0, "{report:?}\n{}", tail(&mut daemon));
}

#[test]
fn a_release_that_ends_at_start_is_refused_with_its_lines_and_the_old_one_stays() {
    let scene = Scene::new();
    let mut daemon = start(&scene, &site(&[apps::worker()], "2"), 2);
    let before = daemon.workers("site");
    let why = "worker: Site::Response is hollow";
    let bad = [&apps::worker(), "--stderr-flood", "2", "--message", why, "--exit-at-start", "3"].map(str::to_owned);
    site(&bad, "2").write(&scene);
    let load = Load::start(&address(&scene, "site"), &Request::get("/"), 2, Duration::from_millis(10));
    let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
    let report = load.stop();
    assert_eq!(said.code, 1, "{}{}\n{}", said.stdout, said.stderr, tail(&mut daemon));
    for line in ["flood line 0", "flood line 1", why, "code 3", "the old one serves"] {
        assert!(said.stderr.contains(line), "{line:?} is not said: {}", said.stderr);
    }
    let refused = daemon.wait_event("generation-refused", SOON);
    assert_eq!(refused.event["generation"], 2);
    assert_untouched(&mut daemon, &before);
    assert_eq!(report.failed, 0, "{report:?}");
    // It stays refused, and what comes in a killed worker's place is of the old release.
    proc::kill(before[0], Signal::KILL).expect("a worker of our own supervisor");
    daemon.wait_event("worker-exited", SOON);
    wait_workers(&mut daemon, "site", 2);
    for pid in daemon.workers("site") {
        assert!(!proc::command_line(pid).contains(&why.to_owned()), "{:?}", proc::command_line(pid));
    }
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
}

fn release(scene: &Scene, name: &str) {
    std::fs::create_dir_all(scene.join(&format!("releases/{name}"))).expect("the scene is ours");
    let text = format!("#!/bin/sh\nexec {} --message release-{name}\n", apps::worker());
    scene.program(&format!("releases/{name}/app"), &text);
}

/// As deployments do it: aside, then renamed over the old link.
fn switch(scene: &Scene, name: &str) {
    symlink(Path::new("releases").join(name), scene.join("current.new")).expect("the scene is ours");
    std::fs::rename(scene.join("current.new"), scene.join("current")).expect("the scene is ours");
}

#[test]
fn a_switched_link_takes_effect_at_the_reload_and_not_before() {
    let scene = Scene::new();
    release(&scene, "1");
    release(&scene, "2");
    switch(&scene, "1");
    let config = site(&["./app".into()], "1");
    let text = config
        .text(&scene)
        .replace(&format!("directory = {:?}", scene.path()), &format!("directory = {:?}", scene.join("current")));
    let file = scene.write("steadfast.toml", &text);
    let mut command = std::process::Command::new(daemon::STEADFAST);
    command.arg("run").arg("-c").arg(file);
    let mut daemon = Daemon::spawn(command, &scene, &scene.join("run/control.sock"));
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 1);
    let is_of = |pid: u32, name: &str| {
        let directory = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        directory.ends_with(format!("releases/{name}")) && proc::command_line(pid).contains(&format!("release-{name}"))
    };
    let first = daemon.workers("site")[0];
    assert!(is_of(first, "1"), "{:?}", proc::command_line(first));

    switch(&scene, "2");
    proc::kill(first, Signal::KILL).expect("a worker of our own supervisor");
    daemon.wait_event("worker-exited", SOON);
    wait_workers(&mut daemon, "site", 1);
    let second = daemon.workers("site")[0];
    assert_ne!(first, second);
    assert!(is_of(second, "1"), "a repair took another release: {:?}", proc::command_line(second));

    let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
    assert_eq!(said.code, 0, "{}{}\n{}", said.stdout, said.stderr, tail(&mut daemon));
    let third = daemon.workers("site");
    assert_eq!(third.len(), 1);
    assert!(is_of(third[0], "2"), "{:?}", proc::command_line(third[0]));
}
