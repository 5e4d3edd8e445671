//! The front's clock: it stands still while the front does, so that a suspended machine makes nobody late.

use std::time::{Duration, Instant};

/// A turn that comes so much later than its deadline has missed something, and it is not the visitors' fault.
const STALL: Duration = Duration::from_millis(500);

/// Monotonic time without the stalls.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Time that passed without us.
    lost: Duration,
    /// The last reading, with the stalls.
    last: Instant,
}

impl Clock {
    /// A clock that is right now.
    pub(crate) fn start() -> Clock {
        Clock { lost: Duration::ZERO, last: Instant::now() }
    }

    /// Now, after a sleep of at most `planned` (`None`: for as long as nothing happened) since the last reading.
    pub(crate) fn turn(&mut self, planned: Option<Duration>) -> Instant {
        self.read(Instant::now(), planned)
    }

    fn read(&mut self, now: Instant, planned: Option<Duration>) -> Instant {
        let gap = now.saturating_duration_since(self.last);
        if let Some(late) = planned.and_then(|planned| gap.checked_sub(planned + STALL)) {
            self.lost += late + STALL;
        }
        self.last = now;
        now.checked_sub(self.lost).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_takes_no_time() {
        let mut clock = Clock::start();
        let start = clock.last;
        let before = clock.read(start, Some(Duration::ZERO));
        let after = clock.read(start + Duration::from_secs(60), Some(Duration::from_secs(1)));
        assert_eq!(after - before, Duration::from_secs(1));
        let later = clock.read(start + Duration::from_secs(61), Some(Duration::from_secs(1)));
        assert_eq!(later - after, Duration::from_secs(1));
    }

    #[test]
    fn a_sleep_without_a_plan_is_no_stall() {
        let mut clock = Clock::start();
        let start = clock.last;
        let before = clock.read(start, None);
        assert_eq!(clock.read(start + Duration::from_secs(60), None) - before, Duration::from_secs(60));
    }
}
