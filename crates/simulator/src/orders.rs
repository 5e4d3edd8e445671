//! The driver and the host: carries out what the policy orders.

use steadfast_policy::class::Exit;
use steadfast_policy::command::{Command, Source};
use steadfast_policy::event::{Event, Files, SpawnFault, ZygoteEnd};
use steadfast_policy::figures::{Mode, Verify};
use steadfast_policy::ids::{GenerationId, PoolId, WorkerId, ZygoteId};

use crate::agenda::{Happening, MILLI};
use crate::case::{Release, Word};
use crate::world::{Life, Made, Mold, Process, World};

impl World {
    pub(crate) fn carry_out(&mut self, order: &Command) {
        match *order {
            Command::PrepareGeneration { pool, generation } => self.prepare(pool, generation),
            Command::RetireGeneration { .. } => {}
            Command::NoteFiles { pool, generation } => {
                if let Some(made) = self.made(pool, generation) {
                    made.noted = made.version;
                }
            }
            Command::StartWorker { worker, pool, generation, source, .. } => {
                self.start(worker, pool, generation, source)
            }
            Command::VerifyWorker { worker } => self.verify(worker),
            Command::AdmitWorker { worker } => self.admit(worker),
            Command::DrainWorker { worker } => self.drain(worker),
            Command::TerminateWorker { worker } => {
                if let Some(w) = self.process(worker) {
                    self.terminate(w);
                }
            }
            Command::KillWorker { worker } => {
                if let Some(w) = self.process(worker) {
                    self.agenda.add(self.now + MILLI, Happening::Killed(w, Exit::Signal(9), false));
                }
            }
            Command::ResumeManager { worker } => {
                if let Some(w) = self.process(worker) {
                    self.processes[w].rests = false;
                    self.agenda.add(self.now + 5 * MILLI, Happening::Judged(w));
                }
            }
            Command::StartZygote { zygote, pool, generation } => self.start_zygote(zygote, pool, generation),
            Command::QuitZygote { zygote } => {
                let wait = self.random.between(1, 50) * MILLI;
                if let Some(z) = self.mold(zygote)
                    && self.molds[z].release != Release::IgnoresTerm
                {
                    self.agenda.add(self.now + wait, Happening::ZygoteEnded(z, ZygoteEnd::Failed));
                }
            }
            Command::KillZygote { zygote } => {
                if let Some(z) = self.mold(zygote) {
                    self.agenda.add(self.now + MILLI, Happening::ZygoteEnded(z, ZygoteEnd::Failed));
                }
            }
            Command::SetFallback { pool, on } => self.set_fallback(pool.0 as usize, on),
            Command::WatchNeed { pool } => self.watch_for(pool.0 as usize),
            Command::SampleLoad { pool } => self.agenda.add(self.now, Happening::Sampled(pool.0 as usize)),
            Command::WatchRequest { pool, request } => {
                if let Some(site) = self.sites.get_mut(pool.0 as usize) {
                    site.watched.push(request.0 as u32);
                }
            }
            Command::QuarantineRequest { pool, request, until } => {
                if let Some(site) = self.sites.get_mut(pool.0 as usize) {
                    let key = request.0 as u32;
                    site.denied.retain(|&(denied, ..)| denied != key);
                    site.denied.push((key, until, false));
                }
            }
            Command::ReleaseRequest { pool, request } => {
                if let Some(site) = self.sites.get_mut(pool.0 as usize) {
                    let key = request.0 as u32;
                    site.denied.retain(|&(denied, ..)| denied != key);
                    site.watched.retain(|&watched| watched != key);
                }
            }
            Command::ForgetPool { pool } => {
                if let Some(site) = self.sites.get_mut(pool.0 as usize) {
                    site.known = false;
                }
            }
            Command::Report(_) | Command::Leave { .. } => {}
            Command::Finish => self.finished = true,
        }
    }

    fn prepare(&mut self, pool: PoolId, generation: GenerationId) {
        if let Some(site) = self.sites.get_mut(pool.0 as usize) {
            let release = site.wanted;
            site.made.push(Made { generation, release, version: 0, noted: 0 });
        }
    }

    fn made(&mut self, pool: PoolId, generation: GenerationId) -> Option<&mut Made> {
        let site = self.sites.get_mut(pool.0 as usize)?;
        site.made.iter_mut().rev().find(|made| made.generation == generation)
    }

    fn start(&mut self, worker: WorkerId, pool: PoolId, generation: GenerationId, source: Source) {
        self.count_start();
        let Some(&mut made) = self.made(pool, generation) else {
            return;
        };
        let changed = made.version != made.noted;
        let files = if changed { Files::Changed } else { Files::Noted };
        let (fault, release, files) = match source {
            Source::Exec if self.host_refuses > self.now => (Some(SpawnFault::Host), made.release, files),
            Source::Exec if made.release == Release::Missing => (Some(SpawnFault::Program), made.release, files),
            Source::Exec => (None, made.release, files),
            Source::Zygote(zygote) => match self.mold(zygote).map(|z| self.molds[z]) {
                Some(mold) if mold.ready && !mold.gone && self.host_refuses <= self.now => {
                    (None, mold.release, mold.files)
                }
                Some(mold) if mold.ready && !mold.gone => (Some(SpawnFault::Host), mold.release, mold.files),
                _ => (Some(SpawnFault::Zygote), made.release, Files::Noted),
            },
        };
        if let Some(fault) = fault {
            self.inbox.push_back(Event::SpawnFailed { worker, fault, files });
            return;
        }
        let w = self.processes.len();
        let place = worker.0 as usize;
        if self.by_id.len() <= place {
            self.by_id.resize(place + 1, u32::MAX);
        }
        self.by_id[place] = w as u32;
        self.processes.push(Process {
            id: worker,
            pool: pool.0 as usize,
            release,
            files,
            life: Life::Forking,
            plan: 0,
            admitted: false,
            withdrawn: false,
            termed: false,
            ending: None,
            stuck: false,
            said: false,
            rests: false,
            job: None,
            jobs: 0,
            hung: false,
            idle_since: 0,
            served: 0,
            told: 0,
        });
        self.sites[pool.0 as usize].live.push(w);
        match source {
            Source::Exec => self.exist(w),
            Source::Zygote(_) => {
                let wait = self.random.between(1, 5) * MILLI;
                self.agenda.add(self.now + wait, Happening::Forked(w));
            }
        }
    }

    fn verify(&mut self, worker: WorkerId) {
        let Some(w) = self.process(worker) else { return };
        let wait = self.random.between(2, 200) * MILLI;
        if self.processes[w].release != Release::Mute {
            self.agenda.add(self.now + wait, Happening::Answered(w));
        }
    }

    fn admit(&mut self, worker: WorkerId) {
        let Some(w) = self.process(worker) else { return };
        let process = &mut self.processes[w];
        if process.life == Life::Up && !process.admitted {
            process.admitted = true;
            self.become_idle(w);
        }
    }

    /// Whether workers of this pool serve as soon as they are ready.
    pub(crate) fn serves_unasked(&self, pool: usize) -> bool {
        let figures = &self.sites[pool].case.figures;
        figures.mode == Mode::Direct && figures.verify == Verify::Never
    }

    fn drain(&mut self, worker: WorkerId) {
        let Some(w) = self.process(worker) else { return };
        self.processes[w].withdrawn = true;
        let pool = self.processes[w].pool;
        self.sites[pool].idle.retain(|&idle| idle != w);
        if self.processes[w].job.is_none() {
            let wait = self.random.between(0, 20) * MILLI;
            self.agenda.add(self.now + wait, Happening::Drained(w));
        }
        self.load_changed(pool);
    }

    fn start_zygote(&mut self, zygote: ZygoteId, pool: PoolId, generation: GenerationId) {
        let Some(&mut made) = self.made(pool, generation) else {
            return;
        };
        let z = self.molds.len();
        let files = if made.version == made.noted { Files::Noted } else { Files::Changed };
        let release = made.release;
        self.molds.push(Mold { id: zygote, pool: pool.0 as usize, release, files, ready: false, gone: false });
        let boot = self.boot_time(pool.0 as usize);
        match made.release {
            Release::NeverReady => {}
            Release::Missing => self.agenda.add(self.now, Happening::ZygoteEnded(z, ZygoteEnd::Failed)),
            Release::DiesEarly(chance, _) if self.random.permille(chance.into()) => {
                self.agenda.add(self.now + boot / 2, Happening::ZygoteEnded(z, ZygoteEnd::Failed));
            }
            Release::SaysAtBoot(Word::Broken) => {
                self.agenda.add(self.now + boot / 2, Happening::ZygoteEnded(z, ZygoteEnd::Broken));
            }
            Release::Late(late) => self.agenda.add(self.now + late * MILLI, Happening::ZygoteLoaded(z)),
            _ => self.agenda.add(self.now + boot, Happening::ZygoteLoaded(z)),
        }
    }

    pub(crate) fn zygote_loaded(&mut self, z: usize) {
        let mold = &mut self.molds[z];
        if !mold.gone && !mold.ready {
            mold.ready = true;
            self.inbox.push_back(Event::ZygoteReady { zygote: mold.id });
        }
    }

    pub(crate) fn zygote_ended(&mut self, z: usize, end: ZygoteEnd) {
        let mold = &mut self.molds[z];
        if mold.gone {
            return;
        }
        mold.gone = true;
        let (zygote, files) = (mold.id, mold.files);
        self.inbox.push_back(Event::ZygoteExited { zygote, end, files, retry_after: None });
    }
}
