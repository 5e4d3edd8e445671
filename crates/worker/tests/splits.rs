//! However a conversation is cut, by records and by reads, it means the same.

mod support;

use std::os::fd::OwnedFd;

use proptest::prelude::*;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use steadfast_proto::fcgi::record::kind;
use support::wire::{Reply, Wire, pairs_of};
use support::{desk, echo};

/// Each piece is what one read of the worker brings: sockets of this kind keep them apart.
fn serve<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs): (OwnedFd, OwnedFd) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a pair");
    for piece in pieces {
        rustix::net::send(&ours, piece, SendFlags::DONTWAIT).expect("room");
    }
    rustix::net::shutdown(&ours, Shutdown::Write).expect("open");
    desk().serve(theirs, u64::MAX, &mut echo, None).expect("it goes on");
    let (mut said, mut bytes) = (Vec::new(), vec![0; 200_000]);
    while let Ok((got @ 1.., _)) = rustix::net::recv(&ours, &mut bytes[..], RecvFlags::DONTWAIT) {
        said.extend_from_slice(&bytes[..got]);
    }
    said
}

/// Two requests with everything in them, on one connection.
fn conversation() -> Vec<u8> {
    let stream = pairs_of(&[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "7"), ("HTTP_A", "a"), ("HTTP_A", "b")]);
    let (first, second) = stream.split_at(20);
    Wire::new()
        .padded(kind::GET_VALUES, 0, b"\x0e\0FCGI_MAX_CONNS", 3)
        .responder(true)
        .padded(kind::PARAMS, 1, first, 5)
        .record(kind::PARAMS, 1, second)
        .padded(kind::PARAMS, 1, b"", 2)
        .padded(kind::STDIN, 1, b"123", 1)
        .record(kind::STDIN, 1, b"4567")
        .record(kind::STDIN, 1, b"")
        .join(Wire::new().get("/second", false))
        .0
}

#[test]
fn a_conversation_that_is_cut_anywhere_is_the_same_conversation() {
    let wire = conversation();
    let whole = serve([&wire[..]]);
    let reply = Reply::parse(&whole);
    assert_eq!(reply.answers()[0].text(), "REQUEST_METHOD=POST\nCONTENT_LENGTH=7\nHTTP_A=a, b\n\n1234567");
    assert_eq!(reply.answers().len(), 2);
    assert_eq!(serve(wire.chunks(1)), whole, "byte by byte");
    for cut in 1..wire.len() {
        let (first, second) = wire.split_at(cut);
        assert_eq!(serve([first, second]), whole, "cut at {cut}");
    }
}

#[test]
fn a_conversation_that_ends_anywhere_is_answered_as_far_as_it_goes() {
    let wire = conversation();
    let whole = Reply::parse(&serve([&wire[..]]));
    for end in 0..wire.len() {
        let reply = Reply::parse(&serve([&wire[..end]]));
        assert_eq!(reply.rest, 0, "a record was cut");
        assert!(whole.records.starts_with(&reply.records), "ended at {end}: {reply:?}");
    }
}

/// A stream cut into records with padding.
fn cut(wire: Wire, kind: u8, stream: &[u8], cuts: &[(usize, u8)]) -> Wire {
    let (mut wire, mut rest) = (wire, stream);
    for &(length, padding) in cuts {
        let (now, later) = rest.split_at(rest.len().min(length));
        if !now.is_empty() {
            wire = wire.padded(kind, 1, now, padding);
        }
        rest = later;
    }
    rest.chunks(65_535).fold(wire, |wire, piece| wire.record(kind, 1, piece)).record(kind, 1, b"")
}

fn pair() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    // Of some lengths around where the form changes.
    let length = prop_oneof![0..20_usize, 126..130_usize, Just(3000_usize)];
    (
        prop::collection::vec(any::<u8>(), 0..10),
        length.prop_flat_map(|length| prop::collection::vec(any::<u8>(), length)),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parameters_and_bodies_arrive_as_they_were_however_they_are_cut(
        pairs in prop::collection::vec(pair(), 0..8),
        body in prop::collection::vec(any::<u8>(), 0..5000),
        params_cuts in prop::collection::vec((1..700_usize, any::<u8>()), 0..8),
        body_cuts in prop::collection::vec((1..700_usize, any::<u8>()), 0..8),
        reads in prop::collection::vec(1..2000_usize, 1..30),
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (name, value) in pairs.iter().filter(|(name, _)| !name.starts_with(b"HTTP_") && name != b"CONTENT_LENGTH") {
            steadfast_proto::fcgi::params::push_pair(&mut stream, name, value).expect("short");
            expected.extend([name, &b"="[..], value, b"\n"].concat());
        }
        expected.extend([b"\n", &body[..]].concat());
        let wire = Wire::new().responder(true);
        let wire = cut(cut(wire, kind::PARAMS, &stream, &params_cuts), kind::STDIN, &body, &body_cuts).0;
        let mut rest = &wire[..];
        let mut pieces = Vec::new();
        for length in reads {
            let (now, later) = rest.split_at(rest.len().min(length));
            pieces.push(now);
            rest = later;
        }
        pieces.push(rest);
        let said = serve(pieces.into_iter().filter(|piece| !piece.is_empty()));
        prop_assert_eq!(Reply::parse(&said).one().body, expected);
    }

    #[test]
    fn no_bytes_at_all_make_a_worker_say_anything_but_records(wire in prop::collection::vec(any::<u8>(), 0..200), cut in 1..50_usize) {
        Reply::parse(&serve(wire.chunks(cut)));
    }
}
