//! sd_notify(3): how the guard is, to the service manager that started it, if one did. One datagram, never waiting.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    way: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    status: String,
}

impl Notify {
    /// To the socket that `NOTIFY_SOCKET` names.
    pub(crate) fn from_environment() -> Notify {
        let variable = |name| std::env::var(name).ok();
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let micros = variable("WATCHDOG_USEC").and_then(|micros| micros.parse().ok()).filter(|_| is_ours);
        Notify {
            way: std::env::var_os("NOTIFY_SOCKET").and_then(|name| way(&name)),
            watchdog: micros.filter(|micros| *micros > 0).map(Duration::from_micros),
            status: String::new(),
        }
    }

    /// How often a word is expected: half of the time after which the manager would act.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 2)
    }

    /// The sources are being read.
    pub(crate) fn ready(&self) {
        self.say("READY=1");
    }

    /// The loop turns.
    pub(crate) fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// The end is near.
    pub(crate) fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// How it is, in words; the same words are not sent twice.
    pub(crate) fn status(&mut self, words: String) {
        if self.way.is_some() && self.status != words {
            self.say(&format!("STATUS={}", words.replace('\n', " ")));
            self.status = words;
        }
    }

    fn say(&self, word: &str) {
        if let Some((socket, address)) = &self.way {
            let _unheard = socket.send_to_addr(word.as_bytes(), address);
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
