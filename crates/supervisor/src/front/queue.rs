//! What is known of a pool's requests: the last load, the sums of all counters, and the texts of suspects.

use std::collections::{BTreeMap, BTreeSet};

use steadfast_policy::ids::RequestKey;
use steadfast_policy::time::Instant;
use steadfast_proto::front::{Counters, Figures, Histogram, Load, Requests};

/// Texts of requests that are kept; the policy has at most 64 suspects at a time.
const LINES_MAX: usize = 256;

/// Of one pool.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The last sample of this front's life.
    pub(crate) load: Load,
    /// The most that ever waited.
    pub(crate) peak: u32,
    /// All requests since the supervisor started, by outcome.
    pub(crate) requests: Requests,
    /// How long they took.
    pub(crate) duration: Histogram,
    /// How long they waited.
    pub(crate) wait: Histogram,
    /// Open connections of clients.
    pub(crate) connections: u32,
    /// The most workers that were busy at once.
    pub(crate) busy_max: u32,
    /// How often somebody waited while there were as many workers as there may be.
    pub(crate) full: u64,
    /// Requests that were told of as slow.
    pub(crate) slow: u64,
    /// Whether visitors get the fallback.
    pub(crate) has_fallback: bool,
    /// Requests whose successes are counted.
    pub(crate) watched: BTreeSet<RequestKey>,
    /// Those that are kept from workers, and until when.
    pub(crate) quarantined: BTreeMap<RequestKey, Instant>,
    lines: BTreeMap<RequestKey, String>,
}

impl Queue {
    /// Keeps a request's text, which the policy may ask for when it has judged.
    pub(crate) fn note(&mut self, key: RequestKey, line: String) {
        if self.lines.len() >= LINES_MAX && !self.lines.contains_key(&key) {
            let unwatched = self.lines.keys().find(|key| !self.watched.contains(key)).copied();
            match unwatched {
                Some(unwatched) => self.lines.remove(&unwatched),
                None => return,
            };
        }
        self.lines.insert(key, line);
    }

    /// A request's text, or its number where nobody has told it.
    pub(crate) fn line(&self, key: RequestKey) -> String {
        self.lines.get(&key).cloned().unwrap_or_else(|| format!("(request {:016x})", key.0))
    }

    /// Its successes are counted from now on.
    pub(crate) fn watch(&mut self, key: RequestKey) {
        self.watched.insert(key);
    }

    /// It is kept from workers.
    pub(crate) fn quarantine(&mut self, key: RequestKey, until: Instant) {
        self.watched.insert(key);
        self.quarantined.insert(key, until);
    }

    /// Nothing is held against it any more.
    pub(crate) fn release(&mut self, key: RequestKey) {
        self.watched.remove(&key);
        self.quarantined.remove(&key);
        self.lines.remove(&key);
    }

    /// Adds what was counted.
    pub(crate) fn count(&mut self, counters: &Counters) {
        add(&mut self.requests, &counters.requests);
        self.duration.add(&counters.duration);
        self.wait.add(&counters.wait);
        self.connections = counters.connections;
        self.busy_max = self.busy_max.max(counters.busy_max);
        self.full = self.full.saturating_add(counters.full);
        self.slow = self.slow.saturating_add(counters.slow);
    }

    /// What a front that begins goes on from.
    pub(crate) fn figures(&self) -> Figures {
        let Queue { peak, busy_max, full, slow, .. } = *self;
        Figures { accepted: self.requests.total, waiting_max: peak, busy_max, full, slow }
    }

    /// Books the front's death: what it had in hand, by its last word, has got no answer. How many that were.
    pub(crate) fn lose(&mut self) -> u64 {
        let lost = u64::from(self.load.busy) + u64::from(self.load.waiting);
        add(&mut self.requests, &Requests { total: lost, lost, ..Requests::default() });
        self.load = Load::default();
        self.connections = 0;
        lost
    }
}

fn add(sum: &mut Requests, more: &Requests) {
    let Requests { total, ok, error, retried, shed, timeout, lost, fallback, quarantined, aborted } = more;
    for (sum, more) in [
        (&mut sum.total, total),
        (&mut sum.ok, ok),
        (&mut sum.error, error),
        (&mut sum.retried, retried),
        (&mut sum.shed, shed),
        (&mut sum.timeout, timeout),
        (&mut sum.lost, lost),
        (&mut sum.fallback, fallback),
        (&mut sum.quarantined, quarantined),
        (&mut sum.aborted, aborted),
    ] {
        *sum = sum.saturating_add(*more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_front_had_in_hand_is_counted_as_lost() {
        let mut queue = Queue { load: Load { busy: 4, waiting: 3, ..Load::default() }, ..Queue::default() };
        let requests = Requests { total: 10, ok: 10, ..Requests::default() };
        queue.count(&Counters { requests, connections: 9, ..Counters::default() });
        assert_eq!(queue.lose(), 7);
        assert_eq!((queue.requests.total, queue.requests.ok, queue.requests.lost), (17, 10, 7));
        assert_eq!((queue.load, queue.connections), (Load::default(), 0));
        assert_eq!(queue.lose(), 0, "once");
    }

    #[test]
    fn texts_are_bounded_and_those_of_suspects_stay() {
        let mut queue = Queue::default();
        queue.note(RequestKey(1), "GET /poison".into());
        queue.quarantine(RequestKey(1), Instant::ZERO);
        for key in 2..2000 {
            queue.note(RequestKey(key), format!("GET /{key}"));
        }
        assert_eq!(queue.lines.len(), LINES_MAX);
        assert_eq!(queue.line(RequestKey(1)), "GET /poison");
        queue.release(RequestKey(1));
        assert_eq!(queue.line(RequestKey(1)), "(request 0000000000000001)");
        assert!(queue.watched.is_empty() && queue.quarantined.is_empty());
    }

    #[test]
    fn sums_do_not_overflow() {
        let mut queue = Queue::default();
        let requests = Requests { total: u64::MAX, ..Requests::default() };
        for _ in 0..2 {
            queue.count(&Counters { requests, ..Counters::default() });
        }
        assert_eq!(queue.requests.total, u64::MAX);
    }
}
