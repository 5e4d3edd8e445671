//! Keeps each worker and zygote in a control group of its own: made before it starts, killed and removed after its end.

use std::io;
use std::os::fd::OwnedFd;

use steadfast_policy::ids::PoolId;

use crate::cgroups::Cgroups;
use crate::children::Pid;
use crate::shell::Shell;
use crate::timers::Timer;
use crate::voice::Speaker;

/// Takes our own group, before the first process is started and the first socket is bound.
pub(crate) fn begin(shell: &mut Shell) {
    let (cgroups, complaint) = Cgroups::take();
    shell.cgroups = cgroups;
    if let Some(complaint) = complaint {
        shell.warn(complaint);
    }
    if shell.cgroups.are_leaving() {
        shell.timers.set(Timer::Groups, shell.now);
    }
}

/// The group of a process that is to be started, to be entered by this fd; `None` where there is none.
pub(crate) fn make(shell: &mut Shell, of: Speaker, pool: PoolId) -> Option<OwnedFd> {
    let name = shell.pools.get(pool).map(|pool| pool.name.clone())?;
    match shell.cgroups.make(of, &name) {
        Ok(group) => group,
        Err(complaint) => {
            shell.warn(complaint);
            None
        }
    }
}

/// Takes in a process that a zygote has forked, in the zygote's group.
pub(crate) fn receive(shell: &mut Shell, of: Speaker, pool: PoolId, pid: Pid) {
    let Some(name) = shell.pools.get(pool).map(|pool| pool.name.clone()) else {
        return;
    };
    if let Err(complaint) = shell.cgroups.receive(of, &name, pid) {
        shell.warn(complaint);
    }
}

/// The process was started, but its group has refused it.
pub(crate) fn outside(shell: &mut Shell, of: Speaker, pid: Pid, error: &io::Error) {
    if let Some(complaint) = shell.cgroups.outside(of, pid, error) {
        shell.warn(complaint);
    }
}

/// The process has been reaped, or never was: what is left in its group ends.
pub(crate) fn close(shell: &mut Shell, of: Speaker) {
    if let Some(wait) = shell.cgroups.close(of) {
        let at = shell.now.after(wait);
        shell.timers.set(Timer::Groups, at);
    }
}

/// It is time to try again what could not be removed.
pub(crate) fn sweep(shell: &mut Shell) {
    if let Some(wait) = shell.cgroups.sweep() {
        let at = shell.now.after(wait);
        shell.timers.set(Timer::Groups, at);
    }
}
