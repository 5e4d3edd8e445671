//! Heads of CGI answers (RFC 3875, section 6), as workers write them: bounded, and strict where an HTTP client would
//! have to believe them.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// A head is no longer.
pub(crate) const HEAD_MAX: usize = 64 * 1024;
/// An answer has no more headers.
const HEADERS_MAX: usize = 256;

/// Headers for the web server in front, never for strangers: whoever hands them on lets a worker's file names out, and
/// whoever forgets them serves the wrong thing (nginx, lighttpd, mod_xsendfile, h2o).
const INTERNAL: [&str; 3] = ["x-sendfile", "x-sendfile2", "x-reproxy-url"];
const INTERNAL_PREFIXES: [&str; 2] = ["x-accel-", "x-lighttpd-"];
/// What belongs to one connection and not to the answer (RFC 9110, section 7.6.1); HTTP's own frames are ours to make.
const HOP_BY_HOP: [&str; 6] = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"];

/// Where a head ends, found in pieces without looking at any byte twice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeadScan {
    seen: usize,
    /// The current line has a byte that is not CR.
    has_text: bool,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No end yet.
    More,
    /// The head, its empty line included, is so long.
    End(usize),
    /// Longer than [`HEAD_MAX`].
    TooLong,
}

impl HeadScan {
    /// Nothing has been looked at.
    pub(crate) fn new() -> HeadScan {
        HeadScan::default()
    }

    /// Looks on; `so_far` is everything from the beginning. Lines end by LF or CRLF.
    pub(crate) fn find(&mut self, so_far: &[u8]) -> Found {
        for (at, byte) in so_far.iter().enumerate().skip(self.seen) {
            match byte {
                b'\n' if !self.has_text => return if at < HEAD_MAX { Found::End(at + 1) } else { Found::TooLong },
                b'\n' => self.has_text = false,
                b'\r' => {}
                _ => self.has_text = true,
            }
        }
        self.seen = so_far.len();
        if self.seen > HEAD_MAX { Found::TooLong } else { Found::More }
    }
}

/// An answer's head as HTTP knows it.
#[derive(Debug)]
pub(crate) struct Head {
    /// The status.
    pub(crate) status: StatusCode,
    /// The headers that go to the client.
    pub(crate) headers: HeaderMap,
    /// How long the body is, if the worker said so.
    pub(crate) content_length: Option<u64>,
}

/// Lines without their ends, the empty one at the end left out.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
}

/// The status that a head tells: of `Status`, else 302 where there is a `Location`, else 200. `None`: `Status` is none.
pub(crate) fn status_of(head: &[u8]) -> Option<u16> {
    let mut status = 200;
    for line in lines(head) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"Status") {
            return code(value);
        }
        if name.eq_ignore_ascii_case(b"Location") {
            status = 302;
        }
    }
    Some(status)
}

/// `404 Not Found` or `404`.
fn code(value: &[u8]) -> Option<u16> {
    let digits = value.get(..3)?;
    if !digits.iter().all(u8::is_ascii_digit) || value.get(3).is_some_and(|next| *next != b' ') {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|status| (100..=599).contains(status))
}

/// The head for an HTTP client.
///
/// # Errors
/// Why it is none, in words: nothing of it may reach the client then.
pub(crate) fn parse(head: &[u8]) -> Result<Head, String> {
    let mut headers = HeaderMap::new();
    let (mut status, mut has_location, mut content_length, mut count) = (None, false, None, 0);
    for line in lines(head) {
        count += 1;
        if count > HEADERS_MAX {
            return Err(format!("its answer has more than {HEADERS_MAX} headers"));
        }
        let (name, value) = header(line)?;
        match name.as_str() {
            "status" => {
                let code = code(value.as_bytes()).filter(|code| *code >= 200);
                let code = code.ok_or_else(|| format!("its Status is none: {value:?}"))?;
                if status.is_some_and(|before| before != code) {
                    return Err("its answer has two Status headers".to_owned());
                }
                status = Some(code);
            }
            "transfer-encoding" => return Err("its answer has a Transfer-Encoding, which CGI does not know".to_owned()),
            "content-length" => {
                let length =
                    length(value.as_bytes()).ok_or_else(|| format!("its Content-Length is none: {value:?}"))?;
                if content_length.is_some_and(|before| before != length) {
                    return Err("its answer has two Content-Length headers that differ".to_owned());
                }
                content_length = Some(length);
            }
            internal if INTERNAL.contains(&internal) || INTERNAL_PREFIXES.iter().any(|p| internal.starts_with(p)) => {}
            hop if HOP_BY_HOP.contains(&hop) => {}
            "location" => {
                has_location = true;
                headers.append(name, value);
            }
            _ => {
                headers.append(name, value);
            }
        }
    }
    if count == 0 {
        return Err("its answer has no header at all".to_owned());
    }
    let status = status.unwrap_or(if has_location { 302 } else { 200 });
    let status = StatusCode::from_u16(status).map_err(|error| error.to_string())?;
    Ok(Head { status, headers, content_length })
}

fn header(line: &[u8]) -> Result<(HeaderName, HeaderValue), String> {
    let shown = || format!("{:?}", String::from_utf8_lossy(&line[..line.len().min(80)]));
    if line.starts_with(b"HTTP/") {
        return Err(format!("its answer begins as HTTP does ({}), which FastCGI does not know", shown()));
    }
    if line.first().is_some_and(|first| matches!(first, b' ' | b'\t')) {
        return Err(format!("its answer has a folded header: {}", shown()));
    }
    let colon =
        line.iter().position(|byte| *byte == b':').ok_or_else(|| format!("a line without a colon: {}", shown()))?;
    let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| format!("no name of a header: {}", shown()))?;
    // HeaderValue refuses control characters, CR, LF and NUL among them.
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii())
        .map_err(|_| format!("a control character in a header: {}", shown()))?;
    Ok((name, value))
}

fn length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_its_empty_line_however_it_is_cut() {
        for text in ["A: b\r\n\r\nbody", "A: b\n\nbody", "A: b\r\nC: d\n\r\nbody", "\nbody", "\r\nbody"] {
            let text = text.as_bytes();
            let end = text.len() - 4;
            assert_eq!(HeadScan::new().find(text), Found::End(end));
            for cut in 0..end {
                let mut scan = HeadScan::new();
                assert_eq!(scan.find(&text[..cut]), Found::More);
                assert_eq!(scan.find(text), Found::End(end), "cut at {cut}");
            }
        }
        assert_eq!(HeadScan::new().find(&vec![b'x'; HEAD_MAX + 1]), Found::TooLong);
        let mut late = vec![b'x'; HEAD_MAX];
        late.extend_from_slice(b"\n\n");
        assert_eq!(HeadScan::new().find(&late), Found::TooLong);
    }

    #[test]
    fn the_status_is_told_or_follows() {
        for (head, status) in [
            ("Status: 404 Not Found\r\n\r\n", Some(404)),
            ("status:503\n\n", Some(503)),
            ("Location: /x\r\n\r\n", Some(302)),
            ("Location: /x\r\nStatus: 301 Moved\r\n\r\n", Some(301)),
            ("Content-Type: text/plain\r\n\r\n", Some(200)),
            ("Status: nonsense\r\n\r\n", None),
            ("Status: 2000\r\n\r\n", None),
            ("Status: 99 Low\r\n\r\n", None),
        ] {
            assert_eq!(status_of(head.as_bytes()), status, "{head:?}");
        }
    }

    #[test]
    fn strangers_get_what_is_meant_for_them() {
        let head = parse(
            b"Status: 201 Created\r\nContent-Type: text/plain\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 5\r\n\
              X-Accel-Redirect: /secret\r\nX-Sendfile: /etc/passwd\r\nConnection: close\r\n\r\n",
        )
        .expect("a head");
        assert_eq!((head.status.as_u16(), head.content_length), (201, Some(5)));
        let names: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "set-cookie"]);
        assert_eq!(head.headers.get_all("set-cookie").iter().count(), 2);
    }

    #[test]
    fn what_could_split_or_smuggle_is_refused() {
        for bad in [
            &b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"[..],
            b"no colon\r\n\r\n",
            b"A: b\r\n folded\r\n\r\n",
            b"A: b\rC: d\r\n\r\n",
            b"A: b\0\r\n\r\n",
            b"A b: c\r\n\r\n",
            b": c\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n",
            b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
            b"Content-Length: 5, 5\r\n\r\n",
            b"Content-Length: +5\r\n\r\n",
            b"Content-Length: -1\r\n\r\n",
            b"Status: 100 Continue\r\n\r\n",
            b"Status: 700\r\n\r\n",
            b"Status: 200\r\nStatus: 404\r\n\r\n",
            b"\r\n",
        ] {
            assert!(parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        let many = "A: b\r\n".repeat(HEADERS_MAX + 1) + "\r\n";
        assert!(parse(many.as_bytes()).is_err());
    }
}
