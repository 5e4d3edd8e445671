//! Users and groups by name, from wherever NSS finds them.
//!
//! A lookup may ask a directory service and wait for it, so it is for start, `check` and reload only.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use crate::sys::{self, Passwd};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Its name.
    pub name: String,
    /// Its home directory.
    pub home: PathBuf,
    /// Its shell.
    pub shell: PathBuf,
}

impl From<Passwd> for User {
    fn from(entry: Passwd) -> User {
        User { uid: entry.uid, gid: entry.gid, name: entry.name, home: entry.home.into(), shell: entry.shell.into() }
    }
}

/// A user by name, else by its number in decimal. A number that no database knows is no user: without an entry there is
/// no group and no home to start a worker with.
pub fn user(name: &str) -> io::Result<Option<User>> {
    let Ok(text) = CString::new(name) else {
        return Ok(None);
    };
    if let Some(entry) = sys::user_by_name(&text)? {
        return Ok(Some(entry.into()));
    }
    match number(name) {
        Some(uid) => user_by_id(uid),
        None => Ok(None),
    }
}

/// A user by number.
pub fn user_by_id(uid: u32) -> io::Result<Option<User>> {
    Ok(sys::user_by_uid(uid)?.map(User::from))
}

/// A group's number by its name, or the number itself in decimal.
pub fn group(name: &str) -> io::Result<Option<u32>> {
    let Ok(text) = CString::new(name) else {
        return Ok(None);
    };
    if let Some(gid) = sys::group_by_name(&text)? {
        return Ok(Some(gid));
    }
    Ok(number(name))
}

/// All groups of a user, `gid` among them.
pub fn groups_of(user: &str, gid: u32) -> io::Result<Vec<u32>> {
    let text = CString::new(user).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    sys::group_list(&text, gid)
}

/// Digits only, and never the number that means "no change" to setresuid(2).
fn number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|&number| number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let by_name = user("daemon").expect("lookup").expect("daemon is there");
        assert_eq!((by_name.uid, by_name.gid), (1, 1));
        assert_eq!(by_name.name, "daemon");
        assert!(by_name.home.is_absolute());
        assert_eq!(user("1").expect("lookup"), Some(by_name));
        assert_eq!(user("0").expect("lookup").expect("root").name, "root");
    }

    #[test]
    fn nobody_is_invented() {
        for name in ["no-such-user-here", "", "-1", "4294967295", "0x1", "a\0b", "3999999999"] {
            assert_eq!(user(name).expect("lookup"), None, "{name:?}");
        }
        for name in ["no-such-group-here", "", "-1", "4294967295", "a\0b"] {
            assert_eq!(group(name).expect("lookup"), None, "{name:?}");
        }
    }

    #[test]
    fn groups_are_found_and_listed() {
        assert_eq!(group("daemon").expect("lookup"), Some(1));
        assert_eq!(group("4242").expect("lookup"), Some(4242), "a number needs no entry");
        let groups = groups_of("daemon", 4242).expect("list");
        assert!(groups.contains(&4242), "{groups:?}");
        assert!(groups_of("no-such-user-here", 7).expect("list").contains(&7));
    }
}
