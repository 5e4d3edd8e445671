//! Reloads, rollbacks and changed files.

use steadfast_policy::class::{Exit, Reason};
use steadfast_policy::command::Command;
use steadfast_policy::event::{Event, Files};
use steadfast_policy::figures::{Figures, Verify};
use steadfast_policy::ids::{GenerationId, RequestKey, WorkerId};
use steadfast_policy::note::Note;
use steadfast_policy::rules::Rules;
use steadfast_policy::view::BreakerState;

use crate::scenario::{Outcome, ensure, scenarios};
use crate::stage::{Boot, POOL, Stage, direct, queue, seconds};

scenarios!(
    a_candidate_that_fails_is_refused,
    a_candidate_goes_first_alone,
    a_new_worker_is_admitted_before_an_old_one_drains,
    a_rollout_has_a_bounded_surge,
    new_workers_soak_before_the_next_surge,
    a_generation_that_fails_in_service_goes_back,
    one_broken_worker_is_enough_to_go_back,
    there_is_one_way_back_for_each_reload,
    a_fault_of_the_environment_is_no_way_back,
    what_was_there_before_the_deploy_is_no_way_back,
    two_bad_deploys_in_a_row_go_back_to_what_was_before_both,
    a_rollback_acquits_what_only_the_bad_generation_died_of,
    what_the_old_generation_outlives_is_no_poison,
    the_backoff_of_one_generation_never_delays_another,
    the_predecessor_is_kept_until_the_generation_is_proven,
    a_failure_puts_off_the_proof,
    failures_of_changed_files_are_charged_to_the_files,
    planned_recycling_rests_while_files_differ,
    mended_files_are_noted,
    a_direct_generation_is_tried_by_one_that_serves_nobody,
    a_hollow_direct_generation_is_refused_unseen,
    the_trial_of_an_open_breaker_goes_on_to_the_pools_own_socket,
    a_reload_during_a_reload_takes_its_place,
    a_trial_that_hangs_does_not_hold_up_the_release_that_mends_it,
);

pub(crate) const NEW: GenerationId = GenerationId(2);

pub(crate) fn of(stage: &Stage, generation: GenerationId) -> Vec<WorkerId> {
    stage.pick(|actor| actor.generation == generation)
}

fn rollbacks(stage: &Stage) -> usize {
    stage.notes(0, |note| matches!(note, Note::GenerationRolledBack { .. }))
}

/// A pool that has served for a while.
pub(crate) fn grown(rules: Rules, figures: &Figures) -> Stage {
    let mut stage = Stage::new(rules, figures);
    stage.pass(5_000);
    stage.serve_all(50);
    stage.pass(100_000);
    stage
}

/// … and has just admitted so many workers of a new generation.
fn in_rollout(rules: Rules, workers: u32, admitted: usize) -> Stage {
    let mut stage = grown(rules, &queue(workers, workers));
    roll_out(&mut stage, admitted);
    stage
}

/// A reload until so many of the new ones are admitted.
fn roll_out(stage: &mut Stage, admitted: usize) {
    stage.reload();
    for _ in 0..200 {
        if of(stage, NEW).len() >= admitted && stage.pick(|a| a.generation == NEW && a.admitted).len() >= admitted {
            break;
        }
        stage.pass(250);
    }
}

fn a_candidate_that_fails_is_refused(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &queue(4, 4));
    stage.boot = Boot::Dies(10, Exit::Code(3));
    stage.reload();
    stage.pass(60_000);
    let refused = stage.notes(0, |note| matches!(note, Note::GenerationRefused { generation: NEW, .. }));
    ensure!(refused == 1, "refused {refused} times");
    ensure!(stage.serving().len() == 4, "{} serve", stage.serving().len());
    let starts = stage.actors.iter().filter(|actor| actor.generation == NEW).count();
    ensure!(starts == 1, "{starts} workers of the candidate");
    Ok(())
}

fn a_candidate_goes_first_alone(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &queue(16, 16));
    stage.boot = Boot::Ready(5_000);
    stage.reload();
    stage.pass(4_000);
    ensure!(of(&stage, NEW).len() == 1, "{} at once", of(&stage, NEW).len());
    Ok(())
}

fn a_new_worker_is_admitted_before_an_old_one_drains(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &queue(4, 4));
    stage.boot = Boot::Ready(1_000);
    stage.reload();
    for _ in 0..600 {
        stage.pass(100);
        ensure!(stage.serving().len() >= 4, "only {} serve", stage.serving().len());
    }
    ensure!(of(&stage, NEW).len() == 4, "{} are new", of(&stage, NEW).len());
    Ok(())
}

fn a_rollout_has_a_bounded_surge(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &queue(8, 8));
    // Old workers do not leave before their deadline.
    stage.obedient = false;
    stage.reload();
    for _ in 0..600 {
        stage.pass(100);
        ensure!(stage.live().len() <= 10, "{} live", stage.live().len());
    }
    Ok(())
}

fn new_workers_soak_before_the_next_surge(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &queue(4, 4));
    stage.reload();
    stage.pass(4_500);
    ensure!(of(&stage, NEW).len() == 1, "{} after 4.5 s", of(&stage, NEW).len());
    stage.serve(of(&stage, NEW)[0], 25);
    stage.pass(20);
    ensure!(of(&stage, NEW).len() == 2, "{} after 25 requests", of(&stage, NEW).len());
    Ok(())
}

fn fail_twice(stage: &mut Stage, generation: GenerationId) {
    for _ in 0..2 {
        if let Some(&worker) = stage.pick(|a| a.generation == generation && a.admitted).first() {
            stage.die_idle(worker, Exit::Code(1));
            stage.pass(400);
        }
    }
}

fn a_generation_that_fails_in_service_goes_back(rules: Rules) -> Outcome {
    let mut stage = in_rollout(rules, 4, 2);
    fail_twice(&mut stage, NEW);
    ensure!(rollbacks(&stage) == 1, "{} rollbacks", rollbacks(&stage));
    stage.pass(30_000);
    ensure!(of(&stage, NEW).is_empty(), "{} of the new are left", of(&stage, NEW).len());
    ensure!(stage.serving().len() == 4, "{} serve", stage.serving().len());
    Ok(())
}

fn one_broken_worker_is_enough_to_go_back(rules: Rules) -> Outcome {
    let mut stage = in_rollout(rules, 4, 2);
    let worker = of(&stage, NEW)[0];
    let began = stage.now;
    stage.tell(Event::WorkerBroken { worker });
    ensure!(rollbacks(&stage) == 1, "{} rollbacks", rollbacks(&stage));
    let termed = stage.count(began, |order| *order == Command::TerminateWorker { worker });
    ensure!(termed == 1, "TERM did not come back at once");
    Ok(())
}

fn there_is_one_way_back_for_each_reload(rules: Rules) -> Outcome {
    let mut stage = in_rollout(rules, 4, 3);
    fail_twice(&mut stage, NEW);
    stage.pass(2_000);
    let back = stage.now;
    for _ in 0..6 {
        fail_twice(&mut stage, GenerationId(1));
        stage.pass(1_000);
    }
    ensure!(rollbacks(&stage) == 1, "{} rollbacks", rollbacks(&stage));
    let again = stage.actors.iter().filter(|actor| actor.generation == NEW && actor.started > back).count();
    ensure!(again == 0, "{again} starts of the refused one");
    Ok(())
}

fn a_fault_of_the_environment_is_no_way_back(rules: Rules) -> Outcome {
    let mut stage = in_rollout(rules, 6, 2);
    let old = stage.pick(|a| a.generation == GenerationId(1) && a.drained.is_none());
    stage.die_idle(old[0], Exit::Code(1));
    stage.pass(300);
    fail_twice(&mut stage, NEW);
    ensure!(rollbacks(&stage) == 0, "{} rollbacks", rollbacks(&stage));
    Ok(())
}

fn what_was_there_before_the_deploy_is_no_way_back(rules: Rules) -> Outcome {
    for (quiet, expected) in [(1_000, 0), (60_000, 1)] {
        let mut stage = grown(rules, &queue(6, 6));
        let old = stage.pick(|a| a.generation == GenerationId(1) && a.admitted);
        stage.die_with(old[0], Exit::Signal(11), 7);
        stage.pass(quiet);
        roll_out(&mut stage, 2);
        fail_twice(&mut stage, NEW);
        ensure!(rollbacks(&stage) == expected, "{} rollbacks {quiet} ms after", rollbacks(&stage));
    }
    Ok(())
}

fn two_bad_deploys_in_a_row_go_back_to_what_was_before_both(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &queue(1, 1));
    for generation in [2, 3] {
        stage.reload();
        stage.pass(1_000);
        let worker = of(&stage, GenerationId(generation)).last().copied().ok_or("no worker of it")?;
        stage.die_idle(worker, Exit::Code(1));
        stage.pass(500);
    }
    let worker = of(&stage, GenerationId(3)).last().copied().ok_or("no worker of it")?;
    stage.die_idle(worker, Exit::Code(1));
    stage.pass(1_000);
    let back = |note: &Note| matches!(note, Note::GenerationRolledBack { to: GenerationId(1), .. });
    ensure!(stage.notes(0, back) == 1, "{} ways back", stage.notes(0, back));
    ensure!(stage.serving().len() == 1, "nobody serves");
    Ok(())
}

fn a_rollback_acquits_what_only_the_bad_generation_died_of(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &queue(4, 4));
    // One that the old generation stands as little as the new one.
    let old = stage.last();
    stage.die_with(old, Exit::Signal(11), 8);
    stage.pass(60_000);
    roll_out(&mut stage, 3);
    for request in [7, 8, 7] {
        let worker = stage.pick(|a| a.generation == NEW && a.admitted && !a.gone)[0];
        stage.die_with(worker, Exit::Signal(11), request);
    }
    ensure!(rollbacks(&stage) == 1, "{} rollbacks", rollbacks(&stage));
    let released = |key| {
        stage.count(0, |order| matches!(order, Command::ReleaseRequest { request: RequestKey(k), .. } if *k == key))
    };
    ensure!((released(7), released(8)) == (1, 0), "released: {} and {}", released(7), released(8));
    Ok(())
}

/// The new generation's workers die of the home page, which the old one's serve: by whom it is served until the second
/// death.
fn dies_of_the_home_page(rules: Rules, by: GenerationId) -> Stage {
    let mut stage = grown(rules, &queue(4, 4));
    roll_out(&mut stage, 3);
    let new = |stage: &Stage| stage.pick(|a| a.generation == NEW && a.admitted && !a.gone)[0];
    let worker = new(&stage);
    stage.die_with(worker, Exit::Signal(11), 7);
    for _ in 0..2 {
        let worker = stage.pick(|a| a.generation == by && a.admitted && !a.gone)[0];
        stage.tell(Event::SuspectServed { pool: POOL, request: RequestKey(7), worker });
    }
    let worker = new(&stage);
    stage.die_with(worker, Exit::Signal(11), 7);
    stage
}

fn what_the_old_generation_outlives_is_no_poison(rules: Rules) -> Outcome {
    let quarantined = |stage: &Stage| stage.count(0, |order| matches!(order, Command::QuarantineRequest { .. }));
    let stage = dies_of_the_home_page(rules, GenerationId(1));
    ensure!((rollbacks(&stage), quarantined(&stage)) == (1, 0), "{} quarantined", quarantined(&stage));
    // Where its own workers outlive it, it says nothing.
    let stage = dies_of_the_home_page(rules, NEW);
    ensure!((rollbacks(&stage), quarantined(&stage)) == (0, 1), "{} ways back", rollbacks(&stage));
    Ok(())
}

fn the_backoff_of_one_generation_never_delays_another(rules: Rules) -> Outcome {
    let mut stage = in_rollout(rules, 6, 2);
    let old = |stage: &Stage| stage.pick(|a| a.generation == GenerationId(1) && a.admitted && a.drained.is_none());
    // The old one fails too, so that there is no way back; the new one fails again and again.
    stage.die_idle(old(&stage)[0], Exit::Code(1));
    for _ in 0..5 {
        for _ in 0..100 {
            if let Some(&new) = stage.pick(|a| a.generation == NEW && a.ready).last() {
                // It has served, so that five failures do not end the rollout yet.
                stage.serve(new, 1);
                stage.die_idle(new, Exit::Code(1));
                break;
            }
            stage.pass(100);
        }
    }
    stage.pass(1);
    let began = stage.now;
    stage.die_idle(old(&stage)[0], Exit::Signal(9));
    let started = stage.actors.iter().filter(|a| a.generation == GenerationId(1) && a.started == began).count();
    ensure!(started >= 1, "the old generation waits");
    Ok(())
}

fn the_predecessor_is_kept_until_the_generation_is_proven(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &queue(2, 2));
    stage.reload();
    stage.pass(30_000);
    ensure!(of(&stage, NEW).len() == 2, "{} are new", of(&stage, NEW).len());
    let retired = |order: &Command| matches!(order, Command::RetireGeneration { generation: GenerationId(1), .. });
    ensure!(stage.count(0, retired) == 0, "retired before the proof");
    fail_twice(&mut stage, NEW);
    ensure!(rollbacks(&stage) == 1, "no way back");
    Ok(())
}

fn a_failure_puts_off_the_proof(rules: Rules) -> Outcome {
    let mut stage = Stage::new(rules, &queue(2, 2));
    stage.pass(55_000);
    stage.serve_all(3);
    stage.die_idle(stage.last(), Exit::Code(1));
    stage.pass(30_000);
    ensure!(stage.view(|pool| pool.is_proven()) == Some(false), "proven in spite of a failure");
    stage.pass(40_000);
    ensure!(stage.view(|pool| pool.is_proven()) == Some(true), "never proven");
    Ok(())
}

/// Files changed under a pool that served: new starts die.
fn changed(rules: Rules, figures: &Figures) -> Stage {
    let mut stage = grown(rules, figures);
    stage.files = Files::Changed;
    stage.boot = Boot::Dies(10, Exit::Code(1));
    stage.die_idle(stage.serving()[0], Exit::Signal(9));
    stage
}

fn failures_of_changed_files_are_charged_to_the_files(rules: Rules) -> Outcome {
    let mut stage = changed(rules, &queue(4, 4));
    stage.pass(60_000);
    let files = |note: &Note| matches!(note, Note::BreakerOpened { reason: Reason::FilesChanged(_), .. });
    ensure!(stage.notes(0, files) >= 1, "the files are not named");
    ensure!(stage.serving().len() == 3, "{} serve", stage.serving().len());
    Ok(())
}

fn planned_recycling_rests_while_files_differ(rules: Rules) -> Outcome {
    let figures = Figures { max_age: Some(seconds(300)), ..queue(4, 4) };
    let mut stage = changed(rules, &figures);
    // Within the limits of their age, the others are started, told and due; nobody goes.
    stage.pass(1_000);
    stage.boot = Boot::Ready(10_000_000);
    stage.pass(400_000);
    let recycled = |note: &Note| matches!(note, Note::WorkerRecycled { .. });
    ensure!(stage.notes(0, recycled) == 0, "{} recycled", stage.notes(0, recycled));
    Ok(())
}

fn mended_files_are_noted(rules: Rules) -> Outcome {
    let mut stage = changed(rules, &queue(4, 4));
    stage.pass(60_000);
    stage.boot = Boot::Ready(50);
    stage.pass(120_000);
    ensure!(stage.count(0, |order| matches!(order, Command::NoteFiles { .. })) >= 1, "not noted");
    ensure!(stage.serving().len() == 4, "{} serve", stage.serving().len());
    Ok(())
}

fn tried(workers: u32) -> Figures {
    Figures { verify: Verify::Each, ..direct(workers) }
}

fn trials(stage: &Stage) -> usize {
    stage.count(0, |order| matches!(order, Command::StartWorker { trial: true, .. }))
}

fn a_direct_generation_is_tried_by_one_that_serves_nobody(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &tried(4));
    stage.reload();
    stage.pass(60_000);
    ensure!(trials(&stage) == 2, "{} trials of two generations", trials(&stage));
    ensure!(of(&stage, NEW).len() == 4, "{} of the new generation", of(&stage, NEW).len());
    let verified = stage.count(0, |order| matches!(order, Command::VerifyWorker { .. }));
    ensure!(verified == 2, "{verified} were asked");
    let first = stage.orders.iter().find_map(|(_, order)| match order {
        Command::StartWorker { worker, .. } => Some(*worker),
        _ => None,
    });
    let admitted = |order: &Command| matches!(order, Command::AdmitWorker { worker } if Some(*worker) == first);
    ensure!(stage.count(0, admitted) == 0, "the trial worker was admitted");
    Ok(())
}

fn a_hollow_direct_generation_is_refused_unseen(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &tried(4));
    let before = stage.serving();
    stage.verifies = Some(false);
    stage.reload();
    stage.pass(30_000);
    let refused = |note: &Note| matches!(note, Note::GenerationRefused { .. });
    ensure!(stage.notes(0, refused) == 1, "{} refusals", stage.notes(0, refused));
    ensure!(stage.serving() == before, "somebody saw it");
    Ok(())
}

fn the_trial_of_an_open_breaker_goes_on_to_the_pools_own_socket(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &tried(2), 1);
    stage.verifies = Some(false);
    stage.begin();
    stage.pass(20_000);
    ensure!(stage.opened(0) >= 1, "it never opened");
    stage.verifies = Some(true);
    stage.pass(120_000);
    ensure!(stage.serving().len() == 2, "{} serve", stage.serving().len());
    ensure!(stage.view(|pool| pool.breaker().state) == Some(BreakerState::Closed), "it did not close");
    Ok(())
}

fn a_reload_during_a_reload_takes_its_place(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &direct(4));
    stage.boot = Boot::Ready(5_000);
    stage.reload();
    stage.pass(1_000);
    stage.boot = Boot::Ready(50);
    stage.reload();
    stage.pass(60_000);
    ensure!(of(&stage, GenerationId(3)).len() == 4, "{} of the newest", of(&stage, GenerationId(3)).len());
    let refused = |note: &Note| matches!(note, Note::GenerationRefused { reason: Reason::Superseded, .. });
    ensure!(stage.notes(0, refused) == 1, "the first is not refused");
    Ok(())
}

fn a_trial_that_hangs_does_not_hold_up_the_release_that_mends_it(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &queue(4, 4), 1);
    stage.boot = Boot::Dies(10, Exit::Code(1));
    stage.begin();
    stage.pass(2_000);
    ensure!(stage.opened(0) >= 1, "it never opened");
    stage.boot = Boot::Never;
    while stage.view(|pool| pool.breaker().state) != Some(BreakerState::HalfOpen) {
        stage.pass(100);
    }
    stage.boot = Boot::Ready(50);
    stage.reload();
    stage.pass(20_000);
    let serves = |note: &Note| matches!(note, Note::GenerationServing { generation: NEW, .. });
    ensure!(stage.notes(0, serves) == 1, "the new generation waits for the old one's trial");
    ensure!(stage.live().len() == 4, "{} live", stage.live().len());
    Ok(())
}
