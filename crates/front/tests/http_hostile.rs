//! Visitors and workers who abuse HTTP, each under the name of what went wrong elsewhere (research/fastcgi.md, C): no
//! input makes the front send a worker a second request, or a visitor a second answer.

mod http;
mod support;

use http::{Visitor, http_pool, others_are_served, passes, refuses, site};
use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::kind;
use steadfast_proto::front::{FromFront, NoteKind};
use support::{Scene, Worker};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";

#[test]
fn smuggling_by_two_lengths() {
    let (scene, mut worker) = site();
    for lengths in ["Content-Length: 3\r\nContent-Length: 30\r\n", "Content-Length: 30\r\nContent-Length: 3\r\n"] {
        let text = format!("{POST}{lengths}\r\nabcGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        refuses(&scene, &mut worker, text, 400, lengths);
    }
    for length in ["3, 3", "3, 30", "+3", "-3", "3 3", "0x3", "3a", "99999999999999999999", "", "\"3\""] {
        let text = format!("{POST}Content-Length: {length}\r\n\r\nabcGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        refuses(&scene, &mut worker, text, 400, length);
    }
}

#[test]
fn smuggling_by_two_lengths_that_agree() {
    let (scene, mut worker) = site();
    let text = format!("{POST}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc");
    refuses(&scene, &mut worker, text, 400, "twice the same");
}

/// CL.TE and TE.CL.
#[test]
fn smuggling_by_a_length_and_a_coding() {
    let (scene, mut worker) = site();
    for headers in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"]
    {
        let text = format!("{POST}{headers}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        refuses(&scene, &mut worker, text, 400, headers);
    }
}

/// TE.TE: a coding that one of two readers does not see.
#[test]
fn smuggling_by_an_unusual_coding() {
    let (scene, mut worker) = site();
    for (coding, status) in [
        ("Transfer-Encoding: xchunked\r\n", 400),
        ("Transfer-Encoding: chunked, identity\r\n", 400),
        ("Transfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding : chunked\r\n", 400),
        ("Transfer-Encoding:\r\n chunked\r\n", 400),
        ("Transfer-Encoding: \x0bchunked\r\n", 400),
    ] {
        let text = format!("{POST}{coding}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        refuses(&scene, &mut worker, text, status, coding);
    }
    refuses(&scene, &mut worker, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "HTTP/1.0");
}

/// The worker would get a body that is compressed, and nobody would tell it.
#[test]
fn a_coding_that_nobody_undoes_is_refused() {
    let (scene, mut worker) = site();
    for coding in ["gzip, chunked", "chunked, chunked"] {
        let text = format!("{POST}Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
        let mut visitor = Visitor::of(&scene);
        visitor.send(text);
        let told = visitor.told().expect("an answer");
        assert!(matches!(told.status(), 400 | 501), "{coding}: {}", told.head);
        others_are_served(&scene, &mut worker);
    }
}

#[test]
fn smuggling_by_chunks() {
    let (scene, mut worker) = site();
    for chunks in [
        "zz\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "\r\n",
        "3;\nabc\r\n0\r\n\r\n",
    ] {
        let text = format!("{POST}Transfer-Encoding: chunked\r\n\r\n{chunks}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        refuses(&scene, &mut worker, text, 400, chunks);
    }
}

#[test]
fn a_body_that_ends_early_is_never_given_to_a_worker() {
    let (scene, mut worker) = site();
    for text in [
        format!("{POST}Content-Length: 10\r\n\r\nabc"),
        format!("{POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        format!("{POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"),
    ] {
        let mut visitor = Visitor::of(&scene);
        visitor.send(text);
        drop(visitor);
        others_are_served(&scene, &mut worker);
    }
}

#[test]
fn a_body_that_looks_like_a_request_is_a_body() {
    let (scene, mut worker) = site();
    let inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let text = format!("{POST}Content-Length: {}\r\n\r\n{inner}", inner.len());
    assert_eq!(passes(&scene, &mut worker, text).0.body, inner.as_bytes());
    let text = format!("{POST}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    assert_eq!(passes(&scene, &mut worker, text).0.body, inner.as_bytes());
    // Records of FastCGI in it are a body, too (HAProxy 0aeae2305).
    let mut records = Vec::new();
    encode::begin_request(&mut records, 1, 1, true);
    let text = [format!("{POST}Content-Length: {}\r\n\r\n", records.len()).as_bytes(), &records].concat();
    assert_eq!(passes(&scene, &mut worker, text).0.body, records);
    others_are_served(&scene, &mut worker);
}

#[test]
fn heads_that_make_no_sense() {
    let (scene, mut worker) = site();
    for (text, name) in [
        (format!("{GET}A: b\r\n c\r\n\r\n"), "obs-fold"),
        (format!("{GET} A: b\r\n\r\n"), "a space before a name"),
        (format!("{GET}A : b\r\n\r\n"), "a space before a colon"),
        (format!("{GET}A: b\0c\r\n\r\n"), "NUL in a value"),
        (format!("{GET}A\0: b\r\n\r\n"), "NUL in a name"),
        (format!("{GET}A: b\rc\r\n\r\n"), "a lone CR"),
        (format!("{GET}A: b\x1b[2J\r\n\r\n"), "ESC"),
        (format!("{GET}no colon\r\n\r\n"), "no colon"),
        (format!("{GET}: b\r\n\r\n"), "no name"),
        (format!("{GET}\u{e4}: b\r\n\r\n"), "a name that is not ASCII"),
        ("GET /\r\n\r\n".to_owned(), "HTTP/0.9"),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n".to_owned(), "HTTP/1.2"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), "HTTP/2.0"),
        ("GET / http/1.1\r\nHost: a\r\n\r\n".to_owned(), "lower case"),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "two spaces"),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "a space in the target"),
        ("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "a control character in the target"),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "a method that is none"),
        ("GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "NUL in the path"),
        ("GET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "an escape that is none"),
        ("GET /a% HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "half an escape"),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned(), "TLS"),
        ("\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x00\r\n\r\n".to_owned(), "FastCGI"),
    ] {
        refuses(&scene, &mut worker, text, 400, name);
    }
}

/// Some readers take LF alone for the end of a line, and some do not.
#[test]
fn lines_that_end_with_lf_alone() {
    let (scene, mut worker) = site();
    for (text, name) in [
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), "all"),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned(), "the first"),
        (format!("{GET}A: b\nC: d\r\n\r\n"), "a header"),
        (format!("{GET}A: b\r\n\n"), "the last"),
    ] {
        refuses(&scene, &mut worker, text, 400, name);
    }
}

#[test]
fn the_preface_of_http_2_is_refused() {
    let (scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    visitor.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let rest = visitor.rest();
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4") || rest.starts_with(b"HTTP/1.1 5"));
    others_are_served(&scene, &mut worker);
}

#[test]
fn connect_is_refused() {
    let (scene, mut worker) = site();
    for text in ["CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut visitor = Visitor::of(&scene);
        visitor.send(text);
        let told = visitor.told().expect("an answer");
        assert!(matches!(told.status(), 400 | 405 | 501), "{}", told.head);
        others_are_served(&scene, &mut worker);
    }
}

#[test]
fn limits_of_a_head() {
    let (scene, mut worker) = site();
    let cookie = format!("{GET}Cookie: {}\r\n\r\n", "x".repeat(50_000));
    assert_eq!(passes(&scene, &mut worker, cookie).0.params["HTTP_COOKIE"].len(), 50_000);
    let many: String = (0..99).map(|n| format!("X-{n}: y\r\n")).collect();
    assert_eq!(passes(&scene, &mut worker, format!("{GET}{many}\r\n")).0.params["HTTP_X_98"], "y");
    let path = format!("/{}", "x".repeat(16_000));
    let text = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(passes(&scene, &mut worker, text).0.params["PATH_INFO"], path);
}

#[test]
fn what_passes_a_limit_of_a_head_is_refused() {
    let (scene, mut worker) = site();
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    refuses(&scene, &mut worker, format!("{GET}{many}\r\n"), 431, "too many headers");
    let large = format!("{GET}Cookie: {}\r\n\r\n", "x".repeat(70_000));
    refuses(&scene, &mut worker, large, 431, "a cookie that is too long");
    let path = "x".repeat(20_000);
    refuses(&scene, &mut worker, format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n"), 414, "a path that is too long");
    refuses(&scene, &mut worker, format!("{GET}A: {}", "x".repeat(100_000)), 431, "a head that never ends");
}

/// interface.md, section 3: whatever is refused is refused with a page for people, and a word for programs.
#[test]
fn every_refusal_has_a_page() {
    let (scene, mut worker) = site();
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let path = "x".repeat(20_000);
    for (text, status, word) in [
        (format!("{GET}{many}\r\n"), 431, "headers-too-large"),
        (format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n"), 414, "uri-too-long"),
        (format!("{GET}no colon\r\n\r\n"), 400, "bad-request"),
        (format!("{POST}Content-Length: x\r\n\r\n"), 400, "bad-request"),
        (format!("{POST}Transfer-Encoding: chunked\r\n\r\nzz\r\n"), 400, "bad-request"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad-request"),
    ] {
        let told = refuses(&scene, &mut worker, text, status, word);
        assert_eq!(told.header("X-Steadfast"), Some(word), "{}", told.head);
        assert!(told.text().contains("<h1>") && told.header("Cache-Control") == Some("no-store"), "{word}: {told:?}");
    }
}

#[test]
fn hosts() {
    let (scene, mut worker) = site();
    for (text, name) in [
        ("GET / HTTP/1.1\r\n\r\n", "none"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "two"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "twice the same"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "a path"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "a space"),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "a list"),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "a port that is none"),
        ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", "a user"),
    ] {
        refuses(&scene, &mut worker, text, 400, name);
    }
    for host in ["a", "a:80", "[::1]:8080", "127.0.0.1", "xn--4ca.example"] {
        let (got, _) = passes(&scene, &mut worker, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(got.params["HTTP_HOST"], host);
    }
}

/// RFC 9112, section 3.2.2: what the target says stands. A cache or a rule in front that goes by the one, and a program
/// that goes by the other, is how a site's cache is poisoned.
#[test]
fn an_absolute_target_overrules_host() {
    let (scene, mut worker) = site();
    let text = "GET http://good.example:81/x?y HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    let (got, _) = passes(&scene, &mut worker, text);
    assert_eq!(
        (got.params["HTTP_HOST"].as_str(), got.params["SERVER_NAME"].as_str()),
        ("good.example:81", "good.example")
    );
    assert_eq!((got.params["PATH_INFO"].as_str(), got.params["REQUEST_URI"].as_str()), ("/x", "/x?y"));
}

#[test]
fn targets_of_other_forms_are_refused() {
    let (scene, mut worker) = site();
    for target in ["example.com", "example.com:80", "http://user@a/", "ftp://a/", "*", "foo/bar", "/a#b"] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        refuses(&scene, &mut worker, text, 400, target);
    }
}

/// CVE-2016-5385 and its family; Caddy GHSA-f59h-q822-g45g, GHSA-49wc-4hcv-v58q.
#[test]
fn httpoxy_and_names_that_collide() {
    let (scene, mut worker) = site();
    let text = format!(
        "{GET}Proxy: http://evil\r\nPROXY: http://evil\r\nX_Forwarded_User: root\r\nX.Forwarded.User: root\r\n\
         X-Forwarded_User: root\r\nX-Forwarded-User: me\r\n\r\n"
    );
    let (got, _) = passes(&scene, &mut worker, text);
    assert_eq!(got.params["HTTP_X_FORWARDED_USER"], "me");
    assert!(!got.params.contains_key("HTTP_PROXY"));
}

/// php-fpm CVE-2019-11043 and Caddy #4614: line ends in a path are bytes like others, and are not cut off.
#[test]
fn line_ends_in_a_path() {
    let (scene, mut worker) = site();
    let (got, _) = passes(&scene, &mut worker, "GET /a%0ab%0Dc/%ff HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(got.params["PATH_INFO"], "/a\nb\rc/\u{fffd}");
    assert_eq!(got.params["REQUEST_URI"], "/a%0ab%0Dc/%ff");
}

/// The visitor gets a 502 that says nothing of what the worker wrote, the event says why, and the connection is kept.
fn bad_answer(scene: &mut Scene, worker: &mut Worker, answer: &str) {
    let mut visitor = Visitor::of(scene);
    visitor.get("/bad");
    worker.request();
    worker.answer(answer);
    let told = visitor.told().unwrap_or_else(|| panic!("{answer:?}: no answer"));
    assert_eq!((told.status(), told.header("X-Steadfast")), (502, Some("bad-answer")), "{answer:?}");
    assert!(!format!("{}{}", told.head, told.text()).contains("evil"), "{answer:?}: {told:?}");
    let note = scene
        .expect("an event", |message| matches!(message, FromFront::Note(note) if note.kind == NoteKind::BadAnswer));
    assert!(matches!(note, FromFront::Note(note) if note.message.as_ref().is_some_and(|why| why.len() > 10)));
    visitor.get("/next");
    assert_eq!(worker.request().params["REQUEST_URI"], "/next");
    worker.page("next");
    assert_eq!(visitor.told().expect("an answer").text(), "next", "after {answer:?}");
}

/// nginx 1194ba36a; Apache CVE-2016-8743, CVE-2024-42516, CVE-2024-24795; OpenBSD httpd 2026.
#[test]
fn response_splitting_by_a_worker() {
    let (mut scene, mut worker) = site();
    for answer in [
        "Location: /\rSet-Cookie: evil\r\n\r\nx",
        "Location: /\0evil\r\n\r\nx",
        "X: a\r\n evil\r\n\r\nx",
        "raw evil bytes\r\n\r\nx",
        "X: a\r\nevil without a colon\r\n\r\nx",
        "HTTP/1.1 200 evil\r\nContent-Type: text/html\r\n\r\nx",
        "Status: 101 evil\r\nUpgrade: h2c\r\n\r\nx",
        "Status: 100\r\n\r\nHTTP/1.1 200 OK\r\n\r\nevil",
        "Status: 99\r\n\r\nx",
        "Status: 1000\r\n\r\nx",
        "Status: 200\r\nStatus: 404 evil\r\n\r\nx",
        "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "Content-Length: 1, 1\r\n\r\nx",
        "Content-Length: -1\r\n\r\nx",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nevil",
        "Transfer-Encoding: identity\r\n\r\nevil",
        "X y: evil\r\n\r\nx",
        "X\u{e4}: evil\r\n\r\nx",
        "\r\nevil",
        "X: never ends evil",
    ] {
        bad_answer(&mut scene, &mut worker, answer);
    }
    bad_answer(&mut scene, &mut worker, &format!("X: {}\r\n\r\nx", "y".repeat(70_000)));
}

/// A whole small answer that is not as long as it says: nothing of it has gone, so a 502 can be given.
#[test]
fn a_small_answer_that_lies_about_its_length() {
    let (mut scene, mut worker) = site();
    for answer in [
        "Content-Length: 9\r\n\r\nevil",
        "Content-Length: 2\r\n\r\nevil",
        "Content-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\nevil",
    ] {
        bad_answer(&mut scene, &mut worker, answer);
    }
}

/// The same when its head has gone: it is cut, an event tells why, and no byte of it is taken for the next answer.
#[test]
fn a_body_that_is_longer_or_shorter_than_its_head_said() {
    for (more, name) in [(&b"okHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"[..], "longer"), (b"o", "shorter")] {
        let (mut scene, mut worker) = site();
        let mut visitor = Visitor::of(&scene);
        visitor.get("/bad");
        worker.request();
        let mut out = Vec::new();
        encode::stream(&mut out, kind::STDOUT, 1, b"Content-Length: 4\r\n\r\nok");
        worker.write(&out);
        visitor.head().expect("a head");
        visitor.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
        out.clear();
        encode::stream(&mut out, kind::STDOUT, 1, more);
        encode::end_request(&mut out, 1, 0, 0);
        worker.write(&out);
        let rest = String::from_utf8(visitor.rest()).expect("text");
        assert!(rest.starts_with("ok") && rest.len() <= 4 && !rest.contains("evil"), "{name}: {rest:?}");
        scene.knows("an event", |message| matches!(message, FromFront::Note(note) if note.kind == NoteKind::BadAnswer));
    }
}

#[test]
fn orders_to_web_servers_do_not_reach_visitors() {
    let (scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    visitor.get("/");
    worker.request();
    worker.answer(
        "X-Accel-Redirect: /evil\r\nX-Sendfile: /evil\r\nX-LIGHTTPD-send-file: /evil\r\nX-Reproxy-URL: http://evil/\r\n\
         Connection: evil\r\nKeep-Alive: evil\r\nUpgrade: evil\r\nTrailer: evil\r\nX-Steadfast: evil\r\n\
         X-Request-ID: evil\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nServer: theirs\r\n\r\nbody",
    );
    let told = visitor.told().expect("an answer");
    assert!(!told.head.contains("evil"), "{}", told.head);
    assert_eq!(told.head.to_ascii_lowercase().matches("set-cookie: ").count(), 2);
    assert_eq!(
        (told.header("Server"), told.header("Content-Type"), told.text()),
        (Some("theirs"), None, "body".to_owned())
    );
}

#[test]
fn status_and_location() {
    let (scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    for (answer, line) in [
        ("Status: 404 Gone Fishing\r\n\r\nx", "HTTP/1.1 404 Gone Fishing\r\n"),
        ("Status: 299\r\n\r\nx", "HTTP/1.1 299 "),
        ("Location: /local\r\n\r\n", "HTTP/1.1 302 Found\r\n"),
        ("Location: http://b/\nStatus: 301\n\n", "HTTP/1.1 301 Moved Permanently\r\n"),
        ("Content-Type: text/plain\n\nx", "HTTP/1.1 200 OK\r\n"),
    ] {
        visitor.get("/");
        worker.request();
        worker.answer(answer);
        let told = visitor.told().expect("an answer");
        assert!(told.head.starts_with(line), "{answer:?}: {}", told.head);
    }
}

#[test]
fn stderr_of_a_worker_is_an_event_and_reaches_no_visitor() {
    let (mut scene, mut worker) = site();
    let mut visitor = Visitor::of(&scene);
    visitor.get("/");
    worker.request();
    let mut out = Vec::new();
    let text = b"evil\x1b[2J\r\n\0\xff";
    encode::stream(&mut out, kind::STDERR, 1, text);
    worker.write(&out);
    worker.page("ok");
    let told = visitor.told().expect("an answer");
    assert!(told.text() == "ok" && !told.head.contains("evil"));
    scene.knows("an event", |message| {
        matches!(message, FromFront::Note(note) if note.kind == NoteKind::Stderr && note.message.as_ref().is_some_and(|text| text.contains("evil")))
    });
}

/// Thousands of heads that never end, and nobody waits for them.
#[test]
fn slowloris_holds_nobody_up() {
    let (scene, mut worker) = site();
    let mut slow: Vec<Visitor> = (0..300).map(|_| Visitor::of(&scene)).collect();
    for (n, visitor) in slow.iter_mut().enumerate() {
        visitor.send(
            [
                "GET / HT",
                "GET / HTTP/1.1\r\nHost: a\r\nX: ",
                POST,
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab",
            ][n % 4],
        );
    }
    for _ in 0..20 {
        others_are_served(&scene, &mut worker);
    }
    for visitor in &mut slow {
        visitor.try_send("x");
    }
    others_are_served(&scene, &mut worker);
}

/// Any bytes at all: the front answers or closes, and others are served.
#[test]
fn noise() {
    let mut config = http_pool();
    config.queue_length = 1000;
    let mut scene = Scene::new(config);
    let mut worker = scene.worker();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let words = [
        "GET ",
        "POST ",
        "/",
        "* ",
        " HTTP/1.1",
        "\r\n",
        "\n",
        "\r",
        "Host: a",
        "Content-Length: ",
        "Transfer-Encoding: chunked",
        "0",
        "5",
        ":",
        " ",
        "\0",
        "\t",
        "%00",
        "%",
        "\u{ff}",
        "Expect: 100-continue",
        "Connection: close",
        "\r\n\r\n",
        ",",
    ];
    for _ in 0..300 {
        let mut text = String::new();
        for _ in 0..random(30) {
            text.push_str(words[usize::try_from(random(words.len() as u64)).expect("small")]);
        }
        let mut visitor = Visitor::of(&scene);
        visitor.try_send(&text);
        drop(visitor);
    }
    // Requests that were whole by chance are answered to nobody; then it is our turn.
    let mut visitor = Visitor::of(&scene);
    visitor.get("/others");
    while worker.request().params["REQUEST_URI"] != "/others" {
        worker.page("noise");
    }
    worker.page("others");
    assert_eq!(visitor.told().expect("an answer").text(), "others");
}
