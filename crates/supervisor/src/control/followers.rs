//! Those who follow events: each hears what comes into the ring after what it has heard.

use std::collections::BTreeMap;

use steadfast_proto::control::Answer;

use crate::control::server::Server;
use crate::events::event::Stamped;
use crate::events::human::sentence;
use crate::shell::Shell;

/// Events that one follower is given in one turn; the rest follows in the next.
const TURN_MAX: usize = 256;

/// The followers, by their connections.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    by_connection: BTreeMap<u64, Follower>,
}

#[derive(Debug)]
struct Follower {
    next: u64,
    pool: Option<String>,
}

/// Whether an event is about `pool`, if only that one is wanted.
fn is_wanted(event: &Stamped, pool: Option<&str>) -> bool {
    pool.is_none_or(|pool| event.event.pool.as_deref() == Some(pool))
}

/// The last `count` events about `pool`, oldest first.
pub(crate) fn last(shell: &Shell, count: usize, pool: Option<&str>) -> Vec<Answer> {
    let ring = shell.log.ring();
    let wanted: Vec<&Stamped> = ring.last(usize::MAX).filter(|event| is_wanted(event, pool)).collect();
    wanted[wanted.len().saturating_sub(count)..].iter().filter_map(|event| answer(event)).collect()
}

fn answer(event: &Stamped) -> Option<Answer> {
    let mut told: steadfast_proto::event::Event = serde_json::from_str(&event.to_json()).ok()?;
    told.text = Some(sentence(&event.event));
    Some(Answer::Event { event: told })
}

impl Followers {
    /// One more, who hears what comes from now on.
    pub(crate) fn add(&mut self, shell: &Shell, connection: u64, pool: Option<String>) {
        let next = shell.log.ring().next_sequence();
        self.by_connection.insert(connection, Follower { next, pool });
    }

    /// Gives each what has come. True: there is more than one turn gives.
    pub(crate) fn tell(&mut self, shell: &mut Shell, server: &mut Server) -> bool {
        self.by_connection.retain(|connection, _| server.has(*connection));
        let mut is_more = false;
        for (connection, follower) in &mut self.by_connection {
            if follower.next >= shell.log.ring().next_sequence() {
                continue;
            }
            let mut answers = Vec::new();
            let mut seen = 0;
            for event in shell.log.ring().since(follower.next).take(TURN_MAX) {
                seen += 1;
                follower.next = event.sequence + 1;
                if is_wanted(event, follower.pool.as_deref()) {
                    answers.extend(answer(event));
                }
            }
            if seen == 0 {
                follower.next = shell.log.ring().next_sequence();
            }
            is_more |= seen == TURN_MAX;
            for answer in &answers {
                server.answer(shell, *connection, answer);
            }
        }
        is_more
    }
}
