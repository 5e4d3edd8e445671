//! Deadlines, the ladder of a stop, lost workers and stalls.

use steadfast_policy::class::Weight;
use steadfast_policy::command::Command;
use steadfast_policy::event::Event;
use steadfast_policy::figures::{Figures, Verify};
use steadfast_policy::ids::{PoolId, SlotId};
use steadfast_policy::note::Note;
use steadfast_policy::rules::Rules;

use crate::scenario::{Outcome, ensure, scenarios};
use crate::stage::{Boot, POOL, Stage, direct, queue};

scenarios!(
    a_worker_that_is_not_ready_in_time_is_killed,
    a_worker_that_is_not_verified_in_time_is_killed,
    nobody_serves_before_it_was_verified,
    a_worker_deaf_to_term_is_killed_at_the_deadline,
    term_comes_again_each_second,
    the_slot_of_a_lost_worker_is_lent,
    at_most_two_slots_are_lent,
    after_a_stop_nothing_is_started,
    after_shutdown_no_pool_begins,
    a_sleeping_machine_kills_nobody,
    a_long_stall_is_counted_once,
    many_overdue_workers_are_killed_one_a_second,
    a_stop_ends_without_those_that_nothing_removes,
    a_planned_leave_waits_for_its_successor,
    a_cancelled_worker_is_told_to_leave_at_once,
    an_operators_kill_acts_at_once,
    a_pool_that_stopped_starts_again_at_its_scaled_size,
);

fn a_worker_that_is_not_ready_in_time_is_killed(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &direct(1), 1);
    stage.boot = Boot::Never;
    stage.begin();
    let worker = stage.last();
    let began = stage.now;
    stage.pass(29_900);
    ensure!(stage.actor(worker).is_some_and(|actor| actor.killed.is_none()), "killed before its deadline");
    stage.pass(10_200);
    let killed = stage.actor(worker).and_then(|actor| actor.killed);
    ensure!(killed.is_some_and(|at| at >= began + 30_000), "not killed: {killed:?}");
    Ok(())
}

fn verified(min: u32) -> Figures {
    Figures { verify: Verify::Each, ..queue(min, min) }
}

fn a_worker_that_is_not_verified_in_time_is_killed(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &verified(1), 1);
    stage.verifies = None;
    stage.begin();
    let worker = stage.last();
    stage.pass(9_900);
    ensure!(stage.actor(worker).is_some_and(|actor| actor.killed.is_none()), "killed before its deadline");
    stage.pass(11_000);
    ensure!(stage.actor(worker).is_some_and(|actor| actor.gone), "still there");
    Ok(())
}

fn nobody_serves_before_it_was_verified(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &verified(2), 1);
    stage.verifies = Some(false);
    stage.begin();
    stage.pass(60_000);
    ensure!(stage.count(0, |order| matches!(order, Command::AdmitWorker { .. })) == 0, "admitted unverified");
    Ok(())
}

fn a_worker_deaf_to_term_is_killed_at_the_deadline(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(2, 2));
    stage.pass(2_000);
    stage.obedient = false;
    let began = stage.now;
    stage.tell(Event::StopRequested { pool: POOL });
    stage.pass(500);
    let kills = |order: &Command| matches!(order, Command::KillWorker { .. });
    stage.pass(15_000);
    ensure!(stage.count(began, kills) >= 2, "not killed");
    ensure!(stage.live().is_empty(), "somebody lives");
    Ok(())
}

fn term_comes_again_each_second(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &direct(2));
    stage.pass(2_000);
    stage.obedient = false;
    let worker = stage.serving()[0];
    stage.tell(Event::StopRequested { pool: POOL });
    stage.pass(8_500);
    let terms = stage.actor(worker).map_or(0, |actor| actor.termed);
    ensure!((7..=10).contains(&terms), "{terms} times in 8.5 s");
    Ok(())
}

/// A pool of which so many workers cannot be removed.
fn with_lost(rules: Rules, workers: u32, lost: u32) -> Stage {
    let mut stage = Stage::new(rules, &direct(workers));
    stage.pass(3_000);
    stage.serve_all(10);
    (stage.obedient, stage.mortal) = (false, false);
    for slot in 1..=lost {
        stage.tell(Event::KillRequested { pool: POOL, slot: SlotId(slot) });
    }
    stage.pass(60_000);
    stage
}

fn the_slot_of_a_lost_worker_is_lent(rules: Rules) -> Outcome {
    let stage = with_lost(rules, 4, 2);
    ensure!(stage.serving().len() == 4, "{} serve", stage.serving().len());
    let shown = stage.view(|pool| pool.counts().lost);
    ensure!(shown == Some(2), "{shown:?} are shown as lost");
    Ok(())
}

fn at_most_two_slots_are_lent(rules: Rules) -> Outcome {
    let stage = with_lost(rules, 8, 7);
    // Eight, two of surge, two lent.
    ensure!(stage.live().len() <= 12, "{} live", stage.live().len());
    Ok(())
}

fn after_a_stop_nothing_is_started(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(2, 8));
    stage.pass(2_000);
    stage.obedient = false;
    let worker = stage.serving()[0];
    let began = stage.now;
    stage.tell(Event::StopRequested { pool: POOL });
    stage.die(worker, steadfast_policy::class::Exit::Code(1));
    stage.sample(9, 1);
    stage.tell(Event::ReloadRequested { pool: POOL, figures: queue(2, 8) });
    stage.pass(40_000);
    ensure!(stage.starts_since(began) == 0, "{} starts", stage.starts_since(began));
    ensure!(stage.view(|pool| pool.state().word()) == Some("stopped"), "not stopped");
    Ok(())
}

fn after_shutdown_no_pool_begins(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &direct(2));
    stage.pass(2_000);
    stage.tell(Event::ShutdownRequested);
    let began = stage.now;
    stage.tell(Event::PoolAdded { pool: PoolId(1), figures: direct(3) });
    stage.tell(Event::StartRequested { pool: POOL });
    stage.pass(30_000);
    ensure!(stage.starts_since(began) == 0, "{} starts", stage.starts_since(began));
    ensure!(stage.count(0, |order| matches!(order, Command::Finish)) == 1, "it does not finish once");
    Ok(())
}

fn a_sleeping_machine_kills_nobody(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &direct(3), 1);
    stage.boot = Boot::Ready(20_000);
    stage.begin();
    stage.pass(2_000);
    stage.sleep(3_600_000);
    stage.pass(60_000);
    let kills = stage.count(0, |order| matches!(order, Command::KillWorker { .. } | Command::TerminateWorker { .. }));
    ensure!(kills == 0, "{kills} orders to leave");
    ensure!(stage.serving().len() == 3, "{} serve", stage.serving().len());
    Ok(())
}

fn a_long_stall_is_counted_once(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &direct(2), 1);
    stage.boot = Boot::Never;
    stage.begin();
    stage.pass(1_000);
    // Many facts wait when the driver turns again.
    for worker in stage.live() {
        for _ in 0..20 {
            stage.later(5_000, Event::WorkerServed { worker, requests: 0 });
        }
    }
    stage.stall(100_000);
    stage.pass(60_000);
    let first = stage.actors[0];
    ensure!(first.killed.is_some(), "never ready and still there");
    Ok(())
}

fn many_overdue_workers_are_killed_one_a_second(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(8, 8));
    stage.pass(5_000);
    stage.serve_all(30);
    let began = stage.now;
    for worker in stage.serving().into_iter().take(6) {
        stage.tell(Event::WorkerOverdue { worker });
    }
    let kills = |order: &Command| matches!(order, Command::KillWorker { .. });
    stage.pass(900);
    // It takes more than half of them to see that it is not the workers' fault.
    ensure!(stage.count(began, kills) <= 5, "{} at once", stage.count(began, kills));
    stage.pass(10_000);
    ensure!(stage.count(began, kills) == 6, "{} in all", stage.count(began, kills));
    Ok(())
}

fn a_stop_ends_without_those_that_nothing_removes(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &direct(2));
    stage.pass(2_000);
    (stage.obedient, stage.mortal) = (false, false);
    stage.tell(Event::ShutdownRequested);
    stage.pass(30_000);
    ensure!(stage.count(0, |order| matches!(order, Command::Finish)) == 1, "it does not end");
    Ok(())
}

fn a_cancelled_worker_is_told_to_leave_at_once(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(2, 2));
    stage.pass(5_000);
    let (worker, began) = (stage.serving()[0], stage.now);
    stage.tell(Event::WorkerCancelled { worker });
    let told = |order: &Command| matches!(order, Command::TerminateWorker { worker: w } if *w == worker);
    ensure!(stage.count(began, told) == 1, "no TERM");
    stage.pass(5_000);
    ensure!(stage.actor(worker).is_some_and(|actor| actor.gone), "still there");
    ensure!(stage.serving().len() == 2, "{} serve", stage.serving().len());
    let blamed = |order: &Command| matches!(order, Command::Report(Note::WorkerExited { weight, .. }) if *weight != Weight::NONE);
    ensure!(stage.count(began, blamed) == 0, "it is charged for what it was told to do");
    Ok(())
}

fn a_planned_leave_waits_for_its_successor(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(2, 2));
    stage.pass(2_000);
    stage.boot = Boot::Ready(3_000);
    stage.tell(Event::DrainRequested { pool: POOL, slot: SlotId(1) });
    stage.pass(2_500);
    ensure!(stage.serving().len() == 2, "{} serve before the successor is ready", stage.serving().len());
    stage.pass(2_000);
    ensure!(stage.live().len() == 2 && stage.actors[0].gone, "the old one is still there");
    Ok(())
}

fn an_operators_kill_acts_at_once(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(2, 2));
    stage.pass(2_000);
    let began = stage.now;
    stage.tell(Event::KillRequested { pool: POOL, slot: SlotId(1) });
    stage.pass(100);
    ensure!(stage.count(began, |order| matches!(order, Command::KillWorker { .. })) == 1, "not killed");
    stage.pass(1_000);
    ensure!(stage.serving().len() == 2 && stage.opened(0) == 0, "not replaced");
    Ok(())
}

fn a_pool_that_stopped_starts_again_at_its_scaled_size(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &direct(8));
    stage.pass(2_000);
    stage.tell(Event::StopRequested { pool: POOL });
    stage.pass(5_000);
    stage.tell(Event::ScaleRequested { pool: POOL, min: 3, max: 3 });
    stage.tell(Event::StartRequested { pool: POOL });
    stage.pass(10_000);
    ensure!(stage.live().len() == 3, "{} live", stage.live().len());
    Ok(())
}
