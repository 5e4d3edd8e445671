//! Zygotes: how they are loaded, kept and replaced, and what their lies and failures cost.

use steadfast_policy::class::{Exit, Reason};
use steadfast_policy::command::{Command, Source};
use steadfast_policy::event::{Event, Files, SpawnFault, ZygoteEnd};
use steadfast_policy::figures::{Figures, Launch};
use steadfast_policy::note::Note;
use steadfast_policy::rules::Rules;

use super::generations::{NEW, grown, of};
use crate::scenario::{Outcome, ensure, scenarios};
use crate::stage::{Boot, Stage, queue, seconds};

scenarios!(
    a_fresh_zygote_is_tried_before_holding,
    fresh_zygotes_are_bounded,
    after_a_fresh_zygote_there_is_grace,
    a_zygote_that_hangs_is_killed,
    a_zygote_that_dies_is_loaded_again_while_its_workers_serve,
    zygotes_that_die_again_and_again_are_not_loaded_in_a_spin,
    a_zygote_that_must_not_fork_makes_its_workers_executed,
    a_candidate_whose_zygote_fails_is_refused,
    a_candidate_whose_zygote_was_killed_from_outside_is_tried_again,
    a_candidate_whose_zygote_always_dies_is_refused,
    a_zygote_of_changed_files_is_charged_to_the_files,
    a_zygote_that_misses_a_dependency_waits_and_opens_nothing,
    a_zygote_that_has_grown_is_replaced_by_a_fresh_one,
    a_fresh_zygote_that_is_no_better_opens_the_breaker_while_the_old_ones_workers_serve,
    a_zygote_that_cannot_make_workers_is_not_ordered_in_a_spin,
    a_zygote_that_nobody_can_reach_is_not_asked_in_a_spin,
    a_candidate_whose_zygote_cannot_make_workers_is_refused,
    a_candidate_that_the_host_refuses_holds_up_nobody_else,
);

fn forked(workers: u32) -> Figures {
    Figures { launch: Launch::Zygote, ..queue(workers, workers) }
}

fn zygotes(stage: &Stage, since: u64) -> usize {
    stage.count(since, |order| matches!(order, Command::StartZygote { .. }))
}

/// Workers of a forked pool fail until the breaker or a fresh zygote answers.
fn fail_until_answered(stage: &mut Stage, since: u64) {
    for _ in 0..40 {
        if zygotes(stage, since) > 0 || stage.opened(since) > 0 {
            break;
        }
        let worker = stage.last();
        stage.die_idle(worker, Exit::Code(1));
        stage.pass(2_500);
    }
}

fn a_fresh_zygote_is_tried_before_holding(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &forked(4));
    let began = stage.now;
    fail_until_answered(&mut stage, began);
    ensure!(zygotes(&stage, began) == 1, "{} fresh zygotes", zygotes(&stage, began));
    ensure!(stage.opened(0) == 0, "it opened");
    Ok(())
}

fn fresh_zygotes_are_bounded(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &forked(20));
    let began = stage.now;
    // Twice ten failures within a second: the second ten come too soon for another fresh zygote.
    for _ in 0..2 {
        for worker in stage.serving().into_iter().take(10) {
            stage.die_idle(worker, Exit::Code(1));
        }
        stage.pass(300);
    }
    stage.boot = Boot::Dies(10, Exit::Code(1));
    stage.pass(400_000);
    let started =
        |(at, order): &(u64, Command)| (*at >= began && matches!(order, Command::StartZygote { .. })).then_some(*at);
    let times: Vec<u64> = stage.orders.iter().filter_map(started).collect();
    ensure!(!times.is_empty(), "no fresh zygote");
    let apart = times.windows(2).all(|pair| pair[1] - pair[0] >= 30_000);
    let few = times.windows(3).all(|three| three[2] - three[0] >= 60_000);
    ensure!(apart && few, "at {times:?}");
    ensure!(stage.opened(began) >= 1, "it never opened");
    Ok(())
}

fn after_a_fresh_zygote_there_is_grace(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &forked(24));
    let began = stage.now;
    let ten_fail = |stage: &mut Stage| {
        for worker in stage.serving().into_iter().take(10) {
            stage.die_idle(worker, Exit::Code(1));
        }
    };
    ten_fail(&mut stage);
    stage.pass(2_000);
    ensure!(zygotes(&stage, began) == 1, "no fresh zygote");
    // Ten more within the grace, of workers that have served since.
    stage.serve_all(60);
    ten_fail(&mut stage);
    stage.pass(500);
    ensure!(stage.opened(began) == 0, "it opened within the grace");
    Ok(())
}

fn a_zygote_that_hangs_is_killed(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &forked(2), 1);
    stage.zygotes = None;
    stage.begin();
    stage.pass(31_000);
    let Some(zygote) = stage.zygote() else {
        return Err("no zygote".into());
    };
    ensure!(stage.count(0, |order| *order == Command::KillZygote { zygote }) + zygotes(&stage, 0) > 1, "not killed");
    Ok(())
}

/// The zygote ends now, and whatever follows in so many milliseconds.
fn zygote_ends(stage: &mut Stage, end: ZygoteEnd, wait: u64) -> Result<(), String> {
    let zygote = stage.zygote().ok_or("no zygote")?;
    stage.zygote_exits(0, zygote, end);
    stage.pass(wait);
    Ok(())
}

fn a_zygote_that_dies_is_loaded_again_while_its_workers_serve(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &forked(4));
    let (began, before) = (stage.now, stage.serving());
    zygote_ends(&mut stage, ZygoteEnd::Killed, 100)?;
    ensure!(stage.serving() == before, "its workers went with it");
    ensure!(zygotes(&stage, began) == 1, "{} zygotes", zygotes(&stage, began));
    ensure!(stage.opened(0) == 0, "it opened");
    Ok(())
}

fn zygotes_that_die_again_and_again_are_not_loaded_in_a_spin(rules: Rules) -> Outcome {
    for end in [ZygoteEnd::Killed, ZygoteEnd::Failed] {
        let mut stage = grown(rules, &forked(4));
        let began = stage.now;
        for _ in 0..600 {
            if let Some(zygote) = stage.zygote() {
                stage.zygote_exits(0, zygote, end);
            }
            stage.pass(100);
        }
        ensure!(zygotes(&stage, began) >= 4, "{} zygotes in a minute: given up", zygotes(&stage, began));
        ensure!(zygotes(&stage, began) <= 20, "{} zygotes in a minute", zygotes(&stage, began));
        ensure!(stage.serving().len() == 4, "{} serve", stage.serving().len());
        ensure!(end == ZygoteEnd::Failed || stage.opened(0) == 0, "kills from outside opened it");
    }
    Ok(())
}

fn a_zygote_that_must_not_fork_makes_its_workers_executed(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &forked(4), 1);
    stage.zygotes = None;
    stage.begin();
    let zygote = stage.zygote().ok_or("no zygote")?;
    stage.tell(Event::ZygoteUnfit { zygote });
    stage.pass(10_000);
    ensure!(stage.count(0, |order| *order == Command::QuitZygote { zygote }) == 1, "it was not dismissed");
    let executed = |order: &Command| matches!(order, Command::StartWorker { source: Source::Exec, .. });
    ensure!(stage.count(0, executed) == 4, "{} executed", stage.count(0, executed));
    ensure!(zygotes(&stage, 0) == 1, "{} zygotes", zygotes(&stage, 0));
    ensure!(stage.serving().len() == 4, "{} serve", stage.serving().len());
    Ok(())
}

fn a_candidate_whose_zygote_fails_is_refused(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &forked(4));
    let before = stage.serving();
    stage.zygotes = Some(false);
    stage.reload();
    stage.pass(5_000);
    let refused = |note: &Note| matches!(note, Note::GenerationRefused { reason: Reason::Zygote, .. });
    ensure!(stage.notes(0, refused) == 1, "{} refusals", stage.notes(0, refused));
    ensure!(stage.serving() == before, "somebody saw it");
    ensure!(zygotes(&stage, 0) == 2, "{} zygotes", zygotes(&stage, 0));
    Ok(())
}

fn a_candidate_whose_zygote_was_killed_from_outside_is_tried_again(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &forked(4));
    stage.zygotes = None;
    stage.reload();
    stage.zygotes = Some(true);
    zygote_ends(&mut stage, ZygoteEnd::Killed, 60_000)?;
    ensure!(of(&stage, NEW).len() == 4, "{} of the new generation", of(&stage, NEW).len());
    Ok(())
}

fn a_candidate_whose_zygote_always_dies_is_refused(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &forked(4));
    stage.boot = Boot::Never;
    stage.reload();
    for _ in 0..8 {
        stage.pass(50);
        // Loaded each time, and gone before its canary was ready.
        zygote_ends(&mut stage, ZygoteEnd::Failed, 50)?;
        for worker in of(&stage, NEW) {
            stage.die_idle(worker, Exit::Signal(9));
        }
    }
    let refused = |note: &Note| matches!(note, Note::GenerationRefused { .. });
    ensure!(stage.notes(0, refused) == 1, "{} refusals", stage.notes(0, refused));
    Ok(())
}

fn a_zygote_of_changed_files_is_charged_to_the_files(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &forked(4));
    let before = stage.serving();
    stage.files = Files::Changed;
    stage.zygotes = Some(false);
    zygote_ends(&mut stage, ZygoteEnd::Killed, 60_000)?;
    let charged = |note: &Note| matches!(note, Note::BreakerOpened { reason: Reason::FilesChanged(_), .. });
    ensure!(stage.notes(0, charged) >= 1, "not charged to the files");
    ensure!(stage.serving() == before, "those that serve were touched");
    ensure!(zygotes(&stage, 0) <= 20, "{} zygotes", zygotes(&stage, 0));
    Ok(())
}

fn a_zygote_that_misses_a_dependency_waits_and_opens_nothing(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &forked(4), 1);
    stage.zygotes = None;
    stage.begin();
    for _ in 0..600 {
        if let Some(zygote) = stage.zygote() {
            let (end, files) = (ZygoteEnd::Unavailable, Files::Noted);
            stage.later(0, Event::ZygoteExited { zygote, end, files, retry_after: Some(seconds(5)) });
        }
        stage.pass(100);
    }
    ensure!(stage.opened(0) == 0, "it opened");
    let count = zygotes(&stage, 0);
    ensure!((3..=13).contains(&count), "{count} zygotes in a minute, each of which asked for 5 s");
    Ok(())
}

fn a_zygote_that_has_grown_is_replaced_by_a_fresh_one(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &forked(4));
    let (began, before) = (stage.now, stage.serving());
    let zygote = stage.zygote().ok_or("no zygote")?;
    stage.tell(Event::ZygoteGrown { zygote });
    stage.tell(Event::ZygoteGrown { zygote });
    stage.pass(10_000);
    ensure!(zygotes(&stage, began) == 1, "{} fresh zygotes", zygotes(&stage, began));
    let dismissed = stage.count(began, |order| *order == Command::QuitZygote { zygote });
    ensure!(dismissed == 1, "the old one was asked to leave {dismissed} times");
    ensure!(stage.serving().len() == 4, "{} serve", stage.serving().len());
    ensure!(stage.serving().iter().all(|worker| !before.contains(worker)), "a worker of the old one stays");
    Ok(())
}

fn a_fresh_zygote_that_is_no_better_opens_the_breaker_while_the_old_ones_workers_serve(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &forked(8));
    let (began, before) = (stage.now, stage.serving());
    stage.boot = Boot::Dies(10, Exit::Signal(11));
    stage.die_idle(before[0], Exit::Signal(9));
    for _ in 0..1_200 {
        stage.serve_all(2);
        stage.pass(100);
    }
    ensure!(stage.opened(began) >= 1, "it never opened");
    ensure!(stage.starts_since(began) <= 60, "{} starts in two minutes", stage.starts_since(began));
    ensure!(zygotes(&stage, began) <= 2, "{} fresh zygotes", zygotes(&stage, began));
    ensure!(before[1..].iter().all(|worker| stage.serving().contains(worker)), "somebody who serves was touched");
    Ok(())
}

fn a_zygote_that_cannot_make_workers_is_not_ordered_in_a_spin(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &forked(4), 1);
    stage.boot = Boot::Refused(SpawnFault::Fork);
    stage.begin();
    stage.pass(30_000);
    ensure!(stage.opened(0) >= 1, "it never opened");
    ensure!(stage.starts_since(0) <= 30, "{} orders in half a minute", stage.starts_since(0));
    Ok(())
}

fn a_zygote_that_nobody_can_reach_is_not_asked_in_a_spin(rules: Rules) -> Outcome {
    let mut stage = Stage::empty(rules, &forked(4), 1);
    stage.boot = Boot::Refused(SpawnFault::Zygote);
    stage.begin();
    stage.pass(10_000);
    ensure!(stage.starts_since(0) <= 40, "{} orders in ten seconds", stage.starts_since(0));
    ensure!(stage.opened(0) == 0, "somebody was blamed");
    Ok(())
}

fn a_candidate_whose_zygote_cannot_make_workers_is_refused(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &forked(4));
    let before = stage.serving();
    stage.boot = Boot::Refused(SpawnFault::Fork);
    stage.reload();
    stage.pass(1_000);
    let refused = |note: &Note| matches!(note, Note::GenerationRefused { .. });
    ensure!(stage.notes(0, refused) == 1, "{} refusals", stage.notes(0, refused));
    ensure!(stage.serving() == before, "somebody saw it");
    Ok(())
}

fn a_candidate_that_the_host_refuses_holds_up_nobody_else(rules: Rules) -> Outcome {
    let mut stage = grown(rules, &forked(4));
    stage.boot = Boot::Refused(SpawnFault::Host);
    stage.reload();
    stage.pass(20_000);
    let tried = of(&stage, NEW).len();
    ensure!(tried <= 10, "asked {tried} times in 20 s");
    stage.boot = Boot::Ready(5);
    let worker = stage.serving()[0];
    stage.die_idle(worker, Exit::Signal(9));
    stage.pass(100);
    ensure!(stage.serving().len() == 4, "{} serve: the others wait for the candidate's", stage.serving().len());
    Ok(())
}
