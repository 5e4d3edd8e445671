//! `guard run`: one thread that reads the sources, turns the machines, runs what they order, and saves where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::clock::Clock;
use crate::entry::Entry;
use crate::errand::reason;
use crate::follow::{Follower, Turn};
use crate::lines::Lines;
use crate::listener::Listener;
use crate::machine::Machine;
use crate::moment::Moment;
use crate::note::Note;
use crate::notify::Notify;
use crate::query::Query;
use crate::rule::{Rule, Source};
use crate::store::{OfRule, State, Store};
use crate::tail::Tail;
use crate::work::Work;

/// Pieces of one source in one turn: others want theirs, too.
const PIECES_MAX: usize = 16;
/// How often the state is saved while much happens. What is read again after a death leads to the same counts.
const SAVE_PAUSE: Duration = Duration::from_millis(200);
/// How often the place in the journal is saved while nothing counts.
const SAVE_IDLE: Duration = Duration::from_secs(10);

/// What is run.
#[derive(Debug)]
pub struct Settings {
    /// At least one.
    pub rules: Vec<Arc<Rule>>,
    /// Where the state is kept.
    pub state_dir: PathBuf,
}

/// Who says that it is over.
pub trait Stops: AsFd {
    /// Whether somebody has asked us to end.
    fn is_asked(&mut self) -> bool;
}

/// Runs until it is asked to end, or standard input, if that is the only source, has ended.
///
/// # Errors
/// A source cannot be had at all: what, and why.
pub fn run(settings: &Settings, listener: &mut dyn Listener, stops: &mut dyn Stops) -> Result<(), String> {
    let mut guard = Guard::start(settings, listener)?;
    guard.notify.ready();
    while !guard.is_over() {
        guard.turn(listener);
        guard.sleep(listener, stops)?;
        if stops.is_asked() {
            break;
        }
    }
    guard.notify.stopping();
    guard.save(true, listener);
    Ok(())
}

/// One rule, and what is run for it.
struct Watch {
    rule: Arc<Rule>,
    machine: Machine,
    work: Work,
}

struct Guard {
    clock: Clock,
    watches: Vec<Watch>,
    follower: Option<Follower>,
    tails: BTreeMap<PathBuf, Tail>,
    stdin: Option<Lines>,
    had_stdin: bool,
    store: Store,
    state: State,
    notify: Notify,
    fed: Instant,
    /// There is something to save, since then.
    changed: Option<Instant>,
    saved: Instant,
    save_error: Option<String>,
    /// Some source has more.
    is_hurried: bool,
}

impl Guard {
    fn start(settings: &Settings, listener: &mut dyn Listener) -> Result<Guard, String> {
        let clock = Clock::new();
        let (now, instant) = (clock.now(), Instant::now());
        let (store, mut state, said) = Store::open(&settings.state_dir);
        if let Some(said) = said {
            listener.tell(&Note::warning(said));
        }
        let mut watches = Vec::new();
        for rule in &settings.rules {
            let kept = state.rules.get(&rule.name).filter(|kept| kept.unit == rule.unit);
            let machine = match kept {
                Some(kept) => Machine::resume(Arc::clone(rule), kept.saved.clone(), now),
                None => Machine::new(Arc::clone(rule), Some(now)),
            };
            watches.push(Watch { rule: Arc::clone(rule), machine, work: Work::new(Arc::clone(rule)) });
        }
        let names: BTreeSet<&String> = settings.rules.iter().map(|rule| &rule.name).collect();
        state.rules.retain(|name, _| names.contains(name));
        let of = |source: Source| settings.rules.iter().filter(move |rule| rule.source == source);
        let within = settings.rules.iter().map(|rule| rule.within).max().unwrap_or_default();
        let follower = (of(Source::Journal).count() > 0).then(|| {
            let query = Query::of(of(Source::Journal).map(|rule| &**rule));
            let micros = u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
            Follower::new(query, state.journal.clone(), now.wall.saturating_sub(micros))
        });
        let mut tails = BTreeMap::new();
        for rule in &settings.rules {
            if let Source::File(path) = &rule.source
                && !tails.contains_key(path)
            {
                let tail = Tail::new(path, state.files.get(path).copied(), within, instant);
                let failed = |error: io::Error| format!("cannot watch {}: {}", path.display(), reason(&error));
                tails.insert(path.clone(), tail.map_err(failed)?);
            }
        }
        let stdin = (of(Source::Stdin).count() > 0).then(Lines::default);
        Ok(Guard {
            clock,
            watches,
            follower,
            tails,
            had_stdin: stdin.is_some(),
            stdin,
            store,
            state,
            notify: Notify::from_environment(),
            fed: instant,
            changed: Some(instant),
            saved: instant,
            save_error: None,
            is_hurried: false,
        })
    }

    /// Standard input was the only source, and what it has led to is done.
    fn is_over(&self) -> bool {
        let is_read = self.had_stdin && self.stdin.is_none() && self.follower.is_none() && self.tails.is_empty();
        is_read && self.watches.iter().all(|watch| !watch.work.is_busy() && !watch.machine.is_busy())
    }

    fn turn(&mut self, listener: &mut dyn Listener) {
        self.is_hurried = false;
        self.read_journal(listener);
        self.read_files(listener);
        self.obey(listener);
        let now = Instant::now();
        let due = if self.save_error.is_some() { SAVE_IDLE } else { SAVE_PAUSE };
        if self.changed.is_some() && now.saturating_duration_since(self.saved) >= due {
            self.save(false, listener);
        }
        if let Some(interval) = self.notify.interval()
            && now.saturating_duration_since(self.fed) >= interval
        {
            self.notify.alive();
            self.fed = now;
        }
        if self.watches.len() <= 8 {
            let moment = self.clock.now();
            let words: Vec<String> = self.watches.iter().map(|watch| watch.machine.status(moment)).collect();
            self.notify.status(words.join("; "));
        } else {
            self.notify.status(format!("{} rules", self.watches.len()));
        }
        listener.turn();
    }

    fn read_journal(&mut self, listener: &mut dyn Listener) {
        for _ in 0..PIECES_MAX {
            let Some(follower) = &mut self.follower else {
                return;
            };
            let watches = &mut self.watches;
            let turn = follower.turn(Instant::now(), |entry| {
                let at = Moment::of(entry);
                for watch in watches.iter_mut().filter(|watch| watch.rule.source == Source::Journal) {
                    watch.machine.handle_entry(entry, at);
                }
            });
            match turn {
                Turn::Empty => return,
                Turn::Ended(why) => return listener.tell(&Note::warning(why)),
                Turn::More => self.obey(listener),
            }
        }
        self.is_hurried = true;
    }

    fn read_files(&mut self, listener: &mut dyn Listener) {
        let Guard { tails, watches, clock, is_hurried, .. } = self;
        for (path, tail) in tails {
            for _ in 0..PIECES_MAX {
                let now = clock.now();
                let source = Source::File(path.clone());
                let (is_more, said) = tail.turn(Instant::now(), |line| hear(watches, &source, line, now));
                if let Some(said) = said {
                    listener.tell(&Note::warning(said));
                }
                *is_hurried |= is_more;
                if !is_more {
                    break;
                }
            }
        }
    }

    /// Standard input is somebody else's, too: it is read only when it is known to be ready.
    fn read_stdin(&mut self) {
        let mut buffer = [0; 64 * 1024];
        let now = self.clock.now();
        let Some(lines) = &mut self.stdin else {
            return;
        };
        let watches = &mut self.watches;
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(count) if count > 0 => {
                lines.take(buffer.get(..count).unwrap_or_default(), |line| hear(watches, &Source::Stdin, line, now));
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(_) | Err(_) => {
                lines.end(|line| hear(watches, &Source::Stdin, line, now));
                self.stdin = None;
            }
        }
    }

    /// Performs what the machines order, until they order nothing.
    fn obey(&mut self, listener: &mut dyn Listener) {
        let now = self.clock.now();
        for index in 0..self.watches.len() {
            while let Some(watch) = self.watches.get_mut(index) {
                watch.machine.handle_time(now);
                let is_moved = watch.work.turn(&mut watch.machine, now, listener);
                let order = watch.machine.next_order();
                if watch.machine.take_changed() {
                    self.changed.get_or_insert_with(Instant::now);
                }
                match order {
                    Some(order) => {
                        // What is begun must be known to the next guard before it is begun.
                        if matches!(order, crate::machine::Order::Act(_)) {
                            self.save(true, listener);
                        }
                        if let Some(watch) = self.watches.get_mut(index) {
                            watch.work.obey(order, &mut watch.machine, &self.store, now, listener);
                        }
                    }
                    None if !is_moved => break,
                    None => {}
                }
            }
        }
    }

    fn save(&mut self, is_sure: bool, listener: &mut dyn Listener) {
        for watch in &self.watches {
            let of_rule = OfRule { unit: watch.rule.unit.clone(), saved: watch.machine.saved().clone() };
            self.state.rules.insert(watch.rule.name.clone(), of_rule);
        }
        if let Some(place) = self.follower.as_ref().and_then(Follower::place) {
            self.state.journal = Some(place.clone());
        }
        for (path, tail) in &self.tails {
            if let Some(position) = tail.position() {
                self.state.files.insert(path.clone(), position);
            }
        }
        self.changed = None;
        self.saved = Instant::now();
        let error = self.store.write(&self.state, is_sure).err();
        if let Some(error) = &error
            && self.save_error.as_ref() != Some(error)
        {
            listener.tell(&Note::warning(error.clone()));
        }
        if error.is_some() {
            self.changed = Some(self.saved);
        }
        self.save_error = error;
    }

    /// Whether the place in the journal has moved since it was saved.
    fn is_ahead(&self) -> bool {
        let place = self.follower.as_ref().and_then(Follower::place);
        place.is_some() && place != self.state.journal.as_ref()
    }

    /// Waits for the next thing to happen.
    fn sleep(&mut self, listener: &dyn Listener, stops: &dyn Stops) -> Result<(), String> {
        if self.changed.is_none() && self.is_ahead() {
            let idle = SAVE_IDLE.checked_sub(SAVE_PAUSE).unwrap_or_default();
            self.changed = (self.saved.elapsed() >= idle).then(Instant::now);
        }
        let timeout = self.timeout(listener).map(|wait| Timespec::try_from(wait).unwrap_or_default());
        let (stdin, stops) = (rustix::stdio::stdin(), stops.as_fd());
        let mut fds = vec![PollFd::new(&stops, PollFlags::IN)];
        let is_stdin = self.stdin.is_some();
        if is_stdin {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        if let Some(follower) = &self.follower {
            follower.add(&mut fds);
        }
        for tail in self.tails.values() {
            tail.add(&mut fds);
        }
        for watch in &self.watches {
            watch.work.add(&mut fds);
        }
        let blocked = listener.blocked_fd();
        if let Some(blocked) = &blocked {
            fds.push(PollFd::new(blocked, PollFlags::OUT));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(format!("cannot wait for anything: {}", reason(&errno.into()))),
        }
        let is_ready = is_stdin && fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        if is_ready {
            self.read_stdin();
        }
        Ok(())
    }

    /// How long nothing needs us.
    fn timeout(&self, listener: &dyn Listener) -> Option<Duration> {
        if self.is_hurried {
            return Some(Duration::ZERO);
        }
        let (now, instant) = (self.clock.now(), Instant::now());
        let left = |from: Instant, length: Duration| (from + length).saturating_duration_since(instant);
        let mut waits: Vec<Duration> = Vec::new();
        for watch in &self.watches {
            waits.extend(watch.machine.wait(now));
            waits.extend(watch.work.wait(instant));
        }
        waits.extend(self.follower.as_ref().and_then(|follower| follower.wait(instant)));
        waits.extend(self.tails.values().map(|tail| tail.wait(instant)));
        waits.extend(listener.wait());
        waits.extend(self.notify.interval().map(|interval| left(self.fed, interval)));
        let pause = if self.save_error.is_some() { SAVE_IDLE } else { SAVE_PAUSE };
        waits.extend(self.changed.map(|_| left(self.saved, pause)));
        waits.extend(self.is_ahead().then(|| left(self.saved, SAVE_IDLE)));
        // Rounded up: who wakes a moment too early would turn without end until it is time.
        waits.into_iter().min().map(|wait| wait + Duration::from_millis(u64::from(!wait.is_zero())))
    }
}

/// A line of text is an entry of each unit whose rules read from there.
fn hear(watches: &mut [Watch], source: &Source, line: &[u8], now: Moment) {
    let mut entry = Entry { realtime: now.wall, monotonic: now.monotonic, ..Entry::default() };
    for watch in watches.iter_mut().filter(|watch| watch.rule.source == *source) {
        entry.fields.clear();
        entry.fields.push(("MESSAGE".to_owned(), line.to_vec()));
        entry.fields.push(("_SYSTEMD_UNIT".to_owned(), watch.rule.unit.clone().into_bytes()));
        watch.machine.handle_entry(&entry, now);
    }
}
