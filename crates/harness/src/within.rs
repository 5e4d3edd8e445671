//! Places to run in: a supervisor behind another program, a test in namespaces of its own, a control group.

use std::fs;
use std::io::{Write, stderr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;

use super::daemon::{Config, Daemon, STEADFAST, is_root};
use super::proc;
use super::scene::Scene;

/// Set in a test's second run; its value says which of its cases this is.
const INSIDE: &str = "STEADFAST_TEST_INSIDE";

/// Says that this machine cannot make a case. Past the test runner's own capture, so that it is seen.
pub fn skipped(fault: &str, reason: &str) {
    // Where stderr is closed nobody wants to know.
    let _unheard = writeln!(stderr(), "SKIPPED {fault}: {reason}");
}

/// Starts the supervisor on this configuration by way of a program that executes its arguments (`prlimit …`).
#[must_use]
pub fn start_within(config: &Config, scene: &Scene, wrapper: &[String]) -> Daemon {
    let file = config.write(scene);
    let mut command = Command::new(&wrapper[0]);
    command.args(&wrapper[1..]).arg(STEADFAST).arg("run").arg("-c").arg(file);
    Daemon::spawn(command, scene, &scene.join("run/control.sock"))
}

/// Runs the test `name` again under `unshare OPTIONS`, once for each of `cases`, and fails as it fails. In that second
/// run it gives the case; in the first run nothing: the work is done then.
#[must_use]
pub fn inside(name: &str, cases: &[(&str, Vec<String>)]) -> Option<String> {
    if let Ok(case) = std::env::var(INSIDE) {
        return Some(case);
    }
    let fault = name.get(..9).unwrap_or(name);
    if !is_root() {
        skipped(fault, "namespaces need root here");
        return None;
    }
    let program = std::env::current_exe().expect("a test knows its program");
    for (case, options) in cases {
        let tried = unshare(options).arg("true").output().expect("unshare of util-linux is there");
        if !tried.status.success() {
            skipped(fault, &format!("{case}: {}", String::from_utf8_lossy(&tried.stderr).trim()));
            continue;
        }
        let output = unshare(options)
            .arg(&program)
            .args(["--exact", name, "--nocapture", "--test-threads", "1"])
            .env(INSIDE, case)
            // The second run is not the runner's own and must not speak its protocol.
            .env_remove("NEXTEST")
            .process_group(0)
            .output()
            .expect("unshare of util-linux is there");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        for line in said.lines().filter(|line| line.starts_with("SKIPPED ")) {
            let _unheard = writeln!(stderr(), "{line}");
        }
        assert!(output.status.success(), "{name}, {case}:\n{}{said}", String::from_utf8_lossy(&output.stdout));
    }
    None
}

fn unshare(options: &[String]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--fork", "--kill-child"]).args(options).arg("--");
    command
}

/// A control group for one test, of the first or the second kind, removed at the end.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    is_second: bool,
}

impl Cgroup {
    /// With this controller (`memory`, `cpu`, `pids`, `freezer`; `core` is what the second kind can without any), or
    /// why not.
    ///
    /// # Errors
    /// When no such hierarchy is mounted or we may not write to it.
    pub fn make(controller: &str) -> Result<Cgroup, String> {
        let root = Path::new("/sys/fs/cgroup");
        let (parent, is_second) = match controller {
            "core" => {
                let unified = root.join("unified");
                (if unified.exists() { unified } else { root.to_path_buf() }, true)
            }
            _ if root.join(controller).join("cgroup.procs").exists() => (root.join(controller), false),
            _ => {
                let enabled = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
                if !enabled.split_whitespace().any(|word| word == controller) {
                    return Err(format!("no cgroup controller `{controller}` that we may use"));
                }
                (root.to_path_buf(), true)
            }
        };
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("steadfast-test-{}-{controller}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Cgroup { path, is_second })
    }

    /// The name of one of its files: of the first kind, or of the second.
    fn file(&self, first: &str, second: &str) -> PathBuf {
        self.path.join(if self.is_second { second } else { first })
    }

    fn set(&self, first: &str, second: &str, value: &str) {
        let file = self.file(first, second);
        fs::write(&file, value).unwrap_or_else(|error| panic!("cannot write {value} to {}: {error}", file.display()));
    }

    /// The wrapper that puts a program into the group and executes it.
    #[must_use]
    pub fn wrapper(&self) -> Vec<String> {
        let line = format!("echo $$ > {} && exec \"$@\"", self.path.join("cgroup.procs").display());
        ["sh", "-c", &line, "sh"].map(str::to_owned).to_vec()
    }

    /// Takes a running process in.
    pub fn take(&self, pid: u32) {
        self.set("cgroup.procs", "cgroup.procs", &pid.to_string());
    }

    /// Whether it is of the first kind, where not even SIGKILL reaches what is frozen.
    #[must_use]
    pub fn is_first(&self) -> bool {
        !self.is_second
    }

    /// Memory for all of it, swap included.
    pub fn limit_memory(&self, bytes: u64) {
        self.set("memory.limit_in_bytes", "memory.max", &bytes.to_string());
        let swap = self.file("memory.memsw.limit_in_bytes", "memory.swap.max");
        if swap.exists() {
            let most = if self.is_second { 0 } else { bytes };
            self.set("memory.memsw.limit_in_bytes", "memory.swap.max", &most.to_string());
        }
    }

    /// Processor time in hundredths of one core; 0 is no limit.
    pub fn limit_cpu(&self, percent: u32) {
        let quota = percent * 1000;
        match (percent, self.is_second) {
            (0, false) => self.set("cpu.cfs_quota_us", "", "-1"),
            (0, true) => self.set("", "cpu.max", "max 100000"),
            (_, false) => self.set("cpu.cfs_quota_us", "", &quota.to_string()),
            (_, true) => self.set("", "cpu.max", &format!("{quota} 100000")),
        }
    }

    /// Processes and threads; 0 is no limit.
    pub fn limit_processes(&self, most: u32) {
        let value = if most == 0 { "max".to_owned() } else { most.to_string() };
        self.set("pids.max", "pids.max", &value);
    }

    /// Stops everything in it in its tracks, or lets it go on.
    pub fn freeze(&self, is_frozen: bool) {
        self.set(
            "freezer.state",
            "cgroup.freeze",
            match (is_frozen, self.is_second) {
                (true, false) => "FROZEN",
                (false, false) => "THAWED",
                (true, true) => "1",
                (false, true) => "0",
            },
        );
    }

    /// SIGKILL for everything in it (`core`).
    pub fn kill(&self) {
        self.set("", "cgroup.kill", "1");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.file("freezer.state", "cgroup.freeze").exists() {
            self.freeze(false);
        }
        // What a failed test has left in it is its own: the group cannot be removed before.
        for line in fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default().lines() {
            if let Ok(pid) = line.parse() {
                let _gone = proc::kill(pid, Signal::KILL);
                let _waited = proc::wait_gone(pid, super::daemon::SOON);
            }
        }
        // Zombies count until they are reaped by whoever their parent is now.
        let _left = super::conditions::is_soon(|| fs::remove_dir(&self.path).is_ok());
    }
}
