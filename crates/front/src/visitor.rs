//! The visitor's side of a request: where its answer goes, whoever it is.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SendFlags;
use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::{kind, status};
use steadfast_proto::front::NoteKind;

use crate::cgi;
use crate::keys::{ClientKey, RequestKey};
use crate::limits::BACKLOG_LOW;
use crate::notes;
use crate::place::{self, Page, Reason};
use crate::poller::{Interest, Token};
use crate::request::{Method, Origin};
use crate::state::Front;

/// A connection on which an answer broke off ends so soon, whatever else it carries.
const BROKEN: Duration = Duration::from_secs(1);
/// So much of the answer to a verify request is looked at.
const VERIFY_MAX: usize = 1024 * 1024;
/// Heads and padding of the records of a small answer.
const RECORDS: usize = 64;
/// A client that takes nothing for so long is gone.
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(60);

/// Bytes of the answer that the visitor has not taken.
pub(crate) fn backlog(front: &Front, origin: Origin) -> usize {
    match origin {
        Origin::Fastcgi { client, .. } => {
            front.clients.get(client).map_or(0, |client| client.out.len() - client.out_at)
        }
        Origin::Http(exchange) => front.http.buffered(exchange),
        Origin::Verify(_) | Origin::Gone => 0,
    }
}

/// Passes on the beginning of an answer, whose head ends at `at`.
///
/// # Errors
/// The head makes no sense: why.
pub(crate) fn release(front: &mut Front, key: RequestKey, bytes: &[u8], at: usize) -> Result<(), String> {
    let Some(request) = front.requests.get_mut(key) else { return Ok(()) };
    let (head, rest) = bytes.split_at(at);
    match request.origin {
        Origin::Fastcgi { client, id } => {
            request.reply.is_released = true;
            if let Some(client) = front.clients.get_mut(client) {
                if client.out.capacity() == 0 {
                    client.out = front.spare.pop().unwrap_or_default();
                }
                client.out.reserve(bytes.len() + RECORDS);
                let (status, bytes) = cgi::translated(bytes);
                encode::stream(&mut client.out, kind::STDOUT, id, status);
                encode::stream(&mut client.out, kind::STDOUT, id, bytes);
            }
        }
        Origin::Http(exchange) => {
            let parsed = cgi::parse(head).map_err(|error| error.to_string())?;
            request.reply.is_released = true;
            let id = request.id();
            front.http.head(exchange, parsed, &id);
            front.http.push(exchange, rest).map_err(|error| error.to_string())?;
        }
        Origin::Verify(_) => {
            request.reply.is_released = true;
            request.reply.status = cgi::status_of(head);
            keep(&mut request.reply.head, rest);
        }
        Origin::Gone => request.reply.is_released = true,
    }
    Ok(())
}

/// Passes on more of the body.
///
/// # Errors
/// When it is not what its head has promised to an HTTP client.
pub(crate) fn push(front: &mut Front, key: RequestKey, bytes: &[u8]) -> Result<(), String> {
    let Some(request) = front.requests.get_mut(key) else { return Ok(()) };
    match request.origin {
        Origin::Fastcgi { client, id } => {
            if let Some(client) = front.clients.get_mut(client) {
                encode::stream(&mut client.out, kind::STDOUT, id, bytes);
            }
        }
        Origin::Http(exchange) => return front.http.push(exchange, bytes).map_err(|error| error.to_string()),
        Origin::Verify(_) => keep(&mut request.reply.head, bytes),
        Origin::Gone => {}
    }
    Ok(())
}

/// Keeps as much of the answer to a verify request as is looked at.
fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = VERIFY_MAX.saturating_sub(kept.len());
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// Passes on what the worker wrote to stderr: web servers log it, for others it is told. If the worker dies of the request,
/// people are told it in any case.
pub(crate) fn stderr(front: &mut Front, key: RequestKey, bytes: &[u8]) {
    let Some(request) = front.requests.get_mut(key) else { return };
    match request.origin {
        Origin::Fastcgi { client, id } => {
            request.reply.keep_stderr(bytes);
            if let Some(client) = front.clients.get_mut(client) {
                encode::stream(&mut client.out, kind::STDERR, id, bytes);
            }
        }
        Origin::Http(_) | Origin::Verify(_) | Origin::Gone => {
            let text = String::from_utf8_lossy(bytes).into_owned();
            notes::about(front, key, NoteKind::Stderr, Some(text));
        }
    }
}

/// The answer is complete.
///
/// # Errors
/// When it is not what its head has promised to an HTTP client.
pub(crate) fn end(front: &mut Front, key: RequestKey, app_status: u32) -> Result<(), String> {
    let Some(request) = front.requests.get(key) else { return Ok(()) };
    match request.origin {
        Origin::Fastcgi { client, id } => {
            if let Some(client) = front.clients.get_mut(client) {
                encode::stream_end(&mut client.out, kind::STDOUT, id);
                encode::end_request(&mut client.out, id, app_status, status::REQUEST_COMPLETE);
            }
        }
        Origin::Http(exchange) => return front.http.end(exchange).map_err(|error| error.to_string()),
        Origin::Verify(_) | Origin::Gone => {}
    }
    Ok(())
}

/// The answer has broken off after its head: the visitor must not take it for complete, so its connection ends without
/// a proper end.
pub(crate) fn cut(front: &mut Front, key: RequestKey) {
    let Some(request) = front.requests.get(key) else { return };
    match request.origin {
        Origin::Fastcgi { client, .. } => {
            if let Some(client) = front.clients.get_mut(client) {
                client.is_broken = true;
                client.ends_by.get_or_insert(front.now + BROKEN);
            }
        }
        Origin::Http(exchange) => front.http.cut(exchange),
        Origin::Verify(_) | Origin::Gone => {}
    }
}

/// Answers in a worker's place; nothing has been answered before.
pub(crate) fn place(front: &mut Front, key: RequestKey, reason: Reason) {
    let Some(request) = front.requests.get(key) else { return };
    let Some(pool) = front.pools.get(&request.pool) else { return };
    let answer = place::Answer { reason, id: &request.id(), fallback: &pool.fallback };
    let protocol = if reason == Reason::UnknownRole { status::UNKNOWN_ROLE } else { status::REQUEST_COMPLETE };
    let page = answer.page();
    show(front, key, &page, protocol);
}

/// Answers with this page; nothing has been answered before.
pub(crate) fn show(front: &mut Front, key: RequestKey, page: &Page, protocol: u8) {
    let Some(request) = front.requests.get(key) else { return };
    match request.origin {
        Origin::Fastcgi { client, id } => {
            if let Some(client) = front.clients.get_mut(client) {
                let mut text = Vec::new();
                page.cgi(request.method == Method::Head, &mut text);
                encode::stream(&mut client.out, kind::STDOUT, id, &text);
                encode::stream_end(&mut client.out, kind::STDOUT, id);
                encode::end_request(&mut client.out, id, 0, protocol);
            }
        }
        Origin::Http(exchange) => front.http.place(exchange, page),
        Origin::Verify(_) | Origin::Gone => {}
    }
}

/// Says that there is something to write to this client; it is written at the end of the turn's work on it.
pub(crate) fn touch(front: &mut Front, origin: Origin) {
    if let Origin::Fastcgi { client: key, .. } = origin
        && let Some(client) = front.clients.get_mut(key)
        && !std::mem::replace(&mut client.is_unwritten, true)
    {
        front.unwritten.push(key);
    }
}

/// What became of writing to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Everything.
    All,
    /// The rest waits for room.
    Some,
    /// The client has gone.
    Gone,
}

/// Writes what there is for a client.
pub(crate) fn write(front: &mut Front, key: ClientKey) -> Written {
    let Some(client) = front.clients.get_mut(key) else { return Written::All };
    client.is_unwritten = false;
    let before = client.out_at;
    let written = loop {
        if client.out_at == client.out.len() {
            break Written::All;
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::send(client.fd.as_fd(), &client.out[client.out_at..], flags) {
            Ok(taken) => client.out_at += taken,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break Written::Some,
            Err(_) => break Written::Gone,
        }
    };
    match written {
        Written::All => {
            let was_waiting = client.is_write_heard;
            if was_waiting {
                client.is_write_heard = false;
                let _ = front.poller.modify(client.fd.as_fd(), Token::Client(key), Interest::Read);
            }
            client.out_at = 0;
            let buffer = std::mem::take(&mut client.out);
            front.keep_buffer(buffer);
        }
        Written::Some => {
            let moved = client.out_at > before;
            let is_new = !client.is_write_heard;
            if is_new {
                client.is_write_heard = true;
                let _ = front.poller.modify(client.fd.as_fd(), Token::Client(key), Interest::ReadWrite);
            }
            if client.out_at > BACKLOG_LOW {
                client.out.drain(..client.out_at);
                client.out_at = 0;
            }
            if moved || is_new {
                client.taken = front.now;
            }
        }
        Written::Gone => {}
    }
    written
}
