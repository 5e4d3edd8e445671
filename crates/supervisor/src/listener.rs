//! Listening sockets: bound, adopted, found again when their path is lost.
//!
//! They block, although the supervisor never accepts: workers inherit the open file description, and programs that know
//! only accept(2) would spin on EAGAIN. A unix socket is bound under a temporary name in its directory, gets its mode
//! and owner there, and is renamed into place when it listens: whoever finds the name can connect, and a stale file is
//! replaced without a moment in which there is none.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use steadfast_proto::estate;

use crate::listen_error::{Attempt, ListenError};

/// How the names of what is kept for a later life begin.
pub(crate) const KEPT: &str = "steadfast-kept-";
/// sun_path has 108 bytes with its NUL.
const UNIX_PATH_MAX: usize = 107;

/// A unix socket to be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSpec {
    /// Absolute.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// `None`: ours.
    pub uid: Option<u32>,
    /// `None`: ours.
    pub gid: Option<u32>,
    /// listen(2)'s.
    pub backlog: u32,
}

/// A listening stream socket, blocking and close-on-exec.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    address: String,
    inode: u64,
    bound: Option<(UnixSpec, SocketPath)>,
    local: Option<SocketAddr>,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Listener {
    /// Binds a unix socket. A stale socket file is replaced; a live one is never touched, nor is what is no socket.
    pub fn bind_unix(spec: &UnixSpec) -> Result<Listener, ListenError> {
        let address = format!("unix:{}", spec.path.display());
        let failed = |attempt: Attempt| {
            let address = address.clone();
            move |error: io::Error| ListenError::new(&address, attempt, error)
        };
        let temporary = temporary_name(&spec.path).map_err(failed(Attempt::Name))?;
        refuse_living(&spec.path).map_err(failed(Attempt::Replace))?;
        let fd = stream_socket(AddressFamily::UNIX).map_err(failed(Attempt::Socket))?;
        bind_path(&fd, &temporary).map_err(failed(Attempt::Bind))?;
        let placed = place(&fd, spec, &temporary).and_then(|path| {
            let inode = inode_of(&fd).map_err(|error| (Attempt::Socket, error))?;
            Ok((path, inode))
        });
        match placed {
            Ok((path, inode)) => Ok(Listener { fd, address, inode, bound: Some((spec.clone(), path)), local: None }),
            Err((attempt, error)) => {
                let _gone_already = fs::remove_file(&temporary);
                Err(failed(attempt)(error))
            }
        }
    }

    /// Binds a TCP socket. A v6 address serves v6 only: what `[::]` means must not depend on a sysctl.
    pub fn bind_tcp(address: SocketAddr, backlog: u32) -> Result<Listener, ListenError> {
        let text = address.to_string();
        let failed = |attempt: Attempt| {
            let text = text.clone();
            move |errno: Errno| ListenError::new(&text, attempt, errno.into())
        };
        let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let fd = stream_socket(family).map_err(|error| ListenError::new(&text, Attempt::Socket, error))?;
        // Without it a restart would wait for old connections in TIME_WAIT.
        sockopt::set_socket_reuseaddr(&fd, true).map_err(failed(Attempt::Socket))?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, true).map_err(failed(Attempt::Socket))?;
        }
        rustix::net::bind(&fd, &address).map_err(failed(Attempt::Bind))?;
        rustix::net::listen(&fd, backlog_of(backlog)).map_err(failed(Attempt::Listen))?;
        let inode = inode_of(&fd).map_err(|error| ListenError::new(&text, Attempt::Socket, error))?;
        let local = local_of(&fd);
        Ok(Listener { fd, address: text, inode, bound: None, local })
    }

    /// Takes back a unix socket that was kept since an earlier life of ours, if the path still leads to it; gives it the bits
    /// of `spec`.
    pub fn restore_unix(fd: OwnedFd, name: &str, spec: &UnixSpec) -> Option<Listener> {
        let path = SocketPath::of(&spec.path, &fs::symlink_metadata(&spec.path).ok()?);
        if keepsake_of_path(&path) != name {
            return None;
        }
        let listener = Listener::adopt(fd, &format!("unix:{}", spec.path.display())).ok()?;
        std::os::unix::fs::lchown(&spec.path, spec.uid, spec.gid).ok()?;
        rustix::fs::chmod(&spec.path, Mode::from_raw_mode(spec.mode & 0o7777)).ok()?;
        rustix::net::listen(&listener.fd, backlog_of(spec.backlog)).ok()?;
        Some(Listener { bound: Some((spec.clone(), path)), ..listener })
    }

    /// Takes back a TCP socket that was kept since an earlier life of ours, if it is of this address.
    pub fn restore_tcp(fd: OwnedFd, address: SocketAddr, backlog: u32) -> Option<Listener> {
        let listener = Listener::adopt(fd, &address.to_string()).ok().filter(|kept| kept.local == Some(address))?;
        rustix::net::listen(&listener.fd, backlog_of(backlog)).ok()?;
        Some(listener)
    }

    /// What a later image of ours takes over, as long as the socket stays open.
    pub(crate) fn leave(&self) -> estate::Socket {
        let path = self.bound.as_ref().map(|(spec, path)| estate::Path {
            path: path.path.to_string_lossy().into_owned(),
            device: path.device,
            inode: path.inode,
            mode: spec.mode,
            uid: spec.uid,
            gid: spec.gid,
            backlog: spec.backlog,
        });
        estate::Socket { fd: self.fd.as_raw_fd(), address: self.address.clone(), path }
    }

    /// Takes that over, with its socket.
    pub(crate) fn take_over(left: estate::Socket, fd: OwnedFd) -> Result<Listener, ListenError> {
        let inode = inode_of(&fd).map_err(|error| ListenError::new(&left.address, Attempt::Adopt, error))?;
        let local = local_of(&fd);
        let bound = left.path.map(|left| {
            let estate::Path { path, device, inode, mode, uid, gid, backlog } = left;
            let path = PathBuf::from(path);
            (UnixSpec { path: path.clone(), mode, uid, gid, backlog }, SocketPath { path, device, inode })
        });
        Ok(Listener { fd, address: left.address, inode, bound, local })
    }

    /// Whether a keepsake of this name may be of this path.
    pub fn may_be_of_path(name: &str, path: &Path) -> bool {
        let hash = format!("{KEPT}{:016x}-", fnv(path.as_os_str().as_encoded_bytes()));
        name.starts_with(&hash)
    }

    /// Whether a keepsake of this name is of this address.
    pub fn is_of_address(name: &str, address: SocketAddr) -> bool {
        name == keepsake_of_address(address)
    }

    /// The name under which somebody may keep it for a later life of ours; `None` for one that is not ours to keep.
    pub fn keepsake(&self) -> Option<String> {
        match (&self.bound, self.local) {
            (Some((_, path)), _) => Some(keepsake_of_path(path)),
            // Adopted ones are kept by whoever has made them.
            (None, Some(local)) if local.to_string() == self.address => Some(keepsake_of_address(local)),
            (None, _) => None,
        }
    }

    /// Takes a socket that somebody else has bound, if it is a listening stream socket.
    pub fn adopt(fd: OwnedFd, name: &str) -> Result<Listener, ListenError> {
        let failed = |errno: Errno| ListenError::new(name, Attempt::Adopt, errno.into());
        let is_stream = sockopt::socket_type(&fd).map_err(failed)? == SocketType::STREAM;
        if !is_stream || !sockopt::socket_acceptconn(&fd).map_err(failed)? {
            return Err(failed(Errno::INVAL));
        }
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC).map_err(failed)?;
        make_blocking(&fd).map_err(failed)?;
        let inode = inode_of(&fd).map_err(|error| ListenError::new(name, Attempt::Adopt, error))?;
        let local = local_of(&fd);
        Ok(Listener { fd, address: name.to_owned(), inode, bound: None, local })
    }

    /// The address as configured: `unix:/x`, `127.0.0.1:9000`, `fd:3`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The path of a unix socket that we bound.
    pub fn socket_path(&self) -> Option<&SocketPath> {
        self.bound.as_ref().map(|(_, path)| path)
    }

    /// Whether clients come over TCP.
    pub fn is_tcp(&self) -> bool {
        self.local.is_some()
    }

    /// Of TCP sockets: the address with its real port.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.local
    }

    /// The socket's inode, by which `/proc/net` and sock_diag name it.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Binds the path again after it was lost. Until that has succeeded the old socket stays; workers that hold it must
    /// be replaced, for no new client finds it any more.
    pub fn rebind(&mut self) -> Result<(), ListenError> {
        if let Some((spec, _)) = &self.bound {
            *self = Listener::bind_unix(&spec.clone())?;
        }
        Ok(())
    }

    /// Unlinks the path if it is still ours: another's socket of that name is left alone.
    pub fn unlink(&self) {
        if let Some(path) = self.socket_path().filter(|path| path.still_ours()) {
            let _gone_already = fs::remove_file(path.path());
        }
    }
}

/// A socket's place in the file system, and which file it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPath {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketPath {
    fn of(path: &Path, metadata: &fs::Metadata) -> SocketPath {
        SocketPath { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() }
    }

    /// Where.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to our socket, and not to nothing or to another's.
    pub fn still_ours(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|now| SocketPath::of(&self.path, &now) == *self)
    }
}

/// Names the path, by a hash, and which file it was: another one of that name is not this socket's.
fn keepsake_of_path(path: &SocketPath) -> String {
    format!("{}{:016x}-{:x}-{:x}", KEPT, fnv(path.path.as_os_str().as_encoded_bytes()), path.device, path.inode)
}

/// A name in systemd's fd store has no colon.
fn keepsake_of_address(address: SocketAddr) -> String {
    format!("{KEPT}{}", address.to_string().replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "_"))
}

/// FNV-1a: enough to tell some paths apart, and the file decides.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

fn make_blocking(fd: &OwnedFd) -> Result<(), Errno> {
    use rustix::fs::OFlags;
    let flags = rustix::fs::fcntl_getfl(fd)?;
    if flags.contains(OFlags::NONBLOCK) {
        rustix::fs::fcntl_setfl(fd, flags - OFlags::NONBLOCK)?;
    }
    Ok(())
}

fn backlog_of(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

fn inode_of(fd: &OwnedFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(fd)?.st_ino)
}

fn local_of(fd: &OwnedFd) -> Option<SocketAddr> {
    let name: SocketAddrAny = rustix::net::getsockname(fd).ok()?;
    SocketAddr::try_from(name).ok()
}

/// A name beside `path` for as long as the socket is not ready.
fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    if !path.is_absolute() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let (Some(directory), Some(_)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    if path.as_os_str().len() > UNIX_PATH_MAX {
        return Err(Errno::NAMETOOLONG.into());
    }
    let number = rustix::process::getpid().as_raw_nonzero();
    for attempt in 0..1000 {
        let name = directory.join(format!(".s{number}.{attempt}"));
        // A socket of this name is what an earlier process with our pid left behind; sockets only, and never a live one.
        match refuse_living(&name) {
            Ok(()) => {
                let _none = fs::remove_file(&name);
                return Ok(name);
            }
            Err(error) if is_taken(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EXIST.into())
}

fn is_taken(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ADDRINUSE | Errno::NOTSOCK))
}

/// bind(2) to a path that may be longer than sun_path by some bytes: then through an fd of its directory.
fn bind_path(fd: &OwnedFd, path: &Path) -> io::Result<()> {
    use rustix::fs::OFlags;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    if path.as_os_str().len() <= UNIX_PATH_MAX {
        return Ok(rustix::net::bind(fd, &SocketAddrUnix::new(path)?)?);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok(rustix::net::bind(fd, &SocketAddrUnix::new(path)?)?)
}

/// An error unless `path` is free or a stale socket. A socket whose backlog is full answers EAGAIN and lives.
fn refuse_living(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(Errno::NOTSOCK.into());
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // A temporary name may be too long to connect to; nobody could, so nobody does.
    let Ok(name) = SocketAddrUnix::new(path) else {
        return Ok(());
    };
    match rustix::net::connect(&probe, &name) {
        // PROTOTYPE: it is a datagram socket, so somebody else's.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS | Errno::PROTOTYPE) => Err(Errno::ADDRINUSE.into()),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Gives the bound socket its mode and owner, makes it listen and moves it to its place.
fn place(fd: &OwnedFd, spec: &UnixSpec, temporary: &Path) -> Result<SocketPath, (Attempt, io::Error)> {
    let at = |attempt: Attempt| move |errno: Errno| (attempt, io::Error::from(errno));
    // Owner first: chown may clear mode bits.
    if spec.uid.is_some() || spec.gid.is_some() {
        let (uid, gid) = (spec.uid.map(Uid::from_raw), spec.gid.map(Gid::from_raw));
        rustix::fs::chownat(CWD, temporary, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(at(Attempt::Owner))?;
    }
    rustix::fs::chmod(temporary, Mode::from_raw_mode(spec.mode & 0o7777)).map_err(at(Attempt::Mode))?;
    rustix::net::listen(fd, backlog_of(spec.backlog)).map_err(at(Attempt::Listen))?;
    let metadata = fs::symlink_metadata(temporary).map_err(|error| (Attempt::Bind, error))?;
    // Somebody may have bound the name while we were busy; what is left is a gap of microseconds.
    refuse_living(&spec.path).map_err(|error| (Attempt::Replace, error))?;
    rustix::fs::rename(temporary, &spec.path).map_err(at(Attempt::Replace))?;
    Ok(SocketPath::of(&spec.path, &metadata))
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
