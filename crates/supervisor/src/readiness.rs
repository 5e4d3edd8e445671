//! Sees when a worker can take a request: by its word, else by its main thread waiting in the kernel, or by a request in
//! its hands. Of a manager it is one of its workers who does so (`nurse.rs`): it waits for their ends (Starlet), or in select before
//! they have loaded (Starman). In queue mode, where each has a socket of its own: by the front's first connection, when it is accepted.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::WorkerId;

use crate::children::Pid;
use crate::connections;
use crate::evidence;
use crate::expectation;
use crate::front::diag::Waiting;
use crate::nested;
use crate::procfs::Syscall;
use crate::relay;
use crate::shell::Shell;
use crate::timers::Timer;
use crate::voice::Speaker;

/// Where the kernel refuses to say what a process does, it is taken for ready after so long.
const BLIND: Duration = Duration::from_secs(1);

/// In its first second of life a worker is looked at every 16 ms or sooner: under full load a life of 500 requests may be
/// shorter than a few longer intervals, and whoever is missed dies before it was ready.
const YOUNG: Duration = Duration::from_secs(1);
const YOUNG_INTERVAL: Duration = Duration::from_millis(16);

/// A start is seen to be over at most an eighth of its time too late: in queue mode it serves nobody before that.
const LATE: u32 = 8;

/// The wait before the look number `looks`, from 0: 1, 2, 4 … 64 ms, then 64 ms each.
pub(crate) fn interval(looks: u32) -> Duration {
    Duration::from_millis(1 << looks.min(6))
}

/// The wait before the next look at a worker of this age that was not ready at the look number `looks`.
fn wait(age: Duration, looks: u32) -> Duration {
    let most = if age < YOUNG { YOUNG_INTERVAL } else { interval(u32::MAX) };
    (age / LATE).max(interval(0)).min(interval(looks)).min(most)
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
    let is_manager = shell.is_manager(id);
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
            Waiting::Connections(_) | Waiting::Nothing => now.after(wait(now.since(started), looks)),
            Waiting::Unknown if now.since(started) >= BLIND => return seen(shell, id),
            Waiting::Unknown => started.after(BLIND),
        };
        return shell.timers.set(Timer::Probe(id), again);
    }
    let later = now.after(wait(now.since(started), looks));
    let before = shell.procfs.io(pid);
    let again = match shell.procfs.syscall(pid) {
        // It may be its hello: who speaks is ready by its word only.
        Some(_) if has_said_something => now.after(interval(0)),
        // A program without workers of its own may be one that knows Server::Starter, too; a manager waits for other things.
        Some(syscall) if is_manager && !awaits_a_visitor(pid, worker.pidfd.as_fd(), syscall) => later,
        Some(syscall) if syscall.is_waiting() => {
            seen(shell, id);
            return evidence::doubt(shell, id, before);
        }
        Some(_) if connections::has_one(pid, worker.pidfd.as_fd()) => {
            worker.was_in_hand = true;
            return seen(shell, id);
        }
        Some(_) => later,
        // Gone, or not to be seen: a death is told by its pidfd long before this deadline.
        None if now.since(started) >= BLIND => return seen(shell, id),
        None => started.after(BLIND),
    };
    shell.timers.set(Timer::Probe(id), again);
}

/// Whether it waits for requests and not for something else, or has one in hand.
fn awaits_a_visitor(pid: Pid, pidfd: BorrowedFd<'_>, syscall: Syscall) -> bool {
    expectation::is_of_a_visitor(pid, pidfd, syscall).unwrap_or(syscall.is_waiting())
        || connections::has_one(pid, pidfd)
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

    /// The ages, in microseconds, at which a worker is looked at that was born `first` before the first look.
    fn ages(first: u64, until: u64) -> Vec<u64> {
        let (mut age, mut looks, mut seen) = (first, 0, Vec::new());
        while age < until {
            seen.push(age);
            looks += 1;
            age += u64::try_from(wait(Duration::from_micros(age), looks).as_micros()).unwrap();
        }
        seen
    }

    #[test]
    fn a_start_is_seen_an_eighth_of_its_time_late_at_most() {
        for pair in ages(1_000, 1_000_000).windows(2) {
            let late = pair[1] - pair[0];
            assert!(late <= (pair[0] / 8).clamp(1_000, 16_000), "ready at {}, seen at {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn a_start_of_any_length_costs_few_looks() {
        assert!(ages(1_000, 10_000).len() <= 10);
        assert!(ages(1_000, 100_000).len() <= 32);
        assert!(ages(1_000, 1_000_000).len() <= 90);
        let later = ages(1_000, 2_000_000).len() - ages(1_000, 1_000_000).len();
        assert!(later <= 17, "{later} looks in the second second");
    }

    /// Its front has died, and the next one has connected: the looks begin anew.
    #[test]
    fn who_waits_for_a_front_is_looked_at_soon_at_any_age() {
        let minute = Duration::from_secs(60);
        assert_eq!(wait(minute, 1).as_millis(), 2);
        assert_eq!(wait(minute, 9).as_millis(), 64);
    }
}
