//! The body of an answer: the application's, in which panics and errors end, or a page in its place.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{Method, Uri};
use http_body::{Body, Frame, SizeHint};

use crate::failure::Failure;
use crate::panics;
use crate::tower::load::InHand;
use crate::tower::office::Office;

/// Which request it is, for the log.
#[derive(Clone, Debug)]
pub(super) struct Line(pub(super) Method, pub(super) Uri);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1.path())
    }
}

/// See above. As long as it lives, its request is in hand.
pub(super) struct Answer<B> {
    source: Source<B>,
    office: Arc<Office>,
    line: Line,
    in_hand: Option<InHand>,
}

enum Source<B> {
    Page(Option<Bytes>),
    Application(Pin<Box<B>>),
    /// It has panicked or failed, and must not be asked again.
    Broken,
}

impl<B> Answer<B> {
    pub(super) fn application(body: B, office: &Arc<Office>, line: Line) -> Answer<B> {
        Answer { source: Source::Application(Box::pin(body)), office: Arc::clone(office), line, in_hand: None }
    }

    pub(super) fn page(page: String, office: &Arc<Office>, line: Line) -> Answer<B> {
        Answer { source: Source::Page(Some(page.into())), office: Arc::clone(office), line, in_hand: None }
    }

    /// The request is in hand until the body is through.
    pub(super) fn keep(mut self, in_hand: InHand) -> Answer<B> {
        self.in_hand = Some(in_hand);
        self
    }
}

// The application's body, the only thing that could be pinned, is in a box.
impl<B> Unpin for Answer<B> {}

impl<B> Body for Answer<B>
where
    B: Body,
    B::Error: fmt::Display,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = match &mut self.source {
            Source::Page(page) => return Poll::Ready(page.take().map(|page| Ok(Frame::data(page)))),
            Source::Broken => return Poll::Ready(None),
            Source::Application(body) => body,
        };
        let polled = panics::catch(|| {
            body.as_mut().poll_frame(cx).map(|frame| {
                frame.map(|frame| {
                    let take = |mut data: B::Data| data.copy_to_bytes(data.remaining());
                    frame.map(|frame| frame.map_data(take)).map_err(|error| error.to_string())
                })
            })
        });
        let failure = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(None)) => return Poll::Ready(None),
            Ok(Poll::Ready(Some(Ok(frame)))) => return Poll::Ready(Some(Ok(frame))),
            Ok(Poll::Ready(Some(Err(error)))) => Failure::request(format!("the body of the answer: {error}")),
            Err(panic) => self.office.panicked(panic),
        };
        let text = failure.message().to_owned();
        self.office.failed(&self.line.to_string(), failure);
        self.source = Source::Broken;
        Poll::Ready(Some(Err(io::Error::other(text))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Page(page) => page.is_none(),
            Source::Application(body) => body.is_end_stream(),
            Source::Broken => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Page(page) => SizeHint::with_exact(page.as_ref().map_or(0, Bytes::len) as u64),
            Source::Application(body) => body.size_hint(),
            Source::Broken => SizeHint::default(),
        }
    }
}
