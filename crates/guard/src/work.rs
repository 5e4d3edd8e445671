//! What is run for one rule: questions to systemd, its action, and who is told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFd;
use serde::Serialize;

use crate::errand::Errand;
use crate::facts::{self, Facts};
use crate::listener::Listener;
use crate::machine::{Episode, Machine, Order, Outcome};
use crate::moment::{Moment, stamp};
use crate::note::{Note, Topic};
use crate::rule::{Action, Rule};
use crate::store::{Store, Taken, UnitLock, is_locked};

/// systemd answers at once, or is not well.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);
/// So many are told at the same time.
const NOTICES_MAX: usize = 8;

/// The programs that run for one rule.
#[derive(Debug)]
pub(crate) struct Work {
    rule: Arc<Rule>,
    asking: Option<Errand>,
    acting: Option<Acting>,
    notices: Vec<Errand>,
    /// Held while the machine is at its unit.
    lock: Option<UnitLock>,
}

/// An action, step by step.
#[derive(Debug)]
struct Acting {
    errand: Errand,
    /// What is still to be run.
    rest: VecDeque<Vec<String>>,
    /// What this step does may fail.
    is_optional: bool,
}

impl Work {
    /// Nothing runs.
    pub(crate) fn new(rule: Arc<Rule>) -> Work {
        Work { rule, asking: None, acting: None, notices: Vec::new(), lock: None }
    }

    /// Whether anything runs.
    pub(crate) fn is_busy(&self) -> bool {
        self.asking.is_some() || self.acting.is_some() || !self.notices.is_empty()
    }

    /// What to wait for.
    pub(crate) fn add<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let acting = self.acting.iter().map(|acting| &acting.errand);
        for errand in self.asking.iter().chain(acting).chain(&self.notices) {
            errand.add(fds);
        }
    }

    /// How long until something runs late.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        let acting = self.acting.iter().map(|acting| &acting.errand);
        self.asking.iter().chain(acting).chain(&self.notices).map(|errand| errand.wait(now)).min()
    }

    /// Looks at what runs; true when something has ended.
    pub(crate) fn turn(&mut self, machine: &mut Machine, now: Moment, listener: &mut dyn Listener) -> bool {
        let instant = Instant::now();
        let mut is_moved = false;
        if let Some(result) = self.asking.as_mut().and_then(|errand| errand.turn(instant)) {
            self.asking = None;
            is_moved = true;
            let facts = result.and_then(|shown| Facts::parse(&shown, now));
            let is_locked = self.rule.lock.as_deref().is_some_and(is_locked);
            let acted = self.lock.as_ref().and_then(|lock| lock.acted);
            machine.handle_facts(facts.map(|facts| Facts { is_locked, acted, ..facts }), now);
        }
        if let Some(result) = self.acting.as_mut().and_then(|acting| acting.errand.turn(instant)) {
            is_moved = true;
            self.step(result, machine, now);
        }
        let mut failed = Vec::new();
        self.notices.retain_mut(|errand| match errand.turn(instant) {
            None => true,
            Some(result) => {
                failed.extend(result.err());
                false
            }
        });
        for error in failed {
            listener.tell(&self.note(Topic::Failed, format!("nobody was told: {error}")));
        }
        if !machine.is_busy() {
            self.lock = None;
        }
        is_moved
    }

    /// A step of the action has ended.
    fn step(&mut self, result: Result<String, String>, machine: &mut Machine, now: Moment) {
        let Some(acting) = self.acting.take() else {
            return;
        };
        let failed = result.err().filter(|_| !acting.is_optional);
        let mut rest = acting.rest;
        match (failed, rest.pop_front()) {
            (None, Some(next)) => self.run(&next, rest, None, false, machine, now),
            (failed, _) => {
                let result = failed.map_or(Ok(()), Err);
                machine.handle_done(Outcome { result, resumed: None }, now);
            }
        }
    }

    fn run(
        &mut self,
        command: &[String],
        rest: VecDeque<Vec<String>>,
        input: Option<Vec<u8>>,
        is_optional: bool,
        machine: &mut Machine,
        now: Moment,
    ) {
        match Errand::start(command, input, self.rule.timeout) {
            Ok(errand) => self.acting = Some(Acting { errand, rest, is_optional }),
            Err(error) => machine.handle_done(Outcome { result: Err(error), resumed: None }, now),
        }
    }

    /// Performs one order.
    pub(crate) fn obey(
        &mut self,
        order: Order,
        machine: &mut Machine,
        store: &Store,
        now: Moment,
        listener: &mut dyn Listener,
    ) {
        match order {
            Order::Tell(note) => listener.tell(&note),
            Order::Ask => self.ask(machine, store, now),
            Order::Act(episode) => self.act(&episode, machine, store, now),
            Order::Notify(episode, event) => self.notify(&episode, event, listener),
            Order::StandBack(_) => {}
        }
    }

    fn ask(&mut self, machine: &mut Machine, store: &Store, now: Moment) {
        if machine.is_busy() && self.lock.is_none() {
            match store.take_unit(&self.rule.unit) {
                Taken::Ours(lock) => self.lock = Some(lock),
                Taken::Theirs => {
                    return machine.handle_facts(Ok(Facts { is_taken: true, ..Facts::well(None) }), now);
                }
            }
        }
        let property = format!("--property={}", facts::PROPERTIES);
        let command = ["systemctl", "show", &property, "--", &self.rule.unit].map(str::to_owned);
        match Errand::start(&command, None, ASK_TIMEOUT) {
            Ok(errand) => self.asking = Some(errand),
            Err(error) => machine.handle_facts(Err(error), now),
        }
    }

    fn act(&mut self, episode: &Episode, machine: &mut Machine, store: &Store, now: Moment) {
        // A guard that goes on with what another process had begun has no lock yet.
        if self.lock.is_none()
            && let Taken::Ours(lock) = store.take_unit(&self.rule.unit)
        {
            self.lock = Some(lock);
        }
        if let Some(lock) = &self.lock {
            lock.write(now);
        }
        let systemctl = |verb: &str| ["systemctl", verb, "--", &self.rule.unit].map(str::to_owned).to_vec();
        match &self.rule.action {
            // The starts that count against the unit's limit are forgotten first: else a guard could stop it for good.
            Action::Restart => {
                let rest = VecDeque::from([systemctl("restart")]);
                self.run(&systemctl("reset-failed"), rest, None, true, machine, now);
            }
            Action::Reload => self.run(&systemctl("reload"), VecDeque::new(), None, false, machine, now),
            Action::Stop => self.run(&systemctl("stop"), VecDeque::new(), None, false, machine, now),
            Action::Command(command) => {
                let (command, input) = (command.clone(), document(&self.rule, episode, "acted"));
                self.run(&command, VecDeque::new(), Some(input), false, machine, now);
            }
            // The word itself is the note, and whoever is told.
            Action::Notify => machine.handle_done(Outcome { result: Ok(()), resumed: None }, now),
        }
    }

    fn notify(&mut self, episode: &Episode, event: &str, listener: &mut dyn Listener) {
        let Some(command) = &self.rule.notify else {
            return;
        };
        if self.notices.len() >= NOTICES_MAX {
            let words = format!("nobody was told: {NOTICES_MAX} notify commands run already");
            return listener.tell(&self.note(Topic::Failed, words));
        }
        match Errand::start(command, Some(document(&self.rule, episode, event)), self.rule.timeout) {
            Ok(errand) => self.notices.push(errand),
            Err(error) => listener.tell(&self.note(Topic::Failed, format!("nobody was told: {error}"))),
        }
    }

    fn note(&self, topic: Topic, message: String) -> Note {
        Note { topic, rule: self.rule.name.clone(), unit: self.rule.unit.clone(), message, times: 1 }
    }
}

/// What a command can read.
fn document(rule: &Rule, episode: &Episode, event: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Match<'a> {
        time: String,
        message: &'a str,
        times: u64,
    }
    #[derive(Serialize)]
    struct Document<'a> {
        event: &'a str,
        rule: &'a str,
        unit: &'a str,
        action: &'a str,
        count: u64,
        within_ms: u64,
        invocation: Option<String>,
        matches: Vec<Match<'a>>,
    }
    let matches = episode
        .hits
        .iter()
        .map(|hit| Match { time: stamp(hit.at.wall), message: &hit.line, times: hit.times })
        .collect();
    let document = Document {
        event,
        rule: &rule.name,
        unit: &rule.unit,
        action: rule.action.word(),
        count: episode.count(),
        within_ms: u64::try_from(rule.within.as_millis()).unwrap_or(u64::MAX),
        invocation: episode.invocation.map(|id| id.to_string()),
        matches,
    };
    // Strings and numbers are always JSON.
    let mut text = serde_json::to_vec(&document).unwrap_or_default();
    text.push(b'\n');
    text
}
