//! The supervisor as a unit of a real systemd, with the unit files of examples/systemd as they are.

use steadfast_harness as support;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;
use support::booted::Booted;
use support::conditions::is_soon;
use support::daemon::{SOON, STEADFAST};
use support::scene::Scene;
use support::within::skipped;
use support::{apps, proc};

/// The site's pool: `release` is a link that a deploy moves.
const SITE: &str = r#"
[pool.site]
command   = ["./worker"]
directory = "/srv/site/current"
user      = "www-data"
listen    = ["unix:/run/site.sock", "127.0.0.1:9000"]
workers   = 4

[pool.site.verify]
request = "GET /"
expect  = { status = 200, body = "ok" }
"#;

/// A box with the unit installed, not started.
fn installed(scene: &Scene, config: &str) -> Result<Booted, String> {
    let booted = Booted::start(scene)?;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/systemd");
    let unit = fs::read_to_string(examples.join("steadfast.service")).expect("the example is there");
    booted.unit("steadfast.service", &unit.replace("/usr/bin/steadfast", STEADFAST));
    let direct = fs::read_to_string(examples.join("steadfast.service.d/direct.conf")).expect("the example is there");
    booted.write("/root/direct.conf", &direct);
    booted.write("/etc/steadfast/steadfast.toml", config);
    let worker = apps::worker();
    let _nothing = booted.sh(&format!(
        "useradd --system --shell /usr/sbin/nologin steadfast
         mkdir -p /srv/site/good /srv/site/broken && cp {worker} /srv/site/good/worker
         printf '#!/bin/sh\\necho the database is not configured >&2\\nexit 3\\n' > /srv/site/broken/worker
         chmod 755 /srv/site/*/worker && ln -s good /srv/site/current"
    ));
    Ok(booted)
}

fn status(booted: &Booted) -> String {
    booted.property("steadfast", "StatusText")
}

fn main_pid(booted: &Booted) -> String {
    booted.property("steadfast", "MainPID")
}

/// Asks for a page, inside.
fn ping(booted: &Booted, address: &str) -> (Option<i32>, String) {
    let said = booted.run(&[STEADFAST, "ping", address, "/", "--timeout", "5s"]);
    (said.status.code(), String::from_utf8_lossy(&said.stdout).into_owned())
}

/// How many requests the supervisor that runs now knows of.
fn answered(booted: &Booted) -> u64 {
    let said = booted.run(&[STEADFAST, "status", "site", "--json", "-c", "/etc/steadfast/steadfast.toml"]);
    let status: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
    status["pools"][0]["requests"]["total"].as_u64().unwrap_or(0)
}

/// A load on the site while something is done to it: what the load generator tells in the end.
fn under_load(booted: &Booted, seconds: u32, what: impl FnOnce()) -> Value {
    let before = answered(booted);
    let mut bench = booted.command(&[
        STEADFAST,
        "bench",
        "unix:/run/site.sock",
        "/",
        "-c",
        "4",
        "-d",
        &format!("{seconds}s"),
        "--rate",
        "200",
        "--json",
    ]);
    let child = bench.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("it is built");
    assert!(is_soon(|| answered(booted) > before + 50), "no load");
    what();
    let output = child.wait_with_output().expect("it ends");
    serde_json::from_slice(&output.stdout).expect("one document")
}

/// A few visitors all the while: a new worker is trusted sooner when it is asked.
struct Visitors(Child);

impl Visitors {
    fn come(booted: &Booted) -> Visitors {
        let mut bench = booted.command(&[
            STEADFAST,
            "bench",
            "unix:/run/site.sock",
            "/",
            "-c",
            "2",
            "-d",
            "10m",
            "--rate",
            "60",
            "--json",
        ]);
        Visitors(bench.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it is built"))
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        // timeout(1) passes it on.
        let _gone = proc::kill(self.0.id(), Signal::TERM);
        let _reaped = self.0.wait();
    }
}

/// The kinds of failures, each with its number.
fn failures(report: &Value) -> Vec<(String, u64)> {
    let told = report["failures"].as_array().cloned().unwrap_or_default();
    told.iter()
        .map(|one| (one["kind"].as_str().unwrap_or("?").to_owned(), one["count"].as_u64().unwrap_or(0)))
        .collect()
}

#[test]
fn faults_048_080_081_090_a_unit_that_starts_serves_and_survives() {
    let scene = Scene::new();
    let booted = match installed(&scene, SITE) {
        Ok(booted) => booted,
        Err(reason) => return skipped("systemd_unit", &reason),
    };

    // Started means served.
    let _nothing = booted.sh("systemctl start steadfast");
    assert_eq!(ping(&booted, "unix:/run/site.sock").0, Some(0));
    assert!(
        booted.is_soon(SOON, "[ \"$(systemctl show -P StatusText steadfast)\" = 'site serves' ]"),
        "{}",
        status(&booted)
    );
    assert_eq!(booted.property("steadfast", "NFileDescriptorStore"), "2");
    let _visitors = Visitors::come(&booted);
    println!("{}", booted.sh("systemd-analyze security steadfast --no-pager | tail -1"));

    // A broken release is refused, systemctl says so by its exit code, and why stands in its status.
    let _nothing = booted.sh("ln -sfn broken /srv/site/current; ! systemctl reload steadfast");
    assert!(status(&booted).contains("was refused"), "{}", status(&booted));
    let told = booted.sh("systemctl status steadfast --no-pager -n 30 || true");
    assert!(told.contains("the database is not configured"), "{told}");
    assert_eq!(ping(&booted, "unix:/run/site.sock").0, Some(0));
    let _nothing = booted.sh("ln -sfn good /srv/site/current; systemctl reload steadfast");
    assert!(
        booted.is_soon(SOON, "[ \"$(systemctl show -P StatusText steadfast)\" = 'site serves' ]"),
        "{}",
        status(&booted)
    );

    // The journal has events by their ids, with fields.
    let entries = booted.journal("-o json STEADFAST_EVENT=generation-refused");
    let entry: Value = serde_json::from_str(entries.lines().next().expect("an entry")).expect("JSON");
    assert_eq!(entry["STEADFAST_POOL"], "site", "{entry}");
    assert_eq!(entry["MESSAGE_ID"].as_str().map(str::len), Some(32), "{entry}");

    // Killed under load: nobody is refused, and at most those in hand are lost.
    let killed = main_pid(&booted);
    let report = under_load(&booted, 3, || {
        let _nothing = booted.sh(&format!("kill -9 {killed}"));
        assert!(
            booted
                .is_soon(SOON, &format!("p=$(systemctl show -P MainPID steadfast); [ $p != 0 ] && [ $p != {killed} ]"))
        );
    });
    println!(
        "killed under load: {} of {} lost, {:?}",
        report["requests"]["failed"],
        report["requests"]["total"],
        failures(&report)
    );
    assert!(report["requests"]["ok"].as_u64() > Some(300), "{report}");
    assert!(report["requests"]["failed"].as_u64() <= Some(8), "{report}");
    assert!(failures(&report).iter().all(|(kind, _)| !kind.contains("refused")), "{report}");
    assert_eq!(booted.property("steadfast", "NFileDescriptorStore"), "2");

    // Restarted by hand, as often as somebody likes: systemd never gives up, and nobody is refused.
    let report = under_load(&booted, 5, || {
        for _ in 0..6 {
            let _nothing = booted.sh("systemctl restart steadfast");
        }
    });
    assert_eq!(booted.property("steadfast", "ActiveState"), "active");
    assert_eq!(report["requests"]["failed"], 0, "{report}");

    // One that is stopped in its tracks is replaced by the watchdog.
    booted.write(
        "/etc/systemd/system/steadfast.service.d/watchdog.conf",
        "[Service]\nWatchdogSec=1s\nTimeoutAbortSec=1s",
    );
    let _nothing = booted.sh("systemctl daemon-reload; systemctl restart steadfast");
    let (hung, begun) = (main_pid(&booted), Instant::now());
    let _nothing = booted.sh(&format!("kill -STOP {hung}"));
    assert!(
        booted.is_soon(SOON, &format!("p=$(systemctl show -P MainPID steadfast); [ $p != 0 ] && [ $p != {hung} ]"))
    );
    assert_eq!(ping(&booted, "unix:/run/site.sock").0, Some(0));
    println!("the watchdog took {:?}", begun.elapsed());
    // A second is short where others build and test.
    let back = "rm /etc/systemd/system/steadfast.service.d/watchdog.conf; systemctl daemon-reload; systemctl restart steadfast";
    let _nothing = booted.sh(back);

    // journald stands still: nobody waits for it, and what was said meanwhile is there afterwards.
    let journald = booted.property("systemd-journald", "MainPID");
    let _nothing = booted.sh(&format!("kill -STOP {journald}"));
    for _ in 0..3 {
        assert_eq!(ping(&booted, "unix:/run/site.sock").0, Some(0));
        let _nothing = booted.sh(&format!("{STEADFAST} reload --wait -c /etc/steadfast/steadfast.toml"));
    }
    let _nothing = booted.sh(&format!("kill -CONT {journald}"));
    assert!(
        booted.is_soon(
            SOON,
            "journalctl -q -o cat STEADFAST_EVENT=generation-serving --since=-30s | grep -c . | grep -qv '^[01]$'"
        ),
        "{}",
        booted.journal("-n 30")
    );
    // And killed, it is found again.
    let _nothing = booted.sh(&format!("kill -9 {journald}"));
    assert!(booted.is_soon(
        SOON,
        &format!("p=$(systemctl show -P MainPID systemd-journald); [ $p != 0 ] && [ $p != {journald} ]")
    ));
    let before = booted.sh("journalctl -q STEADFAST_EVENT=supervisor-reloaded | wc -l");
    let _nothing = booted.sh("systemctl reload steadfast");
    assert!(booted.is_soon(
        SOON,
        &format!("[ $(journalctl -q STEADFAST_EVENT=supervisor-reloaded | wc -l) -gt {} ]", before.trim())
    ));

    let _nothing = booted.sh("systemctl stop steadfast");
    assert_eq!(booted.property("steadfast", "Result"), "success");
    assert_eq!(booted.property("steadfast", "NFileDescriptorStore"), "0");
}

#[test]
fn a_unit_is_ready_when_its_fallback_is_served_and_takes_its_time_to_load() {
    let scene = Scene::new();
    let slow = "#!/bin/sh\nsleep 6\nexec /srv/site/good/worker\n";
    let config = format!(
        "{SITE}\n[pool.slow]\ncommand = [\"/srv/slow\"]\nuser = \"www-data\"\nlisten = [\"systemd:slow\"]\nworkers = 1\n"
    );
    let booted = match installed(&scene, &config) {
        Ok(booted) => booted,
        Err(reason) => return skipped("systemd_unit", &reason),
    };
    booted.write("/srv/slow", slow);
    booted.write("/etc/systemd/system/steadfast.service.d/short.conf", "[Service]\nTimeoutStartSec=3s");
    booted.unit(
        "slow.socket",
        "[Socket]\nListenStream=/run/slow.sock\nFileDescriptorName=slow\nService=steadfast.service\n",
    );
    let _nothing =
        booted.sh("chmod 755 /srv/slow; ln -sfn broken /srv/site/current; systemctl start slow.socket steadfast");
    // The slow pool has loaded, by more time than the unit has; of the broken one the fallback is there.
    assert_eq!(ping(&booted, "unix:/run/slow.sock").0, Some(0));
    let (code, page) = ping(&booted, "unix:/run/site.sock");
    assert_eq!(code, Some(1), "{page}");
    assert!(page.contains("<!DOCTYPE html>"), "{page}");
    let told = status(&booted);
    assert!(told.contains("site is down") && told.contains("slow serves"), "{told}");
    // The way that supervisors are started by: the direct pool's worker is looked at in /proc.
    let _nothing = booted.sh(
        "mkdir -p /etc/systemd/system/steadfast.service.d && cp /root/direct.conf /etc/systemd/system/steadfast.service.d/
         ln -sfn good /srv/site/current; sed -i 's/^workers   = 4/workers = 2\\nmode = \"direct\"/; s/\"unix:.run.site.sock\", //' /etc/steadfast/steadfast.toml
         systemctl daemon-reload; systemctl restart steadfast",
    );
    assert_eq!(ping(&booted, "127.0.0.1:9000").0, Some(0), "{}", booted.journal("-n 40"));
    assert!(status(&booted).contains("site serves"), "{}", status(&booted));
}
