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

#[cfg(test)]
mod tests {
    use super::*;

    /// `MESSAGE=` and forty times `ab`: its length, then one block of literals, a match two bytes back, literals.
    const LZ4: &[u8] = b"\x58\0\0\0\0\0\0\0\xafMESSAGE=ab\x02\0\x36\x50babab";
    /// One segment, one block of a byte that is repeated.
    const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x60\x00\x0f\x03\x80\x00x";

    fn message() -> Vec<u8> {
        [b"MESSAGE=".as_slice(), &b"ab".repeat(40)].concat()
    }

    #[test]
    fn values_are_unpacked_as_far_as_they_are_wanted() {
        let mut values = Values::new();
        assert_eq!(values.decompress(Compression::Lz4, LZ4, 1000, 0).expect("lz4"), message());
        assert_eq!(values.decompress(Compression::Lz4, LZ4, 10, 0).expect("lz4"), &message()[..10]);
        assert_eq!(values.decompress(Compression::Zstd, ZSTD, 5000, 0).expect("zstd"), b"x".repeat(4096));
        assert_eq!(values.decompress(Compression::Zstd, ZSTD, 7, 0).expect("zstd"), b"xxxxxxx");
    }

    #[test]
    fn lengths_that_lie_are_refused_before_anything_is_allocated() {
        let mut values = Values::new();
        for length in [0, 87, 89, 1 << 20, 1 << 40, u64::MAX] {
            let lying = [&length.to_le_bytes(), &LZ4[8..]].concat();
            let fault = values.decompress(Compression::Lz4, &lying, 1000, 64).expect_err("a lie");
            assert!(matches!(fault, Fault::Corrupt { offset: 64, .. }), "{fault}");
        }
        // A window of 2 GiB, which a decoder would have to keep.
        let lying = [&ZSTD[..4], b"\x00\xa8\x03\x80\x00x"].concat();
        assert!(values.decompress(Compression::Zstd, &lying, 1000, 0).is_err());
        for end in 0..LZ4.len() {
            assert!(values.decompress(Compression::Lz4, &LZ4[..end], 1000, 0).is_err(), "{end}");
        }
        for end in 0..ZSTD.len() {
            assert!(values.decompress(Compression::Zstd, &ZSTD[..end], 1000, 0).is_err(), "{end}");
        }
    }

    #[test]
    fn what_has_no_decoder_is_left_to_journalctl() {
        assert!(matches!(Compression::of(1, 0), Err(Fault::Unsupported(_))));
        assert!(matches!(Compression::of(3, 8), Err(Fault::Corrupt { offset: 8, .. })));
        assert!(matches!(Compression::of(0xf8, 0), Ok(Compression::None)));
    }
}
