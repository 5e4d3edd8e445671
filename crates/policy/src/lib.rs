//! Every decision of steadfast, as a pure state machine: facts and the time go in, orders come out.
//!
//! No clock, no I/O, no randomness from outside, nothing that can fail. See [`policy::Policy`] for the contract.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod class;
pub mod command;
pub mod event;
pub mod figures;
pub mod ids;
pub mod note;
pub mod record;
pub mod rules;
pub mod time;
