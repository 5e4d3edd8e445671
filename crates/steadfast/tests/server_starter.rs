//! Starman and Starlet as they are in Debian, in direct mode, with their socket passed as Server::Starter does.

use steadfast_harness as support;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::conditions::{is_soon, is_within, tail};
use support::daemon::{Config, Daemon, Line, Pool, SOON, steadfast};
use support::http::Ask;
use support::loopback;
use support::proc;
use support::scene::Scene;
use support::within::start_within;

/// A release that says its number, a bit later. Its workers note that they have loaded it.
const GOOD: &str = "open my $f, '>>', 'LOADED'; syswrite $f, qq($$\n); close $f; sub { select undef, undef, undef, 0.02; [200, ['Content-Type' => 'text/plain'], ['ok RELEASE']] };\n";
/// One whose workers die when they load it.
const HOLLOW: &str =
    "open my $f, '>>', 'STARTS'; syswrite $f, qq(worker $$\\n); die qq(Can't locate object method new\\n);\n";
/// One that ends whoever is asked, when it is loaded.
const ENDING: &str = "open my $f, '>>', 'STARTS'; syswrite $f, qq(worker $$\\n); print STDERR qq(no such database\\n); require POSIX; POSIX::_exit(3);\n";

fn release(scene: &Scene, text: &str) {
    scene.write("site.psgi", &text.replace("LOADED", &scene.join("loaded").display().to_string()));
}

/// One that asks two programs while it is loaded, which fail.
const ASKING: &str = "BEGIN { `sh -c 'sleep 0.1; exit 3'`; `false`; select undef, undef, undef, 0.1 }\n";

/// Starman with five workers; each start of it is noted, as its workers' by the hollow release.
fn pool(scene: &Scene, address: SocketAddr) -> Pool {
    let preload = scene.join("preload").display().to_string();
    let once = scene.join("once").display().to_string();
    let options = format!("(-e '{preload}' ? '--preload-app' : ()), (-e '{once}' ? ('--max-requests', 1) : ())");
    noted(scene, address, &format!("'/usr/bin/starman', {options}"))
}

/// Starlet with as many, which loads the application itself, or has it loaded by whoever of its workers is asked first.
fn starlet(scene: &Scene, address: SocketAddr) -> Pool {
    let delayed = scene.join("delayed").display().to_string();
    noted(scene, address, &format!("qw(plackup -s Starlet -E deployment), (-e '{delayed}' ? qw(-L Delayed) : ())"))
}

fn noted(scene: &Scene, address: SocketAddr, command: &str) -> Pool {
    let starts = scene.shared_file("starts");
    let text = format!(
        "#!/usr/bin/perl\nopen my $f, '>>', '{}'; syswrite $f, qq(manager $$\\n); close $f;\nexec {command}, @ARGV;\n",
        starts.display(),
    );
    let program = scene.program("manager", &text);
    managed(&[program.to_str().expect("text"), "--workers", "5", "site.psgi"], address)
}

/// One manager that listens there.
fn managed(command: &[&str], address: SocketAddr) -> Pool {
    Pool::new("site", command)
        .listen(&format!("http://{address}"))
        .workers("1")
        .key("pass", "\"server-starter\"")
        .key("verify", "{ request = \"GET /\", expect = { body = \"ok\" } }")
}

fn hollow(scene: &Scene) -> String {
    HOLLOW.replace("STARTS", &scene.join("starts").display().to_string())
}

fn start(scene: &Scene, pool: Pool) -> Daemon {
    start_by(scene, pool, |config| config.start(scene))
}

fn start_by(scene: &Scene, pool: Pool, run: impl Fn(&Config) -> Daemon) -> Daemon {
    release(scene, &GOOD.replace("RELEASE", "0"));
    let _ = scene.shared_file("loaded");
    let mut daemon = run(&Config::new(&[pool]));
    daemon.wait_serving("site");
    // A manager is ready before all of its workers are: those that load later would load what the test deploys next.
    assert!(is_soon(|| have_loaded(scene, &daemon)), "{}", tail(&mut daemon));
    daemon
}

/// Whether the only manager has five workers, and it has loaded the application or they all have.
fn have_loaded(scene: &Scene, daemon: &Daemon) -> bool {
    count_loaded(scene, daemon) == 5
}

/// How many workers of the only manager have loaded the application.
fn count_loaded(scene: &Scene, daemon: &Daemon) -> usize {
    let loaded = fs::read_to_string(scene.join("loaded")).expect("it is there");
    let loaded: BTreeSet<&str> = loaded.lines().collect();
    let &[manager] = daemon.workers("site").as_slice() else { return 0 };
    let is_preloaded = loaded.contains(manager.to_string().as_str());
    children(daemon).iter().filter(|child| is_preloaded || loaded.contains(child.to_string().as_str())).count()
}

/// Visitors without a pause: what they were told, and who was not.
fn visit(address: SocketAddr, is_over: &Arc<AtomicBool>) -> thread::JoinHandle<(BTreeSet<String>, u32, Vec<String>)> {
    let is_over = Arc::clone(is_over);
    let told = Arc::new(Mutex::new((BTreeSet::new(), 0, Vec::new())));
    thread::spawn(move || {
        let each = || {
            while !is_over.load(Ordering::Relaxed) {
                let page = Ask::get("/").header("Connection", "close").send(address);
                let mut told = told.lock().expect("nobody panics");
                match page {
                    Ok(page) if page.status == 200 && page.text().starts_with("ok ") => {
                        told.0.insert(page.text());
                        told.1 += 1;
                    }
                    other => told.2.push(format!("{other:?}")),
                }
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(each))));
        let told = told.lock().expect("nobody panics");
        (told.0.clone(), told.1, told.2.clone())
    })
}

#[test]
fn starman_serves_and_reloads_lose_nothing() {
    reloads_lose_nothing(pool);
}

/// Its manager waits for the ends of its workers, and never for a request.
#[test]
fn starlet_serves_and_reloads_lose_nothing() {
    reloads_lose_nothing(starlet);
}

fn reloads_lose_nothing(pool: impl Fn(&Scene, SocketAddr) -> Pool) {
    let scene = Scene::new();
    let address = loopback::address();
    let mut daemon = start(&scene, pool(&scene, address));
    let is_over = Arc::new(AtomicBool::new(false));
    let visitors = visit(address, &is_over);
    for number in 1..=4 {
        release(&scene, &GOOD.replace("RELEASE", &number.to_string()));
        let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
        assert_eq!(said.code, 0, "{said:?}\n{}", tail(&mut daemon));
    }
    let serves = is_soon(|| Ask::get("/").send(address).is_ok_and(|page| page.text() == "ok 4"));
    assert!(serves, "{}", tail(&mut daemon));
    is_over.store(true, Ordering::Relaxed);
    let (releases, count, lost) = visitors.join().expect("nobody panics");
    assert!(lost.is_empty(), "of {count}: {lost:?}\n{}", tail(&mut daemon));
    assert!(count > 50 && releases.contains("ok 0") && releases.contains("ok 4"), "{count}: {releases:?}");
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    assert_eq!(scene.processes(), Vec::<u32>::new(), "something is left");
}

/// As start_server counts it.
#[test]
fn a_program_is_told_its_generation() {
    let scene = Scene::new();
    let address = loopback::address();
    let mut daemon = start(&scene, pool(&scene, address));
    let told = || Ask::get("/").send(address).map(|page| page.text()).unwrap_or_default();
    release(&scene, "sub { [200, [], [qq(ok $ENV{SERVER_STARTER_GENERATION})]] };\n");
    for number in 2..=3 {
        let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
        assert_eq!(said.code, 0, "{said:?}\n{}", tail(&mut daemon));
        assert_eq!(daemon.pool("site")["generation"], number, "{}", daemon.pool("site"));
        assert!(is_soon(|| told() == format!("ok {number}")), "{:?}\n{}", told(), tail(&mut daemon));
    }
    daemon.stop();
}

#[test]
fn what_the_application_asks_while_it_is_loaded_is_no_worker() {
    let scene = Scene::new();
    let address = loopback::address();
    scene.write("preload", "");
    release(&scene, &format!("{ASKING}{}", GOOD.replace("RELEASE", "0")));
    let config = Config::new(&[pool(&scene, address)]);
    let file = config.write(&scene).display().to_string();
    let said = steadfast(scene.path(), &["check", "--boot", "-c", &file]);
    assert_eq!(said.code, 0, "{said:?}");
    let mut daemon = config.start(&scene);
    daemon.wait_serving("site");
    // It waits in select for a while before it has started somebody.
    assert!(!children(&daemon).is_empty(), "it was taken for ready before it had workers\n{}", tail(&mut daemon));
    release(&scene, &format!("{ASKING}{}", GOOD.replace("RELEASE", "1")));
    let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", tail(&mut daemon));
    assert!(Ask::get("/").send(address).is_ok_and(|page| page.text() == "ok 1"), "{}", tail(&mut daemon));
    // Loaded before its workers, it cannot be hollow in them: it is the master that dies.
    release(&scene, &format!("{ASKING}{}", hollow(&scene)));
    let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
    assert_eq!(said.code, 1, "{said:?}\n{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

#[test]
fn a_reload_to_a_release_whose_workers_die_is_refused_at_once() {
    let scene = Scene::new();
    let address = loopback::address();
    let mut daemon = start(&scene, pool(&scene, address));
    let before = daemon.workers("site");
    release(&scene, &hollow(&scene));
    let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
    assert_eq!(said.code, 1, "{said:?}\n{}", tail(&mut daemon));
    assert!(said.stderr.contains("the first has died before it had answered"), "{said:?}");
    // The refusal is told when the trial is judged; its manager leaves after that.
    assert!(is_soon(|| daemon.workers("site") == before), "the old manager was touched\n{}", tail(&mut daemon));
    assert!(Ask::get("/").send(address).is_ok_and(|page| page.text() == "ok 0"), "{}", tail(&mut daemon));
    let starts = fs::read_to_string(scene.join("starts")).expect("it is there");
    // The kernel stops the trial's manager at its first fork: not one more can have been started.
    assert_eq!(starts.matches("worker").count(), 1, "{starts}\n{}", tail(&mut daemon));
    daemon.stop();
}

/// Starlet's manager dies of what it cannot load. Its workers die of a release that ends them, each at the first request.
#[test]
fn a_reload_of_starlet_to_a_broken_release_is_refused_and_says_why() {
    let scene = Scene::new();
    let address = loopback::address();
    let mut daemon = start(&scene, starlet(&scene, address));
    let before = daemon.workers("site");
    let refused = |daemon: &mut Daemon, why: &str| {
        let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
        assert_eq!(said.code, 1, "{said:?}\n{}", tail(daemon));
        assert!(is_soon(|| daemon.workers("site") == before), "the old manager was touched\n{}", tail(daemon));
        assert!(Ask::get("/").send(address).is_ok_and(|page| page.text() == "ok 0"), "{}", tail(daemon));
        assert!(tail(daemon).contains(why), "{}", tail(daemon));
        let starts = fs::read_to_string(scene.join("starts")).expect("it is there");
        fs::write(scene.join("starts"), "").expect("it is ours");
        (starts.matches("manager").count(), starts.matches("worker").count())
    };
    fs::write(scene.join("starts"), "").expect("it is ours");
    release(&scene, &hollow(&scene));
    assert_eq!(refused(&mut daemon, "Can't locate object method new"), (1, 1), "{}", tail(&mut daemon));
    scene.write("delayed", "");
    release(&scene, &ENDING.replace("STARTS", &scene.join("starts").display().to_string()));
    assert_eq!(refused(&mut daemon, "no such database"), (1, 1), "{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    assert_eq!(scene.processes(), Vec::<u32>::new(), "something is left");
}

/// Trials now, three of them, and after 5 and 10 seconds. The second begins when the breaker half opens.
#[test]
fn a_site_under_starlet_that_is_broken_from_the_start_does_not_cycle() {
    let scene = Scene::new();
    let address = loopback::address();
    scene.write("delayed", "");
    let pool = starlet(&scene, address);
    release(&scene, &ENDING.replace("STARTS", &scene.join("starts").display().to_string()));
    let mut daemon = Config::new(&[pool]).start(&scene);
    daemon.wait_event("breaker-opened", SOON);
    daemon.wait_event("breaker-half-open", Duration::from_secs(15));
    daemon.wait_event("breaker-opened", SOON);
    let starts = fs::read_to_string(scene.join("starts")).expect("it is there");
    let halves = daemon.event_names().iter().filter(|name| *name == "breaker-half-open").count();
    // Three failures open it, or one in which the worker's death is seen before the asker's end; one more may be under way then.
    let (managers, workers) = (starts.matches("manager").count(), starts.matches("worker").count());
    assert!((2..=4 + halves).contains(&managers), "{halves}: {starts}");
    assert!((2..=managers).contains(&workers), "{starts}");
    release(&scene, &GOOD.replace("RELEASE", "1"));
    assert_eq!(daemon.verb(&["breaker", "site", "reset"]).code, 0);
    let serves = is_soon(|| Ask::get("/").send(address).is_ok_and(|page| page.text() == "ok 1"));
    assert!(serves, "{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// The first minute has four trials: now, after 5, 10 and 20 seconds. The first two are looked at here.
#[test]
fn a_site_that_is_broken_from_the_start_does_not_cycle() {
    let scene = Scene::new();
    let address = loopback::address();
    release(&scene, &hollow(&scene));
    let mut daemon = Config::new(&[pool(&scene, address)]).start(&scene);
    let opened = daemon.wait_event("breaker-opened", SOON);
    assert!(opened.text.contains("the first has died before it had answered"), "{}", opened.text);
    daemon.wait_event("breaker-half-open", Duration::from_secs(15));
    daemon.wait_event("breaker-opened", SOON);
    let starts = fs::read_to_string(scene.join("starts")).expect("it is there");
    // A manager for each trial, and the kernel stops each at its first fork: not one more can have been started. (On a busy
    // machine the next trial may have come before we look.)
    let trials = 1 + daemon.event_names().iter().filter(|name| *name == "breaker-half-open").count();
    let (managers, workers) = (starts.matches("manager").count(), starts.matches("worker").count());
    assert!((2..=trials).contains(&managers), "{trials} trials: {starts}");
    assert!((2..=managers).contains(&workers), "{starts}");
    // Mended, it serves after the next trial.
    release(&scene, &GOOD.replace("RELEASE", "1"));
    let begun = Instant::now();
    let said = daemon.verb(&["breaker", "site", "reset"]);
    assert_eq!(said.code, 0, "{said:?}");
    let serves = is_soon(|| Ask::get("/").send(address).is_ok_and(|page| page.text() == "ok 1"));
    assert!(serves, "{:?}\n{}", begun.elapsed(), tail(&mut daemon));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// Executes its arguments where ptrace(2) is refused, to whom they start, too: a filter as systemd's `SystemCallFilter=~ptrace`
/// installs it (seccomp(2), BPF: load the number; is it ptrace; EPERM; allow). It makes sure of that.
const UNTRACED: &str = "
import ctypes, errno, os, platform, struct, sys
number = {'x86_64': 101, 'aarch64': 117}[platform.machine()]
lines = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | errno.EPERM), (0x06, 0, 0, 0x7fff0000)]
text = b''.join(struct.pack('=HBBI', *line) for line in lines)
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('text', ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER, TRACEME = 38, 22, 2, 0
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, ctypes.get_errno()
assert libc.prctl(PR_SET_SECCOMP, FILTER, ctypes.byref(Program(len(lines), text)), 0, 0) == 0, ctypes.get_errno()
assert libc.ptrace(TRACEME, 0, 0, 0) == -1 and ctypes.get_errno() == errno.EPERM
os.execv(sys.argv[1], sys.argv[1:])
";

/// Then a trial is looked at each millisecond until it has started somebody.
#[test]
fn where_ptrace_is_refused_a_broken_release_is_refused_all_the_same() {
    let scene = Scene::new();
    let address = loopback::address();
    let wrapper = ["python3", "-c", UNTRACED].map(str::to_owned);
    let mut daemon = start_by(&scene, pool(&scene, address), |config| start_within(config, &scene, &wrapper));
    let before = daemon.workers("site");
    release(&scene, &hollow(&scene));
    let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
    assert_eq!(said.code, 1, "{said:?}\n{}", tail(&mut daemon));
    assert!(
        said.stderr.contains("died before it had answered") || said.stderr.contains("died before they had"),
        "{said:?}"
    );
    assert!(is_soon(|| daemon.workers("site") == before), "the old manager was touched\n{}", tail(&mut daemon));
    assert!(Ask::get("/").send(address).is_ok_and(|page| page.text() == "ok 0"), "{}", tail(&mut daemon));
    let starts = fs::read_to_string(scene.join("starts")).expect("it is there");
    // Mostly one or two, and eight were seen on a busy machine. One that is not stopped starts five in 2 ms, for ten seconds.
    assert!((1..=50).contains(&starts.matches("worker").count()), "{starts}");
    release(&scene, &format!("{ASKING}{}", GOOD.replace("RELEASE", "1")));
    scene.write("preload", "");
    let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", tail(&mut daemon));
    assert!(Ask::get("/").send(address).is_ok_and(|page| page.text() == "ok 1"), "{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    assert_eq!(scene.processes(), Vec::<u32>::new(), "something is left");
}

#[test]
fn check_boot_tries_a_manager_and_does_not_let_it_cycle() {
    let scene = Scene::new();
    let config = Config::new(&[pool(&scene, loopback::address())]);
    let file = config.write(&scene).display().to_string();
    let check = || steadfast(scene.path(), &["check", "--boot", "-c", &file]);
    release(&scene, &GOOD.replace("RELEASE", "1"));
    let said = check();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("site: ok, ready after ") && said.stdout.contains(", and verified"), "{said:?}");
    release(&scene, &hollow(&scene));
    let said = check();
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.stdout.contains("died before"), "{said:?}");
    assert!(said.stdout.contains("Can't locate object method new"), "{said:?}");
    let starts = fs::read_to_string(scene.join("starts")).expect("it is there");
    assert_eq!(starts.matches("manager").count(), 2, "{starts}");
    assert_eq!(starts.matches("worker").count(), 1, "{starts}");
    release(&scene, "sub { [500, [], ['no']] };\n");
    let said = check();
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.stdout.contains("expected status 200, got status 500"), "{said:?}");
    assert!(is_soon(|| scene.processes().is_empty()), "something is left: {:?}", scene.processes());
}

/// Net::Server takes a worker for alive that died before it had noted it, as one does whose manager stands still; it looks for
/// such ones each 30 seconds.
fn is_whole(is_true: impl FnMut() -> bool) -> bool {
    is_within(Duration::from_secs(45), is_true)
}

/// The pids of the manager's own workers.
fn children(daemon: &Daemon) -> Vec<u32> {
    let &[manager] = daemon.workers("site").as_slice() else { return Vec::new() };
    let children = fs::read_to_string(format!("/proc/{manager}/task/{manager}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn kill(pid: u32) {
    proc::kill(pid, Signal::KILL).expect("it lives");
}

/// Starts noted by the hollow release's workers.
fn starts(scene: &Scene) -> usize {
    fs::read_to_string(scene.join("starts")).expect("it is there").matches("worker").count()
}

/// So many starts have been noted, and not more.
fn few_starts(scene: &Scene, daemon: &mut Daemon, bounds: RangeInclusive<usize>) -> usize {
    let begun = starts(scene);
    assert!(bounds.contains(&begun), "{begun} starts\n{}", tail(daemon));
    begun
}

/// Starman with five workers of a good release, and then one is gone and there is this one; the breaker's word.
fn bereaved(scene: &Scene, address: SocketAddr, next: &str) -> (Daemon, Line) {
    let mut daemon = start(scene, pool(scene, address));
    release(scene, next);
    kill(children(&daemon)[0]);
    let opened = daemon.wait_event("breaker-opened", Duration::from_secs(30));
    (daemon, opened)
}

#[test]
fn a_manager_whose_new_workers_die_rests_while_the_others_serve() {
    let scene = Scene::new();
    let address = loopback::address();
    let mut daemon = start(&scene, pool(&scene, address));
    let manager = daemon.workers("site");
    let is_over = Arc::new(AtomicBool::new(false));
    let visitors = visit(address, &is_over);
    // A deploy that nobody has announced, and a worker that is gone then.
    release(&scene, &hollow(&scene));
    kill(children(&daemon)[0]);
    let rests = daemon.wait_event("worker-resting", SOON);
    assert!(rests.text.contains("4 others can") && rests.text.contains("had changed on disk"), "{}", rests.text);
    let opened = daemon.wait_event("breaker-opened", Duration::from_secs(30));
    assert!(opened.text.contains("Can't locate object method new"), "{}", opened.text);
    // Two that made it suspected, what it had started until it stood still, and one for each failure.
    let begun = few_starts(&scene, &mut daemon, 3..=16);
    daemon.wait_never("another manager", Duration::from_secs(4), |line| line.name() == "worker-started");
    assert!(starts(&scene) <= begun + 1, "{begun}, then {}\n{}", starts(&scene), tail(&mut daemon));
    assert_eq!(daemon.workers("site"), manager, "{}", tail(&mut daemon));
    is_over.store(true, Ordering::Relaxed);
    // Of the one that was killed somebody may have been served.
    let (_, count, lost) = visitors.join().expect("nobody panics");
    assert!(lost.len() <= 1 && count > 50, "of {count}: {lost:?}\n{}", tail(&mut daemon));
    // Mended, it is let go on at the operator's word, and has all its workers again.
    release(&scene, &GOOD.replace("RELEASE", "1"));
    assert_eq!(daemon.verb(&["breaker", "site", "reset"]).code, 0);
    assert!(is_whole(|| have_loaded(&scene, &daemon)), "{:?}\n{}", children(&daemon), tail(&mut daemon));
    assert_eq!(daemon.workers("site"), manager, "{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    assert_eq!(scene.processes(), Vec::<u32>::new(), "something is left");
}

#[test]
fn a_manager_none_of_whose_workers_lives_is_replaced_and_tried_first() {
    let scene = Scene::new();
    let address = loopback::address();
    let mut daemon = start(&scene, pool(&scene, address));
    release(&scene, &hollow(&scene));
    children(&daemon).into_iter().for_each(kill);
    let exited = daemon.wait_event("worker-exited", SOON);
    assert!(exited.text.contains("none of them lives"), "{}", exited.text);
    let opened = daemon.wait_event("breaker-opened", Duration::from_secs(30));
    assert!(opened.text.contains("died before"), "{}", opened.text);
    few_starts(&scene, &mut daemon, 3..=20);
    // Mended, it serves after the next trial, without anybody's word.
    release(&scene, &GOOD.replace("RELEASE", "1"));
    let serves = || Ask::get("/").send(address).is_ok_and(|page| page.text() == "ok 1");
    assert!(is_soon(serves), "{}", tail(&mut daemon));
    assert!(is_whole(|| have_loaded(&scene, &daemon)), "{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    assert_eq!(scene.processes(), Vec::<u32>::new(), "something is left");
}

/// Some of the first five workers have loaded the good release by then, and some load the other one.
#[test]
fn a_deploy_while_the_workers_are_being_started_does_not_make_their_manager_cycle() {
    let scene = Scene::new();
    let address = loopback::address();
    release(&scene, &GOOD.replace("RELEASE", "0"));
    let _ = scene.shared_file("loaded");
    let mut daemon = Config::new(&[pool(&scene, address)]).start(&scene);
    daemon.wait_serving("site");
    release(&scene, &hollow(&scene));
    // Unless all had loaded it: then nothing happens until one goes.
    if let Some(&child) = children(&daemon).first().filter(|_| starts(&scene) == 0) {
        kill(child);
    }
    daemon.wait_event("breaker-opened", Duration::from_secs(30));
    few_starts(&scene, &mut daemon, 3..=24);
    release(&scene, &GOOD.replace("RELEASE", "1"));
    assert_eq!(daemon.verb(&["breaker", "site", "reset"]).code, 0);
    let serves = || Ask::get("/").send(address).is_ok_and(|page| page.text().starts_with("ok "));
    assert!(is_whole(|| children(&daemon).len() == 5 && serves()), "{:?}\n{}", children(&daemon), tail(&mut daemon));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// The new image finds that it stands still, and has it rest on.
#[test]
fn a_manager_that_rests_is_no_hindrance_to_an_upgrade() {
    let scene = Scene::new();
    let address = loopback::address();
    let mut daemon = start(&scene, pool(&scene, address));
    let manager = daemon.workers("site");
    release(&scene, &hollow(&scene));
    kill(children(&daemon)[0]);
    daemon.wait_event("breaker-opened", Duration::from_secs(30));
    let before = starts(&scene);
    daemon.signal(Signal::USR2);
    daemon.wait_event("supervisor-upgraded", Duration::from_secs(30));
    daemon.wait_event("worker-resting", SOON);
    assert!(starts(&scene) <= before + 1, "{before}, then {}\n{}", starts(&scene), tail(&mut daemon));
    assert_eq!(daemon.workers("site"), manager, "{}", tail(&mut daemon));
    assert!(Ask::get("/").send(address).is_ok_and(|page| page.text() == "ok 0"), "{}", tail(&mut daemon));
    release(&scene, &GOOD.replace("RELEASE", "1"));
    assert_eq!(daemon.verb(&["breaker", "site", "reset"]).code, 0);
    assert!(is_whole(|| have_loaded(&scene, &daemon)), "{:?}\n{}", children(&daemon), tail(&mut daemon));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// Its generation is verified: it is started without a trial, and has not been ready yet.
#[test]
fn a_manager_that_takes_the_place_of_another_does_not_cycle_before_it_is_ready() {
    let scene = Scene::new();
    let address = loopback::address();
    let mut daemon = start(&scene, pool(&scene, address));
    release(&scene, &hollow(&scene));
    daemon.workers("site").into_iter().for_each(kill);
    let opened = daemon.wait_event("breaker-opened", Duration::from_secs(30));
    assert!(opened.text.contains("died before"), "{}", opened.text);
    few_starts(&scene, &mut daemon, 3..=20);
    release(&scene, &GOOD.replace("RELEASE", "1"));
    let serves = || Ask::get("/").send(address).is_ok_and(|page| page.text() == "ok 1");
    assert!(is_soon(serves), "{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    assert_eq!(scene.processes(), Vec::<u32>::new(), "something is left");
}

#[test]
fn workers_that_recycle_themselves_are_no_reason_to_rest() {
    let scene = Scene::new();
    let address = loopback::address();
    release(&scene, &GOOD.replace("RELEASE", "0").replace("select undef, undef, undef, 0.02; ", ""));
    let _ = scene.shared_file("loaded");
    scene.write("once", "");
    let mut daemon = Config::new(&[pool(&scene, address)]).start(&scene);
    daemon.wait_serving("site");
    let is_over = Arc::new(AtomicBool::new(false));
    let visitors = visit(address, &is_over);
    daemon.wait_never("a rest", Duration::from_secs(4), |line| line.name() == "worker-resting");
    // On a busy machine that takes longer.
    let lives = || fs::read_to_string(scene.join("loaded")).expect("it is there").lines().count();
    assert!(is_soon(|| lives() > 200), "{} lives\n{}", lives(), tail(&mut daemon));
    is_over.store(true, Ordering::Relaxed);
    let (_, count, lost) = visitors.join().expect("nobody panics");
    assert!(count > 150 && lost.is_empty(), "of {count}: {lost:?}\n{}", tail(&mut daemon));
    assert!(!daemon.event_names().iter().any(|name| name == "worker-resting"), "{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// It looks like one that has served its last request: it has written something, and ends with 0.
#[test]
fn workers_that_give_up_with_a_good_exit_code_make_their_manager_rest_too() {
    let scene = Scene::new();
    let address = loopback::address();
    let giving_up =
        hollow(&scene).replace("die qq(Can't locate object method new\\n)", "warn qq(no database\\n); exit 0");
    assert_ne!(giving_up, hollow(&scene));
    let (mut daemon, opened) = bereaved(&scene, address, &giving_up);
    assert!(opened.text.contains("no database"), "{}", opened.text);
    few_starts(&scene, &mut daemon, 3..=48);
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// As a driver does that asks for its database's address, or waits for its answer: in poll(2), as one that waits for a request.
#[test]
fn workers_that_wait_for_their_database_and_die_make_their_manager_rest_too() {
    let scene = Scene::new();
    let address = loopback::address();
    let late = hollow(&scene).replace("die qq(Can't", "select undef, undef, undef, 0.1; die qq(Can't");
    assert_ne!(late, hollow(&scene));
    let (mut daemon, _) = bereaved(&scene, address, &late);
    few_starts(&scene, &mut daemon, 3..=16);
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// The operator sees that it stands still, and helps it.
#[test]
fn a_manager_that_somebody_continues_does_not_cycle() {
    let scene = Scene::new();
    let address = loopback::address();
    let (mut daemon, _) = bereaved(&scene, address, &hollow(&scene));
    let manager = daemon.workers("site")[0];
    let before = starts(&scene);
    let mut sent = 0;
    let help = || {
        if proc::state(manager) == Some('T') {
            sent += 1;
            proc::kill(manager, Signal::CONT).expect("it lives");
        }
        starts(&scene) >= before + 5
    };
    assert!(is_soon(help), "{}", tail(&mut daemon));
    assert!(is_soon(|| proc::state(manager) == Some('T')), "{}", tail(&mut daemon));
    // It may come as far as to start somebody before it is stopped again.
    let after = starts(&scene);
    assert!(after <= before + 5 + 2 * sent, "{before}, {sent} times SIGCONT, then {after}\n{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// A manager that has its children reaped by the kernel, starts others when it sees that some are gone, and asks a program
/// before it leaves.
const CARELESS: &str = r#"#!/usr/bin/perl
use Socket;
$SIG{CHLD} = 'IGNORE';
$SIG{QUIT} = sub { kill TERM => @children; system 'true'; exit };
open $listener, '+<&=', $ENV{SERVER_STARTER_PORT} =~ /=(\d+)/ or die $!;
while (1) {
    @children = grep { kill 0, $_ } @children;
    while (@children < -s 'count') {
        if (my $child = fork) { push @children, $child; next }
        $SIG{QUIT} = 'DEFAULT';
        do 'SITE' or die 'no site';
    }
    select undef, undef, undef, 0.002;
}
"#;
const CARELESS_SITE: &str = r#"
open my $f, '>>', 'LOADED'; syswrite $f, "$$\n"; close $f;
while (accept my $visitor, $listener) {
    sysread $visitor, my $head, 4096;
    syswrite $visitor, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok";
}
1;
"#;

/// Serves with three workers, which have loaded a good site, and then there is a hollow one.
fn careless(scene: &Scene) -> Daemon {
    let address = loopback::address();
    let site = scene.join("site.pl").display().to_string();
    let program = scene.program("careless", &CARELESS.replace("SITE", &site));
    let _ = scene.shared_file("starts");
    scene.write("count", "III");
    let loaded = scene.shared_file("loaded").display().to_string();
    scene.write("site.pl", &CARELESS_SITE.replace("LOADED", &loaded));
    let mut daemon = Config::new(&[managed(&[program.to_str().expect("text")], address)]).start(scene);
    daemon.wait_serving("site");
    assert!(is_soon(|| count_loaded(scene, &daemon) == 3), "{}", tail(&mut daemon));
    scene.write("site.pl", &hollow(scene));
    daemon
}

/// Of whom it has started nothing is left to be seen, not even how it ended.
#[test]
fn a_manager_whose_dead_workers_vanish_rests_too() {
    let scene = Scene::new();
    let mut daemon = careless(&scene);
    kill(children(&daemon)[0]);
    daemon.wait_event("breaker-opened", Duration::from_secs(30));
    // As long as it is free, only those are known to have died whom a look has met alive.
    let begun = few_starts(&scene, &mut daemon, 3..=64);
    // A trial does not cycle either.
    let said = daemon.verb(&["reload", "--wait", "--timeout", "60s"]);
    assert_eq!(said.code, 1, "{said:?}\n{}", tail(&mut daemon));
    assert!(starts(&scene) <= begun + 4, "{begun}, then {}\n{}", starts(&scene), tail(&mut daemon));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
}

/// It is let go on for one, and wants none any more: it is traced until it starts somebody, and the first is whom it asks when it
/// is to leave.
#[test]
fn a_manager_that_starts_a_program_when_it_leaves_is_not_stopped_by_that() {
    let scene = Scene::new();
    let mut daemon = careless(&scene);
    kill(children(&daemon)[0]);
    daemon.wait_event("breaker-opened", Duration::from_secs(30));
    scene.write("count", "II");
    let manager = daemon.workers("site")[0];
    assert_eq!(daemon.verb(&["breaker", "site", "reset"]).code, 0);
    assert!(is_soon(|| proc::state(manager) == Some('S')), "{}", tail(&mut daemon));
    assert_eq!(daemon.stop(), 0, "{}", tail(&mut daemon));
    assert!(!daemon.event_names().iter().any(|name| name == "worker-killed"), "{}", tail(&mut daemon));
}
