//! From an HTTP request's head to CGI variables (RFC 3875, section 4.1; research/fastcgi.md, A.4 and C).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Version, header};
use steadfast_proto::fcgi::params::push_pair;

use crate::place::Reason;

/// A path and query are no longer.
const URI_MAX: usize = 16 * 1024;
/// A client's id is no longer.
const ID_MAX: usize = 128;
/// Not passed on as `HTTP_…`: what belongs to the connection, has a variable of its own, or is not for CGI (httpoxy).
const DROPPED: [HeaderName; 10] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy"),
];
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who speaks with whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peers {
    /// The client.
    pub(crate) peer: Option<SocketAddr>,
    /// We.
    pub(crate) local: Option<SocketAddr>,
}

/// Pairs on their way into a stream; those that the pool sets itself are left out.
struct Pairs<'a> {
    stream: Vec<u8>,
    own: &'a BTreeMap<String, String>,
}

impl Pairs<'_> {
    fn add(&mut self, name: &str, value: &[u8]) {
        if self.own.is_empty() || !self.own.contains_key(name) {
            // Longer than 2^31 is nothing that hyper reads.
            let _ = push_pair(&mut self.stream, name.as_bytes(), value);
        }
    }
}

/// The variables of a request, and the client's own id for it if it is a decent one.
pub(crate) fn params(
    head: &Parts,
    peers: &Peers,
    own: &BTreeMap<String, String>,
) -> Result<(Vec<u8>, Option<Box<str>>), Reason> {
    let uri = head.uri.path_and_query().map_or("/", |uri| uri.as_str());
    if uri.len() > URI_MAX {
        return Err(Reason::UriTooLong);
    }
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let is_whole_server = path == "*";
    let path_info = if is_whole_server { Cow::Borrowed(&b""[..]) } else { decoded(path).ok_or(Reason::BadRequest)? };
    let mut pairs = Pairs { stream: Vec::with_capacity(1024), own };
    pairs.add("GATEWAY_INTERFACE", b"CGI/1.1");
    pairs.add("SERVER_SOFTWARE", concat!("steadfast/", env!("CARGO_PKG_VERSION")).as_bytes());
    pairs.add("SERVER_PROTOCOL", if head.version == Version::HTTP_10 { b"HTTP/1.0" } else { b"HTTP/1.1" });
    let (name, port) = server(head, peers)?;
    pairs.add("SERVER_NAME", name.as_bytes());
    pairs.add("SERVER_PORT", port.to_string().as_bytes());
    if let Some(local) = peers.local {
        pairs.add("SERVER_ADDR", local.ip().to_canonical().to_string().as_bytes());
    }
    if let Some(peer) = peers.peer {
        pairs.add("REMOTE_ADDR", peer.ip().to_canonical().to_string().as_bytes());
        pairs.add("REMOTE_PORT", peer.port().to_string().as_bytes());
    }
    pairs.add("REQUEST_SCHEME", b"http");
    pairs.add("REQUEST_METHOD", head.method.as_str().as_bytes());
    pairs.add("REQUEST_URI", uri.as_bytes());
    pairs.add("SCRIPT_NAME", b"");
    pairs.add("PATH_INFO", &path_info);
    pairs.add("QUERY_STRING", query.as_bytes());
    if let Some(length) = head.headers.get(header::CONTENT_LENGTH) {
        pairs.add("CONTENT_LENGTH", length.as_bytes());
    }
    if let Some(kind) = head.headers.get(header::CONTENT_TYPE) {
        pairs.add("CONTENT_TYPE", kind.as_bytes());
    }
    headers(head, &mut pairs);
    for (name, value) in own {
        let _ = push_pair(&mut pairs.stream, name.as_bytes(), value.as_bytes());
    }
    let id = head.headers.get(X_REQUEST_ID).and_then(decent);
    Ok((pairs.stream, id))
}

/// Headers as `HTTP_…`. Names with anything but letters, digits and dashes would collide with others after the mapping
/// (Caddy GHSA-f59h-q822-g45g), and are dropped, as nginx does.
fn headers(head: &Parts, pairs: &mut Pairs<'_>) {
    let mut variable = String::with_capacity(64);
    for name in head.headers.keys() {
        let is_plain = name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_plain || DROPPED.contains(name) || *name == X_REQUEST_ID {
            continue;
        }
        variable.clear();
        variable.push_str("HTTP_");
        variable
            .extend(name.as_str().chars().map(|letter| if letter == '-' { '_' } else { letter.to_ascii_uppercase() }));
        let mut values = head.headers.get_all(name).iter();
        let first = values.next().map(HeaderValue::as_bytes).unwrap_or_default();
        let mut value = Cow::Borrowed(first);
        for more in values {
            let joined = value.to_mut();
            joined.extend_from_slice(if *name == header::COOKIE { b"; " } else { b", " });
            joined.extend_from_slice(more.as_bytes());
        }
        pairs.add(&variable, &value);
    }
    // RFC 9112, section 3.2.2: an absolute address overrules Host.
    if !head.headers.contains_key(header::HOST)
        && let Some(authority) = head.uri.authority()
    {
        pairs.add("HTTP_HOST", authority.as_str().as_bytes());
    }
}

/// The name and port by which the client knows us.
fn server(head: &Parts, peers: &Peers) -> Result<(String, u16), Reason> {
    let ours = peers.local.map_or(80, |local| local.port());
    let host = match (head.uri.authority(), head.headers.get(header::HOST)) {
        (Some(authority), _) => authority.as_str().to_owned(),
        (None, Some(host)) => host.to_str().map_err(|_| Reason::BadRequest)?.to_owned(),
        (None, None) => String::new(),
    };
    if host.is_empty() {
        return Ok((peers.local.map_or("localhost".to_owned(), |local| local.ip().to_string()), ours));
    }
    let authority: http::uri::Authority = host.parse().map_err(|_| Reason::BadRequest)?;
    Ok((authority.host().to_owned(), authority.port_u16().unwrap_or(ours)))
}

/// The path with its escapes resolved. `None`: an escape that is none, or a NUL, at which C programs would stop reading.
fn decoded(path: &str) -> Option<Cow<'_, [u8]>> {
    let bytes = path.as_bytes();
    if !bytes.contains(&b'%') {
        return Some(Cow::Borrowed(bytes));
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            out.push(*first);
            rest = after;
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok().filter(|text| !text.starts_with('+'))?;
        let byte = u8::from_str_radix(digits, 16).ok().filter(|byte| *byte != 0)?;
        out.push(byte);
        rest = &after[2..];
    }
    Some(Cow::Owned(out))
}

fn decent(id: &HeaderValue) -> Option<Box<str>> {
    let id = id.to_str().ok()?;
    let fits = (1..=ID_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(&byte));
    fits.then(|| id.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use steadfast_proto::fcgi::params::pairs;

    fn made(request: http::request::Builder) -> Result<BTreeMap<String, String>, Reason> {
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let peers = Peers { peer: "192.0.2.1:4711".parse().ok(), local: "127.0.0.1:8080".parse().ok() };
        let own = BTreeMap::from([("SCRIPT_FILENAME".to_owned(), "/srv/index.php".to_owned())]);
        let (stream, _) = params(&head, &peers, &own)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(pairs(&stream).map(|pair| pair.expect("whole")).map(|(n, v)| (text(n), text(v))).collect())
    }

    #[test]
    fn the_usual_variables_are_there() {
        let request = Request::get("/a%20b/c?x=%41&y").header("Host", "example.org:81").header("User-Agent", "t");
        let made = made(request).expect("it makes sense");
        for (name, value) in [
            ("REQUEST_METHOD", "GET"),
            ("REQUEST_URI", "/a%20b/c?x=%41&y"),
            ("PATH_INFO", "/a b/c"),
            ("QUERY_STRING", "x=%41&y"),
            ("SERVER_NAME", "example.org"),
            ("SERVER_PORT", "81"),
            ("REMOTE_ADDR", "192.0.2.1"),
            ("HTTP_HOST", "example.org:81"),
            ("HTTP_USER_AGENT", "t"),
            ("SCRIPT_FILENAME", "/srv/index.php"),
        ] {
            assert_eq!(made.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!made.contains_key("CONTENT_LENGTH"));
    }

    #[test]
    fn httpoxy_and_names_that_collide_are_dropped_and_twice_is_joined() {
        let request = Request::get("/")
            .header("Host", "a")
            .header("Proxy", "http://evil")
            .header("X_Forwarded_User", "root")
            .header("X.Forwarded.User", "root")
            .header("X-Forwarded-User", "me")
            .header("Accept", "a")
            .header("Accept", "b")
            .header("Cookie", "c=1")
            .header("Cookie", "d=2")
            .header("Connection", "close")
            .header("X-Request-ID", "theirs");
        let made = made(request).expect("it makes sense");
        assert_eq!(made["HTTP_X_FORWARDED_USER"], "me");
        assert_eq!((made["HTTP_ACCEPT"].as_str(), made["HTTP_COOKIE"].as_str()), ("a, b", "c=1; d=2"));
        for name in ["HTTP_PROXY", "HTTP_CONNECTION", "HTTP_X_REQUEST_ID"] {
            assert!(!made.contains_key(name), "{name}");
        }
    }

    #[test]
    fn nul_and_bad_escapes_are_refused() {
        for path in ["/a%00b", "/a%zz", "/a%4", "/%", "/%+1"] {
            assert_eq!(made(Request::get(path).header("Host", "a")), Err(Reason::BadRequest), "{path}");
        }
        assert_eq!(made(Request::get("/%0a%0d").header("Host", "a")).expect("bytes")["PATH_INFO"], "/\n\r");
        let long = format!("/{}", "x".repeat(URI_MAX));
        assert_eq!(made(Request::get(long).header("Host", "a")), Err(Reason::UriTooLong));
    }
}
