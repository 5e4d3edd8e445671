//! Follows the journal: a child `journalctl --follow` that journald's own index spares all other entries.
//!
//! It is started at the last entry that was read, not behind it: where that one is gone (vacuumed) the next one there is
//! comes first and is not lost; where it is there it is known by its cursor and dropped. A child that ends is started
//! again, later each time; one that ends twice at the same place without a word is not sent there again, but to the time of
//! the last entry.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::entry::Entry;
use crate::errand::{never_wait, reason};
use crate::export::ExportReader;
use crate::moment::Id;
use crate::query::Query;
use crate::store::Place;
use crate::sys;

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Who has read for so long is well.
const WELL: Duration = Duration::from_secs(60);
/// So much is read in a turn.
const BLOCK: usize = 64 * 1024;
/// So much of what it complains about is kept.
const SAID_MAX: usize = 1024;
/// So often a cursor may lead to nothing.
const TRIES_MAX: u32 = 2;

/// What became of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing is there: wait.
    Empty,
    /// There may be more.
    More,
    /// The reader ended: why, and that it is started again.
    Ended(String),
}

/// The reader, and how far it has read.
///
/// `--merge` keeps journalctl from looking for the current boot only, which it learns from a file that a container's
/// sandbox may show as the host's; so that other machines' journals do not come with it, ours is named.
#[derive(Debug)]
pub(crate) struct Follower {
    query: Query,
    machine: Option<String>,
    place: Option<Place>,
    /// Where to begin without a place, in microseconds since 1970.
    since: u64,
    running: Option<Running>,
    again: Option<Instant>,
    pause: Duration,
    /// Runs from the same cursor that gave nothing.
    tries: u32,
    entry: Entry,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    output: ChildStdout,
    errors: Option<ChildStderr>,
    said: Vec<u8>,
    decoder: ExportReader,
    started: Instant,
    /// The entry that was read before, which comes first.
    known: Option<String>,
    /// Entries up to this moment were read before.
    floor: Option<u64>,
    is_silent: bool,
}

impl Follower {
    /// From `place` on, else from `since`.
    pub(crate) fn new(query: Query, place: Option<Place>, since: u64) -> Follower {
        Follower {
            query,
            machine: machine(),
            place,
            since,
            running: None,
            again: None,
            pause: PAUSE_FIRST,
            tries: 0,
            entry: Entry::default(),
            buffer: vec![0; BLOCK].into_boxed_slice(),
        }
    }

    /// How far it has read.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// What to wait for.
    pub(crate) fn add<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        if let Some(running) = &self.running {
            fds.push(PollFd::new(&running.output, PollFlags::IN));
            fds.extend(running.errors.as_ref().map(|errors| PollFd::new(errors, PollFlags::IN)));
        }
    }

    /// How long until it is started again.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        self.again.map(|again| again.saturating_duration_since(now))
    }

    /// Starts the reader where it must be, and reads a piece of what it has found.
    pub(crate) fn turn(&mut self, now: Instant, each: impl FnMut(&Entry)) -> Turn {
        if self.running.is_none() {
            if self.again.is_some_and(|again| now < again) {
                return Turn::Empty;
            }
            match self.start(now) {
                Ok(running) => {
                    self.running = Some(running);
                    self.again = None;
                }
                Err(why) => return self.later(now, &why),
            }
        }
        match self.read(now, each) {
            Ok(turn) => turn,
            Err(why) => self.end(now, &why),
        }
    }

    fn start(&self, now: Instant) -> Result<Running, String> {
        let mut command = Command::new("journalctl");
        command.args(["--follow", "--no-tail", "--no-pager"]);
        let (mut known, mut floor) = (None, None);
        match &self.place {
            Some(place) if self.tries < TRIES_MAX => {
                command.arg(format!("--cursor={}", place.cursor));
                known = Some(place.cursor.clone());
            }
            Some(place) => {
                command.arg(since(place.wall));
                floor = Some(place.wall);
            }
            None => {
                command.arg(since(self.since));
            }
        }
        match &self.machine {
            Some(machine) => command.arg("--merge").args(self.query.on_machine(machine).arguments()),
            None => command.args(self.query.arguments()),
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("NOTIFY_SOCKET");
        sys::unblock_signals(&mut command);
        sys::die_with_parent(&mut command);
        let failed = |error: io::Error| format!("cannot start journalctl: {}", reason(&error));
        let mut child = command.spawn().map_err(failed)?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let output = output.ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        let ready = never_wait(output.as_fd());
        ready.and_then(|()| errors.as_ref().map_or(Ok(()), |errors| never_wait(errors.as_fd()))).map_err(failed)?;
        let decoder = ExportReader::new(&self.query.fields);
        let said = Vec::new();
        Ok(Running { child, output, errors, said, decoder, started: now, known, floor, is_silent: true })
    }

    fn read(&mut self, now: Instant, mut each: impl FnMut(&Entry)) -> Result<Turn, String> {
        let Some(running) = &mut self.running else {
            return Ok(Turn::Empty);
        };
        running.hear();
        let count = match running.output.read(&mut self.buffer) {
            Ok(0) => return Err(running.last_words()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Turn::Empty),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Turn::More),
            Err(error) => return Err(format!("cannot read from journalctl: {}", reason(&error))),
        };
        let mut input = self.buffer.get(..count).unwrap_or_default();
        loop {
            match running.decoder.next(&mut input, &mut self.entry) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(format!("journalctl wrote what cannot be read: {error}")),
            }
            let cursor = self.entry.cursor.take().unwrap_or_default();
            let is_known = running.known.take().is_some_and(|known| known == cursor);
            let is_old = running.floor.is_some_and(|floor| self.entry.realtime <= floor);
            if is_known || is_old {
                continue;
            }
            running.floor = None;
            self.place = Some(Place { cursor, wall: self.entry.realtime });
            each(&self.entry);
        }
        running.is_silent = false;
        self.tries = 0;
        if now.saturating_duration_since(running.started) >= WELL {
            self.pause = PAUSE_FIRST;
        }
        Ok(Turn::More)
    }

    /// The reader is of no more use.
    fn end(&mut self, now: Instant, why: &str) -> Turn {
        if let Some(mut running) = self.running.take() {
            let _gone = running.child.kill();
            let _reaped = running.child.wait();
            self.tries += u32::from(running.is_silent && running.known.is_some());
            if now.saturating_duration_since(running.started) >= WELL {
                self.pause = PAUSE_FIRST;
            }
        }
        self.later(now, why)
    }

    fn later(&mut self, now: Instant, why: &str) -> Turn {
        let words = format!("the journal's reader ended: {why}; it is started again in {:?}", self.pause);
        self.again = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Turn::Ended(words)
    }
}

impl Running {
    /// What it complains about; whoever complains for ever is not heard for ever.
    fn hear(&mut self) {
        let mut buffer = [0; 1024];
        let Some(errors) = &mut self.errors else {
            return;
        };
        match errors.read(&mut buffer) {
            Ok(0) => self.errors = None,
            Ok(count) => {
                self.said.extend_from_slice(&buffer[..count]);
                let excess = self.said.len().saturating_sub(SAID_MAX);
                self.said.drain(..excess);
            }
            Err(_) => {}
        }
    }

    fn last_words(&mut self) -> String {
        self.hear();
        let said = String::from_utf8_lossy(&self.said);
        let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
        last.unwrap_or("it said nothing").chars().filter(|c| !c.is_control()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Ours, as journald writes it into each entry.
fn machine() -> Option<String> {
    let text = std::fs::read("/etc/machine-id").ok()?;
    Id::parse(text.trim_ascii()).map(|id| id.to_string())
}

fn since(wall: u64) -> String {
    format!("--since=@{}.{:06}", wall / 1_000_000, wall % 1_000_000)
}
