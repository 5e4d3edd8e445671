//! A web server's connection: any bytes, cut anywhere. Events come in order, memory is bounded, the cut means nothing.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use steadfast_proto::fcgi::Error;
use steadfast_proto::fcgi::request::{Event, Limits, RequestDecoder};

const LIMITS: Limits = Limits { requests: 3, params: 400, records: 40, management: 100 };

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Params,
    Stdin,
    Data,
    Complete,
    TooLarge,
}

/// What a connection says, pieces joined, and whether it was refused.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    events: Vec<(u8, u16, Vec<u8>)>,
    error: Option<Error>,
}

/// When the application ends a request, besides at its abort or refusal.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Never,
    Complete,
    /// In the middle of a record, perhaps: then the cut does matter.
    AtAnE,
}

fn listen(wire: &[u8], cut: usize, end: End) -> Heard {
    let mut decoder = RequestDecoder::new(LIMITS);
    let mut heard = Heard::default();
    let mut living: BTreeMap<u16, (Stage, usize)> = BTreeMap::new();
    let mut given = 0;
    for piece in wire.chunks(cut.max(1)) {
        let mut input = piece;
        loop {
            let before = input.len();
            let event = match decoder.next(&mut input) {
                Ok(Some(event)) => event,
                Ok(None) => {
                    assert!(input.is_empty());
                    break;
                }
                Err(error) => {
                    assert_eq!(decoder.next(&mut input), Err(error));
                    assert!(!decoder.is_idle());
                    heard.error = Some(error);
                    return heard;
                }
            };
            assert!(input.len() <= before);
            assert!(decoder.memory() <= 16 * 4 + 256, "{}", decoder.memory());
            let (number, id, bytes): (u8, u16, &[u8]) = match event {
                Event::Begin { id, role, keep } => {
                    let new = living.insert(id, (Stage::Params, 0));
                    assert!(id != 0 && new.is_none() && living.len() <= LIMITS.requests);
                    heard.events.push((1, id, vec![role as u8, (role >> 8) as u8, u8::from(keep)]));
                    continue;
                }
                Event::Refused { id, .. } => {
                    assert!(living.len() == LIMITS.requests && !living.contains_key(&id));
                    (2, id, &[])
                }
                Event::Params { id, bytes } => (3, id, bytes),
                Event::ParamsEnd { id } => (4, id, &[]),
                Event::Stdin { id, bytes } => (5, id, bytes),
                Event::StdinEnd { id } => (6, id, &[]),
                Event::Data { id, bytes } => (7, id, bytes),
                Event::DataEnd { id } => (8, id, &[]),
                Event::Abort { id } => (9, id, &[]),
                Event::TooLarge { id } => (10, id, &[]),
                Event::GetValues(asked) => (
                    11,
                    u16::from(asked.max_conns) + 2 * u16::from(asked.max_reqs) + 4 * u16::from(asked.mpxs_conns),
                    &[],
                ),
                Event::Unknown { kind } => (12, u16::from(kind), &[]),
            };
            given += bytes.len();
            if (3..=10).contains(&number) {
                let (stage, params) = living.get_mut(&id).expect("a living request");
                match number {
                    3 => {
                        assert!(*stage == Stage::Params && !bytes.is_empty());
                        *params += bytes.len();
                        assert!(*params <= LIMITS.params);
                    }
                    4 => {
                        assert_eq!(*stage, Stage::Params);
                        *stage = Stage::Stdin;
                    }
                    5 => assert!(*stage == Stage::Stdin && !bytes.is_empty()),
                    6 => {
                        assert_eq!(*stage, Stage::Stdin);
                        *stage = Stage::Data;
                    }
                    7 => assert!(*stage == Stage::Data && !bytes.is_empty()),
                    8 => {
                        assert_eq!(*stage, Stage::Data);
                        *stage = Stage::Complete;
                    }
                    10 => {
                        assert_eq!(*stage, Stage::Params);
                        *stage = Stage::TooLarge;
                    }
                    _ => {}
                }
            }
            match heard.events.last_mut() {
                Some((same, whose, have)) if !bytes.is_empty() && (*same, *whose) == (number, id) => have.extend(bytes),
                _ => heard.events.push((number, id, bytes.to_vec())),
            }
            if number >= 9 && number <= 10
                || number == 6 && end == End::Complete
                || bytes.first() == Some(&b'E') && end == End::AtAnE
            {
                decoder.end(id);
                assert!(living.remove(&id).is_some());
            }
            assert_eq!(decoder.active(), living.len());
            assert!(living.is_empty() || !decoder.is_idle());
        }
    }
    assert!(given <= wire.len());
    heard
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, wire)) = data.split_first() else { return };
    let (length, end) = (usize::from(cut & 0x3f), cut >> 6);
    match end {
        0 | 1 => {
            let end = if end == 0 { End::Never } else { End::Complete };
            assert_eq!(listen(wire, wire.len(), end), listen(wire, length, end));
        }
        _ => {
            listen(wire, length, End::AtAnE);
        }
    }
});
