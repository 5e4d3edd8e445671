//! The one place where a request ends: counted once, forgotten by everybody.

use steadfast_proto::front::NoteKind;

use crate::keys::RequestKey;
use crate::load;
use crate::notes;
use crate::pace;
use crate::place::Reason;
use crate::request::{Origin, State};
use crate::state::Front;
use crate::visitor;
use crate::workers;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A worker answered it.
    Served,
    /// It was answered in a worker's place.
    Placed(Reason),
    /// Its answer broke off.
    Lost,
    /// Its client had gone before.
    Aborted,
    /// It was no visit: it asked the front for the pool's status.
    Told,
}

/// Answers in a worker's place, and that is the end of it. No worker has it any more.
pub(crate) fn refuse(front: &mut Front, key: RequestKey, reason: Reason) {
    visitor::place(front, key, reason);
    let kind = match reason {
        Reason::QueueFull | Reason::QueueTimeout => Some(NoteKind::Shed),
        Reason::Quarantined => Some(NoteKind::Quarantined),
        _ => None,
    };
    if let Some(kind) = kind {
        notes::about(front, key, kind, Some(reason.word().to_owned()));
    }
    finish(front, key, Outcome::Placed(reason));
}

/// Forgets a request that no worker has any more.
pub(crate) fn finish(front: &mut Front, key: RequestKey, outcome: Outcome) {
    front.set_request_due(key, None);
    let Some(mut request) = front.requests.remove(key) else { return };
    let now = front.now;
    match request.origin {
        Origin::Fastcgi { client, id } => {
            visitor::touch(front, request.origin);
            if let Some(client) = front.clients.get_mut(client) {
                client.decoder.end(id);
                client.streams.retain(|(_, other)| *other != key);
            }
            // Its body may be why the client was left unread.
            pace::listen(front, client);
        }
        Origin::Http(exchange) => {
            front.exchanges.remove(&exchange);
        }
        // Nobody's visit: not counted.
        Origin::Verify(_) => {
            front.keep_buffer(request.wire);
            return;
        }
        Origin::Gone => {}
    }
    let Some(pool) = front.pools.get_mut(&request.pool) else { return };
    if request.state == State::Waiting {
        pool.waiting = pool.waiting.saturating_sub(1);
        pool.is_loaded = true;
        compact(pool, &front.requests);
    }
    if let Some(suspicion) = request.suspicion
        && suspicion.is_trial
        && let Some(quarantine) = pool.suspects.get_mut(&suspicion.key)
    {
        quarantine.on_trial = false;
    }
    if outcome == Outcome::Told {
        front.keep_buffer(request.params);
        return;
    }
    pool.is_counted = true;
    pool.figures.accepted += 1;
    let counted = &mut pool.counters.requests;
    counted.total += 1;
    match outcome {
        Outcome::Told => {}
        Outcome::Served => counted.ok += 1,
        Outcome::Lost => counted.lost += 1,
        Outcome::Aborted => counted.aborted += 1,
        Outcome::Placed(reason) => {
            counted.error += 1;
            match reason {
                Reason::QueueFull | Reason::QueueTimeout => counted.shed += 1,
                Reason::RequestTimeout => counted.timeout += 1,
                Reason::Down => counted.fallback += 1,
                Reason::Quarantined => counted.quarantined += 1,
                _ => {}
            }
        }
    }
    if outcome == Outcome::Served {
        let took = now.saturating_duration_since(request.arrived);
        pool.counters.duration.count(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
    let has_status = pool.config.status.is_some();
    load::changed(front, request.pool);
    front.keep_buffer(std::mem::take(&mut request.wire));
    let params = if has_status { workers::remember(front, request) } else { request.params };
    front.keep_buffer(params);
}

/// Those who have gone leave the queue when they are many.
fn compact(pool: &mut crate::state::Pool, requests: &slotmap::SlotMap<RequestKey, crate::request::Request>) {
    let waiting = usize::try_from(pool.waiting).unwrap_or(usize::MAX);
    if pool.queue.len() > waiting.saturating_mul(2).saturating_add(64) {
        pool.queue.retain(|key| requests.get(*key).is_some_and(|request| request.state == State::Waiting));
    }
}
