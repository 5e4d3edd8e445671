//! The control groups: one for each worker and zygote below our own, where systemd has delegated that to us.
//!
//! ```text
//! site.service                the unit's group (Delegate=yes); it has no processes
//! ├── supervisor              the supervisor and its front
//! ├── worker-shop-17          a worker with all that it starts, whatever sessions they make
//! └── zygote-shop-3
//! ```
//!
//! What a process starts is in its group and cannot leave it. So a worker's end is the end of all of them, and what the
//! kernel says of the group it says of this worker alone. A group is removed when its last process is gone; until then
//! it is `leaving`, and tried again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::children::Pid;
use crate::delegation::{self, Delegated, LEAF};
use crate::voice::Speaker;

/// Controllers that the workers' groups get where we may use them: who was killed for memory, and who has how many
/// processes.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// What the groups' names begin with.
const WORKER: &str = "worker-";
const ZYGOTE: &str = "zygote-";
/// Names that are tried, when a former supervisor's group of the same name does not end.
const NAMES_MAX: u32 = 9;
/// Times that our group is looked through for processes to be moved; whoever forks meanwhile is found by the next.
const ROUNDS_MAX: usize = 16;
/// Groups below a worker's own: it may make some, if it has our user.
const DEPTH_MAX: usize = 16;
/// How long killed processes may take to be gone, at the start and at the end.
const PATIENCE: Duration = Duration::from_secs(2);
/// Waits before a group that is leaving is tried again.
const FIRST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// More than the files that are read here have.
const TEXT_MAX: usize = 4096;
/// What systemd-oomd counts on a group whose processes it has killed.
const OOMD_KILLS: &str = "user.oomd_ooms";

/// All of them; none where nothing is delegated.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    root: Option<PathBuf>,
    /// What systemd-oomd had counted on our own group at the last look.
    oomd_kills: u64,
    groups: BTreeMap<Speaker, PathBuf>,
    leaving: Vec<PathBuf>,
    /// When those are tried again, after the last try.
    wait: Duration,
    has_complained: bool,
}

/// What there is to say once.
pub(crate) type Complaint = String;

impl Cgroups {
    /// Divides our own group, if it was delegated to us, and ends what a former supervisor has left in it. That may take
    /// two seconds: what is left may hold the sockets that are bound next. What is refused costs the groups, or the
    /// controllers in them, and nothing else.
    pub(crate) fn take() -> (Cgroups, Option<Complaint>) {
        let Some(delegated) = delegation::delegated() else {
            return (Cgroups::default(), None);
        };
        let root = delegated.path.clone();
        if let Err(why) = enter_leaf(&delegated) {
            let shown = root.display();
            let complaint = format!(
                "the control group {shown} is delegated to us, but cannot be divided: {why}; workers share it, and what \
                 they leave behind is not ended with them (docs/systemd.md, Control groups)"
            );
            return (Cgroups::default(), Some(complaint));
        }
        let complaint = enable(&root).err();
        let mut cgroups = Cgroups { leaving: leftovers(&root), root: Some(root), ..Cgroups::default() };
        cgroups.end_leaving();
        cgroups.has_grown();
        (cgroups, complaint)
    }

    /// The group in which the others are.
    pub(crate) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The group of this process.
    pub(crate) fn of(&self, of: Speaker) -> Option<&Path> {
        self.groups.get(&of).map(PathBuf::as_path)
    }

    /// Takes over the groups of an earlier image of ours; what else is there is ended.
    pub(crate) fn take_over(root: PathBuf, groups: BTreeMap<Speaker, PathBuf>) -> Cgroups {
        let leaving = leftovers(&root).into_iter().filter(|path| groups.values().all(|group| group != path)).collect();
        let mut cgroups = Cgroups { leaving, groups, root: Some(root), ..Cgroups::default() };
        cgroups.has_grown();
        cgroups
    }

    /// Makes the group of a process that is to be. To be entered by its fd; `None` where there are no groups.
    pub(crate) fn make(&mut self, of: Speaker, pool: &str) -> Result<Option<OwnedFd>, Complaint> {
        let Some(root) = &self.root else {
            return Ok(None);
        };
        let name = name(of, pool);
        let made = create(root, &name).and_then(|path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match rustix::fs::open(&path, flags, Mode::empty()) {
                Ok(fd) => Ok((path, fd)),
                Err(errno) => {
                    // Nobody is in it yet.
                    let _gone = fs::remove_dir(&path);
                    Err(errno.into())
                }
            }
        });
        match made {
            Ok((path, fd)) => {
                self.groups.insert(of, path);
                Ok(Some(fd))
            }
            Err(error) => {
                let attempt = format!("cannot make the control group {}", root.join(name).display());
                self.complain(&attempt, &error).map_or(Ok(None), Err)
            }
        }
    }

    /// Moves a process that its zygote has forked out of the zygote's group into one of its own.
    pub(crate) fn receive(&mut self, of: Speaker, pool: &str, pid: Pid) -> Result<(), Complaint> {
        if self.make(of, pool)?.is_none() {
            return Ok(());
        }
        let Some(group) = self.groups.get(&of) else {
            return Ok(());
        };
        match fs::write(group.join("cgroup.procs"), pid.to_string()) {
            Ok(()) => Ok(()),
            // It has died meanwhile.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(()),
            Err(error) => self.outside(of, pid, &error).map_or(Ok(()), Err),
        }
    }

    /// It runs, but not in its group; the group is of no use then.
    pub(crate) fn outside(&mut self, of: Speaker, pid: Pid, error: &io::Error) -> Option<Complaint> {
        let group = self.groups.remove(&of)?;
        let _gone = fs::remove_dir(&group);
        self.complain(&format!("cannot put the process {pid} into the control group {}", group.display()), error)
    }

    /// The first of its kind is said; what follows is of the same cause.
    fn complain(&mut self, attempt: &str, error: &io::Error) -> Option<Complaint> {
        let is_first = !std::mem::replace(&mut self.has_complained, true);
        is_first.then(|| {
            format!(
                "{attempt}: {error}; the process runs without, and what it leaves behind is not ended with it (this is \
                 said once; docs/systemd.md, Control groups)"
            )
        })
    }

    /// SIGKILL to all that is in the group of this process.
    pub(crate) fn kill(&self, of: Speaker) {
        if let Some(group) = self.groups.get(&of) {
            kill(group);
        }
    }

    /// How many processes of this group the kernel has killed for memory; `None` where it does not count them.
    pub(crate) fn oom_kills(&self, of: Speaker) -> Option<u64> {
        oom_kills(&read(&self.groups.get(&of)?.join("memory.events"))?)
    }

    /// Whether systemd-oomd has killed this group.
    pub(crate) fn is_killed_by_oomd(&self, of: Speaker) -> bool {
        self.groups.get(&of).is_some_and(|group| oomd_kills(group) > 0)
    }

    /// Whether systemd-oomd has killed in our whole group since this was asked last.
    pub(crate) fn has_grown(&mut self) -> bool {
        let Some(root) = &self.root else {
            return false;
        };
        let now = oomd_kills(root);
        std::mem::replace(&mut self.oomd_kills, now) < now
    }

    /// A process is gone: all that it has left in its group is killed, and the group is removed, now or by `sweep`, which
    /// is then wanted after the time that is given.
    #[must_use]
    pub(crate) fn close(&mut self, of: Speaker) -> Option<Duration> {
        let group = self.groups.remove(&of)?;
        if is_removed(&group, DEPTH_MAX) {
            return None;
        }
        kill(&group);
        self.leaving.push(group);
        self.wait = FIRST_WAIT;
        Some(self.wait)
    }

    /// Tries to remove the groups that are leaving; when it is to be tried again.
    #[must_use]
    pub(crate) fn sweep(&mut self) -> Option<Duration> {
        self.leaving.retain(|group| {
            let is_left = !is_removed(group, DEPTH_MAX);
            if is_left {
                kill(group);
            }
            is_left
        });
        if self.leaving.is_empty() {
            return None;
        }
        self.wait = self.wait.saturating_mul(2).clamp(FIRST_WAIT, LONGEST_WAIT);
        Some(self.wait)
    }

    /// Removes all groups but the supervisor's own. It serves nobody any more: here it may wait, at most 2 s.
    pub(crate) fn end(&mut self) {
        let groups = std::mem::take(&mut self.groups);
        self.leaving.extend(groups.into_values());
        self.end_leaving();
    }

    fn end_leaving(&mut self) {
        self.leaving.retain(|group| !is_removed(group, DEPTH_MAX));
        self.leaving.iter().for_each(|group| kill(group));
        let until = Instant::now() + PATIENCE;
        self.leaving.retain(|group| {
            wait_empty(group, until);
            !is_removed(group, DEPTH_MAX)
        });
    }

    /// Whether some are leaving yet.
    pub(crate) fn are_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }
}

/// Moves us, and whoever else is in the group, into its leaf.
fn enter_leaf(delegated: &Delegated) -> Result<(), String> {
    let Delegated { path, is_in_leaf } = delegated;
    let leaf = path.join(LEAF);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(format!("cannot make {}: {error}", leaf.display()));
        }
        _ => {}
    }
    if !leaf.join("cgroup.kill").exists() {
        let _gone = fs::remove_dir(&leaf);
        return Err("the kernel has no cgroup.kill (that takes Linux 5.14)".to_owned());
    }
    if *is_in_leaf {
        return Ok(());
    }
    let processes = leaf.join("cgroup.procs");
    fs::write(&processes, std::process::id().to_string()).map_err(|error| {
        let _gone = fs::remove_dir(&leaf);
        format!("cannot move into {}: {error}", leaf.display())
    })?;
    for _ in 0..ROUNDS_MAX {
        let others = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        if others.trim().is_empty() {
            break;
        }
        for pid in others.lines() {
            // Whoever has died needs no move; whoever cannot be moved only costs us the controllers, and that is said.
            let _gone = fs::write(&processes, pid);
        }
    }
    Ok(())
}

/// Gives the groups below their controllers, as far as they are there.
fn enable(root: &Path) -> Result<(), Complaint> {
    let offered = read(&root.join("cgroup.controllers")).unwrap_or_default();
    let control = root.join("cgroup.subtree_control");
    for controller in CONTROLLERS.iter().filter(|name| offered.split_whitespace().any(|word| word == **name)) {
        fs::write(&control, format!("+{controller}")).map_err(|error| {
            format!(
                "cannot use the controller `{controller}` in {}: {error}; a worker that the kernel kills for memory may be \
                 taken for one that somebody killed (docs/systemd.md, Control groups)",
                control.display()
            )
        })?;
    }
    Ok(())
}

/// The groups of a former supervisor of this unit: ours are not made yet.
fn leftovers(root: &Path) -> Vec<PathBuf> {
    let is_ours = |name: &str| name.starts_with(WORKER) || name.starts_with(ZYGOTE);
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups.filter(|entry| entry.file_name().to_str().is_some_and(is_ours)).map(|entry| entry.path()).collect()
}

/// A pool's name has letters, digits, `-` and `_` only.
fn name(of: Speaker, pool: &str) -> String {
    match of {
        Speaker::Worker(id) => format!("{WORKER}{pool}-{}", id.0),
        Speaker::Zygote(id) => format!("{ZYGOTE}{pool}-{}", id.0),
    }
}

/// Under this name, or one with a number behind it where that is taken: a group of a former supervisor may not end.
fn create(root: &Path, name: &str) -> io::Result<PathBuf> {
    let mut taken = io::ErrorKind::AlreadyExists.into();
    for number in 1..=NAMES_MAX {
        let path = if number == 1 { root.join(name) } else { root.join(format!("{name}.{number}")) };
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

/// One write reaches them all, also who forks at this moment.
fn kill(group: &Path) {
    // Where it is gone nobody is left.
    let _gone = fs::write(group.join("cgroup.kill"), "1");
}

/// Removes a group, and what is below it; whether it is gone. EBUSY says that processes are left in it.
fn is_removed(group: &Path, depth: usize) -> bool {
    let is_gone = || match fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if is_gone() {
        return true;
    }
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let below: Vec<_> = groups.map(|entry| entry.path()).collect();
    let is_divided = !below.is_empty() && depth > 0;
    is_divided && below.iter().all(|group| is_removed(group, depth - 1)) && is_gone()
}

/// Waits until no process is in the group: the kernel tells when `cgroup.events` changes.
fn wait_empty(group: &Path, until: Instant) {
    let Ok(events) = File::open(group.join("cgroup.events")) else {
        return;
    };
    let mut text = [0; TEXT_MAX];
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let length = events.read_at(&mut text, 0).unwrap_or(0);
        let text = text.get(..length).unwrap_or_default();
        if number_of(&String::from_utf8_lossy(text), "populated") != Some(1) {
            return;
        }
        let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Timespec::try_from(left).ok().as_ref());
    }
}

/// One of the kernel's small files.
fn read(path: &Path) -> Option<String> {
    let file = File::open(path).ok()?;
    let mut text = [0; TEXT_MAX];
    let length = file.read_at(&mut text, 0).ok()?;
    String::from_utf8(text.get(..length)?.to_vec()).ok()
}

fn oom_kills(events: &str) -> Option<u64> {
    number_of(events, "oom_kill")
}

fn oomd_kills(group: &Path) -> u64 {
    let value = delegation::attribute(group, OOMD_KILLS).unwrap_or_default();
    std::str::from_utf8(&value).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// The number behind a key, one pair a line.
fn number_of(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use steadfast_policy::ids::{WorkerId, ZygoteId};

    use super::*;

    #[test]
    fn the_count_of_oom_kills_is_read_by_its_whole_key() {
        let events = "low 0\nhigh 7\nmax 12\noom 3\noom_kill 2\noom_group_kill 9\n";
        assert_eq!(oom_kills(events), Some(2));
        assert_eq!(oom_kills("oom_group_kill 9\n"), None);
        assert_eq!(oom_kills("oom_kill\n"), None);
        assert_eq!(oom_kills("oom_kill -1\n"), None);
        assert_eq!(oom_kills(""), None);
    }

    #[test]
    fn a_name_says_whose_it_is_and_is_never_shared() {
        assert_eq!(name(Speaker::Worker(WorkerId(17)), "shop-1"), "worker-shop-1-17");
        assert_eq!(name(Speaker::Zygote(ZygoteId(3)), "shop"), "zygote-shop-3");
        let root = tempfile::tempdir().unwrap();
        let made: Vec<_> = (0..3).map(|_| create(root.path(), "worker-a-1").unwrap()).collect();
        let names: Vec<_> = made.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["worker-a-1", "worker-a-1.2", "worker-a-1.3"]);
        (3..NAMES_MAX).for_each(|_| drop(create(root.path(), "worker-a-1").unwrap()));
        assert_eq!(create(root.path(), "worker-a-1").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn only_groups_of_workers_and_zygotes_are_left_over() {
        let root = tempfile::tempdir().unwrap();
        for name in ["worker-a-1", "zygote-a-2", "supervisor", ".control", "other"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        fs::write(root.path().join("worker-file"), "").unwrap();
        let mut left = leftovers(root.path());
        left.sort();
        assert_eq!(left, [root.path().join("worker-a-1"), root.path().join("zygote-a-2")]);
    }

    #[test]
    fn a_tree_is_removed_from_its_leaves_and_a_full_one_stays() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("worker-a-1");
        fs::create_dir_all(group.join("b/c")).unwrap();
        assert!(is_removed(&group, DEPTH_MAX));
        assert!(is_removed(&group, DEPTH_MAX), "what is gone is gone");
        fs::create_dir_all(group.join("b/c")).unwrap();
        fs::write(group.join("b/process"), "").unwrap();
        assert!(!is_removed(&group, DEPTH_MAX));
        fs::remove_file(group.join("b/process")).unwrap();
        let mut cgroups = Cgroups { leaving: vec![group.clone()], ..Cgroups::default() };
        assert_eq!(cgroups.sweep(), None);
        assert!(!group.exists() && !cgroups.are_leaving());
    }

    #[test]
    fn what_does_not_end_is_tried_again_ever_later() {
        let root = tempfile::tempdir().unwrap();
        let stuck = root.path().join("worker-a-1");
        fs::create_dir(&stuck).unwrap();
        fs::write(stuck.join("process"), "").unwrap();
        let of = Speaker::Worker(WorkerId(1));
        let mut cgroups = Cgroups { groups: [(of, stuck)].into(), ..Cgroups::default() };
        let mut waits = vec![cgroups.close(of).expect("it is leaving")];
        waits.extend((0..20).map(|_| cgroups.sweep().expect("it is leaving")));
        assert_eq!(waits[..3], [5, 10, 20].map(Duration::from_millis));
        assert_eq!(waits[20], LONGEST_WAIT);
        assert_eq!(cgroups.close(of), None, "it is closed once");
    }
}
