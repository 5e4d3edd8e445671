//! How much a worker has in hand, and for what reason it must leave.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::failure::Failure;

/// Counts requests and connections of all tasks.
#[derive(Debug)]
pub(super) struct Load {
    concurrency: u32,
    permits: Arc<Semaphore>,
    requests: AtomicUsize,
    connections: AtomicUsize,
    /// How many requests may still begin before the worker is recycled.
    left: AtomicU64,
    failure: Mutex<Option<Failure>>,
    changed: Notify,
}

/// A connection that is open.
#[derive(Debug)]
pub(super) struct Open(Arc<Load>);

/// A request that has begun and is not answered yet.
#[derive(Debug)]
pub(super) struct InHand {
    load: Arc<Load>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Load {
    pub(super) fn new(concurrency: u32, max_requests: u64) -> Arc<Load> {
        Arc::new(Load {
            concurrency,
            permits: Arc::new(Semaphore::new(usize::try_from(concurrency).unwrap_or(1))),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            left: AtomicU64::new(max_requests),
            failure: Mutex::new(None),
            changed: Notify::new(),
        })
    }

    pub(super) fn concurrency(&self) -> u32 {
        self.concurrency
    }

    pub(super) fn open(self: &Arc<Load>) -> Open {
        self.connections.fetch_add(1, Ordering::AcqRel);
        Open(Arc::clone(self))
    }

    pub(super) fn begin(self: &Arc<Load>) -> InHand {
        self.requests.fetch_add(1, Ordering::AcqRel);
        // u64::MAX is never counted down to 0.
        let _ = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        self.changed.notify_one();
        InHand { load: Arc::clone(self), permit: None }
    }

    /// The worker cannot go on.
    pub(super) fn fail(&self, failure: Failure) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.changed.notify_one();
    }

    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether it has had as many requests as it may.
    pub(super) fn is_used_up(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    /// Whether one more connection may bring one more request.
    pub(super) fn has_room(&self) -> bool {
        self.requests.load(Ordering::Acquire) < usize::try_from(self.concurrency).unwrap_or(1)
    }

    /// Whether nobody is connected, and nothing is in hand.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.load(Ordering::Acquire) == 0 && self.connections.load(Ordering::Acquire) == 0
    }

    /// Waits until any of this may have changed. For one task: the life.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl InHand {
    /// Waits until no more than `concurrency` requests are being handled.
    pub(super) async fn wait(&mut self) {
        // The semaphore is never closed.
        self.permit = Arc::clone(&self.load.permits).acquire_owned().await.ok();
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.load.requests.fetch_sub(1, Ordering::AcqRel);
        self.load.changed.notify_one();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_one();
    }
}
