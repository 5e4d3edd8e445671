//! Every rule of the policy has a mutant that the suite kills, also with the other layers of its concern off.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use steadfast_simulator::mutants::{all, killer};

/// So many seeds are tried where no scenario kills.
const SEEDS: u64 = 3_000;

#[test]
fn the_suite_kills_every_mutant() {
    let mutants = all();
    let next = AtomicUsize::new(0);
    let table = Mutex::new(vec![None; mutants.len()]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(mutant) = mutants.get(index) else { break };
                    let killed = killer(mutant, SEEDS);
                    if let Ok(mut table) = table.lock() {
                        table[index] = killed;
                    }
                }
            });
        }
    });
    let table = table.into_inner().expect("no thread panicked");
    let mut survivors = Vec::new();
    let mut lines = String::new();
    for (mutant, killed) in mutants.iter().zip(&table) {
        let name = match mutant.ablated.is_empty() {
            true => format!("{:?}", mutant.rule),
            false => format!("{:?}, without {:?}", mutant.rule, mutant.ablated),
        };
        let by = killed.as_deref().unwrap_or("SURVIVES");
        lines.push_str(&format!("{name:<70} {by}\n"));
        if killed.is_none() {
            survivors.push(name);
        }
    }
    assert!(survivors.is_empty(), "{lines}\n{} survive: {survivors:#?}", survivors.len());
}
