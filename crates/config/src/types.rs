//! The configuration as meant: every default applied, every value checked for its own sense.
//!
//! Nothing here has been compared with the machine (users, directories, executables): that is `machine.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A whole configuration: one supervisor and its pools.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file that it was read from; `None` for `run -- COMMAND`.
    pub source: Option<PathBuf>,
    /// `[supervisor]`.
    pub supervisor: Supervisor,
    /// `[pool.NAME]`, in the order of their names.
    pub pools: BTreeMap<String, Pool>,
    /// `[guard]`.
    pub guard: Guard,
}

impl Config {
    /// Whether it comes from `run -- COMMAND`: what is wrong is mended there by arguments, not by keys of a file.
    pub(crate) fn is_typed(&self) -> bool {
        self.source.is_none()
    }
}

/// `[supervisor]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Supervisor {
    /// Where the control socket lives; `None` means the default of interface.md, section 2 (BASE/ID).
    pub runtime_dir: Option<PathBuf>,
    /// Relative to the runtime directory.
    pub control: PathBuf,
    /// Who the front is when the supervisor is root; `None` is the default. See
    /// [`machine::front_user`](crate::machine::front_user).
    pub front_user: Option<String>,
    /// How messages are written.
    pub log: Log,
    /// What is worth a message.
    pub log_level: LogLevel,
}

/// `log = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// Journald where stderr is the journal's stream, else human.
    Auto,
    /// One line for a person.
    Human,
    /// `key=value` pairs, one event a line.
    Logfmt,
    /// One JSON object a line.
    Json,
    /// Native journal entries.
    Journald,
}

/// `log-level = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what needs a person now.
    Error,
    /// What may need a person.
    Warning,
    /// The events of interface.md, section 5.
    Info,
    /// For developers.
    Debug,
}

/// `[pool.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Its name: 1 to 64 of `a-z A-Z 0-9 - _`.
    pub name: String,
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    /// What the command is.
    pub kind: Kind,
    /// Working directory; `None` is the supervisor's own for `run -- COMMAND`, the config file's directory otherwise.
    pub directory: Option<PathBuf>,
    /// `None` only when not started as root.
    pub user: Option<String>,
    /// `None` is the user's own group.
    pub group: Option<String>,
    /// Variables of the worker, after the small clean environment.
    pub environment: BTreeMap<String, String>,
    /// Names that are passed on from the supervisor's own environment.
    pub pass_environment: Vec<String>,
    /// Public addresses; never empty.
    pub listen: Vec<Listen>,
    /// Mode, owner and backlog of the unix sockets (the backlog counts for TCP too).
    pub socket: Socket,
    /// TCP clients that may connect; empty is everybody. In direct mode the workers are asked to see to it
    /// (`FCGI_WEB_SERVER_ADDRS`), in queue mode the front does, for FastCGI and HTTP.
    pub allowed_clients: Vec<IpAddr>,
    /// Who accepts.
    pub mode: Mode,
    /// How its workers come into being.
    pub launch: Launch,
    /// How the worker gets its socket.
    pub pass: Pass,
    /// Bounds of the number of workers.
    pub workers: Workers,
    /// Requests that one worker takes at a time, 1 to 1024. This and all that follows down to `fallback` is for queue
    /// mode only; in direct mode it has its default and no meaning.
    pub concurrency: u32,
    /// Who may wait for a worker.
    pub queue: Queue,
    /// Requests that kill workers.
    pub quarantine: Quarantine,
    /// What may be given to a second worker when the first died.
    pub retry: Retry,
    /// What becomes of a worker whose client has gone.
    pub client_abort: ClientAbort,
    /// Whose request id.
    pub request_id: RequestId,
    /// The path of the status page; `None` is none.
    pub status_path: Option<String>,
    /// Recycle a worker after so many requests (before the jitter); `None` is never.
    pub max_requests: Option<u64>,
    /// A worker that takes longer for a request is killed; never zero. Of a CGI program the script is, in direct mode too,
    /// and the worker lives.
    pub request_timeout: Duration,
    /// A request that takes longer is told of; `None` is never.
    pub slow_request: Option<Duration>,
    /// Parameters that HTTP and verify requests carry besides the usual ones. Names are of `A-Z 0-9 _`; values have no
    /// control characters; all together have at most 8 KiB.
    pub params: BTreeMap<String, String>,
    /// `[pool.NAME.verify]`.
    pub verify: Option<Verify>,
    /// `[pool.NAME.fallback]`.
    pub fallback: Fallback,
    /// The file mode creation mask of workers.
    pub umask: u32,
    /// Soft and hard limits of workers, by `RLIMIT_` name in lower case without the prefix (`nofile`, `core`, `as` …).
    pub rlimits: BTreeMap<String, u64>,
    /// Recycle when a worker's private memory passes so many bytes; `None` is never.
    pub max_memory: Option<u64>,
    /// Recycle when a worker is so old; `None` is never.
    pub max_age: Option<Duration>,
    /// A worker that is not ready in time is killed.
    pub ready_timeout: Duration,
    /// A worker that has not left in time is killed.
    pub stop_timeout: Duration,
    /// `[pool.NAME.breaker]`.
    pub breaker: Breaker,
    /// `[pool.NAME.exit-codes]`: your names for your codes.
    pub exit_codes: BTreeMap<u8, String>,
    /// Codes that mean "this generation is broken".
    pub broken_codes: Vec<u8>,
    /// Codes that mean "a dependency is away".
    pub unavailable_codes: Vec<u8>,
}

/// One entry of `listen`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listen {
    /// `unix:PATH`; a relative path is relative to the runtime directory.
    Unix(PathBuf),
    /// `ADDR:PORT`, v4 or `[v6]`: FastCGI.
    Tcp(SocketAddr),
    /// `http://ADDR:PORT`: HTTP/1.1, in queue mode only.
    Http(SocketAddr),
    /// `fd:N`, inherited.
    Fd(i32),
    /// `systemd:NAME`, from `LISTEN_FDS` and `LISTEN_FDNAMES`.
    Systemd(String),
}

/// As it is configured.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
            Listen::Tcp(address) => address.fmt(f),
            Listen::Http(address) => write!(f, "http://{address}"),
            Listen::Fd(fd) => write!(f, "fd:{fd}"),
            Listen::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// `socket = { … }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Socket {
    /// Permission bits; 0660 by default.
    pub mode: u32,
    /// `None`: the pool's user.
    pub owner: Option<String>,
    /// `None`: the pool's group.
    pub group: Option<String>,
    /// listen(2)'s backlog; 1024 by default.
    pub backlog: u32,
}

/// `type = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A FastCGI program, which is the worker.
    FastCgi,
    /// A CGI program, which a worker of ours runs once for each request.
    Cgi,
}

/// `launch = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// Each executes the command.
    Exec,
    /// The command is executed once, and forks them.
    Zygote,
}

/// `mode = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The front accepts, and gives each request to one worker over that worker's private socket. The default.
    Queue,
    /// The workers accept on the pool's own socket.
    Direct,
}

/// `pass = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// FastCGI's fd 0.
    Stdin,
    /// sd_listen_fds(3): fds from 3, `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`.
    ListenFds,
    /// Server::Starter's: fds from 3, `SERVER_STARTER_PORT`. Direct mode only; HTTP is spoken there.
    ServerStarter,
}

/// `workers = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// Growth at a time.
    pub step: u32,
    /// How long a worker above `min` may be idle.
    pub idle: Duration,
}

/// `queue = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// So many requests may wait, 0 to 65536; with 0 nobody waits.
    pub length: u32,
    /// For so long; never zero.
    pub timeout: Duration,
}

/// `quarantine = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quarantine {
    /// No request is refused for what it did before.
    Off,
    /// Requests with the same method, host and URI as some that killed workers are answered in the worker's place.
    Exact,
}

/// `retry = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing.
    Never,
    /// What no worker has seen a byte of.
    Unsent,
    /// That, and GET, HEAD and OPTIONS of which no byte was answered.
    Idempotent,
}

/// `client-abort = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAbort {
    /// The worker finishes, and its output is discarded.
    Finish,
    /// The worker is sent TERM.
    Cancel,
}

/// `request-id = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestId {
    /// Our own.
    Make,
    /// The client's `X-Request-ID`.
    Trust,
}

/// `[pool.NAME.verify]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    /// `GET` and the like: 1 to 32 of `A-Z -`.
    pub method: String,
    /// Path and query: begins with `/`, visible ASCII, at most 2048 bytes.
    pub uri: String,
    /// The status that is expected.
    pub status: u16,
    /// What the body must contain; empty is anything. At most 1024 bytes.
    pub body: String,
    /// The answer must be complete within so long; never zero.
    pub timeout: Duration,
    /// Which workers must answer it.
    pub every: Every,
}

/// `every = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// Each worker.
    Each,
    /// The first of each generation.
    Generation,
}

/// `[pool.NAME.fallback]`: what visitors get when nothing serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The HTTP status.
    pub status: u16,
    /// The body, absolute; `None` is the front's own page.
    pub file: Option<PathBuf>,
    /// Told to clients as `Retry-After`.
    pub retry_after: Duration,
}

impl Fallback {
    /// The media type of the body, by its file's extension; that of the front's own page where there is no file.
    pub fn content_type(&self) -> &'static str {
        const HTML: &str = "text/html; charset=utf-8";
        let Some(file) = &self.file else { return HTML };
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "html" | "htm" => HTML,
            "txt" => "text/plain; charset=utf-8",
            "json" => "application/json",
            _ => "application/octet-stream",
        }
    }
}

/// `[pool.NAME.breaker]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    /// Opens at so many failures …
    pub failures: u32,
    /// … within so long.
    pub within: Duration,
    /// After a fresh zygote.
    pub grace: Duration,
    /// First wait of the backoff.
    pub backoff_first: Duration,
    /// Longest wait of the backoff.
    pub backoff_max: Duration,
    /// What when nothing helps.
    pub then: Then,
    /// A generation is proven after so long without a failure.
    pub prove: Duration,
}

/// `then = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Stay, and try one canary at a time.
    Hold,
    /// Leave with 69 when nothing of this supervisor has served for 60 s.
    Exit,
}

/// `[guard]`: what `steadfast guard run` does; the supervisor does nothing with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guard {
    /// Where its state is kept; `None` is the default: $STATE_DIRECTORY, else /var/lib/steadfast.
    pub state_dir: Option<PathBuf>,
    /// `[guard.NAME]`, in the order of their names.
    pub rules: BTreeMap<String, GuardRule>,
}

/// `[guard.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardRule {
    /// Its name: 1 to 64 of `a-z A-Z 0-9 - _`.
    pub name: String,
    /// The unit, with its suffix.
    pub unit: String,
    /// What counts; never empty.
    pub patterns: Vec<Match>,
    /// Where entries come from.
    pub source: GuardSource,
    /// So many, 1 to 1000 …
    pub failures: u32,
    /// … within so long; never zero.
    pub within: Duration,
    /// What is done then.
    pub action: GuardAction,
    /// Nothing counts for so long, once the unit is active again.
    pub grace: Duration,
    /// At most so many actions, 1 to 1000 …
    pub budget_actions: u32,
    /// … in so long; never zero.
    pub budget_within: Duration,
    /// While this file is locked, nothing is done.
    pub lock: Option<PathBuf>,
    /// The program that is told, and its arguments; never empty.
    pub notify: Option<Vec<String>>,
    /// Nothing that is run takes longer; never zero.
    pub timeout: Duration,
}

/// One item of `match`. Regular expressions and the names of sets are checked by whoever uses them: see
/// [`load::Examined::refuse`](crate::load::Examined::refuse).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// What is looked at.
    pub test: MatchTest,
    /// Whose entries; `None` is the usual for what is looked at.
    pub from: Option<MatchFrom>,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatchTest {
    /// A regular expression on MESSAGE.
    Message(String),
    /// The name of a set that ships with steadfast, without the `@`.
    Set(String),
    /// A field has this value.
    Is {
        /// The field.
        field: String,
        /// Its value.
        value: String,
    },
    /// A regular expression on a field.
    Matches {
        /// The field.
        field: String,
        /// The expression.
        regex: String,
    },
}

/// `from = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchFrom {
    /// The unit's own processes.
    Unit,
    /// systemd, about the unit.
    Systemd,
}

/// `source = …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardSource {
    /// The journal.
    Journal,
    /// `file:PATH`, absolute.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// `action = …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardAction {
    /// The unit is restarted.
    Restart,
    /// It is reloaded.
    Reload,
    /// It is stopped.
    Stop,
    /// Only a word.
    Notify,
    /// A program and its arguments; never empty.
    Command(Vec<String>),
}
