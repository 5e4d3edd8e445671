//! Whether a zygote that has loaded its application is fit to fork, as far as the kernel shows: its threads, which would
//! not be there in its workers, and what it has open, which all of them would share.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::sockopt::socket_type;
use rustix::net::{SocketAddrAny, SocketAddrUnix, SocketType, getpeername, getsockname};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::children::Pid;
use crate::output::escape;

/// So many fds and threads are looked at, and so many of them named.
const LOOKED_AT_MAX: usize = 4096;
const NAMED_MAX: usize = 8;
/// The link is this fd (`spawn.rs`); what is open there, and below, is ours.
const OURS: i32 = 3;

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fitness {
    /// It has one thread.
    pub(crate) may_fork: bool,
    /// For people: what stands in the way, and what is shared.
    pub(crate) warnings: Vec<String>,
}

/// Looks at a process; what cannot be seen is taken for good.
pub(crate) fn look(pid: Pid) -> Fitness {
    let proc = Path::new("/proc").join(pid.to_string());
    let mut warnings = Vec::new();
    let threads = threads(&proc, pid);
    if !threads.is_empty() {
        warnings.push(format!(
            "it has {} threads besides the main one ({}), which a fork does not take along: its workers are started one by \
             one instead. Start threads after the fork",
            threads.len(),
            listed(&threads)
        ));
    }
    let shared = shared(&proc, pid);
    if !shared.is_empty() {
        warnings.push(format!(
            "all of its workers would share what it has open: {}. Open it after the fork, in each worker",
            listed(&shared)
        ));
    }
    if let Some(warning) = room(&proc) {
        warnings.push(warning);
    }
    Fitness { may_fork: threads.is_empty(), warnings }
}

fn listed(names: &[String]) -> String {
    let mut text = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", names.len() - NAMED_MAX));
    }
    text
}

/// The names of all threads but the main one.
fn threads(proc: &Path, pid: Pid) -> Vec<String> {
    let Ok(tasks) = fs::read_dir(proc.join("task")) else {
        return Vec::new();
    };
    let others = tasks.flatten().take(LOOKED_AT_MAX).filter(|task| task.file_name().to_str() != Some(&pid.to_string()));
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    others.map(|task| escape(name(task).trim().as_bytes(), 64)).collect()
}

/// What is open besides what we gave it, and would be one thing in the hands of many.
fn shared(proc: &Path, pid: Pid) -> Vec<String> {
    let target = |fd: i32| fs::read_link(proc.join("fd").join(fd.to_string())).ok();
    let ours: Vec<_> = (0..=OURS).filter_map(target).collect();
    let Ok(fds) = fs::read_dir(proc.join("fd")) else {
        return Vec::new();
    };
    let mut numbers: Vec<i32> =
        fds.flatten().take(LOOKED_AT_MAX).filter_map(|fd| fd.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    let mut names = Vec::new();
    for number in numbers.into_iter().filter(|number| *number > OURS) {
        let Some(target) = target(number).filter(|target| !ours.contains(target)) else {
            continue;
        };
        let target = escape(target.as_os_str().as_encoded_bytes(), 200);
        let what = if target.starts_with("socket:") {
            let named = (names.len() < NAMED_MAX).then(|| socket(pid, number)).flatten();
            Some(named.unwrap_or_else(|| "a socket".to_owned()))
        } else if target.starts_with("pipe:") {
            Some("a pipe".to_owned())
        } else if target == "anon_inode:[signalfd]" {
            // signalfd(2): whoever reads it gets its own signals.
            None
        } else if let Some(kind) = target.strip_prefix("anon_inode:") {
            Some(kind.trim_matches(['[', ']']).to_owned())
        } else {
            // A log that is appended to can be shared, and so can what is only read or is a device.
            is_written(proc, number)
                .then(|| format!("{target}, to be written"))
                .filter(|_| !target.starts_with("/dev/"))
        };
        names.extend(what.map(|what| format!("fd {number} ({what})")));
    }
    names
}

/// Whether a file is open to be written at a place that is shared (proc(5), fdinfo: the flags are octal).
fn is_written(proc: &Path, fd: i32) -> bool {
    let info = fs::read_to_string(proc.join("fdinfo").join(fd.to_string())).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0);
    flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_APPEND == 0
}

/// With whom a socket of another process is connected, if that may be asked (pidfd_getfd(2) wants what reading its
/// /proc/PID/fd wants). The tables in /proc/net tell it too, but grow with every connection of the host.
fn socket(pid: Pid, fd: i32) -> Option<String> {
    let process = pidfd_open(pid.raw(), PidfdFlags::empty()).ok()?;
    let socket = pidfd_getfd(process, fd, PidfdGetfdFlags::empty()).ok()?;
    let (local, remote) = (getsockname(&socket).ok()?, getpeername(&socket).ok().flatten());
    let name = match (unix(&local), remote.as_ref().and_then(unix)) {
        (Some(local), remote) => {
            let path = [remote, Some(local)].into_iter().flatten().find(|path| !path.is_empty());
            format!("a unix socket{}", path.map(|path| format!(" at {path}")).unwrap_or_default())
        }
        (None, _) => internet(&socket, local, remote)?,
    };
    Some(name)
}

/// The path of a unix socket; empty where it has none.
fn unix(address: &SocketAddrAny) -> Option<String> {
    let address = SocketAddrUnix::try_from(address.clone()).ok()?;
    let name = address.path_bytes().or_else(|| address.abstract_name());
    Some(escape(name.unwrap_or_default(), 120))
}

fn internet(socket: &OwnedFd, local: SocketAddrAny, remote: Option<SocketAddrAny>) -> Option<String> {
    let kind = if socket_type(socket).ok()? == SocketType::DGRAM { "UDP" } else { "TCP" };
    Some(match remote {
        Some(remote) => format!("a {kind} connection to {}", std::net::SocketAddr::try_from(remote).ok()?),
        None => format!("a {kind} socket at {}", std::net::SocketAddr::try_from(local).ok()?),
    })
}

/// A warning when its workers would begin with hardly any fds left.
fn room(proc: &Path) -> Option<String> {
    let limits = fs::read_to_string(proc.join("limits")).ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    let limit: usize = line.split_ascii_whitespace().nth(3)?.parse().ok()?;
    let open = fs::read_dir(proc.join("fd")).ok()?.count();
    (open * 5 >= limit * 4)
        .then(|| format!("it has {open} files open, and each of its workers begins with them: {limit} are allowed"))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn ourselves() -> Pid {
        Pid::new(std::process::id().cast_signed()).expect("a pid")
    }

    #[test]
    fn threads_are_named() {
        let (started, wait) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let thread = std::thread::Builder::new().name("db-pool".into()).spawn(move || {
            started.0.send(()).expect("somebody waits");
            let _ = wait.1.recv();
        });
        started.1.recv().expect("it runs");
        let fitness = look(ourselves());
        assert!(!fitness.may_fork);
        assert!(fitness.warnings[0].contains("db-pool"), "{:?}", fitness.warnings);
        drop(wait.0);
        thread.expect("it runs").join().expect("it ends");
    }

    #[test]
    fn a_connection_is_named_by_its_other_end_and_files_only_when_written() {
        // Of a zygote the lowest ones are what it was given.
        let _given = [(); 4].map(|()| fs::File::open("/dev/null").expect("it is there"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let _connection = TcpStream::connect(address).expect("it listens");
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let _query = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let _door = UnixListener::bind(path("door")).expect("bound");
        let _visit = UnixStream::connect(path("door")).expect("it listens");
        let _pair = UnixStream::pair().expect("a pair");
        fs::write(path("read"), "x").expect("written");
        let _read = fs::File::open(path("read")).expect("it is there");
        let _written = fs::File::create(path("written")).expect("made");
        let _log = fs::OpenOptions::new().append(true).create(true).open(path("log")).expect("made");
        let text = shared(Path::new("/proc/self"), ourselves()).join("\n");
        assert!(text.contains(&format!("a TCP connection to {address}")), "{text}");
        assert!(text.contains(&format!("a TCP socket at {address}")), "{text}");
        assert!(text.contains("a UDP socket at 127.0.0.1:"), "{text}");
        assert_eq!(text.matches("/door)").count(), 2, "{text}");
        assert_eq!(text.matches("(a unix socket)").count(), 2, "{text}");
        assert!(text.contains("/written, to be written"), "{text}");
        assert!(!text.contains("/read") && !text.contains("/log"), "{text}");
    }
}
