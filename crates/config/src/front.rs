//! Who the front is, and what it shows when nothing serves: compared with the machine.

use std::fmt;
use std::fs::{self, File};

use crate::lookup::{Lookup, UserIds};
use crate::types::{Config, Fallback};

/// The front's user where the configuration names none.
pub const FRONT_USER: &str = "steadfast";
/// Its stand-in on machines that do not have it.
const STAND_IN: &str = "nobody";
/// The front keeps the body of a fallback in memory.
const BODY_MAX: u64 = 1 << 20;

/// Who the front is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontUser {
    /// The user; the front's group is the user's own.
    pub ids: UserIds,
    /// What people should know about the choice.
    pub warning: Option<String>,
}

/// Why nobody can be the front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoFrontUser {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// The pool that has the same user and named it, where the configuration does not name the front's.
    pub(crate) pool: Option<String>,
}

impl fmt::Display for NoFrontUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.hint)
    }
}

impl std::error::Error for NoFrontUser {}

/// Who the front is when the supervisor is root; otherwise it is whoever the supervisor is, and nobody need ask.
///
/// # Errors
/// Where the user does not exist, is root, or is a pool's: workers of one user could end or debug a front of the same.
pub fn front_user(config: &Config, lookup: &dyn Lookup) -> Result<FrontUser, NoFrontUser> {
    let named = config.supervisor.front_user.as_deref();
    let refuse = |message: String, hint: &str, pool: Option<&str>| NoFrontUser {
        message,
        hint: hint.to_owned(),
        pool: pool.filter(|_| named.is_none()).map(str::to_owned),
    };
    let make_one = if config.is_typed() {
        "make one: useradd --system --shell /usr/sbin/nologin steadfast"
    } else {
        "make one: useradd --system --shell /usr/sbin/nologin steadfast; or name another in `front-user`"
    };
    let mut warning = None;
    let ids = match (named, lookup.user(named.unwrap_or(FRONT_USER))) {
        (_, Some(ids)) => ids,
        (Some(name), None) => {
            let message = format!("there is no user {name:?} on this machine for the front");
            return Err(refuse(message, "getent passwd lists them", None));
        }
        (None, None) => match lookup.user(STAND_IN) {
            Some(ids) => {
                warning =
                    Some(format!("there is no user \"{FRONT_USER}\" on this machine: the front runs as {STAND_IN}"));
                ids
            }
            None => {
                let message = format!(
                    "there is neither a user \"{FRONT_USER}\" nor \"{STAND_IN}\" on this machine for the front"
                );
                return Err(refuse(message, make_one, None));
            }
        },
    };
    if ids.uid == 0 {
        let message = format!("the front speaks with strangers and cannot run as {:?}, which is root", ids.name);
        return Err(refuse(message, "name a user that owns nothing, or leave it out", None));
    }
    let uid_of = |name: &String| lookup.user(name).map(|user| user.uid);
    let same = config.pools.values().find(|pool| pool.user.as_ref().and_then(uid_of) == Some(ids.uid));
    if let Some(pool) = same {
        let message = format!(
            "the front cannot run as {}, the user of pool `{}`: its workers could end or debug it",
            ids.name, pool.name
        );
        let hint = if named.is_some() { "a user of its own, or leave it out" } else { make_one };
        return Err(refuse(message, hint, Some(&pool.name)));
    }
    Ok(FrontUser { ids, warning })
}

/// Opens the body of a fallback, a regular file of at most 1 MiB; `None` where it is the front's own page.
///
/// # Errors
/// Why it cannot be shown, in words.
pub fn fallback_body(fallback: &Fallback) -> Result<Option<File>, String> {
    let Some(path) = &fallback.file else { return Ok(None) };
    let cannot = |error: std::io::Error| format!("the fallback page {} cannot be used: {error}", path.display());
    // Opening a FIFO would wait for its writer, so the kind is asked first.
    let metadata = fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err(format!("the fallback page {} is not a regular file", path.display()));
    }
    let file = File::open(path).map_err(cannot)?;
    let length = file.metadata().map_err(cannot)?.len();
    if length > BODY_MAX {
        return Err(format!("the fallback page {} has {length} bytes, but at most 1 MiB is possible", path.display()));
    }
    Ok(Some(file))
}
