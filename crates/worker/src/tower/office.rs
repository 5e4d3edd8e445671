//! What all connections of a worker share.

use std::sync::Arc;

use crate::builder::AfterPanic;
use crate::codes::EX_REQUEST;
use crate::failure::Failure;
use crate::limits::Limits;
use crate::link;
use crate::tower::leaving::Leaving;
use crate::tower::load::Load;

/// See above.
#[derive(Debug)]
pub(super) struct Office {
    pub(super) load: Arc<Load>,
    pub(super) limits: Limits,
    pub(super) after_panic: AfterPanic,
    pub(super) leaving: Leaving,
}

impl Office {
    /// A request has failed: it is told, and if it is final, the worker leaves. `line` says which request.
    pub(super) fn failed(&self, line: &str, mut failure: Failure) {
        let line: String = line.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect();
        failure.message = format!("{line}: {}", failure.message);
        if failure.is_final() {
            self.load.fail(failure);
        } else {
            link::complain(&failure.message);
        }
    }

    /// What a panic is.
    pub(super) fn panicked(&self, panic: String) -> Failure {
        match self.after_panic {
            AfterPanic::GoOn => Failure::request(panic),
            AfterPanic::Leave => Failure::failed(EX_REQUEST, panic),
        }
    }
}
