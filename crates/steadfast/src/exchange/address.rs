//! Where a request goes, as people type it: `unix:/path`, `host:port`, `http://host:port/path`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Which language is spoken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// FastCGI, as a web server speaks it.
    Fcgi,
    /// HTTP/1.1.
    Http,
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A unix socket.
    Unix(PathBuf),
    /// A host, without brackets, and its port.
    Tcp { host: String, port: u16 },
    /// Nothing: stdin is the connection.
    Stdin,
}

/// An address as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) protocol: Protocol,
    pub(crate) place: Place,
    /// The path of an `http://` address, where one stands in it.
    pub(crate) path: Option<String>,
}

const EXAMPLES: &str = "write for example `unix:/run/site.sock`, `127.0.0.1:9000` or `http://127.0.0.1:8080`";

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        if text == "-" {
            return Ok(Address { protocol: Protocol::Fcgi, place: Place::Stdin, path: None });
        }
        if let Some(rest) = text.strip_prefix("http://") {
            return http(rest);
        }
        if text.starts_with("https://") {
            return Err("this program speaks no TLS; write `http://…`, or ask with curl".to_owned());
        }
        if text.contains('/') {
            return Err(format!("no address; for the socket of this path write `unix:{text}`"));
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("the host is missing; write `127.0.0.1:{text}`"));
        }
        let (host, port) = host_and_port(text)?;
        let port = port.ok_or_else(|| format!("the port is missing; {EXAMPLES}"))?;
        Ok(Address { protocol: Protocol::Fcgi, place: Place::Tcp { host, port }, path: None })
    }
}

fn unix(path: &str) -> Result<Address, String> {
    if path.is_empty() || path.contains('\0') {
        return Err(format!("the socket's path is missing; {EXAMPLES}"));
    }
    Ok(Address { protocol: Protocol::Fcgi, place: Place::Unix(path.into()), path: None })
}

fn http(rest: &str) -> Result<Address, String> {
    let split = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(split);
    if authority.contains('@') {
        return Err("user and password are not taken; write --header 'Authorization: …'".to_owned());
    }
    let (host, port) = host_and_port(authority)?;
    let path = match path {
        "" => None,
        path if path.starts_with('/') => Some(path.to_owned()),
        path => Some(format!("/{path}")),
    };
    Ok(Address { protocol: Protocol::Http, place: Place::Tcp { host, port: port.unwrap_or(80) }, path })
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(|| format!("a `]` is missing; {EXAMPLES}"))?;
            match rest {
                "" => (host, None),
                rest => (host, Some(rest.strip_prefix(':').ok_or_else(|| format!("no address; {EXAMPLES}"))?)),
            }
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address stands in brackets: `[::1]:9000`".to_owned());
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() || host.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(format!("the host is missing; {EXAMPLES}"));
    }
    let port = match port {
        Some(port) => Some(number(port).ok_or_else(|| format!("`{port}` is no port (1 to 65535); {EXAMPLES}"))?),
        None => None,
    };
    Ok((host.to_owned(), port))
}

fn number(port: &str) -> Option<u16> {
    let is_plain = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|port| is_plain && *port > 0)
}

impl Address {
    /// The `Host` header that belongs to it.
    pub(crate) fn authority(&self) -> String {
        match &self.place {
            Place::Tcp { port: 80, host } if self.protocol == Protocol::Http => bracketed(host),
            Place::Tcp { host, port } if self.protocol == Protocol::Http => format!("{}:{port}", bracketed(host)),
            // Whoever listens for FastCGI is asked as a web server would ask it for a visitor of `localhost`.
            Place::Tcp { .. } | Place::Unix(_) | Place::Stdin => "localhost".to_owned(),
        }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// As it is typed, without a path.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.protocol == Protocol::Http { "http://" } else { "" };
        match &self.place {
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
            Place::Stdin => f.write_str("the connection on stdin"),
            Place::Tcp { host, port } => write!(f, "{scheme}{}:{port}", bracketed(host)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Address {
        text.parse().expect(text)
    }

    fn tcp(host: &str, port: u16) -> Place {
        Place::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn the_three_kinds_are_read_and_shown_as_typed() {
        for (text, protocol, place) in [
            ("unix:/run/site.sock", Protocol::Fcgi, Place::Unix("/run/site.sock".into())),
            ("unix:site.sock", Protocol::Fcgi, Place::Unix("site.sock".into())),
            ("127.0.0.1:9000", Protocol::Fcgi, tcp("127.0.0.1", 9000)),
            ("[::1]:9000", Protocol::Fcgi, tcp("::1", 9000)),
            ("localhost:1", Protocol::Fcgi, tcp("localhost", 1)),
            ("http://localhost:8080", Protocol::Http, tcp("localhost", 8080)),
            ("http://[::1]:80", Protocol::Http, tcp("::1", 80)),
        ] {
            let address = read(text);
            assert_eq!((address.protocol, &address.place, &address.path), (protocol, &place, &None), "{text}");
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn an_http_address_has_a_port_and_may_have_a_path() {
        assert_eq!(read("http://site").place, tcp("site", 80));
        assert_eq!(read("http://site/a?b").path.as_deref(), Some("/a?b"));
        assert_eq!(read("http://site?b").path.as_deref(), Some("/?b"));
        assert_eq!(read("http://site/").path.as_deref(), Some("/"));
    }

    #[test]
    fn the_host_header_is_the_address_or_localhost() {
        for (text, authority) in [
            ("http://site", "site"),
            ("http://site:8080", "site:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("10.0.0.1:9000", "localhost"),
            ("unix:/x", "localhost"),
        ] {
            assert_eq!(read(text).authority(), authority, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_says_what_to_type() {
        for (text, told) in [
            ("", "the host is missing"),
            ("9000", "127.0.0.1:9000"),
            (":9000", "the host is missing"),
            ("host", "the port is missing"),
            ("host:", "no port"),
            ("host:0", "no port"),
            ("host:+1", "no port"),
            ("host:65536", "no port"),
            ("::1:9000", "brackets"),
            ("[::1:9000", "`]` is missing"),
            ("[::1]9000", "no address"),
            ("/run/site.sock", "unix:/run/site.sock"),
            ("unix:", "path is missing"),
            ("https://site", "TLS"),
            ("http://", "the host is missing"),
            ("http://a b/", "the host is missing"),
            ("http://a@b/", "Authorization"),
            ("ftp://site", "no address"),
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
