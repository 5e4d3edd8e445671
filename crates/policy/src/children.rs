//! Workers that are managers, whose own workers die before they can take a request.
//!
//! Theory of operation. The driver stops a manager in the moment in which it has started somebody who dies so, and tells. The
//! manager stands still until the policy lets it go on: each such death is a failure like any other's, with the same waits
//! and the same breaker; only that the next start is the manager's. Whom it starts then is judged alone (`ChildDied`,
//! `ChildReady`). Those of its workers that live serve all the time. When none lives, the manager is worth nothing: it is
//! dismissed, and where it was the last one, its generation is verified again before it serves.

use crate::breaker::Breaker;
use crate::class::{Class, Weight};
use crate::command::Command;
use crate::event::Files;
use crate::figures::Verify;
use crate::ids::{GenerationId, WorkerId};
use crate::note::Note;
use crate::pool::{Pool, Turn};
use crate::rules::Rule;
use crate::time::Instant;
use crate::worker::{Rest, Word, Worker};

impl Pool {
    /// One of a manager's own workers has died before it could take a request; the manager stands still.
    pub(crate) fn child_died(&mut self, turn: &mut Turn<'_>, id: WorkerId, files: Files, living: u32) {
        let is_whole = |worker: &&Worker| worker.state.is_pending() || worker.state.is_ready();
        let Some(manager) = self.workers.get(&id).filter(is_whole).cloned() else {
            return;
        };
        // One that is not ready yet has nobody who lives.
        let living = if manager.state.is_ready() { living } else { 0 };
        let (place, generation) = (manager.place, manager.place.generation);
        self.note_files(generation, files);
        if living == 0 && turn.hold(Rule::BarrenReplaced) {
            return self.barren(turn, &manager);
        }
        // As if it had been ours.
        let child = Worker { files, ready: None, served: 0, ordered: turn.now, word: Word::Silent, ..manager };
        let at = turn.out.len();
        self.failed(turn, &child, Class::Early, Weight::ONE, None);
        let until = if turn.hold(Rule::ManagerRests) { self.next_child(turn, generation) } else { turn.now };
        let wait = until.since(turn.now);
        let note = Note::ManagerRests { place, living, files_changed: files == Files::Changed, wait };
        // The cause stands before what it led to.
        turn.out.insert(at, Command::Report(note));
        self.alter(id, |worker| worker.rest = Rest::Until(until));
        if until <= turn.now {
            self.resume(turn, id);
        }
    }

    /// What it was let go on for has come true.
    pub(crate) fn child_ready(&mut self, id: WorkerId) {
        if self.workers.get(&id).is_some_and(|worker| worker.rest == Rest::Trying) {
            self.alter(id, |worker| worker.rest = Rest::No);
        }
    }

    /// It may start somebody.
    pub(crate) fn resume(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        self.alter(id, |worker| worker.rest = Rest::Trying);
        turn.order(Command::ResumeManager { worker: id });
    }

    /// The operator's word: those that stand still go on at once.
    pub(crate) fn resume_all(&mut self, turn: &mut Turn<'_>) {
        let resting =
            self.workers.values().filter(|worker| matches!(worker.rest, Rest::Until(_)) && worker.state.is_ready());
        let resting: alloc::vec::Vec<WorkerId> = resting.map(Worker::id).collect();
        for id in resting {
            self.resume(turn, id);
        }
    }

    /// Whether a manager of the serving generation stands still, or has been let go on and not shown yet what for: then not all
    /// is well.
    pub(crate) fn has_resting(&self, turn: &Turn<'_>) -> bool {
        let rests = |worker: &Worker| worker.rest != Rest::No && worker.state.is_ready();
        let mut serving = self.workers.values().filter(|worker| worker.place.generation == self.serving);
        turn.hold(Rule::RestingNotWell) && serving.any(rests)
    }

    /// None of its own workers lives.
    fn barren(&mut self, turn: &mut Turn<'_>, manager: &Worker) {
        self.said(turn, manager.id(), Word::Failed);
        let generation = self.generation(manager.place.generation);
        if let Some(generation) =
            generation.filter(|g| g.tally.staying() == 0 && g.figures.verify() == Verify::Generation)
        {
            generation.verified = false;
        }
    }

    /// When a manager of this generation may start somebody: when a worker of it might be started.
    fn next_child(&self, turn: &Turn<'_>, generation: GenerationId) -> Instant {
        let own = self.not_before(turn, generation).max(turn.now);
        match self.breaker {
            Breaker::Open { until: at, .. } | Breaker::Throttled { next: at, .. } if generation == self.serving => {
                own.max(at)
            }
            _ => own,
        }
    }
}
