//! How much may be noted in a second; what is more is counted.

use std::time::Duration;

use steadfast_policy::time::Instant;

/// Notes that pass in a second.
const A_SECOND: u32 = 1000;

/// The count of one life of the front.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    since: Instant,
    passed: u32,
    dropped: u64,
}

impl Rate {
    /// Nothing noted yet.
    pub(crate) fn new() -> Rate {
        Rate::default()
    }

    /// Whether one more passes; and, once a second at most, how many have not since this was told last.
    pub(crate) fn pass(&mut self, now: Instant) -> (bool, u64) {
        let mut dropped = 0;
        if now.since(self.since) >= Duration::from_secs(1) {
            (self.since, self.passed) = (now, 0);
            dropped = std::mem::take(&mut self.dropped);
        }
        let passes = self.passed < A_SECOND;
        if passes {
            self.passed += 1;
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
        (passes, dropped)
    }

    /// How many have not passed and have not been told of.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_a_second_later() {
        let mut rate = Rate::new();
        let now = Instant::from_nanos(5_000_000_000);
        let passed = (0..5000).filter(|_| rate.pass(now).0).count();
        assert_eq!(passed, 1000);
        assert_eq!(rate.pass(now.after(Duration::from_secs(1))), (true, 4000));
        assert_eq!(rate.pass(now.after(Duration::from_secs(1))), (true, 0));
        assert_eq!(rate.take_dropped(), 0);
    }
}
