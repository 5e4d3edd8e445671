//! How often the guard has acted, and whether it may again.
//!
//! Up to `actions` in `within`. Who wants more is told once that the guard stands back; from then on it tries once in each
//! `within`. When nobody has wanted anything for that long, all is forgotten.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;
use crate::rule::Budget;

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Act; it is written down.
    Act,
    /// Stand back; `is_news`: people have not been told since the last action.
    StandBack {
        /// Tell them.
        is_news: bool,
    },
}

/// The actions of the last while.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    acted: VecDeque<Moment>,
    /// When somebody last wanted an action, given or not.
    wanted: Option<Moment>,
    /// The guard stands back.
    is_spent: bool,
    /// People know that.
    is_told: bool,
}

impl Ledger {
    /// Somebody wants an action now.
    pub(crate) fn want(&mut self, budget: Budget, now: Moment) -> Verdict {
        while self.acted.front().is_some_and(|then| now.since(*then) >= budget.within) {
            self.acted.pop_front();
        }
        let is_quiet = self.wanted.is_none_or(|then| now.since(then) >= budget.within);
        self.is_spent &= !is_quiet;
        self.wanted = Some(now);
        let has_room = if self.is_spent { self.acted.is_empty() } else { self.acted.len() < budget.actions as usize };
        if has_room {
            self.acted.push_back(now);
            self.is_told = false;
            return Verdict::Act;
        }
        self.is_spent = true;
        Verdict::StandBack { is_news: !std::mem::replace(&mut self.is_told, true) }
    }

    /// How many actions are written down.
    #[cfg(test)]
    pub(crate) fn acted(&self) -> usize {
        self.acted.len()
    }

    /// Whether the guard stands back.
    #[must_use]
    pub(crate) fn is_spent(&self) -> bool {
        self.is_spent
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BUDGET: Budget = Budget { actions: 3, within: Duration::from_secs(3600) };

    fn want(ledger: &mut Ledger, minute: u64) -> Verdict {
        ledger.want(BUDGET, Moment::on_wall(minute * 60_000_000))
    }

    #[test]
    fn the_fourth_within_the_hour_is_refused_and_told_once() {
        let mut ledger = Ledger::default();
        for minute in [0, 2, 4] {
            assert_eq!(want(&mut ledger, minute), Verdict::Act);
        }
        assert_eq!(want(&mut ledger, 6), Verdict::StandBack { is_news: true });
        assert_eq!(want(&mut ledger, 59), Verdict::StandBack { is_news: false });
    }

    #[test]
    fn who_stands_back_tries_once_an_hour() {
        let mut ledger = Ledger::default();
        let acts: Vec<u64> = (0..300).step_by(2).filter(|&minute| want(&mut ledger, minute) == Verdict::Act).collect();
        assert_eq!(acts, [0, 2, 4, 64, 124, 184, 244]);
    }

    #[test]
    fn after_a_quiet_hour_all_is_forgotten() {
        let mut ledger = Ledger::default();
        for minute in [0, 1, 2, 3] {
            want(&mut ledger, minute);
        }
        assert!(ledger.is_spent());
        for minute in [63, 64, 65] {
            assert_eq!(want(&mut ledger, minute), Verdict::Act);
        }
        assert_eq!(want(&mut ledger, 66), Verdict::StandBack { is_news: true });
    }

    #[test]
    fn what_slides_out_makes_room() {
        let mut ledger = Ledger::default();
        let verdicts: Vec<bool> = [0, 30, 59, 60, 89, 90].map(|m| want(&mut ledger, m) == Verdict::Act).to_vec();
        assert_eq!(verdicts, [true, true, true, true, false, false]);
    }
}
