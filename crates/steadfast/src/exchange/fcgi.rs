//! A FastCGI answer: the responder's streams, and the CGI head at the beginning of the first.

use steadfast_proto::fcgi::record::status;
use steadfast_proto::fcgi::response::{Answer, ResponseDecoder};

use super::broken::Broken;
use super::head::{self, Head};
use super::piece::Piece;

/// The id of all our requests: what every web server sends but HAProxy.
pub(super) const ID: u16 = 1;

/// Reads answers to requests under [`ID`].
#[derive(Debug)]
pub(crate) struct FcgiReader {
    decoder: ResponseDecoder,
    head: Head,
    status: u16,
    app_status: u32,
    /// A byte of the answer has come.
    is_begun: bool,
}

impl Default for FcgiReader {
    fn default() -> FcgiReader {
        FcgiReader {
            decoder: ResponseDecoder::new(ID),
            head: Head::default(),
            status: 0,
            app_status: 0,
            is_begun: false,
        }
    }
}

impl FcgiReader {
    pub(super) fn reset(&mut self) {
        self.decoder = ResponseDecoder::new(ID);
    }

    pub(super) fn begin(&mut self) {
        self.decoder.begin();
        self.head.clear();
        self.status = 0;
        self.app_status = 0;
        self.is_begun = false;
    }

    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Broken> {
        self.is_begun |= !input.is_empty();
        while let Some(answer) = self.decoder.next(input).map_err(broken)? {
            match answer {
                Answer::Stdout(bytes) if self.head.is_complete() => return Ok(Some(Piece::Body(bytes))),
                Answer::Stdout(bytes) => {
                    if let Some(body) = self.head.feed(bytes)? {
                        self.status = head::cgi_status(self.head.bytes())?;
                        return Ok(Some(Piece::Head { body }));
                    }
                }
                Answer::Stderr(text) => return Ok(Some(Piece::Stderr(text))),
                Answer::End { app_status, protocol_status } => {
                    self.app_status = app_status;
                    if protocol_status != status::REQUEST_COMPLETE {
                        return Err(Broken::Refused { protocol_status });
                    }
                    if !self.head.is_complete() {
                        return Err(Broken::NoHead);
                    }
                    return Ok(Some(Piece::Done));
                }
                Answer::StdoutEnd | Answer::StderrEnd | Answer::Values(_) | Answer::UnknownType { .. } => {}
            }
        }
        Ok(None)
    }

    pub(super) fn ended(&self) -> Result<(), Broken> {
        Err(Broken::Early { begun: self.is_begun })
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn app_status(&self) -> u32 {
        self.app_status
    }
}

fn broken(error: steadfast_proto::fcgi::Error) -> Broken {
    match error {
        steadfast_proto::fcgi::Error::Unasked => Broken::Extra,
        error => Broken::Fcgi(error),
    }
}
