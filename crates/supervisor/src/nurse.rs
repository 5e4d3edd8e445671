//! Managers that serve (Starman's master): whom they start themselves is watched, and a manager stands still when they die
//! before they can take a request. Left alone, it would start others at once, for ever.
//!
//! They are not our children. A pidfd tells the death of each, but neither why nor that another has come in its place: after a
//! death there are looks until the manager has as many as before and each of them waits for a request. Nobody looks at a
//! manager whose workers are well.
//!
//! *Free*: it does as it likes. When two of its workers in a row have died without having been seen ready, it is stopped.
//! *Judged*: it stands still, starts nobody and reaps nobody. Whoever lives and is not ready yet has the time of
//! `ready-timeout`; who becomes ready acquits the manager. (The next time it takes twice as many deaths.) One that ended with 0
//! and had written something may have served, for under full load a short life is hardly seen: then the next one is judged, three
//! times in a row. One that died otherwise is told the policy. *Resting*: it stands still until the policy lets it go on.
//! *Trying*: it goes on until it has started one worker (`first_fork.rs`; looks, where it may not be traced), and that one is
//! judged; or for a minute, when it starts nobody.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use steadfast_policy::event::{Event as Fact, Files};
use steadfast_policy::ids::{GenerationId, WorkerId};

use crate::children::{Kill, Pid, signal};
use crate::connections;
use crate::expectation;
use crate::family;
use crate::idleness::is_standing;
use crate::nest;
use crate::nursery::{Child, Nursery, SUCCESSION, Stage};
use crate::pools::Pool;
use crate::procfs::Syscall;
use crate::readiness::{self, interval};
use crate::shell::Shell;
use crate::timers::Timer;
use crate::voice::Word;
use crate::workers::Worker;

/// Where it is not to be seen what a process waits for, it is taken for ready after so long.
const BLIND: Duration = Duration::from_secs(1);
/// So long a manager is looked at in any case: between a death and a birth it seems to be whole.
const ACQUAINTANCE: Duration = Duration::from_secs(1);
/// So long after a death it is looked each millisecond: some live no longer, and whom no look has met is not known to have died.
const MOURNING: Duration = Duration::from_millis(250);
/// Between two looks until then, and as long as it is not ready: in 64 ms five workers that die as they load are started anew
/// thirty times.
const NEW: Duration = Duration::from_millis(4);
/// So often in a row it is believed of one that nobody has seen ready that it has served.
const BELIEVED_MAX: u32 = 3;
/// Between two looks at a manager that is to stand still, or to start somebody.
const SOON: Duration = Duration::from_millis(1);

/// A manager has been started, or was there before us: its workers are watched from now on. One that stands still was put to
/// rest by the image before us.
pub(crate) fn watch(shell: &mut Shell, id: WorkerId) {
    let (now, is_manager) = (shell.now, shell.is_manager(id));
    let Some(worker) = shell.workers.get_mut(id).filter(|worker| is_manager && worker.trial.is_none()) else { return };
    worker.nursery = Some(Box::new(Nursery::new(now)));
    // Whoever can take a request by now acquits nobody.
    take_in(shell, id);
    see_who_is_ready(shell, id);
    if let Some(worker) = shell.workers.get_mut(id)
        && is_standing(worker.pid)
        && let Some(nursery) = &mut worker.nursery
    {
        worker.held.get_or_insert_default();
        nursery.look_into();
    }
    again(shell, id, SOON);
}

/// A look at a manager; the time of one that is on trial or leaves has come as well (`nest.rs`).
pub(crate) fn look(shell: &mut Shell, id: WorkerId) {
    let Some(nursery) = nursery(shell, id) else { return nest::look(shell, id) };
    nursery.looks = nursery.looks.saturating_add(1);
    match nursery.stage {
        Stage::Free => look_at_free(shell, id),
        Stage::Judged => judge(shell, id),
        Stage::Trying => look_for_a_birth(shell, id),
        Stage::Resting => {}
    }
}

/// One of its workers has died, or more.
pub(crate) fn died(shell: &mut Shell, id: WorkerId) {
    let now = shell.now;
    let Some(nursery) = nursery(shell, id) else { return nest::died(shell, id) };
    if nursery.bury(now) == 0 {
        return;
    }
    let is_suspicious = nursery.is_suspicious(now);
    match nursery.stage {
        Stage::Free if is_suspicious => stop(shell, id),
        Stage::Resting if nursery.living() == 0 => give_up(shell, id, Files::Noted),
        Stage::Free | Stage::Judged => again(shell, id, SOON),
        Stage::Resting | Stage::Trying => {}
    }
}

/// The policy's word: it may start one more.
pub(crate) fn resume(shell: &mut Shell, id: WorkerId) {
    match nursery(shell, id) {
        Some(nursery) if nursery.stage == Stage::Resting => try_one(shell, id),
        // It was let go meanwhile, for a reason of ours.
        Some(_) | None => shell.facts.push_back(Fact::ChildReady { worker: id }),
    }
}

/// It was sent SIGCONT: by us, or by somebody else, whose word it is to start one more.
pub(crate) fn continued(shell: &mut Shell, pid: Pid) {
    let Some(id) = shell.workers.by_pid(pid).filter(|_| !is_standing(pid)) else { return };
    match nursery(shell, id).map(|nursery| nursery.stage) {
        Some(Stage::Resting) => try_one(shell, id),
        Some(Stage::Judged) => still(shell, id),
        Some(Stage::Free | Stage::Trying) | None => {}
    }
}

/// It has started somebody, and does not go on before it has been sent SIGSTOP.
pub(crate) fn forked(shell: &mut Shell, id: WorkerId) {
    nest::hold(shell, id);
    // Who dies and is reaped by the kernel is not to be seen later.
    match nursery(shell, id) {
        Some(_) => take_in(shell, id),
        None => nest::hear_first(shell, id),
    }
}

/// It is to leave: it is watched no more. It goes on standing still, if it does.
pub(crate) fn forget(shell: &mut Shell, id: WorkerId) {
    if let Some(worker) = shell.workers.get_mut(id) {
        worker.nursery = None;
    }
    shell.timers.clear(Timer::Nest(id));
}

fn nursery(shell: &mut Shell, id: WorkerId) -> Option<&mut Nursery> {
    shell.workers.get_mut(id)?.nursery.as_deref_mut()
}

fn look_at_free(shell: &mut Shell, id: WorkerId) {
    take_in(shell, id);
    see_who_is_ready(shell, id);
    let now = shell.now;
    let ready = shell.workers.get(id).and_then(|worker| worker.ready);
    let Some(nursery) = nursery(shell, id) else { return };
    let is_whole = nursery.children.len() >= nursery.full;
    let is_over = nursery.bereaved.is_none_or(|at| now.since(at) >= SUCCESSION);
    if is_over {
        nursery.full = nursery.children.len();
    }
    // It may load the application for as long as it likes, and start its first worker then.
    let is_known = ready.is_some_and(|ready| now.since(ready.max(nursery.begun)) >= ACQUAINTANCE);
    let looks = nursery.looks;
    if !(nursery.are_all_ready() && (is_whole || is_over) && is_known) {
        let wait = match is_known {
            _ if nursery.bereaved.is_some_and(|at| now.since(at) < MOURNING) => SOON,
            true => pace(looks),
            false => interval(looks).min(NEW),
        };
        again(shell, id, wait);
    }
}

/// Between two looks: often, while something is to be expected at once.
fn pace(looks: u32) -> Duration {
    // 1 to 64 ms for a second, then each second.
    if looks < 24 { interval(looks) } else { Duration::from_secs(1) }
}

/// Watches those of its workers that live and are not known yet.
fn take_in(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get(id) else { return };
    let Some(pids) = family::workers(worker.pid) else { return };
    let now = shell.now;
    let Some(nursery) = nursery(shell, id) else { return };
    // A pid may have found another owner.
    nursery.bury(now);
    let known: BTreeSet<u32> = nursery.children.keys().copied().collect();
    for pid in pids.into_iter().filter(|pid| !known.contains(pid) && family::state(*pid) != Some('Z')) {
        let Some(pidfd) = family::pidfd(pid) else { continue };
        if !nest::hear_end(shell, id, &pidfd) {
            continue;
        }
        if let Some(nursery) = self::nursery(shell, id) {
            nursery.children.insert(pid, Child { pidfd, since: now, is_ready: false });
            nursery.full = nursery.full.max(nursery.children.len());
        }
    }
    // Who executes another program after all is no worker.
    if let Some(nursery) = self::nursery(shell, id) {
        nursery.children.retain(|pid, child| child.is_ready || family::has_executed(*pid) != Some(true));
    }
}

/// Which of its workers wait for a request, or have one in hand; whether there are more of them than before.
fn see_who_is_ready(shell: &mut Shell, id: WorkerId) -> bool {
    let now = shell.now;
    let timeout = ready_timeout(shell, id);
    let Shell { workers, procfs, .. } = shell;
    let Some(nursery) = workers.get_mut(id).and_then(|worker| worker.nursery.as_deref_mut()) else { return false };
    let mut is_news = false;
    for (pid, child) in nursery.children.iter_mut().filter(|(_, child)| !child.is_ready) {
        let Some(pid) = Pid::told(*pid) else { continue };
        let age = now.since(child.since);
        let pidfd = child.pidfd.as_fd();
        let syscall = procfs.syscall(pid);
        child.is_ready = match syscall.and_then(|syscall| is_waiting(pid, pidfd, syscall)) {
            Some(true) => true,
            Some(false) if connections::has_one(pid, pidfd) => true,
            // Whatever it does, it has long lived.
            Some(false) => nursery.stage == Stage::Free && age >= timeout,
            None => age >= BLIND,
        };
        is_news |= child.is_ready;
    }
    if is_news {
        (nursery.early, nursery.believed) = (0, 0);
    }
    tell_that_it_is_ready(shell, id);
    is_news
}

/// A manager is ready when one of its workers is; whoever speaks, by its word only.
fn tell_that_it_is_ready(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get(id) else { return };
    let is_silent = !worker.speaks && !worker.voice.is_unread();
    if worker.ready.is_none() && is_silent && worker.nursery.as_ref().is_some_and(|nursery| nursery.living() > 0) {
        readiness::seen(shell, id);
    }
}

/// Whether it waits for a request; `None` where that is not to be seen: of a lock, too, behind which others may wait for one, or
/// for their turn to load something.
fn is_waiting(pid: Pid, pidfd: BorrowedFd<'_>, syscall: Syscall) -> Option<bool> {
    const LOCKING: [i64; 3] = [libc::SYS_flock, libc::SYS_semop, libc::SYS_semtimedop];
    match syscall {
        Syscall::Blocked { number, .. } if LOCKING.contains(&number) => None,
        _ => expectation::is_of_a_visitor(pid, pidfd, syscall),
    }
}

fn ready_timeout(shell: &Shell, id: WorkerId) -> Duration {
    let of = pool_and_generation(shell, id);
    of.map_or(Duration::MAX, |(pool, generation)| pool.plan_of(generation).config.ready_timeout)
}

fn pool_and_generation(shell: &Shell, id: WorkerId) -> Option<(&Pool, GenerationId)> {
    let worker = shell.workers.get(id)?;
    Some((shell.pools.get(worker.pool)?, worker.generation))
}

/// It is to stand still, and what it has started is looked into.
fn stop(shell: &mut Shell, id: WorkerId) {
    if let Some(nursery) = nursery(shell, id) {
        nursery.look_into();
    }
    still(shell, id);
    again(shell, id, SOON);
}

fn still(shell: &mut Shell, id: WorkerId) {
    if let Some(worker) = shell.workers.get_mut(id) {
        worker.held.get_or_insert_default();
        let _ = signal(worker.pidfd.as_fd(), Kill::Stop);
    }
}

/// Where it may not be traced: it is stopped as soon as it is seen to have started somebody. Whoever starts nobody wants nobody.
fn look_for_a_birth(shell: &mut Shell, id: WorkerId) {
    take_in(shell, id);
    let (now, is_traced) = (shell.now, shell.workers.get(id).is_some_and(|worker| worker.is_traced));
    let Some(nursery) = nursery(shell, id) else { return };
    if nursery.is_content(now) {
        return acquit(shell, id);
    }
    if nursery.are_all_ready() {
        // For a second each millisecond, for they die soon; then it is in no hurry itself.
        let wait = if nursery.looks < 1000 { nest::FIRST } else { pace(nursery.looks) };
        return again(shell, id, if is_traced { SUCCESSION } else { wait });
    }
    stop(shell, id);
}

/// It stands still, or is about to.
fn judge(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get(id) else { return };
    let manager = worker.pid;
    if !is_standing(manager) {
        let looks = nursery(shell, id).map_or(0, |nursery| nursery.looks);
        return again(shell, id, interval(looks));
    }
    take_in(shell, id);
    let dead = newly_dead(shell, id, manager);
    if see_who_is_ready(shell, id) {
        return acquit(shell, id);
    }
    if is_believed(shell, id, &dead) {
        // Whoever comes next is looked at alone.
        if let Some(nursery) = nursery(shell, id) {
            nursery.judged.extend(dead);
        }
        return try_one(shell, id);
    }
    let (now, timeout) = (shell.now, ready_timeout(shell, id));
    let Some(nursery) = nursery(shell, id) else { return };
    let mut is_expected = false;
    for child in nursery.children.values().filter(|child| !child.is_ready) {
        is_expected = true;
        if now.since(child.since) >= timeout {
            let _gone_already = pidfd_send_signal(&child.pidfd, Signal::KILL);
        }
    }
    let looks = nursery.looks;
    // Nothing is left of the dead where the kernel reaps them (SIGCHLD is ignored).
    let has_failed = !dead.is_empty() || (nursery.tried.is_some() && nursery.early > 0);
    match (is_expected, has_failed) {
        (true, _) => again(shell, id, interval(looks)),
        (false, false) => try_one(shell, id),
        (false, true) => fail(shell, id, dead),
    }
}

/// Its workers that have died since the last judgement, as long as it has not reaped them.
fn newly_dead(shell: &mut Shell, id: WorkerId, manager: Pid) -> Vec<u32> {
    let mut pids = family::workers(manager).unwrap_or_default();
    pids.retain(|pid| family::is_dead_worker(*pid));
    let Some(nursery) = nursery(shell, id) else { return Vec::new() };
    nursery.judged.retain(|pid| pids.contains(pid));
    pids.retain(|pid| !nursery.judged.contains(pid));
    pids
}

/// Whether one of the dead may have done its share unseen. What only looks so is never seen ready, and not believed for long.
fn is_believed(shell: &mut Shell, id: WorkerId, dead: &[u32]) -> bool {
    if !dead.iter().any(|pid| nest::has_served(shell, *pid)) {
        return false;
    }
    let Some(nursery) = nursery(shell, id) else { return false };
    nursery.believed += 1;
    nursery.believed <= BELIEVED_MAX
}

/// Whom it starts can take requests. It is not looked into soon again.
fn acquit(shell: &mut Shell, id: WorkerId) {
    let now = shell.now;
    if let Some(nursery) = nursery(shell, id) {
        nursery.acquit(now);
    }
    set_free(shell, id);
    shell.facts.push_back(Fact::ChildReady { worker: id });
}

fn set_free(shell: &mut Shell, id: WorkerId) {
    let now = shell.now;
    nest::release(shell, id);
    if let Some(nursery) = nursery(shell, id) {
        (nursery.stage, nursery.tried) = (Stage::Free, None);
        // Those that are missing come now.
        (nursery.early, nursery.looks, nursery.bereaved) = (0, 0, Some(now));
    }
    again(shell, id, SOON);
}

/// It goes on until it has started somebody.
fn try_one(shell: &mut Shell, id: WorkerId) {
    let now = shell.now;
    if let Some(nursery) = nursery(shell, id) {
        (nursery.stage, nursery.tried) = (Stage::Trying, Some(now));
        (nursery.early, nursery.looks) = (0, 0);
    }
    let is_traced = shell.workers.get_mut(id).is_some_and(Worker::trace);
    nest::release(shell, id);
    again(shell, id, if is_traced { SUCCESSION } else { nest::FIRST });
}

/// Whom it has started has died before it could take a request.
fn fail(shell: &mut Shell, id: WorkerId, dead: Vec<u32>) {
    shell.timers.clear(Timer::Nest(id));
    let files = files(shell, id);
    let Some(nursery) = nursery(shell, id) else { return };
    nursery.stage = Stage::Resting;
    nursery.judged.extend(dead);
    match nursery.living() {
        0 => give_up(shell, id, files),
        living => shell.facts.push_back(Fact::ChildDied { worker: id, files, living }),
    }
}

/// None of its workers lives.
fn give_up(shell: &mut Shell, id: WorkerId, files: Files) {
    let message = "it starts workers of its own, and none of them lives: they die before they can take a request";
    if let Some(worker) = shell.workers.get_mut(id) {
        worker.voice.word.get_or_insert(Word { code: None, name: None, message: Some(message.to_owned()) });
    }
    shell.facts.push_back(Fact::ChildDied { worker: id, files, living: 0 });
}

/// What it loads now: the program and the files that it is told of, as its generation has noted them, or not.
fn files(shell: &Shell, id: WorkerId) -> Files {
    let made = pool_and_generation(shell, id).and_then(|(pool, generation)| pool.generations.get(&generation));
    match made.map(|made| &made.pins) {
        Some(Ok(pins)) => pins.execute(false).1,
        Some(Err(_)) | None => Files::Noted,
    }
}

fn again(shell: &mut Shell, id: WorkerId, so_long: Duration) {
    let at = shell.clock.now().after(so_long);
    shell.timers.set(Timer::Nest(id), at);
}
