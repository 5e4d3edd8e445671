//! Figures that several rooms go by.

/// A worker is read from while its visitor has less than this to take.
pub(crate) const BACKLOG_HIGH: usize = 256 * 1024;
/// It is read from again when the visitor has less than this.
pub(crate) const BACKLOG_LOW: usize = 64 * 1024;
