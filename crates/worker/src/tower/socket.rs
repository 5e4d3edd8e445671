//! A connection that does not block, of any family.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, send, sendmsg, sockopt};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::sys;

/// See above.
#[derive(Debug)]
pub(super) struct Socket(AsyncFd<OwnedFd>);

impl Socket {
    /// `fd` does not block. Must be called inside the runtime.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Socket> {
        // Answers are sent when they are whole; on a unix socket this is refused, and needless.
        let _ = sockopt::set_tcp_nodelay(&fd, true);
        Ok(Socket(sys::watch(fd)?))
    }

    /// Reads what has come, without waiting; `WouldBlock` when there is nothing.
    pub(super) fn recv_now(&self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::net::recv(self.0.get_ref(), &mut *to, RecvFlags::DONTWAIT) {
                Ok((got, _)) => return Ok(got),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits until something may have come, and calls `take`, until that says something else than `WouldBlock`.
    pub(super) async fn recv_with<T>(&self, mut take: impl FnMut(&Socket) -> io::Result<T>) -> io::Result<T> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(result) = guard.try_io(|_| take(self)) {
                return result;
            }
        }
    }

    /// Waits until the other side has closed, whatever has come before and was not read.
    pub(super) async fn closed(&self) {
        while let Ok(mut guard) = self.0.ready(Interest::READABLE).await {
            if guard.ready().is_read_closed() {
                return;
            }
            guard.clear_ready();
        }
    }

    /// Sends all of it.
    pub(super) async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut guard = self.0.writable().await?;
            let result = guard.try_io(|fd| Ok(send(fd.get_ref(), bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?));
            match result {
                Ok(Ok(sent)) => bytes = bytes.get(sent..).unwrap_or_default(),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// We send no more.
    pub(super) fn finish(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(self.0.get_ref(), Shutdown::Write)?)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let to = buffer.initialize_unfilled();
            if let Ok(result) = guard.try_io(|_| self.recv_now(to)) {
                buffer.advance(result?);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let send =
                |fd: &AsyncFd<OwnedFd>| Ok(sendmsg(fd.get_ref(), slices, &mut SendAncillaryBuffer::default(), flags)?);
            match guard.try_io(send) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.finish())
    }
}
