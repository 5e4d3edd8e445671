//! The head of a worker's answer, for fuzzers. No part of the interface.

use crate::cgi::{Found, HeadScan, parse, status_of, translated};

/// Reads a head as the front does, in pieces of `piece`. Its status, if it is one.
///
/// # Panics
/// When the pieces matter, or two readers do not agree: that is what is looked for.
#[must_use]
pub fn head(bytes: &[u8], piece: usize) -> Option<u16> {
    let whole = HeadScan::new().find(bytes);
    let mut scan = HeadScan::new();
    let mut found = Found::More;
    let mut end = 0;
    while found == Found::More && end < bytes.len() {
        end = bytes.len().min(end + piece.max(1));
        found = scan.find(&bytes[..end]);
    }
    if whole != Found::TooLong {
        assert_eq!(found, whole, "the cut means something");
    }
    let Found::End(end) = whole else { return None };
    let (prefix, rest) = translated(&bytes[..end]);
    assert!(prefix.len() + rest.len() <= end + 64, "a translation is a few words");
    let head = parse(&bytes[..end]).ok()?;
    assert!((100..=999).contains(&head.status), "{}", head.status);
    let told = status_of(&bytes[..end]);
    assert!(told.is_none_or(|status| status == head.status), "{told:?} and {}", head.status);
    assert!(!head.headers.contains_key("transfer-encoding") && !head.headers.contains_key("connection"));
    for value in head.headers.values() {
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{value:?}");
    }
    Some(head.status)
}
