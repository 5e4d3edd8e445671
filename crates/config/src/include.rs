//! Files: reads one with a limit, and finds those that `include` names.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::values::Complaint;

/// A configuration is written by people: more than this is not one.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The most files that all patterns of `include` may name together.
pub(crate) const FILES_MAX: usize = 256;

/// Reads a regular file of at most 1 MiB as UTF-8.
///
/// A wrong byte is told by line and column: the second part of the error is its offset, with the text before it.
pub(crate) fn read(path: &Path) -> Result<String, (Complaint, Option<String>)> {
    let failed = |error: &std::io::Error| {
        let complaint = Complaint::new(format!("cannot read the configuration: {}", reason(error)));
        let complaint = match error.kind() {
            std::io::ErrorKind::NotFound => complaint.hint("name the file with -c, or write one"),
            std::io::ErrorKind::PermissionDenied => {
                complaint.hint("look at the owner and mode of the file and its directories")
            }
            _ => complaint,
        };
        (complaint, None)
    };
    // Opening a FIFO would wait for its writer, so the kind is asked first.
    let metadata = fs::metadata(path).map_err(|error| failed(&error))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory" } else { "not a regular file" };
        return Err((Complaint::new(format!("cannot read the configuration: it is {what}")), None));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| failed(&error))?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err((Complaint::new("the configuration is larger than 1 MiB").hint("is this the right file?"), None));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(good).copied().unwrap_or_default();
        let text = String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned();
        let complaint =
            Complaint::new(format!("not UTF-8: byte 0x{byte:02x} cannot stand here")).hint("save the file as UTF-8");
        (complaint, Some(text))
    })
}

/// The error without "(os error 2)".
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_lowercase()
}

/// The files that one pattern of `include` names, sorted. `*` and `?` may stand in the last component only.
pub(crate) fn find(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, Complaint> {
    let (directory, name) = pattern.rsplit_once('/').map_or(("", pattern), |(directory, name)| (directory, name));
    let is_wild = |text: &str| text.contains(['*', '?']);
    if pattern.contains(['[', ']', '{', '}']) {
        return Err(Complaint::new(format!("`include` knows only * and ?, not {pattern:?}")));
    }
    if is_wild(directory) {
        return Err(Complaint::new(format!("{pattern:?}: only the last part of the path can have * or ?"))
            .hint("name each directory by itself"));
    }
    if name.is_empty() {
        return Err(Complaint::new(format!("{pattern:?} names no files")).hint("write \"pool.d/*.toml\""));
    }
    let directory = match (directory, pattern.starts_with('/')) {
        ("", true) => PathBuf::from("/"),
        (directory, _) => base.join(directory),
    };
    if !is_wild(name) {
        return Ok(vec![directory.join(name)]);
    }
    // A directory that is not there holds no pools: a package may create it with the first one.
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Complaint::new(format!("cannot list {}: {}", directory.display(), reason(&error))));
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry
            .map_err(|error| Complaint::new(format!("cannot list {}: {}", directory.display(), reason(&error))))?;
        let found = entry.file_name();
        let is_hidden = found.as_encoded_bytes().first() == Some(&b'.') && !name.starts_with('.');
        if !is_hidden && matches(name.as_bytes(), found.as_encoded_bytes()) {
            files.push(entry.path());
        }
        if files.len() > FILES_MAX {
            return Err(too_many());
        }
    }
    files.sort();
    Ok(files)
}

/// More files than [`FILES_MAX`].
pub(crate) fn too_many() -> Complaint {
    Complaint::new(format!("`include` names more than {FILES_MAX} files"))
}

/// Whether `name` fits a pattern with `*` (any bytes) and `?` (one byte). Goes back only to the last `*`,
/// so the time is at most the product of both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                p += 1;
                n += 1;
            }
            Some(_) | None => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_takes_any_number_of_bytes() {
        let fits = |pattern: &str, name: &str| matches(pattern.as_bytes(), name.as_bytes());
        assert!(fits("*.toml", "site.toml"));
        assert!(fits("*.toml", ".toml"));
        assert!(fits("*", "x"));
        assert!(fits("a*b*c", "a-b-b-c"));
        assert!(fits("?.toml", "a.toml"));
        assert!(!fits("*.toml", "site.toml~"));
        assert!(!fits("?.toml", "ab.toml"));
        assert!(!fits("a*b", "acc"));
        assert!(!fits("", "a"));
        assert!(!fits(&"*a".repeat(50), &"b".repeat(255)));
    }

    #[test]
    fn patterns_are_simple() {
        let base = Path::new("/base");
        assert_eq!(find(base, "one.toml"), Ok(vec!["/base/one.toml".into()]));
        assert_eq!(find(base, "/etc/one.toml"), Ok(vec!["/etc/one.toml".into()]));
        assert_eq!(find(base, "/one.toml"), Ok(vec!["/one.toml".into()]));
        assert_eq!(find(base, "absent/*.toml"), Ok(vec![]));
        for bad in ["*/one.toml", "pool.d/", "[ab].toml", "{a,b}.toml", ""] {
            assert!(find(base, bad).is_err(), "{bad}");
        }
    }
}
