//! Connects to an address, and says what was wrong when nobody takes the connection.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use steadfast_proto::exit::ExitCode;

use super::address::{Address, Place};
use crate::failure::{Failure, reason};

/// An address as connect(2) takes it.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Unix(SocketAddrUnix),
    Tcp(SocketAddr),
    /// Connected already.
    Stdin,
}

impl Target {
    fn socket(&self, flags: SocketFlags) -> Result<OwnedFd, Errno> {
        let family = match self {
            Target::Unix(_) => AddressFamily::UNIX,
            Target::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
            Target::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
            Target::Stdin => return inherited(),
        };
        let socket = net::socket_with(family, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)?;
        if matches!(self, Target::Tcp(_)) {
            sockopt::set_tcp_nodelay(&socket, true)?;
        }
        Ok(socket)
    }

    fn join(&self, socket: &OwnedFd) -> Result<(), Errno> {
        match self {
            Target::Unix(path) => net::connect(socket, path),
            Target::Tcp(address) => net::connect(socket, address),
            Target::Stdin => Ok(()),
        }
    }

    /// A socket that never blocks, connected or still connecting (TCP): then it can be written when it is.
    ///
    /// # Errors
    /// connect(2)'s; EAGAIN: the queue of a unix socket's listener is full.
    pub(crate) fn dial(&self) -> Result<OwnedFd, Errno> {
        let socket = self.socket(SocketFlags::NONBLOCK)?;
        match self.join(&socket) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error),
        }
    }

    /// A connected socket that never blocks. Waits where the listener's queue is full, too.
    ///
    /// # Errors
    /// connect(2)'s; EAGAIN and EINPROGRESS: the time has passed.
    pub(crate) fn connect_within(&self, within: Duration) -> Result<OwnedFd, Errno> {
        let socket = self.socket(SocketFlags::empty())?;
        // Zero would be for ever.
        sockopt::set_socket_timeout(&socket, Timeout::Send, Some(within.max(Duration::from_millis(1))))?;
        self.join(&socket)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(socket)
    }
}

/// The connection that stdin is.
fn inherited() -> Result<OwnedFd, Errno> {
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    // NOTSOCK for whatever else it is.
    sockopt::socket_type(&socket)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// What an address stands for: one for a unix socket, as many as its host has otherwise, never none.
///
/// # Errors
/// The path is too long for a socket, or the host is not known.
pub(crate) fn targets(address: &Address) -> Result<Vec<Target>, Failure> {
    let failed = |why: &str, hint: &str| {
        Failure::new(ExitCode::Failed, format!("cannot connect to {address}: {why}")).hint(hint)
    };
    match &address.place {
        Place::Unix(path) => {
            let target = SocketAddrUnix::new(path.as_path()).map_err(|_| {
                failed("a unix socket's path may have at most 107 bytes", "go there and name it shorter")
            })?;
            Ok(vec![Target::Unix(target)])
        }
        Place::Stdin => Ok(vec![Target::Stdin]),
        Place::Tcp { host, port } => {
            let hint = "write the host's number, or mend the name's entry";
            let found = (host.as_str(), *port).to_socket_addrs().map_err(|error| failed(&reason(&error), hint))?;
            let found: Vec<Target> = found.map(Target::Tcp).collect();
            if found.is_empty() { Err(failed("its host has no number", hint)) } else { Ok(found) }
        }
    }
}

/// Why there is no connection, and what to do.
pub(crate) fn failure(address: &Address, errno: Errno) -> Failure {
    let is_unix = matches!(address.place, Place::Unix(_));
    let why = match errno {
        Errno::NOENT => "there is no such socket".to_owned(),
        Errno::CONNREFUSED => "nobody listens there (connection refused)".to_owned(),
        Errno::AGAIN => "its queue is full, and nobody takes a connection out of it".to_owned(),
        Errno::INPROGRESS | Errno::TIMEDOUT => "no answer from its host".to_owned(),
        Errno::PROTOTYPE => "the socket is no stream socket".to_owned(),
        Errno::MFILE | Errno::NFILE => "too many files are open".to_owned(),
        errno => reason(&io::Error::from(errno)),
    };
    let (code, hint) = match errno {
        Errno::ACCESS | Errno::PERM => {
            (ExitCode::NotAllowed, "become a user who may connect to it, for example the web server's, with `sudo -u`")
        }
        Errno::AGAIN => (ExitCode::TimedOut, "its workers are busy, hang, or are gone: look at `steadfast status`"),
        Errno::INPROGRESS | Errno::TIMEDOUT => (ExitCode::TimedOut, "look at the host, and at a firewall between"),
        Errno::MFILE | Errno::NFILE => (ExitCode::Failed, "take fewer connections, or raise the limit: `ulimit -n`"),
        Errno::NOENT | Errno::CONNREFUSED if is_unix => {
            (ExitCode::Failed, "start the application, or look for the socket with `ss -lx`")
        }
        _ => (ExitCode::Failed, "start the application, or look for the port with `ss -ltn`"),
    };
    Failure::new(code, format!("cannot connect to {address}: {why}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn first(address: &str) -> Target {
        targets(&address.parse().expect("an address")).expect("known").remove(0)
    }

    #[test]
    fn each_kind_of_listener_is_reached() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let _unix = UnixListener::bind(&path).expect("a socket");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = tcp.local_addr().expect("bound").port();
        for address in [format!("unix:{}", path.display()), format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
            let target = targets(&address.parse().expect("an address")).expect("known");
            let reached = target.iter().any(|target| target.connect_within(Duration::from_secs(5)).is_ok());
            assert!(reached, "{address}");
            assert!(target.iter().any(|target| target.dial().is_ok()), "{address}");
        }
    }

    #[test]
    fn a_full_queue_is_waited_for_or_told_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let socket = net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        net::bind(&socket, &SocketAddrUnix::new(&path).expect("short")).expect("bound");
        net::listen(&socket, 0).expect("listens");
        let target = first(&format!("unix:{}", path.display()));
        let _first = target.dial().expect("one fits");
        assert_eq!(target.dial().expect_err("full"), Errno::AGAIN);
        assert_eq!(target.connect_within(Duration::from_millis(10)).expect_err("full"), Errno::AGAIN);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_exit_code() {
        let address: Address = "unix:/nowhere/s".parse().expect("an address");
        let errno = first("unix:/nowhere/s").dial().expect_err("nobody");
        let failure = super::failure(&address, errno);
        assert_eq!(failure.message, "cannot connect to unix:/nowhere/s: there is no such socket");
        assert_eq!((failure.code, failure.hint.is_some()), (ExitCode::Failed, true));
        assert_eq!(super::failure(&address, Errno::ACCESS).code, ExitCode::NotAllowed);
        assert_eq!(super::failure(&address, Errno::AGAIN).code, ExitCode::TimedOut);
        let long = format!("unix:/{}", "x".repeat(200)).parse().expect("an address");
        assert!(targets(&long).expect_err("too long").message.contains("107"));
    }
}
