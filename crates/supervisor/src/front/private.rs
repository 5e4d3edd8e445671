//! The workers' private sockets: RUNTIME/pool/NAME/WORKERID, one for each worker's life.
//!
//! The supervisor binds them, so the directories are its own: nobody else can put a link into a place where root
//! changes owners and modes. The front's group may pass through a directory and connect to the sockets in it.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use steadfast_policy::ids::WorkerId;

use crate::listen_error::ListenError;
use crate::listener::{Listener, UnixSpec};

/// Connections that wait for a worker to accept them.
const BACKLOG: u32 = 8;
/// sun_path has 108 bytes with its NUL.
pub(crate) const PATH_MAX: usize = 107;
/// The longest number of a worker that is made room for: a million million lives.
pub(crate) const NUMBER_MAX: usize = 12;

/// Where they are.
#[derive(Clone, Debug)]
pub(crate) struct Rooms {
    base: PathBuf,
    /// The front's group; `None` when it is we.
    pub(crate) group: Option<u32>,
}

impl Rooms {
    /// Below this runtime directory.
    pub(crate) fn new(runtime_dir: PathBuf) -> Rooms {
        Rooms { base: runtime_dir.join("pool"), group: None }
    }

    /// Whether somebody of this user and these groups can come here at all. Errors are for people.
    pub(crate) fn reach(&self, who: &str, uid: u32, groups: &[u32]) -> Result<(), String> {
        for directory in self.base.ancestors().skip(1) {
            let Ok(metadata) = fs::metadata(directory) else {
                continue;
            };
            let mode = metadata.mode();
            let may_pass = match (metadata.uid() == uid, groups.contains(&metadata.gid())) {
                (true, _) => mode & 0o100 != 0,
                (false, true) => mode & 0o010 != 0,
                (false, false) => mode & 0o001 != 0,
            };
            if !may_pass {
                return Err(format!(
                    "{who} (user {uid}) cannot reach the private sockets: {} has mode {:04o}; \
                     let others pass (chmod o+x), or choose another `runtime-dir`",
                    directory.display(),
                    mode & 0o7777
                ));
            }
        }
        Ok(())
    }

    /// Removes what an earlier supervisor has left. The runtime directory's lock is held.
    pub(crate) fn clear(&self) -> Result<(), String> {
        match fs::remove_dir_all(&self.base) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(format!("cannot remove what an earlier supervisor left in {}: {error}", self.base.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes the directory of a pool. Errors are for people.
    pub(crate) fn open(&self, pool: &str) -> Result<(), String> {
        let directory = self.base.join(pool);
        let longest = directory.as_os_str().as_bytes().len() + 1 + NUMBER_MAX;
        if longest > PATH_MAX {
            return Err(format!(
                "the paths of private sockets in {} would have {longest} bytes, and the kernel takes {PATH_MAX}; \
                 give the supervisor a shorter `runtime-dir`, or the pool a shorter name",
                directory.display()
            ));
        }
        for path in [&self.base, &directory] {
            self.make(path).map_err(|error| format!("cannot make the directory {}: {error}", path.display()))?;
        }
        Ok(())
    }

    fn make(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        if !fs::symlink_metadata(path)?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        if let Some(group) = self.group {
            chown(path, None, Some(group))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o710))?;
        }
        Ok(())
    }

    /// Removes the directory of a pool that is no more, and the base with the last one.
    pub(crate) fn close(&self, pool: &str) {
        let _ = fs::remove_dir_all(self.base.join(pool));
        let _ = fs::remove_dir(&self.base);
    }

    /// Binds a worker's socket. `user` is the pool's, when it is not ours.
    pub(crate) fn bind(&self, pool: &str, worker: WorkerId, user: Option<u32>) -> Result<Listener, ListenError> {
        let path = self.base.join(pool).join(worker.0.to_string());
        let mode = if self.group.is_some() { 0o660 } else { 0o600 };
        Listener::bind_unix(&UnixSpec { path, mode, uid: user, gid: self.group, backlog: BACKLOG })
    }
}

/// A socket on loopback, at any free port, for a program that serves HTTP over TCP only (Starman does). Everybody on this
/// machine may connect to it while its worker lives, so it is for trials only.
pub(crate) fn bind_loopback() -> Result<Listener, ListenError> {
    Listener::bind_tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), BACKLOG)
}

/// A worker's socket after the supervisor has closed its own copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Private {
    /// Where the front connects.
    pub(crate) path: PathBuf,
    /// By which the kernel is asked for its queue.
    pub(crate) inode: u64,
    /// The worker has bound it, where its pool's user may put anything: the front looks whether it is the worker's.
    pub(crate) is_workers_own: bool,
    /// Where it listens on this machine's loopback instead, and has no path.
    pub(crate) loopback: Option<SocketAddr>,
}

impl Private {
    /// What is remembered of a socket that the worker has by now.
    pub(crate) fn of(listener: &Listener) -> Option<Private> {
        let loopback = listener.local_address();
        let path = match loopback {
            Some(_) => PathBuf::new(),
            None => listener.socket_path()?.path().to_owned(),
        };
        Some(Private { path, inode: listener.inode(), is_workers_own: false, loopback })
    }

    /// Nobody is to find it any more.
    pub(crate) fn unlink(&self) {
        if self.loopback.is_none() {
            let _gone_already = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o7777
    }

    #[test]
    fn a_socket_is_reached_while_its_worker_has_it() {
        let runtime = tempfile::tempdir().expect("a directory");
        let rooms = Rooms::new(runtime.path().to_owned());
        rooms.open("site").expect("made");
        rooms.open("site").expect("made before");
        assert_eq!(mode(&runtime.path().join("pool/site")), 0o700);
        let listener = rooms.bind("site", WorkerId(7), None).expect("bound");
        let private = Private::of(&listener).expect("bound");
        assert_eq!(private.path, runtime.path().join("pool/site/7"));
        assert_eq!(mode(&private.path), 0o600);
        UnixStream::connect(&private.path).expect("it listens");
        drop(listener);
        UnixStream::connect(&private.path).expect_err("nobody has it");
        private.unlink();
        assert!(!private.path.exists());
        rooms.close("site");
        assert!(!runtime.path().join("pool").exists());
    }

    #[test]
    fn the_fronts_group_may_pass_and_connect() {
        let runtime = tempfile::tempdir().expect("a directory");
        let group = rustix::process::getegid().as_raw();
        let rooms = Rooms { group: Some(group), ..Rooms::new(runtime.path().to_owned()) };
        rooms.open("site").expect("made");
        assert_eq!(mode(&runtime.path().join("pool")), 0o710);
        assert_eq!(mode(&runtime.path().join("pool/site")), 0o710);
        let listener = rooms.bind("site", WorkerId(7), None).expect("bound");
        assert_eq!(mode(listener.socket_path().expect("bound").path()), 0o660);
    }

    #[test]
    fn leftovers_go_and_links_are_not_followed() {
        let runtime = tempfile::tempdir().expect("a directory");
        let elsewhere = tempfile::tempdir().expect("a directory");
        fs::write(elsewhere.path().join("kept"), "x").expect("written");
        let rooms = Rooms::new(runtime.path().to_owned());
        rooms.clear().expect("nothing is there");
        rooms.open("site").expect("made");
        std::os::unix::fs::symlink(elsewhere.path(), runtime.path().join("pool/site/link")).expect("a link");
        rooms.clear().expect("ours");
        assert!(!runtime.path().join("pool").exists());
        assert!(elsewhere.path().join("kept").exists());
        std::os::unix::fs::symlink(elsewhere.path(), runtime.path().join("pool")).expect("a link");
        rooms.open("site").expect_err("a link is no room");
    }

    #[test]
    fn a_closed_door_on_the_way_is_named() {
        let runtime = tempfile::tempdir().expect("a directory");
        let rooms = Rooms::new(runtime.path().join("inner"));
        let own = fs::metadata(runtime.path()).expect("it is there");
        let (stranger, set) = (own.uid() + 1000, |mode| {
            fs::set_permissions(runtime.path(), fs::Permissions::from_mode(mode)).expect("ours");
        });
        set(0o701);
        rooms.reach("the front", stranger, &[]).expect("others may pass");
        set(0o710);
        rooms.reach("the front", stranger, &[own.gid()]).expect("the group may pass");
        let refused = rooms.reach("the front", stranger, &[]).expect_err("others may not");
        assert!(refused.contains(&format!("{} has mode 0710", runtime.path().display())), "{refused}");
        set(0o700);
        rooms.reach("the front", own.uid(), &[]).expect("its owner may pass");
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        let rooms = Rooms::new(PathBuf::from("/tmp").join("x".repeat(80)));
        assert!(rooms.open("a-long-name").expect_err("too long").contains("runtime-dir"));
    }
}
