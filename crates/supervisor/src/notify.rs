//! sd_notify(3) to the service manager, if there is one: one datagram, never waiting.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

/// The way to the service manager. Whatever goes wrong on it is no concern of the workers'.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    way: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    /// To the socket that `NOTIFY_SOCKET` names.
    pub(crate) fn from_environment() -> Notify {
        Notify { way: std::env::var_os("NOTIFY_SOCKET").and_then(|name| way(&name)) }
    }

    /// Of every pool it is known whether it serves, and the configuration is settled.
    pub(crate) fn ready(&self) {
        self.say(b"READY=1");
    }

    /// A new configuration is looked at; [`Notify::ready`] follows, whether it is taken or not. systemd believes it only with
    /// a time that is not before its own request (sd_notify(3), MONOTONIC_USEC).
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        self.say(format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1_000).as_bytes());
    }

    /// The end is near.
    pub(crate) fn stopping(&self) {
        self.say(b"STOPPING=1");
    }

    fn say(&self, word: &[u8]) {
        if let Some((socket, address)) = &self.way {
            let _ = socket.send_to_addr(word, address);
        }
    }
}

fn way(name: &OsStr) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest).ok()?,
        [b'/', ..] => SocketAddr::from_pathname(name).ok()?,
        _ => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address))
}
