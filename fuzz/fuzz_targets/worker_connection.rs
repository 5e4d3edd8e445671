//! A whole worker before a web server that says anything, cut anywhere: what it answers is FastCGI, belongs to a request
//! that was begun, is an answer that the front takes; and for a handler that reads its body the cut means nothing.
#![no_main]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use libfuzzer_sys::fuzz_target;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use steadfast_fuzz::records;
use steadfast_proto::fcgi::record::{Header, kind};
use steadfast_proto::fcgi::response::{Answer, ResponseDecoder};
use steadfast_worker::fuzzing::Desk;
use steadfast_worker::{AfterPanic, Failure, Limits, Request, Response};

const LIMITS: Limits = Limits { params: 300, params_count: 6 };

/// What the handler does, by the first byte of the first parameter's value.
fn act(request: &mut Request<'_>, response: &mut Response<'_>) -> Result<(), Failure> {
    let what = request.params().next().and_then(|(_, value)| value.first().copied()).unwrap_or(0);
    match what % 8 {
        0 | 1 => echo(request, response)?,
        2 => {
            response.status(404)?.header("X", "y")?;
            response.warn("nothing is read");
        }
        3 => {
            response.write_all(b"some")?;
            response.flush()?;
            let mut bytes = [0; 3];
            let got = request.read(&mut bytes)?;
            response.write_all(&bytes[..got])?;
        }
        4 => {
            response.write_all(b"half")?;
            response.warn("it fails");
            return Err(Failure::request("x"));
        }
        5 => {
            response.write_all(b"half")?;
            response.flush()?;
            return Err(Failure::request("x"));
        }
        6 => assert!(response.redirect(303, "/there")?.header("X\r\n", "y").is_err()),
        _ => response.write_all(&request.body(9)?)?,
    }
    Ok(())
}

fn echo(request: &mut Request<'_>, response: &mut Response<'_>) -> Result<(), Failure> {
    let mut body = Vec::new();
    request.read_to_end(&mut body)?;
    response.header("Content-Type", "x")?;
    for (name, value) in request.params() {
        assert_ne!(name, b"HTTP_PROXY");
        response.write_all(name)?;
        response.write_all(value)?;
    }
    response.write_all(&body)?;
    Ok(())
}

/// Each packet is what one read of the worker brings.
fn pair() -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair")
}

/// What the worker says to these bytes, and whether one of the requests has a CONTENT_LENGTH.
fn serve(desk: &mut Desk, wire: &[u8], piece: usize, is_echo: bool) -> (Vec<u8>, bool) {
    let (ours, theirs) = pair();
    for piece in wire.chunks(piece.max(wire.len() / 60).max(1)) {
        rustix::net::send(&ours, piece, SendFlags::DONTWAIT).expect("room");
    }
    rustix::net::shutdown(&ours, Shutdown::Write).expect("open");
    let mut has_length = false;
    let mut handler = |request: &mut Request<'_>, response: &mut Response<'_>| {
        has_length |= request.content_length().is_some();
        if is_echo { echo(request, response) } else { act(request, response) }
    };
    let mut authorizer =
        |_: &mut Request<'_>, response: &mut Response<'_>| response.status(403).map(|_| ()).map_err(Failure::from);
    let served = desk.serve(theirs, 50, &mut handler, Some(&mut authorizer));
    assert!(served.expect("it goes on") <= 50);
    let mut said = Vec::new();
    let mut bytes = vec![0; 100_000];
    loop {
        match rustix::net::recv(&ours, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((got @ 1.., _)) => said.extend_from_slice(&bytes[..got]),
            // What it has not read is told before what it has said.
            Err(rustix::io::Errno::CONNRESET) => {}
            _ => break,
        }
    }
    (said, has_length)
}

/// The answers, by request and in their order: stdout, and how they ended.
fn judge(mut said: &[u8]) -> Vec<(u16, Vec<u8>, Option<(u32, u8)>)> {
    let mut answers: Vec<(u16, Vec<u8>, Option<(u32, u8)>)> = Vec::new();
    let mut open: BTreeMap<u16, ResponseDecoder> = BTreeMap::new();
    let mut talking = None;
    while !said.is_empty() {
        let header: [u8; 8] = *said.first_chunk().expect("a whole header");
        assert_eq!(header[7], 0, "a reserved byte");
        let header = Header::parse(header).expect("version 1");
        let end = 8 + usize::from(header.content) + usize::from(header.padding);
        let record = said.get(..end).expect("a whole record");
        assert!(record[8 + usize::from(header.content)..].iter().all(|byte| *byte == 0), "padding");
        said = &said[end..];
        match header.kind {
            kind::GET_VALUES_RESULT | kind::UNKNOWN_TYPE => assert_eq!(header.id, 0),
            kind::STDOUT | kind::STDERR | kind::END_REQUEST => {
                assert_ne!(header.id, 0);
                let is_refusal = header.kind == kind::END_REQUEST && record[12] == 1;
                assert!(is_refusal || talking.is_none_or(|id| id == header.id), "two answers at a time");
                let decoder = open.entry(header.id).or_insert_with(|| {
                    let mut decoder = ResponseDecoder::new(header.id);
                    decoder.begin();
                    decoder
                });
                if !is_refusal && talking.is_none() {
                    talking = Some(header.id);
                    answers.push((header.id, Vec::new(), None));
                }
                let mut rest = record;
                while let Some(answer) = decoder.next(&mut rest).expect("an answer") {
                    match (answer, answers.last_mut()) {
                        (Answer::Stdout(bytes), Some(last)) => last.1.extend_from_slice(bytes),
                        (Answer::End { app_status, protocol_status }, last) => {
                            assert!(rest.iter().all(|byte| *byte == 0), "after END");
                            if let (false, Some(last)) = (is_refusal, last) {
                                last.2 = Some((app_status, protocol_status));
                                talking = None;
                            }
                            open.remove(&header.id);
                            break;
                        }
                        _ => {}
                    }
                }
            }
            other => panic!("a worker says {other}"),
        }
    }
    for (_, out, end) in &answers {
        let is_answered = end.is_some_and(|(_, protocol)| protocol == 0);
        // An aborted request's answer may be empty.
        if is_answered && !out.is_empty() {
            assert!(steadfast_front::fuzzing::head(out, 7).is_some(), "{:?}", String::from_utf8_lossy(out));
        }
    }
    answers
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, data)) = data.split_first() else { return };
    let wire = records(data);
    if wire.len() > 16_000 {
        return;
    }
    let mut desk = Desk::new(LIMITS, AfterPanic::GoOn);
    let (is_echo, cut) = (cut & 1 == 1, usize::from(cut >> 1));
    let (whole, has_length) = serve(&mut desk, &wire, wire.len(), is_echo);
    let whole = judge(&whole);
    // The same desk: nothing of the connection before is left.
    let (pieces, _) = serve(&mut desk, &wire, cut, is_echo);
    let pieces = judge(&pieces);
    if is_echo && !has_length {
        assert_eq!(whole, pieces, "the cut means something");
    }
    if is_echo {
        let (fresh, _) = serve(&mut Desk::new(LIMITS, AfterPanic::GoOn), &wire, wire.len(), true);
        assert_eq!(judge(&fresh), whole, "something was left of the connection before");
    }
});
