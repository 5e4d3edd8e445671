//! The orders that are answered at once: stop, start, restart, scale, drain, kill, breaker.

use steadfast_proto::control::{Answer, Request};
use steadfast_proto::exit::ExitCode;

use crate::arguments::Target;
use crate::client::AT_ONCE;
use crate::failure::Failure;
use crate::output;
use crate::places::{self, Around};
use crate::units::clean;

/// Gives the order and tells what the supervisor says.
pub(super) fn order(request: &Request, target: &Target, around: &Around) -> Result<ExitCode, Failure> {
    request.check()?;
    let mut client = places::supervisor(target, around)?;
    client.ask(request, Some(AT_ONCE))?;
    let (answer, _) = client.finish(|_, _| Ok(()))?;
    if let Answer::Done { text } = answer
        && !text.is_empty()
    {
        output::result(&format!("{}\n", clean(&text)))?;
    }
    Ok(ExitCode::Good)
}
