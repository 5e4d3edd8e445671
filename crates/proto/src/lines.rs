//! Cuts a stream of bytes into lines and never keeps more than its limit.

/// The longest line of a link or of a request on the control socket, without its newline.
pub const LINE_MAX: usize = 64 * 1024;
/// The longest answer on the control socket: a status of thousands of workers is one line.
pub const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// A buffer that has grown past this is given back when its line has been read: most streams are quiet.
const KEEP: usize = 4096;

/// A line passed the limit. It is told once, when the limit is passed; the rest of the line is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// The part of a line that has come so far.
#[derive(Debug)]
pub struct Lines {
    limit: usize,
    buffer: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes are added to the buffer.
    Reading,
    /// The buffer holds a line that was handed out; it is emptied at the next call.
    Delivered,
    /// Bytes are dropped up to the next newline.
    Skipping,
}

impl Lines {
    /// Lines of at most `limit` bytes, the newline not counted.
    pub const fn new(limit: usize) -> Lines {
        Lines { limit, buffer: Vec::new(), state: State::Reading }
    }

    /// Whether no line has begun.
    pub fn is_between(&self) -> bool {
        match self.state {
            State::Reading => self.buffer.is_empty(),
            State::Delivered => true,
            State::Skipping => false,
        }
    }

    /// Takes bytes from the front of `input` up to the end of one line and returns that line, without its newline.
    ///
    /// `None`: `input` is used up and the line is not complete. Call again, with the same slice, until `None`.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Result<&[u8], TooLong>> {
        if self.state == State::Delivered {
            self.empty();
        }
        loop {
            if input.is_empty() {
                return None;
            }
            let end = input.iter().position(|&byte| byte == b'\n');
            let (part, rest) = match end {
                Some(end) => (&input[..end], &input[end + 1..]),
                None => (*input, &[][..]),
            };
            if self.state == State::Skipping {
                *input = rest;
                if end.is_some() {
                    self.state = State::Reading;
                }
                continue;
            }
            if self.buffer.len() + part.len() > self.limit {
                // The newline is left to the skipping, also when it is already in sight.
                *input = &input[part.len()..];
                self.empty();
                self.state = State::Skipping;
                return Some(Err(TooLong));
            }
            self.append(part);
            *input = rest;
            end?;
            self.state = State::Delivered;
            return Some(Ok(&self.buffer));
        }
    }

    /// Whether bytes of a line without its end have come: at the stream's end they are lost.
    pub fn is_incomplete(&self) -> bool {
        match self.state {
            State::Reading => !self.buffer.is_empty(),
            State::Delivered => false,
            State::Skipping => true,
        }
    }

    /// Grows by doubling, as `Vec` does, but never past the limit.
    fn append(&mut self, part: &[u8]) {
        let needed = self.buffer.len() + part.len();
        if needed > self.buffer.capacity() {
            let target = needed.max(self.buffer.capacity() * 2).min(self.limit);
            self.buffer.reserve_exact(target - self.buffer.len());
        }
        self.buffer.extend_from_slice(part);
    }

    fn empty(&mut self) {
        self.state = State::Reading;
        if self.buffer.capacity() > KEEP {
            self.buffer = Vec::new();
        } else {
            self.buffer.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(lines: &mut Lines, mut input: &[u8], out: &mut Vec<Result<Vec<u8>, TooLong>>) {
        while let Some(line) = lines.next(&mut input) {
            out.push(line.map(<[u8]>::to_vec));
        }
        assert!(input.is_empty());
    }

    #[test]
    fn a_line_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
        let mut lines = Lines::new(4);
        let mut out = Vec::new();
        all(&mut lines, b"abcd\nabcde\nx\n", &mut out);
        assert_eq!(out, [Ok(b"abcd".to_vec()), Err(TooLong), Ok(b"x".to_vec())]);
    }

    #[test]
    fn an_endless_line_is_told_once_and_costs_nothing() {
        let mut lines = Lines::new(1000);
        let mut out = Vec::new();
        for _ in 0..10_000 {
            all(&mut lines, &[b'x'; 1024], &mut out);
            assert!(lines.buffer.capacity() <= 1000);
        }
        assert_eq!(out, [Err(TooLong)]);
        assert!(lines.is_incomplete());
        all(&mut lines, b"\nok\n", &mut out);
        assert_eq!(out[1], Ok(b"ok".to_vec()));
        assert!(!lines.is_incomplete());
    }

    #[test]
    fn memory_of_a_long_line_is_given_back() {
        let mut lines = Lines::new(LINE_MAX);
        let mut out = Vec::new();
        all(&mut lines, &[b'x'; 60_000], &mut out);
        all(&mut lines, b"\n", &mut out);
        all(&mut lines, b"y\n", &mut out);
        assert!(lines.buffer.capacity() <= KEEP);
    }

    proptest! {
        /// However the stream is cut, the lines are the same, and the buffer stays within its limit.
        #[test]
        fn cuts_do_not_matter(
            stream in proptest::collection::vec(prop_oneof![4 => Just(b'a'), 1 => Just(b'\n'), 1 => any::<u8>()], 0..300),
            cuts in proptest::collection::vec(1_usize..20, 1..300),
            limit in 1_usize..30,
        ) {
            let mut whole = Vec::new();
            all(&mut Lines::new(limit), &stream, &mut whole);
            let mut lines = Lines::new(limit);
            let mut parts = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (part, tail) = rest.split_at((*cut).min(rest.len()));
                all(&mut lines, part, &mut parts);
                prop_assert!(lines.buffer.capacity() <= limit);
                rest = tail;
            }
            prop_assert_eq!(whole, parts);
        }
    }
}
