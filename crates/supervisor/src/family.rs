//! What /proc says of a process and of those whom it has started.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{PidfdFlags, pidfd_open};

use crate::children::Pid;

/// "forked but didn't exec" (linux/sched.h).
const PF_FORKNOEXEC: u64 = 0x40;

/// Z is dead, T stands still (proc(5), `stat`).
pub(crate) fn state(pid: u32) -> Option<char> {
    stat(pid)?.chars().next()
}

/// Whether it runs another program than the process that has forked it, as the kernel remembers it of the dead, too (proc(5),
/// `stat`, field 9).
pub(crate) fn has_executed(pid: u32) -> Option<bool> {
    let flags: u64 = stat(pid)?.split(' ').nth(6)?.parse().ok()?;
    Some(flags & PF_FORKNOEXEC == 0)
}

/// Whether it has ended as a worker of whoever has forked it: it runs nothing else. What it ran is told for good of the dead only.
pub(crate) fn is_dead_worker(pid: u32) -> bool {
    state(pid) == Some('Z') && has_executed(pid) == Some(false)
}

/// By which its end is heard.
pub(crate) fn pidfd(pid: u32) -> Option<OwnedFd> {
    pidfd_open(Pid::told(pid)?.raw(), PidfdFlags::empty()).ok()
}

/// How a process ended that nobody has reaped yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself, with 0.
    Well,
    /// With another code, or by a signal.
    Otherwise,
}

/// How a dead process ended; `None` where it is not told (proc(5), `stat`, field 52, which others may not read).
pub(crate) fn ended(pid: u32) -> Option<Ended> {
    let code: u32 = stat(pid)?.trim_end().split(' ').nth(49)?.parse().ok()?;
    Some(if code == 0 { Ended::Well } else { Ended::Otherwise })
}

/// The fields of `/proc/PID/stat` from the third one on, which follow the last parenthesis.
fn stat(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ").map(|(_, fields)| fields.to_owned())
}

/// Its children that run what it runs, dead ones among them.
pub(crate) fn workers(manager: Pid) -> Option<Vec<u32>> {
    let mut children = children(manager)?;
    children.retain(|child| has_executed(*child) == Some(false));
    Some(children)
}

/// The children of its main thread (proc(5), `children`).
pub(crate) fn children(pid: Pid) -> Option<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    Some(text.split_whitespace().filter_map(|child| child.parse().ok()).collect())
}
