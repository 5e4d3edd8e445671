//! What workers and zygotes say over their links, heard within limits, and what it means.

use std::time::Duration;

use rustix::io::Errno;
use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::{WorkerId, ZygoteId};
use steadfast_proto::link::{FromWorker, Role};

use crate::accusations;
use crate::events::kind::Kind;
use crate::fitness;
use crate::forks;
use crate::links;
use crate::readiness;
use crate::relay;
use crate::shell::Shell;
use crate::timers::Timer;
use crate::voice::Speaker;
use crate::zygote;

/// Bytes that are read of one link in one turn.
const READ_MAX: usize = 16 * 1024;
/// A worker that says more than this in a second is cut off.
const MESSAGES_MAX: u64 = 1000;
const BYTES_MAX: u64 = 1024 * 1024;

/// A link can be read.
pub(crate) fn readable(shell: &mut Shell, id: Speaker) {
    let mut buffer = [0_u8; READ_MAX];
    let now = shell.now;
    let Some(voice) = shell.voice(id) else {
        return;
    };
    let Some(link) = voice.link.as_mut() else {
        return;
    };
    let length = match rustix::io::read(&link.fd, &mut buffer) {
        Ok(0) => return links::close(shell, id),
        Ok(length) => length,
        Err(Errno::AGAIN | Errno::INTR) => return,
        Err(_) => return links::close(shell, id),
    };
    voice.link_bytes += length as u64;
    if now.since(link.since) >= Duration::from_secs(1) {
        (link.since, link.messages, link.bytes) = (now, 0, 0);
    }
    let read = &buffer[..length];
    link.bytes += length as u64;
    link.messages += read.iter().filter(|byte| **byte == b'\n').count() as u64;
    if link.messages > MESSAGES_MAX || link.bytes > BYTES_MAX {
        let event = shell.event_by(Kind::WorkerWarned, id);
        shell.emit(event.message("it says more over its link than it may (1,000 lines or 1 MiB a second): cut off"));
        return links::close(shell, id);
    }
    hear(shell, id, read);
}

/// A dead worker's last words on its link; its own end is still open.
pub(crate) fn last_words(shell: &mut Shell, id: Speaker) {
    // A failure is the last thing that is said: as much as the second's limit allows is read for it.
    for _ in 0..BYTES_MAX as usize / READ_MAX {
        let before = shell.voice(id).map(|voice| voice.link_bytes);
        readable(shell, id);
        if shell.voice(id).map(|voice| voice.link_bytes) == before {
            break;
        }
    }
    links::close(shell, id);
}

fn hear(shell: &mut Shell, id: Speaker, mut read: &[u8]) {
    loop {
        let Some(link) = shell.voice(id).and_then(|voice| voice.link.as_mut()) else {
            return;
        };
        let Some(message) = link.decoder.next(&mut read) else {
            return;
        };
        match message {
            Ok(message) => match id {
                Speaker::Worker(worker) => said(shell, worker, message),
                Speaker::Zygote(zygote) => told(shell, zygote, message),
            },
            Err(error) => links::nonsense(shell, id, &error.to_string()),
        }
    }
}

/// What a worker says.
fn said(shell: &mut Shell, id: WorkerId, message: FromWorker) {
    let speaker = Speaker::Worker(id);
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
                links::nonsense(shell, speaker, &format!("hello from the pid {}; the worker's is {pid}", hello.pid));
            }
            if hello.role != Role::Worker {
                links::nonsense(shell, speaker, "hello from a zygote, where a worker was started");
            }
        }
        FromWorker::Ready => readiness::seen(shell, id),
        FromWorker::Failed(failure) => {
            links::keep(shell, speaker, failure);
            shell.facts.push_back(Fact::WorkerFailed { worker: id });
        }
        FromWorker::Broken(failure) => {
            links::keep(shell, speaker, failure);
            links::broken(shell, id);
        }
        FromWorker::Unavailable(unavailable) => {
            let retry_after = links::keep_unavailable(shell, speaker, unavailable);
            shell.facts.push_back(Fact::WorkerUnavailable { worker: id, retry_after });
        }
        FromWorker::Recycle => shell.facts.push_back(Fact::WorkerDone { worker: id }),
        FromWorker::Status { text } => {
            if let Some(worker) = shell.workers.get_mut(id) {
                worker.text = Some(crate::output::escape(text.as_bytes(), 256));
            }
        }
        FromWorker::Forked { .. } | FromWorker::ForkFailed { .. } | FromWorker::Term { .. } => {
            links::nonsense(shell, speaker, "a zygote's word, where a worker was started");
        }
    }
}

/// What a zygote says.
fn told(shell: &mut Shell, id: ZygoteId, message: FromWorker) {
    let speaker = Speaker::Zygote(id);
    match message {
        FromWorker::Hello(hello) => {
            let Some(zygote) = shell.zygotes.get_mut(id) else {
                return;
            };
            let pid = zygote.pid.get();
            zygote.speaks = hello.role == Role::Zygote;
            if hello.role == Role::Worker {
                zygote::condemn(
                    shell,
                    id,
                    "it says that it is a worker: this program is started with `launch = \"exec\"`",
                );
            } else if hello.pid != pid {
                links::nonsense(shell, speaker, &format!("hello from the pid {}; the zygote's is {pid}", hello.pid));
            }
        }
        FromWorker::Ready => ready(shell, id),
        FromWorker::Failed(failure) => {
            links::keep(shell, speaker, failure);
            zygote::dismiss(shell, id);
        }
        FromWorker::Broken(failure) => {
            links::keep(shell, speaker, failure);
            zygote::broken(shell, id);
        }
        FromWorker::Unavailable(unavailable) => {
            let retry_after = links::keep_unavailable(shell, speaker, unavailable);
            if let Some(zygote) = shell.zygotes.get_mut(id) {
                zygote.retry_after = retry_after;
                zygote.is_unavailable = true;
            }
        }
        FromWorker::Forked { slot, pid } => forks::forked(shell, id, slot, pid),
        FromWorker::ForkFailed { slot, message, errno } => forks::failed(shell, id, slot, &message, errno),
        FromWorker::Term { pid } => accusations::told(shell, id, pid),
        FromWorker::Recycle | FromWorker::Status { .. } => {
            links::nonsense(shell, speaker, "a worker's word, where a zygote was started");
        }
    }
}

/// It has loaded the application: it may fork, if it is fit to.
fn ready(shell: &mut Shell, id: ZygoteId) {
    let now = shell.now;
    let Some(zygote) = shell.zygotes.get_mut(id) else {
        return;
    };
    if !zygote.speaks {
        return links::nonsense(shell, Speaker::Zygote(id), "ready, before a zygote's hello");
    }
    if zygote.ready.is_some() {
        return;
    }
    zygote.ready = Some(now);
    // What was away is there.
    (zygote.is_unavailable, zygote.retry_after, zygote.voice.word) = (false, None, None);
    let pid = zygote.pid;
    relay::release(shell, Speaker::Zygote(id));
    let fitness = fitness::look(pid);
    for warning in &fitness.warnings {
        let event = shell.event_by(Kind::ZygoteWarned, Speaker::Zygote(id));
        shell.emit(event.message(warning.clone()));
    }
    shell.facts.push_back(match fitness.may_fork {
        true => Fact::ZygoteReady { zygote: id },
        false => Fact::ZygoteUnfit { zygote: id },
    });
}
