//! The entries that a chain of arrays lists: all of the file, or those that have one value. In the order of writing.

use super::fault::Fault;
use super::file::{DataHead, JournalFile};
use super::pool::Pool;

/// So many offsets are taken out of an array at once.
const TAKEN: u64 = 512;

/// A place in a list of entries' offsets.
#[derive(Debug, Clone, Default)]
pub(super) struct Offsets {
    /// The entry that a DATA object names itself, before those of its arrays.
    first: Option<u64>,
    /// The array to read on in; 0: none.
    array: u64,
    /// So many of its offsets are used up.
    used: u64,
    /// So many entries are in arrays still, by the count of whoever owns the list.
    left: u64,
    taken: Vec<u64>,
    taken_used: usize,
    /// The last one that was given. They only grow.
    last: u64,
    /// No entry after this one was there when the file was opened.
    end: u64,
    /// The list may end before its count says so: it is being written.
    is_growing: bool,
}

impl Offsets {
    /// All entries of the file.
    pub(super) fn of_file(file: &JournalFile) -> Offsets {
        let header = &file.header;
        Offsets { array: header.entry_array, left: header.entries, end: u64::MAX, ..Offsets::default() }
    }

    /// The entries that have this value. `end` is the file's last entry.
    pub(super) fn of_data(file: &JournalFile, data: &DataHead, end: u64) -> Offsets {
        if data.entries == 0 {
            return Offsets::default();
        }
        Offsets {
            first: Some(data.entry),
            array: data.entry_array,
            left: data.entries - 1,
            end,
            is_growing: file.header.is_online,
            ..Offsets::default()
        }
    }

    /// How many are left, by the count of whoever owns the list.
    pub(super) fn count(&self) -> u64 {
        self.left.saturating_add(u64::from(self.first.is_some()) + (self.taken.len() - self.taken_used) as u64)
    }

    /// The next entry's offset.
    pub(super) fn next(&mut self, file: &JournalFile, pool: &mut Pool) -> Result<Option<u64>, Fault> {
        if let Some(first) = self.first.take() {
            return self.give(first);
        }
        if self.taken_used == self.taken.len() && !self.take(file, pool)? {
            return Ok(None);
        }
        let offset = self.taken[self.taken_used];
        self.taken_used += 1;
        self.give(offset)
    }

    fn give(&mut self, offset: u64) -> Result<Option<u64>, Fault> {
        if offset == 0 && self.is_growing || offset > self.end {
            self.stop();
            return Ok(None);
        }
        if offset <= self.last {
            return Fault::corrupt(self.array, "an array of entries that does not go forwards");
        }
        self.last = offset;
        Ok(Some(offset))
    }

    fn stop(&mut self) {
        self.left = 0;
        self.first = None;
        self.taken.clear();
        self.taken_used = 0;
    }

    /// Takes more out of the array, or the next one. False: there is no more.
    fn take(&mut self, file: &JournalFile, pool: &mut Pool) -> Result<bool, Fault> {
        while self.left > 0 {
            if self.array == 0 {
                if self.is_growing {
                    break;
                }
                return Fault::corrupt(self.last, "fewer entries than it says");
            }
            let head = file.array(pool, self.array)?;
            if self.used >= head.room {
                (self.array, self.used) = (head.next, 0);
                continue;
            }
            let count = TAKEN.min(head.room - self.used).min(self.left);
            file.offsets(pool, self.array, self.used, count as usize, &mut self.taken)?;
            self.taken_used = 0;
            self.used += count;
            self.left -= count;
            return Ok(true);
        }
        self.stop();
        Ok(false)
    }

    /// Goes forward to the first entry that was not written before `realtime`, by bisection: where the clock was set back, that
    /// is one such place of several. Only to be called before the first `next`.
    pub(super) fn seek(&mut self, file: &JournalFile, pool: &mut Pool, realtime: u64) -> Result<(), Fault> {
        if let Some(first) = self.first {
            if !self.is_before(file, pool, first, realtime)? {
                return Ok(());
            }
            self.first = None;
            self.last = first;
        }
        let mut one = Vec::new();
        while self.left > 0 && self.array != 0 {
            let head = file.array(pool, self.array)?;
            let count = head.room.min(self.left);
            if count > 0 {
                file.offsets(pool, self.array, count - 1, 1, &mut one)?;
                if !self.is_before(file, pool, one[0], realtime)? {
                    return self.bisect(file, pool, count - 1, realtime);
                }
                self.last = one[0];
            }
            self.left -= count;
            (self.array, self.used) = (head.next, 0);
        }
        Ok(())
    }

    /// In this array, whose entry number `high` is not before `realtime`.
    fn bisect(&mut self, file: &JournalFile, pool: &mut Pool, mut high: u64, realtime: u64) -> Result<(), Fault> {
        let mut low = 0;
        let mut one = Vec::new();
        while low < high {
            let middle = low + (high - low) / 2;
            file.offsets(pool, self.array, middle, 1, &mut one)?;
            if self.is_before(file, pool, one[0], realtime)? {
                low = middle + 1;
                self.last = one[0];
            } else {
                high = middle;
            }
        }
        self.used = low;
        self.left -= low;
        Ok(())
    }

    fn is_before(&self, file: &JournalFile, pool: &mut Pool, offset: u64, realtime: u64) -> Result<bool, Fault> {
        if offset > self.end || offset == 0 && self.is_growing {
            return Ok(false);
        }
        Ok(file.entry_realtime(pool, offset)? < realtime)
    }
}

/// Where the file's last entry is, by its own list; 0 if there is none.
pub(super) fn last_entry(file: &JournalFile, pool: &mut Pool) -> Result<u64, Fault> {
    let mut array = file.header.entry_array;
    let mut left = file.header.entries;
    let mut one = vec![0];
    while left > 0 {
        if array == 0 {
            return Fault::corrupt(one[0], "fewer entries than it says");
        }
        let head = file.array(pool, array)?;
        let count = head.room.min(left);
        if count > 0 {
            file.offsets(pool, array, count - 1, 1, &mut one)?;
        }
        left -= count;
        array = head.next;
    }
    Ok(one[0])
}
