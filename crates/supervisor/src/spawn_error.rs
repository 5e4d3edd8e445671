//! Why a worker could not be started: which step, which errno, whose fault, and what to do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// The steps of a start, in their order; from `ControlGroup` on they run in the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Laying out arguments and environment.
    Prepare,
    /// Pipes and the link's socketpair.
    Pipe,
    /// fork(2).
    Fork,
    /// pidfd_open(2).
    Pidfd,
    /// The control group: the only step that may fail without being the end.
    ControlGroup,
    /// The own process group.
    Group,
    /// Default signal dispositions and an empty mask.
    Signals,
    /// Standard input, output, error and the inherited sockets.
    Descriptors,
    /// umask(2).
    Umask,
    /// setrlimit(2).
    Limits,
    /// Supplementary groups.
    Groups,
    /// setresgid(2).
    Gid,
    /// setresuid(2).
    Uid,
    /// The working directory.
    Directory,
    /// TERM when the supervisor dies.
    ParentDeath,
    /// execve(2).
    Execute,
}

impl Step {
    const ALL: [Step; 16] = [
        Step::Prepare,
        Step::Pipe,
        Step::Fork,
        Step::Pidfd,
        Step::ControlGroup,
        Step::Group,
        Step::Signals,
        Step::Descriptors,
        Step::Umask,
        Step::Limits,
        Step::Groups,
        Step::Gid,
        Step::Uid,
        Step::Directory,
        Step::ParentDeath,
        Step::Execute,
    ];

    /// The number by which the child names it.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// The step of a number.
    pub(crate) fn from_number(number: u8) -> Option<Step> {
        Step::ALL.get(usize::from(number)).copied()
    }

    fn attempt(self) -> &'static str {
        match self {
            Step::Prepare => "prepare the arguments of",
            Step::Pipe => "make the pipes for",
            Step::Fork => "fork for",
            Step::Pidfd => "open a pidfd for",
            Step::ControlGroup => "enter the control group of",
            Step::Group => "make a process group for",
            Step::Signals => "reset the signals for",
            Step::Descriptors => "hand over the descriptors to",
            Step::Umask => "set the umask for",
            Step::Limits => "set the resource limits for",
            Step::Groups => "set the supplementary groups for",
            Step::Gid => "change the group for",
            Step::Uid => "change the user for",
            Step::Directory => "enter the working directory of",
            Step::ParentDeath => "bind the life to ours of",
            Step::Execute => "execute",
        }
    }
}

/// A start that failed.
#[derive(Debug)]
pub struct SpawnError {
    /// Where it failed.
    pub step: Step,
    /// Why.
    pub errno: i32,
    program: PathBuf,
    /// What the step worked on, where that is not the program.
    object: Option<PathBuf>,
    hint: Option<String>,
}

/// Whether this error says that the machine is short of something that a process needs.
pub(crate) fn is_shortage(errno: Errno) -> bool {
    [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE].contains(&errno)
}

impl SpawnError {
    pub(crate) fn new(step: Step, errno: i32, program: &Path) -> SpawnError {
        let hint = if step == Step::Execute { execute_hint(errno, program) } else { None };
        SpawnError { step, errno, program: program.to_owned(), object: None, hint }
    }

    pub(crate) fn on(mut self, object: Option<&Path>) -> SpawnError {
        self.object = object.map(Path::to_owned);
        self
    }

    pub(crate) fn hint(mut self, hint: &str) -> SpawnError {
        self.hint = Some(hint.to_owned());
        self
    }

    /// The host is short of something: it is nobody's fault, and the next try may succeed.
    pub fn is_host(&self) -> bool {
        let errno = Errno::from_raw_os_error(self.errno);
        match self.step {
            // EAGAIN from setresuid(2) and execve(2) is RLIMIT_NPROC.
            Step::Execute | Step::Uid => is_shortage(errno) || [Errno::TIMEDOUT, Errno::INTR].contains(&errno),
            Step::Pipe | Step::Fork | Step::Pidfd => true,
            _ => is_shortage(errno),
        }
    }

    /// The whole message, one line.
    pub fn message(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.step.attempt(), self.program.display())?;
        if let Some(object) = &self.object {
            write!(f, " ({})", object.display())?;
        }
        write!(f, ": {}", io::Error::from_raw_os_error(self.errno))?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl Error for SpawnError {}

/// What execve's errno does not say. It looks at the file once more, in the supervisor and after the fact, so it is a
/// hint and never a reason for a decision.
fn execute_hint(errno: i32, program: &Path) -> Option<String> {
    match Errno::from_raw_os_error(errno) {
        Errno::NOENT if program.exists() => Some(match interpreter(program) {
            Some(interpreter) => {
                format!("the file is there, but its interpreter {interpreter} is not")
            }
            None => "the file is there, but its dynamic loader is not".to_owned(),
        }),
        Errno::NOENT => Some("no such program on disk now".to_owned()),
        Errno::ACCESS if program.is_dir() => Some("it is a directory".to_owned()),
        Errno::ACCESS => Some("it or a directory above it is not executable for the pool's user".to_owned()),
        Errno::NOEXEC => Some("it is no program of this machine, or a script without a #! line".to_owned()),
        Errno::TXTBSY => Some("the file is open for writing, perhaps it is just being copied".to_owned()),
        Errno::TIMEDOUT => Some("the file system did not answer".to_owned()),
        _ => None,
    }
}

/// The path behind `#!`, if that is what the file begins with.
fn interpreter(program: &Path) -> Option<String> {
    use std::io::Read;
    let mut start = [0u8; 128];
    let length = std::fs::File::open(program).ok()?.read(&mut start).ok()?;
    let line = start.get(..length)?.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let text = String::from_utf8_lossy(line);
    // A carriage return at its end is the usual reason, and it is invisible unless shown.
    text.trim_start().split([' ', '\t']).next().map(|word| word.escape_debug().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_number() {
        for step in Step::ALL {
            assert_eq!(Step::from_number(step.number()), Some(step));
        }
        assert_eq!(Step::from_number(16), None);
    }

    #[test]
    fn the_hosts_faults_are_not_the_programs() {
        let is_host = |step, errno| SpawnError::new(step, errno, Path::new("/x")).is_host();
        for errno in [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE] {
            assert!(is_host(Step::Fork, errno) && is_host(Step::Pipe, errno) && is_host(Step::Execute, errno));
        }
        let programs =
            [libc::ENOENT, libc::EACCES, libc::ENOTDIR, libc::ENOEXEC, libc::ETXTBSY, libc::ELOOP, libc::EPERM];
        for errno in programs {
            assert!(!is_host(Step::Execute, errno) && !is_host(Step::Directory, errno), "{errno}");
        }
    }
}
