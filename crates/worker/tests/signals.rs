//! SIGTERM at every moment: nothing that was taken is cut, and nobody stays.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use steadfast_proto::link::FromWorker;
use support::process::{Site, Start, read_answer};
use support::wire::{Reply, Wire};

/// So often: a gap of a microsecond is met by one run in some thousands only, but a hole is.
const TIMES: usize = 200;

#[test]
fn term_ends_a_worker_that_waits_for_a_connection() {
    for _ in 0..TIMES {
        let mut site = Site::start(&[]);
        site.term();
        assert!(site.ends_with(0).contains("asked to leave"));
    }
}

#[test]
fn term_ends_a_worker_with_an_idle_kept_connection() {
    for _ in 0..TIMES {
        let mut site = Site::start(&[]);
        let mut stream = site.connect();
        stream.write_all(&Wire::new().get("/", true).0).expect("it listens");
        assert_eq!(read_answer(&mut stream).expect("an answer").text(), "well");
        site.term();
        site.ends_with(0);
        assert_eq!(read_answer(&mut stream), None);
    }
}

#[test]
fn term_does_not_cut_an_upload() {
    for turn in 0..TIMES {
        let mut site = Site::start(&[]);
        let keep = turn % 2 == 0;
        let mut stream = site.connect();
        let pairs = [("REQUEST_URI", "/begin"), ("CONTENT_LENGTH", "100000")];
        stream.write_all(&Wire::new().responder(keep).params(&pairs).part(&[b'x'; 50_000]).0).expect("it listens");
        // It has begun: the first record is there.
        let mut first = [0; 8];
        stream.read_exact(&mut first).expect("the first header");
        site.term();
        stream.write_all(&Wire::new().stdin(&[b'x'; 50_000]).0).expect("it listens");
        let mut said = first.to_vec();
        stream.read_to_end(&mut said).expect("in time");
        assert_eq!(Reply::parse(&said).one().text(), "begun ended");
        site.ends_with(0);
    }
}

#[test]
fn term_does_not_cut_a_computation() {
    for turn in 0..TIMES {
        let mut site = Site::start(&[]);
        let mut stream = site.connect();
        stream.write_all(&Wire::new().get("/compute", turn % 2 == 0).0).expect("it listens");
        let mut first = [0; 8];
        stream.read_exact(&mut first).expect("the first header");
        site.term();
        site.term();
        let mut said = first.to_vec();
        stream.read_to_end(&mut said).expect("in time");
        assert_eq!(Reply::parse(&said).one().text(), "begun ended");
        site.ends_with(0);
    }
}

#[test]
fn a_request_on_a_kept_connection_is_answered_or_cannot_be_sent_when_term_comes() {
    // The web server knows then that it must ask somebody else. One in many comes between any two steps of the worker.
    for turn in 0..TIMES {
        let mut site = Site::start(&[]);
        let mut stream = site.connect();
        let wire = Wire::new().get("/", true).0;
        stream.write_all(&wire).expect("it listens");
        assert!(read_answer(&mut stream).is_some());
        let pid = site.pid();
        let killer = thread::spawn(move || {
            (0..turn * 50).for_each(|_| std::hint::spin_loop());
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        });
        let mut answered = 0;
        while stream.write_all(&wire).is_ok() {
            let answer = read_answer(&mut stream);
            assert!(answer.is_some(), "turn {turn}: request {answered} was taken and not answered");
            answered += 1;
        }
        killer.join().expect("no panic").expect("it was there");
        site.ends_with(0);
    }
}

#[test]
fn a_request_on_a_new_connection_that_was_accepted_is_answered_when_term_comes() {
    for turn in 0..TIMES {
        let mut site = Site::start(&[]);
        let pid = site.pid();
        let killer = thread::spawn(move || {
            (0..turn * 100).for_each(|_| std::hint::spin_loop());
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        });
        let worker = pidfd_open(pid, PidfdFlags::empty()).expect("our child");
        loop {
            let mut stream = site.connect();
            stream.write_all(&Wire::new().get("/", false).0).expect("somebody has the socket");
            let mut fds = [PollFd::new(&stream, PollFlags::IN), PollFd::new(&worker, PollFlags::IN)];
            poll(&mut fds, None).expect("it ends");
            if fds[0].revents().is_empty() {
                // It has gone: then this one is left for the other workers.
                site.listener.set_nonblocking(true).expect("a socket");
                let (mut taken, _) = site.listener.accept().expect("nobody has taken it");
                assert_eq!(taken.read(&mut [0]).expect("the request"), 1);
                break;
            }
            assert!(read_answer(&mut stream).is_some(), "turn {turn}: a request was taken and not answered");
        }
        killer.join().expect("no panic").expect("it was there");
        site.ends_with(0);
    }
}

#[test]
fn a_connection_that_was_accepted_before_term_is_heard_though_it_says_nothing_yet() {
    let mut site = Site::start(&[]);
    let mut stream = accepted(&site);
    site.term();
    stream.write_all(&Wire::new().get("/", false).0).expect("it listens");
    assert_eq!(read_answer(&mut stream).expect("it was taken").text(), "well");
    site.ends_with(0);
}

#[test]
fn a_connection_that_says_nothing_does_not_hold_a_worker_that_was_told_to_leave() {
    let mut site = Site::start(&[]);
    let _stream = accepted(&site);
    site.term();
    site.ends_with(0);
}

/// A connection that the site has taken.
fn accepted(site: &Site) -> UnixStream {
    let before = site.fds();
    let stream = site.connect();
    while site.fds() == before {
        thread::yield_now();
    }
    site.sleeps();
    stream
}

#[test]
fn an_upload_that_nobody_reads_any_more_does_not_hold_a_worker_that_was_told_to_leave() {
    let mut site = Site::start(&[]);
    let mut stream = site.connect();
    let pairs = [("REQUEST_URI", "/"), ("CONTENT_LENGTH", "100000")];
    stream
        .write_all(&Wire::new().responder(true).params(&pairs).part(&[b'x'; 60_000]).0[..50_000])
        .expect("it listens");
    assert_eq!(read_answer(&mut stream).expect("an answer").text(), "well");
    site.sleeps();
    site.term();
    site.ends_with(0);
}

#[test]
fn an_upload_that_was_answered_early_is_not_broken_off_when_term_comes() {
    let mut site = Site::start(&[]);
    let mut stream = site.connect();
    let pairs = [("REQUEST_URI", "/"), ("CONTENT_LENGTH", "50000")];
    stream.write_all(&Wire::new().responder(true).params(&pairs).0).expect("it listens");
    assert_eq!(read_answer(&mut stream).expect("an answer").text(), "well");
    site.sleeps();
    site.term();
    assert_eq!(read_answer(&mut stream), None);
    stream.write_all(&Wire::new().stdin(&[b'x'; 50_000]).0).expect("somebody reads it");
    drop(stream);
    site.ends_with(0);
}

#[test]
fn term_to_another_thread_reaches_the_one_that_accepts() {
    for turn in 0..20 {
        let mut site = Site::start(&[("SITE_START", "thread")]);
        let mut kept = (turn % 2 == 0).then(|| site.connect());
        if let Some(stream) = &mut kept {
            stream.write_all(&Wire::new().get("/", true).0).expect("it listens");
            assert!(read_answer(stream).is_some());
        }
        let pid = site.child.id();
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        let other = threads
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .find(|thread| *thread != pid)
            .expect("a second thread");
        // tgkill(2), which nothing safe calls.
        let script = format!("exit(syscall({}, {pid}, {other}, 15) == 0 ? 0 : 1)", libc::SYS_tgkill);
        assert!(Command::new("perl").args(["-e", &script]).status().expect("perl").success());
        site.ends_with(0);
    }
}

#[test]
fn term_before_there_is_a_handler_for_it_ends_the_process_at_once() {
    let mut site = Start { has_link: true, variables: &[("SITE_START", "park")], ..Start::default() }.start();
    assert!(matches!(site.link().hear(), Some(FromWorker::Hello(_))));
    site.term();
    assert_eq!(site.end().0.signal(), Some(15), "nothing is in hand yet");
}

#[test]
fn a_web_server_that_half_closes_gets_its_answer_from_a_worker_that_was_told_to_leave() {
    let mut site = Site::start(&[]);
    let mut stream = site.connect();
    let pairs = [("REQUEST_URI", "/begin"), ("CONTENT_LENGTH", "10")];
    stream.write_all(&Wire::new().responder(false).params(&pairs).0).expect("it listens");
    let mut first = [0; 8];
    stream.read_exact(&mut first).expect("the first header");
    site.term();
    stream.write_all(&Wire::new().stdin(b"1234567890").0).expect("it listens");
    stream.shutdown(Shutdown::Write).expect("open");
    let mut said = first.to_vec();
    stream.read_to_end(&mut said).expect("in time");
    assert_eq!(Reply::parse(&said).one().text(), "begun ended");
    site.ends_with(0);
}

#[test]
fn a_worker_whose_starter_ignored_or_blocked_term_hears_it() {
    let blocked = "exec perl -MPOSIX -e 'sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGTERM)); exec $ARGV[0]' \"$0\"";
    for shell in ["trap '' TERM", blocked] {
        let mut site = Start { has_link: true, shell, ..Start::default() }.start();
        site.link().ready();
        site.sleeps();
        site.term();
        site.ends_with(0);
    }
}
