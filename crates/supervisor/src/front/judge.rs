//! Watches whether the front answers, and ends one that breaks the rules.

use std::os::fd::AsFd;

use crate::children::{Kill, signal};
use crate::events::event::Event;
use crate::events::kind::Kind;
use crate::front::state::Life;
use crate::shell::Shell;
use crate::timers::Timer;

/// Waits for the oldest open question, if there is one.
pub(crate) fn watch_answers(shell: &mut Shell) {
    match shell.front.life.as_ref().and_then(Life::due) {
        Some(due) if !shell.timers.is_set(Timer::FrontAnswer) => shell.timers.set(Timer::FrontAnswer, due),
        Some(_) => {}
        None => shell.timers.clear(Timer::FrontAnswer),
    }
}

/// Kills it, and notes why. Its end is heard like any other.
pub(crate) fn condemn(shell: &mut Shell, why: String) {
    if let Some(life) = &mut shell.front.life {
        life.why.get_or_insert(why);
        let _ = signal(life.pidfd.as_fd(), Kill::Kill);
        shell.poller.remove(life.channel.fd());
        life.asked.clear();
        shell.timers.clear(Timer::FrontAnswer);
    }
}

/// It has closed the channel: it is on its way out, or no front of ours.
pub(crate) fn closed(shell: &mut Shell) {
    if let Some(life) = &shell.front.life {
        shell.poller.remove(life.channel.fd());
        if !life.is_leaving {
            let _ = signal(life.pidfd.as_fd(), Kill::Kill);
        }
    }
}

/// Tells people of something about the front that has no other event.
pub(crate) fn warn(shell: &mut Shell, message: impl Into<String>) {
    shell.emit(Event::new(Kind::FrontWarned).message(message));
}
