//! A recorded session, played again into the policy: the same orders, and those that the supervisor carried out.

#[path = "support/cases.rs"]
mod cases;
use steadfast_harness as support;

use std::path::Path;
use std::process::Command as Process;

use cases::{Follower, wait_workers};
use rustix::process::Signal;
use serde_json::Value;
use steadfast_policy::class::Exit;
use steadfast_policy::command::Command;
use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::GenerationId;
use steadfast_policy::note::{Note, Place};
use steadfast_policy::policy::Policy;
use steadfast_policy::record;
use support::conditions::tail;
use support::daemon::{Config, Daemon, Pool, SOON, STEADFAST, address};
use support::fcgi::Request;
use support::scene::Scene;
use support::{apps, proc};

/// What the policy orders when it is told a recording.
fn replay(recording: &str) -> Vec<Command> {
    let mut lines = recording.lines();
    let header = lines.next().expect("a recording has a header");
    let mut policy = Policy::new(record::parse_header(header).expect("the header is one"));
    let mut orders = Vec::new();
    for line in lines {
        let (now, fact) = record::parse(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        policy.handle(now, fact, &mut orders);
    }
    orders
}

/// One event as both sides can tell it: name, generation, slot, class, code.
type Told = (String, Option<u64>, Option<u64>, Option<String>, Option<u64>);

fn told_by(name: &str) -> Told {
    (name.to_owned(), None, None, None, None)
}

fn of_place(name: &str, place: Place) -> Told {
    (name.to_owned(), Some(place.generation.0.into()), Some(place.slot.0.into()), None, None)
}

fn of_generation(name: &str, generation: GenerationId) -> Told {
    (name.to_owned(), Some(generation.0.into()), None, None, None)
}

/// A note of the policy as the event that the supervisor makes of it.
fn told(note: &Note) -> Option<Told> {
    Some(match note {
        Note::WorkerStarted { place, .. } => of_place("worker-started", *place),
        Note::WorkerReady { place, .. } => of_place("worker-ready", *place),
        Note::WorkerExited { place, class, exit, .. } => {
            let code = match exit {
                Some(Exit::Code(code)) => Some(u64::from(*code)),
                Some(Exit::Signal(_)) | None => None,
            };
            let (name, generation, slot, ..) = of_place("worker-exited", *place);
            (name, generation, slot, Some(class.word().to_owned()), code)
        }
        Note::GenerationStarted { generation, .. } => of_generation("generation-started", *generation),
        Note::GenerationVerified { generation, .. } => of_generation("generation-verified", *generation),
        Note::GenerationRefused { generation, .. } => of_generation("generation-refused", *generation),
        Note::GenerationServing { generation, .. } => of_generation("generation-serving", *generation),
        Note::BreakerOpened { generation, .. } => of_generation("breaker-opened", *generation),
        Note::BreakerClosed { .. } => told_by("breaker-closed"),
        Note::PoolServing { .. } => told_by("pool-serving"),
        Note::PoolDegraded { .. } => told_by("pool-degraded"),
        Note::PoolDown { .. } => told_by("pool-down"),
        Note::PoolScaled { .. } => told_by("pool-scaled"),
        _ => return None,
    })
}

const COMPARED: [&str; 13] = [
    "worker-started",
    "worker-ready",
    "worker-exited",
    "generation-started",
    "generation-verified",
    "generation-refused",
    "generation-serving",
    "breaker-opened",
    "breaker-closed",
    "pool-serving",
    "pool-degraded",
    "pool-down",
    "pool-scaled",
];

/// The same of an event of the supervisor.
fn seen(event: &Value) -> Option<Told> {
    let name = event["event"].as_str()?;
    let class = event["class"].as_str().map(str::to_owned);
    COMPARED
        .contains(&name)
        .then(|| (name.to_owned(), event["generation"].as_u64(), event["slot"].as_u64(), class, event["code"].as_u64()))
}

fn config(log: &Path, arguments: &[&str]) -> Config {
    let mut command = vec![apps::worker()];
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let pool = Pool::new("site", &command).workers("2").environment("START_LOG", &log.display().to_string());
    Config::new(&[pool])
}

fn exited(events: &mut Follower, class: &str) {
    events.wait(class, SOON, |event| event["event"] == "worker-exited" && event["class"] == class);
}

/// Crashes, a kill, a bad and a good release, and an operator.
fn play(scene: &Scene, daemon: &mut Daemon, log: &Path) {
    let address = address(scene, "site");
    let mut events = Follower::of(daemon);
    Request::get("/segv").send(&address).expect_err("a worker that died gives no answer");
    exited(&mut events, "crashed");
    wait_workers(daemon, "site", 2);
    Request::get("/exit?5").send(&address).expect_err("a worker that left gives no answer");
    exited(&mut events, "exited");
    wait_workers(daemon, "site", 2);
    proc::kill(daemon.workers("site")[0], Signal::KILL).expect("a worker of our own supervisor");
    exited(&mut events, "killed");
    wait_workers(daemon, "site", 2);

    config(log, &["--exit-at-start", "3"]).write(scene);
    let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
    assert_eq!(said.code, 1, "{}{}\n{}", said.stdout, said.stderr, tail(daemon));
    config(log, &["--message", "good"]).write(scene);
    let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
    assert_eq!(said.code, 0, "{}{}\n{}", said.stdout, said.stderr, tail(daemon));

    for order in [&["scale", "site", "3"][..], &["breaker", "site", "trip"], &["breaker", "site", "reset"]] {
        let said = daemon.verb(order);
        assert_eq!(said.code, 0, "{order:?}: {}", said.stderr);
    }
    wait_workers(daemon, "site", 3);
}

#[test]
fn a_recorded_session_replays_to_the_orders_that_were_carried_out() {
    let scene = Scene::new();
    let (log, file) = (scene.shared_file("starts"), scene.join("recording"));
    let mut command = Process::new(STEADFAST);
    command.arg("run").arg("-c").arg(config(&log, &[]).write(&scene)).arg("--record").arg(&file);
    let mut daemon = Daemon::spawn(command, &scene, &scene.join("run/control.sock"));
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 2);
    play(&scene, &mut daemon, &log);
    let ring = daemon.verb(&["events", "--json", "-n", "100000"]);
    assert_eq!(ring.code, 0, "{}", ring.stderr);
    assert_eq!(daemon.stop(), 0);

    let recording = std::fs::read_to_string(&file).expect("a recording was written");
    let orders = replay(&recording);
    assert_eq!(orders, replay(&recording), "a recording does not replay to the same orders twice");

    // What the supervisor said until the ring was read, in its order, is what the replay says.
    let events: Vec<Told> =
        ring.stdout.lines().filter_map(|line| seen(&serde_json::from_str(line).expect("events are JSON"))).collect();
    let notes: Vec<Told> = orders
        .iter()
        .filter_map(|order| match order {
            Command::Report(note) => told(note),
            _ => None,
        })
        .collect();
    assert!(notes.len() >= events.len(), "{} events, {} notes", events.len(), notes.len());
    for (index, (event, note)) in events.iter().zip(&notes).enumerate() {
        assert_eq!(event, note, "event {index}, after {:?}", &events[index.saturating_sub(5)..index]);
    }
    for class in ["crashed", "exited", "killed", "early", "recycled"] {
        assert!(events.iter().any(|event| event.3.as_deref() == Some(class)), "nobody was {class}: {events:?}");
    }
    for name in COMPARED.iter().filter(|name| !["generation-verified", "pool-down", "pool-degraded"].contains(name)) {
        assert!(events.iter().any(|event| event.0 == *name), "no {name}: {events:?}");
    }

    // Each start that is ordered in the replay was one of a process that counted itself.
    let starts = orders.iter().filter(|order| matches!(order, Command::StartWorker { .. })).count();
    assert_eq!(starts, proc::starts(&log).len());
    assert_eq!(orders.last(), Some(&Command::Finish));

    // Whoever leaves out one end gets other orders: the comparison is able to fail.
    let is_crash = |line: &&str| {
        record::parse(line).is_ok_and(|(_, fact)| matches!(fact, Fact::WorkerExited { exit: Exit::Signal(11), .. }))
    };
    let crash = recording.lines().find(is_crash).expect("the crash was recorded");
    let without = recording.replace(&format!("{crash}\n"), "");
    assert_ne!(replay(&without), orders);
}
