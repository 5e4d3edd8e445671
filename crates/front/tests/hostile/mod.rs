//! What tests of hostile peers share: records made of anything, readers that forgive nothing, and workers that answer
//! by themselves.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::params::{pairs, push_pair};
use steadfast_proto::fcgi::record::kind;
use steadfast_proto::front::{FromFront, Load, NoteKind, ToFront};

use crate::support::{PATIENCE, Scene, Worker, pool};

/// Unlike any byte that is written on purpose.
const DIRT: u8 = 0xee;

/// A record with dirt in its reserved byte and in its padding.
pub fn record(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("it fits into a record");
    let mut out = vec![1, kind];
    out.extend(id.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend([padding, DIRT]);
    out.extend_from_slice(content);
    out.resize(out.len() + usize::from(padding), DIRT);
    out
}

/// BEGIN with dirt where nothing means anything.
pub fn begin(id: u16, role: u16, keep: bool) -> Vec<u8> {
    let [high, low] = role.to_be_bytes();
    record(kind::BEGIN_REQUEST, id, &[high, low, 0xfe | u8::from(keep), DIRT, DIRT, DIRT, DIRT, DIRT], 0)
}

/// Pairs as a stream.
pub fn stream(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in pairs {
        push_pair(&mut out, name, value).expect("short");
    }
    out
}

/// A length of four bytes, whatever it is.
pub fn long(length: u32) -> [u8; 4] {
    (length | 0x8000_0000).to_be_bytes()
}

/// A request of this stream of parameters and this body, in the usual records.
pub fn request_of(id: u16, params: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = begin(id, 1, true);
    for chunk in params.chunks(65_535) {
        out.extend(record(kind::PARAMS, id, chunk, 0));
    }
    out.extend(record(kind::PARAMS, id, b"", 0));
    for chunk in body.chunks(65_535) {
        out.extend(record(kind::STDIN, id, chunk, 0));
    }
    out.extend(record(kind::STDIN, id, b"", 0));
    out
}

/// What a request needs, for this path, and whatever else.
pub fn usual(method: &str, uri: &str, more: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut all = vec![(&b"REQUEST_METHOD"[..], method.as_bytes()), (&b"REQUEST_URI"[..], uri.as_bytes())];
    all.extend_from_slice(more);
    stream(&all)
}

/// An answer of a worker.
pub fn answer(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::stream(&mut out, kind::STDOUT, 1, text);
    encode::stream_end(&mut out, kind::STDOUT, 1);
    encode::end_request(&mut out, 1, 0, 0);
    out
}

/// A page.
pub fn page(body: &str) -> Vec<u8> {
    answer(format!("Content-Type: text/plain\r\n\r\n{body}").as_bytes())
}

/// A record as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: u8,
    pub id: u16,
    pub content: Vec<u8>,
}

/// Reads what the front writes, to whomever, and forgives nothing: not a byte of dirt, not a record too long.
pub struct Peer {
    pub stream: UnixStream,
    read: Vec<u8>,
    at: usize,
}

impl Peer {
    pub fn new(stream: UnixStream) -> Peer {
        Peer { stream, read: Vec::new(), at: 0 }
    }

    /// A connection to the front.
    pub fn of(scene: &Scene) -> Peer {
        Peer::new(scene.client().stream)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the front reads");
    }

    /// So many bytes, unless the connection ends before.
    fn has(&mut self, wanted: usize) -> bool {
        let mut buffer = [0; 65536];
        while self.read.len() - self.at < wanted {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(taken) => self.read.extend_from_slice(&buffer[..taken]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("nothing comes from the front: {error}"),
            }
        }
        true
    }

    /// Whether everything that was received has been looked at.
    pub fn is_drained(&self) -> bool {
        self.at == self.read.len()
    }

    /// The next record; `None`: the connection has ended.
    pub fn record(&mut self) -> Option<Record> {
        if !self.has(8) {
            return None;
        }
        let header: [u8; 8] = self.read[self.at..self.at + 8].try_into().expect("8 bytes");
        let [version, kind, id1, id0, length1, length0, padding, reserved] = header;
        assert_eq!((version, reserved), (1, 0), "a header that is not clean: {header:?}");
        let length = usize::from(u16::from_be_bytes([length1, length0]));
        let whole = length + usize::from(padding);
        assert!(whole <= 65_535, "php-fpm would close the connection: {length} + {padding}");
        if !self.has(8 + whole) {
            return None;
        }
        let content = &self.read[self.at + 8..self.at + 8 + whole];
        assert!(content[length..].iter().all(|byte| *byte == 0), "dirt in the padding: {:?}", &content[length..]);
        let content = content[..length].to_vec();
        self.at += 8 + whole;
        if self.at > 1 << 20 {
            self.read.drain(..self.at);
            self.at = 0;
        }
        if matches!(kind, kind::BEGIN_REQUEST | kind::END_REQUEST) {
            assert_eq!(length, 8);
            assert!(content[if kind == kind::END_REQUEST { 5.. } else { 3.. }].iter().all(|byte| *byte == 0));
        }
        Some(Record { kind, id: u16::from_be_bytes([id1, id0]), content })
    }

    /// Reads until a request is answered; `None`: the connection has ended before.
    pub fn told(&mut self) -> Option<Told> {
        let mut open: BTreeMap<u16, Told> = BTreeMap::new();
        loop {
            let record = self.record()?;
            let told = open.entry(record.id).or_default();
            match record.kind {
                kind::STDOUT => told.out.extend(record.content),
                kind::STDERR => told.err.extend(record.content),
                kind::END_REQUEST => {
                    told.protocol_status = record.content[4];
                    let mut told = open.remove(&record.id).expect("just looked at");
                    told.id = record.id;
                    assert!(open.is_empty(), "answers of others are unfinished: ask for them one by one");
                    return Some(told);
                }
                other => panic!("record {other} in an answer"),
            }
        }
    }

    /// Nothing more comes: the front has closed.
    pub fn is_closed(&mut self) {
        assert_eq!(self.record(), None, "the front should have closed the connection");
        assert!(self.is_drained(), "the connection ended within a record");
    }
}

/// An answer as the client got it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub id: u16,
    pub out: Vec<u8>,
    pub err: Vec<u8>,
    pub protocol_status: u8,
}

impl Told {
    fn head_end(&self) -> usize {
        self.out.windows(4).position(|window| window == b"\r\n\r\n").map_or(self.out.len(), |at| at + 4)
    }

    pub fn body(&self) -> String {
        String::from_utf8_lossy(&self.out[self.head_end()..]).into_owned()
    }

    pub fn head(&self) -> String {
        String::from_utf8_lossy(&self.out[..self.head_end()]).into_owned()
    }

    /// Of `Status:`, and the front's own word.
    pub fn refusal(&self) -> (u16, String) {
        let head = self.head();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let status = header("Status:").map_or(200, |status| status[..3].parse().expect("a number"));
        (status, header("X-Steadfast:").unwrap_or_default().to_owned())
    }
}

/// A request as a worker got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub role: u16,
    pub params: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Taken {
    /// All values of this name.
    pub fn all(&self, name: &str) -> Vec<String> {
        let named = self.params.iter().filter(|(key, _)| key == name.as_bytes());
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The parameters but for the id, which is checked: there is one, and it is the last.
    pub fn without_id(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (last, rest) = self.params.split_last().expect("there is an id at least");
        assert_eq!(last.0, b"HTTP_X_REQUEST_ID");
        assert!(rest.iter().all(|(name, _)| name != b"HTTP_X_REQUEST_ID"), "two ids");
        rest.to_vec()
    }
}

/// Reads one request as no worker does: in order, with id 1, whole pairs in each record, and nothing behind it. `None`:
/// the connection ended before it was whole; that is said in the second part when it had begun.
pub fn take(peer: &mut Peer) -> Result<Taken, bool> {
    let first = peer.record().ok_or(!peer.is_drained())?;
    assert_eq!((first.kind, first.id), (kind::BEGIN_REQUEST, 1), "a request begins with BEGIN");
    assert_eq!(first.content[2], 1, "KEEP_CONN, and nothing else");
    let role = u16::from_be_bytes([first.content[0], first.content[1]]);
    let (mut params, mut body) = (Vec::new(), Vec::new());
    let mut wanted = kind::PARAMS;
    loop {
        let record = peer.record().ok_or(true)?;
        assert_eq!((record.kind, record.id), (wanted, 1), "only what is due comes");
        match (record.kind, record.content.is_empty()) {
            (kind::PARAMS, false) => {
                let whole = pairs(&record.content).map(|pair| pair.expect("whole pairs in each record"));
                params.extend(whole.map(|(name, value)| (name.to_vec(), value.to_vec())));
            }
            (kind::PARAMS, true) => wanted = kind::STDIN,
            (_, false) => body.extend(record.content),
            (_, true) => break,
        }
    }
    assert!(peer.is_drained(), "a second request before the first was answered");
    Ok(Taken { role, params, body })
}

/// A worker that answers each request with its URI, takes one connection after the other, and looks at every byte.
pub struct Honest {
    pub id: u64,
    path: PathBuf,
    stop: Arc<AtomicBool>,
    pub taken: Arc<Mutex<Vec<Taken>>>,
    thread: JoinHandle<()>,
}

impl Honest {
    pub fn new(scene: &mut Scene) -> Honest {
        Honest::of(scene, |worker, scene| scene.admit(worker), 1)
    }

    /// One that looks at requests in its own way before it is admitted.
    fn of(scene: &mut Scene, admit: impl FnOnce(&Worker, &mut Scene), concurrency: u32) -> Honest {
        let mut worker = scene.offer(concurrency);
        admit(&worker, scene);
        let listener = worker.listener.take().expect("it listens");
        let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&taken));
        let thread = std::thread::spawn(move || serve(&listener, &stopped, &seen));
        Honest { id: worker.id, path: scene.dir.path().join(format!("worker-{}", worker.id)), stop, taken, thread }
    }

    /// So many requests have come.
    pub fn count(&self) -> usize {
        self.taken.lock().expect("it lives").len()
    }

    /// The last request that came.
    pub fn last(&self) -> Taken {
        self.taken.lock().expect("it lives").last().expect("one has come").clone()
    }
}

/// A front with so many honest workers.
pub fn site(workers: usize) -> (Scene, Vec<Honest>) {
    let mut scene = Scene::new(pool());
    let workers = (0..workers).map(|_| Honest::new(&mut scene)).collect();
    (scene, workers)
}

fn serve(listener: &UnixListener, stop: &AtomicBool, seen: &Mutex<Vec<Taken>>) {
    while let Ok((stream, _)) = listener.accept() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let mut peer = Peer::new(stream);
        while let Ok(taken) = take(&mut peer) {
            let uri = taken.all("REQUEST_URI").pop().unwrap_or_default();
            seen.lock().expect("nobody panics with it").push(taken);
            if peer.stream.write_all(&page(&uri)).is_err() {
                break;
            }
        }
    }
}

/// Asks for a page over a connection of its own and gets it: nobody else's trouble matters.
pub fn visit(scene: &Scene, uri: &str) {
    let mut peer = Peer::of(scene);
    peer.send(&request_of(1, &usual("GET", uri, &[]), b""));
    let told = peer.told().expect("an answer");
    assert_eq!((told.refusal().0, told.body()), (200, uri.to_owned()));
}

/// The front's load, asked for until nothing is in hand any more; or what it was at last.
pub fn calm(scene: &mut Scene) -> Load {
    let by = Instant::now() + PATIENCE;
    for number in 1.. {
        scene.tell(&ToFront::Report { number });
        scene.expect("reported", |message| *message == FromFront::Reported { number });
        let loads = scene.heard.iter().rev();
        let load = *loads
            .filter_map(|message| if let FromFront::Load(load) = message { Some(load) } else { None })
            .next()
            .expect("a load is reported");
        if (load.waiting, load.busy) == (0, 0) || Instant::now() > by {
            return load;
        }
        scene.heard.clear();
    }
    unreachable!("numbers do not end")
}

/// Whether the front has told of a bug of its own.
pub fn no_bugs(scene: &Scene) {
    for message in &scene.heard {
        if let FromFront::Note(note) = message {
            let text = note.message.as_deref().unwrap_or_default();
            assert!(!text.contains("bug in the front"), "{text}");
        }
    }
}

/// Every connection is closed by now. Nothing is in hand, nothing is kept: the front, told to leave as soon as nothing
/// is left of anybody, leaves at once. Its workers saw nothing wrong.
pub fn all_over(mut scene: Scene, workers: Vec<Honest>) {
    let load = calm(&mut scene);
    assert_eq!((load.waiting, load.busy), (0, 0));
    no_bugs(&scene);
    for worker in &workers {
        // It is accepted when the front has closed what it holds.
        worker.stop.store(true, Ordering::SeqCst);
        UnixStream::connect(&worker.path).expect("the worker listens");
    }
    scene.tell(&ToFront::Leave { within_ms: 60_000 });
    let begun = Instant::now();
    drop(scene);
    assert!(begun.elapsed() < PATIENCE, "something is still in hand of a front that nobody is connected to");
    for worker in workers {
        assert!(worker.thread.join().is_ok(), "worker {} saw something that it should not", worker.id);
    }
}

/// Waits for a note of this kind, and gives its message.
pub fn noted(scene: &mut Scene, kind: NoteKind) -> String {
    let message = scene.expect("a note", |message| matches!(message, FromFront::Note(note) if note.kind == kind));
    match message {
        FromFront::Note(note) => note.message.unwrap_or_default(),
        _ => String::new(),
    }
}

/// How much of this the front takes before it stops reading for `still`.
pub fn pour(stream: &UnixStream, bytes: &[u8], still: Duration) -> usize {
    stream.set_write_timeout(Some(still)).expect("a timeout");
    let mut stream = stream;
    let mut at = 0;
    while at < bytes.len() {
        match stream.write(&bytes[at..]) {
            Ok(taken) => at += taken,
            Err(_) => break,
        }
    }
    at
}
