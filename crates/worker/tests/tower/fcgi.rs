//! A web server that writes its records by hand.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use steadfast_proto::fcgi::encode;
use steadfast_proto::fcgi::params::push_pair;
use steadfast_proto::fcgi::record::{HEADER, Header, kind, role};

use super::routes::{Answer, Ask};
use super::site::PATIENCE;

/// One connection, and what has come on it for requests whose answer nobody has taken yet.
pub struct Client {
    pub stream: UnixStream,
    answers: BTreeMap<u16, Vec<u8>>,
    ended: BTreeMap<u16, (u32, u8)>,
}

impl Client {
    pub fn connect(path: &Path) -> Client {
        let stream = UnixStream::connect(path).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Client { stream, answers: BTreeMap::new(), ended: BTreeMap::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("it is read");
    }

    /// A request whose body is complete, on a connection that is kept.
    pub fn begin(&mut self, id: u16, ask: &Ask<'_>) {
        self.send(&request(id, ask, true));
    }

    pub fn get(&mut self, id: u16, uri: &str) {
        self.begin(id, &Ask::get(uri));
    }

    pub fn post(&mut self, id: u16, uri: &str) {
        self.begin(id, &Ask { method: "POST", ..Ask::get(uri) });
    }

    /// The next record: kind, id, content. `None` at the end.
    pub fn record(&mut self) -> Option<(u8, u16, Vec<u8>)> {
        let mut header = [0; HEADER];
        if let Err(error) = self.stream.read_exact(&mut header) {
            assert!(
                matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset),
                "{error}"
            );
            return None;
        }
        let header = Header::parse(header).expect("a record");
        let mut content = vec![0; usize::from(header.content)];
        self.stream.read_exact(&mut content).expect("its content");
        self.stream.read_exact(&mut vec![0; usize::from(header.padding)]).expect("its padding");
        Some((header.kind, header.id, content))
    }

    /// Reads a record of an answer and keeps it. False at the end.
    fn step(&mut self) -> bool {
        match self.record() {
            None => return false,
            Some((kind::STDOUT, id, content)) => self.answers.entry(id).or_default().extend(content),
            Some((kind::END_REQUEST, id, content)) => {
                let status = u32::from_be_bytes([content[0], content[1], content[2], content[3]]);
                assert_eq!(self.ended.insert(id, (status, content[4])), None, "request {id} ended twice");
            }
            Some((kind, id, _)) => panic!("a record of kind {kind} for {id}"),
        }
        true
    }

    /// Waits for the end of a request: what was answered, and END's two numbers.
    pub fn end(&mut self, id: u16) -> (Vec<u8>, (u32, u8)) {
        while !self.ended.contains_key(&id) {
            assert!(self.step(), "the connection has ended before request {id}");
        }
        let end = self.ended.remove(&id).expect("it is there");
        (self.answers.remove(&id).unwrap_or_default(), end)
    }

    /// The ids that ended, in their order, until all of these have.
    pub fn order(&mut self, ids: &[u16]) -> Vec<u16> {
        let mut order = Vec::new();
        while !ids.iter().all(|id| order.contains(id)) {
            let before: Vec<u16> = self.ended.keys().copied().collect();
            assert!(self.step(), "the connection has ended");
            order.extend(self.ended.keys().filter(|id| !before.contains(id)));
        }
        order
    }

    pub fn answer(&mut self, id: u16) -> Answer {
        let (bytes, end) = self.end(id);
        assert_eq!(end.1, 0, "the protocol status");
        Answer::from_cgi(&bytes)
    }

    pub fn ask(&mut self, id: u16, uri: &str) -> Answer {
        self.get(id, uri);
        self.answer(id)
    }

    /// What has come for a request so far, when it is enough.
    pub fn until(&mut self, id: u16, holds: impl Fn(&str) -> bool) -> String {
        loop {
            let text = String::from_utf8_lossy(self.answers.get(&id).map_or(&[][..], Vec::as_slice)).into_owned();
            if holds(&text) {
                return text;
            }
            assert!(self.step(), "the connection has ended after {text:?}");
        }
    }

    /// Waits for the end of the connection, and nothing else comes.
    pub fn assert_ended(&mut self) {
        assert_eq!(self.record(), None);
    }
}

/// BEGIN and all parameters.
pub fn head(id: u16, ask: &Ask<'_>, keep: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::begin_request(&mut bytes, id, role::RESPONDER, keep);
    encode::params(&mut bytes, id, &params(ask)).expect("they are short");
    bytes
}

pub fn params(ask: &Ask<'_>) -> Vec<u8> {
    let mut pairs = Vec::new();
    let mut push = |name: &str, value: &str| push_pair(&mut pairs, name.as_bytes(), value.as_bytes()).expect("short");
    push("REQUEST_METHOD", ask.method);
    push("REQUEST_URI", ask.uri);
    push("QUERY_STRING", ask.uri.split_once('?').map_or("", |(_, query)| query));
    push("SERVER_PROTOCOL", "HTTP/1.1");
    push("HTTP_HOST", "example.org");
    push("CONTENT_LENGTH", &if ask.method == "POST" { ask.body.len().to_string() } else { String::new() });
    for (name, value) in &ask.headers {
        let name = name.to_uppercase().replace('-', "_");
        let name = if name == "CONTENT_TYPE" { name } else { format!("HTTP_{name}") };
        push(&name, value);
    }
    pairs
}

/// A whole request.
pub fn request(id: u16, ask: &Ask<'_>, keep: bool) -> Vec<u8> {
    let mut bytes = head(id, ask, keep);
    encode::stream(&mut bytes, kind::STDIN, id, ask.body);
    encode::stream_end(&mut bytes, kind::STDIN, id);
    bytes
}

/// One request on a connection of its own, which the worker closes.
pub fn fetch(path: &Path, ask: &Ask<'_>) -> Answer {
    let mut client = Client::connect(path);
    let bytes = request(1, ask, false);
    let mut writer = client.stream.try_clone().expect("a copy");
    let writing = std::thread::spawn(move || writer.write_all(&bytes));
    let answer = client.answer(1);
    let _ = writing.join().expect("no panic");
    client.assert_ended();
    answer
}
