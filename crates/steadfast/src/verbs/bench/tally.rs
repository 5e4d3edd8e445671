//! What became of the requests: answers by status with their latencies, failures by kind.

use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::io::Errno;

use crate::exchange::broken::Broken;

/// Different refusals that are told apart; more are counted as one.
const REFUSALS_MAX: usize = 32;
/// The longest word of `X-Steadfast` that is kept.
const WORD_MAX: usize = 40;
/// No answer takes longer: `--timeout` is at most a day.
const LATENCY_MAX: Duration = Duration::from_secs(25 * 3600);

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nobody listens.
    Refused,
    /// There is no such socket.
    NoSocket,
    /// The listener's queue is full (a unix socket's EAGAIN).
    BacklogFull,
    /// This machine has no port or file descriptor left for it.
    NoRoom,
    /// Another reason of connect(2).
    Unreachable,
    /// Not answered in its time.
    Timeout,
    /// The connection was reset.
    Reset,
    /// The connection ended before the answer did.
    EarlyEnd,
    /// What came was no answer.
    Garbled,
    /// Its time had come, but no connection was free for it before the end.
    NotSent,
}

/// In the order in which they are shown.
const FAULTS: [Fault; 10] = [
    Fault::Refused,
    Fault::NoSocket,
    Fault::BacklogFull,
    Fault::NoRoom,
    Fault::Unreachable,
    Fault::Timeout,
    Fault::Reset,
    Fault::EarlyEnd,
    Fault::Garbled,
    Fault::NotSent,
];

impl Fault {
    /// The name in reports: stable.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Fault::Refused => "connect-refused",
            Fault::NoSocket => "no-socket",
            Fault::BacklogFull => "backlog-full",
            Fault::NoRoom => "no-room",
            Fault::Unreachable => "unreachable",
            Fault::Timeout => "timeout",
            Fault::Reset => "reset",
            Fault::EarlyEnd => "early-end",
            Fault::Garbled => "garbled",
            Fault::NotSent => "not-sent",
        }
    }

    /// Why there is no connection.
    pub(super) const fn of_connect(errno: Errno) -> Fault {
        match errno {
            Errno::CONNREFUSED => Fault::Refused,
            Errno::NOENT => Fault::NoSocket,
            Errno::AGAIN => Fault::BacklogFull,
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL => Fault::NoRoom,
            Errno::TIMEDOUT => Fault::Timeout,
            _ => Fault::Unreachable,
        }
    }

    /// Why an answer is none.
    pub(super) const fn of_answer(broken: &Broken) -> Fault {
        match broken {
            Broken::Early { .. } => Fault::EarlyEnd,
            Broken::Fcgi(_)
            | Broken::Refused { .. }
            | Broken::NoHead
            | Broken::BadHead(_)
            | Broken::HeadTooLong
            | Broken::Http(_)
            | Broken::Extra => Fault::Garbled,
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Answers of one status from 400 on, with one word of `X-Steadfast`.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// Empty without the header.
    pub(super) word: String,
    pub(super) latency: Latency,
}

/// How long answers took, in nanoseconds, right to a thousandth.
#[derive(Debug)]
pub(super) struct Latency(Histogram<u64>);

impl Latency {
    fn new() -> Latency {
        let most = u64::try_from(LATENCY_MAX.as_nanos()).unwrap_or(u64::MAX);
        Latency(Histogram::new_with_bounds(1, most, 3).expect("1 ns to 25 h with 3 digits is a histogram"))
    }

    fn count(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1));
    }

    /// How many were counted.
    pub(super) fn total(&self) -> u64 {
        self.0.len()
    }

    /// What so many of a hundred did not exceed; nothing where nothing was counted.
    pub(super) fn percentile(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_percentile(percent))
    }

    pub(super) fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    pub(super) fn mean(&self) -> Duration {
        Duration::from_nanos(self.0.mean() as u64)
    }
}

/// All that was counted.
#[derive(Debug)]
pub(super) struct Tally {
    /// Answers with a status below 400.
    pub(super) good: Latency,
    /// Of these, those that were complete before the end of the measurement.
    pub(super) good_in_time: u64,
    /// All other answers.
    pub(super) refusals: Vec<Refusal>,
    faults: [u64; FAULTS.len()],
    /// What the first of each kind was, in words.
    words: [Option<String>; FAULTS.len()],
    /// Requests that were sent again because a kept connection had just been closed.
    pub(super) resent: u64,
    /// Connections that were made.
    pub(super) connects: u64,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
    /// The most requests that waited for a free connection.
    pub(super) backlog_peak: u64,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            good: Latency::new(),
            good_in_time: 0,
            refusals: Vec::new(),
            faults: [0; FAULTS.len()],
            words: [const { None }; FAULTS.len()],
            resent: 0,
            connects: 0,
            bytes_read: 0,
            bytes_written: 0,
            backlog_peak: 0,
        }
    }

    /// A complete answer. `word`: its `X-Steadfast`, looked for only where it may be shown.
    pub(super) fn answer<'a>(
        &mut self,
        status: u16,
        latency: Duration,
        in_time: bool,
        word: impl FnOnce() -> Option<&'a [u8]>,
    ) {
        if status < 400 {
            self.good.count(latency);
            self.good_in_time += u64::from(in_time);
            return;
        }
        let word = word().unwrap_or_default();
        let word = String::from_utf8_lossy(&word[..word.len().min(WORD_MAX)]);
        let known = self.refusals.iter().position(|refusal| refusal.status == status && refusal.word == word);
        let at = match known {
            Some(at) => at,
            None if self.refusals.len() < REFUSALS_MAX => {
                self.refusals.push(Refusal { status, word: word.into_owned(), latency: Latency::new() });
                self.refusals.len() - 1
            }
            // The last one stands for the rest.
            None => {
                self.refusals[REFUSALS_MAX - 1].word = "and others".to_owned();
                REFUSALS_MAX - 1
            }
        };
        self.refusals[at].latency.count(latency);
    }

    /// Requests without an answer.
    pub(super) fn fault(&mut self, fault: Fault, count: u64, words: impl FnOnce() -> String) {
        self.faults[fault.index()] += count;
        if count > 0 {
            self.words[fault.index()].get_or_insert_with(words);
        }
    }

    /// The kinds of failures that there were, their number, and the first one's words.
    pub(super) fn faults(&self) -> impl Iterator<Item = (Fault, u64, &str)> {
        let words = |fault: Fault| self.words[fault.index()].as_deref().unwrap_or_default();
        let all = FAULTS.into_iter().map(move |fault| (fault, self.faults[fault.index()], words(fault)));
        all.filter(|(_, count, _)| *count > 0)
    }

    /// Requests that have no good answer.
    pub(super) fn failed(&self) -> u64 {
        let refused: u64 = self.refusals.iter().map(|refusal| refusal.latency.total()).sum();
        refused + self.faults.iter().sum::<u64>()
    }

    /// The measurement begins now: what was moved before does not count.
    pub(super) fn begin(&mut self) {
        (self.bytes_read, self.bytes_written, self.connects, self.resent, self.backlog_peak) = (0, 0, 0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn good_answers_and_refusals_have_their_own_latencies() {
        let mut tally = Tally::new();
        for millis in 1..=100 {
            tally.answer(200, MS * millis, millis <= 90, || unreachable!("only refusals have a word"));
        }
        for _ in 0..3 {
            tally.answer(503, MS, true, || Some(b"queue-full"));
        }
        tally.answer(503, MS, true, || None);
        tally.answer(404, MS * 2, true, || None);
        assert_eq!((tally.good.total(), tally.good_in_time, tally.failed()), (100, 90, 5));
        let close = |this: Duration, to: Duration| this >= to && this <= to + to / 500;
        assert!(close(tally.good.percentile(50.0), MS * 50), "{:?}", tally.good.percentile(50.0));
        assert!(close(tally.good.percentile(99.0), MS * 99));
        assert!(close(tally.good.max(), MS * 100));
        let refusals: Vec<(u16, &str, u64)> = tally
            .refusals
            .iter()
            .map(|refusal| (refusal.status, refusal.word.as_str(), refusal.latency.total()))
            .collect();
        assert_eq!(refusals, [(503, "queue-full", 3), (503, "", 1), (404, "", 1)]);
    }

    #[test]
    fn a_server_that_invents_words_fills_no_memory() {
        let mut tally = Tally::new();
        for number in 0..1000 {
            tally.answer(500, MS, true, || Some(format!("{number}{}", "x".repeat(1000)).leak().as_bytes()));
        }
        assert_eq!((tally.refusals.len(), tally.failed()), (REFUSALS_MAX, 1000));
        assert!(tally.refusals.iter().all(|refusal| refusal.word.len() <= WORD_MAX));
    }

    #[test]
    fn failures_keep_the_first_words_of_their_kind() {
        let mut tally = Tally::new();
        tally.fault(Fault::Reset, 1, || "first".to_owned());
        tally.fault(Fault::Reset, 2, || unreachable!("there are words already"));
        tally.fault(Fault::NotSent, 0, || unreachable!("there is none"));
        assert_eq!(tally.faults().collect::<Vec<_>>(), [(Fault::Reset, 3, "first")]);
        assert_eq!(tally.failed(), 3);
    }

    #[test]
    fn the_table_of_faults_is_in_order() {
        for (at, fault) in FAULTS.into_iter().enumerate() {
            assert_eq!(fault.index(), at, "{}", fault.name());
        }
    }

    #[test]
    fn no_latency_is_lost_however_strange() {
        let mut tally = Tally::new();
        tally.answer(200, Duration::ZERO, true, || None);
        tally.answer(200, Duration::MAX, true, || None);
        assert_eq!(tally.good.total(), 2);
    }
}
