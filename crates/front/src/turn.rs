//! The loop: hears who is ready, lets each room do its work, writes what came of it, and sleeps until something is due.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::broken::{self, Why};
use crate::channel::Received;
use crate::clients;
use crate::dues;
use crate::exchanges;
use crate::keys::{ClientKey, LaneKey};
use crate::load;
use crate::notes;
use crate::orders;
use crate::poller::{Interest, Ready, Token};
use crate::replies;
use crate::state::Front;
use crate::uploads;

/// Messages of the supervisor that are heard in one turn.
const MESSAGES: usize = 256;
/// When the supervisor has gone, what is in hand may take so long.
const ORPHANED: Duration = Duration::from_secs(10);

/// Turns until it has left.
pub(crate) fn run(front: &mut Front) {
    let mut ready: Vec<Ready> = Vec::new();
    while !has_left(front) {
        let timeout = timeout(front);
        if let Err(error) = front.poller.wait(timeout, &mut ready) {
            notes::warn(front, None, format!("the front cannot wait for events: {error}"));
        }
        front.now = front.clock.turn(timeout);
        turn(front, &ready);
    }
    // Its last word: what it has counted since the one before.
    let pools: Vec<_> = front.pools.keys().copied().collect();
    pools.into_iter().for_each(|id| load::count(front, id));
    front.channel.flush();
}

fn timeout(front: &Front) -> Option<Duration> {
    if !front.again.is_empty() || !front.lanes_again.is_empty() || front.http.is_woken() {
        return Some(Duration::ZERO);
    }
    let due = dues::next(front)?;
    Some(due.saturating_duration_since(front.now))
}

fn turn(front: &mut Front, ready: &[Ready]) {
    for ready in ready {
        guarded(front, Some(ready.token), |front| hear(front, *ready));
        write(front);
    }
    for key in std::mem::take(&mut front.again) {
        guarded(front, Some(Token::Client(key)), |front| clients::read_on(front, key));
    }
    for key in std::mem::take(&mut front.lanes_again) {
        guarded(front, Some(Token::Lane(key)), |front| replies::read_on(front, key));
    }
    guarded(front, None, exchanges::run);
    guarded(front, None, dues::meet);
    // What was due may have given HTTP connections something to write.
    guarded(front, None, exchanges::run);
    write(front);
    if front.gives_back {
        guarded(front, None, orders::give_back);
    }
    let leaving: Vec<_> = front.pools.iter().filter(|(_, pool)| pool.is_leaving).map(|(id, _)| *id).collect();
    for id in leaving {
        orders::bury(front, id);
    }
    speak(front);
}

fn hear(front: &mut Front, ready: Ready) {
    match ready.token {
        Token::Channel => listen(front),
        Token::Listener(number) => {
            // The rest is heard of again.
            let _more = clients::accept(front, number);
        }
        Token::Client(key) => {
            if ready.writable && front.clients.get(key).is_some_and(|client| client.is_write_heard) {
                clients::flush(front, key);
            }
            if ready.readable {
                clients::readable(front, key, ready.ended);
            }
        }
        Token::Lane(key) => {
            if ready.readable {
                replies::readable(front, key, ready.ended);
            }
            if ready.writable && front.lanes.get(key).is_some_and(|lane| lane.is_write_heard) {
                uploads::writable(front, key);
            }
        }
        Token::Http(key) => front.http.ready(key, ready.readable, ready.writable, ready.ended),
    }
}

/// Writes to all clients that have been given something.
fn write(front: &mut Front) {
    while let Some(key) = front.unwritten.pop() {
        guarded(front, Some(Token::Client(key)), |front| clients::flush(front, key));
    }
}

fn listen(front: &mut Front) {
    for _ in 0..MESSAGES {
        match front.channel.receive() {
            Received::Message(message, fds) => orders::carry_out(front, message, fds),
            Received::Nothing => return,
            Received::Gone => return orphaned(front),
            Received::Garbled(why) => {
                front.trouble = Some(why);
                return orphaned(front);
            }
        }
    }
}

/// There is nobody to work for: what is in hand is finished.
fn orphaned(front: &mut Front) {
    front.poller.remove(front.channel.fd());
    orders::leave(front, ORPHANED);
}

fn speak(front: &mut Front) {
    front.channel.flush();
    let dropped = if front.channel.is_waiting() { 0 } else { front.channel.take_dropped() };
    if dropped > 0 {
        notes::warn(front, None, format!("{dropped} notes were dropped: the supervisor did not read them in time"));
    }
    let waits = front.channel.is_waiting();
    if waits != front.is_channel_write_heard {
        front.is_channel_write_heard = waits;
        let interest = if waits { Interest::LevelBoth } else { Interest::Level };
        let _ = front.poller.modify(front.channel.fd(), Token::Channel, interest);
    }
}

fn has_left(front: &Front) -> bool {
    front.leaves_by.is_some_and(|by| {
        let is_quiet = front.requests.is_empty() && front.clients.is_empty() && front.http.len() == 0;
        (is_quiet && !front.channel.is_waiting()) || front.now >= by
    })
}

/// A panic costs the connection at which it happened, and nobody else.
fn guarded(front: &mut Front, token: Option<Token>, work: impl FnOnce(&mut Front)) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(front))) else { return };
    let what = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned());
    notes::warn(front, None, format!("a connection was closed because of a bug in the front: {what}"));
    match token {
        Some(Token::Client(key)) => forsake(front, key),
        Some(Token::Lane(key)) => abandon(front, key),
        Some(Token::Channel | Token::Listener(_) | Token::Http(_)) | None => {}
    }
}

fn forsake(front: &mut Front, key: ClientKey) {
    let _ = catch_unwind(AssertUnwindSafe(|| clients::drop_all(front, key)));
    front.clients.remove(key);
}

fn abandon(front: &mut Front, key: LaneKey) {
    let _ = catch_unwind(AssertUnwindSafe(|| broken::ended(front, key, Why::Ours)));
}
