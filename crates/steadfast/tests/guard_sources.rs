//! The guard without systemd: text files and standard input, commands, `guard test` on dumps, and `check`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use steadfast_harness as support;

use support::conditions::is_within;
use support::daemon::STEADFAST;
use support::scene::Scene;

const LONG: Duration = Duration::from_secs(30);

fn guard(arguments: &[&str]) -> Command {
    let mut command = Command::new(STEADFAST);
    command.arg("guard").args(arguments).env_remove("NOTIFY_SOCKET").env_remove("STATE_DIRECTORY");
    command
}

/// A rule that writes what its command reads into `told`, one line for each action.
fn rules(scene: &Scene, source: &str) -> String {
    let told = scene.join("told");
    let text = format!(
        "[guard]\nstate-dir = \"state\"\n[guard.site]\nunit = \"steadfast-test-nobody\"\nmatch = [\"died\"]\n\
         source = \"{source}\"\nfailures = 3\nwithin = \"60s\"\ngrace = \"0s\"\nbudget = {{ actions = 100 }}\n\
         action = [\"/bin/sh\", \"-c\", \"cat >> {}\"]\n",
        told.display()
    );
    scene.write("guard.toml", &text).display().to_string()
}

fn told(scene: &Scene) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(scene.join("told")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn messages(told: &serde_json::Value) -> Vec<&str> {
    let matches = told["matches"].as_array().expect("a list");
    matches.iter().map(|one| one["message"].as_str().expect("text")).collect()
}

/// A guard that is killed with its test.
struct Running(Child);

impl Running {
    fn start(file: &str, log: &Path) -> Running {
        let log = fs::File::create(log).expect("a log");
        let child = guard(&["run", "-c", file, "--log", "human"]).stdin(Stdio::null()).stderr(log).spawn();
        Running(child.expect("the binary of this build"))
    }

    fn kill(mut self) {
        self.0.kill().expect("ours");
        self.0.wait().expect("ours");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn append(path: &Path, text: &str) {
    let file = fs::OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
}

#[test]
fn lines_on_stdin_count_and_its_end_is_the_end() {
    let scene = Scene::new();
    let file = rules(&scene, "stdin");
    let mut child = guard(&["run", "-c", &file]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a guard");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"one died\nwell\ntwo died\nthr").expect("written");
    input.write_all(b"ee died\nfour died").expect("written");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = told(&scene);
    assert_eq!(told.len(), 1);
    assert_eq!(messages(&told[0]), ["one died", "two died", "three died"]);
    assert_eq!((told[0]["count"].as_u64(), told[0]["unit"].as_str()), (Some(3), Some("steadfast-test-nobody.service")));
}

#[test]
fn a_rotated_file_and_a_killed_guard_lose_and_repeat_nothing() {
    let scene = Scene::new();
    let log = scene.write("site.log", "0 died\n0 died\n0 died\n");
    let file = rules(&scene, "file:site.log");
    let said = scene.join("said");
    let state = scene.join("state/guard.json");
    let has =
        |path: &Path, text: &str| is_within(LONG, || fs::read_to_string(path).is_ok_and(|all| all.contains(text)));
    let running = Running::start(&file, &said);
    assert!(has(&state, "\"offset\":21"), "it begins at the end");
    append(&log, "1 died\n");
    assert!(has(&state, "1 died"), "the first is saved");
    running.kill();
    append(&log, "2 died\n");
    fs::rename(&log, scene.join("site.log.1")).expect("rotated");
    append(&log, "well\n");
    let running = Running::start(&file, &said);
    assert!(has(&state, "2 died"), "what was written meanwhile counts");
    running.kill();
    assert_eq!(told(&scene).len(), 0);
    let mut running = Running::start(&file, &said);
    append(&log, "3 died\n");
    assert!(has(&scene.join("told"), "3 died"));
    let told = told(&scene);
    assert_eq!((told.len(), messages(&told[0])), (1, vec!["1 died", "2 died", "3 died"]));
    // And it ends when it is asked to.
    let pid = rustix::process::Pid::from_child(&running.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("ours");
    assert!(running.0.wait().expect("it ends").success());
}

/// Twelve lines, 10 s apart; the first at 1,700,000,000.
fn export() -> String {
    let entry = |number: u64| {
        let time = (1_700_000_000 + number * 10) * 1_000_000;
        format!(
            "__CURSOR=s={number}\n__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={number}\n\
             _SYSTEMD_UNIT=site.service\nMESSAGE=worker {number} died\n\n"
        )
    };
    (0..12).map(entry).collect()
}

fn test(scene: &Scene, arguments: &[&str]) -> Output {
    guard(&[&["test"], arguments].concat()).current_dir(scene.path()).stdin(Stdio::null()).output().expect("a guard")
}

#[test]
fn the_past_of_a_dump_is_told_by_its_episodes() {
    let scene = Scene::new();
    scene.write("dump", &export());
    let words = ["site", "--match", r"worker \d+ died", "--file", "dump"];
    let output = test(&scene, &[&words[..], &["--within", "90s", "--json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let episode: serde_json::Value = serde_json::from_str(text.trim()).expect("one episode");
    assert_eq!(episode["time"], "2023-11-14T22:14:50.000000Z", "ten in exactly 90 s");
    assert_eq!((episode["count"].as_u64(), episode["first"].as_str()), (Some(10), Some("worker 0 died")));
    let output = test(&scene, &[&words[..], &["--within", "89s"]].concat());
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "0 episodes; nothing was done\n");
    let output = test(&scene, &[&words[..], &["--within", "90s", "--since", "@1700000011"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.starts_with("2023-11-14T22:15:10.000Z site.service: 10 lines in 90 s") && text.contains("restart"),
        "{text}"
    );
    assert!(text.contains("  | worker 2 died"), "{text}");
}

#[test]
fn what_is_wrong_with_a_rule_is_told_by_check_and_by_test() {
    let scene = Scene::new();
    scene.write("guard.toml", "[guard.a]\nunit = \"a\"\nmatch = [\"x\", \"(\", \"@php-fmp\"]\n");
    let check = Command::new(STEADFAST).args(["check", "-c", "guard.toml"]).current_dir(scene.path()).output();
    for output in [check.expect("check"), test(&scene, &["-c", "guard.toml", "--file", "/dev/null"])] {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("guard.toml:3:15") && said.contains("unclosed group"), "{said}");
        assert!(said.contains("@php-fmp") && said.contains("@php-fpm"), "{said}");
    }
    scene.write("guard.toml", "[guard.a]\nunit = \"a\"\nmatch = [\"x\", \"@php-fpm\"]\n");
    let check = Command::new(STEADFAST).args(["check", "-c", "guard.toml"]).current_dir(scene.path()).output();
    let check = check.expect("check");
    assert_eq!(String::from_utf8_lossy(&check.stdout), "guard.toml: 1 rule of the guard, no errors\n");
    let run =
        Command::new(STEADFAST).args(["run", "-c", "guard.toml"]).current_dir(scene.path()).output().expect("run");
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.code() == Some(78) && said.contains("steadfast guard run"), "{said}");
}

#[test]
fn a_dump_that_is_none_says_so() {
    let scene = Scene::new();
    scene.write("dump", "Nov 28 host site[1]: worker died\n");
    let output = test(&scene, &["site", "--match", "died", "--file", "dump"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("dump") && said.contains("journalctl -o export"), "{said}");
}

/// Nothing found where nothing was looked at would sound as if all were well.
#[test]
fn a_past_without_a_journal_is_no_good_past() {
    let scene = Scene::new();
    let place = scene.path().display().to_string();
    let said = test(&scene, &["site", "--match", "x", "--file", &place]);
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(1), "{words}");
    assert!(words.contains(&format!("there are no journal files in {place}")), "{words}");
}
