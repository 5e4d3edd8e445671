//! Which rules can be shown to be tested: each has a mutant that the suite kills, also with the other layers off.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use steadfast_policy::rules::{Rule, Rules};

use crate::crowd::broken;
use crate::generate::generate;
use crate::scenarios;

/// Rules that guard the same thing, each able to hide that another one is missing.
pub const CONCERNS: &[&[Rule]] = &[
    &[Rule::Backoff, Rule::RepairBucket, Rule::BreakerOpens, Rule::PlannedBound],
    &[Rule::BreakerHolds, Rule::Backoff, Rule::RepairBucket],
    &[Rule::CandidateRefused, Rule::Rollback, Rule::BreakerOpens],
    &[Rule::CandidateCanary, Rule::PlannedBound],
    &[Rule::Soak, Rule::PlannedBound],
    &[Rule::SurgeBound, Rule::PlannedBound, Rule::Soak],
    &[Rule::Quarantine, Rule::PoisonWeightless],
    &[Rule::KilledBlameless, Rule::MassDeathOnce, Rule::Backoff],
    &[Rule::UnavailableBlameless, Rule::UnavailableWait, Rule::Backoff],
    &[Rule::HostBlameless, Rule::RepairBucket],
    &[Rule::HostBackoff, Rule::RepairBucket],
    &[Rule::ReadyTimeout, Rule::VerifyTimeout, Rule::BreakerOpens],
    &[Rule::StopDeadline, Rule::TermAgain],
    &[Rule::ChangedFilesApart, Rule::ChangedFilesRest],
];

/// A rule to be switched off, and the others of its concern that are off already.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// The rule that the suite must miss.
    pub rule: Rule,
    /// Off in the baseline too.
    pub ablated: Vec<Rule>,
}

impl Mutant {
    /// For people.
    pub fn name(&self) -> String {
        match self.ablated.is_empty() {
            true => format!("{:?}", self.rule),
            false => format!("{:?}, without {:?}", self.rule, self.ablated),
        }
    }

    /// The rules without the ablated ones.
    pub fn baseline(&self) -> Rules {
        self.ablated.iter().fold(Rules::all(), |rules, &rule| rules.without(rule))
    }

    /// … and without the rule itself.
    pub fn rules(&self) -> Rules {
        self.baseline().without(self.rule)
    }
}

/// Every rule alone, then every rule of every concern with the other ones off.
pub fn all() -> Vec<Mutant> {
    let alone = Rule::ALL.iter().map(|&rule| Mutant { rule, ablated: Vec::new() });
    let ablations = CONCERNS.iter().flat_map(|concern| {
        concern
            .iter()
            .map(|&rule| Mutant { rule, ablated: concern.iter().copied().filter(|&other| other != rule).collect() })
    });
    alone.chain(ablations).collect()
}

/// What kills the mutant: the first scenario, or else seed (of so many), that holds in the baseline and not in the
/// mutant.
pub fn killer(mutant: &Mutant, seeds: u64) -> Option<String> {
    let (baseline, rules) = (mutant.baseline(), mutant.rules());
    let scenario = scenarios::all().find(|scenario| (scenario.act)(rules).is_err() && (scenario.act)(baseline).is_ok());
    if let Some(scenario) = scenario {
        return Some(scenario.name.into());
    }
    (0..seeds).find_map(|seed| {
        let case = generate(seed, false);
        let law = broken(&case, rules)?;
        (broken(&case, baseline).is_none()).then(|| format!("seed {seed}: {}", law.word()))
    })
}

/// Every mutant with its killer, found by so many threads.
pub fn table(seeds: u64, threads: usize) -> Vec<(Mutant, Option<String>)> {
    let mutants = all();
    let next = AtomicUsize::new(0);
    let killers = Mutex::new(vec![None; mutants.len()]);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(mutant) = mutants.get(index) else { break };
                    let found = killer(mutant, seeds);
                    killers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[index] = found;
                }
            });
        }
    });
    let killers = killers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    mutants.into_iter().zip(killers).collect()
}
