//! `steadfast ping` against real servers: libfcgi, FCGI.pm, php-cgi, nginx, steadfast's own pools, and broken ones.

use steadfast_harness as support;

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::Output;
use std::time::{Duration, Instant};

use support::apps;
use support::nginx::Nginx;
use support::scene::Scene;
use support::standalone::{Standalone, answering, tool};

fn ping(arguments: &[&str]) -> Output {
    tool("ping", arguments)
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn ends_with_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}\n{}", stdout(output), stderr(output));
}

#[test]
fn libfcgi_and_perl_answer_over_unix_and_tcp() {
    let scene = Scene::new();
    let perl = apps::perl(None);
    for worker in [
        Standalone::unix(&scene, "c", &[apps::worker()]),
        Standalone::tcp(&[apps::worker()]),
        Standalone::unix(&scene, "perl", &perl),
        Standalone::tcp(&perl),
    ] {
        let output = ping(&[worker.address(), "/"]);
        ends_with_code(&output, 0);
        assert!(stdout(&output).starts_with("ok "), "{}", stdout(&output));
        assert_eq!(stderr(&output), "");
        let output = ping(&[worker.address(), "/", "--include"]);
        let text = stdout(&output);
        assert!(text.starts_with("Status: 200\nContent-Type: text/plain\n\nok "), "{text:?}");
        assert_eq!(stdout(&ping(&[worker.address(), "--status-only"])), "200\n");
    }
}

#[test]
fn a_worker_sees_the_request_that_was_typed() {
    let scene = Scene::new();
    let worker = Standalone::unix(&scene, "c", &[apps::worker()]);
    let arguments = [
        worker.address(),
        "/params?a=b%20c",
        "--header",
        "Host: site.example:81",
        "-H",
        "X-Own: one",
        "--header",
        "x-own: two",
        "--param",
        "SCRIPT_FILENAME=/srv/app.php",
        "--param",
        "REMOTE_ADDR=192.0.2.1",
        "--method",
        "PUT",
    ];
    let output = ping(&arguments);
    ends_with_code(&output, 0);
    let text = stdout(&output);
    for line in [
        "REQUEST_METHOD=PUT",
        "REQUEST_URI=/params?a=b%20c",
        "SCRIPT_NAME=/params",
        "PATH_INFO=/params",
        "QUERY_STRING=a=b%20c",
        "HTTP_HOST=site.example:81",
        "SERVER_NAME=site.example",
        "HTTP_X_OWN=one, two",
        "SCRIPT_FILENAME=/srv/app.php",
        "REMOTE_ADDR=192.0.2.1",
        "GATEWAY_INTERFACE=CGI/1.1",
    ] {
        assert!(text.lines().any(|this| this == line), "no {line} in\n{text}");
    }
}

#[test]
fn bodies_go_both_ways() {
    let scene = Scene::new();
    let worker = Standalone::unix(&scene, "c", &[apps::worker()]);
    assert_eq!(stdout(&ping(&[worker.address(), "/echo", "--data", "hello"])), "hello");
    let large = "0123456789abcde\n".repeat(200_000);
    let file = scene.write("body", &large);
    let output = ping(&[worker.address(), "/echo", "--data", &format!("@{}", file.display())]);
    ends_with_code(&output, 0);
    assert!(stdout(&output) == large, "{} bytes came back of {}", output.stdout.len(), large.len());
    let output = ping(&[worker.address(), "/body?3000000"]);
    assert_eq!(output.stdout.len(), 3_000_000);
    // It says nothing before it has all of it, which is far more than fits into the socket.
    let counts = "use FCGI; my $r = FCGI::Request(); while ($r->Accept >= 0) { \
                  my ($n, $b) = 0; while (my $l = read STDIN, $b, 65536) { $n += $l } print \"A: b\\n\\n$n\" }";
    let perl = Standalone::unix(&scene, "perl", &["/usr/bin/perl", "-e", counts]);
    let output = ping(&[perl.address(), "/", "--data", &format!("@{}", file.display())]);
    assert_eq!(stdout(&output), large.len().to_string());
}

#[test]
fn php_cgi_runs_its_script() {
    let worker = Standalone::php();
    let script = format!("SCRIPT_FILENAME={}", apps::php_script());
    let output = ping(&[worker.address(), "/", "--param", &script]);
    ends_with_code(&output, 0);
    assert!(stdout(&output).starts_with("ok "), "{}", stdout(&output));
    let output = ping(&[worker.address(), "/fatal", "--param", &script, "-i"]);
    ends_with_code(&output, 1);
    assert!(stdout(&output).starts_with("Status: 500"), "{}", stdout(&output));
    // Without a script: php's own 404.
    let output = ping(&[worker.address(), "/nothing", "--status-only"]);
    ends_with_code(&output, 0);
    assert_eq!(stdout(&output), "404\n");
}

#[test]
fn stderr_records_go_to_stderr() {
    let script = "use FCGI; my $r = FCGI::Request(\\*STDIN, \\*STDOUT, \\*STDERR, {}, 0); \
                  while ($r->Accept >= 0) { print STDERR \"oh\\e[2Jdear\\n\"; print \"Status: 503 x\\n\\nbody\" }";
    let worker = Standalone::tcp(&["/usr/bin/perl", "-e", script]);
    let output = ping(&[worker.address()]);
    ends_with_code(&output, 1);
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("body", "oh\u{fffd}[2Jdear\n"));
}

#[test]
fn http_works_through_nginx() {
    let scene = Scene::new();
    let worker = Standalone::unix(&scene, "c", &[apps::worker()]);
    let nginx = Nginx::start(&scene, &worker.fcgi(), "");
    let address = format!("http://{}", nginx.address());
    let output = ping(&[&address, "/", "-i"]);
    ends_with_code(&output, 0);
    let text = stdout(&output);
    assert!(text.starts_with("HTTP/1.1 200 OK\n") && text.contains("\n\nok "), "{text:?}");
    assert_eq!(stdout(&ping(&[&format!("{address}/echo"), "--data", "hello"])), "hello");
    assert_eq!(ping(&[&address, "/body?1000000"]).stdout.len(), 1_000_000);
    let output = ping(&[&address, "/", "--method", "HEAD", "-i"]);
    ends_with_code(&output, 0);
    assert!(stdout(&output).ends_with("\n\n"), "HEAD has no body: {}", stdout(&output));
    drop(worker);
    let output = ping(&[&address, "/", "--status-only"]);
    ends_with_code(&output, 1);
    assert_eq!(stdout(&output), "502\n");
}

#[test]
fn who_refuses_is_told_with_what_to_do() {
    let scene = Scene::new();
    let absent = format!("unix:{}", scene.join("absent.sock").display());
    let output = ping(&[&absent]);
    ends_with_code(&output, 1);
    assert!(stderr(&output).contains(&format!("cannot connect to {absent}: there is no such socket\nhint: ")));
    let left = scene.join("left.sock");
    drop(UnixListener::bind(&left).expect("a socket"));
    let output = ping(&[&format!("unix:{}", left.display())]);
    ends_with_code(&output, 1);
    assert!(stderr(&output).contains("connection refused"), "{}", stderr(&output));
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    for address in [format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}/")] {
        let output = ping(&[&address]);
        ends_with_code(&output, 1);
        assert!(stderr(&output).contains("connection refused"), "{}", stderr(&output));
    }
}

#[test]
fn who_is_silent_times_out_with_75() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = tcp.local_addr().expect("bound");
    for address in [address.to_string(), format!("http://{address}")] {
        let begun = Instant::now();
        let output = ping(&[&address, "--timeout", "300ms"]);
        let took = begun.elapsed();
        ends_with_code(&output, 75);
        assert!(stderr(&output).contains("within 300ms: it has the request and has answered nothing"));
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    }
    // It reads nothing: the body does not fit into the socket.
    let scene = Scene::new();
    let file = scene.write("body", &"x".repeat(20_000_000));
    let output = ping(&[&address.to_string(), "--timeout", "300ms", "--data", &format!("@{}", file.display())]);
    ends_with_code(&output, 75);
    assert!(stderr(&output).contains("it has not read the whole request"), "{}", stderr(&output));
}

#[test]
fn a_worker_that_hangs_is_not_waited_for() {
    let scene = Scene::new();
    let worker = Standalone::unix(&scene, "c", &[apps::worker()]);
    let output = ping(&[worker.address(), "/sleep?30", "--timeout", "200ms"]);
    ends_with_code(&output, 75);
}

#[test]
fn what_is_no_answer_is_told() {
    // An END, whose protocol status is given.
    let end = |protocol_status: u8| vec![1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, protocol_status, 0, 0, 0];
    let head = b"Content-Type: text/plain\r\n";
    let mut cut = vec![1, 6, 0, 1, 0, 26, 0, 0];
    cut.extend_from_slice(head);
    let mut ended = cut.clone();
    ended.extend(end(0));
    for (answer, told) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "the answer is no FastCGI"),
        (end(0), "ended the request without a head"),
        (end(2), "OVERLOADED"),
        (ended, "ended the request without a head"),
        (cut, "closed in the middle of the answer"),
        (Vec::new(), "closed without an answer"),
        (vec![0xff; 4096], "the answer is no FastCGI"),
    ] {
        let (address, server) = answering(answer);
        let output = ping(&[&address.to_string()]);
        ends_with_code(&output, 1);
        assert!(stderr(&output).contains(told), "{told}: {}", stderr(&output));
        assert!(stderr(&output).contains("\nhint: "), "{}", stderr(&output));
        server.join().expect("it answered");
    }
    let (address, server) = answering(b"\x01\x06\x00\x01 no http\n\n".to_vec());
    let output = ping(&[&format!("http://{address}")]);
    ends_with_code(&output, 1);
    assert!(stderr(&output).contains("the answer is no HTTP/1.1"), "{}", stderr(&output));
    server.join().expect("it answered");
}

#[test]
fn an_answer_that_breaks_off_is_a_failure_although_its_beginning_is_shown() {
    let scene = Scene::new();
    let worker = Standalone::unix(&scene, "c", &[apps::worker()]);
    let output = ping(&[worker.address(), "/half"]);
    ends_with_code(&output, 1);
    assert_eq!(stdout(&output), "half");
    assert!(stderr(&output).contains("in the middle of the answer"), "{}", stderr(&output));
}

#[test]
fn wrong_arguments_are_usage_errors() {
    for arguments in [&["nowhere"][..], &["unix:/x", "no-slash"], &["http://x", "/", "--param", "A=b"]] {
        ends_with_code(&ping(arguments), 2);
    }
}
