//! Carries out what the policy orders, one order at a time.

use steadfast_policy::command::{Command, Source};
use steadfast_policy::ids::{PoolId, WorkerId};

use crate::asking;
use crate::events::event::Event;
use crate::events::kind::Kind;
use crate::forks;
use crate::front::{process, settings, tell};
use crate::leaving;
use crate::lookout;
use crate::manager;
use crate::nurse;
use crate::report;
use crate::shell::Shell;
use crate::start::{self, Seat};
use crate::timers::Timer;
use crate::workers::{Queued, Stage};
use crate::zygote;

/// The exit code when a pool with `then = "exit"` gave up.
const NOTHING_SERVES: u8 = 69;

/// Carries out one order; what comes of it is a fact for the policy.
pub(crate) fn carry_out(shell: &mut Shell, command: Command) {
    match command {
        Command::PrepareGeneration { pool, generation } => start::prepare(shell, pool, generation),
        Command::RetireGeneration { pool, generation } => start::retire(shell, pool, generation),
        Command::NoteFiles { pool, generation } => start::note_files(shell, pool, generation),
        Command::StartWorker { worker, pool, slot, generation, source, trial } => {
            let seat = Seat { worker, pool, slot, generation, is_trial: trial };
            match source {
                Source::Exec => start::start(shell, seat),
                Source::Zygote(zygote) => forks::order(shell, seat, zygote),
            }
        }
        Command::VerifyWorker { worker } => {
            if shell.workers.get(worker).is_some_and(|worker| worker.trial.is_some()) {
                asking::begin(shell, worker);
            } else {
                tell::verify(shell, worker);
            }
        }
        Command::AdmitWorker { worker } => tell::admit(shell, worker),
        Command::DrainWorker { worker } => tell::drain(shell, worker),
        Command::TerminateWorker { worker } => terminate(shell, worker),
        Command::KillWorker { worker } if forks::overdue(shell, worker) => {}
        Command::KillWorker { worker } => leaving::kill(shell, worker),
        Command::ResumeManager { worker } => nurse::resume(shell, worker),
        Command::Report(note) => report::report(shell, note),
        Command::ForgetPool { pool } => forget(shell, pool),
        Command::Leave { pool } => leave(shell, pool),
        Command::Finish => process::finish(shell),
        Command::SetFallback { pool, on } => tell::fallback(shell, pool, on),
        Command::WatchNeed { pool } => lookout::watch(shell, pool),
        Command::SampleLoad { pool } => lookout::sample(shell, pool),
        Command::WatchRequest { pool, request } => tell::watch(shell, pool, request),
        Command::QuarantineRequest { pool, request, until } => tell::quarantine(shell, pool, request, until),
        Command::ReleaseRequest { pool, request } => tell::release(shell, pool, request),
        Command::StartZygote { zygote, pool, generation } => zygote::start(shell, zygote, pool, generation),
        Command::QuitZygote { zygote } => zygote::quit(shell, zygote),
        Command::KillZygote { zygote } => zygote::kill(shell, zygote),
    }
}

/// SIGTERM, but not yet to a worker that serves nobody and holds a connection of the front's: libfcgi polls one that is
/// silent for two seconds, and a TERM at that moment makes it spin until it is killed; one that it waits on after the
/// verify request it closes at a TERM, and goes back to sleep in accept. The front closes it, and TERM follows its word;
/// without one the policy orders it again. Who has said that it cannot go on waits for TERM and for nothing else.
fn terminate(shell: &mut Shell, id: WorkerId) {
    let waits = |shell: &Shell, is_leaving: bool| {
        let Some(worker) = shell.workers.get(id) else {
            return false;
        };
        let is_admitted = |queued: &Queued| matches!(queued.stage, Stage::Admit { .. });
        let is_waiting = |queued: &Queued| !is_admitted(queued) && queued.is_leaving == is_leaving;
        worker.queued.as_ref().is_some_and(is_waiting) && !worker.voice.has_said_that_it_leaves
    };
    let was_waiting = waits(shell, false);
    tell::withdraw(shell, id);
    if !(was_waiting && waits(shell, true)) {
        leaving::terminate(shell, id);
    }
}

fn forget(shell: &mut Shell, pool: PoolId) {
    shell.timers.clear(Timer::Memory(pool));
    shell.timers.clear(Timer::Nested(pool));
    shell.unsettled.remove(&pool);
    let before = shell.pools.sockets();
    if let Some(gone) = shell.pools.remove(pool) {
        start::close_unused(shell, &before);
        if settings::is_queued(&gone.plan.config) {
            tell::pool_gone(shell, pool);
            process::unwant(shell);
        }
        // Another of that name may have come meanwhile.
        if shell.pools.named(&gone.name).is_none() {
            shell.front.rooms.close(&gone.name);
            shell.halls.close(&gone.name);
        }
    }
}

fn leave(shell: &mut Shell, pool: PoolId) {
    shell.exit = NOTHING_SERVES;
    shell.is_stopping = true;
    let reason = match shell.pools.get(pool) {
        Some(pool) => format!("nothing has served for a minute, and the pool {} asks to leave then", pool.name),
        None => "nothing has served for a minute".to_owned(),
    };
    shell.emit(Event::new(Kind::SupervisorStopping).reason(reason));
    manager::stopping(shell);
    tell::stop(shell);
}
