//! The configuration: TOML or a command line to types, with every error at once and in its place.
//!
//! [`load::load`] reads a file, [`command_line::from_command`] the arguments of `run -- COMMAND`;
//! [`machine::check_machine`] then compares the result with the machine. [`report`] draws what is wrong.

pub mod command_line;
pub mod effective;
pub mod load;
pub mod machine;
pub mod report;
pub mod schema;
pub mod types;

mod front;
mod guard;
mod include;
mod known;
mod lookup;
mod place;
mod pool;
mod queue;
mod rules;
mod tree;
mod values;
mod verify;
