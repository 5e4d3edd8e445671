//! Web servers' connections: accepted, read, and closed.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, SocketFlags, accept_with, shutdown, sockopt};
use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::{self, kind, role};
use steadfast_proto::fcgi::request::{Event, Limits, RequestDecoder};
use steadfast_proto::fcgi::values::Values;
use steadfast_proto::front::Protocol;

use crate::abort;
use crate::dispatch;
use crate::ending::refuse;
use crate::intake;
use crate::keys::{ClientKey, PoolId, RequestKey};
use crate::limits::{BACKLOG_HIGH, BACKLOG_LOW};
use crate::notes;
use crate::pace;
use crate::place::Reason;
use crate::poller::{Interest, Token};
use crate::request::{Origin, Request, State};
use crate::state::{Client, Front, READ_MAX};
use crate::status;
use crate::uploads;
use crate::visitor::{self, WRITE_STALL, Written};

/// Connections accepted from one listener in one turn.
const ACCEPTS: usize = 64;
/// More than any backlog that people ask for.
const BACKLOG_MAX: usize = 16_384;
/// Reads of one connection in one turn.
const READS: usize = 4;
/// A connection that has never said anything is closed after so long.
const FIRST_BYTE: Duration = Duration::from_secs(75);
/// While the front leaves, a connection that has said nothing yet has so long to say what it was made for.
const LAST_WORD: Duration = Duration::from_millis(250);
/// A request's head must be complete so long after its first byte.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// A body must move within this.
const READ_STALL: Duration = Duration::from_secs(30);
/// Whoever asks on and on and takes no answer is closed when so much waits for him.
const OUT_MAX: usize = 4 * 1024 * 1024;
/// A connection that is closed with input unread is drained for so long at most.
const LINGER: Duration = Duration::from_secs(2);
/// Without an fd left, nobody is accepted for so long.
const NO_FD: Duration = Duration::from_millis(50);
/// What GET_VALUES is answered: so many connections are held.
const CONNECTIONS: u32 = 10_000;
/// So many requests one connection has in hand.
const MULTIPLEXED: u32 = 128;
/// Bytes of parameters of one request.
const PARAMS_MAX: usize = 256 * 1024;

/// All that wait at a listener are let in: they came before it was closed. At most as many as a backlog may have.
pub(crate) fn accept_rest(front: &mut Front, number: u32) {
    for _ in 0..BACKLOG_MAX / ACCEPTS {
        if !accept(front, number) {
            return;
        }
    }
}

/// Somebody connects. Whether more may wait.
pub(crate) fn accept(front: &mut Front, number: u32) -> bool {
    for _ in 0..ACCEPTS {
        let used = front.clients.len() + front.http.len() + front.lanes.len();
        let Some((pool_id, listener)) = front.listeners.get(&number).copied() else { return false };
        let Some(pool) = front.pools.get(&pool_id) else { return false };
        let Some(listener) = pool.listeners.get(&listener) else { return false };
        if used >= front.fds_max {
            stop_accepting(front, pool_id, Errno::MFILE);
            return false;
        }
        let fd = match accept_with(&listener.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => continue,
            Err(Errno::AGAIN) => return false,
            Err(error) => {
                stop_accepting(front, pool_id, error);
                return false;
            }
        };
        let peer = rustix::net::getpeername(&fd).ok().flatten().and_then(|at| std::net::SocketAddr::try_from(at).ok());
        if let Some(peer) = peer {
            let allowed = &pool.config.allowed_clients;
            if !allowed.is_empty() && !allowed.contains(&peer.ip().to_canonical()) {
                let address = listener.address.clone();
                notes::warn(front, Some(pool_id), format!("{} is not among allowed-clients of {address}", peer.ip()));
                continue;
            }
            let _ = sockopt::set_tcp_nodelay(&fd, true);
            let _ = sockopt::set_socket_keepalive(&fd, true);
        }
        match (listener.protocol, &listener.settings) {
            (Protocol::Http, Some(settings)) => {
                let settings = std::rc::Rc::clone(settings);
                let key = front.http.accept(fd, peer, settings, front.now);
                if let Some(fd) = front.http.fd(key) {
                    let _ = front.poller.add(fd, Token::Http(key), Interest::ReadWrite);
                }
            }
            _ => welcome(front, pool_id, fd),
        }
    }
    true
}

/// There is no fd left, or no memory: whoever is idle makes room, and the others wait in the backlog.
fn stop_accepting(front: &mut Front, pool: PoolId, error: Errno) {
    if front.accept_again.is_none() {
        notes::warn(front, Some(pool), format!("no connection can be accepted: {error}; trying again"));
    }
    let idle = front.clients.iter().filter(|(_, client)| client.streams.is_empty() && client.out.is_empty());
    // Those who have never said anything go first, the longest silent of them, and more than one: else a crowd of them
    // lets in twenty others a second. Of those that may be a web server's kept ones a single one goes.
    let mut idle: Vec<_> = idle.map(|(key, client)| (client.has_spoken, client.heard, key)).collect();
    idle.sort_unstable_by_key(|(has_spoken, heard, _)| (*has_spoken, *heard));
    let silent = idle.iter().take_while(|(has_spoken, ..)| !has_spoken).count();
    for (.., key) in idle.into_iter().take(silent.clamp(1, ACCEPTS)) {
        close(front, key);
    }
    hear_listeners(front, false);
    front.accept_again = Some(front.now + NO_FD);
}

/// Listens to those who connect, or no longer.
pub(crate) fn hear_listeners(front: &mut Front, on: bool) {
    for pool in front.pools.values() {
        for listener in pool.listeners.values() {
            if on {
                let _ = front.poller.add(&listener.fd, Token::Listener(listener.number), Interest::Level);
            } else {
                front.poller.remove(&listener.fd);
            }
        }
    }
}

fn welcome(front: &mut Front, pool: PoolId, fd: OwnedFd) {
    let now = front.now;
    let limits = Limits { requests: MULTIPLEXED as usize, params: PARAMS_MAX, ..Limits::default() };
    let key = front.clients.insert(Client {
        fd,
        pool,
        decoder: RequestDecoder::new(limits),
        streams: Vec::new(),
        out: Vec::new(),
        out_at: 0,
        is_readable: true,
        is_write_heard: false,
        is_last: false,
        is_broken: false,
        is_lingering: false,
        is_unwritten: false,
        ends_by: None,
        has_spoken: false,
        has_ended: false,
        heard: now,
        taken: now,
        due: None,
    });
    if let Some(pool) = front.pools.get_mut(&pool) {
        pool.clients += 1;
    }
    let Some(client) = front.clients.get(key) else { return };
    if front.poller.add(&client.fd, Token::Client(key), Interest::Read).is_err() {
        return close(front, key);
    }
    // Its request has come with it, as a rule.
    readable(front, key, false);
}

/// A connection can be read. `ended`: the peer has closed it, or will say nothing more.
pub(crate) fn readable(front: &mut Front, key: ClientKey, ended: bool) {
    let Some(client) = front.clients.get_mut(key) else { return };
    client.is_readable = true;
    client.has_ended |= ended;
    read(front, key);
    rearm(front, key);
}

/// Reads on where reading was left.
pub(crate) fn read_on(front: &mut Front, key: ClientKey) {
    read(front, key);
    rearm(front, key);
}

fn read(front: &mut Front, key: ClientKey) {
    for _ in 0..READS {
        let Some(client) = front.clients.get(key).filter(|client| client.is_readable) else { return };
        if is_paused(front, client) {
            // Somebody has to take something first; `pace` goes on. Whoever has gone meanwhile has gone.
            return if client.has_ended {
                gone(front, key)
            };
        }
        let has_ended = client.has_ended;
        let mut scratch = std::mem::take(&mut front.scratch);
        scratch.resize(READ_MAX, 0);
        let read = rustix::net::recv(client.fd.as_fd(), &mut scratch[..], RecvFlags::DONTWAIT);
        match read {
            Ok((taken, _)) if taken > 0 => {
                // A short read has emptied the socket, but for its end.
                if taken < READ_MAX && !has_ended {
                    mark_drained(front, key);
                }
                hear(front, key, &scratch[..taken]);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => mark_drained(front, key),
            Ok(_) | Err(_) => gone(front, key),
        }
        front.scratch = scratch;
    }
    pace::listen(front, key);
}

fn mark_drained(front: &mut Front, key: ClientKey) {
    if let Some(client) = front.clients.get_mut(key) {
        client.is_readable = false;
    }
}

/// Whether no more may be read now: a body is as full as it may be, or the answers are not taken.
fn is_paused(front: &Front, client: &Client) -> bool {
    if client.is_lingering {
        return false;
    }
    let bodies = client.streams.iter().filter_map(|(_, key)| front.requests.get(*key));
    let is_flowing = |request: &Request| !request.body.is_complete && matches!(request.state, State::Busy(_));
    let (mut is_full, mut is_stuck, mut flows) = (false, false, false);
    for request in bodies {
        let full = pace::is_full(request);
        is_stuck |= full && is_flowing(request);
        is_full |= full;
        flows |= is_flowing(request);
    }
    // A body that waits for a worker does not hold up one that a worker waits for.
    let is_body = is_stuck || (is_full && !flows);
    is_body || (!flows && client.out.len() - client.out_at >= BACKLOG_HIGH)
}

/// Sets the deadline that fits what the connection does.
pub(crate) fn rearm(front: &mut Front, key: ClientKey) {
    let first_byte = if front.leaves_by.is_some() { LAST_WORD } else { FIRST_BYTE };
    let Some(client) = front.clients.get(key) else { return };
    if client.is_lingering {
        return;
    }
    let mut due: Option<Instant> = None;
    let mut until = |at: Instant| due = Some(due.map_or(at, |due| due.min(at)));
    if let Some(at) = client.ends_by {
        until(at);
    }
    if client.is_write_heard {
        until(client.taken + WRITE_STALL);
    }
    if !client.has_spoken {
        until(client.heard + first_byte);
    } else if !client.is_readable {
        // What is unread is not the client's fault.
        for request in client.streams.iter().filter_map(|(_, key)| front.requests.get(*key)) {
            if !request.is_headed {
                until(request.arrived + HEAD_TIME);
            } else if !request.body.is_complete {
                until(client.heard + READ_STALL);
            }
        }
        if client.streams.is_empty() && !client.decoder.is_idle() {
            until(client.heard + READ_STALL);
        }
    }
    front.set_client_due(key, due);
}

fn hear(front: &mut Front, key: ClientKey, mut input: &[u8]) {
    loop {
        let Some(client) = front.clients.get_mut(key) else { return };
        if client.is_lingering {
            return;
        }
        client.has_spoken = true;
        client.heard = front.now;
        if client.out.len() - client.out_at > OUT_MAX {
            return drop_all(front, key);
        }
        match client.decoder.next(&mut input) {
            Ok(Some(event)) => happened(front, key, event),
            Ok(None) => break,
            Err(error) => {
                let pool = client.pool;
                notes::warn(front, Some(pool), format!("a web server's connection was closed: {error}"));
                return drop_all(front, key);
            }
        }
    }
}

fn happened(front: &mut Front, client_key: ClientKey, event: Event<'_>) {
    let now = front.now;
    let Some(client) = front.clients.get_mut(client_key) else { return };
    let find = |client: &Client, id: u16| client.streams.iter().find(|(other, _)| *other == id).map(|(_, key)| *key);
    match event {
        Event::Begin { id, role, keep } => {
            client.is_last |= !keep;
            let request = Request::new(client.pool, Origin::Fastcgi { client: client_key, id }, role, now);
            let key = front.requests.insert(request);
            client.streams.push((id, key));
            let is_broken = client.is_broken;
            if role != role::RESPONDER && role != role::AUTHORIZER {
                refuse(front, key, Reason::UnknownRole);
            } else if is_broken {
                // It is about to be closed.
                refuse(front, key, Reason::Down);
            }
        }
        Event::Params { id, bytes } => {
            let Some(key) = find(client, id) else { return };
            let buffer = front.spare.pop();
            if let Some(request) = front.requests.get_mut(key) {
                match buffer {
                    Some(buffer) if request.params.capacity() == 0 => request.params = buffer,
                    Some(buffer) => front.spare.push(buffer),
                    None => {}
                }
                request.params.extend_from_slice(bytes);
            }
        }
        Event::ParamsEnd { id } => {
            let Some(key) = find(client, id) else { return };
            if let Some(request) = front.requests.get_mut(key) {
                request.is_headed = true;
            }
            headed(front, key);
        }
        Event::TooLarge { id } => {
            let Some(key) = find(client, id) else { return };
            refuse(front, key, Reason::HeadersTooLarge);
        }
        Event::Stdin { id, bytes } => {
            let Some(key) = find(client, id) else { return };
            uploads::more(front, key, bytes);
        }
        Event::StdinEnd { id } => {
            let Some(key) = find(client, id) else { return };
            uploads::end(front, key);
        }
        Event::Data { .. } | Event::DataEnd { .. } => {}
        Event::Abort { id } => {
            let Some(key) = find(client, id) else { return };
            let Some(client) = front.clients.get_mut(client_key) else { return };
            encode::stream_end(&mut client.out, kind::STDOUT, id);
            encode::end_request(&mut client.out, id, 0, record::status::REQUEST_COMPLETE);
            client.decoder.end(id);
            client.streams.retain(|(_, other)| *other != key);
            visitor::touch(front, Origin::Fastcgi { client: client_key, id });
            abort::gone(front, key);
        }
        Event::GetValues(asked) => {
            let values = Values { max_conns: Some(CONNECTIONS), max_reqs: Some(MULTIPLEXED), mpxs_conns: Some(true) };
            encode::get_values_result(&mut client.out, values.of(asked));
            visitor::touch(front, Origin::Fastcgi { client: client_key, id: 0 });
        }
        Event::Unknown { kind } => {
            encode::unknown_type(&mut client.out, kind);
            visitor::touch(front, Origin::Fastcgi { client: client_key, id: 0 });
        }
        Event::Refused { id, keep } => {
            client.is_last |= !keep;
            let pool = client.pool;
            let request = Request::new(pool, Origin::Fastcgi { client: client_key, id }, role::RESPONDER, now);
            let key = front.requests.insert(request);
            refuse(front, key, Reason::QueueFull);
        }
    }
}

/// A request's parameters are complete.
fn headed(front: &mut Front, key: RequestKey) {
    let Some(request) = front.requests.get_mut(key) else { return };
    let Some(pool) = front.pools.get(&request.pool) else { return };
    let trust = pool.config.request_id == steadfast_proto::front::RequestId::Trust;
    if let Err(reason) = intake::scan(request, trust) {
        return refuse(front, key, reason);
    }
    if request.param(PING).is_some() {
        return refuse(front, key, Reason::Ping);
    }
    if status::is_asked(pool, request) {
        return status::answer(front, key);
    }
    if request.role == role::AUTHORIZER {
        request.body.is_complete = true;
        dispatch::admit(front, key);
    }
}

/// A parameter that no visitor can send through a web server: whoever does speaks to the front itself.
const PING: &[u8] = b"STEADFAST_PING";

/// The client says nothing more, or has gone.
fn gone(front: &mut Front, key: ClientKey) {
    let Some(client) = front.clients.get_mut(key) else { return };
    client.is_readable = false;
    drop_all(front, key);
}

/// Closes a connection; its requests have lost their visitor.
pub(crate) fn drop_all(front: &mut Front, key: ClientKey) {
    let Some(client) = front.clients.get_mut(key) else { return };
    let streams = std::mem::take(&mut client.streams);
    for (_, request) in streams {
        abort::gone(front, request);
    }
    close(front, key);
}

fn close(front: &mut Front, key: ClientKey) {
    front.set_client_due(key, None);
    let Some(client) = front.clients.remove(key) else { return };
    if let Some(pool) = front.pools.get_mut(&client.pool) {
        pool.clients = pool.clients.saturating_sub(1);
        pool.is_counted = true;
    }
}

/// Writes what there is, and closes the connection if that was the last.
pub(crate) fn flush(front: &mut Front, key: ClientKey) {
    match visitor::write(front, key) {
        Written::Gone => return drop_all(front, key),
        Written::Some => rearm(front, key),
        Written::All => {
            if front.clients.get(key).is_some_and(|client| client.due.is_some() || client.is_broken) {
                rearm(front, key);
            }
        }
    }
    let Some(client) = front.clients.get(key) else { return };
    if client.out.len() - client.out_at <= BACKLOG_LOW {
        pace::listen(front, key);
    }
    let Some(client) = front.clients.get_mut(key) else { return };
    let left = client.out.len() - client.out_at;
    if !client.streams.is_empty() {
        let streams = if left <= BACKLOG_LOW { client.streams.clone() } else { Vec::new() };
        for (_, request) in streams {
            pace::answer_on(front, request);
        }
        return;
    }
    if left > 0 {
        return;
    }
    if client.is_broken {
        return close(front, key);
    }
    let leaves = front.leaves_by.is_some() || front.pools.get(&client.pool).is_none_or(|pool| pool.is_leaving);
    if client.is_last || leaves {
        // Unread input would turn the end into a reset, which takes the answer with it over TCP.
        if client.decoder.is_idle() && !client.is_readable {
            return close(front, key);
        }
        client.is_lingering = true;
        // What was left unread must be read away.
        pace::listen(front, key);
        let Some(client) = front.clients.get(key) else { return };
        let _ = shutdown(&client.fd, Shutdown::Write);
        let due = front.now + LINGER;
        front.set_client_due(key, Some(due));
    }
}

/// A connection's time is over.
pub(crate) fn overdue(front: &mut Front, key: ClientKey) {
    if let Some(client) = front.clients.get_mut(key) {
        client.due = None;
    }
    drop_all(front, key);
}
