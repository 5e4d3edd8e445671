//! What the front says is believed as far as it can be true, and no further.

use std::os::fd::AsFd;
use std::time::Duration;

use steadfast_policy::command::Command;
use steadfast_proto::front::{Blamed, Counters, Load as Sample, Note, NoteKind, Requests, ToFront};

use super::*;
use crate::front::fixture::{POOL, Stage};
use crate::front::{process, tell};
use crate::orders;
use crate::shell::Corpse;
use crate::timers::Timer;
use crate::workers::Leave;

fn blame(worker: u64, line: &str) -> FromFront {
    let request = Blamed {
        key: 7,
        line: line.into(),
        id: "a".into(),
        sent: 1,
        answered: 0,
        unread: false,
        stderr: "why\nnot\u{1b}[2J\n".into(),
    };
    FromFront::Blame { worker, request: Some(request) }
}

fn note(kind: NoteKind, worker: Option<u64>, message: Option<&str>) -> FromFront {
    FromFront::Note(Note {
        kind,
        pool: Some(1),
        worker,
        line: Some("GET /x\r\nforged".into()),
        id: Some("id".into()),
        after_ms: Some(5),
        message: message.map(str::to_owned),
    })
}

fn admitted_worker(stage: &mut Stage, id: u64) -> WorkerId {
    let worker = stage.worker(id);
    tell::offer(&mut stage.shell, worker);
    tell::admit(&mut stage.shell, worker);
    worker
}

#[test]
fn what_it_says_of_workers_that_it_has_not_is_ignored() {
    let mut stage = Stage::with_front();
    // One that lives and was not given to it, and one that there is not.
    stage.worker(3);
    for worker in [3, 99, u64::MAX] {
        for message in [
            FromFront::Connected { worker },
            FromFront::AnsweredBy { worker, pid: 1 },
            FromFront::Admitted { worker },
            FromFront::Verified { worker },
            FromFront::VerifyFailed { worker, why: "so".into() },
            FromFront::WorkerServed { worker, requests: 1 },
            FromFront::WorkerFree { worker },
            FromFront::Overdue { worker, line: "GET /".into() },
            FromFront::Cancelled { worker, line: "GET /".into() },
            FromFront::Spent { worker },
            blame(worker, "GET /"),
            FromFront::Workers { workers: vec![WorkerState { worker, served: 9, line: None, busy: 1 }] },
        ] {
            assert_eq!(stage.says(&message), [], "{message:?}");
        }
    }
    assert_eq!(stage.says(&FromFront::SuspectServed { pool: 1, key: 7, worker: 3 }), []);
    assert_eq!(stage.says(&FromFront::SuspectServed { pool: 9, key: 7, worker: 3 }), []);
    assert_eq!(stage.says(&FromFront::Counters(Box::new(Counters { pool: 9, ..Counters::default() }))), []);
    assert_eq!(stage.says(&FromFront::Reported { number: 5 }), []);
    assert_eq!((stage.why(), stage.shell.front.reported), (None, 0));
    assert_eq!(stage.shell.workers.get(WorkerId(3)).and_then(|w| w.queued.as_ref()).map(|q| q.served), Some(0));
}

#[test]
fn a_stranger_that_it_says_has_answered_makes_no_manager_of_a_worker() {
    let mut stage = Stage::with_front();
    for (id, pid) in [(3, std::process::id()), (4, 0), (5, u32::MAX)] {
        admitted_worker(&mut stage, id);
        assert_eq!(stage.says(&FromFront::AnsweredBy { worker: id, pid }), []);
        let pool = stage.shell.pools.get(POOL).expect("it is there");
        assert_eq!((pool.nested, stage.why()), (None, None), "{pid} is no child of it");
    }
}

#[test]
fn a_worker_goes_its_way_from_the_offer_to_the_end() {
    let mut stage = Stage::with_front();
    let worker = stage.worker(3);
    tell::offer(&mut stage.shell, worker);
    assert!(matches!(stage.told()[..], [ToFront::WorkerOffered { worker: 3, pool: 1, concurrency: 1, .. }]));
    tell::offer(&mut stage.shell, worker);
    assert_eq!(stage.told(), [], "once");

    assert_eq!(stage.says(&FromFront::Connected { worker: 3 }), []);
    assert!(stage.shell.timers.is_set(Timer::Probe(worker)), "its accept queue is looked at from now on");

    tell::verify(&mut stage.shell, worker);
    assert_eq!(stage.told(), [ToFront::WorkerVerify { worker: 3 }]);
    assert_eq!(stage.says(&FromFront::Overdue { worker: 3, line: "GET /".into() }), [], "it serves nobody yet");
    assert_eq!(stage.says(&FromFront::Verified { worker: 3 }), [Fact::WorkerVerified { worker }]);

    tell::admit(&mut stage.shell, worker);
    let [ToFront::WorkerAdmit { worker: 3, max_requests: Some(most) }] = stage.told()[..] else { panic!("no admit") };
    assert!((90..=110).contains(&most), "{most}");
    assert!(stage.shell.timers.is_set(Timer::FrontAnswer));
    assert_eq!(stage.says(&FromFront::Admitted { worker: 3 }), []);
    assert!(!stage.shell.timers.is_set(Timer::FrontAnswer), "nothing is waited for");
    assert_eq!(stage.says(&FromFront::Verified { worker: 3 }), [], "it was verified before");

    let served = |requests| FromFront::WorkerServed { worker: 3, requests };
    assert_eq!(stage.says(&served(20)), [Fact::WorkerServed { worker, requests: 20 }]);
    assert_eq!(stage.says(&served(u64::MAX)), [Fact::WorkerServed { worker, requests: SERVED_MAX }]);
    let spent = Fact::LimitReached { worker, limit: Limit::Requests };
    assert_eq!(stage.says(&FromFront::Spent { worker: 3 }), [spent]);

    assert_eq!(stage.says(&FromFront::WorkerFree { worker: 3 }), [], "nobody has withdrawn it");
    tell::drain(&mut stage.shell, worker);
    assert_eq!(stage.told(), [ToFront::WorkerWithdraw { worker: 3 }]);
    assert_eq!(stage.says(&FromFront::WorkerFree { worker: 3 }), [Fact::WorkerDrained { worker }]);
    assert_eq!(stage.says(&FromFront::WorkerFree { worker: 3 }), [], "once");
}

/// Whoever serves and leaves in the same moment has served: the front's word comes after the death, and before its word
/// on what was in hand.
#[test]
fn what_a_dead_worker_had_served_is_heard_until_the_front_has_had_its_say() {
    let mut stage = Stage::with_front();
    let worker = admitted_worker(&mut stage, 3);
    let life = stage.shell.front.serving();
    stage.shell.workers.remove(worker);
    let served = FromFront::WorkerServed { worker: 3, requests: 2 };
    assert_eq!(stage.says(&served), [], "nobody has asked about it");
    tell::gone(&mut stage.shell, worker, life);
    assert_eq!(stage.says(&served), [Fact::WorkerServed { worker, requests: 2 }]);
    let blame = FromFront::Blame { worker: 3, request: None };
    assert_eq!(stage.says(&blame), [Fact::Blamed { worker, request: None }]);
    assert_eq!(stage.says(&served), [], "that was its last word");
}

/// A worker that is sent away before anybody has admitted it gets its TERM when the front has closed its connection, or
/// when it is ordered again.
#[test]
fn term_waits_until_the_first_connection_is_closed() {
    for is_answered in [true, false] {
        let mut stage = Stage::with_front();
        let worker = stage.worker(3);
        tell::offer(&mut stage.shell, worker);
        stage.told();
        let pid = stage.shell.workers.get(worker).expect("it is there").pid;
        orders::carry_out(&mut stage.shell, Command::TerminateWorker { worker });
        assert_eq!(stage.told(), [ToFront::WorkerWithdraw { worker: 3 }]);
        let got_term = |stage: &Stage| stage.shell.workers.get(worker).is_none_or(|worker| worker.leave != Leave::No);
        assert!(!got_term(&stage), "{pid}: TERM came before its time");
        if is_answered {
            assert_eq!(stage.says(&FromFront::WorkerFree { worker: 3 }), [Fact::WorkerDrained { worker }]);
        } else {
            orders::carry_out(&mut stage.shell, Command::TerminateWorker { worker });
            assert_eq!(stage.told(), [], "once");
        }
        assert!(got_term(&stage), "{pid}: no TERM");
    }
}

#[test]
fn why_a_worker_was_not_verified_is_kept() {
    let mut stage = Stage::with_front();
    let worker = stage.worker(3);
    tell::offer(&mut stage.shell, worker);
    tell::verify(&mut stage.shell, worker);
    let failed = FromFront::VerifyFailed { worker: 3, why: "got 500\nforged".into() };
    assert_eq!(stage.says(&failed), [Fact::VerificationFailed { worker }]);
    let word = stage.shell.workers.get(worker).and_then(|worker| worker.voice.word.clone()).expect("kept");
    assert_eq!(word.message.as_deref(), Some("got 500\\nforged"));
}

#[test]
fn a_load_that_cannot_be_is_not_believed() {
    let mut stage = Stage::with_front();
    let worker = admitted_worker(&mut stage, 3);
    let load = Sample { pool: 1, idle: 1, served: 4, waiting: 2, longest_idle: Some((3, 1000)), ..Sample::default() };
    let facts = stage.says(&FromFront::Load(load));
    let [Fact::LoadSampled { pool: POOL, load: told }] = facts[..] else { panic!("{facts:?}") };
    assert_eq!((told.idle, told.busy, told.waiting, told.served), (1, 0, 2, 4));
    let (idlest, since) = told.longest_idle.expect("it is one of the pool");
    assert_eq!((idlest, stage.shell.now.since(since)), (worker, Duration::from_secs(1)));

    assert_eq!(stage.says(&FromFront::Load(Sample { idle: 1, busy: 1, ..load })), [], "there is one worker");
    assert_eq!(stage.says(&FromFront::Load(Sample { idle: u32::MAX, busy: u32::MAX, ..load })), []);
    assert_eq!(stage.says(&FromFront::Load(Sample { pool: 2, ..load })), []);
    let facts = stage.says(&FromFront::Load(Sample { longest_idle: Some((9, u64::MAX)), peak: 5, ..load }));
    assert!(matches!(facts[..], [Fact::LoadSampled { load: Load { longest_idle: None, .. }, .. }]), "{facts:?}");
    let facts = stage.says(&FromFront::Load(Sample { longest_idle: Some((3, u64::MAX)), ..load }));
    assert!(matches!(facts[..], [Fact::LoadSampled { load: Load { longest_idle: Some((_, Instant::ZERO)), .. }, .. }]));
    assert_eq!(stage.shell.pools.get(POOL).map(|pool| pool.queue.peak), Some(5));
}

#[test]
fn blame_is_believed_once_and_only_when_asked_for() {
    let mut stage = Stage::with_front();
    let worker = admitted_worker(&mut stage, 3);
    assert_eq!(stage.says(&blame(3, "GET /x")), [], "it lives");
    let life = stage.shell.front.serving();
    stage.shell.corpses.insert(Speaker::Worker(worker), Corpse { pool: Some(POOL), ..Corpse::default() });
    tell::gone(&mut stage.shell, worker, life);
    let request = Some(RequestKey(7));
    assert_eq!(stage.says(&blame(3, "GET /x\u{1b}[2J")), [Fact::Blamed { worker, request }]);
    let corpse = &stage.shell.corpses[&Speaker::Worker(worker)];
    assert_eq!(corpse.request.as_deref(), Some("GET /x\\x1b[2J"));
    assert_eq!(corpse.stderr, ["why", "not\\x1b[2J"]);
    assert_eq!(stage.shell.pools.get(POOL).map(|pool| pool.queue.line(RequestKey(7))), Some("GET /x\\x1b[2J".into()));
    assert_eq!(stage.says(&blame(3, "GET /x")), [], "once");
    // Without the front that had it nobody can know.
    tell::gone(&mut stage.shell, worker, life + 1);
    assert_eq!(stage.hear(), [Fact::Blamed { worker, request: None }]);
}

#[test]
fn a_program_that_recycles_itself_is_not_blamed_for_what_it_left_unread() {
    for (code, unread, is_blamed) in [(0, true, false), (0, false, true), (3, true, true)] {
        let mut stage = Stage::with_front();
        let worker = admitted_worker(&mut stage, 3);
        let life = stage.shell.front.serving();
        let corpse = Corpse { pool: Some(POOL), ended: (Some(code), None), ..Corpse::default() };
        stage.shell.corpses.insert(Speaker::Worker(worker), corpse);
        tell::gone(&mut stage.shell, worker, life);
        let FromFront::Blame { request: Some(request), .. } = blame(3, "GET /x") else { panic!("a request") };
        let request = Some(Blamed { unread, ..request });
        let expected = is_blamed.then_some(RequestKey(7));
        let facts = stage.says(&FromFront::Blame { worker: 3, request });
        assert_eq!(facts, [Fact::Blamed { worker, request: expected }], "code {code}, unread {unread}");
    }
}

#[test]
fn what_no_front_says_ends_it() {
    for packet in [&b"{}"[..], b"\xff", br#"{"type":"ready","version":2}"#, &vec![b' '; front::MESSAGE_MAX + 1]] {
        let mut stage = Stage::with_front();
        assert_eq!(stage.sends(packet), []);
        assert!(stage.why().is_some(), "{} bytes", packet.len());
        let life = stage.shell.front.life.as_ref().expect("its end has not been heard");
        rustix::process::waitid(
            rustix::process::WaitId::PidFd(life.pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        )
        .expect("it was killed");
        assert_eq!(
            stage.says(&FromFront::Note(Note {
                kind: NoteKind::Shed,
                pool: Some(1),
                worker: None,
                line: None,
                id: None,
                after_ms: None,
                message: None,
            })),
            []
        );
        assert_eq!(stage.events("request-shed"), 0, "a condemned one is not heard");
    }
}

#[test]
fn a_question_without_an_answer_ends_the_front() {
    let mut stage = Stage::with_front();
    admitted_worker(&mut stage, 3);
    process::overdue(&mut stage.shell);
    assert_eq!(stage.why(), None, "there is time");
    let set = |stage: &mut Stage, by| {
        let at = stage.ago(by);
        stage.shell.front.life.as_mut().expect("it runs").asked.iter_mut().for_each(|(_, asked)| *asked = at);
    };
    // One who slept himself asks again before he judges.
    set(&mut stage, Duration::from_secs(60));
    process::overdue(&mut stage.shell);
    assert_eq!(stage.why(), None);
    set(&mut stage, Duration::from_millis(10_010));
    process::overdue(&mut stage.shell);
    assert!(stage.why().is_some_and(|why| why.contains("not answered")), "{:?}", stage.why());
}

#[test]
fn an_answer_that_lies_unread_saves_it() {
    let mut stage = Stage::with_front();
    admitted_worker(&mut stage, 3);
    let at = stage.ago(Duration::from_millis(10_010));
    stage.shell.front.life.as_mut().expect("it runs").asked.iter_mut().for_each(|(_, asked)| *asked = at);
    let packet = front::encode(&FromFront::Admitted { worker: 3 }).expect("short");
    stage.leave_unread(&packet);
    process::overdue(&mut stage.shell);
    assert_eq!(stage.why(), None);
    assert!(!stage.shell.timers.is_set(Timer::FrontAnswer));
}

#[test]
fn notes_become_events_that_cannot_be_forged_and_a_flood_is_cut() {
    let mut stage = Stage::with_front();
    admitted_worker(&mut stage, 3);
    stage.says(&note(NoteKind::Retried, Some(3), None));
    let told = stage.last_event("request-retried");
    for part in
        [r#""pool":"site""#, r#""slot":1"#, r#""request":"GET /x\\r\\nforged""#, r#""id":"id""#, r#""after_ms":5"#]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
    // Of a worker that there is not, the pool is told all the same.
    stage.says(&note(NoteKind::Cut, Some(99), Some("so")));
    assert!(stage.last_event("request-cut").contains(r#""message":"so""#));
    for _ in 0..1200 {
        stage.says(&note(NoteKind::Shed, None, None));
    }
    assert_eq!(stage.events("request-shed"), 998);
    stage.shell.now = stage.shell.now.after(Duration::from_secs(1));
    stage.says(&note(NoteKind::Shed, None, None));
    assert!(
        stage.last_event("front-warned").contains("202 notes were dropped"),
        "{}",
        stage.last_event("front-warned")
    );
}

#[test]
fn what_a_worker_writes_through_fastcgi_is_its_stderr() {
    let mut stage = Stage::with_front();
    let worker = admitted_worker(&mut stage, 3);
    stage.says(&note(NoteKind::Stderr, Some(3), Some("one\ntwo")));
    let lines: Vec<&str> = stage.shell.workers.get(worker).expect("it lives").voice.stderr.lines.last().collect();
    assert_eq!(lines, ["one", "two"]);
}

#[test]
fn counters_are_added_up_and_workers_remembered() {
    let mut stage = Stage::with_front();
    admitted_worker(&mut stage, 3);
    let requests = Requests { total: 5, ok: 4, shed: 1, ..Requests::default() };
    for _ in 0..2 {
        stage.says(&FromFront::Counters(Box::new(Counters { pool: 1, requests, ..Counters::default() })));
    }
    assert_eq!(stage.shell.pools.get(POOL).map(|pool| pool.queue.requests.total), Some(10));
    let number = tell::report(&mut stage.shell).expect("it runs");
    let line = Some("GET /slow".to_owned());
    stage
        .says(&FromFront::Workers { workers: vec![WorkerState { worker: 3, served: 9, line: line.clone(), busy: 1 }] });
    stage.says(&FromFront::Reported { number });
    assert_eq!(stage.shell.front.reported, number);
    let queued = stage.shell.workers.get(WorkerId(3)).and_then(|worker| worker.queued.as_ref()).expect("it lives");
    assert_eq!((queued.served, queued.busy, &queued.line), (9, 1, &line));
}

#[test]
fn the_next_front_is_told_what_the_last_one_knew() {
    let mut stage = Stage::with_front();
    let (serving, starting) = (admitted_worker(&mut stage, 3), stage.worker(4));
    tell::offer(&mut stage.shell, starting);
    let until = stage.shell.now.after(Duration::from_secs(60));
    tell::watch(&mut stage.shell, POOL, RequestKey(7));
    tell::quarantine(&mut stage.shell, POOL, RequestKey(8), until);
    tell::fallback(&mut stage.shell, POOL, true);
    for worker in [serving, starting] {
        let queued = stage.shell.workers.get_mut(worker).and_then(|worker| worker.queued.as_mut());
        queued.expect("it lives").forget_front();
    }
    stage.begin_front();
    tell::everything(&mut stage.shell);
    let told = stage.told();
    assert!(matches!(&told[0], ToFront::Pool(pool) if pool.pool == 1 && pool.name == "site"), "{:?}", told[0]);
    assert_eq!(told[1], ToFront::Fallback { pool: 1, on: true });
    assert_eq!(told[2], ToFront::Watch { pool: 1, key: 7 });
    assert_eq!(told[3], ToFront::Watch { pool: 1, key: 8 });
    assert!(matches!(told[4], ToFront::Quarantine { pool: 1, key: 8, for_ms } if for_ms == 60_000), "{:?}", told[4]);
    assert!(matches!(told[5], ToFront::WorkerOffered { worker: 3, .. }), "{:?}", told[5]);
    assert!(matches!(told[6], ToFront::WorkerAdmit { worker: 3, .. }), "{:?}", told[6]);
    assert!(matches!(told[7], ToFront::WorkerOffered { worker: 4, .. }), "{:?}", told[7]);
    assert_eq!(told.len(), 8);
}
