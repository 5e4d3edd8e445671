//! Faults while a zygote loads its application, and after: it raises, hangs, shares what must not be shared, dies, leaks.

use steadfast_harness as support;
#[path = "support/cases.rs"]
#[macro_use]
mod cases;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use cases::{Budget, Follower, wait_workers};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::conditions::{Conditions, is_within, own_lines, tail};
use support::daemon::{Config, Daemon, SOON, address};
use support::proc;
use support::within::Cgroup;
use support::zygotes::{Site, all_served, is_whole, reload_fails, zygote};

/// A candidate whose zygote does not get as far as to be ready: refused, and nobody has noticed.
fn candidate_does_not_load(mode: &Value, within: Duration, words: &[&str]) {
    let site = Site::new();
    let pool = site.pool("4").key("ready-timeout", "\"1500ms\"").key("broken-codes", "[78]");
    let mut daemon = site.start(&pool, 4);
    let (before, zygote_before) = (daemon.workers("site"), zygote(&mut daemon, &[]));
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    site.mode(mode);
    let said = reload_fails(&mut daemon, within);
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    let refused = daemon.wait_event("generation-refused", SOON);
    assert_eq!(refused.event["generation"], 2, "{}", refused.text);
    conditions.end(&mut daemon, 0);
    assert_eq!(daemon.workers("site"), before, "{}", tail(&mut daemon));
    assert_eq!(zygote(&mut daemon, &[]), zygote_before);
    assert_eq!(site.loads().len(), 2, "it was tried again: {}", tail(&mut daemon));
    // The old generation can still fork.
    proc::kill(before[0], Signal::KILL).expect("a worker of our own supervisor");
    daemon.wait_event("worker-exited", SOON);
    is_whole(&mut daemon, 4);
    assert_eq!(site.starts().len(), 5);
    // Mended, the same reload goes well.
    site.mode(&json!({}));
    site.reload(&mut daemon);
    is_whole(&mut daemon, 4);
    daemon.stop_idle();
    assert_eq!(site.scene.processes(), [0; 0]);
}

#[test]
fn fault_010_preload_raises() {
    let mode = json!({ "raise": "Site::Response is hollow" });
    candidate_does_not_load(&mode, SOON, &["RuntimeError: Site::Response is hollow", "code 1", "the old one serves"]);
}

/// A code that means that the release is broken.
#[test]
fn fault_010_preload_raises_its_own_code() {
    let mode = json!({ "raise": "no such table: pages", "die": 78 });
    candidate_does_not_load(&mode, SOON, &["no such table: pages", "code 78", "broken", "the old one serves"]);
}

/// With nothing before it there is nothing to keep: the breaker holds it, says why, and tries it again by itself.
#[test]
fn fault_010_preload_raises_at_the_first_start() {
    let site = Site::new();
    site.mode(&json!({ "raise": "Site::Response is hollow" }));
    let mut daemon = Config::new(&[site.pool("4")]).start(&site.scene);
    let budget = Budget::of(&mut daemon);
    let opened = daemon.wait_event("breaker-opened", SOON);
    assert!(opened.text.contains("Site::Response is hollow"), "{}", opened.text);
    let exit = daemon.lines().iter().find(|line| line.name() == "zygote-exited").cloned();
    assert!(exit.is_some_and(|exit| exit.event["class"] == "early"), "{}", tail(&mut daemon));
    assert!(site.loads().len() <= 8, "{:?}", site.loads());
    assert_eq!(daemon.verb(&["status"]).code, 69);
    site.mode(&json!({}));
    // The first canary comes after five seconds, and passes after thirty, or at the operator's word.
    daemon.wait_event("zygote-ready", SOON * 2);
    assert_eq!(daemon.verb(&["breaker", "site", "reset"]).code, 0);
    is_whole(&mut daemon, 4);
    budget.holds(&mut daemon);
    daemon.stop_idle();
}

#[test]
fn fault_011_preload_hangs() {
    candidate_does_not_load(
        &json!({ "hang": true }),
        Duration::from_secs(5),
        &["early, SIGKILL", "the old one serves"],
    );
}

/// All of its workers would write into one connection: the pool serves, and is told with whom they would talk.
#[test]
fn fault_012_preload_opens_a_connection() {
    let site = Site::new();
    let database = TcpListener::bind("127.0.0.1:0").expect("a port");
    let peer = database.local_addr().expect("it is bound");
    let file = site.scene.shared_file("cache");
    let mut daemon = site.start(&site.pool("2"), 2);
    assert!(!daemon.event_names().iter().any(|name| name == "zygote-warned"), "{}", tail(&mut daemon));
    site.mode(&json!({ "connect": [peer.ip().to_string(), peer.port()], "write": file }));
    site.reload(&mut daemon);
    let warned = daemon.wait_event("zygote-warned", SOON);
    assert_eq!(warned.event["pid"], zygote(&mut daemon, &[]), "{}", warned.text);
    for words in [&format!("a TCP connection to {peer}"), "/cache, to be written", "after the fork"] {
        assert!(warned.text.contains(words), "{words:?} is not in {}", warned.text);
    }
    is_whole(&mut daemon, 2);
    assert_eq!(daemon.pool("site")["generation"], 2);
    daemon.stop_idle();
}

/// A fork takes one thread along. So no worker is forked from such a zygote, but each one is started by itself.
#[test]
fn fault_013_preload_starts_a_thread() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("3"), 3);
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    let forked = site.lines("orders").len();
    site.mode(&json!({ "thread": "db-pool" }));
    site.reload(&mut daemon);
    let warned = daemon.wait_event("zygote-warned", SOON);
    assert!(warned.text.contains("db-pool") && warned.text.contains("one by one"), "{}", warned.text);
    is_whole(&mut daemon, 3);
    let are_threaded = |daemon: &mut Daemon| {
        for pid in daemon.workers("site") {
            let threads = proc::status_field(pid, "Threads");
            assert_eq!(threads.as_deref(), Some("2"), "the worker {pid} lacks the thread that its program has started");
        }
    };
    are_threaded(&mut daemon);
    // A repair, too; and the zygote that may not fork is not kept.
    proc::kill(daemon.workers("site")[0], Signal::KILL).expect("a worker of our own supervisor");
    daemon.wait("its end", SOON, |line| line.name() == "worker-exited" && line.event["class"] == "killed");
    is_whole(&mut daemon, 3);
    are_threaded(&mut daemon);
    conditions.end(&mut daemon, 1);
    // That of the old generation is kept, as the way back.
    let is_alone = is_within(SOON, || daemon.pool("site")["zygote"].is_null());
    assert!(is_alone, "{}", daemon.pool("site"));
    assert_eq!(site.lines("orders").len(), forked, "a zygote that has threads was ordered to fork");
    daemon.stop_idle();
}

/// Its workers are not its children: they live on, and another one is loaded before anybody needs it.
#[test]
fn fault_014_zygote_is_killed() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("4"), 4);
    let before = daemon.workers("site");
    let mut zygotes = vec![zygote(&mut daemon, &[])];
    let mut events = Follower::of(&daemon);
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    for _ in 0..3 {
        let last = *zygotes.last().expect("there is one");
        proc::kill(last, Signal::KILL).expect("a zygote of our own supervisor");
        let exit = events.next("zygote-exited", SOON);
        assert_eq!((&exit["class"], &exit["pid"]), (&"killed".into(), &last.into()), "{exit}");
        zygotes.push(zygote(&mut daemon, &zygotes));
    }
    assert_eq!(daemon.workers("site"), before, "{}", tail(&mut daemon));
    let pool = daemon.pool("site");
    assert_eq!((&pool["state"], &pool["breaker"]["failures"]), (&"serving".into(), &0.0.into()), "{pool}");
    // The last one forks.
    proc::kill(before[0], Signal::KILL).expect("a worker of our own supervisor");
    daemon.wait_event("worker-exited", SOON);
    is_whole(&mut daemon, 4);
    assert_eq!((site.loads().len(), site.starts().len()), (4, 5));
    conditions.end(&mut daemon, 1);
    daemon.stop_idle();
    assert_eq!(site.scene.processes(), [0; 0]);
}

/// Both at once: the repair waits for the new zygote, and the others answer meanwhile.
#[test]
fn fault_014_zygote_and_a_worker_are_killed_together() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("4"), 4);
    let (before, old) = (daemon.workers("site"), zygote(&mut daemon, &[]));
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    proc::kill(old, Signal::KILL).expect("a zygote of our own supervisor");
    proc::kill(before[0], Signal::KILL).expect("a worker of our own supervisor");
    daemon.wait_event("zygote-ready", SOON);
    is_whole(&mut daemon, 4);
    let after = daemon.workers("site");
    assert!(before[1..].iter().all(|pid| after.contains(pid)), "{before:?} became {after:?}");
    conditions.end(&mut daemon, 1);
    daemon.stop_idle();
}

#[test]
fn fault_014_zygote_runs_out_of_memory() {
    let group = match Cgroup::make("memory") {
        Ok(group) => group,
        Err(why) => cannot_here!("fault_014", "no limit for the zygote alone: {why}"),
    };
    let site = Site::new();
    let mut daemon = site.start(&site.pool("4"), 4);
    let (before, old) = (daemon.workers("site"), zygote(&mut daemon, &[]));
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    group.limit_memory(64 << 20);
    group.take(old);
    site.mode(&json!({ "now": { "leak": 256 } }));
    proc::kill(old, Signal::USR1).expect("a zygote of our own supervisor");
    let exit = daemon.wait_event("zygote-exited", SOON);
    assert_eq!((&exit.event["signal"], &exit.event["pid"]), (&"SIGKILL".into(), &old.into()), "{}", exit.text);
    let new = zygote(&mut daemon, &[old]);
    assert_eq!(daemon.workers("site"), before, "{}", tail(&mut daemon));
    proc::kill(before[0], Signal::KILL).expect("a worker of our own supervisor");
    is_whole(&mut daemon, 4);
    conditions.end(&mut daemon, 1);
    assert_eq!(zygote(&mut daemon, &[]), new);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    daemon.stop_idle();
}

/// Few failures are enough here, so that the backoff between them does not take half a minute.
fn impatient(site: &Site) -> support::daemon::Pool {
    site.pool("4").table("breaker", "failures = 3")
}

/// What has gone bad in the zygote's memory alone is mended by a fresh one from the same files: no breaker, no outage.
#[test]
fn fault_015_poisoned_zygote_is_replaced() {
    let site = Site::new();
    let mut daemon = site.start(&impatient(&site), 4);
    let (before, old) = (daemon.workers("site"), zygote(&mut daemon, &[]));
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    site.now(old, &json!({ "worker": "crash" }));
    proc::kill(before[0], Signal::KILL).expect("a worker of our own supervisor");
    let new = zygote(&mut daemon, &[old]);
    is_whole(&mut daemon, 4);
    // Whoever was forked from the old one goes, too: it may carry the same.
    for pid in before {
        assert!(proc::wait_gone(pid, SOON), "{pid} of the old zygote has stayed\n{}", tail(&mut daemon));
    }
    is_whole(&mut daemon, 4);
    conditions.end(&mut daemon, 1);
    assert_eq!(zygote(&mut daemon, &[]), new);
    assert_eq!(site.loads().len(), 2, "{}", tail(&mut daemon));
    let names = daemon.event_names();
    for never in ["breaker-opened", "pool-down", "generation-rolled-back"] {
        assert!(!names.iter().any(|name| name == never), "{never}\n{}", tail(&mut daemon));
    }
    assert!(daemon.pool("site")["exits"]["early"].as_u64() >= Some(2), "{}", daemon.pool("site"));
    daemon.stop_idle();
}

/// A fresh zygote that is no better: it was tried once, then the breaker holds what serves.
#[test]
fn fault_015_poisoned_zygote_and_a_fresh_one_that_is_no_better() {
    let site = Site::new();
    let mut daemon = site.start(&impatient(&site), 4);
    let (before, old) = (daemon.workers("site"), zygote(&mut daemon, &[]));
    let budget = Budget::of(&mut daemon);
    site.now(old, &json!({ "worker": "crash" }));
    site.mode(&json!({ "worker": "crash" }));
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    proc::kill(before[0], Signal::KILL).expect("a worker of our own supervisor");
    // Without a visitor it opens within a second; they are served by those who were forked before.
    daemon.wait_event("breaker-opened", Duration::from_secs(15));
    assert_eq!(site.loads().len(), 2, "{}", tail(&mut daemon));
    let after = daemon.workers("site");
    assert!(before[1..].iter().all(|pid| after.contains(pid)), "{before:?} became {after:?}\n{}", tail(&mut daemon));
    conditions.end(&mut daemon, 1);
    budget.holds(&mut daemon);
    daemon.stop_idle();
}

/// A deploy that is poisoned from the start: nobody ever sees it, or only until it has failed twice.
fn poisoned_deploy(mode: &Value) {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("4"), 4);
    let before = daemon.workers("site");
    let visitors = site.visitors();
    site.mode(mode);
    site.release("2");
    reload_fails(&mut daemon, SOON * 2);
    daemon.wait("the end of the release", SOON, |line| {
        ["generation-refused", "generation-rolled-back"].contains(&line.name())
    });
    is_whole(&mut daemon, 4);
    assert_eq!(site.answers(), "1");
    let after = daemon.workers("site");
    // How many have made room before the second death is a matter of moments.
    let kept = before.iter().any(|pid| after.contains(pid));
    assert!(kept, "{before:?} became {after:?}\n{}", tail(&mut daemon));
    all_served(visitors, 2, &mut daemon);
    daemon.stop_idle();
    assert_eq!(site.scene.processes(), [0; 0]);
}

#[test]
fn fault_015_poisoned_deploy_that_crashes_before_it_is_ready() {
    poisoned_deploy(&json!({ "worker": "crash" }));
}

#[test]
fn fault_015_poisoned_deploy_that_dies_right_after_it_is_ready() {
    poisoned_deploy(&json!({ "worker": "die" }));
}

/// So early that the zygote can only say that it could not fork.
#[test]
fn fault_015_poisoned_deploy_that_crashes_in_the_fork_itself() {
    poisoned_deploy(&json!({ "early": true }));
}

/// What a candidate cannot do is no reason to wait for the generation that serves.
#[test]
fn fault_015_poisoned_deploy_does_not_hold_up_the_old_ones_repairs() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("4"), 4);
    let orders = || site.lines("orders").len();
    let first = orders();
    site.mode(&json!({ "refuse": true }));
    assert_eq!(daemon.verb(&["reload"]).code, 0);
    assert!(is_within(SOON, || orders() >= first + 6), "{}", tail(&mut daemon));
    let (killed, begun) = (daemon.workers("site")[0], Instant::now());
    proc::kill(killed, Signal::KILL).expect("a worker of our own supervisor");
    assert!(proc::wait_gone(killed, SOON));
    is_whole(&mut daemon, 4);
    assert!(begun.elapsed() < Duration::from_secs(2), "replaced after {:?}\n{}", begun.elapsed(), tail(&mut daemon));
    daemon.stop_idle();
}

/// The zygote grows beyond its limit: a fresh one takes its place, and workers of the fresh one those of the old one.
#[test]
fn fault_016_zygote_leaks() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("3").key("max-memory", "\"64MiB\""), 3);
    let (before, old) = (daemon.workers("site"), zygote(&mut daemon, &[]));
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    // What it has at the first look is what it has loaded, and no leak; the pool is looked at each ten seconds.
    daemon.wait_never("a zygote was replaced that has not grown", Duration::from_secs(11), |line| {
        line.name() == "zygote-started" && line.event["pid"] != old
    });
    let mut events = Follower::of(&daemon);
    let leaked = Instant::now();
    site.now(old, &json!({ "leak": 96 }));
    let started = daemon.wait_event("zygote-started", Duration::from_secs(15));
    let new = zygote(&mut daemon, &[old]);
    assert_ne!(started.event["pid"], old, "{}", started.text);
    assert!(proc::wait_gone(old, SOON), "the zygote that leaks has stayed");
    for pid in before {
        assert!(proc::wait_gone(pid, SOON), "the worker {pid} of the zygote that leaks has stayed");
    }
    is_whole(&mut daemon, 3);
    assert_eq!(zygote(&mut daemon, &[]), new);
    assert_eq!(site.loads().len(), 2);
    let exit = events.next("zygote-exited", SOON);
    assert_eq!(exit["class"], "recycled", "{exit}");
    let names = daemon.event_names();
    assert!(!names.iter().any(|name| name == "breaker-opened" || name == "pool-degraded"), "{}", tail(&mut daemon));
    conditions.end(&mut daemon, 0);
    eprintln!("replaced {:?} after it had leaked", leaked.elapsed());
    daemon.stop_idle();
}

#[test]
fn fault_017_zygote_has_hardly_any_files_left() {
    let site = Site::new();
    let mut daemon = site.start(&site.pool("2").key("rlimits", "{ nofile = 1000 }"), 2);
    site.mode(&json!({ "fds": 900 }));
    let lines = own_lines(&mut daemon);
    site.reload(&mut daemon);
    let warned = daemon.wait_event("zygote-warned", SOON);
    let words = ["files open", "1000 are allowed"];
    assert!(words.iter().all(|words| warned.text.contains(words)), "{}", warned.text);
    let number = warned.text.split_whitespace().filter_map(|word| word.parse::<u32>().ok()).find(|open| *open > 900);
    assert!(number.is_some_and(|open| open < 950), "{}", warned.text);
    wait_workers(&mut daemon, "site", 2);
    assert_eq!(site.ask().status, 200);
    assert!(own_lines(&mut daemon) - lines < 15, "{}", tail(&mut daemon));
    daemon.stop_idle();
}

/// Beyond the limit there is nothing to open the doors with: it is told, the old generation serves, and nothing spins.
#[test]
fn fault_017_zygote_has_no_files_left() {
    let site = Site::new();
    let pool = site.pool("2").key("rlimits", "{ nofile = 100 }").key("ready-timeout", "\"2s\"");
    let mut daemon = site.start(&pool, 2);
    let conditions = Conditions::begin(&mut daemon, &address(&site.scene, "site"));
    let open = proc::fds(zygote(&mut daemon, &[])).len();
    site.mode(&json!({ "fds": 99 - open }));
    let begun = Instant::now();
    let said = daemon.verb(&["reload", "--wait", "--timeout", "20s"]);
    assert_ne!(said.code, 0, "{said:?}\n{}", tail(&mut daemon));
    eprintln!("code {} after {:?}: {}", said.code, begun.elapsed(), said.stderr);
    daemon.wait_event("zygote-warned", SOON);
    conditions.end(&mut daemon, 0);
    assert_eq!(daemon.pool("site")["generation"], 1, "{}", tail(&mut daemon));
    daemon.stop_idle();
}
