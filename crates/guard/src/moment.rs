//! When something was, on every clock that is known of it, and how far two moments are apart.

use std::fmt;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::entry::Entry;

/// A boot or an invocation, as journald writes them: 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u128);

impl Id {
    /// Of 32 hexadecimal digits, with or without dashes; `None` for anything else, and for all zeroes.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Id> {
        if text.len() > 36 {
            return None;
        }
        let digits: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'-').collect();
        let text = std::str::from_utf8(&digits).ok().filter(|text| text.len() == 32)?;
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(text, 16).ok().filter(|number| is_hex && *number != 0).map(Id)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        let text = String::deserialize(deserializer)?;
        Id::parse(text.as_bytes()).ok_or_else(|| D::Error::custom("not 32 hexadecimal digits"))
    }
}

/// A moment. Within one boot the monotonic clock tells how far two of them are apart, so that nobody who sets the wall
/// clock moves them; between boots, and where a reader wants nothing else, the wall clock does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Microseconds since 1970.
    pub wall: u64,
    /// Microseconds since that boot; without a boot it has no meaning.
    pub monotonic: u64,
    /// Which boot.
    pub boot: Option<Id>,
}

impl Moment {
    /// On the wall clock alone.
    #[must_use]
    pub fn on_wall(wall: u64) -> Moment {
        Moment { wall, monotonic: 0, boot: None }
    }

    /// When an entry was written, on both clocks.
    #[must_use]
    pub fn of(entry: &Entry) -> Moment {
        let boot = entry.field("_BOOT_ID").and_then(Id::parse).filter(|_| entry.monotonic != 0);
        Moment { wall: entry.realtime, monotonic: entry.monotonic, boot }
    }

    /// How long after `earlier` this is; nothing where it is before.
    #[must_use]
    pub fn since(self, earlier: Moment) -> Duration {
        let micros = if self.boot.is_some() && self.boot == earlier.boot {
            self.monotonic.saturating_sub(earlier.monotonic)
        } else {
            self.wall.saturating_sub(earlier.wall)
        };
        Duration::from_micros(micros)
    }

    /// The same moment, so much later.
    #[must_use]
    pub fn after(self, length: Duration) -> Moment {
        let micros = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        let (wall, monotonic) = (self.wall.saturating_add(micros), self.monotonic.saturating_add(micros));
        Moment { wall, monotonic, ..self }
    }

    /// RFC 3339 in UTC, with milliseconds.
    #[must_use]
    pub fn stamp(self) -> String {
        stamp(self.wall)
    }
}

/// Microseconds since 1970 as RFC 3339 in UTC, with milliseconds.
#[must_use]
pub fn stamp(wall: u64) -> String {
    let at = i64::try_from(wall).ok().and_then(|wall| jiff::Timestamp::from_microsecond(wall).ok());
    format!("{:.3}", at.unwrap_or(jiff::Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn id(number: u128) -> Option<Id> {
        Some(Id(number))
    }

    #[test]
    fn ids_are_32_digits() {
        let text = "0123456789abcdef0123456789abcdef";
        assert_eq!(Id::parse(text.as_bytes()).map(|id| id.to_string()).as_deref(), Some(text));
        assert!(Id::parse(b"01234567-89ab-cdef-0123-456789abcdef").is_some(), "as the kernel writes them");
        for bad in ["", "0", "+123456789abcdef0123456789abcdef0", "0123456789abcdef0123456789abcdeg", &"0".repeat(32)] {
            assert_eq!(Id::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn within_a_boot_nobody_moves_a_moment() {
        let first = Moment { wall: 100 * SECOND, monotonic: 5 * SECOND, boot: id(1) };
        let ten_years = Moment { wall: 315_000_000 * SECOND, monotonic: 6 * SECOND, boot: id(1) };
        let back = Moment { wall: 0, monotonic: 7 * SECOND, boot: id(1) };
        assert_eq!(ten_years.since(first), Duration::from_secs(1));
        assert_eq!(back.since(ten_years), Duration::from_secs(1));
    }

    #[test]
    fn between_boots_the_wall_decides() {
        let first = Moment { wall: 100 * SECOND, monotonic: 5000 * SECOND, boot: id(1) };
        let second = Moment { wall: 130 * SECOND, monotonic: 2 * SECOND, boot: id(2) };
        assert_eq!(second.since(first), Duration::from_secs(30));
        assert_eq!(first.since(second), Duration::ZERO);
        let plain = Moment::on_wall(131 * SECOND);
        assert_eq!(plain.since(second), Duration::from_secs(1));
    }

    #[test]
    fn what_is_after_is_so_on_both_clocks() {
        let first = Moment { wall: 1, monotonic: 2, boot: id(1) };
        let later = first.after(Duration::from_micros(3));
        assert_eq!((later.wall, later.monotonic, later.since(first)), (4, 5, Duration::from_micros(3)));
        assert_eq!(stamp(1_500_000), "1970-01-01T00:00:01.500Z");
    }
}
