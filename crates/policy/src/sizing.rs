//! How many workers a pool wants: growth at the speed of need, shrinking by the longest idle. When a direct pool knows of
//! either is decided in `need`.

use core::time::Duration;

use crate::class::Class;
use crate::event::{Files, Load};
use crate::ids::WorkerId;
use crate::note::Note;
use crate::pool::{Pool, Turn};
use crate::rules::Rule;
use crate::time::Instant;
use crate::worker::Leave;

/// Overdue workers within so long are one stall.
const STALL_WITHIN: Duration = Duration::from_secs(1);
/// A stalled pool's workers are killed this far apart.
const STALL_PACE: Duration = Duration::from_secs(1);

impl Pool {
    /// A sample of the queue.
    pub(crate) fn sampled(&mut self, turn: &mut Turn<'_>, load: Load) {
        if self.is_direct() {
            return self.looked(turn, load);
        }
        self.load = load;
        if load.served > 0 {
            let vouches = self.all_vouch(self.serving);
            self.credit(turn, self.serving, Files::Noted, load.served, vouches);
        }
        let need = load.waiting > 0 || (load.idle == 0 && load.busy > 0);
        if need {
            self.grow(turn, u32::MAX);
        } else if load.idle > 0 {
            self.growth = 0;
        }
        self.plan_shrink(turn, load);
    }

    /// What was wanted last has not come yet.
    pub(crate) fn is_awaiting(&self) -> bool {
        let pending = self.generations.get(&self.serving).is_some_and(|g| g.tally.pending > 0);
        pending || self.missing() > 0
    }

    /// Grows by `step`, doubling while the need outlasts what was started for it; at most by `most`.
    pub(crate) fn grow(&mut self, turn: &mut Turn<'_>, most: u32) {
        if !self.is_running() || !turn.hold(Rule::Growth) || self.is_awaiting() {
            return;
        }
        let doubled = if turn.hold(Rule::GrowthDoubles) { self.growth.saturating_mul(2) } else { self.growth };
        self.growth = doubled.max(self.figures.step);
        let grown = self.target.saturating_add(self.growth.min(most));
        self.target = if turn.hold(Rule::GrowthBound) { grown.min(self.max) } else { grown };
    }

    fn plan_shrink(&mut self, turn: &Turn<'_>, load: Load) {
        let may = self.target > self.floor(turn) && load.waiting == 0;
        self.shrink_due = load.longest_idle.filter(|_| may).map(|(_, since)| since.after(self.figures.idle));
    }

    /// Nobody is sent away for idleness below this.
    pub(crate) fn floor(&self, turn: &Turn<'_>) -> u32 {
        if turn.hold(Rule::Shrink) { self.min } else { 0 }
    }

    /// The longest idle worker has been idle long enough.
    pub(crate) fn shrink(&mut self, turn: &mut Turn<'_>) {
        self.shrink_due = None;
        let Some((id, since)) = self.load.longest_idle.take() else {
            return;
        };
        if !self.breaker.is_closed() {
            // A trial worker without visitors is on probation, not too many.
            self.load.longest_idle = Some((id, since));
            self.shrink_due = Some(turn.now.after(self.figures.idle));
            return;
        }
        self.let_go(turn, id);
    }

    /// Makes an idle worker leave that is too many; false when it must stay.
    pub(crate) fn let_go(&mut self, turn: &mut Turn<'_>, id: WorkerId) -> bool {
        let known = self.workers.get(&id).is_some_and(|worker| worker.state.is_ready() && !worker.outgoing);
        let floor = self.floor(turn);
        // Only those that serve count: the repair of another one may not be ready yet.
        let least = floor.max(u32::from(self.target > 1));
        if !known || self.target <= floor || self.ready() <= least || !self.is_running() {
            return false;
        }
        self.target -= 1;
        self.growth = 0;
        self.release(turn, id, Leave::Recycled);
        true
    }

    /// The operator's new bounds.
    pub(crate) fn scale(&mut self, turn: &mut Turn<'_>, min: u32, max: u32) {
        (self.min, self.max) = (min, max);
        (self.figures.min, self.figures.max) = (min, max);
        for generation in self.generations.values_mut() {
            (generation.figures.min, generation.figures.max) = (min, max);
        }
        self.target = if self.is_running() { self.target.clamp(min, max) } else { 0 };
        turn.report(Note::PoolScaled { pool: self.id, min, max });
    }

    /// A worker's request passed its deadline: that worker goes at once, unless most of the pool is in the same state.
    pub(crate) fn overdue(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let serves = self.workers.get(&id).is_some_and(|worker| worker.state.is_ready());
        if !serves || self.overdue_workers.contains(&id) {
            return;
        }
        while self.overdue.front().is_some_and(|at| turn.now.since(*at) >= STALL_WITHIN) {
            self.overdue.pop_front();
        }
        self.overdue.push_back(turn.now);
        let many = (self.ready() / 2 + 1).max(3);
        let stalled = self.overdue.len() as u32 >= many || !self.overdue_workers.is_empty();
        if !stalled || !turn.hold(Rule::OverduePaced) {
            return self.kill(turn, id, Leave::Timeout { stalled: false }, Class::Timeout);
        }
        if self.overdue_workers.is_empty() {
            turn.report(Note::Stalled { pool: self.id });
            self.overdue_due = Some(turn.now.after(STALL_PACE));
        }
        self.overdue_workers.push_back(id);
    }

    /// Kills the next of a stalled pool's workers: the one that has been overdue longest.
    pub(crate) fn overdue_due(&mut self, turn: &mut Turn<'_>) {
        self.overdue_due = None;
        while let Some(id) = self.overdue_workers.pop_front() {
            let serves = self.workers.get(&id).is_some_and(|worker| worker.state.is_ready());
            if serves {
                self.kill(turn, id, Leave::Timeout { stalled: true }, Class::Timeout);
                break;
            }
        }
        self.overdue_due = self.next_overdue(turn.now);
    }

    fn next_overdue(&self, now: Instant) -> Option<Instant> {
        (!self.overdue_workers.is_empty()).then(|| now.after(STALL_PACE))
    }
}
