//! Facts, past tense: everything that the policy is ever told.

use core::time::Duration;

use crate::class::Exit;
use crate::figures::Figures;
use crate::ids::{PoolId, RequestKey, SlotId, WorkerId, ZygoteId};
use crate::time::Instant;

/// Whether the program's files were, at a start, those that its generation had noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Files {
    /// Unchanged since the generation began (or since they were last noted).
    Noted,
    /// Changed on disk under the running generation.
    Changed,
}

/// Why a worker could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnFault {
    /// The host's: EAGAIN, ENOMEM, EMFILE, ENFILE. Nobody is blamed.
    Host,
    /// The program's: ENOENT, EACCES, ENOEXEC and the like.
    Program,
    /// The zygote was gone before it could fork.
    Zygote,
    /// The zygote could not make a worker of it, or what it called one is none: its generation's failure.
    Fork,
}

/// Why a zygote has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZygoteEnd {
    /// By its own fault: it exited, crashed, took too much memory, or its program could not be executed.
    Failed,
    /// It said that its generation is broken, or its exit code did.
    Broken,
    /// It said that a dependency is away, or its exit code did.
    Unavailable,
    /// Somebody outside sent SIGKILL.
    Killed,
    /// There never was a process: the host refuses new ones.
    Host,
}

/// A limit that recycles a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `max-requests`.
    Requests,
    /// `max-memory`.
    Memory,
}

/// The state of a pool's queue, as the front saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Load {
    /// Workers with nothing to do.
    pub idle: u32,
    /// Workers with a request.
    pub busy: u32,
    /// Requests that wait for a worker.
    pub waiting: u32,
    /// Requests served since the last sample, beyond those told by [`Event::WorkerServed`].
    pub served: u64,
    /// The worker that has been idle longest, and since when.
    pub longest_idle: Option<(WorkerId, Instant)>,
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A deadline may have passed; nothing else happened.
    Woken,

    /// A pool was configured; its first generation starts.
    PoolAdded {
        /// Never used before.
        pool: PoolId,
        /// Its figures.
        figures: Figures,
    },
    /// The pool left the configuration: stop it, then forget it.
    RemovalRequested {
        /// Which.
        pool: PoolId,
    },
    /// A new generation is wanted, with these figures.
    ReloadRequested {
        /// Which.
        pool: PoolId,
        /// Its figures; the pool goes by them once the generation serves.
        figures: Figures,
    },
    /// The operator's graceful stop of one pool.
    StopRequested {
        /// Which.
        pool: PoolId,
    },
    /// The operator's start of a stopped pool.
    StartRequested {
        /// Which.
        pool: PoolId,
    },
    /// Stop, then start.
    RestartRequested {
        /// Which.
        pool: PoolId,
    },
    /// New bounds for the number of workers.
    ScaleRequested {
        /// Which.
        pool: PoolId,
        /// At least.
        min: u32,
        /// At most; the driver has checked `min <= max` and `max >= 1`.
        max: u32,
    },
    /// The operator wants the worker in this slot replaced gracefully.
    DrainRequested {
        /// Which pool.
        pool: PoolId,
        /// Which slot.
        slot: SlotId,
    },
    /// The operator wants the worker in this slot killed and replaced.
    KillRequested {
        /// Which pool.
        pool: PoolId,
        /// Which slot.
        slot: SlotId,
    },
    /// The operator closes the breaker.
    BreakerResetRequested {
        /// Which.
        pool: PoolId,
    },
    /// The operator opens the breaker.
    BreakerTripRequested {
        /// Which.
        pool: PoolId,
    },
    /// The operator empties the quarantine.
    QuarantineClearRequested {
        /// Which.
        pool: PoolId,
    },
    /// Stop everything gracefully, then finish.
    ShutdownRequested,
    /// Stop everything at once.
    ShutdownHastened,

    /// The process exists (its program has been executed, or the zygote has forked it).
    WorkerSpawned {
        /// Which.
        worker: WorkerId,
        /// What it was started from.
        files: Files,
    },
    /// There is no process and never was.
    SpawnFailed {
        /// Which.
        worker: WorkerId,
        /// Whose fault.
        fault: SpawnFault,
        /// What was tried to be started.
        files: Files,
    },
    /// It can take a request (or its verify request).
    WorkerReady {
        /// Which.
        worker: WorkerId,
    },
    /// It answered its verify request as expected.
    WorkerVerified {
        /// Which.
        worker: WorkerId,
    },
    /// It did not.
    VerificationFailed {
        /// Which.
        worker: WorkerId,
    },
    /// Evidence of service: so many more requests. Of a worker that is not ready it counts only if it then exits 0 and
    /// its generation has served before.
    WorkerServed {
        /// Which.
        worker: WorkerId,
        /// More than before; in direct mode an estimate.
        requests: u64,
    },
    /// A draining worker has nothing in hand and will be given nothing.
    WorkerDrained {
        /// Which.
        worker: WorkerId,
    },
    /// Its word: it cannot go on.
    WorkerFailed {
        /// Which.
        worker: WorkerId,
    },
    /// Its word: the whole generation is broken. (Also a TERM that it sent to the supervisor.)
    WorkerBroken {
        /// Which.
        worker: WorkerId,
    },
    /// Its word: a dependency is away.
    WorkerUnavailable {
        /// Which.
        worker: WorkerId,
        /// No start before so long, if it said.
        retry_after: Option<Duration>,
    },
    /// Its word: it has done its share and wants to be recycled.
    WorkerDone {
        /// Which.
        worker: WorkerId,
    },
    /// It passed a limit that recycles it.
    LimitReached {
        /// Which.
        worker: WorkerId,
        /// Which limit.
        limit: Limit,
    },
    /// Its request passed the request deadline (queue mode).
    WorkerOverdue {
        /// Which.
        worker: WorkerId,
    },
    /// Its client has gone, and its pool does not want its answer any more (queue mode).
    WorkerCancelled {
        /// Which.
        worker: WorkerId,
    },
    /// The process has ended and been reaped.
    WorkerExited {
        /// Which.
        worker: WorkerId,
        /// How.
        exit: Exit,
        /// An OOM counter explains a SIGKILL.
        oom: bool,
    },
    /// What the front knows of the request that a dead worker had in hand (queue mode).
    Blamed {
        /// Which worker.
        worker: WorkerId,
        /// The request; `None` when there was none.
        request: Option<RequestKey>,
    },
    /// A suspect was answered well.
    SuspectServed {
        /// Which pool.
        pool: PoolId,
        /// Which request.
        request: RequestKey,
        /// By which worker; it may have gone since.
        worker: WorkerId,
    },
    /// A sample of the queue.
    LoadSampled {
        /// Which pool.
        pool: PoolId,
        /// The sample.
        load: Load,
    },

    /// The zygote has loaded the application and can fork.
    ZygoteReady {
        /// Which.
        zygote: ZygoteId,
    },
    /// It has loaded the application, but must not fork: it has more than one thread. It is asked to leave, and the
    /// workers of its generation are executed one by one.
    ZygoteUnfit {
        /// Which.
        zygote: ZygoteId,
    },
    /// It has grown past its limit: a fresh one takes its place.
    ZygoteGrown {
        /// Which.
        zygote: ZygoteId,
    },
    /// The zygote has ended (or could not be started).
    ZygoteExited {
        /// Which.
        zygote: ZygoteId,
        /// Why.
        end: ZygoteEnd,
        /// What it had loaded, or was to load.
        files: Files,
        /// No start before so long, if it said so.
        retry_after: Option<Duration>,
    },
}
