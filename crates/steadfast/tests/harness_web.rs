//! The web servers of the harness and the queue's worker in its three languages, before there is a queue between them:
//! a failure here is not the front's.

use steadfast_harness as support;

use std::path::Path;

use support::apps::Language;
use support::behaviours::{self, Site, lines, sum};
use support::conditions::tail;
use support::daemon::{self, Config, Daemon, Pool};
use support::fcgi::{Address, Request};
use support::loopback;
use support::scene::Scene;
use support::web::Server;

/// Pools in direct mode, with a worker for each connection that a web server may keep.
fn direct(scene: &Scene, languages: &[Language]) -> Daemon {
    let pools: Vec<Pool> =
        languages.iter().map(|language| Pool::new(language.name(), &language.command()).workers("6")).collect();
    let mut daemon = Config::new(&pools).start(scene);
    for _ in languages {
        daemon.wait_event("pool-serving", daemon::SOON);
    }
    daemon
}

/// What php-cgi cannot do by itself: it hangs on the -1 that Caddy gives as the length of a chunked body, and leaves
/// what it has not read of a body in a kept connection.
const NOT_PHP: &[Language] = &[Language::C, Language::Perl];

fn stands_before(server: Server, languages: &[Language]) {
    let scene = Scene::new();
    let mut daemon = direct(&scene, languages);
    for language in languages.iter().copied() {
        let web = server.start(&scene, &daemon::address(&scene, language.name()), language);
        let site = Site::behind(&web, language);
        if server == Server::ApacheReusing {
            // It writes the end of STDIN by itself; a program that has answered without waiting for it has closed the
            // kept connection, and the next visitor gets 503. So only what reads its body works each time.
            site.post();
            continue;
        }
        site.all();
        if language == Language::C {
            site.megabytes();
        }
        assert_eq!(daemon.pool(language.name())["exits"]["crashed"], 0, "{site:?}\n{}", tail(&mut daemon));
    }
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn nginx_stands_before_the_workers() {
    stands_before(Server::Nginx, &Language::ALL);
}

#[test]
fn nginx_keeps_connections_to_the_workers() {
    stands_before(Server::NginxKeeping, &Language::ALL);
}

#[test]
fn apache_stands_before_the_workers() {
    stands_before(Server::Apache, &Language::ALL);
}

#[test]
fn apache_reuses_connections_to_the_workers() {
    stands_before(Server::ApacheReusing, NOT_PHP);
}

#[test]
fn lighttpd_stands_before_the_workers() {
    stands_before(Server::Lighttpd, &Language::ALL);
}

#[test]
fn caddy_stands_before_the_workers() {
    stands_before(Server::Caddy, NOT_PHP);
}

#[test]
fn haproxy_stands_before_the_workers() {
    stands_before(Server::Haproxy, NOT_PHP);
}

/// It multiplexes, which no worker of ours can do: that it starts and answers by itself is all that can be shown.
#[test]
fn haproxy_starts_with_multiplexing() {
    let scene = Scene::new();
    let nobody = Address::Tcp(loopback::address());
    let web = Server::HaproxyMultiplexing.start(&scene, &nobody, Language::C);
    let page = support::http::Ask::get("/hello").send(web.address()).expect("an answer");
    assert_eq!(page.status, 503, "{}", web.said());
}

/// The same paths do the same in each language.
#[test]
fn the_workers_do_what_the_path_says() {
    let scene = Scene::new();
    let log = scene.shared_file("counts");
    let pools = Language::ALL.map(|language| {
        let pool = Pool::new(language.name(), &language.command()).workers("1");
        pool.environment("COUNT_LOG", &log.display().to_string())
    });
    let mut daemon = Config::new(&pools).start(&scene);
    for _ in &pools {
        daemon.wait_event("pool-serving", daemon::SOON);
    }
    for language in Language::ALL {
        does_what_the_path_says(language, &daemon::address(&scene, language.name()), &log);
    }
    assert_eq!(daemon.stop(), 0);
}

fn does_what_the_path_says(language: Language, address: &Address, log: &Path) {
    let request = |path: &str| Request::get(path).param("SCRIPT_FILENAME", &language.script());
    let send = |request: &Request| request.send(address).unwrap_or_else(|error| panic!("{language:?}: {error}"));
    let hello = send(&request("/count?1").param("HTTP_X_REQUEST_ID", "id-1"));
    assert_eq!((hello.status, hello.text().as_str()), (200, "hello\n"), "{language:?}");
    let counted = std::fs::read_to_string(log).expect("it is ours");
    assert!(counted.ends_with("id-1 GET /count?1\n"), "{language:?}: {counted}");
    let body = lines(70_001);
    let echo = send(&request("/echo?x=1").body(&body).param("HTTP_X_TEST", "t")).text();
    for line in ["REQUEST_METHOD=POST\n", "QUERY_STRING=x=1\n", "CONTENT_LENGTH=70001\n", "HTTP_X_TEST=t\n"] {
        assert!(echo.contains(line), "{language:?}: no {line:?} in {echo}");
    }
    assert!(echo.ends_with(&sum("body", &body)), "{language:?}: {echo}");
    let big = send(&request("/big?bytes=70001&length=1"));
    assert!(big.headers.contains("Content-Length: 70001") || big.headers.contains("Content-length: 70001"));
    assert!(big.body == body, "{language:?}: {} bytes, and not those", big.body.len());
    let early = send(&request("/early?bytes=1000&read=1").body(&body));
    assert_eq!(early.body, [lines(1000), sum("body", &body).into_bytes()].concat(), "{language:?}");
    assert_eq!(send(&request("/early?bytes=1000").body(&body)).body, lines(1000), "{language:?}");
    let said = send(&request("/stderr?text=alas")).stderr;
    assert!(String::from_utf8_lossy(&said).contains("alas"), "{language:?}: {said:?}");
    if language != Language::Php {
        let raw = send(&request("/raw").body(b"Status: 418\nX-A: b\n\nteapot"));
        assert_eq!((raw.status, raw.text().as_str()), (418, "teapot"), "{language:?}");
        request("/exit?code=3").send(address).expect_err("no answer from who has left");
    }
    let half = request("/half?bytes=20000").send(address);
    half.expect_err("no end from who has left");
    request("/crash").send(address).expect_err("no answer from who crashed");
    assert_eq!(send(&request("/sleep?ms=1")).text(), "hello\n", "{language:?}");
}

#[test]
fn sums_are_those_of_zlib() {
    assert_eq!(behaviours::crc32(b""), 0);
    assert_eq!(behaviours::crc32(b"hello"), 0x3610_a686);
    assert_eq!(lines(130).len(), 130);
    assert!(lines(130).starts_with(b"000000000000000..."));
}
