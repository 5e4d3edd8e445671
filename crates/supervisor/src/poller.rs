//! One epoll for everything that the supervisor hears; a token says who is ready.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use steadfast_policy::ids::{WorkerId, ZygoteId};

use crate::voice::Speaker;

/// At most so many ready fds are heard in one turn.
const BATCH: usize = 64;

/// Who is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Token {
    /// A signal has come. First, so that a worker's last signal is heard before its death.
    Signals,
    /// A directory with sockets of ours has changed.
    Directories,
    /// Somebody waits at a public listener, or it no longer listens.
    Listener(u64),
    /// The channel of the front's life with this number.
    Front(u64),
    /// The front's stdout.
    FrontStdout(u64),
    /// The front's stderr.
    FrontStderr(u64),
    /// The front has died.
    FrontExit(u64),
    /// A worker's or zygote's link.
    Link(Speaker),
    /// Its stdout.
    Stdout(Speaker),
    /// Its stderr.
    Stderr(Speaker),
    /// It has died.
    Exit(Speaker),
    /// The child that asks this worker its verify request has ended.
    Asker(WorkerId),
    /// One of the workers that this trial worker has started itself has died.
    Nest(WorkerId),
    /// The trial of a new program has ended.
    Trial,
    /// Somebody connects to the control socket.
    Control,
    /// A control connection.
    Connection(u64),
    /// The log can be written again.
    Log,
}

const KIND_BITS: u32 = 8;

impl Token {
    fn encode(self) -> u64 {
        let (kind, id) = match self {
            Token::Signals => (0, 0),
            Token::Directories => (1, 0),
            Token::Listener(id) => (2, id),
            Token::Link(Speaker::Worker(worker)) => (3, worker.0),
            Token::Stdout(Speaker::Worker(worker)) => (4, worker.0),
            Token::Stderr(Speaker::Worker(worker)) => (5, worker.0),
            Token::Exit(Speaker::Worker(worker)) => (6, worker.0),
            Token::Asker(worker) => (18, worker.0),
            Token::Nest(worker) => (20, worker.0),
            Token::Link(Speaker::Zygote(zygote)) => (14, zygote.0),
            Token::Stdout(Speaker::Zygote(zygote)) => (15, zygote.0),
            Token::Stderr(Speaker::Zygote(zygote)) => (16, zygote.0),
            Token::Exit(Speaker::Zygote(zygote)) => (17, zygote.0),
            Token::Trial => (19, 0),
            Token::Control => (7, 0),
            Token::Connection(id) => (8, id),
            Token::Log => (9, 0),
            Token::Front(life) => (10, life),
            Token::FrontStdout(life) => (11, life),
            Token::FrontStderr(life) => (12, life),
            Token::FrontExit(life) => (13, life),
        };
        // 2^56 worker lives last two million years at a thousand a second.
        (id << KIND_BITS) | kind
    }

    fn decode(data: u64) -> Option<Token> {
        let id = data >> KIND_BITS;
        Some(match data & ((1 << KIND_BITS) - 1) {
            0 => Token::Signals,
            1 => Token::Directories,
            2 => Token::Listener(id),
            3 => Token::Link(Speaker::Worker(WorkerId(id))),
            4 => Token::Stdout(Speaker::Worker(WorkerId(id))),
            5 => Token::Stderr(Speaker::Worker(WorkerId(id))),
            6 => Token::Exit(Speaker::Worker(WorkerId(id))),
            7 => Token::Control,
            8 => Token::Connection(id),
            9 => Token::Log,
            10 => Token::Front(id),
            11 => Token::FrontStdout(id),
            12 => Token::FrontStderr(id),
            13 => Token::FrontExit(id),
            18 => Token::Asker(WorkerId(id)),
            19 => Token::Trial,
            20 => Token::Nest(WorkerId(id)),
            14 => Token::Link(Speaker::Zygote(ZygoteId(id))),
            15 => Token::Stdout(Speaker::Zygote(ZygoteId(id))),
            16 => Token::Stderr(Speaker::Zygote(ZygoteId(id))),
            17 => Token::Exit(Speaker::Zygote(ZygoteId(id))),
            _ => return None,
        })
    }
}

/// What is wanted of an fd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// It can be read, or has ended.
    Read,
    /// It can be read or written.
    ReadWrite,
    /// It can be written.
    Write,
    /// Only its end: hang-up of either kind.
    End,
    /// Somebody who comes, or its end: once, and then nothing more until it is heard otherwise.
    Come,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Interest::Read => EventFlags::IN,
            Interest::ReadWrite => EventFlags::IN | EventFlags::OUT,
            Interest::Write => EventFlags::OUT,
            Interest::End => EventFlags::RDHUP,
            Interest::Come => EventFlags::IN | EventFlags::RDHUP | EventFlags::ONESHOT,
        }
    }
}

/// The epoll instance. An fd that is closed leaves it by itself, for none of ours is shared with a child.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// An empty one.
    pub(crate) fn new() -> Result<Poller, Errno> {
        Ok(Poller { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Hears `fd` from now on.
    pub(crate) fn add(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token.encode()), interest.flags())
    }

    /// Hears `fd` otherwise from now on.
    pub(crate) fn modify(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, EventData::new_u64(token.encode()), interest.flags())
    }

    /// Hears `fd` no more; one that was never heard is no error.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits until somebody is ready or `timeout` has passed (`None`: for ever); the ready ones in `ready`, in the order
    /// in which they are to be heard. The timeout is rounded up to milliseconds, so that a deadline has passed when its
    /// wait ends.
    pub(crate) fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<Token>) -> Result<(), Errno> {
        ready.clear();
        let timeout = timeout.map(round_up);
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); BATCH];
        let events = match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error),
        };
        ready.extend(events.iter().filter_map(|event| Token::decode(event.data.u64())));
        ready.sort_unstable();
        Ok(())
    }
}

fn round_up(timeout: Duration) -> Timespec {
    // A day is soon enough for a deadline further away, and fits every way in which a kernel counts.
    let millis = timeout.min(Duration::from_secs(86_400)).as_nanos().div_ceil(1_000_000);
    let millis = i64::try_from(millis).unwrap_or(0);
    Timespec { tv_sec: millis / 1000, tv_nsec: (millis % 1000) * 1_000_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was() {
        let worker = Speaker::Worker(WorkerId(0x00ff_ffff_ffff_ffff));
        let zygote = Speaker::Zygote(ZygoteId(0x00ff_ffff_ffff_ffff));
        for token in [
            Token::Signals,
            Token::Directories,
            Token::Listener(3),
            Token::Link(worker),
            Token::Stdout(worker),
            Token::Stderr(worker),
            Token::Exit(worker),
            Token::Link(zygote),
            Token::Stdout(zygote),
            Token::Stderr(zygote),
            Token::Exit(zygote),
            Token::Asker(WorkerId(5)),
            Token::Nest(WorkerId(6)),
            Token::Control,
            Token::Connection(9),
            Token::Log,
            Token::Front(1),
            Token::FrontStdout(2),
            Token::FrontStderr(3),
            Token::FrontExit(4),
        ] {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
    }

    #[test]
    fn a_wait_ends_after_its_deadline_never_before() {
        let round = |nanos| {
            let time = round_up(Duration::from_nanos(nanos));
            (time.tv_sec, time.tv_nsec)
        };
        assert_eq!(round(1), (0, 1_000_000));
        assert_eq!(round(1_000_000), (0, 1_000_000));
        assert_eq!(round(1_000_000_001), (1, 1_000_000));
    }
}
