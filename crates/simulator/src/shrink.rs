//! Makes a failing case small: the same law must still be broken.

use crate::case::{Case, Choice, Release, Traffic};
use crate::law::Law;

/// At most so many plays for one case.
const PLAYS: u32 = 600;

/// A smaller case that `fails` with the same law; `fails` plays a case and names the law that it breaks.
pub fn shrink(case: &Case, law: Law, mut fails: impl FnMut(&Case) -> Option<Law>) -> Case {
    let mut plays = 0;
    let mut best = case.clone();
    let mut try_case = |case: &Case| {
        plays += 1;
        plays <= PLAYS && fails(case) == Some(law)
    };
    loop {
        let before = best.clone();
        drop_choices(&mut best, &mut try_case);
        for smaller in smaller(&best) {
            // Each is one change of the best so far; a change that does not apply any more changes nothing.
            let candidate = smaller(&best);
            if candidate != best && try_case(&candidate) {
                best = candidate;
            }
        }
        round_times(&mut best, &mut try_case);
        if best == before {
            return best;
        }
    }
}

/// Drops runs of choices, longest runs first.
fn drop_choices(best: &mut Case, fails: &mut impl FnMut(&Case) -> bool) {
    let mut length = best.choices.len();
    while length > 0 {
        let mut from = 0;
        while from < best.choices.len() {
            let mut candidate = best.clone();
            let to = (from + length).min(candidate.choices.len());
            candidate.choices.drain(from..to);
            match fails(&candidate) {
                true => *best = candidate,
                false => from += length,
            }
        }
        length /= 2;
    }
}

type Change = Box<dyn Fn(&Case) -> Case>;

/// Changes that make a case smaller.
fn smaller(case: &Case) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for pool in (0..case.pools.len()).rev() {
        changes.push(Box::new(move |case| without_pool(case, pool)));
    }
    changes.push(Box::new(|case| edit(case, |case| case.calm = None)));
    for divisor in [2, 4, 8] {
        changes.push(Box::new(move |case| edit(case, |case| cut(case, case.horizon / divisor))));
    }
    changes.push(Box::new(|case| edit(case, |case| cut(case, case.horizon - case.horizon / 10))));
    for pool in 0..case.pools.len() {
        for size in [1, 2, 3, 4, 8] {
            changes.push(edit_pool(pool, move |pool| {
                if pool.figures.max > size {
                    pool.figures.max = size;
                    pool.figures.min = pool.figures.min.min(size);
                }
            }));
        }
        changes.push(edit_pool(pool, |pool| pool.figures.min = pool.figures.max));
        changes.push(edit_pool(pool, |pool| pool.traffic.every = 0));
        changes.push(edit_pool(pool, |pool| pool.traffic.every *= 2));
        changes.push(edit_pool(pool, |pool| {
            let Traffic { every, keys, .. } = pool.traffic;
            pool.traffic = Traffic { every, requests: 1, busy: 100, keys };
        }));
        changes.push(edit_pool(pool, |pool| pool.release = Release::Good));
        changes.push(edit_pool(pool, |pool| pool.boot = 50));
        changes.push(edit_pool(pool, |pool| pool.figures.max_age = None));
        changes.push(edit_pool(pool, |pool| {
            let plain = steadfast_policy::figures::Figures::default();
            (pool.figures.verify, pool.figures.launch) = (plain.verify, plain.launch);
        }));
        changes.push(edit_pool(pool, |pool| {
            let plain = steadfast_policy::figures::Figures::default();
            pool.figures.breaker = plain.breaker;
            pool.figures.broken_codes.clear();
            pool.figures.unavailable_codes.clear();
        }));
    }
    changes
}

fn edit(case: &Case, change: impl Fn(&mut Case)) -> Case {
    let mut case = case.clone();
    change(&mut case);
    case
}

fn edit_pool(pool: usize, change: impl Fn(&mut crate::case::PoolCase) + 'static) -> Change {
    Box::new(move |case| {
        edit(case, |case| {
            if let Some(pool) = case.pools.get_mut(pool) {
                change(pool);
            }
        })
    })
}

fn cut(case: &mut Case, horizon: u64) {
    case.horizon = horizon.max(1_000);
    case.choices.retain(|choice| choice.at <= horizon);
    case.calm = case.calm.filter(|&calm| calm <= horizon);
}

fn without_pool(case: &Case, pool: usize) -> Case {
    edit(case, |case| {
        if case.pools.len() < 2 || pool >= case.pools.len() {
            return;
        }
        case.pools.remove(pool);
        let gone = pool as u32;
        case.choices.retain(|choice| choice.pool != gone);
        for choice in &mut case.choices {
            if choice.pool > gone {
                choice.pool -= 1;
            }
        }
    })
}

fn round_times(best: &mut Case, fails: &mut impl FnMut(&Case) -> bool) {
    for grain in [10_000, 1_000, 100] {
        let mut candidate = best.clone();
        for Choice { at, .. } in &mut candidate.choices {
            *at = (*at / grain) * grain;
        }
        if candidate != *best && fails(&candidate) {
            *best = candidate;
            return;
        }
    }
}
