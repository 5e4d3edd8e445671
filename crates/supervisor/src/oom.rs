//! Whom the kernel kills when memory is short: workers before the supervisor.
//!
//! A unit may shield the supervisor (systemd.exec(5), OOMScoreAdjust), and its children begin with the same shield. One worker
//! is one request; so workers and zygotes get what every other process of the machine has. The front keeps it: it holds the
//! requests of all pools, and little memory.

use std::fs;

use crate::children::Pid;
use crate::shell::Shell;

/// What every process has unless somebody says otherwise.
const USUAL: &str = "0";

/// Our own shield, by `/proc/self/oom_score_adj`; 0 where the kernel does not tell.
pub(crate) fn own_score() -> i32 {
    fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Takes our shield from a new worker or zygote. It is our unreaped child, so that its number is its own.
pub(crate) fn unshield(shell: &Shell, pid: Pid) {
    if shell.host.oom_score < 0 {
        // Where that is refused it stays as well hidden as we are: nothing is worse than without a shield for anybody.
        let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), USUAL);
    }
}
