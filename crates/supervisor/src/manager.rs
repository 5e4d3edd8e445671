//! What the service manager is told of us, and what it keeps for us (sd_notify(3)).
//!
//! Told is what changes: READY, RELOADING and STOPPING where they happen, the STATUS line at the end of a turn in which
//! something befell a pool. Kept are the public sockets: whoever comes after us finds them, with those who wait in them.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Duration;

use steadfast_policy::policy::Policy;
use steadfast_policy::view::PoolState;

use crate::notify::Said;
use crate::pools::{Pool, Socket};
use crate::shell::Shell;
use crate::timers::Timer;
use crate::words;

/// While pools are on their way, systemd is asked for so much more time …
const MORE: Duration = Duration::from_secs(30);
/// … so often.
const AGAIN: Duration = Duration::from_secs(10);
/// Beyond the longest `stop-timeout`, an end may take so long.
const LAST: Duration = Duration::from_secs(10);
/// What found no room is said again after this.
const UNSAID: Duration = Duration::from_millis(500);

/// Before the first turn.
pub(crate) fn begin(shell: &mut Shell) {
    if !shell.notify.is_heard() {
        return;
    }
    shell.is_news = true;
    if shell.notify.watchdog().is_some() {
        shell.timers.set(Timer::Watchdog, shell.now);
    }
    if !shell.unsettled.is_empty() {
        shell.timers.set(Timer::Patience, shell.now);
    }
}

/// The loop turns: systemd may go on believing in us.
pub(crate) fn alive(shell: &mut Shell) {
    if let Some(period) = shell.notify.watchdog() {
        shell.notify.alive();
        let at = shell.now.after(period / 2);
        shell.timers.set(Timer::Watchdog, at);
    }
}

/// Applications may take long to load. Each try is bounded by its `ready-timeout`, and tries that fail end with an open breaker,
/// which is ready, too: so this ends.
pub(crate) fn ask_for_patience(shell: &mut Shell) {
    if !shell.unsettled.is_empty() && !shell.is_stopping {
        shell.notify.extend(MORE);
        let at = shell.now.after(AGAIN);
        shell.timers.set(Timer::Patience, at);
    }
}

/// The end is near, and may take as long as the slowest pool's.
pub(crate) fn stopping(shell: &mut Shell) {
    shell.notify.stopping();
    let longest = shell.pools.iter().map(|pool| pool.plan.config.stop_timeout).max().unwrap_or_default();
    shell.notify.extend(longest + LAST);
}

/// The end of a turn.
pub(crate) fn tell(shell: &mut Shell, policy: &Policy) {
    if !shell.notify.is_heard() {
        return;
    }
    if std::mem::take(&mut shell.is_news) {
        if !shell.is_stopping && !keep(shell) {
            // The turn that says again what found no room tries this again, too.
            shell.is_news = true;
        }
        let text = words(shell, policy);
        shell.notify.status(&text);
    }
    shell.notify.say_again();
    if shell.notify.has_unsaid() || shell.is_news {
        let at = shell.now.after(UNSAID);
        shell.timers.set(Timer::Unsaid, at);
    }
}

/// The socket is not ours any more: its path goes, too, unless we leave and it is kept for whoever comes after us; then those
/// who connect meanwhile are to find it.
pub(crate) fn let_go(shell: &Shell, socket: &Socket) {
    if !(shell.is_stopping && is_kept(shell, socket)) {
        socket.listener.borrow().unlink();
    }
}

/// Whether systemd has it, too.
pub(crate) fn is_kept(shell: &Shell, socket: &Socket) -> bool {
    socket.listener.borrow().keepsake().is_some_and(|name| shell.notify.stored().contains(&name))
}

/// Has systemd keep the public sockets that there are now, and no others. False when it had no room to hear all of it.
fn keep(shell: &mut Shell) -> bool {
    let mut is_done = true;
    let sockets = shell.pools.sockets();
    let mut current = BTreeMap::new();
    for socket in &sockets {
        if let Some(name) = socket.listener.borrow().keepsake() {
            current.insert(name, socket);
        }
    }
    let old: Vec<String> = shell.notify.stored().iter().filter(|name| !current.contains_key(*name)).cloned().collect();
    for name in old {
        is_done &= shell.notify.forget(&name) != Said::Full;
    }
    for (name, socket) in current {
        if !shell.notify.stored().contains(&name) {
            is_done &= shell.notify.store(&name, socket.listener.borrow().as_fd()) != Said::Full;
        }
    }
    is_done
}

/// How the pools are, those that need somebody first.
fn words(shell: &Shell, policy: &Policy) -> String {
    let view = policy.view(shell.now);
    let mut ill = Vec::new();
    let mut well = Vec::new();
    for pool in shell.pools.iter() {
        let Some(state) = view.pool(pool.id).map(|pool| pool.state()) else {
            continue;
        };
        let text = format!("{} {}{}", pool.name, word(state), remark(pool, state));
        let is_well = matches!(state, PoolState::Serving | PoolState::Asleep) && pool.failed_reload.is_none();
        if is_well { &mut well } else { &mut ill }.push(text);
    }
    if let Some(why) = &shell.refusal {
        ill.insert(0, format!("the configuration was refused: {why}"));
    }
    let count = well.len();
    if ill.is_empty() && count > 3 {
        return format!("{count} pools serve");
    }
    if count > 3 {
        ill.push(format!("{count} others serve"));
    } else {
        ill.append(&mut well);
    }
    match (shell.is_stopping, ill.is_empty()) {
        (true, _) => format!("stopping: {}", ill.join("; ")),
        (false, true) => "no pools".to_owned(),
        (false, false) => ill.join("; "),
    }
}

fn word(state: PoolState) -> &'static str {
    match state {
        PoolState::Asleep => "is asleep",
        PoolState::Starting => "is starting",
        PoolState::Serving => "serves",
        PoolState::Degraded => "is degraded",
        PoolState::Down => "is down",
        PoolState::Stopping => "is stopping",
        PoolState::Stopped => "is stopped",
    }
}

/// Why it is as it is.
fn remark(pool: &Pool, state: PoolState) -> String {
    if let Some(failed) = &pool.failed_reload {
        let what = if failed.is_rolled_back { "was rolled back" } else { "was refused" };
        return format!(", generation {} {what}: {}", failed.generation.0, failed.reason);
    }
    match (state, &pool.failure) {
        (PoolState::Down | PoolState::Degraded | PoolState::Starting, Some(exit)) => format!(": {}", words::exit(exit)),
        _ => String::new(),
    }
}
