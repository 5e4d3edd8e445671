//! `steadfast completions SHELL`.

use clap::CommandFactory;
use clap_complete::Shell;

use steadfast_proto::exit::ExitCode;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output;

pub(super) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "steadfast", &mut script);
    output::result(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::Good)
}
