//! Asks the demo's own supervisor over its control socket: how it is, what has happened, and to do something.

use std::path::Path;
use std::time::Duration;

use steadfast_proto::control::{Answer, Request};
use steadfast_proto::event::Event;
use steadfast_proto::exit::ExitCode;
use steadfast_proto::status::Status;

use crate::client::{Client, Unreachable};
use crate::failure::Failure;

/// A visitor waits for it, and `request-timeout` is not far.
const WITHIN: Duration = Duration::from_secs(2);
/// More events than this are not shown.
const EVENTS: u32 = 40;

/// What the supervisor says.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Seen {
    pub(crate) status: Status,
    /// The oldest first.
    pub(crate) events: Vec<Event>,
}

/// How it is, and what has happened.
///
/// # Errors
/// It does not answer.
pub(crate) fn look(control: &Path) -> Result<Seen, Failure> {
    let mut events = Vec::new();
    let asked = Request::Events { n: EVENTS, follow: false, pool: None };
    ask(control, &asked, |answer| {
        if let Answer::Event { event } = answer {
            events.push(event);
        }
    })?;
    Ok(Seen { status: status(control)?, events })
}

/// How it is.
///
/// # Errors
/// It does not answer.
pub(crate) fn status(control: &Path) -> Result<Status, Failure> {
    match ask(control, &Request::Status { pool: None }, |_| {})? {
        Answer::Status { status } => Ok(status),
        _ => Err(Failure::new(ExitCode::Failed, "the supervisor did not answer with its status")),
    }
}

/// Gives an order.
///
/// # Errors
/// It does not answer, or refuses.
pub(crate) fn order(control: &Path, request: &Request) -> Result<(), Failure> {
    ask(control, request, |_| {}).map(|_| ())
}

fn ask(control: &Path, request: &Request, mut meanwhile: impl FnMut(Answer)) -> Result<Answer, Failure> {
    let mut client = Client::connect(control).map_err(|unreachable| match unreachable {
        Unreachable::Absent(why) => Failure::new(ExitCode::Failed, format!("the supervisor does not answer: {why}")),
        Unreachable::Failed(failure) => failure,
    })?;
    client.ask(request, Some(WITHIN))?;
    let (answer, _) = client.finish(|answer, _| {
        meanwhile(answer);
        Ok(())
    })?;
    Ok(answer)
}
