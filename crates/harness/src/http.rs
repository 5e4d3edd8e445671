//! An HTTP/1.1 client for tests: requests byte for byte as they are meant, answers taken apart.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long each read and write may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One request.
#[derive(Debug, Clone)]
pub struct Ask {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header lines, names in lower case, in their order.
    pub headers: Vec<(String, String)>,
    /// The body, out of its chunks.
    pub body: Vec<u8>,
}

impl Ask {
    /// A GET.
    #[must_use]
    pub fn get(path: &str) -> Ask {
        Ask::new("GET", path)
    }

    /// Any method.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Ask {
        Ask { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    /// A POST with its length told.
    #[must_use]
    pub fn post(path: &str, body: &[u8]) -> Ask {
        let mut ask = Ask::new("POST", path).header("Content-Length", &body.len().to_string());
        ask.body = body.to_vec();
        ask.header("Content-Type", "application/octet-stream")
    }

    /// A POST in chunks of so many bytes.
    #[must_use]
    pub fn chunked(path: &str, body: &[u8], size: usize) -> Ask {
        let mut ask = Ask::new("POST", path).header("Transfer-Encoding", "chunked");
        for chunk in body.chunks(size) {
            ask.body.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
            ask.body.extend(chunk);
            ask.body.extend(b"\r\n");
        }
        ask.body.extend(b"0\r\n\r\n");
        ask.header("Content-Type", "application/octet-stream")
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Ask {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The whole request.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: localhost\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            let _never_fails = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    /// Over a connection of its own.
    ///
    /// # Errors
    /// When connecting, writing or reading fails or takes too long, or the answer is no HTTP or ends early.
    pub fn send(&self, address: SocketAddr) -> io::Result<Answer> {
        Visitor::connect(address)?.ask(self)
    }
}

impl Answer {
    /// The first header of this name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The pid of the worker that answered, by X-Worker.
    #[must_use]
    pub fn worker(&self) -> u32 {
        let pid = self.header("x-worker").and_then(|pid| pid.parse().ok());
        pid.unwrap_or_else(|| panic!("no X-Worker in {} {:?}: {}", self.status, self.headers, self.text()))
    }
}

/// One connection.
#[derive(Debug)]
pub struct Visitor {
    stream: BufReader<TcpStream>,
}

impl Visitor {
    /// Connects.
    ///
    /// # Errors
    /// As connect(2).
    pub fn connect(address: SocketAddr) -> io::Result<Visitor> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Visitor { stream: BufReader::new(stream) })
    }

    /// The socket, to write to it by hand or to shut it down.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// As write(2).
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Asks and reads the whole answer; the connection can be used again if the server keeps it.
    ///
    /// # Errors
    /// As [`Ask::send`].
    pub fn ask(&mut self, ask: &Ask) -> io::Result<Answer> {
        self.write(&ask.bytes())?;
        self.read(&ask.method)
    }

    /// Reads the head of an answer to this method, and no byte of the body.
    ///
    /// # Errors
    /// As [`Ask::send`].
    pub fn read_head(&mut self) -> io::Result<Answer> {
        let mut status = self.line()?;
        // 100 Continue stands before the real one.
        while status.starts_with("HTTP/1.1 100") {
            while !self.line()?.is_empty() {}
            status = self.line()?;
        }
        let code = status.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        let code = code.ok_or_else(|| invalid(format!("no status line: {status:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Answer { status: code, headers, body: Vec::new() });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(format!("no header: {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Reads the whole answer to a request of this method.
    ///
    /// # Errors
    /// As [`Ask::send`].
    pub fn read(&mut self, method: &str) -> io::Result<Answer> {
        let mut answer = self.read_head()?;
        if method == "HEAD" || [204, 304].contains(&answer.status) {
            return Ok(answer);
        }
        if answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            self.read_chunks(&mut answer.body)?;
            return Ok(answer);
        }
        match answer.header("content-length").map(str::to_owned) {
            Some(length) => {
                let length = length.parse::<u64>().map_err(|_| invalid(format!("Content-Length: {length:?}")))?;
                self.read_exactly(length, &mut answer.body)?;
            }
            None => {
                self.stream.read_to_end(&mut answer.body)?;
            }
        }
        Ok(answer)
    }

    /// Reads what is there of a body, at most as much as the buffer holds; 0 at the end.
    ///
    /// # Errors
    /// As read(2).
    pub fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    /// Whether the server closes the connection without another byte.
    ///
    /// # Errors
    /// As read(2), a reset included.
    pub fn is_closed(&mut self) -> io::Result<bool> {
        Ok(self.stream.read(&mut [0])? == 0)
    }

    /// Goes away at once, with a reset and not with an end.
    pub fn reset(self) {
        let linger = rustix::net::sockopt::set_socket_linger(self.socket(), Some(Duration::ZERO));
        linger.expect("it is a socket");
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or_default(), 16);
            let size = size.map_err(|_| invalid(format!("no size of a chunk: {line:?}")))?;
            self.read_exactly(size, body)?;
            // After the last one, trailers may stand before the empty line; nobody sends any here.
            let end = self.line()?;
            if !end.is_empty() {
                return Err(invalid(format!("a chunk of {size} bytes ends in {end:?}")));
            }
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn read_exactly(&mut self, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
        let got = (&mut self.stream).take(length).read_to_end(body)? as u64;
        if got < length {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{got} bytes instead of {length}")));
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the connection ended at {:?}", String::from_utf8_lossy(&line)),
            )),
        }
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
