//! The guard: reads the journal of services that steadfast does not run, counts matching entries in a sliding window, and
//! acts on their units.
//!
//! [`machine`] decides, and does nothing else; `guard run` turns it in `run`, `guard test` in [`rehearsal`].

mod count;
mod entry;
mod export;
pub mod journal;
mod json_lines;

pub use export::{ExportError, ExportReader, FIELDS_MAX, VALUE_MAX};
pub use json_lines::{JsonError, JsonLines};
pub mod facts;
mod ledger;
pub mod machine;
pub mod moment;
pub mod note;
pub mod pattern;
pub mod rehearsal;
pub mod rule;
mod window;

pub use entry::Entry;
pub use window::Hit;
