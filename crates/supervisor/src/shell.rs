//! Everything that the shell knows and owns; each room works on it, and none of it decides anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::{GenerationId, PoolId, WorkerId};
use steadfast_policy::time::Instant;

use crate::cgroups::Cgroups;
use crate::children::Nofile;
use crate::clock::Clock;
use crate::doors::Halls;
use crate::events::event::{Event, Moment};
use crate::events::kind::Kind;
use crate::events::log::Log;
use crate::front::state::Front;
use crate::notify::Notify;
use crate::output::Scratch;
use crate::path_watch::PathWatch;
use crate::poller::Poller;
use crate::pools::{Pool, Pools};
use crate::procfs::Procfs;
use crate::timers::Timers;
use crate::upgrade::state::{Trial, Upgrade};
use crate::voice::{Speaker, Voice, Word};
use crate::workers::{Asker, Workers};
use crate::zygotes::Zygotes;

/// What is kept of a process between its death and the policy's note about it.
#[derive(Debug, Default)]
pub(crate) struct Corpse {
    /// Its pid; `None` when there never was a process.
    pub(crate) pid: Option<u32>,
    /// Its last word.
    pub(crate) word: Option<Word>,
    /// Its last lines of stderr, or of stdout when it said nothing there.
    pub(crate) stderr: Vec<String>,
    /// Its code or signal.
    pub(crate) ended: (Option<u8>, Option<u8>),
    /// Its pool.
    pub(crate) pool: Option<PoolId>,
    /// The request that it had in hand.
    pub(crate) request: Option<String>,
    /// The policy may wait so long for the front's word before it notes the end.
    pub(crate) kept_until: Option<Instant>,
}

/// What became of a generation, for those who wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Which pool.
    pub(crate) pool: PoolId,
    /// What happened.
    pub(crate) kind: OutcomeKind,
}

/// What happened to a pool that somebody may wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutcomeKind {
    /// A generation was started.
    Started(GenerationId),
    /// All slots are of this generation.
    Serving(GenerationId),
    /// This generation was refused or rolled back: why, and its first lines.
    Failed(GenerationId, String, Vec<String>),
    /// A newer reload took its place.
    Superseded(GenerationId),
    /// The pool has stopped.
    Stopped,
    /// The pool serves.
    Up,
}

/// What the machine is like; read once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    /// Our own limits of open files.
    pub(crate) nofile: Nofile,
    /// Our effective user.
    pub(crate) uid: u32,
    /// Our pid.
    pub(crate) pid: u32,
    /// Below 0 the kernel spares us when memory is short.
    pub(crate) oom_score: i32,
}

/// The shell's state.
pub(crate) struct Shell {
    /// What time it is.
    pub(crate) clock: Clock,
    /// When this turn began; every fact of the turn carries it.
    pub(crate) now: Instant,
    /// Who is heard.
    pub(crate) poller: Poller,
    /// What is waited for.
    pub(crate) timers: Timers,
    /// The one door to the log.
    pub(crate) log: Log,
    /// The kernel's knowledge of processes.
    pub(crate) procfs: Procfs,
    /// One buffer for everything that is read.
    pub(crate) scratch: Scratch,
    /// The machine.
    pub(crate) host: Host,
    /// The pools.
    pub(crate) pools: Pools,
    /// The workers.
    pub(crate) workers: Workers,
    /// The zygotes.
    pub(crate) zygotes: Zygotes,
    /// Who asks which trial worker.
    pub(crate) askers: BTreeMap<WorkerId, Asker>,
    /// Somebody has ended who may be a worker of which its zygote has not told yet, or else is to be reaped.
    pub(crate) are_strangers_waiting: bool,
    /// Where forked workers come in.
    pub(crate) halls: Halls,
    /// Facts that the policy has not been told yet.
    pub(crate) facts: VecDeque<Fact>,
    /// What has happened since those who wait were told last.
    pub(crate) outcomes: Vec<Outcome>,
    /// Processes that are dead and not yet reported.
    pub(crate) corpses: BTreeMap<Speaker, Corpse>,
    /// The directories of our unix sockets; `None` when the kernel refuses to watch.
    pub(crate) watch: Option<PathWatch>,
    /// An fd to give up when there is none left, so that somebody can still be turned away politely.
    pub(crate) spare: Option<OwnedFd>,
    /// The kernel's count of OOM kills at the last death.
    pub(crate) oom_kills: Option<u64>,
    /// Pools of which it is not known yet whether they serve.
    pub(crate) unsettled: BTreeSet<PoolId>,
    /// The process that reads requests.
    pub(crate) front: Front,
    /// The service manager.
    pub(crate) notify: Notify,
    /// Why the configuration was refused last, until one is taken.
    pub(crate) refusal: Option<String>,
    /// Something has happened that the service manager may be told.
    pub(crate) is_news: bool,
    /// How far the replacement of our own program is.
    pub(crate) upgrade: Upgrade,
    /// The new program's trial.
    pub(crate) trial: Option<Trial>,
    /// The control groups of workers and zygotes.
    pub(crate) cgroups: Cgroups,
    /// The end is near, and it was asked for.
    pub(crate) is_stopping: bool,
    /// `Finish` has come.
    pub(crate) is_finished: bool,
    /// The exit code at the end.
    pub(crate) exit: u8,
}

impl Shell {
    /// The moment of this turn, for the log.
    pub(crate) fn moment(&self) -> Moment {
        Moment { now: self.now.as_nanos(), wall: SystemTime::now() }
    }

    /// Tells people.
    pub(crate) fn emit(&mut self, event: Event) {
        let at = self.moment();
        self.is_news |= event.kind.is_of_state();
        self.log.emit(at, event);
    }

    /// Warns people of something that has no other event.
    pub(crate) fn warn(&mut self, message: impl Into<String>) {
        self.emit(Event::new(Kind::SupervisorWarned).message(message));
    }

    /// An event about a worker that lives.
    pub(crate) fn event_of(&self, kind: Kind, worker: WorkerId) -> Event {
        let event = Event::new(kind);
        let Some(worker) = self.workers.get(worker) else {
            return event;
        };
        let event = event.generation(worker.generation.0).slot(worker.slot.0).pid(worker.pid.get());
        match self.pools.get(worker.pool) {
            Some(pool) => event.pool(&pool.name),
            None => event,
        }
    }

    /// An event about a process that lives.
    pub(crate) fn event_by(&self, kind: Kind, speaker: Speaker) -> Event {
        let zygote = match speaker {
            Speaker::Worker(worker) => return self.event_of(kind, worker),
            Speaker::Zygote(zygote) => self.zygotes.get(zygote),
        };
        match zygote {
            Some(zygote) => self.event_in(kind, zygote.pool).generation(zygote.generation.0).pid(zygote.pid.get()),
            None => Event::new(kind),
        }
    }

    /// Where a process that lives is heard.
    pub(crate) fn voice(&mut self, speaker: Speaker) -> Option<&mut Voice> {
        voice_of(&mut self.workers, &mut self.zygotes, speaker)
    }

    /// Since when it is ready.
    pub(crate) fn ready_since(&self, speaker: Speaker) -> Option<Instant> {
        match speaker {
            Speaker::Worker(id) => self.workers.get(id)?.ready,
            Speaker::Zygote(id) => self.zygotes.get(id)?.ready,
        }
    }

    /// An event about a pool.
    pub(crate) fn event_in(&self, kind: Kind, pool: PoolId) -> Event {
        match self.pools.get(pool) {
            Some(pool) => Event::new(kind).pool(&pool.name),
            None => Event::new(kind),
        }
    }

    /// Whether it is meant to be a manager, which starts workers itself.
    pub(crate) fn is_manager(&self, id: WorkerId) -> bool {
        let of = self.workers.get(id).and_then(|worker| Some((self.pools.get(worker.pool)?, worker.generation)));
        of.is_some_and(|(pool, generation)| pool.has_managers(generation))
    }

    /// The pool of a worker that lives.
    pub(crate) fn pool_of(&mut self, worker: WorkerId) -> Option<&mut Pool> {
        let pool = self.workers.get(worker)?.pool;
        self.pools.get_mut(pool)
    }
}

/// The same, of whoever needs other parts of the shell beside it.
pub(crate) fn voice_of<'a>(
    workers: &'a mut Workers,
    zygotes: &'a mut Zygotes,
    speaker: Speaker,
) -> Option<&'a mut Voice> {
    match speaker {
        Speaker::Worker(id) => workers.get_mut(id).map(|worker| &mut worker.voice),
        Speaker::Zygote(id) => zygotes.get_mut(id).map(|zygote| &mut zygote.voice),
    }
}
