//! A FastCGI client of raw records (FastCGI 1.0 §3), for single requests and for load.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;

/// Where a FastCGI application listens.
#[derive(Debug, Clone)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

impl Address {
    /// How many connections to it there are now, by /proc/net: of TCP (version 4) those that are established, of a
    /// unix socket all that were accepted in its directory, because it may have been bound by another name.
    #[must_use]
    pub fn connections(&self) -> usize {
        let read = |table| std::fs::read_to_string(format!("/proc/net/{table}")).expect("the kernel has it");
        let of = |text: String, is_one: &dyn Fn(&[&str]) -> bool| {
            text.lines().filter(|line| is_one(&line.split_whitespace().collect::<Vec<_>>())).count()
        };
        match self {
            Address::Unix(path) => of(read("unix"), &|fields| {
                let [.., state, _inode, bound] = fields else { return false };
                // SS_CONNECTED
                *state == "03" && Path::new(bound).parent() == path.parent()
            }),
            Address::Tcp(SocketAddr::V4(address)) => {
                let ip = u32::from_ne_bytes(address.ip().octets());
                let local = format!("{ip:08X}:{:04X}", address.port());
                // TCP_ESTABLISHED
                of(read("tcp"), &|fields| fields.get(1) == Some(&local.as_str()) && fields.get(3) == Some(&"01"))
            }
            Address::Tcp(SocketAddr::V6(address)) => panic!("{address}: nobody counts those here"),
        }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    params: Vec<(String, String)>,
    body: Vec<u8>,
    keep: bool,
    timeout: Duration,
}

/// The answer to one request.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// From the `Status` header, else 200.
    pub status: u16,
    /// All header lines.
    pub headers: String,
    /// What follows them.
    pub body: Vec<u8>,
    /// What came on the STDERR stream.
    pub stderr: Vec<u8>,
    /// END_REQUEST's appStatus.
    pub app_status: u32,
    /// END_REQUEST's protocolStatus: 0 is complete.
    pub protocol_status: u8,
}

impl Request {
    /// A GET of `path`, which may have a `?query`. The connection is closed by the application afterwards.
    #[must_use]
    pub fn get(path: &str) -> Request {
        let (script, query) = path.split_once('?').unwrap_or((path, ""));
        let params = [
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("REQUEST_METHOD", "GET"),
            ("REQUEST_URI", path),
            ("SCRIPT_NAME", script),
            ("QUERY_STRING", query),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_NAME", "localhost"),
            ("SERVER_PORT", "80"),
            ("HTTP_HOST", "localhost"),
            ("REMOTE_ADDR", "127.0.0.1"),
        ];
        Request {
            params: params.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body: Vec::new(),
            keep: false,
            timeout: Duration::from_secs(10),
        }
    }

    /// Sets or replaces a param.
    #[must_use]
    pub fn param(mut self, name: &str, value: &str) -> Request {
        self.params.retain(|(known, _)| known != name);
        self.params.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes it a POST with a body.
    #[must_use]
    pub fn body(self, body: &[u8]) -> Request {
        let mut request = self.param("REQUEST_METHOD", "POST").param("CONTENT_LENGTH", &body.len().to_string());
        request.body = body.to_vec();
        request
    }

    /// Asks for the connection to be kept (FCGI_KEEP_CONN).
    #[must_use]
    pub fn keep(mut self) -> Request {
        self.keep = true;
        self
    }

    /// How long each read and write may take; 10 s without.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Request {
        self.timeout = timeout;
        self
    }

    /// Connects, asks, reads the whole answer.
    ///
    /// # Errors
    /// When connecting, writing or reading fails or takes too long, or the answer is no FastCGI or ends early.
    pub fn send(&self, address: &Address) -> io::Result<Response> {
        self.start(address)?.finish()
    }

    /// Connects and asks; the answer is read later, so that a request can be in flight while a test goes on.
    ///
    /// # Errors
    /// When connecting or writing fails.
    pub fn start(&self, address: &Address) -> io::Result<InFlight> {
        let mut stream = Stream::connect(address, self.timeout)?;
        stream.write_all(&self.bytes())?;
        Ok(InFlight { stream })
    }

    /// Connects and says nothing yet.
    ///
    /// # Errors
    /// When connecting fails.
    pub fn connect(address: &Address) -> io::Result<InFlight> {
        Ok(InFlight { stream: Stream::connect(address, Duration::from_secs(10))? })
    }

    /// Connects and sends everything but the body, which follows by [`InFlight::stdin`].
    ///
    /// # Errors
    /// When connecting or writing fails.
    pub fn open(&self, address: &Address) -> io::Result<InFlight> {
        let mut stream = Stream::connect(address, self.timeout)?;
        stream.write_all(&self.head())?;
        Ok(InFlight { stream })
    }

    /// All records of the request, id 1.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.extend(stream_of(STDIN, &self.body));
        bytes
    }

    /// The records before the body.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        let mut params = Vec::new();
        for (name, value) in &self.params {
            for length in [name.len(), value.len()] {
                // §3.4: one byte up to 127, else four with the highest bit set.
                match u8::try_from(length) {
                    Ok(length) if length < 128 => params.push(length),
                    _ => {
                        let length = u32::try_from(length).expect("a param is small");
                        params.extend((length | 1 << 31).to_be_bytes());
                    }
                }
            }
            params.extend(name.as_bytes());
            params.extend(value.as_bytes());
        }
        // Role 1 is responder; without KEEP_CONN (1) the application closes the connection.
        let mut bytes = record(BEGIN_REQUEST, &[0, 1, u8::from(self.keep), 0, 0, 0, 0, 0]);
        bytes.extend(stream_of(PARAMS, &params));
        bytes
    }
}

/// The records of a whole stream, its end included.
fn stream_of(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let parts = bytes.chunks(65_535).chain([&[][..]]);
    parts.flat_map(|part| record(kind, part)).collect()
}

/// A request that has been sent.
#[derive(Debug)]
pub struct InFlight {
    stream: Stream,
}

impl InFlight {
    /// Reads until END_REQUEST.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn finish(mut self) -> io::Result<Response> {
        self.read()
    }

    /// Asks again on the same connection, which the first request wanted kept, and reads until END_REQUEST.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn again(&mut self, request: &Request) -> io::Result<Response> {
        self.stream.write_all(&request.bytes())?;
        self.read()
    }

    /// A piece of the body, at most 65,535 bytes; the empty one ends it.
    ///
    /// # Errors
    /// When writing fails.
    pub fn stdin(&mut self, piece: &[u8]) -> io::Result<()> {
        self.stream.write_all(&record(STDIN, piece))
    }

    /// Bytes as they are.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The same connection once more, to write while somebody else reads.
    ///
    /// # Errors
    /// As dup(2).
    pub fn another(&self) -> io::Result<InFlight> {
        let stream = match &self.stream {
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
        };
        Ok(InFlight { stream })
    }

    /// The next record: its type, its id and its content.
    ///
    /// # Errors
    /// When reading fails or takes too long.
    pub fn record(&mut self) -> io::Result<(u8, u16, Vec<u8>)> {
        let mut head = [0; 8];
        self.stream.read_exact(&mut head)?;
        let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
        let mut content = vec![0; length + usize::from(head[6])];
        self.stream.read_exact(&mut content)?;
        content.truncate(length);
        Ok((head[1], u16::from_be_bytes([head[2], head[3]]), content))
    }

    /// Ends both directions at once: whoever writes to it gets EPIPE.
    ///
    /// # Errors
    /// As shutdown(2).
    pub fn shut_down(&self) -> io::Result<()> {
        match &self.stream {
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
        }
    }

    /// Reads until END_REQUEST; the connection stays open.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn read(&mut self) -> io::Result<Response> {
        let mut output = Vec::new();
        let response = self.read_into(|bytes| output.extend(bytes))?;
        parsed(response, &output)
    }

    /// The same with each piece of STDOUT given away as it comes; the response has neither headers nor body.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn read_into(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<Response> {
        let mut response = Response::default();
        loop {
            let mut head = [0; 8];
            self.stream.read_exact(&mut head)?;
            let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
            let mut content = vec![0; length + usize::from(head[6])];
            self.stream.read_exact(&mut content)?;
            content.truncate(length);
            match head[1] {
                STDOUT => take(&content),
                STDERR => response.stderr.extend(content),
                END_REQUEST if length >= 5 => {
                    response.app_status = u32::from_be_bytes([content[0], content[1], content[2], content[3]]);
                    response.protocol_status = content[4];
                    return Ok(response);
                }
                kind => return Err(invalid(&format!("record of type {kind}, {length} bytes"))),
            }
        }
    }
}

impl Response {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first header of this name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.lines().filter_map(|line| line.split_once(':'));
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The pid in `ok PID`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let text = self.text();
        text.trim()
            .strip_prefix("ok ")
            .and_then(|pid| pid.parse().ok())
            .unwrap_or_else(|| panic!("the answer is not `ok PID` but {text:?}"))
    }
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("parts are at most 65,535 bytes");
    let [high, low] = length.to_be_bytes();
    let mut bytes = vec![1, kind, 0, 1, high, low, 0, 0];
    bytes.extend(content);
    bytes
}

fn parsed(mut response: Response, output: &[u8]) -> io::Result<Response> {
    let ends = [&b"\r\n\r\n"[..], &b"\n\n"[..]];
    let end = ends
        .iter()
        .filter_map(|end| {
            let at = output.windows(end.len()).position(|window| window == *end)?;
            Some((at, at + end.len()))
        })
        .min();
    let Some((headers, body)) = end else {
        return Err(invalid("an answer without an end of its headers"));
    };
    response.headers = String::from_utf8_lossy(&output[..headers]).into_owned();
    response.body = output[body..].to_vec();
    response.status = response
        .headers
        .lines()
        .find_map(|line| line.strip_prefix("Status:")?.trim().get(..3)?.parse().ok())
        .unwrap_or(200);
    Ok(response)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A connection of either kind.
#[derive(Debug)]
pub enum Stream {
    /// To a unix socket.
    Unix(UnixStream),
    /// Over TCP.
    Tcp(TcpStream),
}

impl Stream {
    /// Connects; each read and write then has this long.
    ///
    /// # Errors
    /// As connect(2).
    pub fn connect(address: &Address, timeout: Duration) -> io::Result<Stream> {
        match address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                Ok(Stream::Unix(stream))
            }
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, timeout)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Requests at a steady rate from several threads, until it is stopped.
#[derive(Debug)]
pub struct Load {
    threads: Vec<(Sender<()>, JoinHandle<LoadReport>)>,
}

/// What became of the requests of a [`Load`].
#[derive(Debug, Clone, Default)]
pub struct LoadReport {
    /// Answered completely with a status below 500.
    pub ok: u64,
    /// Everything else, in words; at most 100 are kept.
    pub failures: Vec<String>,
    /// How many failures there were.
    pub failed: u64,
}

impl Load {
    /// Begins: `threads` threads that each send the request every `every` (zero: as fast as it is answered).
    #[must_use]
    pub fn start(address: &Address, request: &Request, threads: usize, every: Duration) -> Load {
        let threads = (0..threads)
            .map(|_| {
                let (stop, stopped) = mpsc::channel();
                let (address, request) = (address.clone(), request.clone());
                let thread = std::thread::spawn(move || {
                    let mut report = LoadReport::default();
                    // Each sends one, however soon it is stopped; the pause between two is the wait for the order to stop.
                    loop {
                        report.note(request.send(&address));
                        let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) else { break report };
                    }
                });
                (stop, thread)
            })
            .collect();
        Load { threads }
    }

    /// Ends after the requests in flight.
    #[must_use]
    pub fn stop(self) -> LoadReport {
        let mut sum = LoadReport::default();
        let (stops, threads): (Vec<_>, Vec<_>) = self.threads.into_iter().unzip();
        drop(stops);
        for thread in threads {
            let report = thread.join().expect("a load thread does not panic");
            sum.ok += report.ok;
            sum.failed += report.failed;
            sum.failures.extend(report.failures);
        }
        sum
    }
}

impl LoadReport {
    fn note(&mut self, result: io::Result<Response>) {
        let mut failure = String::new();
        match result {
            Ok(response) if response.status < 500 && response.protocol_status == 0 => self.ok += 1,
            Ok(response) => {
                let _never_fails = write!(failure, "status {}", response.status);
            }
            Err(error) => {
                let _never_fails = write!(failure, "{error}");
            }
        }
        if !failure.is_empty() {
            self.failed += 1;
            if self.failures.len() < 100 {
                self.failures.push(failure);
            }
        }
    }
}
