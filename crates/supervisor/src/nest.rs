//! Looks at the workers that a manager among our workers has started itself (Starman's master), while it stands still.
//!
//! They are not our children: nobody tells how they end, and the manager starts others at once, for ever. But a manager that
//! is stopped starts nobody, and reaps nobody: those who have died stay to be seen, and no pid changes its owner.
//!
//! *A trial* is stopped as soon as it has started somebody (`first_fork.rs`), and is ready then. Whom it has started loads the
//! application and answers the verify request without it; when all of them have died, which their pidfds tell, the generation
//! is broken, and not one more was started. Where it may not be traced, there are looks until it has started somebody, and
//! on a busy machine a few more workers until it is seen. Who executes another program is no worker, but a helper that the
//! application asks while it is loaded (`git describe`): the trial goes on until it starts somebody else.
//!
//! *A manager that leaves* is stopped, too. Each of its workers that waits in accept(2) is stopped, and looked at while it
//! stands still: a stopped accept cannot return. Then HUP is made pending, on which it leaves before it takes anything more.
//! (By itself it loses what it has just accepted when its manager's HUP comes in that moment.) The manager goes on when all have
//! gone, and gets its QUIT before.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::WorkerId;

use crate::asking;
use crate::children::{Kill, Pid, signal};
use crate::family::{self, Ended, children, state, workers};
use crate::idleness::{Seen, idle_files, is_standing, open_files};
use crate::links;
use crate::nursery::has_ended;
use crate::poller::{Interest, Token};
use crate::procfs::Syscall;
use crate::readiness;
use crate::shell::Shell;
use crate::timers::Timer;
use crate::voice::Word;
use crate::workers::{Step, Worker};

/// Between two looks at whether a trial that is not traced has started somebody: shorter than the life of a worker that dies
/// at its start, or others are started in its place. (Starman's die after some 2 ms where the application loads nothing.)
pub(crate) const FIRST: Duration = Duration::from_millis(1);
/// Between two looks at a trial that is to stand still.
const TRIAL: Duration = Duration::from_millis(4);
/// Between two looks at who leaves.
const LEAVING: Duration = Duration::from_millis(1);
/// The same while all are busy.
const BUSY: Duration = Duration::from_millis(8);
/// Whoever was sent HUP has gone after so many looks, or does not know what it means.
const LOOKS_MAX: u32 = 2000;

/// Begins to let its workers leave. The answer is `WorkerDrained`.
pub(crate) fn drain(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get_mut(id) else { return };
    worker.looks = 0;
    worker.nursery = None;
    worker.held.get_or_insert_default();
    let _ = signal(worker.pidfd.as_fd(), Kill::Stop);
    again(shell, id, LEAVING);
}

/// A look.
pub(crate) fn look(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get(id) else { return };
    let pid = worker.pid;
    if worker.trial.is_some() { look_at_trial(shell, id, pid) } else { look_at_leaving(shell, id, pid) }
}

/// What a manager on trial has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Brood {
    /// Nobody yet.
    None,
    /// Somebody who lives.
    Living,
    /// So many, of whom nobody lives.
    Dead(usize),
}

/// Whom a manager has started; `None` where the kernel does not tell, or it is gone.
pub(crate) fn brood(manager: Pid) -> Option<Brood> {
    let workers = workers(manager)?;
    Some(match workers.len() {
        0 => Brood::None,
        gone if workers.iter().all(|worker| family::is_dead_worker(*worker)) => Brood::Dead(gone),
        _ => Brood::Living,
    })
}

/// Why a generation is broken whose manager's workers are dead.
pub(crate) fn all_have_died(gone: usize) -> String {
    match gone {
        1 => "it starts workers of its own, and the first has died before it had answered".to_owned(),
        _ => format!("it starts workers of its own, and all {gone} have died before they had answered"),
    }
}

fn look_at_trial(shell: &mut Shell, id: WorkerId, pid: Pid) {
    let Some(workers) = workers(pid) else { return };
    let Some(worker) = shell.workers.get(id) else { return };
    match (worker.held.is_some(), workers.is_empty()) {
        (false, true) => again(shell, id, FIRST),
        (false, false) => {
            let _ = signal(worker.pidfd.as_fd(), Kill::Stop);
            hold(shell, id);
        }
        (true, _) if !is_standing(pid) => again(shell, id, TRIAL),
        (true, true) => let_go(shell, id),
        (true, false) => {
            // Whoever was started until it stood still is one of them.
            if worker.brood.is_empty() {
                hear(shell, id, &workers);
            }
            readiness::seen(shell, id);
            // On a busy machine a helper becomes one late.
            again(shell, id, BUSY);
        }
    }
}

/// It has started somebody, and was sent SIGSTOP. In a moment it is seen whether that is a worker.
pub(crate) fn hold(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get_mut(id) else { return };
    worker.held.get_or_insert_default();
    if let Some(nursery) = &mut worker.nursery {
        nursery.look_into();
    }
    again(shell, id, TRIAL);
}

/// Whom it has started has not begun yet: its death is heard even where the kernel reaps it (SIGCHLD is ignored).
pub(crate) fn hear_first(shell: &mut Shell, id: WorkerId) {
    let pid = shell.workers.get(id).filter(|worker| worker.trial.is_some()).map(|worker| worker.pid);
    if let Some(workers) = pid.and_then(workers) {
        hear(shell, id, &workers);
    }
}

/// Whom it has started is no worker: it goes on until it starts somebody else.
fn let_go(shell: &mut Shell, id: WorkerId) {
    let is_traced = shell.workers.get_mut(id).is_some_and(Worker::trace);
    release(shell, id);
    if !is_traced {
        again(shell, id, FIRST);
    }
}

/// Their deaths are heard from now on; the dead are told at once. Their manager, which stands still, reaps none of them.
fn hear(shell: &mut Shell, id: WorkerId, workers: &[u32]) {
    let brood: Vec<OwnedFd> = workers.iter().filter_map(|worker| family::pidfd(*worker)).collect();
    for child in &brood {
        hear_end(shell, id, child);
    }
    if let Some(worker) = shell.workers.get_mut(id) {
        worker.brood = brood;
    }
}

/// The end of one whom this manager has started is heard from now on, if there is room for it.
pub(crate) fn hear_end(shell: &mut Shell, id: WorkerId, pidfd: &OwnedFd) -> bool {
    let heard = shell.poller.add(pidfd, Token::Nest(id), Interest::Read);
    if let Err(error) = heard {
        let error = std::io::Error::from(error);
        shell.warn(format!("cannot watch a worker that a manager has started: {error}"));
    }
    heard.is_ok()
}

/// One of them has died, or more.
pub(crate) fn died(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get_mut(id) else { return };
    let heard = worker.brood.len();
    worker.brood.retain(|child| !has_ended(child));
    if heard == 0 || !worker.brood.is_empty() {
        return;
    }
    let pid = worker.pid;
    // Its answer may be on its way (`--max-requests 1`); without one the verify request is overdue some time.
    let may_have_answered =
        |shell: &mut Shell| workers(pid).is_some_and(|dead| dead.iter().any(|it| has_served(shell, *it)));
    if shell.askers.contains_key(&id) && may_have_answered(shell) {
        return shell.timers.clear(Timer::Nest(id));
    }
    let Some(worker) = shell.workers.get_mut(id) else { return };
    let gone = match (workers(pid), children(pid)) {
        // Nobody is left at all: the kernel has reaped them.
        (Some(_), Some(children)) if children.is_empty() => heard,
        (workers, _) => workers.map_or(0, |workers| workers.len()),
    };
    if gone == 0 {
        return let_go(shell, id);
    }
    worker.voice.word.get_or_insert(Word { code: None, name: None, message: Some(all_have_died(gone)) });
    shell.timers.clear(Timer::Nest(id));
    asking::cancel(shell, id);
    links::broken(shell, id);
}

/// As far as is known of a dead one: it ended with 0, and had written something.
pub(crate) fn has_served(shell: &mut Shell, pid: u32) -> bool {
    let has_written = |pid: Pid| shell.procfs.io(pid).is_some_and(|io| io.wchar > 0);
    family::ended(pid) == Some(Ended::Well) && Pid::told(pid).is_some_and(has_written)
}

fn look_at_leaving(shell: &mut Shell, id: WorkerId, pid: Pid) {
    // One that is traced stands still as such.
    if !is_standing(pid) && state(pid.get()) != Some('t') {
        return again(shell, id, LEAVING);
    }
    let Some(children) = children(pid) else { return };
    let Some(worker) = shell.workers.get_mut(id) else { return };
    let Some(mut held) = worker.held.take() else { return };
    worker.looks += 1;
    let looks = worker.looks;
    let living: Vec<(u32, char)> = children
        .into_iter()
        .filter_map(|child| Some((child, state(child)?)))
        .filter(|(_, state)| *state != 'Z')
        .collect();
    let mut is_moving = false;
    for (child, state) in &living {
        let Some(pid) = Pid::told(*child) else { continue };
        let step = held.remove(child).unwrap_or(Step::Looking);
        let step = stepped(shell, pid, *state, step);
        is_moving |= step != Step::Looking;
        held.insert(*child, step);
    }
    if let Some(worker) = shell.workers.get_mut(id) {
        worker.held = Some(held);
    }
    if living.is_empty() || looks > LOOKS_MAX {
        return shell.facts.push_back(Fact::WorkerDrained { worker: id });
    }
    again(shell, id, if is_moving { LEAVING } else { BUSY });
}

/// One of its workers, a step further: idle, stopped, still idle, told to leave.
fn stepped(shell: &mut Shell, pid: Pid, state: char, step: Step) -> Step {
    match step {
        Step::Looking => match idle_files(shell, pid) {
            Seen::Idle(files) => {
                send(pid, Signal::STOP);
                Step::Stopping(files)
            }
            Seen::Nothing | Seen::Busy => Step::Looking,
        },
        Step::Stopping(files) if state != 'T' => Step::Stopping(files),
        Step::Stopping(files) => {
            // A connection that has come in meanwhile is one file more.
            let is_idle = shell.procfs.syscall(pid).is_some_and(Syscall::is_accepting)
                && open_files(pid).is_some_and(|open| open == files);
            if is_idle {
                send(pid, Signal::HUP);
            }
            send(pid, Signal::CONT);
            if is_idle { Step::Told } else { Step::Looking }
        }
        Step::Told => Step::Told,
    }
}

/// It goes on, and so does each of its workers that stands still. What it was sent before comes first.
pub(crate) fn release(shell: &mut Shell, id: WorkerId) {
    shell.timers.clear(Timer::Nest(id));
    let Some(worker) = shell.workers.get_mut(id) else { return };
    let Some(held) = worker.held.take() else { return };
    worker.brood.clear();
    for (child, _) in held.into_iter().filter(|(_, step)| matches!(step, Step::Stopping(_))) {
        // Its manager has not reaped it: the pid is still its own.
        if let Some(child) = Pid::told(child) {
            send(child, Signal::CONT);
        }
    }
    let _ = signal(worker.pidfd.as_fd(), Kill::Cont);
}

fn again(shell: &mut Shell, id: WorkerId, so_long: Duration) {
    let at = shell.clock.now().after(so_long);
    shell.timers.set(Timer::Nest(id), at);
}

fn send(pid: Pid, signal: Signal) {
    let _gone_already = kill_process(pid.raw(), signal);
}
