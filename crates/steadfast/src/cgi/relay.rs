//! The time of a running script: carries the request's body in, its answer and its words out, and ends it when it must end.
//!
//! It runs until it ends by itself, or must end: its time is over, its client has left, or what it answers is no answer.
//! Then its group gets TERM, and KILL two seconds later. Once it has ended, what it has left in its pipes is passed on; a
//! process that it has left behind and that holds these pipes open holds up nobody.
//!
//! The answer is held back until it is complete, or 64 KiB long, or until nothing has followed for ten milliseconds: a small
//! one leaves in one piece, and until something has left, an error can still be told in its place.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::process::Signal;
use steadfast_worker::{Request, Response};

use super::head::{self, HEAD_MAX, Head};
use super::process::{End, Process};
use super::words::Words;

/// Between TERM and KILL.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer that goes on is passed on after so long.
const HELD: Duration = Duration::from_millis(10);
/// More than this is not held back.
const HELD_MAX: usize = 64 * 1024;
/// A script has ended: who still writes to its pipes may be silent for so long …
const SILENCE: Duration = Duration::from_millis(100);
/// … and go on for so long.
const GRACE: Duration = Duration::from_secs(2);
/// A visitor who does not read is looked for after so many bytes.
const UNCHECKED_MAX: usize = 32 * 1024;
/// Pieces of a body that are carried before the answer is looked at again.
const PIECES: usize = 16;

/// Our ends of a script's pipes. `stdin` is `None` where it has no body to read; it does not block.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// Memory that is used for one request after the other.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) output: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) held: Vec<u8>,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was answered; the word is for the log.
    Answered(Option<String>),
    /// Nothing has been sent: this can be told.
    Failed(u16, String),
    /// A part of the answer has been sent.
    Cut(String),
    /// There is nobody to answer.
    Gone(String),
}

/// Why a script must end.
#[derive(Debug, PartialEq, Eq)]
enum Why {
    Late(Duration),
    Gone,
    NoAnswer(String),
}

#[derive(Debug)]
enum Phase {
    Running,
    /// It was sent TERM; `None`: and KILL.
    Ending(Why, Option<Instant>),
    /// It has ended. Until there is silence, or until then.
    Over(End, Instant, Instant),
}

#[derive(Debug)]
enum Answer {
    /// Its head is not complete.
    Begun,
    /// Nothing has been given away.
    Held(Head),
    /// What comes is passed on.
    Flowing,
}

/// What poll(2) has found.
#[derive(Clone, Copy, Debug)]
struct Ready {
    stdin: PollFlags,
    stdout: PollFlags,
    stderr: PollFlags,
    process: PollFlags,
    connection: PollFlags,
}

pub(super) struct Relay<'s, 'q, 'r> {
    request: &'s mut Request<'q>,
    response: &'s mut Response<'r>,
    process: Process,
    pipes: Pipes,
    memory: &'s mut Memory,
    phase: Phase,
    answer: Answer,
    words: Words,
    hears_words: bool,
    /// Of `memory.body`: what the script has not taken yet.
    piece: (usize, usize),
    /// More of the body has to come first.
    waits: bool,
    /// More of it may be there already, without a sign on the connection.
    has_more: bool,
    timeout: Option<(Duration, Instant)>,
    flush_at: Option<Instant>,
    /// Bytes since it was seen that the visitor reads.
    unchecked: usize,
    is_blocked: bool,
    /// Only one direction of the connection has ended, which is no leaving.
    is_half: bool,
}

impl<'s, 'q, 'r> Relay<'s, 'q, 'r> {
    /// `piece`: so much of the body stands in memory already. `hears_words`: the web server is told what the script says.
    pub(super) fn new(
        request: &'s mut Request<'q>,
        response: &'s mut Response<'r>,
        (process, pipes): (Process, Pipes),
        memory: &'s mut Memory,
        piece: usize,
        timeout: Option<Duration>,
        hears_words: bool,
    ) -> Relay<'s, 'q, 'r> {
        memory.held.clear();
        Relay {
            request,
            response,
            process,
            pipes,
            memory,
            phase: Phase::Running,
            answer: Answer::Begun,
            words: Words::default(),
            hears_words,
            piece: (0, piece),
            waits: false,
            has_more: false,
            timeout: timeout.map(|timeout| (timeout, Instant::now() + timeout)),
            flush_at: None,
            unchecked: 0,
            is_blocked: false,
            is_half: false,
        }
    }

    /// Until the request has ended. `name` is the script's.
    pub(super) fn run(mut self, name: &str) -> Outcome {
        self.carry_body();
        loop {
            let ready = self.wait();
            self.carry_output(ready.stdout);
            self.carry_words(ready.stderr);
            if self.pipes.stdin.is_some() && (self.has_more || !(ready.stdin | ready.connection).is_empty()) {
                self.carry_body();
            }
            self.look_at_connection(ready.connection);
            if !ready.process.is_empty()
                && let Some(outcome) = self.ended(name)
            {
                return outcome;
            }
            self.look_at_clock();
            if let Phase::Over(end, silent, until) = self.phase {
                let is_empty = self.pipes.stdout.is_none() && self.pipes.stderr.is_none();
                if is_empty || Instant::now() >= silent.min(until) {
                    return self.finish(end, name);
                }
            }
        }
    }

    /// Waits until something happens, or the next deadline.
    fn wait(&self) -> Ready {
        let is_running = matches!(self.phase, Phase::Running);
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::RDHUP, !self.is_half);
        wanted.set(PollFlags::IN, self.waits && self.pipes.stdin.is_some());
        wanted.set(PollFlags::OUT, self.is_blocked);
        let mut fds = Vec::with_capacity(5);
        let has_piece = self.piece.0 < self.piece.1;
        let stdout =
            add(&mut fds, self.pipes.stdout.as_ref().filter(|_| !self.is_blocked).map(AsFd::as_fd), PollFlags::IN);
        let stderr = add(&mut fds, self.pipes.stderr.as_ref().map(AsFd::as_fd), PollFlags::IN);
        let stdin = add(&mut fds, self.pipes.stdin.as_ref().filter(|_| has_piece).map(AsFd::as_fd), PollFlags::OUT);
        let is_alive = !matches!(self.phase, Phase::Over(..));
        let process = add(&mut fds, is_alive.then(|| self.process.pidfd()), PollFlags::IN);
        let connection = add(&mut fds, (is_running || self.is_blocked).then(|| self.request.as_fd()), wanted);
        let deadline = if self.has_more { Some(Instant::now()) } else { self.deadline() };
        let timeout = deadline.map(|deadline| {
            // Not a moment too early, or this would turn round without a rest.
            let left = deadline.saturating_duration_since(Instant::now());
            let left = if self.has_more { left } else { left + Duration::from_micros(50) };
            Timespec::try_from(left).unwrap_or_default()
        });
        // A signal may have ended the wait (SIGTERM: the worker leaves after this request): then nothing is ready.
        let found = poll(&mut fds, timeout.as_ref()).unwrap_or(0);
        let of = |place: Option<usize>| match place.and_then(|place| fds.get(place)) {
            Some(fd) if found > 0 => fd.revents(),
            _ => PollFlags::empty(),
        };
        Ready {
            stdin: of(stdin),
            stdout: of(stdout),
            stderr: of(stderr),
            process: of(process),
            connection: of(connection),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let of_phase = match &self.phase {
            Phase::Running => self.timeout.map(|(_, at)| at),
            Phase::Ending(_, kill) => *kill,
            Phase::Over(_, silent, until) => Some(*silent.min(until)),
        };
        [of_phase, self.flush_at].into_iter().flatten().min()
    }

    fn look_at_clock(&mut self) {
        let now = Instant::now();
        if self.flush_at.is_some_and(|at| now >= at) {
            self.flush_at = None;
            let is_written = self.begin().and_then(|()| self.response.flush());
            self.written(is_written);
        }
        match (&mut self.phase, self.timeout) {
            (Phase::Running, Some((timeout, at))) if now >= at => self.end_it(Why::Late(timeout)),
            (Phase::Ending(_, kill), _) if kill.is_some_and(|at| now >= at) => {
                *kill = None;
                self.process.signal(Signal::KILL);
            }
            (Phase::Running | Phase::Ending(..) | Phase::Over(..), _) => {}
        }
    }

    /// The script must end. What it answers from now on is read, so that nothing holds it up, and forgotten.
    fn end_it(&mut self, why: Why) {
        if matches!(self.phase, Phase::Running) {
            self.process.signal(Signal::TERM);
            self.phase = Phase::Ending(why, Some(Instant::now() + PATIENCE));
            (self.pipes.stdin, self.has_more) = (None, false);
            self.flush_at = None;
            self.is_blocked = false;
        }
    }

    /// The client has left when its connection has ended. Of TCP an end of one direction is all that can be seen of that; on
    /// a unix socket it is a web server that has said all it had to say.
    fn look_at_connection(&mut self, ready: PollFlags) {
        if ready.contains(PollFlags::OUT) && self.is_blocked {
            self.is_blocked = false;
            self.unchecked = 0;
        }
        let is_end = ready.intersects(PollFlags::HUP | PollFlags::ERR);
        if ready.contains(PollFlags::RDHUP) && !is_end {
            let address = rustix::net::getsockname(self.request.as_fd());
            if address.is_ok_and(|address| address.address_family() == AddressFamily::UNIX) {
                self.is_half = true;
                return;
            }
        }
        if is_end || ready.contains(PollFlags::RDHUP) {
            self.end_it(Why::Gone);
        }
    }

    /// As much of the body as has come, and as the script takes.
    fn carry_body(&mut self) {
        (self.waits, self.has_more) = (false, false);
        for _ in 0..PIECES {
            let Some(stdin) = &self.pipes.stdin else { return };
            let (from, end) = self.piece;
            if from == end {
                match self.request.read_ready(&mut self.memory.body) {
                    Ok(0) => self.pipes.stdin = None,
                    Ok(got) => self.piece = (0, got),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.waits = true;
                        return;
                    }
                    // It is cut, so that what it asks for must not be done.
                    Err(_) => self.end_it(Why::Gone),
                }
                continue;
            }
            match rustix::io::write(stdin, self.memory.body.get(from..end).unwrap_or_default()) {
                Ok(written) => self.piece.0 += written,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // It does not want more.
                Err(_) => self.pipes.stdin = None,
            }
        }
        // What has been read of the connection shows nowhere else.
        self.has_more = self.pipes.stdin.is_some();
    }

    fn carry_output(&mut self, ready: PollFlags) {
        if ready.is_empty() || !self.may_write() {
            return;
        }
        let Some(stdout) = self.pipes.stdout.as_ref().filter(|_| ready.contains(PollFlags::IN)) else {
            self.pipes.stdout = None;
            return;
        };
        let got = match rustix::io::read(stdout, &mut self.memory.output[..]) {
            Ok(got) => got,
            Err(Errno::INTR | Errno::AGAIN) => return,
            Err(_) => 0,
        };
        if got == 0 {
            self.pipes.stdout = None;
            return;
        }
        if !matches!(self.phase, Phase::Ending(..)) {
            self.unchecked += got;
            let before = Instant::now();
            let is_written = self.answered(got);
            self.written(is_written);
            // A visitor's time is not that of whoever writes still.
            if let Phase::Over(_, _, until) = &mut self.phase {
                *until += before.elapsed();
            }
        }
        self.heard();
    }

    /// Whether the visitor reads: a write that waits for one who does not would stop everything here. While the body still
    /// comes, the writer looks after both directions.
    fn may_write(&mut self) -> bool {
        if self.unchecked < UNCHECKED_MAX || self.pipes.stdin.is_some() || !matches!(self.phase, Phase::Running) {
            return true;
        }
        let connection = self.request.as_fd();
        let found = poll(&mut [PollFd::new(&connection, PollFlags::OUT)], Some(&Timespec::default()));
        self.is_blocked = found == Ok(0);
        if !self.is_blocked {
            self.unchecked = 0;
        }
        !self.is_blocked
    }

    /// A piece of the answer stands in memory.
    fn answered(&mut self, got: usize) -> io::Result<()> {
        let piece = self.memory.output.get(..got).unwrap_or_default();
        if matches!(self.answer, Answer::Flowing) {
            self.flush_at.get_or_insert_with(|| Instant::now() + HELD);
            return self.response.write_all(piece);
        }
        let may_end = piece.contains(&b'\n');
        self.memory.held.extend_from_slice(piece);
        if matches!(self.answer, Answer::Begun) && (may_end || self.memory.held.len() > HEAD_MAX) {
            match head::read(&self.memory.held) {
                Ok(None) => {}
                Ok(Some(head)) => self.answer = Answer::Held(head),
                Err(why) => self.end_it(Why::NoAnswer(why)),
            }
        }
        if matches!(self.answer, Answer::Held(_)) {
            self.flush_at.get_or_insert_with(|| Instant::now() + HELD);
            if self.memory.held.len() > HELD_MAX {
                return self.begin();
            }
        }
        Ok(())
    }

    /// Gives away what is held back, if its head is complete.
    fn begin(&mut self) -> io::Result<()> {
        let Answer::Held(head) = &self.answer else { return Ok(()) };
        if let Some(status) = head.status {
            self.response.status_with_reason(status, &head.reason)?;
        }
        let held = &self.memory.held;
        let of = |range: &std::ops::Range<usize>| held.get(range.clone()).unwrap_or_default();
        for (name, value) in &head.fields {
            // A token is ASCII.
            self.response.header(std::str::from_utf8(of(name)).unwrap_or_default(), of(value))?;
        }
        let body = held.get(head.length..).unwrap_or_default();
        self.response.write_all(body)?;
        self.answer = Answer::Flowing;
        self.memory.held.clear();
        Ok(())
    }

    fn written(&mut self, result: io::Result<()>) {
        if result.is_err() {
            self.end_it(Why::Gone);
        }
    }

    fn carry_words(&mut self, ready: PollFlags) {
        if ready.is_empty() {
            return;
        }
        let mut bytes = [0; 4096];
        let got = match self.pipes.stderr.as_ref().filter(|_| ready.contains(PollFlags::IN)) {
            Some(stderr) => rustix::io::read(stderr, &mut bytes),
            None => Ok(0),
        };
        match got {
            Ok(0) => self.pipes.stderr = None,
            Ok(got) => {
                self.heard();
                let response = self.hears_words.then_some(&mut *self.response);
                self.words.take(bytes.get(..got).unwrap_or_default(), response);
            }
            Err(_) => {}
        }
    }

    /// Somebody still writes to the pipes.
    fn heard(&mut self) {
        if let Phase::Over(_, silent, _) = &mut self.phase {
            *silent = Instant::now() + SILENCE;
        }
    }

    /// The script has ended. Whoever was to end with it is killed before it is reaped, while its group is its own for sure.
    fn ended(&mut self, name: &str) -> Option<Outcome> {
        if let Phase::Ending(why, _) = &self.phase {
            self.process.signal(Signal::KILL);
            let end = self.process.wait();
            let has_begun = self.response.has_begun();
            let outcome = match why {
                Why::Late(timeout) => {
                    let message = format!("{name} took longer than {timeout:?}, and {end} at our word");
                    if has_begun { Outcome::Cut(message) } else { Outcome::Failed(504, message) }
                }
                Why::NoAnswer(why) => Outcome::Failed(502, format!("{name}: its answer {why}")),
                Why::Gone => Outcome::Gone(format!("{name}: its client has left, and it {end} at our word")),
            };
            return Some(self.with_words(outcome));
        }
        let end = self.process.wait();
        (self.pipes.stdin, self.has_more) = (None, false);
        // There is nobody to look after any more: now the visitor alone may be waited for.
        self.is_blocked = false;
        let now = Instant::now();
        self.phase = Phase::Over(end, now + SILENCE, now + GRACE);
        None
    }

    /// All that it has said is here.
    fn finish(&mut self, end: End, name: &str) -> Outcome {
        let last = |words: &Words| match words.last() {
            "" => String::new(),
            last => format!(": {last}"),
        };
        self.words.end(self.hears_words.then_some(&mut *self.response));
        let end_told = || format!("{name} {end}{}", last(&self.words));
        match (&self.answer, end) {
            (Answer::Begun, End::Code(0)) => {
                let what = if self.memory.held.is_empty() { "an answer" } else { "an end of its answer's head" };
                Outcome::Failed(502, format!("{name} has ended without {what}{}", last(&self.words)))
            }
            (Answer::Begun, End::Code(_) | End::Signal(_)) => Outcome::Failed(502, end_told()),
            // It may have had more to say.
            (Answer::Held(_), End::Signal(_)) => Outcome::Failed(502, end_told()),
            (Answer::Flowing, End::Signal(_)) if self.response.has_begun() => Outcome::Cut(end_told()),
            (Answer::Held(_) | Answer::Flowing, End::Code(_) | End::Signal(_)) => {
                let word = (end != End::Code(0)).then(end_told);
                match self.begin() {
                    Ok(()) => Outcome::Answered(word),
                    Err(_) => Outcome::Gone(format!("{name}: its client has left")),
                }
            }
        }
    }

    fn with_words(&mut self, outcome: Outcome) -> Outcome {
        self.words.end(self.hears_words.then_some(&mut *self.response));
        outcome
    }
}

/// Asks for `flags` of an fd that may be there; where its answer will stand.
fn add<'f>(fds: &mut Vec<PollFd<'f>>, fd: Option<BorrowedFd<'f>>, flags: PollFlags) -> Option<usize> {
    fds.push(PollFd::from_borrowed_fd(fd?, flags));
    Some(fds.len() - 1)
}
