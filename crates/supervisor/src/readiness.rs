//! Sees when a worker can take a request: by its word, else by its main thread waiting in the kernel, or by a request in
//! its hands. In queue mode, where each has a socket of its own: by the front's first connection, when it is accepted.

use std::os::fd::AsFd;
use std::time::Duration;

use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::WorkerId;

use crate::connections;
use crate::evidence;
use crate::front::diag::Waiting;
use crate::nested;
use crate::relay;
use crate::shell::Shell;
use crate::timers::Timer;
use crate::voice::Speaker;

/// Where the kernel refuses to say what a process does, it is taken for ready after so long.
const BLIND: Duration = Duration::from_secs(1);

/// In its first second of life a worker is looked at each 16 ms: under full load a life of 500 requests may be shorter
/// than a few longer intervals, and whoever is missed dies before it was ready.
const YOUNG: Duration = Duration::from_secs(1);
const YOUNG_INTERVAL: Duration = Duration::from_millis(16);

/// The wait before the look number `looks`, from 0: 1, 2, 4 … 64 ms, then 64 ms each.
pub(crate) fn interval(looks: u32) -> Duration {
    Duration::from_millis(1 << looks.min(6))
}

/// Looks from now on; at a worker of queue mode only when the front has connected to it.
pub(crate) fn begin(shell: &mut Shell, worker: WorkerId) {
    if shell.workers.get(worker).is_some_and(|worker| worker.queued.is_some()) {
        return;
    }
    let at = shell.clock.now().after(interval(0));
    shell.timers.set(Timer::Probe(worker), at);
}

/// The front has connected to its private socket: an accept queue that is empty from now on has been accepted from.
pub(crate) fn connected(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get_mut(id).filter(|worker| worker.ready.is_none() && !worker.speaks) else {
        return;
    };
    worker.looks = 0;
    let at = shell.clock.now().after(interval(0));
    shell.timers.set(Timer::Probe(id), at);
}

/// A look.
pub(crate) fn look(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get_mut(id) else {
        return;
    };
    if worker.ready.is_some() || worker.speaks {
        return;
    }
    worker.looks += 1;
    let (pid, looks, started) = (worker.pid, worker.looks, worker.started);
    let now = shell.clock.now();
    let has_said_something = worker.voice.is_unread();
    if let Some(queued) = &worker.queued {
        let again = match shell.front.diag.waiting(queued.private.inode) {
            _ if !queued.is_connected => return,
            Waiting::Connections(_) | Waiting::Nothing if has_said_something => now.after(interval(0)),
            Waiting::Connections(0) => return seen(shell, id),
            Waiting::Connections(_) | Waiting::Nothing if now.since(started) < YOUNG => {
                now.after(interval(looks).min(YOUNG_INTERVAL))
            }
            Waiting::Connections(_) | Waiting::Nothing => now.after(interval(looks)),
            Waiting::Unknown if now.since(started) >= BLIND => return seen(shell, id),
            Waiting::Unknown => started.after(BLIND),
        };
        return shell.timers.set(Timer::Probe(id), again);
    }
    let before = shell.procfs.io(pid);
    let again = match shell.procfs.syscall(pid) {
        // It may be its hello: who speaks is ready by its word only.
        Some(_) if has_said_something => now.after(interval(0)),
        Some(syscall) if syscall.is_waiting() => {
            seen(shell, id);
            return evidence::doubt(shell, id, before);
        }
        Some(_) if connections::has_one(pid, worker.pidfd.as_fd()) => {
            worker.was_in_hand = true;
            return seen(shell, id);
        }
        Some(_) if now.since(started) < YOUNG => now.after(interval(looks).min(YOUNG_INTERVAL)),
        Some(_) => now.after(interval(looks)),
        // Gone, or not to be seen: a death is told by its pidfd long before this deadline.
        None if now.since(started) >= BLIND => return seen(shell, id),
        None => started.after(BLIND),
    };
    shell.timers.set(Timer::Probe(id), again);
}

/// It is ready: by its word, or as far as can be seen.
pub(crate) fn seen(shell: &mut Shell, id: WorkerId) {
    shell.timers.clear(Timer::Probe(id));
    let now = shell.now;
    let Some(worker) = shell.workers.get_mut(id) else {
        return;
    };
    if worker.ready.is_some() {
        return;
    }
    worker.ready = Some(now);
    worker.looks = 0;
    if worker.queued.is_none() {
        evidence::begin(shell, id);
    }
    if let Some(pool) = shell.pool_of(id) {
        pool.ready.insert(id);
    }
    nested::watch(shell, id);
    shell.facts.push_back(Fact::WorkerReady { worker: id });
    relay::release(shell, Speaker::Worker(id));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_double_up_to_64_milliseconds() {
        let waits: Vec<u128> = (0..9).map(|looks| interval(looks).as_millis()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(interval(u32::MAX).as_millis(), 64);
    }
}
