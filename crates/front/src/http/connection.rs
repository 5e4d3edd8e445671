//! One HTTP connection: drives hyper, carries its upload, and knows how long it may stay where it is.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::body::Body;
use hyper::server::conn::http1;
use rustix::net::{SendFlags, Shutdown, shutdown, sockopt};

use super::answer;
use super::entrance::Entrance;
use super::exchange::{Course, Exchange};
use super::fact::{ConnectionKey, ExchangeKey, Fact};
use super::settings::Settings;
use super::shared::{Asked, Handle, READ_MAX, Scratch, Shared, Socket};
use super::signal::Signal;
use super::strict::Strict;
use super::wire::Wire;
use crate::limits::BACKLOG_LOW;
use crate::place::{self, Reason};

/// Polls in one go, before others get their turn.
const ROUNDS: usize = 8;
/// An idle connection keeps what hyper needs for so long.
const PARK: Duration = Duration::from_secs(1);
/// An idle connection is closed after so long.
const IDLE: Duration = Duration::from_secs(75);
/// A head must be complete within this, however it trickles.
const HEAD: Duration = Duration::from_secs(30);
/// While there is room for a body, so much of it must come within this, or the rest.
const UPLOAD: Duration = Duration::from_secs(30);
const UPLOAD_MIN: usize = 1024;
/// A visitor who takes nothing for so long is gone.
const STALL: Duration = Duration::from_secs(60);
/// A connection that is closed with input unread is drained for so long, or so much: a reset would take the answer away.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_MAX: usize = 1024 * 1024;

type Driver = http1::Connection<Wire, Entrance>;

/// What a connection waits for, and how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A request.
    Idle,
    /// The rest of a head.
    Head,
    /// The core.
    Waiting,
    /// More of a body.
    Upload,
    /// Room to write.
    Stalled,
    /// Its end; so much has been drained.
    Lingering(usize),
    /// Nothing: it can go.
    Over,
}

/// One HTTP connection.
pub(super) struct Connection {
    fd: Rc<OwnedFd>,
    shared: Handle,
    /// hyper, while it is needed: it costs more than all else.
    driver: Option<Pin<Box<Driver>>>,
    signal: Arc<Signal>,
    waker: Waker,
    state: State,
    /// Since when, without any progress.
    since: Instant,
    /// Keep-alive is over.
    is_leaving: bool,
    /// When the adapter has been told to look at it.
    pub(super) armed: Option<Instant>,
}

/// What a connection needs of its adapter while it runs.
pub(super) struct Around<'a> {
    /// Now.
    pub(super) now: Instant,
    /// How hyper is made.
    pub(super) builder: &'a http1::Builder,
    /// What happens.
    pub(super) facts: &'a mut VecDeque<Fact>,
    /// Names for requests.
    pub(super) exchanges: &'a mut slotmap::SlotMap<ExchangeKey, ConnectionKey>,
}

impl Connection {
    /// A socket that has just been accepted.
    pub(super) fn new(
        fd: OwnedFd,
        peer: Option<SocketAddr>,
        settings: Rc<Settings>,
        scratch: Scratch,
        signal: Arc<Signal>,
        now: Instant,
    ) -> Connection {
        let fd = Rc::new(fd);
        let shared = Shared {
            socket: Socket::new(Rc::clone(&fd), scratch),
            strict: Strict::default(),
            settings,
            peer,
            exchange: None,
            asked: None,
            over: Vec::new(),
            refusal: None,
        };
        Connection {
            fd,
            shared: Rc::new(RefCell::new(shared)),
            driver: None,
            waker: Waker::from(Arc::clone(&signal)),
            signal,
            state: State::Idle,
            since: now,
            is_leaving: false,
            armed: None,
        }
    }

    /// The pool whose visitors come here.
    pub(super) fn pool(&self) -> crate::keys::PoolId {
        self.shared.borrow().settings.pool
    }

    /// The socket.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The kernel has told something; whether anybody waited for it.
    pub(super) fn ready(&mut self, readable: bool, writable: bool, ended: bool) -> bool {
        let socket = &mut self.shared.borrow_mut().socket;
        socket.is_readable |= readable;
        socket.is_ending |= ended;
        socket.is_writable |= writable;
        readable || socket.is_blocked
    }

    /// Works on this connection's request, if `key` is its.
    pub(super) fn with_exchange<T>(&self, key: ExchangeKey, work: impl FnOnce(&mut Exchange) -> T) -> Option<T> {
        let mut shared = self.shared.borrow_mut();
        shared.exchange.as_mut().filter(|exchange| exchange.key == Some(key)).map(work)
    }

    /// Bytes of that answer that the socket has not taken.
    pub(super) fn backlog(&self, key: ExchangeKey) -> usize {
        let shared = self.shared.borrow();
        let exchange = shared.exchange.as_ref().filter(|exchange| exchange.key == Some(key));
        exchange.map_or(0, |exchange| exchange.queue.len() + shared.socket.unwritten)
    }

    /// Whether it does without hyper.
    #[cfg(test)]
    pub(super) fn is_parked(&self) -> bool {
        self.driver.is_none()
    }

    /// Asks to be run.
    pub(super) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    /// Closes as soon as nothing is in hand.
    pub(super) fn leave(&mut self) {
        self.is_leaving = true;
        // Nothing of it is unread, so that its end is no reset, and it need not be waited for.
        let is_silent = self.state == State::Idle && !self.shared.borrow().socket.is_readable;
        match &mut self.driver {
            _ if is_silent => self.state = State::Over,
            Some(driver) => driver.as_mut().graceful_shutdown(),
            None if self.state == State::Idle => self.state = State::Over,
            None => {}
        }
        self.wake();
    }

    /// Does what can be done now. `false`: it is over, and nothing of it is left to tell.
    pub(super) fn run(&mut self, around: &mut Around<'_>) -> bool {
        for _ in 0..ROUNDS {
            self.signal.clear();
            self.step(around);
            if self.state == State::Over || !self.signal.is_set() {
                break;
            }
        }
        self.state != State::Over
    }

    /// When it must be looked at.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(match self.state {
            State::Idle if self.driver.is_some() => self.since + PARK,
            State::Idle => self.since + IDLE,
            State::Head => self.since + HEAD,
            State::Upload => self.since + UPLOAD,
            State::Stalled => self.since + STALL,
            State::Lingering(_) => self.since + LINGER,
            State::Waiting | State::Over => return None,
        })
    }

    /// Its time is over, if it is. `false`: so is the connection.
    pub(super) fn overdue(&mut self, around: &mut Around<'_>) -> bool {
        if self.due().is_none_or(|due| due > around.now) {
            return true;
        }
        if self.state == State::Idle && self.driver.is_some() {
            self.driver = None;
            return true;
        }
        if self.state == State::Upload && self.fail_upload(around, Reason::BodyTimeout) {
            return self.run(around);
        }
        self.close(around);
        false
    }

    /// Ends it here; the core is told of a request that it still has.
    pub(super) fn close(&mut self, around: &mut Around<'_>) {
        // Before hyper is dropped, and with it the answer's body: that would look as if it had all been sent.
        let is_sent = self.shared.borrow().exchange.as_ref().is_some_and(|exchange| exchange.is_sent);
        self.driver = None;
        let mut shared = self.shared.borrow_mut();
        shared.asked = None;
        for key in std::mem::take(&mut shared.over) {
            around.exchanges.remove(key);
        }
        if let Some(exchange) = shared.exchange.take()
            && let Some(key) = exchange.key
        {
            around.exchanges.remove(key);
            if exchange.is_known && !is_sent {
                around.facts.push_back(Fact::Gone { exchange: key });
            }
        }
        drop(shared);
        self.state = State::Over;
    }

    fn step(&mut self, around: &mut Around<'_>) {
        if let State::Lingering(drained) = self.state {
            return self.drain(drained);
        }
        if self.state == State::Over {
            return self.close(around);
        }
        if self.driver.is_none() {
            if !self.shared.borrow().socket.is_readable {
                return;
            }
            let made = around.builder.serve_connection(Wire(self.shared.clone()), Entrance(self.shared.clone()));
            self.driver = Some(Box::pin(made));
        }
        let polled = match &mut self.driver {
            Some(driver) => driver.as_mut().poll(&mut Context::from_waker(&self.waker)),
            None => Poll::Pending,
        };
        let began = self.introduce(around);
        match polled {
            Poll::Ready(result) => self.finish(around, result.is_ok()),
            Poll::Pending => {
                if self.is_leaving
                    && began
                    && let Some(driver) = &mut self.driver
                {
                    driver.as_mut().graceful_shutdown();
                }
                self.pump(around);
                self.settle(around, began);
            }
        }
    }

    /// Tells the core of a new request; whether there is one.
    fn introduce(&mut self, around: &mut Around<'_>) -> bool {
        let key = self.signal.key;
        let mut shared = self.shared.borrow_mut();
        let shared = &mut *shared;
        for key in shared.over.drain(..) {
            around.exchanges.remove(key);
        }
        let (Some(asked), Some(exchange)) = (shared.asked.take(), &mut shared.exchange) else { return false };
        let Asked { params, body, id } = asked;
        let key = around.exchanges.insert(key);
        exchange.key = Some(key);
        let pool = shared.settings.pool;
        around.facts.push_back(Fact::Request { exchange: key, pool, params, body, id });
        true
    }

    /// Reads the body as far as there is room for it. It is no part of the answer's future: an answer that its visitor
    /// does not read must not stop the upload that the visitor waits for.
    fn pump(&mut self, around: &mut Around<'_>) {
        loop {
            let mut shared = self.shared.borrow_mut();
            let Some(exchange) = &mut shared.exchange else { return };
            let (Some(key), Some(upload)) = (exchange.key.filter(|_| exchange.is_known), &mut exchange.upload) else {
                return;
            };
            if exchange.room == 0 {
                return;
            }
            let polled = Pin::new(upload).poll_frame(&mut Context::from_waker(&self.waker));
            match polled {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are nobody's business.
                    if let Ok(bytes) = frame.into_data()
                        && !bytes.is_empty()
                    {
                        exchange.room = exchange.room.saturating_sub(bytes.len());
                        around.facts.push_back(Fact::Body { exchange: key, bytes });
                    }
                }
                Poll::Ready(None) => {
                    exchange.upload = None;
                    around.facts.push_back(Fact::BodyEnd { exchange: key });
                    return;
                }
                Poll::Ready(Some(Err(_))) => {
                    drop(shared);
                    self.fail_upload(around, Reason::BadRequest);
                    return;
                }
            }
        }
    }

    /// The body broke off or makes no sense: that is the end of the request for the core, and the visitor is told if it
    /// can be. Whether it can.
    fn fail_upload(&mut self, around: &mut Around<'_>, reason: Reason) -> bool {
        let mut shared = self.shared.borrow_mut();
        let Some(exchange) = &mut shared.exchange else { return false };
        if let Some(key) = exchange.key.filter(|_| exchange.is_known) {
            around.facts.push_back(Fact::Gone { exchange: key });
        }
        exchange.is_known = false;
        let can_be_told = exchange.is_undecided();
        if can_be_told {
            answer::refuse(exchange, reason);
        } else {
            exchange.course = Course::Cut;
            exchange.upload = None;
        }
        self.waker.wake_by_ref();
        can_be_told
    }

    /// After work: what is over is forgotten, what is waited for is known.
    fn settle(&mut self, around: &mut Around<'_>, began: bool) {
        let mut shared = self.shared.borrow_mut();
        let shared = &mut *shared;
        let moved_out = std::mem::take(&mut shared.socket.has_written);
        let unwritten = shared.socket.unwritten;
        if let Some(exchange) = &mut shared.exchange {
            if exchange.is_sent && shared.socket.is_clean {
                if let Some(key) = exchange.key {
                    around.exchanges.remove(key);
                }
                // A body that is left is read by nobody: hyper closes then.
                shared.exchange = None;
            } else if exchange.is_high && exchange.queue.len() + unwritten <= BACKLOG_LOW {
                exchange.is_high = false;
                if let Some(key) = exchange.key.filter(|_| exchange.is_known) {
                    around.facts.push_back(Fact::Taken { exchange: key });
                }
            }
        }
        let state = match &shared.exchange {
            _ if shared.socket.is_blocked => State::Stalled,
            Some(exchange) if exchange.is_known && exchange.upload.is_some() && exchange.room > 0 => State::Upload,
            Some(_) => State::Waiting,
            None if shared.strict.is_between() => State::Idle,
            None => State::Head,
        };
        let progress = match state {
            State::Stalled => moved_out,
            State::Upload => shared.socket.taken >= UPLOAD_MIN,
            _ => began,
        };
        if state != self.state || progress {
            self.state = state;
            self.since = around.now;
            shared.socket.taken = 0;
        }
    }

    /// hyper is done with it.
    fn finish(&mut self, around: &mut Around<'_>, is_well: bool) {
        let mut shared = self.shared.borrow_mut();
        let refusal = shared.refusal.take();
        let cut = shared.exchange.as_ref().filter(|exchange| exchange.course == Course::CutAsked);
        // The end of the connection is the end of such an answer: only a reset says that it is not complete.
        let needs_reset = cut.is_some_and(|exchange| exchange.is_old && exchange.promised.is_none());
        let is_answered = is_well || refusal.is_some() || cut.is_some();
        drop(shared);
        self.close(around);
        if needs_reset {
            let _ = sockopt::set_socket_linger(&*self.fd, Some(Duration::ZERO));
            return;
        }
        if !is_answered {
            return;
        }
        if let Some(page) = refusal {
            let _ = rustix::net::send(&*self.fd, &whole(&page), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
        let _ = shutdown(&*self.fd, Shutdown::Write);
        self.since = around.now;
        self.drain(0);
    }

    /// Reads away what still comes.
    fn drain(&mut self, mut drained: usize) {
        let mut shared = self.shared.borrow_mut();
        self.state = loop {
            match shared.socket.read(READ_MAX, |_| {}) {
                Some(Ok(taken)) if taken > 0 && drained < LINGER_MAX => drained += taken,
                Some(_) => break State::Over,
                None => break State::Lingering(drained),
            }
        };
    }
}

/// A page as bytes, for a client that hyper does not speak to any more.
fn whole(page: &place::Page) -> Vec<u8> {
    let reason = http::StatusCode::from_u16(page.status).ok().and_then(|status| status.canonical_reason());
    let mut text = format!("HTTP/1.1 {} {}\r\n", page.status, reason.unwrap_or("Error"));
    for (name, value) in &page.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("Connection: close\r\n\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(&page.body);
    bytes
}
