//! A worker's connection: any bytes, cut anywhere. Answers come in order, memory is bounded, the cut means nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steadfast_proto::fcgi::Error;
use steadfast_proto::fcgi::response::{Answer, ResponseDecoder};

#[derive(Debug, Default, PartialEq)]
struct Heard {
    answers: Vec<(u8, Vec<u8>)>,
    error: Option<Error>,
}

fn listen(wire: &[u8], cut: usize, ask: bool) -> Heard {
    let mut decoder = ResponseDecoder::new(1);
    let mut heard = Heard::default();
    let (mut open, mut asked, mut out_ended, mut err_ended) = (true, ask, false, false);
    decoder.begin();
    if ask {
        decoder.ask();
    }
    for piece in wire.chunks(cut.max(1)) {
        let mut input = piece;
        loop {
            let answer = match decoder.next(&mut input) {
                Ok(Some(answer)) => answer,
                Ok(None) => {
                    assert!(input.is_empty());
                    break;
                }
                Err(error) => {
                    assert_eq!(decoder.next(&mut input), Err(error));
                    assert!(!decoder.is_idle());
                    heard.error = Some(error);
                    return heard;
                }
            };
            assert!(decoder.memory() <= 8192);
            let (number, bytes) = match answer {
                Answer::Stdout(bytes) => {
                    assert!(open && !out_ended && !bytes.is_empty());
                    (1, bytes.to_vec())
                }
                Answer::Stderr(bytes) => {
                    assert!(open && !err_ended && !bytes.is_empty());
                    (2, bytes.to_vec())
                }
                Answer::StdoutEnd => {
                    assert!(open && !out_ended);
                    out_ended = true;
                    (3, vec![])
                }
                Answer::StderrEnd => {
                    assert!(open && !err_ended);
                    err_ended = true;
                    (4, vec![])
                }
                Answer::End { app_status, protocol_status } => {
                    assert!(open);
                    assert!(!decoder.is_idle() || !asked);
                    // A kept connection: the next request.
                    decoder.begin();
                    (open, out_ended, err_ended) = (true, false, false);
                    (5, [&app_status.to_be_bytes()[..], &[protocol_status]].concat())
                }
                Answer::Values(values) => {
                    assert!(asked);
                    asked = false;
                    (6, format!("{values:?}").into_bytes())
                }
                Answer::UnknownType { kind } => {
                    assert!(asked);
                    asked = false;
                    (7, vec![kind])
                }
            };
            match heard.answers.last_mut() {
                Some((same, have)) if number <= 2 && *same == number => have.extend(bytes),
                _ => heard.answers.push((number, bytes)),
            }
        }
    }
    heard
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, wire)) = data.split_first() else { return };
    let ask = cut & 0x80 != 0;
    assert_eq!(listen(wire, wire.len(), ask), listen(wire, usize::from(cut & 0x7f), ask));
});
