//! Those who wait for a reload to end: they are told the truth about each pool.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_policy::ids::{GenerationId, PoolId};
use steadfast_policy::time::Instant;
use steadfast_proto::control::{Answer, Refusal};
use steadfast_proto::exit::ExitCode;

use crate::control::server::Server;
use crate::shell::{Outcome, OutcomeKind, Shell};
use crate::timers::Timer;

/// The waits, by their connections.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    by_connection: BTreeMap<u64, Wait>,
}

#[derive(Debug)]
struct Wait {
    pools: BTreeMap<PoolId, Progress>,
    since: Instant,
    failures: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Its turn has not come: another reload is under way.
    Queued,
    /// This generation comes.
    Coming(GenerationId),
    /// It is over, well or not.
    Over,
}

impl Waits {
    /// One more, for a reload of these pools that has just been asked for.
    pub(crate) fn add(&mut self, shell: &mut Shell, connection: u64, pools: &[PoolId], timeout: Option<Duration>) {
        if let Some(timeout) = timeout {
            let at = shell.now.after(timeout);
            shell.timers.set(Timer::Wait(connection), at);
        }
        let pools = pools.iter().map(|pool| (*pool, Progress::Queued)).collect();
        self.by_connection.insert(connection, Wait { pools, since: shell.now, failures: Vec::new() });
    }

    /// Tells what has happened to those who wait for it.
    pub(crate) fn tell(&mut self, shell: &mut Shell, server: &mut Server) {
        for outcome in std::mem::take(&mut shell.outcomes) {
            let name = match shell.pools.get(outcome.pool) {
                Some(pool) => pool.name.to_string(),
                None => continue,
            };
            for (connection, wait) in &mut self.by_connection {
                if let Some(text) = wait.hear(&outcome, &name) {
                    server.answer(shell, *connection, &Answer::Progress { text });
                }
            }
        }
        self.by_connection.retain(|connection, wait| {
            if !server.has(*connection) {
                shell.timers.clear(Timer::Wait(*connection));
                return false;
            }
            let is_over = wait.pools.values().all(|progress| *progress == Progress::Over);
            if is_over {
                shell.timers.clear(Timer::Wait(*connection));
                server.answer(shell, *connection, &wait.verdict());
            }
            !is_over
        });
    }

    /// Its time is over; the reload goes on.
    pub(crate) fn overdue(&mut self, shell: &mut Shell, server: &mut Server, connection: u64) {
        if let Some(wait) = self.by_connection.remove(&connection) {
            let waited = crate::words::duration(shell.now.since(wait.since));
            let refusal =
                Refusal::new(ExitCode::TimedOut, format!("the reload is not over after {waited}; it goes on"))
                    .with_hint("see `steadfast status`");
            server.answer(shell, connection, &Answer::Error(refusal));
        }
    }
}

impl Wait {
    /// What is to be said about it, if it is waited for here.
    fn hear(&mut self, outcome: &Outcome, name: &str) -> Option<String> {
        let progress = self.pools.get_mut(&outcome.pool)?;
        match (&outcome.kind, *progress) {
            (OutcomeKind::Started(generation), Progress::Queued) => {
                *progress = Progress::Coming(*generation);
                Some(format!("{name}: generation {generation} comes"))
            }
            (OutcomeKind::Serving(generation), Progress::Coming(awaited)) if *generation >= awaited => {
                *progress = Progress::Over;
                Some(format!("{name}: generation {generation} serves"))
            }
            (OutcomeKind::Failed(generation, reason, lines), Progress::Coming(awaited)) if *generation == awaited => {
                *progress = Progress::Over;
                let mut text = format!("{name}: generation {generation} failed, the old one serves: {reason}");
                for line in lines {
                    text.push_str("\n    ");
                    text.push_str(line);
                }
                self.failures.push(text);
                None
            }
            (OutcomeKind::Superseded(generation), Progress::Coming(awaited)) if *generation == awaited => {
                *progress = Progress::Over;
                self.failures
                    .push(format!("{name}: generation {generation} was given up: a newer reload took its place"));
                None
            }
            (OutcomeKind::Stopped, Progress::Queued | Progress::Coming(_)) => {
                *progress = Progress::Over;
                self.failures.push(format!("{name}: the pool was stopped"));
                None
            }
            (
                OutcomeKind::Started(_)
                | OutcomeKind::Serving(_)
                | OutcomeKind::Failed(..)
                | OutcomeKind::Superseded(_)
                | OutcomeKind::Stopped
                | OutcomeKind::Up,
                Progress::Queued | Progress::Coming(_) | Progress::Over,
            ) => None,
        }
    }

    fn verdict(&self) -> Answer {
        if self.failures.is_empty() {
            Answer::Done { text: String::new() }
        } else {
            Answer::Error(Refusal::new(ExitCode::Failed, self.failures.join("\n")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait() -> Wait {
        let pools = BTreeMap::from([(PoolId(1), Progress::Queued), (PoolId(2), Progress::Queued)]);
        Wait { pools, since: Instant::ZERO, failures: Vec::new() }
    }

    fn hear(wait: &mut Wait, pool: u32, kind: OutcomeKind) {
        wait.hear(&Outcome { pool: PoolId(pool), kind }, "site");
    }

    fn is_over(wait: &Wait) -> bool {
        wait.pools.values().all(|progress| *progress == Progress::Over)
    }

    #[test]
    fn a_reload_is_over_when_all_its_pools_are() {
        let mut wait = wait();
        for pool in [1, 2] {
            hear(&mut wait, pool, OutcomeKind::Started(GenerationId(4)));
            assert!(!is_over(&wait));
            hear(&mut wait, pool, OutcomeKind::Serving(GenerationId(4)));
        }
        assert!(is_over(&wait));
        assert_eq!(wait.verdict(), Answer::Done { text: String::new() });
    }

    #[test]
    fn the_end_of_an_older_reload_is_not_ours() {
        let mut wait = wait();
        hear(&mut wait, 1, OutcomeKind::Failed(GenerationId(3), "superseded".into(), Vec::new()));
        hear(&mut wait, 1, OutcomeKind::Serving(GenerationId(3)));
        assert_eq!(wait.pools[&PoolId(1)], Progress::Queued);
        assert!(wait.failures.is_empty());
    }

    #[test]
    fn a_failure_is_told_with_the_workers_lines() {
        let mut wait = wait();
        hear(&mut wait, 2, OutcomeKind::Stopped);
        hear(&mut wait, 1, OutcomeKind::Started(GenerationId(2)));
        hear(&mut wait, 1, OutcomeKind::Failed(GenerationId(2), "early, code 3".into(), vec!["no database".into()]));
        assert!(is_over(&wait));
        let Answer::Error(refusal) = wait.verdict() else { panic!("not a refusal") };
        assert!(refusal.message.contains("early, code 3\n    no database"), "{}", refusal.message);
    }
}
