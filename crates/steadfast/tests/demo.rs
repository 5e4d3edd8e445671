//! The demo does what its page says, for root and for everybody else, and leaves nothing behind.

use steadfast_harness as support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::conditions::{is_soon, is_within};
use support::daemon::{SOON, STEADFAST, USER, is_root, steadfast};
use support::http::{Answer, Ask, Visitor};
use support::scene::{Scene, allow};
use support::{loopback, proc};

/// A running demo; killed by its own pid when this is dropped.
struct Demo {
    child: Child,
    scene: Scene,
    http: SocketAddr,
    control: PathBuf,
    banner: String,
}

impl Demo {
    /// On an address of its own.
    fn start() -> Demo {
        Demo::with(Scene::new(), |_| Command::new(STEADFAST))
    }

    fn with(scene: Scene, program: impl FnOnce(&Scene) -> Command) -> Demo {
        let mut command = program(&scene);
        command.args(["demo", "--http", &loopback::address().to_string()]);
        Demo::spawn(scene, command)
    }

    fn spawn(scene: Scene, mut command: Command) -> Demo {
        // Not below the scene: root's demo takes neither of these with it.
        let log = fs::File::create(scene.join("log")).expect("a file in the scene");
        command.current_dir(scene.path()).env("RUNTIME_DIRECTORY", scene.join("run")).env_remove("XDG_RUNTIME_DIR");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
        let mut banner = String::new();
        let mut next = || {
            let line = lines.next().and_then(Result::ok)?;
            banner.push_str(&line);
            banner.push('\n');
            Some(line)
        };
        let mut after = |word: &str| loop {
            let line = next().unwrap_or_else(|| panic!("no {word}: {}", log_of(&scene)));
            if let Some((_, rest)) = line.split_once(word) {
                break rest.split_whitespace().next().unwrap_or_default().to_owned();
            }
        };
        let http = after("http://").trim_end_matches('/').parse().expect("an address");
        let control = PathBuf::from(after("--control"));
        while next().is_some_and(|line| !line.contains("Ctrl-C")) {}
        let demo = Demo { child, scene, http, control, banner };
        // It is said a moment before the supervisor binds it.
        assert!(is_soon(|| TcpStream::connect(http).is_ok()), "{}", log_of(&demo.scene));
        demo
    }

    fn send(&self, ask: &Ask) -> Answer {
        ask.send(self.http).unwrap_or_else(|error| panic!("{error}: {}", log_of(&self.scene)))
    }

    fn get(&self, path: &str) -> Answer {
        self.send(&Ask::get(path))
    }

    /// As the page's script does.
    fn press(&self, path: &str) -> Answer {
        self.send(&Ask::post(path, b"").header("X-Demo", "1").header("Origin", "http://localhost"))
    }

    fn live(&self) -> Value {
        let answer = self.get("/live.json");
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    fn pool(&self) -> Value {
        self.live()["status"]["pools"][0].clone()
    }

    fn exits(&self, class: &str) -> u64 {
        self.pool()["exits"][class].as_u64().unwrap_or(0)
    }

    fn workers(&self) -> Vec<u64> {
        let pool = self.pool();
        pool["slots"].as_array().expect("slots").iter().filter_map(|slot| slot["pid"].as_u64()).collect()
    }

    /// Whether such an event comes soon.
    fn has_event(&self, name: &str, words: &str) -> bool {
        is_soon(|| {
            let live = self.live();
            let mut events = live["events"].as_array().expect("events").iter();
            events
                .any(|event| event["event"] == name && event["text"].as_str().is_some_and(|text| text.contains(words)))
        })
    }

    fn wait_serving(&self) {
        let is_serving = || self.pool()["workers"]["serving"].as_u64().is_some_and(|serving| serving >= 3);
        assert!(is_soon(is_serving), "{}\n{}", self.pool(), log_of(&self.scene));
    }

    fn home(&self) -> &Path {
        self.control.parent().expect("a directory")
    }

    /// Every process of it, itself first.
    fn processes(&self) -> Vec<u32> {
        [&[self.child.id()][..], &proc::children(self.child.id())].concat()
    }

    /// Ctrl-C: it ends well, and leaves no process and no file.
    fn stop(mut self) {
        let processes = self.processes();
        assert!(processes.len() >= 6, "front, zygote and three workers: {processes:?}");
        proc::kill(self.child.id(), Signal::INT).expect("it runs");
        assert!(proc::wait_gone(self.child.id(), SOON), "{}", log_of(&self.scene));
        let status = self.child.wait().expect("our child");
        assert_eq!(status.code(), Some(0), "{}", log_of(&self.scene));
        let left: Vec<u32> = processes.into_iter().filter(|pid| proc::alive(*pid)).collect();
        assert!(left.is_empty(), "{left:?} are left");
        assert!(!self.home().exists(), "{:?} is left", fs::read_dir(self.home()).map(Iterator::count));
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // Gracefully, so that it clears up, also after a failed test.
            let _gone = proc::kill(self.child.id(), Signal::TERM);
            let _in_time = proc::wait_gone(self.child.id(), SOON);
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

fn log_of(scene: &Scene) -> String {
    fs::read_to_string(scene.join("log")).unwrap_or_default()
}

fn uids(demo: &Demo) -> Vec<String> {
    let mut uids: Vec<String> = demo.processes().iter().filter_map(|pid| proc::status_field(*pid, "Uid")).collect();
    uids.dedup();
    uids
}

/// A program of its own in a directory with this mode.
fn copied(scene: &Scene, mode: u32) -> PathBuf {
    let directory = scene.join("bin");
    fs::create_dir(&directory).expect("a directory in the scene");
    let program = directory.join("steadfast");
    fs::copy(STEADFAST, &program).expect("copied");
    allow(&program, 0o755);
    allow(&directory, mode);
    program
}

#[test]
fn the_demo_serves_a_page_that_explains_itself_and_ends_without_a_trace() {
    let demo = Demo::start();
    let page = demo.get("/");
    assert_eq!(page.status, 200);
    let text = page.text();
    for words in [
        "<h1>steadfast",
        "action=\"/crash?",
        "Deploy: hollow",
        "serving",
        "prefers-color-scheme: dark",
        "<noscript>",
        "max-memory",
    ] {
        assert!(text.contains(words), "no {words} in {text}");
    }
    assert!(!text.contains("src=\"http") && !text.contains("href=\"http"), "it loads nothing from elsewhere");
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'nonce-") && policy.contains("frame-ancestors 'none'"));
    assert_ne!(demo.get("/").header("content-security-policy"), Some(policy), "a nonce is used once");
    assert_eq!(demo.get("/nothing").status, 404);
    demo.wait_serving();
    let said = steadfast(demo.scene.path(), &["status", "--json", "--control", &demo.control.display().to_string()]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(!demo.banner.contains('\x1b'), "no colours into a pipe: {:?}", demo.banner);
    let uids = uids(&demo);
    assert_eq!(uids.len(), 1, "{uids:?}");
    assert!(!uids[0].starts_with('0'), "nothing of it is root's: {uids:?}");
    demo.stop();
}

#[test]
fn alone_the_demo_answers_within_a_second() {
    let begun = Instant::now();
    let demo = Demo::start();
    assert_eq!(demo.get("/").status, 200);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    // One worker is enough for an answer; all of them are to be gone after the end.
    demo.wait_serving();
    demo.stop();
}

#[test]
fn an_ordinary_user_runs_it_as_himself() {
    if !is_root() {
        return;
    }
    let demo = Demo::with(Scene::new(), |scene| {
        let program = copied(scene, 0o755);
        let run = scene.join("run");
        fs::create_dir(&run).expect("a directory in the scene");
        allow(&run, 0o700);
        let user = rustix_user(USER);
        std::os::unix::fs::chown(&run, Some(user), Some(user)).expect("we are root");
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--no-new-privs", "--"]).arg(program);
        command
    });
    assert_eq!(demo.get("/").status, 200);
    demo.wait_serving();
    let uid = rustix_user(USER).to_string();
    assert!(uids(&demo).iter().all(|uids| uids.split_whitespace().all(|number| number == uid)), "{:?}", uids(&demo));
    assert!(demo.home().starts_with(demo.scene.join("run")), "{:?}", demo.home());
    assert_eq!(demo.press("/crash?1").status, 502);
    assert_eq!(demo.get("/").status, 200);
    demo.stop();
}

fn rustix_user(name: &str) -> u32 {
    let passwd = fs::read_to_string("/etc/passwd").expect("it can be read");
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name)).expect("a user");
    line.split(':').nth(2).and_then(|uid| uid.parse().ok()).expect("a number")
}

#[test]
fn root_runs_it_from_where_nobody_else_may_look() {
    if !is_root() {
        return;
    }
    let demo = Demo::with(Scene::new(), |scene| Command::new(copied(scene, 0o700)));
    assert_eq!(demo.get("/").status, 200);
    demo.wait_serving();
    assert_eq!(demo.press("/deploy/good").status, 200);
    assert!(is_within(Duration::from_secs(60), || demo.pool()["generation"] == 2), "{}", demo.pool());
    demo.stop();
}

#[test]
fn a_crash_costs_its_visitor_a_502_and_nobody_else_anything() {
    let demo = Demo::start();
    demo.wait_serving();
    let answer = demo.press("/crash?1");
    assert_eq!((answer.status, answer.header("x-steadfast")), (502, Some("worker-died")));
    assert_eq!(demo.get("/").status, 200);
    assert!(demo.has_event("worker-exited", "crashed, SIGSEGV"), "{}", demo.live());
    demo.wait_serving();
    assert_eq!(demo.exits("crashed"), 1, "a POST runs once");
    demo.stop();
}

#[test]
fn a_poisonous_url_kills_two_workers_and_is_then_refused_until_the_quarantine_is_cleared() {
    let demo = Demo::start();
    demo.wait_serving();
    assert_eq!(demo.get("/poison").status, 502);
    let is_quarantined = || demo.pool()["quarantine"].as_array().is_some_and(|requests| requests.len() == 1);
    assert!(is_soon(is_quarantined), "{}", demo.pool());
    let answer = demo.get("/poison");
    assert_eq!((answer.status, answer.header("x-steadfast")), (500, Some("quarantined")));
    assert_eq!(demo.exits("crashed"), 2);
    assert!(demo.get("/live").text().contains("Quarantined: GET /poison has killed 2 workers"));
    assert_eq!(demo.press("/quarantine/clear").status, 200);
    assert!(is_soon(|| demo.pool()["quarantine"].as_array().is_some_and(Vec::is_empty)), "{}", demo.pool());
}

#[test]
fn a_panic_is_a_500_and_the_worker_goes_on() {
    let demo = Demo::start();
    demo.wait_serving();
    let before = demo.workers();
    assert_eq!(demo.press("/panic").status, 500);
    assert_eq!(demo.get("/").status, 200);
    assert_eq!(demo.workers(), before);
    assert!(is_soon(|| log_of(&demo.scene).contains("on purpose")), "{}", log_of(&demo.scene));
    assert!(!log_of(&demo.scene).contains("defect"), "it is none of steadfast: {}", log_of(&demo.scene));
}

#[test]
fn who_hangs_is_told_504_and_replaced_and_the_view_stays_live() {
    let demo = Demo::start();
    demo.wait_serving();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let hang = scope.spawn(|| demo.press("/hang"));
        while !hang.is_finished() {
            let asked = Instant::now();
            demo.live();
            assert!(asked.elapsed() < Duration::from_secs(1), "the view hangs too");
            std::thread::sleep(Duration::from_millis(100));
        }
        let answer = hang.join().expect("an answer");
        assert_eq!((answer.status, answer.header("x-steadfast")), (504, Some("request-timeout")));
    });
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(3) && took < SOON, "{took:?}");
    assert!(demo.has_event("worker-exited", "timeout"), "{}", demo.live());
    demo.wait_serving();
}

#[test]
fn slow_and_exit_are_told_with_their_names() {
    let demo = Demo::start();
    demo.wait_serving();
    assert_eq!(demo.press("/slow").status, 200);
    assert!(demo.has_event("request-slow", "POST /slow"), "{}", demo.live());
    assert_eq!(demo.press("/exit?1").status, 502);
    assert!(demo.has_event("worker-exited", "code 42, asked to leave"), "{}", demo.live());
}

#[test]
fn a_leak_is_recycled_and_no_request_fails() {
    let demo = Demo::start();
    demo.wait_serving();
    assert_eq!(demo.press("/leak").status, 200);
    let largest = || {
        let pool = demo.pool();
        pool["slots"].as_array().expect("slots").iter().filter_map(|slot| slot["rss"].as_u64()).max().unwrap_or(0)
    };
    assert!(largest() > 96 << 20);
    let is_recycled = || {
        assert_eq!(demo.get("/").status, 200);
        demo.exits("recycled") >= 1
    };
    assert!(is_within(Duration::from_secs(30), is_recycled), "{}", demo.pool());
    assert!(is_soon(|| largest() < 64 << 20), "{}", demo.pool());
    assert_eq!(demo.pool()["requests"]["error"], 0);
}

#[test]
fn a_killed_worker_is_nobodys_fault_and_replaced() {
    let demo = Demo::start();
    demo.wait_serving();
    let before = demo.workers();
    let answer = demo.press("/kill");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(is_soon(|| demo.exits("killed") == 1), "{}", demo.pool());
    demo.wait_serving();
    let gone = before.iter().filter(|pid| !demo.workers().contains(pid)).count();
    assert_eq!(gone, 1, "{before:?} {:?}", demo.workers());
    assert_eq!(demo.pool()["breaker"]["failures"], 0.0);
}

#[test]
fn a_hollow_release_is_refused_and_a_good_one_is_taken() {
    let demo = Demo::start();
    demo.wait_serving();
    assert_eq!(demo.press("/deploy/hollow").status, 200);
    let refused = || {
        assert_eq!(demo.get("/").status, 200);
        demo.pool()["failed_reload"]["generation"] == 2
    };
    assert!(is_soon(refused), "{}", demo.live());
    assert!(demo.has_event("generation-refused", "500"), "{}", demo.live());
    let live = demo.live();
    assert_eq!((&live["release"], &live["status"]["pools"][0]["generation"]), (&1.into(), &1.into()));
    assert!(demo.get("/live").text().contains("was refused, and no visitor has seen it"));
    assert_eq!(demo.press("/deploy/good").status, 200);
    let is_taken = || {
        let live = demo.live();
        live["status"]["pools"][0]["generation"] == 3 && live["release"] == 3
    };
    assert!(is_within(Duration::from_secs(60), is_taken), "{}", demo.live());
    demo.stop();
}

#[test]
fn a_dying_release_is_rolled_back_and_no_visitor_fails() {
    let demo = Demo::start();
    demo.wait_serving();
    assert_eq!(demo.press("/deploy/dying").status, 200);
    let is_back = || {
        assert_eq!(demo.get("/").status, 200);
        demo.pool()["failed_reload"]["rolled_back"] == true
    };
    assert!(is_within(Duration::from_secs(60), is_back), "{}", demo.live());
    assert!(is_soon(|| demo.live()["release"] == 1), "{}", demo.live());
    assert_eq!(demo.pool()["generation"], 1);
}

#[test]
fn strangers_pages_may_neither_press_nor_look() {
    let demo = Demo::start();
    demo.wait_serving();
    for path in ["/crash?1", "/kill", "/deploy/hollow", "/panic", "/leak"] {
        for (name, value) in [
            ("Origin", "http://evil.example"),
            ("Origin", "null"),
            ("Origin", "http://localhost:3000"),
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Site", "same-site"),
        ] {
            let answer = demo.send(&Ask::post(path, b"").header(name, value));
            assert_eq!(answer.status, 403, "{path} {name}: {value}");
        }
    }
    // An image on somebody's page asks by GET.
    assert_eq!(demo.send(&Ask::get("/crash").header("Sec-Fetch-Site", "cross-site")).status, 403);
    for path in ["/kill", "/deploy/hollow", "/quarantine/clear", "/breaker/reset"] {
        let answer = demo.get(path);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{path}");
    }
    for path in ["/", "/live", "/live.json"] {
        let mut visitor = Visitor::connect(demo.http).expect("connected");
        visitor.write(format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n").as_bytes()).expect("written");
        assert_eq!(visitor.read("GET").expect("an answer").status, 403, "{path}");
    }
    let pool = demo.pool();
    assert_eq!(pool["exits"].as_object().map(|exits| exits.values().filter_map(Value::as_u64).sum::<u64>()), Some(0));
    assert_eq!(pool["generation"], 1);
}

#[test]
fn a_button_without_a_script_leads_back_to_the_page() {
    let demo = Demo::start();
    demo.wait_serving();
    let answer = demo.send(
        &Ask::post("/breaker/reset", b"").header("Origin", "http://localhost").header("Sec-Fetch-Site", "same-origin"),
    );
    assert_eq!((answer.status, answer.header("location")), (303, Some("/?done=/breaker/reset")));
    assert!(demo.get("/?done=/breaker/reset").text().contains("Done: Reset breaker"));
    assert!(!demo.get("/?done=/other").text().contains("Done:"));
}

#[test]
fn what_a_visitor_asks_for_is_no_markup_of_the_view() {
    let demo = Demo::start();
    demo.wait_serving();
    assert_eq!(demo.press("/exit?x='&y").status, 502);
    assert!(demo.has_event("worker-exited", "POST /exit"), "{}", demo.live());
    for path in ["/", "/live"] {
        let text = demo.get(path).text();
        assert!(!text.contains("'&y") && text.contains("&#39;&amp;y"), "{path}: {text}");
    }
}

#[test]
fn where_8080_is_taken_the_next_port_is_used_and_a_chosen_address_is_not_replaced() {
    // If it cannot be had, it is taken already.
    let _taken = TcpListener::bind("127.0.0.1:8080");
    let scene = Scene::new();
    let mut command = Command::new(STEADFAST);
    command.arg("demo");
    let demo = Demo::spawn(scene, command);
    assert_ne!(demo.http.port(), 8080);
    assert!(demo.banner.contains("port 8080 is taken"), "{}", demo.banner);
    assert_eq!(demo.get("/").status, 200);
    let said = steadfast(demo.scene.path(), &["demo", "--http", &demo.http.to_string()]);
    assert_eq!(said.code, 71, "{}", said.stderr);
    assert!(said.stderr.contains("in use") && said.stderr.contains("hint: choose another port"), "{}", said.stderr);
    demo.stop();
}
