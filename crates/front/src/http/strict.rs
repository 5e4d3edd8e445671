//! A second reader of what hyper reads, which only objects: two readers that do not agree are how requests are smuggled.
//!
//! hyper is lenient where RFC 9112 allows it. It takes `Transfer-Encoding` when there is a `Content-Length`, too, drops
//! the latter before anybody sees it, and lets lines end with a lone LF; whatever stands in front of us may read that
//! otherwise. This reader follows the same bytes through heads, bodies and chunks, and has one verdict for each head. A
//! request for which hyper sees a head and this reader does not is refused like one that is ambiguous.

use std::collections::VecDeque;

/// So much of a line is kept: more than the lines that matter have.
const KEPT_MAX: usize = 64;

/// What a head said about its frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    lengths: u8,
    codings: u8,
    /// A line ended with LF alone.
    has_bare_lf: bool,
    /// The target has a `#`, of which hyper would tell nobody.
    has_fragment: bool,
}

impl Frame {
    /// Whether it can be understood in one way only.
    pub(super) fn is_clear(self) -> bool {
        self.lengths + self.codings <= 1 && !self.has_bare_lf && !self.has_fragment
    }
}

/// Where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// Between two messages, or in a request line.
    #[default]
    First,
    /// In the headers.
    Headers,
    /// In a body of which so much is left.
    Body(u64),
    /// In a line with a chunk's size.
    Size,
    /// In a chunk, and the line end behind it, of which so much is left.
    Chunk(u64),
    /// In the lines after the last chunk.
    Trailers,
    /// It understands nothing any more; hyper should have refused that.
    Lost,
}

/// The second reader.
#[derive(Debug, Default)]
pub(super) struct Strict {
    part: Part,
    /// The beginning of the current line.
    kept: Vec<u8>,
    /// All of the current line.
    length: usize,
    /// Its last byte.
    last: u8,
    frame: Frame,
    body: Option<u64>,
    /// Of heads that hyper has not handed out yet.
    frames: VecDeque<Frame>,
}

impl Strict {
    /// Reads what hyper is given.
    pub(super) fn watch(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            match self.part {
                Part::Body(left) => {
                    let left = skip(&mut input, left);
                    self.part = if left == 0 { Part::First } else { Part::Body(left) };
                }
                Part::Chunk(left) => {
                    let left = skip(&mut input, left);
                    self.part = if left == 0 { Part::Size } else { Part::Chunk(left) };
                }
                Part::Lost => return,
                Part::First | Part::Headers | Part::Size | Part::Trailers => {
                    let Some(at) = input.iter().position(|byte| *byte == b'\n') else { return self.keep(input) };
                    self.keep(&input[..at]);
                    input = &input[at + 1..];
                    self.line();
                    self.kept.clear();
                    self.length = 0;
                }
            }
        }
    }

    /// What the next head said that hyper hands out. `None`: there is none.
    pub(super) fn next_head(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front();
        if self.frames.is_empty() {
            // Most connections never need it again.
            self.frames = VecDeque::new();
        }
        frame
    }

    /// Whether nothing has come of a message that is not complete.
    pub(super) fn is_between(&self) -> bool {
        self.part == Part::First && self.length == 0 && self.frames.is_empty()
    }

    fn keep(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        self.last = *last;
        self.length += bytes.len();
        let room = KEPT_MAX.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.frame.has_fragment |= self.part == Part::First && bytes.contains(&b'#');
    }

    fn line(&mut self) {
        let is_bare = self.length == 0 || self.last != b'\r';
        let is_empty = self.length == 0 || (self.length == 1 && self.last == b'\r');
        match self.part {
            // RFC 9112, section 2.2: an empty line before a request is ignored.
            Part::First if is_empty => {}
            Part::First => {
                self.frame.has_bare_lf = is_bare;
                self.part = Part::Headers;
            }
            Part::Headers => {
                self.frame.has_bare_lf |= is_bare;
                if is_empty {
                    self.headed();
                } else {
                    self.header();
                }
            }
            Part::Size => {
                self.part = match size(&self.kept) {
                    Some(0) => Part::Trailers,
                    Some(size) => size.checked_add(2).map_or(Part::Lost, Part::Chunk),
                    None => Part::Lost,
                };
            }
            Part::Trailers if is_empty => self.part = Part::First,
            Part::Trailers | Part::Lost | Part::Body(_) | Part::Chunk(_) => {}
        }
    }

    fn header(&mut self) {
        let Some(colon) = self.kept.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (&self.kept[..colon], self.kept[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            self.frame.lengths = self.frame.lengths.saturating_add(1).min(100);
            self.body = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.frame.codings = self.frame.codings.saturating_add(1).min(100);
        }
    }

    fn headed(&mut self) {
        let frame = std::mem::take(&mut self.frame);
        let body = self.body.take();
        self.frames.push_back(frame);
        self.part = match body {
            _ if frame.codings > 0 => Part::Size,
            Some(length) if length > 0 => Part::Body(length),
            _ => Part::First,
        };
    }
}

fn skip(input: &mut &[u8], left: u64) -> u64 {
    let here = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    *input = &input[here..];
    left - here as u64
}

/// The hexadecimal number that a line begins with.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let digits = std::str::from_utf8(&line[..digits]).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it says of each head, however the bytes are cut; and whether it ends between two messages.
    fn read(bytes: &str) -> (Vec<bool>, bool) {
        let all = (1..=bytes.len()).map(|step| {
            let mut strict = Strict::default();
            bytes.as_bytes().chunks(step).for_each(|piece| strict.watch(piece));
            let mut clear = Vec::new();
            while let Some(frame) = strict.next_head() {
                clear.push(frame.is_clear());
            }
            (clear, strict.is_between())
        });
        let all: Vec<_> = all.collect();
        assert!(all.windows(2).all(|two| two[0] == two[1]), "{bytes:?} depends on how it is cut: {all:?}");
        all.into_iter().next().expect("not empty")
    }

    #[test]
    fn messages_follow_each_other() {
        let all = "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 7\r\n\r\nGET /\r\n\
            PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nGET /\r\na\r\n\r\n\r\n234567\r\n0\r\nX: y\r\n\r\n\
            GET / HTTP/1.0\r\n\r\n";
        assert_eq!(read(all), (vec![true; 4], true));
    }

    #[test]
    fn the_middle_of_a_message_is_not_between_two() {
        for part in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n"] {
            assert_eq!(read(part), (vec![], false), "{part:?}");
        }
        assert_eq!(read("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"), (vec![true], false));
        assert_eq!(read("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"), (vec![true], false));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_clear() {
        for head in [
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            "Content-Length: 0\r\nContent-Length: 0\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Host: a\n",
        ] {
            let (clear, _) = read(&format!("POST / HTTP/1.1\r\n{head}\r\n"));
            assert_eq!(clear, [false], "{head:?}");
        }
        assert_eq!(read("GET / HTTP/1.1\n\r\n").0, [false]);
        assert_eq!(read("GET / HTTP/1.1\r\n\n").0, [false]);
        assert_eq!(read("GET /a#b HTTP/1.1\r\n\r\n").0, [false]);
    }

    #[test]
    fn nonsense_ends_it() {
        let (clear, between) = read("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nGET / HTTP/1.1\r\n\r\n");
        assert_eq!((clear, between), (vec![true], false));
        let overflow = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
        assert_eq!(read(overflow), (vec![true], false));
    }
}
