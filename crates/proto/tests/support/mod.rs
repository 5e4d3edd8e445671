//! What the FastCGI tests share: records made by hand, without the encoder, and decoders fed piece by piece.

#![allow(dead_code, unreachable_pub, reason = "each test file is a program of its own and uses a part")]

use steadfast_proto::fcgi::Error;
use steadfast_proto::fcgi::record::kind;
use steadfast_proto::fcgi::request::{Event, Limits, RequestDecoder};
use steadfast_proto::fcgi::response::{Answer, ResponseDecoder};
use steadfast_proto::fcgi::values::{Asked, Values};

/// One record, as the specification draws it; the padding is not zero, since it means nothing.
pub fn record(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a record's content has at most 65,535 bytes");
    let mut out = vec![1, kind];
    out.extend(id.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend([padding, 0xaa]);
    out.extend(content);
    out.extend(vec![0x55; usize::from(padding)]);
    out
}

/// BEGIN for a responder.
pub fn begin(id: u16, keep: bool) -> Vec<u8> {
    record(kind::BEGIN_REQUEST, id, &[0, 1, u8::from(keep), 0, 0, 0, 0, 0], 0)
}

/// A pair with the shortest lengths.
pub fn pair(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in [name, value] {
        match u8::try_from(part.len()) {
            Ok(short @ 0..=127) => out.push(short),
            _ => out.extend(long(part.len())),
        }
    }
    out.extend(name);
    out.extend(value);
    out
}

/// A length in its form of four bytes.
pub fn long(length: usize) -> [u8; 4] {
    (u32::try_from(length).expect("31 bits") | 0x8000_0000).to_be_bytes()
}

/// An event that owns its bytes; pieces that follow each other are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Begin(u16, u16, bool),
    Params(u16, Vec<u8>),
    ParamsEnd(u16),
    Stdin(u16, Vec<u8>),
    StdinEnd(u16),
    Data(u16, Vec<u8>),
    DataEnd(u16),
    Abort(u16),
    TooLarge(u16),
    Refused(u16),
    GetValues(Asked),
    Unknown(u8),
}

fn note(seen: &mut Vec<Seen>, event: Event<'_>) {
    let next = match event {
        Event::Begin { id, role, keep } => Seen::Begin(id, role, keep),
        Event::Params { id, bytes } => Seen::Params(id, bytes.to_vec()),
        Event::ParamsEnd { id } => Seen::ParamsEnd(id),
        Event::Stdin { id, bytes } => Seen::Stdin(id, bytes.to_vec()),
        Event::StdinEnd { id } => Seen::StdinEnd(id),
        Event::Data { id, bytes } => Seen::Data(id, bytes.to_vec()),
        Event::DataEnd { id } => Seen::DataEnd(id),
        Event::Abort { id } => Seen::Abort(id),
        Event::TooLarge { id } => Seen::TooLarge(id),
        Event::Refused { id, .. } => Seen::Refused(id),
        Event::GetValues(asked) => Seen::GetValues(asked),
        Event::Unknown { kind } => Seen::Unknown(kind),
    };
    match (seen.last_mut(), next) {
        (Some(Seen::Params(id, have)), Seen::Params(same, more)) if *id == same => have.extend(more),
        (Some(Seen::Stdin(id, have)), Seen::Stdin(same, more)) if *id == same => have.extend(more),
        (Some(Seen::Data(id, have)), Seen::Data(same, more)) if *id == same => have.extend(more),
        (_, next) => seen.push(next),
    }
}

/// Feeds a request decoder with pieces, and says what it saw before it was content, or failed.
pub fn feed<'a>(
    decoder: &mut RequestDecoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Seen>, Result<(), Error>) {
    let mut seen = Vec::new();
    for piece in pieces {
        let mut input = piece;
        loop {
            let before = input.len();
            match decoder.next(&mut input) {
                Ok(Some(event)) => note(&mut seen, event),
                Ok(None) => {
                    assert!(input.is_empty(), "None with {} of {before} bytes left", input.len());
                    break;
                }
                Err(error) => return (seen, Err(error)),
            }
        }
    }
    (seen, Ok(()))
}

/// [`feed`] with one piece, a new decoder and the default limits.
pub fn read(wire: &[u8]) -> (Vec<Seen>, Result<(), Error>) {
    feed(&mut RequestDecoder::new(Limits::default()), [wire])
}

/// The same when nothing is wrong with it; whatever the cut, the same is seen.
pub fn read_well(wire: &[u8]) -> Vec<Seen> {
    let (seen, result) = read(wire);
    assert_eq!(result, Ok(()));
    let (by_bytes, result) = feed(&mut RequestDecoder::new(Limits::default()), wire.chunks(1));
    assert_eq!(result, Ok(()));
    assert!(seen == by_bytes, "byte by byte something else is seen");
    seen
}

/// The first error there is in it, which must be the same byte by byte.
pub fn read_badly(wire: &[u8]) -> Error {
    let (seen, result) = read(wire);
    let mut decoder = RequestDecoder::new(Limits::default());
    let (by_bytes, same) = feed(&mut decoder, wire.chunks(1));
    assert_eq!((&seen, result), (&by_bytes, same));
    let error = result.expect_err("refused");
    assert_eq!(decoder.next(&mut begin(9, true).as_slice()), Err(error), "it stays refused");
    assert!(!decoder.is_idle());
    error
}

/// An answer that owns its bytes; pieces that follow each other are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Stdout(Vec<u8>),
    StdoutEnd,
    Stderr(Vec<u8>),
    StderrEnd,
    End(u32, u8),
    Values(Values),
    UnknownType(u8),
}

/// Feeds a response decoder with pieces.
pub fn hear<'a>(
    decoder: &mut ResponseDecoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Told>, Result<(), Error>) {
    let mut told: Vec<Told> = Vec::new();
    for piece in pieces {
        let mut input = piece;
        loop {
            let next = match decoder.next(&mut input) {
                Ok(Some(Answer::Stdout(bytes))) => Told::Stdout(bytes.to_vec()),
                Ok(Some(Answer::StdoutEnd)) => Told::StdoutEnd,
                Ok(Some(Answer::Stderr(bytes))) => Told::Stderr(bytes.to_vec()),
                Ok(Some(Answer::StderrEnd)) => Told::StderrEnd,
                Ok(Some(Answer::End { app_status, protocol_status })) => Told::End(app_status, protocol_status),
                Ok(Some(Answer::Values(values))) => Told::Values(values),
                Ok(Some(Answer::UnknownType { kind })) => Told::UnknownType(kind),
                Ok(None) => {
                    assert!(input.is_empty(), "None with {} bytes left", input.len());
                    break;
                }
                Err(error) => return (told, Err(error)),
            };
            match (told.last_mut(), next) {
                (Some(Told::Stdout(have)), Told::Stdout(more)) => have.extend(more),
                (Some(Told::Stderr(have)), Told::Stderr(more)) => have.extend(more),
                (_, next) => told.push(next),
            }
        }
    }
    (told, Ok(()))
}

/// A decoder for id 1 that expects an answer.
pub fn expecting() -> ResponseDecoder {
    let mut decoder = ResponseDecoder::new(1);
    decoder.begin();
    decoder
}

/// An answer without anything wrong in it; whatever the cut, the same is told.
pub fn hear_well(wire: &[u8]) -> Vec<Told> {
    let mut decoder = expecting();
    let (told, result) = hear(&mut decoder, [wire]);
    assert_eq!(result, Ok(()));
    let (by_bytes, result) = hear(&mut expecting(), wire.chunks(1));
    assert_eq!(result, Ok(()));
    assert!(told == by_bytes, "byte by byte something else is told");
    told
}

/// The first error in an answer, which must be the same byte by byte.
pub fn hear_badly(wire: &[u8]) -> Error {
    let (told, result) = hear(&mut expecting(), [wire]);
    let mut decoder = expecting();
    let (by_bytes, same) = hear(&mut decoder, wire.chunks(1));
    assert_eq!((&told, result), (&by_bytes, same));
    let error = result.expect_err("refused");
    decoder.begin();
    assert_eq!(decoder.next(&mut [].as_slice()), Err(error), "it stays refused");
    assert!(!decoder.is_idle());
    error
}

/// Cuts bytes at the given lengths, over and over until nothing is left.
pub fn cut<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut lengths = lengths.iter().cycle();
    while !bytes.is_empty() {
        let length = lengths.next().map_or(bytes.len(), |length| (*length).clamp(1, bytes.len()));
        let (piece, rest) = bytes.split_at(length);
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// The records of what an encoder wrote: kind, id, content. Fails if a record is not as we promise: version, zero in the
/// reserved byte, no padding (nginx holds an answer's head back for it).
pub fn records(mut wire: &[u8]) -> Vec<(u8, u16, Vec<u8>)> {
    let mut records = Vec::new();
    while !wire.is_empty() {
        let (header, rest) = wire.split_first_chunk::<8>().expect("a whole header");
        assert_eq!((header[0], header[7]), (1, 0), "version, reserved byte");
        let content = usize::from(u16::from_be_bytes([header[4], header[5]]));
        assert_eq!(header[6], 0, "padding");
        let (body, rest) = rest.split_at_checked(content).expect("the whole content");
        records.push((header[1], u16::from_be_bytes([header[2], header[3]]), body.to_vec()));
        wire = rest;
    }
    records
}
