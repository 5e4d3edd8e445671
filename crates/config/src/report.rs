//! What is wrong, as a list for programs and drawn as rustc draws it for people.

use std::collections::BTreeSet;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Element, Group, Level as Title, Origin, Renderer, Snippet};
use serde::Serialize;

use crate::place::{Place, Places};

/// More problems than this are counted, not listed.
const PROBLEMS_MAX: usize = 100;
/// More findings than this are not even drawn: a line of a megabyte could hold a mistake in every word.
const FINDINGS_MAX: usize = 1_000;
/// Lines longer than this many bytes are named, not drawn.
const EXCERPT_MAX: usize = 2_000;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The configuration is refused.
    Error,
    /// The configuration is good, but this may be meant otherwise.
    Warning,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub level: Level,
    /// What is wrong: lower case, one sentence.
    pub message: String,
    /// The file, as it was typed or found.
    pub file: Option<PathBuf>,
    /// Counted from 1.
    pub line: Option<usize>,
    /// In characters, counted from 1.
    pub column: Option<usize>,
    /// The argument of the command line, as typed.
    pub argument: Option<String>,
    /// What to type instead.
    pub hint: Option<String>,
    #[serde(skip)]
    excerpt: Option<Excerpt>,
}

/// The line that is drawn, and which bytes of it are marked.
#[derive(Clone, Debug, PartialEq)]
struct Excerpt {
    text: String,
    start: usize,
    end: usize,
}

impl Problem {
    pub(crate) fn new(level: Level, message: impl Into<String>) -> Self {
        Self {
            level,
            message: message.into(),
            file: None,
            line: None,
            column: None,
            argument: None,
            hint: None,
            excerpt: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    pub(crate) fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Names the place. A span that passes the end of its first line is cut there; one that lies beyond
    /// the file or within a character is moved to the nearest boundary before it.
    pub(crate) fn at(mut self, place: &Place) -> Self {
        let (source, span) = match place {
            Place::File(source, span) => (source, span),
            Place::Argument(argument) => {
                self.argument = Some(argument.clone());
                return self;
            }
        };
        let start = source.text.floor_char_boundary(span.start);
        let (line, line_start) = source.line(start);
        let text = source.line_text(line_start);
        let from = text.floor_char_boundary(start - line_start);
        let to = text.floor_char_boundary(span.end.saturating_sub(line_start)).max(from);
        self.file = Some(source.path.clone());
        self.line = Some(line);
        self.column = Some(text[..from].chars().count() + 1);
        if text.len() <= EXCERPT_MAX {
            self.excerpt = Some(Excerpt { text: text.to_owned(), start: from, end: to });
        }
        self
    }

    pub(crate) fn maybe_at(self, place: Option<&Place>) -> Self {
        match place {
            Some(place) => self.at(place),
            None => self,
        }
    }

    fn render(&self, renderer: &Renderer) -> String {
        let title = match self.level {
            Level::Error => Title::ERROR,
            Level::Warning => Title::WARNING,
        };
        let path = self.file.as_ref().map(|file| file.to_string_lossy().into_owned());
        let mut elements: Vec<Element<'_>> = Vec::new();
        match (&self.excerpt, self.line, path) {
            (Some(excerpt), Some(line), path) => elements.push(
                Snippet::source(excerpt.text.as_str())
                    .line_start(line)
                    .path(path)
                    .annotation(AnnotationKind::Primary.span(excerpt.start..excerpt.end))
                    .into(),
            ),
            (None, Some(line), Some(path)) => {
                let origin = Origin::path(path).line(line);
                elements.push(match self.column {
                    Some(column) => origin.char_column(column).into(),
                    None => origin.into(),
                });
            }
            (_, _, Some(path)) => elements.push(Origin::path(path).into()),
            (_, _, None) => {}
        }
        if let Some(argument) = &self.argument {
            elements.push(Title::NOTE.message(format!("in {argument}")).into());
        }
        if let Some(hint) = &self.hint {
            elements.push(Title::HELP.message(hint.as_str()).into());
        }
        let group = Group::with_title(title.primary_title(self.message.as_str())).elements(elements);
        renderer.render(&[group])
    }
}

/// Every problem of one configuration, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    problems: Vec<Problem>,
    /// How many more there were than are listed.
    omitted: usize,
}

impl Report {
    /// Of `problems`, and of `uncollected` ones that are only counted.
    pub(crate) fn new(mut problems: Vec<Problem>, uncollected: usize) -> Self {
        let omitted = uncollected + problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        Self { problems, omitted }
    }

    /// What is wrong, in the order of the files.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// For people: each problem with its place, the line, a caret and a hint; a blank line between them.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for problem in &self.problems {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&problem.render(&renderer));
            text.push('\n');
        }
        if self.omitted > 0 {
            text.push_str(&format!("\n… and {} more\n", self.omitted));
        }
        text
    }
}

/// Collects problems, and remembers which keys are already known to be wrong, so that one mistake is told once.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
    pub(crate) places: Places,
    /// How many errors there were beyond [`FINDINGS_MAX`].
    pub(crate) uncollected: usize,
    broken: BTreeSet<String>,
    unread: BTreeSet<String>,
}

impl Findings {
    /// None yet, about values whose places are known.
    pub(crate) fn at(places: Places) -> Self {
        Self { places, ..Self::default() }
    }

    /// An error of the value at `key_path`, drawn there or at the nearest table around it.
    pub(crate) fn error(&mut self, key_path: &str, message: impl Into<String>, hint: Option<String>) {
        if self.errors.len() < FINDINGS_MAX {
            let problem = Problem::new(Level::Error, message).maybe_hint(hint);
            let place = self.places.nearest(key_path);
            self.errors.push(problem.maybe_at(place));
        } else {
            self.uncollected += 1;
        }
        self.broken.insert(key_path.to_owned());
    }

    /// A warning about the value at `key_path`.
    pub(crate) fn warning(&mut self, key_path: &str, message: impl Into<String>, hint: Option<String>) {
        if self.warnings.len() < FINDINGS_MAX {
            let problem = Problem::new(Level::Warning, message).maybe_hint(hint);
            let place = self.places.nearest(key_path);
            self.warnings.push(problem.maybe_at(place));
        }
    }

    /// The value at `key_path` could not be read, so nothing can be said about it or about what is within it.
    pub(crate) fn mark_unread(&mut self, key_path: String) {
        self.unread.insert(key_path);
    }

    /// Whether what the file says at `key_path` is unknown: the value, or a table around it, could not be read.
    pub(crate) fn is_unread(&self, key_path: &str) -> bool {
        let mut path = key_path;
        loop {
            if self.unread.contains(path) {
                return true;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return false,
            }
        }
    }

    /// Whether the value at `key_path`, or one within it, is already known to be wrong, or could not be read.
    pub(crate) fn is_broken(&self, key_path: &str) -> bool {
        if self.is_unread(key_path) {
            return true;
        }
        self.broken
            .range(key_path.to_owned()..)
            .map_while(|path| path.strip_prefix(key_path))
            .any(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}
