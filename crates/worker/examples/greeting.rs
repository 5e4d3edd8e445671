//! The smallest worker that there is: a greeting.

use std::io::Write;
use std::process::ExitCode;

use steadfast_worker::Worker;

fn main() -> ExitCode {
    Worker::serve(|request, response| {
        response.header("Content-Type", "text/plain")?;
        writeln!(response, "Hello. You have asked for {}.", request.path())?;
        Ok(())
    })
}
