//! Reads one answer after the other from a connection's bytes, in either language.

use super::address::Protocol;
use super::broken::Broken;
use super::fcgi::FcgiReader;
use super::head::{self, Head};
use super::http::HttpReader;
use super::piece::Piece;

/// See [`Reader::next`].
#[derive(Debug)]
pub(crate) enum Reader {
    Fcgi(Box<FcgiReader>),
    Http(Box<HttpReader>),
}

impl Reader {
    /// `is_head`: the request's method is HEAD, whose answers have no body in HTTP.
    pub(crate) fn new(protocol: Protocol, is_head: bool) -> Reader {
        match protocol {
            Protocol::Fcgi => Reader::Fcgi(Box::default()),
            Protocol::Http => Reader::Http(Box::new(HttpReader::new(is_head))),
        }
    }

    /// A new connection: nothing of the one before counts.
    pub(crate) fn reset(&mut self) {
        match self {
            Reader::Fcgi(reader) => reader.reset(),
            Reader::Http(reader) => reader.reset(),
        }
    }

    /// A request was sent.
    pub(crate) fn begin(&mut self) {
        match self {
            Reader::Fcgi(reader) => reader.begin(),
            Reader::Http(reader) => reader.begin(),
        }
    }

    /// Takes what it understands from the front of `input`. `None`: everything was taken, more bytes are needed.
    ///
    /// # Errors
    /// This is no answer: the connection is of no use.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Broken> {
        match self {
            Reader::Fcgi(reader) => reader.next(input),
            Reader::Http(reader) => reader.next(input),
        }
    }

    /// The connection has ended. Good where that is how the answer ends.
    ///
    /// # Errors
    /// The answer was not complete.
    pub(crate) fn ended(&self) -> Result<(), Broken> {
        match self {
            Reader::Fcgi(reader) => reader.ended(),
            Reader::Http(reader) => reader.ended(),
        }
    }

    /// Whether the connection may carry another request, as far as the peer has said.
    pub(crate) fn may_reuse(&self) -> bool {
        match self {
            Reader::Fcgi(_) => true,
            Reader::Http(reader) => reader.may_reuse(),
        }
    }

    /// The last answer's head, from [`Piece::Head`] on.
    pub(crate) fn head(&self) -> &[u8] {
        self.collected().bytes()
    }

    /// The last answer's status, from [`Piece::Head`] on.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Reader::Fcgi(reader) => reader.status(),
            Reader::Http(reader) => reader.status(),
        }
    }

    /// What a CGI program's exit code would be, from [`Piece::Done`] on; 0 where the language has none.
    pub(crate) fn app_status(&self) -> u32 {
        match self {
            Reader::Fcgi(reader) => reader.app_status(),
            Reader::Http(_) => 0,
        }
    }

    /// The value of a header of the last answer, from [`Piece::Head`] on.
    pub(crate) fn find(&self, name: &str) -> Option<&[u8]> {
        head::find(self.head(), name)
    }

    fn collected(&self) -> &Head {
        match self {
            Reader::Fcgi(reader) => reader.head(),
            Reader::Http(reader) => reader.head(),
        }
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
