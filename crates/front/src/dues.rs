//! What is due: slow requests, requests whose time is over, stalled connections, rests.

use std::time::{Duration, Instant};

use steadfast_proto::front::{FromFront, NoteKind};

use crate::broken;
use crate::clients;
use crate::dispatch;
use crate::ending::{Outcome, finish, refuse};
use crate::keys::{LaneKey, PoolId, RequestKey};
use crate::lanes;
use crate::load;
use crate::notes;
use crate::place::Reason;
use crate::request::{Origin, Request, State};
use crate::state::{Due, Front};
use crate::verify;
use crate::visitor;
use crate::workers;

/// A large body must come at so many bytes a second, else it holds its worker for nothing.
const UPLOAD_RATE: u64 = 16 * 1024;
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
        notes::about(front, key, NoteKind::Slow, None);
        return front.set_request_due(key, Some(timed + timeout));
    }
    if let Some(later) = excused(front, key, lane, timeout) {
        return front.set_request_due(key, Some(later));
    }
    timed_out(front, key, lane);
}

/// Until when a worker is not to blame, if it is not: somebody else was, or is, waited for.
fn excused(front: &Front, key: RequestKey, lane: LaneKey, timeout: Duration) -> Option<Instant> {
    let request = front.requests.get(key)?;
    let lane = front.lanes.get(lane)?;
    // The visitor has enough to take. Whoever takes nothing at all is ended by his own deadline.
    let paused = lane.paused.map_or(Duration::ZERO, |since| front.now.saturating_duration_since(since));
    if lane.paused.is_some() {
        return Some((request.timed + paused + timeout).max(front.now + CLOSER_LOOK));
    }
    let end = request.timed + timeout;
    let end = if waits_for_sender(request) { end + upload_time(request) } else { end };
    Some(end).filter(|end| *end > front.now)
}

/// The worker has all that has come of the body, and not all has come.
fn waits_for_sender(request: &Request) -> bool {
    !request.body.is_complete && request.body.pending() == 0 && request.sent == request.wire.len()
}

/// What a body may take beside the worker's time: it must come at [`UPLOAD_RATE`] at least.
fn upload_time(request: &Request) -> Duration {
    Duration::from_millis(request.body.seen.saturating_mul(1000) / UPLOAD_RATE)
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
