//! Stops a trial manager in the very moment when it has started its first worker.
//!
//! A look comes after the fact, on a busy machine long after it: workers have died by then, and the manager has started
//! others. ptrace(2) tells before anything else happens: with PTRACE_O_TRACEFORK a process that has forked does not go on, nor
//! does its child begin. SIGSTOP is made pending, and both are let go: the child runs, and the manager stands still before it
//! does another thing. What is told of a traced process comes by SIGCHLD, as a child's end does. It is forbidden where
//! /proc/PID/syscall is, too, and by a filter of system calls; then there are looks (`nest.rs`).
//!
//! Until then every signal to the manager comes by here, and is passed on.

use std::os::fd::{AsFd, BorrowedFd};

use steadfast_policy::ids::WorkerId;

use crate::children::{Kill, Pid, signal, take_stop};
use crate::nest;
use crate::nurse;
use crate::shell::Shell;
use crate::sys::{self, Traced};
use crate::timers::Timer;
use crate::workers::{Leave, Worker};

/// A fork, as waitid(2) tells it (ptrace(2), "PTRACE_EVENT stops").
const FORKED: i32 = libc::SIGTRAP | (libc::PTRACE_EVENT_FORK << 8);
/// What stops a process until SIGCONT.
const STOPPING: [i32; 4] = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// A trial manager stands still as soon as it has started somebody.
pub(crate) fn watch(shell: &mut Shell, id: WorkerId) {
    let is_manager = |worker: &&mut Worker| worker.trial.as_ref().is_some_and(|private| private.loopback.is_some());
    let Some(worker) = shell.workers.get_mut(id).filter(is_manager) else { return };
    let is_traced = worker.trace();
    // It may have started somebody before.
    nest::look(shell, id);
    if is_traced && shell.workers.get(id).is_some_and(|worker| worker.held.is_none()) {
        shell.timers.clear(Timer::Nest(id));
    }
}

/// A traced process stands still.
pub(crate) fn stopped(shell: &mut Shell, pid: Pid) {
    let id = shell.workers.by_pid(pid);
    let Some(worker) = id.and_then(|id| shell.workers.get_mut(id)).filter(|worker| worker.is_traced) else {
        return let_go(pid);
    };
    if !has_forked(pid) {
        return;
    }
    worker.is_traced = false;
    let id = worker.id;
    // Whoever has been sent its last signal is let go: it may ask a program before it leaves.
    if worker.leave == Leave::Drained {
        return sys::trace_on(pid.get(), Traced::Detach);
    }
    stop(pid, worker.pidfd.as_fd());
    nurse::forked(shell, id);
}

/// Why a traced manager stands still. When it has forked it goes on standing; else it goes on.
pub(crate) fn has_forked(pid: Pid) -> bool {
    let Some(why) = take_stop(pid) else { return false };
    if why != FORKED {
        sys::trace_on(pid.get(), after(why));
    }
    why == FORKED
}

/// It has forked, and is traced no more: SIGSTOP stops it before it does another thing.
pub(crate) fn stop(pid: Pid, pidfd: BorrowedFd<'_>) {
    let _ = signal(pidfd, Kill::Stop);
    sys::trace_on(pid.get(), Traced::Detach);
}

/// The worker that a manager has started, which is traced like it, goes on and is traced no more.
pub(crate) fn let_go(pid: Pid) {
    if take_stop(pid).is_some() {
        sys::trace_on(pid.get(), Traced::Detach);
    }
}

/// How a process goes on that stands still for another reason than a fork: with its signal, or it stays as it is when a
/// signal has stopped it.
fn after(why: i32) -> Traced {
    let (event, signal) = (why >> 8, why & 0xff);
    match event {
        0 => Traced::Continue(signal),
        libc::PTRACE_EVENT_STOP if STOPPING.contains(&signal) => Traced::Listen,
        _ => Traced::Continue(0),
    }
}
