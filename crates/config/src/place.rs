//! Where a value stands: in a file, or in an argument of the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One file as read, with an index of its lines.
#[derive(Debug)]
pub(crate) struct Source {
    /// The path as messages show it: as typed, not as resolved.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    line_starts: Vec<usize>,
}

impl Source {
    pub(crate) fn new(path: &Path, text: String) -> Arc<Self> {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Arc::new(Self { path: path.to_owned(), text, line_starts })
    }

    /// The line (from 1) that holds the byte at `offset`, and where in the text it starts.
    pub(crate) fn line(&self, offset: usize) -> (usize, usize) {
        let number = self.line_starts.partition_point(|start| *start <= offset).max(1);
        (number, self.line_starts[number - 1])
    }

    /// The lines from number `line` (from 1) on.
    pub(crate) fn lines_from(&self, line: usize) -> impl Iterator<Item = &str> {
        let start = self.line_starts.get(line.saturating_sub(1)).copied();
        self.text[start.unwrap_or(self.text.len())..].lines()
    }

    /// The text from `start` to the end of its line, without the line's end.
    pub(crate) fn line_text(&self, start: usize) -> &str {
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        line.strip_suffix('\r').unwrap_or(line)
    }
}

/// Where one value stands.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A span of bytes of a file.
    File(Arc<Source>, Range<usize>),
    /// An argument of the command line, as typed.
    Argument(String),
}

/// The places of all values, by key path (`pool.site.listen[1]`).
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(BTreeMap<String, Place>);

impl Places {
    pub(crate) fn insert(&mut self, key_path: String, place: Place) {
        self.0.insert(key_path, place);
    }

    /// The value's own place.
    pub(crate) fn get(&self, key_path: &str) -> Option<&Place> {
        self.0.get(key_path)
    }

    /// The key paths of all values that start on one of these lines.
    pub(crate) fn starting_on(&self, lines: &BTreeSet<(PathBuf, usize)>) -> Vec<String> {
        let is_on = |place: &Place| match place {
            Place::File(source, span) => lines.contains(&(source.path.clone(), source.line(span.start).0)),
            Place::Argument(_) => false,
        };
        let places = self.0.iter().filter(|_| !lines.is_empty());
        places.filter(|(_, place)| is_on(place)).map(|(key_path, _)| key_path.clone()).collect()
    }

    /// The value's own place, else that of the nearest table around it (a default stands nowhere).
    pub(crate) fn nearest(&self, key_path: &str) -> Option<&Place> {
        let mut path = key_path;
        loop {
            if let Some(place) = self.0.get(path) {
                return Some(place);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}
