//! How far an upgrade is, as the shell keeps it.

use std::os::fd::OwnedFd;

use crate::children::Pid;

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// Nobody has asked for one.
    #[default]
    No,
    /// It was asked for: everything is to come to rest.
    Asked,
    /// The new program is tried.
    Trying,
    /// It has passed: everything is to come to rest once more.
    Passed,
}

/// The child that tries.
pub(crate) struct Trial {
    /// Its process; its own group's leader.
    pub(crate) pid: Pid,
    /// By which it is signalled and reaped.
    pub(crate) pidfd: OwnedFd,
    /// What it says there is read when it has ended.
    pub(crate) stdout: OwnedFd,
    /// The same.
    pub(crate) stderr: OwnedFd,
    /// Why we have ended it.
    pub(crate) why: Option<String>,
    /// It could take over, or why not.
    pub(crate) verdict: Option<Result<(), String>>,
}

impl Trial {
    /// Whether this is its process.
    pub(crate) fn is(&self, pid: Pid) -> bool {
        self.verdict.is_none() && self.pid == pid
    }
}
