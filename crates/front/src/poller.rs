//! One epoll for everything that the front hears; a token says who is ready, and for what.
//!
//! Connections are heard edge-triggered: who is told once that there is something to read must read until there is
//! nothing, or remember it. Writing is asked for only while something could not be written, because a unix socket tells
//! of room after each read of its peer, and that would be a wake-up for each request.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use slotmap::{Key, KeyData};

use crate::http::ConnectionKey;
use crate::keys::{ClientKey, LaneKey};

/// At most so many ready fds are heard in one turn.
const BATCH: usize = 256;
/// Bits of a token that tell its kind; what is left of the lower half is an index.
const KIND_SHIFT: u32 = 28;

/// Who is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The supervisor speaks.
    Channel,
    /// Somebody connects to the listener of this number.
    Listener(u32),
    /// A web server's connection.
    Client(ClientKey),
    /// A worker's connection.
    Lane(LaneKey),
    /// An HTTP connection.
    Http(ConnectionKey),
}

impl Token {
    fn encode(self) -> u64 {
        let (kind, data) = match self {
            Token::Channel => (0, 0),
            Token::Listener(number) => (1, u64::from(number)),
            Token::Client(key) => (2, key.data().as_ffi()),
            Token::Lane(key) => (3, key.data().as_ffi()),
            Token::Http(key) => (4, key.data().as_ffi()),
        };
        data | (kind << KIND_SHIFT)
    }

    fn decode(bits: u64) -> Option<Token> {
        let data = bits & !(0xf << KIND_SHIFT);
        Some(match (bits >> KIND_SHIFT) & 0xf {
            0 => Token::Channel,
            1 => Token::Listener(u32::try_from(data).ok()?),
            2 => Token::Client(KeyData::from_ffi(data).into()),
            3 => Token::Lane(KeyData::from_ffi(data).into()),
            4 => Token::Http(KeyData::from_ffi(data).into()),
            _ => return None,
        })
    }
}

/// What somebody is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// Who.
    pub(crate) token: Token,
    /// There is something to read, or the end of it.
    pub(crate) readable: bool,
    /// There is room to write.
    pub(crate) writable: bool,
    /// The peer has gone, or says nothing more: what is there must be read to its end.
    pub(crate) ended: bool,
}

/// What is wanted of an fd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// To be told as long as it can be read.
    Level,
    /// To be told as long as it can be read or written.
    LevelBoth,
    /// To be told once when it can be read.
    Read,
    /// To be told once when it can be read or written.
    ReadWrite,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Interest::Level => EventFlags::IN,
            Interest::LevelBoth => EventFlags::IN | EventFlags::OUT,
            Interest::Read => EventFlags::IN | EventFlags::RDHUP | EventFlags::ET,
            Interest::ReadWrite => EventFlags::IN | EventFlags::RDHUP | EventFlags::OUT | EventFlags::ET,
        }
    }
}

/// The epoll instance. An fd that is closed leaves it by itself, but for listeners, which the supervisor has, too.
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

    /// Hears `fd` otherwise from now on; what it is ready for is told again.
    pub(crate) fn modify(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, EventData::new_u64(token.encode()), interest.flags())
    }

    /// Hears `fd` no more; one that was never heard is no error.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits until somebody is ready or `timeout` has passed (`None`: for ever). The timeout is rounded up to
    /// milliseconds, so that a deadline has passed when its wait ends.
    pub(crate) fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> Result<(), Errno> {
        ready.clear();
        let timeout = timeout.map(round_up);
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); BATCH];
        let events = match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error),
        };
        for event in events.iter() {
            let (flags, data) = (event.flags, event.data);
            let Some(token) = Token::decode(data.u64()) else { continue };
            let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            ready.push(Ready {
                token,
                readable: ended || flags.intersects(EventFlags::IN),
                writable: ended || flags.intersects(EventFlags::OUT),
                ended,
            });
        }
        Ok(())
    }
}

fn round_up(timeout: Duration) -> Timespec {
    let millis = timeout.min(Duration::from_secs(86_400)).as_nanos().div_ceil(1_000_000);
    let millis = i64::try_from(millis).unwrap_or(0);
    Timespec { tv_sec: millis / 1000, tv_nsec: (millis % 1000) * 1_000_000 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;

    #[test]
    fn a_token_comes_back_as_it_was() {
        let mut clients: SlotMap<ClientKey, ()> = SlotMap::with_key();
        let mut lanes: SlotMap<LaneKey, ()> = SlotMap::with_key();
        for _ in 0..1000 {
            let (client, lane) = (clients.insert(()), lanes.insert(()));
            for token in [Token::Client(client), Token::Lane(lane), Token::Listener(7), Token::Channel] {
                assert_eq!(Token::decode(token.encode()), Some(token));
            }
            clients.remove(client);
        }
    }
}
