//! What the encoder writes, the decoders read.

use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::{kind, role, status};
use steadfast_proto::fcgi::request::{Event, Limits, RequestDecoder};
use steadfast_proto::fcgi::response::{Answer, ResponseDecoder};

#[test]
fn a_request_and_its_answer() {
    let mut wire = Vec::new();
    encode::begin_request(&mut wire, 1, role::RESPONDER, true);
    encode::params(&mut wire, 1, b"\x01\x01ab").expect("fits");
    encode::stream(&mut wire, kind::STDIN, 1, b"body");
    encode::stream_end(&mut wire, kind::STDIN, 1);
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut input = wire.as_slice();
    let mut events = Vec::new();
    while let Some(event) = decoder.next(&mut input).expect("valid") {
        events.push(event);
    }
    assert_eq!(
        events,
        [
            Event::Begin { id: 1, role: role::RESPONDER, keep: true },
            Event::Params { id: 1, bytes: b"\x01\x01ab" },
            Event::ParamsEnd { id: 1 },
            Event::Stdin { id: 1, bytes: b"body" },
            Event::StdinEnd { id: 1 },
        ]
    );
    assert!(!decoder.is_idle());
    decoder.end(1);
    assert!(decoder.is_idle());

    let mut wire = Vec::new();
    encode::stream(&mut wire, kind::STDOUT, 1, b"Status: 200\r\n\r\n");
    encode::stream_end(&mut wire, kind::STDOUT, 1);
    encode::end_request(&mut wire, 1, 7, status::REQUEST_COMPLETE);
    let mut decoder = ResponseDecoder::new(1);
    decoder.begin();
    let mut input = wire.as_slice();
    let mut answers = Vec::new();
    while let Some(answer) = decoder.next(&mut input).expect("valid") {
        answers.push(answer);
    }
    assert_eq!(
        answers,
        [
            Answer::Stdout(b"Status: 200\r\n\r\n"),
            Answer::StdoutEnd,
            Answer::End { app_status: 7, protocol_status: status::REQUEST_COMPLETE },
        ]
    );
    assert!(decoder.is_idle());
}
