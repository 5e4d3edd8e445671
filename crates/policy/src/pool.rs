//! One pool: its workers, slots and generations, and the one door through which a worker's state changes.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::breaker::Breaker;
use crate::bucket::Bucket;
use crate::class::{Class, Exit, Weight};
use crate::command::Command;
use crate::event::Load;
use crate::figures::{Figures, Mode};
use crate::generation::{Generation, Tally, Zygote};
use crate::ids::{GenerationId, PoolId, SlotId, WorkerId, ZygoteId};
use crate::lookout::{Lookout, Spare};
use crate::note::{Note, Purpose};
use crate::random::Random;
use crate::rules::{Rule, Rules};
use crate::suspects::Suspects;
use crate::time::Instant;
use crate::worker::{State, Worker};

/// What a turn of the policy has in its hands.
pub(crate) struct Turn<'a> {
    pub(crate) now: Instant,
    pub(crate) out: &'a mut Vec<Command>,
    pub(crate) random: &'a mut Random,
    pub(crate) mint: &'a mut Mint,
    pub(crate) rules: Rules,
}

impl Turn<'_> {
    pub(crate) fn order(&mut self, command: Command) {
        self.out.push(command);
    }

    pub(crate) fn report(&mut self, note: Note) {
        self.out.push(Command::Report(note));
    }

    pub(crate) fn hold(&self, rule: Rule) -> bool {
        self.rules.hold(rule)
    }
}

/// Names never used twice, and which pool they were given to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mint {
    last: u64,
    pub(crate) workers: BTreeMap<WorkerId, PoolId>,
    pub(crate) zygotes: BTreeMap<ZygoteId, PoolId>,
}

impl Mint {
    pub(crate) fn worker(&mut self, pool: PoolId) -> WorkerId {
        self.last += 1;
        self.workers.insert(WorkerId(self.last), pool);
        WorkerId(self.last)
    }

    /// The last name that was given.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// No name up to this one is given again.
    pub(crate) fn skip(&mut self, last: u64) {
        self.last = self.last.max(last);
    }

    pub(crate) fn zygote(&mut self, pool: PoolId) -> ZygoteId {
        self.last += 1;
        self.zygotes.insert(ZygoteId(self.last), pool);
        ZygoteId(self.last)
    }
}

/// What comes after a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Afterwards {
    Stay,
    Restart,
    Forget,
}

/// Whether the pool is meant to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    Stopping(Afterwards),
    Stopped,
}

/// Replacing one generation by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rollout {
    pub(crate) to: GenerationId,
    /// How many workers the new generation may have by now.
    pub(crate) allowance: u32,
    /// Nobody has seen the new generation yet.
    pub(crate) unseen: bool,
    /// Canaries ended by nobody's fault.
    pub(crate) retries: u32,
    /// The youngest workers soak until then.
    pub(crate) soak: Option<Instant>,
    /// What the generation had served when the soak began.
    pub(crate) soak_served: u64,
}

/// A death whose charge waits for the front's word.
#[derive(Clone, Debug)]
pub(crate) struct Charge {
    pub(crate) due: Instant,
    pub(crate) worker: Worker,
    pub(crate) exit: Exit,
    pub(crate) oom: bool,
}

/// What people were last told of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Nothing,
    Serving,
    Degraded,
    Down,
}

/// One pool.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) id: PoolId,
    pub(crate) phase: Phase,
    /// What the next start of the pool begins with.
    pub(crate) figures: Figures,
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) target: u32,
    pub(crate) generations: BTreeMap<GenerationId, Generation>,
    pub(crate) last_generation: u32,
    pub(crate) serving: GenerationId,
    pub(crate) rollout: Option<Rollout>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) slots: BTreeMap<SlotId, WorkerId>,
    /// Slots that were taken once and are free now.
    free: BTreeSet<SlotId>,
    pub(crate) due: BTreeSet<(Instant, WorkerId)>,
    pub(crate) breaker: Breaker,
    pub(crate) bucket: Bucket,
    /// Unasked ends that no start has repaired yet.
    pub(crate) owed: u32,
    /// Planned starts that are not ready yet, and how many there may be.
    pub(crate) planned: u32,
    pub(crate) planned_bound: u32,
    /// When a start that is wanted now becomes possible.
    pub(crate) refill_due: Option<Instant>,
    pub(crate) charges: VecDeque<Charge>,
    /// The last death of an idle worker by a signal.
    pub(crate) mass: Option<(u8, Instant)>,
    pub(crate) load: Load,
    pub(crate) growth: u32,
    pub(crate) shrink_due: Option<Instant>,
    /// How need is noticed in direct mode.
    pub(crate) lookout: Lookout,
    /// How many of a direct pool's workers are too many.
    pub(crate) spare: Option<Spare>,
    pub(crate) suspects: Suspects,
    /// When requests passed their deadline, within the last second.
    pub(crate) overdue: VecDeque<Instant>,
    /// Workers to be killed one a second.
    pub(crate) overdue_workers: VecDeque<WorkerId>,
    pub(crate) overdue_due: Option<Instant>,
    /// Since when nothing serves.
    pub(crate) unserved: Option<Instant>,
    pub(crate) fallback: bool,
    pub(crate) told: Told,
    pub(crate) exits: [u64; Class::ALL.len()],
    /// Zygotes on their way out.
    pub(crate) departing: Vec<Zygote>,
}

impl Pool {
    pub(crate) fn new(id: PoolId, figures: Figures, now: Instant) -> Self {
        Pool {
            id,
            phase: Phase::Stopped,
            min: figures.min,
            max: figures.max,
            target: 0,
            generations: BTreeMap::new(),
            last_generation: 0,
            serving: GenerationId(0),
            rollout: None,
            workers: BTreeMap::new(),
            slots: BTreeMap::new(),
            free: BTreeSet::new(),
            due: BTreeSet::new(),
            breaker: Breaker::Closed,
            bucket: Bucket::new(now, figures.max),
            owed: 0,
            planned: 0,
            planned_bound: 0,
            refill_due: None,
            charges: VecDeque::new(),
            mass: None,
            load: Load::default(),
            growth: 0,
            shrink_due: None,
            lookout: Lookout::Closed,
            spare: None,
            suspects: Suspects::default(),
            overdue: VecDeque::new(),
            overdue_workers: VecDeque::new(),
            overdue_due: None,
            unserved: None,
            fallback: false,
            told: Told::Nothing,
            exits: [0; Class::ALL.len()],
            departing: Vec::new(),
            figures,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.figures.mode == Mode::Direct
    }

    /// The sum over all generations.
    pub(crate) fn tally(&self) -> Tally {
        self.generations.values().fold(Tally::default(), |sum, generation| Tally {
            pending: sum.pending + generation.tally.pending,
            ready: sum.ready + generation.tally.ready,
            outgoing: sum.outgoing + generation.tally.outgoing,
            leaving: sum.leaving + generation.tally.leaving,
            lost: sum.lost + generation.tally.lost,
        })
    }

    /// How many workers serve.
    pub(crate) fn ready(&self) -> u32 {
        self.generations.values().map(|generation| generation.tally.ready).sum()
    }

    /// How many more than wanted there may be while some are replaced.
    pub(crate) fn surge(&self) -> u32 {
        (self.target / 4).max(1)
    }

    /// The figures that a worker's life goes by.
    pub(crate) fn figures_of(&self, generation: GenerationId) -> &Figures {
        self.generations.get(&generation).map_or(&self.figures, |generation| &generation.figures)
    }

    pub(crate) fn generation(&mut self, id: GenerationId) -> Option<&mut Generation> {
        self.generations.get_mut(&id)
    }

    /// The door: changes a worker and keeps tallies and deadlines in step with it.
    pub(crate) fn alter(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker)) {
        let Some(mut worker) = self.uncount(id) else {
            return;
        };
        change(&mut worker);
        self.count(worker);
    }

    /// Moves a worker into another state.
    pub(crate) fn enter(&mut self, now: Instant, id: WorkerId, state: State) {
        self.alter(id, |worker| {
            worker.state = state;
            worker.since = now;
        });
    }

    /// Gives a new worker its seat.
    pub(crate) fn seat(&mut self, worker: Worker) {
        self.free.remove(&worker.place.slot);
        self.slots.insert(worker.place.slot, worker.id());
        self.count(worker);
    }

    /// Gives a worker that was there before us the seat that it has; the seats below it that nobody has are free.
    pub(crate) fn take_seat(&mut self, worker: Worker) {
        let known = self.slots.len() as u32 + self.free.len() as u32;
        self.free.extend((known + 1..=worker.place.slot.0).map(SlotId));
        self.seat(worker);
    }

    /// Takes a worker that is no more from its seat.
    pub(crate) fn unseat(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.uncount(id)?;
        self.slots.remove(&worker.place.slot);
        self.free.insert(worker.place.slot);
        Some(worker)
    }

    fn count(&mut self, worker: Worker) {
        if let Some(deadline) = worker.deadline() {
            self.due.insert((deadline, worker.id()));
        }
        self.tally_up(&worker, 1);
        self.workers.insert(worker.id(), worker);
    }

    fn uncount(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.workers.remove(&id)?;
        if let Some(deadline) = worker.deadline() {
            self.due.remove(&(deadline, id));
        }
        self.tally_up(&worker, -1);
        Some(worker)
    }

    fn tally_up(&mut self, worker: &Worker, by: i32) {
        let planned = worker.state.is_pending() && worker.purpose == Purpose::Planned;
        if planned {
            self.planned = self.planned.saturating_add_signed(by);
        }
        let Some(generation) = self.generations.get_mut(&worker.place.generation) else {
            return;
        };
        let tally = &mut generation.tally;
        let seat = match worker.state {
            State::Starting { .. } | State::Verifying { .. } => &mut tally.pending,
            State::Ready { .. } => &mut tally.ready,
            State::Draining { .. } | State::Stopping { .. } | State::Killed { .. } => &mut tally.leaving,
            State::Lost => &mut tally.lost,
        };
        *seat = seat.saturating_add_signed(by);
        if worker.state.is_ready() && worker.outgoing {
            tally.outgoing = tally.outgoing.saturating_add_signed(by);
        }
    }

    /// The lowest free slot.
    pub(crate) fn free_slot(&self) -> SlotId {
        let next = SlotId(self.slots.len() as u32 + self.free.len() as u32 + 1);
        self.free.first().copied().unwrap_or(next)
    }

    /// The sum of weights in the serving generation's windows.
    pub(crate) fn failures(&self, now: Instant, rules: Rules) -> Weight {
        let Some(generation) = self.generations.get(&self.serving) else {
            return Weight::NONE;
        };
        let within = generation.figures.breaker.within;
        let noted = generation.noted.window.sum(now, within, rules);
        noted.plus(generation.changed.window.sum(now, within, rules))
    }

    /// Counts an end.
    pub(crate) fn tick_exit(&mut self, class: Class) {
        if let Some(count) = Class::ALL.iter().position(|c| *c == class).and_then(|i| self.exits.get_mut(i)) {
            *count += 1;
        }
    }

    /// Moves every deadline by which somebody is judged.
    pub(crate) fn postpone(&mut self, late: Duration) {
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            self.alter(id, |worker| worker.state = worker.state.moved(late));
        }
        for generation in self.generations.values_mut() {
            generation.postpone(late);
        }
        for zygote in &mut self.departing {
            zygote.postpone(late);
        }
        for charge in &mut self.charges {
            charge.due = charge.due.after(late);
        }
        if let Some(rollout) = &mut self.rollout {
            rollout.soak = rollout.soak.map(|at| at.after(late));
        }
        self.unserved = self.unserved.map(|at| at.after(late));
        if let Some(spare) = &mut self.spare {
            spare.due = spare.due.after(late);
        }
        self.breaker.postpone(late);
    }
}
