//! The example site over FastCGI, asked by hand-made records.

mod tower;

use std::io::{ErrorKind, Write};
use std::process::Stdio;
use std::time::Duration;

use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::params::push_pair;
use steadfast_proto::fcgi::record::{kind, role, status};
use tower::fcgi::{Client, fetch, head, request};
use tower::routes::{self, Ask};
use tower::site::{Site, download, fnv, is_silent, noise};

#[test]
fn every_route_answers() {
    let site = Site::start(&[]);
    routes::check(|ask| fetch(&site.path, ask));
    routes::check_echo(|ask| fetch(&site.path, ask));
}

#[test]
fn every_route_answers_with_two_threads() {
    let site = Site::start(&[("SITE_THREADS", "2")]);
    routes::check(|ask| fetch(&site.path, ask));
    routes::check_echo(|ask| fetch(&site.path, ask));
}

#[test]
fn the_web_servers_variables_are_an_extension() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    let answer = client.ask(1, "/variables");
    let variables: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(variables["REQUEST_URI"], "/variables");
    assert_eq!(variables["HTTP_HOST"], "example.org");
}

#[test]
fn fifty_requests_are_handled_at_once_on_one_connection() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    let ids: Vec<u16> = (1..=50).collect();
    for id in &ids {
        client.get(*id, "/wait/a");
    }
    assert_eq!(client.ask(100, "/waiting/50").text(), "50 are waiting\n");
    client.post(101, "/release/a");
    for id in ids {
        assert_eq!(client.answer(id).text(), "released\n");
    }
}

#[test]
fn fifty_requests_are_handled_at_once_on_fifty_connections() {
    let site = Site::start(&[]);
    let mut clients: Vec<Client> = (0..50).map(|_| Client::connect(&site.path)).collect();
    for client in &mut clients {
        client.get(1, "/wait/a");
    }
    let mut other = Client::connect(&site.path);
    assert_eq!(other.ask(1, "/waiting/50").text(), "50 are waiting\n");
    other.post(1, "/release/a");
    for client in &mut clients {
        assert_eq!(client.answer(1).text(), "released\n");
    }
}

#[test]
fn answers_come_in_the_order_in_which_they_are_ready_and_ids_are_used_again() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    client.get(1, "/wait/a");
    client.get(2, "/wait/b");
    client.ask(3, "/waiting/2");
    client.post(3, "/release/b");
    assert_eq!(client.order(&[2, 3]).len(), 2);
    client.post(3_000, "/release/a");
    assert!(client.order(&[1, 3_000]).contains(&1));
    let (mut seen, mut client) = (Vec::new(), Client::connect(&site.path));
    for _ in 0..100 {
        seen.push(client.ask(7, "/hello/you").body);
    }
    assert!(seen.iter().all(|body| body == b"Hello, you.\n"));
}

#[test]
fn an_abort_drops_the_handler_and_is_answered_by_end() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    client.get(1, "/wait/a");
    client.ask(2, "/waiting/1");
    let mut abort = Vec::new();
    encode::abort(&mut abort, 1);
    client.send(&abort);
    assert_eq!(client.end(1), (Vec::new(), (1, status::REQUEST_COMPLETE)));
    assert_eq!(client.ask(1, "/dropped/1").text(), "1 were dropped\n");
}

#[test]
fn an_abort_before_the_parameters_are_complete_is_answered_by_end() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    let mut bytes = Vec::new();
    encode::begin_request(&mut bytes, 1, role::RESPONDER, true);
    encode::abort(&mut bytes, 1);
    client.send(&bytes);
    assert_eq!(client.end(1).1, (0, status::REQUEST_COMPLETE));
    assert_eq!(client.ask(1, "/").status, 200);
}

#[test]
fn a_client_that_goes_away_drops_its_handlers() {
    let site = Site::start(&[]);
    let mut other = Client::connect(&site.path);
    let mut client = Client::connect(&site.path);
    client.get(1, "/wait/a");
    // One that has an answer to stream, too, and one whose body has not come.
    client.get(2, "/download/1000000000");
    client.send(&head(3, &Ask { body: b"0123456789", ..Ask { method: "POST", ..Ask::get("/wait/b") } }, true));
    other.ask(1, "/waiting/2");
    drop(client);
    assert_eq!(other.ask(1, "/dropped/2").text(), "2 were dropped\n");
}

#[test]
fn a_body_that_is_cut_fails_and_is_no_body() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    let ask = Ask::post("/sum", "text/plain", b"0123456789");
    let mut bytes = head(1, &ask, true);
    encode::stream(&mut bytes, kind::STDIN, 1, b"01234");
    encode::stream_end(&mut bytes, kind::STDIN, 1);
    client.send(&bytes);
    let answer = client.answer(1);
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("5 bytes of the request's body have not come"), "{answer:?}");
}

#[test]
fn a_body_ends_where_its_length_says() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    let mut bytes = head(1, &Ask::post("/echo", "text/plain", b"01234"), true);
    encode::stream(&mut bytes, kind::STDIN, 1, b"0123456789");
    encode::stream_end(&mut bytes, kind::STDIN, 1);
    client.send(&bytes);
    assert_eq!(client.answer(1).text(), "01234");
}

#[test]
fn a_body_that_nobody_reads_is_not_kept() {
    let site = Site::start(&[]);
    let long = noise(20 * 1024 * 1024);
    let bytes = request(1, &Ask { method: "POST", body: &long, ..Ask::get("/wait/a") }, true);
    let mut client = Client::connect(&site.path);
    client.stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let mut sent = 0;
    let error = loop {
        match client.stream.write(&bytes[sent..]) {
            Ok(got) => sent += got,
            Err(error) => break error,
        }
        assert!(sent < 2 * 1024 * 1024, "{sent} bytes were taken");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let mut other = Client::connect(&site.path);
    other.ask(1, "/waiting/1");
    other.post(1, "/release/a");
    other.answer(1);
    // What is left is swallowed, and the connection goes on.
    client.stream.set_write_timeout(Some(tower::site::PATIENCE)).expect("a timeout");
    client.send(&bytes[sent..]);
    assert_eq!(client.answer(1).text(), "released\n");
    assert_eq!(client.ask(1, "/").status, 200);
}

#[test]
fn one_who_hangs_up_is_noticed_while_his_body_waits() {
    let site = Site::start(&[]);
    let long = noise(2 * 1024 * 1024);
    let bytes = request(1, &Ask { method: "POST", body: &long, ..Ask::get("/wait/a") }, true);
    let mut client = Client::connect(&site.path);
    client.stream.set_write_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    assert_eq!(client.stream.write_all(&bytes).expect_err("nobody reads it").kind(), ErrorKind::WouldBlock);
    let mut other = Client::connect(&site.path);
    other.ask(1, "/waiting/1");
    drop(client);
    assert_eq!(other.ask(1, "/dropped/1").text(), "1 were dropped\n");
}

#[test]
fn an_answer_that_nobody_reads_is_not_made() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    client.get(1, "/download/2000000000");
    assert!(!is_silent(&mut client.stream));
    let mut other = Client::connect(&site.path);
    for _ in 0..100 {
        assert_eq!(other.ask(1, "/").status, 200);
    }
    let peak = site.memory_peak();
    assert!(peak < 64 * 1024 * 1024, "{peak} bytes");
}

#[test]
fn uploads_are_mixed_on_one_connection() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    let files: Vec<(u16, Vec<u8>)> = (1..=8).map(|id| (id, noise(100_000 * usize::from(id)))).collect();
    for (id, file) in &files {
        client.send(&head(*id, &Ask::post("/sum", "application/octet-stream", file), true));
    }
    for piece in 0..8 {
        let mut bytes = Vec::new();
        for (id, file) in &files {
            let eighth = file.len() / 8;
            encode::stream(&mut bytes, kind::STDIN, *id, &file[piece * eighth..][..eighth]);
            if piece == 7 {
                encode::stream_end(&mut bytes, kind::STDIN, *id);
            }
        }
        client.send(&bytes);
    }
    for (id, file) in &files {
        assert_eq!(client.answer(*id).text(), format!("{} {}\n", file.len(), fnv(file)));
    }
}

#[test]
fn records_of_several_answers_are_mixed_and_each_is_whole() {
    let site = Site::start(&[("SITE_THREADS", "2")]);
    let mut client = Client::connect(&site.path);
    for id in 1..=8 {
        client.get(id, "/download/1000001");
    }
    let expected = download(1_000_001);
    for id in 1..=8 {
        assert!(client.answer(id).body == expected, "request {id}");
    }
}

#[test]
fn a_connection_for_which_there_is_no_room_is_left_to_other_workers() {
    let (site, listener) = Site::start_with(&[("SITE_CONCURRENCY", "2")], Stdio::null());
    let mut clients: Vec<Client> = (0..2).map(|_| Client::connect(&site.path)).collect();
    for client in &mut clients {
        client.get(1, "/wait/hall");
    }
    // Before they are in hand there is room, and the third would be accepted.
    for _ in 0..2 {
        site.line("in the hall");
    }
    let mut third = Client::connect(&site.path);
    third.get(1, "/");
    assert!(is_silent(&mut third.stream), "it was answered");
    listener.accept().expect("it still waits in the kernel");
}

#[test]
fn events_arrive_one_by_one() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    let mut other = Client::connect(&site.path);
    client.get(1, "/events");
    let head = client.until(1, |text| text.contains("\r\n\r\n"));
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    for text in ["first", "second", "third"] {
        other.post(1, &format!("/tell/{text}"));
        assert_eq!(other.answer(1).text(), "1\n");
        let seen = client.until(1, |seen| seen.contains(text));
        assert!(seen.ends_with(&format!("data: {text}\n\n")), "{seen}");
    }
}

#[test]
fn a_panic_is_told_with_its_place_and_the_worker_goes_on() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    assert_eq!(client.ask(1, "/panic").status, 500);
    let line = site.line("GET /panic: ");
    assert!(line.contains("panicked at") && line.contains("axum-site.rs:") && line.ends_with("on purpose"), "{line}");
    assert_eq!(client.ask(1, "/").status, 200);
}

#[test]
fn an_answer_that_fails_after_its_beginning_is_not_ended() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    client.get(1, "/broken");
    client.until(1, |text| text.ends_with("The beginning."));
    client.assert_ended();
    site.line("GET /broken: the body of the answer: the database has gone");
}

#[test]
fn get_values_tells_the_real_figures() {
    let ask = |site: &Site| {
        let mut client = Client::connect(&site.path);
        let mut bytes = Vec::new();
        encode::get_values(&mut bytes, steadfast_proto::fcgi::values::Asked::ALL);
        client.send(&bytes);
        let (kind, id, content) = client.record().expect("an answer");
        assert_eq!((kind, id), (kind::GET_VALUES_RESULT, 0));
        assert_eq!(client.ask(1, "/").status, 200);
        String::from_utf8(content).expect("text")
    };
    let many = ask(&Site::start(&[("SITE_CONCURRENCY", "7")]));
    assert_eq!(many, "\u{e}\u{1}FCGI_MAX_CONNS7\u{d}\u{1}FCGI_MAX_REQS7\u{f}\u{1}FCGI_MPXS_CONNS1");
    let one = ask(&Site::start(&[("SITE_CONCURRENCY", "1")]));
    assert_eq!(one, "\u{e}\u{1}FCGI_MAX_CONNS1\u{d}\u{1}FCGI_MAX_REQS1\u{f}\u{1}FCGI_MPXS_CONNS0");
}

#[test]
fn no_more_requests_are_taken_than_was_said() {
    let site = Site::start(&[("SITE_CONCURRENCY", "2")]);
    let mut first = Client::connect(&site.path);
    let mut second = Client::connect(&site.path);
    first.get(1, "/wait/a");
    second.get(1, "/wait/a");
    let mut third = Client::connect(&site.path);
    third.get(1, "/");
    assert!(is_silent(&mut third.stream), "it was answered");
    let mut abort = Vec::new();
    encode::abort(&mut abort, 1);
    first.send(&abort);
    first.end(1);
    assert_eq!(third.answer(1).status, 200);
    // One too many on a single connection is told so.
    second.get(2, "/wait/a");
    second.get(3, "/");
    assert_eq!(second.answer(3).status, 503);
}

#[test]
fn what_is_no_request_is_refused_and_the_connection_goes_on() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    client.begin(1, &Ask { method: "GE T", ..Ask::get("/") });
    assert_eq!(client.answer(1).status, 400);
    client.begin(1, &Ask { headers: vec![("a", "b\nc")], ..Ask::get("/") });
    assert_eq!(client.answer(1).status, 400);
    let long = "x".repeat(60_000);
    client.begin(
        1,
        &Ask { headers: vec![("a", &long), ("b", &long), ("c", &long), ("d", &long), ("e", &long)], ..Ask::get("/") },
    );
    assert_eq!(client.answer(1).status, 431);
    client.begin(1, &Ask { headers: vec![("a", "b"); 1001], ..Ask::get("/") });
    assert_eq!(client.answer(1).status, 431);
    let mut bytes = Vec::new();
    encode::begin_request(&mut bytes, 1, role::AUTHORIZER, true);
    let mut pairs = Vec::new();
    push_pair(&mut pairs, b"REQUEST_METHOD", b"GET").expect("short");
    encode::params(&mut bytes, 1, &pairs).expect("short");
    client.send(&bytes);
    assert_eq!(client.end(1), (Vec::new(), (0, status::UNKNOWN_ROLE)));
    assert_eq!(client.ask(1, "/").status, 200);
    // Who does not keep to the protocol is not listened to.
    client.send(b"GET / HTTP/1.1\r\n\r\n");
    client.assert_ended();
}

#[test]
fn a_connection_that_is_not_kept_is_closed_after_the_last_answer() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    client.get(1, "/wait/a");
    client.ask(2, "/waiting/1");
    client.send(&request(3, &Ask::get("/"), false));
    assert_eq!(client.answer(3).status, 200);
    let mut other = Client::connect(&site.path);
    other.post(1, "/release/a");
    assert_eq!(client.answer(1).text(), "released\n");
    client.assert_ended();
}

/// Whoever is still sending takes a reset, or a broken pipe, for the end of everything, also of an answer that it has not read.
#[test]
fn what_ends_a_body_may_come_after_the_answer_and_the_end_of_the_connection() {
    let site = Site::start(&[]);
    for body in [&b""[..], b"01234"] {
        let mut client = Client::connect(&site.path);
        let mut bytes = head(1, &Ask::post("/echo", "text/plain", body), false);
        encode::stream(&mut bytes, kind::STDIN, 1, body);
        client.send(&bytes);
        assert_eq!(client.answer(1).body, body);
        client.assert_ended();
        let mut end = Vec::new();
        encode::stream_end(&mut end, kind::STDIN, 1);
        client.send(&end);
    }
}

/// Everything has come while nothing was read, so that the kernel will tell of nothing any more.
#[test]
fn what_has_come_while_a_body_was_full_is_read_to_its_end() {
    let site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    // The window, one read too much, and more than another read takes: the rest lies in the socket.
    let body = noise(400_000);
    client.send(&request(1, &Ask::post("/late/a", "text/plain", &body), true));
    let mut other = Client::connect(&site.path);
    assert_eq!(other.ask(1, "/waiting/1").text(), "1 are waiting\n");
    other.post(2, "/release/a");
    assert_eq!(client.answer(1).text(), format!("{} {}\n", body.len(), fnv(&body)));
}
