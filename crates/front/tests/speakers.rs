//! Who answers in a worker's name is told when it is somebody else, and once.

mod support;

use std::io::{IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::record::kind;
use steadfast_proto::front::{FromFront, Life, ToFront};
use support::{Scene, Worker, get, pool};

/// Offers a worker whose process, as the supervisor says, is this one. It is played by the process of the test.
fn offer(scene: &mut Scene, id: u64, pid: u32) -> Worker {
    let path = scene.dir.path().join(format!("worker-{id}"));
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a private socket");
    let (path, life) = (path.to_str().expect("text").to_owned(), Life { pid, ..Life::default() });
    scene.tell(&ToFront::WorkerOffered { worker: id, pool: 1, path, concurrency: 1, pid: None, life });
    let worker = Worker { id, listener: Some(listener), stream: None };
    scene.admit(&worker);
    worker
}

/// Two requests over one connection, and one over another.
fn serve(scene: &mut Scene, worker: &mut Worker) {
    let mut client = scene.client();
    for round in 0..3 {
        client.send(&get("/"));
        worker.request();
        worker.page("served");
        if round == 1 {
            worker.stream = None;
        }
        assert_eq!(client.page().expect("an answer").text(), "served");
    }
    scene.turn();
}

fn told(scene: &Scene) -> Vec<&FromFront> {
    scene.heard.iter().filter(|message| matches!(message, FromFront::AnsweredBy { .. })).collect()
}

#[test]
fn who_answers_in_a_workers_name_is_told_once() {
    let mut scene = Scene::new(pool());
    let mut worker = offer(&mut scene, 7, 1);
    assert!(told(&scene).is_empty(), "nobody has answered yet");
    serve(&mut scene, &mut worker);
    assert_eq!(told(&scene), [&FromFront::AnsweredBy { worker: 7, pid: std::process::id() }]);
}

#[test]
fn a_worker_that_answers_by_itself_is_not_told_of() {
    let mut scene = Scene::new(pool());
    let mut worker = offer(&mut scene, 7, std::process::id());
    serve(&mut scene, &mut worker);
    assert!(told(&scene).is_empty(), "{:?}", scene.heard);
}

#[test]
fn files_that_come_with_an_answer_are_not_taken() {
    let mut scene = Scene::new(pool());
    let mut worker = offer(&mut scene, 7, 1);
    let mut client = scene.client();
    client.send(&get("/"));
    worker.request();
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    let mut answer = Vec::new();
    encode::stream(&mut answer, kind::STDOUT, 1, b"Content-Type: text/plain\r\n\r\nserved");
    encode::end_request(&mut answer, 1, 0, 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let fds = [theirs.as_fd()];
    assert!(beside.push(SendAncillaryMessage::ScmRights(&fds)));
    let stream = worker.stream();
    let sent = sendmsg(stream.as_fd(), &[IoSlice::new(&answer)], &mut beside, SendFlags::empty());
    assert_eq!(sent, Ok(answer.len()));
    drop(theirs);
    assert_eq!(client.page().expect("an answer").text(), "served");
    scene.turn();
    assert_eq!(told(&scene).len(), 1);
    ours.set_read_timeout(Some(support::PATIENCE)).expect("a timeout");
    assert_eq!(ours.read(&mut [0]).expect("nobody has its other end"), 0);
}
