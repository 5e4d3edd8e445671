//! What the tests of faults in spawning, exits and signals share beyond the harness.

// Each test program uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value;
use steadfast_proto::control::{Request as Order, encode_request};

use crate::support::conditions::{cpu, is_soon, own_lines, tail};
use crate::support::daemon::{Daemon, Line, STEADFAST};
use crate::support::scene::Scene;

/// Ends a test whose fault this machine cannot make, and says why: the test is listed, and nobody takes it for proof.
#[allow(unused_macros)]
macro_rules! cannot_here {
    ($fault:literal, $($reason:tt)+) => {{
        crate::support::within::skipped($fault, &format!($($reason)+));
        return;
    }};
}

/// B: the supervisor spends less than 2 % of a core and writes at most 30 lines a minute.
#[derive(Debug)]
pub struct Budget {
    since: Instant,
    cpu: Duration,
    lines: usize,
}

/// What one incident may cost beyond the 2 %, which are meant for minutes: a debug build starts tens of workers.
const INCIDENT: Duration = Duration::from_millis(200);

impl Budget {
    /// From now on.
    #[must_use]
    pub fn of(daemon: &mut Daemon) -> Budget {
        Budget { since: Instant::now(), cpu: cpu(daemon.pid()), lines: own_lines(daemon) }
    }

    /// It holds until now, at most a minute later.
    pub fn holds(&self, daemon: &mut Daemon) {
        let (elapsed, spent) = (self.since.elapsed(), cpu(daemon.pid()).saturating_sub(self.cpu));
        assert!(spent <= elapsed / 50 + INCIDENT, "B: {spent:?} of processor time in {elapsed:?}\n{}", tail(daemon));
        let lines = own_lines(daemon) - self.lines;
        assert!(lines <= 30, "B: {lines} lines in {elapsed:?}:\n{}", tail(daemon));
    }
}

/// `events -f --json`: every event of the ring, also those that are not worth a line of the log.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<Value>,
    passed: usize,
}

impl Follower {
    /// From the supervisor's first event on.
    #[must_use]
    pub fn of(daemon: &Daemon) -> Follower {
        let mut child = Command::new(STEADFAST)
            .args(["events", "-f", "--json", "-n", "10000", "--control"])
            .arg(daemon.control())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("steadfast runs");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if !line.is_ok_and(|line| send.send(line).is_ok()) {
                    return;
                }
            }
        });
        Follower { child, lines, seen: Vec::new(), passed: 0 }
    }

    /// The next event that is wanted, past those that earlier waits have passed.
    pub fn wait(&mut self, what: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + within;
        loop {
            while let Some(event) = self.seen.get(self.passed) {
                self.passed += 1;
                if wanted(event) {
                    return event.clone();
                }
            }
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(serde_json::from_str(&line).expect("events are JSON")),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no {what} within {within:?}; the events:\n{}", self.transcript())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("no {what} before `events -f` ended; the events:\n{}", self.transcript())
                }
            }
        }
    }

    /// The next event of this name.
    pub fn next(&mut self, name: &str, within: Duration) -> Value {
        self.wait(name, within, |event| event["event"] == name)
    }

    /// So many events of this name, past earlier ones.
    pub fn count(&mut self, name: &str, times: u64, within: Duration) {
        let mut left = times;
        while left > 0 {
            let event = self.next(name, within);
            left = left.saturating_sub(event["times"].as_u64().unwrap_or(1));
        }
    }

    /// Everything that came up to now.
    pub fn events(&mut self) -> &[Value] {
        while let Ok(line) = self.lines.try_recv() {
            self.seen.push(serde_json::from_str(&line).expect("events are JSON"));
        }
        &self.seen
    }

    fn transcript(&self) -> String {
        let from = self.seen.len().saturating_sub(40);
        let texts: Vec<String> = self.seen[from..].iter().map(Value::to_string).collect();
        texts.join("\n")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It has ended by itself when its supervisor has.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// One order over the control socket, without a process for it: the answer's last line.
///
/// # Errors
/// When the supervisor does not answer.
pub fn order(control: &Path, order: &Order) -> io::Result<Value> {
    let mut stream = UnixStream::connect(control)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&encode_request(order))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(io::Error::other)
}

/// The program tests/apps/faults.c, compiled into the scene.
#[must_use]
pub fn faults(scene: &Scene) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/faults.c");
    let made = scene.join("faults");
    let output = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([&made, &source])
        .output()
        .expect("cc runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cc {}: {said}", source.display());
    made
}

/// The sum of `times` over the lines of one event and class.
#[must_use]
pub fn told(daemon: &mut Daemon, name: &str, class: &str) -> u64 {
    let of_kind = |line: &&Line| line.name() == name && line.event["class"] == class;
    let lines = daemon.lines().iter().filter(of_kind);
    lines.map(|line| line.event["times"].as_u64().unwrap_or(1)).sum()
}

/// Waits until so many workers of a pool serve.
pub fn wait_workers(daemon: &mut Daemon, pool: &str, count: u64) {
    let is_so = is_soon(|| daemon.pool(pool)["workers"]["serving"] == count);
    assert!(is_so, "not {count} workers but {}\n{}", daemon.pool(pool)["workers"], tail(daemon));
}
