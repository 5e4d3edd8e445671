//! What will happen, by time; equal times in the order of their writing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use steadfast_policy::class::Exit;
use steadfast_policy::event::ZygoteEnd;

use crate::case::Word;

/// Nanoseconds of the world's own time, which rests while the machine sleeps.
pub(crate) type Nanos = u64;

/// Nanoseconds in a millisecond.
pub(crate) const MILLI: Nanos = 1_000_000;

/// Nanoseconds in a second.
pub(crate) const SECOND: Nanos = 1_000_000_000;

/// Something that will happen. Processes, pools and zygotes are named by their place in the world's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    /// The next choice of the case.
    Choice(usize),
    /// The zygote's child exists.
    Forked(usize),
    /// A worker becomes ready.
    Booted(usize),
    /// It answers its verify request.
    Answered(usize),
    /// It ends by itself, unless its plan has changed.
    Died(usize, u32, Exit),
    /// It ends by our doing or somebody else's; true: the kernel's, for memory.
    Killed(usize, Exit, bool),
    /// It says something, unless its plan has changed.
    Said(usize, u32, Word),
    /// It leaves as it was asked to.
    Left(usize),
    /// It has nothing in hand any more, and the driver sees it.
    Drained(usize),
    /// Whom it has started itself is judged.
    Judged(usize),
    /// Signals reach it again.
    Unstuck(usize),
    /// A job comes to a pool.
    Arrived(usize),
    /// This job of a worker is done.
    Done(usize, u32),
    /// This job of a worker is overdue.
    Overdue(usize, u32),
    /// The front tells the load.
    Sampled(usize),
    /// The front tells which request a dead worker had.
    Blamed(usize, Option<u32>),
    /// The driver turns again.
    Resumed,
    /// A zygote has loaded its application.
    ZygoteLoaded(usize),
    /// A zygote ends.
    ZygoteEnded(usize, ZygoteEnd),
    /// All faults end.
    Calmed,
}

/// The list.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<Entry>>,
    written: u64,
}

#[derive(Debug)]
struct Entry {
    at: Nanos,
    number: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl Agenda {
    /// Writes it down.
    pub(crate) fn add(&mut self, at: Nanos, what: Happening) {
        self.written += 1;
        self.heap.push(Reverse(Entry { at, number: self.written, what }));
    }

    /// When the next thing happens.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// The next thing, if its time has come.
    pub(crate) fn due(&mut self, now: Nanos) -> Option<Happening> {
        match self.next() {
            Some(at) if at <= now => self.heap.pop().map(|Reverse(entry)| entry.what),
            _ => None,
        }
    }
}
