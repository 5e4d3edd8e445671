//! Exit classes, one word each, and what each weighs.

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It called exit with this code.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

/// Why a worker's life ended (interface.md, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It was asked to, reached a limit, or recycled itself after service.
    Recycled,
    /// The operator's will.
    Stopped,
    /// We killed it: its request passed the deadline.
    Timeout,
    /// We killed it: it ignored TERM.
    Deaf,
    /// It could not be started.
    Spawn,
    /// The kernel killed it for memory.
    Oom,
    /// Somebody outside sent SIGKILL.
    Killed,
    /// It said that its generation is broken.
    Broken,
    /// It said that a dependency is away.
    Unavailable,
    /// It failed its verify request.
    Unverified,
    /// It ended before it was ready, with any code.
    Early,
    /// A signal ended it.
    Crashed,
    /// It exited unasked.
    Exited,
    /// Not even SIGKILL removes it.
    Lost,
}

impl Class {
    /// All classes, in the order of the table that decides between them.
    pub const ALL: [Class; 14] = [
        Class::Recycled,
        Class::Stopped,
        Class::Timeout,
        Class::Deaf,
        Class::Spawn,
        Class::Oom,
        Class::Killed,
        Class::Broken,
        Class::Unavailable,
        Class::Unverified,
        Class::Early,
        Class::Crashed,
        Class::Exited,
        Class::Lost,
    ];

    /// The one with this word.
    pub fn of(word: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.word() == word)
    }

    /// The word for people, logs, metrics and status.
    pub const fn word(self) -> &'static str {
        match self {
            Class::Recycled => "recycled",
            Class::Stopped => "stopped",
            Class::Timeout => "timeout",
            Class::Deaf => "deaf",
            Class::Spawn => "spawn",
            Class::Oom => "oom",
            Class::Killed => "killed",
            Class::Broken => "broken",
            Class::Unavailable => "unavailable",
            Class::Unverified => "unverified",
            Class::Early => "early",
            Class::Crashed => "crashed",
            Class::Exited => "exited",
            Class::Lost => "lost",
        }
    }
}

/// How much a failure counts for the breaker, in quarters of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Weight(u32);

impl Weight {
    /// Counts for nothing.
    pub const NONE: Weight = Weight(0);
    /// A program that exits with 0 after ready and before it served.
    pub const QUARTER: Weight = Weight(1);
    /// One failure.
    pub const ONE: Weight = Weight(4);
    /// The generation is broken, or its program cannot be started.
    pub const THREE: Weight = Weight(12);

    /// So many whole failures.
    pub const fn whole(failures: u32) -> Weight {
        Weight(failures.saturating_mul(4))
    }

    /// So many quarters of one.
    pub const fn of_quarters(quarters: u32) -> Weight {
        Weight(quarters)
    }

    /// In quarters of a failure.
    pub const fn quarters(self) -> u32 {
        self.0
    }

    /// The sum of both.
    #[must_use]
    pub const fn plus(self, other: Weight) -> Weight {
        Weight(self.0.saturating_add(other.0))
    }

    /// Whether it counts for nothing.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Why a breaker opened, a generation was refused or rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Too many failures; the last was of this class.
    Failures(Class),
    /// Failures of workers started from files that changed on disk.
    FilesChanged(Class),
    /// The trial worker of the half-open breaker failed.
    Canary(Class),
    /// The zygote failed to load the application.
    Zygote,
    /// The operator's word.
    Operator,
    /// A newer reload took its place.
    Superseded,
    /// The pool is being stopped.
    Stopping,
}
