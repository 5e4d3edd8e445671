//! Every byte that leaves a process: link messages, control messages, the status and event documents.
//!
//! Nothing here does I/O, and everything that is read is bounded before it is kept.

pub mod control;
pub mod estate;
pub mod event;
pub mod exit;
pub mod fcgi;
pub mod front;
pub mod lines;
pub mod link;
pub mod runtime;
pub mod status;
pub mod text;
