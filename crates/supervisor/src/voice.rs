//! What a process of a pool says to us, and where it is heard: its two pipes and its link. Workers and zygotes alike.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::ioctl_fionread;
use steadfast_policy::ids::{WorkerId, ZygoteId};
use steadfast_policy::time::Instant;
use steadfast_proto::link::{Decoder, FromWorker};

use crate::output::{Held, Lines};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Speaker {
    /// A worker.
    Worker(WorkerId),
    /// A zygote.
    Zygote(ZygoteId),
}

/// One of its two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Its stdout.
    Stdout,
    /// Its stderr.
    Stderr,
}

impl Stream {
    /// For people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Where one process is heard.
pub(crate) struct Voice {
    /// What it says there.
    pub(crate) stdout: Pipe,
    /// What it says there.
    pub(crate) stderr: Pipe,
    /// Its link; `None` when it has none, or was cut off.
    pub(crate) link: Option<Link>,
    /// Bytes that came over the link, also after it was cut off.
    pub(crate) link_bytes: u64,
    /// What it said before it was ready.
    pub(crate) held: Held,
    /// Its last word of failure, or ours of it.
    pub(crate) word: Option<Word>,
    /// The word is its own, and it does nothing but wait for TERM.
    pub(crate) has_said_that_it_leaves: bool,
}

impl Voice {
    /// Of a process that has said nothing yet.
    pub(crate) fn new(stdout: Pipe, stderr: Pipe, link: Option<OwnedFd>, now: Instant) -> Voice {
        let link =
            link.map(|fd| Link { fd, decoder: Decoder::new(), since: now, messages: 0, bytes: 0, warned: false });
        Voice { stdout, stderr, link, link_bytes: 0, held: Held::new(), word: None, has_said_that_it_leaves: false }
    }

    /// One of its pipes.
    pub(crate) fn pipe(&mut self, stream: Stream) -> &mut Pipe {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Bytes that it has written to us so far: stdout, stderr, link.
    pub(crate) fn heard(&self) -> u64 {
        let link = self.link.as_ref().map_or(0, |link| waiting(&link.fd));
        self.stdout.bytes() + self.stderr.bytes() + self.link_bytes + link
    }

    /// Whether it has said something over its link that we have not read.
    pub(crate) fn is_unread(&self) -> bool {
        self.link.as_ref().is_some_and(|link| waiting(&link.fd) > 0)
    }
}

/// A process's stdout or stderr.
pub(crate) struct Pipe {
    /// `None` once it was closed on the other side.
    pub(crate) fd: Option<OwnedFd>,
    /// What came.
    pub(crate) lines: Lines,
}

impl Pipe {
    /// Of a process that has just been spawned.
    pub(crate) fn new(fd: OwnedFd) -> Pipe {
        Pipe { fd: Some(fd), lines: Lines::new() }
    }

    /// Bytes written into it so far, read by us or not.
    fn bytes(&self) -> u64 {
        self.lines.bytes() + self.fd.as_ref().map_or(0, waiting)
    }
}

/// Bytes that wait to be read.
fn waiting(fd: impl AsFd) -> u64 {
    ioctl_fionread(fd).unwrap_or(0)
}

/// A process's link.
#[derive(Debug)]
pub(crate) struct Link {
    /// Our end.
    pub(crate) fd: OwnedFd,
    /// What came.
    pub(crate) decoder: Decoder<FromWorker>,
    /// The second in which `messages` and `bytes` are counted began then.
    pub(crate) since: Instant,
    /// Lines in that second.
    pub(crate) messages: u64,
    /// Bytes in that second.
    pub(crate) bytes: u64,
    /// People have been told that it talks nonsense.
    pub(crate) warned: bool,
}

/// What a process said of its failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word {
    /// The code with which it means to exit.
    pub(crate) code: Option<u8>,
    /// The code's or the dependency's name.
    pub(crate) name: Option<String>,
    /// What happened.
    pub(crate) message: Option<String>,
}
