//! A supervisor with nothing to do does nothing, and needs little memory for it.

#[path = "support/cases.rs"]
mod cases;
use steadfast_harness as support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cases::wait_workers;
use support::conditions::tail;
use support::daemon::{Config, Daemon, Pool, STEADFAST};
use support::scene::Scene;
use support::{apps, proc};

/// From the last event until it must be quiet.
const REST: Duration = Duration::from_secs(3);
/// As long as it is watched.
const WATCHED: Duration = Duration::from_secs(10);
/// With its program: of the release binary, for the pages of an unoptimised one are read in as they come.
const RSS_MAX: u64 = 6 << 20;
/// Without: what it needs for itself, and the tables that the loader fills in (1.1 MiB of an unoptimised program).
const OWN_MAX: u64 = 3 << 20;

/// The release binary beside the one under test, where there is one that is no older: the promise is about it.
fn binary() -> (PathBuf, bool) {
    let ours = Path::new(STEADFAST);
    let release = ours.ancestors().nth(2).map(|target| target.join("release/steadfast"));
    let changed = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    match release {
        Some(release) if changed(&release) >= changed(ours) => (release, true),
        _ => (ours.to_path_buf(), !cfg!(debug_assertions)),
    }
}

#[test]
fn an_idle_supervisor_of_eight_workers_sleeps_and_is_small() {
    let (binary, is_release) = binary();
    println!("measured: {}{}", binary.display(), if is_release { "" } else { ", which is no release binary" });
    let scene = Scene::new();
    let pool = Pool::new("site", &[apps::worker()]).workers("8");
    let file = Config::new(&[pool]).write(&scene);
    let mut command = Command::new(binary);
    command.arg("run").arg("-c").arg(file);
    let mut daemon = Daemon::spawn(command, &scene, &scene.join("run/control.sock"));
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 8);

    // Nothing is waited for here: that nothing happens in this time is what is tested.
    std::thread::sleep(REST);
    let (before, lines) = (proc::context_switches(daemon.pid()), daemon.lines().len());
    std::thread::sleep(WATCHED);
    let after = proc::context_switches(daemon.pid());
    assert!(before > 0, "/proc says nothing");
    assert_eq!(daemon.lines().len(), lines, "an event came in between\n{}", tail(&mut daemon));
    assert_eq!(before, after, "it woke up {} times in {WATCHED:?}", after - before);

    let rss = proc::rss(daemon.pid());
    let own = proc::anonymous(daemon.pid());
    println!("resident: {} KiB, its own: {} KiB", rss >> 10, own >> 10);
    assert!(own > 0 && own <= OWN_MAX, "{} KiB are its own, {} are allowed", own >> 10, OWN_MAX >> 10);
    assert!(!is_release || rss <= RSS_MAX, "{} KiB are resident, {} are allowed", rss >> 10, RSS_MAX >> 10);
    // It sleeps, it is not stuck.
    assert_eq!(daemon.workers("site").len(), 8);
    assert_eq!(daemon.stop(), 0);
}
