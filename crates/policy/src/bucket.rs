//! The token bucket that repairs draw on: a pool may lose workers as fast as it works, and no faster.

use crate::rules::{Rule, Rules};
use crate::time::Instant;

/// One token; the bucket counts in billionths, so that a refill rate per second is one per nanosecond.
const TOKEN: u64 = 1_000_000_000;
/// Requests that are worth a token.
const REQUESTS_PER_TOKEN: u64 = 20;

/// Tokens for repairs.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    level: u64,
    /// What service may still add, so that the greatest rate of all holds.
    allowance: u64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(now: Instant, max: u32) -> Self {
        Bucket { level: capacity(max), allowance: allowance(max), at: now }
    }

    /// Its level, what service may still add, and when that was so.
    pub(crate) fn parts(&self) -> (u64, u64, Instant) {
        (self.level, self.allowance, self.at)
    }

    /// The one with these parts, of a pool with so many workers at most.
    pub(crate) fn of((level, more, at): (u64, u64, Instant), max: u32) -> Bucket {
        Bucket { level: level.min(capacity(max)), allowance: more.min(allowance(max)), at }
    }

    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self, now: Instant, max: u32, rules: Rules) -> bool {
        if !rules.hold(Rule::RepairBucket) {
            return true;
        }
        self.refill(now, max);
        match self.level.checked_sub(TOKEN) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
    }

    /// When there will be a token even if nothing is served until then.
    pub(crate) fn available_at(&self, now: Instant, max: u32) -> Instant {
        let missing = TOKEN.saturating_sub(self.level);
        now.after(core::time::Duration::from_nanos(missing.div_ceil(rate(max))))
    }

    /// So many requests were served.
    pub(crate) fn serve(&mut self, now: Instant, requests: u64, max: u32, rules: Rules) {
        if !rules.hold(Rule::RepairFromService) {
            return;
        }
        self.refill(now, max);
        let mut gain = requests.saturating_mul(TOKEN / REQUESTS_PER_TOKEN);
        if rules.hold(Rule::RepairRateBound) {
            gain = gain.min(self.allowance);
            self.allowance -= gain;
        }
        self.level = self.level.saturating_add(gain).min(capacity(max));
    }

    fn refill(&mut self, now: Instant, max: u32) {
        let nanos = u64::try_from(now.since(self.at).as_nanos()).unwrap_or(u64::MAX);
        self.at = now;
        self.level = self.level.saturating_add(nanos.saturating_mul(rate(max))).min(capacity(max));
        self.allowance =
            self.allowance.saturating_add(nanos.saturating_mul(greatest_rate(max) - rate(max))).min(allowance(max));
    }
}

/// Tokens a second, whatever is served.
fn rate(max: u32) -> u64 {
    u64::from(max / 10).max(1)
}

/// Tokens a second in all.
fn greatest_rate(max: u32) -> u64 {
    u64::from(max).saturating_mul(2).max(20)
}

fn capacity(max: u32) -> u64 {
    (u64::from(max) + 2) * TOKEN
}

/// What service may add at once: one second's worth.
fn allowance(max: u32) -> u64 {
    (greatest_rate(max) - rate(max)) * TOKEN
}
