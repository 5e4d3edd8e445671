//! Where the core and hyper's futures meet: one exchange for each request.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, SERVER};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use hyper::ext::ReasonPhrase;
use slotmap::SlotMap;

use super::door::Pump;
use super::{ExchangeKey, PoolId};
use crate::cgi;
use crate::limits::{BACKLOG_HIGH, BACKLOG_LOW};
use crate::place;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// An answer's pieces are gathered up to this, so that many small ones are few large ones.
const PIECE: usize = 16 * 1024;

/// How long a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// There is none.
    None,
    /// So long.
    Known(u64),
    /// Chunked.
    Unknown,
}

/// What HTTP clients did.
#[derive(Debug)]
pub(crate) enum Fact {
    /// A request's head is complete.
    Request {
        /// Its number.
        exchange: ExchangeKey,
        /// Its pool.
        pool: PoolId,
        /// Its CGI variables as a stream of pairs.
        params: Vec<u8>,
        /// Its body.
        body: Length,
        /// The client's own id, if it is a decent one.
        id: Option<Box<str>>,
    },
    /// More of its body.
    Body {
        /// Its number.
        exchange: ExchangeKey,
        /// Never empty.
        bytes: Bytes,
    },
    /// Its body is complete.
    BodyEnd {
        /// Its number.
        exchange: ExchangeKey,
    },
    /// Its client has gone before the answer was complete; nothing more is said of it.
    Gone {
        /// Its number.
        exchange: ExchangeKey,
    },
    /// Its client has taken enough of the answer for more.
    Taken {
        /// Its number.
        exchange: ExchangeKey,
    },
}

/// One exchange.
#[derive(Debug, Default)]
struct Exchange {
    /// The answer's head, until hyper takes it.
    head: Option<Response<()>>,
    /// Its body: pieces that nobody has taken.
    pieces: VecDeque<Bytes>,
    /// Small pieces on their way to become one.
    gathered: Vec<u8>,
    buffered: usize,
    /// So much is missing of what was promised.
    promised: Option<u64>,
    has_no_body: bool,
    /// hyper has taken the head.
    is_answered: bool,
    is_ended: bool,
    is_cut: bool,
    /// The core waits for `Taken`.
    is_full: bool,
    /// How much of the request's body may come.
    room: usize,
    answer_waker: Option<Waker>,
    pump_waker: Option<Waker>,
}

impl Exchange {
    fn wake(&mut self) {
        if let Some(waker) = self.answer_waker.take() {
            waker.wake();
        }
    }
}

#[derive(Default)]
struct Inner {
    exchanges: SlotMap<ExchangeKey, Exchange>,
    facts: VecDeque<Fact>,
    pumps: Vec<Pump>,
}

/// All exchanges.
#[derive(Clone, Default)]
pub(crate) struct Exchanges(Rc<RefCell<Inner>>);

impl Exchanges {
    fn inner(&self) -> RefMut<'_, Inner> {
        self.0.borrow_mut()
    }

    fn with(&self, key: ExchangeKey, act: impl FnOnce(&mut Exchange)) {
        if let Some(exchange) = self.inner().exchanges.get_mut(key) {
            act(exchange);
        }
    }

    /// A request has come; its guard tells if it is given up.
    pub(crate) fn begin(
        &self,
        pool: PoolId,
        head: &Method,
        params: Vec<u8>,
        body: Length,
        id: Option<Box<str>>,
    ) -> Guard {
        let mut inner = self.inner();
        let exchange = inner.exchanges.insert(Exchange { has_no_body: head == Method::HEAD, ..Exchange::default() });
        inner.facts.push_back(Fact::Request { exchange, pool, params, body, id });
        Guard { exchanges: self.clone(), key: exchange }
    }

    /// A body is to be read.
    pub(crate) fn add_pump(&self, pump: Pump) {
        self.inner().pumps.push(pump);
    }

    /// Pumps that were added since this was asked last.
    pub(crate) fn new_pumps(&self) -> Vec<Pump> {
        std::mem::take(&mut self.inner().pumps)
    }

    /// Says something to the core.
    pub(crate) fn tell(&self, fact: Fact) {
        self.inner().facts.push_back(fact);
    }

    pub(crate) fn next_fact(&self) -> Option<Fact> {
        self.inner().facts.pop_front()
    }

    pub(crate) fn head(&self, key: ExchangeKey, head: cgi::Head, id: &str) {
        self.with(key, |exchange| {
            let cgi::Head { status, mut headers, content_length, reason } = head;
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            if !headers.contains_key(SERVER) {
                headers.insert(SERVER, HeaderValue::from_static("steadfast"));
            }
            if let Ok(id) = HeaderValue::from_str(id) {
                headers.insert(X_REQUEST_ID, id);
            }
            if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
                exchange.has_no_body = true;
            } else if let Some(length) = content_length {
                headers.insert(CONTENT_LENGTH, length.into());
                exchange.promised = Some(length);
            }
            let mut head = Response::new(());
            (*head.status_mut(), *head.headers_mut()) = (status, headers);
            // The worker's own words for its status.
            if let Some(Ok(reason)) = reason.map(ReasonPhrase::try_from) {
                head.extensions_mut().insert(reason);
            }
            exchange.head = Some(head);
            exchange.wake();
        });
    }

    pub(crate) fn push(&self, key: ExchangeKey, bytes: &[u8]) {
        self.with(key, |exchange| {
            if exchange.has_no_body || bytes.is_empty() {
                return;
            }
            if let Some(promised) = &mut exchange.promised {
                match promised.checked_sub(bytes.len() as u64) {
                    Some(left) => *promised = left,
                    None => {
                        exchange.is_cut = true;
                        return exchange.wake();
                    }
                }
            }
            exchange.buffered += bytes.len();
            exchange.is_full |= exchange.buffered >= BACKLOG_HIGH;
            exchange.gathered.extend_from_slice(bytes);
            if exchange.gathered.len() >= PIECE {
                let piece = std::mem::take(&mut exchange.gathered);
                exchange.pieces.push_back(piece.into());
            }
            exchange.wake();
        });
    }

    pub(crate) fn end(&self, key: ExchangeKey) {
        self.with(key, |exchange| {
            exchange.is_ended = true;
            exchange.is_cut |= !exchange.has_no_body && exchange.promised.is_some_and(|left| left > 0);
            exchange.wake();
        });
    }

    pub(crate) fn cut(&self, key: ExchangeKey) {
        self.with(key, |exchange| {
            exchange.is_cut = true;
            exchange.wake();
        });
    }

    pub(crate) fn place(&self, key: ExchangeKey, answer: &place::Answer<'_>) {
        let page = answer.page();
        let head = placed(&page);
        let body = page.body;
        self.with(key, |exchange| {
            exchange.head = Some(head);
            if !exchange.has_no_body {
                exchange.buffered = body.len();
                exchange.pieces.push_back(body);
            }
            exchange.is_ended = true;
            exchange.wake();
        });
    }

    pub(crate) fn buffered(&self, key: ExchangeKey) -> usize {
        self.0.borrow().exchanges.get(key).map_or(0, |exchange| exchange.buffered)
    }

    pub(crate) fn set_room(&self, key: ExchangeKey, bytes: usize) {
        self.with(key, |exchange| {
            exchange.room = bytes;
            if bytes > 0
                && let Some(waker) = exchange.pump_waker.take()
            {
                waker.wake();
            }
        });
    }

    /// Waits until more of the request's body may come. `false`: nobody wants it any more.
    pub(crate) fn poll_room(&self, key: ExchangeKey, context: &Context<'_>) -> Poll<bool> {
        match self.inner().exchanges.get_mut(key) {
            None => Poll::Ready(false),
            Some(exchange) if exchange.room > 0 => Poll::Ready(true),
            Some(exchange) => {
                exchange.pump_waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// So much of the body has come.
    pub(crate) fn used(&self, key: ExchangeKey, bytes: usize) {
        self.with(key, |exchange| exchange.room = exchange.room.saturating_sub(bytes));
    }
}

/// The head of an answer in a worker's place.
pub(crate) fn placed(page: &place::Page) -> Response<()> {
    let mut head = Response::new(());
    let headers = head.headers_mut();
    for (name, value) in &page.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    headers.insert(SERVER, HeaderValue::from_static("steadfast"));
    *head.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    head
}

/// Whoever holds it waits for the answer; dropping it before its end tells the core.
pub(crate) struct Guard {
    exchanges: Exchanges,
    key: ExchangeKey,
}

impl Guard {
    /// The exchange.
    pub(crate) fn key(&self) -> ExchangeKey {
        self.key
    }

    /// Waits for the answer's head.
    pub(crate) fn poll_head(&mut self, context: &Context<'_>) -> Poll<Response<()>> {
        let mut inner = self.exchanges.inner();
        let Some(exchange) = inner.exchanges.get_mut(self.key) else { return Poll::Pending };
        match exchange.head.take() {
            Some(head) => {
                exchange.is_answered = true;
                Poll::Ready(head)
            }
            None => {
                exchange.answer_waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Waits for a piece of the answer's body.
    fn poll_piece(&mut self, context: &Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let mut inner = self.exchanges.inner();
        let Some(exchange) = inner.exchanges.get_mut(self.key) else { return Poll::Ready(Some(Err(Broken))) };
        let gathered = if exchange.pieces.is_empty() { std::mem::take(&mut exchange.gathered) } else { Vec::new() };
        let piece = exchange.pieces.pop_front().or_else(|| (!gathered.is_empty()).then(|| gathered.into()));
        if let Some(piece) = piece {
            exchange.buffered = exchange.buffered.saturating_sub(piece.len());
            if exchange.is_full && exchange.buffered <= BACKLOG_LOW {
                exchange.is_full = false;
                inner.facts.push_back(Fact::Taken { exchange: self.key });
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        if exchange.is_cut {
            return Poll::Ready(Some(Err(Broken)));
        }
        if exchange.is_ended {
            return Poll::Ready(None);
        }
        exchange.answer_waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn has_no_body(&self) -> bool {
        self.exchanges.0.borrow().exchanges.get(self.key).is_none_or(|exchange| exchange.has_no_body)
    }

    /// Nothing is missing: all pieces are there.
    fn is_complete(&self) -> bool {
        self.exchanges.0.borrow().exchanges.get(self.key).is_none_or(|exchange| {
            exchange.is_ended && !exchange.is_cut && exchange.pieces.is_empty() && exchange.gathered.is_empty()
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut inner = self.exchanges.inner();
        let Some(exchange) = inner.exchanges.get_mut(self.key) else { return };
        // An answer without a body is over for the client with its head: what a worker still says goes nowhere.
        let is_over = exchange.is_ended || (exchange.has_no_body && exchange.is_answered);
        let key = self.key;
        inner.exchanges.remove(key);
        if !is_over {
            inner.facts.push_back(Fact::Gone { exchange: key });
        }
    }
}

/// The answer has broken off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the answer has broken off")
    }
}

impl std::error::Error for Broken {}

/// The body of an answer as hyper wants it.
pub(crate) struct Answer {
    guard: Option<Guard>,
    /// An answer of the adapter's own.
    whole: Option<Bytes>,
}

impl Answer {
    /// The body of an exchange.
    pub(crate) fn of(guard: Guard) -> Answer {
        Answer { guard: Some(guard), whole: None }
    }

    /// These bytes.
    pub(crate) fn whole(bytes: Bytes) -> Answer {
        Answer { guard: None, whole: Some(bytes) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.guard {
            None => Poll::Ready(self.whole.take().map(|bytes| Ok(Frame::data(bytes)))),
            Some(guard) => guard.poll_piece(context).map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.guard {
            None => self.whole.is_none(),
            Some(guard) => guard.has_no_body() || guard.is_complete(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.whole {
            Some(bytes) if self.guard.is_none() => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}
