//! The socket as hyper knows it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::exchange::Course;
use super::shared::{Handle, Shared};
use crate::place::{self, Reason};

/// The socket as hyper knows it. It registers no waker: its connection is polled whenever the socket is ready.
pub(super) struct Wire(pub(super) Handle);

impl Read for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let shared = &mut *self.0.borrow_mut();
        let strict = &mut shared.strict;
        let read = shared.socket.read(buffer.remaining(), |bytes| {
            strict.watch(bytes);
            buffer.put_slice(bytes);
        });
        read.map_or(Poll::Pending, |read| Poll::Ready(read.map(|_| ())))
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let shared = &mut *self.0.borrow_mut();
        if shared.refusal.is_some() || refuses(shared, slices) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        shared.socket.write(slices).map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &mut *self.0.borrow_mut();
        shared.socket.is_clean = true;
        shared.socket.is_blocked = false;
        shared.socket.unwritten = 0;
        if shared.exchange.as_ref().is_some_and(|exchange| exchange.course == Course::CutAsked) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's owner does it: there may be a page to send before.
        Poll::Ready(Ok(()))
    }
}

/// hyper answers a head that it cannot read by itself, with nothing for people; whoever sends one gets our page. It is
/// known by its time: nobody else writes when no answer is under way.
fn refuses(shared: &mut Shared, slices: &[IoSlice<'_>]) -> bool {
    let is_quiet = shared.socket.is_clean && shared.exchange.as_ref().is_none_or(|exchange| exchange.is_sent);
    let Some(first) = slices.first().filter(|_| is_quiet) else { return false };
    let reason = match first.get(9..12) {
        Some(b"400") => Reason::BadRequest,
        Some(b"414") => Reason::UriTooLong,
        Some(b"431") => Reason::HeadersTooLarge,
        _ => return false,
    };
    shared.refusal = Some(place::plain(reason));
    true
}
