//! Looks at the memory of workers and zygotes, only in pools with `max-memory`.

use std::time::Duration;

use steadfast_policy::event::{Event as Fact, Limit};
use steadfast_policy::ids::PoolId;

use crate::children::Pid;
use crate::shell::Shell;
use crate::timers::Timer;

/// How often a pool is looked at.
const EVERY: Duration = Duration::from_secs(10);
/// Workers at a time; the others' turn comes next.
const BATCH: usize = 64;

/// Looks from now on, if the pool has a limit.
pub(crate) fn begin(shell: &mut Shell, pool: PoolId) {
    let has_limit = shell.pools.get(pool).is_some_and(|pool| pool.plan.config.max_memory.is_some());
    if has_limit && !shell.timers.is_set(Timer::Memory(pool)) {
        let at = shell.now.after(EVERY);
        shell.timers.set(Timer::Memory(pool), at);
    }
}

/// A look at a few workers.
pub(crate) fn look(shell: &mut Shell, id: PoolId) {
    let Some(pool) = shell.pools.get_mut(id) else {
        return;
    };
    let Some(limit) = pool.plan.config.max_memory else {
        return;
    };
    for worker in pool.next_ready(BATCH, None) {
        let Some(pid) = shell.workers.get(worker).map(|worker| worker.pid) else {
            continue;
        };
        if private(shell, id, pid).is_some_and(|private| private > limit) {
            shell.facts.push_back(Fact::LimitReached { worker, limit: Limit::Memory });
        }
    }
    zygotes(shell, id, limit);
    begin(shell, id);
}

/// A worker's own memory. The kernel tells it of another user's process only to those with CAP_SYS_PTRACE; to others what is in
/// no file will do, less what a forked worker has from its zygote.
fn private(shell: &mut Shell, pool: PoolId, pid: Pid) -> Option<u64> {
    if let Some(memory) = shell.procfs.memory(pid) {
        return Some(memory.private);
    }
    let zygotes: Vec<Pid> = shell.zygotes.of(pool).map(|zygote| zygote.pid).collect();
    let shared = zygotes.into_iter().filter_map(|zygote| shell.procfs.anonymous(zygote)).max().unwrap_or(0);
    Some(shell.procfs.anonymous(pid)?.saturating_sub(shared))
}

/// A zygote has loaded much, and its workers share that; what it adds later it has leaked, and each worker begins with it.
fn zygotes(shell: &mut Shell, pool: PoolId, limit: u64) {
    let ready = shell.zygotes.of(pool).filter(|zygote| zygote.ready.is_some() && !zygote.is_leaving);
    let ready: Vec<_> = ready.map(|zygote| (zygote.id, zygote.pid)).collect();
    for (id, pid) in ready {
        let Some(rss) = shell.procfs.rss(pid) else {
            continue;
        };
        let Some(zygote) = shell.zygotes.get_mut(id) else {
            continue;
        };
        // Of what it shares with its workers each page counts once.
        let least = *zygote.memory.get_or_insert(rss);
        if rss.saturating_sub(least) > limit {
            shell.facts.push_back(Fact::ZygoteGrown { zygote: id });
        }
    }
}
