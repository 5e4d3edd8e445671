//! Records by hand, right and wrong ones.

use steadfast_proto::fcgi::params::push_pair;
use steadfast_proto::fcgi::record::{KEEP_CONN, kind, role};

/// What a web server sends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire(pub(crate) Vec<u8>);

impl Wire {
    pub(crate) fn new() -> Wire {
        Wire::default()
    }

    /// One record, with so much padding.
    pub(crate) fn padded(mut self, kind: u8, id: u16, content: &[u8], padding: u8) -> Wire {
        let length = u16::try_from(content.len()).expect("one record");
        let ([a, b], [c, d]) = (id.to_be_bytes(), length.to_be_bytes());
        self.0.extend([1, kind, a, b, c, d, padding, 0]);
        self.0.extend(content);
        // What padding holds must mean nothing.
        self.0.resize(self.0.len() + usize::from(padding), 1);
        self
    }

    pub(crate) fn record(self, kind: u8, id: u16, content: &[u8]) -> Wire {
        self.padded(kind, id, content, 0)
    }

    pub(crate) fn begin(self, role: u16, keep: bool) -> Wire {
        let [a, b] = role.to_be_bytes();
        self.record(kind::BEGIN_REQUEST, 1, &[a, b, if keep { KEEP_CONN } else { 0 }, 0, 0, 0, 0, 0])
    }

    pub(crate) fn responder(self, keep: bool) -> Wire {
        self.begin(role::RESPONDER, keep)
    }

    /// The whole stream of parameters.
    pub(crate) fn params(self, pairs: &[(&str, &str)]) -> Wire {
        let stream = pairs_of(pairs);
        let mut wire = self;
        for piece in stream.chunks(65_535) {
            wire = wire.record(kind::PARAMS, 1, piece);
        }
        wire.record(kind::PARAMS, 1, b"")
    }

    /// The whole body.
    pub(crate) fn stdin(self, body: &[u8]) -> Wire {
        self.part(body).record(kind::STDIN, 1, b"")
    }

    /// A part of the body.
    pub(crate) fn part(self, body: &[u8]) -> Wire {
        body.chunks(65_535).fold(self, |wire, piece| wire.record(kind::STDIN, 1, piece))
    }

    pub(crate) fn get(self, path: &str, keep: bool) -> Wire {
        self.responder(keep).params(&[("REQUEST_METHOD", "GET"), ("REQUEST_URI", path)]).stdin(b"")
    }

    pub(crate) fn post(self, body: &[u8], keep: bool) -> Wire {
        self.post_head(&body.len().to_string(), keep).stdin(body)
    }

    pub(crate) fn post_head(self, length: &str, keep: bool) -> Wire {
        let pairs = [("REQUEST_METHOD", "POST"), ("REQUEST_URI", "/upload"), ("CONTENT_LENGTH", length)];
        self.responder(keep).params(&pairs)
    }

    pub(crate) fn join(mut self, other: Wire) -> Wire {
        self.0.extend(other.0);
        self
    }
}

pub(crate) fn pairs_of(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut stream = Vec::new();
    for (name, value) in pairs {
        push_pair(&mut stream, name.as_bytes(), value.as_bytes()).expect("short");
    }
    stream
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: u8,
    pub(crate) id: u16,
    pub(crate) content: Vec<u8>,
}

/// What a worker has said on a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) records: Vec<Record>,
    /// Bytes of a record that was not complete.
    pub(crate) rest: usize,
}

impl Reply {
    /// Every byte is looked at: padding and reserved bytes are zero (HAProxy CVE-2023-0836).
    pub(crate) fn parse(mut bytes: &[u8]) -> Reply {
        let mut reply = Reply::default();
        while let Some((&[version, kind, a, b, c, d, padding, reserved], rest)) = bytes.split_first_chunk::<8>() {
            assert_eq!((version, reserved), (1, 0), "after {:?}", reply.records.last());
            let length = usize::from(u16::from_be_bytes([c, d]));
            assert!(length + usize::from(padding) <= 65_535, "php-fpm, for one, closes at more");
            let Some((content, rest)) = rest.split_at_checked(length) else { break };
            let Some((zeros, rest)) = rest.split_at_checked(usize::from(padding)) else { break };
            assert!(zeros.iter().all(|byte| *byte == 0), "memory leaks in the padding");
            reply.records.push(Record { kind, id: u16::from_be_bytes([a, b]), content: content.to_vec() });
            bytes = rest;
        }
        reply.rest = bytes.len();
        reply
    }

    fn joined(&self, kind: u8) -> Vec<u8> {
        self.records
            .iter()
            .filter(|record| record.kind == kind && record.id == 1)
            .flat_map(|r| r.content.clone())
            .collect()
    }

    /// Head and body of one answer, which must be whole: the end of stdout, END, and no record after it.
    #[track_caller]
    pub(crate) fn one(&self) -> Answer {
        let answers = self.answers();
        assert_eq!(answers.len(), 1, "{self:?}");
        answers.into_iter().next().expect("one")
    }

    /// All answers to request 1, one after the other.
    #[track_caller]
    pub(crate) fn answers(&self) -> Vec<Answer> {
        assert_eq!(self.rest, 0, "a record was cut");
        let mine: Vec<_> = self.records.iter().filter(|record| record.id == 1).cloned().collect();
        mine.split_inclusive(|record| record.kind == kind::END_REQUEST)
            .map(|records| {
                let reply = Reply { records: records.to_vec(), rest: 0 };
                let end = records.last().filter(|record| record.kind == kind::END_REQUEST);
                let end = end.unwrap_or_else(|| panic!("an answer without its end: {reply:?}"));
                let empty = |r: &&Record| r.kind == kind::STDOUT && r.content.is_empty();
                let ends: Vec<_> = records.iter().enumerate().filter(|(_, r)| empty(r)).map(|(at, _)| at).collect();
                assert!(ends == [records.len() - 2], "stdout ends once, before END: {reply:?}");
                let out = reply.joined(kind::STDOUT);
                let at = out.windows(4).position(|four| four == b"\r\n\r\n");
                let (head, body) = at.map_or((&out[..0], &out[..]), |at| (&out[..at + 2], &out[at + 4..]));
                Answer {
                    head: String::from_utf8_lossy(head).into_owned(),
                    body: body.to_vec(),
                    log: String::from_utf8_lossy(&reply.joined(kind::STDERR)).into_owned(),
                    app_status: u32::from_be_bytes([end.content[0], end.content[1], end.content[2], end.content[3]]),
                    protocol_status: end.content[4],
                }
            })
            .collect()
    }

    /// What was said of the connection itself, or of other requests.
    pub(crate) fn others(&self) -> Vec<&Record> {
        self.records.iter().filter(|record| record.id != 1).collect()
    }

    /// Whether an answer was begun and not ended.
    pub(crate) fn is_cut(&self) -> bool {
        self.rest > 0 || self.records.last().is_none_or(|record| record.kind != kind::END_REQUEST)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) log: String,
    pub(crate) app_status: u32,
    pub(crate) protocol_status: u8,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Of the `Status` field; 200 without one.
    pub(crate) fn status(&self) -> u16 {
        let status = self.head.lines().find_map(|line| line.strip_prefix("Status: "));
        status.map_or(200, |status| status.get(..3).and_then(|digits| digits.parse().ok()).expect("a number"))
    }
}
