//! Slow and large visitors: they hold no worker, block nobody and cost the front no memory.

use steadfast_harness as support;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::apps::Language;
use support::behaviours::{lines, sum};
use support::conditions::{is_soon, tail};
use support::daemon::{self, Config, Daemon, Pool};
use support::fcgi::{Address, InFlight, Request};
use support::http::{Ask, Visitor};
use support::scene::Scene;
use support::{loopback, proc};

/// How many slow visitors there are of each kind; more than the workers could serve one after the other.
const SLOW: usize = 100;

/// Four C workers behind a unix socket and HTTP.
struct Site {
    daemon: Daemon,
    fcgi: Address,
    http: SocketAddr,
    workers: Vec<u32>,
    _scene: Scene,
}

impl Site {
    fn start() -> Site {
        let scene = Scene::new();
        let http = loopback::address();
        let fcgi = daemon::address(&scene, "c");
        let pool = Pool::new("c", &Language::C.command())
            .queue()
            .workers("4")
            .listen(&format!("unix:{}", daemon::socket(&scene, "c").display()))
            .listen(&format!("http://{http}"));
        let mut daemon = Config::new(&[pool]).start(&scene);
        daemon.wait_serving("c");
        assert!(is_soon(|| daemon.pool("c")["workers"]["idle"] == 4), "{}", tail(&mut daemon));
        let workers = daemon.workers("c");
        Site { daemon, fcgi, http, workers, _scene: scene }
    }

    fn busy(&self) -> u64 {
        self.daemon.pool("c")["workers"]["busy"].as_u64().unwrap_or(u64::MAX)
    }

    /// Whoever comes now is answered at once, over both.
    fn assert_quick(&mut self, what: &str) {
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            let begun = Instant::now();
            let page = Ask::get("/hello").send(self.http);
            assert!(page.as_ref().is_ok_and(|page| page.status == 200), "{what}: {page:?}\n{}", tail(&mut self.daemon));
            let page = Request::get("/hello").send(&self.fcgi);
            assert!(page.as_ref().is_ok_and(|page| page.status == 200), "{what}: {page:?}\n{}", tail(&mut self.daemon));
            slowest = slowest.max(begun.elapsed());
        }
        // Far above what it takes, and far below what a slow visitor takes.
        assert!(slowest < Duration::from_millis(500), "{what}: somebody waited for {slowest:?}");
    }

    /// All workers are idle soon, and still the same.
    fn assert_free(&mut self, what: &str) {
        let is_free = is_soon(|| self.busy() == 0);
        assert!(is_free, "{what}: {}\n{}", self.daemon.pool("c"), tail(&mut self.daemon));
        assert_eq!(self.daemon.workers("c"), self.workers, "{what}\n{}", tail(&mut self.daemon));
    }

    fn end(mut self) {
        self.assert_free("at the end");
        let pool = self.daemon.pool("c");
        assert_eq!(
            (&pool["breaker"]["state"], &pool["breaker"]["failures"]),
            (&"closed".into(), &0.0.into()),
            "{pool}"
        );
        self.daemon.stop_idle();
    }
}

/// All of it but the last bytes, written now; the rest is for later.
fn http_but(address: SocketAddr, ask: &Ask, last: usize) -> (Visitor, Vec<u8>) {
    let mut bytes = ask.bytes();
    let rest = bytes.split_off(bytes.len() - last);
    let mut visitor = Visitor::connect(address).expect("it listens");
    visitor.write(&bytes).expect("it reads");
    (visitor, rest)
}

fn fcgi_but(address: &Address, request: &Request, last: usize) -> (InFlight, Vec<u8>) {
    let mut bytes = request.bytes();
    let rest = bytes.split_off(bytes.len() - last);
    let mut visitor = Request::connect(address).expect("it listens");
    visitor.write(&bytes).expect("it reads");
    (visitor, rest)
}

#[test]
fn slow_heads_hold_no_worker() {
    let mut site = Site::start();
    let ask = Ask::get("/hello").header("X-Slow", &"x".repeat(200));
    let request = Request::get("/hello").param("HTTP_X_SLOW", &"x".repeat(200));
    let mut https: Vec<_> = (0..SLOW).map(|_| http_but(site.http, &ask, 100)).collect();
    // Eight bytes end the body and eight the params: the last 100 are in the middle of the params.
    let mut fcgis: Vec<_> = (0..SLOW).map(|_| fcgi_but(&site.fcgi, &request, 100)).collect();
    site.assert_quick("with slow heads");
    assert_eq!(site.busy(), 0, "a worker has begun what is not there yet");
    for byte in 0..5 {
        for (visitor, rest) in &mut https {
            visitor.write(&rest[byte..=byte]).expect("it still reads");
        }
        for (visitor, rest) in &mut fcgis {
            visitor.write(&rest[byte..=byte]).expect("it still reads");
        }
        site.assert_quick("with heads that drip");
    }
    for (mut visitor, rest) in https {
        visitor.write(&rest[5..]).expect("it still reads");
        assert_eq!(visitor.read("GET").expect("an answer").text(), "hello\n");
    }
    for (mut visitor, rest) in fcgis {
        visitor.write(&rest[5..]).expect("it still reads");
        assert_eq!(visitor.finish().expect("an answer").text(), "hello\n");
    }
    site.end();
}

/// Bodies up to 64 KiB: a worker has them whole or not at all.
#[test]
fn slow_bodies_hold_no_worker() {
    let mut site = Site::start();
    let body = lines(60_000);
    let mut https: Vec<_> = (0..SLOW).map(|_| http_but(site.http, &Ask::post("/echo", &body), 1000)).collect();
    let mut fcgis: Vec<_> = (0..SLOW).map(|_| fcgi_but(&site.fcgi, &Request::get("/echo").body(&body), 1000)).collect();
    site.assert_quick("with slow bodies");
    assert_eq!(site.busy(), 0, "a worker waits for a body");
    for (visitor, rest) in &mut https {
        visitor.write(&rest[..1]).expect("it still reads");
    }
    for (visitor, rest) in &mut fcgis {
        visitor.write(&rest[..1]).expect("it still reads");
    }
    site.assert_quick("with bodies that drip");
    for (mut visitor, rest) in https {
        visitor.write(&rest[1..]).expect("it still reads");
        assert!(visitor.read("POST").expect("an answer").text().contains(&sum("body", &body)));
    }
    for (mut visitor, rest) in fcgis {
        visitor.write(&rest[1..]).expect("it still reads");
        assert!(visitor.finish().expect("an answer").text().contains(&sum("body", &body)));
    }
    site.end();
}

/// Answers that fit into the front's buffer are taken from the worker at once, whoever reads them when.
#[test]
fn slow_readers_hold_no_worker() {
    // More than the kernel takes for a unix socket.
    const SIZE: usize = 350_000;
    let mut site = Site::start();
    let path = format!("/big?bytes={SIZE}");
    let https: Vec<_> = (0..SLOW).map(|_| http_but(site.http, &Ask::get(&path), 0)).collect();
    let fcgis: Vec<_> = (0..SLOW).map(|_| fcgi_but(&site.fcgi, &Request::get(&path), 0)).collect();
    site.assert_quick("with slow readers");
    site.assert_free("with slow readers");
    for (mut visitor, _) in https {
        let answer = visitor.read("GET").expect("an answer");
        assert!(answer.body == lines(SIZE), "{} bytes, and not those", answer.body.len());
    }
    for (visitor, _) in fcgis {
        let answer = visitor.finish().expect("an answer");
        assert!(answer.body == lines(SIZE), "{} bytes, and not those", answer.body.len());
    }
    site.end();
}

/// What is larger than the buffer holds the workers that make it, and no others.
#[test]
fn slow_readers_of_large_answers_hold_only_their_own_worker() {
    const SIZE: usize = 20_000_000;
    let mut site = Site::start();
    let path = format!("/big?bytes={SIZE}&length=1");
    let (mut http, _) = http_but(site.http, &Ask::get(&path), 0);
    let (fcgi, _) = fcgi_but(&site.fcgi, &Request::get(&path), 0);
    assert!(is_soon(|| site.busy() == 2), "{}", site.daemon.pool("c"));
    let memory = proc::rss(site.daemon.front());
    site.assert_quick("with two large answers that nobody reads");
    assert_eq!(site.busy(), 2, "they are finished, or others are held");
    assert!(memory < 20_000_000, "the front has taken it all: {memory} bytes");
    let answer = http.read("GET").expect("an answer");
    assert!(answer.body == lines(SIZE), "{} bytes, and not those", answer.body.len());
    let answer = fcgi.finish().expect("an answer");
    assert!(answer.body == lines(SIZE), "{} bytes, and not those", answer.body.len());
    site.end();
}

/// Runs something that may stand still for ever, and says so when it does.
fn in_time<T: Send + 'static>(what: &str, action: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, done) = mpsc::channel();
    let thread = std::thread::spawn(move || send.send(action()));
    let result = done.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{what}: no end within 20 s"));
    thread.join().expect("it has sent its result").expect("we have received it");
    result
}

/// A visitor who sends everything before he reads, as mod_fcgid does, and a program that answers before it reads.
#[test]
fn an_answer_before_the_body_is_read_is_no_deadlock() {
    const BODY: usize = 3_000_000;
    let mut site = Site::start();
    let (fcgi, http) = (site.fcgi.clone(), site.http);
    // The answer is small and the body is never read.
    let answer = in_time("FastCGI, all sent first", {
        let fcgi = fcgi.clone();
        move || Request::get("/early?bytes=1000").body(&lines(BODY)).send(&fcgi)
    });
    assert_eq!(answer.expect("an answer").body, lines(1000));
    site.assert_free("after a body that nobody read");
    let answer = in_time("HTTP, all sent first", move || {
        let mut visitor = Visitor::connect(http).expect("it listens");
        // The rest of the body may be refused once the answer is there.
        let _refused = visitor.write(&Ask::post("/early?bytes=1000", &lines(BODY)).bytes());
        visitor.read("POST")
    });
    // A connection that is closed with bytes on the way to it is reset, and may take the answer with it.
    match answer {
        Ok(answer) => assert_eq!(answer.body, lines(1000)),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    site.assert_free("after a body that nobody read");
    // Both fit into the front, and each side writes before it reads.
    let answer = in_time("FastCGI, both write first", {
        let fcgi = fcgi.clone();
        move || Request::get("/early?bytes=150000&read=1").body(&lines(150_000)).send(&fcgi)
    });
    let answer = answer.expect("an answer").body;
    assert_eq!(answer, [lines(150_000), sum("body", &lines(150_000)).into_bytes()].concat());
    // Neither fits, and the visitor reads while he writes.
    let answer = in_time("FastCGI, read while written", move || {
        let mut reader = Request::get(&format!("/early?bytes={BODY}&read=1"))
            .param("REQUEST_METHOD", "POST")
            .param("CONTENT_LENGTH", &BODY.to_string())
            .open(&fcgi)
            .expect("it listens");
        let mut writer = reader.another().expect("a second handle");
        let writing = std::thread::spawn(move || {
            lines(BODY).chunks(60_000).chain([&[][..]]).try_for_each(|piece| writer.stdin(piece))
        });
        let answer = reader.read();
        writing.join().expect("it does not panic").expect("it is read");
        answer
    });
    let answer = answer.expect("an answer").body;
    assert!(answer == [lines(BODY), sum("body", &lines(BODY)).into_bytes()].concat(), "{} bytes", answer.len());
    site.assert_quick("afterwards");
    site.end();
}

/// A gigabyte each way. CRC-32 of so many zeros, by zlib.
const GIGABYTE: u64 = 1 << 30;
const ZEROS: &str = "body 1073741824 5b64c2b0\n";
/// What the front may hold of it, buffers of both ends included.
const HELD: u64 = 6 << 20;

/// The most that the front has ever held, in bytes.
fn peak(front: u32) -> u64 {
    let field = proc::status_field(front, "VmHWM").unwrap_or_default();
    field.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).expect("VmHWM is there") * 1024
}

/// Looks whether each block of the answer of `/big` is the one that belongs there.
struct Checker {
    at: u64,
}

impl Checker {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let into = usize::try_from(self.at % 64).expect("it is below 64");
            let piece = bytes.len().min(64 - into);
            if into == 0 && piece == 64 && self.at.is_multiple_of(4096) {
                assert_eq!(&bytes[..15], format!("{:015x}", self.at).as_bytes());
            }
            self.at += piece as u64;
            bytes = &bytes[piece..];
        }
    }
}

#[test]
fn alone_a_gigabyte_each_way_in_constant_memory() {
    let site = Site::start();
    let front = site.daemon.front();
    let _warm = Ask::get("/big?bytes=1000000").send(site.http).expect("an answer");
    let _warm = Request::get("/big?bytes=1000000").send(&site.fcgi).expect("an answer");
    let before = peak(front);
    let assert_flat = |what: &str| {
        let held = peak(front).saturating_sub(before);
        assert!(held <= HELD, "{what}: the front took {held} bytes more than the {before} before");
    };

    let mut visitor = Visitor::connect(site.http).expect("it listens");
    visitor.write(&Ask::get(&format!("/big?bytes={GIGABYTE}&length=1")).bytes()).expect("it reads");
    assert_eq!(visitor.read_head().expect("an answer").header("content-length"), Some("1073741824"));
    let mut checker = Checker { at: 0 };
    let mut block = vec![0; 1 << 18];
    while checker.at < GIGABYTE {
        let length = visitor.read_some(&mut block).expect("it goes on");
        assert!(length > 0, "it ends after {}", checker.at);
        checker.take(&block[..length]);
    }
    assert_flat("down over HTTP");

    let mut checker = Checker { at: 0 };
    let mut head = Vec::new();
    let path = format!("/big?bytes={GIGABYTE}");
    let end = Request::get(&path).start(&site.fcgi).expect("it listens").read_into(|mut bytes| {
        // The head stands in the first piece or two.
        while !head.ends_with(b"\r\n\r\n") && !bytes.is_empty() {
            head.push(bytes[0]);
            bytes = &bytes[1..];
        }
        checker.take(bytes);
    });
    assert_eq!(end.expect("an end").protocol_status, 0);
    assert_eq!(checker.at, GIGABYTE);
    assert_flat("down over FastCGI");

    let zeros = vec![0; 1 << 16];
    let mut visitor = Visitor::connect(site.http).expect("it listens");
    let head = format!("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {GIGABYTE}\r\n\r\n");
    visitor.write(head.as_bytes()).expect("it reads");
    for _ in 0..GIGABYTE >> 16 {
        visitor.socket().write_all(&zeros).expect("it reads on");
    }
    let answer = visitor.read("POST").expect("an answer").text();
    assert!(answer.contains(ZEROS), "{answer}");
    assert_flat("up over HTTP");

    let request = Request::get("/echo").param("REQUEST_METHOD", "POST");
    let mut visitor = request.param("CONTENT_LENGTH", &GIGABYTE.to_string()).open(&site.fcgi).expect("it listens");
    for _ in 0..GIGABYTE >> 15 {
        visitor.stdin(&zeros[..1 << 15]).expect("it reads on");
    }
    visitor.stdin(&[]).expect("it reads on");
    let answer = visitor.finish().expect("an answer").text();
    assert!(answer.contains(ZEROS), "{answer}");
    assert_flat("up over FastCGI");
    site.end();
}
