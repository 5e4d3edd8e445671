//! Instants of a monotonic clock that somebody else reads.

use core::time::Duration;

/// A point on the driver's monotonic clock, in nanoseconds since an arbitrary start.
///
/// 64 bits of nanoseconds last 584 years, so arithmetic saturates rather than wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The start of the clock.
    pub const ZERO: Instant = Instant(0);

    /// The instant `nanos` nanoseconds after the start of the clock.
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// Nanoseconds since the start of the clock.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This instant moved into the future.
    #[must_use]
    pub fn after(self, wait: Duration) -> Instant {
        Instant(self.0.saturating_add(nanos(wait)))
    }

    /// This instant moved into the past, at most to the start of the clock.
    #[must_use]
    pub(crate) fn before(self, lead: Duration) -> Instant {
        Instant(self.0.saturating_sub(nanos(lead)))
    }
}

/// A duration in whole nanoseconds, at most 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
