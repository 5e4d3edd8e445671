//! A worker as a process of its own, started as a process manager does.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use steadfast_proto::link::{Decoder, FromWorker, ToWorker, encode};

use super::wire::{Answer, Reply, Wire};

/// A test that waits longer than this has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// `examples/test-site.rs`, as cargo has built it beside this test.
pub(crate) fn site() -> PathBuf {
    let program = std::env::current_exe().expect("a program");
    let path = program.parent().and_then(Path::parent).expect("target/debug").join("examples/test-site");
    assert!(path.exists(), "{} is built by: cargo build -p steadfast-worker --examples", path.display());
    path
}

pub(crate) struct Site {
    pub(crate) child: Child,
    /// Where it listens.
    pub(crate) path: PathBuf,
    /// The supervisor has the socket, too.
    pub(crate) listener: UnixListener,
    /// The other end of its link.
    pub(crate) link: Option<FarLink>,
    _directory: tempfile::TempDir,
}

/// How a site is started.
#[derive(Default)]
pub(crate) struct Start<'a> {
    pub(crate) has_link: bool,
    pub(crate) variables: &'a [(&'a str, &'a str)],
    pub(crate) stderr: Option<Stdio>,
    /// Before it is exec'd, in the shell.
    pub(crate) shell: &'a str,
}

impl Start<'_> {
    pub(crate) fn start(self) -> Site {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("site.sock");
        let listener = UnixListener::bind(&path).expect("a new path");
        let (child, link) = self.spawn(OwnedFd::from(listener.try_clone().expect("a copy")));
        Site { child, path, listener, link, _directory: directory }
    }

    /// With this on fd 0. The link takes fd 3, stdout is where stderr is.
    pub(crate) fn spawn(self, stdin: OwnedFd) -> (Child, Option<FarLink>) {
        let (far, near) = UnixStream::pair().expect("a pair");
        let fds = if self.has_link { "exec 3>&1 1>&2" } else { "exec 1>&2" };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{fds}; {}; exec \"$0\"", if self.shell.is_empty() { ":" } else { self.shell })]);
        command.arg(site()).stdin(stdin).stdout(OwnedFd::from(near));
        command.stderr(self.stderr.unwrap_or_else(Stdio::piped));
        command.env_remove("STEADFAST_LINK").env_remove("STEADFAST_ROLE").env_remove("REQUEST_METHOD");
        if self.has_link {
            command.env("STEADFAST_LINK", "3").env("STEADFAST_ROLE", "worker");
        }
        command.envs(self.variables.iter().copied());
        let child = command.spawn().expect("a shell");
        (child, self.has_link.then(|| FarLink::new(far)))
    }
}

/// The supervisor's end of a link.
pub(crate) struct FarLink {
    stream: UnixStream,
    decoder: Decoder<FromWorker>,
    waiting: std::collections::VecDeque<FromWorker>,
}

impl FarLink {
    pub(crate) fn new(stream: UnixStream) -> FarLink {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        FarLink { stream, decoder: Decoder::new(), waiting: Default::default() }
    }

    pub(crate) fn say(&mut self, message: &ToWorker) {
        self.stream.write_all(&encode(message).expect("short")).expect("it listens");
    }

    /// The next word; `None` at the end.
    pub(crate) fn hear(&mut self) -> Option<FromWorker> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Some(message);
            }
            let mut bytes = [0; 4096];
            let got = match self.stream.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
                got => got.expect("it says something in time"),
            };
            if got == 0 {
                return None;
            }
            let mut bytes = &bytes[..got];
            while let Some(message) = self.decoder.next(&mut bytes) {
                self.waiting.push_back(message.expect("a message"));
            }
        }
    }

    /// Hello, then ready.
    #[track_caller]
    pub(crate) fn ready(&mut self) {
        assert!(matches!(self.hear(), Some(FromWorker::Hello(_))));
        assert_eq!(self.hear(), Some(FromWorker::Ready));
    }
}

impl Site {
    pub(crate) fn start(variables: &[(&str, &str)]) -> Site {
        let mut site = Start { has_link: true, variables, ..Start::default() }.start();
        site.link.as_mut().expect("a link").ready();
        site
    }

    pub(crate) fn connect(&self) -> UnixStream {
        connect(&self.path)
    }

    pub(crate) fn ask(&self, path: &str) -> Answer {
        ask(&self.path, path)
    }

    pub(crate) fn link(&mut self) -> &mut FarLink {
        self.link.as_mut().expect("a link")
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// It waits for something.
    pub(crate) fn sleeps(&self) {
        let is_asleep = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            assert_ne!(state, Some('Z'), "it has ended");
            state == Some('S')
        };
        while !is_asleep() {
            std::thread::yield_now();
        }
    }

    pub(crate) fn fds(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }

    pub(crate) fn term(&self) {
        kill_process(self.pid(), Signal::TERM).expect("it is there");
    }

    /// Waits for its end, and reads what it has said to stderr.
    #[track_caller]
    pub(crate) fn end(&mut self) -> (ExitStatus, String) {
        let status = wait(&mut self.child);
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said).expect("UTF-8");
        }
        (status, said)
    }

    /// Waits for its end; it must be with this code.
    #[track_caller]
    pub(crate) fn ends_with(&mut self, code: i32) -> String {
        let (status, said) = self.end();
        assert_eq!((status.code(), status.signal()), (Some(code), None), "{said}");
        said
    }

    /// The next line of its stderr.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::with_capacity(1, self.child.stderr.as_mut().expect("a pipe")).read_line(&mut line).expect("UTF-8");
        line
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of a child. One that stays fails the test.
#[track_caller]
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("it is our child");
    let patience = Timespec::try_from(PATIENCE).expect("short");
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&patience)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => panic!("it stays: {}", state(child.id())),
            other => {
                other.expect("it is waited for");
                break;
            }
        }
    }
    child.wait().expect("our child")
}

/// Where a process is, for the message of a test that has waited in vain.
fn state(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default()
}

pub(crate) fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

pub(crate) fn ask(path: &Path, page: &str) -> Answer {
    let mut stream = connect(path);
    stream.write_all(&Wire::new().get(page, false).0).expect("it listens");
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("in time");
    Reply::parse(&said).one()
}

/// Reads one answer of a kept connection, up to its END; `None` if the connection ends before a byte of it.
#[track_caller]
pub(crate) fn read_answer(stream: &mut UnixStream) -> Option<Answer> {
    let mut said = Vec::new();
    let mut bytes = [0; 65_536];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => {
                assert!(said.is_empty(), "half an answer: {}", String::from_utf8_lossy(&said));
                return None;
            }
            Ok(got) => said.extend(&bytes[..got]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && said.is_empty() => return None,
            Err(error) => panic!("{error}"),
        }
        let reply = Reply::parse(&said);
        if !reply.is_cut() {
            return Some(reply.one());
        }
    }
}
