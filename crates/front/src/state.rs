//! Everything that the front knows and owns; each room works on it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use slotmap::SlotMap;
use steadfast_proto::fcgi::request::RequestDecoder;
use steadfast_proto::fcgi::response::ResponseDecoder;
use steadfast_proto::front::{self, Blamed, Counters};

use crate::channel::Channel;
use crate::clock::Clock;
use crate::http::{self, ExchangeKey, Http};
use crate::keys::{ClientKey, LaneKey, PoolId, RequestKey, WorkerKey};
use crate::place::FallbackBody;
use crate::poller::Poller;
use crate::request::Request;
use crate::secret::Secret;

/// One read takes at most so much.
pub(crate) const READ_MAX: usize = 128 * 1024;
/// So many buffers are kept for the next request.
const SPARE_MAX: usize = 128;
/// A buffer larger than this is not kept.
const SPARE_BYTES_MAX: usize = 8 * 1024;

/// A web server's connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// The socket.
    pub(crate) fd: OwnedFd,
    /// Its pool.
    pub(crate) pool: PoolId,
    /// What it says.
    pub(crate) decoder: RequestDecoder,
    /// Its requests that are not over: its number and ours.
    pub(crate) streams: Vec<(u16, RequestKey)>,
    /// It waits to be written to.
    pub(crate) is_unwritten: bool,
    /// It ends then, whatever else it has: an answer broke off.
    pub(crate) ends_by: Option<Instant>,
    /// What could not be written, from `out_at`.
    pub(crate) out: Vec<u8>,
    /// How much of `out` has gone.
    pub(crate) out_at: usize,
    /// The kernel has told that there is something to read, and it has not all been read.
    pub(crate) is_readable: bool,
    /// It is told when it can be written.
    pub(crate) is_write_heard: bool,
    /// It wants to be closed after its request.
    pub(crate) is_last: bool,
    /// An answer broke off: it ends without another byte as soon as its other requests are over.
    pub(crate) is_broken: bool,
    /// What it says is no longer heard, only read away until it closes.
    pub(crate) is_lingering: bool,
    /// It has sent something.
    pub(crate) has_spoken: bool,
    /// The kernel has told of its end.
    pub(crate) has_ended: bool,
    /// When something came from it last; before that, when it connected.
    pub(crate) heard: Instant,
    /// When it took something last, or was first left with something to take.
    pub(crate) taken: Instant,
    /// It is closed then, unless it moves.
    pub(crate) due: Option<Instant>,
}

/// A connection to a worker.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Whose.
    pub(crate) worker: WorkerKey,
    /// The socket; `None` until it is needed.
    pub(crate) fd: Option<OwnedFd>,
    /// What the worker says.
    pub(crate) decoder: ResponseDecoder,
    /// Requests that went over this connection.
    pub(crate) used: u64,
    /// What it has in hand.
    pub(crate) request: Option<RequestKey>,
    /// The kernel has told that there is something to read, and it has not all been read.
    pub(crate) is_readable: bool,
    /// It is told when it can be written.
    pub(crate) is_write_heard: bool,
    /// The kernel has told of its end.
    pub(crate) has_ended: bool,
    /// It is not read since then, because the visitor has enough to take.
    pub(crate) paused: Option<Instant>,
    /// The kernel was asked to tell who writes what comes next.
    pub(crate) asks_who: bool,
}

/// How a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is known, and serves nobody yet.
    Offered,
    /// It is given requests.
    Admitted,
    /// It is given nothing more.
    Withdrawn,
}

/// Where a worker waits for requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: it is given nothing.
    Nowhere,
    /// Among those with nothing in hand.
    Idle,
    /// Among those that take more.
    Shared,
}

/// What a sample said of need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Somebody is idle.
    None,
    /// Nobody is idle.
    Near,
    /// Somebody waits.
    Now,
}

/// Notes about requests, so many a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoteRate {
    /// The second that is counted.
    pub(crate) since: Instant,
    /// Told in it.
    pub(crate) told: u32,
    /// Kept back since the last that was told.
    pub(crate) kept: u64,
}

/// A worker.
#[derive(Debug)]
pub(crate) struct Worker {
    /// The supervisor's number.
    pub(crate) id: u64,
    /// Its pool.
    pub(crate) pool: PoolId,
    /// Its private socket.
    pub(crate) path: Box<str>,
    /// The process that must have made it, where somebody else might.
    pub(crate) pid: Option<u32>,
    /// Its connections, one for each request that it takes at a time.
    pub(crate) lanes: Vec<LaneKey>,
    /// How it is.
    pub(crate) standing: Standing,
    /// Requests that it has.
    pub(crate) busy: u32,
    /// Requests that it has served.
    pub(crate) served: u64,
    /// Of those, so many have been told one by one.
    pub(crate) told: u64,
    /// It is recycled after so many.
    pub(crate) max_requests: Option<u64>,
    /// It has been told of as spent, overdue or cancelled.
    pub(crate) is_spent: bool,
    /// Since when it has had nothing in hand.
    pub(crate) idle_since: Instant,
    /// It closes its connection after each request, whatever it is asked.
    pub(crate) closes: bool,
    /// It has closed a connection after the first request; if it lives on, that is its way.
    pub(crate) may_close: bool,
    /// It broke a connection, or we did in the middle of a request, and it has served nobody since: others come first.
    pub(crate) is_doubtful: bool,
    /// How often it has been left alone since it served somebody.
    pub(crate) rests: u32,
    /// Its first connection stands.
    pub(crate) is_connected: bool,
    /// Who answers in its name is known.
    pub(crate) is_heard: bool,
    /// In which stack it is.
    pub(crate) place: Place,
    /// It is left alone until then: it broke a connection, and may be dying.
    pub(crate) rests_until: Option<Instant>,
    /// What it had in hand when it broke its connection.
    pub(crate) blame: Option<Blamed>,
    /// It had several requests in hand when it broke a connection.
    pub(crate) had_many: bool,
    /// `worker-free` is owed.
    pub(crate) owes_free: bool,
    /// What a status page tells of its process.
    pub(crate) life: front::Life,
    /// Its last request's parameters, where the pool has a status page, and how long that took.
    pub(crate) last: Option<(Vec<u8>, Duration)>,
}

/// One of a pool's sockets.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The socket, shared with the supervisor.
    pub(crate) fd: OwnedFd,
    /// Our number for it.
    pub(crate) number: u32,
    /// What is spoken there.
    pub(crate) protocol: front::Protocol,
    /// For messages.
    pub(crate) address: Box<str>,
    /// For HTTP.
    pub(crate) settings: Option<Rc<http::Settings>>,
}

/// A request that is kept from workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quarantine {
    /// Until then; `None`: it is only watched.
    pub(crate) until: Option<Instant>,
    /// The one trial is under way.
    pub(crate) on_trial: bool,
}

/// A pool.
#[derive(Debug)]
pub(crate) struct Pool {
    /// As the supervisor means it.
    pub(crate) config: front::Pool,
    /// Its sockets, by the supervisor's number.
    pub(crate) listeners: BTreeMap<u64, Listener>,
    /// What visitors get when nothing serves.
    pub(crate) fallback: FallbackBody,
    /// They get it now.
    pub(crate) is_down: bool,
    /// It leaves the configuration.
    pub(crate) is_leaving: bool,
    /// Requests that wait, the first first; some of them may be gone.
    pub(crate) queue: VecDeque<RequestKey>,
    /// How many of them are not.
    pub(crate) waiting: u32,
    /// Workers with nothing in hand; the last is the one that was idle last.
    pub(crate) idle: Vec<WorkerKey>,
    /// Workers with something in hand that take more.
    pub(crate) shared: Vec<WorkerKey>,
    /// Admitted workers with something in hand.
    pub(crate) busy: u32,
    /// Watched and quarantined requests.
    pub(crate) suspects: HashMap<u64, Quarantine>,
    /// What was counted since the last report.
    pub(crate) counters: Counters,
    /// Something was counted.
    pub(crate) is_counted: bool,
    /// When it was told last.
    pub(crate) counted_at: Option<Instant>,
    /// The load has changed since it was told last.
    pub(crate) is_loaded: bool,
    /// When it was told last, and whether somebody waited or nobody was idle then.
    pub(crate) loaded_at: Option<Instant>,
    /// What the last sample said.
    pub(crate) told_need: Need,
    /// Notes about its requests.
    pub(crate) notes: NoteRate,
    /// Requests served since the last sample.
    pub(crate) served: u64,
    /// The most that waited since the last sample.
    pub(crate) peak: u32,
    /// Open FastCGI connections.
    pub(crate) clients: u32,
    /// What a status page counts, but for the requests that are not over.
    pub(crate) figures: front::Figures,
    /// Somebody waits, and there are as many workers as there may be, all of them busy.
    pub(crate) is_full: bool,
}

impl Pool {
    /// How long a worker may take.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.config.request_timeout_ms)
    }

    /// How long a request may wait.
    pub(crate) fn queue_timeout(&self) -> Duration {
        Duration::from_millis(self.config.queue_timeout_ms)
    }

    /// What is due of a request whose worker's time began at `timed`: to be told of as slow, or to be ended.
    pub(crate) fn due(&self, timed: Instant, is_slow: bool) -> Instant {
        let end = timed + self.request_timeout();
        let slow = self.config.slow_request_ms.filter(|_| !is_slow).map(|ms| timed + Duration::from_millis(ms));
        slow.map_or(end, |slow| slow.min(end))
    }
}

/// What is due at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A request's time.
    Request(RequestKey),
    /// A connection's.
    Client(ClientKey),
    /// A worker's rest.
    Worker(WorkerKey),
}

/// The front's state.
#[derive(Debug)]
pub(crate) struct Front {
    /// What time it is.
    pub(crate) clock: Clock,
    /// When this turn began.
    pub(crate) now: Instant,
    /// Who is heard.
    pub(crate) poller: Poller,
    /// The supervisor.
    pub(crate) channel: Channel,
    /// The pools.
    pub(crate) pools: BTreeMap<PoolId, Pool>,
    /// Whose socket a listener's number is.
    pub(crate) listeners: HashMap<u32, (PoolId, u64)>,
    /// The last number of a listener.
    pub(crate) last_listener: u32,
    /// Web servers' connections.
    pub(crate) clients: SlotMap<ClientKey, Client>,
    /// HTTP connections.
    pub(crate) http: Http,
    /// The requests of HTTP connections.
    pub(crate) exchanges: HashMap<ExchangeKey, RequestKey>,
    /// Connections to workers.
    pub(crate) lanes: SlotMap<LaneKey, Lane>,
    /// The workers.
    pub(crate) workers: SlotMap<WorkerKey, Worker>,
    /// The same by the supervisor's number.
    pub(crate) by_id: HashMap<u64, WorkerKey>,
    /// Requests that are not over.
    pub(crate) requests: SlotMap<RequestKey, Request>,
    /// Deadlines.
    pub(crate) dues: BTreeSet<(Instant, Due)>,
    /// What is read, before anybody looks at it.
    pub(crate) scratch: Vec<u8>,
    /// Buffers of requests that are over, for the next ones.
    pub(crate) spare: Vec<Vec<u8>>,
    /// Connections that have more to read than one turn takes.
    pub(crate) again: Vec<ClientKey>,
    /// The same of workers.
    pub(crate) lanes_again: Vec<LaneKey>,
    /// Clients with something to write.
    pub(crate) unwritten: Vec<ClientKey>,
    /// What makes keys of requests unguessable.
    pub(crate) secret: Secret,
    /// What makes ids of requests unlike those of an earlier front.
    pub(crate) salt: u64,
    /// The last request's number.
    pub(crate) last_request: u64,
    /// So many fds there are for connections.
    pub(crate) fds_max: usize,
    /// Connections are not accepted until then: there is no fd left.
    pub(crate) accept_again: Option<Instant>,
    /// It accepts nothing more, and leaves when nothing is in hand, or then.
    pub(crate) leaves_by: Option<Instant>,
    /// Another front has taken over, and wants the workers.
    pub(crate) gives_back: bool,
    /// Why it leaves without having been told to.
    pub(crate) trouble: Option<String>,
    /// The channel's socket is watched for room.
    pub(crate) is_channel_write_heard: bool,
}

impl Front {
    /// An empty buffer, used before if there is one.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Keeps a buffer for the next request.
    pub(crate) fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= SPARE_BYTES_MAX && self.spare.len() < SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Moves a deadline.
    pub(crate) fn set_due(&mut self, due: Due, before: Option<Instant>, at: Option<Instant>) {
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.dues.remove(&(before, due));
        }
        if let Some(at) = at {
            self.dues.insert((at, due));
        }
    }

    /// Moves a client's deadline.
    pub(crate) fn set_client_due(&mut self, key: ClientKey, at: Option<Instant>) {
        if let Some(client) = self.clients.get_mut(key) {
            let before = std::mem::replace(&mut client.due, at);
            self.set_due(Due::Client(key), before, at);
        }
    }

    /// Moves a request's deadline.
    pub(crate) fn set_request_due(&mut self, key: RequestKey, at: Option<Instant>) {
        if let Some(request) = self.requests.get_mut(key) {
            let before = std::mem::replace(&mut request.due, at);
            self.set_due(Due::Request(key), before, at);
        }
    }

    /// The worker of that number.
    pub(crate) fn worker(&mut self, id: u64) -> Option<(WorkerKey, &mut Worker)> {
        let key = *self.by_id.get(&id)?;
        self.workers.get_mut(key).map(|worker| (key, worker))
    }
}
