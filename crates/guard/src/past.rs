//! The past: entries of a journal or of a dump, from the first to the last.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use crate::count;
use crate::entry::Entry;
use crate::export::ExportReader;
use crate::journal;
use crate::json_lines::JsonLines;
use crate::pattern::Pattern;
use crate::query::Query;
use crate::rule::Rule;

/// So much is read at once.
const BLOCK: usize = 256 * 1024;
/// The first bytes of a journal file.
const SIGNATURE: &[u8] = b"LPKSHHRH";
/// Who reads what we cannot.
const JOURNALCTL: &str = "journalctl";

/// Where entries come from, one after the other.
pub trait Past {
    /// Replaces `entry` by the next one; false when there is none.
    ///
    /// # Errors
    /// What was read, and why that cannot go on.
    fn next(&mut self, entry: &mut Entry) -> Result<bool, String>;
}

/// From when on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// As journalctl(1) takes it.
    pub text: String,
    /// In microseconds since 1970, where that is known without its time zones.
    pub wall: Option<u64>,
}

/// The journal of this machine, read directly; by `journalctl` where only that knows when `since` was.
///
/// # Errors
/// It cannot be read.
pub fn journal(rules: &[Arc<Rule>], query: &Query, since: Option<&Since>) -> Result<Box<dyn Past>, String> {
    let since = match since {
        None => None,
        Some(Since { wall: Some(wall), .. }) => Some(*wall),
        Some(since) => return Ok(Box::new(Journalctl::start(query, since)?)),
    };
    let places = journal::places().map_err(|error| format!("cannot find the journal: {}", reason(&error)))?;
    Ok(Box::new(Files::open(&places, rules, query, since)?))
}

/// A dump (`journalctl -o export` or `-o json`, which is seen from its first byte), a journal file, or a directory of those;
/// `-` is standard input.
///
/// # Errors
/// It cannot be read, or is something else.
pub fn dump(path: &Path, rules: &[Arc<Rule>], query: &Query, since: Option<&Since>) -> Result<Box<dyn Past>, String> {
    let since = match since {
        None => None,
        Some(Since { wall: Some(wall), .. }) => Some(*wall),
        Some(Since { text, .. }) => return Err(format!("{text:?} says nothing about a dump of another time zone")),
    };
    let (name, input): (String, Box<dyn Read>) = if path == Path::new("-") {
        ("standard input".to_owned(), Box::new(io::stdin()))
    } else {
        let failed = |error: io::Error| format!("cannot open {}: {}", path.display(), reason(&error));
        if fs::metadata(path).map_err(failed)?.is_dir() {
            return Ok(Box::new(Files::open(&[path.to_owned()], rules, query, since)?));
        }
        (path.display().to_string(), Box::new(File::open(path).map_err(failed)?))
    };
    let mut input = BufReader::with_capacity(BLOCK, input);
    let begins = input.fill_buf().map_err(|error| format!("cannot read {name}: {}", reason(&error)))?;
    if begins.starts_with(SIGNATURE) && path != Path::new("-") {
        return Ok(Box::new(Files::open(&[path.to_owned()], rules, query, since)?));
    }
    let language = match begins.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Language::Json(JsonLines::new(&query.fields)),
        _ => Language::Export(ExportReader::new(&query.fields)),
    };
    Ok(Box::new(Dump { input, name, language, since: since.unwrap_or(0) }))
}

/// Journal files.
struct Files(journal::Reader<'static>);

impl Files {
    /// Nothing found in no journal at all would say nothing, and sound as if all were well.
    fn open(paths: &[PathBuf], rules: &[Arc<Rule>], query: &Query, since: Option<u64>) -> Result<Files, String> {
        // An entry that repeats the one before it means something only where that is seen, too. Hardly anybody writes such.
        let repeats = journal::Test { field: "MESSAGE".to_owned(), accepts: Box::new(count::is_repeated) };
        let mut entry = Entry::default();
        let has_repeats = journal::Reader::open(paths, asked(query, since, vec![repeats]), Some(Path::new(JOURNALCTL)))
            .next(&mut entry);
        let tests = if has_repeats { Vec::new() } else { tests(rules) };
        let reader = journal::Reader::open(paths, asked(query, since, tests), Some(Path::new(JOURNALCTL)));
        if reader.summary().files > 0 || !reader.summary().troubles.is_empty() {
            return Ok(Files(reader));
        }
        let places: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        match places.is_empty() {
            true => {
                Err("this machine has no journal: journald keeps none in /var/log/journal or /run/log/journal"
                    .to_owned())
            }
            false => Err(format!("there are no journal files in {}", places.join(" and "))),
        }
    }
}

impl Past for Files {
    fn next(&mut self, entry: &mut Entry) -> Result<bool, String> {
        if self.0.next(entry) {
            return Ok(true);
        }
        let troubles = &self.0.summary().troubles;
        match troubles.iter().find(|trouble| !matches!(trouble.rest, journal::Rest::Read)) {
            Some(trouble) => Err(format!("cannot read the whole journal: {trouble}")),
            None => Ok(false),
        }
    }
}

/// The query as the reader of journal files takes it.
fn asked(query: &Query, since: Option<u64>, tests: Vec<journal::Test<'static>>) -> journal::Query<'static> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.as_bytes().to_vec())
    };
    let alternatives = query.alternatives.iter().map(|all| all.iter().map(pair).collect()).collect();
    journal::Query { since, alternatives, tests, fields: query.fields.clone(), ..journal::Query::default() }
}

/// Only entries that some pattern matches can count.
fn tests(rules: &[Arc<Rule>]) -> Vec<journal::Test<'static>> {
    let mut by_field: BTreeMap<String, Vec<Pattern>> = BTreeMap::new();
    for pattern in rules.iter().flat_map(|rule| &rule.patterns) {
        by_field.entry(pattern.looks_at().to_owned()).or_default().push(pattern.clone());
    }
    let test = |(field, patterns): (String, Vec<Pattern>)| journal::Test {
        field,
        accepts: Box::new(move |value| patterns.iter().any(|pattern| pattern.accepts(value))),
    };
    by_field.into_iter().map(test).collect()
}

/// A file or standard input.
struct Dump {
    input: BufReader<Box<dyn Read>>,
    name: String,
    language: Language,
    since: u64,
}

enum Language {
    Export(ExportReader),
    Json(JsonLines),
}

impl Past for Dump {
    fn next(&mut self, entry: &mut Entry) -> Result<bool, String> {
        loop {
            let block = self.input.fill_buf();
            let block = block.map_err(|error| format!("cannot read {}: {}", self.name, reason(&error)))?;
            let (length, mut input) = (block.len(), block);
            let is_over = length == 0;
            let found = match (&mut self.language, is_over) {
                (Language::Export(reader), false) => reader.next(&mut input, entry).map_err(|error| error.to_string()),
                (Language::Export(reader), true) => reader.finish(entry).map_err(|error| error.to_string()),
                (Language::Json(reader), false) => reader.next(&mut input, entry).map_err(|error| error.to_string()),
                (Language::Json(reader), true) => reader.finish(entry).map_err(|error| error.to_string()),
            };
            let used = length - input.len();
            self.input.consume(used);
            let is_entry = found.map_err(|why| format!("{}: {why}", self.name))?;
            if is_entry && entry.realtime >= self.since {
                return Ok(true);
            }
            if is_over && !is_entry {
                return Ok(false);
            }
        }
    }
}

/// A child that reads the journal.
struct Journalctl {
    child: Child,
    output: BufReader<ChildStdout>,
    decoder: ExportReader,
    is_over: bool,
}

impl Journalctl {
    fn start(query: &Query, since: &Since) -> Result<Journalctl, String> {
        let mut command = Command::new(JOURNALCTL);
        command.arg("--no-pager").arg(format!("--since={}", since.text));
        // What it has to say about the journal is for the person who has asked.
        command.args(query.arguments()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("cannot start journalctl: {}", reason(&error)))?;
        let output = child.stdout.take().ok_or("journalctl has no stdout")?;
        let output = BufReader::with_capacity(BLOCK, output);
        Ok(Journalctl { child, output, decoder: ExportReader::new(&query.fields), is_over: false })
    }

    fn end(&mut self) -> Result<bool, String> {
        self.is_over = true;
        match self.child.wait() {
            Ok(status) if status.success() => Ok(false),
            // journalctl(1) says so by 1 where it has nothing to show.
            Ok(status) if status.code() == Some(1) => Err("journalctl could not read the journal (exit 1)".to_owned()),
            Ok(status) => Err(format!("journalctl ended with {status}")),
            Err(error) => Err(format!("cannot wait for journalctl: {}", reason(&error))),
        }
    }
}

impl Past for Journalctl {
    fn next(&mut self, entry: &mut Entry) -> Result<bool, String> {
        while !self.is_over {
            let block =
                self.output.fill_buf().map_err(|error| format!("cannot read journalctl: {}", reason(&error)))?;
            if block.is_empty() {
                return self.end();
            }
            let (length, mut input) = (block.len(), block);
            let decoded = self.decoder.next(&mut input, entry);
            let used = length - input.len();
            self.output.consume(used);
            if decoded.map_err(|error| format!("journalctl wrote what cannot be read: {error}"))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Drop for Journalctl {
    fn drop(&mut self) {
        if !self.is_over {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// The system's word for an error, without the number that std adds.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.find(" (os error").map_or(text.clone(), |end| text[..end].to_owned())
}
