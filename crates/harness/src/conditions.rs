//! The two conditions that hold in every fault: the site keeps answering (S), and the supervisor stays quiet (B).

use std::fs;
use std::time::{Duration, Instant};

use super::daemon::{Daemon, SOON};
use super::fcgi::{Address, Load, LoadReport, Request};
use super::proc;

/// Own lines that a supervisor may write in a minute.
const LINES_MAX: usize = 30;
/// The hundredth part of a core that it may use. Unoptimised code takes several times the 2 of the promise; a loop
/// without end takes 100.
const SHARE: u32 = if cfg!(debug_assertions) { 12 } else { 2 };
/// What the tests themselves ask of a supervisor (a verb, a start, an end), unoptimised: a spinning one takes far more.
const ASKED: Duration = Duration::from_millis(60);

/// Both conditions over a part of a test.
#[derive(Debug)]
pub struct Conditions {
    load: Load,
    address: Address,
    request: Request,
    begun: Instant,
    pid: u32,
    cpu: Duration,
    lines: usize,
}

impl Conditions {
    /// From now on: two visitors, each every 20 ms.
    #[must_use]
    pub fn begin(daemon: &mut Daemon, address: &Address) -> Conditions {
        Conditions::with(daemon, address, &Request::get("/"))
    }

    /// The same with a request of one's own.
    #[must_use]
    pub fn with(daemon: &mut Daemon, address: &Address, request: &Request) -> Conditions {
        Conditions {
            load: Load::start(address, request, 2, Duration::from_millis(20)),
            address: address.clone(),
            request: request.clone(),
            begun: Instant::now(),
            pid: daemon.pid(),
            cpu: cpu(daemon.pid()),
            lines: own_lines(daemon),
        }
    }

    /// Until now. `lost`: how many requests the fault itself may have cost, with the worker that had them in hand.
    pub fn end(self, daemon: &mut Daemon, lost: u64) -> LoadReport {
        let took = self.begun.elapsed();
        let used = cpu(self.pid).saturating_sub(self.cpu);
        let before = self.lines;
        let report = self.end_answered(daemon, lost);
        let lines = own_lines(daemon) - before;
        let most = took * SHARE / 100 + ASKED;
        assert!(used <= most, "B: {used:?} of a core in {took:?}; {most:?} is allowed");
        assert!(lines <= LINES_MAX, "B: {} lines in {took:?}:\n{}", lines, tail(daemon));
        report
    }

    /// The first of the two alone: where the test itself keeps the supervisor busy.
    pub fn end_answered(self, daemon: &mut Daemon, lost: u64) -> LoadReport {
        // However short the fault was, this one comes after it.
        let last = self.request.send(&self.address);
        let report = self.load.stop();
        assert!(last.is_ok(), "S: {last:?}; {report:?}\n{}", tail(daemon));
        assert!(report.failed <= lost, "S: {lost} requests may be lost: {report:?}\n{}", tail(daemon));
        report
    }
}

/// Lines of the supervisor's own, without what workers write while they are ready.
pub fn own_lines(daemon: &mut Daemon) -> usize {
    daemon.lines().iter().filter(|line| line.name() != "worker-output").count()
}

/// Processor time of all threads, to the nanosecond.
#[must_use]
pub fn cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).map(|tasks| tasks.flatten().collect::<Vec<_>>());
    let nanos = tasks.unwrap_or_default().into_iter().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Whether something becomes true within [`SOON`]: for what has no event to wait for. Looks every 20 ms.
#[must_use]
pub fn is_soon(is_true: impl FnMut() -> bool) -> bool {
    is_within(SOON, is_true)
}

/// The same with a time of one's own.
#[must_use]
pub fn is_within(within: Duration, mut is_true: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    while !is_true() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Waits until a supervisor has so many living children, and gives their pids.
pub fn wait_children(daemon: &mut Daemon, count: usize) -> Vec<u32> {
    let living = |pid| proc::children(pid).into_iter().filter(|pid| proc::alive(*pid)).collect::<Vec<_>>();
    let pid = daemon.pid();
    assert!(is_soon(|| living(pid).len() == count), "not {count} workers but {:?}\n{}", living(pid), tail(daemon));
    living(pid)
}

/// The last lines, for the message of a failure.
pub fn tail(daemon: &mut Daemon) -> String {
    let lines = daemon.lines();
    let from = lines.len().saturating_sub(40);
    lines[from..].iter().map(|line| format!("{}\n", line.text)).collect()
}

/// How many sockets a process has: one more than when it was idle is a request in hand.
#[must_use]
pub fn sockets(pid: u32) -> usize {
    proc::fds(pid).iter().filter(|(_, to)| to.starts_with("socket:")).count()
}
