//! The channel between supervisor and front, both directions: a packet is a message or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steadfast_proto::front::{FromFront, ToFront, decode, encode};

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = decode::<FromFront>(data)
        && let Ok(packet) = encode(&message)
    {
        assert_eq!(decode::<FromFront>(&packet), Ok(message));
    }
    if let Ok(message) = decode::<ToFront>(data)
        && let Ok(packet) = encode(&message)
    {
        assert_eq!(decode::<ToFront>(&packet), Ok(message));
    }
});
