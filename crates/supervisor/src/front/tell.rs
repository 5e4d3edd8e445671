//! What the supervisor says to the front.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use steadfast_config::machine::fallback_body;
use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::{PoolId, RequestKey, WorkerId};
use steadfast_policy::time::Instant;
use steadfast_proto::front::{Life, Listener, ToFront};

use crate::clock::{millis, unix};
use crate::events::kind::Kind;
use crate::front::judge;
use crate::front::settings;
use crate::front::state::Asked;
use crate::leaving;
use crate::manager;
use crate::poller::{Interest, Token};
use crate::shell::Shell;
use crate::timers::Timer;
use crate::workers::Stage;

/// Says it, if there is a front. One that cannot be spoken with is ended.
fn say(shell: &mut Shell, message: &ToFront, fds: Vec<OwnedFd>) {
    let number = shell.front.serving();
    say_to(shell, number, message, fds);
}

/// Says it to the life with this number, if it runs.
pub(crate) fn say_to(shell: &mut Shell, number: u64, message: &ToFront, fds: Vec<OwnedFd>) {
    let Some(life) = shell.front.life(number).filter(|life| life.why.is_none()) else {
        return;
    };
    match life.channel.send(message, fds) {
        Ok(()) => hear_room(shell, number),
        Err(why) => judge::condemn_life(shell, number, why),
    }
}

/// There may be room again.
pub(crate) fn flush(shell: &mut Shell, number: u64) {
    if let Some(life) = shell.front.life(number)
        && life.channel.is_behind()
    {
        match life.channel.flush() {
            Ok(()) => hear_room(shell, number),
            Err(why) => judge::condemn_life(shell, number, why),
        }
    }
}

fn hear_room(shell: &mut Shell, number: u64) {
    let Some(life) = shell.front.life(number) else {
        return;
    };
    let is_behind = life.channel.is_behind();
    if life.wants_room != is_behind {
        life.wants_room = is_behind;
        let interest = if is_behind { Interest::ReadWrite } else { Interest::Read };
        let _ = shell.poller.modify(life.channel.fd(), Token::Front(life.number), interest);
    }
}

/// Asks what is answered at once.
fn ask(shell: &mut Shell, message: &ToFront, asked: Asked) {
    let number = shell.front.serving();
    ask_of(shell, number, message, asked);
}

fn ask_of(shell: &mut Shell, number: u64, message: &ToFront, asked: Asked) {
    let now = shell.clock.now();
    if let Some(life) = shell.front.life(number).filter(|life| life.why.is_none()) {
        life.ask(now, asked);
        say_to(shell, number, message, Vec::new());
        judge::watch_answers(shell);
    }
}

/// A front that has just been started is told all that its predecessor knew.
pub(crate) fn everything(shell: &mut Shell) {
    let pools: Vec<PoolId> =
        shell.pools.iter().filter(|pool| settings::is_queued(&pool.plan.config)).map(|pool| pool.id).collect();
    for id in pools {
        pool(shell, id);
        let Some(known) = shell.pools.get(id) else {
            continue;
        };
        let suspects: Vec<(RequestKey, Option<Instant>)> =
            known.queue.watched.iter().map(|key| (*key, known.queue.quarantined.get(key).copied())).collect();
        let (has_fallback, members) = (known.queue.has_fallback, known.members.clone());
        if has_fallback {
            say(shell, &ToFront::Fallback { pool: id.0, on: true }, Vec::new());
        }
        for (key, until) in suspects {
            say(shell, &ToFront::Watch { pool: id.0, key: key.0 }, Vec::new());
            if let Some(until) = until {
                say(shell, &quarantined(shell.now, id, key, until), Vec::new());
            }
        }
        for worker in members {
            offer(shell, worker);
        }
    }
}

/// A pool as it is meant from now on.
pub(crate) fn pool(shell: &mut Shell, id: PoolId) {
    let Some(pool) = shell.pools.get(id) else {
        return;
    };
    if shell.front.life.is_none() || !settings::is_queued(&pool.plan.config) {
        return;
    }
    let (mut listeners, mut fds) = (Vec::new(), Vec::new());
    // One that leaves the configuration accepts nothing any more.
    for socket in pool.plan.sockets.iter().filter(|_| !pool.is_leaving) {
        let listener = socket.listener.borrow();
        // The supervisor never accepts, and the workers of this pool never see it: only the front's wishes count.
        let _ = rustix::io::ioctl_fionbio(&*listener, true);
        match listener.as_fd().try_clone_to_owned() {
            Ok(fd) => fds.push(fd),
            Err(error) => {
                drop(listener);
                return judge::condemn(shell, format!("its sockets cannot be handed to it: {error}"));
            }
        }
        let protocol = settings::protocol(&socket.listen);
        listeners.push(Listener { id: socket.front_id(), protocol, address: socket.address() });
    }
    let mut message = settings::pool(id, &pool.plan.config, listeners);
    let since = unix(shell.clock.wall(pool.since));
    message.status = settings::status(&pool.plan.config, since, pool.queue.figures());
    match fallback_body(&pool.plan.config.fallback) {
        Ok(None) => {}
        Ok(Some(file)) => {
            fds.push(file.into());
            message.fallback.has_body = true;
        }
        // The front has a page of its own.
        Err(problem) => {
            let event = shell.event_in(Kind::FrontWarned, id).message(problem);
            shell.emit(event);
        }
    }
    say(shell, &ToFront::Pool(Box::new(message)), fds);
}

/// A pool has gone.
pub(crate) fn pool_gone(shell: &mut Shell, id: PoolId) {
    say(shell, &ToFront::PoolGone { pool: id.0 }, Vec::new());
}

/// Gives a worker to the front that runs, with all that was ordered for it before.
pub(crate) fn offer(shell: &mut Shell, id: WorkerId) {
    let serving = shell.front.serving();
    let old = shell.front.old.as_ref().map_or(0, |old| old.number);
    let Some(worker) = shell.workers.get_mut(id) else {
        return;
    };
    let pool = worker.pool;
    let Some(queued) = &mut worker.queued else {
        return;
    };
    // One that is with a former front is given back by it.
    if old != 0 && queued.life == old {
        return;
    }
    if serving == 0 || queued.life == serving || queued.is_leaving || queued.adopt_by.is_some() {
        return;
    }
    queued.life = serving;
    queued.is_connected = false;
    let (stage, path) = (queued.stage, queued.private.path.to_string_lossy().into_owned());
    let began = unix(shell.clock.wall(worker.started));
    let life = Life { pid: worker.pid.get(), since: began, served: queued.served_before };
    let pid = queued.private.is_workers_own.then(|| worker.pid.get());
    let concurrency = shell.pools.get(pool).map_or(1, |pool| settings::concurrency(&pool.plan.config));
    say(shell, &ToFront::WorkerOffered { worker: id.0, pool: pool.0, path, concurrency, pid, life }, Vec::new());
    match stage {
        Stage::Offered => {}
        Stage::Verify => say(shell, &ToFront::WorkerVerify { worker: id.0 }, Vec::new()),
        Stage::Admit { max_requests } => {
            ask(shell, &ToFront::WorkerAdmit { worker: id.0, max_requests }, Asked::Admit(id));
        }
    }
}

/// Whether the front that runs has this worker.
fn has(shell: &Shell, id: WorkerId) -> bool {
    let life = shell.front.serving();
    let queued = shell.workers.get(id).and_then(|worker| worker.queued.as_ref());
    life != 0 && queued.is_some_and(|queued| queued.life == life)
}

/// The front that has this worker, if it runs: the one that serves, or the one before it.
fn holder(shell: &Shell, id: WorkerId) -> Option<u64> {
    let life = shell.workers.get(id)?.queued.as_ref()?.life;
    shell.front.runs(life).then_some(life)
}

/// It is to be asked its verify request.
pub(crate) fn verify(shell: &mut Shell, id: WorkerId) {
    set_stage(shell, id, Stage::Verify);
    if has(shell, id) {
        say(shell, &ToFront::WorkerVerify { worker: id.0 }, Vec::new());
    }
}

/// It may serve visitors.
pub(crate) fn admit(shell: &mut Shell, id: WorkerId) {
    let Some(pool) = shell.workers.get(id).filter(|worker| worker.queued.is_some()).map(|worker| worker.pool) else {
        return;
    };
    let max_requests = shell.pools.get(pool).and_then(|pool| settings::max_requests(&pool.plan.config, id));
    set_stage(shell, id, Stage::Admit { max_requests });
    if has(shell, id) {
        ask(shell, &ToFront::WorkerAdmit { worker: id.0, max_requests }, Asked::Admit(id));
    }
}

fn set_stage(shell: &mut Shell, id: WorkerId, stage: Stage) {
    if let Some(queued) = shell.workers.get_mut(id).and_then(|worker| worker.queued.as_mut()) {
        queued.stage = stage;
    }
}

/// It is to be given nothing more, and has drained when it has nothing in hand.
///
/// While everything stops the front finishes what it has with all its workers; they have drained when it has left.
/// Without a front the kernel is asked, as for a direct worker.
pub(crate) fn drain(shell: &mut Shell, id: WorkerId) {
    let holder = holder(shell, id);
    let is_leaving = shell.front.is_leaving() && holder == Some(shell.front.serving());
    let Some(worker) = shell.workers.get_mut(id) else {
        return;
    };
    let Some(queued) = &mut worker.queued else {
        return leaving::drain(shell, id);
    };
    queued.is_leaving = true;
    if queued.adopt_by.take().is_some() {
        shell.timers.clear(Timer::Adopt(id));
    }
    let Some(holder) = holder else {
        return leaving::drain(shell, id);
    };
    // It is told itself when the front has told that it is free: until then a request may be on its way to it, and a
    // word on the link may interrupt the very read that takes it.
    if !is_leaving {
        say_to(shell, holder, &ToFront::WorkerWithdraw { worker: id.0 }, Vec::new());
    }
}

/// It is sent TERM: one that waits for the next request on its kept connection is to see that none will come.
pub(crate) fn withdraw(shell: &mut Shell, id: WorkerId) {
    let Some(holder) = holder(shell, id) else {
        return;
    };
    if holder == shell.front.serving() && shell.front.is_leaving() {
        return;
    }
    if let Some(queued) = shell.workers.get_mut(id).and_then(|worker| worker.queued.as_mut())
        && !std::mem::replace(&mut queued.is_leaving, true)
    {
        say_to(shell, holder, &ToFront::WorkerWithdraw { worker: id.0 }, Vec::new());
    }
}

/// Its process has ended; what it had in hand is asked for. Without a front nobody can know.
pub(crate) fn gone(shell: &mut Shell, id: WorkerId, life: u64) {
    if life != 0 && shell.front.runs(life) {
        ask_of(shell, life, &ToFront::WorkerGone { worker: id.0 }, Asked::Gone(id));
    } else {
        shell.facts.push_back(Fact::Blamed { worker: id, request: None });
    }
}

/// Count the successes of this request.
pub(crate) fn watch(shell: &mut Shell, id: PoolId, key: RequestKey) {
    if let Some(pool) = shell.pools.get_mut(id) {
        pool.queue.watch(key);
        say(shell, &ToFront::Watch { pool: id.0, key: key.0 }, Vec::new());
    }
}

/// Keep this request from workers.
pub(crate) fn quarantine(shell: &mut Shell, id: PoolId, key: RequestKey, until: Instant) {
    if let Some(pool) = shell.pools.get_mut(id) {
        pool.queue.quarantine(key, until);
        say(shell, &quarantined(shell.now, id, key, until), Vec::new());
    }
}

fn quarantined(now: Instant, pool: PoolId, key: RequestKey, until: Instant) -> ToFront {
    ToFront::Quarantine { pool: pool.0, key: key.0, for_ms: millis(until.since(now)) }
}

/// Forget this request.
pub(crate) fn release(shell: &mut Shell, id: PoolId, key: RequestKey) {
    if let Some(pool) = shell.pools.get_mut(id) {
        pool.queue.release(key);
        say(shell, &ToFront::Release { pool: id.0, key: key.0 }, Vec::new());
    }
}

/// Whether visitors get the fallback.
pub(crate) fn fallback(shell: &mut Shell, id: PoolId, on: bool) {
    if let Some(pool) = shell.pools.get_mut(id) {
        pool.queue.has_fallback = on;
        say(shell, &ToFront::Fallback { pool: id.0, on }, Vec::new());
    }
}

/// Asks for everything that it has counted; the number by which the answer is known.
pub(crate) fn report(shell: &mut Shell) -> Option<u64> {
    shell.front.life.as_ref().filter(|life| life.why.is_none())?;
    shell.front.reports += 1;
    let number = shell.front.reports;
    ask(shell, &ToFront::Report { number }, Asked::Report(number));
    Some(number)
}

/// Accept nothing more, finish what is in hand, and leave.
pub(crate) fn leave(shell: &mut Shell, within: Duration) {
    if let Some(life) = &mut shell.front.life
        && !std::mem::replace(&mut life.is_leaving, true)
    {
        say(shell, &ToFront::Leave { within_ms: millis(within) }, Vec::new());
    }
    if let Some(old) = shell.front.old.as_ref().map(|old| old.number) {
        say_to(shell, old, &ToFront::Leave { within_ms: millis(within) }, Vec::new());
    }
}

/// The whole supervisor stops: the front finishes while there is still time for the workers to obey TERM.
pub(crate) fn stop(shell: &mut Shell) {
    let longest = shell.pools.iter().filter_map(|pool| settings::stop_timeout(&pool.plan.config)).max();
    let within = longest.map_or(Duration::ZERO, |longest| longest - (longest / 4).min(Duration::from_secs(1)));
    shell.timers.clear(Timer::FrontStart);
    // Whoever comes from now on finds nobody, or who comes after us; whoever has come is still let in by the front, and served.
    for pool in shell.pools.iter().filter(|pool| settings::is_queued(&pool.plan.config)) {
        for socket in &pool.plan.sockets {
            manager::let_go(shell, socket);
        }
    }
    leave(shell, within);
}
