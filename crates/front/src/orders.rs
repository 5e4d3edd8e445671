//! What the supervisor says.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use steadfast_proto::front::{self, FromFront, Protocol, ToFront, WORKERS_MAX, WorkerState};

use crate::broken::{self, Why};
use crate::clients;
use crate::dispatch;
use crate::http;
use crate::keys::{ClientKey, PoolId, WorkerKey};
use crate::lanes;
use crate::load;
use crate::notes;
use crate::place::FallbackBody;
use crate::poller::{Interest, Token};
use crate::state::{Client, Due, Front, Listener, Need, NoteRate, Place, Pool, Quarantine, Standing, Worker};
use crate::verify;
use crate::workers;

/// Of a request's line so much is reported.
const REPORTED_LINE: usize = 512;
/// A pool's fallback is no larger.
const FALLBACK_MAX: u64 = 1024 * 1024;

/// Carries out one message.
pub(crate) fn carry_out(front: &mut Front, message: ToFront, fds: Vec<OwnedFd>) {
    match message {
        ToFront::Pool(config) => pool(front, *config, fds),
        ToFront::PoolGone { pool } => pool_gone(front, pool),
        ToFront::WorkerOffered { worker, pool, path, concurrency, pid, life } => {
            offered(front, worker, pool, path, concurrency, pid, life)
        }
        ToFront::WorkerVerify { worker } => {
            if let Some((key, _)) = front.worker(worker) {
                verify::begin(front, key);
            }
        }
        ToFront::WorkerAdmit { worker, max_requests } => {
            if let Some((key, entry)) = front.worker(worker) {
                entry.max_requests = max_requests;
                let pool = entry.pool;
                workers::alter(front, key, Standing::Admitted);
                front.channel.send(&FromFront::Admitted { worker });
                dispatch::serve(front, pool);
                hang_up_unused(front, key);
                // Who is still needed is told at once, so that a pool grows at the speed of its workers.
                load::ask_again(front, pool);
            }
        }
        ToFront::WorkerWithdraw { worker } => {
            if !front.by_id.contains_key(&worker) {
                front.channel.send(&FromFront::WorkerFree { worker });
            } else if let Some((key, entry)) = front.worker(worker) {
                entry.owes_free = true;
                workers::alter(front, key, Standing::Withdrawn);
                workers::tell_free(front, key);
            }
        }
        ToFront::WorkerGone { worker } => gone(front, worker),
        ToFront::Watch { pool, key } => suspect(front, pool, key, None),
        ToFront::Quarantine { pool, key, for_ms } => suspect(front, pool, key, Some(Duration::from_millis(for_ms))),
        ToFront::Release { pool, key } => {
            if let Some(pool) = front.pools.get_mut(&pool) {
                pool.suspects.remove(&key);
            }
        }
        ToFront::Fallback { pool, on } => {
            if let Some(entry) = front.pools.get_mut(&pool) {
                entry.is_down = on;
                if on {
                    dispatch::refuse_all(front, pool);
                }
            }
        }
        ToFront::Report { number } => report(front, number),
        ToFront::HandOver { within_ms } => {
            leave(front, Duration::from_millis(within_ms));
            front.gives_back = true;
        }
        ToFront::Leave { within_ms } => leave(front, Duration::from_millis(within_ms)),
    }
}

/// Closes a connection that has shown that its worker accepts and carries nothing yet. libfcgi polls a silent connection
/// for two seconds, and a TERM at that moment makes it spin for ever; in accept it heeds TERM.
fn hang_up_unused(front: &mut Front, key: WorkerKey) {
    let Some(worker) = front.workers.get(key) else { return };
    for lane in worker.lanes.clone() {
        if front.lanes.get(lane).is_some_and(|lane| lane.used == 0 && lane.request.is_none()) {
            lanes::close(front, lane);
        }
    }
}

fn suspect(front: &mut Front, pool: PoolId, key: u64, so_long: Option<Duration>) {
    let until = so_long.and_then(|so_long| front.now.checked_add(so_long));
    if let Some(pool) = front.pools.get_mut(&pool) {
        pool.suspects.insert(key, Quarantine { until, on_trial: false });
    }
}

fn pool(front: &mut Front, config: front::Pool, fds: Vec<OwnedFd>) {
    let id = config.pool;
    let mut fds = fds.into_iter();
    let mut given: Vec<(front::Listener, Option<OwnedFd>)> = Vec::new();
    for listener in &config.listeners {
        given.push((listener.clone(), fds.next()));
    }
    let body = fds.next().filter(|_| config.fallback.has_body).map(read);
    let fallback = FallbackBody::new(&config.fallback, body);
    let entry = front.pools.remove(&id);
    let mut entry = entry.unwrap_or_else(|| new_pool(&config, front.now));
    let mut before = std::mem::take(&mut entry.listeners);
    for (listener, fd) in given {
        let settings = (listener.protocol == Protocol::Http).then(|| Rc::new(http::Settings::new(id, &config.params)));
        if let Some(mut kept) = before.remove(&listener.id) {
            kept.settings = settings;
            entry.listeners.insert(listener.id, kept);
        } else if let Some(fd) = fd {
            front.last_listener += 1;
            let number = front.last_listener;
            let accepts = front.accept_again.is_none() && front.leaves_by.is_none();
            if accepts && front.poller.add(&fd, Token::Listener(number), Interest::Level).is_err() {
                notes::warn(front, Some(id), format!("{} cannot be listened to", listener.address));
                continue;
            }
            front.listeners.insert(number, (id, listener.id));
            let address = listener.address.into_boxed_str();
            let kept = Listener { fd, number, protocol: listener.protocol, address, settings };
            entry.listeners.insert(listener.id, kept);
        }
    }
    for listener in before.values() {
        close(front, listener);
    }
    entry.config = config;
    entry.fallback = fallback;
    front.pools.insert(id, entry);
}

/// Listens there no more. The supervisor has the socket, too, so that closing our copy would not take it out of epoll.
fn close(front: &mut Front, listener: &Listener) {
    front.poller.remove(&listener.fd);
    front.listeners.remove(&listener.number);
}

fn new_pool(config: &front::Pool, now: Instant) -> Pool {
    Pool {
        config: config.clone(),
        listeners: Default::default(),
        fallback: FallbackBody::new(&config.fallback, None),
        is_down: false,
        is_leaving: false,
        queue: Default::default(),
        waiting: 0,
        idle: Vec::new(),
        shared: Vec::new(),
        busy: 0,
        suspects: Default::default(),
        counters: front::Counters { pool: config.pool, ..Default::default() },
        is_counted: false,
        counted_at: None,
        is_loaded: true,
        loaded_at: None,
        told_need: Need::None,
        notes: NoteRate { since: now, told: 0, kept: 0 },
        served: 0,
        peak: 0,
        clients: 0,
        figures: config.status.as_ref().map(|status| status.before).unwrap_or_default(),
        is_full: false,
    }
}

/// The body of a fallback: what can be read of it, at most [`FALLBACK_MAX`].
fn read(fd: OwnedFd) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::from(fd);
    let mut body = Vec::new();
    let mut at = 0u64;
    let mut chunk = [0; 8192];
    while let Ok(taken) = file.read_at(&mut chunk, at) {
        if taken == 0 || at >= FALLBACK_MAX {
            break;
        }
        body.extend_from_slice(&chunk[..taken]);
        at += taken as u64;
    }
    body
}

fn pool_gone(front: &mut Front, id: PoolId) {
    let Some(pool) = front.pools.get_mut(&id) else { return };
    pool.is_leaving = true;
    let listeners = std::mem::take(&mut pool.listeners);
    for listener in listeners.values() {
        close(front, listener);
    }
    dispatch::refuse_all(front, id);
    front.http.shut(Some(id));
    drop_idle(front, Some(id));
    bury(front, id);
}

/// Forgets a pool that is leaving as soon as nothing of it is in hand.
pub(crate) fn bury(front: &mut Front, id: PoolId) {
    let is_used = front.clients.values().any(|client| client.pool == id)
        || front.requests.values().any(|request| request.pool == id)
        || front.http.len_of(id) > 0;
    if !is_used && front.pools.get(&id).is_some_and(|pool| pool.is_leaving) {
        load::count(front, id);
        front.pools.remove(&id);
    }
}

/// Closes connections that have nothing in hand: all of them, or a pool's.
fn drop_idle(front: &mut Front, pool: Option<PoolId>) {
    let leaves = front.leaves_by.is_some();
    let is_idle =
        |client: &Client| client.streams.is_empty() && client.out.is_empty() && (client.has_spoken || !leaves);
    let is_meant = |client: &Client| pool.is_none_or(|pool| client.pool == pool);
    let idle = front.clients.iter().filter(|(_, client)| is_idle(client) && is_meant(client));
    let idle: Vec<ClientKey> = idle.map(|(key, _)| key).collect();
    for key in idle {
        // Its next request may have come with this word, and would be lost with it.
        clients::readable(front, key, false);
        if front.clients.get(key).is_some_and(is_idle) {
            clients::drop_all(front, key);
        }
    }
}

fn offered(
    front: &mut Front,
    id: u64,
    pool: PoolId,
    path: String,
    concurrency: u32,
    pid: Option<u32>,
    life: front::Life,
) {
    if front.by_id.contains_key(&id) || !front.pools.contains_key(&pool) {
        return;
    }
    let key = front.workers.insert(Worker {
        id,
        pool,
        path: path.into_boxed_str(),
        pid,
        lanes: Vec::new(),
        standing: Standing::Offered,
        busy: 0,
        served: 0,
        told: 0,
        max_requests: None,
        is_spent: false,
        idle_since: front.now,
        closes: false,
        may_close: false,
        is_doubtful: false,
        rests: 0,
        is_connected: false,
        is_heard: false,
        had_many: false,
        place: Place::Nowhere,
        rests_until: None,
        blame: None,
        owes_free: false,
        life,
        last: None,
    });
    front.by_id.insert(id, key);
    let lanes = lanes::create(front, key, concurrency.clamp(1, 1024));
    if let Some(worker) = front.workers.get_mut(key) {
        worker.lanes = lanes;
    }
    meet_first(front, key);
}

/// Makes a worker's first connection: it is how one sees that it accepts. What cannot be done now is tried again.
pub(crate) fn meet_first(front: &mut Front, key: WorkerKey) {
    let Some(worker) = front.workers.get(key).filter(|worker| !worker.is_connected) else { return };
    let (id, first) = (worker.id, worker.lanes.first().copied());
    if first.is_some_and(|lane| lanes::open(front, lane).is_ok()) {
        if let Some(worker) = front.workers.get_mut(key) {
            worker.is_connected = true;
        }
        front.channel.send(&FromFront::Connected { worker: id });
    } else {
        workers::rest(front, key, workers::LEAVING);
    }
}

/// A worker's process has ended. What came from it before is read first: it may have answered.
fn gone(front: &mut Front, id: u64) {
    let Some((key, worker)) = front.worker(id) else {
        return front.channel.send(&FromFront::Blame { worker: id, request: None });
    };
    let pool = worker.pool;
    worker.is_spent = true;
    worker.had_many |= worker.busy > 1;
    let lanes = worker.lanes.clone();
    for lane in &lanes {
        let request = front.lanes.get(*lane).and_then(|lane| lane.request);
        if request.is_some() {
            crate::replies::drain(front, *lane);
        }
        // A grandchild may hold the connection open: its end is not waited for.
        let is_still = front.lanes.get(*lane).is_some_and(|lane| lane.request.is_some() && lane.request == request);
        if is_still {
            broken::ended(front, *lane, Why::Died);
        }
    }
    workers::tell_served(front, key);
    forget(front, key, &lanes);
    let blame = front.workers.remove(key).and_then(|worker| worker.blame);
    front.by_id.remove(&id);
    front.channel.send(&FromFront::Blame { worker: id, request: blame });
    load::changed(front, pool);
}

fn forget(front: &mut Front, key: WorkerKey, lanes: &[crate::keys::LaneKey]) {
    workers::alter(front, key, Standing::Withdrawn);
    for lane in lanes {
        front.lanes.remove(*lane);
    }
    if let Some(worker) = front.workers.get_mut(key) {
        let rest = worker.rests_until.take();
        front.set_due(Due::Worker(key), rest, None);
    }
}

fn report(front: &mut Front, number: u64) {
    let pools: Vec<PoolId> = front.pools.keys().copied().collect();
    for id in pools {
        load::sample(front, id);
        load::count(front, id);
    }
    let states: Vec<WorkerState> = front.workers.values().map(|worker| state(front, worker)).collect();
    for chunk in states.chunks(WORKERS_MAX / 8) {
        front.channel.send(&FromFront::Workers { workers: chunk.to_vec() });
    }
    front.channel.send(&FromFront::Reported { number });
}

fn state(front: &Front, worker: &Worker) -> WorkerState {
    let requests = worker.lanes.iter().filter_map(|lane| front.lanes.get(*lane)?.request);
    let oldest = requests.filter_map(|key| front.requests.get(key)).min_by_key(|request| request.handed);
    WorkerState {
        worker: worker.id,
        served: worker.served,
        line: oldest.map(|request| shortened(request.line())),
        busy: worker.busy,
    }
}

/// Many lines fit into one message then.
fn shortened(mut line: String) -> String {
    line.truncate(line.floor_char_boundary(REPORTED_LINE));
    line
}

/// Gives workers back to whoever has taken over, as soon as they are not needed here: none while somebody waits, and all but
/// one while somebody is there who may still ask.
pub(crate) fn give_back(front: &mut Front) {
    let pools: Vec<PoolId> = front.pools.keys().copied().collect();
    for id in pools {
        if front.pools.get(&id).is_none_or(|pool| pool.waiting > 0) {
            continue;
        }
        let is_used = front.clients.values().any(|client| client.pool == id)
            || front.requests.values().any(|request| request.pool == id)
            || front.http.len_of(id) > 0;
        let mine = front.workers.iter().filter(|(_, worker)| worker.pool == id && !worker.owes_free);
        let mut mine: Vec<(u32, WorkerKey)> =
            mine.filter(|(_, worker)| worker.standing != Standing::Withdrawn).map(|(key, w)| (w.busy, key)).collect();
        // The one that stays is one that can be given something.
        mine.sort_by_key(|(busy, _)| *busy);
        for (_, key) in mine.into_iter().skip(usize::from(is_used)) {
            if let Some(worker) = front.workers.get_mut(key) {
                worker.owes_free = true;
                workers::alter(front, key, Standing::Withdrawn);
                workers::tell_free(front, key);
            }
        }
    }
}

/// Accepts nothing more, and leaves when nothing is in hand.
pub(crate) fn leave(front: &mut Front, within: Duration) {
    if let Some(by) = front.leaves_by {
        front.leaves_by = Some(by.min(front.now + within));
        return;
    }
    front.leaves_by = Some(front.now + within);
    let numbers: Vec<u32> = front.listeners.keys().copied().collect();
    for number in numbers {
        clients::accept_rest(front, number);
    }
    clients::hear_listeners(front, false);
    for pool in front.pools.values_mut() {
        // Whoever connects from now on is refused by the kernel, or accepted by our successor.
        pool.listeners.clear();
    }
    front.listeners.clear();
    front.http.shut(None);
    // Who has just connected is about to ask, as web servers do at once.
    let silent = front.clients.iter().filter(|(_, client)| !client.has_spoken);
    let silent: Vec<ClientKey> = silent.map(|(key, _)| key).collect();
    for key in silent {
        clients::rearm(front, key);
    }
    drop_idle(front, None);
}
