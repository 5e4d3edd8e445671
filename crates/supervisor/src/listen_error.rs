//! Why a listening socket could not be had: on which address, what was tried, and what to do about it.

use std::error::Error;
use std::fmt;
use std::io;

use rustix::io::Errno;

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Name,
    Socket,
    Bind,
    Owner,
    Mode,
    Listen,
    Replace,
    Adopt,
    Inherit,
}

impl Attempt {
    fn words(self) -> &'static str {
        match self {
            Attempt::Name => "name the socket",
            Attempt::Socket => "make a socket",
            Attempt::Bind => "bind",
            Attempt::Owner => "set the socket's owner",
            Attempt::Mode => "set the socket's mode",
            Attempt::Listen => "listen",
            Attempt::Replace => "take the path",
            Attempt::Adopt => "use the inherited socket",
            Attempt::Inherit => "find the inherited socket",
        }
    }
}

/// A socket that cannot be listened on.
#[derive(Debug)]
pub struct ListenError {
    address: String,
    attempt: Attempt,
    cause: io::Error,
}

impl ListenError {
    pub(crate) fn new(address: &str, attempt: Attempt, cause: io::Error) -> ListenError {
        ListenError { address: address.to_owned(), attempt, cause }
    }

    fn errno(&self) -> Option<Errno> {
        Errno::from_io_error(&self.cause)
    }

    /// 75 in use, 77 not allowed, 78 the configuration is wrong for this machine, 71 anything else.
    pub fn exit_code(&self) -> u8 {
        match self.errno() {
            Some(Errno::ADDRINUSE) => 75,
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => 77,
            Some(
                Errno::NOENT
                | Errno::NOTDIR
                | Errno::LOOP
                | Errno::NAMETOOLONG
                | Errno::NOTSOCK
                | Errno::ADDRNOTAVAIL
                | Errno::AFNOSUPPORT
                | Errno::INVAL
                | Errno::BADF
                | Errno::ISDIR,
            )
            | None => 78,
            Some(_) => 71,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        let is_unix = self.address.starts_with("unix:");
        Some(match (self.attempt, self.errno()?) {
            (Attempt::Adopt, _) => "it must be a stream socket that listens",
            (Attempt::Inherit, _) => "start steadfast from the socket unit, or from the program that passes it",
            (_, Errno::ADDRINUSE) if is_unix => "another process listens on it: stop that one, or choose another path",
            (_, Errno::ADDRINUSE) => "another process listens on it: `ss -ltnp` names it",
            (_, Errno::NOTSOCK) => "the path is taken by something that is no socket; remove it by hand if it may go",
            (Attempt::Owner, Errno::PERM) => "only root may give a socket to another user",
            (_, Errno::ACCESS) if is_unix => "our user may not write into the socket's directory",
            (_, Errno::ACCESS) => "ports below 1024 need CAP_NET_BIND_SERVICE",
            (_, Errno::NOENT) => "the socket's directory does not exist",
            (_, Errno::NOTDIR) => "a part of the socket's path is no directory",
            (_, Errno::NAMETOOLONG) => "a unix socket's path may have at most 107 bytes",
            (_, Errno::ADDRNOTAVAIL) => "no interface of this machine has this address",
            (_, Errno::ROFS) => "the file system is read-only",
            _ => return None,
        })
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}: {}", self.address, self.attempt.words(), self.cause)?;
        match self.hint() {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl Error for ListenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}
