//! `steadfast events`: the recent events, and with `-f` those that come.

use rustix::event::{PollFd, PollFlags, poll};

use steadfast_proto::control::{Answer, Request};
use steadfast_proto::event::{Event, Level};
use steadfast_proto::exit::ExitCode;

use crate::arguments::{Events, Target};
use crate::client::{AT_ONCE, Client};
use crate::failure::Failure;
use crate::output::{self, Paint, Style};
use crate::places::{self, Around};
use crate::units::clean;

pub(super) fn events(
    events: &Events,
    target: &Target,
    around: &Around,
) -> Result<ExitCode, Failure> {
    let request = Request::Events {
        n: events.number,
        follow: events.follow,
        pool: events.pool.clone(),
    };
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
                    Failure::new(
                        ExitCode::Bug,
                        format!("an event cannot be written as JSON: {error}"),
                    )
                })?;
                output::result(&format!("{line}\n"))?;
            }
            Some(Answer::Event { event }) => output::result(&line(&event, style))?,
            Some(Answer::Error(refusal)) => return Err(refusal.into()),
            Some(Answer::Done { .. }) => return Ok(ExitCode::Good),
            Some(Answer::Status { .. } | Answer::Progress { .. }) => {}
            None => {
                return Err(Failure::new(ExitCode::Failed, "the supervisor has ended the stream of events")
                    .hint("it has stopped, or this reader was too slow for it; start again with `steadfast events -f`"));
            }
        }
    }
}

/// Waits for the supervisor's next word; false when the reader of our stdout has left in the meantime, which we would
/// otherwise notice only with the next event.
fn wait(client: &Client) -> bool {
    let stdout = std::io::stdout();
    let mut fds = [
        PollFd::new(client.stream(), PollFlags::IN),
        PollFd::new(&stdout, PollFlags::empty()),
    ];
    // An interrupted or failed poll leaves the waiting to the read.
    let _ = poll(&mut fds, None);
    let gone = fds[1].revents().contains(PollFlags::ERR);
    !gone
}

/// One event for people: when, how grave, where, and the sentence.
fn line(event: &Event, style: Style) -> String {
    let place = match (&event.pool, event.slot) {
        (Some(pool), Some(slot)) => format!("{pool}/{slot}"),
        (Some(pool), None) => pool.clone(),
        (None, _) => String::new(),
    };
    let paint = match event.level {
        Level::Error => Some(Paint::Bad),
        Level::Warning => Some(Paint::Warning),
        Level::Notice => Some(Paint::Strong),
        Level::Info | Level::Debug => None,
    };
    let name = format!("{:<22}", clean(&event.event));
    let name = paint.map_or(name.clone(), |paint| style.paint(paint, &name));
    let time = style.paint(Paint::Faint, &clean(&event.at));
    let place = if place.is_empty() {
        place
    } else {
        format!("{}: ", clean(&place))
    };
    let repeats = match (event.times, event.within_ms) {
        (Some(times), Some(within)) if times > 1 => {
            format!(" (×{times} in {} s)", within.div_ceil(1000))
        }
        (Some(times), None) if times > 1 => format!(" (×{times})"),
        _ => String::new(),
    };
    format!("{time} {name} {place}{}{repeats}\n", clean(&event.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let mut event = Event::new(
            "2026-11-23T12:00:00Z".into(),
            Level::Warning,
            "worker-exited",
            "exited with 3: no \x1b[2Jdatabase".into(),
        );
        event.pool = Some("site".into());
        event.slot = Some(2);
        event
    }

    #[test]
    fn an_event_is_one_line_without_control_characters() {
        assert_eq!(
            line(&event(), Style::default()),
            "2026-11-23T12:00:00Z worker-exited          site/2: exited with 3: no \u{fffd}[2Jdatabase\n"
        );
    }

    #[test]
    fn repeats_are_counted_at_the_end() {
        let mut event = event();
        event.times = Some(412);
        event.within_ms = Some(9_600);
        assert!(line(&event, Style::default()).ends_with(" (×412 in 10 s)\n"));
    }

    #[test]
    fn a_grave_event_is_coloured_where_colours_are() {
        let coloured = line(
            &event(),
            Style {
                colour: true,
                width: None,
            },
        );
        assert!(coloured.contains("\x1b[33mworker-exited"), "{coloured:?}");
    }
}
