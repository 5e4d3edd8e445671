//! What a Perl worker says of its own end, on FCGI::ProcManager::Steadfast: it cannot go on, or its generation is broken.

use steadfast_harness as support;

use std::fs;
use std::time::{Duration, Instant};

use support::conditions::{is_soon, is_within, tail};
use support::daemon::{Config, Daemon, Line, Pool, SOON, address};
use support::fcgi::Request;
use support::proc;
use support::releases::{Releases, reload};
use support::scene::Scene;

fn start(scene: &Scene, releases: &Releases<'_>, change: impl Fn(Pool) -> Pool) -> Daemon {
    releases.release("1", "good");
    let mut daemon = Config::new(&[change(releases.pool("zygote"))]).start(scene);
    daemon.wait_serving("site");
    is_whole(&mut daemon);
    daemon
}

fn is_whole(daemon: &mut Daemon) {
    let whole = is_soon(|| daemon.pool("site")["workers"]["idle"] == 4);
    assert!(whole, "{}\n{}", daemon.pool("site"), tail(daemon));
}

/// A visitor asks for a page whose worker then says something of itself. POST: it is not given to a second worker.
fn ask(scene: &Scene, path: &str) {
    let _whatever = Request::get(path).body(b"x=1").send(&address(scene, "site"));
}

fn exited(daemon: &mut Daemon) -> Line {
    daemon.wait("an end that nobody asked for", SOON, |line| {
        line.name() == "worker-exited" && line.event["class"] != "recycled"
    })
}

#[test]
fn a_worker_that_cannot_go_on_is_replaced_alone() {
    let scene = Scene::new();
    let releases = Releases::new(&scene);
    let mut daemon = start(&scene, &releases, |pool| pool);
    let before = daemon.workers("site");
    let begun = Instant::now();
    ask(&scene, "/fail");
    let event = exited(&mut daemon);
    let took = begun.elapsed();
    assert_eq!((&event.event["class"], &event.event["code"]), (&"exited".into(), &5.into()), "{}", event.text);
    assert_eq!(event.event["message"], "the database is gone", "{}", event.text);
    // The answer is TERM, and nobody waited ten seconds for it: the promise is 100 ms on a machine with nothing else.
    assert!(took < Duration::from_secs(2), "TERM came back after {took:?}");
    eprintln!("from the request to the end that TERM brought: {took:?}");
    is_whole(&mut daemon);
    let after = daemon.workers("site");
    assert_eq!(before.iter().filter(|pid| after.contains(pid)).count(), 3, "{before:?} → {after:?}");
    let pool = daemon.pool("site");
    assert_eq!((&pool["exits"]["exited"], &pool["breaker"]["state"]), (&1.into(), &"closed".into()), "{pool}");
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

#[test]
fn one_broken_worker_takes_an_unproven_generation_back() {
    let scene = Scene::new();
    let releases = Releases::new(&scene);
    let mut daemon = start(&scene, &releases, |pool| pool);
    releases.release("2", "good");
    let said = reload(&daemon, Duration::from_secs(60));
    assert_eq!(said.code, 0, "{said:?}\n{}", tail(&mut daemon));
    ask(&scene, "/broken");
    let event = daemon.wait_event("generation-rolled-back", SOON);
    assert_eq!(event.event["generation"], 2, "{}", event.text);
    let reason = event.event["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("Site::Response is hollow"), "{}", event.text);
    let is_back = is_soon(|| {
        let answer = Request::get("/").send(&address(&scene, "site"));
        answer.is_ok_and(|answer| answer.text().starts_with("ok 1 "))
    });
    assert!(is_back, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    is_whole(&mut daemon);
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

#[test]
fn one_broken_worker_of_a_proven_generation_brings_a_fresh_zygote() {
    let scene = Scene::new();
    let releases = Releases::new(&scene);
    let mut daemon = start(&scene, &releases, |pool| pool.table("breaker", "prove = \"1s\""));
    daemon.wait_event("generation-proven", SOON);
    let before = daemon.pool("site")["zygote"]["pid"].clone();
    ask(&scene, "/broken");
    let event = exited(&mut daemon);
    assert_eq!(
        (&event.event["class"], &event.event["name"]),
        (&"broken".into(), &"EX_PRELOAD".into()),
        "{}",
        event.text
    );
    let fresh = is_soon(|| {
        let zygote = daemon.pool("site")["zygote"].clone();
        zygote["state"] == "ready" && zygote["pid"] != before
    });
    assert!(fresh, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    is_whole(&mut daemon);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed", "{}", daemon.pool("site"));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// The file has gone bad, there is no older generation, and every new worker says so: the fallback, until it is mended.
#[test]
fn the_only_generation_holds_with_the_fallback_and_recovers_when_mended() {
    let scene = Scene::new();
    let releases = Releases::new(&scene);
    let mut daemon = start(&scene, &releases, |pool| {
        pool.table("fallback", "status = 503").table("breaker", "backoff = { first = \"100ms\", max = \"1s\" }")
    });
    // Rotten from now on: whatever is loaded says that it is broken, and all that run now end.
    scene.write("releases/1/way", "rotten");
    let zygote =
        daemon.pool("site")["zygote"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a zygote");
    let victims = daemon.workers("site");
    proc::kill(zygote, rustix::process::Signal::KILL).expect("it is our supervisor's");
    for worker in victims {
        proc::kill(worker, rustix::process::Signal::KILL).expect("it is our supervisor's");
    }
    let opened = daemon.wait_event("breaker-opened", SOON);
    assert!(opened.text.contains("Site::Response is rotten"), "{}", opened.text);
    let is_down = is_soon(|| {
        Request::get("/")
            .send(&address(&scene, "site"))
            .is_ok_and(|answer| answer.header("X-Steadfast") == Some("down"))
    });
    assert!(is_down, "no fallback: {}\n{}", daemon.pool("site"), tail(&mut daemon));
    scene.write("releases/1/way", "good");
    let serves = is_within(Duration::from_secs(60), || daemon.pool("site")["state"] == "serving");
    assert!(serves, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    let answer = Request::get("/").send(&address(&scene, "site")).expect("it serves");
    assert!(answer.text().starts_with("ok 1 "), "{}", answer.text());
    assert_eq!(fs::read_to_string(scene.join("releases/1/way")).expect("ours"), "good");
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// The site's good release, and all of its workers serve.
fn good_site(scene: &Scene, launch: &str) -> Daemon {
    let releases = Releases::new(scene);
    releases.release("1", "good");
    let mut daemon = Config::new(&[releases.pool(launch)]).start(scene);
    daemon.wait_serving("site");
    is_whole(&mut daemon);
    daemon
}

/// The unchanged code of those who used to tell their manager: `kill TERM => $MANAGER_PID; sleep 10`.
#[test]
fn a_term_to_the_manager_of_old_is_a_word_of_its_sender() {
    for launch in ["zygote", "exec"] {
        let scene = Scene::new();
        let mut daemon = good_site(&scene, launch);
        let begun = Instant::now();
        ask(&scene, "/story");
        let event = exited(&mut daemon);
        assert_eq!(event.event["class"], "broken", "{launch}: {}", event.text);
        assert!(begun.elapsed() < Duration::from_secs(8), "{launch}: TERM did not come back");
        is_whole(&mut daemon);
        assert!(proc::alive(daemon.pid()), "{launch}: the supervisor took it for an order to stop");
        assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    }
}

/// A release is edited in place by somebody who breaks it, while it runs; then a worker dies.
#[test]
fn files_edited_under_a_running_generation_are_charged_to_the_files() {
    for launch in ["exec", "zygote"] {
        let scene = Scene::new();
        let mut daemon = good_site(&scene, launch);
        scene.program("releases/1/site.fcgi", "#!/usr/bin/perl\nprint STDERR \"half an edit\\n\"; exit 9;\n");
        let victim = daemon.workers("site")[0];
        if launch == "zygote" {
            // What is loaded is loaded: a worker that dies is forked from it as before. So the zygote dies, too.
            proc::kill(victim, rustix::process::Signal::KILL).expect("it is our supervisor's");
            is_whole(&mut daemon);
            let zygote = daemon.pool("site")["zygote"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            proc::kill(zygote.expect("a zygote"), rustix::process::Signal::KILL).expect("it is our supervisor's");
        } else {
            proc::kill(victim, rustix::process::Signal::KILL).expect("it is our supervisor's");
        }
        let event = daemon.wait("an end of what was started from the edited file", SOON, |line| {
            ["worker-exited", "zygote-exited"].contains(&line.name()) && line.event["code"] == 9
        });
        assert_eq!(event.event["reason"], "its files had changed on disk", "{launch}: {}", event.text);
        // The others go on, and nothing is said of the generation.
        for _ in 0..20 {
            let answer = Request::get("/").send(&address(&scene, "site")).expect("the others answer");
            assert!(answer.text().starts_with("ok 1 "), "{launch}: {}", answer.text());
        }
        let names = daemon.event_names();
        assert!(
            !names.iter().any(|name| name == "generation-refused" || name == "generation-rolled-back"),
            "{names:?}"
        );
        let reason = is_soon(|| {
            let pool = daemon.pool("site");
            let told = format!("{}{}", pool["reason"], pool["breaker"]["reason"]);
            told.contains("half an edit")
        });
        assert!(reason, "{launch}: {}\n{}", daemon.pool("site"), tail(&mut daemon));
        // Mended: it comes back by itself.
        let good =
            fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps/site.fcgi")).expect("it is there");
        scene.program("releases/1/site.fcgi", &good);
        let _closed = daemon.verb(&["breaker", "site", "reset"]);
        is_whole(&mut daemon);
        assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    }
}
