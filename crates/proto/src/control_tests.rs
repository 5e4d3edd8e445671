//! Round trips, limits and garbage.

use super::*;
use crate::event::Level;
use crate::lines::{LINE_MAX, Lines};
use proptest::prelude::*;

fn requests() -> Vec<Request> {
    let pool = || "site".to_owned();
    vec![
        Request::Status { pool: None },
        Request::Status { pool: Some(pool()) },
        Request::Events { n: 20, follow: true, pool: None },
        Request::Reload { pool: Some(pool()), wait: true, timeout_ms: Some(60_000) },
        Request::Stop { pool: None },
        Request::Start { pool: pool() },
        Request::Restart { pool: pool() },
        Request::Scale { pool: pool(), min: 0, max: 8 },
        Request::Drain { pool: pool(), slot: 3 },
        Request::Kill { pool: pool(), slot: 3 },
        Request::Breaker { pool: pool(), action: BreakerAction::Reset },
        Request::Breaker { pool: pool(), action: BreakerAction::Trip },
    ]
}

#[test]
fn requests_round_trip_at_every_cut() {
    for request in requests() {
        let line = encode_request(&request);
        for cut in 0..line.len() {
            let mut lines = Lines::new(LINE_MAX);
            assert_eq!(lines.next(&mut &line[..cut]), None);
            let mut rest = &line[cut..];
            let read = lines.next(&mut rest).expect("complete").expect("short");
            assert_eq!(decode_request(read), Ok(request.clone()), "cut at {cut}");
        }
    }
}

#[test]
fn a_request_by_hand_may_leave_out_what_has_a_default() {
    assert_eq!(decode_request(br#"{"version":1,"type":"status"}"#), Ok(Request::Status { pool: None }));
    assert_eq!(
        decode_request(br#"{"type":"reload","version":1,"more":[1]}"#),
        Ok(Request::Reload { pool: None, wait: false, timeout_ms: None })
    );
}

#[test]
fn answers_round_trip_and_say_whether_all_is_well() {
    let event = Event::new("2026-11-23T12:00:00Z".into(), Level::Info, "pool-serving");
    let refusal = Refusal::new(ExitCode::Failed, "no pool `sight`").with_hint("did you mean `site`?");
    for (answer, is_final) in [
        (Answer::Done { text: String::new() }, true),
        (Answer::Event { event }, false),
        (Answer::Progress { text: "generation 2: 1 of 4".into() }, false),
        (Answer::Error(refusal), true),
    ] {
        let line = encode_answer(&answer);
        let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!(value["ok"], !matches!(answer, Answer::Error(_)));
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        assert_eq!(answer.is_final(), is_final);
        assert_eq!(decode_answer(&line), Ok(answer));
    }
}

#[test]
fn an_error_has_the_shape_that_scripts_read() {
    let line = encode_answer(&Answer::Error(Refusal::new(ExitCode::TimedOut, "late")));
    assert_eq!(line, b"{\"ok\":false,\"type\":\"error\",\"code\":75,\"message\":\"late\"}\n");
}

#[test]
fn what_makes_no_sense_is_refused_as_usage() {
    for line in [
        r#"{"version":2,"type":"status"}"#,
        r#"{"type":"status"}"#,
        r#"{"version":1,"type":"dance"}"#,
        r#"{"version":1,"type":"start"}"#,
        r#"{"version":1,"type":"start","pool":"../x"}"#,
        r#"{"version":1,"type":"start","pool":""}"#,
        r#"{"version":1,"type":"scale","pool":"a","min":5,"max":4}"#,
        r#"{"version":1,"type":"scale","pool":"a","min":0,"max":0}"#,
        r#"{"version":1,"type":"scale","pool":"a","min":0,"max":100000}"#,
        r#"{"version":1,"type":"scale","pool":"a","min":-1,"max":4}"#,
        r#"{"version":1,"type":"events","n":100001}"#,
        r#"{"version":1,"type":"reload","timeout_ms":604800001}"#,
        r#"{"version":1,"type":"breaker","pool":"a","action":"explode"}"#,
        r#"[]"#,
        "",
    ] {
        let refusal = decode_request(line.as_bytes()).expect_err(line);
        assert_eq!(refusal.code, ExitCode::Usage, "{line}");
        assert!(refusal.message.len() < 400 && !refusal.message.contains(char::is_control), "{refusal:?}");
    }
    let long = format!(r#"{{"version":1,"type":"{}"}}"#, "\\u001b".repeat(5000));
    let refusal = decode_request(long.as_bytes()).expect_err("unknown");
    assert!(refusal.message.len() < 400 && !refusal.message.contains(char::is_control));
}

proptest! {
    #[test]
    fn garbage_is_refused_and_never_panics(line in proptest::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(decode_request(&line).is_err());
        let _ = decode_answer(&line);
    }

    #[test]
    fn one_changed_byte_never_panics(which in 0_usize..12, at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut line = encode_request(&requests()[which]);
        let at = at.index(line.len());
        line[at] = byte;
        if let Ok(request) = decode_request(&line) {
            prop_assert!(request.check().is_ok());
        }
    }
}
