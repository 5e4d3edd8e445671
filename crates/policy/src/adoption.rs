//! What a policy knows, as facts from which another one can go on: the supervisor's next image has this one's workers.
//!
//! Only what is at rest can be told: workers that serve, generations without a way back, a breaker that is closed or
//! waits. Whatever is on its way is over soon, and is waited for. So there are few facts, and each means the same in any
//! version of this program.

use alloc::vec::Vec;

use crate::breaker::Breaker;
use crate::bucket::Bucket;
use crate::class::Class;
use crate::event::{Event, Files, PoolFacts, WorkerFacts};
use crate::figures::Figures;
use crate::generation::{Account, Generation, Zygote, ZygotePhase};
use crate::ids::{GenerationId, PoolId};
use crate::note::{Place, Purpose};
use crate::policy::Policy;
use crate::pool::{Phase, Pool};
use crate::time::Instant;
use crate::worker::{Rest, State, Word, Worker};

/// Why a pool cannot be told as facts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// Which.
    pub pool: PoolId,
    /// What is on its way.
    pub why: Pending,
}

macro_rules! pending {
    ($($(#[$doc:meta])* $name:ident = $words:literal,)*) => {
        /// What is on its way in a pool.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Pending { $($(#[$doc])* $name,)* }

        impl Pending {
            /// For people: follows "the pool".
            pub const fn words(self) -> &'static str {
                match self { $(Pending::$name => $words,)* }
            }
        }
    };
}
pending! {
    /// A generation comes in.
    Rollout = "is being reloaded",
    /// A generation has a way back.
    Proof = "has a new generation that is not proven yet",
    /// A worker is not ready yet.
    Start = "starts a worker",
    /// A worker leaves, or its end has not been judged yet.
    End = "has a worker that leaves",
    /// A zygote loads, or leaves.
    Zygote = "has a zygote that loads or leaves",
    /// The breaker tries a worker, or the pool is filled again.
    Trial = "has a breaker that is half-open",
    /// It is being stopped.
    Stop = "is being stopped",
}

impl Policy {
    /// Everything that this policy knows, in the order in which another one is to be told.
    ///
    /// # Errors
    /// Something is on its way; it is over soon.
    pub fn facts(&self) -> Result<Vec<Event>, Unsettled> {
        let mut facts = Vec::new();
        facts.push(Event::NamesMinted { last: self.mint().last() });
        for pool in self.pools() {
            pool.unsettled().map_or(Ok(()), |why| Err(Unsettled { pool: pool.id, why }))?;
            pool.tell(&mut facts);
        }
        Ok(facts)
    }
}

impl Pool {
    fn unsettled(&self) -> Option<Pending> {
        let tally = self.tally();
        let zygotes = || self.generations.values().flat_map(Generation::zygotes);
        let is_on_its_way = |zygote: &Zygote| zygote.phase != ZygotePhase::Ready;
        Some(match self.phase {
            Phase::Stopping(_) => Pending::Stop,
            _ if self.rollout.is_some() => Pending::Rollout,
            _ if tally.pending > 0 => Pending::Start,
            _ if tally.leaving > 0 || tally.outgoing > 0 || !self.charges.is_empty() => Pending::End,
            _ if self.workers.values().any(|worker| worker.word != Word::Silent) => Pending::End,
            _ if !self.overdue_workers.is_empty() => Pending::End,
            _ if self.generations.len() > 1 => Pending::Proof,
            _ if self.generations.values().any(|generation| generation.probation.is_some()) => Pending::Proof,
            _ if !self.departing.is_empty() || zygotes().any(is_on_its_way) => Pending::Zygote,
            _ if self.generations.values().any(|generation| generation.fresh.is_some()) => Pending::Zygote,
            _ if matches!(self.breaker, Breaker::Trial { .. } | Breaker::Refilling { .. }) => Pending::Trial,
            _ => return None,
        })
    }

    fn tell(&self, facts: &mut Vec<Event>) {
        let pool = self.id;
        let generation = self.generations.get(&self.serving);
        let facts_of = |entry: &Generation| PoolFacts {
            generation: entry.id,
            last_generation: GenerationId(self.last_generation),
            min: self.min,
            max: self.max,
            target: self.target,
            is_running: self.is_running(),
            has_fallback: self.fallback,
            started: entry.started,
            proven: entry.proven,
            verified: entry.verified,
            unfit: entry.unfit,
            files: entry.files(),
            served: entry.served,
            credit: entry.credit,
            retry_at: entry.retry_at.max(entry.host.not_before()).max(entry.unavailable.not_before()),
            owed: self.owed,
            tokens: self.bucket.parts(),
            unserved: self.unserved,
            growth: self.growth,
            load: self.load,
        };
        let none = PoolFacts {
            generation: self.serving,
            last_generation: GenerationId(self.last_generation),
            min: self.min,
            max: self.max,
            tokens: self.bucket.parts(),
            load: self.load,
            ..PoolFacts::default()
        };
        let figures = self.figures.clone();
        facts.push(Event::PoolAdopted { pool, figures, facts: generation.map_or(none, facts_of) });
        if let Some(entry) = generation {
            for files in [Files::Noted, Files::Changed] {
                let account = match files {
                    Files::Noted => &entry.noted,
                    Files::Changed => &entry.changed,
                };
                let (steps, last, not_before) = account.backoff.parts();
                let served = account.served;
                facts.push(Event::AccountAdopted { pool, files, served, steps, last, not_before });
                let failures = account.window.entries();
                facts.extend(failures.map(|(at, weight)| Event::FailureAdopted { pool, files, at, weight }));
            }
            let zygote = entry.zygote.map(|zygote| Event::ZygoteAdopted { zygote: zygote.id, pool });
            facts.extend(zygote);
        }
        for worker in self.workers.values().filter(|worker| worker.state.is_ready()) {
            let Place { worker: id, slot, .. } = worker.place;
            let age_limit = worker.state.deadline();
            let since = worker.ready.unwrap_or(worker.since);
            let facts_of = WorkerFacts { slot, files: worker.files, zygote: worker.zygote, since, age_limit };
            facts.push(Event::WorkerAdopted { worker: id, pool, facts: facts_of, served: worker.served });
        }
        match self.breaker {
            Breaker::Open { until, wait, reason } => {
                facts.push(Event::BreakerAdopted { pool, throttled: false, until, wait, reason });
            }
            Breaker::Throttled { next, wait, reason, .. } => {
                facts.push(Event::BreakerAdopted { pool, throttled: true, until: next, wait, reason });
            }
            Breaker::Closed | Breaker::Trial { .. } | Breaker::Refilling { .. } => {}
        }
        for (request, suspect) in self.suspects.iter() {
            facts.push(Event::SuspectAdopted { pool, request, facts: suspect.facts() });
        }
        for (class, count) in Class::ALL.into_iter().zip(self.exits).filter(|(_, count)| *count > 0) {
            facts.push(Event::ExitsAdopted { pool, class, count });
        }
    }

    /// A pool as it was told. It does nothing until something else is told of it.
    pub(crate) fn adopted(id: PoolId, figures: Figures, facts: PoolFacts, now: Instant) -> Pool {
        let mut pool = Pool::new(id, figures.clone(), now);
        pool.phase = if facts.is_running { Phase::Running } else { Phase::Stopped };
        (pool.min, pool.max, pool.target) = (facts.min, facts.max, facts.target);
        (pool.serving, pool.last_generation) = (facts.generation, facts.last_generation.0);
        (pool.fallback, pool.unserved, pool.load) = (facts.has_fallback, facts.unserved, facts.load);
        (pool.owed, pool.growth) = (facts.owed, facts.growth);
        pool.bucket = Bucket::of(facts.tokens, facts.max);
        if facts.is_running {
            let mut entry = Generation::new(facts.generation, figures, None, facts.started);
            (entry.proven, entry.verified, entry.unfit) = (facts.proven, facts.verified, facts.unfit);
            (entry.served, entry.credit, entry.announced) = (facts.served, facts.credit, true);
            entry.retry_at = facts.retry_at;
            entry.files_changed = facts.files == Files::Changed;
            entry.proof_due = (!facts.proven).then(|| now.after(entry.figures.breaker.prove));
            pool.generations.insert(entry.id, entry);
        }
        pool.narrow_planned();
        pool
    }

    /// One more fact about a pool that was adopted.
    pub(crate) fn adopt(&mut self, fact: Event) {
        let serving = self.serving;
        match fact {
            Event::AccountAdopted { files, served, steps, last, not_before, .. } => {
                if let Some(account) = self.account(files) {
                    account.served = served;
                    account.backoff = crate::backoff::Backoff::of(steps, last, not_before);
                }
            }
            Event::FailureAdopted { files, at, weight, .. } => {
                if let Some(account) = self.account(files) {
                    account.window.push(at, weight);
                }
            }
            Event::ZygoteAdopted { zygote, .. } => {
                if let Some(entry) = self.generation(serving) {
                    entry.zygote = Some(Zygote { id: zygote, generation: serving, phase: ZygotePhase::Ready });
                }
            }
            Event::WorkerAdopted { worker, pool, facts, served } => {
                let WorkerFacts { slot, files, zygote, since, age_limit } = facts;
                let place = Place { worker, pool, slot, generation: serving };
                self.take_seat(Worker {
                    place,
                    purpose: Purpose::Repair,
                    state: State::Ready { age_limit },
                    files,
                    trial: false,
                    zygote,
                    ordered: since,
                    since,
                    ready: Some(since),
                    served,
                    word: Word::Silent,
                    charged: None,
                    leave: None,
                    deaf: false,
                    outgoing: false,
                    done: false,
                    rest: Rest::No,
                    postponed: false,
                });
            }
            Event::BreakerAdopted { throttled: true, until, wait, reason, .. } => {
                self.breaker = Breaker::Throttled { next: until, wait, unserved: false, reason };
            }
            Event::BreakerAdopted { throttled: false, until, wait, reason, .. } => {
                self.breaker = Breaker::Open { until, wait, reason };
            }
            Event::SuspectAdopted { request, facts, .. } => self.suspects.adopt(request, facts),
            Event::ExitsAdopted { class, count, .. } => {
                let at = Class::ALL.iter().position(|other| *other == class);
                if let Some(exits) = at.and_then(|at| self.exits.get_mut(at)) {
                    *exits = count;
                }
            }
            _ => {}
        }
    }

    fn account(&mut self, files: Files) -> Option<&mut Account> {
        let serving = self.serving;
        self.generation(serving).map(|entry| entry.account(files))
    }
}
