//! What hyper calls for each request.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;

use http::{HeaderMap, Method, Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use hyper::service::Service;

use super::exchange::{Answer, Exchanges, Fact, Length, placed};
use super::params::{self, Peers};
use super::{ExchangeKey, Settings};
use crate::place::{self, Reason};

/// Reads a request's body.
pub(crate) type Pump = Pin<Box<dyn Future<Output = ()>>>;

/// What hyper calls.
pub(crate) struct Door {
    exchanges: Exchanges,
    settings: Rc<Settings>,
    peers: Peers,
}

impl Door {
    pub(crate) fn new(
        exchanges: Exchanges,
        settings: Rc<Settings>,
        peer: Option<SocketAddr>,
        local: Option<SocketAddr>,
    ) -> Door {
        Door { exchanges, settings, peers: Peers { peer, local } }
    }
}

impl Service<Request<Incoming>> for Door {
    type Response = Response<Answer>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Self::Error>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (head, body) = request.into_parts();
        if let Err(reason) = is_fit(&head.method, &head.headers, head.version) {
            return Box::pin(std::future::ready(Ok(refused(reason))));
        }
        let made = params::params(&head, &self.peers, &self.settings.own);
        let (params, id) = match made {
            Ok(made) => made,
            Err(reason) => return Box::pin(std::future::ready(Ok(refused(reason)))),
        };
        let length = if body.is_end_stream() {
            Length::None
        } else {
            body.size_hint().exact().map_or(Length::Unknown, Length::Known)
        };
        let mut guard = self.exchanges.begin(self.settings.pool, &head.method, params, length, id);
        if length != Length::None {
            self.exchanges.add_pump(Box::pin(pump(self.exchanges.clone(), guard.key(), body)));
        }
        Box::pin(async move {
            let head = poll_fn(|context| guard.poll_head(context)).await;
            Ok(head.map(|()| Answer::of(guard)))
        })
    }
}

/// What hyper lets through and a CGI program must not get.
fn is_fit(method: &Method, headers: &HeaderMap, version: Version) -> Result<(), Reason> {
    if method == Method::CONNECT {
        return Err(Reason::NotImplemented);
    }
    if headers.get_all(http::header::HOST).iter().count() > 1 {
        return Err(Reason::BadRequest);
    }
    if version == Version::HTTP_11 && !headers.contains_key(http::header::HOST) {
        return Err(Reason::BadRequest);
    }
    Ok(())
}

fn refused(reason: Reason) -> Response<Answer> {
    let page = place::plain(reason);
    let mut response = placed(&page).map(|()| Answer::whole(page.body));
    // What follows on this connection could be anything.
    response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    response
}

/// Passes on the body as far as there is room; it goes on beside the answer, so that neither waits for the other.
async fn pump(exchanges: Exchanges, exchange: ExchangeKey, mut body: Incoming) {
    loop {
        if !poll_fn(|context: &mut Context<'_>| exchanges.poll_room(exchange, context)).await {
            // Nobody wants it: hyper reads it away, or closes the connection.
            return;
        }
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        match frame {
            Some(Ok(frame)) => {
                // Trailers have no place in CGI.
                if let Ok(bytes) = frame.into_data()
                    && !bytes.is_empty()
                {
                    exchanges.used(exchange, bytes.len());
                    exchanges.tell(Fact::Body { exchange, bytes });
                }
            }
            None => return exchanges.tell(Fact::BodyEnd { exchange }),
            Some(Err(_)) => return exchanges.tell(Fact::Gone { exchange }),
        }
    }
}
