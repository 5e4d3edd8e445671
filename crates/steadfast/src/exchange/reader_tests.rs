//! Answers in both languages: whole, byte by byte, broken, cut off.

use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::{kind, status};

use super::*;

/// What came of an answer: status, body, stderr, the bytes behind its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    status: u16,
    body: Vec<u8>,
    stderr: Vec<u8>,
    is_done: bool,
}

fn feed(reader: &mut Reader, read: &mut Read, mut input: &[u8]) -> Result<(), Broken> {
    while let Some(piece) = reader.next(&mut input)? {
        match piece {
            Piece::Head { body } => {
                read.status = reader.status();
                read.body.extend_from_slice(body);
            }
            Piece::Body(bytes) => read.body.extend_from_slice(bytes),
            Piece::Stderr(bytes) => read.stderr.extend_from_slice(bytes),
            Piece::Done => {
                assert!(!read.is_done, "an answer ends once");
                read.is_done = true;
            }
        }
    }
    assert!(input.is_empty(), "`None` means that everything was taken");
    Ok(())
}

/// Reads an answer in pieces of so many bytes; the connection ends after it.
fn read_in(size: usize, protocol: Protocol, is_head: bool, bytes: &[u8]) -> Result<Read, Broken> {
    let mut reader = Reader::new(protocol, is_head);
    reader.begin();
    let mut read = Read::default();
    for piece in bytes.chunks(size) {
        feed(&mut reader, &mut read, piece)?;
    }
    if !read.is_done {
        reader.ended()?;
        read.is_done = true;
    }
    Ok(read)
}

/// The same however it is cut.
fn read(protocol: Protocol, bytes: &[u8]) -> Result<Read, Broken> {
    let whole = read_in(usize::MAX, protocol, false, bytes);
    for size in 1..20 {
        assert_eq!(read_in(size, protocol, false, bytes), whole, "in pieces of {size}");
    }
    whole
}

fn fcgi(parts: &[(u8, &str)], protocol_status: u8) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, text) in parts {
        encode::stream(&mut out, *kind, 1, text.as_bytes());
    }
    encode::end_request(&mut out, 1, 3, protocol_status);
    out
}

#[test]
fn a_fastcgi_answer_is_joined_from_its_records() {
    let bytes = fcgi(
        &[(kind::STDOUT, "Status: 404 No\r"), (kind::STDERR, "oh"), (kind::STDOUT, "\n\r\nbo"), (kind::STDOUT, "dy")],
        status::REQUEST_COMPLETE,
    );
    let expected = Read { status: 404, body: b"body".to_vec(), stderr: b"oh".to_vec(), is_done: true };
    assert_eq!(read(Protocol::Fcgi, &bytes), Ok(expected));
}

#[test]
fn fastcgi_refusals_and_missing_heads_are_told() {
    let refused = Err(Broken::Refused { protocol_status: status::OVERLOADED });
    assert_eq!(read(Protocol::Fcgi, &fcgi(&[], status::OVERLOADED)), refused);
    assert_eq!(read(Protocol::Fcgi, &fcgi(&[(kind::STDOUT, "A: b\n")], 0)), Err(Broken::NoHead));
    assert_eq!(read(Protocol::Fcgi, &fcgi(&[], 0)), Err(Broken::NoHead));
    let bad = Err(Broken::BadHead("Warning".to_owned()));
    assert_eq!(read(Protocol::Fcgi, &fcgi(&[(kind::STDOUT, "Warning\n\n")], 0)), bad);
    assert!(matches!(read(Protocol::Fcgi, b"HTTP/1.1 400 Bad Request\r\n\r\n"), Err(Broken::Fcgi(_))));
}

#[test]
fn every_cut_of_an_answer_is_an_early_end() {
    let fcgi = fcgi(&[(kind::STDOUT, "A: b\n\nbody")], 0);
    let http = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    for (protocol, bytes) in [(Protocol::Fcgi, &fcgi[..]), (Protocol::Http, http), (Protocol::Http, chunked)] {
        for cut in 0..bytes.len() {
            let result = read_in(usize::MAX, protocol, false, &bytes[..cut]);
            assert_eq!(result, Err(Broken::Early { begun: cut > 0 }), "{protocol:?} cut at {cut}");
        }
        read(protocol, bytes).expect("whole");
    }
}

#[test]
fn bytes_after_the_end_are_told() {
    let mut bytes = fcgi(&[(kind::STDOUT, "A: b\n\nbody")], 0);
    bytes.push(1);
    assert_eq!(read(Protocol::Fcgi, &bytes), Err(Broken::Extra));
    assert_eq!(read(Protocol::Http, b"HTTP/1.1 204 No\r\n\r\nx"), Err(Broken::Extra));
    assert_eq!(read(Protocol::Http, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"), Err(Broken::Extra));
}

#[test]
fn an_http_body_ends_as_its_head_says() {
    for (text, status, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", 200, "body"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nContent-Length: 4\r\n\r\nbody", 200, "body"),
        ("HTTP/1.1 200 OK\r\n\r\nto the end", 200, "to the end"),
        ("HTTP/1.0 200 OK\r\n\r\n", 200, ""),
        ("HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n", 404, ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, ""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbod\r\n1;x=y\r\ny\r\n0\r\n\r\n", 200, "body"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nT: x\r\n\r\n",
            200,
            "0123456789",
        ),
        ("HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb", 200, "b"),
    ] {
        let read = read(Protocol::Http, text.as_bytes()).expect(text);
        assert_eq!((read.status, read.body.as_slice()), (status, body.as_bytes()), "{text:?}");
    }
}

#[test]
fn http_that_cannot_be_believed_is_refused() {
    for text in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "\x01\x06\x00\x01\n\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
    ] {
        assert!(matches!(read(Protocol::Http, text.as_bytes()), Err(Broken::Http(_))), "{text:?}");
    }
}

#[test]
fn a_head_request_has_an_answer_without_a_body() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
    let read = read_in(usize::MAX, Protocol::Http, true, bytes).expect("whole");
    assert!(read.is_done && read.body.is_empty());
}

#[test]
fn a_connection_is_kept_as_the_server_says() {
    for (text, keeps) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\n\r\n", false),
    ] {
        let mut reader = Reader::new(Protocol::Http, false);
        reader.begin();
        feed(&mut reader, &mut Read::default(), text.as_bytes()).expect(text);
        assert_eq!(reader.may_reuse(), keeps, "{text:?}");
    }
}

#[test]
fn one_reader_reads_answer_after_answer() {
    let fcgi = fcgi(&[(kind::STDOUT, "A: b\n\nbody")], 0);
    let http = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Steadfast: down\r\n\r\nbody";
    for (protocol, bytes) in [(Protocol::Fcgi, &fcgi[..]), (Protocol::Http, http)] {
        let mut reader = Reader::new(protocol, false);
        for _ in 0..3 {
            reader.begin();
            let mut read = Read::default();
            feed(&mut reader, &mut read, bytes).expect("whole");
            assert_eq!((read.status, read.is_done, read.body.as_slice()), (200, true, &b"body"[..]));
        }
        assert_eq!(reader.find("x-steadfast").is_some(), protocol == Protocol::Http);
        assert_eq!(reader.app_status(), if protocol == Protocol::Fcgi { 3 } else { 0 });
        // Cut in the middle, then a new connection.
        reader.begin();
        feed(&mut reader, &mut Read::default(), &bytes[..10]).expect("so far");
        reader.reset();
        reader.begin();
        let mut read = Read::default();
        feed(&mut reader, &mut read, bytes).expect("whole");
        assert!(read.is_done);
    }
}
