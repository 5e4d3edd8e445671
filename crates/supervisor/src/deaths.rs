//! Buries the dead: reads what must be read before reaping, ends what is left of the group, reaps, tells the policy.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use steadfast_policy::class::Exit;
use steadfast_policy::event::{Event as Fact, ZygoteEnd};
use steadfast_policy::ids::{PoolId, WorkerId, ZygoteId};

use crate::asking;
use crate::children::{
    Ended, Found, Kill, Pid, ended, ended_pid, is_of_our_session, next_news, reap, reap_pid, signal_group,
    take_continuation,
};
use crate::containment;
use crate::evidence;
use crate::first_fork;
use crate::forks;
use crate::front::private::Private;
use crate::front::{process, tell};
use crate::nurse;
use crate::output::last_lines;
use crate::relay;
use crate::shell::{Corpse, Shell};
use crate::speech;
use crate::timers::Timer;
use crate::upgrade::trial;
use crate::voice::{Speaker, Voice, Word};
use crate::workers::Worker;
use crate::zygotes::Zygote;

/// Strangers reaped in one turn.
const STRANGERS: usize = 64;
/// The policy waits shorter than this for the front's word on a dead worker.
const KEPT: Duration = Duration::from_secs(5);
/// SIGKILL, as waitid tells it.
const SIGKILL: u8 = 9;

/// A worker's pidfd is readable.
pub(crate) fn died(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get(id) else {
        return;
    };
    let Ok(Some(end)) = ended(worker.pidfd.as_fd()) else { return };
    let pid = worker.pid;
    let speaker = Speaker::Worker(id);
    speech::last_words(shell, speaker);
    relay::last_words(shell, speaker);
    if is_direct(shell, id) {
        evidence::gather(shell, id, end);
    }
    // What the worker leaves behind in its group would go on holding the pool's listener. The group is its own as long
    // as the leader is not reaped; whoever wants to outlive a worker makes a session of its own.
    let _ = signal_group(pid, Kill::Kill);
    let Some(worker) = shell.workers.remove(id) else {
        return;
    };
    for timer in [Timer::Probe(id), Timer::Nest(id), Timer::Drain(id), Timer::Output(speaker), Timer::Adopt(id)] {
        shell.timers.clear(timer);
    }
    if let Some(pool) = shell.pools.get_mut(worker.pool) {
        pool.ready.remove(&id);
        pool.members.remove(&id);
    }
    let (exit, oom) = bury(shell, speaker, &worker.pidfd);
    asking::cancel(shell, id);
    let Worker { voice, queued, trial, pool, .. } = *worker;
    trial.iter().for_each(Private::unlink);
    let mut corpse = Corpse::of(pid, voice, exit, pool);
    if let Some(queued) = &queued {
        corpse.request = queued.doomed.clone();
        corpse.kept_until = Some(shell.now.after(KEPT));
        queued.private.unlink();
    }
    shell.corpses.insert(speaker, corpse);
    shell.facts.push_back(Fact::WorkerExited { worker: id, exit, oom });
    if let Some(queued) = &queued {
        tell::gone(shell, id, queued.life);
    }
}

/// Reaps a process that has ended, and ends what it has left in its control group: how it ended, and whether an OOM
/// counter explains it.
pub(crate) fn bury(shell: &mut Shell, speaker: Speaker, pidfd: &OwnedFd) -> (Exit, bool) {
    // The group tells only as long as it is there.
    let is_oom = is_explained(shell, speaker);
    let exit = match reap(pidfd.as_fd()) {
        Ok(Some(Ended::Code(code))) => Exit::Code(code),
        Ok(Some(Ended::Signal { number, .. })) => Exit::Signal(number),
        // Somebody else has reaped it: how it ended is lost, and nobody is blamed for it.
        Ok(None) | Err(_) => Exit::Signal(SIGKILL),
    };
    containment::close(shell, speaker);
    (exit, exit == Exit::Signal(SIGKILL) && is_oom)
}

impl Corpse {
    /// Of a process that has been buried.
    pub(crate) fn of(pid: Pid, voice: Voice, exit: Exit, pool: PoolId) -> Corpse {
        let mut stderr = last_lines(voice.stderr.lines.last());
        if stderr.is_empty() {
            stderr = last_lines(voice.stdout.lines.last());
        }
        let ended = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
        };
        Corpse { pid: Some(pid.get()), word: voice.word, stderr, ended, pool: Some(pool), ..Corpse::default() }
    }
}

/// A zygote's pidfd is readable.
pub(crate) fn zygote_died(shell: &mut Shell, id: ZygoteId) {
    let Some(zygote) = shell.zygotes.get(id) else {
        return;
    };
    let Ok(Some(_)) = ended(zygote.pidfd.as_fd()) else { return };
    let pid = zygote.pid;
    let speaker = Speaker::Zygote(id);
    speech::last_words(shell, speaker);
    relay::last_words(shell, speaker);
    // Middles, and workers that it has not told of yet.
    let _ = signal_group(pid, Kill::Kill);
    let Some(zygote) = shell.zygotes.remove(id) else {
        return;
    };
    shell.timers.clear(Timer::Output(speaker));
    shell.timers.clear(Timer::ZygoteLeave(id));
    let (exit, oom) = bury(shell, speaker, &zygote.pidfd);
    let Zygote { pool, generation, files, retry_after, voice, orders, condemned, is_broken, is_unavailable, .. } =
        *zygote;
    let mut corpse = Corpse::of(pid, voice, exit, pool);
    if let Some(why) = condemned.clone() {
        corpse.word.get_or_insert_with(Word::default).message.get_or_insert(why);
    }
    shell.corpses.insert(speaker, corpse);
    let codes = shell.pools.get(pool).map(|pool| &pool.plan_of(generation).config);
    let is = |list: &dyn Fn(&steadfast_config::types::Pool) -> &Vec<u8>| match exit {
        Exit::Code(code) => codes.is_some_and(|config| list(config).contains(&code)),
        Exit::Signal(_) => false,
    };
    let end = if is_broken || is(&|config| &config.broken_codes) {
        ZygoteEnd::Broken
    } else if is_unavailable || is(&|config| &config.unavailable_codes) {
        ZygoteEnd::Unavailable
    } else if exit == Exit::Signal(SIGKILL) && !oom && condemned.is_none() {
        ZygoteEnd::Killed
    } else {
        ZygoteEnd::Failed
    };
    forks::abandon(shell, pool, orders.into_values());
    shell.facts.push_back(Fact::ZygoteExited { zygote: id, end, files, retry_after });
}

fn is_direct(shell: &Shell, id: WorkerId) -> bool {
    shell.workers.get(id).is_some_and(|worker| worker.queued.is_none())
}

/// Whether a kill for memory may explain this process' end: the kernel in its own group (cgroups(7),
/// `memory.events`), or where groups are not counted anywhere on this machine; or systemd-oomd, which kills whole groups.
/// What counts for more than this process is read at each death, so that a kill long ago does not explain the next
/// `kill -9`.
fn is_explained(shell: &mut Shell, of: Speaker) -> bool {
    let now = shell.procfs.oom_kills();
    let before = std::mem::replace(&mut shell.oom_kills, now);
    let has_machine = before.zip(now).is_some_and(|(before, now)| now > before);
    let has_kernel = shell.cgroups.oom_kills(of).map_or(has_machine, |kills| kills > 0);
    let has_oomd = shell.cgroups.has_grown();
    has_kernel || has_oomd || shell.cgroups.is_killed_by_oomd(of)
}

/// The worker that this process asks its verify request.
fn asked_by(shell: &Shell, pid: Pid) -> Option<WorkerId> {
    shell.askers.iter().find(|(_, asker)| asker.pid == pid).map(|(worker, _)| *worker)
}

/// SIGCHLD: reaps strangers, which became ours because their parents died. Workers are left to their pidfds.
pub(crate) fn strangers(shell: &mut Shell) -> bool {
    for _ in 0..STRANGERS {
        match next_news() {
            Ok(Some(Found::Stopped(pid))) => first_fork::stopped(shell, pid),
            Ok(Some(Found::Continued(pid))) => {
                take_continuation(pid);
                nurse::continued(shell, pid);
            }
            Ok(Some(Found::Dead(pid))) if let Some(number) = shell.front.by_pid(pid) => process::died(shell, number),
            Ok(Some(Found::Dead(pid))) => match shell.workers.by_pid(pid) {
                // The kernel shows the first dead child until it is reaped: the worker first, then the others.
                Some(worker) => died(shell, worker),
                None if let Some(zygote) = shell.zygotes.by_pid(pid) => zygote_died(shell, zygote),
                None if let Some(asked) = asked_by(shell, pid) => asking::died(shell, asked),
                None if shell.trial.as_ref().is_some_and(|trial| trial.is(pid)) => trial::died(shell),
                // It may be a worker of which its zygote has not told yet.
                None if shell.zygotes.are_forking() => {
                    shell.are_strangers_waiting = true;
                    return false;
                }
                None => {
                    if was_killed_with_its_worker(pid) {
                        let _ = signal_group(pid, Kill::Kill);
                    }
                    let _ = reap_pid(pid);
                }
            },
            Ok(None) | Err(_) => return false,
        }
    }
    true
}

/// A worker's child that leads a group of its own may be bound to die by SIGKILL with it (PDEATHSIG), as CGI scripts are; the
/// rest of its group is meant to die, too. One with a session of its own is nobody's, and lives. The stranger is dead and
/// unreaped, so that its group's number is its own.
fn was_killed_with_its_worker(pid: Pid) -> bool {
    matches!(ended_pid(pid), Ok(Some(Ended::Signal { number: SIGKILL, .. }))) && is_of_our_session(pid)
}
