//! Finds our own control group, and whether systemd has given it to us to divide (cgroups(7); `Delegate=` of
//! systemd.resource-control(5)).
//!
//! Only what systemd has started as a unit's own process takes its group: of a program that somebody starts in a shell of
//! his, or of two supervisors in one group, none may touch the others' processes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The pid of a unit's process, by systemd ≥ 248 (systemd.exec(5)).
const OWN_PID: &str = "SYSTEMD_EXEC_PID";
/// By systemd ≥ 251 for everybody, by older ones for those with CAP_SYS_ADMIN.
const MARKS: [&str; 2] = ["user.delegate", "trusted.delegate"];
/// The group in which the supervisor itself is: no group that is divided has processes of its own.
pub(crate) const LEAF: &str = "supervisor";

/// The group that we may divide, and whether we are in its leaf already (`DelegateSubgroup=supervisor`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delegated {
    /// Its directory.
    pub(crate) path: PathBuf,
    /// We are in the leaf, and not in the group itself.
    pub(crate) is_in_leaf: bool,
}

/// The group that was delegated to us; `None` is the usual case outside of systemd.
pub(crate) fn delegated() -> Option<Delegated> {
    let is_unit = std::env::var(OWN_PID).is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
    if !is_unit {
        return None;
    }
    let groups = fs::read("/proc/self/cgroup").ok()?;
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    let own = directory(&mounts, own_group(&groups)?)?;
    choose(&own, is_marked)
}

fn choose(own: &Path, is_marked: impl Fn(&Path) -> bool) -> Option<Delegated> {
    if is_marked(own) {
        return Some(Delegated { path: own.to_owned(), is_in_leaf: false });
    }
    let parent = own.parent().filter(|_| own.file_name() == Some(OsStr::new(LEAF)))?;
    is_marked(parent).then(|| Delegated { path: parent.to_owned(), is_in_leaf: true })
}

fn is_marked(group: &Path) -> bool {
    MARKS.iter().any(|mark| attribute(group, mark).is_some_and(|value| value == b"1"))
}

/// A short extended attribute of a group.
pub(crate) fn attribute(group: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0_u8; 32];
    let length = rustix::fs::getxattr(group, name, &mut value[..]).ok()?;
    value.get(..length).map(<[u8]>::to_vec)
}

/// The path of our group of the second kind in a text like `/proc/self/cgroup`.
fn own_group(text: &[u8]) -> Option<&[u8]> {
    let path = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    // A group above the root of our cgroup namespace begins with `/..`, and one that was removed says so.
    let is_usable = path.starts_with(b"/") && !path.starts_with(b"/..") && !path.ends_with(b" (deleted)");
    is_usable.then_some(path)
}

/// The directory of a group, by a text like `/proc/self/mountinfo` (proc_pid_mountinfo(5)). Of several mounts that have
/// it the last one counts, for it may lie over the others.
fn directory(mounts: &[u8], group: &[u8]) -> Option<PathBuf> {
    let mut found = mounts.split(|&byte| byte == b'\n').filter_map(|line| below(line, group));
    found.next_back()
}

/// Where this mount has the group, if it is of the second kind and has it.
fn below(line: &[u8], group: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|&byte| byte == b' ');
    let root = unescape(fields.nth(3)?);
    let place = unescape(fields.next()?);
    // A varying number of optional fields ends with a hyphen.
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    if kind != b"cgroup2" {
        return None;
    }
    let root = if root == b"/" { &[][..] } else { &root[..] };
    let rest = group.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))?;
    let mut path = place;
    path.extend_from_slice(rest.strip_suffix(b"/").unwrap_or(rest));
    Some(PathBuf::from(std::ffi::OsString::from_vec(path)))
}

/// Blanks, tabs, line ends and backslashes are written as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| first == b'\\');
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        (rest, _) = match byte {
            Some(byte) => (&behind[3..], plain.push(byte)),
            None => (behind, plain.push(first)),
        };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_ONLY: &str = "\
        22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw\n\
        30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
    const BOTH: &str = "\
        31 22 0:27 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n\
        32 31 0:28 / /sys/fs/cgroup/memory rw,nosuid shared:10 - cgroup cgroup rw,memory\n\
        33 31 0:29 / /sys/fs/cgroup/unified rw,nosuid shared:9 master:1 - cgroup2 cgroup2 rw\n";

    fn found(mounts: &str, group: &str) -> Option<String> {
        directory(mounts.as_bytes(), group.as_bytes()).map(|path| path.display().to_string())
    }

    #[test]
    fn our_group_is_found_where_it_is_mounted() {
        let group = "/system.slice/site.service";
        assert_eq!(found(SECOND_ONLY, group).as_deref(), Some("/sys/fs/cgroup/system.slice/site.service"));
        assert_eq!(found(BOTH, group).as_deref(), Some("/sys/fs/cgroup/unified/system.slice/site.service"));
        assert_eq!(found(SECOND_ONLY, "/").as_deref(), Some("/sys/fs/cgroup"));
        let none = BOTH.replace("cgroup2", "tmpfs");
        assert_eq!(found(&none, group), None);
        assert_eq!(found("", group), None);
        assert_eq!(found("33 31 0:29 / /sys", group), None, "a line that ends early");
    }

    #[test]
    fn a_mount_of_a_part_of_the_tree_has_only_what_is_below_it() {
        let part = "33 31 0:29 /a/b /mnt rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(part, "/a/b/c").as_deref(), Some("/mnt/c"));
        assert_eq!(found(part, "/a/b").as_deref(), Some("/mnt"));
        assert_eq!(found(part, "/a/bc"), None);
        assert_eq!(found(part, "/a"), None);
        let two = format!("{SECOND_ONLY}{part}");
        assert_eq!(found(&two, "/a/b/c").as_deref(), Some("/mnt/c"), "the last one that has it");
        assert_eq!(found(&two, "/a/x").as_deref(), Some("/sys/fs/cgroup/a/x"));
    }

    #[test]
    fn blanks_in_a_path_are_octal_in_mountinfo() {
        assert_eq!(unescape(b"/a\\040b\\134c"), b"/a b\\c");
        assert_eq!(unescape(b"\\"), b"\\");
        assert_eq!(unescape(b"\\04"), b"\\04");
        assert_eq!(unescape(b"\\999"), b"\\999");
        assert_eq!(unescape(b"\\777"), b"\\777", "no byte");
    }

    #[test]
    fn our_group_of_the_second_kind_is_the_line_0() {
        assert_eq!(own_group(b"5:memory:/m\n0::/a b/c.service\n"), Some(&b"/a b/c.service"[..]));
        assert_eq!(own_group(b"5:memory:/m\n"), None, "only the first kind");
        assert_eq!(own_group(b"0::/../other\n"), None, "outside of our namespace");
        assert_eq!(own_group(b"0::/a (deleted)\n"), None);
    }

    #[test]
    fn a_parent_is_taken_only_from_its_leaf() {
        let is = |marked: &'static str| move |group: &Path| group == Path::new(marked);
        let at = |path: &str, is_in_leaf| Some(Delegated { path: path.into(), is_in_leaf });
        assert_eq!(choose(Path::new("/g/unit"), is("/g/unit")), at("/g/unit", false));
        assert_eq!(choose(Path::new("/g/unit/supervisor"), is("/g/unit")), at("/g/unit", true));
        assert_eq!(choose(Path::new("/g/unit"), is("/g")), None, "the group of a user's manager is not its units'");
        assert_eq!(choose(Path::new("/g/unit"), is("/")), None);
    }
}
