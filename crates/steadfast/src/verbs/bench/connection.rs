//! One connection of the load: writes a request, reads its answer, and says how far it has got.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::plan::Slot;
use super::poller::Poller;
use super::tally::{Fault, Tally};
use crate::exchange::broken::Broken;
use crate::exchange::dial::Target;
use crate::exchange::piece::Piece;
use crate::exchange::reader::Reader;

/// A large answer is read in so many pieces before others have their turn.
const READS_MAX: usize = 16;

/// What all connections have in common.
#[derive(Debug)]
pub(super) struct Common<'a> {
    pub(super) target: Target,
    /// The request's bytes.
    pub(super) request: &'a [u8],
    pub(super) is_kept: bool,
    pub(super) poller: Poller,
    /// What is read lies here until it is understood.
    pub(super) buffer: Box<[u8]>,
}

/// How far a request has got.
#[derive(Debug)]
pub(super) enum Progress {
    /// More is to come.
    Going,
    /// The answer is complete.
    Answered,
    /// There will be no answer.
    Failed { fault: Fault, words: String },
    /// The kept connection ended before a byte of the answer: the server closed it when the request was on its way.
    Stale,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Option<OwnedFd>,
    reader: Reader,
    /// Bytes of the request that were written.
    sent: usize,
    /// The poller tells when it can be written.
    waits_to_write: bool,
    /// It has carried a request before.
    is_used: bool,
    /// A byte of this answer has come.
    is_begun: bool,
    /// The request in hand.
    pub(super) slot: Option<Slot>,
    /// It is on its second connection.
    pub(super) is_resent: bool,
}

impl Connection {
    pub(super) fn new(reader: Reader) -> Connection {
        Connection {
            socket: None,
            reader,
            sent: 0,
            waits_to_write: false,
            is_used: false,
            is_begun: false,
            slot: None,
            is_resent: false,
        }
    }

    /// Takes over a socket that was just connected.
    pub(super) fn adopt(&mut self, token: u64, socket: OwnedFd, poller: &Poller) -> Result<(), Errno> {
        poller.add(&socket, token, false)?;
        self.socket = Some(socket);
        Ok(())
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Closes it; the next request makes a new one.
    pub(super) fn close(&mut self) {
        self.socket = None;
        self.reader.reset();
        self.is_used = false;
        self.waits_to_write = false;
    }

    /// Sends the request, on a new connection if there is none.
    pub(super) fn send(&mut self, token: u64, common: &Common<'_>, tally: &mut Tally) -> Progress {
        self.sent = 0;
        self.is_begun = false;
        self.reader.begin();
        if self.socket.is_none()
            && let Err(errno) = self.dial(token, common, tally)
        {
            return self.unconnected(errno);
        }
        self.write(token, common, tally)
    }

    fn dial(&mut self, token: u64, common: &Common<'_>, tally: &mut Tally) -> Result<(), Errno> {
        let socket = common.target.dial()?;
        common.poller.add(&socket, token, false)?;
        self.socket = Some(socket);
        tally.connects += 1;
        Ok(())
    }

    /// As much of the request as there is room for.
    fn write(&mut self, token: u64, common: &Common<'_>, tally: &mut Tally) -> Progress {
        let Some(socket) = &self.socket else {
            return Progress::Going;
        };
        while self.sent < common.request.len() {
            match send(socket, &common.request[self.sent..], SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.sent += sent;
                    tally.bytes_written += sent as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return self.hear_writable(token, common, true),
                // What the peer has said before it went is there to be read, and tells more than this does.
                Err(Errno::PIPE | Errno::CONNRESET) => self.sent = common.request.len(),
                Err(errno) => return self.unconnected(errno),
            }
        }
        self.hear_writable(token, common, false)
    }

    fn hear_writable(&mut self, token: u64, common: &Common<'_>, wanted: bool) -> Progress {
        if self.waits_to_write != wanted
            && let Some(socket) = &self.socket
        {
            self.waits_to_write = wanted;
            if let Err(errno) = common.poller.modify(socket, token, wanted) {
                return self.unconnected(errno);
            }
        }
        Progress::Going
    }

    fn unconnected(&mut self, errno: Errno) -> Progress {
        self.close();
        Progress::Failed { fault: Fault::of_connect(errno), words: std::io::Error::from(errno).to_string() }
    }

    /// The poller says that something can be done.
    pub(super) fn ready(&mut self, token: u64, common: &mut Common<'_>, tally: &mut Tally) -> Progress {
        if self.slot.is_some() && self.sent < common.request.len() {
            match self.write(token, common, tally) {
                Progress::Going => {}
                progress => return progress,
            }
        }
        self.read(common, tally)
    }

    fn read(&mut self, common: &mut Common<'_>, tally: &mut Tally) -> Progress {
        for _ in 0..READS_MAX {
            let Some(socket) = &self.socket else {
                return Progress::Going;
            };
            let length = match recv(socket, &mut common.buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN | Errno::INTR) => return Progress::Going,
                Err(errno) => return self.lost(errno, common.is_kept),
            };
            if self.slot.is_none() {
                // It has ended, or says what nobody asked for.
                self.close();
                return Progress::Going;
            }
            if length == 0 {
                return self.ended(common.is_kept);
            }
            tally.bytes_read += length as u64;
            self.is_begun = true;
            match self.understand(&common.buffer[..length]) {
                Ok(true) => return self.answered(common.is_kept),
                Ok(false) if length < common.buffer.len() => return Progress::Going,
                Ok(false) => {}
                Err(broken) => return self.broken(&broken),
            }
        }
        Progress::Going
    }

    /// Whether the answer is complete. Nothing may stand behind it.
    fn understand(&mut self, mut input: &[u8]) -> Result<bool, Broken> {
        let mut is_complete = false;
        while let Some(piece) = self.reader.next(&mut input)? {
            is_complete |= piece == Piece::Done;
        }
        Ok(is_complete)
    }

    fn answered(&mut self, is_kept: bool) -> Progress {
        if is_kept && self.reader.may_reuse() {
            self.is_used = true;
        } else {
            self.close();
        }
        Progress::Answered
    }

    fn ended(&mut self, is_kept: bool) -> Progress {
        match self.reader.ended() {
            Ok(()) => {
                self.close();
                Progress::Answered
            }
            Err(_) if self.is_stale(is_kept) => self.stale(),
            Err(broken) => self.broken(&broken),
        }
    }

    fn lost(&mut self, errno: Errno, is_kept: bool) -> Progress {
        if self.slot.is_none() {
            self.close();
            return Progress::Going;
        }
        if self.is_stale(is_kept) {
            return self.stale();
        }
        self.close();
        let fault = match errno {
            Errno::CONNRESET | Errno::PIPE => Fault::Reset,
            errno => Fault::of_connect(errno),
        };
        Progress::Failed { fault, words: std::io::Error::from(errno).to_string() }
    }

    fn is_stale(&self, is_kept: bool) -> bool {
        is_kept && self.is_used && !self.is_begun
    }

    fn stale(&mut self) -> Progress {
        self.close();
        Progress::Stale
    }

    fn broken(&mut self, broken: &Broken) -> Progress {
        self.close();
        Progress::Failed { fault: Fault::of_answer(broken), words: broken.to_string() }
    }
}
