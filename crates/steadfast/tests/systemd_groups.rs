//! The control groups under a real systemd: one for each worker and zygote, whatever it starts ends with it, and what the
//! group knows of its end is believed.

use steadfast_harness as support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use support::apps;
use support::booted::Booted;
use support::conditions::is_within;
use support::daemon::{Config, Pool, STEADFAST, USER, address, steadfast};
use support::fcgi::Request;
use support::scene::allow;
use support::within::skipped;
use support::zygotes::Site;

/// A box on a busy machine.
const PATIENT: Duration = Duration::from_secs(20);
/// Where the unit's group is, as those inside see it.
const GROUP: &str = "/sys/fs/cgroup/system.slice/groups.service";

/// A box, and a unit in it with the pools `plain` (executed) and `site` (forked by a zygote).
struct Unit {
    site: Site,
    machine: Booted,
}

impl Unit {
    fn boot() -> Option<Unit> {
        let site = Site::new();
        let machine = match Booted::start(&site.scene) {
            Ok(machine) => machine,
            Err(why) => {
                skipped("systemd_groups", &why);
                return None;
            }
        };
        // Whatever lies in /tmp is not there in the box, but for the scene.
        let program = site.scene.join("worker");
        fs::copy(apps::worker(), &program).expect("the worker can be copied");
        allow(&program, 0o755);
        let pidfile = site.scene.shared_file("daemon-pid").display().to_string();
        let plain = Pool::new("plain", &[program.display().to_string()]).workers("2");
        let plain = plain.environment("DAEMON_PIDFILE", &pidfile);
        Config::new(&[plain, site.pool("2")]).write(&site.scene);
        Some(Unit { site, machine })
    }

    /// Writes the unit, with these lines more.
    fn write(&self, lines: &str) {
        let config = self.site.scene.join("steadfast.toml");
        let text = format!(
            "[Service]\nType=notify\nExecStart={STEADFAST} run -c {}\nKillMode=process\nTimeoutStopSec=20\n{lines}",
            config.display()
        );
        self.machine.unit("groups.service", &text);
    }

    /// The same, and starts it; waits until both pools serve.
    fn start(&self, lines: &str) {
        self.write(lines);
        let _said = self.machine.sh("systemctl start groups.service");
        self.wait_whole();
    }

    fn wait_whole(&self) {
        let is_whole =
            is_within(PATIENT, || ["plain", "site"].iter().all(|pool| self.pool(pool)["workers"]["serving"] == 2));
        assert!(is_whole, "{}", self.machine.journal("-n 80 -u groups -o cat"));
    }

    fn control(&self) -> PathBuf {
        self.site.scene.join("run/control.sock")
    }

    fn pool(&self, name: &str) -> Value {
        let control = self.control().display().to_string();
        let said = steadfast(self.site.scene.path(), &["status", "--json", "--control", &control]);
        let status: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        let pools = status["pools"].as_array().cloned().unwrap_or_default();
        pools.into_iter().find(|pool| pool["name"] == name).unwrap_or_default()
    }

    /// Pids as the box has them.
    fn workers(&self, pool: &str) -> Vec<u64> {
        let pool = self.pool(pool);
        let slots = pool["slots"].as_array().cloned().unwrap_or_default();
        slots.iter().filter_map(|slot| slot["pid"].as_u64()).filter(|pid| *pid > 0).collect()
    }

    /// The group of a process, below the slice.
    fn group_of(&self, pid: u64) -> String {
        let line = self.machine.sh(&format!("grep ^0:: /proc/{pid}/cgroup"));
        line.trim().trim_start_matches("0::/system.slice/").to_owned()
    }

    /// The groups below the unit's own.
    fn groups(&self) -> Vec<String> {
        let list = self.machine.sh(&format!("cd {GROUP} && find . -mindepth 1 -type d | sort"));
        list.lines().map(|line| line.trim_start_matches("./").to_owned()).collect()
    }

    fn main(&self) -> u64 {
        self.machine.property("groups.service", "MainPID").parse().expect("it runs")
    }

    fn is_gone(&self, what: &str) -> bool {
        self.machine.is_soon(PATIENT, &format!("! test -e {what}"))
    }

    /// Makes a worker of `plain` leave a process with a session of its own; its pid, and its group.
    fn leave_daemon(&self) -> (u64, String) {
        let file = self.site.scene.join("daemon-pid");
        fs::write(&file, "").expect("the scene is ours");
        Request::get("/daemon").send(&address(&self.site.scene, "plain")).expect("an answer");
        let mut pid = 0;
        let is_there = is_within(PATIENT, || {
            pid = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            pid > 1
        });
        assert!(is_there, "no daemon");
        (pid, self.group_of(pid))
    }

    fn order(&self, words: &[&str]) {
        let control = self.control().display().to_string();
        let said = steadfast(self.site.scene.path(), &[words, &["--control", &control]].concat());
        assert_eq!(said.code, 0, "{said:?}");
    }

    /// SIGKILL from outside; how its end is classed.
    fn class_of_killed(&self, pid: u64) -> String {
        let _killed = self.machine.sh(&format!("kill -KILL {pid}"));
        let mut class = None;
        let is_told = is_within(PATIENT, || {
            let lines = self.machine.journal("-u groups -o cat");
            let events = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut ends = events.filter(|event| event["event"] == "worker-exited" && event["pid"] == pid);
            class = ends.find_map(|event| event["class"].as_str().map(str::to_owned));
            class.is_some()
        });
        assert!(is_told, "no end of {pid}: {}", self.machine.journal("-n 40 -u groups -o cat"));
        self.wait_whole();
        class.unwrap_or_default()
    }

    /// What systemd-oomd leaves on a group that it has killed.
    fn mark(&self, group: &str, count: u32) {
        let line = format!("import os; os.setxattr('{group}', 'user.oomd_ooms', b'{count}')");
        let _set = self.machine.sh(&format!("python3 -c \"{line}\""));
    }
}

#[test]
fn each_worker_has_its_group() {
    let Some(unit) = Unit::boot() else {
        return;
    };
    without_delegation(&unit);
    unit.start("Delegate=yes\n");
    everybody_is_in_his_own(&unit);
    another_program_takes_over(&unit);
    a_daemon_ends_with_its_worker(&unit);
    what_a_zygote_leaves_ends_with_it(&unit);
    oomd_is_believed(&unit);
    leftovers_end_at_the_next_start(&unit);
    nothing_is_left_at_the_end(&unit);
    a_group_that_cannot_be_written_costs_only_the_groups(&unit);
    one_that_is_not_root_and_in_its_leaf_already(&unit);
}

/// An upgrade in place is none of systemd's business, and its successor has the same groups; what follows here is done by that
/// one.
fn another_program_takes_over(unit: &Unit) {
    let (main, groups) = (unit.main(), unit.groups());
    let workers = [unit.workers("plain"), unit.workers("site")];
    let _killed = unit.machine.sh("systemctl kill -s USR2 --kill-whom=main groups.service");
    let is_told = is_within(PATIENT, || unit.machine.journal("-u groups -o cat").contains("supervisor-upgraded"));
    assert!(is_told, "{}", unit.machine.journal("-n 40 -u groups -o cat"));
    unit.wait_whole();
    assert_eq!((unit.main(), [unit.workers("plain"), unit.workers("site")]), (main, workers));
    assert_eq!(unit.groups(), groups);
    assert_eq!(unit.machine.property("groups.service", "ActiveState"), "active");
    assert_eq!(unit.machine.property("groups.service", "NRestarts"), "0");
    assert_eq!(unit.group_of(unit.main()), "groups.service/supervisor");
}

/// Nobody has given it its group: it leaves it as it is.
fn without_delegation(unit: &Unit) {
    unit.start("");
    for pid in unit.workers("plain").into_iter().chain(unit.workers("site")) {
        assert_eq!(unit.group_of(pid), "groups.service");
    }
    assert_eq!(unit.groups(), [""; 0]);
    let (daemon, _) = unit.leave_daemon();
    let _stopped = unit.machine.sh("systemctl stop groups.service");
    assert!(unit.is_gone(&format!("/proc/{daemon}")), "the supervisor ends orphans at its end");
    let said = unit.machine.journal("-u groups -o cat");
    assert!(!said.contains("control group"), "{said}");
}

fn everybody_is_in_his_own(unit: &Unit) {
    assert_eq!(unit.group_of(unit.main()), "groups.service/supervisor");
    assert_eq!(unit.machine.sh(&format!("cat {GROUP}/cgroup.procs")), "", "a group that is divided has no processes");
    let mut seen = Vec::new();
    for pool in ["plain", "site"] {
        let workers = unit.workers(pool);
        assert_eq!(workers.len(), 2);
        for pid in workers {
            let group = unit.group_of(pid);
            assert!(group.starts_with(&format!("groups.service/worker-{pool}-")), "{pid}: {group}");
            seen.push(group.trim_start_matches("groups.service/").to_owned());
        }
    }
    seen.extend(["supervisor".to_owned()]);
    let (zygotes, others): (Vec<_>, Vec<_>) = unit.groups().into_iter().partition(|name| name.starts_with("zygote-"));
    seen.sort();
    assert_eq!(others, seen, "each has one of its own, and there are no others");
    assert!(matches!(&zygotes[..], [one] if one.starts_with("zygote-site-")), "{zygotes:?}");
    let inside = unit.machine.sh(&format!("cat {GROUP}/{}/cgroup.procs", zygotes[0]));
    assert_eq!(inside.lines().count(), 1, "only the zygote: {inside}");
}

fn a_daemon_ends_with_its_worker(unit: &Unit) {
    let (daemon, group) = unit.leave_daemon();
    assert!(group.starts_with("groups.service/worker-plain-"), "{group}");
    for slot in ["plain/1", "plain/2"] {
        unit.order(&["drain", slot]);
    }
    assert!(unit.is_gone(&format!("/proc/{daemon}")), "the daemon lives on");
    assert!(unit.is_gone(&format!("/sys/fs/cgroup/system.slice/{group}")), "its group is left: {:?}", unit.groups());
    unit.wait_whole();
    everybody_is_in_his_own(unit);
}

/// The zygote's orphan is in the zygote's group. Its workers are not, and live.
fn what_a_zygote_leaves_ends_with_it(unit: &Unit) {
    let zygote = unit.groups().into_iter().find(|name| name.starts_with("zygote-")).expect("a zygote");
    let pid = unit.machine.sh(&format!("cat {GROUP}/{zygote}/cgroup.procs")).trim().to_owned();
    let workers = unit.workers("site");
    unit.site.mode(&json!({ "now": { "orphan": true } }));
    let _told = unit.machine.sh(&format!("kill -USR1 {pid}"));
    let orphans = unit.site.scene.join("pid");
    let orphan = || fs::read_to_string(&orphans).unwrap_or_default().trim().to_owned();
    assert!(is_within(PATIENT, || !orphan().is_empty()), "no orphan");
    unit.site.mode(&json!({}));
    let orphan = orphan();
    assert_eq!(unit.group_of(orphan.parse().expect("a pid")), format!("groups.service/{zygote}"));
    let _killed = unit.machine.sh(&format!("kill -KILL {pid}"));
    assert!(unit.is_gone(&format!("/proc/{orphan}")), "the orphan lives on");
    assert!(unit.is_gone(&format!("{GROUP}/{zygote}")), "{:?}", unit.groups());
    assert_eq!(unit.workers("site"), workers);
    let is_back = || unit.groups().iter().any(|name| name.starts_with("zygote-"));
    assert!(is_within(PATIENT, is_back), "no zygote again");
    unit.wait_whole();
}

fn oomd_is_believed(unit: &Unit) {
    let victim = || unit.workers("plain")[0];
    assert_eq!(unit.class_of_killed(victim()), "killed", "nobody has killed for memory");
    let pid = victim();
    unit.mark(&format!("/sys/fs/cgroup/system.slice/{}", unit.group_of(pid)), 1);
    assert_eq!(unit.class_of_killed(pid), "oom");
    assert_eq!(unit.class_of_killed(victim()), "killed", "another worker's mark is not its own");
    unit.mark(GROUP, 3);
    assert_eq!(unit.class_of_killed(victim()), "oom");
    assert_eq!(unit.class_of_killed(victim()), "killed", "a mark of old explains nothing");
}

/// The kernel kills one: where it counts them for the whole machine, this is seen in every test.
#[test]
fn a_worker_that_runs_out_of_memory_is_known_by_its_group() {
    let Some(unit) = Unit::boot() else {
        return;
    };
    unit.start("Delegate=yes\n");
    let offered = unit.machine.sh(&format!("cat {GROUP}/cgroup.controllers"));
    if !offered.split_whitespace().any(|word| word == "memory") {
        let has = offered.trim();
        return skipped("systemd_groups", &format!("a real OOM kill: no controller `memory` in the box, only `{has}`"));
    }
    let enabled = unit.machine.sh(&format!("cat {GROUP}/cgroup.subtree_control"));
    assert!(enabled.split_whitespace().any(|word| word == "memory"), "{enabled}");
    // The whole group must go under a limit that it is over already: the kernel kills in it.
    let pid = unit.workers("plain")[0];
    let group = unit.group_of(pid);
    let _limited = unit.machine.sh(&format!(
        "cd /sys/fs/cgroup/system.slice/{group} && echo 0 > memory.swap.max; echo 4096 > memory.max; sleep 0"
    ));
    assert_eq!(unit.class_of_killed(pid), "oom");
    assert_eq!(unit.class_of_killed(unit.workers("plain")[0]), "killed", "another worker's end is not its own");
}

/// kill -9 of the supervisor, in a unit of which systemd ends only the main process: what its workers have left holds up
/// nobody, and ends when the next one starts.
fn leftovers_end_at_the_next_start(unit: &Unit) {
    let (daemon, group) = unit.leave_daemon();
    let _killed = unit.machine.sh(&format!("kill -KILL {}", unit.main()));
    let is_down = unit.machine.is_soon(PATIENT, "systemctl is-failed groups.service");
    assert!(is_down, "{}", unit.machine.journal("-n 40 -u groups"));
    assert_eq!(unit.group_of(daemon), group, "it outlives the unit's end");
    // There is no clone3 with this one.
    unit.write("Delegate=yes\nRestrictNamespaces=yes\n");
    let _started = unit.machine.sh("systemctl reset-failed groups.service; systemctl start groups.service");
    assert!(!unit.machine.run(&["test", "-e", &format!("/proc/{daemon}")]).status.success(), "it is gone by READY");
    unit.wait_whole();
    everybody_is_in_his_own(unit);
    let said = unit.machine.journal("-u groups -o cat");
    assert!(!said.contains("docs/systemd.md"), "nothing was refused: {said}");
}

fn nothing_is_left_at_the_end(unit: &Unit) {
    let (daemon, _) = unit.leave_daemon();
    let _stopped = unit.machine.sh("systemctl stop groups.service");
    assert_eq!(unit.machine.property("groups.service", "Result"), "success");
    assert!(unit.is_gone(&format!("/proc/{daemon}")));
    assert!(unit.is_gone(GROUP), "the unit's group is left");
}

fn a_group_that_cannot_be_written_costs_only_the_groups(unit: &Unit) {
    unit.start("Delegate=yes\nProtectControlGroups=yes\n");
    for pid in unit.workers("plain") {
        assert_eq!(unit.group_of(pid), "groups.service");
    }
    let said = unit.machine.journal("-u groups -o cat");
    let complaints = said.matches("cannot be divided").count();
    assert!(complaints == 1 && said.contains("Read-only file system"), "{said}");
    let _stopped = unit.machine.sh("systemctl stop groups.service");
}

/// As `DelegateSubgroup=supervisor` of a newer systemd starts it, and `User=`.
fn one_that_is_not_root_and_in_its_leaf_already(unit: &Unit) {
    let scene = &unit.site.scene;
    let text = format!(
        "[supervisor]\nruntime-dir = \"/run/leaf\"\nlog = \"json\"\n[pool.plain]\ncommand = [{:?}]\nworkers = 2\n\
         listen = [\"unix:/run/leaf/plain.sock\"]\nmode = \"direct\"\ndirectory = {:?}\n",
        scene.join("worker"),
        scene.path()
    );
    let config = scene.write("leaf.toml", &text);
    let script = format!(
        "mkdir {GROUP}/supervisor && echo $$$$ > {GROUP}/supervisor/cgroup.procs && exec {STEADFAST} run -c {}",
        config.display()
    );
    unit.write(&format!(
        "Delegate=yes\nUser={USER}\nRuntimeDirectory=leaf\nExecStart=\nExecStart=/bin/sh -c '{script}'\n"
    ));
    let _started = unit.machine.sh("systemctl start groups.service");
    assert_eq!(unit.group_of(unit.main()), "groups.service/supervisor");
    let is_whole = || unit.groups().iter().filter(|name| name.starts_with("worker-plain-")).count() == 2;
    assert!(is_within(PATIENT, is_whole), "{:?}\n{}", unit.groups(), unit.machine.journal("-n 40 -u groups"));
    for group in unit.groups().iter().filter(|name| name.starts_with("worker-plain-")) {
        let inside = unit.machine.sh(&format!("cat {GROUP}/{group}/cgroup.procs"));
        assert_eq!(inside.lines().count(), 1, "{group}: {inside}");
    }
    let _stopped = unit.machine.sh("systemctl stop groups.service");
    assert!(unit.is_gone(GROUP), "the unit's group is left");
}
