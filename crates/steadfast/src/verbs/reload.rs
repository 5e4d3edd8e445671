//! `steadfast reload`: asks for a new generation and, with `--wait`, tells how it goes.

use std::time::Duration;

use steadfast_proto::control::{Answer, Request};
use steadfast_proto::exit::ExitCode;

use crate::arguments::{Reload, Target};
use crate::client::AT_ONCE;
use crate::failure::Failure;
use crate::output;
use crate::places::{self, Around};
use crate::units::clean;

/// The supervisor keeps the time itself; we only leave when even that does not come.
const LATER: Duration = Duration::from_secs(5);

pub(super) fn reload(reload: Reload, target: &Target, around: &Around) -> Result<ExitCode, Failure> {
    let timeout_ms = reload.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    let request = Request::Reload { pool: reload.pool, wait: reload.wait, timeout_ms };
    request.check()?;
    let mut client = places::supervisor(target, around)?;
    let within = match (reload.wait, reload.timeout) {
        (false, _) => Some(AT_ONCE),
        (true, None) => None,
        (true, Some(timeout)) => Some(timeout + LATER),
    };
    client.ask(&request, within)?;
    let (answer, _) = client.finish(|answer, _| {
        if let Answer::Progress { text } = answer {
            output::message(&format!("{}\n", clean(&text)));
        }
        Ok(())
    })?;
    if let Answer::Done { text } = answer
        && !text.is_empty()
    {
        output::result(&format!("{}\n", clean(&text)))?;
    }
    Ok(ExitCode::Good)
}
