//! Lets workers leave without losing a request: finds the moment when a worker has nothing in hand, then TERM, then KILL.
//!
//! Nobody tells whether a direct worker is idle, and one that looks idle may take a request in the very moment before
//! its TERM. A worker that catches TERM, or that talks over the link, finishes what it has by itself, so TERM can do no
//! harm. Any other is watched until its main thread waits in accept(2), and what it has open then is noted. Then it is
//! stopped, and looked at while it stands still: if it is in accept and has the same files open, it has no connection in
//! hand (one that came in has given it one more). TERM is made pending before it goes on, so that accept never
//! returns. If it has one, it goes on and is stopped again a little later.
//!
//! What this cannot see: other threads, and a program that waits for connections in poll(2) or epoll_wait(2). The
//! latter is never taken for idle, and gets its TERM at the policy's deadline.

use std::os::fd::AsFd;

use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::WorkerId;
use steadfast_proto::link::ToWorker;

use crate::children::{Kill, signal, signal_group};
use crate::idleness::{Seen, idle_files, is_standing, open_files};
use crate::links;
use crate::nest;
use crate::nested;
use crate::nurse;
use crate::procfs::Syscall;
use crate::readiness::interval;
use crate::shell::Shell;
use crate::timers::Timer;
use crate::voice::Speaker;
use crate::workers::{Leave, Open, Worker};

/// After so many looks what is open is learned again.
const TRIES: u32 = 16;

/// Begins to look for the moment.
pub(crate) fn drain(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get_mut(id) else {
        return;
    };
    if worker.leave != Leave::No {
        return;
    }
    let (pid, speaks) = (worker.pid, worker.speaks);
    if !speaks && is_manager(shell, id) {
        if let Some(worker) = shell.workers.get_mut(id) {
            worker.leave = Leave::Looking;
        }
        return nest::drain(shell, id);
    }
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
    let next = match std::mem::take(&mut worker.leave) {
        done @ (Leave::No | Leave::Stopped | Leave::Drained) => {
            worker.leave = done;
            return;
        }
        Leave::Looking => match idle_files(shell, pid) {
            Seen::Nothing => return drained(shell, id, Leave::Drained),
            Seen::Busy => Leave::Looking,
            Seen::Idle(files) => stop(shell, id, files),
        },
        // What it has open when it is idle may change; then it is to be learned again.
        Leave::Known(_) if looks % TRIES == 0 => Leave::Looking,
        Leave::Known(files) => stop(shell, id, files),
        Leave::Stopping(files) if !is_standing(pid) => Leave::Stopping(files),
        Leave::Stopping(files) => {
            let is_idle = shell.procfs.syscall(pid).is_some_and(Syscall::is_accepting)
                && open_files(pid).is_some_and(|open| open == files);
            if is_idle {
                return drained(shell, id, Leave::Stopped);
            }
            if let Some(worker) = shell.workers.get(id) {
                let _ = signal(worker.pidfd.as_fd(), Kill::Cont);
            }
            Leave::Known(files)
        }
    };
    let wait = match &next {
        // A stop takes effect at once, but for a worker in an uninterruptible wait.
        Leave::Stopping(_) if looks < TRIES * 4 => interval(0),
        _ => interval(looks),
    };
    if let Some(worker) = shell.workers.get_mut(id) {
        worker.leave = next;
    }
    let at = shell.clock.now().after(wait);
    shell.timers.set(Timer::Drain(id), at);
}

fn stop(shell: &mut Shell, id: WorkerId, files: Vec<Open>) -> Leave {
    match shell.workers.get(id).map(|worker| signal(worker.pidfd.as_fd(), Kill::Stop)) {
        Some(Ok(())) => Leave::Stopping(files),
        Some(Err(_)) | None => Leave::Looking,
    }
}

fn drained(shell: &mut Shell, id: WorkerId, leave: Leave) {
    shell.timers.clear(Timer::Drain(id));
    if let Some(worker) = shell.workers.get_mut(id) {
        worker.leave = leave;
    }
    shell.facts.push_back(Fact::WorkerDrained { worker: id });
}

/// SIGTERM; what we stopped goes on, with the TERM before it. Starman ends its workers at once on TERM, with what they have
/// in hand, and lets them finish on QUIT: a manager that was started as Server::Starter does, and that catches QUIT, gets
/// that, once.
///
/// A trial that stands still has forked just before: going on, it would start the rest of its workers before it looked at any
/// signal (Net::Server does). It serves nobody, and is killed with the one that it has started. So is a manager none of whose
/// workers lives.
pub(crate) fn terminate(shell: &mut Shell, id: WorkerId) {
    let is_barren = |worker: &Worker| worker.nursery.as_ref().is_some_and(|nursery| nursery.is_barren());
    let serves_nobody = |worker: &Worker| worker.held.is_some() && (worker.trial.is_some() || is_barren(worker));
    if shell.workers.get(id).is_some_and(serves_nobody) {
        return kill(shell, id);
    }
    nurse::forget(shell, id);
    if !is_manager(shell, id) {
        return send(shell, id, Kill::Term);
    }
    if let Some(worker) = shell.workers.get_mut(id)
        && !std::mem::replace(&mut worker.has_quit, true)
    {
        send(shell, id, Kill::Quit);
    }
}

/// Whether it has workers of its own that it lets finish. A trial serves nobody, and needs no time.
fn is_manager(shell: &mut Shell, id: WorkerId) -> bool {
    let is_meant = shell.is_manager(id);
    let Some(worker) = shell.workers.get(id).filter(|worker| is_meant && worker.trial.is_none()) else { return false };
    shell.procfs.catches_quit(worker.pid) == Some(true)
}

/// SIGKILL to the worker and its process group, and to all in its control group. The worker is unreaped, so its pid and its
/// group are its own.
pub(crate) fn kill(shell: &mut Shell, id: WorkerId) {
    if shell.workers.get(id).is_some_and(|worker| worker.ready.is_none()) {
        let more = |shell: &mut Shell| nested::told(shell, id).map_or_else(String::new, |text| format!("; {text}"));
        links::note_late(shell, Speaker::Worker(id), more);
    }
    send(shell, id, Kill::Kill);
    if let Some(worker) = shell.workers.get(id) {
        let _ = signal_group(worker.pid, Kill::Kill);
    }
    shell.cgroups.kill(Speaker::Worker(id));
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
    nest::release(shell, id);
}
