//! Asserts the laws at every fact, order and step; those that wait for time to pass are in `watch`.

use steadfast_policy::class::{Class, Exit, Reason};
use steadfast_policy::command::Command;
use steadfast_policy::event::Event;
use steadfast_policy::figures::{Mode, Verify};
use steadfast_policy::ids::{GenerationId, PoolId, SlotId, WorkerId};
use steadfast_policy::note::{Note, Place, Purpose};
use steadfast_policy::policy::Policy;
use steadfast_policy::time::Instant;

use crate::agenda::{MILLI, Nanos, SECOND};
use crate::book::{Book, Line};
use crate::case::{Case, Profile};
use crate::law::{Breach, Law};
use crate::watch::Watch;

/// The laws, and what is needed to judge.
#[derive(Debug)]
pub(crate) struct Laws {
    book: Book,
    watch: Watch,
    profile: Profile,
    woken: bool,
    /// Purposes told in this step.
    purposes: Vec<(WorkerId, Purpose)>,
    /// Workers started in this step.
    started: Vec<usize>,
    /// Ends that were told to people and not yet compared with the facts.
    exits: Vec<(Place, Class, u32)>,
}

fn breach(law: Law, now: Nanos, detail: String) -> Result<(), Breach> {
    Err(Breach { law, at: now, detail })
}

impl Laws {
    pub(crate) fn new(case: &Case) -> Laws {
        Laws {
            book: Book::new(),
            watch: Watch::new(case),
            profile: case.profile,
            woken: false,
            purposes: Vec::new(),
            started: Vec::new(),
            exits: Vec::new(),
        }
    }

    /// Nobody had a turn for so long, until now.
    pub(crate) fn late(&mut self, clock: Instant, by: Nanos) {
        self.book.lates.push((clock.as_nanos(), by));
    }

    /// All faults have ended.
    pub(crate) fn calm(&mut self, clock: Instant) {
        self.book.calm = Some(clock.as_nanos());
    }

    /// Before the policy gets a fact.
    pub(crate) fn fact(&mut self, clock: Instant, event: &Event) {
        self.woken = matches!(event, Event::Woken);
        self.book.fact(clock, event);
    }

    /// After the policy has answered a fact.
    pub(crate) fn step(&mut self, clock: Instant, policy: &Policy, orders: usize) -> Result<(), Breach> {
        let now = clock.as_nanos();
        for index in 0..self.started.len() {
            self.judge_purpose(now, self.started[index])?;
        }
        self.started.clear();
        self.purposes.clear();
        for index in 0..self.exits.len() {
            let (place, class, quarters) = self.exits[index];
            self.judge_class(now, place, class, quarters)?;
        }
        self.exits.clear();
        self.watch.step(now, &mut self.book, policy, self.woken, orders)
    }

    /// At the end of the world.
    pub(crate) fn finish(&mut self, clock: Instant, policy: &Policy, finished: bool) -> Result<(), Breach> {
        self.watch.finish(clock.as_nanos(), &self.book, policy, finished)
    }

    /// An order, before it is carried out.
    pub(crate) fn order(&mut self, clock: Instant, order: &Command) -> Result<(), Breach> {
        let now = clock.as_nanos();
        match *order {
            Command::PrepareGeneration { pool, generation } => self.prepare(pool, generation),
            Command::RetireGeneration { pool, generation } => self.bar(pool, generation),
            Command::StartWorker { worker, pool, slot, generation, .. } => {
                self.judge_start(now, pool, slot, generation)?;
                if !self.book.start(now, order) {
                    return breach(Law::FreshNames, now, format!("Worker {worker}."));
                }
                self.started.push(self.book.known.len() - 1);
            }
            Command::VerifyWorker { worker } => {
                let w = self.living(now, worker, "verify")?;
                self.book.known[w].verifying = Some(now);
            }
            Command::AdmitWorker { worker } => self.judge_admission(now, worker)?,
            Command::DrainWorker { worker } => {
                let w = self.living(now, worker, "drain")?;
                self.judge_leave(now, w)?;
                self.book.leave(w, now);
            }
            Command::TerminateWorker { worker } => {
                let w = self.living(now, worker, "terminate")?;
                self.judge_leave(now, w)?;
                self.book.leave(w, now);
                let known = &mut self.book.known[w];
                known.termed = known.termed.or(Some(now));
                known.termed_last = now;
            }
            Command::KillWorker { worker } => {
                let w = self.living(now, worker, "kill")?;
                self.judge_leave(now, w)?;
                self.judge_kill(now, w)?;
                self.book.leave(w, now);
                self.book.known[w].killed = self.book.known[w].killed.or(Some(now));
            }
            Command::ResumeManager { worker } => {
                let w = self.living(now, worker, "let go")?;
                self.judge_resumption(now, w)?;
            }
            Command::StartZygote { pool, .. } => {
                if self.book.shutdown.is_some() || self.is_stopped(pool) {
                    return breach(Law::NoStartAfterStop, now, format!("A zygote of pool {pool}."));
                }
            }
            Command::SetFallback { pool, on } => self.book.pages[pool.0 as usize].fallback = on,
            Command::WatchRequest { pool, request } => {
                let watched = &mut self.book.pages[pool.0 as usize].watched;
                watched.retain(|&key| key != request.0);
                watched.push(request.0);
                if watched.len() > 64 {
                    return breach(Law::Memory, now, format!("{} suspects.", watched.len()));
                }
            }
            Command::ReleaseRequest { pool, request } => {
                self.book.pages[pool.0 as usize].watched.retain(|&key| key != request.0);
            }
            Command::QuarantineRequest { pool, request, until } => {
                self.judge_quarantine(now, pool, request.0, until.as_nanos())?;
            }
            Command::Report(ref note) => self.note(now, note)?,
            Command::NoteFiles { .. }
            | Command::WatchNeed { .. }
            | Command::SampleLoad { .. }
            | Command::QuitZygote { .. }
            | Command::KillZygote { .. }
            | Command::ForgetPool { .. }
            | Command::Leave { .. }
            | Command::Finish => {
                if let Command::Leave { .. } = order {
                    self.book.shutdown = self.book.shutdown.or(Some(now));
                }
            }
        }
        Ok(())
    }

    fn judge_resumption(&mut self, now: Nanos, w: usize) -> Result<(), Breach> {
        let known = &mut self.book.known[w];
        known.rests_until = None;
        if !std::mem::take(&mut known.bereaved) {
            return breach(Law::ManagersRest, now, format!("Worker {} has lost nobody.", known.id));
        }
        let page = &mut self.book.pages[known.pool];
        page.resumptions.push_back(now);
        while page.resumptions.front().is_some_and(|&at| at + 60 * SECOND <= now) {
            page.resumptions.pop_front();
        }
        let (count, bound) = (page.resumptions.len(), 2 * page.max_seen as usize + 20);
        if count > bound && page.asks.is_empty() {
            return breach(Law::ManagersRest, now, format!("{count} of at most {bound} in a minute."));
        }
        Ok(())
    }

    fn prepare(&mut self, pool: PoolId, number: GenerationId) {
        self.book.pages[pool.0 as usize].lines.push(Line {
            number,
            barred: false,
            served: 0,
            verified: false,
            failures: 0,
            failed: 0,
            proven: false,
        });
    }

    fn bar(&mut self, pool: PoolId, number: GenerationId) {
        if let Some(line) = self.book.line(pool.0 as usize, number) {
            line.barred = true;
        }
    }

    fn is_stopped(&self, pool: PoolId) -> bool {
        let page = &self.book.pages[pool.0 as usize];
        page.stop.is_some() && !page.restarting
    }

    fn living(&self, now: Nanos, worker: WorkerId, verb: &str) -> Result<usize, Breach> {
        match self.book.find(worker).filter(|&w| !self.book.known[w].gone) {
            Some(w) => Ok(w),
            None => Err(Breach { law: Law::LiveNames, at: now, detail: format!("Ordered to {verb} worker {worker}.") }),
        }
    }

    fn judge_start(&mut self, now: Nanos, pool: PoolId, slot: SlotId, number: GenerationId) -> Result<(), Breach> {
        if self.book.shutdown.is_some() || self.is_stopped(pool) {
            return breach(Law::NoStartAfterStop, now, format!("Slot {pool}/{slot}."));
        }
        match self.book.line(pool.0 as usize, number) {
            None => return breach(Law::Prepared, now, format!("Generation {number}.")),
            Some(line) if line.barred => return breach(Law::Barred, now, format!("Generation {number}.")),
            Some(_) => {}
        }
        let page = &mut self.book.pages[pool.0 as usize];
        if page.restarting {
            (page.stop, page.restarting) = (None, false);
        }
        page.stopped = false;
        let page = &self.book.pages[pool.0 as usize];
        let known = &self.book.known;
        let is_lost = |w: usize| known[w].killed.is_some_and(|killed| killed + SECOND <= now);
        let mut lost = 0;
        for &w in &page.live {
            lost += u32::from(is_lost(w));
            if known[w].slot == slot && !is_lost(w) {
                return breach(Law::OnePerSlot, now, format!("Slot {pool}/{slot} has {}.", known[w].id));
            }
        }
        let max = page.figures.max;
        let surge = (max / 4).max(1);
        let live = page.live.len() as u32 + 1;
        let bound = max + surge + lost.min(2);
        if live > bound {
            return breach(Law::LiveBound, now, format!("{live} of at most {bound}, {lost} lost."));
        }
        Ok(())
    }

    /// A start of this step, now that its purpose has been told too.
    fn judge_purpose(&mut self, now: Nanos, w: usize) -> Result<(), Breach> {
        let id = self.book.known[w].id;
        let purpose = self.purposes.iter().find(|(worker, _)| *worker == id).map(|&(_, purpose)| purpose);
        self.book.known[w].purpose = purpose;
        let pool = self.book.known[w].pool;
        let page = &mut self.book.pages[pool];
        if purpose == Some(Purpose::Repair) {
            page.repairs.push_back(now);
        }
        self.book.forget(now);
        let page = &self.book.pages[pool];
        let max = page.max_seen;
        let lately = page.served.iter().filter(|(at, _)| at + 10 * SECOND >= now);
        let served: u64 = lately.map(|&(_, count)| count).sum();
        let repairs = page.repairs.len() as u64;
        let rate = u64::from((max / 10).max(1));
        let bound = u64::from(max) + 2 + 10 * rate + served / 20 + 1;
        let most = u64::from(max) + 2 + 10 * u64::from((2 * max).max(20)) + 1;
        if repairs > bound.min(most) {
            return breach(Law::RepairRate, now, format!("{repairs} of at most {bound}."));
        }
        let pending = page.starting.iter().filter(|&&w| self.book.known[w].purpose == Some(Purpose::Planned)).count();
        let bound = (max / 4).max(2) as usize + 2 * page.readies.len();
        if pending > bound && !self.book.was_late_since(now.saturating_sub(120 * SECOND)) {
            return breach(Law::PlannedBound, now, format!("{pending} of at most {bound}."));
        }
        self.watch.started(now, &self.book, w)
    }

    fn judge_admission(&mut self, now: Nanos, worker: WorkerId) -> Result<(), Breach> {
        let w = self.living(now, worker, "admit")?;
        let known = &self.book.known[w];
        let (pool, generation) = (known.pool, known.generation);
        let verified = match self.book.pages[pool].figures.verify {
            Verify::Never => true,
            Verify::Each => known.verified,
            Verify::Generation => known.verified || self.book.line(pool, generation).is_some_and(|line| line.verified),
        };
        if !verified || self.book.known[w].ready.is_none() {
            return breach(Law::VerifiedFirst, now, format!("Worker {worker}."));
        }
        self.book.pages[pool].starting.retain(|&starting| starting != w);
        self.book.change(w, now, |known| known.admitted = true);
        Ok(())
    }

    /// An order to leave, before it is noted.
    fn judge_leave(&mut self, now: Nanos, w: usize) -> Result<(), Breach> {
        if !self.book.is_serving(w) || self.book.shutdown.is_some() {
            return Ok(());
        }
        let known = &self.book.known[w];
        let page = &self.book.pages[known.pool];
        if page.stop.is_some() || known.condemned || known.unavailable {
            return Ok(());
        }
        if self.profile == Profile::Stalls {
            return breach(Law::StallKills, now, format!("Worker {} of slot {}.", known.id, known.slot));
        }
        let asleep = page.figures.min == 0 && page.waiting == 0;
        if page.serving <= 1 && !asleep {
            return breach(Law::LastServing, now, format!("Worker {} of slot {}.", known.id, known.slot));
        }
        let grown = page.figures.min < page.figures.max;
        let quiet = page.reloads == 0 && page.asks.is_empty() && page.figures.max_age.is_none();
        if grown && quiet && !known.due && page.failures.is_empty() && page.serving <= page.figures.min {
            return breach(Law::BelowMin, now, format!("Worker {}; {} serve.", known.id, page.serving));
        }
        Ok(())
    }

    /// KILL, before it is noted.
    fn judge_kill(&mut self, now: Nanos, w: usize) -> Result<(), Breach> {
        let known = &self.book.known[w];
        let page = &self.book.pages[known.pool];
        let figures = &page.figures;
        if self.book.hastened || known.condemned || known.overdue || known.unverified || self.book.is_starved() {
            return Ok(());
        }
        let slack = 10 * MILLI;
        let since = |from: Option<Nanos>| from.map(|from| self.book.awake(from, now) + slack);
        let nanos = |duration: std::time::Duration| duration.as_nanos() as Nanos;
        let stop = nanos(figures.stop_timeout);
        let unready = known.ready.is_none() && since(Some(known.started)) >= Some(nanos(figures.ready_timeout));
        let mute = !known.verified && since(known.verifying) >= Some(nanos(figures.verify_timeout));
        let stopped = since(known.leaving) >= Some(stop);
        let word = since(known.word) >= Some(stop.min(10 * SECOND));
        let deaf = known.drained && since(known.termed) >= Some(SECOND);
        if unready || mute || stopped || word || deaf || known.killed.is_some() {
            return Ok(());
        }
        let law = if self.book.was_late_since(known.started) { Law::StallKills } else { Law::KillTime };
        let age = (now - known.started) / MILLI;
        breach(law, now, format!("Worker {}, {age} ms old.", known.id))
    }

    fn judge_quarantine(&mut self, now: Nanos, pool: PoolId, key: u64, until: Nanos) -> Result<(), Breach> {
        let page = &self.book.pages[pool.0 as usize];
        let kills = page.blames.iter().filter(|&&(blamed, _)| blamed == key).count();
        let recent = page.blames.iter().filter(|&&(blamed, at)| blamed == key && at + 11 * 60 * SECOND >= now);
        if kills < 2 || recent.count() == 0 {
            return breach(Law::QuarantineCause, now, format!("Request {key} killed {kills}."));
        }
        if until > now + 600 * SECOND || until <= now {
            return breach(Law::QuarantineCause, now, format!("Request {key}, for {} s.", (until - now) / SECOND));
        }
        Ok(())
    }

    fn note(&mut self, now: Nanos, note: &Note) -> Result<(), Breach> {
        let pool = match *note {
            Note::WorkerStarted { place, purpose } => {
                self.purposes.push((place.worker, purpose));
                return Ok(());
            }
            Note::WorkerExited { place, class, weight, .. } => {
                self.exits.push((place, class, weight.quarters()));
                return Ok(());
            }
            Note::ManagerRests { place, wait, .. } => {
                if let Some(w) = self.book.find(place.worker) {
                    self.book.known[w].rests_until = Some(now + wait.as_nanos() as Nanos);
                }
                return Ok(());
            }
            Note::ZygoteExited { pool, generation, weight, .. } => {
                self.book.fail_one(pool.0 as usize, generation, now, weight.quarters());
                self.book.pages[pool.0 as usize].zygote_failed = (!weight.is_none()).then_some(now);
                return Ok(());
            }
            Note::BreakerOpened { pool, reason, generation, .. } => {
                self.judge_opening(now, pool, reason)?;
                self.watch.opened(pool, generation);
                pool
            }
            Note::GenerationRefused { pool, generation, .. } => {
                self.bar(pool, generation);
                pool
            }
            Note::GenerationRolledBack { pool, from, to, .. } => {
                self.judge_rollback(now, pool, from, to)?;
                pool
            }
            Note::PoolStopped { pool } => {
                self.book.pages[pool.0 as usize].stopped = true;
                return Ok(());
            }
            Note::GenerationProven { pool, generation } => {
                if let Some(line) = self.book.line(pool.0 as usize, generation) {
                    line.proven = true;
                }
                pool
            }
            Note::BreakerClosed { pool } => {
                self.watch.closed(pool);
                pool
            }
            Note::BreakerHalfOpen { pool }
            | Note::GenerationStarted { pool, .. }
            | Note::GenerationVerified { pool, .. }
            | Note::GenerationServing { pool, .. }
            | Note::GenerationRetired { pool, .. } => pool,
            _ => return Ok(()),
        };
        self.book.forget(now);
        let page = &mut self.book.pages[pool.0 as usize];
        page.notes.push_back(now);
        // What operators ask for is told too.
        let bound = 30 + 6 * page.asks.len();
        match page.notes.len() > bound {
            true => breach(Law::NoteRate, now, format!("{} of at most {bound}.", page.notes.len())),
            false => Ok(()),
        }
    }

    fn judge_opening(&mut self, now: Nanos, pool: PoolId, reason: Reason) -> Result<(), Breach> {
        self.book.forget(now);
        let page = &self.book.pages[pool.0 as usize];
        let asked = reason == Reason::Operator || !page.asks.is_empty() && self.profile == Profile::Operators;
        match self.profile {
            Profile::Kills if !asked => return breach(Law::KillsOpen, now, String::new()),
            Profile::Poison if !asked => return breach(Law::PoisonOpens, now, String::new()),
            _ => {}
        }
        if !matches!(reason, Reason::Failures(_) | Reason::FilesChanged(_)) || !self.watch.was_closed(pool) {
            return Ok(());
        }
        let early = (page.min_seen / 2).clamp(3, 8);
        let changed = matches!(reason, Reason::FilesChanged(_)) || page.files_changed;
        let limit = match !changed && page.lines.iter().all(|line| line.served > 0) {
            true => page.figures.breaker.failures,
            false => early.min(page.figures.breaker.failures),
        };
        // Loading is dear: three zygotes that could not are enough.
        let limit = if page.zygote_failed == Some(now) { limit.min(3) } else { limit };
        let weight: u32 = page.failures.iter().map(|&(_, quarters)| quarters).sum();
        match weight < 4 * limit {
            true => breach(Law::OpenCause, now, format!("{weight} quarters of {limit} failures.")),
            false => Ok(()),
        }
    }

    fn judge_rollback(&mut self, now: Nanos, pool: PoolId, from: GenerationId, to: GenerationId) -> Result<(), Breach> {
        let page = &mut self.book.pages[pool.0 as usize];
        page.rollbacks += 1;
        if page.rollbacks > page.reloads {
            let (rollbacks, reloads) = (page.rollbacks, page.reloads);
            return breach(Law::RollbackOnce, now, format!("{rollbacks} after {reloads} reloads."));
        }
        match self.book.line(pool.0 as usize, from) {
            Some(line) if line.failures > 0 => {}
            _ => return breach(Law::RollbackCause, now, format!("From {from} to {to}.")),
        }
        self.bar(pool, from);
        Ok(())
    }

    fn judge_class(&self, now: Nanos, place: Place, class: Class, quarters: u32) -> Result<(), Breach> {
        let Some(known) = self.book.find(place.worker).map(|w| &self.book.known[w]) else {
            return breach(Law::LiveNames, now, format!("An end of worker {}.", place.worker));
        };
        let Some((exit, oom)) = known.exit else { return Ok(()) };
        let figures = &self.book.pages[known.pool].figures;
        let listed = |code: u8| figures.broken_codes.contains(&code) || figures.unavailable_codes.contains(&code);
        if known.leaving.is_some() || known.word.is_some() || known.unavailable || known.unverified {
            return Ok(());
        }
        let queue = figures.mode == Mode::Queue;
        let wanted = match exit {
            Exit::Signal(9) if oom => Class::Oom,
            Exit::Signal(9) => Class::Killed,
            Exit::Code(code) if listed(code) => return Ok(()),
            Exit::Code(0) if known.ready.is_some() && (known.served > 0 || !queue && known.lived >= 10 * SECOND) => {
                match queue && known.blamed {
                    true => Class::Exited,
                    false => Class::Recycled,
                }
            }
            // Where workers are verified, a worker is ready when it has passed.
            _ if known.ready.is_none() || !known.admitted && figures.verify != Verify::Never => Class::Early,
            Exit::Signal(_) => Class::Crashed,
            Exit::Code(_) => Class::Exited,
        };
        let weightless = matches!(wanted, Class::Killed | Class::Recycled);
        if class != wanted || weightless && quarters > 0 || quarters > 4 {
            let (class, wanted) = (class.word(), wanted.word());
            return breach(
                Law::ClassTrue,
                now,
                format!("Worker {}: {class}, weight {quarters}/4; it was {wanted}.", place.worker),
            );
        }
        Ok(())
    }
}
