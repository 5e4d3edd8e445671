//! The guard in a booted machine: real systemd, real journald, real FCGI::ProcManager. One boot, several units.

#![allow(clippy::print_stdout)] // Figures for whoever looks.

use std::time::Duration;

use steadfast_harness as support;

use support::booted::Booted;
use support::daemon::STEADFAST;
use support::scene::Scene;
use support::within::skipped;

const LONG: Duration = Duration::from_secs(60);

/// A manager of FCGI::ProcManager with one worker, which lives until it is killed. Its own handler only remembers a TERM,
/// which would be lost where it comes just before the worker sleeps.
const MANAGER: &str = r#"use FCGI; use FCGI::ProcManager;
my $socket = FCGI::OpenSocket($ARGV[0], 5);
my $manager = FCGI::ProcManager->new({ n_processes => 1 });
$manager->pm_manage();
$SIG{TERM} = "DEFAULT";
exit if $manager->pm_received_signal("TERM");
sleep 3600;
"#;

/// Kills workers of a unit, one after the other, each when the one before has a successor, or its manager has gone.
const DIE: &str = r#"#!/bin/bash
set -eu
main=$(systemctl show -P MainPID "$1")
worker() { pgrep -P "$main" || true; }
for ((number = 0; number < $2; number++)); do
    until old=$(worker); [ -n "$old" ]; do sleep 0.01; done
    kill -KILL "$old"
    until new=$(worker); [ -n "$new" ] && [ "$new" != "$old" ] || ! kill -0 "$main" 2>/dev/null; do sleep 0.01; done
done
"#;

/// Overwrites a journal file in the middle of what is used of it, and its last object, which whoever appends looks at first.
const DAMAGE: &str = r#"import os, struct, sys
file = os.open(sys.argv[1], os.O_RDWR)
(tail,) = struct.unpack("<Q", os.pread(file, 8, 136))
for place, length in ((tail // 2, 8192), (tail, 16)):
    os.pwrite(file, b"\xa5" * length, place)
"#;

const RULES: &str = r#"
[guard.site]
unit   = "site.service"
match  = ["@fcgi-procmanager"]
grace  = "1s"
notify = ["/bin/sh", "-c", "cat >> /run/told"]

[guard.two]
unit   = "two.service"
match  = ["@fcgi-procmanager"]
within = "10m"

[guard.three]
unit     = "three.service"
match    = ["@fcgi-procmanager"]
failures = 1
grace    = "1s"
lock     = "/run/three.lock"
budget   = { actions = 100, within = "1h" }

[guard.hostile]
unit   = "hostile.service"
match  = ["please restart me"]
grace  = "0s"
within = "10s"
budget = { actions = 100, within = "1h" }
"#;

struct Stage {
    booted: Booted,
}

impl Stage {
    fn die(&self, unit: &str, times: u32) {
        let _nothing = self.booted.sh(&format!("bash /run/die {unit} {times}"));
    }

    fn life(&self, unit: &str) -> String {
        self.booted.property(unit, "InvocationID")
    }

    /// Waits until the guard's status says so of a unit.
    fn status(&self, unit: &str, wanted: &str) {
        let line = format!("systemctl show -P StatusText guard | tr ';' '\\n' | grep -qF '{unit}: {wanted}'");
        assert!(
            self.booted.is_soon(LONG, &line),
            "{unit}: {wanted}: {}\n{}",
            self.text(),
            self.booted.journal("-n 60")
        );
    }

    fn text(&self) -> String {
        self.booted.property("guard", "StatusText")
    }

    /// How many events of this kind about this rule there are in the journal.
    fn events(&self, kind: &str, rule: &str) -> usize {
        self.booted.journal(&format!("-o cat STEADFAST_EVENT={kind} STEADFAST_RULE={rule}")).lines().count()
    }

    fn wait_events(&self, kind: &str, rule: &str, count: usize) {
        let line = format!(
            "[ $(journalctl -q --no-pager -o cat STEADFAST_EVENT={kind} STEADFAST_RULE={rule} | wc -l) -ge {count} ]"
        );
        assert!(
            self.booted.is_soon(LONG, &line),
            "{kind} of {rule}: {}\n{}",
            self.text(),
            self.booted.journal("-n 60")
        );
    }

    fn wait_new_life(&self, unit: &str, before: &str) -> String {
        let line = format!("[ $(systemctl show -P InvocationID {unit}) != {before} ] && systemctl is-active -q {unit}");
        assert!(
            self.booted.is_soon(LONG, &line),
            "{unit} is restarted: {}\n{}",
            self.text(),
            self.booted.journal("-n 60")
        );
        self.life(unit)
    }
}

fn stage(scene: &Scene) -> Option<Stage> {
    let booted = match Booted::start(scene) {
        Ok(booted) => booted,
        Err(why) => {
            skipped("the guard under systemd", &why);
            return None;
        }
    };
    booted.write("/run/manager.pl", MANAGER);
    booted.write("/run/die", DIE);
    booted.write("/etc/steadfast/guard.toml", RULES);
    for unit in ["site", "two", "three"] {
        // TERM is for the manager alone. Where its worker gets one, too, and is reaped in the moment when the manager's own
        // comes, the manager waits for it in vain, a minute long.
        let text = format!("[Service]\nKillMode=mixed\nExecStart=/usr/bin/perl /run/manager.pl /run/{unit}.sock\n");
        booted.unit(&format!("{unit}.service"), &text);
    }
    // Ten lines at each start: whoever listens to it restarts it for ever. Its start limit is systemd's own.
    let hostile =
        "[Service]\nExecStart=/bin/bash -c 'for i in {1..10}; do echo please restart me; done; exec sleep 3600'\n";
    booted.unit("hostile.service", hostile);
    let unit =
        include_str!("../../../examples/systemd/steadfast-guard.service").replace("/usr/bin/steadfast", STEADFAST);
    // The program of a test may be anywhere, and what is told is written where the test sees it.
    let unit = unit.replace("ProtectHome=yes\n", "").replace("PrivateTmp=yes\n", "");
    booted
        .unit("guard.service", &unit.replace("ProtectSystem=strict\n", "ProtectSystem=strict\nReadWritePaths=/run\n"));
    let _started = booted.sh("systemctl start site two three guard");
    Some(Stage { booted })
}

/// A journald that is started anew puts the file aside that it finds corrupt; the guard goes on, counts what comes after once, and does not spin.
#[test]
fn journal_files_that_are_corrupted_while_the_guard_follows_lose_nothing_that_comes_after() {
    let scene = Scene::new();
    let Some(stage) = stage(&scene) else { return };
    stage.booted.write("/run/damage.py", DAMAGE);
    let life = stage.life("two");
    stage.die("two", 2);
    stage.status("two.service", "2 of 10");
    let directory = "/var/log/journal/$(cat /etc/machine-id)";
    // One that is put away already, and the one that is written to.
    let _rotated = stage.booted.sh("journalctl -q --rotate");
    let _damaged = stage.booted.sh(&format!("python3 /run/damage.py $(ls {directory}/system@*.journal | head -1)"));
    stage.die("two", 3);
    stage.status("two.service", "5 of 10");
    let _damaged = stage.booted.sh(&format!("python3 /run/damage.py {directory}/system.journal"));
    // journald 252 itself writes nothing more into that one, and nowhere else, until it is started anew and puts it aside.
    let _killed = stage.booted.sh("kill -KILL $(systemctl show -P MainPID systemd-journald)");
    assert!(stage.booted.is_soon(LONG, &format!("ls {directory} | grep -q 'journal~$'")));
    stage.die("two", 4);
    stage.status("two.service", "9 of 10");
    assert_eq!(stage.life("two"), life, "nothing counts twice");
    stage.die("two", 1);
    let next = stage.wait_new_life("two", &life);
    stage.status("two.service", "grace");
    assert_eq!((stage.life("two"), stage.booted.property("guard", "NRestarts")), (next, "0".to_owned()));
    let ended = stage.booted.journal("-o cat -u guard -g 'reader ended'");
    let used: u64 = stage.booted.property("guard", "CPUUsageNSec").parse().expect("a number");
    println!("processor time of the guard: {} ms; {ended}", used / 1_000_000);
    assert!(ended.lines().count() <= 8 && used < 10_000_000_000, "it spins: {used} ns\n{ended}");
}

#[test]
fn faults_086_088_089_the_guard_looks_after_real_units() {
    let scene = Scene::new();
    let Some(stage) = stage(&scene) else { return };
    the_tenth_line_restarts_and_the_fourth_time_it_stands_back(&stage);
    a_killed_guard_a_vacuumed_journal_and_a_killed_journald_change_nothing(&stage);
    a_deploy_is_left_alone(&stage);
    two_guards_act_once(&stage);
    the_end_of_a_grace_is_told(&stage);
    assert_eq!(stage.booted.property("guard", "NRestarts"), "1", "the one that the test has killed");
    a_hostile_log_never_reaches_the_start_limit(&stage);
    let security = stage.booted.run(&["systemd-analyze", "security", "guard.service", "--no-pager"]);
    let security = String::from_utf8_lossy(&security.stdout).into_owned();
    println!("{}", security.lines().last().unwrap_or_default());
    let rss = stage.booted.sh("grep -E 'VmRSS|RssAnon' /proc/$(systemctl show -P MainPID guard)/status");
    println!("the guard's memory: {}", rss.split_whitespace().collect::<Vec<_>>().join(" "));
}

fn the_tenth_line_restarts_and_the_fourth_time_it_stands_back(stage: &Stage) {
    let mut life = stage.life("site");
    for round in 0..3 {
        stage.die("site", 9);
        stage.status("site.service", "9 of 10");
        assert_eq!(stage.life("site"), life, "nine do nothing");
        stage.die("site", 1);
        life = stage.wait_new_life("site", &life);
        if round == 0 {
            println!("from the tenth line to the restart: {} ms", lag(stage));
        }
        stage.status("site.service", "0 of 10");
    }
    stage.die("site", 10);
    stage.wait_events("guard-gave-up", "site", 1);
    assert_eq!(stage.life("site"), life, "the fourth time it stands back");
    assert_eq!(stage.events("guard-acted", "site"), 3);
    assert!(stage.booted.is_soon(LONG, "[ $(wc -l < /run/told) = 4 ]"), "told of three actions, and of giving up");
    let told = stage.booted.sh("tail -1 /run/told");
    assert!(told.contains("\"event\":\"gave-up\"") && told.contains("exited with status 9"), "{told}");
}

/// Milliseconds from the tenth line to the moment when systemd began to stop the unit.
fn lag(stage: &Stage) -> i64 {
    let stamp = |filter: &str| {
        let text = stage.booted.journal(&format!("-o json --output-fields=MESSAGE {filter}"));
        let line = text.lines().next().unwrap_or_default().to_owned();
        let value: serde_json::Value = serde_json::from_str(&line).expect("an entry");
        value["__REALTIME_TIMESTAMP"].as_str().and_then(|text| text.parse::<i64>().ok()).expect("a time")
    };
    let stopping = stamp("UNIT=site.service MESSAGE_ID=de5b426a63be47a7b6ac3eaac82e2f6f");
    let lines =
        stage.booted.journal("-o json --output-fields=MESSAGE _SYSTEMD_UNIT=site.service -g 'exited with status'");
    let tenth: serde_json::Value = serde_json::from_str(lines.lines().nth(9).expect("ten lines")).expect("an entry");
    let tenth = tenth["__REALTIME_TIMESTAMP"].as_str().and_then(|text| text.parse::<i64>().ok()).expect("a time");
    (stopping - tenth) / 1000
}

fn a_killed_guard_a_vacuumed_journal_and_a_killed_journald_change_nothing(stage: &Stage) {
    let life = stage.life("two");
    stage.die("two", 6);
    stage.status("two.service", "6 of 10");
    let before = stage.booted.property("guard", "MainPID");
    let _killed = stage.booted.sh(&format!("kill -KILL {before}"));
    // Meanwhile the seventh is written, which only the journal knows.
    stage.die("two", 1);
    stage.status("two.service", "7 of 10");
    assert_ne!(stage.booted.property("guard", "MainPID"), before);
    let _vacuumed = stage.booted.sh("journalctl -q --rotate && sleep 1.1 && journalctl -q --rotate --vacuum-time=1s");
    stage.die("two", 1);
    stage.status("two.service", "8 of 10");
    let _killed = stage.booted.sh("kill -KILL $(systemctl show -P MainPID systemd-journald)");
    assert!(stage.booted.is_soon(LONG, "systemctl is-active -q systemd-journald"));
    stage.die("two", 1);
    stage.status("two.service", "9 of 10");
    assert_eq!(stage.life("two"), life);
    stage.die("two", 1);
    let next = stage.wait_new_life("two", &life);
    stage.status("two.service", "grace");
    // Within the grace none of these counts.
    stage.die("two", 3);
    stage.wait_events("guard-ignored", "two", 1);
    assert_eq!((stage.life("two"), stage.events("guard-acted", "two")), (next, 1), "exactly one");
}

/// At its end it says how many there were.
fn the_end_of_a_grace_is_told(stage: &Stage) {
    let told = "journalctl -q -o cat STEADFAST_EVENT=guard-ignored STEADFAST_RULE=two | grep -F '3 lines within the grace of 30 s'";
    assert!(stage.booted.is_soon(LONG, told), "{}", stage.booted.journal("-n 60"));
    stage.status("two.service", "0 of 10");
}

fn a_deploy_is_left_alone(stage: &Stage) {
    let life = stage.life("three");
    let mut deploy = stage.booted.command(&["flock", "/run/three.lock", "-c", "echo locked; read line"]);
    let (input, output) = (std::process::Stdio::piped(), std::process::Stdio::piped());
    let mut deploy = deploy.stdin(input).stdout(output).spawn().expect("flock of util-linux is there");
    let mut first = String::new();
    let mut reader = std::io::BufReader::new(deploy.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut reader, &mut first).expect("a line");
    stage.die("three", 2);
    stage.wait_events("guard-ignored", "three", 1);
    assert_eq!((stage.life("three"), stage.events("guard-acted", "three")), (life.clone(), 0));
    drop(deploy.stdin.take());
    deploy.wait().expect("it ends");
    stage.die("three", 1);
    let _next = stage.wait_new_life("three", &life);
}

fn two_guards_act_once(stage: &Stage) {
    stage.status("three.service", "0 of 1");
    let _second = stage.booted.sh(&format!(
        "systemd-run -q --unit=second -p Type=notify {STEADFAST} guard run -c /etc/steadfast/guard.toml --state-dir /var/lib/steadfast"
    ));
    let (life, acted) = (stage.life("three"), stage.events("guard-acted", "three"));
    let stops = "UNIT=three.service MESSAGE_ID=de5b426a63be47a7b6ac3eaac82e2f6f -o cat";
    let stopped = stage.booted.journal(stops).lines().count();
    stage.die("three", 1);
    let _next = stage.wait_new_life("three", &life);
    // The other one has seen the line, too, and said why it does nothing.
    let line = "journalctl -q -o cat STEADFAST_EVENT=guard-ignored STEADFAST_RULE=three | grep -qE 'another guard|started anew|job for'";
    assert!(stage.booted.is_soon(LONG, line), "{}", stage.booted.journal("-n 40"));
    assert_eq!(stage.events("guard-acted", "three"), acted + 1);
    assert_eq!(stage.booted.journal(stops).lines().count(), stopped + 1, "one restart");
    let _stopped = stage.booted.sh("systemctl stop second");
}

fn a_hostile_log_never_reaches_the_start_limit(stage: &Stage) {
    let _started = stage.booted.sh("systemctl start hostile");
    stage.wait_events("guard-acted", "hostile", 10);
    let line =
        "journalctl -q UNIT=hostile.service | grep -E 'start-limit-hit|too quickly'; systemctl is-active hostile";
    let said = stage.booted.sh(&format!("systemctl stop guard; {line}"));
    assert_eq!(said.trim(), "active");
    let span = stage.booted.journal("-o short-unix STEADFAST_EVENT=guard-acted STEADFAST_RULE=hostile");
    let times: Vec<f64> = span.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
    println!("ten restarts of a hostile unit in {:.1} s", times[9] - times[0]);
    let _started = stage.booted.sh("systemctl stop hostile; systemctl start guard");
}
