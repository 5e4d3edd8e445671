//! Reads what a web server sends to a responder: many requests at a time on one connection.

use super::error::Error;
use super::reader::Reader;
use super::record::{HEADER, Header, KEEP_CONN, kind, role};
use super::values::Asked;

/// One record in so many bytes of swallowed content is no flood.
const SWALLOWED_PER_RECORD: u64 = 64;
/// So many times [`Limits::records`] may be the records of a body, however small.
const BODY_RECORDS_FACTOR: u64 = 64;
/// After that, one record in so many bytes of body.
const BODY_PER_RECORD: u64 = 16;

/// What one connection may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that live at a time. The next BEGIN is [`Event::Refused`]. Keep it in the hundreds: living ids are
    /// searched one by one.
    pub requests: usize,
    /// Bytes of PARAMS for each request. Beyond is [`Event::TooLarge`].
    pub params: usize,
    /// PARAMS records for each request; also, since the last BEGIN that was not refused, records that mean nothing (swallowed
    /// ones, repeated empty ones, refused BEGINs, ABORTs) and management records, not counting one for each 64 bytes of their content. A body may have 64
    /// times as many records, and one more for each 16 bytes: who forwards keystrokes is no attacker. Beyond is
    /// [`Error::TooManyRecords`].
    pub records: u32,
    /// Bytes of a management record's content. Beyond is [`Error::ManagementTooLong`].
    pub management: u16,
}

impl Default for Limits {
    /// 128 requests at a time, 256 KiB of params, 1,024 records, 1,024 bytes of a management record.
    fn default() -> Limits {
        Limits { requests: 128, params: 256 * 1024, records: 1024, management: 1024 }
    }
}

/// What a web server said. Pieces of streams borrow the bytes that were given to [`RequestDecoder::next`], and are
/// never empty. Of a request come, in this order: [`Event::Begin`], [`Event::Params`], [`Event::ParamsEnd`],
/// [`Event::Stdin`], [`Event::StdinEnd`], for a filter [`Event::Data`], [`Event::DataEnd`]; an [`Event::Abort`] may come
/// anywhere, more than once. After [`Event::TooLarge`] only [`Event::Abort`] comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A request begins. It lives until [`RequestDecoder::end`].
    Begin {
        /// Not 0.
        id: u16,
        /// See [`role`]; any number is possible.
        role: u16,
        /// The web server closes the connection, not the application.
        keep: bool,
    },
    /// A piece of the stream of name-value pairs, cut anywhere.
    Params {
        /// The request.
        id: u16,
        /// The piece.
        bytes: &'a [u8],
    },
    /// The pairs are complete.
    ParamsEnd {
        /// The request.
        id: u16,
    },
    /// A piece of the body.
    Stdin {
        /// The request.
        id: u16,
        /// The piece.
        bytes: &'a [u8],
    },
    /// The body is complete. (It may be shorter than CONTENT_LENGTH said: then the client died.)
    StdinEnd {
        /// The request.
        id: u16,
    },
    /// A piece of a filter's file.
    Data {
        /// The request.
        id: u16,
        /// The piece.
        bytes: &'a [u8],
    },
    /// The file is complete.
    DataEnd {
        /// The request.
        id: u16,
    },
    /// The answer is no longer wanted: answer END soon.
    Abort {
        /// The request; it still lives.
        id: u16,
    },
    /// The request's params are beyond [`Limits::params`]; what else belongs to it is swallowed. It still lives: refuse
    /// it, then [`RequestDecoder::end`].
    TooLarge {
        /// The request.
        id: u16,
    },
    /// A request beyond [`Limits::requests`]; it does not live, and what else belongs to it is swallowed. Answer it.
    Refused {
        /// The request.
        id: u16,
        /// As in [`Event::Begin`].
        keep: bool,
    },
    /// The web server asks for variables: answer [`super::encode::get_values_result`], also when it is empty.
    GetValues(Asked),
    /// A management record of a kind that we do not know: answer [`super::encode::unknown_type`].
    Unknown {
        /// Its kind.
        kind: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Params,
    Stdin,
    Data,
    Complete,
    TooLarge,
}

/// What is to come after the parameters. (One byte: there is an entry for each request.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Streams {
    Stdin,
    StdinAndData,
    /// The web server does not want the answer: it has no reason to send the rest, but may.
    Aborted {
        filter: bool,
    },
}

impl Streams {
    fn is_filter(self) -> bool {
        matches!(self, Streams::StdinAndData | Streams::Aborted { filter: true })
    }

    /// The kind of the record that ends them, if it must come.
    fn last(self) -> Option<u8> {
        match self {
            Streams::Stdin => Some(kind::STDIN),
            Streams::StdinAndData => Some(kind::DATA),
            Streams::Aborted { .. } => None,
        }
    }
}

/// A living id.
#[derive(Clone, Copy, Debug)]
struct Active {
    id: u16,
    stage: Stage,
    streams: Streams,
    /// Records of the stream that is being read.
    records: u32,
    /// Its bytes.
    bytes: u64,
}

/// A request that does not live any more, and the kind of the empty record that is still to come for it.
#[derive(Clone, Copy, Debug)]
struct Unread {
    id: u16,
    last: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Body {
    #[default]
    Swallow,
    Params,
    Stdin,
    Data,
    Begin,
    GetValues,
    Unknown(u8),
}

/// Reads one web server's connection. After an error it says the same error for ever. Idle and new it holds no memory
/// beyond itself.
#[derive(Clone, Debug)]
pub struct RequestDecoder {
    limits: Limits,
    reader: Reader,
    body: Body,
    /// Whose record it is.
    id: u16,
    failed: Option<Error>,
    active: Vec<Active>,
    /// Requests that were ended before their last stream was, as many as may live at a time.
    unread: Vec<Unread>,
    gathered: Vec<u8>,
    /// Records that meant nothing, since the last BEGIN.
    idle_records: u64,
    /// Bytes of their content.
    idle_bytes: u64,
}

impl RequestDecoder {
    /// For a new connection.
    #[must_use]
    pub fn new(limits: Limits) -> RequestDecoder {
        RequestDecoder {
            limits,
            reader: Reader::default(),
            body: Body::Swallow,
            id: 0,
            failed: None,
            active: Vec::new(),
            unread: Vec::new(),
            gathered: Vec::new(),
            idle_records: 0,
            idle_bytes: 0,
        }
    }

    /// Takes what it understands from the front of `input`. `None`: everything was taken, more bytes are needed.
    ///
    /// # Errors
    /// The web server broke the protocol or a limit: the connection must be closed.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.step(input);
        if let Err(error) = result {
            self.failed = Some(error);
            self.active = Vec::new();
            self.unread = Vec::new();
            self.gathered = Vec::new();
        }
        result
    }

    /// The request was answered: its id is free again, and what still comes for it is swallowed. An id that does not
    /// live changes nothing.
    pub fn end(&mut self, id: u16) {
        if let Some(at) = self.active.iter().position(|active| active.id == id) {
            let ended = self.active.remove(at);
            if let Some(last) = ended.streams.last().filter(|_| ended.stage != Stage::Complete) {
                if self.unread.len() >= self.limits.requests {
                    self.unread.remove(0);
                }
                self.unread.push(Unread { id, last });
            }
        }
        if self.id == id && matches!(self.body, Body::Params | Body::Stdin | Body::Data) {
            self.body = Body::Swallow;
        }
    }

    /// No request lives, and the last record was read to the end of its padding: nothing would be lost by closing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.active.is_empty() && self.reader.is_between() && self.failed.is_none()
    }

    /// No request lives, and of the next one nothing has come: what is being read, if anything, is swallowed.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        let is_swallowing = self.reader.content() == 0 || self.body == Body::Swallow;
        self.active.is_empty() && is_swallowing && self.reader.holds_nothing() && self.failed.is_none()
    }

    /// Of a request that was ended before all of it had come, the rest is on its way: whoever closes now takes the answer from
    /// a web server that is still sending.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// How many requests live.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// Bytes that it holds beyond itself: an entry for each request that lived at a time, a smaller one for each that
    /// is not read to its end, and a management record that is not complete yet.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.active.capacity() * size_of::<Active>()
            + self.unread.capacity() * size_of::<Unread>()
            + self.gathered.capacity()
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        loop {
            if self.reader.content() == 0 {
                let Some(header) = self.reader.header(input)? else {
                    return Ok(None);
                };
                self.id = header.id;
                if let Some(event) = self.start(header)? {
                    return Ok(Some(event));
                }
                continue;
            }
            if input.is_empty() {
                return Ok(None);
            }
            let id = self.id;
            let event = match self.body {
                Body::Params => Event::Params { id, bytes: self.reader.piece(input) },
                Body::Stdin => Event::Stdin { id, bytes: self.reader.piece(input) },
                Body::Data => Event::Data { id, bytes: self.reader.piece(input) },
                Body::Begin => match self.reader.body(input) {
                    Some(body) => self.begin(body)?,
                    None => return Ok(None),
                },
                Body::GetValues => match self.get_values(input)? {
                    Some(event) => event,
                    None => return Ok(None),
                },
                Body::Unknown(kind) => {
                    self.reader.piece(input);
                    if self.reader.content() > 0 {
                        return Ok(None);
                    }
                    Event::Unknown { kind }
                }
                Body::Swallow => {
                    self.reader.piece(input);
                    continue;
                }
            };
            return Ok(Some(event));
        }
    }

    /// A header was read. An event only if there is nothing to wait for.
    fn start<'a>(&mut self, header: Header) -> Result<Option<Event<'a>>, Error> {
        let Header { kind, id, content, .. } = header;
        match kind {
            kind::PARAMS | kind::STDIN | kind::DATA | kind::BEGIN_REQUEST | kind::ABORT_REQUEST if id == 0 => {
                Err(Error::NoRequest { kind })
            }
            kind::PARAMS | kind::STDIN | kind::DATA => self.piece_of_stream(kind, id, content),
            kind::BEGIN_REQUEST => {
                if usize::from(content) != HEADER {
                    return Err(Error::BodyLength { kind, content });
                }
                if self.active.iter().any(|active| active.id == id) {
                    return Err(Error::AlreadyActive { id });
                }
                self.body = Body::Begin;
                Ok(None)
            }
            kind::ABORT_REQUEST => {
                if content != 0 {
                    return Err(Error::BodyLength { kind, content });
                }
                self.idle_record(kind, content)?;
                self.unread.retain(|unread| unread.id != id);
                let active = self.active.iter_mut().find(|active| active.id == id);
                Ok(active.map(|active| {
                    active.streams = Streams::Aborted { filter: active.streams.is_filter() };
                    Event::Abort { id }
                }))
            }
            kind::END_REQUEST | kind::STDOUT | kind::STDERR if id == 0 => Err(Error::NoRequest { kind }),
            kind::END_REQUEST | kind::STDOUT | kind::STDERR => Err(Error::UnexpectedKind { kind }),
            // An answer to UNKNOWN_TYPE would be answered for ever.
            kind::GET_VALUES_RESULT | kind::UNKNOWN_TYPE if id == 0 => Err(Error::UnexpectedKind { kind }),
            _ if id != 0 => Err(Error::ManagementId { kind, id }),
            _ => self.management(kind, content),
        }
    }

    fn piece_of_stream<'a>(&mut self, kind: u8, id: u16, content: u16) -> Result<Option<Event<'a>>, Error> {
        self.body = Body::Swallow;
        let (mine, body) = match kind {
            kind::PARAMS => (Stage::Params, Body::Params),
            kind::STDIN => (Stage::Stdin, Body::Stdin),
            _ => (Stage::Data, Body::Data),
        };
        let Some(active) = self.active.iter_mut().find(|active| active.id == id) else {
            if content == 0 {
                self.unread.retain(|unread| (unread.id, unread.last) != (id, kind));
            }
            self.idle_record(kind, content)?;
            return Ok(None);
        };
        if active.stage == Stage::TooLarge {
            self.idle_record(kind, content)?;
            return Ok(None);
        }
        if active.stage < mine {
            return Err(Error::TooEarly { kind, id });
        }
        if kind == kind::DATA && !active.streams.is_filter() {
            return Err(Error::UnexpectedKind { kind });
        }
        if active.stage > mine {
            // A second empty record is harmless; anything else would be a body that nobody announced.
            if content > 0 {
                return Err(Error::AfterEnd { kind, id });
            }
            self.idle_record(kind, content)?;
            return Ok(None);
        }
        if content == 0 {
            active.records = 0;
            active.bytes = 0;
            let (next, event) = match mine {
                Stage::Params => (Stage::Stdin, Event::ParamsEnd { id }),
                Stage::Stdin if active.streams.is_filter() => (Stage::Data, Event::StdinEnd { id }),
                Stage::Stdin => (Stage::Complete, Event::StdinEnd { id }),
                _ => (Stage::Complete, Event::DataEnd { id }),
            };
            active.stage = next;
            return Ok(Some(event));
        }
        active.records = active.records.saturating_add(1);
        active.bytes = active.bytes.saturating_add(u64::from(content));
        let base = u64::from(self.limits.records);
        let records = u64::from(active.records);
        if mine == Stage::Params {
            if active.bytes > self.limits.params as u64 {
                active.stage = Stage::TooLarge;
                return Ok(Some(Event::TooLarge { id }));
            }
            if records > base {
                return Err(Error::TooManyRecords { kind });
            }
        } else if records > base * BODY_RECORDS_FACTOR + active.bytes / BODY_PER_RECORD {
            return Err(Error::TooManyRecords { kind });
        }
        self.body = body;
        Ok(None)
    }

    fn management<'a>(&mut self, kind: u8, content: u16) -> Result<Option<Event<'a>>, Error> {
        if content > self.limits.management {
            return Err(Error::ManagementTooLong { kind, content });
        }
        self.idle_record(kind, content)?;
        let get_values = kind == kind::GET_VALUES;
        if content == 0 {
            self.body = Body::Swallow;
            let event = if get_values { Event::GetValues(Asked::default()) } else { Event::Unknown { kind } };
            return Ok(Some(event));
        }
        self.body = if get_values { Body::GetValues } else { Body::Unknown(kind) };
        Ok(None)
    }

    /// Counts a record that carries nothing for anybody.
    fn idle_record(&mut self, kind: u8, content: u16) -> Result<(), Error> {
        self.idle_records = self.idle_records.saturating_add(1);
        self.idle_bytes = self.idle_bytes.saturating_add(u64::from(content));
        if self.idle_records > u64::from(self.limits.records) + self.idle_bytes / SWALLOWED_PER_RECORD {
            return Err(Error::TooManyRecords { kind });
        }
        Ok(())
    }

    fn begin<'a>(&mut self, body: [u8; HEADER]) -> Result<Event<'a>, Error> {
        let [role1, role0, flags, ..] = body;
        let (id, role, keep) = (self.id, u16::from_be_bytes([role1, role0]), flags & KEEP_CONN != 0);
        if self.active.len() >= self.limits.requests {
            self.idle_record(kind::BEGIN_REQUEST, 0)?;
            return Ok(Event::Refused { id, keep });
        }
        self.idle_records = 0;
        self.idle_bytes = 0;
        self.unread.retain(|unread| unread.id != id);
        let streams = if role == role::FILTER { Streams::StdinAndData } else { Streams::Stdin };
        self.active.push(Active { id, stage: Stage::Params, streams, records: 0, bytes: 0 });
        Ok(Event::Begin { id, role, keep })
    }

    fn get_values<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        let piece = self.reader.piece(input);
        if self.reader.content() > 0 {
            self.gathered.extend_from_slice(piece);
            return Ok(None);
        }
        let asked = if self.gathered.is_empty() {
            Asked::parse(piece)?
        } else {
            let mut gathered = core::mem::take(&mut self.gathered);
            gathered.extend_from_slice(piece);
            Asked::parse(&gathered)?
        };
        Ok(Some(Event::GetValues(asked)))
    }
}
