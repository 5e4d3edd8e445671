//! How an application that is a tower `Service` says that it wants to be served.

use std::fmt::Display;
use std::future::Future;
use std::num::{NonZeroU32, NonZeroUsize};
use std::process::ExitCode;

use http::{Request, Response};
use tower_service::Service;

use crate::builder::{Builder, Worker};
use crate::failure::Failure;
use crate::life;
use crate::tower::body::Body;
use crate::tower::choices::Protocol;
use crate::tower::life::serve as serve_requests;

/// Serves an application, such as an axum `Router`, without further ado (feature `tower`): see [`Builder::serve_tower`].
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use axum::Router;
/// use axum::routing::get;
///
/// fn main() -> ExitCode {
///     steadfast_worker::serve(Router::new().route("/", get(async || "Hello.\n")))
/// }
/// ```
pub fn serve<S, B>(service: S) -> ExitCode
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Display + 'static,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Error: Display,
{
    Worker::builder().serve_tower(service)
}

/// Feature `tower`.
impl Builder<'_> {
    /// How many requests the application takes at a time, 128 unless it says. Beyond that others wait, here or in the kernel's
    /// queue, where other workers may take them. 0 is 1.
    #[must_use]
    pub fn concurrency(mut self, concurrency: u32) -> Self {
        self.choices.concurrency = NonZeroU32::new(concurrency.max(1));
        self
    }

    /// How many threads handle requests, 1 unless the application says: a process manager runs several workers.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.choices.threads = NonZeroUsize::new(threads);
        self
    }

    /// HTTP/1.1 is spoken on an inherited socket, and where [`Builder::listen`] says, instead of FastCGI. The starter may say so,
    /// too, or say otherwise: `STEADFAST_PROTOCOL=http` or `fastcgi` in the environment.
    #[must_use]
    pub fn http(mut self) -> Self {
        self.choices.protocol = Protocol::Http;
        self
    }

    /// Where to speak HTTP/1.1 when the program is started by hand, so that fd 0 is no socket: `127.0.0.1:3000`, or the path of a
    /// unix socket. The variable `LISTEN` says something else: `http://127.0.0.1:3000`, or as of [`Builder::listen`], for
    /// FastCGI. What it listens on is told on stderr.
    #[must_use]
    pub fn listen_http(mut self, address: impl Into<String>) -> Self {
        self.choices.listen_http = Some(address.into());
        self
    }

    /// Takes the steps, then gives requests to a tower [`Service`], such as an axum `Router`: many at a time, in one process, on
    /// a tokio runtime. It is made after the fork, if there is one, and before the start steps, which may use it. The exit code
    /// says why the worker has left ([`crate::codes`]).
    ///
    /// * On a listening socket FastCGI is spoken, or HTTP/1.1 ([`Builder::http`], [`Builder::listen_http`]); as a CGI program it
    ///   answers the one request. The same application serves all three. What came by FastCGI or CGI has
    ///   [`Variables`](crate::Variables) as an extension, and every request [`Leaving`](crate::Leaving).
    /// * Errors and panics are a 500 and a line on stderr. An error that is a [`Failure`] says more, as in the plain loop.
    /// * When the client goes away, or the web server asks for the end of a request, the future that handles it is dropped.
    /// * When the worker is asked to leave (SIGTERM, or a word of its supervisor), it finishes what it has in hand and closes
    ///   connections that wait for nothing. Requests that a web server mixes into a busy connection are served for 5 s more.
    /// * Requests for other roles than the responder's are refused.
    pub fn serve_tower<S, B>(self, service: S) -> ExitCode
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Display + 'static,
        S::Future: Send + 'static,
        B: http_body::Body + Send + 'static,
        B::Error: Display,
    {
        self.serve_tower_with(async || Ok(service))
    }

    /// As [`Builder::serve_tower`], for an application that must be made inside the runtime, after the fork: one with a pool of
    /// database connections. That is the last start step, named `application`.
    ///
    /// ```no_run
    /// use std::process::ExitCode;
    ///
    /// use axum::Router;
    /// use axum::routing::get;
    /// use steadfast_worker::Worker;
    ///
    /// fn main() -> ExitCode {
    ///     Worker::builder().max_requests(10_000).serve_tower_with(async || {
    ///         let greeting = std::fs::read_to_string("greeting.txt")?;
    ///         Ok(Router::new().route("/", get(async move || greeting)))
    ///     })
    /// }
    /// ```
    pub fn serve_tower_with<M, F, S, B>(self, make: M) -> ExitCode
    where
        M: FnOnce() -> F,
        F: Future<Output = Result<S, Failure>>,
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Display + 'static,
        S::Future: Send + 'static,
        B: http_body::Body + Send + 'static,
        B::Error: Display,
    {
        let concurrency = self.choices.concurrency();
        ExitCode::from(life::run(self, concurrency, |builder, link| serve_requests(builder, link, make)))
    }
}
