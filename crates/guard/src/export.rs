//! Reads the Journal Export Format (`journalctl -o export`), in pieces as they come.

use std::fmt;
use std::mem;

use crate::entry::Entry;

/// So many bytes of a value are kept. journald takes values of up to 768 MiB, core dumps for example.
pub const VALUE_MAX: usize = 1 << 20;

/// So many bytes of all values of an entry together, so that nobody who writes many of them fills our memory.
const ENTRY_MAX: usize = 8 << 20;

/// So many fields of an entry are kept: journald takes no more (`ENTRY_FIELD_COUNT_MAX`).
pub const FIELDS_MAX: usize = 1024;

/// journald takes names of 64 bytes at most.
const NAME_MAX: usize = 256;

/// Turns bytes into entries, whatever the pieces in which they come.
///
/// One line is `NAME=value`, or a line with the name alone, then the value's length as 64 bits, low byte first, the value, and
/// a newline. An empty line ends the entry. Nothing is held but the entry that is being read; of a value only the first
/// [`VALUE_MAX`] bytes, of an entry only [`FIELDS_MAX`] fields.
#[derive(Debug)]
pub struct ExportReader {
    /// Empty: all.
    wanted: Vec<String>,
    state: State,
    entry: Entry,
    /// Something of the entry was read.
    is_begun: bool,
    /// The name of the line, or the first bytes of one.
    name: Vec<u8>,
    /// Values of `__` names, which are numbers and cursors.
    address: Vec<u8>,
    place: Place,
    /// Fields of the entry before, to fill again.
    spare: Vec<(String, Vec<u8>)>,
    /// Bytes of values that were kept of this entry.
    kept: usize,
    /// Bytes that were read since the beginning.
    position: u64,
}

/// Where in a line the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Name,
    Text,
    /// So many of the eight bytes are in.
    Length {
        read: u8,
        length: u64,
    },
    Binary {
        left: u64,
    },
    /// The newline after a binary value.
    BinaryEnd,
}

/// Where the value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Field,
    Address,
    Nowhere,
}

/// What was read is no export. Nothing after it can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportError {
    /// How many bytes of the stream were good.
    pub position: u64,
    /// What stands there.
    pub reason: &'static str,
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no journal export (journalctl -o export) at byte {}: {}", self.position, self.reason)
    }
}

impl std::error::Error for ExportError {}

impl ExportReader {
    /// A reader that keeps the fields with these names, or all if there are none. Times and the cursor are always kept.
    #[must_use]
    pub fn new(wanted: &[String]) -> ExportReader {
        ExportReader {
            wanted: wanted.to_vec(),
            state: State::Name,
            entry: Entry::default(),
            is_begun: false,
            name: Vec::new(),
            address: Vec::new(),
            place: Place::Nowhere,
            spare: Vec::new(),
            kept: 0,
            position: 0,
        }
    }

    /// Takes bytes off `input` until an entry is whole, and puts it in place of `entry`. False: `input` is used up first.
    ///
    /// # Errors
    /// The bytes are no export.
    pub fn next(&mut self, input: &mut &[u8], entry: &mut Entry) -> Result<bool, ExportError> {
        while !input.is_empty() {
            let before = input.len();
            let is_whole = self.step(input);
            self.position += (before - input.len()) as u64;
            if is_whole? {
                self.deliver(entry);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// After the last byte: an entry that lacks its empty line is one all the same.
    ///
    /// # Errors
    /// The end is in the middle of a line.
    pub fn finish(&mut self, entry: &mut Entry) -> Result<bool, ExportError> {
        if self.state == State::Text {
            self.line_ends()?;
        }
        if self.state != State::Name || !self.name.is_empty() {
            return Err(self.error("it ends in the middle of a field"));
        }
        if !self.is_begun {
            return Ok(false);
        }
        self.deliver(entry);
        Ok(true)
    }

    fn deliver(&mut self, entry: &mut Entry) {
        mem::swap(&mut self.entry, entry);
        self.spare.append(&mut self.entry.fields);
        self.spare.truncate(FIELDS_MAX);
        self.entry.realtime = 0;
        self.entry.monotonic = 0;
        self.entry.cursor = None;
        self.is_begun = false;
        self.kept = 0;
    }

    /// One state's worth of bytes. True: an entry is whole.
    fn step(&mut self, input: &mut &[u8]) -> Result<bool, ExportError> {
        match self.state {
            State::Name => return self.name(input),
            State::Text => {
                let end = input.iter().position(|byte| *byte == b'\n');
                self.keep(&input[..end.unwrap_or(input.len())]);
                *input = &input[end.map_or(input.len(), |end| end + 1)..];
                if end.is_some() {
                    self.line_ends()?;
                }
            }
            State::Length { read, length } => {
                let length = length | u64::from(input[0]) << (8 * u32::from(read));
                *input = &input[1..];
                self.state = match read {
                    7 if length == 0 => State::BinaryEnd,
                    7 => State::Binary { left: length },
                    _ => State::Length { read: read + 1, length },
                };
            }
            State::Binary { left } => {
                let now = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                self.keep(&input[..now]);
                *input = &input[now..];
                let left = left - now as u64;
                self.state = if left == 0 { State::BinaryEnd } else { State::Binary { left } };
            }
            State::BinaryEnd => {
                if input[0] != b'\n' {
                    return Err(self.error("no newline after a binary value: its length is wrong"));
                }
                *input = &input[1..];
                self.line_ends()?;
            }
        }
        Ok(false)
    }

    fn name(&mut self, input: &mut &[u8]) -> Result<bool, ExportError> {
        let end = input.iter().position(|byte| matches!(byte, b'=' | b'\n'));
        let part = &input[..end.unwrap_or(input.len())];
        if self.name.len() + part.len() > NAME_MAX {
            return Err(self.error("a line that has no field's name"));
        }
        self.name.extend_from_slice(part);
        let Some(end) = end else {
            *input = &[];
            return Ok(false);
        };
        let is_text = input[end] == b'=';
        if self.name.is_empty() {
            if is_text {
                return Err(self.error("a field without a name"));
            }
            *input = &input[end + 1..];
            return Ok(mem::take(&mut self.is_begun));
        }
        if !self.name.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_')) {
            return Err(self.error("a field's name that is not of capitals, digits and underscores"));
        }
        *input = &input[end + 1..];
        self.is_begun = true;
        self.place = self.place();
        self.state = if is_text { State::Text } else { State::Length { read: 0, length: 0 } };
        Ok(false)
    }

    /// Decides where the value of the line goes, and makes room for it.
    fn place(&mut self) -> Place {
        self.address.clear();
        if self.name.starts_with(b"__") {
            return Place::Address;
        }
        let name = self.name.as_slice();
        let is_wanted = self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted.as_bytes() == name);
        if !is_wanted || self.entry.fields.len() == FIELDS_MAX {
            return Place::Nowhere;
        }
        let (mut own, mut value) = self.spare.pop().unwrap_or_default();
        own.clear();
        value.clear();
        // Checked: capitals, digits, underscores.
        own.extend(name.iter().map(|byte| char::from(*byte)));
        self.entry.fields.push((own, value));
        Place::Field
    }

    fn keep(&mut self, bytes: &[u8]) {
        let value = match self.place {
            Place::Nowhere => return,
            Place::Address => &mut self.address,
            Place::Field => match self.entry.fields.last_mut() {
                Some((_, value)) => value,
                None => return,
            },
        };
        let room = (VALUE_MAX - value.len().min(VALUE_MAX)).min(ENTRY_MAX - self.kept);
        let taken = bytes.len().min(room);
        value.extend_from_slice(&bytes[..taken]);
        self.kept += taken;
    }

    fn line_ends(&mut self) -> Result<(), ExportError> {
        if self.place == Place::Address {
            let value = std::str::from_utf8(&self.address).unwrap_or_default();
            match self.name.as_slice() {
                b"__CURSOR" => self.entry.cursor = Some(value.to_owned()),
                b"__REALTIME_TIMESTAMP" => self.entry.realtime = self.number(value)?,
                b"__MONOTONIC_TIMESTAMP" => self.entry.monotonic = self.number(value)?,
                _ => {}
            }
        }
        self.name.clear();
        self.state = State::Name;
        Ok(())
    }

    fn number(&self, value: &str) -> Result<u64, ExportError> {
        value.parse().map_err(|_| self.error("a timestamp that is no number"))
    }

    fn error(&self, reason: &'static str) -> ExportError {
        ExportError { position: self.position, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=17\n__MONOTONIC_TIMESTAMP=5\n_BOOT_ID=b\nMESSAGE\n\x05\0\0\0\0\0\0\0a\n\nb\n\nA=\nA=1=2\n\n\
        \n__REALTIME_TIMESTAMP=18\nMESSAGE=last\n";

    fn read(wanted: &[&str], bytes: &[u8], piece: usize) -> Result<Vec<Entry>, ExportError> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let mut reader = ExportReader::new(&wanted);
        let mut entry = Entry::default();
        let mut entries = Vec::new();
        for mut part in bytes.chunks(piece) {
            while reader.next(&mut part, &mut entry)? {
                entries.push(entry.clone());
            }
        }
        if reader.finish(&mut entry)? {
            entries.push(entry);
        }
        Ok(entries)
    }

    fn fields(fields: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect()
    }

    #[test]
    fn the_same_entries_whatever_the_pieces() {
        let first = Entry {
            realtime: 17,
            monotonic: 5,
            cursor: Some("s=1;i=2".to_owned()),
            fields: fields(&[("_BOOT_ID", b"b"), ("MESSAGE", b"a\n\nb\n"), ("A", b""), ("A", b"1=2")]),
        };
        let second = Entry { realtime: 18, fields: fields(&[("MESSAGE", b"last")]), ..Entry::default() };
        // The five bytes of the binary value end with a newline of their own.
        for piece in 1..=TWO.len() {
            assert_eq!(read(&[], TWO, piece).expect("an export"), [first.clone(), second.clone()], "{piece}");
        }
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let entries = read(&["A"], TWO, 7).expect("an export");
        assert_eq!(entries[0].fields, fields(&[("A", b""), ("A", b"1=2")]));
        assert_eq!((entries[0].realtime, entries[1].realtime), (17, 18));
        assert!(entries[1].fields.is_empty());
    }

    #[test]
    fn a_value_without_end_is_cut() {
        let mut bytes = b"A=".to_vec();
        bytes.resize(VALUE_MAX * 2, b'x');
        bytes.extend(b"\nB\n");
        bytes.extend((VALUE_MAX as u64 + 1).to_le_bytes());
        bytes.resize(bytes.len() + VALUE_MAX + 1, b'y');
        bytes.extend(b"\nC=1\n");
        let entries = read(&[], &bytes, 4096).expect("an export");
        let lengths: Vec<usize> = entries[0].fields.iter().map(|(_, value)| value.len()).collect();
        assert_eq!(lengths, [VALUE_MAX, VALUE_MAX, 1]);
    }

    #[test]
    fn fields_without_end_are_dropped() {
        let bytes = b"A=1\n".repeat(FIELDS_MAX + 5);
        assert_eq!(read(&[], &bytes, 4096).expect("an export")[0].fields.len(), FIELDS_MAX);
    }

    #[test]
    fn what_is_no_export_is_refused_with_its_place() {
        for (bytes, position, reason) in [
            (&b"A=1\nnot a field\n"[..], 4, "capitals"),
            (b"A=1\n=1\n", 4, "without a name"),
            (b"A\n\x01\0\0\0\0\0\0\0xy\n", 11, "length is wrong"),
            (b"__REALTIME_TIMESTAMP=x\n", 21, "no number"),
            (&[b'A'; 1000], 0, "no field's name"),
            (b"A\n\xff\xff\xff\xff\xff\xff\xff\xffx", 11, "the middle"),
            (b"A=1\nMESS", 8, "the middle"),
        ] {
            let error = read(&[], bytes, bytes.len()).expect_err("no export");
            assert!(error.reason.contains(reason), "{error}");
            assert_eq!(error.position, position, "{error}");
        }
    }
}
