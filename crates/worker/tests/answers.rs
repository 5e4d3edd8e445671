//! What a handler says, and what the web server hears of it.

mod support;

use std::io::{ErrorKind, Write};
use std::panic;

use steadfast_proto::fcgi::record::kind;
use steadfast_worker::{AfterPanic, Failure, Limits, Request, Response};
use support::wire::{Answer, Reply, Wire};
use support::{converse, converse_in_pieces, desk};

fn ask(handler: impl FnMut(&mut Request<'_>, &mut Response<'_>) -> Result<(), Failure>) -> Answer {
    converse(&Wire::new().get("/page", true).0, handler).one()
}

/// The error of a wrong use, which leaves the answer as it was.
#[track_caller]
fn misused<T>(result: std::io::Result<T>) {
    assert_eq!(result.err().map(|error| error.kind()), Some(ErrorKind::InvalidInput));
}

#[test]
fn an_empty_answer_is_a_200_without_a_body() {
    let answer = ask(|_, _| Ok(()));
    assert_eq!((answer.head.as_str(), answer.text().as_str()), ("Status: 200 OK\r\n", ""));
}

#[test]
fn the_status_is_always_said_and_a_location_alone_is_a_302() {
    // RFC 3875 §6.2.2 makes a Location without a status a redirect that some servers follow by themselves.
    let head = |name: &'static str, value: &'static str| {
        ask(move |_, response| {
            response.header(name, value)?;
            Ok(())
        })
        .head
    };
    assert_eq!(head("Content-Type", "text/plain"), "Content-Type: text/plain\r\nStatus: 200 OK\r\n");
    assert_eq!(head("location", "/other"), "location: /other\r\nStatus: 302 Found\r\n");
    let answer = ask(|_, response| {
        response.redirect(303, "/other")?;
        Ok(())
    });
    assert_eq!(answer.head, "Status: 303 See Other\r\nLocation: /other\r\n");
}

#[test]
fn heads_that_would_be_something_else_are_refused_and_harm_nothing() {
    let answer = ask(|_, response| {
        for name in ["", "A B", "A:", "A\r\nB", "A\0", "Ä", "Status", "STATUS", "Transfer-Encoding", "connection"] {
            misused(response.header(name, "x").map(drop));
        }
        for value in ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b", "\n"] {
            misused(response.header("X", value).map(drop));
        }
        for status in [0, 99, 100, 101, 199, 1000] {
            misused(response.status(status).map(drop));
        }
        response.status(404)?.header("X", "é\t;")?;
        misused(response.status(200).map(drop));
        misused(response.variable("A B", "x").map(drop));
        response.write_all(b"body")?;
        misused(response.status(200).map(drop));
        misused(response.header("Y", "y").map(drop));
        Ok(())
    });
    assert_eq!((answer.head.as_str(), answer.text().as_str()), ("Status: 404 Not Found\r\nX: é\t;\r\n", "body"));
}

#[test]
fn the_body_of_a_head_request_is_swallowed() {
    let wire = Wire::new().responder(true).params(&[("REQUEST_METHOD", "HEAD")]).stdin(b"");
    let fine = converse(&wire.0, |_, response| {
        response.header("Content-Length", "100000")?;
        response.write_all(&[b'x'; 100_000])?;
        Ok(())
    });
    assert_eq!((fine.one().text().as_str(), fine.one().status()), ("", 200));
    let failed = converse(&wire.0, |_, _| Err(Failure::request("x")));
    assert_eq!((failed.one().text().as_str(), failed.one().status()), ("", 500));
}

#[test]
fn a_204_or_304_has_no_body() {
    for status in [204, 304] {
        let answer = ask(move |_, response| {
            response.status(status)?;
            response.write_all(b"nobody may see this")?;
            Ok(())
        });
        assert_eq!((answer.status(), answer.text().as_str()), (status, ""));
    }
}

#[test]
fn answers_of_every_length_arrive_whole() {
    let edges =
        [0, 1, 7, 8, 9, 16_383, 16_384, 16_385, 65_500, 65_504, 65_505, 65_527, 65_528, 65_529, 65_534, 65_535, 65_536];
    for length in edges.into_iter().chain([131_056, 131_057, 1_048_448, 1_048_449, 3_000_000]) {
        for before in [0, 1, 20_000] {
            let body: Vec<u8> = (0..length).map(|at: usize| (at % 251) as u8).collect();
            let answer = ask(|_, response| {
                response.write_all(&vec![b'-'; before])?;
                response.write_all(&body)?;
                Ok(())
            });
            assert_eq!(answer.body.len(), before + length);
            assert!(answer.body[before..] == body, "{before} + {length}");
        }
    }
}

#[test]
fn lines_for_the_log_stand_between_pieces_of_the_answer_and_are_cut_into_records() {
    let long = "é".repeat(50_000);
    let answer = ask(|_, response| {
        response.warn("before");
        response.write_all(b"one ")?;
        response.warn("\u{1b}[31mred\0\r\n");
        response.warn(&long);
        response.write_all(b"two")?;
        Ok(())
    });
    assert_eq!(answer.text(), "one two");
    assert_eq!(answer.log, format!("before\n\u{1b}[31mred\0\r\n\n{long}\n"));
}

#[test]
fn a_failed_handler_is_a_500_and_its_lines_for_the_log_are_kept() {
    let answer = ask(|_, response| {
        response.warn("first");
        response.status(200)?.header("X", "y")?;
        response.write_all(b"half an answer")?;
        response.warn("second");
        response.write_all(b", and another")?;
        Err(Failure::request("x"))
    });
    assert_eq!(answer.status(), 500);
    assert!(!answer.text().contains("half") && answer.text().contains("The application has failed."), "{answer:?}");
    assert_eq!(answer.log, "first\nsecond\n");
    assert!(!answer.head.contains("X:"));
}

#[test]
fn an_answer_that_was_begun_is_never_ended_by_a_failure() {
    let fail = |_: &mut Request<'_>, response: &mut Response<'_>| {
        response.write_all(b"half an answer")?;
        response.flush()?;
        assert!(response.has_begun());
        Err(Failure::request("x"))
    };
    let reply = converse(&Wire::new().get("/", true).join(Wire::new().get("/", true)).0, fail);
    assert!(reply.is_cut(), "the web server must see that it is not whole: {reply:?}");
}

#[test]
fn a_panic_is_a_500_and_the_worker_goes_on() {
    panic::set_hook(Box::new(|_| {}));
    struct Bomb;
    impl std::fmt::Display for Bomb {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("while it is written")
        }
    }
    let wire = (0..4).fold(Wire::new(), |wire, _| wire.get("/", true));
    let mut turn = 0;
    let reply = converse(&wire.0, |_, response| {
        turn += 1;
        match turn {
            1 => panic!("of the handler"),
            2 => response.warn(Bomb),
            3 => write!(response, "{Bomb}")?,
            _ => write!(response, "well")?,
        }
        Ok(())
    });
    let answers = reply.answers();
    let statuses: Vec<_> = answers.iter().map(Answer::status).collect();
    assert_eq!(statuses, [500, 500, 500, 200]);
    assert_eq!(answers[3].text(), "well");
}

#[test]
fn a_worker_that_leaves_after_a_panic_answers_first() {
    panic::set_hook(Box::new(|_| {}));
    let mut desk = steadfast_worker::fuzzing::Desk::new(Limits::default(), AfterPanic::Leave);
    let wire = Wire::new().get("/a", true).join(Wire::new().get("/b", true));
    let mut handler = |_: &mut Request<'_>, _: &mut Response<'_>| -> Result<(), Failure> { panic!("of the handler") };
    let (reply, result) = converse_in_pieces(&mut desk, &wire.0, 10_000, &mut handler, None);
    assert_eq!(reply.one().status(), 500);
    assert!(result.expect_err("it leaves").message().contains("of the handler"));
}

#[test]
fn an_answer_to_nobody_is_an_error_for_the_handler_and_no_more() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    (&ours).write_all(&Wire::new().get("/", true).0).expect("room");
    let mut ours = Some(ours);
    let mut seen = None;
    let mut handler = |_: &mut Request<'_>, response: &mut Response<'_>| {
        ours.take();
        seen = response.write_all(&[b'x'; 100_000]).err().map(|error| error.kind());
        // Nobody listens, but a handler may not look.
        let _ = response.flush();
        Ok(())
    };
    assert_eq!(desk().serve(theirs.into(), u64::MAX, &mut handler, None).expect("it goes on"), 1);
    assert!(matches!(seen, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)), "{seen:?}");
}

#[test]
fn every_record_of_an_answer_belongs_to_it() {
    let wire = Wire::new()
        .record(kind::BEGIN_REQUEST, 513, &[0, 1, 1, 0, 0, 0, 0, 0])
        .record(kind::PARAMS, 513, b"")
        .record(kind::STDIN, 513, b"");
    let reply: Reply = converse(&wire.0, |_, response| {
        response.warn("x");
        response.write_all(&[b'x'; 200_000])?;
        Ok(())
    });
    assert!(reply.records.iter().all(|record| record.id == 513), "{reply:?}");
}
