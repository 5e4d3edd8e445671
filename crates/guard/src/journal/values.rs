//! Big values are compressed, each for itself.

use std::io::Read;

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::fault::Fault;
use super::pool::u64_at;

/// How the payload of a DATA object is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Lz4,
    Zstd,
}

/// The decoders, and room for one value.
pub(super) struct Values {
    zstd: FrameDecoder,
    value: Vec<u8>,
}

/// What zstd may look back on. journald compresses at the default level: 2 MiB and less.
const WINDOW_MAX: u64 = 8 << 20;
/// LZ4 can only be unpacked whole.
const LZ4_MAX: usize = 64 << 20;

impl Compression {
    /// From the flags of an object.
    pub(super) fn of(flags: u8, offset: u64) -> Result<Compression, Fault> {
        match flags & 0b111 {
            0 => Ok(Compression::None),
            0b001 => Err(Fault::Unsupported("a value compressed with XZ")),
            0b010 => Ok(Compression::Lz4),
            0b100 => Ok(Compression::Zstd),
            _ => Fault::corrupt(offset, "a value compressed in several ways"),
        }
    }
}

impl Values {
    pub(super) const COMPRESSED_MAX: usize = 64 << 20;

    pub(super) fn new() -> Values {
        let mut zstd = FrameDecoder::new();
        zstd.set_max_window_size(WINDOW_MAX);
        Values { zstd, value: Vec::new() }
    }

    /// The first `most` bytes of a value. `offset` is its place, for the error.
    pub(super) fn decompress(
        &mut self,
        compression: Compression,
        bytes: &[u8],
        most: usize,
        offset: u64,
    ) -> Result<&[u8], Fault> {
        self.value.clear();
        self.value.shrink_to(LZ4_MAX / 16);
        match compression {
            Compression::None => self.value.extend_from_slice(&bytes[..bytes.len().min(most)]),
            Compression::Lz4 => self.lz4(bytes, most, offset)?,
            Compression::Zstd => {
                let Ok(decoder) = StreamingDecoder::new_with_decoder(bytes, &mut self.zstd) else {
                    return Fault::corrupt(offset, "a value that is not compressed as it says (zstd)");
                };
                // What grows is what was decoded, never what a length promises.
                if decoder.take(most as u64).read_to_end(&mut self.value).is_err() {
                    return Fault::corrupt(offset, "a value that cannot be unpacked (zstd)");
                }
            }
        }
        Ok(&self.value)
    }

    /// Eight bytes of length, then one block (`compress_blob_lz4`).
    fn lz4(&mut self, bytes: &[u8], most: usize, offset: u64) -> Result<(), Fault> {
        let Some(block) = bytes.get(8..) else {
            return Fault::corrupt(offset, "a value that is not compressed as it says (lz4)");
        };
        let length = usize::try_from(u64_at(bytes, 0)).unwrap_or(usize::MAX);
        // A byte of a block stands for 255 at most.
        if length / 255 > block.len() {
            return Fault::corrupt(offset, "a value that would be longer than it can be (lz4)");
        }
        if length > LZ4_MAX {
            return Err(Fault::Unsupported("a value of more than 64 MiB compressed with LZ4"));
        }
        self.value.resize(length, 0);
        match lz4_flex::block::decompress_into(block, &mut self.value) {
            Ok(read) if read == length => {
                self.value.truncate(most);
                Ok(())
            }
            Ok(_) | Err(_) => Fault::corrupt(offset, "a value that cannot be unpacked (lz4)"),
        }
    }
}
