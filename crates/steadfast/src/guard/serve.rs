//! `steadfast guard run`: the guard with the supervisor's own log and signals.

use std::env;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use steadfast_config::types::{Config, Log as LogChoice, LogLevel};
use steadfast_guard::listener::Listener;
use steadfast_guard::note::{Note, Topic};
use steadfast_guard::rule::Rule;
use steadfast_guard::run::{self, Settings, Stops};
use steadfast_proto::exit::ExitCode;
use steadfast_supervisor::events::event::{Event, Moment};
use steadfast_supervisor::events::kind::{Kind, Level};
use steadfast_supervisor::events::log::{Format, Log};
use steadfast_supervisor::signals::{Sig, Signals};

use crate::failure::{Failure, reason};
use crate::guard::options::Run;
use crate::units::LogFormat;

/// Where the state is kept when nobody says where.
const STATE_DIR: &str = "/var/lib/steadfast";

/// Runs the guard until it is asked to end.
pub(crate) fn serve(run: &Run, config: &Config, rules: Vec<Arc<Rule>>) -> Result<ExitCode, Failure> {
    refuse_own_unit(&rules)?;
    let signals = Signals::install()
        .map_err(|error| Failure::new(ExitCode::System, format!("cannot listen to signals: {}", reason(&error))))?;
    let format = match run.log {
        Some(LogFormat::Auto) => Format::Auto,
        Some(LogFormat::Human) => Format::Human,
        Some(LogFormat::Logfmt) => Format::Logfmt,
        Some(LogFormat::Json) => Format::Json,
        Some(LogFormat::Journald) => Format::Journald,
        None => match config.supervisor.log {
            LogChoice::Auto => Format::Auto,
            LogChoice::Human => Format::Human,
            LogChoice::Logfmt => Format::Logfmt,
            LogChoice::Json => Format::Json,
            LogChoice::Journald => Format::Journald,
        },
    };
    let level = match config.supervisor.log_level {
        LogLevel::Error => Level::Error,
        LogLevel::Warning => Level::Warning,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
    };
    let state_dir = run.state_dir.clone().or_else(|| config.guard.state_dir.clone()).unwrap_or_else(state_dir);
    let mut voice = Voice { log: Log::open(format, level), start: Instant::now() };
    let result = run::run(&Settings { rules, state_dir }, &mut voice, &mut Asked { signals });
    voice.log.close(voice.now());
    result.map(|()| ExitCode::Good).map_err(|why| Failure::new(ExitCode::System, why))
}

/// systemd gives a list where the unit has several; ours is the first.
fn state_dir() -> PathBuf {
    let given = env::var("STATE_DIRECTORY").ok().filter(|directory| !directory.is_empty());
    PathBuf::from(given.as_deref().and_then(|list| list.split(':').next()).unwrap_or(STATE_DIR))
}

/// A guard that restarts itself ends in the middle of it.
fn refuse_own_unit(rules: &[Arc<Rule>]) -> Result<(), Failure> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().filter_map(|line| line.rsplit('/').next()).find(|name| name.ends_with(".service"));
    match rules.iter().find(|rule| Some(rule.unit.as_str()) == own) {
        Some(rule) => {
            let message = format!("the rule `{}` is for {}, which is the guard's own unit", rule.name, rule.unit);
            Err(Failure::new(ExitCode::Configuration, message).hint("run the guard as another unit"))
        }
        None => Ok(()),
    }
}

/// TERM, INT and QUIT end the guard.
struct Asked {
    signals: Signals,
}

impl AsFd for Asked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

impl Stops for Asked {
    fn is_asked(&mut self) -> bool {
        let mut is_asked = false;
        // A fd that cannot be read can never be waited for again either.
        while let Some(received) = self.signals.read().unwrap_or_default() {
            is_asked |= matches!(received.signal, Sig::Term | Sig::Int | Sig::Quit);
        }
        is_asked
    }
}

/// The guard's notes as events.
struct Voice {
    log: Log,
    start: Instant,
}

impl Voice {
    fn now(&self) -> Moment {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Moment { now, wall: SystemTime::now() }
    }
}

impl Listener for Voice {
    fn tell(&mut self, note: &Note) {
        self.log.emit(self.now(), event(note));
    }

    fn turn(&mut self) {
        let now = self.now();
        self.log.drain(now);
        if self.log.next_deadline().is_some_and(|deadline| deadline <= now.now) {
            self.log.flush(now);
        }
    }

    fn wait(&self) -> Option<Duration> {
        let now = self.now().now;
        self.log.next_deadline().map(|deadline| Duration::from_nanos(deadline.saturating_sub(now)))
    }

    fn blocked_fd(&self) -> Option<BorrowedFd<'_>> {
        self.log.blocked_fd()
    }
}

fn event(note: &Note) -> Event {
    let kind = match note.topic {
        Topic::Matched => Kind::GuardMatched,
        Topic::Acted | Topic::Failed => Kind::GuardActed,
        Topic::Ignored => Kind::GuardIgnored,
        Topic::GaveUp => Kind::GuardGaveUp,
        Topic::Warned => Kind::GuardWarned,
    };
    let mut event = Event::new(kind).message(note.message.clone());
    if note.topic == Topic::Failed {
        event = event.level(Level::Error);
    }
    if !note.unit.is_empty() {
        event = event.pool(&Arc::from(note.rule.as_str())).unit(note.unit.clone());
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_note_is_an_event_of_its_rule() {
        let note = |topic| Note {
            topic,
            rule: "site".to_owned(),
            unit: "site.service".to_owned(),
            message: "words".to_owned(),
            times: 1,
        };
        let told = event(&note(Topic::Acted));
        assert_eq!((told.kind, told.level), (Kind::GuardActed, Level::Warning));
        assert_eq!((told.pool.as_deref(), told.unit.as_deref()), (Some("site"), Some("site.service")));
        assert_eq!(event(&note(Topic::Failed)).level, Level::Error);
        let own = event(&Note::warning("words"));
        assert_eq!((own.kind, own.pool, own.unit), (Kind::GuardWarned, None, None));
    }
}
