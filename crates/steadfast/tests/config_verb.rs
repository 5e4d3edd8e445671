//! `steadfast config`: what it prints is a configuration, `--diff` finds what a reload would change, `--schema` holds for what
//! `check` accepts and for nothing else that is often mistaken.

use steadfast_harness as support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use support::apps;
use support::daemon::{Config, Daemon, Pool, STEADFAST, steadfast};
use support::scene::Scene;

#[test]
fn what_counts_is_printed_with_its_origin_and_accepted_by_check() {
    let scene = Scene::new();
    let file = Config::new(&[Pool::new("site", &[apps::rust()]).workers("2").queue()]).write(&scene);
    let file = file.display().to_string();
    let said = steadfast(scene.path(), &["config", "-c", &file]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let line = |key: &str| {
        said.stdout.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}: {}", said.stdout))
    };
    assert!(line("workers.max = 2 ").contains(&format!("# {file}:")), "{}", said.stdout);
    assert!(line("queue.length = 1024 ").ends_with("# default"), "{}", said.stdout);
    scene.write("again.toml", &said.stdout);
    let again = steadfast(scene.path(), &["check", "-c", "again.toml"]);
    assert_eq!(again.code, 0, "{}{}", again.stderr, said.stdout);
    let said = steadfast(scene.path(), &["config", "--json", "-c", &file]);
    let document: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    let rows = document.as_array().expect("rows");
    assert!(
        rows.iter().any(|row| row["key"] == "queue.length" && row["value"] == "1024" && row["origin"] == "default")
    );
}

#[test]
fn a_difference_is_what_a_reload_would_change() {
    let scene = Scene::new();
    let pool = |workers: &str| Pool::new("site", &[apps::rust()]).workers(workers).queue();
    let config = Config::new(&[pool("2")]);
    let file = config.write(&scene).display().to_string();
    let diff = ["config", "--diff", "-c", &file];
    let nobody = steadfast(scene.path(), &diff);
    assert_eq!(nobody.code, 69, "{}", nobody.stderr);
    assert!(nobody.stderr.contains("no supervisor answers"), "{}", nobody.stderr);
    let mut daemon = config.start(&scene);
    daemon.wait_serving("site");
    let same = steadfast(scene.path(), &diff);
    assert_eq!((same.code, same.stdout.as_str()), (0, ""), "{}", same.stderr);
    Config::new(&[pool("3"), Pool::new("more", &[apps::rust()])]).write(&scene);
    let other = steadfast(scene.path(), &diff);
    assert_eq!(other.code, 1, "{}", other.stderr);
    assert!(other.stdout.contains("[pool.site]\n-workers.max = 2\n+workers.max = 3  # "), "{}", other.stdout);
    assert!(other.stdout.contains("[pool.more]\n") && !other.stdout.contains("-listen"), "{}", other.stdout);
    assert!(!other.stdout.contains("queue.length = 1024\n-"), "what is the same is not shown");
    let reloaded = daemon.verb(&["reload", "--wait"]);
    assert_eq!(reloaded.code, 0, "{}", reloaded.stderr);
    let same = steadfast(scene.path(), &diff);
    assert_eq!((same.code, same.stdout.as_str()), (0, ""), "{}", same.stderr);
    fs::write(&file, "[pool").expect("the scene is ours");
    assert_eq!(steadfast(scene.path(), &diff).code, 78);
}

#[test]
fn what_a_reload_does_not_change_is_told_apart() {
    let scene = Scene::new();
    let config = Config::new(&[Pool::new("site", &[apps::rust()]).workers("2").queue()]);
    let path = config.write(&scene);
    let text = fs::read_to_string(&path).expect("it was written");
    // What an option says is no word of the file.
    let mut command = Command::new(STEADFAST);
    command.arg("run").arg("-c").arg(&path).args(["--log", "json"]);
    fs::write(&path, text.replace("log = \"json\"", "log = \"logfmt\"")).expect("the scene is ours");
    let mut daemon = Daemon::spawn(command, &scene, &scene.join("run/control.sock"));
    daemon.wait_serving("site");
    let file = path.display().to_string();
    let diff = |more: &[&str]| steadfast(scene.path(), &[&["config", "--diff", "-c", &file], more].concat());
    let same = diff(&[]);
    assert_eq!((same.code, same.stdout.as_str(), same.stderr.as_str()), (0, "", ""));
    fs::write(&path, text.replace("log = \"json\"", "log = \"human\"\nlog-level = \"debug\""))
        .expect("the scene is ours");
    let other = diff(&[]);
    assert_eq!(other.code, 1, "{}", other.stderr);
    let head = "[supervisor]  # counts after a restart, not a reload\n";
    assert!(other.stdout.contains(&format!("{head}-log = \"logfmt\"\n+log = \"human\"  # ")), "{}", other.stdout);
    assert!(other.stdout.contains("-log-level = \"info\"\n+log-level = \"debug\"  # "), "{}", other.stdout);
    assert_eq!(other.stdout.matches('[').count(), 1, "the pools are the same: {}", other.stdout);
    let rows: serde_json::Value = serde_json::from_str(&diff(&["--json"]).stdout).expect("JSON");
    assert_eq!((&rows[0]["table"], &rows[0]["needs"]), (&"supervisor".into(), &"restart".into()), "{rows}");
    let reloaded = daemon.verb(&["reload", "--wait"]);
    assert_eq!(reloaded.code, 0, "{}", reloaded.stderr);
    assert_eq!(diff(&[]).stdout, other.stdout, "the log goes on as it was");
}

/// What an older supervisor answers: its pools, and not a word of itself.
const OLD: &str = concat!(
    r#"{"type":"config","pool":"site","text":"workers.max = 1  # default\n"}"#,
    "\n",
    r#"{"type":"done","text":""}"#,
    "\n"
);

#[test]
fn what_an_older_supervisor_does_not_tell_is_neither_new_nor_the_same() {
    let scene = Scene::new();
    let listener = UnixListener::bind(scene.join("old.sock")).expect("the scene is ours");
    let supervisor = thread::spawn(move || {
        for _ in 0..2 {
            let (mut client, _) = listener.accept().expect("a question");
            let asked = client.read(&mut [0; 4096]).expect("it asks first");
            assert!(asked > 0);
            client.write_all(OLD.as_bytes()).expect("it waits for the answer");
        }
    });
    let pool = Pool::new("site", &[apps::rust()]).workers("2").queue();
    let file = Config::new(&[pool]).write(&scene).display().to_string();
    let ask = |more: &[&str]| {
        let words = [&["config", "--diff", "-c", &file, "--control", "old.sock"], more].concat();
        steadfast(scene.path(), &words)
    };
    for said in [ask(&[]), ask(&["--json"])] {
        assert_eq!(said.code, 1, "{}", said.stderr);
        assert!(said.stdout.contains("workers.max") && !said.stdout.contains("supervisor"), "{}", said.stdout);
        assert!(said.stderr.contains("does not tell what [supervisor] it was started with"), "{}", said.stderr);
    }
    supervisor.join().expect("it was asked twice");
}

/// Validates TOML files by the schema with python3-jsonschema, and prints each that does not hold.
const VALIDATE: &str = "
import json, sys, tomllib, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
for name in sys.argv[2:]:
    for error in validator.iter_errors(tomllib.load(open(name, 'rb'))):
        print(name, '/'.join(map(str, error.absolute_path)), error.message)
";

#[test]
fn the_schema_holds_for_the_examples_and_not_for_mistakes() {
    let scene = Scene::new();
    let said = steadfast(scene.path(), &["config", "--schema"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let schema = scene.write("schema.json", &said.stdout);
    let validate = |files: &[String]| {
        let output = Command::new("python3").arg("-c").arg(VALIDATE).arg(&schema).args(files).output();
        let output = output.expect("python3 with python3-jsonschema: see .ci/run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let names = ["c", "perl", "php", "perl-site", "hello"].map(|name| format!("examples/{name}/steadfast.toml"));
    let others = ["examples/hello/root.toml", "examples/systemd/guard.toml", "crates/config/tests/full.toml"];
    let good: Vec<String> =
        names.iter().map(String::as_str).chain(others).map(|name| root.join(name).display().to_string()).collect();
    assert_eq!(validate(&good), "");
    for (at, mistake) in [
        "comand = [\"a\"]",
        "workers = \"4\"",
        "workers = { min = -1 }",
        "mode = \"both\"",
        "ready-timeout = \"30\"",
        "max-memory = \"512\"",
        "umask = 22",
        "notify = true",
        "socket = { mod = \"0660\" }",
        "verify = { expect = { status = 200 } }",
    ]
    .iter()
    .enumerate()
    {
        let text = format!("[pool.a]\nlisten = [\"unix:a\"]\n{mistake}\n");
        let file = scene.write(&format!("{at}.toml"), &text).display().to_string();
        assert_ne!(validate(&[file]), "", "{mistake}");
    }
}
