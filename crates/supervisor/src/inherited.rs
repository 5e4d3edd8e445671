//! Sockets that somebody else opened for us: `fd:N`, and `systemd:NAME` by sd_listen_fds(3).

use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};

use rustix::io::Errno;

use crate::listen_error::{Attempt, ListenError};
use crate::listener::{KEPT, Listener};
use crate::sys;

/// The first of systemd's fds.
const FIRST: RawFd = 3;
/// More are not believed.
const COUNT_MAX: RawFd = 1024;
/// The name of an fd without one.
const UNNAMED: &str = "unknown";

/// What LISTEN_FDS promises, and what has been taken of it.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(RawFd, String)>,
    /// Ours, from the life before this one.
    kept: Vec<(RawFd, String)>,
    taken: Vec<RawFd>,
}

impl Inherited {
    /// Reads LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES; they count only when LISTEN_PID is us.
    pub fn from_environment() -> Inherited {
        Inherited::from_variables(std::process::id(), |name| std::env::var_os(name))
    }

    fn from_variables(pid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Inherited {
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let ours = text("LISTEN_PID").is_some_and(|value| value.parse() == Ok(pid));
        let count = text("LISTEN_FDS").and_then(|value| value.parse::<RawFd>().ok()).unwrap_or(0);
        if !ours || !(1..=COUNT_MAX).contains(&count) {
            return Inherited::default();
        }
        let names = text("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(|name| if name.is_empty() { UNNAMED } else { name });
        let sockets = (FIRST..FIRST + count).map(|fd| (fd, names.next().unwrap_or(UNNAMED).to_owned()));
        let (kept, sockets) = sockets.partition(|(_, name): &(RawFd, String)| name.starts_with(KEPT));
        Inherited { sockets, kept, taken: Vec::new() }
    }

    /// The same of an earlier image of ours: what of it is in use already is taken.
    pub(crate) fn taken_over(sockets: Vec<(RawFd, String)>, taken: Vec<RawFd>) -> Inherited {
        Inherited { sockets, kept: Vec::new(), taken }
    }

    /// Numbers and names, and the numbers of those that have been taken.
    pub(crate) fn leave(&self) -> (Vec<(RawFd, String)>, Vec<RawFd>) {
        (self.sockets.clone(), self.taken.clone())
    }

    /// All names, in order, repeats included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sockets.iter().map(|(_, name)| name.as_str())
    }

    /// All sockets of a name.
    pub fn take_systemd(&mut self, name: &str) -> Result<Vec<Listener>, ListenError> {
        let address = format!("systemd:{name}");
        let fds: Vec<RawFd> = self.sockets.iter().filter(|(_, known)| known == name).map(|(fd, _)| *fd).collect();
        if fds.is_empty() {
            return Err(missing(&address));
        }
        fds.into_iter().map(|fd| self.take(fd, &address)).collect()
    }

    /// The names under which something was kept for us.
    pub(crate) fn kept_names(&self) -> impl Iterator<Item = String> + '_ {
        self.kept.iter().map(|(_, name)| name.clone())
    }

    /// The sockets that were kept under a name which this question is true for, each with its name; nobody else gets them.
    pub(crate) fn take_kept(&mut self, is_wanted: impl Fn(&str) -> bool) -> Vec<(OwnedFd, String)> {
        let (wanted, others) = std::mem::take(&mut self.kept).into_iter().partition(|(_, name)| is_wanted(name));
        self.kept = others;
        let wanted: Vec<(RawFd, String)> = wanted;
        wanted.into_iter().filter_map(|(number, name)| Some((sys::inherited_fd(number)?, name))).collect()
    }

    /// The socket with this number.
    pub fn take_fd(&mut self, number: RawFd) -> Result<Listener, ListenError> {
        self.take(number, &format!("fd:{number}"))
    }

    /// Each number once only: two owners would close it twice.
    fn take(&mut self, number: RawFd, address: &str) -> Result<Listener, ListenError> {
        if self.taken.contains(&number) {
            return Err(ListenError::new(address, Attempt::Inherit, Errno::BUSY.into()));
        }
        // 1 and 2 are our own output.
        if number == 1 || number == 2 {
            return Err(missing(address));
        }
        let fd: OwnedFd = sys::inherited_fd(number).ok_or_else(|| missing(address))?;
        let listener = Listener::adopt(fd, address);
        if listener.is_ok() {
            self.taken.push(number);
        }
        listener
    }
}

fn missing(address: &str) -> ListenError {
    ListenError::new(address, Attempt::Inherit, Errno::BADF.into())
}

/// Removes what systemd has said to us alone (sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)) from our environment. At start only, while there is one thread.
pub fn forget_environment() {
    sys::remove_variables(&[
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PIDFDID",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    ]);
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    fn inherited(variables: &[(&str, &str)]) -> Inherited {
        Inherited::from_variables(42, |wanted| {
            variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| OsString::from(value))
        })
    }

    fn names(inherited: &Inherited) -> Vec<&str> {
        inherited.names().collect()
    }

    #[test]
    fn only_what_is_meant_for_this_process_counts() {
        assert_eq!(
            names(&inherited(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "site:ops")])),
            ["site", "ops"]
        );
        for variables in [
            &[("LISTEN_PID", "41"), ("LISTEN_FDS", "2")][..],
            &[("LISTEN_FDS", "2")],
            &[("LISTEN_PID", "42"), ("LISTEN_FDS", "-1")],
            &[("LISTEN_PID", "42"), ("LISTEN_FDS", "99999")],
            &[("LISTEN_PID", "42"), ("LISTEN_FDS", "x")],
            &[("LISTEN_PID", "42")],
        ] {
            assert_eq!(names(&inherited(variables)), [""; 0], "{variables:?}");
        }
        assert_eq!(
            names(&inherited(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", ":")])),
            ["unknown", "unknown"]
        );
    }

    #[test]
    fn a_listening_socket_is_taken_once() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = socket.local_addr().expect("address");
        let number = socket.into_raw_fd();
        let mut inherited = Inherited::default();
        let listener = inherited.take_fd(number).expect("taken");
        assert_eq!(listener.local_address(), Some(address));
        assert_eq!(listener.address(), format!("fd:{number}"));
        assert!(inherited.take_fd(number).is_err());
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let (end, _other) = std::os::unix::net::UnixStream::pair().expect("pair");
        let error = Inherited::default().take_fd(end.as_raw_fd()).expect_err("a stream that does not listen");
        // The refused fd is closed by the refusal; the std owner must not close it again.
        let _closed_already = end.into_raw_fd();
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains("it must be a stream socket that listens"), "{error}");
        let error = Inherited::default().take_fd(9999).expect_err("not open");
        assert!(error.to_string().starts_with("cannot listen on fd:9999: find the inherited socket"), "{error}");
        assert_eq!(error.exit_code(), 78);
        assert!(Inherited::default().take_systemd("site").is_err());
        for number in [-1, 1, 2] {
            assert!(Inherited::default().take_fd(number).is_err(), "{number}");
        }
    }
}
