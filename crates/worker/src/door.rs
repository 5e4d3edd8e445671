//! Where requests come in: the listening socket that this process was started with, or a CGI program's stdin.

use std::env;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, accept_with, acceptfrom_with, sockopt};

use crate::sys;

/// The first of the sockets that come by sd_listen_fds(3).
const LISTEN_FDS_START: i32 = 3;

/// What fd 0 is, or the environment says.
#[derive(Debug)]
pub(crate) enum Door {
    /// A listening socket.
    FastCgi(Listener),
    /// One request: its parameters are in the environment, its body comes on stdin, the answer goes to stdout.
    Cgi,
}

/// A listening socket, and who may connect.
#[derive(Debug)]
pub(crate) struct Listener {
    /// `None`: fd 0 itself, so that at SIGTERM nothing of it stays open.
    owned: Option<OwnedFd>,
    /// Started by hand: nobody else accepts here.
    #[cfg_attr(not(feature = "tower"), expect(dead_code, reason = "a program of one protocol needs not ask"))]
    pub(crate) is_by_hand: bool,
    /// `FCGI_WEB_SERVER_ADDRS`: nobody else may (FastCGI 1.0 §3.2).
    allowed: Option<Vec<IpAddr>>,
}

/// Finds it. `fallback` is where to listen when started by hand: `HOST:PORT`, or the path of a unix socket. `scheme` stands
/// before the address when it is told.
///
/// # Errors
/// There is none; the message says how such a program is started.
pub(crate) fn find(fallback: Option<&str>, scheme: &str) -> Result<Door, String> {
    if let Some(count) = listen_fds() {
        if count != 1 {
            return Err(format!("LISTEN_FDS names {count} sockets: this worker accepts on one"));
        }
        let socket = sys::adopt(LISTEN_FDS_START).filter(|fd| is_listening(fd.as_fd()));
        let socket = socket.ok_or("LISTEN_FDS names one socket, but fd 3 is none that listens")?;
        return Ok(Door::FastCgi(Listener::new(Some(socket), false)));
    }
    let stdin = io::stdin();
    if is_listening(stdin.as_fd()) {
        return Ok(Door::FastCgi(Listener::new(None, false)));
    }
    if ["GATEWAY_INTERFACE", "REQUEST_METHOD"].iter().any(|name| env::var_os(name).is_some()) {
        return Ok(Door::Cgi);
    }
    match fallback {
        Some(address) => {
            let socket = listen(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
            crate::link::complain(&format!("listening on {scheme}{}", describe(socket.as_fd(), address)));
            Ok(Door::FastCgi(Listener::new(Some(socket), true)))
        }
        None => {
            Err("this is a FastCGI worker, and fd 0 is no socket that it could accept on. A process manager starts \
                     it: steadfast run --listen 127.0.0.1:9000 -- PROGRAM"
                .to_owned())
        }
    }
}

/// How many sockets came by `LISTEN_FDS`, if they are meant for this process.
fn listen_fds() -> Option<u32> {
    let number = |name| env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID")? == std::process::id() { number("LISTEN_FDS").filter(|count| *count > 0) } else { None }
}

fn is_listening(fd: BorrowedFd<'_>) -> bool {
    sockopt::socket_acceptconn(fd).unwrap_or(false)
}

fn listen(address: &str) -> io::Result<OwnedFd> {
    if address.contains('/') {
        // A socket that nobody listens on any more is in the way.
        if std::os::unix::net::UnixStream::connect(address).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
        {
            std::fs::remove_file(address)?;
        }
        return std::os::unix::net::UnixListener::bind(address).map(OwnedFd::from);
    }
    std::net::TcpListener::bind(address).map(OwnedFd::from)
}

/// The port may have been 0, which means any.
fn describe(socket: BorrowedFd<'_>, address: &str) -> String {
    let own = rustix::net::getsockname(socket).ok().and_then(|own| std::net::SocketAddr::try_from(own).ok());
    own.map_or_else(|| address.to_owned(), |own| own.to_string())
}

impl Listener {
    fn new(owned: Option<OwnedFd>, is_by_hand: bool) -> Listener {
        let list = env::var_os("FCGI_WEB_SERVER_ADDRS").filter(|list| !list.is_empty());
        // What cannot be read is no address, and lets nobody in.
        let parse = |list: &str| list.split(',').filter_map(|address| address.trim().parse().ok()).collect();
        let allowed = list.map(|list| parse(&list.to_string_lossy()));
        Listener { owned, is_by_hand, allowed }
    }

    /// Nobody is accepted any more. `nothing` is an open /dev/null, which becomes fd 0.
    #[cfg(feature = "tower")]
    pub(crate) fn close(self, nothing: BorrowedFd<'_>) {
        if self.owned.is_none() {
            // It cannot fail: both fds are open.
            let _ = sys::replace(nothing, 0);
        }
    }

    pub(crate) fn with<T>(&self, use_it: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match &self.owned {
            Some(fd) => use_it(fd.as_fd()),
            None => use_it(io::stdin().as_fd()),
        }
    }

    /// The next connection, made with `flags`; `None` if it was one that is not let in. `Errno::AGAIN` of a socket that does
    /// not block says that there is none yet.
    pub(crate) fn accept_with(&self, flags: SocketFlags) -> Result<Option<OwnedFd>, Errno> {
        self.with(|fd| match &self.allowed {
            None => accept_with(fd, flags).map(Some),
            Some(allowed) => acceptfrom_with(fd, flags)
                .map(|(connection, peer)| Some(connection).filter(|_| is_allowed(allowed, peer))),
        })
    }

    /// The next connection; `None` if there is none yet, or it was one that is not let in.
    pub(crate) fn accept(&self) -> Result<Option<OwnedFd>, Errno> {
        match self.accept_with(SocketFlags::CLOEXEC) {
            Err(Errno::INTR) => Ok(None),
            // Somebody else has it, or has made the socket non-blocking for all of us.
            Err(Errno::AGAIN) => {
                let is_shut_down = self.with(|fd| {
                    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
                    poll(&mut fds, None).or_else(ignore_interruption)?;
                    Ok(fds[0].revents().contains(PollFlags::HUP))
                })?;
                // Of a unix socket that does not block the kernel says for ever that there is nobody.
                if is_shut_down { Err(Errno::INVAL) } else { Ok(None) }
            }
            result => result,
        }
    }
}

fn ignore_interruption(errno: Errno) -> Result<usize, Errno> {
    if errno == Errno::INTR { Ok(0) } else { Err(errno) }
}

/// A list of addresses lets nobody in by a unix socket: such a peer has none.
fn is_allowed(allowed: &[IpAddr], peer: Option<SocketAddrAny>) -> bool {
    let Some(peer) = peer.filter(|peer| [AddressFamily::INET, AddressFamily::INET6].contains(&peer.address_family()))
    else {
        return false;
    };
    std::net::SocketAddr::try_from(peer).is_ok_and(|peer| allowed.contains(&peer.ip().to_canonical()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_connect() {
        let allowed = ["127.0.0.1".parse().expect("an address")];
        let peer = |text: &str| Some(text.parse::<std::net::SocketAddr>().expect("an address").into());
        assert!(is_allowed(&allowed, peer("127.0.0.1:1")));
        assert!(is_allowed(&allowed, peer("[::ffff:127.0.0.1]:1")));
        assert!(!is_allowed(&allowed, peer("127.0.0.2:1")));
        assert!(!is_allowed(&allowed, None));
        assert!(!is_allowed(&[], peer("127.0.0.1:1")));
    }

    #[test]
    fn a_stale_socket_is_no_obstacle_and_a_living_one_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("app.sock");
        let path = path.to_str().expect("UTF-8");
        drop(listen(path).expect("the first time"));
        let second = listen(path).expect("nobody listens there any more");
        assert_eq!(listen(path).expect_err("somebody does").kind(), io::ErrorKind::AddrInUse);
        drop(second);
    }
}
