//! Looks at the private memory of workers, only in pools with `max-memory`.

use std::time::Duration;

use steadfast_policy::event::{Event as Fact, Limit};
use steadfast_policy::ids::PoolId;

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
        if shell.procfs.memory(pid).is_some_and(|memory| memory.private > limit) {
            shell.facts.push_back(Fact::LimitReached { worker, limit: Limit::Memory });
        }
    }
    begin(shell, id);
}
