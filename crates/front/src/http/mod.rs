//! HTTP clients: hyper reads and frames HTTP/1.1, a small executor of our own drives it, and what it has read comes out
//! as facts for the core.
//!
//! A connection is one task: hyper's future, and for each request with a body a pump that reads it. Tasks are polled
//! when epoll says that their socket is ready, or when somebody woke them. The core never holds a future, and no future
//! holds the core: they meet in [`exchange::Exchanges`].

mod door;
mod exchange;
mod io;
mod params;
mod sleep;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use hyper::server::conn::http1::{Builder, Connection};
use slotmap::{SlotMap, new_key_type};

use crate::cgi;
use crate::keys::PoolId;
use crate::place;
use door::{Door, Pump};
use exchange::Exchanges;
use io::Io;
use sleep::Timers;

pub(crate) use exchange::{Fact, Length};

new_key_type! {
    /// An HTTP connection.
    pub(crate) struct ConnectionKey;
    /// One request of an HTTP connection, as the core knows it.
    pub(crate) struct ExchangeKey;
}

/// A request's head must be complete so long after the connection began to wait for it.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// A head is no longer, and no more than this of an answer waits beside what the core keeps.
const BUFFER_MAX: usize = 64 * 1024;
/// A request has no more headers.
const HEADERS_MAX: usize = 100;
/// Polls in one go; what is woken beyond that waits for the next turn.
const POLLS_MAX: usize = 4096;

/// What the connections of one listener have in common.
#[derive(Debug)]
pub(crate) struct Settings {
    pool: PoolId,
    /// The pool's own parameters, which replace those of the same name.
    own: BTreeMap<String, String>,
}

impl Settings {
    /// Of a pool.
    pub(crate) fn new(pool: PoolId, own: &BTreeMap<String, String>) -> Settings {
        Settings { pool, own: own.clone() }
    }
}

/// A connection and everything that runs for it.
struct Task {
    pool: PoolId,
    fd: Rc<OwnedFd>,
    io: io::Readiness,
    connection: Pin<Box<Connection<Io, Door>>>,
    pumps: Vec<Pump>,
    waker: Waker,
}

/// Who was woken.
#[derive(Debug, Default)]
struct Woken(Mutex<Vec<ConnectionKey>>);

impl Woken {
    fn push(&self, key: ConnectionKey) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }

    fn take(&self) -> Vec<ConnectionKey> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

struct Waking {
    key: ConnectionKey,
    woken: Arc<Woken>,
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.woken.push(self.key);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.push(self.key);
    }
}

/// All HTTP connections.
pub(crate) struct Http {
    tasks: SlotMap<ConnectionKey, Option<Task>>,
    exchanges: Exchanges,
    woken: Arc<Woken>,
    timers: Timers,
    builder: Builder,
    is_shut: bool,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Http").field("connections", &self.tasks.len()).finish_non_exhaustive()
    }
}

impl Http {
    /// None yet.
    pub(crate) fn new(now: Instant) -> Http {
        let timers = Timers::new(now);
        let mut builder = Builder::new();
        builder
            .timer(timers.clone())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(BUFFER_MAX)
            .max_headers(HEADERS_MAX)
            .half_close(false);
        Http {
            tasks: SlotMap::with_key(),
            exchanges: Exchanges::default(),
            woken: Arc::default(),
            timers,
            builder,
            is_shut: false,
        }
    }

    /// Takes an accepted, non-blocking socket. The caller tells when it is ready.
    pub(crate) fn accept(
        &mut self,
        fd: OwnedFd,
        peer: Option<SocketAddr>,
        settings: Rc<Settings>,
        now: Instant,
    ) -> ConnectionKey {
        self.timers.set_now(now);
        let local = rustix::net::getsockname(&fd).ok().and_then(|at| SocketAddr::try_from(at).ok());
        let fd = Rc::new(fd);
        let key = self.tasks.insert(None);
        let (io, readiness) = io::new(Rc::clone(&fd), self.timers.clone());
        let pool = settings.pool;
        let door = Door::new(self.exchanges.clone(), settings, peer, local);
        let mut connection = Box::pin(self.builder.serve_connection(io, door));
        if self.is_shut {
            connection.as_mut().graceful_shutdown();
        }
        let waker = Waker::from(Arc::new(Waking { key, woken: Arc::clone(&self.woken) }));
        if let Some(task) = self.tasks.get_mut(key) {
            *task = Some(Task { pool, fd, io: readiness, connection, pumps: Vec::new(), waker });
        }
        self.woken.push(key);
        key
    }

    /// For the poller.
    pub(crate) fn fd(&self, key: ConnectionKey) -> Option<BorrowedFd<'_>> {
        self.tasks.get(key)?.as_ref().map(|task| task.fd.as_fd())
    }

    /// The kernel has told that there is something to read, or room to write.
    pub(crate) fn ready(&mut self, key: ConnectionKey, readable: bool, writable: bool) {
        if let Some(Some(task)) = self.tasks.get(key) {
            task.io.told(readable, writable);
            self.woken.push(key);
        }
    }

    /// Polls everybody who was woken, until nobody is.
    pub(crate) fn run(&mut self, now: Instant) {
        self.timers.set_now(now);
        let mut polls = 0;
        while polls < POLLS_MAX {
            let keys = self.woken.take();
            if keys.is_empty() {
                return;
            }
            for key in keys {
                polls += 1;
                self.poll(key);
            }
        }
    }

    /// Somebody is to be polled at once.
    pub(crate) fn is_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    fn poll(&mut self, key: ConnectionKey) {
        let Some(mut task) = self.tasks.get_mut(key).and_then(Option::take) else { return };
        let over = catch_unwind(AssertUnwindSafe(|| {
            let waker = task.waker.clone();
            let mut context = Context::from_waker(&waker);
            let is_over = task.connection.as_mut().poll(&mut context).is_ready();
            task.pumps.extend(self.exchanges.new_pumps());
            task.pumps.retain_mut(|pump| pump.as_mut().poll(&mut context) == Poll::Pending);
            is_over
        }));
        if let Ok(false) = over {
            if let Some(place) = self.tasks.get_mut(key) {
                *place = Some(task);
            }
            return;
        }
        // Dropping it tells of every exchange that was not over. A panic has cost this connection, and nobody else.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(task)));
        self.tasks.remove(key);
    }

    /// What has come, in its order.
    pub(crate) fn next_fact(&mut self) -> Option<Fact> {
        self.exchanges.next_fact()
    }

    /// When somebody's patience ends.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Wakes those whose time has come.
    pub(crate) fn meet_deadlines(&mut self, now: Instant) {
        self.timers.set_now(now);
        self.timers.wake();
    }

    /// Nobody is kept after the answer in hand: of a pool, or of all.
    pub(crate) fn shut(&mut self, pool: Option<PoolId>) {
        self.is_shut |= pool.is_none();
        for (key, task) in &mut self.tasks {
            if let Some(task) = task.as_mut().filter(|task| pool.is_none_or(|pool| task.pool == pool)) {
                task.connection.as_mut().graceful_shutdown();
                self.woken.push(key);
            }
        }
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// How many of them are a pool's.
    pub(crate) fn len_of(&self, pool: PoolId) -> usize {
        self.tasks.values().flatten().filter(|task| task.pool == pool).count()
    }

    /// The head of an exchange's answer; `id` is the request's.
    pub(crate) fn head(&mut self, exchange: ExchangeKey, head: cgi::Head, id: &str) {
        self.exchanges.head(exchange, head, id);
    }

    /// More of the body. What is more than the worker has promised cuts the answer.
    pub(crate) fn push(&mut self, exchange: ExchangeKey, bytes: &[u8]) {
        self.exchanges.push(exchange, bytes);
    }

    /// The answer is complete.
    pub(crate) fn end(&mut self, exchange: ExchangeKey) {
        self.exchanges.end(exchange);
    }

    /// The answer has broken off: its connection ends without a proper end of it.
    pub(crate) fn cut(&mut self, exchange: ExchangeKey) {
        self.exchanges.cut(exchange);
    }

    /// An answer in a worker's place; no head was told before.
    pub(crate) fn place(&mut self, exchange: ExchangeKey, answer: &place::Answer<'_>) {
        self.exchanges.place(exchange, answer);
    }

    /// Bytes of the body that the connection has not taken.
    pub(crate) fn buffered(&self, exchange: ExchangeKey) -> usize {
        self.exchanges.buffered(exchange)
    }

    /// How much of the request's body may come.
    pub(crate) fn set_room(&mut self, exchange: ExchangeKey, bytes: usize) {
        self.exchanges.set_room(exchange, bytes);
    }
}
