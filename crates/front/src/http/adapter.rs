//! All HTTP connections: the way in and out of the adapter.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hyper::server::conn::http1;
use slotmap::SlotMap;

use super::answer;
use super::connection::{Around, Connection};
use super::exchange::{BadBody, Course, Exchange};
use super::fact::{ConnectionKey, ExchangeKey, Fact};
use super::settings::Settings;
use super::shared::Scratch;
use super::signal::{Signal, Woken};
use crate::cgi;
use crate::keys::PoolId;
use crate::limits::BACKLOG_LOW;
use crate::place::{self, Reason};

/// A head is no longer, and hyper buffers no more of a body.
const HEAD_MAX: usize = 64 * 1024;
/// Passes over those who woke each other, before the core has its turn.
const PASSES: usize = 4;

/// All HTTP connections.
pub(crate) struct Http {
    connections: SlotMap<ConnectionKey, Connection>,
    exchanges: SlotMap<ExchangeKey, ConnectionKey>,
    pools: BTreeMap<PoolId, usize>,
    woken: Arc<Woken>,
    facts: VecDeque<Fact>,
    /// When to look at whom. A connection that is due later than it stands here is looked at, and put back.
    dues: BinaryHeap<Reverse<(Instant, ConnectionKey)>>,
    builder: http1::Builder,
    scratch: Scratch,
    list: Vec<ConnectionKey>,
    is_leaving: bool,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("connections", &self.connections.len()).finish_non_exhaustive()
    }
}

impl Http {
    /// None yet.
    pub(crate) fn new() -> Http {
        let mut builder = http1::Builder::new();
        // Time is ours: hyper's timers must be `Send`, and would not stand still with the clock.
        builder.header_read_timeout(None).max_buf_size(HEAD_MAX).max_header_size(HEAD_MAX);
        Http {
            connections: SlotMap::with_key(),
            exchanges: SlotMap::with_key(),
            pools: BTreeMap::new(),
            woken: Arc::default(),
            facts: VecDeque::new(),
            dues: BinaryHeap::new(),
            builder,
            scratch: Rc::new(RefCell::new(Vec::new())),
            list: Vec::new(),
            is_leaving: false,
        }
    }

    /// Takes an accepted, non-blocking socket. `peer` is `None` on unix sockets.
    pub(crate) fn accept(
        &mut self,
        fd: OwnedFd,
        peer: Option<SocketAddr>,
        settings: Rc<Settings>,
        now: Instant,
    ) -> ConnectionKey {
        *self.pools.entry(settings.pool).or_default() += 1;
        let (woken, scratch) = (Arc::clone(&self.woken), self.scratch.clone());
        let key = self.connections.insert_with_key(|key| {
            Connection::new(fd, peer, settings, scratch, Arc::new(Signal::new(key, woken)), now)
        });
        if let Some(connection) = self.connections.get_mut(key) {
            connection.wake();
            if self.is_leaving {
                connection.leave();
            }
        }
        key
    }

    /// The socket of a connection: it is to be heard edge-triggered, for reading and writing, once.
    pub(crate) fn fd(&self, key: ConnectionKey) -> Option<BorrowedFd<'_>> {
        self.connections.get(key).map(Connection::fd)
    }

    /// The kernel has told that a connection can be read or written. `ended`: its peer says nothing after what is there.
    pub(crate) fn ready(&mut self, key: ConnectionKey, readable: bool, writable: bool, ended: bool) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.ready(readable, writable, ended)
        {
            connection.wake();
        }
    }

    /// Lets connections run that were woken. What happens is said by [`Http::next_fact`].
    pub(crate) fn run(&mut self, now: Instant) {
        for _ in 0..PASSES {
            let mut list = std::mem::take(&mut self.list);
            self.woken.swap(&mut list);
            if list.is_empty() {
                return;
            }
            for key in list.drain(..) {
                self.work(key, now, Connection::run);
            }
            self.list = list;
        }
    }

    /// What has happened, the first first.
    pub(crate) fn next_fact(&mut self) -> Option<Fact> {
        self.facts.pop_front()
    }

    /// When something is due next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.dues.peek().map(|Reverse((at, _))| *at)
    }

    /// Whether somebody wants to be run at once.
    pub(crate) fn is_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Meets what is due.
    pub(crate) fn meet_deadlines(&mut self, now: Instant) {
        while let Some(Reverse((at, key))) = self.dues.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.dues.pop();
            match self.connections.get_mut(key) {
                Some(connection) if connection.armed == Some(at) => connection.armed = None,
                _ => continue,
            }
            self.work(key, now, Connection::overdue);
        }
    }

    /// Lets connections go, of a pool or all: idle ones at once, others after the answer that is in hand.
    pub(crate) fn shut(&mut self, pool: Option<PoolId>) {
        self.is_leaving |= pool.is_none();
        for connection in self.connections.values_mut() {
            if pool.is_none_or(|pool| connection.pool() == pool) {
                connection.leave();
            }
        }
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// How many of them do without hyper.
    #[cfg(test)]
    pub(super) fn parked(&self) -> usize {
        self.connections.values().filter(|connection| connection.is_parked()).count()
    }

    /// How many of them are a pool's.
    pub(crate) fn len_of(&self, pool: PoolId) -> usize {
        self.pools.get(&pool).copied().unwrap_or(0)
    }

    /// The head of a worker's answer. `id` is the request's.
    pub(crate) fn head(&mut self, exchange: ExchangeKey, head: cgi::Head, id: &str) {
        self.speak(exchange, |exchange| answer::with_head(exchange, head, id));
    }

    /// More of its body.
    ///
    /// # Errors
    /// When it is longer than its `Content-Length`. The answer has been cut, or replaced by 502 if nothing of it had
    /// gone, and the exchange is over.
    pub(crate) fn push(&mut self, exchange: ExchangeKey, bytes: &[u8]) -> Result<(), BadBody> {
        let pushed = self.speak(exchange, |exchange| {
            let pushed = exchange.push(bytes);
            if pushed.is_err() {
                spoil(exchange);
            }
            pushed
        });
        if let Some(connection) = self.exchanges.get(exchange).and_then(|key| self.connections.get(*key)) {
            let is_high = connection.backlog(exchange) > BACKLOG_LOW;
            connection.with_exchange(exchange, |exchange| exchange.is_high |= is_high);
        }
        pushed.unwrap_or(Ok(()))
    }

    /// The answer is complete, and the exchange is over.
    ///
    /// # Errors
    /// When its body is shorter than its `Content-Length`: then as [`Http::push`].
    pub(crate) fn end(&mut self, exchange: ExchangeKey) -> Result<(), BadBody> {
        let ended = self.speak(exchange, |exchange| {
            let ended = exchange.end();
            if ended.is_err() {
                spoil(exchange);
            }
            over(exchange);
            ended
        });
        ended.unwrap_or(Ok(()))
    }

    /// The answer has broken off, and the exchange is over: its visitor must not take it for complete. If nothing of it
    /// has gone, they get 502.
    pub(crate) fn cut(&mut self, exchange: ExchangeKey) {
        self.speak(exchange, spoil);
    }

    /// A whole answer in a worker's place, if nothing has gone of another; the exchange is over.
    pub(crate) fn place(&mut self, exchange: ExchangeKey, page: &place::Page) {
        self.speak(exchange, |exchange| {
            answer::with_page(exchange, page);
            over(exchange);
        });
    }

    /// Bytes of the answer's body that the visitor's socket has not taken.
    pub(crate) fn buffered(&self, exchange: ExchangeKey) -> usize {
        let connection = self.exchanges.get(exchange).and_then(|key| self.connections.get(*key));
        connection.map_or(0, |connection| connection.backlog(exchange))
    }

    /// So many bytes of the body may come, and perhaps a piece more. Before it is called none is read, and nobody who
    /// waits for `100 Continue` is told to go on.
    pub(crate) fn set_room(&mut self, exchange: ExchangeKey, bytes: usize) {
        self.speak(exchange, |exchange| exchange.room = bytes);
    }

    fn speak<T>(&mut self, exchange: ExchangeKey, work: impl FnOnce(&mut Exchange) -> T) -> Option<T> {
        let connection = self.connections.get(*self.exchanges.get(exchange)?)?;
        let worked = connection.with_exchange(exchange, work);
        connection.wake();
        worked
    }

    /// Works on a connection. A panic costs that connection, and nobody else.
    fn work(&mut self, key: ConnectionKey, now: Instant, work: impl FnOnce(&mut Connection, &mut Around<'_>) -> bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut around = Around { now, builder: &self.builder, facts: &mut self.facts, exchanges: &mut self.exchanges };
        let stays = catch_unwind(AssertUnwindSafe(|| work(connection, &mut around))).unwrap_or_else(|panic| {
            let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            around.facts.push_back(Fact::Bug { message });
            let _ = catch_unwind(AssertUnwindSafe(|| connection.close(&mut around)));
            false
        });
        if !stays {
            let pool = connection.pool();
            self.connections.remove(key);
            if let Some(count) = self.pools.get_mut(&pool) {
                *count -= 1;
            }
            self.pools.retain(|_, count| *count > 0);
            return;
        }
        if let Some(due) = connection.due()
            && connection.armed.is_none_or(|armed| due < armed)
        {
            connection.armed = Some(due);
            self.dues.push(Reverse((due, key)));
        }
    }
}

/// The core is done with it.
fn over(exchange: &mut Exchange) {
    exchange.is_known = false;
    exchange.upload = None;
}

/// What the worker answered must not be taken for an answer.
fn spoil(exchange: &mut Exchange) {
    if exchange.is_undecided() {
        let id = exchange.id.clone();
        answer::with_page(exchange, &place::with_id(Reason::BadAnswer, &id));
    } else {
        exchange.course = Course::Cut;
    }
    over(exchange);
}
