//! Orders, imperative: everything that the policy ever wants done.

use crate::ids::{GenerationId, PoolId, RequestKey, SlotId, WorkerId, ZygoteId};
use crate::note::Note;
use crate::time::Instant;

/// Where a worker comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Execute the generation's program.
    Exec,
    /// Let this zygote fork it.
    Zygote(ZygoteId),
}

/// An order. The driver carries out orders in the sequence given; each answer comes back as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Pin what the generation is made of (configuration, directory, executable) under this number.
    PrepareGeneration {
        /// Which pool.
        pool: PoolId,
        /// The new number.
        generation: GenerationId,
    },
    /// Nothing will ever be started from this generation again.
    RetireGeneration {
        /// Which pool.
        pool: PoolId,
        /// Which generation.
        generation: GenerationId,
    },
    /// The files on disk have proved good: note them as the generation's own.
    NoteFiles {
        /// Which pool.
        pool: PoolId,
        /// Which generation.
        generation: GenerationId,
    },
    /// Start a worker. Answered by `WorkerSpawned` or `SpawnFailed`.
    StartWorker {
        /// Its name.
        worker: WorkerId,
        /// Which pool.
        pool: PoolId,
        /// Its seat.
        slot: SlotId,
        /// What it is made of.
        generation: GenerationId,
        /// Where it comes from.
        source: Source,
        /// Direct mode: it accepts on a socket of its own, is verified there, and serves nobody.
        trial: bool,
    },
    /// Send it the verify request. Answered by `WorkerVerified` or `VerificationFailed`.
    VerifyWorker {
        /// Which.
        worker: WorkerId,
    },
    /// Let it serve visitors (in direct mode it does so by itself).
    AdmitWorker {
        /// Which.
        worker: WorkerId,
    },
    /// Give it nothing more; answered by `WorkerDrained` when nothing is in its hands.
    DrainWorker {
        /// Which.
        worker: WorkerId,
    },
    /// SIGTERM.
    TerminateWorker {
        /// Which.
        worker: WorkerId,
    },
    /// SIGKILL to it and its process group (and cgroup, where delegated).
    KillWorker {
        /// Which.
        worker: WorkerId,
    },
    /// Let a manager go on that stands still: it may start one of its own workers, and not another one before that is judged.
    /// Answered by `ChildReady` or `ChildDied`.
    ResumeManager {
        /// Which.
        worker: WorkerId,
    },
    /// Start a zygote. Answered by `ZygoteReady` or `ZygoteExited`.
    StartZygote {
        /// Its name.
        zygote: ZygoteId,
        /// Which pool.
        pool: PoolId,
        /// What it loads.
        generation: GenerationId,
    },
    /// Ask the zygote to leave.
    QuitZygote {
        /// Which.
        zygote: ZygoteId,
    },
    /// SIGKILL to the zygote and its process group.
    KillZygote {
        /// Which.
        zygote: ZygoteId,
    },
    /// Whether visitors get the fallback at once (queue mode).
    SetFallback {
        /// Which pool.
        pool: PoolId,
        /// On or off.
        on: bool,
    },
    /// Tell the load when somebody waits at the pool's sockets, once, by `LoadSampled` (direct mode). To order it twice is to
    /// order it once.
    WatchNeed {
        /// Which pool.
        pool: PoolId,
    },
    /// Look at the load now (direct mode). Answered by `LoadSampled`.
    SampleLoad {
        /// Which pool.
        pool: PoolId,
    },
    /// Count the successes of this request and tell them as `SuspectServed`.
    WatchRequest {
        /// Which pool.
        pool: PoolId,
        /// Which request.
        request: RequestKey,
    },
    /// Answer this request in the worker's place until then; after that let one through as a trial.
    QuarantineRequest {
        /// Which pool.
        pool: PoolId,
        /// Which request.
        request: RequestKey,
        /// Until when.
        until: Instant,
    },
    /// Forget this request: neither watched nor quarantined.
    ReleaseRequest {
        /// Which pool.
        pool: PoolId,
        /// Which request.
        request: RequestKey,
    },
    /// The pool has stopped and left the configuration: close its sockets, forget it.
    ForgetPool {
        /// Which.
        pool: PoolId,
    },
    /// Tell people.
    Report(Note),
    /// Nothing has served for too long and a pool has `then = "exit"`: stop everything, leave with 69.
    Leave {
        /// The pool that gave up.
        pool: PoolId,
    },
    /// Everything has stopped: leave.
    Finish,
}
