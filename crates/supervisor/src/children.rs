//! Children: their ends, signals to them, and the limits and flags that they inherit.
//!
//! A pid names its process only until it is reaped. So single processes are signalled through pidfds, groups only while
//! their leader is unreaped, and a `Pid` can hold neither 0 nor 1 nor -1, which kill(2) would take for "everybody".

use std::fmt;
use std::io;
use std::num::NonZeroI32;
use std::os::fd::BorrowedFd;

use rustix::process::{self, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitIdStatus};

use crate::sys;

/// The id of one process, above 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(NonZeroI32);

impl Pid {
    /// `None` for what is no single process: 0, 1 and negative numbers.
    pub fn new(raw: i32) -> Option<Pid> {
        if raw > 1 { NonZeroI32::new(raw).map(Pid) } else { None }
    }

    /// One that somebody has told us; `None` also for what is no pid at all.
    pub(crate) fn told(number: u32) -> Option<Pid> {
        i32::try_from(number).ok().and_then(Pid::new)
    }

    /// As a number.
    pub fn get(self) -> u32 {
        self.0.get().unsigned_abs()
    }

    pub(crate) fn raw(self) -> process::Pid {
        process::Pid::from_raw(self.0.get()).expect("a Pid is above 1")
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It called exit with this code (the kernel keeps the low 8 bits).
    Code(u8),
    /// A signal ended it.
    Signal {
        /// Which.
        number: u8,
        /// It left a core dump.
        core: bool,
    },
}

impl Ended {
    /// `None` of a traced process that stands still, which the kernel tells whatever one asks for.
    fn from_status(status: &WaitIdStatus) -> Option<Ended> {
        let small = |number: Option<i32>| number.and_then(|n| u8::try_from(n & 0xff).ok()).unwrap_or(u8::MAX);
        if status.killed() || status.dumped() {
            return Some(Ended::Signal { number: small(status.terminating_signal()), core: status.dumped() });
        }
        status.exited().then(|| Ended::Code(small(status.exit_status())))
    }
}

/// Orphans below us become our children, so that we can reap them.
pub fn become_subreaper() -> io::Result<()> {
    Ok(process::set_child_subreaper(Some(process::getpid()))?)
}

/// How the process ended, if it has; it stays unreaped, so that `/proc/PID` may still be read and its group signalled.
pub fn ended(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(process::waitid(WaitId::PidFd(pidfd), options)?.as_ref().and_then(Ended::from_status))
}

/// Reaps the process if it has ended.
pub fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    Ok(process::waitid(WaitId::PidFd(pidfd), options)?.as_ref().and_then(Ended::from_status))
}

/// Of whom the kernel has something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A child that has ended.
    Dead(Pid),
    /// A process that we trace, and that stands still.
    Stopped(Pid),
    /// A child that was sent SIGCONT while it stood still.
    Continued(Pid),
}

/// Any child that has ended, left unreaped, a traced process that stands still, or a child that goes on; `None` when there is
/// none, or no child at all.
pub fn next_news() -> io::Result<Option<Found>> {
    Ok(sys::wait_any()?.and_then(|(pid, code)| {
        let pid = Pid::new(pid)?;
        Some(match code {
            libc::CLD_TRAPPED | libc::CLD_STOPPED => Found::Stopped(pid),
            libc::CLD_CONTINUED => Found::Continued(pid),
            _ => Found::Dead(pid),
        })
    }))
}

/// That it goes on is told once.
pub(crate) fn take_continuation(pid: Pid) {
    let _gone_already = process::waitid(WaitId::Pid(pid.raw()), WaitIdOptions::CONTINUED | WaitIdOptions::NOHANG);
}

/// Why a traced process stands still: a signal, and above its 8 bits an event (ptrace(2)). It is told once.
pub(crate) fn take_stop(pid: Pid) -> Option<i32> {
    let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
    let status = process::waitid(WaitId::Pid(pid.raw()), options).ok()??;
    status.trapping_signal().or_else(|| status.stopping_signal())
}

/// How a child that `next_news` found has ended; it stays unreaped.
pub fn ended_pid(pid: Pid) -> io::Result<Option<Ended>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(process::waitid(WaitId::Pid(pid.raw()), options)?.as_ref().and_then(Ended::from_status))
}

/// Whether a process has not made a session of its own.
pub fn is_of_our_session(pid: Pid) -> bool {
    sys::session(None).is_ok_and(|ours| sys::session(Some(pid.get())).is_ok_and(|theirs| theirs == ours))
}

/// Reaps a child that `next_news` found.
pub fn reap_pid(pid: Pid) -> io::Result<Option<Ended>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    Ok(process::waitid(WaitId::Pid(pid.raw()), options)?.as_ref().and_then(Ended::from_status))
}

/// A signal that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
    /// SIGQUIT.
    Quit,
    /// SIGUSR1.
    Usr1,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Cont,
}

impl Kill {
    fn signal(self) -> Signal {
        match self {
            Kill::Term => Signal::TERM,
            Kill::Kill => Signal::KILL,
            Kill::Quit => Signal::QUIT,
            Kill::Usr1 => Signal::USR1,
            Kill::Stop => Signal::STOP,
            Kill::Cont => Signal::CONT,
        }
    }
}

/// Signals one process; ESRCH when it has been reaped.
pub fn signal(pidfd: BorrowedFd<'_>, signal: Kill) -> io::Result<()> {
    Ok(process::pidfd_send_signal(pidfd, signal.signal())?)
}

/// Signals a process group. Only while its leader is unreaped: after that the number may be a stranger's.
pub fn signal_group(leader: Pid, signal: Kill) -> io::Result<()> {
    Ok(process::kill_process_group(leader.raw(), signal.signal())?)
}

/// SIGKILL to an unreaped process, which need not lead a group, and to the group that it may lead.
pub(crate) fn kill_with_group(pid: Pid, pidfd: BorrowedFd<'_>) {
    // Whoever is dead already needs none.
    let _ = signal(pidfd, Kill::Kill);
    let _ = signal_group(pid, Kill::Kill);
}

/// Marks every inherited fd above 2 close-on-exec. Once, at start: our own are made so.
pub fn close_inherited_on_exec() -> io::Result<()> {
    sys::close_range_on_exec(3)
}

/// The limit of open files: ours before it was raised, and the hard one. `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nofile {
    /// What workers get back: select(2) breaks above 1024.
    pub soft_before: Option<u64>,
    /// The hard limit.
    pub hard: Option<u64>,
}

/// Raises our soft limit of open files to the hard one; where that is refused it stays as it was.
pub fn raise_nofile() -> Nofile {
    let Rlimit { current, maximum } = process::getrlimit(Resource::Nofile);
    let _refused = process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    Nofile { soft_before: current, hard: maximum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_holds_no_number_that_kill_takes_for_many() {
        for raw in [i32::MIN, -2, -1, 0, 1] {
            assert_eq!(Pid::new(raw), None, "{raw}");
        }
        assert_eq!(Pid::new(2).map(Pid::get), Some(2));
    }
}
