//! Where lines go, without ever waiting: a bounded queue in front of stderr or journald.
//!
//! stderr is shared with whoever started us, so its O_NONBLOCK is not ours to set. A socket takes MSG_DONTWAIT for each
//! write; a pipe or a terminal is opened once more through /proc/self/fd, which makes a description of our own that may
//! be non-blocking; where that is refused, poll(2) is asked before each piece of at most PIPE_BUF bytes, which a pipe
//! that polls as writable takes whole. A regular file never blocks on a reader.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

/// Bytes that wait at most; then the oldest go.
const QUEUE_MAX: usize = 1024 * 1024;
const PIPE_BUF: usize = 4096;

enum Way {
    /// A description of our own, non-blocking.
    Own(OwnedFd),
    /// A stream socket.
    Socket(OwnedFd),
    /// Somebody's description: asked before each piece.
    Shared(OwnedFd),
    /// Datagrams to a path; connected anew when the peer is.
    Datagram { path: String, socket: Option<OwnedFd> },
}

/// The queue and its way out.
pub struct Sink {
    way: Way,
    queue: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Bytes of the first piece that are written already.
    written: usize,
    dropped: u64,
}

impl Sink {
    /// A stream: stderr, or in tests a pipe.
    pub fn stream(fd: OwnedFd) -> Sink {
        let kind = rustix::fs::fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let way = match kind {
            Ok(FileType::Socket) => Way::Socket(fd),
            Ok(FileType::Fifo | FileType::CharacterDevice) => match reopen(&fd) {
                Some(own) => Way::Own(own),
                None => Way::Shared(fd),
            },
            Ok(_) | Err(_) => Way::Shared(fd),
        };
        Sink::new(way)
    }

    /// Datagrams to a unix socket.
    pub fn datagram(path: &str) -> Sink {
        Sink::new(Way::Datagram { path: path.to_owned(), socket: None })
    }

    fn new(way: Way) -> Sink {
        Sink { way, queue: VecDeque::new(), bytes: 0, written: 0, dropped: 0 }
    }

    /// Queues one piece; without room the oldest go, but never one that is half written.
    pub fn push(&mut self, piece: Vec<u8>) {
        self.bytes += piece.len();
        self.queue.push_back(piece);
        while self.bytes > QUEUE_MAX && self.queue.len() > 2 {
            if let Some(oldest) = self.queue.remove(usize::from(self.written > 0)) {
                self.bytes -= oldest.len();
                self.dropped += 1;
            }
        }
    }

    /// Writes as much as goes without waiting; true when nothing is left.
    pub fn drain(&mut self) -> bool {
        while let Some(first) = self.queue.front() {
            let rest = first.get(self.written..).unwrap_or_default();
            match self.way.write(rest) {
                Ok(count) if self.written + count < first.len() => self.written += count,
                Ok(_) => self.pop(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => return false,
                // journald is away: it will be back.
                Err(Errno::NOENT | Errno::CONNREFUSED | Errno::NOTCONN | Errno::ACCESS) => {
                    return false;
                }
                // A full disk, a reader that is gone, a datagram too big: this piece cannot be written.
                Err(_) => {
                    self.dropped += 1;
                    self.pop();
                }
            }
        }
        true
    }

    fn pop(&mut self) {
        self.written = 0;
        if let Some(piece) = self.queue.pop_front() {
            self.bytes -= piece.len();
        }
    }

    /// What to wait for before the next `drain`, while something is queued. `None` although something waits: there is
    /// nobody to wait for, and the next event tries again.
    pub fn blocked_fd(&self) -> Option<BorrowedFd<'_>> {
        if self.queue.is_empty() { None } else { self.fd() }
    }

    /// Where it writes, whether something waits or not.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.way {
            Way::Own(fd) | Way::Socket(fd) | Way::Shared(fd) => Some(fd.as_fd()),
            Way::Datagram { socket, .. } => socket.as_ref().map(AsFd::as_fd),
        }
    }

    /// How many pieces were dropped since this was asked last.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

impl Way {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match self {
            Way::Own(fd) => rustix::io::write(fd, bytes),
            Way::Socket(fd) => rustix::net::send(fd, bytes, flags),
            Way::Shared(fd) => {
                let mut polled = [PollFd::new(fd, PollFlags::OUT)];
                let none = Timespec { tv_sec: 0, tv_nsec: 0 };
                if rustix::event::poll(&mut polled, Some(&none))? == 0 {
                    return Err(Errno::AGAIN);
                }
                rustix::io::write(&*fd, bytes.get(..PIPE_BUF).unwrap_or(bytes))
            }
            Way::Datagram { path, socket } => {
                let connected = match socket {
                    Some(connected) => connected,
                    None => socket.insert(connect(path)?),
                };
                let sent = rustix::net::send(connected, bytes, flags);
                if matches!(sent, Err(Errno::CONNREFUSED | Errno::NOTCONN | Errno::PIPE | Errno::CONNRESET)) {
                    *socket = None;
                    return rustix::net::send(socket.insert(connect(path)?), bytes, flags);
                }
                sent
            }
        }
    }
}

fn connect(path: &str) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn reopen(fd: &OwnedFd) -> Option<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
