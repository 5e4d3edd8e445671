//! Plays many seeds on several threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use steadfast_policy::rules::Rules;

use crate::case::Case;
use crate::generate::generate;
use crate::law::{Breach, Law};
use crate::shrink::shrink;
use crate::world::{Tally, play};

/// A case that broke a law.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// The case as generated.
    pub case: Case,
    /// What was broken.
    pub breach: Breach,
}

/// What a crowd of schedules came to.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Schedules played.
    pub schedules: u64,
    /// Facts fed.
    pub steps: u64,
    /// Workers started.
    pub starts: u64,
    /// Nanoseconds of the policies' clocks.
    pub clock: u128,
}

/// Plays the seeds from `start` on until one fails (the least of those found is returned) or all are played.
pub fn play_many(start: u64, count: u64, short: bool, rules: Rules, threads: usize) -> (Sum, Option<Failure>) {
    let next = AtomicU64::new(start);
    let failed = AtomicBool::new(false);
    let sum = Mutex::new(Sum::default());
    let found: Mutex<Option<Failure>> = Mutex::new(None);
    let work = || {
        let mut mine = Sum::default();
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= start + count {
                break;
            }
            let case = generate(seed, short);
            let (tally, result) = play(&case, rules, false);
            add(&mut mine, &tally);
            if let Err(breach) = result {
                failed.store(true, Ordering::Relaxed);
                let mut found = lock(&found);
                if found.as_ref().is_none_or(|other| other.seed > seed) {
                    *found = Some(Failure { seed, case, breach });
                }
            }
        }
        let mut sum = lock(&sum);
        sum.schedules += mine.schedules;
        sum.steps += mine.steps;
        sum.starts += mine.starts;
        sum.clock += mine.clock;
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    (lock(&sum).clone(), lock(&found).clone())
}

/// Plays all the seeds, and counts for each law how many broke it and which was the first.
pub fn survey(start: u64, count: u64, short: bool, rules: Rules) -> Vec<(Law, u64, Failure)> {
    let mut found: Vec<(Law, u64, Failure)> = Vec::new();
    for seed in start..start + count {
        let case = generate(seed, short);
        let Err(breach) = play(&case, rules, false).1 else {
            continue;
        };
        match found.iter_mut().find(|(law, ..)| *law == breach.law) {
            Some((_, count, _)) => *count += 1,
            None => found.push((breach.law, 1, Failure { seed, case, breach })),
        }
    }
    found
}

fn add(sum: &mut Sum, tally: &Tally) {
    sum.schedules += 1;
    sum.steps += tally.steps;
    sum.starts += tally.starts;
    sum.clock += u128::from(tally.clock);
}

/// A thread that panics while it holds the lock leaves whole values behind.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The law that the case breaks under these rules.
pub fn broken(case: &Case, rules: Rules) -> Option<Law> {
    play(case, rules, false).1.err().map(|breach| breach.law)
}

/// The failing case made small.
pub fn shrunk(failure: &Failure, rules: Rules) -> Case {
    shrink(&failure.case, failure.breach.law, |case| broken(case, rules))
}
