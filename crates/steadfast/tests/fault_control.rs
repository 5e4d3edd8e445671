//! Faults 87 and 98, and bad input from a worker's link: what speaks to the supervisor, and what escapes from it.

use steadfast_harness as support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use support::conditions::{Conditions, is_soon, is_within, tail, wait_children};
use support::daemon::{self, Config, Daemon, Line, Pool, SOON, STEADFAST, USER, is_root};
use support::fcgi::Request;
use support::scene::Scene;
use support::within::{Cgroup, skipped, start_within};
use support::{apps, proc};

fn site(workers: &str) -> Pool {
    Pool::new("site", &[apps::worker()]).workers(workers)
}

fn serving(scene: &Scene, workers: usize) -> Daemon {
    let mut daemon = Config::new(&[site(&workers.to_string())]).start(scene);
    daemon.wait_serving("site");
    wait_children(&mut daemon, workers);
    daemon
}

/// A connection to the control socket; nothing when its backlog is full.
fn knock(daemon: &Daemon) -> Option<UnixStream> {
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None)
        .expect("a socket");
    let to = SocketAddrUnix::new(daemon.control()).expect("a short path");
    match rustix::net::connect(&fd, &to) {
        Ok(()) => {}
        Err(Errno::AGAIN) => return None,
        Err(error) => panic!("the control socket: {error}"),
    }
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false).expect("a socket can");
    stream.set_read_timeout(Some(SOON)).expect("a socket can");
    stream.set_write_timeout(Some(SOON)).expect("a socket can");
    Some(stream)
}

/// What comes until the other side closes; a reset is a close, too.
fn rest(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("it was not closed: {error}"),
        Ok(_) | Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// Three hundred who connect and say nothing: each is gone after 2 s, and the operator is heard again by then.
#[test]
fn fault_087_control_socket_flood() {
    let scene = Scene::new();
    let mut daemon = serving(&scene, 2);
    let conditions = Conditions::begin(&mut daemon, &daemon::address(&scene, "site"));
    let fds = proc::fds(daemon.pid()).len();
    let mut crowd = Vec::new();
    while crowd.len() < 300 {
        // A full backlog is emptied in no time, but not in ours.
        assert!(is_soon(|| knock(&daemon).map(|stream| crowd.push(stream)).is_some()));
    }
    let begun = Instant::now();
    let mut most = 0;
    let heard = is_within(Duration::from_secs(6), || {
        most = most.max(proc::fds(daemon.pid()).len());
        daemon.verb(&["status"]).code == 0
    });
    assert!(heard, "the operator is shut out");
    assert!(most <= fds + 40, "{fds} descriptors became {most}");
    for stream in &mut crowd {
        rest(stream);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(6), "the last was held for {took:?}");
    assert!(is_soon(|| proc::fds(daemon.pid()).len() <= fds), "descriptors have stayed open");
    conditions.end(&mut daemon, 0);
    assert_eq!(daemon.stop(), 0);
}

/// Three who ask as fast as they can; visitors do not notice.
#[test]
fn fault_087_control_socket_busy() {
    let scene = Scene::new();
    let mut daemon = serving(&scene, 2);
    let load =
        support::fcgi::Load::start(&daemon::address(&scene, "site"), &Request::get("/"), 2, Duration::from_millis(10));
    let end = Instant::now() + Duration::from_secs(1);
    let askers: Vec<_> = (0..3)
        .map(|_| {
            let control = daemon.control().to_path_buf();
            std::thread::spawn(move || {
                let mut answered = 0_u32;
                while Instant::now() < end {
                    let mut stream = UnixStream::connect(&control).expect("it listens");
                    stream.set_read_timeout(Some(SOON)).expect("a socket can");
                    stream.write_all(b"{\"version\":1,\"type\":\"status\"}\n").expect("it is read");
                    answered += u32::from(rest(&mut stream).contains("\"pools\""));
                }
                answered
            })
        })
        .collect();
    let answered: u32 = askers.into_iter().map(|asker| asker.join().expect("it only asks")).sum();
    assert!(answered > 10, "{answered}");
    let victim = daemon.workers("site")[0];
    proc::kill(victim, Signal::KILL).expect("it is there");
    assert!(proc::wait_gone(victim, SOON));
    wait_children(&mut daemon, 2);
    let report = load.stop();
    assert!(report.ok > 0 && report.failed <= 1, "S: {report:?}");
    assert_eq!(daemon.stop(), 0);
}

/// One byte at a time: the deadline is for the whole request.
#[test]
fn fault_087_control_socket_slowloris() {
    let scene = Scene::new();
    let mut daemon = serving(&scene, 2);
    let conditions = Conditions::begin(&mut daemon, &daemon::address(&scene, "site"));
    let mut stream = knock(&daemon).expect("nobody else is there");
    let begun = Instant::now();
    let mut sent = 0;
    // Each byte comes before a deadline that would begin anew with the one before.
    let closed = is_within(Duration::from_secs(6), || {
        sent += 1;
        stream.write_all(b" ").is_err()
    });
    let took = begun.elapsed();
    assert!(closed, "it listens to the {sent}th byte after {took:?}");
    assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(4), "closed after {took:?}");
    assert!(rest(&mut stream).contains("2 s"));
    assert_eq!(daemon.verb(&["status"]).code, 0);
    conditions.end(&mut daemon, 0);
    assert_eq!(daemon.stop(), 0);
}

/// Ten megabytes without an end, and everything that is no request: refused with a word, nothing kept.
#[test]
fn fault_087_control_socket_nonsense() {
    let scene = Scene::new();
    let mut daemon = serving(&scene, 2);
    let conditions = Conditions::begin(&mut daemon, &daemon::address(&scene, "site"));
    let before = proc::rss(daemon.pid());
    let mut stream = knock(&daemon).expect("nobody else is there");
    let block = [b'x'; 65_536];
    let taken = (0..160).take_while(|_| stream.write_all(&block).is_ok()).count();
    assert!(taken < 160, "it read ten megabytes");
    rest(&mut stream);
    let after = proc::rss(daemon.pid());
    assert!(after < before + (2 << 20), "{before} bytes of memory became {after}");

    let deep = "[".repeat(60_000);
    let cases: [&[u8]; 8] = [
        b"\x00\xff{]\n",
        b"\n",
        b"[1,2]\n",
        b"{\"version\":9,\"type\":\"status\"}\n",
        b"{\"version\":1,\"type\":\"unheard-of\"}\n",
        b"{\"version\":1,\"type\":\"scale\",\"pool\":\"site\",\"min\":-1,\"max\":1e99}\n",
        b"{\"version\":1,\"type\":\"kill\",\"pool\":\"\\u0000\\u001b[2J\",\"slot\":1}\n",
        deep.as_bytes(),
    ];
    for case in cases {
        let mut stream = knock(&daemon).expect("nobody else is there");
        // It may be refused before its end.
        let _refused = stream.write_all(case).and_then(|()| stream.write_all(b"\n"));
        let said = rest(&mut stream);
        let shown = String::from_utf8_lossy(&case[..case.len().min(60)]);
        assert!(said.contains("\"error\""), "{shown}: {said}");
    }
    assert_eq!(daemon.verb(&["status"]).code, 0);
    assert_eq!(wait_children(&mut daemon, 2).len(), 2);
    conditions.end(&mut daemon, 0);
    assert_eq!(daemon.stop(), 0);
}

/// Only root and the supervisor's own user may speak to it.
#[test]
fn fault_087_control_socket_stranger() {
    if !is_root() {
        return skipped("fault_087", "only root can become another user");
    }
    let scene = Scene::new();
    let mut daemon = serving(&scene, 2);
    for allowed in [false, true] {
        if allowed {
            // Even where somebody has opened the way to it, the kernel says who comes.
            support::scene::allow(&scene.join("run"), 0o755);
            support::scene::allow(daemon.control(), 0o666);
        }
        let output = Command::new("setpriv")
            .args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"])
            .arg(open_copy(&scene))
            .args(["stop", "site", "--control"])
            .arg(daemon.control())
            .output()
            .expect("setpriv of util-linux is there");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{said}");
    }
    assert_eq!(daemon.pool("site")["state"], "serving");
    assert_eq!(daemon.stop(), 0);
}

/// The program where every user may run it.
fn open_copy(scene: &Scene) -> std::path::PathBuf {
    let path = scene.join("steadfast");
    if !path.exists() {
        std::fs::copy(STEADFAST, &path).expect("the scene is ours");
        support::scene::allow(&path, 0o755);
    }
    path
}

/// Children in the worker's own group, deaf to TERM: they end with it, however it ends.
#[test]
fn fault_098_children_end_with_their_worker() {
    let scene = Scene::new();
    let mut daemon = serving(&scene, 3);
    let address = daemon::address(&scene, "site");
    let conditions = Conditions::begin(&mut daemon, &address);
    for how in ["by itself", "by the operator"] {
        let bomber = Request::get("/bomb?30").send(&address).expect("it serves").pid();
        let children = proc::children(bomber);
        assert_eq!(children.len(), 30);
        if how == "by itself" {
            proc::kill(bomber, Signal::SEGV).expect("it is there");
        } else {
            let pool = daemon.pool("site");
            let slots = pool["slots"].as_array().cloned().unwrap_or_default();
            let slot = slots.iter().find(|slot| slot["pid"] == bomber).expect("it has a slot")["slot"].to_string();
            assert_eq!(daemon.verb(&["kill", &format!("site/{slot}")]).code, 0);
        }
        assert!(proc::wait_gone(bomber, SOON));
        for child in children {
            assert!(proc::wait_gone(child, SOON), "child {child} of a worker that ended {how}");
        }
        wait_children(&mut daemon, 3);
    }
    conditions.end(&mut daemon, 2);
    let bomber = Request::get("/bomb?30").send(&address).expect("it serves").pid();
    assert_eq!(proc::children(bomber).len(), 30);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(scene.processes(), Vec::<u32>::new());
}

/// A process that forks and leaves, on and on, so that whoever looks for its pid comes too late: the group is ended as
/// one.
#[test]
fn fault_098_one_that_runs_from_pid_to_pid() {
    let scene = Scene::new();
    let program = scene.program(
        "hare.pl",
        "#!/usr/bin/perl
use strict; use FCGI;
my $request = FCGI::Request();
while ($request->Accept >= 0) {
    print \"Content-Type: text/plain\\r\\n\\r\\nok $$\\n\";
    $request->Finish;
    next if fork;
    $SIG{TERM} = 'IGNORE';
    # Bounded, so that a failed test leaves nothing for long.
    my $end = time + 20;
    while (time < $end) { my $child = fork; exit if $child; }
    exit;
}
",
    );
    let pool = Pool::new("site", &[program.display().to_string()]).workers("2");
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_serving("site");
    wait_children(&mut daemon, 2);
    let worker = Request::get("/").send(&daemon::address(&scene, "site")).expect("it serves").pid();
    // Whoever counts pids in /proc misses it, too: the kernel is asked for the group.
    let group = rustix::process::Pid::from_raw(i32::try_from(worker).expect("pids are small")).expect("a pid");
    let is_gone = || rustix::process::test_kill_process_group(group) == Err(Errno::SRCH);
    assert!(
        is_soon(|| proc::children(daemon.pid()).iter().any(|pid| proc::group(*pid) == Some(worker) && *pid != worker)),
        "the hare does not run"
    );
    proc::kill(worker, Signal::KILL).expect("it is there");
    assert!(is_soon(is_gone), "the hare runs on");
    wait_children(&mut daemon, 2);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(scene.processes(), Vec::<u32>::new());
}

/// A bomb that takes every process that the group may have: no repair is possible and nobody is blamed, until it ends.
/// A group for each slot is not part of this version: the limit here is that of the whole unit.
#[test]
fn fault_098_fork_bomb_against_a_limit() {
    let cgroup = match Cgroup::make("pids") {
        Ok(cgroup) => cgroup,
        Err(why) => return skipped("fault_098", &why),
    };
    let scene = Scene::new();
    let mut daemon = start_within(&Config::new(&[site("3")]), &scene, &cgroup.wrapper());
    daemon.wait_serving("site");
    wait_children(&mut daemon, 3);
    cgroup.limit_processes(24);
    let address = daemon::address(&scene, "site");
    let conditions = Conditions::begin(&mut daemon, &address);
    let bomber = Request::get("/bomb?1000").send(&address).expect("it serves").pid();
    assert!(proc::children(bomber).len() < 24);
    let victim = daemon.workers("site").into_iter().find(|pid| *pid != bomber).expect("there are three");
    proc::kill(victim, Signal::KILL).expect("it is there");
    assert!(proc::wait_gone(victim, SOON));
    // Its place may have been taken by the repair, or by nobody: the bomb has no more forks in it.
    proc::kill(bomber, Signal::KILL).expect("it is there");
    assert!(proc::wait_gone(bomber, SOON));
    wait_children(&mut daemon, 3);
    conditions.end(&mut daemon, 2);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(scene.processes(), Vec::<u32>::new());
}

fn linked(scene: &Scene, arguments: &[&str]) -> Daemon {
    let pool = Pool::new("site", &apps::link(arguments)).workers("2");
    let mut daemon = Config::new(&[pool]).start(scene);
    daemon.wait_serving("site");
    wait_children(&mut daemon, 2);
    daemon
}

fn warnings(daemon: &mut Daemon) -> usize {
    let warned = daemon.lines().iter().filter(|line| line.name() == "worker-warned");
    warned.map(|line| line.event["times"].as_u64().map_or(1, |times| usize::try_from(times).unwrap_or(1))).sum()
}

/// The first `worker-warned` with this in it, also of before the pool served.
fn warning(daemon: &mut Daemon, text: &str) -> Line {
    let is_it = |line: &&Line| line.name() == "worker-warned" && line.text.contains(text);
    assert!(is_soon(|| daemon.lines().iter().any(|line| is_it(&line))), "{}", tail(daemon));
    daemon.lines().iter().find(is_it).cloned().expect("it is there")
}

/// Bytes that are no message, before ready and after: told once in a worker's life, and what is a message is heard.
#[test]
fn link_garbage_is_told_and_passed_over() {
    let scene = Scene::new();
    let mut daemon = linked(&scene, &["--garbage", "--ready"]);
    let address = daemon::address(&scene, "site");
    let conditions = Conditions::begin(&mut daemon, &address);
    let workers = wait_children(&mut daemon, 2);
    let warned = warning(&mut daemon, "link");
    assert_eq!(warned.event["pool"], "site");
    assert!(warned.text.chars().all(|character| !character.is_control()));
    for _ in 0..20 {
        Request::get("/garbage").send(&address).expect("it serves");
    }
    conditions.end(&mut daemon, 0);
    assert_eq!(wait_children(&mut daemon, 2), workers, "nobody was ended for it");
    assert!(warnings(&mut daemon) <= 2, "{}", tail(&mut daemon));
    let pool = daemon.pool("site");
    assert_eq!((&pool["state"], &pool["breaker"]["failures"].as_f64()), (&"serving".into(), &Some(0.0)), "{pool}");
    assert_eq!(daemon.stop(), 0);
}

/// A line of ten megabytes: no memory is spent on it, its worker alone loses its link, an event tells.
#[test]
fn link_line_of_ten_megabytes() {
    let scene = Scene::new();
    let mut daemon = linked(&scene, &["--ready"]);
    let address = daemon::address(&scene, "site");
    let before = proc::rss(daemon.pid());
    let conditions = Conditions::begin(&mut daemon, &address);
    let worker = Request::get("/huge?10").send(&address).expect("it serves").pid();
    let warned = daemon.wait_event("worker-warned", SOON);
    assert_eq!(warned.event["pid"], worker, "{}", warned.text);
    let after = proc::rss(daemon.pid());
    assert!(after < before + (2 << 20), "{before} bytes of memory became {after}");
    // link.pl takes the end of its link for the supervisor's end and leaves after its request.
    assert!(proc::wait_gone(worker, SOON));
    wait_children(&mut daemon, 2);
    conditions.end(&mut daemon, 1);
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    assert_eq!(daemon.stop(), 0);
}

/// A hundred thousand messages as fast as they can be said.
#[test]
fn link_flood_of_messages() {
    let scene = Scene::new();
    let mut daemon = linked(&scene, &["--ready"]);
    let address = daemon::address(&scene, "site");
    let conditions = Conditions::begin(&mut daemon, &address);
    let worker = Request::get("/flood?100000").send(&address).expect("it serves").pid();
    let warned = daemon.wait_event("worker-warned", SOON);
    assert_eq!(warned.event["pid"], worker, "{}", warned.text);
    assert!(proc::wait_gone(worker, SOON));
    wait_children(&mut daemon, 2);
    conditions.end(&mut daemon, 1);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    assert_eq!(daemon.stop(), 0);
}

/// A worker of another version counts as one that never speaks: it is seen to be ready, and serves.
#[test]
fn link_of_another_version() {
    let scene = Scene::new();
    let mut daemon = linked(&scene, &["--version", "2", "--ready"]);
    let address = daemon::address(&scene, "site");
    let conditions = Conditions::begin(&mut daemon, &address);
    let warned = warning(&mut daemon, "version 2");
    assert_eq!(warned.event["pool"], "site");
    // What it says later is not understood as if it were of our version.
    let worker = Request::get("/recycle").send(&address).expect("it serves").pid();
    conditions.end(&mut daemon, 0);
    assert!(proc::alive(worker));
    assert_eq!(daemon.pool("site")["state"], "serving");
    assert_eq!(daemon.stop(), 0);
}
