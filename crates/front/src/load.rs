//! What the supervisor is told of load and of counts: at once when somebody is needed, else seldom, and never while
//! nothing happens.

use std::time::{Duration, Instant};

use steadfast_proto::front::{Counters, FromFront, Load, Manager};

use crate::keys::PoolId;
use crate::notes::millis;
use crate::request::State;
use crate::state::{Front, Need, Pool};

/// Samples that nobody waits for are this far apart.
const LOAD_PACE: Duration = Duration::from_millis(100);
/// Counters are told this far apart.
const COUNTERS_PACE: Duration = Duration::from_secs(1);

/// The load of a pool may have changed.
pub(crate) fn changed(front: &mut Front, pool: PoolId) {
    if let Some(pool) = front.pools.get_mut(&pool) {
        pool.is_loaded = true;
        pool.peak = pool.peak.max(pool.waiting);
        pool.compare();
    }
}

/// What was told of need is no longer enough: another worker has come, and there may still be too few.
pub(crate) fn ask_again(front: &mut Front, pool: PoolId) {
    if let Some(entry) = front.pools.get_mut(&pool) {
        entry.told_need = Need::None;
    }
    changed(front, pool);
}

impl Pool {
    /// Somebody waits, or nobody is idle: the policy may want to grow.
    fn need(&self) -> Need {
        if self.waiting > 0 {
            Need::Now
        } else if self.idle.is_empty() && self.busy > 0 {
            Need::Near
        } else {
            Need::None
        }
    }

    /// When it is to be told of next.
    fn load_due(&self, now: Instant) -> Option<Instant> {
        if !self.is_loaded {
            return None;
        }
        let news = self.need() > self.told_need;
        match self.loaded_at {
            Some(at) if !news => Some(at + LOAD_PACE),
            _ => Some(now),
        }
    }

    /// Compares with what has been the most. Full it is once, until somebody is idle again.
    fn compare(&mut self) {
        let figures = &mut self.figures;
        figures.waiting_max = figures.waiting_max.max(self.waiting);
        if self.busy > figures.busy_max {
            figures.busy_max = self.busy;
            self.counters.busy_max = self.busy;
            self.is_counted = true;
        }
        let Some(status) = &self.config.status else { return };
        if self.waiting == 0 && !self.idle.is_empty() {
            self.is_full = false;
        } else if self.waiting > 0
            && self.busy >= status.workers_max
            && status.manager != Manager::Static
            && !std::mem::replace(&mut self.is_full, true)
        {
            figures.full += 1;
            self.counters.full += 1;
            self.is_counted = true;
        }
    }

    fn counters_due(&self, now: Instant) -> Option<Instant> {
        self.is_counted.then(|| self.counted_at.map_or(now, |at| at + COUNTERS_PACE))
    }
}

/// When something is to be told next.
pub(crate) fn next_deadline(front: &Front) -> Option<Instant> {
    let now = front.now;
    front.pools.values().flat_map(|pool| [pool.load_due(now), pool.counters_due(now)]).flatten().min()
}

/// Tells what is due.
pub(crate) fn tell(front: &mut Front) {
    let now = front.now;
    let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
    let loads: Vec<PoolId> =
        front.pools.iter().filter(|(_, pool)| due(pool.load_due(now))).map(|(id, _)| *id).collect();
    for id in loads {
        sample(front, id);
    }
    let counts: Vec<PoolId> =
        front.pools.iter().filter(|(_, pool)| due(pool.counters_due(now))).map(|(id, _)| *id).collect();
    for id in counts {
        count(front, id);
    }
}

/// Tells a pool's load now.
pub(crate) fn sample(front: &mut Front, id: PoolId) {
    let now = front.now;
    let Some(pool) = front.pools.get_mut(&id) else { return };
    let first = pool.queue.iter().find_map(|key| {
        front.requests.get(*key).filter(|request| request.state == State::Waiting).map(|request| request.queued)
    });
    let oldest =
        first.filter(|_| pool.waiting > 0).map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
    let longest = pool.idle.first().and_then(|key| front.workers.get(*key));
    let load = Load {
        pool: id,
        idle: count_of(pool.idle.len()),
        busy: pool.busy,
        waiting: pool.waiting,
        oldest_ms: millis(oldest),
        served: std::mem::take(&mut pool.served),
        longest_idle: longest.map(|worker| (worker.id, millis(now.saturating_duration_since(worker.idle_since)))),
        peak: std::mem::replace(&mut pool.peak, pool.waiting),
    };
    pool.told_need = pool.need();
    pool.is_loaded = false;
    pool.loaded_at = Some(now);
    front.channel.send(&FromFront::Load(load));
}

/// Tells a pool's counts now, if there are any.
pub(crate) fn count(front: &mut Front, id: PoolId) {
    let now = front.now;
    let Some(pool) = front.pools.get_mut(&id) else { return };
    if !pool.is_counted {
        return;
    }
    pool.is_counted = false;
    pool.counted_at = Some(now);
    let fresh = Counters { pool: id, ..Counters::default() };
    let mut counters = std::mem::replace(&mut pool.counters, fresh);
    counters.connections = pool.clients + count_of(front.http.len_of(id));
    front.channel.send(&FromFront::Counters(Box::new(counters)));
}

fn count_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
