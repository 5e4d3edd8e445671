//! Visitors in number: each thread asks at fixed moments, or again as soon as it has its answer.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::nginx::Page;

/// A running crowd.
#[derive(Debug)]
pub struct Crowd {
    threads: Vec<(Sender<()>, JoinHandle<Tally>)>,
}

/// What a crowd got.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Requests that were sent.
    pub asked: u64,
    /// Answered with a status below 500.
    pub answered: u64,
    /// Everything else, in words; at most 100 are kept.
    pub failures: Vec<String>,
    /// The longest wait for an answer.
    pub slowest: Duration,
}

impl Tally {
    /// Requests without an answer.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.asked - self.answered
    }

    fn note(&mut self, begun: Instant, result: io::Result<Page>) {
        self.asked += 1;
        self.slowest = self.slowest.max(begun.elapsed());
        let failure = match result {
            Ok(page) if page.status < 500 => {
                self.answered += 1;
                return;
            }
            Ok(page) => format!("status {}", page.status),
            Err(error) => error.to_string(),
        };
        if self.failures.len() < 100 {
            self.failures.push(failure);
        }
    }
}

impl Crowd {
    /// `threads` visitors that each ask every `every`, spread evenly; a visitor who had to wait longer leaves out what
    /// it has missed. Zero: as fast as it is answered.
    #[must_use]
    pub fn start<F>(threads: u32, every: Duration, ask: F) -> Crowd
    where
        F: Fn() -> io::Result<Page> + Send + Sync + 'static,
    {
        let ask = Arc::new(ask);
        let begun = Instant::now();
        let threads = (0..threads)
            .map(|number| {
                let (stop, stopped) = mpsc::channel();
                let ask = Arc::clone(&ask);
                let mut next = begun + every * number / threads;
                let thread = std::thread::spawn(move || {
                    let mut tally = Tally::default();
                    // The pause between two requests is the wait for the order to stop.
                    while let Err(RecvTimeoutError::Timeout) =
                        stopped.recv_timeout(next.saturating_duration_since(Instant::now()))
                    {
                        let asked = Instant::now();
                        tally.note(asked, ask());
                        while !every.is_zero() && next <= Instant::now() {
                            next += every;
                        }
                    }
                    tally
                });
                (stop, thread)
            })
            .collect();
        Crowd { threads }
    }

    /// Ends after the requests in flight.
    #[must_use]
    pub fn stop(self) -> Tally {
        let mut sum = Tally::default();
        let (stops, threads): (Vec<_>, Vec<_>) = self.threads.into_iter().unzip();
        drop(stops);
        for thread in threads {
            let tally = thread.join().expect("a visitor does not panic");
            sum.asked += tally.asked;
            sum.answered += tally.answered;
            sum.failures.extend(tally.failures);
            sum.slowest = sum.slowest.max(tally.slowest);
        }
        sum
    }
}
