//! Bodies on their way to workers: small ones are collected first, large ones flow.

use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::kind;

use crate::abort;
use crate::broken;
use crate::dispatch;
use crate::ending::{Outcome, finish, refuse};
use crate::keys::{LaneKey, RequestKey};
use crate::lanes;
use crate::pace;
use crate::place::Reason;
use crate::request::{SMALL_BODY, State};
use crate::state::Front;
use crate::visitor;
use crate::workers;

/// A body that waits for a worker may keep so much in hand, where other bodies come by the same connection.
const WAITING_MAX: usize = 1024 * 1024;

/// More has come.
pub(crate) fn more(front: &mut Front, key: RequestKey, bytes: &[u8]) {
    let Some(request) = front.requests.get_mut(key) else { return };
    let body = &mut request.body;
    if body.is_complete {
        return;
    }
    body.seen += bytes.len() as u64;
    if body.is_refused {
        return;
    }
    if body.expected.is_some_and(|expected| body.seen > expected) {
        return spoil(front, key);
    }
    if body.is_streamed {
        encode::stream(&mut body.tail, kind::STDIN, 1, bytes);
        if request.state == State::Waiting && body.pending() > WAITING_MAX {
            return refuse(front, key, Reason::QueueFull);
        }
        return flow(front, key);
    }
    body.kept.extend_from_slice(bytes);
    if body.kept.len() > SMALL_BODY {
        dispatch::admit(front, key);
    }
}

/// All has come.
pub(crate) fn end(front: &mut Front, key: RequestKey) {
    let Some(request) = front.requests.get_mut(key) else { return };
    let body = &mut request.body;
    if body.is_complete {
        return;
    }
    if body.expected.is_some_and(|expected| body.seen < expected) {
        return spoil(front, key);
    }
    body.is_complete = true;
    // Until now its sender was waited for, too.
    request.timed = front.now;
    let body = &mut request.body;
    if body.is_streamed {
        encode::stream_end(&mut body.tail, kind::STDIN, 1);
        return flow(front, key);
    }
    dispatch::admit(front, key);
}

/// The body is not what was promised. A worker that has seen a part of it must not take it for the whole: its
/// connection ends in the middle of it.
fn spoil(front: &mut Front, key: RequestKey) {
    let Some(request) = front.requests.get_mut(key) else { return };
    request.body.is_complete = true;
    let (state, released) = (request.state, request.reply.is_released);
    if let State::Busy(lane) = state {
        let worker = front.lanes.get(lane).map(|lane| lane.worker);
        lanes::free(front, lane, false);
        if let Some(worker) = worker {
            workers::rest(front, worker, workers::INTERRUPTED);
            broken::serve_pool_of(front, worker);
        }
    }
    if released {
        visitor::cut(front, key);
        finish(front, key, Outcome::Lost);
    } else {
        refuse(front, key, Reason::BadRequest);
    }
}

/// Passes on what has come, if a worker has the request.
fn flow(front: &mut Front, key: RequestKey) {
    let Some(request) = front.requests.get(key) else { return };
    let State::Busy(lane) = request.state else { return };
    if request.body.is_refused || front.lanes.get(lane).is_some_and(|lane| lane.is_write_heard) {
        return;
    }
    if lanes::write(front, lane, key).is_err() {
        // Its answer, if there is one, is read before its end is.
        abort::forget_body(front, key);
    }
}

/// A worker's connection has room again.
pub(crate) fn writable(front: &mut Front, lane: LaneKey) {
    let Some(key) = front.lanes.get(lane).and_then(|lane| lane.request) else { return };
    if lanes::write(front, lane, key).is_err() {
        // It may have answered before it closed its ear: reading tells, as soon as its visitor takes it.
        abort::forget_body(front, key);
        lanes::hear_no_room(front, lane);
        return;
    }
    pace::send_on(front, key);
}
