//! The word that the worker has been asked to leave, for everybody who waits for something.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// So long requests that begin on a connection that is busy with others are served after the worker was asked to leave: the web
/// server could not know. After that they are refused, for a web server that mixes requests may never pause.
const GRACE: Duration = Duration::from_secs(5);

/// Whether the worker has been asked to leave: an extension of each request. Answers that never end by themselves, such as
/// server-sent events, should end then; the worker waits for them.
///
/// ```
/// # async fn example(request: http::Request<steadfast_worker::Body>) {
/// let leaving = request.extensions().get::<steadfast_worker::Leaving>().cloned();
/// if let Some(mut leaving) = leaving {
///     leaving.asked().await;
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Leaving(watch::Receiver<Option<Instant>>);

/// Who says it.
#[derive(Debug)]
pub(super) struct Order(watch::Sender<Option<Instant>>);

pub(super) fn channel() -> (Order, Leaving) {
    let (sender, receiver) = watch::channel(None);
    (Order(sender), Leaving(receiver))
}

impl Leaving {
    /// Waits until the worker is asked to leave.
    pub async fn asked(&mut self) {
        // Without a sender the worker's life is over.
        let _ = self.0.wait_for(Option::is_some).await;
    }

    /// Whether it was.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Whether it was so long ago that requests are refused.
    pub(super) fn is_over(&self) -> bool {
        self.0.borrow().is_some_and(|since| since.elapsed() > GRACE)
    }
}

impl Order {
    pub(super) fn leave(&self) {
        self.0.send_if_modified(|since| since.is_none() && since.replace(Instant::now()).is_none());
    }
}
