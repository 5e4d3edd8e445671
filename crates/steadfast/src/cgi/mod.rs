//! A FastCGI worker that runs a CGI program once for each request (RFC 3875): `steadfast cgi`.
//!
//! The rooms: `gateway` is the handler, from a request to its end; `script` finds what a request means; `environment` is
//! what the script finds when it starts; `process` starts and ends it, by the system calls of `sys`; `relay` is the time in
//! between: it carries the body in, the answer and the script's words out, and ends a script that must end; `head` reads
//! the head of an answer; `words` is where the script's stderr goes.

mod environment;
pub(crate) mod gateway;
mod head;
mod process;
mod relay;
mod script;
mod sys;
mod words;
