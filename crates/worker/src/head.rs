//! Heads of requests and answers: from CGI's words to those of the crate `http`, and back.

use std::str;
use std::sync::Arc;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, StatusCode, Uri, Version, request, response};

use crate::params::Params;

/// The CGI variables of a request (RFC 3875 §4.1), as the web server sent them: an extension of every [`http::Request`] that
/// came by FastCGI or CGI. One that came by HTTP has none.
#[derive(Clone, Debug)]
pub struct Variables(pub(crate) Arc<Params>);

impl Variables {
    /// One of them, such as `REMOTE_ADDR`, as bytes.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name.as_bytes())
    }

    /// The same as text; `None` also if it is no UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.text(name)
    }

    /// All names and values, in the web server's order. Headers of the client begin with `HTTP_`.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter()
    }
}

/// The head of a request, in the words of `http`. The URI is `REQUEST_URI`, as the client sent it (of one that names the host,
/// too, the path and the query); where the web server does not say it, `SCRIPT_NAME`, `PATH_INFO` and `QUERY_STRING`.
///
/// # Errors
/// Why it cannot be one: for the log, the visitor gets a 400.
pub(crate) fn request(params: &Params) -> Result<request::Parts, String> {
    let (mut parts, ()) = Request::new(()).into_parts();
    let method = params.get(b"REQUEST_METHOD").unwrap_or(b"GET");
    parts.method = Method::from_bytes(method).map_err(|_| format!("the method {} is none", shown(method)))?;
    parts.uri = uri(params)?;
    parts.version = version(params.text("SERVER_PROTOCOL"));
    parts.headers = headers(params)?;
    Ok(parts)
}

fn uri(params: &Params) -> Result<Uri, String> {
    if let Some(uri) = params.get(b"REQUEST_URI").filter(|uri| !uri.is_empty()) {
        let none = |_| format!("the address {} is none", shown(uri));
        let whole = Uri::try_from(uri).map_err(none)?;
        if whole.scheme().is_none() {
            return Ok(whole);
        }
        // A client may name the host as well (RFC 9112 §3.2.2).
        let path = whole.path_and_query().map_or("/", |path| path.as_str());
        return Uri::try_from(path).map_err(none);
    }
    let mut text = String::new();
    for name in ["SCRIPT_NAME", "PATH_INFO"] {
        push_encoded(&mut text, params.get(name.as_bytes()).unwrap_or_default());
    }
    if !text.starts_with('/') {
        text.insert(0, '/');
    }
    if let Some(query) = params.text("QUERY_STRING").filter(|query| !query.is_empty()) {
        text.push('?');
        text.push_str(query);
    }
    Uri::try_from(text.as_str()).map_err(|_| format!("the address {} is none", shown(text.as_bytes())))
}

/// `SCRIPT_NAME` and `PATH_INFO` were decoded by the web server (RFC 3875 §4.1.5).
fn push_encoded(text: &mut String, path: &[u8]) {
    use std::fmt::Write;
    for byte in path {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

fn version(text: Option<&str>) -> Version {
    match text {
        Some("HTTP/0.9") => Version::HTTP_09,
        Some("HTTP/1.0") => Version::HTTP_10,
        Some("HTTP/2.0" | "HTTP/2") => Version::HTTP_2,
        Some("HTTP/3.0" | "HTTP/3") => Version::HTTP_3,
        _ => Version::HTTP_11,
    }
}

fn headers(params: &Params) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let mut put = |name: HeaderName, value: &[u8]| match HeaderValue::from_bytes(value) {
        Ok(value) => {
            headers.append(name, value);
            Ok(())
        }
        Err(_) => Err(format!("the value of {name} cannot be one")),
    };
    for (name, value) in params.iter() {
        let (name, value) = match name {
            b"CONTENT_TYPE" if !value.is_empty() => (CONTENT_TYPE, value),
            // Caddy says -1 for a length that it does not know, others nothing.
            b"CONTENT_LENGTH" if is_number(value) => (CONTENT_LENGTH, value),
            // The two above are what the web server goes by; and a record's length is not a chunk's.
            b"HTTP_CONTENT_TYPE" | b"HTTP_CONTENT_LENGTH" | b"HTTP_TRANSFER_ENCODING" => continue,
            _ => match name.strip_prefix(b"HTTP_") {
                None => continue,
                Some(name) => (header_name(name)?, value),
            },
        };
        put(name, value)?;
    }
    Ok(headers)
}

fn header_name(name: &[u8]) -> Result<HeaderName, String> {
    let text: Vec<u8> = name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
    HeaderName::from_bytes(&text).map_err(|_| format!("the header {} is none", shown(name)))
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// A client's bytes, for the log.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(100).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// How long the body is that the web server has announced.
#[cfg(any(feature = "tower", test))]
pub(crate) fn content_length(params: &Params) -> Option<u64> {
    params.text("CONTENT_LENGTH").filter(|text| is_number(text.as_bytes()))?.parse().ok()
}

/// What of an answer's head goes to the web server, in its order, beside the status. What is about one connection of HTTP/1.1 is
/// the web server's.
pub(crate) fn fields(parts: &response::Parts) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    parts
        .headers
        .iter()
        .filter(|(name, _)| ![CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(name) && *name != "keep-alive")
}

/// Whether an answer with this head can be said in CGI's words.
///
/// # Errors
/// Why not.
pub(crate) fn check(parts: &response::Parts) -> Result<(), String> {
    if parts.status.is_informational() {
        return Err(format!("the status {} is no answer to a FastCGI request", parts.status.as_u16()));
    }
    if parts.headers.contains_key("status") {
        return Err("the header Status is the web server's own: say http::Response::status".to_owned());
    }
    Ok(())
}

/// An answer's head, as a CGI program says it. `length` is its body's, if that is known.
///
/// # Errors
/// Why it cannot be said.
#[cfg(feature = "tower")]
pub(crate) fn write(parts: &response::Parts, length: Option<u64>, is_head_only: bool) -> Result<Vec<u8>, String> {
    check(parts)?;
    let mut head = Vec::with_capacity(256);
    head.extend_from_slice(b"Status: ");
    head.extend_from_slice(parts.status.as_str().as_bytes());
    if let Some(reason) = parts.status.canonical_reason() {
        head.extend_from_slice(b" ");
        head.extend_from_slice(reason.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    let mut field = |name: &str, value: &[u8]| {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    };
    for (name, value) in fields(parts) {
        field(name.as_str(), value.as_bytes());
    }
    if let Some(length) = length_to_say(parts, length, is_head_only) {
        field("content-length", length.to_string().as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    Ok(head)
}

/// Whether an answer of this status has a body (RFC 9110 §6.4.1).
pub(crate) fn has_body(status: StatusCode) -> bool {
    !(status.is_informational() || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status))
}

/// The length to announce of a body that is `exact` bytes long, if that is known and the application has not done it.
pub(crate) fn length_to_say(parts: &response::Parts, exact: Option<u64>, is_head_only: bool) -> Option<u64> {
    let exact = exact.filter(|_| has_body(parts.status) && !parts.headers.contains_key(CONTENT_LENGTH))?;
    // A handler that knows of HEAD has made no body: its length would be told as 0.
    if is_head_only && exact == 0 { None } else { Some(exact) }
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

    #[test]
    fn a_request_has_the_clients_address_method_and_headers() {
        let params = params(&[
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", "/a%20b/c?x=1&y"),
            ("PATH_INFO", "/a b/c"),
            ("SERVER_PROTOCOL", "HTTP/2.0"),
            ("CONTENT_TYPE", "text/plain"),
            ("CONTENT_LENGTH", "3"),
            ("HTTP_CONTENT_LENGTH", "4"),
            ("HTTP_TRANSFER_ENCODING", "chunked"),
            ("HTTP_X_REQUEST_ID", "é"),
            ("HTTP_COOKIE", "a=1"),
            ("HTTP_COOKIE", "b=2"),
        ]);
        let parts = request(&params).expect("a request");
        assert_eq!((parts.method, parts.uri.to_string()), (Method::POST, "/a%20b/c?x=1&y".to_owned()));
        assert_eq!(parts.version, Version::HTTP_2);
        let mut headers: Vec<_> = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        headers.sort_unstable();
        let expected: [(&str, &[u8]); 4] = [
            ("content-length", b"3"),
            ("content-type", b"text/plain"),
            ("cookie", b"a=1; b=2"),
            ("x-request-id", "é".as_bytes()),
        ];
        assert_eq!(headers, expected);
    }

    #[test]
    fn an_address_that_nobody_has_sent_is_made_of_its_parts() {
        for (pairs, expected) in [
            (vec![("SCRIPT_NAME", "/app"), ("PATH_INFO", "/a b?c"), ("QUERY_STRING", "d=%20")], "/app/a%20b%3Fc?d=%20"),
            (vec![("PATH_INFO", "")], "/"),
            (vec![("REQUEST_URI", "http://example.org/a?b")], "/a?b"),
            (vec![("REQUEST_URI", "http://example.org")], "/"),
            (vec![("REQUEST_URI", "*"), ("REQUEST_METHOD", "OPTIONS")], "*"),
        ] {
            assert_eq!(request(&params(&pairs)).expect("a request").uri.to_string(), expected);
        }
    }

    #[test]
    fn what_no_client_may_send_is_refused() {
        for pair in [
            ("REQUEST_METHOD", "GE T"),
            ("REQUEST_URI", "/a b"),
            ("REQUEST_URI", "/\u{1}"),
            ("HTTP_A", "b\nc: d"),
            ("HTTP_A B", "c"),
            ("CONTENT_TYPE", "a\r\n"),
        ] {
            assert!(request(&params(&[pair])).is_err(), "{pair:?}");
        }
    }

    #[test]
    fn an_unknown_length_is_none() {
        for (text, expected) in [("12", Some(12)), ("-1", None), ("+1", None), ("", None), ("1 ", None)] {
            let params = params(&[("CONTENT_LENGTH", text)]);
            assert_eq!(content_length(&params), expected, "{text:?}");
            assert_eq!(request(&params).expect("a request").headers.contains_key(CONTENT_LENGTH), expected.is_some());
        }
    }

    #[test]
    fn an_answer_keeps_its_fields_but_not_the_connections() {
        let answer = http::Response::builder()
            .header("set-cookie", "a=1")
            .header("connection", "close")
            .header("set-cookie", "b=2")
            .body(())
            .expect("an answer");
        let (parts, ()) = answer.into_parts();
        let fields: Vec<_> =
            fields(&parts).map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(fields, ["set-cookie: a=1", "set-cookie: b=2"]);
    }
}
