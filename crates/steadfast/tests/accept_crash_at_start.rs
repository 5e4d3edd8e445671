//! A program that ends at once, for a minute: few starts, few lines, hardly any work, and the site comes back.

use steadfast_harness as support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::conditions::{cpu, tail};
use support::daemon::{self, Daemon, SOON, STEADFAST, USER, is_root};
use support::fcgi::Request;
use support::scene::Scene;
use support::{apps, proc};

const MINUTE: Duration = Duration::from_secs(60);
const STARTS_MAX: usize = 25;
const LINES_MAX: usize = 30;
const CPU_MAX: Duration = Duration::from_millis(300);
/// From the mending of the program until it serves again, without anybody's help.
const RETURN_MAX: Duration = Duration::from_secs(65);

/// The program as it was deployed: it counts its starts and exits 3.
fn deploy_broken(scene: &Scene, starts: &Path) -> PathBuf {
    let text = format!(
        "#!/bin/sh\necho \"0 $$\" >> {}\necho 'loading the site' >&2\n\
         echo \"Can't locate object method \\\"new\\\" via package \\\"Site::Response\\\"\" >&2\nexit 3\n",
        starts.display()
    );
    scene.program("app", &text)
}

/// The same file, mended.
fn mend(scene: &Scene) {
    scene.program("app", &format!("#!/bin/sh\nexec {}\n", apps::worker()));
}

/// As a person starts it: no file, the log for people.
fn start(scene: &Scene, program: &Path) -> Daemon {
    let control = scene.join("control.sock");
    let mut line = Command::new(STEADFAST);
    line.args(["run", "--mode", "direct", "--name", "site", "--workers", "4", "--control"]).arg(&control);
    line.arg("--listen").arg(format!("unix:{}", daemon::socket(scene, "site").display()));
    if is_root() {
        line.args(["--user", USER]);
    }
    line.arg("--").arg(program);
    Daemon::spawn(line, scene, &control)
}

#[test]
fn a_minute_of_crashes_at_start_is_quiet_and_ends_by_itself() {
    let scene = Scene::new();
    let starts = scene.shared_file("starts");
    let begun = Instant::now();
    let mut daemon = start(&scene, &deploy_broken(&scene, &starts));
    daemon.wait("the breaker's opening", SOON, |line| line.text.contains("breaker-opened"));
    // What is measured is this minute.
    std::thread::sleep(MINUTE.saturating_sub(begun.elapsed()));

    let count = proc::starts(&starts).len();
    let lines = daemon.lines().len();
    let used = cpu(daemon.pid());
    println!("in a minute: {count} starts, {lines} lines, {used:?} of processor time");
    assert!((4..=STARTS_MAX).contains(&count), "{count} starts\n{}", tail(&mut daemon));
    assert!(lines <= LINES_MAX, "{lines} lines\n{}", tail(&mut daemon));
    assert!(used <= CPU_MAX, "{used:?} of processor time");

    let pool = daemon.pool("site");
    assert_eq!(pool["state"], "down", "{pool}");
    assert_eq!(pool["breaker"]["state"], "open", "{pool}");
    let reason = pool["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("code 3"), "the reason does not name the code: {reason}");
    assert!(reason.contains("via package \"Site::Response\""), "the reason has no last line: {reason}");
    let said = daemon.verb(&["status"]);
    assert_eq!(said.code, 69, "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("code 3") && said.stdout.contains("Site::Response"), "{}", said.stdout);

    mend(&scene);
    let mended = Instant::now();
    // Whoever comes now waits in the listener's queue until somebody serves.
    let answer = Request::get("/").timeout(RETURN_MAX).send(&daemon::address(&scene, "site"));
    let answer = answer.unwrap_or_else(|error| panic!("it does not serve again: {error}\n{}", tail(&mut daemon)));
    println!("it served again {:?} after it was mended", mended.elapsed());
    assert_eq!(answer.status, 200);
    assert_eq!(daemon.verb(&["status"]).code, 0, "{}", daemon.pool("site"));
    assert_eq!(daemon.stop(), 0);
    assert!(scene.processes().is_empty(), "left behind: {:?}", scene.processes());
}

#[test]
fn a_mended_program_serves_at_once_after_a_reset_of_its_breaker() {
    let scene = Scene::new();
    let starts = scene.shared_file("starts");
    let mut daemon = start(&scene, &deploy_broken(&scene, &starts));
    // The second trial has failed: the next one is at least ten seconds away.
    for _ in 0..2 {
        daemon.wait("the breaker's opening", SOON, |line| line.text.contains("breaker-opened"));
    }
    assert_eq!(daemon.verb(&["status"]).code, 69);
    mend(&scene);
    let reset = Instant::now();
    let said = daemon.verb(&["breaker", "site", "reset"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let answer = Request::get("/").timeout(Duration::from_secs(5)).send(&daemon::address(&scene, "site"));
    let answer = answer.unwrap_or_else(|error| panic!("a reset does not help: {error}\n{}", tail(&mut daemon)));
    println!("it served {:?} after the reset", reset.elapsed());
    assert_eq!(answer.status, 200);
    daemon.wait("the pool's return", SOON, |line| line.text.contains("pool-serving"));
    let pool = daemon.pool("site");
    assert_eq!((&pool["state"], &pool["breaker"]["state"]), (&"serving".into(), &"closed".into()), "{pool}");
    assert_eq!(daemon.verb(&["status"]).code, 0);
    assert_eq!(daemon.stop(), 0);
}
