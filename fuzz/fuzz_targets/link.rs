//! The link, both directions: any bytes, cut anywhere. What is read can be said again, and is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steadfast_proto::link::{Counts, Decoder, Error, FromWorker, ToWorker, encode};

macro_rules! listen {
    ($name:ident, $message:ty) => {
        fn $name(mut bytes: &[u8], cut: usize) -> (Vec<Result<$message, Error>>, Counts) {
            let mut decoder = Decoder::<$message>::new();
            let mut heard = Vec::new();
            while !bytes.is_empty() {
                let (mut piece, rest) = bytes.split_at(cut.clamp(1, bytes.len()));
                bytes = rest;
                while let Some(message) = decoder.next(&mut piece) {
                    if let Ok(message) = &message {
                        let line = encode(message).expect("as short as what was read");
                        let mut again = line.as_slice();
                        let mut other = Decoder::<$message>::new();
                        assert_eq!(other.next(&mut again), Some(Ok(message.clone())));
                        assert!(again.is_empty());
                    }
                    heard.push(message);
                }
                assert!(piece.is_empty());
            }
            (heard, decoder.counts())
        }
    };
}
listen!(from_worker, FromWorker);
listen!(to_worker, ToWorker);

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let cut = usize::from(cut);
    assert_eq!(from_worker(bytes, cut), from_worker(bytes, bytes.len()));
    assert_eq!(to_worker(bytes, cut), to_worker(bytes, bytes.len()));
});
