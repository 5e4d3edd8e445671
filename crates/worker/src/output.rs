//! What a request is answered with: collected in records, sent with as few system calls as it takes.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::{CHUNK_MAX, HEADER, Header, kind};

use crate::input::Input;

/// A piece of an answer that is at least so long is sent from where it is, without a copy.
const LARGE: usize = 16 * 1024;
/// So many records are sent by one system call: 1 MiB.
const RECORDS_MAX: usize = 16;

/// See above. Lives as long as the worker; its memory is used again.
#[derive(Debug)]
pub(crate) struct Output {
    buffer: Vec<u8>,
    /// Where the STDOUT record begins that is being filled.
    record: Option<usize>,
    /// The request's id; `None` for a CGI program's stdout, which knows no records.
    id: Option<u16>,
    /// Something has been sent, so that it cannot be taken back.
    has_sent: bool,
    /// Nobody reads any more.
    broken: Option<Errno>,
}

impl Output {
    pub(crate) fn new() -> Output {
        let buffer = Vec::with_capacity(CHUNK_MAX + 8 * HEADER);
        Output { buffer, record: None, id: None, has_sent: false, broken: None }
    }

    /// For a new request.
    pub(crate) fn begin(&mut self, id: Option<u16>) {
        self.buffer.clear();
        self.buffer.shrink_to(CHUNK_MAX + 8 * HEADER);
        *self = Output { buffer: std::mem::take(&mut self.buffer), record: None, id, has_sent: false, broken: None };
    }

    pub(crate) fn has_sent(&self) -> bool {
        self.has_sent
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Forgets what has not been sent, but not the lines for the log: now somebody will look for them.
    pub(crate) fn take_back(&mut self) {
        self.close_record();
        let (mut at, mut kept) = (0, 0);
        while let Some(Ok(header)) =
            self.buffer.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| Header::parse(*bytes))
        {
            let end = at + HEADER + usize::from(header.content) + usize::from(header.padding);
            if header.kind == kind::STDERR {
                self.buffer.copy_within(at..end, kept);
                kept += end - at;
            }
            at = end;
        }
        self.buffer.truncate(kept);
    }

    /// A piece of stdout.
    pub(crate) fn write(&mut self, fd: BorrowedFd<'_>, input: &RefCell<Input>, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let begun = self.record.map_or(0, |start| self.buffer.len() - start - HEADER);
        let is_room = begun + bytes.len() <= CHUNK_MAX && self.buffer.len() + bytes.len() <= CHUNK_MAX + HEADER;
        if bytes.len() < LARGE || is_room && begun == 0 {
            if !is_room {
                self.flush(fd, input)?;
            }
            self.append(bytes);
            return Ok(());
        }
        self.close_record();
        self.send(fd, input, bytes)
    }

    /// A few short pieces of stdout, such as a header field's.
    pub(crate) fn write_pieces(
        &mut self,
        fd: BorrowedFd<'_>,
        input: &RefCell<Input>,
        pieces: &[&[u8]],
    ) -> io::Result<()> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        // As in `write`, where each would be looked at alone.
        if length >= LARGE || self.buffer.len() + length > CHUNK_MAX {
            return pieces.iter().try_for_each(|piece| self.write(fd, input, piece));
        }
        self.check()?;
        pieces.iter().for_each(|piece| self.append(piece));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.id.is_some() && self.record.is_none() {
            self.record = Some(self.buffer.len());
            self.buffer.extend_from_slice(&[0; HEADER]);
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// A piece of what goes to the web server's log. In a CGI program that is our own stderr.
    pub(crate) fn write_error(&mut self, bytes: &[u8]) {
        match self.id {
            Some(id) => {
                self.close_record();
                encode::stream(&mut self.buffer, kind::STDERR, id, bytes);
            }
            None => {
                let _ = io::Write::write_all(&mut io::stderr(), bytes);
            }
        }
    }

    fn close_record(&mut self) {
        let (Some(start), Some(id)) = (self.record.take(), self.id) else {
            return;
        };
        // No record is longer than CHUNK_MAX, which is below 65,536.
        let content = (self.buffer.len() - start - HEADER) as u16;
        for (to, from) in self.buffer.iter_mut().skip(start).zip(encode::header(kind::STDOUT, id, content)) {
            *to = from;
        }
    }

    /// Sends what has been collected.
    pub(crate) fn flush(&mut self, fd: BorrowedFd<'_>, input: &RefCell<Input>) -> io::Result<()> {
        self.check()?;
        self.close_record();
        match (self.buffer.is_empty(), self.id) {
            (true, _) => Ok(()),
            (false, Some(_)) => self.send_small(fd, input),
            (false, None) => self.send(fd, input, &[]),
        }
    }

    /// The end of the answer: the rest, the end of stdout, and END, all at once.
    pub(crate) fn finish(&mut self, fd: BorrowedFd<'_>, input: &RefCell<Input>, status: (u32, u8)) -> io::Result<()> {
        self.check()?;
        self.close_record();
        if let Some(id) = self.id {
            encode::stream_end(&mut self.buffer, kind::STDOUT, id);
            encode::end_request(&mut self.buffer, id, status.0, status.1);
        }
        match (self.buffer.is_empty(), self.id) {
            (true, _) => Ok(()),
            (false, Some(_)) => self.send_small(fd, input),
            (false, None) => self.send(fd, input, &[]),
        }
    }

    fn check(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |errno| Err(errno.into()))
    }

    /// Sends the buffer alone: all of a small answer. One slice for send(2) costs less than a vector for sendmsg(2).
    fn send_small(&mut self, fd: BorrowedFd<'_>, input: &RefCell<Input>) -> io::Result<()> {
        let sent = match send(fd, &self.buffer, flags(input)) {
            Ok(sent) if sent == self.buffer.len() => {
                self.has_sent = true;
                self.buffer.clear();
                return Ok(());
            }
            Ok(sent) => sent,
            // The long way deals with all of it.
            Err(_) => 0,
        };
        self.buffer.drain(..sent);
        self.send(fd, input, &[])
    }

    /// Sends the buffer, and `large` after it, in records.
    fn send(&mut self, fd: BorrowedFd<'_>, input: &RefCell<Input>, mut large: &[u8]) -> io::Result<()> {
        let Output { buffer, id, has_sent, broken, .. } = self;
        let mut first = buffer.as_slice();
        loop {
            let mut headers = [[0; HEADER]; RECORDS_MAX];
            let mut slices = [IoSlice::new(&[]); 2 * RECORDS_MAX + 1];
            let mut count = 0;
            let mut add = |slice| {
                if let Some(place) = slices.get_mut(count) {
                    *place = IoSlice::new(slice);
                    count += 1;
                }
            };
            add(first);
            match id {
                Some(id) => {
                    for header in &mut headers {
                        let (now, later) = large.split_at(large.len().min(CHUNK_MAX));
                        if now.is_empty() {
                            break;
                        }
                        *header = encode::header(kind::STDOUT, *id, now.len() as u16);
                        add(header);
                        add(now);
                        large = later;
                    }
                }
                None => add(std::mem::take(&mut large)),
            }
            let result = send_all(fd, input, slices.get_mut(..count).unwrap_or_default(), id.is_some());
            *has_sent = true;
            if let Err(errno) = result {
                *broken = Some(errno);
                buffer.clear();
                return Err(errno.into());
            }
            first = &[];
            if large.is_empty() {
                break;
            }
        }
        buffer.clear();
        Ok(())
    }
}

/// While the other side may still be sending its request, nothing is waited for without reading, too.
fn flags(input: &RefCell<Input>) -> SendFlags {
    if input.borrow().is_coming() { SendFlags::NOSIGNAL | SendFlags::DONTWAIT } else { SendFlags::NOSIGNAL }
}

/// Writes all of it. While the other side may still be sending its request, it is read meanwhile: mod_fcgid, for one, reads
/// nothing before it has sent everything.
fn send_all(
    fd: BorrowedFd<'_>,
    input: &RefCell<Input>,
    mut slices: &mut [IoSlice<'_>],
    is_socket: bool,
) -> Result<(), Errno> {
    IoSlice::advance_slices(&mut slices, 0);
    let is_coming = input.borrow().is_coming();
    let flags = flags(input);
    while !slices.is_empty() {
        let result = if is_socket {
            sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), flags)
        } else {
            rustix::io::writev(fd, slices)
        };
        match result {
            Ok(sent) => IoSlice::advance_slices(&mut slices, sent),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut input = input.borrow_mut();
                let events =
                    if is_coming && input.has_room() { PollFlags::IN | PollFlags::OUT } else { PollFlags::OUT };
                let mut fds = [PollFd::new(&fd, events)];
                let is_readable = poll(&mut fds, None).is_ok() && fds[0].revents().contains(PollFlags::IN);
                // At the other side's end there is nothing to read for ever: then only its reading is waited for.
                if is_readable && !input.take_early(fd) {
                    let _ = poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None);
                }
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
