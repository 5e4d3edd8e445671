//! A request's parameters: one piece of memory, and an index of where each name and value stands in it.

use std::str;

use steadfast_proto::fcgi::params::{pairs, push_pair};

/// Name-value pairs as the web server sent them (FastCGI 1.0 §3.4; the names are CGI's, RFC 3875 §4.1). The memory is
/// used again for the next request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    bytes: Vec<u8>,
    index: Vec<Pair>,
}

/// Where a name and its value stand.
#[derive(Clone, Copy, Debug)]
struct Pair {
    name: Range,
    value: Range,
}

/// Half as wide as it could be: an index is read more often than anything else of a request.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: u32,
    end: u32,
}

impl Range {
    /// Lengths beyond 4 GiB are refused before any range is made.
    fn new(start: usize, end: usize) -> Range {
        Range { start: start as u32, end: end as u32 }
    }

    fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    fn bounds(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
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
        self.index.clear();
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

    /// The stream is complete: finds the pairs. `Proxy:` from a client never becomes the proxy of what the application
    /// asks (httpoxy, CVE-2016-5385). A header that came twice becomes one (HAProxy and h2o send each by itself), joined
    /// as RFC 9110 §5.3 and RFC 6265 §5.4 say.
    pub(crate) fn complete(&mut self, count_max: usize) -> Result<(), Unusable> {
        self.index.clear();
        // Joined twins are added at the end, and take at most the same again.
        if u32::try_from(self.bytes.len().saturating_mul(2)).is_err() {
            return Err(Unusable::TooMany(count_max));
        }
        let mut has_twins = false;
        // Of each name one bit of its length, beginning and end: names of different bits are no twins, and most are.
        let mut seen = 0_u64;
        let mut pairs = pairs(&self.bytes);
        while let Some(pair) = pairs.next() {
            let (name, value) = pair.map_err(|_| Unusable::Cut)?;
            if let Some([first, .., last] | [first @ last]) = name.strip_prefix(b"HTTP_") {
                if name == b"HTTP_PROXY" {
                    continue;
                }
                let mixed = name.len() * 5 + usize::from(*first) * 13 + usize::from(*last);
                let bit = 1 << (mixed % 64);
                has_twins = has_twins || seen & bit != 0 && self.find(name).is_some();
                seen |= bit;
            }
            if self.index.len() == count_max {
                return Err(Unusable::TooMany(count_max));
            }
            let end = self.bytes.len() - pairs.rest().len();
            let middle = end - value.len();
            self.index.push(Pair { name: Range::new(middle - name.len(), middle), value: Range::new(middle, end) });
        }
        if has_twins {
            self.join_twins();
        }
        Ok(())
    }

    fn join_twins(&mut self) {
        let mut at = 0;
        while let Some(Pair { name, value }) = self.index.get(at).copied() {
            at += 1;
            if !self.slice(name).starts_with(b"HTTP_") {
                continue;
            }
            let is_twin = |params: &Params, other: &Pair| params.slice(other.name) == params.slice(name);
            let Some(first) = self.index.iter().skip(at).position(|other| is_twin(self, other)) else {
                continue;
            };
            let separator: &[u8] = if self.slice(name) == b"HTTP_COOKIE" { b"; " } else { b", " };
            let start = self.bytes.len();
            self.bytes.extend_from_within(value.bounds());
            let mut next = at + first;
            while let Some(other) = self.index.get(next).copied() {
                if !is_twin(self, &other) {
                    next += 1;
                    continue;
                }
                self.bytes.extend_from_slice(separator);
                self.bytes.extend_from_within(other.value.bounds());
                self.index.remove(next);
            }
            let joined = Range::new(start, self.bytes.len());
            if let Some(pair) = self.index.get_mut(at - 1) {
                pair.value = joined;
            }
        }
    }

    fn slice(&self, range: Range) -> &[u8] {
        self.bytes.get(range.bounds()).unwrap_or_default()
    }

    fn find(&self, name: &[u8]) -> Option<&Pair> {
        let is_it = |pair: &&Pair| pair.name.len() == name.len() && self.slice(pair.name) == name;
        self.index.iter().find(is_it)
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.find(name).map(|pair| self.slice(pair.value))
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
        self.index.iter().map(|pair| (self.slice(pair.name), self.slice(pair.value)))
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
