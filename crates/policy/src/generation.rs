//! One loading of code and configuration: its accounts, its zygote and what is known of its worth.

use alloc::vec::Vec;
use core::time::Duration;

use crate::backoff::Backoff;
use crate::event::Files;
use crate::figures::{Figures, Launch};
use crate::ids::{GenerationId, RequestKey, WorkerId, ZygoteId};
use crate::time::Instant;
use crate::window::Window;

/// Failures of workers started from the same files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) backoff: Backoff,
    pub(crate) window: Window,
    /// Some worker of it has served.
    pub(crate) served: bool,
}

/// How many workers of a generation are in which part of their lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) pending: u32,
    pub(crate) ready: u32,
    /// Those of `ready` that leave once a successor is ready.
    pub(crate) outgoing: u32,
    pub(crate) leaving: u32,
    pub(crate) lost: u32,
}

impl Tally {
    /// Processes that exist or are about to.
    pub(crate) fn live(self) -> u32 {
        self.pending + self.ready + self.leaving + self.lost
    }

    /// Those that are meant to stay.
    pub(crate) fn staying(self) -> u32 {
        self.pending + self.ready - self.outgoing
    }
}

/// A zygote's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZygotePhase {
    /// It loads the application; killed at the deadline.
    Loading { deadline: Instant },
    /// It can fork.
    Ready,
    /// It was asked to leave; killed at the deadline.
    Leaving { deadline: Instant },
    /// It was killed.
    Killed,
}

/// One life of a zygote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zygote {
    pub(crate) id: ZygoteId,
    pub(crate) generation: GenerationId,
    pub(crate) phase: ZygotePhase,
}

/// Unasked deaths of a generation that might be rolled back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble {
    requests: Vec<RequestKey>,
    others: u32,
}

impl Trouble {
    /// One more; deaths by the same request count once. Returns how many different ones there are.
    pub(crate) fn add(&mut self, request: Option<RequestKey>) -> u32 {
        match request {
            Some(key) if self.requests.contains(&key) => {}
            Some(key) if self.requests.len() < 2 => self.requests.push(key),
            Some(_) => {}
            None => self.others = self.others.saturating_add(1),
        }
        self.others.saturating_add(self.requests.len() as u32)
    }
}

/// One generation.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    pub(crate) id: GenerationId,
    pub(crate) figures: Figures,
    pub(crate) tally: Tally,
    /// Failures of the files that it noted.
    pub(crate) noted: Account,
    /// Failures of files that changed under it.
    pub(crate) changed: Account,
    /// Its next start comes from files that differ from the noted ones, as far as is known.
    pub(crate) files_changed: bool,
    /// The first ready worker of the changed files, and when it has proved them good.
    pub(crate) probation: Option<(WorkerId, Instant)>,
    /// Requests served in all.
    pub(crate) served: u64,
    /// Served requests that no death by a request has used up yet.
    pub(crate) credit: u64,
    pub(crate) started: Instant,
    /// A worker of it has passed its verify request.
    pub(crate) verified: bool,
    /// People were told that it serves.
    pub(crate) announced: bool,
    pub(crate) proven: bool,
    pub(crate) proof_due: Option<Instant>,
    /// The generation that served when its reload began.
    pub(crate) predecessor: Option<GenerationId>,
    /// Nothing is started from it any more.
    pub(crate) refused: bool,
    pub(crate) trouble: Trouble,
    pub(crate) last_trouble: Option<Instant>,
    /// Waits while the host refuses it processes.
    pub(crate) host: Backoff,
    /// Waits while a dependency is away.
    pub(crate) unavailable: Backoff,
    /// No start before this, by a worker's word.
    pub(crate) retry_at: Instant,
    /// Its zygote must not fork, so its workers are executed.
    pub(crate) unfit: bool,
    pub(crate) zygote: Option<Zygote>,
    /// A second zygote from the same files, to take the first one's place.
    pub(crate) fresh: Option<Zygote>,
    /// It is loaded because workers failed, and what they failed of is forgiven when it has come.
    pub(crate) fresh_forgives: bool,
    /// When fresh zygotes were tried, youngest last; at most two.
    pub(crate) fresh_tries: Vec<Instant>,
    /// Until then failures open the breaker only if nothing has served since it began.
    pub(crate) grace: Option<Instant>,
    /// A worker of the fresh zygote has served since.
    pub(crate) grace_served: bool,
}

impl Generation {
    pub(crate) fn new(id: GenerationId, figures: Figures, predecessor: Option<GenerationId>, now: Instant) -> Self {
        Generation {
            id,
            figures,
            tally: Tally::default(),
            noted: Account::default(),
            changed: Account::default(),
            files_changed: false,
            probation: None,
            served: 0,
            credit: 0,
            started: now,
            verified: false,
            announced: false,
            proven: false,
            proof_due: None,
            predecessor,
            refused: false,
            trouble: Trouble::default(),
            last_trouble: None,
            host: Backoff::default(),
            unavailable: Backoff::default(),
            retry_at: Instant::ZERO,
            unfit: false,
            zygote: None,
            fresh: None,
            fresh_forgives: false,
            fresh_tries: Vec::new(),
            grace: None,
            grace_served: false,
        }
    }

    pub(crate) fn account(&mut self, files: Files) -> &mut Account {
        match files {
            Files::Noted => &mut self.noted,
            Files::Changed => &mut self.changed,
        }
    }

    /// What its next start will most probably be made of.
    pub(crate) fn files(&self) -> Files {
        if self.files_changed { Files::Changed } else { Files::Noted }
    }

    /// Whether its workers are forked, and not executed.
    pub(crate) fn forks(&self) -> bool {
        self.figures.launch == Launch::Zygote && !self.unfit
    }

    /// Its zygote, if it can fork.
    pub(crate) fn ready_zygote(&self) -> Option<ZygoteId> {
        self.zygote.filter(|zygote| zygote.phase == ZygotePhase::Ready).map(|zygote| zygote.id)
    }

    /// Its zygote and the fresh one that is to take its place.
    pub(crate) fn zygotes(&self) -> impl Iterator<Item = &Zygote> {
        self.zygote.iter().chain(&self.fresh)
    }

    pub(crate) fn zygotes_mut(&mut self) -> impl Iterator<Item = &mut Zygote> {
        self.zygote.iter_mut().chain(&mut self.fresh)
    }

    /// Gives up both.
    pub(crate) fn take_zygotes(&mut self) -> impl Iterator<Item = Zygote> + use<> {
        self.zygote.take().into_iter().chain(self.fresh.take())
    }

    /// Moves the deadlines that judge somebody.
    pub(crate) fn postpone(&mut self, late: Duration) {
        for zygote in self.zygotes_mut() {
            zygote.postpone(late);
        }
        if let Some((_, at)) = &mut self.probation {
            *at = at.after(late);
        }
        self.proof_due = self.proof_due.map(|at| at.after(late));
    }
}

impl Zygote {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            ZygotePhase::Loading { deadline } | ZygotePhase::Leaving { deadline } => Some(deadline),
            ZygotePhase::Ready | ZygotePhase::Killed => None,
        }
    }

    pub(crate) fn postpone(&mut self, late: Duration) {
        match &mut self.phase {
            ZygotePhase::Loading { deadline } | ZygotePhase::Leaving { deadline } => *deadline = deadline.after(late),
            ZygotePhase::Ready | ZygotePhase::Killed => {}
        }
    }
}
