//! A program that supervises its own children, and decides itself what happens when they cycle rapidly.
//!
//! ```sh
//! cargo run -p steadfast-policy --example embed -- good     # two workers; ends after they have served 20 requests
//! cargo run -p steadfast-policy --example embed -- broken   # workers that die at once: after a few the breaker opens
//! ```
//!
//! Whoever embeds the policy writes what stands here below `main`: a driver of some hundred lines, which carries out
//! orders and tells facts. The decisions (how fast to start again, when to give up, whom to replace) are the library's.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command as Program, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant as Clock};

use rustix::process::{Pid, Signal, kill_process};
use steadfast_policy::class::Exit;
use steadfast_policy::command::Command;
use steadfast_policy::event::{Event, Files, SpawnFault};
use steadfast_policy::figures::{BreakerFigures, Figures};
use steadfast_policy::ids::{PoolId, WorkerId};
use steadfast_policy::note::Note;
use steadfast_policy::policy::Policy;
use steadfast_policy::time::Instant;

const POOL: PoolId = PoolId(1);
/// What the demonstration is content with.
const ENOUGH: u64 = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["worker", kind] => work(kind),
        [kind @ ("good" | "broken")] => Supervisor::new(kind).run(),
        _ => {
            let _ = writeln!(std::io::stderr(), "usage: embed good|broken");
            ExitCode::from(2)
        }
    }
}

/// **The decision that no other manager leaves to the program**: what to do when the workers cycle rapidly. By now the
/// policy has slowed starts down and opened the breaker: it starts one trial worker now and then, and nothing spins. A
/// program may leave it at that (it recovers by itself), send a page to somebody, serve something else itself, load its
/// last good release, or stop.
fn decide(note: &Note) -> Decision {
    match note {
        Note::BreakerOpened { reason, .. } => Decision::GiveUp(format!("the workers cycle rapidly: {reason:?}")),
        Note::WorkerExited { place, class, wait, .. } => {
            Decision::Say(format!("worker {} has ended ({}); the next start waits {wait:?}", place.slot, class.word()))
        }
        Note::PoolServing { .. } => Decision::Say("all workers serve".to_owned()),
        _ => Decision::Nothing,
    }
}

enum Decision {
    Nothing,
    Say(String),
    GiveUp(String),
}

/// What the threads that watch children tell the loop.
enum Fact {
    Ready(WorkerId),
    Served(WorkerId),
    Exited(WorkerId, ExitStatus),
}

struct Supervisor {
    kind: String,
    policy: Policy,
    /// The policy's clock counts from here.
    start: Clock,
    pids: HashMap<WorkerId, Pid>,
    facts: Receiver<Fact>,
    teller: Sender<Fact>,
    served: u64,
    code: Option<u8>,
}

impl Supervisor {
    fn new(kind: &str) -> Supervisor {
        let (teller, facts) = channel();
        let seed = u64::from(std::process::id());
        Supervisor {
            kind: kind.to_owned(),
            policy: Policy::new(seed),
            start: Clock::now(),
            pids: HashMap::new(),
            facts,
            teller,
            served: 0,
            code: None,
        }
    }

    fn now(&self) -> Instant {
        Instant::ZERO.after(self.start.elapsed())
    }

    /// The loop: wait for a fact or the policy's next deadline, tell it, carry out what it orders.
    fn run(mut self) -> ExitCode {
        let breaker = BreakerFigures { failures: 5, within: Duration::from_secs(30), ..Figures::default().breaker };
        self.tell(Event::PoolAdded { pool: POOL, figures: Figures { min: 2, max: 2, breaker, ..Figures::default() } });
        loop {
            if let Some(code) = self.code.filter(|_| self.pids.is_empty()) {
                return ExitCode::from(code);
            }
            let wait = self.policy.next_deadline().map(|due| due.since(self.now()));
            let fact = match wait {
                Some(wait) => self.facts.recv_timeout(wait),
                None => self.facts.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let event = match fact {
                Ok(Fact::Ready(worker)) => Event::WorkerReady { worker },
                Ok(Fact::Served(worker)) => {
                    self.served += 1;
                    Event::WorkerServed { worker, requests: 1 }
                }
                Ok(Fact::Exited(worker, status)) => {
                    self.pids.remove(&worker);
                    Event::WorkerExited { worker, exit: exit(status), oom: false }
                }
                Err(_) => Event::Woken,
            };
            self.tell(event);
            if self.served >= ENOUGH && self.code.is_none() {
                say(&format!("{} requests were served: that will do", self.served));
                self.finish(0);
            }
        }
    }

    fn finish(&mut self, code: u8) {
        self.code = Some(code);
        self.tell(Event::ShutdownRequested);
    }

    /// Tells a fact and carries out what follows, in the order given; each answer is a fact again.
    fn tell(&mut self, event: Event) {
        let mut orders = Vec::new();
        self.policy.handle(self.now(), event, &mut orders);
        for order in orders {
            match order {
                Command::StartWorker { worker, .. } => self.start(worker),
                // These workers finish by themselves what they have in hand when they are sent SIGTERM.
                Command::DrainWorker { worker } => self.tell(Event::WorkerDrained { worker }),
                Command::TerminateWorker { worker } => self.signal(worker, Signal::TERM),
                Command::KillWorker { worker } => self.signal(worker, Signal::KILL),
                Command::Report(note) => match decide(&note) {
                    Decision::Nothing => {}
                    Decision::Say(text) => say(&text),
                    Decision::GiveUp(why) => {
                        say(&format!("{why}. Giving up in good order"));
                        self.finish(69);
                    }
                },
                // A program with a front, reloads or zygotes carries these out as well.
                _ => {}
            }
        }
    }

    fn start(&mut self, worker: WorkerId) {
        let myself = std::env::current_exe().unwrap_or_default();
        let child = Program::new(myself).args(["worker", &self.kind]).stdout(Stdio::piped()).spawn();
        match child {
            Ok(child) => {
                let pid = Pid::from_child(&child);
                self.pids.insert(worker, pid);
                let teller = self.teller.clone();
                std::thread::spawn(move || watch(worker, child, &teller));
                self.tell(Event::WorkerSpawned { worker, files: Files::Noted });
            }
            Err(error) => {
                say(&format!("cannot start a worker: {error}"));
                self.tell(Event::SpawnFailed { worker, fault: SpawnFault::Host, files: Files::Noted });
            }
        }
    }

    fn signal(&self, worker: WorkerId, signal: Signal) {
        if let Some(pid) = self.pids.get(&worker) {
            // It may have ended in the meantime; that will be told.
            let _ = kill_process(*pid, signal);
        }
    }
}

/// A child's words, then its end. It is reaped here: no signal can reach a stranger, for the loop forgets the pid when it
/// hears of that, and the kernel does not give a number to somebody else so soon. (steadfast itself uses pidfds.)
fn watch(worker: WorkerId, mut child: Child, teller: &Sender<Fact>) {
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let fact = if line == "ready" { Fact::Ready(worker) } else { Fact::Served(worker) };
            let _ = teller.send(fact);
        }
    }
    if let Ok(status) = child.wait() {
        let _ = teller.send(Fact::Exited(worker, status));
    }
}

fn exit(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code as u8),
        (None, signal) => Exit::Signal(signal.unwrap_or(0) as u8),
    }
}

/// A child: says that it is ready, then each time that it has served somebody. A broken one cannot begin.
fn work(kind: &str) -> ExitCode {
    let mut stdout = std::io::stdout();
    if kind == "broken" {
        return ExitCode::from(3);
    }
    let said = writeln!(stdout, "ready").and_then(|()| {
        loop {
            std::thread::sleep(Duration::from_millis(50));
            writeln!(stdout, "served")?;
        }
    });
    match said {
        Ok(()) => ExitCode::SUCCESS,
        // The supervisor has gone.
        Err(_) => ExitCode::FAILURE,
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "embed: {text}");
}
