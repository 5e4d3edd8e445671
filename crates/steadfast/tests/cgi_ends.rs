//! `steadfast cgi`: scripts that hang, fork, die, and whose client or worker leaves. Nothing is left behind, and nobody else
//! waits.

use steadfast_harness as support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::cgi::{Gateway, assert_gone, pids, shell};
use support::conditions::{is_soon, tail};
use support::daemon::{Config, Daemon, Pool, SOON, STEADFAST, address};
use support::fcgi::{Address, InFlight, Request};
use support::proc;
use support::scene::Scene;

/// A script that is deaf to TERM, with a child that is so, too; both tell their pids. It says one word and then nothing.
fn stuck(scene: &Scene, name: &str) -> (PathBuf, PathBuf) {
    let file = scene.shared_file(&format!("{name}.pids"));
    let file_name = file.display();
    let lines = format!(
        "trap '' TERM; sleep 1000 & echo $! >> {file_name}; echo $$ >> {file_name}\n\
         printf 'Content-Type: text/plain\\n\\nword'; while :; do sleep 1000; done"
    );
    (shell(scene, name, &lines), file)
}

fn quick(scene: &Scene) -> PathBuf {
    shell(scene, "quick", "printf 'Content-Type: text/plain\\n\\nquick'")
}

fn gateway(scene: &Scene, options: &[&str]) -> Gateway {
    scene.write("cgi/.keep", "");
    let root = scene.join("cgi").display().to_string();
    Gateway::start(scene, &[&["--root", &root], options].concat())
}

fn ask(address: &Address, script: &std::path::Path) -> InFlight {
    let request = Request::get("/x").param("SCRIPT_FILENAME", &script.display().to_string());
    request.start(address).expect("it listens")
}

#[test]
fn a_stuck_script_ends_at_its_timeout_with_all_that_it_has_started() {
    let scene = Scene::new();
    let gateway = gateway(&scene, &["--timeout", "300ms"]);
    let file = scene.shared_file("silent.pids");
    let lines = format!(
        "trap '' TERM; sleep 1000 & echo $! >> {0}; echo $$ >> {0}; while :; do sleep 1000; done",
        file.display()
    );
    let silent = shell(&scene, "silent", &lines);
    let begun = Instant::now();
    let answer = gateway.get(&silent);
    let took = begun.elapsed();
    assert_eq!(answer.status, 504, "{}", gateway.said());
    assert!(took >= Duration::from_millis(2300) && took < Duration::from_secs(5), "300 ms, and 2 s for TERM: {took:?}");
    assert_gone(&pids(&file, 2), &gateway.said());
    assert!(gateway.said().contains("silent took longer than 300ms"), "{}", gateway.said());
    // Nor does anybody stay who is deaf, when the script itself obeys.
    let file = scene.shared_file("obedient.pids");
    let lines =
        format!("(trap '' TERM; exec sleep 1000) & echo $! >> {0}; echo $$ >> {0}; exec sleep 1000", file.display());
    assert_eq!(gateway.get(&shell(&scene, "obedient", &lines)).status, 504);
    assert_gone(&pids(&file, 2), &gateway.said());
    // One that obeys costs its time and no more; one that has begun to answer is cut.
    let lazy = shell(&scene, "lazy", "exec sleep 1000");
    let begun = Instant::now();
    assert_eq!(gateway.get(&lazy).status, 504);
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    let (stuck, file) = stuck(&scene, "stuck");
    ask(gateway.address(), &stuck).finish().expect_err("half an answer is none");
    assert_gone(&pids(&file, 2), &gateway.said());
    assert_eq!(gateway.get(&quick(&scene)).text(), "quick");
}

#[test]
fn a_script_whose_client_leaves_is_ended_with_all_that_it_has_started() {
    let scene = Scene::new();
    scene.write("cgi/.keep", "");
    let root = scene.join("cgi").display().to_string();
    let unix = gateway(&scene, &[]);
    for (kind, gateway) in [("unix", unix), ("tcp", Gateway::tcp(&scene, &["--root", &root]))] {
        let (script, file) = stuck(&scene, kind);
        let mut client = ask(gateway.address(), &script);
        client.record().expect("its word: it runs");
        drop(client);
        assert_gone(&pids(&file, 2), &gateway.said());
        // In the middle of its body.
        let file = scene.shared_file(&format!("{kind}-body.pids"));
        let script =
            shell(&scene, &format!("{kind}-body"), &format!("echo $$ >> {}; read all; sleep 1000", file.display()));
        let request = Request::get("/x").body(&[b'x'; 1000]).param("SCRIPT_FILENAME", &script.display().to_string());
        let mut client = request.open(gateway.address()).expect("it listens");
        client.stdin(b"half").expect("it is read");
        let running = pids(&file, 1);
        drop(client);
        assert_gone(&running, &gateway.said());
        assert_eq!(gateway.get(&quick(&scene)).text(), "quick");
    }
}

#[test]
fn a_client_that_has_said_all_has_not_left() {
    let scene = Scene::new();
    let gateway = gateway(&scene, &[]);
    let script = shell(&scene, "later", "sleep 0.3; printf 'Content-Type: text/plain\\n\\nlater'");
    let Address::Unix(path) = gateway.address() else { panic!("unix") };
    let mut stream = std::os::unix::net::UnixStream::connect(path).expect("it listens");
    let request = Request::get("/x").param("SCRIPT_FILENAME", &script.display().to_string());
    std::io::Write::write_all(&mut stream, &request.bytes()).expect("written");
    stream.shutdown(std::net::Shutdown::Write).expect("shut");
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut all).expect("read");
    assert!(all.windows(5).any(|five| five == b"later"), "{}", String::from_utf8_lossy(&all));
}

#[test]
fn a_daemon_that_a_script_leaves_behind_holds_up_nobody_and_lives() {
    let scene = Scene::new();
    let mut gateway = gateway(&scene, &[]);
    let file = scene.shared_file("daemon.pids");
    // It has the script's stdout and stderr, as careless ones do.
    let lines = format!(
        "setsid sh -c 'echo $$ >> {}; exec sleep 1000' & printf 'Content-Type: text/plain\\n\\nstarted'",
        file.display()
    );
    let script = shell(&scene, "daemon", &lines);
    let begun = Instant::now();
    assert_eq!(gateway.get(&script).text(), "started");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let daemon = pids(&file, 1);
    assert!(proc::alive(daemon[0]));
    assert_eq!(gateway.get(&quick(&scene)).text(), "quick");
    // What such a one still says soon after is heard.
    let lines = "printf 'Content-Type: text/plain\\n\\nsome, '; (printf more) &";
    assert_eq!(gateway.get(&shell(&scene, "more", lines)).text(), "some, more");
    // One that never stops talking is left alone after two seconds.
    let lines = "printf 'Content-Type: text/plain\\n\\n'; (while echo word; do sleep 0.02; done) & sleep 0.3";
    let begun = Instant::now();
    assert!(gateway.get(&shell(&scene, "talker", lines)).text().starts_with("word"));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(gateway.stop(), Some(0));
    assert!(proc::alive(daemon[0]), "it has a session of its own");
    proc::kill(daemon[0], Signal::KILL).expect("this test has started it");
}

#[test]
fn a_term_lets_the_script_in_hand_finish() {
    let scene = Scene::new();
    let mut gateway = gateway(&scene, &[]);
    let file = scene.shared_file("busy.pids");
    let lines = format!("echo $$ >> {}; sleep 0.5; printf 'Content-Type: text/plain\\n\\ndone'", file.display());
    let asked = ask(gateway.address(), &shell(&scene, "busy", &lines));
    let _running = pids(&file, 1);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(asked.finish().expect("a whole answer").text(), "done");
}

#[test]
fn a_killed_gateway_takes_its_script_along() {
    let scene = Scene::new();
    let gateway = gateway(&scene, &[]);
    let (script, file) = stuck(&scene, "stuck");
    let mut client = ask(gateway.address(), &script);
    client.record().expect("its word: it runs");
    let pids = pids(&file, 2);
    proc::kill(gateway.pid(), Signal::KILL).expect("it is ours");
    assert_gone(&pids[1..], &gateway.said());
    // Without a supervisor nobody looks after what the script has started; the number is theirs while one of them lives.
    let group = rustix::process::Pid::from_raw(i32::try_from(pids[1]).expect("pids are small")).expect("no zero");
    rustix::process::kill_process_group(group, Signal::KILL).expect("this test has started them");
}

fn pool(scene: &Scene, mode: &str, keys: &[(&str, &str)]) -> (Daemon, PathBuf) {
    let (script, file) = stuck(scene, "stuck");
    let either = shell(
        scene,
        "either",
        &format!(
            "case \"$PATH_INFO\" in /stuck) exec {};; *) printf 'Content-Type: text/plain\\n\\nok %s' $PPID;; esac",
            script.display()
        ),
    );
    let mut pool = Pool::new("cgi", &[either.display().to_string()]).key("type", "\"cgi\"").workers("1");
    if mode == "queue" {
        pool = pool.queue();
    }
    for (key, value) in keys {
        pool = pool.key(key, value);
    }
    let mut daemon = Config::new(&[pool]).start(scene);
    daemon.wait_serving("cgi");
    (daemon, file)
}

fn stuck_request(timeout: Duration) -> Request {
    Request::get("/stuck").param("PATH_INFO", "/stuck").timeout(timeout)
}

#[test]
fn a_worker_killed_in_a_pool_leaves_nothing_behind() {
    for mode in ["queue", "direct"] {
        let scene = Scene::new();
        let (mut daemon, file) = pool(
            &scene,
            mode,
            &[("retry", "\"never\""), ("quarantine", "\"off\"")][..if mode == "queue" { 2 } else { 0 }],
        );
        let at = address(&scene, "cgi");
        let worker = daemon.workers("cgi")[0];
        assert_eq!(Request::get("/x").send(&at).expect("an answer").pid(), worker);
        let client = stuck_request(SOON).start(&at).expect("it listens");
        let pids = pids(&file, 2);
        proc::kill(worker, Signal::KILL).expect("the worker of our own supervisor");
        assert_gone(&pids, &tail(&mut daemon));
        drop(client);
        let is_replaced =
            is_soon(|| Request::get("/x").send(&at).is_ok_and(|answer| answer.status == 200 && answer.pid() != worker));
        assert!(is_replaced, "{}", tail(&mut daemon));
        daemon.stop_idle();
    }
}

#[test]
fn a_stuck_script_in_a_pool_costs_a_504_and_no_worker() {
    for mode in ["queue", "direct"] {
        let scene = Scene::new();
        let (mut daemon, file) = pool(&scene, mode, &[("request-timeout", "\"500ms\"")]);
        let at = address(&scene, "cgi");
        let worker = daemon.workers("cgi")[0];
        // It has said a word, which in queue mode the front has told nobody: an answer that is cut has no end.
        stuck_request(SOON).send(&at).map(|answer| assert!(answer.status >= 502, "{answer:?}")).unwrap_or_default();
        assert_gone(&pids(&file, 2), &tail(&mut daemon));
        assert_eq!(Request::get("/x").send(&at).expect("an answer").pid(), worker, "{}", tail(&mut daemon));
        assert_eq!(daemon.workers("cgi"), [worker], "{}", tail(&mut daemon));
        daemon.stop_idle();
    }
}

#[test]
fn a_client_that_leaves_a_pool_ends_its_script_and_no_worker() {
    for mode in ["queue", "direct"] {
        let scene = Scene::new();
        let (mut daemon, file) = pool(&scene, mode, &[]);
        let at = address(&scene, "cgi");
        let worker = daemon.workers("cgi")[0];
        let client = stuck_request(SOON).start(&at).expect("it listens");
        let pids = pids(&file, 2);
        drop(client);
        assert_gone(&pids, &tail(&mut daemon));
        assert_eq!(Request::get("/x").send(&at).expect("an answer").pid(), worker, "{}", tail(&mut daemon));
        daemon.stop_idle();
    }
}

#[test]
fn a_pool_of_a_program_is_checked_like_any_other() {
    let scene = Scene::new();
    scene.write("cgi/plain", "no program");
    let text = |keys: &str| {
        let user = if support::daemon::is_root() { "user = \"www-data\"\n" } else { "" };
        format!(
            "[supervisor]\nruntime-dir = {:?}\n[pool.cgi]\nlisten = [\"unix:a.sock\"]\ntype = \"cgi\"\n{user}{keys}\n",
            scene.join("run")
        )
    };
    for (keys, word) in [
        ("command = [\"/nowhere/x.cgi\"]", "/nowhere/x.cgi cannot be used"),
        ("command = [\"cgi/plain\"]", "is not executable"),
        ("command = [\"/bin/true\"]\nlaunch = \"zygote\"", "no zygote"),
        ("command = [\"/bin/true\"]\nconcurrency = 4", "one request at a time"),
        (
            "command = [\"/bin/true\"]\nmode = \"direct\"\nslow-request = \"1s\"\nworkers = 1",
            "`slow-request` has no meaning in direct mode",
        ),
    ] {
        scene.write("a.toml", &text(keys));
        let said = support::daemon::steadfast(scene.path(), &["check", "-c", "a.toml"]);
        assert!(said.code == 78 && said.stderr.contains(word), "{keys}: {} {}", said.code, said.stderr);
    }
    scene.write("a.toml", &text("command = [\"/bin/true\"]\nmode = \"direct\"\nworkers = 1\nrequest-timeout = \"5m\""));
    let said = support::daemon::steadfast(scene.path(), &["check", "--boot", "-c", "a.toml"]);
    assert!(said.code == 0 && said.stdout.contains("ok, ready"), "{} {}", said.stdout, said.stderr);
}

#[test]
fn a_changed_script_is_a_new_generation_after_reload_and_a_pool_needs_no_file() {
    let scene = Scene::new();
    let script = shell(&scene, "site", "printf 'Content-Type: text/plain\\n\\n%s %s' \"$SITE_ENV\" one");
    let pool = Pool::new("cgi", &[script.display().to_string()]).key("type", "\"cgi\"").workers("1").queue();
    let mut daemon = Config::new(&[pool.environment("SITE_ENV", "live")]).start(&scene);
    daemon.wait_serving("cgi");
    let at = address(&scene, "cgi");
    assert_eq!(
        Request::get("/x").send(&at).expect("an answer").text(),
        "live one",
        "what a pool says is for the program"
    );
    shell(&scene, "site", "printf 'Content-Type: text/plain\\n\\ntwo'");
    let said = daemon.verb(&["reload", "--wait"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(Request::get("/x").send(&at).expect("an answer").text(), "two");
    std::fs::remove_file(&script).expect("it was there");
    let said = daemon.verb(&["reload", "--wait"]);
    assert!(said.code != 0 && said.stderr.contains("site cannot be used"), "{} {}", said.code, said.stderr);
    daemon.stop_idle();
    let scene = Scene::new();
    let script = quick(&scene);
    let mut daemon = support::daemon::run(&scene, "cgi", &["--type", "cgi"], &[&script.display().to_string()]);
    daemon.wait_serving("cgi");
    assert_eq!(Request::get("/x").send(&address(&scene, "cgi")).expect("an answer").text(), "quick");
    let worker = daemon.workers("cgi")[0];
    assert_eq!(proc::command_line(worker)[..2], ["steadfast", "cgi"]);
    assert!(std::path::Path::new(STEADFAST).exists());
    daemon.stop_idle();
}
