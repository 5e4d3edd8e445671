//! Decides which events are written, and when: at most 28 lines of a pool in any 60 s.
//!
//! Per kind and class the first event is written at once (of some kinds each one, as long as there is room). Those that
//! follow are counted, and written as one line when
//! their window ends: 1 s after the first, then 10 s, then every 60 s, until a window stays empty. A pool has two
//! budgets, each a log of the instants of its lines, so that they hold in every sliding minute: 10 lines for what must
//! never be dropped (breaker, pool, generation, supervisor) and 18 for the rest. An event that finds no room is not
//! dropped but waits in its window until the budget has room again; only words are lost that way, never a count.
//!
//! There is no tick: `next_deadline` is `None` unless something waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::event::Event;
use super::kind::Kind;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const WINDOWS: [u64; 3] = [SECOND, 10 * SECOND, MINUTE];
/// Lines a minute for what is never dropped …
pub const KEPT_LINES: usize = 10;
/// … and for everything else, with what workers of a failing pool write.
pub const OTHER_LINES: usize = 18;
/// Of those, what lines of a young worker may take while its pool has not failed: they pass anyway, and what follows
/// them must find room.
const YOUNG_LINES: usize = 10;
/// Lines that one report may take, when the format writes one for each of its last lines.
const REPORT_LINES_MAX: usize = 9;

/// Instants of written lines within the last minute.
#[derive(Default)]
struct Budget {
    written: VecDeque<u64>,
}

impl Budget {
    fn room(&mut self, now: u64, most: usize) -> usize {
        while self.written.front().is_some_and(|&then| then.saturating_add(MINUTE) <= now) {
            self.written.pop_front();
        }
        most.saturating_sub(self.written.len())
    }

    fn spend(&mut self, now: u64, lines: usize) {
        self.written.extend(std::iter::repeat_n(now, lines));
    }

    /// When so many lines fit.
    fn ready_at(&self, lines: usize, most: usize) -> u64 {
        let index = (self.written.len() + lines).saturating_sub(most);
        match index.checked_sub(1).and_then(|last| self.written.get(last)) {
            Some(&then) => then.saturating_add(MINUTE),
            None => 0,
        }
    }
}

/// The window of one kind and class.
struct Window {
    began: u64,
    ends: u64,
    step: usize,
    /// The newest event of those that wait, and how many there are.
    waiting: Option<(Event, u64)>,
}

#[derive(Default)]
struct Pool {
    kept: Budget,
    other: Budget,
    windows: BTreeMap<(Kind, Option<&'static str>), Window>,
    failed: Option<u64>,
    /// Not later than the first thing to do; `None` when nothing waits. Kept, for a storm must not make each event
    /// look at all windows.
    deadline: Option<u64>,
}

/// The state of all pools.
pub struct Coalescer {
    pools: BTreeMap<Option<Arc<str>>, Pool>,
    /// Each line of a report is a line of the log.
    one_line_each: bool,
}

impl Coalescer {
    /// `one_line_each`: the format writes the last lines of a report as lines of their own.
    pub fn new(one_line_each: bool) -> Coalescer {
        Coalescer { pools: BTreeMap::new(), one_line_each }
    }

    /// Takes an event; what is to be written now is appended to `out`.
    pub fn take(&mut self, now: u64, event: Event, out: &mut Vec<Event>) {
        let one_line_each = self.one_line_each;
        let pool = self.pools.entry(event.pool.clone()).or_default();
        // A breaker opens because workers ended: what waits is told before what it led to.
        let is_consequence = event.kind.is_kept() && pool.other.room(now, OTHER_LINES) > 0;
        if is_consequence || pool.deadline.is_some_and(|deadline| deadline <= now) {
            pool.flush(now, is_consequence, one_line_each, out);
        }
        if event.is_failure {
            pool.failed = Some(now);
        }
        pool.take(now, event, one_line_each, out);
    }

    /// Takes a line that a worker wrote. It passes freely while its worker is `settled` (ready for 10 s) or its pool
    /// has not failed in the last minute; else it is an event like others.
    pub fn relay(&mut self, now: u64, event: Event, settled: bool, out: &mut Vec<Event>) {
        let pool = self.pools.entry(event.pool.clone()).or_default();
        let is_failing = pool.failed.is_some_and(|then| now < then.saturating_add(MINUTE));
        if settled {
            out.push(event);
        } else if is_failing {
            self.take(now, event, out);
        } else {
            // A failure may follow: then these lines have been written, and count.
            if pool.other.room(now, OTHER_LINES) > OTHER_LINES - YOUNG_LINES {
                pool.other.spend(now, 1);
            }
            out.push(event);
        }
    }

    /// Writes what is due.
    pub fn flush(&mut self, now: u64, out: &mut Vec<Event>) {
        let one_line_each = self.one_line_each;
        for pool in self.pools.values_mut() {
            pool.flush(now, false, one_line_each, out);
        }
        self.pools.retain(|_, pool| !pool.is_forgettable(now));
    }

    /// Writes all that waits, whatever the budgets say: at the supervisor's end.
    pub fn finish(&mut self, now: u64, out: &mut Vec<Event>) {
        for pool in self.pools.values_mut() {
            for window in pool.windows.values_mut() {
                out.extend(window.summary(now));
            }
        }
        self.pools.clear();
    }

    /// When `flush` has something to do; `None` while nothing waits.
    pub fn next_deadline(&self) -> Option<u64> {
        self.pools.values().filter_map(|pool| pool.deadline).min()
    }
}

impl Window {
    /// The line for what waits.
    fn summary(&mut self, now: u64) -> Option<Event> {
        let (mut event, times) = self.waiting.take()?;
        if times > 1 {
            event.times = times;
            event.over = Some(Duration::from_nanos(now.saturating_sub(self.began)));
            // One report of many would be a random one.
            event.stderr.clear();
        }
        Some(event)
    }

    fn hold(&mut self, event: Event) {
        let times = event.times;
        self.waiting = match self.waiting.take() {
            Some((_, before)) => Some((event, before.saturating_add(times))),
            None => Some((event, times)),
        };
    }
}

fn lines_of(event: &Event, one_line_each: bool) -> usize {
    if one_line_each { 1 + event.stderr.len() } else { 1 }
}

impl Pool {
    fn budget(&mut self, kind: Kind) -> (&mut Budget, usize) {
        if kind.is_kept() { (&mut self.kept, KEPT_LINES) } else { (&mut self.other, OTHER_LINES) }
    }

    fn take(&mut self, now: u64, mut event: Event, one_line_each: bool, out: &mut Vec<Event>) {
        let key = (event.kind, event.class);
        if event.kind.is_told_each() && self.windows.get(&key).is_none_or(|window| window.waiting.is_none()) {
            match self.write(now, event, one_line_each, out) {
                None => return,
                Some(refused) => event = refused,
            }
        }
        match self.windows.get_mut(&key) {
            Some(window) if now < window.ends || window.waiting.is_some() => {
                let is_first = window.waiting.is_none();
                window.hold(event);
                if is_first {
                    self.deadline = self.next_deadline();
                }
            }
            Some(_) | None => {
                let mut window = Window { began: now, ends: now.saturating_add(WINDOWS[0]), step: 0, waiting: None };
                if let Some(event) = self.write(now, event, one_line_each, out) {
                    window.hold(event);
                }
                self.windows.insert(key, window);
                self.deadline = self.next_deadline();
            }
        }
    }

    /// Writes the event if the budget has room, with as many of its last lines as fit; else gives it back.
    fn write(&mut self, now: u64, mut event: Event, one_line_each: bool, out: &mut Vec<Event>) -> Option<Event> {
        let (budget, most) = self.budget(event.kind);
        let room = budget.room(now, most);
        if room == 0 {
            return Some(event);
        }
        let room = room.min(REPORT_LINES_MAX);
        if lines_of(&event, one_line_each) > room {
            // One line for the event, one for the note of what is not shown.
            let hidden = event.stderr.len() - room.saturating_sub(2);
            event.stderr.drain(..hidden);
            if room > 1 {
                event.stderr.insert(0, format!("… {hidden} lines before these are in `steadfast events`"));
            }
        }
        budget.spend(now, lines_of(&event, one_line_each));
        out.push(event);
        None
    }

    /// Writes the windows that have ended and, if `early`, those of events that are not kept, as far as there is room.
    fn flush(&mut self, now: u64, early: bool, one_line_each: bool, out: &mut Vec<Event>) {
        let is_due = |kind: Kind, window: &Window| window.ends <= now || (early && !kind.is_kept());
        let due: Vec<_> = self
            .windows
            .iter()
            .filter(|((kind, _), window)| is_due(*kind, window) && window.waiting.is_some())
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            let (budget, most) = self.budget(key.0);
            if budget.room(now, most) == 0 {
                continue;
            }
            let Some(window) = self.windows.get_mut(&key) else {
                continue;
            };
            let summary = window.summary(now);
            window.step = (window.step + 1).min(WINDOWS.len() - 1);
            window.began = now;
            window.ends = now.saturating_add(WINDOWS[window.step]);
            if let Some(event) = summary
                && let Some(event) = self.write(now, event, one_line_each, out)
                && let Some(window) = self.windows.get_mut(&key)
            {
                window.hold(event);
            }
        }
        self.windows.retain(|_, window| now < window.ends || window.waiting.is_some());
        self.deadline = self.next_deadline();
    }

    fn next_deadline(&self) -> Option<u64> {
        let waiting = self.windows.iter().filter(|(_, window)| window.waiting.is_some());
        let deadlines = waiting.map(|((kind, _), window)| {
            let (budget, most) = if kind.is_kept() { (&self.kept, KEPT_LINES) } else { (&self.other, OTHER_LINES) };
            window.ends.max(budget.ready_at(1, most))
        });
        deadlines.min()
    }

    fn is_forgettable(&mut self, now: u64) -> bool {
        self.windows.is_empty()
            && self.kept.room(now, KEPT_LINES) == KEPT_LINES
            && self.other.room(now, OTHER_LINES) == OTHER_LINES
            && self.failed.is_none_or(|then| then.saturating_add(MINUTE) <= now)
    }
}

#[cfg(test)]
#[path = "coalesce_tests.rs"]
mod tests;
