//! The system calls that rustix has no safe function for, one per function.

#![allow(unsafe_code)] // signalfd, waitid(P_ALL), fork, exec and NSS have no safe form.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

use rustix::io::Errno;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set that the pointer refers to.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for &signal in signals {
        // SAFETY: the set is initialised; a number out of range is refused with EINVAL.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// pthread_sigmask(SIG_BLOCK) in this thread.
pub(crate) fn block_signals(signals: &[libc::c_int]) -> io::Result<()> {
    let set = signal_set(signals);
    // SAFETY: the set is initialised, the old one is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// pthread_sigmask(SIG_SETMASK) with the empty set; async-signal-safe.
pub(crate) fn unblock_all_signals() -> Result<(), Errno> {
    let set = signal_set(&[]);
    // SAFETY: the set is initialised, the old one is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(Errno::from_raw_os_error(errno)),
    }
}

/// signalfd(2): non-blocking, close-on-exec.
pub(crate) fn signalfd(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    let set = signal_set(signals);
    // SAFETY: the set is initialised; -1 asks for a new fd.
    let fd = check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) })?;
    // SAFETY: the kernel has just given this fd to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What a signalfd says of one signal: its number, and who sent it.
#[derive(Clone, Copy)]
pub(crate) struct SignalInfo {
    pub(crate) number: u32,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
}

/// read(2) of one record; `None` when there is none now.
pub(crate) fn read_signal(fd: BorrowedFd<'_>) -> io::Result<Option<SignalInfo>> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer is `size` bytes long and lives through the call.
    let got = unsafe { libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
    if got < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        };
    }
    if usize::try_from(got) != Ok(size) {
        return Ok(None);
    }
    // SAFETY: all fields are plain integers, and the kernel has filled the record.
    let info = unsafe { info.assume_init() };
    Ok(Some(SignalInfo { number: info.ssi_signo, pid: info.ssi_pid, uid: info.ssi_uid }))
}

/// rt_sigaction(2) with `SIG_DFL` or `SIG_IGN`; async-signal-safe.
///
/// The bare system call, for the C library refuses its own signals 32 and 33, and a worker must not inherit those ignored
/// either.
pub(crate) fn set_disposition(signal: libc::c_int, ignore: bool) -> Result<(), Errno> {
    // The kernel's struct: handler (0 and 1 are the two constants), flags, restorer, mask of 64 signals.
    let action: [libc::c_ulong; 4] = [libc::c_ulong::from(ignore), 0, 0, 0];
    let no_old = ptr::null_mut::<libc::c_void>();
    // SAFETY: the action lives through the call and names no handler of ours, so nothing can be called.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), no_old, size_of::<u64>()) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// waitid(P_ALL, WEXITED | WCONTINUED | WNOHANG | WNOWAIT): the pid and the `si_code` of an ended child that stays unreaped, of
/// one that was continued, or of a traced process that stands still, which is told whatever one asks for (wait_task_stopped).
pub(crate) fn wait_any() -> io::Result<Option<(i32, i32)>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WCONTINUED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is writable and as large as the kernel's siginfo_t.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ECHILD) { Ok(None) } else { Err(error) };
    }
    // SAFETY: it was zeroed, and zeros are a valid siginfo_t; waitid has written it besides.
    let info = unsafe { info.assume_init() };
    // SAFETY: after waitid the record has the SIGCHLD layout, or is all zeros, and then the pid is 0.
    let pid = unsafe { info.si_pid() };
    Ok((pid > 0).then_some((pid, info.si_code)))
}

/// How a traced process goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traced {
    /// With this signal, or with none.
    Continue(libc::c_int),
    /// Not before SIGCONT, as if nobody traced it.
    Listen,
    /// By itself: it is not traced any more.
    Detach,
}

/// ptrace(PTRACE_SEIZE) with PTRACE_O_TRACEFORK: when the process has forked, it and its child stand still until `trace_on`.
pub(crate) fn trace_forks(pid: u32) -> io::Result<()> {
    let options = libc::c_long::from(libc::PTRACE_O_TRACEFORK);
    // SAFETY: nothing of ours is read or written; the kernel checks the number and whether we may.
    if unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid.cast_signed(), 0 as libc::c_long, options) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// ptrace(2) of a process that stands still because it is traced. One that has been killed meanwhile needs nothing more.
pub(crate) fn trace_on(pid: u32, how: Traced) {
    let (request, signal) = match how {
        Traced::Continue(signal) => (libc::PTRACE_CONT, signal),
        Traced::Listen => (libc::PTRACE_LISTEN, 0),
        Traced::Detach => (libc::PTRACE_DETACH, 0),
    };
    let signal = libc::c_long::from(signal);
    // SAFETY: nothing of ours is read or written; a process that we do not trace gives ESRCH.
    unsafe { libc::ptrace(request, pid.cast_signed(), 0 as libc::c_long, signal) };
}

/// getsid(2): the session of a process, or of ours. 0 is a session that began outside of our pid namespace, which rustix'
/// `getsid` takes for impossible (its `Pid` cannot be 0).
pub(crate) fn session(pid: Option<u32>) -> io::Result<i32> {
    // SAFETY: it takes a number and gives one.
    check(unsafe { libc::getsid(pid.unwrap_or(0).cast_signed()) })
}

/// getpgid(2): the group of a process; 0 is one outside of our pid namespace, as with `session`.
pub(crate) fn process_group(pid: u32) -> io::Result<u32> {
    // SAFETY: it takes a number and gives one.
    check(unsafe { libc::getpgid(pid.cast_signed()) }).map(i32::cast_unsigned)
}

/// close_range(3, ~0, CLOSE_RANGE_CLOEXEC): nothing is closed, everything is closed on exec.
pub(crate) fn close_range_on_exec(first: u32) -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: with this flag no fd is closed, so no owner loses anything.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// fcntl(F_SETFD): whether an fd is closed on exec. By number, for it is another's to own; false when it is not open.
pub(crate) fn set_close_on_exec(number: RawFd, is_closed: bool) -> bool {
    let flags = if is_closed { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: it changes a flag of an entry in our table of files, and no memory; a number that is not open gives EBADF.
    unsafe { libc::fcntl(number, libc::F_SETFD, flags) >= 0 }
}

/// A copy of an open file that an earlier image of ours has left under this number, close-on-exec; `None` when it is not open.
pub(crate) fn copy_of(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: it touches no memory; a number that is not open gives EBADF.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    // SAFETY: the kernel has just given this fd to us alone.
    (copy >= 0).then(|| unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Executes an image when this process is about to end by a fault, or has not called `disarm` within so many seconds.
///
/// The image must be for ever: it is read in a signal's handler. Called once, while there is one thread.
pub(crate) fn arm(image: &'static Image, executable: RawFd, seconds: u32) {
    RESCUE_FD.store(executable, Ordering::Relaxed);
    RESCUE.store(ptr::from_ref(image).cast_mut(), Ordering::Release);
    for signal in FATAL {
        handle(signal, Some(rescue));
    }
    // SAFETY: it sets a timer of this process.
    unsafe { libc::alarm(seconds) };
}

/// Takes that back.
pub(crate) fn disarm() {
    // SAFETY: it ends the timer of this process.
    unsafe { libc::alarm(0) };
    for signal in FATAL {
        handle(signal, None);
    }
    RESCUE.store(ptr::null_mut(), Ordering::Release);
}

static RESCUE: AtomicPtr<Image> = AtomicPtr::new(ptr::null_mut());
static RESCUE_FD: AtomicI32 = AtomicI32::new(-1);

/// What ends a process by its own fault, and the time that is over.
const FATAL: [libc::c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP, libc::SIGALRM];

fn handle(signal: libc::c_int, handler: Option<extern "C" fn(libc::c_int)>) {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeros are a valid sigaction: SIG_DFL, no flags, an empty mask.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = handler.map_or(libc::SIG_DFL, |handler| handler as libc::sighandler_t);
    // Not blocked while it runs: the next image would inherit that.
    action.sa_flags = libc::SA_NODEFER | libc::SA_ONSTACK;
    // SAFETY: the action is whole, and its handler does only what a handler may.
    unsafe { libc::sigaction(signal, action, ptr::null_mut()) };
}

/// Only execveat(2) and _exit(2), which a handler may call.
extern "C" fn rescue(_signal: libc::c_int) {
    // SAFETY: `arm` has put a pointer there that is good for ever, or none.
    if let Some(image) = unsafe { RESCUE.load(Ordering::Acquire).as_ref() } {
        // SAFETY: the number is the open file that `arm` was given; it is only lent.
        let executable = unsafe { BorrowedFd::borrow_raw(RESCUE_FD.load(Ordering::Relaxed)) };
        let _ = image.execute_fd(executable);
    }
    // SAFETY: it ends the process.
    unsafe { libc::_exit(71) }
}

/// Takes an fd that our parent process left open for us; `None` when it is not open.
///
/// The caller asks for each number once, at start, and only for numbers that the configuration or LISTEN_FDS names.
pub(crate) fn inherited_fd(number: RawFd) -> Option<OwnedFd> {
    if number < 0 {
        return None;
    }
    // SAFETY: F_GETFD touches nothing; a number that is no open fd gives EBADF.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: it is open (asked above), and by the caller's contract no one else in this process owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Who is at the other end of a connected unix socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// 0 for one outside our pid namespace.
    pub(crate) pid: u32,
    pub(crate) uid: u32,
}

/// getsockopt(SO_PEERCRED).
///
/// Not rustix's: its type holds a pid above 0, and the kernel says 0 for a peer outside our pid namespace.
pub(crate) fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both pointers are valid for the call, and `length` is the size of what the first one refers to.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    })?;
    Ok(Peer { pid: peer.pid.cast_unsigned(), uid: peer.uid })
}

/// getsockopt(TCP_INFO) of a listener: there `tcpi_unacked` is the number of connections that wait to be accepted
/// (tcp_get_info).
pub(crate) fn tcp_backlog(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: both pointers are valid for the call, and `length` is the size of what the first one refers to.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    // SAFETY: it was zeroed, and zeros are a valid tcp_info; the kernel has written the beginning of it besides.
    Ok(unsafe { info.assume_init() }.tcpi_unacked)
}

/// Removes variables from our own environment.
pub(crate) fn remove_variables(names: &[&str]) {
    for name in names {
        // SAFETY: called at start, while the process has one thread, so nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
}

/// dup2(2): `target` becomes a copy without close-on-exec; async-signal-safe, for the child only.
pub(crate) fn duplicate_onto(fd: BorrowedFd<'_>, target: RawFd) -> Result<(), Errno> {
    // SAFETY: it runs in the forked child, whose fd table nobody else sees; what `target` was is not used any more.
    if unsafe { libc::dup2(fd.as_raw_fd(), target) } < 0 { Err(last_errno()) } else { Ok(()) }
}

/// fork(2), or clone3(2) into a control group: `child` runs in the new process and never comes back; it is told whether it
/// is in that group. The parent gets the pid. A refusal costs only the group, but a machine that is short of something,
/// or a group that is full, refuses the whole.
///
/// `child` must be async-signal-safe: no allocation, no locks, no panics.
pub(crate) fn fork(group: Option<BorrowedFd<'_>>, child: impl FnOnce(bool) -> i32) -> io::Result<i32> {
    // SAFETY: the child runs only `child`, which by contract is async-signal-safe, and then _exit: no destructor and
    // no code of another thread's making runs in it.
    let (pid, is_inside) = match group.map(|group| check(unsafe { clone_into(group) })) {
        Some(Ok(pid)) => (pid, true),
        Some(Err(error)) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM)) => return Err(error),
        // With `RestrictNamespaces=` systemd hides clone3, for its filter cannot see what is in the arguments.
        // SAFETY: as above.
        Some(Err(_)) | None => (check(unsafe { libc::fork() })?, false),
    };
    if pid == 0 {
        let code = child(is_inside);
        // SAFETY: _exit ends the process without running anything of it.
        unsafe { libc::_exit(code) }
    }
    Ok(pid)
}

/// clone3(2) with CLONE_INTO_CGROUP, which is Linux 5.7: a fork whose child begins in this control group, so that there is
/// no moment in which it is in another, and no wait for the whole machine's RCU as with a move (`cgroup.procs`).
///
/// # Safety
/// As of fork(2), but that the C library does not know of it: the child may do nothing but what is async-signal-safe.
unsafe fn clone_into(group: BorrowedFd<'_>) -> libc::c_int {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    /// `struct clone_args` of linux/sched.h, the version of 88 bytes.
    #[repr(C)]
    #[derive(Default)]
    struct Arguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    let arguments = Arguments {
        flags: CLONE_INTO_CGROUP,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        cgroup: u64::from(group.as_raw_fd().unsigned_abs()),
        ..Arguments::default()
    };
    // SAFETY: the arguments are laid out as the kernel wants them and outlive the call; without CLONE_VM the child has
    // its own copy of this stack. What it may do then is the caller's contract.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<Arguments>()) };
    // Pids fit.
    libc::c_int::try_from(pid).unwrap_or(-1)
}

/// The arguments and the environment of a program, laid out before fork so that the child allocates nothing.
pub(crate) struct Image {
    /// Owns what the pointers below point to.
    _strings: Vec<CString>,
    listen_pid: Vec<u8>,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
}

const LISTEN_PID: &[u8] = b"LISTEN_PID=";
const LISTEN_PID_ROOM: usize = 12;

impl Image {
    /// With `listen_pid`, a variable LISTEN_PID is kept free for the child's own pid.
    pub(crate) fn new(arguments: Vec<CString>, environment: Vec<CString>, listen_pid: bool) -> Image {
        let pointers = |strings: &[CString]| strings.iter().map(|s| s.as_ptr()).collect::<Vec<_>>();
        let mut image = Image {
            listen_pid: Vec::new(),
            arguments: pointers(&arguments),
            environment: pointers(&environment),
            _strings: arguments.into_iter().chain(environment).collect(),
        };
        if listen_pid {
            image.listen_pid.extend_from_slice(LISTEN_PID);
            image.listen_pid.resize(LISTEN_PID.len() + LISTEN_PID_ROOM, 0);
            image.environment.push(image.listen_pid.as_ptr().cast());
        }
        image.arguments.push(ptr::null());
        image.environment.push(ptr::null());
        image
    }

    /// Writes the pid into the place kept free; async-signal-safe.
    pub(crate) fn set_listen_pid(&mut self, pid: u32) {
        let Some(room) = self.listen_pid.get_mut(LISTEN_PID.len()..) else {
            return;
        };
        let mut digits = [0u8; 10];
        let mut rest = pid;
        let mut count = 0;
        for digit in &mut digits {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            count += 1;
            if rest == 0 {
                break;
            }
        }
        for (place, digit) in room.iter_mut().zip(digits[..count].iter().rev()) {
            *place = *digit;
        }
        // The pointer is taken again, for writing through `room` has ended what the old one stood for.
        let pointer = self.listen_pid.as_ptr().cast();
        let last = self.environment.len().saturating_sub(2);
        if let Some(place) = self.environment.get_mut(last) {
            *place = pointer;
        }
    }

    /// execve(2); comes back only with the reason why not. Async-signal-safe.
    pub(crate) fn execute(&self, program: &CStr) -> Errno {
        // SAFETY: both arrays end with a null pointer and point to NUL-terminated strings that `self` owns.
        unsafe { libc::execve(program.as_ptr(), self.arguments.as_ptr(), self.environment.as_ptr()) };
        last_errno()
    }

    /// execveat(2) of an open file; comes back only with the reason why not. Async-signal-safe.
    pub(crate) fn execute_fd(&self, executable: BorrowedFd<'_>) -> Errno {
        // SAFETY: as in `execute`; the empty path with AT_EMPTY_PATH means the fd itself.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                executable.as_raw_fd(),
                c"".as_ptr(),
                self.arguments.as_ptr(),
                self.environment.as_ptr(),
                libc::AT_EMPTY_PATH,
            )
        };
        last_errno()
    }
}

/// An entry of the user database, copied.
pub(crate) struct Passwd {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: OsString,
    pub(crate) shell: OsString,
}

/// Long entries of directory services need more; more than this is not believed.
const NSS_BUFFER_MAX: usize = 1 << 20;

/// Calls `ask` with growing buffers until its answer fits; `Ok(false)` when there is no such entry.
fn ask_nss(mut ask: impl FnMut(&mut Vec<libc::c_char>) -> (libc::c_int, bool)) -> io::Result<bool> {
    let mut buffer: Vec<libc::c_char> = vec![0; 1024];
    loop {
        match ask(&mut buffer) {
            (0, found) => return Ok(found),
            // "The given name or uid was not found", in the several ways of getpwnam(3).
            (libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM, _) => return Ok(false),
            (libc::EINTR, _) => {}
            (libc::ERANGE, _) if buffer.len() < NSS_BUFFER_MAX => {
                let longer = buffer.len() * 4;
                buffer.resize(longer, 0);
            }
            (errno, _) => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Copies a C string that NSS gave; empty for a null pointer.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string that lives through the call.
unsafe fn copy(text: *const libc::c_char) -> OsString {
    if text.is_null() {
        return OsString::new();
    }
    // SAFETY: by the caller's contract.
    OsStr::from_bytes(unsafe { CStr::from_ptr(text) }.to_bytes()).to_owned()
}

/// Copies an entry.
///
/// # Safety
/// `entry` has been filled by getpwnam_r or getpwuid_r, and the buffer given to it lives.
unsafe fn copy_passwd(entry: &libc::passwd) -> Passwd {
    // SAFETY: the strings lie in the buffer, by the caller's contract.
    let (name, home, shell) = unsafe { (copy(entry.pw_name), copy(entry.pw_dir), copy(entry.pw_shell)) };
    Passwd { name: name.to_string_lossy().into_owned(), uid: entry.pw_uid, gid: entry.pw_gid, home, shell }
}

/// getpwnam_r(3).
pub(crate) fn user_by_name(name: &CStr) -> io::Result<Option<Passwd>> {
    let mut passwd = None;
    ask_nss(|buffer| {
        let mut entry = MaybeUninit::<libc::passwd>::zeroed();
        let mut result = ptr::null_mut();
        // SAFETY: all pointers are valid for the call, and the length is the buffer's.
        let errno = unsafe {
            libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut result)
        };
        if errno == 0 && !result.is_null() {
            // SAFETY: a result that is not null is `entry`, filled, with its strings in `buffer`.
            passwd = Some(unsafe { copy_passwd(&*result) });
        }
        (errno, passwd.is_some())
    })?;
    Ok(passwd)
}

/// getpwuid_r(3).
pub(crate) fn user_by_uid(uid: u32) -> io::Result<Option<Passwd>> {
    let mut passwd = None;
    ask_nss(|buffer| {
        let mut entry = MaybeUninit::<libc::passwd>::zeroed();
        let mut result = ptr::null_mut();
        // SAFETY: all pointers are valid for the call, and the length is the buffer's.
        let errno =
            unsafe { libc::getpwuid_r(uid, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut result) };
        if errno == 0 && !result.is_null() {
            // SAFETY: a result that is not null is `entry`, filled, with its strings in `buffer`.
            passwd = Some(unsafe { copy_passwd(&*result) });
        }
        (errno, passwd.is_some())
    })?;
    Ok(passwd)
}

/// getgrnam_r(3).
pub(crate) fn group_by_name(name: &CStr) -> io::Result<Option<u32>> {
    let mut gid = None;
    ask_nss(|buffer| {
        let mut entry = MaybeUninit::<libc::group>::zeroed();
        let mut result = ptr::null_mut();
        // SAFETY: all pointers are valid for the call, and the length is the buffer's.
        let errno = unsafe {
            libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut result)
        };
        if errno == 0 && !result.is_null() {
            // SAFETY: a result that is not null is `entry`, filled.
            gid = Some(unsafe { (*result).gr_gid });
        }
        (errno, gid.is_some())
    })?;
    Ok(gid)
}

/// getgrouplist(3): the supplementary groups, `gid` included.
pub(crate) fn group_list(user: &CStr, gid: u32) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut count = libc::c_int::try_from(groups.len()).map_err(io::Error::other)?;
        // SAFETY: `count` is the length of the array, and both live through the call.
        let result = unsafe { libc::getgrouplist(user.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        let needed = usize::try_from(count).map_err(io::Error::other)?;
        if result >= 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        // Linux allows 65,536 groups (NGROUPS_MAX).
        if groups.len() > 65_536 {
            return Err(io::Error::other("more groups than the kernel allows"));
        }
        groups.resize(needed.max(groups.len() * 2), 0);
    }
}

/// tgkill(2) to a thread of this process.
#[cfg(test)]
pub(crate) fn signal_thread(tid: i32, signal: libc::c_int) {
    // SAFETY: the signal goes to a thread of our own, which blocks it.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, signal) };
}
