//! A worker's connection has ended with a request in hand: what becomes of the request, and who is to blame.
//!
//! Design.md, section 6: what may run twice is given to another worker once, if no byte of an answer has come; what may
//! not runs again only if the worker has not seen a byte of it. All others are told the truth.

use steadfast_proto::front::{Blamed, NoteKind, Retry};

use crate::dispatch;
use crate::ending::{Outcome, finish, refuse};
use crate::keys::{LaneKey, RequestKey};
use crate::lanes;
use crate::notes;
use crate::place::Reason;
use crate::request::{Origin, Request};
use crate::state::Front;
use crate::verify;
use crate::visitor;
use crate::workers;

/// One visitor's request may kill so many workers, then no more.
const DEATHS_MAX: u8 = 2;
/// It is tried so often where no worker was its own to kill.
const MISSES_MAX: u8 = 10;

/// How a worker's connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It was closed after everything had been read.
    Closed,
    /// It was closed before everything had been read.
    Unread,
    /// It broke otherwise.
    Broke,
    /// END came without a byte of an answer.
    Empty,
    /// The process has ended.
    Died,
    /// We could not go on.
    Ours,
}

impl Why {
    /// For people.
    fn words(self) -> &'static str {
        match self {
            Why::Closed => "it closed the connection without an end of its answer",
            Why::Unread => "it closed the connection without having read the whole request",
            Why::Broke => "its connection broke",
            Why::Empty => "it ended its answer without a byte of it",
            Why::Died => "its worker has died",
            Why::Ours => "the front could not go on with its answer",
        }
    }
}

/// The connection of a worker has ended by itself.
pub(crate) fn ended(front: &mut Front, lane: LaneKey, why: Why) {
    let Some(entry) = front.lanes.get(lane) else { return };
    let (worker, used) = (entry.worker, entry.used);
    let Some(key) = entry.request else {
        lanes::close(front, lane);
        return closed(front, lane);
    };
    let many = front.workers.get(worker).is_some_and(|worker| worker.busy > 1 || worker.had_many);
    if let Some(request) = front.requests.get(key) {
        // Of several in hand nobody can say which it was.
        let blamed = if many { None } else { blamed(front, request, used, why) };
        if let Some(worker) = front.workers.get_mut(worker) {
            // It had been used once before this request.
            worker.may_close |= used == 2;
            worker.had_many |= many;
            if worker.blame.is_none() {
                worker.blame = blamed;
            }
        }
    }
    workers::rest(front, worker, workers::DYING);
    lanes::free(front, lane, false);
    bereave(front, key, why.words(), many);
    serve_pool_of(front, worker);
}

/// A worker has closed its connection between two requests: it may be leaving, or that is its way.
pub(crate) fn closed(front: &mut Front, lane: LaneKey) {
    let Some(entry) = front.lanes.get(lane) else { return };
    let (worker, used) = (entry.worker, entry.used);
    let closes = front.workers.get(worker).is_some_and(|worker| worker.closes);
    // Never used: libfcgi drops a connection that says nothing for two seconds.
    if used == 0 || closes {
        return;
    }
    workers::rest(front, worker, workers::LEAVING);
    if let Some(worker) = front.workers.get_mut(worker) {
        worker.may_close |= used == 1;
    }
}

/// What a worker had in hand, if it has seen anything of it.
fn blamed(front: &Front, request: &Request, used: u64, why: Why) -> Option<Blamed> {
    let is_blamable = request.sent > 0 && !matches!(request.origin, Origin::Verify(_));
    is_blamable.then(|| Blamed {
        key: request.key(&front.secret),
        line: request.line(),
        id: request.id(),
        sent: request.sent as u64 + request.body.passed,
        answered: request.reply.bytes,
        unread: why == Why::Unread && (used > 1 || request.method.is_idempotent()),
        stderr: String::from_utf8_lossy(&request.reply.stderr).into_owned(),
    })
}

/// A request has lost its worker.
fn bereave(front: &mut Front, key: RequestKey, why: &str, many: bool) {
    let Some(request) = front.requests.get_mut(key) else { return };
    let Some(pool) = front.pools.get(&request.pool) else { return finish(front, key, Outcome::Aborted) };
    if let Origin::Verify(worker) = request.origin {
        return verify::failed(front, worker, key, format!("it ended the connection: {why}"));
    }
    if request.origin == Origin::Gone {
        return finish(front, key, Outcome::Aborted);
    }
    let is_trial = request.suspicion.is_some_and(|suspicion| suspicion.is_trial);
    if request.is_unsent() {
        request.misses = request.misses.saturating_add(1);
        if pool.config.retry != Retry::Never && request.misses < MISSES_MAX {
            return dispatch::again(front, key);
        }
        return refuse(front, key, Reason::WorkerDied);
    }
    request.deaths += u8::from(!many);
    request.misses += u8::from(many);
    let may_run_again = pool.config.retry == Retry::Idempotent
        && request.method.is_idempotent()
        && request.reply.bytes == 0
        && !request.body.is_streamed
        && request.deaths < DEATHS_MAX
        && request.misses < MISSES_MAX
        && !is_trial;
    if may_run_again {
        if let Some(pool) = front.pools.get_mut(&request.pool) {
            pool.counters.requests.retried += 1;
            pool.is_counted = true;
        }
        notes::about(front, key, NoteKind::Retried, Some(why.to_owned()));
        return dispatch::again(front, key);
    }
    if request.reply.is_released {
        notes::about(front, key, NoteKind::Cut, Some(why.to_owned()));
        visitor::cut(front, key);
        return finish(front, key, Outcome::Lost);
    }
    refuse(front, key, Reason::WorkerDied);
}

/// A worker is there for the next request, or one more is not.
pub(crate) fn serve_pool_of(front: &mut Front, worker: crate::keys::WorkerKey) {
    if let Some(pool) = front.workers.get(worker).map(|worker| worker.pool) {
        dispatch::serve(front, pool);
    }
}
