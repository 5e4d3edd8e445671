//! One request: what it is made of, how far it is, and who it is for people and for the policy.

use std::hash::BuildHasher;
use std::time::Instant;

use steadfast_proto::fcgi::params::{pairs, push_pair};
use steadfast_proto::front::LINE_MAX;

use crate::cgi::HeadScan;
use crate::http::ExchangeKey;
use crate::keys::{ClientKey, LaneKey, PoolId, WorkerKey};
use crate::secret::Secret;

/// A body up to this is taken whole before a worker is given the request, and kept so that it can be given to another.
pub(crate) const SMALL_BODY: usize = 64 * 1024;

/// Where a request came from, and where its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A web server.
    Fastcgi {
        /// Its connection.
        client: ClientKey,
        /// Its number for the request.
        id: u16,
    },
    /// An HTTP client.
    Http(ExchangeKey),
    /// The verify request of this worker.
    Verify(WorkerKey),
    /// The client has gone; what is still answered is discarded.
    Gone,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is being read.
    Reading,
    /// It waits for a worker.
    Waiting,
    /// A worker has it, by this connection.
    Busy(LaneKey),
}

/// What of a method matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// GET, OPTIONS: may be tried again.
    Idempotent,
    /// HEAD: the same, and its answer has no body.
    Head,
    /// All others run at most once.
    Other,
}

impl Method {
    /// The method of that name.
    pub(crate) fn named(name: &[u8]) -> Method {
        match name {
            b"GET" | b"OPTIONS" => Method::Idempotent,
            b"HEAD" => Method::Head,
            _ => Method::Other,
        }
    }

    /// Whether it may run twice.
    pub(crate) fn is_idempotent(self) -> bool {
        self != Method::Other
    }
}

/// What became of a quarantined or watched request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspicion {
    /// Its key.
    pub(crate) key: u64,
    /// It is the one trial after a quarantine.
    pub(crate) is_trial: bool,
}

/// What a client sends after the head.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// So much was promised.
    pub(crate) expected: Option<u64>,
    /// So much has come.
    pub(crate) seen: u64,
    /// All has come.
    pub(crate) is_complete: bool,
    /// What has come while the request is being read; at most [`SMALL_BODY`] and a little.
    pub(crate) kept: Vec<u8>,
    /// It is larger than [`SMALL_BODY`]: it is passed on as it comes, and cannot be sent twice.
    pub(crate) is_streamed: bool,
    /// Records of a streamed body that the worker's socket has not taken, from `tail_at`.
    pub(crate) tail: Vec<u8>,
    /// How much of `tail` has gone.
    pub(crate) tail_at: usize,
    /// The worker takes no more of it.
    pub(crate) is_refused: bool,
    /// How much of a streamed body has gone in all.
    pub(crate) passed: u64,
}

impl Body {
    /// Bytes that wait for the worker.
    pub(crate) fn pending(&self) -> usize {
        self.kept.len() + self.tail.len() - self.tail_at
    }
}

/// What a worker has answered so far.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Bytes of STDOUT.
    pub(crate) bytes: u64,
    /// The head, until it is complete. Of an answer to a verify request: its body after that.
    pub(crate) head: Vec<u8>,
    /// Of an answer to a verify request.
    pub(crate) status: Option<u16>,
    /// How far `head` has been looked at.
    pub(crate) scan: HeadScan,
    /// The head has been passed on: from here on nothing can be answered in the worker's place.
    pub(crate) is_released: bool,
    /// The end of what it wrote to stderr, for the report of its worker's death.
    pub(crate) stderr: Vec<u8>,
}

/// So much of it is kept.
const STDERR_MAX: usize = 2048;

impl Reply {
    /// Nothing has come.
    fn new() -> Reply {
        let (head, scan) = (Vec::new(), HeadScan::new());
        Reply { bytes: 0, head, status: None, scan, is_released: false, stderr: Vec::new() }
    }

    /// Keeps what was written to stderr, the newest of it.
    pub(crate) fn keep_stderr(&mut self, bytes: &[u8]) {
        self.stderr.extend_from_slice(&bytes[bytes.len().saturating_sub(STDERR_MAX)..]);
        let excess = self.stderr.len().saturating_sub(STDERR_MAX);
        self.stderr.drain(..excess);
    }
}

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its pool.
    pub(crate) pool: PoolId,
    /// Whose it is.
    pub(crate) origin: Origin,
    /// How far it is.
    pub(crate) state: State,
    /// What the FastCGI role is: 1 Responder, 2 Authorizer.
    pub(crate) role: u16,
    /// Its method.
    pub(crate) method: Method,
    /// The parameters; from the moment when it is sealed, as the worker gets them.
    pub(crate) params: Vec<u8>,
    /// Every byte that the worker gets, but for a streamed body: kept until the end, so that it can be sent again.
    pub(crate) wire: Vec<u8>,
    /// Its parameters are complete.
    pub(crate) is_headed: bool,
    /// It has been made into what a worker gets.
    pub(crate) is_sealed: bool,
    /// The client's own id, where the pool trusts it.
    pub(crate) trusted_id: Option<Box<str>>,
    /// The parameters cannot be passed on as they are.
    pub(crate) needs_mending: bool,
    /// How much of `wire` the worker's socket has taken.
    pub(crate) sent: usize,
    /// The body.
    pub(crate) body: Body,
    /// The answer.
    pub(crate) reply: Reply,
    /// It is watched or on trial.
    pub(crate) suspicion: Option<Suspicion>,
    /// Workers that died with it in hand.
    pub(crate) deaths: u8,
    /// Tries that no worker saw a byte of.
    pub(crate) misses: u8,
    /// When its first byte came.
    pub(crate) arrived: Instant,
    /// When it began to wait.
    pub(crate) queued: Instant,
    /// When a worker got it.
    pub(crate) handed: Instant,
    /// When the worker's time began: later than `handed` by all that others were waited for.
    pub(crate) timed: Instant,
    /// What is due next: a slow request, or the end of its time.
    pub(crate) due: Option<Instant>,
    /// It was told of as slow.
    pub(crate) is_slow: bool,
}

impl Request {
    /// A new one, of which nothing is known yet.
    pub(crate) fn new(pool: PoolId, origin: Origin, role: u16, now: Instant) -> Request {
        Request {
            pool,
            origin,
            state: State::Reading,
            role,
            method: Method::Other,
            params: Vec::new(),
            wire: Vec::new(),
            is_headed: false,
            is_sealed: false,
            trusted_id: None,
            needs_mending: false,
            sent: 0,
            body: Body::default(),
            reply: Reply::new(),
            suspicion: None,
            deaths: 0,
            misses: 0,
            arrived: now,
            queued: now,
            handed: now,
            timed: now,
            due: None,
            is_slow: false,
        }
    }

    /// The value of a parameter.
    pub(crate) fn param(&self, name: &[u8]) -> Option<&[u8]> {
        param(&self.params, name)
    }

    /// Method and URI for people: no control characters, no more than [`LINE_MAX`] bytes.
    pub(crate) fn line(&self) -> String {
        let method = String::from_utf8_lossy(self.param(b"REQUEST_METHOD").unwrap_or(b"?")).into_owned();
        let uri = String::from_utf8_lossy(&uri(&self.params)).into_owned();
        let mut line: String = format!("{method} {uri}")
            .chars()
            .map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter })
            .collect();
        line.truncate(line.floor_char_boundary(LINE_MAX));
        line
    }

    /// Method, Host and the full URI as a number that nobody outside can aim at.
    pub(crate) fn key(&self, secret: &Secret) -> u64 {
        let method = self.param(b"REQUEST_METHOD").unwrap_or_default();
        let host = self.param(b"HTTP_HOST").unwrap_or_default().to_ascii_lowercase();
        secret.hash_one((method, host, uri(&self.params)))
    }

    /// Its id, as the worker gets it; empty before it has one. (What a client calls its id is not to be told on.)
    pub(crate) fn id(&self) -> String {
        if !self.is_sealed {
            return String::new();
        }
        String::from_utf8_lossy(self.param(b"HTTP_X_REQUEST_ID").unwrap_or_default()).into_owned()
    }

    /// Whether no worker has seen a byte of it.
    pub(crate) fn is_unsent(&self) -> bool {
        self.sent == 0 && self.reply.bytes == 0
    }

    /// Back to where no worker has seen it.
    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
        self.reply = Reply::new();
    }
}

/// The value of a parameter.
pub(crate) fn param<'a>(params: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    pairs(params).filter_map(Result::ok).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The full URI: as the client sent it where the web server tells, else put together.
pub(crate) fn uri(params: &[u8]) -> Vec<u8> {
    if let Some(uri) = param(params, b"REQUEST_URI") {
        return uri.to_vec();
    }
    let mut uri = param(params, b"SCRIPT_NAME").unwrap_or_default().to_vec();
    uri.extend_from_slice(param(params, b"PATH_INFO").unwrap_or_default());
    if let Some(query) = param(params, b"QUERY_STRING").filter(|query| !query.is_empty()) {
        uri.push(b'?');
        uri.extend_from_slice(query);
    }
    uri
}

/// Those parameters that a status page tells of a request, none longer than there.
pub(crate) fn shortened(params: &[u8]) -> Vec<u8> {
    let mut short = Vec::new();
    let uri = uri(params);
    let told = TOLD.iter().filter_map(|name| Some((*name, param(params, name)?)));
    for (name, value) in told.chain([(&b"REQUEST_URI"[..], &uri[..])]) {
        // A few hundred bytes always fit.
        let _ = push_pair(&mut short, name, &value[..value.len().min(TOLD_MAX)]);
    }
    short
}

/// What a status page tells of a request, besides its URI.
const TOLD: [&[u8]; 4] = [b"REQUEST_METHOD", b"CONTENT_LENGTH", b"REMOTE_USER", b"SCRIPT_FILENAME"];
/// So many bytes of each: as many as php-fpm keeps of a URI with its query.
pub(crate) const TOLD_MAX: usize = 640;
