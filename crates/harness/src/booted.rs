//! A machine in a box: a real systemd and journald, over a throw-away overlay of this machine's own root.
//!
//! It takes a second to boot, and ends with its test, however that ends. What the test has built is there under its own
//! path, and so are the scene and the programs of the tests; everything else that is written inside is gone afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::apps;
use super::conditions::is_within;
use super::daemon::{STEADFAST, is_root};
use super::scene::Scene;

const SCRIPT: &str = include_str!("booted.sh");
/// A box boots in one second, and in ten on a busy machine.
const BOOT: Duration = Duration::from_secs(60);
/// No command inside takes longer, in seconds.
const COMMAND_MAX: &str = "120";

/// A booted box.
#[derive(Debug)]
pub struct Booted {
    nspawn: Child,
    /// Its PID 1, as we see it.
    leader: u32,
    cgroup: PathBuf,
    log: PathBuf,
}

impl Booted {
    /// Boots one. The scene is bound into it.
    ///
    /// # Errors
    /// Why this machine cannot do that.
    pub fn start(scene: &Scene) -> Result<Booted, String> {
        if !is_root() {
            return Err("to boot a box needs root".into());
        }
        if !Path::new("/usr/bin/systemd-nspawn").exists() {
            return Err("systemd-nspawn is missing: apt-get install systemd-container".into());
        }
        let cgroup = cgroups()?.join(format!("steadfast-box-{}", std::process::id()));
        fs::create_dir(&cgroup)
            .map_err(|error| format!("cannot make the control group {}: {error}", cgroup.display()))?;
        let script = scene.write("booted.sh", SCRIPT);
        let log = scene.join("booted.log");
        let output = fs::File::create(&log).map_err(|error| error.to_string())?;
        let program = Path::new(STEADFAST).parent().expect("it is in a directory");
        let worker = apps::worker();
        let apps = Path::new(&worker).parent().expect("they are in a directory");
        let nspawn = Command::new("setpriv")
            // Whoever kills this test kills the box.
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "bash"])
            .arg(script)
            .arg(&cgroup)
            .arg("box")
            .args([scene.path(), program, apps])
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .spawn()
            .map_err(|error| format!("cannot start setpriv of util-linux: {error}"))?;
        let mut booted = Booted { nspawn, leader: 0, cgroup, log };
        booted.wait_leader()?;
        booted.wait_booted()?;
        Ok(booted)
    }

    /// PID 1 inside is a child of nspawn's.
    fn wait_leader(&mut self) -> Result<(), String> {
        let nspawn = self.nspawn.id();
        let mut ended = None;
        let is_there = is_within(BOOT, || {
            ended = self.nspawn.try_wait().ok().flatten();
            let leader = children(nspawn).into_iter().find(|pid| is_first_of_namespace(*pid));
            self.leader = leader.unwrap_or(0);
            self.leader != 0 || ended.is_some()
        });
        match (is_there, ended) {
            (true, None) => Ok(()),
            (_, ended) => Err(format!("the box does not boot ({ended:?}): {}", self.said())),
        }
    }

    fn wait_booted(&self) -> Result<(), String> {
        let is_up = is_within(BOOT, || self.run(&["systemctl", "is-active", "basic.target"]).status.success());
        if is_up { Ok(()) } else { Err(format!("the box does not come up: {}", self.said())) }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs a program inside, as root, outside of every unit.
    #[must_use]
    pub fn run(&self, command: &[&str]) -> Output {
        self.command(command).output().expect("nsenter of util-linux is there")
    }

    /// The same, not started yet.
    #[must_use]
    pub fn command(&self, command: &[&str]) -> Command {
        let mut inside = Command::new("timeout");
        inside
            .args(["--kill-after=5", COMMAND_MAX, "nsenter", "--target", &self.leader.to_string(), "--mount", "--uts"])
            .args(["--ipc", "--net", "--pid", "--cgroup", "--"])
            .args(command)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null());
        inside
    }

    /// Runs a line of shell inside; fails with what it said unless it succeeds. Its stdout.
    ///
    /// # Panics
    /// When it does not succeed.
    #[must_use]
    pub fn sh(&self, line: &str) -> String {
        let output = self.run(&["bash", "-c", line]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{line}: {:?}\n{said}{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.journal("-n 60")
        );
        said
    }

    /// Writes a unit and makes systemd read it.
    pub fn unit(&self, name: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{name}"), text);
        let _nothing = self.sh("systemctl daemon-reload");
    }

    /// Writes a file inside.
    pub fn write(&self, path: &str, text: &str) {
        let directory = Path::new(path).parent().expect("a file has a directory").display();
        let _nothing = self.sh(&format!("mkdir -p {directory} && cat > {path} <<'END-OF-FILE'\n{text}\nEND-OF-FILE"));
    }

    /// What the journal has, as `journalctl` with these arguments shows it.
    #[must_use]
    pub fn journal(&self, arguments: &str) -> String {
        let output = self.run(&["bash", "-c", &format!("journalctl --no-pager -q {arguments}")]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A property of a unit.
    #[must_use]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.sh(&format!("systemctl show -P {name} {unit}")).trim().to_owned()
    }

    /// Waits until a line of shell succeeds; whether it did.
    #[must_use]
    pub fn is_soon(&self, within: Duration, line: &str) -> bool {
        is_within(within, || self.run(&["bash", "-c", line]).status.success())
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        let _gone = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let _killed = self.nspawn.kill();
        let _reaped = self.nspawn.wait();
        // Groups can be removed when their last process has been reaped.
        let _left = is_within(Duration::from_secs(10), || remove(&self.cgroup));
    }
}

/// Removes a tree of control groups from its leaves.
fn remove(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _later = remove(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}

/// Where control groups of the second kind are.
fn cgroups() -> Result<PathBuf, String> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
    let mut second = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found =
        second.find(|fields| fields.get(2) == Some(&"cgroup2")).and_then(|fields| fields.get(1).map(PathBuf::from));
    found.ok_or_else(|| "control groups of the second kind are not mounted".into())
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// The last number of NSpid is the one that a process has in its own namespace.
fn is_first_of_namespace(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    line.split_whitespace().next_back() == Some("1")
        && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("lib/systemd/systemd"))
}
