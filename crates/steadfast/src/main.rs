//! The command `steadfast`: reads the arguments, runs one verb, tells what went wrong, and chooses the exit code.

mod arguments;
mod cgi;
mod client;
mod create;
mod demo;
mod exchange;
mod failure;
mod guard;
mod output;
mod places;
mod table;
mod units;
mod verbs;

use std::panic::{self, PanicHookInfo};
use std::process;

use steadfast_proto::exit::ExitCode;
use steadfast_supervisor::upgrade::rescue;

use crate::arguments::Arguments;

fn main() -> process::ExitCode {
    // An upgrade that fails here, whatever of it, executes the program before us again.
    rescue::arm();
    panic::set_hook(Box::new(|info| output::message(&bug(info))));
    let code = panic::catch_unwind(|| match arguments::parse(std::env::args_os()) {
        Ok(arguments) => verb(arguments),
        Err(error) => usage(&error).number().into(),
    });
    rescue::go_back("it ended before its first turn");
    code.unwrap_or(ExitCode::Bug.number().into())
}

fn verb(arguments: Arguments) -> process::ExitCode {
    match verbs::perform(arguments) {
        Ok(code) => code,
        Err(failure) => {
            rescue::go_back(&failure.message);
            output::failure(&failure);
            failure.code.number().into()
        }
    }
}

/// Wrong arguments, or help and version, which clap hands over in the same way.
fn usage(error: &clap::Error) -> ExitCode {
    let style = if error.use_stderr() { output::stderr_style() } else { output::stdout_style() };
    let text = error.render();
    let text = if style.colour { text.ansi().to_string() } else { text.to_string() };
    if error.use_stderr() {
        output::message(&text);
        return ExitCode::Usage;
    }
    match output::result(&text) {
        Ok(()) => ExitCode::Good,
        Err(failure) => {
            output::failure(&failure);
            failure.code
        }
    }
}

fn bug(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
    let payload = info.payload();
    let what = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let what = what.unwrap_or("no message");
    format!(
        "error: a defect in steadfast {}{place}: {what}\nhint: please report it with this line and what you typed\n",
        env!("CARGO_PKG_VERSION")
    )
}
