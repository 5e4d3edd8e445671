//! When a direct pool looks at its load, and what follows from what it sees.
//!
//! Nobody tells the policy who waits and who is idle, so it asks, and asking costs: every worker may have to be looked at.
//! So it lets the driver *watch* its sockets, which costs nothing until somebody comes. Then there is a sample. While more wait
//! than are idle the next one follows soon, and the pool grows; else a last one follows later, and the driver watches again.
//! While what was wanted has not come yet there is none at all, for nothing would follow: a crash loop before a full backlog
//! wakes nobody but by its deaths.
//!
//! A kernel wakes those who wait in accept(2) in turn, so that in a pool with few visitors nobody is idle for long, and yet
//! most are too many. So it is not one worker's idleness that counts, but the lowest number of idle ones in a window as long as
//! `idle`: so many were never needed. A quiet pool is looked at twice for that, at the window's two ends.

use core::time::Duration;

use crate::command::Command;
use crate::event::Load;
use crate::lookout::{Lookout, Spare};
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
            self.lookout = Lookout::Due(soon);
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
            Lookout::Due(at) => Some(at),
            Lookout::Closed | Lookout::Watching | Lookout::Asked => None,
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
        self.lookout = Lookout::Asked;
        turn.order(Command::SampleLoad { pool: self.id });
    }

    /// A sample of a direct pool.
    pub(crate) fn looked(&mut self, turn: &mut Turn<'_>, load: Load) {
        let before = core::mem::replace(&mut self.load, load);
        if self.lookout == Lookout::Closed {
            return;
        }
        let need = load.waiting > load.idle;
        // Who has just come still waits when the kernel has only begun to wake somebody.
        let lasts = before.waiting > before.idle || self.ready() == 0 || !turn.hold(Rule::NeedLasts);
        if need && lasts {
            self.grow(turn, load.waiting - load.idle);
        } else if load.waiting == 0 {
            self.growth = 0;
        }
        self.weigh_spare(turn, load);
        self.lookout = if need && self.target < self.max {
            Lookout::Due(turn.now.after(LOOK_SOON))
        } else if self.lookout == Lookout::Asked && load.waiting == 0 {
            turn.order(Command::WatchNeed { pool: self.id });
            Lookout::Watching
        } else {
            Lookout::Due(turn.now.after(LOOK_LATER))
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
    }
}
