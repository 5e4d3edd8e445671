//! A new front takes over from the one that runs: it accepts from now on, while the old one finishes what it has in hand and
//! gives its workers back as they become free. Both hold the listening sockets meanwhile, so that nobody is refused.

use std::time::Duration;

use steadfast_proto::front::ToFront;

use crate::clock::millis;
use crate::front::{judge, process, settings, tell};
use crate::shell::Shell;
use crate::timers::Timer;
use crate::words;

/// Beyond the longest that a request may wait and take.
const MORE: Duration = Duration::from_secs(5);

/// Begins it, where a front runs that can be succeeded.
pub(crate) fn begin(shell: &mut Shell) {
    if shell.front.old.is_some() || shell.is_stopping || shell.front.is_leaving() {
        return;
    }
    let Some(old) = shell.front.life.take() else { return };
    let number = old.number;
    shell.front.old = Some(old);
    // What it was asked it still answers; it is not judged by that any more, but by the time that it takes in all.
    shell.timers.clear(Timer::FrontAnswer);
    process::start(shell);
    if shell.front.life.is_none() {
        // No other can be started: this one goes on.
        shell.timers.clear(Timer::FrontStart);
        shell.front.life = shell.front.old.take();
        return judge::watch_answers(shell);
    }
    let within = within(shell);
    if let Some(old) = shell.front.life(number) {
        old.is_leaving = true;
    }
    tell::say_to(shell, number, &ToFront::HandOver { within_ms: millis(within) }, Vec::new());
    let at = shell.now.after(within + MORE);
    shell.timers.set(Timer::FrontOld, at);
}

/// As long as a request that has come may wait and take.
fn within(shell: &Shell) -> Duration {
    let longest = shell.pools.iter().map(|pool| settings::longest(&pool.plan.config)).max();
    longest.unwrap_or_default() + MORE
}

/// It has had its time.
pub(crate) fn overdue(shell: &mut Shell) {
    if let Some(old) = shell.front.old.as_ref().map(|old| old.number) {
        let waited = words::duration(within(shell) + MORE);
        judge::condemn_life(shell, old, format!("it has been succeeded and had not left after {waited}"));
    }
}
