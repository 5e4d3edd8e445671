//! `steadfast check`: every error at once; with `--boot` one real worker of each pool, beside what runs.

use serde::Serialize;

use steadfast_config::report::Report;
use steadfast_proto::exit::ExitCode;
use steadfast_supervisor::boot::{self, BootOutcome};
use steadfast_supervisor::reload::ConfigSource;

use crate::arguments::{Check, Target};
use crate::failure::Failure;
use crate::guard::rules;
use crate::output::{self, Paint, Style};
use crate::places::{self, Around};
use crate::units::clean;
use crate::verbs::run::{broken, read};

pub(super) fn check(arguments: &Check, target: &Target, around: &Around) -> Result<ExitCode, Failure> {
    let file = places::configuration(target.config.as_deref(), around)?;
    let (loaded, report) = match read(&ConfigSource::File(file.clone()), around, rules::compare) {
        Ok(loaded) => {
            let warnings = loaded.warnings.clone();
            (Some(loaded), warnings)
        }
        Err(report) => (None, report),
    };
    let mut boots = Vec::new();
    if let (Some(loaded), true) = (&loaded, arguments.boot) {
        boots = boot::boot_check(loaded, &around.directory).map_err(|why| {
            Failure::new(ExitCode::Failed, format!("cannot start a worker to try {}: {why}", file.display()))
                .hint("leave out --boot to check the file alone")
        })?;
    }
    let is_good = loaded.is_some() && boots.iter().all(|boot| boot.ok);
    if arguments.json {
        output::result(&document(&report, is_good, &boots)?)?;
    } else {
        match &loaded {
            None => output::failure(&broken(&report)),
            Some(loaded) => {
                output::message(&report.render(output::stderr_style().colour));
                let config = &loaded.config;
                let contents = contents(config.pools.len(), config.guard.rules.len());
                output::result(&format!("{}: {contents}, no errors\n", file.display()))?;
                output::result(&drawn(&boots, output::stdout_style()))?;
            }
        }
    }
    Ok(if is_good { ExitCode::Good } else { ExitCode::Configuration })
}

/// `2 pools`, `1 pool and 1 rule of the guard`, `2 rules of the guard`.
fn contents(pools: usize, rules: usize) -> String {
    let pools = (pools > 0 || rules == 0).then(|| format!("{pools} {}", if pools == 1 { "pool" } else { "pools" }));
    let rules = (rules > 0).then(|| format!("{rules} {} of the guard", if rules == 1 { "rule" } else { "rules" }));
    pools.into_iter().chain(rules).collect::<Vec<_>>().join(" and ")
}

fn document(report: &Report, is_good: bool, boots: &[BootOutcome]) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Boot<'a> {
        pool: &'a str,
        ok: bool,
        message: &'a str,
        stderr: &'a [String],
    }
    #[derive(Serialize)]
    struct Document<'a> {
        ok: bool,
        #[serde(flatten)]
        report: &'a Report,
        /// Empty without `--boot`.
        boot: Vec<Boot<'a>>,
    }
    let boot = boots
        .iter()
        .map(|boot| Boot { pool: &boot.pool, ok: boot.ok, message: &boot.message, stderr: &boot.stderr })
        .collect();
    serde_json::to_string(&Document { ok: is_good, report, boot })
        .map(|text| format!("{text}\n"))
        .map_err(|error| Failure::new(ExitCode::Bug, format!("the report cannot be written as JSON: {error}")))
}

/// What became of each canary, and what it said where it failed.
fn drawn(boots: &[BootOutcome], style: Style) -> String {
    let mut text = String::new();
    for boot in boots {
        let (paint, word) = if boot.ok { (Paint::Good, "ok") } else { (Paint::Bad, "failed") };
        text.push_str(&format!("{}: {}, {}\n", clean(&boot.pool), style.paint(paint, word), clean(&boot.message)));
        if !boot.ok {
            for line in &boot.stderr {
                text.push_str(&format!("  | {}\n", clean(line)));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes() -> Vec<BootOutcome> {
        vec![
            BootOutcome {
                pool: "a".into(),
                ok: true,
                message: "ready after 12 ms".into(),
                stderr: vec!["hello".into()],
            },
            BootOutcome {
                pool: "b".into(),
                ok: false,
                message: "exited with 3".into(),
                stderr: vec!["no \x1b[2Jdatabase".into()],
            },
        ]
    }

    #[test]
    fn a_canary_that_failed_shows_its_last_words() {
        assert_eq!(
            drawn(&outcomes(), Style::default()),
            "a: ok, ready after 12 ms\nb: failed, exited with 3\n  | no \u{fffd}[2Jdatabase\n"
        );
    }

    #[test]
    fn the_document_has_problems_and_boots() {
        let text = document(&Report::default(), false, &outcomes()).expect("a document");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["ok"], false);
        assert_eq!(value["problems"], serde_json::json!([]));
        assert_eq!(value["boot"][1]["message"], "exited with 3");
    }
}
