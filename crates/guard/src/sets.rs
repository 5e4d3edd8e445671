//! The patterns of known managers: what each writes when a worker has died and was not asked to.
//!
//! Each line of this table stands beside real output of its manager in `tests/sets/`, with how that was made.

use crate::pattern::{BadRegex, Pattern, Voice};

/// What one pattern of a set looks at.
#[derive(Clone, Copy, Debug)]
enum Look {
    /// A regular expression on MESSAGE.
    Message(&'static str),
    /// A field of what systemd says about the unit.
    Systemd(&'static str, &'static str),
}

use Look::{Message, Systemd};

/// A named set: `match = ["@php-fpm"]`.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Its name, without the `@`.
    pub name: &'static str,
    /// What it finds.
    pub about: &'static str,
    looks: &'static [Look],
}

/// All of them.
pub const ALL: &[Set] = &[
    Set {
        name: "fcgi-procmanager",
        about: "FCGI::ProcManager: a worker exited with another status than 0",
        looks: &[Message(r"^FastCGI: manager \(pid \d+\): server \(pid \d+\) exited with status [1-9]")],
    },
    Set {
        name: "fcgi-procmanager-dynamic",
        about: "FCGI::ProcManager::Dynamic: fewer workers than its minimum, or no way to hear from them",
        looks: &[Message(r"increase workers to (minimal )?\d+"), Message(r"Error when execute MSGSND")],
    },
    Set {
        name: "php-fpm",
        about: "php-fpm: a child was killed by a signal, exited with an error, or its pool is full",
        looks: &[
            Message(r"\[pool [^\]]+\] child \d+(, script '.*'.*)? exited (on signal|with code [1-9])"),
            Message(r"\[pool [^\]]+\] server reached (pm\.)?max_children setting"),
        ],
    },
    Set {
        name: "systemd-restarts",
        about: "systemd has to start the unit again by itself",
        looks: &[Systemd("MESSAGE_ID", "5eb03494b6584870a536b337290809b3")],
    },
    Set {
        name: "supervisor",
        about: "supervisord: a program exited unexpectedly, or is given up",
        looks: &[
            Message(r"\b(INFO|WARN) exited: .* \((exit status \d+|terminated by \w+); not expected\)"),
            Message(r"\bINFO gave up: .* entered FATAL state"),
        ],
    },
    Set {
        name: "uwsgi",
        about: "uWSGI: a worker died, or no application could be loaded",
        looks: &[
            Message(r"^DAMN ! worker \d+ \(pid: \d+\) died"),
            Message(r"^worker respawning too fast"),
            Message(r"no python application found|unable to load app \d+"),
        ],
    },
    Set {
        name: "gunicorn",
        about: "gunicorn: a worker was killed, timed out, or could not boot",
        looks: &[
            Message(r"Worker with pid \d+ was terminated due to signal \d+"),
            Message(r"Worker \(pid:\s?\d+\) (was sent SIG|exited with code [1-9])"),
            Message(r"WORKER TIMEOUT \(pid:\s?\d+\)"),
            Message(r"Worker failed to boot|Exception in worker process"),
        ],
    },
    Set {
        name: "starman",
        about: "Starman, Starlet and other Plack servers: a worker died, or the application cannot be loaded",
        looks: &[
            Message(r"^Error while loading .+: "),
            Message(r"^Child process \d+ exited with status ([1-9]|0 - signal was [1-9])"),
        ],
    },
    Set {
        name: "plack",
        about: "the same as @starman",
        looks: &[
            Message(r"^Error while loading .+: "),
            Message(r"^Child process \d+ exited with status ([1-9]|0 - signal was [1-9])"),
        ],
    },
    Set {
        name: "spawn-fcgi",
        about: "spawn-fcgi: the program could not be kept",
        looks: &[Message(r"^spawn-fcgi: child (exited with: [1-9]|signaled: \d+|died somehow)")],
    },
    Set {
        name: "multiwatch",
        about: "multiwatch: a child died, or dies too often",
        looks: &[Message(r"^Spawning child\[\d+\] failed"), Message(r"^Child\[\d+\] died to often")],
    },
    Set {
        name: "mod-fcgid",
        about: "mod_fcgid: a process ended in another way than by being asked to",
        looks: &[
            Message(
                r"mod_fcgid: process .+\(\d+\) exit\((communication error|server exited)\), (terminated by calling exit\(\), return code: [1-9]|get (unexpected|stop) signal)",
            ),
            Message(r"mod_fcgid: (error reading data\b|can't apply process slot)"),
        ],
    },
];

/// The set of this name, without the `@`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Set> {
    ALL.iter().find(|set| set.name == name)
}

impl Set {
    /// Its patterns.
    ///
    /// # Errors
    /// One of ours is wrong, which a test makes impossible.
    pub fn patterns(&self) -> Result<Vec<Pattern>, BadRegex> {
        let pattern = |look: &Look| match *look {
            Message(regex) => Pattern::message(regex, Voice::Unit),
            Systemd(field, value) => Ok(Pattern::is(field, value, Voice::Systemd)),
        };
        self.looks.iter().map(pattern).collect()
    }
}
