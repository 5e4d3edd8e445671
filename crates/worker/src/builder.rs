//! What a worker is made of, before it serves.

use std::num::NonZeroU64;

use crate::failure::Failure;
use crate::limits::Limits;
use crate::request::Request;
use crate::response::Response;

/// A step that is taken once.
pub(crate) type Step<'a> = Box<dyn FnMut() -> Result<(), Failure> + 'a>;
/// What answers a request.
pub(crate) type Handler<'a> = dyn FnMut(&mut Request<'_>, &mut Response<'_>) -> Result<(), Failure> + 'a;

/// What becomes of a worker whose handler has panicked. The visitor gets a 500 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterPanic {
    /// It goes on: what one visitor asks for takes no worker away from the others.
    #[default]
    GoOn,
    /// It leaves with [`crate::codes::EX_REQUEST`], and a fresh one takes its place: for applications that may be left half done.
    Leave,
}

/// A FastCGI worker in the making.
///
/// ```no_run
/// use std::io::Write;
/// use std::process::ExitCode;
///
/// use steadfast_worker::Worker;
///
/// fn main() -> ExitCode {
///     Worker::builder()
///         .preload("the greeting", || Ok(()))
///         .max_requests(10_000)
///         .serve(|request, response| {
///             response.header("Content-Type", "text/plain")?;
///             writeln!(response, "Hello. You have asked for {}.", request.path())?;
///             Ok(())
///         })
/// }
/// ```
#[derive(Default)]
pub struct Builder<'a> {
    pub(crate) preload: Vec<(String, Step<'a>)>,
    pub(crate) start: Vec<(String, Step<'a>)>,
    pub(crate) on_term: Vec<Box<dyn FnMut() + 'a>>,
    pub(crate) authorizer: Option<Box<Handler<'a>>>,
    pub(crate) max_requests: Option<NonZeroU64>,
    pub(crate) limits: Limits,
    pub(crate) after_panic: AfterPanic,
    pub(crate) listen: Option<String>,
    #[cfg(feature = "tower")]
    pub(crate) choices: crate::tower::choices::Choices,
}

/// Where a worker begins.
#[derive(Clone, Copy, Debug)]
pub struct Worker;

impl Worker {
    /// A worker in the making.
    #[must_use]
    pub fn builder<'a>() -> Builder<'a> {
        Builder::default()
    }
}

impl<'a> Builder<'a> {
    /// A step before the first request, in a zygote before the first fork: load templates, compile patterns, and look whether
    /// what was loaded is *usable*. Steps are taken in order. One that fails or panics means that no worker of this code can do
    /// better (`broken`, with the step's name): the worker leaves with [`crate::codes::EX_PRELOAD`], or with the code of
    /// [`Failure::failed`], [`Failure::broken`] or [`Failure::unavailable`]. In a zygote it must not start threads.
    #[must_use]
    pub fn preload(mut self, name: impl Into<String>, step: impl FnMut() -> Result<(), Failure> + 'a) -> Builder<'a> {
        self.preload.push((name.into(), Box::new(step)));
        self
    }

    /// A step that each worker takes by itself before its first request, after the fork if there is one: connect to the
    /// database, start threads. One that fails or panics ends this worker, with [`crate::codes::EX_START`] or the code of the
    /// failure.
    #[must_use]
    pub fn start(mut self, name: impl Into<String>, step: impl FnMut() -> Result<(), Failure> + 'a) -> Builder<'a> {
        self.start.push((name.into(), Box::new(step)));
        self
    }

    /// What to do when the worker has been asked to leave (SIGTERM) and has finished what it had in hand. Several are called in
    /// their order. A signal handler that was there before is called as well, at once.
    #[must_use]
    pub fn on_term(mut self, step: impl FnMut() + 'a) -> Builder<'a> {
        self.on_term.push(Box::new(step));
        self
    }

    /// The worker leaves after so many requests; 0 means never.
    #[must_use]
    pub fn max_requests(mut self, max: u64) -> Builder<'a> {
        self.max_requests = NonZeroU64::new(max);
        self
    }

    /// What a request may cost before the application sees it.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Builder<'a> {
        self.limits = limits;
        self
    }

    /// Whether the worker goes on after a panic of the handler.
    #[must_use]
    pub fn after_panic(mut self, after_panic: AfterPanic) -> Builder<'a> {
        self.after_panic = after_panic;
        self
    }

    /// Where to listen when the program is started by hand, so that fd 0 is no socket: `127.0.0.1:9000`, or the path of a unix
    /// socket.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Builder<'a> {
        self.listen = Some(address.into());
        self
    }

    /// Answers requests of the role Authorizer (FastCGI 1.0 §6.3): status 200 lets the request pass, any other answer is what
    /// the client gets. Without this such requests are refused: a responder's 200 must not let anybody in.
    #[must_use]
    pub fn authorizer<H>(mut self, handler: H) -> Builder<'a>
    where
        H: FnMut(&mut Request<'_>, &mut Response<'_>) -> Result<(), Failure> + 'a,
    {
        self.authorizer = Some(Box::new(handler));
        self
    }
}
