//! Orders zygotes to fork workers, and believes their answers as far as the kernel confirms them.
//!
//! An order is sent with its doors (`doors.rs`) open. The new process goes through them, and then the zygote tells its
//! pid. It is a worker of ours when its parent is the supervisor, nobody knows it yet, it belongs to the pool's user and
//! has not begun before the zygote, which may have forked it in advance. From there on it is like any other worker. What is
//! not answered ends with the zygote.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open, setpgid};
use steadfast_policy::class::Exit;
use steadfast_policy::event::{Event as Fact, Files, SpawnFault};
use steadfast_policy::ids::{GenerationId, PoolId, SlotId, WorkerId, ZygoteId};
use steadfast_proto::link::{self, Fork, ToWorker};

use crate::children::{Kill, Pid, signal};
use crate::containment;
use crate::doors::Entered;
use crate::front::private::Private;
use crate::front::settings;
use crate::links;
use crate::shell::{Corpse, Shell};
use crate::spawn::Spawned;
use crate::spawn_error::is_shortage;
use crate::start::{self, Failed, Newcomer, Seat};
use crate::sys;
use crate::voice::{Speaker, Word};
use crate::zygote;
use crate::zygotes::{Order, Zygote};

/// Orders a zygote to fork a worker.
pub(crate) fn order(shell: &mut Shell, seat: Seat, zygote: ZygoteId) {
    if let Err(why) = try_order(shell, seat, zygote) {
        start::failed(shell, seat.worker, seat.pool, why);
    }
}

fn try_order(shell: &mut Shell, seat: Seat, id: ZygoteId) -> Result<(), Failed> {
    let Seat { worker, pool, slot, generation, is_trial } = seat;
    let gone = || Failed { message: "its zygote is gone".to_owned(), fault: SpawnFault::Zygote, files: Files::Noted };
    let is_able = |zygote: &&Zygote| !zygote.is_leaving && !zygote.is_dismissed && zygote.voice.link.is_some();
    let zygote = shell.zygotes.get(id).filter(is_able);
    let files = zygote.ok_or_else(gone)?.files;
    let pool = shell.pools.get(pool).ok_or_else(gone)?;
    let plan = &pool.generations.get(&generation).ok_or_else(gone)?.plan;
    let (name, user) = (plan.config.name.as_str(), plan.launch.user());
    let path = (settings::is_queued(&plan.config) || is_trial).then(|| shell.halls.socket(name, worker, user));
    let host = |error: std::io::Error| Failed {
        message: format!("cannot prepare a worker's pipes in the runtime directory: {error}"),
        fault: SpawnFault::Host,
        files,
    };
    let doors = shell.halls.doors(name, worker, user).map_err(host)?;
    let [stdout, stderr, link] = doors.paths().map(Some);
    let path = path.map(|path| path.to_string_lossy().into_owned());
    let message = ToWorker::Fork(Fork { slot: slot.0, path, stdout, stderr, link });
    let zygote = shell.zygotes.get_mut(id).ok_or_else(gone)?;
    zygote.unsent.extend(link::encode(&message).unwrap_or_default());
    zygote.orders.insert(slot, Order { worker, doors, is_trial });
    zygote::flush(shell, id);
    Ok(())
}

/// A zygote's answer: that process is the worker of this slot.
pub(crate) fn forked(shell: &mut Shell, id: ZygoteId, slot: u32, pid: u32) {
    let Some(zygote) = shell.zygotes.get_mut(id) else {
        return;
    };
    let (pool, generation, files, parent) = (zygote.pool, zygote.generation, zygote.files, zygote.pid);
    let Some(order) = zygote.orders.remove(&SlotId(slot)) else {
        dispose(shell, id, pid);
        return links::nonsense(shell, Speaker::Zygote(id), &format!("`forked` of slot {slot}, which was not ordered"));
    };
    let worker = order.worker;
    match identify(shell, pool, generation, parent, pid) {
        Ok((pid, pidfd)) => {
            containment::receive(shell, Speaker::Worker(worker), pool, pid);
            let Order { doors, is_trial, .. } = order;
            let Entered { stdout, stderr, link, has_stranger } = doors.enter(pid);
            if has_stranger {
                links::nonsense(shell, Speaker::Zygote(id), "another process than the new worker connected its link");
            }
            let private = private(shell, pool, generation, worker, &pidfd, is_trial);
            let spawned = Spawned { pid, pidfd, stdout, stderr, link, outside: None };
            let newcomer = Newcomer { worker, pool, slot: SlotId(slot), generation, files, is_trial };
            start::welcome(shell, newcomer, spawned, private);
        }
        Err(NotIt::Unseen(errno)) => {
            order.doors.unlink();
            let message = format!("cannot look at the process {pid}: {}", std::io::Error::from(errno));
            start::failed(shell, worker, pool, Failed { message, fault: SpawnFault::Host, files });
        }
        Err(NotIt::Another(why)) => {
            order.doors.unlink();
            dispose(shell, id, pid);
            let why = format!("`forked` of the process {pid}, which {why} (docs/link.md, To fork a worker)");
            links::nonsense(shell, Speaker::Zygote(id), &why);
            start::failed(shell, worker, pool, Failed { message: why, fault: SpawnFault::Fork, files });
        }
    }
}

/// A zygote's other answer. Nobody is blamed only for what the kernel has refused.
pub(crate) fn failed(shell: &mut Shell, id: ZygoteId, slot: u32, message: &str, errno: Option<i32>) {
    let Some(zygote) = shell.zygotes.get_mut(id) else {
        return;
    };
    let (pool, files) = (zygote.pool, zygote.files);
    let Some(order) = zygote.orders.remove(&SlotId(slot)) else {
        return links::nonsense(shell, Speaker::Zygote(id), &format!("`fork-failed` of slot {slot}, not ordered"));
    };
    order.doors.unlink();
    let message = format!("the zygote could not fork it: {}", crate::output::escape(message.as_bytes(), 1024));
    let fault = if errno.is_some_and(|errno| is_shortage(Errno::from_raw_os_error(errno))) {
        SpawnFault::Host
    } else {
        SpawnFault::Fork
    };
    start::failed(shell, order.worker, pool, Failed { message, fault, files });
}

/// The zygote is dead: what it has not answered it never will.
pub(crate) fn abandon(shell: &mut Shell, pool: PoolId, orders: impl Iterator<Item = Order>) {
    for order in orders {
        order.doors.unlink();
        let message = "its zygote died before it had forked it".to_owned();
        let why = Failed { message, fault: SpawnFault::Zygote, files: Files::Noted };
        start::failed(shell, order.worker, pool, why);
    }
}

/// A worker is to be killed that was ordered and does not exist: its time is up, and a zygote that does not answer for so
/// long is none. True when it was one.
pub(crate) fn overdue(shell: &mut Shell, worker: WorkerId) -> bool {
    let Some(zygote) = shell.zygotes.ordered(worker) else {
        return false;
    };
    let id = zygote.id;
    let late: Vec<SlotId> =
        zygote.orders.iter().filter(|(_, order)| order.worker == worker).map(|(slot, _)| *slot).collect();
    for order in late.into_iter().filter_map(|slot| zygote.orders.remove(&slot)) {
        order.doors.unlink();
    }
    let message = "its zygote has not forked it in time".to_owned();
    let word = Some(Word { code: None, name: None, message: Some(message) });
    shell.corpses.insert(Speaker::Worker(worker), Corpse { word, ..Corpse::default() });
    shell.facts.push_back(Fact::WorkerExited { worker, exit: Exit::Signal(9), oom: false });
    zygote::condemn(shell, id, "it did not answer the order to fork a worker");
    true
}

/// Why a process that a zygote has told is not taken.
enum NotIt {
    /// It is not what it must be, but this.
    Another(String),
    /// We have no room to look at it.
    Unseen(Errno),
}

/// The process that the zygote has told, if it is what it must be.
fn identify(
    shell: &mut Shell,
    pool: PoolId,
    generation: GenerationId,
    zygote: Pid,
    pid: u32,
) -> Result<(Pid, OwnedFd), NotIt> {
    let another = |what: &str| NotIt::Another(what.to_owned());
    let pid = Pid::told(pid).ok_or_else(|| another("is none"))?;
    if is_known(shell, pid) {
        return Err(another("is somebody else"));
    }
    // From here on the number is that process's, for only its parent can reap it, and that must be us.
    let pidfd = pidfd_open(pid.raw(), PidfdFlags::empty()).map_err(|errno| match errno {
        Errno::SRCH | Errno::INVAL => another("does not exist"),
        _ => NotIt::Unseen(errno),
    })?;
    match shell.procfs.ppid(pid) {
        Some(parent) if parent == shell.host.pid => {}
        Some(parent) => {
            let what = format!("is a child of {parent}, and not of the supervisor: the middle must exit");
            return Err(NotIt::Another(what));
        }
        None => return Err(another("cannot be looked at")),
    }
    // One that was forked in advance is older than the order. But nobody is older than his parent.
    if !is_younger(shell, pid, zygote) {
        return Err(another("has begun before the zygote"));
    }
    let user = user(shell, pool, generation);
    match shell.procfs.uid(pid) {
        Some(uid) if uid == user => {}
        Some(uid) => {
            return Err(NotIt::Another(format!("belongs to the user {uid}, and not to the pool's ({user})")));
        }
        None => return Err(another("cannot be looked at")),
    }
    // A group of its own, or what kills the zygote's group kills it too. Its parent may do that until it executes.
    if sys::process_group(pid.get()).ok() != Some(pid.get()) {
        let _ = setpgid(Some(pid.raw()), Some(pid.raw()));
    }
    Ok((pid, pidfd))
}

/// Whether it is one of ours already.
fn is_known(shell: &Shell, pid: Pid) -> bool {
    let is_front = shell.front.by_pid(pid).is_some();
    let is_asker = shell.askers.values().any(|asker| asker.pid == pid);
    is_front || is_asker || shell.workers.by_pid(pid).is_some() || shell.zygotes.by_pid(pid).is_some()
}

/// Whether it has begun after its parent, as far as the kernel's clock ticks tell.
fn is_younger(shell: &mut Shell, pid: Pid, parent: Pid) -> bool {
    shell.procfs.start_time(parent).zip(shell.procfs.start_time(pid)).is_some_and(|(parent, child)| parent <= child)
}

/// Whose the processes of this generation are.
fn user(shell: &Shell, pool: PoolId, generation: GenerationId) -> u32 {
    let user = shell.pools.get(pool).and_then(|pool| pool.plan_of(generation).launch.user());
    user.unwrap_or(shell.host.uid)
}

/// What a zygote has forked to no order of ours, or not as it must, serves nobody and is nobody's: it ends. Only what this
/// zygote can have forked is touched: its own child or (orphaned) ours, of its user, unknown, and younger than it.
fn dispose(shell: &mut Shell, id: ZygoteId, pid: u32) {
    let Some((pool, generation, parent)) =
        shell.zygotes.get(id).map(|zygote| (zygote.pool, zygote.generation, zygote.pid))
    else {
        return;
    };
    let Some(pid) = Pid::told(pid).filter(|pid| !is_known(shell, *pid)) else {
        return;
    };
    // From here on the number is that process's: what is asked of it below is asked of the same one, or it is gone.
    let Ok(pidfd) = pidfd_open(pid.raw(), PidfdFlags::empty()) else {
        return;
    };
    let is_child = shell.procfs.ppid(pid).is_some_and(|of| of == parent.get() || of == shell.host.pid);
    let user = user(shell, pool, generation);
    if is_child && is_younger(shell, pid, parent) && shell.procfs.uid(pid) == Some(user) {
        let _ = signal(pidfd.as_fd(), Kill::Kill);
    }
}

/// What is remembered of the socket that the worker has bound; `None` in direct mode.
fn private(
    shell: &Shell,
    pool: PoolId,
    generation: GenerationId,
    worker: WorkerId,
    pidfd: &OwnedFd,
    is_trial: bool,
) -> Option<Private> {
    let plan = shell.pools.get(pool)?.plan_of(generation);
    let (config, user) = (&plan.config, plan.launch.user());
    if !settings::is_queued(config) && !is_trial {
        return None;
    }
    // Of one that is dead by now nothing is needed; where the kernel does not let us look, its word must do.
    let socket = pidfd_getfd(pidfd.as_fd(), 0, PidfdGetfdFlags::empty());
    let inode = socket.and_then(rustix::fs::fstat).map_or(0, |stat| stat.st_ino);
    Some(Private { path: shell.halls.socket(&config.name, worker, user), inode, is_workers_own: true, loopback: None })
}
