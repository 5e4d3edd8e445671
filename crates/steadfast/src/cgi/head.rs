//! The head of a CGI answer (RFC 3875 §6): found, checked, and read into a status and fields.

use std::ops::Range;

/// A longer head is no head: some script has forgotten to say where it ends.
pub(super) const HEAD_MAX: usize = 64 * 1024;

/// What a head says. Fields are ranges of the bytes that it was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// As said; else 302 where there is a Location. `None` is 200.
    pub(super) status: Option<u16>,
    /// What follows the status.
    pub(super) reason: String,
    pub(super) fields: Vec<(Range<usize>, Range<usize>)>,
    /// How many bytes it takes, its end included.
    pub(super) length: usize,
}

/// Looks for a head at the beginning of `bytes`; `None` when more is needed.
///
/// # Errors
/// Why it is none, after "its answer".
pub(super) fn read(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut head = Head::default();
    let mut has_location = false;
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            if bytes.len() > HEAD_MAX {
                return Err(format!("has a head of more than {HEAD_MAX} bytes"));
            }
            return Ok(None);
        };
        let line = rest.get(..length).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let start = at;
        at += length + 1;
        if at > HEAD_MAX {
            return Err(format!("has a head of more than {HEAD_MAX} bytes"));
        }
        if line.is_empty() {
            break;
        }
        if start == 0 && line.starts_with(b"HTTP/") {
            return Err(format!(
                "begins with {}: it speaks to the client itself (nph), which no FastCGI program can",
                shown(line)
            ));
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Err(format!("has a line without a colon in its head: {}", shown(line)));
        };
        let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(format!("has a header field whose name is none: {}", shown(line)));
        }
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let before = value.iter().take_while(|byte| blank(byte)).count();
        let trimmed = value.get(before..).unwrap_or_default();
        let trimmed_length = trimmed.iter().rposition(|byte| !blank(byte)).map_or(0, |last| last + 1);
        let trimmed = trimmed.get(..trimmed_length).unwrap_or_default();
        if trimmed.iter().any(|byte| matches!(byte, b'\r' | 0)) {
            return Err(format!("has a CR or NUL inside a header field: {}", shown(line)));
        }
        if name.eq_ignore_ascii_case(b"status") {
            let status = status(trimmed).ok_or_else(|| format!("has a Status that is none: {}", shown(line)))?;
            if head.status.replace(status).is_some() {
                return Err("has two Status lines".to_owned());
            }
            let reason = String::from_utf8_lossy(trimmed.get(4..).unwrap_or_default()).into_owned();
            head.reason = reason.trim().replace(|c: char| c.is_control(), "?");
            continue;
        }
        has_location |= name.eq_ignore_ascii_case(b"location");
        let value_start = start + colon + 1 + before;
        head.fields.push((start..start + colon, value_start..value_start + trimmed_length));
    }
    if head.fields.is_empty() && head.status.is_none() {
        return Err("has no head: it begins with an empty line".to_owned());
    }
    if has_location && head.status.is_none() {
        head.status = Some(302);
        head.reason = "Found".to_owned();
    }
    head.length = at;
    Ok(Some(head))
}

/// `404`, or `404 Not Found`. Interim answers (1xx) are the web server's.
fn status(value: &[u8]) -> Option<u16> {
    let digits = value.get(..3)?;
    let is_alone = value.get(3).is_none_or(|byte| *byte == b' ');
    let number = std::str::from_utf8(digits).ok()?.parse::<u16>().ok()?;
    (is_alone && digits.iter().all(u8::is_ascii_digit) && (200..=999).contains(&number)).then_some(number)
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The beginning of a line, for people.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line.get(..line.len().min(80)).unwrap_or_default()).into_owned();
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, fields, and the rest.
    type Said = (Option<u16>, Vec<(String, String)>, String);

    fn said(text: &str) -> Result<Option<Said>, String> {
        let head = read(text.as_bytes())?;
        Ok(head.map(|head| {
            let fields =
                head.fields.iter().map(|(name, value)| (text[name.clone()].into(), text[value.clone()].into()));
            (head.status, fields.collect(), text[head.length..].into())
        }))
    }

    fn field(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn lines_end_with_lf_or_crlf() {
        let fields = vec![field("Content-Type", "text/plain"), field("X-A", "b: c")];
        for end in ["\n", "\r\n"] {
            let text = format!("Content-Type:text/plain{end}X-A:\t b: c \t{end}{end}body\n\n");
            assert_eq!(said(&text), Ok(Some((None, fields.clone(), "body\n\n".into()))));
        }
    }

    #[test]
    fn a_status_has_a_reason_or_none_and_is_no_field() {
        for (text, status) in [("Status: 404 Not Found\n\n", 404), ("status:204\r\n\r\n", 204)] {
            assert_eq!(said(text), Ok(Some((Some(status), vec![], String::new()))));
        }
        assert_eq!(
            read(b"Status: 404  Not Found \n\n").map(|head| head.map(|head| head.reason)),
            Ok(Some("Not Found".into()))
        );
        for wrong in [
            "Status: 20\n\n",
            "Status: abc\n\n",
            "Status: 2000\n\n",
            "Status: 100\n\n",
            "Status:\n\n",
            "Status: +20\n\n",
        ] {
            let why = said(wrong).expect_err(wrong);
            assert!(why.contains("Status"), "{why}");
        }
        assert!(said("Status: 200\nStatus: 200\n\n").is_err());
    }

    #[test]
    fn a_location_alone_is_a_redirect() {
        for place in ["/local", "http://example.org/"] {
            let text = format!("Location: {place}\n\n");
            assert_eq!(said(&text), Ok(Some((Some(302), vec![field("Location", place)], String::new()))));
        }
        let text = "Status: 201\nLocation: /new\n\n";
        assert_eq!(said(text), Ok(Some((Some(201), vec![field("Location", "/new")], String::new()))));
    }

    #[test]
    fn what_is_no_head_is_named() {
        for (text, word) in [
            ("\nbody", "no head"),
            ("\r\n\r\n", "no head"),
            ("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\n", "nph"),
            ("<html>\n", "colon"),
            ("A: b\n c: d\n\n", "name is none"),
            (": b\n\n", "name is none"),
            ("A B: c\n\n", "name is none"),
            ("A: b\rc\n\n", "CR or NUL"),
            ("A: b\0c\n\n", "CR or NUL"),
        ] {
            let why = said(text).expect_err(text);
            assert!(why.contains(word), "{text:?}: {why}");
        }
    }

    #[test]
    fn cut_anywhere_it_needs_more() {
        let text = "Status: 200 OK\r\nContent-Type: text/html\r\n\r\n";
        for length in 0..text.len() {
            assert_eq!(said(&text[..length]), Ok(None), "{length}");
        }
        assert!(matches!(said(text), Ok(Some(_))));
    }

    #[test]
    fn a_head_has_an_end() {
        let most = HEAD_MAX - "X: ".len() - 2;
        let largest = format!("X: {}\n\n", "y".repeat(most));
        assert!(matches!(said(&largest), Ok(Some(_))));
        assert!(said(&format!("X: {}\n\n", "y".repeat(most + 1))).is_err());
        assert!(said(&"y".repeat(HEAD_MAX + 1)).is_err());
        assert!(said(&"X: y\n".repeat(HEAD_MAX)).is_err());
    }
}
