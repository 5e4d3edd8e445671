//! Faults 32 to 42: requests that kill, hang, crawl, break off or leak, with the front before the workers.
//!
//! What direct mode cannot know of a request it does not promise: 39 is tried there too, the others need the queue.
//! More of 32 and 38 stands in queue_blame, of 40 in queue_overload, of 35 in queue_supervision.

use steadfast_harness as support;

#[path = "support/cases.rs"]
mod cases;

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cases::Follower;
use serde_json::Value;
use support::apps::Language;
use support::conditions::{Conditions, is_soon, own_lines, tail};
use support::daemon::{self, Config, Daemon, Line, Pool, SOON};
use support::fcgi::{InFlight, Request};
use support::flood::{Flood, Told, kinds};
use support::http::{Ask, Visitor};
use support::scene::{Scene, allow};
use support::siege::{assert_calm, assert_unblamed, ended};
use support::{apps, loopback, proc};

fn site(workers: u64) -> Pool {
    Pool::new("site", &[apps::worker()]).queue().workers(&workers.to_string())
}

fn start(scene: &Scene, pool: Pool, workers: u64) -> Daemon {
    let mut daemon = Config::new(&[pool]).start(scene);
    daemon.wait_serving("site");
    is_whole(&mut daemon, workers);
    daemon
}

/// So many workers serve, and have nothing in hand.
fn is_whole(daemon: &mut Daemon, workers: u64) {
    let is_whole = is_soon(|| {
        let counts = daemon.pool("site")["workers"].clone();
        counts["serving"] == workers && counts["idle"] == workers
    });
    assert!(is_whole, "not {workers} idle workers: {}\n{}", daemon.pool("site"), tail(daemon));
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// One URL kills its worker each time, and each visitor is tried once: two workers are lost, the third visitor is
/// told so by the front. (Visitors who come before the death is told may cost one worker more each: queue_blame.)
fn one_url_kills(path: &str) {
    let scene = Scene::new();
    let mut daemon = start(&scene, site(4), 4);
    let at = daemon::address(&scene, "site");
    let conditions = Conditions::begin(&mut daemon, &at);
    // Nobody is judged by a pool's first moment alone.
    assert!(is_soon(|| daemon.pool("site")["requests"]["ok"].as_u64() >= Some(30)), "{}", daemon.pool("site"));
    let poison = Request::get(path).body(b"order=1");
    for visit in 1..=6_u64 {
        let answer = poison.send(&at).expect("an answer");
        let expected = if visit <= 2 { (502, Some("worker-died")) } else { (500, Some("quarantined")) };
        assert_eq!((answer.status, answer.header("X-Steadfast")), expected, "visit {visit}\n{}", tail(&mut daemon));
        assert!(is_soon(|| ended(&daemon, "site", "crashed") == visit.min(2)), "{}", daemon.pool("site"));
    }
    is_whole(&mut daemon, 4);
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    assert_eq!(text(&pool["quarantine"][0], "request"), format!("POST {path}"), "{pool}");
    let exited = daemon.wait_event("worker-exited", SOON).event;
    assert_eq!((text(&exited, "signal").as_str(), text(&exited, "class").as_str()), ("SIGSEGV", "crashed"));
    conditions.end(&mut daemon, 0);
    assert_calm(&daemon);
    daemon.stop_idle();
}

#[test]
fn fault_032_segfault_on_one_url() {
    one_url_kills("/segv");
}

/// The stack has an end: that is a SIGSEGV like another.
#[test]
fn fault_042_recursion_without_end() {
    one_url_kills("/recurse");
}

/// Visitors, each with a URL of his own, while a release is rolled out.
fn visitors(scene: &Scene) -> Flood {
    Flood::start(&daemon::address(scene, "site"), 100, 16, |number| Request::get(&format!("/page/{number}")))
}

/// Those who were not served were told that their worker died, and are so many at most.
fn assert_few_lost(all: &[Told], most: usize, daemon: &mut Daemon) {
    let bad: Vec<&Told> = all.iter().filter(|told| !told.is_good()).collect();
    let are_known = bad.iter().all(|told| told.status == 502 && told.reason == "worker-died");
    assert!(are_known && bad.len() <= most, "{} of at most {most}: {}\n{}", bad.len(), kinds(all), tail(daemon));
}

/// A release that dies of every request: the old one is back at once. Each visitor may cost two workers, and two that
/// died of two requests are the proof, so that at most two visitors are told; no other notices the deploy.
#[test]
fn fault_033_segfault_on_every_url_after_deploy() {
    let scene = Scene::new();
    let mut daemon = start(&scene, site(4), 4);
    let lines = own_lines(&mut daemon);
    let flood = visitors(&scene);
    let bad = [apps::worker(), "--crash-first-request".to_owned()];
    Config::new(&[Pool::new("site", &bad).queue().workers("4")]).write(&scene);
    let begun = Instant::now();
    let said = daemon.verb(&["reload", "--wait", "--timeout", "30s"]);
    let took = begun.elapsed();
    assert_eq!(said.code, 1, "{said:?}\n{}", tail(&mut daemon));
    assert!(took < Duration::from_secs(30), "{took:?}");
    let rolled = daemon.wait("end of the release", SOON, |line| {
        ["generation-rolled-back", "generation-refused"].contains(&line.name())
    });
    assert_eq!(rolled.name(), "generation-rolled-back", "{}", rolled.text);
    assert!(said.stderr.contains("crashed"), "it says why: {said:?}");
    is_serving(&mut daemon, 4);
    let all = flood.stop();
    assert_few_lost(&all, 2, &mut daemon);
    let pool = daemon.pool("site");
    assert_eq!((&pool["breaker"]["state"], &pool["generation"]), (&"closed".into(), &1.into()), "{pool}");
    assert!(own_lines(&mut daemon) - lines <= 30, "B\n{}", tail(&mut daemon));
    eprintln!("rolled back after {took:?}: {}", kinds(&all));
    assert_calm(&daemon);
    daemon.stop_idle();
}

fn is_serving(daemon: &mut Daemon, workers: u64) {
    let is_so = is_soon(|| daemon.pool("site")["workers"]["serving"] == workers);
    assert!(is_so, "{}\n{}", daemon.pool("site"), tail(daemon));
}

/// A pool whose program dies of so many requests in a hundred as a file says.
fn by_chance(scene: &Scene, release: &str) -> Pool {
    let chance = scene.join(&format!("chance-{release}"));
    site(4).environment("CHANCE", &chance.display().to_string()).environment("RELEASE", release)
}

fn set_chance(scene: &Scene, release: &str, percent: u32) {
    // Renamed into its place, so that no worker reads half of it.
    let aside = scene.write("chance.new", &percent.to_string());
    fs::rename(aside, scene.join(&format!("chance-{release}"))).expect("the scene is ours");
}

/// A release that is not proven and dies of 5 % of its requests goes back, while the old one never died.
#[test]
fn fault_034_crash_of_5_percent_before_it_is_proven() {
    let scene = Scene::new();
    set_chance(&scene, "two", 5);
    let mut daemon = start(&scene, by_chance(&scene, "one"), 4);
    let flood = visitors(&scene);
    Config::new(&[by_chance(&scene, "two")]).write(&scene);
    let said = daemon.verb(&["reload", "--wait", "--timeout", "30s"]);
    // With luck it is rolled out before it dies for the second time; it is not proven for a minute.
    assert!(said.code == 1 || said.code == 0, "{said:?}");
    daemon.wait_event("generation-rolled-back", Duration::from_secs(20));
    let is_back = is_soon(|| {
        let pool = daemon.pool("site");
        let slots = pool["slots"].as_array().cloned().unwrap_or_default();
        pool["generation"] == 1 && slots.len() == 4 && slots.iter().all(|slot| slot["generation"] == 1)
    });
    assert!(is_back, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    let all = flood.stop();
    // A request that killed is given to one more, which may be of the same release.
    assert_few_lost(&all, 2, &mut daemon);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    eprintln!("{}", kinds(&all));
    daemon.stop_idle();
}

/// A proven one that comes to die of 5 % serves on: its workers come back as fast as it serves, no faster; the first
/// deaths and no more than 30 lines a minute say so; nothing is rolled back and the breaker stays closed.
#[test]
fn fault_034_crash_of_5_percent_when_it_is_proven() {
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let pool = by_chance(&scene, "one").table("breaker", "prove = \"1s\"");
    let mut daemon = start(&scene, pool.environment("START_LOG", &log.display().to_string()), 4);
    daemon.wait_event("generation-proven", SOON);
    let lines = own_lines(&mut daemon);
    set_chance(&scene, "one", 5);
    let (flood, begun) = (visitors(&scene), Instant::now());
    daemon.wait_event("worker-exited", SOON);
    daemon.wait_never("it was rolled back or stopped", Duration::from_secs(4), |line| {
        ["generation-rolled-back", "breaker-opened", "pool-down"].contains(&line.name())
    });
    let all = flood.stop();
    let seconds = begun.elapsed().as_secs() + 1;
    let good = all.iter().filter(|told| told.is_good()).count();
    // 0.05 ** 2 of them die twice.
    assert_few_lost(&all, 10, &mut daemon);
    let starts = proc::starts(&log).len() as u64;
    // The first four, what the bucket holds, a token a second, a twentieth for each request.
    let most = 4 + 6 + seconds + (good as u64).div_ceil(20);
    assert!(starts > 8 && starts <= most, "{starts} starts, at most {most}");
    assert!(own_lines(&mut daemon) - lines <= 30, "B\n{}", tail(&mut daemon));
    set_chance(&scene, "one", 0);
    is_whole(&mut daemon, 4);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    eprintln!("{}, {starts} starts", kinds(&all));
    assert_calm(&daemon);
    daemon.stop_idle();
}

/// It is ended at its deadline with its worker, and that worker alone: the floor serves on, and it comes back.
#[test]
fn fault_035_infinite_loop() {
    let scene = Scene::new();
    let keys = site(2).key("request-timeout", "\"1s\"").key("slow-request", "\"300ms\"");
    let mut daemon = start(&scene, keys, 2);
    let at = daemon::address(&scene, "site");
    let before = daemon.workers("site");
    let conditions = Conditions::begin(&mut daemon, &at);
    let begun = Instant::now();
    let answer = Request::get("/hang").send(&at).expect("an answer");
    let took = begun.elapsed();
    assert_eq!((answer.status, answer.header("X-Steadfast")), (504, Some("request-timeout")), "{}", answer.headers);
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(2), "{took:?}");
    let slow = daemon.wait_event("request-slow", SOON).event;
    assert_eq!(text(&slow, "request"), "GET /hang");
    let exited = daemon.wait_event("worker-exited", SOON).event;
    assert_eq!((text(&exited, "class").as_str(), text(&exited, "request").as_str()), ("timeout", "GET /hang"));
    is_serving(&mut daemon, 2);
    let after = daemon.workers("site");
    assert_eq!(after.iter().filter(|pid| before.contains(pid)).count(), 1, "{before:?}, then {after:?}");
    conditions.end(&mut daemon, 0);
    let pool = daemon.pool("site");
    assert_eq!((&pool["requests"]["timeout"], &pool["requests"]["retried"]), (&1.into(), &0.into()), "{pool}");
    assert_eq!(pool["quarantine"], Value::Array(Vec::new()), "{pool}");
    daemon.stop_idle();
}

/// Longer than anybody waits: it is told of as slow, with where its worker is as far as the kernel says, and ended at
/// its deadline also when its visitor has long gone.
#[test]
fn fault_036_sleeps_beyond_the_clients_timeout() {
    let scene = Scene::new();
    let keys = site(2).key("request-timeout", "\"1500ms\"").key("slow-request", "\"500ms\"");
    let mut daemon = start(&scene, keys, 2);
    let at = daemon::address(&scene, "site");
    let conditions = Conditions::begin(&mut daemon, &at);
    let mut follower = Follower::of(&daemon);
    let visitor = Request::get("/sleep?120").timeout(Duration::from_millis(700));
    visitor.send(&at).expect_err("he has no patience");
    let slow = daemon.wait_event("request-slow", SOON).event;
    assert_eq!(text(&slow, "request"), "GET /sleep?120");
    let place = text(&slow, "message");
    assert!(place.contains("the worker waits in") && place.contains("nanosleep"), "where it is: {slow}");
    assert!(slow["pid"].as_u64().is_some() && slow["slot"].as_u64().is_some(), "who it is: {slow}");
    let exited = follower.next("worker-exited", SOON);
    assert_eq!((text(&exited, "class").as_str(), text(&exited, "request").as_str()), ("timeout", "GET /sleep?120"));
    is_serving(&mut daemon, 2);
    conditions.end(&mut daemon, 0);
    assert!(is_soon(|| daemon.pool("site")["requests"]["aborted"] == 1), "{}", daemon.pool("site"));
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    daemon.stop_idle();
}

/// A database on a unix socket, which answers or does not.
struct Database {
    is_up: Arc<AtomicBool>,
    path: std::path::PathBuf,
}

impl Database {
    /// It answers. Its thread ends with the test.
    fn start(scene: &Scene) -> Database {
        let path = scene.join("database.sock");
        let listener = UnixListener::bind(&path).expect("the scene is ours");
        allow(&path, 0o666);
        let is_up = Arc::new(AtomicBool::new(true));
        let answers = Arc::clone(&is_up);
        let held = Mutex::new(Vec::new());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if answers.load(Ordering::Relaxed) {
                    // Who asked may have been killed.
                    let _gone = (&stream).write_all(b"x");
                } else {
                    held.lock().expect("it is ours").push(stream);
                }
            }
        });
        Database { is_up, path }
    }
}

/// The database is away: each request of each worker waits for it. The visitors are told at their deadline, those who
/// find the queue full at once; the workers are killed no faster than one a second, since it is none of them, and the
/// breaker stays closed. When the database is back, so is the site.
#[test]
fn fault_037_all_requests_slow() {
    let scene = Scene::new();
    let database = Database::start(&scene);
    let keys = site(4)
        .environment("DATABASE", &database.path.display().to_string())
        .key("request-timeout", "\"700ms\"")
        .key("slow-request", "\"300ms\"")
        .key("queue", "{ length = 40, timeout = \"1s\" }");
    let mut daemon = start(&scene, keys, 4);
    let at = daemon::address(&scene, "site");
    assert_eq!(Request::get("/db").send(&at).expect("an answer").status, 200);
    let lines = own_lines(&mut daemon);
    database.is_up.store(false, Ordering::Relaxed);
    let begun = Instant::now();
    let flood = Flood::start(&at, 60, 96, |number| Request::get(&format!("/db?{number}")));
    let stalled = daemon.wait_event("pool-stalled", SOON);
    assert_eq!(stalled.event["pool"], "site");
    // As long as it takes to see the pace.
    daemon.wait_never("the breaker opened", Duration::from_secs(4), |line| {
        ["breaker-opened", "generation-rolled-back"].contains(&line.name())
    });
    let kills = ended(&daemon, "site", "timeout");
    let away = begun.elapsed();
    assert!(kills <= away.as_secs() + 4, "a kill storm: {kills} in {away:?}\n{}", tail(&mut daemon));
    let during = flood.stop();
    let reasons = ["request-timeout", "queue-timeout", "queue-full"];
    let are_told = during.iter().all(|told| reasons.contains(&told.reason.as_str()));
    assert!(are_told, "{}\n{}", kinds(&during), tail(&mut daemon));
    let has = |reason: &str| during.iter().any(|told| told.reason == reason);
    assert!(has("request-timeout") && has("queue-timeout"), "{}", kinds(&during));
    assert!(own_lines(&mut daemon) - lines <= 30, "B\n{}", tail(&mut daemon));
    database.is_up.store(true, Ordering::Relaxed);
    let is_back = is_soon(|| Request::get("/db").send(&at).is_ok_and(|answer| answer.status == 200));
    assert!(is_back, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    is_whole(&mut daemon, 4);
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    assert_eq!(pool["quarantine"], Value::Array(Vec::new()), "{pool}");
    eprintln!("{kills} kills in {away:?}: {}", kinds(&during));
    assert_calm(&daemon);
    daemon.stop_idle();
}

/// The worker dies with half of its answer sent: the front never makes a whole one of it. Over FastCGI there is no
/// END_REQUEST, over HTTP neither the last chunk nor as many bytes as were promised.
#[test]
fn fault_038_half_an_answer_then_a_crash() {
    let scene = Scene::new();
    let http = loopback::address();
    let pool = Pool::new("site", &Language::C.command()).queue().workers("3");
    let fcgi = format!("unix:{}", daemon::socket(&scene, "site").display());
    let mut daemon = start(&scene, pool.listen(&fcgi).listen(&format!("http://{http}")), 3);
    let at = daemon::address(&scene, "site");
    let conditions = Conditions::with(&mut daemon, &at, &Request::get("/hello"));
    // On a kept connection with others' requests to come: nothing that follows may be taken for the rest of it.
    let mut kept = Request::get("/hello").keep().start(&at).expect("it listens");
    assert_eq!(kept.read().expect("an answer").status, 200);
    let cut = kept.again(&Request::get("/half?bytes=4000000&one").keep());
    assert!(cut.is_err(), "{} bytes as if they were all", cut.map_or(0, |answer| answer.body.len()));
    for path in ["/half?bytes=4000000&two", "/half?bytes=3000000&three"] {
        let mut visitor = Visitor::connect(http).expect("it listens");
        visitor.write(&Ask::get(path).bytes()).expect("it reads");
        match visitor.read("GET") {
            Err(_) => {}
            Ok(answer) => panic!("{path}: {} bytes as if they were all: {:?}", answer.body.len(), answer.headers),
        }
    }
    is_serving(&mut daemon, 3);
    assert!(is_soon(|| daemon.pool("site")["requests"]["lost"] == 3), "{}", daemon.pool("site"));
    conditions.end(&mut daemon, 0);
    daemon.wait_event("request-cut", SOON);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    daemon.stop_idle();
}

/// Visitors reset their connections in the middle of large answers. In queue mode the worker notices nothing; in direct
/// mode it is its own SIGPIPE and EPIPE, which libfcgi's programs survive.
#[test]
fn fault_039_client_aborts_while_it_is_written_to() {
    for is_queued in [true, false] {
        let scene = Scene::new();
        let pool = Pool::new("site", &[apps::worker()]).workers("2");
        let mut daemon = Config::new(&[if is_queued { pool.queue() } else { pool }]).start(&scene);
        daemon.wait_serving("site");
        is_serving(&mut daemon, 2);
        let at = daemon::address(&scene, "site");
        let before = daemon.workers("site");
        let conditions = Conditions::begin(&mut daemon, &at);
        for _ in 0..10 {
            let mut visitor = Request::get("/body?3000000").start(&at).expect("it listens");
            let mut taken = 0;
            // The answer has begun, and most of it is still to come.
            let _cut = visitor.another().expect("a second handle").read_into(|bytes| {
                taken += bytes.len();
                if taken > 100_000 {
                    close_now(&visitor);
                }
            });
            assert!(taken > 100_000 && taken < 3_000_000, "{taken} bytes");
            visitor.write(b"x").expect_err("it was closed");
        }
        is_serving(&mut daemon, 2);
        conditions.end(&mut daemon, 0);
        assert_eq!(daemon.workers("site"), before, "queue: {is_queued}\n{}", tail(&mut daemon));
        assert_unblamed(&daemon, "site");
        if is_queued {
            assert!(is_soon(|| daemon.pool("site")["requests"]["aborted"] == 10), "{}", daemon.pool("site"));
            assert_calm(&daemon);
        }
        daemon.stop_idle();
    }
}

/// Both directions, at once: the other side gets EPIPE.
fn close_now(visitor: &InFlight) {
    visitor.shut_down().expect("it is a socket");
}

/// More wait than the workers can serve in the time that anybody is made to wait: the oldest are told first, with when
/// to come back, and whoever is served has waited less than that.
#[test]
fn fault_040_shed_oldest_first() {
    let scene = Scene::new();
    let keys = site(1).key("queue", "{ length = 100, timeout = \"600ms\" }");
    let mut daemon = start(&scene, keys, 1);
    let at = daemon::address(&scene, "site");
    let first = Request::get("/sleep?2").start(&at).expect("it listens");
    assert!(is_soon(|| daemon.pool("site")["workers"]["busy"] == 1), "{}", daemon.pool("site"));
    let threads: Vec<_> = (0..5_u64)
        .map(|number| {
            // Each is known to wait before the next comes, and so far apart that threads wake in their order, too.
            std::thread::sleep(Duration::from_millis(70));
            let begun = Instant::now();
            let visitor = Request::get(&format!("/?{number}")).start(&at).expect("it listens");
            let waits = is_soon(|| daemon.pool("site")["queue"]["length"].as_u64() > Some(number));
            assert!(waits, "{}", daemon.pool("site"));
            std::thread::spawn(move || {
                let answer = visitor.finish().expect("an answer");
                let told = Instant::now();
                assert_eq!((answer.status, answer.header("X-Steadfast")), (503, Some("queue-timeout")));
                let retry = answer.header("Retry-After").and_then(|value| value.parse::<u64>().ok());
                assert!(retry > Some(0), "{}", answer.headers);
                (told, told - begun)
            })
        })
        .collect();
    let told: Vec<(Instant, Duration)> = threads.into_iter().map(|thread| thread.join().expect("it is told")).collect();
    assert!(told.is_sorted_by_key(|(told, _)| *told), "the oldest go first: {told:?}");
    let mut waited = told.iter().map(|(_, waited)| *waited);
    let (least, most) = (Duration::from_millis(600), Duration::from_millis(900));
    assert!(waited.all(|waited| waited >= least && waited < most), "{told:?}");
    // Who comes now is served by the time that the first one's worker is free.
    let second = Request::get("/late").start(&at).expect("it listens");
    let begun = Instant::now();
    assert_eq!(first.finish().expect("an answer").status, 200);
    let second = second.finish().expect("an answer");
    assert!(second.status == 200 || begun.elapsed() >= Duration::from_millis(600), "{}", second.headers);
    assert_eq!(daemon.pool("site")["requests"]["shed"].as_u64().map(|shed| shed >= 5), Some(true));
    assert_unblamed(&daemon, "site");
    daemon.stop_idle();
}

/// Each request leaks. A worker that has passed its limit leaves between two requests, when its successor is ready: no
/// visitor notices, and they do not all leave at once. (Memory is looked at every ten seconds, so this takes longer.)
#[test]
fn fault_041_memory_leak_per_request() {
    let scene = Scene::new();
    let pool = site(4).key("max-memory", "\"24MiB\"").environment("RELEASE", "leaky");
    let mut daemon = start(&scene, pool, 4);
    let at = daemon::address(&scene, "site");
    let before = daemon.workers("site");
    let mut follower = Follower::of(&daemon);
    let lines = own_lines(&mut daemon);
    // All four are past their limit after a moment: each has a part of 40 times a megabyte and more.
    let fill: Vec<InFlight> = (0..4).map(|_| Request::get("/leak?40").start(&at).expect("it listens")).collect();
    for visitor in fill {
        assert_eq!(visitor.finish().expect("an answer").status, 200);
    }
    let flood = Flood::start(&at, 40, 8, |number| Request::get(&format!("/leak?1&{number}")));
    let recycled = |event: &Value| event["event"] == "worker-recycled";
    let first = follower.wait("worker-recycled", Duration::from_secs(15), recycled);
    assert!(text(&first, "reason").contains("memory"), "{first}");
    let mut least = 4;
    let is_over = is_soon(|| {
        let workers = daemon.pool("site")["workers"].clone();
        least = least.min(workers["serving"].as_u64().unwrap_or(0));
        let total = workers["total"].as_u64().unwrap_or(99);
        assert!(total <= 5 + workers["stopping"].as_u64().unwrap_or(0), "more than the surge at once: {workers}");
        let now = daemon.workers("site");
        // Some of the four may never have been asked, and stay.
        let heavy = |pid: &u32| proc::rss(*pid) > 40 << 20;
        !before.iter().any(|pid| now.contains(pid) && heavy(pid))
    });
    assert!(is_over, "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    assert_eq!(least, 4, "one left before its successor served");
    let all = flood.stop();
    assert!(all.iter().all(Told::is_good), "{}\n{}", kinds(&all), tail(&mut daemon));
    let recycled = ended(&daemon, "site", "recycled");
    assert!(recycled >= 1, "{}", daemon.pool("site"));
    assert_unblamed(&daemon, "site");
    assert!(own_lines(&mut daemon) - lines <= 30, "B\n{}", tail(&mut daemon));
    eprintln!("{recycled} recycled, {}", kinds(&all));
    let named = |line: &Line| line.name() == "worker-killed";
    assert!(!daemon.lines().iter().any(named), "they leave by themselves\n{}", tail(&mut daemon));
    daemon.stop_idle();
}
