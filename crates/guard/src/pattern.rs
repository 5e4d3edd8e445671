//! What a line must be to count: a pattern, and whose lines it looks at.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

use crate::entry::Entry;

/// Memory that one compiled pattern may take, and its automaton: a pattern that needs more is a mistake.
const PROGRAM_MAX: usize = 1 << 20;
/// No more of a value is looked at.
const VALUE_MAX: usize = 64 * 1024;

/// Whose words an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// A process of the unit wrote it.
    Unit,
    /// systemd (PID 1) wrote it about the unit.
    Systemd,
}

/// What a pattern looks at.
#[derive(Clone, Debug)]
enum Test {
    Message(Regex),
    Is { field: String, value: Vec<u8> },
    Matches { field: String, regex: Regex },
}

/// One compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    voice: Voice,
    test: Test,
}

/// Why a regular expression is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRegex {
    /// What is wrong, in one line.
    pub message: String,
}

impl fmt::Display for BadRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Fields that only systemd itself writes, about a unit.
const FIELDS_OF_SYSTEMD: [&str; 9] = [
    "COMMAND",
    "EXIT_CODE",
    "EXIT_STATUS",
    "INVOCATION_ID",
    "JOB_RESULT",
    "JOB_TYPE",
    "N_RESTARTS",
    "UNIT",
    "UNIT_RESULT",
];

impl Pattern {
    /// A regular expression on MESSAGE.
    ///
    /// # Errors
    /// It is none, or takes too much memory.
    pub fn message(regex: &str, voice: Voice) -> Result<Pattern, BadRegex> {
        Ok(Pattern { voice, test: Test::Message(compile(regex)?) })
    }

    /// A field with exactly this value.
    #[must_use]
    pub fn is(field: &str, value: &str, voice: Voice) -> Pattern {
        Pattern { voice, test: Test::Is { field: field.to_owned(), value: value.as_bytes().to_vec() } }
    }

    /// A regular expression on another field.
    ///
    /// # Errors
    /// As [`Pattern::message`].
    pub fn field(field: &str, regex: &str, voice: Voice) -> Result<Pattern, BadRegex> {
        Ok(Pattern { voice, test: Test::Matches { field: field.to_owned(), regex: compile(regex)? } })
    }

    /// Who writes this field, where nobody says.
    #[must_use]
    pub fn usual_voice(field: &str) -> Voice {
        if FIELDS_OF_SYSTEMD.contains(&field) { Voice::Systemd } else { Voice::Unit }
    }

    /// Whose lines it looks at.
    #[must_use]
    pub fn voice(&self) -> Voice {
        self.voice
    }

    /// The field that it looks at.
    #[must_use]
    pub fn looks_at(&self) -> &str {
        match &self.test {
            Test::Message(_) => "MESSAGE",
            Test::Is { field, .. } | Test::Matches { field, .. } => field,
        }
    }

    /// Whether it looks at free text, which quotes and repeats what others have said.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.looks_at() == "MESSAGE"
    }

    /// Whether a value of the field that it looks at is one.
    #[must_use]
    pub fn accepts(&self, value: &[u8]) -> bool {
        match &self.test {
            Test::Is { value: wanted, .. } => value == wanted,
            Test::Message(regex) | Test::Matches { regex, .. } => regex.is_match(cut(value)),
        }
    }

    /// Whether the entry is one. Whose words it is is not asked here.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        let field = self.looks_at();
        // A message is one; of other fields any will do.
        let count = if self.is_text() { 1 } else { usize::MAX };
        let mut values = entry.fields.iter().filter(|(name, _)| name == field).take(count);
        values.any(|(_, value)| self.accepts(value))
    }
}

fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(VALUE_MAX)]
}

fn compile(text: &str) -> Result<Regex, BadRegex> {
    let builder = RegexBuilder::new(text).size_limit(PROGRAM_MAX).dfa_size_limit(PROGRAM_MAX).build();
    builder.map_err(|error| {
        let message = match &error {
            regex::Error::CompiledTooBig(_) => "it takes more than 1 MiB of memory".to_owned(),
            // The last line says what is wrong; those before draw the pattern, as our own report does.
            error => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default();
                last.strip_prefix("error: ").unwrap_or(last).to_owned()
            }
        };
        BadRegex { message }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &[(&str, &[u8])]) -> Entry {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
        Entry { fields, ..Entry::default() }
    }

    #[test]
    fn a_message_is_bytes_and_its_pattern_text() {
        let pattern = Pattern::message("(?i)größe \\d+", Voice::Unit).expect("a pattern");
        assert!(pattern.matches(&entry(&[("MESSAGE", "\u{fffd} GRÖßE 12".as_bytes())])));
        let pattern = Pattern::message("died$", Voice::Unit).expect("a pattern");
        assert!(pattern.matches(&entry(&[("MESSAGE", b"\xff\xfe worker died")])));
        assert!(!pattern.matches(&entry(&[("OTHER", b"died")])));
    }

    #[test]
    fn a_field_may_stand_twice() {
        let twice = entry(&[("A", b"1"), ("A", b"2")]);
        assert!(Pattern::is("A", "2", Voice::Unit).matches(&twice));
        assert!(!Pattern::is("A", "3", Voice::Unit).matches(&twice));
        assert!(Pattern::field("A", "^[2-9]$", Voice::Unit).expect("a pattern").matches(&twice));
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_one_line() {
        assert_eq!(Pattern::message("(a", Voice::Unit).expect_err("bad").message, "unclosed group");
        assert_eq!(
            Pattern::message(r"\w{1000}{1000}", Voice::Unit).expect_err("bad").message,
            "it takes more than 1 MiB of memory"
        );
    }

    #[test]
    fn what_systemd_alone_writes_is_looked_for_in_its_own_lines() {
        assert_eq!(Pattern::usual_voice("EXIT_STATUS"), Voice::Systemd);
        assert_eq!(Pattern::usual_voice("PRIORITY"), Voice::Unit);
    }
}
