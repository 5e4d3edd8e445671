//! The shell's own deadlines, in one small ordered set; what is not in it is not waited for.

use std::collections::{BTreeMap, BTreeSet};

use steadfast_policy::ids::{PoolId, WorkerId, ZygoteId};
use steadfast_policy::time::Instant;

use crate::voice::Speaker;

/// What is waited for. Each has at most one deadline at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Look whether the worker is ready.
    Probe(WorkerId),
    /// Look at the workers that a manager has started itself, or whether it stands still.
    Nest(WorkerId),
    /// Look whether the pool's workers are managers that nobody has asked for.
    Nested(PoolId),
    /// Look whether the draining worker has anything in hand.
    Drain(WorkerId),
    /// Hear the process's output again, which was too much.
    Output(Speaker),
    /// The zygote must have left: it has said that it would, or has no link any more.
    ZygoteLeave(ZygoteId),
    /// Look at the memory of a few of the pool's workers.
    Memory(PoolId),
    /// A control connection's request must have arrived by then, or its answer must have been taken.
    Connection(u64),
    /// The answer that a control connection waits for is given at the latest.
    Wait(u64),
    /// Try again to accept control connections.
    Control,
    /// Try again to take back a socket that somebody removed or shut down.
    Listener,
    /// Look whether a worker whose front has died is free for the next one.
    Adopt(WorkerId),
    /// Start the front again.
    FrontStart,
    /// The front must have answered its oldest question.
    FrontAnswer,
    /// Hear the front's output again, which was too much.
    FrontOutput,
    /// The front must have left.
    FrontLast,
    /// Tell the service manager that we live.
    Watchdog,
    /// Ask the service manager for more time.
    Patience,
    /// Tell the service manager what found no room.
    Unsaid,
    /// The status that a control connection waits for is given without the front's word.
    Report(u64),
    /// Try again to remove the control groups whose processes were killed.
    Groups,
    /// The new program has been tried, or everything has come to rest, by then.
    Upgrade,
    /// A former front has finished what it had in hand by then.
    FrontOld,
}

/// The set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Instant, Timer)>,
    at: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Waits for `timer` until `at`, instead of what it waited for before.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.at.insert(timer, at) {
            self.order.remove(&(before, timer));
        }
        self.order.insert((at, timer));
    }

    /// Waits for it no more.
    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(before) = self.at.remove(&timer) {
            self.order.remove(&(before, timer));
        }
    }

    /// Whether it is waited for.
    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.at.contains_key(&timer)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|&(at, _)| at)
    }

    /// Takes out the earliest one that has passed.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.order.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_again_moves_the_deadline() {
        let mut timers = Timers::default();
        timers.set(Timer::Control, Instant::from_nanos(10));
        timers.set(Timer::Control, Instant::from_nanos(30));
        timers.set(Timer::Listener, Instant::from_nanos(20));
        assert_eq!(timers.pop(Instant::from_nanos(15)), None);
        assert_eq!(timers.pop(Instant::from_nanos(40)), Some(Timer::Listener));
        assert_eq!(timers.pop(Instant::from_nanos(40)), Some(Timer::Control));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn what_is_cleared_is_not_waited_for() {
        let mut timers = Timers::default();
        timers.set(Timer::Probe(WorkerId(1)), Instant::from_nanos(10));
        timers.clear(Timer::Probe(WorkerId(1)));
        assert!(!timers.is_set(Timer::Probe(WorkerId(1))));
        assert_eq!(timers.next(), None);
    }
}
