//! The one request of a CGI program (RFC 3875), by the same service.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::cgi::read_environment;
use crate::codes::{EX_OK, EX_REQUEST};
use crate::failure::Failure;
use crate::head::{self, Variables};
use crate::params::Params;
use crate::tower::answer::{Answer, Line};
use crate::tower::body::{self, Body, Feed, WINDOW};
use crate::tower::handler::{self, Application};
use crate::tower::office::Office;

/// Answers it. The exit code.
pub(super) async fn serve<S: Application>(office: Arc<Office>, service: S) -> Result<u8, Failure> {
    let mut params = Params::default();
    read_environment(&mut params);
    if params.complete(usize::MAX).is_err() {
        return Err(Failure::request("the environment cannot be read"));
    }
    let sent = match head::request(&params) {
        Ok(mut parts) => {
            let is_head_only = parts.method == Method::HEAD;
            let body = read_stdin(head::content_length(&params));
            parts.extensions.insert(Variables(Arc::new(params)));
            let line = Line(parts.method.clone(), parts.uri.clone());
            let response = handler::run(service, Request::from_parts(parts, body), &office).await;
            match write(response, is_head_only).await {
                Err(Unsent::Unsaid(why)) => {
                    office.failed(&line.to_string(), Failure::request(why));
                    let page: Response<Answer<Body>> = handler::failed(&office, line);
                    write(page, is_head_only).await
                }
                sent => sent,
            }
        }
        Err(why) => {
            crate::link::complain(&format!("bad request: {why}"));
            let line = Line(Method::GET, Uri::default());
            let text = "The request cannot be read.";
            let page: Response<Answer<Body>> = handler::page(&office, line, StatusCode::BAD_REQUEST, text);
            write(page, false).await
        }
    };
    match office.load.failure() {
        Some(failure) => Err(failure),
        None => Ok(if sent.is_ok() { EX_OK } else { EX_REQUEST }),
    }
}

/// The body comes on stdin, which cannot be waited for together with others: a thread reads it.
fn read_stdin(length: Option<u64>) -> Body {
    let Some(length) = length else {
        return Body::empty();
    };
    let room = Arc::new(Notify::new());
    let (feed, body) = body::pipe(Some(length), Arc::clone(&room));
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || feed_it(&feed, &room, &runtime));
    body
}

fn feed_it(feed: &Feed, room: &Notify, runtime: &Handle) {
    let mut piece = vec![0; 64 * 1024];
    let mut stdin = io::stdin();
    while !feed.has_ended() {
        while feed.len() >= WINDOW {
            runtime.block_on(room.notified());
        }
        match stdin.read(&mut piece) {
            Ok(0) | Err(_) => feed.end(),
            Ok(got) => feed.push(piece.get(..got).unwrap_or_default()),
        }
    }
}

/// Why an answer was not sent.
enum Unsent {
    /// Nothing of it was, for this reason.
    Unsaid(String),
    /// Not all of it.
    Cut,
}

async fn write<B>(response: Response<Answer<B>>, is_head_only: bool) -> Result<(), Unsent>
where
    Answer<B>: http_body::Body<Data = bytes::Bytes, Error = io::Error>,
{
    let (parts, mut body) = response.into_parts();
    let mut stdout = io::stdout();
    let head = head::write(&parts, body.size_hint().exact(), is_head_only).map_err(Unsent::Unsaid)?;
    stdout.write_all(&head).map_err(|_| Unsent::Cut)?;
    while !is_head_only && head::has_body(parts.status) {
        match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            None => break,
            Some(Err(_)) => return Err(Unsent::Cut),
            Some(Ok(frame)) => {
                let Some(data) = frame.data_ref() else {
                    continue;
                };
                stdout.write_all(data).and_then(|()| stdout.flush()).map_err(|_| Unsent::Cut)?;
            }
        }
    }
    stdout.flush().map_err(|_| Unsent::Cut)
}
