//! Faults 70 to 75: descriptors, memory, disk, inodes and processor time run out.
//!
//! What needs a controller of control groups uses those of the first kind where they are mounted (memory, cpu), and
//! says so where they are not.

use steadfast_harness as support;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use support::conditions::{Conditions, is_soon, is_within, sockets, tail, wait_children};
use support::daemon::{self, Config, Daemon, Pool, SOON, STEADFAST};
use support::fcgi::Request;
use support::scene::{Scene, allow};
use support::within::{Cgroup, inside, skipped, start_within};
use support::{apps, proc};

fn site(workers: &str) -> Pool {
    Pool::new("site", &[apps::worker()]).workers(workers)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Kills one worker and waits until the pool is whole again.
fn replace_one(daemon: &mut Daemon, workers: usize) {
    let victim = wait_children(daemon, workers)[0];
    proc::kill(victim, Signal::KILL).expect("it is there");
    assert!(proc::wait_gone(victim, SOON));
    let living = wait_children(daemon, workers);
    assert!(!living.contains(&victim));
}

/// Each worker takes some of the supervisor's descriptors: with too few of them it keeps those workers that it can.
#[test]
fn fault_070_too_few_fds_for_all_workers() {
    let scene = Scene::new();
    let config = Config::new(&[site("20")]);
    let mut daemon = start_within(&config, &scene, &words(&["prlimit", "--nofile=56:56"]));
    let throttled = daemon.wait_event("pool-throttled", SOON);
    assert_eq!(throttled.event["pool"], "site");
    let address = daemon::address(&scene, "site");
    Request::get("/").send(&address).expect("S: some workers are there");
    let conditions = Conditions::begin(&mut daemon, &address);
    let living = proc::children(daemon.pid()).len();
    assert!((2..20).contains(&living), "{living} workers with 56 descriptors");
    let said = daemon.verb(&["status"]);
    assert!(said.code == 0 || said.code == 69, "{said:?}");
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["state"], "closed", "the host is to blame: {pool}");
    assert_ne!(pool["state"], "down", "{pool}");
    // Long enough for several of its next tries, and for a loop to show.
    assert!(!is_within(Duration::from_secs(2), || !proc::alive(daemon.pid())));
    conditions.end(&mut daemon, 0);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(scene.processes(), Vec::<u32>::new());
}

/// No new descriptor at all: no repair, no new operator, and no loop; all of it comes back with the descriptors.
#[test]
fn fault_070_supervisor_fds_exhausted() {
    let scene = Scene::new();
    let mut daemon = Config::new(&[site("3")]).start(&scene);
    daemon.wait_serving("site");
    let workers = wait_children(&mut daemon, 3);
    let address = daemon::address(&scene, "site");
    let conditions = Conditions::begin(&mut daemon, &address);
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).expect("pids are small"));
    let hard = getrlimit(Resource::Nofile).maximum;
    let set = |soft: Option<u64>| {
        let limit = Rlimit { current: soft, maximum: hard };
        prlimit(pid, Resource::Nofile, limit).expect("the supervisor is ours, and only the soft limit changes")
    };
    let before = set(Some(3));
    proc::kill(workers[0], Signal::KILL).expect("it is there");
    daemon.wait_event("pool-throttled", SOON);
    // A visitor whom the supervisor cannot let in: the kernel has connected him already.
    let operators: Vec<_> =
        (0..3).map(|_| UnixStream::connect(daemon.control()).expect("the kernel connects")).collect();
    assert!(!is_within(Duration::from_secs(2), || !proc::alive(daemon.pid())));
    assert_eq!(proc::children(daemon.pid()).len(), 2, "there was nothing to start a worker with");
    drop(operators);
    set(before.current);
    wait_children(&mut daemon, 3);
    conditions.end(&mut daemon, 1);
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    assert_eq!(daemon.stop(), 0);
}

/// One worker takes the memory of all: the kernel ends that one, and nothing else changes. Direct mode has no growth to
/// stop; shrinking by pressure is not decided by any rule of the policy.
#[test]
fn fault_071_memory_pressure() {
    let cgroup = match Cgroup::make("memory") {
        Ok(cgroup) => cgroup,
        Err(why) => return skipped("fault_071", &why),
    };
    cgroup.limit_memory(96 << 20);
    let scene = Scene::new();
    let mut daemon = start_within(&Config::new(&[site("4")]), &scene, &cgroup.wrapper());
    daemon.wait_serving("site");
    wait_children(&mut daemon, 4);
    let address = daemon::address(&scene, "site");
    let conditions = Conditions::begin(&mut daemon, &address);
    Request::get("/leak?300").send(&address).expect_err("the worker is ended while it takes memory");
    let exited = daemon.wait_event("worker-exited", SOON);
    assert_eq!(exited.event["class"], "oom", "{}", exited.text);
    wait_children(&mut daemon, 4);
    conditions.end(&mut daemon, 1);
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    assert_eq!(daemon.stop(), 0);
}

/// A small file system of our own for the runtime directory and the recording.
fn small_file_system(scene: &Scene, options: &str) -> String {
    let directory = scene.join("run");
    fs::create_dir(&directory).expect("the scene is ours");
    mount(&["-t", "tmpfs", "-o", options, "steadfast-test"], &directory);
    allow(&directory, 0o755);
    directory.display().to_string()
}

fn mount(arguments: &[&str], at: &Path) {
    let status = Command::new("mount").args(arguments).arg(at).status().expect("mount is there");
    assert!(status.success(), "mount {arguments:?} {}", at.display());
}

fn mounts() -> Vec<(&'static str, Vec<String>)> {
    vec![("mounts", words(&["--mount", "--propagation", "private"]))]
}

/// The recording is the only file that grows. It ends with one warning; nothing else notices.
#[test]
fn fault_072_disk_full() {
    if inside("fault_072_disk_full", &mounts()).is_none() {
        return;
    }
    let scene = Scene::new();
    let run = small_file_system(&scene, "size=16k");
    let file = Config::new(&[site("3")]).write(&scene);
    let mut command = Command::new(STEADFAST);
    command.arg("run").arg("-c").arg(file).arg("--record").arg(format!("{run}/recording"));
    let mut daemon = Daemon::spawn(command, &scene, &scene.join("run/control.sock"));
    daemon.wait_serving("site");
    wait_children(&mut daemon, 3);
    let conditions = Conditions::begin(&mut daemon, &daemon::address(&scene, "site"));
    fill(&format!("{run}/ballast"));
    let mut killed = 0;
    let warned = |line: &daemon::Line| line.name() == "supervisor-warned" && line.text.contains("record");
    while !daemon.lines().iter().any(warned) {
        assert!(killed < 30, "the recording never met the full disk\n{}", tail(&mut daemon));
        replace_one(&mut daemon, 3);
        killed += 1;
    }
    replace_one(&mut daemon, 3);
    let said = daemon.verb(&["reload", "--wait", "--timeout", "20s"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(daemon.lines().iter().filter(|line| warned(line)).count(), 1, "{}", tail(&mut daemon));
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    conditions.end(&mut daemon, killed + 1);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(scene.processes(), Vec::<u32>::new());
}

fn fill(path: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("an inode is free");
    while file.write_all(&[b'x'; 512]).is_ok() {}
}

/// The log itself goes to a full disk: every write fails, and it goes on without.
#[test]
fn fault_072_log_on_a_full_disk() {
    let scene = Scene::new();
    let wrapper = words(&["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"]);
    let mut daemon = start_within(&Config::new(&[site("2")]), &scene, &wrapper);
    let workers = wait_children(&mut daemon, 2);
    let address = daemon::address(&scene, "site");
    let conditions = Conditions::begin(&mut daemon, &address);
    proc::kill(workers[0], Signal::KILL).expect("it is there");
    assert!(proc::wait_gone(workers[0], SOON));
    wait_children(&mut daemon, 2);
    Request::get("/flood?2000").send(&address).expect("a talkative worker");
    let events = daemon.verb(&["events", "-n", "100", "--json"]);
    assert!(events.stdout.contains("\"worker-exited\""), "the ring has it: {events:?}");
    conditions.end(&mut daemon, 1);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn fault_073_inodes_exhausted_and_read_only() {
    if inside("fault_073_inodes_exhausted_and_read_only", &mounts()).is_none() {
        return;
    }
    let scene = Scene::new();
    let run = small_file_system(&scene, "size=256k,nr_inodes=16");
    let mut daemon = Config::new(&[site("3")]).start(&scene);
    daemon.wait_serving("site");
    wait_children(&mut daemon, 3);
    let conditions = Conditions::begin(&mut daemon, &daemon::address(&scene, "site"));
    let made = (0..).take_while(|number| fs::File::create(format!("{run}/inode-{number}")).is_ok()).count();
    assert!(made < 16, "the inodes have not run out");
    replace_one(&mut daemon, 3);
    let said = daemon.verb(&["reload", "--wait", "--timeout", "20s"]);
    assert_eq!(said.code, 0, "without inodes: {said:?}");
    // Another mount of the same over the first: a remount would be refused, for the lock file is open.
    mount(&["--bind", "-o", "ro", &run], Path::new(&run));
    replace_one(&mut daemon, 3);
    let said = daemon.verb(&["reload", "--wait", "--timeout", "20s"]);
    assert_eq!(said.code, 0, "read-only: {said:?}");
    conditions.end(&mut daemon, 2);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    // Its own files cannot be removed there; it leaves all the same.
    assert_eq!(daemon.stop(), 0);
    assert_eq!(scene.processes(), Vec::<u32>::new());

    let mut again = Config::new(&[site("3")]).start(&scene);
    let status = again.wait_exit(SOON);
    let text = tail(&mut again);
    assert!(matches!(status.code(), Some(71 | 77 | 78)), "{status:?}: {text}");
    assert!(text.to_lowercase().contains("read-only"), "{text}");
}

/// A twentieth of a core for the supervisor and its workers together, and a loop beside them that takes most of that.
#[test]
fn fault_074_cpu_starved() {
    let cgroup = match Cgroup::make("cpu") {
        Ok(cgroup) => cgroup,
        Err(why) => return skipped("fault_074", &why),
    };
    let scene = Scene::new();
    let pool = site("3").key("ready-timeout", "\"8s\"").key("stop-timeout", "\"8s\"");
    let mut daemon = start_within(&Config::new(&[pool]), &scene, &cgroup.wrapper());
    daemon.wait_serving("site");
    let workers = wait_children(&mut daemon, 3);
    let workers: Vec<_> = workers.into_iter().map(|pid| (pid, sockets(pid))).collect();
    let address = daemon::address(&scene, "site");
    let in_flight = Request::get("/sleep?2").timeout(Duration::from_secs(30)).start(&address).expect("it is taken");
    let is_busy = |(pid, before): &(u32, usize)| sockets(*pid) > *before;
    assert!(is_soon(|| workers.iter().any(is_busy)), "one has taken it");
    let idle = workers.iter().find(|worker| !is_busy(worker)).expect("the others are idle").0;
    let wrapper = cgroup.wrapper();
    let mut hog = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .args(["sh", "-c", "while :; do :; done"])
        .spawn()
        .expect("sh is there");
    cgroup.limit_cpu(5);
    proc::kill(idle, Signal::KILL).expect("it is there");
    let answered = in_flight.finish();
    let is_whole = is_within(Duration::from_secs(20), || {
        proc::children(daemon.pid()).iter().filter(|pid| proc::alive(**pid)).count() == 3
    });
    cgroup.limit_cpu(0);
    hog.kill().expect("it is our child");
    hog.wait().expect("it is our child");
    assert!(is_whole, "it was not repaired\n{}", tail(&mut daemon));
    assert_eq!(answered.expect("nobody was killed for the machine's fault").status, 200);
    Request::get("/").send(&address).expect("S");
    let names = daemon.event_names();
    assert!(!names.iter().any(|name| name == "worker-killed"), "a false kill\n{}", tail(&mut daemon));
    let pool = daemon.pool("site");
    assert_eq!(pool["breaker"]["state"], "closed", "{pool}");
    for class in ["deaf", "timeout", "early"] {
        assert_eq!(pool["exits"][class].as_u64().unwrap_or(0), 0, "{class}: {pool}");
    }
    assert_eq!(daemon.stop(), 0);
}

/// systemd-oomd ends the whole group by cgroup.kill, as here; the unit is then started again by systemd. The lower
/// number of workers that faults.md asks for is the unit's: no rule of the policy outlives the supervisor.
#[test]
fn fault_075_whole_slice_killed() {
    let cgroup = match Cgroup::make("core") {
        Ok(cgroup) => cgroup,
        Err(why) => return skipped("fault_075", &why),
    };
    let scene = Scene::new();
    let mut daemon = start_within(&Config::new(&[site("4")]), &scene, &cgroup.wrapper());
    daemon.wait_serving("site");
    wait_children(&mut daemon, 4);
    cgroup.kill();
    let _by_signal = daemon.wait_exit(SOON);
    assert!(is_soon(|| scene.processes().is_empty()), "somebody survived");

    let mut again = Config::new(&[site("2")]).start(&scene);
    again.wait_serving("site");
    wait_children(&mut again, 2);
    let address = daemon::address(&scene, "site");
    let conditions = Conditions::begin(&mut again, &address);
    Request::get("/").send(&address).expect("S: it starts over what was left behind");
    conditions.end(&mut again, 0);
    assert_eq!(again.pool("site")["breaker"]["state"], "closed");
    assert_eq!(again.stop(), 0);
    assert_eq!(scene.processes(), Vec::<u32>::new());
}
