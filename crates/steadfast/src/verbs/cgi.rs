//! `steadfast cgi`: the FastCGI worker that runs a CGI program for each request.

use std::cell::RefCell;
use std::process;

use steadfast_proto::exit::ExitCode;
use steadfast_worker::{Failure as WorkerFailure, Worker};

use crate::arguments::Cgi;
use crate::cgi::gateway::{Gateway, Options};
use crate::failure::Failure;

/// Serves until it is asked to leave; the exit code is that of a worker.
pub(super) fn cgi(arguments: Cgi) -> Result<process::ExitCode, Failure> {
    let Cgi { root, timeout, pass, program } = arguments;
    if program.is_empty() && root.is_empty() {
        let why = "neither a program nor a directory: nothing is ever run without one of them";
        return Err(Failure::new(ExitCode::Usage, why).hint(
            "`steadfast cgi -- PROGRAM` runs that one, `steadfast cgi --root DIR` the scripts that the web server names, below DIR only",
        ));
    }
    // It is executed as /proc/self/exe, whose last part would be its name in lists of processes.
    let _nameless = rustix::thread::set_name(c"steadfast");
    let options = Options { program, roots: root, pass, timeout: timeout.filter(|timeout| !timeout.is_zero()) };
    let gateway = RefCell::new(None);
    let code = Worker::builder()
        .preload("find the program", || {
            *gateway.borrow_mut() = Some(Gateway::new(&options).map_err(WorkerFailure::request)?);
            Ok(())
        })
        .serve(|request, response| match &mut *gateway.borrow_mut() {
            Some(gateway) => gateway.handle(request, response),
            None => Err(WorkerFailure::request("there is nothing to run")),
        });
    Ok(code)
}
