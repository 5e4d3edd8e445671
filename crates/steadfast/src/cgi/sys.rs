//! The system calls that start a script: what std and rustix have no safe form of.
//!
//! As posix_spawn(3) does it, the child runs in this process' memory until it has executed its program: nothing is copied,
//! so that a start costs the same however large a worker is. posix_spawn itself cannot ask for PDEATHSIG, without which a
//! `kill -9` of the worker would leave its script behind.

#![allow(unsafe_code)] // clone, signal masks and close_range have no safe form.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::Pid;

/// The child calls a few system calls on it, and execve(2) copies no strings to it.
const STACK: usize = 64 * 1024;
/// What a child that could not execute its program leaves with; nobody sees it but strace.
const FAILED: c_int = 127;

/// NUL-terminated strings in one piece of memory, and pointers to them: `argv` or `envp`.
#[derive(Debug, Default)]
pub(super) struct Strings {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// Adds a string, which is these parts; they hold no NUL, or it ends there.
    pub(super) fn push(&mut self, parts: &[&[u8]]) {
        self.starts.push(self.bytes.len());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.starts.iter().filter_map(|start| self.bytes.get(*start..)?.split(|byte| *byte == 0).next())
    }

    /// Each string, then a null pointer; valid until the next change.
    fn pointers(&mut self) -> *const *const c_char {
        let base = self.bytes.as_ptr();
        self.pointers.clear();
        self.pointers.extend(self.starts.iter().map(|start| base.wrapping_add(*start).cast::<c_char>()));
        self.pointers.push(ptr::null());
        self.pointers.as_ptr()
    }
}

/// What is executed, and where.
#[derive(Debug)]
pub(super) struct Image<'a> {
    pub(super) program: &'a CStr,
    /// `None`: where this process is.
    pub(super) directory: Option<&'a CStr>,
    pub(super) arguments: &'a mut Strings,
    pub(super) environment: &'a mut Strings,
}

/// What a child was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Making the process.
    Fork,
    /// Being alone in a process group, and ending with its worker.
    Group,
    /// Going to its directory.
    Directory,
    /// Putting stdin, stdout and stderr in their places.
    Descriptors,
    /// Executing the program.
    Execute,
}

struct Plan {
    program: *const c_char,
    directory: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    stdio: [c_int; 3],
    parent: libc::pid_t,
    /// Where it failed, and why.
    failure: Option<(Step, c_int)>,
}

/// Starts processes, on a stack that is kept for the next one.
#[derive(Debug)]
pub(super) struct Starter {
    stack: Vec<u8>,
}

impl Starter {
    pub(super) fn new() -> Starter {
        Starter { stack: vec![0; STACK] }
    }

    /// Starts a process that leads a group of its own, dies when this one does, and has these three as 0, 1 and 2, which all
    /// stand above 2 here. It is a child, to be reaped; the fd is its pidfd. What comes back as an error was never there.
    pub(super) fn start(
        &mut self,
        image: &mut Image<'_>,
        stdio: [BorrowedFd<'_>; 3],
    ) -> Result<(Pid, OwnedFd), (Step, Errno)> {
        let mut plan = Plan {
            program: image.program.as_ptr(),
            directory: image.directory.map_or(ptr::null(), CStr::as_ptr),
            arguments: image.arguments.pointers(),
            environment: image.environment.pointers(),
            stdio: stdio.map(|fd| fd.as_raw_fd()),
            parent: rustix::process::getpid().as_raw_nonzero().get(),
            failure: None,
        };
        // The stack grows down, and its top is aligned as every ABI of Linux wants it.
        let top = self.stack.as_mut_ptr_range().end;
        let top = top.wrapping_sub(top as usize % 16);
        let mut pidfd: c_int = -1;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        let before = block_signals();
        // SAFETY: `child` gets the plan that it expects. With CLONE_VFORK this thread waits until the child has executed its
        // program or left, so that plan, stack and strings outlive its use of them, and nobody else touches them meanwhile:
        // one thread, and all signals are blocked. The child's fds are its own (no CLONE_FILES). `pidfd` is written before
        // clone returns.
        let pid = unsafe { libc::clone(child, top.cast(), flags, (&raw mut plan).cast::<c_void>(), &raw mut pidfd) };
        let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN);
        restore_signals(&before);
        let (Some(pid), true) = (Pid::from_raw(pid.max(0)), pid > 0) else {
            return Err((Step::Fork, errno));
        };
        // SAFETY: clone has succeeded, so that pidfd is a new fd that nobody else knows.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        match plan.failure {
            None => Ok((pid, pidfd)),
            Some((step, number)) => {
                let _ =
                    rustix::process::waitid(rustix::process::WaitId::Pid(pid), rustix::process::WaitIdOptions::EXITED);
                Err((step, Errno::from_raw_os_error(number)))
            }
        }
    }
}

/// The child's whole life up to exec. It comes back only in failure.
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `start` passes a plan whose pointers are valid, and waits. Everything called here is a bare system call or
    // async-signal-safe; nothing allocates, locks or panics.
    unsafe {
        let plan = &mut *plan.cast::<Plan>();
        let step = attempt(plan);
        plan.failure = Some((step, *libc::__errno_location()));
        libc::_exit(FAILED)
    }
}

/// The steps; the one that failed, with its errno.
///
/// # Safety
/// As `child`.
unsafe fn attempt(plan: &Plan) -> Step {
    // SAFETY: the caller's promise: strings and arrays are valid and NUL-terminated. Signals: a handler of this process must
    // not run in the child, which shares its memory, so that the only one (SIGTERM's) goes before the mask does; std ignores
    // SIGPIPE, which would be inherited.
    unsafe {
        if libc::setpgid(0, 0) < 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
            return Step::Group;
        }
        if libc::getppid() != plan.parent {
            // The worker died before the line above: then its death signals nobody any more.
            *libc::__errno_location() = libc::ESRCH;
            return Step::Group;
        }
        if !plan.directory.is_null() && libc::chdir(plan.directory) < 0 {
            return Step::Directory;
        }
        let [stdin, stdout, stderr] = plan.stdio;
        if libc::dup2(stdin, 0) < 0 || libc::dup2(stdout, 1) < 0 || libc::dup2(stderr, 2) < 0 {
            return Step::Descriptors;
        }
        libc::signal(libc::SIGTERM, libc::SIG_DFL);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut nothing: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut nothing);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const nothing, ptr::null_mut());
        libc::execve(plan.program, plan.arguments, plan.environment);
        Step::Execute
    }
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: both sets are valid memory of their size; blocking signals has no other precondition.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: the set is what pthread_sigmask has given.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
}

/// close_range(3, ~0, CLOSE_RANGE_CLOEXEC): nothing is closed, everything is closed on exec. Kernels before 5.11 do not know
/// how.
pub(super) fn close_inherited_on_exec() {
    // SAFETY: with this flag no fd is closed, so no owner loses anything.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}
