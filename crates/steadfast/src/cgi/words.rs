//! Where a script's stderr goes: line by line to the web server, which writes it beside the request, and to our own stderr,
//! which a supervisor writes into the pool's log. One of the two may be nobody: the web server's is where people look for
//! CGI errors, ours is the only one of a pool that speaks HTTP, or whose web server keeps no such log.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use steadfast_worker::Response;

/// So much of what a script says for one request is passed on; the rest is read, counted and forgotten.
const PASSED_MAX: usize = 64 * 1024;
/// A longer line becomes several.
const LINE_MAX: usize = 4000;
/// A pipe that is said to be writable takes this much without blocking (PIPE_BUF, pipe(7)).
const PIECE: usize = 4096;
/// So much of the last line stands beside a script's end.
const LAST_MAX: usize = 300;

/// What one script says while it answers one request.
#[derive(Debug, Default)]
pub(super) struct Words {
    line: Vec<u8>,
    last: String,
    passed: usize,
    dropped: usize,
}

impl Words {
    /// Passes on what has come.
    pub(super) fn take(&mut self, bytes: &[u8], response: Option<&mut Response<'_>>) {
        pass(&self.lines(bytes), response);
    }

    /// The lines that are complete now.
    fn lines(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() >= LINE_MAX {
                lines.extend(self.end_line());
            }
        }
        lines
    }

    /// There will be no more.
    pub(super) fn end(&mut self, response: Option<&mut Response<'_>>) {
        let mut lines = Vec::new();
        if !self.line.is_empty() {
            lines.extend(self.end_line());
        }
        if self.dropped > 0 {
            lines.push(format!("[{} more bytes of stderr for this request were dropped]", self.dropped));
        }
        pass(&lines, response);
    }

    /// The last line that was no empty one.
    pub(super) fn last(&self) -> &str {
        &self.last
    }

    fn end_line(&mut self) -> Option<String> {
        let length = self.line.len();
        let text = String::from_utf8_lossy(&self.line);
        // Whoever reads a log in a terminal is not to be written to by a script.
        let text: String = text.trim_end().chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect();
        self.line.clear();
        if !text.is_empty() {
            self.last = text.chars().take(LAST_MAX).collect();
        }
        if self.passed + length > PASSED_MAX {
            self.dropped += length;
            return None;
        }
        self.passed += length;
        Some(text)
    }
}

fn pass(lines: &[String], response: Option<&mut Response<'_>>) {
    if lines.is_empty() {
        return;
    }
    if let Some(response) = response {
        for line in lines {
            response.warn(line);
        }
    }
    let mut text = lines.join("\n");
    text.push('\n');
    write(text.as_bytes());
}

/// A line of our own for the log.
pub(super) fn log(message: &str) {
    write(format!("steadfast: {message}\n").as_bytes());
}

/// To our stderr. Where nobody reads it, it is lost: a full pipe must hold up no script.
fn write(bytes: &[u8]) {
    let stderr = std::io::stderr();
    for mut piece in bytes.chunks(PIECE) {
        while !piece.is_empty() {
            let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
            if !matches!(poll(&mut ready, Some(&Timespec::default())), Ok(1..)) {
                return;
            }
            match rustix::io::write(stderr.as_fd(), piece) {
                Ok(written) => piece = piece.get(written..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_cleaned_and_counted() {
        let mut words = Words::default();
        assert_eq!(words.lines(b"one\ntw"), ["one"]);
        assert_eq!(words.lines(b"o \x1b[2J\r\n\n"), ["two ?[2J", ""]);
        assert_eq!(words.last(), "two ?[2J");
        let long = words.lines(&[b'x'; LINE_MAX]);
        assert_eq!((long.len(), words.last().len(), words.line.len()), (1, LAST_MAX, 0));
        assert_eq!(words.lines(b"y\n".repeat(2 * PASSED_MAX).as_slice()).len(), (PASSED_MAX - words_before()) / 2);
        assert!(words.dropped > PASSED_MAX, "{words:?}");
        assert!(words.lines(b"the end\n").is_empty());
        assert_eq!(words.last(), "the end");
    }

    fn words_before() -> usize {
        b"one\ntwo \x1b[2J\r\n\n".len() + LINE_MAX
    }
}
