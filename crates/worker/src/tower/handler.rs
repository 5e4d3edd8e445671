//! Runs the service for one request: whatever becomes of it, there is an answer.

use std::any::Any;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode, header};
use tower_service::Service;

use crate::failure::Failure;
use crate::panics;
use crate::tower::answer::{Answer, Line};
use crate::tower::body::Body;
use crate::tower::office::Office;

/// What [`crate::serve`] takes, under one name.
pub(crate) trait Application:
    Service<Request<Body>, Response = Response<Self::Content>, Error = Self::Problem, Future = Self::Doing>
    + Clone
    + Send
    + 'static
{
    type Content: http_body::Body<Error = Self::Trouble> + Send + 'static;
    type Trouble: Display;
    type Problem: Display + 'static;
    type Doing: Future<Output = Result<Response<Self::Content>, Self::Problem>> + Send + 'static;
}

impl<S, B> Application for S
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Display + 'static,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Error: Display,
{
    type Content = B;
    type Trouble = B::Error;
    type Problem = S::Error;
    type Doing = S::Future;
}

/// A future of the application's: a panic comes out as its message and place.
pub(super) struct Caught<F>(Pin<Box<F>>);

impl<F: Future> Caught<F> {
    pub(super) fn new(future: F) -> Caught<F> {
        Caught(Box::pin(future))
    }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match panics::catch(|| self.0.as_mut().poll(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

/// The answer of the service, or a page in its place when it fails.
pub(super) async fn run<S: Application>(
    mut service: S,
    mut request: Request<Body>,
    office: &Arc<Office>,
) -> Response<Answer<S::Content>> {
    let line = Line(request.method().clone(), request.uri().clone());
    request.extensions_mut().insert(office.leaving.clone());
    let answered = Caught::new(async move {
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(failure_of)?;
        service.call(request).await.map_err(failure_of)
    });
    let failure = match answered.await {
        Ok(Ok(response)) => return response.map(|body| Answer::application(body, office, line)),
        Ok(Err(failure)) => failure,
        Err(panic) => office.panicked(panic),
    };
    office.failed(&line.to_string(), failure);
    failed(office, line)
}

/// A [`Failure`] says by itself what follows from it; any other error is this request's.
fn failure_of<E: Display + 'static>(error: E) -> Failure {
    let text = error.to_string();
    let error: Box<dyn Any> = Box::new(error);
    error.downcast::<Failure>().map_or_else(|_| Failure::request(text), |failure| *failure)
}

/// What the visitor of a request that has failed gets.
pub(super) fn failed<B>(office: &Arc<Office>, line: Line) -> Response<Answer<B>> {
    page(office, line, StatusCode::INTERNAL_SERVER_ERROR, "The application has failed.")
}

/// A page in the application's place.
pub(super) fn page<B>(office: &Arc<Office>, line: Line, status: StatusCode, text: &str) -> Response<Answer<B>> {
    let title = status.canonical_reason().unwrap_or("Error");
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body><h1>{title}</h1><p>{text}</p></body></html>\n"
    );
    let mut response = Response::new(Answer::page(page, office, line));
    *response.status_mut() = status;
    let html = header::HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}
