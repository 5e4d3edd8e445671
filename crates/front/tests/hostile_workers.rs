//! What has gone wrong in web servers when a worker was hostile or broken, each under its name: its visitor is told the
//! truth, its connection ends, and nobody else gets a byte of it.

mod hostile;
mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hostile::{
    Honest, Peer, all_over, answer, calm, long, noted, page, pour, record, request_of, stream, take, usual, visit,
};
use proptest::collection::vec;
use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use steadfast_proto::fcgi::record::kind;
use steadfast_proto::front::{FromFront, NoteKind, ToFront};
use support::{PATIENCE, Scene, Worker, pool};

fn get(uri: &str) -> Vec<u8> {
    request_of(1, &usual("GET", uri, &[]), b"")
}

fn post(uri: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    request_of(1, &usual("POST", uri, &[(b"CONTENT_LENGTH", length.as_bytes())]), body)
}

fn stdout(text: &[u8]) -> Vec<u8> {
    record(kind::STDOUT, 1, text, 0)
}

fn end(content: &[u8]) -> Vec<u8> {
    record(kind::END_REQUEST, 1, content, 0)
}

/// The front's next connection.
fn accepted(worker: &Worker) -> UnixStream {
    let listener = worker.listener.as_ref().expect("it listens");
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    assert_eq!(poll(&mut fds, Some(&patience)), Ok(1), "the front does not connect");
    let stream = listener.accept().expect("it is there").0;
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Reads a request of the front, with a strict eye, over the worker's next connection.
fn got(worker: &mut Worker) -> Peer {
    let stream = worker.stream.take().unwrap_or_else(|| accepted(worker));
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut peer = Peer::new(stream);
    match take(&mut peer) {
        Ok(_) => peer,
        // A connection that was kept, and closed before its next request.
        Err(_) => got(worker),
    }
}

/// What becomes of a worker's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// 502, and a note.
    Refused,
    /// The client's connection ends without an end, and a note.
    Cut,
}

/// Lets a worker say this and sees what its visitor gets; after that the worker serves again, over another connection.
fn says(scene: &mut Scene, worker: &mut Worker, bytes: &[u8], fate: Fate, name: &str) {
    let mut client = Peer::of(scene);
    client.send(&post("/nonsense", b"x"));
    let mut at_work = got(worker);
    // The front may close in the middle of it.
    let _ = at_work.stream.write_all(bytes);
    match fate {
        Fate::Refused => {
            let told = client.told().unwrap_or_else(|| panic!("{name}: no answer"));
            assert_eq!(told.refusal(), (502, "bad-answer".to_owned()), "{name}");
        }
        Fate::Cut => assert_eq!(client.told(), None, "{name}: an answer was made of it"),
    }
    noted(scene, NoteKind::BadAnswer);
    assert_eq!(at_work.record(), None, "{name}: the connection goes on");
    client = Peer::of(scene);
    client.send(&get("/again"));
    let mut at_work = got(worker);
    at_work.send(&page("again"));
    assert_eq!(client.told().expect("an answer").body(), "again", "after {name}");
    worker.stream = Some(at_work.stream);
}

const HEAD: &[u8] = b"Content-Type: text/plain\r\n\r\n";

#[test]
fn haproxy_96286b2a8_values_that_nobody_asked_for() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut cut = long(14).to_vec();
    cut.extend(long(0x7fff_ffff));
    cut.extend(b"FCGI_MAX_CONNS");
    let good = stream(&[(b"FCGI_MAX_CONNS", b"5")]);
    for content in [&good[..], &cut, &good[..7], b"", &[0xff; 3], &vec![0; 65_535]] {
        let values = record(kind::GET_VALUES_RESULT, 0, content, 3);
        says(&mut scene, &mut worker, &values, Fate::Refused, "values");
        let late = [stdout(HEAD), values].concat();
        says(&mut scene, &mut worker, &late, Fate::Cut, "values within an answer");
    }
    says(&mut scene, &mut worker, &record(kind::UNKNOWN_TYPE, 0, &[9; 8], 0), Fate::Refused, "unknown type");
    drop(worker);
    all_over(scene, Vec::new());
}

#[test]
fn mod_fcgid_cve_2013_4365_2010_3872_records_of_any_shape() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let text = [HEAD, b"text"].concat();
    let (whole, ok) = (answer(&text), [0; 8]);
    for (name, bytes) in [
        ("another id", record(kind::STDOUT, 2, &text, 0)),
        ("the highest id", record(kind::STDOUT, 65_535, &text, 0)),
        ("stderr of another id", record(kind::STDERR, 2, b"x", 0)),
        ("END of another id", record(kind::END_REQUEST, 2, &ok, 0)),
        ("STDOUT of id 0", record(kind::STDOUT, 0, &text, 0)),
        ("STDERR of id 0", record(kind::STDERR, 0, b"x", 0)),
        ("END of id 0", record(kind::END_REQUEST, 0, &ok, 0)),
        ("END too short", end(b"")),
        ("END one byte too short", end(&[0; 7])),
        ("END too long", end(&[0; 9])),
        ("END much too long", end(&vec![0; 65_535])),
        ("BEGIN", record(kind::BEGIN_REQUEST, 1, &[0, 1, 1, 0, 0, 0, 0, 0], 0)),
        ("ABORT", record(kind::ABORT_REQUEST, 1, b"", 0)),
        ("PARAMS", record(kind::PARAMS, 1, b"\x01\x01ab", 0)),
        ("STDIN", record(kind::STDIN, 1, b"x", 0)),
        ("DATA", record(kind::DATA, 1, b"x", 0)),
        ("GET_VALUES", record(kind::GET_VALUES, 0, b"", 0)),
        ("an unknown kind", record(200, 1, b"x", 0)),
        ("version 2", [&[2], &whole[1..]].concat()),
        ("HTTP", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        ("an end within the head", [stdout(&text[..20]), end(&ok)].concat()),
        ("an endless head", stdout(&vec![b'x'; 60_000]).repeat(4)),
        ("an endless head of single bytes", stdout(b"x").repeat(100_000)),
        ("empty records without an end", record(kind::STDOUT, 1, b"", 255).repeat(20)),
    ] {
        says(&mut scene, &mut worker, &bytes, Fate::Refused, name);
    }
    for (name, more) in [
        ("another id", record(kind::STDOUT, 2, b"more", 0)),
        ("END of id 0", record(kind::END_REQUEST, 0, &ok, 0)),
        ("END too long", end(&[0; 9])),
        ("STDOUT after its end", [record(kind::STDOUT, 1, b"", 0), stdout(b"more")].concat()),
        ("no FastCGI any more", b"\0\0\0\0\0\0\0\0\0\0".to_vec()),
    ] {
        says(&mut scene, &mut worker, &[stdout(&text), more].concat(), Fate::Cut, name);
    }
    drop(worker);
    all_over(scene, Vec::new());
}

#[test]
fn padding_and_pieces_of_any_length_are_only_strange() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let text = [HEAD, &vec![b't'; 65_535 - HEAD.len()][..]].concat();
    let mut bytes = record(kind::STDOUT, 1, &text, 255);
    bytes.extend(record(kind::STDERR, 1, b"", 255));
    bytes.extend((0..300u32).flat_map(|n| record(kind::STDOUT, 1, b"p", n as u8)));
    bytes.extend(record(kind::STDOUT, 1, b"", 1));
    bytes.extend(record(kind::END_REQUEST, 1, &[0, 0, 0, 7, 0, 0xee, 0xee, 0xee], 255));
    for piece in [1, 7, 4_096, 200_000] {
        let mut client = Peer::of(&scene);
        client.send(&get("/strange"));
        let mut at_work = got(&mut worker);
        let bytes = bytes.clone();
        let writer = std::thread::spawn(move || {
            // The last bytes are padding: the front need not wait for them.
            bytes.chunks(piece).try_for_each(|chunk| at_work.stream.write_all(chunk)).map(|()| at_work)
        });
        let told = client.told().expect("an answer");
        assert_eq!(told.out.len(), 65_535 + 300);
        worker.stream = writer.join().expect("it does not panic").ok().map(|at_work| at_work.stream);
    }
    drop(worker);
    all_over(scene, Vec::new());
}

/// Somebody waits while a worker answers twice: what comes behind END is nobody's answer.
#[test]
fn end_twice_and_bytes_after_the_end_are_nobodys_answer() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    for (name, more) in [
        ("a second answer", page("for somebody else")),
        ("END twice", end(&[0; 8])),
        ("STDOUT", stdout(&[HEAD, b"for somebody else"].concat())),
        ("STDERR", record(kind::STDERR, 1, b"x", 0)),
        ("one byte", vec![1]),
        ("no FastCGI", b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
    ] {
        let (mut first, mut second) = (Peer::of(&scene), Peer::of(&scene));
        first.send(&get("/first"));
        let mut at_work = got(&mut worker);
        second.send(&get("/second"));
        scene.expect("a load", |message| matches!(message, FromFront::Load(load) if load.waiting == 1));
        let _ = at_work.stream.write_all(&[page("first"), more].concat());
        assert_eq!(first.told().expect("an answer").body(), "first", "{name}");
        worker.stream = None;
        let mut at_work = got(&mut worker);
        at_work.send(&page("second"));
        assert_eq!(second.told().expect("an answer").body(), "second", "{name}");
        worker.stream = Some(at_work.stream);
        calm(&mut scene);
    }
    drop(worker);
    all_over(scene, Vec::new());
}

/// The padding of END is not a second answer.
#[test]
fn a_padded_end_keeps_its_connection() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let (mut first, mut second) = (Peer::of(&scene), Peer::of(&scene));
    first.send(&get("/first"));
    let mut at_work = got(&mut worker);
    second.send(&get("/second"));
    scene.expect("a load", |message| matches!(message, FromFront::Load(load) if load.waiting == 1));
    let padded = record(kind::END_REQUEST, 1, &[0; 8], 200);
    at_work.send(&[stdout(&[HEAD, b"first"].concat()), padded].concat());
    assert_eq!(first.told().expect("an answer").body(), "first");
    assert_eq!(take(&mut at_work).expect("over the same connection").all("REQUEST_URI"), ["/second"]);
    at_work.send(&page("second"));
    assert_eq!(second.told().expect("an answer").body(), "second");
    drop((worker, at_work, first, second));
    all_over(scene, Vec::new());
}

#[test]
fn a_worker_that_speaks_unasked_is_not_heard() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    for bytes in [page("unasked"), vec![1], end(&[0; 8]), Vec::new()] {
        let mut client = Peer::of(&scene);
        client.send(&get("/asked"));
        let mut at_work = got(&mut worker);
        at_work.send(&page("asked"));
        assert_eq!(client.told().expect("an answer").body(), "asked");
        if bytes.is_empty() {
            break;
        }
        at_work.send(&bytes);
        let why = noted(&mut scene, NoteKind::Warning);
        assert!(why.contains("connection was closed"), "{why}");
        at_work.is_closed();
    }
    drop(worker);
    all_over(scene, Vec::new());
}

/// HAProxy wrote it to its log as it was. A web server gets it as what it is, people as text that a packet can hold.
#[test]
fn haproxy_f495d486e_stderr_injection() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = Peer::of(&scene);
    let evil = [&b"a\r\nNov 24 forged: line\n\x1b[2J\0\xe2\x82"[..], &[b'l'; 60_000]].concat();
    client.send(&get("/stderr"));
    let mut at_work = got(&mut worker);
    at_work.send(&[record(kind::STDERR, 1, &evil, 9), stdout(b"\r\n"), page("fine")].concat()[..]);
    // The head of the answer is empty, its stderr is not in it.
    let told = client.told().expect("an answer");
    assert!(told.err == evil && !told.out.windows(6).any(|part| part == b"forged"));
    // Nobody is there to take it: it is told, in bounds.
    client.send(&get("/gone"));
    assert!(take(&mut at_work).is_ok());
    drop(client);
    scene.tell(&ToFront::Report { number: 1 });
    scene.expect("reported", |message| matches!(message, FromFront::Reported { .. }));
    at_work.send(&[record(kind::STDERR, 1, &evil, 0), page("for nobody")].concat());
    let note = noted(&mut scene, NoteKind::Stderr);
    assert!(note.starts_with("a\r\nNov") && note.len() < 5_000, "{} bytes", note.len());
    drop((worker, at_work));
    all_over(scene, Vec::new());
}

#[test]
fn endless_stderr_is_held_back_by_who_does_not_read_it() {
    let mut config = pool();
    config.request_timeout_ms = 3_000;
    let mut scene = Scene::new(config);
    let mut worker = scene.worker();
    let mut client = Peer::of(&scene);
    client.send(&get("/endless"));
    let at_work = got(&mut worker);
    // A client that does not read stops the worker that writes.
    let flood = record(kind::STDERR, 1, &[b'e'; 4_000], 0).repeat(16_000);
    let poured = pour(&at_work.stream, &flood, Duration::from_millis(300));
    assert!(poured < 4 << 20, "{poured} bytes for a client that reads none");
    // One that reads gets all of it until the worker's time is over, and then no end of it.
    let mut writer = at_work.stream.try_clone().expect("a second handle");
    writer.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    let sender = std::thread::spawn(move || {
        let mut rest = flood[poured..].to_vec();
        while writer.write_all(&rest).is_ok() {
            rest.clone_from(&flood);
        }
    });
    let mut sum = 0;
    while let Some(record) = client.record() {
        assert_eq!(record.kind, kind::STDERR, "an answer was made of it");
        sum += record.content.len();
        if sum > 64 << 20 {
            break;
        }
    }
    assert!(sum > poured / 2, "only {sum} bytes came");
    drop((client, at_work));
    scene.tell(&ToFront::WorkerGone { worker: worker.id });
    sender.join().expect("it does not panic");
    drop(worker);
    all_over(scene, Vec::new());
}

/// An answer is cut at each of its bytes; nobody takes what is left for a whole one.
#[test]
fn fault_038_closing_in_the_middle_at_every_byte_of_an_answer() {
    let mut scene = Scene::new(pool());
    let whole = page("the whole answer");
    let head_end = whole.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let end_at = whole.len();
    for at in 0..end_at {
        let mut worker = scene.worker();
        let mut client = Peer::of(&scene);
        client.send(&post("/cut", b"x"));
        let mut at_work = got(&mut worker);
        at_work.send(&whole[..at]);
        drop(at_work);
        let told = client.told();
        if at < head_end {
            assert_eq!(told.expect("an answer").refusal(), (502, "worker-died".to_owned()), "cut at {at}");
        } else {
            assert_eq!(told, None, "cut at {at}: an end was made up");
        }
        let blame = scene.bury(worker).expect("it had a request");
        assert_eq!(blame.line, "POST /cut");
    }
    all_over(scene, Vec::new());
}

/// A worker that answers before it has read the body, to a client that writes all of it before it reads (mod_fcgid).
#[test]
fn an_answer_before_the_body_is_read() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let bytes = post("/upload", &vec![b'b'; 3_000_000]);
    for round in 0..3 {
        let mut client = Peer::of(&scene);
        let taken = pour(&client.stream, &bytes, Duration::from_millis(200));
        assert!(taken < bytes.len(), "the front takes what its worker does not");
        // It looks at nothing but the first bytes.
        let mut stream = accepted(&worker);
        if stream.read(&mut [0; 8]).expect("readable") == 0 {
            stream = accepted(&worker);
            stream.read_exact(&mut [0; 8]).expect("a request");
        }
        stream.write_all(&page("early")).expect("the front reads");
        client.stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        client.stream.write_all(&bytes[taken..]).expect("the body is taken to its end, whoever wanted it");
        assert_eq!(client.told().expect("an answer").body(), "early", "round {round}");
        drop(stream);
        // The client's connection is as good as before.
        client.send(&get("/next"));
        let mut at_work = got(&mut worker);
        at_work.send(&page("next"));
        assert_eq!(client.told().expect("an answer").body(), "next");
        drop(at_work);
    }
    drop(worker);
    all_over(scene, Vec::new());
}

/// A worker may be at something else for longer than a client may be silent: the client is not silent, it is not read.
#[test]
fn a_body_that_waits_for_its_worker_is_not_a_stalled_client() {
    let mut config = pool();
    (config.request_timeout_ms, config.queue_timeout_ms) = (120_000, 120_000);
    let mut scene = Scene::new(config);
    let worker = scene.worker();
    let body = vec![b'b'; 3_000_000];
    let mut client = Peer::of(&scene);
    let mut writer = client.stream.try_clone().expect("a second handle");
    let bytes = post("/patient", &body);
    let sender = std::thread::spawn(move || writer.write_all(&bytes));
    client.stream.set_read_timeout(Some(Duration::from_secs(32))).expect("a timeout");
    let early = client.stream.read(&mut [0; 1]);
    assert!(early.is_err(), "the client was sent away while its worker was busy: {early:?}");
    client.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut at_work = Peer::new(accepted(&worker));
    let taken = take(&mut at_work).or_else(|_| {
        // That was the connection by which it was seen to listen.
        at_work = Peer::new(accepted(&worker));
        take(&mut at_work)
    });
    assert_eq!(taken.expect("a whole request").body.len(), body.len());
    at_work.send(&page("at last"));
    sender.join().expect("it does not panic").expect("sent");
    assert_eq!(client.told().expect("an answer").body(), "at last");
    drop((client, worker, at_work));
    all_over(scene, Vec::new());
}

/// It never reads: its time is over one day, and it is blamed for it, not the client, and nobody else waits.
#[test]
fn never_reading_the_body() {
    let mut config = pool();
    config.request_timeout_ms = 700;
    let mut scene = Scene::new(config);
    let other = Honest::new(&mut scene);
    let worker = scene.worker();
    let client = Peer::of(&scene);
    let mut writer = client.stream.try_clone().expect("a second handle");
    let bytes = post("/unread", &vec![b'b'; 3_000_000]);
    let sender = std::thread::spawn(move || writer.write_all(&bytes));
    scene.expect("overdue", |message| matches!(message, FromFront::Overdue { worker: id, .. } if *id == worker.id));
    visit(&scene, "/others");
    let mut client = client;
    assert_eq!(client.told().expect("an answer").refusal(), (504, "request-timeout".to_owned()));
    sender.join().expect("it does not panic").expect("the rest of the body goes nowhere, but it goes");
    drop((client, worker));
    all_over(scene, vec![other]);
}

/// A worker closes while it is being written to: what it saw the first part of is never gone on with elsewhere. Each
/// connection of each worker begins with BEGIN, or not at all, though the request's own bytes look like records.
#[test]
fn half_a_request_is_never_gone_on_with_over_another_connection() {
    let mut scene = Scene::new(pool());
    let forged = get("/forged");
    let body: Vec<u8> = forged.iter().copied().cycle().take(60_000).collect();
    let filler = vec![b'f'; 60_000];
    let length = body.len().to_string();
    let more: [(&[u8], &[u8]); 5] = [
        (b"HTTP_A", &filler),
        (b"HTTP_B", &filler),
        (b"HTTP_C", &filler),
        (b"HTTP_D", &filler),
        (b"CONTENT_LENGTH", length.as_bytes()),
    ];
    let request = request_of(1, &usual("GET", "/large", &more), &body);
    // Closes as soon as the first bytes are there; the number of its connections that began.
    let hasty = |listener: UnixListener, stop: Arc<AtomicBool>| {
        std::thread::spawn(move || {
            let mut begun = 0;
            while let Ok((mut stream, _)) = listener.accept() {
                let mut first = [0; 2];
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                if stream.read(&mut first).unwrap_or(0) > 0 {
                    assert_eq!(first, [1, kind::BEGIN_REQUEST], "a connection begins in the middle of a request");
                    begun += 1;
                }
            }
            begun
        })
    };
    let mut begun = 0;
    for _ in 0..40 {
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers: Vec<Worker> = (0..3).map(|_| scene.worker()).collect();
        let listeners = workers.iter_mut().map(|worker| worker.listener.take().expect("it listens"));
        let threads: Vec<_> = listeners.map(|listener| hasty(listener, Arc::clone(&stop))).collect();
        let mut client = Peer::of(&scene);
        client.send(&request);
        let told = client.told().expect("an answer");
        assert_eq!(told.refusal(), (502, "worker-died".to_owned()));
        stop.store(true, Ordering::SeqCst);
        for (worker, thread) in workers.into_iter().zip(threads) {
            UnixStream::connect(scene.dir.path().join(format!("worker-{}", worker.id))).expect("it listens still");
            // The front lets go of it, and it accepts what wakes it.
            scene.bury(worker);
            begun += thread.join().expect("each connection began with BEGIN");
        }
    }
    assert_eq!(begun, 80, "each request was begun twice, and no more");
    all_over(scene, Vec::new());
}

/// There is no scoreboard that a worker could write; what it can say about itself is an answer, and that counts for its
/// own request only.
#[test]
fn fault_096_a_worker_that_lies_harms_itself() {
    let mut scene = Scene::new(pool());
    let honest = Honest::new(&mut scene);
    let mut liar = scene.worker();
    for status in [1, 2, 3, 255] {
        let mut client = Peer::of(&scene);
        client.send(&get("/lies"));
        let mut at_work = got(&mut liar);
        let content = [0xff, 0xff, 0xff, 0xff, status, 0xee, 0xee, 0xee];
        at_work.send(&[stdout(&[HEAD, b"overloaded, it says"].concat()), end(&content)].concat());
        let told = client.told().expect("an answer");
        assert_eq!((told.body().as_str(), told.protocol_status), ("overloaded, it says", 0));
        liar.stream = Some(at_work.stream);
    }
    // It refuses without a byte of an answer: that is a death, of its own, and the request goes to another.
    let mut client = Peer::of(&scene);
    client.send(&get("/refused"));
    let mut at_work = got(&mut liar);
    at_work.send(&end(&[0, 0, 0, 0, 2, 0, 0, 0]));
    assert_eq!(client.told().expect("an answer").body(), "/refused");
    assert_eq!(honest.count(), 1);
    drop((client, at_work));
    assert!(scene.bury(liar).is_some());
    all_over(scene, vec![honest]);
}

/// One request in a hundred kills, each time another one: nobody else's request fails, and each death is charged to its
/// own request.
#[test]
fn fault_097_an_attacker_varies_the_poison() {
    let mut scene = Scene::new(pool());
    let mut keys = Vec::new();
    let mut worker = scene.worker();
    for number in 0..300 {
        let mut client = Peer::of(&scene);
        if number % 100 != 50 {
            client.send(&get("/good"));
            let mut at_work = got(&mut worker);
            at_work.send(&page("good"));
            assert_eq!(client.told().expect("an answer").body(), "good");
            worker.stream = Some(at_work.stream);
            continue;
        }
        client.send(&get(&format!("/poison/{number}")));
        for death in 1..=2 {
            drop(got(&mut worker));
            let blame = scene.bury(worker).expect("it had a request");
            assert_eq!(blame.line, format!("GET /poison/{number}"));
            keys.push(blame.key);
            worker = scene.worker();
            if death == 2 {
                assert_eq!(client.told().expect("an answer").refusal(), (502, "worker-died".to_owned()));
            }
        }
    }
    keys.dedup();
    assert_eq!(keys.len(), 3, "one key for each poison, and two deaths for each key");
    drop(worker);
    all_over(scene, Vec::new());
}

/// What a worker does with one connection.
#[derive(Clone, Debug)]
struct Deed {
    read: usize,
    said: Vec<u8>,
    piece: usize,
    hangs: bool,
}

fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let kinds =
        prop_oneof![4 => Just(kind::STDOUT), 1 => Just(kind::STDERR), 1 => Just(kind::END_REQUEST), 1 => any::<u8>()];
    let ids = prop_oneof![9 => Just(1u16), 1 => any::<u16>()];
    let content = prop_oneof![
        3 => Just(HEAD.to_vec()),
        1 => Just(vec![0; 8]),
        1 => Just(Vec::new()),
        3 => vec(any::<u8>(), 0..300),
        1 => vec(any::<u8>(), 0..9).prop_map(|bytes| bytes.into_iter().cycle().take(60_000).collect()),
    ];
    prop_oneof![
        6 => (kinds, ids, content, any::<u8>()).prop_map(|(kind, id, content, padding)| record(kind, id, &content, padding)),
        2 => Just(page("whole")),
        1 => vec(any::<u8>(), 0..40),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let said = vec(fragment(), 0..6).prop_map(|parts| parts.concat());
    (0usize..4_000, said, 1usize..5_000, any::<bool>()).prop_map(|(read, said, piece, hangs)| Deed {
        read,
        said,
        piece,
        hangs,
    })
}

/// Does its deeds, one for each connection, then accepts nothing more until the front closes what hangs.
fn misbehave(listener: &UnixListener, deeds: Vec<Deed>) {
    let mut hanging = Vec::new();
    for deed in deeds {
        let Ok((mut stream, _)) = listener.accept() else { return };
        // The front may be content with what it had before.
        let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
        let mut seen = vec![0; deed.read + 1];
        let _ = stream.read(&mut seen);
        let _ = deed.said.chunks(deed.piece).try_for_each(|piece| stream.write_all(piece));
        if deed.hangs {
            hanging.push(stream);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes of a worker, in any pieces: the front lives, its clients are told something or cut, and as soon as that
    /// worker has gone everybody is served.
    #[test]
    fn any_bytes_of_a_worker_hurt_nobody_else(deeds in vec(deed(), 1..6), uploads in vec(any::<bool>(), 1..8)) {
        let mut config = pool();
        (config.request_timeout_ms, config.queue_timeout_ms) = (400, 400);
        let mut scene = Scene::new(config);
        let honest = Honest::new(&mut scene);
        let mut worker = scene.worker();
        let listener = worker.listener.take().expect("it listens");
        let listening = listener.try_clone().expect("a second handle");
        let evil = std::thread::spawn(move || misbehave(&listener, deeds));
        for is_upload in uploads {
            let mut client = Peer::of(&scene);
            let bytes = if is_upload { post("/any", &vec![b'u'; 100_000]) } else { get("/any") };
            client.send(&bytes);
            // A whole answer or none: `told` looks at each byte.
            if let Some(told) = client.told() {
                prop_assert!(!told.out.is_empty());
            }
        }
        listening.set_nonblocking(true).expect("non-blocking");
        scene.tell(&ToFront::WorkerGone { worker: worker.id });
        scene.expect("blame", |message| matches!(message, FromFront::Blame { .. }));
        // It may still wait for a connection that nobody makes.
        let path = scene.dir.path().join(format!("worker-{}", worker.id));
        while !evil.is_finished() {
            let _ = UnixStream::connect(&path);
            std::thread::yield_now();
        }
        evil.join().expect("it does not panic");
        for number in 0..3 {
            visit(&scene, &format!("/good/{number}"));
        }
        all_over(scene, vec![honest]);
    }
}
