//! Generations: how a new one comes in beside the old, and how it is refused, rolled back, proven and retired.

use alloc::vec::Vec;
use core::time::Duration;

use crate::breaker::PROBATION_REQUESTS;
use crate::class::{Class, Reason};
use crate::command::Command;
use crate::event::Files;
use crate::figures::Figures;
use crate::generation::{Generation, Trouble, Zygote};
use crate::ids::{GenerationId, WorkerId};
use crate::note::Note;
use crate::pool::{Pool, Rollout, Turn};
use crate::rules::Rule;
use crate::worker::Worker;

/// New workers soak so long (or for 20 requests) before the next surge.
const SOAK: Duration = Duration::from_secs(5);
/// Canaries of one candidate that may end by nobody's fault.
pub(crate) const CANARY_RETRIES: u32 = 3;

impl Pool {
    /// Mints a generation.
    pub(crate) fn new_generation(
        &mut self,
        turn: &mut Turn<'_>,
        figures: Figures,
        predecessor: Option<GenerationId>,
    ) -> GenerationId {
        self.last_generation += 1;
        let id = GenerationId(self.last_generation);
        self.generations.insert(id, Generation::new(id, figures, predecessor, turn.now));
        turn.order(Command::PrepareGeneration { pool: self.id, generation: id });
        turn.report(Note::GenerationStarted { pool: self.id, generation: id });
        id
    }

    /// A new generation is wanted: its canary first.
    pub(crate) fn reload(&mut self, turn: &mut Turn<'_>, figures: Figures) {
        if !self.is_running() {
            self.figures = figures;
            return;
        }
        if let Some(rollout) = self.rollout {
            self.refuse(turn, rollout.to, Reason::Superseded, None);
        }
        let to = self.new_generation(turn, figures, Some(self.serving));
        self.narrow_planned();
        self.rollout = Some(Rollout { to, allowance: 1, unseen: true, retries: 0, soak: None, soak_served: 0 });
    }

    /// Whether this generation is a candidate that nobody has seen.
    pub(crate) fn unseen_candidate(&self, id: GenerationId) -> bool {
        self.rollout.is_some_and(|rollout| rollout.to == id && rollout.unseen)
    }

    /// The canary of an unseen candidate is gone.
    pub(crate) fn candidate_ended(&mut self, turn: &mut Turn<'_>, worker: &Worker, class: Class, counts: bool) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        rollout.retries += 1;
        if counts || rollout.retries > CANARY_RETRIES {
            let (to, reason) = (rollout.to, Reason::Failures(class));
            self.refuse(turn, to, reason, Some(worker.id()));
        }
    }

    /// Gives up a generation that is not the serving one.
    pub(crate) fn refuse(&mut self, turn: &mut Turn<'_>, id: GenerationId, reason: Reason, worker: Option<WorkerId>) {
        if self.rollout.is_some_and(|rollout| rollout.to == id) {
            self.rollout = None;
        }
        if let Some(generation) = self.generation(id) {
            generation.refused = true;
        }
        turn.report(Note::GenerationRefused { pool: self.id, generation: id, reason, worker });
    }

    /// Takes a generation that failed in service out of it.
    pub(crate) fn roll_back(
        &mut self,
        turn: &mut Turn<'_>,
        from: GenerationId,
        to: GenerationId,
        reason: Reason,
    ) -> bool {
        if !turn.hold(Rule::Rollback) {
            return false;
        }
        let Some(bad) = self.generations.get_mut(&from) else {
            return false;
        };
        if bad.refused && turn.rules.hold(Rule::RollbackOnce) {
            return false;
        }
        bad.refused = true;
        bad.trouble = Trouble::default();
        if self.rollout.is_some_and(|rollout| rollout.to == from) {
            self.rollout = None;
        }
        if self.serving == from {
            self.serving = to;
            self.close(turn);
            self.owed = 0;
            self.take_figures(turn, to);
        }
        self.narrow_planned();
        self.acquit(turn, from);
        turn.report(Note::GenerationRolledBack { pool: self.id, from, to, reason });
        true
    }

    /// The pool goes by this generation's figures from now on.
    fn take_figures(&mut self, turn: &Turn<'_>, id: GenerationId) {
        let Some(generation) = self.generations.get_mut(&id) else {
            return;
        };
        if !generation.proven {
            generation.proof_due = Some(turn.now.after(generation.figures.breaker.prove));
        }
        self.figures = generation.figures.clone();
        (self.min, self.max) = (self.figures.min, self.figures.max);
        self.target = self.target.clamp(self.min, self.max);
    }

    /// Goes on with a rollout as far as its new workers allow.
    pub(crate) fn progress(&mut self, turn: &mut Turn<'_>) {
        let Some(rollout) = self.rollout else { return };
        let Some(to) = self.generations.get(&rollout.to) else {
            return;
        };
        let goal = self.target.max(1);
        let ready = to.tally.ready - to.tally.outgoing;
        if rollout.unseen || to.tally.pending > 0 || ready < rollout.allowance.min(goal) {
            // Whoever comes to make it whole again soaks anew.
            if let Some(rollout) = &mut self.rollout {
                rollout.soak = None;
            }
            return;
        }
        // What is yet to come of the old one is not waited for: a trial worker that hangs must not hold up what mends it.
        let old = self.generations.get(&self.serving).map_or(0, |serving| serving.tally.ready);
        if ready >= goal && old == 0 {
            return self.complete(turn);
        }
        if ready >= goal {
            // Nothing more is to come: only the old ones have to go.
            if let Some(rollout) = &mut self.rollout {
                rollout.soak = None;
            }
            return;
        }
        let served = to.served;
        let soaked = match rollout.soak {
            None => false,
            Some(at) => at <= turn.now || served >= rollout.soak_served + PROBATION_REQUESTS,
        };
        let surge = self.surge();
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        if soaked || !turn.hold(Rule::Soak) {
            rollout.soak = None;
            // With nothing of the old generation left to protect, doubling gets there sooner.
            let step = if old == 0 { rollout.allowance.max(surge) } else { surge };
            rollout.allowance = rollout.allowance.saturating_add(step).min(goal);
        } else if rollout.soak.is_none() {
            rollout.soak = Some(turn.now.after(SOAK));
            rollout.soak_served = served;
        }
    }

    /// All slots are the new generation's.
    fn complete(&mut self, turn: &mut Turn<'_>) {
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        self.serving = rollout.to;
        self.owed = 0;
        self.close(turn);
        self.take_figures(turn, rollout.to);
        self.announce(turn);
    }

    /// The serving generation has run long enough without a failure.
    pub(crate) fn proof_due(&mut self, turn: &mut Turn<'_>) {
        let well = self.breaker.is_closed() && self.ready() > 0;
        let (pool, serving) = (self.id, self.serving);
        let Some(generation) = self.generation(serving) else {
            return;
        };
        if well {
            generation.proof_due = None;
            generation.proven = true;
            turn.report(Note::GenerationProven { pool, generation: serving });
        } else {
            generation.proof_due = Some(turn.now.after(generation.figures.breaker.prove));
        }
    }

    /// What a start was made of: the generation's own files, or changed ones.
    pub(crate) fn note_files(&mut self, id: GenerationId, files: Files) {
        if let Some(generation) = self.generation(id) {
            generation.files_changed = files == Files::Changed;
        }
    }

    /// The changed files have proved good: they are the generation's own now.
    pub(crate) fn probation_due(&mut self, turn: &mut Turn<'_>, id: GenerationId) {
        let Some(generation) = self.generations.get_mut(&id) else {
            return;
        };
        generation.probation = None;
        generation.files_changed = false;
        let served = generation.noted.served;
        generation.noted = core::mem::take(&mut generation.changed);
        generation.noted.served |= served;
        turn.order(Command::NoteFiles { pool: self.id, generation: id });
        let changed = |worker: &&Worker| worker.place.generation == id && worker.files == Files::Changed;
        let workers: Vec<WorkerId> = self.workers.values().filter(changed).map(Worker::id).collect();
        for worker in workers {
            self.alter(worker, |worker| worker.files = Files::Noted);
        }
        self.rest_recycling(id, false);
    }

    /// Forgets generations that nothing can go back to.
    pub(crate) fn retire(&mut self, turn: &mut Turn<'_>) {
        if self.generations.len() <= 1 && self.is_running() {
            return;
        }
        let kept = self.kept(turn);
        let over = |g: &&mut Generation| !kept.contains(&g.id) && g.tally.live() == g.tally.lost;
        let idle = self.generations.values_mut().filter(over);
        let zygotes: Vec<Zygote> = idle.flat_map(Generation::take_zygotes).collect();
        for zygote in zygotes {
            self.dismiss_zygote(turn, zygote);
        }
        let over = |g: &&Generation| !kept.contains(&g.id) && g.tally.live() == 0;
        let retired: Vec<GenerationId> = self.generations.values().filter(over).map(|g| g.id).collect();
        for id in retired {
            let Some(generation) = self.generations.remove(&id) else {
                continue;
            };
            for heir in self.generations.values_mut().filter(|g| g.predecessor == Some(id)) {
                heir.predecessor = generation.predecessor;
            }
            turn.order(Command::RetireGeneration { pool: self.id, generation: id });
            turn.report(Note::GenerationRetired { pool: self.id, generation: id });
        }
    }

    /// Generations that something may yet be started from: the serving one, a candidate, and the way back.
    fn kept(&self, turn: &Turn<'_>) -> Vec<GenerationId> {
        let mut kept = Vec::new();
        if !self.is_running() {
            return kept;
        }
        kept.extend(self.rollout.map(|rollout| rollout.to));
        kept.push(self.serving);
        if !turn.hold(Rule::PredecessorKept) {
            return kept;
        }
        // The nearest predecessor, and the last proven one; what lies between is passed over.
        let way_back = |id: GenerationId| self.generations.get(&id).filter(|g| !g.proven).and_then(|g| g.predecessor);
        let Some(nearest) = way_back(self.serving) else {
            return kept;
        };
        kept.push(nearest);
        let mut last = nearest;
        while let Some(older) = way_back(last) {
            last = older;
        }
        kept.push(last);
        kept
    }
}
