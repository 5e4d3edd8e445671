//! CGI variables of an HTTP request (RFC 3875, section 4.1), or why it is refused.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Version};
use hyper::body::{Body, Incoming};
use steadfast_proto::fcgi::params::push_pair;

use super::fact::Length;
use super::settings::Settings;
use super::shared::Asked;
use crate::place::Reason;

/// A URI is no longer.
const URI_MAX: usize = 16 * 1024;
/// A client's id is no longer.
const ID_MAX: usize = 128;
const SOFTWARE: &str = concat!("steadfast/", env!("CARGO_PKG_VERSION"));
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long a body is.
pub(super) fn length(parts: &Parts, body: &Incoming) -> Length {
    match body.size_hint().exact() {
        // hyper has taken the header's word.
        Some(0) if !parts.headers.contains_key(TRANSFER_ENCODING) => Length::None,
        Some(length) => Length::Known(length),
        None => Length::Unknown,
    }
}

/// Whether a client of HTTP/1.0 asked for its connection to be kept.
pub(super) fn wants_keeping(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    values.into_iter().any(|token| token.trim_ascii().eq_ignore_ascii_case(b"keep-alive"))
}

/// What the core is told of a request.
///
/// # Errors
/// Why it is refused.
pub(super) fn read(
    parts: &Parts,
    body: Length,
    settings: &Settings,
    peer: Option<SocketAddr>,
    socket: &OwnedFd,
) -> Result<Asked, Reason> {
    check(parts)?;
    let (authority, is_absolute) = authority(parts)?;
    let target = Target::of(parts)?;
    let mut out = Writer { settings, params: Vec::with_capacity(1024) };
    out.pair("GATEWAY_INTERFACE", b"CGI/1.1")?;
    out.pair("SERVER_SOFTWARE", SOFTWARE.as_bytes())?;
    out.pair("SERVER_PROTOCOL", if parts.version == Version::HTTP_11 { b"HTTP/1.1" } else { b"HTTP/1.0" })?;
    out.server(authority.as_ref(), socket)?;
    out.pair("REQUEST_METHOD", parts.method.as_str().as_bytes())?;
    out.pair("REQUEST_SCHEME", b"http")?;
    out.pair("REQUEST_URI", target.uri.as_bytes())?;
    out.pair("SCRIPT_NAME", b"")?;
    out.pair("PATH_INFO", &target.path)?;
    out.pair("QUERY_STRING", target.query.as_bytes())?;
    match peer {
        Some(peer) => {
            out.pair("REMOTE_ADDR", peer.ip().to_canonical().to_string().as_bytes())?;
            out.pair("REMOTE_PORT", peer.port().to_string().as_bytes())?;
        }
        // As nginx names them. An address would be a lie that somebody trusts.
        None => out.pair("REMOTE_ADDR", b"unix:")?,
    }
    if let Some(value) = parts.headers.get(CONTENT_LENGTH) {
        out.pair("CONTENT_LENGTH", value.as_bytes())?;
    }
    if let Some(value) = parts.headers.get(CONTENT_TYPE) {
        out.pair("CONTENT_TYPE", value.as_bytes())?;
    }
    if let Some(authority) = authority.filter(|_| is_absolute) {
        // RFC 9112, section 3.2.2: what the target says stands, and the header is ignored.
        out.pair("HTTP_HOST", authority.as_str().as_bytes())?;
    } else if let Some(host) = parts.headers.get(HOST) {
        out.pair("HTTP_HOST", host.as_bytes())?;
    }
    out.headers(&parts.headers)?;
    for (name, value) in &settings.params {
        push_pair(&mut out.params, name.as_bytes(), value.as_bytes()).map_err(|_| Reason::HeadersTooLarge)?;
    }
    Ok(Asked { params: out.params, body, id: decent_id(&parts.headers) })
}

/// What can be refused without looking closer.
fn check(parts: &Parts) -> Result<(), Reason> {
    if parts.method == Method::CONNECT {
        return Err(Reason::NotImplemented);
    }
    // Only the one coding that we undo ourselves: a worker is not told of others.
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Reason::NotImplemented);
    }
    let one = |name: HeaderName| parts.headers.get_all(name).iter().count() <= 1;
    if !one(HOST) || !one(CONTENT_TYPE) || !one(CONTENT_LENGTH) {
        return Err(Reason::BadRequest);
    }
    if parts.version == Version::HTTP_11 && !parts.headers.contains_key(HOST) {
        return Err(Reason::BadRequest);
    }
    Ok(())
}

/// Who is asked, and whether the target says so.
fn authority(parts: &Parts) -> Result<(Option<Authority>, bool), Reason> {
    let decent = |authority: &Authority| {
        let port = authority.as_str().strip_prefix(authority.host());
        let has_port = port.is_some_and(|port| port.is_empty() || authority.port_u16().is_some());
        !authority.as_str().contains('@') && !authority.host().is_empty() && has_port
    };
    let host = match parts.headers.get(HOST).map(|host| host.as_bytes()) {
        None | Some(b"") => None,
        Some(host) => {
            let host = Authority::try_from(host).ok().filter(decent);
            Some(host.ok_or(Reason::BadRequest)?)
        }
    };
    match (parts.uri.scheme_str(), parts.uri.authority()) {
        (None, None) => Ok((host, false)),
        (Some("http" | "https"), Some(authority)) if decent(authority) => Ok((Some(authority.clone()), true)),
        // `GET example.com`, `GET ftp://a/`, `GET http://user@a/`.
        _ => Err(Reason::BadRequest),
    }
}

/// What is asked for.
struct Target<'a> {
    uri: &'a str,
    /// Percent-decoded.
    path: Vec<u8>,
    query: &'a str,
}

impl Target<'_> {
    fn of(parts: &Parts) -> Result<Target<'_>, Reason> {
        let uri = parts.uri.path_and_query().map_or("/", |both| both.as_str());
        if uri.len() > URI_MAX {
            return Err(Reason::UriTooLong);
        }
        let query = parts.uri.query().unwrap_or_default();
        if uri == "*" && parts.method == Method::OPTIONS {
            return Ok(Target { uri, path: Vec::new(), query });
        }
        if !uri.starts_with('/') {
            return Err(Reason::BadRequest);
        }
        let path = decoded(parts.uri.path().as_bytes()).ok_or(Reason::BadRequest)?;
        Ok(Target { uri, path, query })
    }
}

/// Without percent signs. `None`: one of them is none, or means NUL, which ends a string for half of all programs.
fn decoded(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let [high, low, after @ ..] = after else { return None };
        let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        out.push(digit(high)? << 4 | digit(low)?);
        rest = after;
    }
    (!out.contains(&0)).then_some(out)
}

/// Writes variables; what the settings say replaces them.
struct Writer<'a> {
    settings: &'a Settings,
    params: Vec<u8>,
}

impl Writer<'_> {
    fn pair(&mut self, name: &str, value: &[u8]) -> Result<(), Reason> {
        if self.settings.params.contains_key(name) {
            return Ok(());
        }
        push_pair(&mut self.params, name.as_bytes(), value).map_err(|_| Reason::HeadersTooLarge)
    }

    fn server(&mut self, authority: Option<&Authority>, socket: &OwnedFd) -> Result<(), Reason> {
        if let Some(authority) = authority {
            self.pair("SERVER_NAME", authority.host().as_bytes())?;
            return self.pair("SERVER_PORT", authority.port_u16().unwrap_or(80).to_string().as_bytes());
        }
        let local = rustix::net::getsockname(socket.as_fd()).ok().and_then(|local| SocketAddr::try_from(local).ok());
        let name = local.map_or("localhost".to_owned(), |local| local.ip().to_canonical().to_string());
        self.pair("SERVER_NAME", name.as_bytes())?;
        self.pair("SERVER_PORT", local.map_or(80, |local| local.port()).to_string().as_bytes())
    }

    /// All headers that are a worker's business, each name once.
    fn headers(&mut self, headers: &HeaderMap) -> Result<(), Reason> {
        let mut name = String::with_capacity(64);
        let mut joined = Vec::new();
        for key in headers.keys() {
            if !is_passed(key) {
                continue;
            }
            name.clear();
            name.push_str("HTTP_");
            name.extend(
                key.as_str().chars().map(|letter| if letter == '-' { '_' } else { letter.to_ascii_uppercase() }),
            );
            let mut values = headers.get_all(key).iter();
            let Some(first) = values.next() else { continue };
            let Some(second) = values.next() else {
                self.pair(&name, first.as_bytes())?;
                continue;
            };
            let between: &[u8] = if *key == COOKIE { b"; " } else { b", " };
            joined.clear();
            joined.extend_from_slice(first.as_bytes());
            for value in std::iter::once(second).chain(values) {
                joined.extend_from_slice(between);
                joined.extend_from_slice(value.as_bytes());
            }
            self.pair(&name, &joined)?;
        }
        Ok(())
    }
}

/// Not those that are about the connection, have a variable of their own, are told by the core, or could be taken for
/// another: `X_Foo` and `X.Foo` would be `HTTP_X_FOO` too, and `Proxy` the proxy that half of all libraries then use.
fn is_passed(name: &HeaderName) -> bool {
    let text = name.as_str();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_ours = matches!(
        *name,
        HOST | CONTENT_LENGTH | CONTENT_TYPE | TRANSFER_ENCODING | CONNECTION | EXPECT | TE | TRAILER | UPGRADE
    );
    is_plain && !is_ours && *name != REQUEST_ID && !matches!(text, "keep-alive" | "proxy" | "proxy-connection")
}

/// The client's own id, if it is short and hurts no log.
fn decent_id(headers: &HeaderMap) -> Option<Box<str>> {
    let mut ids = headers.get_all(REQUEST_ID).iter();
    let id = ids.next()?.to_str().ok()?;
    let fits = (1..=ID_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(&byte));
    (fits && ids.next().is_none()).then(|| id.into())
}
