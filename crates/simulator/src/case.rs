//! A case: what one schedule is made of, as data, so that it can be written down, cut and replayed.

use std::time::Duration;

use steadfast_policy::class::Exit;
use steadfast_policy::figures::Figures;

/// Milliseconds of the world's own time.
pub type Millis = u64;

/// What kinds of faults a case has; laws that hold only in milder worlds ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Everything at once.
    Mixed,
    /// Good programs, killed from outside only.
    Kills,
    /// Good programs in queue mode, and at most one request that kills.
    Poison,
    /// A good program, and reloads to bad ones.
    Deploys,
    /// A direct pool whose workers serve before they die.
    Productive,
    /// Good programs; the driver stalls and the machine sleeps.
    Stalls,
    /// Good programs and operators.
    Operators,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 7] = [
        Profile::Mixed,
        Profile::Kills,
        Profile::Poison,
        Profile::Deploys,
        Profile::Productive,
        Profile::Stalls,
        Profile::Operators,
    ];

    /// Its word in a script.
    pub fn word(self) -> &'static str {
        match self {
            Profile::Mixed => "mixed",
            Profile::Kills => "kills",
            Profile::Poison => "poison",
            Profile::Deploys => "deploys",
            Profile::Productive => "productive",
            Profile::Stalls => "stalls",
            Profile::Operators => "operators",
        }
    }
}

/// One schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Of the world's small chances and of the policy's jitter.
    pub seed: u64,
    /// What kinds of faults it has.
    pub profile: Profile,
    /// The world ends here.
    pub horizon: Millis,
    /// When all faults end for good, if they do.
    pub calm: Option<Millis>,
    /// The pools, added at the start.
    pub pools: Vec<PoolCase>,
    /// What happens to them, by time.
    pub choices: Vec<Choice>,
}

/// One pool of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolCase {
    /// What the policy knows.
    pub figures: Figures,
    /// Its program's first release.
    pub release: Release,
    /// How long its program takes to become ready.
    pub boot: Millis,
    /// Its visitors.
    pub traffic: Traffic,
}

/// Visitors come in jobs: one job is so many requests that one worker handles in sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Mean time between jobs; 0: nobody comes.
    pub every: Millis,
    /// Requests in a job.
    pub requests: u32,
    /// How long a worker is busy with a job.
    pub busy: Millis,
    /// How many different requests there are.
    pub keys: u32,
}

/// What a program does: all workers started from it behave alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Works.
    Good,
    /// Ends before it is ready, in so many of a thousand starts.
    DiesEarly(u32, Exit),
    /// Becomes ready so late.
    Late(Millis),
    /// Never becomes ready.
    NeverReady,
    /// Ends so long after it was ready, whatever it does.
    DiesAfter(Millis, Exit),
    /// Ends in the middle of its n-th request.
    EveryNth(u32, Exit),
    /// Exits with 0 after its n-th request.
    Recycles(u32),
    /// Ends in a request, in so many of a thousand requests.
    Randomly(u32, Exit),
    /// Hangs in a request, in so many of a thousand jobs.
    Hangs(u32),
    /// Ignores TERM.
    IgnoresTerm,
    /// Leaves so long after TERM.
    SlowLeave(Millis),
    /// Says it before it is ready.
    SaysAtBoot(Word),
    /// Says it so long after it was ready.
    SaysAfter(Word, Millis),
    /// Fails its verify request.
    Hollow,
    /// Never answers its verify request.
    Mute,
    /// There is no such program.
    Missing,
    /// Passes `max-requests` or `max-memory` after so many requests.
    Limited(u32),
}

/// What a worker may say on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It cannot go on.
    Failed,
    /// The generation is broken.
    Broken,
    /// A dependency is away.
    Unavailable,
    /// It has done its share.
    Done,
}

/// Something that happens to the world from outside, at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// When.
    pub at: Millis,
    /// To which pool, counted from 0; ignored where it makes no sense.
    pub pool: u32,
    /// What.
    pub act: Act,
}

/// What may happen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The operator reloads, and this is the new release.
    Reload(Release),
    /// The files on disk change under the running generations.
    Files(Release),
    /// Somebody sends this signal to so many workers; 0: to all.
    Signal(u32, u8),
    /// The kernel kills one worker for memory.
    Oom,
    /// The zygote is killed.
    ZygoteKilled,
    /// One worker cannot be removed by any signal for so long; 0: for ever.
    Stuck(Millis),
    /// The host refuses new processes for so long.
    HostRefuses(Millis),
    /// The driver gets no turn for so long while the world goes on.
    Stall(Millis),
    /// The whole machine sleeps for so long.
    Sleep(Millis),
    /// This request kills every worker that gets it; 0: none does.
    Poison(u32),
    /// A worker is a manager, and one of its own workers dies, with so many others alive; whom it starts for so long dies, too.
    Children(u32, Millis),
    /// Visitors come otherwise.
    Traffic(Traffic),
    /// The operator stops the pool.
    Stop,
    /// The operator starts it.
    Start,
    /// The operator restarts it.
    Restart,
    /// The operator scales it.
    Scale(u32, u32),
    /// The operator drains the worker in this slot.
    Drain(u32),
    /// The operator kills the worker in this slot.
    Kill(u32),
    /// The operator closes the breaker.
    Reset,
    /// The operator opens it.
    Trip,
    /// The operator empties the quarantine.
    Clear,
    /// The pool leaves the configuration.
    Remove,
    /// Stop everything.
    Shutdown,
    /// Stop everything at once.
    Hasten,
    /// A fact that is stale, double or out of order, of this kind.
    Lie(u32),
}

impl Act {
    /// Whether an operator did it.
    pub fn is_operators(self) -> bool {
        matches!(
            self,
            Act::Reload(_)
                | Act::Stop
                | Act::Start
                | Act::Restart
                | Act::Scale(..)
                | Act::Drain(_)
                | Act::Kill(_)
                | Act::Reset
                | Act::Trip
                | Act::Clear
                | Act::Remove
                | Act::Shutdown
                | Act::Hasten
        )
    }
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> Millis {
    duration.as_millis() as Millis
}
