//! What the end of a worker means: its class, its weight, and who is charged.

use core::time::Duration;

use crate::breaker::Breaker;
use crate::class::{Class, Exit, Weight};
use crate::command::Command;
use crate::event::{Files, SpawnFault};
use crate::ids::{GenerationId, RequestKey, WorkerId};
use crate::note::{Note, Purpose};
use crate::pool::{Charge, Pool, Turn};
use crate::rules::Rule;
use crate::suspects::Verdict;
use crate::worker::{Leave, Word, Worker};

/// How long a charge waits for the front's word.
const BLAME_WAIT: Duration = Duration::from_millis(200);
/// Deaths of idle workers by one signal within so long are one event.
const MASS_DEATH: Duration = Duration::from_secs(2);
/// A direct worker that lived so long after ready, and served, died a productive death.
const PRODUCTIVE: Duration = Duration::from_secs(1);
/// A direct worker that lived so long after ready has served, as far as anybody can know.
const LIFE_IS_SERVICE: Duration = Duration::from_secs(10);
/// Others' successes that make up for one death by a request.
const CREDIT_PER_DEATH: u64 = 10;
/// Waits of a host that refuses processes.
const HOST_FIRST: Duration = Duration::from_millis(200);
const HOST_MAX: Duration = Duration::from_secs(30);
const SIGKILL: u8 = 9;

impl Pool {
    /// A process has ended: its seat is free at once, the charge may wait for the front.
    pub(crate) fn exited(&mut self, turn: &mut Turn<'_>, id: WorkerId, exit: Exit, oom: bool) {
        let Some(worker) = self.unseat(id) else {
            return;
        };
        turn.mint.workers.remove(&id);
        if worker.leave.is_none() && self.is_running() && !self.is_foreign(worker.place.generation) {
            self.owed += 1;
        }
        let charge = Charge { due: turn.now.after(BLAME_WAIT), worker, exit, oom };
        if !self.is_direct() && charge.worker.leave.is_none() && charge.worker.ready.is_some() {
            self.charges.push_back(charge);
        } else {
            self.charge(turn, charge, None);
        }
    }

    /// The front's word on a dead worker's request.
    pub(crate) fn blamed(&mut self, turn: &mut Turn<'_>, id: WorkerId, request: Option<RequestKey>) {
        if let Some(at) = self.charges.iter().position(|charge| charge.worker.id() == id)
            && let Some(charge) = self.charges.remove(at)
        {
            self.charge(turn, charge, request);
        }
    }

    /// Judges a death and passes the failure on.
    pub(crate) fn charge(&mut self, turn: &mut Turn<'_>, charge: Charge, request: Option<RequestKey>) {
        let Charge { worker, exit, oom, .. } = charge;
        let served = self.has_served(turn, &worker);
        if served && let Some(generation) = self.generation(worker.place.generation) {
            generation.account(worker.files).served = true;
        }
        let (class, weight) = self.classify(turn, &worker, exit, oom, request);
        if class == Class::Recycled && self.lived_unseen(&worker) {
            let vouches = self.vouches(&worker);
            self.credit(turn, worker.place.generation, worker.files, worker.served, vouches);
        }
        let weight = self.lighten(turn, &worker, class, weight, exit, request);
        let verdict = self.suspect(turn, &worker, class, request);
        self.settle_end(turn, &worker, class, weight, Some(exit), request);
        if let Some((request, verdict)) = verdict {
            self.sentence(turn, request, verdict);
        }
    }

    /// A start that led to no process.
    pub(crate) fn spawn_failed(&mut self, turn: &mut Turn<'_>, id: WorkerId, fault: SpawnFault, files: Files) {
        let Some(mut worker) = self.unseat(id) else {
            return;
        };
        turn.mint.workers.remove(&id);
        worker.files = files;
        self.note_files(worker.place.generation, files);
        if worker.leave.is_none() && worker.purpose == Purpose::Repair {
            self.owed += 1;
        }
        if fault == SpawnFault::Zygote {
            self.zygote_missed(turn, &worker);
        }
        let blameless = fault == SpawnFault::Zygote || (fault == SpawnFault::Host && turn.hold(Rule::HostBlameless));
        if fault == SpawnFault::Host {
            self.host_refused(turn, worker.place.generation);
        }
        if blameless || worker.leave.is_some() {
            self.tick_exit(Class::Spawn);
            self.trial_ended(turn, id, false);
            return;
        }
        let weight = if fault == SpawnFault::Program { Weight::THREE } else { Weight::ONE };
        self.settle_end(turn, &worker, Class::Spawn, weight, None, None);
    }

    /// There is no zygote to fork it: nobody's failure, but no reason to ask again at once for ever.
    fn zygote_missed(&mut self, turn: &mut Turn<'_>, worker: &Worker) {
        let (id, files) = (worker.place.generation, worker.files);
        if self.not_before(turn, id) <= turn.now {
            self.book(turn, id, files, Class::Spawn, Weight::NONE);
        }
    }

    /// The host refuses a generation's processes: one refusal for all starts of the same moment. (That a candidate cannot
    /// have any is no reason for those that serve to wait: it may be a zygote's word, and not true.)
    pub(crate) fn host_refused(&mut self, turn: &mut Turn<'_>, id: GenerationId) {
        let (now, rules) = (turn.now, turn.rules);
        let first = if turn.hold(Rule::HostBackoff) { HOST_FIRST } else { Duration::ZERO };
        let Some(host) = self.generations.get_mut(&id).map(|generation| &mut generation.host) else {
            return;
        };
        if host.not_before() > now {
            return;
        }
        if host.is_clean(now) {
            // The host's first refusal is no reason for another try at once.
            host.fail(now, first, HOST_MAX, turn.random, rules);
        }
        let wait = host.fail(now, first, HOST_MAX, turn.random, rules);
        turn.report(Note::HostRefused { pool: self.id, wait });
    }

    /// Whether a worker has served, as far as is known.
    pub(crate) fn has_served(&self, turn: &Turn<'_>, worker: &Worker) -> bool {
        let Some(ready) = worker.ready else { return false };
        worker.served > 0 || (self.is_direct() && turn.now.since(ready) >= LIFE_IS_SERVICE)
    }

    /// Under full load a worker may come, serve its share and leave before anybody has seen it wait (direct mode). That
    /// is believed of a program that is known to serve, and of nobody else.
    fn lived_unseen(&self, worker: &Worker) -> bool {
        let known = self.generations.get(&worker.place.generation).is_some_and(|g| match worker.files {
            Files::Noted => g.noted.served,
            Files::Changed => g.changed.served,
        });
        worker.ready.is_none() && worker.served > 0 && known
    }

    /// The table of classes: the first match wins.
    fn classify(
        &self,
        turn: &Turn<'_>,
        worker: &Worker,
        exit: Exit,
        oom: bool,
        request: Option<RequestKey>,
    ) -> (Class, Weight) {
        let figures = self.figures_of(worker.place.generation);
        let said = |codes: &[u8]| matches!(exit, Exit::Code(code) if codes.contains(&code));
        match worker.leave {
            Some(Leave::Recycled) if worker.deaf => return (Class::Deaf, Weight::NONE),
            Some(Leave::Recycled) => return (Class::Recycled, Weight::NONE),
            Some(Leave::Stopped) if worker.deaf => return (Class::Deaf, Weight::NONE),
            Some(Leave::Stopped) => return (Class::Stopped, Weight::NONE),
            Some(Leave::Timeout { stalled: true }) => return (Class::Timeout, Weight::NONE),
            Some(Leave::Timeout { stalled: false }) => return (Class::Timeout, Weight::ONE),
            Some(Leave::Unready) => return (Class::Early, Weight::ONE),
            Some(Leave::Unverified) => return (Class::Unverified, Weight::ONE),
            Some(Leave::Word) if worker.word == Word::Broken => {
                return (Class::Broken, Weight::THREE);
            }
            Some(Leave::Word) if worker.ready.is_none() => return (Class::Early, Weight::ONE),
            Some(Leave::Word) => return (Class::Exited, Weight::ONE),
            None => {}
        }
        let outside = if turn.hold(Rule::KilledBlameless) { Weight::NONE } else { Weight::ONE };
        let unavailable = if turn.hold(Rule::UnavailableBlameless) { Weight::NONE } else { Weight::ONE };
        match exit {
            Exit::Signal(SIGKILL) if oom => (Class::Oom, Weight::ONE),
            Exit::Signal(SIGKILL) => (Class::Killed, outside),
            _ if worker.word == Word::Broken || said(&figures.broken_codes) => (Class::Broken, Weight::THREE),
            _ if worker.word == Word::Unavailable || said(&figures.unavailable_codes) => {
                (Class::Unavailable, unavailable)
            }
            Exit::Code(0) if self.lived_unseen(worker) => (Class::Recycled, Weight::NONE),
            _ if worker.ready.is_none() => (Class::Early, Weight::ONE),
            Exit::Signal(_) => (Class::Crashed, Weight::ONE),
            Exit::Code(0) if worker.done => (Class::Recycled, Weight::NONE),
            Exit::Code(0) if !self.has_served(turn, worker) => (Class::Exited, Weight::QUARTER),
            Exit::Code(0) if request.is_none() && turn.hold(Rule::SelfRecycling) => (Class::Recycled, Weight::NONE),
            Exit::Code(_) => (Class::Exited, Weight::ONE),
        }
    }

    /// Deaths that say little of the program weigh nothing.
    fn lighten(
        &mut self,
        turn: &mut Turn<'_>,
        worker: &Worker,
        class: Class,
        weight: Weight,
        exit: Exit,
        request: Option<RequestKey>,
    ) -> Weight {
        let own = matches!(class, Class::Crashed | Class::Exited | Class::Oom);
        let asked = worker.leave.is_some();
        if weight.is_none() || !own || asked {
            return weight;
        }
        let lived = worker.ready.is_some_and(|ready| turn.now.since(ready) >= PRODUCTIVE);
        if self.is_direct() && lived && self.has_served(turn, worker) && turn.hold(Rule::ProductiveDeath) {
            return Weight::NONE;
        }
        if request.is_some() && turn.hold(Rule::PoisonWeightless) {
            if let Some(generation) = self.generation(worker.place.generation)
                && generation.credit >= CREDIT_PER_DEATH
            {
                generation.credit -= CREDIT_PER_DEATH;
                return Weight::NONE;
            }
            return weight;
        }
        let Exit::Signal(signal) = exit else {
            return weight;
        };
        let idle = request.is_none() && (!self.is_direct() || lived);
        if !idle || !turn.hold(Rule::MassDeathOnce) {
            return weight;
        }
        let again = self.mass.is_some_and(|(last, at)| last == signal && turn.now.since(at) < MASS_DEATH);
        self.mass = Some((signal, turn.now));
        if again { Weight::NONE } else { weight }
    }

    /// The request in a dead worker's hands becomes a suspect.
    fn suspect(
        &mut self,
        turn: &mut Turn<'_>,
        worker: &Worker,
        class: Class,
        request: Option<RequestKey>,
    ) -> Option<(RequestKey, Verdict)> {
        let own = matches!(class, Class::Crashed | Class::Exited | Class::Oom) && worker.leave.is_none();
        let key = request.filter(|_| own || !turn.hold(Rule::BlameOwnDoing))?;
        let quarantine = self.figures_of(worker.place.generation).quarantine && turn.hold(Rule::Quarantine);
        if !quarantine || self.is_direct() {
            return None;
        }
        let (verdict, forgotten) = self.suspects.died(turn.now, key, worker.place.generation, turn.rules);
        if let Some(request) = forgotten {
            turn.order(Command::ReleaseRequest { pool: self.id, request });
        }
        Some((key, verdict))
    }

    /// What a death means for its request, unless the failure led to a way back that acquits it.
    fn sentence(&self, turn: &mut Turn<'_>, request: RequestKey, verdict: Verdict) {
        if !self.suspects.contains(request) {
            return;
        }
        match verdict {
            Verdict::Watch => turn.order(Command::WatchRequest { pool: self.id, request }),
            Verdict::Quarantine { kills, until } => {
                turn.order(Command::QuarantineRequest { pool: self.id, request, until });
                turn.report(Note::RequestQuarantined { pool: self.id, request, kills, until });
            }
            Verdict::Release | Verdict::Nothing => {}
        }
    }

    /// Counts the end, charges the failure, tells people: in this order, for the note says what follows.
    fn settle_end(
        &mut self,
        turn: &mut Turn<'_>,
        worker: &Worker,
        class: Class,
        weight: Weight,
        exit: Option<Exit>,
        request: Option<RequestKey>,
    ) {
        self.tick_exit(class);
        let weight = worker.charged.map_or(weight, |(weight, _)| weight);
        let at = turn.out.len();
        let (first, wait) = self.failed(turn, worker, class, weight, request);
        let note = Note::WorkerExited {
            place: worker.place,
            class,
            exit,
            weight,
            ran: turn.now.since(worker.ordered),
            ready: worker.ready.is_some(),
            served: self.has_served(turn, worker),
            files_changed: worker.files == Files::Changed,
            request,
            first,
            wait,
        };
        // The cause stands before what it led to.
        turn.out.insert(at, Command::Report(note));
    }

    /// The trial worker is gone; `failed` says whether by its own fault.
    pub(crate) fn trial_ended(&mut self, turn: &mut Turn<'_>, id: WorkerId, failed: bool) {
        if let Breaker::Trial { canary, wait, reason, .. } = self.breaker
            && canary == id
        {
            self.reopen(turn, wait, reason, failed);
        }
    }
}
