//! How a pool begins and how it stops.

use alloc::vec::Vec;

use crate::breaker::Breaker;
use crate::class::{Class, Reason};
use crate::command::Command;
use crate::generation::{Generation, Zygote};
use crate::ids::WorkerId;
use crate::note::Note;
use crate::pool::{Afterwards, Phase, Pool, Told, Turn};
use crate::worker::{Leave, State};

impl Pool {
    /// Starts a pool that does not run, with a new generation.
    pub(crate) fn begin(&mut self, turn: &mut Turn<'_>) {
        if self.phase != Phase::Stopped {
            return;
        }
        self.phase = Phase::Running;
        self.breaker = Breaker::Closed;
        (self.min, self.max) = (self.figures.min, self.figures.max);
        let demand = if self.load.waiting > 0 { self.figures.step } else { 0 };
        self.target = demand.clamp(self.min, self.max);
        // The bucket is as full as it was: an operator's restart is no licence for a crash loop to repair faster.
        (self.owed, self.growth) = (0, 0);
        self.told = Told::Nothing;
        self.narrow_planned();
        self.serving = self.new_generation(turn, self.figures.clone(), None);
    }

    /// The operator's start: of a pool that is being stopped, as soon as it has stopped.
    pub(crate) fn start_again(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Stopped => self.begin(turn),
            Phase::Stopping(Afterwards::Stay) => self.phase = Phase::Stopping(Afterwards::Restart),
            Phase::Stopping(Afterwards::Restart | Afterwards::Forget) | Phase::Running => {}
        }
    }

    /// Stops gracefully; a stop only ever gets stronger.
    pub(crate) fn stop(&mut self, turn: &mut Turn<'_>, afterwards: Afterwards) {
        match (self.phase, afterwards) {
            (Phase::Stopped, Afterwards::Forget) => self.phase = Phase::Stopping(Afterwards::Forget),
            (Phase::Stopped, Afterwards::Restart) => self.begin(turn),
            (Phase::Stopping(Afterwards::Forget), _) | (Phase::Stopped, Afterwards::Stay) => {}
            (Phase::Stopping(_), afterwards) => self.phase = Phase::Stopping(afterwards),
            (Phase::Running, afterwards) => {
                if let Some(rollout) = self.rollout {
                    self.refuse(turn, rollout.to, Reason::Stopping, None);
                }
                self.phase = Phase::Stopping(afterwards);
                (self.target, self.owed) = (0, 0);
                (self.refill_due, self.shrink_due, self.overdue_due) = (None, None, None);
                self.overdue_workers.clear();
                self.breaker = Breaker::Closed;
                for id in self.everybody() {
                    self.release(turn, id, Leave::Stopped);
                }
                let current = self.generations.values_mut();
                let zygotes: Vec<Zygote> = current.flat_map(Generation::take_zygotes).collect();
                for zygote in zygotes {
                    self.dismiss_zygote(turn, zygote);
                }
            }
        }
    }

    /// Kills whatever still lives.
    pub(crate) fn hasten(&mut self, turn: &mut Turn<'_>) {
        for id in self.everybody() {
            let killed =
                matches!(self.workers.get(&id).map(|w| w.state), Some(State::Killed { .. } | State::Lost) | None);
            if !killed {
                self.kill(turn, id, Leave::Stopped, Class::Stopped);
            }
        }
        let current = self.generations.values_mut().flat_map(Generation::zygotes_mut);
        for zygote in current.chain(self.departing.iter_mut()) {
            zygote.phase = crate::generation::ZygotePhase::Killed;
            turn.order(Command::KillZygote { zygote: zygote.id });
        }
    }

    fn everybody(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    /// Whether a stop has come to its end; lost workers are not waited for.
    pub(crate) fn has_stopped(&self) -> bool {
        let tally = self.tally();
        tally.live() == tally.lost && self.charges.is_empty() && self.departing.is_empty()
    }

    /// Ends a stop when nothing lives any more. True when the pool is to be forgotten.
    pub(crate) fn finish_stop(&mut self, turn: &mut Turn<'_>) -> bool {
        let Phase::Stopping(afterwards) = self.phase else {
            return false;
        };
        let zygotes = self.generations.values().any(|g| g.zygote.is_some() || g.fresh.is_some());
        if zygotes || !self.has_stopped() {
            return false;
        }
        self.phase = Phase::Stopped;
        self.told = Told::Nothing;
        self.clear_quarantine(turn);
        turn.report(Note::PoolStopped { pool: self.id });
        match afterwards {
            Afterwards::Stay => false,
            Afterwards::Restart => {
                self.begin(turn);
                false
            }
            Afterwards::Forget => {
                turn.order(Command::ForgetPool { pool: self.id });
                true
            }
        }
    }
}
