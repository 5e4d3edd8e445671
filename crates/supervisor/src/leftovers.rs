//! Ends what workers have left behind: processes that made a session of their own and became ours when their parent died.
//!
//! Where every worker has a control group (`cgroups.rs`) they end with their worker. Elsewhere an orphan would go on holding a pool's socket after
//! the supervisor has gone, and the next start would find its address in use. They are our own unreaped children, so
//! that no signal can reach a stranger.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid as RawPid, PidfdFlags, pidfd_open};

use crate::children::{Kill, reap, signal};

/// How long they may take to obey TERM, and then KILL.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ends every child that is left. The supervisor serves nobody any more: only here it may wait, and at most 2 s.
pub(crate) fn end_all() {
    for last in [Kill::Term, Kill::Kill] {
        let until = Instant::now() + PATIENCE;
        // Whoever dies may leave children of its own, which become ours.
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let children = children();
            if children.is_empty() {
                return;
            }
            for child in &children {
                let _ = signal(child.as_fd(), last);
            }
            wait(&children, left);
        }
    }
}

fn children() -> Vec<OwnedFd> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let open = |pid: &str| pidfd_open(RawPid::from_raw(pid.parse().ok()?)?, PidfdFlags::empty()).ok();
    lists.flat_map(|list| list.split_whitespace().filter_map(open).collect::<Vec<_>>()).collect()
}

/// Waits until one of them ends, and reaps those that have.
fn wait(children: &[OwnedFd], left: Duration) {
    let mut ends: Vec<PollFd<'_>> = children.iter().map(|child| PollFd::new(child, PollFlags::IN)).collect();
    let _ = poll(&mut ends, Timespec::try_from(left).ok().as_ref());
    for child in children {
        let _ = reap(child.as_fd());
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_that_ignores_term_is_gone_all_the_same() {
        // In a process of its own, for every child of this one would be meant.
        if std::env::var_os("STEADFAST_TEST_LEFTOVERS").is_some() {
            let script = "trap '' TERM; echo up; read forever";
            let mut deaf = Command::new("/bin/sh");
            let mut deaf = deaf.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut up = [0; 3];
            std::io::Read::read_exact(deaf.stdout.as_mut().unwrap(), &mut up).unwrap();
            assert_eq!(children().len(), 1);
            end_all();
            assert_eq!(children().len(), 0);
            assert!(deaf.wait().is_err(), "it has been reaped already");
            return;
        }
        let name = "leftovers::tests::a_child_that_ignores_term_is_gone_all_the_same";
        let again = std::env::current_exe().unwrap();
        let mut again = Command::new(again);
        again.args(["--exact", name, "--test-threads=1"]).env("STEADFAST_TEST_LEFTOVERS", "1");
        let output = again.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "no test ran");
    }
}
