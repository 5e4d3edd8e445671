//! Connections to workers: one request at a time on each, kept as long as the worker keeps them.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::keys::{LaneKey, RequestKey, WorkerKey};
use crate::poller::{Interest, Poller, Token};
use crate::request::State;
use crate::speaker;
use crate::state::{Front, Lane};
use crate::sys;
use crate::workers;
use steadfast_proto::fcgi::response::ResponseDecoder;

/// What of a body has been taken is dropped when it is more than this.
const TAIL_KEPT: usize = 64 * 1024;

/// What became of giving a request to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handed {
    /// It has it.
    Yes,
    /// It has not seen a byte of it, and rests now.
    No,
}

/// A worker's connections, none of them made yet.
pub(crate) fn create(front: &mut Front, worker: WorkerKey, count: u32) -> Vec<LaneKey> {
    let lane = || Lane {
        worker,
        fd: None,
        decoder: ResponseDecoder::new(1),
        used: 0,
        request: None,
        is_readable: false,
        is_write_heard: false,
        has_ended: false,
        paused: None,
        asks_who: false,
    };
    (0..count).map(|_| front.lanes.insert(lane())).collect()
}

/// Connects.
pub(crate) fn open(front: &mut Front, key: LaneKey) -> Result<(), Errno> {
    let Some(lane) = front.lanes.get_mut(key) else { return Err(Errno::NOTCONN) };
    let Some(worker) = front.workers.get(lane.worker) else { return Err(Errno::NOTCONN) };
    let fd = connected(&front.poller, &worker.path, worker.pid, key)?;
    (lane.fd, lane.used) = (Some(fd), 0);
    lane.decoder = ResponseDecoder::new(1);
    (lane.is_readable, lane.is_write_heard, lane.has_ended, lane.paused) = (false, false, false, None);
    speaker::ask(lane, worker);
    Ok(())
}

/// A forked worker binds its socket where its pool's user may put whatever it likes, also a link to a worker of another
/// pool: what is found there must be that worker's own.
fn connected(poller: &Poller, path: &str, pid: Option<u32>, key: LaneKey) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&fd, &SocketAddrUnix::new(path)?)?;
    if pid.is_some_and(|pid| sys::listener_pid(fd.as_fd()) != Ok(pid)) {
        return Err(Errno::CONNREFUSED);
    }
    poller.add(&fd, Token::Lane(key), Interest::Read)?;
    Ok(fd)
}

/// Closes the connection; it is made again when it is needed.
pub(crate) fn close(front: &mut Front, key: LaneKey) {
    if let Some(lane) = front.lanes.get_mut(key) {
        lane.fd = None;
        (lane.is_readable, lane.is_write_heard) = (false, false);
    }
}

/// Gives a request to a worker.
pub(crate) fn hand(front: &mut Front, worker: WorkerKey, key: RequestKey) -> Handed {
    let Some(lane) = free_lane(front, worker) else { return Handed::No };
    let Some(request) = front.requests.get(key) else { return Handed::No };
    // What runs at most once needs a connection of which nobody can say that it was just being closed.
    // So does what was lost once already: the next worker may be leaving, too.
    let once = !request.method.is_idempotent() || request.deaths > 0 || request.misses > 0;
    let Some(entry) = front.lanes.get(lane) else { return Handed::No };
    if once && entry.fd.is_some() && entry.used > 0 {
        close(front, lane);
    }
    let is_kept = front.lanes.get(lane).is_some_and(|lane| lane.fd.is_some());
    if !is_kept && open(front, lane).is_err() {
        workers::rest(front, worker, workers::DYING);
        return Handed::No;
    }
    if write(front, lane, key).is_err() && !is_begun(front, key) {
        close(front, lane);
        // The worker closed what it had kept. It may be leaving: another connection to it could be lost with it.
        if !is_kept || once {
            workers::rest(front, worker, workers::DYING);
            return Handed::No;
        }
        if open(front, lane).is_err() || (write(front, lane, key).is_err() && !is_begun(front, key)) {
            close(front, lane);
            workers::rest(front, worker, workers::DYING);
            return Handed::No;
        }
    }
    let now = front.now;
    if let Some(request) = front.requests.get_mut(key) {
        request.state = State::Busy(lane);
        (request.handed, request.timed) = (now, now);
    }
    if let Some(lane) = front.lanes.get_mut(lane) {
        lane.request = Some(key);
        lane.used += 1;
        lane.decoder.begin();
    }
    workers::engaged(front, worker);
    Handed::Yes
}

/// Whether a worker has a part of the request: then it is not to be begun anew elsewhere without thought, and reading
/// tells what has become of the worker.
fn is_begun(front: &mut Front, key: RequestKey) -> bool {
    front.requests.get(key).is_some_and(|request| request.sent > 0)
}

fn free_lane(front: &Front, worker: WorkerKey) -> Option<LaneKey> {
    let lanes = &front.workers.get(worker)?.lanes;
    let is_free = |key: &&LaneKey| front.lanes.get(**key).is_some_and(|lane| lane.request.is_none());
    lanes.iter().find(is_free).copied()
}

/// Writes what the worker's socket takes of a request now.
pub(crate) fn write(front: &mut Front, lane_key: LaneKey, key: RequestKey) -> Result<(), Errno> {
    let (Some(lane), Some(request)) = (front.lanes.get_mut(lane_key), front.requests.get_mut(key)) else {
        return Ok(());
    };
    let Some(fd) = &lane.fd else { return Err(Errno::NOTCONN) };
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let send = |bytes: &[u8], at: &mut usize| -> Result<bool, Errno> {
        while *at < bytes.len() {
            match rustix::net::send(fd.as_fd(), &bytes[*at..], flags) {
                Ok(taken) => *at += taken,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    };
    let mut all = send(&request.wire, &mut request.sent)?;
    if all && request.body.is_streamed {
        let body = &mut request.body;
        let before = body.tail_at;
        all = send(&body.tail, &mut body.tail_at)?;
        body.passed += (body.tail_at - before) as u64;
        if all || body.tail_at > TAIL_KEPT {
            body.tail.drain(..body.tail_at);
            body.tail_at = 0;
        }
    }
    if all == lane.is_write_heard {
        lane.is_write_heard = !all;
        let interest = if all { Interest::Read } else { Interest::ReadWrite };
        front.poller.modify(fd.as_fd(), Token::Lane(lane_key), interest)?;
    }
    Ok(())
}

/// Nothing more is to be written.
pub(crate) fn hear_no_room(front: &mut Front, key: LaneKey) {
    let Some(lane) = front.lanes.get_mut(key) else { return };
    lane.is_write_heard = false;
    if let Some(fd) = &lane.fd {
        // What it is ready for is told again.
        let _ = front.poller.modify(fd.as_fd(), Token::Lane(key), Interest::Read);
    }
}

/// The request is over that a lane had; the connection stays if it can carry another one.
pub(crate) fn free(front: &mut Front, key: LaneKey, keeps: bool) {
    let now = front.now;
    let Some(lane) = front.lanes.get_mut(key) else { return };
    (lane.request, lane.paused) = (None, None);
    let worker = lane.worker;
    let closes = front.workers.get(worker).is_some_and(|worker| worker.closes);
    if !keeps || closes {
        close(front, key);
    }
    workers::freed(front, worker, now);
}
