//! What is asked and answered on the control socket.
//!
//! A client connects to the unix stream socket, writes one request as one line of JSON (at most
//! [`lines::LINE_MAX`](crate::lines::LINE_MAX) bytes) and reads answers, one JSON object a line, until the final one,
//! or until it hangs up. Every answer has `ok`; all but `event` and `progress` are final. Whoever connects is known by
//! the socket's mode and the peer's credentials: there is nothing secret in the protocol.
//!
//! All verbs but `reload` with `wait` are answered as soon as the order has been given, not when it has been carried
//! out.

use core::fmt;
use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::exit::ExitCode;
use crate::status::{Quarantined, Status};

/// The version of this protocol.
pub const VERSION: u32 = 1;
/// The most events that may be asked for; the ring holds fewer.
pub const EVENTS_MAX: u32 = 100_000;
/// The most workers that may be asked for.
pub const WORKERS_MAX: u32 = 65_535;
/// The longest wait that may be asked for: a week.
pub const TIMEOUT_MS_MAX: u64 = 7 * 24 * 3600 * 1000;
/// The longest name of a pool.
pub const POOL_NAME_MAX: usize = 64;

/// What the operator wants. A missing pool means all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Request {
    /// The status document. Answered by `status`.
    Status {
        /// Only this pool.
        pool: Option<String>,
    },
    /// Events. Answered by `event` lines and, without `follow`, a `done`.
    Events {
        /// So many of the last ones.
        n: u32,
        /// And those that come, until the client hangs up.
        follow: bool,
        /// Only this pool's.
        pool: Option<String>,
    },
    /// Read the configuration again and start new generations.
    Reload {
        /// Only this pool.
        pool: Option<String>,
        /// Answer with `progress` lines and, when all slots are replaced, `done`, or an error when it was refused or
        /// rolled back.
        wait: bool,
        /// With `wait`: the error of [`ExitCode::TimedOut`] after so long; the reload goes on.
        timeout_ms: Option<u64>,
    },
    /// Stop gracefully; without a pool, the supervisor too.
    Stop {
        /// Only this pool.
        pool: Option<String>,
    },
    /// Start a stopped pool.
    Start {
        /// Which.
        pool: String,
    },
    /// Stop and start a pool.
    Restart {
        /// Which.
        pool: String,
    },
    /// Change a pool's bounds until the next reload of the configuration.
    Scale {
        /// Which.
        pool: String,
        /// Never fewer.
        min: u32,
        /// Never more.
        max: u32,
    },
    /// Let the worker in this slot finish and leave; another takes its place.
    Drain {
        /// Which pool.
        pool: String,
        /// Which slot.
        slot: u32,
    },
    /// Kill the worker in this slot; another takes its place.
    Kill {
        /// Which pool.
        pool: String,
        /// Which slot.
        slot: u32,
    },
    /// The operator's word on a breaker.
    Breaker {
        /// Which pool.
        pool: String,
        /// What to do.
        action: BreakerAction,
    },
    /// The configuration that counts. Answered by a `config` line for each pool and a `done`.
    Config,
    /// The operator's word on requests that kill workers.
    Quarantine {
        /// Which pool.
        pool: String,
        /// What to do.
        action: QuarantineAction,
    },
}

/// What to do about a quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuarantineAction {
    /// Name the requests. Answered by `quarantine`.
    List,
    /// Give them to workers again, and forget all suspects.
    Clear,
}

/// What to do to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerAction {
    /// Close it and try at once.
    Reset,
    /// Open it: nothing is respawned but one canary at a time.
    Trip,
}

/// An answer; the last one of its connection, if [`Answer::is_final`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Answer {
    /// The order has been given (or, with `wait`, carried out).
    Done {
        /// What was done, for people; may be empty.
        text: String,
    },
    /// The status document.
    Status {
        /// It.
        status: Status,
    },
    /// Requests that are kept from workers.
    Quarantine {
        /// They.
        requests: Vec<Quarantined>,
    },
    /// What a pool runs by.
    Config {
        /// Which.
        pool: String,
        /// Its keys and values, as lines of TOML.
        text: String,
        /// With the first pool: those of `[supervisor]` as the supervisor was started; older ones do not tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        supervisor: Option<String>,
    },
    /// One event.
    Event {
        /// It.
        event: Event,
    },
    /// A reload goes on.
    Progress {
        /// How, for people.
        text: String,
    },
    /// It was not done.
    Error(Refusal),
}

impl Answer {
    /// Whether nothing comes after it.
    pub const fn is_final(&self) -> bool {
        match self {
            Answer::Done { .. } | Answer::Status { .. } | Answer::Quarantine { .. } | Answer::Error(_) => true,
            Answer::Config { .. } | Answer::Event { .. } | Answer::Progress { .. } => false,
        }
    }
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// How the client should exit.
    pub code: ExitCode,
    /// What was tried, on what, and why it failed. May have several lines (a drawn report of the configuration).
    pub message: String,
    /// What to type next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal without a hint.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for Refusal {}

/// The line of a request, with its newline.
pub fn encode_request(request: &Request) -> Vec<u8> {
    #[derive(Serialize)]
    struct Wire<'a> {
        version: u32,
        #[serde(flatten)]
        request: &'a Request,
    }
    line(&Wire { version: VERSION, request })
}

/// The line of an answer, with its newline.
pub fn encode_answer(answer: &Answer) -> Vec<u8> {
    #[derive(Serialize)]
    struct Wire<'a> {
        ok: bool,
        #[serde(flatten)]
        answer: &'a Answer,
    }
    line(&Wire { ok: !matches!(answer, Answer::Error(_)), answer })
}

fn line<T: Serialize>(value: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("plain structs with string keys always serialise");
    line.push(b'\n');
    line
}

/// Reads an answer; the error says what was wrong with it.
pub fn decode_answer(line: &[u8]) -> Result<Answer, String> {
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

/// Reads and checks a request. The refusal is ready to be answered.
pub fn decode_request(line: &[u8]) -> Result<Request, Refusal> {
    let head: Head<'_> = parse(line)?;
    if head.version != VERSION {
        let message = format!("version {} of the control protocol; this supervisor speaks {VERSION}", head.version);
        return Err(Refusal::new(ExitCode::Usage, message)
            .with_hint("use the `steadfast` program that runs the supervisor, or restart the supervisor"));
    }
    let request = match &*head.kind {
        "status" => parse::<OnePool>(line).map(|o| Request::Status { pool: o.pool }),
        "events" => parse::<Events>(line).map(|o| Request::Events { n: o.n, follow: o.follow, pool: o.pool }),
        "reload" => {
            parse::<Reload>(line).map(|o| Request::Reload { pool: o.pool, wait: o.wait, timeout_ms: o.timeout_ms })
        }
        "stop" => parse::<OnePool>(line).map(|o| Request::Stop { pool: o.pool }),
        "start" => parse::<ThePool>(line).map(|o| Request::Start { pool: o.pool }),
        "restart" => parse::<ThePool>(line).map(|o| Request::Restart { pool: o.pool }),
        "scale" => parse::<Scale>(line).map(|o| Request::Scale { pool: o.pool, min: o.min, max: o.max }),
        "drain" => parse::<Seat>(line).map(|o| Request::Drain { pool: o.pool, slot: o.slot }),
        "kill" => parse::<Seat>(line).map(|o| Request::Kill { pool: o.pool, slot: o.slot }),
        "quarantine" => parse::<Quarantine>(line).map(|o| Request::Quarantine { pool: o.pool, action: o.action }),
        "config" => Ok(Request::Config),
        "breaker" => parse::<Breaker>(line).map(|o| Request::Breaker { pool: o.pool, action: o.action }),
        unknown => Err(unknown_request(unknown)),
    }?;
    request.check()?;
    Ok(request)
}

impl Request {
    /// Which pool it is about.
    pub fn pool(&self) -> Option<&str> {
        match self {
            Request::Status { pool }
            | Request::Events { pool, .. }
            | Request::Reload { pool, .. }
            | Request::Stop { pool } => pool.as_deref(),
            Request::Config => None,
            Request::Start { pool }
            | Request::Restart { pool }
            | Request::Scale { pool, .. }
            | Request::Drain { pool, .. }
            | Request::Kill { pool, .. }
            | Request::Quarantine { pool, .. }
            | Request::Breaker { pool, .. } => Some(pool),
        }
    }

    /// Whether its values make sense by themselves.
    pub fn check(&self) -> Result<(), Refusal> {
        let usage = |message: String, hint: &str| Err(Refusal::new(ExitCode::Usage, message).with_hint(hint));
        if let Some(pool) = self.pool()
            && !is_pool_name(pool)
        {
            let shown: String = pool.chars().filter(|c| !c.is_control()).take(POOL_NAME_MAX).collect();
            let hint = "a name has 1 to 64 of a-z, A-Z, 0-9, - and _; `steadfast status` shows them";
            return usage(format!("`{shown}` is no pool's name"), hint);
        }
        let bounds = "write N or MIN..MAX, for example 4 or 2..8";
        match *self {
            Request::Events { n, .. } if n > EVENTS_MAX => {
                usage(format!("{n} events asked for, more than {EVENTS_MAX}"), "ask for fewer with -n N")
            }
            Request::Reload { timeout_ms: Some(timeout), .. } if timeout > TIMEOUT_MS_MAX => {
                usage("a timeout of more than a week".to_owned(), "leave it out to wait for ever")
            }
            Request::Scale { min, max, .. } if min > max => usage(format!("min {min} is above max {max}"), bounds),
            Request::Scale { max: 0, .. } => {
                usage("a pool of no workers at all".to_owned(), "to stop a pool use `steadfast stop POOL`")
            }
            Request::Scale { max, .. } if max > WORKERS_MAX => {
                usage(format!("{max} workers are more than {WORKERS_MAX}"), bounds)
            }
            _ => Ok(()),
        }
    }
}

/// 1 to [`POOL_NAME_MAX`] of `a-z A-Z 0-9 - _`.
pub fn is_pool_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= POOL_NAME_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// What is read first; other keys are skipped without being kept.
#[derive(Deserialize)]
struct Head<'a> {
    version: u32,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct OnePool {
    #[serde(default)]
    pool: Option<String>,
}
#[derive(Deserialize)]
struct ThePool {
    pool: String,
}
#[derive(Deserialize)]
struct Events {
    n: u32,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    pool: Option<String>,
}
#[derive(Deserialize)]
struct Reload {
    #[serde(default)]
    pool: Option<String>,
    #[serde(default)]
    wait: bool,
    #[serde(default)]
    timeout_ms: Option<u64>,
}
#[derive(Deserialize)]
struct Scale {
    pool: String,
    min: u32,
    max: u32,
}
#[derive(Deserialize)]
struct Seat {
    pool: String,
    slot: u32,
}
#[derive(Deserialize)]
struct Quarantine {
    pool: String,
    action: QuarantineAction,
}
#[derive(Deserialize)]
struct Breaker {
    pool: String,
    action: BreakerAction,
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(line).map_err(|error| {
        let reason = clean(&error.to_string());
        Refusal::new(ExitCode::Usage, format!("the request is not understood: {reason}"))
    })
}

fn unknown_request(kind: &str) -> Refusal {
    Refusal::new(ExitCode::Usage, format!("`{}`: this supervisor knows no such request", clean(kind)))
        .with_hint("the supervisor may be older than this program; restart it")
}

/// Text that repeats what a stranger wrote, made short and harmless.
fn clean(text: &str) -> String {
    text.chars().take(120).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
