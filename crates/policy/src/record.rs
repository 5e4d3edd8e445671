//! Facts as lines of text and back, so that an incident can be replayed into the policy.
//!
//! A recording is one header line (`steadfast-record VERSION SEED`) and then one line for each call of
//! `Policy::handle`: the instant in nanoseconds, the fact's word, its fields in the order of their declaration,
//! separated by single spaces. Fields that are lists are joined by commas; `-` stands for nothing.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::time::Duration;

use crate::class::{Class, Exit, Reason, Weight};
use crate::event::{Event, Files, Limit, Load, PoolFacts, SpawnFault, SuspectFacts, WorkerFacts, ZygoteEnd};
use crate::figures::{BreakerFigures, Figures, Launch, Mode, Then, Verify};
use crate::ids::{GenerationId, PoolId, RequestKey, SlotId, WorkerId, ZygoteId};
use crate::time::{Instant, nanos};

/// The version of this format.
pub const VERSION: u32 = 2;

const MAGIC: &str = "steadfast-record";

/// Why a line is not part of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// It is no header of a recording.
    Header,
    /// The recording's version is another one.
    Version(u32),
    /// It ends before all fields have come.
    Short,
    /// It goes on after the last field.
    Long,
    /// This word (counted from 1) is not what belongs there.
    Word(usize),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Header => write!(f, "not a recording: its first line must be `{MAGIC} VERSION SEED`"),
            RecordError::Version(found) => write!(f, "a recording of version {found}; this program reads {VERSION}"),
            RecordError::Short => f.write_str("the line ends too early"),
            RecordError::Long => f.write_str("the line goes on after its last field"),
            RecordError::Word(number) => write!(f, "word {number} of the line makes no sense"),
        }
    }
}

impl core::error::Error for RecordError {}

/// The first line of a recording, without the line's end.
pub fn write_header(seed: u64) -> String {
    let mut line = String::from(MAGIC);
    VERSION.put(&mut line);
    seed.put(&mut line);
    line
}

/// The policy's seed, from the first line of a recording.
pub fn parse_header(line: &str) -> Result<u64, RecordError> {
    let mut words = Words::new(line);
    if words.next() != Ok(MAGIC) {
        return Err(RecordError::Header);
    }
    match u32::take(&mut words)? {
        VERSION => {}
        other => return Err(RecordError::Version(other)),
    }
    let seed = u64::take(&mut words)?;
    words.end()?;
    Ok(seed)
}

/// One fact and its instant as one line, without the line's end.
pub fn write(now: Instant, event: &Event) -> String {
    let mut line = String::new();
    now.put(&mut line);
    put_event(event, &mut line);
    line
}

/// The fact and its instant, from one line.
pub fn parse(line: &str) -> Result<(Instant, Event), RecordError> {
    let mut words = Words::new(line);
    let now = Instant::take(&mut words)?;
    let event = take_event(&mut words)?;
    words.end()?;
    Ok((now, event))
}

/// The words of a line that are still to be read.
struct Words<'a> {
    rest: core::str::Split<'a, char>,
    count: usize,
}

impl<'a> Words<'a> {
    fn new(line: &'a str) -> Self {
        Words { rest: line.split(' '), count: 0 }
    }

    fn next(&mut self) -> Result<&'a str, RecordError> {
        self.count += 1;
        self.rest.next().ok_or(RecordError::Short)
    }

    fn end(mut self) -> Result<(), RecordError> {
        match self.rest.next() {
            None => Ok(()),
            Some(_) => Err(RecordError::Long),
        }
    }
}

/// A part of a fact: appended as a space and a word (or several), read back from there.
trait Field: Sized {
    fn put(&self, line: &mut String);
    fn take(words: &mut Words<'_>) -> Result<Self, RecordError>;
}

fn put_word(line: &mut String, word: impl fmt::Display) {
    if !line.is_empty() {
        line.push(' ');
    }
    // Writing into a String cannot fail.
    let _ = write!(line, "{word}");
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn put(&self, line: &mut String) {
                put_word(line, self);
            }
            fn take(words: &mut Words<'_>) -> Result<Self, RecordError> {
                words.next()?.parse().map_err(|_| RecordError::Word(words.count))
            }
        }
    )*};
}
numbers!(u8, u32, u64);

macro_rules! ids {
    ($($id:ident),*) => {$(
        impl Field for $id {
            fn put(&self, line: &mut String) {
                self.0.put(line);
            }
            fn take(words: &mut Words<'_>) -> Result<Self, RecordError> {
                Ok($id(Field::take(words)?))
            }
        }
    )*};
}
ids!(PoolId, WorkerId, SlotId, GenerationId, ZygoteId, RequestKey);

macro_rules! words {
    ($($name:ty { $($word:literal = $value:pat => $same:expr),* $(,)? })*) => {$(
        impl Field for $name {
            fn put(&self, line: &mut String) {
                put_word(line, match self { $($value => $word,)* });
            }
            fn take(words: &mut Words<'_>) -> Result<Self, RecordError> {
                match words.next()? {
                    $($word => Ok($same),)*
                    _ => Err(RecordError::Word(words.count)),
                }
            }
        }
    )*};
}
words! {
    bool { "yes" = true => true, "no" = false => false }
    Files { "noted" = Files::Noted => Files::Noted, "changed" = Files::Changed => Files::Changed }
    SpawnFault {
        "host" = SpawnFault::Host => SpawnFault::Host,
        "program" = SpawnFault::Program => SpawnFault::Program,
        "zygote" = SpawnFault::Zygote => SpawnFault::Zygote,
        "fork" = SpawnFault::Fork => SpawnFault::Fork,
    }
    ZygoteEnd {
        "failed" = ZygoteEnd::Failed => ZygoteEnd::Failed,
        "broken" = ZygoteEnd::Broken => ZygoteEnd::Broken,
        "unavailable" = ZygoteEnd::Unavailable => ZygoteEnd::Unavailable,
        "killed" = ZygoteEnd::Killed => ZygoteEnd::Killed,
        "host" = ZygoteEnd::Host => ZygoteEnd::Host,
    }
    Limit { "requests" = Limit::Requests => Limit::Requests, "memory" = Limit::Memory => Limit::Memory }
    Mode { "queue" = Mode::Queue => Mode::Queue, "direct" = Mode::Direct => Mode::Direct }
    Launch { "exec" = Launch::Exec => Launch::Exec, "zygote" = Launch::Zygote => Launch::Zygote }
    Verify {
        "never" = Verify::Never => Verify::Never,
        "each" = Verify::Each => Verify::Each,
        "generation" = Verify::Generation => Verify::Generation,
    }
    Then { "hold" = Then::Hold => Then::Hold, "exit" = Then::Exit => Then::Exit }
}

impl Field for Instant {
    fn put(&self, line: &mut String) {
        self.as_nanos().put(line);
    }

    fn take(words: &mut Words<'_>) -> Result<Self, RecordError> {
        Ok(Instant::from_nanos(Field::take(words)?))
    }
}

impl Field for Duration {
    fn put(&self, line: &mut String) {
        nanos(*self).put(line);
    }

    fn take(words: &mut Words<'_>) -> Result<Self, RecordError> {
        Ok(Duration::from_nanos(Field::take(words)?))
    }
}

impl Field for Exit {
    fn put(&self, line: &mut String) {
        match self {
            Exit::Code(code) => put_word(line, format_args!("code:{code}")),
            Exit::Signal(signal) => put_word(line, format_args!("signal:{signal}")),
        }
    }

    fn take(words: &mut Words<'_>) -> Result<Self, RecordError> {
        let word = words.next()?;
        let wrong = RecordError::Word(words.count);
        let (kind, number) = word.split_once(':').ok_or(wrong)?;
        let number = number.parse().map_err(|_| wrong)?;
        match kind {
            "code" => Ok(Exit::Code(number)),
            "signal" => Ok(Exit::Signal(number)),
            _ => Err(wrong),
        }
    }
}

impl Field for Weight {
    fn put(&self, line: &mut String) {
        self.quarters().put(line);
    }

    fn take(words: &mut Words<'_>) -> Result<Self, RecordError> {
        Ok(Weight::of_quarters(Field::take(words)?))
    }
}

impl Field for Class {
    fn put(&self, line: &mut String) {
        put_word(line, self.word());
    }

    fn take(words: &mut Words<'_>) -> Result<Self, RecordError> {
        let word = words.next()?;
        Class::of(word).ok_or(RecordError::Word(words.count))
    }
}

impl Field for Reason {
    fn put(&self, line: &mut String) {
        match self {
            Reason::Failures(class) => put_word(line, format_args!("failures:{}", class.word())),
            Reason::FilesChanged(class) => put_word(line, format_args!("files-changed:{}", class.word())),
            Reason::Canary(class) => put_word(line, format_args!("canary:{}", class.word())),
            Reason::Zygote => put_word(line, "zygote"),
            Reason::Operator => put_word(line, "operator"),
            Reason::Superseded => put_word(line, "superseded"),
            Reason::Stopping => put_word(line, "stopping"),
        }
    }

    fn take(words: &mut Words<'_>) -> Result<Self, RecordError> {
        let word = words.next()?;
        let wrong = RecordError::Word(words.count);
        let Some((kind, class)) = word.split_once(':') else {
            return match word {
                "zygote" => Ok(Reason::Zygote),
                "operator" => Ok(Reason::Operator),
                "superseded" => Ok(Reason::Superseded),
                "stopping" => Ok(Reason::Stopping),
                _ => Err(wrong),
            };
        };
        let class = Class::of(class).ok_or(wrong)?;
        match kind {
            "failures" => Ok(Reason::Failures(class)),
            "files-changed" => Ok(Reason::FilesChanged(class)),
            "canary" => Ok(Reason::Canary(class)),
            _ => Err(wrong),
        }
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, line: &mut String) {
        match self {
            None => put_word(line, '-'),
            Some(value) => value.put(line),
        }
    }

    fn take(words: &mut Words<'_>) -> Result<Self, RecordError> {
        let mut ahead = words.rest.clone();
        if ahead.next() == Some("-") {
            words.next()?;
            return Ok(None);
        }
        T::take(words).map(Some)
    }
}

impl Field for (WorkerId, Instant) {
    fn put(&self, line: &mut String) {
        self.0.put(line);
        self.1.put(line);
    }

    fn take(words: &mut Words<'_>) -> Result<Self, RecordError> {
        Ok((Field::take(words)?, Field::take(words)?))
    }
}

impl Field for (u64, u64, Instant) {
    fn put(&self, line: &mut String) {
        self.0.put(line);
        self.1.put(line);
        self.2.put(line);
    }

    fn take(words: &mut Words<'_>) -> Result<Self, RecordError> {
        Ok((Field::take(words)?, Field::take(words)?, Field::take(words)?))
    }
}

impl Field for Vec<u8> {
    fn put(&self, line: &mut String) {
        if self.is_empty() {
            return put_word(line, '-');
        }
        for (index, number) in self.iter().enumerate() {
            match index {
                0 => put_word(line, number),
                _ => {
                    let _ = write!(line, ",{number}");
                }
            }
        }
    }

    fn take(words: &mut Words<'_>) -> Result<Self, RecordError> {
        match words.next()? {
            "-" => Ok(Vec::new()),
            list => list.split(',').map(|number| number.parse().map_err(|_| RecordError::Word(words.count))).collect(),
        }
    }
}

/// Both directions from one list of fields; the patterns make a forgotten field or variant an error of the compiler.
macro_rules! structs {
    ($($name:ident { $($field:ident),* $(,)? })*) => {$(
        impl Field for $name {
            fn put(&self, line: &mut String) {
                let $name { $($field),* } = self;
                $($field.put(line);)*
            }
            fn take(words: &mut Words<'_>) -> Result<Self, RecordError> {
                Ok($name { $($field: Field::take(words)?),* })
            }
        }
    )*};
}
structs! {
    Load { idle, busy, waiting, served, longest_idle }
    PoolFacts {
        generation, last_generation, min, max, target, is_running, has_fallback, started, proven, verified, unfit, files,
        served, credit, owed, tokens, retry_at, unserved, growth, load,
    }
    WorkerFacts { slot, files, zygote, since, age_limit }
    SuspectFacts { kills, recent, last, successes, times, until }
    BreakerFigures { failures, within, grace, backoff_first, backoff_max, then, prove }
    Figures {
        mode, launch, verify, min, max, step, idle, ready_timeout, verify_timeout, stop_timeout, max_age,
        quarantine, breaker, broken_codes, unavailable_codes,
    }
}

macro_rules! events {
    ($($word:literal $name:ident { $($field:ident),* })*) => {
        fn put_event(event: &Event, line: &mut String) {
            match event {
                $(Event::$name { $($field),* } => {
                    put_word(line, $word);
                    $($field.put(line);)*
                })*
            }
        }

        fn take_event(words: &mut Words<'_>) -> Result<Event, RecordError> {
            match words.next()? {
                $($word => Ok(Event::$name { $($field: Field::take(words)?),* }),)*
                _ => Err(RecordError::Word(words.count)),
            }
        }
    };
}
events! {
    "woken" Woken {}
    "pool-added" PoolAdded { pool, figures }
    "removal-requested" RemovalRequested { pool }
    "reload-requested" ReloadRequested { pool, figures }
    "stop-requested" StopRequested { pool }
    "start-requested" StartRequested { pool }
    "restart-requested" RestartRequested { pool }
    "scale-requested" ScaleRequested { pool, min, max }
    "drain-requested" DrainRequested { pool, slot }
    "kill-requested" KillRequested { pool, slot }
    "breaker-reset-requested" BreakerResetRequested { pool }
    "breaker-trip-requested" BreakerTripRequested { pool }
    "quarantine-clear-requested" QuarantineClearRequested { pool }
    "shutdown-requested" ShutdownRequested {}
    "shutdown-hastened" ShutdownHastened {}
    "worker-spawned" WorkerSpawned { worker, files }
    "spawn-failed" SpawnFailed { worker, fault, files }
    "worker-ready" WorkerReady { worker }
    "worker-verified" WorkerVerified { worker }
    "verification-failed" VerificationFailed { worker }
    "worker-served" WorkerServed { worker, requests }
    "worker-drained" WorkerDrained { worker }
    "worker-failed" WorkerFailed { worker }
    "worker-broken" WorkerBroken { worker }
    "worker-unavailable" WorkerUnavailable { worker, retry_after }
    "worker-done" WorkerDone { worker }
    "child-died" ChildDied { worker, files, living }
    "child-ready" ChildReady { worker }
    "limit-reached" LimitReached { worker, limit }
    "worker-overdue" WorkerOverdue { worker }
    "worker-cancelled" WorkerCancelled { worker }
    "worker-exited" WorkerExited { worker, exit, oom }
    "blamed" Blamed { worker, request }
    "suspect-served" SuspectServed { pool, request, worker }
    "load-sampled" LoadSampled { pool, load }
    "zygote-ready" ZygoteReady { zygote }
    "zygote-unfit" ZygoteUnfit { zygote }
    "zygote-grown" ZygoteGrown { zygote }
    "zygote-exited" ZygoteExited { zygote, end, files, retry_after }
    "names-minted" NamesMinted { last }
    "pool-adopted" PoolAdopted { pool, figures, facts }
    "account-adopted" AccountAdopted { pool, files, served, steps, last, not_before }
    "failure-adopted" FailureAdopted { pool, files, at, weight }
    "zygote-adopted" ZygoteAdopted { zygote, pool }
    "worker-adopted" WorkerAdopted { worker, pool, facts, served }
    "breaker-adopted" BreakerAdopted { pool, throttled, until, wait, reason }
    "suspect-adopted" SuspectAdopted { pool, request, facts }
    "exits-adopted" ExitsAdopted { pool, class, count }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn samples() -> Vec<Event> {
        let (pool, worker, slot) = (PoolId(7), WorkerId(u64::MAX), SlotId(3));
        let (request, zygote) = (RequestKey(0), ZygoteId(9));
        let figures = Figures {
            launch: Launch::Zygote,
            max_age: Some(Duration::from_millis(1500)),
            broken_codes: vec![1, 255],
            quarantine: false,
            ..Figures::default()
        };
        let load =
            Load { idle: 1, busy: 2, waiting: 3, served: 4, longest_idle: Some((worker, Instant::from_nanos(5))) };
        vec![
            Event::Woken,
            Event::PoolAdded { pool, figures: figures.clone() },
            Event::RemovalRequested { pool },
            Event::ReloadRequested { pool, figures: Figures::default() },
            Event::StopRequested { pool },
            Event::StartRequested { pool },
            Event::RestartRequested { pool },
            Event::ScaleRequested { pool, min: 0, max: u32::MAX },
            Event::DrainRequested { pool, slot },
            Event::KillRequested { pool, slot },
            Event::BreakerResetRequested { pool },
            Event::BreakerTripRequested { pool },
            Event::QuarantineClearRequested { pool },
            Event::ShutdownRequested,
            Event::ShutdownHastened,
            Event::WorkerSpawned { worker, files: Files::Changed },
            Event::SpawnFailed { worker, fault: SpawnFault::Host, files: Files::Noted },
            Event::SpawnFailed { worker, fault: SpawnFault::Program, files: Files::Noted },
            Event::SpawnFailed { worker, fault: SpawnFault::Zygote, files: Files::Noted },
            Event::SpawnFailed { worker, fault: SpawnFault::Fork, files: Files::Noted },
            Event::WorkerReady { worker },
            Event::WorkerVerified { worker },
            Event::VerificationFailed { worker },
            Event::WorkerServed { worker, requests: 12 },
            Event::WorkerDrained { worker },
            Event::WorkerFailed { worker },
            Event::WorkerBroken { worker },
            Event::WorkerUnavailable { worker, retry_after: None },
            Event::WorkerUnavailable { worker, retry_after: Some(Duration::from_nanos(1)) },
            Event::WorkerDone { worker },
            Event::ChildDied { worker, files: Files::Changed, living: 4 },
            Event::ChildReady { worker },
            Event::LimitReached { worker, limit: Limit::Requests },
            Event::LimitReached { worker, limit: Limit::Memory },
            Event::WorkerOverdue { worker },
            Event::WorkerCancelled { worker },
            Event::WorkerExited { worker, exit: Exit::Code(0), oom: false },
            Event::WorkerExited { worker, exit: Exit::Signal(9), oom: true },
            Event::Blamed { worker, request: None },
            Event::Blamed { worker, request: Some(request) },
            Event::SuspectServed { pool, request, worker },
            Event::LoadSampled { pool, load },
            Event::LoadSampled { pool, load: Load::default() },
            Event::NamesMinted { last: 77 },
            Event::PoolAdopted {
                pool,
                figures: figures.clone(),
                facts: PoolFacts { generation: GenerationId(2), min: 3, proven: true, ..PoolFacts::default() },
            },
            Event::AccountAdopted {
                pool,
                files: Files::Changed,
                served: true,
                steps: 3,
                last: Instant::from_nanos(8),
                not_before: Instant::from_nanos(9),
            },
            Event::FailureAdopted { pool, files: Files::Noted, at: Instant::from_nanos(8), weight: Weight::QUARTER },
            Event::ZygoteAdopted { zygote, pool },
            Event::WorkerAdopted {
                worker,
                pool,
                facts: WorkerFacts {
                    slot,
                    files: Files::Noted,
                    zygote: Some(zygote),
                    since: Instant::from_nanos(1),
                    age_limit: None,
                },
                served: 4,
            },
            Event::BreakerAdopted {
                pool,
                throttled: true,
                until: Instant::from_nanos(1),
                wait: Duration::from_secs(5),
                reason: Reason::Canary(Class::Early),
            },
            Event::BreakerAdopted {
                pool,
                throttled: false,
                until: Instant::from_nanos(1),
                wait: Duration::from_secs(5),
                reason: Reason::Operator,
            },
            Event::SuspectAdopted {
                pool,
                request,
                facts: SuspectFacts {
                    kills: 2,
                    recent: 1,
                    last: Instant::from_nanos(3),
                    successes: 0,
                    times: 1,
                    until: Some(Instant::from_nanos(4)),
                },
            },
            Event::ExitsAdopted { pool, class: Class::Oom, count: 5 },
            Event::ZygoteReady { zygote },
            Event::ZygoteUnfit { zygote },
            Event::ZygoteGrown { zygote },
            Event::ZygoteExited { zygote, end: ZygoteEnd::Broken, files: Files::Noted, retry_after: None },
            Event::ZygoteExited { zygote, end: ZygoteEnd::Host, files: Files::Changed, retry_after: None },
            Event::ZygoteExited {
                zygote,
                end: ZygoteEnd::Unavailable,
                files: Files::Noted,
                retry_after: Some(Duration::from_secs(2)),
            },
        ]
    }

    #[test]
    fn every_fact_comes_back_as_it_was() {
        for (index, event) in samples().into_iter().enumerate() {
            let now = Instant::from_nanos(index as u64 * 1_000_000_007);
            let line = write(now, &event);
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(parse(&line), Ok((now, event)), "{line}");
        }
    }

    #[test]
    fn a_line_cut_anywhere_is_refused_or_another_number() {
        for event in samples() {
            let line = write(Instant::from_nanos(10), &event);
            let words: Vec<&str> = line.split(' ').collect();
            for kept in 1..words.len() {
                assert_eq!(parse(&words[..kept].join(" ")), Err(RecordError::Short), "{line}");
            }
            assert_eq!(parse(&(line + " 1")), Err(RecordError::Long));
        }
    }

    #[test]
    fn the_header_tells_version_and_seed() {
        assert_eq!(parse_header(&write_header(42)), Ok(42));
        assert_eq!(parse_header("steadfast-record 1 42"), Err(RecordError::Version(1)));
        assert_eq!(parse_header("something else"), Err(RecordError::Header));
        assert_eq!(parse_header(""), Err(RecordError::Header));
    }

    #[test]
    fn the_wrong_word_is_named() {
        assert_eq!(parse("x woken"), Err(RecordError::Word(1)));
        assert_eq!(parse("1 wokken"), Err(RecordError::Word(2)));
        assert_eq!(parse("1 worker-exited 2 code:256 no"), Err(RecordError::Word(4)));
    }
}
