//! Lets workers leave without losing a request: finds the moment when a worker has nothing in hand, then TERM, then KILL.
//!
//! Nobody tells whether a direct worker is idle, and one that looks idle may take a request in the very moment before
//! its TERM. A worker that catches TERM, or that talks over the link, finishes what it has by itself, so TERM can do no
//! harm. Any other is watched until its main thread waits in accept(2). Then it is stopped, and looked at again while
//! it stands still: a connection that came in between has given it one more fd. If there is none, TERM is made pending
//! before it goes on, so that accept never returns. If there is one, it goes on and is watched again.
//!
//! What this cannot see: other threads, and a program that waits for connections in poll(2) or epoll_wait(2). The
//! latter is never taken for idle, and gets its TERM at the policy's deadline.

use std::fs;

use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::WorkerId;
use steadfast_proto::link::ToWorker;

use crate::children::{Kill, Pid, signal, signal_group};
use crate::links;
use crate::procfs::Syscall;
use crate::readiness::interval;
use crate::shell::Shell;
use crate::timers::Timer;
use crate::workers::Leave;
use std::os::fd::AsFd;

/// Begins to look for the moment.
pub(crate) fn drain(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get_mut(id) else {
        return;
    };
    if worker.leave != Leave::No {
        return;
    }
    let (pid, speaks) = (worker.pid, worker.speaks);
    if speaks {
        links::say(shell, id, &ToWorker::Drain);
        return drained(shell, id, Leave::Drained);
    }
    match shell.procfs.catches_term(pid) {
        Some(false) => {
            if let Some(worker) = shell.workers.get_mut(id) {
                worker.leave = Leave::Looking;
                worker.looks = 0;
            }
            look(shell, id);
        }
        // It finishes by itself, or nobody can tell.
        Some(true) | None => drained(shell, id, Leave::Drained),
    }
}

/// A look at a draining worker.
pub(crate) fn look(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get_mut(id) else {
        return;
    };
    worker.looks += 1;
    let (pid, looks) = (worker.pid, worker.looks);
    match worker.leave.clone() {
        Leave::No | Leave::Stopped | Leave::Drained => return,
        Leave::Looking => {
            let Some(fds) = open_fds(pid) else {
                return drained(shell, id, Leave::Drained);
            };
            match shell.procfs.syscall(pid) {
                Some(syscall) if syscall.is_accepting() => {
                    if let Some(worker) = shell.workers.get_mut(id)
                        && signal(worker.pidfd.as_fd(), Kill::Stop).is_ok()
                    {
                        worker.leave = Leave::Stopping(fds);
                        worker.looks = 0;
                    }
                }
                Some(Syscall::Running | Syscall::Blocked { .. }) => {}
                None => return drained(shell, id, Leave::Drained),
            }
        }
        Leave::Stopping(fds) => {
            if is_standing(pid) {
                let is_idle = shell.procfs.syscall(pid).is_some_and(Syscall::is_accepting)
                    && open_fds(pid).is_some_and(|now| now == fds);
                if is_idle {
                    return drained(shell, id, Leave::Stopped);
                }
                go_on(shell, id);
            }
        }
    }
    let looks = shell.workers.get(id).map_or(looks, |worker| worker.looks);
    let at = shell.clock.now().after(interval(looks));
    shell.timers.set(Timer::Drain(id), at);
}

/// It took a request in that moment: it is watched again.
fn go_on(shell: &mut Shell, id: WorkerId) {
    if let Some(worker) = shell.workers.get_mut(id) {
        let _ = signal(worker.pidfd.as_fd(), Kill::Cont);
        worker.leave = Leave::Looking;
        worker.looks = 0;
    }
}

fn drained(shell: &mut Shell, id: WorkerId, leave: Leave) {
    shell.timers.clear(Timer::Drain(id));
    if let Some(worker) = shell.workers.get_mut(id) {
        worker.leave = leave;
    }
    shell.facts.push_back(Fact::WorkerDrained { worker: id });
}

/// SIGTERM; what we stopped goes on, with the TERM before it.
pub(crate) fn terminate(shell: &mut Shell, id: WorkerId) {
    send(shell, id, Kill::Term);
}

/// SIGKILL to the worker and its group. The worker is unreaped, so its pid and its group are its own.
pub(crate) fn kill(shell: &mut Shell, id: WorkerId) {
    send(shell, id, Kill::Kill);
    if let Some(worker) = shell.workers.get(id) {
        let _ = signal_group(worker.pid, Kill::Kill);
    }
}

fn send(shell: &mut Shell, id: WorkerId, what: Kill) {
    shell.timers.clear(Timer::Drain(id));
    let Some(worker) = shell.workers.get_mut(id) else {
        return;
    };
    let was = std::mem::replace(&mut worker.leave, Leave::Drained);
    let _ = signal(worker.pidfd.as_fd(), what);
    if matches!(was, Leave::Stopping(_) | Leave::Stopped) {
        let _ = signal(worker.pidfd.as_fd(), Kill::Cont);
    }
}

/// The numbers of its open fds, sorted; `None` when the kernel does not tell.
fn open_fds(pid: Pid) -> Option<Vec<u32>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut fds: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    fds.sort_unstable();
    Some(fds)
}

/// Whether it stands still by a stop signal (proc(5), `stat`: the state follows the last parenthesis).
fn is_standing(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('T'))
}
