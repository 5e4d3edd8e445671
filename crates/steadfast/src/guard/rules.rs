//! The rules of a configuration as the guard understands them.

use std::sync::Arc;

use steadfast_config::load::Examined;
use steadfast_config::types::{Config, GuardAction, GuardRule, GuardSource, Match, MatchFrom, MatchTest};
use steadfast_guard::pattern::{Pattern, Voice};
use steadfast_guard::rule::{Action, Budget, Rule, Source};
use steadfast_guard::sets;

/// What is wrong with an item of `match`, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Adds what is wrong with the patterns of a configuration to what else is wrong with it.
pub(crate) fn compare(examined: &mut Examined) {
    let mut found = Vec::new();
    for (name, rule) in &examined.config().guard.rules {
        for (index, item) in rule.patterns.iter().enumerate() {
            if let Err(wrong) = patterns(item) {
                found.push((format!("guard.{name}.match[{index}]"), wrong));
            }
        }
    }
    for (key_path, wrong) in found {
        examined.refuse(&key_path, &wrong.message, wrong.hint);
    }
}

/// The rules of a configuration that [`compare`] finds nothing wrong with.
pub(crate) fn of(config: &Config) -> Result<Vec<Arc<Rule>>, Wrong> {
    config.guard.rules.values().map(|rule| one(rule).map(Arc::new)).collect()
}

fn one(rule: &GuardRule) -> Result<Rule, Wrong> {
    let mut all = Vec::new();
    for item in &rule.patterns {
        all.extend(patterns(item)?);
    }
    Ok(Rule {
        name: rule.name.clone(),
        unit: rule.unit.clone(),
        patterns: all,
        source: match &rule.source {
            GuardSource::Journal => Source::Journal,
            GuardSource::File(path) => Source::File(path.clone()),
            GuardSource::Stdin => Source::Stdin,
        },
        failures: rule.failures.into(),
        within: rule.within,
        action: match &rule.action {
            GuardAction::Restart => Action::Restart,
            GuardAction::Reload => Action::Reload,
            GuardAction::Stop => Action::Stop,
            GuardAction::Notify => Action::Notify,
            GuardAction::Command(command) => Action::Command(command.clone()),
        },
        grace: rule.grace,
        budget: Budget { actions: rule.budget_actions, within: rule.budget_within },
        lock: rule.lock.clone(),
        notify: rule.notify.clone(),
        timeout: rule.timeout,
    })
}

/// The patterns of one item.
pub(crate) fn patterns(item: &Match) -> Result<Vec<Pattern>, Wrong> {
    let from = |usual: Voice| match item.from {
        None => usual,
        Some(MatchFrom::Unit) => Voice::Unit,
        Some(MatchFrom::Systemd) => Voice::Systemd,
    };
    let pattern = match &item.test {
        MatchTest::Set(name) => return set(name),
        MatchTest::Message(regex) => Pattern::message(regex, from(Voice::Unit)).map_err(|bad| (regex, bad)),
        MatchTest::Is { field, value } => Ok(Pattern::is(field, value, from(Pattern::usual_voice(field)))),
        MatchTest::Matches { field, regex } => {
            Pattern::field(field, regex, from(Pattern::usual_voice(field))).map_err(|bad| (regex, bad))
        }
    };
    pattern.map(|pattern| vec![pattern]).map_err(|(regex, bad)| {
        let shown: String = regex.chars().take(80).collect();
        let message = format!("{shown:?} is not a regular expression: {bad}");
        Wrong {
            message,
            hint: Some("the syntax is that of docs.rs/regex; a plain sign such as ( is written \\\\(".into()),
        }
    })
}

fn set(name: &str) -> Result<Vec<Pattern>, Wrong> {
    let Some(set) = sets::find(name) else {
        let shown: String = name.chars().take(80).collect();
        let names: Vec<String> = sets::ALL.iter().map(|set| format!("@{}", set.name)).collect();
        let message = format!("there is no set of patterns @{shown}");
        return Err(Wrong { message, hint: Some(format!("one of {}", names.join(", "))) });
    };
    set.patterns().map_err(|bad| Wrong { message: format!("the set @{name} is broken: {bad}"), hint: None })
}
