//! The policy's notes as events for people, with what only the shell knows: pids, last words, names of codes.

use std::time::Duration;

use steadfast_policy::class::{Class, Exit, Reason};
use steadfast_policy::event::Limit;
use steadfast_policy::ids::{GenerationId, PoolId, WorkerId};
use steadfast_policy::note::{Note, Place, Purpose};

use crate::events::event::Event;
use crate::events::kind::{Kind, Level};
use crate::front::tell;
use crate::output::last_lines;
use crate::pools::{FailedReload, LastExit};
use crate::shell::{Corpse, Outcome, OutcomeKind, Shell};
use crate::start;
use crate::voice::Speaker;
use crate::words;

/// Tells people what the policy has noted.
pub(crate) fn report(shell: &mut Shell, note: Note) {
    match note {
        Note::WorkerStarted { .. }
        | Note::WorkerReady { .. }
        | Note::WorkerVerified { .. }
        | Note::WorkerRecycled { .. }
        | Note::WorkerExited { .. }
        | Note::WorkerKilled { .. }
        | Note::ManagerRests { .. } => worker(shell, note),
        Note::GenerationStarted { .. }
        | Note::GenerationVerified { .. }
        | Note::GenerationRefused { .. }
        | Note::GenerationServing { .. }
        | Note::GenerationProven { .. }
        | Note::GenerationRolledBack { .. }
        | Note::GenerationRetired { .. } => generation(shell, note),
        Note::BreakerOpened { pool, generation, failures, until, reason } => {
            settled(shell, pool);
            let wait = until.since(shell.now);
            let text = because(shell, pool, reason);
            let message = format!(
                "after failures of the weight {}; the next trial in {}",
                words::weight(failures),
                words::duration(wait)
            );
            let event = shell.event_in(Kind::BreakerOpened, pool).generation(generation.0);
            shell.emit(event.message(message).reason(text));
        }
        Note::BreakerHalfOpen { pool } => simple(shell, Kind::BreakerHalfOpen, pool),
        Note::BreakerClosed { pool } => simple(shell, Kind::BreakerClosed, pool),
        Note::PoolServing { pool } => {
            settled(shell, pool);
            outcome(shell, pool, OutcomeKind::Up);
            simple(shell, Kind::PoolServing, pool);
        }
        Note::PoolDegraded { pool } => with_failure(shell, Kind::PoolDegraded, pool),
        Note::PoolDown { pool } => {
            settled(shell, pool);
            with_failure(shell, Kind::PoolDown, pool);
        }
        Note::PoolScaled { pool, min, max } => {
            let event = shell.event_in(Kind::PoolScaled, pool).message(format!("{min} to {max} workers"));
            shell.emit(event);
        }
        Note::PoolStopped { pool } => {
            outcome(shell, pool, OutcomeKind::Stopped);
            simple(shell, Kind::PoolStopped, pool);
        }
        Note::Stalled { pool } => simple(shell, Kind::PoolStalled, pool),
        Note::HostRefused { pool, wait } => {
            let message = format!("the machine refuses new processes; starts wait {}", words::duration(wait));
            let mut event = shell.event_in(Kind::PoolThrottled, pool).message(message);
            if let Some(refusal) = shell.pools.get_mut(pool).and_then(|pool| pool.refusal.take()) {
                event = event.reason(refusal);
            }
            shell.emit(event);
        }
        Note::Late { by } => {
            let message = format!("woken {} too late; all deadlines were moved", words::duration(by));
            shell.emit(Event::new(Kind::SupervisorLate).message(message));
        }
        Note::RequestQuarantined { pool, request, kills, until } => {
            let wait = words::duration(until.since(shell.now));
            let message = format!("it has killed {kills} workers; it is refused for {wait}");
            let line = shell.pools.get(pool).map(|pool| pool.queue.line(request));
            let event = shell.event_in(Kind::RequestQuarantined, pool).message(message);
            shell.emit(event.request(line.unwrap_or_default()));
        }
        Note::ZygoteStarted { .. } | Note::ZygoteReady { .. } | Note::ZygoteExited { .. } => zygote(shell, note),
    }
}

fn zygote(shell: &mut Shell, note: Note) {
    let of = |shell: &Shell, kind, id, pool: PoolId, generation: GenerationId| {
        let event = shell.event_in(kind, pool).generation(generation.0);
        match shell.zygotes.get(id) {
            Some(zygote) => event.pid(zygote.pid.get()),
            None => event,
        }
    };
    match note {
        Note::ZygoteStarted { zygote, pool, generation } => {
            let event = of(shell, Kind::ZygoteStarted, zygote, pool, generation);
            shell.emit(event);
        }
        Note::ZygoteReady { zygote, pool, generation } => {
            let event = of(shell, Kind::ZygoteReady, zygote, pool, generation);
            let took = shell.zygotes.get(zygote).map(|zygote| shell.now.since(zygote.started));
            shell.emit(event.took(took.unwrap_or_default()));
        }
        Note::ZygoteExited { zygote, pool, generation, class, files_changed, .. } => {
            let corpse = shell.corpses.remove(&Speaker::Zygote(zygote)).unwrap_or_default();
            let last = last_exit(shell, pool, generation, class, None, &corpse);
            let event = of(shell, Kind::ZygoteExited, zygote, pool, generation);
            let event = end(event, &corpse, &last, files_changed);
            if is_asked(class) {
                return shell.emit(event.level(Level::Info));
            }
            shell.emit(event.failure().stderr(last.stderr.clone()));
            if let Some(pool) = shell.pools.get_mut(pool) {
                pool.failure = Some(last);
            }
        }
        _ => {}
    }
}

fn worker(shell: &mut Shell, note: Note) {
    match note {
        Note::WorkerStarted { place, purpose } => {
            let why = match purpose {
                Purpose::Planned => "planned",
                Purpose::Repair => "repair",
                Purpose::Canary => "canary",
            };
            let event = at(shell, Kind::WorkerStarted, place).reason(why).quiet();
            shell.emit(event);
        }
        Note::WorkerReady { place, took } => {
            let event = at(shell, Kind::WorkerReady, place).took(took).quiet();
            shell.emit(event);
        }
        Note::WorkerVerified { place } => {
            let event = at(shell, Kind::WorkerVerified, place).quiet();
            shell.emit(event);
        }
        Note::WorkerRecycled { place, limit } => {
            let why = match limit {
                Some(Limit::Requests) => "it has served its number of requests",
                Some(Limit::Memory) => "its memory has passed its limit",
                None => "its time has come",
            };
            let event = at(shell, Kind::WorkerRecycled, place).reason(why).quiet();
            shell.emit(event);
        }
        Note::WorkerExited { place, class, exit, ran, files_changed, first, .. } => {
            exited(shell, place, class, exit, ran, files_changed, first);
        }
        Note::ManagerRests { place, living, files_changed, wait } => {
            rests(shell, place, living, files_changed, wait);
        }
        Note::WorkerKilled { place, class } => {
            let event = at(shell, Kind::WorkerKilled, place).class(class.word());
            shell.emit(event);
        }
        _ => {}
    }
}

fn exited(
    shell: &mut Shell,
    place: Place,
    class: Class,
    exit: Option<Exit>,
    ran: Duration,
    files_changed: bool,
    first: bool,
) {
    let corpse = shell.corpses.remove(&Speaker::Worker(place.worker)).unwrap_or_default();
    let last = last_exit(shell, place.pool, place.generation, class, exit, &corpse);
    let is_asked = is_asked(class);
    let mut event = end(at(shell, Kind::WorkerExited, place).ran(ran), &corpse, &last, files_changed);
    if is_asked {
        event = event.quiet();
    } else {
        event = event.failure();
        if first {
            event = event.stderr(last.stderr.clone());
        }
    }
    if let Some(pool) = shell.pools.get_mut(place.pool) {
        if !is_asked && class != Class::Deaf {
            pool.failure = Some(last.clone());
        }
        pool.exits.insert(place.slot, last);
    }
    shell.emit(event);
}

/// How its workers end, nobody tells us; what they wrote, their manager's stderr does.
fn rests(shell: &mut Shell, place: Place, living: u32, files_changed: bool, wait: Duration) {
    let next = if wait.is_zero() { "at once".to_owned() } else { format!("after {}", words::duration(wait)) };
    let plural = if living == 1 { "" } else { "s" };
    let message = format!(
        "one of its own workers has died before it could take a request; {living} other{plural} can; it may start the next one {next}"
    );
    let voice = shell.workers.get(place.worker).map(|worker| &worker.voice);
    let stderr = voice.map_or_else(Vec::new, |voice| last_lines(voice.stderr.lines.last()));
    let said = stderr.last().map_or_else(String::new, |line| format!(": {line}"));
    let mut event = at(shell, Kind::WorkerResting, place).message(message).stderr(stderr.clone());
    if files_changed {
        event = event.reason("its files had changed on disk");
    }
    shell.emit(event);
    let last = LastExit {
        class: Class::Early.word(),
        code: None,
        signal: None,
        name: None,
        message: Some(format!("a worker of its own{said}")),
        request: None,
        at: shell.now,
        stderr,
    };
    if let Some(pool) = shell.pools.get_mut(place.pool) {
        pool.failure = Some(last);
    }
}

fn is_asked(class: Class) -> bool {
    matches!(class, Class::Recycled | Class::Stopped)
}

/// What is told of every end.
fn end(mut event: Event, corpse: &Corpse, last: &LastExit, files_changed: bool) -> Event {
    event = event.class(last.class);
    if let Some(pid) = corpse.pid {
        event = event.pid(pid);
    }
    if let Some(code) = last.code {
        event = event.code(code);
    }
    if let Some(signal) = last.signal {
        event = event.signal(signal);
    }
    if let Some(name) = &last.name {
        event = event.name(name.clone());
    }
    if let Some(message) = &last.message {
        event = event.message(message.clone());
    }
    if let Some(request) = &last.request {
        event = event.request(request.clone());
    }
    if files_changed {
        event = event.reason("its files had changed on disk");
    }
    event
}

fn last_exit(
    shell: &Shell,
    pool: PoolId,
    generation: GenerationId,
    class: Class,
    exit: Option<Exit>,
    corpse: &Corpse,
) -> LastExit {
    let (code, signal) = match exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signal)),
        None => corpse.ended,
    };
    let word = corpse.word.clone().unwrap_or_default();
    let pool = shell.pools.get(pool);
    let config = pool.map(|pool| match pool.generations.get(&generation) {
        Some(generation) => &generation.plan.config,
        None => &pool.plan.config,
    });
    let configured = config.zip(code).and_then(|(config, code)| config.exit_codes.get(&code).cloned());
    LastExit {
        class: class.word(),
        code,
        signal,
        name: word.name.or(configured),
        message: word.message,
        request: corpse.request.clone(),
        at: shell.now,
        stderr: corpse.stderr.clone(),
    }
}

fn generation(shell: &mut Shell, note: Note) {
    match note {
        Note::GenerationStarted { pool, generation } => {
            outcome(shell, pool, OutcomeKind::Started(generation));
            plain(shell, Kind::GenerationStarted, pool, generation);
        }
        Note::GenerationVerified { pool, generation } => plain(shell, Kind::GenerationVerified, pool, generation),
        Note::GenerationServing { pool, generation } => {
            outcome(shell, pool, OutcomeKind::Serving(generation));
            if let Some(pool) = shell.pools.get_mut(pool) {
                pool.failed_reload.take_if(|failed| failed.generation < generation);
            }
            plain(shell, Kind::GenerationServing, pool, generation);
        }
        Note::GenerationProven { pool, generation } => plain(shell, Kind::GenerationProven, pool, generation),
        Note::GenerationRetired { pool, generation } => {
            let event = shell.event_in(Kind::GenerationRetired, pool).generation(generation.0).quiet();
            shell.emit(event);
        }
        Note::GenerationRefused { pool, generation, reason, .. } => {
            failed(shell, Kind::GenerationRefused, pool, generation, reason, None);
        }
        Note::GenerationRolledBack { pool, from, to, reason } => {
            failed(shell, Kind::GenerationRolledBack, pool, from, reason, Some(to));
        }
        _ => {}
    }
}

fn failed(
    shell: &mut Shell,
    kind: Kind,
    pool: PoolId,
    generation: GenerationId,
    reason: Reason,
    back_to: Option<GenerationId>,
) {
    let failure = shell.pools.get(pool).and_then(|pool| pool.failure.as_ref()).map(words::exit);
    let text = words::reason_of_generation(reason, failure.as_deref(), back_to.is_none());
    let lines = match reason {
        Reason::Failures(_) | Reason::FilesChanged(_) | Reason::Canary(_) | Reason::Zygote => {
            shell.pools.get(pool).and_then(|pool| pool.failure.as_ref()).map(|exit| exit.stderr.clone())
        }
        Reason::Operator | Reason::Superseded | Reason::Stopping => None,
    };
    let lines = lines.unwrap_or_default();
    let mut event = shell.event_in(kind, pool).generation(generation.0).reason(text.clone());
    if let Some(to) = back_to {
        event = event.message(format!("back to generation {to}"));
    }
    shell.emit(event.stderr(lines.clone()));
    let at = shell.now;
    if let Some(pool) = shell.pools.get_mut(pool)
        && !matches!(reason, Reason::Superseded | Reason::Stopping)
    {
        let (is_rolled_back, reason, stderr) = (back_to.is_some(), text.clone(), lines.clone());
        pool.failed_reload = Some(FailedReload { generation, is_rolled_back, at, reason, stderr });
    }
    if reason != Reason::Superseded {
        go_back(shell, pool, generation, back_to);
    }
    let kind = match reason {
        Reason::Superseded => OutcomeKind::Superseded(generation),
        _ => OutcomeKind::Failed(generation, text, lines),
    };
    outcome(shell, pool, kind);
}

/// What failed is not what the pool is meant to be any more: the plan is that of the generation that serves.
fn go_back(shell: &mut Shell, pool: PoolId, from: GenerationId, to: Option<GenerationId>) {
    let before = shell.pools.sockets();
    let Some(pool) = shell.pools.get_mut(pool) else {
        return;
    };
    let serving = match to {
        Some(to) => pool.generations.get(&to),
        None => pool.generations.range(..from).next_back().map(|(_, generation)| generation),
    };
    if let Some(serving) = serving {
        pool.plan = serving.plan.clone();
    }
    let id = pool.id;
    start::close_unused(shell, &before);
    tell::pool(shell, id);
}

/// A reason in words, with the last failure where that is what it speaks of.
pub(crate) fn because(shell: &Shell, pool: PoolId, reason: Reason) -> String {
    let failure = shell.pools.get(pool).and_then(|pool| pool.failure.as_ref()).map(words::exit);
    words::reason(reason, failure.as_deref())
}

fn at(shell: &Shell, kind: Kind, place: Place) -> Event {
    let event = shell.event_in(kind, place.pool).generation(place.generation.0).slot(place.slot.0);
    match pid(shell, place.worker) {
        Some(pid) => event.pid(pid),
        None => event,
    }
}

fn pid(shell: &Shell, worker: WorkerId) -> Option<u32> {
    shell.workers.get(worker).map(|worker| worker.pid.get())
}

fn simple(shell: &mut Shell, kind: Kind, pool: PoolId) {
    let event = shell.event_in(kind, pool);
    shell.emit(event);
}

fn plain(shell: &mut Shell, kind: Kind, pool: PoolId, generation: GenerationId) {
    let event = shell.event_in(kind, pool).generation(generation.0);
    shell.emit(event);
}

fn with_failure(shell: &mut Shell, kind: Kind, pool: PoolId) {
    let failure = shell.pools.get(pool).and_then(|pool| pool.failure.as_ref()).map(words::exit);
    let mut event = shell.event_in(kind, pool);
    if let Some(failure) = failure {
        event = event.reason(failure);
    }
    shell.emit(event);
}

fn outcome(shell: &mut Shell, pool: PoolId, kind: OutcomeKind) {
    shell.outcomes.push(Outcome { pool, kind });
}

/// Whether this pool serves is known for the first time.
fn settled(shell: &mut Shell, pool: PoolId) {
    if shell.unsettled.remove(&pool) {
        ready(shell);
    }
}

/// Tells that the supervisor is ready, once it is known of every pool whether it serves.
pub(crate) fn ready(shell: &mut Shell) {
    if shell.unsettled.is_empty() {
        shell.emit(Event::new(Kind::SupervisorReady));
        shell.notify.ready();
    }
}
