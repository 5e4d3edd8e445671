//! The head of a worker's answer: any bytes, cut anywhere; the two readers agree, and nothing gets through that frames.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// What a worker would say, by its number: a fuzzer seldom finds the words by itself.
const WORDS: [&[u8]; 16] = [
    b"Status: 200 OK\r\n",
    b"Status: ",
    b"Location: /",
    b"Content-Length: 5\r\n",
    b"Content-Type: text/plain\r\n",
    b"\r\n",
    b"\n",
    b"HTTP/1.1 404 Not Found\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b": ",
    b" ",
    b"\t",
    b"X-Accel-Redirect: /x\r\n",
    b"\0",
    b"Connection: x\r\n",
    b"Set-Cookie: a=b\r\n",
];

fuzz_target!(|data: &[u8]| {
    let Some((&cut, data)) = data.split_first() else { return };
    let mut head = Vec::new();
    for byte in data {
        match byte {
            0x80..=0x8f => head.extend_from_slice(WORDS[usize::from(byte & 15)]),
            byte => head.push(*byte),
        }
    }
    let _ = steadfast_front::fuzzing::head(&head, usize::from(cut));
    let _ = steadfast_front::fuzzing::head(data, usize::from(cut));
});
