//! Sees who answers in a worker's name: of a manager that nobody has asked for it is not the worker itself, but whom it has
//! started.
//!
//! The kernel tells the reader of a unix socket who has written, if that was asked for before (`SO_PASSCRED`, unix(7)). It needs
//! no privilege, in contrast to a look at what another user's process has open. A worker's first answer is looked at, and
//! no other: that costs three system calls in its life.

use std::os::fd::AsFd;

use rustix::net::sockopt::set_socket_passcred;
use steadfast_proto::front::FromFront;

use crate::keys::LaneKey;
use crate::state::{Front, Lane, Worker};
use crate::sys;

/// A connection to the worker has been made, and nothing was sent on it yet: whoever answers is to be named.
pub(crate) fn ask(lane: &mut Lane, worker: &Worker) {
    let is_wanted = !worker.is_heard && worker.life.pid != 0;
    lane.asks_who = is_wanted && lane.fd.as_ref().is_some_and(|fd| set_socket_passcred(fd, true).is_ok());
}

/// The connection is about to be read. It is told when it was not the worker who has answered.
pub(crate) fn hear(front: &mut Front, key: LaneKey) {
    let Some(lane) = front.lanes.get_mut(key).filter(|lane| lane.asks_who) else { return };
    let Some(fd) = &lane.fd else { return };
    let Some(pid) = sys::writer(fd.as_fd()) else { return };
    lane.asks_who = false;
    // Where it cannot be taken back it costs a little with each answer.
    let _ = set_socket_passcred(fd, false);
    let Some(worker) = front.workers.get_mut(lane.worker) else { return };
    if !std::mem::replace(&mut worker.is_heard, true) && pid != 0 && pid != worker.life.pid {
        front.channel.send(&FromFront::AnsweredBy { worker: worker.id, pid });
    }
}
