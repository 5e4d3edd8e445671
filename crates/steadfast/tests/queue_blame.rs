//! One request that kills its workers is kept away from them, and nobody else pays for it.

use steadfast_harness as support;

use std::time::Duration;

use serde_json::Value;
use support::apps::Language;
use support::conditions::{is_soon, tail};
use support::daemon::{Config, Daemon, Pool, SOON, address};
use support::fcgi::Request;
use support::flood::{Flood, Told, kinds};
use support::proc;
use support::scene::Scene;

/// A second.
const RATE: u32 = 300;

fn during() -> Duration {
    let long = std::env::var("STEADFAST_LONG").ok().and_then(|value| value.parse().ok());
    Duration::from_secs(long.unwrap_or(5))
}

fn start(scene: &Scene, workers: u64, keys: impl FnOnce(Pool) -> Pool) -> Daemon {
    let log = scene.shared_file("starts");
    let pool = Pool::new("site", &Language::C.command()).queue().workers(&workers.to_string());
    let pool = keys(pool.environment("START_LOG", &log.display().to_string()));
    let mut daemon = Config::new(&[pool]).start(scene);
    daemon.wait_serving("site");
    is_whole(&daemon, workers);
    daemon
}

fn is_whole(daemon: &Daemon, workers: u64) {
    let is_whole = is_soon(|| daemon.pool("site")["workers"]["idle"] == workers);
    assert!(is_whole, "not {workers} idle workers: {}", daemon.pool("site"));
}

/// One of a hundred.
fn is_poison(number: u64) -> bool {
    number % 100 == 50
}

/// So many requests a second for as long as [`during`], one of a hundred poisonous.
fn flood(daemon: &mut Daemon, scene: &Scene, poison: impl Fn(u64) -> String + Send + Sync + 'static) -> Vec<Told> {
    let flood = Flood::start(&address(scene, "site"), RATE, 32, move |number| {
        Request::get(&if is_poison(number) { poison(number) } else { format!("/sleep?ms=1&page={number}") })
    });
    daemon.wait_never("the breaker opened or the pool was down", during(), |line| {
        ["breaker-opened", "pool-down", "pool-degraded"].contains(&line.name())
    });
    flood.stop()
}

fn split(all: &[Told]) -> (Vec<&Told>, Vec<&Told>) {
    all.iter().partition(|told| is_poison(told.number))
}

/// The same URL each time: 502 until it is known, then 500; the log and the status say which it is, how its workers
/// died and what they said.
#[test]
fn alone_one_url_that_kills_is_kept_away_and_all_others_are_served() {
    let scene = Scene::new();
    let mut daemon = start(&scene, 4, |pool| pool);
    let poison = "/crash?signal=11&say=no_such_order";
    let all = flood(&mut daemon, &scene, move |_| poison.to_owned());
    let (poisoned, others) = split(&all);
    assert!(others.iter().all(|told| told.is_good()), "{}\n{}", kinds(&all), tail(&mut daemon));
    let refused = poisoned.iter().skip_while(|told| (told.status, told.reason.as_str()) == (502, "worker-died"));
    let refused: Vec<_> = refused.collect();
    assert!(poisoned.len() > refused.len(), "{}", kinds(&all));
    assert!(
        refused.len() > 5 && refused.iter().all(|told| (told.status, told.reason.as_str()) == (500, "quarantined")),
        "{}\n{}",
        kinds(&all),
        tail(&mut daemon)
    );
    is_whole(&daemon, 4);
    let is_counted = is_soon(|| daemon.pool("site")["requests"]["quarantined"] == refused.len());
    let pool = daemon.pool("site");
    assert!(is_counted, "{}: {pool}", kinds(&all));
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    let request = format!("GET {poison}");
    let kills = pool["exits"]["crashed"].as_u64().unwrap_or(0);
    // Two by the first; two more by each that was at a worker before the first two deaths were told.
    assert!((2..=4).contains(&kills), "{pool}");
    let listed = &pool["quarantine"][0];
    assert_eq!((&listed["request"], &listed["kills"]), (&request.as_str().into(), &kills.into()), "{pool}");
    let last = &pool["last_exit"];
    let stderr = |of: &Value| of["stderr"].as_array().is_some_and(|lines| lines.contains(&"no_such_order".into()));
    let named = |of: &Value| of["request"] == request.as_str() && of["signal"] == "SIGSEGV" && of["class"] == "crashed";
    assert!(named(last) && stderr(last), "{last}");
    let exits: Vec<Value> =
        daemon.lines().iter().filter(|line| line.name() == "worker-exited").map(|line| line.event.clone()).collect();
    assert!(!exits.is_empty() && exits.iter().all(named) && stderr(&exits[0]), "{exits:?}");
    let told = daemon
        .lines()
        .iter()
        .any(|line| line.name() == "request-quarantined" && line.event["request"] == request.as_str());
    assert!(told, "{}", tail(&mut daemon));
    eprintln!("{}, {kills} kills", kinds(&all));
    assert_eq!(daemon.stop(), 0);
}

/// Another URL each time: nothing is known before it kills. Nobody else fails, and the workers come back no faster than
/// the bucket fills.
#[test]
fn alone_random_urls_that_kill_fail_alone_and_open_no_breaker() {
    let scene = Scene::new();
    let mut daemon = start(&scene, 4, |pool| pool);
    let all = flood(&mut daemon, &scene, |number| format!("/crash?order={number}"));
    let (poisoned, others) = split(&all);
    assert!(others.iter().all(|told| told.is_good()), "{}\n{}", kinds(&all), tail(&mut daemon));
    assert!(
        poisoned.len() > 10 && poisoned.iter().all(|told| told.status == 502 && told.reason == "worker-died"),
        "{}\n{}",
        kinds(&all),
        tail(&mut daemon)
    );
    is_whole(&daemon, 4);
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    let deaths = pool["exits"]["crashed"].as_u64().unwrap_or(0);
    assert_eq!(deaths, 2 * poisoned.len() as u64, "each is tried twice: {pool}");
    assert_bucket(&scene, &all, 4);
    eprintln!("{}, {deaths} deaths, slowest {:?}", kinds(&all), all.iter().map(|told| told.took).max());
    assert_eq!(daemon.stop(), 0);
}

/// In any ten seconds: what the bucket holds, what ten seconds fill, and a twentieth of what was served; and the
/// workers of the beginning. (Design, section 5.)
fn assert_bucket(scene: &Scene, all: &[Told], workers: u64) {
    let starts: Vec<u64> = proc::starts(&scene.join("starts")).into_iter().map(|(at, _)| at).collect();
    let good = all.iter().filter(|told| told.is_good()).count() as u64;
    let seconds = during().as_secs().max(10);
    let served = good * 10 / seconds + 10;
    let most = workers + workers + 2 + 10 * (workers / 10).max(1) + served.div_ceil(20);
    for from in &starts {
        let within = starts.iter().filter(|at| (*from..from + 10_000_000_000).contains(*at)).count() as u64;
        assert!(within <= most, "{within} starts in ten seconds, {most} are allowed");
    }
}

/// With `retry = "never"` a GET costs one worker; with `quarantine = "off"` it is never kept away.
#[test]
fn a_pool_may_want_neither_retry_nor_quarantine() {
    let scene = Scene::new();
    let mut daemon = start(&scene, 4, |pool| pool.key("retry", "\"never\"").key("quarantine", "\"off\""));
    let at = address(&scene, "site");
    for _ in 0..3 {
        let answer = Request::get("/crash").send(&at).expect("an answer");
        assert_eq!((answer.status, answer.header("X-Steadfast")), (502, Some("worker-died")), "{}", answer.headers);
        for _ in 0..10 {
            assert_eq!(Request::get("/hello").send(&at).expect("an answer").status, 200, "{}", tail(&mut daemon));
        }
    }
    is_whole(&daemon, 4);
    let pool = daemon.pool("site");
    assert_eq!(pool["exits"]["crashed"], 3, "{pool}");
    assert_eq!(pool["quarantine"], Value::Array(Vec::new()), "{pool}");
    assert_eq!(daemon.stop(), 0);
}

/// What was killed from outside, or by its own deadline, is nobody's fault: the home page of a slow day stays open.
#[test]
fn requests_that_are_too_slow_are_never_quarantined() {
    let scene = Scene::new();
    let keys = |pool: Pool| pool.key("request-timeout", "\"300ms\"").key("slow-request", "\"100ms\"");
    let mut daemon = start(&scene, 4, keys);
    let at = address(&scene, "site");
    let other = Request::get("/sleep?ms=250").start(&at).expect("it listens");
    let before = daemon.workers("site");
    for round in 1..=3 {
        let answer = Request::get("/sleep?ms=5000").send(&at).expect("an answer");
        assert_eq!((answer.status, answer.header("X-Steadfast")), (504, Some("request-timeout")), "{}", answer.headers);
        assert!(is_soon(|| daemon.pool("site")["exits"]["timeout"] == round), "{}", daemon.pool("site"));
    }
    // Only the worker that had it is killed: this one finished.
    assert_eq!(other.finish().expect("an answer").status, 200);
    is_whole(&daemon, 4);
    let stayed = daemon.workers("site").iter().filter(|pid| before.contains(pid)).count();
    assert!(stayed >= 1, "nobody was to be killed but those who were too slow");
    let pool = daemon.pool("site");
    assert_eq!(pool["quarantine"], Value::Array(Vec::new()), "{pool}");
    assert_eq!((&pool["requests"]["timeout"], &pool["requests"]["retried"]), (&3.into(), &0.into()), "{pool}");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    for name in ["request-slow", "request-timeout"] {
        let named = |line: &support::daemon::Line| line.name() == name && line.event["request"] == "GET /sleep?ms=5000";
        assert!(daemon.lines().iter().any(named), "no {name}\n{}", tail(&mut daemon));
    }
    let exited = daemon.wait_event("worker-exited", SOON);
    assert_eq!((&exited.event["class"], &exited.event["request"]), (&"timeout".into(), &"GET /sleep?ms=5000".into()));
    assert_eq!(daemon.stop(), 0);
}

/// Death in the middle of an answer: the visitor is not given half of it as a whole one, and the request is a suspect
/// like others.
#[test]
fn half_an_answer_is_no_answer() {
    let scene = Scene::new();
    let mut daemon = start(&scene, 4, |pool| pool);
    let at = address(&scene, "site");
    for bytes in [1000, 4_000_000] {
        // What has gone out cannot be called back, but its end is no good end.
        if let Ok(answer) = Request::get(&format!("/half?bytes={bytes}")).send(&at) {
            let reason = answer.header("X-Steadfast").unwrap_or_default();
            assert_eq!((answer.status, reason), (502, "worker-died"), "{} bytes", answer.body.len());
        }
    }
    is_whole(&daemon, 4);
    assert!(is_soon(|| daemon.pool("site")["requests"]["total"] == 2));
    let pool = daemon.pool("site");
    let lost = ["lost", "error"].iter().filter_map(|what| pool["requests"][what].as_u64()).sum::<u64>();
    assert!(lost == 2 && pool["requests"]["lost"] != 0, "{pool}");
    assert_eq!(pool["requests"]["retried"], 0, "an answer had begun: {pool}");
    daemon.wait_event("request-cut", SOON);
    assert_eq!(Request::get("/hello").send(&at).expect("an answer").status, 200);
    assert_eq!(daemon.stop(), 0);
}
