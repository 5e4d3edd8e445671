//! Deadlines, and what else of the adapter only a clock in hand can show: the test is the core.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{ConnectionKey, ExchangeKey, Fact, Http, Settings};
use crate::cgi;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n";

/// One visitor, the adapter, and a clock.
struct Scene {
    http: Http,
    key: ConnectionKey,
    visitor: UnixStream,
    now: Instant,
}

impl Scene {
    fn new() -> Scene {
        let (visitor, theirs) = UnixStream::pair().expect("a pair");
        visitor.set_nonblocking(true).expect("non-blocking");
        theirs.set_nonblocking(true).expect("non-blocking");
        let mut http = Http::new();
        let now = Instant::now();
        let settings = Rc::new(Settings::new(1, &BTreeMap::new()));
        let key = http.accept(OwnedFd::from(theirs), None, settings, now);
        let mut scene = Scene { http, key, visitor, now };
        scene.turn();
        scene
    }

    /// What epoll would tell, and what comes of it.
    fn turn(&mut self) -> Vec<Fact> {
        self.http.ready(self.key, true, true, false);
        self.run()
    }

    fn run(&mut self) -> Vec<Fact> {
        self.http.run(self.now);
        std::iter::from_fn(|| self.http.next_fact()).collect()
    }

    fn says(&mut self, text: &str) -> Vec<Fact> {
        self.visitor.write_all(text.as_bytes()).expect("there is room");
        self.turn()
    }

    fn asks(&mut self, text: &str) -> ExchangeKey {
        match self.says(text).as_slice() {
            [Fact::Request { exchange, .. }] => *exchange,
            other => panic!("no request, but {other:?}"),
        }
    }

    /// Time passes, and the adapter is asked when it wants to be asked.
    fn passes(&mut self, seconds: u64) -> Vec<Fact> {
        let end = self.now + Duration::from_secs(seconds);
        let mut facts = Vec::new();
        while let Some(at) = self.http.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.http.meet_deadlines(self.now);
            facts.extend(self.run());
        }
        self.now = end;
        facts
    }

    /// What the visitor has got; and whether the connection has ended.
    fn hears(&mut self) -> (String, bool) {
        let (mut text, mut buffer) = (Vec::new(), [0; 65536]);
        let ended = loop {
            match self.visitor.read(&mut buffer) {
                Ok(0) => break true,
                Ok(taken) => text.extend_from_slice(&buffer[..taken]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) => panic!("{error}"),
            }
        };
        (String::from_utf8(text).expect("text"), ended)
    }

    fn answers(&mut self, exchange: ExchangeKey, body: &[u8]) {
        let head = cgi::parse(b"Content-Type: text/plain\n\n").expect("a head");
        self.http.head(exchange, head, "id-1");
        self.http.push(exchange, body).expect("nothing is promised");
        self.http.end(exchange).expect("nothing is promised");
        self.run();
    }
}

fn is_gone(facts: &[Fact], exchange: ExchangeKey) -> bool {
    matches!(facts, [Fact::Gone { exchange: gone }] if *gone == exchange)
}

#[test]
fn a_silent_visitor_is_sent_away_after_75_seconds() {
    let mut scene = Scene::new();
    assert!(scene.passes(74).is_empty());
    assert_eq!(scene.http.len(), 1);
    scene.passes(3);
    assert_eq!((scene.http.len(), scene.hears()), (0, (String::new(), true)));
}

#[test]
fn a_kept_connection_may_idle_and_costs_little_then() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        let exchange = scene.asks(GET);
        scene.answers(exchange, b"hello");
        let (text, ended) = scene.hears();
        assert!(text.ends_with("content-length: 5\r\n\r\nhello") || text.ends_with("\r\n\r\nhello"), "{text}");
        assert!(!ended && text.contains("content-length: 5\r\n"), "{text}");
        assert_eq!(scene.http.parked(), 0, "more may follow at once");
        assert!(scene.passes(70).is_empty());
        assert_eq!((scene.http.len(), scene.http.parked()), (1, 1));
    }
    scene.passes(10);
    assert_eq!(scene.http.len(), 0);
}

#[test]
fn a_head_must_be_complete_after_30_seconds_however_it_drips() {
    let mut scene = Scene::new();
    scene.passes(50);
    for _ in 0..28 {
        assert!(scene.says("G").is_empty());
        scene.passes(1);
    }
    assert_eq!(scene.http.len(), 1);
    scene.passes(3);
    assert_eq!(scene.http.len(), 0);
}

#[test]
fn a_body_that_stops_is_given_up_and_the_visitor_told() {
    for drip in [false, true] {
        let mut scene = Scene::new();
        let exchange = scene.asks(POST);
        scene.http.set_room(exchange, 100_000);
        let mut facts = scene.run();
        for _ in 0..28 {
            if drip {
                facts.extend(scene.says("x"));
            }
            facts.extend(scene.passes(1));
        }
        assert!(facts.iter().all(|fact| matches!(fact, Fact::Body { .. })), "{facts:?}");
        assert!(is_gone(&scene.passes(3), exchange), "drip {drip}");
        let (text, ended) = scene.hears();
        assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("x-steadfast: body-timeout\r\n") && ended, "{text}");
        scene.passes(5);
        assert_eq!(scene.http.len(), 0);
    }
}

#[test]
fn a_body_that_moves_has_time_and_one_for_which_there_is_no_room_has_all() {
    let mut scene = Scene::new();
    let exchange = scene.asks(POST);
    assert!(scene.passes(1000).is_empty(), "the core has not asked for it");
    scene.http.set_room(exchange, 100_000);
    scene.run();
    for _ in 0..4 {
        let facts = scene.says(&"x".repeat(1250));
        assert!(matches!(facts.first(), Some(Fact::Body { .. })), "{facts:?}");
        assert!(!scene.passes(25).iter().any(|fact| matches!(fact, Fact::Gone { .. })));
    }
    assert!(scene.passes(1000).is_empty(), "all of it has come: it is the core's turn");
    assert_eq!(scene.http.len(), 1);
}

#[test]
fn a_visitor_who_reads_nothing_is_given_up_after_60_seconds() {
    let mut scene = Scene::new();
    let exchange = scene.asks(GET);
    let head = cgi::parse(b"A: b\n\n").expect("a head");
    scene.http.head(exchange, head, "id-1");
    scene.http.push(exchange, &vec![b'x'; 2_000_000]).expect("nothing is promised");
    scene.run();
    assert!(scene.http.buffered(exchange) > 1_000_000);
    assert!(scene.passes(55).is_empty());
    // Reading a little is a beginning.
    let (text, _) = scene.hears();
    assert!(text.len() > 10_000);
    assert!(scene.turn().is_empty());
    assert!(scene.passes(55).is_empty());
    let facts = scene.passes(10);
    assert!(is_gone(&facts, exchange), "{facts:?}");
    assert_eq!(scene.http.len(), 0);
}

#[test]
fn the_core_is_told_when_there_is_room_again() {
    let mut scene = Scene::new();
    let exchange = scene.asks(GET);
    let head = cgi::parse(b"A: b\n\n").expect("a head");
    scene.http.head(exchange, head, "id-1");
    scene.http.push(exchange, &vec![b'x'; 2_000_000]).expect("nothing is promised");
    let mut facts = scene.run();
    while facts.is_empty() {
        assert!(!scene.hears().0.is_empty());
        facts = scene.turn();
    }
    assert!(matches!(facts.as_slice(), [Fact::Taken { .. }]), "{facts:?}");
    assert!(scene.http.buffered(exchange) <= crate::limits::BACKLOG_LOW);
    scene.http.end(exchange).expect("nothing is promised");
    let mut last = String::new();
    while !last.ends_with("\r\n0\r\n\r\n") {
        scene.turn();
        last = scene.hears().0;
        assert!(!last.is_empty());
    }
}

#[test]
fn what_is_said_of_an_exchange_that_is_over_reaches_nobody() {
    let mut scene = Scene::new();
    let first = scene.asks(GET);
    scene.answers(first, b"one");
    let second = scene.asks(GET);
    scene.http.cut(first);
    scene.http.push(first, b"evil").expect("ignored");
    scene.http.end(first).expect("ignored");
    scene.answers(second, b"two");
    let (text, ended) = scene.hears();
    assert!(text.ends_with("two") && !text.contains("evil") && !ended, "{text}");
}

#[test]
fn what_is_cut_before_anything_has_gone_is_a_502_and_after_that_no_end() {
    for (has_head, has_gone) in [(false, false), (true, false), (true, true)] {
        let mut scene = Scene::new();
        let exchange = scene.asks(GET);
        if has_head {
            scene.http.head(exchange, cgi::parse(b"A: b\n\n").expect("a head"), "id-1");
            scene.http.push(exchange, b"half").expect("nothing is promised");
        }
        if has_gone {
            scene.run();
        }
        scene.http.cut(exchange);
        assert!(scene.run().is_empty(), "the core knows");
        let (text, ended) = scene.hears();
        if has_gone {
            assert!(text.ends_with("4\r\nhalf\r\n") && ended, "{text}");
        } else {
            assert!(
                text.starts_with("HTTP/1.1 502 ") && text.ends_with("</html>\n") && !text.contains("half"),
                "{text}"
            );
        }
        scene.passes(100);
        assert_eq!(scene.http.len(), 0);
    }
}

#[test]
fn a_pool_that_leaves_takes_its_idle_connections_with_it() {
    let mut scene = Scene::new();
    scene.http.shut(Some(2));
    scene.run();
    assert_eq!((scene.http.len_of(1), scene.http.len_of(2)), (1, 0));
    let exchange = scene.asks(GET);
    scene.http.shut(Some(1));
    scene.run();
    assert_eq!(scene.http.len(), 1, "it has something in hand");
    scene.answers(exchange, b"last");
    let (text, ended) = scene.hears();
    assert!(text.contains("connection: close\r\n") && text.ends_with("last") && ended, "{text}");
    drop(scene.visitor);
    scene.http.ready(scene.key, true, true, true);
    scene.http.run(scene.now);
    assert_eq!((scene.http.len(), scene.http.len_of(1)), (0, 0));
}

#[test]
fn a_connection_that_is_silent_is_not_waited_for() {
    let mut scene = Scene::new();
    let exchange = scene.asks(GET);
    scene.answers(exchange, b"page");
    assert!(scene.hears().0.ends_with("page"));
    scene.http.shut(None);
    scene.run();
    assert_eq!(scene.http.len(), 0, "the visitor has not even closed");
}
