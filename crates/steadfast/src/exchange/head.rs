//! An answer's head: collects its lines, and reads what a CGI program says in them (RFC 3875 §6).

use super::broken::{Broken, HEAD_MAX};

/// How much of a line that is no header is shown.
const SHOWN_MAX: usize = 80;

/// What the line at the end of the collected bytes has in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Nothing,
    /// A CR and nothing else.
    Cr,
    Text,
}

/// Collects a head, however it is cut, up to the empty line that ends it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    line: Line,
    is_complete: bool,
}

impl Head {
    /// Forgets everything but the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.line = Line::Nothing;
        self.is_complete = false;
    }

    /// The lines with their ends, the empty one included.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Takes what belongs to the head. `Some`: it is complete, and these bytes follow it.
    ///
    /// # Errors
    /// It is longer than [`HEAD_MAX`].
    pub(crate) fn feed<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Broken> {
        let mut taken = 0;
        while let Some(length) = bytes[taken..].iter().position(|byte| *byte == b'\n') {
            self.look(&bytes[taken..taken + length]);
            taken += length + 1;
            let is_empty = self.line != Line::Text;
            self.line = Line::Nothing;
            if is_empty {
                self.keep(&bytes[..taken])?;
                self.is_complete = true;
                return Ok(Some(&bytes[taken..]));
            }
        }
        self.look(&bytes[taken..]);
        self.keep(bytes)?;
        Ok(None)
    }

    fn look(&mut self, piece: &[u8]) {
        self.line = match (self.line, piece) {
            (line, []) => line,
            (Line::Nothing, [b'\r']) => Line::Cr,
            _ => Line::Text,
        };
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if self.bytes.len() + bytes.len() > HEAD_MAX {
            return Err(Broken::HeadTooLong);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// The lines of a head without their ends, up to the empty one.
pub(crate) fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).take_while(|l| !l.is_empty())
}

/// A header's name, and its value without the blanks around it. `None`: the line is no header.
pub(crate) fn header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return None;
    }
    Some((name, value.trim_ascii()))
}

/// What names and methods are made of (RFC 9110 §5.6.2).
pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// The value of the first header of this name.
pub(crate) fn find<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    lines(head).filter_map(header).find(|(this, _)| this.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
}

/// The status of a CGI answer: what `Status` says, else 302 where a `Location` stands, else 200.
///
/// # Errors
/// A line is no header, or `Status` no status.
pub(crate) fn cgi_status(head: &[u8]) -> Result<u16, Broken> {
    let mut status = None;
    let mut has_location = false;
    for line in lines(head) {
        let (name, value) = header(line).ok_or_else(|| bad(line))?;
        if name.eq_ignore_ascii_case(b"Status") {
            status = Some(code(value).ok_or_else(|| bad(line))?);
        }
        has_location |= name.eq_ignore_ascii_case(b"Location");
    }
    Ok(status.unwrap_or(if has_location { 302 } else { 200 }))
}

fn bad(line: &[u8]) -> Broken {
    Broken::BadHead(String::from_utf8_lossy(&line[..line.len().min(SHOWN_MAX)]).into_owned())
}

/// `404`, `404 Not Found`.
fn code(value: &[u8]) -> Option<u16> {
    let (digits, rest) = value.split_at_checked(3)?;
    if !matches!(rest.first(), None | Some(b' ' | b'\t')) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    (200..=599).contains(&code).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_found_however_it_is_cut() {
        for text in [
            "A: 1\r\nB: 2\r\n\r\nbody\r\n\r\n",
            "A: 1\nB: 2\n\nbody\n\n",
            "A: 1\r\nB: 2\n\r\nbody",
            "A: 1\n\r\nbody",
            "\r\nbody",
            "\nbody",
        ] {
            let body = text.find("body").expect("it has one");
            for cut in 0..=text.len() {
                let mut head = Head::default();
                let (first, second) = text.as_bytes().split_at(cut);
                let rest = match head.feed(first).expect("short") {
                    Some(rest) => [rest, second].concat(),
                    None => head.feed(second).expect("short").expect("it ends").to_vec(),
                };
                assert_eq!(rest, &text.as_bytes()[body..], "{text:?} cut at {cut}");
                assert_eq!(head.bytes(), &text.as_bytes()[..body]);
                assert!(head.is_complete());
            }
        }
    }

    #[test]
    fn a_cr_within_a_line_ends_nothing() {
        for text in ["A: 1\r\n\r\r\nB", "A: 1\n \nB", "A: 1\r\rB"] {
            let mut head = Head::default();
            assert_eq!(head.feed(text.as_bytes()), Ok(None), "{text:?}");
        }
    }

    #[test]
    fn a_head_has_an_end_or_is_refused() {
        let mut head = Head::default();
        for _ in 0..HEAD_MAX / 1024 {
            assert_eq!(head.feed(&[b'a'; 1024]), Ok(None));
        }
        assert_eq!(head.feed(b"a"), Err(Broken::HeadTooLong));
        head.clear();
        assert_eq!(head.feed(b"\n"), Ok(Some(&b""[..])));
    }

    #[test]
    fn the_status_is_said_or_follows_from_location() {
        for (head, status) in [
            ("Content-Type: a\r\n\r\n", 200),
            ("\r\n", 200),
            ("Status: 404 Not Found\n\n", 404),
            ("status:503\n\n", 503),
            ("Location: /x\n\n", 302),
            ("Location: /x\nStatus: 201\n\n", 201),
        ] {
            assert_eq!(cgi_status(head.as_bytes()), Ok(status), "{head:?}");
        }
    }

    #[test]
    fn what_is_no_head_is_told() {
        for head in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "Status: 99\n\n",
            "Status: 1000\n\n",
            "Status: 100\n\n",
            "Status: 2x0\n\n",
            "Status:\n\n",
            ": x\n\n",
            " folded: x\n\n",
            "PHP Warning: x\n\n",
            "<html>\n\n",
        ] {
            assert!(matches!(cgi_status(head.as_bytes()), Err(Broken::BadHead(_))), "{head:?}");
        }
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let head = b"HTTP/1.1 503 x\r\nX-Steadfast:  queue-full \r\nX-Steadfast: b\r\n\r\n";
        assert_eq!(find(head, "x-steadfast"), Some(&b"queue-full"[..]));
        assert_eq!(find(head, "x-other"), None);
    }
}
