//! The world around the policy: it lets time pass, gives the driver its turns and shows every step to the laws.
//!
//! Theory of operation. The world's own time goes from happening to happening (see `agenda`). What happens makes
//! facts; they wait in the inbox until the driver turns. A turn feeds all facts, then `Woken` if the policy's deadline
//! has passed, and carries out the orders in between. While the driver stalls there is no turn. While the machine
//! sleeps the policy's clock runs and the world's own time rests.

use std::collections::VecDeque;

use steadfast_policy::command::Command;
use steadfast_policy::event::{Event, Files};
use steadfast_policy::figures::Mode;
use steadfast_policy::ids::{GenerationId, PoolId, WorkerId, ZygoteId};
use steadfast_policy::policy::Policy;
use steadfast_policy::record;
use steadfast_policy::rules::Rules;
use steadfast_policy::time::Instant;

use crate::agenda::{Agenda, Happening, MILLI, Nanos};
use crate::case::{Case, PoolCase, Release, Traffic};
use crate::law::Breach;
use crate::laws::Laws;
use crate::random::Random;

/// A turn is late when it comes so long after its deadline.
const LATE: Nanos = 250 * MILLI;

/// How far a process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Asked of the zygote.
    Forking,
    /// It exists and loads.
    Booting,
    /// It can take requests.
    Up,
    /// It has ended.
    Gone,
}

/// What a worker has in hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) key: u32,
    pub(crate) requests: u32,
    pub(crate) busy: Nanos,
    pub(crate) retried: bool,
    pub(crate) arrived: Nanos,
}

/// A worker as it really is.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) id: WorkerId,
    pub(crate) pool: usize,
    pub(crate) release: Release,
    pub(crate) files: Files,
    pub(crate) life: Life,
    /// Its plans for its own end are void when this has changed.
    pub(crate) plan: u32,
    pub(crate) admitted: bool,
    pub(crate) withdrawn: bool,
    pub(crate) termed: bool,
    /// How it will have ended once it is not stuck any more.
    pub(crate) ending: Option<(steadfast_policy::class::Exit, bool)>,
    pub(crate) stuck: bool,
    /// It has said that it cannot go on.
    pub(crate) said: bool,
    /// It is a manager, and stands still.
    pub(crate) rests: bool,
    pub(crate) job: Option<Job>,
    pub(crate) jobs: u32,
    pub(crate) hung: bool,
    pub(crate) idle_since: Nanos,
    pub(crate) served: u64,
    pub(crate) told: u64,
}

/// What a generation of a pool is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) generation: GenerationId,
    pub(crate) release: Release,
    pub(crate) version: u32,
    pub(crate) noted: u32,
}

/// A zygote as it really is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mold {
    pub(crate) id: ZygoteId,
    pub(crate) pool: usize,
    pub(crate) release: Release,
    pub(crate) files: Files,
    pub(crate) ready: bool,
    pub(crate) gone: bool,
}

/// A pool as it really is.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) case: PoolCase,
    pub(crate) traffic: Traffic,
    pub(crate) arrivals: bool,
    pub(crate) known: bool,
    /// What the next generation is made of.
    pub(crate) wanted: Release,
    pub(crate) made: Vec<Made>,
    pub(crate) live: Vec<usize>,
    /// Waiting for work, the last one first.
    pub(crate) idle: Vec<usize>,
    pub(crate) waiting: VecDeque<Job>,
    pub(crate) fallback: bool,
    pub(crate) poison: u32,
    /// Until when the workers of its managers die, and how many live meanwhile.
    pub(crate) children: (Nanos, u32),
    /// Jobs that came so far.
    pub(crate) jobs: u32,
    pub(crate) watched: Vec<u32>,
    pub(crate) denied: Vec<(u32, Instant, bool)>,
    pub(crate) served_untold: u64,
    pub(crate) sample_due: bool,
    /// Somebody who comes is told of (direct mode).
    pub(crate) watched_for: bool,
    pub(crate) sampled: Nanos,
}

impl Site {
    pub(crate) fn is_queue(&self) -> bool {
        self.case.figures.mode == Mode::Queue
    }
}

/// What a run of a case came to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Facts fed to the policy.
    pub steps: u64,
    /// The policy's last clock, in nanoseconds.
    pub clock: u64,
    /// Hash of all orders and their instants.
    pub trace: u64,
    /// Workers started.
    pub starts: u64,
    /// Handovers from one policy to the next.
    pub handovers: u64,
}

/// The world.
pub(crate) struct World {
    pub(crate) now: Nanos,
    /// How long the machine has slept.
    pub(crate) slept: Nanos,
    pub(crate) random: Random,
    pub(crate) agenda: Agenda,
    pub(crate) inbox: VecDeque<Event>,
    pub(crate) case: Case,
    pub(crate) processes: Vec<Process>,
    pub(crate) by_id: Vec<u32>,
    pub(crate) molds: Vec<Mold>,
    pub(crate) sites: Vec<Site>,
    pub(crate) host_refuses: Nanos,
    pub(crate) stalled: Option<Nanos>,
    pub(crate) calm: bool,
    pub(crate) finished: bool,
    policy: Policy,
    policy_rules: Rules,
    laws: Laws,
    orders: Vec<Command>,
    tally: Tally,
    traced: bool,
    log: Option<Vec<String>>,
    /// The policy is handed over to another one now and then.
    handover: Option<Handover>,
}

/// When the next supervisor's image takes over.
struct Handover {
    random: Random,
    next: Nanos,
}

/// Time between two of them, and how often one is looked for when it is due: whatever is on its way is over soon.
const HANDOVER: Nanos = 20_000 * MILLI;

/// Plays the case under these rules. With `traced` the orders are hashed, which costs time.
pub fn play(case: &Case, rules: Rules, traced: bool) -> (Tally, Result<(), Breach>) {
    let mut world = World::new(case, rules, traced);
    let result = world.run();
    (world.tally, result)
}

/// Plays the case while one policy is handed over to the next now and then, as when the supervisor's program is replaced.
pub fn play_handed_over(case: &Case, rules: Rules) -> (Tally, Result<(), Breach>) {
    let mut world = World::new(case, rules, false);
    world.handover = Some(Handover { random: Random::new(case.seed ^ 0x5eed), next: 0 });
    let result = world.run();
    (world.tally, result)
}

/// Plays the case and tells every fact and order as a line.
pub fn tell(case: &Case, rules: Rules) -> Vec<String> {
    let mut world = World::new(case, rules, false);
    world.log = Some(Vec::new());
    let result = world.run();
    let mut lines = world.log.unwrap_or_default();
    if let Err(breach) = result {
        lines.push(format!("broken: {breach}"));
    }
    lines
}

impl World {
    fn new(case: &Case, rules: Rules, traced: bool) -> World {
        let mut world = World {
            now: MILLI,
            slept: 0,
            random: Random::new(case.seed),
            agenda: Agenda::default(),
            inbox: VecDeque::new(),
            case: case.clone(),
            processes: Vec::new(),
            by_id: Vec::new(),
            molds: Vec::new(),
            sites: Vec::new(),
            host_refuses: 0,
            stalled: None,
            calm: false,
            finished: false,
            policy: Policy::with_rules(case.seed, rules),
            policy_rules: rules,
            laws: Laws::new(case),
            orders: Vec::new(),
            tally: Tally::default(),
            traced,
            log: None,
            handover: None,
        };
        for (index, pool) in case.pools.iter().enumerate() {
            world.sites.push(Site {
                case: pool.clone(),
                traffic: pool.traffic,
                arrivals: false,
                known: true,
                wanted: pool.release,
                made: Vec::new(),
                live: Vec::new(),
                idle: Vec::new(),
                waiting: VecDeque::new(),
                fallback: false,
                poison: 0,
                children: (0, 0),
                jobs: 0,
                watched: Vec::new(),
                denied: Vec::new(),
                served_untold: 0,
                sample_due: false,
                watched_for: false,
                sampled: 0,
            });
            world.inbox.push_back(Event::PoolAdded { pool: PoolId(index as u32), figures: pool.figures.clone() });
            world.expect_visitors(index);
        }
        for (index, choice) in case.choices.iter().enumerate() {
            world.agenda.add(choice.at * MILLI, Happening::Choice(index));
        }
        if let Some(at) = case.calm {
            world.agenda.add(at * MILLI, Happening::Calmed);
        }
        world
    }

    /// The policy's clock.
    pub(crate) fn clock(&self) -> Instant {
        Instant::from_nanos(self.now + self.slept)
    }

    fn run(&mut self) -> Result<(), Breach> {
        let horizon = self.case.horizon * MILLI;
        self.turn()?;
        while !self.finished {
            let due = self
                .policy
                .next_deadline()
                .filter(|_| self.stalled.is_none())
                .map(|at| at.as_nanos().saturating_sub(self.slept));
            let next = match (self.agenda.next(), due) {
                (Some(happening), Some(due)) => happening.min(due),
                (Some(at), None) | (None, Some(at)) => at,
                (None, None) => break,
            };
            if next > horizon {
                break;
            }
            self.now = self.now.max(next);
            while let Some(what) = self.agenda.due(self.now) {
                self.happen(what);
            }
            if self.stalled.is_none() {
                self.turn()?;
                self.hand_over()?;
            }
        }
        if self.stalled.is_some() {
            // Nobody has a turn: there is nothing to judge at the end.
            return Ok(());
        }
        self.laws.finish(self.clock(), &self.policy, self.finished)
    }

    /// If one is due and everything is at rest: the next policy is told what this one knows, as text, and woken.
    fn hand_over(&mut self) -> Result<(), Breach> {
        let Some(handover) = self.handover.as_mut().filter(|handover| handover.next <= self.now) else {
            return Ok(());
        };
        let Ok(facts) = self.policy.facts() else { return Ok(()) };
        handover.next = self.now + handover.random.between(1, HANDOVER);
        let (clock, rules) = (self.clock(), self.policy_rules);
        let mut next = Policy::with_rules(self.case.seed ^ self.now, rules);
        for fact in facts {
            let line = record::write(clock, &fact);
            let (at, read) = record::parse(&line).expect("what was written can be read");
            assert_eq!(read, fact, "{line}");
            next.handle(at, read, &mut self.orders);
        }
        assert!(self.orders.is_empty(), "a handover orders {:?}", self.orders);
        self.policy = next;
        self.tally.handovers += 1;
        if let Some(log) = &mut self.log {
            log.push(format!("{:>12.3} handed over", clock.as_nanos() as f64 / 1e9));
        }
        // The next driver finds those who stand still, and tells what it finds.
        for w in (0..self.processes.len()).filter(|&w| self.processes[w].rests).collect::<Vec<_>>() {
            if self.processes[w].life == Life::Up {
                self.feed(self.child_died(w))?;
            }
        }
        self.feed(Event::Woken)
    }

    /// Tells the laws that nobody had a turn for so long.
    pub(crate) fn was_late(&mut self, by: Nanos) {
        let clock = self.clock();
        let noticed = |at: Instant| at.as_nanos() + LATE < clock.as_nanos();
        if !self.policy.next_deadline().is_some_and(noticed) {
            // Nobody can know: no deadline has passed, or only just.
            return;
        }
        self.laws.late(clock, by);
    }

    /// Tells the laws that faults have ended.
    pub(crate) fn calmed(&mut self) {
        let clock = self.clock();
        self.laws.calm(clock);
    }

    fn turn(&mut self) -> Result<(), Breach> {
        while let Some(event) = self.inbox.pop_front() {
            self.feed(event)?;
        }
        let clock = self.clock();
        if self.policy.next_deadline().is_some_and(|at| at <= clock) {
            self.feed(Event::Woken)?;
            while let Some(event) = self.inbox.pop_front() {
                self.feed(event)?;
            }
        }
        Ok(())
    }

    fn feed(&mut self, event: Event) -> Result<(), Breach> {
        let clock = self.clock();
        self.tally.steps += 1;
        self.tally.clock = clock.as_nanos();
        if let Some(log) = &mut self.log {
            log.push(format!("{:>12.3} {event:?}", clock.as_nanos() as f64 / 1e9));
        }
        self.laws.fact(clock, &event);
        let mut orders = std::mem::take(&mut self.orders);
        self.policy.handle(clock, event, &mut orders);
        for order in &orders {
            if self.traced {
                self.trace(clock, order);
            }
            if let Some(log) = &mut self.log {
                log.push(format!("             → {order:?}"));
            }
            self.laws.order(clock, order)?;
            self.carry_out(order);
        }
        let count = orders.len();
        orders.clear();
        self.orders = orders;
        self.laws.step(clock, &self.policy, count)
    }

    fn trace(&mut self, clock: Instant, order: &Command) {
        let line = format!("{} {order:?}", clock.as_nanos());
        for byte in line.bytes() {
            self.tally.trace = (self.tally.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn process(&self, id: WorkerId) -> Option<usize> {
        let index = *self.by_id.get(id.0 as usize)?;
        (index != u32::MAX).then_some(index as usize)
    }

    pub(crate) fn mold(&self, id: ZygoteId) -> Option<usize> {
        self.molds.iter().rposition(|mold| mold.id == id)
    }

    pub(crate) fn count_start(&mut self) {
        self.tally.starts += 1;
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Choice(index) => {
                let choice = self.case.choices[index];
                self.choose(choice.pool as usize, choice.act);
            }
            Happening::Forked(w) => self.exist(w),
            Happening::Booted(w) => self.boot(w),
            Happening::Answered(w) => self.answer(w),
            Happening::Judged(w) => self.judge_child(w),
            Happening::Died(w, plan, exit) => {
                if self.processes[w].plan == plan {
                    self.end(w, exit, false);
                }
            }
            Happening::Killed(w, exit, oom) => self.end(w, exit, oom),
            Happening::Said(w, plan, word) => {
                if self.processes[w].plan == plan {
                    self.say(w, word);
                }
            }
            Happening::Left(w) => self.leave(w),
            Happening::Drained(w) => self.tell_drained(w),
            Happening::Unstuck(w) => self.unstick(w),
            Happening::Arrived(pool) => self.arrive(pool),
            Happening::Done(w, job) => self.done(w, job),
            Happening::Overdue(w, job) => self.overdue(w, job),
            Happening::Sampled(pool) => self.sample(pool),
            Happening::Blamed(w, key) => self.blame(w, key),
            Happening::Resumed => self.resume(),
            Happening::ZygoteLoaded(z) => self.zygote_loaded(z),
            Happening::ZygoteEnded(z, end) => self.zygote_ended(z, end),
            Happening::Calmed => self.become_calm(),
        }
    }
}
