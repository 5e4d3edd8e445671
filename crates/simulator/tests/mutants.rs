//! Every rule of the policy has a mutant that the suite kills, also with the other layers of its concern off.

use steadfast_simulator::mutants::table;

/// So many seeds are tried where no scenario kills.
const SEEDS: u64 = 2_000;

#[test]
fn the_suite_kills_every_mutant() {
    let table = table(SEEDS, 2);
    let mut lines = String::new();
    let mut survivors = Vec::new();
    for (mutant, killed) in &table {
        let name = mutant.name();
        lines.push_str(&format!("{name:<60} {}\n", killed.as_deref().unwrap_or("SURVIVES")));
        if killed.is_none() {
            survivors.push(name);
        }
    }
    assert!(survivors.is_empty(), "{lines}\n{} survive: {survivors:#?}", survivors.len());
}
