//! The supervisor under test: its configuration, its process, its lines, its verbs.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::fcgi::Address;
use super::proc;
use super::scene::Scene;

/// The binary under test.
pub const STEADFAST: &str = env!("STEADFAST");

/// The user of workers when tests run as root.
pub const USER: &str = "www-data";

/// Long enough for anything that should come at once, also on a loaded machine.
pub const SOON: Duration = Duration::from_secs(10);

/// Whether the tests run as root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A configuration file in the making: one supervisor, log as JSON, runtime directory in the scene.
#[derive(Debug)]
pub struct Config {
    supervisor: String,
    pools: Vec<Pool>,
}

/// One `[pool.NAME]`: direct mode, a unix socket NAME.sock in the scene, [`USER`] when root.
#[derive(Debug, Clone)]
pub struct Pool {
    name: String,
    mode: &'static str,
    command: Vec<String>,
    /// Empty: the socket in the scene.
    listen: Vec<String>,
    /// In the scene, or anywhere; `None`: the scene.
    directory: Option<PathBuf>,
    keys: String,
    environment: Vec<(String, String)>,
    tables: String,
}

impl Pool {
    /// A pool with this program and arguments.
    #[must_use]
    pub fn new<S: AsRef<str>>(name: &str, command: &[S]) -> Pool {
        Pool {
            name: name.to_owned(),
            mode: "direct",
            command: command.iter().map(|word| word.as_ref().to_owned()).collect(),
            listen: Vec::new(),
            directory: None,
            keys: String::new(),
            environment: Vec::new(),
            tables: String::new(),
        }
    }

    /// `workers = VALUE`, as TOML: `4` or `{ min = 1, max = 4 }`.
    #[must_use]
    pub fn workers(self, value: &str) -> Pool {
        self.key("workers", value)
    }

    /// In queue mode.
    #[must_use]
    pub fn queue(mut self) -> Pool {
        self.mode = "queue";
        self
    }

    /// Listens here instead, and at each further address that is given so: what stands in the list of `listen`,
    /// unquoted.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Pool {
        self.listen.push(address.to_owned());
        self
    }

    /// Works there (a path from the scene on, or a whole one), and not in the scene itself.
    #[must_use]
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Pool {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Any other key with its value as TOML (`"ready-timeout"`, `"\"2s\""`); an earlier word on it is forgotten.
    #[must_use]
    pub fn key(mut self, key: &str, value: &str) -> Pool {
        let others = self.keys.lines().filter(|line| !line.starts_with(&format!("{key} = ")));
        self.keys = others.map(|line| format!("{line}\n")).collect();
        let _never_fails = writeln!(self.keys, "{key} = {value}");
        self
    }

    /// A variable of the workers' environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Pool {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A table of the pool (`"breaker"`) with its lines.
    #[must_use]
    pub fn table(mut self, name: &str, lines: &str) -> Pool {
        let _never_fails = write!(self.tables, "\n[pool.{}.{name}]\n{lines}\n", self.name);
        self
    }

    fn text(&self, scene: &Scene) -> String {
        let own = [format!("unix:{}", socket(scene, &self.name).display())];
        let listen = if self.listen.is_empty() { &own[..] } else { &self.listen };
        let mut text = format!(
            "\n[pool.{}]\ncommand = {:?}\nlisten = {listen:?}\nmode = \"{}\"\ndirectory = {:?}\n",
            self.name,
            self.command,
            self.mode,
            self.directory.as_ref().map_or(scene.path().to_owned(), |directory| scene.path().join(directory))
        );
        if is_root() {
            let _never_fails = writeln!(text, "user = \"{USER}\"");
        }
        text.push_str(&self.keys);
        let variables: Vec<String> =
            self.environment.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
        if !variables.is_empty() {
            let _never_fails = writeln!(text, "environment = {{ {} }}", variables.join(", "));
        }
        text.push_str(&self.tables);
        text
    }
}

impl Config {
    /// With these pools.
    #[must_use]
    pub fn new(pools: &[Pool]) -> Config {
        Config { supervisor: String::new(), pools: pools.to_vec() }
    }

    /// A key of `[supervisor]` with its value as TOML.
    #[must_use]
    pub fn supervisor(mut self, key: &str, value: &str) -> Config {
        let _never_fails = writeln!(self.supervisor, "{key} = {value}");
        self
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self, scene: &Scene) -> String {
        let mut text =
            format!("[supervisor]\nruntime-dir = {:?}\nlog = \"json\"\n{}", scene.join("run"), self.supervisor);
        for pool in &self.pools {
            text.push_str(&pool.text(scene));
        }
        text
    }

    /// Writes the file (again) as steadfast.toml in the scene.
    pub fn write(&self, scene: &Scene) -> PathBuf {
        scene.write("steadfast.toml", &self.text(scene))
    }

    /// Writes the file and starts the supervisor on it.
    #[must_use]
    pub fn start(&self, scene: &Scene) -> Daemon {
        let file = self.write(scene);
        let mut command = Command::new(STEADFAST);
        command.arg("run").arg("-c").arg(file);
        Daemon::spawn(command, scene, &scene.join("run/control.sock"))
    }
}

/// Where [`Pool::new`] listens, unless it is told otherwise.
#[must_use]
pub fn socket(scene: &Scene, pool: &str) -> PathBuf {
    scene.join(&format!("{pool}.sock"))
}

/// The same as an address for the client.
#[must_use]
pub fn address(scene: &Scene, pool: &str) -> Address {
    Address::Unix(socket(scene, pool))
}

/// `steadfast run OPTIONS -- COMMAND` without a file: direct mode, `--listen unix:SCENE/NAME.sock`, `--user` when
/// root, `--log json`, its control socket in the scene.
#[must_use]
pub fn run(scene: &Scene, name: &str, options: &[&str], command: &[&str]) -> Daemon {
    let control = scene.join("control.sock");
    let mut line = Command::new(STEADFAST);
    line.args(["run", "--mode", "direct", "--log", "json", "--name", name]);
    line.arg("--control").arg(&control);
    line.arg("--listen").arg(format!("unix:{}", socket(scene, name).display()));
    if is_root() {
        line.args(["--user", USER]);
    }
    line.args(options).arg("--").args(command);
    Daemon::spawn(line, scene, &control)
}

/// A running supervisor. Its process is killed when this is dropped; its workers then leave by themselves.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    control: PathBuf,
    directory: PathBuf,
    lines: Receiver<String>,
    seen: Vec<Line>,
    /// How many of `seen` a wait has passed.
    passed: usize,
}

/// One line of the supervisor's stderr.
#[derive(Debug, Clone)]
pub struct Line {
    /// When the test read it.
    pub at: Instant,
    /// As it came.
    pub text: String,
    /// As JSON; `Null` for a line that is none.
    pub event: Value,
}

impl Line {
    /// The event's name, or nothing.
    #[must_use]
    pub fn name(&self) -> &str {
        self.event["event"].as_str().unwrap_or("")
    }
}

/// What a verb has said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Results.
    pub stdout: String,
    /// Messages.
    pub stderr: String,
}

impl Daemon {
    /// Starts any command line as a supervisor; stderr is read line by line, stdout is as the test's own.
    #[must_use]
    pub fn spawn(mut command: Command, scene: &Scene, control: &Path) -> Daemon {
        let mut child = command
            .current_dir(scene.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {STEADFAST}: {error}"));
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || read_lines(stderr, |line| send.send(line).is_ok()));
        Daemon {
            child,
            control: control.to_path_buf(),
            directory: scene.path().to_path_buf(),
            lines,
            seen: Vec::new(),
            passed: 0,
        }
    }

    /// The supervisor's pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next event of this name, past those that earlier waits have passed.
    pub fn wait_event(&mut self, name: &str, within: Duration) -> Line {
        self.wait(name, within, |line| line.name() == name)
    }

    /// Waits for the next line that is wanted; `what` says it in the message of a failure.
    pub fn wait(&mut self, what: &str, within: Duration, wanted: impl Fn(&Line) -> bool) -> Line {
        let end = Instant::now() + within;
        loop {
            while let Some(line) = self.seen.get(self.passed) {
                self.passed += 1;
                if wanted(line) {
                    return line.clone();
                }
            }
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(text) => self.keep(text),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no {what} within {within:?}; the lines:\n{}", self.transcript())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("no {what} before the end of stderr; the lines:\n{}", self.transcript())
                }
            }
        }
    }

    /// Watches for so long that no such line comes, past those that earlier waits have passed.
    pub fn wait_never(&mut self, what: &str, during: Duration, unwanted: impl Fn(&Line) -> bool) {
        let end = Instant::now() + during;
        loop {
            while let Some(line) = self.seen.get(self.passed) {
                self.passed += 1;
                assert!(!unwanted(line), "{what}; the lines:\n{}", self.transcript());
            }
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(text) => self.keep(text),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("its stderr ended early; the lines:\n{}", self.transcript())
                }
            }
        }
    }

    /// Waits until a pool says that it serves.
    pub fn wait_serving(&mut self, pool: &str) -> Line {
        self.wait(&format!("pool-serving of {pool}"), SOON, |line| {
            line.name() == "pool-serving" && line.event["pool"] == pool
        })
    }

    /// Every line up to now, those that waits have passed too.
    pub fn lines(&mut self) -> &[Line] {
        while let Ok(text) = self.lines.try_recv() {
            self.keep(text);
        }
        &self.seen
    }

    /// The names of the events up to now.
    pub fn event_names(&mut self) -> Vec<String> {
        self.lines().iter().map(|line| line.name().to_owned()).collect()
    }

    /// Sends the supervisor a signal.
    pub fn signal(&self, signal: Signal) {
        proc::kill(self.pid(), signal).expect("the supervisor is our child and not reaped");
    }

    /// Waits for the supervisor's end, and reads its last lines.
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        assert!(
            proc::wait_gone(self.pid(), within),
            "the supervisor still runs after {within:?}; the lines:\n{}",
            self.transcript()
        );
        let status = self.child.wait().expect("the supervisor is our child");
        // The reader ends with the pipe, which a worker that is left behind may hold: a deadline here too.
        let end = Instant::now() + SOON;
        while let Ok(text) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.keep(text);
        }
        status
    }

    /// TERM, then its end: the exit code.
    pub fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
        let status = self.wait_exit(Duration::from_secs(20));
        status.code().unwrap_or_else(|| panic!("it died by signal {:?}", status.signal()))
    }

    /// [`Daemon::stop`] of a supervisor that has no request in hand: nothing is waited for, and it ends with 0.
    pub fn stop_idle(&mut self) {
        let begun = Instant::now();
        assert_eq!(self.stop(), 0, "{}", self.transcript());
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(4), "it took {took:?} to stop with nothing in hand\n{}", self.transcript());
    }

    /// Runs a verb against this supervisor, `--control` added.
    #[must_use]
    pub fn verb(&self, arguments: &[&str]) -> Said {
        steadfast(&self.directory, &[arguments, &["--control", &self.control.display().to_string()]].concat())
    }

    /// The control socket.
    #[must_use]
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// `status --json`.
    #[must_use]
    pub fn status(&self) -> Value {
        let said = self.verb(&["status", "--json"]);
        serde_json::from_str(&said.stdout)
            .unwrap_or_else(|error| panic!("status --json is not JSON: {error}: {}{}", said.stdout, said.stderr))
    }

    /// One pool's part of the status.
    #[must_use]
    pub fn pool(&self, name: &str) -> Value {
        let status = self.status();
        let pools = status["pools"].as_array().cloned().unwrap_or_default();
        pools.into_iter().find(|pool| pool["name"] == name).unwrap_or_else(|| panic!("no pool {name} in {status}"))
    }

    /// The pids in a pool's slots.
    #[must_use]
    pub fn workers(&self, pool: &str) -> Vec<u32> {
        let pool = self.pool(pool);
        let slots = pool["slots"].as_array().cloned().unwrap_or_default();
        slots.iter().filter_map(|slot| u32::try_from(slot["pid"].as_u64()?).ok()).filter(|pid| *pid > 0).collect()
    }

    /// The front's pid.
    #[must_use]
    pub fn front(&self) -> u32 {
        let status = self.status();
        let pid = status["front"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        pid.filter(|pid| *pid > 0).unwrap_or_else(|| panic!("no front in {status}"))
    }

    fn keep(&mut self, text: String) {
        self.seen.push(Line { at: Instant::now(), event: serde_json::from_str(&text).unwrap_or(Value::Null), text });
    }

    /// The last lines, for the message of a failure.
    fn transcript(&mut self) -> String {
        let lines = self.lines();
        let from = lines.len().saturating_sub(40);
        let texts: Vec<&str> = lines[from..].iter().map(|line| line.text.as_str()).collect();
        texts.join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only when it has been waited for already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Runs `steadfast` with any arguments to its end.
#[must_use]
pub fn steadfast(directory: &Path, arguments: &[&str]) -> Said {
    let output = Command::new(STEADFAST)
        .args(arguments)
        .current_dir(directory)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot start {STEADFAST}: {error}"));
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Gives each line of a pipe away until it ends or nobody wants more.
pub fn read_lines(pipe: impl Read, mut take: impl FnMut(String) -> bool) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if !take(text) {
            return;
        }
    }
}
