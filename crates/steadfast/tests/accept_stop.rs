//! Stopping, with programs as they come: requests in flight are answered, the deaf are killed, nothing is left behind;
//! and a TERM by hand to one worker makes it leave after its request and be replaced.

use steadfast_harness as support;

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::conditions::{is_soon, sockets, tail};
use support::daemon::{self, Config, Daemon, Pool, SOON};
use support::fcgi::{InFlight, Request};
use support::scene::Scene;
use support::within::inside;
use support::{apps, proc};

/// A program and how one asks it.
struct Program {
    name: &'static str,
    command: Vec<String>,
}

impl Program {
    fn all() -> [Program; 3] {
        [
            Program { name: "native", command: vec![apps::worker()] },
            Program { name: "perl", command: apps::perl(None) },
            Program { name: "php", command: apps::php() },
        ]
    }

    fn request(&self, path: &str) -> Request {
        let request = Request::get(path);
        if self.name == "php" { request.param("SCRIPT_FILENAME", &apps::php_script()) } else { request }
    }

    /// Sends a long request and gives the worker that has it in hand. All workers must have been idle before.
    fn busy(&self, daemon: &Daemon, scene: &Scene, path: &str) -> (InFlight, u32) {
        let workers = daemon.workers(self.name);
        let idle: Vec<usize> = workers.iter().map(|pid| sockets(*pid)).collect();
        let flight = self.request(path).start(&daemon::address(scene, self.name)).expect("a worker accepts");
        let mut busy = None;
        let found = is_soon(|| {
            busy = workers.iter().zip(&idle).find(|(pid, idle)| sockets(**pid) > **idle).map(|(pid, _)| *pid);
            busy.is_some()
        });
        assert!(found, "{}: nobody has taken {path}", self.name);
        (flight, busy.unwrap_or_default())
    }
}

/// Nothing of a supervisor that has ended may be there any more.
fn assert_clean(scene: &Scene, pools: &[&str], once: &[u32]) {
    assert_eq!(scene.processes(), [0; 0], "left behind");
    for pid in once {
        assert_eq!(proc::state(*pid), None, "{pid} has stayed");
    }
    for pool in pools {
        assert!(!daemon::socket(scene, pool).exists(), "the socket of {pool} has stayed");
    }
    // The lock's file stays: whoever unlinks it may unlink another's lock.
    let mut left = Vec::new();
    let mut directories = vec![scene.join("run")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("the runtime directory stays").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.file_name().is_none_or(|name| name != "lock") {
                left.push(path);
            }
        }
    }
    assert!(left.is_empty(), "left in the runtime directory: {left:?}");
}

/// A pool of three workers for each program, all of them serving.
fn start(scene: &Scene, programs: &[Program]) -> Daemon {
    let pools: Vec<Pool> =
        programs.iter().map(|program| Pool::new(program.name, &program.command).workers("3")).collect();
    let mut daemon = Config::new(&pools).start(scene);
    for _ in programs {
        daemon.wait_event("pool-serving", SOON);
    }
    daemon
}

#[test]
fn term_answers_a_request_of_two_seconds_of_every_program_and_leaves_nothing() {
    let scene = Scene::new();
    let programs = Program::all();
    let mut daemon = start(&scene, &programs);
    let all: Vec<u32> = programs.iter().flat_map(|program| daemon.workers(program.name)).collect();
    assert_eq!(all.len(), 9);
    let flights: Vec<_> = programs.iter().map(|program| (program, program.busy(&daemon, &scene, "/sleep?2"))).collect();
    daemon.signal(Signal::TERM);
    let stopped = Instant::now();
    for (program, (flight, busy)) in flights {
        let answer = flight.finish().unwrap_or_else(|error| panic!("{}: {error}\n{}", program.name, tail(&mut daemon)));
        assert_eq!((answer.status, answer.pid()), (200, busy), "{}", program.name);
    }
    assert!(stopped.elapsed() >= Duration::from_secs(1), "the requests were over before the stop");
    assert!(daemon.wait_exit(SOON).success(), "{}", tail(&mut daemon));
    // Far below the stop-timeout of 10 s: nobody had to be killed.
    assert!(stopped.elapsed() < Duration::from_secs(7), "it took {:?}", stopped.elapsed());
    assert_clean(&scene, &["native", "perl", "php"], &all);
}

#[test]
fn a_deaf_worker_is_killed_at_its_deadline_and_its_children_with_it() {
    stops_a_deaf_worker();
}

/// A container's processes may belong to a session and a group of the host: both have the number 0 then.
#[test]
fn a_deaf_worker_is_killed_where_our_session_lies_outside_of_the_pid_namespace() {
    let options = ["--pid", "--mount-proc"].map(str::to_owned).to_vec();
    let name = "a_deaf_worker_is_killed_where_our_session_lies_outside_of_the_pid_namespace";
    if inside(name, &[("session 0", options)]).is_some() {
        stops_a_deaf_worker();
    }
}

fn stops_a_deaf_worker() {
    let scene = Scene::new();
    let pool = Pool::new("site", &[apps::worker(), "--ignore-term".to_owned()]).workers("2");
    let mut daemon = Config::new(&[pool.key("stop-timeout", "\"3s\"")]).start(&scene);
    daemon.wait_serving("site");
    let address = daemon::address(&scene, "site");
    // Children in the worker's group, as deaf as it is.
    Request::get("/bomb?3").send(&address).expect("an answer");
    let all = scene.processes();
    assert!(all.len() >= 5, "{all:?}");
    // One request ends before the deadline, one never; both are in hand before the stop.
    let workers = daemon.workers("site");
    let idle: usize = workers.iter().map(|pid| sockets(*pid)).sum();
    let in_time = Request::get("/sleep?1").start(&address).expect("a worker accepts");
    let never = Request::get("/hang").start(&address).expect("a worker accepts");
    assert!(is_soon(|| workers.iter().map(|pid| sockets(*pid)).sum::<usize>() == idle + 2), "they are not taken");
    daemon.signal(Signal::TERM);
    let stopped = Instant::now();
    assert_eq!(in_time.finish().expect("it has 3 s").status, 200);
    never.finish().expect_err("it hangs");
    let hung = stopped.elapsed();
    assert!(daemon.wait_exit(SOON).success());
    let took = stopped.elapsed();
    assert!(hung >= Duration::from_millis(2900), "killed after {hung:?}, before the deadline");
    assert!(took < Duration::from_secs(6), "it took {took:?}");
    assert_clean(&scene, &["site"], &all);
}

#[test]
fn a_second_term_stops_at_once_although_a_request_is_in_flight() {
    let scene = Scene::new();
    let program = Program { name: "native", command: vec![apps::worker()] };
    let pool = Pool::new(program.name, &program.command).workers("2").key("stop-timeout", "\"60s\"");
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_serving("native");
    let all = daemon.workers("native");
    let (flight, _) = program.busy(&daemon, &scene, "/sleep?30");
    daemon.signal(Signal::TERM);
    daemon.wait_event("supervisor-stopping", SOON);
    let again = Instant::now();
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_exit(SOON).success(), "{}", tail(&mut daemon));
    assert!(again.elapsed() < Duration::from_secs(3), "it took {:?}", again.elapsed());
    flight.finish().expect_err("nobody waits for it");
    assert_clean(&scene, &["native"], &all);
}

/// What a person may type: `kill PID`. The programs finish what they have, as they do without a supervisor.
#[test]
fn a_term_by_hand_makes_an_idle_or_busy_worker_leave_and_be_replaced() {
    let scene = Scene::new();
    let programs = Program::all();
    let mut daemon = start(&scene, &programs);
    let mut once = Vec::new();
    for program in &programs {
        let name = program.name;
        let before = daemon.workers(name);
        let idle = before[0];
        proc::kill(idle, Signal::TERM).expect("it runs");
        assert_replaced(&mut daemon, name, &before, idle);

        let before = daemon.workers(name);
        let (flight, busy) = program.busy(&daemon, &scene, "/sleep?1");
        proc::kill(busy, Signal::TERM).expect("it runs");
        let answer = flight.finish().unwrap_or_else(|error| panic!("{name}: {error}\n{}", tail(&mut daemon)));
        assert_eq!((answer.status, answer.pid()), (200, busy), "{name}");
        assert_replaced(&mut daemon, name, &before, busy);
        once.extend([idle, busy]);

        let pool = daemon.pool(name);
        assert_eq!(pool["breaker"]["state"], "closed", "{name}: {pool}");
        for _ in 0..6 {
            let answer = program.request("/").send(&daemon::address(&scene, name)).expect("an answer");
            assert!(!once.contains(&answer.pid()), "{name}: {} has left", answer.pid());
        }
    }
    assert!(!daemon.event_names().iter().any(|event| event == "supervisor-stopping"), "{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0);
    assert_clean(&scene, &["native", "perl", "php"], &once);
}

/// `gone` has left and is reaped, the others stand as before, and the pool is whole again.
fn assert_replaced(daemon: &mut Daemon, pool: &str, before: &[u32], gone: u32) {
    let is_whole = is_soon(|| {
        let workers = daemon.workers(pool);
        workers.len() == before.len() && !workers.contains(&gone) && daemon.pool(pool)["workers"]["serving"] == 3
    });
    assert!(is_whole, "{pool}: {}\n{}", daemon.pool(pool), tail(daemon));
    assert_eq!(proc::state(gone), None, "{pool}: {gone} is still there");
    let now = daemon.workers(pool);
    let kept: Vec<&u32> = before.iter().filter(|pid| **pid != gone).collect();
    assert!(kept.iter().all(|pid| now.contains(pid)), "{pool}: {before:?} became {now:?}");
}
