//! The guard: reads the journal of services that steadfast does not run, counts matching entries in a sliding window, and
//! acts on their units.
//!
//! [`machine`] decides, and does nothing else; `guard run` turns it in `run`, `guard test` in [`rehearsal`].

mod clock;
mod count;
mod entry;
mod errand;
mod export;
pub mod facts;
mod follow;
pub mod journal;
mod json_lines;
mod ledger;
mod lines;
pub mod listener;
pub mod machine;
pub mod moment;
pub mod note;
mod notify;
pub mod past;
pub mod pattern;
pub mod query;
pub mod rehearsal;
pub mod rule;
pub mod run;
pub mod sets;
mod store;
mod sys;
mod tail;
mod window;
mod work;

pub use entry::Entry;
pub use export::{ExportError, ExportReader, FIELDS_MAX, VALUE_MAX};
pub use json_lines::{JsonError, JsonLines};
pub use window::Hit;
