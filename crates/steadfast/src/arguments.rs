//! The command line as typed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::exchange::options::{Bench, Ping};
use crate::guard::options::Guard;
use crate::units::{LogFormat, parse_duration};

/// What `steadfast -h` prints below the options.
const EXAMPLES: &str = "\
Examples:
  steadfast demo                     a small site to break, on http://127.0.0.1:8080
  steadfast init -- perl site.fcgi   a first configuration, steadfast.toml
  steadfast run -c steadfast.toml    keep the pools of a file alive, in the foreground
  steadfast check -c steadfast.toml  show every error of a file at once
  steadfast status --watch           pools and workers, redrawn each second
  steadfast reload --wait            new code: canary first, then worker by worker
  steadfast guard run -c guard.toml  restarts a unit that keeps failing by its journal

The supervisor is found by -c FILE or --control PATH, else by ./steadfast.toml,
/etc/steadfast/steadfast.toml, or as the only one of this user that runs.
Exit codes: 0 good, 1 failed, 2 usage, 69 nothing serves, 70 bug, 71 system call
failed at start, 75 timed out, 77 not allowed, 78 configuration.";

/// Keeps pools of FastCGI workers alive. A broken worker or deploy never takes the site down.
#[derive(Debug, Parser)]
#[command(name = "steadfast", version, disable_help_subcommand = true, subcommand_help_heading = "Verbs", subcommand_value_name = "VERB", after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Arguments {
    /// The same as `check`
    #[arg(short = 't', display_order = 99)]
    pub(crate) test: bool,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// Which supervisor.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Target {
    /// The configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true, display_order = 100)]
    pub(crate) config: Option<PathBuf>,
    /// The supervisor's control socket
    #[arg(long, value_name = "PATH", global = true, display_order = 101)]
    pub(crate) control: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a small site to look at and to break
    Demo(Demo),
    /// Be a worker of the demo; executed by its supervisor
    #[command(hide = true)]
    DemoWorker,
    /// Be the supervisor, in the foreground
    Run(Run),
    /// Show every error of a configuration at once
    Check(Check),
    /// Show the configuration that counts, each value with where it came from
    Config(ConfigVerb),
    /// Show pools and workers; exit 69 if a pool has no worker that serves
    Status(Status),
    /// Show what happened
    Events(Events),
    /// Load the configuration and the code again, without an outage
    Reload(Reload),
    /// Stop a pool, or the supervisor, gracefully
    Stop {
        /// Without it, everything is stopped and the supervisor leaves
        #[arg(value_name = "POOL")]
        pool: Option<String>,
    },
    /// Start a stopped pool
    Start {
        #[arg(value_name = "POOL")]
        pool: String,
    },
    /// Stop and start a pool
    Restart {
        #[arg(value_name = "POOL")]
        pool: String,
    },
    /// Change how many workers a pool has, until the next reload
    Scale {
        #[arg(value_name = "POOL")]
        pool: String,
        /// As many as this, or MIN..MAX
        #[arg(value_name = "N|MIN..MAX")]
        workers: Bounds,
    },
    /// Let one worker finish and leave; another takes its place
    Drain {
        #[arg(value_name = "POOL/SLOT")]
        seat: Seat,
    },
    /// Kill one worker; another takes its place
    Kill {
        #[arg(value_name = "POOL/SLOT")]
        seat: Seat,
    },
    /// Close a pool's breaker and try at once, or open it
    Breaker {
        #[arg(value_name = "POOL")]
        pool: String,
        #[arg(value_name = "reset|trip")]
        action: Action,
    },
    /// Show the requests that are kept from a pool's workers, or let them through again
    Quarantine(Quarantine),
    /// Be a worker that runs a CGI program for each request
    Cgi(Cgi),
    /// Look after units that steadfast does not run, by what they write to the journal
    Guard(Guard),
    /// Read requests; executed by the supervisor
    #[command(hide = true)]
    Front,
    /// One real FastCGI or HTTP request, its answer on stdout
    Ping(Box<Ping>),
    /// Measure a FastCGI or HTTP address under load
    Bench(Box<Bench>),
    /// Print the lines that make a web server ask a pool
    Snippet(Snippet),
    /// Write a first configuration for a program
    Init(Init),
    /// Make a configuration of spawn-fcgi lines, supervisor or php-fpm files, units
    Import(Import),
    /// Print what makes a shell complete our words
    #[command(after_help = "\
Examples:
  steadfast completions bash > /etc/bash_completion.d/steadfast
  steadfast completions zsh > \"${fpath[1]}/_steadfast\"
  steadfast completions fish > ~/.config/fish/completions/steadfast.fish")]
    Completions {
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Print the manual page, or write one for each verb
    #[command(after_help = "\
Examples:
  steadfast man | man -l -
  steadfast man /usr/local/share/man/man1")]
    Man {
        /// Where to write steadfast.1, steadfast-run.1 and so on; it must exist
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

/// `steadfast demo`.
#[derive(Debug, Default, Args)]
#[command(after_help = "\
Examples:
  steadfast demo                         the first free port from 8080 on
  steadfast demo --http 127.0.0.1:3000

It needs no root: started as root, it becomes nobody. It writes only into a directory
of its own, which is gone when it has stopped. ^C stops it.")]
pub(crate) struct Demo {
    /// Where the site is: an address of this machine only, port 0 for any that is free
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) http: Option<String>,
    #[arg(long, value_name = "ADDR", hide = true)]
    pub(crate) ops: Option<String>,
}

/// `steadfast run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steadfast run    ./steadfast.toml, else /etc/steadfast/steadfast.toml
  steadfast run -c site.toml --log json
  steadfast run --listen unix:/run/site.sock --workers 2..8 --user www-data \\
      --verify 'GET /health' -- perl site.fcgi

TERM, QUIT and the first INT stop gracefully, a second TERM or INT at once; HUP reloads.")]
pub(crate) struct Run {
    /// Where visitors connect: unix:PATH, ADDR:PORT, http://ADDR:PORT, fd:N, systemd:NAME; may be repeated
    #[arg(long, value_name = "ADDR", requires = "command")]
    pub(crate) listen: Vec<String>,
    /// How many workers: N, or MIN..MAX in queue mode
    #[arg(long, value_name = "N|MIN..MAX", requires = "command")]
    pub(crate) workers: Option<String>,
    /// Who accepts: queue (the front, which gives each request to one worker; default) or direct (the workers)
    #[arg(long, value_name = "queue|direct", requires = "command")]
    pub(crate) mode: Option<String>,
    /// What COMMAND is: fastcgi (default), or cgi, which is run once for each request
    #[arg(long = "type", value_name = "fastcgi|cgi", requires = "command")]
    pub(crate) kind: Option<String>,
    /// How workers are made: exec
    #[arg(long, value_name = "HOW", requires = "command")]
    pub(crate) launch: Option<String>,
    /// What a new worker must answer before it serves, such as 'GET /health'
    #[arg(long, value_name = "REQUEST", requires = "command")]
    pub(crate) verify: Option<String>,
    /// Who the workers are; needed when started as root
    #[arg(long, value_name = "NAME", requires = "command")]
    pub(crate) user: Option<String>,
    /// The pool's name; else the program's
    #[arg(long, value_name = "NAME", requires = "command")]
    pub(crate) name: Option<String>,
    #[arg(long, value_name = "ADDR", requires = "command", hide = true)]
    pub(crate) ops: Option<String>,
    /// How messages are written; auto: journald where stderr is the journal's, else human
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log: Option<LogFormat>,
    /// Write every fact that the policy is told to this file, to replay it
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// The worker's program, instead of a configuration file
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "config")]
    pub(crate) command: Vec<String>,
}

/// `steadfast check`.
#[derive(Debug, Default, Args)]
pub(crate) struct Check {
    /// Also start one worker of each pool on a private socket, until it is ready
    #[arg(long)]
    pub(crate) boot: bool,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `steadfast config`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steadfast config -c site.toml           a configuration again, with every default
  steadfast config --diff                 what a reload or a restart would change
  steadfast config --schema > steadfast.schema.json      for editors

Exit codes of --diff, as diff has them: 0 the same, 1 different; 69 no supervisor
answers, 78 the file is broken. A supervisor of an older version does not tell its
[supervisor]: then a note on stderr says so, and only pools are compared.")]
pub(crate) struct ConfigVerb {
    /// What differs between the file and the supervisor that runs: pools, and what needs a restart
    #[arg(long, conflicts_with = "schema")]
    pub(crate) diff: bool,
    /// A JSON Schema (2020-12) of configurations, whatever the file says
    #[arg(long)]
    pub(crate) schema: bool,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `steadfast status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only this pool
    #[arg(value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
    /// Redraw each second, until ^C
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,
}

/// `steadfast events`.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Follow: go on with those that come
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
    /// How many of the last ones
    #[arg(short = 'n', value_name = "N", default_value_t = 50)]
    pub(crate) number: u32,
    /// Only this pool's
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `steadfast reload`.
#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// Only this pool
    #[arg(value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// Until the new generation serves: exit 0; 1 when it was refused or rolled back
    #[arg(long)]
    pub(crate) wait: bool,
    /// Wait no longer than this, such as 90s: exit 75, the reload goes on
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
}

/// `steadfast cgi`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steadfast run --type cgi --listen unix:/run/git.sock --workers 4 --user git \\
      -- /usr/lib/git-core/git-http-backend        a pool of such workers; no file needed
  spawn-fcgi -s /run/cgi.sock -n -- /usr/bin/steadfast cgi --root /usr/lib/cgi-bin

It accepts on fd 0, as every FastCGI program, one request at a time.")]
pub(crate) struct Cgi {
    /// Run what the web server names in SCRIPT_FILENAME, below this directory only; may be repeated
    #[arg(long, value_name = "DIR", conflicts_with = "program")]
    pub(crate) root: Vec<PathBuf>,
    /// End a script that takes longer, such as 60s: its visitor gets 504
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Give this variable of the worker's environment to the program; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) pass: Vec<OsString>,
    /// The CGI program, run once for each request
    #[arg(last = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    Reset,
    Trip,
}

/// `steadfast snippet`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steadfast snippet nginx site
  steadfast snippet apache site -c /etc/steadfast/steadfast.toml")]
pub(crate) struct Snippet {
    #[arg(value_name = "SERVER")]
    pub(crate) server: Server,
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    Nginx,
    Apache,
    Caddy,
    Lighttpd,
    Haproxy,
}

/// `steadfast init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steadfast init -- perl site.fcgi
  steadfast init -o shop.toml --name shop --listen 127.0.0.1:9000 -- /srv/shop/worker
  steadfast init --user www-data --unit steadfast.service -- /usr/bin/php-cgi

The workers start in the current directory. A file that is there is not overwritten. Exit 78 when
this machine lacks something that the configuration needs.")]
pub(crate) struct Init {
    /// Write there, and not to ./steadfast.toml
    #[arg(short = 'o', long = "output", value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
    /// The pool's name; else the program's or the script's
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Where visitors connect, as `run` has it; else a unix socket of the pool's name; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<String>,
    /// Who the workers are; else, for root, the web server's user
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Write a systemd unit there, too
    #[arg(long, value_name = "FILE")]
    pub(crate) unit: Option<PathBuf>,
    /// The worker's program
    #[arg(last = true, value_name = "COMMAND", required = true, conflicts_with = "config")]
    pub(crate) command: Vec<String>,
}

/// `steadfast import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steadfast import unit /lib/systemd/system/rt5-fcgi.service
  steadfast import php-fpm /etc/php/8.2/fpm/pool.d/www.conf -o www.toml
  steadfast import supervisor /etc/supervisor/supervisord.conf
  steadfast import spawn-fcgi /etc/init.d/munin-cgi-graph
  steadfast import spawn-fcgi -- spawn-fcgi -s /run/site.sock -u www-data -- /srv/site.fcgi

What cannot be translated is a warning on stderr, and a comment in the configuration. Nothing
is changed but OUT. Exit 1 when nothing was found that could be a pool.")]
pub(crate) struct Import {
    #[arg(value_name = "KIND")]
    pub(crate) kind: ImportKind,
    /// What to read: a unit (several: its socket, too), a supervisor or php-fpm file, a script; - is stdin
    #[arg(value_name = "FILE", required_unless_present = "words", conflicts_with = "words")]
    pub(crate) files: Vec<PathBuf>,
    /// Write there and not to stdout; a file that is there is not overwritten
    #[arg(short = 'o', long = "output", value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
    /// Files that FILE names are below this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// The pool's name, where there is one pool
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// One JSON document, the configuration in it
    #[arg(long)]
    pub(crate) json: bool,
    /// The command line itself, for spawn-fcgi and multiwatch
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) words: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportKind {
    SpawnFcgi,
    Multiwatch,
    Supervisor,
    PhpFpm,
    Unit,
}

/// `steadfast quarantine`.
#[derive(Debug, Args)]
pub(crate) struct Quarantine {
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
    #[arg(value_name = "list|clear", default_value = "list")]
    pub(crate) action: QuarantineVerb,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum QuarantineVerb {
    List,
    Clear,
}

/// `N` or `MIN..MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) min: u32,
    pub(crate) max: u32,
}

impl FromStr for Bounds {
    type Err = String;

    fn from_str(text: &str) -> Result<Bounds, String> {
        let number = |text: &str| {
            text.parse::<u32>().map_err(|_| "no number of workers; write for example `4` or `2..8`".to_owned())
        };
        match text.split_once("..") {
            Some((min, max)) => Ok(Bounds { min: number(min)?, max: number(max)? }),
            None => number(text).map(|both| Bounds { min: both, max: both }),
        }
    }
}

/// `POOL/SLOT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) pool: String,
    pub(crate) slot: u32,
}

impl FromStr for Seat {
    type Err = String;

    fn from_str(text: &str) -> Result<Seat, String> {
        let help = || "no worker; write POOL/SLOT as `steadfast status` shows them, for example `site/2`".to_owned();
        let (pool, slot) = text.split_once('/').ok_or_else(help)?;
        Ok(Seat { pool: pool.to_owned(), slot: slot.parse().map_err(|_| help())? })
    }
}

/// Reads the arguments, the program's name first.
///
/// # Errors
/// clap's: also `--help` and `--version` are "errors", whose text goes to stdout.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
) -> Result<Arguments, clap::Error> {
    let mut command = Arguments::command();
    let matches = command.try_get_matches_from_mut(arguments)?;
    let arguments = Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    match (&arguments.verb, arguments.test) {
        (None, false) => {
            let message = "no verb; `steadfast -h` shows them all";
            Err(command.error(clap::error::ErrorKind::MissingSubcommand, message))
        }
        (Some(_), true) => {
            let message = "-t is a verb by itself; write `steadfast -t -c FILE`";
            Err(command.error(clap::error::ErrorKind::ArgumentConflict, message))
        }
        (Some(_), false) | (None, true) => Ok(arguments),
    }
}

#[cfg(test)]
#[path = "arguments_tests.rs"]
mod tests;
