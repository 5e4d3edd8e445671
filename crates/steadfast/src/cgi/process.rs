//! A running script: its process, its group, and how it ended.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::sys::{Image, Starter, Step};

/// How a script has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Code(i32),
    Signal(i32),
}

/// A script's process, which leads a group of its own. If nobody has waited for its end, it is killed with its group.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    end: Option<End>,
}

impl Process {
    pub(super) fn start(
        starter: &mut Starter,
        image: &mut Image<'_>,
        stdio: [BorrowedFd<'_>; 3],
    ) -> Result<Process, (Step, Errno)> {
        let (pid, pidfd) = starter.start(image, stdio)?;
        Ok(Process { pid, pidfd, end: None })
    }

    /// Readable when it has ended.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Signals it, and what it has started and is in its group still. Only while it is unreaped: after that the number may
    /// be a stranger's.
    pub(super) fn signal(&self, signal: Signal) {
        if self.end.is_none() {
            let _gone = kill_process_group(self.pid, signal);
        }
    }

    /// Waits for its end, and reaps it.
    pub(super) fn wait(&mut self) -> End {
        if let Some(end) = self.end {
            return end;
        }
        let end = loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Err(Errno::INTR) => {}
                // Somebody else has reaped it: how it ended is lost.
                Err(_) | Ok(None) => break End::Code(0),
                Ok(Some(status)) => {
                    break match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => End::Code(code),
                        (None, signal) => End::Signal(signal.unwrap_or(0)),
                    };
                }
            }
        };
        self.end = Some(end);
        end
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Code(code) => write!(f, "exited with {code}"),
            End::Signal(number) => match Signal::from_named_raw(*number).and_then(name) {
                Some(name) => write!(f, "was killed by signal {number} ({name})"),
                None => write!(f, "was killed by signal {number}"),
            },
        }
    }
}

/// The signals that people ask about.
fn name(signal: Signal) -> Option<&'static str> {
    let names = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::SYS, "SIGSYS"),
    ];
    names.iter().find(|(known, _)| *known == signal).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        assert_eq!(End::Code(3).to_string(), "exited with 3");
        assert_eq!(End::Signal(11).to_string(), "was killed by signal 11 (SIGSEGV)");
        assert_eq!(End::Signal(40).to_string(), "was killed by signal 40");
    }
}
