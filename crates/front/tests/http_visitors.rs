//! Visitors who speak HTTP to the front, as well as HTTP can be spoken.

mod http;
mod support;

use std::io::Write as _;
use std::time::{Duration, Instant};

use http::{Visitor, http_pool, others_are_served, passes, site, tcp};
use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::kind;
use steadfast_proto::front::{FromFront, NoteKind, RequestId};
use support::{Scene, Worker};

#[test]
fn a_connection_is_kept() {
    let (mut scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    for round in 0..3 {
        visitor.get("/hello");
        let got = worker.request();
        worker.page(&format!("round {round}"));
        let told = visitor.told().expect("an answer");
        assert_eq!((told.status(), told.text()), (200, format!("round {round}")));
        assert_eq!(told.header("X-Request-ID"), Some(got.params["HTTP_X_REQUEST_ID"].as_str()));
        assert_eq!(told.header("Content-Type"), Some("text/plain"));
        assert!(told.header("Date").is_some() && told.header("Server") == Some("steadfast"));
    }
    scene.expect("one served", |message| matches!(message, FromFront::WorkerServed { requests: 1, .. }));
}

#[test]
fn a_worker_gets_cgi_variables() {
    let (scene, mut worker) = site();
    let text = "POST /a%20b/c?x=%41&y HTTP/1.1\r\nHost: example.org:81\r\nContent-Type: text/x\r\nContent-Length: 3\r\n\
        Accept: a\r\nCookie: c=1\r\nX-Two: 1\r\naccept: b\r\ncookie: d=2\r\nAuthorization: Basic x\r\n\
        X-Forwarded-For: 1.2.3.4\r\ntraceparent: 00-ab-cd-01\r\n\r\nabc";
    let (got, told) = passes(&scene, &mut worker, text);
    assert_eq!((told.status(), got.body.as_slice()), (200, &b"abc"[..]));
    for (name, value) in [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", "/a%20b/c?x=%41&y"),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", "/a b/c"),
        ("QUERY_STRING", "x=%41&y"),
        ("SERVER_NAME", "example.org"),
        ("SERVER_PORT", "81"),
        ("REQUEST_SCHEME", "http"),
        ("CONTENT_TYPE", "text/x"),
        ("CONTENT_LENGTH", "3"),
        ("HTTP_HOST", "example.org:81"),
        ("HTTP_ACCEPT", "a, b"),
        ("HTTP_COOKIE", "c=1; d=2"),
        ("HTTP_X_TWO", "1"),
        ("HTTP_AUTHORIZATION", "Basic x"),
        ("HTTP_X_FORWARDED_FOR", "1.2.3.4"),
        ("HTTP_TRACEPARENT", "00-ab-cd-01"),
    ] {
        assert_eq!(got.params.get(name).map(String::as_str), Some(value), "{name}");
    }
    for name in ["HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTPS", "AUTH_TYPE"] {
        assert!(!got.params.contains_key(name), "{name}");
    }
    let (got, _) = passes(&scene, &mut worker, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(got.params["QUERY_STRING"], "");
    assert!(!got.params.contains_key("CONTENT_LENGTH") && !got.params.contains_key("CONTENT_TYPE"));
}

#[test]
fn who_they_are_is_told_on_tcp() {
    let (scene, mut worker) = site();
    let address = tcp(&scene, http_pool());
    let mut visitor = Visitor::to(address);
    visitor.send("GET / HTTP/1.0\r\n\r\n");
    let got = worker.request();
    assert_eq!((got.params["REMOTE_ADDR"].as_str(), got.params["SERVER_NAME"].as_str()), ("127.0.0.1", "127.0.0.1"));
    assert_eq!(got.params["SERVER_PORT"], address.port().to_string());
    assert!(got.params["REMOTE_PORT"].parse::<u16>().is_ok());
    worker.page("ok");
    assert_eq!(visitor.told().expect("an answer").text(), "ok");
}

#[test]
fn the_pools_own_parameters_replace_ours() {
    let mut config = http_pool();
    config.params.insert("SERVER_NAME".to_owned(), "own".to_owned());
    config.params.insert("SCRIPT_FILENAME".to_owned(), "/srv/index.php".to_owned());
    config.params.insert("HTTP_X_SECRET".to_owned(), "ours".to_owned());
    let mut scene = Scene::new(config);
    let mut worker = scene.worker();
    let (got, _) = passes(&scene, &mut worker, "GET / HTTP/1.1\r\nHost: a\r\nX-Secret: forged\r\n\r\n");
    assert_eq!(got.params["SERVER_NAME"], "own");
    assert_eq!(got.params["SCRIPT_FILENAME"], "/srv/index.php");
    assert_eq!(got.params["HTTP_X_SECRET"], "ours");
}

#[test]
fn a_request_id_is_trusted_where_it_is_configured() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: theirs-1\r\n\r\n";
    let (scene, mut worker) = site();
    let (got, told) = passes(&scene, &mut worker, text);
    assert_ne!(got.params["HTTP_X_REQUEST_ID"], "theirs-1");
    assert_ne!(told.header("X-Request-ID"), Some("theirs-1"));
    let mut config = http_pool();
    config.request_id = RequestId::Trust;
    let mut scene = Scene::new(config);
    let mut worker = scene.worker();
    let (got, told) = passes(&scene, &mut worker, text);
    assert_eq!(got.params["HTTP_X_REQUEST_ID"], "theirs-1");
    assert_eq!(told.header("X-Request-ID"), Some("theirs-1"));
    let (got, _) = passes(&scene, &mut worker, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: a <b>\r\n\r\n");
    assert!(!got.params["HTTP_X_REQUEST_ID"].contains(' '));
}

#[test]
fn chunks_go_up_and_come_down() {
    let (scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    visitor.send("POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    visitor.send("4;ext=1\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n");
    let got = worker.request();
    assert_eq!((got.body.as_slice(), got.params["CONTENT_LENGTH"].as_str()), (&b"abcdefg"[..], "7"));
    assert!(!got.params.contains_key("HTTP_TRANSFER_ENCODING") && !got.params.contains_key("HTTP_TRAILER"));
    let mut out = Vec::new();
    encode::stream(&mut out, kind::STDOUT, 1, b"Content-Type: text/plain\r\n\r\nfirst,");
    worker.write(&out);
    let head = visitor.head().expect("a head before the answer is complete");
    assert!(head.to_ascii_lowercase().contains("transfer-encoding: chunked\r\n"), "{head}");
    out.clear();
    encode::stream(&mut out, kind::STDOUT, 1, b"second");
    encode::end_request(&mut out, 1, 0, 0);
    worker.write(&out);
    let mut rest = String::new();
    while !rest.ends_with("0\r\n\r\n") {
        assert!(visitor.read());
        rest = visitor.shown();
    }
    assert!(rest.contains("first,") && rest.contains("second"), "{rest:?}");
    others_are_served(&scene, &mut worker);
}

#[test]
fn ten_megabytes_flow_both_ways_over_one_connection() {
    let (scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    let body: Vec<u8> = (0..10_000_000u32).map(|n| (n % 251) as u8).collect();
    for round in 0..2 {
        let mut text = if round == 0 {
            format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes()
        } else {
            b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()
        };
        if round == 0 {
            text.extend_from_slice(&body);
        } else {
            for chunk in body.chunks(70_001) {
                text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");
        }
        let (got, sent) = std::thread::scope(|scope| {
            let serve = scope.spawn(|| {
                let got = worker.request();
                worker.page(&"y".repeat(10_000_000));
                got
            });
            visitor.send(&text);
            let told = visitor.told().expect("an answer");
            (serve.join().expect("served"), told)
        });
        assert!(got.body == body, "round {round}: {} bytes", got.body.len());
        assert_eq!((sent.status(), sent.body.len()), (200, 10_000_000), "round {round}");
    }
}

#[test]
fn head_has_no_body_whatever_the_worker_writes() {
    let (scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    for answer in ["Content-Length: 5\r\n\r\nhello", "Content-Length: 5\r\n\r\n", "A: b\r\n\r\nhello"] {
        visitor.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(worker.request().params["REQUEST_METHOD"], "HEAD");
        worker.answer(answer);
        let head = visitor.head().expect("a head");
        assert_eq!(head.contains("content-length: 5\r\n"), answer.contains("Content-Length"), "{head}");
        visitor.get("/next");
        worker.request();
        worker.page("next");
        assert_eq!(visitor.told().expect("an answer").text(), "next", "after {answer:?}");
    }
}

#[test]
fn answers_that_have_no_body_get_none() {
    let (scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    for status in [204, 304] {
        visitor.get("/");
        worker.request();
        worker.answer(&format!("Status: {status}\r\nContent-Length: 5\r\n\r\nhello"));
        assert_eq!(visitor.told().expect("an answer").status(), status);
        visitor.get("/next");
        worker.request();
        worker.page("next");
        assert_eq!(visitor.told().expect("an answer").text(), "next", "after {status}");
    }
}

#[test]
fn whoever_waits_for_100_continue_is_told_to_go_on() {
    let (scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    visitor.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(visitor.head().as_deref(), Some("HTTP/1.1 100 Continue\r\n"));
    visitor.send("hello");
    let got = worker.request();
    assert!(got.body == b"hello" && !got.params.contains_key("HTTP_EXPECT"));
    worker.page("ok");
    assert_eq!(visitor.told().expect("an answer").text(), "ok");
}

#[test]
fn whoever_would_be_refused_is_not_told_to_send_first() {
    let mut config = http_pool();
    config.queue_length = 0;
    let scene = Scene::new(config);
    let mut visitor = Visitor::of(&scene);
    visitor.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let told = visitor.told().expect("an answer");
    assert_eq!((told.status(), told.header("X-Steadfast")), (503, Some("queue-full")));
    assert!(told.header("Retry-After").is_some() && told.text().contains("<h1>"));
}

#[test]
fn a_worker_that_answers_before_it_has_read_stops_nobody() {
    let (scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    let body = vec![b'x'; 4_000_000];
    visitor.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    std::thread::scope(|scope| {
        let worker = &mut worker;
        let serve = scope.spawn(move || {
            // The parameters only; then an answer that no socket's buffer holds, and only then the body.
            loop {
                match worker.record() {
                    Some((kind::STDIN, ..)) => break,
                    Some(_) => {}
                    // What may run only once comes by a new connection.
                    None => worker.stream = None,
                }
            }
            let mut out = Vec::new();
            encode::stream(&mut out, kind::STDOUT, 1, b"A: b\r\n\r\n");
            encode::stream(&mut out, kind::STDOUT, 1, &vec![b'y'; 200_000]);
            worker.write(&out);
            while !worker.record().expect("a record").2.is_empty() {}
            out.clear();
            encode::end_request(&mut out, 1, 0, 0);
            worker.write(&out);
        });
        // Sends everything before it reads anything.
        visitor.send(&body);
        assert_eq!(visitor.told().expect("an answer").body.len(), 200_000);
        serve.join().expect("served");
    });
}

#[test]
fn a_slow_reader_makes_the_worker_wait_and_memory_stay_flat() {
    let (scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    visitor.get("/large");
    worker.request();
    let total = 20_000_000;
    let mut out = Vec::new();
    encode::stream(&mut out, kind::STDOUT, 1, b"A: b\r\n\r\n");
    encode::stream(&mut out, kind::STDOUT, 1, &vec![b'y'; total]);
    encode::end_request(&mut out, 1, 0, 0);
    let stream = worker.stream();
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let mut sent = 0;
    let stalled = loop {
        match stream.write(&out[sent..]) {
            Ok(taken) => sent += taken,
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(stalled, std::io::ErrorKind::WouldBlock);
    assert!(sent < 2_000_000, "{sent} bytes were taken from the worker for a visitor who reads nothing");
    stream.set_write_timeout(None).expect("no timeout");
    std::thread::scope(|scope| {
        let (stream, rest) = (&mut *stream, &out[sent..]);
        scope.spawn(move || stream.write_all(rest).expect("it flows"));
        assert_eq!(visitor.told().expect("an answer").body.len(), total);
    });
    others_are_served(&scene, &mut worker);
}

#[test]
fn http_1_0_is_answered_as_it_was_asked() {
    let (scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    visitor.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(worker.request().params["SERVER_PROTOCOL"], "HTTP/1.0");
    worker.page("old");
    let told = visitor.told().expect("an answer");
    assert_eq!((told.status(), told.text(), told.header("Transfer-Encoding")), (200, "old".to_owned(), None));
    assert!(visitor.rest().is_empty(), "the connection is closed");
}

#[test]
fn requests_that_come_together_are_answered_in_their_order() {
    let (scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let post = "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nGET /x ";
    visitor.send([one("/1"), post.to_owned(), one("/3")].concat());
    for path in ["/1", "/2", "/3"] {
        assert_eq!(worker.request().params["REQUEST_URI"], path);
        worker.page(path);
    }
    for path in ["/1", "/2", "/3"] {
        assert_eq!(visitor.told().expect("an answer").text(), path);
    }
}

#[test]
fn an_upgrade_is_ignored() {
    let (scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    for upgrade in ["h2c", "websocket"] {
        visitor.send(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"));
        let got = worker.request();
        assert!(!got.params.contains_key("HTTP_UPGRADE") && !got.params.contains_key("HTTP_CONNECTION"));
        worker.page(upgrade);
        assert_eq!(visitor.told().expect("an answer").text(), upgrade);
    }
}

/// Asks the front itself.
fn front_answers(scene: &Scene) {
    let mut visitor = Visitor::of(scene);
    visitor.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    let told = visitor.told().expect("an answer without a worker");
    assert_eq!((told.status(), told.header("X-Steadfast")), (200, Some("ping")));
}

#[test]
fn the_front_itself_can_be_asked() {
    front_answers(&Scene::new(http_pool()));
}

#[test]
fn visitors_who_go_hold_nothing() {
    let (scene, mut worker) = site();
    for part in ["", "GET /", "GET / HTTP/1.1\r\nHost:", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"] {
        let mut visitor = Visitor::of(&scene);
        visitor.send(part);
    }
    let mut visitor = Visitor::of(&scene);
    visitor.get("/gone");
    assert_eq!(worker.request().params["REQUEST_URI"], "/gone");
    drop(visitor);
    // It finishes, and nobody hears of it.
    worker.page(&"x".repeat(300_000));
    others_are_served(&scene, &mut worker);
}

#[test]
fn a_visitor_who_goes_from_the_queue_is_never_served() {
    let (scene, mut worker) = site();
    let mut first = Visitor::of(&scene);
    first.get("/first");
    worker.request();
    let mut second = Visitor::of(&scene);
    second.get("/second");
    let mut third = Visitor::of(&scene);
    third.get("/third");
    // Whoever comes later is heard later: first of those two, and then of the end of one.
    front_answers(&scene);
    drop(second);
    front_answers(&scene);
    worker.page("1");
    assert_eq!(first.told().expect("an answer").text(), "1");
    assert_eq!(worker.request().params["REQUEST_URI"], "/third");
    worker.page("3");
    assert_eq!(third.told().expect("an answer").text(), "3");
}

#[test]
fn a_worker_that_dies_is_a_502_or_a_second_try() {
    let (mut scene, mut first) = site();
    let mut second = scene.worker();
    let mut visitor = Visitor::of(&scene);
    visitor.get("/again");
    // Admitted last, asked first.
    assert_eq!(second.request().params["REQUEST_URI"], "/again");
    second.stream = None;
    assert_eq!(first.request().params["REQUEST_URI"], "/again");
    first.page("again");
    assert_eq!(visitor.told().expect("an answer").text(), "again");
    assert!(scene.bury(second).is_some());
    visitor.send("POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(first.request().params["REQUEST_URI"], "/once");
    first.stream = None;
    let told = visitor.told().expect("an answer");
    assert_eq!((told.status(), told.header("X-Steadfast")), (502, Some("worker-died")));
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_complete() {
    let old = "GET / HTTP/1.0\r\n\r\n";
    let new = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (request, head) in
        [(new, "A: b\r\n\r\n"), (new, "Content-Length: 100\r\n\r\n"), (old, "Content-Length: 100\r\n\r\n")]
    {
        let (mut scene, mut worker) = site();
        let mut visitor = Visitor::of(&scene);
        visitor.send(request);
        worker.request();
        let mut out = Vec::new();
        encode::stream(&mut out, kind::STDOUT, 1, format!("{head}half").as_bytes());
        worker.write(&out);
        let shown = visitor.head().expect("a head");
        assert!(shown.starts_with("HTTP/1.") && shown[8..].starts_with(" 200"), "{shown}");
        worker.stream = None;
        let rest = visitor.rest();
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.contains("half") && !rest.contains("0\r\n\r\n"), "{request:?} {head:?}: {rest:?}");
        let _ = scene.bury(worker);
        scene.knows("cut", |message| matches!(message, FromFront::Note(note) if note.kind == NoteKind::Cut));
    }
}

/// The end of the connection is the end of such an answer, so only a reset can say that it is none.
#[test]
fn an_answer_without_a_length_that_breaks_off_is_a_reset_on_tcp() {
    let (scene, mut worker) = site();
    let mut visitor = Visitor::to(tcp(&scene, http_pool()));
    visitor.send("GET / HTTP/1.0\r\n\r\n");
    worker.request();
    let mut out = Vec::new();
    encode::stream(&mut out, kind::STDOUT, 1, b"A: b\r\n\r\nhalf");
    worker.write(&out);
    visitor.head().expect("a head");
    worker.stream = None;
    let mut buffer = [0; 100];
    let end = loop {
        match visitor.stream.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error.kind()),
        }
    };
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
}

/// Closing a socket with input unread resets it, and a reset takes away what the visitor has not read.
#[test]
fn a_refusal_reaches_who_is_still_sending() {
    let mut config = http_pool();
    config.queue_length = 0;
    let scene = Scene::new(config.clone());
    let address = tcp(&scene, config);
    for _ in 0..5 {
        let mut visitor = Visitor::to(address);
        visitor.try_send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n");
        for _ in 0..10 {
            visitor.try_send(vec![b'x'; 100_000]);
        }
        let told = visitor.told().expect("a refusal and no reset");
        assert_eq!((told.status(), told.header("X-Steadfast")), (503, Some("queue-full")));
    }
}

#[test]
fn connections_are_closed_when_the_front_leaves() {
    let (scene, mut worker) = site();
    let mut idle = Visitor::of(&scene);
    idle.get("/idle");
    worker.request();
    worker.page("idle");
    idle.told().expect("an answer");
    let mut busy = Visitor::of(&scene);
    busy.get("/busy");
    worker.request();
    scene.tell(&steadfast_proto::front::ToFront::Leave { within_ms: 10_000 });
    assert!(idle.rest().is_empty(), "an idle connection is closed at once");
    worker.page("busy");
    let told = busy.told().expect("an answer");
    assert_eq!((told.text(), told.header("Connection")), ("busy".to_owned(), Some("close")));
    assert!(busy.rest().is_empty());
}

/// RSS of this process, in KiB.
fn rss() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line");
    line.split_whitespace().nth(1).expect("a figure").parse().expect("a number")
}

fn serve(worker: &mut Worker, visitors: &mut [Visitor]) {
    for visitor in visitors {
        visitor.get("/");
        worker.request();
        worker.page("ok");
        assert_eq!(visitor.told().expect("an answer").text(), "ok");
    }
}

/// By hand, alone: it wants 10,000 fds, and looks at the RSS of this process.
#[test]
#[ignore = "measures; alone, with ulimit -n 10000"]
fn idle_connections_cost_little() {
    const CONNECTIONS: usize = 4000;
    let (scene, mut worker) = site();
    let mut warm: Vec<Visitor> = (0..50).map(|_| Visitor::of(&scene)).collect();
    serve(&mut worker, &mut warm);
    let before = rss();
    let mut visitors: Vec<Visitor> = Vec::new();
    for n in 0..CONNECTIONS {
        visitors.push(Visitor::of(&scene));
        if n % 8 == 7 {
            let from = visitors.len() - 8;
            serve(&mut worker, &mut visitors[from..]);
        }
    }
    let at_once = rss();
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        others_are_served(&scene, &mut worker);
        std::thread::sleep(Duration::from_millis(100));
    }
    let later = rss();
    let each = |now: usize| (now - before) as f64 / CONNECTIONS as f64;
    eprintln!("KiB each (both ends): {:.2} at once, {:.2} after 4 s", each(at_once), each(later));
    assert!(each(later) <= 16.0);
}
