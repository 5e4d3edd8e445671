//! Reads a configuration file and those that it includes, and collects every error in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;
use toml_parser::lexer::TokenKind;

use crate::guard;
use crate::include;
use crate::known::{self, Standing};
use crate::place::{Place, Places, Source};
use crate::pool;
use crate::report::{Findings, Level, Problem, Report};
use crate::rules;
use crate::tree::{Table, Words, choice, word, words};
use crate::types::{Config, Guard, Log, LogLevel, Supervisor};
use crate::values::{self, Complaint};

/// `pool.NAME.breaker.backoff.first` has five.
const KEY_PARTS_MAX: usize = 8;
/// More syntax errors of one file than this are not looked at.
const SYNTAX_ERRORS_MAX: usize = 1_000;

/// What must be known of the process beside the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The current directory, absolute: relative paths as typed start here.
    pub directory: PathBuf,
}

/// A good configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration as meant.
    pub config: Config,
    /// What may be meant otherwise; only warnings.
    pub warnings: Report,
    /// Where each value stands, for what is found when the machine is looked at.
    pub(crate) places: Places,
}

/// A configuration as far as it could be read, and what is known to be wrong with it.
///
/// [`machine::compare`](crate::machine::compare) adds what this machine lacks; [`Examined::finish`] gives the verdict.
#[derive(Debug)]
pub struct Examined {
    /// Every value that is good by itself; a default stands in for each that is not.
    pub(crate) config: Config,
    pub(crate) findings: Findings,
    /// In the order in which the files were opened, as messages show them.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) syntax_errors: Vec<Problem>,
    pub(crate) lines_guessed: BTreeSet<(PathBuf, usize)>,
}

impl Examined {
    /// What could be read: enough to find the runtime directory, but not to run anything.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Adds an error of the value at `key_path` (`guard.site.match[0]`), found by somebody who knows more of such values.
    pub fn refuse(&mut self, key_path: &str, message: &str, hint: Option<String>) {
        self.findings.error(key_path, message, hint);
    }

    /// Adds an error where there is nothing for a supervisor to run: a guard's file needs no pool.
    pub fn require_pools(&mut self) {
        let is_clean = self.findings.errors.is_empty() && self.syntax_errors.is_empty();
        if let Some(source) = self.config.source.as_ref().filter(|_| self.config.pools.is_empty() && is_clean) {
            let message = "the configuration has no pool: there is nothing to run";
            let hint = "its [guard.NAME] tables are for `steadfast guard run`; a pool is a table [pool.NAME]";
            let file = self.files.first().unwrap_or(source);
            self.findings.errors.push(Problem::new(Level::Error, message).file(file).hint(hint));
        }
    }

    /// The configuration, if nothing is wrong with it.
    ///
    /// # Errors
    /// Every error and every warning, in the order of the files.
    pub fn finish(mut self) -> Result<Loaded, Report> {
        let Findings { mut errors, mut warnings, places, uncollected, .. } = self.findings;
        if !self.lines_guessed.is_empty() {
            errors.retain(|problem| {
                let line = problem.file.clone().zip(problem.line);
                line.is_none_or(|line| !self.lines_guessed.contains(&line))
            });
        }
        errors.append(&mut self.syntax_errors);
        let order = |problem: &Problem| {
            let file = self.files.iter().position(|file| Some(file) == problem.file.as_ref());
            (file, problem.line, problem.column)
        };
        if errors.is_empty() {
            warnings.sort_by_key(order);
            return Ok(Loaded { config: self.config, warnings: Report::new(warnings, 0), places });
        }
        errors.append(&mut warnings);
        errors.sort_by_key(order);
        Err(Report::new(errors, uncollected))
    }
}

/// Reads the file at `path` and those that it includes, as far as that goes.
///
/// Relative paths in the file start at its own directory; in the result they are absolute.
pub fn examine(path: &Path, context: &Context) -> Examined {
    let source = context.directory.join(path);
    let base = source.parent().unwrap_or(Path::new("/")).to_owned();
    let mut loader = Loader { base, ..Loader::default() };
    let mut config =
        Config { source: Some(source), supervisor: defaults(), pools: BTreeMap::new(), guard: Guard::default() };
    match loader.open(path, &context.directory.join(path)) {
        Some(file) => loader.read_main(&file, &mut config),
        None => loader.findings.mark_unread("supervisor".into()),
    }
    loader.finish(config)
}

/// Reads the file at `path` and those that it includes; this machine is not looked at.
///
/// # Errors
/// Every error of every file, in the order of the files.
pub fn load(path: &Path, context: &Context) -> Result<Loaded, Report> {
    examine(path, context).finish()
}

/// `[supervisor]` where the file does not say.
pub(crate) fn defaults() -> Supervisor {
    Supervisor {
        runtime_dir: None,
        control: PathBuf::from("control.sock"),
        front_user: None,
        log: Log::Auto,
        log_level: LogLevel::Info,
    }
}

#[derive(Default)]
struct Loader {
    /// The directory of the main file.
    base: PathBuf,
    findings: Findings,
    /// In the order in which the files were opened, as messages show them.
    files: Vec<PathBuf>,
    syntax_errors: Vec<Problem>,
    /// Lines with a syntax error, and those below a broken header: what the parser made of them is a guess.
    lines_guessed: BTreeSet<(PathBuf, usize)>,
}

/// One file, read. Its text is kept alive by [`Source`]; the tree borrows from it.
struct Opened {
    source: Arc<Source>,
}

impl Loader {
    fn open(&mut self, shown: &Path, path: &Path) -> Option<Opened> {
        self.files.push(shown.to_owned());
        match include::read(path) {
            Ok(text) => Some(Opened { source: Source::new(shown, text) }),
            Err((complaint, good_text)) => {
                let problem = Problem::new(Level::Error, complaint.message).maybe_hint(complaint.hint).file(shown);
                let problem = match good_text {
                    Some(text) => {
                        let end = text.len();
                        problem.at(&Place::File(Source::new(shown, text), end..end))
                    }
                    None => problem,
                };
                self.findings.errors.push(problem);
                None
            }
        }
    }

    /// The tree of a file, and the words of one that is not whole; syntax errors become findings.
    fn parse<'a>(&mut self, source: &'a Arc<Source>) -> (DeTable<'a>, Option<Words<'a>>) {
        if let Some(place) = too_deep(source) {
            let message = format!("a key of more than {KEY_PARTS_MAX} parts");
            let problem = Problem::new(Level::Error, message).at(&place);
            self.lines_guessed.insert((source.path.clone(), problem.line.unwrap_or(1)));
            self.syntax_errors.push(problem.hint("no key of a configuration is nested so deeply"));
            return (DeTable::new(), Some(words(&source.text)));
        }
        let (tree, errors) = DeTable::parse_recoverable(&source.text);
        let words = (!errors.is_empty()).then(|| words(&source.text));
        // So many errors are no slip of the finger: nothing can be said about the rest.
        let is_garbage = errors.len() > SYNTAX_ERRORS_MAX;
        let mut last: Option<Problem> = None;
        let mut lines_told = BTreeSet::new();
        for error in errors.iter().take(SYNTAX_ERRORS_MAX) {
            let end = source.text.len();
            let span = error.span().unwrap_or(end..end);
            let (line, _) = source.line(span.start);
            // One broken line often gives several errors: the first tells most. So does the first line of many
            // with the same error, such as all those after a bracket that was never closed.
            if !lines_told.insert(line) {
                continue;
            }
            self.guess(source, line);
            let mut problem = Problem::new(Level::Error, error.message()).at(&Place::File(source.clone(), span));
            let is_echo =
                last.as_ref().is_some_and(|last| last.message == problem.message && last.line == Some(line - 1));
            if !is_echo {
                problem = problem.maybe_hint(syntax_hint(error.message(), source, line));
                self.syntax_errors.push(problem.clone());
            }
            last = Some(problem);
        }
        let tree = if is_garbage { DeTable::new() } else { tree.into_inner() };
        (tree, words)
    }

    /// Marks a line as guessed, and where it is a header all lines below it.
    fn guess(&mut self, source: &Source, line: usize) {
        self.lines_guessed.insert((source.path.clone(), line));
        let is_header = |line: &str| line.trim_start().starts_with('[');
        let mut lines = source.lines_from(line);
        if !lines.next().is_some_and(is_header) {
            return;
        }
        for (index, _) in lines.take_while(|text| !is_header(text)).enumerate() {
            self.lines_guessed.insert((source.path.clone(), line + 1 + index));
        }
    }

    fn read_main(&mut self, file: &Opened, config: &mut Config) {
        let source = &file.source;
        let (tree, words) = self.parse(source);
        let top = Table::new("", &tree, source, words.as_ref());
        self.findings.places.insert("pool".into(), Place::File(source.clone(), 0..0));
        top.refuse_unknown(known::TOP, refusal, &mut self.findings);
        if let Some(table) = top.table("supervisor", &mut self.findings) {
            read_supervisor(&mut config.supervisor, &table, &self.base, &mut self.findings);
        }
        if let Some(pools) = top.table("pool", &mut self.findings) {
            for name in pools.keys() {
                if let Err(complaint) = values::pool_name(name) {
                    pools.key_error(name, complaint, &mut self.findings);
                }
                if let Some(table) = pools.table(name, &mut self.findings) {
                    let pool = pool::read(name, &table, &self.base, &mut self.findings);
                    config.pools.insert(name.to_owned(), pool);
                }
            }
        }
        if let Some(table) = top.table("guard", &mut self.findings) {
            config.guard = guard::read(&table, &self.base, &mut self.findings);
        }
        let patterns = top.list("include", "[\"pool.d/*.toml\"]", word, &mut self.findings).unwrap_or_default();
        let is_broken = self.findings.is_broken("include");
        if !is_broken {
            self.read_included(&patterns, config);
        }
        let is_clean = self.findings.errors.is_empty() && self.syntax_errors.is_empty();
        if config.pools.is_empty() && config.guard.rules.is_empty() && is_clean {
            let hint = "write a table [pool.NAME] with `command` and `listen`";
            let message = "the configuration has no pool: there is nothing to run";
            self.findings.errors.push(Problem::new(Level::Error, message).file(&source.path).hint(hint));
        }
    }

    fn read_included(&mut self, patterns: &[String], config: &mut Config) {
        let mut seen = BTreeSet::new();
        for (index, pattern) in patterns.iter().enumerate() {
            let key_path = format!("include[{index}]");
            let files = match include::find(&self.base, pattern) {
                Ok(files) => files,
                Err(complaint) => {
                    self.findings.error(&key_path, complaint.message, complaint.hint);
                    continue;
                }
            };
            for path in files {
                if seen.len() >= include::FILES_MAX && !seen.contains(&path) {
                    let complaint = include::too_many();
                    self.findings.error(&key_path, complaint.message, complaint.hint);
                    return;
                }
                if seen.insert(path.clone()) {
                    self.read_pool_file(&path, config);
                }
            }
        }
    }

    /// A file of `include`: one pool, named by the file's stem.
    fn read_pool_file(&mut self, path: &Path, config: &mut Config) {
        let Some(file) = self.open(path, path) else {
            return;
        };
        let source = &file.source;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Err(complaint) = values::pool_name(&name) {
            let problem = Problem::new(Level::Error, format!("{}: the file's name is the pool's", complaint.message));
            self.findings.errors.push(problem.maybe_hint(complaint.hint).file(path));
        }
        let key_path = format!("pool.{name}");
        if config.pools.contains_key(&name) {
            let first = self.findings.places.nearest(&key_path);
            let first = match first {
                Some(Place::File(first, span)) => {
                    format!("{}:{}", first.path.display(), first.line(span.start).0)
                }
                Some(Place::Argument(_)) | None => "another file".into(),
            };
            let problem = Problem::new(Level::Error, format!("pool `{name}` stands in {first} already"));
            self.findings.errors.push(problem.file(path).hint("rename or remove one of them"));
            return;
        }
        let (tree, words) = self.parse(source);
        self.findings.places.insert(key_path.clone(), Place::File(source.clone(), 0..0));
        let table = Table::new(&key_path, &tree, source, words.as_ref());
        for key in ["pool", "supervisor", "include", "ops", "guard"] {
            if table.has(key) {
                let message = format!("`{key}` cannot stand in an included file: it is one pool, named by its file");
                let hint = "the keys of the pool stand at the top, without a [pool.NAME] line";
                table.key_error(key, Complaint::new(message).hint(hint), &mut self.findings);
            }
        }
        if table.has("pool") {
            return;
        }
        let pool = pool::read(&name, &table, &self.base, &mut self.findings);
        config.pools.insert(name, pool);
    }

    fn finish(mut self, config: Config) -> Examined {
        // Between values of files that the parser had to guess at, little can be said.
        if self.lines_guessed.is_empty() {
            rules::check(&config, &mut self.findings);
        }
        for key_path in self.findings.places.starting_on(&self.lines_guessed) {
            self.findings.mark_unread(key_path);
        }
        let Loader { findings, files, syntax_errors, lines_guessed, .. } = self;
        Examined { config, findings, files, syntax_errors, lines_guessed }
    }
}

fn refusal(key: &str, _: Standing) -> Option<Complaint> {
    let complaint = Complaint::new(format!("[{key}] is not in this version"));
    Some(complaint.hint("remove this table, and those below it"))
}

fn read_supervisor(supervisor: &mut Supervisor, table: &Table<'_>, base: &Path, findings: &mut Findings) {
    table.refuse_unknown(known::SUPERVISOR, known::no_refusal, findings);
    supervisor.runtime_dir = table.get("runtime-dir", word, findings).map(|directory| base.join(directory));
    if let Some(control) = table.get("control", word, findings) {
        supervisor.control = PathBuf::from(control);
    }
    supervisor.front_user = table.get("front-user", word, findings);
    let logs = choice(
        "log",
        &[
            ("auto", Log::Auto),
            ("human", Log::Human),
            ("logfmt", Log::Logfmt),
            ("json", Log::Json),
            ("journald", Log::Journald),
        ],
        &[],
    );
    supervisor.log = table.get("log", logs, findings).unwrap_or(supervisor.log);
    let levels = choice(
        "log-level",
        &[
            ("error", LogLevel::Error),
            ("warning", LogLevel::Warning),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
        ],
        &[],
    );
    supervisor.log_level = table.get("log-level", levels, findings).unwrap_or(supervisor.log_level);
}

/// The first key with too many parts. The parser bounds brackets and the parts of a key (80 each), but not their
/// product: a tree of 6,400 levels overflows the stack when it is built or dropped.
fn too_deep(source: &Arc<Source>) -> Option<Place> {
    let mut dots = 0;
    for token in toml_parser::Source::new(&source.text).lex() {
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::Equals
            | TokenKind::Comma
            | TokenKind::Newline
            | TokenKind::LeftSquareBracket
            | TokenKind::RightSquareBracket
            | TokenKind::LeftCurlyBracket
            | TokenKind::RightCurlyBracket
            | TokenKind::Eof => dots = 0,
            TokenKind::Whitespace
            | TokenKind::Comment
            | TokenKind::LiteralString
            | TokenKind::BasicString
            | TokenKind::MlLiteralString
            | TokenKind::MlBasicString
            | TokenKind::Atom => {}
        }
        if dots >= KEY_PARTS_MAX {
            let span = token.span();
            return Some(Place::File(source.clone(), span.start()..span.end()));
        }
    }
    None
}

/// What the most usual slips were meant to be.
fn syntax_hint(message: &str, source: &Source, line: usize) -> Option<String> {
    if message.starts_with("missing comma between array elements") {
        return Some("a comma is missing here, or the `]` of the list above".into());
    }
    let text = source.lines_from(line).next()?;
    let (_, value) = text.split_once('=')?;
    let value = value.split('#').next()?.trim();
    let is_octal = value.len() > 1 && value.starts_with('0') && value.bytes().all(|byte| byte.is_ascii_digit());
    let is_word = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:%".contains(&byte));
    match value {
        "" => Some("write a value behind the =".into()),
        _ if is_octal || (is_word && value.len() <= 80) => Some(format!("text stands in quotes: \"{value}\"")),
        _ => None,
    }
}
