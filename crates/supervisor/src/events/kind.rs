//! The kinds of events, their names, levels and journal ids: one table.

/// How loud an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For developers.
    Debug,
    /// Of use when one asks.
    Info,
    /// Worth knowing.
    Notice,
    /// May need a person.
    Warning,
    /// Needs a person.
    Error,
}

impl Level {
    /// The level of syslog(3).
    pub fn priority(self) -> u8 {
        match self {
            Level::Debug => 7,
            Level::Info => 6,
            Level::Notice => 5,
            Level::Warning => 4,
            Level::Error => 3,
        }
    }

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Notice => "notice",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

macro_rules! kinds {
    ($($variant:ident $name:literal $level:ident $id:literal $doc:literal;)*) => {
        /// What an event is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $doc] $variant,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant,)*];

            /// The name in logs and in the interface.
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$variant => $name,)*
                }
            }

            /// The level unless an event says otherwise.
            pub fn level(self) -> Level {
                match self {
                    $(Kind::$variant => Level::$level,)*
                }
            }

            /// The journal's MESSAGE_ID: random once, the same for ever.
            pub fn message_id(self) -> &'static str {
                match self {
                    $(Kind::$variant => $id,)*
                }
            }
        }
    };
}

kinds! {
    SupervisorStarted "supervisor-started" Notice "0e26a08355c3476e84898cc9204473f2" "The supervisor begins.";
    SupervisorReady "supervisor-ready" Notice "676a5c58091b43bda405780dd5c56dfe" "Every pool serves, or has been tried.";
    SupervisorReloaded "supervisor-reloaded" Notice "e100a30ffde84fc3ae9b32651bc701d5" "The configuration was read again.";
    SupervisorRefused "supervisor-refused" Error "1b9d658fd82449f092a286666d306ec9" "A new configuration was refused; the old one stays.";
    SupervisorUpgraded "supervisor-upgraded" Notice "b354e6bdd6ba4dc29614a94fd0da1458" "Another binary has taken over.";
    SupervisorStopping "supervisor-stopping" Notice "6e2fcabe145d45f09594439866809aed" "Everything is being stopped.";
    SupervisorStopped "supervisor-stopped" Notice "af6489e43966458c975ed60b324bb489" "Nothing lives any more.";
    SupervisorLate "supervisor-late" Warning "cfacd36797784ae09602882580aa4157" "A turn came so late that deadlines were moved.";
    SupervisorWarned "supervisor-warned" Warning "91690225b64b495f8515e99fac992989" "Something of the supervisor itself needs a look.";
    PoolServing "pool-serving" Notice "29e41dfbfb4049e68f078c765d9836d2" "The pool serves.";
    PoolDegraded "pool-degraded" Warning "8d47f852bf1649c0a7a3c70f78a49cd3" "It serves, but not as it should.";
    PoolDown "pool-down" Error "cb7108a43a6f4cbeaf1162905c846bbd" "Nothing serves.";
    PoolScaled "pool-scaled" Notice "522d058ff6c8448a91defd187426c159" "Its bounds changed.";
    PoolStopped "pool-stopped" Notice "5a1c192a95d845e59f20604ddfe920b5" "It has stopped.";
    PoolStalled "pool-stalled" Warning "f6fad94cd0cb485f9b5af6059c52d3f2" "Most of its workers passed their deadline at once.";
    PoolThrottled "pool-throttled" Warning "79da870d1d034f49b8fda9d9501fba4f" "The host refuses new processes.";
    PoolRebound "pool-rebound" Warning "56996aa4cda54e978177aaeabec3aee9" "A socket's path was lost and bound again.";
    GenerationStarted "generation-started" Notice "d81943787d7646ce8a7b18b0bc306224" "A generation begins.";
    GenerationVerified "generation-verified" Notice "b5fed350e0ce48a0a1bbc419e37b594b" "Its first worker was admitted.";
    GenerationRefused "generation-refused" Error "c09cd1a3b70849d0b999a2feba079a50" "It failed before anybody saw it.";
    GenerationServing "generation-serving" Notice "d31cba85b8494408a1339108750c1113" "All slots are its own.";
    GenerationProven "generation-proven" Notice "799e84ac85b44650a2a5691e18bc9bfd" "It has run long enough without a failure.";
    GenerationRolledBack "generation-rolled-back" Error "60eb414d946f47d788f3653c9a53f172" "It failed in service; its predecessor takes over.";
    GenerationRetired "generation-retired" Info "fd5cb552ac16410389a4d37c4239e6b6" "Nothing is kept of it.";
    ZygoteStarted "zygote-started" Info "a2f4552b20034607aa93017f982295c7" "A zygote is being started.";
    ZygoteReady "zygote-ready" Info "5f6822bea7e14688aa0932b6abf1fe3d" "It can fork.";
    ZygoteExited "zygote-exited" Warning "a9e931166def4fdfb0690bb7af0fbe85" "It is gone.";
    ZygoteWarned "zygote-warned" Warning "f1c1a6a8a3f34a0fb0a7c8b4f8a5d2e3" "Something that its workers would share by accident.";
    WorkerStarted "worker-started" Info "ec5f06ba8e6a42cf988b9f09803422f6" "A worker is being started.";
    WorkerReady "worker-ready" Info "9f6ae4d02cca41649ca5d1336ccdbc88" "It is ready.";
    WorkerVerified "worker-verified" Info "3dc4f88af84647b98c833e8d889725b0" "It passed its verify request.";
    WorkerNested "worker-nested" Warning "f1412f4b26604bbe8ddb5342783502ab" "It is a manager that nobody has asked for.";
    WorkerResting "worker-resting" Warning "476ae4414fe34132b12f486a0239bc61" "It is a manager whose own workers die, and stands still for a while.";
    WorkerRecycled "worker-recycled" Info "d6c10367a4d543ff9dcbb7223e9a6637" "It reached a limit and is asked to leave.";
    WorkerExited "worker-exited" Warning "1aa05fa87ea14f0e847bdcaa09634de4" "It is gone.";
    WorkerKilled "worker-killed" Warning "47ded933687b452eaded9cffcaac4116" "We sent it SIGKILL.";
    WorkerOutput "worker-output" Info "53297d0be5a744d3befb9756c8d20fe3" "It wrote something.";
    WorkerStatus "worker-status" Info "6b523e26fe53445097f0368e2316846f" "It said how it is on its link.";
    WorkerWarned "worker-warned" Warning "d88e19b714d945ef9c5c5da519cdc982" "It broke a rule of its link.";
    BreakerOpened "breaker-opened" Error "f0f901c1fd014c4185d80724a3f740b4" "Nothing is respawned but one canary at a time.";
    BreakerHalfOpen "breaker-half-open" Notice "95599839c9bb4c469ac68c05f589a37b" "A canary runs.";
    BreakerClosed "breaker-closed" Notice "df04b74219e84084a45ec59256356a26" "All is well again.";
    RequestSlow "request-slow" Warning "33416f2481c44552963f23d97bbfa306" "A request takes long.";
    RequestTimeout "request-timeout" Warning "31af97fda16246a3a4d28b8729f154df" "A request passed its deadline.";
    RequestRetried "request-retried" Info "8c148dafd0484294812e5584d2bace22" "A request was given to a second worker.";
    RequestQuarantined "request-quarantined" Error "28772c88caa04a0fa3e0f2ffde7ac58d" "A request that kills workers is kept from them.";
    RequestShed "request-shed" Warning "1e91e3fa4d1b48c7bdec871d07162038" "A request was turned away.";
    RequestBadAnswer "request-bad-answer" Warning "7f54fb7d0c73481ba077c9f8df015863" "A worker's answer was none.";
    RequestCut "request-cut" Warning "ca09061ef59943718e2bccc9d3ebfda7" "A worker died in the middle of an answer.";
    FrontStarted "front-started" Notice "d73d728ddbc84b0ca307e2ebe4f1bba2" "The front begins.";
    FrontExited "front-exited" Error "4b00a7747ed0460fad73038ba6578247" "The front is gone.";
    FrontOutput "front-output" Info "761b46be87ec42549ea542e00c0bebe0" "The front wrote something.";
    FrontWarned "front-warned" Warning "0512b1f2d09a4d118843646701e269b7" "Something about the front needs a look.";
    GuardMatched "guard-matched" Notice "f8a6cea3480545f8a38bcdfb1282f24c" "The guard saw a line that it looks for.";
    GuardActed "guard-acted" Warning "f296c6b59bd24505b63942e8e1fe4ed0" "The guard acted.";
    GuardIgnored "guard-ignored" Notice "e76c1d64f7ed43258badb8a0d2ddd410" "The guard saw enough lines and did nothing.";
    GuardGaveUp "guard-gave-up" Error "0abc550b6bb046689c43b6527bf9eadd" "The guard's budget is spent.";
    GuardWarned "guard-warned" Warning "5c3bb1a9d2e94c1f8f0de7a06d4b9f61" "Something of the guard itself needs a look.";
}

impl Kind {
    /// Whether it is never dropped: what decides about a pool, and what the supervisor says of itself.
    pub fn is_kept(self) -> bool {
        ["breaker-", "pool-", "generation-", "supervisor-"].iter().any(|family| self.name().starts_with(family))
    }

    /// Whether it is about one request.
    pub fn is_of_request(self) -> bool {
        self.name().starts_with("request-")
    }

    /// Whether each is told by itself while there is room: what answers an operator's order (he sees no other answer to a
    /// signal), what becomes of a deploy, of which two may follow each other at once for different reasons, and what the
    /// guard does and why not.
    pub fn is_told_each(self) -> bool {
        let is_of_guard = matches!(self, Kind::GuardActed | Kind::GuardIgnored | Kind::GuardGaveUp | Kind::GuardWarned);
        let is_answer = matches!(self, Kind::SupervisorRefused | Kind::SupervisorReloaded);
        is_answer || is_of_guard || self.name().starts_with("generation-")
    }

    /// Whether it tells of a pool as a whole or of us all, and not of one worker or one request.
    pub fn is_of_state(self) -> bool {
        ["pool-", "generation-", "breaker-", "supervisor-"].iter().any(|begin| self.name().starts_with(begin))
    }

    /// Whether the ring remembers it: a worker's own lines would push everything else out.
    pub fn is_remembered(self) -> bool {
        !matches!(self, Kind::WorkerOutput | Kind::FrontOutput)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_ids_are_well_formed_and_unique() {
        let names: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        let ids: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.message_id()).collect();
        assert_eq!((names.len(), ids.len()), (Kind::ALL.len(), Kind::ALL.len()));
        assert!(names.iter().all(|name| { name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') }));
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }

    #[test]
    fn what_decides_about_a_pool_is_kept() {
        assert!(Kind::BreakerHalfOpen.is_kept() && Kind::PoolDown.is_kept() && Kind::GenerationRolledBack.is_kept());
        assert!(!Kind::WorkerExited.is_kept() && !Kind::WorkerOutput.is_kept());
    }
}
