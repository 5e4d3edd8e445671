//! Reads lines of `journalctl -o json`, in pieces as they come.

use std::fmt;
use std::mem;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::entry::Entry;
use crate::export::{FIELDS_MAX, VALUE_MAX};

/// A line that is longer than this is no entry, whoever wrote it.
const LINE_MAX: usize = 64 << 20;

/// Turns bytes into entries, whatever the pieces in which they come: one line, one object, one entry.
///
/// A value is text, or an array of numbers (bytes that are no text), or an array of such values (a field that stands more than
/// once), or null (too large for journalctl to show).
#[derive(Debug)]
pub struct JsonLines {
    /// Empty: all.
    wanted: Vec<String>,
    line: Vec<u8>,
    /// Lines before this one.
    number: u64,
}

/// A line is no entry. The lines after it can be read.
#[derive(Debug)]
pub struct JsonError {
    /// Counted from one.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is no entry of journalctl -o json: {}", self.line, self.reason)
    }
}

impl std::error::Error for JsonError {}

impl JsonLines {
    /// A reader that keeps the fields with these names, or all if there are none. Times and the cursor are always kept.
    #[must_use]
    pub fn new(wanted: &[String]) -> JsonLines {
        JsonLines { wanted: wanted.to_vec(), line: Vec::new(), number: 0 }
    }

    /// Takes bytes off `input` until a line is whole, and puts its entry in place of `entry`. False: `input` is used up first.
    ///
    /// # Errors
    /// The line is no entry.
    pub fn next(&mut self, input: &mut &[u8], entry: &mut Entry) -> Result<bool, JsonError> {
        while !input.is_empty() {
            let end = input.iter().position(|byte| *byte == b'\n');
            let part = &input[..end.unwrap_or(input.len())];
            // One byte more than allowed says that it was too long.
            let room = (LINE_MAX + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            *input = &input[end.map_or(input.len(), |end| end + 1)..];
            if end.is_some() && self.take(entry)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// After the last byte: a line that lacks its newline is one all the same.
    ///
    /// # Errors
    /// The line is no entry.
    pub fn finish(&mut self, entry: &mut Entry) -> Result<bool, JsonError> {
        self.take(entry)
    }

    fn take(&mut self, entry: &mut Entry) -> Result<bool, JsonError> {
        self.number += 1;
        let line = mem::take(&mut self.line);
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(false);
        }
        let failed = |reason: String| JsonError { line: self.number, reason };
        if line.len() > LINE_MAX {
            return Err(failed(format!("it is longer than {} MiB", LINE_MAX >> 20)));
        }
        let mut read: Read = serde_json::from_slice(&line).map_err(|error| failed(error.to_string()))?;
        if !self.wanted.is_empty() {
            read.0.fields.retain(|(name, _)| self.wanted.contains(name));
        }
        *entry = read.0;
        self.line = line;
        self.line.clear();
        self.line.shrink_to(VALUE_MAX);
        Ok(true)
    }
}

/// An object as an entry.
struct Read(Entry);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Read, D::Error> {
        deserializer.deserialize_map(ReadVisitor)
    }
}

struct ReadVisitor;

impl<'de> Visitor<'de> for ReadVisitor {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
        let mut entry = Entry::default();
        while let Some(name) = map.next_key::<String>()? {
            if name.starts_with("__") {
                let value = map.next_value::<Values>()?.0.into_iter().next().unwrap_or_default();
                let text = String::from_utf8(value).map_err(|_| A::Error::custom(format_args!("{name} is no text")))?;
                let number = || text.parse().map_err(|_| A::Error::custom(format_args!("{name} is no number")));
                match name.as_str() {
                    "__REALTIME_TIMESTAMP" => entry.realtime = number()?,
                    "__MONOTONIC_TIMESTAMP" => entry.monotonic = number()?,
                    "__CURSOR" => entry.cursor = Some(text),
                    _ => {}
                }
                continue;
            }
            for value in map.next_value::<Values>()?.0 {
                if entry.fields.len() < FIELDS_MAX {
                    entry.fields.push((name.clone(), value));
                }
            }
        }
        Ok(Read(entry))
    }
}

/// The values of one name: none for null, several for an array of values.
struct Values(Vec<Vec<u8>>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
        deserializer.deserialize_any(ValuesVisitor { is_inner: false })
    }
}

struct ValuesVisitor {
    is_inner: bool,
}

impl<'de> Visitor<'de> for ValuesVisitor {
    type Value = Values;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, an array of bytes, an array of such values, or null")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Values, E> {
        Ok(Values(vec![text.as_bytes()[..text.len().min(VALUE_MAX)].to_vec()]))
    }

    fn visit_unit<E: Error>(self) -> Result<Values, E> {
        Ok(Values(Vec::new()))
    }

    // Other writers of JSON give numbers as numbers.
    fn visit_u64<E: Error>(self, number: u64) -> Result<Values, E> {
        Ok(Values(vec![number.to_string().into_bytes()]))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Values, E> {
        Ok(Values(vec![number.to_string().into_bytes()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Values, A::Error> {
        let mut bytes = Vec::new();
        let mut values = Vec::new();
        while let Some(item) = sequence.next_element::<Item>()? {
            match item {
                Item::Byte(byte) if values.is_empty() => {
                    if bytes.len() < VALUE_MAX {
                        bytes.push(byte);
                    }
                }
                Item::Values(more) if bytes.is_empty() && !self.is_inner => {
                    if values.len() < FIELDS_MAX {
                        values.extend(more);
                    }
                }
                Item::Byte(_) | Item::Values(_) => {
                    return Err(A::Error::custom("an array of bytes and of values at once"));
                }
            }
            while bytes.len() == VALUE_MAX && sequence.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(Values(if values.is_empty() { vec![bytes] } else { values }))
    }
}

/// What stands in an array.
enum Item {
    Byte(u8),
    Values(Vec<Vec<u8>>),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Item, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte, text, an array of bytes, or null")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Item, E> {
        u8::try_from(number).map(Item::Byte).map_err(|_| E::custom(format_args!("{number} is no byte")))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Item, E> {
        // journalctl before 236 wrote bytes as signed.
        i8::try_from(number)
            .map(|byte| Item::Byte(byte.cast_unsigned()))
            .map_err(|_| E::custom(format_args!("{number} is no byte")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Item, E> {
        ValuesVisitor { is_inner: true }.visit_str(text).map(|values| Item::Values(values.0))
    }

    fn visit_unit<E: Error>(self) -> Result<Item, E> {
        Ok(Item::Values(Vec::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Item, A::Error> {
        ValuesVisitor { is_inner: true }.visit_seq(sequence).map(|values| Item::Values(values.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"__CURSOR":"s=1;i=2","MESSAGE":"a\u0041","__REALTIME_TIMESTAMP":"17","__MONOTONIC_TIMESTAMP":"5","B":[0,255,10],"C":["x",[1,2],"y"],"D":null,"_PID":7}

{"MESSAGE":"last","__REALTIME_TIMESTAMP":"18"}"#;

    fn read(wanted: &[&str], bytes: &[u8], piece: usize) -> Result<Vec<Entry>, JsonError> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let mut reader = JsonLines::new(&wanted);
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

    #[test]
    fn the_same_entries_whatever_the_pieces() {
        let fields: [(&str, &[u8]); 6] =
            [("MESSAGE", b"aA"), ("B", &[0, 255, 10]), ("C", b"x"), ("C", &[1, 2]), ("C", b"y"), ("_PID", b"7")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_vec())).to_vec();
        let first = Entry { realtime: 17, monotonic: 5, cursor: Some("s=1;i=2".to_owned()), fields };
        let fields = vec![("MESSAGE".to_owned(), b"last".to_vec())];
        let second = Entry { realtime: 18, fields, ..Entry::default() };
        for piece in 1..=LINES.len() {
            let entries = read(&[], LINES.as_bytes(), piece).expect("lines");
            assert_eq!(entries, [first.clone(), second.clone()], "{piece}");
        }
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let entries = read(&["B"], LINES.as_bytes(), 100).expect("lines");
        assert_eq!(entries[0].fields, [("B".to_owned(), vec![0, 255, 10])]);
        assert_eq!(entries[1].realtime, 18);
    }

    #[test]
    fn a_line_that_is_no_entry_costs_only_itself() {
        let mut input = &b"{\"A\":[1,\"x\"]}\nhello\n{\"A\":[300]}\n{\"A\":[[[1]]]}\n[]\n{\"A\":\"1\"}\n"[..];
        let mut reader = JsonLines::new(&[]);
        let mut entry = Entry::default();
        for (line, reason) in [(1, "at once"), (2, "expected value"), (3, "no byte"), (4, "at once"), (5, "an object")]
        {
            let error = reader.next(&mut input, &mut entry).expect_err("no entry");
            assert_eq!(error.line, line, "{error}");
            assert!(error.reason.contains(reason), "{error}");
        }
        assert!(reader.next(&mut input, &mut entry).expect("an entry"));
        assert_eq!(entry.field("A"), Some(b"1".as_slice()));
    }

    #[test]
    fn brackets_without_end_are_no_deep_recursion() {
        let line = format!("{{\"A\":{}", "[".repeat(1 << 20));
        assert!(read(&[], line.as_bytes(), 4096).is_err());
    }
}
