//! Decides when a rule acts. Entries, facts, results and time go in; orders come out; nothing here reads or waits.
//!
//! A rule watches: lines that match go into its window by their own time. When the window is full, the unit's facts are
//! asked for (they cost a process, so they are asked for only then). What they say decides: somebody else is at the unit
//! already, or the lines are of an earlier life: they are dropped, and that is said once. Else the budget is asked, and
//! the rule acts. After a restart the facts are asked for until the unit is active again; from that moment on its grace
//! runs, in which lines are counted for the report only.
//!
//! Only lines of one invocation are in the window. The first line of another one drops what is there, and those that come
//! late from an earlier one are no longer looked at. What systemd writes about the unit belongs to no invocation: each
//! restart of its own begins one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::count;
use crate::entry::Entry;
use crate::facts::{Active, Facts, Why};
use crate::ledger::{Ledger, Verdict};
use crate::moment::{Id, Moment};
use crate::note::{Note, Topic, length};
use crate::pattern::Voice;
use crate::rule::{Action, Rule};
use crate::window::{Hit, Window};

/// So many earlier invocations are remembered.
const PAST_MAX: usize = 16;
/// How often facts that could not be had are asked for again.
const TRIES_MAX: u32 = 3;
/// How long is waited before that, and while a unit is not active again: doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// journald's own word on lines that it has dropped.
const SUPPRESSED: &[u8] = b"a596d6fe7bfa4994828e72309e95d61e";

/// Lines that filled a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// Of this life of the unit.
    pub invocation: Option<Id>,
    /// The lines, oldest first; never empty.
    pub hits: Vec<Hit>,
}

impl Episode {
    /// How many lines they stand for.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.hits.iter().fold(0, |sum, hit| sum.saturating_add(hit.times))
    }

    /// When the line was written that filled it.
    #[must_use]
    pub fn newest(&self) -> Moment {
        self.hits.last().map(|hit| hit.at).unwrap_or_default()
    }

    /// When the first was written.
    #[must_use]
    pub fn oldest(&self) -> Moment {
        self.hits.first().map(|hit| hit.at).unwrap_or_default()
    }

    /// The first line.
    #[must_use]
    pub fn line(&self) -> &str {
        self.hits.first().map_or("", |hit| hit.line.as_str())
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ask for the unit's facts: [`Machine::handle_facts`].
    Ask,
    /// Perform the rule's action, and save the state before: [`Machine::handle_done`].
    Act(Episode),
    /// Run the rule's notify command; nobody waits for it.
    Notify(Episode, &'static str),
    /// The window was full, and the budget is spent.
    StandBack(Episode),
    /// Tell people.
    Tell(Note),
}

/// How an action went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `Err` says what was tried and why it failed.
    pub result: Result<(), String>,
    /// The grace runs from here, and no facts are asked for: the past is being replayed.
    pub resumed: Option<Moment>,
}

/// Where a rule stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Watching,
    Asking { episode: Episode, tries: u32, again: Option<Moment> },
    Acting { episode: Episode, since: Moment },
    Settling { invocation: Option<Id>, since: Moment, pause: Duration, again: Option<Moment> },
    Grace { from: Moment, ignored: u64, is_told: bool },
}

/// What is saved of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    window: Window,
    phase: Phase,
    ledger: Ledger,
    current: Option<Id>,
    past: VecDeque<Id>,
}

/// One rule at work.
#[derive(Debug)]
pub struct Machine {
    rule: Arc<Rule>,
    saved: Saved,
    /// Lines older than the window were old news when the guard began.
    began: Option<Moment>,
    /// The unit's last line counted.
    has_counted: bool,
    /// This has been said, and nothing else since.
    said: Option<Why>,
    orders: VecDeque<Order>,
    is_changed: bool,
}

impl Machine {
    /// Watching, with nothing in its window. `began` is now, or nothing where old lines count as well.
    #[must_use]
    pub fn new(rule: Arc<Rule>, began: Option<Moment>) -> Machine {
        let saved = Saved {
            window: Window::default(),
            phase: Phase::Watching,
            ledger: Ledger::default(),
            current: None,
            past: VecDeque::new(),
        };
        Machine { rule, saved, began, has_counted: false, said: None, orders: VecDeque::new(), is_changed: false }
    }

    /// Goes on where another process has left off.
    #[must_use]
    pub fn resume(rule: Arc<Rule>, saved: Saved, now: Moment) -> Machine {
        let mut machine = Machine { saved, ..Machine::new(rule, Some(now)) };
        match &mut machine.saved.phase {
            Phase::Asking { .. } | Phase::Settling { .. } => machine.orders.push_back(Order::Ask),
            // Whether it was done is for systemd to say. Nobody knows what a command had done.
            Phase::Acting { .. } if machine.rule.action.is_of_unit() => machine.orders.push_back(Order::Ask),
            Phase::Acting { .. } => {
                machine.tell(Topic::Failed, "the guard ended while the command ran: it is not run again".into(), 1);
                machine.rest(now);
            }
            Phase::Watching | Phase::Grace { .. } => {}
        }
        machine
    }

    /// The rule.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The next thing to do.
    pub fn next_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// What to save.
    #[must_use]
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Whether there is something new to save; asking makes it old.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Whether it is at its unit: no other guard may be, meanwhile.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self.saved.phase, Phase::Asking { .. } | Phase::Acting { .. })
    }

    /// In a few words.
    #[must_use]
    pub fn status(&self, now: Moment) -> String {
        let Rule { unit, failures, .. } = &*self.rule;
        let what = match &self.saved.phase {
            Phase::Watching => format!("{} of {failures}", self.saved.window.count()),
            Phase::Asking { .. } => "asking systemd".to_owned(),
            Phase::Acting { .. } => self.rule.action.word().to_owned(),
            Phase::Settling { .. } => "not active again yet".to_owned(),
            Phase::Grace { from, .. } if now.since(*from) >= self.rule.grace => format!("0 of {failures}"),
            Phase::Grace { .. } => "grace".to_owned(),
        };
        let end = if self.saved.ledger.is_spent() { ", stands back" } else { "" };
        format!("{unit}: {what}{end}")
    }

    /// An entry of the unit or about it, at `at` by the clocks that count.
    pub fn handle_entry(&mut self, entry: &Entry, at: Moment) {
        let Some(voice) = self.voice(entry) else {
            return;
        };
        let times = match count::repeated(entry) {
            Some(times) if voice == Voice::Unit && self.has_counted => times,
            _ if self.is_match(entry, voice) => count::times(entry),
            _ => {
                self.has_counted &= voice != Voice::Unit;
                return;
            }
        };
        self.has_counted = voice == Voice::Unit;
        if self.began.is_some_and(|began| began.since(at) > self.rule.within) {
            return;
        }
        if voice == Voice::Unit && !self.is_of_this_life(entry) {
            return;
        }
        let message = entry.field("MESSAGE").unwrap_or_default();
        self.count(Hit::new(at, times, message, voice == Voice::Systemd));
    }

    /// Whose words these are; nobody's that count where it is somebody else's unit, or the guard's own.
    fn voice(&mut self, entry: &Entry) -> Option<Voice> {
        if entry.field("STEADFAST_EVENT").is_some_and(|event| event.starts_with(b"guard-")) {
            return None;
        }
        let unit = self.rule.unit.as_bytes();
        if entry.field("_SYSTEMD_UNIT") == Some(unit) {
            return Some(Voice::Unit);
        }
        if entry.field("_PID") == Some(b"1") && entry.field("UNIT") == Some(unit) {
            return Some(Voice::Systemd);
        }
        if entry.field("MESSAGE_ID") == Some(SUPPRESSED) {
            self.warn_of_suppressed(entry);
        }
        None
    }

    fn warn_of_suppressed(&mut self, entry: &Entry) {
        let message = String::from_utf8_lossy(entry.field("MESSAGE").unwrap_or_default());
        if message.strip_suffix(self.rule.unit.as_str()).is_some_and(|rest| rest.ends_with(' ')) {
            let words = format!("journald has dropped lines ({message}): there may be more than were seen");
            self.tell(Topic::Warned, words, 1);
        }
    }

    fn is_match(&self, entry: &Entry, voice: Voice) -> bool {
        // What steadfast says of itself quotes others; only who asks for its fields means it. What its workers say is theirs.
        let is_own = entry.field("STEADFAST_EVENT").is_some_and(|event| !event.ends_with(b"-output"));
        let mut patterns = self.rule.patterns.iter().filter(|pattern| pattern.voice() == voice);
        patterns.any(|pattern| !(is_own && pattern.is_text()) && pattern.matches(entry))
    }

    /// Whether the entry is of the invocation that is looked at; a new one takes that place.
    fn is_of_this_life(&mut self, entry: &Entry) -> bool {
        let Some(id) = entry.field("_SYSTEMD_INVOCATION_ID").and_then(Id::parse) else {
            return true;
        };
        if self.saved.past.contains(&id) {
            return false;
        }
        self.begin_life(id);
        true
    }

    fn begin_life(&mut self, id: Id) {
        if self.saved.current == Some(id) {
            return;
        }
        if let Some(before) = self.saved.current.replace(id) {
            self.saved.past.push_back(before);
            if self.saved.past.len() > PAST_MAX {
                self.saved.past.pop_front();
            }
            self.saved.window.begin();
        }
        self.saved.past.retain(|past| *past != id);
        self.is_changed = true;
    }

    fn count(&mut self, hit: Hit) {
        self.is_changed = true;
        match &mut self.saved.phase {
            Phase::Watching => self.watch(hit),
            Phase::Grace { from, .. } if hit.at.since(*from) >= self.rule.grace => {
                self.sum_up();
                self.saved.phase = Phase::Watching;
                self.watch(hit);
            }
            Phase::Grace { ignored, is_told, .. } => {
                *ignored = ignored.saturating_add(hit.times);
                if !std::mem::replace(is_told, true) {
                    let words = format!("within the grace of {}: {}", length(self.rule.grace), hit.line);
                    self.tell(Topic::Ignored, words, hit.times);
                }
            }
            // These come from what is being ended.
            Phase::Asking { .. } | Phase::Acting { .. } | Phase::Settling { .. } => {}
        }
    }

    fn watch(&mut self, hit: Hit) {
        let (times, line) = (hit.times, hit.line.clone());
        self.saved.window.push(hit, self.rule.within);
        let (count, wanted) = (self.saved.window.count(), self.rule.failures);
        let words = format!("{count} of {wanted} within {}: {line}", length(self.rule.within));
        self.tell(Topic::Matched, words, times);
        if count < wanted {
            return;
        }
        let episode = Episode { invocation: self.saved.current, hits: self.saved.window.take() };
        self.saved.phase = Phase::Asking { episode, tries: 0, again: None };
        self.orders.push_back(Order::Ask);
    }

    /// The grace is over: how much was ignored.
    fn sum_up(&mut self) {
        if let Phase::Grace { ignored, .. } = &mut self.saved.phase {
            let ignored = std::mem::take(ignored);
            if ignored > 1 {
                let words = format!("{ignored} lines within the grace of {}", length(self.rule.grace));
                self.tell(Topic::Ignored, words, 1);
            }
        }
    }

    /// What systemd says; `Err` says why it could not be asked.
    pub fn handle_facts(&mut self, facts: Result<Facts, String>, now: Moment) {
        self.is_changed = true;
        match std::mem::replace(&mut self.saved.phase, Phase::Watching) {
            Phase::Asking { episode, tries, .. } => match facts {
                Ok(facts) => self.decide(episode, facts, now),
                Err(_) if tries + 1 < TRIES_MAX => {
                    let again = Some(now.after(PAUSE_FIRST * 2u32.pow(tries)));
                    self.saved.phase = Phase::Asking { episode, tries: tries + 1, again };
                }
                // Whoever is only told, or mends by himself, may be needed most when systemd is not there.
                Err(_) if !self.rule.action.is_of_unit() => {
                    self.decide(episode, Facts::well(None), now);
                }
                Err(error) => {
                    let words = format!("{} lines, but systemd cannot be asked: {error}", episode.count());
                    self.tell(Topic::Ignored, words, episode.count());
                }
            },
            // The guard had ended while it acted.
            Phase::Acting { episode, since } => match facts {
                Ok(facts) => self.go_on(episode, facts, since),
                Err(_) => self.rest(now),
            },
            Phase::Settling { invocation, since, pause, .. } => self.settle(invocation, since, pause, facts.ok(), now),
            phase @ (Phase::Watching | Phase::Grace { .. }) => self.saved.phase = phase,
        }
    }

    fn decide(&mut self, episode: Episode, facts: Facts, now: Moment) {
        let why = facts.hinder(episode.invocation, episode.newest(), self.rule.action.is_of_unit());
        if let Some(id) = facts.invocation.filter(|_| why == Some(Why::Restarted)) {
            self.begin_life(id);
        }
        if let Some(why) = why {
            if self.said.replace(why) != Some(why) {
                let words = format!("{} lines, but {}: nothing is done", episode.count(), why.words());
                self.tell(Topic::Ignored, words, episode.count());
            }
            return;
        }
        self.said = None;
        match self.saved.ledger.want(self.rule.budget, now) {
            Verdict::Act => self.act(episode, now),
            Verdict::StandBack { is_news } => {
                if is_news {
                    let budget = self.rule.budget;
                    let words = format!(
                        "{} lines within {}, but the budget of {} in {} is spent: the guard stands back, and tries once in {}. \
                         The first line: {}",
                        episode.count(),
                        length(self.rule.within),
                        actions(budget.actions),
                        length(budget.within),
                        length(budget.within),
                        episode.line()
                    );
                    self.tell(Topic::GaveUp, words, episode.count());
                    if self.rule.notify.is_some() {
                        self.orders.push_back(Order::Notify(episode.clone(), "gave-up"));
                    }
                }
                self.rest(episode.newest());
                self.orders.push_back(Order::StandBack(episode));
            }
        }
    }

    fn act(&mut self, episode: Episode, now: Moment) {
        let words = format!(
            "{}: {} lines within {}; the first: {}",
            self.rule.action.word(),
            episode.count(),
            length(self.rule.within),
            episode.line()
        );
        self.tell(Topic::Acted, words, episode.count());
        if self.rule.notify.is_some() {
            self.orders.push_back(Order::Notify(episode.clone(), "acted"));
        }
        self.saved.phase = Phase::Acting { episode: episode.clone(), since: now };
        self.orders.push_back(Order::Act(episode));
    }

    /// A guard before us had begun to act: what it had asked for is under way, or done, or was never asked.
    fn go_on(&mut self, episode: Episode, facts: Facts, since: Moment) {
        let is_new = facts.invocation != episode.invocation && episode.invocation.is_some();
        let is_later = facts.entered.is_some_and(|entered| !entered.since(since).is_zero());
        let is_at_it = facts.has_job || matches!(facts.active, Active::Deactivating | Active::Reloading);
        if is_new || is_later || is_at_it || facts.active == Active::Inactive {
            self.saved.phase =
                Phase::Settling { invocation: episode.invocation, since, pause: PAUSE_FIRST, again: Some(since) };
        } else {
            self.saved.phase = Phase::Acting { episode: episode.clone(), since };
            self.orders.push_back(Order::Act(episode));
        }
    }

    /// What became of the action.
    pub fn handle_done(&mut self, outcome: Outcome, now: Moment) {
        self.is_changed = true;
        let Phase::Acting { episode, .. } = &self.saved.phase else {
            return;
        };
        let invocation = episode.invocation;
        if let Some(from) = outcome.resumed {
            return self.rest(from);
        }
        match (outcome.result, &self.rule.action) {
            (Ok(()), Action::Restart) => {
                self.saved.phase = Phase::Settling { invocation, since: now, pause: PAUSE_FIRST, again: None };
                self.orders.push_back(Order::Ask);
            }
            (Ok(()), Action::Stop) => self.saved.phase = Phase::Watching,
            (Ok(()), Action::Reload | Action::Notify | Action::Command(_)) => self.rest(now),
            (Err(error), _) => {
                self.tell(Topic::Failed, error, 1);
                self.rest(now);
            }
        }
    }

    fn settle(&mut self, before: Option<Id>, since: Moment, pause: Duration, facts: Option<Facts>, now: Moment) {
        let is_new = |facts: &Facts| before.is_none() || facts.invocation != before;
        match facts {
            Some(facts) if facts.active == Active::Active && is_new(&facts) && !facts.has_job => {
                if let Some(id) = facts.invocation {
                    self.begin_life(id);
                }
                self.rest(facts.entered.unwrap_or(now));
            }
            _ if now.since(since) >= self.rule.timeout => {
                let words = format!("the unit is not active again after {}", length(self.rule.timeout));
                self.tell(Topic::Failed, words, 1);
                self.rest(now);
            }
            _ => {
                let again = Some(now.after(pause));
                let pause = (pause * 2).min(PAUSE_MAX);
                self.saved.phase = Phase::Settling { invocation: before, since, pause, again };
            }
        }
    }

    /// The grace begins.
    fn rest(&mut self, from: Moment) {
        self.saved.phase = Phase::Grace { from, ignored: 0, is_told: false };
    }

    /// Time has passed.
    pub fn handle_time(&mut self, now: Moment) {
        match &mut self.saved.phase {
            Phase::Asking { again, .. } | Phase::Settling { again, .. } => {
                if again.is_some_and(|again| !again.since(now).is_zero()) {
                    return;
                }
                if again.take().is_some() {
                    self.orders.push_back(Order::Ask);
                }
            }
            // Lines of this time may still be on their way: the phase itself ends with the first one after it.
            Phase::Grace { from, ignored, .. } => {
                if *ignored > 1 && now.since(*from) >= self.rule.grace {
                    self.sum_up();
                }
            }
            Phase::Watching | Phase::Acting { .. } => {}
        }
    }

    /// How long until [`Machine::handle_time`] has something to do; `None` while nothing waits.
    #[must_use]
    pub fn wait(&self, now: Moment) -> Option<Duration> {
        match &self.saved.phase {
            Phase::Asking { again, .. } | Phase::Settling { again, .. } => again.map(|again| again.since(now)),
            // Its end shows in the status, too.
            Phase::Grace { from, .. } if now.since(*from) < self.rule.grace => {
                Some(from.after(self.rule.grace).since(now))
            }
            Phase::Grace { ignored, .. } if *ignored > 1 => Some(Duration::ZERO),
            Phase::Grace { .. } | Phase::Watching | Phase::Acting { .. } => None,
        }
    }

    fn tell(&mut self, topic: Topic, message: String, times: u64) {
        let (rule, unit) = (self.rule.name.clone(), self.rule.unit.clone());
        self.orders.push_back(Order::Tell(Note { topic, rule, unit, message, times }));
    }
}

fn actions(number: u32) -> String {
    if number == 1 { "1 action".to_owned() } else { format!("{number} actions") }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
