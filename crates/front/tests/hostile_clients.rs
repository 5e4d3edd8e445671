//! What has gone wrong in other servers when a client was hostile, each under its name: the front closes, refuses or
//! answers, its workers never see it, and everybody else is served meanwhile.

mod hostile;
mod support;

use std::io::{IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use hostile::{Honest, Peer, all_over, begin, long, noted, pour, record, request_of, site, stream, usual, visit};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use steadfast_proto::fcgi::params::pairs;
use steadfast_proto::fcgi::record::{kind, role};
use steadfast_proto::front::{NoteKind, ToFront};
use support::{PATIENCE, Scene, pool};

fn get_values(names: &[u8], padding: u8) -> Vec<u8> {
    record(kind::GET_VALUES, 0, names, padding)
}

/// Sends bytes after which the front must close, and sees that everybody else is served.
fn closes(scene: &mut Scene, bytes: &[u8], name: &str) {
    let mut peer = Peer::of(scene);
    peer.send(bytes);
    peer.is_closed();
    let why = noted(scene, NoteKind::Warning);
    assert!(why.contains("connection was closed"), "{name}: {why}");
    visit(scene, "/others");
}

/// Sends a request that is refused with this, and another one over the same connection that is not.
fn refuses(scene: &Scene, bytes: &[u8], status: u16, name: &str) {
    let mut peer = Peer::of(scene);
    peer.send(bytes);
    let told = peer.told().unwrap_or_else(|| panic!("{name}: no answer"));
    assert_eq!(told.refusal().0, status, "{name}: {}", told.head());
    peer.send(&request_of(1, &usual("GET", "/again", &[]), b""));
    assert_eq!(peer.told().expect("an answer").body(), "/again", "after {name}");
}

#[test]
fn cve_2025_23016_lengths_that_overflow() {
    let (mut scene, workers) = site(1);
    for (name, value) in [(0x7fff_ffffu32, 0x7fff_ffffu32), (0x7fff_ffff, 0), (0, 0x7fff_ffff), (0x7fff_fffe, 3)] {
        let mut params = usual("GET", "/", &[]);
        params.extend(long(name));
        params.extend(long(value));
        params.extend([b'x'; 64]);
        refuses(&scene, &request_of(1, &params, b""), 400, "in parameters");
        let mut asked = long(name).to_vec();
        asked.extend(long(value));
        asked.extend([b'x'; 64]);
        closes(&mut scene, &get_values(&asked, 0), "in GET_VALUES");
    }
    assert!(workers[0].taken.lock().expect("it lives").iter().all(|taken| taken.all("REQUEST_URI") != ["/"]));
    all_over(scene, workers);
}

#[test]
fn go_11824_81293_lengths_beyond_the_stream() {
    let (scene, workers) = site(1);
    let whole = usual("GET", "/cut", &[(b"A", b"1")]);
    for at in 1..whole.len() {
        let borders = [whole.len() - 3 - 2, whole.len() - 3 - 2 + 5];
        if pairs(&whole[..at]).all(|pair| pair.is_ok()) || borders.contains(&at) {
            continue;
        }
        refuses(&scene, &request_of(1, &whole[..at], b""), 400, &format!("cut at {at}"));
    }
    assert!(workers[0].taken.lock().expect("it lives").iter().all(|taken| taken.all("REQUEST_URI") == ["/again"]));
    all_over(scene, workers);
}

#[test]
fn libfcgi_get_values_repeated_unknown_padded_and_with_long_lengths() {
    let (scene, workers) = site(1);
    let mut peer = Peer::of(&scene);
    let name = |name: &[u8]| stream(&[(name, b"")]);
    let mut four = long(15).to_vec();
    four.extend(long(2));
    four.extend(b"FCGI_MPXS_CONNS42");
    let many = name(b"FCGI_MAX_CONNS").repeat(20);
    let unknown = [name(b"FCGI_WHAT"), name(b""), name(b"fcgi_max_reqs")].concat();
    let all = [name(b"FCGI_MAX_REQS"), name(b"FCGI_MAX_CONNS"), name(b"FCGI_MPXS_CONNS")].concat();
    for (asked, padding, names) in [
        (&many, 0, &[&b"FCGI_MAX_CONNS"[..]][..]),
        (&many, 255, &[b"FCGI_MAX_CONNS"]),
        (&unknown, 1, &[]),
        (&four, 7, &[b"FCGI_MPXS_CONNS"]),
        (&all, 0, &[b"FCGI_MAX_CONNS", b"FCGI_MAX_REQS", b"FCGI_MPXS_CONNS"]),
        (&Vec::new(), 0, &[]),
    ] {
        peer.send(&get_values(asked, padding));
        let told = peer.record().expect("an answer at once, whatever follows");
        assert_eq!((told.kind, told.id), (kind::GET_VALUES_RESULT, 0));
        let values: Vec<_> = pairs(&told.content).map(|pair| pair.expect("whole")).collect();
        assert_eq!(values.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
        assert!(values.iter().all(|(_, value)| !value.is_empty() && value.iter().all(u8::is_ascii_digit)));
    }
    // In the middle of a request it is answered, too, and no worker hears of it.
    let request = request_of(1, &usual("GET", "/between", &[]), b"");
    peer.send(&request[..20]);
    peer.send(&[]);
    let mut other = Peer::of(&scene);
    let both = [begin(3, role::RESPONDER, true), get_values(&all, 3), request_of(5, &usual("GET", "/5", &[]), b"")];
    other.send(&both.concat());
    assert_eq!(other.record().expect("an answer").kind, kind::GET_VALUES_RESULT);
    assert_eq!(other.told().expect("an answer").body(), "/5");
    drop(other);
    peer.send(&request[20..]);
    assert_eq!(peer.told().expect("an answer").body(), "/between");
    drop(peer);
    all_over(scene, workers);
}

#[test]
fn libfcgi_cve_2012_6687_twelve_hundred_connections() {
    let (scene, workers) = site(2);
    let mut peers: Vec<Peer> = (0..1_200).map(|_| Peer::of(&scene)).collect();
    for round in 0..2 {
        // All first fds, then all again: those above 1,024 are like the others.
        for (number, peer) in peers.iter_mut().enumerate() {
            let uri = format!("/{round}/{number}");
            peer.send(&request_of(1, &usual("GET", &uri, &[]), b""));
            assert_eq!(peer.told().expect("an answer").body(), uri);
        }
    }
    assert_eq!(workers.iter().map(Honest::count).sum::<usize>(), 2_400);
    drop(peers);
    all_over(scene, workers);
}

#[test]
fn perl_cve_2011_2766_few_parameters_after_many() {
    let (scene, workers) = site(1);
    let mut kept = Peer::of(&scene);
    let names: Vec<String> = (0..200).map(|n| format!("HTTP_SECRET_{n}")).collect();
    let secrets: Vec<(&[u8], &[u8])> = names.iter().map(|name| (name.as_bytes(), &b"of somebody else"[..])).collect();
    let few = usual("GET", "/few", &[]);
    for round in 0..20 {
        let many = usual("POST", "/many", &[&secrets[..], &[(b"CONTENT_LENGTH", b"7")]].concat());
        kept.send(&request_of(1, &many, b"secrets"));
        assert_eq!(kept.told().expect("an answer").body(), "/many");
        assert_eq!(workers[0].last().without_id().len(), 203);
        let mut fresh = Peer::of(&scene);
        let peer = if round % 2 == 0 { &mut kept } else { &mut fresh };
        peer.send(&request_of(1, &few, b""));
        assert_eq!(peer.told().expect("an answer").body(), "/few");
        let last = workers[0].last();
        let expected: Vec<_> = pairs(&few).map(|pair| pair.expect("whole")).collect();
        let got = last.without_id();
        let got: Vec<_> = got.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        assert_eq!((got, last.body), (expected, Vec::new()));
    }
    drop(kept);
    all_over(scene, workers);
}

/// Whatever a body is made of, and however it is cut: a worker gets it as a body.
#[test]
fn haproxy_0aeae2305_a_body_that_contains_records_is_only_a_body() {
    let (scene, workers) = site(1);
    let forged = request_of(1, &usual("GET", "/forged", &[(b"PHP_VALUE", b"auto_prepend_file=php://input")]), b"");
    for length in [1, 8, 4_000, 65_520, 65_528, 65_535, 65_536, 65_544, 131_072, 300_000] {
        for shift in [0, 1, 7] {
            let mut body = vec![b'.'; shift];
            body.extend(forged.iter().cycle().take(length));
            let size = body.len().to_string();
            let params = usual("POST", "/body", &[(b"CONTENT_LENGTH", size.as_bytes())]);
            let mut peer = Peer::of(&scene);
            let bytes = request_of(1, &params, &body);
            let mut writer = peer.stream.try_clone().expect("a second handle");
            let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes).expect("it flows"));
            assert_eq!(peer.told().expect("an answer").body(), "/body");
            sender.join().expect("sent");
            assert!(workers[0].last().body == body, "a body of {length} bytes came otherwise");
        }
    }
    assert_eq!(workers[0].count(), 30);
    all_over(scene, workers);
}

#[test]
fn haproxy_598527673_padding_255_on_every_record() {
    let (scene, workers) = site(1);
    let value = vec![b'v'; 60_000];
    let params = usual("POST", "/padded", &[(b"HTTP_A", &value), (b"CONTENT_LENGTH", b"65535")]);
    let body = vec![1u8; 65_535];
    for padding in [1, 254, 255] {
        let mut peer = Peer::of(&scene);
        let mut bytes = record(kind::BEGIN_REQUEST, 1, &[0, 1, 1, 0, 0, 0, 0, 0], padding);
        for piece in params.chunks(65_535) {
            bytes.extend(record(kind::PARAMS, 1, piece, padding));
        }
        bytes.extend(record(kind::PARAMS, 1, b"", padding));
        bytes.extend(get_values(b"", padding));
        bytes.extend(record(kind::STDIN, 1, &body, padding));
        bytes.extend(record(kind::STDIN, 7, &body, padding));
        bytes.extend(record(kind::STDIN, 1, b"", padding));
        peer.send(&bytes);
        assert_eq!(peer.record().expect("an answer").kind, kind::GET_VALUES_RESULT);
        assert_eq!(peer.told().expect("an answer").body(), "/padded");
        let last = workers[0].last();
        assert!(last.body == body && last.without_id().len() == 4);
    }
    all_over(scene, workers);
}

#[test]
fn haproxy_3ac082b2b_records_of_id_0() {
    let (mut scene, workers) = site(1);
    for other in [kind::BEGIN_REQUEST, kind::ABORT_REQUEST, kind::PARAMS, kind::STDIN, kind::DATA] {
        let content: &[u8] = if other == kind::BEGIN_REQUEST { &[0, 1, 1, 0, 0, 0, 0, 0] } else { b"" };
        closes(&mut scene, &record(other, 0, content, 0), &format!("kind {other} with id 0"));
    }
    for other in [kind::GET_VALUES, 12, 255] {
        closes(&mut scene, &record(other, 1, b"", 0), &format!("kind {other} with id 1"));
    }
    for other in [kind::END_REQUEST, kind::STDOUT, kind::STDERR, kind::GET_VALUES_RESULT, kind::UNKNOWN_TYPE] {
        for id in [0, 1] {
            let live = [begin(1, role::RESPONDER, true), record(other, id, &[0; 8], 0)].concat();
            closes(&mut scene, &live, &format!("kind {other} from a web server"));
        }
    }
    all_over(scene, workers);
}

/// `Peer` looks at each reserved byte and all padding; here everything that a front can write is provoked, with dirt in
/// everything that it reads.
#[test]
fn haproxy_cve_2023_0836_reserved_bytes_and_padding_are_zero() {
    let (scene, workers) = site(1);
    let mut peer = Peer::of(&scene);
    for length in 0..20 {
        let uri = format!("/{}", "x".repeat(length));
        let body = vec![0xee; length];
        let size = length.to_string();
        let params = usual("POST", &uri, &[(b"CONTENT_LENGTH", size.as_bytes())]);
        peer.send(&request_of(1, &params, &body));
        assert_eq!(peer.told().expect("an answer").body(), uri);
    }
    peer.send(&get_values(&stream(&[(b"FCGI_MAX_CONNS", b"")]), 9));
    assert_eq!(peer.record().expect("an answer").kind, kind::GET_VALUES_RESULT);
    peer.send(&record(99, 0, b"dirt", 3));
    let unknown = peer.record().expect("an answer");
    assert_eq!((unknown.kind, unknown.content), (kind::UNKNOWN_TYPE, vec![99, 0, 0, 0, 0, 0, 0, 0]));
    peer.send(&begin(2, 77, true));
    assert_eq!(peer.told().expect("an answer").refusal().0, 400);
    peer.send(&[begin(3, role::RESPONDER, true), record(kind::ABORT_REQUEST, 3, b"", 3)].concat());
    assert_eq!(peer.told().expect("an answer").protocol_status, 0);
    drop(peer);
    all_over(scene, workers);
}

#[test]
fn begin_twice_closes_and_a_second_life_of_an_id_does_not() {
    let (mut scene, workers) = site(1);
    let first = begin(1, role::RESPONDER, true);
    closes(&mut scene, &[&first[..], &first].concat(), "BEGIN twice");
    let half = [&first[..], &record(kind::PARAMS, 1, &usual("GET", "/", &[]), 0), &first].concat();
    closes(&mut scene, &half, "BEGIN within PARAMS");
    let mut peer = Peer::of(&scene);
    for life in ["/one", "/two", "/three"] {
        peer.send(&request_of(1, &usual("GET", life, &[]), b""));
        assert_eq!(peer.told().expect("an answer").body(), life);
        // Late records of an id that has been answered mean nothing.
        peer.send(&[record(kind::STDIN, 1, b"late", 4), record(kind::ABORT_REQUEST, 1, b"", 0)].concat());
    }
    for length in [0, 7, 9] {
        closes(&mut scene, &record(kind::BEGIN_REQUEST, 1, &vec![0; length], 0), "BEGIN of another length");
    }
    drop(peer);
    all_over(scene, workers);
}

#[test]
fn fault_093_malformed_records() {
    let (mut scene, workers) = site(1);
    let started = begin(1, role::RESPONDER, true);
    let params = usual("POST", "/", &[(b"CONTENT_LENGTH", b"3")]);
    let params_end = [record(kind::PARAMS, 1, &params, 0), record(kind::PARAMS, 1, b"", 0)].concat();
    for (name, bytes) in [
        ("version 0", vec![0, 1, 0, 1, 0, 8, 0, 0]),
        ("version 2", vec![2, 1, 0, 1, 0, 8, 0, 0]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("STDIN before the end of PARAMS", [&started[..], &record(kind::STDIN, 1, b"x", 0)].concat()),
        ("PARAMS after their end", [&started[..], &params_end, &record(kind::PARAMS, 1, b"\x01\x01ab", 0)].concat()),
        ("DATA for a responder", [&started[..], &params_end, &record(kind::DATA, 1, b"x", 0)].concat()),
        ("ABORT with a content", [&started[..], &record(kind::ABORT_REQUEST, 1, b"x", 0)].concat()),
        ("an endless management record", record(99, 0, &vec![0; 65_535], 255)),
    ] {
        closes(&mut scene, &bytes, name);
    }
    // And cut short, at each of its bytes: nobody waits for the rest of it once its sender has gone.
    let whole = request_of(1, &usual("POST", "/cut", &[(b"CONTENT_LENGTH", b"3")]), b"abc");
    for at in 0..whole.len() {
        Peer::of(&scene).send(&whole[..at]);
    }
    visit(&scene, "/others");
    assert!(workers[0].taken.lock().expect("it lives").iter().all(|taken| taken.all("REQUEST_URI") == ["/others"]));
    all_over(scene, workers);
}

#[test]
fn fault_094_a_bomb_of_parameters() {
    let (mut scene, workers) = site(1);
    let many: Vec<u8> = (0..2_000).flat_map(|n| stream(&[(format!("N{n}").as_bytes(), b"")])).collect();
    let large = stream(&[(b"HTTP_A", &vec![b'x'; 60_000][..])]).repeat(5);
    let name = stream(&[(&vec![b'N'; 5_000][..], b"")]);
    for (what, more) in [("many", many), ("large", large), ("a long name", name)] {
        let params = [usual("GET", "/", &[]), more].concat();
        refuses(&scene, &request_of(1, &params, b""), 431, what);
    }
    // Goes on for ever: it is answered at the limit, and the rest is swallowed.
    let mut peer = Peer::of(&scene);
    peer.send(&begin(1, role::RESPONDER, true));
    for _ in 0..10 {
        peer.send(&record(kind::PARAMS, 1, &[0; 60_000], 0));
    }
    assert_eq!(peer.told().expect("an answer").refusal().0, 431);
    drop(peer);
    // One byte in each record.
    let mut drops = begin(1, role::RESPONDER, true);
    let pad = stream(&[(b"HTTP_A", &vec![b'x'; 5_000][..])]);
    drops.extend([usual("GET", "/", &[]), pad].concat().iter().flat_map(|byte| record(kind::PARAMS, 1, &[*byte], 0)));
    closes(&mut scene, &drops, "parameters in records of one byte");
    // A few are only strange.
    let mut peer = Peer::of(&scene);
    let few: Vec<u8> = usual("GET", "/few", &[]).iter().flat_map(|byte| record(kind::PARAMS, 1, &[*byte], 2)).collect();
    let ends = [record(kind::PARAMS, 1, b"", 0), record(kind::STDIN, 1, b"", 0)].concat();
    peer.send(&[begin(1, role::RESPONDER, true), few, ends].concat());
    assert_eq!(peer.told().expect("an answer").body(), "/few");
    drop(peer);
    all_over(scene, workers);
}

/// Apache drops a pair of more than 16 KiB, Caddy cuts a long value, lighttpd overflowed at 64 KiB: here what fits
/// arrives whole, and what does not fails the request.
#[test]
fn lighttpd_cve_2007_4727_nothing_is_cut_or_dropped_silently() {
    let (scene, workers) = site(1);
    for length in [16_000, 16_385, 65_000, 65_500, 65_510] {
        let value = vec![b'c'; length];
        let params = usual("GET", "/long", &[(b"HTTP_COOKIE", &value), (b"HTTP_Z", &value), (b"Z", &value[..100])]);
        let mut peer = Peer::of(&scene);
        peer.send(&request_of(1, &params, b""));
        assert_eq!(peer.told().expect("an answer").body(), "/long");
        let expected: Vec<_> = pairs(&params).map(|pair| pair.expect("whole")).collect();
        let got = workers[0].last().without_id();
        assert!(got.iter().map(|(name, value)| (&name[..], &value[..])).eq(expected), "{length} came otherwise");
    }
    for length in [65_516, 65_528, 65_536, 100_000] {
        let value = vec![b'c'; length];
        let params = usual("GET", "/longer", &[(b"HTTP_COOKIE", &value)]);
        refuses(&scene, &request_of(1, &params, b""), 431, &format!("a pair of {length}"));
    }
    // Joining two that fit makes one that does not.
    let half = vec![b'c'; 40_000];
    let params = usual("GET", "/joined", &[(b"HTTP_COOKIE", &half), (b"HTTP_COOKIE", &half)]);
    refuses(&scene, &request_of(1, &params, b""), 431, "two that are too long together");
    all_over(scene, workers);
}

#[test]
fn httpoxy_and_headers_that_come_twice() {
    let (scene, workers) = site(1);
    let params = usual(
        "GET",
        "/mended",
        &[
            (b"HTTP_PROXY", b"http://evil.example"),
            (b"HTTP_COOKIE", b"a=1"),
            (b"HTTP_X_FORWARDED_FOR", b"1.2.3.4"),
            (b"HTTP_PROXY", b"http://evil.example/2"),
            (b"HTTP_COOKIE", b"b=2"),
            (b"HTTP_X_FORWARDED_FOR", b"5.6.7.8"),
            (b"HTTP_X_REQUEST_ID", b"forged\r\nX: y"),
            (b"HTTP_X_REQUEST_ID", b"forged twice"),
            (b"HTTP_PROXY_CONNECTION", b"kept"),
        ],
    );
    let mut peer = Peer::of(&scene);
    peer.send(&request_of(1, &params, b""));
    assert_eq!(peer.told().expect("an answer").body(), "/mended");
    let last = workers[0].last();
    assert_eq!(last.all("HTTP_PROXY"), [""; 0]);
    assert_eq!(last.all("HTTP_COOKIE"), ["a=1; b=2"]);
    assert_eq!(last.all("HTTP_X_FORWARDED_FOR"), ["1.2.3.4, 5.6.7.8"]);
    assert_eq!(last.all("HTTP_PROXY_CONNECTION"), ["kept"]);
    assert!(last.without_id().len() == 5 && !last.all("HTTP_X_REQUEST_ID")[0].contains("forged"));
    drop(peer);
    all_over(scene, workers);
}

/// The id of a request that is refused before it was mended is the client's word: it must not become a header.
#[test]
fn an_id_that_is_not_ours_is_never_told_on() {
    let (scene, workers) = site(1);
    for id in [&b"x\r\nX-Evil: 1\r\n\r\n<script>"[..], b"<script>alert(1)</script>", &[b'x'; 60_000], b"\x1b[2J\0\xff"]
    {
        let params = stream(&[(b"HTTP_X_REQUEST_ID", id), (b"REQUEST_URI", b"/no-method")]);
        let mut peer = Peer::of(&scene);
        peer.send(&request_of(1, &params, b""));
        let told = peer.told().expect("an answer");
        assert_eq!(told.refusal().0, 400);
        let text = [told.head(), told.body()].concat();
        for evil in ["X-Evil", "<script>", "xxxxxxxx", "\x1b", "\0"] {
            assert!(!text.contains(evil), "{text}");
        }
    }
    all_over(scene, workers);
}

/// `%0a` in a path made php-fpm read before its buffer; a NUL ends a string in C. To the front they are bytes.
#[test]
fn php_cve_2019_11043_paths_of_anything_arrive_as_they_are() {
    let (scene, workers) = site(1);
    for path in [&b""[..], b"/", b"/a\nb", b"/a\rb", b"/a\0b", b"/\xff\xfe", "/\u{212a}.php".as_bytes(), &[b'/'; 9_000]]
    {
        let more: [(&[u8], &[u8]); 3] = [(b"PATH_INFO", path), (b"SCRIPT_FILENAME", b"/x"), (b"SCRIPT_NAME", b"")];
        let params = usual("GET", "/path", &more);
        let mut peer = Peer::of(&scene);
        peer.send(&request_of(1, &params, b""));
        assert_eq!(peer.told().expect("an answer").body(), "/path");
        let last = workers[0].last();
        assert_eq!(last.without_id()[2], (b"PATH_INFO".to_vec(), path.to_vec()));
    }
    all_over(scene, workers);
}

#[test]
fn fault_095_abort_get_values_unknown_types_and_many_ids() {
    let mut scene = Scene::new(pool());
    let mut slow = scene.worker();
    let mut peer = Peer::of(&scene);
    // One is at the worker, one waits, one is being read, one was never begun.
    peer.send(&request_of(1, &usual("GET", "/1", &[]), b""));
    assert_eq!(slow.request().params["REQUEST_URI"], "/1");
    peer.send(&request_of(3, &usual("GET", "/3", &[]), b""));
    peer.send(&begin(5, role::RESPONDER, true));
    for id in [3, 9, 5] {
        peer.send(&record(kind::ABORT_REQUEST, id, b"", 1));
        if id != 9 {
            let told = peer.told().expect("an end");
            assert_eq!((told.id, told.out.len(), told.protocol_status), (id, 0, 0));
        }
    }
    // An id that was aborted is free for another life, and what still comes for it before that means nothing.
    peer.send(&record(kind::STDIN, 3, b"late", 0));
    peer.send(&request_of(3, &usual("GET", "/3/again", &[]), b""));
    peer.send(&record(17, 0, b"", 0));
    let unknown = peer.record().expect("an answer");
    assert_eq!((unknown.kind, unknown.content[0]), (kind::UNKNOWN_TYPE, 17));
    slow.page("1");
    let told = peer.told().expect("an answer");
    assert_eq!((told.id, told.body().as_str()), (1, "1"));
    assert_eq!(slow.request().params["REQUEST_URI"], "/3/again");
    // Aborted while a worker has it: the end comes at once, and the worker's answer goes nowhere.
    peer.send(&record(kind::ABORT_REQUEST, 3, b"", 0));
    assert_eq!(peer.told().expect("an end").out, b"");
    peer.send(&request_of(3, &usual("GET", "/3/last", &[]), b""));
    slow.page("the answer to what was aborted");
    assert_eq!(slow.request().params["REQUEST_URI"], "/3/last");
    slow.page("last");
    assert_eq!(peer.told().expect("an answer").body(), "last");
    drop((peer, slow));
    all_over(scene, Vec::new());
}

/// HAProxy opens as many streams on a connection as GET_VALUES allows: one too many is told so in words that web
/// servers understand, which a protocol status is not.
#[test]
fn more_ids_than_a_connection_may_have_get_a_real_answer() {
    let mut config = pool();
    config.queue_length = 10_000;
    let mut scene = Scene::new(config);
    let mut peer = Peer::of(&scene);
    peer.send(&get_values(&stream(&[(b"FCGI_MAX_REQS", b"")]), 0));
    let told = peer.record().expect("an answer");
    let (_, value) = pairs(&told.content).next().expect("one").expect("whole");
    let allowed: u16 = std::str::from_utf8(value).expect("text").parse().expect("a number");
    for id in 1..=allowed {
        peer.send(&request_of(id, &usual("GET", "/", &[]), b""));
    }
    scene.expect("a load", |message| {
        matches!(message, steadfast_proto::front::FromFront::Load(load) if load.waiting == u32::from(allowed))
    });
    peer.send(&request_of(allowed + 1, &usual("GET", "/", &[]), b""));
    let told = peer.told().expect("an answer");
    assert_eq!((told.id, told.refusal().0), (allowed + 1, 503));
    drop(peer);
    all_over(scene, Vec::new());
}

/// Whoever asks and never listens is not heard any more, or closed: 16 bytes in are a page out.
#[test]
fn answers_that_nobody_reads_are_not_piled_up() {
    let (scene, workers) = site(1);
    for flood in [
        (1..=60_000u16).flat_map(|id| begin(id, 99, true)).collect::<Vec<u8>>().repeat(8),
        (1..=60_000u16)
            .flat_map(|id| [begin(id, role::RESPONDER, true), record(kind::ABORT_REQUEST, id, b"", 0)].concat())
            .collect::<Vec<u8>>()
            .repeat(8),
    ] {
        let mut peer = Peer::of(&scene);
        let taken = pour(&peer.stream, &flood, Duration::from_millis(500));
        assert!(taken < flood.len() / 2, "{taken} bytes of questions were taken, and no answer was read");
        visit(&scene, "/others");
        // If it is still connected, it is heard again as soon as it listens, and not an answer is lost.
        let mut writer = peer.stream.try_clone().expect("a second handle");
        writer.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        let rest = flood[taken..].to_vec();
        let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &rest));
        let all = 60_000 * 8;
        let told = (0..all).take_while(|_| peer.told().is_some()).count();
        drop(peer);
        let is_sent = sender.join().expect("it does not panic").is_ok();
        assert_eq!(is_sent, told == all, "{told} answers");
    }
    all_over(scene, workers);
}

/// The head of a request must be complete within 30 seconds, however diligently its sender drips.
#[test]
fn parameters_that_never_end() {
    let (scene, workers) = site(1);
    let mut silent = Peer::of(&scene);
    silent.send(&begin(1, role::RESPONDER, true));
    let mut drips = Peer::of(&scene);
    drips.send(&begin(1, role::RESPONDER, true));
    drips.stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let begun = Instant::now();
    let is_over = loop {
        let sent = std::io::Write::write_all(&mut drips.stream, &record(kind::PARAMS, 1, b"x", 0));
        if sent.is_err() {
            break true;
        }
        match drips.stream.read(&mut [0; 1000]) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(_) if begun.elapsed() > Duration::from_secs(40) => break false,
            Err(_) => {}
        }
    };
    silent.is_closed();
    assert!(begun.elapsed() >= Duration::from_secs(29), "nobody is hurried");
    assert!(is_over, "a head that drips is waited for without an end");
    visit(&scene, "/others");
    all_over(scene, workers);
}

/// An fd that a stranger sends along is closed at once, and the bytes beside it are heard.
#[test]
fn an_fd_from_a_stranger_is_not_kept() {
    let (scene, workers) = site(1);
    let mut peer = Peer::of(&scene);
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let bytes = request_of(1, &usual("GET", "/fd", &[]), b"");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [writer.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    let sent = rustix::net::sendmsg(&peer.stream, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::empty());
    assert_eq!(sent.expect("sent"), bytes.len());
    drop(writer);
    assert_eq!(peer.told().expect("an answer").body(), "/fd");
    assert_eq!(reader.read(&mut [0; 1]).expect("readable"), 0, "the front holds a stranger's fd");
    drop(peer);
    all_over(scene, workers);
}

/// FastCGI that anybody can reach is code execution for anybody.
#[test]
fn an_exposed_port_serves_only_those_who_may() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let address = listener.local_addr().expect("it has one");
    let (mut scene, workers) = site(1);
    let mut config = pool();
    config.listeners[0].id = 2;
    config.listeners[0].address = address.to_string();
    config.allowed_clients = vec!["127.0.0.7".parse().expect("an address")];
    scene.tell_with(&ToFront::Pool(Box::new(config.clone())), &[listener.as_fd()]);
    let ask = |address| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let _ = std::io::Write::write_all(&mut stream, &request_of(1, &usual("GET", "/tcp", &[]), b""));
        let mut buffer = [0; 8];
        stream.read(&mut buffer).unwrap_or(0)
    };
    assert_eq!(ask(address), 0, "not a byte for those who may not");
    assert!(noted(&mut scene, NoteKind::Warning).contains("allowed-clients"));
    config.allowed_clients.push("127.0.0.1".parse().expect("an address"));
    scene.tell(&ToFront::Pool(Box::new(config)));
    scene.tell(&ToFront::Report { number: 1 });
    scene.expect("reported", |message| matches!(message, steadfast_proto::front::FromFront::Reported { .. }));
    assert!(ask(address) > 0);
    assert_eq!(workers[0].count(), 1);
    all_over(scene, workers);
}
