//! How workers leave: the stop ladder, and which of too many go first.

use alloc::vec::Vec;
use core::time::Duration;

use crate::class::Class;
use crate::command::Command;
use crate::event::Limit;
use crate::ids::{GenerationId, WorkerId};
use crate::note::Note;
use crate::pool::{Pool, Turn};
use crate::rules::Rule;
use crate::time::Instant;
use crate::worker::{Leave, Rest, State, Worker};

/// TERM is sent again each second: libfcgi has a window in which it is lost.
const TERM_AGAIN: Duration = Duration::from_secs(1);
/// A worker that said it cannot go on leaves within so long in any case.
const WORD_TIMEOUT: Duration = Duration::from_secs(10);
/// KILL works at once, or the kernel holds the process.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

impl Pool {
    /// Makes a worker leave gracefully, whatever it is doing.
    pub(crate) fn release(&mut self, turn: &mut Turn<'_>, id: WorkerId, leave: Leave) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let timeout = self.figures_of(worker.place.generation).stop_timeout;
        let deadline = turn.now.after(timeout);
        match worker.state {
            State::Starting { .. } | State::Verifying { .. } => {
                self.mark(id, leave);
                self.terminate(turn, id, deadline);
            }
            State::Ready { .. } => {
                self.mark(id, leave);
                // TERM at the latest while there is still time to obey it.
                let term = turn.now.after(timeout - (timeout / 4).min(TERM_AGAIN));
                self.enter(turn.now, id, State::Draining { term, deadline });
                turn.order(Command::DrainWorker { worker: id });
            }
            State::Draining { .. } | State::Stopping { .. } | State::Killed { .. } | State::Lost => {}
        }
    }

    fn mark(&mut self, id: WorkerId, leave: Leave) {
        self.alter(id, |worker| {
            worker.leave.get_or_insert(leave);
        });
    }

    /// Sends TERM, again each second until the deadline.
    pub(crate) fn terminate(&mut self, turn: &mut Turn<'_>, id: WorkerId, deadline: Instant) {
        self.enter(turn.now, id, State::Stopping { again: self.next_term(turn, deadline), deadline });
        turn.order(Command::TerminateWorker { worker: id });
    }

    fn next_term(&self, turn: &Turn<'_>, deadline: Instant) -> Instant {
        if turn.hold(Rule::TermAgain) { turn.now.after(TERM_AGAIN) } else { deadline }
    }

    /// Sends KILL and says why.
    pub(crate) fn kill(&mut self, turn: &mut Turn<'_>, id: WorkerId, leave: Leave, class: Class) {
        self.alter(id, |worker| {
            worker.leave.get_or_insert(leave);
            worker.deaf |= class == Class::Deaf;
        });
        self.enter(turn.now, id, State::Killed { deadline: turn.now.after(KILL_TIMEOUT) });
        turn.order(Command::KillWorker { worker: id });
        if let Some(worker) = self.workers.get(&id) {
            turn.report(Note::WorkerKilled { place: worker.place, class });
        }
    }

    /// A worker that said that it cannot go on: TERM comes back at once.
    pub(crate) fn dismiss(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        if worker.state.is_pending() || worker.state.is_ready() {
            self.mark(id, Leave::Word);
            self.terminate(turn, id, turn.now.after(WORD_TIMEOUT));
        }
    }

    /// What it has in hand is not wanted any more: it gets TERM at once, and nobody is to blame for its end.
    pub(crate) fn cancel(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        if worker.state.is_ready() {
            let timeout = self.figures_of(worker.place.generation).stop_timeout;
            self.mark(id, Leave::Recycled);
            self.terminate(turn, id, turn.now.after(timeout));
        }
    }

    /// A draining worker has nothing in hand any more.
    pub(crate) fn drained(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        if let Some(State::Draining { deadline, .. }) = self.workers.get(&id).map(|worker| worker.state) {
            self.terminate(turn, id, deadline);
        }
    }

    /// A worker's deadline has come.
    pub(crate) fn worker_due(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let now = turn.now;
        match worker.state {
            State::Starting { .. } if turn.hold(Rule::ReadyTimeout) => {
                self.kill(turn, id, Leave::Unready, Class::Early);
            }
            State::Verifying { .. } if turn.hold(Rule::VerifyTimeout) => {
                self.kill(turn, id, Leave::Unverified, Class::Unverified);
            }
            State::Starting { .. } | State::Verifying { .. } => {
                self.alter(id, |worker| worker.state = worker.state.moved(Duration::from_secs(3600)));
            }
            State::Ready { .. } if matches!(worker.rest, Rest::Until(at) if at <= now) => self.resume(turn, id),
            State::Ready { .. } => {
                self.enter_ready(id, None);
                self.retire_worker(turn, id, None);
            }
            State::Draining { deadline, .. } => self.terminate(turn, id, deadline),
            State::Stopping { deadline, .. } if deadline <= now => {
                if turn.hold(Rule::StopDeadline) {
                    self.kill(turn, id, Leave::Recycled, Class::Deaf);
                } else {
                    self.enter(
                        now,
                        id,
                        State::Stopping { again: now.after(TERM_AGAIN), deadline: now.after(WORD_TIMEOUT) },
                    );
                }
            }
            State::Stopping { deadline, .. } => {
                let again = self.next_term(turn, deadline);
                self.alter(id, |worker| worker.state = State::Stopping { again, deadline });
                turn.order(Command::TerminateWorker { worker: id });
            }
            State::Killed { .. } => self.lose(turn, id),
            State::Lost => {}
        }
    }

    fn enter_ready(&mut self, id: WorkerId, age_limit: Option<Instant>) {
        self.alter(id, |worker| worker.state = State::Ready { age_limit });
    }

    /// Not even KILL removes it: its slot is lent, and nobody waits for it.
    fn lose(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        self.enter(turn.now, id, State::Lost);
        self.tick_exit(Class::Lost);
        let Some(worker) = self.workers.get(&id).cloned() else {
            return;
        };
        turn.report(Note::WorkerExited {
            place: worker.place,
            class: Class::Lost,
            exit: None,
            weight: crate::class::Weight::NONE,
            ran: turn.now.since(worker.ordered),
            ready: worker.ready.is_some(),
            served: worker.served > 0,
            files_changed: worker.files == crate::event::Files::Changed,
            request: None,
            first: true,
            wait: Duration::ZERO,
        });
        // Whoever waited for it waits no longer.
        self.trial_ended(turn, id, true);
        if self.unseen_candidate(worker.place.generation) {
            self.candidate_ended(turn, &worker, Class::Lost, true);
        }
    }

    /// A worker that serves is to be replaced: it leaves when its successor is ready.
    pub(crate) fn retire_worker(&mut self, turn: &mut Turn<'_>, id: WorkerId, limit: Option<Limit>) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        if !worker.state.is_ready() || worker.outgoing {
            return;
        }
        let changed = self.generations.get(&worker.place.generation).is_some_and(|g| g.files_changed);
        if changed && turn.hold(Rule::ChangedFilesRest) {
            self.alter(id, |worker| worker.postponed = true);
            return;
        }
        turn.report(Note::WorkerRecycled { place: worker.place, limit });
        if turn.hold(Rule::SuccessorFirst) {
            self.alter(id, |worker| worker.outgoing = true);
        } else {
            self.release(turn, id, Leave::Recycled);
        }
    }

    /// Recycling rests, or goes on again, for the workers of this generation.
    pub(crate) fn rest_recycling(&mut self, generation: GenerationId, rest: bool) {
        let concerned = |worker: &&Worker| {
            worker.place.generation == generation && if rest { worker.outgoing } else { worker.postponed }
        };
        let ids: Vec<WorkerId> = self.workers.values().filter(concerned).map(Worker::id).collect();
        for id in ids {
            self.alter(id, |worker| (worker.outgoing, worker.postponed) = (!rest, rest));
        }
    }

    /// Whether nothing is started from this generation any more.
    pub(crate) fn is_foreign(&self, generation: GenerationId) -> bool {
        generation != self.serving && self.rollout.is_none_or(|rollout| rollout.to != generation)
    }

    /// Lets go of workers that are too many: never more than have a successor that serves.
    pub(crate) fn trim(&mut self, turn: &mut Turn<'_>) {
        if !self.is_running() {
            return;
        }
        self.trim_pending(turn);
        loop {
            let ready = self.ready();
            let at_once = !turn.hold(Rule::LastServing) || !turn.hold(Rule::SurgeFirst);
            if ready <= self.target && !at_once {
                return;
            }
            let Some(victim) = self.victim(ready > self.target) else {
                return;
            };
            self.release(turn, victim, Leave::Recycled);
        }
    }

    /// Workers that are not ready yet and not wanted any more.
    fn trim_pending(&mut self, turn: &mut Turn<'_>) {
        let foreign = self.generations.values().any(|g| g.tally.pending > 0 && self.is_foreign(g.id));
        let surplus = self.surplus_pending();
        if !foreign && surplus == 0 {
            return;
        }
        let mut unwanted: Vec<WorkerId> =
            self.pending().filter(|worker| self.is_foreign(worker.place.generation)).map(Worker::id).collect();
        let youngest = self.pending().filter(|worker| worker.place.generation == self.serving).rev();
        unwanted.extend(youngest.take(surplus as usize).map(Worker::id));
        for id in unwanted {
            self.release(turn, id, Leave::Recycled);
        }
    }

    fn pending(&self) -> impl DoubleEndedIterator<Item = &Worker> {
        self.workers.values().filter(|worker| worker.state.is_pending())
    }

    /// How many of the serving generation's pending workers are more than the target.
    fn surplus_pending(&self) -> u32 {
        let Some(serving) = self.generations.get(&self.serving) else {
            return 0;
        };
        let trial = u32::from(matches!(self.breaker, crate::breaker::Breaker::Trial { .. }));
        serving.tally.staying().saturating_sub(self.target.max(trial)).min(serving.tally.pending)
    }

    /// Who leaves next: foreign and outgoing ones first, then a rollout's old ones, then (of too many) the youngest.
    fn victim(&self, too_many: bool) -> Option<WorkerId> {
        let ready = || self.workers.values().filter(|worker| worker.state.is_ready());
        if self.generations.values().any(|g| g.tally.outgoing > 0 || (g.tally.ready > 0 && self.is_foreign(g.id))) {
            let leaving = |worker: &&Worker| worker.outgoing || self.is_foreign(worker.place.generation);
            return ready().find(leaving).map(Worker::id);
        }
        if !too_many {
            return None;
        }
        if self.rollout.is_some() {
            return ready().find(|worker| worker.place.generation == self.serving).map(Worker::id);
        }
        ready().next_back().map(Worker::id)
    }
}
