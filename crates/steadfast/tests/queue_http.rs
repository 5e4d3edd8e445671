//! Queue mode over `http://` without a web server, asked by curl and byte for byte.

use steadfast_harness as support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use support::apps::Language;
use support::behaviours::{Site, lines, sum};
use support::conditions::{is_soon, tail};
use support::daemon::{Config, Daemon, Pool};
use support::http::{Answer, Ask, Visitor};
use support::loopback;
use support::scene::Scene;

/// One pool with two workers behind its own HTTP.
struct Own {
    scene: Scene,
    daemon: Daemon,
    address: SocketAddr,
}

impl Own {
    fn start(language: Language, more: impl Fn(Pool) -> Pool) -> Own {
        let scene = Scene::new();
        let address = loopback::address();
        let pool = Pool::new(language.name(), &language.command())
            .queue()
            .workers("2")
            .listen(&format!("http://{address}"))
            .key("params", &format!("{{ SCRIPT_FILENAME = {:?} }}", language.script()));
        let mut daemon = Config::new(&[more(pool)]).start(&scene);
        daemon.wait_serving(language.name());
        Own { scene, daemon, address }
    }

    fn ask(&self, ask: &Ask) -> Answer {
        ask.send(self.address).unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(&ask.bytes())))
    }

    /// Still whole, and it ends well.
    fn end(mut self) {
        let page = Ask::get("/hello").send(self.address);
        assert!(page.is_ok_and(|page| page.status == 200), "{}", tail(&mut self.daemon));
        self.daemon.stop_idle();
    }
}

fn serves(language: Language) {
    let own = Own::start(language, |pool| pool);
    let site = Site::own(own.address, language);
    let workers = own.daemon.workers(language.name());
    site.all();
    if language == Language::C {
        site.megabytes();
    }
    assert_eq!(own.daemon.workers(language.name()), workers, "somebody has died");
    own.end();
}

#[test]
fn a_c_program_serves_http() {
    serves(Language::C);
}

#[test]
fn a_perl_program_serves_http() {
    serves(Language::Perl);
}

#[test]
fn php_serves_http() {
    serves(Language::Php);
}

/// Runs curl in the scene; its output, and what `-w` wrote to the end of it.
fn curl(own: &Own, arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "30", "--noproxy", "*"])
        .args(arguments)
        .current_dir(own.scene.path())
        .output()
        .unwrap_or_else(|error| panic!("cannot start curl: {error}: see .ci/run for its package"));
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "curl {arguments:?}: {wrong}\n{said}");
    said.into_owned()
}

#[test]
fn curl_gets_and_posts() {
    const SIZE: usize = 10_000_000;
    let own = Own::start(Language::C, |pool| pool);
    let url = |path: &str| format!("http://{}{path}", own.address);
    assert_eq!(curl(&own, &["-w", "%{http_code} %{http_version}", &url("/hello")]), "hello\n200 1.1");
    // One connection for several requests.
    let twice = curl(&own, &["-w", "%{num_connects}\n", &url("/hello"), &url("/hello"), &url("/hello")]);
    assert_eq!(twice, "hello\n1\nhello\n0\nhello\n0\n");
    let head = curl(&own, &["--head", &url("/big?bytes=5000&length=1")]).to_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-length: 5000\r\n"), "{head}");
    assert!(head.contains("x-request-id: "), "{head}");
    assert!(curl(&own, &["--http1.0", "-i", &url("/hello")]).ends_with("\r\n\r\nhello\n"));
    let body = lines(SIZE);
    let file = own.scene.join("body");
    std::fs::write(&file, &body).expect("the scene is ours");
    let all = format!("@{}", file.display());
    // Of this size curl asks for 100 Continue first.
    let posted = curl(&own, &["--data-binary", &all, "-H", "Expect: 100-continue", &url("/echo")]);
    assert!(posted.contains(&sum("body", &body)) && posted.contains(&format!("CONTENT_LENGTH={SIZE}\n")), "{posted}");
    let chunked = ["-H", "Transfer-Encoding: chunked", "--data-binary", &all, &url("/echo")].map(str::to_owned);
    let chunked = curl(&own, &chunked.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(chunked.contains(&sum("body", &body)), "{chunked}");
    let put = curl(&own, &["--upload-file", &file.display().to_string(), &url("/echo")]);
    assert!(put.contains("REQUEST_METHOD=PUT\n") && put.contains(&sum("body", &body)), "{put}");
    let to = own.scene.join("got");
    curl(&own, &["--output", &to.display().to_string(), &url(&format!("/big?bytes={SIZE}"))]);
    assert!(std::fs::read(&to).expect("curl has written it") == body, "not what was sent");
    own.end();
}

#[test]
fn headers_become_params_and_those_that_could_lie_are_dropped() {
    let own = Own::start(Language::C, |pool| pool);
    let ask = Ask::get("/echo?q")
        .header("X-Test", "one")
        .header("x-test", "two")
        .header("Cookie", "a=1")
        .header("Cookie", "b=2")
        .header("Proxy", "http://evil")
        .header("X_Test", "evil")
        .header("X.Test", "evil");
    let text = own.ask(&ask).text();
    for line in ["HTTP_X_TEST=one, two\n", "HTTP_COOKIE=a=1; b=2\n", "HTTP_PROXY=\n", "REMOTE_ADDR=127.0.0.1\n"] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    own.end();
}

#[test]
fn each_request_has_an_id_of_ours_or_of_its_client() {
    let params = |answer: &Answer| {
        let line = answer.text().lines().find_map(|line| Some(line.strip_prefix("HTTP_X_REQUEST_ID=")?.to_owned()));
        line.expect("it is echoed")
    };
    let named = Ask::get("/echo").header("X-Request-ID", "the-client's");
    let ours = Own::start(Language::C, |pool| pool);
    let first = ours.ask(&Ask::get("/echo").header("X-Request-ID", "client-1"));
    assert!(!params(&first).is_empty() && params(&first) != "client-1", "{}", first.text());
    assert_eq!(first.header("x-request-id"), Some(params(&first).as_str()));
    let second = ours.ask(&Ask::get("/echo"));
    assert_ne!(params(&first), params(&second));
    ours.end();
    let theirs = Own::start(Language::C, |pool| pool.key("request-id", "\"trust\""));
    let trusted = theirs.ask(&Ask::get("/echo").header("X-Request-ID", "client-1"));
    assert_eq!((params(&trusted).as_str(), trusted.header("x-request-id")), ("client-1", Some("client-1")));
    // With a character that is not for ids, it is none.
    assert_ne!(params(&theirs.ask(&named)), "the-client's");
    theirs.end();
}

/// What comes back for bytes that are no single good request: the status, or `None` when the connection is closed.
fn status_of(address: SocketAddr, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("it is a socket");
    // It may have been refused before all of it was written.
    let _refused_early = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => answer.extend(&piece[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("neither answered nor closed: {error}: {}", String::from_utf8_lossy(&answer)),
        }
        // One that is kept would not end; a second answer would stand in the same bytes.
        if answer.windows(4).any(|end| end == b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

#[test]
fn requests_that_make_no_sense_are_refused_and_reach_no_worker() {
    let scene = Scene::new();
    let log = scene.shared_file("counts");
    let own = Own::start(Language::C, |pool| pool.environment("COUNT_LOG", &log.display().to_string()));
    let long = "x".repeat(70_000);
    let many: String = (0..300).map(|number| format!("X-{number}: y\r\n")).collect();
    let post = "POST /count HTTP/1.1\r\nHost: a\r\n";
    let cases: Vec<(&str, String, &[u16])> = vec![
        ("no host", "GET /count HTTP/1.1\r\n\r\n".to_owned(), &[400]),
        ("two hosts", "GET /count HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), &[400]),
        (
            "length and chunks",
            format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            &[400],
        ),
        ("two lengths", format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), &[400]),
        ("a length below nothing", format!("{post}Content-Length: -1\r\n\r\n"), &[400]),
        ("a length that is none", format!("{post}Content-Length: 5x\r\n\r\nhello"), &[400]),
        ("an unknown coding", format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), &[400, 501]),
        ("chunks that are not last", format!("{post}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"), &[400, 501]),
        ("a space before the colon", "GET /count HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n".to_owned(), &[400]),
        ("a folded line", "GET /count HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n".to_owned(), &[400]),
        ("nul in a value", "GET /count HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n".to_owned(), &[400]),
        ("nul in the path", "GET /count%00 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), &[400]),
        ("a space in the path", "GET /count x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), &[400]),
        ("no http", "hello\r\n\r\n".to_owned(), &[400]),
        ("http of another kind", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &[400, 505]),
        ("a proxy's method", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".to_owned(), &[400, 405, 501]),
        ("a large header", format!("GET /count HTTP/1.1\r\nHost: a\r\nX-A: {long}\r\n\r\n"), &[431]),
        ("many headers", format!("GET /count HTTP/1.1\r\nHost: a\r\n{many}\r\n"), &[431]),
        ("a long path", format!("GET /count?{long} HTTP/1.1\r\nHost: a\r\n\r\n"), &[400, 414, 431]),
        ("an endless head", format!("GET /count HTTP/1.1\r\nHost: a\r\nX-A: {}", "y".repeat(1_000_000)), &[431]),
    ];
    let mut wrong = Vec::new();
    for (what, bytes, wanted) in &cases {
        let status = status_of(own.address, bytes.as_bytes());
        // Nobody must be told; but who is told, is told the right thing.
        if status.is_some_and(|status| !wanted.contains(&status)) {
            wrong.push(format!("{what}: {status:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    let counted = std::fs::read_to_string(&log).expect("it is ours");
    assert_eq!(counted, "", "a worker has seen some of it");
    own.end();
}

#[test]
fn two_requests_in_one_write_are_two_and_a_hidden_third_is_a_body() {
    let scene = Scene::new();
    let log = scene.shared_file("counts");
    let own = Own::start(Language::C, |pool| pool.environment("COUNT_LOG", &log.display().to_string()));
    let hidden = Ask::get("/count?hidden").bytes();
    let bytes = [Ask::post("/echo?1", &hidden).bytes(), Ask::get("/hello?2").bytes()].concat();
    let mut visitor = Visitor::connect(own.address).expect("it listens");
    visitor.write(&bytes).expect("it reads");
    assert!(visitor.read("POST").expect("an answer").text().contains(&sum("body", &hidden)));
    assert_eq!(visitor.read("GET").expect("an answer").text(), "hello\n");
    let counted = std::fs::read_to_string(&log).expect("it is ours");
    let uris: Vec<&str> = counted.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(uris, ["/echo?1", "/hello?2"]);
    own.end();
}

#[test]
fn hundred_continue_upgrades_and_http_1_0() {
    let own = Own::start(Language::C, |pool| pool);
    // The body is asked for before it is sent.
    let mut visitor = Visitor::connect(own.address).expect("it listens");
    visitor
        .write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .expect("it reads");
    let mut line = [0; 25];
    visitor.socket().read_exact(&mut line).expect("an answer before the body");
    assert_eq!(&line, b"HTTP/1.1 100 Continue\r\n\r\n");
    visitor.write(b"hello").expect("it reads");
    assert!(visitor.read("POST").expect("an answer").text().contains(&sum("body", b"hello")));
    // An upgrade is not made; the request is answered as what it is.
    let upgrade = Ask::get("/hello").header("Connection", "Upgrade").header("Upgrade", "websocket");
    assert_eq!((own.ask(&upgrade).status, own.ask(&upgrade).text().as_str()), (200, "hello\n"));
    // Whoever knows no chunks gets none, and sees the end by the end.
    let mut old = Visitor::connect(own.address).expect("it listens");
    old.write(b"GET /big?bytes=100000 HTTP/1.0\r\n\r\n").expect("it reads");
    let answer = old.read("GET").expect("an answer");
    assert_eq!((answer.status, answer.header("transfer-encoding")), (200, None));
    assert!(answer.body == lines(100_000), "{} bytes, and not those", answer.body.len());
    own.end();
}

#[test]
fn answers_that_make_no_sense_become_502_and_hurt_nobody_else() {
    let own = Own::start(Language::C, |pool| pool);
    let endless =
        format!("X-A: b\r\n{}", "X-B: cccccccccccccccccccccccccccccccccccccccccccccccccccccc\r\n".repeat(2_000));
    let cases = [
        ("no colon", "Content-Type text/plain\r\nX-A: b\r\n\r\nbody"),
        ("a status line", "HTTP/1.1 203 Fine\r\nContent-Type: text/plain\r\n\r\nbody"),
        ("two lengths", "Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody"),
        ("a length that is none", "Content-Length: four\r\n\r\nbody"),
        ("a return in a value", "X-A: one\rX-B: two\r\n\r\nbody"),
        ("nul in a value", "X-A: one\0two\r\n\r\nbody"),
        ("a folded line", "X-A: one\r\n two\r\n\r\nbody"),
        ("a coding of its own", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("a space in a name", "X A: b\r\n\r\nbody"),
        ("a status that is none", "Status: fine\r\n\r\nbody"),
        ("a status below 200", "Status: 101 Switching\r\n\r\nbody"),
        ("no head", "just a body, and no empty line"),
        ("an endless head", &endless),
        ("nothing but an end", ""),
    ];
    let workers = own.daemon.workers("c");
    let mut wrong = Vec::new();
    for (what, head) in cases {
        let answer = own.ask(&Ask::post("/raw", head.as_bytes()));
        let reason = answer.header("x-steadfast").unwrap_or_default().to_owned();
        // Output that ends without a byte is what a worker leaves that died.
        let wanted: &[&str] = if head.is_empty() { &["worker-died", "bad-answer"] } else { &["bad-answer"] };
        if answer.status != 502 || !wanted.contains(&reason.as_str()) || answer.text().contains("two") {
            wrong.push(format!("{what}: {} {reason}", answer.status));
        }
        assert_eq!(own.ask(&Ask::get("/hello")).text(), "hello\n", "after {what}");
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(own.daemon.workers("c"), workers, "a worker had to go for it");
    own.end();
}

/// More or less than what was promised: the connection is cut, so that nobody takes it for whole.
#[test]
fn a_body_that_is_not_as_long_as_promised_is_cut() {
    let own = Own::start(Language::C, |pool| pool);
    for head in ["Content-Length: 100\r\n\r\nbody", "Content-Length: 4\r\n\r\nbody and HTTP/1.1 200 OK\r\n\r\n"] {
        let mut visitor = Visitor::connect(own.address).expect("it listens");
        visitor.write(&Ask::post("/raw", head.as_bytes()).bytes()).expect("it reads");
        // It may be refused or cut before its first byte is on the way.
        if let Ok(answer) = visitor.read("POST")
            && answer.status != 502
        {
            assert_eq!((answer.status, answer.text().as_str()), (200, "body"), "{head:?}");
            assert!(head.contains(": 4\r\n"), "{head:?}: it looks whole");
            assert!(visitor.is_closed().unwrap_or(true), "{head:?}: more follows");
        }
    }
    let half = Ask::get("/half?bytes=300000").send(own.address);
    assert!(half.as_ref().map_or(true, |answer| answer.status == 502), "half an answer looks whole: {half:?}");
    // /half has cost a worker.
    let is_whole = is_soon(|| own.daemon.pool("c")["workers"]["idle"] == 2);
    assert!(is_whole, "{}", own.daemon.pool("c"));
    own.end();
}

/// X-Accel-Redirect and its like are words to a web server, which there is none of.
#[test]
fn words_to_a_web_server_are_not_passed_to_strangers() {
    let own = Own::start(Language::C, |pool| pool);
    let head =
        "X-Accel-Redirect: /secret\r\nX-Sendfile: /etc/passwd\r\nX-Accel-Buffering: no\r\nX-Kept: yes\r\n\r\nbody";
    let answer = own.ask(&Ask::post("/raw", head.as_bytes()));
    let names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((answer.status, answer.header("x-kept")), (200, Some("yes")));
    assert!(!names.iter().any(|name| name.starts_with("x-accel") || name.starts_with("x-sendfile")), "{names:?}");
    let location = own.ask(&Ask::post("/raw", b"Location: /elsewhere\n\n"));
    assert_eq!((location.status, location.header("location")), (302, Some("/elsewhere")));
    let bare = own.ask(&Ask::post("/raw", b"Status: 404 Gone Fishing\nX-A: b\n\nno type"));
    assert_eq!((bare.status, bare.header("content-type"), bare.text().as_str()), (404, None, "no type"));
    own.end();
}

/// Nobody but those who are named may speak to it.
#[test]
fn strangers_are_turned_away() {
    let own = Own::start(Language::C, |pool| pool.key("allowed-clients", "[\"127.0.0.2\"]"));
    let refused = Ask::get("/hello").send(own.address);
    assert!(refused.as_ref().map_or(true, |answer| answer.status == 403), "{refused:?}");
    // curl can say where it comes from.
    let url = format!("http://{}/hello", own.address);
    assert_eq!(curl(&own, &["--interface", "127.0.0.2", &url]), "hello\n");
    let mut daemon = own.daemon;
    daemon.stop_idle();
}
