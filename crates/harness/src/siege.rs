//! What tests of single faults in requests share: the front's share of B, descriptors for crowds, preloaded libraries.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::conditions::{cpu, is_soon};
use super::daemon::{Daemon, USER, is_root};
use super::scene::{Scene, allow};

/// What a front may take of a quarter of a second without work: a loop takes all of it.
const CALM: Duration = Duration::from_millis(25);

/// Compiles tests/apps/NAME.c into a library that every user may preload.
#[must_use]
pub fn library(scene: &Scene, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../steadfast/tests/apps/{name}.c"));
    let made = scene.join(&format!("{name}.so"));
    let output = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .args([&made, &source])
        .output()
        .expect("cc runs");
    assert!(output.status.success(), "cc {}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    allow(&made, 0o755);
    made
}

/// Leaves a worker the descriptors below this one. As its own user: root needs a capability for that, which it may lack.
pub fn limit_files(worker: u32, below: u32) {
    let user = if is_root() { &["runuser", "-u", USER, "--"][..] } else { &[] };
    let limit = format!("--nofile={below}:");
    let words = [user, &["prlimit", &limit, "--pid"]].concat();
    let output = Command::new(words[0]).args(&words[1..]).arg(worker.to_string()).output();
    let output = output.expect("prlimit and runuser of util-linux are there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Raises this process's own limit of open files as far as it may; false when that is too little for so many.
#[must_use]
pub fn have_files(count: u64) -> bool {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    raised.is_ok() && maximum.is_none_or(|most| most >= count)
}

/// The front does nothing when nobody asks it for anything.
pub fn assert_calm(daemon: &Daemon) {
    let front = daemon.front();
    let mut last = Duration::ZERO;
    // What was asked of it before may still have to be ended.
    let is_calm = is_soon(|| {
        let (before, begun) = (cpu(front), Instant::now());
        std::thread::sleep(Duration::from_millis(250));
        last = cpu(front).saturating_sub(before);
        last <= CALM.mul_f64(begun.elapsed().as_secs_f64() * 4.0)
    });
    assert!(is_calm, "B: the front takes {last:?} of each quarter of a second");
}

/// How many workers of a pool have ended so.
#[must_use]
pub fn ended(daemon: &Daemon, pool: &str, class: &str) -> u64 {
    daemon.pool(pool)["exits"][class].as_u64().unwrap_or(0)
}

/// The breaker is closed, and nothing weighs on it.
pub fn assert_unblamed(daemon: &Daemon, pool: &str) {
    let pool = daemon.pool(pool);
    assert_eq!((&pool["breaker"]["state"], &pool["breaker"]["failures"]), (&"closed".into(), &0.0.into()), "{pool}");
}
