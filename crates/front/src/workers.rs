//! Who can be given a request: the stacks of idle workers, rests, and what is told of a worker.

use std::time::{Duration, Instant};

use steadfast_proto::front::FromFront;

use crate::keys::{PoolId, WorkerKey};
use crate::load;
use crate::request::{self, Request, State};
use crate::state::{Due, Front, Place, Standing};

/// A worker that broke a connection is dying, as a rule: the supervisor tells within this time.
pub(crate) const DYING: Duration = Duration::from_millis(250);
/// A worker that closes a connection which it has kept before may be leaving.
pub(crate) const LEAVING: Duration = Duration::from_millis(20);
/// We closed its connection in the middle of a request: it may be at work on it still.
pub(crate) const INTERRUPTED: Duration = Duration::from_millis(50);
/// A rest is doubled so often.
const RESTS_DOUBLED: u32 = 4;
/// So many served requests are told one by one: a canary is judged by them.
const TOLD_FIRST: u64 = 20;
/// Parameters that take more are kept for the status page without what it does not tell.
const REMEMBERED_MAX: usize = 8 * 1024;

/// Puts a worker where it belongs among those that can be given something.
pub(crate) fn stand(front: &mut Front, key: WorkerKey) {
    let Some(worker) = front.workers.get_mut(key) else { return };
    let Some(pool) = front.pools.get_mut(&worker.pool) else { return };
    let lanes = u32::try_from(worker.lanes.len()).unwrap_or(u32::MAX);
    let serves = worker.standing == Standing::Admitted && worker.rests_until.is_none() && !worker.is_spent;
    let place = match worker.busy {
        _ if !serves => Place::Nowhere,
        0 => Place::Idle,
        busy if busy < lanes => Place::Shared,
        _ => Place::Nowhere,
    };
    if place == worker.place {
        return;
    }
    let before = std::mem::replace(&mut worker.place, place);
    match before {
        Place::Nowhere => {}
        Place::Idle => remove(&mut pool.idle, key),
        Place::Shared => remove(&mut pool.shared, key),
    }
    match place {
        Place::Nowhere => {}
        // Whoever may be dying, or be busy still, is taken when nobody else is there.
        Place::Idle if worker.is_doubtful => pool.idle.insert(0, key),
        Place::Idle => pool.idle.push(key),
        Place::Shared => pool.shared.push(key),
    }
    let id = worker.pool;
    load::changed(front, id);
}

/// Takes it from a stack; the one that is engaged is on top.
fn remove(stack: &mut Vec<WorkerKey>, key: WorkerKey) {
    if let Some(at) = stack.iter().rposition(|other| *other == key) {
        stack.remove(at);
    }
}

/// The worker that gets the next request: the one that was idle last, else one that takes more.
pub(crate) fn next(front: &Front, pool: PoolId) -> Option<WorkerKey> {
    let pool = front.pools.get(&pool)?;
    pool.idle.last().or(pool.shared.last()).copied()
}

/// Leaves a worker alone for a while: longer each time, until it has served somebody.
pub(crate) fn rest(front: &mut Front, key: WorkerKey, so_long: Duration) {
    let Some(worker) = front.workers.get_mut(key) else { return };
    let at = front.now + (so_long * (1 << worker.rests.min(RESTS_DOUBLED)));
    let before = worker.rests_until;
    worker.is_doubtful = true;
    if before.is_some_and(|before| before >= at) {
        return;
    }
    worker.rests += 1;
    worker.rests_until = Some(at);
    front.set_due(Due::Worker(key), before, Some(at));
    stand(front, key);
}

/// Its rest is over.
pub(crate) fn rested(front: &mut Front, key: WorkerKey) {
    let Some(worker) = front.workers.get_mut(key) else { return };
    let before = worker.rests_until.take();
    worker.closes |= std::mem::take(&mut worker.may_close);
    front.set_due(Due::Worker(key), before, None);
    stand(front, key);
}

/// A request is over that the worker had.
pub(crate) fn freed(front: &mut Front, key: WorkerKey, now: Instant) {
    let Some(worker) = front.workers.get_mut(key) else { return };
    worker.busy = worker.busy.saturating_sub(1);
    let is_idle = worker.busy == 0;
    if is_idle {
        worker.idle_since = now;
        if worker.standing == Standing::Admitted
            && let Some(pool) = front.pools.get_mut(&worker.pool)
        {
            pool.busy = pool.busy.saturating_sub(1);
        }
    }
    stand(front, key);
    tell_free(front, key);
}

/// A request is given to it.
pub(crate) fn engaged(front: &mut Front, key: WorkerKey) {
    let Some(worker) = front.workers.get_mut(key) else { return };
    worker.busy += 1;
    if worker.busy == 1
        && worker.standing == Standing::Admitted
        && let Some(pool) = front.pools.get_mut(&worker.pool)
    {
        pool.busy += 1;
    }
    stand(front, key);
}

/// It may serve, or may no longer.
pub(crate) fn alter(front: &mut Front, key: WorkerKey, standing: Standing) {
    let Some(worker) = front.workers.get_mut(key) else { return };
    let (was, is) = (worker.standing == Standing::Admitted, standing == Standing::Admitted);
    worker.standing = standing;
    if is && worker.busy == 0 {
        worker.idle_since = front.now;
    }
    let (busy, id) = (worker.busy > 0, worker.pool);
    if let Some(pool) = front.pools.get_mut(&id)
        && busy
        && was != is
    {
        pool.busy = if is { pool.busy + 1 } else { pool.busy.saturating_sub(1) };
    }
    stand(front, key);
    load::changed(front, id);
}

/// A request was served by it.
pub(crate) fn served(front: &mut Front, key: WorkerKey) {
    let Some(worker) = front.workers.get_mut(key) else { return };
    worker.served += 1;
    // It lives: what it broke it broke for another reason than its death.
    (worker.is_doubtful, worker.rests, worker.blame) = (false, 0, None);
    let (id, served) = (worker.id, worker.served);
    if served == 1 || served == TOLD_FIRST {
        tell_served(front, key);
    } else if served > TOLD_FIRST
        && let Some(worker) = front.workers.get_mut(key)
    {
        worker.told = served;
        let pool = worker.pool;
        if let Some(pool) = front.pools.get_mut(&pool) {
            pool.served += 1;
        }
        load::changed(front, pool);
    }
    if let Some(worker) = front.workers.get_mut(key)
        && worker.max_requests.is_some_and(|max| served >= max)
        && !worker.is_spent
    {
        // It goes on until the supervisor withdraws it: its successor may not be there yet.
        worker.max_requests = None;
        front.channel.send(&FromFront::Spent { worker: id });
    }
}

/// Keeps what a status page tells of a worker's last request; the buffer that is free now.
pub(crate) fn remember(front: &mut Front, request: Request) -> Vec<u8> {
    let now = front.now;
    let State::Busy(lane) = request.state else { return request.params };
    let worker = front.lanes.get(lane).map(|lane| lane.worker).and_then(|worker| front.workers.get_mut(worker));
    let Some(worker) = worker else { return request.params };
    let took = now.saturating_duration_since(request.handed);
    let is_large = request.params.capacity() > REMEMBERED_MAX;
    let params = if is_large { request::shortened(&request.params) } else { request.params };
    worker.last.replace((params, took)).map(|(before, _)| before).unwrap_or_default()
}

/// Tells what it has served and has not been told of.
pub(crate) fn tell_served(front: &mut Front, key: WorkerKey) {
    let Some(worker) = front.workers.get_mut(key) else { return };
    let requests = worker.served - worker.told;
    worker.told = worker.served;
    if requests > 0 {
        let message = FromFront::WorkerServed { worker: worker.id, requests };
        front.channel.send(&message);
    }
}

/// Tells that a withdrawn worker has nothing in hand.
pub(crate) fn tell_free(front: &mut Front, key: WorkerKey) {
    let Some(worker) = front.workers.get_mut(key) else { return };
    if worker.owes_free && worker.busy == 0 {
        worker.owes_free = false;
        let (id, lanes) = (worker.id, worker.lanes.clone());
        // Who sits in read on a kept connection sees by its end that there is nothing more to come.
        for lane in lanes {
            if let Some(lane) = front.lanes.get_mut(lane) {
                lane.fd = None;
            }
        }
        tell_served(front, key);
        front.channel.send(&FromFront::WorkerFree { worker: id });
    }
}
