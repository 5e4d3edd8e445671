//! Reads journal files directly, much faster than `journalctl` prints them, and asks `journalctl` for what it does not know.
//!
//! Nothing in a file is believed. Every offset is looked at before it is followed, chains go in one direction only and so have an
//! end, and nothing is allocated because a length says so. A file that is truncated or changed while it is read is an error
//! value: files are read, not mapped.

mod arrays;
mod child;
mod fault;
mod fields;
mod file;
mod finder;
mod order;
mod places;
mod pool;
mod query;
mod read;
mod room;
mod values;

pub use fault::Fault;
pub use places::places;
pub use query::{Accepts, Query, Test};
pub use read::{Reader, Rest, Summary, Trouble, read};
