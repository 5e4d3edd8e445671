//! A true sliding log of weights on the monotonic clock.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::class::Weight;
use crate::rules::{Rule, Rules};
use crate::time::Instant;

/// Entries kept; beyond that the newest ones are merged, which forgets nothing and only ever ages less.
const ENTRIES_MAX: usize = 64;

/// Failures within a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    entries: VecDeque<(Instant, Weight)>,
}

impl Window {
    pub(crate) fn push(&mut self, now: Instant, weight: Weight) {
        let full = self.entries.len() >= ENTRIES_MAX;
        match self.entries.back_mut() {
            Some(last) if full => *last = (now, last.1.plus(weight)),
            _ => self.entries.push_back((now, weight)),
        }
    }

    /// The sum of the weights that are younger than `within`.
    pub(crate) fn sum(&self, now: Instant, within: Duration, rules: Rules) -> Weight {
        self.entries
            .iter()
            .filter(|(at, _)| now.since(*at) < within || !rules.hold(Rule::WindowSlides))
            .fold(Weight::NONE, |sum, (_, weight)| sum.plus(*weight))
    }

    /// Drops what is too old to count.
    pub(crate) fn trim(&mut self, now: Instant, within: Duration, rules: Rules) {
        while rules.hold(Rule::WindowSlides) && self.entries.front().is_some_and(|(at, _)| now.since(*at) >= within) {
            self.entries.pop_front();
        }
    }

    /// What is kept.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Instant, Weight)> {
        self.entries.iter().copied()
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}
