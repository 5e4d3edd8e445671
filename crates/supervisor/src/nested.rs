//! Managers that nobody has asked for: a worker that starts workers of its own on the socket that it was given, as a program
//! with FCGI::ProcManager does, and `plackup -s FCGI` without being told.
//!
//! Everything goes on, but who serves is not who is looked after: the manager is verified, counted, told to leave and killed,
//! its workers are not. In direct mode it never waits for a request, and so is never ready. Either is told, with the remedy:
//! once for each generation, a moment after its first worker is ready, or where it is said that it was not ready in time.
//!
//! What another user's process has open, and what it waits for, is shown to those with CAP_SYS_PTRACE only, which a hardened unit
//! has not (docs/systemd.md). In queue mode the front sees who answers, which needs no privilege. In direct mode everybody counts
//! as ready there, and nobody can tell what a worker's children do: so it is told that they are there, and how to see more.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use steadfast_policy::ids::{PoolId, WorkerId};

use crate::children::Pid;
use crate::events::kind::Kind;
use crate::family;
use crate::procfs::{Procfs, Syscall};
use crate::shell::Shell;
use crate::timers::Timer;

/// A manager that serves has started its workers by then.
pub(crate) const AFTER: Duration = Duration::from_secs(2);
/// So many workers of a generation are looked at.
const LOOKED_AT: usize = 4;
/// So many of what a process has open are looked at.
const LINKS_MAX: usize = 4096;
/// What is to be done about it.
const REMEDY: &str = "Let it serve by itself: plackup with --manager FCGI::ProcManager::Steadfast (or --manager ''), \
                      FCGI::ProcManager with n_processes => 0 or PERL5OPT=-MFCGI::ProcManager::Steadfast=:replace";

/// A worker is ready: if it is its generation's first, that one is looked at soon. Of a pool whose workers are meant to be
/// managers nothing is said.
pub(crate) fn watch(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get(id) else { return };
    let generation = worker.generation;
    let Some(pool) = shell.pools.get_mut(worker.pool) else { return };
    if pool.looked_at >= Some(generation) || pool.has_managers(generation) {
        return;
    }
    pool.looked_at = Some(generation);
    let at = shell.now.after(AFTER);
    shell.timers.set(Timer::Nested(pool.id), at);
}

/// The look.
pub(crate) fn look(shell: &mut Shell, pool: PoolId) {
    let Some(pool) = shell.pools.get(pool) else { return };
    let ready =
        pool.ready.iter().filter(|id| shell.workers.get(**id).map(|worker| worker.generation) == pool.looked_at);
    let workers: Vec<WorkerId> = ready.copied().take(LOOKED_AT).collect();
    let named = workers.into_iter().find_map(|id| Some((id, told(shell, id).or_else(|| suspected(shell, id))?)));
    if let Some((id, text)) = named {
        name_once(shell, id, text);
    }
}

/// The front has read a worker's first answer, and that process has written it.
pub(crate) fn answered(shell: &mut Shell, id: WorkerId, pid: u32) {
    let Some(worker) = shell.workers.get(id) else { return };
    // A front may say anything. And a program that a worker has only started (by a shell, say) is no manager's worker.
    let is_its_own = family::workers(worker.pid).is_some_and(|children| children.contains(&pid));
    if is_its_own && !shell.is_manager(id) {
        let text = format!(
            "the process {pid}, which it has started, answers in its place: it is a manager, and whom it starts is neither \
             verified nor looked after. {REMEDY}"
        );
        name_once(shell, id, text);
    }
}

fn name_once(shell: &mut Shell, id: WorkerId, text: String) {
    let Some(worker) = shell.workers.get(id) else { return };
    let generation = worker.generation;
    let Some(pool) = shell.pools.get_mut(worker.pool) else { return };
    if pool.nested < Some(generation) {
        pool.nested = Some(generation);
        let event = shell.event_of(Kind::WorkerNested, id);
        shell.emit(event.message(text));
    }
}

/// What is said of a worker that is a manager, if it is one, as far as the kernel shows.
pub(crate) fn told(shell: &mut Shell, id: WorkerId) -> Option<String> {
    let worker = shell.workers.get(id)?;
    let pool = shell.pools.get(worker.pool)?;
    if pool.has_managers(worker.generation) {
        return None;
    }
    let sockets: Vec<u64> = match &worker.queued {
        Some(queued) => vec![queued.private.inode],
        None => {
            let sockets = pool.plan_of(worker.generation).sockets.iter();
            sockets.map(|socket| socket.listener.borrow().inode()).collect()
        }
    };
    words(worker.pid, &sockets, &mut shell.procfs)
}

/// The same of any process that was given the sockets with these inodes.
pub(crate) fn words(manager: Pid, sockets: &[u64], procfs: &mut Procfs) -> Option<String> {
    let sockets: Vec<String> = sockets.iter().copied().map(name).collect();
    let children = family::workers(manager)?.into_iter().filter_map(Pid::told);
    // Who has inherited the socket, and does something else, is none of its workers.
    let mut is_waiting = |child: Pid| procfs.syscall(child).is_some_and(Syscall::is_waiting);
    let count = children.filter(|child| has_one_of(*child, &sockets) && is_waiting(*child)).count();
    if count == 0 {
        return None;
    }
    let plural = if count == 1 { "" } else { "es" };
    Some(format!(
        "it has started {count} process{plural} of its own on its socket: it is a manager, and whom it starts is neither verified \
         nor looked after. {REMEDY}"
    ))
}

/// What is said of a direct pool's worker with children of its own that nobody lets us look at.
fn suspected(shell: &Shell, id: WorkerId) -> Option<String> {
    let worker = shell.workers.get(id).filter(|worker| worker.queued.is_none())?;
    if shell.is_manager(id) {
        return None;
    }
    let hidden = match family::workers(worker.pid)?.into_iter().filter(|child| is_hidden(*child)).count() {
        0 => return None,
        1 => "a process of its own that runs".to_owned(),
        count => format!("{count} processes of its own that run"),
    };
    Some(format!(
        "it has started {hidden} the same program, and whether that serves in its place is not shown to this supervisor without \
         CAP_SYS_PTRACE (docs/systemd.md, direct.conf). If so, it is a manager, and whom it starts is neither verified nor looked \
         after. {REMEDY}"
    ))
}

/// Whether the kernel refuses to show us what it has open. (Who has CAP_DAC_OVERRIDE is told how many that are, and no more.)
fn is_hidden(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// As /proc/PID/fd names it.
fn name(inode: u64) -> String {
    format!("socket:[{inode}]")
}

fn has_one_of(pid: Pid, sockets: &[String]) -> bool {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let targets = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    targets.take(LINKS_MAX).any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}
