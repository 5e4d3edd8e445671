//! What outlives the guard: how far each source was read and what the rules have counted by then, in one file.
//!
//! Both stand in the same file, written whole or not at all. So whatever moment a guard is killed at, what the next one
//! reads is a moment of the past, from which the same entries lead to the same counts.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::errand::reason;
use crate::machine::Saved;
use crate::moment::Moment;

/// More cannot be ours: a thousand lines of each of a thousand rules.
const STATE_MAX: u64 = 1 << 30;
const STATE: &str = "guard.json";

/// The place in a text file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Behind the last whole line.
    pub(crate) offset: u64,
}

/// The place in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The last entry that was read.
    pub(crate) cursor: String,
    /// When that was written.
    pub(crate) wall: u64,
}

/// One rule's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OfRule {
    /// What is counted for another unit is worth nothing.
    pub(crate) unit: String,
    pub(crate) saved: Saved,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) journal: Option<Place>,
    pub(crate) files: BTreeMap<PathBuf, Position>,
    pub(crate) rules: BTreeMap<String, OfRule>,
}

/// The state directory.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    /// Held as long as we live; `None`: another guard has it, or there is no directory, and nothing is written.
    lock: Option<File>,
}

impl Store {
    /// Opens the directory, and makes it where only its last part is missing; with what was kept there. The text is what
    /// people must know: why nothing is kept, or that what was kept cannot be read.
    pub(crate) fn open(directory: &Path) -> (Store, State, Option<String>) {
        let mut store = Store { directory: directory.to_owned(), lock: None };
        let failed = |what: &str, error: &io::Error| {
            format!(
                "cannot {what} {}: {}; what is counted is lost when the guard ends (name another place with --state-dir)",
                directory.display(),
                reason(error)
            )
        };
        let made = DirBuilder::new().mode(0o700).create(directory);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return (store, State::default(), Some(failed("make the state directory", &error)));
        }
        let lock = match open_private(&directory.join("guard.lock")) {
            Ok(lock) => lock,
            Err(error) => return (store, State::default(), Some(failed("write to the state directory", &error))),
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => store.lock = Some(lock),
            Err(_) => {
                let words = format!(
                    "another guard keeps its state in {}: this one keeps none, and acts on no unit that the other is at",
                    directory.display()
                );
                return (store, State::default(), Some(words));
            }
        }
        match store.read() {
            Ok(state) => (store, state, None),
            Err(error) => {
                let file = directory.join(STATE);
                let words = format!("cannot read {}: {}; the guard begins anew", file.display(), reason(&error));
                (store, State::default(), Some(words))
            }
        }
    }

    fn read(&self) -> io::Result<State> {
        let file = match File::open(self.directory.join(STATE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            file => file?,
        };
        let mut text = Vec::new();
        file.take(STATE_MAX).read_to_end(&mut text)?;
        serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
    }

    /// Writes it, for good where `is_sure`: then it is there even when the machine loses its power.
    pub(crate) fn write(&self, state: &State, is_sure: bool) -> Result<(), String> {
        if self.lock.is_none() {
            return Ok(());
        }
        let (file, new) = (self.directory.join(STATE), self.directory.join("guard.json.new"));
        let written = serde_json::to_vec(state).map_err(io::Error::from).and_then(|text| {
            let mut file = open_private(&new)?;
            file.set_len(0)?;
            file.write_all(&text)?;
            if is_sure { file.sync_data() } else { Ok(()) }
        });
        let written = written.and_then(|()| fs::rename(&new, &file));
        written.map_err(|error| format!("cannot save the guard's state as {}: {}", file.display(), reason(&error)))
    }

    /// Takes the unit for ourselves, until it is dropped.
    pub(crate) fn take_unit(&self, unit: &str) -> Taken {
        let Ok(file) = open_private(&self.directory.join(format!("{unit}.lock"))) else {
            // Where nothing can be written nobody else can be seen either.
            return Taken::Ours(UnitLock { file: None, acted: None });
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Taken::Theirs,
            Ok(()) | Err(_) => {
                let mut text = Vec::new();
                let read = (&file).take(4096).read_to_end(&mut text);
                let acted = read.ok().and_then(|_| serde_json::from_slice(&text).ok());
                Taken::Ours(UnitLock { file: Some(file), acted })
            }
        }
    }
}

/// Who is at a unit.
#[derive(Debug)]
pub(crate) enum Taken {
    /// We are.
    Ours(UnitLock),
    /// Another guard is.
    Theirs,
}

/// A unit that no other guard acts on.
#[derive(Debug)]
pub(crate) struct UnitLock {
    file: Option<File>,
    /// When a guard last began to act on it.
    pub(crate) acted: Option<Moment>,
}

impl UnitLock {
    /// We begin to act.
    pub(crate) fn write(&self, now: Moment) {
        if let Some(file) = &self.file
            && let Ok(text) = serde_json::to_vec(&now)
        {
            use std::os::unix::fs::FileExt;
            // It helps other guards only, and they have a second way to see it: the unit's invocation.
            let _unwritten = file.set_len(0).and_then(|()| file.write_all_at(&text, 0));
        }
    }
}

/// Whether somebody holds a lock (flock(1)) on this file; one that is not there nobody holds.
pub(crate) fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    matches!(flock(&file, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK))
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_only_one_guard_writes() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("state");
        let (store, state, said) = Store::open(&place);
        assert_eq!((state, said), (State::default(), None));
        let journal = Some(Place { cursor: "s=1".to_owned(), wall: 7 });
        let wanted = State { journal, ..State::default() };
        store.write(&wanted, true).expect("written");
        let (second, state, said) = Store::open(&place);
        assert_eq!(state, State::default());
        assert!(said.is_some_and(|said| said.contains("another guard")));
        second.write(&State::default(), false).expect("nothing to do");
        drop((store, second));
        let (_store, state, said) = Store::open(&place);
        assert_eq!((state, said), (wanted, None));
    }

    #[test]
    fn a_state_that_is_none_is_told_and_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join(STATE), "{\"rul").expect("written");
        let (store, state, said) = Store::open(directory.path());
        assert_eq!(state, State::default());
        assert!(said.is_some_and(|said| said.contains("begins anew")));
        store.write(&State::default(), false).expect("written");
        drop(store);
        assert_eq!(Store::open(directory.path()).2, None);
    }

    #[test]
    fn a_place_that_cannot_be_made_is_told_and_lived_without() {
        let (store, _, said) = Store::open(Path::new("/proc/nowhere/state"));
        assert!(said.is_some_and(|said| said.contains("--state-dir")));
        store.write(&State::default(), false).expect("nothing to do");
        assert!(matches!(store.take_unit("a.service"), Taken::Ours(_)));
    }

    #[test]
    fn a_unit_is_one_guard_s_and_tells_when_it_was_acted_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, _, _) = Store::open(directory.path());
        let (second, _, _) = Store::open(directory.path());
        let Taken::Ours(lock) = store.take_unit("a.service") else { panic!("free") };
        assert!(matches!(second.take_unit("a.service"), Taken::Theirs));
        assert!(matches!(second.take_unit("b.service"), Taken::Ours(_)));
        lock.write(Moment::on_wall(5));
        drop(lock);
        let Taken::Ours(lock) = second.take_unit("a.service") else { panic!("free again") };
        assert_eq!(lock.acted, Some(Moment::on_wall(5)));
    }

    #[test]
    fn a_deploy_s_lock_is_seen() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        assert!(!is_locked(&path));
        let file = open_private(&path).expect("a file");
        assert!(!is_locked(&path));
        flock(&file, FlockOperation::LockExclusive).expect("ours");
        assert!(is_locked(&path));
    }
}
