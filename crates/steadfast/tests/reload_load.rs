//! Reloads under load: a thousand visitors a second through nginx notice none of ten.

use steadfast_harness as support;

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::conditions::{is_soon, tail};
use support::daemon::{Config, Pool, STEADFAST, address};
use support::nginx::Nginx;
use support::releases::{Releases, reload};
use support::scene::Scene;

/// Reloads while visitors come.
const RELOADS: u32 = 10;
/// In direct mode each takes as long as its soaking, because nobody counts requests there; STEADFAST_LONG: all ten.
const RELOADS_DIRECT: u32 = 2;

/// What became of visitors while a site was reloaded.
struct Visited {
    failures: Vec<Value>,
    asked: f64,
    latency: Value,
}

/// A thousand requests a second through nginx, until the reloads are over. `asked` says what they are.
fn visit(pool: impl Fn(&Releases<'_>) -> Pool, kept: u32, reloads: u32, asked: &[&str]) -> Visited {
    let scene = Scene::new();
    let releases = Releases::new(&scene);
    releases.release("0", "good");
    let mut daemon = Config::new(&[pool(&releases)]).start(&scene);
    daemon.wait_serving("site");
    let nginx = Nginx::start_keeping(&scene, &address(&scene, "site"), "", kept);
    assert!(is_soon(|| nginx.get("/").is_ok_and(|page| page.status == 200)), "nginx does not serve");
    let load = Command::new(STEADFAST)
        .args(["bench", &format!("http://{}", nginx.address()), "/", "--rate", "1000", "-c", "100", "-d", "200s"])
        .args(asked)
        .arg("--json")
        .stdout(Stdio::piped())
        .spawn()
        .expect("steadfast runs");
    for number in 1..=reloads {
        releases.release(&number.to_string(), "good");
        let said = reload(&daemon, Duration::from_secs(60));
        assert_eq!(said.code, 0, "reload {number}: {said:?}\n{}", tail(&mut daemon));
    }
    // bench ends at INT as at its time, and tells what there was.
    support::proc::kill(load.id(), rustix::process::Signal::INT).expect("it is our child");
    let output = load.wait_with_output().expect("it is our child");
    let text = String::from_utf8_lossy(&output.stdout);
    let told: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("bench said {text:?}: {error}"));
    let page = nginx.get("/").expect("an answer");
    assert!(page.body.starts_with(&format!("ok {reloads} ")), "not the last release: {page:?}");
    // What bench itself had no time to send at its end was never asked.
    let failures = told["failures"].as_array().cloned().unwrap_or_default();
    let failures = failures.into_iter().filter(|failure| failure["kind"] != "not-sent").collect();
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    let asked = told["requests"]["ok"].as_f64().expect("a number");
    Visited { failures, asked, latency: told["latency_ms"].clone() }
}

/// Nobody has noticed ten reloads.
fn assert_nothing_lost(launch: &str, asked: &[&str]) {
    let visited = visit(|releases| releases.pool(launch), 16, RELOADS, asked);
    assert!(visited.failures.is_empty(), "{launch}: {:?} of {}", visited.failures, visited.asked);
    assert!(visited.asked > 5000.0, "{launch}: only {} requests", visited.asked);
}

#[test]
fn alone_ten_reloads_of_a_zygote_lose_nothing() {
    assert_nothing_lost("zygote", &[]);
}

#[test]
fn alone_ten_reloads_of_executed_workers_lose_nothing() {
    assert_nothing_lost("exec", &[]);
}

/// What may run only once is given to nobody a second time: here a worker that leaves must not lose it.
#[test]
fn alone_ten_reloads_lose_no_post() {
    assert_nothing_lost("zygote", &["--method", "POST", "--data", "order=1"]);
}

/// Nothing stands between visitors and workers there, so this is measured, and little is promised.
#[test]
fn alone_reloads_in_direct_mode_are_measured() {
    let reloads = if std::env::var_os("STEADFAST_LONG").is_some() { RELOADS } else { RELOADS_DIRECT };
    for launch in ["zygote", "exec"] {
        let Visited { failures, asked, latency } = visit(|releases| releases.direct(launch), 0, reloads, &[]);
        let lost: f64 = failures.iter().filter_map(|failure| failure["count"].as_f64()).sum();
        eprintln!("direct, {launch}: {lost} of {asked} requests failed in {reloads} reloads; {latency}: {failures:?}");
        assert!(lost <= asked / 1000.0, "{failures:?} of {asked}");
    }
}
