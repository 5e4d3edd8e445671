//! How long to wait after failures in a row.

use core::time::Duration;

use crate::random::Random;
use crate::rules::{Rule, Rules};
use crate::time::Instant;

/// Quiet time that forgives one step.
const FORGIVENESS: Duration = Duration::from_secs(30);
/// Served requests that forgive one step; only all together do they count.
const SERVED_PER_STEP: u64 = 10;

/// Failures in a row, and the wait that they cost. Computed when asked: there is no timer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    steps: u32,
    /// When the last failure was.
    last: Instant,
    /// Requests served since the last failure.
    served: u64,
    not_before: Instant,
}

impl Backoff {
    /// One more failure: 0, `first`, doubling, half of it jitter, at most `max`.
    pub(crate) fn fail(
        &mut self,
        now: Instant,
        first: Duration,
        max: Duration,
        random: &mut Random,
        rules: Rules,
    ) -> Duration {
        self.forgive(now, rules);
        self.steps = self.steps.saturating_add(1);
        self.last = now;
        self.served = 0;
        let step = if rules.hold(Rule::BackoffFirstFree) { self.steps } else { self.steps + 1 };
        let wait = if step <= 1 { Duration::ZERO } else { doubled(first, step - 2, max) };
        let wait = if rules.hold(Rule::BackoffJitter) { wait / 2 + random.below(wait / 2) } else { wait };
        if rules.hold(Rule::Backoff) {
            self.not_before = self.not_before.max(now.after(wait));
        }
        wait
    }

    /// Failures in a row, the last one, and the end of the wait.
    pub(crate) fn parts(&self) -> (u32, Instant, Instant) {
        (self.steps, self.last, self.not_before)
    }

    /// The one with these parts, since the last failure of which nothing has been served.
    pub(crate) fn of(steps: u32, last: Instant, not_before: Instant) -> Backoff {
        Backoff { steps, last, served: 0, not_before }
    }

    /// So many more requests were served.
    pub(crate) fn serve(&mut self, requests: u64, rules: Rules) {
        self.served = self.served.saturating_add(requests);
        if self.served >= SERVED_PER_STEP * u64::from(self.steps) && rules.hold(Rule::BackoffServed) {
            *self = Backoff::default();
        }
    }

    /// No start before this.
    pub(crate) fn not_before(&self) -> Instant {
        self.not_before
    }

    /// Whether there were failures that nothing has forgiven yet.
    pub(crate) fn is_clean(&self, now: Instant) -> bool {
        u64::from(self.steps) <= now.since(self.last).as_secs() / FORGIVENESS.as_secs()
    }

    /// Whether the last failure is at least so long ago.
    pub(crate) fn is_quiet(&self, now: Instant, long: Duration) -> bool {
        self.steps == 0 || now.since(self.last) >= long
    }

    fn forgive(&mut self, now: Instant, rules: Rules) {
        if !rules.hold(Rule::BackoffForgiven) {
            return;
        }
        let steps = u32::try_from(now.since(self.last).as_secs() / FORGIVENESS.as_secs()).unwrap_or(u32::MAX);
        self.steps = self.steps.saturating_sub(steps);
    }
}

/// `first` doubled so many times, at most `max`.
pub(crate) fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    let factor = 1u32.checked_shl(times).filter(|_| times < 31).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(max)
}
