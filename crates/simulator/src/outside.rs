//! What happens to the world from outside: operators, faults of the host, and facts that are not true any more.

use steadfast_policy::class::Exit;
use steadfast_policy::event::{Event, Files, Limit, ZygoteEnd};
use steadfast_policy::ids::{PoolId, RequestKey, SlotId, WorkerId};

use crate::agenda::{Happening, MILLI};
use crate::case::{Act, Millis, Release};
use crate::world::{Life, World};

impl World {
    pub(crate) fn choose(&mut self, pool: usize, act: Act) {
        if pool >= self.sites.len() {
            return;
        }
        let id = PoolId(pool as u32);
        let known = self.sites[pool].known;
        match act {
            Act::Reload(release) => {
                self.sites[pool].wanted = release;
                let figures = self.sites[pool].case.figures.clone();
                self.ask(known, Event::ReloadRequested { pool: id, figures });
            }
            Act::Files(release) => self.change_files(pool, release),
            Act::Signal(count, signal) => self.signal(pool, count, signal),
            Act::Oom => self.oom(pool),
            Act::ZygoteKilled => {
                let found = self.molds.iter().rposition(|mold| mold.pool == pool && !mold.gone);
                if let Some(z) = found {
                    self.zygote_ended(z, ZygoteEnd::Killed);
                }
            }
            Act::Stuck(wait) => self.stick(pool, wait),
            Act::HostRefuses(wait) => self.host_refuses = self.now + wait * MILLI,
            Act::Stall(wait) => self.stall(wait),
            Act::Sleep(wait) => {
                self.slept += wait * MILLI;
                self.was_late(wait * MILLI);
            }
            Act::Poison(key) => self.sites[pool].poison = key,
            Act::Children(living, wait) => {
                self.sites[pool].children = (self.now + wait * MILLI, living);
                self.child_dies(pool);
            }
            Act::Traffic(traffic) => {
                self.sites[pool].traffic = traffic;
                self.expect_visitors(pool);
            }
            Act::Stop => self.ask(known, Event::StopRequested { pool: id }),
            Act::Start => self.ask(known, Event::StartRequested { pool: id }),
            Act::Restart => self.ask(known, Event::RestartRequested { pool: id }),
            Act::Scale(min, max) => {
                let figures = &mut self.sites[pool].case.figures;
                (figures.min, figures.max) = (min, max);
                self.ask(known, Event::ScaleRequested { pool: id, min, max });
            }
            Act::Drain(slot) => self.ask(known, Event::DrainRequested { pool: id, slot: SlotId(slot) }),
            Act::Kill(slot) => self.ask(known, Event::KillRequested { pool: id, slot: SlotId(slot) }),
            Act::Reset => self.ask(known, Event::BreakerResetRequested { pool: id }),
            Act::Trip => self.ask(known, Event::BreakerTripRequested { pool: id }),
            Act::Clear => self.ask(known, Event::QuarantineClearRequested { pool: id }),
            Act::Remove => self.ask(known, Event::RemovalRequested { pool: id }),
            Act::Shutdown => self.ask(true, Event::ShutdownRequested),
            Act::Hasten => self.ask(true, Event::ShutdownHastened),
            Act::Lie(kind) => self.lie(id, kind),
        }
    }

    /// An operator's word reaches the driver, unless the driver knows no such pool.
    fn ask(&mut self, known: bool, event: Event) {
        if known {
            self.inbox.push_back(event);
        }
    }

    fn change_files(&mut self, pool: usize, release: Release) {
        let site = &mut self.sites[pool];
        site.wanted = release;
        for made in &mut site.made {
            made.release = release;
            made.version += 1;
        }
    }

    fn signal(&mut self, pool: usize, count: u32, signal: u8) {
        let count = if count == 0 { usize::MAX } else { count as usize };
        let hit: Vec<usize> = self.sites[pool].live.iter().copied().take(count).collect();
        for w in hit {
            if self.processes[w].life != Life::Forking {
                self.agenda.add(self.now, Happening::Killed(w, Exit::Signal(signal), false));
            }
        }
    }

    fn oom(&mut self, pool: usize) {
        if let Some(&w) = self.sites[pool].live.last() {
            self.agenda.add(self.now, Happening::Killed(w, Exit::Signal(9), true));
        }
    }

    fn stick(&mut self, pool: usize, wait: Millis) {
        let count = self.sites[pool].live.len() as u64;
        if count == 0 {
            return;
        }
        let w = self.sites[pool].live[self.random.below(count) as usize];
        self.processes[w].stuck = true;
        if wait > 0 {
            self.agenda.add(self.now + wait * MILLI, Happening::Unstuck(w));
        }
    }

    fn stall(&mut self, wait: Millis) {
        if self.stalled.is_none() {
            self.stalled = Some(self.now);
            self.agenda.add(self.now + wait * MILLI, Happening::Resumed);
        }
    }

    pub(crate) fn resume(&mut self) {
        if let Some(since) = self.stalled.take() {
            self.was_late(self.now - since);
        }
    }

    /// A manager (the youngest worker of a direct pool) has lost one of its own.
    fn child_dies(&mut self, pool: usize) {
        let is_manager = |&w: &usize| self.processes[w].life == Life::Up && self.processes[w].admitted;
        let manager = self.sites[pool].live.iter().copied().rfind(is_manager);
        if let Some(w) = manager.filter(|_| !self.sites[pool].is_queue()) {
            self.tell_child_died(w);
        }
    }

    fn tell_child_died(&mut self, w: usize) {
        self.processes[w].rests = true;
        self.inbox.push_back(self.child_died(w));
    }

    pub(crate) fn child_died(&self, w: usize) -> Event {
        let process = &self.processes[w];
        let living = self.sites[process.pool].children.1;
        Event::ChildDied { worker: process.id, files: process.files, living }
    }

    /// It has started somebody since it was let.
    pub(crate) fn judge_child(&mut self, w: usize) {
        let process = &self.processes[w];
        if process.life != Life::Up {
            return;
        }
        if self.now < self.sites[process.pool].children.0 {
            return self.tell_child_died(w);
        }
        self.inbox.push_back(Event::ChildReady { worker: process.id });
    }

    /// All faults end: files are mended, the host takes processes, workers that live behave.
    pub(crate) fn become_calm(&mut self) {
        self.host_refuses = 0;
        for site in &mut self.sites {
            site.poison = 0;
            site.children = (0, 0);
            site.wanted = Release::Good;
            for made in &mut site.made {
                if made.release != Release::Good {
                    made.release = Release::Good;
                    made.version += 1;
                }
            }
        }
        for mold in &mut self.molds {
            mold.release = Release::Good;
        }
        for w in 0..self.processes.len() {
            if self.processes[w].life == Life::Gone {
                continue;
            }
            let process = &mut self.processes[w];
            process.release = Release::Good;
            if !process.said {
                process.plan += 1;
            }
            if process.stuck && process.ending.is_some() {
                // A lost worker that nothing removes stays as it is: the pool must do without it.
                continue;
            }
            process.stuck = false;
            if process.life == Life::Up && process.job.is_some() {
                // A job that would have ended badly ends well.
                let job = process.jobs;
                self.agenda.add(self.now + 100 * MILLI, Happening::Done(w, job));
            }
        }
        self.calm = true;
        self.calmed();
    }

    /// Facts that are stale, double or out of order: the policy must ignore them.
    fn lie(&mut self, pool: PoolId, kind: u32) {
        let dead = self.processes.iter().rev().find(|process| process.life == Life::Gone);
        let worker = match kind % 3 {
            0 => WorkerId(self.random.bits() >> 1),
            _ => dead.map_or(WorkerId(u64::MAX), |process| process.id),
        };
        let request = RequestKey(self.random.below(20));
        let event = match kind % 18 {
            0 => Event::WorkerReady { worker },
            1 => Event::WorkerExited { worker, exit: Exit::Signal(11), oom: false },
            2 => Event::WorkerDrained { worker },
            3 => Event::WorkerServed { worker, requests: 1000 },
            4 => Event::WorkerBroken { worker },
            5 => Event::WorkerFailed { worker },
            6 => Event::WorkerOverdue { worker },
            7 => Event::WorkerVerified { worker },
            8 => Event::VerificationFailed { worker },
            9 => Event::WorkerSpawned { worker, files: Files::Changed },
            10 => Event::LimitReached { worker, limit: Limit::Memory },
            11 => Event::WorkerDone { worker },
            12 => Event::SuspectServed { pool, request, worker },
            13 => Event::WorkerUnavailable { worker, retry_after: None },
            14 => Event::StopRequested { pool: PoolId(4000) },
            15 => Event::ChildDied { worker, files: Files::Changed, living: 1 },
            16 => Event::ChildReady { worker },
            _ => Event::Woken,
        };
        self.inbox.push_back(event);
    }
}
