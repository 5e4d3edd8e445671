//! Asks the kernel how many connections wait at a unix listener: by its inode, over sock_diag(7).
//!
//! One socket is named exactly, so nobody else's is looked at and no privilege is needed; the answer is there when the
//! question has been sent. The kernel says ENOENT both for a socket that there is not and where it cannot tell at all,
//! so a socket of our own is asked for first.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `UDIAG_SHOW_RQLEN`.
const SHOW_QUEUES: u32 = 0x10;
/// `UNIX_DIAG_RQLEN`.
const QUEUES: u16 = 4;
/// Of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Of `struct unix_diag_msg`.
const MESSAGE: usize = 16;

/// The way to ask.
#[derive(Debug)]
pub(crate) struct Diag {
    socket: Option<OwnedFd>,
    number: u32,
}

/// What the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// So many connections wait to be accepted.
    Connections(u32),
    /// There is no such socket (any more).
    Nothing,
    /// The kernel does not tell.
    Unknown,
}

impl Diag {
    /// Finds out whether this kernel answers.
    pub(crate) fn new() -> Diag {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG)).ok();
        let mut diag = Diag { socket, number: 0 };
        if !diag.answers() {
            diag.socket = None;
        }
        diag
    }

    /// One that never knows.
    #[cfg(test)]
    pub(crate) fn blind() -> Diag {
        Diag { socket: None, number: 0 }
    }

    fn answers(&mut self) -> bool {
        let own = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let inode = own.as_ref().ok().and_then(|own| Some(rustix::fs::fstat(own).ok()?.st_ino));
        inode.is_some_and(|inode| matches!(self.waiting(inode), Waiting::Connections(_)))
    }

    /// How many connections wait at the listener with this inode.
    pub(crate) fn waiting(&mut self, inode: u64) -> Waiting {
        // The kernel counts sockets with 32 bits.
        let Ok(inode) = u32::try_from(inode) else {
            return Waiting::Unknown;
        };
        let Some(socket) = &self.socket else {
            return Waiting::Unknown;
        };
        self.number = self.number.wrapping_add(1);
        if send(socket, &request(inode, self.number), SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_err() {
            return Waiting::Unknown;
        }
        let mut answer = [0_u8; 512];
        // What a question before this one left behind, because it was interrupted, is not the answer to this one.
        for _ in 0..4 {
            match recv(socket.as_fd(), &mut answer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => match parse(&answer[..length.min(answer.len())], self.number) {
                    Some(waiting) => return waiting,
                    None => continue,
                },
                Err(Errno::INTR) => continue,
                Err(_) => break,
            }
        }
        Waiting::Unknown
    }
}

/// `nlmsghdr`, then `unix_diag_req`.
fn request(inode: u32, number: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 24);
    bytes.extend_from_slice(&40_u32.to_ne_bytes());
    bytes.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&REQUEST.to_ne_bytes());
    bytes.extend_from_slice(&number.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    // Family, protocol, padding; every state; the socket; what is wanted; no cookie.
    bytes.extend_from_slice(&[libc::AF_UNIX as u8, 0, 0, 0]);
    bytes.extend_from_slice(&u32::MAX.to_ne_bytes());
    bytes.extend_from_slice(&inode.to_ne_bytes());
    bytes.extend_from_slice(&SHOW_QUEUES.to_ne_bytes());
    bytes.extend_from_slice(&[0xff; 8]);
    bytes
}

fn number_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The answer to the question with this number; `None` when it is another's.
fn parse(bytes: &[u8], number: u32) -> Option<Waiting> {
    let length = u32::from_ne_bytes(number_at(bytes, 0)?) as usize;
    let kind = u16::from_ne_bytes(number_at(bytes, 4)?);
    if u32::from_ne_bytes(number_at(bytes, 8)?) != number {
        return None;
    }
    if kind == ERROR {
        let errno = i32::from_ne_bytes(number_at(bytes, HEADER)?);
        return Some(if errno == -libc::ENOENT { Waiting::Nothing } else { Waiting::Unknown });
    }
    if kind != BY_FAMILY {
        return Some(Waiting::Unknown);
    }
    let mut rest = bytes.get(HEADER + MESSAGE..length.min(bytes.len()))?;
    // struct nlattr: length with its head, kind, and then what it says, padded to 4 bytes.
    while let (Some(length), Some(kind)) = (number_at::<2>(rest, 0), number_at::<2>(rest, 2)) {
        let length = usize::from(u16::from_ne_bytes(length));
        if u16::from_ne_bytes(kind) == QUEUES {
            return Some(number_at(rest, 4).map_or(Waiting::Unknown, |n| Waiting::Connections(u32::from_ne_bytes(n))));
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
    Some(Waiting::Unknown)
}

#[cfg(test)]
mod tests {
    use std::os::linux::fs::MetadataExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn inode(listener: &UnixListener) -> u64 {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(listener));
        std::fs::metadata(path).expect("ours").st_ino()
    }

    #[test]
    fn connections_wait_until_they_are_accepted() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("private");
        let listener = UnixListener::bind(&path).expect("bound");
        let inode = inode(&listener);
        let mut diag = Diag::new();
        assert_eq!(diag.waiting(inode), Waiting::Connections(0));
        let _first = UnixStream::connect(&path).expect("connects");
        let _second = UnixStream::connect(&path).expect("connects");
        assert_eq!(diag.waiting(inode), Waiting::Connections(2));
        let _accepted = listener.accept().expect("one waits");
        assert_eq!(diag.waiting(inode), Waiting::Connections(1));
        drop(listener);
        assert_eq!(diag.waiting(inode), Waiting::Nothing);
    }

    #[test]
    fn nonsense_is_no_answer() {
        for length in 0..64 {
            assert!(!matches!(parse(&vec![0; length], 0), Some(Waiting::Connections(_))));
            let mut bytes = vec![0xff; length];
            assert!(!matches!(parse(&bytes, 0), Some(Waiting::Connections(_))));
            bytes.iter_mut().skip(4).step_by(2).for_each(|byte| *byte = 20);
            let _ = parse(&bytes, 0);
        }
        assert_eq!(Diag::blind().waiting(1), Waiting::Unknown);
    }
}
