//! Events as lines for people: time, place, what, why.
//!
//! The time is UTC in RFC 3339, as php-fpm's and journald's exports can be told to: a log that is read on two machines
//! must not depend on their time zones.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::event::{Event, Stamped};
use super::kind::Level;
use crate::output::escape;
use crate::signals::signal_name;

/// No text of an event takes more than this in a line.
const TEXT_MAX: usize = 4096;

/// RFC 3339 with milliseconds.
pub fn time(wall: SystemTime) -> String {
    let timestamp = Timestamp::try_from(wall).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{timestamp:.3}")
}

/// A length of time in its most telling unit.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    match length.as_millis() {
        0..1000 => format!("{} ms", length.as_millis()),
        1000..100_000 => {
            let text = format!("{:.1} s", length.as_secs_f64());
            text.replace(".0 s", " s")
        }
        _ if seconds < 7200 => format!("{} min", seconds / 60),
        _ if seconds < 172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// The event in words, without time and place; one line.
pub fn sentence(event: &Event) -> String {
    let mut text = event.kind.name().to_owned();
    let mut ends: Vec<String> = Vec::new();
    ends.extend(event.class.map(str::to_owned));
    ends.extend(event.signal.map(|number| signal_name(number).to_owned()));
    ends.extend(event.code.map(|code| format!("code {code}")));
    ends.extend(event.name.as_deref().map(|name| escape(name.as_bytes(), TEXT_MAX)));
    ends.extend(event.ran.map(|ran| format!("after {}", duration(ran))));
    ends.extend(event.took.map(|took| format!("took {}", duration(took))));
    let serving = if event.kind.is_of_request() { "" } else { "serving " };
    ends.extend(event.request.as_deref().map(|line| format!("{serving}{}", escape(line.as_bytes(), TEXT_MAX))));
    ends.extend(event.id.as_deref().map(|id| format!("id {}", escape(id.as_bytes(), TEXT_MAX))));
    ends.extend(event.after.map(|after| format!("after {}", duration(after))));
    if !ends.is_empty() {
        let _infallible = write!(text, " {}", ends.join(", "));
    }
    for words in [&event.message, &event.reason].into_iter().flatten() {
        let _infallible = write!(text, ": {}", escape(words.as_bytes(), TEXT_MAX));
    }
    if event.times > 1 {
        let _infallible = write!(text, " ×{}", event.times);
        if let Some(over) = event.over {
            let _infallible = write!(text, " in {}", duration(over));
        }
    }
    text
}

/// `site/1`, `site`, or `steadfast` for the supervisor itself; then generation and pid.
fn place(event: &Event) -> String {
    let mut text = event.pool.as_deref().unwrap_or("steadfast").to_owned();
    if let Some(slot) = event.slot {
        let _infallible = write!(text, "/{slot}");
    }
    if let Some(generation) = event.generation {
        let _infallible = write!(text, " g{generation}");
    }
    if let Some(pid) = event.pid {
        let _infallible = write!(text, " [{pid}]");
    }
    text
}

/// All lines of an event, each with its newline.
pub fn lines(wall: SystemTime, event: &Event, colour: bool) -> String {
    let (on, off) = match (colour, event.level) {
        (true, Level::Error) => ("\x1b[1;31m", "\x1b[0m"),
        (true, Level::Warning) => ("\x1b[33m", "\x1b[0m"),
        (true, Level::Debug | Level::Info | Level::Notice) | (false, _) => ("", ""),
    };
    let mut text = format!("{} {} {on}{}{off}\n", time(wall), place(event), sentence(event));
    for line in &event.stderr {
        let _infallible = writeln!(text, "  | {}", escape(line.as_bytes(), TEXT_MAX));
    }
    text
}

impl Stamped {
    /// As a person reads it, without a newline at the end.
    pub fn to_human(&self, colour: bool) -> String {
        lines(self.wall, &self.event, colour).trim_end_matches('\n').to_owned()
    }
}
