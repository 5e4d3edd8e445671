//! Users and groups, as whoever looks at the machine finds them.

use std::path::PathBuf;

/// A user as the system's databases know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserIds {
    /// Numeric user id.
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
    /// As it is written in the database.
    pub name: String,
    /// Home directory.
    pub home: PathBuf,
}

/// Users and groups by name (getpwnam_r(3), getgrnam_r(3)).
pub trait Lookup {
    /// `None` for a user who does not exist.
    fn user(&self, name: &str) -> Option<UserIds>;
    /// The id of a group; `None` where it does not exist.
    fn group(&self, name: &str) -> Option<u32>;
}
