//! An HTTP/1.1 answer: its head, and where its body ends (RFC 9112 §6.3).

use super::broken::Broken;
use super::head::Head;
use super::piece::Piece;

/// More headers than this are refused.
const HEADERS_MAX: usize = 128;
/// The longest line with a chunk's size, its extensions included.
const SIZE_LINE_MAX: usize = 1024;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was asked, or the answer is complete.
    Idle,
    Head,
    /// So many bytes of the body are to come.
    Length(u64),
    /// The body ends with the connection.
    UntilEnd,
    /// The line with a chunk's size.
    Size,
    /// So many bytes of a chunk are to come.
    Chunk(u64),
    /// The line end behind a chunk's bytes.
    ChunkEnd,
    /// Behind the last chunk, up to an empty line.
    Trailer,
    /// Told by [`Piece::Done`] next.
    Complete,
}

/// Reads answers to requests that were sent one at a time.
#[derive(Debug)]
pub(crate) struct HttpReader {
    is_head: bool,
    state: State,
    head: Head,
    trailer: Head,
    size: Vec<u8>,
    status: u16,
    keeps: bool,
    is_begun: bool,
}

/// How an answer's body ends.
enum Framing {
    Length(u64),
    Chunked,
    UntilEnd,
}

impl HttpReader {
    pub(super) fn new(is_head: bool) -> HttpReader {
        HttpReader {
            is_head,
            state: State::Idle,
            head: Head::default(),
            trailer: Head::default(),
            size: Vec::new(),
            status: 0,
            keeps: false,
            is_begun: false,
        }
    }

    pub(super) fn reset(&mut self) {
        self.state = State::Idle;
    }

    pub(super) fn begin(&mut self) {
        self.state = State::Head;
        self.head.clear();
        self.trailer.clear();
        self.size.clear();
        self.status = 0;
        self.keeps = false;
        self.is_begun = false;
    }

    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Broken> {
        self.is_begun |= !input.is_empty();
        loop {
            if self.state == State::Complete {
                self.state = State::Idle;
                return Ok(Some(Piece::Done));
            }
            if input.is_empty() {
                return Ok(None);
            }
            match self.state {
                State::Idle | State::Complete => return Err(Broken::Extra),
                State::Head => {
                    let Some(rest) = self.head.feed(input)? else {
                        *input = &[];
                        return Ok(None);
                    };
                    *input = rest;
                    if self.read_head()? {
                        return Ok(Some(Piece::Head { body: &[] }));
                    }
                }
                State::Length(left) => {
                    let piece = take(input, left);
                    self.state = match left - piece.len() as u64 {
                        0 => State::Complete,
                        left => State::Length(left),
                    };
                    return Ok(Some(Piece::Body(piece)));
                }
                State::UntilEnd => return Ok(Some(Piece::Body(take(input, u64::MAX)))),
                State::Chunk(left) => {
                    let piece = take(input, left);
                    self.state = match left - piece.len() as u64 {
                        0 => State::ChunkEnd,
                        left => State::Chunk(left),
                    };
                    return Ok(Some(Piece::Body(piece)));
                }
                State::Size => self.read_size(input)?,
                State::ChunkEnd => {
                    let byte = take(input, 1);
                    match byte {
                        b"\r" => {}
                        b"\n" => self.state = State::Size,
                        _ => return Err(Broken::Http("a chunk is longer than its size")),
                    }
                }
                State::Trailer => {
                    let Some(rest) = self.trailer.feed(input)? else {
                        *input = &[];
                        return Ok(None);
                    };
                    *input = rest;
                    self.state = State::Complete;
                }
            }
        }
    }

    /// The head is collected. False: it was an interim one, the real one follows.
    fn read_head(&mut self) -> Result<bool, Broken> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(self.head.bytes()) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Broken::Http("its head has no end")),
            Err(error) => return Err(Broken::Http(words(error))),
        }
        let status = response.code.unwrap_or(0);
        if status == 101 {
            return Err(Broken::Http("it switches to a protocol that nobody asked for (101)"));
        }
        if (100..200).contains(&status) {
            self.head.clear();
            return Ok(false);
        }
        let framing = framing(response.headers, status, self.is_head)?;
        let is_newer = response.version == Some(1);
        self.keeps = keeps(response.headers, is_newer) && !matches!(framing, Framing::UntilEnd);
        self.status = status;
        self.state = match framing {
            Framing::Length(0) => State::Complete,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
            Framing::UntilEnd => State::UntilEnd,
        };
        Ok(true)
    }

    fn read_size(&mut self, input: &mut &[u8]) -> Result<(), Broken> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let line = take(input, end.map_or(u64::MAX, |end| end as u64 + 1));
        if self.size.len() + line.len() > SIZE_LINE_MAX {
            return Err(Broken::Http("a chunk's size has a line that is too long"));
        }
        self.size.extend_from_slice(line);
        if end.is_none() {
            return Ok(());
        }
        let Ok(httparse::Status::Complete((_, size))) = httparse::parse_chunk_size(&self.size) else {
            return Err(Broken::Http("a chunk's size is no number"));
        };
        self.size.clear();
        self.state = if size == 0 { State::Trailer } else { State::Chunk(size) };
        if size == 0 {
            // The empty line that ends the trailer follows; as a head, it may be the first one.
            self.trailer.clear();
        }
        Ok(())
    }

    pub(super) fn ended(&self) -> Result<(), Broken> {
        if self.state == State::UntilEnd { Ok(()) } else { Err(Broken::Early { begun: self.is_begun }) }
    }

    pub(super) fn may_reuse(&self) -> bool {
        self.keeps
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }
}

fn take<'a>(input: &mut &'a [u8], most: u64) -> &'a [u8] {
    let taken = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
    let (piece, rest) = input.split_at(taken);
    *input = rest;
    piece
}

fn framing(headers: &[httparse::Header<'_>], status: u16, is_head: bool) -> Result<Framing, Broken> {
    let mut length: Option<u64> = None;
    let mut codings = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("transfer-encoding"));
    for header in headers.iter().filter(|header| header.name.eq_ignore_ascii_case("content-length")) {
        let this = number(header.value).ok_or(Broken::Http("Content-Length is no number"))?;
        if length.is_some_and(|length| length != this) {
            return Err(Broken::Http("two different Content-Length"));
        }
        length = Some(this);
    }
    let coding = codings.next();
    if coding.is_some() && (length.is_some() || codings.next().is_some()) {
        return Err(Broken::Http("Transfer-Encoding is not alone: where the body ends cannot be known"));
    }
    if is_head || matches!(status, 204 | 304) {
        return Ok(Framing::Length(0));
    }
    match (coding, length) {
        (Some(coding), _) if coding.value.trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(_), _) => Err(Broken::Http("a Transfer-Encoding other than chunked")),
        (None, Some(length)) => Ok(Framing::Length(length)),
        (None, None) => Ok(Framing::UntilEnd),
    }
}

/// Whether the server keeps the connection.
fn keeps(headers: &[httparse::Header<'_>], is_newer: bool) -> bool {
    let says = |word: &[u8]| {
        let values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
        values.flat_map(|header| header.value.split(|byte| *byte == b',')).any(|value| {
            let value = value.trim_ascii();
            value.eq_ignore_ascii_case(word)
        })
    };
    if is_newer { !says(b"close") } else { says(b"keep-alive") }
}

fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn words(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a header's name has a byte that it cannot have",
        httparse::Error::HeaderValue => "a header's value has a byte that it cannot have",
        httparse::Error::NewLine => "a line ends in another way than lines do",
        httparse::Error::Status => "its status line has no status",
        httparse::Error::Token => "its status line is none",
        httparse::Error::TooManyHeaders => "more than 128 headers",
        httparse::Error::Version => "its version is neither HTTP/1.0 nor HTTP/1.1",
    }
}
