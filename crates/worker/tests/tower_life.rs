//! How the example site begins and ends: its link, SIGTERM, and what it cannot go on after.

mod tower;

use std::io::BufReader;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;

use rustix::net::Shutdown;
use rustix::process::Signal;
use serde_json::json;
use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::kind;
use tower::fcgi::{Client, fetch, head};
use tower::routes::Ask;
use tower::site::{Site, hear, say};

#[test]
fn it_says_hello_with_its_concurrency_and_is_ready() {
    let (site, mut link) = Site::start_linked(&[("SITE_CONCURRENCY", "9")]);
    let hello = json!({ "type": "hello", "version": 1, "pid": site.child.id(), "role": "worker", "concurrency": 9 });
    assert_eq!(hear(&mut link), hello);
    assert_eq!(hear(&mut link), json!({ "type": "ready" }));
}

#[test]
fn an_idle_worker_leaves_at_sigterm_and_closes_kept_connections() {
    let mut site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    assert_eq!(client.ask(1, "/").status, 200);
    let mut silent = Client::connect(&site.path);
    assert_eq!(client.ask(1, "/").status, 200);
    site.signal(Signal::TERM);
    client.assert_ended();
    silent.assert_ended();
    assert_eq!(site.end().code(), Some(0));
    assert_eq!(site.rest(), ["goodbye"]);
}

#[test]
fn a_busy_worker_finishes_at_sigterm_what_it_has_in_hand() {
    for threads in ["1", "2"] {
        let mut site = Site::start(&[("SITE_THREADS", threads)]);
        let mut client = Client::connect(&site.path);
        let mut idle = Client::connect(&site.path);
        assert_eq!(idle.ask(1, "/").status, 200);
        client.get(1, "/wait/a");
        client.ask(2, "/waiting/1");
        site.signal(Signal::TERM);
        // Now it has heard it.
        idle.assert_ended();
        site.signal(Signal::TERM);
        // A web server that mixes requests could not know: these are served, too.
        client.post(3, "/release/a");
        assert_eq!(client.answer(3).status, 200);
        assert_eq!(client.answer(1).text(), "released\n");
        client.assert_ended();
        assert_eq!(site.end().code(), Some(0));
        assert_eq!(site.rest(), ["goodbye"]);
        assert!(UnixStream::connect(&site.path).is_err(), "somebody listens");
    }
}

#[test]
fn an_upload_that_was_answered_early_is_not_broken_off_at_sigterm() {
    let mut site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    client.send(&head(1, &Ask::post("/release/a", "text/plain", b"01234"), true));
    assert_eq!(client.answer(1).status, 200);
    site.signal(Signal::TERM);
    client.assert_ended();
    let mut rest = Vec::new();
    encode::stream(&mut rest, kind::STDIN, 1, b"01234");
    encode::stream_end(&mut rest, kind::STDIN, 1);
    client.send(&rest);
    drop(client);
    assert_eq!(site.end().code(), Some(0));
}

#[test]
fn events_end_at_sigterm() {
    let mut site = Site::start(&[]);
    let mut client = Client::connect(&site.path);
    client.get(1, "/events");
    client.until(1, |text| text.contains("\r\n\r\n"));
    site.signal(Signal::TERM);
    client.end(1);
    assert_eq!(site.end().code(), Some(0));
}

#[test]
fn a_drain_on_the_link_is_obeyed() {
    let (mut site, mut link) = Site::start_linked(&[]);
    let mut client = Client::connect(&site.path);
    client.get(1, "/wait/a");
    client.ask(2, "/waiting/1");
    let mut idle = Client::connect(&site.path);
    assert_eq!(idle.ask(1, "/").status, 200);
    say(&mut link, r#"{"type":"something new"}"#);
    say(&mut link, r#"{"type":"drain"}"#);
    idle.assert_ended();
    client.post(3, "/release/a");
    assert_eq!(client.answer(1).text(), "released\n");
    assert_eq!(site.end().code(), Some(0));
    assert_eq!(site.rest(), ["goodbye"]);
}

#[test]
fn the_end_of_the_link_is_the_end_of_the_worker() {
    let (mut site, link) = Site::start_linked(&[]);
    let mut client = Client::connect(&site.path);
    client.get(1, "/wait/a");
    client.ask(2, "/waiting/1");
    drop(link);
    client.post(3, "/release/a");
    assert_eq!(client.answer(1).text(), "released\n");
    assert_eq!(site.end().code(), Some(0));
}

#[test]
fn quit_waits_for_nothing() {
    let (mut site, mut link) = Site::start_linked(&[]);
    let mut client = Client::connect(&site.path);
    client.get(1, "/wait/a");
    client.ask(2, "/waiting/1");
    say(&mut link, r#"{"type":"quit"}"#);
    assert_eq!(site.end().code(), Some(0));
    client.assert_ended();
}

#[test]
fn it_is_recycled_after_its_share() {
    let (mut site, mut link) = Site::start_linked(&[("SITE_MAX_REQUESTS", "3")]);
    let mut client = Client::connect(&site.path);
    client.get(1, "/wait/a");
    client.ask(2, "/waiting/1");
    client.post(3, "/release/a");
    assert_eq!(client.answer(1).text(), "released\n");
    assert_eq!(site.end().code(), Some(0));
    let words: Vec<_> = (0..3).map(|_| hear(&mut link)["type"].as_str().expect("a word").to_owned()).collect();
    assert_eq!(words, ["hello", "ready", "recycle"]);
    assert_eq!(site.rest(), Vec::<String>::new());
}

#[test]
fn after_a_panic_it_leaves_if_it_is_told_to() {
    let (mut site, mut link) = Site::start_linked(&[("SITE_LEAVE_AFTER_PANIC", "1")]);
    let answer = fetch(&site.path, &Ask::get("/panic"));
    assert_eq!(answer.status, 500);
    let words: Vec<_> = (0..3).map(|_| hear(&mut link)).collect();
    assert_eq!((&words[2]["type"], &words[2]["code"]), (&json!("failed"), &json!(4)));
    site.signal(Signal::TERM);
    assert_eq!(site.end().code(), Some(4));
}

#[test]
fn it_leaves_when_accept_fails_too_often_in_a_row() {
    let (mut site, listener) = Site::start_with(&[], Stdio::null());
    assert_eq!(fetch(&site.path, &Ask::get("/")).status, 200);
    rustix::net::shutdown(&listener, Shutdown::Both).expect("it is a socket");
    assert_eq!(site.end().code(), Some(3));
    site.line("accept failed 5 times in a row: Invalid argument");
}

#[test]
fn a_lack_of_descriptors_is_waited_out() {
    let mut site = Site::start(&[]);
    assert_eq!(fetch(&site.path, &Ask::get("/")).status, 200);
    let pid = Some(rustix::process::Pid::from_child(&site.child));
    let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let few = rustix::process::Rlimit { current: Some(3), ..before };
    let resource = rustix::process::Resource::Nofile;
    rustix::process::prlimit(pid, resource, few).expect("it is ours");
    let mut client = Client::connect(&site.path);
    client.get(1, "/");
    assert!(tower::site::is_silent(&mut client.stream), "it was answered");
    rustix::process::prlimit(pid, resource, before).expect("it is ours");
    assert_eq!(client.answer(1).status, 200);
    site.signal(Signal::TERM);
    assert_eq!(site.end().code(), Some(0));
}

#[test]
fn a_zygote_forks_workers_that_each_have_their_own_runtime() {
    // Its workers become this process's own children, as they become the supervisor's.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("it may");
    let (mut site, mut link) = Site::start_linked(&[("STEADFAST_ROLE", "zygote"), ("SITE_THREADS", "2")]);
    assert_eq!(hear(&mut link)["role"], "zygote");
    assert_eq!(hear(&mut link)["type"], "ready");
    let mut workers = Vec::new();
    for slot in 1..=2 {
        let path = site.directory.path().join(format!("{slot}.sock"));
        let own = site.directory.path().join(format!("{slot}.link"));
        let links = UnixListener::bind(&own).expect("a socket");
        say(&mut link, &json!({ "type": "fork", "slot": slot, "path": path, "link": own }).to_string());
        let forked = hear(&mut link);
        assert_eq!((&forked["type"], &forked["slot"]), (&json!("forked"), &json!(slot)), "{forked}");
        let mut own = BufReader::new(links.accept().expect("it connects").0);
        assert_eq!(hear(&mut own)["pid"], forked["pid"]);
        assert_eq!(hear(&mut own)["type"], "ready");
        workers.push((Client::connect(&path), own));
    }
    for (client, _) in &mut workers {
        client.get(1, "/wait/a");
        client.ask(2, "/waiting/1");
    }
    for (client, mut own) in workers {
        let mut client = client;
        say(&mut own, r#"{"type":"drain"}"#);
        client.post(2, "/release/a");
        assert_eq!(client.answer(1).text(), "released\n");
        assert_eq!(client.answer(2).status, 200);
        client.assert_ended();
    }
    say(&mut link, r#"{"type":"quit"}"#);
    assert_eq!(site.end().code(), Some(0));
}
