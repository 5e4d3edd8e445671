//! Decides what the head of a worker's answer means (RFC 3875, section 6), and whether it may be shown to strangers.
//!
//! Two readers. [`status_of`] is for what a web server reads after us: it only accounts. [`parse`] is for HTTP clients,
//! to whom we are the web server: it is strict, because every leniency here is a response that somebody can split.

use std::fmt;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, LOCATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};

/// The head of an answer is no longer.
pub(crate) const HEAD_MAX: usize = 64 * 1024;
/// So many headers an answer may have.
const HEADERS_MAX: usize = 512;
/// So many bytes of a bad line are shown.
const SHOWN_MAX: usize = 80;

/// Looks for the end of a head that comes in pieces, and looks at no byte twice.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadScan {
    /// So many bytes have been looked at.
    seen: usize,
    /// Where the line begins that has not ended.
    line: usize,
}

/// How far a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It goes on.
    More,
    /// It has so many bytes, with the empty line that ends it; what follows is the body.
    End(usize),
    /// It is longer than [`HEAD_MAX`].
    TooLong,
}

impl HeadScan {
    /// Nothing has been looked at.
    pub(crate) fn new() -> HeadScan {
        HeadScan::default()
    }

    /// Looks at what is new in `so_far`: everything that has come since the beginning of the answer. Lines end with LF
    /// or CRLF, also mixed.
    pub(crate) fn find(&mut self, so_far: &[u8]) -> Found {
        while let Some(at) = so_far.get(self.seen..).and_then(|new| new.iter().position(|byte| *byte == b'\n')) {
            let end = self.seen + at;
            let line = &so_far[self.line..end];
            self.seen = end + 1;
            self.line = end + 1;
            if self.seen > HEAD_MAX {
                return Found::TooLong;
            }
            if line.is_empty() || line == b"\r" {
                return Found::End(self.seen);
            }
        }
        self.seen = so_far.len();
        if self.seen > HEAD_MAX { Found::TooLong } else { Found::More }
    }
}

/// The head of an answer, fit for strangers: no header in it is about a connection, or meant for a web server.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// 200 to 599.
    pub(crate) status: u16,
    /// The worker's own words for it.
    pub(crate) reason: Option<Bytes>,
    /// Without `Status` and `Content-Length`.
    pub(crate) headers: HeaderMap,
    /// The worker's promise about its body.
    pub(crate) content_length: Option<u64>,
}

/// Why the head of an answer makes no sense, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadHead {
    flaw: Flaw,
    /// The line, for people: no control characters, not long.
    line: Box<str>,
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Not one header.
    Empty,
    /// More than [`HEADERS_MAX`] headers.
    TooMany,
    /// A line without a colon.
    NoColon,
    /// A status line of HTTP; FastCGI knows no "non-parsed headers".
    StatusLine,
    /// A line that begins with a space: the header before it is folded, which RFC 9112 forbids.
    Folded,
    /// A name that is none.
    Name,
    /// A CR, a NUL or another control character in a value.
    Value,
    /// A `Status` that is not three digits from 200 to 599, or a second one.
    Status,
    /// A `Content-Length` that is no number, or a second one that differs.
    Length,
    /// How a body is carried is not a worker's to choose.
    TransferEncoding,
}

impl Flaw {
    fn at(self, line: &[u8]) -> BadHead {
        let line = line[..line.len().min(SHOWN_MAX)].escape_ascii().to_string();
        BadHead { flaw: self, line: line.into() }
    }
}

impl fmt::Display for BadHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.flaw {
            Flaw::Empty => return f.write_str("its answer has no header"),
            Flaw::TooMany => return write!(f, "its answer has more than {HEADERS_MAX} headers"),
            Flaw::NoColon => "a header line of its answer has no colon",
            Flaw::StatusLine => "its answer begins as HTTP does, where a `Status:` header is meant",
            Flaw::Folded => "a header line of its answer begins with a space",
            Flaw::Name => "the name of a header of its answer has a character that no name may have",
            Flaw::Value => "a header of its answer has a control character in it",
            Flaw::Status => "the `Status:` of its answer is not one of 200 to 599, or there are two",
            Flaw::Length => "the `Content-Length:` of its answer is no number, or there are two that differ",
            Flaw::TransferEncoding => "its answer has a `Transfer-Encoding:`, which is not a worker's to choose",
        })?;
        write!(f, ": \"{}\"", self.line)
    }
}

impl std::error::Error for BadHead {}

/// The status that a web server will see in this head. `None`: it is anybody's guess.
pub(crate) fn status_of(head: &[u8]) -> Option<u16> {
    if head.starts_with(b"HTTP/") {
        return None;
    }
    let mut redirects = false;
    for line in lines(head) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"status") {
            return status(value.trim_ascii()).map(|(status, _)| status);
        }
        redirects |= name.eq_ignore_ascii_case(b"location");
    }
    Some(if redirects { 302 } else { 200 })
}

/// What strangers may see of this head, up to and with its empty line.
///
/// # Errors
/// When anything in it makes no sense: nothing is guessed, and nothing is mended.
pub(crate) fn parse(head: &[u8]) -> Result<Head, BadHead> {
    if head.starts_with(b"HTTP/") {
        return Err(lines(head).next().map_or(Flaw::Empty.at(b""), |line| Flaw::StatusLine.at(line)));
    }
    let mut said: Option<(u16, Option<Bytes>)> = None;
    let mut content_length = None;
    let mut headers = HeaderMap::new();
    let mut count = 0;
    for line in lines(head) {
        count += 1;
        if count > HEADERS_MAX {
            return Err(Flaw::TooMany.at(line));
        }
        let (name, value) = header(line)?;
        if name.as_str() == "status" {
            let new = status(value.as_bytes()).ok_or_else(|| Flaw::Status.at(line))?;
            if said.replace(new).is_some() {
                return Err(Flaw::Status.at(line));
            }
        } else if name == http::header::CONTENT_LENGTH {
            let new = number(value.as_bytes()).ok_or_else(|| Flaw::Length.at(line))?;
            if content_length.replace(new).is_some_and(|before| before != new) {
                return Err(Flaw::Length.at(line));
            }
        } else if name == TRANSFER_ENCODING {
            return Err(Flaw::TransferEncoding.at(line));
        } else if !is_internal(&name) {
            headers.append(name, value);
        }
    }
    if count == 0 {
        return Err(Flaw::Empty.at(head));
    }
    let otherwise = if headers.contains_key(LOCATION) { 302 } else { 200 };
    let (status, reason) = said.unwrap_or((otherwise, None));
    Ok(Head { status, reason, headers, content_length })
}

/// What a web server gets of an answer that begins as HTTP does (`HTTP/1.1 404 Not Found`): a `Status:` in that place.
/// FastCGI knows no such line, and web servers do with it what they like (research/fastcgi.md, A.3). The beginning, and
/// the rest.
pub(crate) fn translated(bytes: &[u8]) -> (&'static [u8], &[u8]) {
    let space = if bytes.starts_with(b"HTTP/") { bytes.iter().position(|byte| *byte == b' ') } else { None };
    match space {
        Some(space) if !bytes[..space].contains(&b'\n') => (b"Status:", &bytes[space..]),
        _ => (b"", bytes),
    }
}

fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
}

fn header(line: &[u8]) -> Result<(HeaderName, HeaderValue), BadHead> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(Flaw::Folded.at(line));
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or_else(|| Flaw::NoColon.at(line))?;
    let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| Flaw::Name.at(line))?;
    // Only spaces and tabs are optional whitespace: a CR that stands alone is caught by the value's own check.
    let mut value = &line[colon + 1..];
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    let value = HeaderValue::from_bytes(value).map_err(|_| Flaw::Value.at(line))?;
    Ok((name, value))
}

/// Three digits, and perhaps words.
fn status(value: &[u8]) -> Option<(u16, Option<Bytes>)> {
    let (digits, words) = value.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) || !(words.is_empty() || words.starts_with(b" ")) {
        return None;
    }
    let status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    let words = words.trim_ascii();
    let words = (!words.is_empty()).then(|| Bytes::copy_from_slice(words));
    (200..=599).contains(&status).then_some((status, words))
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// About a connection (RFC 9110, section 7.6.1), an order to a web server (research: nginx, lighttpd, Apache, h2o), or
/// ours to say.
fn is_internal(name: &HeaderName) -> bool {
    let text = name.as_str();
    matches!(*name, CONNECTION | TE | TRAILER | UPGRADE)
        || matches!(text, "keep-alive" | "x-reproxy-url" | "x-steadfast" | "x-request-id")
        || ["proxy-", "x-accel-", "x-sendfile", "x-lighttpd-"].iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(head: &[u8]) -> Flaw {
        parse(head).expect_err("it makes no sense").flaw
    }

    fn names(head: &Head) -> Vec<&str> {
        head.headers.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn the_end_of_a_head_is_found_at_every_split() {
        for head in ["A: b\r\n\r\n", "A: b\n\n", "A: b\r\n\n", "A: b\n\r\n", "\r\n", "\n", "A: b\nC: d\r\n\r\n"] {
            let whole = format!("{head}body\n\n");
            for step in 1..whole.len() {
                let mut scan = HeadScan::new();
                let ends = (1..).map(|n| (n * step).min(whole.len()));
                let found = ends.map(|end| scan.find(&whole.as_bytes()[..end])).find(|found| *found != Found::More);
                assert_eq!(found, Some(Found::End(head.len())), "{head:?} by {step}");
            }
        }
    }

    #[test]
    fn a_lone_cr_ends_no_head() {
        assert_eq!(HeadScan::new().find(b"A: b\r\r\n\r"), Found::More);
        assert_eq!(HeadScan::new().find(b"A: b\n \r\n"), Found::More);
    }

    #[test]
    fn a_head_that_never_ends_is_too_long() {
        let mut scan = HeadScan::new();
        let endless = "X: 1\r\n".repeat(HEAD_MAX / 6 + 1);
        assert_eq!(scan.find(&endless.as_bytes()[..100]), Found::More);
        assert_eq!(scan.find(endless.as_bytes()), Found::TooLong);
        assert_eq!(HeadScan::new().find(&vec![b'x'; HEAD_MAX]), Found::More);
        assert_eq!(HeadScan::new().find(&vec![b'x'; HEAD_MAX + 1]), Found::TooLong);
    }

    #[test]
    fn status_or_location_or_200() {
        for (head, status) in [
            ("Status: 404 Not Found\r\nLocation: /x\r\n\r\n", 404),
            ("status:200\n\n", 200),
            ("Location: http://a/\r\n\r\n", 302),
            ("Location: /local\r\n\r\n", 302),
            ("Content-Type: text/plain\n\n", 200),
            ("X: y\nStatus: 599\n\n", 599),
        ] {
            assert_eq!(status_of(head.as_bytes()), Some(status), "{head:?}");
            assert_eq!(parse(head.as_bytes()).expect("it makes sense").status, status, "{head:?}");
        }
        let words = parse(b"Status: 404 Gone  fishing \n\n").expect("it makes sense").reason;
        assert_eq!(words.as_deref(), Some(&b"Gone  fishing"[..]));
    }

    #[test]
    fn a_status_out_of_range_is_refused() {
        for bad in
            ["", "1", "99", "101", "100 Continue", "199", "600", "999", "2000", "20x", "+20", "-20", "200x", "OK"]
        {
            let head = format!("Status: {bad}\r\n\r\n");
            assert_eq!(refused(head.as_bytes()), Flaw::Status, "{bad}");
            assert_eq!(status_of(head.as_bytes()), None, "{bad}");
        }
        assert_eq!(refused(b"Status: 200\nStatus: 200\n\n"), Flaw::Status);
    }

    #[test]
    fn a_status_line_of_http_is_refused() {
        assert_eq!(refused(b"HTTP/1.1 203 Fine\r\nA: b\r\n\r\n"), Flaw::StatusLine);
        assert_eq!(status_of(b"HTTP/1.1 203 Fine\r\nA: b\r\n\r\n"), None);
    }

    #[test]
    fn what_is_told_of_a_bad_line_hurts_no_log() {
        let why = parse(format!("Content-Type: a\n\x1b[2J<b>\0{}\n\n", "x".repeat(9000)).as_bytes());
        let why = why.expect_err("it makes no sense").to_string();
        assert!(why.starts_with("a header line of its answer has no colon: \"\\x1b[2J<b>\\x00xxx"), "{why}");
        assert!(why.len() < 500);
    }

    #[test]
    fn a_header_line_without_a_colon_is_refused() {
        assert_eq!(refused(b"Content-Type: a\r\nraw bytes\r\n\r\n"), Flaw::NoColon);
        assert_eq!(refused(b"<html>\n\n"), Flaw::NoColon);
    }

    #[test]
    fn a_folded_header_is_refused() {
        assert_eq!(refused(b"A: b\r\n c\r\n\r\n"), Flaw::Folded);
        assert_eq!(refused(b" A: b\n\n"), Flaw::Folded);
        assert_eq!(refused(b"A: b\n\tC: d\n\n"), Flaw::Folded);
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        for bad in ["", "A B", "A ", "A\t", "A\0", "\u{e4}", "A(", "A\"", "A/B", "A\r"] {
            assert_eq!(refused(format!("{bad}: x\r\n\r\n").as_bytes()), Flaw::Name, "{bad:?}");
        }
    }

    #[test]
    fn a_value_with_cr_nul_or_a_control_character_is_refused() {
        for bad in ["a\rSet-Cookie: evil", "a\0b", "\r", "a\r", "a\x1b[2J", "\x7f", "\x0b"] {
            assert_eq!(refused(format!("Location: {bad}\r\n\r\n").as_bytes()), Flaw::Value, "{bad:?}");
        }
        assert!(parse(b"A: caf\xc3\xa9 \xff\tx\n\n").is_ok(), "bytes beyond ASCII are a worker's own");
    }

    #[test]
    fn response_splitting_by_crlf_is_two_headers_and_never_two_answers() {
        assert_eq!(refused(b"Location: /\r\nHTTP/1.1 200 OK\r\n\r\n"), Flaw::NoColon);
    }

    #[test]
    fn two_lengths_that_differ_are_refused_and_equal_ones_are_one() {
        assert_eq!(refused(b"Content-Length: 1\nContent-Length: 2\n\n"), Flaw::Length);
        let head = parse(b"Content-Length: 7\ncontent-length: 7\n\n").expect("they agree");
        assert_eq!((head.content_length, head.headers.len()), (Some(7), 0));
        for bad in ["", "-1", "+1", "1, 1", "0x1", "1 1", "99999999999999999999", "1a"] {
            assert_eq!(refused(format!("Content-Length: {bad}\n\n").as_bytes()), Flaw::Length, "{bad:?}");
        }
    }

    #[test]
    fn transfer_encoding_of_a_worker_is_refused() {
        assert_eq!(refused(b"Transfer-Encoding: chunked\n\n"), Flaw::TransferEncoding);
        assert_eq!(refused(b"transfer-encoding:\n\n"), Flaw::TransferEncoding);
    }

    #[test]
    fn headers_for_connections_and_web_servers_do_not_reach_strangers() {
        let internal = "Connection: close\nKeep-Alive: 1\nProxy-Connection: x\nProxy-Authenticate: x\nTE: x\nTrailer: x\n\
            Upgrade: h2c\nX-Accel-Redirect: /secret\nX-Accel-Expires: 1\nX-Sendfile: /etc/passwd\nX-Sendfile2: /a 0-1\n\
            X-LIGHTTPD-send-file: /a\nX-Reproxy-URL: http://a/\nX-Steadfast: queue-full\nContent-Type: a\n\n";
        let head = parse(internal.as_bytes()).expect("it makes sense");
        assert_eq!(names(&head), ["content-type"]);
    }

    #[test]
    fn nothing_is_added_that_the_worker_did_not_say() {
        let head = parse(b"Set-Cookie: a=1\nSet-Cookie: b=2\n\n").expect("it makes sense");
        assert_eq!(head.headers.get_all("set-cookie").iter().count(), 2);
        assert!(!head.headers.contains_key("content-type"), "no type is sniffed");
        assert_eq!(head.content_length, None);
    }

    #[test]
    fn a_head_without_a_header_is_refused() {
        assert_eq!(refused(b"\r\n"), Flaw::Empty);
        assert_eq!(refused(b""), Flaw::Empty);
    }

    #[test]
    fn too_many_headers_are_refused() {
        assert!(parse(format!("{}\n", "A:b\n".repeat(HEADERS_MAX)).as_bytes()).is_ok());
        assert_eq!(refused(format!("{}\n", "A:b\n".repeat(HEADERS_MAX + 1)).as_bytes()), Flaw::TooMany);
    }
}
