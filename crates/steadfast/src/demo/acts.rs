//! What the buttons do: a worker of the demo hurts itself, or tells the supervisor to do something.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal};
use steadfast_proto::control::{BreakerAction, QuarantineAction, Request};
use steadfast_proto::exit::ExitCode;
use steadfast_proto::status::SlotState;

use crate::demo::buttons::Act;
use crate::demo::home::{CONTROL, POOL};
use crate::demo::look;
use crate::demo::release::{Kind, Releases};
use crate::failure::{Failure, reason};
use crate::output;

/// The exit code that the configuration has a name for.
const CODE: i32 = 42;
/// Longer than `slow-request`, shorter than `request-timeout`.
const SLOW: Duration = Duration::from_secs(2);
/// More than `max-memory`.
const LEAK: usize = 96 * 1024 * 1024;
/// A page: each must be touched, or there is no memory behind it.
const PAGE: usize = 4096;

/// What a worker has taken and never gives back.
#[derive(Debug, Default)]
pub(crate) struct Leak(Vec<u8>);

/// Carries it out, as far as that comes to an end. The words are for the visitor.
///
/// # Errors
/// The supervisor does not answer, or refuses.
pub(crate) fn carry_out(act: Act, home: &Path, leak: &mut Leak) -> Result<String, Failure> {
    let control = home.join(CONTROL);
    let pool = || POOL.to_owned();
    match act {
        Act::Crash => crash("it was asked to crash"),
        #[expect(clippy::panic, reason = "what the button promises")]
        Act::Panic => panic!("on purpose"),
        Act::Hang => hang(),
        Act::Slow => {
            thread::sleep(SLOW);
            Ok("Slow, but well. Look at the event request-slow.".to_owned())
        }
        Act::Exit => {
            output::message("the demo: it was asked to leave in the middle of a request\n");
            std::process::exit(CODE)
        }
        Act::Leak => Ok(leak.grow()),
        Act::KillWorker => kill(&control),
        Act::Deploy(kind) => deploy(kind, home, &control),
        Act::ClearQuarantine => {
            look::order(&control, &Request::Quarantine { pool: pool(), action: QuarantineAction::Clear })?;
            Ok("The quarantine is empty.".to_owned())
        }
        Act::ResetBreaker => {
            look::order(&control, &Request::Breaker { pool: pool(), action: BreakerAction::Reset })?;
            Ok("The breaker is closed.".to_owned())
        }
    }
}

/// Dies of SIGSEGV.
pub(crate) fn crash(why: &str) -> ! {
    output::message(&format!("the demo: {why}\n"));
    // The first one only ends Rust's own handler, which looks for overflows of the stack.
    for _ in 0..2 {
        let _ = kill_process(getpid(), Signal::SEGV);
    }
    std::process::abort()
}

fn hang() -> ! {
    loop {
        thread::park();
    }
}

impl Leak {
    fn grow(&mut self) -> String {
        if self.0.is_empty() {
            self.0 = vec![0; LEAK];
            self.0.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        }
        format!(
            "Worker {} holds {} MiB. It is replaced within some 10 s.",
            std::process::id(),
            self.0.len() / 1024 / 1024
        )
    }
}

fn deploy(kind: Kind, home: &Path, control: &Path) -> Result<String, Failure> {
    let release = Releases::of(home)
        .deploy(kind)
        .map_err(|error| Failure::new(ExitCode::Failed, format!("cannot make a release: {}", reason(&error))))?;
    look::order(control, &Request::Reload { pool: Some(POOL.to_owned()), wait: false, timeout_ms: None })?;
    Ok(format!("Release {} ({}) is deployed, and the pool is reloaded.", release.number, kind.word()))
}

/// Another worker, an idle one if there is any.
fn kill(control: &Path) -> Result<String, Failure> {
    let nobody = || Failure::new(ExitCode::Failed, "There is no other worker just now. Press again.");
    let status = look::status(control)?;
    let slots = status.pools.iter().filter(|pool| pool.name == POOL).flat_map(|pool| &pool.slots);
    let mut others: Vec<_> = slots.filter(|slot| slot.pid.is_some_and(|pid| pid != std::process::id())).collect();
    others.sort_by_key(|slot| slot.state != SlotState::Idle);
    let pid = others.first().and_then(|slot| slot.pid).ok_or_else(nobody)?;
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(nobody)?;
    let process = pidfd_open(raw, PidfdFlags::empty()).map_err(|_| nobody())?;
    // It may have ended since, and its pid may be a stranger's: the fd is asked, and what it is known by stays the same.
    if parent(pid) != Some(status.pid) {
        return Err(nobody());
    }
    pidfd_send_signal(&process, Signal::KILL).map_err(|_| nobody())?;
    Ok(format!("Worker {pid} was sent SIGKILL."))
}

fn parent(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}
