//! Asks a running supervisor over its control socket and reads the answers, with limits on bytes and on time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use steadfast_proto::control::{self, Answer, Request};
use steadfast_proto::exit::ExitCode;
use steadfast_proto::lines::{ANSWER_MAX, Lines, TooLong};

use crate::failure::{Failure, reason};

/// How long a supervisor may take for an answer that it gives at once.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Unreachable {
    /// No such socket, or nobody listens on it: another place may be tried.
    Absent(String),
    /// There is something, but it cannot be used.
    Failed(Failure),
}

/// A connection, good for one request.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    path: PathBuf,
    lines: Lines,
    /// What was read and not yet cut into lines.
    buffer: Box<[u8]>,
    filled: std::ops::Range<usize>,
    deadline: Option<Instant>,
}

impl Client {
    /// Connects to the socket at `path`, which must belong to this user, to root, or be asked by root.
    ///
    /// # Errors
    /// Whether somebody else might be tried, or what a person must do.
    pub(crate) fn connect(path: &Path) -> Result<Client, Unreachable> {
        let socket = connect(path).map_err(|errno| unreachable(path, errno))?;
        let stream = UnixStream::from(socket);
        let ours = rustix::process::geteuid();
        let peer = net::sockopt::socket_peercred(&stream).map_err(|errno| unreachable(path, errno))?;
        if !(ours.is_root() || peer.uid.is_root() || peer.uid == ours) {
            let message =
                format!("{} is held by the user {}, not by a supervisor of yours", path.display(), peer.uid.as_raw());
            return Err(Unreachable::Failed(
                Failure::new(ExitCode::NotAllowed, message).hint("name the right socket with --control PATH"),
            ));
        }
        Ok(Client {
            stream,
            path: path.to_owned(),
            lines: Lines::new(ANSWER_MAX),
            buffer: vec![0; 64 * 1024].into_boxed_slice(),
            filled: 0..0,
            deadline: None,
        })
    }

    /// Sends the request. Its answers may take until `within` from now; `None` is for ever.
    ///
    /// # Errors
    /// The request makes no sense, or the supervisor does not read it.
    pub(crate) fn ask(&mut self, request: &Request, within: Option<Duration>) -> Result<(), Failure> {
        request.check()?;
        self.deadline = within.map(|within| Instant::now() + within);
        let sent = self.stream.set_write_timeout(Some(AT_ONCE));
        let sent = sent.and_then(|()| self.stream.write_all(&control::encode_request(request)));
        match sent {
            // A supervisor that refuses a peer may say so and close before it has read a word.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(self.failure("send the request to", &error)),
            Ok(()) => Ok(()),
        }
    }

    /// The next answer and its line as it came, `None` at the end of the stream.
    ///
    /// # Errors
    /// Nothing came in time, or what came is no answer.
    pub(crate) fn next(&mut self) -> Result<Option<(Answer, Vec<u8>)>, Failure> {
        loop {
            let mut input = &self.buffer[self.filled.clone()];
            let before = input.len();
            let line = self.lines.next(&mut input).map(|line| line.map(<[u8]>::to_vec));
            self.filled.start += before - input.len();
            match line {
                Some(Ok(line)) => {
                    let answer = control::decode_answer(&line).map_err(|why| self.strange(&why))?;
                    return Ok(Some((answer, line)));
                }
                Some(Err(TooLong)) => return Err(self.strange("a line that is too long")),
                None if self.read()? => {}
                None if self.lines.is_incomplete() => {
                    return Err(self.strange("it ends in the middle of a line"));
                }
                None => return Ok(None),
            }
        }
    }

    /// The last answer; those before it, if any, are given to `meanwhile`.
    ///
    /// # Errors
    /// As [`Client::next`], or what the supervisor refused, or no final answer.
    pub(crate) fn finish(
        &mut self,
        mut meanwhile: impl FnMut(Answer, &[u8]) -> Result<(), Failure>,
    ) -> Result<(Answer, Vec<u8>), Failure> {
        while let Some((answer, line)) = self.next()? {
            match answer {
                Answer::Error(refusal) => return Err(refusal.into()),
                answer if answer.is_final() => return Ok((answer, line)),
                answer => meanwhile(answer, &line)?,
            }
        }
        let message = format!("the supervisor on {} closed the connection before it had answered", self.path.display());
        Err(Failure::new(ExitCode::Failed, message).hint("it may be stopping; look at its messages"))
    }

    /// The connection, to be waited for.
    pub(crate) const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether bytes lie here that were read already.
    pub(crate) const fn has_bytes(&self) -> bool {
        self.filled.start < self.filled.end
    }

    /// Fills the buffer; false at the end of the stream.
    fn read(&mut self) -> Result<bool, Failure> {
        let left = match self.deadline {
            None => None,
            Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => Some(left),
                _ => return Err(self.late()),
            },
        };
        let read = self.stream.set_read_timeout(left).and_then(|()| (&self.stream).read(&mut self.buffer));
        match read {
            Ok(count) => {
                self.filled = 0..count;
                Ok(count > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(self.late()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.read(),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(self.failure("read the answer of", &error)),
        }
    }

    fn late(&self) -> Failure {
        let message = format!("the supervisor on {} has not answered in time", self.path.display());
        Failure::new(ExitCode::TimedOut, message)
            .hint("it may be suspended or starved of processor time; its workers serve without it")
    }

    fn strange(&self, why: &str) -> Failure {
        let message = format!("the answer from {} is not understood: {why}", self.path.display());
        Failure::new(ExitCode::Failed, message).hint("use the `steadfast` program that runs the supervisor")
    }

    fn failure(&self, what: &str, error: &io::Error) -> Failure {
        let message = format!("cannot {what} the supervisor on {}: {}", self.path.display(), reason(error));
        Failure::new(ExitCode::Failed, message).hint("try again; if it lasts, look at the supervisor's messages")
    }
}

/// Connects without ever waiting: connect(2) to a unix socket whose backlog is full would block for ever.
fn connect(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let connected = match SocketAddrUnix::new(path) {
        // A path too long for a socket address can still be reached through a descriptor of its directory.
        Err(Errno::NAMETOOLONG) => {
            let directory = File::open(path.parent().unwrap_or(Path::new("/"))).map_err(|error| errno_of(&error))?;
            let name = path.file_name().unwrap_or_default();
            let short = Path::new("/proc/self/fd").join(std::os::fd::AsRawFd::as_raw_fd(&directory).to_string());
            net::connect(&socket, &SocketAddrUnix::new(short.join(name))?)
        }
        address => net::connect(&socket, &address?),
    };
    connected?;
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(socket)
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn unreachable(path: &Path, errno: Errno) -> Unreachable {
    let path = path.display();
    match errno {
        Errno::NOENT | Errno::NOTDIR => Unreachable::Absent(format!("{path} (does not exist)")),
        Errno::CONNREFUSED => Unreachable::Absent(format!("{path} (left behind: nobody listens on it)")),
        Errno::ACCESS | Errno::PERM => Unreachable::Failed(
            Failure::new(ExitCode::NotAllowed, format!("this user may not connect to {path}"))
                .hint("become the user who runs the supervisor, for example with `sudo`"),
        ),
        Errno::AGAIN => Unreachable::Failed(
            Failure::new(ExitCode::TimedOut, format!("the supervisor on {path} takes no more connections"))
                .hint("it is suspended, or too many clients ask it; try again"),
        ),
        other => {
            let why = reason(&io::Error::from(other));
            Unreachable::Failed(
                Failure::new(ExitCode::Failed, format!("cannot connect to {path}: {why}"))
                    .hint("name the supervisor's socket with --control PATH"),
            )
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
