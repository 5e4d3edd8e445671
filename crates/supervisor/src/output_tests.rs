//! Lines of every shape: split, endless, flooding, forging.

use std::os::fd::{AsFd, OwnedFd};

use super::*;

fn pipe() -> (OwnedFd, OwnedFd) {
    use rustix::pipe::PipeFlags;
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("pipe")
}

/// Feeds bytes without a pipe, in pieces of this size.
fn feed(lines: &mut Lines, bytes: &[u8], piece: usize, now: u64) -> Vec<String> {
    let mut out = Vec::new();
    for piece in bytes.chunks(piece) {
        lines.take(piece, now, &mut out);
    }
    out
}

#[test]
fn lines_come_whole_however_they_are_split() {
    let text = "one\ntwo\r\n\nthr\u{fc}e\nrest".as_bytes();
    for piece in 1..=text.len() {
        let mut lines = Lines::new();
        let mut out = feed(&mut lines, text, piece, 0);
        assert_eq!(out, ["one", "two", "", "thr\u{fc}e"], "in pieces of {piece}");
        lines.finish(0, &mut out);
        assert_eq!(out.last().map(String::as_str), Some("rest"));
        assert_eq!(lines.bytes(), text.len() as u64);
    }
}

#[test]
fn a_pipe_is_read_until_it_is_empty_and_closed() {
    let (ours, theirs) = pipe();
    let (mut lines, mut scratch, mut out) = (Lines::new(), Scratch::new(), Vec::new());
    assert_eq!(lines.read(ours.as_fd(), 0, &mut scratch, &mut out), Turn::Empty);
    rustix::io::write(&theirs, b"hello\nwor").expect("write");
    assert_eq!(lines.read(ours.as_fd(), 0, &mut scratch, &mut out), Turn::More);
    assert_eq!(out, ["hello"]);
    assert_eq!(lines.read(ours.as_fd(), 0, &mut scratch, &mut out), Turn::Empty);
    drop(theirs);
    assert_eq!(lines.read(ours.as_fd(), 0, &mut scratch, &mut out), Turn::Closed);
    lines.finish(0, &mut out);
    assert_eq!(out, ["hello", "wor"]);
}

#[test]
fn an_endless_line_costs_four_kilobytes_and_says_what_it_lost() {
    for piece in [1000, 4096, 65_536] {
        let mut lines = Lines::new();
        let mut out = feed(&mut lines, &vec![b'a'; 10_000_000], piece, 0);
        assert!(out.is_empty() && lines.partial.capacity() <= 2 * LINE_MAX, "{}", lines.partial.capacity());
        out.extend(feed(&mut lines, b"\nnext\n", piece, 0));
        let lost = 10_000_000 - LINE_MAX;
        assert_eq!(out, [format!("{} … ({lost} bytes cut)", "a".repeat(LINE_MAX)), "next".to_owned()]);
    }
}

#[test]
fn an_endless_line_makes_its_pipe_rest() {
    let (ours, theirs) = pipe();
    let (mut lines, mut scratch, mut out) = (Lines::new(), Scratch::new(), Vec::new());
    rustix::io::write(&theirs, &[b'a'; 60_000]).expect("write");
    let turn = lines.read(ours.as_fd(), 7, &mut scratch, &mut out);
    assert_eq!(turn, Turn::Rest { until: 7 + REST });
}

#[test]
fn a_flood_passes_at_its_rate_and_is_counted_exactly() {
    let mut lines = Lines::new();
    let flood: String = (0..30_000).map(|number| format!("line {number}\n")).collect();
    let out = feed(&mut lines, flood.as_bytes(), TURN_MAX, 0);
    assert_eq!(out.len() as u64, BURST);
    assert_eq!(lines.take_dropped(), 30_000 - BURST);
    assert_eq!(lines.take_dropped(), 0);
    let last: Vec<_> = lines.last().collect();
    let wanted: Vec<_> = (29_980..30_000).map(|number| format!("line {number}")).collect();
    assert_eq!(last, wanted, "the last lines are kept although they were dropped");
    // A second later the rate has let in 200 more.
    let out = feed(&mut lines, flood.as_bytes(), TURN_MAX, SECOND);
    assert_eq!(out.len() as u64, RATE);
}

#[test]
fn a_flooders_pipe_rests_and_a_talkers_does_not() {
    let (ours, theirs) = pipe();
    let (mut lines, mut scratch, mut out) = (Lines::new(), Scratch::new(), Vec::new());
    let flood = "y\n".repeat(30_000);
    rustix::io::write(&theirs, flood.as_bytes()).expect("write");
    assert_eq!(lines.read(ours.as_fd(), 0, &mut scratch, &mut out), Turn::More, "the burst passes");
    rustix::io::write(&theirs, flood.as_bytes()).expect("write");
    assert_eq!(lines.read(ours.as_fd(), 5, &mut scratch, &mut out), Turn::Rest { until: 5 + REST });
    assert_eq!(out.len() as u64 + lines.take_dropped(), 60_000);
    rustix::io::write(&theirs, b"calm again\n").expect("write");
    assert_eq!(lines.read(ours.as_fd(), SECOND, &mut scratch, &mut out), Turn::More);
    assert_eq!(out.last().map(String::as_str), Some("calm again"));
}

#[test]
fn no_text_forges_a_line() {
    for (text, wanted) in [
        (&b"a\tb"[..], "a\tb"),
        (b"red \x1b[31m", "red \\x1b[31m"),
        (b"a\rb", "a\\rb"),
        (b"nul \0", "nul \\x00"),
        (b"\xff\xfe ok", "\\xff\\xfe ok"),
        ("c1 \u{9b}x \u{2028} \u{202e}".as_bytes(), "c1 \\u{9b}x \\u{2028} \\u{202e}"),
        (b"two\nlines", "two\\nlines"),
        (b"del \x7f", "del \\x7f"),
    ] {
        assert_eq!(escape(text, 100), wanted);
    }
    for byte in 0..=255u8 {
        let text = escape(&[byte; 50], LINE_MAX);
        assert!(!text.chars().any(|character| character.is_control() && character != '\t'), "{byte}");
    }
}

#[test]
fn escapes_stay_within_the_limit() {
    let text = escape(&[0; LINE_MAX], LINE_MAX);
    assert!(text.starts_with("\\x00") && text.len() < LINE_MAX + 30, "{}", text.len());
    assert!(text.ends_with(&format!(" … ({} bytes cut)", LINE_MAX - LINE_MAX / 4)), "{}", &text[LINE_MAX - 4..]);
    assert_eq!(escape("äöü".as_bytes(), 5), "äö … (2 bytes cut)");
    assert!(escape(&[0xff; LINE_MAX], LINE_MAX).len() < LINE_MAX + 30);
}

#[test]
fn what_is_kept_for_a_report_is_bounded() {
    let mut lines = Lines::new();
    feed(&mut lines, ("x".repeat(3000) + "\n").repeat(50).as_bytes(), TURN_MAX, 0);
    assert_eq!(lines.last().count(), LAST_BYTES / 3000);
}

#[test]
fn before_ready_the_newest_four_kilobytes_are_held() {
    let mut held = Held::new();
    for number in 0..100 {
        held.push(format!("{number:0100}"));
    }
    let HeldLines { lines, dropped } = held.take();
    assert_eq!((lines.len(), dropped), (40, 60));
    assert_eq!(lines.last(), Some(&format!("{:0100}", 99)));
    assert_eq!(held.take(), HeldLines { lines: vec![], dropped: 0 });
}

#[test]
fn one_long_line_is_cut_and_leaves_room_for_others() {
    let long = "x".repeat(20_000);
    let report = last_lines(["why", &long].into_iter());
    assert_eq!(report.len(), 2);
    assert_eq!(report[0], "why");
    assert!(report[1].len() < 1010 && report[1].ends_with('…'));
}
