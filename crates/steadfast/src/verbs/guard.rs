//! `steadfast guard`: its rules from a file or the command line, and who does what with them.

use std::path::Path;
use std::sync::Arc;

use steadfast_config::load::{self, Loaded};
use steadfast_guard::rule::Rule;
use steadfast_guard::sets;
use steadfast_proto::exit::ExitCode;

use crate::arguments::Target;
use crate::failure::Failure;
use crate::guard::options::{Guard, GuardVerb, Test};
use crate::guard::{rehearse, rules, serve};
use crate::output;
use crate::places::{self, Around};
use crate::verbs::run::broken;

pub(super) fn guard(guard: &Guard, target: &Target, around: &Around) -> Result<ExitCode, Failure> {
    match &guard.verb {
        GuardVerb::Test(test) => rehearse::rehearse(test, &tested(test, target, around)?),
        GuardVerb::Run(run) => {
            let file = places::configuration(target.config.as_deref(), around)?;
            let (loaded, rules) = read(&file, around)?;
            serve::serve(run, &loaded.config, rules)
        }
        GuardVerb::Sets => {
            let lines: String = sets::ALL.iter().map(|set| format!("@{:<25} {}\n", set.name, set.about)).collect();
            output::result(&lines).map(|()| ExitCode::Good)
        }
    }
}

/// The rules that are rehearsed.
fn tested(test: &Test, target: &Target, around: &Around) -> Result<Vec<Arc<Rule>>, Failure> {
    if let Some(unit) = &test.unit
        && !test.patterns.is_empty()
    {
        return Ok(vec![Arc::new(rehearse::typed(test, unit)?)]);
    }
    let file = places::configuration(target.config.as_deref(), around)
        .map_err(|failure| failure.hint("name a file with -c FILE, or write UNIT --match RE"))?;
    let (_, mut all) = read(&file, around)?;
    if let Some(wanted) = &test.unit {
        let service = format!("{wanted}.service");
        all.retain(|rule| [&rule.name, &rule.unit].contains(&wanted) || rule.unit == service);
        if all.is_empty() {
            let message = format!("{} has no rule for {wanted}", file.display());
            return Err(Failure::new(ExitCode::Usage, message).hint("write its name, or add --match RE"));
        }
    }
    Ok(all)
}

/// The file, and the rules in it.
fn read(file: &Path, around: &Around) -> Result<(Loaded, Vec<Arc<Rule>>), Failure> {
    let mut examined = load::examine(file, &around.context());
    rules::compare(&mut examined);
    let loaded = examined.finish().map_err(|report| broken(&report))?;
    let rules = rules::of(&loaded.config).map_err(|wrong| Failure::new(ExitCode::Configuration, wrong.message))?;
    if rules.is_empty() {
        let message = format!("{} has no rule for the guard", file.display());
        return Err(
            Failure::new(ExitCode::Configuration, message).hint("write a table [guard.NAME] with `unit` and `match`")
        );
    }
    if !loaded.warnings.is_empty() {
        output::message(&loaded.warnings.render(output::stderr_style().colour));
    }
    Ok((loaded, rules))
}
