//! hyper's timer on the front's own clock.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// All who sleep. Send and Sync, because hyper asks for it; there is one thread.
#[derive(Clone, Debug)]
pub(crate) struct Timers(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    now: Instant,
    last: u64,
    sleepers: BTreeMap<(Instant, u64), Waker>,
}

impl Timers {
    /// Nobody sleeps.
    pub(crate) fn new(now: Instant) -> Timers {
        Timers(Arc::new(Mutex::new(Inner { now, last: 0, sleepers: BTreeMap::new() })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What time it is.
    pub(crate) fn set_now(&self, now: Instant) {
        self.inner().now = now;
    }

    /// When the first wakes.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.inner().sleepers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Wakes those whose time has come.
    pub(crate) fn wake(&self) {
        loop {
            let waker = {
                let mut inner = self.inner();
                let now = inner.now;
                match inner.sleepers.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    _ => return,
                }
            };
            waker.wake();
        }
    }

    /// A sleep of so long.
    pub(crate) fn pause(&self, so_long: Duration) -> Sleep {
        let mut inner = self.inner();
        inner.last += 1;
        Sleep { key: (inner.now + so_long, inner.last), timers: self.clone() }
    }
}

/// One who sleeps.
#[derive(Debug)]
pub(crate) struct Sleep {
    key: (Instant, u64),
    timers: Timers,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.timers.inner();
        if inner.now >= self.key.0 {
            return Poll::Ready(());
        }
        inner.sleepers.insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.timers.inner().sleepers.remove(&self.key);
    }
}

impl hyper::rt::Sleep for Sleep {}

impl hyper::rt::Timer for Timers {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(self.pause(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        let now = self.inner().now;
        Box::pin(self.pause(deadline.saturating_duration_since(now)))
    }

    fn now(&self) -> Instant {
        self.inner().now
    }
}
