//! A stage for scenarios: one policy, one or two pools, workers that do as they are told, and virtual time.

use std::time::Duration;

use steadfast_policy::class::Exit;
use steadfast_policy::command::{Command, Source};
use steadfast_policy::event::{Event, Files, Load, SpawnFault, ZygoteEnd};
use steadfast_policy::figures::{Figures, Mode, Verify};
use steadfast_policy::ids::{GenerationId, PoolId, RequestKey, WorkerId, ZygoteId};
use steadfast_policy::note::Note;
use steadfast_policy::policy::Policy;
use steadfast_policy::rules::Rules;
use steadfast_policy::time::Instant;
use steadfast_policy::view::PoolView;

/// More orders than any scenario needs.
const ORDERS_MAX: usize = 60_000;

/// More turns than any scenario needs; a mutant may ask for one for ever.
const TURNS_MAX: u32 = 100_000;

/// What a worker does after its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boot {
    /// Becomes ready after so many milliseconds.
    Ready(u64),
    /// Never becomes ready.
    Never,
    /// Ends after so many milliseconds.
    Dies(u64, Exit),
    /// The host or the program refuses the start.
    Refused(SpawnFault),
}

/// A worker on the stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actor {
    pub(crate) id: WorkerId,
    pub(crate) generation: GenerationId,
    pub(crate) started: u64,
    pub(crate) ready: bool,
    pub(crate) admitted: bool,
    pub(crate) drained: Option<u64>,
    pub(crate) termed: u32,
    pub(crate) killed: Option<u64>,
    pub(crate) gone: bool,
}

/// The stage; times are milliseconds.
pub(crate) struct Stage {
    policy: Policy,
    pub(crate) now: u64,
    /// What happens by itself, by time.
    pending: Vec<(u64, Event)>,
    pub(crate) actors: Vec<Actor>,
    /// Every order so far, with its time.
    pub(crate) orders: Vec<(u64, Command)>,
    pub(crate) boot: Boot,
    pub(crate) files: Files,
    /// Workers leave on TERM.
    pub(crate) obedient: bool,
    /// KILL removes workers.
    pub(crate) mortal: bool,
    /// Verify requests are answered well.
    pub(crate) verifies: Option<bool>,
    /// Zygotes load; if not, they end, or (None) hang.
    pub(crate) zygotes: Option<bool>,
    pub(crate) woken: u32,
    turns: u32,
    /// Since when nobody was busy in the samples.
    idle_since: u64,
    /// Who waits and who is busy, where the policy asks (direct mode).
    crowd: (u32, u32),
    /// It wants to be told of the next one who comes.
    watched_for: bool,
    figures: Figures,
}

pub(crate) const POOL: PoolId = PoolId(0);

/// Figures of a direct pool of so many.
pub(crate) fn direct(workers: u32) -> Figures {
    Figures { min: workers, max: workers, ..Figures::default() }
}

/// Figures of a queue pool.
pub(crate) fn queue(min: u32, max: u32) -> Figures {
    Figures { mode: Mode::Queue, min, max, ..Figures::default() }
}

impl Stage {
    /// A pool of these figures, added at the start.
    pub(crate) fn new(rules: Rules, figures: &Figures) -> Stage {
        Stage::seeded(rules, figures, 1)
    }

    pub(crate) fn seeded(rules: Rules, figures: &Figures, seed: u64) -> Stage {
        let mut stage = Stage::empty(rules, figures, seed);
        stage.begin();
        stage
    }

    /// The same, with the pool not yet added.
    pub(crate) fn empty(rules: Rules, figures: &Figures, seed: u64) -> Stage {
        Stage {
            policy: Policy::with_rules(seed, rules),
            now: 1000,
            pending: Vec::new(),
            actors: Vec::new(),
            orders: Vec::new(),
            boot: Boot::Ready(50),
            files: Files::Noted,
            obedient: true,
            mortal: true,
            verifies: Some(true),
            zygotes: Some(true),
            woken: 0,
            turns: 0,
            idle_since: 0,
            crowd: (0, 0),
            watched_for: false,
            figures: figures.clone(),
        }
    }

    pub(crate) fn begin(&mut self) {
        let figures = self.figures.clone();
        self.tell(Event::PoolAdded { pool: POOL, figures });
    }

    fn clock(&self) -> Instant {
        Instant::from_nanos(self.now * 1_000_000)
    }

    /// Tells a fact and carries out the answer; `Woken` follows if a deadline has passed.
    pub(crate) fn tell(&mut self, event: Event) {
        self.feed(event);
        self.wake();
    }

    /// Tells a fact while the driver's turn is not over yet.
    pub(crate) fn feed(&mut self, event: Event) {
        let mut out = Vec::new();
        self.policy.handle(self.clock(), event, &mut out);
        for order in out {
            self.carry_out(&order);
            self.orders.push((self.now, order));
        }
    }

    fn wake(&mut self) {
        self.due_facts();
        for _ in 0..50 {
            match self.policy.next_deadline() {
                Some(at) if at <= self.clock() => {
                    self.woken += 1;
                    self.feed(Event::Woken);
                    self.due_facts();
                }
                _ => break,
            }
        }
    }

    fn due_facts(&mut self) {
        while let Some(index) = self.pending.iter().position(|(at, _)| *at <= self.now) {
            let (_, event) = self.pending.remove(index);
            self.note_fact(&event);
            self.feed(event);
        }
    }

    fn note_fact(&mut self, event: &Event) {
        match *event {
            Event::WorkerReady { worker } => self.with(worker, |actor| actor.ready = true),
            Event::WorkerExited { worker, .. } | Event::SpawnFailed { worker, .. } => {
                self.with(worker, |actor| actor.gone = true);
                let ends = |event: &Event| matches!(event, Event::WorkerExited { worker: w, .. } | Event::WorkerReady { worker: w } if *w == worker);
                self.pending.retain(|(_, event)| !ends(event));
            }
            _ => {}
        }
    }

    fn with(&mut self, worker: WorkerId, change: impl FnOnce(&mut Actor)) {
        if let Some(actor) = self.actors.iter_mut().find(|actor| actor.id == worker) {
            change(actor);
        }
    }

    /// Lets so many milliseconds pass, with all turns in their time.
    pub(crate) fn pass(&mut self, wait: u64) {
        let end = self.now + wait;
        loop {
            let deadline = self.policy.next_deadline().map(|at| at.as_nanos().div_ceil(1_000_000));
            let fact = self.pending.iter().map(|(at, _)| *at).min();
            let next = [deadline, fact].into_iter().flatten().min().unwrap_or(u64::MAX);
            self.turns += 1;
            if next > end || self.turns > TURNS_MAX {
                break;
            }
            self.now = self.now.max(next);
            self.wake();
        }
        self.now = end;
    }

    /// Lets so many milliseconds pass without a turn; then there is one, with all facts first.
    pub(crate) fn stall(&mut self, wait: u64) {
        self.now += wait;
        self.wake();
    }

    /// The machine sleeps so long: the clock goes on, and nothing else.
    pub(crate) fn sleep(&mut self, wait: u64) {
        for (at, _) in &mut self.pending {
            *at += wait;
        }
        self.stall(wait);
    }

    /// Something that happens by itself later.
    pub(crate) fn later(&mut self, wait: u64, event: Event) {
        self.pending.push((self.now + wait, event));
    }

    fn carry_out(&mut self, order: &Command) {
        if self.orders.len() > ORDERS_MAX {
            // A mutant that runs away gets no more answers.
            self.pending.clear();
            return;
        }
        match *order {
            Command::StartWorker { worker, generation, source, .. } => {
                self.actors.push(Actor {
                    id: worker,
                    generation,
                    started: self.now,
                    ready: false,
                    admitted: false,
                    drained: None,
                    termed: 0,
                    killed: None,
                    gone: false,
                });
                let files = match source {
                    Source::Exec => self.files,
                    Source::Zygote(_) => Files::Noted,
                };
                let spawned = Event::WorkerSpawned { worker, files };
                match self.boot {
                    Boot::Refused(fault) => self.later(0, Event::SpawnFailed { worker, fault, files }),
                    Boot::Ready(wait) => {
                        self.later(0, spawned);
                        self.later(wait, Event::WorkerReady { worker });
                    }
                    Boot::Dies(wait, exit) => {
                        self.later(0, spawned);
                        let oom = false;
                        self.later(wait, Event::WorkerExited { worker, exit, oom });
                    }
                    Boot::Never => self.later(0, spawned),
                }
            }
            Command::VerifyWorker { worker } => match self.verifies {
                Some(true) => self.later(5, Event::WorkerVerified { worker }),
                Some(false) => self.later(5, Event::VerificationFailed { worker }),
                None => {}
            },
            Command::AdmitWorker { worker } => self.with(worker, |actor| actor.admitted = true),
            Command::DrainWorker { worker } => {
                let now = self.now;
                self.with(worker, |actor| actor.drained = actor.drained.or(Some(now)));
                self.later(1, Event::WorkerDrained { worker });
            }
            Command::TerminateWorker { worker } => {
                self.with(worker, |actor| actor.termed += 1);
                if self.obedient {
                    self.exit_later(worker, 5, Exit::Code(0));
                }
            }
            Command::KillWorker { worker } => {
                let now = self.now;
                self.with(worker, |actor| actor.killed = actor.killed.or(Some(now)));
                if self.mortal {
                    self.exit_later(worker, 1, Exit::Signal(9));
                }
            }
            Command::StartZygote { zygote, .. } => match self.zygotes {
                Some(true) => self.later(20, Event::ZygoteReady { zygote }),
                Some(false) => self.zygote_exits(20, zygote, ZygoteEnd::Failed),
                None => {}
            },
            Command::SampleLoad { .. } => {
                let load = self.load(self.crowd.0, self.crowd.1);
                self.later(0, Event::LoadSampled { pool: POOL, load });
            }
            Command::WatchNeed { .. } => {
                self.watched_for = self.crowd.0 == 0;
                if self.crowd.0 > 0 {
                    let load = self.load(self.crowd.0, self.crowd.1);
                    self.later(0, Event::LoadSampled { pool: POOL, load });
                }
            }
            Command::QuitZygote { zygote } | Command::KillZygote { zygote } => {
                self.zygote_exits(5, zygote, ZygoteEnd::Failed);
            }
            _ => {}
        }
    }

    /// A zygote ends after so long.
    pub(crate) fn zygote_exits(&mut self, wait: u64, zygote: ZygoteId, end: ZygoteEnd) {
        self.later(wait, Event::ZygoteExited { zygote, end, files: self.files, retry_after: None });
    }

    fn exit_later(&mut self, worker: WorkerId, wait: u64, exit: Exit) {
        let oom = false;
        self.later(wait, Event::WorkerExited { worker, exit, oom });
    }

    /// The worker ends now.
    pub(crate) fn die(&mut self, worker: WorkerId, exit: Exit) {
        let event = Event::WorkerExited { worker, exit, oom: false };
        self.note_fact(&event);
        self.tell(event);
    }

    /// It ends now with this request in hand.
    pub(crate) fn die_with(&mut self, worker: WorkerId, exit: Exit, request: u64) {
        self.die(worker, exit);
        let request = Some(RequestKey(request));
        self.tell(Event::Blamed { worker, request });
    }

    /// It ends now with nothing in hand.
    pub(crate) fn die_idle(&mut self, worker: WorkerId, exit: Exit) {
        self.die(worker, exit);
        self.tell(Event::Blamed { worker, request: None });
    }

    /// It has served so many more.
    pub(crate) fn serve(&mut self, worker: WorkerId, requests: u64) {
        self.tell(Event::WorkerServed { worker, requests });
    }

    /// All that serve have served so many more.
    pub(crate) fn serve_all(&mut self, requests: u64) {
        for worker in self.serving() {
            self.serve(worker, requests);
        }
    }

    /// The front's sample.
    pub(crate) fn sample(&mut self, waiting: u32, busy: u32) {
        let load = self.load(waiting, busy);
        self.tell(Event::LoadSampled { pool: POOL, load });
    }

    /// From now on so many wait and so many are busy (direct mode); somebody has come.
    pub(crate) fn come(&mut self, waiting: u32, busy: u32) {
        self.crowd = (waiting, busy);
        if std::mem::take(&mut self.watched_for) {
            self.sample(waiting, busy);
        }
    }

    /// The same, and nobody has come.
    pub(crate) fn go(&mut self, waiting: u32, busy: u32) {
        self.crowd = (waiting, busy);
    }

    fn load(&mut self, waiting: u32, busy: u32) -> Load {
        let serving = self.serving();
        let idle = (serving.len() as u32).saturating_sub(busy);
        if busy > 0 || waiting > 0 {
            self.idle_since = self.now;
        }
        let since = |worker: WorkerId| {
            let started = self.actor(worker).map_or(0, |actor| actor.started);
            Instant::from_nanos(started.max(self.idle_since) * 1_000_000)
        };
        let longest_idle = serving.first().filter(|_| idle > 0).map(|&worker| (worker, since(worker)));
        Load { idle, busy, waiting, served: 0, longest_idle }
    }

    pub(crate) fn reload(&mut self) {
        let figures = self.figures.clone();
        self.tell(Event::ReloadRequested { pool: POOL, figures });
    }

    /// Workers that live.
    pub(crate) fn live(&self) -> Vec<WorkerId> {
        self.pick(|_| true)
    }

    /// Workers that serve: admitted (or ready, where nobody admits) and not told to leave.
    pub(crate) fn serving(&self) -> Vec<WorkerId> {
        let unasked = self.figures.mode == Mode::Direct && self.figures.verify == Verify::Never;
        self.pick(|actor| {
            actor.ready
                && (actor.admitted || unasked)
                && actor.drained.is_none()
                && actor.termed == 0
                && actor.killed.is_none()
        })
    }

    pub(crate) fn pick(&self, wanted: impl Fn(&Actor) -> bool) -> Vec<WorkerId> {
        let live = self.actors.iter().filter(|actor| !actor.gone && wanted(actor));
        live.map(|actor| actor.id).collect()
    }

    pub(crate) fn actor(&self, worker: WorkerId) -> Option<Actor> {
        self.actors.iter().copied().find(|actor| actor.id == worker)
    }

    /// The worker that was started last.
    pub(crate) fn last(&self) -> WorkerId {
        self.actors.last().map_or(WorkerId(u64::MAX), |actor| actor.id)
    }

    /// How many workers were started since.
    pub(crate) fn starts_since(&self, since: u64) -> usize {
        self.actors.iter().filter(|actor| actor.started >= since).count()
    }

    /// Orders of this kind since.
    pub(crate) fn count(&self, since: u64, wanted: impl Fn(&Command) -> bool) -> usize {
        self.orders.iter().filter(|(at, order)| *at >= since && wanted(order)).count()
    }

    /// Notes of this kind since.
    pub(crate) fn notes(&self, since: u64, wanted: impl Fn(&Note) -> bool) -> usize {
        self.count(since, |order| matches!(order, Command::Report(note) if wanted(note)))
    }

    pub(crate) fn opened(&self, since: u64) -> usize {
        self.notes(since, |note| matches!(note, Note::BreakerOpened { .. }))
    }

    pub(crate) fn view<T>(&self, look: impl FnOnce(PoolView<'_>) -> T) -> Option<T> {
        self.policy.view(self.clock()).pool(POOL).map(look)
    }

    pub(crate) fn zygote(&self) -> Option<ZygoteId> {
        self.orders.iter().rev().find_map(|(_, order)| match order {
            Command::StartZygote { zygote, .. } => Some(*zygote),
            _ => None,
        })
    }
}

/// Figures with another duration, said briefly.
pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
