//! USR2: another program takes over in place, and whoever it cannot be leaves everything as it was (faults 61 and 62).

#[path = "support/cases.rs"]
mod cases;
use steadfast_harness as support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cases::wait_workers;
use rustix::process::Signal;
use serde_json::Value;
use support::conditions::{is_soon, tail};
use support::daemon::{Config, Daemon, Pool, SOON, STEADFAST, address, is_root};
use support::fcgi::{Load, Request};
use support::scene::Scene;
use support::zygotes::Site;
use support::{apps, proc};

/// Pools of each kind.
const POOLS: [&str; 3] = ["site", "queue", "direct"];
/// The trial's time, and what follows it.
const TRIAL: Duration = Duration::from_secs(20);

/// A supervisor whose program is a file of its own, which can be replaced.
struct House {
    site: Site,
    daemon: Daemon,
    program: PathBuf,
}

impl House {
    fn new(variables: &[(&str, &str)]) -> House {
        let site = Site::new();
        let program = site.scene.join("steadfast");
        fs::copy(STEADFAST, &program).expect("the scene is ours");
        let queue = Pool::new("queue", &[apps::worker()]).queue().workers("3");
        let direct = Pool::new("direct", &[apps::worker()]).workers("3");
        let file = Config::new(&[site.pool("3"), queue, direct]).write(&site.scene);
        let mut command = Command::new(&program);
        command.arg("run").arg("-c").arg(file).envs(variables.iter().copied());
        let mut daemon = Daemon::spawn(command, &site.scene, &site.scene.join("run/control.sock"));
        for _ in POOLS {
            daemon.wait_event("pool-serving", SOON);
        }
        POOLS.iter().for_each(|pool| wait_workers(&mut daemon, pool, 3));
        House { site, daemon, program }
    }

    fn scene(&self) -> &Scene {
        &self.site.scene
    }

    /// Puts this in the program's place, as a package manager does it.
    fn install(&self, put: impl FnOnce(&Path)) {
        let aside = self.scene().join("steadfast.new");
        put(&aside);
        fs::rename(&aside, &self.program).expect("the scene is ours");
    }

    fn loads(&self) -> Vec<Load> {
        let load =
            |pool: &&str| Load::start(&address(self.scene(), pool), &Request::get("/"), 2, Duration::from_millis(2));
        POOLS.iter().map(load).collect()
    }

    /// Nobody has noticed anything.
    fn is_unharmed(&mut self, loads: Vec<Load>, before: &Standing) {
        for (load, pool) in loads.into_iter().zip(POOLS) {
            let report = load.stop();
            assert!(report.ok > 0 && report.failed == 0, "{pool}: {report:?}\n{}", tail(&mut self.daemon));
        }
        let now = Standing::of(&self.daemon);
        assert_eq!(&now, before, "{}", tail(&mut self.daemon));
        for pool in POOLS {
            Request::get("/").send(&address(self.scene(), pool)).expect("an answer");
        }
    }
}

/// What an upgrade leaves as it is.
#[derive(Debug, PartialEq)]
struct Standing {
    supervisor: u64,
    workers: Vec<Vec<u32>>,
    zygote: Value,
    generations: Vec<Value>,
    listeners: Vec<u64>,
}

impl Standing {
    fn of(daemon: &Daemon) -> Standing {
        let status = daemon.status();
        let workers = |pool: &&str| {
            let mut pids = daemon.workers(pool);
            pids.sort_unstable();
            pids
        };
        Standing {
            supervisor: status["pid"].as_u64().unwrap_or(0),
            workers: POOLS.iter().map(workers).collect(),
            zygote: daemon.pool("site")["zygote"]["pid"].clone(),
            generations: POOLS.iter().map(|pool| daemon.pool(pool)["generation"].clone()).collect(),
            listeners: listening(daemon.pid()),
        }
    }
}

/// The inodes of the sockets on which a process listens.
fn listening(pid: u32) -> Vec<u64> {
    let table = fs::read_to_string("/proc/net/unix").expect("Linux has it");
    let listens = |line: &&str| line.split_whitespace().nth(3) == Some("00010000");
    let inode = |line: &str| line.split_whitespace().nth(6).and_then(|word| word.parse::<u64>().ok());
    let all: Vec<u64> = table.lines().filter(listens).filter_map(inode).collect();
    let mut own: Vec<u64> = proc::fds(pid)
        .iter()
        .filter_map(|(_, target)| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .filter(|inode| all.contains(inode))
        .collect();
    own.sort_unstable();
    own.dedup();
    own
}

#[test]
fn ten_upgrades_under_load_and_nobody_notices() {
    let mut house = House::new(&[]);
    let before = Standing::of(&house.daemon);
    let fds = proc::fds(house.daemon.pid()).len();
    let (mut front, loads) = (house.daemon.front(), house.loads());
    for _ in 0..10 {
        house.install(|path| {
            fs::copy(STEADFAST, path).expect("the scene is ours");
        });
        house.daemon.signal(Signal::USR2);
        house.daemon.wait_event("supervisor-upgraded", TRIAL);
        // The front is the new program's, too, and the old one has left when it had nothing in hand any more.
        house.daemon.wait_event("front-exited", SOON);
        let now = house.daemon.front();
        assert_ne!(now, front, "the front has not been replaced");
        assert!(is_soon(|| !proc::alive(front)));
        front = now;
    }
    house.is_unharmed(loads, &before);
    assert_eq!(house.daemon.status()["front"]["restarts"], 0, "to be succeeded is no restart");
    let exe = fs::read_link(format!("/proc/{}/exe", house.daemon.pid())).expect("it runs");
    assert_eq!(exe, house.program, "it is the file that was put there last");
    assert!(
        is_soon(|| proc::fds(house.daemon.pid()).len() <= fds + 1),
        "{} descriptors were {fds}",
        proc::fds(house.daemon.pid()).len()
    );
    house.daemon.stop();
}

/// What a worker writes half of before, and the rest of after, is one line.
#[test]
fn what_is_known_of_requests_and_failures_stays_known() {
    let mut house = House::new(&[]);
    let at = address(house.scene(), "queue");
    for _ in 0..40 {
        Request::get("/").send(&at).expect("an answer");
    }
    let poison = Request::get("/segv").body(b"x=1");
    for killed in 1..=2 {
        let _ = poison.send(&at);
        assert!(is_soon(|| house.daemon.pool("queue")["exits"]["crashed"] == killed), "{}", house.daemon.pool("queue"));
        wait_workers(&mut house.daemon, "queue", 3);
    }
    assert_eq!(house.daemon.verb(&["breaker", "direct", "trip"]).code, 0);
    let known = |daemon: &Daemon| {
        let (queue, direct) = (daemon.pool("queue"), daemon.pool("direct"));
        let of = |pool: &Value, keys: &[&str]| keys.iter().fold(pool.clone(), |value, key| value[*key].clone());
        [
            of(&queue, &["quarantine"])[0]["request"].clone(),
            of(&queue, &["exits", "crashed"]),
            of(&queue, &["requests", "ok"]),
            of(&direct, &["breaker", "state"]),
            of(&direct, &["breaker", "reason"]),
        ]
    };
    let before = known(&house.daemon);
    assert_eq!((&before[0], &before[3]), (&"POST /segv".into(), &"open".into()), "{before:?}");
    house.daemon.signal(Signal::USR2);
    house.daemon.wait_event("supervisor-upgraded", TRIAL);
    house.daemon.wait_event("front-exited", SOON);
    assert_eq!(known(&house.daemon), before);
    let refused = poison.send(&at).expect("an answer");
    assert_eq!((refused.status, refused.header("X-Steadfast")), (500, Some("quarantined")));
    // Whoever takes over does everything that the one before did.
    let pids = house.daemon.workers("queue");
    proc::kill(pids[0], Signal::KILL).expect("it lives");
    wait_workers(&mut house.daemon, "queue", 3);
    assert!(is_soon(|| !house.daemon.workers("queue").contains(&pids[0])));
    let reloaded = house.daemon.verb(&["reload", "site", "--wait"]);
    assert_eq!(reloaded.code, 0, "{}", reloaded.stderr);
    assert_eq!(house.daemon.pool("site")["generation"], 2);
    house.daemon.stop();
}

/// A program that is none of ours, or does not come to an end, is found out before anything is risked.
#[test]
fn fault_061_the_new_program_is_bad() {
    let mut house = House::new(&[]);
    let before = Standing::of(&house.daemon);
    let front = house.daemon.front();
    let bad: [(&str, &str, &str); 5] = [
        ("exits", "#!/bin/sh\necho the loader is missing >&2\nexit 127\n", "the loader is missing"),
        ("crashes", "#!/bin/sh\nkill -SEGV $$\n", "SIGSEGV"),
        ("succeeds at something else", "#!/bin/sh\nexit 0\n", "no steadfast"),
        ("hangs", "#!/bin/sh\nexec sleep 600\n", "within 10 s"),
        ("is no program", "steadfast\n", "cannot be tried"),
    ];
    for (what, text, why) in bad {
        let loads = house.loads();
        house.install(|path| {
            fs::write(path, text).expect("the scene is ours");
            support::scene::allow(path, 0o755);
        });
        house.daemon.signal(Signal::USR2);
        let refused = house.daemon.wait_event("supervisor-refused", TRIAL);
        let reason = refused.event["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(why), "{what}: {}", refused.text);
        house.is_unharmed(loads, &before);
        assert_eq!(house.daemon.front(), front, "{what}");
    }
    house.daemon.stop();
}

/// At each step before its first turn, and in each way: the old program is executed again.
#[test]
fn fault_062_the_new_image_fails_before_its_first_turn() {
    for step in ["ground", "policy", "sockets", "everybody"] {
        for (how, why) in [("exit", "a test asked for it"), ("panic", "before its first turn"), ("abort", "crashed")] {
            fails_at(step, how, why);
        }
    }
}

#[test]
fn fault_062_the_new_image_hangs_before_its_first_turn() {
    fails_at("everybody", "hang", "did not begin within 10 s");
}

fn fails_at(step: &str, how: &str, why: &str) {
    let words = format!("{step}:{how}");
    let mut house = House::new(&[("STEADFAST_FAIL_AT", &words)]);
    let before = Standing::of(&house.daemon);
    let (front, loads) = (house.daemon.front(), house.loads());
    house.daemon.signal(Signal::USR2);
    let refused = house.daemon.wait_event("supervisor-refused", TRIAL);
    let reason = refused.event["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(why), "{words}: {}", refused.text);
    house.is_unharmed(loads, &before);
    assert_eq!(house.daemon.front(), front, "{words}");
    house.daemon.stop();
}

/// What another image would find in the configuration is compared before: an upgrade is no reload.
#[test]
fn a_changed_configuration_is_to_be_reloaded_first() {
    let mut house = House::new(&[]);
    let file = house.scene().join("steadfast.toml");
    let text = fs::read_to_string(&file).expect("it is there");
    fs::write(&file, text.replacen("workers = 3", "workers = 2", 1)).expect("the scene is ours");
    house.daemon.signal(Signal::USR2);
    let refused = house.daemon.wait_event("supervisor-refused", TRIAL);
    assert!(refused.text.contains("reload first"), "{}", refused.text);
    house.daemon.stop();
}

/// Whoever is served for long is served to the end by the front that has begun with him, and others do not wait for him.
#[test]
fn a_long_request_outlives_the_front_that_was_succeeded() {
    let mut house = House::new(&[]);
    let at = address(house.scene(), "queue");
    let old = house.daemon.front();
    let long = Request::get("/sleep?3").start(&at).expect("it is sent");
    assert!(is_soon(|| house.daemon.pool("queue")["workers"]["busy"] == 1), "{}", house.daemon.pool("queue"));
    house.daemon.signal(Signal::USR2);
    house.daemon.wait_event("supervisor-upgraded", TRIAL);
    house.daemon.wait_event("front-started", SOON);
    Request::get("/").timeout(Duration::from_secs(2)).send(&at).expect("an answer by the new front");
    assert!(proc::alive(old), "the old one has still something in hand");
    assert_eq!(long.finish().expect("an answer").status, 200);
    assert!(is_soon(|| !proc::alive(old)));
    assert!(is_soon(|| house.daemon.pool("queue")["workers"]["idle"] == 3), "{}", house.daemon.pool("queue"));
    house.daemon.stop();
}

/// A stop while the old front finishes waits for it, too.
#[test]
fn a_stop_during_the_succession_cuts_nobody() {
    let mut house = House::new(&[]);
    let at = address(house.scene(), "queue");
    let long = Request::get("/sleep?2").start(&at).expect("it is sent");
    assert!(is_soon(|| house.daemon.pool("queue")["workers"]["busy"] == 1), "{}", house.daemon.pool("queue"));
    house.daemon.signal(Signal::USR2);
    house.daemon.wait_event("front-started", TRIAL);
    house.daemon.signal(Signal::TERM);
    assert_eq!(long.finish().expect("an answer").status, 200);
    assert!(house.daemon.wait_exit(SOON).success());
    assert!(!is_root() || house.scene().processes().is_empty(), "somebody is left");
}
