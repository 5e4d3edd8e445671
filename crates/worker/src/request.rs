//! A request, as the application sees it.

use std::cell::RefCell;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::RecvFlags;

use crate::input::Input;
use crate::params::Params;

/// What is asked of the application (FastCGI 1.0 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Answer it.
    Responder,
    /// Say whether it may be answered.
    Authorizer,
}

/// A request. Its parameters are borrowed, and its body is read from the connection while the application reads it: it
/// implements [`Read`].
pub struct Request<'a> {
    pub(crate) params: &'a Params,
    pub(crate) input: &'a RefCell<Input>,
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) role: Role,
}

impl<'a> Request<'a> {
    /// A CGI variable (RFC 3875 §4.1) as bytes, such as `REQUEST_METHOD` or `HTTP_HOST`.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.params.get(name.as_bytes())
    }

    /// The same as text; `None` also if it is no UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.params.text(name)
    }

    /// All names and values, in the web server's order. Headers of the client begin with `HTTP_`.
    pub fn params(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.params.iter()
    }

    /// `REQUEST_METHOD`; `GET` where the web server does not say, and U+FFFD where it is no UTF-8.
    #[must_use]
    pub fn method(&self) -> &'a str {
        self.readable("REQUEST_METHOD").unwrap_or("GET")
    }

    /// `None`: it was not sent, or is empty. What cannot be read is told as something that nobody has a rule for.
    fn readable(&self, name: &str) -> Option<&'a str> {
        let bytes = self.param(name).filter(|bytes| !bytes.is_empty())?;
        Some(std::str::from_utf8(bytes).unwrap_or("\u{fffd}"))
    }

    /// The path that the client asked for, as it was sent (percent-encoded): `REQUEST_URI` up to its `?`, else `PATH_INFO` or
    /// `SCRIPT_NAME`. U+FFFD where it is no UTF-8.
    #[must_use]
    pub fn path(&self) -> &'a str {
        let Some(uri) = self.readable("REQUEST_URI") else {
            return self.readable("PATH_INFO").or_else(|| self.readable("SCRIPT_NAME")).unwrap_or("/");
        };
        let path = uri.split_once('?').map_or(uri, |(path, _)| path);
        if path.starts_with('/') {
            return path;
        }
        match path.split_once("://") {
            // A client may name the host as well (RFC 9112 §3.2.2).
            Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |slash| &rest[slash..]),
            _ => path,
        }
    }

    /// `QUERY_STRING`, percent-encoded; empty where there is none.
    #[must_use]
    pub fn query(&self) -> &'a str {
        self.text("QUERY_STRING").unwrap_or("")
    }

    /// How long the body is, if the web server has said so.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.params.content_length()
    }

    /// What is asked of the application.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// A piece of the body that has come already; 0 at its end. For handlers that wait for several things at once, this
    /// connection among them ([`AsFd`]). A CGI program waits here as in [`Read`].
    ///
    /// # Errors
    /// `WouldBlock`: nothing has come; wait for the connection. Others as of [`Read`].
    pub fn read_ready(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.borrow_mut().read_body(self.fd, buffer, RecvFlags::DONTWAIT)
    }

    /// The whole body, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// It is longer (`FileTooLarge`), or as of [`Read`].
    pub fn body(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let too_long = || io::Error::new(io::ErrorKind::FileTooLarge, format!("the body is longer than {limit} bytes"));
        if self.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_long());
        }
        let mut body = Vec::new();
        self.take((limit as u64).saturating_add(1)).read_to_end(&mut body)?;
        if body.len() > limit { Err(too_long()) } else { Ok(body) }
    }
}

/// The body; 0 at its end.
///
/// # Errors
/// `UnexpectedEof`: fewer bytes came than `CONTENT_LENGTH` has said, so the client has gone, and what it asked for must not
/// be done. `ConnectionAborted`: the web server does not want the answer any more. Others: the connection broke.
impl Read for Request<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.borrow_mut().read_body(self.fd, buffer, RecvFlags::empty())
    }
}

/// The connection, to be waited for together with others: it becomes readable when more of the body comes, or when the web
/// server has gone (POLLHUP). What has been read of it already shows only in [`Read`].
impl AsFd for Request<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}
