//! Events as JSON: one object, with the interface's names.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::event::{Event, Stamped};
use super::human;
use crate::signals::signal_name;

#[derive(Serialize)]
struct Object<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    time: String,
    event: &'static str,
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ran_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stderr: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    over_ms: Option<u64>,
}

/// One object, without a newline.
pub fn object(sequence: Option<u64>, wall: SystemTime, event: &Event) -> String {
    let milliseconds = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let object = Object {
        sequence,
        time: human::time(wall),
        event: event.kind.name(),
        level: event.level.word(),
        pool: event.pool.as_deref().filter(|_| event.unit.is_none()),
        rule: event.pool.as_deref().filter(|_| event.unit.is_some()),
        unit: event.unit.as_deref(),
        generation: event.generation,
        slot: event.slot,
        pid: event.pid,
        class: event.class,
        code: event.code,
        signal: event.signal.map(signal_name),
        name: event.name.as_deref(),
        message: event.message.as_deref(),
        request: event.request.as_deref(),
        id: event.id.as_deref(),
        after_ms: event.after.map(milliseconds),
        ran_ms: event.ran.map(milliseconds),
        took_ms: event.took.map(milliseconds),
        reason: event.reason.as_deref(),
        stderr: &event.stderr,
        times: (event.times > 1).then_some(event.times),
        over_ms: event.over.map(milliseconds),
    };
    serde_json::to_string(&object).expect("strings and numbers are always JSON")
}

impl Stamped {
    /// One object for `events --json`, without a newline.
    pub fn to_json(&self) -> String {
        object(Some(self.sequence), self.wall, &self.event)
    }
}
