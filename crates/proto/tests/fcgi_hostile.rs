//! What has gone wrong in other implementations, each under its name: hostile web servers and hostile workers.

mod support;

use steadfast_proto::fcgi::params::pairs;
use steadfast_proto::fcgi::record::{CHUNK_MAX, kind, role};
use steadfast_proto::fcgi::request::{Limits, RequestDecoder};
use steadfast_proto::fcgi::response::ResponseDecoder;
use steadfast_proto::fcgi::values::{Asked, Values};
use steadfast_proto::fcgi::{Error, encode};
use support::{
    Seen, Told, begin, feed, hear, hear_badly, hear_well, long, pair, read_badly, read_well, record, records,
};

const STREAMS: [u8; 5] = [kind::PARAMS, kind::STDIN, kind::STDOUT, kind::STDERR, kind::DATA];

fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

/// A request without params, up to the given point.
fn begun(more: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = begin(1, true);
    wire.extend(more.concat());
    wire
}

fn params_end() -> Vec<u8> {
    record(kind::PARAMS, 1, b"", 0)
}

fn stdin_end() -> Vec<u8> {
    record(kind::STDIN, 1, b"", 0)
}

#[test]
fn cve_2025_23016_lengths_that_overflow() {
    for (name, value) in [
        (0x7fff_ffffu32, 0x7fff_ffffu32),
        (0x7fff_ffff, 0),
        (0, 0x7fff_ffff),
        (0x7fff_fffe, 3),
        (0x0100_0001, 1),
        (1, 0x4000_0001),
    ] {
        let mut stream = (name | 0x8000_0000).to_be_bytes().to_vec();
        stream.extend((value | 0x8000_0000).to_be_bytes());
        stream.extend([b'x'; 64]);
        assert_eq!(pairs(&stream).collect::<Vec<_>>(), [Err(Error::PairCut)]);
        assert_eq!(read_badly(&record(kind::GET_VALUES, 0, &stream, 0)), Error::PairCut);
    }
}

/// libfcgi sized its answer for three names and wrote twenty.
#[test]
fn libfcgi_get_values_repeated_names() {
    let name = pair(b"FCGI_MAX_CONNS", b"");
    let content = joined(&vec![name; 20]);
    let asked = Asked { max_conns: true, ..Asked::default() };
    assert_eq!(read_well(&record(kind::GET_VALUES, 0, &content, 0)), [Seen::GetValues(asked)]);
    let mut answer = Vec::new();
    let values = Values { max_conns: Some(8), max_reqs: Some(8), mpxs_conns: Some(false) };
    encode::get_values_result(&mut answer, values.of(asked));
    assert_eq!(records(&answer)[0].2, pair(b"FCGI_MAX_CONNS", b"8"));
}

#[test]
fn get_values_unknown_names_long_lengths_and_nothing_at_all() {
    let mut four = long(13).to_vec();
    four.extend(long(2));
    four.extend(b"FCGI_MAX_REQS42");
    let content = joined(&[pair(b"FCGI_NO_SUCH", b""), four, pair(b"", b""), pair(b"fcgi_max_conns", b"")]);
    let asked = Asked { max_reqs: true, ..Asked::default() };
    assert_eq!(read_well(&record(kind::GET_VALUES, 0, &content, 5)), [Seen::GetValues(asked)]);
    assert_eq!(read_well(&record(kind::GET_VALUES, 0, b"", 0)), [Seen::GetValues(Asked::default())]);
    let none = [Seen::GetValues(Asked::default())];
    assert_eq!(read_well(&record(kind::GET_VALUES, 0, &pair(b"FCGI_WHAT", b""), 1)), none);
}

#[test]
fn haproxy_96286b2a8_forged_get_values_result() {
    let told = |content: &[u8]| {
        let mut decoder = ResponseDecoder::new(1);
        decoder.ask();
        hear(&mut decoder, [record(kind::GET_VALUES_RESULT, 0, content, 3).as_slice()])
    };
    let good = pair(b"FCGI_MAX_CONNS", b"5");
    for at in 1..good.len() {
        assert_eq!(told(&good[..at]), (vec![], Err(Error::PairCut)), "cut at {at}");
    }
    let mut over = long(14).to_vec();
    over.extend(long(0x7fff_ffff));
    over.extend(b"FCGI_MAX_CONNS5");
    assert_eq!(told(&over).1, Err(Error::PairCut));
    // The second pair is wrong: an offset that is lost would read the first again.
    assert_eq!(told(&joined(&[good.clone(), vec![14, 200, b'F']])).1, Err(Error::PairCut));
    // Numbers that are none.
    for value in [b"".as_slice(), b"+5", b"-1", b"4294967296", b"99999999999999999999", b"5 ", b"\xff", b"0x5"] {
        let wire = pair(b"FCGI_MAX_CONNS", value);
        assert_eq!(told(&wire), (vec![Told::Values(Values::default())], Ok(())), "{value:?}");
    }
    // More than anybody needs.
    let content = vec![0; 5000];
    let too_long = Error::ManagementTooLong { kind: kind::GET_VALUES_RESULT, content: 5000 };
    assert_eq!(told(&content), (vec![], Err(too_long)));
}

/// A body longer than a record was sent with a length of 16 bits; what stood at the cut was read as records.
#[test]
fn haproxy_0aeae2305_content_longer_than_a_record() {
    let mut forged = begin(1, true);
    forged.extend(record(kind::PARAMS, 1, &pair(b"PHP_VALUE", b"auto_prepend_file=php://input"), 0));
    for length in [65_535, 65_536, 65_537, 65_536 + forged.len(), 200_000] {
        // The forged records at every distance that truncation could bring to the front.
        let body: Vec<u8> = forged.iter().copied().cycle().take(length).collect();
        let mut wire = begun(&[params_end()]);
        encode::stream(&mut wire, kind::STDIN, 1, &body);
        encode::stream_end(&mut wire, kind::STDIN, 1);
        let seen = read_well(&wire);
        let begin = Seen::Begin(1, role::RESPONDER, true);
        assert!(seen == [begin, Seen::ParamsEnd(1), Seen::Stdin(1, body), Seen::StdinEnd(1)], "{length}");
    }
}

/// `u16` content + padding wrapped to 0: the record's content was read as the next headers.
#[test]
fn haproxy_598527673_padding_wraps() {
    let content: Vec<u8> = begin(1, true).into_iter().cycle().take(65_535).collect();
    for padding in [1, 255] {
        let mut wire = begin(1, true);
        wire.extend(record(kind::PARAMS, 1, &content, padding));
        wire.extend(record(kind::PARAMS, 1, b"", padding));
        wire.extend(record(kind::STDIN, 1, &content, padding));
        wire.extend(record(kind::STDIN, 1, b"", padding));
        wire.extend(record(kind::STDIN, 7, &content, padding));
        wire.extend(record(kind::GET_VALUES, 0, b"", padding));
        let expected = [
            Seen::Begin(1, role::RESPONDER, true),
            Seen::Params(1, content.clone()),
            Seen::ParamsEnd(1),
            Seen::Stdin(1, content.clone()),
            Seen::StdinEnd(1),
            Seen::GetValues(Asked::default()),
        ];
        assert!(read_well(&wire) == expected);

        let mut wire = record(kind::STDERR, 1, &content, padding);
        wire.extend(record(kind::STDOUT, 1, &content, padding));
        wire.extend(record(kind::END_REQUEST, 1, &[0; 8], padding));
        let expected = [Told::Stderr(content.clone()), Told::Stdout(content.clone()), Told::End(0, 0)];
        assert!(hear_well(&wire) == expected);
    }
    // What is too long for a kind is refused by its own length, not by the wrapped sum.
    for kind in [kind::BEGIN_REQUEST, kind::ABORT_REQUEST] {
        let refused = Error::BodyLength { kind, content: 65_535 };
        assert_eq!(read_badly(&record(kind, 1, &content, 1)), refused);
    }
    for kind in [kind::GET_VALUES, 12] {
        let refused = Error::ManagementTooLong { kind, content: 65_535 };
        assert_eq!(read_badly(&record(kind, 0, &content, 1)), refused);
    }
    for kind in [kind::GET_VALUES, 12] {
        let limit = usize::from(Limits::default().management);
        assert_eq!(read_well(&record(kind, 0, &vec![0; limit], 1)).len(), 1);
        let refused = Error::ManagementTooLong { kind, content: limit as u16 + 1 };
        assert_eq!(read_badly(&record(kind, 0, &vec![0; limit + 1], 1)), refused);
    }
    let refused = Error::BodyLength { kind: kind::END_REQUEST, content: 65_535 };
    assert_eq!(hear_badly(&record(kind::END_REQUEST, 1, &content, 255)), refused);
}

#[test]
fn haproxy_3ac082b2b_id_zero_and_management_with_an_id() {
    for kind in 1..=8 {
        assert_eq!(read_badly(&record(kind, 0, &[0; 8], 0)), Error::NoRequest { kind });
        let mut with_one_living = begin(1, true);
        with_one_living.extend(record(kind, 0, &[], 0));
        assert_eq!(read_badly(&with_one_living), Error::NoRequest { kind });
    }
    for kind in [0, 9, 10, 11, 12, 255] {
        assert_eq!(read_badly(&record(kind, 1, &[0; 8], 0)), Error::ManagementId { kind, id: 1 });
        assert_eq!(read_badly(&begun(&[record(kind, 1, &[], 0)])), Error::ManagementId { kind, id: 1 });
    }
    for kind in [kind::STDOUT, kind::STDERR, kind::END_REQUEST] {
        assert_eq!(hear_badly(&record(kind, 0, &[0; 8], 0)), Error::NoRequest { kind });
    }
    for kind in [kind::GET_VALUES_RESULT, kind::UNKNOWN_TYPE] {
        assert_eq!(hear_badly(&record(kind, 1, &[0; 8], 0)), Error::ManagementId { kind, id: 1 });
        assert_eq!(hear_badly(&record(kind, 0, &[0; 8], 0)), Error::UnexpectedKind { kind }, "nobody asked");
    }
}

#[test]
fn cve_2023_0836_reserved_bytes_and_padding_are_zero() {
    // A buffer that was used before must not shine through.
    let mut wire = vec![0xff; 4096];
    wire.clear();
    encode::begin_request(&mut wire, 1, role::RESPONDER, true);
    encode::params(&mut wire, 1, &pair(b"A", b"1")).expect("fits");
    for kind in STREAMS {
        for length in [1, 7, 8, 9, 65_535] {
            encode::stream(&mut wire, kind, 1, &vec![0xee; length]);
        }
        encode::stream_end(&mut wire, kind, 1);
    }
    encode::abort(&mut wire, 1);
    encode::end_request(&mut wire, 1, u32::MAX, 255);
    encode::get_values(&mut wire, Asked::ALL);
    encode::get_values_result(&mut wire, Values { max_conns: Some(1), ..Values::default() });
    encode::unknown_type(&mut wire, 255);
    let records = records(&wire);
    let bodies: Vec<&Vec<u8>> =
        records.iter().filter(|record| matches!(record.0, 1 | 3 | 11)).map(|record| &record.2).collect();
    assert_eq!(bodies, [&[0, 1, 1, 0, 0, 0, 0, 0], &[255, 255, 255, 255, 255, 0, 0, 0], &[255, 0, 0, 0, 0, 0, 0, 0]]);
}

/// Go read 50 bytes of a name that had 8 (#11824); on 32 bits the sum of the two overflowed (#81293).
#[test]
fn go_11824_and_81293_lengths_beyond_the_stream() {
    let stream = [50, 50, 3, 4, 5, 6, 7, 8, 9, 10];
    let wire = begun(&[record(kind::PARAMS, 1, &stream, 0), params_end()]);
    let begin = Seen::Begin(1, role::RESPONDER, true);
    assert_eq!(read_well(&wire), [begin, Seen::Params(1, stream.to_vec()), Seen::ParamsEnd(1)]);
    assert_eq!(pairs(&stream).collect::<Vec<_>>(), [Err(Error::PairCut)]);
    for stream in [
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
        &[0xff, 0xff, 0xff, 0xff, 1, b'a', b'b'],
        &[1, 0xff, 0xff, 0xff, 0xff, b'a', b'b'],
        &[0x80, 0, 0, 2, 0xff, 0xff, 0xff, 0xfe, b'a', b'b'],
        // Lengths that are themselves cut.
        &[0x80],
        &[0x80, 0, 0],
        &[1],
        &[1, 0x80, 0, 0],
        &[1, 0],
    ] {
        assert_eq!(pairs(stream).collect::<Vec<_>>(), [Err(Error::PairCut)], "{stream:?}");
    }
}

/// lighttpd's block of params overflowed beyond 64 KiB.
#[test]
fn cve_2007_4727_params_beyond_a_record_and_beyond_the_limit() {
    let content = vec![b'x'; 65_535];
    let limits = Limits { params: 3 * 65_535, ..Limits::default() };
    let piece = record(kind::PARAMS, 1, &content, 0);
    let within = begun(&[piece.clone(), piece.clone(), piece.clone(), params_end()]);
    let (seen, result) = feed(&mut RequestDecoder::new(limits), [within.as_slice()]);
    assert_eq!(result, Ok(()));
    let expected = [Seen::Begin(1, 1, true), Seen::Params(1, content.repeat(3)), Seen::ParamsEnd(1)];
    assert!(seen == expected, "three records are within the limit");

    // One byte more: the request is refused as a whole, nothing is cut, and the connection goes on.
    let mut decoder = RequestDecoder::new(limits);
    let one_more = record(kind::PARAMS, 1, b"y", 0);
    let abort = record(kind::ABORT_REQUEST, 1, b"", 0);
    let beyond = begun(&[piece.repeat(3), one_more, piece, params_end(), stdin_end(), abort, begin(2, false)]);
    let (seen, result) = feed(&mut decoder, [beyond.as_slice()]);
    assert_eq!(result, Ok(()));
    let begins = (Seen::Begin(1, 1, true), Seen::Begin(2, 1, false));
    assert!(seen == [begins.0, Seen::Params(1, content.repeat(3)), Seen::TooLarge(1), Seen::Abort(1), begins.1]);
    assert_eq!(decoder.active(), 2, "1 lives until it is ended");
    decoder.end(1);
    assert_eq!(decoder.active(), 1);
    let again = begin(1, true);
    assert_eq!(feed(&mut decoder, [again.as_slice()]), (vec![Seen::Begin(1, 1, true)], Ok(())));
}

#[test]
fn another_version() {
    for version in [0, 2, 255, b'G'] {
        let mut wire = begin(1, true);
        wire[0] = version;
        assert_eq!(read_badly(&wire), Error::Version { version });
        let mut wire = record(kind::STDOUT, 1, b"x", 0);
        wire[0] = version;
        assert_eq!(hear_badly(&wire), Error::Version { version });
    }
    assert_eq!(read_badly(b"GET / HTTP/1.1\r\n\r\n"), Error::Version { version: b'G' });
}

#[test]
fn begin_twice_and_begin_of_another_length() {
    assert_eq!(read_badly(&begun(&[begin(1, true)])), Error::AlreadyActive { id: 1 });
    let complete = begun(&[params_end(), stdin_end(), begin(1, true)]);
    assert_eq!(read_badly(&complete), Error::AlreadyActive { id: 1 }, "it lives until it is answered");
    for content in [0u16, 1, 7, 9, 65_535] {
        let wire = record(kind::BEGIN_REQUEST, 1, &vec![0; usize::from(content)], 0);
        assert_eq!(read_badly(&wire), Error::BodyLength { kind: kind::BEGIN_REQUEST, content });
    }
    assert_eq!(
        read_badly(&begun(&[record(kind::ABORT_REQUEST, 1, b"x", 0)])),
        Error::BodyLength { kind: kind::ABORT_REQUEST, content: 1 }
    );
}

#[test]
fn unknown_flags_reserved_bytes_and_roles_are_no_matter_of_ours() {
    let wire = record(kind::BEGIN_REQUEST, 3, &[0xfe, 0xdc, 0xfe, 1, 2, 3, 4, 5], 200);
    assert_eq!(read_well(&wire), [Seen::Begin(3, 0xfedc, false)]);
    let wire = record(kind::BEGIN_REQUEST, 3, &[0, 2, 0xff, 1, 2, 3, 4, 5], 0);
    assert_eq!(read_well(&wire), [Seen::Begin(3, role::AUTHORIZER, true)]);
}

#[test]
fn streams_out_of_order() {
    let x = |kind| record(kind, 1, b"x", 0);
    let empty = |kind| record(kind, 1, b"", 0);
    let early = |kind| Error::TooEarly { kind, id: 1 };
    let late = |kind| Error::AfterEnd { kind, id: 1 };
    assert_eq!(read_badly(&begun(&[x(kind::STDIN)])), early(kind::STDIN));
    assert_eq!(read_badly(&begun(&[empty(kind::STDIN)])), early(kind::STDIN));
    assert_eq!(read_badly(&begun(&[params_end(), x(kind::PARAMS)])), late(kind::PARAMS));
    assert_eq!(read_badly(&begun(&[params_end(), stdin_end(), x(kind::STDIN)])), late(kind::STDIN));
    assert_eq!(read_badly(&begun(&[params_end(), stdin_end(), x(kind::PARAMS)])), late(kind::PARAMS));
    // DATA is for filters.
    let data = Error::UnexpectedKind { kind: kind::DATA };
    assert_eq!(read_badly(&begun(&[params_end(), stdin_end(), x(kind::DATA)])), data);
    let mut filter = record(kind::BEGIN_REQUEST, 1, &[0, 3, 1, 0, 0, 0, 0, 0], 0);
    filter.extend(params_end());
    let mut too_early = filter.clone();
    too_early.extend(x(kind::DATA));
    assert_eq!(read_badly(&too_early), early(kind::DATA));
    filter.extend(joined(&[x(kind::STDIN), stdin_end(), x(kind::DATA), empty(kind::DATA)]));
    assert_eq!(
        read_well(&filter),
        [
            Seen::Begin(1, role::FILTER, true),
            Seen::ParamsEnd(1),
            Seen::Stdin(1, b"x".to_vec()),
            Seen::StdinEnd(1),
            Seen::Data(1, b"x".to_vec()),
            Seen::DataEnd(1),
        ]
    );
    filter.extend(x(kind::DATA));
    assert_eq!(read_badly(&filter), late(kind::DATA));
}

#[test]
fn a_second_empty_record_is_harmless() {
    let wire = begun(&[params_end(), params_end(), stdin_end(), stdin_end(), params_end()]);
    assert_eq!(read_well(&wire), [Seen::Begin(1, 1, true), Seen::ParamsEnd(1), Seen::StdinEnd(1)]);
    let empty = record(kind::STDOUT, 1, b"", 4);
    let wire = joined(&[empty.clone(), empty, record(kind::END_REQUEST, 1, &[0; 8], 0)]);
    assert_eq!(hear_well(&wire), [Told::StdoutEnd, Told::End(0, 0)]);
}

#[test]
fn records_of_ids_that_do_not_live_are_swallowed() {
    let late = joined(&[
        record(kind::STDIN, 1, b"late", 4),
        record(kind::STDIN, 1, b"", 0),
        record(kind::PARAMS, 1, b"late", 0),
        record(kind::DATA, 1, b"late", 0),
        record(kind::ABORT_REQUEST, 1, b"", 255),
    ]);
    assert_eq!(read_well(&late), []);
    // Ended in the middle of a record: its rest goes the same way, and the id is free at once.
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut first = begun(&[params_end()]);
    first.extend(record(kind::STDIN, 1, b"0123456789", 6));
    let second = first.split_off(first.len() - 12);
    let (seen, _) = feed(&mut decoder, [first.as_slice()]);
    assert_eq!(seen.last(), Some(&Seen::Stdin(1, b"0123".to_vec())));
    decoder.end(1);
    assert!(!decoder.is_idle(), "the record is not over");
    assert_eq!(feed(&mut decoder, [&second[..6]]), (vec![], Ok(())));
    assert!(!decoder.is_idle(), "its padding is not over");
    assert_eq!(feed(&mut decoder, [&second[6..], &late]), (vec![], Ok(())));
    assert!(decoder.is_idle());
    let again = begin(1, false);
    assert_eq!(feed(&mut decoder, [again.as_slice()]), (vec![Seen::Begin(1, 1, false)], Ok(())));
}

/// Whether the web server is still sending is known of requests that do not live any more, too.
#[test]
fn what_is_still_to_come_of_a_request_that_was_ended() {
    let limits = Limits { requests: 2, ..Limits::default() };
    let ended = |wire: &[u8]| {
        let mut decoder = RequestDecoder::new(limits);
        assert_eq!(feed(&mut decoder, [wire]).1, Ok(()));
        decoder.end(1);
        decoder
    };
    let end = |id| record(kind::STDIN, id, b"", 0);
    let open = begun(&[params_end(), record(kind::STDIN, 1, b"0123", 4)]);
    assert!(!ended(&[]).is_unread());
    assert!(!ended(&joined(&[open.clone(), end(1)])).is_unread());
    assert!(!ended(&joined(&[open.clone(), record(kind::ABORT_REQUEST, 1, b"", 0)])).is_unread());
    // The end of it, that it is no longer wanted, or that its id is used again.
    for (last, is_last) in [
        (end(1), true),
        (record(kind::ABORT_REQUEST, 1, b"", 0), true),
        (begin(1, true), true),
        (end(3), false),
        (record(kind::STDIN, 1, b"45", 0), false),
        (record(kind::DATA, 1, b"", 0), false),
        (begin(3, true), false),
    ] {
        let mut decoder = ended(&open);
        assert!(decoder.is_unread());
        assert_eq!(feed(&mut decoder, [last.as_slice()]).1, Ok(()));
        assert_eq!(decoder.is_unread(), !is_last, "{last:?}");
    }
    // No more of them are remembered than may live.
    let mut decoder = ended(&open);
    for id in 2..1000 {
        assert_eq!(feed(&mut decoder, [begin(id, true).as_slice()]).1, Ok(()));
        decoder.end(id);
    }
    assert!(decoder.is_unread());
    assert!(decoder.memory() <= 256, "{} bytes", decoder.memory());
}

/// Ending one request leaves another's record alone.
#[test]
fn an_end_in_the_middle_of_somebody_elses_record() {
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut wire = joined(&[begin(1, true), begin(3, true), record(kind::PARAMS, 3, b"\x01\x01ab", 0)]);
    let rest = wire.split_off(wire.len() - 2);
    assert_eq!(feed(&mut decoder, [wire.as_slice()]).1, Ok(()));
    decoder.end(1);
    decoder.end(1);
    decoder.end(77);
    assert_eq!(feed(&mut decoder, [rest.as_slice()]), (vec![Seen::Params(3, b"ab".to_vec())], Ok(())));
}

#[test]
fn more_requests_than_allowed_are_refused_one_by_one() {
    let limits = Limits { requests: 2, ..Limits::default() };
    let mut decoder = RequestDecoder::new(limits);
    let third = joined(&[begin(5, true), record(kind::PARAMS, 5, b"\x01\x01ab", 0), record(kind::STDIN, 5, b"", 0)]);
    let wire = joined(&[begin(1, true), begin(3, true), third.clone()]);
    let (seen, result) = feed(&mut decoder, [wire.as_slice()]);
    assert_eq!(result, Ok(()));
    assert_eq!(seen, [Seen::Begin(1, 1, true), Seen::Begin(3, 1, true), Seen::Refused(5)]);
    decoder.end(3);
    let (seen, _) = feed(&mut decoder, [begin(5, true).as_slice()]);
    assert_eq!(seen, [Seen::Begin(5, 1, true)], "there is room again");
}

#[test]
fn kinds_that_travel_the_other_way() {
    for kind in [kind::END_REQUEST, kind::STDOUT, kind::STDERR] {
        assert_eq!(read_badly(&record(kind, 1, &[0; 8], 0)), Error::UnexpectedKind { kind });
    }
    for kind in [kind::GET_VALUES_RESULT, kind::UNKNOWN_TYPE] {
        assert_eq!(read_badly(&record(kind, 0, &[0; 8], 0)), Error::UnexpectedKind { kind });
    }
    for kind in [0, 1, 2, 4, 5, 8, 9, 12, 255] {
        assert_eq!(hear_badly(&record(kind, 1, &[0; 8], 0)), Error::UnexpectedKind { kind });
        assert_eq!(hear_badly(&record(kind, 0, &[0; 8], 0)), Error::UnexpectedKind { kind });
    }
    for kind in [0, 12, 200, 255] {
        assert_eq!(read_well(&record(kind, 0, b"what?", 3)), [Seen::Unknown(kind)]);
        assert_eq!(read_well(&record(kind, 0, b"", 0)), [Seen::Unknown(kind)]);
    }
}

#[test]
fn a_worker_that_answers_somebody_else_or_unasked() {
    for kind in [kind::STDOUT, kind::STDERR, kind::END_REQUEST] {
        for id in [2, 256, 257, u16::MAX] {
            assert_eq!(hear_badly(&record(kind, id, &[0; 8], 0)), Error::WrongId { id, expected: 1 });
        }
    }
    let end = record(kind::END_REQUEST, 1, &[0; 8], 0);
    // One byte after END is enough: the connection cannot be used again.
    for more in [&[1][..], &[0], &record(kind::STDOUT, 1, b"", 0)] {
        let (told, result) = hear(&mut support::expecting(), [end.as_slice(), more]);
        assert_eq!((told, result), (vec![Told::End(0, 0)], Err(Error::Unasked)));
    }
    let mut unasked = ResponseDecoder::new(1);
    assert!(unasked.is_idle());
    assert_eq!(hear(&mut unasked, [end.as_slice()]), (vec![], Err(Error::Unasked)));
    let mut asked = ResponseDecoder::new(1);
    asked.ask();
    assert_eq!(hear(&mut asked, [end.as_slice()]), (vec![], Err(Error::Unasked)), "asked for variables only");
    // A second answer to one question.
    let mut decoder = ResponseDecoder::new(1);
    decoder.ask();
    decoder.begin();
    let values = record(kind::GET_VALUES_RESULT, 0, b"", 0);
    let unexpected = Error::UnexpectedKind { kind: kind::GET_VALUES_RESULT };
    assert_eq!(
        hear(&mut decoder, [values.as_slice(), &values]),
        (vec![Told::Values(Values::default())], Err(unexpected))
    );
    for kind in [kind::STDOUT, kind::STDERR] {
        let wire = joined(&[record(kind, 1, b"", 0), record(kind, 1, b"x", 0)]);
        assert_eq!(hear_badly(&wire), Error::AfterEnd { kind, id: 1 });
    }
    for content in [0u16, 7, 9] {
        let wire = record(kind::END_REQUEST, 1, &vec![0; usize::from(content)], 0);
        assert_eq!(hear_badly(&wire), Error::BodyLength { kind: kind::END_REQUEST, content });
    }
}

/// What was ended in the answer before is open in the next.
#[test]
fn a_kept_worker_begins_each_answer_anew() {
    let answer = joined(&[
        record(kind::STDERR, 1, b"e", 1),
        record(kind::STDERR, 1, b"", 0),
        record(kind::STDOUT, 1, b"o", 1),
        record(kind::STDOUT, 1, b"", 0).repeat(8),
        record(kind::END_REQUEST, 1, &[0; 8], 5),
    ]);
    let mut decoder = ResponseDecoder::new(1);
    for _ in 0..3 {
        decoder.begin();
        let (told, result) = hear(&mut decoder, [answer.as_slice()]);
        assert_eq!((told.len(), result), (5, Ok(())));
        assert!(decoder.is_idle());
    }
}

/// STDERR is bytes: whoever shows it must clean it (HAProxy f495d486e logged it raw).
#[test]
fn haproxy_f495d486e_stderr_is_handed_on_as_it_is() {
    let mut text = b"\r\n\x1b[2J\0\xc3".to_vec();
    text.extend(vec![b'x'; CHUNK_MAX]);
    let mut wire = Vec::new();
    encode::stream(&mut wire, kind::STDERR, 1, &text);
    assert!(hear_well(&wire) == [Told::Stderr(text)]);
}

#[test]
fn floods_end_the_connection() {
    let flood = |wire: Vec<u8>, more: Vec<u8>, times: usize| {
        let mut decoder = RequestDecoder::new(Limits { records: 100, ..Limits::default() });
        assert_eq!(feed(&mut decoder, [wire.as_slice()]).1, Ok(()));
        let more = more.repeat(times);
        feed(&mut decoder, [more.as_slice()]).1
    };
    let living = || begun(&[params_end(), stdin_end()]);
    for (kind, wire, more) in [
        (kind::PARAMS, begin(1, true), record(kind::PARAMS, 1, b"x", 0)),
        (kind::PARAMS, living(), params_end()),
        (kind::STDIN, living(), stdin_end()),
        (kind::STDIN, living(), record(kind::STDIN, 2, b"", 0)),
        (kind::ABORT_REQUEST, living(), record(kind::ABORT_REQUEST, 1, b"", 0)),
        (kind::ABORT_REQUEST, living(), record(kind::ABORT_REQUEST, 2, b"", 0)),
        (kind::GET_VALUES, vec![], record(kind::GET_VALUES, 0, b"", 0)),
        (77, vec![], record(77, 0, b"", 0)),
    ] {
        assert_eq!(flood(wire.clone(), more.clone(), 100), Ok(()), "kind {kind}");
        assert_eq!(flood(wire, more, 101), Err(Error::TooManyRecords { kind }), "kind {kind}");
    }
    // A little content excuses a little more.
    let late = record(kind::STDIN, 2, b"x", 0);
    assert_eq!(flood(living(), late.clone(), 101), Ok(()));
    assert_eq!(flood(living(), late, 102), Err(Error::TooManyRecords { kind: kind::STDIN }));
    // The rest of an upload that was answered early is no flood, however long.
    assert_eq!(flood(living(), record(kind::STDIN, 2, &[b'x'; 64], 0), 10_000), Ok(()));
    // A body of single bytes is long before it is a flood.
    let trickle = record(kind::STDIN, 1, b"x", 7);
    assert_eq!(flood(begun(&[params_end()]), trickle.clone(), 64 * 100), Ok(()));
    let too_many = Err(Error::TooManyRecords { kind: kind::STDIN });
    assert_eq!(flood(begun(&[params_end()]), trickle.clone(), 64 * 107), too_many);
    // Its account is its own: neither the records nor the bytes of the params are in it. (6826 = 6400 + 6826 / 16.)
    for params in [record(kind::PARAMS, 1, b"x", 0).repeat(100), record(kind::PARAMS, 1, &[b'x'; 16_000], 0)] {
        let wire = begun(&[params, params_end()]);
        assert_eq!(flood(wire.clone(), trickle.clone(), 6826), Ok(()));
        assert_eq!(flood(wire, trickle.clone(), 6827), too_many);
    }
    assert_eq!(flood(begun(&[params_end()]), record(kind::STDIN, 1, &[b'x'; 16], 0), 100_000), Ok(()));

    // Refused requests are a flood, too: nothing may be answered for ever.
    let mut decoder = RequestDecoder::new(Limits { requests: 1, records: 100, ..Limits::default() });
    let wire: Vec<u8> = (1..=102).flat_map(|id| begin(id, true)).collect();
    let too_many = Err(Error::TooManyRecords { kind: kind::BEGIN_REQUEST });
    assert_eq!(feed(&mut decoder, [wire.as_slice()]).1, too_many);

    let empty = record(kind::STDOUT, 1, b"", 0).repeat(10);
    assert_eq!(hear_badly(&empty), Error::TooManyRecords { kind: kind::STDOUT });
}

/// A new request is a new account: a connection lives through any number of them.
#[test]
fn a_kept_connection_is_not_worn_out() {
    let mut decoder = RequestDecoder::new(Limits { records: 10, ..Limits::default() });
    let wire = begun(&[params_end(), stdin_end(), stdin_end(), record(kind::ABORT_REQUEST, 1, b"", 0)]);
    for _ in 0..1000 {
        let (seen, result) = feed(&mut decoder, [wire.as_slice()]);
        assert_eq!((seen.len(), result), (4, Ok(())));
        decoder.end(1);
        assert!(decoder.is_idle());
    }
    assert!(decoder.memory() <= 16 * 4);
}

/// An idle connection costs next to nothing, and each living request a few bytes.
#[test]
fn what_a_decoder_costs() {
    assert!(size_of::<RequestDecoder>() <= 200, "{} bytes", size_of::<RequestDecoder>());
    assert!(size_of::<ResponseDecoder>() <= 128, "{} bytes", size_of::<ResponseDecoder>());
    let mut decoder = RequestDecoder::new(Limits { requests: 1000, ..Limits::default() });
    assert_eq!(decoder.memory(), 0);
    let wire: Vec<u8> = (1..=1000).flat_map(|id| begin(id, true)).collect();
    assert_eq!(feed(&mut decoder, [wire.as_slice()]).1, Ok(()));
    assert_eq!(decoder.active(), 1000);
    assert!(decoder.memory() <= 1024 * 16, "{} bytes", decoder.memory());
    // A management record is kept only while it is in pieces.
    let mut content = pair(b"FCGI_MAX_CONNS", b"");
    content.extend(pair(b"", &[b'x'; 900]));
    let record = record(kind::GET_VALUES, 0, &content, 0);
    let mut decoder = RequestDecoder::new(Limits::default());
    assert_eq!(feed(&mut decoder, record[..600].chunks(1)).1, Ok(()));
    assert!((500..=2048).contains(&decoder.memory()), "{} bytes", decoder.memory());
    assert_eq!(feed(&mut decoder, record[600..].chunks(1)).1, Ok(()));
    assert_eq!(decoder.memory(), 0);
}

#[test]
fn every_error_is_told_to_people() {
    let errors = [
        Error::Version { version: 71 },
        Error::NoRequest { kind: 4 },
        Error::ManagementId { kind: 9, id: 3 },
        Error::UnexpectedKind { kind: 99 },
        Error::BodyLength { kind: 1, content: 9 },
        Error::AlreadyActive { id: 5 },
        Error::AfterEnd { kind: 5, id: 5 },
        Error::TooEarly { kind: 5, id: 5 },
        Error::TooManyRecords { kind: 4 },
        Error::ManagementTooLong { kind: 9, content: 2000 },
        Error::WrongId { id: 2, expected: 1 },
        Error::Unasked,
        Error::PairCut,
        Error::PairTooLong { length: 70_000, limit: CHUNK_MAX },
    ];
    for error in errors {
        let text = error.to_string();
        assert!(text.len() > 30 && !text.contains('{'), "{text}");
    }
    assert_eq!(
        Error::Version { version: 71 }.to_string(),
        "the peer does not speak FastCGI, or lost count: a record begins with version 71 instead of 1"
    );
}
