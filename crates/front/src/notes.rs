//! What the front tells people, by way of the supervisor, which is the only writer of logs.

use std::time::Duration;

use steadfast_proto::front::{FromFront, Note, NoteKind};

use crate::keys::{PoolId, RequestKey};
use crate::request::{Origin, State};
use crate::state::Front;

/// A message in words is no longer.
const MESSAGE_MAX: usize = 4096;

/// Tells something about a request.
pub(crate) fn about(front: &mut Front, key: RequestKey, kind: NoteKind, message: Option<String>) {
    let Some(request) = front.requests.get(key) else { return };
    let lane = match request.state {
        State::Busy(lane) => front.lanes.get(lane).map(|lane| lane.worker),
        State::Reading | State::Waiting => None,
    };
    let worker = match request.origin {
        Origin::Verify(worker) => Some(worker),
        _ => lane,
    };
    let note = Note {
        kind,
        pool: Some(request.pool),
        worker: worker.and_then(|key| front.workers.get(key)).map(|worker| worker.id),
        line: Some(request.line()),
        id: Some(request.id()),
        after_ms: Some(millis(front.now.saturating_duration_since(request.arrived))),
        message: message.map(cut),
    };
    front.channel.send(&FromFront::Note(note));
}

/// Warns people of something that is nobody's request.
pub(crate) fn warn(front: &mut Front, pool: Option<PoolId>, message: String) {
    let note = Note {
        kind: NoteKind::Warning,
        pool,
        worker: None,
        line: None,
        id: None,
        after_ms: None,
        message: Some(cut(message)),
    };
    front.channel.send(&FromFront::Note(note));
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_MAX {
        text.truncate(text.floor_char_boundary(MESSAGE_MAX));
        text.push('…');
    }
    text
}
