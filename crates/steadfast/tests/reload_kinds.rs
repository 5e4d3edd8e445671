//! A deploy of broken code is invisible to visitors: each kind of broken release, with a zygote and without.

use steadfast_harness as support;

use std::time::Duration;

use support::conditions::{is_soon, tail};
use support::daemon::{Config, Daemon, Said, address};
use support::fcgi::Request;
use support::flood::{Flood, Told, kinds};
use support::proc;
use support::releases::{Releases, reload};
use support::scene::Scene;

const LAUNCHES: [&str; 2] = ["zygote", "exec"];
/// A rollout of four workers, each soaking.
const ROLLOUT: Duration = Duration::from_secs(60);

fn flood(scene: &Scene) -> Flood {
    Flood::start(&address(scene, "site"), 200, 8, |number| Request::get(&format!("/?{number}")))
}

fn start(scene: &Scene, releases: &Releases<'_>, launch: &str) -> Daemon {
    releases.release("1", "good");
    let pool = releases.pool(launch).key("ready-timeout", "\"2s\"").key("max-memory", "\"24MiB\"");
    let mut daemon = Config::new(&[pool]).start(scene);
    daemon.wait_serving("site");
    assert!(is_soon(|| daemon.pool("site")["workers"]["idle"] == 4), "{}", daemon.pool("site"));
    daemon
}

fn assert_refused(daemon: &mut Daemon, said: &Said, reason: &str) {
    assert_eq!(said.code, 1, "{said:?}\n{}", tail(daemon));
    assert!(said.stderr.contains(reason), "not {reason:?}: {said:?}\n{}", tail(daemon));
    // After a way back the last worker of the old generation may still be on its way.
    assert!(is_soon(|| daemon.pool("site")["state"] == "serving"), "{}\n{}", daemon.pool("site"), tail(daemon));
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed", "{}", daemon.pool("site"));
}

fn assert_all_good(daemon: &mut Daemon, all: &[Told], releases: &[&str]) {
    assert!(all.iter().all(Told::is_good), "{}\n{}", kinds(all), tail(daemon));
    let of = |told: &Told| releases.iter().any(|release| told.body.starts_with(&format!("ok {release} ")));
    let other = all.iter().find(|told| !of(told));
    assert!(other.is_none(), "not of {releases:?}: {other:?}\n{}", tail(daemon));
}

/// A broken release, refused; then another, at once; then a good one. Visitors see the first and the last only.
fn is_invisible(way: &str, reason: &str) {
    for launch in LAUNCHES {
        let scene = Scene::new();
        let releases = Releases::new(&scene);
        let mut daemon = start(&scene, &releases, launch);
        let before = daemon.workers("site");
        let visitors = flood(&scene);
        releases.release("2", way);
        let said = reload(&daemon, ROLLOUT);
        assert_refused(&mut daemon, &said, reason);
        assert_eq!(daemon.workers("site"), before, "{launch}: workers of the old generation were touched");
        assert_eq!(daemon.pool("site")["generation"], 1);
        let events = daemon.verb(&["events", "--json"]).stdout;
        let events = events.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let refused = events.into_iter().find(|event| event["event"] == "generation-refused").unwrap_or_default();
        let words = format!("{} {}", refused["reason"], refused["stderr"]).replace("\\\"", "\"");
        assert!(words.contains(reason), "{launch}: the event does not say why: {refused}");

        // The next one follows at once, and is as bad; then it is mended.
        releases.release("3", way);
        let _asked = daemon.verb(&["reload", "site"]);
        releases.release("4", "good");
        let said = reload(&daemon, ROLLOUT);
        assert_eq!(said.code, 0, "{launch}: {said:?}\n{}", tail(&mut daemon));
        assert_eq!(daemon.pool("site")["generation"], 4, "{}", daemon.pool("site"));
        assert_all_good(&mut daemon, &visitors.stop(), &["1", "4"]);
        assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
        assert_eq!(scene.processes(), Vec::<u32>::new(), "{launch}: something is left");
    }
}

#[test]
fn a_release_that_does_not_compile_is_seen_by_nobody() {
    is_invisible("no-compile", "Missing right curly");
}

#[test]
fn a_release_that_exits_while_it_loads_is_seen_by_nobody() {
    is_invisible("exit", "no configuration of the database");
}

#[test]
fn a_release_that_hangs_while_it_loads_is_seen_by_nobody() {
    // It says nothing, so all there is to tell is its end.
    is_invisible("hang", "early, SIGKILL");
}

#[test]
fn a_hollow_release_is_seen_by_nobody() {
    is_invisible("hollow", "Can't locate object method \"new\" via package \"Site::Response\"");
}

/// Only requests that hit a new worker can fail, and those are given to another worker once.
#[test]
fn a_release_that_fails_in_service_goes_back() {
    for launch in LAUNCHES {
        let scene = Scene::new();
        let releases = Releases::new(&scene);
        let mut daemon = start(&scene, &releases, launch);
        let visitors = flood(&scene);
        releases.release("2", "third");
        let said = reload(&daemon, ROLLOUT);
        assert_refused(&mut daemon, &said, "the third request is one too many");
        let is_back = is_soon(|| {
            let pool = daemon.pool("site");
            pool["generation"] == 1 && pool["workers"]["idle"] == 4
        });
        assert!(is_back, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
        let event = daemon.wait_event("generation-rolled-back", Duration::from_secs(1));
        assert_eq!(event.event["generation"], 2, "{}", event.text);
        let after = Request::get("/after").send(&address(&scene, "site")).expect("the old generation serves");
        assert!(after.text().starts_with("ok 1 "), "{}", after.text());
        let all = visitors.stop();
        let failed: Vec<_> = all.iter().filter(|told| !told.is_good()).collect();
        eprintln!("{launch}: {} of {} failed: {}", failed.len(), all.len(), kinds(&all));
        // Two deaths take it back; one more may be under way.
        let exits = daemon.pool("site")["exits"]["exited"].as_u64().unwrap_or(0);
        assert!(failed.len() as u64 <= exits && exits <= 4, "{exits} deaths: {}\n{}", kinds(&all), tail(&mut daemon));
        releases.release("3", "good");
        let said = reload(&daemon, ROLLOUT);
        assert_eq!(said.code, 0, "{launch}: {said:?}\n{}", tail(&mut daemon));
        assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    }
}

/// A megabyte a request: recycled between requests, one after the other, and nobody notices.
#[test]
fn a_release_that_leaks_is_recycled() {
    for launch in LAUNCHES {
        let scene = Scene::new();
        let releases = Releases::new(&scene);
        let mut daemon = start(&scene, &releases, launch);
        let visitors = flood(&scene);
        releases.release("2", "leak");
        let said = reload(&daemon, ROLLOUT);
        assert_eq!(said.code, 0, "{launch}: {said:?}\n{}", tail(&mut daemon));
        let is_recycled = |line: &support::daemon::Line| {
            line.name() == "worker-exited" && line.event["class"] == "recycled" && line.event["generation"] == 2
        };
        let recycled = support::conditions::is_within(Duration::from_secs(30), || {
            let events = daemon.verb(&["events", "-n", "1000", "--json"]).stdout;
            let limit = "\"its memory has passed its limit\"";
            events.lines().any(|line| line.contains("\"worker-recycled\"") && line.contains(limit))
        });
        assert!(recycled, "nobody was recycled: {}\n{}", daemon.pool("site"), tail(&mut daemon));
        assert!(is_soon(|| daemon.pool("site")["workers"]["idle"] == 4), "{}", daemon.pool("site"));
        let unasked = daemon.lines().iter().any(|line| line.name() == "worker-exited" && !is_recycled(line));
        assert!(!unasked, "{}", tail(&mut daemon));
        assert_all_good(&mut daemon, &visitors.stop(), &["1", "2"]);
        assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    }
}

/// A stop in the middle of a reload wins, and whoever waits is told.
#[test]
fn a_stop_during_a_reload_wins() {
    let scene = Scene::new();
    let releases = Releases::new(&scene);
    let mut daemon = start(&scene, &releases, "zygote");
    releases.release("2", "hang");
    let control = daemon.control().display().to_string();
    let waiting = std::process::Command::new(support::daemon::STEADFAST)
        .args(["reload", "site", "--wait", "--control", &control])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("steadfast runs");
    daemon.wait("a second zygote", support::daemon::SOON, |line| {
        line.name() == "zygote-started" && line.event["generation"] == 2
    });
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    let said = waiting.wait_with_output().expect("it is our child");
    assert_eq!(said.status.code(), Some(1), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(String::from_utf8_lossy(&said.stderr).contains("stopped"), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(scene.processes(), Vec::<u32>::new(), "something is left");
    assert!(!proc::alive(daemon.pid()));
}
