//! `steadfast front`: hidden; the supervisor executes it as the process that reads requests.

use steadfast_proto::exit::ExitCode;

use crate::failure::Failure;

/// Serves until the supervisor says otherwise.
pub(super) fn front() -> Result<ExitCode, Failure> {
    match steadfast_front::run() {
        Ok(()) => Ok(ExitCode::Good),
        Err(message) => {
            Err(Failure::new(ExitCode::Failed, message).hint("it is started by `steadfast run`, not by hand"))
        }
    }
}
