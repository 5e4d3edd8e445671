//! The worker library behind Debian's web servers, without steadfast between: what a site does, it does.

use steadfast_harness as support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use support::apps::Language;
use support::behaviours::{Site, lines, sum};
use support::daemon::SOON;
use support::fcgi::Address;
use support::http::{Answer, Ask, Visitor};
use support::proc;
use support::scene::{Scene, allow};
use support::web::{Server, Web};

/// A worker belongs to its connection while that is kept, and some servers leave one idle while they open the next.
const WORKERS: usize = 3;

/// Processes of the example `rust-echo` on one listening socket, and a web server before them.
struct Stage {
    site: Site,
    upstream: Address,
    web: Web,
    workers: Vec<Child>,
    said: PathBuf,
    _scene: Scene,
}

impl Stage {
    /// HAProxy comes over TCP, the others over a unix socket; mod_fcgid makes the socket and the workers by itself.
    fn set(server: Server) -> Stage {
        let scene = Scene::new();
        let said = scene.join("workers.log");
        let (listener, upstream) = match server {
            Server::Haproxy | Server::HaproxyMultiplexing => {
                let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
                let address = listener.local_addr().expect("it is bound");
                (OwnedFd::from(listener), Address::Tcp(address))
            }
            _ => {
                let path = scene.join("app.sock");
                let listener = UnixListener::bind(&path).expect("the scene is fresh");
                allow(&path, 0o666);
                (OwnedFd::from(listener), Address::Unix(path))
            }
        };
        let output = File::create(&said).expect("the scene is ours");
        let count = if server == Server::ApacheFcgid { 0 } else { WORKERS };
        let start = |_| {
            Command::new(&Language::Rust.command()[0])
                .stdin(listener.as_fd().try_clone_to_owned().expect("it can be cloned"))
                .stdout(Stdio::null())
                .stderr(output.try_clone().expect("a file can be cloned"))
                .spawn()
                .expect("it was built")
        };
        let workers: Vec<Child> = (0..count).map(start).collect();
        let web = server.start(&scene, &upstream, Language::Rust);
        Stage { site: Site::behind(&web, Language::Rust), upstream, web, workers, said, _scene: scene }
    }

    fn server(&self) -> Server {
        self.web.server()
    }

    fn ask(&self, ask: &Ask) -> Answer {
        ask.send(self.site.address).unwrap_or_else(|error| panic!("{:?}: {error}", self.site))
    }

    /// Nobody has died, nobody had anything to complain of but visitors who left, and SIGTERM ends them well.
    fn strike(mut self) {
        for worker in &mut self.workers {
            let ended = worker.try_wait().expect("it is our child");
            assert!(ended.is_none(), "{:?}: a worker ended with {ended:?}: {}", self.site, self.complaints());
        }
        for worker in &mut self.workers {
            proc::kill(worker.id(), Signal::TERM).expect("it runs");
            assert!(proc::wait_gone(worker.id(), SOON), "{:?}: SIGTERM does not end a worker", self.site);
            let code = worker.wait().expect("it is our child").code();
            assert_eq!(code, Some(0), "{:?}", self.site);
        }
        assert_eq!(self.complaints(), "", "{:?}", self.site);
        if self.server() == Server::ApacheFcgid {
            // Its own workers' stderr is its log.
            assert!(!self.web.said().contains("panicked"), "{}", self.web.said());
        }
    }

    fn complaints(&self) -> String {
        fs::read_to_string(&self.said).expect("it is there")
    }

    /// Heads without bodies, and the connection is in step afterwards.
    fn answers_without_a_body(&self) {
        let mut visitor = Visitor::connect(self.site.address).expect("it listens");
        for (path, status) in [("/not-modified", 304), ("/empty", 200), ("/not-modified", 304)] {
            let ask = Ask::get(path).header("If-None-Match", "\"one\"");
            let answer = visitor.ask(&ask).unwrap_or_else(|error| panic!("{:?}: {path}: {error}", self.site));
            assert_eq!((answer.status, answer.body.len()), (status, 0), "{:?}: {path}", self.site);
            if status == 304 {
                assert_eq!(answer.header("etag"), Some("\"one\""), "{:?}", self.site);
            }
            if answer.header("connection") == Some("close") {
                visitor = Visitor::connect(self.site.address).expect("it listens");
                continue;
            }
            let next = visitor.ask(&Ask::get("/hello")).unwrap_or_else(|error| panic!("{:?}: {error}", self.site));
            assert_eq!((next.status, next.text()), (200, "hello\n".to_owned()), "{:?}: after {path}", self.site);
        }
    }

    fn two_cookies_are_set(&self) {
        let answer = self.site.good(&Ask::get("/cookies"));
        let set: Vec<&str> =
            answer.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str()).collect();
        assert_eq!(set, ["a=1; Path=/", "b=2; Path=/"], "{:?}", self.site);
    }

    /// Whoever joins them, the application sees each name once. Where the server passes both on, we do it, as RFC 9110 §5.3 and
    /// RFC 6265 §5.4 say.
    fn headers_that_come_twice_are_joined(&self) {
        let ask = Ask::get("/echo").header("Cookie", "a=1").header("X-Test", "one");
        let text = self.site.good(&ask.header("Cookie", "b=2").header("X-Test", "two")).text();
        let of = |name: &str| -> Vec<&str> { text.lines().filter_map(|line| line.strip_prefix(name)).collect() };
        assert_eq!(of("HTTP_X_TEST="), ["one, two"], "{:?}", self.site);
        let cookies = of("HTTP_COOKIE=");
        let passes_both = [Server::Nginx, Server::NginxKeeping, Server::Haproxy, Server::HaproxyMultiplexing];
        if passes_both.contains(&self.server()) {
            assert_eq!(cookies, ["a=1; b=2"], "{:?}", self.site);
        } else {
            // Apache and Caddy join cookies as if they were any header.
            assert!(cookies == ["a=1; b=2"] || cookies == ["a=1, b=2"], "{:?}: {cookies:?}", self.site);
        }
    }

    /// As many headers as this server passes on, in records as it makes them.
    fn many_large_headers(&self) {
        let (count, size) = match self.server() {
            // Records of at most 16 KiB, and of at most 65,500 bytes.
            Server::Apache | Server::ApacheReusing | Server::Caddy => (13, 8_000),
            // From 10,000 in all on it falls over an assertion of its own: see behaviours.rs.
            Server::Haproxy | Server::HaproxyMultiplexing => (7, 1_000),
            // One record, which is no longer than 65,535 bytes.
            _ => (7, 8_000),
        };
        let text = String::from_utf8(lines(count * size)).expect("it is text").replace('\n', ".");
        let parts = text.as_bytes().chunks(size).map(String::from_utf8_lossy);
        let ask =
            parts.zip(10..).fold(Ask::get("/headers"), |ask, (part, at)| ask.header(&format!("X-Part-{at}"), &part));
        let answer = self.site.good(&ask);
        assert_eq!(answer.text(), sum("headers", text.as_bytes()), "{:?}", self.site);
    }

    /// A worker that answers before it has read everything waits for nobody who waits for it.
    fn answers_before_the_body_has_come(&self) {
        let body = lines(1_000_000);
        let answer = self.ask(&Ask::post("/early?bytes=1000000", &body));
        assert!(answer.body == lines(1_000_000), "{:?}: {} bytes, and not those", self.site, answer.body.len());
        // After the head of an answer nginx sends no more of the request, so there is nothing to read then.
        if ![Server::Nginx, Server::NginxKeeping].contains(&self.server()) {
            let answer = self.ask(&Ask::post("/early?bytes=1000000&read=1", &body));
            let expected = [lines(1_000_000), sum("body", &body).into_bytes()].concat();
            assert!(answer.body == expected, "{:?}: {} bytes, and not those", self.site, answer.body.len());
        }
        assert_eq!(self.site.good(&Ask::get("/hello")).text(), "hello\n", "{:?}", self.site);
    }

    /// Visitors who leave in the middle of an answer, as many as there are workers and one more.
    fn visitors_leave(&self) {
        for _ in 0..=WORKERS {
            let mut visitor = self.site.begin(&Ask::get("/big?bytes=20000000"));
            let head = visitor.read_head().unwrap_or_else(|error| panic!("{:?}: {error}", self.site));
            assert_eq!(head.status, 200, "{:?}", self.site);
            let mut some = [0; 1000];
            visitor.read_some(&mut some).unwrap_or_else(|error| panic!("{:?}: {error}", self.site));
            visitor.reset();
        }
        let workers: BTreeSet<u32> = (0..8).map(|_| self.site.good(&Ask::get("/hello")).worker()).collect();
        assert!(workers.len() <= WORKERS, "{:?}: {workers:?}", self.site);
    }

    /// Which connections carry requests of visitors who come one after the other.
    fn connections(&self) -> Vec<String> {
        let ask = |_| {
            let answer = self.site.good(&Ask::get("/hello"));
            answer.header("x-connection").expect("the worker says it").to_owned()
        };
        (0..10).map(ask).collect()
    }

    fn keeps_connections_as_the_server_wants(&self) {
        let used = self.connections();
        let different: BTreeSet<&String> = used.iter().collect();
        match self.server() {
            Server::NginxKeeping | Server::Haproxy | Server::HaproxyMultiplexing => {
                assert_eq!(different.len(), 1, "{:?}: {used:?}", self.site);
            }
            // Each of its threads may have its own, of which the workers take three at a time.
            Server::ApacheReusing => assert!(different.len() < used.len(), "{:?}: {used:?}", self.site),
            _ => assert!(different.len() > 1, "{:?}: {used:?}", self.site),
        }
        let open = self.upstream.connections();
        assert!(open <= WORKERS, "{:?}: {open}", self.site);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _killed = worker.kill();
            let _reaped = worker.wait();
        }
    }
}

fn behind(server: Server) {
    let stage = Stage::set(server);
    stage.site.all();
    stage.keeps_connections_as_the_server_wants();
    stage.site.post_of(1 << 20);
    stage.answers_without_a_body();
    stage.two_cookies_are_set();
    stage.headers_that_come_twice_are_joined();
    stage.many_large_headers();
    stage.answers_before_the_body_has_come();
    stage.visitors_leave();
    stage.site.megabytes();
    stage.strike();
}

#[test]
fn nginx_before_the_worker() {
    behind(Server::Nginx);
}

#[test]
fn nginx_with_kept_connections_before_the_worker() {
    behind(Server::NginxKeeping);
}

#[test]
fn apache_before_the_worker() {
    behind(Server::Apache);
}

#[test]
fn apache_with_reused_connections_before_the_worker() {
    behind(Server::ApacheReusing);
}

#[test]
fn apache_starts_the_worker_by_mod_fcgid() {
    behind(Server::ApacheFcgid);
}

#[test]
fn lighttpd_before_the_worker() {
    behind(Server::Lighttpd);
}

#[test]
fn caddy_before_the_worker() {
    behind(Server::Caddy);
}

#[test]
fn haproxy_before_the_worker() {
    behind(Server::Haproxy);
}

#[test]
fn haproxy_with_multiplexing_before_the_worker() {
    behind(Server::HaproxyMultiplexing);
}

/// HAProxy asks by GET_VALUES whether several requests may share a connection, and believes us that they may not: it opens
/// others beside the one that it has.
#[test]
fn haproxy_is_told_that_a_connection_carries_one_request_at_a_time() {
    let stage = Stage::set(Server::HaproxyMultiplexing);
    // The first request opens the connection, over which it is asked whether more may follow.
    let _page = stage.site.good(&Ask::get("/hello"));
    let mut visitors: Vec<Visitor> = (0..WORKERS).map(|_| stage.site.begin(&Ask::get("/sleep?ms=500"))).collect();
    let answers: Vec<Answer> = visitors
        .iter_mut()
        .map(|visitor| visitor.read("GET").unwrap_or_else(|error| panic!("{:?}: {error}", stage.site)))
        .collect();
    let workers: BTreeSet<u32> = answers.iter().map(Answer::worker).collect();
    assert_eq!(workers.len(), WORKERS, "{:?}: {answers:?}", stage.site);
    stage.strike();
}
