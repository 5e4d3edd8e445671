//! The front: reads FastCGI and HTTP from strangers, queues, and hands each request to one worker.
//!
//! A process of its own, one thread, unprivileged; it knows the supervisor by the channel of [`steadfast_proto::front`]
//! only, and decides nothing about workers but who gets which request.
//!
//! The rooms, from the outside to the inside: `turn` is the loop; `clients` reads web servers, `exchanges` and `http`
//! read HTTP clients; `intake` looks at parameters, `uploads` carries bodies; `dispatch` decides who gets what; `lanes`
//! are the connections to workers, `replies` reads their answers, `broken` decides what becomes of a request whose
//! worker has gone; `visitor` is the way back, `place` what is answered in a worker's place; `status` answers the status path, in the
//! `dialect` of php-fpm; `ending` is the one place
//! where a request ends. `speaker` sees who answers in a worker's name. `orders` hears the supervisor; `load` and `notes` tell it.

mod abort;
mod broken;
mod cgi;
mod channel;
mod clients;
mod clock;
mod dialect;
mod dispatch;
mod dues;
mod ending;
mod exchanges;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod intake;
mod keys;
mod lanes;
mod limits;
mod load;
mod notes;
mod orders;
mod pace;
mod place;
mod poller;
mod replies;
mod request;
mod secret;
mod speaker;
mod state;
mod status;
mod sys;
mod turn;
mod uploads;
mod verify;
mod visitor;
mod workers;

use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;

use steadfast_proto::front::{FromFront, VERSION};

use crate::channel::Channel;
use crate::clock::Clock;
use crate::http::Http;
use crate::poller::{Interest, Poller, Token};
use crate::secret::Secret;
use crate::state::Front;

/// The channel, the poller, listeners, and a worker's next connection.
const FDS_OWN: usize = 100;

pub use sys::CHANNEL;

/// The front as a process: serves the supervisor at the other end of fd [`CHANNEL`].
///
/// # Errors
/// When there is no such socket, and as [`serve`].
pub fn run() -> Result<(), String> {
    // It is executed by fd, and would be listed as a number.
    let _ = rustix::thread::set_name(c"steadfast-front");
    serve(sys::channel()?)
}

/// As many connections as there are fds for, but for some that the front needs itself.
fn fds_max() -> usize {
    let soft = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(soft).unwrap_or(usize::MAX).saturating_sub(FDS_OWN)
}

/// Serves until the supervisor says `leave` or has gone. `channel` is the front's end of a `SOCK_SEQPACKET` pair.
///
/// # Errors
/// When the kernel gives no epoll, the channel cannot be heard, or the supervisor said something that is no message of
/// this version: what was tried and why it failed.
pub fn serve(channel: OwnedFd) -> Result<(), String> {
    let poller = Poller::new().map_err(|error| format!("cannot make an epoll instance: {error}"))?;
    let mut clock = Clock::start();
    let now = clock.turn(None);
    let mut channel = Channel::new(channel);
    poller
        .add(channel.fd(), Token::Channel, Interest::Level)
        .map_err(|error| format!("cannot hear the channel to the supervisor: {error}"))?;
    channel.send(&FromFront::Ready { version: VERSION });
    let secret = Secret::of_supervisor();
    let salt = RandomState::new().hash_one(std::process::id());
    let mut front = Front {
        clock,
        now,
        poller,
        channel,
        pools: Default::default(),
        listeners: Default::default(),
        last_listener: 0,
        clients: Default::default(),
        http: Http::new(),
        exchanges: Default::default(),
        lanes: Default::default(),
        workers: Default::default(),
        by_id: Default::default(),
        requests: Default::default(),
        dues: Default::default(),
        scratch: Vec::new(),
        spare: Vec::new(),
        again: Vec::new(),
        lanes_again: Vec::new(),
        unwritten: Vec::new(),
        secret,
        salt,
        last_request: 0,
        fds_max: fds_max(),
        accept_again: None,
        leaves_by: None,
        gives_back: false,
        trouble: None,
        is_channel_write_heard: false,
    };
    turn::run(&mut front);
    front.trouble.map_or(Ok(()), Err)
}
