//! Queue mode's half of the supervisor: the front's process, the channel to it, and what each side says.

pub(crate) mod adopt;
pub(crate) mod channel;
pub(crate) mod diag;
pub(crate) mod hear;
pub(crate) mod judge;
pub(crate) mod notes;
pub(crate) mod private;
pub(crate) mod process;
pub(crate) mod queue;
pub(crate) mod rate;
pub(crate) mod reports;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod succession;
pub(crate) mod tell;

#[cfg(test)]
mod fixture;
