//! The whole way of an event, in every format.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn at(now: u64) -> Moment {
    Moment { now, wall: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_449_600_123) + Duration::from_nanos(now) }
}

fn log(format: Format) -> (Log, OwnedFd) {
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    let (reader, writer) = rustix::pipe::pipe_with(flags).expect("pipe");
    rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK).expect("flags");
    (Log::with_stream(format, Level::Info, false, writer), reader)
}

fn written(reader: &OwnedFd) -> String {
    let mut buffer = [0u8; 65_536];
    let count = rustix::io::read(reader, &mut buffer).unwrap_or(0);
    String::from_utf8(buffer[..count].to_vec()).expect("UTF-8")
}

fn crash() -> Event {
    Event::new(Kind::WorkerExited)
        .pool(&Arc::from("site"))
        .generation(3)
        .slot(1)
        .pid(42)
        .class("crashed")
        .signal(11)
        .request("GET /y\nforged")
        .ran(Duration::from_millis(1200))
        .stderr(vec!["Segmentation fault".to_owned()])
        .failure()
}

#[test]
fn a_person_reads_when_where_what_and_why() {
    let (mut log, reader) = log(Format::Human);
    log.emit(at(0), crash());
    assert_eq!(
        written(&reader),
        "2026-11-23T16:00:00.123Z site/1 g3 [42] worker-exited crashed, SIGSEGV, after 1.2 s, serving GET /y\\nforged\n  \
         | Segmentation fault\n"
    );
    for _ in 0..412 {
        log.emit(at(1), crash());
    }
    assert_eq!(written(&reader), "");
    log.flush(at(SECOND));
    let text = written(&reader);
    assert!(text.ends_with(" ×412 in 1 s\n") && text.lines().count() == 1, "{text}");
}

#[test]
fn a_program_reads_one_object_a_line() {
    let (mut log, reader) = log(Format::Json);
    log.emit(at(0), crash());
    log.emit(at(0), Event::new(Kind::BreakerOpened).pool(&Arc::from("site")).reason("10 failures in 90 s"));
    let text = written(&reader);
    let objects: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(objects.len(), 2);
    assert_eq!(
        objects[0],
        serde_json::json!({"time": "2026-11-23T16:00:00.123Z", "event": "worker-exited", "level": "warning",
            "pool": "site", "generation": 3, "slot": 1, "pid": 42, "class": "crashed", "signal": "SIGSEGV",
            "request": "GET /y\nforged", "ran_ms": 1200, "stderr": ["Segmentation fault"]})
    );
    assert_eq!(objects[1]["reason"], "10 failures in 90 s");
    let remembered: Vec<_> = log.ring().since(0).map(super::super::event::Stamped::to_json).collect();
    assert!(remembered[0].starts_with("{\"sequence\":1,"), "{}", remembered[0]);
}

#[test]
fn the_journal_gets_fields_that_cannot_be_forged() {
    let entry = journald::datagram(&crash());
    let text = String::from_utf8_lossy(&entry);
    for line in [
        "PRIORITY=4\n",
        "SYSLOG_IDENTIFIER=steadfast\n",
        "STEADFAST_EVENT=worker-exited\n",
        "STEADFAST_POOL=site\n",
        "STEADFAST_SLOT=1\n",
        "STEADFAST_CLASS=crashed\n",
        "STEADFAST_SIGNAL=SIGSEGV\n",
        "STEADFAST_RAN_MS=1200\n",
    ] {
        assert!(text.contains(&format!("\n{line}")), "{line} in {text}");
    }
    assert!(text.contains(&format!("\nMESSAGE_ID={}\n", Kind::WorkerExited.message_id())));
    // The request has a newline: name, newline, length as 64 bits, value, newline.
    let field = [&b"\nSTEADFAST_REQUEST\n"[..], &13u64.to_le_bytes(), b"GET /y\nforged\n"].concat();
    assert!(entry.windows(field.len()).any(|window| window == field), "{text}");
    assert!(entry.starts_with(b"MESSAGE\n"), "it has lines of output");
    let big = crash().stderr(vec!["x\n".repeat(100_000)]);
    assert!(journald::datagram(&big).len() < 140_000, "a datagram has an end");
}

#[test]
fn quiet_and_low_events_are_only_remembered() {
    let (mut log, reader) = log(Format::Human);
    log.emit(at(0), Event::new(Kind::WorkerStarted).quiet());
    log.emit(at(0), Event::new(Kind::WorkerStatus).level(Level::Debug));
    log.relay(at(0), Event::new(Kind::WorkerOutput).message("hello"), true);
    assert_eq!(log.ring().since(0).count(), 2);
    assert!(written(&reader).ends_with("steadfast worker-output: hello\n"));
    assert_eq!(log.next_deadline(), None);
}

#[test]
fn what_was_lost_is_said_when_the_reader_is_back() {
    let (mut log, reader) = log(Format::Human);
    for _ in 0..300 {
        log.relay(at(0), Event::new(Kind::WorkerOutput).message("x".repeat(4000)), true);
    }
    log.relay(at(0), Event::new(Kind::WorkerOutput).message("x".repeat(4000)), true);
    assert!(log.blocked_fd().is_some());
    let mut text = String::new();
    while log.blocked_fd().is_some() {
        text.push_str(&written(&reader));
        log.drain(at(SECOND));
    }
    text.push_str(&written(&reader));
    text.push_str(&written(&reader));
    let shown = text.lines().filter(|line| line.contains("worker-output")).count();
    let said = text.lines().last().expect("a last line");
    assert!(said.contains(&format!(" {} log entries were dropped", 301 - shown)), "{said}");
}

#[test]
fn the_end_writes_what_waits() {
    let (mut log, reader) = log(Format::Human);
    for _ in 0..3 {
        log.emit(at(0), crash());
    }
    log.close(at(1));
    assert!(written(&reader).trim_end().ends_with("×2 in 0 ms"));
}

#[test]
fn colours_stand_around_the_words_of_loud_events_only() {
    let stamped = |kind: Kind| {
        let mut ring = Ring::new();
        ring.push(at(0).wall, Event::new(kind));
        ring.since(0).next().expect("one").to_human(true)
    };
    assert!(stamped(Kind::PoolDown).contains("\u{1b}[1;31mpool-down\u{1b}[0m"));
    assert!(!stamped(Kind::PoolServing).contains('\u{1b}'));
}

#[test]
fn the_journals_stream_is_known_by_device_and_inode() {
    let file = std::fs::File::open("/dev/null").expect("open");
    let stat = rustix::fs::fstat(&file).expect("stat");
    assert!(is_stream(file.as_fd(), &format!("{}:{}", stat.st_dev, stat.st_ino)));
    for other in ["", "1:2", "x:y", &format!("{}:{}", stat.st_dev, stat.st_ino + 1)] {
        assert!(!is_stream(file.as_fd(), other), "{other}");
    }
}
