//! The worker library against what Go's net/http/fcgi is tested with (src/net/http/fcgi/fcgi_test.go, Go 1.19).

use steadfast_harness as support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use support::apps::Language;
use support::behaviours::sum;
use support::daemon::SOON;
use support::fcgi::Address;
use support::scene::Scene;
use support::standalone::Standalone;

const BEGIN: u8 = 1;
const ABORT: u8 = 2;
const END: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const GET_VALUES: u8 = 9;
const GET_VALUES_RESULT: u8 = 10;

/// As Go's makeRecord.
fn record(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let ([high, low], [more, less]) = (id.to_be_bytes(), u16::try_from(content.len()).expect("short").to_be_bytes());
    let head = [1, kind, high, low, more, less, padding, 0];
    [&head[..], content, &vec![0; usize::from(padding)]].concat()
}

fn pair(name: &str, value: &str) -> Vec<u8> {
    let lengths = [name.len(), value.len()].map(|length| u8::try_from(length).expect("short"));
    [&lengths, name.as_bytes(), value.as_bytes()].concat()
}

/// A request for /echo up to its body, each param in a record of its own.
fn begin(id: u16) -> Vec<u8> {
    let params = [
        ("REQUEST_METHOD", "GET"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REMOTE_USER", "jane.doe"),
        ("REQUEST_URI", "/echo"),
    ];
    let mut bytes = record(BEGIN, id, &[0, 1, 0, 0, 0, 0, 0, 0], 0);
    bytes.extend(params.iter().flat_map(|(name, value)| record(PARAMS, id, &pair(name, value), 0)));
    bytes.extend(record(PARAMS, id, &[], 0));
    bytes
}

struct Worker {
    scene: Scene,
    running: Standalone,
}

impl Worker {
    fn start() -> Worker {
        let scene = Scene::new();
        let running = Standalone::unix(&scene, "app", &Language::Rust.command());
        Worker { scene, running }
    }

    fn connect(&self) -> UnixStream {
        let Address::Unix(path) = self.running.fcgi() else { panic!("it is a unix socket in {:?}", self.scene) };
        let stream = UnixStream::connect(path).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        stream
    }

    /// All that comes back until the worker closes the connection.
    fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("it reads");
        rest(&mut stream)
    }

    /// The same worker answers the next one.
    fn goes_on(&self) {
        let bytes = [begin(1), record(STDIN, 1, b"0123456789abcdef", 0), record(STDIN, 1, &[], 0)].concat();
        let text = stdout(&self.answer(&bytes));
        assert!(text.contains("REMOTE_USER=jane.doe\n"), "{text}");
        assert!(text.ends_with(&sum("body", b"0123456789abcdef")), "{text}");
    }
}

fn rest(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the worker closes the connection");
    bytes
}

/// (kind, id, content) of each.
fn records(mut bytes: &[u8]) -> Vec<(u8, u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some((head, after)) = bytes.split_first_chunk::<8>() {
        let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
        found.push((head[1], u16::from_be_bytes([head[2], head[3]]), after[..length].to_vec()));
        bytes = &after[length + usize::from(head[6])..];
    }
    assert_eq!(bytes, [0; 0], "no record");
    found
}

fn stdout(bytes: &[u8]) -> String {
    let pieces = records(bytes).into_iter().filter(|(kind, ..)| *kind == STDOUT).flat_map(|(_, _, content)| content);
    String::from_utf8_lossy(&pieces.collect::<Vec<u8>>()).into_owned()
}

/// TestStreams, "two records": 66,000 bytes under the id 300, the first record 65,535 long and padded.
#[test]
fn a_stream_of_two_records() {
    let worker = Worker::start();
    let body = vec![0; 66_000];
    let (first, second) = body.split_at(65_535);
    let bytes = [begin(300), record(STDIN, 300, first, 1), record(STDIN, 300, second, 7), record(STDIN, 300, &[], 0)];
    let answer = worker.answer(&bytes.concat());
    assert!(stdout(&answer).ends_with(&sum("body", &body)), "{}", stdout(&answer));
    assert!(records(&answer).iter().all(|(_, id, _)| *id == 300));
    assert_eq!(records(&answer).last().map(|(kind, ..)| *kind), Some(END));
}

/// TestChildServeCleansUp: the body ends in ABORT, or with the connection. Nothing is told of half a body.
#[test]
fn an_aborted_body_and_one_whose_connection_ends() {
    let worker = Worker::start();
    let half = [begin(1), record(STDIN, 1, b"0123456789abcdef", 0)].concat();
    let aborted = worker.answer(&[half.clone(), record(ABORT, 1, &[], 0)].concat());
    assert!(!stdout(&aborted).contains("body 16"), "{}", stdout(&aborted));
    worker.goes_on();
    let mut stream = worker.connect();
    stream.write_all(&half).expect("it reads");
    stream.shutdown(Shutdown::Write).expect("a socket");
    let closed = rest(&mut stream);
    assert!(!stdout(&closed).contains("body 16"), "{}", stdout(&closed));
    worker.goes_on();
}

/// TestMalformedParams (issue 11824): a pair of 100 bytes in a stream of 10. On a kept connection it is refused, and the next
/// request is answered.
#[test]
fn malformed_params() {
    let worker = Worker::start();
    let mut bytes = vec![1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0];
    bytes.extend([1, 4, 0, 1, 0, 10, 0, 0, 50, 50, 3, 4, 5, 6, 7, 8, 9, 10, 1, 4, 0, 1, 0, 0, 0, 0]);
    bytes.extend(record(STDIN, 1, &[], 0));
    bytes.extend([begin(1), record(STDIN, 1, &[], 0)].concat());
    let answer = worker.answer(&bytes);
    let text = stdout(&answer);
    assert!(text.starts_with("Status: 400 Bad Request\r\n"), "{text}");
    assert!(text.ends_with("body 0 00000000\n"), "{text}");
    assert_eq!(records(&answer).iter().filter(|(kind, ..)| *kind == END).count(), 2);
}

/// TestSlowRequest: byte for byte.
#[test]
fn a_slow_request() {
    let worker = Worker::start();
    let bytes = [begin(1), record(STDIN, 1, b"0123456789abcdef", 0), record(STDIN, 1, &[], 0)].concat();
    let mut stream = worker.connect();
    for byte in bytes {
        stream.write_all(&[byte]).expect("it reads");
    }
    let text = stdout(&rest(&mut stream));
    assert!(text.ends_with(&sum("body", b"0123456789abcdef")), "{text}");
}

/// TestGetValues asks for nothing. Go says all the same that it multiplexes; we say nothing to nothing.
#[test]
fn get_values_without_a_name() {
    let worker = Worker::start();
    let bytes = [record(GET_VALUES, 0, &[], 0), begin(1), record(STDIN, 1, &[], 0)].concat();
    let answer = records(&worker.answer(&bytes));
    assert!(answer.contains(&(GET_VALUES_RESULT, 0, Vec::new())), "{answer:?}");
    assert_eq!(answer.last().map(|(kind, ..)| *kind), Some(END));
}
