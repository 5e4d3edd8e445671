//! The front's end of the channel to the supervisor: packets with fds, written without ever blocking.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags};
use steadfast_proto::front::{FDS_MAX, FromFront, MESSAGE_MAX, ToFront, decode, encode};

/// So many packets wait for a supervisor that does not read; beyond that notes are dropped.
const NOTES_MAX: usize = 1000;

/// What came.
#[derive(Debug)]
pub(crate) enum Received {
    /// A message with its fds.
    Message(ToFront, Vec<OwnedFd>),
    /// Nothing now.
    Nothing,
    /// The supervisor has gone: there is nobody to work for any more.
    Gone,
    /// It speaks another language, or cannot be heard: why.
    Garbled(String),
}

/// The channel.
#[derive(Debug)]
pub(crate) struct Channel {
    fd: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
    packet: Vec<u8>,
    dropped: u64,
}

impl Channel {
    /// Speaks by this `SOCK_SEQPACKET` socket.
    pub(crate) fn new(fd: OwnedFd) -> Channel {
        Channel { fd, waiting: VecDeque::new(), packet: vec![0; MESSAGE_MAX + 1], dropped: 0 }
    }

    /// For the poller.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The next message.
    pub(crate) fn receive(&mut self) -> Received {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut self.packet)];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let taken = match rustix::net::recvmsg(&self.fd, &mut slices, &mut ancillary, flags) {
            Ok(received) if received.bytes == 0 => return Received::Gone,
            Ok(received) => received.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Received::Nothing,
            Err(Errno::CONNRESET) => return Received::Gone,
            Err(error) => return Received::Garbled(format!("the channel cannot be read: {error}")),
        };
        let mut fds = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        match decode(&self.packet[..taken]) {
            Ok(message) => Received::Message(message, fds),
            Err(error) => Received::Garbled(format!("a message from the supervisor cannot be read: {error}")),
        }
    }

    /// Says something, now or as soon as the supervisor reads again. Notes are dropped when too much waits.
    pub(crate) fn send(&mut self, message: &FromFront) {
        let is_note = matches!(message, FromFront::Note(_));
        if is_note && self.waiting.len() >= NOTES_MAX {
            self.dropped += 1;
            return;
        }
        // All that we say is bounded by construction; what could not be said is not worth our life.
        let Ok(packet) = encode(message) else { return };
        if !self.waiting.is_empty() || !self.write(&packet) {
            self.waiting.push_back(packet);
        }
    }

    /// Tries to say what waits.
    pub(crate) fn flush(&mut self) {
        while let Some(packet) = self.waiting.pop_front() {
            if !self.write(&packet) {
                self.waiting.push_front(packet);
                return;
            }
        }
    }

    /// Something waits for the supervisor to read.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many notes were dropped since this was asked last.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Whether the packet needs no other try. A supervisor that has gone is noticed by reading.
    fn write(&self, packet: &[u8]) -> bool {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut none = SendAncillaryBuffer::default();
        match rustix::net::sendmsg(&self.fd, &[IoSlice::new(packet)], &mut none, flags) {
            Ok(_) => true,
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => false,
            Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SendAncillaryMessage, SocketFlags, SocketType, socketpair};
    use std::io::{Read as _, Write as _};
    use steadfast_proto::front::{Note, NoteKind, VERSION};

    fn pair() -> (Channel, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a pair of sockets");
        (Channel::new(ours), theirs)
    }

    #[test]
    fn a_message_comes_with_its_fds() {
        let (mut channel, theirs) = pair();
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let packet = encode(&ToFront::PoolGone { pool: 3 }).expect("short");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [writer.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        rustix::net::sendmsg(&theirs, &[IoSlice::new(&packet)], &mut ancillary, SendFlags::empty()).expect("sent");
        drop(writer);
        let Received::Message(ToFront::PoolGone { pool: 3 }, mut fds) = channel.receive() else {
            panic!("another message")
        };
        let mut file = std::fs::File::from(fds.pop().expect("an fd"));
        file.write_all(b"x").expect("it can be written");
        drop(file);
        let mut read = String::new();
        reader.read_to_string(&mut read).expect("it comes out");
        assert_eq!(read, "x");
        assert!(matches!(channel.receive(), Received::Nothing));
        drop(theirs);
        assert!(matches!(channel.receive(), Received::Gone));
    }

    #[test]
    fn what_the_supervisor_does_not_read_waits_and_notes_are_bounded() {
        let (mut channel, theirs) = pair();
        let note = Note {
            kind: NoteKind::Warning,
            pool: None,
            worker: None,
            line: Some("x".repeat(1000)),
            id: None,
            after_ms: None,
            message: None,
        };
        for _ in 0..5000 {
            channel.send(&FromFront::Note(note.clone()));
        }
        assert!(channel.is_waiting());
        assert!(channel.waiting.len() <= NOTES_MAX);
        let dropped = channel.take_dropped();
        assert!(dropped > 0 && channel.take_dropped() == 0);
        channel.send(&FromFront::Ready { version: VERSION });
        let mut read = 0;
        let mut buffer = vec![0; MESSAGE_MAX];
        let mut last = Vec::new();
        loop {
            channel.flush();
            match rustix::net::recv(&theirs, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((taken, _)) => {
                    read += 1;
                    last = buffer[..taken].to_vec();
                }
                Err(_) => break,
            }
        }
        assert_eq!(read + dropped, 5001);
        assert_eq!(decode(&last), Ok(FromFront::Ready { version: VERSION }));
    }
}
