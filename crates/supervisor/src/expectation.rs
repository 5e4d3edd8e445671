//! Sees on what a process waits: on a listening socket, or on something else.
//!
//! A worker waits for a request in accept(2), or with a listener among others in poll(2), select(2) or epoll_wait(2). In the same
//! calls it waits while it loads its application: for the address of its database (resolver(3) polls), for an answer, for
//! nothing but time. So the fds of the call are looked at, which stand in the process's own memory.

use std::fs::{self, File};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use crate::children::Pid;
use crate::connections::is_listener;
use crate::procfs::Syscall;

/// So many fds of a call are looked at.
const FDS_MAX: usize = 1024;
/// The size of a `struct pollfd`, which begins with the fd (poll(2)).
const POLLFD: usize = 8;

#[cfg(target_arch = "x86_64")]
const POLL: [i64; 2] = [libc::SYS_poll, libc::SYS_ppoll];
#[cfg(target_arch = "x86_64")]
const SELECT: [i64; 2] = [libc::SYS_select, libc::SYS_pselect6];

#[cfg(not(target_arch = "x86_64"))]
const POLL: [i64; 1] = [libc::SYS_ppoll];
#[cfg(not(target_arch = "x86_64"))]
const SELECT: [i64; 1] = [libc::SYS_pselect6];

/// Whether a process that is in this system call waits for a visitor; `None` where the kernel does not tell.
pub(crate) fn is_of_a_visitor(pid: Pid, pidfd: BorrowedFd<'_>, syscall: Syscall) -> Option<bool> {
    if !syscall.is_waiting() || syscall.is_accepting() {
        return Some(syscall.is_accepting());
    }
    let mut is_unknown = false;
    for number in awaited(pid, syscall)? {
        match is_listener(pidfd, number) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => is_unknown = true,
        }
    }
    (!is_unknown).then_some(false)
}

/// The fds on which it waits.
fn awaited(pid: Pid, syscall: Syscall) -> Option<Vec<i32>> {
    let Syscall::Blocked { number, first_arg, second_arg } = syscall else { return Some(Vec::new()) };
    if POLL.contains(&number) {
        let count = usize::try_from(second_arg).ok()?.min(FDS_MAX);
        let polled = memory(pid, first_arg, count * POLLFD)?;
        return Some(
            polled.chunks_exact(POLLFD).filter_map(|entry| Some(i32::from_ne_bytes(*entry.first_chunk()?))).collect(),
        );
    }
    if SELECT.contains(&number) {
        let count = usize::try_from(first_arg).ok()?.min(FDS_MAX);
        // A set is an array of longs, the lowest fd in the lowest bit (select(2)).
        let set = if second_arg == 0 { Vec::new() } else { memory(pid, second_arg, count.div_ceil(64) * 8)? };
        let longs = set.chunks_exact(8).filter_map(|long| Some(u64::from_ne_bytes(*long.first_chunk()?)));
        let of_long =
            |(at, long): (i32, u64)| (0..64).filter(move |bit| long & (1 << bit) != 0).map(move |bit| at * 64 + bit);
        return Some((0..).zip(longs).flat_map(of_long).collect());
    }
    // epoll_wait in one of its forms.
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{first_arg}")).ok()?;
    let target = |line: &str| line.strip_prefix("tfd:")?.split_whitespace().next()?.parse().ok();
    Some(text.lines().filter_map(target).take(FDS_MAX).collect())
}

fn memory(pid: Pid, address: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    File::open(format!("/proc/{pid}/mem")).ok()?.read_exact_at(&mut bytes, address).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use rustix::process::{PidfdFlags, pidfd_open};

    use super::*;
    use crate::procfs::Procfs;

    /// What is seen of a Perl program in poll, select or epoll that has a listener as $S, and a socket that does not listen as $U.
    fn seen(program: &str) -> Option<bool> {
        let before = "$| = 1; socket($S, PF_INET, SOCK_STREAM, 0); listen($S, 5); socket($U, PF_INET, SOCK_DGRAM, 0);";
        let text = format!("{before} print \"ready\\n\"; {program}");
        let mut child = Command::new("perl")
            .args(["-MSocket", "-MIO::Poll", "-e", &text])
            .stdout(Stdio::piped())
            .spawn()
            .expect("perl runs");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("it says ready");
        let pid = Pid::told(child.id()).expect("a pid");
        let pidfd = pidfd_open(pid.raw(), PidfdFlags::empty()).expect("our child");
        let mut procfs = Procfs::new();
        let mut look = || {
            std::thread::yield_now();
            procfs.syscall(pid).filter(|syscall| syscall.is_waiting())
        };
        let syscall = (0..100_000).find_map(|_| look()).expect("it waits");
        let seen = is_of_a_visitor(pid, pidfd.as_fd(), syscall);
        child.kill().expect("our child");
        child.wait().expect("our child");
        seen
    }

    #[test]
    fn who_waits_with_a_listener_waits_for_a_visitor() {
        let select = |sets: &str| seen(&format!("my $r = ''; {sets}; select($r, undef, undef, 1000)"));
        assert_eq!(seen("accept(C, $S)"), Some(true));
        assert_eq!(select("vec($r, fileno($S), 1) = 1; vec($r, fileno($U), 1) = 1"), Some(true));
        assert_eq!(select("vec($r, fileno($U), 1) = 1"), Some(false));
        assert_eq!(seen("select(undef, undef, undef, 1000)"), Some(false));
        let poll = |masks: &str| seen(&format!("my $p = IO::Poll->new; {masks}; $p->poll(1000)"));
        assert_eq!(poll("$p->mask($U => POLLIN); $p->mask($S => POLLIN)"), Some(true));
        assert_eq!(poll("$p->mask($U => POLLIN)"), Some(false));
        // epoll_create, epoll_ctl(ADD, { EPOLLIN, fd }), epoll_wait(2)
        let epoll = |of: &str| {
            let (create, control, wait) = (libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait);
            seen(&format!(
                "my $e = syscall({create}, 0); my $v = pack('L x![L] q', 1, 0) . 'x' x 16; \
                 syscall({control}, $e, 1, fileno({of}), $v) and die $!; my $b = 'x' x 4096; syscall({wait}, $e, $b, 8, -1, 0, 8)"
            ))
        };
        assert_eq!(epoll("$S"), Some(true));
        assert_eq!(epoll("$U"), Some(false));
    }
}
