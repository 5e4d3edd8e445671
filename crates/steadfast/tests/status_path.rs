//! The status path, beside the real php-fpm: the same questions, the same keys.

use steadfast_harness as support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use support::apps::Language;
use support::conditions::is_soon;
use support::daemon::{Config, Daemon, Pool, USER, address, is_root, socket};
use support::fcgi::{Address, Request, Response};
use support::http::Ask;
use support::loopback;
use support::nginx::Nginx;
use support::proc;
use support::scene::Scene;

/// Debian's php-fpm with two workers and the same path.
struct Fpm {
    child: Child,
    address: Address,
}

impl Fpm {
    fn start(scene: &Scene) -> Fpm {
        let (socket, log) = (scene.join("fpm.sock"), scene.join("fpm.log"));
        let user = if is_root() { format!("user = {USER}\nlisten.mode = 0666\n") } else { String::new() };
        let text = format!(
            "[global]\nerror_log = {}\ndaemonize = no\n[site]\n{user}listen = {}\npm = static\npm.max_children = 2\n\
             pm.status_path = /status\n",
            log.display(),
            socket.display()
        );
        let config = scene.write("fpm.conf", &text);
        let child = Command::new("php-fpm8.2").arg("-n").arg("-y").arg(config).stdin(Stdio::null()).spawn();
        let child =
            child.unwrap_or_else(|error| panic!("cannot start php-fpm8.2: {error}: see .ci/run for its package"));
        let fpm = Fpm { child, address: Address::Unix(socket) };
        assert!(is_soon(|| ask(&fpm.address, "").is_some()), "php-fpm does not answer");
        fpm
    }
}

impl Drop for Fpm {
    fn drop(&mut self) {
        let _gone = proc::kill(self.child.id(), Signal::TERM);
        if !proc::wait_gone(self.child.id(), Duration::from_secs(5)) {
            let _killed = self.child.kill();
        }
        let _reaped = self.child.wait();
    }
}

fn ask(address: &Address, query: &str) -> Option<Response> {
    let path = if query.is_empty() { "/status".to_owned() } else { format!("/status?{query}") };
    Request::get(&path).param("SCRIPT_FILENAME", "/status").send(address).ok()
}

fn told(address: &Address, query: &str) -> Response {
    ask(address, query).unwrap_or_else(|| panic!("no answer to {query:?}"))
}

/// The shape of a page: what stays when all values are taken out.
fn shape(query: &str, page: &Response) -> BTreeSet<String> {
    let text = page.text();
    let media_type = page.header("Content-Type").unwrap_or_default().to_owned();
    let parts: Vec<String> = if query.contains("json") {
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{query}: {error}: {page:?}"));
        let mut keys = kinds("", &json);
        keys.extend(json["processes"].as_array().into_iter().flatten().flat_map(|process| kinds("process ", process)));
        keys
    } else if query.contains("xml") || query.contains("html") {
        let tags = text.split('<').filter_map(|rest| rest.split('>').next());
        let heads = text.split("<th>").skip(1).filter_map(|rest| rest.split('<').next());
        let tags = tags.filter(|tag| !tag.starts_with("!DOCTYPE") && !tag.starts_with("html "));
        tags.chain(heads).map(str::to_owned).collect()
    } else if query.contains("openmetrics") {
        let lines = text.lines().filter(|line| !line.starts_with("# HELP"));
        lines
            .map(|line| if line.starts_with('#') { line } else { line.split(' ').next().unwrap_or(line) }.to_owned())
            .collect()
    } else {
        // Where a value begins belongs to it, too.
        let start = |line: &str| line.find(':').map(|at| at + line[at + 1..].len() - line[at + 1..].trim_start().len());
        text.lines().map(|line| format!("{} {:?}", line.split(':').next().unwrap_or_default(), start(line))).collect()
    };
    parts.into_iter().chain([media_type]).collect()
}

/// Keys, and whether a number stands behind them.
fn kinds(prefix: &str, object: &Value) -> Vec<String> {
    let pairs = object.as_object().into_iter().flatten();
    pairs.map(|(key, value)| format!("{prefix}{key} {} {}", value.is_number(), value.is_string())).collect()
}

fn start(scene: &Scene, http: Option<SocketAddr>) -> Daemon {
    let mut pool = Pool::new("site", &Language::C.command()).queue().workers("2").key("status-path", "\"/status\"");
    if let Some(http) = http {
        pool = pool.listen(&format!("unix:{}", socket(scene, "site").display())).listen(&format!("http://{http}"));
    }
    let mut daemon = Config::new(&[pool]).start(scene);
    daemon.wait_serving("site");
    assert!(is_soon(|| daemon.pool("site")["workers"]["idle"] == 2));
    daemon
}

#[test]
fn each_page_has_the_keys_of_the_real_php_fpm() {
    let scene = Scene::new();
    let fpm = Fpm::start(&scene);
    let mut daemon = start(&scene, None);
    let site = address(&scene, "site");
    for query in ["", "json", "xml", "html", "openmetrics", "full", "full&json", "full&xml", "full&html", "_=1&json=1"]
    {
        let (theirs, ours) = (told(&fpm.address, query), told(&site, query));
        assert_eq!(shape(query, &ours), shape(query, &theirs), "{query}\n{}\n{}", ours.text(), theirs.text());
        for name in ["Content-Type", "Expires", "Cache-Control"] {
            assert_eq!(ours.header(name), theirs.header(name), "{name}");
        }
    }
    for query in ["x&json=1", "j", "jsonfull", "a=json", "fu&js", "h&xml", "o", "JSON", "&&=&xml"] {
        let of = |address: &Address| told(address, query).header("Content-Type").unwrap_or_default().to_owned();
        assert_eq!(of(&site), of(&fpm.address), "{query}");
    }
    daemon.stop_idle();
}

#[test]
fn values_are_true_and_survive_the_front() {
    let scene = Scene::new();
    let mut daemon = start(&scene, None);
    let site = address(&scene, "site");
    let json = |query: &str| -> Value { serde_json::from_str(&told(&site, query).text()).expect("JSON") };
    for _ in 0..5 {
        assert_eq!(Request::get("/hello").send(&site).expect("an answer").status, 200);
    }
    let status = json("full&json");
    assert_eq!((status["pool"].as_str(), status["process manager"].as_str()), (Some("site"), Some("static")));
    assert_eq!((&status["accepted conn"], &status["total processes"]), (&5.into(), &2.into()));
    let pids = |status: &Value| -> BTreeSet<u64> {
        status["processes"].as_array().into_iter().flatten().filter_map(|process| process["pid"].as_u64()).collect()
    };
    let workers: BTreeSet<u64> = daemon.workers("site").into_iter().map(u64::from).collect();
    assert_eq!(pids(&status), workers);
    let requests: u64 =
        status["processes"].as_array().into_iter().flatten().filter_map(|one| one["requests"].as_u64()).sum();
    assert_eq!(requests, 5);
    let last =
        status["processes"].as_array().into_iter().flatten().find(|one| one["requests"] != 0).expect("one has served");
    assert_eq!((last["request uri"].as_str(), last["request method"].as_str()), (Some("/hello"), Some("GET")));
    let (since, now) = (status["start time"].as_u64(), SystemTime::UNIX_EPOCH.elapsed().expect("later").as_secs());
    assert!(since.is_some_and(|since| since <= now && since + 120 > now), "{since:?} and {now}");

    // The supervisor has counted what the first front told.
    assert!(is_soon(|| daemon.pool("site")["requests"]["total"] == 5));
    let front = daemon.front();
    proc::kill(front, Signal::KILL).expect("it lives");
    daemon.wait_event("front-exited", Duration::from_secs(10));
    let goes_on = || ask(&site, "full&json").and_then(|page| serde_json::from_str::<Value>(&page.text()).ok());
    assert!(is_soon(|| goes_on().is_some_and(|status| status["total processes"] == 2)), "{:?}", goes_on());
    let status = json("full&json");
    assert_eq!((&status["accepted conn"], status["start time"].as_u64()), (&5.into(), since));
    assert_eq!(pids(&status), workers);
    assert_eq!(daemon.pool("site")["requests"]["total"], 5, "no question was a visit");
    daemon.stop();
}

#[test]
fn nginx_and_http_visitors_are_told_while_every_worker_is_busy() {
    let scene = Scene::new();
    let http = loopback::address();
    let mut daemon = start(&scene, Some(http));
    let site = address(&scene, "site");
    let nginx = Nginx::start(&scene, &site, "");
    let busy: Vec<_> = (0..2).map(|_| Request::get("/sleep?ms=3000").start(&site).expect("sent")).collect();
    assert!(is_soon(|| told(&site, "").text().contains("active processes:     2\n")), "{}", told(&site, "").text());
    let begun = Instant::now();
    let page = nginx.get("/status?json").expect("nginx answers");
    assert_eq!(page.status, 200, "{}", page.body);
    let status: Value = serde_json::from_str(&page.body).expect("JSON");
    assert_eq!((&status["idle processes"], &status["active processes"]), (&0.into(), &2.into()));
    let page = Ask::get("/status?full").send(http).expect("the front answers");
    assert!(page.status == 200 && page.text().contains("state:                Running\n"), "{}", page.text());
    assert!(begun.elapsed() < Duration::from_secs(2), "somebody waited for a worker");
    for one in busy {
        assert_eq!(one.finish().expect("an answer").status, 200);
    }
    daemon.stop_idle();
}

#[test]
fn it_is_told_while_the_breaker_is_open_and_nothing_serves() {
    let scene = Scene::new();
    let pool =
        Pool::new("site", &["/bin/false"]).queue().workers("{ min = 2, max = 4 }").key("status-path", "\"/status\"");
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_event("breaker-opened", Duration::from_secs(20));
    let site = address(&scene, "site");
    let text = told(&site, "").text();
    assert!(text.contains("process manager:      dynamic\n") && text.contains("total processes:      0\n"), "{text}");
    assert!(
        is_soon(|| Request::get("/").send(&site).is_ok_and(|page| page.status == 503)),
        "visitors get the fallback"
    );
    assert_eq!(told(&site, "json").status, 200);
    daemon.stop();
}
