//! A front in a thread of its own; the test is its supervisor, its workers and its web servers.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, socketpair,
};
use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::params::push_pair;
use steadfast_proto::fcgi::record::kind;
use steadfast_proto::fcgi::response::{Answer, ResponseDecoder};
use steadfast_proto::front::{
    ClientAbort, Fallback, FromFront, Life, Listener, MESSAGE_MAX, Pool, Protocol, RequestId, Retry, ToFront, decode,
    encode,
};

/// Nothing here takes longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A front and everything around it.
pub struct Scene {
    pub dir: tempfile::TempDir,
    channel: OwnedFd,
    thread: Option<JoinHandle<Result<(), String>>>,
    pub heard: Vec<FromFront>,
    last_worker: u64,
}

/// A pool with small figures.
pub fn pool() -> Pool {
    Pool {
        pool: 1,
        name: "site".to_owned(),
        listeners: vec![Listener { id: 1, protocol: Protocol::Fastcgi, address: "unix:site.sock".to_owned() }],
        allowed_clients: Vec::new(),
        queue_length: 16,
        queue_timeout_ms: 10_000,
        request_timeout_ms: 10_000,
        slow_request_ms: None,
        retry: Retry::Idempotent,
        client_abort: ClientAbort::Finish,
        request_id: RequestId::Make,
        quarantine: true,
        params: BTreeMap::new(),
        verify: None,
        fallback: Fallback {
            status: 503,
            retry_after_ms: 30_000,
            has_body: false,
            content_type: "text/html".to_owned(),
        },
        status: None,
    }
}

impl Scene {
    /// A front with this pool; its socket is `site.sock`.
    pub fn new(pool: Pool) -> Scene {
        let dir = tempfile::tempdir().expect("a directory");
        let flags = SocketFlags::CLOEXEC;
        let (channel, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a pair");
        let thread = std::thread::spawn(move || steadfast_front::serve(theirs));
        let mut scene = Scene { dir, channel, thread: Some(thread), heard: Vec::new(), last_worker: 0 };
        scene.expect("ready", |message| matches!(message, FromFront::Ready { .. }));
        let listener = UnixListener::bind(scene.site()).expect("a socket");
        listener.set_nonblocking(true).expect("non-blocking");
        scene.tell_with(&ToFront::Pool(Box::new(pool)), &[listener.as_fd()]);
        scene
    }

    /// The pool's socket.
    pub fn site(&self) -> PathBuf {
        self.dir.path().join("site.sock")
    }

    /// Says something as the supervisor.
    pub fn tell(&self, message: &ToFront) {
        self.tell_with(message, &[]);
    }

    /// The same, with fds.
    pub fn tell_with(&self, message: &ToFront, fds: &[BorrowedFd<'_>]) {
        let packet = encode(message).expect("short");
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
        }
        rustix::net::sendmsg(&self.channel, &[IoSlice::new(&packet)], &mut ancillary, SendFlags::empty())
            .expect("sent");
    }

    /// Waits for a message; those before it are kept in `heard`.
    pub fn expect(&mut self, what: &str, is_it: impl Fn(&FromFront) -> bool) -> FromFront {
        let by = Instant::now() + PATIENCE;
        loop {
            let message = self.next(by).unwrap_or_else(|| panic!("no {what}; heard {:?}", self.heard));
            self.heard.push(message.clone());
            if is_it(&message) {
                return message;
            }
        }
    }

    /// The same, also when it has come before.
    pub fn knows(&mut self, what: &str, is_it: impl Fn(&FromFront) -> bool) {
        if !self.heard.iter().any(&is_it) {
            self.expect(what, is_it);
        }
    }

    /// Returns when the front has been through everything that it had been given.
    pub fn turn(&mut self) {
        self.tell(&ToFront::Report { number: 0 });
        self.expect("reported", |message| *message == FromFront::Reported { number: 0 });
    }

    /// Writes until all is written, or the front takes no more: it has had three turns, and no byte went. How many went.
    pub fn pour(&mut self, stream: &UnixStream, bytes: &[u8]) -> usize {
        let (mut sent, mut turns) = (0, 0);
        while sent < bytes.len() && turns < 3 {
            match rustix::net::send(stream, &bytes[sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(taken) => (sent, turns) = (sent + taken, 0),
                Err(rustix::io::Errno::AGAIN) => {
                    self.turn();
                    turns += 1;
                }
                Err(error) => panic!("after {sent} bytes: {error}"),
            }
        }
        sent
    }

    /// The next message, if one comes before `by`.
    pub fn next(&self, by: Instant) -> Option<FromFront> {
        let mut buffer = vec![0; MESSAGE_MAX];
        let left = by.saturating_duration_since(Instant::now());
        let millis = i64::try_from(left.as_millis()).expect("short");
        let timeout = rustix::time::Timespec { tv_sec: millis / 1000, tv_nsec: (millis % 1000) * 1_000_000 };
        let mut fds = [rustix::event::PollFd::new(&self.channel, rustix::event::PollFlags::IN)];
        if rustix::event::poll(&mut fds, Some(&timeout)).expect("poll") == 0 {
            return None;
        }
        let (taken, _) = rustix::net::recv(&self.channel, &mut buffer[..], RecvFlags::empty()).expect("the channel");
        assert!(taken > 0, "the front has gone");
        Some(decode(&buffer[..taken]).expect("a message"))
    }

    /// Offers and admits a worker, which the test plays.
    pub fn worker(&mut self) -> Worker {
        let worker = self.offer(1);
        self.admit(&worker);
        worker
    }

    /// Offers a worker.
    pub fn offer(&mut self, concurrency: u32) -> Worker {
        self.last_worker += 1;
        let id = self.last_worker;
        let path = self.dir.path().join(format!("worker-{id}"));
        let listener = UnixListener::bind(&path).expect("a private socket");
        let path = path.to_str().expect("text").to_owned();
        self.tell(&ToFront::WorkerOffered { worker: id, pool: 1, path, concurrency, pid: None, life: Life::default() });
        self.expect("connected", |message| *message == FromFront::Connected { worker: id });
        Worker { id, listener: Some(listener), stream: None }
    }

    /// Admits it.
    pub fn admit(&mut self, worker: &Worker) {
        let id = worker.id;
        self.tell(&ToFront::WorkerAdmit { worker: id, max_requests: None });
        self.expect("admitted", |message| *message == FromFront::Admitted { worker: id });
    }

    /// Tells that it has died, and what it is blamed for.
    pub fn bury(&mut self, worker: Worker) -> Option<steadfast_proto::front::Blamed> {
        let id = worker.id;
        drop(worker);
        self.tell(&ToFront::WorkerGone { worker: id });
        let blame = self.expect("blame", |message| matches!(message, FromFront::Blame { worker, .. } if *worker == id));
        match blame {
            FromFront::Blame { request, .. } => request,
            _ => None,
        }
    }

    /// A web server's connection.
    pub fn client(&self) -> Client {
        let stream = UnixStream::connect(self.site()).expect("the front listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Client { stream, kept: Vec::new() }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Ok(packet) = encode(&ToFront::Leave { within_ms: 0 }) {
            let _ = rustix::net::send(&self.channel, &packet, SendFlags::NOSIGNAL);
        }
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(Ok(())))), "the front ended with {ended:?}");
        }
    }
}

/// A worker that the test plays.
pub struct Worker {
    pub id: u64,
    pub listener: Option<UnixListener>,
    pub stream: Option<UnixStream>,
}

/// A request as a worker got it.
#[derive(Debug, PartialEq, Eq)]
pub struct Got {
    pub params: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Worker {
    /// Its connection; accepts one if there is none.
    pub fn stream(&mut self) -> &mut UnixStream {
        if self.stream.is_none() {
            let listener = self.listener.as_ref().expect("it listens");
            let timeout = rustix::time::Timespec::try_from(PATIENCE).expect("short");
            let mut fds = [rustix::event::PollFd::new(listener, rustix::event::PollFlags::IN)];
            let ready = rustix::event::poll(&mut fds, Some(&timeout)).expect("poll");
            assert!(ready > 0, "nobody connects to worker {}", self.id);
            let (stream, _) = listener.accept().expect("the front connects");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            self.stream = Some(stream);
        }
        self.stream.as_mut().expect("just accepted")
    }

    /// Reads a whole request; a connection that ends before its first byte is accepted anew, as libfcgi does.
    pub fn request(&mut self) -> Got {
        let mut params = Vec::new();
        let mut body = Vec::new();
        loop {
            let (kind, _, content) = self.next_record();
            match kind {
                kind::PARAMS => params.extend_from_slice(&content),
                kind::STDIN if content.is_empty() => break,
                kind::STDIN => body.extend_from_slice(&content),
                _ => {}
            }
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let pairs = steadfast_proto::fcgi::params::pairs(&params).map(|pair| pair.expect("whole pairs"));
        Got { params: pairs.map(|(name, value)| (text(name), text(value))).collect(), body }
    }

    /// The next record, over a new connection where the old one has ended before it.
    pub fn next_record(&mut self) -> (u8, u16, Vec<u8>) {
        loop {
            match self.record() {
                Some(record) => return record,
                None => self.stream = None,
            }
        }
    }

    /// Waits for the beginning of a request; connections that end before it are accepted anew.
    pub fn begun(&mut self) {
        while self.record().is_none() {
            self.stream = None;
        }
    }

    /// One record: its kind, id and content. `None`: the connection ended before it.
    pub fn record(&mut self) -> Option<(u8, u16, Vec<u8>)> {
        let mut header = [0; 8];
        match self.stream().read(&mut header[..1]) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => panic!("worker {}: {error}", self.id),
        }
        self.stream().read_exact(&mut header[1..]).expect("a header");
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut content = vec![0; length + usize::from(header[6])];
        self.stream().read_exact(&mut content).expect("its content");
        content.truncate(length);
        Some((header[1], u16::from_be_bytes([header[2], header[3]]), content))
    }

    /// Answers.
    pub fn answer(&mut self, text: &str) {
        let mut out = Vec::new();
        encode::stream(&mut out, kind::STDOUT, 1, text.as_bytes());
        encode::stream_end(&mut out, kind::STDOUT, 1);
        encode::end_request(&mut out, 1, 0, 0);
        self.write(&out);
    }

    /// Answers with a page.
    pub fn page(&mut self, body: &str) {
        self.answer(&format!("Content-Type: text/plain\r\n\r\n{body}"));
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream().write_all(bytes).expect("the front reads");
    }
}

/// A web server that the test plays.
pub struct Client {
    pub stream: UnixStream,
    pub kept: Vec<u8>,
}

/// An answer as a web server got it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub head: String,
    pub body: Vec<u8>,
    pub stderr: Vec<u8>,
    pub protocol_status: u8,
}

impl Page {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Of `Status:`; 200 when there is none.
    pub fn status(&self) -> u16 {
        self.header("Status").map_or(200, |status| status[..3].parse().expect("a number"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// The bytes of a request.
pub fn request(id: u16, keep: bool, params: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut stream = Vec::new();
    for (name, value) in params {
        push_pair(&mut stream, name.as_bytes(), value.as_bytes()).expect("short");
    }
    encode::begin_request(&mut out, id, 1, keep);
    encode::params(&mut out, id, &stream).expect("they fit");
    encode::stream(&mut out, kind::STDIN, id, body);
    encode::stream_end(&mut out, kind::STDIN, id);
    out
}

/// A GET of this path.
pub fn get(path: &str) -> Vec<u8> {
    let params = [("REQUEST_METHOD", "GET"), ("REQUEST_URI", path), ("HTTP_HOST", "localhost")];
    request(1, true, &params, b"")
}

/// A POST to this path.
pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let params = [
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", path),
        ("HTTP_HOST", "localhost"),
        ("CONTENT_LENGTH", length.as_str()),
    ];
    request(1, true, &params, body)
}

impl Client {
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the front reads");
    }

    /// Reads the answer to request 1; `None`: the connection ended before its end.
    pub fn page(&mut self) -> Option<Page> {
        self.page_of(1)
    }

    /// Reads the answer to this request; nothing else may come before its end.
    pub fn page_of(&mut self, id: u16) -> Option<Page> {
        let mut decoder = ResponseDecoder::new(id);
        decoder.begin();
        let mut page = Page::default();
        let mut out = Vec::new();
        loop {
            let mut input = &self.kept[..];
            let mut is_over = false;
            while let Some(answer) = decoder.next(&mut input).expect("a proper answer") {
                match answer {
                    Answer::Stdout(bytes) => out.extend_from_slice(bytes),
                    Answer::Stderr(bytes) => page.stderr.extend_from_slice(bytes),
                    Answer::End { protocol_status, .. } => {
                        page.protocol_status = protocol_status;
                        is_over = true;
                        break;
                    }
                    _ => {}
                }
            }
            // The padding of END is zero bytes long, always.
            self.kept = input.to_vec();
            if is_over {
                break;
            }
            let mut buffer = [0; 65536];
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(taken) => self.kept.extend_from_slice(&buffer[..taken]),
            }
        }
        let at = out.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        let at = at.unwrap_or(out.len());
        page.head = String::from_utf8_lossy(&out[..at]).into_owned();
        page.body = out.split_off(at);
        Some(page)
    }
}
