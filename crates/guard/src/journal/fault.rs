//! Why a journal file cannot be read, or not to its end.

use std::fmt;
use std::io;

/// What stopped the reading of a file.
#[derive(Debug)]
pub enum Fault {
    /// The system refused.
    Io(io::Error),
    /// What stands there is impossible: damage, a half-written file, or no journal at all.
    Corrupt {
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The file is of a kind that this reader does not know.
    Unsupported(&'static str),
    /// `journalctl`, asked in our place, did not do it either.
    Journalctl(String),
}

impl Fault {
    pub(super) fn corrupt<T>(offset: u64, what: &'static str) -> Result<T, Fault> {
        Err(Fault::Corrupt { offset, what })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Io(error) => error.fmt(f),
            Fault::Corrupt { offset, what } => write!(f, "corrupt at byte {offset}: {what}"),
            Fault::Unsupported(what) => write!(f, "it has {what}, which is read by journalctl only"),
            Fault::Journalctl(what) => what.fmt(f),
        }
    }
}

impl std::error::Error for Fault {}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}
