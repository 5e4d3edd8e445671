//! `steadfast ping`: one real request, its answer on stdout.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use steadfast_proto::exit::ExitCode;

use crate::exchange::address::{Address, Protocol};
use crate::exchange::broken::Broken;
use crate::exchange::dial::{self, Target};
use crate::exchange::head;
use crate::exchange::options::Ping;
use crate::exchange::piece::Piece;
use crate::exchange::question::Question;
use crate::exchange::reader::Reader;
use crate::failure::{Failure, reason};
use crate::output;

/// So much of a body is searched for what is expected of it, and so much of it shown.
const KEPT_MAX: usize = 1024 * 1024;
const SHOWN: usize = 200;
/// So much is read at once.
const BLOCK: usize = 64 * 1024;

pub(super) fn ping(ping: &Ping) -> Result<ExitCode, Failure> {
    let address = &ping.asked.address;
    let question = ping.asked.question(false)?;
    let request = question.bytes(address).map_err(|why| {
        Failure::new(ExitCode::Usage, format!("the request for {address} cannot be sent as FastCGI: {why}"))
            .hint("send less of it")
    })?;
    let deadline = Deadline { at: Instant::now() + ping.asked.timeout, within: ping.asked.timeout };
    let socket = connect(address, &deadline)?;
    let mut exchange = Exchange {
        socket,
        address,
        deadline,
        request: &request,
        reader: Reader::new(address.protocol, question.is_head()),
        read: 0,
        show: Show {
            include: ping.include,
            status_only: ping.status_only,
            protocol: address.protocol,
            is_quiet: ping.verify,
            kept: (ping.verify || ping.expect_body.is_some()).then(Vec::new),
        },
    };
    exchange.perform()?;
    let status = exchange.reader.status();
    let body = exchange.show.kept.unwrap_or_default();
    if let Some(why) = unexpected(ping, &question, status, &body) {
        return Err(Failure::new(ExitCode::Failed, why));
    }
    match exchange.reader.app_status() {
        0 => {}
        code => output::message(&format!("note: the application says that a CGI program would exit with {code}\n")),
    }
    let is_good = ping.expect_status.is_some() || status < 500;
    Ok(if is_good { ExitCode::Good } else { ExitCode::Failed })
}

/// What was expected and did not come, in words.
fn unexpected(ping: &Ping, question: &Question, status: u16, body: &[u8]) -> Option<String> {
    let (method, target) = (&question.method, &question.target);
    let shown = || format!("{:?}", String::from_utf8_lossy(&body[..body.len().min(SHOWN)]));
    match (ping.expect_status, &ping.expect_body) {
        (Some(wanted), _) if wanted != status => {
            let end = if body.is_empty() { String::new() } else { format!(": {}", shown()) };
            Some(format!("{method} {target}: expected status {wanted}, got status {status}{end}"))
        }
        (_, Some(wanted)) if !body.windows(wanted.len().max(1)).any(|window| window == wanted.as_bytes()) => {
            Some(format!("{method} {target}: expected {wanted:?} in the body, got {}", shown()))
        }
        _ => None,
    }
}

/// When the whole exchange must be over.
struct Deadline {
    at: Instant,
    within: Duration,
}

impl Deadline {
    fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// Tries everything that the address stands for; tells of the last.
fn connect(address: &Address, deadline: &Deadline) -> Result<OwnedFd, Failure> {
    let targets: Vec<Target> = dial::targets(address)?;
    let mut last = Errno::CONNREFUSED;
    for target in &targets {
        match target.connect_within(deadline.left()) {
            Ok(socket) => return Ok(socket),
            Err(errno) => last = errno,
        }
    }
    let failure = dial::failure(address, last);
    if failure.code == ExitCode::TimedOut {
        let message = format!("{} within {:?}", failure.message, deadline.within);
        return Err(Failure { message, ..failure });
    }
    Err(failure)
}

/// The request and its answer on one connection.
struct Exchange<'a> {
    socket: OwnedFd,
    address: &'a Address,
    deadline: Deadline,
    /// What is still to be sent.
    request: &'a [u8],
    reader: Reader,
    /// Bytes of the answer that came.
    read: u64,
    show: Show,
}

impl Exchange<'_> {
    /// Reads while it writes: who answers before it has read the body must not wait for us for ever.
    fn perform(&mut self) -> Result<(), Failure> {
        self.reader.begin();
        let mut buffer = vec![0; BLOCK];
        loop {
            self.write();
            let length = match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => {
                    self.wait()?;
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(self.unanswered(&io::Error::from(errno))),
            };
            if length == 0 {
                return self.reader.ended().map_err(|broken| self.broken(&broken));
            }
            self.read += length as u64;
            let mut input = &buffer[..length];
            while let Some(piece) = self.reader.next(&mut input).map_err(|broken| self.broken(&broken))? {
                if piece == Piece::Done {
                    return Ok(());
                }
                self.show.piece(piece, &self.reader)?;
            }
        }
    }

    /// As much of the request as there is room for.
    fn write(&mut self) {
        while !self.request.is_empty() {
            match send(&self.socket, self.request, SendFlags::NOSIGNAL) {
                Ok(sent) => self.request = &self.request[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // It reads no more. What it has answered is there, and says more than this.
                Err(_) => self.request = &[],
            }
        }
    }

    fn wait(&self) -> Result<(), Failure> {
        let left = self.deadline.left();
        if left.is_zero() {
            return Err(self.late());
        }
        let wanted = if self.request.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(&self.socket, wanted)], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(self.unanswered(&io::Error::from(errno))),
        }
    }

    fn late(&self) -> Failure {
        let what = match (self.request.is_empty(), self.read) {
            (false, _) => "it has not read the whole request",
            (true, 0) => "it has the request and has answered nothing",
            (true, _) => "its answer is not complete",
        };
        Failure::new(
            ExitCode::TimedOut,
            format!("no answer from {} within {:?}: {what}", self.address, self.deadline.within),
        )
        .hint("all its workers may be busy or hang: look at `steadfast status`; or wait longer with --timeout")
    }

    fn unanswered(&self, error: &io::Error) -> Failure {
        let message = format!("no answer from {}: {}", self.address, reason(error));
        Failure::new(ExitCode::Failed, message).hint("look at what the application wrote: `steadfast events`")
    }

    fn broken(&self, broken: &Broken) -> Failure {
        let hint = match (broken, self.address.protocol) {
            (Broken::Fcgi(_), _) => "does it speak FastCGI? For HTTP write the address as http://HOST:PORT",
            (Broken::Http(_), _) => "does it speak HTTP? For FastCGI write the address without http://",
            (Broken::Early { begun: false }, Protocol::Http) => "for FastCGI write the address without http://",
            (Broken::Early { begun: false }, Protocol::Fcgi) => {
                "the worker died, refuses this client (FCGI_WEB_SERVER_ADDRS), or speaks HTTP: look at its messages"
            }
            (Broken::Refused { .. }, _) => "try again when it has less to do",
            _ => "look at what the application wrote: `steadfast events`",
        };
        Failure::new(ExitCode::Failed, format!("no good answer from {}: {broken}", self.address)).hint(hint)
    }
}

/// What of an answer is shown.
struct Show {
    include: bool,
    status_only: bool,
    protocol: Protocol,
    /// Nothing but what the application says on stderr.
    is_quiet: bool,
    /// The beginning of the body, where something is expected of it.
    kept: Option<Vec<u8>>,
}

impl Show {
    fn piece(&mut self, piece: Piece<'_>, reader: &Reader) -> Result<(), Failure> {
        match piece {
            Piece::Head { body } => {
                if self.status_only {
                    output::result(&format!("{}\n", reader.status()))?;
                }
                if self.include {
                    output::result(&drawn_head(reader, self.protocol))?;
                }
                self.body(body)
            }
            Piece::Body(body) => self.body(body),
            Piece::Stderr(text) => {
                output::message(&printable(text));
                Ok(())
            }
            Piece::Done => Ok(()),
        }
    }

    fn body(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&bytes[..bytes.len().min(KEPT_MAX - kept.len())]);
        }
        if self.status_only || self.is_quiet || bytes.is_empty() {
            return Ok(());
        }
        output::bytes(bytes)
    }
}

/// The head as it came; where CGI rules make the status, it stands in the first line.
fn drawn_head(reader: &Reader, protocol: Protocol) -> String {
    let mut text = String::new();
    let has_status = protocol == Protocol::Http || reader.find("Status").is_some();
    if !has_status {
        text.push_str(&format!("Status: {}\n", reader.status()));
    }
    for line in head::lines(reader.head()) {
        text.push_str(&printable(line));
        text.push('\n');
    }
    text.push('\n');
    text
}

/// Text of a stranger, which must not steer the terminal; lines stay lines.
fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(protocol: Protocol, bytes: &[u8]) -> String {
        let mut reader = Reader::new(protocol, false);
        reader.begin();
        reader.next(&mut &bytes[..]).expect("an answer").expect("a head");
        drawn_head(&reader, protocol)
    }

    #[test]
    fn a_head_is_shown_with_its_status() {
        let http = b"HTTP/1.1 404 Not Found\r\nA: b\x1b[0m\r\nContent-Length: 0\r\n\r\n";
        // No escape passes the parser; what does is shown as it came.
        assert!(Reader::new(Protocol::Http, false).next(&mut &http[..]).is_err());
        let http = b"HTTP/1.1 404 Not Found\r\nA: b\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(head(Protocol::Http, http), "HTTP/1.1 404 Not Found\nA: b\nContent-Length: 0\n\n");
        let mut fcgi = Vec::new();
        let text = b"A: \x1b[31mb\r\n\r\n";
        steadfast_proto::fcgi::encode::stream(&mut fcgi, steadfast_proto::fcgi::record::kind::STDOUT, 1, text);
        assert_eq!(head(Protocol::Fcgi, &fcgi), "Status: 200\nA: \u{fffd}[31mb\n\n");
        let mut fcgi = Vec::new();
        let text = b"Status: 503 No\nA: b\n\n";
        steadfast_proto::fcgi::encode::stream(&mut fcgi, steadfast_proto::fcgi::record::kind::STDOUT, 1, text);
        assert_eq!(head(Protocol::Fcgi, &fcgi), "Status: 503 No\nA: b\n\n");
    }

    #[test]
    fn stderr_keeps_its_lines_and_no_escapes() {
        assert_eq!(printable(b"a\n\tb\x1b[2Jc\xff"), "a\n\tb\u{fffd}[2Jc\u{fffd}");
    }
}
