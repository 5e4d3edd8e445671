//! Sentences of the law, each as a short script in and the orders expected out; they serve as tests and kill mutants.

pub mod breaker;
pub mod direct_sizing;
pub mod generations;
pub mod leaving;
pub mod managers;
pub mod repairs;
pub mod requests;
pub mod sizing;
pub mod zygotes;

use crate::scenario::Scenario;

/// All of them.
pub fn all() -> impl Iterator<Item = Scenario> {
    [
        leaving::ALL,
        managers::ALL,
        repairs::ALL,
        breaker::ALL,
        generations::ALL,
        sizing::ALL,
        direct_sizing::ALL,
        requests::ALL,
        zygotes::ALL,
    ]
    .into_iter()
    .flatten()
    .copied()
}
