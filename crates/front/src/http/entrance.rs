//! Where hyper hands in requests and takes out answers.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::Service;

use super::answer;
use super::exchange::{Course, Exchange};
use super::shared::Handle;
use super::variables;
use crate::place::Reason;

/// The service of one connection.
pub(super) struct Entrance(pub(super) Handle);

impl Service<Request<Incoming>> for Entrance {
    type Response = Response<Flow>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let shared = &mut *self.0.borrow_mut();
        let (parts, body) = request.into_parts();
        let length = variables::length(&parts, &body);
        let mut exchange = Exchange::new((!body.is_end_stream()).then_some(body));
        exchange.is_head = parts.method == http::Method::HEAD;
        exchange.is_old = parts.version < Version::HTTP_11;
        exchange.wants_keeping = exchange.is_old && variables::wants_keeping(&parts.headers);
        let is_clear = shared.strict.next_head().is_some_and(|frame| frame.is_clear());
        let asked = if is_clear {
            variables::read(&parts, length, &shared.settings, shared.peer, &shared.socket.fd)
        } else {
            Err(Reason::BadRequest)
        };
        match asked {
            Ok(asked) => {
                exchange.is_known = true;
                shared.asked = Some(asked);
            }
            Err(reason) => answer::refuse(&mut exchange, reason),
        }
        let before = shared.exchange.replace(exchange);
        shared.over.extend(before.and_then(|exchange| exchange.key));
        Answering(self.0.clone())
    }
}

/// Waits for an answer's head. It registers no waker: its connection is polled when there is one.
pub(super) struct Answering(Handle);

impl Future for Answering {
    type Output = Result<Response<Flow>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let head = self.0.borrow_mut().exchange.as_mut().and_then(answer::take_head);
        head.map_or(Poll::Pending, |parts| Poll::Ready(Ok(Response::from_parts(parts, Flow(self.0.clone())))))
    }
}

/// An answer's body has broken off.
#[derive(Debug)]
pub(super) struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer broke off")
    }
}

impl std::error::Error for BrokenOff {}

/// The body of an answer.
pub(super) struct Flow(Handle);

impl Body for Flow {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let shared = &mut *self.0.borrow_mut();
        let Some(exchange) = &mut shared.exchange else { return Poll::Ready(None) };
        if !exchange.queue.is_empty() {
            let bytes = exchange.queue.split().freeze();
            shared.socket.unwritten += bytes.len();
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match exchange.course {
            Course::Open => Poll::Pending,
            Course::Ended => Poll::Ready(None),
            Course::Cut => {
                // An error loses what hyper has not written: it is asked to do that first.
                exchange.course = Course::CutAsked;
                shared.socket.is_clean = false;
                Poll::Pending
            }
            Course::CutAsked if shared.socket.is_clean => Poll::Ready(Some(Err(BrokenOff))),
            Course::CutAsked => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.0.borrow();
        let exchange = shared.exchange.as_ref();
        exchange.is_none_or(|exchange| exchange.queue.is_empty() && exchange.course == Course::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.0.borrow();
        match &shared.exchange {
            // What was promised stands in a header, and hyper reads it there.
            Some(exchange) if exchange.promised.is_none() && exchange.course == Course::Ended => {
                SizeHint::with_exact(exchange.queue.len() as u64)
            }
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // hyper has all that it wants of it; it is still to be written.
        if let Ok(mut shared) = self.0.try_borrow_mut() {
            shared.socket.is_clean = false;
            if let Some(exchange) = &mut shared.exchange {
                exchange.is_sent = true;
            }
        }
    }
}
