//! The answer, as the application writes it: a head of CGI header fields, then the body.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use crate::input::Input;
use crate::output::Output;
use crate::reason::reason;

/// An answer. First its head: [`Response::status`], [`Response::header`], both of which may be left out; then its body, by
/// [`Write`]. Small answers are sent when the handler returns, by one system call; larger ones as they are written.
pub struct Response<'a> {
    pub(crate) output: &'a RefCell<Output>,
    pub(crate) input: &'a RefCell<Input>,
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) head: Head,
    /// The client has asked for the head only, or the status has no body.
    pub(crate) is_bodiless: bool,
}

/// What has been said of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    Empty,
    Begun { has_status: bool, has_location: bool },
    Complete,
}

impl<'a> Response<'a> {
    /// The status, such as 404; if it is never said 200, or 302 where there is a `Location`. What is written after 204 or 304 is
    /// swallowed, because those have no body.
    ///
    /// # Errors
    /// `InvalidInput`: it is no status of an answer (200 to 999), was said before, or the body has begun. Others: the connection broke.
    pub fn status(&mut self, status: u16) -> io::Result<&mut Response<'a>> {
        self.status_with_reason(status, reason(status))
    }

    /// The same with words of your own after the number, which web servers pass on as they are.
    ///
    /// # Errors
    /// As of [`Response::status`]; `InvalidInput` also when the reason has a control character in it.
    pub fn status_with_reason(&mut self, status: u16, reason: &str) -> io::Result<&mut Response<'a>> {
        if reason.chars().any(char::is_control) {
            return Err(misuse("the reason has a control character in it"));
        }
        if !(200..=999).contains(&status) {
            return Err(misuse(format!("{status} is no HTTP status of an answer")));
        }
        let has_location = match self.head {
            Head::Begun { has_status: true, .. } => return Err(misuse("the status was said before")),
            Head::Begun { has_location, .. } => has_location,
            Head::Empty | Head::Complete => false,
        };
        let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
        let blank: &[u8] = if reason.is_empty() { b"" } else { b" " };
        self.field(&[b"Status: ", &digits, blank, reason.as_bytes(), b"\r\n"])?;
        self.head = Head::Begun { has_status: true, has_location };
        self.is_bodiless = self.is_bodiless || matches!(status, 204 | 304);
        Ok(self)
    }

    /// A header field. There is no default for any: without `Content-Type` the client is told of none.
    ///
    /// # Errors
    /// `InvalidInput`: the name is none (RFC 9110 §5.1) or the web server's to say (`Connection`, `Transfer-Encoding`), the value
    /// has a line break or NUL in it, or the body has begun. Others: the connection broke.
    pub fn header(&mut self, name: &str, value: impl AsRef<[u8]>) -> io::Result<&mut Response<'a>> {
        let value = value.as_ref();
        if !is_token(name) {
            return Err(misuse(format!("{name:?} is no name of a header field")));
        }
        if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(misuse(format!("the value of {name} has a line break or a NUL in it")));
        }
        if name.eq_ignore_ascii_case("status") {
            return Err(misuse("the status is said by Response::status"));
        }
        if ["connection", "transfer-encoding"].iter().any(|own| name.eq_ignore_ascii_case(own)) {
            return Err(misuse(format!("{name} is the web server's to say, who frames the answer")));
        }
        self.field(&[name.as_bytes(), b": ", value, b"\r\n"])?;
        if let Head::Begun { has_location, .. } = &mut self.head {
            *has_location = *has_location || name.eq_ignore_ascii_case("location");
        }
        Ok(self)
    }

    /// A redirect: the status (302, 303, 307 …) and `Location`.
    ///
    /// # Errors
    /// As of [`Response::status`] and [`Response::header`].
    pub fn redirect(&mut self, status: u16, location: &str) -> io::Result<&mut Response<'a>> {
        self.status(status)?.header("Location", location)
    }

    /// Of an authorizer: a variable that the request gets when it is allowed (FastCGI 1.0 §6.3).
    ///
    /// # Errors
    /// As of [`Response::header`].
    pub fn variable(&mut self, name: &str, value: impl AsRef<[u8]>) -> io::Result<&mut Response<'a>> {
        if !is_token(name) {
            return Err(misuse(format!("{name:?} is no name of a variable")));
        }
        self.header(&format!("Variable-{name}"), value)
    }

    /// A line for the web server's error log, with the request that it belongs to.
    pub fn warn(&mut self, message: impl fmt::Display) {
        self.output.borrow_mut().write_error(format!("{message}\n").as_bytes());
    }

    /// Whether some of the answer has left already: then no other can take its place.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.output.borrow().has_sent()
    }

    fn field(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        match self.head {
            Head::Complete => return Err(misuse("the body has begun: header fields come before it")),
            Head::Empty => self.head = Head::Begun { has_status: false, has_location: false },
            Head::Begun { .. } => {}
        }
        self.output.borrow_mut().write_pieces(self.fd, self.input, pieces)
    }

    fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        self.output.borrow_mut().write(self.fd, self.input, bytes)
    }

    /// The head is complete.
    pub(crate) fn end_head(&mut self) -> io::Result<()> {
        let end: &[u8] = match self.head {
            Head::Complete => return Ok(()),
            Head::Begun { has_status: true, .. } => b"\r\n",
            // Without a status some servers would follow a Location by themselves (RFC 3875 §6.2.2).
            Head::Begun { has_location: true, .. } => b"Status: 302 Found\r\n\r\n",
            Head::Empty | Head::Begun { .. } => b"Status: 200 OK\r\n\r\n",
        };
        self.head = Head::Complete;
        self.raw(end)
    }
}

/// The body. The first byte, and a flush, end the head. Of a HEAD request, and after 204 and 304, it is swallowed.
///
/// # Errors
/// The client or the web server has gone (`BrokenPipe`, `ConnectionReset`): there is nobody to answer any more.
impl Write for Response<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.end_head()?;
        if !self.is_bodiless {
            self.raw(bytes)?;
        }
        Ok(bytes.len())
    }

    /// Sends what has been written so far.
    fn flush(&mut self) -> io::Result<()> {
        self.end_head()?;
        self.output.borrow_mut().flush(self.fd, self.input)
    }
}

fn misuse(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.into())
}

/// A name of a header field (RFC 9110 §5.6.2).
fn is_token(name: &str) -> bool {
    const IN_TOKENS: [bool; 256] = {
        let mut table = [false; 256];
        let others = b"!#$%&'*+-.^_`|~";
        let mut byte = 0;
        while byte < 256 {
            table[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut at = 0;
        while at < others.len() {
            table[others[at] as usize] = true;
            at += 1;
        }
        table
    };
    !name.is_empty() && name.bytes().all(|byte| IN_TOKENS[usize::from(byte)])
}
