//! Zygotes: loaded when workers are wanted, replaced by fresh ones, asked to leave when nothing needs them.

use alloc::vec::Vec;
use core::time::Duration;

use crate::backoff::Backoff;
use crate::breaker::{Breaker, WAIT_FIRST};
use crate::class::{Class, Reason, Weight};
use crate::command::Command;
use crate::event::{Files, ZygoteEnd};
use crate::generation::{Generation, Zygote, ZygotePhase};
use crate::ids::{GenerationId, WorkerId, ZygoteId};
use crate::note::Note;
use crate::pool::{Pool, Turn};
use crate::rollout::CANARY_RETRIES;
use crate::rules::Rule;
use crate::worker::Worker;

/// How a zygote has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone {
    pub(crate) end: ZygoteEnd,
    /// What it was made of.
    pub(crate) files: Files,
    /// Its word: no start before so long.
    pub(crate) retry_after: Option<Duration>,
}

impl Pool {
    /// Orders a zygote of this generation.
    pub(crate) fn load_zygote(&mut self, turn: &mut Turn<'_>, generation: GenerationId) -> Option<Zygote> {
        let timeout = self.generations.get(&generation)?.figures.ready_timeout;
        let id = turn.mint.zygote(self.id);
        turn.report(Note::ZygoteStarted { zygote: id, pool: self.id, generation });
        turn.order(Command::StartZygote { zygote: id, pool: self.id, generation });
        Some(Zygote { id, generation, phase: ZygotePhase::Loading { deadline: turn.now.after(timeout) } })
    }

    /// Makes sure that this generation's zygote is at least on its way.
    pub(crate) fn want_zygote(&mut self, turn: &mut Turn<'_>, generation: GenerationId) {
        if self.generations.get(&generation).is_some_and(|g| g.zygote.is_none()) {
            let zygote = self.load_zygote(turn, generation);
            if let Some(entry) = self.generation(generation) {
                entry.zygote = zygote;
            }
        }
    }

    /// Orders a second zygote, which is to take the first one's place.
    pub(crate) fn load_fresh(&mut self, turn: &mut Turn<'_>, generation: GenerationId) {
        let zygote = self.load_zygote(turn, generation);
        if let Some(entry) = self.generation(generation) {
            entry.fresh = zygote;
        }
    }

    /// A zygote has loaded the application.
    pub(crate) fn zygote_ready(&mut self, turn: &mut Turn<'_>, id: ZygoteId) {
        let pool = self.id;
        let is = |zygote: Option<Zygote>| zygote.is_some_and(|zygote| zygote.id == id);
        let Some(entry) = self.generations.values_mut().find(|g| is(g.zygote) || is(g.fresh)) else {
            return;
        };
        turn.report(Note::ZygoteReady { zygote: id, pool, generation: entry.id });
        if let Some(zygote) = entry.zygote.as_mut().filter(|zygote| zygote.id == id) {
            if matches!(zygote.phase, ZygotePhase::Loading { .. }) {
                zygote.phase = ZygotePhase::Ready;
            }
            return;
        }
        let Some(mut fresh) = entry.fresh.take() else {
            return;
        };
        fresh.phase = ZygotePhase::Ready;
        let old = entry.zygote.replace(fresh);
        if core::mem::take(&mut entry.fresh_forgives) {
            // What the old one's workers failed of need not hold up the fresh one's.
            entry.noted.window.clear();
            entry.noted.backoff = Backoff::default();
            entry.grace = Some(turn.now.after(entry.figures.breaker.grace));
            entry.grace_served = false;
        }
        let generation = entry.id;
        if let Some(old) = old {
            self.dismiss_zygote(turn, old);
        }
        let stale = |worker: &&Worker| {
            worker.place.generation == generation && worker.zygote != Some(id) && worker.state.is_ready()
        };
        let stale: Vec<WorkerId> = self.workers.values().filter(stale).map(Worker::id).collect();
        for worker in stale {
            self.alter(worker, |worker| worker.outgoing = true);
        }
    }

    /// Loads the serving generation's zygote again when it is away, also while nobody is missing: the next repair is to
    /// cost a fork.
    pub(crate) fn keep_zygote(&mut self, turn: &mut Turn<'_>) {
        let Some(entry) = self.generations.get(&self.serving) else {
            return;
        };
        if !entry.forks() || entry.zygote.is_some() || !self.breaker.is_closed() || !turn.hold(Rule::ZygoteKept) {
            return;
        }
        let at = self.not_before(turn, self.serving);
        if at > turn.now {
            self.refill_due = Some(self.refill_due.map_or(at, |due| due.min(at)));
        } else {
            self.want_zygote(turn, self.serving);
        }
    }

    /// It has loaded, but must not fork: its generation's workers are executed one by one.
    pub(crate) fn zygote_unfit(&mut self, turn: &mut Turn<'_>, id: ZygoteId) {
        let Some(entry) = self.generations.values_mut().find(|g| g.zygotes().any(|zygote| zygote.id == id)) else {
            return;
        };
        entry.unfit = true;
        let zygotes: Vec<Zygote> = entry.take_zygotes().collect();
        for zygote in zygotes {
            self.dismiss_zygote(turn, zygote);
        }
    }

    /// It has grown past its limit: a fresh one takes its place, and then its workers' successors theirs.
    pub(crate) fn zygote_grown(&mut self, turn: &mut Turn<'_>, id: ZygoteId) {
        let is = |zygote: Option<Zygote>| zygote.is_some_and(|zygote| zygote.id == id);
        let grown = self.generations.values().find(|g| is(g.zygote));
        if let Some(generation) = grown.filter(|g| g.forks() && g.ready_zygote().is_some() && g.fresh.is_none()) {
            let id = generation.id;
            self.load_fresh(turn, id);
        }
    }

    /// A zygote has ended.
    pub(crate) fn zygote_exited(&mut self, turn: &mut Turn<'_>, id: ZygoteId, gone: Gone) {
        turn.mint.zygotes.remove(&id);
        let pool = self.id;
        let tell = |turn: &mut Turn<'_>, generation, class, weight| {
            let files_changed = gone.files == Files::Changed;
            turn.report(Note::ZygoteExited { zygote: id, pool, generation, class, weight, files_changed });
        };
        if let Some(at) = self.departing.iter().position(|zygote| zygote.id == id) {
            let zygote = self.departing.remove(at);
            let class = if self.is_running() { Class::Recycled } else { Class::Stopped };
            return tell(turn, zygote.generation, class, Weight::NONE);
        }
        let is = |zygote: Option<Zygote>| zygote.filter(|zygote| zygote.id == id);
        let Some(entry) = self.generations.values_mut().find(|g| is(g.zygote).or(is(g.fresh)).is_some()) else {
            return;
        };
        let generation = entry.id;
        let phase = is(entry.zygote).or(is(entry.fresh)).map(|zygote| zygote.phase);
        let (class, weight) = judge(gone.end, phase);
        tell(turn, generation, class, weight);
        if is(entry.fresh).is_some() {
            entry.fresh = None;
            if !weight.is_none() && generation == self.serving && self.breaker.is_closed() {
                let sum = self.failures(turn.now, turn.rules);
                self.open(turn, WAIT_FIRST, Reason::Zygote, sum);
            }
            return;
        }
        entry.zygote = None;
        if gone.end == ZygoteEnd::Host {
            return self.host_refused(turn, generation);
        }
        self.note_files(generation, gone.files);
        if self.unseen_candidate(generation) && turn.hold(Rule::CandidateRefused) {
            let own = phase != Some(ZygotePhase::Ready) && class != Class::Killed;
            return self.candidate_zygote_ended(turn, own);
        }
        self.book(turn, generation, gone.files, class, weight);
        if let Some(wait) = gone.retry_after {
            self.put_off(turn, generation, wait);
        }
        if !weight.is_none() {
            self.zygote_failed(turn, generation, class, gone.files);
        }
    }

    /// A candidate's zygote has ended: refused at once when it could not load, else when that happens too often.
    fn candidate_zygote_ended(&mut self, turn: &mut Turn<'_>, own: bool) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        rollout.retries += 1;
        if own || rollout.retries > CANARY_RETRIES {
            let to = rollout.to;
            self.refuse(turn, to, Reason::Zygote, None);
        }
    }

    /// What the failure of a zygote leads to when its generation's window is full.
    fn zygote_failed(&mut self, turn: &mut Turn<'_>, id: GenerationId, class: Class, files: Files) {
        let reason = if files == Files::Changed { Reason::FilesChanged(class) } else { Reason::Zygote };
        let is_serving = id == self.serving;
        if let Breaker::Open { wait, .. } | Breaker::Refilling { wait, .. } = self.breaker
            && is_serving
        {
            return self.reopen(turn, wait, reason, true);
        }
        let is_rollout = self.rollout.is_some_and(|rollout| rollout.to == id);
        if !(is_rollout || (is_serving && self.breaker.is_closed())) || !turn.hold(Rule::BreakerOpens) {
            return;
        }
        let (now, rules) = (turn.now, turn.rules);
        let Some(entry) = self.generation(id) else {
            return;
        };
        let (full, within) = (Weight::whole(entry.figures.breaker.failures), entry.figures.breaker.within);
        let account = entry.account(files);
        let limit = if account.served { full } else { full.min(Weight::THREE) };
        let sum = account.window.sum(now, within, rules);
        if sum < limit {
            return;
        }
        if is_rollout {
            self.roll_back(turn, id, self.serving, reason);
        } else {
            self.open(turn, WAIT_FIRST, reason, sum);
        }
    }

    /// Asks a zygote to leave.
    pub(crate) fn dismiss_zygote(&mut self, turn: &mut Turn<'_>, mut zygote: Zygote) {
        let timeout = self.figures_of(zygote.generation).stop_timeout;
        if zygote.phase != ZygotePhase::Killed {
            zygote.phase = ZygotePhase::Leaving { deadline: turn.now.after(timeout) };
            turn.order(Command::QuitZygote { zygote: zygote.id });
        }
        self.departing.push(zygote);
    }

    /// Kills zygotes whose deadline has come.
    pub(crate) fn zygotes_due(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let hold = turn.hold(Rule::ZygoteTimeout);
        let current = self.generations.values_mut().flat_map(Generation::zygotes_mut);
        for zygote in current.chain(self.departing.iter_mut()) {
            if zygote.deadline().is_some_and(|at| at <= now) {
                zygote.phase = ZygotePhase::Killed;
                if hold {
                    turn.order(Command::KillZygote { zygote: zygote.id });
                }
            }
        }
    }
}

/// What the end of a zygote means, and what it weighs. One that we killed was not ready in time.
fn judge(end: ZygoteEnd, phase: Option<ZygotePhase>) -> (Class, Weight) {
    match (end, phase) {
        (ZygoteEnd::Unavailable, _) => (Class::Unavailable, Weight::NONE),
        (ZygoteEnd::Broken, _) => (Class::Broken, Weight::THREE),
        (ZygoteEnd::Host, _) => (Class::Spawn, Weight::NONE),
        (ZygoteEnd::Killed, phase) if phase != Some(ZygotePhase::Killed) => (Class::Killed, Weight::NONE),
        (ZygoteEnd::Failed, Some(ZygotePhase::Ready)) => (Class::Exited, Weight::ONE),
        (ZygoteEnd::Failed | ZygoteEnd::Killed, _) => (Class::Early, Weight::ONE),
    }
}
