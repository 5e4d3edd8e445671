//! Storms of events, and how few lines they become.

use super::*;

fn pool(name: &str) -> Arc<str> {
    Arc::from(name)
}

fn exited(name: &str, class: &'static str) -> Event {
    Event::new(Kind::WorkerExited).pool(&pool(name)).class(class).failure()
}

fn take(coalescer: &mut Coalescer, now: u64, event: Event) -> Vec<Event> {
    let mut out = Vec::new();
    coalescer.take(now, event, &mut out);
    out
}

fn flush(coalescer: &mut Coalescer, now: u64) -> Vec<Event> {
    let mut out = Vec::new();
    coalescer.flush(now, &mut out);
    out
}

/// Most lines in any sliding minute.
fn most_in_a_minute(written: &[(u64, usize)]) -> usize {
    let within = |&(start, _): &(u64, usize)| {
        let in_minute = written.iter().filter(|(then, _)| *then >= start && *then < start + MINUTE);
        in_minute.map(|(_, lines)| lines).sum::<usize>()
    };
    written.iter().map(within).max().unwrap_or(0)
}

#[test]
fn the_first_is_written_at_once_and_the_rest_in_growing_windows() {
    let mut coalescer = Coalescer::new(false);
    assert_eq!(take(&mut coalescer, 0, exited("a", "early")).len(), 1);
    assert_eq!(coalescer.next_deadline(), None, "nothing waits, so nobody is woken");
    for _ in 0..412 {
        assert!(take(&mut coalescer, SECOND / 2, exited("a", "early")).is_empty());
    }
    assert_eq!(coalescer.next_deadline(), Some(SECOND));
    let summary = flush(&mut coalescer, SECOND);
    assert_eq!(summary.len(), 1);
    assert_eq!((summary[0].times, summary[0].over), (412, Some(Duration::from_secs(1))));
    assert_eq!(coalescer.next_deadline(), None);
    assert!(take(&mut coalescer, 2 * SECOND, exited("a", "early")).is_empty());
    assert_eq!(coalescer.next_deadline(), Some(11 * SECOND));
    assert_eq!(flush(&mut coalescer, 11 * SECOND)[0].times, 1);
    take(&mut coalescer, 12 * SECOND, exited("a", "early"));
    assert_eq!(coalescer.next_deadline(), Some(71 * SECOND));
    assert_eq!(flush(&mut coalescer, 71 * SECOND).len(), 1);
    assert_eq!(take(&mut coalescer, 132 * SECOND, exited("a", "early")).len(), 1, "after a quiet window: at once");
}

#[test]
fn other_classes_kinds_and_pools_have_windows_of_their_own() {
    let mut coalescer = Coalescer::new(false);
    for event in [exited("a", "early"), exited("a", "crashed"), exited("b", "early"), Event::new(Kind::WorkerKilled)] {
        assert_eq!(take(&mut coalescer, 0, event).len(), 1);
    }
}

/// A storm of all kinds and classes; (instant, lines) of what was written, and how many events that stood for.
fn storm(one_line_each: bool) -> (Vec<(u64, usize)>, u64, u64) {
    let mut coalescer = Coalescer::new(one_line_each);
    let (mut written, mut told, mut sent) = (Vec::new(), 0, 0);
    let note = |now: u64, out: Vec<Event>, written: &mut Vec<(u64, usize)>, told: &mut u64| {
        for event in out {
            written.push((now, lines_of(&event, one_line_each)));
            *told += event.times;
        }
    };
    let classes = ["early", "crashed", "exited", "oom", "killed", "broken", "deaf"];
    for step in 0..100_000u64 {
        let now = step * 5_000_000;
        let kind = Kind::ALL[usize::try_from(step * 7 % Kind::ALL.len() as u64).expect("small")];
        let class = classes[usize::try_from(step / 3 % 7).expect("small")];
        let stderr = (0..20).map(|line| format!("line {line}")).collect();
        let event = Event::new(kind).pool(&pool("a")).class(class).failure().stderr(stderr);
        sent += 1;
        let mut out = Vec::new();
        if kind == Kind::WorkerOutput {
            coalescer.relay(now, event, false, &mut out);
        } else {
            coalescer.take(now, event, &mut out);
        }
        note(now, out, &mut written, &mut told);
        if coalescer.next_deadline().is_some_and(|deadline| deadline <= now) {
            let out = flush(&mut coalescer, now);
            note(now, out, &mut written, &mut told);
        }
    }
    // Quiet again: the loop sleeps from deadline to deadline.
    let mut now = 100_000 * 5_000_000;
    let mut turns = 0;
    while let Some(deadline) = coalescer.next_deadline() {
        assert!(deadline > now || turns == 0, "a deadline that does not come nearer: {deadline} at {now}");
        now = deadline.max(now);
        let out = flush(&mut coalescer, now);
        note(now, out, &mut written, &mut told);
        turns += 1;
        assert!(turns < 1000, "it must become quiet");
    }
    (written, told, sent)
}

#[test]
fn a_storm_of_everything_writes_at_most_thirty_lines_a_minute_and_loses_no_count() {
    for one_line_each in [false, true] {
        let (written, told, sent) = storm(one_line_each);
        let most = most_in_a_minute(&written);
        assert!(most <= KEPT_LINES + OTHER_LINES && most > 20, "{most} lines");
        assert_eq!(told, sent, "every event is told of, alone or in a sum");
    }
}

#[test]
fn what_decides_about_a_pool_has_room_in_any_storm() {
    let mut coalescer = Coalescer::new(true);
    for step in 0..1000 {
        for class in ["early", "crashed", "exited", "oom", "killed", "broken", "deaf", "spawn"] {
            let kind = [Kind::WorkerExited, Kind::WorkerKilled, Kind::WorkerWarned][step % 3];
            let event = Event::new(kind).pool(&pool("a")).class(class).failure();
            take(&mut coalescer, step as u64 * 1_000_000, event);
        }
    }
    let opened = Event::new(Kind::BreakerOpened).pool(&pool("a"));
    assert_eq!(take(&mut coalescer, SECOND, opened).len(), 1);
    let down = Event::new(Kind::PoolDown).pool(&pool("a"));
    assert_eq!(take(&mut coalescer, SECOND, down).len(), 1);
}

#[test]
fn a_report_shows_its_last_lines_within_the_budget() {
    let mut coalescer = Coalescer::new(true);
    let lines = (0..20).map(|line| format!("line {line}")).collect::<Vec<_>>();
    let out = take(&mut coalescer, 0, exited("a", "early").stderr(lines.clone()));
    assert_eq!(out[0].stderr.len(), REPORT_LINES_MAX - 1);
    assert_eq!(out[0].stderr.last().map(String::as_str), Some("line 19"));
    assert!(out[0].stderr[0].contains("13 lines before"), "{}", out[0].stderr[0]);
    let mut one_object = Coalescer::new(false);
    assert_eq!(take(&mut one_object, 0, exited("a", "early").stderr(lines)).remove(0).stderr.len(), 20);
}

#[test]
fn workers_of_a_failing_pool_have_their_lines_counted_and_settled_ones_do_not() {
    let mut coalescer = Coalescer::new(true);
    let line = || Event::new(Kind::WorkerOutput).pool(&pool("a")).message("x");
    let relay = |coalescer: &mut Coalescer, now: u64, settled: bool| {
        let mut out = Vec::new();
        coalescer.relay(now, line(), settled, &mut out);
        out.len()
    };
    assert_eq!(
        (0..100).map(|_| relay(&mut coalescer, 0, false)).sum::<usize>(),
        100,
        "a healthy pool says what it likes"
    );
    take(&mut coalescer, SECOND, exited("a", "early"));
    assert!((0..100).map(|_| relay(&mut coalescer, SECOND, false)).sum::<usize>() <= 1);
    assert_eq!((0..100).map(|_| relay(&mut coalescer, SECOND, true)).sum::<usize>(), 100, "a settled worker does");
    assert_eq!(relay(&mut coalescer, 62 * SECOND, false), 1, "a minute later it is healthy again");
}

#[test]
fn the_end_tells_what_waits() {
    let mut coalescer = Coalescer::new(false);
    for _ in 0..5 {
        take(&mut coalescer, 0, exited("a", "early"));
    }
    let mut out = Vec::new();
    coalescer.finish(1, &mut out);
    assert_eq!(out.iter().map(|event| event.times).sum::<u64>(), 4);
    assert_eq!(coalescer.next_deadline(), None);
}

#[test]
fn quiet_pools_are_forgotten() {
    let mut coalescer = Coalescer::new(false);
    for number in 0..100 {
        take(&mut coalescer, 0, exited(&format!("pool {number}"), "early"));
    }
    flush(&mut coalescer, 61 * SECOND);
    assert!(coalescer.pools.is_empty());
}

#[test]
fn causes_are_told_before_what_they_led_to() {
    let mut coalescer = Coalescer::new(false);
    take(&mut coalescer, 0, exited("site", "early"));
    assert!(take(&mut coalescer, SECOND / 2, exited("site", "early")).is_empty());
    let out = take(&mut coalescer, SECOND / 2 + 1, Event::new(Kind::BreakerOpened).pool(&pool("site")));
    let kinds: Vec<Kind> = out.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [Kind::WorkerExited, Kind::BreakerOpened]);
}

#[test]
fn lines_of_a_young_worker_leave_room_for_the_first_event() {
    let mut coalescer = Coalescer::new(false);
    let mut out = Vec::new();
    for _ in 0..100 {
        coalescer.relay(0, Event::new(Kind::WorkerOutput).pool(&pool("a")).message("x"), false, &mut out);
    }
    assert_eq!(take(&mut coalescer, 0, Event::new(Kind::WorkerWarned).pool(&pool("a"))).len(), 1);
}

#[test]
fn each_answer_to_an_operator_is_written_while_there_is_room() {
    let mut coalescer = Coalescer::new(false);
    let written: usize = (0..12)
        .map(|second| take(&mut coalescer, second * SECOND / 10, Event::new(Kind::SupervisorRefused)).len())
        .sum();
    assert_eq!(written, KEPT_LINES);
    let rest = flush(&mut coalescer, 2 * MINUTE);
    assert_eq!(rest.iter().map(|event| event.times).collect::<Vec<_>>(), [2]);
}
