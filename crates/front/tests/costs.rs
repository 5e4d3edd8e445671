//! What the front takes of the machine while others are slow or silent: memory for uploads, processor time for nothing.
//!
//! Both are figures of the whole process, so that one test runs at a time.

mod support;

use std::io::Read as _;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::params::push_pair;
use steadfast_proto::fcgi::record::kind;
use steadfast_proto::front::{Listener, Protocol, ToFront};
use support::{Scene, pool};

static PROCESS: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory of this process, in bytes.
fn rss() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("it lives");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * rustix::param::page_size()
}

/// Processor time that this process has had.
fn time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().expect("positive")
}

/// Held: what a worker had taken of a body was kept, and a sender who is faster than the worker was not stopped.
#[test]
fn an_upload_takes_no_more_memory_however_long_it_is() {
    const RECORDS: usize = 500;
    const CONTENT: usize = 65_528;
    const MEMORY_MAX: usize = 4 * 1024 * 1024;
    let _alone = alone();
    let mut scene = Scene::new(pool());
    let mut worker = scene.worker();
    let client = scene.client();
    let length = (RECORDS * CONTENT).to_string();
    let (mut head, mut params, mut record) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in [("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", length.as_str())] {
        push_pair(&mut params, name.as_bytes(), value.as_bytes()).expect("short");
    }
    encode::begin_request(&mut head, 1, 1, true);
    encode::params(&mut head, 1, &params).expect("they fit");
    encode::stream(&mut record, kind::STDIN, 1, &vec![b'x'; CONTENT]);
    assert_eq!(scene.pour(&client.stream, &head), head.len());
    // With the second one it is a body that is not collected first.
    for _ in 0..2 {
        assert_eq!(scene.pour(&client.stream, &record), record.len());
    }
    let all = RECORDS * record.len();
    let (mut taken, mut read, mut buffer) = (2 * record.len(), 0, vec![0; 65_536]);
    worker.begun();
    let before = rss();
    let mut most = before;
    while read < RECORDS * CONTENT {
        // The worker reads a little whenever the sender can send nothing more.
        while taken < all {
            let at = taken % record.len();
            let went = scene.pour(&client.stream, &record[at..]);
            taken += went;
            if at + went < record.len() {
                break;
            }
        }
        most = most.max(rss());
        scene.heard.clear();
        let got = worker.stream().read(&mut buffer).expect("more of it");
        assert!(got > 0, "it ended after {read} bytes");
        read += got;
    }
    let grown = most - before;
    assert!(grown < MEMORY_MAX, "{grown} bytes for an upload of {length}");
}

/// Held: a socket that the front had been told to leave stayed in its epoll, and one who waited there kept it busy.
#[test]
fn a_connection_to_a_socket_that_was_left_wakes_nobody() {
    const WHILE: Duration = Duration::from_secs(1);
    const TIME_MAX: Duration = Duration::from_millis(50);
    let _alone = alone();
    let mut scene = Scene::new(pool());
    let path = scene.dir.path().join("second.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    listener.set_nonblocking(true).expect("non-blocking");
    let mut config = pool();
    config.listeners.push(Listener { id: 2, protocol: Protocol::Fastcgi, address: "unix:second.sock".to_owned() });
    // The first is known, and is accepted from where it was: this one is not looked at.
    let spare = UnixListener::bind(scene.dir.path().join("spare.sock")).expect("a socket");
    scene.tell_with(&ToFront::Pool(Box::new(config)), &[spare.as_fd(), listener.as_fd()]);
    scene.tell_with(&ToFront::Pool(Box::new(pool())), &[spare.as_fd()]);
    scene.turn();
    let _waits = UnixStream::connect(&path).expect("the supervisor has it still");
    let before = time();
    // Nothing is to happen: there is no event to wait for.
    std::thread::sleep(WHILE);
    let used = time() - before;
    assert!(used < TIME_MAX, "{used:?} of {WHILE:?}");
}
