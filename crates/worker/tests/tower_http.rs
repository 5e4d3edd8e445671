//! The example site over HTTP and as a CGI program.

mod tower;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Stdio;

use rustix::process::Signal;
use tower::http::{connect, fetch, request, until};
use tower::routes::{self, Ask};
use tower::site::{Site, command};

#[test]
fn every_route_answers_on_an_inherited_socket() {
    let (site, address) = Site::start_http(&[]);
    routes::check(|ask| fetch(address, ask));
    routes::check_echo(|ask| fetch(address, ask));
    assert_eq!(fetch(address, &Ask::get("/variables")).text(), "{}");
    drop(site);
}

#[test]
fn started_by_hand_it_says_where_it_listens() {
    let (mut site, address) = Site::start_by_hand(&[("LISTEN", "http://127.0.0.1:0")]);
    let address: SocketAddr = address.strip_prefix("http://").expect("HTTP").parse().expect("an address");
    assert_eq!(fetch(address, &Ask::get("/hello/you")).text(), "Hello, you.\n");
    site.signal(Signal::TERM);
    assert_eq!(site.end().code(), Some(0));
}

#[test]
fn started_by_hand_it_speaks_fastcgi_if_it_is_told_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("own.sock");
    let (_site, _) = Site::start_by_hand(&[("LISTEN", path.to_str().expect("text"))]);
    assert_eq!(tower::fcgi::fetch(&path, &Ask::get("/")).status, 200);
}

#[test]
fn only_those_who_may_are_let_in() {
    let let_in = |addresses| {
        let environment = [("LISTEN", "http://127.0.0.1:0"), ("FCGI_WEB_SERVER_ADDRS", addresses)];
        let (_site, address) = Site::start_by_hand(&environment);
        let address = address.strip_prefix("http://").expect("HTTP").parse().expect("an address");
        let mut stream = connect(address);
        // It may be closed before this is written.
        let _ = stream.write_all(&request(&Ask::get("/"), false));
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).is_ok() && !bytes.is_empty()
    };
    assert!(let_in("10.0.0.1,127.0.0.1"));
    assert!(!let_in("10.0.0.1"));
}

#[test]
fn an_unknown_protocol_is_told() {
    let output = command(&[("STEADFAST_PROTOCOL", "gopher")]).stdin(Stdio::null()).output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(text.contains("STEADFAST_PROTOCOL is \"gopher\""), "{text}");
}

#[test]
fn sigterm_closes_kept_connections_and_finishes_what_is_in_hand() {
    let (mut site, address) = Site::start_http(&[]);
    let (mut idle, mut busy, mut events) = (connect(address), connect(address), connect(address));
    idle.write_all(&request(&Ask::get("/"), true)).expect("it is read");
    until(&mut idle, &mut String::new(), |text| text.ends_with("</h1>"));
    events.write_all(&request(&Ask::get("/events"), true)).expect("it is read");
    let mut told = String::new();
    until(&mut events, &mut told, |text| text.contains("\r\n\r\n"));
    // Its body comes later, when the worker is leaving already.
    let ask = Ask::post("/echo", "text/plain", b"hello");
    let bytes = request(&ask, true);
    busy.write_all(&bytes[..bytes.len() - 5]).expect("it is read");
    let mut text = String::new();
    until(&mut busy, &mut text, |text| text.contains("\r\n\r\n"));
    site.signal(Signal::TERM);
    assert_eq!(idle.read(&mut [0]).expect("its end"), 0);
    busy.write_all(b"hello").expect("it is read");
    busy.read_to_string(&mut text).expect("the rest");
    assert!(text.ends_with("hello"), "{text}");
    events.read_to_string(&mut told).expect("the rest");
    assert_eq!(site.end().code(), Some(0));
    assert_eq!(site.rest(), ["goodbye"]);
}

#[test]
fn a_client_that_goes_away_drops_its_handler() {
    let (_site, address) = Site::start_http(&[]);
    let mut client = connect(address);
    client.write_all(&request(&Ask::get("/wait/a"), true)).expect("it is read");
    assert_eq!(fetch(address, &Ask::get("/waiting/1")).text(), "1 are waiting\n");
    drop(client);
    assert_eq!(fetch(address, &Ask::get("/dropped/1")).text(), "1 were dropped\n");
}

#[test]
fn events_arrive_one_by_one() {
    let (_site, address) = Site::start_http(&[]);
    let mut client = connect(address);
    client.write_all(&request(&Ask::get("/events"), true)).expect("it is read");
    let mut seen = String::new();
    until(&mut client, &mut seen, |seen| seen.contains("\r\n\r\n"));
    for text in ["first", "second"] {
        let uri = format!("/tell/{text}");
        assert_eq!(fetch(address, &Ask::post(&uri, "text/plain", b"")).text(), "1\n");
        until(&mut client, &mut seen, |seen| seen.contains(&format!("data: {text}\n\n")));
    }
}

#[test]
fn the_same_program_is_a_cgi_program() {
    let run = |environment: &[(&str, &str)], body: &[u8]| {
        let mut all = vec![("GATEWAY_INTERFACE", "CGI/1.1")];
        all.extend_from_slice(environment);
        let mut child = command(&all).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let body = body.to_vec();
        let writing = std::thread::spawn(move || stdin.write_all(&body));
        let output = child.wait_with_output().expect("it ends");
        let _ = writing.join().expect("no panic");
        (routes::Answer::from_cgi(&output.stdout), output.status.code())
    };
    let (answer, code) = run(&[("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/hello/you")], b"");
    assert_eq!((answer.status, answer.text(), code), (200, "Hello, you.\n", Some(0)));
    let body = tower::site::noise(3_000_000);
    let length = body.len().to_string();
    let environment = [("REQUEST_METHOD", "POST"), ("PATH_INFO", "/echo"), ("CONTENT_LENGTH", &length)];
    let (answer, code) = run(&environment, &body);
    assert!(answer.body == body && code == Some(0), "{} bytes, {code:?}", answer.body.len());
    let (answer, _) = run(&[("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/panic")], b"");
    assert_eq!(answer.status, 500);
}
