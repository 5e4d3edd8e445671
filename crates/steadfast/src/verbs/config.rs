//! `steadfast config`: the configuration that counts, what differs from it in the supervisor that runs, and its schema.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::Serialize;
use steadfast_config::effective::{self, Value};
use steadfast_config::load;
use steadfast_config::schema;
use steadfast_proto::control::{Answer, Request};
use steadfast_proto::exit::ExitCode;

use crate::arguments::{ConfigVerb, Target};
use crate::client::AT_ONCE;
use crate::failure::Failure;
use crate::output::{self, Paint, Style};
use crate::places::{self, Around};
use crate::units::clean;
use crate::verbs::run::broken;

/// The table of the supervisor itself.
const SUPERVISOR: &str = "supervisor";

/// That nothing is said of a table must not be taken for "it is the same".
const SILENT: &str = "note: the supervisor that runs is of an older version, which does not tell what [supervisor] it was started \
                      with: only pools are compared\n";

pub(super) fn config(arguments: &ConfigVerb, target: &Target, around: &Around) -> Result<ExitCode, Failure> {
    if arguments.schema {
        output::result(&schema::json())?;
        return Ok(ExitCode::Good);
    }
    let file = places::configuration(target.config.as_deref(), around)?;
    let loaded = load::load(&file, &around.context()).map_err(|report| broken(&report))?;
    let values = effective::values(&loaded);
    let shown = file.display().to_string();
    if arguments.diff {
        let found = Target { config: Some(file), control: target.control.clone() };
        let running = running(&found, around)?;
        if is_silent_about_itself(&running) {
            output::message(SILENT);
        }
        let differences = differences(&values, &running);
        let text =
            if arguments.json { json(&differences)? } else { drawn(&differences, &shown, output::stdout_style()) };
        output::result(&text)?;
        return Ok(if differences.is_empty() { ExitCode::Good } else { ExitCode::Failed });
    }
    let text = if arguments.json { json(&rows(&values))? } else { effective::text(&values) };
    output::result(&text)?;
    Ok(ExitCode::Good)
}

/// One key, for programs.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row<'a> {
    table: &'a str,
    key: &'a str,
    /// As TOML; null where nothing is set.
    value: Option<&'a str>,
    origin: &'a str,
}

fn rows(values: &[Value]) -> Vec<Row<'_>> {
    let rows = values.iter().map(|value| Row {
        table: &value.table,
        key: &value.key,
        value: value.value.as_deref(),
        origin: &value.origin,
    });
    rows.collect()
}

fn json(rows: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(rows)
        .map(|text| format!("{text}\n"))
        .map_err(|error| Failure::new(ExitCode::Bug, format!("the configuration cannot be written as JSON: {error}")))
}

/// The keys of each table that runs, with their values as TOML.
type Running = BTreeMap<String, BTreeMap<String, String>>;

fn running(target: &Target, around: &Around) -> Result<Running, Failure> {
    let nobody = |failure: Failure| match failure.code {
        // 1 is for what differs.
        ExitCode::Failed => Failure { code: ExitCode::NothingServes, ..failure },
        _ => failure,
    };
    let mut client = places::supervisor(target, around).map_err(nobody)?;
    client.ask(&Request::Config, Some(AT_ONCE)).map_err(nobody)?;
    let mut running = Running::new();
    let finished = client.finish(|answer, _| {
        if let Answer::Config { pool, text, supervisor } = answer {
            running.insert(format!("pool.{pool}"), keys(&text));
            running.extend(supervisor.as_deref().map(|text| (SUPERVISOR.to_owned(), keys(text))));
        }
        Ok(())
    });
    finished.map_err(nobody)?;
    Ok(running)
}

/// The keys of a table as [`effective::text`] writes them.
fn keys(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (line, _) = line.rsplit_once("  # ")?;
        let (key, value) = line.trim_end().split_once(" = ")?;
        Some((key.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

/// One key that is not the same in both.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    table: String,
    key: String,
    /// As TOML; null where the pool or the key is not there.
    running: Option<String>,
    file: Option<String>,
    origin: Option<String>,
    /// What makes the file's word count.
    needs: Needs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Needs {
    Reload,
    Restart,
}

/// An older supervisor tells of its pools only. (Without a pool, nothing is told either.)
fn is_silent_about_itself(running: &Running) -> bool {
    !running.is_empty() && !running.contains_key(SUPERVISOR)
}

/// What differs in the pools and in `[supervisor]`, if the supervisor tells that. Guards are other processes, which nobody asks.
fn differences(values: &[Value], running: &Running) -> Vec<Difference> {
    let mut tables: BTreeSet<String> = running.keys().cloned().collect();
    let of_pools = values.iter().filter(|value| value.table.starts_with("pool."));
    tables.extend(of_pools.map(|value| value.table.clone()));
    let mut found = Vec::new();
    for table in tables {
        let before = running.get(&table);
        // What the supervisor itself was started with, no reload changes.
        let needs = if table == SUPERVISOR { Needs::Restart } else { Needs::Reload };
        let own = |value: &&Value| value.table == table && value.value.is_some();
        let after: BTreeMap<&str, &Value> =
            values.iter().filter(own).map(|value| (value.key.as_str(), value)).collect();
        let mut keys: BTreeSet<&str> = after.keys().copied().collect();
        keys.extend(before.iter().flat_map(|before| before.keys().map(String::as_str)));
        for key in keys {
            let running = before.and_then(|before| before.get(key)).cloned();
            let value = after.get(key).copied();
            let file = value.and_then(|value| value.value.clone());
            if running != file {
                let origin = value.map(|value| value.origin.clone());
                found.push(Difference { table: table.clone(), key: key.to_owned(), running, file, origin, needs });
            }
        }
    }
    found
}

/// As diff -u begins: what runs is the old one.
fn drawn(differences: &[Difference], file: &str, style: Style) -> String {
    if differences.is_empty() {
        return String::new();
    }
    let mut text = format!("--- what runs\n+++ {}\n", clean(file));
    let mut table = "";
    for difference in differences {
        if difference.table != table {
            let when = if difference.needs == Needs::Restart { "  # counts after a restart, not a reload" } else { "" };
            let _never_fails = writeln!(text, "[{}]{when}", clean(&difference.table));
            table = &difference.table;
        }
        let key = &difference.key;
        if let Some(value) = &difference.running {
            let _never_fails = writeln!(text, "{}", style.paint(Paint::Bad, &clean(&format!("-{key} = {value}"))));
        }
        if let Some(value) = &difference.file {
            let origin = difference.origin.as_deref().unwrap_or_default();
            let line = clean(&format!("+{key} = {value}"));
            let _never_fails = writeln!(text, "{}  # {}", style.paint(Paint::Good, &line), clean(origin));
        }
    }
    text
}
