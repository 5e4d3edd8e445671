//! `check --boot`: starts one worker of each pool on private sockets and sees whether it becomes ready; touches nothing
//! that runs.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use steadfast_config::load::Loaded;
use steadfast_config::types::{Config, Mode, Pass, Pool, Verify};
use steadfast_policy::ids::GenerationId;
use steadfast_proto::link::{Decoder, FromWorker, Role};

use crate::asking::{self, Place};
use crate::children::{
    Ended, Found, Kill, ended, next_news, raise_nofile, reap, signal, signal_group, take_continuation,
};
use crate::first_fork;
use crate::front::private::bind_loopback;
use crate::front::process;
use crate::launch::{Launch, One};
use crate::listener::{Listener, UnixSpec};
use crate::nest::{self, Brood};
use crate::nested;
use crate::output::{Lines, Scratch, Turn};
use crate::procfs::Procfs;
use crate::readiness::interval;
use crate::signals::signal_name;
use crate::spawn::{Credentials, Spawned};
use crate::sys;

/// A worker that is asked to leave after its trial may take so long.
const LEAVES_WITHIN: Duration = Duration::from_secs(2);
/// Where the kernel refuses to say what a process does, it is taken for ready after so long.
const BLIND: Duration = Duration::from_secs(1);
/// Nothing has run before.
const FIRST: GenerationId = GenerationId(1);

/// What became of one pool's trial worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootOutcome {
    /// The pool's name.
    pub pool: String,
    /// It became ready.
    pub ok: bool,
    /// How, or why not, for people.
    pub message: String,
    /// The last lines of its stderr.
    pub stderr: Vec<String>,
}

/// One trial worker of each pool, one after the other, each within its `ready-timeout`. The configuration must have
/// passed `check_machine`. The error is for people.
pub fn boot_check(loaded: &Loaded, directory: &Path) -> Result<Vec<BootOutcome>, String> {
    let private = Private::make()?;
    let config = &loaded.config;
    Ok(config.pools.values().map(|pool| trial(config, pool, directory, &private)).collect())
}

/// A directory for the sockets; removed with what is in it.
struct Private(PathBuf);

impl Private {
    fn make() -> Result<Private, String> {
        let path = std::env::temp_dir().join(format!("steadfast-check-{}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        Ok(Private(path))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn trial(config: &Config, pool: &Pool, directory: &Path, private: &Private) -> BootOutcome {
    let mut worker = match start(config, pool, directory, private) {
        Ok(worker) => worker,
        Err(message) => {
            return BootOutcome { pool: pool.name.clone(), ok: false, message, stderr: Vec::new() };
        }
    };
    let seen = worker.wait_ready(pool).and_then(|ready| match &pool.verify {
        Some(verify) => worker.verify(pool, verify).map(|()| format!("{ready}, and verified")),
        None => Ok(ready),
    });
    worker.leave();
    let stderr = worker.lines.last().map(str::to_owned).collect();
    let (ok, message) = match seen {
        Ok(message) => (true, message),
        Err(message) => (false, message),
    };
    BootOutcome { pool: pool.name.clone(), ok, message, stderr }
}

fn start(config: &Config, pool: &Pool, directory: &Path, private: &Private) -> Result<Trial, String> {
    let launch = Launch::new(config, pool, directory, rustix::process::geteuid().is_root())?;
    let pins = launch.pin(pool)?;
    let mut listeners = Vec::new();
    for number in 0..launch.sockets() {
        if pool.pass == Pass::ServerStarter {
            listeners.push(bind_loopback().map_err(|error| error.to_string())?);
            continue;
        }
        let path = private.0.join(format!("{}-{number}", pool.name));
        let spec = UnixSpec { path, mode: 0o600, uid: None, gid: None, backlog: 8 };
        listeners.push(Listener::bind_unix(&spec).map_err(|error| error.to_string())?);
    }
    let sockets: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    let (execute, _) = pins.execute(false);
    let one = One {
        execute: &execute,
        sockets: &sockets,
        generation: FIRST,
        nofile: raise_nofile(),
        role: Role::Worker,
        group: None,
    };
    let spawned = launch.start(&pins, &one).map_err(|error| error.message())?;
    let is_manager = pool.pass == Pass::ServerStarter;
    if is_manager {
        // Where that is refused, there are looks.
        let _ = sys::trace_forks(spawned.pid.get());
    }
    Ok(Trial {
        spawned,
        loopback: listeners.first().and_then(Listener::local_address),
        socket: private.0.join(format!("{}-0", pool.name)),
        inodes: listeners.iter().map(Listener::inode).collect(),
        credentials: launch.credentials().cloned(),
        lines: Lines::new(),
        scratch: Scratch::new(),
        decoder: Decoder::new(),
        procfs: Procfs::new(),
        began: Instant::now(),
        speaks: false,
        is_manager,
        is_held: false,
        stderr_open: true,
        ended: None,
    })
}

struct Trial {
    spawned: Spawned,
    /// Where it listens.
    socket: PathBuf,
    /// All that it was given.
    inodes: Vec<u64>,
    /// Where it listens, when that is no path.
    loopback: Option<SocketAddr>,
    /// Who it is; `None` is who we are.
    credentials: Option<Credentials>,
    lines: Lines,
    scratch: Scratch,
    decoder: Decoder<FromWorker>,
    procfs: Procfs,
    began: Instant,
    speaks: bool,
    /// It starts workers of its own, and anew for ever when they die.
    is_manager: bool,
    /// It stands still, so that it starts no more of them.
    is_held: bool,
    stderr_open: bool,
    ended: Option<Ended>,
}

impl Trial {
    fn wait_ready(&mut self, pool: &Pool) -> Result<String, String> {
        let mut looks = 0;
        loop {
            self.hear(if self.is_manager { nest::FIRST } else { interval(looks) });
            looks += 1;
            let took = self.began.elapsed();
            if let Some(end) = &self.ended {
                return Err(match end {
                    Ended::Code(code) => match pool.exit_codes.get(code) {
                        Some(name) => {
                            format!("it exited with code {code} ({name}) before it was ready")
                        }
                        None => format!("it exited with code {code} before it was ready"),
                    },
                    Ended::Signal { number, .. } => {
                        format!("{} ended it before it was ready", signal_name(*number))
                    }
                });
            }
            if let Some(word) = self.words() {
                return word.map(|()| format!("ready by its word after {} ms", took.as_millis()));
            }
            let brood = if self.is_manager { nest::brood(self.spawned.pid) } else { None };
            if brood.is_some_and(|brood| self.hold(brood)) {
                return Ok(format!("ready after {} ms", took.as_millis()));
            }
            match self.procfs.syscall(self.spawned.pid) {
                _ if self.speaks || brood.is_some_and(|brood| brood != Brood::None) => {}
                Some(syscall) if syscall.is_waiting() => {
                    return Ok(format!("ready after {} ms", took.as_millis()));
                }
                None if took >= BLIND => {
                    return Ok("alive after a second (the kernel does not tell more)".to_owned());
                }
                Some(_) | None => {}
            }
            if let Some(told) = self.nested(took) {
                // In queue mode it serves all the same.
                let told = format!("after {}: {told}", crate::words::duration(took));
                return if pool.mode == Mode::Queue {
                    Ok(format!("ready {told}"))
                } else {
                    Err(format!("not ready {told}"))
                };
            }
            if took >= pool.ready_timeout {
                return Err(format!("not ready after {}", crate::words::duration(pool.ready_timeout)));
            }
        }
    }

    /// What is said of a manager that nobody has asked for, once it has had time to start somebody.
    fn nested(&mut self, took: Duration) -> Option<String> {
        let is_asked = self.is_manager || took < nested::AFTER;
        if is_asked { None } else { nested::words(self.spawned.pid, &self.inodes, &mut self.procfs) }
    }

    /// Asks it its verify request, as the supervisor would: by a child.
    fn verify(&mut self, pool: &Pool, verify: &Verify) -> Result<(), String> {
        let own = process::own_program();
        let own = own.as_ref().map(AsFd::as_fd);
        let place = self.loopback.map_or(Place::Unix(&self.socket, std::process::id()), Place::Http);
        let asker = asking::ask(pool, self.credentials.as_ref(), place, own)?;
        let began = Instant::now();
        let mut lines = Lines::new();
        let mut said = Vec::new();
        let patience = verify.timeout + Duration::from_secs(1);
        let mut has_died = None;
        let ended = loop {
            self.hear(interval(0));
            if self.is_manager
                && let Some(brood) = nest::brood(self.spawned.pid)
                && self.hold(brood)
                && let Brood::Dead(gone) = brood
            {
                has_died.get_or_insert(gone);
            }
            let now = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            lines.read(asker.stderr.as_fd(), now, &mut self.scratch, &mut said);
            if let Ok(Some(ended)) = reap(asker.pidfd.as_fd()) {
                lines.read(asker.stderr.as_fd(), now, &mut self.scratch, &mut said);
                lines.finish(now, &mut said);
                break ended;
            }
            if began.elapsed() >= patience + Duration::from_secs(1) {
                return Err("it failed its verify request: the process that asks it does not end".to_owned());
            }
            if has_died.is_some() || began.elapsed() >= patience {
                let _ = signal_group(asker.pid, Kill::Kill);
            }
        };
        if let Some(gone) = has_died {
            return Err(nest::all_have_died(gone));
        }
        match (ended, asking::take_word(&mut said)) {
            (Ended::Code(0), _) => Ok(()),
            (_, word) => {
                let told = said.join("\n");
                self.lines.hear(format!("{told}\n").as_bytes(), 0, &mut Vec::new());
                Err(format!("it failed its verify request: {}", word.unwrap_or_else(|| "no answer".to_owned())))
            }
        }
    }

    /// Stops a manager that has started somebody; it goes on when that was no worker. Whether it has stood still with one since
    /// the last look.
    fn hold(&mut self, brood: Brood) -> bool {
        let was_held = std::mem::replace(&mut self.is_held, brood != Brood::None);
        match (was_held, self.is_held) {
            (false, true) => {
                let _ = signal(self.spawned.pidfd.as_fd(), Kill::Stop);
            }
            (true, false) => {
                let _ = sys::trace_forks(self.spawned.pid.get());
                let _ = signal(self.spawned.pidfd.as_fd(), Kill::Cont);
            }
            (false, false) | (true, true) => {}
        }
        was_held && self.is_held
    }

    /// Who stands still because they are traced go on, but for a manager that has started somebody (`first_fork.rs`).
    fn pass_stops(&mut self) {
        loop {
            match next_news() {
                Ok(Some(Found::Stopped(pid))) if pid != self.spawned.pid => first_fork::let_go(pid),
                Ok(Some(Found::Stopped(pid))) => {
                    if first_fork::has_forked(pid) {
                        first_fork::stop(pid, self.spawned.pidfd.as_fd());
                        self.is_held = true;
                    }
                }
                Ok(Some(Found::Continued(pid))) => take_continuation(pid),
                Ok(Some(Found::Dead(_)) | None) | Err(_) => return,
            }
        }
    }

    /// What it says over the link: ready, or that it cannot.
    fn words(&mut self) -> Option<Result<(), String>> {
        let mut buffer = [0_u8; 4096];
        let link = self.spawned.link.as_ref()?;
        let length = rustix::io::read(link, &mut buffer).ok()?;
        let mut read = &buffer[..length];
        while let Some(message) = self.decoder.next(&mut read) {
            let said = |what: &str, message: Option<String>| {
                let message = crate::output::escape(message.unwrap_or_default().as_bytes(), 1024);
                Some(Err(format!("it said `{what}`: {message}")))
            };
            match message {
                Ok(FromWorker::Hello(_)) => self.speaks = true,
                Ok(FromWorker::Ready) => return Some(Ok(())),
                Ok(FromWorker::Failed(failure)) => return said("failed", failure.message),
                Ok(FromWorker::Broken(failure)) => return said("broken", failure.message),
                Ok(FromWorker::Unavailable(unavailable)) => {
                    return said("unavailable", unavailable.message);
                }
                Ok(_) | Err(_) => {}
            }
        }
        None
    }

    /// Waits a little for its end or its words, and reads what it writes.
    fn hear(&mut self, wait: Duration) {
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        {
            let fds: [Option<&OwnedFd>; 3] = [
                Some(&self.spawned.pidfd),
                self.spawned.link.as_ref(),
                Some(&self.spawned.stderr).filter(|_| self.stderr_open),
            ];
            let mut fds: Vec<PollFd<'_>> = fds.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            let _ = poll(&mut fds, Some(&timeout));
        }
        if self.is_manager {
            self.pass_stops();
        }
        let mut passed = Vec::new();
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        for fd in [&self.spawned.stdout, &self.spawned.stderr] {
            // Both into the same tail: whatever it says last is of interest.
            let turn = self.lines.read(fd.as_fd(), now, &mut self.scratch, &mut passed);
            if matches!(turn, Turn::Closed) {
                self.stderr_open = false;
            }
        }
        if self.ended.is_none() && matches!(ended(self.spawned.pidfd.as_fd()), Ok(Some(_))) {
            // Whom it leaves behind; its group's leader is unreaped.
            let _ = signal_group(self.spawned.pid, Kill::Kill);
            self.lines.finish(now, &mut passed);
            self.ended = reap(self.spawned.pidfd.as_fd()).ok().flatten();
        }
    }

    /// TERM, and KILL to the group when it has not left.
    fn leave(&mut self) {
        let asked = Instant::now();
        // Let go, it would start others before it listened to us.
        let is_alone =
            self.is_held && self.ended.is_none() && matches!(nest::brood(self.spawned.pid), Some(Brood::Dead(_)));
        let _ = signal(self.spawned.pidfd.as_fd(), if is_alone { Kill::Kill } else { Kill::Term });
        if self.is_held {
            let _ = signal(self.spawned.pidfd.as_fd(), Kill::Cont);
        }
        while self.ended.is_none() && asked.elapsed() < LEAVES_WITHIN {
            self.hear(Duration::from_millis(16));
        }
        while self.ended.is_none() {
            let _ = signal_group(self.spawned.pid, Kill::Kill);
            self.hear(Duration::from_millis(16));
        }
    }
}
