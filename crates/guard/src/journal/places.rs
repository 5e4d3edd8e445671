//! Where the journal of this machine is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What journald writes to: kept, and until the next boot.
const PLACES: [&str; 2] = ["/var/log/journal", "/run/log/journal"];

/// The directories of this machine's own journal, as `journalctl` without arguments reads them. They need not have files.
///
/// # Errors
/// The machine's id cannot be read.
pub fn places() -> io::Result<Vec<PathBuf>> {
    let id = fs::read_to_string("/etc/machine-id")?;
    let id = id.trim();
    if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "/etc/machine-id does not hold an id"));
    }
    Ok(PLACES.iter().map(|place| Path::new(place).join(id)).filter(|place| place.is_dir()).collect())
}

/// The journal files in a directory and in those directories in it that are named as a machine's id.
pub(super) fn files_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let kind = entry.file_type()?;
            if name.ends_with(".journal") || name.ends_with(".journal~") {
                if !kind.is_dir() {
                    files.push(entry.path());
                }
            } else if depth == 0 && !kind.is_file() && is_machine(name) && entry.path().is_dir() {
                directories.push((entry.path(), depth + 1));
            }
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// 32 hexadecimal digits, and a namespace after a dot.
fn is_machine(name: &str) -> bool {
    let id = name.split_once('.').map_or(name, |(id, _)| id);
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// This boot's id, as journal files have it.
pub(super) fn boot() -> Option<[u8; 16]> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&id.trim().replace('-', ""), 16).ok().map(u128::to_be_bytes)
}

/// Whether its writer gave the file up in disorder: journald found it unclean after a crash and put it aside under this name.
pub(super) fn is_put_aside(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "journal~")
}
