//! Takes over what an earlier image has left.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use steadfast_config::types::Config;
use steadfast_policy::event::Files;
use steadfast_policy::ids::{GenerationId, PoolId, RequestKey, SlotId, WorkerId, ZygoteId};
use steadfast_policy::policy::Policy;
use steadfast_policy::record;
use steadfast_policy::time::Instant;
use steadfast_proto::estate::{self, Estate};
use steadfast_proto::front::Figures;

use crate::cgroups::Cgroups;
use crate::children::{Pid, ended};
use crate::clock::Clock;
use crate::files::Pins;
use crate::front::channel::Channel;
use crate::front::private::Private;
use crate::front::process as front_process;
use crate::front::rate::Rate;
use crate::front::state::Life;
use crate::inherited::Inherited;
use crate::listener::Listener;
use crate::memory;
use crate::nurse;
use crate::output::Lines;
use crate::poller::{Interest, Token};
use crate::pools::{Generation, Made, Plan, Pool, Socket};
use crate::procfs::Io;
use crate::recording::Recording;
use crate::shell::Shell;
use crate::sockets;
use crate::sys;
use crate::timers::Timer;
use crate::upgrade::leave::monotonic;
use crate::voice::{Pipe, Speaker, Voice};
use crate::workers::{Baseline, Leave, Queued, Stage, Worker};
use crate::zygotes::Zygote;

/// The policy goes on from the facts that it was left.
///
/// # Errors
/// A fact that this program does not know; for people.
pub(crate) fn policy(estate: &Estate, seed: u64, recording: &mut Recording) -> Result<Policy, String> {
    let mut policy = Policy::new(seed);
    let mut orders = Vec::new();
    for line in &estate.policy {
        let (now, fact) = record::parse(line).map_err(|error| format!("{error}: {line}"))?;
        recording.note(now, &fact).map_err(|error| format!("the recording: {error}"))?;
        policy.handle(now, fact, &mut orders);
    }
    match orders.first() {
        None => Ok(policy),
        Some(order) => Err(format!("to take over is to start nothing, and not {order:?}")),
    }
}

/// The clock goes on.
pub(crate) fn clock(estate: &Estate) -> Clock {
    let since = monotonic().saturating_sub(estate.monotonic);
    Clock::started_before(Duration::from_nanos(estate.clock.saturating_add(since)))
}

/// Sockets that came with the first image, and were not its own.
pub(crate) fn inherited(estate: &Estate) -> Inherited {
    Inherited::taken_over(estate.inherited.clone(), estate.taken.clone())
}

/// A copy of what was left under this number.
pub(crate) fn copy(number: estate::Fd, what: &str) -> Result<OwnedFd, String> {
    sys::copy_of(number).ok_or_else(|| format!("{what} (descriptor {number}) is not open any more"))
}

/// The lock of the runtime directory.
pub(crate) fn lock(estate: &Estate) -> Result<File, String> {
    copy(estate.lock, "the lock of the runtime directory").map(File::from)
}

/// A listening socket.
pub(crate) fn listener(left: &estate::Socket) -> Result<Listener, String> {
    let fd = copy(left.fd, &left.address)?;
    Listener::take_over(left.clone(), fd).map_err(|error| error.to_string())
}

/// The public sockets are open: whoever plans the pools finds them.
///
/// # Errors
/// A pool's addresses are others by now; for people.
pub(crate) fn sockets(shell: &mut Shell, estate: &Estate, config: &Config) -> Result<(), String> {
    let mut open = Vec::new();
    for left in &estate.pools {
        let pool = config.pools.get(&left.name).ok_or_else(|| changed(&left.name))?;
        for public in &left.sockets {
            let listen = pool.listen.get(public.entry).ok_or_else(|| changed(&left.name))?;
            open.push(Socket {
                id: public.id,
                listen: listen.clone(),
                // What it is made with is the plan's to say.
                made: Made { path: None, mode: 0, owner: (None, None), backlog: 0 },
                listener: Rc::new(std::cell::RefCell::new(listener(&public.socket)?)),
                renewed: Rc::new(std::cell::Cell::new(public.renewed)),
            });
        }
    }
    shell.pools.go_on((estate.last_pool, estate.last_socket), open);
    Ok(())
}

fn changed(pool: &str) -> String {
    format!("the pool {pool} is another one in the configuration by now: reload first")
}

/// The pools with their plans, and everybody who lives in them.
///
/// # Errors
/// Something is not as it was left; for people.
pub(crate) fn everybody(shell: &mut Shell, estate: &Estate, plans: Vec<Plan>) -> Result<(), String> {
    let mut plans: BTreeMap<String, Plan> = plans.into_iter().map(|plan| (plan.config.name.clone(), plan)).collect();
    for left in &estate.pools {
        let plan = plans.remove(&left.name).ok_or_else(|| changed(&left.name))?;
        pool(shell, left, plan)?;
    }
    if let Some(name) = plans.keys().next() {
        return Err(format!("the pool {name} is new in the configuration: reload first"));
    }
    shell.pools.settle();
    shell.unsettled = estate.unsettled.iter().copied().map(PoolId).collect();
    shell.refusal.clone_from(&estate.refusal);
    shell.notify.found(estate.stored.iter().cloned());
    let mut groups = BTreeMap::new();
    for left in &estate.zygotes {
        groups.extend(left.cgroup.clone().map(|path| (Speaker::Zygote(ZygoteId(left.id)), PathBuf::from(path))));
        zygote(shell, left)?;
    }
    for left in &estate.workers {
        groups.extend(left.cgroup.clone().map(|path| (Speaker::Worker(WorkerId(left.id)), PathBuf::from(path))));
        worker(shell, left)?;
    }
    front(shell, &estate.front)?;
    if let Some(root) = &estate.cgroup {
        shell.cgroups = Cgroups::take_over(PathBuf::from(root), groups);
        shell.timers.set(Timer::Groups, shell.now);
    }
    Ok(())
}

fn pool(shell: &mut Shell, left: &estate::Pool, plan: Plan) -> Result<(), String> {
    sockets::watch(shell, &plan.sockets);
    let id = PoolId(left.id);
    let mut pool = Pool::new(id, plan.clone(), Instant::from_nanos(left.since));
    if let Some(generation) = &left.generation {
        let pins = match &generation.pins {
            Ok(pins) => {
                let directory = copy(pins.directory, "the directory of a generation")?;
                Ok(Pins::take_over(pins.clone(), directory, copy(pins.executable, "the program of a generation")?))
            }
            Err(error) => Err(error.clone()),
        };
        pool.generations.insert(GenerationId(generation.id), Generation { plan, pins });
    }
    let queue = &mut pool.queue;
    let Figures { accepted: _, waiting_max, busy_max, full, slow } = left.figures;
    (queue.peak, queue.busy_max, queue.full, queue.slow) = (waiting_max, busy_max, full, slow);
    (queue.requests, queue.has_fallback) = (left.requests, left.has_fallback);
    (queue.duration, queue.wait) = (left.duration.clone(), left.wait.clone());
    for (key, until, line) in &left.suspects {
        let key = RequestKey(*key);
        match until {
            Some(until) => queue.quarantine(key, Instant::from_nanos(*until)),
            None => queue.watch(key),
        }
        queue.note(key, line.clone());
    }
    shell.pools.insert(pool);
    memory::begin(shell, id);
    Ok(())
}

fn pipe(left: &estate::Pipe) -> Result<Pipe, String> {
    let fd = left.fd.map(|number| copy(number, "a worker's output")).transpose()?;
    Ok(Pipe { fd, lines: Lines::go_on(left.bytes, left.begun.clone()) })
}

fn voice(shell: &Shell, left: &estate::Voice) -> Result<Voice, String> {
    let link = left.link.map(|number| copy(number, "a worker's link")).transpose()?;
    let voice = Voice::new(pipe(&left.stdout)?, pipe(&left.stderr)?, link, shell.now);
    Ok(Voice { link_bytes: left.link_bytes, ..voice })
}

/// A child of ours that is not reaped: its number is its own. One that has ended meanwhile is told of by its pidfd.
fn process(pid: u32) -> Result<(Pid, OwnedFd), String> {
    let pid = Pid::told(pid).ok_or_else(|| format!("{pid} is no process"))?;
    let pidfd = rustix::process::pidfd_open(pid.raw(), rustix::process::PidfdFlags::empty())
        .map_err(|errno| format!("the process {pid} cannot be watched: {}", std::io::Error::from(errno)))?;
    ended(pidfd.as_fd()).map_err(|error| format!("the process {pid} is no child of ours: {error}"))?;
    Ok((pid, pidfd))
}

/// Hears somebody from now on.
fn hear(shell: &Shell, speaker: Speaker, pidfd: &OwnedFd, voice: &Voice) -> Result<(), String> {
    let add = |fd: &OwnedFd, token| {
        shell
            .poller
            .add(fd, token, Interest::Read)
            .map_err(|errno| format!("the events of a process cannot be heard: {}", std::io::Error::from(errno)))
    };
    add(pidfd, Token::Exit(speaker))?;
    if let Some(fd) = &voice.stdout.fd {
        add(fd, Token::Stdout(speaker))?;
    }
    if let Some(fd) = &voice.stderr.fd {
        add(fd, Token::Stderr(speaker))?;
    }
    voice.link.as_ref().map_or(Ok(()), |link| add(&link.fd, Token::Link(speaker)))
}

fn zygote(shell: &mut Shell, left: &estate::Zygote) -> Result<(), String> {
    let id = ZygoteId(left.id);
    let (pid, pidfd) = process(left.pid)?;
    let voice = voice(shell, &left.voice)?;
    hear(shell, Speaker::Zygote(id), &pidfd, &voice)?;
    shell.zygotes.insert(Zygote {
        id,
        pool: PoolId(left.pool),
        generation: GenerationId(left.generation),
        files: if left.has_changed_files { Files::Changed } else { Files::Noted },
        pid,
        pidfd,
        voice,
        started: Instant::from_nanos(left.started),
        speaks: true,
        ready: Some(Instant::from_nanos(left.ready)),
        memory: left.memory,
        unsent: Vec::new(),
        orders: BTreeMap::new(),
        is_broken: false,
        is_unavailable: false,
        retry_after: None,
        condemned: None,
        is_leaving: false,
        is_dismissed: false,
    });
    Ok(())
}

fn worker(shell: &mut Shell, left: &estate::Worker) -> Result<(), String> {
    let id = WorkerId(left.id);
    let (pid, pidfd) = process(left.pid)?;
    let voice = voice(shell, &left.voice)?;
    hear(shell, Speaker::Worker(id), &pidfd, &voice)?;
    let baseline = left
        .baseline
        .map(|[rchar, wchar, syscr, syscw, heard]| Baseline { io: Io { rchar, wchar, syscr, syscw }, heard });
    shell.workers.insert(Worker {
        id,
        pool: PoolId(left.pool),
        slot: SlotId(left.slot),
        generation: GenerationId(left.generation),
        pid,
        pidfd,
        voice,
        speaks: left.speaks,
        started: Instant::from_nanos(left.started),
        ready: Some(Instant::from_nanos(left.ready)),
        looks: 0,
        leave: Leave::No,
        baseline,
        told: left.told,
        was_in_hand: left.was_in_hand,
        text: left.text.clone(),
        trial: None,
        held: None,
        is_traced: false,
        brood: Vec::new(),
        nursery: None,
        has_quit: false,
        queued: left.private.as_ref().map(queued),
    });
    let pool = shell.pools.get_mut(PoolId(left.pool)).ok_or_else(|| format!("the worker {pid} has no pool"))?;
    pool.members.insert(id);
    pool.ready.insert(id);
    nurse::watch(shell, id);
    Ok(())
}

fn queued(left: &estate::Private) -> Queued {
    let estate::Private { path, inode, is_workers_own, life, is_connected, max_requests, served_before, served } =
        left.clone();
    let private = Private { path: path.into(), inode, is_workers_own, loopback: None };
    let stage = Stage::Admit { max_requests };
    Queued { stage, life, is_connected, served_before, served, ..Queued::new(private) }
}

fn front(shell: &mut Shell, left: &estate::Front) -> Result<(), String> {
    let front = &mut shell.front;
    (front.lives, front.restarts, front.reports) = (left.lives, left.restarts, left.reports);
    front.reported = left.reports;
    front.secret.clone_from(&left.secret);
    let Some(left) = &left.life else { return Ok(()) };
    let (pid, pidfd) = process(left.pid)?;
    let life = Life {
        number: left.number,
        pid,
        pidfd,
        channel: Channel::take_over(copy(left.channel, "the channel to the front")?),
        stdout: pipe(&left.stdout)?,
        stderr: pipe(&left.stderr)?,
        started: Instant::from_nanos(left.started),
        wants_room: false,
        asked: Default::default(),
        why: None,
        is_leaving: false,
        rate: Rate::new(),
    };
    front_process::hear_all(shell, &life)?;
    shell.front.life = Some(life);
    Ok(())
}
