//! How requests go: to whom, in which order, and back.

mod support;

use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::kind;
use steadfast_proto::front::{FromFront, ToFront};
use support::{Scene, get, pool, post, request};

#[test]
fn a_request_goes_to_a_worker_and_its_answer_comes_back() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    for round in 0..3 {
        client.send(&get("/hello"));
        let got = worker.request();
        assert_eq!(got.params["REQUEST_URI"], "/hello");
        assert!(got.params["HTTP_X_REQUEST_ID"].len() > 8);
        worker.page(&format!("round {round}"));
        let page = client.page().expect("an answer");
        assert_eq!((page.status(), page.text()), (200, format!("round {round}")));
    }
    scene.expect("one served", |message| matches!(message, FromFront::WorkerServed { requests: 1, .. }));
}

#[test]
fn a_body_arrives_whole_before_a_worker_is_bothered() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    let body = vec![b'x'; 50_000];
    let bytes = post("/form", &body);
    for piece in bytes.chunks(1000) {
        client.send(piece);
    }
    let got = worker.request();
    assert_eq!((got.params["CONTENT_LENGTH"].as_str(), got.body.len()), ("50000", 50_000));
    worker.page("thanks");
    assert_eq!(client.page().expect("an answer").text(), "thanks");
}

#[test]
fn a_large_body_flows_both_ways() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    let body: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    let bytes = post("/upload", &body);
    let mut writer = client.stream.try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes).expect("it flows"));
    let got = worker.request();
    assert_eq!(got.body, body);
    let echo = std::thread::spawn(move || {
        worker.page(&"y".repeat(5_000_000));
        worker
    });
    let page = client.page().expect("an answer");
    assert_eq!(page.body.len(), 5_000_000);
    sender.join().expect("sent");
    echo.join().expect("answered");
}

#[test]
fn the_worker_that_was_idle_last_gets_the_next_request() {
    let mut scene = Scene::new(pool());
    let (mut first, mut second) = (scene.worker(), scene.worker());
    let (mut one, mut two) = (scene.client(), scene.client());
    one.send(&get("/1"));
    // Admitted last, idle last.
    assert_eq!(second.request().params["REQUEST_URI"], "/1");
    two.send(&get("/2"));
    assert_eq!(first.request().params["REQUEST_URI"], "/2");
    second.page("1");
    one.page().expect("an answer");
    first.page("2");
    two.page().expect("an answer");
    one.send(&get("/3"));
    assert_eq!(first.request().params["REQUEST_URI"], "/3");
    first.page("3");
    one.page().expect("an answer");
}

#[test]
fn requests_wait_in_order_and_those_beyond_the_queue_are_refused_at_once() {
    let mut config = pool();
    config.queue_length = 2;
    let mut scene = Scene::new(config);
    let mut clients: Vec<_> = (0..4).map(|_| scene.client()).collect();
    for (number, client) in clients.iter_mut().enumerate().take(2) {
        client.send(&get(&format!("/{number}")));
        let waiting = number as u32 + 1;
        // The sample that tells of the second comes a little later than that of the first.
        scene.expect("a load", |message| matches!(message, FromFront::Load(load) if load.waiting == waiting));
    }
    clients[2].send(&get("/2"));
    let page = clients[2].page().expect("an answer");
    assert_eq!((page.status(), page.header("X-Steadfast")), (503, Some("queue-full")));
    assert!(page.header("Retry-After").is_some());
    // A client that goes gives its place back.
    drop(clients.remove(0));
    scene.expect("a load", |message| matches!(message, FromFront::Load(load) if load.waiting == 1));
    clients[2].send(&get("/3"));
    scene.expect("a load", |message| matches!(message, FromFront::Load(load) if load.waiting == 2));
    let mut worker = scene.worker();
    for (client, uri) in [(0, "/1"), (2, "/3")] {
        assert_eq!(worker.request().params["REQUEST_URI"], uri);
        worker.page(uri);
        assert_eq!(clients[client].page().expect("an answer").text(), uri);
    }
}

#[test]
fn who_waits_too_long_is_told_so() {
    let mut config = pool();
    config.queue_timeout_ms = 50;
    let scene = Scene::new(config);
    let mut client = scene.client();
    client.send(&get("/"));
    let page = client.page().expect("an answer");
    assert_eq!((page.status(), page.header("X-Steadfast")), (503, Some("queue-timeout")));
}

#[test]
fn haproxy_multiplexes() {
    let mut scene = Scene::new(pool());
    let (mut first, mut second) = (scene.worker(), scene.worker());
    let mut client = scene.client();
    let params = |uri: &'static str| [("REQUEST_METHOD", "GET"), ("REQUEST_URI", uri)];
    client.send(&request(1, true, &params("/one"), b""));
    client.send(&request(3, true, &params("/three"), b""));
    assert_eq!(second.request().params["REQUEST_URI"], "/one");
    assert_eq!(first.request().params["REQUEST_URI"], "/three");
    first.page("3");
    assert_eq!(client.page_of(3).expect("an answer").text(), "3");
    second.page("1");
    assert_eq!(client.page_of(1).expect("an answer").text(), "1");
}

#[test]
fn a_worker_that_ignores_keep_conn_is_connected_to_anew() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    for round in 0..5 {
        client.send(&if round % 2 == 0 { get("/") } else { post("/", b"x") });
        worker.request();
        worker.page("ok");
        worker.stream = None;
        assert_eq!(client.page().expect("an answer").text(), "ok", "round {round}");
    }
}

#[test]
fn a_withdrawn_worker_finishes_and_is_free() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    client.send(&get("/"));
    worker.request();
    scene.tell(&ToFront::WorkerWithdraw { worker: worker.id });
    scene.tell(&ToFront::Report { number: 7 });
    scene.expect("reported", |message| *message == FromFront::Reported { number: 7 });
    assert!(!scene.heard.iter().any(|message| matches!(message, FromFront::WorkerFree { .. })));
    worker.page("last");
    assert_eq!(client.page().expect("an answer").text(), "last");
    let id = worker.id;
    scene.expect("free", |message| *message == FromFront::WorkerFree { worker: id });
    client.send(&get("/next"));
    scene.expect("a load", |message| matches!(message, FromFront::Load(load) if load.waiting == 1));
}

#[test]
fn an_upload_that_waited_flows_when_a_worker_comes() {
    let mut scene = Scene::new(pool());
    let mut client = scene.client();
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let bytes = post("/upload", &body);
    let mut writer = client.stream.try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes).expect("it flows"));
    scene.expect("a load", |message| matches!(message, FromFront::Load(load) if load.waiting == 1));
    let mut worker = scene.worker();
    assert_eq!(worker.request().body, body);
    worker.page("taken");
    assert_eq!(client.page().expect("an answer").text(), "taken");
    sender.join().expect("sent");
}

#[test]
fn an_early_answer_to_a_large_upload_leaves_the_connection_usable() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    let bytes = post("/upload", &vec![b'x'; 3_000_000]);
    let mut writer = client.stream.try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes).expect("it is read away"));
    while worker.next_record().0 != kind::STDIN {}
    worker.page("enough");
    assert_eq!(client.page().expect("an answer").text(), "enough");
    sender.join().expect("sent");
    worker.stream = None;
    client.send(&get("/next"));
    assert_eq!(worker.request().params["REQUEST_URI"], "/next");
    worker.page("next");
    assert_eq!(client.page().expect("an answer").text(), "next");
}

#[test]
fn those_who_wait_lose_nothing_to_workers_that_close_after_each_answer() {
    let mut scene = Scene::new(pool());
    let mut clients: Vec<_> = (0..8).map(|_| scene.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&get(&format!("/{number}")));
    }
    let mut worker = scene.worker();
    let serving = std::thread::spawn(move || {
        for _ in 0..8 {
            let uri = worker.request().params["REQUEST_URI"].clone();
            worker.page(&uri);
            worker.stream = None;
        }
        worker
    });
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.page().expect("an answer").text(), format!("/{number}"));
    }
    assert_eq!(scene.bury(serving.join().expect("served")), None);
}

#[test]
fn bytes_behind_an_end_are_nobodys_answer() {
    let mut scene = Scene::new(pool());
    let (mut one, mut two) = (scene.client(), scene.client());
    one.send(&get("/1"));
    scene.expect("a load", |message| matches!(message, FromFront::Load(load) if load.waiting == 1));
    two.send(&get("/2"));
    scene.expect("a load", |message| matches!(message, FromFront::Load(load) if load.waiting == 2));
    let mut worker = scene.worker();
    worker.request();
    let mut out = Vec::new();
    for text in ["first", "stray"] {
        let page = format!("Content-Type: text/plain\r\n\r\n{text}");
        encode::stream(&mut out, kind::STDOUT, 1, page.as_bytes());
        encode::end_request(&mut out, 1, 0, 0);
    }
    worker.write(&out);
    assert_eq!(one.page().expect("an answer").text(), "first");
    worker.stream = None;
    assert_eq!(worker.request().params["REQUEST_URI"], "/2");
    worker.page("second");
    assert_eq!(two.page().expect("an answer").text(), "second");
}

#[test]
fn an_answer_that_begins_as_http_does_has_a_status_for_web_servers() {
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let mut client = scene.client();
    client.send(&get("/"));
    worker.request();
    worker.answer("HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n\r\nnowhere");
    let page = client.page().expect("an answer");
    assert_eq!((page.status(), page.text()), (404, "nowhere".to_owned()));
}

#[test]
fn a_full_pool_can_still_be_asked_whether_the_front_is_there() {
    let mut config = pool();
    config.queue_length = 0;
    let scene = Scene::new(config);
    let mut client = scene.client();
    client.send(&get("/"));
    assert_eq!(client.page().expect("an answer").header("X-Steadfast"), Some("queue-full"));
    client.send(&request(1, true, &[("REQUEST_METHOD", "GET"), ("STEADFAST_PING", "1")], b""));
    let page = client.page().expect("an answer");
    assert_eq!((page.status(), page.header("X-Steadfast"), page.text()), (200, Some("ping"), "pong\n".to_owned()));
}
