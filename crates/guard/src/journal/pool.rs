//! The bytes of journal files: read in blocks, of which a fixed number is kept for all files together.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::fault::Fault;

/// journald writes what belongs together close together: a block holds a hundred entries and more.
const BLOCK: usize = 64 << 10;
const SLOTS: usize = 128;

/// A file that can be read at any place. It may grow or be truncated meanwhile: nothing of it is mapped, so a truncation is an
/// error value and no SIGBUS.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: File,
    /// Its number among the files of this run. The same number is never used twice.
    pub(super) id: u32,
    /// Its length when it was opened: what comes later is not looked at.
    pub(super) size: u64,
}

/// Blocks of all files, and room for what crosses their borders.
pub(super) struct Pool {
    slots: Vec<Slot>,
    crossing: Vec<u8>,
}

struct Slot {
    /// `u32::MAX`: nobody's.
    id: u32,
    block: u64,
    bytes: Vec<u8>,
}

impl Pool {
    pub(super) fn new() -> Pool {
        let slots = (0..SLOTS).map(|_| Slot { id: u32::MAX, block: 0, bytes: Vec::new() }).collect();
        Pool { slots, crossing: Vec::new() }
    }

    /// Exactly so many bytes. `length` is bounded by the caller.
    pub(super) fn view(&mut self, source: &Source, offset: u64, length: usize) -> Result<&[u8], Fault> {
        let is_inside = offset.checked_add(length as u64).is_some_and(|end| end <= source.size);
        if !is_inside {
            return Fault::corrupt(offset, "something that is not whole at the end of the file");
        }
        let block = offset / BLOCK as u64;
        let start = (offset % BLOCK as u64) as usize;
        let found = if start + length <= BLOCK {
            let bytes = self.block(source, block)?;
            bytes.get(start..start + length)
        } else {
            self.crossing(source, offset, length)?
        };
        found.ok_or(Fault::Corrupt { offset, what: "the file became shorter while it was read" })
    }

    fn block(&mut self, source: &Source, block: u64) -> Result<&[u8], Fault> {
        // Files that are read together have their blocks in different slots, mostly.
        let index = (block.wrapping_add(u64::from(source.id).wrapping_mul(37)) % SLOTS as u64) as usize;
        let slot = &mut self.slots[index];
        if slot.id != source.id || slot.block != block {
            slot.id = u32::MAX;
            slot.bytes.resize(BLOCK, 0);
            let read = read_at(&source.file, block * BLOCK as u64, &mut slot.bytes)?;
            slot.bytes.truncate(read);
            (slot.id, slot.block) = (source.id, block);
        }
        Ok(&slot.bytes)
    }

    fn crossing(&mut self, source: &Source, offset: u64, length: usize) -> Result<Option<&[u8]>, Fault> {
        let mut crossing = std::mem::take(&mut self.crossing);
        crossing.clear();
        if length > 2 * BLOCK {
            crossing.resize(length, 0);
            let read = read_at(&source.file, offset, &mut crossing)?;
            crossing.truncate(read);
        } else {
            let mut at = offset;
            while crossing.len() < length {
                let bytes = self.block(source, at / BLOCK as u64)?;
                let start = (at % BLOCK as u64) as usize;
                let end = bytes.len().min(start + length - crossing.len());
                let Some(part) = bytes.get(start..end).filter(|part| !part.is_empty()) else { break };
                at += part.len() as u64;
                crossing.extend_from_slice(part);
            }
        }
        self.crossing = crossing;
        Ok((self.crossing.len() == length).then_some(&self.crossing))
    }
}

/// Reads until the buffer is full or the file ends.
fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// The 64 bits there, low byte first. The caller has looked at the length.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// The 32 bits there, low byte first. The caller has looked at the length.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The 128 bits there, as they are. The caller has looked at the length.
pub(super) fn id_at(bytes: &[u8], at: usize) -> [u8; 16] {
    bytes.get(at..at + 16).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(bytes: &[u8]) -> Source {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(bytes, 0).expect("written");
        Source { file, id: 3, size: bytes.len() as u64 }
    }

    #[test]
    fn what_crosses_blocks_is_read_whole() {
        let bytes: Vec<u8> = (0..BLOCK * 5 + 100).map(|at| (at / 7) as u8).collect();
        let source = source(&bytes);
        let mut pool = Pool::new();
        for (offset, length) in [(0, 10), (BLOCK - 5, 10), (BLOCK - 1, BLOCK + 2), (10, BLOCK * 4), (BLOCK * 5, 100)] {
            let found = pool.view(&source, offset as u64, length).expect("there");
            assert_eq!(found, &bytes[offset..offset + length]);
        }
        for (offset, length) in [(bytes.len() as u64, 1), (u64::MAX, 2), (0, bytes.len() + 1)] {
            assert!(matches!(pool.view(&source, offset, length), Err(Fault::Corrupt { .. })));
        }
    }

    #[test]
    fn a_file_that_is_truncated_meanwhile_is_an_error() {
        let source = source(&vec![1; BLOCK * 4]);
        let mut pool = Pool::new();
        assert!(pool.view(&source, 10, 10).is_ok());
        source.file.set_len(100).expect("shorter");
        for (offset, length) in [(BLOCK as u64 + 1, 1), (BLOCK as u64 * 2 - 5, 10), (9, BLOCK * 3)] {
            let fault = pool.view(&source, offset, length).expect_err("gone");
            assert!(fault.to_string().contains("shorter"), "{fault}");
        }
    }
}
