//! The worker processes that exist: one record for each life, found by its name or its pid.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use steadfast_policy::ids::{GenerationId, PoolId, SlotId, WorkerId};
use steadfast_policy::time::Instant;

use crate::children::Pid;
use crate::front::private::Private;
use crate::nursery::Nursery;
use crate::procfs::Io;
use crate::sys;
use crate::voice::{Pipe, Voice};

/// One life.
pub(crate) struct Worker {
    /// The policy's name for it.
    pub(crate) id: WorkerId,
    /// Its pool.
    pub(crate) pool: PoolId,
    /// Its seat.
    pub(crate) slot: SlotId,
    /// What it was made of.
    pub(crate) generation: GenerationId,
    /// The process; its own group's leader.
    pub(crate) pid: Pid,
    /// By which it is signalled and reaped.
    pub(crate) pidfd: OwnedFd,
    /// What it says, and where.
    pub(crate) voice: Voice,
    /// It said hello: it is ready by its word only, and drains by ours.
    pub(crate) speaks: bool,
    /// When it was spawned.
    pub(crate) started: Instant,
    /// When it was seen ready.
    pub(crate) ready: Option<Instant>,
    /// Looks at whether it is ready, or has anything in hand, so far.
    pub(crate) looks: u32,
    /// How far its leave is.
    pub(crate) leave: Leave,
    /// What it had read and written when it became ready.
    pub(crate) baseline: Option<Baseline>,
    /// Requests that the policy has been told of.
    pub(crate) told: u64,
    /// It was first seen with a request in hand, or may have had one: that is answered before its baseline, perhaps.
    pub(crate) was_in_hand: bool,
    /// Its word for the status table.
    pub(crate) text: Option<String>,
    /// Its socket, when it is the trial of a direct generation: it serves nobody.
    pub(crate) trial: Option<Private>,
    /// It was sent SIGSTOP because of the workers that it has started itself.
    pub(crate) held: Option<BTreeMap<u32, Step>>,
    /// It is traced until it starts a worker itself.
    pub(crate) is_traced: bool,
    /// The living workers that it had started itself when it was stopped, as a trial.
    pub(crate) brood: Vec<OwnedFd>,
    /// Whom it starts itself while it serves, where it is meant to be a manager.
    pub(crate) nursery: Option<Box<Nursery>>,
    /// It was sent SIGQUIT, by which it leaves when its own workers have finished.
    pub(crate) has_quit: bool,
    /// What the front has to do with it; `None` in direct mode.
    pub(crate) queued: Option<Queued>,
}

/// A worker of queue mode.
#[derive(Debug)]
pub(crate) struct Queued {
    /// Its socket.
    pub(crate) private: Private,
    /// How far it was ordered.
    pub(crate) stage: Stage,
    /// The front's life that it was given to; 0 is none.
    pub(crate) life: u64,
    /// That front has connected to it.
    pub(crate) is_connected: bool,
    /// Its front has said who answers in its place.
    pub(crate) has_speaker: bool,
    /// It is to be given nothing more.
    pub(crate) is_leaving: bool,
    /// It has nothing in hand and is given nothing.
    pub(crate) is_free: bool,
    /// Its front has died: since when it is looked at, and how long it may take to be free.
    pub(crate) adopt_by: Option<(Instant, Instant)>,
    /// Requests that it has served for fronts that have died, as far as they had told.
    pub(crate) served_before: u64,
    /// Requests that it has served, by the front's last report.
    pub(crate) served: u64,
    /// Requests that it has in hand, by the same.
    pub(crate) busy: u32,
    /// The oldest of them.
    pub(crate) line: Option<String>,
    /// The one for which it is made to leave.
    pub(crate) doomed: Option<String>,
}

/// What was last ordered for a worker of queue mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The front may connect.
    Offered,
    /// It is asked its verify request.
    Verify,
    /// It serves visitors.
    Admit {
        /// So many of them.
        max_requests: Option<u64>,
    },
}

impl Worker {
    /// Traces it from now on until it forks (`first_fork.rs`); whether it may be.
    pub(crate) fn trace(&mut self) -> bool {
        self.is_traced = sys::trace_forks(self.pid.get()).is_ok();
        self.is_traced
    }
}

impl Queued {
    /// Of a worker that nobody was told of.
    pub(crate) fn new(private: Private) -> Queued {
        Queued {
            private,
            stage: Stage::Offered,
            life: 0,
            is_connected: false,
            has_speaker: false,
            is_leaving: false,
            is_free: false,
            adopt_by: None,
            served_before: 0,
            served: 0,
            busy: 0,
            line: None,
            doomed: None,
        }
    }

    /// Its front has died: what that one knew of it is nobody's knowledge any more.
    pub(crate) fn forget_front(&mut self) {
        self.life = 0;
        self.is_connected = false;
        self.served_before = self.served_before.saturating_add(std::mem::take(&mut self.served));
        self.busy = 0;
        self.line = None;
    }
}

/// The child that asks a trial worker its verify request.
pub(crate) struct Asker {
    /// Its process; its own group's leader.
    pub(crate) pid: Pid,
    /// By which it is signalled and reaped.
    pub(crate) pidfd: OwnedFd,
    /// What it says there: what the application wrote to FastCGI's stderr, and then its own word.
    pub(crate) stderr: Pipe,
}

/// What a worker had read and written at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Baseline {
    /// The kernel's counters.
    pub(crate) io: Io,
    /// Bytes of it that went to us.
    pub(crate) heard: u64,
}

/// How far the leave of a manager's own worker is (see `nest.rs`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It has something in hand, as far as one can see.
    Looking,
    /// It waited in accept with these files open, and was sent SIGSTOP.
    Stopping(Vec<Open>),
    /// It was sent SIGHUP.
    Told,
}

/// An open file of a process: its fd's number and its name, as /proc/PID/fd tells.
pub(crate) type Open = (OsString, PathBuf);

/// How far a worker's leave is (see `leaving.rs`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Nobody asked.
    #[default]
    No,
    /// It is looked for the moment when it has nothing in hand.
    Looking,
    /// When it is idle it has these files open; it is to be stopped at the next look.
    Known(Vec<Open>),
    /// The same, and it was sent SIGSTOP; it is not seen stopped yet.
    Stopping(Vec<Open>),
    /// It stands still with nothing in hand.
    Stopped,
    /// It may be sent TERM at any time.
    Drained,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Workers {
    // Boxed, so that a map that has been large gives back what its records took.
    by_id: BTreeMap<WorkerId, Box<Worker>>,
    by_pid: HashMap<Pid, WorkerId>,
}

impl Workers {
    /// Keeps a new one.
    pub(crate) fn insert(&mut self, worker: Worker) {
        self.by_pid.insert(worker.pid, worker.id);
        self.by_id.insert(worker.id, Box::new(worker));
    }

    /// The one of that name, if it lives.
    pub(crate) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.by_id.get(&id).map(Box::as_ref)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.by_id.get_mut(&id).map(Box::as_mut)
    }

    /// The one with that pid, if it is not reaped.
    pub(crate) fn by_pid(&self, pid: Pid) -> Option<WorkerId> {
        self.by_pid.get(&pid).copied()
    }

    /// Forgets it; it has been reaped, or is about to be.
    pub(crate) fn remove(&mut self, id: WorkerId) -> Option<Box<Worker>> {
        let worker = self.by_id.remove(&id)?;
        self.by_pid.remove(&worker.pid);
        Some(worker)
    }

    /// How many live.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }
}
