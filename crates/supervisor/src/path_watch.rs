//! Watches the directories of our socket paths, so that a deleted or replaced socket is noticed at once.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::listener::SocketPath;

/// One inotify instance for all sockets.
pub struct PathWatch {
    fd: OwnedFd,
    names: BTreeSet<Vec<u8>>,
}

impl AsFd for PathWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl PathWatch {
    /// Watches nothing yet.
    pub fn new() -> io::Result<PathWatch> {
        Ok(PathWatch { fd: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?, names: BTreeSet::new() })
    }

    /// Watches the directory of a path; adding the same again does nothing, or watches a directory made anew.
    ///
    /// Deletions, renames and creations only: attributes and connections wake nobody.
    pub fn add(&mut self, path: &SocketPath) -> io::Result<()> {
        let (Some(directory), Some(name)) = (path.path().parent(), path.path().file_name()) else {
            return Ok(());
        };
        let flags = WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CREATE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&self.fd, directory, flags)?;
        self.names.insert(name.as_encoded_bytes().to_vec());
        Ok(())
    }

    /// Empties the fd; true when something happened to a name of ours or to a whole directory, so that `still_ours`
    /// must be asked of each path.
    pub fn drain(&mut self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.fd, &mut buffer);
        let mut ours = false;
        let whole = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::QUEUE_OVERFLOW | ReadFlags::IGNORED;
        while let Ok(event) = reader.next() {
            let named = event.file_name().is_some_and(|name| self.names.contains(name.to_bytes()));
            ours |= named || event.events().intersects(whole);
        }
        ours
    }
}
