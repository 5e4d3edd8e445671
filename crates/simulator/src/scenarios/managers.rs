//! Workers that are managers, and whose own workers die.

use steadfast_policy::class::Exit;
use steadfast_policy::command::Command;
use steadfast_policy::event::{Event, Files};
use steadfast_policy::figures::{Figures, Verify};
use steadfast_policy::ids::WorkerId;
use steadfast_policy::note::Note;
use steadfast_policy::rules::Rules;
use steadfast_policy::view::BreakerState;

use crate::scenario::{Outcome, ensure, scenarios};
use crate::stage::{Boot, POOL, Stage, direct};

scenarios!(
    a_manager_whose_workers_die_rests_longer_each_time,
    a_manager_goes_on_when_its_workers_live_again,
    the_breaker_does_not_close_while_a_manager_rests,
    a_manager_without_living_workers_is_replaced_and_tried_first,
    a_manager_whose_workers_die_before_it_is_ready_is_replaced_and_tried_first,
    a_reset_lets_a_manager_go_on_at_once,
    what_dies_of_changed_files_is_said_to,
);

/// One verified manager that has served for a while.
fn managed(rules: Rules) -> (Stage, WorkerId) {
    let figures = Figures { verify: Verify::Each, ..direct(1) };
    let mut stage = Stage::new(rules, &figures);
    stage.pass(20_000);
    let manager = stage.serving()[0];
    (stage, manager)
}

fn child_died(stage: &mut Stage, worker: WorkerId, living: u32) {
    let files = stage.files;
    stage.tell(Event::ChildDied { worker, files, living });
}

fn resumptions(stage: &Stage, since: u64) -> usize {
    stage.count(since, |order| matches!(order, Command::ResumeManager { .. }))
}

/// Whom it starts dies 5 ms later, for so long.
fn dies_again_and_again(stage: &mut Stage, manager: WorkerId, wait: u64) {
    let end = stage.now + wait;
    let mut answered = resumptions(stage, 0);
    child_died(stage, manager, 3);
    while stage.now < end {
        if resumptions(stage, 0) > answered {
            answered += 1;
            stage.pass(5);
            child_died(stage, manager, 3);
        } else {
            stage.pass(20);
        }
    }
}

fn a_manager_whose_workers_die_rests_longer_each_time(rules: Rules) -> Outcome {
    let (mut stage, manager) = managed(rules);
    let began = stage.now;
    dies_again_and_again(&mut stage, manager, 60_000);
    let first = resumptions(&stage, began);
    ensure!((5..=20).contains(&first), "{first} times in the first minute");
    let later = stage.now;
    dies_again_and_again(&mut stage, manager, 600_000);
    let then = resumptions(&stage, later);
    ensure!((8..=16).contains(&then), "{then} times in ten more minutes");
    ensure!(stage.opened(began) >= 1, "the breaker never opened");
    ensure!(stage.serving() == [manager], "it does not serve any more");
    let told = stage.notes(began, |note| matches!(note, Note::ManagerRests { living: 3, .. }));
    ensure!(told >= first, "told {told} times");
    Ok(())
}

fn a_manager_goes_on_when_its_workers_live_again(rules: Rules) -> Outcome {
    let (mut stage, manager) = managed(rules);
    dies_again_and_again(&mut stage, manager, 30_000);
    let mended = stage.now;
    stage.pass(60_000);
    ensure!(resumptions(&stage, mended) == 1, "{} times after that", resumptions(&stage, mended));
    stage.tell(Event::ChildReady { worker: manager });
    stage.pass(60_000);
    let breaker = stage.view(|pool| pool.breaker().state);
    ensure!(breaker == Some(BreakerState::Closed), "the breaker is {breaker:?}");
    ensure!(stage.serving() == [manager], "it was replaced");
    Ok(())
}

fn the_breaker_does_not_close_while_a_manager_rests(rules: Rules) -> Outcome {
    let (mut stage, manager) = managed(rules);
    dies_again_and_again(&mut stage, manager, 300_000);
    let closed = stage.notes(0, |note| matches!(note, Note::BreakerClosed { .. }));
    ensure!(closed == 0, "closed {closed} times");
    Ok(())
}

fn is_replaced_and_tried_first(stage: &mut Stage, manager: WorkerId, began: u64) -> Outcome {
    stage.pass(5_000);
    ensure!(stage.actor(manager).is_some_and(|actor| actor.gone), "it is still there");
    let trials = stage.count(began, |order| matches!(order, Command::StartWorker { trial: true, .. }));
    ensure!(trials == 1, "{trials} trials");
    ensure!(stage.serving().len() == 1, "{} serve", stage.serving().len());
    Ok(())
}

fn a_manager_without_living_workers_is_replaced_and_tried_first(rules: Rules) -> Outcome {
    let (mut stage, manager) = managed(rules);
    let began = stage.now;
    child_died(&mut stage, manager, 0);
    is_replaced_and_tried_first(&mut stage, manager, began)
}

fn a_manager_whose_workers_die_before_it_is_ready_is_replaced_and_tried_first(rules: Rules) -> Outcome {
    let (mut stage, manager) = managed(rules);
    stage.boot = Boot::Never;
    stage.die(manager, Exit::Signal(11));
    stage.pass(1_000);
    let began = stage.now;
    let next = stage.last();
    stage.boot = Boot::Ready(50);
    // Whatever else it has: it is not ready, so none of them serves.
    child_died(&mut stage, next, 3);
    is_replaced_and_tried_first(&mut stage, next, began)
}

fn a_reset_lets_a_manager_go_on_at_once(rules: Rules) -> Outcome {
    let (mut stage, manager) = managed(rules);
    dies_again_and_again(&mut stage, manager, 60_000);
    let before = stage.now;
    stage.tell(Event::BreakerResetRequested { pool: POOL });
    ensure!(resumptions(&stage, before) == 1, "{} times", resumptions(&stage, before));
    Ok(())
}

fn what_dies_of_changed_files_is_said_to(rules: Rules) -> Outcome {
    let (mut stage, manager) = managed(rules);
    stage.files = Files::Changed;
    dies_again_and_again(&mut stage, manager, 60_000);
    let told = stage.notes(0, |note| matches!(note, Note::ManagerRests { files_changed: true, .. }));
    ensure!(told > 0, "not told");
    let back = stage.notes(0, |note| matches!(note, Note::GenerationRolledBack { .. }));
    ensure!(back == 0, "rolled back {back} times");
    Ok(())
}
