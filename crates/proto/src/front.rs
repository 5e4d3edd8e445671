//! The channel between the supervisor and the front (design.md, section 6a).
//!
//! One `SOCK_SEQPACKET` pair, inherited by the front as fd 3. Each packet is one message: JSON, at most [`MESSAGE_MAX`]
//! bytes; fds travel beside it by `SCM_RIGHTS`. The supervisor does not trust the front: whatever it says is bounded and
//! checked, numbers it does not know are ignored, and a message that cannot be read ends that front's life. Durations
//! are in milliseconds, and what lies in the past or future is told relative to the moment of sending, so that nobody
//! has to agree on a clock.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of the channel. Both sides are the same binary, but for an upgrade in place.
pub const VERSION: u32 = 1;
/// The variable by which every front of one supervisor gets the same secret; requests are named with it.
pub const SECRET_VARIABLE: &str = "STEADFAST_FRONT_SECRET";
/// A packet is never longer.
pub const MESSAGE_MAX: usize = 64 * 1024;
/// A packet never carries more fds: the listeners of a pool and its fallback's body.
pub const FDS_MAX: usize = 64;
/// A request's line (method and URI) is cut after so many bytes when it is told to people.
pub const LINE_MAX: usize = 1024;
/// Workers told of in one [`FromFront::Workers`].
pub const WORKERS_MAX: usize = 256;

/// Supervisor to front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToFront {
    /// A pool as it is meant from now on, whole; also when it has changed. The fds: its listeners, in the order of
    /// `listeners`, then the fallback's body (a file, read from its beginning) if `fallback.has_body`.
    Pool(Box<Pool>),
    /// The pool is gone: accept nothing more for it, and refuse what still waits.
    PoolGone {
        /// Which.
        pool: u32,
    },
    /// A worker's process exists and listens: connect to it, and keep that connection for its first request.
    WorkerOffered {
        /// Never used before.
        worker: u64,
        /// Its pool.
        pool: u32,
        /// Its private socket.
        path: String,
        /// Requests that it takes at a time; at least 1.
        concurrency: u32,
        /// The process that must have made the socket, where others might have put one of their own in its place.
        #[serde(default)]
        pid: Option<u32>,
        /// What the status page tells of it.
        #[serde(default)]
        life: Life,
    },
    /// Send it the pool's verify request; answered by `verified` or `verify-failed`.
    WorkerVerify {
        /// Which.
        worker: u64,
    },
    /// It may serve visitors; answered by `admitted`.
    WorkerAdmit {
        /// Which.
        worker: u64,
        /// It is recycled after so many requests; `None` is never. (The supervisor has added the jitter.)
        #[serde(default)]
        max_requests: Option<u64>,
    },
    /// Give it nothing more; answered by `worker-free` as soon as it has nothing in hand.
    WorkerWithdraw {
        /// Which.
        worker: u64,
    },
    /// Its process has ended. Always answered by `blame`, and nothing is said of this worker after that.
    WorkerGone {
        /// Which.
        worker: u64,
    },
    /// Count the successes of this request and tell them as `suspect-served`.
    Watch {
        /// Which pool.
        pool: u32,
        /// Which request.
        key: u64,
    },
    /// Answer this request in the worker's place for so long; then let one through as a trial.
    Quarantine {
        /// Which pool.
        pool: u32,
        /// Which request.
        key: u64,
        /// So long from now.
        for_ms: u64,
    },
    /// Forget this request: neither watched nor quarantined.
    Release {
        /// Which pool.
        pool: u32,
        /// Which request.
        key: u64,
    },
    /// Whether visitors get the fallback at once.
    Fallback {
        /// Which pool.
        pool: u32,
        /// On or off.
        on: bool,
    },
    /// Tell counters and workers now; answered by `counters`, `workers` and, last, `reported` with this number.
    Report {
        /// Any number.
        number: u64,
    },
    /// Another front takes over: accept nothing more, give workers back as soon as they are not needed (told as
    /// `WorkerFree`), finish what is in hand for at most so long, and leave.
    HandOver {
        /// So long from now.
        within_ms: u64,
    },
    /// Accept nothing more, finish what is in hand for at most so long, and leave.
    Leave {
        /// So long from now.
        within_ms: u64,
    },
}

/// A pool as the front needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Its number.
    pub pool: u32,
    /// Its name.
    pub name: String,
    /// Its public sockets, one fd each. A socket that was there before has the same `id` and is not accepted from twice.
    pub listeners: Vec<Listener>,
    /// TCP clients that may connect; empty is everybody.
    pub allowed_clients: Vec<std::net::IpAddr>,
    /// So many requests may wait.
    pub queue_length: u32,
    /// For so long.
    pub queue_timeout_ms: u64,
    /// A worker that takes longer is killed.
    pub request_timeout_ms: u64,
    /// A request that takes longer is told of; `None` is never.
    pub slow_request_ms: Option<u64>,
    /// What may be given to a second worker when the first died.
    pub retry: Retry,
    /// What happens to a worker whose client has gone.
    pub client_abort: ClientAbort,
    /// Whose request id.
    pub request_id: RequestId,
    /// Whether blame is collected and quarantined requests are refused.
    pub quarantine: bool,
    /// Parameters that HTTP and verify requests carry besides the usual ones; they replace those of the same name.
    pub params: BTreeMap<String, String>,
    /// The verify request.
    pub verify: Option<Verify>,
    /// What visitors get when nothing serves.
    pub fallback: Fallback,
    /// The status page, where the pool has one.
    #[serde(default)]
    pub status: Option<StatusPage>,
}

/// One public socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The supervisor's number for it; never used twice.
    pub id: u64,
    /// What is spoken there.
    pub protocol: Protocol,
    /// For messages.
    pub address: String,
}

/// What is spoken on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// FastCGI.
    Fastcgi,
    /// HTTP/1.1.
    Http,
}

/// `retry = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// Nothing.
    Never,
    /// What no worker has seen a byte of.
    Unsent,
    /// That, and GET, HEAD and OPTIONS of which no byte was answered.
    Idempotent,
}

/// `client-abort = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAbort {
    /// It finishes, and its output is discarded.
    Finish,
    /// Its connection is closed and it is told of as `cancelled`.
    Cancel,
    /// Its connection is closed, which this worker hears, and no more: it will be there for the next request.
    Close,
}

/// `request-id = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestId {
    /// Our own.
    Make,
    /// The client's `X-Request-ID`, where it is a decent one.
    Trust,
}

/// `[pool.NAME.verify]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// `GET` and the like.
    pub method: String,
    /// Path and query.
    pub uri: String,
    /// The status that is expected.
    pub status: u16,
    /// What the body must contain; empty is anything.
    pub body: String,
    /// The answer must be complete within so long.
    pub timeout_ms: u64,
}

/// `[pool.NAME.fallback]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// The HTTP status.
    pub status: u16,
    /// Told to clients as `Retry-After`.
    pub retry_after_ms: u64,
    /// A body comes as the last fd; without one the front has a page of its own.
    pub has_body: bool,
    /// The body's media type.
    pub content_type: String,
}

/// `status-path = …`: where the front tells of the pool in php-fpm's words, and what it cannot know by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusPage {
    /// The path that is asked for.
    pub path: String,
    /// How the number of workers is decided.
    pub manager: Manager,
    /// The most workers that there may be.
    pub workers_max: u32,
    /// When the pool began, in seconds since 1970.
    pub since: u64,
    /// What earlier fronts have counted; heard once in a front's life.
    pub before: Figures,
}

/// How the number of a pool's workers is decided, in php-fpm's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manager {
    /// It is always the same.
    Static,
    /// It follows the need.
    Dynamic,
    /// The same, and nobody waits for visitors who do not come.
    Ondemand,
}

/// What a status page counts from the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Figures {
    /// Requests.
    pub accepted: u64,
    /// The most that waited for a worker.
    pub waiting_max: u32,
    /// The most workers that had a request.
    pub busy_max: u32,
    /// How often somebody waited while there were as many workers as there may be, all of them busy.
    pub full: u64,
    /// Requests that were told of as slow.
    pub slow: u64,
}

/// A worker's process, as a status page tells of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Life {
    /// The process.
    pub pid: u32,
    /// When it began, in seconds since 1970.
    pub since: u64,
    /// Requests that it has served for earlier fronts.
    pub served: u64,
}

/// Front to supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromFront {
    /// It hears the channel.
    Ready {
        /// [`VERSION`].
        version: u32,
    },
    /// The connection to an offered worker's private socket stands; the worker may not have accepted it yet.
    Connected {
        /// Which.
        worker: u64,
    },
    /// Not the worker itself has written its first answer, but another process; told once, or never.
    AnsweredBy {
        /// Which.
        worker: u64,
        /// The process that has.
        pid: u32,
    },
    /// The worker is given requests from now on.
    Admitted {
        /// Which.
        worker: u64,
    },
    /// It answered its verify request as expected.
    Verified {
        /// Which.
        worker: u64,
    },
    /// It did not.
    VerifyFailed {
        /// Which.
        worker: u64,
        /// In words: what was asked, expected and got.
        why: String,
    },
    /// Requests that this worker has served beyond those told before; told for its first, its 20th, and its last ones.
    /// All others are in `load.served`.
    WorkerServed {
        /// Which.
        worker: u64,
        /// So many more.
        requests: u64,
    },
    /// A withdrawn worker has nothing in hand and will be given nothing.
    WorkerFree {
        /// Which.
        worker: u64,
    },
    /// The state of a pool's queue: at once when somebody starts to wait or the last idle worker goes, else at most ten
    /// a second, with a last one when it gets quiet.
    Load(Load),
    /// What a worker that has gone had in hand.
    Blame {
        /// Which worker.
        worker: u64,
        /// `None` when it had nothing in hand that its death can be charged to.
        request: Option<Blamed>,
    },
    /// A watched request was answered well.
    SuspectServed {
        /// Which pool.
        pool: u32,
        /// Which request.
        key: u64,
        /// By which worker.
        worker: u64,
    },
    /// Its request passed `request-timeout`; the visitor has been answered.
    Overdue {
        /// Which worker.
        worker: u64,
        /// Its request's line.
        line: String,
    },
    /// Its client has gone and the pool wants it cancelled: it should be sent TERM.
    Cancelled {
        /// Which worker.
        worker: u64,
        /// Its request's line.
        line: String,
    },
    /// It has served `max_requests`.
    Spent {
        /// Which worker.
        worker: u64,
    },
    /// Something for the log.
    Note(Note),
    /// What has been counted since the last message of this kind, at most one a second and pool.
    Counters(Box<Counters>),
    /// Workers with what they do; only on `report`, in as many messages as it takes.
    Workers {
        /// At most [`WORKERS_MAX`].
        workers: Vec<WorkerState>,
    },
    /// Everything that `report` asked for has been told.
    Reported {
        /// The number it came with.
        number: u64,
    },
}

/// The state of a pool's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Which pool.
    pub pool: u32,
    /// Admitted workers with nothing in hand.
    pub idle: u32,
    /// Admitted workers with a request.
    pub busy: u32,
    /// Requests that wait for a worker.
    pub waiting: u32,
    /// How long the first of them has waited.
    pub oldest_ms: u64,
    /// Requests served since the last sample, beyond those told by `worker-served`.
    pub served: u64,
    /// The worker that has been idle longest, and for how long.
    pub longest_idle: Option<(u64, u64)>,
    /// The most that have waited since the last sample.
    pub peak: u32,
}

/// The request that a worker had in hand when it died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blamed {
    /// Method, Host and URI as a number.
    pub key: u64,
    /// Method and URI, for people; at most [`LINE_MAX`] bytes.
    pub line: String,
    /// The request's id.
    pub id: String,
    /// Its bytes that the worker's socket took.
    pub sent: u64,
    /// Bytes of an answer that came.
    pub answered: u64,
    /// The worker's end was closed before all of it was read (ECONNRESET), over a connection that had carried others, or
    /// with nothing to read but the head: a worker that left by itself with 0 has not begun it. php-cgi closes after its
    /// last request, at the moment when the next one is written.
    #[serde(default)]
    pub unread: bool,
    /// The end of what the worker wrote to stderr through FastCGI while it had the request, for people; at most 2 KiB.
    #[serde(default)]
    pub stderr: String,
}

/// Something for the log about one request; the supervisor is the only writer of logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// What happened.
    pub kind: NoteKind,
    /// In which pool.
    pub pool: Option<u32>,
    /// With which worker.
    pub worker: Option<u64>,
    /// Method and URI; at most [`LINE_MAX`] bytes.
    pub line: Option<String>,
    /// The request's id.
    pub id: Option<String>,
    /// How long it had taken by then.
    pub after_ms: Option<u64>,
    /// More, in words.
    pub message: Option<String>,
}

/// What a note is about: the events of interface.md, section 5, and some that have no other name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoteKind {
    /// `request-slow`.
    Slow,
    /// `request-timeout`.
    Timeout,
    /// `request-retried`.
    Retried,
    /// `request-quarantined`: a quarantined request was refused.
    Quarantined,
    /// `request-shed`.
    Shed,
    /// A worker's answer was none: the client got 502.
    BadAnswer,
    /// A worker died in the middle of an answer: the client's connection was cut.
    Cut,
    /// What a worker wrote to stderr through FastCGI, where no web server can take it.
    Stderr,
    /// Something about the front itself: a socket that cannot be accepted from, a limit that was hit.
    Warning,
}

/// What has been counted in a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Counters {
    /// Which pool.
    pub pool: u32,
    /// Requests by outcome; see [`Requests`].
    pub requests: Requests,
    /// How long requests took, from their arrival to the end of their answer, in a [`Histogram`]'s buckets.
    pub duration: Histogram,
    /// How long requests that a worker got had waited for it.
    pub wait: Histogram,
    /// Open connections of clients, now.
    pub connections: u32,
    /// The most workers that had a request at once, in this front's life.
    pub busy_max: u32,
    /// How often the pool was full; see [`Figures`].
    pub full: u64,
    /// Requests that were told of as slow.
    pub slow: u64,
}

/// Requests by what became of them; every request is counted once in `total`, when it is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Requests {
    /// All.
    pub total: u64,
    /// Answered by a worker, whatever it said.
    pub ok: u64,
    /// Answered with an error in a worker's place.
    pub error: u64,
    /// Given to a second worker; they are counted by their end, too.
    pub retried: u64,
    /// Refused because the queue was full or the wait too long; errors, too.
    pub shed: u64,
    /// Passed `request-timeout`; errors, too.
    pub timeout: u64,
    /// Cut off in the middle of an answer.
    pub lost: u64,
    /// Answered by the fallback; errors, too.
    pub fallback: u64,
    /// Refused because quarantined; errors, too.
    pub quarantined: u64,
    /// Their client had gone before the answer was complete.
    pub aborted: u64,
}

/// Counts by duration: bucket `n` counts what took at least `2^(n/4)` and less than `2^((n+1)/4)` microseconds, so that
/// four buckets make an octave and a quantile read from it is right within 19 %. Trailing empty buckets are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram {
    /// At most [`Histogram::BUCKETS`].
    pub buckets: Vec<u64>,
}

impl Histogram {
    /// The last bucket begins at 2^37.75 µs, some three days.
    pub const BUCKETS: usize = 152;

    /// Counts one that took so many microseconds.
    pub fn count(&mut self, micros: u64) {
        let bucket = Histogram::bucket(micros);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
    }

    /// Adds another's counts; buckets that there are not are ignored.
    pub fn add(&mut self, other: &Histogram) {
        let theirs = &other.buckets[..other.buckets.len().min(Histogram::BUCKETS)];
        if self.buckets.len() < theirs.len() {
            self.buckets.resize(theirs.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(theirs) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The microseconds that `share` (0 to 1) of what was counted did not exceed: the upper bound of its bucket. `None`
    /// when nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.total();
        let rank = (total as f64 * share).ceil().max(1.0);
        let mut seen = 0u64;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if *count > 0 && seen as f64 >= rank {
                return Some(Histogram::upper(bucket));
            }
        }
        None
    }

    /// Where bucket `n` ends, in microseconds.
    pub fn upper(bucket: usize) -> f64 {
        ((bucket + 1) as f64 / 4.0).exp2()
    }

    /// The bucket of a duration: the octave by the leading bit, the quarter by comparing with its three borders.
    fn bucket(micros: u64) -> usize {
        let micros = micros.max(1);
        let octave = micros.ilog2();
        // 2^(1/4), 2^(2/4), 2^(3/4) as 32 bits behind the point.
        const QUARTERS: [u128; 3] = [0x1_306f_e0a3, 0x1_6a09_e667, 0x1_ae89_f995];
        let scaled = (u128::from(micros) << 32) >> octave;
        let quarter = QUARTERS.iter().filter(|border| scaled >= **border).count();
        (octave as usize * 4 + quarter).min(Histogram::BUCKETS - 1)
    }
}

/// A worker and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerState {
    /// Which.
    pub worker: u64,
    /// Requests that it has served.
    pub served: u64,
    /// The lines of the requests in hand, the oldest one's only; empty is idle.
    pub line: Option<String>,
    /// How many it has in hand.
    pub busy: u32,
}

/// A message as the bytes of a packet.
///
/// # Errors
/// When it is longer than [`MESSAGE_MAX`]; its kind is in the text.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, String> {
    let bytes = serde_json::to_vec(message).map_err(|error| error.to_string())?;
    if bytes.len() > MESSAGE_MAX {
        return Err(format!("a message of {} bytes does not fit into a packet of {MESSAGE_MAX}", bytes.len()));
    }
    Ok(bytes)
}

/// The message of a packet.
///
/// # Errors
/// When it is none of this version, or too long: what is wrong, in words.
pub fn decode<T: DeserializeOwned>(packet: &[u8]) -> Result<T, String> {
    if packet.len() > MESSAGE_MAX {
        return Err(format!("a packet of {} bytes is longer than {MESSAGE_MAX}", packet.len()));
    }
    serde_json::from_slice(packet).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let offered = ToFront::WorkerOffered {
            worker: 7,
            pool: 1,
            path: "/run/x".to_owned(),
            concurrency: 1,
            pid: None,
            life: Life::default(),
        };
        let bytes = encode(&offered).expect("short");
        assert_eq!(std::str::from_utf8(&bytes).expect("text").split(',').next(), Some(r#"{"type":"worker-offered""#));
        assert_eq!(decode::<ToFront>(&bytes), Ok(offered));
        let load = FromFront::Load(Load { pool: 1, waiting: 3, longest_idle: Some((7, 20)), ..Load::default() });
        assert_eq!(decode::<FromFront>(&encode(&load).expect("short")), Ok(load));
    }

    #[test]
    fn what_is_too_long_or_unknown_is_refused() {
        let long = ToFront::WorkerOffered {
            worker: 7,
            pool: 1,
            path: "x".repeat(MESSAGE_MAX),
            concurrency: 1,
            pid: None,
            life: Life::default(),
        };
        assert!(encode(&long).is_err());
        assert!(decode::<ToFront>(&vec![b' '; MESSAGE_MAX + 1]).is_err());
        assert!(decode::<FromFront>(br#"{"type":"sudo"}"#).is_err());
        assert!(decode::<FromFront>(br#"{"type":"verified","worker":-1}"#).is_err());
    }

    #[test]
    fn a_bucket_holds_what_its_bounds_say() {
        for micros in (0..2000).chain([1 << 20, (1 << 20) - 1, u64::MAX]) {
            let mut histogram = Histogram::default();
            histogram.count(micros);
            let upper = histogram.quantile(0.5).expect("one was counted");
            let last = Histogram::upper(Histogram::BUCKETS - 1);
            assert!(upper > micros as f64 || upper == last, "{micros} in a bucket up to {upper}");
            assert!(upper <= (micros.max(1) as f64) * 1.19 || upper == last, "{micros} in a bucket up to {upper}");
        }
    }

    #[test]
    fn quantiles_are_of_all_that_was_added() {
        let mut sum = Histogram::default();
        let mut other = Histogram::default();
        (0..90).for_each(|_| sum.count(100));
        (0..10).for_each(|_| other.count(10_000));
        sum.add(&other);
        assert_eq!(sum.total(), 100);
        assert!(sum.quantile(0.9).is_some_and(|at| (100.0..120.0).contains(&at)));
        assert!(sum.quantile(0.99).is_some_and(|at| (10_000.0..12_000.0).contains(&at)));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
