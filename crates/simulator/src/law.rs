//! The laws that the policy must keep, by name and sentence.

use std::fmt;

macro_rules! laws {
    ($($name:ident $word:literal $sentence:literal,)*) => {
        /// A law.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Law { $(#[doc = $sentence] $name,)* }

        impl Law {
            /// All laws.
            pub const ALL: &'static [Law] = &[$(Law::$name,)*];

            /// Its name for people and scripts.
            pub fn word(self) -> &'static str {
                match self { $(Law::$name => $word,)* }
            }

            /// What it says.
            pub fn sentence(self) -> &'static str {
                match self { $(Law::$name => $sentence,)* }
            }
        }
    };
}

laws! {
    OnePerSlot "one-per-slot" "Never two workers in a slot, but for one whom not even KILL removed.",
    LiveBound "live-bound" "Live workers are at most max and surge, and two more for lost ones.",
    FreshNames "fresh-names" "A worker's name is never used twice.",
    LiveNames "live-names" "Every order names a worker that lives as far as anybody knows.",
    Prepared "prepared" "A worker is started only from a generation that was prepared.",
    Barred "barred" "Nothing is started from a refused, rolled back or retired generation.",
    RepairRate "repair-rate" "Repairs in any 10 s are at most max + 2 + 10 * max(1, max/10) + served/20.",
    StartRate "start-rate" "A pool in which nothing serves is not started over and over.",
    ManagersRest "managers-rest" "A manager goes on only after a worker of its own has died, and not over and over.",
    RestsEnd "rests-end" "A manager that rests is let go on when it was told, unless it is to leave.",
    PlannedBound "planned-bound" "Planned starts that are not ready yet are bounded, and the bound doubles as they become ready.",
    NoteRate "note-rate" "Lines about breaker and generations are at most 30 in any 60 s.",
    LastServing "last-serving" "A voluntary stop never takes the last serving worker.",
    BelowMin "below-min" "A pool that gets smaller stays at its least size.",
    FallbackOn "fallback-on" "With the breaker open and nothing serving, visitors get the fallback.",
    FallbackOff "fallback-off" "No fallback while a worker serves.",
    RollbackOnce "rollback-once" "At most one rollback for each reload.",
    RollbackCause "rollback-cause" "No rollback without failures of the generation itself.",
    Recovers "recovers" "200 s after the last fault the pool is at its size and the breaker closed.",
    PoisonOpens "poison-opens" "One poisonous request never opens the breaker.",
    KillsOpen "kills-open" "Kills from outside never open the breaker.",
    OpenCause "open-cause" "The breaker opens only for failures that weigh enough.",
    OpenLimit "open-limit" "The breaker's wait is at most a minute, and it does not outlive its deadline.",
    Throttle "throttle" "A direct generation that has served is started at least every 5 s while its workers serve before they die.",
    CanaryAlone "canary-alone" "While the breaker is open there is one canary at a time.",
    DeadlineAhead "deadline-ahead" "The next deadline lies in the future.",
    NoLivelock "no-livelock" "The policy wakes and orders a bounded number of times a second.",
    NoStartAfterStop "no-start-after-stop" "After a stop nothing is started.",
    StopEnds "stop-ends" "A stop ends by its deadline.",
    KillTime "kill-time" "KILL comes at a deadline, not before.",
    TermAgain "term-again" "TERM comes again each second until KILL.",
    KillComes "kill-comes" "KILL comes at the deadline.",
    ReadyTimeout "ready-timeout" "A worker that is not ready in time does not stay.",
    StallKills "stall-kills" "A stall of any length kills nobody.",
    VerifiedFirst "verified-first" "A worker serves only after it was verified, where that is wanted.",
    ClassTrue "class-true" "An end gets the class that the facts say.",
    DeployDown "deploy-down" "A broken deploy never takes the site down.",
    Growth "growth" "When somebody waits the pool grows within bounded time.",
    QuarantineCause "quarantine-cause" "Only a request that killed two workers by their own doing is quarantined.",
    Memory "memory" "What the policy remembers is bounded.",
    CountsAgree "counts-agree" "The policy counts as many workers as the facts say.",
}

/// A law was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which.
    pub law: Law,
    /// When, on the policy's clock, in nanoseconds.
    pub at: u64,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, sentence) = (self.law.word(), self.law.sentence());
        let (seconds, millis) = (self.at / 1_000_000_000, self.at / 1_000_000 % 1000);
        write!(f, "{word} at {seconds}.{millis:03} s: {sentence} {}", self.detail)
    }
}
