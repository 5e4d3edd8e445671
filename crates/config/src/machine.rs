//! Compares a configuration with the machine: users, groups, directories, programs, socket paths.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::front;
use crate::load::{Examined, Loaded};
use crate::report::{Findings, Report};
use crate::types::{Config, Listen, Mode, Pool};
use crate::values::{self, UNIX_PATH_MAX};

pub use crate::front::{FRONT_USER, FrontUser, NoFrontUser, fallback_body, front_user};
pub use crate::lookup::{Lookup, UserIds};

/// Where a program without a slash is looked for, unless the pool has a PATH of its own.
pub const WORKER_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const RUNTIME_DIR: &str = "supervisor.runtime-dir";
const CONTROL: &str = "supervisor.control";
const FRONT_USER_KEY: &str = "supervisor.front-user";
/// The number of a worker has 64 bits.
const WORKER_DIGITS: usize = 20;

/// What the configuration is compared with.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// Our own effective user.
    pub uid: u32,
    /// Our own effective group.
    pub gid: u32,
    /// The runtime directory as it will be used, absolute.
    pub runtime_dir: &'a Path,
    /// The current directory, absolute.
    pub directory: &'a Path,
    /// Our own PATH, for pools that pass it on.
    pub path: Option<&'a str>,
    /// Users and groups.
    pub lookup: &'a dyn Lookup,
}

/// Looks whether this machine can run the configuration now.
///
/// # Errors
/// Everything that is missing, each drawn where its name stands in the file.
pub fn check_machine(loaded: &Loaded, machine: &Machine<'_>) -> Result<(), Report> {
    let mut findings = Findings::at(loaded.places.clone());
    check(&loaded.config, machine, &mut findings);
    if findings.errors.is_empty() { Ok(()) } else { Err(Report::new(findings.errors, findings.uncollected)) }
}

/// The same for a configuration of which a part may be wrong: what could be read is compared, and what this machine
/// lacks joins what is known to be wrong already. The runtime directory of `machine` is that of [`Examined::config`].
pub fn compare(examined: &mut Examined, machine: &Machine<'_>) {
    check(&examined.config, machine, &mut examined.findings);
}

/// A key that is broken has its error; nothing follows from its default.
fn check(config: &Config, machine: &Machine<'_>, findings: &mut Findings) {
    let is_placed = !findings.is_broken(RUNTIME_DIR);
    let control = &config.supervisor.control;
    if !findings.is_broken(CONTROL) && (is_placed || control.is_absolute()) {
        check_length(CONTROL, &machine.runtime_dir.join(control), config.is_typed(), findings);
    }
    check_front(config, machine, findings);
    for pool in config.pools.values() {
        let path = format!("pool.{}", pool.name);
        check_user(pool, &path, config.is_typed(), machine, findings);
        check_program(config, pool, &path, machine, findings);
        check_sockets(pool, &path, config.is_typed(), machine, findings);
        if pool.mode == Mode::Queue && !findings.is_broken(&format!("{path}.mode")) {
            check_private(pool, &path, config.is_typed(), machine, findings);
            check_fallback(pool, &path, findings);
        }
    }
}

/// Only root can make the front somebody else.
fn check_front(config: &Config, machine: &Machine<'_>, findings: &mut Findings) {
    let has_front = |pool: &Pool| pool.mode == Mode::Queue && !findings.is_broken(&format!("pool.{}.mode", pool.name));
    let is_asked = config.supervisor.front_user.is_some() || config.pools.values().any(has_front);
    if machine.uid != 0 || !is_asked || findings.is_broken(FRONT_USER_KEY) {
        return;
    }
    match front::front_user(config, machine.lookup) {
        Ok(user) => {
            if let Some(warning) = user.warning {
                let hint = "make one: useradd --system --shell /usr/sbin/nologin steadfast";
                findings.warning(FRONT_USER_KEY, warning, Some(hint.into()));
            }
        }
        Err(refused) => {
            let key = refused.pool.map_or_else(|| FRONT_USER_KEY.to_owned(), |pool| format!("pool.{pool}.user"));
            findings.error(&key, refused.message, Some(refused.hint));
        }
    }
}

/// The workers' private sockets are RUNTIME/pool/NAME/WORKERID.
fn check_private(pool: &Pool, path: &str, is_typed: bool, machine: &Machine<'_>, findings: &mut Findings) {
    if findings.is_broken(RUNTIME_DIR) || values::pool_name(&pool.name).is_err() {
        return;
    }
    let directory = machine.runtime_dir.join("pool").join(&pool.name);
    let length = directory.as_os_str().as_bytes().len() + 1 + WORKER_DIGITS;
    if length > UNIX_PATH_MAX {
        let message = format!(
            "the private sockets of the workers in {} would have paths of up to {length} bytes, but the kernel takes at most {UNIX_PATH_MAX}",
            directory.display()
        );
        let (key, hint) = if is_typed {
            ("pool.name", "name the pool shorter with --name, or set RUNTIME_DIRECTORY to a shorter path")
        } else {
            (path, "a shorter runtime-dir, or a shorter name of the pool")
        };
        findings.error(key, message, Some(hint.into()));
    }
}

fn check_fallback(pool: &Pool, path: &str, findings: &mut Findings) {
    let key = format!("{path}.fallback.file");
    if findings.is_broken(&key) {
        return;
    }
    if let Err(why) = front::fallback_body(&pool.fallback) {
        let hint = "a page for visitors: a relative path starts at the configuration's directory";
        findings.error(&key, why, Some(hint.into()));
    }
}

fn check_user(pool: &Pool, path: &str, is_typed: bool, machine: &Machine<'_>, findings: &mut Findings) {
    let key = format!("{path}.user");
    let is_root = machine.uid == 0;
    match &pool.user {
        None if is_root && !findings.is_broken(&key) => {
            let hint = if is_typed { "write --user www-data" } else { "write `user = \"www-data\"`" };
            let message = format!("started as root, pool `{}` must name its user", pool.name);
            findings.error(&key, message, Some(hint.into()));
        }
        None => {}
        Some(name) => match machine.lookup.user(name) {
            None => findings.error(
                &key,
                format!("there is no user {name:?} on this machine"),
                Some("getent passwd lists them".into()),
            ),
            Some(user) if !is_root && user.uid != machine.uid => findings.error(
                &key,
                format!("only root can start workers as {name:?}"),
                Some("start as root, or leave the user out".into()),
            ),
            Some(_) => {}
        },
    }
    if let Some(name) = &pool.socket.owner {
        let key = format!("{path}.socket.owner");
        match machine.lookup.user(name) {
            None => findings.error(
                &key,
                format!("there is no user {name:?} on this machine"),
                Some("getent passwd lists them".into()),
            ),
            Some(user) if !is_root && user.uid != machine.uid => {
                findings.error(
                    &key,
                    format!("only root can give a socket to {name:?}"),
                    Some("start as root, or leave the owner out".into()),
                );
            }
            Some(_) => {}
        }
    }
    for (key, name, is_workers) in [("group", &pool.group, true), ("socket.group", &pool.socket.group, false)] {
        let Some(name) = name else { continue };
        let key = format!("{path}.{key}");
        match machine.lookup.group(name) {
            None => findings.error(
                &key,
                format!("there is no group {name:?} on this machine"),
                Some("getent group lists them".into()),
            ),
            Some(gid) if is_workers && !is_root && gid != machine.gid => {
                findings.error(
                    &key,
                    format!("only root can start workers in group {name:?}"),
                    Some("start as root, or leave the group out".into()),
                );
            }
            Some(_) => {}
        }
    }
}

fn check_program(config: &Config, pool: &Pool, path: &str, machine: &Machine<'_>, findings: &mut Findings) {
    let directory = pool_directory(config, pool, machine.directory);
    let has_directory = check_directory(&directory, &format!("{path}.directory"), findings);
    let Some(program) = pool.command.first().filter(|_| !findings.is_broken(&format!("{path}.command"))) else {
        return;
    };
    // Without a directory, what starts at it cannot be looked for.
    let is_findable = if program.contains('/') {
        has_directory || program.starts_with('/')
    } else {
        let is_known = |key: &str| !findings.is_broken(&format!("{path}.{key}"));
        let mut entries = search_path(pool, machine.path).split(':');
        is_known("environment.PATH")
            && is_known("pass-environment")
            && (has_directory || entries.all(|entry| entry.starts_with('/')))
    };
    if !is_findable {
        return;
    }
    if let Err(why) = find_program(pool, &directory, machine.path) {
        let hint = match (program.contains(char::is_whitespace), program.contains('/')) {
            (true, _) if config.is_typed() => {
                "program and arguments are words of their own: -- /usr/bin/perl site.fcgi"
            }
            (true, _) => "program and arguments are strings of their own: [\"/usr/bin/perl\", \"site.fcgi\"]",
            (false, true) if config.is_typed() => {
                "a relative path starts at the current directory; a script needs chmod +x and a #! line"
            }
            (false, true) => "a relative path starts at the pool's directory; a script needs chmod +x and a #! line",
            (false, false) => "write the whole path of the program",
        };
        findings.error(&format!("{path}.command[0]"), why, Some(hint.into()));
    }
}

/// Whether the workers can start there.
fn check_directory(directory: &Path, key: &str, findings: &mut Findings) -> bool {
    if findings.is_broken(key) {
        return false;
    }
    let message = match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => return true,
        Ok(_) => format!("{} is not a directory", directory.display()),
        Err(error) => format!("the directory {} cannot be used: {error}", directory.display()),
    };
    findings.error(key, message, None);
    false
}

fn check_sockets(pool: &Pool, path: &str, is_typed: bool, machine: &Machine<'_>, findings: &mut Findings) {
    let is_placed = !findings.is_broken(RUNTIME_DIR);
    for (index, listen) in pool.listen.iter().enumerate() {
        let Listen::Unix(socket) = listen else {
            continue;
        };
        if !is_placed && socket.is_relative() {
            continue;
        }
        let key = format!("{path}.listen[{index}]");
        let socket = machine.runtime_dir.join(socket);
        check_length(&key, &socket, is_typed, findings);
        // The runtime directory is made when the supervisor starts: while it is not known, it may be any.
        let parent = socket.parent().filter(|parent| is_placed && *parent != machine.runtime_dir);
        if let Some(parent) = parent
            && !parent.is_dir()
        {
            findings.error(
                &key,
                format!("the socket's directory {} does not exist", parent.display()),
                Some(made(parent)),
            );
        }
    }
}

/// How a directory is made. What is below /run is gone at the next boot, and a supervisor that does not find it does not start.
fn made(directory: &Path) -> String {
    let shown = directory.display();
    let below = directory.strip_prefix("/run").or_else(|_| directory.strip_prefix("/var/run")).ok();
    let Some(name) = below.filter(|name| !name.starts_with("user") && name.components().next().is_some()) else {
        return format!("mkdir -p {shown}");
    };
    let name = name.display().to_string().replace('/', "-");
    format!(
        "/run is empty at each boot, so let systemd make it: echo 'd {shown} 0755 root root' > /etc/tmpfiles.d/steadfast-{name}.conf \
         && systemd-tmpfiles --create steadfast-{name}.conf"
    )
}

fn check_length(key: &str, socket: &Path, is_typed: bool, findings: &mut Findings) {
    let length = socket.as_os_str().as_bytes().len();
    if length > UNIX_PATH_MAX {
        let hint = match key {
            CONTROL if is_typed => "name a shorter path with --control",
            _ if is_typed => "name a shorter path, from / if the current directory's is long",
            _ => "a shorter name, or a shorter runtime-dir",
        };
        let message = format!(
            "the socket's path {} has {length} bytes, but the kernel takes at most {UNIX_PATH_MAX}",
            socket.display()
        );
        findings.error(key, message, Some(hint.into()));
    }
}

/// The working directory of a pool's workers: its own, else that of the configuration file, else `current`.
pub fn pool_directory(config: &Config, pool: &Pool, current: &Path) -> PathBuf {
    let of_file = config.source.as_deref().and_then(Path::parent).unwrap_or(current);
    pool.directory.as_deref().map_or_else(|| of_file.to_owned(), |directory| of_file.join(directory))
}

/// The program that a pool's command names, as it will be executed.
///
/// A name with a slash is relative to `directory`; one without is looked up in the PATH that the worker gets:
/// the pool's own, else ours where the pool passes it on, else [`WORKER_PATH`].
///
/// # Errors
/// Why there is none, in words.
pub fn find_program(pool: &Pool, directory: &Path, inherited_path: Option<&str>) -> Result<PathBuf, String> {
    let program = pool.command.first().map(String::as_str).unwrap_or_default();
    if program.contains('/') {
        let path = directory.join(program);
        return match fs::metadata(&path) {
            Err(error) => Err(format!("the program {} cannot be used: {error}", path.display())),
            Ok(metadata) if !metadata.is_file() => Err(format!("{} is not a program", path.display())),
            Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => {
                Err(format!("the program {} is not executable", path.display()))
            }
            Ok(_) => Ok(path),
        };
    }
    let search = search_path(pool, inherited_path);
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let found = search.split(':').map(|entry| directory.join(entry).join(program)).find(is_program);
    found.ok_or_else(|| format!("there is no program {program:?} in {search}"))
}

/// The PATH that the worker gets.
fn search_path<'a>(pool: &'a Pool, inherited_path: Option<&'a str>) -> &'a str {
    let is_passed = pool.pass_environment.iter().any(|name| name == "PATH");
    let own = pool.environment.get("PATH").map(String::as_str);
    own.or(inherited_path.filter(|_| is_passed)).unwrap_or(WORKER_PATH)
}
