//! Properties of the front under clients that send anything: no input makes a second request, and nobody else is hurt.

mod hostile;
mod support;

use hostile::{Peer, all_over, begin, record, request_of, site, usual, visit};
use proptest::collection::vec;
use proptest::prelude::*;
use steadfast_proto::fcgi::record::{kind, role};

/// What a client sends.
#[derive(Clone, Debug)]
enum Piece {
    /// A request: its body, in records of so many bytes, with so much padding.
    Real(Vec<u8>, usize, u8),
    /// Something that is none.
    Noise(Vec<u8>),
}

fn forged() -> Vec<u8> {
    request_of(1, &usual("GET", "/forged", &[(b"PHP_VALUE", b"x=y")]), b"forged")
}

/// Bytes that look like records to whoever has lost count.
fn bait() -> impl Strategy<Value = Vec<u8>> {
    (0usize..16, prop_oneof![4 => 0usize..2_000, 1 => 60_000usize..70_000], vec(any::<u8>(), 0..8)).prop_map(
        |(shift, length, dirt)| {
            let forged = forged();
            dirt.into_iter().chain(forged.into_iter().cycle().skip(shift).take(length)).collect()
        },
    )
}

fn piece() -> impl Strategy<Value = Piece> {
    let sizes = prop_oneof![Just(65_535usize), 1usize..64, 1_000usize..9_000];
    let noise = (prop_oneof![Just(kind::STDIN), Just(kind::PARAMS), Just(kind::DATA)], bait(), any::<u8>());
    prop_oneof![
        3 => (bait(), sizes, any::<u8>()).prop_map(|(body, size, padding)| Piece::Real(body, size, padding)),
        2 => noise.prop_map(|(kind, mut bytes, padding)| {
            bytes.truncate(65_535);
            Piece::Noise(record(kind, 60_000, &bytes, padding))
        }),
        1 => Just(Piece::Noise(record(kind::ABORT_REQUEST, 60_001, b"", 255))),
    ]
}

/// A record whose padding is bait, too.
fn baited(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let mut out = record(kind, id, content, padding);
    let at = out.len() - usize::from(padding);
    let bait: Vec<u8> = forged().into_iter().cycle().take(usize::from(padding)).collect();
    out[at..].copy_from_slice(&bait);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Smuggling: whatever bodies, padding and strays are made of, and however they are cut, the workers get the
    /// requests that were sent, each with its own body, and not one more. (They look at each byte: `take`.)
    #[test]
    fn no_input_makes_a_second_request(pieces in vec(piece(), 1..8), chunk in prop_oneof![1usize..50, 1_000usize..200_000]) {
        let (scene, workers) = site(2);
        let mut peer = Peer::of(&scene);
        let (mut wire, mut expected) = (Vec::new(), Vec::new());
        for (number, piece) in pieces.into_iter().enumerate() {
            match piece {
                Piece::Noise(bytes) => wire.extend(bytes),
                Piece::Real(body, size, padding) => {
                    let (id, uri, length) = (number as u16 + 1, format!("/real/{number}"), body.len().to_string());
                    let params = usual("POST", &uri, &[(b"CONTENT_LENGTH", length.as_bytes())]);
                    wire.extend(begin(id, role::RESPONDER, true));
                    wire.extend(params.chunks(size.max(16)).flat_map(|part| baited(kind::PARAMS, id, part, padding)));
                    wire.extend(baited(kind::PARAMS, id, b"", padding));
                    wire.extend(body.chunks(size).flat_map(|part| baited(kind::STDIN, id, part, padding)));
                    wire.extend(baited(kind::STDIN, id, b"", padding));
                    expected.push((uri, body));
                }
            }
        }
        let mut writer = peer.stream.try_clone().expect("a second handle");
        let sender = std::thread::spawn(move || {
            wire.chunks(chunk).for_each(|part| std::io::Write::write_all(&mut writer, part).expect("the front reads"));
        });
        for _ in 0..expected.len() {
            let told = peer.told().expect("an answer");
            prop_assert_eq!(told.refusal().0, 200);
        }
        sender.join().expect("sent");
        drop(peer);
        let mut got: Vec<(String, Vec<u8>)> = Vec::new();
        for worker in &workers {
            let taken = worker.taken.lock().expect("it lives");
            got.extend(taken.iter().map(|taken| (taken.all("REQUEST_URI").concat(), taken.body.clone())));
        }
        got.sort();
        prop_assert!(got == expected, "{} requests came instead of {}", got.len(), expected.len());
        all_over(scene, workers);
    }

    /// Any bytes, in any pieces, from several at once: the front lives, and others are served meanwhile and afterwards.
    #[test]
    fn any_bytes_of_clients_hurt_nobody_else(
        clients in vec((vec((any::<u8>(), 0u16..4, vec(any::<u8>(), 0..40), any::<u8>(), any::<bool>()), 0..12), 1usize..90), 1..5),
    ) {
        let (scene, workers) = site(2);
        let mut open = Vec::new();
        for (number, (fragments, chunk)) in clients.into_iter().enumerate() {
            let mut wire = begin(1, role::RESPONDER, true);
            for (kind, id, content, padding, is_record) in fragments {
                wire.extend(if is_record { record(kind % 14, id, &content, padding) } else { content });
            }
            let peer = Peer::of(&scene);
            let mut stream = &peer.stream;
            // It may be closed at any of them.
            let _ = wire.chunks(chunk).try_for_each(|part| std::io::Write::write_all(&mut stream, part));
            visit(&scene, &format!("/good/{number}"));
            open.push(peer);
        }
        drop(open);
        visit(&scene, "/at/last");
        all_over(scene, workers);
    }
}
