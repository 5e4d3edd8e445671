//! When requests are to be sent: at once (closed loop), or each at its time (open loop). Knows no connection.

use std::time::{Duration, Instant};

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// Requests a second; `None`: the next one when there is a free connection.
    pub(super) rate: Option<f64>,
    /// Requests of this time at the beginning do not count.
    pub(super) warmup: Duration,
    /// Nothing is sent later than this after the warm-up.
    pub(super) duration: Option<Duration>,
    /// Of those that count, so many.
    pub(super) requests: Option<u64>,
}

/// A request's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// When it should be sent. Its latency counts from here, so that a request that had to wait for a free connection
    /// has waited for the server.
    pub(super) due: Instant,
    /// Whether it counts: it is not of the warm-up.
    pub(super) counts: bool,
}

/// The schedule, and how far it is used up.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    wish: Wish,
    begin: Instant,
    measure: Instant,
    end: Option<Instant>,
    taken: u64,
    counted: u64,
}

impl Plan {
    pub(super) fn new(wish: Wish, begin: Instant) -> Plan {
        let measure = begin + wish.warmup;
        let end = wish.duration.map(|duration| measure + duration);
        Plan { wish, begin, measure, end, taken: 0, counted: 0 }
    }

    /// The next request, if one may be sent now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Slot> {
        if self.is_over(now) {
            return None;
        }
        let due = self.next_due().unwrap_or(now);
        if due > now {
            return None;
        }
        let counts = due >= self.measure;
        self.taken += 1;
        self.counted += u64::from(counts);
        Some(Slot { due, counts })
    }

    /// When the next request falls due; `None` where any time is good.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.wish.rate.map(|rate| self.due(self.taken, rate))
    }

    fn due(&self, number: u64, rate: f64) -> Instant {
        self.begin + seconds(number as f64 / rate)
    }

    /// Nothing will be sent any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let all_sent = self.wish.requests.is_some_and(|most| self.counted >= most);
        let has_ended = self.end.is_some_and(|end| now >= end || self.next_due().is_some_and(|due| due >= end));
        all_sent || has_ended
    }

    /// Nothing is sent from `now` on.
    pub(super) fn stop(&mut self, now: Instant) {
        self.end = Some(self.end.map_or(now, |end| end.min(now)));
    }

    /// From when on requests count.
    pub(super) fn measure(&self) -> Instant {
        self.measure
    }

    /// When the last request may be sent.
    pub(super) fn end(&self) -> Option<Instant> {
        self.end
    }

    /// How many requests that count fell due until `now`, or until the end, and were not taken.
    pub(super) fn backlog(&self, now: Instant) -> u64 {
        let Some(rate) = self.wish.rate else {
            return 0;
        };
        let until = self.end.map_or(now, |end| end.min(now));
        let elapsed = until.saturating_duration_since(self.begin).as_secs_f64();
        // Those due at or before `until`, the warm-up's left out.
        let fallen = (elapsed * rate).floor() as u64 + 1;
        let is_end = self.end == Some(until);
        let fallen = if is_end && self.due(fallen - 1, rate) >= until { fallen - 1 } else { fallen };
        let first = (self.wish.warmup.as_secs_f64() * rate).ceil() as u64;
        let backlog = fallen.saturating_sub(self.taken.max(first));
        self.wish.requests.map_or(backlog, |most| backlog.min(most - self.counted))
    }
}

fn seconds(seconds: f64) -> Duration {
    // So slow a rate that its next request is never due.
    Duration::try_from_secs_f64(seconds)
        .unwrap_or(Duration::from_secs(u64::from(u32::MAX)))
        .min(Duration::from_secs(u64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISH: Wish = Wish { rate: None, warmup: Duration::ZERO, duration: None, requests: None };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_closed_loop_sends_whenever_it_can_until_its_end() {
        let begin = Instant::now();
        let mut plan = Plan::new(Wish { duration: Some(ms(10)), ..WISH }, begin);
        for at in [0, 0, 5, 9] {
            assert_eq!(plan.take(begin + ms(at)), Some(Slot { due: begin + ms(at), counts: true }));
        }
        assert_eq!(plan.take(begin + ms(10)), None);
        assert!(plan.is_over(begin + ms(10)) && !plan.is_over(begin + ms(9)));
        assert_eq!(plan.backlog(begin + ms(20)), 0);
    }

    #[test]
    fn so_many_requests_are_counted_and_the_warm_up_is_not() {
        let begin = Instant::now();
        let mut plan = Plan::new(Wish { requests: Some(2), warmup: ms(10), ..WISH }, begin);
        let counts = |slot: Option<Slot>| slot.map(|slot| slot.counts);
        for (at, expected) in
            [(0, Some(false)), (9, Some(false)), (10, Some(true)), (11, Some(true)), (12, None), (13, None)]
        {
            assert_eq!(counts(plan.take(begin + ms(at))), expected, "at {at}");
        }
    }

    #[test]
    fn an_open_loop_keeps_its_times_however_late_it_is_asked() {
        let begin = Instant::now();
        let mut plan = Plan::new(Wish { rate: Some(1000.0), duration: Some(ms(10)), ..WISH }, begin);
        assert_eq!(plan.take(begin).map(|slot| slot.due), Some(begin));
        assert_eq!(plan.take(begin), None, "the next one is not due");
        assert_eq!(plan.next_due(), Some(begin + ms(1)));
        // Nobody could send for 5 ms: all five are there, with their own times.
        assert_eq!(plan.backlog(begin + ms(5)), 5);
        for at in 1..=5 {
            assert_eq!(plan.take(begin + ms(5)).map(|slot| slot.due), Some(begin + ms(at)));
        }
        assert_eq!((plan.take(begin + ms(5)), plan.backlog(begin + ms(5))), (None, 0));
        // 6, 7, 8 and 9 are never sent.
        assert_eq!((plan.take(begin + ms(10)), plan.backlog(begin + ms(10))), (None, 4));
        assert_eq!(plan.backlog(begin + ms(99)), 4);
    }

    #[test]
    fn an_open_loop_is_over_with_its_last_request() {
        let begin = Instant::now();
        let mut plan = Plan::new(Wish { rate: Some(1000.0), duration: Some(ms(2)), ..WISH }, begin);
        while plan.take(begin + ms(1)).is_some() {}
        assert!(plan.is_over(begin + ms(1)), "what comes next would be due at the end");
        assert_eq!(plan.backlog(begin + ms(5)), 0);
    }

    #[test]
    fn a_stop_is_an_end() {
        let begin = Instant::now();
        let mut plan = Plan::new(Wish { rate: Some(100.0), warmup: ms(50), ..WISH }, begin);
        plan.stop(begin + ms(100));
        assert_eq!(plan.take(begin + ms(100)), None);
        // Due at 50, 60, 70, 80, 90 ms; those before are of the warm-up.
        assert_eq!(plan.backlog(begin + ms(200)), 5);
        plan.stop(begin + ms(300));
        assert_eq!(plan.end(), Some(begin + ms(100)), "a stop is never taken back");
    }

    #[test]
    fn no_rate_is_too_slow_or_too_long() {
        let begin = Instant::now();
        let mut plan = Plan::new(Wish { rate: Some(0.001), ..WISH }, begin);
        assert!(plan.take(begin).is_some());
        assert_eq!(plan.next_due(), Some(begin + Duration::from_secs(1000)));
        plan.taken = u64::MAX - 1;
        assert!(plan.next_due().is_some());
    }
}
