//! When a direct pool looks at its load, and what follows from what it sees.
//!
//! Nobody tells the policy who waits and who is idle, so it asks, and asking costs: every worker may have to be looked at.
//! So it lets the driver *watch* its sockets, which costs nothing until somebody comes. Then there is a sample, and soon
//! another one, for a crowd does not come in one moment. While more wait than are idle they follow each other so, and the pool
//! grows; else a last one follows later, and the driver watches again.
//! While what was wanted has not come yet there is none at all, for nothing would follow: a crash loop before a full backlog
//! wakes nobody but by its deaths.
//!
//! A kernel wakes those who wait in accept(2) in turn, so that in a pool with few visitors nobody is idle for long, and yet
//! most are too many. So it is not one worker's idleness that counts, but the lowest number of idle ones in a window as long as
//! `idle`: so many were never needed. A quiet pool is looked at twice for that, at the window's two ends.

use core::time::Duration;

use crate::command::Command;
use crate::event::Load;
use crate::lookout::{Look, Lookout, Spare};
use crate::pool::{Pool, Turn};
use crate::rules::Rule;
use crate::time::Instant;

/// From one look to the next while the pool grows or shrinks.
const LOOK_SOON: Duration = Duration::from_millis(20);
/// … and while nobody needs anything: visitors wake the supervisor a few times a second at most.
const LOOK_LATER: Duration = Duration::from_millis(250);

impl Pool {
    /// Brings what is watched in step with the state.
    pub(crate) fn look_out(&mut self, turn: &mut Turn<'_>) {
        if !self.is_running() || !self.is_direct() || self.min >= self.max {
            (self.lookout, self.spare) = (Lookout::Closed, None);
        } else if self.is_awaiting() && turn.hold(Rule::LookRests) {
            self.lookout = Lookout::Closed;
        } else if self.lookout == Lookout::Closed {
            // Who has just come may take who waits.
            let soon = turn.now.after(LOOK_SOON);
            self.lookout = Lookout::Due(soon, Look::Last);
            if let Some(spare) = &mut self.spare {
                spare.due = spare.due.max(soon);
            }
        } else if self.lookout == Lookout::Watching && self.spare.is_none() && self.target > self.floor(turn) {
            self.look(turn);
        }
    }

    /// The next look that is due by itself.
    pub(crate) fn look_due(&self) -> Option<Instant> {
        let look = match self.lookout {
            Lookout::Due(at, _) => Some(at),
            Lookout::Closed | Lookout::Watching | Lookout::Asked(_) => None,
        };
        let is_open = self.lookout != Lookout::Closed;
        let spare = self.spare.filter(|spare| is_open && !spare.is_asked).map(|spare| spare.due);
        look.into_iter().chain(spare).min()
    }

    /// Its time has come.
    pub(crate) fn look(&mut self, turn: &mut Turn<'_>) {
        if let Some(spare) = self.spare.as_mut().filter(|spare| spare.due <= turn.now) {
            spare.is_asked = true;
        }
        self.lookout = match self.lookout {
            Lookout::Due(_, look) => Lookout::Asked(look),
            Lookout::Closed | Lookout::Watching | Lookout::Asked(_) => Lookout::Asked(Look::Last),
        };
        turn.order(Command::SampleLoad { pool: self.id });
    }

    /// A sample of a direct pool.
    pub(crate) fn looked(&mut self, turn: &mut Turn<'_>, load: Load) {
        let before = core::mem::replace(&mut self.load, load);
        if self.lookout == Lookout::Closed {
            return;
        }
        let need = load.waiting > load.idle;
        // Who has just come still waits when the kernel has only begun to wake somebody; so many it cannot be.
        let lasts = before.waiting > before.idle || load.waiting > self.ready() || !turn.hold(Rule::NeedLasts);
        if need && lasts {
            self.grow(turn, load.waiting - load.idle);
        } else if load.waiting == 0 {
            self.growth = 0;
        }
        self.weigh_spare(turn, load);
        let (soon, later) = (turn.now.after(LOOK_SOON), turn.now.after(LOOK_LATER));
        self.lookout = match self.lookout {
            _ if need && self.target < self.max => Lookout::Due(soon, Look::Early),
            Lookout::Closed | Lookout::Watching | Lookout::Due(..) => Lookout::Due(soon, Look::Early),
            Lookout::Asked(Look::Last) if load.waiting == 0 => {
                turn.order(Command::WatchNeed { pool: self.id });
                Lookout::Watching
            }
            Lookout::Asked(_) => Lookout::Due(later, Look::Last),
        };
    }

    /// Lets one go when some were never needed; then the next, if the next look still finds them idle.
    fn weigh_spare(&mut self, turn: &mut Turn<'_>, load: Load) {
        if load.waiting > load.idle || self.target <= self.floor(turn) {
            self.spare = None;
            return;
        }
        let idle = load.idle - load.waiting;
        let anew = Spare::until(turn.now.after(self.figures.idle));
        let mut spare = self.spare.unwrap_or(anew).seen(idle);
        if !turn.hold(Rule::SpareWindow) {
            spare.least = idle;
        }
        self.spare = Some(if spare.least == 0 {
            anew
        } else if turn.now < spare.due {
            spare
        } else {
            let least = spare.least - 1;
            let longest = load.longest_idle.filter(|_| self.breaker.is_closed());
            let is_gone = longest.is_some_and(|(id, _)| self.let_go(turn, id));
            let soon = Spare { least, ..Spare::until(turn.now.after(LOOK_SOON)) };
            if is_gone && least > 0 { soon } else { anew }
        });
        // Nothing is left to be found out.
        self.spare = self.spare.filter(|_| self.target > self.floor(turn));
    }
}
