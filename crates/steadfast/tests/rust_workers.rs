//! Workers made with the worker library, as steadfast runs them: executed, and forked by a zygote.

use steadfast_harness as support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::conditions::{is_soon, tail};
use support::daemon::{Config, Daemon, Pool, SOON, Said, address, socket};
use support::fcgi::{Request, Response};
use support::flood::{Flood, Told, kinds};
use support::proc;
use support::releases::{Releases, reload};
use support::scene::{Scene, allow};

const LAUNCHES: [&str; 2] = ["exec", "zygote"];
/// A rollout of two workers, each soaking for five seconds.
const ROLLOUT: Duration = Duration::from_secs(60);

/// cargo builds examples beside the tests: target/PROFILE/{deps,examples}.
fn program() -> PathBuf {
    let me = std::env::current_exe().expect("a path");
    let path = me.parent().and_then(Path::parent).expect("deps").join("examples/rust-site");
    assert!(path.exists(), "{}: build it first (cargo build -p steadfast --examples)", path.display());
    path
}

struct Site {
    scene: Scene,
}

impl Site {
    fn new() -> Site {
        let site = Site { scene: Scene::new() };
        for directory in ["releases", "bin"] {
            fs::create_dir(site.scene.join(directory)).expect("a directory in the scene can be made");
            allow(&site.scene.join(directory), 0o755);
        }
        let path = site.scene.join("bin/rust-site");
        fs::copy(program(), &path).expect("a file can be copied into the scene");
        allow(&path, 0o755);
        site
    }

    /// A release that goes wrong in this way is made and deployed.
    fn release(&self, name: &str, way: &str) {
        let directory = self.scene.join(&format!("releases/{name}"));
        fs::create_dir(&directory).expect("a directory in the scene can be made");
        allow(&directory, 0o755);
        self.scene.write(&format!("releases/{name}/way"), way);
        Releases::switch(&self.scene, name);
    }

    fn pool(&self, launch: &str) -> Pool {
        Pool::new("site", &[self.scene.join("bin/rust-site").display().to_string()])
            .queue()
            .workers("2")
            .key("launch", &format!("{launch:?}"))
            .directory(self.scene.join("current"))
    }

    fn start(&self, pool: Pool) -> Daemon {
        let mut daemon = Config::new(&[pool]).start(&self.scene);
        daemon.wait_serving("site");
        let is_whole = || daemon.pool("site")["workers"]["idle"] == 2;
        assert!(is_soon(is_whole), "{}", daemon.pool("site"));
        daemon
    }

    fn get(&self, path: &str) -> Response {
        Request::get(path).send(&address(&self.scene, "site")).expect("an answer")
    }
}

fn ends(mut daemon: Daemon, site: &Site) {
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    assert_eq!(site.scene.processes(), Vec::<u32>::new(), "something is left");
}

fn health(pool: Pool) -> Pool {
    pool.table("verify", "request = \"GET /health\"\nexpect = { status = 200, body = \"ok\" }")
}

#[test]
fn it_serves_and_is_replaced_and_leaves() {
    for launch in LAUNCHES {
        let site = Site::new();
        site.release("1", "good");
        let mut daemon = site.start(health(site.pool(launch)));
        assert!(site.get("/").text().starts_with("ok 1 "));
        let victim = daemon.workers("site")[0];
        proc::kill(victim, Signal::KILL).expect("it is our supervisor's");
        let is_replaced = || daemon.workers("site").len() == 2 && !daemon.workers("site").contains(&victim);
        assert!(is_soon(is_replaced), "{launch}: {}", daemon.pool("site"));
        for pid in daemon.workers("site") {
            assert_eq!(proc::parent(pid), Some(daemon.pid()), "{launch}");
            assert_eq!(proc::group(pid), Some(pid), "{launch}");
        }
        if launch == "zygote" {
            let zygote = daemon.pool("site")["zygote"].clone();
            assert_eq!(zygote["state"], "ready", "{zygote}");
        }
        // A worker's stderr is its own.
        daemon.signal(Signal::TERM);
        let said = daemon.wait("its last words", SOON, |line| line.text.contains("leaving in good order"));
        assert_eq!(said.event["pool"], "site", "{launch}: {}", said.text);
        daemon.wait_exit(SOON);
        assert_eq!(site.scene.processes(), Vec::<u32>::new(), "{launch}: something is left");
    }
}

#[test]
fn a_panic_is_one_visitors_500_and_is_told_with_its_place() {
    for launch in LAUNCHES {
        let site = Site::new();
        site.release("1", "good");
        let mut daemon = site.start(site.pool(launch));
        let before = daemon.workers("site");
        let answer = site.get("/panic");
        assert_eq!(answer.status, 500, "{launch}: {}", answer.text());
        let told = daemon.wait("the panic", SOON, |line| line.text.contains("GET /panic: panicked at "));
        assert!(told.text.contains("rust-site.rs:") && told.text.contains("as it was asked to"), "{}", told.text);
        assert!(site.get("/").text().starts_with("ok 1 "), "{launch}");
        assert_eq!(daemon.workers("site"), before, "{launch}");
        ends(daemon, &site);
    }
}

#[test]
fn a_panic_ends_the_worker_if_the_program_has_chosen_so() {
    let site = Site::new();
    site.release("1", "leaving");
    let mut daemon = site.start(site.pool("zygote"));
    assert_eq!(site.get("/panic").status, 500);
    let exited = daemon.wait_event("worker-exited", SOON);
    assert_eq!(exited.event["code"], 4, "{}", exited.text);
    assert_eq!(exited.event["name"], "EX_REQUEST", "{}", exited.text);
    assert!(exited.text.contains("as it was asked to"), "{}", exited.text);
    ends(daemon, &site);
}

#[test]
fn a_deploy_that_cannot_be_used_is_refused_with_the_steps_name() {
    let cases = [
        ("unloadable", "preload step \\\"templates\\\": templates/page.html has no place for the text", "EX_PRELOAD"),
        ("panicking", "preload step \\\"templates\\\": panicked at ", "EX_PRELOAD"),
        ("startless", "start step \\\"database\\\": connection refused", "EX_START"),
        ("hollow", "expected status 200, got status 500", ""),
    ];
    for launch in LAUNCHES {
        let site = Site::new();
        site.release("0", "good");
        let mut daemon = site.start(health(site.pool(launch)));
        for (number, (way, words, name)) in cases.iter().enumerate() {
            let visitors =
                Flood::start(&address(&site.scene, "site"), 100, 2, |number| Request::get(&format!("/?{number}")));
            site.release(&format!("bad-{number}"), way);
            let said: Said = reload(&daemon, ROLLOUT);
            assert_eq!(said.code, 1, "{launch} {way}: {said:?}\n{}", tail(&mut daemon));
            let plain = words.replace('\\', "");
            assert!(said.stderr.contains(&plain) && said.stderr.contains(name), "{launch} {way}: {said:?}");
            let all = visitors.stop();
            let is_old = |told: &Told| Told::is_good(told) && told.body.starts_with("ok 0 ");
            assert!(all.iter().all(is_old), "{launch} {way}: {}", kinds(&all));
        }
        Releases::switch(&site.scene, "0");
        ends(daemon, &site);
    }
}

#[test]
fn a_dependency_that_is_away_is_nobodys_failure() {
    let site = Site::new();
    site.release("1", "waiting");
    let mut daemon = Config::new(&[site.pool("exec")]).start(&site.scene);
    let exited = daemon.wait_event("worker-exited", SOON);
    assert_eq!(exited.event["class"], "unavailable", "{}", exited.text);
    assert_eq!(daemon.pool("site")["breaker"]["failures"], 0.0, "{}", daemon.pool("site"));
    site.scene.write("releases/1/way", "good");
    daemon.wait_serving("site");
    ends(daemon, &site);
}

#[test]
fn a_workers_own_word_has_its_consequence() {
    let site = Site::new();
    site.release("1", "good");
    let mut daemon = site.start(site.pool("zygote"));
    let before = daemon.workers("site");
    assert_eq!(site.get("/failed").status, 500);
    let exited = daemon.wait_event("worker-exited", SOON);
    assert_eq!((&exited.event["code"], &exited.event["name"]), (&Value::from(4), &Value::from("EX_REQUEST")));
    assert!(exited.text.contains("this worker cannot go on"), "{}", exited.text);
    let ran = exited.event["message"].as_str().unwrap_or_default();
    assert!(ran.contains("GET /failed"), "{}", exited.text);
    let is_whole = || daemon.pool("site")["workers"]["idle"] == 2;
    assert!(is_soon(is_whole), "{}", daemon.pool("site"));
    let kept = daemon.workers("site").iter().filter(|pid| before.contains(pid)).count();
    assert_eq!(kept, 1, "the other one goes on");
    ends(daemon, &site);
}

#[test]
fn a_broken_release_in_service_is_rolled_back() {
    let site = Site::new();
    site.release("1", "good");
    let mut daemon = site.start(health(site.pool("zygote")));
    site.release("2", "good");
    let said = reload(&daemon, ROLLOUT);
    assert_eq!(said.code, 0, "{said:?}\n{}", tail(&mut daemon));
    assert_eq!(site.get("/broken").status, 500);
    let back = daemon.wait_event("generation-rolled-back", SOON);
    assert!(back.text.contains("nobody of this release can go on"), "{}", back.text);
    assert!(is_soon(|| site.get("/").text().starts_with("ok 1 ")), "{}", tail(&mut daemon));
    ends(daemon, &site);
}

/// A fork takes one thread along.
#[test]
fn a_zygote_with_a_thread_forks_nobody() {
    let site = Site::new();
    site.release("1", "threads");
    let mut daemon = site.start(site.pool("zygote"));
    let warned: Vec<String> =
        daemon.lines().iter().filter(|line| line.name() == "zygote-warned").map(|line| line.text.clone()).collect();
    assert!(warned.len() == 1 && warned[0].contains("db-pool"), "{warned:?}");
    assert!(site.get("/").text().starts_with("ok 1 "));
    ends(daemon, &site);
}

#[test]
fn after_its_requests_a_worker_is_recycled_and_no_visitor_notices() {
    for launch in LAUNCHES {
        let site = Site::new();
        site.release("1", "short");
        let daemon = site.start(site.pool(launch));
        let pids: std::collections::BTreeSet<String> = (0..12)
            .map(|number| {
                let answer = site.get(&format!("/?{number}"));
                assert_eq!(answer.status, 200, "{launch}: {}", answer.text());
                answer.text().trim().to_owned()
            })
            .collect();
        assert!(pids.len() >= 4, "{launch}: each takes three: {pids:?}");
        let mut exits = daemon.pool("site")["exits"].clone();
        let recycled = exits["recycled"].take();
        assert!(recycled.as_u64() >= Some(3), "{launch}: {recycled}");
        let others = exits.as_object().expect("a table").values().filter_map(Value::as_u64).sum::<u64>();
        assert_eq!(others, 0, "{launch}: {exits}");
        ends(daemon, &site);
    }
}

/// The supervisor is killed: nobody tells its workers anything, but they leave.
#[test]
fn nobody_stays_when_the_supervisor_is_killed() {
    for launch in LAUNCHES {
        let site = Site::new();
        site.release("1", "good");
        let mut daemon = site.start(site.pool(launch));
        let mut all = site.scene.processes();
        all.retain(|pid| *pid != daemon.pid());
        assert!(all.len() >= 2, "{launch}: {all:?}");
        daemon.signal(Signal::KILL);
        daemon.wait_exit(SOON);
        for pid in all {
            assert!(proc::wait_gone(pid, SOON), "{launch}: {pid} stays: {:?}", proc::command_line(pid));
        }
    }
}

/// In direct mode the workers accept on the pool's own socket.
#[test]
fn it_serves_in_direct_mode() {
    for launch in LAUNCHES {
        let site = Site::new();
        site.release("1", "good");
        let pool = Pool::new("site", &[site.scene.join("bin/rust-site").display().to_string()])
            .workers("2")
            .key("launch", &format!("{launch:?}"))
            .directory(site.scene.join("current"));
        let mut daemon = Config::new(&[pool]).start(&site.scene);
        daemon.wait_serving("site");
        assert!(socket(&site.scene, "site").exists());
        for _ in 0..20 {
            assert!(site.get("/").text().starts_with("ok 1 "), "{launch}");
        }
        let upload = Request::get("/upload").body(&vec![b'x'; 300_000]).send(&address(&site.scene, "site"));
        assert_eq!(upload.expect("an answer").text(), "300000 bytes\n", "{launch}");
        ends(daemon, &site);
    }
}
