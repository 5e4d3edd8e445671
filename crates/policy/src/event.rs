//! Facts, past tense: everything that the policy is ever told.

use core::time::Duration;

use crate::class::{Class, Exit, Reason, Weight};
use crate::figures::Figures;
use crate::ids::{GenerationId, PoolId, RequestKey, SlotId, WorkerId, ZygoteId};
use crate::time::Instant;

/// Whether the program's files were, at a start, those that its generation had noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Files {
    /// Unchanged since the generation began (or since they were last noted).
    #[default]
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

/// The state of a pool's queue, as the front saw it; in direct mode, as the kernel showed it.
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
    /// The worker that has been idle longest, and since when. In direct mode one that is idle now and may be let go.
    pub longest_idle: Option<(WorkerId, Instant)>,
}

/// A pool that is at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PoolFacts {
    /// The generation that serves.
    pub generation: GenerationId,
    /// The last number of a generation.
    pub last_generation: GenerationId,
    /// Bounds of the number of workers.
    pub min: u32,
    /// The same.
    pub max: u32,
    /// How many are wanted.
    pub target: u32,
    /// It is meant to run.
    pub is_running: bool,
    /// Visitors get the fallback.
    pub has_fallback: bool,
    /// When the generation began.
    pub started: Instant,
    /// It has run long enough without a failure.
    pub proven: bool,
    /// A worker of it has passed its verify request.
    pub verified: bool,
    /// Its zygote must not fork.
    pub unfit: bool,
    /// What its next start will most probably be made of.
    pub files: Files,
    /// Requests that it has served.
    pub served: u64,
    /// Those that no death by a request has used up yet.
    pub credit: u64,
    /// Unasked ends that no start has repaired yet.
    pub owed: u32,
    /// Tokens for repairs, in billionths, what service may add to them, and when that was so.
    pub tokens: (u64, u64, Instant),
    /// No start before this: the host or a dependency is waited for.
    pub retry_at: Instant,
    /// Since when nothing serves.
    pub unserved: Option<Instant>,
    /// The last step of growth.
    pub growth: u32,
    /// The last sample of the queue.
    pub load: Load,
}

/// A worker that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerFacts {
    /// Its seat.
    pub slot: SlotId,
    /// What it was made of.
    pub files: Files,
    /// The zygote that forked it.
    pub zygote: Option<ZygoteId>,
    /// Since when it has been ready.
    pub since: Instant,
    /// When it is too old.
    pub age_limit: Option<Instant>,
}

/// A request under suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuspectFacts {
    /// Workers that it has killed.
    pub kills: u32,
    /// Those within a minute of the last.
    pub recent: u32,
    /// When the last one died.
    pub last: Instant,
    /// Answers of workers that survived it since.
    pub successes: u32,
    /// How often it has been quarantined.
    pub times: u32,
    /// Kept from workers until then.
    pub until: Option<Instant>,
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
    /// It is a manager, and stands still: one of the workers that it has started itself has died before it could take a
    /// request.
    ChildDied {
        /// The manager.
        worker: WorkerId,
        /// What the dead one was made of.
        files: Files,
        /// So many others of its own live, and can take requests.
        living: u32,
    },
    /// It is a manager, and goes on: whom it has started since it was let can take a request, or it wants nobody.
    ChildReady {
        /// The manager.
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
    /// A sample of the queue; in direct mode the answer to `WatchNeed` and `SampleLoad`.
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

    /// So many names of workers and zygotes have been given: told first to a policy that takes over.
    NamesMinted {
        /// The last one.
        last: u64,
    },
    /// A pool is taken over as it is; nothing of it starts or ends by that, nor by the facts that follow about it.
    PoolAdopted {
        /// Which.
        pool: PoolId,
        /// Its figures.
        figures: Figures,
        /// How it is.
        facts: PoolFacts,
    },
    /// Of a pool that is taken over: what its failures have led to.
    AccountAdopted {
        /// Which.
        pool: PoolId,
        /// Of workers made of these.
        files: Files,
        /// Some worker has served.
        served: bool,
        /// Failures in a row.
        steps: u32,
        /// When the last one was.
        last: Instant,
        /// No start before this.
        not_before: Instant,
    },
    /// Of a pool that is taken over: a failure that may still count.
    FailureAdopted {
        /// Which.
        pool: PoolId,
        /// Of a worker made of these.
        files: Files,
        /// When.
        at: Instant,
        /// How much it weighs.
        weight: Weight,
    },
    /// Of a pool that is taken over: its zygote, which can fork.
    ZygoteAdopted {
        /// Which.
        zygote: ZygoteId,
        /// Whose.
        pool: PoolId,
    },
    /// Of a pool that is taken over: a worker that serves.
    WorkerAdopted {
        /// Which.
        worker: WorkerId,
        /// Whose.
        pool: PoolId,
        /// How it is.
        facts: WorkerFacts,
        /// Requests that it has served.
        served: u64,
    },
    /// Of a pool that is taken over: its breaker is open.
    BreakerAdopted {
        /// Whose.
        pool: PoolId,
        /// Single starts go on.
        throttled: bool,
        /// The next trial, or the next start.
        until: Instant,
        /// The wait that leads there.
        wait: Duration,
        /// Why it opened.
        reason: Reason,
    },
    /// Of a pool that is taken over: a request under suspicion.
    SuspectAdopted {
        /// Whose.
        pool: PoolId,
        /// Which.
        request: RequestKey,
        /// What is held against it.
        facts: SuspectFacts,
    },
    /// Of a pool that is taken over: how many workers have ended like this.
    ExitsAdopted {
        /// Whose.
        pool: PoolId,
        /// How.
        class: Class,
        /// So many.
        count: u64,
    },
}
