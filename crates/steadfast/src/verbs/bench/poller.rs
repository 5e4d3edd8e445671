//! One epoll for all connections and the signals; waits to the microsecond where a request falls due.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// At most so many ready fds are heard in one turn.
const BATCH: usize = 256;
/// The epoll instance. An fd that is closed leaves it by itself.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(super) fn new() -> Result<Poller, Errno> {
        Ok(Poller { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Hears when `fd` can be read or has ended, and when it can be written, if that is wanted.
    pub(super) fn add(&self, fd: impl AsFd, token: u64, writable: bool) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token), flags(writable))
    }

    pub(super) fn modify(&self, fd: impl AsFd, token: u64, writable: bool) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, EventData::new_u64(token), flags(writable))
    }

    /// Waits until somebody is ready or the time has passed: rounded up to milliseconds, as epoll counts, or exactly,
    /// by ppoll(2) and one more system call.
    pub(super) fn wait(&self, timeout: Duration, is_exact: bool, ready: &mut Vec<u64>) -> Result<(), Errno> {
        ready.clear();
        let mut rounded = timeout;
        if !timeout.is_zero() && is_exact {
            let timeout = Timespec::try_from(timeout).unwrap_or_default();
            match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => return Ok(()),
                Ok(_) => rounded = Duration::ZERO,
                Err(errno) => return Err(errno),
            }
        }
        let millis = i64::try_from(rounded.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::from(i32::MAX));
        let rounded = Timespec { tv_sec: millis / 1000, tv_nsec: (millis % 1000) * 1_000_000 };
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); BATCH];
        match epoll::wait(&self.epoll, &mut events[..], Some(&rounded)) {
            Ok((events, _)) => ready.extend(events.iter().map(|event| event.data.u64())),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }
}

fn flags(writable: bool) -> EventFlags {
    if writable { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    #[test]
    fn exact_waits_are_no_longer_than_asked_for() {
        let poller = Poller::new().expect("epoll");
        let (mut near, far) = UnixStream::pair().expect("a pair");
        poller.add(&far, 7, false).expect("added");
        let mut ready = Vec::new();
        // The machine may be busy: of many waits the shortest tells.
        let shortest = (0..50).map(|_| {
            let begin = Instant::now();
            poller.wait(Duration::from_micros(200), true, &mut ready).expect("waits");
            assert!(ready.is_empty() && begin.elapsed() >= Duration::from_micros(200));
            begin.elapsed()
        });
        assert!(shortest.min().expect("50") < Duration::from_millis(1), "epoll's own would take a millisecond");
        near.write_all(b"x").expect("room");
        for (timeout, is_exact) in [(0, true), (1, true), (1000, true), (1000, false)] {
            poller.wait(Duration::from_millis(timeout), is_exact, &mut ready).expect("waits");
            assert_eq!(ready, [7]);
        }
        poller.modify(&far, 8, true).expect("modified");
        poller.wait(Duration::ZERO, false, &mut ready).expect("waits");
        assert_eq!(ready, [8]);
    }
}
