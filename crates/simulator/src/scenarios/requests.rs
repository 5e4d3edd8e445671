//! Requests that kill workers: suspects, quarantine, and what is never blamed.

use steadfast_policy::class::Exit;
use steadfast_policy::command::Command;
use steadfast_policy::event::Event;
use steadfast_policy::figures::Figures;
use steadfast_policy::ids::RequestKey;
use steadfast_policy::rules::Rules;

use crate::scenario::{Outcome, ensure, scenarios};
use crate::stage::{POOL, Stage, queue};

scenarios!(
    a_request_that_kills_twice_is_quarantined,
    successes_acquit_a_suspect,
    only_own_doing_blames_a_request,
    suspects_are_bounded,
    quarantine_doubles_up_to_ten_minutes,
    one_poisonous_request_opens_nothing,
    different_requests_open_the_breaker,
    the_operator_empties_the_quarantine,
);

fn served(rules: Rules, figures: &Figures) -> Stage {
    let mut stage = Stage::new(rules, figures);
    stage.pass(3_000);
    stage.serve_all(100);
    stage
}

/// The worker that was started last dies with this request in hand.
fn kill(stage: &mut Stage, exit: Exit, request: u64) {
    let worker = stage.last();
    stage.die_with(worker, exit, request);
    stage.pass(500);
}

fn quarantines(stage: &Stage) -> Vec<(u64, u64)> {
    let quarantined = |(at, order): &(u64, Command)| match order {
        Command::QuarantineRequest { until, .. } => Some((*at, until.as_nanos() / 1_000_000)),
        _ => None,
    };
    stage.orders.iter().filter_map(quarantined).collect()
}

fn a_request_that_kills_twice_is_quarantined(rules: Rules) -> Outcome {
    let mut stage = served(rules, &queue(4, 4));
    kill(&mut stage, Exit::Signal(11), 7);
    ensure!(quarantines(&stage).is_empty(), "after one death");
    let watched = stage.count(0, |order| matches!(order, Command::WatchRequest { request: RequestKey(7), .. }));
    ensure!(watched == 1, "watched {watched} times");
    kill(&mut stage, Exit::Signal(11), 7);
    ensure!(quarantines(&stage).len() == 1, "{} quarantines", quarantines(&stage).len());
    Ok(())
}

fn successes_acquit_a_suspect(rules: Rules) -> Outcome {
    let mut stage = served(rules, &queue(4, 4));
    kill(&mut stage, Exit::Signal(11), 7);
    for _ in 0..25 {
        let request = RequestKey(7);
        let worker = stage.last();
        stage.tell(Event::SuspectServed { pool: POOL, request, worker });
    }
    kill(&mut stage, Exit::Signal(11), 7);
    ensure!(quarantines(&stage).is_empty(), "quarantined after 25 successes");
    Ok(())
}

fn only_own_doing_blames_a_request(rules: Rules) -> Outcome {
    let mut stage = served(rules, &queue(4, 4));
    for _ in 0..4 {
        kill(&mut stage, Exit::Signal(9), 7);
    }
    for _ in 0..3 {
        let worker = stage.last();
        stage.tell(Event::WorkerOverdue { worker });
        stage.pass(50);
        let request = Some(RequestKey(8));
        stage.tell(Event::Blamed { worker, request });
        stage.pass(500);
    }
    let watched = stage.count(0, |order| matches!(order, Command::WatchRequest { .. }));
    ensure!(watched == 0 && quarantines(&stage).is_empty(), "{watched} suspects");
    Ok(())
}

fn suspects_are_bounded(rules: Rules) -> Outcome {
    let mut stage = served(rules, &queue(4, 4));
    for request in 0..120 {
        kill(&mut stage, Exit::Signal(11), 1_000 + request);
        stage.serve_all(50);
    }
    let watched = stage.count(0, |order| matches!(order, Command::WatchRequest { .. }));
    let released = stage.count(0, |order| matches!(order, Command::ReleaseRequest { .. }));
    ensure!(watched - released <= 64, "{watched} watched, {released} released");
    Ok(())
}

fn quarantine_doubles_up_to_ten_minutes(rules: Rules) -> Outcome {
    let mut stage = served(rules, &queue(4, 4));
    kill(&mut stage, Exit::Signal(11), 7);
    kill(&mut stage, Exit::Signal(11), 7);
    for _ in 0..6 {
        let Some(&(_, until)) = quarantines(&stage).last() else {
            break;
        };
        stage.pass(until.saturating_sub(stage.now) + 1_000);
        stage.serve_all(100);
        // The trial after the quarantine kills again.
        kill(&mut stage, Exit::Signal(11), 7);
    }
    let minutes: Vec<u64> = quarantines(&stage).iter().map(|(at, until)| (until - at) / 60_000).collect();
    ensure!(minutes == [1, 2, 4, 8, 10, 10, 10], "{minutes:?} minutes");
    Ok(())
}

fn one_poisonous_request_opens_nothing(rules: Rules) -> Outcome {
    let figures = Figures { quarantine: false, ..queue(4, 4) };
    let mut stage = served(rules, &figures);
    for _ in 0..40 {
        stage.serve_all(20);
        stage.pass(1_500);
        kill(&mut stage, Exit::Signal(11), 7);
    }
    ensure!(stage.opened(0) == 0, "it opened");
    Ok(())
}

fn different_requests_open_the_breaker(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(4, 4));
    stage.pass(3_000);
    stage.serve_all(1);
    for request in 0..20 {
        kill(&mut stage, Exit::Signal(11), 100 + request);
        stage.pass(1_500);
    }
    ensure!(stage.opened(0) >= 1, "it never opened");
    Ok(())
}

fn the_operator_empties_the_quarantine(rules: Rules) -> Outcome {
    let mut stage = served(rules, &queue(4, 4));
    kill(&mut stage, Exit::Signal(11), 7);
    kill(&mut stage, Exit::Signal(11), 7);
    stage.tell(Event::QuarantineClearRequested { pool: POOL });
    let released = stage.count(0, |order| matches!(order, Command::ReleaseRequest { request: RequestKey(7), .. }));
    ensure!(released == 1, "released {released} times");
    ensure!(stage.view(|pool| pool.quarantine().count()) == Some(0), "still shown");
    Ok(())
}
