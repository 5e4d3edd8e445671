//! Starts the supervisor: one straight list of steps, sanitising first; whatever fails here is said and ends it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use steadfast_config::load::Loaded;
use steadfast_config::types::{Log as LogTo, LogLevel};
use steadfast_policy::policy::Policy;
use steadfast_policy::time::Instant;

use crate::cgroups::Cgroups;
use crate::children::{Nofile, become_subreaper, close_inherited_on_exec, raise_nofile};
use crate::clock::Clock;
use crate::containment;
use crate::control::followers::Followers;
use crate::control::server::{Server, spare};
use crate::control::waits::Waits;
use crate::doors::Halls;
use crate::events::event::Event;
use crate::events::kind::{Kind, Level};
use crate::events::log::{Format, Log};
use crate::front::process;
use crate::front::reports::Reports;
use crate::front::state::Front;
use crate::inherited::{Inherited, forget_environment};
use crate::listener::{Listener, UnixSpec};
use crate::notify::Notify;
use crate::oom;
use crate::output::Scratch;
use crate::path_watch::PathWatch;
use crate::poller::{Interest, Poller, Token};
use crate::pools::Pools;
use crate::procfs::Procfs;
use crate::recording::Recording;
use crate::reload::{ConfigSource, Source, commit, plan};
use crate::report;
use crate::runtime_dir::{self, Unusable};
use crate::shell::{Host, Shell};
use crate::signals::Signals;
use crate::sockets::{self, Refused};
use crate::timers::Timers;
use crate::turn::Supervisor;
use crate::workers::Workers;
use crate::zygotes::Zygotes;

/// Of the control socket's accept queue.
const CONTROL_BACKLOG: u32 = 32;

/// What `steadfast run` was asked for.
#[derive(Debug)]
pub struct Options {
    /// The configuration, loaded and shown.
    pub loaded: Loaded,
    /// Where a reload reads it from again.
    pub source: ConfigSource,
    /// The current directory, absolute.
    pub directory: PathBuf,
    /// `--record FILE`.
    pub record: Option<PathBuf>,
    /// `--control PATH`; `None`: the configuration's, in the runtime directory.
    pub control: Option<PathBuf>,
    /// Of the program, for the status document.
    pub version: &'static str,
}

/// Why the supervisor did not start.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    exit_code: u8,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Failure {
        Failure { message: refused.message, exit_code: refused.exit_code }
    }
}

impl From<Unusable> for Failure {
    fn from(unusable: Unusable) -> Failure {
        Failure { message: unusable.message, exit_code: unusable.exit_code }
    }
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Failure {
    move |error| Failure { message: format!("cannot {what}: {error}"), exit_code: 71 }
}

/// The supervisor, until its end. The exit code of interface.md, section 1. What fails before the first turn is
/// written to stderr for people; everything after it is an event.
pub fn run(options: Options) -> u8 {
    match start(options) {
        Ok((supervisor, lock)) => {
            let code = supervisor.run();
            drop(lock);
            code
        }
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "steadfast: {}", failure.message);
            failure.exit_code
        }
    }
}

fn start(options: Options) -> Result<(Supervisor, File), Failure> {
    let Options { loaded, source, directory, record, control, version } = options;
    // Whatever we were given: no signal is lost or ignored, no fd reaches a worker, our own limit is the hard one.
    let signals = Signals::install().map_err(failed("receive signals"))?;
    let inherited = Inherited::from_environment();
    close_inherited_on_exec().map_err(failed("mark inherited fds close-on-exec"))?;
    let mut notify = Notify::from_environment();
    notify.found(inherited.kept_names());
    forget_environment();
    let nofile = raise_nofile();
    become_subreaper().map_err(failed("become the reaper of orphans"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));

    let is_root = rustix::process::geteuid().is_root();
    let runtime_dir = runtime_dir::runtime_dir(&loaded.config, &directory);
    let mut source = Source { config: source, directory, runtime_dir, inherited, is_root, version };
    source.check(&loaded).map_err(|report| Failure { message: report.render(false), exit_code: 78 })?;
    let lock = runtime_dir::take(&source.runtime_dir, is_root)?;

    let (seed, recording) = begin_recording(record.as_deref())?;
    let log = Log::open(format(loaded.config.supervisor.log), level(loaded.config.supervisor.log_level));
    let mut shell = shell(log, notify, nofile, source.runtime_dir.clone())?;
    containment::begin(&mut shell);
    shell.poller.add(&signals, Token::Signals, Interest::Read).map_err(failed("hear signals"))?;
    let control = match control {
        Some(path) => source.directory.join(path),
        None => source.runtime_dir.join(&loaded.config.supervisor.control),
    };
    let server = serve(&control, &shell)?;
    // Before anything is bound; the first turn has the store forget them.
    sockets::release(&mut source.inherited, &loaded.config, &source.runtime_dir);
    let plans = plan(&mut shell, &mut source, &loaded, None).inspect_err(|_| server.unlink())?;
    shell.emit(Event::new(Kind::SupervisorStarted).pid(shell.host.pid));
    watch_control(&mut shell, &server);
    commit(&mut shell, plans, None);
    report::ready(&mut shell);
    let supervisor = Supervisor {
        shell,
        policy: Policy::new(seed),
        server,
        waits: Waits::default(),
        reports: Reports::default(),
        followers: Followers::default(),
        source,
        signals,
        recording,
        is_hurried: false,
        is_log_heard: false,
    };
    Ok((supervisor, lock))
}

fn begin_recording(path: Option<&Path>) -> Result<(u64, Recording), Failure> {
    let mut bytes = [0_u8; 8];
    // Only jitter hangs on it: without random numbers yet, the clock will do.
    let seed = match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(8) => u64::from_ne_bytes(bytes),
        Ok(_) | Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |since| u64::try_from(since.as_nanos()).unwrap_or(1)),
    };
    let recording = match path {
        Some(path) => Recording::begin(path, seed).map_err(|error| Failure {
            message: format!("cannot write the recording {}: {error}", path.display()),
            exit_code: 71,
        })?,
        None => Recording::default(),
    };
    Ok((seed, recording))
}

pub(crate) fn shell(log: Log, notify: Notify, nofile: Nofile, runtime_dir: PathBuf) -> Result<Shell, Failure> {
    let poller = Poller::new().map_err(failed("create an epoll instance"))?;
    let watch = PathWatch::new();
    let mut shell = Shell {
        clock: Clock::start(),
        now: Instant::ZERO,
        poller,
        timers: Timers::default(),
        log,
        procfs: Procfs::new(),
        scratch: Scratch::new(),
        host: Host {
            nofile,
            uid: rustix::process::geteuid().as_raw(),
            pid: std::process::id(),
            oom_score: oom::own_score(),
        },
        pools: Pools::default(),
        workers: Workers::default(),
        zygotes: Zygotes::default(),
        askers: BTreeMap::new(),
        are_strangers_waiting: false,
        halls: Halls::new(runtime_dir.clone()),
        facts: VecDeque::new(),
        outcomes: Vec::new(),
        corpses: BTreeMap::new(),
        watch: None,
        spare: spare(),
        oom_kills: None,
        unsettled: BTreeSet::new(),
        front: Front::new(runtime_dir),
        notify,
        refusal: None,
        is_news: false,
        cgroups: Cgroups::default(),
        is_stopping: false,
        is_finished: false,
        exit: 0,
    };
    shell.oom_kills = shell.procfs.oom_kills();
    shell.front.program = process::own_program();
    let cleared = shell.front.rooms.clear();
    shell.halls.clear();
    cleared.map_err(|message| Failure { message, exit_code: 71 })?;
    match watch {
        Ok(watch) => {
            shell.poller.add(&watch, Token::Directories, Interest::Read).map_err(failed("hear inotify"))?;
            shell.watch = Some(watch);
        }
        Err(error) => shell.warn(format!("cannot watch the directories of sockets: {error}")),
    }
    Ok(shell)
}

fn serve(path: &Path, shell: &Shell) -> Result<Server, Failure> {
    let spec = UnixSpec { path: path.to_owned(), mode: 0o600, uid: None, gid: None, backlog: CONTROL_BACKLOG };
    let listener = Listener::bind_unix(&spec).map_err(Refused::from)?;
    Server::new(listener, shell).map_err(failed("hear the control socket"))
}

fn watch_control(shell: &mut Shell, server: &Server) {
    if let (Some(watch), Some(path)) = (shell.watch.as_mut(), server.listener().socket_path()) {
        // Only a convenience: without it a removed control socket comes back at the next start.
        let _ = watch.add(path);
    }
}

fn format(log: LogTo) -> Format {
    match log {
        LogTo::Auto => Format::Auto,
        LogTo::Human => Format::Human,
        LogTo::Logfmt => Format::Logfmt,
        LogTo::Json => Format::Json,
        LogTo::Journald => Format::Journald,
    }
}

fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::Error,
        LogLevel::Warning => Level::Warning,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
    }
}
