//! Prepares generations, and makes processes of them.

use std::cell::Ref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use steadfast_config::types::Pass;
use steadfast_policy::event::{Event as Fact, Files, SpawnFault};
use steadfast_policy::ids::{GenerationId, PoolId, SlotId, WorkerId};
use steadfast_proto::link::Role;

use crate::children::kill_with_group;
use crate::containment;
use crate::first_fork;
use crate::front::private::{Private, bind_loopback};
use crate::front::{settings, tell};
use crate::launch::One;
use crate::listener::Listener;
use crate::manager;
use crate::nurse;
use crate::oom;
use crate::poller::{Interest, Token};
use crate::pools::{Generation, Plan, Socket};
use crate::readiness;
use crate::shell::{Corpse, Shell};
use crate::spawn::Spawned;
use crate::voice::{Pipe, Speaker, Voice, Word};
use crate::workers::{Leave, Queued, Worker};

/// Pins what the pool's plan is made of under this number.
pub(crate) fn prepare(shell: &mut Shell, pool: PoolId, generation: GenerationId) {
    let Some(pool) = shell.pools.get_mut(pool) else {
        return;
    };
    let plan = pool.plan.clone();
    let pins = plan.launch.pin(&plan.config);
    pool.generations.insert(generation, Generation { plan, pins });
}

/// Forgets what was pinned; sockets that nothing else uses are closed, and their paths removed.
pub(crate) fn retire(shell: &mut Shell, pool: PoolId, generation: GenerationId) {
    let before = shell.pools.sockets();
    let Some(gone) = shell.pools.get_mut(pool).and_then(|pool| pool.generations.remove(&generation)) else {
        return;
    };
    drop(gone);
    close_unused(shell, &before);
}

/// Those of `before` that no pool has any more are heard no more, and their paths removed; the fds close with them.
pub(crate) fn close_unused(shell: &mut Shell, before: &[Socket]) {
    let kept = shell.pools.sockets();
    for socket in before.iter().filter(|socket| kept.iter().all(|other| other.id != socket.id)) {
        shell.poller.remove(&*socket.listener.borrow());
        manager::let_go(shell, socket);
    }
}

/// Notes the files as they are now as the generation's own.
pub(crate) fn note_files(shell: &mut Shell, pool: PoolId, generation: GenerationId) {
    let generation = shell.pools.get_mut(pool).and_then(|pool| pool.generations.get_mut(&generation));
    if let Some(Generation { pins: Ok(pins), .. }) = generation {
        pins.note();
    }
}

/// Starts a worker and answers at once, with `WorkerSpawned` or `SpawnFailed`.
pub(crate) fn start(shell: &mut Shell, seat: Seat) {
    let Seat { worker, pool, slot, generation, is_trial } = seat;
    let bound = bind(shell, seat);
    let started = bound.and_then(|given| {
        let private = match &given {
            Given::Private(listener) => Private::of(listener),
            Given::Placeholder(_) | Given::Public => None,
        };
        // Our own copy closes there: a listener that outlives its worker would take connections for nobody.
        match spawn(shell, pool, generation, Speaker::Worker(worker), given) {
            Ok((spawned, files)) => Ok((spawned, files, private)),
            Err(why) => {
                private.iter().for_each(Private::unlink);
                Err(why)
            }
        }
    });
    match started {
        Ok((spawned, files, private)) => {
            welcome(shell, Newcomer { worker, pool, slot, generation, files, is_trial }, spawned, private);
        }
        Err(why) => failed(shell, worker, pool, why),
    }
}

/// A new process is a worker from now on: it is heard, given to the front, and looked at whether it is ready.
pub(crate) fn welcome(shell: &mut Shell, new: Newcomer, spawned: Spawned, private: Option<Private>) {
    let (worker, pool, files) = (new.worker, new.pool, new.files);
    match register(shell, new, spawned, private) {
        Ok(()) => {
            shell.facts.push_back(Fact::WorkerSpawned { worker, files });
            readiness::begin(shell, worker);
            first_fork::watch(shell, worker);
            nurse::watch(shell, worker);
            tell::offer(shell, worker);
        }
        // Its process is killed with the pidfd's last chance to be heard; the reaping of strangers buries it.
        Err(message) => failed(shell, worker, pool, Failed { message, fault: SpawnFault::Host, files }),
    }
}

/// Which worker is to be started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    /// The policy's name for it.
    pub(crate) worker: WorkerId,
    /// Its pool.
    pub(crate) pool: PoolId,
    /// Its slot.
    pub(crate) slot: SlotId,
    /// What it is made of.
    pub(crate) generation: GenerationId,
    /// It is there to be verified, and serves nobody.
    pub(crate) is_trial: bool,
}

/// A process that is to be a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newcomer {
    /// The policy's name for it.
    pub(crate) worker: WorkerId,
    /// Its pool.
    pub(crate) pool: PoolId,
    /// Its seat.
    pub(crate) slot: SlotId,
    /// What it is made of.
    pub(crate) generation: GenerationId,
    /// Whether that is what its generation has noted.
    pub(crate) files: Files,
    /// It is there to be verified, and serves nobody.
    pub(crate) is_trial: bool,
}

/// Why a process could not be started.
pub(crate) struct Failed {
    /// For people.
    pub(crate) message: String,
    /// Whose fault.
    pub(crate) fault: SpawnFault,
    /// What was tried.
    pub(crate) files: Files,
}

/// What a process listens on from its start.
pub(crate) enum Given {
    /// The pool's own sockets.
    Public,
    /// A socket of its own.
    Private(Listener),
    /// A socket that does not listen, in the place of the private one that each of its children will have; in direct
    /// mode the pool's own are given all the same.
    Placeholder(OwnedFd),
}

fn bind(shell: &Shell, seat: Seat) -> Result<Given, Failed> {
    let made_of = shell.pools.get(seat.pool).and_then(|pool| pool.generations.get(&seat.generation));
    let is_private = |plan: &&Plan| settings::is_queued(&plan.config) || seat.is_trial;
    let Some(plan) = made_of.map(|generation| &generation.plan).filter(is_private) else {
        return Ok(Given::Public);
    };
    let host = |message: String| Failed { message, fault: SpawnFault::Host, files: Files::Noted };
    if plan.config.pass == Pass::ServerStarter {
        return bind_loopback().map(Given::Private).map_err(|error| host(error.to_string()));
    }
    let bound = shell.front.rooms.bind(&plan.config.name, seat.worker, plan.launch.user());
    bound.map(Given::Private).map_err(|error| host(error.to_string()))
}

/// Starts a process of a generation.
pub(crate) fn spawn(
    shell: &mut Shell,
    pool: PoolId,
    generation: GenerationId,
    speaker: Speaker,
    given: Given,
) -> Result<(Spawned, Files), Failed> {
    let program = |message: String| Failed { message, fault: SpawnFault::Program, files: Files::Noted };
    let nofile = shell.host.nofile;
    let role = match speaker {
        Speaker::Worker(_) => Role::Worker,
        Speaker::Zygote(_) => Role::Zygote,
    };
    let group = containment::make(shell, speaker, pool);
    let pool = shell.pools.get_mut(pool).ok_or_else(|| program("the pool is gone".to_owned()))?;
    let is_superseded = pool.is_superseded(generation);
    let made_of = pool.generations.get_mut(&generation).ok_or_else(|| program("the generation is gone".to_owned()))?;
    if made_of.pins.is_err() {
        // What was missing may have been put there since.
        made_of.pins = made_of.plan.launch.pin(&made_of.plan.config);
    }
    let pins = made_of.pins.as_ref().map_err(|message| program(message.clone()))?;
    let (execute, files) = pins.execute(is_superseded);
    let plan = &made_of.plan;
    let is_public = !settings::is_queued(&plan.config);
    let public: Vec<Ref<'_, Listener>> =
        plan.sockets.iter().filter(|_| is_public).map(|socket| socket.listener.borrow()).collect();
    let sockets: Vec<BorrowedFd<'_>> = match &given {
        Given::Private(listener) => vec![listener.as_fd()],
        Given::Placeholder(socket) if !is_public => vec![socket.as_fd()],
        Given::Placeholder(_) | Given::Public => public.iter().map(|listener| listener.as_fd()).collect(),
    };
    let group = group.as_ref().map(AsFd::as_fd);
    let one = One { execute: &execute, sockets: &sockets, generation, nofile, role, group };
    let started = plan.launch.start(pins, &one);
    let mut spawned = started.map_err(|error| {
        let fault = if error.is_host() { SpawnFault::Host } else { SpawnFault::Program };
        Failed { message: error.message(), fault, files }
    })?;
    drop(public);
    if let Some(error) = spawned.outside.take() {
        containment::outside(shell, speaker, spawned.pid, &error);
    }
    Ok((spawned, files))
}

/// Hears a new process from now on. The error is for people.
pub(crate) fn hear(shell: &Shell, speaker: Speaker, spawned: &Spawned) -> Result<(), String> {
    let Spawned { pid, pidfd, stdout, stderr, link, .. } = spawned;
    let poller = &shell.poller;
    let heard = poller
        .add(pidfd, Token::Exit(speaker), Interest::Read)
        .and_then(|()| poller.add(stdout, Token::Stdout(speaker), Interest::Read))
        .and_then(|()| poller.add(stderr, Token::Stderr(speaker), Interest::Read))
        .and_then(|()| link.as_ref().map_or(Ok(()), |link| poller.add(link, Token::Link(speaker), Interest::Read)));
    heard.map_err(|error| format!("cannot watch the process {pid}: {}", std::io::Error::from(error)))
}

fn register(shell: &mut Shell, new: Newcomer, spawned: Spawned, private: Option<Private>) -> Result<(), String> {
    let id = new.worker;
    let (trial, private) = if new.is_trial { (private, None) } else { (None, private) };
    if let Err(message) = hear(shell, Speaker::Worker(id), &spawned) {
        kill_with_group(spawned.pid, spawned.pidfd.as_fd());
        private.iter().chain(&trial).for_each(Private::unlink);
        return Err(message);
    }
    oom::unshield(shell, spawned.pid);
    let now = shell.clock.now();
    shell.workers.insert(Worker {
        id,
        pool: new.pool,
        slot: new.slot,
        generation: new.generation,
        pid: spawned.pid,
        pidfd: spawned.pidfd,
        voice: Voice::new(Pipe::new(spawned.stdout), Pipe::new(spawned.stderr), spawned.link, now),
        speaks: false,
        started: now,
        ready: None,
        looks: 0,
        leave: Leave::No,
        baseline: None,
        told: 0,
        was_in_hand: false,
        text: None,
        trial,
        held: None,
        is_traced: false,
        brood: Vec::new(),
        nursery: None,
        has_quit: false,
        queued: private.map(Queued::new),
    });
    if let Some(pool) = shell.pools.get_mut(new.pool) {
        pool.members.insert(id);
    }
    Ok(())
}

/// There is no such worker and never was.
pub(crate) fn failed(shell: &mut Shell, worker: WorkerId, pool: PoolId, why: Failed) {
    containment::close(shell, Speaker::Worker(worker));
    if let Some(pool) = shell.pools.get_mut(pool)
        && why.fault == SpawnFault::Host
    {
        pool.refusal = Some(why.message.clone());
    }
    let word = Word { code: None, name: None, message: Some(why.message) };
    shell.corpses.insert(Speaker::Worker(worker), Corpse { word: Some(word), ..Corpse::default() });
    shell.facts.push_back(Fact::SpawnFailed { worker, fault: why.fault, files: why.files });
}
