//! Events as logfmt: `key=value` pairs in a line, with the names of the JSON form, as Loki and Heroku's tools read them.

use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime};

use super::event::Event;
use super::human;
use crate::signals::signal_name;

/// One line, without a newline. What a worker wrote on stderr is one value, its lines apart by `\n`.
pub fn line(wall: SystemTime, event: &Event) -> String {
    let mut pairs = Pairs(String::new());
    pairs.add("time", Some(human::time(wall)));
    pairs.add("level", Some(event.level.word()));
    pairs.add("event", Some(event.kind.name()));
    pairs.add("pool", event.pool.as_deref());
    pairs.add("generation", event.generation);
    pairs.add("slot", event.slot);
    pairs.add("pid", event.pid);
    pairs.add("class", event.class);
    pairs.add("code", event.code);
    pairs.add("signal", event.signal.map(signal_name));
    pairs.add("name", event.name.as_deref());
    pairs.add("message", event.message.as_deref());
    pairs.add("request", event.request.as_deref());
    pairs.add("id", event.id.as_deref());
    pairs.add("after_ms", event.after.as_ref().map(Duration::as_millis));
    pairs.add("ran_ms", event.ran.as_ref().map(Duration::as_millis));
    pairs.add("took_ms", event.took.as_ref().map(Duration::as_millis));
    pairs.add("reason", event.reason.as_deref());
    pairs.add("stderr", (!event.stderr.is_empty()).then(|| event.stderr.join("\n")));
    pairs.add("times", (event.times > 1).then_some(event.times));
    pairs.add("over_ms", event.over.as_ref().map(Duration::as_millis));
    pairs.0
}

struct Pairs(String);

impl Pairs {
    fn add(&mut self, key: &str, value: Option<impl Display>) {
        let Some(value) = value.map(|value| value.to_string()) else {
            return;
        };
        let blank = if self.0.is_empty() { "" } else { " " };
        let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\');
        let _infallible = if !value.is_empty() && value.chars().all(is_plain) {
            write!(self.0, "{blank}{key}={value}")
        } else {
            write!(self.0, "{blank}{key}={}", quoted(&value))
        };
    }
}

/// In quotes, with JSON's escapes; besides, nothing that a terminal would obey is left as it is.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        let _infallible = match c {
            '"' | '\\' => write!(text, "\\{c}"),
            '\n' => write!(text, "\\n"),
            '\r' => write!(text, "\\r"),
            '\t' => write!(text, "\\t"),
            c if c.is_control() => write!(text, "\\u{:04x}", u32::from(c)),
            c => write!(text, "{c}"),
        };
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::kind::Kind;

    #[test]
    fn a_line_can_be_read_back_word_by_word() {
        let mut event = Event::new(Kind::WorkerExited);
        event.pool = Some("site".into());
        event.slot = Some(2);
        event.message = Some("no \"database\"\u{1b}[2J".into());
        event.reason = Some(String::new());
        event.ran = Some(Duration::from_millis(1500));
        event.stderr = vec!["a = 1".into(), "b".into()];
        assert_eq!(
            line(SystemTime::UNIX_EPOCH, &event),
            "time=1970-01-01T00:00:00.000Z level=warning event=worker-exited pool=site slot=2 \
             message=\"no \\\"database\\\"\\u001b[2J\" ran_ms=1500 reason=\"\" stderr=\"a = 1\\nb\""
        );
    }
}
