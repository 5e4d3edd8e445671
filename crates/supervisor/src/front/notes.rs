//! What the front notes of single requests, as events; and what workers write to stderr through FastCGI.

use std::time::Duration;

use steadfast_policy::ids::{PoolId, WorkerId};
use steadfast_proto::front::{LINE_MAX, Note, NoteKind};

use crate::events::event::Event;
use crate::events::kind::{Kind, Level};
use crate::output::escape;
use crate::relay;
use crate::shell::Shell;

/// A request's id is short.
const ID_MAX: usize = 128;
/// More of the front's own words.
const MESSAGE_MAX: usize = 4096;

/// One note.
pub(crate) fn noted(shell: &mut Shell, life: u64, note: Note) {
    let now = shell.now;
    let Some(life) = shell.front.life(life) else {
        return;
    };
    let (passes, dropped) = life.rate.pass(now);
    tell_dropped(shell, dropped);
    if !passes {
        return;
    }
    let worker =
        note.worker.map(WorkerId).filter(|id| shell.workers.get(*id).is_some_and(|worker| worker.queued.is_some()));
    if note.kind == NoteKind::Stderr {
        if let (Some(worker), Some(text)) = (worker, note.message) {
            relay::by_front(shell, worker, text.as_bytes());
        }
        return;
    }
    let kind = match note.kind {
        NoteKind::Slow => Kind::RequestSlow,
        NoteKind::Timeout => Kind::RequestTimeout,
        NoteKind::Retried => Kind::RequestRetried,
        NoteKind::Quarantined => Kind::RequestQuarantined,
        NoteKind::Shed => Kind::RequestShed,
        NoteKind::BadAnswer => Kind::RequestBadAnswer,
        NoteKind::Cut => Kind::RequestCut,
        NoteKind::Warning | NoteKind::Stderr => Kind::FrontWarned,
    };
    let mut event = match (worker, note.pool) {
        (Some(worker), _) => shell.event_of(kind, worker),
        (None, Some(pool)) => shell.event_in(kind, PoolId(pool)),
        (None, None) => Event::new(kind),
    };
    if note.kind == NoteKind::Quarantined {
        // That it was quarantined is the news; that it is refused is what follows.
        event = event.level(Level::Warning);
    }
    if let Some(line) = note.line {
        event = event.request(escape(line.as_bytes(), LINE_MAX));
    }
    if let Some(id) = note.id {
        event = event.id(escape(id.as_bytes(), ID_MAX));
    }
    if let Some(after) = note.after_ms {
        event = event.after(Duration::from_millis(after));
    }
    let message =
        note.message.filter(|message| !message.is_empty()).map(|message| escape(message.as_bytes(), MESSAGE_MAX));
    let place = if note.kind == NoteKind::Slow { worker.and_then(|worker| place(shell, worker)) } else { None };
    let words: Vec<String> = message.into_iter().chain(place).collect();
    if !words.is_empty() {
        event = event.message(words.join("; "));
    }
    shell.emit(event);
}

/// Where a slow worker is, as far as the kernel tells.
fn place(shell: &mut Shell, worker: WorkerId) -> Option<String> {
    let pid = shell.workers.get(worker)?.pid;
    shell.procfs.place(pid)
}

fn tell_dropped(shell: &mut Shell, dropped: u64) {
    if dropped > 0 {
        let message = format!("it notes more than is passed on: {dropped} notes were dropped");
        shell.emit(Event::new(Kind::FrontWarned).message(message));
    }
}
