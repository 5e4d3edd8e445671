//! What is due: slow requests, requests whose time is over, stalled connections, rests.

use std::time::{Duration, Instant};

use steadfast_proto::front::{FromFront, NoteKind};

use crate::abort;
use crate::broken;
use crate::clients;
use crate::dispatch;
use crate::ending::{Outcome, finish, refuse};
use crate::keys::{LaneKey, PoolId, RequestKey};
use crate::lanes;
use crate::load;
use crate::notes;
use crate::orders;
use crate::place::Reason;
use crate::request::{Origin, Request, State};
use crate::state::{Due, Front};
use crate::verify;
use crate::visitor;
use crate::workers;

/// Large bodies must come, and large answers be taken, at so many bytes a second, else they hold a worker for nothing.
const RATE: u64 = 16 * 1024;
/// A paused answer is looked at so much later.
const CLOSER_LOOK: Duration = Duration::from_secs(1);
/// Deadlines met in one turn.
const DUES_MAX: usize = 1024;

/// When something is due next.
pub(crate) fn next(front: &Front) -> Option<Instant> {
    let first = front.dues.first().map(|(at, _)| *at);
    let queues = front.pools.keys().filter_map(|id| dispatch::queue_deadline(front, *id));
    let others = [front.http.next_deadline(), load::next_deadline(front), front.accept_again, front.leaves_by];
    first.into_iter().chain(queues).chain(others.into_iter().flatten()).min()
}

/// Meets what is due.
pub(crate) fn meet(front: &mut Front) {
    let now = front.now;
    for _ in 0..DUES_MAX {
        let Some((at, due)) = front.dues.first().copied().filter(|(at, _)| *at <= now) else { break };
        front.dues.remove(&(at, due));
        match due {
            Due::Request(key) => request(front, key),
            Due::Client(key) => clients::overdue(front, key),
            Due::Worker(key) => {
                workers::rested(front, key);
                orders::meet_first(front, key);
                broken::serve_pool_of(front, key);
            }
        }
    }
    let pools: Vec<PoolId> = front.pools.keys().copied().collect();
    for id in pools {
        dispatch::shed(front, id);
    }
    front.http.meet_deadlines(now);
    if front.accept_again.is_some_and(|at| at <= now) {
        front.accept_again = None;
        if front.leaves_by.is_none() {
            clients::hear_listeners(front, true);
        }
    }
    load::tell(front);
}

fn request(front: &mut Front, key: RequestKey) {
    let Some(request) = front.requests.get_mut(key) else { return };
    request.due = None;
    let State::Busy(lane) = request.state else { return };
    if let Origin::Verify(worker) = request.origin {
        lanes::free(front, lane, false);
        return verify::failed(front, worker, key, "no complete answer within its timeout".to_owned());
    }
    let Some(pool) = front.pools.get(&request.pool) else { return };
    let (timed, timeout) = (request.timed, pool.request_timeout());
    if !request.is_slow && timed + timeout > front.now {
        let due = pool.due(timed, false);
        if due > front.now {
            return front.set_request_due(key, Some(due));
        }
        request.is_slow = true;
        if let Some(pool) = front.pools.get_mut(&request.pool) {
            pool.figures.slow += 1;
            pool.counters.slow += 1;
            pool.is_counted = true;
        }
        notes::about(front, key, NoteKind::Slow, None);
        return front.set_request_due(key, Some(timed + timeout));
    }
    if let Some(later) = excused(front, key, lane, timeout) {
        return front.set_request_due(key, Some(later));
    }
    if front.lanes.get(lane).is_some_and(|lane| lane.paused.is_some()) {
        return give_up(front, key, timeout);
    }
    timed_out(front, key, lane);
}

/// Until when a worker is not to blame, if it is not: somebody else was, or is, waited for.
fn excused(front: &Front, key: RequestKey, lane: LaneKey, timeout: Duration) -> Option<Instant> {
    let request = front.requests.get(key)?;
    let lane = front.lanes.get(lane)?;
    if let Some(since) = lane.paused {
        // The visitor has enough to take; but he must take it at a rate.
        let paused = front.now.saturating_duration_since(since);
        let patience = request.handed + timeout + transfer_time(request.reply.bytes);
        let later = (request.timed + paused + timeout).max(front.now + CLOSER_LOOK);
        return Some(later).filter(|_| patience > front.now);
    }
    let end = request.timed + timeout;
    let end = if waits_for_sender(request) { end + transfer_time(request.body.seen) } else { end };
    Some(end).filter(|end| *end > front.now)
}

/// The worker has all that has come of the body, and not all has come.
fn waits_for_sender(request: &Request) -> bool {
    !request.body.is_complete && request.body.pending() == 0 && request.sent == request.wire.len()
}

/// What so many bytes may take beside the worker's time: they must move at [`RATE`] at least.
fn transfer_time(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / RATE)
}

/// A visitor takes so little that he would hold his worker for ever: he goes, and the worker has its time to finish.
fn give_up(front: &mut Front, key: RequestKey, timeout: Duration) {
    let Some(request) = front.requests.get_mut(key) else { return };
    request.timed = front.now;
    let origin = request.origin;
    visitor::cut(front, key);
    if let Origin::Fastcgi { client, .. } = origin
        && let Some(client) = front.clients.get_mut(client)
    {
        client.streams.retain(|(_, other)| *other != key);
    }
    visitor::touch(front, origin);
    let due = front.now + timeout;
    front.set_request_due(key, Some(due));
    abort::gone(front, key);
}

/// Its time is over. That is the worker's fault only if nobody else was waited for.
fn timed_out(front: &mut Front, key: RequestKey, lane: LaneKey) {
    let Some(request) = front.requests.get(key) else { return };
    let is_senders = waits_for_sender(request);
    let Some(worker) = front.lanes.get(lane).map(|lane| lane.worker) else { return };
    let reason = if is_senders { Reason::BodyTimeout } else { Reason::RequestTimeout };
    if !is_senders {
        let line = request.line();
        notes::about(front, key, NoteKind::Timeout, None);
        if let Some(worker) = front.workers.get_mut(worker) {
            worker.is_spent = true;
            front.channel.send(&FromFront::Overdue { worker: worker.id, line });
        }
    }
    lanes::free(front, lane, false);
    workers::rest(front, worker, workers::INTERRUPTED);
    let Some(request) = front.requests.get(key) else { return };
    let (origin, is_released) = (request.origin, request.reply.is_released);
    if origin == Origin::Gone {
        finish(front, key, Outcome::Aborted);
    } else if is_released {
        visitor::cut(front, key);
        finish(front, key, Outcome::Lost);
    } else {
        refuse(front, key, reason);
    }
    broken::serve_pool_of(front, worker);
}
