//! What cannot be done safely: to own an fd of which only the number is known, and to ask who made a socket.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
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

/// getsockopt(SO_PEERCRED) of a connection that we have made: the process that called listen(2) at its other end
/// (unix(7)); 0 when it is outside our pid namespace, which rustix's type cannot hold.
pub(crate) fn listener_pid(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    let (fd, level, name) = (socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED);
    // SAFETY: both pointers are valid for the call, and `length` is the size of what the first one refers to.
    match unsafe { libc::getsockopt(fd, level, name, (&raw mut peer).cast(), &raw mut length) } {
        0 => Ok(peer.pid.cast_unsigned()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}
