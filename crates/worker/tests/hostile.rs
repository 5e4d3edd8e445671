//! What has broken other responders, and what FastCGI's text forbids: the rows of research/fastcgi.md, section C, that concern
//! a responder. Each must end with an answer that is whole, or with the connection; never otherwise, and the worker goes on.

mod support;

use std::cell::Cell;
use std::io::Write;

use steadfast_proto::fcgi::record::kind;
use steadfast_worker::{AfterPanic, Limits};
use support::wire::{Reply, Wire};
use support::{converse, converse_in_pieces, desk, echo};

/// Says it, and then asks for a page on a connection of its own: the worker goes on. What was said.
#[track_caller]
fn survives(bytes: &[u8]) -> Reply {
    let mut desk = desk();
    let (reply, served) = converse_in_pieces(&mut desk, bytes, 4096, &mut echo, None);
    served.expect("it goes on");
    let (next, served) = converse_in_pieces(&mut desk, &Wire::new().get("/next", false).0, 4096, &mut echo, None);
    served.expect("it goes on");
    assert_eq!(next.one().text(), "REQUEST_METHOD=GET\nREQUEST_URI=/next\n\n");
    reply
}

/// As [`survives`], and nothing is answered but what concerns the connection itself.
#[track_caller]
fn ends(bytes: &[u8]) {
    let reply = survives(bytes);
    assert!(reply.records.iter().all(|record| record.id == 0), "{reply:?}");
}

fn stream(bytes: &[u8]) -> Wire {
    Wire::new().responder(true).record(kind::PARAMS, 1, bytes).record(kind::PARAMS, 1, b"").stdin(b"")
}

#[test]
fn libfcgi_cve_2025_23016_lengths_that_overflow_when_they_are_added() {
    for lengths in [[0xff; 8], [0xff, 0xff, 0xff, 0xff, 0x80, 0, 0, 0], [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]] {
        for tail in [&b""[..], b"abc", &[b'x'; 1000]] {
            let reply = survives(&stream(&[&lengths, tail].concat()).0);
            assert_eq!(reply.one().status(), 400);
        }
    }
    // A length of four bytes for a short name is legal.
    let reply = survives(&stream(b"\x80\0\0\x01\x80\0\0\x02abb").0);
    assert_eq!(reply.one().text(), "a=bb\n\n");
}

#[test]
fn libfcgi_get_values_with_names_that_repeat_are_unknown_or_cut() {
    // «stack smashing detected», seen on Debian's 2.4.2.
    let repeated = b"\x0e\0FCGI_MAX_CONNS".repeat(20);
    let reply = survives(&Wire::new().record(kind::GET_VALUES, 0, &repeated).get("/", true).0);
    assert_eq!(reply.others()[0].content, b"\x0e\x01FCGI_MAX_CONNS1");
    reply.one();
    let many: Vec<u8> = (0..60).flat_map(|n| format!("\x0b\x03FCGI_NAME{n:02}abc").into_bytes()).collect();
    assert!(survives(&Wire::new().record(kind::GET_VALUES, 0, &many).0).others()[0].content.is_empty());
    let long = b"\x80\0\0\x0e\x80\0\0\0FCGI_MAX_CONNS\x0f\0FCGI_MPXS_CONNS";
    let reply = survives(&Wire::new().padded(kind::GET_VALUES, 0, long, 255).0);
    assert_eq!(reply.others()[0].content, b"\x0e\x01FCGI_MAX_CONNS1\x0f\x01FCGI_MPXS_CONNS0");
    for cut in [&b"\xff\xff\xff\xff"[..], b"\x0e", b"\x0e\0FCGI_MAX"] {
        ends(&Wire::new().record(kind::GET_VALUES, 0, cut).get("/", true).0);
    }
    ends(&Wire::new().record(kind::GET_VALUES, 0, &[0; 5000]).get("/", true).0);
}

#[test]
fn perl_fcgi_cve_2011_2766_nothing_of_the_request_before_is_seen() {
    let many: Vec<_> =
        (0..60).map(|_| ("HTTP_X", "secret")).chain([("REMOTE_USER", "admin"), ("HTTPS", "on")]).collect();
    let first = Wire::new().responder(true).params(&many).stdin(b"a body, unread, and no length of it");
    let mut texts = Vec::new();
    let reply = converse(&first.join(Wire::new().responder(true).params(&[]).stdin(b"")).0, |request, response| {
        texts.push(request.params().count());
        write!(response, "{:?} {:?}", request.text("REMOTE_USER"), request.content_length())?;
        Ok(())
    });
    // Equal headers have become one.
    assert_eq!(texts, [3, 0]);
    assert_eq!(reply.answers()[1].text(), "None None");
}

#[test]
fn haproxy_0aeae2305_a_body_that_looks_like_records_is_a_body() {
    let forged = Wire::new().get("/forged", true).0;
    for length in [forged.len(), 65_535, 65_536, 70_000, 131_070] {
        let mut body = forged.repeat(length / forged.len() + 1);
        body.truncate(length);
        let reply = survives(&Wire::new().post(&body, true).0);
        assert_eq!(reply.one().body[reply.one().body.len() - length..], body);
    }
}

#[test]
fn haproxy_598527673_padding_after_a_full_record_is_counted_in_more_than_16_bits() {
    for padding in [0, 1, 8, 255] {
        for full in [65_528, 65_535] {
            let body = vec![b'x'; full];
            let value = "v".repeat(full - 1 - 1 - 4);
            let mut pair = vec![1];
            pair.extend((value.len() as u32 | 0x8000_0000).to_be_bytes());
            pair.push(b'A');
            pair.extend(value.as_bytes());
            assert_eq!(pair.len(), full);
            let wire = Wire::new()
                .padded(kind::BEGIN_REQUEST, 1, &[0, 1, 1, 0, 0, 0, 0, 0], padding)
                .padded(kind::PARAMS, 1, &pair, padding)
                .padded(kind::PARAMS, 1, b"", padding)
                .padded(kind::STDIN, 1, &body, padding)
                .padded(kind::STDIN, 1, b"", padding)
                .join(Wire::new().get("/after", true));
            let answers = survives(&wire.0).answers();
            assert_eq!(answers[0].body.len(), 2 + value.len() + 2 + full);
            assert!(answers[1].text().contains("/after"));
        }
    }
}

#[test]
fn haproxy_3ac082b2b_records_of_requests_with_the_connections_id_and_the_other_way_round() {
    for kind in [1, 2, 3, 4, 5, 6, 7, 8] {
        ends(&Wire::new().record(kind, 0, &[0, 1, 1, 0, 0, 0, 0, 0]).get("/", true).0);
        ends(&Wire::new().record(kind, 0, b"").get("/", true).0);
    }
    for kind in [0, 9, 10, 11, 12, 99, 255] {
        ends(&Wire::new().record(kind, 1, b"").get("/", true).0);
    }
    // An answer to these would be answered for ever.
    for kind in [10, 11] {
        ends(&Wire::new().record(kind, 0, &[0; 8]).get("/", true).0);
    }
}

#[test]
fn haproxy_f495d486e_what_a_client_sends_does_not_write_lines_into_the_log() {
    // The line that names a failed request; see also told() in connection.rs.
    let wire = Wire::new().get("/a\r\nforged: line\u{1b}[31m\0", true);
    let reply = converse(&wire.0, |_, _| Err(steadfast_worker::Failure::request("x")));
    assert_eq!(reply.one().status(), 500);
}

#[test]
fn php_fpm_cve_2019_11043_paths_of_every_kind() {
    let lost = |pairs: &[(&str, &str)]| {
        let wire = Wire::new().responder(true).params(pairs).stdin(b"");
        let reply = converse(&wire.0, |request, response| {
            write!(response, "{}", request.path())?;
            Ok(())
        });
        reply.one().text()
    };
    assert_eq!(lost(&[("REQUEST_URI", "/a%0ab?x%0a"), ("PATH_INFO", ""), ("SCRIPT_FILENAME", "/x")]), "/a%0ab");
    assert_eq!(
        lost(&[("REQUEST_URI", "/%00"), ("PATH_INFO", "/longer/than/the/script"), ("SCRIPT_FILENAME", "")]),
        "/%00"
    );
    assert_eq!(lost(&[("PATH_INFO", ""), ("SCRIPT_NAME", "")]), "/");
    assert_eq!(lost(&[]), "/");
    assert_eq!(lost(&[("REQUEST_URI", "?")]), "");
    assert_eq!(lost(&[("REQUEST_URI", "http://a")]), "/");
    assert_eq!(lost(&[("REQUEST_URI", "http://a/b?c://d")]), "/b");
    assert_eq!(lost(&[("REQUEST_URI", "/a://b")]), "/a://b");
    assert_eq!(lost(&[("REQUEST_URI", "*")]), "*");
}

#[test]
fn httpoxy_the_proxy_header_is_not_a_variable() {
    let wire =
        Wire::new().responder(true).params(&[("HTTP_PROXY", "evil"), ("HTTP_PROXY", "evil"), ("A", "b")]).stdin(b"");
    assert_eq!(survives(&wire.0).one().text(), "A=b\n\n");
}

#[test]
fn h2o_cuts_a_pair_between_two_records() {
    let mut pairs = support::wire::pairs_of(&[("HTTP_COOKIE", &"c".repeat(70_000)), ("A", "b")]);
    let rest = pairs.split_off(65_535);
    let wire = Wire::new().responder(true).record(kind::PARAMS, 1, &pairs).record(kind::PARAMS, 1, &rest);
    let reply = survives(&wire.record(kind::PARAMS, 1, b"").stdin(b"").0);
    assert!(reply.one().text().ends_with("c\nA=b\n\n"));
}

#[test]
fn apache_and_caddy_lose_long_values_silently_and_we_refuse_them_aloud() {
    // lighttpd CVE-2007-4727, too: more parameters than 64 KiB.
    for (length, status) in [(16_385, 200), (65_535, 200), (260_000, 200), (262_145, 431), (500_000, 431)] {
        let wire = Wire::new().responder(true).params(&[("HTTP_AUTHORIZATION", &"t".repeat(length))]).stdin(b"");
        assert_eq!(survives(&wire.0).one().status(), status, "{length}");
    }
}

#[test]
fn floods_of_records_that_mean_nothing_end_the_connection() {
    let begun = || Wire::new().responder(true);
    let many = |wire: Wire, kind: u8, id: u16, content: &[u8], times: usize| {
        (0..times).fold(wire, |wire, _| wire.record(kind, id, content))
    };
    // Parameters of one byte each, that never end.
    ends(&many(begun(), kind::PARAMS, 1, b"\0", 5000).0);
    // Records of a request that is not there.
    ends(&many(Wire::new(), kind::STDIN, 7, b"", 5000).get("/", true).0);
    // BEGIN without an end, and the connection's.
    ends(&begun().0);
    ends(&begun().record(kind::PARAMS, 1, b"").0[..20]);
    // Questions without end: bounded, and answered as long as they are heard.
    let reply = survives(&many(Wire::new(), kind::GET_VALUES, 0, b"", 5000).get("/", true).0);
    assert!(reply.others().len() <= 1100, "{}", reply.others().len());
}

#[test]
fn what_is_not_fastcgi_ends_the_connection() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"\x16\x03\x01\x02\0\x01\0\x01",
        b"\0\0\0\0\0\0\0\0",
        b"\x02\x01\0\x01\0\x08\0\0",
    ] {
        ends(bytes);
    }
    // BEGIN and ABORT have one length.
    for length in [0, 7, 9, 16] {
        ends(&Wire::new().record(kind::BEGIN_REQUEST, 1, &vec![0; length]).get("/", true).0);
    }
    ends(&Wire::new().responder(true).record(kind::ABORT_REQUEST, 1, b"x").0);
    // A body before the parameters are complete, parameters after it.
    ends(&Wire::new().responder(true).record(kind::STDIN, 1, b"x").0);
    ends(&Wire::new().post_head("10", true).record(kind::PARAMS, 1, b"\x01\x01ab").0);
    ends(&Wire::new().responder(true).record(kind::DATA, 1, b"x").0);
}

#[test]
fn reserved_bytes_and_unknown_flags_mean_nothing() {
    let mut wire = Wire::new().record(kind::BEGIN_REQUEST, 1, &[0, 1, 0xff, 1, 2, 3, 4, 5]).params(&[]).stdin(b"").0;
    wire[7] = 0xff;
    let wire = [wire, Wire::new().get("/", true).0].concat();
    assert_eq!(survives(&wire).answers().len(), 2);
}

#[test]
fn a_worker_never_says_overloaded_and_a_refusal_is_a_page() {
    // Apache makes an empty 200 of END(OVERLOADED).
    let limits = Limits { params: 10, params_count: 1 };
    let mut desk = steadfast_worker::fuzzing::Desk::new(limits, AfterPanic::GoOn);
    let (reply, _) = converse_in_pieces(&mut desk, &Wire::new().get("/a/long/path", true).0, 1, &mut echo, None);
    let answer = reply.one();
    assert_eq!((answer.status(), answer.protocol_status), (431, 0));
    assert!(answer.head.contains("Content-Type: text/html"));
}

#[test]
fn a_variable_may_hold_any_byte() {
    // HAProxy 28cb36613, Caddy #4614: a NUL ends nothing.
    let seen = Cell::new(false);
    let mut pairs = b"\x03\x07A\0BC\0\xff\r\n\x1b=".to_vec();
    pairs.extend(b"\0\0\x01\0X\0\x01y");
    converse(&stream(&pairs).0, |request, _| {
        let all: Vec<_> = request.params().collect();
        assert_eq!(all, [(&b"A\0B"[..], &b"C\0\xff\r\n\x1b="[..]), (b"", b""), (b"X", b""), (b"", b"y")]);
        assert_eq!(request.text("A\0B"), None);
        seen.set(true);
        Ok(())
    });
    assert!(seen.get());
}

#[test]
fn go_cve_2020_24553_no_content_type_is_invented() {
    let reply = converse(&Wire::new().get("/", true).0, |_, response| {
        response.write_all(b"<script>")?;
        Ok(())
    });
    assert_eq!(reply.one().head, "Status: 200 OK\r\n");
}
