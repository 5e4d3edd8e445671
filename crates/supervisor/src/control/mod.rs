//! The control socket: connections, what may be asked, and who waits for what.

pub(crate) mod connection;
pub(crate) mod followers;
pub(crate) mod server;
pub(crate) mod verbs;
pub(crate) mod waits;
