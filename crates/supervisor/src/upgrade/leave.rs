//! What this image leaves to the next.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use rustix::time::{ClockId, clock_gettime};
use steadfast_policy::event::Files;
use steadfast_policy::ids::RequestKey;
use steadfast_policy::policy::Policy;
use steadfast_policy::record;
use steadfast_proto::estate::{self, Estate};

use crate::control::server::Server;
use crate::pools::Pool;
use crate::reload::Source;
use crate::shell::Shell;
use crate::voice::{Pipe, Speaker, Voice};
use crate::workers::{Leave, Queued, Stage, Worker};
use crate::zygotes::Zygote;

/// Everything that belongs to it.
pub(crate) struct Household<'a> {
    pub(crate) shell: &'a Shell,
    pub(crate) policy: &'a Policy,
    pub(crate) source: &'a Source,
    pub(crate) server: &'a Server,
    pub(crate) lock: &'a File,
}

/// The estate.
///
/// # Errors
/// Something is on its way, and soon over; for people.
pub(crate) fn leave(household: &Household<'_>) -> Result<Estate, String> {
    let Household { shell, policy, source, server, lock } = household;
    let facts = policy.facts().map_err(|unsettled| {
        let name = shell.pools.get(unsettled.pool).map_or("?", |pool| &pool.name);
        format!("the pool {name} {}", unsettled.why.words())
    })?;
    is_at_rest(shell)?;
    let program = shell.front.program.as_ref().ok_or("our own program cannot be opened for the way back")?;
    let now = shell.clock.now();
    let (inherited, taken) = source.inherited.leave();
    let (last_pool, last_socket) = shell.pools.last();
    let workers = shell.pools.iter().flat_map(|pool| &pool.members).filter_map(|id| shell.workers.get(*id));
    let zygotes = shell.pools.iter().flat_map(|pool| shell.zygotes.of(pool.id));
    let path_of = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let cgroup_of = |speaker: Speaker| shell.cgroups.of(speaker).map(path_of);
    Ok(Estate {
        version: estate::VERSION,
        channel_version: steadfast_proto::front::VERSION,
        program_version: source.version().to_owned(),
        upgrades: source.upgrades + 1,
        clock: now.as_nanos(),
        monotonic: monotonic(),
        program: program.as_raw_fd(),
        lock: lock.as_raw_fd(),
        policy: facts.iter().map(|fact| record::write(now, fact)).collect(),
        control: server.listener().leave(),
        inherited,
        taken,
        stored: shell.notify.stored().iter().cloned().collect(),
        unsettled: shell.unsettled.iter().map(|pool| pool.0).collect(),
        refusal: shell.refusal.clone(),
        cgroup: shell.cgroups.root().map(path_of),
        nofile: shell.host.nofile.soft_before,
        last_pool,
        last_socket,
        pools: shell.pools.iter().map(pool_of).collect(),
        workers: workers.map(|worker| worker_of(worker, cgroup_of(Speaker::Worker(worker.id)))).collect(),
        zygotes: zygotes.map(|zygote| zygote_of(zygote, cgroup_of(Speaker::Zygote(zygote.id)))).collect(),
        front: front_of(shell),
    })
}

/// CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// What the policy does not know of.
fn is_at_rest(shell: &Shell) -> Result<(), String> {
    if !shell.facts.is_empty() || !shell.corpses.is_empty() || !shell.askers.is_empty() {
        return Err("somebody has just ended".to_owned());
    }
    if shell.zygotes.are_forking() {
        return Err("a zygote forks".to_owned());
    }
    let workers = shell.pools.iter().flat_map(|pool| &pool.members).filter_map(|id| shell.workers.get(*id));
    for worker in workers {
        let is_adopted = worker.queued.as_ref().is_none_or(|queued| {
            queued.adopt_by.is_none() && matches!(queued.stage, Stage::Admit { .. }) && !queued.is_leaving
        });
        let is_heard = worker.voice.link.as_ref().is_none_or(|link| link.decoder.is_between());
        if worker.ready.is_none() || worker.leave != Leave::No || !is_adopted || !is_heard {
            return Err(format!("the worker {} is on its way", worker.pid));
        }
    }
    if shell.front.old.is_some() {
        return Err("a former front finishes what it has in hand".to_owned());
    }
    match &shell.front.life {
        Some(life) if !life.asked.is_empty() || life.channel.is_behind() => {
            Err("the front is asked something".to_owned())
        }
        Some(life) if life.is_leaving || life.why.is_some() => Err("the front leaves".to_owned()),
        _ => Ok(()),
    }
}

fn pool_of(pool: &Pool) -> estate::Pool {
    let listen = &pool.plan.config.listen;
    let sockets = pool.plan.sockets.iter().map(|socket| estate::Public {
        id: socket.id,
        entry: listen.iter().position(|entry| *entry == socket.listen).unwrap_or(usize::MAX),
        renewed: socket.renewed.get(),
        socket: socket.listener.borrow().leave(),
    });
    let generation = pool.generations.last_key_value().map(|(id, generation)| estate::Generation {
        id: id.0,
        pins: generation.pins.as_ref().map(|pins| pins.leave()).map_err(Clone::clone),
    });
    let queue = &pool.queue;
    let suspect = |key: &RequestKey| {
        let until = queue.quarantined.get(key).map(|until| until.as_nanos());
        (key.0, until, queue.line(*key))
    };
    estate::Pool {
        id: pool.id.0,
        name: pool.name.to_string(),
        sockets: sockets.collect(),
        generation,
        since: pool.since.as_nanos(),
        figures: queue.figures(),
        requests: queue.requests,
        duration: queue.duration.clone(),
        wait: queue.wait.clone(),
        has_fallback: queue.has_fallback,
        suspects: queue.watched.iter().map(suspect).collect(),
    }
}

fn pipe_of(pipe: &Pipe) -> estate::Pipe {
    estate::Pipe {
        fd: pipe.fd.as_ref().map(|fd| fd.as_fd().as_raw_fd()),
        bytes: pipe.lines.bytes(),
        begun: pipe.lines.begun().to_vec(),
    }
}

fn voice_of(voice: &Voice) -> estate::Voice {
    estate::Voice {
        stdout: pipe_of(&voice.stdout),
        stderr: pipe_of(&voice.stderr),
        link: voice.link.as_ref().map(|link| link.fd.as_raw_fd()),
        link_bytes: voice.link_bytes,
    }
}

fn private_of(queued: &Queued) -> estate::Private {
    estate::Private {
        path: queued.private.path.to_string_lossy().into_owned(),
        inode: queued.private.inode,
        is_workers_own: queued.private.is_workers_own,
        life: queued.life,
        is_connected: queued.is_connected,
        max_requests: match queued.stage {
            Stage::Admit { max_requests } => max_requests,
            Stage::Offered | Stage::Verify => None,
        },
        served_before: queued.served_before,
        served: queued.served,
    }
}

fn worker_of(worker: &Worker, cgroup: Option<String>) -> estate::Worker {
    estate::Worker {
        id: worker.id.0,
        pool: worker.pool.0,
        slot: worker.slot.0,
        generation: worker.generation.0,
        pid: worker.pid.get(),
        voice: voice_of(&worker.voice),
        speaks: worker.speaks,
        started: worker.started.as_nanos(),
        ready: worker.ready.unwrap_or(worker.started).as_nanos(),
        baseline: worker.baseline.map(|base| {
            let io = base.io;
            [io.rchar, io.wchar, io.syscr, io.syscw, base.heard]
        }),
        told: worker.told,
        was_in_hand: worker.was_in_hand,
        text: worker.text.clone(),
        private: worker.queued.as_ref().map(private_of),
        cgroup,
    }
}

fn zygote_of(zygote: &Zygote, cgroup: Option<String>) -> estate::Zygote {
    estate::Zygote {
        id: zygote.id.0,
        pool: zygote.pool.0,
        generation: zygote.generation.0,
        has_changed_files: zygote.files == Files::Changed,
        pid: zygote.pid.get(),
        voice: voice_of(&zygote.voice),
        started: zygote.started.as_nanos(),
        ready: zygote.ready.unwrap_or(zygote.started).as_nanos(),
        memory: zygote.memory,
        cgroup,
    }
}

fn front_of(shell: &Shell) -> estate::Front {
    let front = &shell.front;
    let life = front.life.as_ref().map(|life| estate::FrontLife {
        number: life.number,
        pid: life.pid.get(),
        channel: life.channel.fd().as_raw_fd(),
        stdout: pipe_of(&life.stdout),
        stderr: pipe_of(&life.stderr),
        started: life.started.as_nanos(),
    });
    let (lives, restarts, reports) = (front.lives, front.restarts, front.reports);
    estate::Front { life, lives, restarts, secret: front.secret.clone(), reports }
}
