//! `steadfast bench` against real servers, and every kind of failure that it counts.

use steadfast_harness as support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use rustix::process::Signal;
use serde_json::Value;
use support::apps;
use support::conditions::{cpu, is_soon};
use support::daemon::STEADFAST;
use support::nginx::Nginx;
use support::scene::Scene;
use support::standalone::{Standalone, tool};

/// A complete FastCGI answer: `Content-Type: text/plain`, an empty line, `ok`; STDOUT and END.
const ANSWER: &[u8] = b"\x01\x06\x00\x01\x00\x1e\x02\x00Content-Type: text/plain\r\n\r\nok\0\0\
                        \x01\x03\x00\x01\x00\x08\x00\x00\0\0\0\0\0\0\0\0";

/// Runs it with `--json` and gives the document, whatever the exit code is.
fn bench(arguments: &[&str]) -> (Value, Option<i32>) {
    document(&tool("bench", &[arguments, &["--json"]].concat()))
}

fn document(output: &Output) -> (Value, Option<i32>) {
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    let document = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}\n{said}"));
    (document, output.status.code())
}

#[track_caller]
fn number(document: &Value, pointer: &str) -> u64 {
    document.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {document}"))
}

#[track_caller]
fn ms(document: &Value, name: &str) -> f64 {
    document["latency_ms"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {document}"))
}

/// How many failures of this kind there were.
fn failures(document: &Value, kind: &str) -> u64 {
    let all = document["failures"].as_array().expect("a list");
    let of_kind = all.iter().filter(|failed| failed["kind"] == kind);
    of_kind.map(|failed| failed["count"].as_u64().expect("a count")).sum()
}

/// A server of raw bytes: each connection's requests are counted, and `answer` says what is sent, nothing being a close.
fn serve(answer: impl Fn(usize) -> Option<&'static [u8]> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = listener.local_addr().expect("it is bound");
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 65_536];
            for number in 0.. {
                // One read is one request: it is sent by one write, and the next one follows its answer only.
                if !matches!(stream.read(&mut request), Ok(1..)) {
                    break;
                }
                let Some(bytes) = answer(number) else {
                    break;
                };
                if stream.write_all(bytes).is_err() {
                    break;
                }
            }
        }
    });
    address
}

#[test]
fn so_many_requests_are_sent_and_answered() {
    let scene = Scene::new();
    let worker = Standalone::unix(&scene, "c", &[apps::worker()]);
    let (document, code) = bench(&[worker.address(), "/", "-n", "500", "-c", "4"]);
    assert_eq!(code, Some(0), "{document}");
    assert_eq!((number(&document, "/requests/ok"), number(&document, "/requests/failed")), (500, 0), "{document}");
    assert_eq!(number(&document, "/connects"), 500, "FastCGI connections are not kept: {document}");
    assert!(document["rps"].as_f64().expect("a number") > 10.0, "{document}");
    let percentiles = ["p50", "p90", "p99", "p99.9", "max"].map(|name| ms(&document, name));
    assert!(percentiles[0] > 0.0 && percentiles.is_sorted(), "{document}");
    let sent = number(&document, "/request_bytes");
    assert_eq!(number(&document, "/bytes/written"), 500 * sent, "{document}");
    assert!((400..700).contains(&sent), "as long as nginx's: {document}");
}

#[test]
fn kept_connections_are_kept() {
    let scene = Scene::new();
    let worker = Standalone::unix(&scene, "c", &[apps::worker()]);
    let (document, _) = bench(&[worker.address(), "/", "-n", "500", "-c", "1", "--keep-alive"]);
    assert_eq!((number(&document, "/requests/ok"), number(&document, "/connects")), (500, 1), "{document}");
    let perl = Standalone::tcp(&apps::perl(None));
    let (document, _) = bench(&[perl.address(), "/", "-n", "200", "-c", "1", "--keep-alive"]);
    assert_eq!((number(&document, "/requests/ok"), number(&document, "/connects")), (200, 1), "{document}");
}

#[test]
fn php_cgi_and_large_bodies_work() {
    let php = Standalone::php();
    let script = format!("SCRIPT_FILENAME={}", apps::php_script());
    let (document, code) = bench(&[php.address(), "/", "-n", "50", "-c", "2", "--param", &script]);
    assert_eq!((code, number(&document, "/requests/ok")), (Some(0), 50), "{document}");
    let scene = Scene::new();
    let worker = Standalone::unix(&scene, "c", &[apps::worker()]);
    let body = scene.write("body", &"x".repeat(1_000_000));
    let data = format!("@{}", body.display());
    let (document, _) = bench(&[worker.address(), "/echo", "-n", "10", "-c", "3", "--data", &data]);
    assert_eq!(number(&document, "/requests/ok"), 10, "{document}");
    assert!(number(&document, "/bytes/read") > 10_000_000 && number(&document, "/bytes/written") > 10_000_000);
}

#[test]
fn http_through_nginx_is_kept_or_not() {
    let scene = Scene::new();
    let worker = Standalone::unix(&scene, "c", &[apps::worker()]);
    let nginx = Nginx::start(&scene, &worker.fcgi(), "");
    let address = format!("http://{}", nginx.address());
    let (document, code) = bench(&[&address, "/", "-n", "400", "-c", "4"]);
    assert_eq!((code, number(&document, "/requests/ok")), (Some(0), 400), "{document}");
    assert!(number(&document, "/connects") <= 4, "{document}");
    let (document, _) = bench(&[&address, "/", "-n", "100", "-c", "4", "--close"]);
    assert_eq!((number(&document, "/requests/ok"), number(&document, "/connects")), (100, 100), "{document}");
    drop(worker);
    let (document, code) = bench(&[&address, "/", "-n", "20", "-c", "2"]);
    assert_eq!((code, failures(&document, "status")), (Some(1), 20), "{document}");
    assert_eq!(number(&document, "/failures/0/status"), 502, "{document}");
}

#[test]
fn the_duration_ends_it() {
    let scene = Scene::new();
    let worker = Standalone::unix(&scene, "c", &[apps::worker()]);
    let (document, code) = bench(&[worker.address(), "-d", "300ms", "-c", "2", "--warmup", "100ms"]);
    let elapsed = document["elapsed_ms"].as_f64().expect("a number");
    assert!((300.0..301.0).contains(&elapsed), "the warm-up is not a part of it: {document}");
    assert_eq!(code, Some(0), "{document}");
    assert_eq!(number(&document, "/requests/failed"), 0, "{document}");
    assert!(number(&document, "/requests/ok") > 10, "{document}");
}

#[test]
fn a_stall_is_felt_by_all_who_would_have_come_meanwhile() {
    // Request 100 takes half a second. At 200 a second 100 others fall due in that time.
    let stalls = "use FCGI; my ($n, $r) = (0, FCGI::Request()); \
                  while ($r->Accept >= 0) { select undef, undef, undef, 0.5 if ++$n == 100; print \"A: b\\n\\nok\" }";
    let run = |arguments: &[&str]| {
        let worker = Standalone::tcp(&["/usr/bin/perl", "-e", stalls]);
        bench(&[&[worker.address(), "/", "-c", "1", "--keep-alive", "-n", "400"], arguments].concat()).0
    };
    let open = run(&["--rate", "200"]);
    assert_eq!(number(&open, "/requests/ok"), 400, "{open}");
    assert!(ms(&open, "p90") > 200.0, "a quarter of them waited: {open}");
    assert!((50..=150).contains(&number(&open, "/backlog_peak")), "{open}");
    let closed = run(&[]);
    assert!(ms(&closed, "p90") < 200.0 && ms(&closed, "max") >= 500.0, "only one saw it: {closed}");
    assert_eq!(number(&closed, "/backlog_peak"), 0, "{closed}");
}

#[test]
fn alone_a_rate_is_kept_and_what_could_not_be_sent_is_counted() {
    let scene = Scene::new();
    let worker = Standalone::unix(&scene, "c", &[apps::worker()]);
    let (document, _) = bench(&[worker.address(), "/", "--rate", "500", "-d", "1s", "-c", "8"]);
    assert_eq!(number(&document, "/requests/total"), 500, "{document}");
    assert_eq!(number(&document, "/requests/ok"), 500, "{document}");
    // 20 a second are possible, 200 are wanted.
    let (document, _) = bench(&[worker.address(), "/sleep?0.05", "--rate", "200", "-d", "1s", "-c", "1"]);
    assert_eq!(number(&document, "/requests/total"), 200, "none is forgotten: {document}");
    assert!(failures(&document, "not-sent") >= 150, "{document}");
    assert!(ms(&document, "max") >= 800.0, "the last one waited for nearly all of the time: {document}");
}

#[test]
fn who_is_silent_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let (document, code) = bench(&[&address, "/", "-n", "6", "-c", "3", "--timeout", "200ms"]);
    assert_eq!((code, failures(&document, "timeout")), (Some(1), 6), "{document}");
    assert_eq!(document["latency_ms"], Value::Null);
    // Open loop: those for whom no connection became free have waited as long.
    let (document, _) = bench(&[&address, "/", "-n", "10", "-c", "1", "--timeout", "200ms", "--rate", "100"]);
    assert_eq!(failures(&document, "timeout"), 10, "{document}");
}

#[test]
fn answers_that_are_none_are_counted_by_kind() {
    for (answer, kind) in [
        (Some(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]), "garbled"),
        (Some(&b"\x01\x03\x00\x01\x00\x08\x00\x00\0\0\0\0\0\0\0\0"[..]), "garbled"),
        (Some(&b"\x01\x03\x00\x01\x00\x08\x00\x00\0\0\0\0\x02\0\0\0"[..]), "garbled"),
        (None, "early-end"),
    ] {
        let address = serve(move |_| answer).to_string();
        let (document, code) = bench(&[&address, "/", "-n", "20", "-c", "2"]);
        assert_eq!((code, failures(&document, kind)), (Some(1), 20), "{document}");
    }
    // One byte too many: the answer before it is not believed.
    let address = serve(|_| Some(const { &joined() })).to_string();
    let (document, _) = bench(&[&address, "/", "-n", "5", "-c", "1", "--keep-alive"]);
    assert_eq!(failures(&document, "garbled"), 5, "{document}");
}

/// [`ANSWER`] and a byte.
const fn joined() -> [u8; ANSWER.len() + 1] {
    let mut bytes = [1; ANSWER.len() + 1];
    let mut at = 0;
    while at < ANSWER.len() {
        bytes[at] = ANSWER[at];
        at += 1;
    }
    bytes
}

#[test]
fn a_kept_connection_that_was_just_closed_is_no_failure_for_a_get() {
    let address = serve(|number| (number < 10).then_some(ANSWER)).to_string();
    let (document, _) = bench(&[&address, "/", "-n", "100", "-c", "1", "--keep-alive"]);
    assert_eq!((number(&document, "/requests/ok"), number(&document, "/requests/failed")), (100, 0), "{document}");
    assert_eq!((number(&document, "/requests/resent"), number(&document, "/connects")), (9, 10), "{document}");
    let (document, _) = bench(&[&address, "/", "-n", "100", "-c", "1", "--keep-alive", "--data", "x"]);
    assert_eq!(number(&document, "/requests/resent"), 0, "a POST is never sent twice: {document}");
    assert_eq!(failures(&document, "early-end"), 9, "{document}");
}

#[test]
fn a_full_queue_is_a_failure_of_its_own() {
    let scene = Scene::new();
    let path = scene.join("full.sock");
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path).expect("short")).expect("bound");
    rustix::net::listen(&socket, 0).expect("listens");
    let address = format!("unix:{}", path.display());
    let (document, code) = bench(&[&address, "/", "-n", "4", "-c", "4", "--timeout", "300ms"]);
    // One connection fits into the queue, and nobody takes it.
    assert_eq!((code, failures(&document, "backlog-full")), (Some(1), 3), "{document}");
    assert_eq!(failures(&document, "timeout"), 1, "{document}");
}

#[test]
fn who_dies_meanwhile_is_refused_afterwards() {
    let scene = Scene::new();
    let path = scene.join("gone.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let thread = std::thread::spawn(move || {
        for _ in 0..10 {
            let (mut stream, _) = listener.accept().expect("a connection");
            let read = stream.read(&mut [0; 4096]).expect("a request");
            assert!(read > 0);
            stream.write_all(ANSWER).expect("it waits for the answer");
        }
    });
    let (document, code) = bench(&[&format!("unix:{}", path.display()), "/", "-n", "15", "-c", "1"]);
    thread.join().expect("ten answers");
    assert_eq!((code, number(&document, "/requests/ok")), (Some(0), 10), "{document}");
    assert_eq!(failures(&document, "connect-refused"), 5, "{document}");
}

#[test]
fn being_refused_is_no_reason_to_spin() {
    let scene = Scene::new();
    let path = scene.join("gone.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    // It closes its first connection, and nobody listens any more.
    let thread = std::thread::spawn(move || drop(listener.accept()));
    let (document, _) = bench(&[&format!("unix:{}", path.display()), "/", "-d", "500ms", "-c", "2"]);
    thread.join().expect("one connection");
    let refused = failures(&document, "connect-refused");
    assert!((1..=24).contains(&refused), "each connection tries every 50 ms: {document}");
    assert!(document["client_cpu"].as_f64().expect("a number") < 0.5, "{document}");
}

#[test]
fn nobody_there_is_told_at_once() {
    let output = tool("bench", &["unix:/nowhere/site.sock"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot connect to unix:/nowhere/site.sock: there is no such socket\nhint: "), "{said}");
    let output = tool("bench", &["-c", "site.toml", "unix:/x"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_interrupt_shows_what_was_measured_so_far() {
    let scene = Scene::new();
    let worker = Standalone::unix(&scene, "c", &[apps::worker()]);
    for signal in [Signal::INT, Signal::TERM] {
        let before = cpu(worker.pid());
        let child = Command::new(STEADFAST)
            .args(["bench", worker.address(), "/", "-d", "10m", "-c", "2", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        assert!(is_soon(|| (cpu(worker.pid()) - before).as_millis() > 20), "the worker has something to do");
        support::proc::kill(child.id(), signal).expect("it runs");
        let (document, code) = document(&child.wait_with_output().expect("it ends"));
        assert_eq!((code, &document["interrupted"]), (Some(0), &Value::Bool(true)), "{document}");
        assert!(number(&document, "/requests/ok") > 0, "{document}");
        assert_eq!(number(&document, "/requests/failed"), 0, "those in flight are waited for: {document}");
    }
}

#[test]
fn people_get_lines() {
    let scene = Scene::new();
    let worker = Standalone::unix(&scene, "c", &[apps::worker()]);
    let output = tool("bench", &[worker.address(), "/", "-n", "50", "-c", "2"]);
    let text = String::from_utf8_lossy(&output.stdout);
    for begin in ["GET / of unix:", "requests/s ", "requests      50, 0 failed", "latency       p50 ", "bytes "] {
        assert!(text.lines().any(|line| line.starts_with(begin)), "no {begin:?} in\n{text}");
    }
}
