//! Queue mode behind Debian's web servers, each with three kinds of unmodified workers: what a site does, it does.

use steadfast_harness as support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::apps::Language;
use support::behaviours::Site;
use support::conditions::{is_soon, tail};
use support::crowd::Crowd;
use support::daemon::{self, Config, Daemon, Pool};
use support::fcgi::Address;
use support::http::Ask;
use support::nginx;
use support::scene::Scene;
use support::web::Server;
use support::{loopback, proc};

/// A pool for each language, on a unix socket and on TCP.
struct Pools {
    scene: Scene,
    daemon: Daemon,
    tcp: Vec<SocketAddr>,
}

impl Pools {
    fn start(workers: u32) -> Pools {
        let scene = Scene::new();
        let tcp: Vec<SocketAddr> = Language::ALL.iter().map(|_| loopback::address()).collect();
        let pools: Vec<Pool> = Language::ALL
            .iter()
            .zip(&tcp)
            .map(|(language, address)| {
                Pool::new(language.name(), &language.command())
                    .queue()
                    .workers(&workers.to_string())
                    .listen(&format!("unix:{}", daemon::socket(&scene, language.name()).display()))
                    .listen(&address.to_string())
            })
            .collect();
        let mut daemon = Config::new(&pools).start(&scene);
        for _ in &pools {
            daemon.wait_event("pool-serving", daemon::SOON);
        }
        for language in Language::ALL {
            let is_whole = is_soon(|| daemon.pool(language.name())["workers"]["idle"] == workers);
            assert!(is_whole, "{}\n{}", daemon.pool(language.name()), tail(&mut daemon));
        }
        Pools { scene, daemon, tcp }
    }

    /// HAProxy comes over TCP, the others over the unix socket.
    fn upstream(&self, server: Server, language: Language) -> Address {
        let at = Language::ALL.iter().position(|each| *each == language).expect("there are three");
        match server {
            Server::Haproxy | Server::HaproxyMultiplexing => Address::Tcp(self.tcp[at]),
            _ => daemon::address(&self.scene, language.name()),
        }
    }

    /// Nobody died, nothing was held against anybody, and it ends well.
    fn end(mut self, workers: &[Vec<u32>]) {
        for (language, before) in Language::ALL.iter().zip(workers) {
            let name = language.name();
            let is_quiet = is_soon(|| self.daemon.pool(name)["workers"]["busy"] == 0);
            let pool = self.daemon.pool(name);
            assert!(is_quiet, "{name}: somebody is busy for nobody: {pool}\n{}", tail(&mut self.daemon));
            assert_eq!(&self.daemon.workers(name), before, "{name}: {pool}\n{}", tail(&mut self.daemon));
            assert_unblamed(&pool);
        }
        self.daemon.stop_idle();
        assert_eq!(self.scene.processes(), [0; 0], "left behind");
    }
}

/// Breaker closed, no failure counted, no worker ended, no request lost, timed out, shed or quarantined.
fn assert_unblamed(pool: &Value) {
    assert_eq!((&pool["state"], &pool["breaker"]["state"]), (&"serving".into(), &"closed".into()), "{pool}");
    assert_eq!(pool["breaker"]["failures"], 0.0, "{pool}");
    let exits = pool["exits"].as_object().into_iter().flatten();
    assert!(exits.clone().all(|(_, count)| *count == 0), "{pool}");
    for what in ["lost", "timeout", "shed", "fallback"] {
        assert_eq!(pool["requests"][what], 0, "{what}: {pool}");
    }
    assert_eq!(pool["quarantine"], Value::Array(Vec::new()), "{pool}");
}

fn behind(server: Server) {
    let pools = Pools::start(2);
    let workers = Language::ALL.map(|language| pools.daemon.workers(language.name()));
    for language in Language::ALL {
        let web = server.start(&pools.scene, &pools.upstream(server, language), language);
        let site = Site::behind(&web, language);
        site.all();
        if language == Language::C {
            site.megabytes();
        }
    }
    pools.end(&workers);
}

#[test]
fn nginx_before_the_queue() {
    behind(Server::Nginx);
}

#[test]
fn nginx_with_kept_connections_before_the_queue() {
    behind(Server::NginxKeeping);
}

#[test]
fn apache_before_the_queue() {
    behind(Server::Apache);
}

#[test]
fn apache_with_reused_connections_before_the_queue() {
    behind(Server::ApacheReusing);
}

#[test]
fn lighttpd_before_the_queue() {
    behind(Server::Lighttpd);
}

#[test]
fn caddy_before_the_queue() {
    behind(Server::Caddy);
}

#[test]
fn haproxy_before_the_queue() {
    behind(Server::Haproxy);
}

#[test]
fn haproxy_with_multiplexing_before_the_queue() {
    behind(Server::HaproxyMultiplexing);
}

/// Six requests at a time go over fewer connections than six, and six workers answer them side by side.
#[test]
fn requests_of_one_connection_go_to_several_workers() {
    let pools = Pools::start(6);
    let workers = Language::ALL.map(|language| pools.daemon.workers(language.name()));
    let (server, language) = (Server::HaproxyMultiplexing, Language::C);
    let upstream = pools.upstream(server, language);
    let web = server.start(&pools.scene, &upstream, language);
    let site = Site::behind(&web, language);
    // The first request opens the connection, over which it is asked whether more may follow.
    let _page = site.good(&Ask::get("/hello"));
    let begun = Instant::now();
    let mut visitors: Vec<_> = (0..6).map(|_| site.begin(&Ask::get("/sleep?ms=600"))).collect();
    let all_busy = is_soon(|| pools.daemon.pool("c")["workers"]["busy"] == 6);
    assert!(all_busy, "{}", pools.daemon.pool("c"));
    let opened = upstream.connections();
    assert!((1..6).contains(&opened), "{opened} connections for six requests");
    let pids: std::collections::BTreeSet<u32> = visitors
        .iter_mut()
        .map(|visitor| visitor.read("GET").unwrap_or_else(|error| panic!("{site:?}: {error}")).worker())
        .collect();
    assert_eq!(pids.len(), 6, "not each worker had one: {pids:?}");
    assert!(begun.elapsed() < Duration::from_millis(3000), "one after the other: {:?}", begun.elapsed());
    drop(web);
    pools.end(&workers);
}

/// Connections of servers that keep them stay open between two requests, those of the others do not.
#[test]
fn connections_are_kept_as_the_web_server_wants_it() {
    let pools = Pools::start(2);
    let workers = Language::ALL.map(|language| pools.daemon.workers(language.name()));
    for server in [Server::Nginx, Server::NginxKeeping, Server::ApacheReusing, Server::Haproxy] {
        let upstream = pools.upstream(server, Language::C);
        let web = server.start(&pools.scene, &upstream, Language::C);
        let site = Site::behind(&web, Language::C);
        for _ in 0..20 {
            let _page = site.good(&Ask::get("/hello"));
        }
        let kept = upstream.connections();
        match server {
            Server::Nginx => assert!(is_soon(|| upstream.connections() == 0), "{server:?} keeps {kept}"),
            // Each of its threads may have its own.
            Server::ApacheReusing => assert!((1..=20).contains(&kept), "{server:?} keeps {kept}"),
            _ => assert_eq!(kept, 1, "{server:?} needs one for visitors who come one after the other"),
        }
        drop(web);
        let is_closed = is_soon(|| upstream.connections() == 0);
        assert!(is_closed, "{server:?} has left {} connections", upstream.connections());
    }
    pools.end(&workers);
}

/// php-cgi leaves after 500 requests, in the middle of a kept connection to the front: nobody notices. For as long as
/// STEADFAST_LONG says (seconds), else shortly.
#[test]
fn php_at_full_load_recycles_itself_and_the_queue_loses_no_request() {
    let long = std::env::var("STEADFAST_LONG").ok().and_then(|value| value.parse().ok()).filter(|seconds| *seconds > 1);
    let during = Duration::from_secs(long.unwrap_or(10));
    let mut pools = Pools::start(4);
    let web =
        Server::NginxKeeping.start(&pools.scene, &pools.upstream(Server::NginxKeeping, Language::Php), Language::Php);
    let address = web.address();
    let crowd = Crowd::start(6, Duration::ZERO, move || nginx::get(address, "/hello", Duration::from_secs(10)));
    pools.daemon.wait_never("pool-down or breaker-opened", during, |line| {
        ["pool-down", "breaker-opened"].contains(&line.name())
    });
    let tally = crowd.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}\n{}\n{}", web.said(), tail(&mut pools.daemon));
    let lives = tally.asked / 500;
    assert!(lives >= 4, "no full load: only {} requests", tally.asked);
    let whole = is_soon(|| pools.daemon.pool("php")["workers"]["idle"] == 4);
    let pool = pools.daemon.pool("php");
    assert!(whole, "{pool}");
    assert_eq!(pool["breaker"]["failures"], 0.0, "{pool}\n{}", tail(&mut pools.daemon));
    assert_eq!(pool["requests"]["lost"], 0, "{pool}");
    let recycled = pool["exits"]["recycled"].as_u64().unwrap_or_default();
    assert!(recycled + 4 >= lives && recycled <= lives + 1, "{lives} lives: {}", pool["exits"]);
    let others: Vec<_> = pool["exits"].as_object().into_iter().flatten().filter(|(_, count)| **count != 0).collect();
    assert_eq!(others.len(), 1, "not only recycled: {others:?}\n{}", tail(&mut pools.daemon));
    pools.daemon.stop_idle();
    assert!(pools.scene.processes().iter().all(|pid| !proc::alive(*pid)), "left behind");
}
