//! Faults 65 to 69: listening sockets whose file is stale, taken, shared, removed or impossible.

use steadfast_harness as support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use support::conditions::{Conditions, is_soon, sockets, tail, wait_children};
use support::daemon::{self, Config, Pool, SOON, is_root};
use support::fcgi::{Address, Request};
use support::scene::Scene;
use support::{apps, proc};

fn site(workers: &str) -> Pool {
    Pool::new("site", &[apps::worker()]).workers(workers)
}

/// Runs a supervisor that must not start: its exit code and what it says.
fn refused(config: &Config, scene: &Scene) -> (i32, String) {
    let mut daemon = config.start(scene);
    let status = daemon.wait_exit(SOON);
    (status.code().unwrap_or(-1), tail(&mut daemon))
}

/// Looks all the time whether a path is there.
struct Presence {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Presence {
    fn watch(path: PathBuf) -> Presence {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut missing = 0;
            while !stopped.load(Ordering::Relaxed) {
                missing += u64::from(fs::symlink_metadata(&path).is_err());
            }
            missing
        });
        Presence { stop, thread }
    }

    fn missing(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only looks")
    }
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).expect("the path is there").ino()
}

#[test]
fn fault_065_stale_socket_file() {
    let scene = Scene::new();
    let path = daemon::socket(&scene, "site");
    let config = Config::new(&[site("2")]);
    let mut first = config.start(&scene);
    first.wait_serving("site");
    let workers = first.workers("site");
    first.signal(Signal::KILL);
    let _by_signal = first.wait_exit(SOON);
    for pid in workers {
        assert!(proc::wait_gone(pid, SOON), "worker {pid} has stayed");
    }
    let stale = inode(&path);
    UnixStream::connect(&path).expect_err("nobody listens any more");

    let presence = Presence::watch(path.clone());
    let mut second = config.start(&scene);
    second.wait_serving("site");
    assert_eq!(presence.missing(), 0, "there was a moment without the name");
    assert_ne!(inode(&path), stale);
    Request::get("/").send(&daemon::address(&scene, "site")).expect("it serves again");
    assert_eq!(second.stop(), 0);
    assert!(!path.exists(), "a clean stop takes its name away");
    assert_eq!(scene.processes(), Vec::<u32>::new());
}

/// A socket that somebody listens on stays whose it is, also while nobody there takes connections.
#[test]
fn fault_065_live_socket_is_never_unlinked() {
    let scene = Scene::new();
    let path = daemon::socket(&scene, "site");
    let config = Config::new(&[site("2")]);
    let listener = UnixListener::bind(&path).expect("the scene is ours");
    let before = inode(&path);
    let (code, text) = refused(&config, &scene);
    assert_eq!(code, 75, "{text}");
    assert!(text.contains("site.sock"), "{text}");

    rustix::net::listen(&listener, 0).expect("the backlog can be made small");
    let mut held = Vec::new();
    while let Some(waiting) = knock(&path) {
        held.push(waiting);
    }
    let (code, text) = refused(&config, &scene);
    assert_eq!(code, 75, "with a full backlog: {text}");
    assert_eq!(inode(&path), before);
    drop(held);
    listener.set_nonblocking(true).expect("a socket can");
    while listener.accept().is_ok() {}
    UnixStream::connect(&path).expect("the path still leads to it");
    assert_eq!(scene.processes(), Vec::<u32>::new());
}

/// Connects without waiting; nothing when the backlog is full.
fn knock(path: &Path) -> Option<std::os::fd::OwnedFd> {
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None)
        .expect("a socket");
    let to = SocketAddrUnix::new(path).expect("a short path");
    rustix::net::connect(&fd, &to).ok().map(|()| fd)
}

/// Two supervisors of one configuration, and two with one socket: the first keeps what it has.
#[test]
fn fault_065_second_supervisor_takes_nothing() {
    let scene = Scene::new();
    let path = daemon::socket(&scene, "site");
    let config = Config::new(&[site("2")]);
    let mut first = config.start(&scene);
    first.wait_serving("site");
    let before = inode(&path);
    let (code, text) = refused(&config, &scene);
    assert_eq!(code, 75, "{text}");
    assert!(text.contains(&first.pid().to_string()), "it says who has the directory: {text}");

    let other = Scene::new();
    let same_socket = Config::new(&[site("2").listen(&format!("unix:{}", path.display()))]);
    let (code, text) = refused(&same_socket, &other);
    assert_eq!(code, 75, "{text}");
    assert_eq!(inode(&path), before);
    Request::get("/").send(&daemon::address(&scene, "site")).expect("the first still serves");
    assert_eq!(first.stop(), 0);
}

#[test]
fn fault_066_other_process_bound_the_port() {
    let scene = Scene::new();
    let log = scene.shared_file("starts").display().to_string();
    let other = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = other.local_addr().expect("it is bound");
    let config = Config::new(&[site("2").listen(&address.to_string()).environment("START_LOG", &log)]);
    let (code, text) = refused(&config, &scene);
    assert_eq!(code, 75, "{text}");
    assert!(text.contains(&address.to_string()), "{text}");
    assert!(text.contains("in use"), "{text}");
    assert!(text.lines().count() <= 3, "it tried in a loop: {text}");
    assert_eq!(proc::starts(Path::new(&log)), [], "nothing is started for a pool without a socket");

    drop(other);
    let mut daemon = config.start(&scene);
    daemon.wait_serving("site");
    Request::get("/").send(&Address::Tcp(address)).expect("the port is free now");
    assert_eq!(daemon.stop(), 0);
}

/// The same by a reload: it is refused whole, and nothing changes.
#[test]
fn fault_066_reload_onto_a_bound_port() {
    let scene = Scene::new();
    let other = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = other.local_addr().expect("it is bound");
    let mut daemon = Config::new(&[site("2")]).start(&scene);
    daemon.wait_serving("site");
    let workers = daemon.workers("site");
    let conditions = Conditions::begin(&mut daemon, &daemon::address(&scene, "site"));
    Config::new(&[site("2").listen(&address.to_string())]).write(&scene);
    let said = daemon.verb(&["reload", "--wait", "--timeout", "10s"]);
    assert_ne!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains(&address.to_string()), "{said:?}");
    daemon.wait_event("supervisor-refused", SOON);
    assert_eq!(daemon.workers("site"), workers);
    conditions.end(&mut daemon, 0);
    assert_eq!(daemon.stop(), 0);
}

/// With SO_REUSEPORT each worker would have a queue of its own, and what waits in it would die with the worker. All
/// share one socket: whoever lives takes what waits.
#[test]
fn fault_067_so_reuseport_sibling_closes() {
    let scene = Scene::new();
    let address = free_port();
    let mut daemon = Config::new(&[site("2").listen(&address.to_string())]).start(&scene);
    daemon.wait_serving("site");
    let workers = wait_children(&mut daemon, 2);
    let listener = |pid| proc::fds(pid).into_iter().find(|(fd, _)| *fd == 0).map(|(_, to)| to);
    assert_eq!(listener(workers[0]), listener(workers[1]), "they have sockets of their own");
    assert!(listener(workers[0]).is_some_and(|to| to.starts_with("socket:")));

    let to = Address::Tcp(address);
    let idle: Vec<_> = workers.iter().map(|pid| sockets(*pid)).collect();
    let busy: Vec<_> = (0..2).map(|_| Request::get("/sleep?1").start(&to).expect("it is taken")).collect();
    let are_busy = || workers.iter().zip(&idle).all(|(pid, idle)| sockets(*pid) > *idle);
    assert!(is_soon(are_busy), "each takes one");
    let waiting: Vec<_> = (0..10).map(|_| Request::get("/").start(&to).expect("it waits")).collect();
    proc::kill(workers[0], Signal::KILL).expect("it is there");
    for request in waiting {
        request.finish().expect("what waits is answered by another worker");
    }
    let answered = busy.into_iter().filter_map(|request| request.finish().ok()).count();
    assert!(answered >= 1, "the other worker has finished its request");
    wait_children(&mut daemon, 2);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    assert_eq!(daemon.stop(), 0);
}

/// Free now; whoever takes it before the supervisor does makes the test fail, not pass.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener.local_addr().expect("it is bound")
}

#[test]
fn fault_068_socket_path_deleted() {
    let scene = Scene::new();
    let path = daemon::socket(&scene, "site");
    let address = daemon::address(&scene, "site");
    let mut daemon = Config::new(&[site("2")]).start(&scene);
    daemon.wait_serving("site");
    let before = daemon.workers("site");
    let in_flight = Request::get("/sleep?0.5").start(&address).expect("it is taken");
    fs::remove_file(&path).expect("the path is there");
    let rebound = daemon.wait_event("pool-rebound", SOON);
    assert_eq!(rebound.event["pool"], "site");
    assert!(rebound.text.contains("site.sock"), "{}", rebound.text);
    let conditions = Conditions::begin(&mut daemon, &address);
    assert_eq!(in_flight.finish().expect("what was in hand is finished").status, 200);
    for pid in before {
        assert!(proc::wait_gone(pid, SOON), "worker {pid} still listens where nobody comes");
    }
    wait_children(&mut daemon, 2);
    conditions.end(&mut daemon, 0);
    assert_eq!(daemon.pool("site")["breaker"]["state"], "closed");
    assert_eq!(daemon.stop(), 0);
    assert!(!path.exists());
}

/// Somebody else's socket under our name is not ours to remove while it lives.
#[test]
fn fault_068_socket_path_taken_over() {
    let scene = Scene::new();
    let path = daemon::socket(&scene, "site");
    let address = daemon::address(&scene, "site");
    let mut daemon = Config::new(&[site("2")]).start(&scene);
    daemon.wait_serving("site");
    let before = support::conditions::own_lines(&mut daemon);
    let aside = scene.join("other.sock");
    let other = UnixListener::bind(&aside).expect("the scene is ours");
    let foreign = inode(&aside);
    fs::rename(&aside, &path).expect("the scene is ours");
    let warned = daemon.wait("word about the lost socket", SOON, |line| line.text.contains("site.sock"));
    assert!(warned.text.contains("in use"), "{}", warned.text);
    // Several of its tries have passed when the pool's own tries would show in the log.
    let cpu = support::conditions::cpu(daemon.pid());
    let quiet = is_soon(|| {
        assert_eq!(inode(&path), foreign, "the other's socket was removed");
        warned.at.elapsed() > Duration::from_millis(2500)
    });
    assert!(quiet);
    let used = support::conditions::cpu(daemon.pid()).saturating_sub(cpu);
    assert!(used < Duration::from_millis(100), "{used:?} of a core for trying");
    let lines = support::conditions::own_lines(&mut daemon) - before;
    assert!(lines <= 5, "{}", tail(&mut daemon));
    drop(other);
    daemon.wait_event("pool-rebound", SOON);
    Request::get("/").send(&address).expect("it serves again");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn fault_069_impossible_socket() {
    let scene = Scene::new();
    let long = format!("unix:{}", scene.join(&"x".repeat(110)).display());
    let missing = format!("unix:{}", scene.join("missing/site.sock").display());
    let taken = scene.write("file.sock", "precious");
    let on_a_file = format!("unix:{}", taken.display());
    let cases = [
        ("an abstract name", site("1").listen("unix:@site"), "abstract"),
        ("a long path", site("1").listen(&long), "107"),
        ("a directory that is not there", site("1").listen(&missing), "directory"),
        ("a path that is no socket", site("1").listen(&on_a_file), "no socket"),
        (
            "an owner that is not there",
            site("1").key("socket", "{ owner = \"nobody-of-this-name\" }"),
            "nobody-of-this-name",
        ),
        (
            "a group that is not there",
            site("1").key("socket", "{ group = \"nobody-of-this-name\" }"),
            "nobody-of-this-name",
        ),
        ("a mode that is none", site("1").key("socket", "{ mode = \"0999\" }"), "0999"),
    ];
    for (what, pool, reason) in cases {
        let (code, text) = refused(&Config::new(&[pool]), &scene);
        assert_eq!(code, 78, "{what}: {text}");
        assert!(text.contains(reason), "{what}: the reason is not said: {text}");
        assert_eq!(scene.processes(), Vec::<u32>::new(), "{what}");
    }
    assert_eq!(fs::read_to_string(&taken).expect("it was left alone"), "precious");
}

#[test]
fn fault_069_owner_and_mode_are_as_asked() {
    let scene = Scene::new();
    let path = daemon::socket(&scene, "site");
    let bits = if is_root() {
        format!("{{ mode = \"0640\", owner = \"{0}\", group = \"{0}\" }}", daemon::USER)
    } else {
        "{ mode = \"0640\" }".to_owned()
    };
    let mut daemon = Config::new(&[site("1").key("socket", &bits)]).start(&scene);
    daemon.wait_serving("site");
    let metadata = fs::symlink_metadata(&path).expect("it is there");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    let worker = daemon.workers("site")[0];
    let owner = proc::status_field(worker, "Uid").unwrap_or_default();
    assert_eq!(owner.split_whitespace().next(), Some(metadata.uid().to_string().as_str()));
    assert_eq!(daemon.stop(), 0);
}
