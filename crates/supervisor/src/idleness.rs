//! Sees whether a process waits in accept(2) with nothing in hand, and what it has open then.

use std::fs;

use crate::children::Pid;
use crate::family::state;
use crate::procfs::Syscall;
use crate::shell::Shell;
use crate::workers::Open;

/// What a look at a worker shows.
pub(crate) enum Seen {
    /// The kernel does not tell.
    Nothing,
    /// It does not wait in accept.
    Busy,
    /// It waits in accept, with these files open.
    Idle(Vec<Open>),
}

/// The files count only if they were read while the worker waited in accept: else a request's connection might be taken
/// for one of them. A thread that has not been switched to between two looks was in the same wait all the time.
pub(crate) fn idle_files(shell: &mut Shell, pid: Pid) -> Seen {
    let Some(switches) = switches(pid) else {
        return Seen::Nothing;
    };
    match shell.procfs.syscall(pid) {
        None => return Seen::Nothing,
        Some(syscall) if !syscall.is_accepting() => return Seen::Busy,
        Some(_) => {}
    }
    let Some(files) = open_files(pid) else {
        return Seen::Nothing;
    };
    let is_accepting = shell.procfs.syscall(pid).is_some_and(Syscall::is_accepting);
    let is_same = self::switches(pid) == Some(switches);
    if is_same && is_accepting { Seen::Idle(files) } else { Seen::Busy }
}

/// How often its main thread has been switched from, as the kernel counts (proc(5), `status`).
fn switches(pid: Pid) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.find("voluntary_ctxt_switches").map(|at| status[at..].to_owned())
}

/// What it has open, sorted; `None` when the kernel does not tell. A socket's name has its inode, so that two
/// connections are never taken for each other.
pub(crate) fn open_files(pid: Pid) -> Option<Vec<Open>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut files: Vec<Open> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name(), fs::read_link(entry.path()).ok()?))
        })
        .collect();
    files.sort_unstable();
    Some(files)
}

/// Whether it stands still by a stop signal.
pub(crate) fn is_standing(pid: Pid) -> bool {
    state(pid.get()) == Some('T')
}
