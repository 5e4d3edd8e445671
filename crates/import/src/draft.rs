//! Pools in the making, and what they cannot say.

use std::collections::{BTreeMap, BTreeSet};

/// More pools than this in one import are a mistake.
const POOLS_MAX: usize = 1_000;
/// More words on one pool than this tell nobody anything.
const NOTES_MAX: usize = 1_000;

/// Where something stands that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file as messages show it; empty for a command line.
    pub file: String,
    /// From 1; `None` for the file as a whole.
    pub line: Option<usize>,
}

impl Place {
    /// A line of a file.
    pub(crate) fn line(file: &str, line: usize) -> Place {
        Place { file: file.to_owned(), line: Some(line) }
    }

    /// `rt5.service:12`, `rt5.service`, or nothing.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.line {
            Some(line) if !self.file.is_empty() => format!("{}:{line}", self.file),
            _ => self.file.clone(),
        }
    }
}

/// What a note means for who moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It was not translated, or not to the same: somebody must look at it.
    Lost,
    /// It is needless, or done in another way: only the file tells.
    Word,
}

/// One thing that a pool does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What becomes of it.
    pub weight: Weight,
    /// Where it stood.
    pub place: Place,
    /// What it was, and what to do.
    pub text: String,
}

/// `workers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workers {
    /// So many.
    Fixed(u64),
    /// As many as are needed.
    Range {
        /// Never fewer.
        min: u64,
        /// Never more.
        max: u64,
        /// How long one above `min` may be idle, in seconds.
        idle: Option<u64>,
    },
}

/// `socket`: what was said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Octal.
    pub mode: Option<String>,
    /// A user.
    pub owner: Option<String>,
    /// A group.
    pub group: Option<String>,
    /// listen(2)'s.
    pub backlog: Option<u64>,
}

/// One pool, as far as the other manager's file says; what is `None` or empty is left to the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// As proposed; the file gets it once no other pool has it.
    pub name: String,
    /// Where it stood.
    pub place: Place,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where workers start.
    pub directory: Option<String>,
    /// Who they are.
    pub user: Option<String>,
    /// Their group.
    pub group: Option<String>,
    /// Their variables.
    pub environment: BTreeMap<String, String>,
    /// Variables that are passed on.
    pub pass_environment: Vec<String>,
    /// Addresses, as a configuration writes them.
    pub listen: Vec<String>,
    /// The sockets.
    pub socket: Socket,
    /// Who may connect by TCP.
    pub allowed_clients: Vec<String>,
    /// `pass = "listen-fds"`: they find their socket by sd_listen_fds(3).
    pub is_passed_by_number: bool,
    /// How many.
    pub workers: Option<Workers>,
    /// Recycled after so many requests.
    pub max_requests: Option<u64>,
    /// Seconds.
    pub request_timeout: Option<u64>,
    /// Seconds.
    pub slow_request: Option<u64>,
    /// Seconds.
    pub stop_timeout: Option<u64>,
    /// Octal.
    pub umask: Option<String>,
    /// By name; `None` is unlimited.
    pub rlimits: BTreeMap<String, Option<u64>>,
    /// What the pool does not say.
    pub notes: Vec<Note>,
}

impl Pool {
    /// Something is lost.
    pub(crate) fn lost(&mut self, place: &Place, text: impl Into<String>) {
        self.note(Weight::Lost, place, text.into());
    }

    /// A word for who reads the file.
    pub(crate) fn word(&mut self, place: &Place, text: impl Into<String>) {
        self.note(Weight::Word, place, text.into());
    }

    fn note(&mut self, weight: Weight, place: &Place, text: String) {
        let note = Note { weight, place: place.clone(), text };
        if self.notes.len() < NOTES_MAX && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// What an import has made of its input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// With names that differ.
    pub pools: Vec<Pool>,
    /// What belongs to no pool.
    pub notes: Vec<Note>,
}

impl Draft {
    pub(crate) fn lost(&mut self, place: &Place, text: impl Into<String>) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(Note { weight: Weight::Lost, place: place.clone(), text: text.into() });
        }
    }

    pub(crate) fn word(&mut self, place: &Place, text: impl Into<String>) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(Note { weight: Weight::Word, place: place.clone(), text: text.into() });
        }
    }

    /// Adds a pool whose values fit, under a name that no other has.
    pub fn add(&mut self, mut pool: Pool) {
        if self.pools.len() >= POOLS_MAX {
            let place = pool.place.clone();
            self.lost(&place, format!("more than {POOLS_MAX} pools: this one was left out"));
            return;
        }
        let taken: BTreeSet<&str> = self.pools.iter().map(|other| other.name.as_str()).collect();
        let bare = pool.name.clone();
        let mut number = 2;
        while taken.contains(pool.name.as_str()) {
            let end = format!("-{number}");
            pool.name = format!("{}{end}", &bare[..bare.len().min(64 - end.len())]);
            number += 1;
        }
        self.pools.push(pool);
    }

    /// Every note of a weight, those of the pools with their names.
    pub fn notes_of(&self, weight: Weight) -> impl Iterator<Item = (Option<&str>, &Note)> {
        let own = self.notes.iter().map(|note| (None, note));
        let of_pools =
            self.pools.iter().flat_map(|pool| pool.notes.iter().map(|note| (Some(pool.name.as_str()), note)));
        own.chain(of_pools).filter(move |(_, note)| note.weight == weight)
    }
}
