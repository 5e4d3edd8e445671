//! One request as bytes: what a web server would send for a visitor, in either language.

use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::params::push_pair;
use steadfast_proto::fcgi::record::{kind, role};

use super::address::{Address, Place, Protocol};
use super::fcgi::ID;

const SOFTWARE: &str = concat!("steadfast/", env!("CARGO_PKG_VERSION"));
/// What curl sends with a body of which nothing is known.
const FORM: &str = "application/x-www-form-urlencoded";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) method: String,
    /// Path and query, beginning with `/`, or `*`.
    pub(crate) target: String,
    /// As typed, in this order; names are tokens, values have no line ends.
    pub(crate) headers: Vec<(String, String)>,
    /// FastCGI params that replace ours, or are added.
    pub(crate) params: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
    /// The connection is kept for another request.
    pub(crate) is_kept: bool,
}

impl Question {
    /// The whole request, for one write.
    ///
    /// # Errors
    /// In words: FastCGI cannot carry it.
    pub(crate) fn bytes(&self, address: &Address) -> Result<Vec<u8>, String> {
        match address.protocol {
            Protocol::Fcgi => self.records(address),
            Protocol::Http => Ok(self.message(address)),
        }
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Whether the same request may be sent twice (RFC 9110 §9.2.2; of those what servers believe).
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }

    fn records(&self, address: &Address) -> Result<Vec<u8>, String> {
        let mut stream = Vec::with_capacity(1024);
        for (name, value) in self.pairs(address) {
            push_pair(&mut stream, name.as_bytes(), &value).map_err(|error| format!("the param {name}: {error}"))?;
        }
        let mut out = Vec::with_capacity(stream.len() + 64);
        encode::begin_request(&mut out, ID, role::RESPONDER, self.is_kept);
        encode::params(&mut out, ID, &stream).map_err(|error| error.to_string())?;
        encode::stream(&mut out, kind::STDIN, ID, self.body.as_deref().unwrap_or_default());
        encode::stream_end(&mut out, kind::STDIN, ID);
        Ok(out)
    }

    /// As Debian's nginx has them in fastcgi_params, empty ones included, for a script that the whole path names.
    /// PATH_INFO has the path, too: frameworks that route by it find it there.
    fn pairs(&self, address: &Address) -> Vec<(String, Vec<u8>)> {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let path = percent_decoded(path);
        let length = self.body.as_ref().map(|body| body.len().to_string()).unwrap_or_default();
        let host = self.header("Host").unwrap_or_else(|| address.authority());
        let (server, port) = match &address.place {
            Place::Tcp { host, port } => (host.clone(), port.to_string()),
            Place::Unix(_) | Place::Stdin => ("127.0.0.1".to_owned(), "80".to_owned()),
        };
        let content_type = self.content_type();
        let ours: [(&str, &[u8]); 21] = [
            ("QUERY_STRING", query.as_bytes()),
            ("REQUEST_METHOD", self.method.as_bytes()),
            ("CONTENT_TYPE", content_type.as_bytes()),
            ("CONTENT_LENGTH", length.as_bytes()),
            ("SCRIPT_NAME", &path),
            ("PATH_INFO", &path),
            ("REQUEST_URI", self.target.as_bytes()),
            ("DOCUMENT_URI", &path),
            ("SERVER_PROTOCOL", b"HTTP/1.1"),
            ("REQUEST_SCHEME", b"http"),
            ("GATEWAY_INTERFACE", b"CGI/1.1"),
            ("SERVER_SOFTWARE", SOFTWARE.as_bytes()),
            ("REMOTE_ADDR", b"127.0.0.1"),
            ("REMOTE_PORT", b"40000"),
            ("SERVER_ADDR", server.as_bytes()),
            ("SERVER_PORT", port.as_bytes()),
            ("SERVER_NAME", without_port(&host).as_bytes()),
            // php-cgi serves nobody without it.
            ("REDIRECT_STATUS", b"200"),
            ("HTTP_HOST", host.as_bytes()),
            ("HTTP_USER_AGENT", SOFTWARE.as_bytes()),
            ("HTTP_ACCEPT", b"*/*"),
        ];
        let mut pairs: Vec<(String, Vec<u8>)> = Vec::with_capacity(32);
        pairs.extend(ours.map(|(name, value)| (name.to_owned(), value.to_vec())));
        let mut typed: Vec<(String, Vec<u8>)> = Vec::new();
        for (name, value) in self.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("Content-Type")) {
            let name = format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"));
            match typed.iter_mut().find(|(known, _)| *known == name) {
                Some((name, joined)) => {
                    joined.extend_from_slice(if name == "HTTP_COOKIE" { b"; " } else { b", " });
                    joined.extend_from_slice(value.as_bytes());
                }
                None => typed.push((name, value.as_bytes().to_vec())),
            }
        }
        typed.extend(self.params.iter().map(|(name, value)| (name.clone(), value.as_bytes().to_vec())));
        for (name, value) in typed {
            match pairs.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => pairs.push((name, value)),
            }
        }
        pairs
    }

    fn message(&self, address: &Address) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let mut add = |name: &str, value: &str| {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        };
        let ours = [("Host", address.authority()), ("User-Agent", SOFTWARE.to_owned()), ("Accept", "*/*".to_owned())];
        for (name, value) in ours {
            if self.header(name).is_none() {
                add(name, &value);
            }
        }
        if let Some(body) = &self.body {
            if self.header("Content-Type").is_none() {
                add("Content-Type", FORM);
            }
            add("Content-Length", &body.len().to_string());
        }
        if !self.is_kept {
            add("Connection", "close");
        }
        for (name, value) in &self.headers {
            add(name, value);
        }
        head.push_str("\r\n");
        let mut out = head.into_bytes();
        out.extend_from_slice(self.body.as_deref().unwrap_or_default());
        out
    }

    fn content_type(&self) -> String {
        let unknown = if self.body.is_some() { FORM } else { "" };
        self.header("Content-Type").unwrap_or_else(|| unknown.to_owned())
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(this, _)| this.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// As web servers name the script: `%41` is `A`; what is no escape stays as it is.
fn percent_decoded(path: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        out.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use steadfast_proto::fcgi::params::pairs;
    use steadfast_proto::fcgi::request::{Event, Limits, RequestDecoder};

    fn question() -> Question {
        Question {
            method: "GET".to_owned(),
            target: "/a%20b%zz?c=%41".to_owned(),
            headers: Vec::new(),
            params: Vec::new(),
            body: None,
            is_kept: false,
        }
    }

    /// What our own front would read: params, body, whether the connection is kept.
    fn read(question: &Question, address: &str) -> (Vec<(String, String)>, Vec<u8>, bool) {
        let bytes = question.bytes(&address.parse().expect("an address")).expect("it fits");
        let mut decoder = RequestDecoder::new(Limits::default());
        let (mut stream, mut body, mut kept, mut is_over) = (Vec::new(), Vec::new(), false, false);
        let mut input = bytes.as_slice();
        while let Some(event) = decoder.next(&mut input).expect("valid") {
            match event {
                Event::Begin { keep, .. } => kept = keep,
                Event::Params { bytes, .. } => stream.extend_from_slice(bytes),
                Event::Stdin { bytes, .. } => body.extend_from_slice(bytes),
                Event::StdinEnd { .. } => is_over = true,
                _ => {}
            }
        }
        assert!(is_over, "the request is complete");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let pairs = pairs(&stream).map(|pair| pair.map(|(name, value)| (text(name), text(value))).expect("whole"));
        (pairs.collect(), body, kept)
    }

    fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let mut found = pairs.iter().filter(|(this, _)| this == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} comes twice");
        value
    }

    #[test]
    fn a_get_is_what_nginx_would_send() {
        let (pairs, body, kept) = read(&question(), "unix:/x");
        for (name, expected) in [
            ("REQUEST_METHOD", "GET"),
            ("SCRIPT_NAME", "/a b%zz"),
            ("PATH_INFO", "/a b%zz"),
            ("REQUEST_URI", "/a%20b%zz?c=%41"),
            ("QUERY_STRING", "c=%41"),
            ("CONTENT_LENGTH", ""),
            ("CONTENT_TYPE", ""),
            ("SERVER_NAME", "localhost"),
            ("SERVER_PORT", "80"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
        ] {
            assert_eq!(value(&pairs, name), Some(expected), "{name}");
        }
        assert_eq!(value(&pairs, "SCRIPT_FILENAME"), None);
        assert!(body.is_empty() && !kept);
    }

    #[test]
    fn headers_become_params_and_params_have_the_last_word() {
        let mut question = question();
        for (name, value) in
            [("Host", "site:81"), ("cookie", "a"), ("Cookie", "b"), ("X-A", "1"), ("x-a", "2"), ("Content-Type", "t")]
        {
            question.headers.push((name.to_owned(), value.to_owned()));
        }
        for (name, value) in [("SCRIPT_FILENAME", "/s.php"), ("SERVER_PORT", ""), ("HTTP_HOST", "other")] {
            question.params.push((name.to_owned(), value.to_owned()));
        }
        let (pairs, ..) = read(&question, "127.0.0.1:9000");
        for (name, expected) in [
            ("HTTP_COOKIE", "a; b"),
            ("HTTP_X_A", "1, 2"),
            ("CONTENT_TYPE", "t"),
            ("SERVER_NAME", "site"),
            ("HTTP_HOST", "other"),
            ("SERVER_PORT", ""),
            ("SCRIPT_FILENAME", "/s.php"),
        ] {
            assert_eq!(value(&pairs, name), Some(expected), "{name}");
        }
        assert_eq!(value(&pairs, "HTTP_CONTENT_TYPE"), None);
    }

    #[test]
    fn a_body_of_any_length_arrives_whole() {
        let mut question = question();
        question.is_kept = true;
        for length in [0, 1, 65_535, 65_536, 200_000] {
            question.body = Some(vec![b'x'; length]);
            let (pairs, body, kept) = read(&question, "unix:/x");
            assert_eq!(value(&pairs, "CONTENT_LENGTH"), Some(length.to_string().as_str()));
            assert_eq!(value(&pairs, "CONTENT_TYPE"), Some(FORM));
            assert_eq!((body.len(), kept), (length, true));
        }
    }

    #[test]
    fn a_param_that_no_record_can_carry_is_refused() {
        let mut question = question();
        question.params.push(("BIG".to_owned(), "x".repeat(70_000)));
        question.bytes(&"unix:/x".parse().expect("an address")).expect_err("too long");
    }

    #[test]
    fn an_http_request_names_its_host_and_its_end() {
        let address: Address = "http://site:8080".parse().expect("an address");
        let text =
            |question: &Question| String::from_utf8(question.bytes(&address).expect("it has no limits")).expect("text");
        let mut question = question();
        assert_eq!(
            text(&question),
            format!(
                "GET /a%20b%zz?c=%41 HTTP/1.1\r\nHost: site:8080\r\nUser-Agent: {SOFTWARE}\r\nAccept: */*\r\n\
                 Connection: close\r\n\r\n"
            )
        );
        question.is_kept = true;
        question.body = Some(b"ab".to_vec());
        question.headers.push(("host".to_owned(), "other".to_owned()));
        let text = text(&question);
        assert!(text.ends_with("Content-Length: 2\r\nhost: other\r\n\r\nab"), "{text}");
        assert!(!text.contains("Host:") && !text.contains("Connection"), "{text}");
    }
}
