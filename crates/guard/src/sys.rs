//! The system calls that std and rustix have no safe form of.

#![allow(unsafe_code)] // pre_exec, prctl and signal masks have no safe form.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

/// Lets the child begin with no signal blocked: ours are, and it would never hear of a TERM.
pub(crate) fn unblock_signals(command: &mut Command) {
    let unblock = || {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the whole set that the pointer refers to; the old mask is not asked for.
        let result = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut())
        };
        if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
    };
    // SAFETY: between fork and exec `unblock` makes one system call: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(unblock) };
}

/// Lets the child die with us: a reader whose guard was killed would wait for lines until the machine is off.
pub(crate) fn die_with_parent(command: &mut Command) {
    let signal = libc::c_ulong::from(libc::SIGKILL.unsigned_abs());
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
