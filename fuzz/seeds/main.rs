//! Writes corpora to start from: valid conversations, made by the encoder. The first byte of each is the cut.

// Whatever is built for the fuzzer calls its runtime.
use libfuzzer_sys as _;

use std::fs;
use std::path::Path;

use std::ops::ControlFlow;

use steadfast_fuzz::journal::{Kept, journal};
use steadfast_guard::journal::{Query, read};
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
    for (target, name, bytes) in others().into_iter().chain(journals()).chain(imports()) {
        let directory = corpus.join(target);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(name), bytes)?;
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

/// Lines, packets and files as they are said by us.
fn others() -> Vec<(&'static str, String, Vec<u8>)> {
    let link = [
        r#"{"type":"hello","version":1,"pid":4711,"role":"worker","concurrency":1}"#,
        r#"{"type":"failed","code":3,"name":"EX_FCGI_ACCEPT","message":"m"}"#,
        r#"{"type":"unavailable","name":"db","message":"m","retry_after_ms":2000}"#,
        r#"{"type":"fork-failed","slot":3,"message":"m","errno":11}"#,
        r#"{"type":"fork","slot":3,"path":"p","stdout":"o","stderr":"e","link":"l"}"#,
        "{\"type\":\"forked\",\"slot\":3,\"pid\":4711}\n{\"type\":\"term\",\"pid\":4711}\n{\"type\":\"broken\"}",
        "{\"type\":\"ready\"}\n{\"type\":\"recycle\"}\n{\"type\":\"status\",\"text\":\"t\"}\n{\"type\":\"drain\"}\n{\"type\":\"quit\"}",
    ];
    let control = [
        r#"{"type":"status","pool":"main"}"#,
        r#"{"type":"events","n":10,"follow":true}"#,
        r#"{"type":"reload","wait":true,"timeout_ms":5000}"#,
        r#"{"type":"scale","pool":"main","min":1,"max":2}"#,
        r#"{"type":"breaker","pool":"main","action":"trip"}"#,
        r#"{"type":"done","text":"t","ok":true}"#,
        r#"{"type":"error","code":"usage","message":"m","ok":false}"#,
    ];
    let channel = [
        r#"{"type":"ready","version":1}"#,
        r#"{"type":"load","pool":1,"idle":1,"busy":1,"waiting":0,"oldest_ms":0,"served":1,"longest_idle":[1,2],"peak":1}"#,
        r#"{"type":"blame","worker":1,"request":{"key":1,"line":"GET /","id":"x","sent":1,"answered":0}}"#,
        r#"{"type":"note","kind":"slow","pool":1,"worker":1,"line":"GET /","id":"x","after_ms":1,"message":"m"}"#,
    ];
    let heads = ["Status: 404 Not Found\r\nContent-Type: a\r\n\r\n", "Location: /x\n\n", "HTTP/1.1 200 OK\r\n\r\n"];
    let configs = [
        include_str!("../../crates/config/tests/full.toml"),
        include_str!("../../crates/config/tests/interface.toml"),
        include_str!("../../crates/config/tests/many-errors.toml"),
    ];
    let mut all = Vec::new();
    let mut add = |target, texts: &[&str], prefix: &str| {
        for (number, text) in texts.iter().enumerate() {
            all.push((target, format!("seed-{number}"), format!("{prefix}{text}").into_bytes()));
        }
    };
    add("link", &link.map(|line| line), "\x05");
    add("control", &control, "");
    add("channel", &channel, "");
    add("cgi_head", &heads, "\x05");
    add("config", &configs, "");
    // Requests as records() understands them: a whole one, and one in its parts.
    let worker: [&[u8]; 3] = [
        b"\x07\x00\x05Qabcdbody!\x00\x00",
        b"\x00\x02\x00\x03\x04Qabc\x06\x00\x07\x05body!\x09\x00\x0b\x01",
        b"\x21\x02\x00\x06\x00\x07\x05body!\x02\xa0\x0a\x00\x00\x08",
    ];
    for (number, bytes) in worker.into_iter().enumerate() {
        all.push(("worker_connection", format!("seed-{number}"), bytes.to_vec()));
    }
    all.push(("fcgi_params", "seed-0".to_owned(), b"\x01\x01ab\x80\0\0\x01\x01xy\0\0".to_vec()));
    all
}

/// Files of Debian's packages and lines of the tests, behind the byte that chooses their kind.
fn imports() -> Vec<(&'static str, String, Vec<u8>)> {
    let kinds: [(u8, &str); 12] = [
        (0, "spawn-fcgi\n-s\n/run/a.sock\n-F\n3\n-u\nwww\n--\n/usr/bin/php-cgi\n-b\n9000"),
        (1, "-f\n4\n--\nenv\nA=1\nnice\n-n\n5\nsudo\n-u\nwww\n/srv/a.pl"),
        (2, include_str!("../../crates/import/tests/debian/etc/init.d/rt5-fcgi")),
        (2, include_str!("../../crates/import/tests/debian/run-generic")),
        (2, "A=\"x $B\"; . /etc/a\nexport C=${A:-2}\nspawn-fcgi -p 9000 -- /a $C >x 2>&1\0B=1\n. /b\n"),
        (3, include_str!("../../crates/import/tests/debian/run-php")),
        (
            4,
            "[supervisord]\nuser=u\nenvironment=A=\"1\",B=%(ENV_A)s\n[fcgi-program:a]\ncommand=/a %(program_name)s\n  -b\nsocket=unix:///run/%(here)s.sock\nnumprocs=2\n[include]\nfiles=/c/*.ini\n\0[program:b]\ncommand=spawn-fcgi -p 1 -- /b\n",
        ),
        (5, include_str!("../../crates/import/tests/debian/etc/php/8.2/fpm/pool.d/www.conf")),
        (
            5,
            "[a]\ninclude=/x/*.conf\nlisten=/run/$pool.sock\nuser=u\npm=dynamic\npm.max_children=5\nphp_value[a]=b c\nenv[X]=$X\n\0[b]\nlisten=9000\n",
        ),
        (6, include_str!("../../crates/import/tests/debian/units/sympasoap.service")),
        (
            6,
            "[Service]\nEnvironment=A=1 \"B=2 3\"\nEnvironmentFile=-/x\nExecStart=-/usr/bin/spawn-fcgi -p 9000 -- /a $A ${B} %i\nLimitNOFILE=5\n\0C='1'\n",
        ),
        (
            7,
            "[Service]\nUser=u\nExecStart=/usr/bin/multiwatch -f 3 -- /a\nStandardInput=socket\n\x01[Socket]\nListenStream=/run/a\nSocketMode=0600\n",
        ),
    ];
    let mut all = Vec::new();
    for (number, (kind, text)) in kinds.into_iter().enumerate() {
        for target in ["import", "import_long"] {
            all.push((target, format!("seed-{number}"), [&[kind], text.as_bytes()].concat()));
        }
    }
    all
}

/// Journal files in each form, which must be whole; and what journalctl would print of them.
fn journals() -> Vec<(&'static str, String, Vec<u8>)> {
    let entries: [&[&[u8]]; 7] = [
        &[b"MESSAGE=worker gone", b"_SYSTEMD_UNIT=a", b"N=1"],
        &[b"MESSAGE=a message that is long enough to be compressed, so it is", b"_SYSTEMD_UNIT=a", b"N=2"],
        &[b"MESSAGE=worker gone", b"_SYSTEMD_UNIT=b", b"N=3"],
        &[b"MESSAGE=hello", b"MESSAGE=twice", b"_SYSTEMD_UNIT=a"],
        &[b"MESSAGE=worker gone", b"_SYSTEMD_UNIT=a", b"N=1"],
        &[b"BINARY=\x00\xff\n", b"_SYSTEMD_UNIT=b"],
        &[b"MESSAGE=worker gone", b"_SYSTEMD_UNIT=a", b"N=7"],
    ];
    let mut all = Vec::new();
    for (number, (is_compact, kept)) in
        [(false, Kept::Plain), (true, Kept::Plain), (false, Kept::Lz4), (true, Kept::Zstd), (false, Kept::Zstd)]
            .into_iter()
            .enumerate()
    {
        let bytes = journal(&entries, is_compact, kept);
        let path = std::env::temp_dir().join(format!("steadfast-seed-{}.journal", std::process::id()));
        fs::write(&path, &bytes).expect("written");
        let mut messages = 0;
        let summary = read(std::slice::from_ref(&path), Query::default(), None, &mut |entry| {
            messages += usize::from(entry.field("MESSAGE").is_some_and(|value| value.is_ascii() && value.len() > 4));
            ControlFlow::Continue(())
        });
        fs::remove_file(&path).expect("removed");
        assert!(summary.troubles.is_empty(), "{}", summary.troubles[0]);
        assert_eq!((summary.entries, messages), (7, 6), "a seed is read whole");
        all.push(("journal_file", format!("seed-{number}"), bytes));
    }
    let texts: [&[u8]; 3] = [
        b"\x03__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=17\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\nN=1\n\n\nN=2\n\n",
        b"\x07{\"__CURSOR\":\"c\",\"__REALTIME_TIMESTAMP\":\"17\",\"MESSAGE\":[97,255],\"D\":[\"x\",[1],null],\"E\":null}\n{}\n",
        b"\x20A=1\n\n{\"A\":\"1\"}\n",
    ];
    for (number, text) in texts.into_iter().enumerate() {
        all.push(("journal_text", format!("seed-{number}"), text.to_vec()));
    }
    all
}
