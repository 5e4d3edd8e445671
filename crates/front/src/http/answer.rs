//! Answers as hyper writes them: a worker's head, or a page in its place.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, SERVER};
use http::response::Parts;
use http::{HeaderValue, Response, StatusCode};
use hyper::ext::ReasonPhrase;

use super::exchange::Exchange;
use crate::cgi;
use crate::place::{self, Page, Reason};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers with a worker's head; its body follows.
pub(super) fn with_head(exchange: &mut Exchange, head: cgi::Head, id: &str) {
    if exchange.is_answered {
        return;
    }
    let mut parts = empty(head.status);
    parts.headers = head.headers;
    if let Some(reason) = head.reason.and_then(|reason| ReasonPhrase::try_from(reason).ok()) {
        parts.extensions.insert(reason);
    }
    let has_no_length = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    exchange.is_bodiless = exchange.is_head || has_no_length;
    exchange.promised = head.content_length;
    if let Some(length) = head.content_length.filter(|_| !has_no_length) {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        parts.headers.insert(REQUEST_ID, id);
    }
    exchange.id = id.into();
    finish(&mut parts);
    exchange.is_answered = true;
    exchange.head = Some(Box::new(parts));
}

/// Answers with a page, if what the visitor gets can still be decided.
pub(super) fn with_page(exchange: &mut Exchange, page: &Page) {
    if !exchange.is_undecided() {
        return;
    }
    let mut parts = empty(page.status);
    for (name, value) in &page.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            parts.headers.insert(name, value);
        }
    }
    let has_no_body = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    exchange.is_bodiless = exchange.is_head || has_no_body;
    if has_no_body {
        parts.headers.remove(CONTENT_LENGTH);
    }
    finish(&mut parts);
    exchange.replace(parts, &page.body);
}

/// Refuses a request of which the core was not told, and its connection with it: where one request ends and the next
/// begins is not certain any more.
pub(super) fn refuse(exchange: &mut Exchange, reason: Reason) {
    with_page(exchange, &place::plain(reason));
    exchange.upload = None;
    if let Some(head) = &mut exchange.head {
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// The head for hyper, when it asks: what is known by then saves an answer its chunks.
pub(super) fn take_head(exchange: &mut Exchange) -> Option<Parts> {
    let mut parts = *exchange.head.take()?;
    let is_whole = exchange.course == super::exchange::Course::Ended;
    let has_length = is_whole || exchange.is_bodiless || parts.headers.contains_key(CONTENT_LENGTH);
    if exchange.wants_keeping && has_length && !parts.headers.contains_key(CONNECTION) {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
    }
    Some(parts)
}

fn empty(status: u16) -> Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    parts
}

fn finish(parts: &mut Parts) {
    parts.headers.entry(SERVER).or_insert(HeaderValue::from_static("steadfast"));
}
