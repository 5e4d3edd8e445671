//! Carries out what the policy orders, one order at a time.

use steadfast_policy::command::{Command, Source};
use steadfast_policy::event::{Event as Fact, Files, SpawnFault};
use steadfast_policy::ids::{PoolId, WorkerId};

use crate::events::event::Event;
use crate::events::kind::Kind;
use crate::front::{process, settings, tell};
use crate::leaving;
use crate::report;
use crate::shell::Shell;
use crate::start;
use crate::timers::Timer;
use crate::workers::Stage;

/// The exit code when a pool with `then = "exit"` gave up.
const NOTHING_SERVES: u8 = 69;

/// Carries out one order; what comes of it is a fact for the policy.
pub(crate) fn carry_out(shell: &mut Shell, command: Command) {
    match command {
        Command::PrepareGeneration { pool, generation } => start::prepare(shell, pool, generation),
        Command::RetireGeneration { pool, generation } => start::retire(shell, pool, generation),
        Command::NoteFiles { pool, generation } => start::note_files(shell, pool, generation),
        Command::StartWorker { worker, pool, slot, generation, source: Source::Exec } => {
            start::start(shell, worker, pool, slot, generation);
        }
        Command::StartWorker { worker, source: Source::Zygote(_), .. } => {
            shell.facts.push_back(Fact::SpawnFailed { worker, fault: SpawnFault::Zygote, files: Files::Noted });
        }
        Command::VerifyWorker { worker } => tell::verify(shell, worker),
        Command::AdmitWorker { worker } => tell::admit(shell, worker),
        Command::DrainWorker { worker } => tell::drain(shell, worker),
        Command::TerminateWorker { worker } => terminate(shell, worker),
        Command::KillWorker { worker } => leaving::kill(shell, worker),
        Command::Report(note) => report::report(shell, note),
        Command::ForgetPool { pool } => forget(shell, pool),
        Command::Leave { pool } => leave(shell, pool),
        Command::Finish => process::finish(shell),
        Command::SetFallback { pool, on } => tell::fallback(shell, pool, on),
        Command::WatchRequest { pool, request } => tell::watch(shell, pool, request),
        Command::QuarantineRequest { pool, request, until } => tell::quarantine(shell, pool, request, until),
        Command::ReleaseRequest { pool, request } => tell::release(shell, pool, request),
        // No figures of this version ask for a zygote, and the policy does not order one.
        Command::StartZygote { .. } | Command::QuitZygote { .. } | Command::KillZygote { .. } => {}
    }
}

/// SIGTERM, but not yet to a worker that holds the front's first connection: libfcgi polls one that is silent for two
/// seconds, and a TERM at that moment makes it spin until it is killed. The front closes it, and TERM follows its word;
/// without one the policy orders it again.
fn terminate(shell: &mut Shell, id: WorkerId) {
    let waits = |shell: &Shell, is_leaving: bool| {
        let queued = shell.workers.get(id).and_then(|worker| worker.queued.as_ref());
        queued.is_some_and(|queued| queued.stage == Stage::Offered && queued.is_leaving == is_leaving)
    };
    let was_waiting = waits(shell, false);
    tell::withdraw(shell, id);
    if !(was_waiting && waits(shell, true)) {
        leaving::terminate(shell, id);
    }
}

fn forget(shell: &mut Shell, pool: PoolId) {
    shell.timers.clear(Timer::Memory(pool));
    shell.unsettled.remove(&pool);
    let before = shell.pools.sockets();
    if let Some(gone) = shell.pools.remove(pool) {
        start::close_unused(shell, &before);
        if settings::is_queued(&gone.plan.config) {
            tell::pool_gone(shell, pool);
            // Another of that name may have come meanwhile.
            if shell.pools.named(&gone.name).is_none() {
                shell.front.rooms.close(&gone.name);
            }
            process::unwant(shell);
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
    shell.notify.stopping();
    tell::stop(shell);
}
