//! Shell scripts as far as they say what is started: assignments, exports, files that they read, and commands, in the order in
//! which they stand. Both ways of an `if` are taken.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::command::{assignment, base};
use crate::files::Files;
use crate::words::{Line, Token, split_shell};

/// A command that goes over more lines is none.
const LINES_MAX: usize = 50;
/// After so many that did not end, no command goes over lines any more: each was read once for every line.
const ENDLESS_MAX: usize = 20;
/// Files that read files.
const DEPTH_MAX: usize = 4;
/// No more than this is put in variables' places in all: what is left then has no value.
const EXPANDED_MAX: usize = 1024 * 1024;
/// More commands than this in one script are not looked at.
const FOUND_MAX: usize = 100;

/// A command that starts FastCGI workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) words: Vec<String>,
    pub(crate) unknown: Vec<String>,
    /// What the script has exported before.
    pub(crate) exported: BTreeMap<String, String>,
}

/// What a script does.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) found: Vec<Found>,
    /// What could not be read, with its file and line.
    pub(crate) unread: Vec<(String, usize, String)>,
    variables: BTreeMap<String, String>,
    exported: BTreeSet<String>,
    /// Where each variable got its value.
    assigned: BTreeMap<String, (String, usize)>,
    /// How much has been put in variables' places.
    expanded: Cell<usize>,
    is_full: bool,
    /// How many lines did not end.
    endless: usize,
}

impl Script {
    /// Reads a script; `programs` are those that are looked for.
    pub(crate) fn read(&mut self, shown: &str, text: &str, programs: &[&str], files: &dyn Files) {
        self.read_at(shown, text, programs, files, 0);
        if self.found.is_empty() {
            self.options_in_variables(programs[0]);
        }
    }

    fn read_at(&mut self, shown: &str, text: &str, programs: &[&str], files: &dyn Files, depth: usize) {
        let lines: Vec<&str> = text.lines().collect();
        let mut at = 0;
        while at < lines.len() {
            let (line, count) = self.logical(&lines[at..]);
            match line {
                Ok(line) => self.take(&line, (shown, at + 1), programs, files, depth),
                Err(why) => {
                    self.endless += 1;
                    self.unread.push((shown.to_owned(), at + 1, why));
                }
            }
            at += count;
        }
    }

    /// A line with those that it goes on in, and how many they are.
    fn logical(&self, lines: &[&str]) -> (Result<Line, String>, usize) {
        let lookup = |name: &str| {
            let value = self.variables.get(name)?;
            self.expanded.set(self.expanded.get() + value.len());
            (self.expanded.get() <= EXPANDED_MAX).then(|| value.clone())
        };
        let most = if self.endless < ENDLESS_MAX { LINES_MAX } else { 1 };
        let mut text = String::new();
        let mut first = None;
        for (count, line) in lines.iter().take(most).enumerate() {
            text.push_str(line);
            if line.ends_with('\\') && !line.ends_with("\\\\") {
                text.push('\n');
                continue;
            }
            match split_shell(&text, &lookup) {
                Ok(line) => return (Ok(line), count + 1),
                Err(why) => {
                    first.get_or_insert(why);
                    text.push('\n');
                }
            }
        }
        match split_shell(&text, &lookup) {
            Ok(line) if lines.len() <= most => (Ok(line), lines.len().max(1)),
            _ => (Err(first.unwrap_or_else(|| "the line does not end".into())), 1),
        }
    }

    fn take(&mut self, line: &Line, place: (&str, usize), programs: &[&str], files: &dyn Files, depth: usize) {
        for command in line.tokens.split(|token| *token == Token::End) {
            let keywords = ["if", "then", "else", "elif", "do", "while", "until", "!", "{", "time"];
            let words = command.iter().filter_map(|token| match token {
                Token::Word(word) => Some(word.clone()),
                Token::End | Token::Redirect => None,
            });
            let words: Vec<String> = words.skip_while(|word| keywords.contains(&word.as_str())).collect();
            self.simple(&words, &line.unknown, place, programs, files, depth);
        }
    }

    fn simple(
        &mut self,
        words: &[String],
        unknown: &[String],
        (file, line): (&str, usize),
        programs: &[&str],
        files: &dyn Files,
        depth: usize,
    ) {
        let Some(first) = words.first() else { return };
        let is_export = first == "export";
        let is_declaring = is_export || ["readonly", "local", "declare", "typeset"].contains(&first.as_str());
        if is_declaring || words.iter().all(|word| assignment(word).is_some()) {
            for word in words.iter().skip(usize::from(is_declaring)) {
                match assignment(word) {
                    Some((name, value)) => {
                        self.variables.insert(name.to_owned(), value.to_owned());
                        self.assigned.insert(name.to_owned(), (file.to_owned(), line));
                        self.exported.extend(is_export.then(|| name.to_owned()));
                    }
                    None if is_export => self.exported.extend([word.clone()]),
                    None => {}
                }
            }
            return;
        }
        if matches!(first.as_str(), "." | "source") && depth < DEPTH_MAX {
            if let Some(path) = words.get(1).filter(|path| path.starts_with('/')) {
                match files.read(Path::new(path)) {
                    Ok(text) => self.read_at(path, &text, programs, files, depth + 1),
                    Err(why) => self.unread.push((file.to_owned(), line, format!("{path} was not read: {why}"))),
                }
            }
            return;
        }
        self.started(words, unknown, (file, line), programs);
    }

    fn started(&mut self, words: &[String], unknown: &[String], (file, line): (&str, usize), programs: &[&str]) {
        let is_wanted = |word: &String| programs.contains(&base(word));
        let Some(at) = words.iter().position(is_wanted) else { return };
        let own_assignments = words.iter().take_while(|word| assignment(word).is_some()).count();
        let program = words.get(own_assignments).map(|word| base(word)).unwrap_or_default();
        let starters = ["exec", "env", "nohup", "setsid", "sudo", "setuidgid", "nice", "command"];
        let words: Vec<String> = if program == "start-stop-daemon" {
            // start-stop-daemon --exec PROGRAM … -- ARGUMENTS
            let is_start = words.iter().any(|word| word == "--start" || word == "-S");
            let is_test = words.iter().any(|word| word == "--test" || word == "-t");
            let Some(end) = words.iter().position(|word| word == "--").filter(|_| is_start && !is_test) else { return };
            [&words[at..=at], &words[end + 1..]].concat()
        } else if at == own_assignments || starters.contains(&program) {
            words.to_vec()
        } else {
            return;
        };
        if self.found.len() >= FOUND_MAX {
            if !std::mem::replace(&mut self.is_full, true) {
                let why = format!("more than {FOUND_MAX} commands: this one and others were left out");
                self.unread.push((file.to_owned(), line, why));
            }
            return;
        }
        let exported = self.exported.iter().filter_map(|name| Some((name.clone(), self.variables.get(name)?.clone())));
        let found = Found {
            file: file.to_owned(),
            line,
            unknown: unknown
                .iter()
                .filter(|what| words.iter().any(|word| word.contains(what.as_str())))
                .cloned()
                .collect(),
            words,
            exported: exported.collect(),
        };
        if !self.found.iter().any(|other| other.words == found.words) {
            self.found.push(found);
        }
    }

    /// A file of defaults: one variable has all the options.
    fn options_in_variables(&mut self, program: &str) {
        for (name, value) in &self.variables {
            let Ok(line) = split_shell(value, &|_| None) else { continue };
            let words = line.words();
            let has = |option: &str| words.iter().any(|word| word == option);
            if words.first().is_some_and(|word| word.starts_with('-')) && has("--") && (has("-s") || has("-p")) {
                let (file, line) = self.assigned.get(name).cloned().unwrap_or_default();
                let words = std::iter::once(program.to_owned()).chain(words).collect();
                let (unknown, exported) = (Vec::new(), BTreeMap::new());
                self.found.push(Found { file, line, words, unknown, exported });
            }
        }
    }
}
