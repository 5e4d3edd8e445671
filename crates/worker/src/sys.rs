//! The system calls that have no safe form: fork, a signal handler, and replacing an fd by its number.

#![allow(unsafe_code)] // see above

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::io::FdFlags;

/// The signal came.
static TERM: AtomicBool = AtomicBool::new(false);
/// The fd in whose place /dev/null comes, so that no accept on it blocks any more; or -1.
static LISTENER: AtomicI32 = AtomicI32::new(-1);
/// The connection of which no request is in hand, and whose wait may be ended; or -1.
static IDLE: AtomicI32 = AtomicI32::new(-1);
/// The socket that is shut for reading; or -1.
static WAKER: AtomicI32 = AtomicI32::new(-1);
/// The connection is in SPARE, and /dev/null in its place.
static IS_ASIDE: AtomicBool = AtomicBool::new(false);
/// An open /dev/null; or -1.
static NOTHING: AtomicI32 = AtomicI32::new(-1);
/// Another one: a place that the handler can put a connection to when there is no free fd left; or -1.
static SPARE: AtomicI32 = AtomicI32::new(-1);
/// The thread that accepts. All that the handler does to fds it does there, so that nothing else goes on meanwhile.
static THREAD: AtomicI32 = AtomicI32::new(0);
/// What was done at SIGTERM before us.
static BEFORE: OnceLock<Before> = OnceLock::new();

struct Before(libc::sigaction);

// SAFETY: a sigaction is plain data; the function that it points to is code, which never changes.
unsafe impl Send for Before {}
// SAFETY: as above; it is never written again.
unsafe impl Sync for Before {}

/// Whether SIGTERM has come.
pub(crate) fn is_terminated() -> bool {
    TERM.load(Ordering::Acquire)
}

/// Opens what the handler needs for [`watch_listener`] and [`watch_idle`]; once.
pub(crate) fn open_spares() -> io::Result<()> {
    for place in [&NOTHING, &SPARE] {
        if place.load(Ordering::Acquire) < 0 {
            place.store(std::fs::File::open("/dev/null")?.into_raw_fd(), Ordering::Release);
        }
    }
    Ok(())
}

/// From here on SIGTERM sets a flag, does what [`watch_listener`] and [`watch_idle`] say, and calls the handler that was there
/// before. System calls of the application go on (SA_RESTART).
pub(crate) fn handle_term() -> io::Result<()> {
    // SAFETY: gettid takes nothing and cannot fail.
    THREAD.store(unsafe { libc::gettid() }, Ordering::Release);
    if BEFORE.get().is_some() {
        return Ok(());
    }
    let mut before = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: no new action is given; the old one is written to memory of its size.
    if unsafe { libc::sigaction(libc::SIGTERM, ptr::null(), before.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: sigaction has succeeded, so it has written the old action.
    let _ = BEFORE.set(Before(unsafe { before.assume_init() }));
    // SAFETY: an all-zero sigaction is valid: no flags, SIG_DFL, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_term;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the action is complete, and its handler does only what a signal handler may.
    if unsafe { libc::sigaction(libc::SIGTERM, &raw const action, ptr::null_mut()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the set is valid memory of its size; unblocking a signal has no other precondition.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
    }
    Ok(())
}

/// At SIGTERM this fd becomes /dev/null: an accept that is under way is restarted, finds no socket and returns, and so does
/// one that is about to begin. That closes the gap between looking at the flag and accepting, without a system call for
/// each request.
pub(crate) fn watch_listener(fd: BorrowedFd<'_>) {
    LISTENER.store(fd.as_raw_fd(), Ordering::Release);
}

/// At SIGTERM this socket has an end, for those who wait by epoll.
#[cfg(feature = "tower")]
pub(crate) fn watch_waker(fd: BorrowedFd<'_>) {
    WAKER.store(fd.as_raw_fd(), Ordering::Release);
}

/// Until [`unwatch`] the same happens to this connection, because nothing is in hand: a recv that is under way, or about to
/// begin, returns. The connection itself is put aside and loses nothing, so that one which has just brought a request,
/// between the return of recv and [`unwatch`], goes on.
pub(crate) fn watch_idle(fd: RawFd) {
    IDLE.store(fd, Ordering::Release);
}

/// Something has come, or the wait was ended: the connection is in its place again.
pub(crate) fn unwatch(fd: RawFd) {
    IDLE.store(-1, Ordering::Release);
    if !IS_ASIDE.swap(false, Ordering::AcqRel) {
        return;
    }
    let (nothing, spare) = (NOTHING.load(Ordering::Acquire), SPARE.load(Ordering::Acquire));
    // SAFETY: spare and nothing are ours and open for ever; the caller has fd open since watch_idle. dup3 has succeeded with
    // the same numbers before, and makes no new fd.
    unsafe {
        libc::dup3(spare, fd, libc::O_CLOEXEC);
        libc::dup3(nothing, spare, libc::O_CLOEXEC);
    }
}

extern "C" fn on_term(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: all that is called here is async-signal-safe (signal-safety(7)): gettid, tgkill, dup2, dup3 (a bare system call),
    // shutdown; atomics that are lock-free; OnceLock::get, which is one atomic load once it is set. errno is put back.
    unsafe {
        let errno = *libc::__errno_location();
        let thread = THREAD.load(Ordering::Acquire);
        if thread > 0 && thread != libc::gettid() {
            // What is not done in the thread that accepts would come between its system calls, and would not wake it.
            libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGTERM);
            *libc::__errno_location() = errno;
            return;
        }
        TERM.store(true, Ordering::Release);
        let (nothing, spare) = (NOTHING.load(Ordering::Acquire), SPARE.load(Ordering::Acquire));
        let listener = LISTENER.load(Ordering::Acquire);
        if listener >= 0 && nothing >= 0 {
            libc::dup2(nothing, listener);
        }
        let waker = WAKER.load(Ordering::Acquire);
        if waker >= 0 {
            libc::shutdown(waker, libc::SHUT_RD);
        }
        let idle = IDLE.swap(-1, Ordering::AcqRel);
        if idle >= 0 {
            let is_aside =
                libc::dup3(idle, spare, libc::O_CLOEXEC) >= 0 && libc::dup3(nothing, idle, libc::O_CLOEXEC) >= 0;
            IS_ASIDE.store(is_aside, Ordering::Release);
            if !is_aside {
                // There are no spares, or RLIMIT_NOFILE was lowered below them.
                libc::shutdown(idle, libc::SHUT_RD);
            }
        }
        if let Some(Before(before)) = BEFORE.get() {
            let function = before.sa_sigaction;
            if function != libc::SIG_DFL && function != libc::SIG_IGN {
                if before.sa_flags & libc::SA_SIGINFO != 0 {
                    type Informed = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
                    let function = std::mem::transmute::<libc::sighandler_t, Informed>(function);
                    function(signal, info, context);
                } else {
                    let function = std::mem::transmute::<libc::sighandler_t, extern "C" fn(libc::c_int)>(function);
                    function(signal);
                }
            }
        }
        *libc::__errno_location() = errno;
    }
}

/// Takes a variable out of the environment, or changes it. With several threads it stays: another one may be reading it.
pub(crate) fn set_variable(name: &str, value: Option<&str>) {
    if threads().is_ok_and(|threads| threads == 1) {
        // SAFETY: there is one thread, this one, so that nobody reads the environment meanwhile.
        unsafe {
            match value {
                Some(value) => std::env::set_var(name, value),
                None => std::env::remove_var(name),
            }
        }
    }
}

fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// fork(2). `Some(pid)` in the parent, `None` in the child.
///
/// # Errors
/// The kernel has refused it, or this process has more than one thread: those would not be there in the child, and what
/// they have locked would stay locked.
pub(crate) fn fork() -> io::Result<Option<u32>> {
    // Not its errno: that would say that the kernel has refused the process.
    let threads =
        threads().map_err(|error| io::Error::other(format!("cannot count this process's threads: {error}")))?;
    if threads != 1 {
        let why = format!("this process has {threads} threads, and a fork takes one of them along");
        return Err(io::Error::other(why));
    }
    // SAFETY: there is one thread, this one, so that no lock is held by one that will be missing in the child.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid.unsigned_abs())),
    }
}

/// _exit(2): no destructors, no buffers; for a fork that is not a process of its own.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and has no precondition.
    unsafe { libc::_exit(code) }
}

/// waitpid(2) for one child.
pub(crate) fn wait_for(pid: u32) {
    let mut status = 0;
    // SAFETY: status is valid memory; waiting for a child of ours has no other precondition.
    while unsafe { libc::waitpid(pid.cast_signed(), &raw mut status, 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// dup2(2): `target` becomes another name of `fd`, not closed on exec.
pub(crate) fn replace(fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    // SAFETY: fd is open; the callers name 0, 1 and 2 only, which nobody owns.
    if unsafe { libc::dup2(fd.as_raw_fd(), target) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes over an fd that was inherited by its number, and closes it on exec; `None` if it is not open. Of the standard streams,
/// which are not ours to close, a copy.
pub(crate) fn adopt(fd: RawFd) -> Option<OwnedFd> {
    if fd < 0 {
        return None;
    }
    // SAFETY: the number is borrowed for this function only; fcntl says EBADF if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    if fd <= 2 {
        return rustix::io::fcntl_dupfd_cloexec(borrowed, 3).ok();
    }
    let is_open = rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC).is_ok();
    // SAFETY: it is open, and our starter has named it in the environment as ours; each is taken over once, at the start, before
    // anything else in this process can have opened a file under its number.
    is_open.then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets the runtime watch an fd, which does not block. Must be called inside the runtime.
#[cfg(feature = "tower")]
pub(crate) fn watch(fd: std::os::fd::OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>> {
    // SAFETY: an OwnedFd stays open, and stays the same, as long as it lives, and the AsyncFd owns it; nobody here takes it by
    // get_mut.
    Ok(unsafe { tokio::io::unix::AsyncFd::register(fd) }?)
}
