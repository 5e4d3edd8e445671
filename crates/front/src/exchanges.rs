//! Requests of HTTP clients: what the adapter has read becomes requests like all others.

use steadfast_proto::fcgi::record::role;
use steadfast_proto::front::RequestId;

use crate::abort;
use crate::dispatch;
use crate::ending::refuse;
use crate::http::{ExchangeKey, Fact, Length};
use crate::intake;
use crate::keys::RequestKey;
use crate::notes;
use crate::pace;
use crate::place::Reason;
use crate::request::{Origin, Request};
use crate::state::Front;
use crate::status;
use crate::uploads;

/// Lets HTTP connections run, and takes what comes of it.
pub(crate) fn run(front: &mut Front) {
    loop {
        front.http.run(front.now);
        let mut any = false;
        while let Some(fact) = front.http.next_fact() {
            any = true;
            happened(front, fact);
        }
        if !any {
            return;
        }
    }
}

fn happened(front: &mut Front, fact: Fact) {
    let find = |front: &Front, exchange: ExchangeKey| front.exchanges.get(&exchange).copied();
    match fact {
        Fact::Request { exchange, pool, params, body, id, .. } => {
            let mut request = Request::new(pool, Origin::Http(exchange), role::RESPONDER, front.now);
            request.params = params;
            let key = front.requests.insert(request);
            front.exchanges.insert(exchange, key);
            begin(front, key, body, id);
        }
        Fact::Body { exchange, bytes } => {
            if let Some(key) = find(front, exchange) {
                uploads::more(front, key, &bytes);
                pace::send_on(front, key);
            }
        }
        Fact::BodyEnd { exchange } => {
            if let Some(key) = find(front, exchange) {
                uploads::end(front, key);
            }
        }
        Fact::Gone { exchange } => {
            if let Some(key) = find(front, exchange) {
                abort::gone(front, key);
            }
        }
        Fact::Bug { message } => {
            notes::warn(front, None, format!("a connection was closed because of a bug in the front: {message}"));
        }
        Fact::Taken { exchange } => {
            if let Some(key) = find(front, exchange) {
                pace::answer_on(front, key);
            }
        }
    }
}

fn begin(front: &mut Front, key: RequestKey, body: Length, id: Option<Box<str>>) {
    let Some(request) = front.requests.get_mut(key) else { return };
    let Some(pool) = front.pools.get(&request.pool) else { return abort::gone(front, key) };
    if let Err(reason) = intake::scan(request, false) {
        return refuse(front, key, reason);
    }
    if request.param(b"REQUEST_METHOD") == Some(b"OPTIONS") && request.param(b"REQUEST_URI") == Some(b"*") {
        // RFC 9110, section 9.3.7: asked of the server itself, useful as a ping.
        return refuse(front, key, Reason::Ping);
    }
    if status::is_asked(pool, request) {
        return status::answer(front, key);
    }
    if pool.config.request_id == RequestId::Trust {
        request.trusted_id = id;
    }
    match body {
        Length::None => {
            request.body.is_complete = true;
            return dispatch::admit(front, key);
        }
        Length::Known(length) => request.body.expected = Some(length),
        Length::Unknown => {}
    }
    // Who would be refused anyway is refused before a byte of the body is asked for.
    let is_full = pool.waiting >= pool.config.queue_length && pool.idle.is_empty() && pool.shared.is_empty();
    if pool.is_down {
        refuse(front, key, Reason::Down);
    } else if is_full {
        refuse(front, key, Reason::QueueFull);
    } else {
        pace::send_on(front, key);
    }
}
