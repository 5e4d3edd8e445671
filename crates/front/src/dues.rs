//! What is due: slow requests, requests whose time is over, stalled connections, rests.

use std::time::Instant;

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
use crate::place::Reason;
use crate::request::{Origin, State};
use crate::state::{Due, Front};
use crate::verify;
use crate::visitor::{self, BACKLOG_HIGH};
use crate::workers;

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
    let end = pool.due(request.handed, true);
    if !request.is_slow && end > front.now {
        request.is_slow = true;
        let due = pool.due(request.handed, true);
        notes::about(front, key, NoteKind::Slow, None);
        return front.set_request_due(key, Some(due));
    }
    timed_out(front, key, lane);
}

/// Its time is over. That is the worker's fault only if nobody else was waited for.
fn timed_out(front: &mut Front, key: RequestKey, lane: LaneKey) {
    let now = front.now;
    let waits_for_reader = visitor::backlog(front, request_origin(front, key)) >= BACKLOG_HIGH;
    let Some(request) = front.requests.get_mut(key) else { return };
    let waits_for_sender =
        !request.body.is_complete && request.body.pending() == 0 && request.sent == request.wire.len();
    if waits_for_reader {
        // The visitor takes nothing: it goes, and the worker has its time again to finish.
        request.handed = now;
        request.is_slow = true;
        let due = front.pools.get(&request.pool).map(|pool| pool.due(now, true));
        front.set_request_due(key, due);
        return match request_origin(front, key) {
            Origin::Fastcgi { client, .. } => clients::drop_all(front, client),
            Origin::Http(exchange) => {
                front.http.cut(exchange);
                abort::gone(front, key);
            }
            Origin::Verify(_) | Origin::Gone => {}
        };
    }
    let Some(worker) = front.lanes.get(lane).map(|lane| lane.worker) else { return };
    let reason = if waits_for_sender { Reason::BodyTimeout } else { Reason::RequestTimeout };
    if !waits_for_sender {
        notes::about(front, key, NoteKind::Timeout, None);
        let line = front.requests.get(key).map(crate::request::Request::line).unwrap_or_default();
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

fn request_origin(front: &Front, key: RequestKey) -> Origin {
    front.requests.get(key).map_or(Origin::Gone, |request| request.origin)
}
