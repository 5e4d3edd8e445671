//! A program that is run for its result: with a limit to its time and its words, and nobody waiting for it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::note::length;
use crate::sys;

/// So much of what it says is kept.
const SAID_MAX: usize = 64 * 1024;
/// So much of that is told.
const TOLD_MAX: usize = 500;
/// What SIGKILL has not ended after so long is left alone.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// A running program, in a process group of its own.
#[derive(Debug)]
pub(crate) struct Errand {
    name: String,
    child: Child,
    exit: OwnedFd,
    input: Option<(ChildStdin, Vec<u8>)>,
    output: File,
    said: Vec<u8>,
    deadline: Instant,
    timeout: Duration,
    is_killed: bool,
}

impl Errand {
    /// Starts the program; `input` is what it can read.
    ///
    /// # Errors
    /// It cannot be started: what, and why.
    pub(crate) fn start(command: &[String], input: Option<Vec<u8>>, timeout: Duration) -> Result<Errand, String> {
        let name = command.join(" ");
        let failed = |error: io::Error| format!("cannot run `{name}`: {}", reason(&error));
        let (program, arguments) = command.split_first().ok_or("a command without a program")?;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
        let stderr = writer.try_clone().map_err(failed)?;
        let mut builder = Command::new(program);
        builder.args(arguments).process_group(0).stdout(writer).stderr(stderr);
        builder.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        // It is no service of the manager's: what it says there would be taken for our own words.
        builder.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        sys::unblock_signals(&mut builder);
        let mut child = builder.spawn().map_err(failed)?;
        drop(builder);
        let prepared = prepare(&mut child, &reader);
        let (exit, stdin) = prepared.map_err(|error| {
            let _gone = child.kill();
            let _reaped = child.wait();
            failed(error)
        })?;
        Ok(Errand {
            name,
            child,
            exit,
            input: stdin.zip(input),
            output: File::from(reader),
            said: Vec::new(),
            deadline: Instant::now() + timeout,
            timeout,
            is_killed: false,
        })
    }

    /// What to wait for.
    pub(crate) fn add<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.push(PollFd::new(&self.exit, PollFlags::IN));
        fds.push(PollFd::new(&self.output, PollFlags::IN));
        if let Some((stdin, _)) = &self.input {
            fds.push(PollFd::new(stdin, PollFlags::OUT));
        }
    }

    /// How long until [`Errand::turn`] must be called, whatever happens.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now)
    }

    /// Goes on. When it has ended: what it said, or why it failed.
    pub(crate) fn turn(&mut self, now: Instant) -> Option<Result<String, String>> {
        self.write();
        let is_closed = self.read();
        match self.child.try_wait() {
            Ok(Some(status)) => {
                self.read();
                return Some(self.result(status));
            }
            Ok(None) => {}
            Err(error) => return Some(Err(format!("cannot wait for `{}`: {}", self.name, reason(&error)))),
        }
        // Nothing more comes from there, and a closed pipe would wake us without end.
        if is_closed && let Ok(null) = File::open("/dev/null") {
            let _ignored = std::mem::replace(&mut self.output, null);
        }
        if now < self.deadline {
            return None;
        }
        if self.is_killed {
            return Some(Err(format!("`{}` does not end, not even by SIGKILL", self.name)));
        }
        self.kill();
        self.is_killed = true;
        self.deadline = now + LAST_WAIT;
        None
    }

    fn kill(&mut self) {
        match i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            Some(pid) if kill_process_group(pid, Signal::KILL).is_ok() => {}
            _ => {
                let _gone = self.child.kill();
            }
        }
    }

    fn result(&self, status: ExitStatus) -> Result<String, String> {
        let said = String::from_utf8_lossy(&self.said);
        if self.is_killed {
            return Err(format!("`{}` took longer than {} and was killed", self.name, length(self.timeout)));
        }
        if status.success() {
            return Ok(said.into_owned());
        }
        let words: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let words: String = words.join("; ").chars().filter(|c| !c.is_control()).take(TOLD_MAX).collect();
        let end = if words.is_empty() { String::new() } else { format!(": {words}") };
        Err(format!("`{}` failed ({status}){end}", self.name))
    }

    fn write(&mut self) {
        while let Some((stdin, left)) = &mut self.input {
            match stdin.write(left) {
                Ok(written) if written < left.len() => {
                    left.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // All is written, or it does not want to know.
                Ok(_) | Err(_) => self.input = None,
            }
        }
    }

    /// True when nobody writes any more.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.output.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => {
                    let room = SAID_MAX.saturating_sub(self.said.len());
                    self.said.extend_from_slice(&buffer[..count.min(room)]);
                    // One that never stops talking has its turn like others.
                    if count == buffer.len() && room == 0 {
                        return false;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }
}

/// The fd that tells its end; what is ours of its pipes never waits.
fn prepare(child: &mut Child, output: &OwnedFd) -> io::Result<(OwnedFd, Option<ChildStdin>)> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let exit = pidfd_open(pid, PidfdFlags::empty())?;
    never_wait(output.as_fd())?;
    let stdin = child.stdin.take();
    if let Some(stdin) = &stdin {
        never_wait(stdin.as_fd())?;
    }
    Ok((exit, stdin))
}

/// O_NONBLOCK, on a description that nobody shares with us.
pub(crate) fn never_wait(fd: BorrowedFd<'_>) -> io::Result<()> {
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
    Ok(())
}

/// The system's word for an error, without the number that std adds.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.find(" (os error").map_or(text.clone(), |end| text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, input: Option<Vec<u8>>, timeout: Duration) -> Result<String, String> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        let mut errand = Errand::start(&command, input, timeout)?;
        loop {
            let now = Instant::now();
            if let Some(result) = errand.turn(now) {
                return result;
            }
            let wait = rustix::event::Timespec::try_from(errand.wait(now)).expect("a time");
            let mut fds = Vec::new();
            errand.add(&mut fds);
            rustix::event::poll(&mut fds, Some(&wait)).expect("poll");
        }
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn its_words_are_the_result_and_its_failure_has_words_too() {
        assert_eq!(run("echo a; echo b >&2", None, LONG).as_deref(), Ok("a\nb\n"));
        let error = run("echo no bus >&2; exit 3", None, LONG).expect_err("failed");
        assert!(error.ends_with("failed (exit status: 3): no bus"), "{error}");
        let missing = Errand::start(&["/nowhere/mend".to_owned()], None, LONG).expect_err("missing");
        assert_eq!(missing, "cannot run `/nowhere/mend`: No such file or directory");
    }

    #[test]
    fn what_it_reads_may_be_longer_than_a_pipe_or_unwanted() {
        let input = vec![b'x'; 1 << 20];
        assert_eq!(run("wc -c", Some(input.clone()), LONG).as_deref(), Ok("1048576\n"));
        assert_eq!(run("exec true", Some(input), LONG).as_deref(), Ok(""));
    }

    #[test]
    fn it_hears_every_signal() {
        let said = run("grep SigBlk /proc/self/status", None, LONG).expect("said");
        assert!(said.trim_end().ends_with("0000000000000000"), "{said}");
    }

    #[test]
    fn at_its_timeout_all_of_its_group_is_killed() {
        let started = Instant::now();
        let script = "sleep 60 & echo $!; trap '' TERM; wait";
        let error = run(script, None, Duration::from_millis(300)).expect_err("late");
        assert!(error.contains("took longer than 300 ms and was killed"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_talker_is_heard_to_a_limit_and_who_closes_its_output_costs_no_turns() {
        let said = run("head -c 1000000 /dev/zero | tr '\\0' x", None, LONG).expect("said");
        assert_eq!(said.len(), SAID_MAX);
        assert_eq!(run("exec >&- 2>&-; sleep 0.2", None, LONG).as_deref(), Ok(""));
    }
}
