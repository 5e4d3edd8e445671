//! What the tasks of one FastCGI connection share: its socket, one writer at a time, and its requests.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::tower::load::Open;
use crate::tower::office::Office;
use crate::tower::requests::Requests;
use crate::tower::socket::Socket;

/// See above.
pub(super) struct Wire {
    pub(super) socket: Socket,
    requests: Mutex<Requests>,
    changed: Arc<Notify>,
    /// Held while records are sent, so that each is whole.
    writing: tokio::sync::Mutex<()>,
    is_broken: AtomicBool,
    _open: Open,
}

impl Wire {
    pub(super) fn new(fd: OwnedFd, office: &Arc<Office>, open: Open) -> io::Result<Wire> {
        let changed = Arc::new(Notify::new());
        Ok(Wire {
            socket: Socket::new(fd)?,
            requests: Mutex::new(Requests::new(Arc::clone(office), Arc::clone(&changed))),
            changed,
            writing: tokio::sync::Mutex::new(()),
            is_broken: AtomicBool::new(false),
            _open: open,
        })
    }

    /// Never held while anything is waited for.
    pub(super) fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a request was answered, or a body was taken. For one task: the one that reads.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Sends whole records. Must not be dropped before it is done.
    pub(super) async fn send(&self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let _writing = self.writing.lock().await;
        if self.is_broken.load(Ordering::Acquire) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let result = self.socket.send(records).await;
        if result.is_err() {
            self.is_broken.store(true, Ordering::Release);
        }
        result
    }

    /// The answer of a request that was forgotten was sent, or cannot be.
    pub(super) fn answered(&self, is_whole: bool) {
        self.requests().answered(is_whole);
        self.changed.notify_one();
    }

    /// Nobody reads any more: all that is in hand is cancelled.
    pub(super) fn break_off(&self) {
        self.is_broken.store(true, Ordering::Release);
        self.requests().cancel_all();
    }
}
