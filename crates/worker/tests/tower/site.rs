//! The example site as a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Kills it when the test ends.
pub struct Site {
    pub child: Child,
    /// Where its FastCGI socket is.
    pub path: PathBuf,
    pub directory: TempDir,
    lines: Receiver<String>,
}

/// The example, which cargo has built beside the tests.
pub fn program(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop();
    path.pop();
    path.push("examples");
    path.push(name);
    assert!(path.exists(), "{} is not built: cargo build -p steadfast-worker --examples", path.display());
    path
}

pub fn command(environment: &[(&str, &str)]) -> Command {
    command_of("axum-site", environment)
}

fn command_of(name: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program(name));
    for name in ["GATEWAY_INTERFACE", "REQUEST_METHOD", "LISTEN_FDS", "LISTEN", "STEADFAST_LINK", "STEADFAST_PROTOCOL"]
    {
        command.env_remove(name);
    }
    command.env("RUST_BACKTRACE", "0").envs(environment.iter().copied());
    command
}

impl Site {
    /// On a unix socket that it inherits as fd 0.
    pub fn start(environment: &[(&str, &str)]) -> Site {
        Site::start_with(environment, Stdio::null()).0
    }

    /// The same, and the socket itself.
    pub fn start_with(environment: &[(&str, &str)], stdout: Stdio) -> (Site, UnixListener) {
        Site::on_unix(command(environment).stdout(stdout))
    }

    /// Another example.
    pub fn start_program(name: &str, environment: &[(&str, &str)]) -> Site {
        Site::on_unix(command_of(name, environment).stdout(Stdio::null())).0
    }

    fn on_unix(command: &mut Command) -> (Site, UnixListener) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("site.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let stdin = Stdio::from(OwnedFd::from(listener.try_clone().expect("a copy")));
        (Site::spawn(command.stdin(stdin), path, directory), listener)
    }

    /// With a link, which is its fd 1.
    pub fn start_linked(environment: &[(&str, &str)]) -> (Site, BufReader<UnixStream>) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut environment = environment.to_vec();
        environment.push(("STEADFAST_LINK", "1"));
        let (site, _) = Site::start_with(&environment, Stdio::from(OwnedFd::from(theirs)));
        (site, BufReader::new(ours))
    }

    /// HTTP, on a TCP socket that it inherits.
    pub fn start_http(environment: &[(&str, &str)]) -> (Site, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let directory = tempfile::tempdir().expect("a directory");
        let mut environment = environment.to_vec();
        environment.push(("STEADFAST_PROTOCOL", "http"));
        let stdin = Stdio::from(OwnedFd::from(listener));
        let site = Site::spawn(command(&environment).stdin(stdin), PathBuf::new(), directory);
        (site, address)
    }

    /// By hand: fd 0 is no socket. Waits until it says where it listens.
    pub fn start_by_hand(environment: &[(&str, &str)]) -> (Site, String) {
        let directory = tempfile::tempdir().expect("a directory");
        let site = Site::spawn(command(environment).stdin(Stdio::null()), PathBuf::new(), directory);
        let line = site.line("listening on ");
        let address = line.split("listening on ").nth(1).expect("it is in the line").to_owned();
        (site, address)
    }

    fn spawn(command: &mut Command, path: PathBuf, directory: TempDir) -> Site {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the example starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Site { child, path, directory, lines }
    }

    /// The next line of its stderr that has this in it.
    pub fn line(&self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("{text:?} was never said"),
                Err(RecvTimeoutError::Disconnected) => panic!("{text:?} was not said before the end"),
            }
        }
    }

    /// What it still says before its end.
    pub fn rest(&self) -> Vec<String> {
        self.lines.iter().collect()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is there");
    }

    /// Waits for its end, which somebody has caused.
    pub fn end(&mut self) -> ExitStatus {
        let pidfd = rustix::process::pidfd_open(Pid::from_child(&self.child), rustix::process::PidfdFlags::empty())
            .expect("it was not waited for");
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        let patience = rustix::event::Timespec::try_from(PATIENCE).expect("it is short");
        assert_eq!(rustix::event::poll(&mut fds, Some(&patience)), Ok(1), "it has not left");
        self.child.wait().expect("it can be waited for")
    }

    /// The most memory that it has ever used, in bytes.
    pub fn memory_peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it lives");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the line is there");
        line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).expect("a number") * 1024
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line of a link.
pub fn hear(link: &mut BufReader<UnixStream>) -> serde_json::Value {
    let mut line = String::new();
    link.read_line(&mut line).expect("something is said");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

pub fn say(link: &mut BufReader<UnixStream>, text: &str) {
    link.get_mut().write_all(format!("{text}\n").as_bytes()).expect("it hears");
}

/// As the example's.
pub fn fnv(bytes: &[u8]) -> String {
    let sum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{sum:016x}")
}

/// Bytes that repeat late.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// What the example's `/download/LENGTH` sends.
pub fn download(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    let mut left = length;
    while left > 0 {
        let piece = left.min(10_000);
        bytes.extend((0..piece).map(|at| (left.wrapping_sub(at) % 251) as u8));
        left -= piece;
    }
    bytes
}

/// Whether nothing comes for a moment.
pub fn is_silent(stream: &mut (impl Read + std::os::fd::AsFd)) -> bool {
    let mut fds = [rustix::event::PollFd::new(stream, rustix::event::PollFlags::IN)];
    let moment = rustix::event::Timespec::try_from(Duration::from_millis(300)).expect("it is short");
    rustix::event::poll(&mut fds, Some(&moment)) == Ok(0)
}
