//! What cannot be done safely: to own an fd of which only the number is known, and to ask who made a socket, or wrote to it.
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

/// recvmsg(MSG_PEEK) of a connection on which `SO_PASSCRED` is set: the process that has written what can be read next, which
/// stays to be read; 0 when the kernel does not tell, or it is outside our pid namespace. `None` when there is nothing.
pub(crate) fn writer(socket: BorrowedFd<'_>) -> Option<u32> {
    const LENGTH: u32 = size_of::<libc::ucred>() as u32;
    // SAFETY: it computes a number.
    const SPACE: usize = unsafe { libc::CMSG_SPACE(LENGTH) } as usize;
    /// As aligned as a head must be. The credentials come first and fill it: fds that come beside them find no room.
    #[repr(C)]
    union Control {
        head: libc::cmsghdr,
        bytes: [u8; SPACE],
    }
    let (mut byte, mut control) = (0_u8, Control { bytes: [0; SPACE] });
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: all of it may be zero: no address, no parts, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    (message.msg_control, message.msg_controllen) = ((&raw mut control).cast(), SPACE as _);
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` refers to `byte` and to `control`, which outlive the call, with their true lengths.
    if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) } != 1 {
        return None;
    }
    // SAFETY: the kernel has written the head if `msg_controllen` says so, which is what CMSG_FIRSTHDR looks at.
    let head = unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() };
    let is_sender =
        |head: &&libc::cmsghdr| (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS);
    let Some(head) = head.filter(is_sender) else { return Some(0) };
    // SAFETY: a message of this kind is a `ucred` (unix(7)), for which `control` has room; it need not be aligned.
    let sender = unsafe { libc::CMSG_DATA(head).cast::<libc::ucred>().read_unaligned() };
    Some(sender.pid.cast_unsigned())
}
