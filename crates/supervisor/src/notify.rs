//! sd_notify(3) to the service manager, if there is one: one datagram, never waiting.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};
use rustix::time::{ClockId, clock_gettime};

use crate::output::escape;

/// STATUS is for one line of `systemctl status`.
const STATUS_MAX: usize = 1024;
/// More than this need not wait: only the last words of a kind matter.
const UNSAID_MAX: usize = 16;

/// The way to the service manager. Whatever goes wrong on it is no concern of the workers'.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    way: Option<(UnixDatagram, SocketAddr)>,
    /// As rustix wants it, for what goes with an fd.
    address: Option<SocketAddrUnix>,
    watchdog: Option<Duration>,
    status: String,
    /// What must not be lost and found no room.
    unsaid: VecDeque<Vec<u8>>,
    /// The names of what is kept for us.
    stored: BTreeSet<String>,
}

impl Notify {
    /// To the socket that `NOTIFY_SOCKET` names.
    pub(crate) fn from_environment() -> Notify {
        Notify::from_variables(std::process::id(), |name| std::env::var_os(name))
    }

    fn from_variables(pid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Notify {
        let Some(name) = variable("NOTIFY_SOCKET") else {
            return Notify::default();
        };
        let number = |name: &str| variable(name).and_then(|value| value.into_string().ok()?.parse::<u64>().ok());
        // The variables may have been meant for another process (sd_watchdog_enabled(3)).
        let is_meant = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| is_meant && *micros > 0).map(Duration::from_micros);
        Notify { way: way(&name), address: address(&name), watchdog, ..Notify::default() }
    }

    /// Whether there is a service manager.
    pub(crate) fn is_heard(&self) -> bool {
        self.way.is_some()
    }

    /// How often it wants to hear that we live.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.is_heard())
    }

    /// We live.
    pub(crate) fn alive(&self) {
        self.say(b"WATCHDOG=1");
    }

    /// What we are doing takes longer: at least so long from now.
    pub(crate) fn extend(&self, length: Duration) {
        self.say(format!("EXTEND_TIMEOUT_USEC={}", length.as_micros()).as_bytes());
    }

    /// How we are, in words; told only when it is new.
    pub(crate) fn status(&mut self, text: &str) {
        let text = escape(text.as_bytes(), STATUS_MAX);
        if text != self.status {
            self.insist(format!("STATUS={text}").into_bytes());
            self.status = text;
        }
    }

    /// Says again what found no room, in its order. Whether all of it is said.
    pub(crate) fn say_again(&mut self) -> bool {
        while let Some(words) = self.unsaid.pop_front() {
            if !self.say(&words) {
                self.unsaid.push_front(words);
                return false;
            }
        }
        true
    }

    /// Whether something has found no room.
    pub(crate) fn has_unsaid(&self) -> bool {
        !self.unsaid.is_empty()
    }

    fn insist(&mut self, words: Vec<u8>) {
        if (self.unsaid.is_empty() && self.say(&words)) || self.way.is_none() {
            return;
        }
        self.unsaid.push_back(words);
        if self.unsaid.len() > UNSAID_MAX {
            self.unsaid.pop_front();
        }
    }

    /// What an earlier life of ours has left in the store.
    pub(crate) fn found(&mut self, names: impl Iterator<Item = String>) {
        self.stored.extend(names);
    }

    /// What is kept for us.
    pub(crate) fn stored(&self) -> &BTreeSet<String> {
        &self.stored
    }

    /// Keep this fd for whoever comes after us (systemd.service(5), FileDescriptorStoreMax).
    pub(crate) fn store(&mut self, name: &str, fd: BorrowedFd<'_>) {
        let (Some((socket, _)), Some(address)) = (&self.way, &self.address) else {
            return;
        };
        let words = format!("FDSTORE=1\nFDNAME={name}");
        let fds = [fd];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let is_sent = ancillary.push(SendAncillaryMessage::ScmRights(&fds))
            && sendmsg_addr(socket, address, &[IoSlice::new(words.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)
                .is_ok();
        if is_sent {
            self.stored.insert(name.to_owned());
        }
    }

    /// Keep the fds of this name no longer.
    pub(crate) fn forget(&mut self, name: &str) {
        if self.say(format!("FDSTOREREMOVE=1\nFDNAME={name}").as_bytes()) {
            self.stored.remove(name);
        }
    }

    /// Of every pool it is known whether it serves, and the configuration is settled.
    pub(crate) fn ready(&mut self) {
        self.insist(b"READY=1".to_vec());
    }

    /// A new configuration is looked at; [`Notify::ready`] follows, whether it is taken or not. systemd believes it only with
    /// a time that is not before its own request (sd_notify(3), MONOTONIC_USEC).
    pub(crate) fn reloading(&mut self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.insist(format!("RELOADING=1\nMONOTONIC_USEC={micros}").into_bytes());
    }

    /// The end is near.
    pub(crate) fn stopping(&mut self) {
        self.insist(b"STOPPING=1".to_vec());
    }

    /// Whether it was sent.
    fn say(&self, words: &[u8]) -> bool {
        self.way.as_ref().is_some_and(|(socket, address)| socket.send_to_addr(words, address).is_ok())
    }
}

fn address(name: &OsStr) -> Option<SocketAddrUnix> {
    match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddrUnix::new_abstract_name(rest).ok(),
        path => SocketAddrUnix::new(path).ok(),
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
