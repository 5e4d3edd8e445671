//! Starts one worker: pipes, fork, the steps in the child, exec, and the answer whether it succeeded.
//!
//! Our own fork and exec instead of `std::process::Command`: an error must name its step, LISTEN_PID is the child's
//! pid, and the order of the steps matters. The child reports a failure on a pipe that a successful exec closes, so
//! the answer is there when `spawn` returns.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::{Gid, PidfdFlags, Resource, Rlimit, Uid};
use steadfast_proto::link::Role;

use crate::child::{self, Plan, TARGETS_MAX, WorkingDirectory};
use crate::children::{self, Kill, Nofile, Pid};
use crate::environment::{self, Environment};
use crate::spawn_error::{SpawnError, Step};
use crate::sys::{self, Image};

/// Everything about a worker's process.
pub struct WorkerSpec<'a> {
    /// What is executed: resolved and absolute.
    pub program: &'a Path,
    /// The same as an O_PATH fd, tried first: it stays the same file when the path is replaced.
    pub executable: Option<BorrowedFd<'a>>,
    /// argv, argv\[0\] included.
    pub arguments: &'a [OsString],
    /// Its environment, except for what tells it about inherited descriptors.
    pub environment: &'a Environment,
    /// Where it begins.
    pub directory: Directory<'a>,
    /// Who it is; `None` is who we are.
    pub credentials: Option<&'a Credentials>,
    /// `None` is ours.
    pub umask: Option<u32>,
    /// Soft and hard limits alike; `u64::MAX` is unlimited.
    pub rlimits: &'a [(Limit, u64)],
    /// What `raise_nofile` gave: the soft limit of files goes back to what it was, unless `rlimits` has another.
    pub nofile: Nofile,
    /// How it gets its sockets.
    pub pass: Pass<'a>,
    /// Make a link, and set STEADFAST_LINK and STEADFAST_ROLE.
    pub link: Option<Role>,
    /// The control group (of the second kind) in which it begins, by an fd of its directory; `None` is ours.
    pub group: Option<BorrowedFd<'a>>,
}

/// A user, a group and all supplementary groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Real, effective and saved user.
    pub uid: u32,
    /// Real, effective and saved group.
    pub gid: u32,
    /// Exactly these, no others.
    pub groups: Vec<u32>,
}

/// A working directory.
#[derive(Clone, Copy, Debug)]
pub enum Directory<'a> {
    /// By its path.
    Path(&'a Path),
    /// Opened before: it stays the same when the path leads elsewhere.
    Fd(BorrowedFd<'a>),
}

/// How a worker gets its listening sockets.
#[derive(Clone, Copy, Debug)]
pub enum Pass<'a> {
    /// As fd 0 (FastCGI 1.0 §2.2).
    Stdin(BorrowedFd<'a>),
    /// As fds from 3 on, by sd_listen_fds(3); stdin is /dev/null.
    ListenFds {
        /// The sockets.
        fds: &'a [BorrowedFd<'a>],
        /// Their names, as many; a `:` in one is refused.
        names: &'a [&'a str],
    },
    /// As fds from 3 on, as Server::Starter does; stdin is /dev/null.
    ServerStarter {
        /// The sockets.
        fds: &'a [BorrowedFd<'a>],
        /// `SERVER_STARTER_PORT`.
        ports: &'a str,
        /// `SERVER_STARTER_GENERATION`, which counts from 1.
        generation: u32,
    },
    /// None; stdin is /dev/null.
    Nothing,
    /// None, but this one as fd 3: the front's channel. stdin is /dev/null.
    Channel(BorrowedFd<'a>),
}

/// A resource limit that a pool may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(Resource);

impl Limit {
    /// By its RLIMIT_ name in lower case without the prefix.
    pub fn from_name(name: &str) -> Option<Limit> {
        Some(Limit(match name {
            "as" => Resource::As,
            "core" => Resource::Core,
            "cpu" => Resource::Cpu,
            "data" => Resource::Data,
            "fsize" => Resource::Fsize,
            "locks" => Resource::Locks,
            "memlock" => Resource::Memlock,
            "msgqueue" => Resource::Msgqueue,
            "nice" => Resource::Nice,
            "nofile" => Resource::Nofile,
            "nproc" => Resource::Nproc,
            "rss" => Resource::Rss,
            "rtprio" => Resource::Rtprio,
            "rttime" => Resource::Rttime,
            "sigpending" => Resource::Sigpending,
            "stack" => Resource::Stack,
            _ => return None,
        }))
    }
}

/// A worker that runs its program. All fds are non-blocking and close-on-exec.
#[derive(Debug)]
pub struct Spawned {
    /// Its pid, and its process group.
    pub pid: Pid,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
    /// What it writes to fd 1.
    pub stdout: OwnedFd,
    /// What it writes to fd 2.
    pub stderr: OwnedFd,
    /// Our end of its link.
    pub link: Option<OwnedFd>,
    /// Why it is not in the control group where it should be.
    pub outside: Option<io::Error>,
}

/// How long fork and exec may take: only a file system that hangs takes longer than milliseconds.
const EXEC_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts a worker. Main thread only: PDEATHSIG fires when the thread that forked ends, not the process.
///
/// When it returns `Ok`, exec has succeeded. It waits for that, typically less than a millisecond and at most 5 s;
/// then the child is killed, and left for `next_news` to find.
pub fn spawn(spec: &WorkerSpec<'_>) -> Result<Spawned, SpawnError> {
    let failed = |step: Step| move |error: io::Error| SpawnError::new(step, errno_of(&error), spec.program);
    let ends = Ends::new(spec).map_err(failed(Step::Pipe))?;
    let inherited = ends.inherited(spec.pass);
    let mut image = image(spec, &inherited).ok_or_else(|| {
        SpawnError::new(Step::Prepare, libc::EINVAL, spec.program)
            .hint("no argument, variable or path may contain a NUL byte, no socket name a colon")
    })?;
    let strings = Strings::new(spec)
        .ok_or_else(|| SpawnError::new(Step::Prepare, libc::EINVAL, spec.program).hint("a path contains a NUL byte"))?;
    let limits = limits(spec);
    let credentials = spec.credentials;
    let groups = credentials.map(|who| who.groups.iter().copied().map(Gid::from_raw).collect::<Vec<_>>());
    let plan = Plan {
        parent: rustix::process::getpid(),
        targets: &inherited,
        control_group: spec.group,
        umask: spec.umask.map(Mode::from_raw_mode),
        limits: &limits,
        groups: groups.as_deref(),
        gid: credentials.map(|who| Gid::from_raw(who.gid)),
        uid: credentials.map(|who| Uid::from_raw(who.uid)),
        directory: strings.directory(spec),
        executable: spec.executable,
        program: &strings.program,
        image: &mut image,
        report: ends.report.1.as_fd(),
    };
    let raw = sys::fork(spec.group, |is_inside| child::run(plan, is_inside)).map_err(failed(Step::Fork))?;
    let pid = Pid::new(raw).ok_or_else(|| SpawnError::new(Step::Fork, libc::ESRCH, spec.program))?;
    let pidfd = match rustix::process::pidfd_open(pid.raw(), PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(errno) => {
            // Unreaped, so the pid is still this child's; its group may not exist yet.
            let _gone = rustix::process::kill_process(pid.raw(), rustix::process::Signal::KILL);
            return Err(SpawnError::new(Step::Pidfd, errno.raw_os_error(), spec.program));
        }
    };
    let Ends { report, stdout, stderr, link, .. } = ends;
    drop(report.1);
    let mut outside = None;
    match read_report(report.0.as_fd(), &mut outside) {
        Ok(None) => {}
        Ok(Some((step, errno))) => {
            reap_failed(pidfd.as_fd());
            let object = match (step, spec.directory) {
                (Step::Directory, Directory::Path(path)) => Some(path),
                _ => None,
            };
            return Err(SpawnError::new(step, errno, spec.program).on(object));
        }
        Err(errno) => {
            let _gone = children::signal(pidfd.as_fd(), Kill::Kill);
            return Err(SpawnError::new(Step::Execute, errno.raw_os_error(), spec.program));
        }
    }
    Ok(Spawned { pid, pidfd, stdout: stdout.0, stderr: stderr.0, link: link.map(|(ours, _)| ours), outside })
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Both ends of everything between the supervisor and one worker; (ours, theirs), all close-on-exec.
struct Ends {
    stdin: Option<OwnedFd>,
    stdout: (OwnedFd, OwnedFd),
    stderr: (OwnedFd, OwnedFd),
    link: Option<(OwnedFd, OwnedFd)>,
    report: (OwnedFd, OwnedFd),
}

impl Ends {
    fn new(spec: &WorkerSpec<'_>) -> io::Result<Ends> {
        let stdin = match spec.pass {
            Pass::Stdin(_) => None,
            Pass::ListenFds { .. } | Pass::ServerStarter { .. } | Pass::Nothing | Pass::Channel(_) => {
                Some(rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
            }
        };
        let link = if spec.link.is_some() {
            let flags = SocketFlags::CLOEXEC;
            let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            set_nonblocking(&pair.0)?;
            Some(pair)
        } else {
            None
        };
        Ok(Ends { stdin, stdout: output_pipe()?, stderr: output_pipe()?, link, report: pipe()? })
    }

    /// What becomes fd 0, 1, 2, 3 … of the worker.
    fn inherited<'a>(&'a self, pass: Pass<'a>) -> Vec<BorrowedFd<'a>> {
        let stdin = match (pass, &self.stdin) {
            (Pass::Stdin(socket), _) => Some(socket),
            (_, null) => null.as_ref().map(AsFd::as_fd),
        };
        let mut inherited: Vec<_> = stdin.into_iter().collect();
        inherited.extend([self.stdout.1.as_fd(), self.stderr.1.as_fd()]);
        if let Pass::ListenFds { fds, .. } | Pass::ServerStarter { fds, .. } = pass {
            inherited.extend_from_slice(fds);
        }
        if let Pass::Channel(fd) = pass {
            inherited.push(fd);
        }
        inherited.extend(self.link.as_ref().map(|(_, theirs)| theirs.as_fd()));
        inherited
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

/// Our end does not block; the worker's does, as programs expect of their stdout. They are two open file descriptions.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pipe()?;
    set_nonblocking(&ours)?;
    Ok((ours, theirs))
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

/// Arguments and environment as execve wants them; `None` if they cannot be said to it.
fn image(spec: &WorkerSpec<'_>, inherited: &[BorrowedFd<'_>]) -> Option<Image> {
    if inherited.len() > TARGETS_MAX {
        return None;
    }
    let arguments = spec.arguments.iter().map(|argument| CString::new(argument.as_bytes()).ok());
    let mut variables = spec.environment.strings()?;
    let mut set = |name: &str, value: &str| {
        variables.push(environment::variable(OsStr::new(name), OsStr::new(value))?);
        Some(())
    };
    let mut listens = false;
    if let Pass::ListenFds { fds, names } = spec.pass {
        if names.iter().any(|name| name.contains(':')) || names.len() != fds.len() {
            return None;
        }
        set("LISTEN_FDS", &fds.len().to_string())?;
        set("LISTEN_FDNAMES", &names.join(":"))?;
        listens = true;
    }
    if let Pass::ServerStarter { ports, generation, .. } = spec.pass {
        set("SERVER_STARTER_PORT", ports)?;
        set("SERVER_STARTER_GENERATION", &generation.to_string())?;
    }
    if let Some(role) = spec.link {
        set("STEADFAST_LINK", &inherited.len().checked_sub(1)?.to_string())?;
        set("STEADFAST_ROLE", role.word())?;
    }
    Some(Image::new(arguments.collect::<Option<_>>()?, variables, listens))
}

/// Paths as C strings.
struct Strings {
    program: CString,
    directory: Option<CString>,
}

impl Strings {
    fn new(spec: &WorkerSpec<'_>) -> Option<Strings> {
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).ok();
        let directory = match spec.directory {
            Directory::Path(path) => Some(text(path)?),
            Directory::Fd(_) => None,
        };
        Some(Strings { program: text(spec.program)?, directory })
    }

    fn directory<'a>(&'a self, spec: &WorkerSpec<'a>) -> WorkingDirectory<'a> {
        match (&self.directory, spec.directory) {
            (Some(path), _) => WorkingDirectory::Path(path),
            (None, Directory::Fd(fd)) => WorkingDirectory::Fd(fd),
            (None, Directory::Path(_)) => WorkingDirectory::Path(c"/"),
        }
    }
}

/// All limits to set, the old soft limit of files first so that the pool's own word wins.
fn limits(spec: &WorkerSpec<'_>) -> Vec<(Resource, Rlimit)> {
    let Nofile { soft_before, hard } = spec.nofile;
    let mut limits = vec![(Resource::Nofile, Rlimit { current: soft_before, maximum: hard })];
    limits.extend(spec.rlimits.iter().map(|&(Limit(resource), number)| {
        let limit = (number != u64::MAX).then_some(number);
        (resource, Rlimit { current: limit, maximum: limit })
    }));
    limits
}

/// The child's word: `None` when exec closed the pipe without one. That it is outside of its control group is no failure.
fn read_report(report: BorrowedFd<'_>, outside: &mut Option<io::Error>) -> Result<Option<(Step, i32)>, Errno> {
    let deadline = Instant::now() + EXEC_TIMEOUT;
    let mut word = [0u8; 5];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(&mut [PollFd::new(&report, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(Errno::TIMEDOUT),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        }
        // Five bytes are far below PIPE_BUF, so they come in one piece or not at all.
        return match rustix::io::read(report, &mut word) {
            Ok(5) => {
                let [step, errno @ ..] = word;
                let (step, errno) = (Step::from_number(step).unwrap_or(Step::Execute), i32::from_ne_bytes(errno));
                if step == Step::ControlGroup {
                    *outside = Some(io::Error::from_raw_os_error(errno));
                    continue;
                }
                Ok(Some((step, errno)))
            }
            Ok(_) => Ok(None),
            Err(Errno::INTR) => continue,
            Err(errno) => Err(errno),
        };
    }
}

/// A child that has told its failure is at its _exit: waiting for it cannot take long.
fn reap_failed(pidfd: BorrowedFd<'_>) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    while let Err(Errno::INTR) = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {}
}

#[cfg(test)]
#[path = "spawn_tests.rs"]
mod tests;
