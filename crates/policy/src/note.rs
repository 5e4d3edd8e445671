//! What people are told: the policy's part of the events of interface.md, section 5.

use core::time::Duration;

use crate::class::{Class, Exit, Reason, Weight};
use crate::event::Limit;
use crate::ids::{GenerationId, PoolId, RequestKey, SlotId, WorkerId, ZygoteId};
use crate::time::Instant;

/// Why a worker is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Growth, rollout, recycling, the operator's wish.
    Planned,
    /// Another one ended unasked.
    Repair,
    /// The first of a generation, or the trial of an open breaker.
    Canary,
}

/// Where a worker lived, for the notes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which worker.
    pub worker: WorkerId,
    /// Its pool.
    pub pool: PoolId,
    /// Its slot.
    pub slot: SlotId,
    /// Its generation.
    pub generation: GenerationId,
}

/// A note for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A worker is being started.
    WorkerStarted {
        /// Where.
        place: Place,
        /// Why.
        purpose: Purpose,
    },
    /// It is ready.
    WorkerReady {
        /// Where.
        place: Place,
        /// From the order to start until now.
        took: Duration,
    },
    /// It passed its verify request.
    WorkerVerified {
        /// Where.
        place: Place,
    },
    /// It is asked to leave because it reached a limit.
    WorkerRecycled {
        /// Where.
        place: Place,
        /// Which limit; `None` for its age, its own word or the operator's drain.
        limit: Option<Limit>,
    },
    /// It is gone.
    WorkerExited {
        /// Where.
        place: Place,
        /// Why.
        class: Class,
        /// How; `None` when there never was a process, or it is lost.
        exit: Option<Exit>,
        /// What it weighs for the breaker.
        weight: Weight,
        /// From the order to start until its end.
        ran: Duration,
        /// It had been ready.
        ready: bool,
        /// It had served, as far as is known.
        served: bool,
        /// Its files had changed on disk under the running generation.
        files_changed: bool,
        /// The request that it had in hand.
        request: Option<RequestKey>,
        /// The first failure since all was well.
        first: bool,
        /// The next start of this generation waits so long.
        wait: Duration,
    },
    /// It was sent SIGKILL by us.
    WorkerKilled {
        /// Where.
        place: Place,
        /// Why.
        class: Class,
    },
    /// It is a manager, and one of its own workers has died before it could take a request: it stands still for a while.
    ManagerRests {
        /// Where.
        place: Place,
        /// So many others of its own live.
        living: u32,
        /// The files had changed on disk under the running generation.
        files_changed: bool,
        /// It may start the next one after so long.
        wait: Duration,
    },
    /// The host refuses new processes; starts wait so long.
    HostRefused {
        /// Which pool.
        pool: PoolId,
        /// How long.
        wait: Duration,
    },
    /// A generation begins.
    GenerationStarted {
        /// Which pool.
        pool: PoolId,
        /// Its number.
        generation: GenerationId,
    },
    /// Its first worker passed verification.
    GenerationVerified {
        /// Which pool.
        pool: PoolId,
        /// Its number.
        generation: GenerationId,
    },
    /// It failed before anybody saw it.
    GenerationRefused {
        /// Which pool.
        pool: PoolId,
        /// Its number.
        generation: GenerationId,
        /// Why.
        reason: Reason,
        /// The worker that failed, if one did.
        worker: Option<WorkerId>,
    },
    /// It serves: at a reload, all slots are its own.
    GenerationServing {
        /// Which pool.
        pool: PoolId,
        /// Its number.
        generation: GenerationId,
    },
    /// It has run `prove` long without a failure.
    GenerationProven {
        /// Which pool.
        pool: PoolId,
        /// Its number.
        generation: GenerationId,
    },
    /// It failed in service; its predecessor takes over again.
    GenerationRolledBack {
        /// Which pool.
        pool: PoolId,
        /// The one that failed.
        from: GenerationId,
        /// The one that takes over.
        to: GenerationId,
        /// Why.
        reason: Reason,
    },
    /// Nothing is kept of it.
    GenerationRetired {
        /// Which pool.
        pool: PoolId,
        /// Its number.
        generation: GenerationId,
    },
    /// A zygote is being started.
    ZygoteStarted {
        /// Which.
        zygote: ZygoteId,
        /// Which pool.
        pool: PoolId,
        /// What it loads.
        generation: GenerationId,
    },
    /// It can fork.
    ZygoteReady {
        /// Which.
        zygote: ZygoteId,
        /// Which pool.
        pool: PoolId,
        /// What it has loaded.
        generation: GenerationId,
    },
    /// It is gone.
    ZygoteExited {
        /// Which.
        zygote: ZygoteId,
        /// Which pool.
        pool: PoolId,
        /// What it had loaded, or was to load.
        generation: GenerationId,
        /// Why.
        class: Class,
        /// What it weighs for the breaker.
        weight: Weight,
        /// Its files had changed on disk under the running generation.
        files_changed: bool,
    },
    /// Nothing is respawned but one canary at a time.
    BreakerOpened {
        /// Which pool.
        pool: PoolId,
        /// The generation that failed.
        generation: GenerationId,
        /// The sum of weights in the window.
        failures: Weight,
        /// The next trial.
        until: Instant,
        /// Why.
        reason: Reason,
    },
    /// A trial worker runs.
    BreakerHalfOpen {
        /// Which pool.
        pool: PoolId,
    },
    /// All is well again.
    BreakerClosed {
        /// Which pool.
        pool: PoolId,
    },
    /// The pool serves.
    PoolServing {
        /// Which pool.
        pool: PoolId,
    },
    /// It serves, but its breaker is open.
    PoolDegraded {
        /// Which pool.
        pool: PoolId,
    },
    /// Nothing serves.
    PoolDown {
        /// Which pool.
        pool: PoolId,
    },
    /// Its bounds changed.
    PoolScaled {
        /// Which pool.
        pool: PoolId,
        /// At least.
        min: u32,
        /// At most.
        max: u32,
    },
    /// It has stopped.
    PoolStopped {
        /// Which pool.
        pool: PoolId,
    },
    /// A request that kills workers is kept from them.
    RequestQuarantined {
        /// Which pool.
        pool: PoolId,
        /// Which request.
        request: RequestKey,
        /// Workers that it killed.
        kills: u32,
        /// Until when.
        until: Instant,
    },
    /// More than half of the workers passed their deadline at once: they are killed one a second.
    Stalled {
        /// Which pool.
        pool: PoolId,
    },
    /// A turn came so late that deadlines were moved.
    Late {
        /// By so much.
        by: Duration,
    },
}
