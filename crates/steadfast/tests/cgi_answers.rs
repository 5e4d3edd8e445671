//! `steadfast cgi`: what a script is given, what it may answer, and what is answered in its place.

use steadfast_harness as support;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use support::cgi::{Gateway, c, shell};
use support::daemon::steadfast;
use support::fcgi::Request;
use support::scene::{Scene, allow};

fn gateway(scene: &Scene) -> Gateway {
    scene.write("cgi/.keep", "");
    let root = scene.join("cgi").display().to_string();
    Gateway::start(scene, &["--root", &root, "--pass", "SITE_ENV", "--timeout", "20s"])
}

fn variables(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

#[test]
fn the_environment_is_the_request_and_nothing_of_the_last_one() {
    let scene = Scene::new();
    let gateway = gateway(&scene);
    let script = c(
        &scene,
        "env",
        "#include <stdio.h>\n#include <unistd.h>\n#include <signal.h>\nextern char **environ;\n\
         int main(void) { char d[4096]; puts(\"Content-Type: text/plain\\n\");\n\
         for (char **e = environ; *e; e++) puts(*e);\n\
         struct sigaction a; sigaction(SIGPIPE, 0, &a); sigset_t m; sigprocmask(0, 0, &m); int fds = 0;\n\
         for (int fd = 3; fd < 64; fd++) { char p[64]; snprintf(p, 64, \"/proc/self/fd/%d\", fd); fds += access(p, F_OK) == 0; }\n\
         printf(\"cwd=%s\\npipe=%d\\nterm=%d\\nfds=%d\\ngroup=%d\\n\", getcwd(d, 4096), a.sa_handler == SIG_DFL, sigismember(&m, SIGTERM), fds, getpgrp() == getpid()); }\n",
    );
    let first =
        Request::get("/env?a=1").param("HTTP_X_SECRET", "first").param("HTTP_PROXY", "http://evil/").param("A", "");
    let found = variables(&gateway.ask(&script, first).text());
    assert_eq!(found["QUERY_STRING"], "a=1");
    assert_eq!(found["HTTP_X_SECRET"], "first");
    assert_eq!(found["SITE_ENV"], "live", "it was asked for by --pass");
    assert_eq!(found["A"], "");
    let second = variables(&gateway.ask(&script, Request::get("/env")).text());
    for name in ["HTTP_X_SECRET", "HTTP_PROXY", "STEADFAST_SECRET", "HOME", "A"] {
        assert_eq!(second.get(name), None, "{second:?}");
    }
    assert!(!second["PATH"].is_empty());
    assert_eq!(second["GATEWAY_INTERFACE"], "CGI/1.1");
    let place = scene.join("cgi").canonicalize().expect("it is there").display().to_string();
    assert_eq!((second["cwd"].as_str(), second["SCRIPT_FILENAME"].as_str()), (&*place, &*format!("{place}/env")));
    let process = ["pipe", "term", "fds", "group"].map(|name| second[name].as_str());
    assert_eq!(process, ["1", "0", "0", "1"], "SIGPIPE as usual, nothing blocked, nothing open, a group of its own");
    for (name, value) in [("A=B", "c"), ("A", "b\0c")] {
        assert_eq!(gateway.ask(&script, Request::get("/env").param(name, value)).status, 400);
    }
    assert!(gateway.said().contains("A=B"), "{}", gateway.said());
}

#[test]
fn a_body_of_ten_megabytes_goes_in_and_comes_out() {
    let scene = Scene::new();
    let gateway = gateway(&scene);
    let echo = shell(&scene, "echo", "printf 'Content-Type: application/octet-stream\\n\\n'; exec cat");
    let length = shell(&scene, "length", "printf 'Content-Type: text/plain\\n\\n'; exec wc -c");
    let deaf = shell(&scene, "deaf", "exec <&-; printf 'Content-Type: text/plain\\n\\nno, thanks'");
    let body: Vec<u8> = (0..10 * 1024 * 1024_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    // Half of it is sent before anybody reads: the answer comes while the request is still being sent.
    let mut asked = Request::get("/x")
        .body(&body)
        .param("SCRIPT_FILENAME", &echo.display().to_string())
        .open(gateway.address())
        .expect("it listens");
    let mut writer = asked.another().expect("a copy");
    let sent = body.clone();
    let writing = std::thread::spawn(move || {
        sent.chunks(32_000).for_each(|piece| writer.stdin(piece).expect("it is read"));
        writer.stdin(&[]).expect("it is read");
    });
    let answer = asked.read().expect("an answer");
    writing.join().expect("written");
    assert!(answer.body == body, "{} bytes came back", answer.body.len());
    let counted = gateway.ask(&length, Request::get("/x").body(&body));
    assert_eq!(counted.text().trim(), body.len().to_string());
    assert_eq!(gateway.ask(&length, Request::get("/x").body(b"")).text().trim(), "0");
    // In records of one byte each, all of them there at once.
    let small: Vec<u8> =
        Request::get("/x").body(&body[..3000]).param("SCRIPT_FILENAME", &length.display().to_string()).head();
    let records = body[..3000].iter().flat_map(|byte| [1, 5, 0, 1, 0, 1, 0, 0, *byte]);
    let whole: Vec<u8> = small.into_iter().chain(records).chain([1, 5, 0, 1, 0, 0, 0, 0]).collect();
    let mut asked = Request::connect(gateway.address()).expect("it listens");
    asked.write(&whole).expect("it is read");
    assert_eq!(asked.read().expect("an answer").text().trim(), "3000");
    let refused = Request::get("/x").body(&body[..200_000]);
    assert_eq!(gateway.ask(&deaf, refused).text(), "no, thanks");
}

#[test]
fn a_head_becomes_a_status_and_fields() {
    let scene = Scene::new();
    let gateway = gateway(&scene);
    let cases = [
        ("plain", "Content-Type: text/plain\\n\\nhello\\n", 200, Some(("Content-Type", "text/plain")), "hello\n"),
        ("crlf", "Status: 404 Not Found\\r\\nX-A: b\\r\\n\\r\\nno\\r\\n", 404, Some(("X-A", "b")), "no\r\n"),
        ("unchanged", "Status: 304\\n\\n", 304, None, ""),
        ("there", "Location: https://example.org/\\n\\n", 302, Some(("Location", "https://example.org/")), ""),
        ("here", "Location: /other?a=b\\n\\n", 302, Some(("Location", "/other?a=b")), ""),
        ("made", "Status: 201 Created\\nLocation: /new\\n\\nmade", 201, Some(("Location", "/new")), "made"),
        ("cookies", "Set-Cookie: a=1\\nSet-Cookie: b=2\\n\\n", 200, Some(("Set-Cookie", "a=1")), ""),
    ];
    for (name, text, status, field, body) in cases {
        let script = shell(&scene, name, &format!("printf '{text}'"));
        let answer = gateway.get(&script);
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{name}: {}", answer.headers);
        if let Some((field, value)) = field {
            assert_eq!(answer.header(field), Some(value), "{name}: {}", answer.headers);
        }
        let head = gateway.ask(&script, Request::get("/x").param("REQUEST_METHOD", "HEAD"));
        assert_eq!((head.status, head.text().as_str()), (status, ""), "{name}");
    }
    assert_eq!(gateway.said(), "", "nothing of this is worth a line");
}

#[test]
fn what_is_no_answer_is_told_with_502_and_a_line() {
    let scene = Scene::new();
    let gateway = gateway(&scene);
    let cases = [
        ("nph", "printf 'HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\n\\r\\nhello'", "nph"),
        ("bare", "printf '\\nhello'", "no head"),
        ("colonless", "printf 'Content-Type: text/plain\\nhello world\\n\\n'", "without a colon"),
        ("html", "printf '<html>\\n<body>\\n'", "without a colon"),
        ("huge", "head -c 100000 /dev/zero | tr '\\0' x", "more than 65536 bytes"),
        ("endless", "while echo 'X-Y: z'; do :; done", "more than 65536 bytes"),
        ("cut", "printf 'Content-Type: text/plain\\n'", "end of its answer's head"),
        ("silent", "true", "without an answer"),
        ("failing", "echo some reason >&2; exit 3", "exited with 3: some reason"),
        ("killed", "printf 'Content-Type: text/plain\\n\\nhalf'; kill -9 $$", "signal 9 (SIGKILL)"),
    ];
    for (name, lines, word) in cases {
        let script = shell(&scene, name, lines);
        let answer = gateway.get(&script);
        assert_eq!(answer.status, 502, "{name}: {}", answer.text());
        assert!(answer.text().contains("Bad Gateway"), "{name}: {}", answer.text());
        let line = gateway.said().lines().last().unwrap_or_default().to_owned();
        assert!(line.contains(word) && line.contains("GET /x") && line.contains(name), "{name}: {line:?}");
    }
    // What is answered stands, whatever the script then leaves with.
    let script = shell(&scene, "grumpy", "printf 'Content-Type: text/plain\\n\\nhello'; exit 7");
    assert_eq!(gateway.get(&script).text(), "hello");
    assert!(gateway.said().contains("grumpy exited with 7"), "{}", gateway.said());
}

#[test]
fn half_an_answer_never_looks_like_a_whole_one() {
    let scene = Scene::new();
    let gateway = gateway(&scene);
    let script =
        shell(&scene, "dies", "printf 'Content-Type: text/plain\\n\\n'; head -c 300000 /dev/zero; kill -SEGV $$");
    let request = Request::get("/x").param("SCRIPT_FILENAME", &script.display().to_string());
    request.send(gateway.address()).expect_err("there is no end of it");
    assert!(gateway.said().contains("SIGSEGV"), "{}", gateway.said());
    assert_eq!(gateway.get(&shell(&scene, "good", "printf 'Status: 204\\n\\n'")).status, 204);
}

#[test]
fn a_flood_of_stderr_holds_up_nothing_and_is_bounded() {
    let scene = Scene::new();
    let gateway = gateway(&scene);
    let script = shell(
        &scene,
        "flood",
        "yes 'a line of complaint' | head -c 4000000 >&2; printf 'Content-Type: text/plain\\n\\nhello'",
    );
    let answer = gateway.get(&script);
    assert_eq!(answer.text(), "hello");
    for (whose, text) in
        [("the web server's", String::from_utf8_lossy(&answer.stderr).into_owned()), ("ours", gateway.said())]
    {
        assert!(text.len() < 70_000 && text.len() > 60_000, "{whose}: {}", text.len());
        assert!(text.starts_with("a line of complaint\na line"), "{whose}: {}", &text[..100]);
        assert!(text.contains("more bytes of stderr for this request were dropped]"), "{whose}");
    }
    let wild = shell(&scene, "wild", "printf 'one\\033[2Jtwo' >&2; printf 'Status: 204\\n\\n'");
    assert_eq!(String::from_utf8_lossy(&gateway.get(&wild).stderr), "one?[2Jtwo\n");
}

#[test]
fn an_answer_that_goes_on_is_passed_on_as_it_comes() {
    let scene = Scene::new();
    let gateway = gateway(&scene);
    let gate = scene.join("cgi/gate");
    let made = std::process::Command::new("mkfifo").arg(&gate).status().expect("mkfifo of coreutils");
    assert!(made.success());
    let lines = format!("printf 'Content-Type: text/plain\\n\\nfirst'; read go < {}; printf second", gate.display());
    let script = shell(&scene, "slow", &lines);
    let request = Request::get("/x").param("SCRIPT_FILENAME", &script.display().to_string());
    let mut asked = request.start(gateway.address()).expect("it listens");
    let (kind, _, piece) = asked.record().expect("the beginning, while the script still runs");
    assert!(kind == 6 && piece.ends_with(b"first"), "{:?}", String::from_utf8_lossy(&piece));
    std::fs::write(&gate, "go\n").expect("the script reads it");
    let (_, _, piece) = asked.record().expect("the rest");
    assert_eq!(piece, b"second");
}

/// The script has ended long before its visitor has read what it said.
#[test]
fn a_slow_visitor_gets_all_of_an_answer() {
    let scene = Scene::new();
    let gateway = gateway(&scene);
    let script = shell(&scene, "long", "printf 'Content-Type: text/plain\n\n'; head -c $QUERY_STRING /dev/zero");
    // Somewhere between these the socket is full, and the last of it stands in the script's pipe.
    for length in (100_000..450_000).step_by(35_000) {
        let request = Request::get(&format!("/x?{length}")).param("SCRIPT_FILENAME", &script.display().to_string());
        let asked = request.start(gateway.address()).expect("it listens");
        // Not reading is what is tried here.
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(asked.finish().expect("a whole answer").body.len(), length);
    }
}

#[test]
fn only_what_lies_below_the_root_runs() {
    let scene = Scene::new();
    let gateway = gateway(&scene);
    let good = shell(&scene, "good", "printf 'Content-Type: text/plain\\n\\nran'");
    let out = scene.program("outside", "#!/bin/sh\ntouch ran-outside\n");
    symlink(&out, scene.join("cgi/link")).expect("a link");
    symlink(&good, scene.join("to-good")).expect("a link");
    let plain = scene.write("cgi/plain", "#!/bin/sh\n");
    let interpreter = scene.program("cgi/odd", "#!/nowhere/sh\n");
    let empty = scene.write("cgi/empty", "no script");
    allow(&empty, 0o755);
    assert_eq!(gateway.get(&good).text(), "ran");
    assert_eq!(gateway.get(&scene.join("to-good")).text(), "ran", "it lies below, whatever it is called");
    for (path, status, word) in [
        (scene.join("cgi/../outside"), 403, "not below --root"),
        (scene.join("cgi/link"), 403, "(really "),
        (out, 403, "not below --root"),
        (scene.join("cgi"), 403, "not below"),
        (scene.join("cgi/nothing"), 404, "there is no script"),
        (scene.join("cgi/good/more"), 404, "there is no script"),
        ("cgi/good".into(), 403, "no whole path"),
        (plain, 403, "chmod +x"),
        (interpreter, 500, "#!"),
        (empty, 500, "#!"),
    ] {
        let answer = gateway.get(&path);
        assert_eq!(answer.status, status, "{}: {}", path.display(), gateway.said());
        let said = gateway.said();
        let line = said.lines().last().unwrap_or_default();
        assert!(line.contains(word), "{}: {line}", path.display());
    }
    assert!(!scene.join("cgi/ran-outside").exists() && !scene.join("ran-outside").exists());
    // As fcgiwrap has it, where the web server names no file.
    let split = shell(&scene, "split", "printf 'Content-Type: text/plain\\n\\n%s|%s' \"$SCRIPT_NAME\" \"$PATH_INFO\"");
    let request = Request::get("/x")
        .param("DOCUMENT_ROOT", &scene.join("cgi").display().to_string())
        .param("SCRIPT_NAME", "/split/a/b");
    assert_eq!(request.send(gateway.address()).expect("an answer").text(), "/split|/a/b");
    assert!(split.exists());
}

#[test]
fn a_named_program_gets_its_arguments_where_the_worker_is() {
    let scene = Scene::new();
    let script = shell(&scene, "args", "printf 'Content-Type: text/plain\\n\\n%s,%s,%s' \"$1\" \"$2\" \"$PWD\"");
    let gateway = Gateway::start(&scene, &["--", &script.display().to_string(), "a b", "--timeout"]);
    let here = std::env::current_dir().expect("we are somewhere").display().to_string();
    assert_eq!(Request::get("/x").send(gateway.address()).expect("an answer").text(), format!("a b,--timeout,{here}"));
    drop(gateway);
    let scene = Scene::new();
    let script = shell(&scene, "alone", "printf 'Content-Type: text/plain\\n\\n%s' \"$PWD\"");
    let gateway = Gateway::start(&scene, &["--", &script.display().to_string()]);
    let place = scene.join("cgi").display().to_string();
    assert_eq!(Request::get("/x").send(gateway.address()).expect("an answer").text(), place);
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let scene = Scene::new();
    let file = scene.write("file", "");
    for (arguments, code, word) in [
        (vec!["cgi"], 2, "steadfast cgi -- PROGRAM"),
        (vec!["cgi", "--root", "/tmp", "--", "/bin/true"], 2, "cannot be used with"),
        (vec!["cgi", "--", "/nowhere/x"], 1, "/nowhere/x cannot be used"),
        (vec!["cgi", "--", "no-such-program-here"], 1, "no-such-program-here"),
        (vec!["cgi", "--", file.to_str().expect("UTF-8")], 1, "not executable"),
        (vec!["cgi", "--root", "/nowhere"], 1, "--root"),
        (vec!["cgi", "--", "/bin/true"], 2, "fd 0"),
    ] {
        let said = steadfast(scene.path(), &arguments);
        assert!(said.code == code && said.stderr.contains(word), "{arguments:?}: {} {}", said.code, said.stderr);
    }
}

#[test]
fn small_answers_are_not_held_back() {
    let scene = Scene::new();
    let gateway = gateway(&scene);
    let script = shell(&scene, "quick", "printf 'Content-Type: text/plain\\n\\nquick'");
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(gateway.get(&script).text(), "quick");
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
