//! Which keys there are, what becomes of each in this version, and what an unknown one was meant to be.

use crate::values::Complaint;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is read.
    Built,
    /// The interface names it, but it is not built.
    Later,
    /// It is read in queue mode, and has no meaning in another.
    Queue,
}

use Standing::{Built, Later, Queue};

/// The keys of one kind of table.
pub(crate) type Keys = &'static [(&'static str, Standing)];

/// The top of the file.
pub(crate) const TOP: Keys =
    &[("include", Built), ("supervisor", Built), ("pool", Built), ("ops", Later), ("guard", Built)];

/// `[supervisor]`.
pub(crate) const SUPERVISOR: Keys =
    &[("runtime-dir", Built), ("control", Built), ("front-user", Built), ("log", Built), ("log-level", Built)];

/// `[pool.NAME]`, and the top of an included file.
pub(crate) const POOL: Keys = &[
    ("command", Built),
    ("directory", Built),
    ("user", Built),
    ("group", Built),
    ("environment", Built),
    ("pass-environment", Built),
    ("listen", Built),
    ("socket", Built),
    ("allowed-clients", Built),
    ("type", Built),
    ("mode", Built),
    ("launch", Built),
    ("pass", Built),
    ("workers", Built),
    ("concurrency", Queue),
    ("queue", Queue),
    ("quarantine", Queue),
    ("retry", Queue),
    ("client-abort", Queue),
    ("request-id", Queue),
    ("params", Built),
    ("status-path", Queue),
    ("notify", Later),
    ("umask", Built),
    ("rlimits", Built),
    ("max-requests", Queue),
    ("max-memory", Built),
    ("max-age", Built),
    ("ready-timeout", Built),
    ("request-timeout", Queue),
    ("stop-timeout", Built),
    ("slow-request", Queue),
    ("verify", Built),
    ("breaker", Built),
    ("fallback", Queue),
    ("exit-codes", Built),
    ("broken-codes", Built),
    ("unavailable-codes", Built),
];

/// `queue = { … }`.
pub(crate) const QUEUE: Keys = &[("length", Built), ("timeout", Built)];

/// `[pool.NAME.verify]`.
pub(crate) const VERIFY: Keys = &[("request", Built), ("expect", Built), ("timeout", Built), ("every", Built)];

/// `expect = { … }` of `[pool.NAME.verify]`.
pub(crate) const EXPECT: Keys = &[("status", Built), ("body", Built)];

/// `[pool.NAME.fallback]`.
pub(crate) const FALLBACK: Keys = &[("status", Built), ("file", Built), ("retry-after", Built)];

/// `socket = { … }`.
pub(crate) const SOCKET: Keys = &[("mode", Built), ("owner", Built), ("group", Built), ("backlog", Built)];

/// `workers = { … }`.
pub(crate) const WORKERS: Keys = &[("min", Built), ("max", Built), ("step", Built), ("idle", Built)];

/// `[pool.NAME.breaker]`.
pub(crate) const BREAKER: Keys =
    &[("failures", Built), ("within", Built), ("grace", Built), ("backoff", Built), ("then", Built), ("prove", Built)];

/// `backoff = { … }`.
pub(crate) const BACKOFF: Keys = &[("first", Built), ("max", Built)];

/// `rlimits = { … }`: the names of getrlimit(2), lower case, without the prefix.
pub(crate) const RLIMITS: Keys = &[
    ("as", Built),
    ("core", Built),
    ("cpu", Built),
    ("data", Built),
    ("fsize", Built),
    ("locks", Built),
    ("memlock", Built),
    ("msgqueue", Built),
    ("nice", Built),
    ("nofile", Built),
    ("nproc", Built),
    ("rss", Built),
    ("rtprio", Built),
    ("rttime", Built),
    ("sigpending", Built),
    ("stack", Built),
];

/// `[guard.NAME]`.
pub(crate) const GUARD: Keys = &[
    ("unit", Built),
    ("match", Built),
    ("source", Built),
    ("failures", Built),
    ("within", Built),
    ("action", Built),
    ("grace", Built),
    ("budget", Built),
    ("lock", Built),
    ("notify", Built),
    ("timeout", Built),
];

/// `budget = { … }` of `[guard.NAME]`.
pub(crate) const BUDGET: Keys = &[("actions", Built), ("within", Built), ("then", Built)];

/// What becomes of `key` in such a table; `None` for a key that does not exist.
pub(crate) fn standing(keys: Keys, key: &str) -> Option<Standing> {
    keys.iter().find(|(name, _)| *name == key).map(|(_, standing)| *standing)
}

/// For tables of which each key is read.
pub(crate) fn no_refusal(_: &str, _: Standing) -> Option<Complaint> {
    None
}

/// The name that was most likely meant by `typed`.
pub(crate) fn suggestion<'a>(names: impl IntoIterator<Item = &'a str>, typed: &str) -> Option<&'a str> {
    // Edit distance is quadratic, and no name of ours is longer than this.
    if typed.len() > 32 {
        return None;
    }
    let typed = typed.to_lowercase().replace('_', "-");
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(name, &typed), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min()
        .map(|(_, name)| name)
}

/// The table of the file that has `key`, where it is not the one in which it was written.
pub(crate) fn home(key: &str) -> Option<&'static str> {
    [
        (SUPERVISOR, "[supervisor]"),
        (POOL, "[pool.NAME]"),
        (BREAKER, "[pool.NAME.breaker]"),
        (SOCKET, "`socket = { … }` of [pool.NAME]"),
        (VERIFY, "[pool.NAME.verify]"),
        (FALLBACK, "[pool.NAME.fallback]"),
        (QUEUE, "`queue = { … }` of [pool.NAME]"),
        (GUARD, "[guard.NAME]"),
        (BUDGET, "`budget = { … }` of [guard.NAME]"),
        (TOP, "the top of the file, before the first table"),
    ]
    .into_iter()
    .find(|(keys, _)| standing(keys, key).is_some())
    .map(|(_, table)| table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(typed: &str) -> Option<&'static str> {
        suggestion(POOL.iter().map(|(name, _)| *name), typed)
    }

    #[test]
    fn a_slip_of_the_finger_finds_its_key() {
        assert_eq!(pool("comand"), Some("command"));
        assert_eq!(pool("lisen"), Some("listen"));
        assert_eq!(pool("worker"), Some("workers"));
        assert_eq!(pool("max_memory"), Some("max-memory"));
        assert_eq!(pool("User"), Some("user"));
        assert_eq!(pool("environement"), Some("environment"));
    }

    #[test]
    fn a_stranger_finds_none() {
        assert_eq!(pool("colour"), None);
        assert_eq!(pool(""), None);
        assert_eq!(pool(&"command".repeat(100_000)), None);
    }

    #[test]
    fn a_key_in_the_wrong_table_is_sent_home() {
        assert_eq!(home("failures"), Some("[pool.NAME.breaker]"));
        assert_eq!(home("command"), Some("[pool.NAME]"));
        assert_eq!(home("backlog"), Some("`socket = { … }` of [pool.NAME]"));
        assert_eq!(home("nothing"), None);
    }
}
