//! A worker's life: its steps, then accept, serve, accept, until it is asked to leave or cannot go on.

use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{Timespec, poll};
use rustix::io::Errno;
use steadfast_proto::link::{FromWorker, Role};

use crate::builder::{Builder, Handler, Step, Worker};
use crate::codes::{EX_FCGI_ACCEPT, EX_FCGI_CREATE, EX_OK, EX_PRELOAD, EX_START};
use crate::connection::{Desk, Handlers, Outcome};
use crate::door::{self, Door, Listener};
use crate::failure::Failure;
use crate::link::{self, Link};
use crate::request::Request;
use crate::response::Response;
use crate::{panics, sys, zygote};

/// So many failures of accept in a row, and a worker cannot go on.
pub(crate) const ACCEPT_FAILURES_MAX: u32 = 5;
/// When there are no file descriptors left, others may soon close some.
pub(crate) const SHORTAGE: Duration = Duration::from_secs(1);

impl Worker {
    /// Serves requests without further ado: see [`Builder::serve`].
    pub fn serve<H>(handler: H) -> ExitCode
    where
        H: FnMut(&mut Request<'_>, &mut Response<'_>) -> Result<(), Failure>,
    {
        Worker::builder().serve(handler)
    }
}

impl Builder<'_> {
    /// Takes the steps, then serves requests until it is asked to leave; the exit code says why it has left
    /// ([`crate::codes`]). Started as a zygote (`launch = "zygote"`) it forks workers, and returns in each of them, too.
    ///
    /// As a CGI program (no socket on fd 0) it answers the one request. Its stderr is the log, stdout is not for it.
    pub fn serve<H>(self, mut handler: H) -> ExitCode
    where
        H: FnMut(&mut Request<'_>, &mut Response<'_>) -> Result<(), Failure>,
    {
        ExitCode::from(run(self, 1, |builder, link| serve(builder, &mut handler, link)))
    }
}

/// From the start of the process to its exit code. `serve` is what a worker does after the fork, if there is one;
/// `concurrency` is how many requests it will take at a time.
pub(crate) fn run<'a>(
    mut builder: Builder<'a>,
    concurrency: u32,
    serve: impl FnOnce(&mut Builder<'a>, &mut Link) -> Result<u8, Failure>,
) -> u8 {
    panics::watch();
    let role = link::role();
    let mut link = Link::adopt();
    link.hello(role, concurrency);
    if let Err(failure) = take(&mut builder.preload, "preload", |message| Failure::broken(EX_PRELOAD, message)) {
        return link.leave_with(role, &failure);
    }
    if zygote::is_wanted(role, &link) {
        match zygote::run(&mut link) {
            None => return EX_OK,
            Some(own) => {
                link = own;
                link.hello(Role::Worker, concurrency);
            }
        }
    }
    match serve(&mut builder, &mut link) {
        Ok(code) => code,
        Err(failure) => link.leave_with(Role::Worker, &failure),
    }
}

/// Takes steps until one fails. What it fails with, unless it says so itself, is `default`.
pub(crate) fn take(
    steps: &mut [(String, Step<'_>)],
    kind: &str,
    default: impl Fn(String) -> Failure,
) -> Result<(), Failure> {
    for (name, step) in steps {
        let result = panics::catch(step).unwrap_or_else(|panic| Err(Failure::request(panic)));
        if let Err(mut failure) = result {
            let message = format!("{kind} step \"{name}\": {}", failure.message);
            if !failure.is_final() {
                failure = default(String::new());
            }
            failure.message = message;
            return Err(failure);
        }
    }
    Ok(())
}

fn serve<'a>(builder: &mut Builder<'a>, handler: &mut Handler<'_>, link: &mut Link) -> Result<u8, Failure> {
    take(&mut builder.start, "start", |message| Failure::failed(EX_START, message))?;
    let door = door::find(builder.listen.as_deref(), "").map_err(|why| Failure::failed(EX_FCGI_CREATE, why))?;
    let mut desk = Desk::new(builder.limits, builder.after_panic);
    let mut authorizer = builder.authorizer.take();
    let mut handlers = Handlers { responder: handler, authorizer: authorizer.as_deref_mut() };
    let listener = match door {
        Door::Cgi => return desk.serve_cgi(&mut handlers),
        Door::FastCgi(listener) => listener,
    };
    sys::open_spares().map_err(|error| create("open /dev/null", &error))?;
    sys::handle_term().map_err(|error| create("handle SIGTERM", &error))?;
    listener.with(sys::watch_listener);
    link.say(&FromWorker::Ready);
    let result = accept(&listener, &mut desk, &mut handlers, builder.max_requests.map_or(u64::MAX, u64::from), link);
    if sys::is_terminated() {
        say_goodbye(builder);
    }
    result
}

/// What the application does last, when it was asked to leave.
pub(crate) fn say_goodbye(builder: &mut Builder<'_>) {
    for step in &mut builder.on_term {
        if let Err(panic) = panics::catch(step) {
            link::complain(&format!("at SIGTERM: {panic}"));
        }
    }
}

pub(crate) fn create(what: &str, error: &std::io::Error) -> Failure {
    Failure::failed(EX_FCGI_CREATE, format!("cannot {what}: {error}"))
}

/// Accepts and serves. Whether to stop is asked before each accept, and a SIGTERM that comes after the question makes that
/// accept fail ([`sys::watch_listener`]).
fn accept(
    listener: &Listener,
    desk: &mut Desk,
    handlers: &mut Handlers<'_, '_>,
    max: u64,
    link: &mut Link,
) -> Result<u8, Failure> {
    let mut left = max;
    let mut failures = 0;
    while !sys::is_terminated() {
        if left == 0 {
            link.say(&FromWorker::Recycle);
            break;
        }
        match listener.accept() {
            Ok(None) => {}
            Ok(Some(stream)) => {
                failures = 0;
                match desk.serve(stream, handlers, left) {
                    Outcome::Served(served) => left = left.saturating_sub(if max == u64::MAX { 0 } else { served }),
                    Outcome::Leave(failure) => return Err(failure),
                }
            }
            Err(_) if sys::is_terminated() => {}
            // The one who wanted to connect has gone.
            Err(Errno::CONNABORTED | Errno::PROTO) => {}
            Err(errno) => {
                failures += 1;
                if failures >= ACCEPT_FAILURES_MAX {
                    let message = format!("accept failed {failures} times in a row: {errno}");
                    return Err(Failure::failed(EX_FCGI_ACCEPT, message));
                }
                if matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) {
                    // poll(2) ends at a signal, as SIGTERM should end this.
                    let timeout = Timespec::try_from(SHORTAGE).unwrap_or_default();
                    let _ = poll(&mut [], Some(&timeout));
                }
            }
        }
    }
    Ok(EX_OK)
}
