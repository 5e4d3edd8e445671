//! The event document: one object a line, the same in `events --json`, on the control socket and in the json log.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How much an event matters, the gravest first; `log-level` counts `notice` as `info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Needs a person now.
    Error,
    /// May need a person.
    Warning,
    /// Good to know for whoever looks after it.
    Notice,
    /// Worth knowing.
    Info,
    /// For developers.
    Debug,
}

impl Level {
    /// The word for people; the same as in the document.
    pub const fn word(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Notice => "notice",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// One event. Keys that do not apply are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number in this supervisor's life, from 1; a gap says that the ring has lost some.
    #[serde(default)]
    pub sequence: u64,
    /// When: RFC 3339 in UTC.
    pub time: String,
    /// How much it matters.
    pub level: Level,
    /// Its name: a word of interface.md, section 5, such as `worker-exited`.
    pub event: String,
    /// Which pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Which generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Which slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// Which process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The whole event as a sentence for people, on one line, without time and place. Only on the control socket: a log
    /// for machines does without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How often it happened, where repeats were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// The time over which they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_ms: Option<u64>,
    /// What only this kind of event carries: `class`, `code`, `signal`, `name`, `message`, `request`, `ran_ms`,
    /// `stderr` (an array of lines) of `worker-exited`, `reason`, `until`, `failures`, `min`, `max` and so on.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Event {
    /// An event without a place, a text and fields.
    pub fn new(time: String, level: Level, event: &str) -> Event {
        Event {
            sequence: 0,
            time,
            level,
            event: event.to_owned(),
            pool: None,
            generation: None,
            slot: None,
            pid: None,
            text: None,
            times: None,
            over_ms: None,
            fields: Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_beside_the_common_keys_and_come_back() {
        let mut event = Event::new("2026-11-23T12:00:00Z".into(), Level::Warning, "worker-exited");
        event.pool = Some("site".into());
        event.text = Some("it left".into());
        event.fields.insert("code".into(), 3.into());
        event.fields.insert("stderr".into(), vec!["no database"].into());
        let line = serde_json::to_string(&event).expect("a document");
        assert_eq!(
            line,
            r#"{"sequence":0,"time":"2026-11-23T12:00:00Z","level":"warning","event":"worker-exited","pool":"site","text":"it left","code":3,"stderr":["no database"]}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&line).expect("round trip"), event);
    }
}
