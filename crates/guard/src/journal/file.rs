//! One journal file: its header, and the objects in it. Every offset and every length is somebody else's claim.
//!
//! The format: <https://systemd.io/JOURNAL_FILE_FORMAT/>, `journal-def.h`.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::fault::Fault;
use super::pool::{Pool, Source, id_at, u32_at, u64_at};
use super::values::{Compression, Values};

/// `HEADER_INCOMPATIBLE_COMPACT`: offsets of 32 bits in entries and arrays.
const COMPACT: u32 = 1 << 4;
/// XZ, LZ4, keyed hashes, ZSTD, compact. A file with any other bit is not ours to read.
const KNOWN: u32 = 0b1_1111;
const STATE_ONLINE: u8 = 1;
const STATE_ARCHIVED: u8 = 2;

/// The header of the oldest files, up to `tail_entry_monotonic`.
const HEADER_MIN: usize = 208;
pub(super) const OBJECT_HEAD: usize = 16;
const ENTRY_HEAD: usize = 64;
const ARRAY_HEAD: usize = 24;
const FIELD_HEAD: usize = 40;
/// journald takes 1024 fields in an entry; whoever writes more than this writes no journal.
const ITEMS_MAX: u64 = 1 << 16;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data = 1,
    Field = 2,
    Entry = 3,
    FieldHashTable = 5,
    EntryArray = 6,
}

/// What of the header is of use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    incompatible: u32,
    /// Its writer has it open, or went without closing it.
    pub(super) is_online: bool,
    /// The boot in which it was last written to.
    pub(super) boot: [u8; 16],
    pub(super) seqnum_id: [u8; 16],
    size: u64,
    field_table: u64,
    field_table_size: u64,
    pub(super) entries: u64,
    pub(super) head_seqnum: u64,
    pub(super) entry_array: u64,
}

/// A journal file that is open. It was a journal file when it was opened; what changes later is not looked at.
#[derive(Debug)]
pub(super) struct JournalFile {
    pub(super) source: Source,
    pub(super) header: Header,
}

/// The fixed part of an entry.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct EntryHead {
    pub(super) seqnum: u64,
    pub(super) realtime: u64,
    pub(super) monotonic: u64,
    pub(super) boot: [u8; 16],
    pub(super) xor: u64,
}

/// The fixed part of a DATA object: one value, however many entries have it.
#[derive(Debug, Clone, Copy)]
pub(super) struct DataHead {
    /// The next one of the same field. It is older: it stands before this one.
    pub(super) next_of_field: u64,
    /// The first entry that has it.
    pub(super) entry: u64,
    /// The others.
    pub(super) entry_array: u64,
    pub(super) entries: u64,
    compression: Compression,
    payload: u64,
    length: u64,
}

/// An array of entries' offsets.
#[derive(Debug, Clone, Copy)]
pub(super) struct ArrayHead {
    pub(super) next: u64,
    /// So many offsets have room in it.
    pub(super) room: u64,
}

/// A FIELD object: one name.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldHead {
    pub(super) next_in_bucket: u64,
    /// The newest value.
    pub(super) data: u64,
    length: u64,
}

impl JournalFile {
    /// Opens it and reads its header. `id` is one that no other file of this run has.
    pub(super) fn open(path: &Path, id: u32, pool: &mut Pool) -> Result<JournalFile, Fault> {
        // A pipe under a journal's name must not hold us up.
        let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Fault::Unsupported("no bytes at fixed places (it is no regular file)"));
        }
        let source = Source { file, id, size: metadata.len() };
        let header = Header::read(&source, pool)?;
        Ok(JournalFile { source, header })
    }

    pub(super) const fn is_compact(&self) -> bool {
        self.header.incompatible & COMPACT != 0
    }

    /// Bytes of an offset in entry arrays.
    pub(super) const fn offset_size(&self) -> usize {
        if self.is_compact() { 4 } else { 8 }
    }

    /// The first `length` bytes of an object of this kind, and its size.
    fn object<'p>(&self, pool: &'p mut Pool, offset: u64, kind: Kind, length: usize) -> Result<(&'p [u8], u64), Fault> {
        if !offset.is_multiple_of(8) || offset < self.header.size {
            return Fault::corrupt(offset, "an object where none can be");
        }
        let bytes = pool.view(&self.source, offset, length)?;
        if bytes[0] != kind as u8 {
            return Fault::corrupt(offset, kind.missing());
        }
        let size = u64_at(bytes, 8);
        let is_inside = offset.checked_add(size).is_some_and(|end| end <= self.source.size);
        if size < length as u64 || !is_inside {
            return Fault::corrupt(offset, "an object whose size is impossible");
        }
        Ok((bytes, size))
    }

    /// Reads an entry, and the offsets of its values into `items`.
    pub(super) fn entry(&self, pool: &mut Pool, offset: u64, items: &mut Vec<u64>) -> Result<EntryHead, Fault> {
        let (bytes, size) = self.object(pool, offset, Kind::Entry, ENTRY_HEAD)?;
        let head = EntryHead {
            seqnum: u64_at(bytes, 16),
            realtime: u64_at(bytes, 24),
            monotonic: u64_at(bytes, 32),
            boot: id_at(bytes, 40),
            xor: u64_at(bytes, 56),
        };
        let item = if self.is_compact() { 4 } else { 16 };
        let count = (size - ENTRY_HEAD as u64) / item;
        if count > ITEMS_MAX {
            return Fault::corrupt(offset, "an entry of more fields than journald takes");
        }
        let bytes = pool.view(&self.source, offset + ENTRY_HEAD as u64, (count * item) as usize)?;
        items.clear();
        if self.is_compact() {
            items.extend(bytes.chunks_exact(4).map(|item| u64::from(u32_at(item, 0))));
        } else {
            items.extend(bytes.chunks_exact(16).map(|item| u64_at(item, 0)));
        }
        Ok(head)
    }

    /// When the entry was written.
    pub(super) fn entry_realtime(&self, pool: &mut Pool, offset: u64) -> Result<u64, Fault> {
        let (bytes, _) = self.object(pool, offset, Kind::Entry, ENTRY_HEAD)?;
        Ok(u64_at(bytes, 24))
    }

    pub(super) fn array(&self, pool: &mut Pool, offset: u64) -> Result<ArrayHead, Fault> {
        let (bytes, size) = self.object(pool, offset, Kind::EntryArray, ARRAY_HEAD)?;
        let next = u64_at(bytes, 16);
        // Arrays are only ever added at the end: so a chain has an end.
        if next != 0 && next <= offset {
            return Fault::corrupt(offset, "a chain of arrays that goes backwards");
        }
        Ok(ArrayHead { next, room: (size - ARRAY_HEAD as u64) / self.offset_size() as u64 })
    }

    /// Some of the offsets in an array, `from` the one with that number. The caller knows that it has so many.
    pub(super) fn offsets(
        &self,
        pool: &mut Pool,
        array: u64,
        from: u64,
        count: usize,
        into: &mut Vec<u64>,
    ) -> Result<(), Fault> {
        let size = self.offset_size();
        let bytes = pool.view(&self.source, array + ARRAY_HEAD as u64 + from * size as u64, count * size)?;
        into.clear();
        if size == 4 {
            into.extend(bytes.chunks_exact(4).map(|offset| u64::from(u32_at(offset, 0))));
        } else {
            into.extend(bytes.chunks_exact(8).map(|offset| u64_at(offset, 0)));
        }
        Ok(())
    }

    pub(super) fn data(&self, pool: &mut Pool, offset: u64) -> Result<DataHead, Fault> {
        let head = if self.is_compact() { 72 } else { 64 };
        let (bytes, size) = self.object(pool, offset, Kind::Data, head)?;
        let next_of_field = u64_at(bytes, 32);
        Ok(DataHead {
            next_of_field,
            entry: u64_at(bytes, 40),
            entry_array: u64_at(bytes, 48),
            entries: u64_at(bytes, 56),
            compression: Compression::of(bytes[1], offset)?,
            payload: offset + head as u64,
            length: size - head as u64,
        })
    }

    /// `NAME=value`, or its first `most` bytes.
    pub(super) fn payload<'v>(
        &self,
        pool: &'v mut Pool,
        values: &'v mut Values,
        data: &DataHead,
        most: usize,
    ) -> Result<&'v [u8], Fault> {
        let length = usize::try_from(data.length).unwrap_or(usize::MAX);
        if data.compression == Compression::None {
            return pool.view(&self.source, data.payload, length.min(most));
        }
        // A compressed value that is bigger than this would be of gigabytes.
        if length > Values::COMPRESSED_MAX {
            return Err(Fault::Unsupported("a value of more than 64 MiB compressed"));
        }
        let bytes = pool.view(&self.source, data.payload, length)?;
        values.decompress(data.compression, bytes, most, data.payload)
    }

    /// Where the first FIELD object of each bucket is.
    pub(super) fn buckets(&self, pool: &mut Pool) -> Result<Vec<u64>, Fault> {
        let Header { field_table, field_table_size, .. } = self.header;
        if field_table == 0 {
            return Ok(Vec::new());
        }
        if field_table_size > 1 << 20 || field_table < OBJECT_HEAD as u64 {
            return Fault::corrupt(field_table, "a table of fields whose size is impossible");
        }
        // The header names the table's content; the object begins before it.
        self.object(pool, field_table - OBJECT_HEAD as u64, Kind::FieldHashTable, OBJECT_HEAD)?;
        let bytes = pool.view(&self.source, field_table, field_table_size as usize)?;
        Ok(bytes.chunks_exact(16).map(|bucket| u64_at(bucket, 0)).filter(|offset| *offset != 0).collect())
    }

    pub(super) fn field(&self, pool: &mut Pool, offset: u64) -> Result<FieldHead, Fault> {
        let (bytes, size) = self.object(pool, offset, Kind::Field, FIELD_HEAD)?;
        let next_in_bucket = u64_at(bytes, 24);
        if next_in_bucket != 0 && next_in_bucket <= offset {
            return Fault::corrupt(offset, "a chain of fields that goes backwards");
        }
        Ok(FieldHead { next_in_bucket, data: u64_at(bytes, 32), length: size - FIELD_HEAD as u64 })
    }

    /// Whether the field has this name.
    pub(super) fn is_named(&self, pool: &mut Pool, offset: u64, field: &FieldHead, name: &[u8]) -> Result<bool, Fault> {
        Ok(field.length == name.len() as u64
            && pool.view(&self.source, offset + FIELD_HEAD as u64, name.len())? == name)
    }
}

impl Header {
    fn read(source: &Source, pool: &mut Pool) -> Result<Header, Fault> {
        let bytes = pool.view(source, 0, HEADER_MIN)?;
        if !bytes.starts_with(b"LPKSHHRH") {
            return Fault::corrupt(0, "no journal file: its first bytes are not LPKSHHRH");
        }
        let incompatible = u32_at(bytes, 12);
        if incompatible & !KNOWN != 0 {
            return Err(Fault::Unsupported("a feature that this version does not know"));
        }
        let header = Header {
            incompatible,
            is_online: bytes[16] == STATE_ONLINE,
            boot: id_at(bytes, 56),
            seqnum_id: id_at(bytes, 72),
            size: u64_at(bytes, 88),
            field_table: u64_at(bytes, 120),
            field_table_size: u64_at(bytes, 128),
            entries: u64_at(bytes, 152),
            head_seqnum: u64_at(bytes, 168),
            entry_array: u64_at(bytes, 176),
        };
        if bytes[16] > STATE_ARCHIVED {
            return Err(Fault::Unsupported("a state that this version does not know"));
        }
        if header.size < HEADER_MIN as u64 || !header.size.is_multiple_of(8) {
            return Fault::corrupt(88, "a header whose size is impossible");
        }
        Ok(header)
    }
}

impl Kind {
    const fn missing(self) -> &'static str {
        match self {
            Kind::Data => "no value where an entry or a field says one is",
            Kind::Field => "no field where the table of fields says one is",
            Kind::Entry => "no entry where an array says one is",
            Kind::FieldHashTable => "no table of fields where the header says it is",
            Kind::EntryArray => "no array of entries where the chain says one is",
        }
    }
}
