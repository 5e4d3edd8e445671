//! What all files of a run share: blocks, decoders, and what was found out on single values.

use super::fault::Fault;
use super::file::JournalFile;
use super::pool::Pool;
use super::query::Query;
use super::values::Values;
use crate::export::VALUE_MAX;

/// A name is not longer.
pub(super) const NAME_MAX: usize = 256;
/// So much of a payload is looked at.
pub(super) const PAYLOAD_MAX: usize = VALUE_MAX + NAME_MAX;

/// So many values are remembered: 2 MiB.
const REMEMBERED: usize = 1 << 18;

/// Room for everything that is read.
pub(super) struct Room {
    pub(super) pool: Pool,
    pub(super) values: Values,
    /// `file << 48 | offset | Verdict`: the value there, and what was found; 0: nothing, for files count from 1. Where two want the same place, the later has it.
    verdicts: Vec<u64>,
}

/// What a value is to the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict(u64);

impl Verdict {
    const NAMED: u64 = 4;
    const ACCEPTED: u64 = 2;
    const WANTED: u64 = 1;
    const BITS: u64 = 7;

    pub(super) const fn is_named(self) -> bool {
        self.0 & Verdict::NAMED != 0
    }

    pub(super) const fn is_accepted(self) -> bool {
        self.0 & Verdict::ACCEPTED != 0
    }

    pub(super) const fn is_wanted(self) -> bool {
        self.0 & Verdict::WANTED != 0
    }
}

impl Room {
    /// Files beyond are not told apart.
    pub(super) const FILES_MAX: u32 = u16::MAX as u32;
    /// A file beyond has offsets that are not told apart.
    pub(super) const SIZE_MAX: u64 = 1 << 48;

    pub(super) fn new() -> Room {
        Room { pool: Pool::new(), values: Values::new(), verdicts: vec![0; REMEMBERED] }
    }

    /// What the value there is to the query: asked once, remembered for the other entries that have the same.
    pub(super) fn verdict(&mut self, file: &JournalFile, offset: u64, query: &Query<'_>) -> Result<Verdict, Fault> {
        if offset >= Room::SIZE_MAX || !offset.is_multiple_of(8) {
            return Fault::corrupt(offset, "an object where none can be");
        }
        let key = u64::from(file.source.id) << 48 | offset;
        let place = (key >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - REMEMBERED.trailing_zeros());
        let place = place as usize;
        let remembered = self.verdicts[place];
        if remembered & !Verdict::BITS == key {
            return Ok(Verdict(remembered & Verdict::BITS));
        }
        let verdict = self.judge(file, offset, query)?;
        self.verdicts[place] = key | verdict.0;
        Ok(verdict)
    }

    fn judge(&mut self, file: &JournalFile, offset: u64, query: &Query<'_>) -> Result<Verdict, Fault> {
        let data = file.data(&mut self.pool, offset)?;
        let start = file.payload(&mut self.pool, &mut self.values, &data, NAME_MAX + 1)?;
        let Some((name, _)) = split(start) else { return Ok(Verdict(0)) };
        let mut verdict = if query.wants(name) { Verdict::WANTED } else { 0 };
        if query.is_about(name) {
            let payload = file.payload(&mut self.pool, &mut self.values, &data, PAYLOAD_MAX)?;
            if let Some((name, value)) = split(payload) {
                verdict |= if query.accepts(name, value) { Verdict::ACCEPTED } else { 0 };
                verdict |= if query.names(name, value) { Verdict::NAMED } else { 0 };
            }
        }
        Ok(Verdict(verdict))
    }
}

/// `NAME=value` in its two parts. Something else was never a field.
pub(super) fn split(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = payload.iter().take(NAME_MAX).position(|byte| *byte == b'=').filter(|end| *end > 0)?;
    let name = &payload[..end];
    let is_name = name.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
    is_name.then(|| (name, &payload[end + 1..]))
}
