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
