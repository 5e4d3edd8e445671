//! What a worker or zygote and the supervisor say to each other over the link (interface.md, section 3).
//!
//! One JSON object a line, its `type` says which. A `type` that we do not know is ignored, so that a newer worker may
//! say more than we understand. A worker that says in its `hello` that it speaks another version is treated from then
//! on like one that never speaks, for its words may mean something else there.

use core::fmt;

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

use crate::lines::{LINE_MAX, Lines, TooLong};
use crate::text::{NAME_MAX, TEXT_MAX, shorten, shorten_option};

/// The version of the link that this program speaks.
pub const VERSION: u32 = 1;

/// Who says hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It serves requests.
    Worker,
    /// It has loaded the application and forks workers.
    Zygote,
}

impl Role {
    /// As it stands in `hello` and in `STEADFAST_ROLE`.
    pub const fn word(self) -> &'static str {
        match self {
            Role::Worker => "worker",
            Role::Zygote => "zygote",
        }
    }
}

/// The first word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of the link that it speaks.
    pub version: u32,
    /// Its own idea of its pid: to be compared, never to be trusted.
    pub pid: u32,
    /// What it is.
    pub role: Role,
    /// How many requests it takes at a time.
    #[serde(default = "one")]
    pub concurrency: u32,
}

const fn one() -> u32 {
    1
}

/// Why a worker cannot go on (`failed`), or why its whole generation cannot (`broken`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The code with which it will exit, if it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// The code's name, such as `EX_FCGI_ACCEPT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A dependency is away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    /// Which, such as `db`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When a new attempt makes sense, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// What a worker or zygote says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromWorker {
    /// The first word; always of our own version when it comes out of a [`Decoder`].
    Hello(Hello),
    /// It can serve.
    Ready,
    /// This worker cannot go on.
    Failed(Failure),
    /// The whole generation is broken.
    Broken(Failure),
    /// A dependency is away.
    Unavailable(Unavailable),
    /// It has done as many requests as it should.
    Recycle,
    /// A word for the status table.
    Status {
        /// The word.
        text: String,
    },
    /// A zygote has forked the worker of this slot.
    Forked {
        /// Which slot.
        slot: u32,
        /// The new process: to be checked, never to be trusted.
        pid: u32,
    },
    /// A zygote could not.
    ForkFailed {
        /// Which slot.
        slot: u32,
        /// Why.
        message: String,
        /// The kernel's reason, if it is the kernel that has refused it (fork(2): EAGAIN, ENOMEM).
        #[serde(skip_serializing_if = "Option::is_none")]
        errno: Option<i32>,
    },
    /// A zygote was sent SIGTERM.
    Term {
        /// By this process, as the kernel told it (`si_pid`).
        pid: u32,
    },
}

/// The order to fork a worker, and where that one finds what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// Which slot.
    pub slot: u32,
    /// Where the worker binds its private socket; `None` in direct mode, where it accepts on what it has inherited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The FIFO that becomes its stdout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// The FIFO that becomes its stderr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// Where it connects its link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// What the supervisor says to a worker or zygote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToWorker {
    /// Take nothing more, finish what is in hand, then leave.
    Drain,
    /// Leave.
    Quit,
    /// To a zygote: fork the worker of this slot.
    Fork(Fork),
}

/// Why a line was not a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Longer than [`LINE_MAX`].
    TooLong,
    /// Not JSON, or not of the message's shape; the reason is short and has no control characters.
    Garbage {
        /// What is wrong with it.
        reason: String,
    },
    /// The worker speaks this version of the link; what it says from now on is ignored.
    Version(u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::TooLong => write!(f, "a line longer than {} KiB", LINE_MAX / 1024),
            Error::Garbage { reason } => write!(f, "a line that is no message: {reason}"),
            Error::Version(version) => write!(f, "version {version} of the link; this program speaks {VERSION}"),
        }
    }
}

impl core::error::Error for Error {}

/// How many lines a decoder has seen, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were handed out.
    pub messages: u64,
    /// Messages of a type that we do not know, and messages of another version.
    pub ignored: u64,
    /// Lines that were too long.
    pub too_long: u64,
    /// Lines that were no message.
    pub garbage: u64,
    /// Hellos of another version.
    pub other_version: u64,
}

mod sealed {
    /// What became of one line.
    pub enum Decoded<M> {
        /// A message.
        Message(M),
        /// A type that this version does not know.
        Unknown,
    }

    /// A message that a [`super::Decoder`] can read.
    pub trait Decode: Sized {
        /// Reads `line`, whose `type` is `kind`.
        fn decode(kind: &str, line: &[u8]) -> Result<Decoded<Self>, super::Error>;
    }
}
use sealed::{Decode, Decoded};

/// Turns bytes of a link into messages; keeps at most [`LINE_MAX`] bytes.
#[derive(Debug)]
pub struct Decoder<M> {
    lines: Lines,
    counts: Counts,
    /// Another version was spoken: nothing more is understood.
    deaf: bool,
    message: core::marker::PhantomData<fn() -> M>,
}

impl<M: Decode> Default for Decoder<M> {
    fn default() -> Self {
        Decoder::new()
    }
}

impl<M: Decode> Decoder<M> {
    /// Whether no message has begun.
    pub fn is_between(&self) -> bool {
        self.lines.is_between()
    }

    /// At the start of a link.
    pub const fn new() -> Decoder<M> {
        Decoder {
            lines: Lines::new(LINE_MAX),
            counts: Counts { messages: 0, ignored: 0, too_long: 0, garbage: 0, other_version: 0 },
            deaf: false,
            message: core::marker::PhantomData,
        }
    }

    /// The next message out of the front of `input`, which it moves on; `None` when `input` is used up.
    ///
    /// After an error the rest of the line is skipped and the next call goes on with the next line.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Result<M, Error>> {
        loop {
            let line = self.lines.next(input)?;
            if self.deaf {
                self.counts.ignored += 1;
                continue;
            }
            let result = match line {
                Err(TooLong) => Err(Error::TooLong),
                Ok(line) if line.trim_ascii().is_empty() => continue,
                Ok(line) => decode(line),
            };
            match result {
                Ok(Decoded::Message(message)) => {
                    self.counts.messages += 1;
                    return Some(Ok(message));
                }
                Ok(Decoded::Unknown) => self.counts.ignored += 1,
                Err(error) => {
                    match error {
                        Error::TooLong => self.counts.too_long += 1,
                        Error::Garbage { .. } => self.counts.garbage += 1,
                        Error::Version(_) => {
                            self.counts.other_version += 1;
                            self.deaf = true;
                        }
                    }
                    return Some(Err(error));
                }
            }
        }
    }

    /// What has become of all lines so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the link ended in the middle of a line.
    pub fn is_incomplete(&self) -> bool {
        self.lines.is_incomplete()
    }
}

/// The line for a message, with its newline; `None` when it would be longer than [`LINE_MAX`].
pub fn encode<M: Serialize>(message: &M) -> Option<Vec<u8>> {
    let mut line = serde_json::to_vec(message).ok()?;
    if line.len() > LINE_MAX {
        return None;
    }
    line.push(b'\n');
    Some(line)
}

/// What is read of a message before its type is known. Other keys are skipped without being kept.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

fn decode<M: Decode>(line: &[u8]) -> Result<Decoded<M>, Error> {
    let head: Head<'_> = parse(line)?;
    M::decode(&head.kind, line)
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(line).map_err(|error| garbage(&error.to_string()))
}

/// serde repeats what it was given: that is cut and cleaned before anybody prints it.
fn garbage(reason: &str) -> Error {
    let mut reason: String = reason.chars().take(120).map(|c| if c.is_control() { ' ' } else { c }).collect();
    shorten(&mut reason, 240);
    Error::Garbage { reason }
}

#[derive(Deserialize)]
struct Text {
    text: String,
}
#[derive(Deserialize)]
struct Forked {
    slot: u32,
    pid: u32,
}
#[derive(Deserialize)]
struct ForkFailed {
    slot: u32,
    #[serde(default)]
    message: String,
    #[serde(default)]
    errno: Option<i32>,
}
#[derive(Deserialize)]
struct Term {
    pid: u32,
}
#[derive(Deserialize)]
struct Version {
    version: u32,
}

fn failure(line: &[u8]) -> Result<Failure, Error> {
    let mut failure: Failure = parse(line)?;
    shorten_option(&mut failure.name, NAME_MAX);
    shorten_option(&mut failure.message, TEXT_MAX);
    Ok(failure)
}

fn hello(line: &[u8]) -> Result<Hello, Error> {
    // The version first: the other fields of another version may look otherwise.
    let Version { version } = parse(line)?;
    if version != VERSION {
        return Err(Error::Version(version));
    }
    let hello: Hello = parse(line)?;
    if hello.concurrency == 0 {
        return Err(garbage("concurrency is 0"));
    }
    check_pid(hello.pid)?;
    Ok(hello)
}

/// A pid of 0 or above `i32::MAX` would mean a group or everybody to kill(2).
fn check_pid(pid: u32) -> Result<(), Error> {
    if pid == 0 || i32::try_from(pid).is_err() { Err(garbage("no process has such a pid")) } else { Ok(()) }
}

impl Decode for FromWorker {
    fn decode(kind: &str, line: &[u8]) -> Result<Decoded<Self>, Error> {
        Ok(Decoded::Message(match kind {
            "hello" => FromWorker::Hello(hello(line)?),
            "ready" => FromWorker::Ready,
            "failed" => FromWorker::Failed(failure(line)?),
            "broken" => FromWorker::Broken(failure(line)?),
            "unavailable" => {
                let mut unavailable: Unavailable = parse(line)?;
                shorten_option(&mut unavailable.name, NAME_MAX);
                shorten_option(&mut unavailable.message, TEXT_MAX);
                FromWorker::Unavailable(unavailable)
            }
            "recycle" => FromWorker::Recycle,
            "status" => {
                let Text { mut text } = parse(line)?;
                shorten(&mut text, TEXT_MAX);
                FromWorker::Status { text }
            }
            "forked" => {
                let Forked { slot, pid } = parse(line)?;
                check_pid(pid)?;
                FromWorker::Forked { slot, pid }
            }
            "fork-failed" => {
                let ForkFailed { slot, mut message, errno } = parse(line)?;
                shorten(&mut message, TEXT_MAX);
                FromWorker::ForkFailed { slot, message, errno }
            }
            "term" => {
                let Term { pid } = parse(line)?;
                check_pid(pid)?;
                FromWorker::Term { pid }
            }
            _ => return Ok(Decoded::Unknown),
        }))
    }
}

impl Decode for ToWorker {
    fn decode(kind: &str, line: &[u8]) -> Result<Decoded<Self>, Error> {
        Ok(Decoded::Message(match kind {
            "drain" => ToWorker::Drain,
            "quit" => ToWorker::Quit,
            "fork" => ToWorker::Fork(parse(line)?),
            _ => return Ok(Decoded::Unknown),
        }))
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
