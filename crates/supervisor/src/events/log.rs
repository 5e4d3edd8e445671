//! The only door to the log: ring, coalescing and writing, put together.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::coalesce::Coalescer;
use super::event::{Event, Moment};
use super::kind::{Kind, Level};
use super::ring::Ring;
use super::sink::Sink;
use super::{human, journald, json, logfmt};

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Journald where stderr is the journal's stream, else human.
    Auto,
    /// For people.
    Human,
    /// `key=value` pairs, one event a line.
    Logfmt,
    /// One object a line.
    Json,
    /// Native journal entries.
    Journald,
}

/// Everything that the supervisor tells goes through here. Nothing here waits.
pub struct Log {
    ring: Ring,
    coalescer: Coalescer,
    sink: Sink,
    format: Format,
    level: Level,
    colour: bool,
    lost: u64,
}

impl Log {
    /// Opens the way out. `Auto` looks at JOURNAL_STREAM; colours need a terminal, unless CLICOLOR_FORCE is set, and
    /// no NO_COLOR.
    pub fn open(format: Format, level: Level) -> Log {
        let stderr = std::io::stderr();
        let fd = stderr.as_fd().try_clone_to_owned();
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let is_journal = variable("JOURNAL_STREAM").is_some_and(|stream| is_stream(stderr.as_fd(), &stream));
        let format = match format {
            Format::Auto if is_journal => Format::Journald,
            Format::Auto => Format::Human,
            Format::Human | Format::Logfmt | Format::Json | Format::Journald => format,
        };
        let is_terminal = std::io::IsTerminal::is_terminal(&stderr);
        let forced = variable("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let colour = variable("NO_COLOR").is_none() && (is_terminal || forced);
        match fd {
            Ok(fd) => Log::with_stream(format, level, colour, fd),
            Err(_) => Log::with(format, level, colour, Sink::datagram(journald::SOCKET)),
        }
    }

    /// Writes to this fd instead of stderr, except for `Journald`.
    pub fn with_stream(format: Format, level: Level, colour: bool, fd: OwnedFd) -> Log {
        let sink = match format {
            Format::Journald => Sink::datagram(journald::SOCKET),
            Format::Auto | Format::Human | Format::Logfmt | Format::Json => Sink::stream(fd),
        };
        Log::with(format, level, colour, sink)
    }

    fn with(format: Format, level: Level, colour: bool, sink: Sink) -> Log {
        let one_line_each = matches!(format, Format::Auto | Format::Human);
        let coalescer = Coalescer::new(one_line_each);
        Log { ring: Ring::new(), coalescer, sink, format, level, colour, lost: 0 }
    }

    /// Tells an event.
    pub fn emit(&mut self, at: Moment, event: Event) {
        if event.kind.is_remembered() {
            self.ring.push(at.wall, event.clone());
        }
        if event.is_quiet || event.level < self.level {
            return;
        }
        let mut out = Vec::new();
        self.coalescer.take(at.now, event, &mut out);
        self.write(at, &out);
    }

    /// Passes a worker's line on. `settled`: its worker has been ready for at least 10 s.
    pub fn relay(&mut self, at: Moment, event: Event, settled: bool) {
        if event.level < self.level {
            return;
        }
        let mut out = Vec::new();
        self.coalescer.relay(at.now, event, settled, &mut out);
        self.write(at, &out);
    }

    /// Writes summaries that are due.
    pub fn flush(&mut self, at: Moment) {
        let mut out = Vec::new();
        self.coalescer.flush(at.now, &mut out);
        self.write(at, &out);
    }

    /// When `flush` has something to do.
    pub fn next_deadline(&self) -> Option<u64> {
        self.coalescer.next_deadline()
    }

    /// While something could not be written: what to wait for (writable, one-shot), then call `drain`.
    pub fn blocked_fd(&self) -> Option<BorrowedFd<'_>> {
        self.sink.blocked_fd()
    }

    /// The fd that [`Log::blocked_fd`] has named or will name: also when nothing waits any more.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.sink.fd()
    }

    /// Writes what waits.
    pub fn drain(&mut self, at: Moment) {
        if self.sink.drain() {
            self.tell_lost(at);
        }
    }

    /// The end: all that waits is written as far as that goes without waiting.
    pub fn close(&mut self, at: Moment) {
        let mut out = Vec::new();
        self.coalescer.finish(at.now, &mut out);
        self.write(at, &out);
    }

    /// The recent events.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    fn write(&mut self, at: Moment, events: &[Event]) {
        for event in events {
            let piece = self.piece(at, event);
            self.sink.push(piece);
        }
        // Without something new there is nothing to try, unless nobody wakes us for what waits.
        if !events.is_empty() {
            self.drain(at);
        }
    }

    fn piece(&self, at: Moment, event: &Event) -> Vec<u8> {
        match self.format {
            Format::Auto | Format::Human => human::lines(at.wall, event, self.colour).into_bytes(),
            Format::Logfmt => (logfmt::line(at.wall, event) + "\n").into_bytes(),
            Format::Json => (json::object(None, at.wall, event) + "\n").into_bytes(),
            Format::Journald => journald::datagram(event),
        }
    }

    /// The sink is back: what was lost is said, once.
    fn tell_lost(&mut self, at: Moment) {
        self.lost += self.sink.take_dropped();
        if self.lost > 0 {
            let message = format!("{} log entries were dropped while the log could not be written", self.lost);
            let event = Event::new(Kind::SupervisorWarned).message(message);
            self.lost = 0;
            self.ring.push(at.wall, event.clone());
            let piece = self.piece(at, &event);
            self.sink.push(piece);
            self.sink.drain();
            // A sink that refuses even this (a full disk) is not told of again before the next event.
            self.lost += self.sink.take_dropped();
        }
    }
}

/// Whether an fd is the one that systemd names in JOURNAL_STREAM ("DEVICE:INODE").
fn is_stream(fd: BorrowedFd<'_>, stream: &str) -> bool {
    let Ok(stat) = rustix::fs::fstat(fd) else {
        return false;
    };
    stream
        .split_once(':')
        .is_some_and(|(device, inode)| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
