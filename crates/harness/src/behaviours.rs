//! What a site does behind any web server, and what each server makes of it: the same with and without a queue.

use std::fmt::{self, Debug, Formatter};
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::apps::Language;
use super::http::{Answer, Ask, Visitor};
use super::web::{Server, Web};

/// A program behind a server, or behind our own HTTP.
#[derive(Clone)]
pub struct Site {
    /// `None`: steadfast's own `http://`.
    pub server: Option<Server>,
    /// The program.
    pub language: Language,
    /// Where visitors come.
    pub address: SocketAddr,
    /// Where the server says what goes wrong.
    pub log: Option<PathBuf>,
}

impl Debug for Site {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        write!(to, "{:?} before {:?} at {}", self.server, self.language, self.address)?;
        let said = self.log.as_ref().and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default();
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        last.iter().rev().try_for_each(|line| write!(to, "\n    {line}"))
    }
}

/// The body of `/big?bytes=N`.
#[must_use]
pub fn lines(bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 64);
    for at in (0..bytes).step_by(64) {
        text.extend(format!("{at:015x}{}\n", ".".repeat(48)).as_bytes());
    }
    text.truncate(bytes);
    text
}

/// CRC-32 as zlib's.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut table = [0_u32; 256];
    for (entry, byte) in table.iter_mut().zip(0_u32..) {
        *entry = (0..8).fold(byte, |rest, _| if rest & 1 == 1 { 0xedb8_8320 ^ (rest >> 1) } else { rest >> 1 });
    }
    let [mut crc, mask] = [u32::MAX, 0xff];
    for byte in bytes {
        let index = (crc ^ u32::from(*byte)) & mask;
        crc = table[usize::try_from(index).expect("it is below 256")] ^ (crc >> 8);
    }
    !crc
}

/// The line in which a worker tells of a body.
#[must_use]
pub fn sum(what: &str, bytes: &[u8]) -> String {
    format!("{what} {} {:08x}\n", bytes.len(), crc32(bytes))
}

impl Site {
    /// As visitors of this server see it.
    #[must_use]
    pub fn behind(web: &Web, language: Language) -> Site {
        let log = Some(web.log().to_path_buf());
        Site { server: Some(web.server()), language, address: web.address(), log }
    }

    /// As visitors of our own HTTP see it.
    #[must_use]
    pub fn own(address: SocketAddr, language: Language) -> Site {
        Site { server: None, language, address, log: None }
    }

    fn ask(&self, ask: &Ask) -> Answer {
        ask.send(self.address).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    /// Asks, and it goes well.
    #[must_use]
    pub fn good(&self, ask: &Ask) -> Answer {
        let answer = self.ask(ask);
        assert_eq!(answer.status, 200, "{self:?}: {:?}: {}", answer.headers, answer.text());
        answer
    }

    /// Everything that is small.
    pub fn all(&self) {
        self.get();
        self.head();
        self.post();
        self.chunked();
        self.large_headers();
        self.client_aborts();
    }

    /// A page, with its query and params as they were.
    pub fn get(&self) {
        assert_eq!(self.good(&Ask::get("/hello")).text(), "hello\n", "{self:?}");
        let page = self.good(&Ask::get("/echo?a=b%20c&d=%41").header("X-Test", "one, two").header("Proxy", "evil"));
        let text = page.text();
        for line in
            ["REQUEST_METHOD=GET\n", "REQUEST_URI=/echo?a=b%20c&d=%41\n", "HTTP_X_TEST=one, two\n", "body 0 00000000\n"]
        {
            assert!(text.contains(line), "{self:?}: no {line:?} in {text}");
        }
        assert!(page.worker() > 0);
        assert_eq!(self.ask(&Ask::get("/nothing-there")).status, 404, "{self:?}");
    }

    /// HEAD has the head of GET and no body, and the connection is in step afterwards.
    pub fn head(&self) {
        let mut visitor = Visitor::connect(self.address).expect("it listens");
        for path in ["/big?bytes=100000&length=1", "/hello"] {
            // It answers 502 to a program that sends a body all the same.
            let is_haproxy = matches!(self.server, Some(Server::Haproxy | Server::HaproxyMultiplexing));
            if path == "/hello" && is_haproxy && self.language != Language::Rust {
                continue;
            }
            let head = visitor.ask(&Ask::new("HEAD", path)).unwrap_or_else(|error| panic!("{self:?}: {error}"));
            assert_eq!((head.status, head.body.len()), (200, 0), "{self:?}");
            if head.header("connection") == Some("close") {
                assert!(visitor.is_closed().unwrap_or(true), "{self:?}: a body after HEAD {path}");
                visitor = Visitor::connect(self.address).expect("it listens");
                continue;
            }
            let next = visitor.ask(&Ask::get("/hello")).unwrap_or_else(|error| panic!("{self:?}: {error}"));
            assert_eq!((next.status, next.text()), (200, "hello\n".to_owned()), "{self:?}: after HEAD {path}");
        }
    }

    /// Bodies of every size that is a border somewhere.
    pub fn post(&self) {
        for size in [0, 1, 8_192, 65_535, 65_536, 65_537, 200_000] {
            self.post_of(size);
        }
    }

    /// One body of so many bytes.
    pub fn post_of(&self, size: usize) {
        let body = lines(size);
        let text = self.good(&Ask::post("/echo", &body).header("X-Test", "post")).text();
        for line in ["REQUEST_METHOD=POST\n", "HTTP_X_TEST=post\n", &sum("body", &body)] {
            assert!(text.contains(line), "{self:?}, {size} bytes: no {line:?} in {text}");
        }
    }

    /// Bodies without a length, of which the larger ones are not known as a whole to anybody on the way.
    pub fn chunked(&self) {
        for size in [10, 150_000] {
            if size > 65_536 && self.hides_length() {
                continue;
            }
            let answer = self.ask(&Ask::chunked("/echo", &lines(size), 7_000));
            match self.server {
                // It wants a length for FastCGI if it has not yet seen the end, and says so.
                Some(Server::Haproxy | Server::HaproxyMultiplexing) if size > 65_536 => {
                    assert!([400, 411].contains(&answer.status), "{self:?}: {}", answer.status);
                }
                _ => {
                    assert_eq!(answer.status, 200, "{self:?}: {}", answer.text());
                    assert!(answer.text().contains(&sum("body", &lines(size))), "{self:?}: {}", answer.text());
                }
            }
        }
    }

    /// Whether nobody on the way tells PHP how long a large chunked body is; it reads none then, or waits for more.
    #[must_use]
    pub fn hides_length(&self) -> bool {
        let tells_none = [None, Some(Server::Apache), Some(Server::ApacheReusing), Some(Server::Caddy)];
        self.language == Language::Php && tells_none.contains(&self.server)
    }

    /// As large as this server passes on, there and back.
    pub fn large_headers(&self) {
        let (there, back) = match self.server {
            // A line of Apache's own has at most 8 KiB.
            Some(Server::Apache | Server::ApacheReusing | Server::ApacheFcgid) => (15_000, 7_000),
            // From 10,000 on Debian's 2.6.12 falls over an assertion of its own (haproxy issue 2150, mended in 2.6.14).
            Some(Server::Haproxy | Server::HaproxyMultiplexing) => (7_000, 7_000),
            _ => (40_000, 40_000),
        };
        let large = String::from_utf8(lines(there)).expect("it is text").replace('\n', ".");
        let answer = self.good(&Ask::get(&format!("/header?back={back}")).header("X-Large", &large));
        assert_eq!(answer.text(), sum("large", large.as_bytes()), "{self:?}");
        let expected: String = ('a'..='z').cycle().take(back).collect();
        assert_eq!(answer.header("x-large"), Some(expected.as_str()), "{self:?}");
    }

    /// Visitors who leave while they ask, while they wait and while they read.
    pub fn client_aborts(&self) {
        let mut asking = Visitor::connect(self.address).expect("it listens");
        let bytes = Ask::post("/echo", &lines(300_000)).bytes();
        let asked = match self.server {
            // While it has more of one body in hand than fits, Debian's 2.6.12 answers 500 to whoever would share the
            // connection, with an internal error (IH) of its own; compare haproxy issue 2568.
            Some(Server::HaproxyMultiplexing) => 8_000,
            _ => 100_000,
        };
        asking.write(&bytes[..asked]).expect("it reads");
        asking.reset();
        let mut waiting = Visitor::connect(self.address).expect("it listens");
        waiting.write(&Ask::get("/sleep?ms=300").bytes()).expect("it reads");
        waiting.reset();
        let mut reading = Visitor::connect(self.address).expect("it listens");
        reading.write(&Ask::get("/big?bytes=3000000").bytes()).expect("it reads");
        let head = reading.read_head().unwrap_or_else(|error| panic!("{self:?}: {error}"));
        assert_eq!(head.status, 200, "{self:?}: {:?}", head.headers);
        reading.reset();
        for _ in 0..6 {
            assert_eq!(self.good(&Ask::get("/hello")).text(), "hello\n", "{self:?}");
        }
    }

    /// 10 MB each way.
    pub fn megabytes(&self) {
        const SIZE: usize = 10_000_000;
        let page = self.good(&Ask::get(&format!("/big?bytes={SIZE}")));
        assert!(page.body == lines(SIZE), "{self:?}: {} bytes, and not those", page.body.len());
        self.post_of(SIZE);
    }

    /// A request that nobody answers yet, over a connection that goes on.
    ///
    /// # Panics
    /// When the server does not take it.
    #[must_use]
    pub fn begin(&self, ask: &Ask) -> Visitor {
        let visitor = Visitor::connect(self.address).expect("it listens");
        visitor.socket().write_all(&ask.bytes()).expect("it reads");
        visitor
    }
}
