//! Signals to the supervisor: who sent them, and what they mean.

use steadfast_policy::event::Event as Fact;

use crate::accusations;
use crate::deaths;
use crate::events::event::Event;
use crate::events::kind::Kind;
use crate::front::tell;
use crate::manager;
use crate::shell::Shell;
use crate::signals::{Received, Sig};
use crate::upgrade::begin;

/// What a signal asks of the supervisor beyond what has been done about it here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing.
    Nothing,
    /// Read the configuration again and reload every pool.
    Reload,
    /// There are more dead children than one turn buries.
    MoreDead,
}

/// Takes one signal.
pub(crate) fn received(shell: &mut Shell, signal: Received) -> Asked {
    match signal.signal {
        Sig::Term | Sig::Int | Sig::Quit => {
            if signal.signal == Sig::Term
                && let Some(sender) = accusations::sender(shell, signal.pid)
            {
                accusations::broken(shell, sender, "it sent TERM to the supervisor");
            } else {
                stop(shell, signal.signal);
            }
            Asked::Nothing
        }
        Sig::Hup if shell.is_stopping => {
            shell.warn("HUP is ignored: the supervisor is stopping");
            Asked::Nothing
        }
        Sig::Hup => Asked::Reload,
        Sig::Usr1 => {
            shell.warn("USR1 is ignored: it has no meaning");
            Asked::Nothing
        }
        Sig::Usr2 => {
            begin::asked(shell);
            Asked::Nothing
        }
        Sig::Child if deaths::strangers(shell) => Asked::MoreDead,
        Sig::Child => Asked::Nothing,
    }
}

fn stop(shell: &mut Shell, signal: Sig) {
    if shell.is_stopping {
        // QUIT asks for a graceful stop, however often.
        if signal != Sig::Quit {
            shell.facts.push_back(Fact::ShutdownHastened);
        }
        return;
    }
    let name = match signal {
        Sig::Int => "INT",
        Sig::Quit => "QUIT",
        Sig::Term | Sig::Hup | Sig::Usr1 | Sig::Usr2 | Sig::Child => "TERM",
    };
    begin_stop(shell, name);
}

/// The graceful stop of everything.
pub(crate) fn begin_stop(shell: &mut Shell, why: &str) {
    if !std::mem::replace(&mut shell.is_stopping, true) {
        shell.emit(Event::new(Kind::SupervisorStopping).reason(why));
        manager::stopping(shell);
        tell::stop(shell);
        shell.facts.push_back(Fact::ShutdownRequested);
    }
}
