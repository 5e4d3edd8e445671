//! How the workers of a pool are started: what of it can be settled once, when the configuration is read.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::net::SocketAddrUnix;
use steadfast_config::machine::{UserIds, WORKER_PATH, find_program, pool_directory};
use steadfast_config::types::{Config, Kind, Listen, Pass as PassBy, Pool};
use steadfast_policy::ids::GenerationId;
use steadfast_proto::link::Role;

use crate::children::Nofile;
use crate::environment::Environment;
use crate::files::{Execute, Pins, open_directory};
use crate::front::settings;
use crate::spawn::{self, Credentials, Directory, Limit, Pass, Spawned, WorkerSpec};
use crate::spawn_error::SpawnError;
use crate::users::{self, User};

/// Executed inside the child this is still our own program, whatever has been put in its place on disk.
const OURSELVES: &str = "/proc/self/exe";

/// What is the same for every worker of a pool with this configuration.
#[derive(Debug)]
pub(crate) struct Launch {
    /// The working directory, as configured.
    directory: PathBuf,
    arguments: Vec<OsString>,
    environment: Environment,
    credentials: Option<Credentials>,
    umask: u32,
    rlimits: Vec<(Limit, u64)>,
    pass: PassBy,
    names: Vec<String>,
}

/// What each process of a pool has for itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct One<'a> {
    /// The program.
    pub(crate) execute: &'a Execute<'a>,
    /// What it listens on.
    pub(crate) sockets: &'a [BorrowedFd<'a>],
    /// What it is made of.
    pub(crate) generation: GenerationId,
    /// What `raise_nofile` gave.
    pub(crate) nofile: Nofile,
    /// What it is to be.
    pub(crate) role: Role,
    /// The control group in which it begins, if there is one.
    pub(crate) group: Option<BorrowedFd<'a>>,
}

/// Users and groups of this machine, for the checks of the configuration.
#[derive(Debug)]
pub(crate) struct Names;

impl steadfast_config::machine::Lookup for Names {
    fn user(&self, name: &str) -> Option<UserIds> {
        let user = users::user(name).ok()??;
        Some(UserIds { uid: user.uid, gid: user.gid, name: user.name, home: user.home })
    }

    fn group(&self, name: &str) -> Option<u32> {
        users::group(name).ok()?
    }
}

impl Launch {
    /// Settles what the configuration and the machine say. `current` is our own directory. Errors are for people.
    pub(crate) fn new(config: &Config, pool: &Pool, current: &Path, is_root: bool) -> Result<Launch, String> {
        let user = match &pool.user {
            Some(name) => Some(known_user(name)?),
            None => users::user_by_id(rustix::process::geteuid().as_raw()).ok().flatten(),
        };
        let credentials = match (&user, is_root && pool.user.is_some()) {
            (Some(user), true) => Some(credentials(user, pool.group.as_deref())?),
            _ => None,
        };
        let mut limits = Vec::new();
        for (name, value) in &pool.rlimits {
            let limit = Limit::from_name(name).ok_or_else(|| format!("there is no resource limit {name:?}"))?;
            limits.push((limit, *value));
        }
        Ok(Launch {
            directory: pool_directory(config, pool, current),
            arguments: arguments(pool),
            environment: environment(pool, user.as_ref()),
            credentials,
            umask: pool.umask,
            rlimits: limits,
            pass: pool.pass,
            names: match settings::is_queued(pool) {
                true => vec![pool.name.clone()],
                false => pool.listen.iter().map(|listen| socket_name(listen, &pool.name)).collect(),
            },
        })
    }

    /// The same with all groups.
    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Who the workers are; `None` is who we are.
    pub(crate) fn user(&self) -> Option<u32> {
        self.credentials.as_ref().map(|credentials| credentials.uid)
    }

    /// How many sockets a worker is given.
    pub(crate) fn sockets(&self) -> usize {
        self.names.len()
    }

    /// Finds and pins what a generation is made of. Errors are for people.
    pub(crate) fn pin(&self, pool: &Pool) -> Result<Pins, String> {
        let cannot = |what: &str, path: &Path, error: rustix::io::Errno| {
            let cause = std::io::Error::from(error);
            format!("cannot {what} {}: {cause}", path.display())
        };
        let directory =
            open_directory(&self.directory).map_err(|error| cannot("enter the directory", &self.directory, error))?;
        let own_path = std::env::var("PATH").ok();
        let found = find_program(pool, &self.directory, own_path.as_deref())?;
        // What was given relative to the directory stays so: it is executed inside the pinned one.
        let given = Path::new(&pool.command[0]);
        let program = if given.is_relative() && pool.command[0].contains('/') { given.to_owned() } else { found };
        // The CGI program is a file that the worker is told of, like a script that an interpreter is told of.
        let (program, files) = match pool.kind {
            Kind::FastCgi => (program, pool.command[1..].to_vec()),
            Kind::Cgi => {
                let program = program.to_string_lossy().into_owned();
                let files = std::iter::once(program).chain(pool.command[1..].iter().cloned());
                (PathBuf::from(OURSELVES), files.collect())
            }
        };
        Pins::take(directory, program, &files).map_err(|(path, error)| cannot("execute", &path, error))
    }

    /// Starts one process. The error says what was tried.
    pub(crate) fn start(&self, pins: &Pins, one: &One<'_>) -> Result<Spawned, SpawnError> {
        let One { execute, sockets, generation, nofile, role, group } = *one;
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let ports = if self.pass == PassBy::ServerStarter { starter_ports(sockets) } else { String::new() };
        let pass = match (self.pass, sockets) {
            (PassBy::Stdin, [socket, ..]) => Pass::Stdin(*socket),
            (PassBy::Stdin, []) => Pass::Nothing,
            (PassBy::ListenFds, _) => Pass::ListenFds { fds: sockets, names: &names },
            (PassBy::ServerStarter, _) => Pass::ServerStarter { fds: sockets, ports: &ports, generation: generation.0 },
        };
        let (program, executable) = match execute {
            Execute::Path(path) => (*path, None),
            Execute::Pinned(fd) => (pins.program.as_path(), Some(*fd)),
        };
        spawn::spawn(&WorkerSpec {
            program,
            executable,
            arguments: &self.arguments,
            environment: &self.environment,
            directory: Directory::Fd(pins.directory.as_fd()),
            credentials: self.credentials.as_ref(),
            umask: Some(self.umask),
            rlimits: &self.rlimits,
            nofile,
            pass,
            link: Some(role),
            group,
        })
    }
}

/// `HOST:PORT=FD` or `PATH=FD` for each socket, as Server::Starter says where they are; the first is fd 3.
fn starter_ports(sockets: &[BorrowedFd<'_>]) -> String {
    let named = sockets.iter().zip(3..).filter_map(|(socket, fd)| {
        let name = rustix::net::getsockname(socket).ok()?;
        let place = match SocketAddr::try_from(name.clone()) {
            Ok(address) => address.to_string(),
            Err(_) => {
                let path = SocketAddrUnix::try_from(name).ok()?;
                String::from_utf8_lossy(path.path()?.to_bytes()).into_owned()
            }
        };
        Some(format!("{place}={fd}"))
    });
    named.collect::<Vec<String>>().join(";")
}

/// Owner and group of the pool's unix sockets: as configured, else the pool's user and group.
pub(crate) fn socket_owner(pool: &Pool, is_root: bool) -> Result<(Option<u32>, Option<u32>), String> {
    let user = pool.user.as_deref().filter(|_| is_root).map(known_user).transpose()?;
    let owner = match &pool.socket.owner {
        Some(name) => Some(known_user(name)?.uid),
        None => user.as_ref().map(|user| user.uid),
    };
    let group = match pool.socket.group.as_ref().or(pool.group.as_ref().filter(|_| is_root)) {
        Some(name) => Some(known_group(name)?),
        None => user.map(|user| user.gid),
    };
    Ok((owner, group))
}

fn known_user(name: &str) -> Result<User, String> {
    match users::user(name) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(format!("there is no user {name:?}")),
        Err(error) => Err(format!("cannot look up the user {name:?}: {error}")),
    }
}

fn known_group(name: &str) -> Result<u32, String> {
    match users::group(name) {
        Ok(Some(gid)) => Ok(gid),
        Ok(None) => Err(format!("there is no group {name:?}")),
        Err(error) => Err(format!("cannot look up the group {name:?}: {error}")),
    }
}

/// Everything that a process of this user is.
pub(crate) fn credentials(user: &User, group: Option<&str>) -> Result<Credentials, String> {
    let gid = match group {
        Some(name) => known_group(name)?,
        None => user.gid,
    };
    let groups = users::groups_of(&user.name, gid)
        .map_err(|error| format!("cannot look up the groups of the user {:?}: {error}", user.name))?;
    Ok(Credentials { uid: user.uid, gid, groups })
}

/// The command as it is executed. A CGI program is run by a worker of ours.
fn arguments(pool: &Pool) -> Vec<OsString> {
    let command = pool.command.iter().map(OsString::from);
    if pool.kind == Kind::FastCgi {
        return command.collect();
    }
    let mut arguments = ["steadfast", "cgi", "--timeout"].map(OsString::from).to_vec();
    arguments.push(format!("{}ms", pool.request_timeout.as_millis()).into());
    // What a pool says of its program's environment is meant for the program, not for its worker.
    for name in pool.environment.keys().chain(&pool.pass_environment) {
        arguments.extend([OsString::from("--pass"), name.into()]);
    }
    arguments.push("--".into());
    arguments.extend(command);
    arguments
}

fn environment(pool: &Pool, user: Option<&User>) -> Environment {
    let mut environment = Environment::clean(user, WORKER_PATH);
    for name in &pool.pass_environment {
        environment.pass_on(name);
    }
    for (name, value) in &pool.environment {
        environment.set(name, OsStr::new(value));
    }
    let is_tcp = pool.listen.iter().any(|listen| matches!(listen, Listen::Tcp(_)));
    // The worker knows the front only, which comes over a unix socket.
    if is_tcp && !pool.allowed_clients.is_empty() && !settings::is_queued(pool) {
        let clients: Vec<String> = pool.allowed_clients.iter().map(ToString::to_string).collect();
        environment.set("FCGI_WEB_SERVER_ADDRS", OsStr::new(&clients.join(",")));
    }
    environment.remove("PHP_FCGI_CHILDREN");
    environment
}

fn socket_name(listen: &Listen, pool: &str) -> String {
    match listen {
        Listen::Systemd(name) => name.clone(),
        Listen::Unix(_) | Listen::Tcp(_) | Listen::Http(_) | Listen::Fd(_) => pool.to_owned(),
    }
}
