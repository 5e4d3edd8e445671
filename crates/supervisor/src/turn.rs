//! The loop: hears what happened, tells the policy, carries out what it orders, and sleeps until something is due.
//!
//! One turn: the ready fds (a bounded batch, each read within bounds), the shell's own deadlines, every fact into the
//! policy and every order out of it until both are quiet, then the policy's deadline. I/O comes before deadlines, so
//! that a turn that comes late does not judge anybody by what it has not read yet. Nothing here blocks but the wait at
//! its beginning, and without a deadline that waits for ever.

use std::fs::File;
use std::time::Duration;

use steadfast_policy::command::Command;
use steadfast_policy::event::Event as Fact;
use steadfast_policy::policy::Policy;
use steadfast_proto::control::{Answer, Request};

use crate::asking;
use crate::containment;
use crate::control::followers::Followers;
use crate::control::server::Server;
use crate::control::verbs::{self, Reaction};
use crate::control::waits::Waits;
use crate::deaths;
use crate::events::event::Event;
use crate::events::kind::Kind;
use crate::front::reports::Reports;
use crate::front::{adopt, hear, process, succession};
use crate::leaving;
use crate::leftovers;
use crate::lookout;
use crate::manager;
use crate::memory;
use crate::nested;
use crate::nurse;
use crate::orders;
use crate::poller::{Interest, Token};
use crate::readiness;
use crate::recording::Recording;
use crate::relay;
use crate::reload::{Source, reload};
use crate::senders::{self, Asked};
use crate::shell::Shell;
use crate::signals::Signals;
use crate::sockets;
use crate::speech;
use crate::timers::Timer;
use crate::upgrade::begin::{self, Hindrance, Program};
use crate::upgrade::leave::{Household, leave};
use crate::upgrade::rescue::Heritage;
use crate::upgrade::state::Upgrade;
use crate::upgrade::trial;
use crate::voice::{Speaker, Stream};
use crate::zygote;

/// Facts that are told in one turn; the rest waits for the next.
const FACTS_MAX: usize = 4096;
/// Deadlines of the shell that are met in one turn.
const TIMERS_MAX: usize = 256;
/// Signals that are read in one turn.
const SIGNALS_MAX: usize = 32;

/// The whole supervisor.
pub(crate) struct Supervisor {
    /// The state of the world.
    pub(crate) shell: Shell,
    /// What decides.
    pub(crate) policy: Policy,
    /// The control socket.
    pub(crate) server: Server,
    /// Those who wait for a reload.
    pub(crate) waits: Waits,
    /// Those who wait for the front's word before they are told the status.
    pub(crate) reports: Reports,
    /// Those who follow events.
    pub(crate) followers: Followers,
    /// Where the configuration comes from.
    pub(crate) source: Source,
    /// Signals to us.
    pub(crate) signals: Signals,
    /// What the policy was told.
    pub(crate) recording: Recording,
    /// The next turn comes at once.
    pub(crate) is_hurried: bool,
    /// The log is waited for.
    pub(crate) is_log_heard: bool,
    /// Of the runtime directory: it is ours as long as this is open.
    pub(crate) lock: File,
    /// What the image before us has left, until our first turn is over.
    pub(crate) heritage: Option<Heritage>,
}

/// What it is made of.
pub(crate) struct Parts {
    /// The state of the world.
    pub(crate) shell: Shell,
    /// What decides.
    pub(crate) policy: Policy,
    /// The control socket.
    pub(crate) server: Server,
    /// Where the configuration comes from.
    pub(crate) source: Source,
    /// Signals to us.
    pub(crate) signals: Signals,
    /// What the policy was told.
    pub(crate) recording: Recording,
    /// Of the runtime directory.
    pub(crate) lock: File,
    /// What the image before us has left.
    pub(crate) heritage: Option<Heritage>,
}

impl Supervisor {
    /// One that has not turned yet.
    pub(crate) fn new(parts: Parts) -> Supervisor {
        let Parts { shell, policy, server, source, signals, recording, lock, heritage } = parts;
        Supervisor {
            shell,
            policy,
            server,
            waits: Waits::default(),
            reports: Reports::default(),
            followers: Followers::default(),
            source,
            signals,
            recording,
            is_hurried: false,
            is_log_heard: false,
            lock,
            heritage,
        }
    }

    /// Turns until everything has stopped. The exit code.
    pub(crate) fn run(mut self) -> u8 {
        let mut ready = Vec::new();
        manager::begin(&mut self.shell);
        // What was configured is told before anything is waited for.
        self.is_hurried = true;
        while !self.shell.is_finished {
            let timeout = self.timeout();
            if let Err(error) = self.shell.poller.wait(timeout, &mut ready) {
                let error = std::io::Error::from(error);
                self.shell.warn(format!("cannot wait for events: {error}"));
            }
            self.turn(&ready);
            self.settled();
        }
        self.end()
    }

    fn timeout(&mut self) -> Option<Duration> {
        if std::mem::take(&mut self.is_hurried) || !self.shell.facts.is_empty() {
            return Some(Duration::ZERO);
        }
        let log = self.shell.log.next_deadline().map(steadfast_policy::time::Instant::from_nanos);
        let next = [self.policy.next_deadline(), self.shell.timers.next(), log].into_iter().flatten().min()?;
        Some(next.since(self.shell.clock.now()))
    }

    fn turn(&mut self, ready: &[Token]) {
        self.shell.now = self.shell.clock.now();
        for token in ready {
            self.hear(*token);
        }
        if !self.shell.zygotes.are_forking() && std::mem::take(&mut self.shell.are_strangers_waiting) {
            self.is_hurried |= deaths::strangers(&mut self.shell);
        }
        self.meet_deadlines();
        self.settle();
        let now = self.shell.clock.now();
        if self.policy.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.shell.facts.push_back(Fact::Woken);
            self.settle();
        }
        self.waits.tell(&mut self.shell, &mut self.server);
        self.reports.tell(&mut self.shell, &self.policy, &mut self.server, self.source.version());
        self.is_hurried |= self.followers.tell(&mut self.shell, &mut self.server);
        manager::tell(&mut self.shell, &self.policy);
        self.upgrade(false);
        self.write();
    }

    /// The next step of an upgrade, or the end of its time.
    fn upgrade(&mut self, is_overdue: bool) {
        if self.shell.upgrade == Upgrade::No {
            return;
        }
        let Supervisor { shell, policy, source, server, lock, .. } = self;
        let estate = |shell: &Shell| {
            let household = Household { shell, policy, source, server, lock };
            let estate = leave(&household).map_err(Hindrance::Passing)?;
            source.is_unchanged(&shell.pools).map_err(Hindrance::Lasting)?;
            Ok(estate)
        };
        let program = Program { path: &source.program, directory: &source.directory, variables: &source.variables };
        if is_overdue {
            begin::overdue(shell, estate);
        } else {
            begin::step(shell, &estate, &program);
        }
    }

    /// The first turn is over: the image before us is not needed any more.
    fn settled(&mut self) {
        let Some(heritage) = self.heritage.take() else { return };
        heritage.settle();
        match heritage.returned {
            Some(why) => begin::told(&mut self.shell, &format!("{}: {why}", self.source.program.display())),
            None => {
                let event = Event::new(Kind::SupervisorUpgraded).pid(self.shell.host.pid);
                let (before, now) = (heritage.version, self.source.version());
                self.shell.emit(event.message(format!("version {now} has taken over from {before}")));
                succession::begin(&mut self.shell);
            }
        }
        self.is_hurried = true;
    }

    fn hear(&mut self, token: Token) {
        let shell = &mut self.shell;
        match token {
            Token::Signals => self.hear_signals(),
            Token::Directories => sockets::directories_changed(shell),
            Token::Listener(socket) => {
                sockets::ended(shell, socket);
                lookout::came(shell, socket);
            }
            Token::Link(speaker) => {
                speech::readable(shell, speaker);
                if let Speaker::Zygote(zygote) = speaker {
                    zygote::flush(shell, zygote);
                }
            }
            Token::Stdout(speaker) => relay::readable(shell, speaker, Stream::Stdout),
            Token::Stderr(speaker) => relay::readable(shell, speaker, Stream::Stderr),
            Token::Front(life) => hear::readable(shell, life),
            Token::FrontStdout(life) => process::output(shell, life, Stream::Stdout),
            Token::FrontStderr(life) => process::output(shell, life, Stream::Stderr),
            Token::FrontExit(life) => process::died(shell, life),
            Token::Exit(Speaker::Worker(worker)) => deaths::died(shell, worker),
            Token::Exit(Speaker::Zygote(zygote)) => deaths::zygote_died(shell, zygote),
            Token::Asker(worker) => asking::died(shell, worker),
            Token::Nest(worker) => nurse::died(shell, worker),
            Token::Trial => trial::died(shell),
            Token::Control => self.server.accept(shell),
            Token::Connection(connection) => {
                if let Some(request) = self.server.ready(shell, connection) {
                    self.carry_out(connection, request);
                }
            }
            Token::Log => {
                let at = shell.moment();
                shell.log.drain(at);
                // Also when nothing waits now: it can be written for ever, or has ended, and would wake us without end.
                if let Some(fd) = shell.log.fd() {
                    shell.poller.remove(fd);
                }
                self.is_log_heard = false;
            }
        }
    }

    fn hear_signals(&mut self) {
        for _ in 0..SIGNALS_MAX {
            let Ok(Some(signal)) = self.signals.read() else {
                return;
            };
            match senders::received(&mut self.shell, signal) {
                Asked::Nothing => {}
                Asked::MoreDead => self.is_hurried = true,
                Asked::Reload => {
                    // Refused or not, it has been said in the log.
                    let _ = reload(&mut self.shell, &mut self.source, None);
                }
            }
        }
    }

    fn carry_out(&mut self, connection: u64, request: Request) {
        // The answer is to tell what has been asked for before.
        self.settle();
        let (shell, server) = (&mut self.shell, &mut self.server);
        match verbs::carry_out(shell, &self.policy, &mut self.source, request) {
            Reaction::Answer(answer) => server.answer(shell, connection, &answer),
            Reaction::Answers(answers) => answer_all(shell, server, connection, &answers),
            Reaction::Follow(answers, pool) => {
                answer_all(shell, server, connection, &answers);
                self.followers.add(shell, connection, pool);
            }
            Reaction::Report(number, pool) => self.reports.add(shell, connection, number, pool),
            Reaction::Wait(pools, timeout) => self.waits.add(shell, connection, &pools, timeout),
        }
    }

    fn meet_deadlines(&mut self) {
        for _ in 0..TIMERS_MAX {
            let now = self.shell.clock.now();
            let Some(timer) = self.shell.timers.pop(now) else {
                return;
            };
            let shell = &mut self.shell;
            match timer {
                Timer::Probe(worker) => readiness::look(shell, worker),
                Timer::Nest(worker) => nurse::look(shell, worker),
                Timer::Nested(pool) => nested::look(shell, pool),
                Timer::Drain(worker) => leaving::look(shell, worker),
                Timer::Output(worker) => relay::rested(shell, worker),
                Timer::ZygoteLeave(id) => zygote::overstays(shell, id),
                Timer::Memory(pool) => memory::look(shell, pool),
                Timer::Connection(connection) => self.server.overdue(shell, connection),
                Timer::Wait(connection) => self.waits.overdue(shell, &mut self.server, connection),
                Timer::Control => self.server.accept_again(shell),
                Timer::Listener => sockets::take_back_removed(shell),
                Timer::Adopt(worker) => adopt::look(shell, worker),
                Timer::FrontStart => process::want(shell),
                Timer::FrontAnswer => process::overdue(shell),
                Timer::FrontOutput => process::rested(shell),
                Timer::FrontLast => process::last_overdue(shell),
                Timer::Report(connection) => self.reports.overdue(connection),
                Timer::Watchdog => manager::alive(shell),
                Timer::Patience => manager::ask_for_patience(shell),
                // The end of the turn tries.
                Timer::Unsaid => {}
                Timer::Groups => containment::sweep(shell),
                Timer::Upgrade => self.upgrade(true),
                Timer::FrontOld => succession::overdue(shell),
            }
        }
        self.is_hurried = true;
    }

    /// Tells the policy every fact and carries out every order, until nothing follows any more.
    fn settle(&mut self) {
        let mut orders: Vec<Command> = Vec::new();
        for _ in 0..FACTS_MAX {
            let Some(fact) = self.shell.facts.pop_front() else {
                break;
            };
            let now = self.shell.clock.now();
            self.shell.now = now;
            if let Err(error) = self.recording.note(now, &fact) {
                self.shell.warn(format!("the recording has ended: {error}"));
            }
            self.policy.handle(now, fact, &mut orders);
            for order in orders.drain(..) {
                orders::carry_out(&mut self.shell, order);
            }
        }
        if self.shell.facts.is_empty() {
            // Whoever was not reported by now never will be, but for those of whom the front is asked.
            let now = self.shell.now;
            self.shell.corpses.retain(|_, corpse| corpse.kept_until.is_some_and(|until| until > now));
        }
    }

    fn write(&mut self) {
        if let Err(error) = self.recording.flush() {
            self.shell.warn(format!("the recording has ended: {error}"));
        }
        let at = self.shell.moment();
        self.shell.log.flush(at);
        if !self.is_log_heard
            && let Some(fd) = self.shell.log.blocked_fd()
        {
            self.is_log_heard = self.shell.poller.add(fd, Token::Log, Interest::Write).is_ok();
        }
    }

    fn end(mut self) -> u8 {
        leftovers::end_all();
        self.shell.cgroups.end();
        for socket in self.shell.pools.sockets() {
            manager::let_go(&self.shell, &socket);
        }
        // What cannot be removed is removed at the next start.
        let _ = self.shell.front.rooms.clear();
        self.shell.halls.clear();
        // The last word comes last.
        let at = self.shell.moment();
        self.shell.log.close(at);
        self.shell.emit(Event::new(Kind::SupervisorStopped));
        self.waits.tell(&mut self.shell, &mut self.server);
        self.followers.tell(&mut self.shell, &mut self.server);
        self.server.unlink();
        let at = self.shell.moment();
        self.shell.log.close(at);
        self.shell.exit
    }
}

fn answer_all(shell: &mut Shell, server: &mut Server, connection: u64, answers: &[Answer]) {
    for answer in answers {
        server.answer(shell, connection, answer);
    }
}
