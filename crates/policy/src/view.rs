//! What the state looks like from outside; reading only.

use alloc::collections::BTreeMap;

use crate::breaker::Breaker;
use crate::class::{Class, Reason, Weight};
use crate::figures::Figures;
use crate::generation::{Generation, ZygotePhase};
use crate::ids::{GenerationId, PoolId, RequestKey, SlotId, WorkerId, ZygoteId};
use crate::pool::{Phase, Pool};
use crate::rules::Rules;
use crate::time::Instant;
use crate::worker::State;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$each])* $variant,)* }

        impl $name {
            /// The word for people and status.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }
    };
}

words! {
    /// A pool's state (interface.md, section 4).
    PoolState {
        /// On demand, and nobody waits.
        Asleep = "asleep",
        /// Nothing serves yet.
        Starting = "starting",
        /// It serves.
        Serving = "serving",
        /// It serves, but the breaker is open or there are fewer than `min`.
        Degraded = "degraded",
        /// Nothing serves.
        Down = "down",
        /// It is being stopped.
        Stopping = "stopping",
        /// It was stopped.
        Stopped = "stopped",
    }
}

words! {
    /// A breaker's state.
    BreakerState {
        /// All is well.
        Closed = "closed",
        /// Nothing is respawned but a trial now and then.
        Open = "open",
        /// A trial runs, or the pool is filled again after one.
        HalfOpen = "half-open",
    }
}

words! {
    /// A worker's state; idle and busy are the front's to know.
    WorkerState {
        /// Not ready yet.
        Starting = "starting",
        /// Its verify request is on the way.
        Verifying = "verifying",
        /// It serves.
        Ready = "ready",
        /// It finishes what is in hand.
        Draining = "draining",
        /// It was sent TERM.
        Stopping = "stopping",
        /// It was sent KILL.
        Killed = "killed",
        /// Not even KILL removes it.
        Lost = "lost",
    }
}

words! {
    /// A zygote's state.
    ZygoteState {
        /// It loads the application.
        Starting = "starting",
        /// It can fork.
        Ready = "ready",
        /// It was asked to leave.
        Leaving = "leaving",
    }
}

/// How many workers are in which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// All.
    pub total: u32,
    /// Starting or verifying.
    pub starting: u32,
    /// Serving.
    pub ready: u32,
    /// Draining, stopping or killed.
    pub leaving: u32,
    /// Lost.
    pub lost: u32,
}

/// The breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerView {
    /// Its state.
    pub state: BreakerState,
    /// The sum of weights in the window.
    pub failures: Weight,
    /// When it moves next by itself.
    pub until: Option<Instant>,
    /// Why it opened.
    pub reason: Option<Reason>,
}

/// An occupied slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotView {
    /// Its number.
    pub slot: SlotId,
    /// Who sits there.
    pub worker: WorkerId,
    /// Of which generation.
    pub generation: GenerationId,
    /// In which state.
    pub state: WorkerState,
    /// Since when in that state.
    pub since: Instant,
    /// Requests that it is known to have served.
    pub served: u64,
}

/// A quarantined request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantineView {
    /// Which.
    pub request: RequestKey,
    /// Workers that it killed.
    pub kills: u32,
    /// Until when.
    pub until: Instant,
}

/// A zygote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZygoteView {
    /// Which.
    pub zygote: ZygoteId,
    /// What it has loaded.
    pub generation: GenerationId,
    /// Its state.
    pub state: ZygoteState,
}

/// The whole state at one moment.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(crate) pools: &'a BTreeMap<PoolId, Pool>,
    pub(crate) now: Instant,
    pub(crate) rules: Rules,
    pub(crate) stopping: bool,
}

/// One pool at one moment.
#[derive(Clone, Copy)]
pub struct PoolView<'a> {
    pool: &'a Pool,
    now: Instant,
    rules: Rules,
}

impl<'a> View<'a> {
    /// All pools.
    pub fn pools(&self) -> impl Iterator<Item = PoolView<'a>> + use<'a> {
        let (now, rules) = (self.now, self.rules);
        self.pools.values().map(move |pool| PoolView { pool, now, rules })
    }

    /// One pool.
    pub fn pool(&self, id: PoolId) -> Option<PoolView<'a>> {
        self.pools.get(&id).map(|pool| PoolView { pool, now: self.now, rules: self.rules })
    }

    /// Whether everything is being stopped.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }
}

impl<'a> PoolView<'a> {
    /// Its number.
    pub fn id(&self) -> PoolId {
        self.pool.id
    }

    /// Its state in one word.
    pub fn state(&self) -> PoolState {
        let ready = self.pool.ready();
        let closed = self.pool.breaker.is_closed();
        match self.pool.phase {
            Phase::Stopped => PoolState::Stopped,
            Phase::Stopping(_) => PoolState::Stopping,
            Phase::Running if ready == 0 && self.pool.target == 0 && self.pool.load.waiting == 0 => PoolState::Asleep,
            Phase::Running if ready == 0 && closed && !self.is_told_down() => PoolState::Starting,
            Phase::Running if ready == 0 => PoolState::Down,
            Phase::Running if !closed || ready < self.pool.min => PoolState::Degraded,
            Phase::Running => PoolState::Serving,
        }
    }

    fn is_told_down(&self) -> bool {
        self.pool.told == crate::pool::Told::Down
    }

    /// Its figures, with `min` and `max` as scaled.
    pub fn figures(&self) -> Figures {
        Figures { min: self.pool.min, max: self.pool.max, ..self.pool.figures.clone() }
    }

    /// How many workers it wants.
    pub fn target(&self) -> u32 {
        self.pool.target
    }

    /// The generation that serves.
    pub fn generation(&self) -> GenerationId {
        self.pool.serving
    }

    /// The generation of a reload under way.
    pub fn candidate(&self) -> Option<GenerationId> {
        self.pool.rollout.map(|rollout| rollout.to)
    }

    /// What a failing generation would go back to.
    pub fn previous(&self) -> Option<GenerationId> {
        let serving = self.serving()?;
        serving.predecessor.filter(|id| !serving.proven && self.pool.generations.contains_key(id))
    }

    /// Whether the serving generation is proven.
    pub fn is_proven(&self) -> bool {
        self.serving().is_some_and(|generation| generation.proven)
    }

    fn serving(&self) -> Option<&'a Generation> {
        self.pool.generations.get(&self.pool.serving)
    }

    /// Workers by state.
    pub fn counts(&self) -> Counts {
        let tally = self.pool.tally();
        Counts {
            total: tally.live(),
            starting: tally.pending,
            ready: tally.ready,
            leaving: tally.leaving,
            lost: tally.lost,
        }
    }

    /// The breaker.
    pub fn breaker(&self) -> BreakerView {
        let (state, reason) = match self.pool.breaker {
            Breaker::Closed => (BreakerState::Closed, None),
            Breaker::Open { reason, .. } | Breaker::Throttled { reason, .. } => (BreakerState::Open, Some(reason)),
            Breaker::Trial { reason, .. } | Breaker::Refilling { reason, .. } => (BreakerState::HalfOpen, Some(reason)),
        };
        BreakerView {
            state,
            failures: self.pool.failures(self.now, self.rules),
            until: self.pool.breaker.deadline(),
            reason,
        }
    }

    /// Whether visitors get the fallback.
    pub fn has_fallback(&self) -> bool {
        self.pool.fallback
    }

    /// How many workers have ended like this.
    pub fn exits(&self, class: Class) -> u64 {
        let at = Class::ALL.iter().position(|c| *c == class);
        at.and_then(|at| self.pool.exits.get(at)).copied().unwrap_or(0)
    }

    /// The occupied slots, in order.
    pub fn slots(&self) -> impl Iterator<Item = SlotView> + use<'a> {
        let pool = self.pool;
        pool.slots.iter().filter_map(move |(slot, id)| {
            let worker = pool.workers.get(id)?;
            let state = match worker.state {
                State::Starting { .. } => WorkerState::Starting,
                State::Verifying { .. } => WorkerState::Verifying,
                State::Ready { .. } => WorkerState::Ready,
                State::Draining { .. } => WorkerState::Draining,
                State::Stopping { .. } => WorkerState::Stopping,
                State::Killed { .. } => WorkerState::Killed,
                State::Lost => WorkerState::Lost,
            };
            let (worker, generation, since, served) = (*id, worker.place.generation, worker.since, worker.served);
            Some(SlotView { slot: *slot, worker, generation, state, since, served })
        })
    }

    /// Requests that are kept from workers now.
    pub fn quarantine(&self) -> impl Iterator<Item = QuarantineView> + use<'a> {
        let now = self.now;
        self.pool.suspects.iter().filter_map(move |(request, suspect)| {
            let until = suspect.until.filter(|until| *until > now)?;
            Some(QuarantineView { request, kills: suspect.kills, until })
        })
    }

    /// Its zygotes.
    pub fn zygotes(&self) -> impl Iterator<Item = ZygoteView> + use<'a> {
        let current = self.pool.generations.values().flat_map(Generation::zygotes);
        current.chain(&self.pool.departing).map(|zygote| {
            let state = match zygote.phase {
                ZygotePhase::Loading { .. } => ZygoteState::Starting,
                ZygotePhase::Ready => ZygoteState::Ready,
                ZygotePhase::Leaving { .. } | ZygotePhase::Killed => ZygoteState::Leaving,
            };
            ZygoteView { zygote: zygote.id, generation: zygote.generation, state }
        })
    }
}
