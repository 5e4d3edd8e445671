//! A rule: which unit, which lines, how many in how long, and what is done then.

use std::path::PathBuf;
use std::time::Duration;

use crate::pattern::Pattern;

/// One `[guard.NAME]`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, under which its state is kept.
    pub name: String,
    /// The unit, with its suffix.
    pub unit: String,
    /// What is looked for. An entry counts when one of them matches.
    pub patterns: Vec<Pattern>,
    /// Where entries come from.
    pub source: Source,
    /// So many …
    pub failures: u64,
    /// … within so long.
    pub within: Duration,
    /// What is done then.
    pub action: Action,
    /// Nothing counts for so long, from the moment when the unit is active again.
    pub grace: Duration,
    /// How often.
    pub budget: Budget,
    /// While somebody has this file locked, nothing is done.
    pub lock: Option<PathBuf>,
    /// Who is told when the guard acted or stood back: a program and its arguments.
    pub notify: Option<Vec<String>>,
    /// Nothing that is run takes longer.
    pub timeout: Duration,
}

/// Where a rule's entries come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The journal of this machine.
    Journal,
    /// A text file that grows, each line an entry of the unit.
    File(PathBuf),
    /// Standard input, the same.
    Stdin,
}

/// What is done when a rule's window is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `systemctl restart`, its start limit cleared before.
    Restart,
    /// `systemctl reload`.
    Reload,
    /// `systemctl stop`.
    Stop,
    /// Nothing but the word.
    Notify,
    /// A program and its arguments; the matches are on its stdin as JSON.
    Command(Vec<String>),
}

impl Action {
    /// The word of the configuration.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Action::Restart => "restart",
            Action::Reload => "reload",
            Action::Stop => "stop",
            Action::Notify => "notify",
            Action::Command(_) => "command",
        }
    }

    /// Whether systemd is asked for it.
    #[must_use]
    pub fn is_of_unit(&self) -> bool {
        matches!(self, Action::Restart | Action::Reload | Action::Stop)
    }
}

/// How often a rule may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// So many times; never 0.
    pub actions: u32,
    /// In so long.
    pub within: Duration,
}
