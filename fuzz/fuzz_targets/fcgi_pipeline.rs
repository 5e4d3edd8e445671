//! A front: reads requests from a web server's connection (any bytes) and sends the complete ones on, each alone under
//! id 1. A worker must read of each exactly what was read, and not one byte else: no smuggling.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::params::{pair_len, pairs, push_pair};
use steadfast_proto::fcgi::record::{kind, role, status};
use steadfast_proto::fcgi::request::{Event, Limits, RequestDecoder};
use steadfast_proto::fcgi::response::{Answer, ResponseDecoder};

#[derive(Default)]
struct Request {
    params: Vec<u8>,
    body: Vec<u8>,
}

/// Sends it on, reads it as a worker does, answers with its body, and reads that.
fn forward(request: &Request, cut: usize) {
    let whole = pairs(&request.params).all(|pair| pair.is_ok());
    let mut again = Vec::new();
    for (name, value) in pairs(&request.params).map_while(Result::ok) {
        let before = again.len();
        push_pair(&mut again, name, value).expect("shorter than the wire");
        assert_eq!(again.len() - before, pair_len(name, value));
    }
    assert!(again.len() <= request.params.len(), "ours is the shortest form");
    if !whole {
        return;
    }
    assert!(pairs(&again).map(Result::ok).eq(pairs(&request.params).map(Result::ok)));

    let mut wire = Vec::new();
    encode::begin_request(&mut wire, 1, role::RESPONDER, true);
    encode::params(&mut wire, 1, &again).expect("limited to less than a record");
    encode::stream(&mut wire, kind::STDIN, 1, &request.body);
    encode::stream_end(&mut wire, kind::STDIN, 1);
    let mut decoder = RequestDecoder::new(Limits { requests: 1, ..Limits::default() });
    let mut read = Request::default();
    let mut marks = Vec::new();
    for piece in wire.chunks(cut.max(1)) {
        let mut input = piece;
        while let Some(event) = decoder.next(&mut input).expect("valid") {
            match event {
                Event::Begin { id: 1, role: role::RESPONDER, keep: true } => marks.push(0),
                Event::Params { id: 1, bytes } => read.params.extend(bytes),
                Event::ParamsEnd { id: 1 } => marks.push(1),
                Event::Stdin { id: 1, bytes } => read.body.extend(bytes),
                Event::StdinEnd { id: 1 } => marks.push(2),
                other => panic!("smuggled: {other:?}"),
            }
        }
    }
    assert_eq!(marks, [0, 1, 2]);
    assert!(read.params == again && read.body == request.body);
    decoder.end(1);
    assert!(decoder.is_idle());

    let mut wire = Vec::new();
    encode::stream(&mut wire, kind::STDOUT, 1, &request.body);
    encode::end_request(&mut wire, 1, 0, status::REQUEST_COMPLETE);
    let mut decoder = ResponseDecoder::new(1);
    decoder.begin();
    let (mut body, mut ends) = (Vec::<u8>::new(), 0);
    for piece in wire.chunks(cut.max(1)) {
        let mut input = piece;
        while let Some(answer) = decoder.next(&mut input).expect("valid") {
            match answer {
                Answer::Stdout(bytes) => body.extend(bytes),
                Answer::End { app_status: 0, protocol_status: 0 } => ends += 1,
                other => panic!("smuggled: {other:?}"),
            }
        }
    }
    assert!(body == request.body && ends == 1 && decoder.is_idle());
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, wire)) = data.split_first() else { return };
    let cut = usize::from(*cut);
    let mut decoder = RequestDecoder::new(Limits { params: 4096, ..Limits::default() });
    let mut living: BTreeMap<u16, Request> = BTreeMap::new();
    for piece in wire.chunks(cut.max(1)) {
        let mut input = piece;
        while let Ok(Some(event)) = decoder.next(&mut input) {
            match event {
                Event::Begin { id, .. } => {
                    living.insert(id, Request::default());
                }
                Event::Params { id, bytes } => living.get_mut(&id).expect("lives").params.extend(bytes),
                Event::Stdin { id, bytes } => living.get_mut(&id).expect("lives").body.extend(bytes),
                Event::StdinEnd { id } => {
                    forward(&living.remove(&id).expect("lives"), cut);
                    decoder.end(id);
                }
                Event::Abort { id } | Event::TooLarge { id } => {
                    living.remove(&id).expect("lives");
                    decoder.end(id);
                }
                _ => {}
            }
        }
    }
});
