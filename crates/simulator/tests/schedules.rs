//! The law holds in many schedules, in the kept scripts, and in the same way each time.

use std::path::Path;

use steadfast_policy::rules::Rules;
use steadfast_simulator::crowd::{play_many, shrunk};
use steadfast_simulator::generate::generate;
use steadfast_simulator::{script, world};

/// Half of them long ones.
const SCHEDULES: u64 = 20_000;

#[test]
fn the_law_holds_in_many_schedules() {
    for (short, start) in [(false, 0), (true, 1_000_000)] {
        let (sum, failure) = play_many(start, SCHEDULES / 2, short, Rules::all(), 2);
        if let Some(failure) = failure {
            let small = script::write(&shrunk(&failure, Rules::all()));
            panic!("seed {} broke {}\n{small}", failure.seed, failure.breach);
        }
        assert_eq!(sum.schedules, SCHEDULES / 2);
    }
}

/// Whoever takes over from another policy keeps the law as that one would have.
#[test]
fn the_law_holds_across_handovers() {
    let mut handovers = 0;
    for seed in 0..SCHEDULES / 10 {
        let case = generate(seed, false);
        let (tally, result) = world::play_handed_over(&case, Rules::all());
        if let Err(breach) = result {
            panic!("seed {seed}: {breach}\n{}", script::write(&case));
        }
        handovers += tally.handovers;
    }
    assert!(handovers > SCHEDULES / 10, "{handovers} handovers");
}

#[test]
fn the_kept_scripts_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder of fixtures is there") {
        let path = entry.expect("a readable folder").path();
        let text = std::fs::read_to_string(&path).expect("a readable script");
        let case = script::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if let Err(breach) = world::play(&case, Rules::all(), false).1 {
            panic!("{}: {breach}", path.display());
        }
        count += 1;
    }
    assert!(count > 0, "no scripts in {}", folder.display());
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let mut traces = Vec::new();
    for seed in 0..60 {
        let case = generate(seed, seed % 2 == 0);
        let (first, _) = world::play(&case, Rules::all(), true);
        let (second, _) = world::play(&case, Rules::all(), true);
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_ne!(first.trace, 0, "seed {seed} has no trace");
        traces.push(first.trace);
    }
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 60, "two seeds have the same trace");
}

#[test]
fn a_script_comes_back_as_it_was() {
    for seed in 0..500 {
        let case = generate(seed, seed % 2 == 0);
        let text = script::write(&case);
        assert_eq!(script::parse(&text).as_ref(), Ok(&case), "{text}");
    }
}

#[test]
fn a_line_that_makes_no_sense_is_named() {
    let text = script::write(&generate(1, true));
    let wrong = format!("{text}at 5 pool 0 dance\n");
    let error = script::parse(&wrong).expect_err("nobody dances");
    assert!(error.contains("dance"), "{error}");
}
