//! The visitor has gone before its answer was complete.

use steadfast_proto::front::{ClientAbort, FromFront};

use crate::broken;
use crate::ending::{Outcome, finish};
use crate::keys::RequestKey;
use crate::lanes;
use crate::pace;
use crate::request::{Origin, State};
use crate::state::Front;
use crate::workers;

/// Forgets a request that no worker has; what a worker has it may finish, or is cancelled, as the pool wants it.
pub(crate) fn gone(front: &mut Front, key: RequestKey) {
    let Some(request) = front.requests.get_mut(key) else { return };
    if let Origin::Http(exchange) = request.origin {
        front.exchanges.remove(&exchange);
    }
    request.origin = Origin::Gone;
    let State::Busy(lane) = request.state else {
        return finish(front, key, Outcome::Aborted);
    };
    let abort = front.pools.get(&request.pool).map_or(ClientAbort::Finish, |pool| pool.config.client_abort);
    let Some(worker) = front.lanes.get(lane).map(|lane| lane.worker) else { return };
    if abort == ClientAbort::Cancel {
        let line = request.line();
        if let Some(worker) = front.workers.get_mut(worker) {
            worker.is_spent = true;
            front.channel.send(&FromFront::Cancelled { worker: worker.id, line });
        }
        lanes::free(front, lane, false);
        return finish(front, key, Outcome::Aborted);
    }
    if abort == ClientAbort::Close || !request.body.is_complete {
        // That tells the worker that its client has died, as fewer bytes than promised do (specification, section 6.2). It
        // lives.
        lanes::free(front, lane, false);
        workers::rest(front, worker, workers::INTERRUPTED);
        finish(front, key, Outcome::Aborted);
        return broken::serve_pool_of(front, worker);
    }
    // What is answered from now on is discarded as it comes.
    pace::answer_on(front, key);
}

/// The worker takes no more of the body: the rest is read from the client, and goes nowhere.
pub(crate) fn forget_body(front: &mut Front, key: RequestKey) {
    let Some(request) = front.requests.get_mut(key) else { return };
    request.body.tail = Vec::new();
    request.body.tail_at = 0;
    request.body.is_refused = true;
}
