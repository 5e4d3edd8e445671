//! Public sockets: opened before anything changes, kept across reloads, taken back when somebody takes them away.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use steadfast_config::types::{Listen, Pool as Config};
use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::PoolId;

use crate::events::event::Event;
use crate::events::kind::Kind;
use crate::figures::figures;
use crate::front::{settings, tell};
use crate::inherited::Inherited;
use crate::launch::socket_owner;
use crate::listen_error::ListenError;
use crate::listener::{Listener, UnixSpec};
use crate::lookout;
use crate::poller::{Interest, Token};
use crate::pools::{Made, Pools, Socket};
use crate::shell::Shell;
use crate::timers::Timer;

/// How long until a socket that could not be taken back is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Why sockets could not be opened.
#[derive(Debug)]
pub(crate) struct Refused {
    /// For people.
    pub(crate) message: String,
    /// Of the process, where this happens at its start.
    pub(crate) exit_code: u8,
}

impl From<ListenError> for Refused {
    fn from(error: ListenError) -> Refused {
        let message = match error.hint() {
            Some(hint) if !error.to_string().contains(hint) => format!("{error}; {hint}"),
            _ => error.to_string(),
        };
        Refused { message, exit_code: error.exit_code() }
    }
}

/// Opens the sockets of `config`. An address that is already open with the same bits keeps its fd.
pub(crate) fn open(
    pools: &mut Pools,
    inherited: &mut Inherited,
    config: &Config,
    runtime_dir: &Path,
    is_root: bool,
) -> Result<Vec<Socket>, Refused> {
    let owner = socket_owner(config, is_root).map_err(|message| Refused { message, exit_code: 78 })?;
    let known: BTreeMap<Listen, Socket> =
        pools.sockets().into_iter().map(|socket| (socket.listen.clone(), socket)).collect();
    let mut sockets = Vec::new();
    for listen in &config.listen {
        let is_unix = matches!(listen, Listen::Unix(_));
        let made = Made {
            path: if let Listen::Unix(path) = listen { Some(runtime_dir.join(path)) } else { None },
            mode: if is_unix { config.socket.mode } else { 0 },
            owner: if is_unix { owner } else { (None, None) },
            backlog: config.socket.backlog,
        };
        // What is open stays open, whatever bits are asked for now: those are for `adjust`.
        if let Some(socket) = known.get(listen) {
            sockets.push(Socket { made, ..socket.clone() });
            continue;
        }
        for listener in make(inherited, listen, &made)? {
            sockets.push(Socket {
                id: pools.next_socket(),
                listen: listen.clone(),
                made: made.clone(),
                listener: Rc::new(RefCell::new(listener)),
                renewed: Rc::default(),
            });
        }
    }
    Ok(sockets)
}

/// Sockets of an earlier life of ours that the configuration does not name any more end here and now. systemd may hold them for
/// a while yet, and as long as they listen, their port is free on no address that includes theirs.
pub(crate) fn release(inherited: &mut Inherited, config: &steadfast_config::types::Config, runtime_dir: &Path) {
    let wanted: Vec<&Listen> = config.pools.values().flat_map(|pool| &pool.listen).collect();
    let is_wanted = |name: &str| {
        wanted.iter().any(|listen| match listen {
            Listen::Unix(path) => Listener::may_be_of_path(name, &runtime_dir.join(path)),
            Listen::Tcp(address) | Listen::Http(address) => Listener::is_of_address(name, *address),
            Listen::Fd(_) | Listen::Systemd(_) => false,
        })
    };
    for (fd, _) in inherited.take_kept(|name| !is_wanted(name)) {
        // What is no socket, or listens no more, stands in nobody's way.
        let _ = rustix::net::shutdown(&fd, rustix::net::Shutdown::Both);
    }
}

fn make(inherited: &mut Inherited, listen: &Listen, made: &Made) -> Result<Vec<Listener>, ListenError> {
    Ok(match listen {
        Listen::Unix(path) => {
            let spec = UnixSpec {
                path: made.path.clone().unwrap_or_else(|| path.clone()),
                mode: made.mode,
                uid: made.owner.0,
                gid: made.owner.1,
                backlog: made.backlog,
            };
            let kept = inherited.take_kept(|name| Listener::may_be_of_path(name, &spec.path));
            let restored = kept.into_iter().find_map(|(fd, name)| Listener::restore_unix(fd, &name, &spec));
            vec![restored.map_or_else(|| Listener::bind_unix(&spec), Ok)?]
        }
        Listen::Tcp(address) | Listen::Http(address) => {
            let kept = inherited.take_kept(|name| Listener::is_of_address(name, *address));
            let restored = kept.into_iter().find_map(|(fd, _)| Listener::restore_tcp(fd, *address, made.backlog));
            vec![restored.map_or_else(|| Listener::bind_tcp(*address, made.backlog), Ok)?]
        }
        Listen::Fd(number) => vec![inherited.take_fd(*number)?],
        Listen::Systemd(name) => inherited.take_systemd(name)?,
    })
}

/// Gives sockets that were kept the bits that are asked for now. What cannot be changed is said.
pub(crate) fn adjust(sockets: &[Socket], before: &[Socket]) -> Vec<String> {
    let mut problems = Vec::new();
    for socket in sockets {
        if before.iter().all(|other| other.id != socket.id || other.made == socket.made) {
            continue;
        }
        let listener = socket.listener.borrow();
        let mut changed = rustix::net::listen(&*listener, backlog(socket.made.backlog)).map_err(Into::into);
        if let (Some(path), (uid, gid)) = (&socket.made.path, socket.made.owner) {
            let mode = std::fs::Permissions::from_mode(socket.made.mode);
            changed = changed
                .and_then(|()| std::os::unix::fs::lchown(path, uid, gid))
                .and_then(|()| std::fs::set_permissions(path, mode));
        }
        if let Err(error) = changed {
            problems.push(format!("cannot change the bits of {}: {error}", listener.address()));
        }
    }
    problems
}

/// Hears of the end of these sockets, and of the removal of their paths.
pub(crate) fn watch(shell: &mut Shell, sockets: &[Socket]) {
    for socket in sockets {
        let listener = socket.listener.borrow();
        // One that is heard already is no harm.
        let _ = shell.poller.add(listener.as_fd(), Token::Listener(socket.id), Interest::End);
        if let (Some(watch), Some(path)) = (shell.watch.as_mut(), listener.socket_path())
            && let Err(error) = watch.add(path)
        {
            let message = format!("cannot watch the directory of {}: {error}", listener.address());
            drop(listener);
            shell.warn(message);
        }
    }
}

/// Something happened in a directory with sockets of ours.
pub(crate) fn directories_changed(shell: &mut Shell) {
    let happened = shell.watch.as_mut().is_some_and(|watch| watch.drain());
    if happened {
        take_back_removed(shell);
    }
}

/// Binds again every path that is no longer ours.
pub(crate) fn take_back_removed(shell: &mut Shell) {
    if shell.is_stopping {
        return;
    }
    for socket in shell.pools.sockets() {
        let is_lost = socket.listener.borrow().socket_path().is_some_and(|path| !path.still_ours());
        if is_lost {
            take_back(shell, &socket, "its path was removed");
        }
    }
}

/// A listening socket has ended: some worker called shutdown(2) on it.
pub(crate) fn ended(shell: &mut Shell, id: u64) {
    let Some(socket) = shell.pools.sockets().into_iter().find(|socket| socket.id == id) else {
        return;
    };
    if !is_ended(&socket.listener.borrow()) || shell.is_stopping {
        return;
    }
    let is_tcp = socket.listener.borrow().is_tcp();
    if is_tcp && rustix::net::listen(&*socket.listener.borrow(), backlog(socket.made.backlog)).is_ok() {
        // A TCP socket that was shut down can listen again, and its workers' copies with it (listen(2), tcp_disconnect).
        told(shell, &socket, "it was shut down by a worker");
        return;
    }
    shell.poller.remove(&*socket.listener.borrow());
    take_back(shell, &socket, "it was shut down by a worker");
}

fn backlog(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

fn is_ended(listener: &Listener) -> bool {
    let mut fds = [PollFd::new(listener, PollFlags::RDHUP)];
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    poll(&mut fds, Some(&now)).is_ok_and(|_| fds[0].revents().intersects(ended))
}

/// Binds the address again; the workers, which hold the lost socket, are replaced by a new generation of the same.
fn take_back(shell: &mut Shell, socket: &Socket, why: &str) {
    shell.poller.remove(&*socket.listener.borrow());
    let bound = socket.listener.borrow_mut().rebind();
    if let Err(error) = bound {
        if !shell.timers.is_set(Timer::Listener) {
            shell.warn(format!("{} is lost, for {why}: {error}", socket.listener.borrow().address()));
        }
        let at = shell.now.after(AGAIN);
        shell.timers.set(Timer::Listener, at);
        return;
    }
    watch(shell, std::slice::from_ref(socket));
    socket.renewed.set(socket.renewed.get().wrapping_add(1));
    told(shell, socket, why);
    for pool in users(shell, socket) {
        if shell.pools.get(pool).is_some_and(|pool| settings::is_queued(&pool.plan.config)) {
            // The workers have never seen it.
            tell::pool(shell, pool);
            continue;
        }
        lookout::watch_again(shell, pool);
        if let Some(config) = shell.pools.get(pool).map(|pool| Rc::clone(&pool.plan.config)) {
            shell.facts.push_back(Fact::ReloadRequested { pool, figures: figures(&config) });
        }
    }
}

fn users(shell: &Shell, socket: &Socket) -> Vec<PoolId> {
    let uses = |sockets: &[Socket]| sockets.iter().any(|other| other.id == socket.id);
    shell.pools.iter().filter(|pool| uses(&pool.plan.sockets)).map(|pool| pool.id).collect()
}

fn told(shell: &mut Shell, socket: &Socket, why: &str) {
    let message = format!("{} was bound again, for {why}", socket.listener.borrow().address());
    for pool in users(shell, socket) {
        let event: Event = shell.event_in(Kind::PoolRebound, pool).message(message.clone());
        shell.emit(event);
    }
}
