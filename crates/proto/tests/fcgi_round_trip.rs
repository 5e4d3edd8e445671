//! What the encoder writes, the decoders read, however it is cut; and what anybody writes makes no decoder panic.

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use steadfast_proto::fcgi::params::{pair_len, pairs, push_pair};
use steadfast_proto::fcgi::record::{CHUNK_MAX, Header, kind, role, status};
use steadfast_proto::fcgi::request::{Limits, RequestDecoder};
use steadfast_proto::fcgi::response::ResponseDecoder;
use steadfast_proto::fcgi::values::{Asked, Values};
use steadfast_proto::fcgi::{Error, encode};
use support::{Seen, Told, cut, expecting, feed, hear, hear_well, read_well, record, records};

type Pair = (Vec<u8>, Vec<u8>);

fn stream_of(pairs: &[Pair]) -> Vec<u8> {
    let mut stream = Vec::new();
    for (name, value) in pairs {
        let before = stream.len();
        push_pair(&mut stream, name, value).expect("short enough");
        assert_eq!(stream.len() - before, pair_len(name, value));
    }
    stream
}

fn request(id: u16, keep: bool, params: &[u8], body: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    encode::begin_request(&mut wire, id, role::RESPONDER, keep);
    encode::params(&mut wire, id, params).expect("pairs that fit");
    encode::stream(&mut wire, kind::STDIN, id, body);
    encode::stream_end(&mut wire, kind::STDIN, id);
    wire
}

fn seen(id: u16, keep: bool, params: &[u8], body: &[u8]) -> Vec<Seen> {
    let mut seen = vec![Seen::Begin(id, role::RESPONDER, keep)];
    if !params.is_empty() {
        seen.push(Seen::Params(id, params.to_vec()));
    }
    seen.push(Seen::ParamsEnd(id));
    if !body.is_empty() {
        seen.push(Seen::Stdin(id, body.to_vec()));
    }
    seen.push(Seen::StdinEnd(id));
    seen
}

/// Bytes that look like records: bodies that want to be read as headers.
fn forged() -> impl Strategy<Value = Vec<u8>> {
    let record = (0..=12u8, prop_oneof![Just(0u16), Just(1), any::<u16>()], vec(any::<u8>(), 0..40), any::<u8>())
        .prop_map(|(kind, id, content, padding)| record(kind, id, &content, padding));
    vec(prop_oneof![3 => record, 1 => vec(any::<u8>(), 0..20)], 0..12).prop_map(|parts| parts.concat())
}

/// Forged bytes at every distance to the lengths where records end.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![4 => 0..300usize, 1 => CHUNK_MAX - 20..CHUNK_MAX + 40, 1 => 131_000..131_200usize];
    (forged(), length).prop_map(|(forged, length)| forged.iter().copied().cycle().chain([0; 8]).take(length).collect())
}

fn some_pairs() -> impl Strategy<Value = Vec<Pair>> {
    let part = || prop_oneof![4 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 120..140)];
    vec((part(), part()), 0..30)
}

proptest! {
    #[test]
    fn a_header_is_read_as_it_was_written(kind: u8, id: u16, content: u16, padding: u8) {
        let header = Header { kind, id, content, padding };
        prop_assert_eq!(Header::parse(header.encode()), Ok(header));
    }

    #[test]
    fn pairs_are_read_as_they_were_written(written in some_pairs()) {
        let stream = stream_of(&written);
        let read: Result<Vec<Pair>, Error> =
            pairs(&stream).map(|pair| pair.map(|(name, value)| (name.to_vec(), value.to_vec()))).collect();
        prop_assert_eq!(read, Ok(written));
    }

    #[test]
    fn a_stream_of_pairs_that_is_cut_is_never_read_whole(written in some_pairs(), at in any::<prop::sample::Index>()) {
        let stream = stream_of(&written);
        prop_assume!(!stream.is_empty());
        let cut = &stream[..at.index(stream.len())];
        let whole = pairs(cut).all(|pair| pair.is_ok());
        let mut end = 0;
        let mut ends = vec![0];
        for (name, value) in &written {
            end += pair_len(name, value);
            ends.push(end);
        }
        prop_assert_eq!(whole, ends.contains(&cut.len()));
    }

    #[test]
    fn pairs_of_anything_do_not_panic_and_stay_inside(bytes in vec(any::<u8>(), 0..200)) {
        let mut read = 0;
        for (name, value) in pairs(&bytes).map_while(Result::ok) {
            read += 2 + name.len() + value.len();
        }
        prop_assert!(read <= bytes.len());
        prop_assert!(pairs(&bytes).skip_while(Result::is_ok).count() <= 1, "nothing comes after an error");
    }

    #[test]
    fn a_request_is_read_as_it_was_written(
        id in 1..=u16::MAX, keep: bool, written in some_pairs(), body in body(), lengths in vec(1..5000usize, 1..6),
    ) {
        let params = stream_of(&written);
        let wire = request(id, keep, &params, &body);
        records(&wire);
        let mut decoder = RequestDecoder::new(Limits::default());
        let (events, result) = feed(&mut decoder, cut(&wire, &lengths));
        prop_assert_eq!(result, Ok(()));
        prop_assert!(events == seen(id, keep, &params, &body), "bodies are bytes, whatever they look like");
        prop_assert!(!decoder.is_idle());
        decoder.end(id);
        prop_assert!(decoder.is_idle());
    }

    #[test]
    fn an_answer_is_read_as_it_was_written(
        out in body(), err in body(), app_status: u32, protocol_status: u8, lengths in vec(1..5000usize, 1..6),
    ) {
        let mut wire = Vec::new();
        encode::stream(&mut wire, kind::STDERR, 1, &err);
        encode::stream(&mut wire, kind::STDOUT, 1, &out);
        encode::stream_end(&mut wire, kind::STDOUT, 1);
        encode::end_request(&mut wire, 1, app_status, protocol_status);
        records(&wire);
        let mut decoder = expecting();
        let (told, result) = hear(&mut decoder, cut(&wire, &lengths));
        prop_assert_eq!(result, Ok(()));
        let mut expected = Vec::new();
        if !err.is_empty() {
            expected.push(Told::Stderr(err));
        }
        if !out.is_empty() {
            expected.push(Told::Stdout(out));
        }
        expected.extend([Told::StdoutEnd, Told::End(app_status, protocol_status)]);
        prop_assert!(told == expected);
        prop_assert!(decoder.is_idle());
    }

    #[test]
    fn a_stream_keeps_within_what_every_peer_takes(body in body(), kind in 4..=8u8, id: u16) {
        let mut wire = Vec::new();
        encode::stream(&mut wire, kind, id, &body);
        let records = records(&wire);
        prop_assert!(records.iter().all(|record| (record.0, record.1) == (kind, id) && !record.2.is_empty()));
        prop_assert!(records.iter().flat_map(|record| &record.2).copied().eq(body.iter().copied()));
    }

    #[test]
    fn any_bytes_make_no_request_decoder_panic_or_grow(
        wire in prop_oneof![forged(), vec(any::<u8>(), 0..400)], lengths in vec(1..60usize, 1..6), ends in vec(0..4u16, 0..4),
    ) {
        let limits = Limits { requests: 3, params: 100, records: 20, management: 50 };
        let mut decoder = RequestDecoder::new(limits);
        let mut whole = RequestDecoder::new(limits);
        let (seen, result) = feed(&mut decoder, cut(&wire, &lengths));
        prop_assert_eq!((&seen, result), {
            let (seen, result) = feed(&mut whole, [wire.as_slice()]);
            (&seen.clone(), result)
        });
        prop_assert!(decoder.memory() <= 16 * 4 + 128, "{} bytes", decoder.memory());
        prop_assert!(decoder.active() <= 3);
        for id in ends {
            decoder.end(id);
        }
        let (_, _) = feed(&mut decoder, cut(&wire, &lengths));
        prop_assert!(decoder.memory() <= 16 * 4 + 128, "{} bytes", decoder.memory());
    }

    #[test]
    fn any_bytes_make_no_response_decoder_panic_or_grow(
        wire in prop_oneof![forged(), vec(any::<u8>(), 0..400)], lengths in vec(1..60usize, 1..6), begun: bool, asked: bool,
    ) {
        let mut decoder = ResponseDecoder::new(1);
        if begun {
            decoder.begin();
        }
        if asked {
            decoder.ask();
        }
        let mut whole = decoder.clone();
        let (told, result) = hear(&mut decoder, cut(&wire, &lengths));
        prop_assert_eq!((told, result), hear(&mut whole, [wire.as_slice()]));
        prop_assert!(decoder.memory() <= 8192, "{} bytes", decoder.memory());
    }
}

#[test]
fn every_length_that_a_record_can_have_is_written() {
    for content in 0..=u16::MAX {
        let header = Header { kind: kind::STDIN, id: 0x1234, content, padding: 0 };
        assert_eq!(Header::parse(encode::header(kind::STDIN, 0x1234, content)), Ok(header));
    }
}

#[test]
fn a_request_cut_at_every_place() {
    let params = stream_of(&[(b"A".to_vec(), vec![b'x'; 200]), (b"B".to_vec(), b"2".to_vec())]);
    let wire = request(1, true, &params, b"body");
    let expected = seen(1, true, &params, b"body");
    for at in 0..=wire.len() {
        let (first, second) = wire.split_at(at);
        let (events, result) = feed(&mut RequestDecoder::new(Limits::default()), [first, second]);
        assert_eq!((events, result), (expected.clone(), Ok(())), "cut at {at}");
    }
    assert_eq!(read_well(&wire), expected);
}

#[test]
fn an_answer_cut_at_every_place() {
    let mut wire = record(kind::STDOUT, 1, b"Status: 200\r\n\r\nhello", 7);
    wire.extend(record(kind::STDERR, 1, b"hm", 255));
    wire.extend(record(kind::STDERR, 1, b"", 3));
    wire.extend(record(kind::STDOUT, 1, b"", 9));
    wire.extend(record(kind::END_REQUEST, 1, &[0, 0, 1, 0, 2, 9, 9, 9], 8));
    let expected = hear_well(&wire);
    for at in 0..=wire.len() {
        let (first, second) = wire.split_at(at);
        let mut decoder = expecting();
        let (told, result) = hear(&mut decoder, [first, second]);
        assert_eq!((told, result), (expected.clone(), Ok(())), "cut at {at}");
        assert!(decoder.is_idle());
    }
    let stdout = Told::Stdout(b"Status: 200\r\n\r\nhello".to_vec());
    let stderr = Told::Stderr(b"hm".to_vec());
    assert_eq!(expected, [stdout, stderr, Told::StderrEnd, Told::StdoutEnd, Told::End(256, status::OVERLOADED)]);
}

#[test]
fn an_answer_is_not_over_before_its_padding_is() {
    let mut wire = record(kind::END_REQUEST, 1, &[0; 8], 8);
    let padding = wire.split_off(16);
    let mut decoder = expecting();
    assert_eq!(hear(&mut decoder, [wire.as_slice()]), (vec![Told::End(0, 0)], Ok(())));
    assert!(!decoder.is_idle());
    assert_eq!(hear(&mut decoder, [&padding[..7]]), (vec![], Ok(())));
    assert!(!decoder.is_idle());
    assert_eq!(hear(&mut decoder, [&padding[7..]]), (vec![], Ok(())));
    assert!(decoder.is_idle());
}

#[test]
fn params_hold_whole_pairs_in_each_record() {
    let big = vec![b'v'; 40_000];
    let written: Vec<Pair> = (0..5).map(|n| (vec![b'N', n], big.clone())).collect();
    let stream = stream_of(&written);
    let mut wire = Vec::new();
    encode::params(&mut wire, 7, &stream).expect("fits");
    let records = records(&wire);
    assert_eq!(records.len(), 6, "one pair each, and the end");
    for (kind, id, content) in &records {
        assert_eq!((*kind, *id), (kind::PARAMS, 7));
        assert!(pairs(content).all(|pair| pair.is_ok()));
    }
    assert!(records.iter().flat_map(|record| &record.2).eq(&stream));
    assert!(records.last().is_some_and(|record| record.2.is_empty()));
}

#[test]
fn params_fill_a_record_to_the_last_byte_and_no_further() {
    for extra in 0..3 {
        // 4 + 1 of lengths, a name of 1: one pair of exactly CHUNK_MAX bytes, then 0, 1 or 2 small ones.
        let mut written = vec![(b"N".to_vec(), vec![b'v'; CHUNK_MAX - 6])];
        written.extend(vec![(Vec::new(), Vec::new()); extra]);
        let stream = stream_of(&written);
        let mut wire = Vec::new();
        encode::params(&mut wire, 1, &stream).expect("fits");
        let contents: Vec<usize> = records(&wire).iter().map(|record| record.2.len()).collect();
        let expected = if extra == 0 { vec![CHUNK_MAX, 0] } else { vec![CHUNK_MAX, 2 * extra, 0] };
        assert_eq!(contents, expected);
    }
}

#[test]
fn a_pair_that_fits_in_no_record_is_refused_and_nothing_is_written() {
    let mut stream = stream_of(&[(b"a".to_vec(), b"b".to_vec())]);
    push_pair(&mut stream, b"COOKIE", &vec![b'c'; CHUNK_MAX]).expect("a pair in itself");
    let mut wire = b"before".to_vec();
    let length = pair_len(b"COOKIE", &vec![b'c'; CHUNK_MAX]);
    assert_eq!(encode::params(&mut wire, 1, &stream), Err(Error::PairTooLong { length, limit: CHUNK_MAX }));
    assert_eq!(wire, b"before");
    stream.truncate(stream.len() - 1);
    assert_eq!(encode::params(&mut wire, 1, &stream), Err(Error::PairCut));
    assert_eq!(wire, b"before");
}

#[test]
fn the_variables_are_asked_and_told() {
    let mut wire = Vec::new();
    encode::get_values(&mut wire, Asked::ALL);
    records(&wire);
    assert_eq!(read_well(&wire), [Seen::GetValues(Asked::ALL)]);

    let all = Values { max_conns: Some(u32::MAX), max_reqs: Some(0), mpxs_conns: Some(true) };
    for (asked, expected) in [
        (Asked::ALL, all),
        (Asked { max_reqs: true, ..Asked::default() }, Values { max_reqs: Some(0), ..Values::default() }),
        (Asked::default(), Values::default()),
    ] {
        let mut wire = Vec::new();
        encode::get_values_result(&mut wire, all.of(asked));
        records(&wire);
        for size in [1, 7, wire.len()] {
            let mut decoder = ResponseDecoder::new(1);
            decoder.ask();
            assert!(!decoder.is_idle());
            assert_eq!(hear(&mut decoder, wire.chunks(size)), (vec![Told::Values(expected)], Ok(())));
            assert!(decoder.is_idle());
        }
    }

    let mut wire = Vec::new();
    encode::unknown_type(&mut wire, 99);
    assert_eq!(records(&wire), [(kind::UNKNOWN_TYPE, 0, vec![99, 0, 0, 0, 0, 0, 0, 0])]);
    let mut decoder = ResponseDecoder::new(1);
    decoder.ask();
    assert_eq!(hear(&mut decoder, wire.chunks(3)), (vec![Told::UnknownType(99)], Ok(())));
}

#[test]
fn the_discrete_records_are_as_the_specification_draws_them() {
    let mut wire = Vec::new();
    encode::begin_request(&mut wire, 0x0102, role::FILTER, true);
    encode::abort(&mut wire, 0x0102);
    encode::end_request(&mut wire, 0x0102, 0x0304_0506, status::UNKNOWN_ROLE);
    assert_eq!(
        records(&wire),
        [(1, 0x0102, vec![0, 3, 1, 0, 0, 0, 0, 0]), (2, 0x0102, vec![]), (3, 0x0102, vec![3, 4, 5, 6, 3, 0, 0, 0]),]
    );
}
