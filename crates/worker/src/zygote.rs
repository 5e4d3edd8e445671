//! A process that has loaded the application and forks workers when it is ordered to (docs/link.md).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use steadfast_proto::link::{Fork, FromWorker, Role, ToWorker};

use crate::link::{self, Link};
use crate::sys;

/// A worker's private socket belongs to the pool's user and the front's group.
const PRIVATE_MASK: u32 = 0o117;
/// Only the front connects there.
const BACKLOG: i32 = 8;

/// Carries out orders until it is told to leave (`None`). Returns in each worker too, with that one's own link.
pub(crate) fn run(link: &mut Link) -> Option<Link> {
    link.say(&FromWorker::Ready);
    while link.is_open() {
        for message in link.hear(None) {
            match message {
                ToWorker::Quit => return None,
                ToWorker::Drain => {}
                ToWorker::Fork(order) => match fork_worker(&order) {
                    Ok(Forked::Zygote(pid)) => link.say(&FromWorker::Forked { slot: order.slot, pid }),
                    Ok(Forked::Worker(own)) => return Some(own),
                    Err(Refusal { message, errno }) => {
                        link.say(&FromWorker::ForkFailed { slot: order.slot, message, errno });
                    }
                },
            }
        }
    }
    None
}

/// Which of the two processes this is.
enum Forked {
    Zygote(u32),
    Worker(Link),
}

/// Why there is no worker.
struct Refusal {
    message: String,
    /// The kernel's reason, when it has refused the process.
    errno: Option<i32>,
}

impl Refusal {
    fn fork(error: &io::Error) -> Refusal {
        Refusal { message: format!("cannot fork: {error}"), errno: error.raw_os_error() }
    }
}

/// Forks a middle that forks the worker and is gone: so the worker becomes the supervisor's own child.
fn fork_worker(order: &Fork) -> Result<Forked, Refusal> {
    let (report, reporter) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Refusal::fork(&io::Error::from(errno)))?;
    let (report, reporter) = (File::from(report), File::from(reporter));
    // What waits in this process's buffer would be written once more by each worker.
    let _ = io::stdout().flush();
    let supervisor = rustix::process::getppid();
    if let Some(middle) = sys::fork().map_err(|error| Refusal::fork(&error))? {
        drop(reporter);
        let said = read_report(report);
        sys::wait_for(middle);
        return said.map(Forked::Zygote);
    }
    drop(report);
    let middle = rustix::process::getpid();
    match sys::fork() {
        Ok(Some(_)) => sys::exit_now(0),
        Ok(None) => {}
        Err(error) => {
            let _ = writeln!(&reporter, "!{} cannot fork: {error}", error.raw_os_error().unwrap_or(0));
            sys::exit_now(0);
        }
    }
    match become_worker(order, middle, supervisor) {
        Ok(link) => {
            let _ = writeln!(&reporter, "{}", std::process::id());
            Ok(Forked::Worker(link))
        }
        Err(error) => {
            let _ = writeln!(&reporter, "{error}");
            sys::exit_now(1);
        }
    }
}

/// A line: the worker's pid; or `!`, an errno, and why there is no process; or why it could not do its part.
fn read_report(mut report: File) -> Result<u32, Refusal> {
    let mut said = Vec::new();
    let mut bytes = [0; 4096];
    // Not until the end: the worker's children would have the pipe, too.
    while !said.contains(&b'\n') {
        match report.read(&mut bytes) {
            Ok(0) => break,
            Ok(got) => said.extend_from_slice(bytes.get(..got).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Refusal { message: error.to_string(), errno: None }),
        }
    }
    let text = String::from_utf8_lossy(&said);
    let text = text.trim_end();
    if let Ok(pid) = text.parse() {
        return Ok(pid);
    }
    let (errno, message) = match text.strip_prefix('!').and_then(|text| text.split_once(' ')) {
        Some((errno, message)) => (errno.parse().ok().filter(|errno| *errno != 0), message),
        None => (None, text),
    };
    let message = if message.is_empty() { "the new process ended before it was a worker" } else { message };
    Err(Refusal { message: message.to_owned(), errno })
}

/// What an executed worker finds when it starts, this one makes for itself.
fn become_worker(order: &Fork, middle: Pid, supervisor: Option<Pid>) -> Result<Link, String> {
    rustix::process::setpgid(None, None).map_err(|errno| format!("setpgid: {errno}"))?;
    let link = match &order.link {
        Some(path) => link::connect(path).map_err(|error| format!("connect to {path}: {error}"))?,
        None => Link::default(),
    };
    if let Some(path) = &order.path {
        let socket = listen(path).map_err(|error| format!("listen on {path}: {error}"))?;
        become_fd(socket.as_fd(), 0)?;
    }
    for (path, fd) in [(&order.stdout, 1), (&order.stderr, 2)] {
        if let Some(path) = path {
            let fifo = open_to_write(path).map_err(|error| format!("open {path}: {error}"))?;
            become_fd(fifo.as_fd(), fd)?;
        }
    }
    end_with_supervisor(middle);
    if rustix::process::getppid() != supervisor {
        return Err("the supervisor is not this worker's parent: it has gone, or takes no orphans".to_owned());
    }
    sys::set_variable("STEADFAST_ROLE", Some(Role::Worker.word()));
    Ok(link)
}

fn become_fd(fd: BorrowedFd<'_>, number: i32) -> Result<(), String> {
    sys::replace(fd, number).map_err(|error| format!("dup2 to {number}: {error}"))
}

fn listen(path: &str) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mask = rustix::process::umask(Mode::from_raw_mode(PRIVATE_MASK));
    let bound = rustix::net::bind(&socket, &SocketAddrUnix::new(path)?);
    rustix::process::umask(mask);
    bound?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A FIFO. Without a reader it is refused and not waited for; with one it blocks when it is full, like any pipe.
fn open_to_write(path: &str) -> io::Result<File> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().write(true).custom_flags(nonblocking).open(path)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK))?;
    Ok(file)
}

/// SIGTERM when the supervisor dies, as executed workers get it. The kernel sends it at the end of whoever is the parent
/// when it is asked for: so the middle must be gone before.
fn end_with_supervisor(middle: Pid) {
    if let Ok(middle) = pidfd_open(middle, PidfdFlags::empty()) {
        while poll(&mut [PollFd::new(&middle, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
    }
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
}

/// A zygote's role, when it has a link to be ordered by.
pub(crate) fn is_wanted(role: Role, link: &Link) -> bool {
    role == Role::Zygote && link.is_open()
}
