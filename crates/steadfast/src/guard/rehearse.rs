//! `steadfast guard test`: tells the past to the rules, and shows what they would have done.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Serialize;

use steadfast_config::types::{Match, MatchTest};
use steadfast_guard::Entry;
use steadfast_guard::moment::stamp;
use steadfast_guard::note::length;
use steadfast_guard::past::{self, Since};
use steadfast_guard::query::Query;
use steadfast_guard::rehearsal::{Fired, Rehearsal};
use steadfast_guard::rule::{Action, Budget, Rule, Source};
use steadfast_proto::exit::ExitCode;

use crate::failure::Failure;
use crate::guard::options::Test;
use crate::guard::rules;
use crate::output::{self, Paint, Style};
use crate::units::{clean, parse_duration};

/// The one rule of the command line.
pub(crate) fn typed(test: &Test, unit: &str) -> Result<Rule, Failure> {
    let unit = if unit.contains('.') { unit.to_owned() } else { format!("{unit}.service") };
    let mut patterns = Vec::new();
    for text in &test.patterns {
        let test = match text.strip_prefix('@') {
            Some(set) => MatchTest::Set(set.to_owned()),
            None => MatchTest::Message(text.clone()),
        };
        let found = rules::patterns(&Match { test, from: None }).map_err(|wrong| {
            let failure = Failure::new(ExitCode::Usage, format!("--match: {}", wrong.message));
            Failure { hint: wrong.hint, ..failure }
        })?;
        patterns.extend(found);
    }
    Ok(Rule {
        name: unit.clone(),
        unit,
        patterns,
        source: Source::Journal,
        failures: test.failures.unwrap_or(10),
        within: test.within.unwrap_or(Duration::from_secs(90)),
        action: Action::Restart,
        grace: test.grace.unwrap_or(Duration::from_secs(30)),
        budget: Budget { actions: 3, within: Duration::from_secs(3600) },
        lock: None,
        notify: None,
        timeout: Duration::from_secs(300),
    })
}

/// Replays the past, and writes each episode as it is found.
pub(crate) fn rehearse(test: &Test, rules: &[Arc<Rule>]) -> Result<ExitCode, Failure> {
    let query = Query::of(rules.iter().map(|rule| &**rule));
    let since = test.since.as_deref().map(|text| since(text, SystemTime::now()));
    let failed = |why: String| {
        let failure = Failure::new(ExitCode::Failed, why);
        match &test.file {
            Some(_) => {
                failure.hint("it takes journal files, and what `journalctl -o export` or `journalctl -o json` writes")
            }
            None => failure.hint("may you read the journal? Be root or in the group systemd-journal, or give --file"),
        }
    };
    let past = match &test.file {
        Some(file) => past::dump(file, rules, &query, since.as_ref()),
        None => past::journal(rules, &query, since.as_ref()),
    };
    let mut past = past.map_err(failed)?;
    let mut rehearsal = Rehearsal::new(rules.iter().cloned());
    let style = output::stdout_style();
    let (mut entry, mut episodes) = (Entry::default(), 0u64);
    while past.next(&mut entry).map_err(failed)? {
        rehearsal.entry(&entry, |fired| {
            episodes += 1;
            let text = if test.json { document(rules, &fired)? } else { drawn(rules, &fired, style) };
            output::result(&text)
        })?;
    }
    if !test.json {
        let name = if episodes == 1 { "episode" } else { "episodes" };
        output::message(&format!("{episodes} {name}; nothing was done\n"));
    }
    Ok(ExitCode::Good)
}

fn drawn(rules: &[Arc<Rule>], fired: &Fired, style: Style) -> String {
    let Some(rule) = rules.get(fired.rule) else {
        return String::new();
    };
    let action = if fired.is_spent { "stand back (budget spent)" } else { rule.action.word() };
    let span = Duration::from_micros(fired.at.saturating_sub(fired.first_at));
    let head = format!(
        "{} {}: {} lines in {} from {}: {}",
        stamp(fired.at),
        clean(&rule.name),
        fired.count,
        length(Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))),
        stamp(fired.first_at),
        style.paint(Paint::Strong, action),
    );
    format!("{head}\n  | {}\n", clean(&fired.line))
}

fn document(rules: &[Arc<Rule>], fired: &Fired) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Episode<'a> {
        time: String,
        rule: &'a str,
        unit: &'a str,
        count: u64,
        first_time: String,
        first: &'a str,
        action: &'a str,
        budget_spent: bool,
    }
    let Some(rule) = rules.get(fired.rule) else {
        return Ok(String::new());
    };
    let episode = Episode {
        time: exact(fired.at),
        rule: &rule.name,
        unit: &rule.unit,
        count: fired.count,
        first_time: exact(fired.first_at),
        first: &fired.line,
        action: rule.action.word(),
        budget_spent: fired.is_spent,
    };
    let text = serde_json::to_string(&episode);
    text.map(|text| format!("{text}\n")).map_err(|error| Failure::new(ExitCode::Bug, format!("no JSON: {error}")))
}

/// RFC 3339 with microseconds, as the journal has them.
fn exact(wall: u64) -> String {
    let at = i64::try_from(wall).ok().and_then(|wall| Timestamp::from_microsecond(wall).ok());
    format!("{:.6}", at.unwrap_or(Timestamp::MAX))
}

/// `2h`, `-2h`, `2h ago`, `@1700000000`, RFC 3339; anything else is journalctl's own.
fn since(text: &str, now: SystemTime) -> Since {
    let trimmed = text.trim();
    let ago = trimmed.strip_prefix('-').unwrap_or(trimmed);
    let ago = ago.strip_suffix(" ago").unwrap_or(ago);
    let at: Option<Timestamp> = if let Ok(length) = parse_duration(ago) {
        now.checked_sub(length).and_then(|at| Timestamp::try_from(at).ok())
    } else if let Some(seconds) = trimmed.strip_prefix('@') {
        seconds.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok())
    } else {
        trimmed.parse().ok()
    };
    let wall = at.and_then(|at| u64::try_from(at.as_microsecond()).ok());
    match wall {
        Some(wall) => Since { text: format!("@{}.{:06}", wall / 1_000_000, wall % 1_000_000), wall: Some(wall) },
        None => Since { text: trimmed.to_owned(), wall: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood_where_no_time_zone_is_needed() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        for (text, wanted) in [
            ("2h", Some(2_800)),
            ("-2h", Some(2_800)),
            ("1h ago", Some(6_400)),
            ("@5", Some(5)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("yesterday", None),
            ("2026-11-28 10:00", None),
        ] {
            assert_eq!(since(text, now).wall.map(|wall| wall / 1_000_000), wanted, "{text}");
        }
        assert_eq!(since("@5", now).text, "@5.000000");
        assert_eq!(since("yesterday", now).text, "yesterday");
    }
}
