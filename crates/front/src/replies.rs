//! Reads what workers answer and passes it on.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use steadfast_proto::fcgi::response::Answer;
use steadfast_proto::front::{FromFront, NoteKind};

use crate::broken::{self, Why};
use crate::cgi::Found;
use crate::ending::{Outcome, finish, refuse};
use crate::keys::{LaneKey, RequestKey, WorkerKey};
use crate::lanes;
use crate::limits::BACKLOG_HIGH;
use crate::notes;
use crate::pace;
use crate::place::Reason;
use crate::request::Origin;
use crate::speaker;
use crate::state::{Front, Lane, READ_MAX};
use crate::verify;
use crate::visitor;
use crate::workers;

/// Reads of one connection in one turn.
const READS: usize = 8;

/// Reads of a dead worker's connection: more than a socket's buffer holds.
const DRAINS: usize = 64;

/// What became of what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fed {
    /// More may follow.
    On,
    /// The connection has another life, or none.
    Over,
}

/// A worker's connection can be read. `ended`: the peer has closed it, or will say nothing more.
pub(crate) fn readable(front: &mut Front, key: LaneKey, ended: bool) {
    let Some(lane) = front.lanes.get_mut(key) else { return };
    lane.is_readable = true;
    lane.has_ended |= ended;
    read_on(front, key);
}

/// Reads on where reading was left.
pub(crate) fn read_on(front: &mut Front, key: LaneKey) {
    let Some(worker) = front.lanes.get(key).map(|lane| lane.worker) else { return };
    read(front, key);
    if front.lanes.get(key).is_some_and(|lane| !is_visitor_slow(front, lane)) {
        pace::read_on(front, key);
    }
    // Only now: what was read belonged to the request that is over.
    broken::serve_pool_of(front, worker);
}

/// Whether the visitor has enough to take.
fn is_visitor_slow(front: &Front, lane: &Lane) -> bool {
    let request = lane.request.and_then(|request| front.requests.get(request));
    request.is_some_and(|request| visitor::backlog(front, request.origin) >= BACKLOG_HIGH)
}

/// It is read again: the time of its request stood still.
fn unpause(front: &mut Front, key: LaneKey) {
    let Some(lane) = front.lanes.get_mut(key) else { return };
    let Some(since) = lane.paused.take() else { return };
    let paused = front.now.saturating_duration_since(since);
    if let Some(request) = lane.request.and_then(|request| front.requests.get_mut(request)) {
        request.timed += paused;
    }
}

fn read(front: &mut Front, key: LaneKey) {
    for _ in 0..READS {
        let Some(lane) = front.lanes.get(key).filter(|lane| lane.is_readable) else { return };
        if is_visitor_slow(front, lane) {
            // The kernel and the worker wait with us; `pace` goes on.
            let now = front.now;
            if let Some(lane) = front.lanes.get_mut(key) {
                lane.paused.get_or_insert(now);
            }
            return;
        }
        let ended = lane.has_ended;
        unpause(front, key);
        speaker::hear(front, key);
        let Some(fd) = front.lanes.get(key).and_then(|lane| lane.fd.as_ref()) else { return };
        let mut scratch = std::mem::take(&mut front.scratch);
        scratch.resize(READ_MAX, 0);
        let read = rustix::net::recv(fd.as_fd(), &mut scratch[..], RecvFlags::DONTWAIT);
        let fed = match read {
            Ok((0, _)) => {
                broken::ended(front, key, Why::Closed);
                Fed::Over
            }
            Ok((taken, _)) => {
                let is_drained = taken < READ_MAX && !ended;
                if let Some(lane) = front.lanes.get_mut(key) {
                    lane.is_readable = !is_drained;
                }
                feed(front, key, &scratch[..taken], ended)
            }
            Err(Errno::INTR) => Fed::On,
            Err(Errno::AGAIN) => {
                if let Some(lane) = front.lanes.get_mut(key) {
                    lane.is_readable = false;
                }
                Fed::Over
            }
            Err(error) => {
                broken::ended(front, key, if error == Errno::CONNRESET { Why::Unread } else { Why::Broke });
                Fed::Over
            }
        };
        front.scratch = scratch;
        if fed == Fed::Over {
            return;
        }
    }
}

fn feed(front: &mut Front, key: LaneKey, mut input: &[u8], ended: bool) -> Fed {
    loop {
        let Some(lane) = front.lanes.get_mut(key) else { return Fed::Over };
        let request = lane.request;
        let answer = match lane.decoder.next(&mut input) {
            Ok(Some(answer)) => answer,
            Ok(None) => break,
            Err(error) => return nonsense(front, key, request, &error.to_string()),
        };
        let Some(request) = request else {
            return nonsense(front, key, None, "it speaks without having been asked");
        };
        match answer {
            Answer::Stdout(bytes) => {
                if let Err(why) = stdout(front, request, bytes) {
                    return nonsense(front, key, Some(request), &why);
                }
            }
            Answer::Stderr(bytes) => visitor::stderr(front, request, bytes),
            Answer::StdoutEnd | Answer::StderrEnd | Answer::Values(_) | Answer::UnknownType { .. } => {}
            Answer::End { app_status, .. } => {
                // Padding may follow, and nothing else: it would be taken for the next answer.
                let is_clean = matches!(lane.decoder.next(&mut input), Ok(None)) && input.is_empty();
                if !is_clean {
                    notes::about(
                        front,
                        request,
                        NoteKind::BadAnswer,
                        Some("bytes follow the end of its answer".to_owned()),
                    );
                }
                return complete(front, key, request, app_status, is_clean && !ended);
            }
        }
    }
    if let Some(origin) = front
        .lanes
        .get(key)
        .and_then(|lane| lane.request)
        .and_then(|request| front.requests.get(request))
        .map(|request| request.origin)
    {
        visitor::touch(front, origin);
    }
    Fed::On
}

/// A piece of the answer: its head is held back until it is complete, so that something else can be answered as long
/// as nobody has seen a byte.
fn stdout(front: &mut Front, key: RequestKey, bytes: &[u8]) -> Result<(), String> {
    let Some(request) = front.requests.get_mut(key) else { return Ok(()) };
    request.reply.bytes += bytes.len() as u64;
    if request.reply.is_released {
        return visitor::push(front, key, bytes);
    }
    let reply = &mut request.reply;
    let is_first = reply.head.is_empty();
    if !is_first {
        reply.head.extend_from_slice(bytes);
    }
    let found = reply.scan.find(if is_first { bytes } else { &reply.head });
    match found {
        Found::More => {
            if is_first {
                reply.head.extend_from_slice(bytes);
            }
            Ok(())
        }
        Found::TooLong => Err("the head of its answer is too long".to_owned()),
        Found::End(at) if is_first => visitor::release(front, key, bytes, at),
        Found::End(at) => {
            let head = std::mem::take(&mut reply.head);
            visitor::release(front, key, &head, at)
        }
    }
}

/// The worker has ended its answer.
fn complete(front: &mut Front, lane: LaneKey, key: RequestKey, app_status: u32, is_open: bool) -> Fed {
    let Some(request) = front.requests.get(key) else { return Fed::Over };
    if request.reply.bytes == 0 {
        // FCGI.pm does so when Perl dies: it counts as a death, and the process follows as a rule.
        broken::ended(front, lane, Why::Empty);
        return Fed::Over;
    }
    if !request.reply.is_released {
        return nonsense(front, lane, Some(key), "its answer ended within the head");
    }
    // A body may lie there unread, and would be taken for the next request (libfcgi): the connection ends with it.
    let has_body = request.body.seen > 0 || !request.body.is_complete || request.sent < request.wire.len();
    let origin = request.origin;
    let Some(worker) = front.lanes.get(lane).map(|lane| lane.worker) else { return Fed::Over };
    if let Err(why) = visitor::end(front, key, app_status) {
        return nonsense(front, lane, Some(key), &why);
    }
    let keeps = is_open && !has_body;
    if let Origin::Verify(_) = origin {
        lanes::free(front, lane, keeps);
        verify::answered(front, worker, key);
        return Fed::Over;
    }
    workers::served(front, worker);
    if origin != Origin::Gone {
        acquit(front, worker, key);
    }
    lanes::free(front, lane, keeps);
    if !is_open && !has_body {
        broken::closed(front, lane);
    }
    finish(front, key, if origin == Origin::Gone { Outcome::Aborted } else { Outcome::Served });
    Fed::Over
}

/// A watched request has been answered well: tells by whom.
fn acquit(front: &mut Front, worker: WorkerKey, key: RequestKey) {
    if let Some(request) = front.requests.get(key)
        && let Some(suspicion) = request.suspicion
        && let Some(worker) = front.workers.get(worker)
    {
        let served = FromFront::SuspectServed { pool: request.pool, key: suspicion.key, worker: worker.id };
        front.channel.send(&served);
    }
}

/// What the worker says is no answer: its visitor gets 502, and its connection ends. The worker lives.
fn nonsense(front: &mut Front, lane: LaneKey, request: Option<RequestKey>, why: &str) -> Fed {
    let Some(worker) = front.lanes.get(lane).map(|lane| lane.worker) else { return Fed::Over };
    let Some(key) = request else {
        let id = front.workers.get(worker).map_or(0, |worker| worker.id);
        let pool = front.workers.get(worker).map(|worker| worker.pool);
        notes::warn(front, pool, format!("worker {id}: {why}; its connection was closed"));
        lanes::close(front, lane);
        return Fed::Over;
    };
    let origin = front.requests.get(key).map(|request| request.origin);
    if let Some(Origin::Verify(worker)) = origin {
        lanes::free(front, lane, false);
        verify::failed(front, worker, key, why.to_owned());
        return Fed::Over;
    }
    notes::about(front, key, NoteKind::BadAnswer, Some(why.to_owned()));
    lanes::free(front, lane, false);
    workers::rest(front, worker, workers::INTERRUPTED);
    let is_released = front.requests.get(key).is_some_and(|request| request.reply.is_released);
    match origin {
        Some(Origin::Gone) | None => finish(front, key, Outcome::Aborted),
        _ if is_released => {
            visitor::cut(front, key);
            finish(front, key, Outcome::Lost);
        }
        _ => refuse(front, key, Reason::BadAnswer),
    }
    Fed::Over
}

/// Reads everything that a worker has said before it died, however slow its visitor is.
pub(crate) fn drain(front: &mut Front, key: LaneKey) {
    let request = front.lanes.get(key).and_then(|lane| lane.request);
    for _ in 0..DRAINS {
        let Some(lane) = front.lanes.get(key).filter(|lane| lane.request.is_some() && lane.request == request) else {
            return;
        };
        let Some(fd) = lane.fd.as_ref() else { return };
        let mut scratch = std::mem::take(&mut front.scratch);
        scratch.resize(READ_MAX, 0);
        let read = rustix::net::recv(fd.as_fd(), &mut scratch[..], RecvFlags::DONTWAIT);
        let more = match read {
            Ok((taken, _)) if taken > 0 => feed(front, key, &scratch[..taken], false) == Fed::On,
            _ => false,
        };
        front.scratch = scratch;
        if !more {
            return;
        }
    }
}
