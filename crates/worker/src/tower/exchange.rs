//! One FastCGI request: runs the service, and writes its answer in records.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::{Body as _, Frame};
use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::{CHUNK_MAX, kind, status};
use tokio::sync::oneshot;

use crate::failure::Failure;
use crate::head;
use crate::tower::answer::{Answer, Line};
use crate::tower::body::Body;
use crate::tower::handler::{self, Application};
use crate::tower::office::Office;
use crate::tower::requests::Begun;
use crate::tower::wire::Wire;

/// One request in hand, and what is to be sent for it.
struct Exchange {
    wire: Arc<Wire>,
    id: u16,
    cancelled: oneshot::Receiver<()>,
    records: Vec<u8>,
    has_sent: bool,
    is_done: bool,
}

/// Why an answer ends before its time.
enum Broken {
    /// The web server has asked for that: it gets END.
    Cancelled,
    /// The application has failed in the middle of it, or nobody reads it: nobody may take a part for the whole.
    Off,
    /// Nothing of it was sent, so that another can take its place; why, if that was not told yet.
    Unsaid(Option<String>),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Broken {
        Broken::Off
    }
}

/// Runs the service for a request, and sends its answer.
pub(super) async fn handle<S: Application>(
    wire: Arc<Wire>,
    office: Arc<Office>,
    service: S,
    mut begun: Begun,
    request: Request<Body>,
) {
    let mut exchange = Exchange::new(wire, begun.id, begun.cancelled);
    let line = Line(request.method().clone(), request.uri().clone());
    let is_head_only = request.method() == Method::HEAD;
    let running = async {
        begun.in_hand.wait().await;
        handler::run(service, request, &office).await
    };
    let result = match exchange.unless_cancelled(running).await {
        Ok(response) => exchange.answer(response, is_head_only, &office, line).await,
        Err(broken) => Err(broken),
    };
    exchange.end(result).await;
}

/// Answers a request that the service does not see.
pub(super) async fn refuse(wire: Arc<Wire>, office: Arc<Office>, begun: Begun, status: StatusCode, why: &'static str) {
    let mut exchange = Exchange::new(wire, begun.id, begun.cancelled);
    let line = Line(Method::GET, Uri::default());
    let response: Response<Answer<Body>> = handler::page(&office, line, status, why);
    let result = exchange.send_answer(response, false).await;
    exchange.end(result).await;
}

impl Exchange {
    fn new(wire: Arc<Wire>, id: u16, cancelled: oneshot::Receiver<()>) -> Exchange {
        Exchange { wire, id, cancelled, records: Vec::new(), has_sent: false, is_done: false }
    }

    /// The future is dropped when the answer is no longer wanted.
    async fn unless_cancelled<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Broken> {
        tokio::select! {
            biased;
            Ok(()) = &mut self.cancelled, if !self.cancelled.is_terminated() => Err(Broken::Cancelled),
            result = future => Ok(result),
        }
    }

    /// Sends the answer, or a page in its place while nothing of it was sent.
    async fn answer<B>(
        &mut self,
        response: Response<Answer<B>>,
        is_head_only: bool,
        office: &Arc<Office>,
        line: Line,
    ) -> Result<(), Broken>
    where
        Answer<B>: http_body::Body<Data = Bytes, Error = io::Error>,
    {
        match self.send_answer(response, is_head_only).await {
            Err(Broken::Unsaid(why)) => {
                if let Some(why) = why {
                    office.failed(&line.to_string(), Failure::request(why));
                }
                self.records.clear();
                let page: Response<Answer<Body>> = handler::failed(office, line);
                self.send_answer::<Body>(page, is_head_only).await
            }
            result => result,
        }
    }

    async fn send_answer<B>(&mut self, response: Response<Answer<B>>, is_head_only: bool) -> Result<(), Broken>
    where
        Answer<B>: http_body::Body<Data = Bytes, Error = io::Error>,
    {
        let (parts, mut body) = response.into_parts();
        let head =
            head::write(&parts, body.size_hint().exact(), is_head_only).map_err(|why| Broken::Unsaid(Some(why)))?;
        encode::stream(&mut self.records, kind::STDOUT, self.id, &head);
        if is_head_only || !head::has_body(parts.status) {
            return Ok(());
        }
        loop {
            let frame = match self.next(&mut body).await? {
                None => return Ok(()),
                Some(Ok(frame)) => frame,
                Some(Err(_)) if self.has_sent => return Err(Broken::Off),
                Some(Err(_)) => return Err(Broken::Unsaid(None)),
            };
            // Trailers have no place in CGI.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            for piece in data.chunks(CHUNK_MAX) {
                encode::stream(&mut self.records, kind::STDOUT, self.id, piece);
                if self.records.len() >= CHUNK_MAX {
                    self.flush().await?;
                }
            }
        }
    }

    /// The next piece. What is there already is sent before one that is not is waited for.
    async fn next<B>(&mut self, body: &mut B) -> Result<Option<io::Result<Frame<Bytes>>>, Broken>
    where
        B: http_body::Body<Data = Bytes, Error = io::Error> + Unpin,
    {
        if let Poll::Ready(frame) = poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await {
            return if self.cancelled.try_recv().is_ok() { Err(Broken::Cancelled) } else { Ok(frame) };
        }
        self.flush().await?;
        self.unless_cancelled(poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.has_sent |= !self.records.is_empty();
        self.wire.send(&self.records).await?;
        self.records.clear();
        Ok(())
    }

    /// The end of the answer, with what was not sent yet.
    async fn end(&mut self, result: Result<(), Broken>) {
        let app_status = match result {
            Ok(()) => 0,
            Err(Broken::Cancelled) => 1,
            Err(Broken::Off | Broken::Unsaid(_)) => return,
        };
        // As soon as END is read the id may be used again.
        self.wire.requests().forget(self.id);
        encode::stream_end(&mut self.records, kind::STDOUT, self.id);
        encode::end_request(&mut self.records, self.id, app_status, status::REQUEST_COMPLETE);
        let is_sent = self.flush().await.is_ok();
        self.is_done = true;
        self.wire.answered(is_sent);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.is_done {
            self.wire.requests().forget(self.id);
            self.wire.answered(false);
        }
    }
}
