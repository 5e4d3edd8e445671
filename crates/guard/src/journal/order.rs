//! In which order the entries of several files stand, as `journalctl` has it.

use std::cmp::Ordering;
use std::fmt::Write;

/// What tells an entry from every other one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) seqnum_id: [u8; 16],
    pub(super) seqnum: u64,
    pub(super) boot: [u8; 16],
    pub(super) monotonic: u64,
    pub(super) realtime: u64,
    pub(super) xor: u64,
}

impl Key {
    /// By number where the same journald counted, else by that boot's clock, else by the wall clock. Equal: the same entry in
    /// two files.
    pub(super) fn order(&self, other: &Key) -> Ordering {
        let by_number =
            if self.seqnum_id == other.seqnum_id { self.seqnum.cmp(&other.seqnum) } else { Ordering::Equal };
        let by_boot = || if self.boot == other.boot { self.monotonic.cmp(&other.monotonic) } else { Ordering::Equal };
        by_number
            .then_with(by_boot)
            .then_with(|| self.realtime.cmp(&other.realtime))
            .then_with(|| self.xor.cmp(&other.xor))
            .then_with(|| self.seqnum_id.cmp(&other.seqnum_id))
    }

    /// As `journalctl` writes it, and takes it for `--after-cursor`.
    pub(super) fn cursor(&self) -> String {
        let mut text = String::with_capacity(160);
        // A string takes what is written.
        let _always = write!(
            text,
            "s={:032x};i={:x};b={:032x};m={:x};t={:x};x={:x}",
            u128::from_be_bytes(self.seqnum_id),
            self.seqnum,
            u128::from_be_bytes(self.boot),
            self.monotonic,
            self.realtime,
            self.xor
        );
        text
    }

    /// The other way round.
    pub(super) fn from_cursor(cursor: &str) -> Option<Key> {
        let mut key = Key::default();
        let mut found = 0;
        for part in cursor.split(';') {
            let (name, value) = part.split_once('=')?;
            let number = || u64::from_str_radix(value, 16).ok();
            let id = || u128::from_str_radix(value, 16).ok().map(u128::to_be_bytes);
            match name {
                "s" => key.seqnum_id = id()?,
                "i" => key.seqnum = number()?,
                "b" => key.boot = id()?,
                "m" => key.monotonic = number()?,
                "t" => key.realtime = number()?,
                "x" => key.xor = number()?,
                _ => continue,
            }
            found += 1;
        }
        (found == 6).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_what_journalctl_prints() {
        let text = "s=0639e3f0b2e14d7d8f3e2b9b1c0d4e5f;i=1c;b=fd5a2d1ed0f5459689c4eb04c9b0fd35;m=4a5;t=5d6b1e2;x=ffb0fe7df0f4ca93";
        let key = Key::from_cursor(text).expect("a cursor");
        assert_eq!((key.seqnum, key.monotonic, key.realtime), (0x1c, 0x4a5, 0x05d6_b1e2));
        assert_eq!(key.cursor(), text);
        for broken in ["", "s=1", "s=1;i=2;b=3;m=4;t=5", "s=1;i=2;b=3;m=4;t=5;x=g"] {
            assert_eq!(Key::from_cursor(broken), None, "{broken}");
        }
    }

    #[test]
    fn numbers_come_before_clocks() {
        let key = |id: u8, seqnum, boot: u8, monotonic, realtime| Key {
            seqnum_id: [id; 16],
            seqnum,
            boot: [boot; 16],
            monotonic,
            realtime,
            xor: 0,
        };
        // The wall clock went back within one journald's life.
        assert_eq!(key(1, 1, 1, 9, 9).order(&key(1, 2, 1, 8, 8)), Ordering::Less);
        // Two journalds of one boot.
        assert_eq!(key(1, 9, 1, 1, 9).order(&key(2, 1, 1, 2, 8)), Ordering::Less);
        // Two machines.
        assert_eq!(key(1, 9, 1, 9, 1).order(&key(2, 1, 2, 1, 2)), Ordering::Less);
        assert_eq!(key(1, 9, 1, 9, 1).order(&key(1, 9, 1, 9, 1)), Ordering::Equal);
    }
}
