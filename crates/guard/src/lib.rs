//! The guard: reads the journal of services that steadfast does not run, counts matching entries in a sliding window, and
//! acts on their units.

mod entry;
mod export;
pub mod journal;
mod json_lines;

pub use entry::Entry;
pub use export::{ExportError, ExportReader, FIELDS_MAX, VALUE_MAX};
pub use json_lines::{JsonError, JsonLines};
