//! The plain loop with a handler on the types of the crate `http`: one request at a time, its body by [`Read`].

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;

use crate::builder::{Builder, Worker};
use crate::failure::Failure;
use crate::head::{self, Variables};
use crate::request::Request;
use crate::response::Response;

/// So much of a body is read at a time.
const PIECE: usize = 32 * 1024;

/// The body of a request, read from the connection while the application reads it. Errors as of [`Request`]'s [`Read`].
pub struct RequestBody<'r>(&'r mut dyn Read);

impl Read for RequestBody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl fmt::Debug for RequestBody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestBody")
    }
}

/// The body of an answer: bytes, text, or something that is read ([`ResponseBody::reader`]) while it is sent.
pub struct ResponseBody(Kind);

enum Kind {
    Bytes(Vec<u8>),
    Text(&'static str),
    Reader(Box<dyn Read>),
}

impl ResponseBody {
    /// A body that is read when the handler has returned. What it gives in one piece is sent before it is asked for more, so
    /// that it may wait for something to tell.
    pub fn reader(reader: impl Read + 'static) -> ResponseBody {
        ResponseBody(Kind::Reader(Box::new(reader)))
    }

    fn length(&self) -> Option<u64> {
        match &self.0 {
            Kind::Bytes(bytes) => Some(bytes.len() as u64),
            Kind::Text(text) => Some(text.len() as u64),
            Kind::Reader(_) => None,
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("length", &self.length()).finish()
    }
}

impl From<()> for ResponseBody {
    fn from((): ()) -> ResponseBody {
        ResponseBody(Kind::Text(""))
    }
}

impl From<&'static str> for ResponseBody {
    fn from(text: &'static str) -> ResponseBody {
        ResponseBody(Kind::Text(text))
    }
}

impl From<String> for ResponseBody {
    fn from(text: String) -> ResponseBody {
        ResponseBody(Kind::Bytes(text.into_bytes()))
    }
}

impl From<Vec<u8>> for ResponseBody {
    fn from(bytes: Vec<u8>) -> ResponseBody {
        ResponseBody(Kind::Bytes(bytes))
    }
}

impl From<File> for ResponseBody {
    fn from(file: File) -> ResponseBody {
        ResponseBody::reader(file)
    }
}

impl Worker {
    /// Serves requests in the words of the crate `http` without further ado: see [`Builder::serve_http`].
    pub fn serve_http<H, B>(handler: H) -> ExitCode
    where
        H: FnMut(http::Request<RequestBody<'_>>) -> Result<http::Response<B>, Failure>,
        B: Into<ResponseBody>,
    {
        Worker::builder().serve_http(handler)
    }
}

impl Builder<'_> {
    /// As [`Builder::serve`], with a handler in the words of the crate `http` (feature `http`). [`Variables`] is an extension of
    /// each request; one that cannot be an [`http::Request`] is answered 400. `Content-Length` is said for the application where
    /// it is known.
    ///
    /// ```no_run
    /// use std::process::ExitCode;
    ///
    /// use steadfast_worker::Worker;
    ///
    /// fn main() -> ExitCode {
    ///     Worker::builder().serve_http(|request| {
    ///         let greeting = format!("Hello. You have asked for {}.\n", request.uri().path());
    ///         Ok(http::Response::builder().header("Content-Type", "text/plain").body(greeting)?)
    ///     })
    /// }
    /// ```
    pub fn serve_http<H, B>(self, mut handler: H) -> ExitCode
    where
        H: FnMut(http::Request<RequestBody<'_>>) -> Result<http::Response<B>, Failure>,
        B: Into<ResponseBody>,
    {
        self.serve(move |request, response| {
            let Some(asked) = translate(request, response)? else {
                return Ok(());
            };
            let (parts, body) = handler(asked.map(|()| RequestBody(request)))?.into_parts();
            write(&parts, body.into(), response)
        })
    }
}

/// `None` when it cannot be an [`http::Request`], and was answered.
fn translate(request: &Request<'_>, response: &mut Response<'_>) -> Result<Option<http::Request<()>>, Failure> {
    match head::request(request.params) {
        Ok(mut parts) => {
            parts.extensions.insert(Variables(Arc::new(request.params.clone())));
            Ok(Some(http::Request::from_parts(parts, ())))
        }
        Err(why) => {
            response.warn(format_args!("bad request: {why}"));
            response.status(400)?.header("Content-Type", "text/plain")?;
            response.write_all(b"The request cannot be read.\n")?;
            Ok(None)
        }
    }
}

fn write(parts: &http::response::Parts, body: ResponseBody, response: &mut Response<'_>) -> Result<(), Failure> {
    head::check(parts).map_err(Failure::request)?;
    response.status(parts.status.as_u16())?;
    for (name, value) in head::fields(parts) {
        response.header(name.as_str(), value.as_bytes())?;
    }
    if let Some(length) = head::length_to_say(parts, body.length(), response.is_bodiless) {
        response.header("content-length", length.to_string())?;
    }
    if response.is_bodiless {
        return Ok(());
    }
    match body.0 {
        Kind::Bytes(bytes) => response.write_all(&bytes)?,
        Kind::Text(text) => response.write_all(text.as_bytes())?,
        Kind::Reader(mut reader) => {
            let mut piece = vec![0; PIECE];
            loop {
                match reader.read(&mut piece) {
                    Ok(0) => break,
                    Ok(got) => response.write_all(piece.get(..got).unwrap_or_default())?,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error.into()),
                }
                response.flush()?;
            }
        }
    }
    Ok(())
}
