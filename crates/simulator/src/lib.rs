//! A lying world in virtual time, and the laws that the policy must keep in it.
//!
//! `case` says what a schedule is made of, `generate` makes one from a seed, `world` plays it, `laws` and `watch` judge
//! every step with what `book` knows, `shrink` makes a failing case small and `script` writes it down.
#![forbid(unsafe_code)]

mod agenda;
mod book;
pub mod case;
pub mod crowd;
pub mod generate;
pub mod law;
mod laws;
mod life;
pub mod mutants;
mod orders;
mod outside;
mod random;
pub mod scenario;
pub mod scenarios;
pub mod script;
pub mod shrink;
mod stage;
mod traffic;
mod watch;
pub mod world;
