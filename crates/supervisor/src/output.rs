//! Reads a worker's stdout or stderr line by line, with limits on everything.
//!
//! A worker may write anything at any speed. A line is cut at 4 KiB and loses its control characters, so that no text
//! can forge a line of its own; a turn takes at most 64 KiB; 200 lines a second pass (burst 1,000), the rest is
//! counted. A flooder's pipe rests for 25 ms after each turn that the rate refuses wholly: so it costs the supervisor
//! 40 reads a second and no more, and the worker, whose pipe holds 64 KiB, never waits longer than that.

use std::collections::VecDeque;
use std::fmt::Write;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use steadfast_proto::status::{STDERR_BYTES_MAX, STDERR_LINES_MAX};

/// Longest line, before and after escaping.
pub const LINE_MAX: usize = 4096;
/// How many bytes one turn takes from one pipe.
pub const TURN_MAX: usize = 64 * 1024;
/// Lines that pass in a second …
pub const RATE: u64 = 200;
/// … and at once after a quiet time.
pub const BURST: u64 = 1000;
/// How many lines are kept for the report of a death …
pub const LAST_LINES: usize = 20;
/// … and how many bytes of them.
pub const LAST_BYTES: usize = 8 * 1024;
/// What is kept of a worker that is not ready.
pub const HELD_BYTES: usize = 4 * 1024;
/// Bytes of one line in a report: four such fit into it.
const STDERR_LINE_MAX: usize = 1000;
const REST: u64 = 25_000_000;
const SECOND: u64 = 1_000_000_000;

/// The buffer for one read, shared by all pipes.
pub struct Scratch(Box<[u8]>);

impl Scratch {
    /// 64 KiB.
    pub fn new() -> Scratch {
        Scratch(vec![0; TURN_MAX].into_boxed_slice())
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

/// What to do with a pipe after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing is there: wait for it.
    Empty,
    /// There may be more: come again after the others.
    More,
    /// A flooder: do not look at it before this instant (monotonic nanoseconds).
    Rest {
        /// Then look again.
        until: u64,
    },
    /// No writer is left.
    Closed,
}

/// One pipe of one worker.
pub struct Lines {
    /// The beginning of a line whose end has not come, at most `LINE_MAX`.
    partial: Vec<u8>,
    /// Bytes of that line beyond the limit.
    excess: u64,
    bytes: u64,
    /// Lines that may pass, in lines × nanoseconds.
    tokens: u64,
    refilled: u64,
    dropped: u64,
    last: Tail,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines::new()
    }
}

impl Lines {
    /// Nothing read yet, and the burst full.
    pub fn new() -> Lines {
        Lines {
            partial: Vec::new(),
            excess: 0,
            bytes: 0,
            tokens: BURST * SECOND,
            refilled: 0,
            dropped: 0,
            last: Tail { lines: VecDeque::new(), bytes: 0, bytes_max: LAST_BYTES, lines_max: LAST_LINES, dropped: 0 },
        }
    }

    /// Goes on where another reader of the same pipe has stopped: so many bytes have come, the last of them in no whole line.
    pub(crate) fn go_on(bytes: u64, begun: Vec<u8>) -> Lines {
        Lines { bytes, partial: begun, ..Lines::new() }
    }

    /// A line that has begun.
    pub(crate) fn begun(&self) -> &[u8] {
        &self.partial
    }

    /// One read of a non-blocking fd; whole lines are appended to `out` as far as the rate allows.
    pub fn read(&mut self, fd: BorrowedFd<'_>, now: u64, scratch: &mut Scratch, out: &mut Vec<String>) -> Turn {
        match rustix::io::read(fd, &mut *scratch.0) {
            Ok(0) => Turn::Closed,
            Ok(count) => {
                let passed = self.take(scratch.0.get(..count).unwrap_or_default(), now, out);
                if passed { Turn::More } else { Turn::Rest { until: now.saturating_add(REST) } }
            }
            Err(Errno::INTR) => Turn::More,
            Err(Errno::AGAIN) => Turn::Empty,
            Err(_) => Turn::Closed,
        }
    }

    /// Takes whole lines that came another way, within the same limits.
    pub(crate) fn hear(&mut self, text: &[u8], now: u64, out: &mut Vec<String>) {
        self.take(text, now, out);
        if !text.ends_with(b"\n") {
            self.take(b"\n", now, out);
        }
    }

    /// The unfinished last line, when no more will come.
    pub fn finish(&mut self, now: u64, out: &mut Vec<String>) {
        if !self.partial.is_empty() {
            self.refill(now);
            self.end_line(&[], out);
        }
    }

    /// All bytes ever read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The last lines, oldest first, those that the rate dropped included.
    pub fn last(&self) -> impl Iterator<Item = &str> {
        self.last.lines.iter().map(String::as_str)
    }

    /// How many lines the rate has dropped since this was asked last.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Takes a piece; false when the rate refused all of its lines.
    fn take(&mut self, piece: &[u8], now: u64, out: &mut Vec<String>) -> bool {
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        self.refill(now);
        let mut rest = piece;
        let mut passed = false;
        while let Some(end) = rest.iter().position(is_newline) {
            if self.tokens < SECOND {
                rest = self.skip(rest);
                break;
            }
            let (line, after) = rest.split_at(end);
            self.end_line(line, out);
            passed = true;
            rest = after.get(1..).unwrap_or_default();
        }
        let ends = rest.len() < piece.len();
        let room = LINE_MAX.saturating_sub(self.partial.len()).min(rest.len());
        let (kept, beyond) = rest.split_at(room);
        self.partial.extend_from_slice(kept);
        self.excess = self.excess.saturating_add(beyond.len() as u64);
        // A piece without any end of a line passes, unless it belongs to a line that is too long already.
        passed || (!ends && beyond.is_empty())
    }

    /// Drops all whole lines of `piece`, cheaply: they are counted, and only those kept for a report are looked at.
    fn skip<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let Some(end) = piece.iter().rposition(is_newline) else {
            return piece;
        };
        let (whole, after) = piece.split_at(end);
        let count = whole.iter().filter(|byte| is_newline(byte)).count() as u64 + 1;
        self.dropped = self.dropped.saturating_add(count);
        let newlines = whole.iter().enumerate().rev();
        let from =
            newlines.filter(|(_, byte)| is_newline(byte)).nth(LAST_LINES - 1).map_or(0, |(newline, _)| newline + 1);
        for (index, line) in whole.get(from..).unwrap_or_default().split(|&byte| byte == b'\n').enumerate() {
            // The first line of the piece may have begun earlier.
            let text = if from == 0 && index == 0 { self.complete(line) } else { escape(line, LINE_MAX) };
            self.last.push(text);
        }
        self.partial.clear();
        self.excess = 0;
        after.get(1..).unwrap_or_default()
    }

    fn end_line(&mut self, end: &[u8], out: &mut Vec<String>) {
        let text = self.complete(end);
        self.last.push(text.clone());
        if self.tokens >= SECOND {
            self.tokens -= SECOND;
            out.push(text);
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// The held beginning of a line, and its end.
    fn complete(&mut self, end: &[u8]) -> String {
        let room = LINE_MAX.saturating_sub(self.partial.len()).min(end.len());
        let (kept, beyond) = end.split_at(room);
        self.partial.extend_from_slice(kept);
        let excess = self.excess.saturating_add(beyond.len() as u64);
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        let text = escape_cut(line, LINE_MAX, excess);
        self.partial.clear();
        self.excess = 0;
        // A single long line must not keep its room for ever.
        if self.partial.capacity() > 512 {
            self.partial.shrink_to(0);
        }
        text
    }

    fn refill(&mut self, now: u64) {
        let passed = now.saturating_sub(self.refilled);
        self.refilled = self.refilled.max(now);
        self.tokens = self.tokens.saturating_add(passed.saturating_mul(RATE)).min(BURST * SECOND);
    }
}

fn is_newline(byte: &u8) -> bool {
    *byte == b'\n'
}

/// The newest lines within bounds.
struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
    bytes_max: usize,
    lines_max: usize,
    dropped: u64,
}

impl Tail {
    fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > self.lines_max || (self.bytes > self.bytes_max && self.lines.len() > 1) {
            if let Some(oldest) = self.lines.pop_front() {
                self.bytes -= oldest.len();
                self.dropped += 1;
            }
        }
    }
}

/// What a worker said before it was ready: the newest 4 KiB.
pub struct Held(Tail);

/// Lines that were held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLines {
    /// Oldest first.
    pub lines: Vec<String>,
    /// Older ones that had no room.
    pub dropped: u64,
}

impl Default for Held {
    fn default() -> Held {
        Held::new()
    }
}

impl Held {
    /// Nothing held.
    pub fn new() -> Held {
        let tail = Tail { lines: VecDeque::new(), bytes: 0, bytes_max: HELD_BYTES, lines_max: 256, dropped: 0 };
        Held(tail)
    }

    /// Holds a line.
    pub fn push(&mut self, line: String) {
        self.0.push(line);
    }

    /// Gives all lines away.
    pub fn take(&mut self) -> HeldLines {
        let held = std::mem::replace(&mut self.0, Held::new().0);
        HeldLines { lines: held.lines.into(), dropped: held.dropped }
    }
}

/// Text of a stranger for a log: control characters, what turns the direction of writing, separators of lines and what
/// is no UTF-8 are shown as escapes; tabs stay. At most `limit` bytes, and a note of how many bytes were cut.
pub fn escape(bytes: &[u8], limit: usize) -> String {
    escape_cut(bytes, limit, 0)
}

fn escape_cut(bytes: &[u8], limit: usize, excess: u64) -> String {
    let mut text = String::with_capacity(bytes.len().min(limit));
    let mut taken = 0;
    'pieces: for piece in bytes.utf8_chunks() {
        for character in piece.valid().chars() {
            let before = text.len();
            if is_plain(character) {
                text.push(character);
            } else {
                escape_character(&mut text, character);
            }
            if text.len() > limit {
                text.truncate(before);
                break 'pieces;
            }
            taken += character.len_utf8();
        }
        for byte in piece.invalid() {
            if text.len() + 4 > limit {
                break 'pieces;
            }
            escape_byte(&mut text, *byte);
            taken += 1;
        }
    }
    let cut = excess + (bytes.len() - taken) as u64;
    if cut > 0 {
        let _infallible = write!(text, " … ({cut} bytes cut)");
    }
    text
}

fn is_plain(character: char) -> bool {
    match character {
        '\t' => true,
        '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{feff}' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
        _ => !character.is_control(),
    }
}

fn escape_character(text: &mut String, character: char) {
    match character {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        _ if character.is_ascii() => escape_byte(text, character as u8),
        _ => {
            let _infallible = write!(text, "\\u{{{:x}}}", u32::from(character));
        }
    }
}

fn escape_byte(text: &mut String, byte: u8) {
    let _infallible = write!(text, "\\x{byte:02x}");
}

/// The last lines, as many as the status document carries. Long ones are cut, so that one alone is not all.
pub(crate) fn last_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut all: Vec<String> = lines.map(cut).collect();
    let mut bytes = 0;
    let kept = all
        .iter()
        .rev()
        .take(STDERR_LINES_MAX)
        .take_while(|line| {
            bytes += line.len();
            bytes <= STDERR_BYTES_MAX
        })
        .count();
    all.split_off(all.len() - kept)
}

fn cut(line: &str) -> String {
    if line.len() <= STDERR_LINE_MAX {
        return line.to_owned();
    }
    format!("{} …", &line[..line.floor_char_boundary(STDERR_LINE_MAX)])
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
