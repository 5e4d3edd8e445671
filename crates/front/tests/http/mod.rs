//! What tests of HTTP visitors share: a front that speaks HTTP on its socket, and a visitor who forgives nothing.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use steadfast_proto::front::{Listener, Pool, Protocol, ToFront};

use crate::support::{Got, PATIENCE, Scene, Worker, pool};

/// The usual pool, on HTTP.
pub fn http_pool() -> Pool {
    let mut config = pool();
    config.listeners[0].protocol = Protocol::Http;
    config
}

/// A front that speaks HTTP, and one worker.
pub fn site() -> (Scene, Worker) {
    let mut scene = Scene::new(http_pool());
    let worker = scene.worker();
    (scene, worker)
}

/// Lets the pool listen on TCP, too.
pub fn tcp(scene: &Scene, mut config: Pool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let address = listener.local_addr().expect("an address");
    config.listeners.push(Listener { id: 2, protocol: Protocol::Http, address: address.to_string() });
    let site = std::os::unix::net::UnixListener::bind(scene.dir.path().join("unused.sock")).expect("a socket");
    scene.tell_with(&ToFront::Pool(Box::new(config)), &[site.as_fd(), listener.as_fd()]);
    address
}

/// Anything that can be read and written.
pub trait Stream: Read + Write {}
impl Stream for UnixStream {}
impl Stream for TcpStream {}

/// A visitor.
pub struct Visitor {
    pub stream: Box<dyn Stream>,
    kept: Vec<u8>,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Told {
    pub head: String,
    pub body: Vec<u8>,
}

impl Told {
    pub fn status(&self) -> u16 {
        self.head[9..12].parse().expect("a status")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Visitor {
    pub fn of(scene: &Scene) -> Visitor {
        let stream = UnixStream::connect(scene.site()).expect("the front listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Visitor { stream: Box::new(stream), kept: Vec::new() }
    }

    pub fn to(address: SocketAddr) -> Visitor {
        let stream = TcpStream::connect(address).expect("the front listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Visitor { stream: Box::new(stream), kept: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the front reads");
    }

    /// The same; the front may have refused already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub fn get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }

    /// More bytes. `false`: there are none.
    pub fn read(&mut self) -> bool {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(taken) => {
                self.kept.extend_from_slice(&buffer[..taken]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing comes from the front: {error}; so far {:?}", self.shown()),
        }
    }

    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.kept[..self.kept.len().min(2000)]).into_owned()
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.kept.windows(2).position(|two| two == b"\r\n") {
                let line = self.kept.drain(..at + 2).take(at).collect();
                return Some(String::from_utf8(line).expect("text"));
            }
            if !self.read() {
                return None;
            }
        }
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.kept.len() < length {
            if !self.read() {
                return None;
            }
        }
        Some(self.kept.drain(..length).collect())
    }

    /// Only a head. `None`: the connection ended without one.
    pub fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                assert!(head.starts_with("HTTP/1."), "{head}");
                return Some(head);
            }
            head.push_str(&line);
            head.push_str("\r\n");
        }
    }

    /// A whole answer. `None`: it is not whole.
    pub fn told(&mut self) -> Option<Told> {
        let told = Told { head: self.head()?, body: Vec::new() };
        assert!(told.header("Content-Length").is_none() || told.header("Transfer-Encoding").is_none(), "{}", told.head);
        let body = if matches!(told.status(), 204 | 304) {
            Vec::new()
        } else if let Some(length) = told.header("Content-Length") {
            self.take(length.parse().expect("a length"))?
        } else if told.header("Transfer-Encoding").is_some() {
            self.chunks()?
        } else {
            while self.read() {}
            std::mem::take(&mut self.kept)
        };
        Some(Told { body, ..told })
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).expect("a size");
            body.extend(self.take(size)?);
            assert_eq!(self.line()?, "");
            if size == 0 {
                return Some(body);
            }
        }
    }

    /// Everything until the connection ends.
    pub fn rest(mut self) -> Vec<u8> {
        while self.read() {}
        self.kept
    }
}

/// Somebody else is served, and the worker has seen nothing before.
pub fn others_are_served(scene: &Scene, worker: &mut Worker) {
    let mut visitor = Visitor::of(scene);
    visitor.get("/others");
    let got = worker.request();
    assert_eq!(got.params["REQUEST_URI"], "/others", "a worker has seen what it must not: {got:?}");
    worker.page("others");
    assert_eq!(visitor.told().expect("an answer").text(), "others");
}

/// Sends it and gives what the worker got; the visitor is answered with `ok`.
pub fn passes(scene: &Scene, worker: &mut Worker, bytes: impl AsRef<[u8]>) -> (Got, Told) {
    let mut visitor = Visitor::of(scene);
    visitor.send(bytes);
    let got = worker.request();
    worker.page("ok");
    (got, visitor.told().expect("an answer"))
}

/// Sends it, and sees it refused, its connection closed, and the worker left alone.
pub fn refuses(scene: &Scene, worker: &mut Worker, bytes: impl AsRef<[u8]>, status: u16, name: &str) -> Told {
    let mut visitor = Visitor::of(scene);
    visitor.try_send(bytes);
    let told = visitor.told().unwrap_or_else(|| panic!("{name}: no answer"));
    assert_eq!(told.status(), status, "{name}: {}", told.head);
    assert!(visitor.rest().is_empty(), "{name}: something follows");
    others_are_served(scene, worker);
    told
}
