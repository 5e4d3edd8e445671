//! Who gets what: a request goes to an idle worker, waits for one, or is refused at once.

use std::time::Instant;

use crate::ending::{Outcome, finish, refuse};
use crate::intake;
use crate::keys::{PoolId, RequestKey};
use crate::lanes::{self, Handed};
use crate::load;
use crate::pace;
use crate::place::Reason;
use crate::request::{State, Suspicion};
use crate::state::Front;
use crate::workers;

/// A request is complete, or its body is so large that it is passed on as it comes.
pub(crate) fn admit(front: &mut Front, key: RequestKey) {
    let wire = front.buffer();
    front.last_request += 1;
    let mut digits = [0; ID_MAX];
    let id = name(front.salt, front.last_request, &mut digits);
    let Some(request) = front.requests.get_mut(key) else { return };
    if let Err(reason) = intake::seal(request, id, wire) {
        return refuse(front, key, reason);
    }
    request.queued = front.now;
    let id = request.pool;
    let Some(pool) = front.pools.get(&id) else { return finish(front, key, Outcome::Aborted) };
    if pool.is_down || pool.is_leaving {
        return refuse(front, key, Reason::Down);
    }
    if !pool.suspects.is_empty() && !is_let_through(front, key) {
        return refuse(front, key, Reason::Quarantined);
    }
    let Some(pool) = front.pools.get(&id) else { return };
    if pool.waiting == 0 {
        while let Some(worker) = workers::next(front, id) {
            if lanes::hand(front, worker, key) == Handed::Yes {
                return began(front, key);
            }
        }
    }
    let Some(pool) = front.pools.get(&id) else { return };
    if pool.waiting >= pool.config.queue_length {
        return refuse(front, key, Reason::QueueFull);
    }
    wait(front, key, true);
}

/// 48 bits of the salt, a dash, and the request's number without leading zeros.
const ID_MAX: usize = 12 + 1 + 16;

/// A request's id. By hand: each request has one, and formatting costs more than half of all the rest here.
fn name(salt: u64, number: u64, digits: &mut [u8; ID_MAX]) -> &str {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut at = 0;
    let mut push = |byte: u8| {
        digits[at] = byte;
        at += 1;
    };
    for shift in (0..12).rev() {
        push(HEX[(salt >> (4 * shift)) as usize & 15]);
    }
    push(b'-');
    let length = (67 - number.max(1).leading_zeros()) / 4;
    for shift in (0..length).rev() {
        push(HEX[(number >> (4 * shift)) as usize & 15]);
    }
    std::str::from_utf8(&digits[..at]).unwrap_or_default()
}

/// Whether a request that is watched or quarantined goes to a worker.
fn is_let_through(front: &mut Front, key: RequestKey) -> bool {
    let Some(request) = front.requests.get_mut(key) else { return true };
    let Some(pool) = front.pools.get_mut(&request.pool) else { return true };
    let number = request.key(&front.secret);
    let Some(suspect) = pool.suspects.get_mut(&number) else { return true };
    let is_trial = match suspect.until {
        None => false,
        Some(until) if until > front.now || suspect.on_trial => return false,
        Some(_) => true,
    };
    suspect.on_trial |= is_trial;
    request.suspicion = Some(Suspicion { key: number, is_trial });
    true
}

/// Whether one that waits may still go to a worker: it may have been quarantined since.
fn is_fit_still(front: &mut Front, key: RequestKey) -> bool {
    let Some(request) = front.requests.get(key) else { return true };
    let has_suspects = front.pools.get(&request.pool).is_some_and(|pool| !pool.suspects.is_empty());
    let is_trial = request.suspicion.is_some_and(|suspicion| suspicion.is_trial);
    !has_suspects || is_trial || is_let_through(front, key)
}

/// Lets a request wait: at the end of the queue, or before all others when it has been at a worker already.
fn wait(front: &mut Front, key: RequestKey, at_the_end: bool) {
    let Some(request) = front.requests.get_mut(key) else { return };
    request.state = State::Waiting;
    let id = request.pool;
    front.set_request_due(key, None);
    let Some(pool) = front.pools.get_mut(&id) else { return };
    if at_the_end {
        pool.queue.push_back(key);
    } else {
        pool.queue.push_front(key);
    }
    pool.waiting += 1;
    load::changed(front, id);
}

/// Gives a request that no worker has any more to another one, before all that wait.
pub(crate) fn again(front: &mut Front, key: RequestKey) {
    let Some(request) = front.requests.get_mut(key) else { return };
    // Its time with a worker was no wait.
    let waited = request.handed.saturating_duration_since(request.queued);
    request.queued = front.now.checked_sub(waited).unwrap_or(front.now);
    request.rewind();
    let pool = request.pool;
    if front.pools.get(&pool).is_none_or(|pool| pool.is_down || pool.is_leaving) {
        return refuse(front, key, Reason::Down);
    }
    wait(front, key, false);
    serve(front, pool);
}

/// Gives those who wait to those who are idle.
pub(crate) fn serve(front: &mut Front, id: PoolId) {
    loop {
        let Some(pool) = front.pools.get_mut(&id) else { return };
        if pool.waiting == 0 {
            pool.queue.clear();
            return;
        }
        let Some(worker) = workers::next(front, id) else { return };
        let Some(key) = first(front, id) else { return };
        if !is_fit_still(front, key) {
            if let Some(pool) = front.pools.get_mut(&id) {
                pool.queue.pop_front();
            }
            refuse(front, key, Reason::Quarantined);
            continue;
        }
        if lanes::hand(front, worker, key) == Handed::No {
            continue;
        }
        if let Some(pool) = front.pools.get_mut(&id) {
            pool.queue.pop_front();
            pool.waiting = pool.waiting.saturating_sub(1);
        }
        load::changed(front, id);
        began(front, key);
    }
}

/// The first that waits; those before it who have gone leave the queue.
fn first(front: &mut Front, id: PoolId) -> Option<RequestKey> {
    let pool = front.pools.get_mut(&id)?;
    while let Some(key) = pool.queue.front().copied() {
        if front.requests.get(key).is_some_and(|request| request.state == State::Waiting) {
            return Some(key);
        }
        pool.queue.pop_front();
    }
    pool.waiting = 0;
    None
}

/// A worker has it: its time runs.
fn began(front: &mut Front, key: RequestKey) {
    let Some(request) = front.requests.get(key) else { return };
    let Some(pool) = front.pools.get_mut(&request.pool) else { return };
    let waited = request.handed.saturating_duration_since(request.queued);
    pool.counters.wait.count(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX));
    let due = pool.due(request.timed, request.is_slow);
    front.set_request_due(key, Some(due));
    pace::send_on(front, key);
}

/// When the first of a pool's queue has waited too long.
pub(crate) fn queue_deadline(front: &Front, id: PoolId) -> Option<Instant> {
    let pool = front.pools.get(&id).filter(|pool| pool.waiting > 0)?;
    let first =
        pool.queue.iter().find_map(|key| front.requests.get(*key).filter(|request| request.state == State::Waiting))?;
    Some(first.queued + pool.queue_timeout())
}

/// Refuses those who have waited too long.
pub(crate) fn shed(front: &mut Front, id: PoolId) {
    while queue_deadline(front, id).is_some_and(|due| due <= front.now) {
        let Some(key) = first(front, id) else { return };
        if let Some(pool) = front.pools.get_mut(&id) {
            pool.queue.pop_front();
        }
        refuse(front, key, Reason::QueueTimeout);
    }
}

/// Refuses all who wait: nothing serves.
pub(crate) fn refuse_all(front: &mut Front, id: PoolId) {
    while let Some(key) = first(front, id) {
        if let Some(pool) = front.pools.get_mut(&id) {
            pool.queue.pop_front();
        }
        refuse(front, key, Reason::Down);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_formatting_would_make_of_it() {
        let mut digits = [0; ID_MAX];
        for salt in [0, 1, 0xffff_0000_0000_1234, u64::MAX] {
            for number in [0, 1, 15, 16, 255, 256, 0x1234_5678, u64::MAX] {
                let expected = format!("{:012x}-{number:x}", salt & 0xffff_ffff_ffff);
                assert_eq!(name(salt, number, &mut digits), expected);
            }
        }
    }
}
