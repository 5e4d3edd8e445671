//! `[guard.NAME]`: what is looked for in the journal of a unit, and what is done then.

use std::path::Path;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::known;
use crate::report::Findings;
use crate::tree::{Table, article, choice, choose, number, parsed, shortened, string, word};
use crate::types::{Guard, GuardAction, GuardRule, GuardSource, Match, MatchFrom, MatchTest};
use crate::values::{self, Complaint, duration, positive};

/// The most lines that a rule may wait for: they are all kept.
const FAILURES_MAX: i128 = 1_000;
/// systemd's own limit for names of units.
const UNIT_MAX: usize = 255;
/// The kinds of units.
const SUFFIXES: [&str; 8] = [".service", ".socket", ".target", ".mount", ".automount", ".path", ".timer", ".scope"];
/// What can stand in `action`.
const ACTIONS: &[(&str, ())] = &[("restart", ()), ("reload", ()), ("stop", ()), ("notify", ())];
/// Keys of an item of `match`.
const MATCH_KEYS: [&str; 6] = ["message", "message-id", "field", "is", "matches", "from"];

/// Reads `[guard]`.
pub(crate) fn read(table: &Table<'_>, base: &Path, findings: &mut Findings) -> Guard {
    let mut guard = Guard::default();
    for name in table.keys() {
        if name == "state-dir" {
            guard.state_dir = table.get(name, word, findings).map(|directory| base.join(directory));
            continue;
        }
        if values::pool_name(name).is_err() {
            let complaint = Complaint::new(format!("{:?} cannot be the name of a guard's rule", shortened(name)));
            table.key_error(name, complaint.hint("1 to 64 of the letters a-z and A-Z, digits, - and _"), findings);
        }
        if let Some(table) = table.table(name, findings)
            && let Some(rule) = read_rule(name, &table, base, findings)
        {
            guard.rules.insert(name.to_owned(), rule);
        }
    }
    guard
}

fn read_rule(name: &str, table: &Table<'_>, base: &Path, findings: &mut Findings) -> Option<GuardRule> {
    table.refuse_unknown(known::GUARD, known::no_refusal, findings);
    let complaint = Complaint::new("a guard acts on a unit, but none is named");
    table.missing("unit", complaint.hint("write `unit = \"site.service\"`"), findings);
    let complaint = Complaint::new("a guard looks for something, but nothing is named");
    table.missing(
        "match",
        complaint.hint("write `match = [\"a regular expression\"]`, or a set: `[\"@php-fpm\"]`"),
        findings,
    );
    let unit = table.get("unit", parsed(unit, "site.service"), findings);
    let patterns = table.list("match", "[\"increase workers to minimal\"]", pattern, findings);
    if patterns.as_ref().is_some_and(Vec::is_empty) && !findings.is_broken(&table.path_of("match")) {
        let hint = "write `match = [\"a regular expression\"]`".to_owned();
        findings.error(&table.path_of("match"), "`match` is empty: nothing would ever count", Some(hint));
    }
    let source = table.get("source", parsed(source, "journal"), findings).unwrap_or(GuardSource::Journal);
    let failures = table.get("failures", number(1..=FAILURES_MAX), findings);
    let within = table.get("within", parsed(positive, "90s"), findings);
    let action = table.get("action", action, findings).unwrap_or(GuardAction::Restart);
    let grace = table.get("grace", parsed(duration, "30s"), findings);
    let lock = table.get("lock", string, findings).filter(|lock| !lock.is_empty()).map(|lock| base.join(lock));
    let notify = table.get("notify", command, findings);
    let timeout = table.get("timeout", parsed(positive, "5m"), findings);
    let (mut budget_actions, mut budget_within) = (None, None);
    if let Some(budget) = table.table("budget", findings) {
        budget.refuse_unknown(known::BUDGET, known::no_refusal, findings);
        budget_actions = budget.get("actions", number(1..=FAILURES_MAX), findings);
        budget_within = budget.get("within", parsed(positive, "1h"), findings);
        let _only_this: Option<()> = budget.get("then", choice("then", &[("notify", ())], &[]), findings);
    }
    Some(GuardRule {
        name: name.to_owned(),
        unit: unit?,
        patterns: patterns?,
        source: match source {
            GuardSource::File(path) => GuardSource::File(base.join(path)),
            source @ (GuardSource::Journal | GuardSource::Stdin) => source,
        },
        failures: failures.unwrap_or(10),
        within: within.unwrap_or(Duration::from_secs(90)),
        action,
        grace: grace.unwrap_or(Duration::from_secs(30)),
        budget_actions: budget_actions.unwrap_or(3),
        budget_within: budget_within.unwrap_or(Duration::from_secs(3600)),
        lock,
        notify,
        timeout: timeout.unwrap_or(Duration::from_secs(300)),
    })
}

/// The name of a unit; `site` is `site.service`.
fn unit(text: &str) -> Result<String, Complaint> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let complaint = |why: &str| Complaint::new(format!("{:?} is not the name of a unit: {why}", shortened(text)));
    if text.is_empty() || !text.bytes().all(is_good) || text.starts_with(['.', '@', '-']) {
        return Err(
            complaint("letters, digits and :-_.\\@ only").hint("as `systemctl status` names it: \"site.service\"")
        );
    }
    let name = match SUFFIXES.iter().any(|suffix| text.ends_with(suffix)) {
        true => text.to_owned(),
        false => format!("{text}.service"),
    };
    if name.len() > UNIT_MAX {
        return Err(complaint("it is longer than 255 bytes"));
    }
    if name.contains("@.") {
        return Err(complaint("a template is not a unit").hint("name an instance: \"site@1.service\""));
    }
    Ok(name)
}

fn source(text: &str) -> Result<GuardSource, Complaint> {
    match text {
        "journal" => Ok(GuardSource::Journal),
        "stdin" => Ok(GuardSource::Stdin),
        text => match text.strip_prefix("file:") {
            Some(path) if !path.is_empty() && !path.ends_with('/') => Ok(GuardSource::File(path.into())),
            _ => Err(Complaint::new(format!("`source` cannot be {:?}", shortened(text)))
                .hint("\"journal\", \"file:/var/log/site.log\" or \"stdin\"")),
        },
    }
}

fn action(value: &DeValue<'_>) -> Result<GuardAction, Complaint> {
    if matches!(value, DeValue::Array(_)) {
        return command(value).map(GuardAction::Command);
    }
    let text = string(value)?;
    choose("action", ACTIONS, &[], &text).map_err(|complaint| {
        if text.contains(['/', ' ']) {
            complaint.hint("a program is a list: [\"/usr/bin/mend\", \"--now\"]")
        } else {
            complaint
        }
    })?;
    Ok(match text.as_str() {
        "reload" => GuardAction::Reload,
        "stop" => GuardAction::Stop,
        "notify" => GuardAction::Notify,
        _ => GuardAction::Restart,
    })
}

/// A program by its absolute path, and its arguments.
fn command(value: &DeValue<'_>) -> Result<Vec<String>, Complaint> {
    let hint = "the program's absolute path and its arguments: [\"/usr/bin/mail\", \"-s\", \"guard\", \"root\"]";
    let DeValue::Array(items) = value else {
        return Err(Complaint::new(format!("this must be a list, not {}", article(value))).hint(hint));
    };
    let words: Vec<String> = items.iter().map(|item| string(item.get_ref())).collect::<Result<_, _>>()?;
    match words.first() {
        None => Err(Complaint::new("this is empty").hint(hint)),
        Some(program) if !program.starts_with('/') => {
            Err(Complaint::new(format!("the program {:?} has no absolute path", shortened(program))).hint(hint))
        }
        Some(_) => Ok(words),
    }
}

/// One item of `match`.
fn pattern(value: &DeValue<'_>) -> Result<Match, Complaint> {
    let hint = "a regular expression, \"@SET\", { message-id = \"…\" }, { field = \"EXIT_STATUS\", is = \"1\" } \
                or { field = \"…\", matches = \"…\" }";
    match value {
        DeValue::String(text) => match text.strip_prefix('@') {
            Some(set) => Ok(Match { test: MatchTest::Set(set.to_owned()), from: None }),
            None if text.is_empty() => Err(Complaint::new("an empty expression matches every line").hint(hint)),
            None => Ok(Match { test: MatchTest::Message(string(value)?), from: None }),
        },
        DeValue::Table(table) => pattern_table(table).map_err(|complaint| match complaint.hint {
            Some(_) => complaint,
            None => complaint.hint(hint),
        }),
        other => Err(Complaint::new(format!("an item of `match` cannot be {}", article(other))).hint(hint)),
    }
}

fn pattern_table(table: &DeTable<'_>) -> Result<Match, Complaint> {
    for (key, _) in table {
        let key = key.get_ref().as_ref();
        if !MATCH_KEYS.contains(&key) {
            let complaint = Complaint::new(format!("unknown key `{}` in an item of `match`", shortened(key)));
            return Err(match known::suggestion(MATCH_KEYS, key) {
                Some(meant) => complaint.hint(format!("did you mean `{meant}`?")),
                None => complaint,
            });
        }
    }
    let get = |key: &str| match table.get(key) {
        Some(value) => string(value.get_ref()).map(Some),
        None => Ok(None),
    };
    let froms = &[("unit", MatchFrom::Unit), ("systemd", MatchFrom::Systemd)];
    let from = get("from")?.map(|text| choose("from", froms, &[], &text)).transpose()?;
    let test = match (get("message")?, get("message-id")?, get("field")?, get("is")?, get("matches")?) {
        (Some(regex), None, None, None, None) => MatchTest::Message(regex),
        (None, Some(id), None, None, None) => MatchTest::Is { field: "MESSAGE_ID".to_owned(), value: message_id(&id)? },
        (None, None, Some(field), Some(value), None) => MatchTest::Is { field: field_name(field)?, value },
        (None, None, Some(field), None, Some(regex)) => MatchTest::Matches { field: field_name(field)?, regex },
        (None, None, Some(_), None, None) => return Err(Complaint::new("a `field` without its value")),
        (None, None, None, None, None) => return Err(Complaint::new("an item of `match` that looks at nothing")),
        _ => return Err(Complaint::new("an item of `match` looks at one thing only")),
    };
    Ok(Match { test, from })
}

fn message_id(text: &str) -> Result<String, Complaint> {
    let id: String = text.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
    if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(id);
    }
    Err(Complaint::new(format!("{:?} is not a message id", shortened(text)))
        .hint("32 hexadecimal digits, as `journalctl -o verbose` shows them"))
}

/// The name of a journal field.
fn field_name(name: String) -> Result<String, Complaint> {
    let is_good = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=64).contains(&name.len()) && name.bytes().all(is_good) && !name.starts_with("__") {
        return Ok(name);
    }
    let complaint = Complaint::new(format!("{:?} cannot be a field of an entry", shortened(&name)));
    Err(complaint.hint("1 to 64 of the letters A-Z, digits and _, as `journalctl -o verbose` shows them"))
}
