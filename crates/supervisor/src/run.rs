//! Starts the supervisor: one straight list of steps, sanitising first; whatever fails here is said and ends it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};

use steadfast_config::load::Loaded;
use steadfast_config::types::{Log as LogTo, LogLevel};
use steadfast_policy::event::Event as Fact;
use steadfast_policy::policy::Policy;
use steadfast_policy::time::Instant;
use steadfast_proto::estate::{Estate, TRIAL_PASSED};

use crate::cgroups::Cgroups;
use crate::children::{Nofile, become_subreaper, close_inherited_on_exec, raise_nofile};
use crate::clock::Clock;
use crate::containment;
use crate::control::server::{Server, spare};
use crate::doors::Halls;
use crate::events::event::Event;
use crate::events::kind::{Kind, Level};
use crate::events::log::{Format, Log};
use crate::front::process;
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
use crate::reload::{self, ConfigSource, Source, commit, plan};
use crate::report;
use crate::runtime_dir::{self, Unusable};
use crate::shell::{Host, Shell};
use crate::signals::Signals;
use crate::sockets::{self, Refused};
use crate::timers::Timers;
use crate::turn::{Parts, Supervisor};
use crate::upgrade::rescue::{self, Arrival, Heritage};
use crate::upgrade::state::Upgrade;
use crate::upgrade::take;
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
    /// `--log`, which is stronger than the configuration's word.
    pub log: Option<LogTo>,
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
    let started = match rescue::arrive() {
        Ok(Arrival::Birth) => start(options),
        Ok(Arrival::Succession(estate, heritage)) => succeed(options, &estate, heritage),
        Ok(Arrival::Trial(estate)) => match tried(options, &estate) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
        Err(message) => Err(Failure { message, exit_code: 70 }),
    };
    match started {
        Ok(supervisor) => supervisor.run(),
        Err(failure) => {
            rescue::go_back(&failure.message);
            let _ = writeln!(std::io::stderr(), "steadfast: {}", failure.message);
            failure.exit_code
        }
    }
}

/// What is the same however we have come to be: the process, and the configuration compared with the machine.
struct Ground {
    loaded: Loaded,
    source: Source,
    notify: Notify,
    nofile: Nofile,
    signals: Signals,
    record: Option<PathBuf>,
    control: PathBuf,
    log: Log,
}

fn ground(options: Options, inherited: Inherited, upgrades: u32) -> Result<Ground, Failure> {
    let Options { loaded, source, directory, record, control, log, version } = options;
    // Whatever we were given: no signal is lost or ignored, our own limit is the hard one.
    let signals = Signals::install().map_err(failed("receive signals"))?;
    let mut notify = Notify::from_environment();
    notify.found(inherited.kept_names());
    let variables = std::env::vars_os().collect();
    forget_environment();
    let nofile = raise_nofile();
    become_subreaper().map_err(failed("become the reaper of orphans"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let is_root = rustix::process::geteuid().is_root();
    let runtime_dir = runtime_dir::runtime_dir(&loaded.config, &directory);
    let program = own_path();
    let supervisor = loaded.config.supervisor.clone();
    let log = Log::open(format(log.unwrap_or(supervisor.log)), level(supervisor.log_level));
    let source = Source {
        config: source,
        directory,
        runtime_dir,
        supervisor,
        inherited,
        is_root,
        version,
        program,
        variables,
        upgrades,
    };
    source.check(&loaded).map_err(|report| Failure { message: report.render(false), exit_code: 78 })?;
    let control = match control {
        Some(path) => source.directory.join(path),
        None => source.runtime_dir.join(&loaded.config.supervisor.control),
    };
    Ok(Ground { loaded, source, notify, nofile, signals, record, control, log })
}

/// Where our program lies, or what has been put in its place since.
fn own_path() -> PathBuf {
    let path = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    match path.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
        Some(path) => PathBuf::from(path),
        None => path,
    }
}

fn start(options: Options) -> Result<Supervisor, Failure> {
    let inherited = Inherited::from_environment();
    close_inherited_on_exec().map_err(failed("mark inherited fds close-on-exec"))?;
    let Ground { loaded, mut source, notify, nofile, signals, record, control, log } = ground(options, inherited, 0)?;
    let lock = runtime_dir::take(&source.runtime_dir, source.is_root)?;
    let (seed, recording) = begin_recording(record.as_deref())?;
    let mut shell = shell(log, notify, nofile, source.runtime_dir.clone())?;
    clear(&shell)?;
    containment::begin(&mut shell);
    shell.poller.add(&signals, Token::Signals, Interest::Read).map_err(failed("hear signals"))?;
    let server = serve(&control, &shell)?;
    // Before anything is bound; the first turn has the store forget them.
    sockets::release(&mut source.inherited, &loaded.config, &source.runtime_dir);
    let plans = plan(&mut shell, &mut source, &loaded, None).inspect_err(|_| server.unlink())?;
    shell.emit(Event::new(Kind::SupervisorStarted).pid(shell.host.pid));
    watch_control(&mut shell, &server);
    commit(&mut shell, plans, None);
    report::ready(&mut shell);
    let policy = Policy::new(seed);
    Ok(Supervisor::new(Parts { shell, policy, server, source, signals, recording, lock, heritage: None }))
}

/// Takes over what an earlier image has left. Nothing of that is used up, so that whatever fails here leads back to it.
fn succeed(options: Options, estate: &Estate, heritage: Heritage) -> Result<Supervisor, Failure> {
    let refused = |message: String| Failure { message, exit_code: 71 };
    let inherited = take::inherited(estate);
    let Ground { loaded, mut source, notify, nofile, signals, record, log, .. } =
        ground(options, inherited, estate.upgrades)?;
    rescue::pass("ground");
    let lock = take::lock(estate).map_err(refused)?;
    let record = record.map(|path| path.with_added_extension(estate.upgrades.to_string()));
    let (seed, mut recording) = begin_recording(record.as_deref())?;
    let nofile = Nofile { soft_before: estate.nofile, ..nofile };
    let mut shell = shell(log, notify, nofile, source.runtime_dir.clone())?;
    shell.clock = take::clock(estate);
    shell.now = shell.clock.now();
    let policy = take::policy(estate, seed, &mut recording).map_err(refused)?;
    rescue::pass("policy");
    shell.poller.add(&signals, Token::Signals, Interest::Read).map_err(failed("hear signals"))?;
    let control = take::listener(&estate.control).map_err(refused)?;
    let server = Server::new(control, &shell).map_err(failed("hear the control socket"))?;
    take::sockets(&mut shell, estate, &loaded.config).map_err(refused)?;
    rescue::pass("sockets");
    let plans = plan(&mut shell, &mut source, &loaded, None)?;
    watch_control(&mut shell, &server);
    take::everybody(&mut shell, estate, plans).map_err(refused)?;
    rescue::pass("everybody");
    // Pools settle by it; what was due meanwhile is done.
    shell.facts.push_back(Fact::Woken);
    let heritage = Some(heritage);
    Ok(Supervisor::new(Parts { shell, policy, server, source, signals, recording, lock, heritage }))
}

/// Finds out whether this program could take over, and says so.
fn tried(options: Options, estate: &Estate) -> Result<u8, Failure> {
    let refused = |message: String| Failure { message, exit_code: 1 };
    let version = options.version;
    let runtime_dir = runtime_dir::runtime_dir(&options.loaded.config, &options.directory);
    reload::on_trial(&options.loaded, &runtime_dir, &options.directory)
        .map_err(|report| Failure { message: report.render(false), exit_code: 78 })?;
    let policy = take::policy(estate, 1, &mut Recording::default()).map_err(refused)?;
    let known = policy.view(Instant::ZERO).pools().count();
    if known != estate.pools.len() || known != options.loaded.config.pools.len() {
        let (configured, left) = (options.loaded.config.pools.len(), estate.pools.len());
        return Err(refused(format!("{left} pools run, {known} are known of, and {configured} are configured")));
    }
    let said = writeln!(std::io::stdout(), "{TRIAL_PASSED}{version}");
    said.map(|()| 0).map_err(|error| refused(format!("cannot say so: {error}")))
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
        upgrade: Upgrade::No,
        trial: None,
        refusal: None,
        is_news: false,
        cgroups: Cgroups::default(),
        is_stopping: false,
        is_finished: false,
        exit: 0,
    };
    shell.oom_kills = shell.procfs.oom_kills();
    shell.front.program = process::own_program();
    match watch {
        Ok(watch) => {
            shell.poller.add(&watch, Token::Directories, Interest::Read).map_err(failed("hear inotify"))?;
            shell.watch = Some(watch);
        }
        Err(error) => shell.warn(format!("cannot watch the directories of sockets: {error}")),
    }
    Ok(shell)
}

/// Removes what an earlier supervisor has left of its workers' sockets.
pub(crate) fn clear(shell: &Shell) -> Result<(), Failure> {
    let cleared = shell.front.rooms.clear();
    shell.halls.clear();
    cleared.map_err(|message| Failure { message, exit_code: 71 })
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
