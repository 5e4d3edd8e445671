//! One connection on the control socket: a request comes in within limits, answers go out without waiting.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use steadfast_proto::control::{Answer, Refusal, Request, decode_request, encode_answer};
use steadfast_proto::exit::ExitCode;
use steadfast_proto::lines::{LINE_MAX, Lines};

/// Bytes read or written in one turn.
const TURN_MAX: usize = 64 * 1024;
/// One that follows events and does not read is dropped when so much waits for it.
const WAITING_MAX: usize = 1024 * 1024;

/// What the connection is for by now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The request has not come whole.
    Asking,
    /// The request is being carried out; answers come.
    Open,
    /// The final answer is on its way; then it is closed.
    Closing,
}

/// What came of reading.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Not the whole request yet.
    Nothing,
    /// The request, or what is to be answered instead.
    Request(Result<Request, Refusal>),
    /// The client has gone.
    Gone,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Non-blocking, close-on-exec.
    pub(crate) fd: OwnedFd,
    /// How far it is.
    pub(crate) stage: Stage,
    /// It is heard for room to write, too.
    pub(crate) wants_room: bool,
    request: Lines,
    answers: Vec<u8>,
    written: usize,
}

impl Connection {
    /// A new one.
    pub(crate) fn new(fd: OwnedFd) -> Connection {
        Connection {
            fd,
            stage: Stage::Asking,
            wants_room: false,
            request: Lines::new(LINE_MAX),
            answers: Vec::new(),
            written: 0,
        }
    }

    /// Reads once.
    pub(crate) fn read(&mut self) -> Heard {
        let mut buffer = [0_u8; 4096];
        let length = match rustix::io::read(&self.fd, &mut buffer) {
            Ok(0) => return Heard::Gone,
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Heard::Nothing,
            Err(_) => return Heard::Gone,
        };
        if self.stage != Stage::Asking {
            // One request a connection: what else comes is dropped.
            return Heard::Nothing;
        }
        let mut read = &buffer[..length];
        match self.request.next(&mut read) {
            None => Heard::Nothing,
            Some(line) => {
                self.stage = Stage::Open;
                Heard::Request(match line {
                    Ok(line) => decode_request(line),
                    Err(_) => Err(Refusal::new(
                        ExitCode::Usage,
                        format!("the request is longer than {} KiB", LINE_MAX / 1024),
                    )),
                })
            }
        }
    }

    /// Puts an answer in the queue. False: it follows events and does not read them, and is to be dropped.
    pub(crate) fn answer(&mut self, answer: &Answer) -> bool {
        if !answer.is_final() && self.answers.len() - self.written > WAITING_MAX {
            return false;
        }
        self.answers.extend_from_slice(&encode_answer(answer));
        if answer.is_final() {
            self.stage = Stage::Closing;
        }
        true
    }

    /// Writes what can be written now. False: it is over, by an error or because all has been said.
    pub(crate) fn write(&mut self) -> bool {
        let end = self.answers.len().min(self.written + TURN_MAX);
        if self.written < end {
            let part = &self.answers[self.written..end];
            match send(&self.fd, part, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(length) => self.written += length,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        if self.written == self.answers.len() {
            self.answers = Vec::new();
            self.written = 0;
            return self.stage != Stage::Closing;
        }
        true
    }

    /// Whether anything waits to be written.
    pub(crate) fn is_behind(&self) -> bool {
        self.written < self.answers.len()
    }
}
