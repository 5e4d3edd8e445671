//! Prepares generations and starts their workers.

use std::cell::Ref;
use std::os::fd::{AsFd, BorrowedFd};

use steadfast_policy::event::{Event as Fact, Files, SpawnFault};
use steadfast_policy::ids::{GenerationId, PoolId, SlotId, WorkerId};
use steadfast_proto::link::Decoder;

use crate::front::private::Private;
use crate::front::{settings, tell};
use crate::listener::Listener;
use crate::output::Held;
use crate::poller::{Interest, Token};
use crate::pools::{Generation, Socket};
use crate::readiness;
use crate::shell::{Corpse, Shell};
use crate::spawn::Spawned;
use crate::workers::{Leave, Link, Pipe, Queued, Word, Worker};

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
        socket.listener.borrow().unlink();
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
pub(crate) fn start(shell: &mut Shell, worker: WorkerId, pool: PoolId, slot: SlotId, generation: GenerationId) {
    match spawn(shell, worker, pool, generation) {
        Ok((spawned, private, files)) => match register(shell, worker, pool, slot, generation, spawned, private) {
            Ok(()) => {
                shell.facts.push_back(Fact::WorkerSpawned { worker, files });
                readiness::begin(shell, worker);
                tell::offer(shell, worker);
            }
            // Its process is killed with the pidfd's last chance to be heard; the reaping of strangers buries it.
            Err(message) => failed(shell, worker, pool, Failed { message, fault: SpawnFault::Host, files }),
        },
        Err(why) => failed(shell, worker, pool, why),
    }
}

struct Failed {
    message: String,
    fault: SpawnFault,
    files: Files,
}

type Started = (Spawned, Option<Private>, Files);

fn spawn(shell: &mut Shell, worker: WorkerId, pool: PoolId, generation: GenerationId) -> Result<Started, Failed> {
    let program = |message: String| Failed { message, fault: SpawnFault::Program, files: Files::Noted };
    let nofile = shell.host.nofile;
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
    let private = if settings::is_queued(&plan.config) {
        let bound = shell.front.rooms.bind(&plan.config.name, worker, plan.launch.user());
        Some(bound.map_err(|error| Failed { message: error.to_string(), fault: SpawnFault::Host, files })?)
    } else {
        None
    };
    let remembered = private.as_ref().and_then(Private::of);
    let public: Vec<Ref<'_, Listener>> = match private {
        Some(_) => Vec::new(),
        None => plan.sockets.iter().map(|socket| socket.listener.borrow()).collect(),
    };
    let sockets: Vec<BorrowedFd<'_>> = match &private {
        Some(private) => vec![private.as_fd()],
        None => public.iter().map(|listener| listener.as_fd()).collect(),
    };
    match plan.launch.start(pins, &execute, &sockets, nofile) {
        // Our own copy closes here: a listener that outlives its worker would take connections for nobody.
        Ok(spawned) => Ok((spawned, remembered, files)),
        Err(error) => {
            remembered.iter().for_each(Private::unlink);
            let fault = if error.is_host() { SpawnFault::Host } else { SpawnFault::Program };
            Err(Failed { message: error.message(), fault, files })
        }
    }
}

/// Hears the new process from now on.
fn register(
    shell: &mut Shell,
    id: WorkerId,
    pool: PoolId,
    slot: SlotId,
    generation: GenerationId,
    spawned: Spawned,
    private: Option<Private>,
) -> Result<(), String> {
    let Spawned { pid, pidfd, stdout, stderr, link } = spawned;
    let heard = shell
        .poller
        .add(&pidfd, Token::Exit(id), Interest::Read)
        .and_then(|()| shell.poller.add(&stdout, Token::Stdout(id), Interest::Read))
        .and_then(|()| shell.poller.add(&stderr, Token::Stderr(id), Interest::Read))
        .and_then(|()| link.as_ref().map_or(Ok(()), |link| shell.poller.add(link, Token::Link(id), Interest::Read)));
    if let Err(error) = heard {
        let _ = crate::children::signal_group(pid, crate::children::Kill::Kill);
        private.iter().for_each(Private::unlink);
        return Err(format!("cannot watch the process {pid}: {}", std::io::Error::from(error)));
    }
    let now = shell.clock.now();
    let link = link.map(|fd| Link { fd, decoder: Decoder::new(), since: now, messages: 0, bytes: 0, warned: false });
    shell.workers.insert(Worker {
        id,
        pool,
        slot,
        generation,
        pid,
        pidfd,
        stdout: Pipe::new(stdout),
        stderr: Pipe::new(stderr),
        link,
        link_bytes: 0,
        speaks: false,
        started: now,
        ready: None,
        held: Held::new(),
        looks: 0,
        leave: Leave::No,
        baseline: None,
        told: 0,
        was_in_hand: false,
        word: None,
        text: None,
        queued: private.map(Queued::new),
    });
    if let Some(pool) = shell.pools.get_mut(pool) {
        pool.members.insert(id);
    }
    Ok(())
}

fn failed(shell: &mut Shell, worker: WorkerId, pool: PoolId, why: Failed) {
    if let Some(pool) = shell.pools.get_mut(pool)
        && why.fault == SpawnFault::Host
    {
        pool.refusal = Some(why.message.clone());
    }
    let word = Word { code: None, name: None, message: Some(why.message) };
    shell.corpses.insert(worker, Corpse { word: Some(word), ..Corpse::default() });
    shell.facts.push_back(Fact::SpawnFailed { worker, fault: why.fault, files: why.files });
}
