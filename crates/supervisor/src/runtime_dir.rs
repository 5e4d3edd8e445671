//! The runtime directory: where it is, whether it is safe, and whose it is.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use steadfast_config::types::Config;
use steadfast_proto::runtime::{Identity, Surroundings, directory as default_directory};

/// Why the directory cannot be used, for people, and the exit code that goes with it.
#[derive(Debug)]
pub struct Unusable {
    /// For people.
    pub message: String,
    /// Of the process.
    pub exit_code: u8,
}

/// The directory of interface.md, section 2: the configuration's, else BASE/ID. Absolute; nothing is created.
pub fn runtime_dir(config: &Config, directory: &Path) -> PathBuf {
    if let Some(configured) = &config.supervisor.runtime_dir {
        return directory.join(configured);
    }
    let surroundings = Surroundings {
        runtime_directory: std::env::var_os("RUNTIME_DIRECTORY"),
        xdg_runtime_dir: std::env::var_os("XDG_RUNTIME_DIR"),
        uid: rustix::process::geteuid().as_raw(),
    };
    let pool = config.pools.keys().next().map(String::as_str).unwrap_or_default();
    let identity = match &config.source {
        Some(path) => Identity::File(path),
        None => Identity::Command { pool, directory },
    };
    default_directory(&surroundings, identity)
}

/// Where the control socket of this configuration is. Absolute.
pub fn control_path(config: &Config, directory: &Path) -> PathBuf {
    runtime_dir(config, directory).join(&config.supervisor.control)
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Unusable {
    let exit_code = if error.kind() == std::io::ErrorKind::PermissionDenied { 77 } else { 71 };
    Unusable { message: format!("cannot {what} {}: {error}", path.display()), exit_code }
}

/// Makes the directory where it is missing.
///
/// # Errors
/// It cannot be made, or somebody else could put something into it, or take it away.
pub fn make(path: &Path, is_root: bool) -> Result<(), Unusable> {
    // Root's pools have sockets in there that web servers of other users must reach; names in it are no secret.
    let mode = if is_root { 0o711 } else { 0o700 };
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| cannot("create the runtime directory", path, &error))?;
    check(path)?;
    // A base under /tmp might have been made by somebody else before us, who could then move ours away.
    if let Some(base) = path.parent()
        && base.starts_with("/tmp")
        && base != Path::new("/tmp")
        && base.to_string_lossy().starts_with("/tmp/steadfast-")
    {
        check(base)?;
    }
    Ok(())
}

/// Makes the directory where it is missing and takes its lock: one supervisor each. The lock is held as long as the
/// file is open.
pub(crate) fn take(path: &Path, is_root: bool) -> Result<File, Unusable> {
    make(path, is_root)?;
    let lock_path = path.join("lock");
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&lock_path)
        .map_err(|error| cannot("open the lock in", path, &error))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let _ = lock.read_to_string(&mut pid);
        let pid = pid.trim();
        let message = format!(
            "another supervisor (pid {}) holds the runtime directory {}; stop it, or give this one another `runtime-dir`",
            if pid.is_empty() { "unknown" } else { pid },
            path.display()
        );
        return Err(Unusable { message, exit_code: 75 });
    }
    let written = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
    written.map_err(|error| cannot("write the lock in", path, &error))?;
    Ok(lock)
}

/// Ours, a directory and no link to one, and nobody else may write into it.
fn check(path: &Path) -> Result<(), Unusable> {
    let refuse = |why: String| Err(Unusable { message: format!("{} {why}", path.display()), exit_code: 77 });
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return refuse(format!("cannot be looked at: {error}")),
    };
    if !metadata.is_dir() {
        return refuse("is not a directory (a link to one is not taken)".to_owned());
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return refuse(format!("belongs to the user {}, not to the supervisor's", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return refuse(format!("may be written by others (mode {:04o})", metadata.mode() & 0o7777));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_second_supervisor_is_told_the_pid_of_the_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("run");
        let first = take(&path, false).expect("nobody has it");
        let refused = take(&path, false).expect_err("it is taken");
        assert_eq!(refused.exit_code, 75);
        assert!(refused.message.contains(&format!("pid {}", std::process::id())), "{}", refused.message);
        drop(first);
        take(&path, false).expect("it is free again");
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).expect("ours");
        assert_eq!(take(directory.path(), false).expect_err("not safe").exit_code, 77);
    }

    #[test]
    fn a_link_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let link = directory.path().join("link");
        fs::create_dir(directory.path().join("real")).expect("a directory");
        std::os::unix::fs::symlink("real", &link).expect("a link");
        assert_eq!(take(&link, false).expect_err("a link").exit_code, 77);
    }
}
