//! The shell's clock: the monotonic one for every decision, the wall's only for what people read.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use steadfast_policy::time::Instant;

/// Nanoseconds since the supervisor started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// A clock that stands at zero now.
    pub(crate) fn start() -> Clock {
        Clock { start: std::time::Instant::now() }
    }

    /// A clock that has gone for so long already.
    pub(crate) fn started_before(by: Duration) -> Clock {
        Clock { start: std::time::Instant::now() - by }
    }

    /// Now, as the policy counts. `std::time::Instant` is CLOCK_MONOTONIC here, which stands still in a suspended machine.
    pub(crate) fn now(&self) -> Instant {
        Instant::ZERO.after(self.start.elapsed())
    }

    /// What the wall showed, or will show, at `at`, as far as it is known now.
    pub(crate) fn wall(&self, at: Instant) -> SystemTime {
        let now = self.now();
        let wall = SystemTime::now();
        let shown = if at > now { wall.checked_add(at.since(now)) } else { wall.checked_sub(now.since(at)) };
        shown.unwrap_or(wall)
    }

    /// The same for documents: RFC 3339 in UTC, with milliseconds.
    pub(crate) fn stamp(&self, at: Instant) -> String {
        stamp(self.wall(at))
    }
}

/// RFC 3339 in UTC, with milliseconds.
pub(crate) fn stamp(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{at:.3}")
}

/// Seconds since 1970.
pub(crate) fn unix(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whole milliseconds, for documents.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_milliseconds_and_is_in_utc() {
        assert_eq!(stamp(SystemTime::UNIX_EPOCH + Duration::from_millis(1500)), "1970-01-01T00:00:01.500Z");
    }

    #[test]
    fn the_wall_is_asked_for_past_and_future_alike() {
        let clock = Clock::start();
        let now = clock.now();
        let before = clock.wall(now);
        let after = clock.wall(now.after(Duration::from_secs(3600)));
        let hour = after.duration_since(before).expect("an hour later");
        assert!(hour > Duration::from_secs(3590) && hour < Duration::from_secs(3610), "{hour:?}");
    }
}
