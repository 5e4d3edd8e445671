//! Replaces the supervisor's program in place (USR2): same pid, same children, same sockets.
//!
//! ```text
//! begin    waits until everything is at rest, has the new program tried, and executes it
//! trial    a child that finds out whether the new program could take over
//! leave    what this image leaves: the estate, a document in a memfd, and descriptors that stay open
//! rescue   the way back: whatever ends the new image before its first turn executes the old one again
//! take     what the next image takes over
//! ```
//!
//! Nothing of the estate is used up by taking it over: the new image works on copies of the descriptors until its first
//! turn, so that the old one finds everything as it left it.

pub(crate) mod begin;
pub(crate) mod leave;
pub mod rescue;
pub(crate) mod state;
pub(crate) mod take;
pub(crate) mod trial;
