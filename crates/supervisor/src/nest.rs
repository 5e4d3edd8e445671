//! Looks at the workers that a manager among our workers has started itself (Starman's master), while it stands still.
//!
//! They are not our children: nobody tells how they end, and the manager starts others at once, for ever. But a manager that
//! is stopped starts nobody, and reaps nobody: those who have died stay to be seen, and no pid changes its owner.
//!
//! *A trial* is stopped as soon as it has started somebody, and is ready then. They load the application and answer the verify request without it;
//! when all of them have died, the generation is broken, and not one more was started.
//!
//! *A manager that leaves* is stopped, too. Each of its workers that waits in accept(2) is stopped, and looked at while it
//! stands still: a stopped accept cannot return. Then HUP is made pending, on which it leaves before it takes anything more.
//! (By itself it loses what it has just accepted when its manager's HUP comes in that moment.) The manager goes on when all have
//! gone, and gets its QUIT before.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::WorkerId;

use crate::asking;
use crate::children::{Kill, Pid, signal};
use crate::idleness::{Seen, idle_files, is_standing, open_files, state};
use crate::links;
use crate::procfs::Syscall;
use crate::readiness;
use crate::shell::Shell;
use crate::timers::Timer;
use crate::voice::Word;
use crate::workers::Step;

/// Between two looks at a trial: shorter than the life of a worker that dies at its start.
pub(crate) const TRIAL: Duration = Duration::from_millis(4);
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
    worker.held.get_or_insert_default();
    let _ = signal(worker.pidfd.as_fd(), Kill::Stop);
    again(shell, id, LEAVING);
}

/// A trial manager is ready as soon as it has started somebody, and stands still from then on.
pub(crate) fn watch(shell: &mut Shell, id: WorkerId) {
    let trial = shell.workers.get(id).and_then(|worker| worker.trial.as_ref());
    if trial.is_some_and(|private| private.loopback.is_some()) {
        again(shell, id, TRIAL);
    }
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
    let children = children(manager)?;
    let is_dead = |child: &u32| state(*child) == Some('Z');
    Some(match children.len() {
        0 => Brood::None,
        gone if children.iter().all(is_dead) => Brood::Dead(gone),
        _ => Brood::Living,
    })
}

/// Why a generation is broken whose manager's workers are dead.
pub(crate) fn all_have_died(gone: usize) -> String {
    format!("it starts workers of its own, and all {gone} have died before they had answered")
}

fn look_at_trial(shell: &mut Shell, id: WorkerId, pid: Pid) {
    let Some(brood) = brood(pid) else { return };
    let Some(worker) = shell.workers.get_mut(id) else { return };
    match (&worker.held, brood) {
        (None, Brood::Living | Brood::Dead(_)) => {
            worker.held = Some(BTreeMap::new());
            let _ = signal(worker.pidfd.as_fd(), Kill::Stop);
            readiness::seen(shell, id);
            again(shell, id, TRIAL);
        }
        (None, Brood::None) | (Some(_), Brood::None | Brood::Living) => again(shell, id, TRIAL),
        (Some(_), Brood::Dead(gone)) => {
            let message = all_have_died(gone);
            worker.voice.word.get_or_insert(Word { code: None, name: None, message: Some(message) });
            asking::cancel(shell, id);
            links::broken(shell, id);
        }
    }
}

fn look_at_leaving(shell: &mut Shell, id: WorkerId, pid: Pid) {
    if !is_standing(pid) {
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

/// The children of its main thread (proc(5), `children`).
fn children(pid: Pid) -> Option<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    Some(text.split_whitespace().filter_map(|child| child.parse().ok()).collect())
}
