//! Faults 93 to 97: input that was made to hurt, from web servers' side and from workers', through everything that runs.
//!
//! What the front answers to each kind of it stands in crates/front/tests/hostile_clients.rs and hostile_workers.rs. Here
//! it is seen that the workers are fine, that the site keeps answering (S), and that neither the supervisor nor the
//! front spins or floods the log (B).

use steadfast_harness as support;

use std::time::{Duration, Instant};

use serde_json::Value;
use steadfast_proto::fcgi::record::{kind, role};
use support::apps::Language;
use support::conditions::{Conditions, is_soon, is_within, own_lines, tail};
use support::daemon::{self, Config, Daemon, Pool, SOON};
use support::fcgi::{Address, InFlight, Request};
use support::flood::{Flood, kinds};
use support::scene::{Scene, allow};
use support::siege::{assert_calm, assert_unblamed, ended};
use support::{apps, proc};

fn start(scene: &Scene, pool: Pool, workers: u64) -> Daemon {
    let mut daemon = Config::new(&[pool.queue().workers(&workers.to_string())]).start(scene);
    daemon.wait_serving("site");
    is_whole(&mut daemon, workers);
    daemon
}

fn is_whole(daemon: &mut Daemon, workers: u64) {
    let is_whole = is_soon(|| {
        let counts = daemon.pool("site")["workers"].clone();
        counts["serving"] == workers && counts["idle"] == workers
    });
    assert!(is_whole, "not {workers} idle workers: {}\n{}", daemon.pool("site"), tail(daemon));
}

/// A record as it should be, but for what is given.
fn record(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let mut bytes = vec![1, kind];
    bytes.extend(id.to_be_bytes());
    bytes.extend(u16::try_from(content.len()).expect("it fits").to_be_bytes());
    bytes.extend([padding, 0]);
    bytes.extend(content);
    bytes.resize(bytes.len() + usize::from(padding), 0);
    bytes
}

fn begin(id: u16) -> Vec<u8> {
    let [high, low] = role::RESPONDER.to_be_bytes();
    record(kind::BEGIN_REQUEST, id, &[high, low, 1, 0, 0, 0, 0, 0], 0)
}

/// Numbers that look random and are the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).expect("it is below an usize")
    }
}

/// Workers that did not change, the site that answers meanwhile, and nobody busy afterwards.
struct Siege {
    scene: Scene,
    daemon: Daemon,
    at: Address,
    workers: Vec<u32>,
    conditions: Conditions,
}

impl Siege {
    fn begin(pool: Pool) -> Siege {
        let scene = Scene::new();
        let mut daemon = start(&scene, pool, 2);
        let at = daemon::address(&scene, "site");
        let workers = daemon.workers("site");
        let conditions = Conditions::begin(&mut daemon, &at);
        Siege { scene, daemon, at, workers, conditions }
    }

    /// Says this on a connection of its own, and stays.
    fn say(&self, bytes: &[u8]) -> InFlight {
        let mut visitor = Request::connect(&self.at).expect("it listens");
        // It may be closed before all of it is written.
        let _closed = visitor.write(bytes);
        visitor
    }

    fn end(mut self) {
        self.conditions.end(&mut self.daemon, 0);
        is_whole(&mut self.daemon, 2);
        assert_eq!(self.daemon.workers("site"), self.workers, "{}", tail(&mut self.daemon));
        assert_unblamed(&self.daemon, "site");
        let pool = self.daemon.pool("site");
        assert_eq!(pool["quarantine"], Value::Array(Vec::new()), "{pool}");
        assert_calm(&self.daemon);
        self.daemon.stop_idle();
        drop(self.scene);
    }
}

/// Records of any version, type, id, length and padding, whole and cut, and good requests with a few bytes changed.
#[test]
fn fault_093_malformed_records_end_to_end() {
    let siege = Siege::begin(Pool::new("site", &[apps::worker()]));
    let params = {
        let head = Request::get("/spoiled").keep().head();
        head[16..].to_vec()
    };
    let good = [begin(1), params, record(kind::STDIN, 1, b"", 0)].concat();
    let mut named = vec![
        vec![0, 1, 0, 1, 0, 8, 0, 0],
        vec![255; 65_536],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        [begin(1), record(kind::STDIN, 1, &[0; 65_535], 255)].concat(),
        [begin(1), begin(1)].concat(),
        record(kind::PARAMS, 0, &[0; 65_535], 255),
        [begin(0), record(kind::PARAMS, 0, b"", 0)].concat(),
        // Lengths of 2 GiB in a record of a few bytes.
        [
            begin(1),
            record(kind::PARAMS, 1, b"\xff\xff\xff\xff\xff\xff\xff\xffname", 7),
            record(kind::PARAMS, 1, b"", 0),
        ]
        .concat(),
    ];
    for kind in 0..=255 {
        named.push([begin(1), record(kind, 1, b"x", 3)].concat());
    }
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..1500 {
        let mut bytes = good.clone();
        for _ in 0..=dice.roll(4) {
            let at = dice.roll(bytes.len());
            bytes[at] = u8::try_from(dice.roll(256)).expect("a byte");
        }
        bytes.truncate(1 + dice.roll(bytes.len()));
        named.push(bytes);
    }
    let held: Vec<InFlight> = named
        .iter()
        .enumerate()
        .filter_map(|(number, bytes)| {
            let visitor = siege.say(bytes);
            // Most go at once; some stay as long as the test.
            (number % 20 == 0).then_some(visitor)
        })
        .collect();
    let answer = Request::get("/").send(&siege.at).expect("S");
    assert!(siege.workers.contains(&answer.pid()));
    drop(held);
    siege.end();
}

/// Parameters without end, in numbers, in length and in records: the front's memory stays what it was.
#[test]
fn fault_094_bombs_of_parameters_end_to_end() {
    let siege = Siege::begin(Pool::new("site", &[apps::worker()]));
    let front = siege.daemon.front();
    let before = proc::rss(front);
    let mut many = Request::get("/bomb");
    for number in 0..20_000 {
        many = many.param(&format!("HTTP_N{number}"), "");
        if number >= 4_000 {
            break;
        }
    }
    let large = "x".repeat(60_000);
    let bombs = [
        many.clone(),
        (0..8).fold(Request::get("/bomb"), |request, number| request.param(&format!("HTTP_L{number}"), &large)),
        Request::get("/bomb").param(&"N".repeat(60_000), "x"),
        Request::get("/bomb").param("HTTP_LONG", &"x".repeat(1_000_000)),
    ];
    for bomb in &bombs {
        let answer = bomb.send(&siege.at);
        assert!(answer.as_ref().is_ok_and(|answer| answer.status == 431), "{:?}", answer.map(|answer| answer.status));
    }
    // For ever, over many connections at once; whoever is told so and goes on is not kept.
    let mut endless: Vec<InFlight> = (0..50).map(|_| siege.say(&begin(1))).collect();
    let piece = record(kind::PARAMS, 1, &[0; 60_000], 0);
    let mut written = 0;
    for _ in 0..20 {
        for visitor in &mut endless {
            written += usize::from(visitor.write(&piece).is_ok());
        }
    }
    assert!(written > 250, "{written} pieces of 60 kB");
    // Fifty of them may each hold what one request may have, and no more.
    let after = proc::rss(front);
    assert!(after < before + 50 * (1 << 20) / 2 + (16 << 20), "{before} bytes, then {after}");
    drop(endless);
    siege.end();
}

/// Management records, aborts of everything, and 100 ids on one connection: each gets what the specification says, and
/// of a hundred requests that were begun and taken back none reaches a worker.
#[test]
fn fault_095_abort_get_values_unknown_types_and_many_ids_end_to_end() {
    let scene = Scene::new();
    let log = scene.shared_file("runs");
    let pool = Pool::new("site", &Language::C.command()).environment("COUNT_LOG", &log.display().to_string());
    let mut siege = Siege::begin(pool);
    let whole = |id: u16, path: &str| {
        let mut bytes = Request::get(path).keep().bytes();
        // Each record's id: its third and fourth byte.
        let mut at = 0;
        while at < bytes.len() {
            bytes[at + 2..at + 4].copy_from_slice(&id.to_be_bytes());
            at += 8 + usize::from(u16::from_be_bytes([bytes[at + 4], bytes[at + 5]]));
        }
        bytes
    };
    for round in 0..20_u16 {
        let mut bytes = Vec::new();
        for id in 1..=100 {
            bytes.extend(begin(id));
        }
        for id in 1..=100 {
            bytes.extend(record(kind::ABORT_REQUEST, id, b"", 0));
            bytes.extend(record(kind::ABORT_REQUEST, id + 100, b"", 255));
        }
        for kind in 12..=255 {
            bytes.extend(record(kind, 0, b"?", 7));
        }
        bytes.extend(record(kind::GET_VALUES, 0, b"\x0e\x00FCGI_MAX_CONNS\x0f\x00FCGI_MPXS_CONNS\x07\x00no_such", 1));
        let mut visitor = siege.say(&bytes);
        visitor.write(&whole(7, &format!("/hello?{round}"))).expect("it is still there");
        let answers = read_records(&mut visitor);
        let count = |kind: u8| answers.iter().filter(|(other, ..)| *other == kind).count();
        assert_eq!((count(kind::END_REQUEST), count(kind::UNKNOWN_TYPE)), (101, 244), "round {round}");
        assert_eq!(count(kind::GET_VALUES_RESULT), 1);
        let page = answers.iter().find(|(kind, id, content)| *kind == kind::STDOUT && *id == 7 && content.len() > 10);
        let page = String::from_utf8_lossy(&page.expect("an answer for id 7").2).into_owned();
        assert!(page.ends_with("hello\n"), "{page}");
    }
    let runs = std::fs::read_to_string(&log).expect("the log is ours");
    let of_ours = runs.lines().filter(|line| line.contains("/hello?")).count();
    assert_eq!(of_ours, 20, "nothing that was taken back has run");
    assert!(is_soon(|| siege.daemon.pool("site")["workers"]["busy"] == 0), "{}", tail(&mut siege.daemon));
    siege.end();
}

/// All records up to the end of the request with id 7 that has an answer.
fn read_records(visitor: &mut InFlight) -> Vec<(u8, u16, Vec<u8>)> {
    let mut all: Vec<(u8, u16, Vec<u8>)> = Vec::new();
    loop {
        let (kind, id, content) = visitor.record().expect("another record");
        let is_answered =
            all.iter().any(|(kind, id, content)| *kind == kind::STDOUT && *id == 7 && !content.is_empty());
        all.push((kind, id, content));
        if kind == kind::END_REQUEST && id == 7 && is_answered {
            return all;
        }
    }
}

/// There is no memory that workers share with the supervisor. What a worker can lie about is its answers: each lie fails
/// its own request, or is not believed, and the next request of the same worker is served.
#[test]
fn fault_096_a_worker_that_lies_end_to_end() {
    let scene = Scene::new();
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/liar.pl");
    let program = scene.join("liar.pl");
    std::fs::copy(source, &program).expect("the program is there");
    allow(&program, 0o755);
    let command = ["/usr/bin/perl".to_owned(), program.display().to_string()];
    let pool = Pool::new("site", &command).key("request-timeout", "\"2s\"").key("slow-request", "\"1s\"");
    let mut daemon = start(&scene, pool, 3);
    let at = daemon::address(&scene, "site");
    let conditions = Conditions::begin(&mut daemon, &at);
    let lines = own_lines(&mut daemon);
    // 0: the lie is not believed, and the answer is the true one.
    let lies =
        [("id", 502), ("twice", 0), ("refuse", 502), ("values", 502), ("nonsense", 502), ("more", 0), ("stderr", 0)];
    for (lie, expected) in lies {
        // Not to be tried twice, so that each lie is told once.
        let request = Request::get(&format!("/lie?{lie}")).body(b"x").timeout(SOON);
        let told = request.send(&at).map(|answer| (answer.status, answer.header("X-Steadfast").map(str::to_owned)));
        match (expected, &told) {
            (0, Ok((200, None))) => {}
            (502 | 504, Ok((502 | 504, Some(_)))) => {}
            _ => panic!("{lie}: {told:?}\n{}", tail(&mut daemon)),
        }
    }
    // Heads that split or mislead: what passes over FastCGI is the web server's to judge, and never a second answer.
    for lie in ["split", "length", "status"] {
        let answer = Request::get(&format!("/lie?{lie}")).body(b"x").timeout(SOON).send(&at);
        let is_one = answer.as_ref().is_ok_and(|answer| !answer.text().contains("Content-Type"));
        assert!(is_one || answer.is_err(), "{lie}: {answer:?}");
    }
    is_whole(&mut daemon, 3);
    conditions.end(&mut daemon, 0);
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    assert!(own_lines(&mut daemon) - lines <= 30, "B\n{}", tail(&mut daemon));
    let forged = daemon.lines().iter().filter(|line| line.name() == "breaker-opened").count();
    assert_eq!(forged, 0, "a worker has written the supervisor's own lines\n{}", tail(&mut daemon));
    assert!(daemon.lines().iter().all(|line| !line.text.contains('\u{1b}')), "escaped");
    assert_calm(&daemon);
    daemon.stop_idle();
}

/// One request in a hundred kills, each time another one, before, during and after a deploy: it is the attacker's doing
/// and no release's. Nobody else's request fails, the starts stay within the bucket, nothing is rolled back, and no more
/// than 64 are remembered.
#[test]
fn fault_097_an_attacker_varies_the_poison_end_to_end() {
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let release = |name: &str| {
        Pool::new("site", &Language::C.command())
            .environment("START_LOG", &log.display().to_string())
            .environment("RELEASE", name)
    };
    let mut daemon = start(&scene, release("one"), 4);
    let (begun, lines) = (Instant::now(), own_lines(&mut daemon));
    let is_poison = |number: u64| number % 100 == 50;
    let flood = Flood::start(&daemon::address(&scene, "site"), 500, 48, move |number| {
        let path = if is_poison(number) { format!("/crash?order={number}") } else { format!("/hello?page={number}") };
        Request::get(&path)
    });
    // Death is nothing new when the deploy comes.
    assert!(is_soon(|| ended(&daemon, "site", "crashed") >= 4), "{}\n{}", daemon.pool("site"), tail(&mut daemon));
    Config::new(&[release("two").queue().workers("4")]).write(&scene);
    let said = daemon.verb(&["reload", "--wait", "--timeout", "30s"]);
    let more_than_64 = is_within(Duration::from_secs(25), || ended(&daemon, "site", "crashed") >= 140);
    let all = flood.stop();
    assert!(more_than_64, "{}\n{}", kinds(&all), daemon.pool("site"));
    let seconds = begun.elapsed().as_secs() + 1;
    let (poisoned, others): (Vec<_>, Vec<_>) = all.iter().partition(|told| is_poison(told.number));
    assert!(others.iter().all(|told| told.is_good()), "{}\n{}", kinds(&all), tail(&mut daemon));
    assert!(poisoned.iter().all(|told| told.status == 502 || told.status == 500), "{}", kinds(&all));
    let rolled = daemon.event_names().iter().filter(|name| *name == "generation-rolled-back").count();
    assert_eq!((said.code, rolled), (0, 0), "{said:?}\n{}", tail(&mut daemon));
    is_whole(&mut daemon, 4);
    let pool = daemon.pool("site");
    assert_eq!((&pool["breaker"]["state"], &pool["generation"]), (&"closed".into(), &2.into()), "{pool}");
    let denied = pool["quarantine"].as_array().map_or(0, Vec::len);
    assert!(denied <= 64, "{denied} are remembered");
    let starts = proc::starts(&log).len() as u64;
    let most = 4 + 8 + 6 + seconds + (others.len() as u64).div_ceil(20);
    assert!(starts <= most, "{starts} starts, at most {most}");
    assert!((own_lines(&mut daemon) - lines) as u64 <= 30 + seconds / 2, "B\n{}", tail(&mut daemon));
    eprintln!("{}, {starts} starts of {most}, {denied} remembered, {seconds} s", kinds(&all));
    assert_calm(&daemon);
    daemon.stop_idle();
}
