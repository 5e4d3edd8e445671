//! The state machine: takes facts and the time, gives orders.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::class::Class;
use crate::command::Command;
use crate::event::Event;
use crate::figures::{Figures, Then};
use crate::ids::{PoolId, WorkerId, ZygoteId};
use crate::note::Note;
use crate::pool::{Afterwards, Mint, Phase, Pool, Turn};
use crate::random::Random;
use crate::rules::{Rule, Rules};
use crate::time::Instant;
use crate::view::View;
use crate::worker::{Leave, Word};
use crate::zygotes::Gone;

/// A turn that comes so late moves the deadlines before anybody is judged.
const LATE: Duration = Duration::from_millis(250);
/// More late turns in a row show that the host is starved and not asleep.
const STARVED: u32 = 3;
/// A turn in time so long after a late one shows that the host is not starved.
const CALM: Duration = Duration::from_secs(10);
/// With `then = "exit"`: how long nothing has served.
const LEAVE_AFTER: Duration = Duration::from_secs(60);

/// Theory of operation. The driver tells every fact as an [`Event`], with a clock that never goes back; the policy
/// answers with [`Command`]s, to be carried out in the order given. Nothing here waits: what takes time is a state
/// with a deadline, [`Policy::next_deadline`] is the earliest of them, and at that time the driver says
/// [`Event::Woken`], after all other facts of that turn, for a worker must not be judged by a deadline while the word
/// that saves it lies unread. Each event is dispatched to its pool, and then that pool *settles*: surplus workers are
/// let go, missing ones are started, and whatever else follows from the state is brought up to date. So the same
/// rules hold whichever event came last.
#[derive(Clone, Debug)]
pub struct Policy {
    pools: BTreeMap<PoolId, Pool>,
    random: Random,
    mint: Mint,
    rules: Rules,
    /// Everything is being stopped.
    stopping: bool,
    finished: bool,
    /// When the last fact came, and when the driver was to come back at the latest.
    last: Instant,
    promised: Option<Instant>,
    /// The last late turn, and how many there were in a row.
    was_late: Option<(Instant, u32)>,
}

impl Policy {
    /// A policy without pools. The same seed and the same events give the same orders.
    pub fn new(seed: u64) -> Policy {
        Policy {
            pools: BTreeMap::new(),
            random: Random::new(seed),
            mint: Mint::default(),
            rules: Rules::all(),
            stopping: false,
            finished: false,
            last: Instant::ZERO,
            promised: None,
            was_late: None,
        }
    }

    /// A policy in which only these rules hold.
    #[cfg(feature = "mutants")]
    pub fn with_rules(seed: u64, rules: Rules) -> Policy {
        Policy { rules, ..Policy::new(seed) }
    }

    /// Takes in one fact. `now` never decreases; orders are appended to `out`. Facts about what is no more are ignored.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Command>) {
        let woken = event == Event::Woken;
        self.catch_up(now, woken, out);
        let everywhere = woken || matches!(event, Event::ShutdownRequested | Event::ShutdownHastened);
        let pool = self.dispatch(now, event, out);
        if everywhere {
            let ids: Vec<PoolId> = self.pools.keys().copied().collect();
            for id in ids {
                self.settle(now, id, woken, out);
            }
        } else if let Some(id) = pool {
            self.settle(now, id, false, out);
        }
        if woken {
            self.leave_if_due(now, out);
        }
        if self.stopping && !self.finished && self.pools.values().all(|pool| pool.phase == Phase::Stopped) {
            self.finished = true;
            out.push(Command::Finish);
        }
        self.last = now;
        self.promised = self.next_deadline().map(|due| due.max(now));
    }

    /// When [`Event::Woken`] is due; after it was handled, this lies in the future. `None`: nothing is waited for.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.pools.values().filter_map(Pool::next_deadline).chain(self.leave_due()).min()
    }

    /// The state at this moment.
    pub fn view(&self, now: Instant) -> View<'_> {
        View { pools: &self.pools, now, rules: self.rules, stopping: self.stopping }
    }

    /// A late turn says nothing about workers: their deadlines move before anybody is judged.
    ///
    /// They move by the whole gap, because nobody knows when in it the machine stood still, so that everybody has what
    /// he had left. Where late turns follow each other the host is starved and not asleep; then they move by the
    /// lateness only, or a worker that hangs would be given its time again and again.
    fn catch_up(&mut self, now: Instant, woken: bool, out: &mut Vec<Command>) {
        let Some(promised) = self.promised else {
            return;
        };
        let late = now.since(promised);
        if late <= LATE {
            let met = woken && promised <= now;
            let past = if met { LATE } else { CALM };
            self.was_late = self.was_late.filter(|(at, _)| now.since(*at) <= past);
            return;
        }
        if !self.rules.hold(Rule::StallShift) {
            return;
        }
        let row = self.was_late.map_or(1, |(_, row)| row.saturating_add(1));
        let gap = if row > STARVED { late } else { now.since(self.last) };
        self.was_late = Some((now, row));
        for pool in self.pools.values_mut() {
            pool.postpone(gap);
        }
        out.push(Command::Report(Note::Late { by: late }));
    }

    fn settle(&mut self, now: Instant, id: PoolId, woken: bool, out: &mut Vec<Command>) {
        let forget = self.with(now, id, out, |pool, turn| {
            if woken {
                pool.expire(turn);
            }
            pool.settle(turn);
            let stopping = !pool.is_running();
            let forget = pool.finish_stop(turn);
            if stopping && pool.is_running() {
                // A restart has begun a generation that needs its workers.
                pool.settle(turn);
            }
            forget
        });
        if forget == Some(true) {
            self.pools.remove(&id);
        }
    }

    fn with<T>(
        &mut self,
        now: Instant,
        id: PoolId,
        out: &mut Vec<Command>,
        act: impl FnOnce(&mut Pool, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        let pool = self.pools.get_mut(&id)?;
        let mut turn = Turn { now, out, random: &mut self.random, mint: &mut self.mint, rules: self.rules };
        Some(act(pool, &mut turn))
    }

    /// Hands the fact to its pool, and says which that is.
    fn dispatch(&mut self, now: Instant, event: Event, out: &mut Vec<Command>) -> Option<PoolId> {
        match event {
            Event::Woken => None,
            Event::ShutdownRequested => self.shut_down(now, out),
            Event::ShutdownHastened => {
                self.shut_down(now, out);
                let ids: Vec<PoolId> = self.pools.keys().copied().collect();
                for id in ids {
                    self.with(now, id, out, |pool, turn| pool.hasten(turn));
                }
                None
            }
            Event::PoolAdded { pool, figures } => self.add(now, pool, figures, out),
            Event::RemovalRequested { pool } => self.order(now, pool, out, |p, t| p.stop(t, Afterwards::Forget)),
            Event::StopRequested { pool } => self.order(now, pool, out, |p, t| p.stop(t, Afterwards::Stay)),
            Event::ReloadRequested { .. }
            | Event::StartRequested { .. }
            | Event::RestartRequested { .. }
            | Event::ScaleRequested { .. }
            | Event::DrainRequested { .. }
            | Event::KillRequested { .. }
            | Event::BreakerResetRequested { .. }
            | Event::BreakerTripRequested { .. }
            | Event::QuarantineClearRequested { .. } => self.operate(now, event, out),
            Event::NamesMinted { .. }
            | Event::PoolAdopted { .. }
            | Event::AccountAdopted { .. }
            | Event::FailureAdopted { .. }
            | Event::ZygoteAdopted { .. }
            | Event::WorkerAdopted { .. }
            | Event::BreakerAdopted { .. }
            | Event::SuspectAdopted { .. }
            | Event::ExitsAdopted { .. } => {
                self.adopt(now, event);
                None
            }
            Event::LoadSampled { pool, load } => self.order(now, pool, out, |p, t| p.sampled(t, load)),
            Event::SuspectServed { pool, request, worker } => {
                self.order(now, pool, out, |p, t| p.suspect_served(t, request, worker))
            }
            Event::ZygoteReady { zygote } => self.zygote(now, zygote, out, |p, t| p.zygote_ready(t, zygote)),
            Event::ZygoteUnfit { zygote } => self.zygote(now, zygote, out, |p, t| p.zygote_unfit(t, zygote)),
            Event::ZygoteGrown { zygote } => self.zygote(now, zygote, out, |p, t| p.zygote_grown(t, zygote)),
            Event::ZygoteExited { zygote, end, files, retry_after } => {
                self.zygote(now, zygote, out, |p, t| p.zygote_exited(t, zygote, Gone { end, files, retry_after }))
            }
            Event::Blamed { worker, request } => {
                let id = self.charging(worker)?;
                self.order(now, id, out, |p, t| p.blamed(t, worker, request))
            }
            Event::WorkerSpawned { .. }
            | Event::SpawnFailed { .. }
            | Event::WorkerReady { .. }
            | Event::WorkerVerified { .. }
            | Event::VerificationFailed { .. }
            | Event::WorkerServed { .. }
            | Event::WorkerDrained { .. }
            | Event::WorkerFailed { .. }
            | Event::WorkerBroken { .. }
            | Event::WorkerUnavailable { .. }
            | Event::WorkerDone { .. }
            | Event::ChildDied { .. }
            | Event::ChildReady { .. }
            | Event::LimitReached { .. }
            | Event::WorkerOverdue { .. }
            | Event::WorkerCancelled { .. }
            | Event::WorkerExited { .. } => self.tell(now, event, out),
        }
    }

    fn add(&mut self, now: Instant, id: PoolId, figures: Figures, out: &mut Vec<Command>) -> Option<PoolId> {
        if self.stopping || self.pools.contains_key(&id) {
            return None;
        }
        self.pools.insert(id, Pool::new(id, figures, now));
        self.order(now, id, out, |pool, turn| pool.begin(turn))
    }

    /// Takes over what another policy knew. No pool settles by that: not all of it may have been told yet.
    fn adopt(&mut self, now: Instant, event: Event) {
        let id = match event {
            Event::NamesMinted { last } => return self.mint.skip(last),
            Event::PoolAdopted { pool, figures, facts } => {
                self.pools.entry(pool).or_insert_with(|| Pool::adopted(pool, figures, facts, now));
                return;
            }
            Event::ZygoteAdopted { zygote, pool } => {
                self.mint.zygotes.insert(zygote, pool);
                pool
            }
            Event::WorkerAdopted { worker, pool, .. } => {
                self.mint.workers.insert(worker, pool);
                pool
            }
            Event::AccountAdopted { pool, .. }
            | Event::FailureAdopted { pool, .. }
            | Event::BreakerAdopted { pool, .. }
            | Event::SuspectAdopted { pool, .. }
            | Event::ExitsAdopted { pool, .. } => pool,
            _ => return,
        };
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.adopt(event);
        }
    }

    /// Names that were given.
    pub(crate) fn mint(&self) -> &Mint {
        &self.mint
    }

    /// The pools, in the order of their numbers.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values()
    }

    /// The operator's orders, but for stops: none of them starts anything once everything is being stopped.
    fn operate(&mut self, now: Instant, event: Event, out: &mut Vec<Command>) -> Option<PoolId> {
        if self.stopping && self.rules.hold(Rule::NoStartAfterStop) {
            return None;
        }
        match event {
            Event::ReloadRequested { pool, figures } => self.order(now, pool, out, |p, t| p.reload(t, figures)),
            Event::StartRequested { pool } => self.order(now, pool, out, |p, t| p.start_again(t)),
            Event::RestartRequested { pool } => self.order(now, pool, out, |p, t| p.stop(t, Afterwards::Restart)),
            Event::ScaleRequested { pool, min, max } => self.order(now, pool, out, |p, t| p.scale(t, min, max)),
            Event::DrainRequested { pool, slot } => self.order(now, pool, out, |p, t| {
                if let Some(worker) = p.slots.get(&slot).copied() {
                    p.replace_worker(t, worker);
                }
            }),
            Event::KillRequested { pool, slot } => self.order(now, pool, out, |p, t| {
                if let Some(worker) = p.slots.get(&slot).copied() {
                    p.kill(t, worker, Leave::Stopped, Class::Stopped);
                }
            }),
            Event::BreakerResetRequested { pool } => self.order(now, pool, out, |p, t| p.reset_breaker(t)),
            Event::BreakerTripRequested { pool } => self.order(now, pool, out, |p, t| p.trip_breaker(t)),
            Event::QuarantineClearRequested { pool } => self.order(now, pool, out, |p, t| p.clear_quarantine(t)),
            _ => None,
        }
    }

    /// Facts about one worker.
    fn tell(&mut self, now: Instant, event: Event, out: &mut Vec<Command>) -> Option<PoolId> {
        match event {
            Event::WorkerSpawned { worker, files } => self.worker(now, worker, out, |p, _| p.spawned(worker, files)),
            Event::SpawnFailed { worker, fault, files } => {
                self.worker(now, worker, out, |p, t| p.spawn_failed(t, worker, fault, files))
            }
            Event::WorkerReady { worker } => self.worker(now, worker, out, |p, t| p.became_ready(t, worker)),
            Event::WorkerVerified { worker } => self.worker(now, worker, out, |p, t| p.verified(t, worker)),
            Event::VerificationFailed { worker } => self.worker(now, worker, out, |p, t| p.unverified(t, worker)),
            Event::WorkerServed { worker, requests } => match self.charging(worker) {
                Some(id) => self.order(now, id, out, |p, t| p.served_late(t, worker, requests)),
                None => self.worker(now, worker, out, |p, t| p.served(t, worker, requests)),
            },
            Event::WorkerDrained { worker } => self.worker(now, worker, out, |p, t| p.drained(t, worker)),
            Event::WorkerFailed { worker } => self.worker(now, worker, out, |p, t| p.said(t, worker, Word::Failed)),
            Event::WorkerBroken { worker } => self.worker(now, worker, out, |p, t| p.said(t, worker, Word::Broken)),
            Event::WorkerUnavailable { worker, retry_after } => self.worker(now, worker, out, |p, t| {
                p.said(t, worker, Word::Unavailable);
                p.retry_after(t, worker, retry_after);
            }),
            Event::WorkerDone { worker } => self.worker(now, worker, out, |p, t| p.done(t, worker)),
            Event::ChildDied { worker, files, living } => {
                self.worker(now, worker, out, |p, t| p.child_died(t, worker, files, living))
            }
            Event::ChildReady { worker } => self.worker(now, worker, out, |p, _| p.child_ready(worker)),
            Event::LimitReached { worker, limit } => {
                self.worker(now, worker, out, |p, t| p.retire_worker(t, worker, Some(limit)))
            }
            Event::WorkerOverdue { worker } => self.worker(now, worker, out, |p, t| p.overdue(t, worker)),
            Event::WorkerCancelled { worker } => self.worker(now, worker, out, |p, t| p.cancel(t, worker)),
            Event::WorkerExited { worker, exit, oom } => {
                self.worker(now, worker, out, |p, t| p.exited(t, worker, exit, oom))
            }
            _ => None,
        }
    }

    fn order(
        &mut self,
        now: Instant,
        id: PoolId,
        out: &mut Vec<Command>,
        act: impl FnOnce(&mut Pool, &mut Turn<'_>),
    ) -> Option<PoolId> {
        self.with(now, id, out, act).map(|()| id)
    }

    /// The pool in which the charge for this dead worker waits for the front's word.
    fn charging(&self, worker: WorkerId) -> Option<PoolId> {
        let waits = |pool: &&Pool| pool.charges.iter().any(|charge| charge.worker.id() == worker);
        self.pools.values().find(waits).map(|pool| pool.id)
    }

    fn worker(
        &mut self,
        now: Instant,
        worker: WorkerId,
        out: &mut Vec<Command>,
        act: impl FnOnce(&mut Pool, &mut Turn<'_>),
    ) -> Option<PoolId> {
        let id = *self.mint.workers.get(&worker)?;
        self.order(now, id, out, act)
    }

    fn zygote(
        &mut self,
        now: Instant,
        zygote: ZygoteId,
        out: &mut Vec<Command>,
        act: impl FnOnce(&mut Pool, &mut Turn<'_>),
    ) -> Option<PoolId> {
        let id = *self.mint.zygotes.get(&zygote)?;
        self.order(now, id, out, act)
    }

    fn shut_down(&mut self, now: Instant, out: &mut Vec<Command>) -> Option<PoolId> {
        self.stopping = true;
        let ids: Vec<PoolId> = self.pools.keys().copied().collect();
        for id in ids {
            self.with(now, id, out, |pool, turn| pool.stop(turn, Afterwards::Stay));
        }
        None
    }

    /// When a pool with `then = "exit"` gives up.
    fn leave_due(&self) -> Option<Instant> {
        if self.stopping || !self.rules.hold(Rule::LeaveWhenDown) {
            return None;
        }
        let mut latest = self.gives_up()?.unserved?;
        if self.rules.hold(Rule::LeaveOnlyAlone) {
            for pool in self.pools.values().filter(|pool| pool.is_running()) {
                latest = latest.max(pool.unserved?);
            }
        }
        Some(latest.after(LEAVE_AFTER))
    }

    fn gives_up(&self) -> Option<&Pool> {
        let hopeless =
            |pool: &&Pool| pool.figures.breaker.then == Then::Exit && pool.is_running() && !pool.breaker.is_closed();
        self.pools.values().find(hopeless)
    }

    fn leave_if_due(&mut self, now: Instant, out: &mut Vec<Command>) {
        if self.leave_due().is_none_or(|due| due > now) {
            return;
        }
        let Some(pool) = self.gives_up().map(|pool| pool.id) else {
            return;
        };
        out.push(Command::Leave { pool });
        self.shut_down(now, out);
        let ids: Vec<PoolId> = self.pools.keys().copied().collect();
        for id in ids {
            self.settle(now, id, false, out);
        }
    }
}
