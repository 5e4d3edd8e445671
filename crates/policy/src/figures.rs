//! The figures of one pool: what the policy needs to know of its configuration.

use alloc::vec::Vec;
use core::time::Duration;

/// Who accepts a pool's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The front does, and knows every request.
    Queue,
    /// The workers do, and the kernel's evidence is all there is.
    Direct,
}

/// Where workers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// Each is executed on its own.
    Exec,
    /// A zygote forks them.
    Zygote,
}

/// Which workers must answer the verify request before they serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// None.
    Never,
    /// Each.
    Each,
    /// The first of each generation.
    Generation,
}

/// What to do when nothing helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// One canary at a time, for ever.
    Hold,
    /// Leave when nothing of this supervisor has served for a minute.
    Exit,
}

/// The breaker's figures; meanings in interface.md, section 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerFigures {
    /// Opens at a sum of weights of so many …
    pub failures: u32,
    /// … within so long.
    pub within: Duration,
    /// After a fresh zygote, failures open it only if nothing has served since.
    pub grace: Duration,
    /// First wait of the backoff.
    pub backoff_first: Duration,
    /// Longest wait of the backoff.
    pub backoff_max: Duration,
    /// When nothing helps.
    pub then: Then,
    /// A generation is proven after so long without a failure.
    pub prove: Duration,
}

/// The figures of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Who accepts.
    pub mode: Mode,
    /// Where workers come from.
    pub launch: Launch,
    /// Who must be verified.
    pub verify: Verify,
    /// Never fewer workers; 0 is on demand.
    pub min: u32,
    /// Never more workers (surge aside); at least 1.
    pub max: u32,
    /// Growth at a time; at least 1.
    pub step: u32,
    /// How long a worker above `min` may be idle.
    pub idle: Duration,
    /// From the order to start until ready.
    pub ready_timeout: Duration,
    /// From ready until verified.
    pub verify_timeout: Duration,
    /// From the order to leave until SIGKILL.
    pub stop_timeout: Duration,
    /// A worker so old is recycled (with jitter).
    pub max_age: Option<Duration>,
    /// Whether requests that kill workers are quarantined.
    pub quarantine: bool,
    /// The breaker.
    pub breaker: BreakerFigures,
    /// Exit codes by which a worker says that its generation is broken.
    pub broken_codes: Vec<u8>,
    /// Exit codes by which a worker says that a dependency is away.
    pub unavailable_codes: Vec<u8>,
}

impl Figures {
    /// Who must be verified: in direct mode each worker serves from its first moment, and only one of each generation,
    /// which serves nobody, can be asked before.
    pub(crate) fn verify(&self) -> Verify {
        match (self.mode, self.verify) {
            (Mode::Direct, Verify::Each) => Verify::Generation,
            (_, verify) => verify,
        }
    }
}

impl Default for Figures {
    /// The defaults of interface.md, section 2, for a direct pool of four.
    fn default() -> Self {
        Figures {
            mode: Mode::Direct,
            launch: Launch::Exec,
            verify: Verify::Never,
            min: 4,
            max: 4,
            step: 4,
            idle: Duration::from_secs(60),
            ready_timeout: Duration::from_secs(30),
            verify_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(10),
            max_age: None,
            quarantine: true,
            breaker: BreakerFigures {
                failures: 10,
                within: Duration::from_secs(90),
                grace: Duration::from_secs(30),
                backoff_first: Duration::from_millis(100),
                backoff_max: Duration::from_secs(30),
                then: Then::Hold,
                prove: Duration::from_secs(60),
            },
            broken_codes: Vec::new(),
            unavailable_codes: Vec::new(),
        }
    }
}
