//! Name-value pairs: any bytes are pairs or an error, what was read is written shorter or as long, and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::params::{pair_len, pairs, push_pair};
use steadfast_proto::fcgi::record::{HEADER, Header};
use steadfast_proto::fcgi::request::{Event, Limits, RequestDecoder};

fuzz_target!(|data: &[u8]| {
    let mut again = Vec::new();
    let mut length = 0;
    let mut is_whole = true;
    for pair in pairs(data) {
        let Ok((name, value)) = pair else {
            is_whole = false;
            continue;
        };
        assert!(is_whole, "after an error nothing comes");
        push_pair(&mut again, name, value).expect("shorter than the wire");
        length += pair_len(name, value);
    }
    assert_eq!(again.len(), length);
    assert!(again.len() <= data.len());
    assert!(pairs(&again).all(|pair| pair.is_ok()));
    let mut wire = Vec::new();
    encode::begin_request(&mut wire, 1, 1, true);
    let begun = wire.len();
    if encode::params(&mut wire, 1, &again).is_err() {
        assert_eq!(wire.len(), begun, "nothing was written");
        return;
    }
    let mut decoder = RequestDecoder::new(Limits { params: usize::MAX, ..Limits::default() });
    let (mut input, mut heard) = (wire.as_slice(), Vec::new());
    while let Some(event) = decoder.next(&mut input).expect("valid") {
        if let Event::Params { bytes, .. } = event {
            heard.extend_from_slice(bytes);
        }
    }
    assert!(heard == again);
    // Each record holds whole pairs.
    let mut rest = &wire[begun..];
    while let Some(header) = rest.first_chunk::<HEADER>() {
        let header = Header::parse(*header).expect("ours");
        let end = HEADER + usize::from(header.content);
        assert!(pairs(&rest[HEADER..end]).all(|pair| pair.is_ok()));
        rest = &rest[end + usize::from(header.padding)..];
    }
});
