//! What a worker's process does between fork and exec: one straight list of steps.
//!
//! Everything here is async-signal-safe: no allocation, no locks, no panics. Whatever is needed lies ready in `Plan`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{self, Gid, Resource, Rlimit, Signal, Uid};

use crate::spawn_error::Step;
use crate::sys::{self, Image};

/// More descriptors than this are never handed over.
pub(crate) const TARGETS_MAX: usize = 64;

/// Everything that the child needs, made before fork.
pub(crate) struct Plan<'a> {
    pub(crate) parent: process::Pid,
    /// What becomes fd 0, 1, 2, 3 …: at most `TARGETS_MAX`.
    pub(crate) targets: &'a [BorrowedFd<'a>],
    /// The directory of the control group that it is to enter.
    pub(crate) control_group: Option<BorrowedFd<'a>>,
    pub(crate) umask: Option<Mode>,
    pub(crate) limits: &'a [(Resource, Rlimit)],
    pub(crate) groups: Option<&'a [Gid]>,
    pub(crate) gid: Option<Gid>,
    pub(crate) uid: Option<Uid>,
    pub(crate) directory: WorkingDirectory<'a>,
    pub(crate) executable: Option<BorrowedFd<'a>>,
    pub(crate) program: &'a std::ffi::CStr,
    pub(crate) image: &'a mut Image,
    /// Where a failure is reported; exec closes it.
    pub(crate) report: BorrowedFd<'a>,
}

/// Where the worker begins.
pub(crate) enum WorkingDirectory<'a> {
    Path(&'a std::ffi::CStr),
    Fd(BorrowedFd<'a>),
}

/// The exit code of a child that could not become a worker; nobody sees it but strace.
const FAILED: i32 = 127;

/// The child's whole life up to exec; comes back only when it failed, with the code to leave with. It may have begun in its
/// control group.
pub(crate) fn run(mut plan: Plan<'_>, is_inside: bool) -> i32 {
    // The report must not lie where a target will stand.
    let above = first_free(plan.targets);
    let Ok(report) = rustix::io::fcntl_dupfd_cloexec(plan.report, above) else {
        let _nobody_listens = tell(plan.report, Step::Descriptors, Errno::MFILE);
        return FAILED;
    };
    if let Some(Err(errno)) = plan.control_group.filter(|_| !is_inside).map(enter) {
        // It runs without.
        let _nobody_listens = tell(report.as_fd(), Step::ControlGroup, errno);
    }
    let (step, errno) = prepare(&mut plan, above);
    let _nobody_listens = tell(report.as_fd(), step, errno);
    FAILED
}

/// Moves itself into the control group, as long as it has our rights (cgroups(7): 0 is whoever writes it).
fn enter(group: BorrowedFd<'_>) -> Result<(), Errno> {
    let processes = rustix::fs::openat(group, c"cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(processes, b"0\n").map(drop)
}

fn first_free(targets: &[BorrowedFd<'_>]) -> RawFd {
    RawFd::try_from(targets.len()).unwrap_or(RawFd::MAX)
}

fn tell(report: BorrowedFd<'_>, step: Step, errno: Errno) -> Result<usize, Errno> {
    let [a, b, c, d] = errno.raw_os_error().to_ne_bytes();
    rustix::io::write(report, &[step.number(), a, b, c, d])
}

/// The steps. The order matters: descriptors before the limit of descriptors, limits before the privilege to raise
/// them goes, the directory with the worker's own rights, PDEATHSIG after the change of user (which clears it).
fn prepare(plan: &mut Plan<'_>, above: RawFd) -> (Step, Errno) {
    match prepare_in_order(plan, above) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn prepare_in_order(plan: &mut Plan<'_>, above: RawFd) -> Result<std::convert::Infallible, (Step, Errno)> {
    let at = |step: Step| move |errno: Errno| (step, errno);
    process::setpgid(None, None).map_err(at(Step::Group))?;
    reset_dispositions().map_err(at(Step::Signals))?;
    // Like the report, these two may lie where a target will stand.
    let aside = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, above).map_err(at(Step::Descriptors));
    let directory = match plan.directory {
        WorkingDirectory::Path(_) => None,
        WorkingDirectory::Fd(fd) => Some(aside(fd)?),
    };
    let executable = plan.executable.map(aside).transpose()?;
    hand_over(plan.targets, above).map_err(at(Step::Descriptors))?;
    if let Some(mask) = plan.umask {
        process::umask(mask);
    }
    for (resource, limit) in plan.limits {
        process::setrlimit(*resource, *limit).map_err(at(Step::Limits))?;
    }
    // The "thread" of these three is the whole process here: a forked child has one thread.
    if let Some(groups) = plan.groups {
        rustix::thread::set_thread_groups(groups).map_err(at(Step::Groups))?;
    }
    if let Some(gid) = plan.gid {
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(at(Step::Gid))?;
    }
    if let Some(uid) = plan.uid {
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(at(Step::Uid))?;
    }
    if let Some(fd) = &directory {
        process::fchdir(fd).map_err(at(Step::Directory))?;
    } else if let WorkingDirectory::Path(path) = plan.directory {
        process::chdir(path).map_err(at(Step::Directory))?;
    }
    process::set_parent_process_death_signal(Some(Signal::TERM)).map_err(at(Step::ParentDeath))?;
    // The supervisor may have died before the line above: then its death signals nobody any more.
    if process::getppid() != Some(plan.parent) {
        return Err((Step::ParentDeath, Errno::SRCH));
    }
    plan.image.set_listen_pid(process::getpid().as_raw_nonzero().get().unsigned_abs());
    sys::unblock_all_signals().map_err(at(Step::Signals))?;
    // A script cannot be executed by a close-on-exec fd (its interpreter would find nothing behind /dev/fd/N): ENOENT.
    if let Some(executable) = &executable {
        let errno = plan.image.execute_fd(executable.as_fd());
        if errno != Errno::NOENT {
            return Err((Step::Execute, errno));
        }
    }
    Err((Step::Execute, plan.image.execute(plan.program)))
}

/// Every signal gets its default: what is ignored here would stay ignored through exec.
fn reset_dispositions() -> Result<(), Errno> {
    for signal in 1..=64 {
        match sys::set_disposition(signal, false) {
            // KILL and STOP.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Puts each target where it belongs: first all out of the way, then one by one into place, so that no order of fds
/// can overwrite one that is still needed. The copies are close-on-exec, the ones in place are not.
fn hand_over(targets: &[BorrowedFd<'_>], above: RawFd) -> Result<(), Errno> {
    let mut moved: [Option<OwnedFd>; TARGETS_MAX] = [const { None }; TARGETS_MAX];
    if targets.len() > moved.len() {
        return Err(Errno::MFILE);
    }
    for (place, target) in moved.iter_mut().zip(targets) {
        *place = Some(rustix::io::fcntl_dupfd_cloexec(target, above)?);
    }
    for (number, fd) in (0..).zip(moved.iter().flatten()) {
        debug_assert!(fd.as_raw_fd() >= above);
        sys::duplicate_onto(fd.as_fd(), number)?;
    }
    Ok(())
}
