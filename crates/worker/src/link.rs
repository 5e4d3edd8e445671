//! The link to the supervisor: what is said over it, and the delayed exit (docs/link.md).

use std::env;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};
use steadfast_proto::link::{
    self, Decoder, Failure as Message, FromWorker, Hello, Role, ToWorker, Unavailable, VERSION,
};
use steadfast_proto::text::{TEXT_MAX, shorten};

use crate::failure::{Consequence, Failure};
use crate::sys;

/// So long a worker that cannot go on waits for SIGTERM.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// The link, or nothing at all under a manager that has none: then nothing is said and nothing heard.
#[derive(Debug, Default)]
pub(crate) struct Link {
    socket: Option<UnixStream>,
    decoder: Option<Decoder<ToWorker>>,
    has_ended: bool,
    said_hello: bool,
}

/// What this process was started as (`STEADFAST_ROLE`).
pub(crate) fn role() -> Role {
    match env::var_os("STEADFAST_ROLE") {
        Some(role) if role == "zygote" => Role::Zygote,
        _ => Role::Worker,
    }
}

impl Link {
    /// The one that this process was started with.
    pub(crate) fn adopt() -> Link {
        let number = env::var("STEADFAST_LINK").ok().and_then(|text| text.parse().ok());
        // It keeps its number, by which the supervisor knows it. A program that this worker starts does not get it, nor its name:
        // nobody must speak in this worker's name.
        let socket = number.and_then(sys::adopt).filter(|socket| rustix::net::sockopt::socket_type(socket).is_ok());
        let Some(socket) = socket else {
            return Link::default();
        };
        sys::set_variable("STEADFAST_LINK", None);
        Link::new(UnixStream::from(socket))
    }

    pub(crate) fn new(socket: UnixStream) -> Link {
        Link { socket: Some(socket), ..Link::default() }
    }

    /// Whether there is somebody at the other end, as far as we know.
    pub(crate) fn is_open(&self) -> bool {
        self.socket.is_some() && !self.has_ended
    }

    /// A copy of its socket, to be waited for together with others: it becomes readable when there is something to hear.
    #[cfg(feature = "tower")]
    pub(crate) fn copy(&self) -> Option<OwnedFd> {
        self.socket.as_ref()?.try_clone().ok().map(OwnedFd::from)
    }

    /// The first word; once.
    pub(crate) fn hello(&mut self, role: Role, concurrency: u32) {
        if !std::mem::replace(&mut self.said_hello, true) {
            self.say(&FromWorker::Hello(Hello { version: VERSION, pid: std::process::id(), role, concurrency }));
        }
    }

    pub(crate) fn say(&mut self, message: &FromWorker) {
        let Some(socket) = self.socket.as_ref().filter(|_| !self.has_ended) else {
            return;
        };
        let Some(line) = link::encode(message) else {
            return;
        };
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            match rustix::net::send(socket, rest, SendFlags::NOSIGNAL) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(socket, PollFlags::OUT)], None);
                }
                Err(_) => {
                    self.has_ended = true;
                    return;
                }
            }
        }
    }

    /// What has been said to us, until `deadline`. Empty when the time is over, a signal came, or the link has ended.
    pub(crate) fn hear(&mut self, deadline: Option<Instant>) -> Vec<ToWorker> {
        let Some(socket) = self.socket.as_ref().filter(|_| !self.has_ended) else {
            return Vec::new();
        };
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        if !matches!(poll(&mut [PollFd::new(socket, PollFlags::IN)], timeout.as_ref()), Ok(1..)) {
            return Vec::new();
        }
        let mut bytes = [0; 4096];
        let got = match rustix::net::recv(socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                self.has_ended = true;
                0
            }
            Ok((got, _)) => got,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => 0,
            Err(_) => {
                self.has_ended = true;
                0
            }
        };
        let mut input = bytes.get(..got).unwrap_or_default();
        let decoder = self.decoder.get_or_insert_with(Decoder::new);
        let mut messages = Vec::new();
        // What cannot be understood is a newer supervisor's.
        while let Some(message) = decoder.next(&mut input) {
            messages.extend(message);
        }
        messages
    }

    /// Says why this process cannot go on, and waits for SIGTERM, at most 10 s: meanwhile the supervisor decides about the
    /// others. Without a link the reason goes to stderr only, and nobody is waited for.
    pub(crate) fn leave_with(&mut self, role: Role, failure: &Failure) -> u8 {
        let code = failure.code();
        complain(&failure.message);
        if self.is_open() {
            // The code is the answer, not the signal.
            let _ = sys::handle_term();
        }
        self.hello(role, 1);
        // A line that is too long would not be said at all.
        let mut text = failure.message.clone();
        shorten(&mut text, TEXT_MAX);
        let message =
            |name: &Option<String>| Message { code: Some(code), name: name.clone(), message: Some(text.clone()) };
        self.say(&match &failure.consequence {
            Consequence::Request => FromWorker::Failed(message(&crate::codes::name(code).map(str::to_owned))),
            Consequence::Failed { name, .. } => FromWorker::Failed(message(name)),
            Consequence::Broken { name, .. } => FromWorker::Broken(message(name)),
            Consequence::Unavailable { name, retry_after } => FromWorker::Unavailable(Unavailable {
                name: Some(name.clone()),
                message: Some(text.clone()),
                retry_after_ms: retry_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            }),
        });
        if matches!(failure.consequence, Consequence::Unavailable { .. }) {
            // There is nothing to decide: the next start comes later.
            return code;
        }
        let deadline = Instant::now() + DELAY_MAX;
        while let Some(socket) = self.socket.as_ref().filter(|_| !self.has_ended && Instant::now() < deadline) {
            let socket = socket.as_fd().as_raw_fd();
            sys::watch_idle(socket);
            let is_over = sys::is_terminated() || self.hear(Some(deadline)).contains(&ToWorker::Quit);
            sys::unwatch(socket);
            if is_over {
                break;
            }
        }
        code
    }
}

/// A line to stderr, which may be closed or on a full disk: that is no reason to fail.
pub(crate) fn complain(message: &str) {
    let program = env::args_os().next();
    let program = program.as_deref().map(std::path::Path::new).and_then(std::path::Path::file_name);
    let program = program.unwrap_or_default().to_string_lossy();
    // In one piece: many workers may write to the same stderr.
    let _ = io::stderr().write_all(format!("{program}: {message}\n").as_bytes());
}

/// Connects a forked worker's own link.
pub(crate) fn connect(path: &str) -> io::Result<Link> {
    let stream = UnixStream::connect(path)?;
    Ok(Link::new(UnixStream::from(OwnedFd::from(stream))))
}
