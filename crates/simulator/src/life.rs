//! The lives of workers: how they boot, speak, leave and die.

use steadfast_policy::class::Exit;
use steadfast_policy::event::{Event, Limit};

use crate::agenda::{Happening, MILLI, Nanos, SECOND};
use crate::case::{Release, Word};
use crate::world::{Life, World};

impl World {
    pub(crate) fn boot_time(&mut self, pool: usize) -> Nanos {
        let boot = self.sites[pool].case.boot;
        self.random.between(boot / 2, boot + boot / 2).max(1) * MILLI
    }

    /// The process exists.
    pub(crate) fn exist(&mut self, w: usize) {
        if self.processes[w].life != Life::Forking {
            return;
        }
        let process = &mut self.processes[w];
        process.life = Life::Booting;
        let (worker, files, pool) = (process.id, process.files, process.pool);
        let (plan, release) = (process.plan, process.release);
        self.inbox.push_back(Event::WorkerSpawned { worker, files });
        let boot = self.boot_time(pool);
        let now = self.now;
        match release {
            Release::DiesEarly(chance, exit) if self.random.permille(chance.into()) => {
                self.agenda.add(now + boot / 2, Happening::Died(w, plan, exit));
            }
            Release::Late(late) => self.agenda.add(now + late * MILLI, Happening::Booted(w)),
            Release::NeverReady => {}
            Release::SaysAtBoot(word) => {
                self.agenda.add(now + boot / 2, Happening::Said(w, plan, word));
                if word == Word::Done {
                    self.agenda.add(now + boot, Happening::Booted(w));
                }
            }
            _ => self.agenda.add(now + boot, Happening::Booted(w)),
        }
    }

    /// It can take requests.
    pub(crate) fn boot(&mut self, w: usize) {
        let process = &mut self.processes[w];
        if process.life != Life::Booting || process.said || process.termed {
            return;
        }
        if process.stuck {
            self.agenda.add(self.now + 200 * MILLI, Happening::Booted(w));
            return;
        }
        process.life = Life::Up;
        let (worker, pool, plan, release) = (process.id, process.pool, process.plan, process.release);
        self.inbox.push_back(Event::WorkerReady { worker });
        match release {
            Release::DiesAfter(after, exit) => {
                let after = self.random.between(after / 2, after + after / 2);
                self.agenda.add(self.now + after * MILLI, Happening::Died(w, plan, exit));
            }
            Release::SaysAfter(word, after) => {
                self.agenda.add(self.now + after * MILLI, Happening::Said(w, plan, word));
            }
            _ => {}
        }
        if self.serves_unasked(pool) {
            self.processes[w].admitted = true;
            self.become_idle(w);
        }
    }

    /// It answers its verify request.
    pub(crate) fn answer(&mut self, w: usize) {
        let process = &self.processes[w];
        if process.life != Life::Up || process.stuck {
            return;
        }
        let worker = process.id;
        self.inbox.push_back(match process.release {
            Release::Hollow => Event::VerificationFailed { worker },
            _ => Event::WorkerVerified { worker },
        });
    }

    /// It says something on the link.
    pub(crate) fn say(&mut self, w: usize, word: Word) {
        let process = &mut self.processes[w];
        if process.life == Life::Gone || process.stuck {
            return;
        }
        let (worker, plan, pool) = (process.id, process.plan, process.pool);
        let leaves_by = match word {
            Word::Failed => {
                self.inbox.push_back(Event::WorkerFailed { worker });
                Some((10 * SECOND, Exit::Code(3)))
            }
            Word::Broken => {
                self.inbox.push_back(Event::WorkerBroken { worker });
                Some((10 * SECOND, Exit::Code(1)))
            }
            Word::Unavailable => {
                let retry_after = None;
                self.inbox.push_back(Event::WorkerUnavailable { worker, retry_after });
                Some((50 * MILLI, Exit::Code(75)))
            }
            Word::Done => {
                self.inbox.push_back(Event::WorkerDone { worker });
                None
            }
        };
        if let Some((wait, exit)) = leaves_by {
            self.processes[w].said = true;
            self.sites[pool].idle.retain(|&idle| idle != w);
            self.agenda.add(self.now + wait, Happening::Died(w, plan, exit));
            self.load_changed(pool);
        }
    }

    /// TERM reaches it.
    pub(crate) fn terminate(&mut self, w: usize) {
        let process = &mut self.processes[w];
        let again = process.termed;
        if process.life == Life::Gone || process.release == Release::IgnoresTerm {
            return;
        }
        process.termed = true;
        if process.stuck || again {
            return;
        }
        let (life, said, busy, release) = (process.life, process.said, process.job.is_some(), process.release);
        let wait = match release {
            Release::SlowLeave(slow) => slow * MILLI,
            _ => self.random.between(1, 20) * MILLI,
        };
        let pool = self.processes[w].pool;
        self.sites[pool].idle.retain(|&idle| idle != w);
        match life {
            Life::Forking | Life::Booting if !said => {
                self.agenda.add(self.now + 2 * MILLI, Happening::Killed(w, Exit::Signal(15), false));
            }
            _ if busy && !said => {}
            _ => self.agenda.add(self.now + wait, Happening::Left(w)),
        }
        self.load_changed(pool);
    }

    /// It leaves as it was asked to.
    pub(crate) fn leave(&mut self, w: usize) {
        let exit = match self.processes[w].release {
            Release::SaysAtBoot(Word::Broken) | Release::SaysAfter(Word::Broken, _) => Exit::Code(1),
            Release::SaysAtBoot(Word::Failed) | Release::SaysAfter(Word::Failed, _) => Exit::Code(3),
            _ if self.random.permille(300) => Exit::Signal(15),
            _ => Exit::Code(0),
        };
        self.end(w, exit, false);
    }

    pub(crate) fn tell_drained(&mut self, w: usize) {
        let process = &self.processes[w];
        if process.life != Life::Gone && process.withdrawn && process.job.is_none() {
            self.inbox.push_back(Event::WorkerDrained { worker: process.id });
        }
    }

    /// Signals reach it again.
    pub(crate) fn unstick(&mut self, w: usize) {
        let process = &mut self.processes[w];
        if process.life == Life::Gone {
            return;
        }
        process.stuck = false;
        let (ending, termed) = (process.ending, process.termed);
        match ending {
            Some((exit, oom)) => self.end(w, exit, oom),
            None if termed => {
                self.agenda.add(self.now + 5 * MILLI, Happening::Left(w));
            }
            None => {}
        }
    }

    /// Its life ends; what the driver and the front know of it becomes facts.
    pub(crate) fn end(&mut self, w: usize, exit: Exit, oom: bool) {
        let process = &mut self.processes[w];
        if process.life == Life::Gone {
            return;
        }
        if process.stuck {
            process.ending = process.ending.or(Some((exit, oom)));
            return;
        }
        process.life = Life::Gone;
        let (worker, pool, job) = (process.id, process.pool, process.job.take());
        self.sites[pool].live.retain(|&live| live != w);
        self.sites[pool].idle.retain(|&idle| idle != w);
        if self.sites[pool].is_queue() {
            self.inbox.push_back(Event::WorkerExited { worker, exit, oom });
            match job {
                Some(job) => {
                    if !self.random.permille(100) {
                        let wait = self.random.between(0, 180) * MILLI;
                        self.agenda.add(self.now + wait, Happening::Blamed(w, Some(job.key)));
                    }
                    self.give_again(pool, job);
                }
                None if self.random.permille(700) => {
                    self.agenda.add(self.now + MILLI, Happening::Blamed(w, None));
                }
                None => {}
            }
            self.load_changed(pool);
        } else {
            self.tell_evidence(w);
            let mut others = 0;
            for index in 0..self.sites[pool].live.len() {
                let other = self.sites[pool].live[index];
                if others < 8 && self.tell_evidence(other) {
                    others += 1;
                }
            }
            self.inbox.push_back(Event::WorkerExited { worker, exit, oom });
        }
    }

    /// Evidence of service in direct mode; true when there was some.
    fn tell_evidence(&mut self, w: usize) -> bool {
        let process = &mut self.processes[w];
        let requests = process.served - process.told;
        process.told = process.served;
        if requests > 0 {
            let worker = process.id;
            self.inbox.push_back(Event::WorkerServed { worker, requests });
        }
        requests > 0
    }

    /// It has served so many more; what follows from its program's habits.
    pub(crate) fn after_service(&mut self, w: usize, before: u64) {
        let process = &self.processes[w];
        let (worker, served, plan) = (process.id, process.served, process.plan);
        match process.release {
            Release::Recycles(n) if served >= u64::from(n) => {
                self.agenda.add(self.now, Happening::Died(w, plan, Exit::Code(0)));
            }
            Release::Limited(n) if served >= u64::from(n) && before < u64::from(n) => {
                let limit = [Limit::Requests, Limit::Memory][(worker.0 % 2) as usize];
                self.inbox.push_back(Event::LimitReached { worker, limit });
            }
            _ => {}
        }
    }
}
