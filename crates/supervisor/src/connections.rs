//! Sees whether a worker has a connection in hand that came over its pool's listener: proof that it has accepted.
//!
//! Under full load a worker waits in accept(2) for microseconds between two requests, and hardly any look finds it there;
//! what the looks do find is its connection, which has the listener's own address (unix(7): an accepted socket is bound
//! to its listener's path; tcp(7): to its port). For that the socket is duplicated for as long as it takes to ask for
//! its name. Nothing is read from it, and the other side notices nothing.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{SocketAddrAny, getsockname, sockopt};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::children::Pid;

/// So many sockets of a worker are looked at.
const SOCKETS_MAX: usize = 32;

/// Whether it has one now. False also where the kernel does not let us look.
pub(crate) fn has_one(pid: Pid, pidfd: BorrowedFd<'_>) -> bool {
    let mut listeners = Vec::new();
    let mut others = Vec::new();
    for number in sockets(pid) {
        // It may be closed by now, or another file.
        let Ok(socket) = pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        let (Ok(is_listening), Ok(name)) = (sockopt::socket_acceptconn(socket.as_fd()), getsockname(socket.as_fd()))
        else {
            continue;
        };
        if is_listening { listeners.push(name) } else { others.push(name) }
    }
    others.iter().any(|other| listeners.iter().any(|listener| is_accepted(other, listener)))
}

/// Whether one of its fds is a socket that listens; `None` where the kernel does not let us look.
pub(crate) fn is_listener(pidfd: BorrowedFd<'_>, number: i32) -> Option<bool> {
    match pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()) {
        Ok(socket) => Some(sockopt::socket_acceptconn(socket.as_fd()).unwrap_or(false)),
        // It is closed.
        Err(Errno::BADF) => Some(false),
        Err(_) => None,
    }
}

/// The numbers of its fds that are sockets.
fn sockets(pid: Pid) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let numbers = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.starts_with("socket:").then(|| entry.file_name().to_str()?.parse().ok())?
    });
    numbers.take(SOCKETS_MAX).collect()
}

/// Of TCP the port is enough: a listener of all addresses has none of its connections' own.
fn is_accepted(socket: &SocketAddrAny, listener: &SocketAddrAny) -> bool {
    match (SocketAddr::try_from(socket.clone()), SocketAddr::try_from(listener.clone())) {
        (Ok(socket), Ok(listener)) => socket.port() == listener.port(),
        _ => socket == listener,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Command, Stdio};

    use rustix::process::{PidfdFlags, pidfd_open};

    use super::*;

    /// Whether a program that was given these two as fd 0 and 1 is taken for one with a connection in hand.
    fn is_seen(listener: impl Into<OwnedFd>, other: impl Into<OwnedFd>) -> bool {
        let mut child = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::from(listener.into()))
            .stdout(Stdio::from(other.into()))
            .spawn()
            .expect("sleep runs");
        let pid = Pid::new(i32::try_from(child.id()).expect("a pid")).expect("a process");
        let raw = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a process");
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).expect("our child");
        let is_seen = has_one(pid, pidfd.as_fd());
        child.kill().expect("our child");
        child.wait().expect("our child");
        is_seen
    }

    #[test]
    fn an_accepted_connection_is_seen_and_other_sockets_are_not() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("listener");
        let listener = UnixListener::bind(&path)?;
        let client = UnixStream::connect(&path)?;
        let (accepted, _) = listener.accept()?;
        let (pair, _other_end) = UnixStream::pair()?;
        assert!(is_seen(listener.try_clone()?, accepted));
        assert!(!is_seen(listener.try_clone()?, client));
        assert!(!is_seen(listener.try_clone()?, pair));
        assert!(!is_seen(listener.try_clone()?, listener));

        let listener = TcpListener::bind("0.0.0.0:0")?;
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr()?.port()));
        let client = TcpStream::connect(address)?;
        let (accepted, _) = listener.accept()?;
        assert!(is_seen(listener.try_clone()?, accepted));
        assert!(!is_seen(listener, client));
        Ok(())
    }
}
