//! Visitors of every kind of manners at once: the good ones get their answers, and of the others nothing is left over.

use steadfast_harness as support;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::apps::Language;
use support::behaviours::{lines, sum};
use support::conditions::{is_soon, tail};
use support::daemon::{self, Config, Pool};
use support::fcgi::{Address, InFlight, Request};
use support::http::{Ask, Visitor};
use support::scene::Scene;
use support::{loopback, proc};

/// How long they come; as many at a time as make the workers wait for each other.
const DURING: Duration = Duration::from_secs(4);
const VISITORS: u64 = 10;
const WORKERS: usize = 4;

/// What a visitor does is decided by a number, so that a failure can be looked at again.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).expect("it is below the sides")
    }

    fn path(&mut self) -> &'static str {
        ["/hello", "/big?bytes=1000", "/big?bytes=400000", "/sleep?ms=3", "/echo", "/big?bytes=3000000"][self.throw(6)]
    }
}

/// Where they go.
#[derive(Clone)]
struct Site {
    http: SocketAddr,
    fcgi: Address,
}

/// One visit; what went wrong with one that was a good one.
fn visit(site: &Site, dice: &mut Dice) -> Result<(), String> {
    let kind = dice.throw(16);
    let told = |error: io::Error| format!("visit {kind}: {error}");
    match kind {
        // The good ones.
        0 => {
            let answer = Ask::get(dice.path()).send(site.http).map_err(told)?;
            if answer.status == 200 { Ok(()) } else { Err(format!("{}: {}", answer.status, answer.text())) }
        }
        1 => {
            let body = lines([0, 10, 60_000, 70_000, 300_000][dice.throw(5)]);
            let answer = Ask::post("/echo", &body).send(site.http).map_err(told)?.text();
            if answer.contains(&sum("body", &body)) { Ok(()) } else { Err(format!("{}: {answer}", body.len())) }
        }
        2 => {
            let mut visitor = Request::get("/hello").keep().start(&site.fcgi).map_err(told)?;
            visitor.read().map_err(told)?;
            for _ in 0..dice.throw(4) {
                let answer = visitor.again(&Request::get(dice.path()).keep()).map_err(told)?;
                if answer.status != 200 {
                    return Err(format!("{}: {}", answer.status, answer.text()));
                }
            }
            Ok(())
        }
        3 => {
            let body = lines([0, 5, 65_000, 66_000, 200_000][dice.throw(5)]);
            let answer = Request::get("/echo").body(&body).send(&site.fcgi).map_err(told)?.text();
            if answer.contains(&sum("body", &body)) { Ok(()) } else { Err(format!("{}: {answer}", body.len())) }
        }
        4 => {
            let count = dice.throw(12) + 1;
            let mut visitor = many(site, count).map_err(told)?;
            let mut answers = Vec::new();
            for _ in 0..count {
                visitor.read_into(|bytes| answers.extend(bytes)).map_err(told)?;
            }
            let hellos = String::from_utf8_lossy(&answers).matches("hello\n").count();
            if hellos == count { Ok(()) } else { Err(format!("{hellos} of {count} answers")) }
        }
        5 => {
            let body = lines(200_000);
            let early = Request::get("/early?bytes=2000").body(&body).keep();
            let mut visitor = early.start(&site.fcgi).map_err(told)?;
            let first = visitor.read().map_err(told)?.body.len();
            let second = visitor.again(&Request::get("/hello").keep()).map_err(told)?.text();
            if (first, second.as_str()) == (2000, "hello\n") { Ok(()) } else { Err(format!("{first} and {second}")) }
        }
        // The others may get what they like, and go as they like.
        _ => {
            let _whatever = misbehave(site, dice, kind);
            Ok(())
        }
    }
}

/// So many requests at a time on one connection.
fn many(site: &Site, count: usize) -> io::Result<InFlight> {
    let mut visitor = Request::connect(&site.fcgi)?;
    for id in 1..=count {
        let mut bytes = Request::get("/hello").keep().bytes();
        let mut at = 0;
        while at < bytes.len() {
            bytes[at + 3] = u8::try_from(id).expect("they are few");
            at += 8 + usize::from(u16::from_be_bytes([bytes[at + 4], bytes[at + 5]])) + usize::from(bytes[at + 6]);
        }
        visitor.write(&bytes)?;
    }
    Ok(visitor)
}

fn misbehave(site: &Site, dice: &mut Dice, kind: usize) -> io::Result<()> {
    let leave = |visitor: Visitor, is_rude: usize| {
        if is_rude == 1 {
            visitor.reset();
        }
    };
    match kind {
        // Gone before the answer, or in the middle of it.
        6 | 7 => {
            let mut visitor = Visitor::connect(site.http)?;
            visitor.write(&Ask::get(dice.path()).bytes())?;
            if kind == 7 {
                visitor.read_head()?;
            }
            leave(visitor, dice.throw(2));
        }
        // Gone in the middle of the head or the body.
        8 => {
            let mut visitor = Visitor::connect(site.http)?;
            let bytes = Ask::post("/echo", &lines([100, 300_000][dice.throw(2)])).bytes();
            visitor.write(&bytes[..dice.throw(bytes.len())])?;
            leave(visitor, dice.throw(2));
        }
        9 => {
            let mut visitor = Request::connect(&site.fcgi)?;
            let bytes = Request::get("/echo").body(&lines([100, 100_000][dice.throw(2)])).bytes();
            visitor.write(&bytes[..dice.throw(bytes.len())])?;
        }
        // Answered before the body is there, and gone.
        10 => {
            let mut visitor = Visitor::connect(site.http)?;
            let bytes = Ask::post(["/early?bytes=9000", "/early?bytes=400000&read=1"][dice.throw(2)], &lines(300_000));
            visitor.write(&bytes.bytes()[..90_000])?;
            visitor.read_head()?;
            leave(visitor, dice.throw(2));
        }
        // Nothing that makes sense.
        11 => {
            let mut visitor = Visitor::connect(site.http)?;
            let noise: Vec<u8> = (0..dice.throw(300)).map(|_| u8::try_from(dice.throw(256)).unwrap_or(0)).collect();
            visitor.write(&noise)?;
        }
        12 => {
            let mut bytes = Request::get("/hello").bytes();
            for _ in 0..3 {
                let at = dice.throw(bytes.len());
                bytes[at] = u8::try_from(dice.throw(256)).unwrap_or(0);
            }
            Request::connect(&site.fcgi)?.write(&bytes)?;
        }
        // More than one request, and gone.
        13 => {
            let mut visitor = Visitor::connect(site.http)?;
            visitor.write(&Ask::get("/hello").bytes().repeat(dice.throw(20) + 2))?;
            visitor.read("GET")?;
            leave(visitor, dice.throw(2));
        }
        14 => drop(many(site, 12)?),
        // Chunks that end in the middle, or are none.
        _ => {
            let mut visitor = Visitor::connect(site.http)?;
            let bytes = Ask::chunked("/echo", &lines([100, 150_000][dice.throw(2)]), 50_000).bytes();
            visitor.write(&bytes[..dice.throw(bytes.len())])?;
            visitor.write([&b"zz\r\n"[..], b"5\r\nab", b"ffffffffffffffffff\r\n"][dice.throw(3)])?;
        }
    }
    Ok(())
}

#[test]
fn bad_manners_leave_nothing_behind() {
    let scene = Scene::new();
    let http = loopback::address();
    let fcgi = daemon::address(&scene, "c");
    let pool = Pool::new("c", &Language::C.command())
        .queue()
        .workers(&WORKERS.to_string())
        .listen(&format!("unix:{}", daemon::socket(&scene, "c").display()))
        .listen(&format!("http://{http}"));
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_serving("c");
    assert!(is_soon(|| daemon.pool("c")["workers"]["idle"] == WORKERS), "{}", tail(&mut daemon));
    let (front, workers) = (daemon.front(), daemon.workers("c"));
    let site = Site { http, fcgi };
    let files = proc::fds(front).len();
    let end = Instant::now() + DURING;
    let threads: Vec<_> = (1..=VISITORS)
        .map(|number| {
            let site = site.clone();
            std::thread::spawn(move || {
                let mut dice = Dice(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let mut wrong = Vec::new();
                while Instant::now() < end && wrong.len() < 5 {
                    wrong.extend(visit(&site, &mut dice).err());
                }
                wrong
            })
        })
        .collect();
    let wrong: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().expect("no visit panics")).collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{}", tail(&mut daemon));
    assert!(is_soon(|| daemon.pool("c")["workers"]["busy"] == 0), "{}\n{}", daemon.pool("c"), tail(&mut daemon));
    let pool = daemon.pool("c");
    assert_eq!(daemon.workers("c"), workers, "{pool}\n{}", tail(&mut daemon));
    for what in ["lost", "timeout", "shed"] {
        assert_eq!(pool["requests"][what], 0, "{what}: {pool}");
    }
    assert!(pool["requests"]["aborted"].as_u64().is_some_and(|aborted| aborted > 100), "{pool}");
    assert_eq!(pool["breaker"]["failures"], 0.0, "{pool}");
    assert_eq!((&pool["queue"]["length"], daemon.front()), (&0.into(), front), "{pool}");
    // One connection to each worker, and none of a visitor.
    let is_empty = is_soon(|| proc::fds(front).len() <= files + WORKERS);
    assert!(is_empty, "{files} files before, now {:?}", proc::fds(front));
    daemon.stop_idle();
}
