//! Direct mode with a verify request: one worker of each generation is tried before anybody meets the others.

use steadfast_harness as support;

use std::fs;
use std::path::PathBuf;

use support::conditions::{is_soon, tail};
use support::daemon::{Config, Daemon, Pool, SOON, address, steadfast};
use support::fcgi::Request;
use support::flood::{Flood, Told, kinds};
use support::releases::{Releases, reload};
use support::scene::Scene;

const LAUNCHES: [&str; 2] = ["exec", "zygote"];
/// Nobody counts requests in direct mode, so each step of a rollout soaks for five seconds.
const ROLLOUT: std::time::Duration = std::time::Duration::from_secs(60);

fn start(scene: &Scene, releases: &Releases<'_>, launch: &str) -> Daemon {
    releases.release("1", "good");
    let mut daemon = Config::new(&[releases.direct(launch).key("workers", "2")]).start(scene);
    daemon.wait_serving("site");
    assert!(is_soon(|| daemon.pool("site")["workers"]["total"] == 2), "{}", daemon.pool("site"));
    daemon
}

#[test]
fn a_hollow_direct_release_is_seen_by_nobody() {
    for launch in LAUNCHES {
        let scene = Scene::new();
        let releases = Releases::new(&scene);
        let mut daemon = start(&scene, &releases, launch);
        // The trial worker is gone, and nobody but it was asked.
        assert_eq!(daemon.pool("site")["exits"]["recycled"], 1, "{launch}: {}", daemon.pool("site"));
        assert!(scene.join("run/pool/site").read_dir().expect("it is there").next().is_none(), "a socket is left");
        let before = daemon.workers("site");
        let visitors = Flood::start(&address(&scene, "site"), 100, 4, |number| Request::get(&format!("/?{number}")));
        releases.release("2", "hollow");
        let said = reload(&daemon, ROLLOUT);
        assert_eq!(said.code, 1, "{launch}: {said:?}\n{}", tail(&mut daemon));
        for words in ["expected status 200, got status 500", "Can't locate object method \"new\""] {
            assert!(said.stderr.contains(words), "{launch}: not {words:?}: {said:?}\n{}", tail(&mut daemon));
        }
        assert_eq!(daemon.workers("site"), before, "{launch}: workers of the old generation were touched");
        let all = visitors.stop();
        assert!(all.iter().all(|told| Told::is_good(told) && told.body.starts_with("ok 1 ")), "{}", kinds(&all));

        releases.release("3", "good");
        let said = reload(&daemon, ROLLOUT);
        assert_eq!(said.code, 0, "{launch}: {said:?}\n{}", tail(&mut daemon));
        let answer = Request::get("/").send(&address(&scene, "site")).expect("an answer");
        assert!(answer.text().starts_with("ok 3 "), "{launch}: {}", answer.text());
        assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
        assert_eq!(scene.processes(), Vec::<u32>::new(), "{launch}: something is left");
    }
}

/// From the first start on a hollow program: nothing ever accepts on the pool's own socket.
#[test]
fn a_hollow_direct_pool_serves_nobody_until_it_is_mended() {
    let scene = Scene::new();
    let releases = Releases::new(&scene);
    releases.release("1", "hollow");
    let backoff = "backoff = { first = \"100ms\", max = \"1s\" }";
    let pool = releases.direct("exec").key("workers", "2").table("breaker", backoff);
    let mut daemon = Config::new(&[pool]).start(&scene);
    let opened = daemon.wait_event("breaker-opened", SOON);
    assert!(opened.text.contains("expected status 200, got status 500"), "{}", opened.text);
    assert_eq!(daemon.pool("site")["workers"]["serving"], 0, "{}", daemon.pool("site"));
    scene.write("releases/1/way", "good");
    // The next trial passes, and the canary after it serves on the pool's own socket.
    let serves = is_soon(|| daemon.pool("site")["workers"]["serving"] == 1);
    assert!(serves, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    let answer = Request::get("/").send(&address(&scene, "site")).expect("an answer");
    assert!(answer.text().starts_with("ok 1 "), "{}", answer.text());
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// A worker that never answers is killed with whoever asks it.
#[test]
fn a_direct_trial_that_hangs_ends_in_time() {
    let scene = Scene::new();
    let program = scene.program(
        "hang.pl",
        "use FCGI; my $r = FCGI::Request(); while ($r->Accept >= 0) { sleep 60 if -e 'hang'; print \"\\r\\n\\r\\nok\" }\n",
    );
    scene.write("hang", "");
    let pool = Pool::new("site", &["/usr/bin/perl".to_owned(), program.display().to_string()])
        .workers("1")
        .table("verify", "request = \"GET /\"\ntimeout = \"500ms\"");
    let mut daemon = Config::new(&[pool]).start(&scene);
    let event = daemon.wait_event("worker-exited", SOON);
    assert_eq!(event.event["class"], "unverified", "{}", event.text);
    assert!(event.text.contains("no answer"), "{}", event.text);
    fs::remove_file(scene.join("hang")).expect("it was there");
    daemon.wait_serving("site");
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    assert_eq!(scene.processes(), Vec::<u32>::new(), "something is left");
}

/// `check --boot` asks the same, and touches nothing that runs.
#[test]
fn check_boot_asks_the_verify_request() {
    let scene = Scene::new();
    let releases = Releases::new(&scene);
    releases.make("good", "good");
    releases.make("hollow", "hollow");
    for (release, launch) in [("good", "exec"), ("good", "zygote"), ("hollow", "exec"), ("hollow", "zygote")] {
        releases.deploy(release);
        let file: PathBuf = Config::new(&[releases.pool(launch)]).write(&scene);
        let said = steadfast(scene.path(), &["check", "--boot", "-c", &file.display().to_string()]);
        if release == "good" {
            assert_eq!(said.code, 0, "{launch}: {said:?}");
            assert!(said.stdout.contains("verified"), "{launch}: {said:?}");
        } else {
            assert_eq!(said.code, 78, "{launch}: {said:?}");
            let told = format!("{}{}", said.stdout, said.stderr);
            for words in ["failed its verify request", "status 500", "Can't locate object method \"new\""] {
                assert!(told.contains(words), "{launch}: not {words:?}: {told}");
            }
        }
        assert_eq!(scene.processes(), Vec::<u32>::new(), "{launch}: something is left");
    }
}

/// What `--expect-status` and `--expect-body` are for: a deploy script that asks for itself.
#[test]
fn ping_says_what_was_expected() {
    let scene = Scene::new();
    let releases = Releases::new(&scene);
    let mut daemon = start(&scene, &releases, "exec");
    let site = format!("unix:{}", scene.join("site.sock").display());
    let ping = |arguments: &[&str]| steadfast(scene.path(), &[&["ping", &site, "/"], arguments].concat());
    assert_eq!(ping(&["--expect-status", "200", "--expect-body", "ok 1"]).code, 0);
    let said = ping(&["--expect-status", "404"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("GET /: expected status 404, got status 200"), "{said:?}");
    let said = ping(&["--expect-body", "well"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("expected \"well\" in the body"), "{said:?}");
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}
