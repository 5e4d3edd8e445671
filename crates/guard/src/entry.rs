//! One entry of a journal, as far as somebody asked for it.

/// One entry: when it was written, and those of its fields that were asked for.
///
/// A reader fills the same one again and again, so that reading millions of them allocates next to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// `__REALTIME_TIMESTAMP`: microseconds since 1970, by the clock of the machine that wrote it.
    pub realtime: u64,
    /// `__MONOTONIC_TIMESTAMP`: microseconds since that boot.
    pub monotonic: u64,
    /// `__CURSOR`, where it was asked for: the place to go on after.
    pub cursor: Option<String>,
    /// Names and values, in the order in which they stand. A name may stand twice.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Entry {
    /// Makes it empty, for the next one.
    pub fn clear(&mut self) {
        self.realtime = 0;
        self.monotonic = 0;
        self.cursor = None;
        self.fields.clear();
    }

    /// The first value of this field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::Entry;

    #[test]
    fn a_field_that_stands_twice_is_its_first() {
        let fields = [("A", "1"), ("B", "2"), ("B", "3")].map(|(name, value)| (name.to_owned(), value.into())).to_vec();
        let entry = Entry { fields, ..Entry::default() };
        assert_eq!(entry.field("B"), Some(b"2".as_slice()));
        assert_eq!(entry.field("C"), None);
    }
}
