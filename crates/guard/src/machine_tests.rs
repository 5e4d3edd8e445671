//! The law of the guard, sentence by sentence; and the window beside one that anybody can read.

use proptest::prelude::*;

use super::*;
use crate::pattern::Pattern;
use crate::rehearsal::{Fired, Rehearsal};
use crate::rule::{Budget, Source};

const SECOND: u64 = 1_000_000;
const FIRST: &str = "11111111111111111111111111111111";
const SECOND_LIFE: &str = "22222222222222222222222222222222";
const BOOT: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn rule() -> Rule {
    Rule {
        name: "site".to_owned(),
        unit: "site.service".to_owned(),
        patterns: vec![Pattern::message("died", Voice::Unit).expect("a pattern")],
        source: Source::Journal,
        failures: 10,
        within: Duration::from_secs(90),
        action: Action::Restart,
        grace: Duration::from_secs(30),
        budget: Budget { actions: 3, within: Duration::from_secs(3600) },
        lock: None,
        notify: None,
        timeout: Duration::from_secs(300),
    }
}

fn entry(micros: u64, fields: &[(&str, &str)]) -> Entry {
    let mut entry = Entry { realtime: 1_700_000_000 * SECOND + micros, monotonic: 1 + micros, ..Entry::default() };
    let fields = fields.iter().chain(&[("_BOOT_ID", BOOT)]);
    entry.fields = fields.map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    entry
}

fn died(micros: u64, life: &str) -> Entry {
    let unit = ("_SYSTEMD_UNIT", "site.service");
    entry(micros, &[("MESSAGE", "worker died"), unit, ("_SYSTEMD_INVOCATION_ID", life)])
}

fn moment(micros: u64) -> Moment {
    Moment::of(&died(micros, FIRST))
}

fn well(life: &str, entered: u64) -> Facts {
    Facts { entered: Some(moment(entered)), ..Facts::well(Id::parse(life.as_bytes())) }
}

/// A machine, and what it was told and has said.
struct Stage {
    machine: Machine,
    notes: Vec<(Topic, String)>,
}

impl Stage {
    fn new(rule: Rule) -> Stage {
        Stage { machine: Machine::new(Arc::new(rule), None), notes: Vec::new() }
    }

    fn tell(&mut self, entry: &Entry) -> Vec<&'static str> {
        self.machine.handle_entry(entry, Moment::of(entry));
        self.orders()
    }

    /// A word for each order, notes aside.
    fn orders(&mut self) -> Vec<&'static str> {
        let mut words = Vec::new();
        while let Some(order) = self.machine.next_order() {
            match order {
                Order::Ask => words.push("ask"),
                Order::Act(_) => words.push("act"),
                Order::Notify(..) => words.push("notify"),
                Order::StandBack(_) => words.push("stand back"),
                Order::Tell(note) => self.notes.push((note.topic, note.message)),
            }
        }
        words
    }

    fn facts(&mut self, facts: Facts, now: u64) -> Vec<&'static str> {
        self.machine.handle_facts(Ok(facts), moment(now));
        self.orders()
    }

    fn done(&mut self, result: Result<(), String>, now: u64) -> Vec<&'static str> {
        self.machine.handle_done(Outcome { result, resumed: None }, moment(now));
        self.orders()
    }

    /// Ten lines, a millisecond apart; the last one fills the window.
    fn fill(&mut self, from: u64, life: &str) {
        for number in 0..9 {
            assert!(self.tell(&died(from + number * 1000, life)).is_empty());
        }
        assert_eq!(self.tell(&died(from + 9000, life)), ["ask"]);
    }

    fn count(&self, topic: Topic) -> usize {
        self.notes.iter().filter(|(told, _)| *told == topic).count()
    }
}

#[test]
fn nine_do_nothing_and_the_tenth_asks_before_it_acts() {
    let mut stage = Stage::new(rule());
    stage.fill(0, FIRST);
    assert_eq!(stage.facts(well(FIRST, 0), 10_000), ["act"]);
    assert_eq!((stage.count(Topic::Matched), stage.count(Topic::Acted)), (10, 1));
    assert!(stage.notes.last().expect("a note").1.contains("restart: 10 lines within 90 s; the first: worker died"));
}

#[test]
fn ten_in_exactly_the_time_fire_and_a_microsecond_more_does_not() {
    for (last, wanted) in [(90 * SECOND, vec!["ask"]), (90 * SECOND + 1, vec![]), (91 * SECOND, vec![])] {
        let mut stage = Stage::new(rule());
        for number in 0..9 {
            stage.tell(&died(number * 10 * SECOND, FIRST));
        }
        assert_eq!(stage.tell(&died(last, FIRST)), wanted, "{last}");
    }
}

#[test]
fn after_a_restart_the_grace_runs_from_the_moment_of_being_active_again() {
    let mut stage = Stage::new(rule());
    stage.fill(0, FIRST);
    stage.facts(well(FIRST, 0), 10_000);
    // What is written while it stops counts for nothing.
    assert!(stage.tell(&died(SECOND, FIRST)).is_empty());
    assert_eq!(stage.done(Ok(()), 60 * SECOND), ["ask"]);
    let starting = Facts { active: Active::Activating, ..well(SECOND_LIFE, 0) };
    assert!(stage.facts(starting, 60 * SECOND).is_empty());
    let wait = stage.machine.wait(moment(60 * SECOND)).expect("asks again");
    stage.machine.handle_time(moment(60 * SECOND).after(wait));
    assert_eq!(stage.orders(), ["ask"]);
    assert!(stage.facts(well(SECOND_LIFE, 61 * SECOND), 62 * SECOND).is_empty());
    for number in 0..20 {
        assert!(stage.tell(&died(61 * SECOND + number, SECOND_LIFE)).is_empty());
    }
    assert!(stage.tell(&died(91 * SECOND - 1, SECOND_LIFE)).is_empty(), "one microsecond within");
    assert_eq!(stage.count(Topic::Ignored), 1, "the first is told");
    stage.fill(91 * SECOND, SECOND_LIFE);
    assert_eq!(stage.count(Topic::Ignored), 2, "and then how many there were");
}

#[test]
fn the_fourth_time_within_the_hour_the_guard_stands_back() {
    let mut told = rule();
    told.notify = Some(vec!["/bin/true".to_owned()]);
    let mut stage = Stage::new(told);
    for round in 0..3 {
        let at = round * 100 * SECOND;
        stage.fill(at, FIRST);
        assert_eq!(stage.facts(well(FIRST, 0), at + 10_000), ["notify", "act"]);
        stage.done(Err("systemctl restart failed".to_owned()), at + 20_000);
    }
    stage.fill(300 * SECOND, FIRST);
    assert_eq!(stage.facts(well(FIRST, 0), 301 * SECOND), ["notify", "stand back"]);
    stage.fill(400 * SECOND, FIRST);
    assert_eq!(stage.facts(well(FIRST, 0), 401 * SECOND), ["stand back"], "people have been told");
    assert_eq!((stage.count(Topic::Acted), stage.count(Topic::Failed), stage.count(Topic::GaveUp)), (3, 3, 1));
    stage.fill(3900 * SECOND, FIRST);
    assert_eq!(stage.facts(well(FIRST, 0), 3901 * SECOND), ["notify", "act"], "one try in an hour");
}

#[test]
fn while_somebody_else_is_at_the_unit_nothing_is_done_and_that_is_said_once() {
    let mut stage = Stage::new(rule());
    let locked = Facts { is_locked: true, ..well(FIRST, 0) };
    for round in 0..3 {
        stage.fill(round * SECOND, FIRST);
        assert!(stage.facts(locked, round * SECOND).is_empty());
    }
    assert_eq!(stage.count(Topic::Ignored), 1);
    stage.fill(10 * SECOND, FIRST);
    assert!(stage.facts(Facts { active: Active::Deactivating, ..well(FIRST, 0) }, 0).is_empty());
    assert_eq!(stage.count(Topic::Ignored), 2, "another reason is news");
    stage.fill(20 * SECOND, FIRST);
    assert_eq!(stage.facts(well(FIRST, 0), 21 * SECOND), ["act"]);
}

#[test]
fn lines_of_an_earlier_life_do_not_count() {
    let mut stage = Stage::new(rule());
    for number in 0..9 {
        stage.tell(&died(number, FIRST));
    }
    assert!(stage.tell(&died(10, SECOND_LIFE)).is_empty(), "the operator has restarted it: one of ten");
    for number in 0..20 {
        assert!(stage.tell(&died(20 + number, FIRST)).is_empty(), "late lines");
    }
    for number in 0..8 {
        assert!(stage.tell(&died(50 + number, SECOND_LIFE)).is_empty());
    }
    assert_eq!(stage.tell(&died(60, SECOND_LIFE)), ["ask"]);
    // It has been restarted since, which only systemd knows.
    assert!(stage.facts(well("33333333333333333333333333333333", 0), 70).is_empty());
    assert!(stage.notes.last().expect("a note").1.contains("started anew since"));
}

#[test]
fn what_others_say_about_the_unit_does_not_count() {
    let mut stage = Stage::new(rule());
    for number in 0..20 {
        let about = [("MESSAGE", "site.service: worker died"), ("UNIT", "site.service"), ("_PID", "1")];
        let of_guard =
            [("MESSAGE", "10 of 10: died"), ("_SYSTEMD_UNIT", "site.service"), ("STEADFAST_EVENT", "guard-matched")];
        let of_steadfast = [
            ("MESSAGE", "worker-exited: died"),
            ("_SYSTEMD_UNIT", "site.service"),
            ("STEADFAST_EVENT", "worker-exited"),
        ];
        let forged = [("MESSAGE", "died"), ("UNIT", "site.service"), ("_PID", "7"), ("_SYSTEMD_UNIT", "evil.service")];
        for fields in [&about[..], &of_guard[..], &of_steadfast[..], &forged[..]] {
            assert!(stage.tell(&entry(number, fields)).is_empty());
        }
    }
    assert!(stage.notes.is_empty());
    let of_worker = [("MESSAGE", "died"), ("_SYSTEMD_UNIT", "site.service"), ("STEADFAST_EVENT", "worker-output")];
    stage.tell(&entry(30, &of_worker));
    assert_eq!(stage.count(Topic::Matched), 1, "what its workers say is theirs");
}

#[test]
fn what_systemd_says_counts_where_it_is_asked_for_and_over_restarts() {
    let mut about = rule();
    about.patterns = vec![Pattern::is("EXIT_STATUS", "1", Pattern::usual_voice("EXIT_STATUS"))];
    about.failures = 2;
    let mut stage = Stage::new(about);
    let line = |at, life| {
        let fields = [("EXIT_STATUS", "1"), ("UNIT", "site.service"), ("_PID", "1"), ("INVOCATION_ID", life)];
        entry(at, &fields)
    };
    assert!(stage.tell(&line(0, FIRST)).is_empty());
    assert!(stage.tell(&died(1, SECOND_LIFE)).is_empty(), "the unit's own line is no match here");
    assert_eq!(stage.tell(&line(2, SECOND_LIFE)), ["ask"]);
}

#[test]
fn a_coalesced_line_counts_as_many_as_it_says() {
    let mut stage = Stage::new(rule());
    let line = |at, text| entry(at, &[("MESSAGE", text), ("_SYSTEMD_UNIT", "site.service")]);
    stage.tell(&line(0, "worker died"));
    assert!(stage.tell(&line(1, "last message repeated 8 times")).is_empty(), "nine");
    stage.tell(&line(2, "something else"));
    assert!(stage.tell(&line(3, "last message repeated 100 times")).is_empty(), "of what does not count");
    assert_eq!(stage.tell(&line(4, "worker died ×412 in 10 s")), ["ask"]);
    stage.facts(Facts::well(None), 5);
    assert!(stage.notes.iter().any(|(topic, text)| *topic == Topic::Acted && text.contains("421 lines")));
}

#[test]
fn dropped_lines_are_a_warning_and_no_match() {
    let mut stage = Stage::new(rule());
    let id = "a596d6fe7bfa4994828e72309e95d61e";
    let journald = [
        ("MESSAGE", "Suppressed 500 messages from site.service"),
        ("MESSAGE_ID", id),
        ("_SYSTEMD_UNIT", "systemd-journald.service"),
    ];
    stage.tell(&entry(0, &journald));
    assert_eq!((stage.count(Topic::Warned), stage.count(Topic::Matched)), (1, 0));
    let other = [("MESSAGE", "Suppressed 500 messages from xsite.service"), ("MESSAGE_ID", id)];
    stage.tell(&entry(0, &other));
    assert_eq!(stage.count(Topic::Warned), 1);
}

#[test]
fn a_clock_that_is_set_moves_no_line() {
    let step = |by: i64| {
        let mut stage = Stage::new(rule());
        for number in 0..9 {
            stage.tell(&died(number * SECOND, FIRST));
        }
        let mut tenth = died(9 * SECOND, FIRST);
        tenth.realtime = tenth.realtime.saturating_add_signed(by);
        stage.tell(&tenth)
    };
    for by in [-315_000_000_000_000, -3_600_000_000, 3_600_000_000, 315_000_000_000_000] {
        assert_eq!(step(by), ["ask"], "{by}");
    }
}

#[test]
fn lines_that_were_old_when_the_guard_began_do_not_count() {
    let mut stage = Stage::new(rule());
    stage.machine.began = Some(moment(100 * SECOND));
    for number in 0..20 {
        stage.tell(&died(number, FIRST));
    }
    assert!(stage.notes.is_empty());
    stage.tell(&died(10 * SECOND, FIRST));
    assert_eq!(stage.count(Topic::Matched), 1, "90 s old");
}

#[test]
fn a_guard_that_was_killed_goes_on_where_it_was() {
    let mut stage = Stage::new(rule());
    for number in 0..6 {
        stage.tell(&died(number, FIRST));
    }
    assert!(stage.machine.take_changed());
    let text = serde_json::to_string(stage.machine.saved()).expect("JSON");
    let saved: Saved = serde_json::from_str(&text).expect("the same");
    stage.machine = Machine::resume(Arc::new(rule()), saved, moment(10));
    for number in 6..9 {
        assert!(stage.tell(&died(number, FIRST)).is_empty());
    }
    assert_eq!(stage.tell(&died(10, FIRST)), ["ask"]);
    assert_eq!(stage.facts(well(FIRST, 0), 11), ["act"]);
    // Killed while it acts. Either the restart has happened …
    let saved = stage.machine.saved().clone();
    stage.machine = Machine::resume(Arc::new(rule()), saved.clone(), moment(20));
    assert_eq!(stage.orders(), ["ask"]);
    assert!(stage.facts(well(SECOND_LIFE, 15), 21).is_empty());
    stage.machine.handle_time(moment(22));
    assert_eq!(stage.orders(), ["ask"], "until it is active again");
    assert!(stage.facts(well(SECOND_LIFE, 15), 23).is_empty());
    assert!(stage.machine.status(moment(24)).ends_with("grace"));
    // … or it has not, and is asked for again, out of the same budget.
    stage.machine = Machine::resume(Arc::new(rule()), saved, moment(20));
    stage.orders();
    assert_eq!(stage.facts(well(FIRST, 0), 21), ["act"]);
    assert_eq!(stage.machine.saved().ledger.acted(), 1);
}

#[test]
fn a_systemd_that_cannot_be_asked_is_asked_again_and_then_left() {
    let mut stage = Stage::new(rule());
    stage.fill(0, FIRST);
    for _ in 0..2 {
        stage.machine.handle_facts(Err("no bus".to_owned()), moment(10_000));
        let wait = stage.machine.wait(moment(10_000)).expect("again");
        assert!(!wait.is_zero());
        stage.machine.handle_time(moment(10_000));
        assert!(stage.orders().is_empty(), "not yet");
        stage.machine.handle_time(moment(10_000).after(wait));
        assert_eq!(stage.orders(), ["ask"]);
    }
    stage.machine.handle_facts(Err("no bus".to_owned()), moment(10_000));
    assert!(stage.orders().is_empty());
    assert!(stage.notes.last().expect("a note").1.contains("systemd cannot be asked: no bus"));
    assert_eq!(stage.machine.wait(moment(20_000)), None);
    stage.fill(SECOND, FIRST);
}

/// The rule as anybody would write it down: the times of lines in, the times of actions out.
fn naive(lines: &[u64], failures: usize, within: u64, grace: u64) -> Vec<u64> {
    let (mut window, mut quiet_until, mut fired) = (Vec::new(), 0, Vec::new());
    for &line in lines {
        if line < quiet_until {
            continue;
        }
        window.push(line);
        window.retain(|&then| line - then <= within);
        if window.len() == failures {
            fired.push(line);
            window.clear();
            quiet_until = line + grace;
        }
    }
    fired
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_past_is_as_a_naive_script_sees_it(
        gaps in prop::collection::vec(prop_oneof![0u64..3, 0u64..2000, Just(1000u64), 0u64..50_000], 0..200),
        failures in 1u64..12,
        within in 0u64..20_000,
        grace in prop_oneof![Just(0u64), 0u64..10_000],
    ) {
        let mut at = 1_700_000_000_000_000;
        let lines: Vec<u64> = gaps.iter().map(|gap| { at += gap; at }).collect();
        let mut rule = rule();
        rule.failures = failures;
        rule.within = Duration::from_micros(within);
        rule.grace = Duration::from_micros(grace);
        let mut rehearsal = Rehearsal::new([Arc::new(rule)]);
        let mut fired: Vec<Fired> = Vec::new();
        for &line in &lines {
            let mut entry = died(0, FIRST);
            entry.realtime = line;
            rehearsal.entry(&entry, |one| { fired.push(one); Ok::<(), ()>(()) }).expect("always");
        }
        let failures = usize::try_from(failures).expect("small");
        let times: Vec<u64> = fired.iter().map(|fired| fired.at).collect();
        prop_assert_eq!(times, naive(&lines, failures, within, grace));
    }
}
