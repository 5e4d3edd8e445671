//! What is known of the workers that a manager has started itself while it serves (`nurse.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use steadfast_policy::time::Instant;

use crate::family::has_executed;

/// So long after a death it is looked for the one who takes the dead one's place.
pub(crate) const SUCCESSION: Duration = Duration::from_secs(60);
/// So many deaths in a row are looked into.
const PATIENCE: u32 = 2;
/// … or so many, after others were nothing.
const PATIENCE_MAX: u32 = 64;
/// That others were nothing is forgotten after so long.
const FORGETFULNESS: Duration = Duration::from_secs(60);

/// What is known of the workers that a manager has started itself.
pub(crate) struct Nursery {
    /// Since when its manager is watched.
    pub(crate) begun: Instant,
    pub(crate) stage: Stage,
    pub(crate) children: BTreeMap<u32, Child>,
    /// So many it had at most, lately.
    pub(crate) full: usize,
    /// The last death.
    pub(crate) bereaved: Option<Instant>,
    /// Looks since something happened.
    pub(crate) looks: u32,
    /// Deaths in a row of those that nobody had seen ready.
    pub(crate) early: u32,
    /// When it was let go on for one, if it has not been acquitted since.
    pub(crate) tried: Option<Instant>,
    /// So many of them are looked into.
    patience: u32,
    /// When there was nothing in it, last.
    acquitted: Option<Instant>,
    /// How often in a row that was believed of one that nobody had seen ready.
    pub(crate) believed: u32,
    /// Dead and judged; their manager has not reaped them yet.
    pub(crate) judged: BTreeSet<u32>,
}

/// How its manager is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It does as it likes.
    Free,
    /// It stands still, or is about to, and whom it has started is looked at.
    Judged,
    /// It stands still until the policy lets it go on.
    Resting,
    /// It goes on until it has started somebody.
    Trying,
}

/// One of them, alive.
pub(crate) struct Child {
    /// Its end is heard by it.
    pub(crate) pidfd: OwnedFd,
    /// Since when it is known.
    pub(crate) since: Instant,
    /// It has been seen waiting for a request, or with one in hand.
    pub(crate) is_ready: bool,
}

impl Nursery {
    /// Of a manager of which nothing is known yet.
    pub(crate) fn new(now: Instant) -> Nursery {
        Nursery {
            begun: now,
            stage: Stage::Free,
            children: BTreeMap::new(),
            full: 0,
            bereaved: None,
            looks: 0,
            early: 0,
            tried: None,
            patience: PATIENCE,
            acquitted: None,
            believed: 0,
            judged: BTreeSet::new(),
        }
    }

    /// Its manager stands still, and nobody serves: it is good for nothing.
    pub(crate) fn is_barren(&self) -> bool {
        self.stage == Stage::Resting && self.living() == 0
    }

    /// Its manager was sent SIGSTOP: whom it has started is to be looked into.
    pub(crate) fn look_into(&mut self) {
        self.stage = Stage::Judged;
        self.looks = 0;
    }

    /// How many can take requests.
    pub(crate) fn living(&self) -> u32 {
        self.children.values().filter(|child| child.is_ready).count() as u32
    }

    /// Nobody is expected to become ready.
    pub(crate) fn are_all_ready(&self) -> bool {
        self.children.values().all(|child| child.is_ready)
    }

    /// It was let go on for one, and has started nobody: it has as many as it wants.
    pub(crate) fn is_content(&self, now: Instant) -> bool {
        self.stage == Stage::Trying && self.are_all_ready() && self.tried.is_some_and(|at| now.since(at) >= SUCCESSION)
    }

    /// Forgets the dead; how many there were.
    pub(crate) fn bury(&mut self, now: Instant) -> usize {
        let before = self.children.len();
        let mut early = 0;
        self.children.retain(|pid, child| {
            let has_ended = has_ended(&child.pidfd);
            let is_early = has_ended && !child.is_ready && has_executed(*pid) != Some(true);
            early += u32::from(is_early);
            !has_ended
        });
        self.early += early;
        let dead = before - self.children.len();
        if dead > 0 {
            (self.bereaved, self.looks) = (Some(now), 0);
        }
        dead
    }

    /// Whether it is time to look into the deaths.
    pub(crate) fn is_suspicious(&mut self, now: Instant) -> bool {
        if self.acquitted.is_some_and(|at| now.since(at) >= FORGETFULNESS) {
            (self.acquitted, self.patience) = (None, PATIENCE);
        }
        self.early >= self.patience
    }

    /// There was nothing in what was looked into: the next time, if that is soon, it takes more.
    pub(crate) fn acquit(&mut self, now: Instant) {
        self.acquitted = Some(now);
        self.patience = (self.patience * 2).min(PATIENCE_MAX);
    }
}

/// The pidfd of a process that has ended is readable (pidfd_open(2)).
pub(crate) fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut end = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut end, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_starts_nobody_for_a_minute_wants_nobody() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let mut nursery = Nursery::new(at(0));
        assert!(!nursery.is_content(at(100)), "it was not let go on");
        (nursery.stage, nursery.tried) = (Stage::Trying, Some(at(10)));
        assert!(!nursery.is_content(at(69)) && nursery.is_content(at(70)));
        nursery.look_into();
        assert!(!nursery.is_content(at(100)), "it has started somebody");
    }
}
