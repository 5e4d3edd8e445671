//! What the front tells people, by way of the supervisor, which is the only writer of logs.

use std::time::Duration;

use steadfast_proto::front::{FromFront, Note, NoteKind};

use crate::keys::{PoolId, RequestKey};
use crate::request::{Origin, State};
use crate::state::Front;

const SECOND: Duration = Duration::from_secs(1);
/// So many notes about requests of a pool are told in a second: a flood of visitors must not become one of messages.
const NOTES_A_SECOND: u32 = 50;
/// A message in words is no longer.
const MESSAGE_MAX: usize = 4096;

/// Tells something about a request, unless too much has been told of its pool in this second.
pub(crate) fn about(front: &mut Front, key: RequestKey, kind: NoteKind, message: Option<String>) {
    let now = front.now;
    let Some(request) = front.requests.get(key) else { return };
    let Some(rate) = front.pools.get_mut(&request.pool).map(|pool| &mut pool.notes) else { return };
    if now.saturating_duration_since(rate.since) >= SECOND {
        (rate.since, rate.told) = (now, 0);
    }
    if rate.told >= NOTES_A_SECOND {
        rate.kept += 1;
        return;
    }
    rate.told += 1;
    let message = match std::mem::take(&mut rate.kept) {
        0 => message,
        kept => Some(format!("{} (and {kept} notes before it)", message.unwrap_or_default())),
    };
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
