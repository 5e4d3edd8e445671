//! How many lines an entry stands for: some writers say one thing once, and how often it was so.

use crate::entry::Entry;

/// How syslogd begins it.
const REPEATED: &[u8] = b"last message repeated ";
/// No entry stands for more.
const TIMES_MAX: u64 = 1_000_000;

/// How many lines this entry is, 1 where it says nothing.
///
/// Steadfast's own field, else `… ×412 in 10 s` at the end (steadfast's lines for people), else `message repeated 5 times: […]`
/// (rsyslog).
#[must_use]
pub(crate) fn times(entry: &Entry) -> u64 {
    let times = match entry.field("STEADFAST_TIMES") {
        Some(times) => number(times),
        None => entry.field("MESSAGE").and_then(said),
    };
    times.unwrap_or(1)
}

/// For `last message repeated 5 times` (syslogd): so many more of the message before.
#[must_use]
pub(crate) fn repeated(entry: &Entry) -> Option<u64> {
    let rest = entry.field("MESSAGE")?.strip_prefix(REPEATED)?;
    number(rest.strip_suffix(b" times").or_else(|| rest.strip_suffix(b" times."))?)
}

/// Whether a message may be such a one.
pub(crate) fn is_repeated(message: &[u8]) -> bool {
    message.starts_with(REPEATED)
}

fn said(message: &[u8]) -> Option<u64> {
    if let Some(rest) = message.strip_prefix(b"message repeated ") {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = rest.split_at(digits);
        return if rest.starts_with(b" times: [") { number(digits) } else { None };
    }
    // The mark and what follows it are short: no long line is searched.
    let tail = &message[message.len().saturating_sub(40)..];
    let sign = "×".as_bytes();
    let at = tail.windows(sign.len()).rposition(|window| window == sign)?;
    let rest = &tail[at + sign.len()..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at(digits);
    let is_end = rest.is_empty() || is_length(rest);
    number(digits).filter(|_| is_end)
}

/// ` in 10 s`.
fn is_length(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b" in ") else {
        return false;
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let unit = &rest[digits..];
    digits > 0 && [" ms", " s", " min", " h", " d"].iter().any(|known| known.as_bytes() == unit)
}

fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    if text.len() > 18 {
        return Some(TIMES_MAX);
    }
    text.parse().ok().filter(|times| *times > 0).map(|times: u64| times.min(TIMES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Entry {
        Entry { fields: vec![("MESSAGE".to_owned(), text.as_bytes().to_vec())], ..Entry::default() }
    }

    #[test]
    fn a_line_that_stands_for_many_says_so() {
        for (text, wanted) in [
            ("worker-exited crashed ×412 in 10 s", 412),
            ("worker-exited ×2", 2),
            ("worker-exited ×7 in 1.5 min", 7),
            ("message repeated 5 times: [ worker died]", 5),
            ("worker died", 1),
            ("a picture of 3×4 metres", 1),
            ("×", 1),
            ("×0", 1),
            ("x ×99999999999999999999999", TIMES_MAX),
            ("message repeated many times: [x]", 1),
            ("message repeated 3 times", 1),
            ("", 1),
        ] {
            assert_eq!(times(&message(text)), wanted, "{text}");
        }
        let mut entry = message("worker-exited ×412 in 10 s");
        entry.fields.push(("STEADFAST_TIMES".to_owned(), b"9".to_vec()));
        assert_eq!(times(&entry), 9);
    }

    #[test]
    fn syslogd_repeats_the_message_before() {
        assert_eq!(repeated(&message("last message repeated 3 times")), Some(3));
        assert_eq!(repeated(&message("last message repeated 0 times")), None);
        assert_eq!(repeated(&message("message repeated 3 times: [x]")), None);
    }
}
