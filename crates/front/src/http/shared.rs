//! What a connection's owner and the pieces that hyper holds of it share: the socket, and the request of the moment.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use super::exchange::Exchange;
use super::fact::{ExchangeKey, Length};
use super::settings::Settings;
use super::strict::Strict;
use crate::place::Page;

/// One read takes at most so much.
pub(super) const READ_MAX: usize = 64 * 1024;

/// Room to read into, one for all connections.
pub(super) type Scratch = Rc<RefCell<Vec<u8>>>;

/// What a connection's owner shares with what hyper holds of it.
pub(super) type Handle = Rc<RefCell<Shared>>;

/// A request that the core has not been told of.
#[derive(Debug)]
pub(super) struct Asked {
    /// CGI variables.
    pub(super) params: Vec<u8>,
    /// What follows.
    pub(super) body: Length,
    /// The client's own id.
    pub(super) id: Option<Box<str>>,
}

/// What is shared.
pub(super) struct Shared {
    /// The socket.
    pub(super) socket: Socket,
    /// The second reader.
    pub(super) strict: Strict,
    /// The listener's.
    pub(super) settings: Rc<Settings>,
    /// Who it is; `None` on unix sockets.
    pub(super) peer: Option<SocketAddr>,
    /// The request of the moment: hyper hands out one at a time.
    pub(super) exchange: Option<Exchange>,
    /// The core has not been told of it.
    pub(super) asked: Option<Asked>,
    /// Requests before it whose answers hyper has, and of which the owner has not heard.
    pub(super) over: Vec<ExchangeKey>,
    /// What hyper refused by itself gets this page instead of hyper's empty one.
    pub(super) refusal: Option<Page>,
}

/// A non-blocking socket that is heard edge-triggered.
#[derive(Debug)]
pub(super) struct Socket {
    /// The socket.
    pub(super) fd: Rc<OwnedFd>,
    /// There may be something to read.
    pub(super) is_readable: bool,
    /// The peer says nothing more after what is there.
    pub(super) is_ending: bool,
    /// There may be room to write.
    pub(super) is_writable: bool,
    /// hyper waits for room.
    pub(super) is_blocked: bool,
    /// hyper has nothing to write.
    pub(super) is_clean: bool,
    /// Bytes of bodies that hyper has, at most.
    pub(super) unwritten: usize,
    /// So much was read since the owner last took it for progress.
    pub(super) taken: usize,
    /// Something was written.
    pub(super) has_written: bool,
    scratch: Scratch,
}

impl Socket {
    /// One that has just been accepted: its request has come with it, as a rule.
    pub(super) fn new(fd: Rc<OwnedFd>, scratch: Scratch) -> Socket {
        Socket {
            fd,
            is_readable: true,
            is_ending: false,
            is_writable: true,
            is_blocked: false,
            is_clean: true,
            unwritten: 0,
            taken: 0,
            has_written: false,
            scratch,
        }
    }

    /// Reads at most `most` bytes and shows them. `None`: there is nothing now. 0: there will be nothing.
    pub(super) fn read(&mut self, most: usize, see: impl FnOnce(&[u8])) -> Option<io::Result<usize>> {
        while self.is_readable {
            let mut scratch = self.scratch.borrow_mut();
            scratch.resize(READ_MAX, 0);
            let most = most.min(READ_MAX);
            match rustix::net::recv(self.fd.as_fd(), &mut scratch[..most], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Some(Ok(0)),
                Ok((taken, _)) => {
                    // Less than there was room for is all there is, unless an end follows.
                    self.is_readable = taken == most || self.is_ending;
                    self.taken = self.taken.saturating_add(taken);
                    see(&scratch[..taken]);
                    return Some(Ok(taken));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.is_readable = false,
                Err(error) => return Some(Err(error.into())),
            }
        }
        None
    }

    /// Writes what there is room for. `None`: there is none.
    pub(super) fn write(&mut self, slices: &[io::IoSlice<'_>]) -> Option<io::Result<usize>> {
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        while self.is_writable {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let sent = match slices {
                [one] => rustix::net::send(self.fd.as_fd(), one, flags),
                many => rustix::net::sendmsg(self.fd.as_fd(), many, &mut SendAncillaryBuffer::default(), flags),
            };
            match sent {
                Ok(taken) => {
                    self.is_writable = taken == all;
                    self.is_clean = false;
                    self.has_written |= taken > 0;
                    self.unwritten = self.unwritten.saturating_sub(taken);
                    return Some(Ok(taken));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.is_writable = false,
                Err(error) => return Some(Err(error.into())),
            }
        }
        self.is_blocked = true;
        None
    }
}
