//! HTTP/1.1 from strangers becomes requests like all others.
//!
//! hyper parses and frames; there is no runtime. A connection (`connection`) is polled when its socket is ready, when
//! the core has given it something, or when hyper woke itself; the core never holds a future, and no future the core.
//! What hyper holds of a connection, its socket (`wire`) and its service (`entrance`), shares one state (`shared`) with
//! the connection's owner. hyper hands out one request at a time, so a connection has at most one exchange.
//!
//! An idle connection costs little: after a second hyper's state and buffers are dropped, and made anew when something
//! comes. `strict` reads the same bytes as hyper, and objects to what others could read otherwise.

mod adapter;
mod answer;
mod connection;
mod entrance;
mod exchange;
mod fact;
mod settings;
mod shared;
mod signal;
mod strict;
#[cfg(test)]
mod tests;
mod variables;
mod wire;

pub(crate) use self::adapter::Http;
pub(crate) use self::fact::{ConnectionKey, ExchangeKey, Fact, Length};
pub(crate) use self::settings::Settings;
