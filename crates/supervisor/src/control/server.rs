//! The control socket: who may connect, how many, and how long they may take.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use steadfast_proto::control::{Answer, Refusal, Request};
use steadfast_proto::exit::ExitCode;

use crate::control::connection::{Connection, Heard, Stage};
use crate::listener::Listener;
use crate::poller::{Interest, Token};
use crate::shell::Shell;
use crate::sys;
use crate::timers::Timer;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 32;
/// Connections accepted in one turn.
const ACCEPTS_MAX: usize = 16;
/// A request must have come whole after so long.
const REQUEST_WITHIN: Duration = Duration::from_secs(2);
/// Answers that wait must have been taken after so long.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// Root may speak to every supervisor.
const ROOT: u32 = 0;
/// How long until accepting is tried again when there is no fd at all.
const AGAIN: Duration = Duration::from_secs(1);

/// The socket and its connections.
#[derive(Debug)]
pub(crate) struct Server {
    listener: Listener,
    connections: BTreeMap<u64, Connection>,
    last: u64,
}

impl Server {
    /// On a socket that was bound with mode 0600.
    pub(crate) fn new(listener: Listener, shell: &Shell) -> Result<Server, Errno> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        shell.poller.add(&listener, Token::Control, Interest::Read)?;
        Ok(Server { listener, connections: BTreeMap::new(), last: 0 })
    }

    /// Takes in those who knock.
    pub(crate) fn accept(&mut self, shell: &mut Shell) {
        for _ in 0..ACCEPTS_MAX {
            match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(fd) => self.welcome(shell, fd),
                Err(Errno::MFILE | Errno::NFILE) => {
                    if !self.turn_away(shell) {
                        return;
                    }
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    /// There is no fd left: the spare one is given up for as long as it takes to close the caller's.
    fn turn_away(&mut self, shell: &mut Shell) -> bool {
        if shell.spare.take().is_some() {
            drop(accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC));
            shell.spare = spare();
            return shell.spare.is_some();
        }
        shell.poller.remove(&self.listener);
        let at = shell.now.after(AGAIN);
        shell.timers.set(Timer::Control, at);
        false
    }

    /// Accepts again after there was no fd.
    pub(crate) fn accept_again(&mut self, shell: &mut Shell) {
        if shell.spare.is_none() {
            shell.spare = spare();
        }
        let _ = shell.poller.add(&self.listener, Token::Control, Interest::Read);
    }

    fn welcome(&mut self, shell: &mut Shell, fd: OwnedFd) {
        let is_allowed = sys::peer(fd.as_fd()).is_ok_and(|peer| peer.uid == ROOT || peer.uid == shell.host.uid);
        let mut connection = Connection::new(fd);
        let refusal = if !is_allowed {
            Some(Refusal::new(ExitCode::NotAllowed, "only root and the supervisor's own user may speak to it"))
        } else if self.connections.len() >= CONNECTIONS_MAX {
            let message = format!("the supervisor has {CONNECTIONS_MAX} control connections already");
            Some(Refusal::new(ExitCode::TimedOut, message).with_hint("try again"))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            connection.answer(&Answer::Error(refusal));
            connection.write();
            return;
        }
        self.last += 1;
        let id = self.last;
        if shell.poller.add(&connection.fd, Token::Connection(id), Interest::Read).is_ok() {
            let at = shell.now.after(REQUEST_WITHIN);
            shell.timers.set(Timer::Connection(id), at);
            self.connections.insert(id, connection);
        }
    }

    /// A connection can be read or written; a whole request is handed out.
    pub(crate) fn ready(&mut self, shell: &mut Shell, id: u64) -> Option<Request> {
        let connection = self.connections.get_mut(&id)?;
        if connection.is_behind() {
            self.flush(shell, id);
        }
        let connection = self.connections.get_mut(&id)?;
        match connection.read() {
            Heard::Nothing => None,
            Heard::Request(request) => {
                shell.timers.clear(Timer::Connection(id));
                match request {
                    Ok(request) => Some(request),
                    Err(refusal) => {
                        self.answer(shell, id, &Answer::Error(refusal));
                        None
                    }
                }
            }
            Heard::Gone => {
                self.close(shell, id);
                None
            }
        }
    }

    /// Answers, as far as the client takes it now; the rest goes later.
    pub(crate) fn answer(&mut self, shell: &mut Shell, id: u64, answer: &Answer) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.answer(answer) {
            self.flush(shell, id);
        } else {
            self.close(shell, id);
        }
    }

    fn flush(&mut self, shell: &mut Shell, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !connection.write() {
            return self.close(shell, id);
        }
        let is_behind = connection.is_behind();
        if is_behind {
            let at = shell.now.after(TAKEN_WITHIN);
            shell.timers.set(Timer::Connection(id), at);
        } else if connection.stage != Stage::Asking {
            shell.timers.clear(Timer::Connection(id));
        }
        if connection.wants_room != is_behind {
            connection.wants_room = is_behind;
            let interest = if is_behind { Interest::ReadWrite } else { Interest::Read };
            let _ = shell.poller.modify(&connection.fd, Token::Connection(id), interest);
        }
    }

    /// A deadline has passed: the request did not come, or the answers were not taken.
    pub(crate) fn overdue(&mut self, shell: &mut Shell, id: u64) {
        let asks = self.connections.get(&id).is_some_and(|connection| connection.stage == Stage::Asking);
        if asks {
            let refusal = Refusal::new(ExitCode::TimedOut, "the request did not come within 2 s");
            self.answer(shell, id, &Answer::Error(refusal));
        }
        self.close(shell, id);
    }

    /// Whether it is still there.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.connections.contains_key(&id)
    }

    fn close(&mut self, shell: &mut Shell, id: u64) {
        shell.timers.clear(Timer::Connection(id));
        if let Some(connection) = self.connections.remove(&id) {
            shell.poller.remove(&connection.fd);
        }
    }

    /// Removes the socket's path.
    pub(crate) fn unlink(&self) {
        self.listener.unlink();
    }

    /// The socket's path, to be watched.
    pub(crate) fn listener(&self) -> &Listener {
        &self.listener
    }
}

/// An fd to give up when there is none left.
pub(crate) fn spare() -> Option<OwnedFd> {
    std::io::stdin().as_fd().try_clone_to_owned().ok()
}
