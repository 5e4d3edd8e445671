//! Addresses that nobody else has, for servers that want to bind by themselves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

/// 127.x.y.z by our own pid (at most 22 bits), and ports that no outgoing connection gets: no two tests can meet, and
/// there is no moment between finding a free port and binding it.
#[must_use]
pub fn address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(10_000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let port = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 64 | high, middle, low)), port)
}
