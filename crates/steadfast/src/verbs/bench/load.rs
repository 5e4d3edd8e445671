//! The loop: one thread, one epoll, as many connections as asked for.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use steadfast_supervisor::signals::{Sig, Signals};

use super::connection::{Common, Connection, Progress};
use super::plan::{Plan, Slot};
use super::poller::Poller;
use super::tally::{Fault, Tally};
use crate::exchange::dial::Target;
use crate::exchange::reader::Reader;

/// The signals' token; connections have their index.
const SIGNALS: u64 = u64::MAX;
/// After a connection was refused, its next attempt waits so long in a closed loop, which would otherwise do nothing
/// but be refused.
const PAUSE: Duration = Duration::from_millis(50);
/// Requests that take too long are looked for so often, or four times within the timeout if that is more often.
const SWEEP: Duration = Duration::from_millis(100);
/// So much is read at once.
const BLOCK: usize = 64 * 1024;

/// What the load is made of.
pub(super) struct Order<'a> {
    pub(super) target: Target,
    /// The first connection, made to see whether anybody is there.
    pub(super) first: OwnedFd,
    pub(super) request: &'a [u8],
    pub(super) connections: usize,
    pub(super) is_kept: bool,
    pub(super) is_closed_loop: bool,
    /// The same request may be sent twice.
    pub(super) is_idempotent: bool,
    pub(super) timeout: Duration,
    pub(super) new_reader: &'a dyn Fn() -> Reader,
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) tally: Tally,
    /// From the end of the warm-up to the last moment at which a request could be sent, or to the last answer.
    pub(super) elapsed: Duration,
    /// ^C came before the end.
    pub(super) was_interrupted: bool,
}

/// Sends requests as the plan has it until it is over and all are answered, or somebody presses ^C.
///
/// # Errors
/// A system call of the loop itself failed.
pub(super) fn run(order: Order<'_>, mut plan: Plan) -> io::Result<Outcome> {
    let signals = Signals::install()?;
    let poller = Poller::new()?;
    poller.add(&signals, SIGNALS, false)?;
    let mut connections: Vec<Connection> =
        (0..order.connections).map(|_| Connection::new((order.new_reader)())).collect();
    // The last is the first to be used.
    let last = connections.len() - 1;
    connections[last].adopt(last as u64, order.first, &poller)?;
    let mut load = Load {
        common: Common {
            target: order.target,
            request: order.request,
            is_kept: order.is_kept,
            poller,
            buffer: vec![0; BLOCK].into_boxed_slice(),
        },
        idle: (0..connections.len()).collect(),
        connections,
        paused: VecDeque::new(),
        busy: 0,
        is_closed_loop: order.is_closed_loop,
        is_idempotent: order.is_idempotent,
        timeout: order.timeout,
        tally: Tally::new(),
    };
    load.tally.connects = 1;
    let was_interrupted = load.turns(&mut plan, &signals)?;
    let now = Instant::now();
    load.tally.fault(Fault::NotSent, plan.backlog(now), || "no connection was free for it before the end".to_owned());
    let until = plan.end().map_or(now, |end| end.min(now));
    let elapsed = until.saturating_duration_since(plan.measure());
    Ok(Outcome { tally: load.tally, elapsed, was_interrupted })
}

struct Load<'a> {
    common: Common<'a>,
    connections: Vec<Connection>,
    /// Connections without a request; the last one is used first, so that few are kept where few are enough.
    idle: Vec<usize>,
    /// Those that wait after a refusal, with the end of their wait, in this order.
    paused: VecDeque<(Instant, usize)>,
    /// How many have a request.
    busy: usize,
    is_closed_loop: bool,
    is_idempotent: bool,
    timeout: Duration,
    tally: Tally,
}

impl Load<'_> {
    /// True: it was interrupted.
    fn turns(&mut self, plan: &mut Plan, signals: &Signals) -> io::Result<bool> {
        let mut ready = Vec::new();
        let mut was_interrupted = false;
        let mut is_measuring = false;
        let sweep = SWEEP.min(self.timeout / 4);
        let mut next_sweep = Instant::now() + sweep;
        loop {
            let now = Instant::now();
            if !is_measuring && now >= plan.measure() {
                is_measuring = true;
                // The first connection is counted where there was no warm-up.
                let connects = if self.tally.bytes_written == 0 { self.tally.connects } else { 0 };
                self.tally.begin();
                self.tally.connects = connects;
            }
            if now >= next_sweep {
                self.sweep(now);
                next_sweep = now + sweep;
            }
            self.resume(now);
            self.fill(plan, now);
            if plan.is_over(now) && self.busy == 0 {
                return Ok(was_interrupted);
            }
            let (timeout, is_exact) = self.patience(plan, now, next_sweep);
            self.common.poller.wait(timeout, is_exact, &mut ready)?;
            for token in ready.drain(..) {
                if token != SIGNALS {
                    self.ready(token, plan);
                } else if is_end(signals)? {
                    if was_interrupted {
                        // The second one: nobody wants to wait for the answers that are missing.
                        return Ok(true);
                    }
                    was_interrupted = true;
                    plan.stop(Instant::now());
                }
            }
        }
    }

    /// How long nothing is to be done, and whether it matters to the microsecond.
    fn patience(&self, plan: &Plan, now: Instant, next_sweep: Instant) -> (Duration, bool) {
        let mut until = next_sweep;
        if let Some((end, _)) = self.paused.front() {
            until = until.min(*end);
        }
        let mut is_exact = false;
        if !plan.is_over(now) {
            until = plan.end().map_or(until, |end| until.min(end));
            let due = if self.idle.is_empty() { None } else { plan.next_due() };
            if let Some(due) = due.filter(|due| *due <= until) {
                (until, is_exact) = (due, true);
            }
        }
        (until.saturating_duration_since(now), is_exact)
    }

    /// Gives every free connection a request, as far as the plan has one.
    fn fill(&mut self, plan: &mut Plan, now: Instant) {
        while let Some(&at) = self.idle.last() {
            let Some(slot) = self.turn(plan, now) else {
                break;
            };
            self.idle.pop();
            self.begin(at, slot);
        }
        if self.idle.is_empty() {
            self.tally.backlog_peak = self.tally.backlog_peak.max(plan.backlog(now));
        }
    }

    /// The next request that is still worth sending. A visitor who waited for longer than the timeout has gone.
    fn turn(&mut self, plan: &mut Plan, now: Instant) -> Option<Slot> {
        loop {
            let slot = plan.take(now)?;
            if now.saturating_duration_since(slot.due) < self.timeout {
                return Some(slot);
            }
            let words = || "no connection was free for it in time".to_owned();
            self.tally.fault(Fault::Timeout, u64::from(slot.counts), words);
        }
    }

    fn begin(&mut self, at: usize, slot: Slot) {
        let connection = &mut self.connections[at];
        connection.slot = Some(slot);
        connection.is_resent = false;
        self.busy += 1;
        let progress = connection.send(at as u64, &self.common, &mut self.tally);
        // A request that cannot be sent ends here; one that can goes on when the poller says so.
        if let Progress::Failed { fault, words } = progress {
            self.failed(at, fault, words, Instant::now());
        }
    }

    fn ready(&mut self, token: u64, plan: &mut Plan) {
        let Some((at, connection)) =
            usize::try_from(token).ok().and_then(|at| Some((at, self.connections.get_mut(at)?)))
        else {
            return;
        };
        match connection.ready(token, &mut self.common, &mut self.tally) {
            Progress::Going => {}
            Progress::Answered => self.answered(at, plan),
            Progress::Failed { fault, words } => self.failed(at, fault, words, Instant::now()),
            Progress::Stale => self.stale(at),
        }
    }

    fn answered(&mut self, at: usize, plan: &mut Plan) {
        let now = Instant::now();
        let connection = &mut self.connections[at];
        if let Some(slot) = connection.slot.take() {
            self.busy -= 1;
            if slot.counts {
                let latency = now.saturating_duration_since(slot.due);
                let in_time = plan.end().is_none_or(|end| now <= end);
                let reader = connection.reader();
                self.tally.answer(reader.status(), latency, in_time, || reader.find("X-Steadfast"));
            }
        }
        // At once: the connection is warm, and the server waits for work.
        match self.turn(plan, now) {
            Some(slot) => self.begin(at, slot),
            None => self.idle.push(at),
        }
    }

    /// As a web server does: again, once, on a new connection, where nothing can be done twice by that.
    fn stale(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        if !self.is_idempotent || connection.is_resent {
            let words = "a kept connection was closed without an answer".to_owned();
            return self.failed(at, Fault::EarlyEnd, words, Instant::now());
        }
        connection.is_resent = true;
        self.tally.resent += 1;
        if let Progress::Failed { fault, words } = connection.send(at as u64, &self.common, &mut self.tally) {
            self.failed(at, fault, words, Instant::now());
        }
    }

    fn failed(&mut self, at: usize, fault: Fault, words: String, now: Instant) {
        if let Some(slot) = self.connections[at].slot.take() {
            self.busy -= 1;
            self.tally.fault(fault, u64::from(slot.counts), || words);
        }
        let is_refusal =
            matches!(fault, Fault::Refused | Fault::NoSocket | Fault::BacklogFull | Fault::NoRoom | Fault::Unreachable);
        if is_refusal && self.is_closed_loop {
            self.paused.push_back((now + PAUSE, at));
        } else {
            self.idle.push(at);
        }
    }

    /// Those whose pause is over.
    fn resume(&mut self, now: Instant) {
        while let Some(&(end, at)) = self.paused.front()
            && end <= now
        {
            self.paused.pop_front();
            self.idle.push(at);
        }
    }

    /// Gives up requests that take too long.
    fn sweep(&mut self, now: Instant) {
        for at in 0..self.connections.len() {
            let connection = &mut self.connections[at];
            let late = connection.slot.is_some_and(|slot| now.saturating_duration_since(slot.due) >= self.timeout);
            if late {
                connection.close();
                self.failed(at, Fault::Timeout, format!("no complete answer within {:?}", self.timeout), now);
            }
        }
    }
}

/// Whether one of the signals means the end.
fn is_end(signals: &Signals) -> io::Result<bool> {
    let mut is_end = false;
    while let Some(received) = signals.read()? {
        is_end |= matches!(received.signal, Sig::Int | Sig::Term | Sig::Quit | Sig::Hup);
    }
    Ok(is_end)
}

/// Raises the limit on open files for so many connections.
///
/// # Errors
/// The hard limit is lower: how many connections it allows.
pub(super) fn make_room(connections: usize) -> Result<(), usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // The standard streams, epoll, signals, and what the program was started with.
    const OTHERS: usize = 32;
    let limit = getrlimit(Resource::Nofile);
    let needed = connections + OTHERS;
    let reaches = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed as u64);
    if reaches(limit.current) {
        return Ok(());
    }
    let most = usize::try_from(limit.maximum.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).saturating_sub(OTHERS);
    if !reaches(limit.maximum) {
        return Err(most);
    }
    let raised = Rlimit { current: Some(needed as u64), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|_: Errno| most)
}
