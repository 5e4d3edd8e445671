//! What several do at a time, in the orders that once went wrong: who sends, waits, reads, dies or leaves meanwhile.

mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::params::push_pair;
use steadfast_proto::fcgi::record::kind;
use steadfast_proto::front::{FromFront, Load, NoteKind, ToFront};
use support::{Client, PATIENCE, Scene, Worker, get, pool, post, request};

/// More than all sockets and buffers between a sender and a worker hold.
const LARGE: usize = 3_000_000;
/// Of an answer that is made of records of one length.
const PIECE: usize = 32 * 1024;

/// What a client was told in a worker's place.
fn refused(client: &mut Client) -> (u16, String) {
    let page = client.page().expect("an answer");
    (page.status(), page.header("X-Steadfast").unwrap_or_default().to_owned())
}

fn load(is_it: impl Fn(&Load) -> bool) -> impl Fn(&FromFront) -> bool {
    move |message| matches!(message, FromFront::Load(load) if is_it(load))
}

fn is_note(kind: NoteKind) -> impl Fn(&FromFront) -> bool {
    move |message| matches!(message, FromFront::Note(note) if note.kind == kind)
}

/// Writes the rest of what was begun, at the pace at which it is taken.
fn write_on(stream: &UnixStream, rest: &[u8]) -> JoinHandle<std::io::Result<()>> {
    let mut stream = stream.try_clone().expect("a second handle");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    let rest = rest.to_vec();
    std::thread::spawn(move || stream.write_all(&rest))
}

/// A request up to its body, of which nothing has come.
fn head(id: u16, length: usize) -> Vec<u8> {
    let (mut out, mut params) = (Vec::new(), Vec::new());
    let uri = format!("/{id}");
    let length = length.to_string();
    for (name, value) in [("REQUEST_METHOD", "POST"), ("REQUEST_URI", &uri), ("CONTENT_LENGTH", &length)] {
        push_pair(&mut params, name.as_bytes(), value.as_bytes()).expect("short");
    }
    encode::begin_request(&mut out, id, 1, true);
    encode::params(&mut out, id, &params).expect("they fit");
    out
}

fn body(id: u16, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    encode::stream(&mut out, kind::STDIN, id, &vec![b'x'; length]);
    out
}

fn body_end(id: u16) -> Vec<u8> {
    let mut out = Vec::new();
    encode::stream_end(&mut out, kind::STDIN, id);
    out
}

/// A whole answer.
fn answer(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode::stream(&mut out, kind::STDOUT, 1, text.as_bytes());
    encode::stream_end(&mut out, kind::STDOUT, 1);
    encode::end_request(&mut out, 1, 0, 0);
    out
}

/// Held: a sender who was stopped while his request waited was not heard again when a worker got it.
#[test]
fn an_upload_that_was_stopped_in_the_queue_goes_on_at_the_worker() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let (mut first, mut second) = (scene.client(), scene.client());
    first.send(&get("/"));
    worker.request();
    let bytes = post("/upload", &vec![b'x'; LARGE]);
    let sent = scene.pour(&second.stream, &bytes);
    assert!(sent < bytes.len(), "nobody stopped it");
    let sender = write_on(&second.stream, &bytes[sent..]);
    worker.page("first");
    assert_eq!(first.page().expect("an answer").text(), "first");
    // What may run only once gets a connection of its own.
    worker.stream = None;
    assert_eq!(worker.request().body.len(), LARGE);
    worker.page("taken");
    assert_eq!(second.page().expect("an answer").text(), "taken");
    sender.join().expect("no panic").expect("sent");
}

/// Held: a sender who was stopped by a full body was not heard again when that body lost its meaning.
#[test]
fn an_answer_before_its_time_lets_a_stopped_sender_finish() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    let bytes = post("/upload", &vec![b'x'; LARGE]);
    let sent = scene.pour(&client.stream, &bytes);
    assert!(sent < bytes.len(), "nobody stopped it");
    worker.begun();
    worker.answer("Status: 413 Content Too Large\r\n\r\n");
    assert_eq!(client.page().expect("an answer").status(), 413);
    write_on(&client.stream, &bytes[sent..]).join().expect("no panic").expect("what nobody wants is read away");
}

/// Held: an answer that lay complete in the socket was thrown away when the body could not be written any more.
#[test]
fn an_answer_before_its_time_comes_whole_to_a_slow_visitor() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    let bytes = post("/upload", &vec![b'x'; LARGE]);
    let sent = scene.pour(&client.stream, &bytes);
    assert!(sent < bytes.len(), "nobody stopped it");
    worker.begun();
    let (mut head, mut piece) = (Vec::new(), Vec::new());
    encode::stream(&mut head, kind::STDOUT, 1, b"Content-Type: text/plain\r\n\r\n");
    encode::stream(&mut piece, kind::STDOUT, 1, &[b'z'; PIECE]);
    worker.write(&head);
    let pieces = piece.repeat(LARGE / PIECE);
    let said = scene.pour(worker.stream(), &pieces);
    assert!(said < pieces.len(), "the visitor has taken nothing");
    let count = said.div_ceil(piece.len());
    let mut last = pieces[said..count * piece.len()].to_vec();
    encode::end_request(&mut last, 1, 0, 0);
    // He takes just so much that there is room for the end: the most of what is before it lies in the sockets.
    let (mut ended, mut some) = (0, [0; 16 * 1024]);
    while ended < last.len() {
        client.stream.read_exact(&mut some).expect("a part");
        client.kept.extend_from_slice(&some);
        ended += scene.pour(worker.stream(), &last[ended..]);
    }
    worker.stream = None;
    scene.turn();
    let sender = write_on(&client.stream, &bytes[sent..]);
    assert_eq!(client.page().map(|page| page.body.len()), Some(count * PIECE));
    sender.join().expect("no panic").expect("what nobody wants is read away");
}

/// Held: an upload that waited for a worker stopped the very connection by which another worker's body came.
#[test]
fn two_uploads_on_one_connection_do_not_stop_each_other() {
    const EACH: usize = 1_000_000;
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    let (first, rest) = (100_000, EACH - 100_000);
    let pieces = [head(1, EACH), body(1, first), head(3, EACH), body(3, EACH), body_end(3), body(1, rest), body_end(1)];
    let sender = write_on(&client.stream, &pieces.concat());
    for id in [1, 3] {
        let got = worker.request();
        assert_eq!((got.params["REQUEST_URI"].clone(), got.body.len()), (format!("/{id}"), EACH));
        worker.page("taken");
        assert_eq!(client.page_of(id).expect("an answer").text(), "taken");
        worker.stream = None;
    }
    sender.join().expect("no panic").expect("sent");
}

/// Held: nobody saw that a sender had gone who had been stopped before.
#[test]
fn an_upload_that_waits_leaves_the_queue_with_its_client() {
    let mut config = pool();
    // Else it would leave the queue by itself.
    config.queue_timeout_ms = 60_000;
    let mut scene = Scene::new(config);
    let client = scene.client();
    let bytes = post("/upload", &vec![b'x'; LARGE]);
    assert!(scene.pour(&client.stream, &bytes) < bytes.len(), "nobody stopped it");
    scene.knows("one who waits", load(|load| load.waiting == 1));
    drop(client);
    scene.expect("nobody who waits", load(|load| load.waiting == 0));
}

/// Serves in a thread that lives as long as the tests do.
fn close_after_each(mut worker: Worker) {
    std::thread::spawn(move || {
        loop {
            worker.request();
            worker.page("ok");
            worker.stream = None;
        }
    });
}

/// Held: requests were written into connections that workers had just closed, and were lost or came back as 502.
#[test]
fn workers_that_close_after_each_answer_lose_nothing_under_load() {
    let mut scene = Scene::new(pool());
    for _ in 0..4 {
        close_after_each(scene.worker());
    }
    let visit = |mut client: Client| {
        std::thread::spawn(move || {
            for _ in 0..50 {
                client.send(&get("/"));
                assert_eq!(client.page().expect("an answer").text(), "ok");
            }
        })
    };
    let visitors: Vec<_> = (0..12).map(|_| visit(scene.client())).collect();
    for visitor in visitors {
        visitor.join().expect("served each time");
    }
}

/// Held: a worker whose visitor took its answer slowly was killed as one that takes too long.
#[test]
fn a_visitor_who_reads_slowly_is_not_the_workers_fault() {
    let mut config = pool();
    config.request_timeout_ms = 1500;
    let mut scene = Scene::new(config);
    let (mut hangs, mut serves) = (scene.worker(), scene.worker());
    let (mut slow, mut other) = (scene.client(), scene.client());
    slow.send(&get("/large"));
    serves.request();
    let page = answer(&format!("Content-Type: text/plain\r\n\r\n{}", "z".repeat(LARGE)));
    let said = scene.pour(serves.stream(), &page);
    assert!(said < page.len(), "the visitor has taken nothing");
    let sender = write_on(serves.stream(), &page[said..]);
    // Whoever is asked later and hangs is overdue: so would the first be by then.
    other.send(&get("/hangs"));
    hangs.request();
    let id = hangs.id;
    scene.expect("overdue", |message| matches!(message, FromFront::Overdue { worker, .. } if *worker == id));
    assert_eq!(refused(&mut other), (504, "request-timeout".to_owned()));
    assert_eq!(slow.page().expect("an answer").body.len(), LARGE);
    sender.join().expect("no panic").expect("sent");
    scene.turn();
    let others = |message: &FromFront| matches!(message, FromFront::Overdue { worker, .. } if *worker != id);
    assert!(!scene.heard.iter().any(others), "{:?}", scene.heard);
}

/// Held: an answer that was read late was taken for one whose worker had closed, and its connection was not kept.
#[test]
fn an_answer_that_was_held_up_keeps_its_connection() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    let page = answer(&format!("Content-Type: text/plain\r\n\r\n{}", "z".repeat(LARGE)));
    for round in 0..4 {
        client.send(&get("/large"));
        if round == 0 {
            worker.begun();
        }
        loop {
            let (kind, _, content) = worker.record().unwrap_or_else(|| panic!("closed before round {round}"));
            if kind == kind::STDIN && content.is_empty() {
                break;
            }
        }
        let said = scene.pour(worker.stream(), &page);
        assert!(said < page.len(), "the visitor has taken nothing");
        let sender = write_on(worker.stream(), &page[said..]);
        assert_eq!(client.page().expect("an answer").body.len(), LARGE);
        sender.join().expect("no panic").expect("sent");
    }
}

/// Held: a pool that went closed its connections before those who waited were told, and before answers had come.
#[test]
fn a_pool_that_goes_answers_who_waits_and_finishes_what_is_in_hand() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let (mut served, mut waits) = (scene.client(), scene.client());
    served.send(&get("/1"));
    worker.request();
    waits.send(&get("/2"));
    scene.expect("one who waits", load(|load| load.waiting == 1));
    scene.tell(&ToFront::PoolGone { pool: 1 });
    assert_eq!(refused(&mut waits), (503, "down".to_owned()));
    worker.page("done");
    assert_eq!(served.page().expect("an answer").text(), "done");
}

/// Held: requests that lay in the sockets of kept connections were lost when the front left.
#[test]
fn a_front_that_leaves_answers_what_has_arrived() {
    const VISITORS: usize = 200;
    let mut config = pool();
    config.queue_length = 1000;
    let mut scene = Scene::new(config);
    let mut worker = scene.worker();
    let serving = std::thread::spawn(move || {
        for _ in 0..2 * VISITORS {
            worker.request();
            worker.page("ok");
        }
    });
    let mut clients: Vec<_> = (0..VISITORS).map(|_| scene.client()).collect();
    for client in &mut clients {
        client.send(&get("/"));
        assert_eq!(client.page().expect("an answer").text(), "ok");
    }
    for client in &mut clients {
        client.send(&get("/"));
    }
    scene.tell(&ToFront::Leave { within_ms: 10_000 });
    let answered = clients.iter_mut().filter_map(Client::page).filter(|page| page.text() == "ok").count();
    assert_eq!(answered, VISITORS, "the others were lost");
    serving.join().expect("served all");
}

/// Workers go back to the next front as soon as they are not needed: the idle one last, for whoever may still ask.
#[test]
fn workers_are_given_back_while_what_is_in_hand_is_finished() {
    let mut scene = Scene::new(pool());
    let (idle, mut busy) = (scene.worker(), scene.worker());
    // The second one has not asked yet.
    let (mut client, next) = (scene.client(), scene.client());
    client.send(&get("/long"));
    busy.request();
    scene.tell(&ToFront::HandOver { within_ms: 10_000 });
    busy.page("done");
    assert_eq!(client.page().expect("an answer").text(), "done");
    scene.expect("the busy one", |message| *message == FromFront::WorkerFree { worker: busy.id });
    drop((client, next));
    scene.expect("the idle one", |message| *message == FromFront::WorkerFree { worker: idle.id });
}

/// … but not while somebody waits for one.
#[test]
fn nobody_who_waits_loses_his_worker_to_the_next_front() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let (mut client, mut waiting) = (scene.client(), scene.client());
    client.send(&get("/first"));
    worker.request();
    waiting.send(&get("/second"));
    scene.expect("he waits", load(|load| load.waiting == 1));
    scene.tell(&ToFront::HandOver { within_ms: 10_000 });
    worker.page("first");
    assert_eq!(client.page().expect("an answer").text(), "first");
    assert_eq!(worker.request().params["REQUEST_URI"], "/second");
    worker.page("second");
    assert_eq!(waiting.page().expect("an answer").text(), "second");
    scene.expect("then", |message| *message == FromFront::WorkerFree { worker: worker.id });
}

/// Held: the time that a request had been with a worker was taken for a wait, so that it was refused at once when the
/// worker died.
#[test]
fn a_request_that_lost_its_worker_may_wait_for_another() {
    let mut config = pool();
    config.queue_timeout_ms = 1000;
    let mut scene = Scene::new(config);
    let mut bad = scene.worker();
    let (mut client, mut other) = (scene.client(), scene.client());
    client.send(&get("/long"));
    bad.request();
    // When this one has waited too long, the first has been with the worker for longer.
    other.send(&get("/waits"));
    assert_eq!(refused(&mut other), (503, "queue-timeout".to_owned()));
    assert!(scene.bury(bad).is_some());
    let mut good = scene.worker();
    assert_eq!(good.request().params["REQUEST_URI"], "/long");
    good.page("saved");
    assert_eq!(client.page().expect("an answer").text(), "saved");
}

/// Held: a quarantine was looked at when a request came, so that those who waited killed one worker after another.
#[test]
fn a_quarantine_holds_for_those_who_wait() {
    let mut scene = Scene::new(pool());
    let mut bad = scene.worker();
    let mut clients: Vec<_> = (0..3).map(|_| scene.client()).collect();
    clients[0].send(&post("/poison", b""));
    bad.request();
    for client in &mut clients[1..] {
        client.send(&post("/poison", b""));
    }
    scene.expect("two who wait", load(|load| load.waiting == 2));
    let key = scene.bury(bad).expect("blame").key;
    assert_eq!(refused(&mut clients[0]), (502, "worker-died".to_owned()));
    scene.tell(&ToFront::Quarantine { pool: 1, key, for_ms: 60_000 });
    let mut good = scene.worker();
    for client in &mut clients[1..] {
        assert_eq!(refused(client), (500, "quarantined".to_owned()));
    }
    clients[0].send(&get("/harmless"));
    assert_eq!(good.request().params["REQUEST_URI"], "/harmless");
    good.page("ok");
    assert_eq!(clients[0].page().expect("an answer").text(), "ok");
}

/// Held: a connection on which an answer had broken off took new requests, and never ended as long as they came.
#[test]
fn a_cut_answer_ends_a_busy_connection() {
    let mut scene = Scene::new(pool());
    let (mut good, mut bad) = (scene.worker(), scene.worker());
    let mut client = scene.client();
    let ask = |id: u16, uri: &str| request(id, true, &[("REQUEST_METHOD", "GET"), ("REQUEST_URI", uri)], b"");
    client.send(&ask(1, "/cut"));
    bad.request();
    let mut half = Vec::new();
    encode::stream(&mut half, kind::STDOUT, 1, b"Content-Type: text/plain\r\n\r\nhalf");
    bad.write(&half);
    client.stream.read_exact(&mut vec![0; half.len()]).expect("the half");
    client.send(&ask(3, "/in-hand"));
    assert_eq!(good.request().params["REQUEST_URI"], "/in-hand");
    let begun = Instant::now();
    drop(bad);
    scene.expect("a cut", is_note(NoteKind::Cut));
    // Others who come over it are told so at once, and no worker hears of them.
    client.send(&ask(5, "/late"));
    let page = client.page_of(5).expect("an answer");
    assert_eq!((page.status(), page.header("X-Steadfast")), (503, Some("down")));
    assert_eq!(client.stream.read(&mut [0; 1]).expect("its end"), 0, "nothing more is said");
    assert!(begun.elapsed() < Duration::from_secs(5), "the request in hand was waited for: {:?}", begun.elapsed());
    good.page("for nobody");
    let mut next = scene.client();
    next.send(&get("/next"));
    assert_eq!(good.request().params["REQUEST_URI"], "/next");
    good.page("ok");
    assert_eq!(next.page().expect("an answer").text(), "ok");
}

/// Ends request 1 of this worker without a byte of an answer, as FCGI.pm does when Perl dies.
fn end_empty(worker: &mut Worker) {
    let mut out = Vec::new();
    encode::stream_end(&mut out, kind::STDOUT, 1);
    encode::end_request(&mut out, 1, 255, 0);
    worker.write(&out);
}

/// Held: the request that was given to a dying worker was blamed for the death, and the one that broke it was forgotten.
#[test]
fn who_broke_a_worker_is_blamed_and_not_who_came_after() {
    let mut scene = Scene::new(pool());
    let mut bad = scene.worker();
    let mut client = scene.client();
    client.send(&post("/poison", b""));
    bad.request();
    end_empty(&mut bad);
    assert_eq!(refused(&mut client), (502, "worker-died".to_owned()));
    // Nobody else is there, and it has not been said to be dead.
    client.send(&post("/innocent", b""));
    bad.stream = None;
    assert_eq!(bad.request().params["REQUEST_URI"], "/innocent");
    assert_eq!(scene.bury(bad).map(|blamed| blamed.line), Some("POST /poison".to_owned()));
    assert_eq!(refused(&mut client), (502, "worker-died".to_owned()));
}

/// Held: whoever had just broken a connection was the first to be given the next request when its rest was over.
#[test]
fn a_doubtful_worker_is_given_something_only_when_nobody_else_is_there() {
    let mut scene = Scene::new(pool());
    let (mut good, mut bad) = (scene.worker(), scene.worker());
    let mut client = scene.client();
    client.send(&post("/poison", b""));
    bad.request();
    end_empty(&mut bad);
    assert_eq!(refused(&mut client), (502, "worker-died".to_owned()));
    scene.expect("its rest", load(|load| load.idle == 1));
    scene.expect("the end of its rest", load(|load| load.idle == 2));
    client.send(&post("/next", b""));
    assert_eq!(good.request().params["REQUEST_URI"], "/next");
    good.page("ok");
    assert_eq!(client.page().expect("an answer").text(), "ok");
}

/// Held: of several requests in hand, the one that happened to be first in a list was blamed.
#[test]
fn of_several_in_hand_nobody_is_blamed() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.offer(2);
    scene.admit(&worker);
    let mut clients = [scene.client(), scene.client()];
    let mut streams = Vec::new();
    for (client, uri) in clients.iter_mut().zip(["/long", "/poison"]) {
        client.send(&post(uri, b""));
        assert_eq!(worker.request().params["REQUEST_URI"], uri);
        streams.push(worker.stream.take());
    }
    assert_eq!(scene.bury(worker), None);
    for client in &mut clients {
        assert_eq!(refused(client), (502, "worker-died".to_owned()));
    }
}

/// Held: a new worker was told of as idle since it was offered, and could be let go as the one that is idle longest.
#[test]
fn a_worker_is_idle_since_it_was_admitted() {
    let mut config = pool();
    config.queue_timeout_ms = 500;
    let mut scene = Scene::new(config);
    let worker = scene.offer(1);
    // Whoever is only offered serves nobody; by then it has been offered for half a second.
    let mut client = scene.client();
    client.send(&get("/"));
    assert_eq!(refused(&mut client), (503, "queue-timeout".to_owned()));
    let begun = Instant::now();
    scene.admit(&worker);
    let told = scene.expect("a load", load(|load| load.idle == 1));
    let at_most = u64::try_from(begun.elapsed().as_millis()).expect("short");
    let FromFront::Load(load) = told else { panic!("{told:?}") };
    let (id, idle) = load.longest_idle.expect("one is idle");
    assert_eq!(id, worker.id);
    assert!(idle <= at_most, "idle for {idle} ms, admitted {at_most} ms ago");
}
