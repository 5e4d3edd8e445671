//! Signals to the supervisor, read from a signalfd with their sender.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys;

/// A signal that the supervisor listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sig {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGCHLD: some child has ended, or goes on. It coalesces completely, so it means "look", never "one".
    Child,
}

/// Our signals and their numbers.
const TABLE: [(Sig, libc::c_int); 7] = [
    (Sig::Term, libc::SIGTERM),
    (Sig::Int, libc::SIGINT),
    (Sig::Quit, libc::SIGQUIT),
    (Sig::Hup, libc::SIGHUP),
    (Sig::Usr1, libc::SIGUSR1),
    (Sig::Usr2, libc::SIGUSR2),
    (Sig::Child, libc::SIGCHLD),
];

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub signal: Sig,
    /// Who sent it; 0 for the kernel, and for a process outside our pid namespace.
    pub pid: u32,
    /// The sender's user.
    pub uid: u32,
}

/// The supervisor's signals, blocked and readable.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Takes the signals over: blocks them in this thread, undoes inherited "ignored" dispositions (an ignored SIGCHLD
    /// would make the kernel reap our workers, faults of nohup and `trap ''`), and ignores SIGPIPE.
    ///
    /// Call it before any other thread exists: a thread that does not block them could swallow one.
    pub fn install() -> io::Result<Signals> {
        let numbers = TABLE.map(|(_, number)| number);
        sys::block_signals(&numbers)?;
        for number in numbers {
            sys::set_disposition(number, false)?;
        }
        sys::set_disposition(libc::SIGPIPE, true)?;
        Ok(Signals { fd: sys::signalfd(&numbers)? })
    }

    /// The next signal, or `None` when there is none now.
    pub fn read(&self) -> io::Result<Option<Received>> {
        while let Some(info) = sys::read_signal(self.fd.as_fd())? {
            let known = TABLE.iter().find(|(_, number)| u32::try_from(*number) == Ok(info.number));
            if let Some(&(signal, _)) = known {
                return Ok(Some(Received { signal, pid: info.pid, uid: info.uid }));
            }
        }
        Ok(None)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The name of a signal that ended a process; real-time signals are all `SIGRT`, what is no signal is `SIG?`.
pub fn signal_name(number: u8) -> &'static str {
    match i32::from(number) {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGSTKFLT => "SIGSTKFLT",
        libc::SIGCHLD => "SIGCHLD",
        libc::SIGCONT => "SIGCONT",
        libc::SIGSTOP => "SIGSTOP",
        libc::SIGTSTP => "SIGTSTP",
        libc::SIGTTIN => "SIGTTIN",
        libc::SIGTTOU => "SIGTTOU",
        libc::SIGURG => "SIGURG",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGVTALRM => "SIGVTALRM",
        libc::SIGPROF => "SIGPROF",
        libc::SIGWINCH => "SIGWINCH",
        libc::SIGIO => "SIGIO",
        libc::SIGPWR => "SIGPWR",
        libc::SIGSYS => "SIGSYS",
        32..=64 => "SIGRT",
        _ => "SIG?",
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, getuid};

    use super::*;

    #[test]
    fn a_signal_tells_its_sender_and_storms_coalesce() {
        // The mask is the thread's own, so the signals are sent to this thread alone.
        let signals = Signals::install().expect("install");
        assert_eq!(signals.read().expect("read"), None);
        let tid = rustix::thread::gettid();
        for _ in 0..1000 {
            sys::signal_thread(tid.as_raw_nonzero().get(), Signal::USR1.as_raw());
        }
        let got = signals.read().expect("read").expect("one");
        let pid = u32::try_from(getpid().as_raw_nonzero().get()).expect("positive");
        assert_eq!(got, Received { signal: Sig::Usr1, pid, uid: getuid().as_raw() });
        assert_eq!(signals.read().expect("read"), None, "a thousand are one");
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(signal_name(11), "SIGSEGV");
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(40), "SIGRT");
        assert_eq!(signal_name(99), "SIG?");
    }
}
