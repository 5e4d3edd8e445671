//! Text in pieces to lines, with a limit to their length.

/// Of a longer line, the beginning counts.
const LINE_MAX: usize = 64 * 1024;

/// The beginning of a line whose end has not come.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
    /// Bytes since the last newline, those beyond the limit too.
    length: u64,
}

impl Lines {
    /// Takes a piece, and gives each line that ends in it.
    pub(crate) fn take(&mut self, piece: &[u8], mut each: impl FnMut(&[u8])) {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if self.partial.is_empty() && line.len() <= LINE_MAX {
                each(line);
            } else {
                self.keep(line);
                each(&self.partial);
            }
            self.partial.clear();
            self.length = 0;
        }
        self.keep(rest);
        self.length += rest.len() as u64;
    }

    /// How many bytes of a line without its end there are.
    pub(crate) fn pending(&self) -> u64 {
        self.length
    }

    /// Nothing more comes: the line without an end, if there is one.
    pub(crate) fn end(&mut self, each: impl FnOnce(&[u8])) {
        if !self.partial.is_empty() {
            each(&self.partial);
        }
        self.partial.clear();
        self.length = 0;
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = LINE_MAX.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_wherever_they_are_cut_and_never_too_long() {
        let text = b"one\n\ntwo three\nrest";
        for at in 0..=text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in [&text[..at], &text[at..]] {
                lines.take(piece, |line| found.push(line.to_vec()));
            }
            assert_eq!(found, [b"one".to_vec(), b"".to_vec(), b"two three".to_vec()], "{at}");
            assert_eq!(lines.pending(), 4);
            lines.end(|line| found.push(line.to_vec()));
            assert_eq!((found.len(), lines.pending()), (4, 0));
        }
        let mut lines = Lines::default();
        let mut longest = 0;
        for _ in 0..10 {
            lines.take(&[b'x'; 50_000], |_| ());
        }
        assert_eq!(lines.pending(), 500_000);
        lines.take(b"\n", |line| longest = line.len());
        assert_eq!(longest, LINE_MAX);
    }
}
