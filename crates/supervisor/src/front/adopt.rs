//! Workers whose front has died: looked at until they are free, and only then given to the next one.
//!
//! What a dead front had given to a worker is still in its hands. A new front that knew nothing of it would take the
//! worker for idle. So each is looked at until the kernel shows it waiting for a connection with none in hand: the old
//! front's ends are closed, and a worker that was idle on a kept connection sees that and closes its own.

use std::os::fd::AsFd;
use std::time::Duration;

use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::WorkerId;

use crate::connections;
use crate::front::diag::Waiting;
use crate::front::settings;
use crate::front::tell;
use crate::leaving;
use crate::readiness::interval;
use crate::shell::Shell;
use crate::timers::Timer;

/// Where the kernel refuses to say what a process does, its worker is replaced after so long.
const BLIND: Duration = Duration::from_secs(1);

/// What a look shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Free,
    Busy,
    Nothing,
}

/// The front with this number has died. `is_asked`: it was told to leave, and has finished what its workers had in hand.
pub(crate) fn orphaned(shell: &mut Shell, number: u64, is_asked: bool) {
    let is_serving = shell.front.life.as_ref().is_none_or(|life| life.number < number);
    let members: Vec<WorkerId> = shell.pools.iter().flat_map(|pool| pool.members.iter().copied()).collect();
    let now = shell.clock.now();
    for id in members {
        let Some(worker) = shell.workers.get(id) else {
            continue;
        };
        let timeout = shell.pools.get(worker.pool).map_or(BLIND, |pool| settings::request_timeout(&pool.plan.config));
        let Some(worker) = shell.workers.get_mut(id) else {
            continue;
        };
        let is_ready = worker.ready.is_some();
        let Some(queued) = &mut worker.queued else {
            continue;
        };
        // Of two fronts each leaves those that it had; those that nobody has are waiting for the one that serves.
        if queued.life != number && (queued.life != 0 || !is_serving) {
            continue;
        }
        let was_given = std::mem::take(&mut queued.life) != 0;
        queued.forget_front();
        if !is_ready {
            // It has never been given anything; it is looked at again when the next front has connected.
            shell.timers.clear(Timer::Probe(id));
        } else if queued.is_leaving && !queued.is_free {
            if is_asked {
                queued.is_free = true;
                shell.facts.push_back(Fact::WorkerDrained { worker: id });
            } else {
                leaving::drain(shell, id);
            }
        } else if was_given && !is_asked && !queued.is_leaving {
            queued.adopt_by = Some((now, now.after(timeout)));
            worker.looks = 0;
            shell.timers.set(Timer::Adopt(id), now.after(interval(0)));
        }
    }
}

/// A look at a worker that the next front has not been given yet.
pub(crate) fn look(shell: &mut Shell, id: WorkerId) {
    let now = shell.clock.now();
    let Some(worker) = shell.workers.get_mut(id) else {
        return;
    };
    let Some((since, until)) = worker.queued.as_ref().and_then(|queued| queued.adopt_by) else {
        return;
    };
    worker.looks = worker.looks.saturating_add(1);
    let wait = interval(worker.looks);
    match seen(shell, id) {
        Seen::Free => return adopted(shell, id),
        Seen::Busy if now < until => {}
        // Its request has passed the timeout, and nobody but us knows of it.
        Seen::Busy => return shell.facts.push_back(Fact::WorkerOverdue { worker: id }),
        Seen::Nothing if now.since(since) < BLIND => {}
        // Nobody can tell whether it is free: another takes its place, and it may finish.
        Seen::Nothing => return replace(shell, id),
    }
    shell.timers.set(Timer::Adopt(id), now.after(wait));
}

fn adopted(shell: &mut Shell, id: WorkerId) {
    if let Some(queued) = shell.workers.get_mut(id).and_then(|worker| worker.queued.as_mut()) {
        queued.adopt_by = None;
    }
    tell::offer(shell, id);
}

fn replace(shell: &mut Shell, id: WorkerId) {
    if let Some(worker) = shell.workers.get(id) {
        shell.facts.push_back(Fact::DrainRequested { pool: worker.pool, slot: worker.slot });
    }
}

fn seen(shell: &mut Shell, id: WorkerId) -> Seen {
    let Some(worker) = shell.workers.get(id) else {
        return Seen::Nothing;
    };
    let Some(queued) = &worker.queued else {
        return Seen::Nothing;
    };
    match shell.procfs.syscall(worker.pid) {
        None => Seen::Nothing,
        Some(syscall) if !syscall.is_waiting() => Seen::Busy,
        Some(_) if connections::has_one(worker.pid, worker.pidfd.as_fd()) => Seen::Busy,
        Some(_) if matches!(shell.front.diag.waiting(queued.private.inode), Waiting::Connections(1..)) => Seen::Busy,
        Some(_) => Seen::Free,
    }
}
