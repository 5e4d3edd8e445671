//! What workers say of themselves, and what the operator says of one of them.

use core::time::Duration;

use crate::class::{Class, Weight};
use crate::event::Limit;
use crate::ids::{GenerationId, WorkerId};
use crate::note::Note;
use crate::pool::{Pool, Turn};
use crate::rules::Rule;
use crate::worker::{Leave, State, Word};

/// The longest wait that a worker may ask for.
const RETRY_MAX: Duration = Duration::from_secs(600);

impl Pool {
    /// A worker's word on its own end.
    pub(crate) fn said(&mut self, turn: &mut Turn<'_>, id: WorkerId, word: Word) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        if worker.leave.is_some() || worker.word == Word::Broken {
            return;
        }
        self.alter(id, |worker| worker.word = word);
        match word {
            Word::Silent | Word::Unavailable => {}
            Word::Failed => self.dismiss(turn, id),
            Word::Broken => {
                if turn.hold(Rule::BrokenAtOnce) {
                    self.charge_broken(turn, id);
                }
                self.dismiss(turn, id);
            }
        }
    }

    /// `broken` counts when it is said and not again when the worker is gone.
    fn charge_broken(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get(&id).cloned() else {
            return;
        };
        let (first, _) = self.failed(turn, &worker, Class::Broken, Weight::THREE, None);
        self.alter(id, |worker| worker.charged = Some((Weight::THREE, first)));
    }

    /// No start of this worker's generation before so long.
    pub(crate) fn retry_after(&mut self, turn: &mut Turn<'_>, id: WorkerId, wait: Option<Duration>) {
        let Some((worker, wait)) = self.workers.get(&id).zip(wait) else {
            return;
        };
        if worker.leave.is_none() {
            self.put_off(turn, worker.place.generation, wait);
        }
    }

    /// No start of this generation before so long, by the word of one of its processes.
    pub(crate) fn put_off(&mut self, turn: &Turn<'_>, generation: GenerationId, wait: Duration) {
        if let Some(entry) = self.generation(generation).filter(|_| turn.hold(Rule::UnavailableWait)) {
            entry.retry_at = entry.retry_at.max(turn.now.after(wait.min(RETRY_MAX)));
        }
    }

    /// It has done its share, and may leave before it is asked to.
    pub(crate) fn done(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        self.alter(id, |worker| worker.done = true);
        self.retire_worker(turn, id, Some(Limit::Requests));
    }

    /// It failed its verify request.
    pub(crate) fn unverified(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        if matches!(worker.state, State::Verifying { .. }) {
            self.release(turn, id, Leave::Unverified);
        }
    }

    /// The operator's drain: a worker that serves waits for its successor, another one leaves at once.
    pub(crate) fn replace_worker(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        if !worker.state.is_ready() {
            return self.release(turn, id, Leave::Stopped);
        }
        let place = worker.place;
        turn.report(Note::WorkerRecycled { place, limit: None });
        self.alter(id, |worker| worker.outgoing = true);
    }
}
