//! Reads what one worker answers: one request at a time, strictly.
//!
//! No count of records bounds an answer: each carries at least a byte, or ends its stream, and a program may stream
//! single bytes for days. Who reads an answer bounds its header, its time and its log lines.

use super::error::Error;
use super::reader::Reader;
use super::record::{HEADER, Header, kind};
use super::values::Values;

/// The answer to our GET_VALUES may be so long.
const VALUES_MAX: u16 = 4096;
/// So many empty records after a stream's end are forgiven.
const EMPTY_MAX: u8 = 8;

/// What a worker said. Pieces of streams borrow the bytes that were given to [`ResponseDecoder::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A piece of the answer, never empty. Header and body may be cut anywhere.
    Stdout(&'a [u8]),
    /// The answer is complete. Not every worker says it: [`Answer::End`] without it is complete, too.
    StdoutEnd,
    /// A piece of text for a log, never empty, hostile as everything else.
    Stderr(&'a [u8]),
    /// No more text.
    StderrEnd,
    /// The request is over.
    End {
        /// As a CGI program's exit code.
        app_status: u32,
        /// See [`super::record::status`].
        protocol_status: u8,
    },
    /// It answers GET_VALUES.
    Values(Values),
    /// It did not understand a management record of this kind.
    UnknownType {
        /// What it did not understand.
        kind: u8,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Body {
    #[default]
    None,
    Stdout,
    Stderr,
    End,
    Values,
    UnknownType,
}

/// Reads one worker's bytes. After an error it says the same error for ever.
#[derive(Clone, Debug)]
pub struct ResponseDecoder {
    id: u16,
    reader: Reader,
    body: Body,
    open: bool,
    asked: bool,
    stdout_ended: bool,
    stderr_ended: bool,
    empty: u8,
    gathered: Vec<u8>,
    failed: Option<Error>,
}

impl ResponseDecoder {
    /// For answers to requests that are sent under `id`, which is not 0.
    #[must_use]
    pub fn new(id: u16) -> ResponseDecoder {
        ResponseDecoder {
            id,
            reader: Reader::default(),
            body: Body::None,
            open: false,
            asked: false,
            stdout_ended: false,
            stderr_ended: false,
            empty: 0,
            gathered: Vec::new(),
            failed: None,
        }
    }

    /// A request was sent: an answer is expected.
    pub fn begin(&mut self) {
        self.open = true;
        self.stdout_ended = false;
        self.stderr_ended = false;
        self.empty = 0;
    }

    /// GET_VALUES was sent: one management record is expected.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// Nothing is expected, and the last record was read to the end of its padding.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.open && !self.asked && self.reader.is_between() && self.failed.is_none()
    }

    /// Takes what it understands from the front of `input`. `None`: everything was taken, more bytes are needed.
    ///
    /// # Errors
    /// The worker broke the protocol: the connection must be closed.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Answer<'a>>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.step(input);
        if let Err(error) = result {
            self.failed = Some(error);
            self.gathered = Vec::new();
        }
        result
    }

    /// Bytes that it holds beyond itself: a management record that is not complete yet.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.gathered.capacity()
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Answer<'a>>, Error> {
        loop {
            if self.reader.content() == 0 {
                if !self.reader.skip_padding(input) || input.is_empty() {
                    return Ok(None);
                }
                if !self.open && !self.asked {
                    return Err(Error::Unasked);
                }
                let Some(header) = self.reader.header(input)? else {
                    return Ok(None);
                };
                if let Some(answer) = self.start(header)? {
                    return Ok(Some(answer));
                }
                continue;
            }
            if input.is_empty() {
                return Ok(None);
            }
            return match self.body {
                Body::Stdout => Ok(Some(Answer::Stdout(self.reader.piece(input)))),
                Body::Stderr => Ok(Some(Answer::Stderr(self.reader.piece(input)))),
                Body::End | Body::UnknownType => Ok(self.reader.body(input).map(|body| self.discrete(body))),
                Body::Values => self.values(input),
                // Only kinds with a content that somebody wants have one.
                Body::None => Err(Error::Unasked),
            };
        }
    }

    fn start<'a>(&mut self, header: Header) -> Result<Option<Answer<'a>>, Error> {
        let Header { kind, id, content, .. } = header;
        match kind {
            kind::STDOUT | kind::STDERR | kind::END_REQUEST => self.request_record(kind, id, content),
            kind::GET_VALUES_RESULT | kind::UNKNOWN_TYPE => self.management_record(kind, id, content),
            _ => Err(Error::UnexpectedKind { kind }),
        }
    }

    fn request_record<'a>(&mut self, kind: u8, id: u16, content: u16) -> Result<Option<Answer<'a>>, Error> {
        if id == 0 {
            return Err(Error::NoRequest { kind });
        }
        if !self.open {
            return Err(Error::Unasked);
        }
        if id != self.id {
            return Err(Error::WrongId { id, expected: self.id });
        }
        if kind == kind::END_REQUEST {
            if usize::from(content) != HEADER {
                return Err(Error::BodyLength { kind, content });
            }
            self.body = Body::End;
            return Ok(None);
        }
        let (ended, body, end) = if kind == kind::STDOUT {
            (&mut self.stdout_ended, Body::Stdout, Answer::StdoutEnd)
        } else {
            (&mut self.stderr_ended, Body::Stderr, Answer::StderrEnd)
        };
        if content > 0 {
            if *ended {
                return Err(Error::AfterEnd { kind, id });
            }
            self.body = body;
            return Ok(None);
        }
        if !*ended {
            *ended = true;
            return Ok(Some(end));
        }
        self.empty += 1;
        if self.empty > EMPTY_MAX {
            return Err(Error::TooManyRecords { kind });
        }
        Ok(None)
    }

    fn management_record<'a>(&mut self, kind: u8, id: u16, content: u16) -> Result<Option<Answer<'a>>, Error> {
        if id != 0 {
            return Err(Error::ManagementId { kind, id });
        }
        if !self.asked {
            return Err(Error::UnexpectedKind { kind });
        }
        if kind == kind::UNKNOWN_TYPE {
            if usize::from(content) != HEADER {
                return Err(Error::BodyLength { kind, content });
            }
            self.body = Body::UnknownType;
            return Ok(None);
        }
        if content > VALUES_MAX {
            return Err(Error::ManagementTooLong { kind, content });
        }
        if content == 0 {
            self.asked = false;
            return Ok(Some(Answer::Values(Values::default())));
        }
        self.body = Body::Values;
        Ok(None)
    }

    fn discrete<'a>(&mut self, body: [u8; HEADER]) -> Answer<'a> {
        let [a, b, c, d, protocol_status, ..] = body;
        if self.body == Body::UnknownType {
            self.asked = false;
            return Answer::UnknownType { kind: a };
        }
        self.open = false;
        Answer::End { app_status: u32::from_be_bytes([a, b, c, d]), protocol_status }
    }

    fn values<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Answer<'a>>, Error> {
        let piece = self.reader.piece(input);
        let values = if self.reader.content() > 0 {
            self.gathered.extend_from_slice(piece);
            return Ok(None);
        } else if self.gathered.is_empty() {
            Values::parse(piece)?
        } else {
            let mut gathered = core::mem::take(&mut self.gathered);
            gathered.extend_from_slice(piece);
            Values::parse(&gathered)?
        };
        self.asked = false;
        Ok(Some(Answer::Values(values)))
    }
}
