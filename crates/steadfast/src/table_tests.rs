//! What a person sees, as snapshots.

use super::*;
use steadfast_proto::status::{Breaker, FailedReload, Phase, Workers, Zygote};

const NOW: &str = "2026-11-23T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn status(pools: Vec<Pool>) -> Status {
    Status {
        version: 1,
        steadfast: "0.1.0".into(),
        pid: 4711,
        since: "2026-11-20T08:00:00Z".into(),
        phase: Phase::Running,
        front: None,
        pools,
    }
}

fn pool(name: &str, state: PoolState, slots: Vec<Slot>) -> Pool {
    let total = u32::try_from(slots.iter().filter(|slot| slot.pid.is_some()).count()).expect("few");
    let serving = if state.serves() { total } else { 0 };
    Pool {
        name: name.into(),
        state,
        reason: None,
        mode: "direct".into(),
        listen: vec!["unix:/run/site.sock".into()],
        generation: 3,
        candidate: None,
        proven: true,
        previous: Some(2),
        zygote: None,
        workers: Workers { min: 2, max: 2, target: 2, total, serving, ..Workers::default() },
        queue: None,
        breaker: Breaker {
            state: BreakerState::Closed,
            failures: 0.0,
            limit: 10,
            window_ms: 90_000,
            until: None,
            reason: None,
        },
        quarantine: Vec::new(),
        requests: None,
        latency_ms: None,
        exits: [("recycled".to_owned(), 0)].into(),
        last_exit: None,
        failed_reload: None,
        slots,
    }
}

fn slot(number: u32, state: SlotState) -> Slot {
    Slot {
        slot: number,
        pid: Some(4711 + number),
        generation: Some(3),
        state,
        requests: None,
        rss: Some(12_700_000),
        pss: None,
        cpu_ms: Some(50),
        since: "2026-11-23T11:59:48Z".into(),
        request: None,
        text: None,
        last_exit: None,
    }
}

fn exit() -> LastExit {
    LastExit {
        class: "early".into(),
        signal: None,
        code: Some(3),
        name: Some("EX_PRELOAD".into()),
        message: None,
        at: "2026-11-23T11:59:55Z".into(),
        request: None,
        stderr: vec!["loading".into(), "no \x1b[31mdatabase".into(), " ".into()],
    }
}

fn down() -> Pool {
    let waiting = |number| Slot { pid: None, rss: None, last_exit: Some(exit()), ..slot(number, SlotState::Waiting) };
    let mut pool = pool("app", PoolState::Down, vec![waiting(1), waiting(2)]);
    pool.breaker.state = BreakerState::Open;
    pool.breaker.until = Some("2026-11-23T12:00:08Z".into());
    pool.exits.insert("early".into(), 12);
    pool.last_exit = Some(exit());
    pool
}

#[test]
fn serving() {
    let mut killed = slot(2, SlotState::Busy);
    killed.last_exit = Some(LastExit {
        class: "crashed".into(),
        signal: Some("SIGSEGV".into()),
        at: "2026-11-23T11:59:48Z".into(),
        ..LastExit::default()
    });
    killed.requests = Some(9);
    killed.text = Some("warm".into());
    killed.pss = Some(3_100_000);
    let mut site = pool("site", PoolState::Serving, vec![slot(1, SlotState::Idle), killed]);
    let (rss, pss) = (Some(60_000_000), Some(20_000_000));
    site.failed_reload = Some(FailedReload {
        generation: 4,
        rolled_back: false,
        at: "2026-11-23T11:59:00Z".into(),
        reason: "its first worker failed: unverified, code 0: GET /health: expected status 200, got status 500".into(),
        stderr: vec!["Can't locate object method \"new\" via package \"Site::Response\" at site.fcgi line 39.".into()],
    });
    site.zygote = Some(Zygote { pid: Some(4710), rss, pss, state: "ready".into() });
    insta::assert_snapshot!(draw(&status(vec![site]), now(), Style::default()));
}

#[test]
fn degraded_with_a_reload_under_way_beside_a_pool_that_stops() {
    let mut site = pool("site", PoolState::Degraded, vec![slot(1, SlotState::Ready), slot(2, SlotState::Starting)]);
    site.workers.serving = 1;
    site.candidate = Some(4);
    site.reason = Some("1 of 2 workers serve".into());
    let maps = pool("maps-and-more", PoolState::Stopping, vec![slot(1, SlotState::Draining)]);
    insta::assert_snapshot!(draw(&status(vec![maps, site]), now(), Style::default()));
}

#[test]
fn down_with_a_reason() {
    insta::assert_snapshot!(draw(&status(vec![down()]), now(), Style::default()));
}

#[test]
fn down_in_colour_on_a_narrow_terminal() {
    let text = draw(&status(vec![down()]), now(), Style { colour: true, width: Some(60) });
    let mut plain = String::new();
    let mut is_escape = false;
    for c in text.chars() {
        match c {
            '\x1b' => is_escape = true,
            'm' if is_escape => is_escape = false,
            c if !is_escape => plain.push(c),
            _ => {}
        }
    }
    assert!(plain.lines().all(|line| line.chars().count() <= 60), "{plain}");
    insta::assert_snapshot!(text.replace('\x1b', "^"));
}

#[test]
fn what_a_worker_wrote_before_it_was_asked_to_leave_is_no_reason() {
    let mut slot = slot(1, SlotState::Idle);
    slot.last_exit = Some(LastExit { class: "recycled".into(), code: Some(0), name: None, ..exit() });
    let text = draw(&status(vec![pool("site", PoolState::Serving, vec![slot])]), now(), Style::default());
    assert!(text.contains("recycled, code 0, 5s ago\n"), "{text}");
}

#[test]
fn the_supervisors_reason_comes_before_our_own() {
    let mut pool = down();
    pool.reason = Some("exited with 3 (EX_PRELOAD): no database".into());
    let text = draw(&status(vec![pool]), now(), Style::default());
    assert!(text.contains("  reason: exited with 3 (EX_PRELOAD): no database\n"), "{text}");
}

#[test]
fn empty() {
    insta::assert_snapshot!(draw(&status(Vec::new()), now(), Style::default()));
}

#[test]
fn a_text_is_cut_only_when_it_does_not_fit() {
    let style = Style { colour: false, width: Some(4) };
    assert_eq!(fit("abcd", style), "abcd");
    assert_eq!(fit("abcde", style), "abc…");
    assert_eq!(fit("abcde", Style::default()), "abcde");
}
