//! The system calls that std and rustix have no safe form of.

#![allow(unsafe_code)] // pre_exec has no safe form.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets the child die with us: a reader whose guard was killed would wait for lines until the machine is off.
pub(crate) fn die_with_parent(command: &mut Command) {
    let signal = libc::c_ulong::from(libc::SIGTERM.unsigned_abs());
    let ask = move || {
        // SAFETY: prctl(2) with PR_SET_PDEATHSIG takes a number and touches no memory.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec `ask` makes one system call: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(ask) };
}
