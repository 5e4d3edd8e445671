//! Addresses as other programs write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `sun_path` (unix(7)).
const PATH_MAX: usize = 107;

/// `unix:PATH`.
///
/// # Errors
/// Why a pool cannot listen there.
pub(crate) fn unix(path: &str) -> Result<String, String> {
    if path.starts_with('@') {
        return Err(format!("the abstract socket {path} has no owner and no mode: name a file instead"));
    }
    if path.is_empty() || path.ends_with('/') || path.len() > PATH_MAX || path.contains(char::is_control) {
        return Err(format!("{path:?} cannot be a socket's path"));
    }
    Ok(format!("unix:{path}"))
}

/// An address and a port.
///
/// # Errors
/// Why a pool cannot listen there.
pub(crate) fn tcp(host: &str, port: &str) -> Result<String, String> {
    let number = port.parse::<u16>().ok().filter(|port| *port > 0);
    let number = number.ok_or_else(|| format!("{port:?} is no port"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let ip = match host {
        "" | "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host
            .parse()
            .map_err(|_| format!("{host:?} is a name: write the address in numbers, as \"192.0.2.1:{number}\""))?,
    };
    Ok(SocketAddr::new(ip, number).to_string())
}

/// `PORT`, `HOST:PORT`, `[V6]:PORT`; `None` for what is none of these.
pub(crate) fn port_or_pair(text: &str, every: &str) -> Option<Result<String, String>> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(tcp(every, text));
    }
    let (host, port) = text.rsplit_once(':')?;
    let is_host = !host.contains('/') && (!host.contains(':') || host.starts_with('['));
    (is_host && port.bytes().all(|byte| byte.is_ascii_digit())).then(|| tcp(host, port))
}

/// Whether other machines could connect.
pub(crate) fn is_open(listen: &str) -> bool {
    listen.parse::<SocketAddr>().is_ok_and(|address| !address.ip().to_canonical().is_loopback())
}

/// The same port for this machine alone.
pub(crate) fn closed(listen: &str) -> Option<String> {
    let address: SocketAddr = listen.parse().ok()?;
    let ip = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
    Some(SocketAddr::new(ip, address.port()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_in_numbers() {
        assert_eq!(tcp("localhost", "9000").as_deref(), Ok("127.0.0.1:9000"));
        assert_eq!(tcp("*", "9000").as_deref(), Ok("0.0.0.0:9000"));
        assert_eq!(tcp("[::1]", "9000").as_deref(), Ok("[::1]:9000"));
        for (host, port) in [("db.example", "1"), ("", "0"), ("", "65536"), ("", "")] {
            tcp(host, port).expect_err("refused");
        }
        unix("@x").expect_err("abstract");
        unix(&"x".repeat(108)).expect_err("too long");
    }

    #[test]
    fn a_pair_is_told_from_a_path() {
        assert_eq!(port_or_pair("9000", "::"), Some(Ok("[::]:9000".into())));
        assert_eq!(port_or_pair("[::1]:9000", ""), Some(Ok("[::1]:9000".into())));
        assert_eq!(port_or_pair("/run/a:1", ""), None);
        assert_eq!(port_or_pair("site.sock", ""), None);
        assert!(is_open("0.0.0.0:1") && !is_open("[::ffff:127.0.0.1]:1") && !is_open("unix:x"));
    }
}
