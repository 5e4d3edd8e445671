//! The ladder: what a failure leads to, step by step, each only where it applies.

use core::time::Duration;

use crate::breaker::{Breaker, PROBATION, WAIT_FIRST, WAIT_MAX};
use crate::class::{Class, Reason, Weight};
use crate::command::Command;
use crate::event::Files;
use crate::ids::{GenerationId, RequestKey, WorkerId};
use crate::note::Note;
use crate::pool::{Pool, Turn};
use crate::rules::Rule;
use crate::time::Instant;
use crate::worker::Worker;

/// Waits while a dependency is away.
const UNAVAILABLE_FIRST: Duration = Duration::from_secs(1);
const UNAVAILABLE_MAX: Duration = Duration::from_secs(30);
/// Fresh zygotes: at most two within a minute, this far apart.
const FRESH_APART: Duration = Duration::from_secs(30);
const FRESH_WITHIN: Duration = Duration::from_secs(60);

impl Pool {
    /// A worker has ended (or said that its generation is broken). Says whether it was the first failure since all was
    /// well, and how long the next start waits.
    pub(crate) fn failed(
        &mut self,
        turn: &mut Turn<'_>,
        worker: &Worker,
        class: Class,
        weight: Weight,
        request: Option<RequestKey>,
    ) -> (bool, Duration) {
        if !self.is_running() && turn.hold(Rule::NoStartAfterStop) {
            return (false, Duration::ZERO);
        }
        let id = worker.place.generation;
        let counts = (!weight.is_none() || class == Class::Unavailable) && worker.charged.is_none();
        if self.unseen_candidate(id) && turn.hold(Rule::CandidateRefused) {
            self.candidate_ended(turn, worker, class, counts);
            return (counts, Duration::ZERO);
        }
        if !counts {
            let first = self.weightless_end(turn, worker, class, request);
            return (worker.charged.map_or(first, |(_, first)| first), Duration::ZERO);
        }
        let (first, wait) = self.book(turn, id, worker.files, class, weight);
        if class == Class::Unavailable {
            self.trial_ended(turn, worker.id(), false);
            return (first, wait);
        }
        self.step_breaker(turn, worker, class);
        let decisive = class == Class::Unverified || (class == Class::Broken && turn.hold(Rule::BrokenAtOnce));
        if self.roll_back_if_due(turn, worker, class, decisive, request) {
            return (first, wait);
        }
        self.trip_if_due(turn, worker, class);
        (first, wait)
    }

    /// An end that weighs nothing may still be a sign that a new generation is bad, and ends a trial.
    fn weightless_end(
        &mut self,
        turn: &mut Turn<'_>,
        worker: &Worker,
        class: Class,
        request: Option<RequestKey>,
    ) -> bool {
        let own = matches!(class, Class::Crashed | Class::Exited | Class::Oom) && worker.leave.is_none();
        let mut first = false;
        if own && let Some(generation) = self.generation(worker.place.generation) {
            first = generation.last_trouble.is_none_or(|at| turn.now.since(at) >= PROBATION);
            generation.last_trouble = Some(turn.now);
        }
        if own && request.is_some() {
            self.roll_back_if_due(turn, worker, class, false, request);
        }
        self.pace(turn, worker, true);
        self.trial_ended(turn, worker.id(), false);
        first
    }

    /// Books a failure: window, backoff, proof.
    pub(crate) fn book(
        &mut self,
        turn: &mut Turn<'_>,
        id: GenerationId,
        files: Files,
        class: Class,
        weight: Weight,
    ) -> (bool, Duration) {
        let (now, rules) = (turn.now, turn.rules);
        self.narrow_planned();
        let Some(generation) = self.generations.get_mut(&id) else {
            return (true, Duration::ZERO);
        };
        let figures = generation.figures.breaker.clone();
        if class == Class::Unavailable {
            let first = generation.unavailable.is_clean(now);
            if !rules.hold(Rule::UnavailableWait) {
                return (first, Duration::ZERO);
            }
            if first {
                // The first time is not free: what is away does not come back at once.
                generation.unavailable.fail(now, UNAVAILABLE_FIRST, UNAVAILABLE_MAX, turn.random, rules);
            }
            let wait = generation.unavailable.fail(now, UNAVAILABLE_FIRST, UNAVAILABLE_MAX, turn.random, rules);
            return (first, wait);
        }
        if generation.proof_due.is_some() && rules.hold(Rule::ProofPutOff) {
            generation.proof_due = Some(now.after(figures.prove));
        }
        let files = if rules.hold(Rule::ChangedFilesApart) { files } else { Files::Noted };
        let account = generation.account(files);
        let first = account.backoff.is_clean(now);
        account.window.trim(now, figures.within, rules);
        account.window.push(now, weight);
        let wait = account.backoff.fail(now, figures.backoff_first, figures.backoff_max, turn.random, rules);
        if files == Files::Changed && rules.hold(Rule::ChangedFilesRest) {
            self.rest_recycling(id, true);
        }
        (first, wait)
    }

    /// A worker of a throttled generation is gone: one that had served keeps the pace.
    fn pace(&mut self, turn: &Turn<'_>, worker: &Worker, served: bool) {
        let soon = turn.now.after(WAIT_FIRST);
        if let Breaker::Throttled { next, wait, unserved, .. } = &mut self.breaker
            && worker.place.generation == self.serving
        {
            *unserved = !served;
            if served {
                (*next, *wait) = ((*next).min(soon), WAIT_FIRST);
            }
        }
    }

    /// What a failure means for a breaker that is not closed.
    fn step_breaker(&mut self, turn: &mut Turn<'_>, worker: &Worker, class: Class) {
        let served = self.has_served(turn, worker);
        match &mut self.breaker {
            Breaker::Trial { canary, wait, .. } if *canary == worker.id() => {
                let wait = *wait;
                self.reopen(turn, wait, Reason::Canary(class), true);
            }
            Breaker::Refilling { wait, .. } if worker.place.generation == self.serving => {
                let wait = *wait;
                self.reopen(turn, wait, Reason::Failures(class), true);
            }
            Breaker::Throttled { .. } => self.pace(turn, worker, served),
            Breaker::Closed | Breaker::Open { .. } | Breaker::Trial { .. } | Breaker::Refilling { .. } => {}
        }
    }

    /// Step 1: goes back to the predecessor of a generation that is not proven.
    fn roll_back_if_due(
        &mut self,
        turn: &mut Turn<'_>,
        worker: &Worker,
        class: Class,
        decisive: bool,
        request: Option<RequestKey>,
    ) -> bool {
        let now = turn.now;
        let id = worker.place.generation;
        let Some(generation) = self.generations.get_mut(&id) else {
            return false;
        };
        generation.last_trouble = Some(now);
        if worker.files == Files::Changed && turn.rules.hold(Rule::ChangedFilesApart) {
            return false;
        }
        let enough = generation.trouble.add(request) >= 2 || decisive;
        let outlived = request.is_some_and(|request| self.suspects.is_outlived(request, id));
        let enough = enough || (outlived && turn.rules.hold(Rule::OutlivedRequest));
        let (started, proven) = (generation.started, generation.proven);
        let Some(predecessor) = generation.predecessor.filter(|_| enough && !proven) else {
            return false;
        };
        let Some(to) = self.way_back(turn, predecessor, started) else {
            return false;
        };
        self.roll_back(turn, id, to, Reason::Failures(class))
    }

    /// The nearest older generation that had no trouble shortly before this one began. One that had, and was new itself,
    /// may be as bad: what was before it is asked. If a proven one had, the cause is elsewhere (somebody attacks, or what
    /// all need is broken), and going back does not help.
    fn way_back(&self, turn: &Turn<'_>, nearest: GenerationId, began: Instant) -> Option<GenerationId> {
        let mut to = self.generations.get(&nearest)?;
        while to.last_trouble.is_some_and(|at| at.after(PROBATION) >= began) && turn.hold(Rule::RollbackNotEnvironment)
        {
            to = self.generations.get(&to.predecessor.filter(|_| !to.proven)?)?;
        }
        Some(to.id)
    }

    /// Opens the breaker, or tries a fresh zygote first, when the window is full.
    fn trip_if_due(&mut self, turn: &mut Turn<'_>, worker: &Worker, class: Class) {
        let is_rollout = self.rollout.is_some_and(|rollout| rollout.to == worker.place.generation);
        let is_serving = worker.place.generation == self.serving && self.breaker.is_closed();
        if !(is_rollout || is_serving) || !turn.hold(Rule::BreakerOpens) {
            return;
        }
        let (now, rules, id) = (turn.now, turn.rules, worker.place.generation);
        let files = if turn.hold(Rule::ChangedFilesApart) { worker.files } else { Files::Noted };
        self.notice_life(turn, id);
        let early = Weight::whole(self.target.div_ceil(2).clamp(3, 8));
        let Some(generation) = self.generations.get_mut(&id) else {
            return;
        };
        let figures = generation.figures.breaker.clone();
        let in_grace = generation.grace.is_some_and(|until| now < until) && rules.hold(Rule::Grace);
        if in_grace && generation.grace_served {
            return;
        }
        let account = generation.account(files);
        let full = Weight::whole(figures.failures);
        let limit = if account.served || !rules.hold(Rule::BreakerOpensEarly) { full } else { full.min(early) };
        let sum = account.window.sum(now, figures.within, rules);
        let at_once = class == Class::Broken && turn.hold(Rule::BrokenAtOnce);
        // A fresh one would load the changed files again.
        if files == Files::Noted && (sum >= limit || at_once) && self.try_fresh_zygote(turn, id) {
            return;
        }
        if sum < limit {
            return;
        }
        let reason = if files == Files::Changed { Reason::FilesChanged(class) } else { Reason::Failures(class) };
        if is_rollout {
            // Nothing holds a candidate but its own end: what served before it is held by its breaker.
            self.roll_back(turn, id, self.serving, reason);
        } else {
            self.open(turn, WAIT_FIRST, reason, sum);
        }
    }

    /// In direct mode a life of some seconds is service; found out only when it matters, so that nothing ticks.
    fn notice_life(&mut self, turn: &Turn<'_>, id: GenerationId) {
        if !self.is_direct() || self.generations.get(&id).is_none_or(|g| g.noted.served && g.changed.served) {
            return;
        }
        let mut lived = [false; 2];
        for worker in self.workers.values() {
            if worker.place.generation == id && worker.state.is_ready() && self.has_served(turn, worker) {
                lived[usize::from(worker.files == Files::Changed)] = true;
            }
        }
        if let Some(generation) = self.generation(id) {
            generation.noted.served |= lived[0];
            generation.changed.served |= lived[1];
        }
    }

    /// Step 2: a fresh zygote from the same files. True when one is on its way.
    pub(crate) fn try_fresh_zygote(&mut self, turn: &mut Turn<'_>, id: GenerationId) -> bool {
        let now = turn.now;
        if !turn.hold(Rule::FreshZygote) {
            return false;
        }
        let bounded = turn.hold(Rule::FreshZygoteBound);
        let Some(generation) = self.generations.get_mut(&id) else {
            return false;
        };
        if !generation.forks() || generation.ready_zygote().is_none() {
            return false;
        }
        if generation.fresh.is_some() {
            generation.fresh_forgives = true;
            return true;
        }
        generation.fresh_tries.retain(|at| now.since(*at) < FRESH_WITHIN);
        let recent = generation.fresh_tries.last().is_some_and(|at| now.since(*at) < FRESH_APART);
        if bounded && (recent || generation.fresh_tries.len() >= 2) {
            return false;
        }
        generation.fresh_tries.push(now);
        generation.fresh_forgives = true;
        self.load_fresh(turn, id);
        true
    }

    /// Step 3: nothing is respawned but one canary at a time; a direct pool that has served is throttled instead.
    pub(crate) fn open(&mut self, turn: &mut Turn<'_>, wait: Duration, reason: Reason, failures: Weight) {
        let until = turn.now.after(wait);
        self.notice_life(turn, self.serving);
        let files = if matches!(reason, Reason::FilesChanged(_)) { Files::Changed } else { Files::Noted };
        let served = self.generation(self.serving).is_some_and(|generation| generation.account(files).served);
        self.breaker = if self.is_direct() && served && turn.hold(Rule::BreakerThrottles) {
            Breaker::Throttled { next: until, wait, unserved: false, reason }
        } else {
            Breaker::Open { until, wait, reason }
        };
        turn.report(Note::BreakerOpened { pool: self.id, generation: self.serving, failures, until, reason });
    }

    /// A trial failed (or ended otherwise): hold again, longer each time that it failed.
    pub(crate) fn reopen(&mut self, turn: &mut Turn<'_>, wait: Duration, reason: Reason, failed: bool) {
        let wait = if failed { next_wait(turn, wait) } else { wait };
        let sum = self.failures(turn.now, turn.rules);
        self.open(turn, wait, reason, sum);
    }

    /// All is well again.
    pub(crate) fn close(&mut self, turn: &mut Turn<'_>) {
        if self.breaker.is_closed() {
            return;
        }
        self.breaker = Breaker::Closed;
        if let Some(generation) = self.generation(self.serving) {
            generation.noted.window.clear();
            generation.changed.window.clear();
        }
        turn.report(Note::BreakerClosed { pool: self.id });
    }

    /// Moves a breaker whose deadline has come.
    pub(crate) fn breaker_due(&mut self, turn: &mut Turn<'_>) {
        match self.breaker {
            Breaker::Open { wait, reason, .. } => self.try_trial(turn, wait, reason),
            Breaker::Throttled { .. } => self.throttled_start(turn),
            Breaker::Trial { wait, reason, .. } => {
                self.breaker = Breaker::Refilling { batch: 1, left: 1, wait, reason };
            }
            Breaker::Closed | Breaker::Refilling { .. } => {}
        }
    }

    /// The oldest worker of the serving generation that is not ready yet.
    fn first_pending(&self) -> Option<WorkerId> {
        let is = |worker: &&Worker| worker.state.is_pending() && worker.place.generation == self.serving;
        self.workers.values().find(is).map(Worker::id)
    }

    fn try_trial(&mut self, turn: &mut Turn<'_>, wait: Duration, reason: Reason) {
        if self.missing() == 0 {
            return match self.first_pending() {
                // It was on its way when the breaker opened: then it is the trial.
                Some(canary) => self.breaker = Breaker::Trial { canary, passes: None, wait, reason },
                None if self.has_resting(turn) => {
                    let wait = next_wait(turn, wait);
                    self.breaker = Breaker::Open { until: turn.now.after(wait), wait, reason };
                }
                None => self.close(turn),
            };
        }
        let possible = self.not_before_host(self.serving);
        if possible > turn.now {
            self.breaker = Breaker::Open { until: possible, wait, reason };
            return;
        }
        match self.start_canary(turn) {
            Some(canary) => {
                self.breaker = Breaker::Trial { canary, passes: None, wait, reason };
                turn.report(Note::BreakerHalfOpen { pool: self.id });
            }
            None => self.breaker = Breaker::Open { until: turn.now.after(WAIT_FIRST), wait, reason },
        }
    }

    /// One start at each pace; slower while what was started last dies without having served.
    fn throttled_start(&mut self, turn: &mut Turn<'_>) {
        let Breaker::Throttled { wait, unserved, reason, .. } = self.breaker else {
            return;
        };
        let wait = if unserved { next_wait(turn, wait) } else { WAIT_FIRST };
        let quiet = self.generations.get(&self.serving).is_none_or(|g| g.noted.backoff.is_quiet(turn.now, PROBATION));
        if quiet && !self.has_resting(turn) {
            // Whatever was started has lasted as long as a trial.
            self.breaker = Breaker::Refilling { batch: 1, left: 1, wait, reason };
            return;
        }
        let possible = self.not_before_host(self.serving);
        let started = if self.missing() > 0 && possible <= turn.now { self.start_canary(turn) } else { None };
        let next = turn.now.after(wait).max(possible);
        self.breaker = Breaker::Throttled { next, wait, unserved: unserved && started.is_none(), reason };
    }

    /// Starts the next batch when the last one is ready, and closes when nothing is missing.
    pub(crate) fn refilling(&mut self, turn: &mut Turn<'_>) {
        let Breaker::Refilling { batch, left, wait, reason } = self.breaker else {
            return;
        };
        if self.generations.get(&self.serving).is_some_and(|g| g.tally.pending > 0) {
            return;
        }
        if self.missing() == 0 {
            return self.close(turn);
        }
        if left == 0 {
            let batch = if turn.hold(Rule::RefillDoubling) { batch.saturating_mul(2) } else { u32::MAX };
            self.breaker = Breaker::Refilling { batch, left: batch, wait, reason };
        }
    }

    /// The operator's word.
    pub(crate) fn reset_breaker(&mut self, turn: &mut Turn<'_>) {
        self.close(turn);
        self.resume_all(turn);
        self.owed = 0;
        if let Some(generation) = self.generation(self.serving) {
            generation.noted.backoff = Default::default();
            generation.changed.backoff = Default::default();
            generation.noted.window.clear();
            generation.changed.window.clear();
            generation.host = Default::default();
            generation.unavailable = Default::default();
            generation.retry_at = Instant::ZERO;
        }
    }

    /// The operator's word: as if there had been too many failures, and with the same way back.
    pub(crate) fn trip_breaker(&mut self, turn: &mut Turn<'_>) {
        if self.is_running() {
            let sum = self.failures(turn.now, turn.rules);
            self.open(turn, WAIT_FIRST, Reason::Operator, sum);
        }
    }

    /// What only workers of a bad generation died of may be every visitor's request, and whoever serves now stands it.
    pub(crate) fn acquit(&mut self, turn: &mut Turn<'_>, generation: GenerationId) {
        if !turn.hold(Rule::RollbackAcquits) {
            return;
        }
        for request in self.suspects.acquit(generation) {
            turn.order(Command::ReleaseRequest { pool: self.id, request });
        }
    }

    /// Tells the front to forget every request.
    pub(crate) fn clear_quarantine(&mut self, turn: &mut Turn<'_>) {
        for request in self.suspects.clear() {
            turn.order(Command::ReleaseRequest { pool: self.id, request });
        }
    }
}

fn next_wait(turn: &Turn<'_>, wait: Duration) -> Duration {
    let wait = if turn.hold(Rule::BreakerDoubles) { wait.saturating_mul(2) } else { wait };
    if turn.hold(Rule::BreakerBounded) { wait.min(WAIT_MAX) } else { wait }
}
