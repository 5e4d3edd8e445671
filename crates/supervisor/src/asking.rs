//! Asks the trial worker of a direct generation its verify request. A child does that (`steadfast ping --verify`), as the
//! pool's user: no request enters the supervisor, and no byte of an answer is read by root.
//!
//! The supervisor connects, looks whose socket it has found, and hands the connection over as the child's stdin.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Resource, Rlimit, getrlimit};
use steadfast_config::machine::WORKER_PATH;
use steadfast_config::types::Pool;
use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::WorkerId;

use crate::children::{Ended, Kill, Nofile, ended, reap, signal, signal_group};
use crate::environment::Environment;
use crate::output::Turn;
use crate::poller::{Interest, Token};
use crate::relay;
use crate::shell::Shell;
use crate::spawn::{Credentials, Directory, Pass, Spawned, WorkerSpec, spawn};
use crate::sys;
use crate::voice::{Pipe, Speaker, Word};
use crate::workers::Asker;

/// Its pipes are read so often at its end (64 KiB each).
const LAST_READS: usize = 4;

/// Asks; the answer is a fact.
pub(crate) fn begin(shell: &mut Shell, id: WorkerId) {
    if let Err(why) = try_begin(shell, id) {
        failed(shell, id, why);
    }
}

fn try_begin(shell: &mut Shell, id: WorkerId) -> Result<(), String> {
    let worker = shell.workers.get(id).ok_or("the worker is gone")?;
    let private = worker.trial.as_ref().ok_or("the worker has no socket of its own")?;
    let maker = if private.is_workers_own { worker.pid.get() } else { shell.host.pid };
    let place = private.loopback.map_or(Place::Unix(&private.path, maker), Place::Http);
    let pool = shell.pools.get(worker.pool).ok_or("the pool is gone")?;
    let plan = pool.plan_of(worker.generation);
    let own = shell.front.program.as_ref().map(AsFd::as_fd);
    let spawned = ask(&plan.config, plan.launch.credentials(), place, own)?;
    if let Err(errno) = shell.poller.add(&spawned.pidfd, Token::Asker(id), Interest::Read) {
        // Its group's leader is unreaped.
        let _ = signal_group(spawned.pid, Kill::Kill);
        return Err(format!("cannot watch the process that asks it: {}", std::io::Error::from(errno)));
    }
    let asker = Asker { pid: spawned.pid, pidfd: spawned.pidfd, stderr: Pipe::new(spawned.stderr) };
    shell.askers.insert(id, asker);
    Ok(())
}

/// Where a worker is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// FastCGI, at this path, where this process must have made the socket.
    Unix(&'a Path, u32),
    /// HTTP.
    Http(SocketAddr),
}

/// Starts the child that asks whoever listens there. `own` is our
/// own program. It says on stderr what the application wrote there, and then why the answer is not good; its code is 0
/// when it is. The error is for people.
pub(crate) fn ask(
    config: &Pool,
    credentials: Option<&Credentials>,
    place: Place<'_>,
    own: Option<BorrowedFd<'_>>,
) -> Result<Spawned, String> {
    let arguments = arguments(config, place).ok_or("the pool has no verify request")?;
    let user = credentials.map_or_else(|| rustix::process::geteuid().as_raw(), |credentials| credentials.uid);
    let connection = match place {
        Place::Unix(path, maker) => {
            Some(dial(path, maker, user).map_err(|why| format!("it took no connection: {why}"))?)
        }
        Place::Http(_) => None,
    };
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let spec = WorkerSpec {
        program: Path::new("/proc/self/exe"),
        executable: own,
        arguments: &arguments,
        environment: &Environment::clean(None, WORKER_PATH),
        directory: Directory::Path(Path::new("/")),
        credentials,
        umask: Some(0o077),
        rlimits: &[],
        nofile: Nofile { soft_before: maximum, hard: maximum },
        pass: connection.as_ref().map_or(Pass::Nothing, |connection| Pass::Stdin(connection.as_fd())),
        link: None,
        group: None,
    };
    spawn(&spec).map_err(|error| error.message())
}

/// Its own last word, why the answer was not good; what stands before it stays in `lines`.
pub(crate) fn take_word(lines: &mut Vec<String>) -> Option<String> {
    let at = lines.iter().position(|line| line.starts_with("error: "))?;
    let word = lines.split_off(at).remove(0);
    Some(word.trim_start_matches("error: ").to_owned())
}

/// A connection to the private socket, if this process has made that, as this user. A name in a directory of the pool's
/// user's may lead anywhere: so the file itself is looked at first, and then connected to.
fn dial(path: &Path, maker: u32, user: u32) -> Result<OwnedFd, String> {
    let words = |errno: Errno| std::io::Error::from(errno).to_string();
    let place =
        rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map_err(words)?;
    let stat = rustix::fs::fstat(&place).map_err(words)?;
    let is_theirs = [user, rustix::process::geteuid().as_raw()].contains(&stat.st_uid);
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket || !is_theirs {
        return Err(format!("{} is no socket of the pool's", path.display()));
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(words)?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", place.as_raw_fd())).map_err(words)?;
    connect(&socket, &address).map_err(words)?;
    match sys::peer(socket.as_fd()) {
        Ok(peer) if peer.pid == maker => Ok(socket),
        Ok(_) | Err(_) => Err(format!("{} is another process's", path.display())),
    }
}

/// The words of `steadfast ping --verify` for a pool, `None` when it has no verify request.
fn arguments(pool: &Pool, place: Place<'_>) -> Option<Vec<OsString>> {
    let verify = pool.verify.as_ref()?;
    let address = match place {
        Place::Unix(..) => "-".to_owned(),
        Place::Http(address) => format!("http://{address}"),
    };
    let mut words: Vec<OsString> = ["steadfast", "ping", "--verify", &address, &verify.uri].map(OsString::from).into();
    let mut option = |name: &str, value: &str| words.push(format!("--{name}={value}").into());
    option("method", &verify.method);
    option("timeout", &format!("{}ms", verify.timeout.as_millis()));
    option("expect-status", &verify.status.to_string());
    if !verify.body.is_empty() {
        option("expect-body", &verify.body);
    }
    if matches!(place, Place::Http(_)) {
        option("header", "User-Agent: steadfast-verify");
        return Some(words);
    }
    // As the front asks in queue mode.
    let own = [("SCRIPT_NAME", ""), ("HTTP_HOST", "localhost"), ("HTTP_USER_AGENT", "steadfast-verify")];
    let own = own.into_iter().filter(|(name, _)| !pool.params.contains_key(*name));
    for (name, value) in own.chain(pool.params.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
        option("param", &format!("{name}={value}"));
    }
    Some(words)
}

/// The child has ended.
pub(crate) fn died(shell: &mut Shell, id: WorkerId) {
    let Some(mut asker) = shell.askers.remove(&id) else {
        return;
    };
    if matches!(ended(asker.pidfd.as_fd()), Ok(None)) {
        shell.askers.insert(id, asker);
        return;
    }
    let mut lines = Vec::new();
    let now = shell.now.as_nanos();
    if let Some(fd) = &asker.stderr.fd {
        for _ in 0..LAST_READS {
            if !matches!(asker.stderr.lines.read(fd.as_fd(), now, &mut shell.scratch, &mut lines), Turn::More) {
                break;
            }
        }
    }
    asker.stderr.lines.finish(now, &mut lines);
    let _ = signal_group(asker.pid, Kill::Kill);
    let end = reap(asker.pidfd.as_fd());
    let word = take_word(&mut lines);
    for line in lines {
        relay::by_front(shell, id, format!("{line}\n").as_bytes());
    }
    match end {
        Ok(Some(Ended::Code(0))) => shell.facts.push_back(Fact::WorkerVerified { worker: id }),
        Ok(_) | Err(_) => {
            failed(shell, id, word.unwrap_or_else(|| "the process that asked it has died".to_owned()));
        }
    }
}

/// Nobody waits for the answer any more.
pub(crate) fn cancel(shell: &mut Shell, id: WorkerId) {
    if let Some(asker) = shell.askers.get(&id) {
        let _ = signal(asker.pidfd.as_fd(), Kill::Kill);
    }
}

fn failed(shell: &mut Shell, id: WorkerId, why: String) {
    if let Some(voice) = shell.voice(Speaker::Worker(id)) {
        voice.word.get_or_insert(Word { code: None, name: None, message: Some(why) });
    }
    shell.facts.push_back(Fact::VerificationFailed { worker: id });
}
