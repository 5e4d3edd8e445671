//! The pools: what the policy's numbers stand for, and what each generation of a pool is made of.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use steadfast_config::types::{Listen, Pass, Pool as Config};
use steadfast_policy::ids::{GenerationId, PoolId, SlotId, WorkerId};
use steadfast_policy::time::Instant;

use crate::files::Pins;
use crate::front::queue::Queue;
use crate::launch::Launch;
use crate::listener::Listener;

/// A public listening socket. It is closed when no generation can be started on it any more.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    /// Its number at the poller.
    pub(crate) id: u64,
    /// The entry of `listen` that it stands for.
    pub(crate) listen: Listen,
    /// What it was bound with: with other bits the same address is another socket.
    pub(crate) made: Made,
    /// The socket.
    pub(crate) listener: Rc<RefCell<Listener>>,
    /// How often it was bound again.
    pub(crate) renewed: Rc<Cell<u32>>,
}

impl Socket {
    /// As it was configured, or as somebody else has named it.
    pub(crate) fn address(&self) -> String {
        let scheme = if matches!(self.listen, Listen::Http(_)) { "http://" } else { "" };
        format!("{scheme}{}", self.listener.borrow().address())
    }

    /// Its number for the front, another one after each binding.
    pub(crate) fn front_id(&self) -> u64 {
        (self.id << 32) | u64::from(self.renewed.get())
    }
}

/// What a socket was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// Absolute; unix only.
    pub(crate) path: Option<PathBuf>,
    /// Permission bits; unix only.
    pub(crate) mode: u32,
    /// Owner and group; unix only.
    pub(crate) owner: (Option<u32>, Option<u32>),
    /// Of listen(2).
    pub(crate) backlog: u32,
}

/// What a generation is made of.
#[derive(Debug)]
pub(crate) struct Generation {
    /// The configuration that it was prepared from.
    pub(crate) plan: Plan,
    /// Its directory and program; the error is for people, and is tried again at the next start.
    pub(crate) pins: Result<Pins, String>,
}

/// A configuration of a pool with everything that the machine says about it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The configuration.
    pub(crate) config: Rc<Config>,
    /// How its workers are started.
    pub(crate) launch: Rc<Launch>,
    /// Its sockets, in the order of `listen`.
    pub(crate) sockets: Vec<Socket>,
}

/// How a worker ended, as far as people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastExit {
    /// The class's word.
    pub(crate) class: &'static str,
    /// Exit code.
    pub(crate) code: Option<u8>,
    /// Signal.
    pub(crate) signal: Option<u8>,
    /// The code's name.
    pub(crate) name: Option<String>,
    /// Its own word, or why it could not be started.
    pub(crate) message: Option<String>,
    /// The request that it had in hand.
    pub(crate) request: Option<String>,
    /// When.
    pub(crate) at: Instant,
    /// Its last lines, few enough for the status document.
    pub(crate) stderr: Vec<String>,
}

/// A reload whose generation was refused or rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedReload {
    /// Its generation.
    pub(crate) generation: GenerationId,
    /// Its predecessor came back.
    pub(crate) is_rolled_back: bool,
    /// When.
    pub(crate) at: Instant,
    /// Why, in words.
    pub(crate) reason: String,
    /// The last lines of what failed.
    pub(crate) stderr: Vec<String>,
}

/// One pool.
#[derive(Debug)]
pub(crate) struct Pool {
    /// The policy's number for it.
    pub(crate) id: PoolId,
    /// Its name.
    pub(crate) name: Arc<str>,
    /// When it began.
    pub(crate) since: Instant,
    /// What the next generation is made of.
    pub(crate) plan: Plan,
    /// The generations from which a worker may still be started.
    pub(crate) generations: BTreeMap<GenerationId, Generation>,
    /// Its workers that live.
    pub(crate) members: BTreeSet<WorkerId>,
    /// What the front tells of its requests.
    pub(crate) queue: Queue,
    /// Its ready workers.
    pub(crate) ready: BTreeSet<WorkerId>,
    /// The ready worker that was asked last for evidence of service, or looked at last for its memory.
    pub(crate) asked: WorkerId,
    /// How the last worker of each slot ended.
    pub(crate) exits: BTreeMap<SlotId, LastExit>,
    /// The last unasked end in this pool.
    pub(crate) failure: Option<LastExit>,
    /// The last reload that failed, until a later one serves.
    pub(crate) failed_reload: Option<FailedReload>,
    /// What the host said when it refused a process last.
    pub(crate) refusal: Option<String>,
    /// It has left the configuration.
    pub(crate) is_leaving: bool,
    /// The policy wants to hear when somebody comes to its sockets (direct mode).
    pub(crate) is_watched: bool,
    /// The newest generation of which a worker was ready: so far it is looked at whether workers are managers.
    pub(crate) looked_at: Option<GenerationId>,
    /// The newest generation whose workers have been called managers.
    pub(crate) nested: Option<GenerationId>,
}

impl Pool {
    /// What this generation was made from; what the pool is meant to be, when it is gone.
    pub(crate) fn plan_of(&self, generation: GenerationId) -> &Plan {
        self.generations.get(&generation).map_or(&self.plan, |generation| &generation.plan)
    }

    /// Whether its workers are managers, as the configuration says.
    pub(crate) fn has_managers(&self, generation: GenerationId) -> bool {
        self.plan_of(generation).config.pass == Pass::ServerStarter
    }

    /// A new one, of which nothing runs yet.
    pub(crate) fn new(id: PoolId, plan: Plan, now: Instant) -> Pool {
        Pool {
            id,
            name: Arc::from(plan.config.name.as_str()),
            since: now,
            plan,
            generations: BTreeMap::new(),
            members: BTreeSet::new(),
            queue: Queue::default(),
            ready: BTreeSet::new(),
            asked: WorkerId(0),
            exits: BTreeMap::new(),
            failure: None,
            failed_reload: None,
            refusal: None,
            is_leaving: false,
            is_watched: false,
            looked_at: None,
            nested: None,
        }
    }

    /// Whether a newer generation than this one has been prepared.
    pub(crate) fn is_superseded(&self, generation: GenerationId) -> bool {
        self.generations.last_key_value().is_some_and(|(newest, _)| *newest > generation)
    }

    /// The next ready workers after those that were asked last, at most `count`, `but` left out; from the start again
    /// where the end is reached.
    pub(crate) fn next_ready(&mut self, count: usize, but: Option<WorkerId>) -> Vec<WorkerId> {
        let after = self.ready.range(WorkerId(self.asked.0 + 1)..);
        let before = self.ready.range(..=self.asked);
        let chosen: Vec<WorkerId> =
            after.chain(before).copied().filter(|worker| Some(*worker) != but).take(count).collect();
        if let Some(last) = chosen.last() {
            self.asked = *last;
        }
        chosen
    }
}

/// All pools.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    by_id: BTreeMap<PoolId, Pool>,
    by_name: BTreeMap<Arc<str>, PoolId>,
    last: u32,
    sockets: u64,
    /// Open since an earlier image of ours, until the pools that have them are there.
    taken_over: Vec<Socket>,
}

impl Pools {
    /// A number that was never used.
    pub(crate) fn next_id(&mut self) -> PoolId {
        self.last += 1;
        PoolId(self.last)
    }

    /// The last numbers of pools and sockets.
    pub(crate) fn last(&self) -> (u32, u64) {
        (self.last, self.sockets)
    }

    /// Goes on after these numbers, with sockets that are open already.
    pub(crate) fn go_on(&mut self, (pool, socket): (u32, u64), open: Vec<Socket>) {
        (self.last, self.sockets, self.taken_over) = (pool, socket, open);
    }

    /// The pools are there that have them.
    pub(crate) fn settle(&mut self) {
        self.taken_over.clear();
    }

    /// A number for a socket that was never used.
    pub(crate) fn next_socket(&mut self) -> u64 {
        self.sockets += 1;
        self.sockets
    }

    /// Keeps a new one. One of the same name that is leaving is no longer found by its name.
    pub(crate) fn insert(&mut self, pool: Pool) {
        self.by_name.insert(Arc::clone(&pool.name), pool.id);
        self.by_id.insert(pool.id, pool);
    }

    /// The one with that number.
    pub(crate) fn get(&self, id: PoolId) -> Option<&Pool> {
        self.by_id.get(&id)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, id: PoolId) -> Option<&mut Pool> {
        self.by_id.get_mut(&id)
    }

    /// The one of that name.
    pub(crate) fn named(&self, name: &str) -> Option<&Pool> {
        self.by_id.get(self.by_name.get(name)?)
    }

    /// Forgets it.
    pub(crate) fn remove(&mut self, id: PoolId) -> Option<Pool> {
        let pool = self.by_id.remove(&id)?;
        if self.by_name.get(&pool.name) == Some(&id) {
            self.by_name.remove(&pool.name);
        }
        Some(pool)
    }

    /// All, in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.by_id.values()
    }

    /// The names, in their order, with their numbers.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&Arc<str>, PoolId)> {
        self.by_name.iter().map(|(name, id)| (name, *id))
    }

    /// Every socket on which something may still be started, each once.
    pub(crate) fn sockets(&self) -> Vec<Socket> {
        let mut found: BTreeMap<u64, Socket> = BTreeMap::new();
        for pool in self.by_id.values() {
            let plans = pool.generations.values().map(|generation| &generation.plan).chain([&pool.plan]);
            for socket in plans.flat_map(|plan| &plan.sockets) {
                found.entry(socket.id).or_insert_with(|| socket.clone());
            }
        }
        for socket in &self.taken_over {
            found.entry(socket.id).or_insert_with(|| socket.clone());
        }
        found.into_values().collect()
    }
}
