//! What each web server really sends, byte for byte as captured (shared/research/fastcgi.md, A.4), and what workers answer.

mod support;

use steadfast_proto::fcgi::params::pairs;
use steadfast_proto::fcgi::record::{kind, role};
use steadfast_proto::fcgi::request::{Limits, RequestDecoder};
use steadfast_proto::fcgi::response::ResponseDecoder;
use steadfast_proto::fcgi::values::{Asked, Values};
use support::{Seen, Told, begin, expecting, feed, hear, hear_well, pair, read_well, record};

/// The 22 params that nginx sends for a GET.
fn params() -> Vec<u8> {
    [
        ("QUERY_STRING", ""),
        ("REQUEST_METHOD", "GET"),
        ("CONTENT_TYPE", ""),
        ("CONTENT_LENGTH", ""),
        ("SCRIPT_NAME", "/hello"),
        ("REQUEST_URI", "/hello"),
        ("DOCUMENT_URI", "/hello"),
        ("DOCUMENT_ROOT", "/usr/share/nginx/html"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_SCHEME", "http"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", "nginx/1.22.1"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REMOTE_PORT", "50122"),
        ("SERVER_ADDR", "127.0.0.1"),
        ("SERVER_PORT", "8080"),
        ("SERVER_NAME", "localhost"),
        ("REDIRECT_STATUS", "200"),
        ("HTTP_HOST", "127.0.0.1:8080"),
        ("HTTP_USER_AGENT", "curl/7.88.1"),
        ("HTTP_ACCEPT", "*/*"),
        ("HTTP_COOKIE", "session=0123456789abcdef; other=value"),
    ]
    .iter()
    .flat_map(|(name, value)| pair(name.as_bytes(), value.as_bytes()))
    .collect()
}

/// The padding that aligns to 8.
fn pad(length: usize) -> u8 {
    (length.wrapping_neg() % 8) as u8
}

fn padded(kind: u8, id: u16, content: &[u8]) -> Vec<u8> {
    record(kind, id, content, pad(content.len()))
}

/// What is seen of a complete request of a responder.
fn complete(id: u16, keep: bool, params: &[u8], body: &[u8]) -> Vec<Seen> {
    let mut seen = vec![Seen::Begin(id, role::RESPONDER, keep), Seen::Params(id, params.to_vec()), Seen::ParamsEnd(id)];
    if !body.is_empty() {
        seen.push(Seen::Stdin(id, body.to_vec()));
    }
    seen.push(Seen::StdinEnd(id));
    seen
}

#[test]
fn nginx_one_write_everything_padded_to_8() {
    let params = params();
    assert_eq!(pairs(&params).filter_map(Result::ok).count(), 22);
    let mut wire = begin(1, false);
    wire.extend(padded(kind::PARAMS, 1, &params));
    wire.extend(record(kind::PARAMS, 1, b"", 0));
    wire.extend(record(kind::STDIN, 1, b"", 0));
    assert!((450..=600).contains(&wire.len()), "{} bytes", wire.len());
    assert_eq!(read_well(&wire), complete(1, false, &params, b""));

    // A POST: 32 KiB of body a record, the last shorter and padded; kept.
    let body: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let mut wire = begin(1, true);
    wire.extend(padded(kind::PARAMS, 1, &params));
    wire.extend(record(kind::PARAMS, 1, b"", 0));
    wire.extend(body.chunks(32 * 1024).flat_map(|chunk| padded(kind::STDIN, 1, chunk)));
    wire.extend(record(kind::STDIN, 1, b"", 0));
    assert!(read_well(&wire) == complete(1, true, &params, &body));
}

#[test]
fn apache_four_writes_and_params_in_records_of_16_kib() {
    let long = vec![b'c'; 12_000];
    let mut params = params();
    let first = params.len();
    params.extend(pair(b"HTTP_X_LONG", &long));
    let second = params.len();
    params.extend(pair(b"HTTP_X_LONGER", &long));
    let writes = [
        begin(1, false),
        [
            record(kind::PARAMS, 1, &params[..first], 0),
            record(kind::PARAMS, 1, &params[first..second], 0),
            record(kind::PARAMS, 1, &params[second..], 0),
        ]
        .concat(),
        record(kind::PARAMS, 1, b"", 0),
        record(kind::STDIN, 1, b"", 0),
    ];
    let mut decoder = RequestDecoder::new(Limits::default());
    let (seen, result) = feed(&mut decoder, writes.iter().map(Vec::as_slice));
    assert_eq!((seen, result), (complete(1, false, &params, b""), Ok(())));
}

#[test]
fn mod_fcgid_ragged_bodies() {
    let params = params();
    let body = vec![b'b'; 30_000];
    let mut wire = begin(1, false);
    wire.extend(record(kind::PARAMS, 1, &params, 0));
    wire.extend(record(kind::PARAMS, 1, b"", 0));
    let mut rest = body.as_slice();
    for length in [7_993, 8_192, 1, 8_000, 5_814] {
        let (chunk, more) = rest.split_at(length);
        wire.extend(record(kind::STDIN, 1, chunk, 0));
        rest = more;
    }
    assert!(rest.is_empty());
    wire.extend(record(kind::STDIN, 1, b"", 0));
    assert!(read_well(&wire) == complete(1, false, &params, &body));
}

#[test]
fn lighttpd_and_h2o_bodies_in_the_longest_records() {
    let params = params();
    let body: Vec<u8> = begin(1, true).into_iter().cycle().take(3 * 65_535 + 17).collect();
    let mut wire = begin(1, false);
    wire.extend(record(kind::PARAMS, 1, &params, 0));
    wire.extend(record(kind::PARAMS, 1, b"", 0));
    wire.extend(body.chunks(65_535).flat_map(|chunk| record(kind::STDIN, 1, chunk, 0)));
    wire.extend(record(kind::STDIN, 1, b"", 0));
    assert!(read_well(&wire) == complete(1, false, &params, &body));
}

#[test]
fn caddy_four_writes_and_records_of_65500_padded() {
    let params = params();
    let body = vec![b'b'; 70_000];
    let mut writes = vec![begin(1, false), padded(kind::PARAMS, 1, &params), record(kind::PARAMS, 1, b"", 0)];
    writes.push(body.chunks(65_500).flat_map(|chunk| padded(kind::STDIN, 1, chunk)).collect());
    writes.push(record(kind::STDIN, 1, b"", 0));
    let mut decoder = RequestDecoder::new(Limits::default());
    let (seen, result) = feed(&mut decoder, writes.iter().map(Vec::as_slice));
    assert_eq!(result, Ok(()));
    assert!(seen == complete(1, false, &params, &body));
}

/// h2o cuts PARAMS at 65,535 bytes exactly: here within a name, within a length of four bytes, and within a value.
#[test]
fn h2o_splits_pairs_between_records() {
    for shift in [3, 11, 40] {
        let mut params = pair(b"A", &vec![b'a'; 65_535 - 6 - shift]);
        let long_value = vec![b'v'; 300];
        let start = params.len();
        params.extend(pair(b"HTTP_X_SPLIT", &long_value));
        params.extend(pair(b"LAST", b"1"));
        assert_eq!(65_535 - start, shift, "the cut lies so far inside the second pair");
        let mut wire = begin(1, true);
        wire.extend(params.chunks(65_535).flat_map(|chunk| record(kind::PARAMS, 1, chunk, 0)));
        wire.extend(record(kind::PARAMS, 1, b"", 0));
        wire.extend(record(kind::STDIN, 1, b"", 0));
        let seen = read_well(&wire);
        assert!(seen == complete(1, true, &params, b""));
        let Some(Seen::Params(1, joined)) = seen.get(1) else { panic!("params") };
        let names: Vec<&[u8]> = pairs(joined).map(|pair| pair.expect("joined again").0).collect();
        assert_eq!(names, [b"A".as_slice(), b"HTTP_X_SPLIT", b"LAST"]);
    }
}

/// HAProxy opens with GET_VALUES, then sends ids 1, 3, 5 beside each other, and aborts one.
#[test]
fn haproxy_multiplexes_and_asks_for_values() {
    let params = params();
    let asked: Vec<u8> = [&b"FCGI_MAX_REQS"[..], b"FCGI_MPXS_CONNS"].iter().flat_map(|name| pair(name, b"")).collect();
    let mut wire = record(kind::GET_VALUES, 0, &asked, 0);
    let ids = [1, 3, 5];
    for id in ids {
        wire.extend(begin(id, true));
        wire.extend(record(kind::PARAMS, id, &params, 0));
        wire.extend(record(kind::PARAMS, id, b"", 0));
    }
    let bodies: Vec<Vec<u8>> = ids.iter().map(|id| vec![*id as u8; 16_320]).collect();
    for (id, body) in ids.iter().zip(&bodies) {
        wire.extend(record(kind::STDIN, *id, body, 0));
    }
    wire.extend(record(kind::STDIN, 5, b"", 0));
    wire.extend(record(kind::STDIN, 1, b"", 0));
    wire.extend(record(kind::ABORT_REQUEST, 3, b"", 0));
    let seen = read_well(&wire);
    let mut expected = vec![Seen::GetValues(Asked { max_conns: false, max_reqs: true, mpxs_conns: true })];
    for id in ids {
        expected.extend([Seen::Begin(id, 1, true), Seen::Params(id, params.clone()), Seen::ParamsEnd(id)]);
    }
    expected.extend(ids.iter().zip(bodies).map(|(id, body)| Seen::Stdin(*id, body)));
    expected.extend([Seen::StdinEnd(5), Seen::StdinEnd(1), Seen::Abort(3)]);
    assert!(seen == expected);
}

#[test]
fn an_authorizer_gets_no_body() {
    let mut wire = record(kind::BEGIN_REQUEST, 1, &[0, 2, 0, 0, 0, 0, 0, 0], 0);
    wire.extend(record(kind::PARAMS, 1, &params(), 0));
    wire.extend(record(kind::PARAMS, 1, b"", 0));
    let seen = read_well(&wire);
    assert_eq!(seen.first(), Some(&Seen::Begin(1, role::AUTHORIZER, false)));
    assert_eq!(seen.last(), Some(&Seen::ParamsEnd(1)));
}

const PAGE: &[u8] = b"Content-Type: text/plain\r\n\r\nhello";

/// libfcgi and Go: STDERR closed if it was used, STDOUT closed, END.
#[test]
fn libfcgi_and_go_answer_with_an_empty_stdout() {
    let mut wire = padded(kind::STDERR, 1, b"warning\n");
    wire.extend(padded(kind::STDOUT, 1, PAGE));
    wire.extend(record(kind::STDOUT, 1, b"", 0));
    wire.extend(record(kind::STDERR, 1, b"", 0));
    wire.extend(record(kind::END_REQUEST, 1, &[0; 8], 0));
    assert_eq!(
        hear_well(&wire),
        [
            Told::Stderr(b"warning\n".to_vec()),
            Told::Stdout(PAGE.to_vec()),
            Told::StdoutEnd,
            Told::StderrEnd,
            Told::End(0, 0),
        ]
    );
}

/// php-fpm sends no empty STDOUT; its END's reserved bytes are what they are.
#[test]
fn php_fpm_answers_without_an_empty_stdout() {
    let mut wire = padded(kind::STDOUT, 1, PAGE);
    wire.extend(record(kind::END_REQUEST, 1, &[0, 0, 0, 0, 0, b'X', b'Y', b'Z'], 0));
    assert_eq!(hear_well(&wire), [Told::Stdout(PAGE.to_vec()), Told::End(0, 0)]);
    let mut decoder = expecting();
    assert_eq!(hear(&mut decoder, [wire.as_slice()]).1, Ok(()));
    assert!(decoder.is_idle());
}

/// php-fpm and libfcgi on GET_VALUES, before any request.
#[test]
fn workers_tell_their_values() {
    let content: Vec<u8> = [("FCGI_MAX_CONNS", "0"), ("FCGI_MAX_REQS", "50"), ("FCGI_MPXS_CONNS", "0")]
        .iter()
        .flat_map(|(name, value)| pair(name.as_bytes(), value.as_bytes()))
        .collect();
    let mut decoder = ResponseDecoder::new(1);
    decoder.ask();
    let wire = padded(kind::GET_VALUES_RESULT, 0, &content);
    let values = Values { max_conns: Some(0), max_reqs: Some(50), mpxs_conns: Some(false) };
    assert_eq!(hear(&mut decoder, wire.chunks(5)), (vec![Told::Values(values)], Ok(())));
    assert!(decoder.is_idle());
}

/// libfcgi refuses a second request on a connection so.
#[test]
fn a_worker_that_cannot_multiplex_says_so() {
    let wire = record(kind::END_REQUEST, 1, &[0, 0, 0, 0, 1, 0, 0, 0], 0);
    assert_eq!(hear_well(&wire), [Told::End(0, 1)]);
}
