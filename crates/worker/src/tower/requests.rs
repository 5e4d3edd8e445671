//! The requests of one FastCGI connection: what was read turns into orders; no I/O.

use std::io;
use std::sync::Arc;

use http::{Request, StatusCode};
use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::{role, status};
use steadfast_proto::fcgi::request::{self, Event, RequestDecoder};
use steadfast_proto::fcgi::values::Values;
use tokio::sync::{Notify, oneshot};

use crate::head::{self, Variables};
use crate::link;
use crate::params::{Params, Unusable};
use crate::tower::body::{self, Body, Feed, WINDOW};
use crate::tower::load::InHand;
use crate::tower::office::Office;

/// What is to be done.
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one, and none lives longer than a moment")]
pub(super) enum Order {
    /// Run the service.
    Handle(Begun, Request<Body>),
    /// Answer in its place, and say no word to it.
    Refuse(Begun, StatusCode, &'static str),
}

/// A request that is to be answered. Its id lives until [`Requests::forget`].
pub(super) struct Begun {
    pub(super) id: u16,
    pub(super) in_hand: InHand,
    /// Resolves when the answer is no longer wanted.
    pub(super) cancelled: oneshot::Receiver<()>,
}

/// See above.
pub(super) struct Requests {
    office: Arc<Office>,
    decoder: RequestDecoder,
    living: Vec<Living>,
    /// Answers that are not sent to their end.
    unanswered: usize,
    /// The connection takes no other request: it is closed when the answers are sent.
    is_closing: bool,
    room: Arc<Notify>,
}

struct Living {
    id: u16,
    keep: bool,
    role: u16,
    stage: Stage,
}

enum Stage {
    Params(Params, InHand),
    /// The body is coming.
    Body(Feed, oneshot::Sender<()>),
    /// It was refused: nothing of it matters.
    Refused,
}

impl Requests {
    /// `room` is told when a body that was full is taken.
    pub(super) fn new(office: Arc<Office>, room: Arc<Notify>) -> Requests {
        let requests = usize::try_from(office.load.concurrency()).unwrap_or(1);
        let limits = request::Limits { requests, params: office.limits.params, ..request::Limits::default() };
        Requests {
            office,
            decoder: RequestDecoder::new(limits),
            living: Vec::new(),
            unanswered: 0,
            is_closing: false,
            room,
        }
    }

    /// Takes what was read. Orders and replies (records that are complete) are appended.
    ///
    /// # Errors
    /// The web server did not keep to the protocol: the connection must be closed.
    pub(super) fn take(&mut self, mut bytes: &[u8], orders: &mut Vec<Order>, replies: &mut Vec<u8>) -> io::Result<()> {
        while let Some(event) = self.decoder.next(&mut bytes).map_err(io::Error::other)? {
            match event {
                Event::Begin { id, role, keep } => {
                    self.unanswered += 1;
                    let stage = Stage::Params(Params::default(), self.office.load.begin());
                    self.living.push(Living { id, keep, role, stage });
                }
                Event::Params { id, bytes } => {
                    if let Some(Living { stage: Stage::Params(params, _), .. }) = self.find(id) {
                        params.extend(bytes);
                    }
                }
                Event::ParamsEnd { id } => self.begin(id, orders, replies),
                Event::TooLarge { id } => {
                    self.refuse(id, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LARGE, orders)
                }
                Event::Stdin { id, bytes } => {
                    if let Some(Living { stage: Stage::Body(feed, _), .. }) = self.find(id) {
                        feed.push(bytes);
                    }
                }
                Event::StdinEnd { id } => {
                    if let Some(Living { stage: Stage::Body(feed, _), .. }) = self.find(id) {
                        feed.end();
                    }
                }
                Event::Abort { id } => self.abort(id, replies),
                Event::Refused { id, keep } => self.turn_away(id, keep, replies),
                Event::GetValues(asked) => encode::get_values_result(replies, self.values().of(asked)),
                Event::Unknown { kind } => encode::unknown_type(replies, kind),
                Event::Data { .. } | Event::DataEnd { .. } => {}
            }
        }
        Ok(())
    }

    fn values(&self) -> Values {
        let concurrency = self.office.load.concurrency();
        Values { max_conns: Some(concurrency), max_reqs: Some(concurrency), mpxs_conns: Some(concurrency > 1) }
    }

    fn find(&mut self, id: u16) -> Option<&mut Living> {
        self.living.iter_mut().find(|living| living.id == id)
    }

    /// The parameters are complete.
    fn begin(&mut self, id: u16, orders: &mut Vec<Order>, replies: &mut Vec<u8>) {
        let params_count = self.office.limits.params_count;
        let is_too_late = self.office.leaving.is_over();
        let room = Arc::clone(&self.room);
        let Some(living) = self.find(id) else {
            return;
        };
        if living.role != role::RESPONDER {
            return self.end(id, status::UNKNOWN_ROLE, replies);
        }
        let Stage::Params(params, _) = &mut living.stage else {
            return;
        };
        let parts = match params.complete(params_count) {
            Ok(()) if is_too_late => {
                return self.refuse(id, StatusCode::SERVICE_UNAVAILABLE, "This worker is leaving.", orders);
            }
            Ok(()) => head::request(params),
            Err(Unusable::TooMany(_)) => {
                return self.refuse(id, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LARGE, orders);
            }
            Err(Unusable::Cut) => Err("its parameters are cut".to_owned()),
        };
        let mut parts = match parts {
            Ok(parts) => parts,
            Err(why) => {
                link::complain(&format!("bad request: {why}"));
                return self.refuse(id, StatusCode::BAD_REQUEST, "The request cannot be read.", orders);
            }
        };
        let (feed, body) = body::pipe(head::content_length(params), room);
        let (cancel, cancelled) = oneshot::channel();
        let stage = std::mem::replace(&mut living.stage, Stage::Body(feed, cancel));
        if let Stage::Params(params, in_hand) = stage {
            parts.extensions.insert(Variables(Arc::new(params)));
            orders.push(Order::Handle(Begun { id, in_hand, cancelled }, Request::from_parts(parts, body)));
        }
    }

    fn refuse(&mut self, id: u16, status: StatusCode, why: &'static str, orders: &mut Vec<Order>) {
        let Some(living) = self.find(id) else {
            return;
        };
        if let Stage::Params(_, in_hand) = std::mem::replace(&mut living.stage, Stage::Refused) {
            // Nobody cancels a page.
            let (_, cancelled) = oneshot::channel();
            orders.push(Order::Refuse(Begun { id, in_hand, cancelled }, status, why));
        }
    }

    fn abort(&mut self, id: u16, replies: &mut Vec<u8>) {
        let Some(living) = self.find(id) else {
            return;
        };
        match std::mem::replace(&mut living.stage, Stage::Refused) {
            // END comes from whoever is answering it.
            Stage::Body(feed, cancel) => {
                feed.fail(io::ErrorKind::ConnectionAborted, "the web server does not want the answer any more");
                let _ = cancel.send(());
            }
            Stage::Params(..) => self.end(id, status::REQUEST_COMPLETE, replies),
            Stage::Refused => {}
        }
    }

    /// One beyond the limit; its id does not live.
    fn turn_away(&mut self, id: u16, keep: bool, replies: &mut Vec<u8>) {
        if self.office.load.concurrency() == 1 {
            encode::end_request(replies, id, 0, status::CANT_MPX_CONN);
        } else {
            // No web server looks at FCGI_OVERLOADED.
            let text: &[u8] =
                b"Status: 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Type: text/plain\r\n\r\nToo many requests at a time.\n";
            encode::stream(replies, steadfast_proto::fcgi::kind::STDOUT, id, text);
            encode::stream_end(replies, steadfast_proto::fcgi::kind::STDOUT, id);
            encode::end_request(replies, id, 0, status::REQUEST_COMPLETE);
        }
        self.is_closing |= !keep;
    }

    /// Ends a request that nobody answers.
    fn end(&mut self, id: u16, status: u8, replies: &mut Vec<u8>) {
        self.forget(id);
        self.unanswered -= 1;
        encode::end_request(replies, id, 0, status);
    }

    /// The request is about to be answered to its end: its id is free, and what still comes for it is swallowed.
    pub(super) fn forget(&mut self, id: u16) {
        self.decoder.end(id);
        if let Some(at) = self.living.iter().position(|living| living.id == id) {
            let living = self.living.swap_remove(at);
            self.is_closing |= !living.keep;
        }
    }

    /// The answer of one that was forgotten was sent to its end; or it was broken off, and so must the connection be.
    pub(super) fn answered(&mut self, is_whole: bool) {
        self.unanswered -= 1;
        self.is_closing |= !is_whole;
    }

    /// The connection has ended: all that is in hand is cancelled.
    pub(super) fn cancel_all(&mut self) {
        self.is_closing = true;
        for living in self.living.drain(..) {
            match living.stage {
                Stage::Body(feed, cancel) => {
                    feed.end();
                    feed.fail(io::ErrorKind::ConnectionAborted, "the web server has gone");
                    let _ = cancel.send(());
                }
                Stage::Params(..) => self.unanswered -= 1,
                Stage::Refused => {}
            }
        }
    }

    /// Nothing is in hand, and everything was sent.
    pub(super) fn is_quiet(&self) -> bool {
        self.unanswered == 0
    }

    /// Several are in hand.
    pub(super) fn is_mixed(&self) -> bool {
        self.unanswered > 1
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Some of what the web server sends was not read: it must be, or closing takes the answer from it.
    pub(super) fn is_unread(&self) -> bool {
        self.decoder.is_unread() || !self.decoder.is_idle()
    }

    /// The bodies that nobody takes, and how much of each is kept: while there is one, nothing is read.
    pub(super) fn full(&self) -> Vec<(u16, usize)> {
        let full = |living: &Living| match &living.stage {
            Stage::Body(feed, _) => Some((living.id, feed.len())).filter(|(_, length)| *length >= WINDOW),
            Stage::Params(..) | Stage::Refused => None,
        };
        self.living.iter().filter_map(full).collect()
    }

    /// Others have waited long enough for this body to be taken.
    pub(super) fn give_up(&mut self, id: u16) {
        if let Some(Living { stage: Stage::Body(feed, _), .. }) = self.find(id) {
            feed.fail(io::ErrorKind::TimedOut, "nobody has read the body, and others were waiting for it");
        }
    }
}

const TOO_LARGE: &str = "There are too many headers, or they are too long.";
