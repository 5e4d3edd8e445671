//! What a diligent observer knows who reads the same facts and orders as the policy, and nothing of its state.

use std::collections::VecDeque;

use steadfast_policy::class::Exit;
use steadfast_policy::command::Command;
use steadfast_policy::event::{Event, Files, SpawnFault};
use steadfast_policy::figures::{Figures, Mode, Verify};
use steadfast_policy::ids::{GenerationId, PoolId, SlotId, WorkerId};
use steadfast_policy::note::Purpose;
use steadfast_policy::time::Instant;

use crate::agenda::{Nanos, SECOND};

/// A worker, as far as it was told and ordered.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) id: WorkerId,
    pub(crate) pool: usize,
    pub(crate) slot: SlotId,
    pub(crate) generation: GenerationId,
    pub(crate) purpose: Option<Purpose>,
    pub(crate) started: Nanos,
    pub(crate) ready: Option<Nanos>,
    pub(crate) verifying: Option<Nanos>,
    pub(crate) verified: bool,
    pub(crate) unverified: bool,
    /// A worker of its own has died since it was last let go on.
    pub(crate) bereaved: bool,
    /// It stands still, and was told to go on then.
    pub(crate) rests_until: Option<Nanos>,
    pub(crate) admitted: bool,
    pub(crate) served: u64,
    /// The first order to leave.
    pub(crate) leaving: Option<Nanos>,
    pub(crate) drained: bool,
    pub(crate) termed: Option<Nanos>,
    pub(crate) termed_last: Nanos,
    pub(crate) killed: Option<Nanos>,
    /// It said that it cannot go on.
    pub(crate) word: Option<Nanos>,
    pub(crate) unavailable: bool,
    pub(crate) overdue: bool,
    /// Its client has gone, and its answer is not wanted.
    pub(crate) cancelled: bool,
    /// It reached a limit, said that it is done, or the operator wants it away.
    pub(crate) due: bool,
    /// The operator wants it killed.
    pub(crate) condemned: bool,
    pub(crate) blamed: bool,
    pub(crate) exit: Option<(Exit, bool)>,
    /// From ready to its end.
    pub(crate) lived: Nanos,
    pub(crate) gone: bool,
}

/// A generation, as far as it was told and ordered.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) number: GenerationId,
    pub(crate) barred: bool,
    pub(crate) served: u64,
    pub(crate) verified: bool,
    /// Failures that weigh something.
    pub(crate) failures: u32,
    /// When the last of them was.
    pub(crate) failed: Nanos,
    /// It was told to be proven, and nothing is kept to go back to.
    pub(crate) proven: bool,
}

/// A pool, as far as it was told and ordered.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) figures: Figures,
    pub(crate) live: Vec<usize>,
    pub(crate) leaving: Vec<usize>,
    pub(crate) starting: Vec<usize>,
    pub(crate) serving: u32,
    pub(crate) none_since: Nanos,
    pub(crate) has_served: bool,
    pub(crate) lines: Vec<Line>,
    /// Instants and the most that the failures may weigh, in quarters.
    pub(crate) failures: VecDeque<(Nanos, u32)>,
    pub(crate) served: VecDeque<(Nanos, u64)>,
    pub(crate) repairs: VecDeque<Nanos>,
    pub(crate) starts: VecDeque<Nanos>,
    /// When managers were let go on, within a minute.
    pub(crate) resumptions: VecDeque<Nanos>,
    pub(crate) notes: VecDeque<Nanos>,
    pub(crate) readies: VecDeque<Nanos>,
    pub(crate) asks: VecDeque<Nanos>,
    /// Ends that nobody in the pool is to blame for.
    pub(crate) blameless: VecDeque<Nanos>,
    /// Deaths with this request in hand, by the worker's own doing.
    pub(crate) blames: Vec<(u64, Nanos)>,
    pub(crate) watched: Vec<u64>,
    pub(crate) fallback: bool,
    pub(crate) waiting: u32,
    pub(crate) waiting_since: Nanos,
    pub(crate) busy: u32,
    pub(crate) stop: Option<Nanos>,
    /// The pool stops and shall start again.
    pub(crate) restarting: bool,
    pub(crate) stopped: bool,
    pub(crate) reloads: u32,
    /// When the last reload began.
    pub(crate) reloaded: Nanos,
    pub(crate) rollbacks: u32,
    /// Some worker was started from files that had changed: they have an account of their own.
    pub(crate) files_changed: bool,
    /// A zygote has failed at that moment.
    pub(crate) zygote_failed: Option<Nanos>,
    pub(crate) max_seen: u32,
    pub(crate) min_seen: u32,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) known: Vec<Known>,
    by_id: Vec<u32>,
    pub(crate) pages: Vec<Page>,
    pub(crate) shutdown: Option<Nanos>,
    pub(crate) hastened: bool,
    /// Ends of the times when nobody had a turn, and how long they were.
    pub(crate) lates: Vec<(Nanos, Nanos)>,
    pub(crate) calm: Option<Nanos>,
}

/// Forgets what is older than `keep`.
fn slide(list: &mut VecDeque<Nanos>, now: Nanos, keep: Nanos) {
    while list.front().is_some_and(|&at| at + keep < now) {
        list.pop_front();
    }
}

impl Book {
    pub(crate) fn new() -> Book {
        Book {
            known: Vec::new(),
            by_id: Vec::new(),
            pages: Vec::new(),
            shutdown: None,
            hastened: false,
            lates: Vec::new(),
            calm: None,
        }
    }

    pub(crate) fn find(&self, id: WorkerId) -> Option<usize> {
        let index = *self.by_id.get(usize::try_from(id.0).ok()?)?;
        (index != u32::MAX).then_some(index as usize)
    }

    /// The time between, less the times when nobody had a turn.
    pub(crate) fn awake(&self, from: Nanos, to: Nanos) -> Nanos {
        let late: Nanos = self.lates.iter().filter(|(end, _)| *end > from).map(|(_, by)| by).sum();
        to.saturating_sub(from).saturating_sub(late)
    }

    /// Late turns one after the other: a starved host, where deadlines move less.
    pub(crate) fn is_starved(&self) -> bool {
        match self.lates.as_slice() {
            [.., (before, _), (end, by)] => end.saturating_sub(*by) < before + 60 * SECOND,
            _ => false,
        }
    }

    /// The time since then, or since the last time when nobody had a turn: a late turn may give everybody all of his
    /// time again.
    pub(crate) fn patience(&self, from: Nanos, to: Nanos) -> Nanos {
        let late = self.lates.last().map_or(0, |(end, _)| *end);
        to.saturating_sub(from.max(late))
    }

    /// Whether nobody had a turn at some time since.
    pub(crate) fn was_late_since(&self, from: Nanos) -> bool {
        self.lates.last().is_some_and(|(end, _)| *end > from)
    }

    pub(crate) fn is_serving(&self, w: usize) -> bool {
        let known = &self.known[w];
        let figures = &self.pages[known.pool].figures;
        let unasked = figures.mode == Mode::Direct && figures.verify == Verify::Never;
        known.ready.is_some()
            && (known.admitted || unasked)
            && known.leaving.is_none()
            && known.word.is_none()
            && !known.overdue
            && !known.cancelled
            && !known.gone
    }

    /// Changes one worker and keeps the pool's count of those that serve.
    pub(crate) fn change(&mut self, w: usize, now: Nanos, change: impl FnOnce(&mut Known)) {
        let before = self.is_serving(w);
        change(&mut self.known[w]);
        let after = self.is_serving(w);
        let page = &mut self.pages[self.known[w].pool];
        match (before, after) {
            (false, true) => {
                page.serving += 1;
                page.has_served = true;
            }
            (true, false) => {
                page.serving -= 1;
                page.none_since = now;
            }
            _ => {}
        }
    }

    pub(crate) fn line(&mut self, pool: usize, number: GenerationId) -> Option<&mut Line> {
        self.pages[pool].lines.iter_mut().rev().find(|line| line.number == number)
    }

    fn fail(&mut self, w: usize, now: Nanos, quarters: u32) {
        self.fail_one(self.known[w].pool, self.known[w].generation, now, quarters);
    }

    /// A worker or a zygote of this generation has failed.
    pub(crate) fn fail_one(&mut self, pool: usize, generation: GenerationId, now: Nanos, quarters: u32) {
        let page = &mut self.pages[pool];
        match quarters {
            0 => page.blameless.push_back(now),
            _ => page.failures.push_back((now, quarters)),
        }
        if quarters > 0
            && let Some(line) = self.line(pool, generation)
        {
            line.failures += 1;
            line.failed = now;
        }
    }

    /// The most that this end may weigh for the breaker, in quarters of a failure (design.md, section 5).
    fn heaviest(&self, w: usize, exit: Exit, oom: bool) -> u32 {
        let known = &self.known[w];
        let figures = &self.pages[known.pool].figures;
        let direct = figures.mode == Mode::Direct;
        // Where nothing can be seen, ten seconds of life are evidence of service.
        let served = known.served > 0 || direct && known.lived >= 10 * SECOND;
        let productive = direct && served;
        let code = match exit {
            Exit::Code(code) => Some(code),
            Exit::Signal(_) => None,
        };
        if known.word.is_some() {
            return 12;
        }
        if known.unavailable || code.is_some_and(|code| figures.unavailable_codes.contains(&code)) {
            return 0;
        }
        if known.leaving.is_some() {
            let voluntary = known.killed.is_none() && known.ready.is_some() && !known.unverified;
            return if voluntary { 0 } else { 4 };
        }
        if code.is_some_and(|code| figures.broken_codes.contains(&code)) {
            return 12;
        }
        match exit {
            Exit::Signal(9) if !oom => 0,
            Exit::Code(0) if served => 0,
            Exit::Code(0) if known.ready.is_some() && (known.admitted || figures.verify == Verify::Never) => 1,
            _ if productive && known.lived >= SECOND => 0,
            _ => 4,
        }
    }

    fn finish_worker(&mut self, w: usize, now: Nanos) {
        self.change(w, now, |known| known.gone = true);
        let page = &mut self.pages[self.known[w].pool];
        page.live.retain(|&live| live != w);
        page.leaving.retain(|&leaving| leaving != w);
        page.starting.retain(|&starting| starting != w);
    }

    fn living(&self, worker: WorkerId) -> Option<usize> {
        self.find(worker).filter(|&w| !self.known[w].gone)
    }

    fn ask(&mut self, pool: PoolId, now: Nanos) -> Option<&mut Page> {
        let page = self.pages.get_mut(pool.0 as usize)?;
        page.asks.push_back(now);
        Some(page)
    }

    /// Reads a fact.
    pub(crate) fn fact(&mut self, clock: Instant, event: &Event) {
        let now = clock.as_nanos();
        match event {
            Event::PoolAdded { figures, .. } => self.pages.push(Page::new(figures, now)),
            Event::RemovalRequested { pool } | Event::StopRequested { pool } => {
                if let Some(page) = self.ask(*pool, now) {
                    page.stop = page.stop.or(Some(now));
                    page.restarting = false;
                }
            }
            Event::StartRequested { pool } => {
                if let Some(page) = self.ask(*pool, now) {
                    page.restarting |= page.stop.is_some();
                }
            }
            Event::RestartRequested { pool } => {
                if let Some(page) = self.ask(*pool, now) {
                    page.stop = page.stop.or(Some(now));
                    page.restarting = true;
                }
            }
            Event::ReloadRequested { pool, .. } => {
                if let Some(page) = self.ask(*pool, now) {
                    page.reloads += 1;
                    page.reloaded = now;
                }
            }
            Event::ScaleRequested { pool, min, max } => {
                if let Some(page) = self.ask(*pool, now) {
                    page.max_seen = page.figures.max.max(*max);
                    page.min_seen = page.figures.min.min(*min);
                    (page.figures.min, page.figures.max) = (*min, *max);
                }
            }
            Event::DrainRequested { pool, slot } => self.point(*pool, *slot, now, |known| known.due = true),
            Event::KillRequested { pool, slot } => self.point(*pool, *slot, now, |known| known.condemned = true),
            Event::BreakerResetRequested { pool }
            | Event::BreakerTripRequested { pool }
            | Event::QuarantineClearRequested { pool } => {
                self.ask(*pool, now);
            }
            Event::ShutdownRequested => self.shutdown = self.shutdown.or(Some(now)),
            Event::ShutdownHastened => {
                self.shutdown = self.shutdown.or(Some(now));
                self.hastened = true;
            }
            Event::LoadSampled { pool, load } => {
                if let Some(page) = self.pages.get_mut(pool.0 as usize) {
                    if load.waiting == 0 || page.waiting == 0 {
                        page.waiting_since = now;
                    }
                    (page.waiting, page.busy) = (load.waiting, load.busy);
                    if load.served > 0 {
                        page.served.push_back((now, load.served));
                    }
                }
            }
            Event::WorkerSpawned { worker, files } => {
                if let Some(w) = self.living(*worker) {
                    self.pages[self.known[w].pool].files_changed |= *files == Files::Changed;
                }
            }
            _ => self.fact_of_worker(now, event),
        }
    }

    fn point(&mut self, pool: PoolId, slot: SlotId, now: Nanos, mark: impl Fn(&mut Known)) {
        if self.ask(pool, now).is_none() {
            return;
        }
        for index in 0..self.pages[pool.0 as usize].live.len() {
            let w = self.pages[pool.0 as usize].live[index];
            if self.known[w].slot == slot {
                mark(&mut self.known[w]);
            }
        }
    }

    fn fact_of_worker(&mut self, now: Nanos, event: &Event) {
        let worker = match *event {
            Event::SpawnFailed { worker, .. }
            | Event::WorkerReady { worker }
            | Event::WorkerVerified { worker }
            | Event::VerificationFailed { worker }
            | Event::WorkerServed { worker, .. }
            | Event::WorkerDrained { worker }
            | Event::WorkerFailed { worker }
            | Event::WorkerBroken { worker }
            | Event::WorkerUnavailable { worker, .. }
            | Event::WorkerDone { worker }
            | Event::ChildDied { worker, .. }
            | Event::LimitReached { worker, .. }
            | Event::WorkerOverdue { worker }
            | Event::WorkerCancelled { worker }
            | Event::WorkerExited { worker, .. } => worker,
            Event::Blamed { worker, request } => return self.blame(now, worker, request.map(|request| request.0)),
            _ => return,
        };
        let Some(w) = self.living(worker) else { return };
        let (pool, generation) = (self.known[w].pool, self.known[w].generation);
        match *event {
            Event::SpawnFailed { fault, .. } => {
                let weight = match fault {
                    SpawnFault::Program => 12,
                    SpawnFault::Fork => 4,
                    SpawnFault::Host | SpawnFault::Zygote => 0,
                };
                self.fail(w, now, weight);
                self.finish_worker(w, now);
            }
            Event::WorkerReady { .. } if self.known[w].ready.is_none() => {
                self.change(w, now, |known| known.ready = Some(now));
                let page = &mut self.pages[pool];
                page.readies.push_back(now);
                if page.figures.verify == Verify::Never {
                    page.starting.retain(|&starting| starting != w);
                }
            }
            Event::WorkerVerified { .. } => {
                self.known[w].verified = true;
                self.pages[pool].starting.retain(|&starting| starting != w);
                if let Some(line) = self.line(pool, generation) {
                    line.verified = true;
                }
            }
            Event::VerificationFailed { .. } => self.known[w].unverified = true,
            Event::ChildDied { living, .. } => {
                self.change(w, now, |known| {
                    known.bereaved = true;
                    if living == 0 || known.ready.is_none() {
                        known.word = Some(now);
                    }
                });
                if living > 0 {
                    self.fail(w, now, 4);
                }
            }
            Event::WorkerServed { requests, .. } => {
                self.known[w].served += requests;
                self.pages[pool].served.push_back((now, requests));
                if let Some(line) = self.line(pool, generation) {
                    line.served += requests;
                }
            }
            Event::WorkerDrained { .. } => self.known[w].drained = true,
            Event::WorkerFailed { .. } => self.change(w, now, |known| known.word = Some(now)),
            Event::WorkerBroken { .. } => {
                self.change(w, now, |known| known.word = Some(now));
                self.fail(w, now, 12);
            }
            Event::WorkerUnavailable { .. } => self.known[w].unavailable = true,
            Event::WorkerDone { .. } | Event::LimitReached { .. } => self.known[w].due = true,
            // Unlike those it waits for no successor: the visitor has gone, and the worker leaves in the middle.
            Event::WorkerCancelled { .. } => self.change(w, now, |known| known.cancelled = true),
            Event::WorkerOverdue { .. } => self.change(w, now, |known| known.overdue = true),
            Event::WorkerExited { exit, oom, .. } => {
                self.known[w].exit = Some((exit, oom));
                self.known[w].lived = self.known[w].ready.map_or(0, |ready| now - ready);
                self.fail(w, now, self.heaviest(w, exit, oom));
                self.finish_worker(w, now);
            }
            _ => {}
        }
    }

    fn blame(&mut self, now: Nanos, worker: WorkerId, request: Option<u64>) {
        let (Some(w), Some(request)) = (self.find(worker), request) else {
            return;
        };
        let known = &mut self.known[w];
        known.blamed = true;
        let own = known.leaving.is_none() && known.word.is_none() && !known.unavailable && known.ready.is_some();
        let pool = known.pool;
        let own = own && !matches!(known.exit, Some((Exit::Signal(9), false)));
        if own {
            self.pages[pool].blames.push((request, now));
        }
        if matches!(self.known[w].exit, Some((Exit::Code(0), _))) {
            self.fail(w, now, 4);
        }
    }

    /// Reads an order to start; false when the name is not new.
    pub(crate) fn start(&mut self, now: Nanos, order: &Command) -> bool {
        let Command::StartWorker { worker, pool, slot, generation, .. } = *order else {
            return true;
        };
        if self.find(worker).is_some() || worker.0 > 1 << 24 {
            return false;
        }
        let place = worker.0 as usize;
        if self.by_id.len() <= place {
            self.by_id.resize(place + 1, u32::MAX);
        }
        let w = self.known.len();
        self.by_id[place] = w as u32;
        let pool = pool.0 as usize;
        self.known.push(Known::new(worker, pool, slot, generation, now));
        let page = &mut self.pages[pool];
        page.live.push(w);
        page.starting.push(w);
        page.starts.push_back(now);
        true
    }

    /// Reads an order to leave.
    pub(crate) fn leave(&mut self, w: usize, now: Nanos) {
        let pool = self.known[w].pool;
        if self.known[w].leaving.is_none() {
            self.change(w, now, |known| known.leaving = Some(now));
            let page = &mut self.pages[pool];
            page.leaving.push(w);
            page.starting.retain(|&starting| starting != w);
        }
    }

    /// Forgets what no law asks for any more.
    pub(crate) fn forget(&mut self, now: Nanos) {
        for page in &mut self.pages {
            let within = page.figures.breaker.within.as_nanos() as Nanos + 2 * SECOND;
            while page.failures.front().is_some_and(|&(at, _)| at + within < now) {
                page.failures.pop_front();
            }
            while page.served.front().is_some_and(|&(at, _)| at + 60 * SECOND < now) {
                page.served.pop_front();
            }
            slide(&mut page.repairs, now, 10 * SECOND);
            for list in [&mut page.starts, &mut page.notes, &mut page.readies, &mut page.asks, &mut page.blameless] {
                slide(list, now, 60 * SECOND);
            }
        }
    }
}

impl Known {
    fn new(id: WorkerId, pool: usize, slot: SlotId, generation: GenerationId, now: Nanos) -> Known {
        Known {
            id,
            pool,
            slot,
            generation,
            purpose: None,
            started: now,
            ready: None,
            verifying: None,
            verified: false,
            unverified: false,
            bereaved: false,
            rests_until: None,
            admitted: false,
            served: 0,
            leaving: None,
            drained: false,
            termed: None,
            termed_last: 0,
            killed: None,
            word: None,
            unavailable: false,
            overdue: false,
            cancelled: false,
            due: false,
            condemned: false,
            blamed: false,
            exit: None,
            lived: 0,
            gone: false,
        }
    }
}

impl Page {
    fn new(figures: &Figures, now: Nanos) -> Page {
        Page {
            figures: figures.clone(),
            live: Vec::new(),
            leaving: Vec::new(),
            starting: Vec::new(),
            serving: 0,
            none_since: now,
            has_served: false,
            lines: Vec::new(),
            failures: VecDeque::new(),
            served: VecDeque::new(),
            repairs: VecDeque::new(),
            starts: VecDeque::new(),
            resumptions: VecDeque::new(),
            notes: VecDeque::new(),
            readies: VecDeque::new(),
            asks: VecDeque::new(),
            blameless: VecDeque::new(),
            blames: Vec::new(),
            watched: Vec::new(),
            fallback: false,
            waiting: 0,
            waiting_since: now,
            busy: 0,
            stop: None,
            restarting: false,
            stopped: false,
            reloads: 0,
            reloaded: 0,
            rollbacks: 0,
            files_changed: false,
            zygote_failed: None,
            max_seen: figures.max,
            min_seen: figures.min,
        }
    }
}
