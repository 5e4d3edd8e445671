//! Every decision of steadfast, as a pure state machine: facts and the time go in, orders come out.
//!
//! No clock, no I/O, no randomness from outside, nothing that can fail. See [`policy::Policy`] for the contract.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod backoff;
mod breaker;
mod bucket;
pub mod class;
pub mod command;
pub mod event;
pub mod figures;
pub mod ids;
pub mod note;
pub mod policy;
pub mod record;
pub mod rules;
pub mod time;
pub mod view;

mod deadlines;
mod exits;
mod generation;
mod ladder;
mod leaving;
mod pool;
mod random;
mod rollout;
mod service;
mod sizing;
mod starts;
mod stopping;
mod suspects;
mod window;
mod words;
mod worker;
mod zygotes;
