//! A worker's life as a process: its steps, what it says over the link, why it leaves and with which code.

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::Shutdown;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use steadfast_proto::link::{Failure, FromWorker, ToWorker, Unavailable};
use support::process::{PATIENCE, Site, Start, ask, connect, read_answer, site, wait};
use support::wire::Wire;

fn failure(code: u8, name: Option<&str>, message: &str) -> Failure {
    Failure { code: Some(code), name: name.map(str::to_owned), message: Some(message.to_owned()) }
}

fn with_link(variables: &[(&str, &str)]) -> Site {
    let mut site = Start { has_link: true, variables, ..Start::default() }.start();
    assert!(matches!(site.link().hear(), Some(FromWorker::Hello(hello)) if hello.pid == site.child.id()));
    site
}

#[test]
fn a_preload_step_that_fails_breaks_the_generation_and_a_start_step_the_worker() {
    let cases = [
        (
            "SITE_PRELOAD",
            "fail",
            1,
            FromWorker::Broken(failure(1, Some("EX_PRELOAD"), "preload step \"the pages\": it failed")),
        ),
        (
            "SITE_START",
            "fail",
            5,
            FromWorker::Failed(failure(5, Some("EX_START"), "start step \"the database\": it failed")),
        ),
        (
            "SITE_START",
            "code",
            42,
            FromWorker::Failed(failure(42, None, "start step \"the database\": it failed with a code")),
        ),
        (
            "SITE_START",
            "unavailable",
            75,
            FromWorker::Unavailable(Unavailable {
                name: Some("db".to_owned()),
                message: Some("start step \"the database\": it is away".to_owned()),
                retry_after_ms: Some(3000),
            }),
        ),
    ];
    for (name, value, code, message) in cases {
        let mut site = with_link(&[(name, value)]);
        assert_eq!(site.link().hear(), Some(message.clone()));
        // The supervisor decides; but when something else is away there is nothing to decide.
        if !matches!(message, FromWorker::Unavailable(_)) {
            site.sleeps();
            site.term();
        }
        let said = site.ends_with(code);
        assert!(said.contains("step \""), "{said}");
        // Nobody decides without a link.
        let mut alone = Start { variables: &[(name, value)], ..Start::default() }.start();
        alone.ends_with(code);
    }
}

#[test]
fn a_panic_in_a_step_is_told_with_its_place() {
    for (name, code) in [("SITE_PRELOAD", 1), ("SITE_START", 5)] {
        let mut site = with_link(&[(name, "panic")]);
        let (FromWorker::Broken(failure) | FromWorker::Failed(failure)) = site.link().hear().expect("a word") else {
            panic!("another word")
        };
        let message = failure.message.expect("a message");
        assert!(message.contains("panicked at ") && message.contains("test-site.rs:"), "{message}");
        assert!(message.ends_with(": it panicked"), "{message}");
        site.link().say(&ToWorker::Quit);
        site.ends_with(code);
    }
}

#[test]
fn term_ends_the_delayed_exit_at_any_moment_and_the_code_stays() {
    for turn in 0..200 {
        let mut site = with_link(&[("SITE_PRELOAD", "fail")]);
        assert!(matches!(site.link().hear(), Some(FromWorker::Broken(_))));
        (0..turn * 50).for_each(|_| std::hint::spin_loop());
        let begun = Instant::now();
        site.term();
        site.ends_with(1);
        assert!(begun.elapsed() < Duration::from_secs(5), "turn {turn}: the signal was slept through");
    }
}

#[test]
fn the_delayed_exit_ends_by_itself_after_ten_seconds_or_with_the_link() {
    let mut site = with_link(&[("SITE_PRELOAD", "fail")]);
    let mut other = with_link(&[("SITE_PRELOAD", "fail")]);
    let begun = Instant::now();
    assert!(matches!(other.link().hear(), Some(FromWorker::Broken(_))));
    other.link = None;
    other.ends_with(1);
    assert!(begun.elapsed() < Duration::from_secs(5));
    // Not what is said on the link, save quit, ends it.
    site.link().say(&ToWorker::Drain);
    site.ends_with(1);
    let waited = begun.elapsed();
    assert!(waited > Duration::from_secs(9) && waited < Duration::from_secs(15), "{waited:?}");
}

#[test]
fn a_request_that_a_worker_cannot_go_on_after_is_answered_and_no_other_is_taken() {
    let cases = [
        ("/failed", 9, FromWorker::Failed(failure(9, None, "GET /failed: it cannot go on"))),
        ("/broken", 11, FromWorker::Broken(failure(11, None, "GET /broken: none of us can go on"))),
    ];
    for (page, code, message) in cases {
        let mut site = Site::start(&[]);
        let answer = site.ask(page);
        assert_eq!(answer.status(), 500);
        assert!(!answer.text().contains("go on"), "the reason is for the log");
        assert_eq!(site.link().hear(), Some(message));
        let mut waiting = site.connect();
        waiting.write_all(&Wire::new().get("/", false).0).expect("the socket is there");
        site.sleeps();
        site.term();
        assert!(site.ends_with(code).contains("go on"));
        site.listener.set_nonblocking(true).expect("a socket");
        site.listener.accept().expect("the request is left for another worker");
    }
}

#[test]
fn a_panic_is_a_line_in_the_log_and_the_worker_goes_on_unless_it_was_told_not_to() {
    let mut site = Site::start(&[]);
    assert_eq!(site.ask("/panic").status(), 500);
    assert_eq!(site.ask("/fail").status(), 500);
    assert_eq!(site.ask("/").text(), "well");
    site.term();
    let said = site.ends_with(0);
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("test-site: ")).collect();
    assert!(lines[0].contains("GET /panic: panicked at ") && lines[0].ends_with(": it panicked"), "{said}");
    assert_eq!(lines[1], "test-site: GET /fail: it failed");

    let mut site = Site::start(&[("SITE_AFTER_PANIC", "leave")]);
    assert_eq!(site.ask("/panic").status(), 500);
    assert!(matches!(site.link().hear(), Some(FromWorker::Failed(Failure { code: Some(4), .. }))));
    site.term();
    site.ends_with(4);
}

#[test]
fn a_worker_recycles_itself_after_so_many_requests_also_on_one_connection() {
    let mut site = Site::start(&[("SITE_MAX_REQUESTS", "3")]);
    assert_eq!(site.ask("/").text(), "well");
    let mut stream = site.connect();
    for _ in 0..2 {
        stream.write_all(&Wire::new().get("/", true).0).expect("it listens");
        assert!(read_answer(&mut stream).is_some());
    }
    assert_eq!(read_answer(&mut stream), None);
    assert_eq!(site.link().hear(), Some(FromWorker::Recycle));
    let said = site.ends_with(0);
    assert!(!said.contains("asked to leave"), "{said}");
}

#[test]
fn a_lack_of_descriptors_is_waited_out() {
    let mut site = Site::start(&[]);
    let pid = Some(site.pid());
    let old =
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(site.fds() as u64), ..getrlimit(Resource::Nofile) });
    let old = old.expect("our child");
    let mut stream = site.connect();
    stream.write_all(&Wire::new().get("/", false).0).expect("it listens");
    // Two refusals: it has gone round.
    site.sleeps();
    prlimit(pid, Resource::Nofile, old).expect("our child");
    assert_eq!(read_answer(&mut stream).expect("in the end").text(), "well");
    // Term is not slept through meanwhile.
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(3), ..old }).expect("our child");
    let _other = site.connect();
    site.term();
    site.ends_with(0);
}

#[test]
fn five_failures_of_accept_in_a_row_end_a_worker() {
    let mut site = Site::start(&[]);
    // A socket that listens no more: accept says EINVAL.
    rustix::net::shutdown(&site.listener, Shutdown::Both).expect("a socket");
    let Some(FromWorker::Failed(failure)) = site.link().hear() else { panic!("another word") };
    assert_eq!((failure.code, failure.name.as_deref()), (Some(3), Some("EX_FCGI_ACCEPT")));
    assert!(failure.message.expect("a message").starts_with("accept failed 5 times in a row: "));
    site.term();
    site.ends_with(3);
}

#[test]
fn a_dead_link_is_no_reason_to_stop_serving() {
    let mut site = Site::start(&[("SITE_MAX_REQUESTS", "2")]);
    site.link = None;
    assert_eq!(site.ask("/").text(), "well");
    assert_eq!(site.ask("/").text(), "well");
    site.ends_with(0);
}

#[test]
fn a_stderr_that_is_full_or_closed_is_no_reason_to_fail() {
    let full = || File::options().write(true).open("/dev/full").expect("Linux has it");
    for (stderr, shell) in [(Some(Stdio::from(full())), ""), (None, "exec 2>&-")] {
        let mut site = Start { has_link: true, stderr, shell, ..Start::default() }.start();
        site.link().ready();
        for page in ["/panic", "/fail"] {
            assert_eq!(site.ask(page).status(), 500);
        }
        assert_eq!(site.ask("/").text(), "well");
        assert_eq!(site.ask("/failed").status(), 500);
        assert!(matches!(site.link().hear(), Some(FromWorker::Failed(_))));
        site.term();
        site.ends_with(9);
    }
}

#[test]
fn a_program_that_a_worker_starts_cannot_speak_in_its_name() {
    let site = Site::start(&[]);
    let text = site.ask("/program").text();
    assert_eq!(text, "worker||", "its role, its link, and the sockets that it has inherited");
}

#[test]
fn a_socket_that_does_not_block_is_waited_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("site.sock");
    let listener = UnixListener::bind(&path).expect("a new path");
    listener.set_nonblocking(true).expect("a socket");
    let (mut child, _) = Start::default().spawn(OwnedFd::from(listener));
    for _ in 0..2 {
        assert_eq!(ask(&path, "/").text(), "well");
        let mut kept = connect(&path);
        kept.write_all(&Wire::new().get("/", true).0).expect("it listens");
        assert!(read_answer(&mut kept).is_some());
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .expect("it runs");
    assert_eq!(wait(&mut child).code(), Some(0));
}

#[test]
fn only_the_web_servers_that_were_named_are_let_in() {
    // FastCGI 1.0 §3.2. An empty list is none, as in libfcgi; what cannot be read lets nobody in.
    let cases: [(&[u8], bool); 6] = [
        (b"127.0.0.1", true),
        (b"10.0.0.1, 127.0.0.1", true),
        (b"", true),
        (b"10.0.0.1", false),
        (b"x", false),
        (b"\xff", false),
    ];
    for (list, is_let_in) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let mut command = Command::new(site());
        command.env("FCGI_WEB_SERVER_ADDRS", <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(list));
        let mut child = command.stdin(OwnedFd::from(listener)).spawn().expect("a program");
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut said = Vec::new();
        let _ = stream.write_all(&Wire::new().get("/", false).0);
        let _ = stream.read_to_end(&mut said);
        assert_eq!(!said.is_empty(), is_let_in, "{:?}", String::from_utf8_lossy(list));
        child.kill().expect("our child");
        child.wait().expect("our child");
    }
}

#[test]
fn the_socket_may_come_by_listen_fds() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("site.sock");
    let listener = OwnedFd::from(UnixListener::bind(&path).expect("a new path"));
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\""]).arg(site()).stdin(listener);
    let mut child = command.spawn().expect("a shell");
    assert_eq!(ask(&path, "/").text(), "well");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .expect("it runs");
    assert_eq!(wait(&mut child).code(), Some(0));

    let run = |script: &str| {
        let output =
            Command::new("sh").args(["-c", script]).arg(site()).stdin(Stdio::null()).output().expect("a shell");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run("LISTEN_FDS=2 LISTEN_PID=$$ exec \"$0\"");
    assert!(code == Some(2) && said.contains("LISTEN_FDS names 2 sockets"), "{code:?} {said}");
    let (code, said) = run("LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\"");
    assert!(code == Some(2) && said.contains("fd 3"), "{code:?} {said}");
    // Meant for somebody else.
    let (code, said) = run("LISTEN_FDS=1 LISTEN_PID=1 exec \"$0\"");
    assert!(code == Some(2) && said.contains("fd 0 is no socket"), "{code:?} {said}");
}

#[test]
fn by_hand_it_listens_where_it_was_built_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("site.sock");
    let mut command = Command::new(site());
    command.env("SITE_LISTEN", &path).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a program");
    let mut byte = [0; 1];
    let mut said = Vec::new();
    let mut stderr = child.stderr.take().expect("a pipe");
    while stderr.read(&mut byte).expect("a pipe") == 1 && byte != [b'\n'] {
        said.push(byte[0]);
    }
    assert!(String::from_utf8_lossy(&said).contains("listening on "), "{said:?}");
    assert_eq!(ask(&path, "/").text(), "well");
    child.kill().expect("our child");
    child.wait().expect("our child");
}

/// Runs the site as a CGI program.
fn cgi(variables: &[(&str, &str)], stdin: &[u8]) -> (Option<i32>, String, String) {
    let mut command = Command::new(site());
    command.env_clear().env("GATEWAY_INTERFACE", "CGI/1.1").envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a program");
    let mut to = child.stdin.take().expect("a pipe");
    let _ = to.write_all(stdin);
    drop(to);
    let output = child.wait_with_output().expect("our child");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn as_a_cgi_program_it_answers_one_request() {
    let plain = "Content-Type: text/plain; charset=utf-8\r\nStatus: 200 OK\r\n\r\n";
    let (code, out, err) = cgi(&[("REQUEST_METHOD", "GET"), ("PATH_INFO", "/")], b"");
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), format!("{plain}well").as_str(), ""));
    let upload = |length: &[(&str, &str)], body: &[u8]| {
        let head = [("REQUEST_METHOD", "POST"), ("PATH_INFO", "/upload")];
        cgi(&[&head[..], length].concat(), body)
    };
    // RFC 3875 §4.2: no more than CONTENT_LENGTH is there to be read, and nothing without it.
    assert_eq!(upload(&[("CONTENT_LENGTH", "5")], b"12345678").1, format!("{plain}5"));
    assert_eq!(upload(&[], b"12345678").1, format!("{plain}0"));
    assert_eq!(upload(&[("CONTENT_LENGTH", "")], b"").1, format!("{plain}0"));
    let (code, out, _) = upload(&[("CONTENT_LENGTH", "50")], b"12345678");
    assert_eq!((code, out.as_str()), (Some(4), ""), "the client has gone");
    let (code, out, _) = cgi(&[("PATH_INFO", "/large")], b"");
    assert_eq!((code, out.len()), (Some(0), "Status: 200 OK\r\n\r\n".len() + 3_000_000));
    let (code, out, _) = cgi(&[("PATH_INFO", "/"), ("REQUEST_METHOD", "HEAD")], b"");
    assert_eq!((code, out.as_str()), (Some(0), plain));
}

#[test]
fn a_cgi_program_that_fails_says_so_to_its_visitor_too() {
    for (page, expected) in [("/fail", 4), ("/panic", 4), ("/failed", 9), ("/broken", 11)] {
        let (code, out, err) = cgi(&[("PATH_INFO", page)], b"");
        assert_eq!(code, Some(expected), "{page}");
        assert!(out.starts_with("Status: 500 Internal Server Error\r\n"), "{page}: {out:?}");
        assert!(err.contains(&format!("GET {page}: ")), "{err}");
    }
    let (code, _, err) = cgi(&[("PATH_INFO", "/warn")], b"");
    assert_eq!((code, err.as_str()), (Some(0), "a line for the log\n"));
}

#[test]
fn without_a_socket_or_a_request_it_says_how_it_is_started() {
    let output = Command::new(site()).env_clear().stdin(Stdio::null()).output().expect("a program");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("steadfast run --listen"), "{said}");
}

#[test]
fn descriptors_that_it_was_started_with_are_left_alone() {
    // mod_fcgid leaves several open (A.2), and nothing else of an environment than PATH.
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("site.sock");
    let listener = OwnedFd::from(UnixListener::bind(&path).expect("a new path"));
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3</dev/null 4</dev/null 7</etc/passwd; exec env -i \"$0\""]).arg(site()).stdin(listener);
    let mut child = command.spawn().expect("a shell");
    assert_eq!(ask(&path, "/").text(), "well");
    let there = fs::read_link(format!("/proc/{}/fd/7", child.id())).expect("it is open");
    assert_eq!(there.to_str(), Some("/etc/passwd"));
    child.kill().expect("our child");
    child.wait().expect("our child");
}

#[test]
fn more_than_a_thousand_descriptors_are_nothing_special() {
    // libfcgi CVE-2012-6687: select() beyond FD_SETSIZE.
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("site.sock");
    let listener = OwnedFd::from(UnixListener::bind(&path).expect("a new path"));
    let script = "use POSIX; open my $null, '<', '/dev/null'; for (10..1500) { POSIX::dup2(fileno $null, $_) // die $! } exec $ARGV[0]";
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 2000; exec perl -e \"$1\" \"$0\""]).arg(site()).arg(script).stdin(listener);
    let mut child = command.spawn().expect("a shell");
    let mut stream = connect(&path);
    stream.write_all(&Wire::new().get("/", true).0).expect("it listens");
    assert_eq!(read_answer(&mut stream).expect("an answer").text(), "well");
    child.kill().expect("our child");
    child.wait().expect("our child");
}
