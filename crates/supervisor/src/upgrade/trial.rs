//! The new program is tried on a copy of the estate before it is executed in our place: a child of ours that takes over
//! nothing, and says whether it could.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use steadfast_proto::estate::{TRIAL_PASSED, TRIAL_VARIABLE, VARIABLE};

use crate::children::{Ended, Nofile, ended, kill_with_group, reap};
use crate::environment::Environment;
use crate::output::escape;
use crate::poller::{Interest, Token};
use crate::shell::Shell;
use crate::spawn::{Directory, Pass, WorkerSpec, spawn};
use crate::upgrade::rescue::Variables;
use crate::upgrade::state::Trial;

/// What it says is read up to this; a pipe holds no more.
const SAID_MAX: u64 = 64 * 1024;
/// Of its last words so much is told.
const WORDS_MAX: usize = 500;

/// Executes it with our own arguments. The error is for people.
pub(crate) fn start(
    shell: &mut Shell,
    program: &Path,
    directory: &Path,
    variables: &Variables,
    document: &OwnedFd,
) -> Result<(), String> {
    let mut environment = Environment::default();
    for (name, value) in variables {
        if let Some(name) = name.to_str() {
            environment.set(name, value);
        }
    }
    // The spawned process has it as its fd 3, and no program to go back to.
    environment.set(VARIABLE, OsStr::new("3:-1"));
    environment.set(TRIAL_VARIABLE, OsStr::new("1"));
    let arguments: Vec<_> = std::env::args_os().collect();
    let hard = shell.host.nofile.hard;
    let spawned = spawn(&WorkerSpec {
        program,
        executable: None,
        arguments: &arguments,
        environment: &environment,
        directory: Directory::Path(directory),
        credentials: None,
        umask: None,
        rlimits: &[],
        nofile: Nofile { soft_before: hard, hard },
        pass: Pass::Channel(document.as_fd()),
        link: None,
        group: None,
    })
    .map_err(|error| error.message())?;
    if let Err(errno) = shell.poller.add(&spawned.pidfd, Token::Trial, Interest::Read) {
        kill_with_group(spawned.pid, spawned.pidfd.as_fd());
        return Err(format!("the process {} cannot be watched: {}", spawned.pid, std::io::Error::from(errno)));
    }
    let (pid, pidfd, stdout, stderr) = (spawned.pid, spawned.pidfd, spawned.stdout, spawned.stderr);
    shell.trial = Some(Trial { pid, pidfd, stdout, stderr, why: None, verdict: None });
    Ok(())
}

/// It has had its time; its end is heard like any other.
pub(crate) fn end(shell: &mut Shell, why: String) {
    if let Some(trial) = &mut shell.trial {
        trial.why.get_or_insert(why);
        kill_with_group(trial.pid, trial.pidfd.as_fd());
    }
}

/// Its pidfd is readable.
pub(crate) fn died(shell: &mut Shell) {
    let Some(trial) = shell.trial.as_mut().filter(|trial| trial.verdict.is_none()) else {
        return;
    };
    let Ok(Some(_)) = ended(trial.pidfd.as_fd()) else { return };
    kill_with_group(trial.pid, trial.pidfd.as_fd());
    shell.poller.remove(&trial.pidfd);
    let end = reap(trial.pidfd.as_fd()).ok().flatten();
    let (said, words) = (read(&trial.stdout), read(&trial.stderr));
    let has_passed = said.lines().any(|line| line.starts_with(TRIAL_PASSED));
    let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    let last = escape(last.as_bytes(), WORDS_MAX);
    trial.verdict = Some(match (trial.why.take(), end, has_passed) {
        (Some(why), _, _) => Err(why),
        (None, Some(Ended::Code(0)), true) => Ok(()),
        (None, Some(Ended::Code(0)), false) => {
            Err("it is no steadfast that can take over: it exited with 0".to_owned())
        }
        (None, Some(Ended::Code(code)), _) => Err(format!("it exited with {code}: {last}")),
        (None, Some(Ended::Signal { number, .. }), _) => {
            Err(format!("it died by {}: {last}", crate::signals::signal_name(number)))
        }
        (None, None, _) => Err("nobody knows how it ended".to_owned()),
    });
}

fn read(pipe: &OwnedFd) -> String {
    let mut bytes = Vec::new();
    if let Ok(pipe) = pipe.try_clone() {
        // It does not wait: what is there is there.
        let _ = std::fs::File::from(pipe).take(SAID_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
