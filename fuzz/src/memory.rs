//! A directory in memory, one for each process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where a target may write what is read again.
pub fn directory() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let directory = base.join(format!("steadfast-fuzz-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory of our own");
        directory
    })
}
