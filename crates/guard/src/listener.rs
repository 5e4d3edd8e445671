//! Who hears what happens to the guard: the binary's log.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::note::Note;

/// Who hears what happens.
pub trait Listener {
    /// Something happened.
    fn tell(&mut self, note: &Note);
    /// Does what is due, and writes what waits.
    fn turn(&mut self);
    /// How long until [`Listener::turn`] has something to do.
    fn wait(&self) -> Option<Duration>;
    /// While something waits to be written: where to.
    fn blocked_fd(&self) -> Option<BorrowedFd<'_>>;
}
