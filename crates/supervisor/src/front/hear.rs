//! What the front says, checked before it is believed.
//!
//! A front reads what strangers write, so that it may be one's tool one day. It can waste this supervisor's time within
//! limits and lie about its own workers; it cannot name a worker that it was not given, or make anything grow.

use std::time::Duration;

use steadfast_policy::event::{Event as Fact, Limit, Load};
use steadfast_policy::ids::{PoolId, RequestKey, WorkerId};
use steadfast_policy::time::Instant;
use steadfast_proto::front::{self, FromFront, LINE_MAX, VERSION, WORKERS_MAX, WorkerState};
use steadfast_proto::link::ToWorker;

use crate::front::channel::Received;
use crate::front::judge::{closed, condemn_life, watch_answers};
use crate::front::notes;
use crate::front::state::Asked;
use crate::front::tell;
use crate::leaving;
use crate::links;
use crate::nested;
use crate::output::{escape, last_lines};
use crate::readiness;
use crate::shell::Shell;
use crate::voice::{Speaker, Word};
use crate::workers::{Queued, Stage};

/// Messages of one turn; the rest waits for the next.
const MESSAGES_MAX: usize = 1000;
/// More requests than these nobody serves between two words.
const SERVED_MAX: u64 = 1_000_000;

/// The channel can be read, or written again.
pub(crate) fn readable(shell: &mut Shell, number: u64) {
    tell::flush(shell, number);
    for _ in 0..MESSAGES_MAX {
        let Some(life) = shell.front.life(number) else {
            return;
        };
        match life.channel.receive() {
            // What a condemned one has still to say is not heard.
            Received::Message(_) if life.why.is_some() => {}
            Received::Message(message) => said(shell, number, message),
            Received::Nothing => return,
            Received::Closed => return closed(shell, number),
            Received::Nonsense(what) => {
                return condemn_life(shell, number, format!("it says what no front says: {what}"));
            }
        }
    }
}

/// `life`: the number of the one that says it.
fn said(shell: &mut Shell, life: u64, message: FromFront) {
    match message {
        FromFront::Ready { version } if version == VERSION => answered(shell, life, Asked::Start),
        FromFront::Ready { version } => {
            condemn_life(shell, life, format!("it speaks version {version} of the channel, and we speak {VERSION}"));
        }
        FromFront::Connected { worker } => {
            let id = WorkerId(worker);
            if let Some(queued) = given(shell, life, id)
                && !std::mem::replace(&mut queued.is_connected, true)
            {
                readiness::connected(shell, id);
            }
        }
        FromFront::AnsweredBy { worker, pid } => {
            let worker = WorkerId(worker);
            if let Some(queued) = given(shell, life, worker)
                && !std::mem::replace(&mut queued.has_speaker, true)
            {
                nested::answered(shell, worker, pid);
            }
        }
        FromFront::Admitted { worker } => answered(shell, life, Asked::Admit(WorkerId(worker))),
        FromFront::Verified { worker } => verified(shell, life, WorkerId(worker), None),
        FromFront::VerifyFailed { worker, why } => verified(shell, life, WorkerId(worker), Some(why)),
        FromFront::WorkerServed { worker, requests } => {
            let worker = WorkerId(worker);
            if admitted(shell, life, worker).is_some() || is_asked_for(shell, life, worker) {
                shell.facts.push_back(Fact::WorkerServed { worker, requests: requests.min(SERVED_MAX) });
            }
        }
        // A front that has been succeeded gives its workers back.
        FromFront::WorkerFree { worker }
            if shell.front.serving() != life
                && given(shell, life, WorkerId(worker)).is_some_and(|queued| !queued.is_leaving) =>
        {
            let worker = WorkerId(worker);
            if let Some(queued) = given(shell, life, worker) {
                queued.forget_front();
            }
            tell::offer(shell, worker);
        }
        FromFront::WorkerFree { worker } => {
            let worker = WorkerId(worker);
            if let Some(queued) = given(shell, life, worker)
                && queued.is_leaving
                && !std::mem::replace(&mut queued.is_free, true)
            {
                let is_admitted = matches!(queued.stage, Stage::Admit { .. });
                links::say(shell, worker, &ToWorker::Drain);
                if !is_admitted {
                    // Its TERM has waited for this.
                    leaving::terminate(shell, worker);
                }
                shell.facts.push_back(Fact::WorkerDrained { worker });
            }
        }
        FromFront::Load(load) => sampled(shell, life, load),
        FromFront::Blame { worker, request } => blamed(shell, life, WorkerId(worker), request),
        FromFront::SuspectServed { pool, key, worker } => {
            let (pool, request, worker) = (PoolId(pool), RequestKey(key), WorkerId(worker));
            if shell.pools.get(pool).is_some_and(|pool| pool.queue.watched.contains(&request)) {
                shell.facts.push_back(Fact::SuspectServed { pool, request, worker });
            }
        }
        FromFront::Overdue { worker, line } => {
            let worker = WorkerId(worker);
            if let Some(queued) = admitted(shell, life, worker) {
                queued.doomed = Some(clean(&line));
                shell.facts.push_back(Fact::WorkerOverdue { worker });
            }
        }
        FromFront::Cancelled { worker, line } => {
            let worker = WorkerId(worker);
            if let Some(queued) = admitted(shell, life, worker) {
                queued.doomed = Some(clean(&line));
                shell.facts.push_back(Fact::WorkerCancelled { worker });
            }
        }
        FromFront::Spent { worker } => {
            let worker = WorkerId(worker);
            if admitted(shell, life, worker)
                .is_some_and(|queued| matches!(queued.stage, Stage::Admit { max_requests: Some(_) }))
            {
                shell.facts.push_back(Fact::LimitReached { worker, limit: Limit::Requests });
            }
        }
        FromFront::Note(note) => notes::noted(shell, life, note),
        FromFront::Counters(counters) => {
            if let Some(pool) = shell.pools.get_mut(PoolId(counters.pool)) {
                pool.queue.count(&counters);
            }
        }
        FromFront::Workers { workers } => {
            workers.into_iter().take(WORKERS_MAX).for_each(|state| does(shell, life, state))
        }
        FromFront::Reported { number } => {
            if shell.front.life(life).is_some_and(|life| life.answered(Asked::Report(number))) {
                shell.front.reported = shell.front.reported.max(number);
            }
            watch_answers(shell);
        }
    }
}

fn answered(shell: &mut Shell, life: u64, asked: Asked) {
    if let Some(life) = shell.front.life(life) {
        life.answered(asked);
    }
    watch_answers(shell);
}

/// A worker that this front was given.
fn given(shell: &mut Shell, life: u64, id: WorkerId) -> Option<&mut Queued> {
    shell.workers.get_mut(id)?.queued.as_mut().filter(|queued| queued.life == life)
}

/// One that it may give requests.
fn admitted(shell: &mut Shell, life: u64, id: WorkerId) -> Option<&mut Queued> {
    given(shell, life, id).filter(|queued| matches!(queued.stage, Stage::Admit { .. }))
}

/// A worker that has died, and of which the front has still to say what it had in hand.
fn is_asked_for(shell: &mut Shell, life: u64, id: WorkerId) -> bool {
    let asked = shell.front.life(life).into_iter().flat_map(|life| &life.asked);
    asked.into_iter().any(|(asked, _)| *asked == Asked::Gone(id))
}

fn verified(shell: &mut Shell, life: u64, worker: WorkerId, failure: Option<String>) {
    if given(shell, life, worker).is_none_or(|queued| queued.stage != Stage::Verify) {
        return;
    }
    let Some(why) = failure else {
        return shell.facts.push_back(Fact::WorkerVerified { worker });
    };
    if let Some(known) = shell.workers.get_mut(worker)
        && known.voice.word.is_none()
    {
        known.voice.word = Some(Word { code: None, name: None, message: Some(clean(&why)) });
    }
    shell.facts.push_back(Fact::VerificationFailed { worker });
}

fn sampled(shell: &mut Shell, life: u64, load: front::Load) {
    let (id, now) = (PoolId(load.pool), shell.now);
    let Some(pool) = shell.pools.get_mut(id) else {
        return;
    };
    if u64::from(load.idle) + u64::from(load.busy) > pool.members.len() as u64 {
        return;
    }
    // Of two fronts the new one tells how it is, as soon as it has been given somebody.
    let is_alone = shell.front.old.is_none();
    if shell.front.serving() != life || !(is_alone || load.idle + load.busy > 0) {
        return;
    }
    let is_member = |worker: &u64| pool.members.contains(&WorkerId(*worker));
    let longest_idle = load.longest_idle.filter(|(worker, _)| is_member(worker)).map(|(worker, millis)| {
        let idle = Duration::from_millis(millis).as_nanos();
        let since = now.as_nanos().saturating_sub(u64::try_from(idle).unwrap_or(u64::MAX));
        (WorkerId(worker), Instant::from_nanos(since))
    });
    pool.queue.peak = pool.queue.peak.max(load.peak).max(load.waiting);
    pool.queue.load = load;
    let load = Load {
        idle: load.idle,
        busy: load.busy,
        waiting: load.waiting,
        served: load.served.min(SERVED_MAX),
        longest_idle,
    };
    shell.facts.push_back(Fact::LoadSampled { pool: id, load });
}

/// What a dead worker had in hand; believed once, and only when it was asked for.
fn blamed(shell: &mut Shell, life: u64, worker: WorkerId, request: Option<front::Blamed>) {
    let was_asked = shell.front.life(life).is_some_and(|life| life.answered(Asked::Gone(worker)));
    watch_answers(shell);
    if !was_asked {
        return;
    }
    // A program that recycles itself had not begun what it left unread.
    let has_left = shell.corpses.get(&Speaker::Worker(worker)).is_some_and(|corpse| corpse.ended.0 == Some(0));
    let request = request.filter(|request| !(has_left && request.unread && request.answered == 0));
    let (request, stderr) = match request {
        Some(request) => (Some((RequestKey(request.key), clean(&request.line))), request.stderr),
        None => (None, String::new()),
    };
    if let Some((key, line)) = &request
        && let Some(corpse) = shell.corpses.get_mut(&Speaker::Worker(worker))
    {
        corpse.request = Some(line.clone());
        corpse.stderr.extend(stderr.lines().map(clean));
        corpse.stderr = last_lines(corpse.stderr.iter().map(String::as_str));
        if let Some(pool) = corpse.pool.and_then(|pool| shell.pools.get_mut(pool)) {
            pool.queue.note(*key, line.clone());
        }
    }
    shell.facts.push_back(Fact::Blamed { worker, request: request.map(|(key, _)| key) });
}

fn does(shell: &mut Shell, life: u64, state: WorkerState) {
    if let Some(queued) = given(shell, life, WorkerId(state.worker)) {
        queued.served = state.served;
        queued.busy = state.busy;
        queued.line = state.line.map(|line| clean(&line));
    }
}

/// A stranger's text, short and without what could forge a line.
fn clean(text: &str) -> String {
    escape(text.as_bytes(), LINE_MAX)
}

#[cfg(test)]
#[path = "hear_tests.rs"]
mod tests;
