//! The demo's own directory: the configuration, the releases, the supervisor's sockets. It is gone when the demo has ended.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use steadfast_proto::exit::ExitCode;
use steadfast_proto::runtime::Surroundings;
use steadfast_supervisor::runtime_dir;

use crate::demo::release::{Kind, Releases};
use crate::failure::{Failure, reason};

/// The pool's name.
pub(crate) const POOL: &str = "demo";
/// The control socket in the directory.
pub(crate) const CONTROL: &str = "control.sock";
/// The configuration in the directory.
pub(crate) const CONFIGURATION: &str = "steadfast.toml";
/// Tells workers where the directory is.
pub(crate) const VARIABLE: &str = "STEADFAST_DEMO";

/// The directory; removed with what is in it when this is dropped.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    /// What it lies in, if that was made for it.
    base: Option<PathBuf>,
}

impl Home {
    /// Where runtime directories of this user lie, the first of these places that can be used.
    ///
    /// # Errors
    /// None can be used.
    pub(crate) fn make(surroundings: &Surroundings) -> Result<Home, Failure> {
        let mut tried = Vec::new();
        for base in surroundings.bases() {
            let path = base.join(format!("demo-{}", std::process::id()));
            let is_new = !base.exists();
            // One of this pid before us has been killed, and could not clear up.
            let _ = fs::remove_dir_all(&path);
            match runtime_dir::make(&path, false) {
                Ok(()) => return Ok(Home { path, base: is_new.then_some(base) }),
                Err(unusable) => tried.push(unusable.message),
            }
        }
        let message = format!("the demo finds no place for its directory; tried\n  {}", tried.join("\n  "));
        Err(Failure::new(ExitCode::System, message).hint("set XDG_RUNTIME_DIR to a directory of your own, mode 0700"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The first release and the configuration. Gives the path of the latter.
    ///
    /// # Errors
    /// As of the file system.
    pub(crate) fn furnish(&self, http: SocketAddr) -> Result<PathBuf, Failure> {
        let cannot = |what: &str, error: &std::io::Error| {
            let message = format!("cannot write {what} of the demo in {}: {}", self.path.display(), reason(error));
            Failure::new(ExitCode::System, message)
        };
        let releases = Releases::of(&self.path);
        releases.deploy(Kind::Good).map_err(|error| cannot("the first release", &error))?;
        let file = self.path.join(CONFIGURATION);
        let text = configuration(&self.path, &releases.current(), &program(), http);
        fs::write(&file, text).map_err(|error| cannot("the configuration", &error))?;
        Ok(file)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Whatever is left is small, private, and told to nobody.
        let _ = fs::remove_dir_all(&self.path);
        if let Some(base) = &self.base {
            let _ = fs::remove_dir(base);
        }
    }
}

/// This program, by its path; where the user has no way to it (a checkout below /root), by what the kernel calls it in each
/// process that runs it.
fn program() -> String {
    let path = std::env::current_exe().ok().filter(|path| rustix::fs::access(path, Access::EXEC_OK).is_ok());
    path.and_then(|path| path.to_str().map(str::to_owned)).unwrap_or_else(|| "/proc/self/exe".to_owned())
}

fn configuration(home: &Path, current: &Path, program: &str, http: SocketAddr) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let path = |path: &Path| quoted(&path.to_string_lossy());
    format!(
        "# Everything that the demo has told steadfast. Small figures, so that one sees things happen.
[supervisor]
runtime-dir  = {home}

[pool.{POOL}]
command      = [{program}, \"demo-worker\"]
directory    = {current}   # leads to the release that is deployed; followed once per generation
environment  = {{ {VARIABLE} = {home} }}
launch       = \"zygote\"      # loaded once, then forked
listen       = [\"http://{http}\"]
workers      = {{ min = 3, max = 6, step = 1, idle = \"15s\" }}
queue        = {{ length = 64, timeout = \"5s\" }}
request-timeout = \"3s\"
slow-request = \"1s\"
stop-timeout = \"4s\"
max-memory   = \"64MiB\"
rlimits      = {{ core = 0 }}

[pool.{POOL}.verify]         # a new worker serves nobody until it has answered this
request      = \"GET /health\"
expect       = {{ status = 200, body = \"ok\" }}
timeout      = \"2s\"

[pool.{POOL}.breaker]
failures     = 10
within       = \"90s\"
prove        = \"20s\"

[pool.{POOL}.exit-codes]
42           = \"asked to leave\"
",
        home = path(home),
        current = path(current),
        program = quoted(program),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use steadfast_config::load::{self, Context};

    use super::*;

    #[test]
    fn what_is_made_is_good_private_and_gone_afterwards() {
        let around = tempfile::tempdir().expect("a directory");
        let base = around.path().join("base \"quoted\"");
        let surroundings = Surroundings { runtime_directory: Some(base.clone().into()), ..Surroundings::default() };
        let home = Home::make(&surroundings).expect("made");
        let file = home.furnish("127.0.0.1:8080".parse().expect("an address")).expect("written");
        let mode = fs::metadata(home.path()).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let loaded = load::load(&file, &Context { directory: "/".into() }).expect("a good configuration");
        assert!(loaded.warnings.is_empty());
        let pool = &loaded.config.pools[POOL];
        assert_eq!(pool.command[1], "demo-worker");
        assert_eq!(loaded.config.supervisor.runtime_dir.as_deref(), Some(home.path()));
        drop(home);
        assert!(!base.exists(), "it was made for the demo alone");
    }

    #[test]
    fn where_one_place_cannot_be_used_the_next_one_is() {
        let around = tempfile::tempdir().expect("a directory");
        let file = around.path().join("file");
        fs::write(&file, "").expect("written");
        let good = around.path().join("good");
        let surroundings = Surroundings {
            runtime_directory: Some(file.into()),
            xdg_runtime_dir: Some(good.clone().into()),
            ..Surroundings::default()
        };
        let home = Home::make(&surroundings).expect("made");
        assert!(home.path().starts_with(&good), "{home:?}");
    }
}
