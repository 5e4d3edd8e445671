//! A true sliding window over lines, by their own time.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

/// So much of a line is kept.
const LINE_MAX: usize = 512;

/// One line that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// When it was written.
    pub at: Moment,
    /// How many lines it stands for.
    pub times: u64,
    /// Its text, cut.
    pub line: String,
    /// systemd wrote it about the unit: it stays when the unit begins anew.
    pub is_about: bool,
}

impl Hit {
    /// Of a message as it came.
    pub(crate) fn new(at: Moment, times: u64, message: &[u8], is_about: bool) -> Hit {
        let text = String::from_utf8_lossy(&message[..message.len().min(LINE_MAX)]);
        Hit { at, times, line: text.into_owned(), is_about }
    }
}

/// The lines of the last `within`, and never more than it takes to be full: it is emptied then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    hits: VecDeque<Hit>,
}

impl Window {
    /// Takes a line, and drops those that are more than `within` before it.
    pub(crate) fn push(&mut self, hit: Hit, within: Duration) {
        while self.hits.front().is_some_and(|first| hit.at.since(first.at) > within) {
            self.hits.pop_front();
        }
        self.hits.push_back(hit);
    }

    /// How many lines are in it.
    pub(crate) fn count(&self) -> u64 {
        self.hits.iter().fold(0, |sum, hit| sum.saturating_add(hit.times))
    }

    /// Empties it.
    pub(crate) fn take(&mut self) -> Vec<Hit> {
        std::mem::take(&mut self.hits).into()
    }

    /// Keeps only what systemd wrote: another invocation has begun.
    pub(crate) fn begin(&mut self) {
        self.hits.retain(|hit| hit.is_about);
    }
}
