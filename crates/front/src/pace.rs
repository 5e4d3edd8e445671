//! Who may go on: senders whose bodies have room, workers whose visitors have taken something. Sockets are heard
//! edge-triggered, so whoever was left unread must be remembered, and is read in the next turn.

use crate::keys::{ClientKey, LaneKey, RequestKey};
use crate::request::{Origin, Request, SMALL_BODY, State};
use crate::state::Front;

/// What a body may keep in hand before its sender waits.
const HIGH: usize = 2 * SMALL_BODY;

/// Whether no more of a body may come before the worker has taken some of it.
pub(crate) fn is_full(request: &Request) -> bool {
    request.body.pending() >= HIGH
}

/// Lets the sender of this body go on, if there is room.
pub(crate) fn send_on(front: &mut Front, key: RequestKey) {
    let Some(request) = front.requests.get(key) else { return };
    if request.body.is_complete || is_full(request) {
        return;
    }
    match request.origin {
        Origin::Fastcgi { client, .. } => listen(front, client),
        Origin::Http(exchange) => front.http.set_room(exchange, HIGH - request.body.pending()),
        Origin::Verify(_) | Origin::Gone => {}
    }
}

/// A client that was left unread is read again.
pub(crate) fn listen(front: &mut Front, key: ClientKey) {
    if front.clients.get(key).is_some_and(|client| client.is_readable) && !front.again.contains(&key) {
        front.again.push(key);
    }
}

/// The worker of this request is read again, if it was left unread.
pub(crate) fn answer_on(front: &mut Front, key: RequestKey) {
    if let Some(State::Busy(lane)) = front.requests.get(key).map(|request| request.state) {
        read_on(front, lane);
    }
}

/// A worker that was left unread is read again.
pub(crate) fn read_on(front: &mut Front, key: LaneKey) {
    if front.lanes.get(key).is_some_and(|lane| lane.is_readable) && !front.lanes_again.contains(&key) {
        front.lanes_again.push(key);
    }
}
