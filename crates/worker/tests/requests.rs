//! What a worker makes of a web server's connection: bodies, kept connections, aborts, ends.

mod support;

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;

use steadfast_proto::fcgi::record::{kind, role, status};
use steadfast_worker::{AfterPanic, Failure, Limits};
use support::wire::{Reply, Wire};
use support::{converse, converse_in_pieces, count, desk, echo};

#[test]
fn a_kept_connection_answers_one_request_after_the_other_and_nothing_of_the_first_is_left_for_the_second() {
    let first = Wire::new()
        .responder(true)
        .params(&[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "5"), ("REMOTE_USER", "admin")])
        .stdin(b"12345");
    let second = Wire::new().responder(true).params(&[("REQUEST_METHOD", "GET")]).stdin(b"");
    let reply = converse(&first.join(second).0, echo);
    let answers = reply.answers();
    assert_eq!(answers[0].text(), "REQUEST_METHOD=POST\nCONTENT_LENGTH=5\nREMOTE_USER=admin\n\n12345");
    assert_eq!(answers[1].text(), "REQUEST_METHOD=GET\n\n");
}

#[test]
fn without_keep_conn_the_connection_ends_after_the_answer() {
    let wire = Wire::new().get("/", false).join(Wire::new().get("/", false));
    assert_eq!(converse(&wire.0, echo).answers().len(), 1);
}

#[test]
fn a_connection_that_broke_leaves_nothing_for_the_next_one() {
    let mut desk = desk();
    // The first ends in the middle of its parameters, the second within a record of its body.
    let broken = [
        Wire::new().responder(true).record(kind::PARAMS, 1, b"\x03\x01abc").0,
        Wire::new().post_head("70000", true).part(&[b'x'; 30_000]).0[..20_000].to_vec(),
        Wire::new().record(kind::GET_VALUES, 0, b"").record(kind::STDOUT, 1, b"").0,
    ];
    for bytes in broken {
        let _ = converse_in_pieces(&mut desk, &bytes, 7000, &mut echo, None);
        let (reply, served) = converse_in_pieces(&mut desk, &Wire::new().get("/a", true).0, 1000, &mut echo, None);
        assert_eq!(reply.one().text(), "REQUEST_METHOD=GET\nREQUEST_URI=/a\n\n");
        assert!(reply.others().is_empty(), "{reply:?}");
        assert_eq!(served.expect("it goes on"), 1);
    }
}

#[test]
fn a_body_shorter_than_content_length_is_an_error_for_the_handler_and_is_not_answered() {
    let seen = RefCell::new(None);
    let wire = Wire::new().post_head("10", true).stdin(b"12345");
    let reply = converse(&wire.0, |request, _| {
        let error = request.read_to_end(&mut Vec::new()).expect_err("too short");
        *seen.borrow_mut() = Some(error.kind());
        Err(error.into())
    });
    assert_eq!(*seen.borrow(), Some(ErrorKind::UnexpectedEof));
    assert_eq!(reply, Reply::default());
}

#[test]
fn a_body_longer_than_content_length_ends_where_it_says() {
    let wire =
        Wire::new().post_head("5", true).stdin(b"12345and what was not announced").join(Wire::new().get("/", true));
    let answers = converse(&wire.0, echo).answers();
    assert!(answers[0].text().ends_with("\n\n12345"), "{answers:?}");
    assert_eq!(answers.len(), 2);
}

#[test]
fn caddy_says_minus_one_for_a_length_that_it_does_not_know() {
    for length in ["-1", ""] {
        let wire = Wire::new().post_head(length, true).stdin(&[b'x'; 100_000]);
        assert_eq!(converse(&wire.0, count).one().text(), "100000");
    }
}

#[test]
fn a_content_length_that_is_no_plain_number_is_none_and_one_that_is_too_large_is_never_reached() {
    for length in ["+5", " 5", "5 ", "0x5", "5,5", "٥"] {
        let wire = Wire::new().post_head(length, true).stdin(b"123456789");
        let mut said = Some(0);
        let reply = converse(&wire.0, |request, response| {
            said = request.content_length();
            count(request, response)
        });
        assert_eq!((reply.one().text().as_str(), said), ("9", None), "{length}");
    }
    for length in ["18446744073709551615", "18446744073709551616", "99999999999999999999999999"] {
        let wire = Wire::new().post_head(length, true).stdin(b"123456789");
        assert_eq!(
            converse(&wire.0, count),
            Reply::default(),
            "{length}: the client has gone, as far as anybody can tell"
        );
    }
}

#[test]
fn the_limit_of_a_body_may_be_any_number() {
    let wire = Wire::new().post(b"12345", true);
    let limited = |limit: usize| {
        converse(&wire.0, |request, response| {
            let body = request.body(limit)?;
            response.write_all(&body)?;
            Ok(())
        })
        .one()
    };
    assert_eq!(limited(usize::MAX).text(), "12345");
    assert_eq!(limited(5).text(), "12345");
    assert_eq!(limited(4).status(), 500);
}

#[test]
fn an_aborted_request_is_ended_and_the_connection_goes_on() {
    let aborted = |wire: Wire| wire.record(kind::ABORT_REQUEST, 1, b"");
    let begun = || Wire::new().responder(true);
    let next = Wire::new().get("/next", true);
    let cases = [
        aborted(begun()),
        aborted(begun().record(kind::PARAMS, 1, b"\x01\x01ab")),
        aborted(Wire::new().post_head("10", true)),
        aborted(Wire::new().post_head("10", true).part(b"12345")),
        aborted(Wire::new().post(b"1234567890", true)),
    ];
    for (number, wire) in cases.into_iter().enumerate() {
        let reply = converse(&wire.join(next.clone()).0, echo);
        let answers = reply.answers();
        assert_eq!(answers.len(), 2, "case {number}: {reply:?}");
        assert_eq!(answers[0].protocol_status, status::REQUEST_COMPLETE);
        assert!(answers[1].text().contains("REQUEST_URI=/next"), "case {number}: {answers:?}");
    }
}

#[test]
fn a_handler_hears_of_an_abort_when_it_reads() {
    let mut seen = None;
    let wire = Wire::new().post_head("10", true).part(b"12345").record(kind::ABORT_REQUEST, 1, b"");
    converse(&wire.0, |request, _| {
        seen = request.read_to_end(&mut Vec::new()).err().map(|error| error.kind());
        Ok(())
    });
    assert_eq!(seen, Some(ErrorKind::ConnectionAborted));
}

#[test]
fn a_second_request_on_a_busy_connection_is_told_that_it_cannot_be() {
    // FastCGI 1.0 §5.5; what HAProxy does with `option mpxs-conns`. php-fpm mixes the two.
    for keep in [true, false] {
        let second = [0, 1, u8::from(keep), 0, 0, 0, 0, 0];
        let wire = Wire::new()
            .post_head("10", keep)
            .part(b"12345")
            .record(kind::BEGIN_REQUEST, 3, &second)
            .record(kind::PARAMS, 3, b"\x01\x01ab")
            .record(kind::PARAMS, 3, b"")
            .record(kind::STDIN, 3, b"not mine")
            .part(b"67890")
            .record(kind::STDIN, 1, b"")
            .record(kind::STDIN, 3, b"");
        let reply = converse(&wire.0, echo);
        assert!(reply.one().text().ends_with("\n\n1234567890"), "{reply:?}");
        let [refusal] = reply.others()[..] else { panic!("{reply:?}") };
        assert_eq!((refusal.kind, refusal.id, refusal.content[4]), (kind::END_REQUEST, 3, status::CANT_MPX_CONN));
    }
}

#[test]
fn a_second_beginning_of_the_same_request_ends_the_connection() {
    let wire = Wire::new().post_head("10", true).responder(true);
    assert!(converse(&wire.0, echo).is_cut());
}

#[test]
fn what_comes_of_a_body_after_its_answer_is_swallowed() {
    let wire = Wire::new()
        .post(&[b'x'; 200_000], true)
        .record(kind::ABORT_REQUEST, 1, b"")
        .join(Wire::new().get("/next", true));
    let reply = converse(&wire.0, |request, response| {
        write!(response, "{}", request.path())?;
        Ok(())
    });
    let texts: Vec<_> = reply.answers().iter().map(|answer| answer.text()).collect();
    assert_eq!(texts, ["/upload", "/next"]);
}

#[test]
fn too_many_parameters_are_refused_and_the_connection_goes_on() {
    let limits = Limits { params: 1000, params_count: 5 };
    let large = "x".repeat(2000);
    let many: Vec<_> = (0..6).map(|_| ("HTTP_A", "b")).collect();
    for (params, body) in [(&[("A", large.as_str())][..], 10), (&[("A", &large)], 70_000), (&many, 10), (&many, 70_000)]
    {
        let mut desk = steadfast_worker::fuzzing::Desk::new(limits, AfterPanic::GoOn);
        let refused = Wire::new().responder(true).params(params).stdin(&vec![b'x'; body]);
        let wire = refused.join(Wire::new().get("/next", true)).0;
        let (reply, served) = converse_in_pieces(&mut desk, &wire, wire.len(), &mut echo, None);
        let answers = reply.answers();
        assert_eq!(answers.len(), 2, "{reply:?}");
        assert_eq!(answers[0].status(), 431);
        assert!(answers[1].text().contains("REQUEST_URI=/next"));
        assert_eq!(served.expect("it goes on"), 1, "what is refused is not served");
    }
}

#[test]
fn parameters_that_are_cut_are_a_bad_request() {
    let wire =
        Wire::new().responder(true).record(kind::PARAMS, 1, b"\x05\x05abc").record(kind::PARAMS, 1, b"").stdin(b"");
    let answers = converse(&wire.join(Wire::new().get("/", true)).0, echo).answers();
    assert_eq!((answers[0].status(), answers.len()), (400, 2));
}

#[test]
fn other_roles_are_refused_without_an_answer_that_lets_anybody_in() {
    for other in [role::AUTHORIZER, role::FILTER, 0, 4, 65_535] {
        let wire = Wire::new().begin(other, true).params(&[("A", "b")]).stdin(b"").join(Wire::new().get("/", true));
        let answers = converse(&wire.0, echo).answers();
        assert_eq!((answers[0].protocol_status, answers[0].text().as_str()), (status::UNKNOWN_ROLE, ""));
        assert_eq!(answers.len(), 2);
    }
}

#[test]
fn an_authorizer_answers_its_own_role_only_and_has_no_body_to_wait_for() {
    let authorize = |request: &mut steadfast_worker::Request<'_>, response: &mut steadfast_worker::Response<'_>| {
        assert_eq!(request.role(), steadfast_worker::Role::Authorizer);
        // It must not wait for a body: there is none (FastCGI 1.0 §6.3).
        assert_eq!(request.read(&mut [0; 10])?, 0);
        response.status(401)?.variable("WHO", "nobody")?;
        Ok::<_, Failure>(())
    };
    let wire =
        Wire::new().begin(role::AUTHORIZER, true).params(&[("CONTENT_LENGTH", "5")]).join(Wire::new().get("/", true));
    let (reply, _) = converse_in_pieces(&mut desk(), &wire.0, 1, &mut echo, Some(&mut authorize.clone()));
    let answers = reply.answers();
    assert_eq!(answers[0].head, "Status: 401 Unauthorized\r\nVariable-WHO: nobody\r\n");
    assert!(answers[1].text().contains("REQUEST_URI=/"));
}

#[test]
fn a_web_server_that_half_closes_after_its_request_gets_its_answer() {
    for piece in [1, 100_000] {
        let wire = Wire::new().post(&[b'x'; 3000], false).0;
        let (reply, _) = converse_in_pieces(&mut desk(), &wire, piece, &mut count, None);
        assert_eq!(reply.one().text(), "3000");
    }
}

#[test]
fn a_web_server_that_sends_everything_before_it_reads_does_not_stop_the_worker() {
    // mod_fcgid: both sides would write for ever, were nothing read meanwhile.
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let wire = Wire::new().post(&[b'x'; 900_000], false).0;
    let asked = thread::spawn(move || {
        let mut ours = ours;
        ours.write_all(&wire).expect("it is read");
        let mut heard = Vec::new();
        ours.read_to_end(&mut heard).expect("it is answered");
        heard
    });
    let mut early = |_: &mut steadfast_worker::Request<'_>, response: &mut steadfast_worker::Response<'_>| {
        for _ in 0..30 {
            response.write_all(&[b'y'; 100_000])?;
        }
        Ok(())
    };
    desk().serve(theirs.into(), u64::MAX, &mut early, None).expect("it goes on");
    assert_eq!(Reply::parse(&asked.join().expect("no panic")).one().body.len(), 3_000_000);
}

#[test]
fn a_body_that_is_read_before_and_after_a_large_answer_is_the_same_body() {
    // What is taken in while the answer is written moves and grows around a piece that was read in part.
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let body: Vec<u8> = (0..600_000_u32).map(|at| (at % 251) as u8).collect();
    let wire = Wire::new().post(&body, true).0;
    let asked = thread::spawn(move || {
        let mut ours = ours;
        ours.write_all(&wire).expect("it is read");
        ours.shutdown(Shutdown::Write).expect("open");
        let mut heard = Vec::new();
        ours.read_to_end(&mut heard).expect("it is answered");
        heard
    });
    let mut read = Vec::new();
    let mut handler = |request: &mut steadfast_worker::Request<'_>, response: &mut steadfast_worker::Response<'_>| {
        for part in [10, 70_000, 1] {
            request.take(part).read_to_end(&mut read)?;
            response.write_all(&vec![b'y'; 400_000])?;
        }
        request.read_to_end(&mut read)?;
        Ok(())
    };
    desk().serve(theirs.into(), u64::MAX, &mut handler, None).expect("it goes on");
    assert_eq!(Reply::parse(&asked.join().expect("no panic")).one().body.len(), 1_200_000);
    assert!(read == body);
}

#[test]
fn an_answer_before_the_end_of_an_upload_arrives_though_the_connection_is_closed() {
    // Over TCP a reset would take it away (RFC 9112 §9.6).
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let filter =
        Wire::new().begin(role::FILTER, false).params(&[]).stdin(&[b'x'; 300_000]).record(kind::DATA, 1, &[0; 9000]);
    for wire in [Wire::new().post(&[b'x'; 3_000_000], false), filter.record(kind::DATA, 1, b"")] {
        let asked = thread::spawn(move || {
            let mut client = TcpStream::connect(address).expect("it listens");
            let (first, rest) = wire.0.split_at(100_000);
            client.write_all(first).expect("it listens");
            // The answer is complete, and the worker's side of the connection; the upload is not.
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).expect("an end, and no reset");
            for piece in rest.chunks(10_000) {
                client.write_all(piece).expect("it is read, and no reset comes back");
            }
            heard
        });
        let (connection, _) = listener.accept().expect("a client");
        let early = |_: &mut steadfast_worker::Request<'_>, response: &mut steadfast_worker::Response<'_>| {
            response.status(403)?;
            Ok(())
        };
        desk().serve(connection.into(), u64::MAX, &mut early.clone(), None).expect("it goes on");
        Reply::parse(&asked.join().expect("no panic")).one();
    }
}

#[test]
fn a_web_server_that_goes_in_the_middle_is_nobodys_failure() {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    ours.write_all(&Wire::new().post_head("10", true).part(b"12345").0).expect("room");
    let mut reset = |request: &mut steadfast_worker::Request<'_>, response: &mut steadfast_worker::Response<'_>| {
        // Unread bytes at the close: the worker's next read says ECONNRESET.
        response.write_all(&[b'y'; 1000])?;
        response.flush()?;
        ours.shutdown(Shutdown::Read).expect("open");
        request.read_exact(&mut [0; 5])?;
        for _ in 0..100 {
            response.write_all(&[b'y'; 100_000])?;
        }
        Ok(())
    };
    let served = desk().serve(theirs.into(), u64::MAX, &mut reset, None);
    assert_eq!(served.expect("it goes on"), 1);
}

#[test]
fn what_was_asked_of_the_connection_is_answered_before_it_is_closed() {
    // HAProxy waits for it.
    let wire = Wire::new().record(kind::GET_VALUES, 0, b"\x0e\x00FCGI_MAX_CONNS").record(77, 0, b"").get("/", false);
    let reply = converse(&wire.0, echo);
    reply.one();
    let others = reply.others();
    assert_eq!(others.len(), 2, "{reply:?}");
    assert_eq!(others[0].content, b"\x0e\x01FCGI_MAX_CONNS1");
    assert_eq!((others[1].kind, others[1].content[0]), (kind::UNKNOWN_TYPE, 77));
}

#[test]
fn a_path_or_method_that_is_no_utf8_is_not_taken_for_another() {
    let mut stream = support::wire::pairs_of(&[("SCRIPT_NAME", "/")]);
    stream.extend(b"\x0b\x02REQUEST_URI/\xff\x0e\x01REQUEST_METHOD\xff");
    let wire = Wire::new().responder(true).record(kind::PARAMS, 1, &stream).record(kind::PARAMS, 1, b"").stdin(b"");
    let answer = converse(&wire.0, |request, response| {
        write!(response, "{} {}", request.method(), request.path())?;
        Ok(())
    });
    assert_eq!(answer.one().text(), "\u{fffd} \u{fffd}");
}
