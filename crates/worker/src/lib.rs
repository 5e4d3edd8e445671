//! Makes a Rust program a FastCGI worker, with the guardrails built in.
//!
//! ```no_run
//! use std::io::Write;
//!
//! fn main() -> std::process::ExitCode {
//!     steadfast_worker::Worker::serve(|request, response| {
//!         response.header("Content-Type", "text/plain")?;
//!         writeln!(response, "Hello. You have asked for {}.", request.path())?;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! The same program runs under `steadfast run`, spawn-fcgi, multiwatch, mod_fcgid and lighttpd, which give it a listening
//! socket on fd 0, and as a CGI program. It takes one request at a time; a process manager runs several of it.
//!
//! # What it does for you
//!
//! * **Steps** ([`Builder::preload`], [`Builder::start`]) before the first request. One that fails or panics ends the
//!   worker with its name and an exit code of its own ([`codes`]); under steadfast that refuses a broken deploy.
//! * **The loop** looks whether to stop before each accept; SIGTERM wakes it there and never cuts a request; five failures
//!   of accept in a row end it, and a lack of file descriptors is waited out.
//! * **Failures.** Every error of a handler, and every panic, is a 500 for this visitor and a line in the log.
//!   [`Failure`] says more: this worker cannot go on, no worker of this code can, or a dependency is away.
//! * **The protocol**: kept connections, bodies of any length in both directions, a client that leaves, GET_VALUES, ABORT.
//!   Small requests cost two system calls on a kept connection and four on a new one, and no allocation.
//! * **Frameworks**, behind features. `http`: handlers on the types of the crate `http` (`Builder::serve_http`). `tower`: a tower
//!   `Service`, such as an axum `Router`, unchanged (`serve`, `Builder::serve_tower`), many requests at a time, over FastCGI,
//!   HTTP and CGI.
//!
//! The rooms: `builder` is what a worker is made of, `life` what it does, `connection` answers the requests of one
//! connection, `input` reads and `output` writes them, `door` is where they come in; `link` speaks with the supervisor,
//! `zygote` forks; `head` and `http_handler` speak the words of the crate `http`, `tower` serves services; `fuzzing` lets tests in;
//! `sys` holds the system calls without a safe form.

mod builder;
mod cgi;
pub mod codes;
mod connection;
mod door;
mod failure;
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "http")]
mod head;
#[cfg(feature = "http")]
mod http_handler;
mod input;
mod life;
mod limits;
mod link;
mod output;
mod panics;
mod params;
mod reason;
mod request;
mod response;
mod sys;
#[cfg(feature = "tower")]
mod tower;
mod zygote;

pub use builder::{AfterPanic, Builder, Worker};
pub use failure::Failure;
#[cfg(feature = "http")]
pub use head::Variables;
#[cfg(feature = "http")]
pub use http_handler::{RequestBody, ResponseBody};
pub use limits::Limits;
pub use request::{Request, Role};
pub use response::Response;
#[cfg(feature = "tower")]
pub use tower::body::Body;
#[cfg(feature = "tower")]
pub use tower::leaving::Leaving;
#[cfg(feature = "tower")]
pub use tower::serve::serve;

/// The code on the pages of `docs/` compiles.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/rust.md")]
    struct Rust;
    #[doc = include_str!("../../../docs/from-procmanager-to-rust.md")]
    struct FromProcManager;
}
