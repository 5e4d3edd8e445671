//! Passes on what workers and zygotes say on stdout and stderr: held until they are ready, tagged, within limits.

use std::os::fd::AsFd;
use std::time::Duration;

use steadfast_policy::ids::WorkerId;
use steadfast_policy::time::Instant;

use crate::events::event::Event;
use crate::events::kind::Kind;
use crate::output::Turn;
use crate::poller::{Interest, Token};
use crate::shell::{Shell, voice_of};
use crate::timers::Timer;
use crate::voice::{Pipe, Speaker, Stream};

/// A worker that has been ready so long is past its start, and what it says is no part of a crash loop.
const SETTLED: Duration = Duration::from_secs(10);
/// After a death a pipe is read at most so often (64 KiB each): a grandchild may hold it open and go on writing.
const LAST_READS: usize = 4;

fn token(speaker: Speaker, stream: Stream) -> Token {
    match stream {
        Stream::Stdout => Token::Stdout(speaker),
        Stream::Stderr => Token::Stderr(speaker),
    }
}

/// A worker's stream can be read.
pub(crate) fn readable(shell: &mut Shell, id: Speaker, stream: Stream) {
    let (turn, lines) = read(shell, id, stream);
    say(shell, id, stream, lines);
    match turn {
        Turn::Empty | Turn::More => {}
        Turn::Rest { until } => {
            if let Some(fd) = shell.voice(id).and_then(|voice| voice.pipe(stream).fd.take()) {
                shell.poller.remove(&fd);
                if let Some(voice) = shell.voice(id) {
                    voice.pipe(stream).fd = Some(fd);
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
    let id = Speaker::Worker(id);
    if let Some(voice) = shell.voice(id) {
        voice.stderr.lines.hear(text, now, &mut lines);
    }
    say(shell, id, Stream::Stderr, lines);
}

/// A flooder has rested: both of its streams are heard again.
pub(crate) fn rested(shell: &mut Shell, id: Speaker) {
    for stream in [Stream::Stdout, Stream::Stderr] {
        let Some(fd) = shell.voice(id).and_then(|voice| voice.pipe(stream).fd.take()) else {
            continue;
        };
        // The one that did not rest is heard already.
        let _ = shell.poller.add(&fd, token(id, stream), Interest::Read);
        if let Some(voice) = shell.voice(id) {
            voice.pipe(stream).fd = Some(fd);
        }
    }
}

/// Passes on what was held until the worker was ready.
pub(crate) fn release(shell: &mut Shell, id: Speaker) {
    let Some(voice) = shell.voice(id) else {
        return;
    };
    let held = voice.held.take();
    let mut lines = held.lines;
    if held.dropped > 0 {
        lines.insert(0, format!("({} earlier lines were dropped)", held.dropped));
    }
    for line in lines {
        pass_on(shell, id, line);
    }
}

/// Reads what a dead worker has left in its pipes and closes them.
pub(crate) fn last_words(shell: &mut Shell, id: Speaker) {
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

fn read(shell: &mut Shell, id: Speaker, stream: Stream) -> (Turn, Vec<String>) {
    let mut lines = Vec::new();
    let now = shell.now.as_nanos();
    let Shell { workers, zygotes, scratch, .. } = shell;
    let turn = voice_of(workers, zygotes, id).map_or(Turn::Empty, |voice| {
        let Pipe { fd, lines: pipe } = voice.pipe(stream);
        fd.as_ref().map_or(Turn::Empty, |fd| pipe.read(fd.as_fd(), now, scratch, &mut lines))
    });
    (turn, lines)
}

fn close(shell: &mut Shell, id: Speaker, stream: Stream) {
    let now = shell.now.as_nanos();
    let mut lines = Vec::new();
    if let Some(voice) = shell.voice(id) {
        let pipe = voice.pipe(stream);
        pipe.fd = None;
        pipe.lines.finish(now, &mut lines);
    }
    say(shell, id, stream, lines);
}

fn say(shell: &mut Shell, id: Speaker, stream: Stream, lines: Vec<String>) {
    let is_ready = shell.ready_since(id).is_some();
    let Some(voice) = shell.voice(id) else {
        return;
    };
    let dropped = voice.pipe(stream).lines.take_dropped();
    if !is_ready {
        for line in lines {
            voice.held.push(format!("{}: {line}", stream.word()));
        }
        return;
    }
    for line in lines {
        pass_on(shell, id, format!("{}: {line}", stream.word()));
    }
    if dropped > 0 {
        let event = shell.event_by(Kind::WorkerWarned, id);
        let message =
            format!("it writes more to its {} than is passed on: {dropped} lines were dropped", stream.word());
        shell.emit(event.message(message));
    }
}

fn pass_on(shell: &mut Shell, id: Speaker, line: String) {
    let is_settled = shell.ready_since(id).is_some_and(|ready| shell.now.since(ready) >= SETTLED);
    let event: Event = shell.event_by(Kind::WorkerOutput, id).message(line);
    let at = shell.moment();
    shell.log.relay(at, event, is_settled);
}
