//! What is started, when, and what makes room for it: the only place that orders a worker into being.

use crate::breaker::Breaker;
use crate::command::{Command, Source};
use crate::event::Files;
use crate::figures::Verify;
use crate::generation::Generation;
use crate::ids::{GenerationId, WorkerId};
use crate::note::{Note, Place, Purpose};
use crate::pool::{Pool, Turn};
use crate::rules::Rule;
use crate::time::Instant;
use crate::worker::{Rest, State, Word, Worker};

/// At most so many slots are lent to successors of lost workers.
const LENT_MAX: u32 = 2;

/// Whether one more worker may be started now.
enum Gate {
    /// Yes, for this purpose.
    Open(Purpose),
    /// Not before this.
    Until(Instant),
    /// Not before something else happens.
    Shut,
}

impl Pool {
    /// Starts what is missing and may be started, and notes when the rest may be.
    pub(crate) fn refill(&mut self, turn: &mut Turn<'_>) {
        self.refill_due = None;
        if !self.is_running() && turn.hold(Rule::NoStartAfterStop) {
            return;
        }
        self.owed = self.owed.min(self.missing());
        let mut taken = 0;
        if let Some(rollout) = self.rollout {
            let goal = self.target.max(1);
            let allowance = if turn.hold(Rule::CandidateCanary) { rollout.allowance } else { goal };
            self.fill(turn, rollout.to, allowance.min(goal));
            taken = self.taken();
        }
        self.fill(turn, self.serving, self.target.saturating_sub(taken));
        self.keep_zygote(turn);
    }

    /// Starts workers of one generation until it has `wanted` that are meant to stay.
    fn fill(&mut self, turn: &mut Turn<'_>, generation: GenerationId, wanted: u32) {
        loop {
            let Some(entry) = self.generations.get(&generation) else {
                return;
            };
            if entry.tally.staying() >= wanted {
                return;
            }
            match self.gate(turn, generation) {
                Gate::Open(purpose) => {
                    self.start(turn, generation, purpose);
                }
                Gate::Until(at) => {
                    let at = at.max(turn.now.after(core::time::Duration::from_nanos(1)));
                    self.refill_due = Some(self.refill_due.map_or(at, |due| due.min(at)));
                    return;
                }
                Gate::Shut => return,
            }
        }
    }

    fn gate(&mut self, turn: &mut Turn<'_>, id: GenerationId) -> Gate {
        if !self.has_room(turn) {
            return Gate::Shut;
        }
        if id == self.serving && turn.hold(Rule::BreakerHolds) {
            match self.breaker {
                Breaker::Closed => {}
                Breaker::Refilling { left: 0, .. } => return Gate::Shut,
                Breaker::Refilling { .. } => return self.refill_gate(turn, id),
                Breaker::Trial { .. } if !turn.hold(Rule::CanaryAlone) => return self.refill_gate(turn, id),
                Breaker::Open { .. } | Breaker::Throttled { .. } | Breaker::Trial { .. } => {
                    return Gate::Shut;
                }
            }
        }
        let Some(entry) = self.generations.get(&id) else {
            return Gate::Shut;
        };
        let waits_for_first =
            entry.figures.verify() == Verify::Generation && !entry.verified && entry.tally.staying() > 0;
        if entry.refused || (waits_for_first && turn.hold(Rule::VerifyFirst)) {
            return Gate::Shut;
        }
        let at = self.not_before(turn, id);
        if at > turn.now {
            return Gate::Until(at);
        }
        if self.source(turn, id).is_none() {
            return Gate::Shut;
        }
        if self.unseen_candidate(id) {
            // Nobody sees it, so it repairs nothing; and it goes alone, one that is still being killed counted.
            let alone = self.generations.get(&id).is_none_or(|g| g.tally.live() == g.tally.lost);
            return if alone || !turn.hold(Rule::CandidateCanary) { Gate::Open(Purpose::Canary) } else { Gate::Shut };
        }
        if self.owed > 0 {
            return self.repair_gate(turn);
        }
        self.planned_gate(turn)
    }

    /// No start of this generation before this, whatever it is for.
    pub(crate) fn not_before(&self, turn: &Turn<'_>, id: GenerationId) -> Instant {
        let Some(entry) = self.generations.get(&id) else {
            return Instant::ZERO;
        };
        let own = |entry: &Generation| match entry.files() {
            Files::Noted => entry.noted.backoff.not_before(),
            Files::Changed => entry.changed.backoff.not_before(),
        };
        let mut at = self.not_before_host(id).max(own(entry));
        if !turn.hold(Rule::BackoffOwn) {
            at = self.generations.values().map(own).fold(at, Instant::max);
        }
        at
    }

    /// No start of this generation before this, even of a canary: the host or a dependency says so.
    pub(crate) fn not_before_host(&self, id: GenerationId) -> Instant {
        let Some(entry) = self.generations.get(&id) else {
            return Instant::ZERO;
        };
        entry.host.not_before().max(entry.unavailable.not_before()).max(entry.retry_at)
    }

    /// After a passed trial the batches are bound enough: only the host or a dependency may still say no.
    fn refill_gate(&mut self, turn: &mut Turn<'_>, id: GenerationId) -> Gate {
        let at = self.not_before_host(id);
        if at > turn.now {
            return Gate::Until(at);
        }
        if self.source(turn, id).is_none() { Gate::Shut } else { self.planned_gate(turn) }
    }

    fn repair_gate(&mut self, turn: &mut Turn<'_>) -> Gate {
        if self.bucket.take(turn.now, self.max, turn.rules) {
            self.owed -= 1;
            Gate::Open(Purpose::Repair)
        } else {
            Gate::Until(self.bucket.available_at(turn.now, self.max))
        }
    }

    fn planned_gate(&self, turn: &Turn<'_>) -> Gate {
        if self.planned < self.planned_bound.max(self.planned_least()) || !turn.hold(Rule::PlannedBound) {
            Gate::Open(Purpose::Planned)
        } else {
            Gate::Shut
        }
    }

    /// So many planned starts may always be under way at once.
    fn planned_least(&self) -> u32 {
        (self.max / 4).max(2)
    }

    /// A planned worker became ready: one more may be under way, which doubles their number with each round.
    pub(crate) fn widen_planned(&mut self) {
        self.planned_bound = self.planned_bound.max(self.planned_least()).saturating_add(1).min(self.max);
    }

    /// A failure, or the end of a round: start carefully again.
    pub(crate) fn narrow_planned(&mut self) {
        self.planned_bound = self.planned_least();
    }

    fn has_room(&self, turn: &Turn<'_>) -> bool {
        let tally = self.tally();
        let lent = match (turn.hold(Rule::LostLent), turn.hold(Rule::LostBound)) {
            (false, _) => 0,
            (true, true) => tally.lost.min(LENT_MAX),
            (true, false) => tally.lost,
        };
        let most = self.max.saturating_add(lent);
        let most = if turn.hold(Rule::SurgeBound) { most.saturating_add(self.surge()) } else { u32::MAX };
        tally.live() < most
    }

    /// Where a worker of this generation would come from; `None` when its zygote has to come first.
    fn source(&mut self, turn: &mut Turn<'_>, id: GenerationId) -> Option<Source> {
        let entry = self.generations.get(&id)?;
        match (entry.forks(), entry.ready_zygote()) {
            (false, _) => Some(Source::Exec),
            (true, Some(zygote)) => Some(Source::Zygote(zygote)),
            (true, None) => {
                self.want_zygote(turn, id);
                None
            }
        }
    }

    /// Orders one worker of this generation; `None` when its zygote has to come first.
    fn start(&mut self, turn: &mut Turn<'_>, id: GenerationId, purpose: Purpose) -> Option<WorkerId> {
        let source = self.source(turn, id)?;
        let entry = self.generations.get(&id)?;
        let zygote = entry.ready_zygote();
        // Whoever accepts on the pool's own socket cannot be asked anything before it serves.
        let trial = self.is_direct() && entry.figures.verify() != Verify::Never && !entry.verified;
        let trial = trial && turn.hold(Rule::VerifyFirst);
        let (timeout, files) = (entry.figures.ready_timeout, entry.files());
        let worker = turn.mint.worker(self.id);
        let place = Place { worker, pool: self.id, slot: self.free_slot(), generation: id };
        self.seat(Worker {
            place,
            purpose,
            state: State::Starting { deadline: turn.now.after(timeout) },
            files,
            trial,
            zygote,
            ordered: turn.now,
            since: turn.now,
            ready: None,
            served: 0,
            word: Word::Silent,
            charged: None,
            leave: None,
            deaf: false,
            outgoing: false,
            postponed: false,
            rest: Rest::No,
            done: false,
        });
        if let Breaker::Refilling { left, .. } = &mut self.breaker {
            *left = left.saturating_sub(1);
        }
        turn.report(Note::WorkerStarted { place, purpose });
        turn.order(Command::StartWorker { worker, pool: self.id, slot: place.slot, generation: id, source, trial });
        Some(worker)
    }

    /// Starts the trial worker of the open breaker; `None` when nothing is missing or it cannot be now.
    pub(crate) fn start_canary(&mut self, turn: &mut Turn<'_>) -> Option<WorkerId> {
        if !self.has_room(turn) {
            return None;
        }
        let canary = self.start(turn, self.serving, Purpose::Canary)?;
        self.owed = self.owed.saturating_sub(1);
        Some(canary)
    }

    /// How many workers of the serving generation are missing.
    pub(crate) fn missing(&self) -> u32 {
        let staying = self.generations.get(&self.serving).map_or(0, |serving| serving.tally.staying());
        self.target.saturating_sub(self.taken()).saturating_sub(staying)
    }

    /// How many places a rollout's workers have taken over.
    fn taken(&self) -> u32 {
        let to = self.rollout.and_then(|rollout| self.generations.get(&rollout.to));
        to.map_or(0, |to| to.tally.ready)
    }
}
