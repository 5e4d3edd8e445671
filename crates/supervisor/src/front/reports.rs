//! Those who asked for the status: they are told when the front has said what it counts, or after 200 ms without.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_policy::policy::Policy;
use steadfast_proto::control::Answer;

use crate::control::server::Server;
use crate::shell::Shell;
use crate::status;
use crate::timers::Timer;

/// How long the front may take for its word.
const WITHIN: Duration = Duration::from_millis(200);

/// The waits, by their connections.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    by_connection: BTreeMap<u64, Wait>,
}

#[derive(Debug)]
struct Wait {
    /// The report that is waited for.
    number: u64,
    pool: Option<String>,
    is_over: bool,
}

impl Reports {
    /// One more, who waits for this report.
    pub(crate) fn add(&mut self, shell: &mut Shell, connection: u64, number: u64, pool: Option<String>) {
        let at = shell.clock.now().after(WITHIN);
        shell.timers.set(Timer::Report(connection), at);
        self.by_connection.insert(connection, Wait { number, pool, is_over: false });
    }

    /// The front has not said it in time.
    pub(crate) fn overdue(&mut self, connection: u64) {
        if let Some(wait) = self.by_connection.get_mut(&connection) {
            wait.is_over = true;
        }
    }

    /// Tells those whose wait is over; also when the front has gone meanwhile.
    pub(crate) fn tell(&mut self, shell: &mut Shell, policy: &Policy, server: &mut Server, version: &str) {
        if self.by_connection.is_empty() {
            return;
        }
        let (reported, is_away) = (shell.front.reported, shell.front.life.is_none());
        let over = |wait: &Wait| wait.is_over || is_away || wait.number <= reported;
        let told: Vec<u64> = self.by_connection.iter().filter(|(_, wait)| over(wait)).map(|(id, _)| *id).collect();
        for connection in told {
            shell.timers.clear(Timer::Report(connection));
            let Some(wait) = self.by_connection.remove(&connection) else {
                continue;
            };
            // Whoever asked for a pool that has gone meanwhile is told of none.
            let status = status::document(shell, policy, version, wait.pool.as_deref());
            server.answer(shell, connection, &Answer::Status { status });
        }
        self.by_connection.retain(|connection, _| {
            let is_there = server.has(*connection);
            if !is_there {
                shell.timers.clear(Timer::Report(*connection));
            }
            is_there
        });
    }
}
