//! The past, as the rules would have seen it: `guard test`.
//!
//! The same machine as in service, with an outside that always says yes: the unit is well, each action succeeds at once, and
//! its grace runs from the line that filled the window. Time is the wall's alone, as the entries tell it.

use std::sync::Arc;

use crate::entry::Entry;
use crate::facts::Facts;
use crate::machine::{Episode, Machine, Order, Outcome};
use crate::moment::Moment;
use crate::rule::Rule;

/// An action that there would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// Whose: the place of the rule.
    pub rule: usize,
    /// When the line was written that filled the window, in microseconds since 1970.
    pub at: u64,
    /// When the first line was.
    pub first_at: u64,
    /// How many lines.
    pub count: u64,
    /// The first line.
    pub line: String,
    /// The budget was spent: only a word, no action.
    pub is_spent: bool,
}

/// The rules, and how far the past has been told to them.
#[derive(Debug)]
pub struct Rehearsal {
    machines: Vec<Machine>,
}

impl Rehearsal {
    /// Of these rules, before anything has happened.
    #[must_use]
    pub fn new(rules: impl IntoIterator<Item = Arc<Rule>>) -> Rehearsal {
        Rehearsal { machines: rules.into_iter().map(|rule| Machine::new(rule, None)).collect() }
    }

    /// Tells the next entry; each action that follows is given to `found`.
    ///
    /// # Errors
    /// What `found` says.
    pub fn entry<E>(&mut self, entry: &Entry, mut found: impl FnMut(Fired) -> Result<(), E>) -> Result<(), E> {
        let at = Moment::on_wall(entry.realtime);
        for (rule, machine) in self.machines.iter_mut().enumerate() {
            machine.handle_entry(entry, at);

            while let Some(order) = machine.next_order() {
                match order {
                    Order::Ask => machine.handle_facts(Ok(Facts::well(None)), at),
                    Order::Act(episode) => {
                        machine.handle_done(Outcome { result: Ok(()), resumed: Some(at) }, at);
                        found(fired(rule, &episode, false))?;
                    }
                    Order::StandBack(episode) => found(fired(rule, &episode, true))?,
                    Order::Notify(..) | Order::Tell(_) => {}
                }
            }
        }
        Ok(())
    }
}

fn fired(rule: usize, episode: &Episode, is_spent: bool) -> Fired {
    Fired {
        rule,
        at: episode.newest().wall,
        first_at: episode.oldest().wall,
        count: episode.count(),
        line: episode.line().to_owned(),
        is_spent,
    }
}
