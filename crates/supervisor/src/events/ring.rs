//! The recent events, for those who ask: at most 1,000, at most 512 KiB.

use std::collections::VecDeque;
use std::time::SystemTime;

use super::event::{Event, Stamped};

const EVENTS_MAX: usize = 1000;
const BYTES_MAX: usize = 512 * 1024;

/// The last events.
pub struct Ring {
    events: VecDeque<Stamped>,
    bytes: usize,
    next: u64,
}

impl Default for Ring {
    fn default() -> Ring {
        Ring::new()
    }
}

impl Ring {
    /// Empty; the first event gets the number 1.
    pub fn new() -> Ring {
        Ring { events: VecDeque::new(), bytes: 0, next: 1 }
    }

    /// Adds an event; the oldest ones make room.
    pub fn push(&mut self, wall: SystemTime, event: Event) {
        self.bytes += event.size();
        self.events.push_back(Stamped { sequence: self.next, wall, event });
        self.next += 1;
        while self.events.len() > EVENTS_MAX || (self.bytes > BYTES_MAX && self.events.len() > 1) {
            if let Some(oldest) = self.events.pop_front() {
                self.bytes -= oldest.event.size();
            }
        }
    }

    /// Those with this number and later ones, oldest first; what is no longer there is left out.
    pub fn since(&self, sequence: u64) -> impl Iterator<Item = &Stamped> {
        let first = self.next - self.events.len() as u64;
        let skipped = usize::try_from(sequence.saturating_sub(first)).unwrap_or(usize::MAX);
        self.events.iter().skip(skipped)
    }

    /// The last `count`, oldest first.
    pub fn last(&self, count: usize) -> impl Iterator<Item = &Stamped> {
        self.events.iter().skip(self.events.len().saturating_sub(count))
    }

    /// The number of the event to come.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::kind::Kind;

    #[test]
    fn it_remembers_a_thousand_and_numbers_them_all() {
        let mut ring = Ring::new();
        for _ in 0..1500 {
            ring.push(SystemTime::UNIX_EPOCH, Event::new(Kind::WorkerStarted));
        }
        assert_eq!(ring.since(0).count(), 1000);
        assert_eq!(ring.since(0).next().map(|event| event.sequence), Some(501));
        assert_eq!(ring.since(1500).count(), 1);
        assert_eq!(ring.since(1501).count(), 0);
        assert_eq!(ring.last(3).map(|event| event.sequence).collect::<Vec<_>>(), [1498, 1499, 1500]);
        assert_eq!(ring.next_sequence(), 1501);
    }

    #[test]
    fn big_events_push_out_older_ones() {
        let mut ring = Ring::new();
        for _ in 0..100 {
            ring.push(SystemTime::UNIX_EPOCH, Event::new(Kind::WorkerExited).message("x".repeat(64 * 1024)));
        }
        assert!(ring.bytes <= BYTES_MAX && ring.since(0).count() < 9);
        assert!(ring.since(0).count() > 5);
    }
}
