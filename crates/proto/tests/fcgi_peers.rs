//! Other people's implementations read what we write, and we read what they write: tokio-fastcgi and fastcgi-client.
//!
//! Everything is in memory, or blocks, so nothing here needs a runtime: a future that waits is a failed test.

mod support;

#[path = "../examples/hello.rs"]
#[allow(dead_code, reason = "the example's main is not for us")]
mod hello;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use fastcgi_client::io::{AsyncRead, AsyncWrite, Cursor, Result as IoResult};
use fastcgi_client::{Client, Params, Request};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::params::{pairs, push_pair};
use steadfast_proto::fcgi::record::{kind, role, status};
use steadfast_proto::fcgi::request::{Event, Limits, RequestDecoder};
use steadfast_proto::fcgi::response::{Answer, ResponseDecoder};
use support::{Seen, Told, expecting, feed, hear, record};
use tokio_fastcgi::{RequestResult, Requests};

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a future waits, though everything is there"),
    }
}

type Map = BTreeMap<String, Vec<u8>>;

/// tokio-fastcgi makes names lower case: these are.
fn map() -> impl Strategy<Value = Map> {
    let value = prop_oneof![4 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 100..300)];
    btree_map("[a-z_]{1,140}", value, 0..20)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![3 => 0..100usize, 1 => 65_500..65_560usize, 1 => 131_000..131_100usize];
    (length, any::<u8>()).prop_map(|(length, first)| (0..length).map(|n| (n as u8) ^ first).collect())
}

fn stream_of(map: &Map) -> Vec<u8> {
    let mut stream = Vec::new();
    for (name, value) in map {
        push_pair(&mut stream, name.as_bytes(), value).expect("short");
    }
    stream
}

fn map_of(stream: &[u8]) -> Map {
    pairs(stream)
        .map(|pair| pair.expect("whole pairs"))
        .map(|(name, value)| (String::from_utf8(name.to_vec()).expect("a name of ours"), value.to_vec()))
        .collect()
}

/// The same without the three params that fastcgi-client adds by itself.
fn asked_for(stream: &[u8]) -> Map {
    let mut map = map_of(stream);
    for name in ["GATEWAY_INTERFACE", "SERVER_PROTOCOL", "SERVER_SOFTWARE"] {
        assert!(map.remove(name).is_some(), "{name}");
    }
    map
}

/// What tokio-fastcgi understands of a connection's requests; it answers each with its body twice, on STDOUT and STDERR.
fn tokio_fastcgi(wire: &[u8], out: &mut Vec<u8>) -> Result<Vec<(Map, Vec<u8>)>, tokio_fastcgi::Error> {
    let mut understood = Vec::new();
    let mut requests = Requests::new(wire, out, 1, 1);
    while let Some(request) = now(requests.next())? {
        now(request.process(|request| {
            let params = request.params_iter().into_iter().flatten();
            let params: Map = params.map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            let mut body = Vec::new();
            request.get_stdin().read_to_end(&mut body).expect("in memory");
            understood.push((params, body.clone()));
            async move {
                request.get_stdout().write(&body).await.expect("in memory");
                if !body.is_empty() {
                    request.get_stderr().write(&body).await.expect("in memory");
                }
                RequestResult::Complete(7)
            }
        }))?;
    }
    Ok(understood)
}

/// The other end of a fastcgi-client: what it reads, and what it has written.
struct Other {
    answer: Cursor<Vec<u8>>,
    sent: Vec<u8>,
}

impl AsyncRead for Other {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<IoResult<usize>> {
        Pin::new(&mut self.answer).poll_read(context, buffer)
    }
}

impl AsyncWrite for Other {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<IoResult<usize>> {
        self.sent.extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<IoResult<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<IoResult<()>> {
        Poll::Ready(Ok(()))
    }
}

fn params_of(map: &Map) -> Params<'static> {
    let empty = Params::default();
    map.iter()
        .fold(empty, |params, (name, value)| params.custom(name.clone(), String::from_utf8_lossy(value).into_owned()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tokio_fastcgi_reads_what_we_send_and_we_what_it_answers(
        id in 1..=u16::MAX, requests in vec((map(), body()), 1..3),
    ) {
        let mut wire = Vec::new();
        for (map, body) in &requests {
            encode::begin_request(&mut wire, id, role::RESPONDER, true);
            encode::params(&mut wire, id, &stream_of(map)).expect("fits");
            encode::stream(&mut wire, kind::STDIN, id, body);
            encode::stream_end(&mut wire, kind::STDIN, id);
        }
        let mut out = Vec::new();
        let understood = tokio_fastcgi(&wire, &mut out).expect("understood");
        prop_assert!(understood == requests);

        let mut decoder = ResponseDecoder::new(id);
        let mut input = out.as_slice();
        for (_, body) in &requests {
            decoder.begin();
            let (mut stdout, mut stderr) = (Vec::<u8>::new(), Vec::<u8>::new());
            loop {
                match decoder.next(&mut input).expect("valid").expect("complete") {
                    Answer::Stdout(bytes) => stdout.extend(bytes),
                    Answer::Stderr(bytes) => stderr.extend(bytes),
                    Answer::End { app_status, protocol_status } => {
                        prop_assert_eq!((app_status, protocol_status), (7, status::REQUEST_COMPLETE));
                        break;
                    }
                    _ => {}
                }
            }
            prop_assert!(&stdout == body && &stderr == body);
        }
        prop_assert!(input.is_empty() && decoder.is_idle());
    }

    /// A stream of pairs that is cut somewhere is whole for both, or for none.
    #[test]
    fn tokio_fastcgi_refuses_the_same_pairs(map in map(), at in any::<prop::sample::Index>()) {
        let mut stream = stream_of(&map);
        stream.truncate(at.index(stream.len() + 1));
        prop_assume!(!stream.is_empty());
        let mut wire = support::begin(1, false);
        wire.extend(record(kind::PARAMS, 1, &stream, 0));
        wire.extend(record(kind::PARAMS, 1, b"", 0));
        wire.extend(record(kind::STDIN, 1, b"", 0));
        let theirs = tokio_fastcgi(&wire, &mut Vec::new());
        let ours = pairs(&stream).all(|pair| pair.is_ok());
        prop_assert_eq!(ours, theirs.is_ok(), "{:?}", stream);
    }

    #[test]
    fn fastcgi_client_is_understood_and_understands(map in map(), request in body(), out in body(), err in body()) {
        // Its params are text.
        let map: Map = map.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned().into_bytes())).collect();
        let mut answer = Vec::new();
        encode::stream(&mut answer, kind::STDERR, 1, &err);
        encode::stream(&mut answer, kind::STDOUT, 1, &out);
        encode::stream_end(&mut answer, kind::STDOUT, 1);
        encode::end_request(&mut answer, 1, 0, status::REQUEST_COMPLETE);
        let mut other = Other { answer: Cursor::new(answer.repeat(2)), sent: Vec::new() };
        let mut client = Client::new_keep_alive(&mut other);
        for _ in 0..2 {
            let response = now(client.execute(Request::new(params_of(&map), Cursor::new(request.clone()))));
            let response = response.expect("understood");
            prop_assert!(response.stdout.unwrap_or_default() == out);
            prop_assert!(response.stderr.unwrap_or_default() == err);
        }

        let mut decoder = RequestDecoder::new(Limits::default());
        let mut input = other.sent.as_slice();
        for _ in 0..2 {
            let (mut params, mut body) = (Vec::<u8>::new(), Vec::<u8>::new());
            loop {
                match decoder.next(&mut input).expect("valid").expect("complete") {
                    Event::Begin { id, role, keep } => prop_assert_eq!((id, role, keep), (1, role::RESPONDER, true)),
                    Event::Params { bytes, .. } => params.extend(bytes),
                    Event::Stdin { bytes, .. } => body.extend(bytes),
                    Event::ParamsEnd { .. } => {}
                    Event::StdinEnd { id } => {
                        decoder.end(id);
                        break;
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            prop_assert_eq!(&asked_for(&params), &map);
            prop_assert!(body == request);
        }
        // It ends an empty body twice.
        prop_assert_eq!(feed(&mut decoder, [input]), (vec![], Ok(())));
        prop_assert!(decoder.is_idle());
    }
}

/// fastcgi-client cuts its PARAMS anywhere, as h2o does. (tokio-fastcgi closes the connection on that.)
#[test]
fn fastcgi_client_splits_pairs_between_records() {
    let map: Map = (0..40).map(|n| (format!("name_{n}"), vec![b'v'; 4000])).collect();
    let mut answer = Vec::new();
    encode::end_request(&mut answer, 1, 0, status::REQUEST_COMPLETE);
    let mut other = Other { answer: Cursor::new(answer), sent: Vec::new() };
    let client = Client::new(&mut other);
    let response =
        now(client.execute_once(Request::new(params_of(&map), Cursor::new(Vec::new())))).expect("understood");
    assert!(response.stdout.is_none());
    let (seen, result) = feed(&mut RequestDecoder::new(Limits::default()), [other.sent.as_slice()]);
    assert_eq!((seen.len(), seen.first(), result), (4, Some(&Seen::Begin(1, role::RESPONDER, false)), Ok(())));
    let Some(Seen::Params(1, params)) = seen.get(1) else { panic!("params") };
    assert!(asked_for(params) == map);
    assert!(tokio_fastcgi(&other.sent, &mut Vec::new()).is_err(), "if this has changed, so has our knowledge of it");
}

/// Blocks: good enough for a client with a thread of its own.
struct Blocking(UnixStream);

impl AsyncRead for Blocking {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<IoResult<usize>> {
        Poll::Ready(self.0.read(buffer))
    }
}

impl AsyncWrite for Blocking {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<IoResult<usize>> {
        Poll::Ready(self.0.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<IoResult<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<IoResult<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs the example's loop on one end of a connection, and something of ours on the other.
fn with_hello<T>(ours: impl FnOnce(UnixStream) -> T) -> T {
    let (us, worker) = UnixStream::pair().expect("a pair of sockets");
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let (mut input, mut output) = (vec![0; 4096], Vec::new());
            hello::connection(worker, &hello::page(), &mut input, &mut output)
        });
        let result = ours(us);
        let _ = worker.join().expect("no panic");
        result
    })
}

#[test]
fn the_hello_worker_serves_a_kept_connection() {
    with_hello(|stream| {
        let mut client = Client::new_keep_alive(Blocking(stream));
        for length in [0, 10, 100_000, 0] {
            let request = Request::new(params_of(&Map::new()), Cursor::new(vec![b'x'; length]));
            let response = now(client.execute(request)).expect("an answer");
            assert_eq!(response.stdout.as_deref(), Some(hello::page().as_slice()));
            assert!(response.stderr.is_none());
        }
    });
}

/// As nginx asks without `fastcgi_keep_conn`. (Not with fastcgi-client: it ends an empty body twice, and the second end
/// may come when we have closed.)
#[test]
fn the_hello_worker_closes_when_it_should() {
    let mut wire = support::begin(1, false);
    wire.extend(record(kind::PARAMS, 1, b"\x01\x01ab", 4));
    wire.extend(record(kind::PARAMS, 1, b"", 0));
    wire.extend(record(kind::STDIN, 1, b"", 0));
    let mut answer = Vec::new();
    with_hello(|mut stream| {
        stream.write_all(&wire).expect("sent");
        stream.read_to_end(&mut answer).expect("closed");
    });
    let (told, result) = hear(&mut expecting(), [answer.as_slice()]);
    assert_eq!(result, Ok(()));
    assert_eq!(told, [Told::Stdout(hello::page()), Told::StdoutEnd, Told::End(0, status::REQUEST_COMPLETE)]);
}

#[test]
fn the_hello_worker_knows_the_rest_of_the_protocol() {
    let talk = |wire: &[u8]| {
        with_hello(|mut stream| {
            stream.write_all(wire).expect("sent");
            stream.shutdown(std::net::Shutdown::Write).expect("half closed");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("an answer");
            answer
        })
    };
    // A role that it does not play.
    let answer = talk(&record(kind::BEGIN_REQUEST, 1, &[0, 2, 0, 0, 0, 0, 0, 0], 0));
    assert_eq!(hear(&mut expecting(), [answer.as_slice()]), (vec![Told::End(0, status::UNKNOWN_ROLE)], Ok(())));
    // A second request beside the first.
    let mut wire = support::begin(3, true);
    wire.extend(support::begin(1, true));
    let answer = talk(&wire);
    assert_eq!(hear(&mut expecting(), [answer.as_slice()]), (vec![Told::End(0, status::CANT_MPX_CONN)], Ok(())));
    // Abort.
    let mut wire = support::begin(1, true);
    wire.extend(record(kind::ABORT_REQUEST, 1, b"", 0));
    let answer = talk(&wire);
    assert_eq!(hear(&mut expecting(), [answer.as_slice()]), (vec![Told::StdoutEnd, Told::End(0, 0)], Ok(())));
    // Params without end.
    let mut wire = support::begin(1, true);
    wire.extend(record(kind::PARAMS, 1, &vec![b'x'; 65_535], 0).repeat(5));
    let (told, result) = hear(&mut expecting(), [talk(&wire).as_slice()]);
    assert_eq!(result, Ok(()));
    assert!(matches!(told.first(), Some(Told::Stdout(bytes)) if bytes.starts_with(b"Status: 431\r\n")), "{told:?}");
    // Nonsense: closed without a word.
    assert!(talk(b"GET / HTTP/1.1\r\n\r\n").is_empty());
    // Management.
    let answer = talk(&record(77, 0, b"", 0));
    let mut decoder = ResponseDecoder::new(1);
    decoder.ask();
    assert_eq!(hear(&mut decoder, [answer.as_slice()]), (vec![Told::UnknownType(77)], Ok(())));
}
