//! Serves a tower `Service`: many requests at a time in one process, over FastCGI, HTTP and CGI.
//!
//! # Theory of operation
//!
//! The runtime is made after the fork, for a zygote has one thread. Then `life` does what the plain loop does, waiting for
//! several things at a time: it accepts while fewer requests are in hand than `concurrency`, hears the link and SIGTERM, and
//! leaves when it must. `load` counts what is in hand.
//!
//! A connection is one task that reads (`connection`), and one for each request in hand (`exchange`), which runs the service
//! and writes its answer; records of several answers are mixed, each whole. What was read goes through `requests`, which knows
//! the requests of one connection and does no I/O. `http1` gives HTTP connections to hyper, `cgi` answers the one request of a
//! CGI program; all three run the service by `handler`, where panics and errors end.
//!
//! **Back-pressure.** An answer is taken from the application piece by piece, the next when the last is with the kernel. Of a
//! body that nobody reads 256 KiB are kept ([`body::WINDOW`]); then the connection is not read until somebody does. FastCGI
//! cannot stop one request alone, so that others on the same connection wait, too: for 30 s, then the body fails.
//!
//! **The end of a request.** An id is free for the web server as soon as it reads END: so `requests` forgets it before END is
//! written, and the connection stays open until it was.

mod answer;
pub(crate) mod body;
mod cgi;
pub(crate) mod choices;
mod connection;
mod exchange;
mod handler;
mod http1;
pub(crate) mod leaving;
mod life;
mod load;
mod office;
mod requests;
pub(crate) mod serve;
mod socket;
mod wire;
