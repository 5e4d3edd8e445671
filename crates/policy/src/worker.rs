//! One worker's life as the policy sees it: its state, why it leaves, and what it has said.

use crate::class::Weight;
use crate::event::Files;
use crate::ids::{WorkerId, ZygoteId};
use crate::note::{Place, Purpose};
use crate::time::Instant;

/// Theory of operation. A life goes one way through these states and may skip any of them:
///
/// `Starting → Verifying → Ready → Draining → Stopping → Killed → (Lost)`
///
/// Each waiting state has its deadline; `Ready` waits for nothing but its age. Only `Pool::alter` changes a state,
/// so that tallies and the index of deadlines cannot drift from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Ordered; fires when it is not ready in time.
    Starting { deadline: Instant },
    /// Its verify request is on the way; fires when the answer is late.
    Verifying { deadline: Instant },
    /// It serves; fires when it is too old.
    Ready { age_limit: Option<Instant> },
    /// It gets nothing more; fires when TERM must not wait for the end of its request any longer.
    Draining { term: Instant, deadline: Instant },
    /// It was sent TERM; fires to send it again, and at the deadline to send KILL.
    Stopping { again: Instant, deadline: Instant },
    /// It was sent KILL; fires when even that did not help.
    Killed { deadline: Instant },
    /// The kernel does not let go of it.
    Lost,
}

impl State {
    /// When this state fires next.
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            State::Starting { deadline } | State::Verifying { deadline } | State::Killed { deadline } => Some(deadline),
            State::Ready { age_limit } => age_limit,
            State::Draining { term, deadline } => Some(term.min(deadline)),
            State::Stopping { again, deadline } => Some(again.min(deadline)),
            State::Lost => None,
        }
    }

    /// This state with its deadlines moved by `late`.
    pub(crate) fn moved(self, late: core::time::Duration) -> State {
        let mv = |at: Instant| at.after(late);
        match self {
            State::Starting { deadline } => State::Starting { deadline: mv(deadline) },
            State::Verifying { deadline } => State::Verifying { deadline: mv(deadline) },
            State::Ready { age_limit } => State::Ready { age_limit: age_limit.map(mv) },
            State::Draining { term, deadline } => State::Draining { term: mv(term), deadline: mv(deadline) },
            State::Stopping { again, deadline } => State::Stopping { again: mv(again), deadline: mv(deadline) },
            State::Killed { deadline } => State::Killed { deadline: mv(deadline) },
            State::Lost => State::Lost,
        }
    }

    /// Not ready yet, and meant to become so.
    pub(crate) fn is_pending(self) -> bool {
        matches!(self, State::Starting { .. } | State::Verifying { .. })
    }

    /// It serves.
    pub(crate) fn is_ready(self) -> bool {
        matches!(self, State::Ready { .. })
    }
}

/// Why we made a worker leave; the first reason stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// A limit, its own wish, a newer generation, too many of them, or the operator's drain.
    Recycled,
    /// The operator's stop or kill.
    Stopped,
    /// Its request passed the deadline; `true` when its pool was stalled as a whole.
    Timeout { stalled: bool },
    /// It was not ready in time.
    Unready,
    /// It failed its verify request.
    Unverified,
    /// It said that it cannot go on.
    Word,
}

/// Whether a manager may start workers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// As it likes.
    No,
    /// Not before this: it stands still.
    Until(Instant),
    /// One, which is judged first.
    Trying,
}

/// What a worker has said of its own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Nothing.
    Silent,
    /// It cannot go on.
    Failed,
    /// Its generation is broken.
    Broken,
    /// A dependency is away.
    Unavailable,
}

/// One worker.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) place: Place,
    pub(crate) purpose: Purpose,
    pub(crate) state: State,
    pub(crate) files: Files,
    /// It is there to be verified on a socket of its own, and serves nobody (direct mode).
    pub(crate) trial: bool,
    /// The zygote that forked it.
    pub(crate) zygote: Option<ZygoteId>,
    /// When its start was ordered.
    pub(crate) ordered: Instant,
    /// Since when it is in its state.
    pub(crate) since: Instant,
    /// Since when it was ready, if ever.
    pub(crate) ready: Option<Instant>,
    /// Requests that it is known to have served.
    pub(crate) served: u64,
    pub(crate) word: Word,
    /// Its `broken` has been acted upon: it weighed so much, and was (or was not) the first failure since all was well.
    pub(crate) charged: Option<(Weight, bool)>,
    pub(crate) leave: Option<Leave>,
    /// It was sent KILL because TERM did not help.
    pub(crate) deaf: bool,
    /// It serves until a successor is ready, then leaves.
    pub(crate) outgoing: bool,
    /// What it may start itself.
    pub(crate) rest: Rest,
    /// It said that it has done its share.
    pub(crate) done: bool,
    /// It would be outgoing, but recycling rests.
    pub(crate) postponed: bool,
}

impl Worker {
    pub(crate) fn id(&self) -> WorkerId {
        self.place.worker
    }

    /// When its state fires next, or its rest is over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let rest = match self.rest {
            Rest::Until(at) if self.state.is_ready() => Some(at),
            Rest::Until(_) | Rest::No | Rest::Trying => None,
        };
        self.state.deadline().into_iter().chain(rest).min()
    }
}
