//! Decides where a supervisor's runtime directory lies when the configuration does not say (interface.md, section 2).
//!
//! Pure: whether a directory is safe to use (ours, 0700, no link) is for the supervisor to see.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where the runtime directory is when steadfast runs as a service of the system.
const SYSTEM: &str = "/run/steadfast";

/// What the process finds around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `$RUNTIME_DIRECTORY`: systemd's list, separated by colons; the first one counts.
    pub runtime_directory: Option<OsString>,
    /// `$XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<OsString>,
    /// The effective user.
    pub uid: u32,
}

/// What tells one supervisor of a user from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// Its configuration file, absolute.
    File(&'a Path),
    /// `run -- COMMAND`: the pool's name and the absolute directory in which it was started.
    Command {
        /// The pool's name.
        pool: &'a str,
        /// The current directory at start.
        directory: &'a Path,
    },
}

impl Surroundings {
    /// The base directory under which this process makes its runtime directory. Relative values do not count.
    pub fn base(&self) -> PathBuf {
        self.systemd().or_else(|| self.xdg()).unwrap_or_else(|| self.temporary())
    }

    /// Every base directory in which a supervisor of this user, or of the system, may have made its own; without
    /// repeats, the likeliest first.
    pub fn bases(&self) -> Vec<PathBuf> {
        let mut bases = vec![self.base()];
        for base in [self.xdg(), Some(self.temporary()), Some(PathBuf::from(SYSTEM))].into_iter().flatten() {
            if !bases.contains(&base) {
                bases.push(base);
            }
        }
        bases
    }

    fn systemd(&self) -> Option<PathBuf> {
        let first = self.runtime_directory.as_ref()?.as_bytes().split(|&byte| byte == b':').next()?;
        let first = Path::new(OsStr::from_bytes(first));
        first.is_absolute().then(|| first.to_path_buf())
    }

    fn xdg(&self) -> Option<PathBuf> {
        let directory = Path::new(self.xdg_runtime_dir.as_ref()?);
        directory.is_absolute().then(|| directory.join("steadfast"))
    }

    fn temporary(&self) -> PathBuf {
        PathBuf::from(format!("/tmp/steadfast-{}", self.uid))
    }
}

impl Identity<'_> {
    /// The name of the directory under the base: a readable stem and 8 hexadecimal digits of the path's hash.
    pub fn directory(&self) -> String {
        let (stem, path) = match self {
            Identity::File(path) => (path.file_stem().unwrap_or_default().to_string_lossy(), path),
            Identity::Command { pool, directory } => ((*pool).into(), directory),
        };
        // The whole control socket's path must fit into 107 bytes.
        let stem: String = stem.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(32).collect();
        format!("{stem}-{:08x}", hash(path.as_os_str().as_bytes()))
    }
}

/// The default runtime directory: BASE/ID.
pub fn directory(surroundings: &Surroundings, identity: Identity<'_>) -> PathBuf {
    surroundings.base().join(identity.directory())
}

/// FNV-1a with 64 bits, folded to 32: the same in every version, so that a newer `status` finds an older supervisor.
fn hash(bytes: &[u8]) -> u32 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let [a, b, c, d, e, f, g, h] = hash.to_be_bytes();
    u32::from_be_bytes([a ^ e, b ^ f, c ^ g, d ^ h])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(runtime: Option<&str>, xdg: Option<&str>) -> Surroundings {
        Surroundings { runtime_directory: runtime.map(Into::into), xdg_runtime_dir: xdg.map(Into::into), uid: 7 }
    }

    #[test]
    fn the_base_is_systemds_then_the_sessions_then_a_temporary_one() {
        assert_eq!(surroundings(Some("/run/a:/run/b"), Some("/run/user/7")).base(), Path::new("/run/a"));
        assert_eq!(surroundings(None, Some("/run/user/7")).base(), Path::new("/run/user/7/steadfast"));
        assert_eq!(surroundings(None, None).base(), Path::new("/tmp/steadfast-7"));
    }

    #[test]
    fn relative_and_empty_values_do_not_count() {
        assert_eq!(surroundings(Some(""), Some("x")).base(), Path::new("/tmp/steadfast-7"));
        assert_eq!(surroundings(Some("a"), Some("/run/user/7")).base(), Path::new("/run/user/7/steadfast"));
    }

    #[test]
    fn a_client_looks_in_every_place_once() {
        let bases = surroundings(None, Some("/run/user/7")).bases();
        assert_eq!(bases, ["/run/user/7/steadfast", "/tmp/steadfast-7", "/run/steadfast"].map(PathBuf::from));
        assert_eq!(surroundings(Some("/run/steadfast"), None).bases().len(), 2);
    }

    /// The names are an interface between versions: these must never change.
    #[test]
    fn names_are_readable_short_and_stable() {
        let file = Identity::File(Path::new("/etc/steadfast/steadfast.toml")).directory();
        let command = Identity::Command { pool: "app", directory: Path::new("/srv/site") }.directory();
        assert_eq!((file.as_str(), command.as_str()), ("steadfast-8254611d", "app-29765237"));
        let odd = Identity::File(Path::new("/x/ä b/é …~.toml")).directory();
        assert!(odd.bytes().all(|byte| byte.is_ascii_graphic()), "{odd}");
        let long = format!("/{}.toml", "x".repeat(200));
        assert!(Identity::File(Path::new(&long)).directory().len() <= 41);
    }

    #[test]
    fn two_files_of_one_name_have_two_directories() {
        let one = Identity::File(Path::new("/a/steadfast.toml")).directory();
        assert_ne!(one, Identity::File(Path::new("/b/steadfast.toml")).directory());
    }
}
