//! The visitors, the front of a queue pool and the kernel's queue of a direct one.

use steadfast_policy::class::Exit;
use steadfast_policy::event::{Event, Load};
use steadfast_policy::ids::{PoolId, RequestKey};
use steadfast_policy::time::Instant;

use crate::agenda::{Happening, MILLI, Nanos, SECOND};
use crate::case::Release;
use crate::world::{Job, Life, World};

/// The front's request deadline.
const REQUEST_TIMEOUT: Nanos = 15 * SECOND;

/// Visitors wait at most so long.
const QUEUE_TIMEOUT: Nanos = 10 * SECOND;

/// At most so many wait.
const QUEUE_LENGTH: usize = 64;

/// The least time between samples that nobody waits for.
const SAMPLE_EVERY: Nanos = SECOND;

/// The front tells the services of a worker one by one until it has served so many.
const TOLD_SINGLY: u64 = 20;

/// Ordinary requests have keys from here on; those below may be poisonous.
const ORDINARY: u32 = 100;

/// Each n-th job asks for the poisonous request, if there is one: rarely enough for ten successes for each of its
/// deaths, two with the retry.
const POISON_EVERY: u32 = 40;

impl World {
    /// The next job comes after about `every`.
    pub(crate) fn expect_visitors(&mut self, pool: usize) {
        let every = self.sites[pool].traffic.every;
        if every > 0 && !self.sites[pool].arrivals {
            self.sites[pool].arrivals = true;
            let wait = self.random.between(every / 2, every + every / 2).max(1);
            self.agenda.add(self.now + wait * MILLI, Happening::Arrived(pool));
        }
    }

    pub(crate) fn arrive(&mut self, pool: usize) {
        self.sites[pool].arrivals = false;
        if !self.sites[pool].known {
            return;
        }
        self.expect_visitors(pool);
        let site = &self.sites[pool];
        let traffic = site.traffic;
        let key = ORDINARY + self.random.below(u64::from(traffic.keys.max(1))) as u32;
        let site = &mut self.sites[pool];
        site.jobs = site.jobs.wrapping_add(1);
        let key = match site.poison {
            poison if poison != 0 && site.jobs.is_multiple_of(POISON_EVERY) => poison,
            _ => key,
        };
        let job = Job {
            key,
            requests: traffic.requests.max(1),
            busy: traffic.busy.max(1) * MILLI,
            retried: false,
            arrived: self.now,
        };
        if self.sites[pool].is_queue() && (self.sites[pool].fallback || self.is_denied(pool, key)) {
            return;
        }
        self.expire(pool);
        self.give(pool, job, false);
    }

    /// Whether the front answers this request itself; lets one trial through after the time.
    fn is_denied(&mut self, pool: usize, key: u32) -> bool {
        let clock = self.clock();
        let denied = self.sites[pool].denied.iter_mut().find(|(denied, ..)| *denied == key);
        match denied {
            None => false,
            Some((_, until, trial)) if *until <= clock && !*trial => {
                *trial = true;
                false
            }
            Some(_) => true,
        }
    }

    fn expire(&mut self, pool: usize) {
        let now = self.now;
        let waiting = &mut self.sites[pool].waiting;
        while waiting.front().is_some_and(|job| job.arrived + QUEUE_TIMEOUT <= now) {
            waiting.pop_front();
        }
    }

    fn give(&mut self, pool: usize, job: Job, first: bool) {
        let site = &mut self.sites[pool];
        // The kernel wakes those who wait in accept in turn.
        let w = if site.is_queue() || site.idle.is_empty() { site.idle.pop() } else { Some(site.idle.remove(0)) };
        if let Some(w) = w {
            self.work(w, job);
        } else if self.sites[pool].waiting.len() < QUEUE_LENGTH {
            match first {
                true => self.sites[pool].waiting.push_front(job),
                false => self.sites[pool].waiting.push_back(job),
            }
        }
        self.tell_need(pool);
        self.load_changed(pool);
    }

    /// Its worker died: once more elsewhere.
    pub(crate) fn give_again(&mut self, pool: usize, mut job: Job) {
        if !job.retried && !self.sites[pool].fallback {
            job.retried = true;
            self.give(pool, job, true);
        }
    }

    /// A worker waits for work.
    pub(crate) fn become_idle(&mut self, w: usize) {
        let now = self.now;
        let process = &mut self.processes[w];
        if process.life != Life::Up || !process.admitted || process.withdrawn || process.termed || process.said {
            return;
        }
        process.idle_since = now;
        let (pool, stuck) = (process.pool, process.stuck);
        self.expire(pool);
        let job = if stuck { None } else { self.sites[pool].waiting.pop_front() };
        match job {
            Some(job) => self.work(w, job),
            None => self.sites[pool].idle.push(w),
        }
        self.load_changed(pool);
    }

    fn work(&mut self, w: usize, job: Job) {
        let process = &mut self.processes[w];
        process.jobs += 1;
        process.job = Some(job);
        let (number, plan, served, pool) = (process.jobs, process.plan, process.served, process.pool);
        let fate = match process.release {
            Release::EveryNth(n, exit) if served + u64::from(job.requests) >= u64::from(n) => Some(exit),
            Release::Randomly(chance, exit) => {
                let chance = u64::from(chance) * u64::from(job.requests);
                self.random.permille(chance.min(1000)).then_some(exit)
            }
            _ => None,
        };
        let poison = self.sites[pool].poison;
        let fate = if poison != 0 && job.key == poison { Some(Exit::Signal(11)) } else { fate };
        let hangs = match self.processes[w].release {
            Release::Hangs(chance) => self.random.permille(chance.into()),
            _ => self.processes[w].stuck,
        };
        if hangs {
            self.processes[w].hung = true;
        } else if let Some(exit) = fate {
            self.agenda.add(self.now + job.busy / 2, Happening::Died(w, plan, exit));
        } else {
            self.agenda.add(self.now + job.busy, Happening::Done(w, number));
        }
        if self.sites[pool].is_queue() && (hangs || job.busy >= REQUEST_TIMEOUT) {
            self.agenda.add(self.now + REQUEST_TIMEOUT, Happening::Overdue(w, number));
        }
    }

    pub(crate) fn done(&mut self, w: usize, number: u32) {
        let process = &mut self.processes[w];
        if process.life == Life::Gone || process.jobs != number {
            return;
        }
        if process.stuck {
            self.agenda.add(self.now + SECOND, Happening::Done(w, number));
            return;
        }
        let Some(job) = process.job.take() else { return };
        let before = process.served;
        process.served += u64::from(job.requests);
        let (worker, pool) = (process.id, process.pool);
        if self.sites[pool].is_queue() {
            if before < TOLD_SINGLY {
                let requests = u64::from(job.requests);
                self.inbox.push_back(Event::WorkerServed { worker, requests });
            } else {
                self.sites[pool].served_untold += u64::from(job.requests);
            }
            if self.sites[pool].watched.contains(&job.key) {
                let request = RequestKey(job.key.into());
                self.inbox.push_back(Event::SuspectServed { pool: PoolId(pool as u32), request, worker });
            }
        }
        self.after_service(w, before);
        let process = &self.processes[w];
        if process.termed {
            let wait = self.random.between(1, 20) * MILLI;
            self.agenda.add(self.now + wait, Happening::Left(w));
        } else if process.withdrawn {
            self.agenda.add(self.now, Happening::Drained(w));
        } else if matches!(process.release, Release::Recycles(n) if process.served >= u64::from(n)) {
            // It leaves by itself now and takes nothing more.
        } else {
            self.become_idle(w);
        }
        self.load_changed(pool);
    }

    pub(crate) fn overdue(&mut self, w: usize, number: u32) {
        let process = &self.processes[w];
        if process.life != Life::Gone && process.job.is_some() && process.jobs == number {
            let worker = process.id;
            self.inbox.push_back(Event::WorkerOverdue { worker });
        }
    }

    pub(crate) fn blame(&mut self, w: usize, key: Option<u32>) {
        let worker = self.processes[w].id;
        let request = key.map(|key| RequestKey(key.into()));
        self.inbox.push_back(Event::Blamed { worker, request });
    }

    pub(crate) fn set_fallback(&mut self, pool: usize, on: bool) {
        let Some(site) = self.sites.get_mut(pool) else { return };
        site.fallback = on;
        if on {
            site.waiting.clear();
            self.load_changed(pool);
        }
    }

    /// The front tells the load at once when somebody starts to wait or the last idle worker goes, else soon.
    pub(crate) fn load_changed(&mut self, pool: usize) {
        let site = &mut self.sites[pool];
        if !site.is_queue() || !site.known || site.sample_due {
            return;
        }
        site.sample_due = true;
        let urgent = !site.waiting.is_empty() || site.idle.is_empty();
        let at = match urgent {
            true => self.now.max(site.sampled + 100 * MILLI),
            false => self.now.max(site.sampled + SAMPLE_EVERY),
        };
        self.agenda.add(at, Happening::Sampled(pool));
    }

    /// Whoever comes next at a direct pool's sockets is told of, or waits already.
    pub(crate) fn watch_for(&mut self, pool: usize) {
        if let Some(site) = self.sites.get_mut(pool) {
            site.watched_for = true;
            if !site.waiting.is_empty() {
                self.tell_need(pool);
            }
        }
    }

    fn tell_need(&mut self, pool: usize) {
        if std::mem::take(&mut self.sites[pool].watched_for) {
            self.agenda.add(self.now, Happening::Sampled(pool));
        }
    }

    pub(crate) fn sample(&mut self, pool: usize) {
        let now = self.now;
        self.expire(pool);
        let site = &mut self.sites[pool];
        site.sample_due = false;
        if !site.known {
            return;
        }
        site.sampled = now;
        let busy = site.live.iter().filter(|&&w| self.processes[w].job.is_some() && !self.processes[w].said).count();
        let longest_idle = site.idle.iter().map(|&w| (self.processes[w].idle_since, w)).min();
        let load = Load {
            idle: site.idle.len() as u32,
            busy: busy as u32,
            waiting: site.waiting.len() as u32,
            served: std::mem::take(&mut site.served_untold),
            longest_idle: longest_idle.map(|(since, w)| {
                let since = Instant::from_nanos(since + self.slept);
                (self.processes[w].id, since)
            }),
        };
        let is_waiting = load.waiting > 0 && site.is_queue();
        self.inbox.push_back(Event::LoadSampled { pool: PoolId(pool as u32), load });
        if is_waiting {
            // While somebody waits the front goes on telling.
            self.load_changed_later(pool);
        }
    }

    fn load_changed_later(&mut self, pool: usize) {
        self.sites[pool].sample_due = true;
        self.agenda.add(self.now + SAMPLE_EVERY, Happening::Sampled(pool));
    }
}
