//! The load of a direct pool, as the kernel shows it: who waits at its sockets, who is idle; and who comes next.
//!
//! Nobody counts requests here. How many connections wait is told by the socket (unix_diag, TCP_INFO). A worker is *idle* when
//! its main thread waits in accept(2), or in poll, select or epoll without a connection in hand; *busy* when it has one or
//! runs. Of any other nobody knows (a manager with workers of its own that waits for them), and what the kernel does not show
//! (`/proc/PID/syscall` may be closed to us) is nobody's idleness. So such a pool grows by its backlog only, and what is not
//! seen idle is never sent away.
//!
//! The sockets are heard for need once, when the policy orders it, and not again before it orders it again: a backlog that
//! nobody takes would wake us without end. A worker that was stopped in accept holds up nobody: a signal takes it from the
//! kernel's list of those who wait.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use steadfast_policy::event::{Event as Fact, Load};
use steadfast_policy::ids::{PoolId, WorkerId};

use crate::connections;
use crate::front::diag::{Diag, Waiting};
use crate::listener::Listener;
use crate::poller::{Interest, Poller, Token};
use crate::pools::Socket;
use crate::procfs::Syscall;
use crate::shell::Shell;
use crate::sys;
use crate::workers::Leave;

/// So many workers are looked at in one sample; of a larger pool others each time, and no more are known to be idle.
const LOOKED_AT: usize = 64;

/// Tells once when somebody comes.
pub(crate) fn watch(shell: &mut Shell, id: PoolId) {
    let Some(pool) = shell.pools.get_mut(id) else {
        return;
    };
    pool.is_watched = true;
    hear(&shell.poller, &pool.plan.sockets, Interest::Come);
}

/// Sockets that have come to a pool are watched as those were whose place they take.
pub(crate) fn watch_again(shell: &mut Shell, id: PoolId) {
    if shell.pools.get(id).is_some_and(|pool| pool.is_watched) {
        watch(shell, id);
    }
}

/// Somebody waits at this socket, or it has ended.
pub(crate) fn came(shell: &mut Shell, socket: u64) {
    let is_its = |sockets: &[Socket]| sockets.iter().any(|other| other.id == socket);
    let pools: Vec<PoolId> = shell.pools.iter().filter(|pool| is_its(&pool.plan.sockets)).map(|pool| pool.id).collect();
    for id in pools {
        let Some(pool) = shell.pools.get_mut(id) else {
            continue;
        };
        hear(&shell.poller, &pool.plan.sockets, Interest::End);
        if std::mem::take(&mut pool.is_watched) {
            sample(shell, id);
        }
    }
}

fn hear(poller: &Poller, sockets: &[Socket], interest: Interest) {
    for socket in sockets {
        // One that is not heard at all is about to be bound again, and then watched as the pool is.
        let _ = poller.modify(socket.listener.borrow().as_fd(), Token::Listener(socket.id), interest);
    }
}

/// Looks, and tells the policy.
pub(crate) fn sample(shell: &mut Shell, id: PoolId) {
    let Some(pool) = shell.pools.get_mut(id) else {
        return;
    };
    // First who waits: a worker that takes it meanwhile is not idle afterwards.
    let waiting = waiting(&mut shell.front.diag, &pool.plan.sockets);
    let looked_at = pool.next_ready(LOOKED_AT, None);
    let ready = u32::try_from(pool.ready.len()).unwrap_or(u32::MAX);
    let mut load = Load { waiting, ..Load::default() };
    for worker in looked_at {
        if is_idle(shell, worker) != Some(true) {
            continue;
        }
        load.idle += 1;
        if may_go(shell, worker) {
            load.longest_idle = Some((worker, shell.now));
        }
    }
    load.busy = ready.saturating_sub(load.idle);
    shell.facts.push_back(Fact::LoadSampled { pool: id, load });
}

/// How many connections wait to be accepted.
fn waiting(diag: &mut Diag, sockets: &[Socket]) -> u32 {
    let waiting = |socket: &Socket| {
        let listener = socket.listener.borrow();
        let told = match listener.is_tcp() {
            true => sys::tcp_backlog(listener.as_fd()).ok(),
            false => match diag.waiting(listener.inode()) {
                Waiting::Connections(count) => Some(count),
                Waiting::Nothing | Waiting::Unknown => None,
            },
        };
        told.unwrap_or_else(|| u32::from(is_readable(&listener)))
    };
    sockets.iter().map(waiting).fold(0, u32::saturating_add)
}

fn is_readable(listener: &Listener) -> bool {
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|_| fds[0].revents().contains(PollFlags::IN))
}

/// Whether a worker that serves has nothing in hand; `None` when nobody knows.
pub(crate) fn is_idle(shell: &mut Shell, id: WorkerId) -> Option<bool> {
    let worker = shell.workers.get(id)?;
    if worker.trial.is_some() || worker.leave != Leave::No {
        return None;
    }
    let syscall = shell.procfs.syscall(worker.pid)?;
    if syscall.is_accepting() {
        return Some(true);
    }
    if connections::has_one(worker.pid, worker.pidfd.as_fd()) {
        return Some(false);
    }
    match syscall {
        waits if waits.is_waiting() => Some(true),
        Syscall::Running => Some(false),
        Syscall::Blocked { .. } => None,
    }
}

/// Whether an idle worker can be made to leave without a request: a moment in which it waits in accept can be found, or it sees
/// to it by itself.
fn may_go(shell: &mut Shell, id: WorkerId) -> bool {
    let Some((pid, speaks)) = shell.workers.get(id).map(|worker| (worker.pid, worker.speaks)) else {
        return false;
    };
    let is_accepting = |shell: &mut Shell| shell.procfs.syscall(pid).is_some_and(|syscall| syscall.is_accepting());
    speaks || is_accepting(shell) || shell.procfs.catches_term(pid) == Some(true)
}
