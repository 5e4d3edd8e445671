//! Workers that serve: how they are admitted, what their service is worth, and what people are told of the pool.

use core::time::Duration;

use crate::breaker::{Breaker, PROBATION, PROBATION_REQUESTS};
use crate::command::Command;
use crate::event::Files;
use crate::figures::Verify;
use crate::ids::{GenerationId, RequestKey, WorkerId};
use crate::note::{Note, Purpose};
use crate::pool::{Pool, Told, Turn};
use crate::rules::Rule;
use crate::suspects::Verdict;
use crate::time::Instant;
use crate::worker::{Leave, State, Worker};

/// Nothing serves for so long before visitors get the fallback and people are told.
const GAP: Duration = Duration::from_millis(500);
/// … and so long while the breaker is closed, for a worker that takes its time to come is no news.
const DARK: Duration = Duration::from_secs(5);
/// Successes kept against later deaths by requests: a memory, not a treasure.
const CREDIT_MAX: u64 = 640;

impl Pool {
    /// The process exists.
    pub(crate) fn spawned(&mut self, id: WorkerId, files: Files) {
        let Some(generation) = self.workers.get(&id).map(|worker| worker.place.generation) else {
            return;
        };
        if let Some(generation) = self.generation(generation) {
            generation.host = Default::default();
        }
        self.note_files(generation, files);
        self.alter(id, |worker| worker.files = files);
    }

    /// It can take a request, or its verify request first.
    pub(crate) fn became_ready(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        if !matches!(worker.state, State::Starting { .. }) {
            return;
        }
        let (place, took) = (worker.place, turn.now.since(worker.ordered));
        let Some(generation) = self.generations.get(&place.generation) else {
            return;
        };
        let figures = &generation.figures;
        let verify = match figures.verify() {
            Verify::Never => false,
            Verify::Each => true,
            Verify::Generation => !generation.verified,
        };
        let deadline = turn.now.after(figures.verify_timeout);
        turn.report(Note::WorkerReady { place, took });
        if verify && turn.hold(Rule::VerifyFirst) {
            self.enter(turn.now, id, State::Verifying { deadline });
            turn.order(Command::VerifyWorker { worker: id });
        } else {
            self.admit(turn, id);
        }
    }

    /// It answered its verify request well.
    pub(crate) fn verified(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        if !matches!(worker.state, State::Verifying { .. }) {
            return;
        }
        let place = worker.place;
        turn.report(Note::WorkerVerified { place });
        if let Some(generation) = self.generation(place.generation)
            && !generation.verified
        {
            generation.verified = true;
            turn.report(Note::GenerationVerified { pool: place.pool, generation: place.generation });
        }
        if self.workers.get(&id).is_some_and(|worker| worker.trial) {
            self.trial_passed(turn, id);
        } else {
            self.admit(turn, id);
        }
    }

    /// What it was there for is done; the workers that serve are started after it.
    fn trial_passed(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let is_serving = self.workers.get(&id).is_some_and(|worker| worker.place.generation == self.serving);
        self.release(turn, id, Leave::Recycled);
        match self.breaker {
            Breaker::Trial { canary, wait, reason, .. } if canary == id => {
                if let Some(canary) = self.start_canary(turn) {
                    self.breaker = Breaker::Trial { canary, passes: None, wait, reason };
                }
            }
            // The trial was the start for which it was time.
            Breaker::Throttled { .. } if is_serving && self.missing() > 0 => drop(self.start_canary(turn)),
            Breaker::Closed
            | Breaker::Open { .. }
            | Breaker::Throttled { .. }
            | Breaker::Trial { .. }
            | Breaker::Refilling { .. } => {}
        }
    }

    /// Lets it serve.
    fn admit(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let (generation, files, planned) = (worker.place.generation, worker.files, worker.purpose == Purpose::Planned);
        let age_limit = self.age_limit(turn, generation);
        self.alter(id, |worker| {
            worker.state = State::Ready { age_limit };
            (worker.since, worker.ready) = (turn.now, Some(turn.now));
        });
        turn.order(Command::AdmitWorker { worker: id });
        if planned {
            self.widen_planned();
        }
        let passes = turn.now.after(if turn.hold(Rule::CanaryProbation) { PROBATION } else { Duration::ZERO });
        if let Breaker::Trial { canary, passes: at @ None, .. } = &mut self.breaker
            && *canary == id
        {
            *at = Some(passes);
        }
        if let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.to == generation) {
            rollout.unseen = false;
            rollout.soak = None;
        }
        let serving = generation == self.serving;
        let Some(entry) = self.generation(generation) else {
            return;
        };
        if files == Files::Changed && entry.probation.is_none() {
            entry.probation = Some((id, passes));
        }
        if serving && !entry.proven && entry.proof_due.is_none() {
            entry.proof_due = Some(turn.now.after(entry.figures.breaker.prove));
        }
    }

    fn age_limit(&self, turn: &mut Turn<'_>, generation: GenerationId) -> Option<Instant> {
        let age = self.figures_of(generation).max_age?;
        let jitter = if turn.hold(Rule::RecycleStaggered) { turn.random.below(age / 5) } else { age / 10 };
        Some(turn.now.after(age - age / 10 + jitter))
    }

    /// Evidence of service by one worker.
    pub(crate) fn served(&mut self, turn: &mut Turn<'_>, id: WorkerId, requests: u64) {
        if requests == 0 {
            return;
        }
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let (generation, files) = (worker.place.generation, worker.files);
        // What a worker did before it was ready counts only when its end explains it.
        let is_unseen = worker.ready.is_none();
        let vouches = self.vouches(worker);
        self.alter(id, |worker| worker.served = worker.served.saturating_add(requests));
        if is_unseen {
            return;
        }
        self.credit(turn, generation, files, requests, vouches);
        let enough = self.workers.get(&id).is_some_and(|worker| worker.served >= PROBATION_REQUESTS);
        if !enough {
            return;
        }
        if let Breaker::Trial { canary, passes: Some(at), .. } = &mut self.breaker
            && *canary == id
        {
            *at = turn.now;
        }
        if let Some((on_probation, at)) = self.generation(generation).and_then(|entry| entry.probation.as_mut())
            && *on_probation == id
        {
            *at = turn.now;
        }
    }

    /// What a dead worker had served, told while its charge waits: it may have left in the same moment.
    pub(crate) fn served_late(&mut self, turn: &mut Turn<'_>, id: WorkerId, requests: u64) {
        let Some(charge) = self.charges.iter_mut().find(|charge| charge.worker.id() == id) else {
            return;
        };
        charge.worker.served = charge.worker.served.saturating_add(requests);
        let worker = charge.worker.clone();
        let vouches = self.vouches(&worker);
        let (generation, files) = (worker.place.generation, worker.files);
        if requests > 0 {
            self.credit(turn, generation, files, requests, vouches);
        }
    }

    /// Whether its service says something of the workers that are started now: it does not when another zygote made it.
    pub(crate) fn vouches(&self, worker: &Worker) -> bool {
        let generation = self.generations.get(&worker.place.generation);
        generation.is_some_and(|g| g.zygote.is_none_or(|zygote| worker.zygote == Some(zygote.id)))
    }

    /// Whether the service of all ready workers of a generation together does.
    pub(crate) fn all_vouch(&self, id: GenerationId) -> bool {
        let ready = |worker: &&Worker| worker.place.generation == id && worker.state.is_ready();
        self.workers.values().filter(ready).all(|worker| self.vouches(worker))
    }

    /// Books served requests with everything that trusts service and not uptime; what holds back starts is forgiven only
    /// by service that vouches for them.
    pub(crate) fn credit(&mut self, turn: &Turn<'_>, id: GenerationId, files: Files, requests: u64, vouches: bool) {
        let (max, rules) = (self.max, turn.rules);
        self.bucket.serve(turn.now, requests, max, rules);
        let Some(generation) = self.generation(id) else {
            return;
        };
        generation.served = generation.served.saturating_add(requests);
        generation.credit = generation.credit.saturating_add(requests).min(CREDIT_MAX);
        generation.account(files).served = true;
        if vouches || !rules.hold(Rule::OthersForgiveNothing) {
            generation.grace_served = true;
            generation.account(files).backoff.serve(requests, rules);
            generation.unavailable.serve(requests, rules);
        }
    }

    /// A suspect was answered well.
    pub(crate) fn suspect_served(&mut self, turn: &mut Turn<'_>, request: RequestKey, by: WorkerId) {
        let of = self.workers.get(&by).map(|worker| worker.place.generation);
        if self.suspects.served(request, of, turn.rules) == Verdict::Release {
            turn.order(Command::ReleaseRequest { pool: self.id, request });
        }
    }

    /// Brings the fallback and what people were told up to date.
    pub(crate) fn stand(&mut self, turn: &mut Turn<'_>) {
        let ready = self.ready();
        if ready > 0 || !self.is_running() || (self.target == 0 && self.load.waiting == 0) {
            self.unserved = None;
        } else if self.unserved.is_none() {
            self.unserved = Some(turn.now);
        }
        self.switch_fallback(turn, ready);

        let told = if ready == 0 {
            if self.down_due().is_some_and(|due| due <= turn.now) { Told::Down } else { self.told }
        } else if !self.breaker.is_closed() {
            // A canary that dies again and again is no news: the way up is told when one has lasted a while.
            let lasts = self.up_due().is_some_and(|due| due <= turn.now);
            if self.told == Told::Down && !lasts { Told::Down } else { Told::Degraded }
        } else if ready >= self.min.min(self.target) {
            Told::Serving
        } else {
            self.told
        };
        if told != self.told {
            self.told = told;
            let pool = self.id;
            match told {
                Told::Serving => {
                    self.announce(turn);
                    turn.report(Note::PoolServing { pool });
                }
                Told::Degraded => turn.report(Note::PoolDegraded { pool }),
                Told::Down => turn.report(Note::PoolDown { pool }),
                Told::Nothing => {}
            }
        }
    }

    /// Tells once that the serving generation has come to serve.
    pub(crate) fn announce(&mut self, turn: &mut Turn<'_>) {
        let (pool, generation) = (self.id, self.serving);
        if let Some(entry) = self.generation(generation).filter(|entry| !entry.announced) {
            entry.announced = true;
            turn.report(Note::GenerationServing { pool, generation });
        }
    }

    /// Nothing has served for longer than the backlog or the queue hides.
    pub(crate) fn gap_over(&self, turn: &Turn<'_>) -> bool {
        self.unserved.is_some_and(|since| turn.now >= since.after(GAP))
    }

    /// When the gap will be over, if that changes anything.
    pub(crate) fn gap_due(&self) -> Option<Instant> {
        let open = !self.breaker.is_closed();
        let wanted = self.min > 0 || self.load.waiting > 0;
        let fallback = !self.is_direct() && open && wanted && !self.fallback;
        let fallback = self.unserved.filter(|_| fallback).map(|since| since.after(GAP));
        let up = self.up_due().filter(|_| self.told == Told::Down && self.ready() > 0);
        fallback.into_iter().chain(self.down_due()).chain(up).min()
    }

    /// When people are to be told that a pool that was down serves, though its breaker is not closed yet.
    fn up_due(&self) -> Option<Instant> {
        match self.breaker {
            Breaker::Trial { passes: Some(at), .. } => Some(at.before(PROBATION - DARK)),
            Breaker::Refilling { .. } => Some(Instant::ZERO),
            Breaker::Closed | Breaker::Open { .. } | Breaker::Throttled { .. } | Breaker::Trial { .. } => None,
        }
    }

    /// When people are to be told that nothing serves.
    fn down_due(&self) -> Option<Instant> {
        let since = self.unserved.filter(|_| self.told != Told::Down)?;
        match (self.breaker.is_closed(), self.told) {
            (false, _) => Some(since.after(GAP)),
            (true, Told::Nothing) => None,
            (true, Told::Serving | Told::Degraded | Told::Down) => Some(since.after(DARK)),
        }
    }

    fn switch_fallback(&mut self, turn: &mut Turn<'_>, ready: u32) {
        if self.is_direct() {
            return;
        }
        let wanted = self.min > 0 || self.load.waiting > 0;
        let on = !self.breaker.is_closed() && wanted && ready == 0 && self.is_running();
        let on = if self.fallback {
            on || (!turn.hold(Rule::FallbackEnds) && self.is_running())
        } else {
            on && self.gap_over(turn) && turn.hold(Rule::Fallback)
        };
        if on != self.fallback {
            self.fallback = on;
            turn.order(Command::SetFallback { pool: self.id, on });
        }
    }
}
