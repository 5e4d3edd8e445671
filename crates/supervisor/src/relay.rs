//! Passes on what workers say on stdout and stderr: held until they are ready, tagged, within limits.

use std::time::Duration;

use steadfast_policy::ids::WorkerId;
use steadfast_policy::time::Instant;

use crate::events::event::Event;
use crate::events::kind::Kind;
use crate::output::Turn;
use crate::poller::{Interest, Token};
use crate::shell::Shell;
use crate::timers::Timer;
use crate::workers::Pipe;

/// A worker that has been ready so long is past its start, and what it says is no part of a crash loop.
const SETTLED: Duration = Duration::from_secs(10);
/// After a death a pipe is read at most so often (64 KiB each): a grandchild may hold it open and go on writing.
const LAST_READS: usize = 4;

/// One of a worker's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Its stdout.
    Stdout,
    /// Its stderr.
    Stderr,
}

impl Stream {
    fn word(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    fn token(self, worker: WorkerId) -> Token {
        match self {
            Stream::Stdout => Token::Stdout(worker),
            Stream::Stderr => Token::Stderr(worker),
        }
    }
}

/// A worker's stream can be read.
pub(crate) fn readable(shell: &mut Shell, id: WorkerId, stream: Stream) {
    let (turn, lines) = read(shell, id, stream);
    say(shell, id, stream, lines);
    match turn {
        Turn::Empty | Turn::More => {}
        Turn::Rest { until } => {
            if let Some(fd) = pipe(shell, id, stream).and_then(|pipe| pipe.fd.take()) {
                shell.poller.remove(&fd);
                if let Some(pipe) = pipe(shell, id, stream) {
                    pipe.fd = Some(fd);
                }
                shell.timers.set(Timer::Output(id), Instant::from_nanos(until));
            }
        }
        Turn::Closed => close(shell, id, stream),
    }
}

/// What a worker wrote to stderr through FastCGI, which the front has read.
pub(crate) fn by_front(shell: &mut Shell, id: WorkerId, text: &[u8]) {
    let now = shell.now.as_nanos();
    let mut lines = Vec::new();
    if let Some(worker) = shell.workers.get_mut(id) {
        worker.stderr.lines.hear(text, now, &mut lines);
    }
    say(shell, id, Stream::Stderr, lines);
}

/// A flooder has rested: both of its streams are heard again.
pub(crate) fn rested(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get(id) else {
        return;
    };
    for (pipe, stream) in [(&worker.stdout, Stream::Stdout), (&worker.stderr, Stream::Stderr)] {
        if let Some(fd) = &pipe.fd {
            // The one that did not rest is heard already.
            let _ = shell.poller.add(fd, stream.token(id), Interest::Read);
        }
    }
}

/// Passes on what was held until the worker was ready.
pub(crate) fn release(shell: &mut Shell, id: WorkerId) {
    let Some(worker) = shell.workers.get_mut(id) else {
        return;
    };
    let held = worker.held.take();
    let mut lines = held.lines;
    if held.dropped > 0 {
        lines.insert(0, format!("({} earlier lines were dropped)", held.dropped));
    }
    for line in lines {
        pass_on(shell, id, line);
    }
}

/// Reads what a dead worker has left in its pipes and closes them.
pub(crate) fn last_words(shell: &mut Shell, id: WorkerId) {
    shell.timers.clear(Timer::Output(id));
    for stream in [Stream::Stdout, Stream::Stderr] {
        for _ in 0..LAST_READS {
            let (turn, lines) = read(shell, id, stream);
            say(shell, id, stream, lines);
            if !matches!(turn, Turn::More | Turn::Rest { .. }) {
                break;
            }
        }
        close(shell, id, stream);
    }
}

fn pipe(shell: &mut Shell, id: WorkerId, stream: Stream) -> Option<&mut Pipe> {
    let worker = shell.workers.get_mut(id)?;
    Some(match stream {
        Stream::Stdout => &mut worker.stdout,
        Stream::Stderr => &mut worker.stderr,
    })
}

fn read(shell: &mut Shell, id: WorkerId, stream: Stream) -> (Turn, Vec<String>) {
    use std::os::fd::AsFd;
    let mut lines = Vec::new();
    let now = shell.now.as_nanos();
    let Some(worker) = shell.workers.get_mut(id) else {
        return (Turn::Empty, lines);
    };
    let pipe = match stream {
        Stream::Stdout => &mut worker.stdout,
        Stream::Stderr => &mut worker.stderr,
    };
    let Some(fd) = &pipe.fd else {
        return (Turn::Empty, lines);
    };
    let turn = pipe.lines.read(fd.as_fd(), now, &mut shell.scratch, &mut lines);
    (turn, lines)
}

fn close(shell: &mut Shell, id: WorkerId, stream: Stream) {
    let now = shell.now.as_nanos();
    let mut lines = Vec::new();
    if let Some(pipe) = pipe(shell, id, stream) {
        pipe.fd = None;
        pipe.lines.finish(now, &mut lines);
    }
    say(shell, id, stream, lines);
}

fn say(shell: &mut Shell, id: WorkerId, stream: Stream, lines: Vec<String>) {
    let dropped = pipe(shell, id, stream).map_or(0, |pipe| pipe.lines.take_dropped());
    let Some(worker) = shell.workers.get_mut(id) else {
        return;
    };
    if worker.ready.is_none() {
        for line in lines {
            worker.held.push(format!("{}: {line}", stream.word()));
        }
        return;
    }
    for line in lines {
        pass_on(shell, id, format!("{}: {line}", stream.word()));
    }
    if dropped > 0 {
        let event = shell.event_of(Kind::WorkerWarned, id);
        let message =
            format!("it writes more to its {} than is passed on: {dropped} lines were dropped", stream.word());
        shell.emit(event.message(message));
    }
}

fn pass_on(shell: &mut Shell, id: WorkerId, line: String) {
    let ready = shell.workers.get(id).and_then(|worker| worker.ready);
    let is_settled = ready.is_some_and(|ready| shell.now.since(ready) >= SETTLED);
    let event: Event = shell.event_of(Kind::WorkerOutput, id).message(line);
    let at = shell.moment();
    shell.log.relay(at, event, is_settled);
}
