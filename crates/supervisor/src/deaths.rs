//! Buries dead workers: reads what must be read before reaping, ends what is left of the group, reaps, tells the policy.

use std::os::fd::AsFd;
use std::time::Duration;

use steadfast_policy::class::Exit;
use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::WorkerId;
use steadfast_proto::status::{STDERR_BYTES_MAX, STDERR_LINES_MAX};

use crate::children::{Ended, Kill, ended, next_dead, reap, reap_pid, signal_group};
use crate::evidence;
use crate::front::{process, tell};
use crate::links;
use crate::output::Lines;
use crate::relay;
use crate::shell::{Corpse, Shell};
use crate::timers::Timer;

/// Strangers reaped in one turn.
const STRANGERS: usize = 64;
/// Bytes of one line in a report: four such fit into it.
const STDERR_LINE_MAX: usize = 1000;
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
    links::last_words(shell, id);
    relay::last_words(shell, id);
    if is_direct(shell, id) {
        evidence::gather(shell, id, end);
    }
    // What the worker leaves behind in its group would go on holding the pool's listener. The group is its own as long
    // as the leader is not reaped; whoever wants to outlive a worker makes a session of its own.
    let _ = signal_group(pid, Kill::Kill);
    let Some(worker) = shell.workers.remove(id) else {
        return;
    };
    for timer in [Timer::Probe(id), Timer::Drain(id), Timer::Output(id), Timer::Adopt(id)] {
        shell.timers.clear(timer);
    }
    if let Some(pool) = shell.pools.get_mut(worker.pool) {
        pool.ready.remove(&id);
        pool.members.remove(&id);
    }
    let exit = match reap(worker.pidfd.as_fd()) {
        Ok(Some(Ended::Code(code))) => Exit::Code(code),
        Ok(Some(Ended::Signal { number, .. })) => Exit::Signal(number),
        // Somebody else has reaped it: how it ended is lost, and nobody is blamed for it.
        Ok(None) | Err(_) => Exit::Signal(SIGKILL),
    };
    let oom = is_oom(shell, exit);
    let ended = match exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
    };
    let mut stderr = last_lines(&worker.stderr.lines);
    if stderr.is_empty() {
        stderr = last_lines(&worker.stdout.lines);
    }
    let word = worker.word.clone();
    let mut corpse = Corpse { pid: Some(pid.get()), word, stderr, ended, pool: Some(worker.pool), ..Corpse::default() };
    if let Some(queued) = &worker.queued {
        corpse.request = queued.doomed.clone();
        corpse.kept_until = Some(shell.now.after(KEPT));
        queued.private.unlink();
    }
    shell.corpses.insert(id, corpse);
    shell.facts.push_back(Fact::WorkerExited { worker: id, exit, oom });
    if let Some(queued) = &worker.queued {
        tell::gone(shell, id, queued.life);
    }
}

fn is_direct(shell: &Shell, id: WorkerId) -> bool {
    shell.workers.get(id).is_some_and(|worker| worker.queued.is_none())
}

/// The kernel's counter is read at each death, so that an OOM kill long ago does not explain the next `kill -9`.
fn is_oom(shell: &mut Shell, exit: Exit) -> bool {
    let now = shell.procfs.oom_kills();
    let before = std::mem::replace(&mut shell.oom_kills, now);
    exit == Exit::Signal(SIGKILL) && before.zip(now).is_some_and(|(before, now)| now > before)
}

/// The last lines, as many as the status document carries. Long ones are cut, so that one alone is not all.
fn last_lines(lines: &Lines) -> Vec<String> {
    let mut all: Vec<String> = lines.last().map(cut).collect();
    let mut bytes = 0;
    let kept = all
        .iter()
        .rev()
        .take(STDERR_LINES_MAX)
        .take_while(|line| {
            bytes += line.len();
            bytes <= STDERR_BYTES_MAX
        })
        .count();
    all.split_off(all.len() - kept)
}

fn cut(line: &str) -> String {
    if line.len() <= STDERR_LINE_MAX {
        return line.to_owned();
    }
    format!("{} …", &line[..line.floor_char_boundary(STDERR_LINE_MAX)])
}

/// SIGCHLD: reaps strangers, which became ours because their parents died. Workers are left to their pidfds.
pub(crate) fn strangers(shell: &mut Shell) -> bool {
    for _ in 0..STRANGERS {
        match next_dead() {
            Ok(Some(pid)) if shell.front.life.as_ref().is_some_and(|life| life.pid == pid) => {
                let number = shell.front.serving();
                process::died(shell, number);
            }
            Ok(Some(pid)) => match shell.workers.by_pid(pid) {
                // The kernel shows the first dead child until it is reaped: the worker first, then the others.
                Some(worker) => died(shell, worker),
                None => {
                    let _ = reap_pid(pid);
                }
            },
            Ok(None) | Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_line_is_cut_and_leaves_room_for_others() {
        let mut pipe = std::io::pipe().expect("a pipe");
        std::io::Write::write_all(&mut pipe.1, &[b"why\n", vec![b'x'; 20_000].as_slice()].concat()).expect("room");
        let mut lines = Lines::new();
        let mut out = Vec::new();
        let _turn = lines.read(pipe.0.as_fd(), 0, &mut crate::output::Scratch::new(), &mut out);
        lines.finish(0, &mut out);
        let report = last_lines(&lines);
        assert_eq!(report.len(), 2);
        assert_eq!(report[0], "why");
        assert!(report[1].len() < 1010 && report[1].ends_with('…'));
    }
}
