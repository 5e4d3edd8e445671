//! Hears what cooperating workers say over their links, within limits, and speaks to them.

use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use steadfast_policy::class::Class;
use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::WorkerId;
use steadfast_proto::link::{self, Failure, FromWorker, Role, ToWorker};

use crate::events::kind::Kind;
use crate::pools::LastExit;
use crate::readiness;
use crate::shell::Shell;
use crate::timers::Timer;
use crate::workers::Word;

/// Bytes that are read of one link in one turn.
const READ_MAX: usize = 16 * 1024;
/// A worker that says more than this in a second is cut off.
const MESSAGES_MAX: u64 = 1000;
const BYTES_MAX: u64 = 1024 * 1024;
/// The longest time that an unavailable dependency may ask for.
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// A link can be read.
pub(crate) fn readable(shell: &mut Shell, id: WorkerId) {
    let mut buffer = [0_u8; READ_MAX];
    let Some(worker) = shell.workers.get_mut(id) else {
        return;
    };
    let Some(link) = worker.link.as_mut() else {
        return;
    };
    let length = match rustix::io::read(&link.fd, &mut buffer) {
        Ok(0) => return close(shell, id),
        Ok(length) => length,
        Err(Errno::AGAIN | Errno::INTR) => return,
        Err(_) => return close(shell, id),
    };
    worker.link_bytes += length as u64;
    if shell.now.since(link.since) >= Duration::from_secs(1) {
        (link.since, link.messages, link.bytes) = (shell.now, 0, 0);
    }
    let read = &buffer[..length];
    link.bytes += length as u64;
    link.messages += read.iter().filter(|byte| **byte == b'\n').count() as u64;
    if link.messages > MESSAGES_MAX || link.bytes > BYTES_MAX {
        let event = shell.event_of(Kind::WorkerWarned, id);
        shell.emit(event.message("it says more over its link than it may (1,000 lines or 1 MiB a second): cut off"));
        return close(shell, id);
    }
    hear(shell, id, read);
}

/// A dead worker's last words on its link; its own end is still open.
pub(crate) fn last_words(shell: &mut Shell, id: WorkerId) {
    // A failure is the last thing that is said: as much as the second's limit allows is read for it.
    for _ in 0..BYTES_MAX as usize / READ_MAX {
        let before = shell.workers.get(id).map(|worker| worker.link_bytes);
        readable(shell, id);
        if shell.workers.get(id).map(|worker| worker.link_bytes) == before {
            break;
        }
    }
    close(shell, id);
}

fn hear(shell: &mut Shell, id: WorkerId, mut read: &[u8]) {
    loop {
        let Some(link) = shell.workers.get_mut(id).and_then(|worker| worker.link.as_mut()) else {
            return;
        };
        let Some(message) = link.decoder.next(&mut read) else {
            return;
        };
        match message {
            Ok(message) => said(shell, id, message),
            Err(error) => nonsense(shell, id, &error.to_string()),
        }
    }
}

/// Told once in a life: what a worker says wrongly it mostly says often.
fn nonsense(shell: &mut Shell, id: WorkerId, what: &str) {
    if let Some(link) = shell.workers.get_mut(id).and_then(|worker| worker.link.as_mut())
        && !std::mem::replace(&mut link.warned, true)
    {
        let event = shell.event_of(Kind::WorkerWarned, id);
        shell.emit(event.message(format!("on its link: {what}")));
    }
}

fn said(shell: &mut Shell, id: WorkerId, message: FromWorker) {
    match message {
        FromWorker::Hello(hello) => {
            let Some(worker) = shell.workers.get_mut(id) else {
                return;
            };
            worker.speaks = true;
            let pid = worker.pid.get();
            if worker.ready.is_none() {
                shell.timers.clear(Timer::Probe(id));
            }
            if hello.pid != pid {
                nonsense(shell, id, &format!("hello from the pid {}; the worker's is {pid}", hello.pid));
            }
            if hello.role != Role::Worker {
                nonsense(shell, id, "hello from a zygote, where a worker was started");
            }
        }
        FromWorker::Ready => readiness::seen(shell, id),
        FromWorker::Failed(failure) => {
            keep(shell, id, failure);
            shell.facts.push_back(Fact::WorkerFailed { worker: id });
        }
        FromWorker::Broken(failure) => {
            keep(shell, id, failure);
            broken(shell, id);
        }
        FromWorker::Unavailable(unavailable) => {
            let retry_after = unavailable.retry_after_ms.map(|millis| Duration::from_millis(millis).min(RETRY_MAX));
            keep(shell, id, Failure { code: None, name: unavailable.name, message: unavailable.message });
            shell.facts.push_back(Fact::WorkerUnavailable { worker: id, retry_after });
        }
        FromWorker::Recycle => shell.facts.push_back(Fact::WorkerDone { worker: id }),
        FromWorker::Status { text } => {
            if let Some(worker) = shell.workers.get_mut(id) {
                worker.text = Some(crate::output::escape(text.as_bytes(), 256));
            }
        }
        FromWorker::Forked { .. } | FromWorker::ForkFailed { .. } => {
            nonsense(shell, id, "a zygote's word, where a worker was started");
        }
    }
}

/// A worker's word that its whole generation is broken is charged when it is said: it is the pool's last failure from
/// then on, not only when the worker has left.
pub(crate) fn broken(shell: &mut Shell, id: WorkerId) {
    let now = shell.now;
    let word = shell.workers.get(id).and_then(|worker| worker.word.clone()).unwrap_or_default();
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

fn keep(shell: &mut Shell, id: WorkerId, failure: Failure) {
    let clean = |text: String| crate::output::escape(text.as_bytes(), 1024);
    if let Some(worker) = shell.workers.get_mut(id) {
        worker.word =
            Some(Word { code: failure.code, name: failure.name.map(clean), message: failure.message.map(clean) });
    }
}

/// Says something to a worker, if it has a link with room. Whether it hears is its own matter: TERM follows anyway.
pub(crate) fn say(shell: &Shell, id: WorkerId, message: &ToWorker) {
    if let Some(link) = shell.workers.get(id).and_then(|worker| worker.link.as_ref())
        && let Some(line) = link::encode(message)
    {
        let _ = send(&link.fd, &line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

fn close(shell: &mut Shell, id: WorkerId) {
    if let Some(worker) = shell.workers.get_mut(id) {
        worker.link = None;
    }
}
