//! Finds the configuration file and the control socket where they usually are.

use std::env;
use std::path::{Path, PathBuf};

use steadfast_config::load::{self, Context};
use steadfast_proto::exit::ExitCode;
use steadfast_proto::runtime::{Identity, Surroundings};

use crate::arguments::Target;
use crate::client::{Client, Unreachable};
use crate::failure::{Failure, reason};

/// Where a configuration is looked for without `-c`.
const FILES: [&str; 2] = ["steadfast.toml", "/etc/steadfast/steadfast.toml"];
/// The control socket's name where no configuration says otherwise.
const SOCKET: &str = "control.sock";
/// More sockets than this are not tried: something else is wrong then.
const SOCKETS_MAX: usize = 64;

/// What is looked at around the process; given in, so that tests need no environment.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    /// The current directory, absolute.
    pub(crate) directory: PathBuf,
    pub(crate) surroundings: Surroundings,
}

impl Around {
    /// As this process finds it.
    ///
    /// # Errors
    /// The current directory has been removed or may not be read.
    pub(crate) fn here() -> Result<Around, Failure> {
        let directory = env::current_dir().map_err(|error| {
            Failure::new(ExitCode::Failed, format!("cannot read the current directory: {}", reason(&error)))
                .hint("go to one that exists")
        })?;
        let surroundings = Surroundings {
            runtime_directory: env::var_os("RUNTIME_DIRECTORY"),
            xdg_runtime_dir: env::var_os("XDG_RUNTIME_DIR"),
            uid: rustix::process::geteuid().as_raw(),
        };
        Ok(Around { directory, surroundings })
    }

    pub(crate) fn context(&self) -> Context {
        Context { directory: self.directory.clone() }
    }
}

/// The configuration file: as named, else the first of the usual ones that exists.
///
/// # Errors
/// There is none.
pub(crate) fn configuration(named: Option<&Path>, around: &Around) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let found = FILES.iter().map(Path::new).find(|file| around.directory.join(file).exists());
    found.map(Path::to_owned).ok_or_else(|| {
        Failure::new(
            ExitCode::Configuration,
            format!("no configuration: neither ./{} nor {} exists", FILES[0], FILES[1]),
        )
        .hint("name a file with -c FILE, write one with `steadfast init -- COMMAND`, or run a program with `steadfast run --listen ADDR -- COMMAND`")
    })
}

/// Connects to the supervisor that is meant.
///
/// # Errors
/// None answers, or one may not be asked: all places that were tried, and what to type.
pub(crate) fn supervisor(target: &Target, around: &Around) -> Result<Client, Failure> {
    let mut tried = Vec::new();
    if let Some(control) = &target.control {
        let path = around.directory.join(control);
        return match attempt(&path, &mut tried)? {
            Some(client) => Ok(client),
            None => Err(nobody(&tried, "start one with `steadfast run`, or name another socket")),
        };
    }
    if let Some(file) = &target.config {
        for path in sockets_of(file, around)? {
            if let Some(client) = attempt(&path, &mut tried)? {
                return Ok(client);
            }
        }
        let hint =
            format!("start it with `steadfast run -c {}`, or name its socket with --control PATH", file.display());
        return Err(nobody(&tried, &hint));
    }
    for file in FILES.map(Path::new).into_iter().filter(|file| around.directory.join(file).exists()) {
        // A file that is broken now may have been good when its supervisor started; the search goes on.
        for path in sockets_of(file, around).unwrap_or_default() {
            if let Some(client) = attempt(&path, &mut tried)? {
                return Ok(client);
            }
        }
    }
    only_one(around, &mut tried)
}

/// Where the supervisor of this file has its control socket, the likeliest place first.
fn sockets_of(file: &Path, around: &Around) -> Result<Vec<PathBuf>, Failure> {
    let absolute = around.directory.join(file);
    let loaded = load::load(file, &around.context());
    let (runtime_dir, control) = match &loaded {
        Ok(loaded) => {
            let supervisor = &loaded.config.supervisor;
            (supervisor.runtime_dir.clone(), supervisor.control.clone())
        }
        Err(_) => guess(&absolute),
    };
    let places: Vec<PathBuf> = match runtime_dir {
        Some(directory) => vec![around.directory.join(directory).join(control)],
        None => {
            let identity = Identity::File(&absolute).directory();
            around.surroundings.bases().into_iter().map(|base| base.join(&identity).join(&control)).collect()
        }
    };
    match loaded {
        // Its supervisor may run on: the file was good when it started.
        Err(report) if !places.iter().any(|place| place.exists()) => {
            let text = report.render(crate::output::stderr_style().colour);
            Err(Failure::new(ExitCode::Configuration, text).hint("name the supervisor's socket with --control PATH"))
        }
        _ => Ok(places),
    }
}

/// What a file that cannot be read as a whole most likely says about the control socket: just when it has been broken,
/// somebody wants to see how the supervisor is.
fn guess(file: &Path) -> (Option<PathBuf>, PathBuf) {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let value = |key: &str| {
        let mut values = text.lines().filter_map(|line| {
            let rest = line.trim_start().strip_prefix(key)?.trim_start().strip_prefix('=')?.trim_start();
            let quote = rest.chars().next().filter(|c| *c == '"' || *c == '\'')?;
            rest[1..].split_once(quote).map(|(value, _)| PathBuf::from(value))
        });
        values.next()
    };
    let base = file.parent().unwrap_or(Path::new("/"));
    (value("runtime-dir").map(|directory| base.join(directory)), value("control").unwrap_or_else(|| SOCKET.into()))
}

/// The supervisor that runs, if there is exactly one in the default places.
fn only_one(around: &Around, tried: &mut Vec<String>) -> Result<Client, Failure> {
    let mut found: Vec<(PathBuf, Client)> = Vec::new();
    let mut refused = None;
    for base in around.surroundings.bases() {
        for path in sockets_under(&base) {
            match Client::connect(&path) {
                Ok(client) => found.push((path, client)),
                Err(Unreachable::Absent(why)) => tried.push(why),
                Err(Unreachable::Failed(failure)) => refused = Some(failure),
            }
        }
        tried.push(format!("{}/*/{SOCKET}", base.display()));
    }
    match (found.len(), refused) {
        (1, _) => Ok(found.swap_remove(0).1),
        (0, Some(failure)) => Err(failure),
        (0, None) => {
            let hint = "start one with `steadfast run`, or name the one that runs with -c FILE or --control PATH";
            Err(nobody(tried, hint))
        }
        (count, _) => {
            let list: Vec<String> = found.iter().map(|(path, _)| format!("\n  --control {}", path.display())).collect();
            let message = format!("{count} supervisors run here, and none was named; choose one:{}", list.concat());
            Err(Failure::new(ExitCode::Usage, message).hint("name it with -c FILE or --control PATH"))
        }
    }
}

fn sockets_under(base: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.path().join(SOCKET)).filter(|path| path.exists()).take(SOCKETS_MAX).collect();
    // `runtime-dir = "/run/steadfast"` puts the socket right there.
    paths.extend(Some(base.join(SOCKET)).filter(|path| path.exists()));
    paths.sort();
    paths
}

fn attempt(path: &Path, tried: &mut Vec<String>) -> Result<Option<Client>, Failure> {
    match Client::connect(path) {
        Ok(client) => Ok(Some(client)),
        Err(Unreachable::Absent(why)) => {
            tried.push(why);
            Ok(None)
        }
        Err(Unreachable::Failed(failure)) => Err(failure),
    }
}

fn nobody(tried: &[String], hint: &str) -> Failure {
    let message = match tried {
        [one] => format!("no supervisor answers on {one}"),
        many => format!("no supervisor answers; tried\n  {}", many.join("\n  ")),
    };
    Failure::new(ExitCode::Failed, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use tempfile::TempDir;

    fn scene() -> (TempDir, Around) {
        let directory = tempfile::tempdir().expect("a directory");
        let base = directory.path().join("base");
        std::fs::create_dir(&base).expect("mkdir");
        let surroundings = Surroundings { runtime_directory: Some(base.into()), ..Surroundings::default() };
        let around = Around { directory: directory.path().to_owned(), surroundings };
        (directory, around)
    }

    fn listen(path: &Path) -> UnixListener {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        UnixListener::bind(path).expect("bind")
    }

    const GOOD: &str = "[pool.site]\ncommand = [\"/bin/true\"]\nlisten = [\"127.0.0.1:9000\"]\nmode = \"direct\"\n";

    #[test]
    fn a_named_socket_is_the_only_one_tried() {
        let (directory, around) = scene();
        let target = Target { control: Some("here.sock".into()), ..Target::default() };
        let failure = supervisor(&target, &around).expect_err("nobody");
        assert_eq!(failure.code, ExitCode::Failed);
        let path = directory.path().join("here.sock");
        assert_eq!(failure.message, format!("no supervisor answers on {} (does not exist)", path.display()));
        let _listener = listen(&path);
        supervisor(&target, &around).expect("connected");
    }

    #[test]
    fn a_file_leads_to_its_socket_even_when_it_is_broken_now() {
        let (directory, around) = scene();
        let file = directory.path().join("a.toml");
        std::fs::write(&file, GOOD).expect("write");
        let target = Target { config: Some("a.toml".into()), ..Target::default() };
        let failure = supervisor(&target, &around).expect_err("nobody");
        assert!(failure.hint.expect("a hint").contains("run -c a.toml"));
        let identity = Identity::File(&file).directory();
        let _listener = listen(&around.surroundings.base().join(identity).join(SOCKET));
        supervisor(&target, &around).expect("connected");
        std::fs::write(&file, "[pool").expect("write");
        supervisor(&target, &around).expect("connected all the same");
    }

    #[test]
    fn a_broken_file_without_a_supervisor_is_shown() {
        let (directory, around) = scene();
        std::fs::write(directory.path().join("a.toml"), "[pool").expect("write");
        let target = Target { config: Some("a.toml".into()), ..Target::default() };
        let failure = supervisor(&target, &around).expect_err("broken");
        assert_eq!(failure.code, ExitCode::Configuration);
    }

    #[test]
    fn the_runtime_directory_of_the_file_counts() {
        let (directory, around) = scene();
        let text = format!("[supervisor]\nruntime-dir = \"rt\"\ncontrol = \"c.sock\"\n{GOOD}");
        std::fs::write(directory.path().join("steadfast.toml"), text).expect("write");
        let _listener = listen(&directory.path().join("rt/c.sock"));
        supervisor(&Target::default(), &around).expect("connected");
        let broken = "[supervisor]\n runtime-dir= \"rt\" # here\ncontrol = 'c.sock'\n[pool";
        std::fs::write(directory.path().join("steadfast.toml"), broken).expect("write");
        let target = Target { config: Some("steadfast.toml".into()), ..Target::default() };
        supervisor(&target, &around).expect("connected though the file is broken now");
    }

    #[test]
    fn without_a_name_the_only_supervisor_is_meant() {
        let (_directory, around) = scene();
        let base = around.surroundings.base();
        let failure = supervisor(&Target::default(), &around).expect_err("nobody");
        assert!(failure.message.contains(&format!("{}/*/control.sock", base.display())), "{failure:?}");
        let _one = listen(&base.join("app-1/control.sock"));
        supervisor(&Target::default(), &around).expect("connected");
        let _two = listen(&base.join("app-2/control.sock"));
        let failure = supervisor(&Target::default(), &around).expect_err("which one?");
        assert_eq!(failure.code, ExitCode::Usage);
        assert!(failure.message.contains("app-1") && failure.message.contains("app-2"), "{failure:?}");
    }

    #[test]
    fn no_configuration_says_where_it_was_looked_for() {
        let (directory, around) = scene();
        if Path::new(FILES[1]).exists() {
            return;
        }
        let failure = configuration(None, &around).expect_err("none");
        assert_eq!(failure.code, ExitCode::Configuration);
        std::fs::write(directory.path().join("steadfast.toml"), GOOD).expect("write");
        assert_eq!(configuration(None, &around), Ok(PathBuf::from("steadfast.toml")));
    }
}
