//! What an import may look at beside what it was given.

use std::cell::Cell;
use std::path::{Path, PathBuf};

/// The machine's files, or a test's.
pub trait Files {
    /// The text of a file.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    fn read(&self, path: &Path) -> Result<String, String>;

    /// The files in a directory in the order of their names; none where it cannot be read.
    fn list(&self, directory: &Path) -> Vec<PathBuf>;
}

/// A longer file is refused: none that a person wrote is so long, and some are read more than once.
pub const TEXT_MAX: usize = 256 * 1024;

/// More other files than this are not read in one import.
const FILES_MAX: usize = 100;
/// Nor more of them in all.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Another's files, but not without end: some name themselves, or each other.
pub(crate) struct Bounded<'a> {
    files: &'a dyn Files,
    files_left: Cell<usize>,
    bytes_left: Cell<usize>,
}

impl<'a> Bounded<'a> {
    /// For one import.
    pub(crate) fn new(files: &'a dyn Files) -> Bounded<'a> {
        Bounded { files, files_left: Cell::new(FILES_MAX), bytes_left: Cell::new(BYTES_MAX) }
    }
}

impl Files for Bounded<'_> {
    fn read(&self, path: &Path) -> Result<String, String> {
        let left =
            self.files_left.get().checked_sub(1).ok_or_else(|| format!("it is one of more than {FILES_MAX} files"))?;
        let text = self.files.read(path)?;
        self.files_left.set(left);
        let bytes_left = self.bytes_left.get().checked_sub(text.len());
        self.bytes_left.set(bytes_left.ok_or_else(|| format!("all files have more than {} KiB", BYTES_MAX / 1024))?);
        Ok(text)
    }

    fn list(&self, directory: &Path) -> Vec<PathBuf> {
        self.files.list(directory)
    }
}

/// The files that a pattern names, with `*` and `?` in its last part only.
pub(crate) fn find(files: &dyn Files, pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !name.contains(['*', '?']) {
        return vec![pattern.to_owned()];
    }
    let found = files.list(pattern.parent().unwrap_or(Path::new("/"))).into_iter();
    let is_named = |path: &PathBuf| path.file_name().is_some_and(|file| is_match(&name, &file.to_string_lossy()));
    found.filter(is_named).collect()
}

/// glob(7) without brackets: greedy, with one step back, so that it is never slow.
fn is_match(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// No files at all: only what was given counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Files for Nothing {
    fn read(&self, _path: &Path) -> Result<String, String> {
        Err("it was not given".into())
    }

    fn list(&self, _directory: &Path) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// A file as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As messages show it.
    pub shown: String,
    /// Where it is; `None` for standard input.
    pub path: Option<PathBuf>,
    /// What it says.
    pub text: String,
}
