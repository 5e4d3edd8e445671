//! The one thing that cannot be done safely: to own an fd of which only the number is known.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use rustix::net::SocketType;

/// The fd by which the front inherits its channel.
pub const CHANNEL: i32 = 3;

/// The channel that the supervisor left at [`CHANNEL`].
pub(crate) fn channel() -> Result<OwnedFd, String> {
    let missing = |why: String| {
        format!(
            "`steadfast front` is started by the supervisor, with its channel as fd {CHANNEL}: {why}; use `steadfast run`"
        )
    };
    // SAFETY: the borrow ends within this function, and nothing of this process has closed the fd before.
    let borrowed = unsafe { BorrowedFd::borrow_raw(CHANNEL) };
    match rustix::net::sockopt::socket_type(borrowed) {
        Ok(SocketType::SEQPACKET) => {}
        Ok(_) => return Err(missing("that is another kind of socket".to_owned())),
        Err(error) => return Err(missing(error.to_string())),
    }
    let _ = rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC);
    // SAFETY: called once, at the start of the process; nobody else owns an inherited fd.
    Ok(unsafe { OwnedFd::from_raw_fd(CHANNEL) })
}
