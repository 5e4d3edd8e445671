//! The supervisor's end of the channel to the front: packets with fds, written without ever waiting.
//!
//! What cannot be written now waits in a bounded queue. What comes is read with room for one byte more than a message
//! may have, so that a longer one is seen to be too long; fds that come are refused by the kernel, for there is no room
//! for them.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv,
    sendmsg, socketpair,
};
use steadfast_proto::front::{FDS_MAX, FromFront, MESSAGE_MAX, ToFront, decode, encode};

/// A front that lets so many messages wait does not read.
pub(crate) const WAITING_MAX: usize = 4096;

/// What came.
#[derive(Debug)]
pub(crate) enum Received {
    /// A message.
    Message(FromFront),
    /// Nothing now.
    Nothing,
    /// The other end is closed.
    Closed,
    /// Something that no front of ours says: what is wrong with it.
    Nonsense(String),
}

/// Our end.
#[derive(Debug)]
pub(crate) struct Channel {
    fd: OwnedFd,
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    packet: Box<[u8]>,
}

/// Our end, and the one that the front inherits.
pub(crate) fn pair() -> Result<(Channel, OwnedFd), Errno> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((Channel::new(ours), theirs))
}

impl Channel {
    fn new(fd: OwnedFd) -> Channel {
        Channel { fd, waiting: VecDeque::new(), packet: vec![0; MESSAGE_MAX + 1].into_boxed_slice() }
    }

    /// Goes on where an earlier image of ours has stopped, which had nothing waiting.
    pub(crate) fn take_over(fd: OwnedFd) -> Channel {
        Channel::new(fd)
    }

    /// For the poller.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether something waits to be written.
    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Says something, now or as soon as there is room.
    ///
    /// # Errors
    /// The message cannot be said, or the front does not read; for people.
    pub(crate) fn send(&mut self, message: &ToFront, fds: Vec<OwnedFd>) -> Result<(), String> {
        if fds.len() > FDS_MAX {
            return Err(format!("{} descriptors do not fit into a message", fds.len()));
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(format!("it does not read: {WAITING_MAX} messages wait for it"));
        }
        self.waiting.push_back((encode(message)?, fds));
        self.flush()
    }

    /// Writes what waits, as far as there is room.
    ///
    /// # Errors
    /// The channel is broken; for people. That the other side has closed it is no error here: its end is told by its
    /// process.
    pub(crate) fn flush(&mut self) -> Result<(), String> {
        while let Some((packet, fds)) = self.waiting.front() {
            match write(self.fd.as_fd(), packet, fds) {
                Ok(()) => {
                    self.waiting.pop_front();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {
                    self.waiting.clear();
                    return Ok(());
                }
                Err(errno) => {
                    return Err(format!("the channel to it cannot be written: {}", std::io::Error::from(errno)));
                }
            }
        }
        Ok(())
    }

    /// The next message.
    pub(crate) fn receive(&mut self) -> Received {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let length = match recv(&self.fd, &mut *self.packet, flags) {
            Ok((_, 0)) => return Received::Closed,
            Ok((_, length)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Received::Nothing,
            Err(Errno::CONNRESET) => return Received::Closed,
            Err(errno) => {
                return Received::Nonsense(format!("the channel cannot be read: {}", std::io::Error::from(errno)));
            }
        };
        let Some(packet) = self.packet.get(..length).filter(|packet| packet.len() <= MESSAGE_MAX) else {
            return Received::Nonsense(format!("a message of {length} bytes, where {MESSAGE_MAX} are the most"));
        };
        match decode(packet) {
            Ok(message) => Received::Message(message),
            Err(error) => Received::Nonsense(format!("a message that cannot be read: {error}")),
        }
    }
}

fn write(fd: BorrowedFd<'_>, packet: &[u8], fds: &[OwnedFd]) -> Result<(), Errno> {
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::INVAL);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(fd, &[IoSlice::new(packet)], &mut ancillary, flags).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSliceMut, Read, Seek, Write};

    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, recvmsg, send};

    fn gone(pool: u32) -> ToFront {
        ToFront::PoolGone { pool }
    }

    fn take(fd: &OwnedFd) -> (Option<ToFront>, Vec<OwnedFd>) {
        let mut packet = vec![0; MESSAGE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(fd, &mut [IoSliceMut::new(&mut packet)], &mut ancillary, RecvFlags::DONTWAIT).expect("a packet");
        let mut fds = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        (decode(&packet[..received.bytes]).ok(), fds)
    }

    #[test]
    fn messages_arrive_in_order_with_their_files() {
        let (mut ours, theirs) = pair().expect("a pair");
        let mut file: File = tempfile::tempfile().expect("a file");
        file.write_all(b"body").expect("room");
        file.rewind().expect("a file");
        ours.send(&gone(1), vec![file.into()]).expect("sent");
        ours.send(&gone(2), Vec::new()).expect("sent");
        let (message, mut fds) = take(&theirs);
        assert_eq!((message, fds.len()), (Some(gone(1)), 1));
        let mut text = String::new();
        File::from(fds.remove(0)).read_to_string(&mut text).expect("a file");
        assert_eq!(text, "body");
        assert_eq!(take(&theirs).0, Some(gone(2)));
    }

    #[test]
    fn one_that_does_not_read_is_noticed() {
        let (mut ours, theirs) = pair().expect("a pair");
        let mut sent = 0;
        let refused = loop {
            match ours.send(&gone(sent), Vec::new()) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(refused.contains("does not read"), "{refused}");
        assert!(ours.is_behind());
        // Whoever reads at last gets everything, in order.
        for number in 0..sent {
            ours.flush().expect("room again");
            assert_eq!(take(&theirs).0, Some(gone(number)));
        }
        assert!(!ours.is_behind());
    }

    #[test]
    fn what_is_too_long_or_unknown_is_nonsense() {
        let (mut ours, theirs) = pair().expect("a pair");
        send(&theirs, &vec![b' '; MESSAGE_MAX + 1], SendFlags::empty()).expect("room");
        assert!(matches!(ours.receive(), Received::Nonsense(_)));
        send(&theirs, br#"{"type":"sudo"}"#, SendFlags::empty()).expect("room");
        assert!(matches!(ours.receive(), Received::Nonsense(_)));
        let counters = encode(&FromFront::Counters(Box::default())).expect("short");
        send(&theirs, &counters, SendFlags::empty()).expect("room");
        assert!(matches!(ours.receive(), Received::Message(FromFront::Counters(_))));
        assert!(matches!(ours.receive(), Received::Nothing));
        drop(theirs);
        assert!(matches!(ours.receive(), Received::Closed));
        ours.send(&gone(1), Vec::new()).expect("its process tells its end");
    }
}
