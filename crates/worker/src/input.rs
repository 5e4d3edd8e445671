//! What a web server sends on one connection: the head of the next request, and pieces of the body of the one in hand.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use steadfast_proto::fcgi::record::{role, status};
use steadfast_proto::fcgi::request::{self, Event, RequestDecoder};
use steadfast_proto::fcgi::values::Values;
use steadfast_proto::fcgi::{self, encode};

use crate::limits::Limits;
use crate::params::{Params, Unusable};
use crate::sys;

/// One read takes so much. A GET of every common web server fits.
const READ: usize = 64 * 1024;
/// So much of a body is kept while an answer is written to somebody who does not read before all of it is sent
/// (mod_fcgid): beyond, both would wait for each other, and we do.
const KEPT_MAX: usize = 1024 * 1024;
/// After the answer so much of an unread body is read before the connection is closed.
const DRAINED_MAX: usize = 4 * 1024 * 1024;
/// And so long.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// A connection that was accepted when SIGTERM came may take so long to bring its first request.
const FIRST_MAX: Duration = Duration::from_secs(2);

/// The beginning of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) id: u16,
    pub(crate) role: u16,
    /// The web server closes the connection.
    pub(crate) keep: bool,
}

/// What came next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A request whose parameters are complete.
    Request(Begin),
    /// One that is refused.
    Refused(Begin, Refusal),
    /// The connection has ended, between two requests.
    End,
}

/// Why a request is refused before anybody has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its parameters are beyond the limit.
    TooLarge,
    /// They cannot be read.
    Malformed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// There may be more.
    Open,
    Complete,
    /// Nobody reads it, nor looks for its end: the decoder swallows it.
    Unread,
    /// The answer is no longer wanted.
    Aborted,
}

/// See above. Lives as long as the worker; its memory is used again.
#[derive(Debug)]
pub(crate) struct Input {
    limits: Limits,
    decoder: RequestDecoder,
    buffer: Vec<u8>,
    /// Of the buffer: a piece of the body that was decoded but not taken.
    piece: (usize, usize),
    /// Of the buffer: what is not decoded yet.
    raw: (usize, usize),
    body: Body,
    /// What CONTENT_LENGTH has said, and what has come of it.
    expected: Option<u64>,
    taken: u64,
    /// Answers to management records, to be sent before anybody waits for more.
    answers: Vec<u8>,
    /// The connection has ended too early.
    is_cut: bool,
    /// No request has come yet on this connection.
    is_new: bool,
    /// A CGI program's stdin: no records.
    is_plain: bool,
}

impl Input {
    pub(crate) fn new(limits: Limits) -> Input {
        Input {
            limits,
            decoder: Input::decoder(limits),
            buffer: vec![0; READ],
            piece: (0, 0),
            raw: (0, 0),
            body: Body::Complete,
            expected: None,
            taken: 0,
            answers: Vec::new(),
            is_cut: false,
            is_new: true,
            is_plain: false,
        }
    }

    fn decoder(limits: Limits) -> RequestDecoder {
        RequestDecoder::new(request::Limits { requests: 1, params: limits.params, ..request::Limits::default() })
    }

    /// For a new connection.
    pub(crate) fn reset(&mut self) {
        if !self.decoder.is_idle() {
            self.decoder = Input::decoder(self.limits);
        }
        self.piece = (0, 0);
        self.raw = (0, 0);
        self.body = Body::Complete;
        self.answers.clear();
        self.is_cut = false;
        self.is_new = true;
    }

    /// From here on the body of a CGI program's one request is read, without records.
    pub(crate) fn be_plain(&mut self, length: Option<u64>) {
        self.is_plain = true;
        self.body = Body::Open;
        // Without a length there is no body (RFC 3875 §4.2), and nobody may end stdin.
        self.expected = Some(length.unwrap_or(0));
    }

    /// Waits for a request and reads its parameters. While nothing of it has come, SIGTERM may end the wait.
    ///
    /// # Errors
    /// The connection broke, or the web server did not keep to the protocol: it must be closed.
    pub(crate) fn next(&mut self, fd: BorrowedFd<'_>, params: &mut Params) -> io::Result<Next> {
        params.clear();
        let mut begun: Option<Begin> = None;
        let mut is_too_large = false;
        loop {
            let mut rest = self.buffer.get(self.raw.0..self.raw.1).unwrap_or_default();
            let event = match self.decoder.next(&mut rest) {
                Ok(event) => event,
                Err(error) => return Err(self.wrong(error)),
            };
            match event {
                Some(Event::Begin { id, role, keep }) => {
                    self.is_new = false;
                    begun = Some(Begin { id, role, keep });
                }
                Some(Event::Params { bytes, .. }) => params.extend(bytes),
                Some(Event::TooLarge { .. }) => is_too_large = true,
                _ => {}
            }
            self.raw.0 = self.raw.1 - rest.len();
            match (event, begun) {
                (Some(Event::ParamsEnd { .. }), Some(begin)) => return Ok(self.head(begin, params)),
                (Some(Event::TooLarge { .. } | Event::Abort { .. }), Some(begin)) => {
                    self.body = Body::Unread;
                    self.decoder.end(begin.id);
                    let refusal = if is_too_large { Refusal::TooLarge } else { Refusal::Malformed };
                    return Ok(Next::Refused(begin, refusal));
                }
                (Some(other), _) => manage(&mut self.answers, &mut self.body, other),
                (None, _) => {
                    if begun.is_none() && self.decoder.is_waiting() {
                        if self.wait(fd)? == 0 {
                            return Ok(Next::End);
                        }
                    } else if self.fill(fd, RecvFlags::empty())? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    fn head(&mut self, begin: Begin, params: &mut Params) -> Next {
        self.body = if begin.role == role::RESPONDER { Body::Open } else { Body::Unread };
        match params.complete(self.limits.params_count) {
            Ok(()) => {}
            Err(Unusable::Cut) => return Next::Refused(begin, Refusal::Malformed),
            Err(Unusable::TooMany(_)) => return Next::Refused(begin, Refusal::TooLarge),
        }
        // An authorizer has no body to wait for (FastCGI 1.0 §6.3), whatever its web server sends.
        self.expected = if begin.role == role::RESPONDER { params.content_length() } else { Some(0) };
        self.taken = 0;
        Next::Request(begin)
    }

    /// Waits for a request, nothing of which has come; 0 when none will come. SIGTERM ends the wait.
    fn wait(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        self.tell(fd)?;
        sys::watch_idle(fd.as_raw_fd());
        let got = if sys::is_terminated() { Ok(0) } else { self.fill(fd, RecvFlags::empty()) };
        sys::unwatch(fd.as_raw_fd());
        if matches!(got, Ok(1..)) || !sys::is_terminated() {
            return got;
        }
        if self.is_new {
            // Whoever has connected is about to ask, and nobody else can take it.
            await_readable(fd, FIRST_MAX);
        }
        let has_come = self.take_early(fd)
            || !self.is_unread() && {
                // On a unix socket nobody can send any more, and learns it; what was sent before is there.
                let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Read);
                self.take_early(fd)
            };
        Ok(usize::from(has_come))
    }

    /// Answers what was asked of the connection itself.
    pub(crate) fn tell(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut rest = self.answers.as_slice();
        while !rest.is_empty() {
            match rustix::net::send(fd, rest, SendFlags::NOSIGNAL) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.answers.clear();
        Ok(())
    }

    /// Waits for bytes, unless `flags` say not to; 0 at the end.
    fn fill(&mut self, fd: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<usize> {
        self.tell(fd)?;
        self.make_room();
        loop {
            match rustix::net::recv(fd, self.buffer.get_mut(self.raw.1..).unwrap_or_default(), flags) {
                Ok((got, _)) => {
                    self.raw.1 += got;
                    return Ok(got);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Reads what has come, without waiting; false when there is nothing, or no room for it.
    pub(crate) fn take_early(&mut self, fd: BorrowedFd<'_>) -> bool {
        if !self.has_room() {
            return false;
        }
        self.make_room();
        let room = self.buffer.get_mut(self.raw.1..).unwrap_or_default();
        match rustix::net::recv(fd, room, RecvFlags::DONTWAIT) {
            Ok((got, _)) => {
                self.raw.1 += got;
                got > 0
            }
            Err(_) => false,
        }
    }

    /// Whether the web server may still be sending the body of the request in hand, so that it may not read the answer yet.
    pub(crate) fn is_coming(&self) -> bool {
        matches!(self.body, Body::Open | Body::Unread) && !self.is_plain
    }

    /// Whether more may be kept of it.
    pub(crate) fn has_room(&self) -> bool {
        self.raw.1 - self.kept_from() < KEPT_MAX
    }

    /// Where what is still needed begins.
    fn kept_from(&self) -> usize {
        if self.piece.0 == self.piece.1 { self.raw.0 } else { self.piece.0 }
    }

    /// There is always room for some bytes afterwards.
    fn make_room(&mut self) {
        let from = self.kept_from();
        if from == self.raw.1 {
            (self.piece, self.raw) = ((0, 0), (0, 0));
            // What was kept for somebody who did not read is not needed again.
            self.buffer.truncate(READ);
        }
        if self.raw.1 < self.buffer.len() {
            return;
        }
        if from > 0 {
            self.buffer.copy_within(from..self.raw.1, 0);
            self.piece = (self.piece.0.saturating_sub(from), self.piece.1.saturating_sub(from));
            self.raw = (self.raw.0 - from, self.raw.1 - from);
        } else {
            self.buffer.resize(self.buffer.len() + READ, 0);
        }
    }

    /// A piece of the body; 0 at its end. It ends where CONTENT_LENGTH says, whatever else comes.
    ///
    /// # Errors
    /// `UnexpectedEof`: the body is shorter than was said, so the client has gone: what it asked for must not be done.
    /// `ConnectionAborted`: the web server does not want the answer any more. `WouldBlock`: nothing has come, and `flags` say
    /// not to wait.
    pub(crate) fn read_body(&mut self, fd: BorrowedFd<'_>, to: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        let left = self.expected.map_or(u64::MAX, |expected| expected.saturating_sub(self.taken));
        let wanted = to.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Some(to) = to.get_mut(..wanted).filter(|to| !to.is_empty()) else {
            return Ok(0);
        };
        if self.is_plain {
            let got = loop {
                match rustix::io::read(fd, &mut *to) {
                    Err(Errno::INTR) => {}
                    got => break got?,
                }
            };
            return if got == 0 { Err(self.cut()) } else { Ok(self.count(got)) };
        }
        loop {
            let (from, end) = self.piece;
            if from < end {
                let taken = to.len().min(end - from);
                for (to, from) in to.iter_mut().zip(self.buffer.get(from..end).unwrap_or_default()) {
                    *to = *from;
                }
                self.piece.0 += taken;
                return Ok(self.count(taken));
            }
            match self.body {
                Body::Complete if self.expected.is_some() => return Err(self.cut()),
                Body::Complete => return Ok(0),
                Body::Aborted | Body::Unread => return Err(io::ErrorKind::ConnectionAborted.into()),
                Body::Open => {}
            }
            if self.decode()? {
                continue;
            }
            match self.fill(fd, flags) {
                Ok(0) => return Err(self.cut()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) => {
                    self.is_cut = true;
                    return Err(error);
                }
            }
        }
    }

    /// Decodes one event of the request in hand; false when more bytes are needed.
    fn decode(&mut self) -> io::Result<bool> {
        let mut rest = self.buffer.get(self.raw.0..self.raw.1).unwrap_or_default();
        let event = match self.decoder.next(&mut rest) {
            Ok(event) => event,
            Err(error) => return Err(self.wrong(error)),
        };
        let start = self.raw.1 - rest.len();
        self.raw.0 = start;
        match event {
            Some(Event::Stdin { bytes, .. }) => self.piece = (start - bytes.len(), start),
            Some(event) => manage(&mut self.answers, &mut self.body, event),
            None => return Ok(false),
        }
        Ok(true)
    }

    fn count(&mut self, got: usize) -> usize {
        self.taken += got as u64;
        got
    }

    /// Whether the client has gone before its request was complete.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether the web server does not want the answer any more, but its end (FastCGI 1.0 §5.4).
    pub(crate) fn is_aborted(&self) -> bool {
        self.body == Body::Aborted
    }

    /// Nobody knows what the web server means from here on: the connection ends, also when the request in hand is not
    /// answered.
    fn wrong(&mut self, error: fcgi::Error) -> io::Error {
        if !self.is_cut {
            crate::link::complain(&format!("a web server does not keep to FastCGI: {error}"));
        }
        self.is_cut = true;
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    fn cut(&mut self) -> io::Error {
        self.is_cut = true;
        let expected = self.expected.unwrap_or(0);
        let taken = self.taken;
        let text = format!("the client has gone: {taken} of the {expected} bytes of the request's body have come");
        io::Error::new(io::ErrorKind::UnexpectedEof, text)
    }

    /// The request was answered: what still comes of its body is swallowed. Whether all of it has come.
    pub(crate) fn end(&mut self, id: u16) -> bool {
        self.piece = (0, 0);
        while self.body == Body::Open && matches!(self.decode(), Ok(true)) {
            self.piece = (0, 0);
        }
        self.decoder.end(id);
        self.body == Body::Complete
    }

    /// Whether the rest of a body is on its way whose request was answered. Neither an authorizer has one, whatever its web
    /// server sends, nor who was aborted.
    pub(crate) fn is_unread(&self) -> bool {
        self.body == Body::Open && self.decoder.is_unread()
    }

    /// Reads what is still sent to us and forgets it, so that closing does not take the answer away from somebody who has
    /// not read it yet (RFC 9112 §9.6). At most 2 s, and at most 4 MiB, also after SIGTERM.
    pub(crate) fn drain(&mut self, fd: impl AsFd) {
        let deadline = Instant::now() + DRAIN_MAX;
        let mut drained = 0;
        while drained < DRAINED_MAX && await_readable(&fd, deadline.saturating_duration_since(Instant::now())) {
            match rustix::net::recv(&fd, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(_) => return,
                Ok((got, _)) => drained += got,
            }
        }
    }
}

/// Whether there is something to read, or an end, in time.
fn await_readable(fd: impl AsFd, time: Duration) -> bool {
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            ready => return matches!(ready, Ok(1..)),
        }
    }
}

/// What is not about the request in hand, and what its body does not need.
fn manage(answers: &mut Vec<u8>, body: &mut Body, event: Event<'_>) {
    match event {
        Event::GetValues(asked) => {
            let values = Values { max_conns: Some(1), max_reqs: Some(1), mpxs_conns: Some(false) };
            encode::get_values_result(answers, values.of(asked));
        }
        Event::Unknown { kind } => encode::unknown_type(answers, kind),
        Event::Refused { id, .. } => {
            encode::end_request(answers, id, 0, status::CANT_MPX_CONN);
        }
        Event::Abort { .. } => *body = Body::Aborted,
        Event::StdinEnd { .. } => *body = Body::Complete,
        Event::Begin { .. }
        | Event::Params { .. }
        | Event::ParamsEnd { .. }
        | Event::Stdin { .. }
        | Event::Data { .. }
        | Event::DataEnd { .. }
        | Event::TooLarge { .. } => {}
    }
}
