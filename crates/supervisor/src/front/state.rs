//! What the shell knows of the front: the life that runs now, what it was asked, and how it may be started again.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use steadfast_policy::ids::WorkerId;
use steadfast_policy::time::Instant;

use crate::children::Pid;
use crate::front::channel::Channel;
use crate::front::diag::Diag;
use crate::front::private::Rooms;
use crate::front::rate::Rate;
use crate::spawn::Credentials;
use crate::voice::Pipe;

/// A question is answered within so long, or the front hangs.
pub(crate) const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Deaths within so long are one row.
const ROW: Duration = Duration::from_secs(10);
/// So many deaths of a row are followed by a start at once.
const FREE: usize = 2;
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// More deaths than these are not remembered.
const DEATHS_MAX: usize = 16;

/// Something that the front answers at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It was started; answered by `ready`.
    Start,
    /// `worker-admit`, answered by `admitted`.
    Admit(WorkerId),
    /// `worker-gone`, answered by `blame`.
    Gone(WorkerId),
    /// `report`, answered by `reported`.
    Report(u64),
}

/// The front's process.
pub(crate) struct Life {
    /// Counts up from 1; late words about an earlier life are known by it.
    pub(crate) number: u64,
    /// Its process; its own group's leader.
    pub(crate) pid: Pid,
    /// By which it is signalled and reaped.
    pub(crate) pidfd: OwnedFd,
    /// Where it is spoken with.
    pub(crate) channel: Channel,
    /// What it says there.
    pub(crate) stdout: Pipe,
    /// What it says there.
    pub(crate) stderr: Pipe,
    /// When it was spawned.
    pub(crate) started: Instant,
    /// The channel is heard for room to write, too.
    pub(crate) wants_room: bool,
    /// What it has not answered yet, oldest first.
    pub(crate) asked: VecDeque<(Asked, Instant)>,
    /// Why we killed it, for people.
    pub(crate) why: Option<String>,
    /// It was told to leave.
    pub(crate) is_leaving: bool,
    /// How much it may note.
    pub(crate) rate: Rate,
}

/// The front over all its lives.
pub(crate) struct Front {
    /// The one that runs; `None` when no pool needs one, or while it is away.
    pub(crate) life: Option<Life>,
    /// The one before it, which finishes what it has in hand.
    pub(crate) old: Option<Life>,
    /// The number of the last life.
    pub(crate) lives: u64,
    /// How often it was started again.
    pub(crate) restarts: u64,
    /// When it died last, newest last.
    deaths: VecDeque<Instant>,
    /// Who it is; `None` is who we are.
    pub(crate) credentials: Option<Credentials>,
    /// Given to each life, so that a request has the same key in all of them.
    pub(crate) secret: String,
    /// Our own program, as it was when we started.
    pub(crate) program: Option<OwnedFd>,
    /// Where the workers' private sockets are.
    pub(crate) rooms: Rooms,
    /// How the kernel is asked for accept queues.
    pub(crate) diag: Diag,
    /// The last number of a `report`.
    pub(crate) reports: u64,
    /// The last `report` that was answered.
    pub(crate) reported: u64,
    /// Everything else has ended: the supervisor leaves as soon as the front has.
    pub(crate) is_last: bool,
}

impl Front {
    /// None runs yet. `runtime_dir` is the supervisor's.
    pub(crate) fn new(runtime_dir: PathBuf) -> Front {
        Front {
            life: None,
            old: None,
            lives: 0,
            restarts: 0,
            deaths: VecDeque::new(),
            credentials: None,
            secret: secret(),
            program: None,
            rooms: Rooms::new(runtime_dir),
            diag: Diag::new(),
            reports: 0,
            reported: 0,
            is_last: false,
        }
    }

    /// The life with this number, if it runs.
    pub(crate) fn life(&mut self, number: u64) -> Option<&mut Life> {
        self.life.iter_mut().chain(&mut self.old).find(|life| life.number == number)
    }

    /// Whether a life with this number runs.
    pub(crate) fn runs(&self, number: u64) -> bool {
        self.life.iter().chain(&self.old).any(|life| life.number == number)
    }

    /// The life whose process this is.
    pub(crate) fn by_pid(&self, pid: Pid) -> Option<u64> {
        self.life.iter().chain(&self.old).find(|life| life.pid == pid).map(|life| life.number)
    }

    /// The number of the life to which workers can be given; 0 when there is none.
    pub(crate) fn serving(&self) -> u64 {
        self.life.as_ref().map_or(0, |life| life.number)
    }

    /// Whether the running one was told to leave.
    pub(crate) fn is_leaving(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.is_leaving)
    }

    /// Notes a death; the wait until the next start.
    pub(crate) fn backoff(&mut self, now: Instant) -> Duration {
        while self.deaths.len() >= DEATHS_MAX || self.deaths.front().is_some_and(|at| now.since(*at) >= ROW) {
            self.deaths.pop_front();
        }
        self.deaths.push_back(now);
        match self.deaths.len().checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(times) => FIRST.saturating_mul(1 << times.min(16)).min(LONGEST),
        }
    }
}

/// Nobody outside is to know it; without random numbers each front makes its own.
fn secret() -> String {
    let mut bytes = [0_u8; 16];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(16) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Ok(_) | Err(_) => String::new(),
    }
}

impl Life {
    /// Notes a question.
    pub(crate) fn ask(&mut self, now: Instant, asked: Asked) {
        self.asked.push_back((asked, now));
    }

    /// Notes an answer; false when nothing like it was asked.
    pub(crate) fn answered(&mut self, asked: Asked) -> bool {
        match self.asked.iter().position(|(open, _)| *open == asked) {
            Some(at) => {
                self.asked.remove(at);
                true
            }
            None => false,
        }
    }

    /// When the oldest question is overdue.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.asked.front().map(|(_, at)| at.after(ANSWERS_WITHIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_once_until_its_third_death_in_a_row() {
        let mut front = Front::new(PathBuf::from("/run/x"));
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        let waits: Vec<u128> = (0..10).map(|death| front.backoff(at(death * 10)).as_millis()).collect();
        assert_eq!(waits, [0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(front.backoff(at(60_000)), Duration::ZERO, "the row is over");
    }

    #[test]
    fn many_deaths_wait_no_longer_than_the_longest() {
        let mut front = Front::new(PathBuf::from("/run/x"));
        for _ in 0..1000 {
            assert!(front.backoff(Instant::ZERO) <= LONGEST);
        }
        assert_eq!(front.backoff(Instant::ZERO), LONGEST);
        assert!(front.deaths.len() <= DEATHS_MAX);
    }
}
