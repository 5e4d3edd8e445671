//! Round trips, cuts at every byte and garbage.

use super::*;
use proptest::prelude::*;

fn read<M: Decode>(bytes: &[u8]) -> Vec<Result<M, Error>> {
    let mut decoder = Decoder::new();
    feed(&mut decoder, bytes)
}

fn feed<M: Decode>(decoder: &mut Decoder<M>, mut bytes: &[u8]) -> Vec<Result<M, Error>> {
    let mut out = Vec::new();
    while let Some(item) = decoder.next(&mut bytes) {
        out.push(item);
    }
    out
}

fn words() -> Vec<FromWorker> {
    let failure =
        Failure { code: Some(3), name: Some("EX_FCGI_ACCEPT".into()), message: Some("accept: \n€\"".into()) };
    vec![
        FromWorker::Hello(Hello { version: VERSION, pid: 77, role: Role::Worker, concurrency: 1 }),
        FromWorker::Hello(Hello { version: VERSION, pid: 78, role: Role::Zygote, concurrency: 4 }),
        FromWorker::Ready,
        FromWorker::Failed(failure.clone()),
        FromWorker::Broken(failure),
        FromWorker::Broken(Failure::default()),
        FromWorker::Unavailable(Unavailable { name: Some("db".into()), message: None, retry_after_ms: Some(500) }),
        FromWorker::Recycle,
        FromWorker::Status { text: "idle".into() },
        FromWorker::Forked { slot: 2, pid: 79 },
        FromWorker::ForkFailed { slot: 2, message: "EAGAIN".into(), errno: Some(11) },
        FromWorker::ForkFailed { slot: 2, message: "it died".into(), errno: None },
    ]
}

fn garbage_count(bytes: &[u8]) -> Counts {
    let mut decoder = Decoder::<FromWorker>::new();
    feed(&mut decoder, bytes);
    decoder.counts()
}

#[test]
fn the_lines_of_the_interface_are_understood() {
    let lines = concat!(
        r#"{"type":"hello","version":1,"pid":12,"role":"worker","concurrency":1}"#,
        "\n",
        r#"{"type":"failed","code":3,"name":"EX_FCGI_ACCEPT","message":"x"}"#,
        "\r\n",
        "\n",
        r#"{"message":"m","type":"fork-failed","slot":1,"more":[1,{"a":2}]}"#,
        "\n",
    );
    let items = read::<FromWorker>(lines.as_bytes());
    assert_eq!(items.len(), 3, "{items:?}");
    assert!(items.iter().all(Result::is_ok), "{items:?}");
}

#[test]
fn every_message_round_trips_at_every_cut() {
    let mut stream = Vec::new();
    for word in words() {
        stream.extend(encode(&word).expect("short"));
    }
    let expected: Vec<_> = words().into_iter().map(Ok).collect();
    for cut in 0..=stream.len() {
        let mut decoder = Decoder::new();
        let mut items = feed(&mut decoder, &stream[..cut]);
        items.extend(feed(&mut decoder, &stream[cut..]));
        assert_eq!(items, expected, "cut at {cut}");
    }
    let mut decoder = Decoder::new();
    let items: Vec<_> = stream.iter().flat_map(|byte| feed(&mut decoder, std::slice::from_ref(byte))).collect();
    assert_eq!(items, expected);
    assert_eq!(decoder.counts().messages, expected.len() as u64);
}

#[test]
fn orders_round_trip() {
    let bare = Fork { slot: 1, path: None, stdout: None, stderr: None, link: None };
    let full = Fork {
        slot: 2,
        path: Some("/run/x".into()),
        stdout: Some("/run/x.out".into()),
        stderr: Some("/run/x.err".into()),
        link: Some("/run/x.link".into()),
    };
    for order in [ToWorker::Drain, ToWorker::Quit, ToWorker::Fork(bare), ToWorker::Fork(full)] {
        assert_eq!(read(&encode(&order).expect("short")), [Ok(order)]);
    }
}

#[test]
fn unknown_types_are_ignored_and_counted() {
    let mut decoder = Decoder::<FromWorker>::new();
    let items = feed(&mut decoder, b"{\"type\":\"sing\",\"pid\":-1}\n{\"type\":\"ready\"}\n");
    assert_eq!(items, [Ok(FromWorker::Ready)]);
    assert_eq!(decoder.counts(), Counts { messages: 1, ignored: 1, ..Counts::default() });
}

#[test]
fn a_long_line_is_told_once_and_the_next_line_counts() {
    let mut stream = vec![b'['; 10 * 1024 * 1024];
    stream.extend(b"\n{\"type\":\"ready\"}\n");
    assert_eq!(read(&stream), [Err(Error::TooLong), Ok(FromWorker::Ready)]);
    assert_eq!(garbage_count(&stream).too_long, 1);
}

#[test]
fn deep_nesting_is_garbage_and_no_stack_overflow() {
    let mut stream = vec![b'['; LINE_MAX - 1];
    stream.push(b'\n');
    assert_eq!(garbage_count(&stream).garbage, 1);
    let mut stream = b"{\"type\":\"ready\",\"x\":".to_vec();
    stream.resize(LINE_MAX, b'[');
    stream.push(b'\n');
    assert_eq!(garbage_count(&stream).garbage, 1);
}

#[test]
fn another_version_is_told_once_and_then_not_listened_to() {
    let stream = b"{\"type\":\"hello\",\"version\":2,\"pid\":{}}\n{\"type\":\"ready\"}\nrubbish\n";
    let mut decoder = Decoder::<FromWorker>::new();
    assert_eq!(feed(&mut decoder, stream), [Err(Error::Version(2))]);
    assert_eq!(decoder.counts().ignored, 2);
    assert_eq!(decoder.counts().other_version, 1);
}

#[test]
fn values_out_of_range_are_garbage() {
    for line in [
        r#"{"type":"hello","version":1,"pid":0,"role":"worker"}"#,
        r#"{"type":"hello","version":1,"pid":4294967295,"role":"worker"}"#,
        r#"{"type":"hello","version":1,"pid":5,"role":"king"}"#,
        r#"{"type":"hello","version":1,"pid":5,"role":"worker","concurrency":0}"#,
        r#"{"type":"failed","code":256}"#,
        r#"{"type":"forked","slot":-1,"pid":5}"#,
        r#"{"type":"forked","slot":1,"pid":0}"#,
        r#"{"type":7}"#,
        r#"{"type":"ready"} trailing"#,
        "7",
        "\u{0}",
    ] {
        let counts = garbage_count(format!("{line}\n").as_bytes());
        assert_eq!((counts.garbage, counts.messages), (1, 0), "{line}");
    }
}

#[test]
fn long_texts_are_shortened() {
    let line = format!("{{\"type\":\"failed\",\"name\":\"{0}\",\"message\":\"{0}\"}}\n", "ä".repeat(6000));
    let items = read::<FromWorker>(line.as_bytes());
    let [Ok(FromWorker::Failed(failure))] = &items[..] else { panic!("{items:?}") };
    assert_eq!(failure.name.as_ref().map(String::len), Some(NAME_MAX));
    assert_eq!(failure.message.as_ref().map(String::len), Some(TEXT_MAX));
}

#[test]
fn the_reason_of_garbage_is_short_and_clean() {
    let line = format!("{{\"type\":\"hello\",\"version\":1,\"pid\":5,\"role\":\"{}\"}}\n", "\\u001b[31m".repeat(2000));
    let items = read::<FromWorker>(line.as_bytes());
    let [Err(Error::Garbage { reason })] = &items[..] else { panic!("{items:?}") };
    assert!(reason.len() <= 240 && !reason.contains(char::is_control), "{reason:?}");
}

#[test]
fn a_message_that_cannot_be_read_back_is_not_written() {
    assert_eq!(encode(&FromWorker::Status { text: "x".repeat(LINE_MAX) }), None);
}

proptest! {
    /// Garbage never stops the decoder: a good message after it is understood.
    #[test]
    fn after_any_garbage_the_next_line_is_understood(mut stream in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut decoder = Decoder::<FromWorker>::new();
        feed(&mut decoder, &stream);
        prop_assert_eq!(decoder.counts().messages, 0);
        stream.clear();
        stream.extend(b"\n{\"type\":\"recycle\"}\n");
        let items = feed(&mut decoder, &stream);
        prop_assert_eq!(items.last(), Some(&Ok(FromWorker::Recycle)));
    }

    /// Near misses: one byte of a good message changed never panics.
    #[test]
    fn one_changed_byte_never_panics(which in 0_usize..11, at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut line = encode(&words()[which]).expect("short");
        let at = at.index(line.len());
        line[at] = byte;
        let items = read::<FromWorker>(&line);
        prop_assert!(items.len() <= 2);
    }
}
