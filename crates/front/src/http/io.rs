//! A non-blocking socket as hyper wants it. Reads and writes are tried only when the kernel has told that they may
//! succeed, so that waiting costs no system call.

use std::cell::Cell;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::ReadBufCursor;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::sleep::{Sleep, Timers};

/// A client that takes nothing for so long is gone.
const WRITE_STALL: Duration = Duration::from_secs(60);
/// One read takes at most so much.
const READ_MAX: usize = 16 * 1024;

/// What the kernel has told, and nobody has used up.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    readable: Rc<Cell<bool>>,
    ended: Rc<Cell<bool>>,
    writable: Rc<Cell<bool>>,
}

impl Readiness {
    /// The kernel has told something.
    pub(crate) fn told(&self, readable: bool, writable: bool) {
        if readable {
            self.readable.set(true);
        }
        // Both at once: the end may hide behind the last bytes.
        self.ended.set(self.ended.get() || (readable && writable));
        if writable {
            self.writable.set(true);
        }
    }
}

/// The socket.
pub(crate) struct Io {
    fd: Rc<OwnedFd>,
    readiness: Readiness,
    timers: Timers,
    stall: Option<Sleep>,
}

/// A socket, and where the kernel's word about it goes.
pub(crate) fn new(fd: Rc<OwnedFd>, timers: Timers) -> (Io, Readiness) {
    let flag = || Rc::new(Cell::new(true));
    let readiness = Readiness { readable: flag(), ended: Rc::default(), writable: flag() };
    (Io { fd, readiness: readiness.clone(), timers, stall: None }, readiness)
}

impl hyper::rt::Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.readiness.readable.get() {
            return Poll::Pending;
        }
        let mut bytes = [0; READ_MAX];
        let want = buffer.remaining().min(READ_MAX);
        loop {
            match rustix::net::recv(&*self.fd, &mut bytes[..want], RecvFlags::DONTWAIT) {
                Ok((taken, _)) => {
                    // A short read has emptied the socket; but if the peer has ended, its end is still to be read.
                    if taken < want && taken > 0 && !self.readiness.ended.get() {
                        self.readiness.readable.set(false);
                    }
                    buffer.put_slice(&bytes[..taken]);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.readiness.readable.set(false);
                    return Poll::Pending;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        while self.readiness.writable.get() {
            match rustix::net::send(&*self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(taken) => {
                    self.stall = None;
                    return Poll::Ready(Ok(taken));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.readiness.writable.set(false),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        if self.stall.is_none() {
            self.stall = Some(self.timers.pause(WRITE_STALL));
        }
        match self.stall.as_mut().map(|stall| Pin::new(stall).poll(context)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(std::io::ErrorKind::TimedOut.into())),
            _ => Poll::Pending,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let _ = rustix::net::shutdown(&*self.fd, rustix::net::Shutdown::Write);
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        if !self.readiness.writable.get() || slices.len() <= 1 {
            return self.poll_write(context, slices.first().map_or(&[], |slice| slice));
        }
        let mut none = rustix::net::SendAncillaryBuffer::default();
        match rustix::net::sendmsg(&*self.fd, slices, &mut none, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(taken) => {
                self.stall = None;
                Poll::Ready(Ok(taken))
            }
            Err(Errno::AGAIN | Errno::INTR) => self.poll_write(context, slices.first().map_or(&[], |slice| slice)),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
