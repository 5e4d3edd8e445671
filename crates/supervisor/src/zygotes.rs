//! The zygotes that exist: one record for each life, found by its name or its pid.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use steadfast_policy::event::Files;
use steadfast_policy::ids::{GenerationId, PoolId, SlotId, WorkerId, ZygoteId};
use steadfast_policy::time::Instant;

use crate::children::Pid;
use crate::doors::Doors;
use crate::voice::Voice;

/// One life.
pub(crate) struct Zygote {
    /// The policy's name for it.
    pub(crate) id: ZygoteId,
    /// Its pool.
    pub(crate) pool: PoolId,
    /// What it has loaded, or is to load.
    pub(crate) generation: GenerationId,
    /// Whether that was what its generation had noted.
    pub(crate) files: Files,
    /// The process; its own group's leader.
    pub(crate) pid: Pid,
    /// By which it is signalled and reaped.
    pub(crate) pidfd: OwnedFd,
    /// What it says, and where.
    pub(crate) voice: Voice,
    /// When it was spawned.
    pub(crate) started: Instant,
    /// It said hello, as a zygote.
    pub(crate) speaks: bool,
    /// When it said that it is ready.
    pub(crate) ready: Option<Instant>,
    /// Its resident memory when it was looked at first.
    pub(crate) memory: Option<u64>,
    /// Orders that found no room in its link, as bytes.
    pub(crate) unsent: Vec<u8>,
    /// Orders to fork that it has not answered.
    pub(crate) orders: BTreeMap<SlotId, Order>,
    /// It said that its generation is broken.
    pub(crate) is_broken: bool,
    /// It said that a dependency is away …
    pub(crate) is_unavailable: bool,
    /// … and for how long.
    pub(crate) retry_after: Option<Duration>,
    /// Why we killed it, when it broke the rules.
    pub(crate) condemned: Option<String>,
    /// We made it leave.
    pub(crate) is_leaving: bool,
    /// It said that it cannot go on: nothing is ordered of it any more.
    pub(crate) is_dismissed: bool,
}

/// An order to fork.
#[derive(Debug)]
pub(crate) struct Order {
    /// Who is to be.
    pub(crate) worker: WorkerId,
    /// Where the new process finds what it needs.
    pub(crate) doors: Doors,
    /// It is there to be verified, and serves nobody.
    pub(crate) is_trial: bool,
}

/// All of them; there are few, one or two for each pool.
#[derive(Default)]
pub(crate) struct Zygotes {
    by_id: BTreeMap<ZygoteId, Box<Zygote>>,
}

impl Zygotes {
    /// Keeps a new one.
    pub(crate) fn insert(&mut self, zygote: Zygote) {
        self.by_id.insert(zygote.id, Box::new(zygote));
    }

    /// The one of that name, if it lives.
    pub(crate) fn get(&self, id: ZygoteId) -> Option<&Zygote> {
        self.by_id.get(&id).map(Box::as_ref)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, id: ZygoteId) -> Option<&mut Zygote> {
        self.by_id.get_mut(&id).map(Box::as_mut)
    }

    /// The one with that pid, if it is not reaped.
    pub(crate) fn by_pid(&self, pid: Pid) -> Option<ZygoteId> {
        self.by_id.values().find(|zygote| zygote.pid == pid).map(|zygote| zygote.id)
    }

    /// The one that was ordered to fork this worker and has not answered.
    pub(crate) fn ordered(&mut self, worker: WorkerId) -> Option<&mut Zygote> {
        let is = |zygote: &Zygote| zygote.orders.values().any(|order| order.worker == worker);
        self.by_id.values_mut().map(Box::as_mut).find(|zygote| is(zygote))
    }

    /// Whether an order is unanswered: then a process that nobody knows may be a worker.
    pub(crate) fn are_forking(&self) -> bool {
        self.by_id.values().any(|zygote| !zygote.orders.is_empty())
    }

    /// Forgets it; it has been reaped, or is about to be.
    pub(crate) fn remove(&mut self, id: ZygoteId) -> Option<Box<Zygote>> {
        self.by_id.remove(&id)
    }

    /// Those of this pool.
    pub(crate) fn of(&self, pool: PoolId) -> impl Iterator<Item = &Zygote> {
        self.by_id.values().map(Box::as_ref).filter(move |zygote| zygote.pool == pool)
    }
}
