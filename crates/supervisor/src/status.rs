//! The status document: the policy's view with the shell's facts.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use steadfast_policy::class::Class;
use steadfast_policy::ids::PoolId;
use steadfast_policy::policy::Policy;
use steadfast_policy::time::Instant;
use steadfast_policy::view::{self, PoolView, SlotView, View, WorkerState, ZygoteState};
use steadfast_proto::front;
use steadfast_proto::status::{
    Breaker, BreakerState, FailedReload, Front, LastExit, Latency, Phase, Pool, PoolState, Quarantined, Queue,
    Requests, Slot, SlotState, Status, VERSION, Workers, Zygote,
};

use crate::children::Pid;
use crate::clock::millis;
use crate::front::settings;
use crate::lookout;
use crate::pools::{self, Socket};
use crate::report::because;
use crate::shell::Shell;
use crate::signals::signal_name;
use crate::words;

/// With more workers than this the kernel is not asked for each one's memory and processor time.
const ASKED_MAX: usize = 1000;
/// With more workers than this their proportional memory is left out, which costs the kernel most.
const PSS_MAX: usize = 32;

/// The document, of all pools or of one.
pub(crate) fn document(shell: &mut Shell, policy: &Policy, version: &str, only: Option<&str>) -> Status {
    let now = shell.now;
    let view = policy.view(now);
    let named: Vec<PoolId> =
        shell.pools.names().filter(|(name, _)| only.is_none_or(|only| only == &***name)).map(|(_, id)| id).collect();
    Status {
        version: VERSION,
        steadfast: version.to_owned(),
        pid: shell.host.pid,
        since: shell.clock.stamp(Instant::ZERO),
        phase: phase(shell, &view),
        front: front(shell),
        pools: named.into_iter().filter_map(|id| pool(shell, view.pool(id)?)).collect(),
    }
}

fn front(shell: &Shell) -> Option<Front> {
    let is_wanted = shell.pools.iter().any(|pool| settings::is_queued(&pool.plan.config));
    let pid = shell.front.life.as_ref().map(|life| life.pid.get());
    (is_wanted || pid.is_some()).then_some(Front { pid, restarts: shell.front.restarts })
}

/// The requests that are kept from a pool's workers.
pub(crate) fn quarantine(shell: &Shell, policy: &Policy, id: PoolId) -> Vec<Quarantined> {
    policy.view(shell.now).pool(id).map(|view| quarantined(shell, &view)).unwrap_or_default()
}

fn quarantined(shell: &Shell, view: &PoolView<'_>) -> Vec<Quarantined> {
    let Some(pool) = shell.pools.get(view.id()) else {
        return Vec::new();
    };
    let told = view.quarantine().map(|suspect| Quarantined {
        request: pool.queue.line(suspect.request),
        kills: suspect.kills,
        until: shell.clock.stamp(suspect.until),
    });
    told.collect()
}

/// What is known of a pool's requests; nothing of a direct one's.
fn requests(pool: &pools::Pool, limit: u32) -> (Option<Queue>, Option<Requests>, Option<Latency>) {
    let known = &pool.queue;
    let queue = Queue { length: known.load.waiting, limit, oldest_ms: known.load.oldest_ms, peak: known.peak };
    let front::Requests { total, ok, error, retried, shed, timeout, lost, fallback, quarantined, aborted } =
        known.requests;
    let requests = Requests { total, ok, error, retried, shed, timeout, lost, fallback, quarantined, aborted };
    let millis = |share: f64| known.duration.quantile(share).map(|micros| (micros / 10.0).round() / 100.0);
    let latency = match (millis(0.5), millis(0.9), millis(0.99)) {
        (Some(p50), Some(p90), Some(p99)) => Some(Latency { p50, p90, p99 }),
        _ => None,
    };
    (Some(queue), Some(requests), latency)
}

fn phase(shell: &Shell, view: &View<'_>) -> Phase {
    if shell.is_stopping || view.is_stopping() {
        Phase::Stopping
    } else if !shell.unsettled.is_empty() {
        Phase::Starting
    } else if view.pools().any(|pool| pool.candidate().is_some()) {
        Phase::Reloading
    } else {
        Phase::Running
    }
}

fn pool(shell: &mut Shell, view: PoolView<'_>) -> Option<Pool> {
    let id = view.id();
    let state = state(view.state());
    let breaker = breaker(shell, &view);
    let slots = slots(shell, &view);
    let zygote = zygote(shell, &view);
    let pool = shell.pools.get(id)?;
    let counts = view.counts();
    let is_queued = settings::is_queued(&pool.plan.config);
    // Of a direct pool's workers that serve one may be in neither state, and of none is to be known.
    let is_known = is_queued || slots.iter().all(|slot| slot.state != SlotState::Ready);
    let in_state = |state: SlotState| slots.iter().filter(|slot| slot.state == state).count() as u32;
    let (queue, requests, latency_ms) =
        if is_queued { requests(pool, pool.plan.config.queue.length) } else { (None, None, None) };
    let is_ill = matches!(state, PoolState::Down | PoolState::Degraded | PoolState::Starting);
    Some(Pool {
        name: pool.name.to_string(),
        state,
        reason: pool.failure.as_ref().filter(|_| is_ill).map(words::exit),
        mode: if is_queued { "queue" } else { "direct" }.to_owned(),
        listen: pool.plan.sockets.iter().map(Socket::address).collect(),
        generation: u64::from(view.generation().0),
        candidate: view.candidate().map(|generation| u64::from(generation.0)),
        proven: view.is_proven(),
        previous: view.previous().map(|generation| u64::from(generation.0)),
        zygote,
        workers: Workers {
            min: view.figures().min,
            max: view.figures().max,
            target: view.target(),
            total: counts.total,
            serving: counts.ready,
            idle: is_known.then(|| in_state(SlotState::Idle)),
            busy: is_known.then(|| in_state(SlotState::Busy)),
            starting: counts.starting,
            stopping: counts.leaving + counts.lost,
        },
        queue,
        breaker,
        quarantine: quarantined(shell, &view),
        requests,
        latency_ms,
        exits: exits(&view),
        last_exit: pool.failure.as_ref().map(|exit| last_exit(shell, exit)),
        failed_reload: pool.failed_reload.as_ref().map(|failed| FailedReload {
            generation: u64::from(failed.generation.0),
            rolled_back: failed.is_rolled_back,
            at: shell.clock.stamp(failed.at),
            reason: failed.reason.clone(),
            stderr: failed.stderr.clone(),
        }),
        slots,
    })
}

/// The zygote of the serving generation, or the one that is to take its place while there is none.
fn zygote(shell: &mut Shell, view: &PoolView<'_>) -> Option<Zygote> {
    let of_serving = view.zygotes().filter(|zygote| zygote.generation == view.generation());
    let seen = of_serving.max_by_key(|zygote| (zygote.state == ZygoteState::Ready, zygote.zygote))?;
    let pid = shell.zygotes.get(seen.zygote).map(|zygote| zygote.pid);
    Some(Zygote {
        pid: pid.map(Pid::get),
        rss: pid.and_then(|pid| shell.procfs.rss(pid)),
        pss: pid.and_then(|pid| shell.procfs.memory(pid)).map(|memory| memory.pss),
        state: seen.state.word().to_owned(),
    })
}

fn state(state: view::PoolState) -> PoolState {
    match state {
        view::PoolState::Asleep => PoolState::Asleep,
        view::PoolState::Starting => PoolState::Starting,
        view::PoolState::Serving => PoolState::Serving,
        view::PoolState::Degraded => PoolState::Degraded,
        view::PoolState::Down => PoolState::Down,
        view::PoolState::Stopping => PoolState::Stopping,
        view::PoolState::Stopped => PoolState::Stopped,
    }
}

fn breaker(shell: &Shell, pool: &PoolView<'_>) -> Breaker {
    let view = pool.breaker();
    let figures = pool.figures().breaker;
    Breaker {
        state: match view.state {
            view::BreakerState::Closed => BreakerState::Closed,
            view::BreakerState::Open => BreakerState::Open,
            view::BreakerState::HalfOpen => BreakerState::HalfOpen,
        },
        failures: f64::from(view.failures.quarters()) / 4.0,
        limit: figures.failures,
        window_ms: millis(figures.within),
        until: view.until.map(|until| shell.clock.stamp(until)),
        reason: view.reason.map(|reason| because(shell, pool.id(), reason)),
    }
}

fn exits(view: &PoolView<'_>) -> BTreeMap<String, u64> {
    Class::ALL.iter().map(|class| (class.word().to_owned(), view.exits(*class))).collect()
}

fn slots(shell: &mut Shell, view: &PoolView<'_>) -> Vec<Slot> {
    let mut slots: BTreeMap<u32, Slot> = BTreeMap::new();
    for seat in view.slots() {
        slots.insert(seat.slot.0, occupied(shell, view.id(), seat));
    }
    // The lowest free seats, as many as workers are missing: there the next ones will sit.
    let counts = view.counts();
    let mut missing = view.target().saturating_sub(counts.starting + counts.ready);
    for number in 1.. {
        if missing == 0 {
            break;
        }
        if let Entry::Vacant(seat) = slots.entry(number) {
            seat.insert(empty(shell, view.id(), number));
            missing -= 1;
        }
    }
    slots.into_values().collect()
}

fn occupied(shell: &mut Shell, pool: PoolId, seat: SlotView) -> Slot {
    let all = shell.workers.len();
    let worker = shell.workers.get(seat.worker);
    let (pid, text) = (worker.map(|worker| worker.pid), worker.and_then(|worker| worker.text.clone()));
    let asked = pid.filter(|_| all <= ASKED_MAX);
    let rss = asked.and_then(|pid| shell.procfs.rss(pid));
    let cpu = asked.and_then(|pid| shell.procfs.cpu_time(pid));
    let queued = worker.and_then(|worker| worker.queued.as_ref());
    let (served, busy) = (
        queued.map(|queued| queued.served_before.saturating_add(queued.served)),
        // One that a dead front has left is busy until it is seen to be free.
        queued.map(|queued| queued.busy > 0 || queued.adopt_by.is_some()),
    );
    let request = queued.and_then(|queued| queued.line.clone());
    let is_direct = worker.is_some_and(|worker| worker.queued.is_none());
    let is_seen = is_direct && all <= ASKED_MAX && matches!(seat.state, WorkerState::Ready);
    let busy = busy.or_else(|| is_seen.then(|| lookout::is_idle(shell, seat.worker)).flatten().map(|is_idle| !is_idle));
    let pss = pid.filter(|_| all <= PSS_MAX).and_then(|pid| shell.procfs.memory(pid)).map(|memory| memory.pss);
    Slot {
        slot: seat.slot.0,
        pid: pid.map(|pid| pid.get()),
        generation: Some(u64::from(seat.generation.0)),
        state: match seat.state {
            WorkerState::Starting => SlotState::Starting,
            WorkerState::Verifying => SlotState::Verifying,
            WorkerState::Ready => match busy {
                None => SlotState::Ready,
                Some(false) => SlotState::Idle,
                Some(true) => SlotState::Busy,
            },
            WorkerState::Draining => SlotState::Draining,
            WorkerState::Stopping => SlotState::Stopping,
            WorkerState::Killed => SlotState::Killed,
            WorkerState::Lost => SlotState::Lost,
        },
        requests: served.map(|served| served.max(seat.served)),
        rss,
        pss,
        cpu_ms: cpu.map(millis),
        since: shell.clock.stamp(seat.since),
        request,
        text,
        last_exit: exit_of(shell, pool, seat.slot.0),
    }
}

fn empty(shell: &Shell, pool: PoolId, number: u32) -> Slot {
    let exit = shell.pools.get(pool).and_then(|pool| pool.exits.get(&steadfast_policy::ids::SlotId(number)));
    Slot {
        slot: number,
        pid: None,
        generation: None,
        state: SlotState::Waiting,
        requests: None,
        rss: None,
        pss: None,
        cpu_ms: None,
        since: shell.clock.stamp(exit.map_or(shell.now, |exit| exit.at)),
        request: None,
        text: None,
        last_exit: exit_of(shell, pool, number),
    }
}

fn exit_of(shell: &Shell, pool: PoolId, number: u32) -> Option<LastExit> {
    let exit = shell.pools.get(pool)?.exits.get(&steadfast_policy::ids::SlotId(number))?;
    Some(last_exit(shell, exit))
}

fn last_exit(shell: &Shell, exit: &pools::LastExit) -> LastExit {
    LastExit {
        class: exit.class.to_owned(),
        signal: exit.signal.map(|signal| signal_name(signal).to_owned()),
        code: exit.code,
        name: exit.name.clone(),
        message: exit.message.clone(),
        at: shell.clock.stamp(exit.at),
        request: exit.request.clone(),
        stderr: exit.stderr.clone(),
    }
}
