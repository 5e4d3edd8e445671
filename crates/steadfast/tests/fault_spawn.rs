//! Faults of starting workers: the machine refuses, the program is not there, the child hangs, pids come again.

use steadfast_harness as support;
#[path = "support/cases.rs"]
#[macro_use]
mod cases;

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cases::{Budget, Follower, faults, order, wait_workers};
use rustix::process::Signal;
use steadfast_proto::control::Request as Order;
use support::conditions::{Conditions, is_soon, is_within, own_lines, tail};
use support::daemon::{Config, Daemon, Pool, SOON, STEADFAST, USER, address, is_root};
use support::fcgi::Request;
use support::scene::{Scene, allow};
use support::within::start_within;
use support::{apps, proc};

/// Long enough for a thousand programs to be executed on a loaded machine.
const PATIENT: Duration = Duration::from_secs(60);

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The word before the supervisor's command line: its forks fail while `errno` in the scene holds a number.
fn refusing(scene: &Scene) -> Vec<String> {
    vec![text(&faults(scene)), "--fork-errno".into(), text(&scene.join("errno"))]
}

/// The machine allows forks again.
fn allow_forks(scene: &Scene) {
    fs::remove_file(scene.join("errno")).expect("it was written");
}

/// When the supervisor's forks were refused.
fn refusals(scene: &Scene) -> Vec<u64> {
    proc::starts(&scene.join("errno.refused")).into_iter().map(|(at, _)| at).collect()
}

fn kill(pids: &[u32]) {
    for pid in pids {
        proc::kill(*pid, Signal::KILL).expect("a worker of our own supervisor");
    }
}

/// The refusal `errno` meets the repair of so many workers out of four.
fn forks_are_refused(errno: &str, victims: usize) {
    let scene = Scene::new();
    let config = Config::new(&[Pool::new("site", &[apps::worker()]).workers("4")]);
    let mut daemon = start_within(&config, &scene, &refusing(&scene));
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 4);
    let conditions = Conditions::begin(&mut daemon, &address(&scene, "site"));
    scene.write("errno", errno);
    kill(&daemon.workers("site")[..victims]);
    let throttled = daemon.wait_event("pool-throttled", SOON);
    let reason = throttled.event["reason"].as_str();
    assert!(reason.is_some_and(|reason| reason.contains("cannot fork")), "{}", throttled.event);
    // First wait 0.2 s with half of it jitter, then doubling: the fourth try comes 1.4 s after the first at the latest.
    // One try may mean all that are missing, and is one refusal.
    let many = is_within(Duration::from_secs(4), || refusals(&scene).len() >= victims + 3);
    let refused = refusals(&scene);
    assert!(many, "refusals in 4 s: {refused:?}\n{}", tail(&mut daemon));
    let took = Duration::from_nanos(refused[victims + 2] - refused[0]);
    assert!(took < Duration::from_millis(1900), "it waits too long: {refused:?}");
    assert!(refused.len() <= 8 * victims, "{} refusals", refused.len());
    if victims == 1 {
        for pair in refused.windows(2) {
            let gap = Duration::from_nanos(pair[1] - pair[0]);
            assert!(gap >= Duration::from_millis(95), "tried again after {gap:?}");
        }
    }
    // A deploy in the middle of it waits, and is not taken for a bad one.
    let reload = daemon.verb(&["reload"]);
    assert_eq!(reload.code, 0, "{reload:?}");
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    assert_eq!(pool["workers"]["serving"], 4 - victims, "{pool}");
    let mut events = Follower::of(&daemon);
    allow_forks(&scene);
    events.wait("worker of generation 2", SOON, |event| event["event"] == "worker-ready" && event["generation"] == 2);
    assert!(is_soon(|| daemon.pool("site")["workers"]["serving"].as_u64() >= Some(4)), "{}", tail(&mut daemon));
    conditions.end(&mut daemon, victims as u64);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    let names = daemon.event_names();
    for never in ["generation-refused", "generation-rolled-back", "breaker-opened"] {
        assert!(!names.iter().any(|name| name == never), "{never}\n{}", tail(&mut daemon));
    }
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn fault_001_fork_eagain() {
    forks_are_refused("11", 1);
}

/// The same by the kernel's own limit, which does not bind root: a supervisor of another user.
#[test]
fn fault_001_real_limit_of_processes() {
    const NOBODY_ELSE: u32 = 54_321;
    if !is_root() {
        cannot_here!("fault_001", "a user of whom no other test has processes can only be taken by root");
    }
    let scene = Scene::new();
    let config = Config::new(&[Pool::new("site", &[apps::worker()]).workers("4")]);
    let line = format!("user = \"{USER}\"\n");
    let file = scene.write("steadfast.toml", &config.text(&scene).replace(&line, ""));
    chown(scene.path(), Some(NOBODY_ELSE), Some(NOBODY_ELSE)).expect("we are root");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups", STEADFAST, "run", "-c"]).arg(file);
    let mut daemon = Daemon::spawn(command, &scene, &scene.join("run/control.sock"));
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 4);
    // Only the soft limit, and as the same user: then no capability is needed.
    let limit = |daemon: &Daemon, most: &str| {
        let status = Command::new("setpriv")
            .args(["--reuid", "54321", "--regid", "54321", "--clear-groups", "prlimit"])
            .args([format!("--pid={}", daemon.pid()), format!("--nproc={most}:")])
            .status();
        assert!(status.expect("prlimit of util-linux runs").success());
    };
    limit(&daemon, "1");
    let conditions = Conditions::begin(&mut daemon, &address(&scene, "site"));
    kill(&daemon.workers("site")[..1]);
    daemon.wait_event("pool-throttled", SOON);
    let pool = daemon.pool("site");
    assert_eq!(pool["workers"]["serving"], 3, "{pool}");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    limit(&daemon, "1000");
    wait_workers(&mut daemon, "site", 4);
    conditions.end(&mut daemon, 1);
    assert_eq!(daemon.stop(), 0);
}

/// Memory that is short is made by the system call's answer: a control group gives ENOMEM to nobody at a moment that a
/// test could choose. A zygote's own limit is left to the simulator, for there is none here.
#[test]
fn fault_002_fork_enomem() {
    forks_are_refused("12", 3);
}

#[test]
fn fault_003_no_signal_to_everybody() {
    let scene = Scene::new();
    let launcher = text(&faults(&scene));
    let trapped = Command::new(&launcher)
        .args(["--trap-kill", "/usr/bin/perl", "-e", "kill 0, -1"])
        .status()
        .expect("the launcher runs");
    assert_eq!(trapped.signal(), Some(31), "the trap does not work: {trapped:?}");
    let wrapper = [vec![launcher, "--trap-kill".into()], refusing(&scene)[1..].to_vec()].concat();
    let hang = scene.join("hang");
    let program =
        format!("#!/bin/sh\n[ -e {} ] && exec sleep 100000\nexec {} --ignore-term\n", text(&hang), apps::worker());
    let program = scene.program("program", &program);
    let pool = Pool::new("site", &[text(&program)])
        .workers("4")
        .key("ready-timeout", "\"300ms\"")
        .key("stop-timeout", "\"500ms\"");
    let mut daemon = start_within(&Config::new(&[pool]), &scene, &wrapper);
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 4);
    // Every way in which the supervisor signals: a fork that gave -1, its own kill, a start that hangs, a deaf worker.
    scene.write("errno", "11");
    kill(&daemon.workers("site"));
    daemon.wait_event("pool-throttled", SOON);
    assert_eq!(daemon.verb(&["kill", "site/1"]).code, 1, "no worker stands in that slot");
    fs::write(&hang, "").expect("the scene is ours");
    allow_forks(&scene);
    daemon
        .wait("kill of a hanging start", SOON, |line| line.name() == "worker-killed" && line.event["class"] == "early");
    fs::remove_file(&hang).expect("it was written");
    assert_eq!(daemon.verb(&["breaker", "site", "reset"]).code, 0);
    wait_workers(&mut daemon, "site", 4);
    assert_eq!(daemon.verb(&["kill", "site/1"]).code, 0);
    assert_eq!(daemon.verb(&["drain", "site/2"]).code, 0);
    daemon.wait("kill of a deaf worker", SOON, |line| line.name() == "worker-killed" && line.event["class"] == "deaf");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(scene.processes(), [0; 0]);
}

/// How a program is made impossible to execute, and how that is undone.
struct Spoiled {
    program: PathBuf,
    aside: PathBuf,
    /// Holds a file open for writing: ETXTBSY.
    busy: Option<fs::File>,
}

impl Spoiled {
    fn by(errno: &str, program: &Path) -> Spoiled {
        let aside = program.with_extension("aside");
        let mut busy = None;
        match errno {
            "ENOENT" => fs::rename(program, &aside).expect("the scene is ours"),
            "EACCES" => allow(program, 0o600),
            "ETXTBSY" => {
                fs::copy(program, &aside).expect("the scene is ours");
                allow(&aside, 0o755);
                busy = Some(fs::OpenOptions::new().append(true).open(&aside).expect("nobody runs it"));
                fs::rename(&aside, program).expect("the scene is ours");
            }
            other => panic!("nobody knows how to make {other}"),
        }
        Spoiled { program: program.to_path_buf(), aside, busy }
    }

    fn mend(self) {
        if self.aside.exists() {
            fs::rename(&self.aside, &self.program).expect("the scene is ours");
        }
        allow(&self.program, 0o755);
        drop(self.busy);
    }
}

/// The program can no longer be executed when one worker of four has to be replaced.
fn exec_fails(errno: &str, words: &str, is_reset: bool) {
    let scene = Scene::new();
    let program = scene.join("program");
    fs::copy(apps::worker(), &program).expect("the scene is ours");
    allow(&program, 0o755);
    let mut daemon = Config::new(&[Pool::new("site", &[text(&program)]).workers("4")]).start(&scene);
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 4);
    let conditions = Conditions::begin(&mut daemon, &address(&scene, "site"));
    let spoiled = Spoiled::by(errno, &program);
    let begun = Instant::now();
    kill(&daemon.workers("site")[..1]);
    let exit =
        daemon.wait("spawn failure", SOON, |line| line.name() == "worker-exited" && line.event["class"] == "spawn");
    assert!(exit.text.contains(words), "{}", exit.text);
    let opened = daemon.wait_event("breaker-opened", SOON);
    let took = opened.at.duration_since(begun);
    assert!(took < Duration::from_secs(2), "{errno}: the breaker opened after {took:?}");
    assert!(opened.text.contains(words), "{}", opened.text);
    let pool = daemon.pool("site");
    assert_eq!(pool["state"], "degraded", "{pool}");
    assert_eq!(pool["workers"]["serving"], 3, "{pool}");
    spoiled.mend();
    if is_reset {
        assert_eq!(daemon.verb(&["breaker", "site", "reset"]).code, 0);
        daemon.wait_event("breaker-closed", SOON);
    }
    wait_workers(&mut daemon, "site", 4);
    conditions.end(&mut daemon, 1);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn fault_004_exec_fails() {
    exec_fails("EACCES", "Permission denied", true);
}

#[test]
fn fault_004_exec_fails_program_gone() {
    exec_fails("ENOENT", "No such file or directory", true);
}

/// The one that is waited for until it heals by itself.
#[test]
fn fault_004_exec_fails_program_being_written() {
    exec_fails("ETXTBSY", "Text file busy", false);
}

/// A worker that hangs before it is ready, with a child of its own. A lock that a threaded preload leaves held in a
/// forked worker needs a zygote: the simulator's workers that hang stand for it.
#[test]
fn fault_005_hangs_before_ready() {
    let scene = Scene::new();
    let (hang, children) = (scene.join("hang"), scene.shared_file("children"));
    let program = scene.program(
        "program",
        &format!(
            "#!/bin/sh\nif [ -e {} ]; then sleep 100000 & echo \"0 $!\" >> {}; exec sleep 100000; fi\nexec {}\n",
            text(&hang),
            text(&children),
            apps::worker()
        ),
    );
    let pool = Pool::new("site", &[text(&program)]).workers("4").key("ready-timeout", "\"700ms\"");
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 4);
    let conditions = Conditions::begin(&mut daemon, &address(&scene, "site"));
    fs::write(&hang, "").expect("the scene is ours");
    let begun = Instant::now();
    kill(&daemon.workers("site")[..1]);
    let killed = daemon.wait_event("worker-killed", SOON);
    assert_eq!(killed.event["class"], "early", "{}", killed.text);
    let took = killed.at.duration_since(begun);
    assert!(took >= Duration::from_millis(690) && took < Duration::from_secs(2), "killed after {took:?}");
    daemon.wait("early end", SOON, |line| line.name() == "worker-exited" && line.event["class"] == "early");
    let left = proc::starts(&children);
    assert!(!left.is_empty(), "the worker did not hang");
    assert!(proc::wait_gone(left[0].1, SOON), "a child of its group lives on");
    fs::remove_file(&hang).expect("it was written");
    wait_workers(&mut daemon, "site", 4);
    conditions.end(&mut daemon, 1);
    assert!(daemon.pool("site")["exits"]["early"].as_u64() >= Some(1));
    assert_eq!(daemon.stop(), 0);
}

/// What leaves its worker's session becomes the supervisor's child and is reaped. That it is killed when its worker is
/// recycled takes a delegated control group for each worker: see systemd_groups.rs. Here it is buried.
#[test]
fn fault_006_worker_leaves_a_daemon() {
    let scene = Scene::new();
    let file = scene.shared_file("daemon-pid");
    let pool = Pool::new("site", &[apps::worker()]).workers("2").environment("DAEMON_PIDFILE", &text(&file));
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 2);
    let leave_one = || {
        fs::write(&file, "").expect("the scene is ours");
        Request::get("/daemon").send(&address(&scene, "site")).expect("an answer");
        let mut pid = 0;
        let is_there = is_soon(|| {
            pid = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            pid > 1 && proc::parent(pid) == Some(daemon.pid())
        });
        assert!(is_there, "the daemon {pid} has not become the supervisor's child");
        pid
    };
    let (first, second) = (leave_one(), leave_one());
    let budget = Budget::of(&mut daemon);
    for slot in ["site/1", "site/2"] {
        assert_eq!(daemon.verb(&["drain", slot]).code, 0);
    }
    let mut events = Follower::of(&daemon);
    events.count("worker-ready", 4, SOON);
    // Its end is no worker's end: it is buried without a word.
    kill(&[first]);
    assert!(is_soon(|| proc::state(first).is_none()), "a zombie is left: {:?}", proc::state(first));
    assert_eq!(daemon.pool("site")["workers"]["serving"], 2);
    budget.holds(&mut daemon);
    assert_eq!(daemon.stop(), 0);
    let left = scene.processes();
    if left.contains(&second) {
        kill(&[second]);
    }
    assert_eq!(left, [0; 0], "after the stop, {second} is left behind");
}

/// Strangers that come and go at a pace at which they get the pids of workers that have just died; whoever of them
/// ends by a signal or is stopped by one says so.
const STRANGERS: &str = r#"
use strict; use warnings; use POSIX qw(:sys_wait_h setsid _exit);
my ($report, $stop) = @ARGV;
open my $out, '>', $report or die "$report: $!";
$out->autoflush(1);
my ($living, $all, $hit) = (0, 0, 0);
until (-e $stop) {
    while ($living < 10) {
        my $pid = fork;
        last if !defined $pid;
        if ($pid == 0) { setsid(); select undef, undef, undef, 0.02; _exit(0) }
        $living++; $all++;
    }
    while ((my $pid = waitpid -1, WUNTRACED | ($living < 10 ? WNOHANG : 0)) > 0) {
        if (WIFSTOPPED($?)) { $hit++; print $out "$pid was stopped\n"; kill KILL => $pid; next }
        if (WIFSIGNALED($?)) { $hit++; print $out "$pid died by ", WTERMSIG($?), "\n" }
        $living--;
    }
}
print $out "strangers $all signalled $hit\n";
"#;

/// As many recycles as fit into a few seconds, not ten thousand; in a pid namespace of a hundred pids each comes again
/// after a few dozen.
#[test]
fn fault_007_pids_come_again() {
    const RECYCLES: usize = 800;
    if !is_root() {
        cannot_here!("fault_007", "a pid namespace needs root");
    }
    // Before Linux 6.14 the limit is the whole machine's: there it must not be touched.
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let version: Vec<u32> = release.split(['.', '-']).take(2).filter_map(|word| word.parse().ok()).collect();
    if version < vec![6, 14] {
        cannot_here!("fault_007", "pid_max of a namespace needs Linux 6.14, this is {}", release.trim());
    }
    let probed = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "sh", "-c"])
        .arg("echo 400 > /proc/sys/kernel/pid_max && [ \"$(cat /proc/sys/kernel/pid_max)\" = 400 ]")
        .status();
    if !probed.is_ok_and(|status| status.success()) {
        cannot_here!("fault_007", "no pid namespace with its own pid_max");
    }
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let (report, stop) = (scene.join("report"), scene.join("stop"));
    let strangers = scene.write("strangers.pl", STRANGERS);
    let line = format!(
        "echo 400 > /proc/sys/kernel/pid_max; perl {} {} {} & \"$@\"; code=$?; : > {}; wait; exit $code",
        text(&strangers),
        text(&report),
        text(&stop),
        text(&stop)
    );
    let wrapper = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &line, "sh"];
    let pool = Pool::new("site", &[apps::quiet()]).workers("8").environment("START_LOG", &text(&log));
    let mut daemon = start_within(&Config::new(&[pool]), &scene, &wrapper.map(str::to_owned));
    daemon.wait_serving("site");
    let end = Instant::now() + Duration::from_secs(30);
    // A slot that stands empty just now is refused: the next round finds it filled.
    while proc::starts(&log).len() < RECYCLES && Instant::now() < end {
        for slot in 1..=8 {
            let kill = Order::Kill { pool: "site".into(), slot };
            if let Err(error) = order(daemon.control(), &kill) {
                panic!("{error}, after {} starts\n{}", proc::starts(&log).len(), tail(&mut daemon));
            }
        }
    }
    assert_eq!(daemon.verb(&["stop"]).code, 0);
    let status = daemon.wait_exit(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0), "{status:?}");
    // Those below 300 are given out only once.
    let starts: Vec<u32> = proc::starts(&log).into_iter().map(|(_, pid)| pid).filter(|pid| *pid >= 300).collect();
    let mut distinct = starts.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(starts.len() > 5 * distinct.len(), "only {} starts with {} pids", starts.len(), distinct.len());
    let lines = own_lines(&mut daemon);
    assert!(lines <= 30, "B: {lines} lines\n{}", tail(&mut daemon));
    let said = fs::read_to_string(&report).expect("the strangers say how it went");
    assert!(said.contains("signalled 0\n"), "{said}");
}

/// PDEATHSIG fires when the forking thread ends: there is only one thread, which ends with the process.
#[test]
fn fault_008_forking_thread_cannot_end() {
    let scene = Scene::new();
    let mut daemon = Config::new(&[Pool::new("site", &[apps::worker()]).workers("2")]).start(&scene);
    daemon.wait_serving("site");
    wait_workers(&mut daemon, "site", 2);
    let workers = daemon.workers("site");
    // Whatever might be given to a helper thread: names of users, files, clients, a new configuration.
    let mut events = Follower::of(&daemon);
    assert_eq!(daemon.verb(&["reload"]).code, 0);
    let fresh = events
        .wait("worker of generation 2", SOON, |event| event["event"] == "worker-ready" && event["generation"] == 2);
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs").count();
    assert_eq!(tasks, 1, "the supervisor has {tasks} threads");
    let fresh = fresh["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("it has a pid");
    assert_eq!(proc::parent(fresh), Some(daemon.pid()));
    assert!(workers.iter().any(|pid| proc::alive(*pid)), "nobody has died of the reload");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn alone_fault_009_a_thousand_workers() {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    if files.is_some_and(|most| most < 6000) {
        cannot_here!("fault_009", "a thousand workers need 6000 open files, the hard limit is {files:?}");
    }
    let scene = Scene::new();
    let mut daemon = Config::new(&[Pool::new("site", &[apps::quiet()]).workers("1000")]).start(&scene);
    daemon.wait("pool-serving", PATIENT, |line| line.name() == "pool-serving");
    let mut longest = Duration::ZERO;
    let all = is_within(PATIENT, || {
        let asked = Instant::now();
        let serving = daemon.pool("site")["workers"]["serving"].as_u64();
        longest = longest.max(asked.elapsed());
        serving == Some(1000)
    });
    assert!(all, "not a thousand after 30 s\n{}", tail(&mut daemon));
    assert!(longest < Duration::from_secs(3), "it did not answer for {longest:?}");
    let names = daemon.event_names();
    assert!(!names.iter().any(|name| name == "supervisor-late"), "{}", tail(&mut daemon));
    assert!(names.len() <= 30, "{} lines", names.len());
    assert_eq!(daemon.stop(), 0);
}

/// The same with a program that ends at once: only what may be under way is ever started.
#[test]
fn fault_009_a_thousand_workers_of_a_bad_program() {
    let scene = Scene::new();
    let log = scene.shared_file("starts");
    let pool = Pool::new("site", &[&apps::worker(), "--exit-at-start", "3"])
        .workers("1000")
        .environment("START_LOG", &text(&log));
    let mut daemon = Config::new(&[pool]).start(&scene);
    let opened = daemon.wait_event("breaker-opened", PATIENT);
    daemon.wait_event("breaker-half-open", PATIENT);
    // A quarter of the pool may be under way, and failures in a row make the rest wait.
    let starts = proc::starts(&log).len();
    assert!(starts <= 260, "{starts} starts\n{}", opened.text);
    let lines = daemon.lines().len();
    assert!(lines <= 30, "B: {lines} lines\n{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0);
}
