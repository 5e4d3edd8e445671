//! What a real systemd keeps for the supervisor, through everything that befalls it: ends, other addresses, starts that fail.

#![allow(clippy::print_stdout)] // Figures for whoever looks.

use steadfast_harness as support;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use support::apps;
use support::booted::Booted;
use support::conditions::is_soon;
use support::daemon::{SOON, STEADFAST};
use support::scene::Scene;
use support::within::skipped;

const FILE: &str = "/etc/steadfast/steadfast.toml";

/// A direct pool, whose workers have the public socket in their hands, and one in queue mode.
const POOLS: &str = r#"
[pool.page]
command   = ["/srv/worker"]
user      = "www-data"
listen    = ["unix:/run/page.sock"]
workers   = 2

[pool.site]
mode      = "direct"
command   = ["/srv/worker"]
user      = "www-data"
listen    = ["127.0.0.1:9000"]
allowed-clients = ["127.0.0.1"]
workers   = 2
"#;

/// A box with the unit started.
fn started(scene: &Scene) -> Result<Booted, String> {
    let booted = Booted::start(scene)?;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/systemd");
    let read = |name: &str| fs::read_to_string(examples.join(name)).expect("the example is there");
    booted.write(FILE, POOLS);
    booted.write("/etc/systemd/system/steadfast.service.d/direct.conf", &read("steadfast.service.d/direct.conf"));
    booted.unit("steadfast.service", &read("steadfast.service").replace("/usr/bin/steadfast", STEADFAST));
    let _nothing = booted.sh(&format!(
        "useradd --system --shell /usr/sbin/nologin steadfast; install -m 755 {} /srv/worker; systemctl start steadfast",
        apps::worker()
    ));
    Ok(booted)
}

fn answers(booted: &Booted, address: &str) -> bool {
    booted.run(&[STEADFAST, "ping", address, "/", "--timeout", "10s"]).status.success()
}

fn kept(booted: &Booted) -> String {
    booted.property("steadfast", "NFileDescriptorStore")
}

/// Whether a property of the unit comes to be so.
fn becomes(booted: &Booted, name: &str, pattern: &str) -> bool {
    booted.is_soon(SOON, &format!("[[ $(systemctl show -P {name} steadfast) == {pattern} ]]"))
}

/// Whether another process has taken the place of this one.
fn is_followed(booted: &Booted, pid: &str) -> bool {
    booted.is_soon(SOON, &format!("p=$(systemctl show -P MainPID steadfast); [ $p != 0 ] && [ $p != {pid} ]"))
}

/// Visitors of a web server, and the supervisor is killed again and again under their load.
fn through_nginx(booted: &Booted) {
    const KILLS: u64 = 3;
    const AT_ONCE: u64 = 4;
    booted.write(
        "/root/nginx.conf",
        "user www-data; error_log /root/nginx.log; events {} http { access_log off; server { listen 127.0.0.1:8080; location / {
         fastcgi_pass unix:/run/page.sock; include /etc/nginx/fastcgi_params; } } }",
    );
    let _nothing = booted
        .sh("chmod 755 /root; systemd-run --quiet --unit=web nginx -c /root/nginx.conf -g 'daemon off;'
         until curl -sf -o /run/page http://127.0.0.1:8080/; do sleep 0.05; done");
    let at_once = AT_ONCE.to_string();
    let load = ["http://127.0.0.1:8080", "/", "-c", &at_once, "--rate", "200", "-d", "6s", "--json"];
    let mut bench = booted.command(&[&[STEADFAST, "bench"], &load[..]].concat());
    let bench = bench.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("it is built");
    for _ in 0..KILLS {
        let killed = booted.property("steadfast", "MainPID");
        let _nothing = booted.sh(&format!("kill -9 {killed}"));
        assert!(is_followed(booted, &killed) && becomes(booted, "ActiveState", "active"));
        assert!(answers(booted, "unix:/run/page.sock"));
    }
    let output = bench.wait_with_output().expect("it ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one document");
    let requests = &report["requests"];
    println!("through nginx, {KILLS} kills: {requests}, {}", report["failures"]);
    assert!(requests["ok"].as_u64() > Some(900), "{report}");
    assert!(requests["failed"].as_u64() <= Some(KILLS * AT_ONCE), "{report}");
    // nginx tells by which error each was lost.
    let log = booted.sh("cat /root/nginx.log; systemctl stop web");
    assert!(!log.contains("refused") && !log.contains("No such file"), "{log}");
}

#[test]
fn what_systemd_keeps_outlasts_everything_but_the_configuration() {
    let scene = Scene::new();
    let booted = match started(&scene) {
        Ok(booted) => booted,
        Err(reason) => return skipped("systemd_store", &reason),
    };
    assert!(becomes(&booted, "NFileDescriptorStore", "2"), "{}", booted.journal("-n 30"));

    // When memory is short, workers go before the supervisor.
    if booted.run(&["bash", "-c", "echo -500 > /proc/$$/oom_score_adj"]).status.success() {
        let scores = booted.sh("cat /proc/$(systemctl show -P MainPID steadfast)/oom_score_adj
             for pid in $(pgrep -x worker); do cat /proc/$pid/oom_score_adj; done | sort -u");
        assert_eq!(scores, "-500\n0\n");
    } else {
        skipped("systemd_store", "this machine lets nobody lower an OOM score (no CAP_SYS_RESOURCE)");
    }

    // A worker shuts the public socket down. It listens again, and is still kept.
    let _cut = booted.run(&[STEADFAST, "ping", "127.0.0.1:9000", "/shutdown-listener", "--timeout", "10s"]);
    let rebound = "journalctl -q STEADFAST_EVENT=pool-rebound | grep -q 'shut down by a worker'";
    assert!(booted.is_soon(SOON, rebound), "{}", booted.journal("-n 30"));
    assert!(answers(&booted, "127.0.0.1:9000"));
    assert_eq!(kept(&booted), "2");
    let killed = booted.property("steadfast", "MainPID");
    let _nothing = booted.sh(&format!("kill -9 {killed}"));
    // A direct worker may die with a visitor in hand. But nobody is refused.
    assert!(is_soon(|| {
        let asked = booted.run(&[STEADFAST, "ping", "127.0.0.1:9000", "/", "--timeout", "10s"]);
        let said = String::from_utf8_lossy(&asked.stderr);
        assert!(!said.contains("refused"), "{said}");
        asked.status.success()
    }));
    assert!(is_followed(&booted, &killed));

    // Another address on the same port, which the kept one is in the way of.
    booted.write(FILE, &POOLS.replace("127.0.0.1:9000", "0.0.0.0:9000"));
    let restarted = booted.run(&["systemctl", "restart", "steadfast"]);
    assert!(restarted.status.success(), "{}", booted.journal("-n 30"));
    assert!(answers(&booted, "127.0.0.1:9000"));
    assert!(becomes(&booted, "NFileDescriptorStore", "2"), "what is not configured is given back: {}", kept(&booted));

    // A start that fails, again and again, for another pool's address is taken. Who waits meanwhile is answered in the end.
    let file = booted.sh("stat -c %i /run/page.sock");
    let taken = "\n[pool.taken]\ncommand = [\"/srv/worker\"]\nuser = \"www-data\"\nlisten = [\"127.0.0.1:9555\"]\n";
    let squatter =
        "import socket, time; s = socket.create_server(('127.0.0.1', 9555)); open('/run/squats', 'w'); time.sleep(600)";
    let _nothing = booted.sh(&format!(
        "systemd-run --quiet --unit=squatter python3 -c \"{squatter}\"; until [ -e /run/squats ]; do sleep 0.05; done"
    ));
    booted.write(FILE, &format!("{POOLS}{taken}").replace("127.0.0.1:9000", "0.0.0.0:9000"));
    let restarted = booted.run(&["systemctl", "restart", "steadfast"]);
    assert!(!restarted.status.success(), "the address is taken");
    let mut waits = booted.command(&[STEADFAST, "ping", "unix:/run/page.sock", "/", "--timeout", "60s"]);
    let waits = waits.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it is built");
    let tried = "[ $(journalctl -q -t steadfast --since=-1min | grep -c 'cannot listen on 127.0.0.1:9555') -ge 3 ]";
    assert!(booted.is_soon(SOON, tried), "{}", booted.journal("-n 30"));
    assert_eq!(booted.sh("stat -c %i /run/page.sock"), file, "its path was taken away");
    let _nothing = booted.sh("systemctl stop squatter");
    assert!(becomes(&booted, "ActiveState", "active"), "{}", booted.journal("-n 30"));
    let waited = waits.wait_with_output().expect("it ends");
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    assert_eq!(booted.sh("stat -c %i /run/page.sock"), file);
    assert!(becomes(&booted, "NFileDescriptorStore", "3"), "{}", kept(&booted));

    through_nginx(&booted);

    // A configuration that is refused, by a signal that nobody waits for: why stands in the status until one is taken.
    booted.write(FILE, "[pool.page");
    let _nothing = booted.sh("systemctl kill --kill-who=main -s HUP steadfast");
    assert!(
        becomes(&booted, "StatusText", "'the configuration was refused: '*"),
        "{}",
        booted.property("steadfast", "StatusText")
    );
    booted.write(FILE, POOLS);
    let _nothing = booted.sh("! systemctl reload steadfast");
    booted.write(FILE, &POOLS.replace("127.0.0.1:9000", "0.0.0.0:9000"));
    let _nothing = booted.sh("systemctl reload steadfast");
    assert!(
        becomes(&booted, "StatusText", "'page serves; site serves'"),
        "{}",
        booted.property("steadfast", "StatusText")
    );
    assert!(
        becomes(&booted, "NFileDescriptorStore", "2"),
        "a pool that is gone gives its socket back: {}",
        kept(&booted)
    );
    let _nothing = booted.sh("systemctl stop steadfast");
    assert_eq!(kept(&booted), "0");
}
