//! Finds the crates and the files of a workspace on disk.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold nothing of ours.
const SKIPPED: [&str; 3] = ["target", ".git", "node_modules"];

/// One file with its text.
#[derive(Debug, Clone)]
pub struct Source {
    /// Relative to the workspace, for findings.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

/// The directories under `crates/` that hold a `Cargo.toml`, in the order of their names.
///
/// # Errors
/// When the directory cannot be read.
pub fn crates(root: &Path) -> Result<Vec<PathBuf>, String> {
    let directory = root.join("crates");
    let mut found: Vec<PathBuf> =
        entries(&directory)?.into_iter().filter(|path| path.join("Cargo.toml").is_file()).collect();
    found.sort();
    Ok(found)
}

/// Every file under `start` whose name `wanted` accepts, with its text, paths relative to `root`.
///
/// # Errors
/// When a directory or a file cannot be read, or is not UTF-8.
pub fn files(root: &Path, start: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Source>, String> {
    let mut found = Vec::new();
    let mut waiting = vec![start.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                waiting.extend(entries(&path)?);
            }
        } else if path.is_file() && wanted(&name) {
            found.push(Source { text: read(&path)?, path: path.strip_prefix(root).unwrap_or(&path).to_path_buf() });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// A file's text.
///
/// # Errors
/// When it cannot be read, or is not UTF-8.
pub fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot = |error| format!("cannot read {}: {error}", directory.display());
    fs::read_dir(directory).map_err(cannot)?.map(|entry| entry.map(|entry| entry.path()).map_err(cannot)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_crates_and_files_and_skips_target() {
        let root = tempfile::tempdir().expect("a temporary directory");
        for path in ["crates/a/src", "crates/a/target", "crates/b"] {
            fs::create_dir_all(root.path().join(path)).expect("a directory");
        }
        for path in ["crates/a/Cargo.toml", "crates/a/src/lib.rs", "crates/a/target/x.rs"] {
            fs::write(root.path().join(path), "text").expect("a file");
        }
        assert_eq!(crates(root.path()).expect("crates"), [root.path().join("crates/a")]);
        let found = files(root.path(), root.path(), &|name| name.ends_with(".rs")).expect("the files");
        let paths: Vec<_> = found.iter().map(|file| file.path.clone()).collect();
        assert_eq!(paths, [PathBuf::from("crates/a/src/lib.rs")]);
    }
}
