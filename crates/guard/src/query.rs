//! Which entries of a journal the rules must see, and which fields of them: what journald is asked for.

use crate::pattern::Voice;
use crate::rule::Rule;

/// Fields that the machine itself looks at.
const FIELDS: [&str; 10] = [
    "MESSAGE",
    "MESSAGE_ID",
    "STEADFAST_EVENT",
    "STEADFAST_TIMES",
    "UNIT",
    "_BOOT_ID",
    "_PID",
    "_SYSTEMD_INVOCATION_ID",
    "_SYSTEMD_UNIT",
    "SYSLOG_IDENTIFIER",
];
/// journald's word on lines that it has dropped.
const SUPPRESSED: &str = "MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// An entry is wanted when it has all of the fields of one of these, as `NAME=value`.
    pub alternatives: Vec<Vec<String>>,
    /// These fields of it.
    pub fields: Vec<String>,
}

impl Query {
    /// For these rules together.
    #[must_use]
    pub fn of<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Query {
        let mut alternatives = vec![vec![SUPPRESSED.to_owned()]];
        let mut fields: Vec<String> = FIELDS.map(str::to_owned).to_vec();
        for rule in rules {
            let has = |voice| rule.patterns.iter().any(|pattern| pattern.voice() == voice);
            if has(Voice::Unit) {
                alternatives.push(vec![format!("_SYSTEMD_UNIT={}", rule.unit)]);
            }
            if has(Voice::Systemd) {
                alternatives.push(vec!["_PID=1".to_owned(), format!("UNIT={}", rule.unit)]);
            }
            fields.extend(rule.patterns.iter().map(|pattern| pattern.looks_at().to_owned()));
        }
        alternatives.sort();
        alternatives.dedup();
        fields.sort();
        fields.dedup();
        Query { alternatives, fields }
    }

    /// The same, of this machine only.
    #[must_use]
    pub fn on_machine(&self, machine: &str) -> Query {
        let mut query = self.clone();
        for alternative in &mut query.alternatives {
            alternative.push(format!("_MACHINE_ID={machine}"));
        }
        query
    }

    /// As journalctl(1) takes them.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let fields = format!("--output-fields={}", self.fields.join(","));
        let mut arguments = vec!["--output=export".to_owned(), fields, "--quiet".to_owned()];
        for (index, alternative) in self.alternatives.iter().enumerate() {
            if index > 0 {
                arguments.push("+".to_owned());
            }
            arguments.extend(alternative.iter().cloned());
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pattern::Pattern;
    use crate::rule::{Action, Budget, Source};

    #[test]
    fn journald_is_asked_for_no_more_than_the_rules_can_match() {
        let rule = |unit: &str, patterns| Rule {
            name: unit.to_owned(),
            unit: unit.to_owned(),
            patterns,
            source: Source::Journal,
            failures: 1,
            within: Duration::from_secs(1),
            action: Action::Notify,
            grace: Duration::ZERO,
            budget: Budget { actions: 1, within: Duration::from_secs(1) },
            lock: None,
            notify: None,
            timeout: Duration::from_secs(1),
        };
        let rules = [
            rule("a.service", vec![Pattern::message("x", Voice::Unit).expect("a pattern")]),
            rule("b.service", vec![Pattern::is("EXIT_STATUS", "1", Voice::Systemd)]),
            rule("a.service", vec![Pattern::message("y", Voice::Unit).expect("a pattern")]),
        ];
        let arguments = Query::of(&rules).on_machine("m").arguments();
        let (options, matches) = arguments.split_at(3);
        assert!(options[1].starts_with("--output-fields=") && options[1].contains("EXIT_STATUS"));
        let wanted = "MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e _MACHINE_ID=m + _PID=1 UNIT=b.service _MACHINE_ID=m + \
                      _SYSTEMD_UNIT=a.service _MACHINE_ID=m";
        assert_eq!(matches.join(" "), wanted);
    }
}
