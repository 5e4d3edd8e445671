//! The breaker's states; what moves it between them is in `ladder.rs` and `deadlines.rs`.

use core::time::Duration;

use crate::class::Reason;
use crate::ids::WorkerId;
use crate::time::Instant;

/// First wait of the open breaker; also the pace of the throttled one.
pub(crate) const WAIT_FIRST: Duration = Duration::from_secs(5);
/// Its longest wait: one canary a minute, for ever.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);
/// A canary (and anything on probation) has passed after so long …
pub(crate) const PROBATION: Duration = Duration::from_secs(30);
/// … or after so many served requests.
pub(crate) const PROBATION_REQUESTS: u64 = 20;

/// Theory of operation.
///
/// `Closed` starts what is missing. Too many failures lead to `Open`: nothing is started until its wait is over, then
/// one canary (`Trial`). A canary that fails leads back to `Open` with the wait doubled; one that passes leads to
/// `Refilling`, in batches of 1, 2, 4 …, and from there to `Closed` when nothing is missing any more. A direct pool
/// that has served is `Throttled` in place of `Open`: there a death tells little of the program, so single starts go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breaker {
    Closed,
    Open {
        until: Instant,
        wait: Duration,
        reason: Reason,
    },
    /// `unserved` says that the last one to end had not served.
    Throttled {
        next: Instant,
        wait: Duration,
        unserved: bool,
        reason: Reason,
    },
    /// `passes` is known once the canary is ready.
    Trial {
        canary: WorkerId,
        passes: Option<Instant>,
        wait: Duration,
        reason: Reason,
    },
    /// `left` starts remain of a batch of `batch`.
    Refilling {
        batch: u32,
        left: u32,
        wait: Duration,
        reason: Reason,
    },
}

impl Breaker {
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, Breaker::Closed)
    }

    /// When it moves by itself.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match *self {
            Breaker::Open { until, .. } => Some(until),
            Breaker::Throttled { next, .. } => Some(next),
            Breaker::Trial { passes, .. } => passes,
            Breaker::Closed | Breaker::Refilling { .. } => None,
        }
    }

    /// Moves the deadlines that judge somebody.
    pub(crate) fn postpone(&mut self, late: Duration) {
        if let Breaker::Trial { passes: Some(at), .. } = self {
            *at = at.after(late);
        }
    }
}
