//! What a small request costs in system calls, as strace counts them: 2 on a kept connection, 4 on a new one.

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use support::process::{PATIENCE, Site, read_answer};
use support::wire::Wire;

const REQUESTS: usize = 100;

/// Whether strace is there, and may trace: a container may not allow it.
fn can_trace() -> bool {
    Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Traces the site while `ask` asks. The names of its calls, in their order.
fn traced(site: &Site, ask: impl FnOnce()) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("trace");
    let mut strace = Command::new("strace");
    strace.arg("-o").arg(&trace).args(["-p", &site.child.id().to_string()]).stderr(Stdio::null());
    let mut strace = strace.spawn().expect("strace");
    let is_traced = || {
        let status = fs::read_to_string(format!("/proc/{}/status", site.child.id())).expect("it runs");
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
    };
    let begun = Instant::now();
    // And it has been let go on: the call that it waits in is the first line.
    while !is_traced() || calls(&trace).is_empty() {
        assert!(begun.elapsed() < PATIENCE, "strace does not attach");
        std::thread::yield_now();
    }
    ask();
    site.term();
    strace.wait().expect("it ends with the site");
    calls(&trace)
}

fn calls(trace: &Path) -> Vec<String> {
    let text = fs::read_to_string(trace).unwrap_or_default();
    let name = |line: &str| line.split_once('(').map(|(name, _)| name.to_owned());
    // A debug build's standard library looks whether what it closes is open.
    let is_ours = |line: &&str| !(line.starts_with(['-', '+']) || cfg!(debug_assertions) && line.contains("F_GETFD"));
    text.lines().filter(is_ours).filter_map(name).collect()
}

/// The calls from the first one named to the last.
fn between(calls: &[String], name: &str) -> usize {
    let first = calls.iter().position(|call| call == name).expect("it was called");
    let last = calls.iter().rposition(|call| call == name).expect("it was called");
    last - first
}

#[test]
fn a_kept_request_costs_two_system_calls_and_a_closed_one_four() {
    if !can_trace() {
        println!("skipped: strace is not there, or may not trace");
        return;
    }
    let mut site = Site::start(&[]);
    let mut stream = site.connect();
    let mut kept = || {
        stream.write_all(&Wire::new().get("/", true).0).expect("it listens");
        assert!(read_answer(&mut stream).is_some());
    };
    kept();
    site.sleeps();
    let calls = traced(&site, || (0..REQUESTS).for_each(|_| kept()));
    // From the first answer to the last.
    let cost = between(&calls, "sendto");
    assert_eq!(calls.iter().filter(|call| *call == "sendto").count(), REQUESTS);
    assert!(cost <= 2 * (REQUESTS - 1), "{cost} calls: {:?}", &calls[..20]);
    site.ends_with(0);

    let mut site = Site::start(&[]);
    site.ask("/");
    site.sleeps();
    let calls = traced(&site, || (0..REQUESTS).for_each(|_| drop(site.ask("/"))));
    let cost = between(&calls, "sendto");
    assert_eq!(calls.iter().filter(|call| *call == "sendto").count(), REQUESTS);
    assert!(cost <= 4 * (REQUESTS - 1), "{cost} calls: {:?}", &calls[..20]);
    site.ends_with(0);
}
