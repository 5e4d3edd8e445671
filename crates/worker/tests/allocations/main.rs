//! A request costs no allocation on the plain path: kept or not, with a body or without.

#[path = "../support/mod.rs"]
mod support;
mod sys;

use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use steadfast_worker::{Failure, Worker};
use support::process::{connect, read_answer};
use support::wire::Wire;

const WARM_UP: usize = 50;
const REQUESTS: usize = 1000;

fn kept(path: &Path, wire: &[u8], times: usize) {
    let mut stream = connect(path);
    for _ in 0..times {
        stream.write_all(wire).expect("it listens");
        assert_eq!(read_answer(&mut stream).expect("an answer").status(), 200);
    }
}

fn closed(path: &Path, wire: &[u8], times: usize) {
    for _ in 0..times {
        kept(path, wire, 1);
    }
}

#[test]
fn a_request_allocates_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("site.sock");
    let address = path.to_str().expect("UTF-8").to_owned();
    let (tell, started) = mpsc::channel();
    let (get, post) = (|keep| Wire::new().get("/page?a=b", keep).0, |keep| Wire::new().post(&[b'x'; 20_000], keep).0);
    // Two ways of asking, four of each, and one that ends the worker.
    let total = 4 * (WARM_UP + REQUESTS) + 2;
    let worker = thread::spawn(move || {
        let mut bytes = [0; 4096];
        Worker::builder()
            .listen(address)
            .max_requests(total as u64)
            .start("count", || {
                sys::count_this_thread();
                tell.send(()).expect("somebody waits");
                Ok(())
            })
            .serve(move |request, response| {
                if request.path() == "/allocate" {
                    drop(std::hint::black_box(vec![0_u8; 100]));
                }
                let mut length = 0;
                loop {
                    match request.read(&mut bytes)? {
                        0 => break,
                        got => length += got,
                    }
                }
                response.status(200)?.header("Content-Type", "text/plain")?;
                write!(response, "{} {} {length}", request.method(), request.text("REQUEST_URI").unwrap_or("-"))?;
                Ok::<_, Failure>(())
            })
    });
    started.recv().expect("it starts");
    // It listens a moment after that.
    while !path.exists() || std::os::unix::net::UnixStream::connect(&path).is_err() {
        thread::yield_now();
    }
    for (what, ask, wire) in [
        ("a kept GET", kept as fn(&Path, &[u8], usize), get(true)),
        ("a kept POST", kept, post(true)),
        ("a closed GET", closed, get(false)),
        ("a closed POST", closed, post(false)),
    ] {
        ask(&path, &wire, WARM_UP);
        let before = sys::counted();
        ask(&path, &wire, REQUESTS);
        assert_eq!(sys::counted() - before, 0, "{what}: allocations in {REQUESTS} requests");
    }
    // The counter does count.
    let before = sys::counted();
    kept(&path, &Wire::new().get("/allocate", true).0, 2);
    assert!(sys::counted() > before);
    worker.join().expect("it ends after its requests");
}
