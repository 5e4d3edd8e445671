//! Faults 82 to 84: nobody reads the log, a worker writes more than anybody can read, and text that means harm.

use steadfast_harness as support;

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use support::conditions::{Conditions, is_soon, is_within, own_lines, sockets, tail, wait_children};
use support::daemon::{self, Config, Daemon, Line, Pool, SOON, STEADFAST};
use support::fcgi::{Address, Request};
use support::scene::Scene;
use support::within::start_within;
use support::{apps, proc};

/// The longest text that is taken of a line, and room for the note that it was cut.
const TEXT_MAX: usize = 4096 + 64;

fn site(workers: &str) -> Pool {
    Pool::new("site", &[apps::worker()]).workers(workers)
}

/// The middle one of 15 requests that write more than a pipe holds.
fn talk(address: &Address) -> Duration {
    let mut times: Vec<_> = (0..15)
        .map(|_| {
            let begun = Instant::now();
            Request::get("/flood?5000").send(address).expect("a talkative worker is served");
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[7]
}

/// Who reads our stderr stops reading, then goes: workers write and serve as ever.
#[test]
fn fault_082_stderr_reader_slow_and_gone() {
    let scene = Scene::new();
    let fifo = scene.join("log");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo is there").success());
    // O_NONBLOCK: a reader that need not wait for its writer (and reads nothing).
    let mut reader = OpenOptions::new().read(true).custom_flags(0o4000).open(&fifo).expect("it was just made");
    let wrapper = ["sh".to_owned(), "-c".to_owned(), format!("exec \"$@\" 2>{}", fifo.display()), "sh".to_owned()];
    let mut daemon = start_within(&Config::new(&[site("3")]), &scene, &wrapper);
    wait_children(&mut daemon, 3);
    let address = daemon::address(&scene, "site");
    assert!(is_soon(|| Request::get("/").send(&address).is_ok()));
    let conditions = Conditions::begin(&mut daemon, &address);
    let took = talk(&address);
    assert!(took < Duration::from_millis(100), "a worker waited {took:?} to be heard by nobody");
    assert_eq!(daemon.verb(&["status"]).code, 0);
    conditions.end_answered(&mut daemon, 0);

    // He reads again, all that has waited; then there is nothing to do.
    let mut block = vec![0; 65_536];
    let mut caught_up = 0;
    assert!(is_soon(|| {
        caught_up = if reader.read(&mut block).is_err() { caught_up + 1 } else { 0 };
        caught_up > 3
    }));
    let conditions = Conditions::begin(&mut daemon, &address);
    assert!(!is_within(Duration::from_secs(1), || !proc::alive(daemon.pid())));
    conditions.end(&mut daemon, 0);

    let conditions = Conditions::begin(&mut daemon, &address);
    talk(&address);
    drop(reader);
    let took = talk(&address);
    assert!(took < Duration::from_millis(100), "a worker waited {took:?} to be heard");
    assert_eq!(daemon.verb(&["status"]).code, 0);
    // Rounds of 75,000 lines in a moment are work, not a loop: that one is looked for without them.
    conditions.end_answered(&mut daemon, 0);
    let conditions = Conditions::begin(&mut daemon, &address);
    assert!(!is_within(Duration::from_secs(1), || !proc::alive(daemon.pid())));
    conditions.end(&mut daemon, 0);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(scene.processes(), Vec::<u32>::new());
}

/// One of four workers writes as fast as it can, for as long as it lives, to stderr and another one to stdout.
#[test]
fn fault_083_log_flood_of_a_worker() {
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let pool = site("4").environment("START_LOG", &log.display().to_string());
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_serving("site");
    let workers: Vec<_> = wait_children(&mut daemon, 4).into_iter().map(|pid| (pid, sockets(pid))).collect();
    let address = daemon::address(&scene, "site");
    let _endless = Request::get("/flood?0").start(&address).expect("it is taken");
    let is_busy = |(pid, before): &&(u32, usize)| sockets(*pid) > *before;
    assert!(is_soon(|| workers.iter().any(|worker| is_busy(&worker))));
    let flooder = workers.iter().find(is_busy).expect("one is busy").0;
    let conditions = Conditions::begin(&mut daemon, &address);
    let begun = Instant::now();
    assert!(!is_within(Duration::from_secs(6), || !proc::alive(flooder)), "the flooder was ended");
    let seconds = usize::try_from(begun.elapsed().as_secs()).expect("a short test") + 2;
    let is_its = |line: &&Line| line.name() == "worker-output" && line.event["pid"] == flooder;
    let passed = daemon.lines().iter().filter(is_its).count();
    assert!(passed >= 1000, "the burst does not pass: {passed}");
    assert!(passed <= 1000 + 200 * seconds, "{passed} lines of one worker in {seconds} s");
    let dropped = daemon.lines().iter().any(|line| line.name() == "worker-warned" && line.text.contains("dropped"));
    assert!(dropped, "nobody says that lines were dropped\n{}", tail(&mut daemon));
    // It is not blocked for longer than the supervisor rests: it writes on.
    let written = || std::fs::read_to_string(format!("/proc/{flooder}/io")).expect("we may look");
    let before = written();
    assert!(is_within(Duration::from_millis(500), || written() != before), "the flooder stands");
    conditions.end(&mut daemon, 0);
    proc::kill(flooder, rustix::process::Signal::KILL).expect("it is there");
    wait_children(&mut daemon, 4);
    assert_eq!(daemon.stop(), 0);
}

/// What a worker writes before it is ready is held, not passed on, however much it is.
#[test]
fn fault_083_log_flood_before_ready() {
    let scene = Scene::new();
    let loud = [apps::worker(), "--stderr-flood".to_owned(), "0".to_owned()];
    let loud = Pool::new("loud", &loud).workers("2").key("ready-timeout", "\"700ms\"");
    let mut daemon = Config::new(&[site("2"), loud]).start(&scene);
    daemon.wait_serving("site");
    let conditions = Conditions::begin(&mut daemon, &daemon::address(&scene, "site"));
    let exited = daemon
        .wait("the end of a loud worker", SOON, |line| line.name() == "worker-exited" && line.event["pool"] == "loud");
    let report: usize = exited.event["stderr"].as_array().map_or(0, Vec::len);
    assert!((1..=21).contains(&report), "{}", exited.text);
    assert!(!is_within(Duration::from_secs(2), || !proc::alive(daemon.pid())));
    conditions.end(&mut daemon, 0);
    let lines = daemon.lines().iter().filter(|line| line.event["pool"] == "loud").count();
    assert!(lines <= 30, "{lines} lines\n{}", tail(&mut daemon));
    assert_eq!(daemon.pool("site")["state"], "serving");
    assert_eq!(daemon.stop(), 0);
}

/// Everything that a worker of `pool` has said, until a line with `last` in it.
fn said(daemon: &mut Daemon, last: &str) -> Vec<Line> {
    daemon.wait(last, SOON, |line| line.text.contains(last));
    daemon.lines().iter().filter(|line| line.name() == "worker-output").cloned().collect()
}

fn is_clean(text: &str) -> bool {
    text.chars().all(|character| character == '\t' || !character.is_control())
}

#[test]
fn fault_084_binary_and_forged_lines() {
    let scene = Scene::new();
    let mut daemon = Config::new(&[site("1")]).start(&scene);
    daemon.wait_serving("site");
    let address = daemon::address(&scene, "site");
    let conditions = Conditions::begin(&mut daemon, &address);
    let forged = r#"{"event":"pool-down","level":"error","pool":"site"}"#;
    for path in ["/binary", &format!("/stderr?{forged}"), &format!("/stdout?{forged}"), "/stderr?the-end"] {
        Request::get(path).send(&address).expect("it serves");
    }
    let lines = said(&mut daemon, "the-end");
    let messages: Vec<_> = lines.iter().map(|line| line.event["message"].as_str().unwrap_or_default()).collect();
    assert!(messages.iter().any(|text| text.contains(r"before\x1b[31mred")), "{messages:?}");
    assert!(messages.iter().any(|text| text.contains(r"\xff\xfe bad utf-8")), "{messages:?}");
    assert!(messages.iter().any(|text| text.contains("<0>looks urgent")), "{messages:?}");
    assert_eq!(messages.iter().filter(|text| text.contains(forged)).count(), 2, "{messages:?}");
    assert!(messages.iter().all(|text| is_clean(text)), "{messages:?}");
    for line in &lines {
        assert_eq!(line.event["level"], "info", "a worker made itself urgent: {}", line.text);
        assert_eq!(line.event["pool"], "site");
    }
    for line in daemon.lines() {
        assert!(line.event.is_object(), "a line of its own was forged: {}", line.text);
        assert_ne!(line.name(), "pool-down", "{}", line.text);
    }
    conditions.end(&mut daemon, 0);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn fault_084_endless_line() {
    let scene = Scene::new();
    let mut daemon = Config::new(&[site("2")]).start(&scene);
    daemon.wait_serving("site");
    let workers = wait_children(&mut daemon, 2);
    let address = daemon::address(&scene, "site");
    let conditions = Conditions::begin(&mut daemon, &address);
    let before = proc::rss(daemon.pid());
    let worker = Request::get("/endless-line?5").send(&address).expect("it serves").pid();
    let after = proc::rss(daemon.pid());
    assert!(after < before + (4 << 20), "{before} bytes of memory became {after}");
    // The line's end comes with the worker's.
    proc::kill(worker, rustix::process::Signal::KILL).expect("it is there");
    let line = daemon.wait("the line", SOON, |line| line.name() == "worker-output");
    let text = line.event["message"].as_str().unwrap_or_default();
    assert!(text.len() <= TEXT_MAX && text.contains("xxxx") && text.contains("cut"), "{} bytes", text.len());
    assert!(workers.contains(&worker));
    wait_children(&mut daemon, 2);
    conditions.end(&mut daemon, 1);
    assert_eq!(daemon.stop(), 0);
}

/// The same text in a death's report, and in the log for people.
#[test]
fn fault_084_report_and_log_for_people() {
    let scene = Scene::new();
    let dying = ["--stderr-binary", "--stderr-endless-line", "1", "--exit-at-start", "3"];
    let dying: Vec<_> = std::iter::once(apps::worker()).chain(dying.map(str::to_owned)).collect();
    let config = Config::new(&[site("1"), Pool::new("dying", &dying).workers("1")]);
    let mut daemon = config.start(&scene);
    let exited = daemon.wait_event("worker-exited", SOON);
    let report: Vec<_> = exited.event["stderr"].as_array().cloned().unwrap_or_default();
    let report: Vec<_> = report.iter().filter_map(|line| line.as_str()).collect();
    assert!(report.iter().any(|text| text.contains(r"\x1b[31mred")), "{report:?}");
    assert!(report.iter().all(|text| is_clean(text) && text.len() <= TEXT_MAX), "{report:?}");
    assert_eq!(daemon.pool("site")["state"], "serving");
    assert_eq!(daemon.stop(), 0);
    assert!(own_lines(&mut daemon) <= 60, "{}", tail(&mut daemon));

    let text = config.text(&scene).replace("log = \"json\"", "log = \"human\"");
    let file = scene.write("human.toml", &text);
    let mut command = Command::new(STEADFAST);
    command.arg("run").arg("-c").arg(file).env("NO_COLOR", "1");
    let mut human = Daemon::spawn(command, &scene, &scene.join("run/control.sock"));
    human.wait("the report", SOON, |line| line.text.contains("looks urgent"));
    assert_eq!(human.stop(), 0);
    for line in human.lines() {
        assert!(is_clean(&line.text), "{:?}", line.text);
        assert!(!line.text.starts_with("<0>") && !line.text.starts_with("PRIORITY"), "{:?}", line.text);
    }
}
