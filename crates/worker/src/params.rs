//! A request's parameters, as they came: one piece of memory, read again for each question.

use std::str;

use steadfast_proto::fcgi::params::{pairs, push_pair};

/// Name-value pairs as the web server sent them (FastCGI 1.0 §3.4; the names are CGI's, RFC 3875 §4.1). The memory is
/// used again for the next request. There is no index: an application asks for a few of some thirty names, and to step over
/// a pair costs less than to write down where it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    bytes: Vec<u8>,
    /// The pairs that were written anew, for the next time.
    spare: Vec<u8>,
}

/// Why the pairs cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// A pair ends after its stream.
    Cut,
    /// There are more than this.
    TooMany(usize),
}

impl Params {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// A piece of the stream, cut anywhere.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A whole pair.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        // Only a pair of 2 GiB is refused, and the environment, where these come from, holds none.
        let _ = push_pair(&mut self.bytes, name, value);
    }

    /// The stream is complete: looks at the pairs. `Proxy:` from a client never becomes the proxy of what the application
    /// asks (httpoxy, CVE-2016-5385). A header that came twice becomes one (HAProxy and h2o send each by itself), joined
    /// as RFC 9110 §5.3 and RFC 6265 §5.4 say.
    pub(crate) fn complete(&mut self, count_max: usize) -> Result<(), Unusable> {
        let mut count = 0;
        let mut is_plain = true;
        // Of each name one bit of its length, beginning and end: names of different bits are no twins, and most are.
        let mut seen = 0_u64;
        for pair in pairs(&self.bytes) {
            let (name, _) = pair.map_err(|_| Unusable::Cut)?;
            count += 1;
            if let Some(header) = name.strip_prefix(b"HTTP_") {
                let ends = [header.first(), header.last()].map(|byte| usize::from(byte.copied().unwrap_or(0)));
                let bit = 1 << ((name.len() * 5 + ends[0] * 13 + ends[1]) % 64);
                let has_come = |params: &Params| params.iter().take(count - 1).any(|(earlier, _)| earlier == name);
                if is_plain && (header == b"PROXY" || seen & bit != 0 && has_come(self)) {
                    is_plain = false;
                }
                seen |= bit;
            }
        }
        if count > count_max {
            return Err(Unusable::TooMany(count_max));
        }
        if !is_plain {
            self.rewrite();
        }
        Ok(())
    }

    /// Writes the pairs anew, without `Proxy:` and without twins.
    #[cold]
    fn rewrite(&mut self) {
        let mut written = std::mem::take(&mut self.spare);
        written.clear();
        for (at, (name, value)) in self.iter().enumerate() {
            if name == b"HTTP_PROXY" {
                continue;
            }
            let twins = |(other, _): &(&[u8], &[u8])| name.starts_with(b"HTTP_") && *other == name;
            if self.iter().take(at).any(|earlier| twins(&earlier)) {
                continue;
            }
            let separator: &[u8] = if name == b"HTTP_COOKIE" { b"; " } else { b", " };
            let mut joined = value.to_vec();
            for (_, later) in self.iter().skip(at + 1).filter(twins) {
                joined.extend_from_slice(separator);
                joined.extend_from_slice(later);
            }
            // Only a pair of 2 GiB is refused, which is beyond every limit of a request.
            let _ = push_pair(&mut written, name, &joined);
        }
        self.spare = std::mem::replace(&mut self.bytes, written);
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.get(name.as_bytes())?).ok()
    }

    /// `CONTENT_LENGTH`, if it is a number: not `+5`, which `str::parse` would take, nor Caddy's -1 for a length that it does
    /// not know. One that no number can hold is longer than anything that will come.
    pub(crate) fn content_length(&self) -> Option<u64> {
        let digits =
            self.get(b"CONTENT_LENGTH").filter(|text| !text.is_empty() && text.iter().all(u8::is_ascii_digit))?;
        let add = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
        Some(digits.iter().fold(0, add))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // Whether the stream is whole was looked at before anybody asks.
        pairs(&self.bytes).map_while(Result::ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        let mut params = Params::default();
        for (name, value) in pairs {
            params.push(name.as_bytes(), value.as_bytes());
        }
        assert_eq!(params.complete(100), Ok(()));
        params
    }

    fn all(params: &Params) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        params.iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn names_are_found_and_the_proxy_header_is_not() {
        let params =
            params(&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil"), ("HTTP_PROXY_X", "1"), ("", "e")]);
        assert_eq!(params.text("REQUEST_METHOD"), Some("GET"));
        assert_eq!(params.text("HTTP_PROXY"), None);
        assert_eq!(params.text("HTTP_PROXY_X"), Some("1"));
        assert_eq!(params.text(""), Some("e"));
        assert_eq!(params.text("REQUEST_METHO"), None);
    }

    #[test]
    fn headers_that_come_twice_are_joined_and_other_names_are_not() {
        let params = params(&[
            ("HTTP_COOKIE", "a=1"),
            ("HTTP_ACCEPT", "x"),
            ("HTTP_COOKIE", "b=2"),
            ("HTTP_ACCEPT", "y"),
            ("QUERY_STRING", "1"),
            ("HTTP_ACCEPT", "z"),
            ("QUERY_STRING", "2"),
        ]);
        let expected =
            [("HTTP_COOKIE", "a=1; b=2"), ("HTTP_ACCEPT", "x, y, z"), ("QUERY_STRING", "1"), ("QUERY_STRING", "2")];
        assert_eq!(all(&params), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(params.text("QUERY_STRING"), Some("1"));
    }

    #[test]
    fn nothing_of_the_request_before_is_left() {
        let mut params = params(&[("REMOTE_USER", "admin"), ("A", "1")]);
        params.clear();
        params.push(b"A", b"2");
        assert_eq!(params.complete(100), Ok(()));
        assert_eq!(all(&params), [("A".to_owned(), "2".to_owned())]);
    }

    #[test]
    fn what_is_cut_or_too_much_is_refused() {
        let mut cut = Params::default();
        cut.extend(b"\x05\x01abc");
        assert_eq!(cut.complete(100), Err(Unusable::Cut));
        let mut many = Params::default();
        for _ in 0..4 {
            many.push(b"HTTP_A", b"");
        }
        assert_eq!(many.complete(3), Err(Unusable::TooMany(3)));
    }
}
