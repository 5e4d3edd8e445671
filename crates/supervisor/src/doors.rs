//! Where a worker that a zygote forks finds its stdout, its stderr and its link, and where it binds its private socket.
//!
//! A zygote may be written in any language, and most have no call that takes an fd out of a message. So everything is a
//! path. RUNTIME/link/POOL is ours, and nobody else can put anything there: two FIFOs and a listening socket for each
//! order to fork, which belong to the pool's user and are removed when it is answered. RUNTIME/fork/UID/POOL belongs to the
//! pool's user, with the front's group: there the worker binds. Nothing in there is ever opened or changed by us,
//! only unlinked; and whoever connects to a socket in there looks whose it is.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, socket_with};
use steadfast_policy::ids::WorkerId;

use crate::children::Pid;
use crate::front::private::{NUMBER_MAX, PATH_MAX};
use crate::sys;

/// The longest ending of a name in there.
const ENDING_MAX: usize = ".link".len();

/// So much is removed of what is in one directory.
const SWEPT_MAX: usize = 10_000;

/// Both trees.
#[derive(Clone, Debug)]
pub(crate) struct Halls {
    runtime: PathBuf,
}

/// What is open for one order.
#[derive(Debug)]
pub(crate) struct Doors {
    link: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    /// Of stdout, stderr and the link.
    paths: [PathBuf; 3],
}

/// What came through them.
#[derive(Debug)]
pub(crate) struct Entered {
    /// What the worker says to fd 1.
    pub(crate) stdout: OwnedFd,
    /// What the worker says to fd 2.
    pub(crate) stderr: OwnedFd,
    /// Its link, if it has made one.
    pub(crate) link: Option<OwnedFd>,
    /// Another process than the worker itself had connected: its connection was closed.
    pub(crate) has_stranger: bool,
}

impl Halls {
    /// Below this runtime directory.
    pub(crate) fn new(runtime: PathBuf) -> Halls {
        Halls { runtime }
    }

    fn links(&self) -> PathBuf {
        self.runtime.join("link")
    }

    fn sockets(&self) -> PathBuf {
        self.runtime.join("fork")
    }

    /// Where the workers of a pool bind. A user's own, for a reload may give the pool to another one, while those of the old
    /// one still serve.
    fn room(&self, pool: &str, user: Option<u32>) -> PathBuf {
        let user = user.map_or_else(|| "own".to_owned(), |user| user.to_string());
        self.sockets().join(user).join(pool)
    }

    /// Removes what an earlier supervisor has left. The runtime directory's lock is held.
    pub(crate) fn clear(&self) {
        self.sweep(names);
    }

    /// Removes the rooms that `of` names in each hall, and halls that are empty then.
    fn sweep(&self, of: impl Fn(&Path) -> Vec<PathBuf>) {
        for hall in [vec![self.links()], names(&self.sockets())].concat() {
            of(&hall).iter().for_each(|room| sweep(room));
            let _ = fs::remove_dir(hall);
        }
        let _ = fs::remove_dir(self.sockets());
    }

    /// Makes the directories of a pool whose workers are forked. `user` is the pool's when it is not ours, `group` the
    /// front's when it is not ours. Errors are for people.
    pub(crate) fn open(&self, pool: &str, user: Option<u32>, group: Option<u32>) -> Result<(), String> {
        let (links, sockets) = (self.links().join(pool), self.room(pool, user));
        let length = |path: &Path| path.as_os_str().as_bytes().len() + 1 + NUMBER_MAX;
        let longest = (length(&links) + ENDING_MAX).max(length(&sockets));
        if longest > PATH_MAX {
            return Err(format!(
                "the paths of sockets in {} would have {longest} bytes, and the kernel takes {PATH_MAX}; give the \
                 supervisor a shorter `runtime-dir`, or the pool a shorter name",
                links.display()
            ));
        }
        // The workers come here themselves, and the front connects to what they have bound.
        let (hall, room) = if user.is_some() { (0o711, 0o2750) } else { (0o700, 0o700) };
        let of_user = sockets.parent().map(Path::to_owned).unwrap_or_default();
        let halls = [self.links(), self.sockets(), links, of_user].map(|path| (path, hall));
        let made = halls.into_iter().chain([(sockets.clone(), room)]);
        for (path, mode) in made {
            let cannot = |error| format!("cannot make the directory {}: {error}", path.display());
            make(&path, mode, (path == sockets).then_some((user, group))).map_err(cannot)?;
        }
        Ok(())
    }

    /// Removes the directories of a pool that is no more, and their parents with the last one.
    pub(crate) fn close(&self, pool: &str) {
        self.sweep(|hall| vec![hall.join(pool)]);
    }

    /// Where a forked worker binds its private socket.
    pub(crate) fn socket(&self, pool: &str, worker: WorkerId, user: Option<u32>) -> PathBuf {
        self.room(pool, user).join(worker.0.to_string())
    }

    /// Opens the doors for one order. `user` is the pool's, when it is not ours.
    pub(crate) fn doors(&self, pool: &str, worker: WorkerId, user: Option<u32>) -> io::Result<Doors> {
        let at = |ending: &str| self.links().join(pool).join(format!("{}.{ending}", worker.0));
        let paths = [at("out"), at("err"), at("link")];
        let [stdout, stderr, link] = &paths;
        let made = listen(link, user).and_then(|link| Ok((link, fifo(stdout, user)?, fifo(stderr, user)?)));
        match made {
            Ok((link, stdout, stderr)) => Ok(Doors { link, stdout, stderr, paths }),
            Err(error) => {
                remove(&paths);
                Err(error)
            }
        }
    }
}

/// What is in a directory; nothing, when it cannot be read.
fn names(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().take(SWEPT_MAX).map(|entry| entry.path()).collect()
}

/// Empties a directory in which a stranger may have made what he liked, and removes it: one level deep, for how deep his
/// directories are is up to him, and nothing is followed. What remains is in nobody's way.
fn sweep(room: &Path) {
    remove(&names(room));
    let _ = fs::remove_dir(room);
}

fn remove(paths: &[PathBuf]) {
    for path in paths {
        let _gone_already = fs::remove_file(path);
    }
}

fn make(path: &Path, mode: u32, owner: Option<(Option<u32>, Option<u32>)>) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    if !fs::symlink_metadata(path)?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    // The parent is ours, so nobody can have put a link here in between.
    if let Some((user, group)) = owner {
        chown(path, user, group)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Binds a socket for this user, that does not block. Each worker's name is new and nobody else can put anything there, so
/// the name is not looked at before; and nobody is told of it until it listens.
fn listen(path: &Path, user: Option<u32>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
    // Owner first: chown may clear mode bits.
    if user.is_some() {
        lchown(path, user, None)?;
    }
    rustix::fs::chmod(path, Mode::from_raw_mode(0o600))?;
    rustix::net::listen(&fd, 1)?;
    Ok(fd)
}

/// Makes a FIFO for this user and opens its end for reading, which does not block.
fn fifo(path: &Path, user: Option<u32>) -> io::Result<OwnedFd> {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    if let Some(user) = user {
        rustix::fs::fchown(&fd, Some(rustix::process::Uid::from_raw(user)), None)?;
    }
    Ok(fd)
}

impl Doors {
    /// The paths of stdout, stderr and the link, for the order.
    pub(crate) fn paths(&self) -> [String; 3] {
        self.paths.each_ref().map(|path| path.to_string_lossy().into_owned())
    }

    /// The worker is there: what it has made of the doors. They are closed behind it.
    pub(crate) fn enter(self, worker: Pid) -> Entered {
        let (mut link, mut has_stranger) = (None, false);
        // It has connected before it was told of; with the backlog of 1 there are at most two.
        for _ in 0..2 {
            let Ok(fd) = accept_with(&self.link, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else {
                break;
            };
            if sys::peer(std::os::fd::AsFd::as_fd(&fd)).is_ok_and(|peer| peer.pid == worker.get()) {
                link = Some(fd);
            } else {
                has_stranger = true;
            }
        }
        self.unlink();
        let Doors { stdout, stderr, .. } = self;
        Entered { stdout, stderr, link, has_stranger }
    }

    /// Nobody is to come through any more.
    pub(crate) fn unlink(&self) {
        remove(&self.paths);
    }
}
