//! The index of fields and their values: which values of a field there are, newest first.

use super::fault::Fault;
use super::file::{DataHead, JournalFile};
use super::pool::Pool;

/// The values of one field.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldValues {
    next: u64,
}

impl FieldValues {
    /// Of the field with this name; none if no entry has such a field.
    ///
    /// All buckets are looked through: there are some dozen fields in a file, and so no hash has to be computed, of which there
    /// are two kinds.
    pub(super) fn of(file: &JournalFile, pool: &mut Pool, name: &str) -> Result<FieldValues, Fault> {
        for mut offset in file.buckets(pool)? {
            // The chain goes forward only: it ends.
            while offset != 0 {
                let field = file.field(pool, offset)?;
                if file.is_named(pool, offset, &field, name.as_bytes())? {
                    return Ok(FieldValues { next: field.data });
                }
                offset = field.next_in_bucket;
            }
        }
        Ok(FieldValues { next: 0 })
    }

    /// The next value, and where it stands.
    pub(super) fn next(&mut self, file: &JournalFile, pool: &mut Pool) -> Result<Option<(u64, DataHead)>, Fault> {
        let offset = self.next;
        if offset == 0 {
            return Ok(None);
        }
        let data = file.data(pool, offset)?;
        // A new value is put before those that are there, and objects are only added at the end.
        if data.next_of_field >= offset {
            return Fault::corrupt(offset, "a chain of values that does not go backwards");
        }
        self.next = data.next_of_field;
        Ok(Some((offset, data)))
    }
}
