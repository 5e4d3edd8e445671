//! The rules of the policy by name, so that a test build can switch single ones off.
//!
//! A rule that nothing can switch off cannot be shown to be tested.

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule of the policy.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule { $($(#[$doc])* $name,)* }

        impl Rule {
            /// All rules.
            pub const ALL: &'static [Rule] = &[$(Rule::$name,)*];
        }
    };
}

rules! {
    /// A worker that is not ready at its deadline is killed.
    ReadyTimeout,
    /// A worker that is not verified at its deadline is killed.
    VerifyTimeout,
    /// A worker is verified before it is admitted.
    VerifyFirst,
    /// A manager whose own workers die stands still, longer each time.
    ManagerRests,
    /// … and is dismissed when none of them lives.
    BarrenReplaced,
    /// A breaker does not close while a manager stands still.
    RestingNotWell,
    /// A worker that has not left at its deadline is killed.
    StopDeadline,
    /// TERM is sent again each second.
    TermAgain,
    /// A worker that SIGKILL does not remove is lost, and its slot is lent once.
    LostLent,
    /// At most two slots are lent.
    LostBound,
    /// Repairs draw on the token bucket.
    RepairBucket,
    /// Served requests refill the bucket, but only up to its greatest rate.
    RepairRateBound,
    /// Served requests refill the bucket at all.
    RepairFromService,
    /// Planned starts are bounded by those that are not ready yet.
    PlannedBound,
    /// A start after failures waits, longer each time.
    Backoff,
    /// Half of each wait is jitter.
    BackoffJitter,
    /// The first failure after success is repaired at once.
    BackoffFirstFree,
    /// Quiet time forgives steps of the backoff.
    BackoffForgiven,
    /// Served requests forgive all steps of the backoff.
    BackoffServed,
    /// … served by workers like those that are to be started, and not by those of another zygote.
    OthersForgiveNothing,
    /// Each generation has a backoff of its own.
    BackoffOwn,
    /// A host that refuses processes is asked less and less often.
    HostBackoff,
    /// A host that refuses processes is nobody's failure.
    HostBlameless,
    /// SIGKILL from outside is nobody's failure.
    KilledBlameless,
    /// A worker whose dependency is away is not to blame.
    UnavailableBlameless,
    /// Starts wait longer while a dependency is away.
    UnavailableWait,
    /// Exit 0 after service is the program's own recycling.
    SelfRecycling,
    /// Idle workers ended by one signal within two seconds are one failure.
    MassDeathOnce,
    /// A productive death in direct mode weighs nothing.
    ProductiveDeath,
    /// The word `broken` acts at once.
    BrokenAtOnce,
    /// The breaker opens at its limit.
    BreakerOpens,
    /// A generation that has not served opens it early.
    BreakerOpensEarly,
    /// Failures older than the window do not count.
    WindowSlides,
    /// While the breaker is open only canaries are started.
    BreakerHolds,
    /// The wait of the open breaker doubles with each failed trial.
    BreakerDoubles,
    /// The wait of the open breaker has an upper bound.
    BreakerBounded,
    /// The open breaker of a direct pool that has served throttles instead of holding.
    BreakerThrottles,
    /// One canary at a time.
    CanaryAlone,
    /// A canary must serve 20 requests or 30 seconds.
    CanaryProbation,
    /// After the canary, slots are refilled 1, 2, 4 …
    RefillDoubling,
    /// The last worker that serves is never retired.
    LastServing,
    /// With the breaker open and nothing serving, visitors get the fallback.
    Fallback,
    /// The fallback ends with the first worker that serves.
    FallbackEnds,
    /// A pool with `then = "exit"` leaves when nothing has served.
    LeaveWhenDown,
    /// … but not while another pool serves.
    LeaveOnlyAlone,
    /// A candidate that fails before admission is refused.
    CandidateRefused,
    /// A candidate goes first alone.
    CandidateCanary,
    /// A new worker is admitted before an old one drains.
    SurgeFirst,
    /// At most max(1, target/4) more than wanted during a rollout.
    SurgeBound,
    /// New workers soak before the next surge.
    Soak,
    /// A generation that fails in service goes back.
    Rollback,
    /// At most one rollback per reload.
    RollbackOnce,
    /// No rollback while the old generation fails too.
    RollbackNotEnvironment,
    /// What one generation's workers die of while another's answer it is that generation's fault.
    OutlivedRequest,
    /// A rollback lets requests go that only the bad generation's workers died of.
    RollbackAcquits,
    /// The predecessor is kept until the generation is proven.
    PredecessorKept,
    /// A failure puts off the proof.
    ProofPutOff,
    /// Failures of changed files are not charged to the generation.
    ChangedFilesApart,
    /// Planned recycling rests while the files differ.
    ChangedFilesRest,
    /// A fresh zygote is tried before holding.
    FreshZygote,
    /// At most two fresh zygotes a minute, 30 s apart.
    FreshZygoteBound,
    /// After a fresh zygote, failures open the breaker only if nothing has served since.
    Grace,
    /// A zygote that has died is loaded again at once, also while no worker is missing.
    ZygoteKept,
    /// A zygote that is not ready at its deadline is killed.
    ZygoteTimeout,
    /// The pool grows when somebody waits.
    Growth,
    /// Growth stops at `max`.
    GrowthBound,
    /// Growth doubles while the need lasts.
    GrowthDoubles,
    /// Workers idle too long leave, never below `min`.
    Shrink,
    /// A direct pool grows by a need that two looks have seen.
    NeedLasts,
    /// Nobody looks at a direct pool's load while what was wanted has not come yet.
    LookRests,
    /// Only so many workers of a direct pool are too many as were idle at every look of a window.
    SpareWindow,
    /// A request that kills workers is quarantined.
    Quarantine,
    /// Successes since its deaths acquit a suspect.
    SuspectAcquitted,
    /// Only deaths by the worker's own doing blame a request.
    BlameOwnDoing,
    /// At most 64 suspects.
    SuspectBound,
    /// Quarantine doubles up to ten minutes.
    QuarantineDoubles,
    /// Deaths by a request weigh nothing while ten others succeed for each.
    PoisonWeightless,
    /// A late turn moves deadlines before anybody is judged.
    StallShift,
    /// Many workers overdue at once are killed one a second.
    OverduePaced,
    /// Limits that recycle have jitter, and only some workers are away at once.
    RecycleStaggered,
    /// A planned leave waits for its ready successor.
    SuccessorFirst,
    /// After stop nothing is started.
    NoStartAfterStop,
}

/// Which rules hold; all of them outside a test build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rules {
    #[cfg(feature = "mutants")]
    off: u128,
}

impl Rules {
    /// All rules hold.
    pub const fn all() -> Rules {
        Rules {
            #[cfg(feature = "mutants")]
            off: 0,
        }
    }

    /// All rules but this one.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub const fn without(self, rule: Rule) -> Rules {
        Rules { off: self.off | 1 << rule as u32 }
    }

    /// Whether the rule holds.
    #[inline]
    pub(crate) const fn hold(self, rule: Rule) -> bool {
        #[cfg(feature = "mutants")]
        {
            self.off & (1 << rule as u32) == 0
        }
        #[cfg(not(feature = "mutants"))]
        {
            let _ = rule;
            true
        }
    }
}
