//! A web server's side: what it says, and what it hears.

#![allow(dead_code)] // each test program uses a part of it

pub(crate) mod process;
pub(crate) mod wire;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use steadfast_worker::fuzzing::{Desk, Handler};
use steadfast_worker::{AfterPanic, Failure, Limits, Request, Response};
use wire::Reply;

pub(crate) fn desk() -> Desk {
    Desk::new(Limits::default(), AfterPanic::GoOn)
}

/// Sends `bytes` in pieces of `piece` on one connection, half-closes it, and hears what is said.
pub(crate) fn converse_in_pieces<'a>(
    desk: &mut Desk,
    bytes: &[u8],
    piece: usize,
    handler: &mut Handler<'a>,
    authorizer: Option<&mut Handler<'a>>,
) -> (Reply, Result<u64, Failure>) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    thread::scope(|scope| {
        let mut reading = ours.try_clone().expect("a copy");
        let heard = scope.spawn(move || {
            let mut heard = Vec::new();
            // A connection that is closed before all was read is reset.
            let _ = reading.read_to_end(&mut heard);
            heard
        });
        scope.spawn(move || {
            let mut ours = &ours;
            let _ = bytes.chunks(piece.max(1)).try_for_each(|piece| ours.write_all(piece));
            let _ = ours.shutdown(Shutdown::Write);
        });
        let result = desk.serve(theirs.into(), u64::MAX, handler, authorizer);
        (Reply::parse(&heard.join().expect("no panic")), result)
    })
}

/// The same in one piece, to a responder.
pub(crate) fn converse(
    bytes: &[u8],
    mut handler: impl FnMut(&mut Request<'_>, &mut Response<'_>) -> Result<(), Failure>,
) -> Reply {
    converse_in_pieces(&mut desk(), bytes, bytes.len(), &mut handler, None).0
}

/// Answers with the method, all parameters and the body.
pub(crate) fn echo(request: &mut Request<'_>, response: &mut Response<'_>) -> Result<(), Failure> {
    let mut body = Vec::new();
    request.read_to_end(&mut body)?;
    response.header("Content-Type", "application/octet-stream")?;
    for (name, value) in request.params() {
        response.write_all(name)?;
        response.write_all(b"=")?;
        response.write_all(value)?;
        response.write_all(b"\n")?;
    }
    response.write_all(b"\n")?;
    response.write_all(&body)?;
    Ok(())
}

/// Says how many bytes the body had.
pub(crate) fn count(request: &mut Request<'_>, response: &mut Response<'_>) -> Result<(), Failure> {
    let mut body = Vec::new();
    request.read_to_end(&mut body)?;
    write!(response, "{}", body.len())?;
    Ok(())
}
