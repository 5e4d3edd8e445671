//! The buttons of the demo: what each does, and what it says about that. The page and the worker read the same list.

use crate::demo::release::Kind;

/// How it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// May run twice: steadfast gives it to a second worker when the first one dies.
    Get,
    /// Runs once.
    Post,
}

impl Method {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Method::Get => "get",
            Method::Post => "post",
        }
    }
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Crash,
    Panic,
    Hang,
    Slow,
    Exit,
    Leak,
    KillWorker,
    Deploy(Kind),
    ClearQuarantine,
    ResetBreaker,
}

impl Act {
    /// Whether it changes more than the worker that carries it out: then it is never asked for by a GET, and the visitor is
    /// sent back to the page.
    pub(crate) const fn is_order(self) -> bool {
        match self {
            Act::KillWorker | Act::Deploy(_) | Act::ClearQuarantine | Act::ResetBreaker => true,
            Act::Crash | Act::Panic | Act::Hang | Act::Slow | Act::Exit | Act::Leak => false,
        }
    }
}

/// One button.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Button {
    pub(crate) path: &'static str,
    pub(crate) method: Method,
    /// Each press asks for a URL that nobody has asked for before.
    pub(crate) is_fresh: bool,
    pub(crate) act: Act,
    pub(crate) label: &'static str,
    /// What happens, and what the visitor gets.
    pub(crate) what: &'static str,
    /// Where to look.
    pub(crate) look: &'static str,
}

/// Some buttons under one heading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) buttons: &'static [Button],
}

/// All of them.
pub(crate) const GROUPS: [Group; 4] = [
    Group { title: "A request goes wrong", buttons: &REQUESTS },
    Group { title: "A worker goes wrong", buttons: &WORKERS },
    Group { title: "A deploy goes wrong, or well", buttons: &DEPLOYS },
    Group { title: "The operator’s hand", buttons: &HAND },
];

const REQUESTS: [Button; 6] = [
    Button {
        path: "/crash",
        method: Method::Post,
        is_fresh: true,
        act: Act::Crash,
        label: "Crash",
        what: "The worker that takes it dies of SIGSEGV. You get 502, because a POST never runs twice. \
               Another is forked within milliseconds. Ten times, and repairs slow down; then a fresh zygote is tried, \
               and at last the breaker opens.",
        look: "a new pid, and the count beside the breaker",
    },
    Button {
        path: "/poison",
        method: Method::Get,
        is_fresh: false,
        act: Act::Crash,
        label: "Poison",
        what: "A URL that kills every worker that takes it. It is a GET, so it is tried once more, and then you get 502. \
               After these two deaths the URL itself is refused: 500, and nobody dies of it any more.",
        look: "“Quarantined” appears. Press again",
    },
    Button {
        path: "/panic",
        method: Method::Post,
        is_fresh: false,
        act: Act::Panic,
        label: "Panic",
        what: "The handler panics. You get 500, and the worker goes on: one bad page takes no worker away.",
        look: "no pid changes",
    },
    Button {
        path: "/hang",
        method: Method::Post,
        is_fresh: false,
        act: Act::Hang,
        label: "Hang",
        what: "The handler never comes back. After 3 s you get 504, and this worker is killed. \
               Press six times at once and nobody is free: the view says so.",
        look: "a worker is busy, then its exit is “timeout”",
    },
    Button {
        path: "/slow",
        method: Method::Post,
        is_fresh: false,
        act: Act::Slow,
        label: "Slow",
        what: "Takes 2 s and answers well. Like php-fpm’s slowlog, an event names the request.",
        look: "the event request-slow",
    },
    Button {
        path: "/exit",
        method: Method::Post,
        is_fresh: true,
        act: Act::Exit,
        label: "Exit",
        what: "The worker leaves with code 42 in the middle of the request. You get 502. \
               The configuration has a name for 42, and the event tells it.",
        look: "the event worker-exited",
    },
];

const WORKERS: [Button; 2] = [
    Button {
        path: "/leak",
        method: Method::Post,
        is_fresh: false,
        act: Act::Leak,
        label: "Leak",
        what: "A worker takes 96 MiB and keeps it. That is more than max-memory, so it is recycled within some \
               10 s: first comes its successor, then it leaves. No request fails.",
        look: "the memory of one slot, then “recycled”",
    },
    Button {
        path: "/kill",
        method: Method::Post,
        is_fresh: false,
        act: Act::KillWorker,
        label: "kill -9",
        what: "Another worker gets SIGKILL from outside, as you could send it by hand. It is nobody’s fault, \
               and counts against nobody.",
        look: "an exit “killed”, and a new pid",
    },
];

const DEPLOYS: [Button; 3] = [
    Button {
        path: "/deploy/hollow",
        method: Method::Post,
        is_fresh: false,
        act: Act::Deploy(Kind::Hollow),
        label: "Deploy: hollow",
        what: "A release that loads, but its pages are missing. Its first worker fails GET /health, so the generation is refused. \
               The old one goes on, and no visitor has seen the new one.",
        look: "“refused” above the workers; the generation stays",
    },
    Button {
        path: "/deploy/dying",
        method: Method::Post,
        is_fresh: false,
        act: Act::Deploy(Kind::Dying),
        label: "Deploy: dying",
        what: "A release that passes GET /health, but its workers die soon after. The generation is rolled back by itself.",
        look: "“rolled back” after a few seconds",
    },
    Button {
        path: "/deploy/good",
        method: Method::Post,
        is_fresh: false,
        act: Act::Deploy(Kind::Good),
        label: "Deploy: good",
        what: "A new zygote loads the release, and its first worker is verified. Then worker by worker is replaced, \
               each new one before an old one leaves. No request fails.",
        look: "the generation and the release count up",
    },
];

const HAND: [Button; 2] = [
    Button {
        path: "/quarantine/clear",
        method: Method::Post,
        is_fresh: false,
        act: Act::ClearQuarantine,
        label: "Release URLs",
        what: "URLs in quarantine are given to workers again. In a terminal: steadfast quarantine demo clear",
        look: "",
    },
    Button {
        path: "/breaker/reset",
        method: Method::Post,
        is_fresh: false,
        act: Act::ResetBreaker,
        label: "Reset breaker",
        what: "The breaker closes, and workers start at once. In a terminal: steadfast breaker demo reset",
        look: "",
    },
];

/// The button of a path.
pub(crate) fn find(path: &str) -> Option<&'static Button> {
    GROUPS.iter().flat_map(|group| group.buttons).find(|button| button.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_never_given_by_a_get() {
        let buttons: Vec<&Button> = GROUPS.iter().flat_map(|group| group.buttons).collect();
        assert!(buttons.iter().all(|button| !button.act.is_order() || button.method == Method::Post));
        assert!(buttons.iter().all(|button| find(button.path).is_some_and(|found| found.label == button.label)));
    }
}
