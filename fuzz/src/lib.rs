//! What the targets share: bytes as a series of records, mostly valid ones.

pub mod import;
pub mod journal;
pub mod memory;

use steadfast_proto::fcgi::params::push_pair;
use steadfast_proto::fcgi::record::{Header, kind};

/// What a web server says. Each byte of `data` in its turn chooses; most choices are what a web server would do.
///
/// Bytes below 240: a record (kind, id, padding, length from the byte and the next one); above: so many raw bytes. So a fuzzer
/// that changes one byte changes one thing, and lengths stay right unless it asks for wrong ones.
#[must_use]
pub fn records(mut data: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    while let Some((&what, rest)) = data.split_first() {
        data = rest;
        if what >= 240 {
            let (raw, rest) = data.split_at(data.len().min(usize::from(what - 239)));
            wire.extend_from_slice(raw);
            data = rest;
            continue;
        }
        let (&how, rest) = data.split_first().unwrap_or((&0, &[]));
        data = rest;
        // Mostly one request; sometimes another, or the connection itself.
        let id = [1, 1, 1, 1, 1, 3, 0, 257][usize::from(how >> 5)];
        let padding = if how & 0x10 == 0 { 0 } else { how };
        let mut take = |length: usize| {
            let (now, later) = data.split_at(data.len().min(length));
            data = later;
            now.to_vec()
        };
        match what % 16 {
            0 | 1 => {
                // A whole small request of a role, kept or not.
                let [role, flags] = [if what & 0x40 == 0 { 1 } else { how & 3 }, u8::from(how & 8 == 0)];
                push(&mut wire, kind::BEGIN_REQUEST, id, &[0, role, flags, 0, 0, 0, 0, 0], padding);
                let mut stream = Vec::new();
                let value = take(usize::from(how & 7));
                push_pair(&mut stream, b"QUERY_STRING", &value).expect("short");
                if what & 0x80 != 0 {
                    push_pair(&mut stream, b"CONTENT_LENGTH", (how & 15).to_string().as_bytes()).expect("short");
                }
                push(&mut wire, kind::PARAMS, id, &stream, padding);
                push(&mut wire, kind::PARAMS, id, b"", 0);
                if what & 0x20 == 0 {
                    let body = take(usize::from(how & 15));
                    push(&mut wire, kind::STDIN, id, &body, padding);
                    push(&mut wire, kind::STDIN, id, b"", 0);
                }
            }
            2 => {
                let role = if how & 4 == 0 { 1 } else { how & 3 };
                push(&mut wire, kind::BEGIN_REQUEST, id, &[0, role, how & 8, 1, 2, 3, 4, 5], padding);
            }
            3..=5 => {
                let mut stream = Vec::new();
                let names: [&[u8]; 8] = [
                    b"CONTENT_LENGTH",
                    b"REQUEST_METHOD",
                    b"HTTP_COOKIE",
                    b"HTTP_PROXY",
                    b"",
                    b"REQUEST_URI",
                    b"HTTP_A",
                    b"X",
                ];
                let value = take(usize::from(how & 15));
                push_pair(&mut stream, names[usize::from(what >> 4) % names.len()], &value).expect("short");
                push(&mut wire, kind::PARAMS, id, &stream, padding);
            }
            6 => push(&mut wire, kind::PARAMS, id, b"", padding),
            7 | 8 => {
                let length = usize::from(how & 15) * if what & 0x80 == 0 { 1 } else { 20 };
                let body = take(length);
                push(&mut wire, kind::STDIN, id, &body, padding);
            }
            9 => push(&mut wire, kind::STDIN, id, b"", padding),
            10 => push(&mut wire, kind::ABORT_REQUEST, id, b"", padding),
            11 => {
                let content: &[u8] =
                    [&b"\x0e\x00FCGI_MAX_CONNS"[..], b"\x0f\x00FCGI_MPXS_CONNS", b"", b"\x01"][usize::from(how & 3)];
                push(&mut wire, kind::GET_VALUES, 0, content, padding);
            }
            12 => push(&mut wire, kind::DATA, id, &take(usize::from(how & 15)), padding),
            _ => {
                let content = take(usize::from(how & 15));
                push(&mut wire, what >> 4, id, &content, padding);
            }
        }
    }
    wire
}

fn push(wire: &mut Vec<u8>, kind: u8, id: u16, content: &[u8], padding: u8) {
    let content = &content[..content.len().min(65_535)];
    wire.extend_from_slice(&Header { kind, id, content: content.len() as u16, padding }.encode());
    wire.extend_from_slice(content);
    wire.resize(wire.len() + usize::from(padding), 0xaa);
}
