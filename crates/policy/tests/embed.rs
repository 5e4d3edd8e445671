//! The example of an embedded policy does what its documentation says.

use std::path::PathBuf;
use std::process::{Command, Output};

fn run(kind: &str) -> (Output, String) {
    // cargo builds examples beside the tests: target/PROFILE/{deps,examples}.
    let me = std::env::current_exe().expect("a path");
    let program: PathBuf = me.parent().and_then(|deps| deps.parent()).expect("deps").join("examples/embed");
    let output = Command::new(&program).arg(kind).output().unwrap_or_else(|error| {
        panic!("{}: {error}: build it first (cargo build -p steadfast-policy --examples)", program.display())
    });
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[test]
fn good_workers_serve_until_it_is_enough() {
    let (output, said) = run("good");
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("all workers serve") && said.contains("20 requests were served"), "{said}");
}

#[test]
fn workers_that_cycle_rapidly_are_noticed_and_the_program_decides() {
    let (output, said) = run("broken");
    assert_eq!(output.status.code(), Some(69), "{said}");
    let starts = said.matches("has ended (early)").count();
    assert!((3..=8).contains(&starts), "{starts} starts: {said}");
    assert!(said.contains("the workers cycle rapidly: Failures(Early). Giving up in good order"), "{said}");
}
