//! The status path: answered by the front itself, whatever its workers do, and whoever asks.

mod support;

use std::net::TcpListener;
use std::os::fd::AsFd as _;

use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::params::push_pair;
use steadfast_proto::front::{
    Counters, Figures, FromFront, Life, Listener, Load, Manager, Pool, Protocol, StatusPage, ToFront,
};
use support::{Client, Page, Scene, pool, request};

/// A pool with a status page, which an earlier front has counted for.
fn told() -> Pool {
    let before = Figures { accepted: 100, waiting_max: 7, busy_max: 1, full: 2, slow: 3 };
    let path = "/status".to_owned();
    let since = 951_782_400;
    Pool { status: Some(StatusPage { path, manager: Manager::Dynamic, workers_max: 1, since, before }), ..pool() }
}

fn ask(client: &mut Client, query: &str) -> Page {
    let params = [("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", "/status"), ("QUERY_STRING", query)];
    client.send(&request(1, true, &params, b""));
    client.page().expect("an answer")
}

/// What stands behind a key of the text.
fn value(page: &str, key: &str) -> String {
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
    line.unwrap_or_else(|| panic!("no {key} in {page}")).trim().to_owned()
}

#[test]
fn it_tells_of_the_pool_while_no_worker_is_there_and_none_may_serve() {
    let mut scene = Scene::new(told());
    scene.tell(&ToFront::Fallback { pool: 1, on: true });
    scene.turn();
    let page = ask(&mut scene.client(), "");
    assert_eq!((page.status(), page.header("Content-Type")), (200, Some("text/plain;charset=UTF-8")));
    assert_eq!((page.header("Status"), page.head.lines().count()), (None, 5), "{}", page.head);
    let text = page.text();
    for (key, expected) in [
        ("pool", "site"),
        ("process manager", "dynamic"),
        ("start time", "29/Feb/2000:00:00:00 +0000"),
        ("accepted conn", "100"),
        ("max listen queue", "7"),
        ("listen queue len", "16"),
        ("total processes", "0"),
        ("max children reached", "2"),
        ("slow requests", "3"),
    ] {
        assert_eq!(value(&text, key), expected, "{key}");
    }
}

#[test]
fn it_is_no_visit_and_no_worker_sees_it() {
    let mut scene = Scene::new(told());
    let mut worker = scene.worker();
    for _ in 0..3 {
        assert_eq!(value(&ask(&mut scene.client(), "").text(), "accepted conn"), "100");
    }
    scene.turn();
    let counted = |message: &FromFront| matches!(message, FromFront::Counters(counters) if counters.requests != Counters::default().requests);
    assert!(!scene.heard.iter().any(counted), "{:?}", scene.heard);
    // The first that the worker gets is the first that is for it.
    let mut client = scene.client();
    client.send(&support::get("/statusx"));
    assert_eq!(worker.request().params["REQUEST_URI"], "/statusx");
    worker.page("hello");
    assert_eq!(client.page().expect("an answer").text(), "hello");
    assert_eq!(value(&ask(&mut scene.client(), "").text(), "accepted conn"), "101");
}

#[test]
fn it_tells_what_a_worker_does_and_did() {
    let mut scene = Scene::new(told());
    let id = 77;
    let path = scene.dir.path().join("worker-77");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a private socket");
    let path = path.to_str().expect("text").to_owned();
    let life = Life { pid: 4711, since: 951_782_400, served: 10 };
    scene.tell(&ToFront::WorkerOffered { worker: id, pool: 1, path, concurrency: 1, pid: None, life });
    scene.expect("connected", |message| *message == FromFront::Connected { worker: id });
    assert_eq!(value(&ask(&mut scene.client(), "full").text(), "total processes"), "0", "it serves nobody yet");
    let mut worker = support::Worker { id, listener: Some(listener), stream: None };
    scene.admit(&worker);
    let text = ask(&mut scene.client(), "full").text();
    assert_eq!((value(&text, "pid"), value(&text, "requests")), ("4711".to_owned(), "10".to_owned()));
    assert_eq!((value(&text, "request method"), value(&text, "request URI")), ("-".to_owned(), "-".to_owned()));

    let mut client = scene.client();
    let long = "x".repeat(20_000);
    for (script, more) in [("/a.cgi", ""), ("/b.cgi", &long[..])] {
        let params = [
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", "/a?b=1"),
            ("CONTENT_LENGTH", "3"),
            ("REMOTE_USER", "eve"),
            ("HTTP_COOKIE", more),
            ("SCRIPT_FILENAME", script),
        ];
        client.send(&request(1, true, &params, b"abc"));
        worker.request();
        let busy = ask(&mut scene.client(), "full").text();
        assert_eq!((value(&busy, "state"), value(&busy, "script")), ("Running".to_owned(), script.to_owned()));
        assert_eq!(
            (value(&busy, "active processes"), value(&busy, "idle processes")),
            ("1".to_owned(), "0".to_owned())
        );
        worker.page("done");
        client.page().expect("an answer");
        let idle = ask(&mut scene.client(), "full").text();
        for (key, expected) in [
            ("state", "Idle"),
            ("request method", "POST"),
            ("request URI", "/a?b=1"),
            ("content length", "3"),
            ("user", "eve"),
            ("script", script),
        ] {
            assert_eq!(value(&idle, key), expected, "{key}");
        }
        assert_ne!(value(&idle, "request duration"), "0");
    }
    assert_eq!(value(&ask(&mut scene.client(), "full").text(), "requests"), "12");
}

#[test]
fn a_pool_is_full_once_until_somebody_is_idle() {
    let mut scene = Scene::new(told());
    let mut worker = scene.worker();
    for round in 1..=2 {
        let mut clients: Vec<Client> = (0..3).map(|_| scene.client()).collect();
        for client in &mut clients {
            client.send(&support::get("/"));
        }
        scene.expect("two waiting", |message| matches!(message, FromFront::Load(Load { waiting: 2, .. })));
        let text = ask(&mut scene.client(), "").text();
        assert_eq!(value(&text, "listen queue"), "2");
        assert_eq!(value(&text, "max children reached"), (2 + round).to_string());
        assert_eq!(value(&text, "accepted conn"), (100 + 3 * round).to_string());
        // Who connects and speaks before the front looks is heard before one whom it has let in: any of them may be the first.
        for _ in &clients {
            worker.request();
            worker.page("x");
        }
        for client in &mut clients {
            assert_eq!(client.page().expect("an answer").text(), "x");
        }
        scene.turn();
    }
}

#[test]
fn who_asks_for_something_else_is_not_told() {
    let mut scene = Scene::new(told());
    let mut worker = scene.worker();
    let mut client = scene.client();
    for (script, info) in
        [("/status/", ""), ("/status", "/"), ("/STATUS", ""), ("/a/status", ""), ("", "/statu"), ("", "")]
    {
        let params = [("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", script), ("PATH_INFO", info)];
        client.send(&request(1, true, &params, b""));
        worker.request();
        worker.page("the application");
        assert_eq!(client.page().expect("an answer").text(), "the application", "{script:?} {info:?}");
    }
    // An authorizer that says 200 lets somebody in.
    let mut stream = Vec::new();
    push_pair(&mut stream, b"SCRIPT_NAME", b"/status").expect("short");
    push_pair(&mut stream, b"REQUEST_METHOD", b"GET").expect("short");
    let mut bytes = Vec::new();
    encode::begin_request(&mut bytes, 1, 2, true);
    encode::params(&mut bytes, 1, &stream).expect("they fit");
    client.send(&bytes);
    worker.request();
    worker.answer("Status: 403 Forbidden\r\n\r\n");
    assert_eq!(client.page().expect("an answer").status(), 403);
    // Split otherwise it is the same path.
    client.send(&request(1, true, &[("REQUEST_METHOD", "GET"), ("PATH_INFO", "/status")], b""));
    assert!(client.page().expect("an answer").text().starts_with("pool: "));
}

#[test]
fn nothing_that_a_visitor_sends_forges_a_line_or_a_key() {
    let mut scene = Scene::new(told());
    let mut worker = scene.worker();
    let mut client = scene.client();
    let evil = "/\"}\nslow requests: 9\r\n\u{1}<script>&\\\u{85}";
    client.send(&support::get(evil));
    worker.request();
    worker.page("x");
    client.page().expect("an answer");
    let text = ask(&mut scene.client(), "full").text();
    assert_eq!(text.lines().filter(|line| line.starts_with("slow requests")).count(), 1);
    let json = ask(&mut scene.client(), "full&json").text();
    assert!(json.contains(r#""request uri":"/\"}"#) && !json.contains('\n'), "{json}");
    for query in ["full&xml", "full&html"] {
        let page = ask(&mut scene.client(), query).text();
        assert!(
            !page.contains("<script>&") && !page.contains('\u{1}') && page.contains("&lt;script&gt;&amp;"),
            "{page}"
        );
    }
    let openmetrics = ask(&mut scene.client(), "openmetrics&full").text();
    assert!(openmetrics.ends_with("phpfpm_slow_requests 3\n# EOF\n"));
}

#[test]
fn a_body_and_a_hundred_others_at_once_do_no_harm() {
    let mut scene = Scene::new(told());
    let mut worker = scene.worker();
    let mut client = scene.client();
    let body = vec![b'x'; 300_000];
    let params = [("REQUEST_METHOD", "POST"), ("SCRIPT_NAME", "/status"), ("CONTENT_LENGTH", "300000")];
    client.send(&request(1, true, &params, &body));
    assert_eq!(client.page().expect("an answer").status(), 200);
    let head = [("REQUEST_METHOD", "HEAD"), ("SCRIPT_NAME", "/status"), ("QUERY_STRING", "json")];
    client.send(&request(1, true, &head, b""));
    let page = client.page().expect("an answer");
    assert_eq!((page.status(), page.body.len()), (200, 0));
    let many: Vec<u8> = (1..=100)
        .flat_map(|id| request(id, true, &[("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", "/status")], b""))
        .collect();
    client.send(&many);
    for id in 1..=100 {
        assert!(client.page_of(id).expect("an answer").text().starts_with("pool: "));
    }
    client.send(&support::get("/after"));
    worker.request();
    worker.page("served");
    assert_eq!(client.page().expect("an answer").text(), "served");
}

#[test]
fn it_is_told_over_http_too_and_a_second_configuration_counts_nothing_twice() {
    let mut scene = Scene::new(told());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let address = listener.local_addr().expect("bound");
    let mut config = told();
    config.listeners.push(Listener { id: 2, protocol: Protocol::Http, address: format!("http://{address}") });
    let dummy = std::fs::File::open("/dev/null").expect("there");
    scene.tell_with(&ToFront::Pool(Box::new(config)), &[dummy.as_fd(), listener.as_fd()]);
    scene.turn();
    let get = |target: &str| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(support::PATIENCE)).expect("a timeout");
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(bytes.as_bytes()).expect("the front reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    };
    let page = get("/status?json");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("content-type: application/json\r\n"), "{page}");
    assert!(page.contains("content-length: "), "{page}");
    assert!(page.contains("\"accepted conn\":100,"), "{page}");
    let worker = scene.worker();
    drop(worker);
    assert!(get("/%73tatus").contains("pool:                 site\n"));
}
