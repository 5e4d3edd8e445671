//! The front's process: started when a pool needs one, started again when it dies, ended when it breaks the rules.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use steadfast_config::machine::{self, WORKER_PATH};
use steadfast_config::types::Config;
use steadfast_policy::event::{Event as Fact, Load};
use steadfast_policy::ids::{PoolId, WorkerId};
use steadfast_proto::front::SECRET_VARIABLE;

use crate::children::{Ended, Kill, Nofile, ended, reap, signal_group};
use crate::environment::Environment;
use crate::events::event::Event;
use crate::events::kind::{Kind, Level};
use crate::front::adopt;
use crate::front::channel;
use crate::front::hear;
use crate::front::judge::{self, condemn, watch_answers};
use crate::front::rate::Rate;
use crate::front::settings;
use crate::front::state::{Asked, Life};
use crate::front::tell;
use crate::launch::{self, Names};
use crate::output::Turn;
use crate::poller::{Interest, Token};
use crate::shell::Shell;
use crate::spawn::{Directory, Pass, WorkerSpec, spawn};
use crate::timers::Timer;
use crate::users;
use crate::voice::{Pipe, Stream};
use crate::words;

/// The hidden verb.
const VERB: &str = "front";
/// After a death its pipes are read at most so often (64 KiB each).
const LAST_READS: usize = 4;
/// One that lives so long is past its start, and its death is no part of a storm.
const SETTLED: Duration = Duration::from_secs(10);
/// A front that is the last to leave may take so long.
const LAST: Duration = Duration::from_secs(1);

/// Opens our own program, so that every front is of this version, whatever lies on the disk by then.
pub(crate) fn own_program() -> Option<OwnedFd> {
    rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Settles who the front is, once: its private sockets' directories are for that group.
pub(crate) fn settle(shell: &mut Shell, config: &Config, is_root: bool) -> Result<(), String> {
    if !is_root || shell.front.credentials.is_some() {
        return Ok(());
    }
    let chosen = machine::front_user(config, &Names).map_err(|error| error.to_string())?;
    if let Some(warning) = chosen.warning {
        judge::warn(shell, warning);
    }
    let user = users::user_by_id(chosen.ids.uid)
        .map_err(|error| format!("cannot look up the front's user {:?}: {error}", chosen.ids.name))?
        .ok_or_else(|| format!("there is no user {:?} for the front", chosen.ids.name))?;
    let credentials = launch::credentials(&user, None)?;
    shell.front.rooms.reach("the front", credentials.uid, &credentials.groups)?;
    shell.front.rooms.group = Some(credentials.gid);
    shell.front.credentials = Some(credentials);
    Ok(())
}

/// Starts the front if a pool needs one and none runs.
pub(crate) fn want(shell: &mut Shell) {
    let is_wanted = shell.pools.iter().any(|pool| settings::is_queued(&pool.plan.config));
    if is_wanted && shell.front.life.is_none() && !shell.timers.is_set(Timer::FrontStart) {
        start(shell);
    }
}

/// Lets it go if no pool needs it any more.
pub(crate) fn unwant(shell: &mut Shell) {
    if !shell.pools.iter().any(|pool| settings::is_queued(&pool.plan.config)) {
        shell.timers.clear(Timer::FrontStart);
        tell::leave(shell, Duration::ZERO);
    }
}

/// Starts it, or tries again later.
pub(crate) fn start(shell: &mut Shell) {
    if shell.front.life.is_some() || (shell.is_stopping && shell.front.lives == 0) {
        return;
    }
    if let Err(message) = try_start(shell) {
        let wait = shell.front.backoff(shell.now).max(Duration::from_millis(100));
        judge::warn(shell, format!("it cannot be started: {message}"));
        let at = shell.now.after(wait);
        shell.timers.set(Timer::FrontStart, at);
        return;
    }
    tell::everything(shell);
}

fn try_start(shell: &mut Shell) -> Result<(), String> {
    let (ours, theirs) = channel::pair().map_err(|errno| format!("no channel: {}", std::io::Error::from(errno)))?;
    let hard = shell.host.nofile.hard;
    let mut environment = Environment::clean(None, WORKER_PATH);
    environment.set(SECRET_VARIABLE, OsStr::new(&shell.front.secret));
    let spawned = spawn(&WorkerSpec {
        program: Path::new("/proc/self/exe"),
        executable: shell.front.program.as_ref().map(AsFd::as_fd),
        arguments: &["steadfast".into(), VERB.into()],
        environment: &environment,
        directory: Directory::Path(Path::new("/")),
        credentials: shell.front.credentials.as_ref(),
        umask: Some(0o077),
        rlimits: &[],
        nofile: Nofile { soft_before: hard, hard },
        pass: Pass::Channel(theirs.as_fd()),
        link: None,
        group: None,
    })
    .map_err(|error| error.message())?;
    let number = shell.front.lives + 1;
    let now = shell.clock.now();
    let mut life = Life {
        number,
        pid: spawned.pid,
        pidfd: spawned.pidfd,
        channel: ours,
        stdout: Pipe::new(spawned.stdout),
        stderr: Pipe::new(spawned.stderr),
        started: now,
        wants_room: false,
        asked: Default::default(),
        why: None,
        is_leaving: false,
        rate: Rate::new(),
    };
    if let Err(why) = hear_all(shell, &life) {
        let _ = signal_group(life.pid, Kill::Kill);
        return Err(why);
    }
    // Its predecessor has ended, unless it is being succeeded.
    if shell.front.lives > 0 && shell.front.old.as_ref().is_none_or(|old| old.number != shell.front.lives) {
        shell.front.restarts += 1;
    }
    shell.front.lives = number;
    life.ask(now, Asked::Start);
    let pid = life.pid.get();
    shell.front.life = Some(life);
    watch_answers(shell);
    shell.emit(Event::new(Kind::FrontStarted).pid(pid));
    Ok(())
}

/// Hears a front from now on. The error is for people.
pub(crate) fn hear_all(shell: &Shell, life: &Life) -> Result<(), String> {
    let (number, poller) = (life.number, &shell.poller);
    let heard = |fd: Option<&OwnedFd>, token| fd.map_or(Ok(()), |fd| poller.add(fd, token, Interest::Read));
    poller
        .add(life.channel.fd(), Token::Front(number), Interest::Read)
        .and_then(|()| poller.add(&life.pidfd, Token::FrontExit(number), Interest::Read))
        .and_then(|()| heard(life.stdout.fd.as_ref(), Token::FrontStdout(number)))
        .and_then(|()| heard(life.stderr.fd.as_ref(), Token::FrontStderr(number)))
        .map_err(|errno| format!("cannot watch the process {}: {}", life.pid, std::io::Error::from(errno)))
}

/// A question may be overdue. What lies unread is read first, and one who comes late himself does not judge.
pub(crate) fn overdue(shell: &mut Shell) {
    const LATE: Duration = Duration::from_millis(250);
    let Some(number) = shell.front.life.as_ref().map(|life| life.number) else {
        return;
    };
    hear::readable(shell, number);
    let now = shell.clock.now();
    let Some(life) = shell.front.life(number) else {
        return;
    };
    match life.due() {
        Some(due) if now.since(due) > LATE => {
            for (_, at) in &mut life.asked {
                *at = now;
            }
        }
        Some(due) if due <= now => {
            let seconds = crate::front::state::ANSWERS_WITHIN.as_secs();
            return condemn(shell, format!("it has not answered for {seconds} s"));
        }
        Some(_) | None => {}
    }
    watch_answers(shell);
}

/// Its pidfd is readable.
pub(crate) fn died(shell: &mut Shell, number: u64) {
    let Some(life) = shell.front.life(number) else {
        return;
    };
    let Ok(Some(_)) = ended(life.pidfd.as_fd()) else { return };
    hear::readable(shell, number);
    for stream in [Stream::Stdout, Stream::Stderr] {
        for _ in 0..LAST_READS {
            if !matches!(read(shell, number, stream), Turn::More | Turn::Rest { .. }) {
                break;
            }
        }
    }
    if shell.front.old.as_ref().is_some_and(|old| old.number == number) {
        return succeeded(shell);
    }
    let Some(mut life) = shell.front.life.take() else {
        return;
    };
    let _ = signal_group(life.pid, Kill::Kill);
    let end = reap(life.pidfd.as_fd()).ok().flatten();
    for timer in [Timer::FrontAnswer, Timer::FrontOutput, Timer::FrontLast] {
        shell.timers.clear(timer);
    }
    let lost = lose(shell);
    tell_end(shell, &mut life, end, lost);
    adopt::orphaned(shell, number, life.is_leaving);
    if shell.front.is_last {
        shell.is_finished = shell.front.old.is_none();
        return;
    }
    if shell.is_stopping && life.is_leaving {
        return;
    }
    let wait = if life.is_leaving { Duration::ZERO } else { shell.front.backoff(shell.now) };
    if wait.is_zero() {
        want(shell);
    } else {
        let at = shell.now.after(wait);
        shell.timers.set(Timer::FrontStart, at);
    }
}

/// One that has been succeeded has ended.
fn succeeded(shell: &mut Shell) {
    let Some(mut old) = shell.front.old.take() else {
        return;
    };
    shell.timers.clear(Timer::FrontOld);
    let _ = signal_group(old.pid, Kill::Kill);
    let end = reap(old.pidfd.as_fd()).ok().flatten();
    let is_done = end == Some(Ended::Code(0)) && old.why.is_none();
    tell_end(shell, &mut old, end, 0);
    adopt::orphaned(shell, old.number, is_done);
    // What it had is free for its successor.
    let members: Vec<WorkerId> = shell.pools.iter().flat_map(|pool| pool.members.iter().copied()).collect();
    for worker in members {
        tell::offer(shell, worker);
    }
    if shell.front.is_last && shell.front.life.is_none() {
        shell.is_finished = true;
    }
}

/// Everything that the front had in hand has got no answer; the policy knows of no load any more.
fn lose(shell: &mut Shell) -> u64 {
    let queued: Vec<PoolId> =
        shell.pools.iter().filter(|pool| settings::is_queued(&pool.plan.config)).map(|pool| pool.id).collect();
    let mut lost = 0;
    for id in queued {
        if let Some(pool) = shell.pools.get_mut(id) {
            lost += pool.queue.lose();
            shell.facts.push_back(Fact::LoadSampled { pool: id, load: Load::default() });
        }
    }
    lost
}

fn tell_end(shell: &mut Shell, life: &mut Life, end: Option<Ended>, lost: u64) {
    let ran = shell.now.since(life.started);
    let mut event = Event::new(Kind::FrontExited).pid(life.pid.get()).ran(ran);
    event = match end {
        Some(Ended::Code(code)) => event.code(code),
        Some(Ended::Signal { number, .. }) => event.signal(number),
        None => event,
    };
    if let Some(why) = &life.why {
        event = event.reason(why.clone());
    }
    if life.is_leaving && end == Some(Ended::Code(0)) {
        return shell.emit(event.level(Level::Notice).message("it was told to leave"));
    }
    let mut message = match lost {
        0 => "it had no request in hand, by its last word".to_owned(),
        1 => "1 request that it had in hand, by its last word, got no answer".to_owned(),
        lost => format!("{lost} requests that it had in hand, by its last word, got no answer"),
    };
    message.push_str("; what it counted since then (a second at most) is not in the sums");
    let dropped = life.rate.take_dropped();
    if dropped > 0 {
        message.push_str(&format!("; {dropped} of its notes were dropped"));
    }
    let lines = life.stderr.lines.last().map(str::to_owned).collect();
    shell.emit(event.message(message).stderr(lines).failure());
}

/// One of its streams can be read.
pub(crate) fn output(shell: &mut Shell, number: u64, stream: Stream) {
    if shell.front.life(number).is_none() {
        return;
    }
    match read(shell, number, stream) {
        Turn::Empty | Turn::More => {}
        Turn::Rest { until } => {
            let fd = pipe(shell, number, stream).and_then(|pipe| pipe.fd.take());
            if let Some(fd) = fd {
                shell.poller.remove(&fd);
                // One that has been succeeded and floods is not heard any more.
                if shell.front.serving() != number {
                    return;
                }
                if let Some(pipe) = pipe(shell, number, stream) {
                    pipe.fd = Some(fd);
                }
                let at = steadfast_policy::time::Instant::from_nanos(until);
                shell.timers.set(Timer::FrontOutput, at);
            }
        }
        Turn::Closed => {
            if let Some(pipe) = pipe(shell, number, stream) {
                pipe.fd = None;
            }
        }
    }
}

/// A flooder has rested.
pub(crate) fn rested(shell: &mut Shell) {
    if let Some(life) = &shell.front.life {
        for (pipe, token) in
            [(&life.stdout, Token::FrontStdout(life.number)), (&life.stderr, Token::FrontStderr(life.number))]
        {
            if let Some(fd) = &pipe.fd {
                // The one that did not rest is heard already.
                let _ = shell.poller.add(fd, token, Interest::Read);
            }
        }
    }
}

fn pipe(shell: &mut Shell, number: u64, stream: Stream) -> Option<&mut Pipe> {
    let life = shell.front.life(number)?;
    Some(match stream {
        Stream::Stdout => &mut life.stdout,
        Stream::Stderr => &mut life.stderr,
    })
}

fn read(shell: &mut Shell, number: u64, stream: Stream) -> Turn {
    let mut lines = Vec::new();
    let now = shell.now;
    let Some(life) = shell.front.life(number) else {
        return Turn::Closed;
    };
    let (pid, is_settled) = (life.pid.get(), now.since(life.started) >= SETTLED);
    let pipe = match stream {
        Stream::Stdout => &mut life.stdout,
        Stream::Stderr => &mut life.stderr,
    };
    let Some(fd) = &pipe.fd else {
        return Turn::Closed;
    };
    let turn = pipe.lines.read(fd.as_fd(), now.as_nanos(), &mut shell.scratch, &mut lines);
    if matches!(turn, Turn::Closed) {
        pipe.lines.finish(now.as_nanos(), &mut lines);
    }
    let dropped = pipe.lines.take_dropped();
    if dropped > 0 {
        lines.push(format!("({dropped} lines were dropped)"));
    }
    let at = shell.moment();
    for line in lines {
        let event = Event::new(Kind::FrontOutput).pid(pid).message(line);
        shell.log.relay(at, event, is_settled);
    }
    turn
}

/// Everything else has stopped: the supervisor ends with the front, which may take a moment for it.
pub(crate) fn finish(shell: &mut Shell) {
    if shell.front.life.is_none() && shell.front.old.is_none() {
        shell.is_finished = true;
        return;
    }
    shell.front.is_last = true;
    tell::leave(shell, LAST);
    let at = shell.now.after(LAST);
    shell.timers.set(Timer::FrontLast, at);
}

/// It was told to leave and has not.
pub(crate) fn last_overdue(shell: &mut Shell) {
    let waited = words::duration(LAST);
    let why = format!("it was told to leave and had not after {waited}");
    condemn(shell, why.clone());
    if let Some(old) = shell.front.old.as_ref().map(|old| old.number) {
        judge::condemn_life(shell, old, why);
    }
}
