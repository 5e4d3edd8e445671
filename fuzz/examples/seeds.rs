//! Writes corpora to start from: valid conversations, made by the encoder. The first byte of each is the cut.

use std::fs;
use std::path::Path;

use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::params::push_pair;
use steadfast_proto::fcgi::record::{kind, role, status};
use steadfast_proto::fcgi::values::{Asked, Values};

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, cut, wire) in requests() {
        write(&corpus, "fcgi_request", name, cut, &wire)?;
        write(&corpus, "fcgi_pipeline", name, cut, &wire)?;
    }
    for (name, cut, wire) in responses() {
        write(&corpus, "fcgi_response", name, cut, &wire)?;
    }
    Ok(())
}

fn write(corpus: &Path, target: &str, name: &str, cut: u8, wire: &[u8]) -> std::io::Result<()> {
    let directory = corpus.join(target);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(name), [&[cut], wire].concat())
}

fn request(wire: &mut Vec<u8>, id: u16, role: u16, body: &[u8]) {
    let mut params = Vec::new();
    for (name, value) in [("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "4"), ("HTTP_COOKIE", &"c".repeat(130))] {
        push_pair(&mut params, name.as_bytes(), value.as_bytes()).expect("short");
    }
    encode::begin_request(wire, id, role, true);
    encode::params(wire, id, &params).expect("short");
    encode::stream(wire, kind::STDIN, id, body);
    encode::stream_end(wire, kind::STDIN, id);
}

fn requests() -> Vec<(&'static str, u8, Vec<u8>)> {
    let mut plain = Vec::new();
    request(&mut plain, 1, role::RESPONDER, b"body");
    request(&mut plain, 1, role::RESPONDER, b"");
    let mut filter = Vec::new();
    request(&mut filter, 1, role::FILTER, b"body");
    encode::stream(&mut filter, kind::DATA, 1, b"file");
    encode::stream_end(&mut filter, kind::DATA, 1);
    let mut mixed = Vec::new();
    encode::get_values(&mut mixed, Asked::ALL);
    request(&mut mixed, 1, role::RESPONDER, b"one");
    encode::begin_request(&mut mixed, 3, role::AUTHORIZER, false);
    encode::begin_request(&mut mixed, 5, role::RESPONDER, true);
    encode::stream(&mut mixed, kind::PARAMS, 5, b"\x01\x01ab");
    encode::stream(&mut mixed, kind::STDIN, 7, b"nobody");
    encode::abort(&mut mixed, 3);
    mixed.extend([1, 77, 0, 0, 0, 2, 1, 0, 9, 9, 9]);
    let forged = plain.clone();
    let mut smuggled = Vec::new();
    request(&mut smuggled, 1, role::RESPONDER, &forged);
    vec![("plain", 0, plain), ("filter", 3, filter), ("mixed", 0x57, mixed), ("smuggled", 9, smuggled)]
}

fn responses() -> Vec<(&'static str, u8, Vec<u8>)> {
    let mut plain = Vec::new();
    encode::stream(&mut plain, kind::STDERR, 1, b"warning");
    encode::stream(&mut plain, kind::STDOUT, 1, b"Status: 200\r\n\r\nhello");
    encode::stream_end(&mut plain, kind::STDOUT, 1);
    encode::stream_end(&mut plain, kind::STDERR, 1);
    encode::end_request(&mut plain, 1, 3, status::REQUEST_COMPLETE);
    let mut kept = plain.clone();
    kept.extend(&plain);
    let mut values = Vec::new();
    let all = Values { max_conns: Some(10), max_reqs: Some(50), mpxs_conns: Some(true) };
    encode::get_values_result(&mut values, all);
    values.extend(&plain);
    let mut unknown = Vec::new();
    encode::unknown_type(&mut unknown, 9);
    unknown.extend(&plain);
    vec![("plain", 0, plain), ("kept", 7, kept), ("values", 0x85, values), ("unknown", 0x80, unknown)]
}
