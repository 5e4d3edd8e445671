//! One HTTP/1.1 connection, by hyper.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::tower::body::Body;
use crate::tower::handler::{self, Application};
use crate::tower::office::Office;
use crate::tower::socket::Socket;

/// So long a client may take for a request's head, and may say nothing at all.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// The least that hyper takes as the largest head.
const HEAD_LEAST: usize = 8192;

/// Serves it until it ends.
pub(super) async fn serve<S: Application>(fd: OwnedFd, office: Arc<Office>, service: S) {
    let open = office.load.open();
    let Ok(socket) = Socket::new(fd) else {
        return;
    };
    let mut leaving = office.leaving.clone();
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    builder.max_headers(office.limits.params_count).max_buf_size(office.limits.params.max(HEAD_LEAST));
    let handle = service_fn(move |request: Request<Incoming>| {
        let (service, office) = (service.clone(), Arc::clone(&office));
        async move {
            let mut in_hand = office.load.begin();
            in_hand.wait().await;
            let response = handler::run(service, request.map(Body::http), &office).await;
            Ok::<_, Infallible>(response.map(|answer| answer.keep(in_hand)))
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), handle).with_upgrades());
    tokio::select! {
        biased;
        // What broke the connection is the client's own affair; the application's failures were told.
        _ = connection.as_mut() => {}
        () = leaving.asked() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    drop(open);
}
