//! The arguments of `steadfast guard`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::units::{LogFormat, parse_duration};

/// `steadfast guard`.
#[derive(Debug, Args)]
pub(crate) struct Guard {
    #[command(subcommand)]
    pub(crate) verb: GuardVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GuardVerb {
    /// Follow the journal, and act by the rules of a file
    Run(Run),
    /// Show what the rules would have done in the past; nothing is done
    Test(Test),
    /// Show the sets of patterns that ship with steadfast
    Sets,
}

/// `steadfast guard run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steadfast guard run -c /etc/steadfast/guard.toml

guard.toml:
  [guard.site]
  unit     = \"site.service\"
  match    = [\"increase workers to minimal\", \"@fcgi-procmanager\"]
  failures = 10
  within   = \"90s\"
  action   = \"restart\"
  grace    = \"30s\"

TERM and INT end it; what it has counted is kept in the state directory.")]
pub(crate) struct Run {
    /// How messages are written; auto: journald where stderr is the journal's, else human
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log: Option<LogFormat>,
    /// Where counts and the place in the journal are kept; else the file's state-dir, $STATE_DIRECTORY or
    /// /var/lib/steadfast
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// `steadfast guard test`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steadfast guard test -c guard.toml --since -7d
  steadfast guard test site.service --match 'worker .* died' --failures 10 --within 90s
  journalctl -o export -u site | steadfast guard test site --match @php-fpm --file -

The grace is counted from the line that filled the window.")]
pub(crate) struct Test {
    /// A unit, with --match; or one of the file's units or rules alone
    #[arg(value_name = "UNIT")]
    pub(crate) unit: Option<String>,
    /// A regular expression on the message, or a @SET; may be repeated
    #[arg(long = "match", value_name = "RE", requires = "unit", conflicts_with = "config")]
    pub(crate) patterns: Vec<String>,
    /// So many lines …
    #[arg(long, value_name = "N", requires = "patterns", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) failures: Option<u64>,
    /// … within so long
    #[arg(long, value_name = "DURATION", requires = "patterns", value_parser = parse_duration)]
    pub(crate) within: Option<Duration>,
    /// Nothing counts for so long after an action
    #[arg(long, value_name = "DURATION", requires = "patterns", value_parser = parse_duration)]
    pub(crate) grace: Option<Duration>,
    /// From when on: 2h, -7d, @SECONDS, RFC 3339, or as journalctl(1) takes it
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) since: Option<String>,
    /// Instead of this machine's journal: journal files or a directory of them, or what `journalctl -o export` or `-o json`
    /// writes; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}
