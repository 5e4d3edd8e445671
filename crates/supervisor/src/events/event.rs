//! One event: its kind, where it happened, and what there is to say.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::kind::{Kind, Level};

/// An instant on both clocks: the monotonic one decides, the wall one is written.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Monotonic nanoseconds.
    pub now: u64,
    /// For people.
    pub wall: SystemTime,
}

/// A fact for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub kind: Kind,
    /// How loud it is.
    pub level: Level,
    /// Which pool, or which rule of the guard; `None` is the supervisor, or the guard, itself.
    pub pool: Option<Arc<str>>,
    /// The unit that the guard looks after.
    pub unit: Option<String>,
    /// Which generation.
    pub generation: Option<u32>,
    /// Which slot.
    pub slot: Option<u32>,
    /// Which process.
    pub pid: Option<u32>,
    /// Exit class.
    pub class: Option<&'static str>,
    /// Exit code.
    pub code: Option<u8>,
    /// Number of the signal that ended it.
    pub signal: Option<u8>,
    /// The pool's or the worker's name for the end.
    pub name: Option<String>,
    /// Words.
    pub message: Option<String>,
    /// The request in flight: method and URI.
    pub request: Option<String>,
    /// The request's id.
    pub id: Option<String>,
    /// How long the request had taken by then.
    pub after: Option<Duration>,
    /// How long the process lived.
    pub ran: Option<Duration>,
    /// How long the thing took.
    pub took: Option<Duration>,
    /// Why.
    pub reason: Option<String>,
    /// Last lines of a worker's output, oldest first.
    pub stderr: Vec<String>,
    /// An unasked end: its pool is failing for the next minute.
    pub is_failure: bool,
    /// For the ring only.
    pub is_quiet: bool,
    /// How many events of this kind it stands for.
    pub times: u64,
    /// In how long they came, when there are several.
    pub over: Option<Duration>,
}

macro_rules! text_setters {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $($(#[$doc])* #[must_use] pub fn $name(mut self, text: impl Into<String>) -> Event {
            self.$name = Some(text.into());
            self
        })*
    };
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty)*) => {
        $($(#[$doc])* #[must_use] pub fn $name(mut self, value: $type) -> Event {
            self.$name = Some(value);
            self
        })*
    };
}

impl Event {
    /// With nothing but its kind.
    pub fn new(kind: Kind) -> Event {
        Event {
            kind,
            level: kind.level(),
            pool: None,
            unit: None,
            generation: None,
            slot: None,
            pid: None,
            class: None,
            code: None,
            signal: None,
            name: None,
            message: None,
            request: None,
            id: None,
            after: None,
            ran: None,
            took: None,
            reason: None,
            stderr: Vec::new(),
            is_failure: false,
            is_quiet: false,
            times: 1,
            over: None,
        }
    }

    /// Sets the pool.
    #[must_use]
    pub fn pool(mut self, pool: &Arc<str>) -> Event {
        self.pool = Some(Arc::clone(pool));
        self
    }

    setters! {
        /// Sets the generation.
        generation: u32
        /// Sets the slot.
        slot: u32
        /// Sets the process.
        pid: u32
        /// Sets the exit class.
        class: &'static str
        /// Sets the exit code.
        code: u8
        /// Sets the signal's number.
        signal: u8
        /// Sets the length of the life.
        ran: Duration
        /// Sets how long it took.
        took: Duration
        /// Sets how long the request had taken.
        after: Duration
    }

    text_setters! {
        /// Sets the unit.
        unit
        /// Sets the name of the end.
        name
        /// Sets the words.
        message
        /// Sets the request.
        request
        /// Sets the request's id.
        id
        /// Sets the reason.
        reason
    }

    /// Sets the last lines.
    #[must_use]
    pub fn stderr(mut self, lines: Vec<String>) -> Event {
        self.stderr = lines;
        self
    }

    /// Sets another level than the kind's.
    #[must_use]
    pub fn level(mut self, level: Level) -> Event {
        self.level = level;
        self
    }

    /// Makes it a failure of its pool.
    #[must_use]
    pub fn failure(mut self) -> Event {
        self.is_failure = true;
        self
    }

    /// Keeps it out of the log; the ring has it.
    #[must_use]
    pub fn quiet(mut self) -> Event {
        self.is_quiet = true;
        self
    }

    /// About how many bytes of memory it takes.
    pub fn size(&self) -> usize {
        let texts = [&self.unit, &self.name, &self.message, &self.request, &self.id, &self.reason];
        let lines: usize = self.stderr.iter().map(|line| line.capacity() + size_of::<String>()).sum();
        size_of::<Event>() + texts.into_iter().flatten().map(String::capacity).sum::<usize>() + lines
    }
}

/// An event with its number and its time.
#[derive(Clone, Debug)]
pub struct Stamped {
    /// Counts up from 1 without gaps.
    pub sequence: u64,
    /// When.
    pub wall: SystemTime,
    /// What.
    pub event: Event,
}
