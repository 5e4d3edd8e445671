//! Every decision of steadfast, as a pure state machine: facts and the time go in, orders come out.
//!
//! No clock, no I/O, no randomness from outside, nothing that can fail. See [`policy::Policy`] for the contract.
//!
//! # To embed it
//!
//! steadfast's supervisor is one driver of this machine; a program that starts workers of its own can be another, and then
//! decides itself what happens when they cycle rapidly. A driver does four things, in a loop:
//!
//! 1. it waits for a fact (a worker is ready, has served, has ended) or until [`policy::Policy::next_deadline`];
//! 2. it tells the fact as an [`event::Event`], with a monotonic clock of its own ([`time::Instant`]); at the deadline it tells
//!    [`event::Event::Woken`];
//! 3. it carries out the [`command::Command`]s that come out, in their order, and tells each answer as a fact again: a started
//!    worker [`event::Event::WorkerSpawned`] or [`event::Event::SpawnFailed`], a drained one [`event::Event::WorkerDrained`];
//! 4. it shows people the [`note::Note`]s, and may act on them: [`note::Note::BreakerOpened`] is the moment at which workers
//!    have failed so often that only one trial at a time is started.
//!
//! ```
//! use steadfast_policy::class::Exit;
//! use steadfast_policy::command::Command;
//! use steadfast_policy::event::{Event, Files};
//! use steadfast_policy::figures::Figures;
//! use steadfast_policy::ids::PoolId;
//! use steadfast_policy::policy::Policy;
//! use steadfast_policy::time::Instant;
//!
//! /// Workers that end as soon as they are started: how many starts are there before the breaker opens?
//! fn starts_of_a_broken_program() -> u32 {
//!     let mut policy = Policy::new(1);
//!     let (mut now, mut orders, mut starts) = (Instant::ZERO, Vec::new(), 0);
//!     policy.handle(now, Event::PoolAdded { pool: PoolId(1), figures: Figures::default() }, &mut orders);
//!     loop {
//!         if policy.view(now).pool(PoolId(1)).is_some_and(|pool| pool.breaker().reason.is_some()) {
//!             return starts;
//!         }
//!         let mut answers = Vec::new();
//!         for order in orders.drain(..) {
//!             if let Command::StartWorker { worker, .. } = order {
//!                 starts += 1;
//!                 answers.push(Event::WorkerSpawned { worker, files: Files::Noted });
//!                 answers.push(Event::WorkerExited { worker, exit: Exit::Code(3), oom: false });
//!             }
//!         }
//!         if answers.is_empty() {
//!             now = policy.next_deadline().expect("a missing worker is due some time");
//!             answers.push(Event::Woken);
//!         }
//!         for answer in answers {
//!             policy.handle(now, answer, &mut orders);
//!         }
//!     }
//! }
//!
//! // One for each of the four workers that a pool has by default.
//! assert_eq!(starts_of_a_broken_program(), 4);
//! ```
//!
//! `examples/embed.rs` is a whole driver, with processes.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod adoption;
mod backoff;
mod breaker;
mod bucket;
mod children;
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
mod lookout;
mod need;
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
