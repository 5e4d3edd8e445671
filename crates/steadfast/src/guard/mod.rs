//! The guard's side of the command: its arguments, its rules as the configuration has them, and what it tells.

pub(crate) mod options;
pub(crate) mod rehearse;
pub(crate) mod rules;
pub(crate) mod serve;
