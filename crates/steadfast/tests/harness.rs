//! The harness itself, tried on its own programs without a supervisor: a failure here is not steadfast's.

use steadfast_harness as support;

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::daemon::{SOON, is_root};
use support::fcgi::{Address, Load, Request};
use support::nginx::Nginx;
use support::scene::{Scene, allow};
use support::{apps, proc};

/// A worker that listens on its own, killed at the end.
struct Worker {
    child: Child,
    address: Address,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn start(scene: &Scene, command: &[String], environment: &[(&str, &str)]) -> Worker {
    let path = scene.join("w.sock");
    let listener = UnixListener::bind(&path).expect("the scene is ours");
    allow(&path, 0o666);
    let child = Command::new(&command[0])
        .args(&command[1..])
        .envs(environment.iter().copied())
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    Worker { child, address: Address::Unix(path) }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The harness is a crate of its own, and finds it by where cargo builds.
#[test]
fn the_binary_under_test_is_the_one_that_cargo_has_built_for_this_test() {
    assert_eq!(support::daemon::STEADFAST, env!("CARGO_BIN_EXE_steadfast"));
}

#[test]
fn the_c_worker_answers_and_does_what_the_path_says() {
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let before = proc::monotonic();
    let worker = start(&scene, &[apps::worker()], &[("START_LOG", &log.display().to_string())]);
    let get = |path: &str| Request::get(path).send(&worker.address);
    assert_eq!(get("/").expect("an answer").pid(), worker.child.id());
    assert_eq!(get("/body?70000").expect("an answer").body.len(), 70_000);
    assert!(get("/fds").expect("an answer").text().contains("socket:"));
    assert!(get("/env").expect("an answer").text().contains("START_LOG="));
    assert!(get("/params").expect("an answer").text().contains("SCRIPT_NAME=/params"));
    assert!(get("/io").expect("an answer").text().contains("wchar:"));
    let long = "x".repeat(300);
    let echo = Request::get("/echo").param("HTTP_LONG", &long).body(b"over");
    assert_eq!(echo.send(&worker.address).expect("an answer").text(), "over");
    let begun = Instant::now();
    assert_eq!(get("/sleep?0.3").expect("an answer").status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let starts = proc::starts(&log);
    assert_eq!(starts.len(), 1);
    assert_eq!(starts[0].1, worker.child.id());
    assert!(starts[0].0 >= before && starts[0].0 <= proc::monotonic());
    get("/segv").expect_err("a worker that died gives no answer");
    assert!(proc::wait_gone(worker.child.id(), SOON));
    assert_eq!(proc::state(worker.child.id()), Some('Z'));
}

#[test]
fn the_c_worker_finishes_its_request_on_term_and_leaves() {
    let scene = Scene::new();
    let worker = start(&scene, &words(&[&apps::worker(), "--handle-term"]), &[]);
    let in_flight = Request::get("/sleep?0.5").start(&worker.address).expect("it is sent");
    Request::get("/").timeout(Duration::from_millis(200)).send(&worker.address).expect_err("the only worker is busy");
    proc::kill(worker.child.id(), Signal::TERM).expect("it is our child");
    assert_eq!(in_flight.finish().expect("the answer comes").status, 200);
}

#[test]
fn start_modes_end_with_what_they_say() {
    for (arguments, code) in [
        (&["--exit-at-start", "3"][..], Some(3)),
        (&["--exit-at-start", "256"], Some(0)),
        (&["--die-at-start", "11"], None),
        (&["--nonsense"], Some(112)),
    ] {
        let status = Command::new(apps::worker()).args(arguments).stderr(Stdio::null()).status().expect("it runs");
        assert_eq!(status.code(), code, "{arguments:?}");
    }
    let status = Command::new(&apps::shell(&["exit"])[0]).args(["exit", "7"]).stderr(Stdio::null()).status();
    assert_eq!(status.expect("it runs").code(), Some(7));
}

#[test]
fn first_requests_may_be_fatal_and_lives_may_be_counted() {
    for arguments in [&["--crash-first-request"][..], &["--exit-first-request", "9"]] {
        let scene = Scene::new();
        let command = [&[apps::worker()], words(arguments).as_slice()].concat();
        let worker = start(&scene, &command, &[]);
        Request::get("/").send(&worker.address).expect_err("it dies");
        assert!(proc::wait_gone(worker.child.id(), SOON));
    }
    let scene = Scene::new();
    let mut worker = start(&scene, &words(&[&apps::worker(), "--exit0-after", "2"]), &[]);
    for _ in 0..2 {
        Request::get("/").send(&worker.address).expect("an answer");
    }
    assert_eq!(worker.child.wait().expect("our child").code(), Some(0));
}

#[test]
fn the_static_worker_answers_and_tells_its_start() {
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let worker = start(&scene, &[apps::quiet()], &[("START_LOG", &log.display().to_string())]);
    let load = Load::start(&worker.address, &Request::get("/"), 2, Duration::ZERO);
    for _ in 0..10 {
        assert_eq!(Request::get("/").send(&worker.address).expect("an answer").pid(), worker.child.id());
    }
    let report = load.stop();
    assert_eq!(report.failed, 0, "{:?}", report.failures);
    assert!(report.ok > 0);
    assert_eq!(proc::starts(&log).len(), 1);
}

#[test]
fn the_perl_worker_answers_leaves_on_term_and_can_be_bad() {
    let scene = Scene::new();
    let mut worker = start(&scene, &apps::perl(None), &[]);
    let get = |path: &str| Request::get(path).send(&worker.address);
    assert_eq!(get("/").expect("an answer").pid(), worker.child.id());
    assert!(get("/fds").expect("an answer").text().contains("0 socket:"));
    proc::kill(worker.child.id(), Signal::TERM).expect("it is our child");
    assert!(proc::wait_gone(worker.child.id(), SOON));
    assert_eq!(worker.child.wait().expect("our child").code(), Some(0));

    let scene = Scene::new();
    let bad = scene.write("bad", "4\n");
    let mut worker = start(&scene, &apps::perl(Some(&bad)), &[]);
    assert_eq!(worker.child.wait().expect("our child").code(), Some(4));
}

#[test]
fn php_answers() {
    let scene = Scene::new();
    let worker = start(&scene, &apps::php(), &[]);
    let request = Request::get("/").param("SCRIPT_FILENAME", &apps::php_script());
    let answer = request.send(&worker.address).expect("an answer");
    assert_eq!(answer.pid(), worker.child.id());
}

#[test]
fn the_link_worker_says_what_it_is_told_to() {
    use std::io::{BufRead, BufReader, Write};
    let scene = Scene::new();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let path = scene.join("w.sock");
    let listener = UnixListener::bind(&path).expect("the scene is ours");
    // The shell moves the link from stdout to a number that stays open over exec.
    let mut child = Command::new("/bin/sh")
        .args(["-c", "exec 5>&1; STEADFAST_LINK=5 exec \"$@\"", "sh"])
        .args(apps::link(&["--status", "warm", "--ready"]))
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    ours.set_read_timeout(Some(SOON)).expect("it is a socket");
    let mut lines = BufReader::new(&ours);
    let mut next = || {
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line in time");
        serde_json::from_str::<serde_json::Value>(&line).expect("JSON")
    };
    let hello = next();
    assert_eq!(hello["type"], "hello");
    assert_eq!(hello["version"], 1);
    assert_eq!(hello["pid"], child.id());
    assert_eq!(next()["text"], "warm");
    assert_eq!(next()["type"], "ready");
    let address = Address::Unix(path);
    assert_eq!(Request::get("/").send(&address).expect("an answer").pid(), child.id());
    Request::get("/recycle").send(&address).expect("an answer");
    assert_eq!(next()["type"], "recycle");
    (&ours).write_all(b"{\"type\":\"drain\"}\n").expect("it listens");
    let gone = proc::wait_gone(child.id(), SOON);
    let _killed = child.kill();
    let status = child.wait().expect("our child");
    assert!(gone, "it does not leave on drain");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn nginx_stands_before_a_worker() {
    let scene = Scene::new();
    let worker = start(&scene, &[apps::worker()], &[]);
    let nginx = Nginx::start(&scene, &worker.address, "");
    let page = nginx.get("/").unwrap_or_else(|error| {
        let log = fs::read_to_string(scene.join("nginx-error.log"));
        panic!("{error}: {log:?}")
    });
    assert_eq!((page.status, page.body), (200, format!("ok {}\n", worker.child.id())));
}

#[test]
fn proc_tells_what_is_so() {
    let pid = std::process::id();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    assert!(proc::fds(pid).iter().any(|(_, to)| to.starts_with("socket:")));
    drop(listener);
    assert!(proc::rss(pid) > 500_000);
    assert!(proc::context_switches(pid) > 0);
    assert!(proc::alive(pid));
    assert_eq!(
        proc::parent(pid),
        Some(rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs()))
    );
    let scene = Scene::new();
    let mut child = Command::new("sleep").arg("1000").current_dir(scene.path()).spawn().expect("sleep runs");
    assert!(proc::children(pid).contains(&child.id()));
    assert_eq!(scene.processes(), [child.id()]);
    assert!(!proc::wait_gone(child.id(), Duration::from_millis(10)));
    child.kill().expect("our child");
    assert!(proc::wait_gone(child.id(), SOON));
    child.wait().expect("our child");
    assert!(scene.processes().is_empty());
    assert!(!proc::alive(child.id()));
}

#[test]
fn the_users_of_workers_can_run_the_programs() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let file = scene.shared_file("out");
    let output = Command::new("runuser")
        .args(["-u", support::daemon::USER, "--"])
        .args([&apps::worker(), "--exit-at-start", "5"])
        .env("START_LOG", &file)
        .output()
        .expect("runuser runs");
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(proc::starts(&file).len(), 1);
}
