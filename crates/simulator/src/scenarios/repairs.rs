//! Classes, weights, the bucket of repairs and the backoff.

use std::time::Duration;

use steadfast_policy::class::{Class, Exit};
use steadfast_policy::event::{Event, SpawnFault};
use steadfast_policy::figures::{BreakerFigures, Figures};
use steadfast_policy::note::Note;
use steadfast_policy::rules::Rules;

use crate::scenario::{Outcome, ensure, scenarios};
use crate::stage::{Boot, Stage, direct, queue};

scenarios!(
    a_first_failure_after_success_is_repaired_at_once,
    a_start_after_failures_waits_longer_each_time,
    half_of_each_wait_is_jitter,
    quiet_time_forgives_failures,
    service_forgives_failures,
    repairs_draw_on_the_bucket,
    service_fills_the_bucket,
    service_fills_the_bucket_only_so_fast,
    planned_starts_are_bounded,
    planned_starts_double_as_they_become_ready,
    a_host_that_refuses_is_asked_less_and_less_often,
    a_host_that_refuses_blames_nobody,
    killed_from_outside_opens_nothing,
    a_dependency_that_is_away_opens_nothing,
    codes_for_an_absent_dependency_open_nothing,
    starts_wait_while_a_dependency_is_away,
    a_dependency_may_say_how_long_it_is_away,
    exit_zero_after_service_is_recycling,
    exit_zero_before_service_weighs_a_quarter,
    service_that_is_told_after_the_end_counts,
    a_mass_death_of_idle_workers_is_one_failure,
    a_productive_death_weighs_nothing,
    a_death_before_ready_is_early,
);

/// No breaker for a generation that has served.
fn patient(figures: Figures) -> Figures {
    let breaker = BreakerFigures { failures: 100_000, ..figures.breaker.clone() };
    Figures { breaker, ..figures }
}

/// A queue pool of one whose generation has served, and then has failed so often in a row.
fn after_failures(rules: Rules, seed: u64, failures: u32) -> Stage {
    let mut stage = Stage::seeded(rules, &patient(queue(1, 1)), seed);
    stage.pass(1_000);
    stage.serve_all(1);
    for _ in 0..failures {
        fail_once(&mut stage);
    }
    stage
}

/// The worker fails; waits for its successor.
fn fail_once(stage: &mut Stage) -> u64 {
    let worker = stage.last();
    let began = stage.now;
    stage.die_idle(worker, Exit::Code(1));
    for _ in 0..600 {
        if !stage.serving().is_empty() {
            break;
        }
        stage.pass(100);
    }
    stage.actor(stage.last()).map_or(0, |actor| actor.started.saturating_sub(began))
}

fn a_first_failure_after_success_is_repaired_at_once(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &direct(4));
    stage.pass(3_000);
    let serving = stage.serving();
    for &worker in &serving[1..] {
        stage.serve(worker, 50);
    }
    let began = stage.now;
    stage.die(serving[0], Exit::Code(3));
    ensure!(stage.starts_since(began) == 1, "{} starts", stage.starts_since(began));
    Ok(())
}

fn a_start_after_failures_waits_longer_each_time(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &patient(direct(1)));
    stage.pass(1_000);
    stage.serve_all(1);
    stage.boot = Boot::Dies(10, Exit::Code(1));
    let began = stage.now;
    stage.die(stage.last(), Exit::Code(1));
    stage.pass(10_000);
    let starts = stage.starts_since(began);
    ensure!((3..=10).contains(&starts), "{starts} starts in 10 s");
    stage.pass(50_000);
    let starts = stage.starts_since(began);
    ensure!(starts <= 14, "{starts} starts in a minute");
    Ok(())
}

fn half_of_each_wait_is_jitter(rules: Rules) -> Outcome {
    let mut waits = Vec::new();
    for seed in 1..9 {
        let mut stage = after_failures(rules, seed, 5);
        waits.push(fail_once(&mut stage));
    }
    waits.sort_unstable();
    waits.dedup();
    ensure!(waits.len() > 3, "only {waits:?}");
    Ok(())
}

fn quiet_time_forgives_failures(rules: Rules) -> Outcome {
    let mut stage = after_failures(rules, 1, 7);
    stage.pass(400_000);
    fail_once(&mut stage);
    let wait = fail_once(&mut stage);
    ensure!(wait <= 300, "the second failure after a quiet time waits {wait} ms");
    Ok(())
}

fn service_forgives_failures(rules: Rules) -> Outcome {
    let mut stage = after_failures(rules, 1, 7);
    stage.serve_all(200);
    fail_once(&mut stage);
    let wait = fail_once(&mut stage);
    ensure!(wait <= 300, "the second failure after service waits {wait} ms");
    Ok(())
}

/// Kills the youngest worker from outside, so often and each time after so long; serves before, if asked.
fn outside_kills(stage: &mut Stage, times: u32, wait: u64, served: u64) {
    for _ in 0..times {
        let worker = stage.last();
        if served > 0 {
            stage.serve(worker, served);
        }
        stage.die(worker, Exit::Signal(9));
        stage.pass(wait);
    }
}

fn repairs_draw_on_the_bucket(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &direct(4), 1);
    stage.boot = Boot::Ready(5);
    stage.begin();
    stage.pass(1_000);
    let began = stage.now;
    outside_kills(&mut stage, 95, 100, 0);
    // max + 2, and one a second.
    let starts = stage.starts_since(began);
    ensure!(starts <= 17, "{starts} repairs in 10 s");
    ensure!(starts >= 12, "only {starts} repairs in 10 s");
    Ok(())
}

fn service_fills_the_bucket(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &queue(4, 4), 1);
    stage.boot = Boot::Ready(5);
    stage.begin();
    stage.pass(1_000);
    let began = stage.now;
    outside_kills(&mut stage, 95, 100, 40);
    let starts = stage.starts_since(began);
    ensure!(starts >= 90, "only {starts} repairs of workers that work");
    Ok(())
}

fn service_fills_the_bucket_only_so_fast(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &queue(4, 4), 1);
    stage.boot = Boot::Ready(1);
    stage.begin();
    stage.pass(1_000);
    let began = stage.now;
    outside_kills(&mut stage, 1_000, 10, 100_000);
    let starts = stage.starts_since(began);
    ensure!(starts <= 210, "{starts} repairs in 10 s");
    Ok(())
}

fn planned_starts_are_bounded(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &direct(32), 1);
    stage.boot = Boot::Never;
    stage.begin();
    stage.pass(5_000);
    ensure!(stage.live().len() <= 8, "{} at once", stage.live().len());
    Ok(())
}

fn planned_starts_double_as_they_become_ready(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &direct(32), 1);
    stage.boot = Boot::Ready(1_000);
    stage.begin();
    stage.pass(3_100);
    ensure!(stage.live().len() == 32, "{} after three rounds", stage.live().len());
    Ok(())
}

fn a_host_that_refuses_is_asked_less_and_less_often(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &direct(4), 1);
    stage.boot = Boot::Refused(SpawnFault::Host);
    stage.begin();
    stage.pass(60_000);
    let starts = stage.starts_since(0);
    ensure!((5..=20).contains(&starts), "{starts} starts in a minute");
    Ok(())
}

fn a_host_that_refuses_blames_nobody(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &direct(4), 1);
    stage.boot = Boot::Refused(SpawnFault::Host);
    stage.begin();
    stage.pass(120_000);
    let weighed = |note: &Note| matches!(note, Note::WorkerExited { weight, .. } if !weight.is_none());
    ensure!(stage.notes(0, weighed) == 0, "it weighs");
    ensure!(stage.opened(0) == 0, "the breaker opened");
    stage.boot = Boot::Ready(10);
    stage.pass(60_000);
    ensure!(stage.serving().len() == 4, "{} serve", stage.serving().len());
    Ok(())
}

fn killed_from_outside_opens_nothing(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &direct(4));
    stage.pass(2_000);
    for _ in 0..8 {
        for worker in stage.serving() {
            stage.die(worker, Exit::Signal(9));
        }
        stage.pass(5_000);
    }
    ensure!(stage.opened(0) == 0, "the breaker opened");
    let killed =
        |note: &Note| matches!(note, Note::WorkerExited { class: Class::Killed, weight, .. } if weight.is_none());
    ensure!(stage.notes(0, killed) >= 20, "only {} were killed", stage.notes(0, killed));
    Ok(())
}

/// The youngest worker says that a dependency is away, and leaves.
fn be_unavailable(stage: &mut Stage, retry_after: Option<Duration>) {
    let worker = stage.last();
    stage.tell(Event::WorkerUnavailable { worker, retry_after });
    stage.die(worker, Exit::Code(75));
}

fn a_dependency_that_is_away_opens_nothing(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &direct(1));
    for _ in 0..15 {
        stage.pass(100);
        be_unavailable(&mut stage, None);
        let began = stage.actors.len();
        for _ in 0..400 {
            if stage.actors.len() > began {
                break;
            }
            stage.pass(100);
        }
    }
    ensure!(stage.actors.len() >= 12, "only {} starts", stage.actors.len());
    ensure!(stage.opened(0) == 0, "the breaker opened");
    Ok(())
}

fn codes_for_an_absent_dependency_open_nothing(rules: Rules) -> Outcome {
    let figures = Figures { unavailable_codes: vec![75], ..queue(2, 2) };
    let mut stage = Stage::new(rules, &figures);
    for _ in 0..8 {
        stage.pass(5_000);
        if let Some(&worker) = stage.serving().last() {
            stage.die_idle(worker, Exit::Code(75));
        }
    }
    let away =
        |note: &Note| matches!(note, Note::WorkerExited { class: Class::Unavailable, weight, .. } if weight.is_none());
    ensure!(stage.notes(0, away) >= 4, "only {} deaths", stage.notes(0, away));
    ensure!(stage.opened(0) == 0, "the breaker opened");
    Ok(())
}

fn starts_wait_while_a_dependency_is_away(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &direct(1));
    let began = stage.now;
    for _ in 0..300 {
        stage.pass(100);
        if !stage.live().is_empty() {
            be_unavailable(&mut stage, None);
        }
    }
    let starts = stage.starts_since(began);
    ensure!(starts <= 8, "{starts} starts in 30 s");
    Ok(())
}

fn a_dependency_may_say_how_long_it_is_away(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &direct(1));
    stage.pass(100);
    let began = stage.now + 1;
    be_unavailable(&mut stage, Some(Duration::from_secs(20)));
    stage.pass(19_000);
    ensure!(stage.starts_since(began) == 0, "{} starts too early", stage.starts_since(began));
    stage.pass(20_000);
    ensure!(stage.starts_since(began) >= 1, "no start");
    Ok(())
}

fn exit_zero_after_service_is_recycling(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(2, 2));
    for _ in 0..40 {
        stage.pass(1_000);
        let worker = stage.last();
        stage.serve(worker, 500);
        stage.die_idle(worker, Exit::Code(0));
    }
    stage.pass(1_000);
    ensure!(stage.opened(0) == 0, "the breaker opened");
    let recycled =
        |note: &Note| matches!(note, Note::WorkerExited { class: Class::Recycled, weight, .. } if weight.is_none());
    ensure!(stage.notes(0, recycled) == 40, "{} recycled", stage.notes(0, recycled));
    Ok(())
}

fn service_that_is_told_after_the_end_counts(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(2, 2));
    stage.pass(1_000);
    let worker = stage.last();
    stage.die(worker, Exit::Code(0));
    stage.serve(worker, 1);
    stage.tell(Event::Blamed { worker, request: None });
    stage.pass(1_000);
    let recycled =
        |note: &Note| matches!(note, Note::WorkerExited { class: Class::Recycled, weight, .. } if weight.is_none());
    ensure!(stage.notes(0, recycled) == 1, "it is not taken for recycling");
    Ok(())
}

fn exit_zero_before_service_weighs_a_quarter(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(2, 2));
    stage.pass(1_000);
    let worker = stage.last();
    stage.die_idle(worker, Exit::Code(0));
    stage.pass(1_000);
    let quarter = |note: &Note| matches!(note, Note::WorkerExited { weight, .. } if weight.quarters() == 1);
    ensure!(stage.notes(0, quarter) == 1, "it does not weigh a quarter");
    Ok(())
}

fn a_mass_death_of_idle_workers_is_one_failure(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(16, 16));
    stage.pass(5_000);
    stage.serve_all(30);
    for worker in stage.serving().into_iter().take(14) {
        stage.die_idle(worker, Exit::Signal(15));
        stage.pass(20);
    }
    stage.pass(5_000);
    ensure!(stage.opened(0) == 0, "the breaker opened");
    Ok(())
}

fn a_productive_death_weighs_nothing(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &direct(4));
    for _ in 0..40 {
        stage.pass(2_000);
        let worker = stage.last();
        stage.serve(worker, 5);
        stage.die(worker, Exit::Signal(11));
    }
    ensure!(stage.opened(0) == 0, "the breaker opened");
    Ok(())
}

fn a_death_before_ready_is_early(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &direct(1), 1);
    stage.boot = Boot::Dies(10, Exit::Code(0));
    stage.begin();
    stage.pass(50);
    let early =
        |note: &Note| matches!(note, Note::WorkerExited { class: Class::Early, weight, .. } if weight.quarters() == 4);
    ensure!(stage.notes(0, early) >= 1, "not early");
    Ok(())
}
