//! sd_notify(3) to the service manager, if there is one: one datagram, never waiting.
//!
//! The manager may be busy, and its socket full. What it must know is said again then, the last word of each sort. Where
//! nobody listens at all, nothing is kept for anybody.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};
use rustix::time::{ClockId, clock_gettime};

use crate::output::escape;

/// STATUS is for one line of `systemctl status`.
const STATUS_MAX: usize = 1024;

/// What must not be lost: of each sort only the last word matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Ready,
    Reloading,
    Stopping,
    Status,
}

/// What became of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It was sent.
    Sent,
    /// There is no room for it now.
    Full,
    /// Nobody hears it, now or later.
    Unheard,
}

/// The way to the service manager. Whatever goes wrong on it is no concern of the workers'.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    way: Option<(UnixDatagram, SocketAddr)>,
    /// As rustix wants it, for what goes with an fd.
    address: Option<SocketAddrUnix>,
    watchdog: Option<Duration>,
    status: String,
    /// What must not be lost and found no room.
    unsaid: VecDeque<(Sort, Vec<u8>)>,
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
        // The next one comes in time.
        let _ = self.say(b"WATCHDOG=1");
    }

    /// What we are doing takes longer: at least so long from now.
    pub(crate) fn extend(&self, length: Duration) {
        // It is asked again.
        let _ = self.say(format!("EXTEND_TIMEOUT_USEC={}", length.as_micros()).as_bytes());
    }

    /// How we are, in words; told only when it is new.
    pub(crate) fn status(&mut self, text: &str) {
        let text = escape(text.as_bytes(), STATUS_MAX);
        if text != self.status {
            self.insist(Sort::Status, format!("STATUS={text}").into_bytes());
            self.status = text;
        }
    }

    /// Says again what found no room, in its order.
    pub(crate) fn say_again(&mut self) {
        while let Some((_, words)) = self.unsaid.front() {
            if self.say(words) == Said::Full {
                return;
            }
            self.unsaid.pop_front();
        }
    }

    /// Whether something has found no room.
    pub(crate) fn has_unsaid(&self) -> bool {
        !self.unsaid.is_empty()
    }

    fn insist(&mut self, sort: Sort, words: Vec<u8>) {
        self.unsaid.retain(|(other, _)| *other != sort);
        self.unsaid.push_back((sort, words));
        self.say_again();
    }

    /// What an earlier life of ours has left in the store.
    pub(crate) fn found(&mut self, names: impl Iterator<Item = String>) {
        self.stored.extend(names);
    }

    /// What is kept for us.
    pub(crate) fn stored(&self) -> &BTreeSet<String> {
        &self.stored
    }

    /// Keep this fd for whoever comes after us (systemd.service(5), FileDescriptorStoreMax). Without FDPOLL=0 the manager would
    /// let go of a listener that a worker has shut down, and that listens again.
    pub(crate) fn store(&mut self, name: &str, fd: BorrowedFd<'_>) -> Said {
        let (Some((socket, _)), Some(address)) = (&self.way, &self.address) else {
            return Said::Unheard;
        };
        let words = format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}");
        let fds = [fd];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        let words = [IoSlice::new(words.as_bytes())];
        let said = said(sendmsg_addr(socket, address, &words, &mut ancillary, SendFlags::NOSIGNAL));
        if said == Said::Sent {
            self.stored.insert(name.to_owned());
        }
        said
    }

    /// Keep the fds of this name no longer.
    pub(crate) fn forget(&mut self, name: &str) -> Said {
        let said = self.say(format!("FDSTOREREMOVE=1\nFDNAME={name}").as_bytes());
        if said != Said::Full {
            self.stored.remove(name);
        }
        said
    }

    /// Of every pool it is known whether it serves, and the configuration is settled.
    pub(crate) fn ready(&mut self) {
        self.insist(Sort::Ready, b"READY=1".to_vec());
    }

    /// A new configuration is looked at; [`Notify::ready`] follows, whether it is taken or not. systemd believes it only with
    /// a time that is not before its own request (sd_notify(3), MONOTONIC_USEC).
    pub(crate) fn reloading(&mut self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.insist(Sort::Reloading, format!("RELOADING=1\nMONOTONIC_USEC={micros}").into_bytes());
    }

    /// The end is near.
    pub(crate) fn stopping(&mut self) {
        self.insist(Sort::Stopping, b"STOPPING=1".to_vec());
    }

    fn say(&self, words: &[u8]) -> Said {
        let Some((socket, address)) = &self.way else {
            return Said::Unheard;
        };
        said(socket.send_to_addr(words, address))
    }
}

fn said<T, E: Into<std::io::Error>>(sent: Result<T, E>) -> Said {
    match sent.map_err(Into::into) {
        Ok(_) => Said::Sent,
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::INTR) => Said::Full,
            _ => Said::Unheard,
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager, the way to it, and how it hears.
    fn manager(scene: &tempfile::TempDir) -> (UnixDatagram, Notify) {
        let path = scene.path().join("manager");
        let socket = UnixDatagram::bind(&path).expect("the directory is ours");
        socket.set_nonblocking(true).expect("a socket");
        let notify = Notify::from_variables(1, |name| (name == "NOTIFY_SOCKET").then(|| path.clone().into()));
        (socket, notify)
    }

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut words = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = socket.recv(&mut buffer) {
            words.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        words
    }

    fn fill(notify: &Notify) {
        while notify.say(b"NOISE=1") == Said::Sent {}
    }

    #[test]
    fn however_much_is_told_while_there_is_no_room_ready_is_not_lost() {
        let scene = tempfile::tempdir().expect("a directory");
        let (socket, mut notify) = manager(&scene);
        fill(&notify);
        notify.ready();
        for number in 0..1000 {
            notify.status(&format!("state {number}"));
        }
        assert!(notify.has_unsaid());
        let _noise = heard(&socket);
        notify.say_again();
        assert!(!notify.has_unsaid());
        assert_eq!(heard(&socket), ["READY=1", "STATUS=state 999"]);
    }

    #[test]
    fn the_end_of_a_reload_is_told_behind_its_beginning() {
        let scene = tempfile::tempdir().expect("a directory");
        let (socket, mut notify) = manager(&scene);
        fill(&notify);
        notify.ready();
        notify.reloading();
        notify.ready();
        let _noise = heard(&socket);
        notify.say_again();
        let heard = heard(&socket);
        assert!(heard[0].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
        assert_eq!(heard[1..], ["READY=1"]);
    }

    #[test]
    fn a_socket_that_finds_no_room_in_the_store_is_not_taken_for_kept() {
        let scene = tempfile::tempdir().expect("a directory");
        let (socket, mut notify) = manager(&scene);
        fill(&notify);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let fd = std::os::fd::AsFd::as_fd(&listener);
        assert_eq!(notify.store("x", fd), Said::Full);
        assert!(notify.stored().is_empty());
        let _noise = heard(&socket);
        assert_eq!(notify.store("x", fd), Said::Sent);
        assert_eq!(heard(&socket), ["FDSTORE=1\nFDPOLL=0\nFDNAME=x"]);
        fill(&notify);
        assert_eq!(notify.forget("x"), Said::Full);
        assert!(notify.stored().contains("x"), "it is kept until the manager has heard");
    }

    #[test]
    fn nothing_waits_for_a_manager_that_is_gone() {
        let scene = tempfile::tempdir().expect("a directory");
        let (socket, mut notify) = manager(&scene);
        drop(socket);
        notify.ready();
        notify.status("all is well");
        assert!(!notify.has_unsaid());
        std::fs::remove_file(scene.path().join("manager")).expect("it is there");
        notify.stopping();
        assert!(!notify.has_unsaid());
    }
}
