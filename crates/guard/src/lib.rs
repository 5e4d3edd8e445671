//! The guard: reads the journal of services that steadfast does not run, counts matching entries in a sliding window, and
//! acts on their units.

mod entry;

pub use entry::Entry;
