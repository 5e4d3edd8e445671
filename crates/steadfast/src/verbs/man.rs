//! `steadfast man [DIR]`: pages of section 1, from the same words as `-h`.

use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;

use steadfast_proto::exit::ExitCode;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output;

pub(super) fn man(directory: Option<&Path>) -> Result<ExitCode, Failure> {
    let command = Arguments::command();
    if let Some(directory) = directory {
        clap_mangen::generate_to(command, directory).map_err(|error| {
            let what = format!("cannot write manual pages to {}: {error}", directory.display());
            Failure::new(ExitCode::Failed, what)
                .hint("name a directory that exists and that you may write to, such as /usr/local/share/man/man1")
        })?;
        return Ok(ExitCode::Good);
    }
    let mut page = Vec::new();
    Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::new(ExitCode::Bug, format!("cannot make the manual page: {error}")))?;
    output::result(&String::from_utf8_lossy(&page))?;
    Ok(ExitCode::Good)
}
