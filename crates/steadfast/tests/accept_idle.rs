//! A supervisor with nothing to do does nothing, and needs little memory for it.

#[path = "support/cases.rs"]
mod cases;
mod support;

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
const RSS_MAX: u64 = 6 << 20;
/// Unoptimised code is three times as large, and its pages are read in.
const RSS_MAX_UNOPTIMISED: u64 = 16 << 20;

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
fn alone_an_idle_supervisor_of_eight_workers_sleeps_and_is_small() {
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
    println!("resident: {} KiB", rss >> 10);
    let most = if is_release { RSS_MAX } else { RSS_MAX_UNOPTIMISED };
    assert!(rss > 0 && rss <= most, "{} KiB are resident, {} are allowed", rss >> 10, most >> 10);
    // It sleeps, it is not stuck.
    assert_eq!(daemon.workers("site").len(), 8);
    assert_eq!(daemon.stop(), 0);
}
