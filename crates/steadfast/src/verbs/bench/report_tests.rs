//! The report as people and programs read it.

use std::time::Duration;

use super::super::tally::Fault;
use super::*;

fn report() -> Report {
    let mut tally = Tally::new();
    for micros in 1..=1000 {
        tally.answer(200, Duration::from_micros(micros), true, || None);
    }
    tally.answer(503, Duration::from_millis(2), true, || Some(b"queue-full"));
    tally.fault(Fault::Timeout, 2, || "no complete answer within 10s".to_owned());
    (tally.bytes_read, tally.bytes_written, tally.connects, tally.resent) = (2048, 4096, 3, 1);
    let outcome = Outcome { tally, elapsed: Duration::from_secs(2), was_interrupted: true };
    let setting = Setting {
        address: "unix:/x".to_owned(),
        path: "/a".to_owned(),
        method: "GET".to_owned(),
        connections: 4,
        keep_alive: true,
        rate: Some(501.5),
        request_bytes: 512,
    };
    Report { setting, outcome, cpu: 0.951 }
}

#[test]
fn people_see_rate_latency_and_failures_by_kind() {
    insta::assert_snapshot!(report().text(Style::default()), @r"
    GET /a of unix:/x: 501.5 requests a second, 4 connections, kept, 2.0 s
    requests/s    500.0
    requests      1003, 3 failed
    latency       p50 500µs  p90 900µs  p99 990µs  p99.9 1.00ms  max 1.00ms
    bytes         2.0 KiB read, 4.0 KiB written
    connections   3 made
    sent again    1: the kept connection had just been closed
    failed                1  status 503 queue-full     p50 2.00ms  p90 2.00ms  p99 2.00ms  p99.9 2.00ms  max 2.00ms
    failed                2  timeout                   no complete answer within 10s
    note: interrupted; this is what was measured until then
    note: this program used 95 % of a core: the server may be able to do more
    ");
}

#[test]
fn programs_read_one_document() {
    let text = report().json().expect("JSON");
    assert_eq!(text.matches('\n').count(), 1, "one line");
    let document: serde_json::Value = serde_json::from_str(&text).expect("a document");
    for (pointer, expected) in [
        ("/address", serde_json::json!("unix:/x")),
        ("/rate", 501.5.into()),
        ("/rps", 500.0.into()),
        ("/elapsed_ms", 2000.0.into()),
        ("/requests/total", 1003.into()),
        ("/requests/ok", 1000.into()),
        ("/requests/failed", 3.into()),
        ("/failures/0/kind", "status".into()),
        ("/failures/0/status", 503.into()),
        ("/failures/0/reason", "queue-full".into()),
        ("/failures/1/kind", "timeout".into()),
        ("/failures/1/count", 2.into()),
        ("/bytes/read", 2048.into()),
    ] {
        assert_eq!(document.pointer(pointer), Some(&expected), "{pointer} in {text}");
    }
    let p50 = document["latency_ms"]["p50"].as_f64().expect("a number");
    assert!((0.5..=0.501).contains(&p50), "{p50}");
    assert!(document["latency_ms"]["p99.9"].is_number());
}

#[test]
fn durations_have_three_digits() {
    for (nanos, shown) in [
        (0, "0.00µs"),
        (26_140, "26.1µs"),
        (999_400, "999µs"),
        (999_600, "1.00ms"),
        (1_020_000, "1.02ms"),
        (99_960_000, "100ms"),
        (3_100_000_000, "3.10s"),
        (86_400_000_000_000, "86400s"),
    ] {
        assert_eq!(short(Duration::from_nanos(nanos)), shown);
    }
}
