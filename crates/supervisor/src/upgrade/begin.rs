//! USR2: waits until everything is at rest, tries the new program, and executes it in our place.

use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use steadfast_proto::estate::{Estate, VARIABLE};

use crate::events::event::Event;
use crate::events::kind::Kind;
use crate::shell::Shell;
use crate::sys;
use crate::timers::Timer;
use crate::upgrade::state::Upgrade;
use crate::upgrade::{rescue, trial};

/// The trial is over after so long.
const TRIAL: Duration = Duration::from_secs(10);
/// What is on its way may take so long: a generation is proven after a minute, as a rule.
const REST: Duration = Duration::from_secs(120);

/// Why this image cannot leave its estate.
pub(crate) enum Hindrance {
    /// Something is on its way, and soon over.
    Passing(String),
    /// It stays so until somebody changes it.
    Lasting(String),
}

/// The operator's word.
pub(crate) fn asked(shell: &mut Shell) {
    if shell.is_stopping {
        return shell.warn("USR2 is ignored: the supervisor is stopping");
    }
    if shell.upgrade != Upgrade::No {
        return shell.warn("USR2 is ignored: an upgrade is on its way");
    }
    shell.upgrade = Upgrade::Asked;
    let at = shell.now.after(REST);
    shell.timers.set(Timer::Upgrade, at);
}

/// Nothing has changed, and people are told why.
fn refuse(shell: &mut Shell, why: &str) {
    shell.timers.clear(Timer::Upgrade);
    shell.upgrade = Upgrade::No;
    shell.trial = None;
    told(shell, why);
}

/// People are told why the old image goes on.
pub(crate) fn told(shell: &mut Shell, why: &str) {
    let event = Event::new(Kind::SupervisorRefused).reason(why);
    shell.emit(event.message("the upgrade was refused; nothing has changed"));
}

/// The estate, if everything is at rest. What stays in the way ends the upgrade.
fn at_rest(shell: &mut Shell, household: &impl Fn(&Shell) -> Result<Estate, Hindrance>) -> Option<Estate> {
    match household(shell) {
        Ok(estate) => Some(estate),
        Err(Hindrance::Passing(_)) => None,
        Err(Hindrance::Lasting(why)) => {
            refuse(shell, &why);
            None
        }
    }
}

/// The end of a turn: the next step, if everything is at rest.
pub(crate) fn step(shell: &mut Shell, household: &impl Fn(&Shell) -> Result<Estate, Hindrance>, program: &Program<'_>) {
    match shell.upgrade {
        Upgrade::No => {}
        _ if shell.is_stopping => refuse(shell, "the supervisor is stopping"),
        Upgrade::Asked => {
            let Some(estate) = at_rest(shell, household) else { return };
            match document(&estate)
                .and_then(|document| trial::start(shell, program.path, program.directory, program.variables, &document))
            {
                Ok(()) => {
                    shell.upgrade = Upgrade::Trying;
                    let at = shell.clock.now().after(TRIAL);
                    shell.timers.set(Timer::Upgrade, at);
                }
                Err(why) => refuse(shell, &format!("{} cannot be tried: {why}", program.path.display())),
            }
        }
        Upgrade::Trying => match shell.trial.as_mut().and_then(|trial| trial.verdict.take()) {
            None => {}
            Some(Err(why)) => refuse(shell, &format!("{} was tried: {why}", program.path.display())),
            Some(Ok(())) => {
                shell.trial = None;
                shell.upgrade = Upgrade::Passed;
                let at = shell.clock.now().after(REST);
                shell.timers.set(Timer::Upgrade, at);
                step(shell, household, program);
            }
        },
        Upgrade::Passed => {
            let Some(estate) = at_rest(shell, household) else { return };
            let why = execute(shell, &estate, program);
            refuse(shell, &format!("{} cannot be executed: {why}", program.path.display()));
        }
    }
}

/// Its time is over.
pub(crate) fn overdue(shell: &mut Shell, household: impl Fn(&Shell) -> Result<Estate, Hindrance>) {
    match shell.upgrade {
        Upgrade::No => {}
        Upgrade::Trying => {
            trial::end(shell, format!("it had not said within {} s whether it can take over", TRIAL.as_secs()));
        }
        Upgrade::Asked | Upgrade::Passed => {
            let why = match household(shell) {
                Ok(_) => "it has only just come to rest".to_owned(),
                Err(Hindrance::Passing(why) | Hindrance::Lasting(why)) => why,
            };
            refuse(shell, &format!("not everything came to rest within {} s: {why}; try again", REST.as_secs()));
        }
    }
}

/// What is executed.
pub(crate) struct Program<'a> {
    /// Where it lies on the disk.
    pub(crate) path: &'a Path,
    /// Our own directory.
    pub(crate) directory: &'a Path,
    /// What we were started with.
    pub(crate) variables: &'a rescue::Variables,
}

fn document(estate: &Estate) -> Result<OwnedFd, String> {
    let bytes = estate.write()?;
    let fd = memfd_create("steadfast-estate", MemfdFlags::CLOEXEC)
        .map_err(|errno| format!("no memory for the estate: {}", std::io::Error::from(errno)))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(&bytes).map_err(|error| format!("no memory for the estate: {error}"))?;
    Ok(file.into())
}

/// Comes back only with the reason why not.
fn execute(shell: &mut Shell, estate: &Estate, program: &Program<'_>) -> String {
    let document = match document(estate) {
        Ok(document) => document,
        Err(why) => return why,
    };
    let value = format!("{}:{}", document.as_raw_fd(), estate.program);
    let Some(image) = rescue::image(program.variables, &[(VARIABLE, value)]) else {
        return "an argument or a variable of ours has a NUL".to_owned();
    };
    let Ok(path) = CString::new(program.path.as_os_str().as_bytes()) else {
        return "its path has a NUL".to_owned();
    };
    let at = shell.moment();
    shell.log.close(at);
    let mut fds: Vec<RawFd> = estate.fds();
    fds.push(document.as_raw_fd());
    for fd in &fds {
        if !sys::set_close_on_exec(*fd, false) {
            keep_to_ourselves(&fds);
            return format!("the descriptor {fd} is not open");
        }
    }
    let errno = image.execute(&path);
    keep_to_ourselves(&fds);
    std::io::Error::from(errno).to_string()
}

fn keep_to_ourselves(fds: &[RawFd]) {
    for fd in fds {
        sys::set_close_on_exec(*fd, true);
    }
}
