//! Growth and shrinking of direct pools, where the policy has to ask who waits and who is idle.

use steadfast_policy::class::Exit;
use steadfast_policy::command::Command;
use steadfast_policy::figures::Figures;
use steadfast_policy::rules::Rules;

use crate::scenario::{Outcome, ensure, scenarios};
use crate::stage::{Boot, Stage};

scenarios!(
    a_direct_pool_grows_by_a_need_that_lasts_and_by_no_other,
    a_direct_pool_grows_to_the_need_and_no_further,
    a_direct_pool_has_twenty_workers_within_200_milliseconds,
    a_quiet_direct_pool_wakes_nobody,
    a_crash_loop_before_a_full_backlog_asks_for_no_looks,
    a_direct_pool_shrinks_to_its_least,
    a_direct_pool_keeps_what_a_window_has_needed,
    a_direct_pool_on_demand_sleeps_and_wakes_and_sleeps,
    a_direct_pool_that_may_shrink_again_is_looked_at,
);

fn dynamic(min: u32, max: u32) -> Figures {
    Figures { min, max, ..Figures::default() }
}

fn looks(stage: &Stage, since: u64) -> usize {
    stage.count(since, |order| matches!(order, Command::SampleLoad { .. }))
}

/// The pool has all its workers, and nobody waits any more.
fn grown(rules: Rules, min: u32, max: u32) -> Stage {
    let mut stage = Stage::new(rules, &dynamic(min, max));
    stage.pass(2_000);
    stage.come(100, max);
    stage.pass(2_000);
    stage.go(0, 0);
    stage
}

fn a_direct_pool_grows_by_a_need_that_lasts_and_by_no_other(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &dynamic(2, 8));
    stage.pass(2_000);
    for _ in 0..100 {
        stage.come(1, 2);
        stage.go(0, 1);
        stage.pass(1_000);
    }
    ensure!(stage.live().len() == 2, "{} live, though each was taken at once", stage.live().len());
    stage.come(6, 2);
    stage.pass(1_000);
    ensure!(stage.live().len() > 2, "no growth, though six wait");
    Ok(())
}

fn a_direct_pool_grows_to_the_need_and_no_further(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &dynamic(2, 8));
    stage.pass(2_000);
    stage.come(1, 2);
    stage.pass(30);
    stage.go(0, 3);
    stage.pass(5_000);
    ensure!(stage.live().len() == 3, "{} live for three", stage.live().len());
    Ok(())
}

fn a_direct_pool_has_twenty_workers_within_200_milliseconds(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &dynamic(2, 20), 1);
    stage.boot = Boot::Ready(5);
    stage.begin();
    stage.pass(2_000);
    stage.come(18, 2);
    for _ in 0..20 {
        stage.pass(10);
        let serving = stage.serving().len() as u32;
        stage.go(20 - serving.min(20), serving.min(20));
    }
    ensure!(stage.serving().len() == 20, "{} serve", stage.serving().len());
    Ok(())
}

fn a_quiet_direct_pool_wakes_nobody(rules: Rules) -> Outcome {
    let mut stage = grown(rules, 2, 20);
    stage.pass(120_000);
    let woken = stage.woken;
    stage.pass(3_600_000);
    ensure!(stage.woken == woken, "{} times in an hour", stage.woken - woken);
    Ok(())
}

fn a_crash_loop_before_a_full_backlog_asks_for_no_looks(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &dynamic(0, 4), 1);
    stage.boot = Boot::Dies(5, Exit::Code(3));
    stage.begin();
    stage.pass(1_000);
    stage.come(40, 0);
    stage.pass(600_000);
    let (looks, starts) = (looks(&stage, 0), stage.starts_since(0));
    ensure!(starts >= 5, "only {starts} starts");
    ensure!(looks <= starts + 10, "{looks} looks for {starts} starts");
    Ok(())
}

fn a_direct_pool_shrinks_to_its_least(rules: Rules) -> Outcome {
    let mut stage = grown(rules, 2, 20);
    ensure!(stage.serving().len() == 20, "{} serve", stage.serving().len());
    stage.pass(55_000);
    ensure!(stage.serving().len() == 20, "{} serve before they were idle long enough", stage.serving().len());
    stage.pass(15_000);
    ensure!(stage.live().len() == 2, "{} live", stage.live().len());
    let kills = stage.count(0, |order| matches!(order, Command::KillWorker { .. }));
    ensure!(kills == 0, "{kills} were killed");
    Ok(())
}

fn a_direct_pool_keeps_what_a_window_has_needed(rules: Rules) -> Outcome {
    let mut stage = grown(rules, 2, 8);
    for _ in 0..60 {
        stage.come(0, 6);
        stage.pass(400);
        stage.go(0, 1);
        stage.pass(6_900);
        ensure!(stage.serving().len() >= 6, "{} serve, and six were needed", stage.serving().len());
    }
    ensure!(stage.live().len() == 6, "{} live", stage.live().len());
    Ok(())
}

fn a_direct_pool_on_demand_sleeps_and_wakes_and_sleeps(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &dynamic(0, 4));
    for _ in 0..3 {
        stage.pass(65_000);
        ensure!(stage.live().is_empty(), "{} live though nobody comes", stage.live().len());
        ensure!(stage.view(|pool| pool.state().word()) == Some("asleep"), "not asleep");
        stage.come(1, 0);
        stage.pass(60);
        ensure!(stage.serving().len() == 1, "{} serve one visitor", stage.serving().len());
        stage.go(0, 0);
    }
    Ok(())
}

fn a_direct_pool_that_may_shrink_again_is_looked_at(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &dynamic(6, 8));
    stage.pass(2_000);
    let event = steadfast_policy::event::Event::ScaleRequested { pool: crate::stage::POOL, min: 2, max: 8 };
    stage.tell(event);
    stage.pass(70_000);
    ensure!(stage.live().len() == 2, "{} live", stage.live().len());
    Ok(())
}
