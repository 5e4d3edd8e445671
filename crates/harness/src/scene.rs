//! One test's directory, which the users of workers may enter, and whatever still runs in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A directory of its own for one test.
#[derive(Debug)]
pub struct Scene {
    directory: TempDir,
}

impl Scene {
    /// A fresh directory under the system's temporary one, mode 0755.
    #[must_use]
    pub fn new() -> Scene {
        let directory =
            tempfile::Builder::new().prefix("steadfast-test-").tempdir().expect("a temporary directory can be made");
        allow(directory.path(), 0o755);
        Scene { directory }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A path inside.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file that everybody may read.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            fs::create_dir_all(directory).expect("a directory in the scene can be made");
            allow(directory, 0o755);
        }
        fs::write(&path, text).expect("a file in the scene can be written");
        allow(&path, 0o644);
        path
    }

    /// An empty file that everybody may write, for what workers have to say.
    #[must_use]
    pub fn shared_file(&self, name: &str) -> PathBuf {
        let path = self.write(name, "");
        allow(&path, 0o666);
        path
    }

    /// A program that everybody may run; written aside and renamed, so that a running one is never overwritten.
    pub fn program(&self, name: &str, text: &str) -> PathBuf {
        let aside = self.write(&format!("{name}.new"), text);
        allow(&aside, 0o755);
        let path = self.join(name);
        fs::rename(&aside, &path).expect("a file in the scene can be renamed");
        path
    }

    /// The pids of all processes whose working directory is in the scene: what a stopped supervisor has left behind.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let mut found: Vec<u32> = super::proc::all()
            .into_iter()
            .filter(|pid| {
                fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|directory| directory.starts_with(self.path()))
            })
            .collect();
        found.sort_unstable();
        found
    }
}

impl Default for Scene {
    fn default() -> Scene {
        Scene::new()
    }
}

/// Sets a file's permissions, whatever the umask is.
pub fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file's mode can be set");
}
