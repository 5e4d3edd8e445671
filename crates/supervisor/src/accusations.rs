//! A TERM that one of our own has sent to the supervisor or to a zygote: those who used to tell their manager to stop
//! (`kill TERM => $MANAGER_PID`) mean that their generation is broken.

use steadfast_policy::ids::ZygoteId;

use crate::children::Pid;
use crate::links;
use crate::shell::Shell;
use crate::voice::{Speaker, Word};
use crate::zygote;

/// How far up a sender's ancestors are followed.
const ANCESTORS: usize = 16;

/// The worker or zygote that sent it, itself or by a descendant.
pub(crate) fn sender(shell: &mut Shell, pid: u32) -> Option<Speaker> {
    let mut pid = pid;
    for _ in 0..ANCESTORS {
        let known = Pid::told(pid)?;
        if let Some(worker) = shell.workers.by_pid(known) {
            return Some(Speaker::Worker(worker));
        }
        if let Some(zygote) = shell.zygotes.by_pid(known) {
            return Some(Speaker::Zygote(zygote));
        }
        if pid == shell.host.pid {
            return None;
        }
        pid = shell.procfs.ppid(known)?;
    }
    None
}

/// A zygote was sent TERM by this process. From a worker of its own pool that is what the managers of old were sent; from
/// anybody else it is the zygote's own matter.
pub(crate) fn told(shell: &mut Shell, id: ZygoteId, pid: u32) {
    let pool = shell.zygotes.get(id).map(|zygote| zygote.pool);
    if let Some(Speaker::Worker(worker)) = sender(shell, pid)
        && shell.workers.get(worker).map(|worker| worker.pool) == pool
    {
        broken(shell, Speaker::Worker(worker), "it sent TERM to its zygote");
    }
}

/// The unchanged code of those who used to tell their manager to stop (`kill TERM, getppid`).
pub(crate) fn broken(shell: &mut Shell, sender: Speaker, what: &str) {
    match shell.voice(sender) {
        Some(voice) if voice.word.is_none() => {
            voice.word = Some(Word { code: None, name: None, message: Some(what.to_owned()) });
        }
        // What it has said before is judged already, and so is the first of many TERMs.
        Some(_) | None => return,
    }
    match sender {
        Speaker::Worker(worker) => links::broken(shell, worker),
        Speaker::Zygote(zygote) => zygote::broken(shell, zygote),
    }
}
