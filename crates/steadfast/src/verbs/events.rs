//! `steadfast events`: the recent events, and with `-f` those that come.

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::Value;

use steadfast_proto::control::{Answer, Request};
use steadfast_proto::event::{Event, Level};
use steadfast_proto::exit::ExitCode;

use crate::arguments::{Events, Target};
use crate::client::{AT_ONCE, Client};
use crate::failure::Failure;
use crate::output::{self, Paint, Style};
use crate::places::{self, Around};
use crate::units::clean;

pub(super) fn events(events: &Events, target: &Target, around: &Around) -> Result<ExitCode, Failure> {
    let request = Request::Events { n: events.number, follow: events.follow, pool: events.pool.clone() };
    request.check()?;
    let mut client = places::supervisor(target, around)?;
    client.ask(&request, if events.follow { None } else { Some(AT_ONCE) })?;
    let style = output::stdout_style();
    loop {
        if events.follow && !client.has_bytes() && !wait(&client) {
            return Ok(ExitCode::Good);
        }
        match client.next()?.map(|(answer, _)| answer) {
            Some(Answer::Event { event }) if events.json => {
                let line = serde_json::to_string(&event).map_err(|error| {
                    Failure::new(ExitCode::Bug, format!("an event cannot be written as JSON: {error}"))
                })?;
                output::result(&format!("{line}\n"))?;
            }
            Some(Answer::Event { event }) => output::result(&line(&event, style))?,
            Some(Answer::Error(refusal)) => return Err(refusal.into()),
            Some(Answer::Done { .. }) => return Ok(ExitCode::Good),
            Some(
                Answer::Status { .. } | Answer::Config { .. } | Answer::Quarantine { .. } | Answer::Progress { .. },
            ) => {}
            None => {
                return Err(Failure::new(ExitCode::Failed, "the supervisor has ended the stream of events").hint(
                    "it has stopped, or this reader was too slow for it; start again with `steadfast events -f`",
                ));
            }
        }
    }
}

/// Waits for the supervisor's next word; false when the reader of our stdout has left in the meantime, which we would
/// otherwise notice only with the next event.
fn wait(client: &Client) -> bool {
    let stdout = std::io::stdout();
    let mut fds = [PollFd::new(client.stream(), PollFlags::IN), PollFd::new(&stdout, PollFlags::empty())];
    // An interrupted or failed poll leaves the waiting to the read.
    let _ = poll(&mut fds, None);
    let gone = fds[1].revents().contains(PollFlags::ERR);
    !gone
}

/// One event for people, as the human log has it: when, where, what; below it the last words of the dead.
fn line(event: &Event, style: Style) -> String {
    let paint = match event.level {
        Level::Error => Some(Paint::Bad),
        Level::Warning => Some(Paint::Warning),
        Level::Notice | Level::Info | Level::Debug => None,
    };
    let text = clean(&event.text.clone().unwrap_or_else(|| words(event)));
    let text = paint.map_or(text.clone(), |paint| style.paint(paint, &text));
    let time = style.paint(Paint::Faint, &clean(&event.time));
    let mut lines = format!("{time} {} {text}\n", place(event));
    for words in event.fields.get("stderr").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        lines.push_str(&format!("  | {}\n", clean(words)));
    }
    lines
}

/// `site/2 g3 [4711]`, or the supervisor itself.
fn place(event: &Event) -> String {
    let mut text = clean(event.pool.as_deref().unwrap_or("steadfast"));
    if let Some(slot) = event.slot {
        text.push_str(&format!("/{slot}"));
    }
    if let Some(generation) = event.generation {
        text.push_str(&format!(" g{generation}"));
    }
    if let Some(pid) = event.pid {
        text.push_str(&format!(" [{pid}]"));
    }
    text
}

/// The event's name and plain fields, where the supervisor sent no sentence.
fn words(event: &Event) -> String {
    let mut text = event.event.clone();
    for (key, value) in &event.fields {
        match value {
            Value::String(value) => text.push_str(&format!(" {key}={value}")),
            Value::Number(value) => text.push_str(&format!(" {key}={value}")),
            Value::Bool(value) => text.push_str(&format!(" {key}={value}")),
            Value::Null | Value::Array(_) | Value::Object(_) => {}
        }
    }
    if let Some(times) = event.times {
        text.push_str(&format!(" ×{times}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let mut event = Event::new("2026-11-23T12:00:00Z".into(), Level::Warning, "worker-exited");
        event.pool = Some("site".into());
        event.slot = Some(2);
        event.generation = Some(3);
        event.pid = Some(4711);
        event.text = Some("worker-exited early, code 3: no \x1b[2Jdatabase".into());
        event
    }

    #[test]
    fn an_event_is_one_line_without_control_characters() {
        assert_eq!(
            line(&event(), Style::default()),
            "2026-11-23T12:00:00Z site/2 g3 [4711] worker-exited early, code 3: no \u{fffd}[2Jdatabase\n"
        );
    }

    #[test]
    fn last_words_stand_below() {
        let mut event = event();
        event.fields.insert("stderr".into(), vec!["one", "t\two"].into());
        let text = line(&event, Style::default());
        assert!(text.ends_with("database\n  | one\n  | t\u{fffd}wo\n"), "{text}");
    }

    #[test]
    fn without_a_sentence_the_fields_speak() {
        let mut event = Event::new("2026-11-23T12:00:00Z".into(), Level::Info, "pool-scaled");
        event.fields.insert("max".into(), 4.into());
        event.times = Some(2);
        assert_eq!(line(&event, Style::default()), "2026-11-23T12:00:00Z steadfast pool-scaled max=4 ×2\n");
    }

    #[test]
    fn a_grave_event_is_coloured_where_colours_are() {
        let coloured = line(&event(), Style { colour: true, width: None });
        assert!(coloured.contains("\x1b[33mworker-exited"), "{coloured:?}");
    }
}
