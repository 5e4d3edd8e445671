//! Growth, shrinking, and recycling by limits.

use steadfast_policy::command::Command;
use steadfast_policy::event::Event;
use steadfast_policy::figures::Figures;
use steadfast_policy::rules::Rules;

use crate::scenario::{Outcome, ensure, scenarios};
use crate::stage::{Boot, POOL, Stage, queue, seconds};

scenarios!(
    the_pool_grows_when_somebody_waits,
    growth_stops_at_max,
    growth_doubles_while_the_need_lasts,
    idle_workers_leave_but_never_below_the_least,
    a_pool_on_demand_sleeps_and_wakes,
    limits_of_age_are_staggered,
    a_scaled_pool_follows,
);

fn growing(min: u32, max: u32, step: u32) -> Figures {
    Figures { step, ..queue(min, max) }
}

fn the_pool_grows_when_somebody_waits(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &growing(1, 8, 2));
    stage.pass(2_000);
    let began = stage.now;
    stage.sample(1, 1);
    ensure!(stage.starts_since(began) >= 1, "no start");
    Ok(())
}

/// Somebody waits all the time.
fn need(stage: &mut Stage, rounds: u32) {
    for _ in 0..rounds {
        let busy = stage.serving().len() as u32;
        stage.sample(40, busy);
        stage.pass(100);
    }
}

fn growth_stops_at_max(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &growing(1, 4, 4));
    stage.pass(2_000);
    for _ in 0..300 {
        let busy = stage.serving().len() as u32;
        stage.sample(40, busy);
        stage.pass(100);
        ensure!(stage.live().len() <= 4, "{} live", stage.live().len());
    }
    ensure!(stage.live().len() == 4, "{} live", stage.live().len());
    Ok(())
}

fn growth_doubles_while_the_need_lasts(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &growing(1, 32, 1));
    stage.pass(2_000);
    need(&mut stage, 12);
    ensure!(stage.live().len() >= 20, "only {} after 1.2 s of need", stage.live().len());
    Ok(())
}

fn idle_workers_leave_but_never_below_the_least(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &growing(2, 8, 4));
    stage.pass(2_000);
    need(&mut stage, 40);
    ensure!(stage.serving().len() == 8, "{} serve", stage.serving().len());
    for _ in 0..60 {
        stage.sample(0, 0);
        stage.pass(10_000);
        ensure!(stage.serving().len() >= 2, "only {} serve", stage.serving().len());
    }
    ensure!(stage.live().len() == 2, "{} live after ten minutes", stage.live().len());
    let kills = stage.count(0, |order| matches!(order, Command::KillWorker { .. }));
    ensure!(kills == 0, "{kills} were killed");
    Ok(())
}

fn a_pool_on_demand_sleeps_and_wakes(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &growing(0, 4, 1));
    stage.pass(5_000);
    ensure!(stage.live().is_empty(), "{} live though nobody waits", stage.live().len());
    ensure!(stage.view(|pool| pool.state().word()) == Some("asleep"), "not asleep");
    stage.sample(1, 0);
    stage.pass(100);
    ensure!(!stage.serving().is_empty(), "it does not wake");
    Ok(())
}

fn limits_of_age_are_staggered(rules: Rules) -> Outcome {
    let figures = Figures { max_age: Some(seconds(300)), ..queue(8, 8) };
    let mut stage = Stage::empty(rules, &figures, 1);
    stage.boot = Boot::Ready(5);
    stage.begin();
    stage.boot = Boot::Ready(100);
    let mut most = 0;
    let mut times = Vec::new();
    for _ in 0..4_000 {
        let before = stage.count(0, |order| matches!(order, Command::DrainWorker { .. }));
        stage.pass(100);
        let after = stage.count(0, |order| matches!(order, Command::DrainWorker { .. }));
        if after > before {
            times.push(stage.now / 2_000);
        }
        most = most.max(after - before);
    }
    times.dedup();
    ensure!(times.len() >= 4, "all within {} spans of two seconds", times.len());
    ensure!(most <= 2, "{most} at once");
    Ok(())
}

fn a_scaled_pool_follows(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(4, 4));
    stage.pass(2_000);
    stage.tell(Event::ScaleRequested { pool: POOL, min: 6, max: 6 });
    stage.pass(2_000);
    ensure!(stage.serving().len() == 6, "{} serve", stage.serving().len());
    stage.tell(Event::ScaleRequested { pool: POOL, min: 2, max: 2 });
    stage.pass(15_000);
    ensure!(stage.live().len() == 2, "{} live", stage.live().len());
    let kills = stage.count(0, |order| matches!(order, Command::KillWorker { .. }));
    ensure!(kills == 0, "{kills} were killed");
    Ok(())
}
