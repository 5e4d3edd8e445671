//! Faults around a worker's word that it is ready: it dies before, says it never, says it and dies, says it twice; and
//! what zygotes say of workers that are somebody else, come too late or were never ordered.

#[path = "support/cases.rs"]
mod cases;
use steadfast_harness as support;

use std::time::{Duration, Instant};

use cases::{Budget, Follower, wait_workers};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::conditions::{Conditions, is_soon, is_within, tail};
use support::daemon::{Config, Daemon, Pool, SOON, address};
use support::fcgi::Request;
use support::scene::Scene;
use support::zygotes::{Site, all_served, is_whole, kill_one, reload_fails, zygote};
use support::{apps, proc};

/// Both ways to make a worker.
const LAUNCHES: [&str; 2] = ["exec", "zygote"];

/// Workers that are made in this way and go by this file.
fn pool(site: &Site, launch: &str, file: &str, workers: &str) -> Pool {
    site.exec_as(file, workers).key("launch", &format!("{launch:?}"))
}

/// The first start of all: after at most eight workers of one loading nobody tries more than one at a time.
#[test]
fn fault_018_all_die_before_ready() {
    for launch in LAUNCHES {
        let site = Site::new();
        site.mode(&json!({ "worker": "exit" }));
        let pool = pool(&site, launch, "mode", "8");
        let mut daemon = Config::new(&[pool]).start(&site.scene);
        let budget = Budget::of(&mut daemon);
        let opened = daemon.wait_event("breaker-opened", SOON);
        assert!(opened.text.contains("early, code 3") && opened.text.contains("no database"), "{}", opened.text);
        daemon.wait_event("pool-down", SOON);
        daemon.wait_event("breaker-half-open", SOON);
        // From then on one at a time, and the next one ten seconds later.
        let mut events = Follower::of(&daemon);
        events.next("breaker-half-open", SOON);
        let is_start = |event: &&Value| event["event"] == "worker-started" && event["reason"] != "canary";
        let starts = events.events().iter().filter(is_start).count();
        // A fresh zygote is tried once before the breaker opens (step 2 of the ladder): then that is twice as many.
        let most = if launch == "zygote" { 8 * site.loads().len() } else { 8 };
        assert!((3..=most.min(16)).contains(&starts), "{launch}: {starts} starts\n{}", tail(&mut daemon));
        assert!(is_soon(|| site.starts().len() > starts), "{launch}: no canary\n{}", tail(&mut daemon));
        assert_eq!(site.starts().len(), starts + 1, "{launch}\n{}", tail(&mut daemon));
        budget.holds(&mut daemon);
        daemon.stop_idle();
        assert_eq!(site.scene.processes(), [0; 0]);
    }
}

/// The same after a reload: one worker was enough, and the old generation serves.
#[test]
fn fault_018_all_die_before_ready_after_a_reload() {
    for launch in LAUNCHES {
        let site = Site::new();
        let pool = pool(&site, launch, "mode", "8");
        let mut daemon = site.start(&pool, 8);
        let before = daemon.workers("site");
        let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
        site.mode(&json!({ "worker": "exit" }));
        let said = reload_fails(&mut daemon, SOON);
        assert!(said.contains("code 3") && said.contains("no database"), "{launch}: {said}");
        daemon.wait_event("generation-refused", SOON);
        let starts = site.starts().len() - 8;
        assert!((1..=8).contains(&starts), "{launch}: {starts} starts\n{}", tail(&mut daemon));
        conditions.end(&mut daemon, 0);
        assert_eq!(daemon.workers("site"), before, "{launch}: {}", tail(&mut daemon));
        assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
        daemon.stop_idle();
    }
}

/// The same while the old one serves the first start's successor: workers of a serving generation.
#[test]
fn fault_019_30_percent_die_before_ready() {
    for launch in LAUNCHES {
        let site = Site::new();
        let pool = pool(&site, launch, "mode", "10");
        let mut daemon = site.start(&pool, 10);
        let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
        // Which ones die goes by their pids: three starts in ten.
        let weak = json!({ "worker": "exit", "percent": 30 });
        if launch == "zygote" {
            site.now(zygote(&mut daemon, &[]), &weak);
        }
        site.mode(&weak);
        let first = site.starts().len();
        let is_weak = |(_, pid): &(u64, u32)| u64::from(*pid) * 7919 % 100 < 30;
        let mut killed = 0;
        let died = is_within(Duration::from_secs(40), || {
            let starts = site.starts();
            if starts[first..].iter().filter(|start| is_weak(start)).count() >= 3 {
                return true;
            }
            if daemon.pool("site")["workers"]["serving"] == 10 {
                proc::kill(daemon.workers("site")[0], Signal::KILL).expect("a worker of our own supervisor");
                killed += 1;
            }
            false
        });
        assert!(died, "{launch}: {:?}\n{}", &site.starts()[first..], tail(&mut daemon));
        is_whole(&mut daemon, 10);
        conditions.end_answered(&mut daemon, killed);
        let early = daemon.pool("site")["exits"]["early"].as_u64();
        assert!(early >= Some(3), "{launch}: {early:?}");
        let names = daemon.event_names();
        for never in ["generation-rolled-back", "generation-refused", "breaker-opened", "pool-down"] {
            assert!(!names.iter().any(|name| name == never), "{launch}: {never}\n{}", tail(&mut daemon));
        }
        daemon.stop_idle();
    }
}

/// Never ready, in a repair: killed at its time, counted, and the next one is as good as any.
#[test]
fn fault_020_never_ready() {
    for launch in LAUNCHES {
        let site = Site::new();
        let pool = pool(&site, launch, "mode", "4");
        let mut daemon = site.start(&pool.key("ready-timeout", "\"700ms\""), 4);
        let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
        let hang = json!({ "worker": "hang" });
        if launch == "zygote" {
            site.now(zygote(&mut daemon, &[]), &hang);
        }
        site.mode(&hang);
        let first = site.starts().len();
        let begun = Instant::now();
        kill_one(&daemon);
        let killed = daemon.wait_event("worker-killed", SOON);
        let took = killed.at.duration_since(begun);
        assert!(took >= Duration::from_millis(690) && took < Duration::from_secs(3), "{launch}: killed after {took:?}");
        assert_eq!(killed.event["class"], "early", "{}", killed.text);
        let exit = daemon.wait("its end", SOON, |line| {
            line.name() == "worker-exited" && line.event["class"] == "early" && line.event["signal"] == "SIGKILL"
        });
        let hung = site.starts()[first].1;
        assert_eq!(exit.event["pid"], hung, "{}", exit.text);
        assert!(!proc::alive(hung));
        let pool = daemon.pool("site");
        assert!(pool["breaker"]["failures"].as_f64() > Some(0.0), "{launch}: not counted: {pool}");
        site.mode(&json!({}));
        if launch == "zygote" {
            // What is in its memory is mended by another one, and nobody else can do that.
            proc::kill(zygote(&mut daemon, &[]), Signal::KILL).expect("a zygote of our own supervisor");
        }
        is_whole(&mut daemon, 4);
        conditions.end(&mut daemon, 1);
        daemon.stop_idle();
        assert_eq!(site.scene.processes(), [0; 0]);
    }
}

/// Ready is no proof: of a new generation whose workers die just after it two deaths are enough.
#[test]
fn fault_021_says_ready_and_dies() {
    for launch in LAUNCHES {
        let site = Site::new();
        let mut daemon = site.start(&pool(&site, launch, "mode", "4"), 4);
        let visitors = site.visitors();
        site.mode_as("mode-2", &json!({ "worker": "die" }));
        Config::new(&[pool(&site, launch, "mode-2", "4")]).write(&site.scene);
        let said = reload_fails(&mut daemon, SOON * 2);
        assert!(said.contains("code 4"), "{launch}: {said}");
        daemon.wait("the end of the release", SOON, |line| {
            ["generation-refused", "generation-rolled-back"].contains(&line.name())
        });
        is_whole(&mut daemon, 4);
        let status = daemon.pool("site");
        assert_eq!(status["generation"], 1, "{launch}: {status}");
        let died = ["exited", "early"].iter().filter_map(|class| status["exits"][class].as_u64()).sum::<u64>();
        assert!((1..=4).contains(&died), "{launch}: {status}");
        all_served(visitors, 2, &mut daemon);
        daemon.stop_idle();
    }
}

/// What a bad release did to a page is not held against the page when that release is gone.
#[test]
fn fault_021_a_bad_deploy_does_not_quarantine_the_home_page() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("4"), 4);
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    site.mode(&json!({ "worker": "late" }));
    reload_fails(&mut daemon, SOON * 2);
    daemon.wait_event("generation-rolled-back", SOON);
    is_whole(&mut daemon, 4);
    conditions.end_answered(&mut daemon, 2);
    daemon.stop_idle();
}

/// With nothing to go back to the breaker opens as fast as if they had never been ready.
#[test]
fn fault_021_says_ready_and_dies_at_the_first_start() {
    for launch in LAUNCHES {
        let site = Site::new();
        site.mode(&json!({ "worker": "die" }));
        let pool = pool(&site, launch, "mode", "4");
        let mut daemon = Config::new(&[pool]).start(&site.scene);
        let budget = Budget::of(&mut daemon);
        daemon.wait_event("breaker-opened", SOON);
        let (starts, loads) = (site.starts().len(), site.loads().len());
        assert!((3..=16).contains(&starts), "{launch}: {starts} starts\n{}", tail(&mut daemon));
        eprintln!("{launch}: {starts} starts, {loads} loads");
        budget.holds(&mut daemon);
        let pool = daemon.pool("site");
        assert!(pool["exits"]["exited"].as_u64() >= Some(2), "{launch}: {pool}");
        daemon.stop_idle();
    }
}

/// Whatever a worker says on its own link, nobody else is touched.
#[test]
fn fault_022_ready_twice_and_garbage() {
    for (words, is_warned) in
        [(&["--ready", "--ready", "--ready"][..], false), (&["--garbage", "--ready", "--garbage"], true)]
    {
        let scene = Scene::new();
        let command = |words: &[&str]| Pool::new("site", &apps::link(words));
        let good = Pool::new("good", &apps::link(&[])).workers("2");
        let mut daemon = Config::new(&[command(words).workers("2"), good]).start(&scene);
        daemon.wait("the good pool", SOON, |line| line.name() == "pool-serving" && line.event["pool"] == "good");
        let conditions = Conditions::begin(&mut daemon, &address(&scene, "good"));
        let mut events = Follower::of(&daemon);
        let is_ready = |event: &Value| event["event"] == "worker-ready" && event["pool"] == "site";
        for _ in 0..2 {
            events.wait("worker-ready of the site", SOON, is_ready);
        }
        wait_workers(&mut daemon, "site", 2);
        if is_warned {
            // A Follower of its own: the warning may have come before.
            let warned = Follower::of(&daemon).next("worker-warned", SOON);
            assert_eq!(warned["pool"], "site", "{warned}");
        }
        assert!(Request::get("/").send(&address(&scene, "site")).is_ok(), "{words:?}");
        assert_eq!(daemon.workers("good").len(), 2);
        let fds = proc::fds(daemon.pid()).len();
        assert!(fds < 100, "{words:?}: {fds} files are open");
        conditions.end(&mut daemon, 0);
        assert_eq!(daemon.pool("site")["breaker"]["state"], "closed", "{words:?}");
        let ready = events.events().iter().filter(|event| is_ready(event)).count();
        assert_eq!(ready, 2, "{words:?}: ready is said once of each\n{}", tail(&mut daemon));
        assert_eq!(daemon.stop(), 0);
    }
}

/// A zygote that answers with another process's pid: whose it is stays whose it is, and the pool comes back by itself.
/// `whose` gives the pid.
fn forked_somebody_else(words: &str, whose: impl Fn(&mut Daemon, &Site) -> u32) {
    let site = Site::new();
    let neighbour = Pool::new("other", &[apps::worker()]).workers("2");
    let mut daemon = Config::new(&[site.pool("3"), neighbour]).start(&site.scene);
    daemon.wait("the other pool", SOON, |line| line.name() == "pool-serving" && line.event["pool"] == "other");
    wait_workers(&mut daemon, "other", 2);
    is_whole(&mut daemon, 3);
    let pid = whose(&mut daemon, &site);
    let old = zygote(&mut daemon, &[]);
    let (before, others, front) = (daemon.workers("site"), daemon.workers("other"), daemon.front());
    site.scene.write("pid", &pid.to_string());
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    let mut events = Follower::of(&daemon);
    site.now(old, &json!({ "answer": "elsewhere" }));
    let orders = site.lines("orders").len();
    proc::kill(before[0], Signal::KILL).expect("a worker of our own supervisor");
    let warned = daemon.wait("a warning", SOON, |line| line.name() == "worker-warned");
    assert!(warned.text.contains(words) && warned.text.contains(&pid.to_string()), "{}", warned.text);
    assert_eq!(warned.event["pid"], old, "it is the zygote that lies: {}", warned.text);
    // A lie a moment is no more than a failure a moment.
    daemon.wait_never("it gave up on somebody else", Duration::from_secs(5), |line| {
        ["pool-down", "front-exited"].contains(&line.name())
    });
    let lies = site.lines("orders").len() - orders;
    // A fresh one takes its place, and that is believed.
    is_whole(&mut daemon, 3);
    assert_ne!(zygote(&mut daemon, &[old]), old);
    conditions.end_answered(&mut daemon, 1);
    for pid in &before[1..] {
        let end = |event: &&Value| event["event"] == "worker-exited" && event["pid"] == *pid;
        let class = events.events().iter().find(end).map(|event| event["class"].clone());
        assert!(class.is_none_or(|class| class == "recycled"), "{pid} was hurt\n{}", tail(&mut daemon));
    }
    assert_eq!((daemon.workers("other"), daemon.front()), (others, front), "{}", tail(&mut daemon));
    let is_there = std::path::Path::new("/proc").join(pid.to_string()).exists();
    assert!(is_there || before.contains(&pid) || words.contains("does not exist"), "{pid} was hurt");
    assert!(lies <= 15, "it was ordered to fork {lies} times in five seconds");
    daemon.stop_idle();
    assert_eq!(site.scene.processes(), [0; 0]);
}

#[test]
fn fault_022_forked_a_worker_of_another_pool() {
    forked_somebody_else("is somebody else", |daemon, _| daemon.workers("other")[0]);
}

#[test]
fn fault_022_forked_a_worker_of_its_own_pool() {
    forked_somebody_else("is somebody else", |daemon, _| daemon.workers("site")[1]);
}

#[test]
fn fault_022_forked_the_front() {
    forked_somebody_else("is somebody else", |daemon, _| daemon.front());
}

#[test]
fn fault_022_forked_the_supervisor_itself() {
    forked_somebody_else("is a child of", |daemon, _| daemon.pid());
}

#[test]
fn fault_022_forked_a_stranger() {
    forked_somebody_else("is a child of", |_, _| std::process::id());
}

/// A child of the supervisor, of the pool's user, known to nobody: but it was there before the zygote.
#[test]
fn fault_022_forked_an_orphan_of_another_zygote() {
    forked_somebody_else("has begun before the zygote", |daemon, site| {
        let first = zygote(daemon, &[]);
        site.now(first, &json!({ "orphan": true }));
        let orphan = site.lines("pid")[0].parse().expect("a pid");
        // Longer than the hundredth of a second in which beginnings are told.
        site.reload(daemon);
        let _second = zygote(daemon, &[first]);
        orphan
    });
}

/// The same from its first moment on, with nobody serving: it is no reason to order as fast as it can lie.
#[test]
fn fault_022_forked_somebody_else_from_the_start() {
    let site = Site::new();
    site.scene.write("pid", "1");
    site.mode(&json!({ "answer": "elsewhere" }));
    let mut daemon = Config::new(&[site.pool("3")]).start(&site.scene);
    daemon.wait_event("zygote-ready", SOON);
    let budget = Budget::of(&mut daemon);
    daemon.wait_event("worker-warned", SOON);
    let begun = Instant::now();
    let orders = site.lines("orders").len();
    daemon.wait_never("it has ended", Duration::from_secs(5), |line| line.name() == "supervisor-stopped");
    let lies = site.lines("orders").len() - orders;
    assert!(lies <= 30, "it was ordered to fork {lies} times in {:?}\n{}", begun.elapsed(), tail(&mut daemon));
    budget.holds(&mut daemon);
    daemon.stop_idle();
}

/// A zygote that closes its link and lives on can be ordered nothing: it is none.
#[test]
fn fault_022_zygote_hangs_up() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("3"), 3);
    let old = zygote(&mut daemon, &[]);
    let budget = Budget::of(&mut daemon);
    site.now(old, &json!({ "answer": "hang up" }));
    kill_one(&daemon);
    let exit = Follower::of(&daemon).next("zygote-exited", SOON);
    assert!(exit["message"].as_str().is_some_and(|message| message.contains("it has closed its link")), "{exit}");
    is_whole(&mut daemon, 3);
    assert_ne!(zygote(&mut daemon, &[old]), old);
    budget.holds(&mut daemon);
    daemon.stop_idle();
}

/// The host's fault, by the zygote's word: it waits longer and longer, and nobody is blamed.
#[test]
fn fault_022_fork_failed() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("3"), 3);
    let (before, old) = (daemon.workers("site"), zygote(&mut daemon, &[]));
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    site.now(old, &json!({ "refuse": true }));
    let first = site.lines("orders").len();
    proc::kill(before[0], Signal::KILL).expect("a worker of our own supervisor");
    let throttled = daemon.wait_event("pool-throttled", SOON);
    assert!(throttled.text.contains("Resource temporarily unavailable"), "{}", throttled.text);
    let orders = || proc::starts(&site.scene.join("orders"));
    assert!(is_within(Duration::from_secs(4), || orders().len() >= first + 4), "it is not tried again");
    // 0.2 s, then doubling, half of each jitter: the fourth comes 0.7 s after the first at the earliest.
    let tries = orders();
    let took = Duration::from_nanos(tries[first + 3].0 - tries[first].0);
    assert!(took >= Duration::from_millis(650), "four tries in {took:?}");
    site.now(old, &json!({ "refuse": false }));
    is_whole(&mut daemon, 3);
    conditions.end(&mut daemon, 1);
    assert_eq!(zygote(&mut daemon, &[]), old);
    assert_eq!(daemon.pool("site")["breaker"]["failures"], 0.0);
    daemon.stop_idle();
}

/// Any other process than the worker itself that connects the worker's link is shown the door.
#[test]
fn fault_022_a_stranger_on_the_link() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("2"), 2);
    let old = zygote(&mut daemon, &[]);
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    site.now(old, &json!({ "stranger": true }));
    kill_one(&daemon);
    let warned = daemon.wait("a warning", SOON, |line| line.name() == "worker-warned");
    assert!(warned.text.contains("another process than the new worker"), "{}", warned.text);
    is_whole(&mut daemon, 2);
    conditions.end(&mut daemon, 1);
    daemon.stop_idle();
}

/// What nobody has ordered, twice, for a slot that is none; and words that are a worker's: all of them do nothing.
#[test]
fn fault_022_a_zygote_that_babbles() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("2"), 2);
    let before = daemon.workers("site");
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    let pid = before[0];
    let lines = json!([
        "{\"type\":\"ready\"}",
        format!("{{\"type\":\"forked\",\"slot\":1,\"pid\":{pid}}}"),
        "{\"type\":\"forked\",\"slot\":4294967295,\"pid\":4294967295}",
        "{\"type\":\"fork-failed\",\"slot\":77,\"message\":\"no\"}",
        "{\"type\":\"term\",\"pid\":1}",
        format!("{{\"type\":\"term\",\"pid\":{}}}", std::process::id()),
        "{\"type\":\"recycle\"}",
        "not json",
        "{\"type\":\"hello\",\"version\":1,\"pid\":1,\"role\":\"zygote\"}",
        "{\"type\":\"from-the-future\",\"key\":[]}",
    ]);
    site.mode(&json!({ "babble": lines }));
    let old = zygote(&mut daemon, &[]);
    proc::kill(old, Signal::KILL).expect("a zygote of our own supervisor");
    let new = zygote(&mut daemon, &[old]);
    let warned = daemon.wait("a warning", SOON, |line| line.name() == "worker-warned");
    assert!(warned.text.contains("`forked` of slot 1, which was not ordered"), "{}", warned.text);
    assert_eq!(daemon.workers("site"), before, "{}", tail(&mut daemon));
    kill_one(&daemon);
    is_whole(&mut daemon, 2);
    assert_eq!(zygote(&mut daemon, &[]), new, "it can fork as before\n{}", tail(&mut daemon));
    conditions.end(&mut daemon, 1);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    daemon.stop_idle();
}

#[test]
fn fault_022_forked_is_said_twice() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("2"), 2);
    let old = zygote(&mut daemon, &[]);
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    site.now(old, &json!({ "answer": "twice" }));
    kill_one(&daemon);
    let warned = daemon.wait("a warning", SOON, |line| line.name() == "worker-warned");
    assert!(warned.text.contains("which was not ordered"), "{}", warned.text);
    is_whole(&mut daemon, 2);
    assert_eq!(site.starts().len(), 3);
    conditions.end(&mut daemon, 1);
    daemon.stop_idle();
}

/// An order that is not answered, or answered late, in its zygote's last moment: the zygote is killed for it, what it
/// has forked unseen leaves, and a new one does its work.
fn answers_too_late(mode: &Value) {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("3").key("ready-timeout", "\"700ms\""), 3);
    let (before, old) = (daemon.workers("site"), zygote(&mut daemon, &[]));
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    site.now(old, mode);
    let begun = Instant::now();
    proc::kill(before[0], Signal::KILL).expect("a worker of our own supervisor");
    let exit = daemon.wait_event("zygote-exited", SOON);
    let took = exit.at.duration_since(begun);
    assert!(took >= Duration::from_millis(650) && took < Duration::from_secs(3), "killed after {took:?}");
    assert_eq!(exit.event["pid"], old, "{}", exit.text);
    assert!(exit.text.contains("it did not answer the order to fork a worker"), "{}", exit.text);
    is_whole(&mut daemon, 3);
    let after = daemon.workers("site");
    assert!(before[1..].iter().all(|pid| after.contains(pid)), "{before:?} became {after:?}\n{}", tail(&mut daemon));
    conditions.end(&mut daemon, 1);
    // Everybody who was ever forked serves now, or is gone.
    let left = |pid: &u32| proc::alive(*pid) && !after.contains(pid);
    let is_clean = is_soon(|| !site.starts().iter().any(|(_, pid)| left(pid)));
    assert!(is_clean, "{:?} live on", site.starts().iter().filter(|(_, pid)| left(pid)).collect::<Vec<_>>());
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    daemon.stop_idle();
    assert_eq!(site.scene.processes(), [0; 0]);
}

#[test]
fn fault_023_forked_is_never_said() {
    answers_too_late(&json!({ "answer": "none" }));
}

#[test]
fn fault_023_forked_is_said_after_the_time() {
    answers_too_late(&json!({ "answer_after": 2 }));
}

/// The worker is not wanted any more when its zygote tells of it: it leaves, and nobody is blamed.
#[test]
fn fault_023_forked_is_said_after_the_order_was_withdrawn() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("{ min = 2, max = 4 }"), 2);
    let (before, old) = (daemon.workers("site"), zygote(&mut daemon, &[]));
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    site.now(old, &json!({ "answer_after": 1 }));
    let (orders, starts) = (site.lines("orders").len(), site.starts().len());
    assert_eq!(daemon.verb(&["scale", "site", "3"]).code, 0);
    assert!(is_soon(|| site.lines("orders").len() > orders), "{}", tail(&mut daemon));
    assert_eq!(daemon.verb(&["scale", "site", "2"]).code, 0);
    assert!(is_soon(|| site.starts().len() > starts), "{}", tail(&mut daemon));
    let late = site.starts()[starts].1;
    assert!(proc::wait_gone(late, SOON), "the worker {late} has stayed\n{}", tail(&mut daemon));
    assert_eq!(daemon.workers("site"), before, "{}", tail(&mut daemon));
    conditions.end(&mut daemon, 0);
    assert_eq!(zygote(&mut daemon, &[]), old, "it did as it was told\n{}", tail(&mut daemon));
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["failures"], 0.0, "{pool}");
    daemon.stop_idle();
    assert_eq!(site.scene.processes(), [0; 0]);
}

/// A reload comes while the candidate's first worker is being forked: that candidate is over, and what comes of the order
/// goes with it.
#[test]
fn fault_023_forked_is_said_after_its_generation_was_given_up() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("2"), 2);
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    let (orders, starts) = (site.lines("orders").len(), site.starts().len());
    site.mode(&json!({ "answer_after": 1 }));
    assert_eq!(daemon.verb(&["reload"]).code, 0);
    assert!(is_soon(|| site.lines("orders").len() > orders), "{}", tail(&mut daemon));
    site.mode(&json!({}));
    site.reload(&mut daemon);
    is_whole(&mut daemon, 2);
    let late = site.starts()[starts].1;
    assert!(proc::wait_gone(late, SOON), "the worker {late} of generation 2 has stayed\n{}", tail(&mut daemon));
    assert_eq!(daemon.pool("site")["generation"], 3);
    conditions.end(&mut daemon, 0);
    daemon.stop_idle();
    assert_eq!(site.scene.processes(), [0; 0]);
}
