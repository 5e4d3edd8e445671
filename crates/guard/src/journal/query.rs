//! What is asked of a journal.

use std::fmt;

/// Which entries are wanted, and what of them.
#[derive(Default)]
pub struct Query<'q> {
    /// Microseconds since 1970: nothing that was written before.
    pub since: Option<u64>,
    /// Microseconds since 1970: nothing that was written after.
    pub until: Option<u64>,
    /// Fields and their exact values. An entry must have all of one of these; where there are none, it need not. The file has an
    /// index of them, as `journalctl` uses it for `FIELD=value`.
    pub alternatives: Vec<Vec<(String, Vec<u8>)>>,
    /// An entry must pass one of them; where there are none, it need not.
    pub tests: Vec<Test<'q>>,
    /// The fields to give, all if there are none.
    pub fields: Vec<String>,
    /// Whether entries are given their cursor.
    pub needs_cursor: bool,
}

/// A question about a value.
pub type Accepts<'q> = Box<dyn Fn(&[u8]) -> bool + 'q>;

/// What a field's value must be like.
///
/// A journal keeps equal values once. A test is asked once for each of them, not for each entry, whenever that is less work;
/// so it must say the same each time that it is asked.
pub struct Test<'q> {
    /// The field.
    pub field: String,
    /// Whether a value of it will do. Of a very long one it sees the first [`VALUE_MAX`](crate::VALUE_MAX) bytes.
    pub accepts: Accepts<'q>,
}

impl Query<'_> {
    /// Whether the field is one to give.
    pub(super) fn wants(&self, name: &[u8]) -> bool {
        self.fields.is_empty() || self.fields.iter().any(|field| field.as_bytes() == name)
    }

    /// Whether a test of this field accepts the value.
    pub(super) fn accepts(&self, name: &[u8], value: &[u8]) -> bool {
        self.tests.iter().any(|test| test.field.as_bytes() == name && (test.accepts)(value))
    }

    /// Whether an alternative names this value.
    pub(super) fn names(&self, name: &[u8], value: &[u8]) -> bool {
        self.alternatives.iter().flatten().any(|(own, wanted)| own.as_bytes() == name && wanted == value)
    }

    /// Whether an entry that has these of the values that alternatives name, each as `NAME=value`, has all of one of them.
    pub(super) fn has_alternative(&self, values: &[Vec<u8>]) -> bool {
        let has = |(name, value): &(String, Vec<u8>)| {
            values.iter().any(|own| {
                own.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) == Some(value.as_slice())
            })
        };
        self.alternatives.is_empty() || self.alternatives.iter().any(|alternative| alternative.iter().all(has))
    }

    /// Whether each alternative is a single value.
    pub(super) fn is_simple(&self) -> bool {
        self.alternatives.iter().all(|alternative| alternative.len() == 1)
    }

    /// Whether it depends on the field's value if an entry is asked for.
    pub(super) fn is_about(&self, name: &[u8]) -> bool {
        self.tests.iter().any(|test| test.field.as_bytes() == name)
            || self.alternatives.iter().flatten().any(|(own, _)| own.as_bytes() == name)
    }
}

impl fmt::Debug for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tests: Vec<&str> = self.tests.iter().map(|test| test.field.as_str()).collect();
        f.debug_struct("Query")
            .field("since", &self.since)
            .field("until", &self.until)
            .field("alternatives", &self.alternatives)
            .field("tests", &tests)
            .field("fields", &self.fields)
            .field("needs_cursor", &self.needs_cursor)
            .finish()
    }
}
