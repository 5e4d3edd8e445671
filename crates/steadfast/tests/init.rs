//! `steadfast init`: what it writes is accepted as it is, and serves.

use steadfast_harness as support;

use std::fs;
use std::process::Command;

use steadfast_supervisor::users;
use support::apps;
use support::daemon::{Daemon, STEADFAST, Said, USER, is_root, steadfast};
use support::fcgi::{Address, Request};
use support::scene::Scene;

/// `init` with a user, which a unit needs and root: the test's own, or [`USER`].
fn init(scene: &Scene, words: &[&str]) -> Said {
    let own = users::user_by_id(rustix::process::geteuid().as_raw()).expect("a lookup").expect("our own user");
    let user = if is_root() { USER.to_owned() } else { own.name };
    steadfast(scene.path(), &[&["init", "--user", &user], words].concat())
}

#[test]
fn a_first_configuration_is_accepted_and_serves() {
    let scene = Scene::new();
    let worker = apps::worker();
    let socket = format!("unix:{}", scene.join("first.sock").display());
    let said = init(&scene, &["--name", "first", "--listen", &socket, "--unit", "steadfast.service", "--", &worker]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("next: steadfast check --boot -c steadfast.toml"), "{said:?}");
    let checked = steadfast(scene.path(), &["check"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let unit = fs::read_to_string(scene.join("steadfast.service")).expect("it was written");
    assert!(unit.contains(&format!("run -c {}\n", scene.join("steadfast.toml").display())), "{unit}");

    let mut command = Command::new(STEADFAST);
    command.args(["run", "--log", "json", "--control"]).arg(scene.join("control.sock"));
    command.env("RUNTIME_DIRECTORY", scene.join("run"));
    let mut daemon = Daemon::spawn(command, &scene, &scene.join("control.sock"));
    daemon.wait_serving("first");
    let answer = Request::get("/").send(&Address::Unix(scene.join("first.sock"))).expect("an answer");
    assert_eq!(answer.status, 200);
    daemon.stop_idle();
}

#[test]
fn nothing_is_overwritten_and_nothing_is_half_written() {
    let scene = Scene::new();
    scene.write("steadfast.toml", "mine");
    let refused = steadfast(scene.path(), &["init", "--", "/bin/true"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("nothing is overwritten"), "{refused:?}");
    assert_eq!(fs::read_to_string(scene.join("steadfast.toml")).expect("it is there"), "mine");
    // A unit that is there: then the configuration is not made either.
    scene.write("site.service", "mine");
    let refused = init(&scene, &["-o", "other.toml", "--unit", "site.service", "--", "/bin/true"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(!scene.join("other.toml").exists());
    assert_eq!(fs::read_to_string(scene.join("site.service")).expect("it is there"), "mine");
}

#[test]
fn what_run_would_refuse_is_refused_before_anything_is_written() {
    let scene = Scene::new();
    for (option, value) in [("--listen", "nowhere"), ("--name", "two words"), ("--user", "")] {
        let refused = steadfast(scene.path(), &["init", option, value, "--", "/bin/true"]);
        assert_eq!(refused.code, 78, "{refused:?}");
        assert!(refused.stderr.contains(option), "{refused:?}");
        assert!(!scene.join("steadfast.toml").exists(), "{refused:?}");
    }
}

#[test]
fn what_the_machine_lacks_is_said_at_once() {
    let scene = Scene::new();
    let said = init(&scene, &["--listen", "unix:x.sock", "--", "/nowhere/worker"]);
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.stderr.contains("the program /nowhere/worker cannot be used"), "{said:?}");
    assert!(said.stderr.contains("steadfast.toml:"), "it is drawn in its place: {said:?}");
    assert!(said.stderr.contains("next: mend that, then steadfast check --boot -c steadfast.toml"), "{said:?}");
    let text = fs::read_to_string(scene.join("steadfast.toml")).expect("it was written, to be mended");
    let socket = format!("listen = [\"unix:{}\"]\n", scene.join("x.sock").display());
    assert!(text.contains(&socket), "a typed path begins where it is typed: {text}");
}

#[test]
fn a_first_configuration_needs_no_options() {
    let scene = Scene::new();
    scene.write("site.pl", "");
    let said = steadfast(scene.path(), &["init", "--", "/usr/bin/perl", "-w", "site.pl", "a \"word\""]);
    assert_eq!(said.code, 0, "{said:?}");
    let text = fs::read_to_string(scene.join("steadfast.toml")).expect("it was written");
    assert!(text.contains("\n[pool.site]\n"), "named after the script: {text}");
    assert!(text.contains(r#"command = ["/usr/bin/perl", "-w", "site.pl", "a \"word\""]"#), "{text}");
    let socket = if is_root() { "unix:/run/site.sock" } else { "unix:site.sock" };
    assert!(text.contains(&format!("listen = [\"{socket}\"]\n")), "{text}");
    // What is offered as a comment is good as it stands there.
    scene.write("maintenance.html", "soon");
    let offered = |line: &str| ["# [", "# request", "# expect", "# file"].iter().any(|start| line.starts_with(start));
    let whole: Vec<&str> =
        text.lines().map(|line| if offered(line) { line.trim_start_matches("# ") } else { line }).collect();
    assert!(whole.contains(&"[pool.site.verify]") && whole.contains(&"[pool.site.fallback]"), "{text}");
    scene.write("whole.toml", &(whole.join("\n") + "\n"));
    let checked = steadfast(scene.path(), &["check", "-c", "whole.toml"]);
    assert_eq!(checked.code, 0, "{checked:?}\n{text}");
}
