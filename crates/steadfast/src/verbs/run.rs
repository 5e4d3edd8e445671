//! `steadfast run`: hands a checked configuration to the supervisor.

use steadfast_config::command_line::CommandLine;
use steadfast_config::load::{Examined, Loaded};
use steadfast_config::report::Report;
use steadfast_config::types::Log;
use steadfast_proto::exit::ExitCode;
use steadfast_supervisor::reload::{self, ConfigSource};
use steadfast_supervisor::run::{self, Options};
use steadfast_supervisor::runtime_dir;

use crate::arguments::{Run, Target};
use crate::failure::Failure;
use crate::output;
use crate::places::{self, Around};
use crate::units::LogFormat;

/// Gives the supervisor's own exit code.
pub(super) fn run(arguments: Run, target: Target, around: &Around) -> Result<u8, Failure> {
    let control = target.control.clone();
    let (log, record) = (arguments.log.map(log_of), arguments.record.clone());
    let source = if arguments.command.is_empty() {
        ConfigSource::File(places::configuration(target.config.as_deref(), around)?)
    } else {
        ConfigSource::CommandLine(Box::new(command_line(arguments, target)))
    };
    let loaded = read(&source, around, Examined::require_pools).map_err(|report| broken(&report))?;
    if !loaded.warnings.is_empty() {
        output::message(&loaded.warnings.render(output::stderr_style().colour));
    }
    let directory = around.directory.clone();
    let version = env!("CARGO_PKG_VERSION");
    Ok(run::run(Options { loaded, source, directory, record, control, log, version }))
}

/// The configuration by itself and against this machine: every problem of both, and of what `more` looks at, at once.
pub(super) fn read(source: &ConfigSource, around: &Around, more: impl FnOnce(&mut Examined)) -> Result<Loaded, Report> {
    let mut examined = source.examine(&around.context());
    let runtime_dir = runtime_dir::runtime_dir(examined.config(), &around.directory);
    reload::compare(&mut examined, &runtime_dir, &around.directory);
    more(&mut examined);
    examined.finish()
}

/// The report as a failure; drawn, it has its own heads and hints.
pub(super) fn broken(report: &Report) -> Failure {
    Failure::new(ExitCode::Configuration, report.render(output::stderr_style().colour))
}

fn command_line(arguments: Run, target: Target) -> CommandLine {
    CommandLine {
        command: arguments.command,
        listen: arguments.listen,
        workers: arguments.workers,
        mode: arguments.mode,
        kind: arguments.kind,
        launch: arguments.launch,
        verify: arguments.verify,
        ops: arguments.ops,
        user: arguments.user,
        name: arguments.name,
        control: target.control,
    }
}

const fn log_of(format: LogFormat) -> Log {
    match format {
        LogFormat::Auto => Log::Auto,
        LogFormat::Human => Log::Human,
        LogFormat::Logfmt => Log::Logfmt,
        LogFormat::Json => Log::Json,
        LogFormat::Journald => Log::Journald,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Verb, parse};
    use steadfast_proto::runtime::Surroundings;

    fn perform(line: &str) -> Failure {
        let arguments = parse(line.split_whitespace()).expect(line);
        let Some(Verb::Run(run_arguments)) = arguments.verb else { panic!("run") };
        let around = Around { directory: "/nowhere".into(), surroundings: Surroundings::default() };
        run(run_arguments, arguments.target, &around).expect_err("refused")
    }

    #[test]
    fn what_is_not_in_this_version_is_refused_as_configuration() {
        let tail = "--mode direct --listen 127.0.0.1:1 -- /bin/true";
        let failure = perform(&format!("steadfast run --ops 127.0.0.1:2 {tail}"));
        assert_eq!(failure.code, ExitCode::Configuration);
        assert!(failure.message.contains("not in this version"), "{}", failure.message);
    }

    #[test]
    fn what_a_mode_has_no_meaning_for_is_refused_as_configuration() {
        let failure = perform("steadfast run --mode direct --listen http://127.0.0.1:1 -- /bin/true");
        assert_eq!(failure.code, ExitCode::Configuration);
        assert!(failure.message.contains("needs queue mode"), "{}", failure.message);
        let failure = perform("steadfast run --verify /health --listen http://127.0.0.1:1 -- /bin/true");
        assert_eq!(failure.code, ExitCode::Configuration);
        assert!(failure.message.contains("it has no method"), "{}", failure.message);
    }

    #[test]
    fn all_mistakes_of_a_command_line_come_at_once() {
        let failure = perform("steadfast run --mode direct --listen nowhere --workers some -- /bin/true");
        assert!(failure.message.contains("nowhere") && failure.message.contains("some"), "{}", failure.message);
    }

    #[test]
    fn a_file_that_does_not_exist_is_named() {
        let failure = perform("steadfast run -c /nowhere/x.toml");
        assert_eq!(failure.code, ExitCode::Configuration);
        assert!(failure.message.contains("/nowhere/x.toml"), "{}", failure.message);
    }
}
