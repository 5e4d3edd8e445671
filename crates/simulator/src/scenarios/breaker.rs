//! The breaker, its trials, the fallback, and leaving.

use steadfast_policy::class::{Exit, Reason};
use steadfast_policy::command::Command;
use steadfast_policy::event::Event;
use steadfast_policy::figures::{BreakerFigures, Figures, Then};
use steadfast_policy::ids::PoolId;
use steadfast_policy::note::Note;
use steadfast_policy::rules::Rules;
use steadfast_policy::view::BreakerState;

use crate::scenario::{Outcome, ensure, scenarios};
use crate::stage::{Boot, POOL, Stage, direct, queue};

scenarios!(
    a_crash_loop_opens_the_breaker,
    a_generation_that_has_not_served_opens_it_early,
    failures_older_than_the_window_do_not_count,
    an_open_breaker_starts_nothing_before_its_trial,
    failed_trials_wait_longer_each_time_but_never_for_long,
    a_direct_pool_that_has_served_is_throttled_and_not_held,
    a_canary_is_alone_and_on_probation,
    after_the_canary_slots_are_filled_by_doubling,
    a_failure_on_the_way_up_opens_it_again,
    nothing_serves_so_visitors_get_the_fallback,
    the_fallback_ends_with_the_first_worker_that_serves,
    while_workers_merely_start_there_is_no_fallback,
    the_last_serving_worker_is_not_retired,
    a_pool_may_leave_when_nothing_serves,
    a_pool_does_not_leave_while_another_serves,
    the_operator_closes_and_opens_it,
    a_mended_program_serves_again_by_itself,
);

const DEAD: Boot = Boot::Dies(10, Exit::Code(3));

fn crash_loop(rules: Rules, figures: &Figures) -> Stage {
    let mut stage = Stage::empty(rules, figures, 1);
    stage.boot = DEAD;
    stage.begin();
    stage
}

fn open(stage: &Stage) -> bool {
    stage.view(|pool| pool.breaker().state) == Some(BreakerState::Open)
}

/// A queue pool of four with an open breaker in which nothing serves.
fn held(rules: Rules, workers: u32) -> Stage {
    let mut stage = crash_loop(rules, &queue(workers, workers));
    for _ in 0..200 {
        if open(&stage) {
            break;
        }
        stage.pass(50);
    }
    stage
}

fn a_crash_loop_opens_the_breaker(rules: Rules) -> Outcome {
    let mut stage = crash_loop(rules, &direct(4));
    stage.pass(60_000);
    let starts = stage.starts_since(0);
    ensure!(starts <= 25, "{starts} starts in a minute");
    ensure!(stage.opened(0) > 0, "it never opened");
    ensure!(stage.view(|pool| pool.state().word()) == Some("down"), "the pool is not down");
    Ok(())
}

fn a_generation_that_has_not_served_opens_it_early(rules: Rules) -> Outcome {
    let mut stage = crash_loop(rules, &direct(4));
    for _ in 0..600 {
        if stage.opened(0) > 0 {
            break;
        }
        stage.pass(10);
    }
    let failures = stage.notes(0, |note| matches!(note, Note::WorkerExited { .. }));
    ensure!(stage.opened(0) > 0 && failures <= 4, "{failures} failures before it opened");
    Ok(())
}

fn failures_older_than_the_window_do_not_count(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(2, 2));
    stage.pass(1_000);
    stage.serve_all(5);
    for _ in 0..15 {
        stage.pass(60_000);
        stage.die_idle(stage.last(), Exit::Code(1));
    }
    ensure!(stage.opened(0) == 0, "it opened for a failure a minute");
    Ok(())
}

fn an_open_breaker_starts_nothing_before_its_trial(rules: Rules) -> Outcome {
    let mut stage = held(rules, 4);
    ensure!(open(&stage), "not open");
    let began = stage.now + 1;
    stage.pass(4_000);
    ensure!(stage.starts_since(began) == 0, "{} starts", stage.starts_since(began));
    stage.pass(3_000);
    ensure!(stage.starts_since(began) == 1, "{} trials", stage.starts_since(began));
    Ok(())
}

fn failed_trials_wait_longer_each_time_but_never_for_long(rules: Rules) -> Outcome {
    let mut stage = held(rules, 4);
    stage.pass(1_800_000);
    let times: Vec<u64> = stage.actors.iter().map(|actor| actor.started).collect();
    let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let Some(&last) = waits.last() else {
        return Err("no trial".into());
    };
    ensure!((55_000..=61_500).contains(&last), "the last wait is {last} ms");
    ensure!(times.len() >= 30, "only {} starts in half an hour", times.len());
    Ok(())
}

fn a_direct_pool_that_has_served_is_throttled_and_not_held(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &direct(2));
    stage.pass(1_000);
    stage.serve_all(5);
    let mut began = stage.now;
    for _ in 0..600 {
        // Each worker serves once and dies within a second.
        for worker in stage.serving() {
            stage.serve(worker, 1);
            stage.die(worker, Exit::Code(1));
        }
        stage.pass(200);
        if stage.opened(0) > 0 && began < 5_000 {
            began = stage.now;
        }
    }
    ensure!(stage.opened(0) > 0, "it never opened");
    let starts: Vec<u64> = stage.actors.iter().map(|actor| actor.started).filter(|&at| at > began).collect();
    let longest = starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(u64::MAX);
    ensure!(longest <= 5_500, "{longest} ms without a start");
    ensure!(starts.len() <= 40, "{} starts", starts.len());
    Ok(())
}

fn a_canary_is_alone_and_on_probation(rules: Rules) -> Outcome {
    let mut stage = held(rules, 4);
    stage.boot = Boot::Ready(50);
    let began = stage.now + 1;
    stage.pass(6_000);
    let canary = stage.last();
    stage.pass(20_000);
    ensure!(stage.starts_since(began) == 1, "{} beside the canary", stage.starts_since(began));
    stage.serve(canary, 25);
    stage.pass(10);
    ensure!(stage.starts_since(began) == 2, "it passed, and {} were started", stage.starts_since(began));
    Ok(())
}

fn after_the_canary_slots_are_filled_by_doubling(rules: Rules) -> Outcome {
    let mut stage = held(rules, 8);
    stage.boot = Boot::Ready(1_000);
    let began = stage.now + 1;
    stage.pass(7_000);
    stage.serve(stage.last(), 25);
    stage.pass(6_000);
    let mut rounds: Vec<(u64, u32)> = Vec::new();
    for actor in stage.actors.iter().filter(|actor| actor.started >= began) {
        match rounds.last_mut() {
            Some((at, count)) if *at == actor.started => *count += 1,
            _ => rounds.push((actor.started, 1)),
        }
    }
    let counts: Vec<u32> = rounds.iter().map(|(_, count)| *count).collect();
    ensure!(counts.first() == Some(&1) && counts.get(1) == Some(&1), "rounds of {counts:?}");
    ensure!(counts.get(2) == Some(&2) && stage.serving().len() == 8, "rounds of {counts:?}");
    ensure!(!open(&stage), "still open");
    Ok(())
}

fn a_failure_on_the_way_up_opens_it_again(rules: Rules) -> Outcome {
    let mut stage = held(rules, 4);
    stage.boot = Boot::Ready(50);
    stage.pass(6_000);
    stage.boot = DEAD;
    stage.serve(stage.last(), 25);
    let began = stage.now;
    stage.pass(100);
    ensure!(stage.opened(began) == 1 && open(&stage), "it did not open again");
    Ok(())
}

fn fallback(stage: &Stage) -> Option<bool> {
    stage.orders.iter().rev().find_map(|(_, order)| match order {
        Command::SetFallback { on, .. } => Some(*on),
        _ => None,
    })
}

fn nothing_serves_so_visitors_get_the_fallback(rules: Rules) -> Outcome {
    let mut stage = held(rules, 4);
    stage.pass(700);
    ensure!(fallback(&stage) == Some(true), "no fallback");
    Ok(())
}

fn the_fallback_ends_with_the_first_worker_that_serves(rules: Rules) -> Outcome {
    let mut stage = held(rules, 4);
    stage.pass(1_000);
    stage.boot = Boot::Ready(50);
    stage.pass(5_500);
    ensure!(stage.serving().len() == 1, "{} serve", stage.serving().len());
    ensure!(fallback(&stage) == Some(false), "the fallback is still on");
    Ok(())
}

fn while_workers_merely_start_there_is_no_fallback(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &queue(2, 2), 1);
    stage.boot = Boot::Ready(8_000);
    stage.begin();
    stage.sample(3, 0);
    stage.pass(7_000);
    ensure!(fallback(&stage) != Some(true), "a fallback while they start");
    Ok(())
}

fn the_last_serving_worker_is_not_retired(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(2, 2));
    stage.pass(1_000);
    stage.serve_all(5);
    stage.boot = DEAD;
    for worker in stage.serving() {
        stage.tell(Event::WorkerDone { worker });
    }
    stage.pass(120_000);
    ensure!(!stage.serving().is_empty(), "nothing serves");
    Ok(())
}

fn leaving(workers: u32) -> Figures {
    let figures = direct(workers);
    let breaker = BreakerFigures { then: Then::Exit, ..figures.breaker.clone() };
    Figures { breaker, ..figures }
}

fn leaves(stage: &Stage) -> usize {
    stage.count(0, |order| matches!(order, Command::Leave { .. }))
}

fn a_pool_may_leave_when_nothing_serves(rules: Rules) -> Outcome {
    let mut stage = crash_loop(rules, &leaving(2));
    stage.pass(50_000);
    ensure!(leaves(&stage) == 0, "it left too early");
    stage.pass(90_000);
    ensure!(leaves(&stage) == 1, "{} times", leaves(&stage));
    ensure!(stage.count(0, |order| matches!(order, Command::Finish)) == 1, "it does not finish");
    Ok(())
}

fn a_pool_does_not_leave_while_another_serves(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &leaving(2), 1);
    stage.tell(Event::PoolAdded { pool: PoolId(1), figures: direct(1) });
    stage.pass(1_000);
    stage.boot = DEAD;
    stage.begin();
    stage.pass(300_000);
    ensure!(leaves(&stage) == 0, "it left");
    Ok(())
}

fn the_operator_closes_and_opens_it(rules: Rules) -> Outcome {
    let mut stage = held(rules, 2);
    stage.pass(60_000);
    stage.boot = Boot::Ready(10);
    stage.tell(Event::BreakerResetRequested { pool: POOL });
    stage.pass(1_000);
    ensure!(stage.serving().len() == 2, "{} serve after the reset", stage.serving().len());
    stage.tell(Event::BreakerTripRequested { pool: POOL });
    let worker = stage.last();
    let began = stage.now;
    stage.die_idle(worker, Exit::Signal(9));
    stage.pass(1_000);
    ensure!(stage.starts_since(began) == 0 && open(&stage), "it does not hold");
    let told = |note: &Note| matches!(note, Note::BreakerOpened { reason: Reason::Operator, .. });
    ensure!(stage.notes(0, told) == 1, "it does not say why");
    Ok(())
}

fn a_mended_program_serves_again_by_itself(rules: Rules) -> Outcome {
    let mut stage = crash_loop(rules, &direct(4));
    stage.pass(600_000);
    stage.boot = Boot::Ready(50);
    stage.pass(65_000);
    ensure!(!stage.serving().is_empty(), "nothing serves after 65 s");
    stage.pass(60_000);
    ensure!(stage.serving().len() == 4 && !open(&stage), "{} serve", stage.serving().len());
    Ok(())
}
