//! The configuration of `run -- COMMAND`: one pool from arguments, with the checks of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::load::{self, Context, Examined, Loaded};
use crate::place::Place;
use crate::pool;
use crate::report::{Findings, Report};
use crate::rules;
use crate::types::{Config, Guard, Kind, Launch, Listen, Mode};
use crate::values::{self, Complaint};
use crate::verify;

/// The arguments of `run -- COMMAND`, as typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// What stands behind `--`.
    pub command: Vec<String>,
    /// `--listen ADDR`, each.
    pub listen: Vec<String>,
    /// `--workers N` or `MIN..MAX`.
    pub workers: Option<String>,
    /// `--mode`.
    pub mode: Option<String>,
    /// `--type`.
    pub kind: Option<String>,
    /// `--launch`.
    pub launch: Option<String>,
    /// `--verify 'GET /path'`: in queue mode.
    pub verify: Option<String>,
    /// `--ops`: not in this version.
    pub ops: Option<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--name`; without it the pool is named after its program.
    pub name: Option<String>,
    /// `--control PATH`; a relative path starts at the current directory.
    pub control: Option<PathBuf>,
}

/// The configuration that the arguments mean; this machine is not looked at.
///
/// # Errors
/// Every error, each with the argument as it was typed.
pub fn from_command(command_line: &CommandLine, context: &Context) -> Result<Loaded, Report> {
    examine(command_line, context).finish()
}

/// What the arguments mean, as far as each is good.
///
/// A relative `unix:` path starts at the current directory, as every path that is typed into a shell
/// (in a file it starts at the runtime directory).
pub fn examine(command_line: &CommandLine, context: &Context) -> Examined {
    let mut reader = Reader { findings: Findings::default(), path: String::new() };
    let name = reader.name(command_line);
    reader.path = format!("pool.{name}");
    let shown = format!("`-- {}`", command_line.command.join(" "));
    reader.read(&["command"], &shown, || pool::check_command(&command_line.command));
    for argument in &command_line.command {
        reader.read(&["command"], &shown, || no_nul(argument));
    }
    let mut pool = pool::with_defaults(&name, command_line.command.clone());
    pool.mode = reader.mode(command_line);
    if let Some(kind) = &command_line.kind {
        let kind = reader.read(&["type"], &format!("`--type {kind}`"), || pool::choose_kind(kind));
        pool::be_of_kind(&mut pool, kind.unwrap_or(Kind::FastCgi));
    }
    pool.launch = reader.launch(command_line).unwrap_or(pool.launch);
    pool.listen = reader.listen(command_line, &context.directory);
    let mode = pool.mode;
    if let Some(workers) = &command_line.workers {
        let read = || {
            let workers = values::workers(workers)?;
            pool::check_workers(&workers, "--workers ").map(|()| workers)
        };
        pool.workers = reader.read(&["workers"], &format!("`--workers {workers}`"), read).unwrap_or(pool.workers);
    }
    if let Some(request) = &command_line.verify {
        let read = || values::request(request).map(|request| verify::by(request, mode));
        pool.verify = reader.read(&["verify"], &format!("`--verify {request:?}`"), read);
    }
    if let Some(user) = &command_line.user {
        let read = || match user.as_str() {
            "" => Err(Complaint::new("--user must not be empty")),
            user => no_nul(user),
        };
        pool.user = reader.read(&["user"], &format!("`--user {user}`"), read).map(|()| user.clone());
    }
    let mut supervisor = load::defaults();
    if let Some(control) = &command_line.control {
        supervisor.control = context.directory.join(control);
        reader
            .findings
            .places
            .insert("supervisor.control".into(), Place::Argument(format!("`--control {}`", control.display())));
    }
    let config = Config { source: None, supervisor, pools: BTreeMap::from([(name, pool)]), guard: Guard::default() };
    rules::check(&config, &mut reader.findings);
    Examined {
        config,
        findings: reader.findings,
        files: Vec::new(),
        syntax_errors: Vec::new(),
        lines_guessed: BTreeSet::new(),
    }
}

fn no_nul(text: &str) -> Result<(), Complaint> {
    if text.contains('\0') {
        return Err(Complaint::new("a NUL byte cannot be part of an argument"));
    }
    Ok(())
}

struct Reader {
    findings: Findings,
    /// The key path of the pool.
    path: String,
}

impl Reader {
    /// Remembers the argument as the place of a key of the pool, and says what is wrong with it.
    fn read<T>(&mut self, keys: &[&str], shown: &str, read: impl FnOnce() -> Result<T, Complaint>) -> Option<T> {
        let path = format!("{}.{}", self.path, keys.concat());
        self.findings.places.insert(path.clone(), Place::Argument(shown.to_owned()));
        match read() {
            Ok(value) => Some(value),
            Err(complaint) => {
                self.findings.error(&path, complaint.message, complaint.hint);
                None
            }
        }
    }

    fn name(&mut self, command_line: &CommandLine) -> String {
        let Some(name) = &command_line.name else {
            return name_of_program(&command_line.command);
        };
        self.path = "pool".into();
        self.read(&["name"], &format!("`--name {name}`"), || values::pool_name(name));
        name.clone()
    }

    /// Where the argument is no mode, queue mode stands in for it: nothing is refused there that may be meant.
    fn mode(&mut self, command_line: &CommandLine) -> Mode {
        let mode = command_line.mode.as_ref().and_then(|mode| {
            let shown = format!("`--mode {mode}`");
            self.read(&["mode"], &shown, || pool::choose_mode(mode))
        });
        mode.unwrap_or(Mode::Queue)
    }

    fn launch(&mut self, command_line: &CommandLine) -> Option<Launch> {
        if let Some(ops) = &command_line.ops {
            let refused = || Err::<(), _>(Complaint::new("--ops is not in this version").hint("remove it"));
            self.read(&["ops"], &format!("`--ops {ops}`"), refused);
        }
        let launch = command_line.launch.as_ref()?;
        self.read(&["launch"], &format!("`--launch {launch}`"), || pool::choose_launch(launch))
    }

    fn listen(&mut self, command_line: &CommandLine, directory: &Path) -> Vec<Listen> {
        if command_line.listen.is_empty() {
            let hint = "write --listen unix:/run/site.sock or --listen 127.0.0.1:9000";
            self.findings.error(&format!("{}.listen", self.path), "the workers listen nowhere", Some(hint.into()));
        }
        let mut addresses = Vec::new();
        for (index, typed) in command_line.listen.iter().enumerate() {
            let key = format!("listen[{index}]");
            let read = || {
                no_nul(typed)?;
                values::listen(typed)
            };
            match self.read(&[&key], &format!("`--listen {typed}`"), read) {
                Some(Listen::Unix(path)) => addresses.push(Listen::Unix(directory.join(path))),
                Some(other) => addresses.push(other),
                None => {}
            }
        }
        addresses
    }
}

/// `/usr/bin/php-cgi8.4` is the pool `php-cgi8-4`.
fn name_of_program(command: &[String]) -> String {
    let program = command.first().map(|program| Path::new(program).file_name().unwrap_or_default());
    let name: String = program
        .unwrap_or_default()
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .take(64)
        .collect();
    if name.is_empty() { "pool".into() } else { name }
}
