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

/// Kills the one to which workers are given, and notes why. Its end is heard like any other.
pub(crate) fn condemn(shell: &mut Shell, why: String) {
    let number = shell.front.serving();
    condemn_life(shell, number, why);
}

/// The same of the life with this number.
pub(crate) fn condemn_life(shell: &mut Shell, number: u64, why: String) {
    let is_serving = shell.front.serving() == number;
    if let Some(life) = shell.front.life(number) {
        life.why.get_or_insert(why);
        let _ = signal(life.pidfd.as_fd(), Kill::Kill);
        shell.poller.remove(life.channel.fd());
        life.asked.clear();
        if is_serving {
            shell.timers.clear(Timer::FrontAnswer);
        }
    }
}

/// It has closed the channel: it is on its way out, or no front of ours.
pub(crate) fn closed(shell: &mut Shell, number: u64) {
    if let Some(life) = shell.front.life(number) {
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
