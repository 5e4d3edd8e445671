//! The control socket: requests of anybody who may connect, answers of whoever listens there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steadfast_proto::control::{decode_answer, decode_request, encode_answer, encode_request};
use steadfast_proto::lines::{LINE_MAX, Lines};

fuzz_target!(|data: &[u8]| {
    let mut lines = Lines::new(LINE_MAX);
    let mut input = data;
    while let Some(line) = lines.next(&mut input) {
        let Ok(line) = line else { continue };
        match decode_request(line) {
            Ok(request) => {
                let again = encode_request(&request);
                assert_eq!(decode_request(again.trim_ascii()).expect("what we say we understand"), request);
            }
            Err(refusal) => {
                assert!(!refusal.message.is_empty() && !refusal.message.chars().any(char::is_control), "{refusal:?}")
            }
        }
        if let Ok(answer) = decode_answer(line) {
            let again = encode_answer(&answer);
            // A number may lose its last digits once, and not twice.
            let read = decode_answer(again.trim_ascii()).expect("what we say we understand");
            assert_eq!(encode_answer(&read), again);
        }
    }
});
