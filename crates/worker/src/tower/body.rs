//! The body of a request, that the service takes in pieces while its connection brings them.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;

/// So many bytes of a body are kept for a service that does not take them; then its connection is not read.
pub(super) const WINDOW: usize = 256 * 1024;

/// The body of a request (feature `tower`).
///
/// # Errors
/// `UnexpectedEof`: fewer bytes came than `CONTENT_LENGTH` has said, so the client has gone, and what it asked for must not be
/// done. `ConnectionAborted`: the web server does not want the answer any more. `TimedOut`: nobody has taken any of the body
/// for half a minute, while other requests on its connection waited for that. Others: the connection broke.
pub struct Body(Source);

enum Source {
    Empty,
    /// The pieces of a FastCGI request.
    Fed(Arc<Shared>),
    /// Those that hyper has read.
    Http(hyper::body::Incoming),
}

/// The other end of a [`Body`].
pub(super) struct Feed(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Somebody has taken something, or will take nothing any more.
    room: Arc<Notify>,
}

struct State {
    bytes: BytesMut,
    /// What CONTENT_LENGTH has said, less what was taken.
    left: Option<u64>,
    /// What came, of that.
    missing: Option<u64>,
    end: Option<Result<(), (io::ErrorKind, String)>>,
    waker: Option<Waker>,
    is_unwanted: bool,
}

/// A body of `length` bytes, if that is known, and who feeds it. `room` is told when there is room again.
pub(super) fn pipe(length: Option<u64>, room: Arc<Notify>) -> (Feed, Body) {
    let end = (length == Some(0)).then_some(Ok(()));
    let state = State { bytes: BytesMut::new(), left: length, missing: length, end, waker: None, is_unwanted: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), room });
    (Feed(Arc::clone(&shared)), Body(Source::Fed(shared)))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn finish(&mut self, end: Result<(), (io::ErrorKind, String)>) {
        if self.end.is_none() {
            self.end = Some(end);
            self.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Feed {
    /// A piece. It ends where CONTENT_LENGTH has said, whatever else comes.
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut state = self.0.lock();
        if state.is_unwanted || state.end.is_some() {
            return;
        }
        let wanted =
            state.missing.map_or(bytes.len(), |left| bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        let bytes = bytes.get(..wanted).unwrap_or_default();
        state.bytes.extend_from_slice(bytes);
        state.missing = state.missing.map(|left| left - bytes.len() as u64);
        if state.missing == Some(0) {
            state.finish(Ok(()));
        } else if !bytes.is_empty() {
            state.wake();
        }
    }

    /// No more comes.
    pub(super) fn end(&self) {
        let mut state = self.0.lock();
        let end = match state.missing {
            None | Some(0) => Ok(()),
            Some(missing) => {
                let text = format!("the client has gone: {missing} bytes of the request's body have not come");
                Err((io::ErrorKind::UnexpectedEof, text))
            }
        };
        state.finish(end);
    }

    /// What has come is worth nothing.
    pub(super) fn fail(&self, kind: io::ErrorKind, why: &str) {
        let mut state = self.0.lock();
        state.bytes.clear();
        state.finish(Err((kind, why.to_owned())));
    }

    /// No more comes, or what comes is worth nothing.
    pub(super) fn has_ended(&self) -> bool {
        self.0.lock().end.is_some()
    }

    /// Bytes that are kept.
    pub(super) fn len(&self) -> usize {
        self.0.lock().bytes.len()
    }
}

impl Body {
    /// No body at all.
    #[must_use]
    pub fn empty() -> Body {
        Body(Source::Empty)
    }

    pub(super) fn http(incoming: hyper::body::Incoming) -> Body {
        Body(Source::Http(incoming))
    }
}

impl Default for Body {
    fn default() -> Body {
        Body::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("size_hint", &http_body::Body::size_hint(self)).finish()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Source::Fed(shared) = &self.0 {
            let mut state = shared.lock();
            state.is_unwanted = true;
            state.bytes = BytesMut::new();
            drop(state);
            shared.room.notify_one();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let shared = match &mut self.0 {
            Source::Empty => return Poll::Ready(None),
            Source::Http(incoming) => return Pin::new(incoming).poll_frame(cx).map_err(io::Error::other),
            Source::Fed(shared) => shared,
        };
        let mut state = shared.lock();
        if !state.bytes.is_empty() {
            let was_full = state.bytes.len() >= WINDOW;
            let piece = state.bytes.split().freeze();
            state.left = state.left.map(|left| left.saturating_sub(piece.len() as u64));
            drop(state);
            if was_full {
                shared.room.notify_one();
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err((kind, why))) => Poll::Ready(Some(Err(io::Error::new(*kind, why.clone())))),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Empty => true,
            Source::Http(incoming) => incoming.is_end_stream(),
            Source::Fed(shared) => {
                let state = shared.lock();
                state.bytes.is_empty() && state.end == Some(Ok(()))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Empty => SizeHint::with_exact(0),
            Source::Http(incoming) => incoming.size_hint(),
            Source::Fed(shared) => shared.lock().left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
