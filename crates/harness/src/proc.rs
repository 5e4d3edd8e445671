//! What /proc says about processes, and signals to single ones.

use std::fs;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// All pids that there are.
#[must_use]
pub fn all() -> Vec<u32> {
    numbers("/proc")
}

/// The children of all threads of a process.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let mut found: Vec<u32> = numbers(&format!("/proc/{pid}/task"))
        .into_iter()
        .flat_map(|task| {
            let text = text(&format!("/proc/{pid}/task/{task}/children"));
            text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u32>>()
        })
        .collect();
    found.sort_unstable();
    found
}

/// Open descriptors and what they lead to.
#[must_use]
pub fn fds(pid: u32) -> Vec<(u32, String)> {
    let mut found: Vec<(u32, String)> = numbers(&format!("/proc/{pid}/fd"))
        .into_iter()
        .filter_map(|fd| {
            let to = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
            Some((fd, to.display().to_string()))
        })
        .collect();
    found.sort_unstable();
    found
}

/// Context switches of all threads together, wanted and unwanted: unchanged means that nothing woke up.
#[must_use]
pub fn context_switches(pid: u32) -> u64 {
    numbers(&format!("/proc/{pid}/task"))
        .into_iter()
        .flat_map(|task| {
            let text = text(&format!("/proc/{pid}/task/{task}/status"));
            text.lines()
                .filter(|line| line.contains("ctxt_switches"))
                .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
                .collect::<Vec<u64>>()
        })
        .sum()
}

/// Processor time that a process has used, its reaped children not counted; whole hundredths of a second.
#[must_use]
pub fn cpu(pid: u32) -> Duration {
    let fields = stat(pid);
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    // USER_HZ is 100 on every architecture that Linux has but alpha.
    Duration::from_millis(ticks * 10)
}

/// Memory that nobody else has, in bytes.
#[must_use]
pub fn private_memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let lines = text.lines().filter(|line| line.starts_with("Private_Clean:") || line.starts_with("Private_Dirty:"));
    let kilobytes = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Some(kilobytes.sum::<u64>() * 1024)
}

/// Resident memory in bytes.
#[must_use]
pub fn rss(pid: u32) -> u64 {
    let field = status_field(pid, "VmRSS").unwrap_or_default();
    let kilobytes = field.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Resident memory that is no file's, in bytes; 0 when the process is gone.
#[must_use]
pub fn anonymous(pid: u32) -> u64 {
    let field = status_field(pid, "RssAnon").unwrap_or_default();
    let kilobytes = field.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// `R`, `S`, `D`, `T`, `Z` …, or nothing when the process is gone.
#[must_use]
pub fn state(pid: u32) -> Option<char> {
    stat(pid).first()?.chars().next()
}

/// Its parent.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    stat(pid).get(1)?.parse().ok()
}

/// Its process group.
#[must_use]
pub fn group(pid: u32) -> Option<u32> {
    stat(pid).get(2)?.parse().ok()
}

/// One field of /proc/PID/status (`SigIgn`, `SigBlk`, `Uid`, `NoNewPrivs` …).
#[must_use]
pub fn status_field(pid: u32, name: &str) -> Option<String> {
    let text = text(&format!("/proc/{pid}/status"));
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Arguments.
#[must_use]
pub fn command_line(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

/// Whether a process is there and no zombie.
#[must_use]
pub fn alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// Sends a signal to one process that the test has a right to.
///
/// # Errors
/// As kill(2).
pub fn kill(pid: u32, signal: Signal) -> Result<(), Errno> {
    kill_process(raw(pid), signal)
}

/// Waits until a process has ended (a zombie has); false when it has not in time.
#[must_use]
pub fn wait_gone(pid: u32, within: Duration) -> bool {
    let fd = match pidfd_open(raw(pid), PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(Errno::SRCH) => return true,
        Err(error) => panic!("cannot open a pidfd of {pid}: {error}"),
    };
    let end = Instant::now() + within;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).expect("a test's deadline fits");
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            Err(error) => panic!("cannot poll a pidfd: {error}"),
        }
    }
}

/// CLOCK_MONOTONIC now in nanoseconds, as the programs write it to START_LOG.
#[must_use]
pub fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// A START_LOG: when each process started (CLOCK_MONOTONIC nanoseconds, 0 where the program has no such clock) and
/// its pid.
#[must_use]
pub fn starts(log: &std::path::Path) -> Vec<(u64, u32)> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (time, pid) = line.split_once(' ')?;
            Some((time.parse().ok()?, pid.parse().ok()?))
        })
        .collect()
}

/// The fields of /proc/PID/stat after the name, which may hold spaces and brackets: state, parent, group, …
fn stat(pid: u32) -> Vec<String> {
    let text = text(&format!("/proc/{pid}/stat"));
    let after = text.rsplit_once(')').map(|(_, after)| after).unwrap_or_default();
    after.split_whitespace().map(str::to_owned).collect()
}

fn raw(pid: u32) -> Pid {
    let pid = i32::try_from(pid).expect("pids are small");
    assert!(pid > 1, "pid {pid} is not ours to touch");
    Pid::from_raw(pid).expect("pids are not zero")
}

fn numbers(directory: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// A process may end at any moment: then there is nothing to read.
fn text(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
