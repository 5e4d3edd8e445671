//! What becomes of requests whose workers die, hang, or talk nonsense.

mod support;

use std::io::Read as _;

use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::kind;
use steadfast_proto::front::{ClientAbort, FromFront, NoteKind, Retry, ToFront};
use support::{Client, Scene, get, pool, post};

fn refused(client: &mut Client) -> (u16, String) {
    let page = client.page().expect("an answer");
    (page.status(), page.header("X-Steadfast").unwrap_or_default().to_owned())
}

#[test]
fn what_may_run_twice_is_given_to_another_worker_once() {
    let mut scene = Scene::new(pool());
    let (mut good, mut bad) = (scene.worker(), scene.worker());
    let mut client = scene.client();
    client.send(&get("/poison?x=1"));
    assert_eq!(bad.request().params["REQUEST_URI"], "/poison?x=1");
    bad.stream = None;
    assert_eq!(good.request().params["REQUEST_URI"], "/poison?x=1");
    let blame = scene.bury(bad).expect("it had a request");
    assert_eq!((blame.line.as_str(), blame.answered), ("GET /poison?x=1", 0));
    assert!(blame.sent > 0);
    good.page("saved");
    assert_eq!(client.page().expect("an answer").text(), "saved");
    scene.knows("a note", |message| matches!(message, FromFront::Note(note) if note.kind == NoteKind::Retried));
}

#[test]
fn one_visit_kills_two_workers_and_no_more() {
    let mut scene = Scene::new(pool());
    let (mut third, mut second, mut first) = (scene.worker(), scene.worker(), scene.worker());
    let mut client = scene.client();
    client.send(&get("/poison"));
    first.request();
    first.stream = None;
    second.request();
    second.stream = None;
    assert_eq!(refused(&mut client), (502, "worker-died".to_owned()));
    let (one, two) = (scene.bury(first).expect("blame"), scene.bury(second).expect("blame"));
    assert_eq!(one.key, two.key);
    // The third was not bothered.
    client.send(&get("/other"));
    assert_eq!(third.request().params["REQUEST_URI"], "/other");
    third.page("ok");
    client.page().expect("an answer");
}

#[test]
fn a_post_never_runs_twice() {
    let mut scene = Scene::new(pool());
    let (_idle, mut bad) = (scene.worker(), scene.worker());
    let mut client = scene.client();
    client.send(&post("/buy", b"one"));
    assert_eq!(bad.request().body, b"one");
    bad.stream = None;
    assert_eq!(refused(&mut client), (502, "worker-died".to_owned()));
}

#[test]
fn a_post_that_nobody_saw_goes_to_another_worker() {
    let mut scene = Scene::new(pool());
    let (mut good, mut bad) = (scene.worker(), scene.worker());
    // It is dead, and nobody has noticed yet.
    bad.stream();
    (bad.stream, bad.listener) = (None, None);
    let mut client = scene.client();
    client.send(&post("/buy", b"one"));
    assert_eq!(good.request().body, b"one");
    good.page("bought");
    assert_eq!(client.page().expect("an answer").text(), "bought");
    assert_eq!(scene.bury(bad), None, "it had nothing in hand");
}

#[test]
fn a_post_goes_over_a_connection_of_its_own() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    client.send(&get("/"));
    worker.request();
    worker.page("1");
    client.page().expect("an answer");
    client.send(&post("/", b"x"));
    // The kept connection ends before another record comes over it.
    assert_eq!(worker.record(), None);
    worker.stream = None;
    worker.request();
    worker.page("2");
    assert_eq!(client.page().expect("an answer").text(), "2");
}

#[test]
fn retry_can_be_switched_off() {
    let mut config = pool();
    config.retry = Retry::Never;
    let mut scene = Scene::new(config);
    let (_other, mut bad) = (scene.worker(), scene.worker());
    let mut client = scene.client();
    client.send(&get("/"));
    bad.request();
    bad.stream = None;
    assert_eq!(refused(&mut client), (502, "worker-died".to_owned()));
}

#[test]
fn a_grandchild_that_holds_the_connection_delays_nothing() {
    let mut scene = Scene::new(pool());
    let (mut good, mut bad) = (scene.worker(), scene.worker());
    let mut client = scene.client();
    client.send(&get("/"));
    bad.request();
    let held = bad.stream.take();
    scene.tell(&ToFront::WorkerGone { worker: bad.id });
    good.request();
    good.page("saved");
    assert_eq!(client.page().expect("an answer").text(), "saved");
    drop(held);
}

#[test]
fn what_a_dead_worker_had_answered_is_not_lost() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    client.send(&post("/", b"x"));
    worker.request();
    worker.page("its last words");
    let id = worker.id;
    drop(worker);
    scene.tell(&ToFront::WorkerGone { worker: id });
    assert_eq!(client.page().expect("an answer").text(), "its last words");
    let blame = scene.expect("blame", |message| matches!(message, FromFront::Blame { .. }));
    assert_eq!(blame, FromFront::Blame { worker: id, request: None });
}

#[test]
fn an_answer_that_breaks_off_is_never_ended_properly() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    client.send(&get("/"));
    worker.request();
    let mut out = Vec::new();
    encode::stream(&mut out, kind::STDOUT, 1, b"Content-Type: text/plain\r\n\r\nhalf of it");
    worker.write(&out);
    // The half is passed on before the worker dies.
    let mut byte = [0; 1];
    client.stream.read_exact(&mut byte).expect("the half");
    client.kept.push(byte[0]);
    drop(worker);
    assert_eq!(client.page(), None);
    scene.expect("a note", |message| matches!(message, FromFront::Note(note) if note.kind == NoteKind::Cut));
}

#[test]
fn an_end_without_a_byte_is_a_death() {
    let mut scene = Scene::new(pool());
    let (mut good, mut bad) = (scene.worker(), scene.worker());
    let mut client = scene.client();
    client.send(&get("/"));
    bad.request();
    let mut out = Vec::new();
    encode::stream_end(&mut out, kind::STDOUT, 1);
    encode::end_request(&mut out, 1, 255, 0);
    bad.write(&out);
    good.request();
    good.page("saved");
    assert_eq!(client.page().expect("an answer").text(), "saved");
    assert!(scene.bury(bad).is_some());
}

#[test]
fn nonsense_is_a_502_and_an_event() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    let whole = |text: &[u8]| {
        let mut out = Vec::new();
        encode::stream(&mut out, kind::STDOUT, 1, text);
        encode::end_request(&mut out, 1, 0, 0);
        out
    };
    let endless = vec![b'x'; 200_000];
    for (nonsense, name) in [
        (&b"HTTP/1.1 200 OK\r\n\r\nhello"[..], "no FastCGI at all"),
        (&[1, 6, 0, 2, 0, 0, 0, 0][..], "another id"),
        (&[1, 6, 0, 0, 0, 0, 0, 0][..], "id 0"),
        (&[1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], "a request"),
        (&whole(b"Content-Type: text/plain\r\nno end of the head")[..], "a head without an end"),
        (&whole(&endless)[..], "an endless head"),
    ] {
        client.send(&get("/"));
        worker.request();
        // The front may have closed the connection in the middle of it.
        let _ = std::io::Write::write_all(worker.stream(), nonsense);
        assert_eq!(refused(&mut client), (502, "bad-answer".to_owned()), "{name}");
        scene.expect(name, |message| matches!(message, FromFront::Note(note) if note.kind == NoteKind::BadAnswer));
        worker.stream = None;
        client.send(&get("/again"));
        worker.request();
        worker.page("ok");
        assert_eq!(client.page().expect("an answer").text(), "ok", "after {name}");
    }
}

#[test]
fn a_request_that_takes_too_long_costs_its_worker_and_nobody_else() {
    let mut config = pool();
    (config.request_timeout_ms, config.slow_request_ms) = (300, Some(100));
    let mut scene = Scene::new(config);
    let mut worker = scene.worker();
    let mut client = scene.client();
    client.send(&get("/slow"));
    worker.request();
    assert_eq!(refused(&mut client), (504, "request-timeout".to_owned()));
    scene.expect("overdue", |message| *message == FromFront::Overdue { worker: 1, line: "GET /slow".to_owned() });
    let slow = |message: &FromFront| matches!(message, FromFront::Note(note) if note.kind == NoteKind::Slow);
    assert!(scene.heard.iter().any(slow));
    // It is given nothing more, though it is there.
    client.send(&get("/next"));
    scene.expect("a load", |message| matches!(message, FromFront::Load(load) if load.waiting == 1 && load.idle == 0));
    assert_eq!(scene.bury(worker), None, "its end is ours");
}

#[test]
fn a_visitor_who_goes_lets_the_worker_finish_or_cancels_it() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    client.send(&get("/"));
    worker.request();
    drop(client);
    worker.page(&"x".repeat(3_000_000));
    let mut client = scene.client();
    client.send(&get("/next"));
    assert_eq!(worker.request().params["REQUEST_URI"], "/next");
    worker.page("ok");
    client.page().expect("an answer");

    let mut config = pool();
    config.client_abort = ClientAbort::Cancel;
    let mut scene = Scene::new(config);
    let mut worker = scene.worker();
    let mut client = scene.client();
    client.send(&get("/long"));
    worker.request();
    drop(client);
    scene.expect("cancelled", |message| *message == FromFront::Cancelled { worker: 1, line: "GET /long".to_owned() });
}

#[test]
fn quarantined_requests_are_answered_in_the_workers_place_but_for_one_trial() {
    let mut scene = Scene::new(pool());
    let (mut other, mut bad) = (scene.worker(), scene.worker());
    let mut client = scene.client();
    client.send(&post("/poison", b""));
    bad.request();
    bad.stream = None;
    refused(&mut client);
    let key = scene.bury(bad).expect("blame").key;
    scene.tell(&ToFront::Quarantine { pool: 1, key, for_ms: 150 });
    let report = |scene: &mut Scene| {
        scene.tell(&ToFront::Report { number: 1 });
        scene.expect("reported", |message| matches!(message, FromFront::Reported { .. }));
    };
    report(&mut scene);
    client.send(&post("/poison", b""));
    assert_eq!(refused(&mut client), (500, "quarantined".to_owned()));
    client.send(&get("/poison"));
    assert_eq!(other.request().params["REQUEST_METHOD"], "GET", "another method is another request");
    other.page("ok");
    client.page().expect("an answer");
    let begun = std::time::Instant::now();
    loop {
        client.send(&post("/poison", b""));
        other.listener.as_ref().expect("it listens").set_nonblocking(true).expect("non-blocking");
        // Refused ones are answered at once; the trial is not answered until we do.
        client.stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).expect("a timeout");
        if client.page().is_none() {
            break;
        }
        assert!(begun.elapsed() < support::PATIENCE);
    }
    other.listener.as_ref().expect("it listens").set_nonblocking(false).expect("blocking");
    let mut second = scene.client();
    second.send(&post("/poison", b""));
    assert_eq!(refused(&mut second), (500, "quarantined".to_owned()), "one trial at a time");
    while other.request().params["REQUEST_METHOD"] != "POST" {}
    other.page("tame");
    scene.expect("acquitted", |message| *message == FromFront::SuspectServed { pool: 1, key, worker: other.id });
    scene.tell(&ToFront::Release { pool: 1, key });
    report(&mut scene);
    second.send(&post("/poison", b""));
    other.request();
    other.page("free");
    assert_eq!(second.page().expect("an answer").text(), "free");
}

#[test]
fn the_fallback_answers_at_once_and_those_who_wait_too() {
    let mut scene = Scene::new(pool());
    let mut waits = scene.client();
    waits.send(&get("/"));
    scene.expect("a load", |message| matches!(message, FromFront::Load(load) if load.waiting == 1));
    scene.tell(&ToFront::Fallback { pool: 1, on: true });
    assert_eq!(refused(&mut waits), (503, "down".to_owned()));
    waits.send(&get("/"));
    assert_eq!(refused(&mut waits), (503, "down".to_owned()));
    scene.tell(&ToFront::Fallback { pool: 1, on: false });
    let mut worker = scene.worker();
    waits.send(&get("/"));
    worker.request();
    worker.page("up");
    assert_eq!(waits.page().expect("an answer").text(), "up");
}
