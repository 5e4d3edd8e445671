//! One zygote's life: how it is started, ordered about and made to leave.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socket_with};
use steadfast_policy::event::{Event as Fact, Files, SpawnFault, ZygoteEnd};
use steadfast_policy::ids::{GenerationId, PoolId, ZygoteId};
use steadfast_proto::link::{self, ToWorker};

use crate::children::{Kill, kill_with_group, signal};
use crate::containment;
use crate::links;
use crate::oom;
use crate::poller::{Interest, Token};
use crate::shell::{Corpse, Shell};
use crate::start::{self, Failed, Given};
use crate::timers::Timer;
use crate::voice::{Pipe, Speaker, Voice, Word};
use crate::zygotes::Zygote;

/// A zygote that said that it cannot go on has left within so long, as a worker has.
const WORD_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts one, and answers at once if that fails.
pub(crate) fn start(shell: &mut Shell, id: ZygoteId, pool: PoolId, generation: GenerationId) {
    if let Err(Failed { message, fault, files }) = try_start(shell, id, pool, generation) {
        containment::close(shell, Speaker::Zygote(id));
        let word = Word { code: None, name: None, message: Some(message) };
        shell.corpses.insert(Speaker::Zygote(id), Corpse { word: Some(word), ..Corpse::default() });
        let end = match fault {
            SpawnFault::Host => ZygoteEnd::Host,
            SpawnFault::Program | SpawnFault::Zygote | SpawnFault::Fork => ZygoteEnd::Failed,
        };
        shell.facts.push_back(Fact::ZygoteExited { zygote: id, end, files, retry_after: None });
    }
}

fn try_start(shell: &mut Shell, id: ZygoteId, pool: PoolId, generation: GenerationId) -> Result<(), Failed> {
    // A socket that listens nowhere: programs that look whether fd 0 is one go on as they would as workers.
    let placeholder = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let placeholder = placeholder.map_err(|errno| Failed {
        message: format!("no socket: {}", std::io::Error::from(errno)),
        fault: SpawnFault::Host,
        files: Files::Noted,
    })?;
    let (spawned, files) = start::spawn(shell, pool, generation, Speaker::Zygote(id), Given::Placeholder(placeholder))?;
    let speaker = Speaker::Zygote(id);
    start::hear(shell, speaker, &spawned).map_err(|message| {
        kill_with_group(spawned.pid, spawned.pidfd.as_fd());
        Failed { message, fault: SpawnFault::Host, files }
    })?;
    oom::unshield(shell, spawned.pid);
    let now = shell.clock.now();
    shell.zygotes.insert(Zygote {
        id,
        pool,
        generation,
        files,
        pid: spawned.pid,
        pidfd: spawned.pidfd,
        voice: Voice::new(Pipe::new(spawned.stdout), Pipe::new(spawned.stderr), spawned.link, now),
        started: now,
        speaks: false,
        ready: None,
        memory: None,
        unsent: Vec::new(),
        orders: Default::default(),
        is_broken: false,
        is_unavailable: false,
        retry_after: None,
        condemned: None,
        is_leaving: false,
        is_dismissed: false,
    });
    Ok(())
}

/// Its generation is broken: by its own word, or it has told us to stop as the managers of old were told.
pub(crate) fn broken(shell: &mut Shell, id: ZygoteId) {
    if let Some(zygote) = shell.zygotes.get_mut(id) {
        zygote.is_broken = true;
    }
    dismiss(shell, id);
}

/// It cannot go on, as it has said: nothing is ordered of it any more, and it has its time to leave.
pub(crate) fn dismiss(shell: &mut Shell, id: ZygoteId) {
    if let Some(zygote) = shell.zygotes.get_mut(id) {
        zygote.is_dismissed = true;
    }
    let at = shell.now.after(WORD_TIMEOUT);
    shell.timers.set(Timer::ZygoteLeave(id), at);
    terminate(shell, id);
}

/// It should have left by now.
pub(crate) fn overstays(shell: &mut Shell, id: ZygoteId) {
    let Some(zygote) = shell.zygotes.get(id) else {
        return;
    };
    let why = if zygote.voice.link.is_none() {
        "it has closed its link, or was cut off, and without one nothing can be ordered of it (docs/link.md)"
    } else {
        "it has said that it cannot go on, and has not left"
    };
    if !zygote.is_leaving {
        condemn(shell, id, why);
    }
}

/// SIGTERM.
pub(crate) fn terminate(shell: &Shell, id: ZygoteId) {
    if let Some(zygote) = shell.zygotes.get(id) {
        let _ = signal(zygote.pidfd.as_fd(), Kill::Term);
    }
}

/// Sends what has not been sent of a zygote's orders, as far as there is room.
pub(crate) fn flush(shell: &mut Shell, id: ZygoteId) {
    let Some(zygote) = shell.zygotes.get_mut(id) else {
        return;
    };
    let Some(link) = &zygote.voice.link else {
        return zygote.unsent.clear();
    };
    let had = zygote.unsent.len();
    while !zygote.unsent.is_empty() {
        match send(&link.fd, &zygote.unsent, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => drop(zygote.unsent.drain(..sent)),
            Err(Errno::INTR) => {}
            // Whoever cannot be spoken to is as good as dead: its link's end is heard, too, and an order has a deadline.
            Err(_) => break,
        }
    }
    let interest = if zygote.unsent.is_empty() { Interest::Read } else { Interest::ReadWrite };
    if had > 0 {
        let _ = shell.poller.modify(&link.fd, Token::Link(Speaker::Zygote(id)), interest);
    }
}

/// Asks it to leave.
pub(crate) fn quit(shell: &mut Shell, id: ZygoteId) {
    let Some(zygote) = shell.zygotes.get_mut(id) else {
        return;
    };
    zygote.is_leaving = true;
    // It is behind what was ordered, but nobody waits for that any more.
    zygote.unsent.extend(link::encode(&ToWorker::Quit).unwrap_or_default());
    flush(shell, id);
    terminate(shell, id);
}

/// SIGKILL by the policy's order.
pub(crate) fn kill(shell: &mut Shell, id: ZygoteId) {
    if let Some(zygote) = shell.zygotes.get(id).filter(|zygote| zygote.ready.is_none() && !zygote.is_leaving) {
        let more = match zygote.speaks {
            true => "",
            false => ", and has never said that it is a zygote (docs/link.md): is `launch = \"exec\"` meant?",
        };
        links::note_late(shell, Speaker::Zygote(id), |_| more.to_owned());
    }
    end(shell, id);
}

/// SIGKILL to it and its group. It is unreaped, so its pid and its group are its own; its workers have groups of their own.
fn end(shell: &Shell, id: ZygoteId) {
    if let Some(zygote) = shell.zygotes.get(id) {
        kill_with_group(zygote.pid, zygote.pidfd.as_fd());
        shell.cgroups.kill(Speaker::Zygote(id));
    }
}

/// It breaks the rules: it is killed, and that is its own fault.
pub(crate) fn condemn(shell: &mut Shell, id: ZygoteId, why: &str) {
    if let Some(zygote) = shell.zygotes.get_mut(id) {
        zygote.condemned.get_or_insert_with(|| why.to_owned());
        end(shell, id);
    }
}
