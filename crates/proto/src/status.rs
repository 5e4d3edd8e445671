//! The status document of interface.md, section 4.
//!
//! Where nobody can know a figure it is `null`: in direct mode nobody sees requests, so `front`, `zygote`, `queue`,
//! `requests` and `latency_ms` are `null` and `quarantine` is empty. Times are RFC 3339 in UTC.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the document. It grows when a key changes its meaning; new keys do not count.
pub const VERSION: u32 = 1;
/// How many lines of a dead worker's stderr are kept.
pub const STDERR_LINES_MAX: usize = 20;
/// How many bytes of it the document carries in all.
pub const STDERR_BYTES_MAX: usize = 4096;

/// The whole supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// The program's version.
    pub steadfast: String,
    /// The supervisor's pid.
    pub pid: u32,
    /// When it started.
    pub since: String,
    /// What it is doing.
    pub phase: Phase,
    /// The process that reads requests; `None` when all pools are direct.
    pub front: Option<Front>,
    /// In the order of their names.
    pub pools: Vec<Pool>,
}

impl Status {
    /// Whether every pool has a worker that serves, or is asleep (which counts as serving).
    pub fn is_serving(&self) -> bool {
        self.pools.iter().all(|pool| pool.state.serves())
    }
}

/// What the supervisor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not every pool has been added yet.
    Starting,
    /// As it should.
    Running,
    /// A reload is under way.
    Reloading,
    /// It will leave.
    Stopping,
}

/// The process that reads requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Front {
    /// Its pid.
    pub pid: Option<u32>,
    /// How often it had to be started again.
    pub restarts: u64,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: PoolState,
    /// Why, in words, where it is not well: what failed, the code's name, the last stderr line.
    #[serde(default)]
    pub reason: Option<String>,
    /// `queue` or `direct`.
    pub mode: String,
    /// Its public addresses, as configured.
    #[serde(default)]
    pub listen: Vec<String>,
    /// The generation that serves; 0 before there is one.
    pub generation: u64,
    /// The generation of a reload under way.
    #[serde(default)]
    pub candidate: Option<u64>,
    /// It has run `prove` long without a failure.
    pub proven: bool,
    /// Kept for a rollback.
    pub previous: Option<u64>,
    /// `None` with `launch = "exec"`.
    pub zygote: Option<Zygote>,
    /// How many.
    pub workers: Workers,
    /// `None` in direct mode.
    pub queue: Option<Queue>,
    /// Its breaker.
    pub breaker: Breaker,
    /// Requests that are kept from the workers; empty in direct mode.
    pub quarantine: Vec<Quarantined>,
    /// `None` in direct mode.
    pub requests: Option<Requests>,
    /// `None` in direct mode.
    pub latency_ms: Option<Latency>,
    /// How workers ended since the supervisor started, by class.
    pub exits: BTreeMap<String, u64>,
    /// The last unasked end in this pool.
    #[serde(default)]
    pub last_exit: Option<LastExit>,
    /// The last reload that failed, until a later one serves.
    #[serde(default)]
    pub failed_reload: Option<FailedReload>,
    /// In the order of their numbers; also those that wait for a worker.
    pub slots: Vec<Slot>,
}

/// A reload whose generation was refused or rolled back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedReload {
    /// Its generation.
    pub generation: u64,
    /// It had served visitors, and its predecessor came back.
    pub rolled_back: bool,
    /// When.
    pub at: String,
    /// Why, in words.
    pub reason: String,
    /// The last lines of what failed, at most [`STDERR_LINES_MAX`] and [`STDERR_BYTES_MAX`].
    pub stderr: Vec<String>,
}

/// How a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolState {
    /// `min = 0` and nobody waits.
    Asleep,
    /// Its first workers come.
    Starting,
    /// All is well.
    Serving,
    /// It serves, but its breaker is open or it has fewer than `min`.
    Degraded,
    /// Nothing serves.
    Down,
    /// It is asked to stop.
    Stopping,
    /// It has stopped.
    Stopped,
}

impl PoolState {
    /// The word for people; the same as in the document.
    pub const fn word(self) -> &'static str {
        match self {
            PoolState::Asleep => "asleep",
            PoolState::Starting => "starting",
            PoolState::Serving => "serving",
            PoolState::Degraded => "degraded",
            PoolState::Down => "down",
            PoolState::Stopping => "stopping",
            PoolState::Stopped => "stopped",
        }
    }

    /// Whether visitors get answers.
    pub const fn serves(self) -> bool {
        matches!(self, PoolState::Asleep | PoolState::Serving | PoolState::Degraded)
    }
}

/// The zygote of the serving generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zygote {
    /// Its pid.
    pub pid: Option<u32>,
    /// Resident bytes.
    pub rss: Option<u64>,
    /// The same, shared pages divided by their users.
    #[serde(default)]
    pub pss: Option<u64>,
    /// `starting`, `ready` or `leaving`.
    pub state: String,
}

/// How many workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workers {
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// As many as are wanted now.
    pub target: u32,
    /// Processes that live.
    pub total: u32,
    /// Those that are admitted: idle and busy ones.
    #[serde(default)]
    pub serving: u32,
    /// `None` where the kernel does not tell it of each (direct mode).
    pub idle: Option<u32>,
    /// `None` where the kernel does not tell it of each (direct mode).
    pub busy: Option<u32>,
    /// Not ready yet, or being verified.
    pub starting: u32,
    /// Draining, stopping, killed or lost.
    pub stopping: u32,
}

/// The queue before the workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// How many wait.
    pub length: u32,
    /// How many may.
    pub limit: u32,
    /// How long the first has waited.
    pub oldest_ms: u64,
    /// The most that ever waited.
    pub peak: u32,
}

/// The breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Breaker {
    /// How it is.
    pub state: BreakerState,
    /// The sum of weights in the window.
    pub failures: f64,
    /// It opens at so many.
    pub limit: u32,
    /// The window.
    pub window_ms: u64,
    /// When the next trial begins.
    pub until: Option<String>,
    /// Why it opened, in words.
    pub reason: Option<String>,
}

/// How a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Failures are repaired.
    Closed,
    /// Nothing is respawned but one canary at a time.
    Open,
    /// A canary runs.
    HalfOpen,
}

impl BreakerState {
    /// The word for people; the same as in the document.
    pub const fn word(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half-open",
        }
    }
}

/// A request that kills workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Method and URI.
    pub request: String,
    /// Workers that it killed.
    pub kills: u32,
    /// When one is let through again.
    pub until: String,
}

/// Requests since the supervisor started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// All.
    pub total: u64,
    /// Answered by a worker.
    pub ok: u64,
    /// Answered with an error in a worker's place.
    pub error: u64,
    /// Given to a second worker.
    pub retried: u64,
    /// Refused because the queue was full or the wait too long.
    pub shed: u64,
    /// Passed their deadline.
    pub timeout: u64,
    /// Cut off in the middle of an answer.
    pub lost: u64,
    /// Answered by the fallback.
    pub fallback: u64,
    /// Refused because they kill workers.
    #[serde(default)]
    pub quarantined: u64,
    /// Their client had gone before the answer was complete.
    #[serde(default)]
    pub aborted: u64,
}

/// How long requests take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90 of 100.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Its number.
    pub slot: u32,
    /// `None` while no process sits in it.
    pub pid: Option<u32>,
    /// The worker's generation.
    pub generation: Option<u64>,
    /// How its worker is.
    pub state: SlotState,
    /// Requests that it has served; `None` where nobody counts (direct mode, unless the worker says so).
    pub requests: Option<u64>,
    /// Resident bytes.
    pub rss: Option<u64>,
    /// Proportional bytes; `None` where the kernel does not tell.
    pub pss: Option<u64>,
    /// Processor time that it has used.
    pub cpu_ms: Option<u64>,
    /// When the worker was started, or when the slot became empty.
    pub since: String,
    /// The request in hand; `None` in direct mode.
    pub request: Option<String>,
    /// The worker's own word (`status` on the link).
    #[serde(default)]
    pub text: Option<String>,
    /// How the worker before this one ended.
    pub last_exit: Option<LastExit>,
}

/// How a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotState {
    /// No process: a worker will come after the backoff or when it is needed.
    Waiting,
    /// Not ready yet.
    Starting,
    /// It is asked its verify request.
    Verifying,
    /// It serves; whether it is idle or busy the kernel does not tell of it (direct mode).
    Ready,
    /// It waits for a request.
    Idle,
    /// It has a request in hand.
    Busy,
    /// It gets nothing more and finishes what it has.
    Draining,
    /// It was sent TERM.
    Stopping,
    /// It was sent KILL.
    Killed,
    /// Not even KILL removes it.
    Lost,
}

impl SlotState {
    /// The word for people; the same as in the document.
    pub const fn word(self) -> &'static str {
        match self {
            SlotState::Waiting => "waiting",
            SlotState::Starting => "starting",
            SlotState::Verifying => "verifying",
            SlotState::Ready => "ready",
            SlotState::Idle => "idle",
            SlotState::Busy => "busy",
            SlotState::Draining => "draining",
            SlotState::Stopping => "stopping",
            SlotState::Killed => "killed",
            SlotState::Lost => "lost",
        }
    }
}

/// How a worker ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// One word of interface.md, section 3.
    pub class: String,
    /// `SIGSEGV` and the like.
    pub signal: Option<String>,
    /// The exit code.
    pub code: Option<u8>,
    /// The code's name: from `exit-codes`, or the worker's own word.
    #[serde(default)]
    pub name: Option<String>,
    /// The worker's own message, or why it could not be started.
    #[serde(default)]
    pub message: Option<String>,
    /// When.
    pub at: String,
    /// The request in hand; `None` in direct mode.
    pub request: Option<String>,
    /// The last lines, at most [`STDERR_LINES_MAX`] and [`STDERR_BYTES_MAX`].
    pub stderr: Vec<String>,
}

/// Whether the last line of a worker that ended so tells why. Who was asked to leave, or was killed by somebody outside, wrote
/// it about something else, maybe hours before.
#[must_use]
pub fn is_told_by_last_line(class: &str) -> bool {
    !matches!(class, "recycled" | "stopped" | "killed")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document of interface.md, as it stands there.
    const INTERFACE: &str = r#"{ "version": 1, "steadfast": "0.1.0", "pid": 1, "since": "2026-11-23T12:00:00Z", "phase": "running",
      "front": { "pid": 2, "restarts": 0 },
      "pools": [ { "name": "site", "state": "serving", "mode": "queue", "generation": 3, "proven": true, "previous": 2,
        "zygote": { "pid": 3, "rss": 1, "state": "ready" },
        "workers": { "min": 4, "max": 32, "target": 4, "total": 4, "idle": 3, "busy": 1, "starting": 0, "stopping": 0 },
        "queue": { "length": 0, "limit": 1024, "oldest_ms": 0, "peak": 12 },
        "breaker": { "state": "closed", "failures": 0, "limit": 10, "window_ms": 90000, "until": null, "reason": null },
        "quarantine": [ { "request": "GET /x", "kills": 3, "until": "…" } ],
        "requests": { "total": 9, "ok": 9, "error": 0, "retried": 0, "shed": 0, "timeout": 0, "lost": 0, "fallback": 0 },
        "latency_ms": { "p50": 1.0, "p90": 2.0, "p99": 3.0 },
        "exits": { "recycled": 0, "crashed": 0 },
        "slots": [ { "slot": 1, "pid": 4, "generation": 3, "state": "idle", "requests": 3, "rss": 1, "pss": 1, "cpu_ms": 5, "since": "…",
                     "request": null, "last_exit": { "class": "crashed", "signal": "SIGSEGV", "code": null, "at": "…", "request": "GET /y", "stderr": ["…"] } } ] } ] }"#;

    /// Every key of `expected` stands in `actual`, and a plain value is the same.
    fn contains(actual: &serde_json::Value, expected: &serde_json::Value, at: &str) {
        use serde_json::Value;
        match (actual, expected) {
            (Value::Object(actual), Value::Object(expected)) => {
                for (key, value) in expected {
                    let at = format!("{at}.{key}");
                    contains(actual.get(key).unwrap_or_else(|| panic!("{at} is missing")), value, &at);
                }
            }
            (Value::Array(actual), Value::Array(expected)) => {
                assert_eq!(actual.len(), expected.len(), "{at}");
                for (actual, expected) in actual.iter().zip(expected) {
                    contains(actual, expected, at);
                }
            }
            (Value::Number(actual), Value::Number(expected)) => {
                assert_eq!(actual.as_f64(), expected.as_f64(), "{at}")
            }
            _ => assert_eq!(actual, expected, "{at}"),
        }
    }

    #[test]
    fn the_keys_are_those_of_the_interface() {
        let status: Status = serde_json::from_str(INTERFACE).expect("the interface's own example");
        let written = serde_json::to_value(&status).expect("a document");
        contains(&written, &serde_json::from_str(INTERFACE).expect("JSON"), "");
        let again: Status = serde_json::from_value(written).expect("round trip");
        assert_eq!(status, again);
    }

    #[test]
    fn words_for_people_are_the_words_of_the_document() {
        for state in ["asleep", "starting", "serving", "degraded", "down", "stopping", "stopped"] {
            let typed: PoolState = serde_json::from_value(state.into()).expect("a state");
            assert_eq!(typed.word(), state);
        }
        for state in ["closed", "open", "half-open"] {
            let typed: BreakerState = serde_json::from_value(state.into()).expect("a state");
            assert_eq!(typed.word(), state);
        }
        for state in
            ["waiting", "starting", "verifying", "ready", "idle", "busy", "draining", "stopping", "killed", "lost"]
        {
            let typed: SlotState = serde_json::from_value(state.into()).expect("a state");
            assert_eq!(typed.word(), state);
        }
    }
}
