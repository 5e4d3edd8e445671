//! Zygotes: loaded when workers are wanted, replaced by fresh ones, asked to leave when nothing needs them.

use crate::breaker::{Breaker, WAIT_FIRST};
use crate::class::{Class, Weight};
use crate::command::Command;
use crate::event::Files;
use crate::generation::{Generation, Zygote, ZygotePhase};
use crate::ids::{GenerationId, WorkerId, ZygoteId};
use crate::note::{Note, Reason};
use crate::pool::{Pool, Turn};
use crate::rules::Rule;
use crate::worker::Worker;

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

    /// A zygote has loaded the application.
    pub(crate) fn zygote_ready(&mut self, turn: &mut Turn<'_>, id: ZygoteId) {
        turn.report(Note::ZygoteReady { zygote: id, pool: self.id });
        let is = |zygote: Option<Zygote>| zygote.is_some_and(|zygote| zygote.id == id);
        let Some(entry) = self.generations.values_mut().find(|g| is(g.zygote) || is(g.fresh)) else {
            return;
        };
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
        entry.noted.window.clear();
        entry.grace = Some(turn.now.after(entry.figures.breaker.grace));
        entry.grace_served = entry.served;
        let generation = entry.id;
        if let Some(old) = old {
            self.dismiss_zygote(turn, old);
        }
        let stale = |worker: &&Worker| {
            worker.place.generation == generation && worker.zygote != Some(id) && worker.state.is_ready()
        };
        let stale: alloc::vec::Vec<WorkerId> = self.workers.values().filter(stale).map(Worker::id).collect();
        for worker in stale {
            self.alter(worker, |worker| worker.outgoing = true);
        }
    }

    /// A zygote has ended.
    pub(crate) fn zygote_exited(&mut self, turn: &mut Turn<'_>, id: ZygoteId, broken: bool) {
        turn.mint.zygotes.remove(&id);
        if let Some(at) = self.departing.iter().position(|zygote| zygote.id == id) {
            self.departing.remove(at);
            turn.report(Note::ZygoteExited { zygote: id, pool: self.id, asked: true });
            return;
        }
        turn.report(Note::ZygoteExited { zygote: id, pool: self.id, asked: false });
        let is = |zygote: Option<Zygote>| zygote.is_some_and(|zygote| zygote.id == id);
        let Some(entry) = self.generations.values_mut().find(|g| is(g.zygote) || is(g.fresh)) else {
            return;
        };
        let generation = entry.id;
        if is(entry.fresh) {
            entry.fresh = None;
            if generation == self.serving && self.breaker.is_closed() {
                let sum = self.failures(turn.now, turn.rules);
                self.open(turn, WAIT_FIRST, Reason::Zygote, sum);
            }
            return;
        }
        let loaded = entry.zygote.take().is_some_and(|zygote| zygote.phase == ZygotePhase::Ready);
        if self.unseen_candidate(generation) && !loaded && turn.hold(Rule::CandidateRefused) {
            self.refuse(turn, generation, Reason::Zygote, None);
            return;
        }
        let weight = match (loaded, broken) {
            (true, false) => Weight::NONE,
            (false, false) => Weight::ONE,
            (_, true) => Weight::THREE,
        };
        self.book(turn, generation, Files::Noted, Class::Early, weight);
        if generation == self.serving && !weight.is_none() {
            self.zygote_failed(turn);
        }
    }

    fn zygote_failed(&mut self, turn: &mut Turn<'_>) {
        match self.breaker {
            Breaker::Open { wait, .. } | Breaker::Refilling { wait, .. } => {
                self.reopen(turn, wait, Reason::Zygote, true)
            }
            Breaker::Closed => {
                let sum = self.failures(turn.now, turn.rules);
                let Some(entry) = self.generations.get(&self.serving) else {
                    return;
                };
                let full = Weight::whole(entry.figures.breaker.failures);
                let limit = if entry.noted.served { full } else { full.min(Weight::THREE) };
                if sum >= limit && turn.hold(Rule::BreakerOpens) {
                    self.open(turn, WAIT_FIRST, Reason::Zygote, sum);
                }
            }
            Breaker::Throttled { .. } | Breaker::Trial { .. } => {}
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
