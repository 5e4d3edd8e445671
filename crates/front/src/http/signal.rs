//! How a future says that it wants to be polled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use super::fact::ConnectionKey;

/// Connections that want to be run. There is one thread; the lock is what wakers must have, and nobody waits for it.
#[derive(Debug, Default)]
pub(super) struct Woken(Mutex<Vec<ConnectionKey>>);

impl Woken {
    /// Exchanges the list for an empty one.
    pub(super) fn swap(&self, list: &mut Vec<ConnectionKey>) {
        std::mem::swap(list, &mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether nobody wants to be run.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// What a connection's futures wake.
#[derive(Debug)]
pub(super) struct Signal {
    /// Whose.
    pub(super) key: ConnectionKey,
    is_set: AtomicBool,
    woken: Arc<Woken>,
}

impl Signal {
    /// Not set.
    pub(super) fn new(key: ConnectionKey, woken: Arc<Woken>) -> Signal {
        Signal { key, is_set: AtomicBool::new(false), woken }
    }

    /// Whether it was set since it was cleared.
    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    /// Forgets that it was set.
    pub(super) fn clear(&self) {
        self.is_set.store(false, Ordering::Relaxed);
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_set.swap(true, Ordering::Relaxed) {
            self.woken.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.key);
        }
    }
}
