//! When the pool must be looked at next, and what is done then.

use crate::generation::Generation;
use crate::pool::{Pool, Turn};
use crate::time::Instant;

impl Pool {
    /// The earliest deadline in the state.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let serving = self.generations.get(&self.serving);
        let single = [
            self.due.first().map(|(at, _)| *at),
            self.refill_due,
            self.charges.front().map(|charge| charge.due),
            self.shrink_due,
            self.look_due(),
            self.overdue_due,
            self.breaker.deadline().filter(|_| self.is_running()),
            self.gap_due(),
            self.rollout.and_then(|rollout| rollout.soak),
            serving.and_then(|g| g.proof_due).filter(|_| self.is_running()),
        ];
        let zygotes = self.generations.values().flat_map(Generation::zygotes);
        let zygotes = zygotes.chain(&self.departing).filter_map(|zygote| zygote.deadline());
        let probations = self.generations.values().filter_map(|g| g.probation.map(|(_, at)| at));
        single.into_iter().flatten().chain(zygotes).chain(probations).min()
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        while let Some((at, id)) = self.due.first().copied()
            && at <= now
        {
            self.worker_due(turn, id);
        }
        while is_due(self.charges.front().map(|charge| charge.due))
            && let Some(charge) = self.charges.pop_front()
        {
            self.charge(turn, charge, None);
        }
        self.zygotes_due(turn);
        if is_due(self.shrink_due) {
            self.shrink(turn);
        }
        if is_due(self.look_due()) {
            self.look(turn);
        }
        if is_due(self.overdue_due) {
            self.overdue_due(turn);
        }
        if is_due(self.breaker.deadline()) && self.is_running() {
            self.breaker_due(turn);
        }
        let probations = self.generations.values().filter(|g| is_due(g.probation.map(|(_, at)| at)));
        let passed: alloc::vec::Vec<_> = probations.map(|g| g.id).collect();
        for id in passed {
            self.probation_due(turn, id);
        }
        let proof = self.generations.get(&self.serving).and_then(|g| g.proof_due);
        if is_due(proof) && self.is_running() {
            self.proof_due(turn);
        }
    }

    /// Brings everything that follows from the state up to date.
    pub(crate) fn settle(&mut self, turn: &mut Turn<'_>) {
        if self.is_running() {
            self.progress(turn);
            self.refilling(turn);
            self.trim(turn);
            self.refill(turn);
            if self.planned == 0 {
                self.narrow_planned();
            }
        }
        self.look_out(turn);
        self.retire(turn);
        self.stand(turn);
    }
}
