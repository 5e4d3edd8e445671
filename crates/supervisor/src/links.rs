//! Links: what was said over them is kept, and workers are spoken to.

use std::time::Duration;

use rustix::net::{SendFlags, send};
use steadfast_policy::class::Class;
use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::WorkerId;
use steadfast_proto::link::{self, Failure, ToWorker, Unavailable};

use crate::events::kind::Kind;
use crate::pools::LastExit;
use crate::shell::Shell;
use crate::timers::Timer;
use crate::voice::{Speaker, Word};
use crate::words;

/// The longest time that an unavailable dependency may ask for.
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// A zygote without a link has ended within so long, or is ended.
const UNLINKED_MAX: Duration = Duration::from_secs(1);

/// Told once in a life: what a worker says wrongly it mostly says often.
pub(crate) fn nonsense(shell: &mut Shell, id: Speaker, what: &str) {
    if let Some(link) = shell.voice(id).and_then(|voice| voice.link.as_mut())
        && !std::mem::replace(&mut link.warned, true)
    {
        let event = shell.event_by(Kind::WorkerWarned, id);
        shell.emit(event.message(format!("on its link: {what}")));
    }
}

/// A worker's word that its whole generation is broken is charged when it is said: it is the pool's last failure from
/// then on, not only when the worker has left.
pub(crate) fn broken(shell: &mut Shell, id: WorkerId) {
    let now = shell.now;
    let word = shell.workers.get(id).and_then(|worker| worker.voice.word.clone()).unwrap_or_default();
    if let Some(pool) = shell.pool_of(id) {
        pool.failure = Some(LastExit {
            class: Class::Broken.word(),
            code: word.code,
            signal: None,
            name: word.name,
            message: word.message,
            request: None,
            at: now,
            stderr: Vec::new(),
        });
    }
    shell.facts.push_back(Fact::WorkerBroken { worker: id });
}

/// Notes what a process said of its failure.
pub(crate) fn keep(shell: &mut Shell, id: Speaker, failure: Failure) {
    let clean = |text: String| crate::output::escape(text.as_bytes(), 1024);
    if let Some(voice) = shell.voice(id) {
        voice.has_said_that_it_leaves = true;
        voice.word =
            Some(Word { code: failure.code, name: failure.name.map(clean), message: failure.message.map(clean) });
    }
}

/// The same of a dependency that is away; how long it asks to be left alone.
pub(crate) fn keep_unavailable(shell: &mut Shell, id: Speaker, unavailable: Unavailable) -> Option<Duration> {
    keep(shell, id, Failure { code: None, name: unavailable.name, message: unavailable.message });
    unavailable.retry_after_ms.map(|millis| Duration::from_millis(millis).min(RETRY_MAX))
}

/// A process is killed that has not become ready. If it has had its time, that is why; what `more` finds stands behind it.
pub(crate) fn note_late(shell: &mut Shell, id: Speaker, more: impl FnOnce(&mut Shell) -> String) {
    let life = match id {
        Speaker::Worker(id) => shell.workers.get(id).map(|worker| (worker.pool, worker.generation, worker.started)),
        Speaker::Zygote(id) => shell.zygotes.get(id).map(|zygote| (zygote.pool, zygote.generation, zygote.started)),
    };
    let Some((pool, generation, since)) = life else {
        return;
    };
    let ready_timeout = shell.pools.get(pool).map(|pool| pool.plan_of(generation).config.ready_timeout);
    let ready_timeout = ready_timeout.unwrap_or_default();
    // It was ordered a little before it was there.
    if shell.now.since(since) + Duration::from_millis(250) < ready_timeout {
        return;
    }
    let more = more(shell);
    if let Some(voice) = shell.voice(id) {
        let message = format!("it was not ready within {}{more}", words::duration(ready_timeout));
        voice.word.get_or_insert(Word { code: None, name: None, message: Some(message) });
    }
}

/// Says something to a worker, if it has a link with room. Whether it hears is its own matter: TERM follows anyway.
pub(crate) fn say(shell: &Shell, id: WorkerId, message: &ToWorker) {
    if let Some(link) = shell.workers.get(id).and_then(|worker| worker.voice.link.as_ref())
        && let Some(line) = link::encode(message)
    {
        let _ = send(&link.fd, &line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

/// Hears it no more. A zygote of which nothing can be ordered is none: it has a moment to end by itself.
pub(crate) fn close(shell: &mut Shell, id: Speaker) {
    if let Speaker::Zygote(zygote) = id {
        let at = shell.now.after(UNLINKED_MAX);
        shell.timers.set(Timer::ZygoteLeave(zygote), at);
    }
    if let Some(voice) = shell.voice(id) {
        voice.link = None;
    }
}
