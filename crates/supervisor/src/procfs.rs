//! Reads what the kernel says about a process: where it waits, what it wrote, what it uses.
//!
//! Every look opens one file below /proc, reads it once into the same buffer and parses it strictly: a text that is not
//! as proc(5) says gives `None`, like a process that is gone or closed to us. Nothing is allocated.

use std::io::Write;
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::children::Pid;

/// More than any of the files read here (`/proc/vmstat` has about 6 KiB).
const BUFFER: usize = 16 * 1024;

/// A reader with its buffer.
pub struct Procfs {
    buffer: Box<[u8; BUFFER]>,
    ticks_per_second: u64,
}

/// What the main thread of a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syscall {
    /// It runs, or is ready to.
    Running,
    /// It waits in the kernel.
    Blocked {
        /// In this system call; -1 for a page fault or the like.
        number: i64,
        /// The call's first argument, mostly an fd.
        first_arg: u64,
        /// Its second one.
        second_arg: u64,
    },
}

/// `/proc/PID/io`, in bytes and calls since the process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Io {
    /// Read, from whatever.
    pub rchar: u64,
    /// Written, to whatever.
    pub wchar: u64,
    /// Calls that read.
    pub syscr: u64,
    /// Calls that wrote.
    pub syscw: u64,
}

/// `/proc/PID/smaps_rollup`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Memory {
    /// All resident pages.
    pub rss: u64,
    /// Shared pages divided by their users.
    pub pss: u64,
    /// Pages that nobody else has, clean and dirty.
    pub private: u64,
}

const ACCEPTING: [i64; 2] = [libc::SYS_accept, libc::SYS_accept4];

#[cfg(target_arch = "x86_64")]
const WAITING: [i64; 8] = [
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    // epoll_wait_old
    libc::SYS_epoll_wait_old,
];

// Newer architectures have only the `p` forms.
#[cfg(not(target_arch = "x86_64"))]
const WAITING: [i64; 4] = [libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];

impl Syscall {
    /// It waits for something to come: accept, poll, select or epoll in any form.
    pub fn is_waiting(self) -> bool {
        self.is_in(&WAITING) || self.is_accepting()
    }

    /// It waits in accept or accept4.
    pub fn is_accepting(self) -> bool {
        self.is_in(&ACCEPTING)
    }

    fn is_in(self, calls: &[i64]) -> bool {
        match self {
            Syscall::Running => false,
            Syscall::Blocked { number, .. } => calls.contains(&number),
        }
    }
}

impl Default for Procfs {
    fn default() -> Procfs {
        Procfs::new()
    }
}

impl Procfs {
    /// With its buffer of 16 KiB.
    pub fn new() -> Procfs {
        Procfs { buffer: Box::new([0; BUFFER]), ticks_per_second: rustix::param::clock_ticks_per_second() }
    }

    /// What the main thread does; `None` when it is gone or closed to us.
    pub fn syscall(&mut self, pid: Pid) -> Option<Syscall> {
        parse_syscall(self.read(pid, "syscall")?)
    }

    /// What the process has read and written; of an ended one too, until it is reaped.
    pub fn io(&mut self, pid: Pid) -> Option<Io> {
        let text = self.read(pid, "io")?;
        Some(Io {
            rchar: number_of(text, b"rchar:")?,
            wchar: number_of(text, b"wchar:")?,
            syscr: number_of(text, b"syscr:")?,
            syscw: number_of(text, b"syscw:")?,
        })
    }

    /// Whether it has a handler for SIGTERM.
    pub fn catches_term(&mut self, pid: Pid) -> Option<bool> {
        self.catches(pid, libc::SIGTERM)
    }

    /// Whether it has a handler for SIGQUIT.
    pub fn catches_quit(&mut self, pid: Pid) -> Option<bool> {
        self.catches(pid, libc::SIGQUIT)
    }

    fn catches(&mut self, pid: Pid, signal: i32) -> Option<bool> {
        let text = self.read(pid, "status")?;
        let mask = u64::from_str_radix(text_of(text, b"SigCgt:")?, 16).ok()?;
        Some(mask & (1 << (signal - 1)) != 0)
    }

    /// Its parent now.
    pub fn ppid(&mut self, pid: Pid) -> Option<u32> {
        stat_field(self.read(pid, "stat")?, 4)?.try_into().ok()
    }

    /// When it began, in clock ticks since boot: with the pid the name of a process life.
    pub fn start_time(&mut self, pid: Pid) -> Option<u64> {
        stat_field(self.read(pid, "stat")?, 22)
    }

    /// Its real user.
    pub fn uid(&mut self, pid: Pid) -> Option<u32> {
        text_of(self.read(pid, "status")?, b"Uid:")?.parse().ok()
    }

    /// Processor time of all its threads, user and system.
    pub fn cpu_time(&mut self, pid: Pid) -> Option<Duration> {
        let ticks_per_second = self.ticks_per_second;
        let text = self.read(pid, "stat")?;
        let ticks = stat_field(text, 14)?.checked_add(stat_field(text, 15)?)?;
        let seconds = ticks.checked_div(ticks_per_second)?;
        let nanos = (ticks % ticks_per_second).checked_mul(1_000_000_000)?.checked_div(ticks_per_second)?;
        Some(Duration::new(seconds, u32::try_from(nanos).ok()?))
    }

    /// Resident bytes: cheap.
    pub fn rss(&mut self, pid: Pid) -> Option<u64> {
        let page = u64::try_from(rustix::param::page_size()).ok()?;
        let text = self.read(pid, "statm")?;
        decimal(text.split(|&byte| byte == b' ').nth(1)?)?.checked_mul(page)
    }

    /// Resident bytes that are no file's and in no shared segment: what `fork` shares is among them. Everybody may read that.
    pub fn anonymous(&mut self, pid: Pid) -> Option<u64> {
        let page = u64::try_from(rustix::param::page_size()).ok()?;
        let text = self.read(pid, "statm")?;
        let mut numbers = text.split(|&byte| byte == b' ').skip(1).map_while(decimal);
        let (resident, shared) = (numbers.next()?, numbers.next()?);
        resident.saturating_sub(shared).checked_mul(page)
    }

    /// Resident, proportional and private bytes: the kernel walks all pages for it.
    pub fn memory(&mut self, pid: Pid) -> Option<Memory> {
        let text = self.read(pid, "smaps_rollup")?;
        let bytes = |key: &[u8]| number_of(text, key)?.checked_mul(1024);
        Some(Memory {
            rss: bytes(b"Rss:")?,
            pss: bytes(b"Pss:")?,
            private: bytes(b"Private_Clean:")?.checked_add(bytes(b"Private_Dirty:")?)?,
        })
    }

    /// Where its main thread is, in words: the system call, the kernel function in which it waits, and to root the whole
    /// way to there.
    pub fn place(&mut self, pid: Pid) -> Option<String> {
        let mut words = match self.syscall(pid)? {
            Syscall::Running => "the worker runs".to_owned(),
            Syscall::Blocked { number, first_arg, .. } => match call_name(number) {
                Some((name, true)) => format!("the worker waits in {name}(fd {first_arg})"),
                Some((name, false)) => format!("the worker waits in {name}"),
                None => format!("the worker waits in system call {number}"),
            },
        };
        let wchan = self.read(pid, "wchan").map(|text| String::from_utf8_lossy(text).trim().to_owned());
        if let Some(wchan) = wchan.filter(|wchan| !wchan.is_empty() && wchan != "0") {
            let _infallible = std::fmt::Write::write_fmt(&mut words, format_args!(", kernel function {wchan}"));
        }
        let stack = self.read(pid, "stack").map(|text| frames(&String::from_utf8_lossy(text)));
        if let Some(stack) = stack.filter(|stack| !stack.is_empty()) {
            let _infallible = std::fmt::Write::write_fmt(&mut words, format_args!(", stack {stack}"));
        }
        Some(crate::output::escape(words.as_bytes(), PLACE_MAX))
    }

    /// How many processes the kernel has killed for memory since boot, on this whole machine.
    pub fn oom_kills(&mut self) -> Option<u64> {
        let text = self.read_path(b"/proc/vmstat\0")?;
        number_of(text, b"oom_kill ")
    }

    fn read(&mut self, pid: Pid, file: &str) -> Option<&[u8]> {
        // "/proc/" + 10 digits + "/" + the longest name + NUL.
        let mut path = [0u8; 40];
        write!(&mut path[..], "/proc/{pid}/{file}\0").ok()?;
        self.read_path(&path)
    }

    fn read_path(&mut self, path: &[u8]) -> Option<&[u8]> {
        let path = std::ffi::CStr::from_bytes_until_nul(path).ok()?;
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut filled = 0;
        // Some of these files come in pieces of a page.
        while let Some(room) = self.buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            match rustix::io::read(file.as_fd(), room) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        self.buffer.get(..filled)
    }
}

/// Bytes of a place in words.
const PLACE_MAX: usize = 1024;

/// A system call's name, and whether its first argument is an fd, of those in which a program mostly waits.
fn call_name(number: i64) -> Option<(&'static str, bool)> {
    Some(match number {
        libc::SYS_read => ("read", true),
        libc::SYS_write => ("write", true),
        libc::SYS_recvfrom => ("recvfrom", true),
        libc::SYS_recvmsg => ("recvmsg", true),
        libc::SYS_sendto => ("sendto", true),
        libc::SYS_sendmsg => ("sendmsg", true),
        libc::SYS_connect => ("connect", true),
        libc::SYS_accept => ("accept", true),
        libc::SYS_accept4 => ("accept4", true),
        libc::SYS_flock => ("flock", true),
        libc::SYS_fcntl => ("fcntl", true),
        libc::SYS_fsync => ("fsync", true),
        libc::SYS_fdatasync => ("fdatasync", true),
        libc::SYS_openat => ("openat", false),
        libc::SYS_futex => ("futex", false),
        libc::SYS_nanosleep => ("nanosleep", false),
        libc::SYS_clock_nanosleep => ("clock_nanosleep", false),
        libc::SYS_wait4 => ("wait4", false),
        libc::SYS_ppoll => ("ppoll", false),
        libc::SYS_pselect6 => ("pselect6", false),
        libc::SYS_epoll_pwait => ("epoll_pwait", true),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll => ("poll", false),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_select => ("select", false),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait => ("epoll_wait", true),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_pause => ("pause", false),
        _ => return None,
    })
}

/// The kernel functions of `/proc/PID/stack`, the innermost first, without addresses and offsets.
fn frames(stack: &str) -> String {
    let functions = stack.lines().filter_map(|line| {
        let function = line.split_once("] ").map_or(line, |(_, function)| function);
        let function = function.split(['+', ' ']).next()?;
        (!function.is_empty() && !function.starts_with("0x")).then_some(function)
    });
    functions.take(12).collect::<Vec<_>>().join(" < ")
}

fn parse_syscall(text: &[u8]) -> Option<Syscall> {
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.split_ascii_whitespace();
    let first = words.next()?;
    if first == "running" {
        return Some(Syscall::Running);
    }
    let number = first.parse().ok()?;
    // "-1 SP PC": blocked, but in no system call.
    if number < 0 {
        return Some(Syscall::Blocked { number: -1, first_arg: 0, second_arg: 0 });
    }
    let mut args = words.map_while(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    Some(Syscall::Blocked { number, first_arg: args.next()?, second_arg: args.next()? })
}

fn decimal(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The first word behind `key`, which begins a line.
fn text_of<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a str> {
    let rest = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(key))?;
    std::str::from_utf8(rest).ok()?.split_ascii_whitespace().next()
}

fn number_of(text: &[u8], key: &[u8]) -> Option<u64> {
    text_of(text, key)?.parse().ok()
}

/// A number of `/proc/PID/stat`, counted from 1 as in proc(5). The second field is the program's name in brackets,
/// and the program may have put anything into it: fields are counted from the last bracket.
fn stat_field(text: &[u8], field: usize) -> Option<u64> {
    const AFTER_NAME: Range<usize> = 4..53;
    if !AFTER_NAME.contains(&field) {
        return None;
    }
    let bracket = text.iter().rposition(|&byte| byte == b')')?;
    let rest = text.get(bracket + 1..)?;
    // Behind the bracket come a space and field 3.
    let word = rest.split(|&byte| byte == b' ').nth(field - 2)?;
    decimal(word.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn pid_of(child: &Child) -> Pid {
        Pid::new(child.id().cast_signed()).expect("a pid")
    }

    /// Perl that says "ready" and then runs `last`.
    fn perl(before: &str, last: &str) -> Child {
        let program = format!("$| = 1; {before}; print \"ready\\n\"; {last}");
        let mut child = Command::new("perl")
            .args(["-MSocket", "-e", &program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("perl");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("ready");
        assert_eq!(line, "ready\n");
        child
    }

    fn end(mut child: Child) {
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    /// Looks until the process is blocked: it may still be on its way from "ready" into the call.
    fn blocked(procfs: &mut Procfs, pid: Pid, wanted: fn(Syscall) -> bool) -> bool {
        (0..100_000).any(|_| {
            std::thread::yield_now();
            procfs.syscall(pid).is_some_and(wanted)
        })
    }

    #[test]
    fn a_worker_in_accept_is_seen_there() {
        let listen = "socket(S, PF_INET, SOCK_STREAM, 0); bind(S, sockaddr_in(0, INADDR_LOOPBACK)); listen(S, 5)";
        let child = perl(listen, "accept(C, S)");
        let mut procfs = Procfs::new();
        assert!(blocked(&mut procfs, pid_of(&child), Syscall::is_accepting));
        assert!(procfs.syscall(pid_of(&child)).is_some_and(Syscall::is_waiting));
        end(child);
    }

    #[test]
    fn a_worker_in_select_waits_and_one_in_read_does_not() {
        let mut procfs = Procfs::new();
        let selecting = perl("", "select(undef, undef, undef, 1000)");
        assert!(blocked(&mut procfs, pid_of(&selecting), Syscall::is_waiting));
        assert!(!procfs.syscall(pid_of(&selecting)).is_some_and(Syscall::is_accepting));
        end(selecting);
        let reading = perl("", "sysread(STDIN, $x, 1)");
        let in_read = |call| matches!(call, Syscall::Blocked { number, first_arg: 0, .. } if number == libc::SYS_read);
        assert!(blocked(&mut procfs, pid_of(&reading), in_read));
        assert!(!procfs.syscall(pid_of(&reading)).is_some_and(Syscall::is_waiting));
        end(reading);
    }

    #[test]
    fn a_spinning_worker_runs() {
        let child = perl("", "1 while 1");
        assert!(blocked(&mut Procfs::new(), pid_of(&child), |call| call == Syscall::Running));
        end(child);
    }

    #[test]
    fn io_memory_and_times_are_read() {
        let mut procfs = Procfs::new();
        let child = perl("$x = 'x' x 8_000_000", "sysread(STDIN, $x, 1)");
        let pid = pid_of(&child);
        let io = procfs.io(pid).expect("io");
        assert!(io.wchar >= 6 && io.rchar > 1000 && io.syscr > 5 && io.syscw >= 1, "{io:?}");
        let memory = procfs.memory(pid).expect("memory");
        assert!(memory.private > 8_000_000 && memory.pss >= memory.private && memory.rss >= memory.pss, "{memory:?}");
        let anonymous = procfs.anonymous(pid_of(&child)).expect("statm");
        assert!(anonymous > 8_000_000 && anonymous < memory.rss, "{anonymous} of {memory:?}");
        assert!(procfs.rss(pid).expect("rss") > 8_000_000);
        assert_eq!(procfs.ppid(pid), Some(std::process::id()));
        assert!(procfs.start_time(pid).expect("start") > 0);
        assert!(procfs.cpu_time(pid).expect("cpu") < Duration::from_secs(60));
        assert!(procfs.oom_kills().is_some());
        end(child);
    }

    #[test]
    fn the_io_of_the_dead_is_there_until_they_are_reaped() {
        let mut procfs = Procfs::new();
        let mut child = perl("", "syswrite(STDOUT, 'x' x 1000)");
        let pid = pid_of(&child);
        let pidfd = rustix::process::pidfd_open(pid.raw(), rustix::process::PidfdFlags::empty()).expect("pidfd");
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None).expect("poll");
        assert!(procfs.io(pid).expect("a zombie's io").wchar >= 1000);
        child.wait().expect("wait");
        assert_eq!(procfs.io(pid), None);
        assert_eq!(procfs.syscall(pid), None);
    }

    #[test]
    fn who_catches_term_is_seen() {
        let mut procfs = Procfs::new();
        let (deaf, plain) = (perl("$SIG{TERM} = sub {}", "sleep 1000"), perl("", "sleep 1000"));
        assert_eq!(procfs.catches_term(pid_of(&deaf)), Some(true));
        assert_eq!(procfs.catches_term(pid_of(&plain)), Some(false));
        end(deaf);
        end(plain);
    }

    #[test]
    fn where_a_worker_waits_is_told_in_words() {
        let mut procfs = Procfs::new();
        let reading = perl("", "sysread(STDIN, $x, 1)");
        let pid = pid_of(&reading);
        let told = (0..100_000).find_map(|_| {
            std::thread::yield_now();
            procfs.place(pid).filter(|place| place.starts_with("the worker waits in read(fd 0)"))
        });
        assert!(told.is_some(), "{:?}", procfs.place(pid));
        end(reading);
        assert_eq!(procfs.place(pid), None);
        let stack = "[<0>] do_nanosleep+0x67/0x190\n[<0>] hrtimer_nanosleep+0xbe/0x1a0\n";
        assert_eq!(frames(stack), "do_nanosleep < hrtimer_nanosleep");
        assert_eq!(frames(""), "");
    }

    #[test]
    fn nonsense_gives_nothing() {
        for text in ["", "x", "7", "7 3", "7 0xzz", "99999999999999999999 0x1", "running?"] {
            assert_eq!(parse_syscall(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_syscall(b"\xff\xfe"), None);
        assert_eq!(parse_syscall(b"running\n"), Some(Syscall::Running));
        assert_eq!(
            parse_syscall(b"-1 0x7f 0x7e\n"),
            Some(Syscall::Blocked { number: -1, first_arg: 0, second_arg: 0 })
        );
        let accept = Syscall::Blocked { number: 288, first_arg: 4, second_arg: 0x7f };
        assert_eq!(parse_syscall(b"288 0x4 0x7f 0x0\n"), Some(accept));
        assert_eq!(number_of(b"rchar: 1\nwchar: -2\n", b"wchar:"), None);
        assert_eq!(number_of(b"xwchar: 1\n", b"wchar:"), None);
        assert_eq!(stat_field(b"1 (a) S", 22), None);
        assert_eq!(stat_field(b"no brackets", 4), None);
    }

    #[test]
    fn a_program_cannot_forge_its_stat_by_its_name() {
        assert_eq!(stat_field(b"7 (x) S 99 (y) R 42 7 7\n", 4), Some(42));
    }
}
