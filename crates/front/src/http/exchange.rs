//! One request on a connection, and how far its answer is.

use std::fmt;

use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;

use super::fact::ExchangeKey;

/// How an answer's body goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// More may come.
    Open,
    /// That is all.
    Ended,
    /// It has broken off: the visitor must not take it for complete.
    Cut,
    /// The same, and hyper has been asked to send what it has.
    CutAsked,
}

/// What a worker did wrong with the body of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadBody {
    /// It is longer than its `Content-Length`.
    TooLong,
    /// It is shorter.
    TooShort,
}

impl fmt::Display for BadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadBody::TooLong => "the body of its answer is longer than its Content-Length",
            BadBody::TooShort => "the body of its answer is shorter than its Content-Length",
        })
    }
}

/// One request on a connection.
pub(super) struct Exchange {
    /// `None` until the core has been told of it, and for requests that were refused before.
    pub(super) key: Option<ExchangeKey>,
    /// The core has not ended it: it must be told when the visitor goes.
    pub(super) is_known: bool,
    /// Its answer has no body, whatever the worker writes.
    pub(super) is_head: bool,
    /// It is of HTTP/1.0.
    pub(super) is_old: bool,
    /// It is of HTTP/1.0 and wants its connection kept.
    pub(super) wants_keeping: bool,
    /// The rest of its body.
    pub(super) upload: Option<Incoming>,
    /// So much of it may come.
    pub(super) room: usize,
    /// Somebody has decided on the answer's head.
    pub(super) is_answered: bool,
    /// The head, until hyper takes it: after that nothing else can be answered.
    pub(super) head: Option<Box<http::response::Parts>>,
    /// The request's id, as its answer tells it.
    pub(super) id: Box<str>,
    /// The answer's body, until hyper takes it.
    pub(super) queue: BytesMut,
    /// So long the worker said that it is.
    pub(super) promised: Option<u64>,
    /// So long it is by now.
    pub(super) passed: u64,
    /// No body is sent: HEAD, 204, 304.
    pub(super) is_bodiless: bool,
    /// How it goes on.
    pub(super) course: Course,
    /// hyper has all of it.
    pub(super) is_sent: bool,
    /// Much was waiting to be sent: the core is told when it has gone.
    pub(super) is_high: bool,
}

impl Exchange {
    /// A request of which nothing has been answered.
    pub(super) fn new(upload: Option<Incoming>) -> Exchange {
        Exchange {
            key: None,
            is_known: false,
            is_head: false,
            is_old: false,
            wants_keeping: false,
            upload,
            room: 0,
            is_answered: false,
            head: None,
            id: Box::default(),
            queue: BytesMut::new(),
            promised: None,
            passed: 0,
            is_bodiless: false,
            course: Course::Open,
            is_sent: false,
            is_high: false,
        }
    }

    /// Whether what the visitor gets can still be decided.
    pub(super) fn is_undecided(&self) -> bool {
        !self.is_answered || self.head.is_some()
    }

    /// More of the answer's body.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), BadBody> {
        if self.course != Course::Open || self.is_bodiless {
            return Ok(());
        }
        self.passed = self.passed.saturating_add(bytes.len() as u64);
        if self.promised.is_some_and(|promised| self.passed > promised) {
            return Err(BadBody::TooLong);
        }
        self.queue.extend_from_slice(bytes);
        Ok(())
    }

    /// That is all of the answer's body.
    pub(super) fn end(&mut self) -> Result<(), BadBody> {
        if self.course != Course::Open {
            return Ok(());
        }
        if !self.is_bodiless && self.promised.is_some_and(|promised| self.passed < promised) {
            return Err(BadBody::TooShort);
        }
        self.course = Course::Ended;
        Ok(())
    }

    /// Replaces whatever hyper has not taken by a whole answer.
    pub(super) fn replace(&mut self, head: http::response::Parts, body: &Bytes) {
        self.is_answered = true;
        self.head = Some(Box::new(head));
        self.promised = None;
        self.queue = BytesMut::new();
        if !self.is_bodiless {
            self.queue.extend_from_slice(body);
        }
        self.course = Course::Ended;
    }
}
